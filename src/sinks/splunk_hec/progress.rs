//! The progress of one write: which events were accepted, which failed, which are left.

use std::collections::BTreeSet;

use super::acks::Number;
use crate::component::{Failure, Written};

/// Events that a request has brought for good.
pub fn acked(waiting: &[(Number, Vec<usize>)]) -> BTreeSet<usize> {
    waiting.iter().filter(|(number, _)| number.is_acked()).flat_map(|(_, events)| events.iter().copied()).collect()
}

pub struct Progress {
    count: usize,
    /// Events that are still to be sent, by their index in the batch.
    pub left: Vec<usize>,
    failed: Vec<(usize, Failure)>,
    /// Numbers of acknowledgements to wait for, and the events behind each.
    pub waiting: Vec<(Number, Vec<usize>)>,
    /// Whether some events were sent and not acknowledged: that is their own matter, and none of Splunk's as a whole.
    is_late: bool,
    pub bytes: u64,
}

impl Progress {
    pub fn new(count: usize) -> Progress {
        Progress {
            count,
            left: (0..count).collect(),
            failed: Vec::new(),
            waiting: Vec::new(),
            is_late: false,
            bytes: 0,
        }
    }

    pub fn taken(&mut self, events: &[usize], ack: Option<Number>) {
        self.left.retain(|nth| !events.contains(nth));
        self.waiting.extend(ack.map(|number| (number, events.to_vec())));
    }

    pub fn failed(&mut self, event: usize, failure: Failure) {
        self.left.retain(|nth| *nth != event);
        self.failed.push((event, failure));
    }

    /// Events that no request has brought for good so far.
    pub fn unacknowledged(&self) -> Vec<usize> {
        let acked = acked(&self.waiting);
        self.left.iter().copied().filter(|nth| !acked.contains(nth)).collect()
    }

    /// What was sent and not acknowledged is sent again. Gives the events of which that may still come.
    pub fn not_acknowledged(&mut self, failure: Option<Failure>) -> BTreeSet<usize> {
        let late = || Failure::transient("the indexers have not acknowledged the events in time; they are sent again");
        let failure = failure.unwrap_or_else(late);
        let acked = acked(&self.waiting);
        self.left.retain(|nth| !acked.contains(nth));
        let sent = self.waiting.iter().flat_map(|(_, events)| events.iter().copied());
        let open: BTreeSet<usize> = sent.filter(|nth| !acked.contains(nth)).collect();
        let failed: BTreeSet<usize> = self.failed.iter().map(|(nth, _)| *nth).collect();
        let is_late = |nth: &&usize| !self.left.contains(nth) && !failed.contains(nth);
        let late: Vec<usize> = open.iter().filter(is_late).copied().collect();
        self.is_late = !late.is_empty();
        self.failed.extend(late.into_iter().map(|nth| (nth, failure.clone())));
        open
    }

    /// What the write came to, if it ended so: what was taken stays so, whatever became of the rest.
    pub fn sum_up(mut self, ended: Result<(), Failure>) -> Result<Written, Failure> {
        if let Err(failure) = ended {
            if self.left.len() == self.count {
                return Err(failure);
            }
            // What a whole request was refused for is not known to be the fault of each of its events.
            let failure = match failure {
                Failure::Poison { answer } if self.left.len() > 1 => Failure::Suspect { answer },
                failure => failure,
            };
            self.failed.extend(self.left.iter().map(|nth| (*nth, failure.clone())));
        }
        let Some((_, first)) = self.failed.first() else {
            return Ok(Written { bytes: self.bytes, ..Written::default() });
        };
        if !self.is_late
            && matches!(first, Failure::Transient { .. })
            && self.failed.len() == self.count
            && self.failed.iter().all(|(_, failure)| failure == first)
        {
            return Err(self.failed.swap_remove(0).1);
        }
        Err(Failure::some(self.failed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Uri;

    use super::super::acks::Acks;
    use super::*;

    #[test]
    fn an_earlier_request_brings_its_events_whatever_becomes_of_later_ones() {
        let acks = Acks::new(Uri::from_static("/"), Duration::from_secs(1), Duration::from_secs(9), Default::default());
        let mut progress = Progress::new(3);
        progress.waiting = vec![(acks.enter(acks.before(), 1), vec![0, 1, 2])];
        assert_eq!(progress.unacknowledged(), [0, 1, 2]);
        progress.taken(&[0, 1], Some(acks.enter(acks.before(), 2)));
        assert_eq!(
            progress.not_acknowledged(None),
            [0, 1, 2].into(),
            "the last was not sent again, and may still come"
        );
        acks.confirm(1);
        assert_eq!(progress.unacknowledged(), [0; 0]);
        let mut progress = Progress::new(2);
        progress.waiting = vec![(acks.enter(acks.before(), 3), vec![0]), (acks.enter(acks.before(), 4), vec![0])];
        acks.confirm(3);
        assert_eq!(progress.not_acknowledged(None), [0; 0].into());
        assert_eq!(
            progress.sum_up(Err(Failure::transient("busy"))),
            Err(Failure::some(vec![(1, Failure::transient("busy"))]))
        );
    }

    #[test]
    fn what_was_taken_stays_so_whatever_becomes_of_the_rest() {
        let late = || Failure::transient("late");
        assert_eq!(Progress::new(3).sum_up(Err(late())), Err(late()), "nothing was taken");
        let mut progress = Progress::new(4);
        progress.failed(1, Failure::poison("bad"));
        progress.taken(&[0], None);
        let expected = vec![(1, Failure::poison("bad")), (2, late()), (3, late())];
        assert_eq!(progress.sum_up(Err(late())), Err(Failure::some(expected)));
        let mut progress = Progress::new(2);
        let acks = Acks::new(Uri::from_static("/"), Duration::from_secs(1), Duration::from_secs(9), Default::default());
        progress.taken(&[0], Some(acks.enter(acks.before(), 7)));
        progress.taken(&[1], Some(acks.enter(acks.before(), 8)));
        acks.confirm(7);
        assert_eq!(progress.not_acknowledged(None), [1].into());
        let Err(Failure::Some(failed, _)) = progress.sum_up(Ok(())) else { panic!("one is not acknowledged") };
        assert!(matches!(&failed[..], [(1, Failure::Transient { .. })]), "{failed:?}");
    }
}
