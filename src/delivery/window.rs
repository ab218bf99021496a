//! The last thousand verdicts of a sink: when most of them are poison, the fault is not in the events.

use std::collections::VecDeque;

/// Events that are looked back upon.
const LAST: u64 = 1000;

#[derive(Debug, Default)]
pub struct Window {
    /// Runs of verdicts, oldest first: poison or not, and how many.
    runs: VecDeque<(bool, u64)>,
    total: u64,
    poison: u64,
}

impl Window {
    pub fn note(&mut self, poison: bool, count: u64) {
        if count == 0 {
            return;
        }
        match self.runs.back_mut() {
            Some((kind, n)) if *kind == poison => *n += count,
            _ => self.runs.push_back((poison, count)),
        }
        self.total += count;
        self.poison += if poison { count } else { 0 };
        while self.total > LAST {
            let (kind, n) = self.runs.front_mut().expect("there is a run while there are verdicts");
            let gone = (*n).min(self.total - LAST);
            *n -= gone;
            self.total -= gone;
            self.poison -= if *kind { gone } else { 0 };
            if *n == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// Whether more than half of the last thousand events were poison.
    pub fn is_flooded(&self) -> bool {
        self.poison > LAST / 2
    }

    pub fn clear(&mut self) {
        *self = Window::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_not_yet_a_flood_and_old_verdicts_are_forgotten() {
        let mut window = Window::default();
        window.note(true, 500);
        assert!(!window.is_flooded());
        window.note(true, 1);
        assert!(window.is_flooded());
        window.note(false, 500);
        assert!(!window.is_flooded(), "one poisonous verdict has fallen out of the window");
        window.note(false, 10_000);
        assert_eq!((window.total, window.poison, window.runs.len()), (1000, 0, 1));
    }
}
