//! The wiring as a source sees it: jobs are decoded, run through the flow and committed on the data threads.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::flow::{Broken, Flow, Yield};
use super::pool::Pool;
use crate::codec::redaction::Engine;
use crate::codec::{Decoded, Limits, Refusal, stamp};
use crate::component::{Intake, Job, OnBad, Outcome, Receipt, RoomError, Verdict, Wait};
use crate::event::Provenance;
use crate::journal::dead_letters::{DeadLetters, LetterKind, NewLetter};
use crate::journal::{self, AppendError, Commit, IdempotencyKey, Journal, KeyMatch, Room, Ticket};
use crate::telemetry::{Counts, Ledger, State};
use crate::units::Timestamp;

/// What all sources share.
pub struct Commons {
    pub journal: Journal,
    pub pool: Pool,
    pub dead_letters: Arc<DeadLetters>,
    /// Built-in rules, for raw text that goes to the dead-letter queue.
    pub redactor: Arc<Engine>,
    pub limits: Limits,
    pub runtime: Handle,
    keys_in_flight: Mutex<HashSet<[u8; 16]>>,
}

impl Commons {
    pub fn new(
        journal: Journal,
        pool: Pool,
        dead_letters: Arc<DeadLetters>,
        redactor: Arc<Engine>,
        limits: Limits,
    ) -> Commons {
        let runtime = Handle::current();
        Commons { journal, pool, dead_letters, redactor, limits, runtime, keys_in_flight: Mutex::default() }
    }
}

/// One source's side of the wiring. The flow behind it may be exchanged while jobs run.
#[derive(Clone)]
pub struct SourceIntake {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    ledger: Arc<Ledger>,
    flow: RwLock<Arc<Flow>>,
    commons: Arc<Commons>,
    ready: tokio::sync::watch::Sender<bool>,
}

impl SourceIntake {
    pub fn new(name: Arc<str>, ledger: Arc<Ledger>, flow: Arc<Flow>, commons: Arc<Commons>) -> SourceIntake {
        let ready = tokio::sync::watch::Sender::new(false);
        SourceIntake { inner: Arc::new(Inner { name, ledger, flow: RwLock::new(flow), commons, ready }) }
    }

    /// Jobs handed in from now on run through this flow.
    pub fn exchange(&self, flow: Arc<Flow>) {
        *self.inner.flow.write().unwrap_or_else(PoisonError::into_inner) = flow;
    }

    /// Becomes true when the source listens or reads.
    pub fn readiness(&self) -> tokio::sync::watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }
}

impl Inner {
    fn flow(&self) -> Arc<Flow> {
        self.flow.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Intake for SourceIntake {
    fn ready(&self) {
        self.inner.ledger.enter(State::Running);
        self.inner.ready.send_replace(true);
    }

    fn room(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Result<Room, RoomError>> + Send + '_>> {
        Box::pin(async move {
            let streams = self.inner.flow().streams();
            self.inner.commons.journal.room(bytes, &streams).await.map_err(same)
        })
    }

    fn try_room(&self, bytes: usize) -> Result<Room, RoomError> {
        self.inner.commons.journal.try_room(bytes, &self.inner.flow().streams()).map_err(same)
    }

    fn submit(&self, job: Job) -> Receipt {
        let (answer, receipt) = oneshot::channel();
        let inner = self.inner.clone();
        self.inner.commons.pool.push(|| {
            let ticket = inner.commons.journal.ticket();
            Box::new(move || run(&inner, job, ticket, answer))
        });
        Receipt(receipt)
    }

    fn positions(&self) -> Vec<(Bytes, Bytes)> {
        self.inner.commons.journal.positions(&self.inner.name)
    }

    fn received_bytes(&self, bytes: u64) {
        self.inner.ledger.update(|counts| counts.bytes_received += bytes);
    }

    fn refused(&self, items: u64) {
        self.inner.ledger.update(|counts| {
            counts.received += items;
            counts.refused += items;
        });
    }

    fn auth_failure(&self) {
        self.inner.ledger.update(|counts| counts.auth_failures += 1);
    }

    fn trouble(&self, message: Option<String>) {
        match message {
            Some(message) => {
                self.inner.ledger.enter(State::Retrying);
                self.inner.ledger.error(message);
            }
            None => drop(self.inner.ledger.enter(State::Running)),
        }
    }
}

fn same(error: journal::RoomError) -> RoomError {
    match error {
        journal::RoomError::Full => RoomError::Full,
        journal::RoomError::Closed => RoomError::Closed,
    }
}

/// What a job has come to before it is committed.
struct Work {
    result: Yield,
    refused: Vec<Refusal>,
    /// What the source adds to its books once the job is committed.
    counts: Counts,
    accepted: u64,
}

fn run(inner: &Arc<Inner>, job: Job, ticket: Ticket, answer: oneshot::Sender<Outcome>) {
    let held = match job.key.map(|key| hold_key(inner, key)) {
        None => None,
        Some(Ok(held)) => Some(held),
        Some(Err(outcome)) => return say(answer, outcome),
    };
    let flow = inner.flow();
    let Some(work) = process(inner, &flow, &job) else {
        return say(answer, rejected(decode(inner, &flow, &job).into_iter().flat_map(|d| d.refused).collect()));
    };
    if let Err(verdict) = bury(inner, &flow, &job, &work) {
        return say(answer, Outcome { verdict, accepted: 0, refused: work.refused });
    }
    let key = job.key.map(|key| (key, work.accepted));
    let Work { result, refused, counts, accepted } = work;
    let deltas = Deltas { flow, of_source: counts, of_nodes: result.deltas };
    let outcome = Outcome { verdict: Verdict::Done, accepted, refused };
    if result.entries.is_empty() && job.marks.is_empty() && key.is_none() {
        deltas.enter(inner);
        return say(answer, outcome);
    }
    let receipt = ticket.commit(Commit {
        entries: result.entries,
        positions: job.marks,
        received_at: job.provenance.received_at,
        key,
        room: job.room,
    });
    let (answer, outcome) = match job.wait {
        Wait::None => (None, drop(answer.send(outcome))),
        _ => (Some((answer, outcome)), ()),
    };
    let () = outcome;
    let (inner, wait) = (inner.clone(), job.wait);
    inner.commons.runtime.clone().spawn(async move {
        let verdict = settle(&inner, receipt, wait, deltas).await;
        drop(held);
        if let Some((answer, outcome)) = answer {
            say(answer, match verdict {
                Verdict::Done => outcome,
                verdict => Outcome { verdict, accepted: 0, ..outcome },
            });
        }
    });
}

/// The sender may have left; what was accepted stays accepted.
fn say(answer: oneshot::Sender<Outcome>, outcome: Outcome) {
    drop(answer.send(outcome));
}

fn rejected(refused: Vec<Refusal>) -> Outcome {
    Outcome { verdict: Verdict::Rejected, accepted: 0, refused }
}

/// Decodes and runs the flow; `None` if something was bad and the job takes nothing then.
fn process(inner: &Inner, flow: &Flow, job: &Job) -> Option<Work> {
    match attempt(inner, flow, job, false) {
        Ok(work) => work,
        Err(Broken) => attempt(inner, flow, job, true).expect("a careful run does not break"),
    }
}

fn attempt(inner: &Inner, flow: &Flow, job: &Job, careful: bool) -> Result<Option<Work>, Broken> {
    let mut work =
        Work { result: flow.new_yield(), refused: Vec::new(), counts: Counts::default(), accepted: 0 };
    for decoded in decode(inner, flow, job) {
        if job.on_bad == OnBad::RejectAll && !decoded.refused.is_empty() {
            return Ok(None);
        }
        let Decoded { batch, refused, items: _ } = decoded;
        let (good, bad) = (batch.len() as u64, refused.len() as u64);
        work.counts.received += good + bad;
        work.counts.entered += good;
        match job.on_bad {
            OnBad::DeadLetter => work.counts.dead_lettered += bad,
            OnBad::Refuse | OnBad::RejectAll => work.counts.refused += bad,
        }
        work.accepted += good;
        work.refused.extend(refused);
        match careful {
            true => flow.run_carefully(&batch, &mut work.result),
            false => flow.run(batch, &mut work.result)?,
        }
    }
    work.counts.last_event = Some(Timestamp::now());
    Ok(Some(work))
}

/// All pieces of a job; indices of refusals count over the whole job.
fn decode(inner: &Inner, flow: &Flow, job: &Job) -> Vec<Decoded> {
    let split = flow.needs_fields() || job.provenance.stamp.is_some();
    let mut items = 0;
    let mut all = Vec::with_capacity(job.pieces.len());
    for piece in &job.pieces {
        let mut decoded = job.decoder.decode(
            piece.bytes.clone(),
            &piece.frames,
            piece.ordinals.clone(),
            job.provenance.clone(),
            &inner.commons.limits,
            split,
        );
        stamp::apply(&mut decoded.batch);
        decoded.refused.iter_mut().for_each(|refusal| refusal.index += items);
        items += decoded.items;
        all.push(decoded);
    }
    all
}

/// Puts dead events into the queue, synced, before the rest of the job is committed: they may come twice if the
/// commit fails, but never not at all.
fn bury(inner: &Inner, flow: &Flow, job: &Job, work: &Work) -> Result<(), Verdict> {
    let commons = &inner.commons;
    let redact = |text: &[u8]| flow.redact_text(commons.redactor.redact_text(text).0);
    let mut letters = Vec::new();
    if job.on_bad == OnBad::DeadLetter {
        letters.extend(work.refused.iter().map(|refusal| NewLetter {
            component: inner.name.clone(),
            kind: LetterKind::Source,
            line: redact(&refusal.text),
            reason: refusal.reason.clone(),
            answer: None,
            attempts: 1,
            origin: Some(origin(&job.provenance, refusal)),
            event_id: None,
        }));
    }
    letters.extend(work.result.dead.iter().map(|(node, dead)| NewLetter {
        component: flow.nodes[*node].name.clone(),
        kind: LetterKind::Transform,
        line: redact(&dead.line),
        reason: dead.reason.clone(),
        answer: None,
        attempts: 1,
        origin: None,
        event_id: None,
    }));
    if letters.is_empty() {
        return Ok(());
    }
    commons.dead_letters.append(letters).map_err(|error| match error {
        journal::dead_letters::AppendError::Full => Verdict::Full,
        other => Verdict::Failed(other.to_string()),
    })
}

fn origin(provenance: &Provenance, refusal: &Refusal) -> String {
    match &provenance.origin {
        Some(origin) => format!("{origin} at byte {}", refusal.offset),
        None => format!("item {}", refusal.index),
    }
}

/// What a job adds to the books of its source and its transforms, once it is sure.
struct Deltas {
    flow: Arc<Flow>,
    of_source: Counts,
    of_nodes: Vec<Counts>,
}

impl Deltas {
    fn enter(&self, inner: &Inner) {
        inner.ledger.update(|counts| counts.add(&self.of_source));
        for (node, delta) in self.flow.nodes.iter().zip(&self.of_nodes) {
            node.ledger.update(|counts| counts.add(delta));
        }
    }
}

/// Waits for what the job asked for and enters the books.
async fn settle(
    inner: &Inner,
    receipt: impl Future<Output = Result<std::ops::Range<u64>, AppendError>>,
    wait: Wait,
    deltas: Deltas,
) -> Verdict {
    let seqs = match receipt.await {
        Ok(seqs) => seqs,
        Err(AppendError::Full) => return Verdict::Full,
        Err(AppendError::Closed) => return Verdict::Failed("the agent stops".into()),
        Err(AppendError::Sync(error)) => {
            inner.ledger.update(|counts| *counts.errors.entry("journal").or_default() += 1);
            tracing::error!(source = %inner.name, error, "the journal could not sync; nothing was acknowledged");
            return Verdict::Failed(format!("the journal could not sync: {error}"));
        }
    };
    deltas.enter(inner);
    match wait {
        Wait::Delivered(patience) => delivered(&inner.commons.journal, seqs.end, patience).await,
        Wait::Journal | Wait::None => Verdict::Done,
    }
}

async fn delivered(journal: &Journal, end: u64, patience: Duration) -> Verdict {
    match tokio::time::timeout(patience, journal.delivered(end)).await {
        Ok(()) => Verdict::Done,
        Err(_) => Verdict::TimedOut,
    }
}

/// A key that is being used; given back when dropped.
struct HeldKey {
    commons: Arc<Commons>,
    key: [u8; 16],
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        self.commons.keys_in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Holds a key for this job, or says how the request was answered before.
fn hold_key(inner: &Inner, key: IdempotencyKey) -> Result<HeldKey, Outcome> {
    let outcome = |verdict, accepted| Outcome { verdict, accepted, refused: Vec::new() };
    let commons = &inner.commons;
    if !commons.keys_in_flight.lock().unwrap_or_else(PoisonError::into_inner).insert(key.key) {
        let reason = "a request with this Idempotency-Key is under way";
        return Err(outcome(Verdict::Failed(reason.into()), 0));
    }
    let held = HeldKey { commons: commons.clone(), key: key.key };
    match commons.journal.known_key(&key) {
        None => Ok(held),
        Some(KeyMatch::Same { accepted }) => {
            inner.ledger.update(|counts| counts.duplicates += accepted);
            Err(outcome(Verdict::Repeat, accepted))
        }
        Some(KeyMatch::OtherBody) => Err(outcome(Verdict::KeyConflict, 0)),
    }
}
