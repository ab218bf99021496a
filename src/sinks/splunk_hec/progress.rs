//! The progress of one write: which events were accepted, which failed, which are left.

use super::acks::Number;
use crate::component::{Failure, Written};

pub struct Progress {
    count: usize,
    /// Events that are still to be sent, by their index in the batch.
    pub left: Vec<usize>,
    failed: Vec<(usize, Failure)>,
    /// Numbers of acknowledgements to wait for, and the events behind each.
    pub waiting: Vec<(Number, Vec<usize>)>,
    pub bytes: u64,
}

impl Progress {
    pub fn new(count: usize) -> Progress {
        Progress { count, left: (0..count).collect(), failed: Vec::new(), waiting: Vec::new(), bytes: 0 }
    }

    pub fn taken(&mut self, events: &[usize], ack: Option<Number>) {
        self.left.retain(|nth| !events.contains(nth));
        self.waiting.extend(ack.map(|number| (number, events.to_vec())));
    }

    pub fn failed(&mut self, event: usize, failure: Failure) {
        self.left.retain(|nth| *nth != event);
        self.failed.push((event, failure));
    }

    /// What was not acknowledged is sent again; `acked` says so for each of those that wait.
    pub fn not_acknowledged(&mut self, acked: &[bool], failure: Option<Failure>) {
        let late = || Failure::transient("the indexers have not acknowledged the events in time; they are sent again");
        let failure = failure.unwrap_or_else(late);
        for ((_, events), _) in self.waiting.iter().zip(acked).filter(|(_, acked)| !**acked) {
            self.failed.extend(events.iter().map(|nth| (*nth, failure.clone())));
        }
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
        if matches!(first, Failure::Transient { .. })
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
    fn what_was_taken_stays_so_whatever_becomes_of_the_rest() {
        let late = || Failure::transient("late");
        assert_eq!(Progress::new(3).sum_up(Err(late())), Err(late()), "nothing was taken");
        let mut progress = Progress::new(4);
        progress.failed(1, Failure::poison("bad"));
        progress.taken(&[0], None);
        let expected = vec![(1, Failure::poison("bad")), (2, late()), (3, late())];
        assert_eq!(progress.sum_up(Err(late())), Err(Failure::some(expected)));
        let mut progress = Progress::new(2);
        let acks = Acks::new(Uri::from_static("/"), Duration::from_secs(1), Duration::from_secs(9));
        progress.taken(&[0], Some(acks.enter(acks.before(), 7)));
        progress.taken(&[1], Some(acks.enter(acks.before(), 8)));
        progress.not_acknowledged(&[true, false], None);
        let Err(Failure::Some(failed, _)) = progress.sum_up(Ok(())) else { panic!("one is not acknowledged") };
        assert!(matches!(&failed[..], [(1, Failure::Transient { .. })]), "{failed:?}");
    }
}
