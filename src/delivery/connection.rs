//! The connection of one sink: opens it with one attempt at a time, and updates breaker and health from each answer.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::circuit_breaker::{CircuitBreaker, Permit};
use super::evidence::Evidence;
use super::in_flight::{AttemptError, Unsent};
use super::parking::{At, Parking};
use super::policy::Policy;
use super::window::Window;
use crate::component::{AnySink, AnySinkConfig, Failure, Left, SinkContext, WriteBatch, Written};
use crate::event::Seed;
use crate::journal::dead_letters::{DeadLetters, NewDeadLetter, Resumed};
use crate::telemetry::{ComponentMetrics, ComponentState, panics};

/// How often a full or failing dead-letter queue is tried again.
const QUEUE_AGAIN: Duration = Duration::from_secs(5);

pub struct SinkConnection {
    pub config: Arc<dyn AnySinkConfig>,
    pub cx: SinkContext,
    pub policy: Policy,
    pub metrics: Arc<ComponentMetrics>,
    pub dead_letters: DeadLetters,
    pub breaker: CircuitBreaker,
    /// Whether events may be parked: only a queue that outlives the process keeps what was promised.
    parks: bool,
    /// Writes that have ended and wait until the dead-letter queue has space.
    stuck: AtomicUsize,
    /// Batches that are held, with no event left in them that could show whether the target or the event is at fault.
    seeking: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    /// Absent before it is opened, and after a failure that reopening may fix.
    sink: Option<Arc<dyn AnySink>>,
    /// What the one that was open before has handed on.
    left: Option<Left>,
    /// What the sink must remember, with the `seq` behind the last event it covers.
    pub memory: Option<(u64, Bytes)>,
    pub window: Window,
    pub evidence: Evidence,
    pub parking: Parking,
    /// Something was written since the start.
    has_delivered: bool,
    /// For the jitter of waits.
    chance: u64,
}

impl SinkConnection {
    pub fn new(
        config: Arc<dyn AnySinkConfig>,
        cx: SinkContext,
        policy: Policy,
        metrics: Arc<ComponentMetrics>,
        dead_letters: DeadLetters,
        parks: bool,
        stop: CancellationToken,
    ) -> SinkConnection {
        let inner = Mutex::new(Inner { memory: cx.memory.clone(), ..Inner::default() });
        let breaker = CircuitBreaker::new(stop);
        let (stuck, seeking) = (AtomicUsize::new(0), AtomicUsize::new(0));
        SinkConnection { config, cx, policy, metrics, dead_letters, breaker, parks, stuck, seeking, inner }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink, opened if need be.
    pub async fn sink(&self) -> Result<Arc<dyn AnySink>, Failure> {
        if let Some(sink) = self.lock().sink.clone() {
            return Ok(sink);
        }
        let (memory, left) = {
            let inner = self.lock();
            (inner.memory.clone(), inner.left.clone())
        };
        let position = memory.as_ref().map_or(self.cx.position, |(seq, _)| self.cx.position.max(*seq));
        let cx = SinkContext { memory, left, position, ..self.cx.clone() };
        let opening = AssertUnwindSafe(self.config.open(&cx)).catch_unwind();
        let limit = self.policy.timeout.0;
        let sink = match tokio::time::timeout(limit, opening).await {
            Ok(Ok(opened)) => opened?,
            Ok(Err(panic)) => {
                return Err(Failure::transient(format!(
                    "a bug in weir: opening the sink panicked: {}",
                    panics::message(&*panic)
                )));
            }
            Err(_) => return Err(Failure::transient(format!("timeout after {limit:?} while opening"))),
        };
        self.lock().sink = Some(sink.clone());
        Ok(sink)
    }

    /// Encodes and writes once.
    pub async fn attempt(&self, sink: &Arc<dyn AnySink>, unsent: &Unsent) -> Result<Written, AttemptError> {
        let batch = &unsent.batch;
        let payload = match std::panic::catch_unwind(AssertUnwindSafe(|| sink.encode(batch))) {
            Ok(encoded) => encoded.map_err(AttemptError::Encode)?,
            // Encoding depends on nothing but the events, so trying it again is of no use.
            Err(panic) => {
                let answer = format!("the encoder panicked: {}", panics::message(&*panic));
                return Err(AttemptError::Encode(Failure::Poison { answer }));
            }
        };
        let began = Instant::now();
        let writing = AssertUnwindSafe(sink.write(batch, &*payload)).catch_unwind();
        let limit = self.policy.timeout.0;
        let written = match tokio::time::timeout(limit, writing).await {
            Ok(Ok(answer)) => answer.map_err(AttemptError::Write)?,
            Ok(Err(panic)) => return Err(AttemptError::Panicked(panics::message(&*panic))),
            Err(_) => return Err(AttemptError::TimedOut(limit)),
        };
        self.metrics.observe_delivery(began.elapsed());
        let (events, seconds) = (batch.len(), began.elapsed().as_secs_f64());
        debug!(sink = %self.cx.name, events, seconds, "a batch was written");
        if !std::mem::replace(&mut self.lock().has_delivered, true) {
            info!(sink = %self.cx.name, events, "first events delivered since the start");
        }
        if written.altered > 0 {
            self.metrics.update(|counts| counts.altered += written.altered);
        }
        self.remember(sink, batch);
        Ok(written)
    }

    /// What a sink remembers holds as soon as it is written, whatever becomes of the rest of the batch.
    fn remember(&self, sink: &Arc<dyn AnySink>, batch: &WriteBatch) {
        if let Some(memory) = sink.memory() {
            let mut inner = self.lock();
            let covered = inner.memory.as_ref().map_or(0, |(seq, _)| *seq);
            inner.memory = Some((covered.max(batch.seq_end().unwrap_or(0)), memory));
        }
    }

    /// The target answered as it should.
    pub fn works(&self, permit: Permit<'_>) {
        let opened = permit.good();
        if opened || self.breaker.is_closed() {
            self.show_state();
        }
    }

    /// Shows that the sink delivers, and what it has parked.
    pub fn show_state(&self) {
        if self.stuck() > 0 {
            return;
        }
        let parked = self.lock().parking.sentence();
        let state = if parked.is_some() { ComponentState::Degraded } else { ComponentState::Running };
        if self.metrics.enter(state) {
            match parked {
                None => info!(sink = %self.cx.name, "the sink is ready"),
                Some(parked) => {
                    warn!(sink = %self.cx.name, parked, "some destinations fail; their events are parked");
                    self.metrics.error(parked);
                }
            }
        }
    }

    /// Shows what is parked by now, if the sink delivers at all.
    pub fn show_parked(&self) {
        if !self.breaker.is_closed() || self.stuck() > 0 {
            return;
        }
        let parked = self.lock().parking.sentence();
        if let Some(parked) = parked {
            self.metrics.error(parked);
        }
        self.show_state();
    }

    /// Notes what was parked, and logs each new destination.
    pub fn set_aside<'a>(&self, parked: impl Iterator<Item = (&'a String, &'a (u64, String))>) {
        let mut inner = self.lock();
        let at = At { now: Instant::now(), evidence: inner.evidence.now() };
        for (destination, (events, answer)) in parked {
            if inner.parking.add(destination, *events, answer, &self.policy.retry, at) {
                warn!(sink = %self.cx.name, destination, answer, "events are parked until this destination works");
            }
        }
        drop(inner);
        self.show_parked();
    }

    /// Notes where events of a write were taken that has failed with these failures, or with none.
    pub fn note_taken(&self, sink: &Arc<dyn AnySink>, batch: &WriteBatch, failures: &[(usize, Failure)]) {
        let destinations = taken_at(sink, batch, failures);
        if destinations.is_empty() {
            return;
        }
        let (mut inner, now) = (self.lock(), Instant::now());
        for destination in destinations.iter().flatten() {
            inner.parking.took(destination.clone(), now);
        }
        inner.evidence.taken(destinations);
        inner.window.taken();
    }

    /// Whether events that these destinations have refused may be parked.
    pub fn may_park(&self, destinations: &[String], others_taken: bool) -> bool {
        let different: BTreeSet<&str> = destinations.iter().map(String::as_str).collect();
        let different: Vec<&str> = different.into_iter().collect();
        self.lock().parking.may_park(&different, others_taken, Instant::now()) && self.parks
    }

    /// Writes that have ended and wait until the dead-letter queue has space.
    pub fn stuck(&self) -> usize {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Batches that wait for another one to show whether the target or their events are at fault.
    pub fn seeking(&self) -> usize {
        self.seeking.load(Ordering::Relaxed)
    }

    pub fn seek(&self) -> Counted<'_> {
        Counted::new(&self.seeking)
    }

    /// What is parked for the sink as it begins at `position`; `None` when it stops before the queue answers.
    pub async fn resume(&self, position: u64, settled: u64) -> Option<Resumed> {
        if !self.parks {
            return Some(Resumed::default());
        }
        loop {
            match self.dead_letters.resume(&self.cx.name, position, settled).await {
                Ok(resumed) => return Some(resumed),
                Err(error) => self.say(&format!("the dead-letter queue cannot be read: {error}"), ComponentState::Held),
            }
            if !self.breaker.pause(Instant::now() + QUEUE_AGAIN).await {
                return None;
            }
        }
    }

    /// The target does not answer as it should: every write waits, and the sink is opened afresh.
    pub fn struggles(&self, permit: Permit<'_>, answer: &str, after: Option<Duration>) {
        let chance = self.fail(answer, ComponentState::Retrying);
        permit.bad(|failures| self.policy.retry.wait_or_asked(after, failures, chance));
    }

    /// Nothing will succeed until an operator acts; the sink is tried now and then to notice when they have.
    pub fn held(&self, permit: Permit<'_>, answer: &str) {
        self.fail(answer, ComponentState::Held);
        permit.bad(|_| self.policy.retry.max.0);
    }

    fn fail(&self, answer: &str, state: ComponentState) -> f64 {
        self.forget_sink();
        self.say(answer, state);
        self.chance()
    }

    /// The next write opens the sink afresh.
    pub fn forget_sink(&self) {
        let mut inner = self.lock();
        if let Some(sink) = inner.sink.take() {
            inner.left = sink.leaves();
        }
    }

    /// A number between 0 and 1.
    pub fn chance(&self) -> f64 {
        let mut inner = self.lock();
        if inner.chance == 0 {
            inner.chance = u64::from_le_bytes(Seed::random().0[..8].try_into().expect("eight bytes")) | 1;
        }
        // xorshift64: good enough to keep agents apart.
        inner.chance ^= inner.chance << 13;
        inner.chance ^= inner.chance >> 7;
        inner.chance ^= inner.chance << 17;
        (inner.chance >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Remembers an error, and logs it where it changes the state.
    pub fn say(&self, answer: &str, state: ComponentState) {
        self.metrics.error(answer);
        if self.metrics.enter(state) {
            match state {
                ComponentState::Held => error!(sink = %self.cx.name, answer, "sink held; its events are kept"),
                _ => warn!(sink = %self.cx.name, answer, "delivery failed; retrying"),
            }
        }
    }

    /// Keeps dead letters for good; while that is not possible the sink holds. `false` when it stops before.
    pub async fn keep(&self, dead_letters: Vec<NewDeadLetter>) -> bool {
        if dead_letters.is_empty() {
            return true;
        }
        let mut stuck = None;
        loop {
            match self.dead_letters.append(dead_letters.clone()).await {
                Ok(()) => break,
                Err(refused) => self.say(&refused.to_string(), ComponentState::Held),
            }
            stuck.get_or_insert_with(|| Counted::new(&self.stuck));
            if !self.breaker.pause(Instant::now() + QUEUE_AGAIN).await {
                return false;
            }
        }
        if stuck.take().is_some() && self.breaker.is_closed() {
            self.show_state();
        }
        true
    }

    /// Counts a failed attempt.
    pub fn count(&self, class: &'static str, again: bool) {
        self.metrics.update(|counts| {
            *counts.errors.entry(class).or_default() += 1;
            counts.retries += u64::from(again);
        });
    }
}

/// Where events were taken: where the first and the last of them go, which shows it for those between; where an event was
/// refused ambiguously, all of them.
fn taken_at(sink: &Arc<dyn AnySink>, batch: &WriteBatch, failures: &[(usize, Failure)]) -> BTreeSet<Option<String>> {
    let failed: BTreeSet<usize> = failures.iter().map(|(index, _)| *index).collect();
    let mut taken = batch.events().enumerate().filter(|(index, _)| !failed.contains(index)).map(|(_, event)| event);
    if failures.iter().any(|(_, failure)| matches!(failure, Failure::Ambiguous { .. })) {
        return taken.map(|event| sink.destination(event)).collect();
    }
    let first = taken.next();
    [first, taken.last()].into_iter().flatten().map(|event| sink.destination(event)).collect()
}

/// Counts itself as long as it is there.
pub struct Counted<'a>(&'a AtomicUsize);

impl Counted<'_> {
    fn new(count: &AtomicUsize) -> Counted<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
