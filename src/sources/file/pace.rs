//! Waits a little, now and then, for sinks that are about to read what is still in memory.
//!
//! Lines wait in their file as well as in the journal, and a sink that has to read them from the disk costs more than all of
//! the reading. But a sink that is slow for long must not keep files waiting that may go away, so there is a bound on it: on
//! the time in which less is read than files usually grow by.

use std::time::{Duration, Instant};

/// How soon it is asked again.
pub const PAUSE: Duration = Duration::from_millis(1);
/// The longest that is waited at a time.
const MOST: Duration = Duration::from_secs(1);
/// The part of all time that may be waited after that.
const SHARE: u32 = 20;
/// Who reads so many bytes in a second is hardly kept waiting.
const FAST: f64 = (64 << 20) as f64;

pub struct Pace {
    /// How long may still be waited.
    left: Duration,
    seen: Instant,
    is_waiting: bool,
}

impl Pace {
    pub fn new(now: Instant) -> Pace {
        Pace { left: MOST, seen: now, is_waiting: false }
    }

    /// Whether to wait now; `outpaces` says that sinks would lose what they are about to read.
    pub fn waits(&mut self, now: Instant, outpaces: bool) -> bool {
        let passed = now.saturating_duration_since(self.seen);
        self.seen = now;
        self.left = match self.is_waiting {
            true => self.left.saturating_sub(passed),
            false => (self.left + passed / SHARE).min(MOST),
        };
        self.is_waiting = outpaces && self.left >= PAUSE;
        self.is_waiting
    }

    /// So many bytes were read meanwhile.
    pub fn read(&mut self, bytes: u64) {
        self.left = (self.left + Duration::from_secs_f64(bytes as f64 / FAST)).min(MOST);
    }

    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds waited of so many, with a sink that is always slow.
    fn waited(pace: &mut Pace, from: Instant, millis: u32) -> u32 {
        (0..millis).filter(|nth| pace.waits(from + PAUSE * *nth, true)).count() as u32
    }

    #[test]
    fn nobody_waits_without_a_reason() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!((0..100).all(|nth| !pace.waits(start + PAUSE * nth, false)));
    }

    #[test]
    fn a_slow_sink_is_waited_for_once_and_then_for_a_small_part_of_the_time() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(waited(&mut pace, start, 1000), 1000);
        let later = waited(&mut pace, start + MOST, 10_000);
        assert!((300..700).contains(&later), "{later} of 10,000");
    }

    /// Milliseconds waited of ten thousand where so many bytes are read in each.
    fn waited_at(bytes: u64) -> u32 {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        (0..10)
            .map(|second| {
                let waited = waited(&mut pace, start + MOST * second, 1000);
                pace.read(1000 * bytes);
                waited
            })
            .sum()
    }

    #[test]
    fn sinks_that_take_much_are_waited_for_as_long_as_they_do() {
        assert!(waited_at(FAST as u64 / 1000) > 9_900, "all of it, but for a millisecond here and there");
        assert!((1000..3000).contains(&waited_at(FAST as u64 / 20_000)), "a twentieth of it");
    }

    #[test]
    fn what_was_waited_comes_back_with_time() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        waited(&mut pace, start, 1500);
        let later = start + Duration::from_secs(40);
        assert!(!pace.waits(later, false));
        assert_eq!(waited(&mut pace, later, 1000), 1000);
    }
}
