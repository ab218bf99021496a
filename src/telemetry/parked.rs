//! Totals of how parked events ended, shared by the dead-letter queue and the sink's accounting.

use super::Counts;

/// Parked events that have ended, by what became of them. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParkedEnds {
    pub delivered: u64,
    pub dead_lettered: u64,
    /// Refused for good by a sink that keeps no dead letters.
    pub poison: u64,
    /// Dropped by an operator.
    pub dropped: u64,
}

impl ParkedEnds {
    pub fn columns(self) -> [u64; 4] {
        [self.delivered, self.dead_lettered, self.poison, self.dropped]
    }

    pub fn from_columns([delivered, dead_lettered, poison, dropped]: [u64; 4]) -> ParkedEnds {
        ParkedEnds { delivered, dead_lettered, poison, dropped }
    }

    pub fn add(&mut self, more: &ParkedEnds) {
        self.delivered += more.delivered;
        self.dead_lettered += more.dead_lettered;
        self.poison += more.poison;
        self.dropped += more.dropped;
    }
}

impl Counts {
    /// Enters how parked events have ended, as the queue says: what it says beyond the totals entered so far is new.
    /// An older statement that comes late changes nothing.
    pub fn end_parked(&mut self, ends: ParkedEnds) {
        let known = self.parked_ends.columns();
        let mut new = [0; 4];
        for (column, (now, before)) in new.iter_mut().zip(ends.columns().into_iter().zip(known)) {
            // The queue may know of ends from a sink that had the name before: those were never parked here.
            *column = now.saturating_sub(before).min(self.parked);
            self.parked -= *column;
        }
        let new = ParkedEnds::from_columns(new);
        let most = |at: usize| ends.columns()[at].max(known[at]);
        self.parked_ends = ParkedEnds::from_columns([most(0), most(1), most(2), most(3)]);
        self.delivered += new.delivered;
        self.dead_lettered += new.dead_lettered;
        for (cause, events) in [("poison", new.poison), ("dlq", new.dropped)] {
            if events > 0 {
                *self.dropped.entry(cause).or_default() += events;
            }
        }
        self.waiting = self.waiting.saturating_sub(new.columns().into_iter().sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_statement_counts_once_and_an_older_one_not_at_all() {
        let mut counts = Counts { parked: 9, waiting: 10, ..Counts::default() };
        let early = ParkedEnds { delivered: 2, ..ParkedEnds::default() };
        let late = ParkedEnds { delivered: 3, dead_lettered: 1, poison: 1, dropped: 1 };
        [late, early, late].into_iter().for_each(|ends| counts.end_parked(ends));
        assert_eq!((counts.delivered, counts.dead_lettered, counts.parked, counts.waiting), (3, 1, 3, 4));
        assert_eq!(counts.dropped, [("poison", 1), ("dlq", 1)].into());
        assert_eq!(counts.addressed(), 10);
    }

    #[test]
    fn what_an_earlier_sink_of_the_name_had_parked_is_not_counted_again() {
        let mut counts = Counts { parked: 1, waiting: 1, ..Counts::default() };
        counts.end_parked(ParkedEnds { delivered: 7, ..ParkedEnds::default() });
        assert_eq!((counts.delivered, counts.parked_ends.delivered), (1, 7));
    }
}
