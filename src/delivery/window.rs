//! Outcomes of a sink's last thousand events: if most are refused, the events are not at fault.

use std::collections::VecDeque;

/// Events that are looked back upon.
const LAST: u64 = 1000;
/// So many events refused in a row, and none taken: then every event meets it.
const ALL_REFUSED: u64 = 100;

/// The outcomes of the batches that have ended, oldest first. A batch counts by its share: which of its events happened
/// to be tried last says nothing.
#[derive(Debug, Default)]
pub struct Window {
    batches: VecDeque<Outcomes>,
    events: u64,
    /// Events refused for good since the last one that was taken.
    in_a_row: u64,
    /// Why the sink is held, if it is because events were refused.
    held: Option<Held>,
}

/// Why a sink is held because of events that were refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    MostRefused,
    /// None was taken: events behind them may show whose fault it is.
    AllRefused,
}

impl Held {
    pub fn reason(self) -> &'static str {
        match self {
            Held::MostRefused => "more than half of the last 1000 events are refused",
            Held::AllRefused => "every event is refused",
        }
    }
}

/// Events of one batch, and how many of them were refused for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub events: u64,
    pub poison: u64,
}

impl Window {
    /// A batch has ended.
    pub fn note(&mut self, outcomes: Outcomes) {
        if outcomes.events == 0 {
            return;
        }
        self.in_a_row = if outcomes.poison < outcomes.events { 0 } else { self.in_a_row + outcomes.poison };
        self.batches.push_back(outcomes);
        self.events += outcomes.events;
        while let Some(oldest) = self.batches.front().filter(|oldest| self.events - oldest.events >= LAST) {
            self.events -= oldest.events;
            self.batches.pop_front();
        }
    }

    /// Whether more than half of the last thousand events were refused, counting a batch of which this is known so far:
    /// events that are still to be tried count as good.
    pub fn is_flooded_with(&self, current: Outcomes) -> bool {
        let mut left = LAST;
        let mut poison = 0.0;
        for outcomes in std::iter::once(&current).chain(self.batches.iter().rev()) {
            let seen = outcomes.events.min(left);
            if seen > 0 {
                poison += outcomes.poison as f64 * seen as f64 / outcomes.events as f64;
            }
            left -= seen;
        }
        poison > (LAST / 2) as f64
    }

    /// Whether a batch that has ended so shows, with those before it, that every event is refused.
    fn refuses_all_with(&self, current: Outcomes) -> bool {
        current.events > 0 && current.poison == current.events && self.in_a_row + current.poison >= ALL_REFUSED
    }

    /// Why the sink holds after an event of a batch was refused, if it does. `none_taken` says that all of the batch was
    /// tried, and nothing was taken since it began.
    pub fn holds(&mut self, current: Outcomes, none_taken: bool) -> Option<Held> {
        if self.held.is_none() {
            if self.is_flooded_with(current) {
                self.held = Some(Held::MostRefused);
            } else if none_taken && self.refuses_all_with(current) {
                self.held = Some(Held::AllRefused);
            }
        }
        self.held
    }

    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Something was taken: if the sink was held, what was seen before counts no more.
    pub fn taken(&mut self) {
        self.in_a_row = 0;
        if self.held.is_some() {
            *self = Window::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(events: u64, poison: u64) -> Outcomes {
        Outcomes { events, poison }
    }

    #[test]
    fn half_is_not_yet_a_flood_and_old_outcomes_are_forgotten() {
        let mut window = Window::default();
        window.note(of(500, 500));
        assert!(!window.is_flooded_with(of(0, 0)));
        assert!(window.is_flooded_with(of(1, 1)));
        window.note(of(1, 1));
        window.note(of(500, 0));
        assert!(!window.is_flooded_with(of(0, 0)), "one refused event has fallen out of the window");
        window.note(of(10_000, 0));
        assert_eq!((window.events, window.batches.len()), (10_000, 1));
    }

    #[test]
    fn a_batch_counts_by_its_share_however_large_it_is() {
        let mut window = Window::default();
        for _ in 0..10 {
            assert!(!window.is_flooded_with(of(5000, 625)), "12.5 %");
            window.note(of(5000, 625));
        }
        assert!(!window.is_flooded_with(of(5000, 2500)));
        assert!(window.is_flooded_with(of(5000, 2501)));
    }

    #[test]
    fn many_refused_in_a_row_and_none_taken_is_every_event() {
        let mut window = Window::default();
        assert!(!window.refuses_all_with(of(99, 99)));
        assert!(window.refuses_all_with(of(100, 100)));
        window.note(of(60, 60));
        assert!(window.refuses_all_with(of(40, 40)));
        assert!(!window.refuses_all_with(of(41, 40)), "one was taken");
        window.taken();
        assert!(!window.refuses_all_with(of(40, 40)));
    }
}
