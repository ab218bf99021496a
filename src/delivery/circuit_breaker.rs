//! The circuit breaker of a sink: closed, or open until a time at which one trial write is allowed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Shared by all writes of one sink.
#[derive(Debug)]
pub struct CircuitBreaker {
    inner: Mutex<Inner>,
    changed: Notify,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None` is closed: writes pass.
    open: Option<Open>,
    /// Permits that are out.
    active: usize,
    /// Who waits, longest first: while it is open they take turns.
    waiting: VecDeque<u64>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    /// Failures since it was last closed.
    failures: u32,
    probing: bool,
}

/// Permission to write. Dropping it without a result leaves the breaker as it was.
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    probe: bool,
}

enum Entry {
    Now { probe: bool },
    At(Instant),
    AfterChange,
}

impl CircuitBreaker {
    pub fn new(stop: CancellationToken) -> CircuitBreaker {
        CircuitBreaker { inner: Mutex::default(), changed: Notify::new(), stop }
    }

    /// Waits for permission to write; `None` when the sink stops while there is none.
    /// While it is open, one at a time may try, and alone.
    pub async fn enter(&self) -> Option<Permit<'_>> {
        let waiting = Waiting::join(self);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let entry = self.lock().entry(waiting.number, Instant::now());
            let at = match entry {
                Entry::Now { probe } => return Some(Permit { breaker: self, probe }),
                Entry::At(at) => Some(at),
                Entry::AfterChange => None,
            };
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = changed => {}
                () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {}
            }
        }
    }

    /// Whether writes pass freely.
    pub fn is_closed(&self) -> bool {
        self.lock().open.is_none()
    }

    /// Waits unless the sink stops first; returns whether the time has passed.
    pub async fn pause(&self, until: Instant) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = sleep_until(until) => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn entry(&mut self, number: u64, now: Instant) -> Entry {
        let is_first = self.waiting.front() == Some(&number);
        let probe = match &mut self.open {
            None => false,
            Some(open) if open.probing || self.active > 0 || !is_first => return Entry::AfterChange,
            Some(open) if now < open.until => return Entry::At(open.until),
            Some(open) => {
                open.probing = true;
                true
            }
        };
        self.active += 1;
        Entry::Now { probe }
    }
}

/// A place in the queue, left when dropped.
struct Waiting<'a> {
    breaker: &'a CircuitBreaker,
    number: u64,
}

impl Waiting<'_> {
    fn join(breaker: &CircuitBreaker) -> Waiting<'_> {
        let mut inner = breaker.lock();
        let number = inner.next;
        inner.next += 1;
        inner.waiting.push_back(number);
        Waiting { breaker, number }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.breaker.lock().waiting.retain(|number| *number != self.number);
        self.breaker.changed.notify_waiters();
    }
}

impl Permit<'_> {
    /// The target works. Closes the breaker if this was the trial; returns whether it was.
    pub fn good(self) -> bool {
        let closes = self.probe;
        if closes {
            self.breaker.lock().open = None;
        }
        closes
    }

    /// The target does not work: opens the breaker for as long as `wait` says for this many failures in a row.
    pub fn bad(self, wait: impl FnOnce(u32) -> std::time::Duration) {
        let mut inner = self.breaker.lock();
        let failures = match &inner.open {
            // Another write has opened it before this one came back: one failure, not two.
            Some(open) if !self.probe => open.failures,
            Some(open) => open.failures + 1,
            None => 1,
        };
        inner.open = Some(Open { until: Instant::now() + wait(failures), failures, probing: false });
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut inner = self.breaker.lock();
        inner.active -= 1;
        if self.probe
            && let Some(open) = &mut inner.open
        {
            open.probing = false;
        }
        drop(inner);
        self.breaker.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_lets_one_probe_through_when_its_time_has_come() {
        let breaker = CircuitBreaker::new(CancellationToken::new());
        let (first, second) = (breaker.enter().await.unwrap(), breaker.enter().await.unwrap());
        first.bad(|failures| Duration::from_secs(failures.into()));
        assert!(breaker.enter().now_or_never().is_none(), "open");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(breaker.enter().now_or_never().is_none(), "another write is still out");
        second.bad(|failures| {
            assert_eq!(failures, 1, "two writes that met the same fault are one failure");
            Duration::from_secs(1)
        });
        let before = Instant::now();
        let probe = breaker.enter().await.unwrap();
        assert_eq!(before.elapsed(), Duration::from_secs(1));
        assert!(breaker.enter().now_or_never().is_none(), "one probe at a time");
        assert!(probe.good());
        assert!(!breaker.enter().await.unwrap().good(), "it was closed already");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_makes_room_for_another() {
        let breaker = CircuitBreaker::new(CancellationToken::new());
        breaker.enter().await.unwrap().bad(|_| Duration::ZERO);
        drop(breaker.enter().await.unwrap());
        breaker.enter().await.unwrap().bad(|failures| {
            assert_eq!(failures, 2);
            Duration::from_secs(9)
        });
        assert!(!breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_find_out_in_turn() {
        let breaker = std::sync::Arc::new(CircuitBreaker::new(CancellationToken::new()));
        breaker.enter().await.unwrap().bad(|_| Duration::from_secs(1));
        let turns = std::sync::Arc::new(Mutex::new(Vec::new()));
        for name in ["a", "b", "c"] {
            let (breaker, turns) = (breaker.clone(), turns.clone());
            tokio::spawn(async move {
                for _ in 0..2 {
                    let permit = breaker.enter().await.unwrap();
                    turns.lock().unwrap().push(name);
                    permit.bad(|_| Duration::from_secs(1));
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(*turns.lock().unwrap(), ["a", "b", "c", "a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_ends_the_wait() {
        let stop = CancellationToken::new();
        let breaker = CircuitBreaker::new(stop.clone());
        breaker.enter().await.unwrap().bad(|_| Duration::from_secs(1000));
        stop.cancel();
        assert!(breaker.enter().await.is_none());
    }
}
