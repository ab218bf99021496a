//! Limits of a sink: events per second, and concurrent writes.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::{Concurrency, MAX_CONCURRENCY};
use crate::units::Rate;

/// Spreads events evenly: a write batch is paid for by the time that must pass before the next.
#[derive(Debug)]
pub struct RateLimiter {
    rate: Option<Rate>,
    next: Option<Instant>,
}

impl RateLimiter {
    pub fn new(rate: Option<Rate>) -> RateLimiter {
        RateLimiter { rate, next: None }
    }

    /// When the next write batch may leave; `None` is now.
    pub fn not_before(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    pub fn spend(&mut self, events: usize, now: Instant) {
        if let Some(rate) = self.rate {
            let cost = Duration::from_secs_f64(events as f64 / rate.each_second());
            self.next = Some(self.next.unwrap_or(now).max(now) + cost);
        }
    }
}

/// Writes at a time: fixed, or grown by one for each round of quick answers and cut when the target struggles.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    adaptive: bool,
    limit: f64,
    /// Smoothed seconds of a write.
    usual: Option<f64>,
}

/// The weight of the newest answer in what is usual.
const NEWEST: f64 = 0.3;
/// An answer that takes this many times the usual is slow.
const SLOW: f64 = 2.0;

impl ConcurrencyLimit {
    pub fn new(concurrency: Concurrency) -> ConcurrencyLimit {
        let (adaptive, limit) = match concurrency {
            Concurrency::Fixed(n) => (false, n.get().min(MAX_CONCURRENCY) as f64),
            Concurrency::Adaptive => (true, 1.0),
        };
        ConcurrencyLimit { adaptive, limit, usual: None }
    }

    /// For sinks that must be written one batch after another.
    pub fn narrow(&mut self) {
        (self.adaptive, self.limit) = (false, 1.0);
    }

    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Learns from a write: how long it took, or that the target pushed back.
    pub fn learn(&mut self, took: Duration, pushed_back: bool) {
        if !self.adaptive {
            return;
        }
        let took = took.as_secs_f64();
        let usual = self.usual.unwrap_or(took);
        if pushed_back {
            self.limit /= 2.0;
        } else if took > usual * SLOW {
            self.limit *= 0.9;
        } else {
            self.limit += 1.0 / self.limit;
        }
        self.limit = self.limit.clamp(1.0, MAX_CONCURRENCY as f64);
        self.usual = Some(usual + (took - usual) * NEWEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_events_and_saves_nothing_up() {
        let start = Instant::now();
        let mut pace = RateLimiter::new(Some(Rate::per_second(100)));
        assert_eq!(pace.not_before(start), None);
        pace.spend(50, start);
        assert_eq!(pace.not_before(start), Some(start + Duration::from_millis(500)));
        let later = start + Duration::from_secs(60);
        pace.spend(100, later);
        assert_eq!(pace.not_before(later), Some(later + Duration::from_secs(1)));
    }

    #[test]
    fn adaptive_width_grows_with_quick_answers_and_halves_when_pushed_back() {
        let mut width = ConcurrencyLimit::new(Concurrency::Adaptive);
        for _ in 0..100 {
            width.learn(Duration::from_millis(10), false);
        }
        let grown = width.limit();
        assert!(grown > 8, "{grown}");
        width.learn(Duration::from_millis(10), true);
        assert!(width.limit() <= grown / 2 + 1);
        for _ in 0..10_000 {
            width.learn(Duration::from_millis(10), false);
        }
        assert_eq!(width.limit(), MAX_CONCURRENCY);
    }
}
