//! The delivery policy of a sink: batching, retry, concurrency, buffer.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time;

use crate::units::{ByteSize, Duration, Rate};

/// When a batch is written: as soon as one of the limits is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Batching {
    /// Maximum events per write.
    pub events: NonZeroUsize,
    /// Maximum bytes per write; a larger event is written alone.
    pub bytes: ByteSize,
    /// Maximum time an event waits for its batch to fill.
    pub age: Duration,
}

impl Default for Batching {
    fn default() -> Batching {
        let events = NonZeroUsize::new(1000).expect("1000 is not 0");
        Batching { events, bytes: ByteSize::mib(1), age: Duration::from_secs(1) }
    }
}

/// How a failed write is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Initial delay.
    pub initial: Duration,
    /// Maximum delay.
    pub max: Duration,
    /// Attempts before an event becomes a dead letter; without it they continue for ever.
    pub attempts: Option<NonZeroU32>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { initial: Duration::from_secs(1), max: Duration::from_secs(30), attempts: None }
    }
}

/// What each wait is multiplied by.
const GROWTH: f64 = 2.0;
/// The share of a wait that is left to chance, so that many agents do not come back at once.
const JITTER: f64 = 0.2;
/// The longest that another side may ask us to wait.
const MAX_ASKED: time::Duration = time::Duration::from_secs(3600);
/// The shortest wait, whatever is configured: a target that is down is not asked in a busy loop.
const MIN_WAIT: time::Duration = time::Duration::from_millis(10);

impl Retry {
    /// The wait after this many failures in a row (one or more). `chance` is between 0 and 1.
    pub fn wait(&self, failures: u32, chance: f64) -> time::Duration {
        let grown = self.initial.as_secs_f64() * GROWTH.powi(failures.saturating_sub(1).min(64) as i32);
        let most = grown.min(self.max.as_secs_f64());
        time::Duration::from_secs_f64(most * (1.0 - JITTER * chance)).max(MIN_WAIT)
    }

    /// The wait that the other side asked for, else our own. It is never shorter than `initial`, so that a target which
    /// asks for nothing, or for a time that has passed, is not asked again at once; nor longer than an hour.
    pub fn wait_or_asked(&self, asked: Option<time::Duration>, failures: u32, chance: f64) -> time::Duration {
        let floor = self.initial.0.clamp(MIN_WAIT, MAX_ASKED);
        asked.map_or_else(|| self.wait(failures, chance), |asked| asked.clamp(floor, MAX_ASKED))
    }
}

/// How many writes may be on their way at a time. Above 1 the order of events is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// So many.
    Fixed(NonZeroUsize),
    /// As many as the target answers quickly.
    Adaptive,
}

/// Behind the oldest batch that has not ended, so many for each write at a time may be written before it ends: after a
/// kill they are sent again.
pub const AHEAD: usize = 4;

/// The most writes at a time, whatever is configured.
pub const MAX_CONCURRENCY: usize = 64;

impl Default for Concurrency {
    fn default() -> Concurrency {
        Concurrency::Fixed(NonZeroUsize::MIN)
    }
}

/// How a sink is fed.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How old an event may be when it is written; older ones are dropped and counted. Absent, any age will do.
    pub max_age: Option<time::Duration>,
    /// When a batch is written.
    pub batch: Batching,
    /// How a failed write is tried again.
    pub retry: Retry,
    /// Writes at a time: a number, or `adaptive`. Above 1 the order of events is not kept.
    pub concurrency: Concurrency,
    /// The most events in a time, such as `100/s`.
    pub rate: Option<Rate>,
    /// How long one write may take.
    pub timeout: Duration,
    /// Whether events that can never be stored are kept in the dead-letter queue; if not, they are dropped
    /// and counted.
    pub dead_letter: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            max_age: None,
            batch: Batching::default(),
            retry: Retry::default(),
            concurrency: Concurrency::default(),
            rate: None,
            timeout: Duration::from_secs(60),
            dead_letter: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_jitter_only_shortens() {
        let retry = Retry::default();
        let seconds: Vec<u64> = (1..8).map(|n| retry.wait(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(retry.wait(u32::MAX, 1.0), time::Duration::from_secs(24));
    }

    #[test]
    fn a_target_that_asks_for_a_year_gets_an_hour() {
        let year = Some(time::Duration::from_secs(365 * 86400));
        assert_eq!(Retry::default().wait_or_asked(year, 1, 0.5), time::Duration::from_secs(3600));
    }

    #[test]
    fn a_target_that_asks_for_no_time_is_not_asked_again_at_once() {
        for asked in [0, 1, 999] {
            let asked = Some(time::Duration::from_millis(asked));
            assert_eq!(Retry::default().wait_or_asked(asked, 1, 1.0), time::Duration::from_secs(1));
        }
        let none = Retry { initial: Duration::from_secs(0), max: Duration::from_secs(0), attempts: None };
        assert_eq!(none.wait_or_asked(Some(time::Duration::ZERO), 1, 1.0), MIN_WAIT);
        assert_eq!(none.wait(5, 1.0), MIN_WAIT);
    }
}
