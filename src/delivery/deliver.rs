//! Delivers one batch until each of its events is written, parked or a dead letter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::circuit_breaker::Permit;
use super::connection::{Counted, SinkConnection};
use super::in_flight::{AttemptError, Circumstances, InFlight, Next, Poisoned, Refused, Unsent};
use super::window::Held;
use crate::component::{AnySink, BatchEvent, Failure, Written};
use crate::journal::dead_letters::NewDeadLetter;
use crate::telemetry::{ComponentKind, ComponentState};
use crate::units::Timestamp;

/// A partial failure that lasts this many attempts shows in health.
const SHOWN_AFTER: u32 = 3;

/// Events that become too old one after the other are given up together.
const EXPIRY_STEP: Duration = Duration::from_millis(10);

/// What became of a batch.
#[derive(Debug)]
#[must_use]
pub struct Outcome {
    pub delivered: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    /// Poison that was not to be kept.
    pub dropped: u64,
    /// Taken by the target and not kept, by a rule of its own.
    pub discarded: u64,
    /// Of these, events whose id the target has with other content.
    pub conflicts: u64,
    /// Too old to be written when their turn came.
    pub expired: u64,
    /// By destination, with what it said last.
    pub parked: BTreeMap<String, (u64, String)>,
    pub duplicates: u64,
    pub bytes: u64,
    pub seq_end: u64,
    pub received_at: Timestamp,
    /// What the sink remembers with this batch written.
    pub memory: Option<Bytes>,
    pub took: Duration,
    pub pushed_back: bool,
}

/// Returns when every event has ended, or with `None` when the sink stops first: then none of them has.
pub async fn deliver(connection: Arc<SinkConnection>, mut in_flight: InFlight) -> Option<Outcome> {
    let (began, mut pushed_back) = (Instant::now(), false);
    // Held from one write to the next while it is not known whether the target works.
    let mut kept: Option<Permit<'_>> = None;
    let mut seeking: Option<Counted<'_>> = None;
    while !in_flight.is_done() {
        let permit = match kept.take() {
            Some(permit) => permit,
            None => match enter(&connection, &mut in_flight).await? {
                Some(permit) => permit,
                None => continue,
            },
        };
        let sink = match connection.sink().await {
            Ok(sink) => sink,
            Err(failure) => {
                connection.count(AttemptError::Write(failure.clone()).class(), true);
                not_opened(&connection, permit, failure);
                continue;
            }
        };
        if let Some(age) = connection.policy.max_age {
            in_flight.expire(Timestamp::now().minus(age));
        }
        if connection.lock().window.is_held() {
            in_flight.probe();
        }
        let now = connection.lock().evidence.now();
        let Some(unsent) = in_flight.take(now) else { break };
        match connection.attempt(&sink, &unsent).await {
            Ok(written) => {
                connection.note_taken(&sink, &unsent.batch, &[]);
                in_flight.wrote(&unsent, written);
                connection.works(permit);
                seeking = None;
            }
            Err(error) => match failed(&connection, &sink, &mut in_flight, unsent, error) {
                Next::GoOn => {
                    if !connection.lock().window.is_held() {
                        connection.works(permit);
                    }
                    seeking = None;
                }
                Next::Split => kept = Some(permit),
                Next::Hold { answer, alone } => {
                    pushed_back = true;
                    connection.held(permit, &answer);
                    seeking = alone.then(|| connection.seek());
                }
                Next::Wait { answer, after, whole: true, .. } => {
                    pushed_back = true;
                    connection.struggles(permit, &answer, after);
                }
                Next::Wait { answer, after, attempts, whole: false } => {
                    pushed_back = true;
                    // The target works; only these events have to wait.
                    drop(permit);
                    wait_for_some(&connection, &answer, after, attempts).await?;
                }
            },
        }
    }
    drop((kept, seeking));
    finish(&connection, in_flight, began.elapsed(), pushed_back).await
}

/// Waits for permission to write. Meanwhile what becomes too old is given up, where there is such a bound, also while the
/// sink cannot be reached at all. Without a permit nothing is left to be written.
async fn enter<'c>(connection: &'c SinkConnection, in_flight: &mut InFlight) -> Option<Option<Permit<'c>>> {
    let permit = connection.breaker.enter();
    tokio::pin!(permit);
    let Some(age) = connection.policy.max_age else { return permit.await.map(Some) };
    loop {
        let now = Timestamp::now();
        in_flight.expire(now.minus(age));
        let Some(oldest) = in_flight.oldest() else { return Some(None) };
        let left = Duration::from_micros(u64::try_from(oldest.plus(age).0 - now.0).unwrap_or(0));
        tokio::select! {
            permit = &mut permit => return permit.map(Some),
            () = tokio::time::sleep(left + EXPIRY_STEP) => {}
        }
    }
}

/// Opens the sink, however long it takes; `None` when it stops before.
pub async fn open(connection: &SinkConnection) -> Option<Arc<dyn AnySink>> {
    loop {
        let permit = connection.breaker.enter().await?;
        match connection.sink().await {
            Ok(sink) => {
                connection.works(permit);
                return Some(sink);
            }
            Err(failure) => {
                connection.count(AttemptError::Write(failure.clone()).class(), true);
                not_opened(connection, permit, failure);
            }
        }
    }
}

pub fn not_opened(connection: &SinkConnection, permit: Permit<'_>, failure: Failure) {
    match failure {
        Failure::Transient { answer, after } => connection.struggles(permit, &answer, after),
        Failure::Configuration { answer }
        | Failure::Ambiguous { answer }
        | Failure::Poison { answer }
        | Failure::Suspect { answer } => connection.held(permit, &answer),
        Failure::Some(..) => connection.held(permit, "the sink reports failures of events while it is opened"),
    }
}

/// What to do after a failed attempt.
fn failed(
    connection: &SinkConnection,
    sink: &Arc<dyn AnySink>,
    in_flight: &mut InFlight,
    unsent: Unsent,
    error: AttemptError,
) -> Next {
    let class = error.class();
    if matches!(error, AttemptError::Panicked(_)) {
        connection.forget_sink();
    }
    let (poison_before, delivered_before) = (in_flight.poison.len(), in_flight.delivered);
    let next = classify(connection, sink, in_flight, unsent, error, connection.policy.retry.attempts.map(Into::into));
    let next = match in_flight.take_refused() {
        refused if refused.is_empty() => next,
        refused => park_or_hold(connection, sink, in_flight, refused, next, delivered_before),
    };
    connection.count(class, matches!(next, Next::Wait { .. } | Next::Hold { .. }));
    let outcomes = in_flight.outcomes();
    if in_flight.poison.len() > poison_before && outcomes.poison > 0 {
        let mut inner = connection.lock();
        let none_taken = in_flight.is_done() && Some(inner.evidence.now()) == in_flight.began;
        let last = in_flight.poison.last().map_or("", |poisoned| &*poisoned.answer);
        if let Some(why) = inner.window.holds(outcomes, none_taken) {
            let answer = format!("{}: {last}", why.reason());
            in_flight.reopen();
            return Next::Hold { answer, alone: why == Held::AllRefused };
        }
    }
    next
}

/// What a failed attempt means for its events, by what was taken before.
pub fn classify(
    connection: &SinkConnection,
    sink: &Arc<dyn AnySink>,
    in_flight: &mut InFlight,
    unsent: Unsent,
    error: AttemptError,
    most_attempts: Option<u32>,
) -> Next {
    if let AttemptError::Write(Failure::Some(failures, _)) = &error
        && failures.iter().all(|(index, _)| *index < unsent.batch.len())
    {
        connection.note_taken(sink, &unsent.batch, failures);
    }
    let mut inner = connection.lock();
    let destination = |event: BatchEvent<'_>| sink.destination(event);
    let mut cx = Circumstances { most_attempts, evidence: &mut inner.evidence, destination: &destination };
    in_flight.failed(unsent, error, &mut cx)
}

/// Waits before only some events are written again; `None` when the sink stops.
async fn wait_for_some(
    connection: &SinkConnection,
    answer: &str,
    after: Option<Duration>,
    attempts: u32,
) -> Option<()> {
    connection.metrics.error(answer);
    if attempts >= SHOWN_AFTER {
        connection.say(answer, ComponentState::Retrying);
    }
    let wait = connection.policy.retry.wait_or_asked(after, attempts, connection.chance());
    connection.breaker.pause(Instant::now() + wait).await.then_some(())
}

/// Parks refused events if the fault is their destinations' own; if not, they are written again once the sink works.
fn park_or_hold(
    connection: &SinkConnection,
    sink: &Arc<dyn AnySink>,
    in_flight: &mut InFlight,
    refused: Vec<Refused>,
    next: Next,
    delivered_before: u64,
) -> Next {
    let destinations: Option<Vec<String>> =
        refused.iter().map(|event| sink.destination(event.batch.event(0))).collect();
    let others_taken = in_flight.delivered > delivered_before;
    if let Some(destinations) = destinations
        && connection.may_park(&destinations, others_taken)
    {
        in_flight.parked.extend(destinations.into_iter().zip(refused));
        return next;
    }
    let answer = refused[0].answer.clone();
    let alone = in_flight.is_done();
    in_flight.put_back_refused(refused);
    // What only waits is tried first.
    if next == Next::GoOn { Next::Hold { answer, alone } } else { next }
}

async fn finish(
    connection: &SinkConnection,
    in_flight: InFlight,
    took: Duration,
    pushed_back: bool,
) -> Option<Outcome> {
    let poisoned = in_flight.poison.len() as u64;
    let (dead_lettered, dropped) = if connection.policy.dead_letter { (poisoned, 0) } else { (0, poisoned) };
    let mut dead_letters: Vec<NewDeadLetter> = Vec::new();
    if connection.policy.dead_letter {
        dead_letters
            .extend(in_flight.poison.iter().map(|poisoned| dead_letter_of(&connection.cx.name, poisoned, None)));
    }
    let mut parked: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for (destination, Refused { batch, answer, attempts, .. }) in &in_flight.parked {
        let reason = "refused by its destination";
        let event = Poisoned { batch: batch.clone(), reason, answer: answer.clone(), attempts: *attempts };
        dead_letters.push(dead_letter_of(&connection.cx.name, &event, Some(destination.clone())));
        let lot = parked.entry(destination.clone()).or_default();
        *lot = (lot.0 + 1, answer.clone());
    }
    connection.lock().window.note(in_flight.outcomes());
    if !connection.keep(dead_letters).await {
        return None;
    }
    let pending = &in_flight.pending;
    let ended =
        in_flight.delivered + in_flight.discarded + in_flight.expired + poisoned + in_flight.parked.len() as u64;
    debug_assert_eq!(ended, pending.batch.len() as u64, "each event ends in one place");
    Some(Outcome {
        delivered: in_flight.delivered,
        filtered: pending.filtered,
        dead_lettered,
        dropped,
        discarded: in_flight.discarded,
        conflicts: in_flight.conflicts,
        expired: in_flight.expired + pending.expired,
        parked,
        duplicates: in_flight.duplicates,
        bytes: in_flight.bytes,
        seq_end: pending.seq_end,
        received_at: pending.received_at,
        memory: connection.lock().memory.as_ref().map(|(_, memory)| memory.clone()),
        took,
        pushed_back,
    })
}

/// An event as a dead letter: final, or parked.
pub fn dead_letter_of(component: &str, poisoned: &Poisoned, parked: Option<String>) -> NewDeadLetter {
    let event = poisoned.batch.event(0);
    let (seed, ordinal) = event.record.lines.origins.at(event.index);
    NewDeadLetter {
        component: component.to_owned(),
        kind: ComponentKind::Sink,
        body: Bytes::copy_from_slice(event.line()),
        event_id: Some(event.id()),
        seed,
        ordinal,
        seq: Some(event.seq()),
        received_at: event.record.received_at,
        stamp: None,
        reason: poisoned.reason.to_owned(),
        answer: poisoned.answer.clone(),
        attempts: poisoned.attempts,
        origin: None,
        parked,
    }
}

/// Writes a batch once, without patience: for the replay of a dead letter.
pub async fn once(connection: &SinkConnection, unsent: Unsent) -> Result<Written, String> {
    if !connection.breaker.is_closed() {
        return Err(format!("`{}` is not delivering at the moment", connection.cx.name));
    }
    let permit = connection.breaker.enter().await.ok_or("the sink stops")?;
    let sink: Arc<dyn AnySink> = match connection.sink().await {
        Ok(sink) => sink,
        Err(failure) => {
            let answer = failure.answer().to_owned();
            not_opened(connection, permit, failure);
            return Err(answer);
        }
    };
    match connection.attempt(&sink, &unsent).await {
        Ok(written) => {
            connection.note_taken(&sink, &unsent.batch, &[]);
            connection.works(permit);
            Ok(written)
        }
        Err(error) => {
            connection.count(error.class(), false);
            Err(error.to_string())
        }
    }
}
