//! The breaker in front of a sink: open, or closed until a time at which one write may find out.

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
    closed: Option<Closed>,
    /// Passes that are out.
    active: usize,
}

#[derive(Debug)]
struct Closed {
    until: Instant,
    /// Failures since it was last open.
    failures: u32,
    probing: bool,
}

/// Leave to write. Dropping it without a word leaves the gate as it was.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a CircuitBreaker,
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

    /// Waits for leave to write; `None` when the sink stops while there is none.
    /// While the gate is closed, one at a time may try, and alone.
    pub async fn enter(&self) -> Option<Pass<'_>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let entry = self.lock().entry(Instant::now());
            let at = match entry {
                Entry::Now { probe } => return Some(Pass { gate: self, probe }),
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
    pub fn is_open(&self) -> bool {
        self.lock().closed.is_none()
    }

    /// Waits unless the sink stops first; tells whether the time has passed.
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
    fn entry(&mut self, now: Instant) -> Entry {
        let probe = match &mut self.closed {
            None => false,
            Some(closed) if closed.probing || self.active > 0 => return Entry::AfterChange,
            Some(closed) if now < closed.until => return Entry::At(closed.until),
            Some(closed) => {
                closed.probing = true;
                true
            }
        };
        self.active += 1;
        Entry::Now { probe }
    }
}

impl Pass<'_> {
    /// The target works. Opens the gate if this was the attempt to find out; tells whether it did.
    pub fn good(self) -> bool {
        let opens = self.probe;
        if opens {
            self.gate.lock().closed = None;
        }
        opens
    }

    /// The target does not work: closes the gate for as long as `wait` says for so many failures in a row.
    pub fn bad(self, wait: impl FnOnce(u32) -> std::time::Duration) {
        let mut inner = self.gate.lock();
        let failures = match &inner.closed {
            // Another write has closed it before this one came back: one failure, not two.
            Some(closed) if !self.probe => closed.failures,
            Some(closed) => closed.failures + 1,
            None => 1,
        };
        inner.closed = Some(Closed { until: Instant::now() + wait(failures), failures, probing: false });
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        inner.active -= 1;
        if self.probe
            && let Some(closed) = &mut inner.closed
        {
            closed.probing = false;
        }
        drop(inner);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_lets_one_probe_through_when_its_time_has_come() {
        let gate = CircuitBreaker::new(CancellationToken::new());
        let (first, second) = (gate.enter().await.unwrap(), gate.enter().await.unwrap());
        first.bad(|failures| Duration::from_secs(failures.into()));
        assert!(gate.enter().now_or_never().is_none(), "closed");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(gate.enter().now_or_never().is_none(), "another write is still out");
        second.bad(|failures| {
            assert_eq!(failures, 1, "two writes that met the same fault are one failure");
            Duration::from_secs(1)
        });
        let before = Instant::now();
        let probe = gate.enter().await.unwrap();
        assert_eq!(before.elapsed(), Duration::from_secs(1));
        assert!(gate.enter().now_or_never().is_none(), "one probe at a time");
        assert!(probe.good());
        assert!(!gate.enter().await.unwrap().good(), "it was open already");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_makes_room_for_another() {
        let gate = CircuitBreaker::new(CancellationToken::new());
        gate.enter().await.unwrap().bad(|_| Duration::ZERO);
        drop(gate.enter().await.unwrap());
        gate.enter().await.unwrap().bad(|failures| {
            assert_eq!(failures, 2);
            Duration::from_secs(9)
        });
        assert!(!gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_ends_the_wait() {
        let stop = CancellationToken::new();
        let gate = CircuitBreaker::new(stop.clone());
        gate.enter().await.unwrap().bad(|_| Duration::from_secs(1000));
        stop.cancel();
        assert!(gate.enter().await.is_none());
    }
}
