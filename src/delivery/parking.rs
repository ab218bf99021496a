//! Parking: when events of one refusing destination are set aside, and when they are retried. No clock, no socket.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Retry;
use crate::journal::dead_letters;
use crate::units::Timestamp;

/// How long a success elsewhere shows that a fault is a destination's own.
const LATELY: Duration = Duration::from_secs(3600);
/// Destinations of one sink that may be parked; the fault of more is the sink's.
const MAX_PARKED: usize = 64;
/// Destinations that are known to work; of more the oldest are forgotten.
const MAX_WORKING: usize = 64;

/// What is known when destinations refuse events of a write.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Whether other events of the same write were taken.
    pub others_taken: bool,
    /// How long ago a destination took something that has not refused anything since.
    pub works_elsewhere: Option<Duration>,
    /// Destinations that would be parked in all.
    pub parked: usize,
}

/// Whether the fault is that of some destinations, whose events can be parked; if not, the sink holds.
pub fn is_partial(evidence: Evidence) -> bool {
    let works = evidence.others_taken || evidence.works_elsewhere.is_some_and(|ago| ago <= LATELY);
    works && evidence.parked <= MAX_PARKED
}

/// What is parked of one sink, and which destinations work.
#[derive(Debug, Default)]
pub struct Parking {
    working: BTreeMap<String, Instant>,
    lots: BTreeMap<String, Lot>,
    /// What is parked from the life before shows that something worked then.
    resumed: Option<Instant>,
}

/// What is parked for one destination.
#[derive(Clone, Debug)]
struct Lot {
    dead_letters: u64,
    since: Timestamp,
    answer: String,
    /// Vain attempts in a row.
    failures: u32,
    due: Instant,
    /// How often something was added, so that who finds the lot empty overlooks nothing.
    additions: u64,
    /// When something of it was last refused, by the evidence's count.
    refused_at: u64,
}

/// When something happened.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub now: Instant,
    /// By the evidence's count.
    pub evidence: u64,
}

/// A lot that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub destination: String,
    /// Whether one event should find out first.
    pub is_probe: bool,
    pub additions: u64,
    pub refused_at: u64,
}

impl Parking {
    /// Begins with what the process before has left.
    pub fn resume(&mut self, lots: Vec<dead_letters::Lot>, now: Instant) {
        let lot = |lot: dead_letters::Lot| {
            let dead_letters::Lot { destination, dead_letters, since, answer } = lot;
            (destination, Lot { dead_letters, since, answer, failures: 1, due: now, additions: 0, refused_at: 0 })
        };
        self.lots = lots.into_iter().map(lot).collect();
        self.resumed = (!self.lots.is_empty()).then_some(now);
    }

    pub fn took(&mut self, destination: String, now: Instant) {
        if self.working.len() >= MAX_WORKING
            && !self.working.contains_key(&destination)
            && let Some(oldest) = self.working.iter().min_by_key(|(_, at)| **at).map(|(name, _)| name.clone())
        {
            self.working.remove(&oldest);
        }
        self.working.insert(destination, now);
    }

    /// Whether the events that these destinations have refused may be parked.
    pub fn may_park(&mut self, destinations: &[&str], others_taken: bool, now: Instant) -> bool {
        for destination in destinations {
            self.working.remove(*destination);
        }
        let last = self.working.values().copied().chain(self.resumed).max();
        let fresh = destinations.iter().filter(|name| !self.lots.contains_key(**name)).count();
        is_partial(Evidence {
            others_taken,
            works_elsewhere: last.map(|at| now.saturating_duration_since(at)),
            parked: self.lots.len() + fresh,
        })
    }

    /// Adds events that the cursor has passed; returns whether the destination is new.
    pub fn add(&mut self, destination: &str, dead_letters: u64, answer: &str, retry: &Retry, at: At) -> bool {
        let now = at.now;
        let is_new = !self.lots.contains_key(destination);
        let lot = self.lots.entry(destination.to_owned()).or_insert_with(|| Lot {
            dead_letters: 0,
            since: Timestamp::now(),
            answer: String::new(),
            failures: 1,
            due: now + retry.wait(1, 0.0),
            additions: 0,
            refused_at: at.evidence,
        });
        lot.dead_letters += dead_letters;
        lot.additions += 1;
        answer.clone_into(&mut lot.answer);
        is_new
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.lots.values().map(|lot| lot.due).min()
    }

    /// The lot that has waited longest for its turn.
    pub fn due(&self, now: Instant) -> Option<Due> {
        let (destination, lot) = self.lots.iter().filter(|(_, lot)| lot.due <= now).min_by_key(|(_, lot)| lot.due)?;
        Some(Due {
            destination: destination.clone(),
            is_probe: lot.failures > 0,
            additions: lot.additions,
            refused_at: lot.refused_at,
        })
    }

    /// Somebody has changed what is parked: every lot is looked at.
    pub fn hurry(&mut self, now: Instant) {
        self.lots.values_mut().for_each(|lot| lot.due = lot.due.min(now));
    }

    /// So many dead letters have left a lot; the next are due at once. None shows nothing, and the waits go on growing.
    pub fn ended(&mut self, destination: &str, dead_letters: u64, now: Instant) {
        if let Some(lot) = self.lots.get_mut(destination).filter(|_| dead_letters > 0) {
            lot.dead_letters = lot.dead_letters.saturating_sub(dead_letters);
            (lot.failures, lot.due) = (0, now);
        }
    }

    /// An operator may have dropped some: this many are left, unless something was added since.
    pub fn count(&mut self, due: &Due, dead_letters: u64) {
        if let Some(lot) = self.lots.get_mut(&due.destination).filter(|lot| lot.additions == due.additions) {
            lot.dead_letters = dead_letters;
        }
    }

    /// A destination refuses still.
    pub fn refused(&mut self, destination: &str, answer: &str, retry: &Retry, chance: f64, at: At) {
        if let Some(lot) = self.lots.get_mut(destination) {
            lot.refused_at = at.evidence;
            lot.failures = lot.failures.saturating_add(1);
            lot.due = at.now + retry.wait(lot.failures, chance);
            answer.clone_into(&mut lot.answer);
        }
    }

    /// Nothing of a lot may be tried yet, because the cursor on the disk has not passed it.
    pub fn not_yet(&mut self, destination: &str, due: Instant) {
        if let Some(lot) = self.lots.get_mut(destination) {
            lot.due = due;
        }
    }

    /// Nothing was found in a lot; unless something was added since, it is gone.
    pub fn found_empty(&mut self, due: &Due) {
        if self.lots.get(&due.destination).is_some_and(|lot| lot.additions == due.additions) {
            self.lots.remove(&due.destination);
        }
    }

    /// One sentence for the operator.
    pub fn sentence(&self) -> Option<String> {
        let (destination, lot) = self.lots.iter().max_by_key(|(_, lot)| lot.dead_letters)?;
        let events =
            if lot.dead_letters == 1 { "1 event is".into() } else { format!("{} events are", lot.dead_letters) };
        let others = match self.lots.len() - 1 {
            0 => String::new(),
            1 => "; one more destination is parked".into(),
            more => format!("; {more} more destinations are parked"),
        };
        Some(format!("{events} parked for `{destination}` since {}: {}{others}", lot.since, lot.answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fault_is_a_destinations_own_only_where_others_work() {
        let evidence = Evidence { others_taken: false, works_elsewhere: None, parked: 1 };
        assert!(!is_partial(evidence), "nothing shows that anything works");
        assert!(is_partial(Evidence { others_taken: true, ..evidence }));
        assert!(is_partial(Evidence { works_elsewhere: Some(LATELY), ..evidence }));
        assert!(!is_partial(Evidence { works_elsewhere: Some(LATELY + SECOND), ..evidence }), "that was long ago");
        assert!(is_partial(Evidence { others_taken: true, parked: MAX_PARKED, ..evidence }));
        assert!(!is_partial(Evidence { others_taken: true, parked: MAX_PARKED + 1, ..evidence }), "too many at a time");
    }

    #[test]
    fn what_refuses_does_not_count_as_working_until_it_takes_something_again() {
        let (mut parking, now) = (Parking::default(), Instant::now());
        parking.took("a".into(), now);
        assert!(!parking.may_park(&["a"], false, now), "its own success shows nothing about others");
        parking.took("a".into(), now);
        parking.took("b".into(), now);
        assert!(parking.may_park(&["a"], false, now));
        assert!(!parking.may_park(&["b"], false, now), "now neither works");
        assert!(parking.may_park(&["b"], true, now), "but for what the same write shows");
        for n in 0..2 * MAX_WORKING as u64 {
            parking.took(n.to_string(), now + SECOND);
        }
        assert_eq!(parking.working.len(), MAX_WORKING);
    }

    #[test]
    fn a_lot_is_tried_with_growing_waits_and_at_once_while_it_is_taken() {
        let (mut parking, retry, now) = (Parking::default(), Retry::default(), Instant::now());
        let at = At { now, evidence: 0 };
        assert!(parking.add("a", 3, "no such topic", &retry, at));
        assert!(!parking.add("a", 2, "no such topic", &retry, at));
        assert_eq!((parking.due(now), parking.next_due()), (None, Some(now + SECOND)));
        let due = parking.due(now + SECOND).expect("it is due");
        assert_eq!((&*due.destination, due.is_probe), ("a", true));
        parking.refused("a", "still no such topic", &retry, 0.0, at);
        assert_eq!(parking.next_due(), Some(now + 2 * SECOND));
        assert!(
            parking.sentence().is_some_and(|text| text.starts_with("5 events are parked for `a` since ")
                && text.ends_with(": still no such topic"))
        );
        parking.add("b", 1, "denied", &retry, at);
        assert!(parking.sentence().is_some_and(|text| text.ends_with("; one more destination is parked")));
        parking.ended("a", 1, now);
        let due = parking.due(now).expect("the rest is due at once");
        assert!(!due.is_probe);
        parking.add("a", 1, "no such topic", &retry, at);
        parking.found_empty(&due);
        assert_eq!(parking.lots.len(), 2, "something came in between");
        parking.found_empty(&parking.due(now).expect("it is due"));
        assert_eq!(parking.lots.len(), 1);
    }
}
