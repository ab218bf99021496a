//! The intake given to a source: jobs are decoded, run through the flow and committed on the data threads.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::flow::{Beyond, Flow};
use super::pool::Pool;
use super::process::{Work, process, refusals};
use super::taps::{Redactor, Tapped, Taps};
use crate::codec::{Codec, Frames, Limits, Ordinals, Refusal};
use crate::component::{Chunk, Intake, Job, JobStatus, OnBad, Outcome, Receipt, Wait};
use crate::event::Provenance;
use crate::journal::dead_letters::{self, DeadLetter, DeadLetters, NewDeadLetter};
use crate::journal::{AppendError, Commit, Journal, KeyMatch, MemoryPermit, ReserveError, StreamId, Ticket};
use crate::telemetry::{ComponentKind, ComponentMetrics, ComponentState, Counts, Folding, panics};

/// Jobs up to this size are done on the caller's thread.
const SMALL_BYTES: usize = 4 * 1024;

/// What all sources share.
pub struct IntakeContext {
    pub journal: Journal,
    pub pool: Pool,
    pub dead_letters: DeadLetters,
    /// Built-in rules, for raw text that goes to the dead-letter queue. Made when first needed.
    pub redactor: Redactor,
    /// Those who watch what leaves a component.
    pub taps: Taps,
    pub limits: Limits,
    pub runtime: Handle,
}

/// One source's side of the wiring. The flow behind it may be exchanged while jobs run.
#[derive(Clone)]
pub struct SourceIntake {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    metrics: Arc<ComponentMetrics>,
    flow: RwLock<Arc<Flow>>,
    context: Arc<IntakeContext>,
    ready: tokio::sync::watch::Sender<bool>,
    /// Jobs that have not ended.
    jobs: TaskTracker,
    address: Mutex<Option<String>>,
    /// Refusals that were logged.
    refusals: Mutex<Folding>,
}

impl SourceIntake {
    pub fn new(
        name: Arc<str>,
        metrics: Arc<ComponentMetrics>,
        flow: Arc<Flow>,
        context: Arc<IntakeContext>,
    ) -> SourceIntake {
        let ready = tokio::sync::watch::Sender::new(false);
        SourceIntake {
            inner: Arc::new(Inner {
                name,
                metrics,
                flow: RwLock::new(flow),
                context,
                ready,
                jobs: TaskTracker::new(),
                address: Mutex::default(),
                refusals: Mutex::default(),
            }),
        }
    }

    /// Jobs submitted from now on run through this flow.
    pub fn exchange(&self, flow: Arc<Flow>) {
        *self.inner.flow.write().unwrap_or_else(PoisonError::into_inner) = flow;
    }

    pub fn name(&self) -> &Arc<str> {
        &self.inner.name
    }

    /// Where the source listens, if it does.
    pub fn address(&self) -> Option<String> {
        self.inner.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that one event may have.
    pub fn event_bytes(&self) -> usize {
        self.inner.context.limits.event_bytes
    }

    /// The source cannot continue.
    pub fn failed(&self, message: &str) {
        tracing::error!(source = %self.inner.name, error = message, "the source failed and is restarted");
        self.inner.metrics.error(message);
        self.inner.metrics.enter(ComponentState::Held);
    }

    /// The source takes nothing more.
    pub fn stopped(&self) {
        self.inner.metrics.enter(ComponentState::Stopped);
    }

    /// Whether this source's events come through that transform.
    pub fn leads_to(&self, transform: &str) -> bool {
        self.inner.flow().nodes.iter().any(|node| &*node.name == transform)
    }

    /// Resolves when everything that was submitted has ended. Nothing more is submitted by then.
    pub async fn idle(&self) {
        self.inner.jobs.close();
        self.inner.jobs.wait().await;
    }

    /// Becomes true when the source listens or reads.
    pub fn readiness(&self) -> tokio::sync::watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }
}

impl SourceIntake {
    /// Submits a job; its events begin at the transform of that name, or with all that follows the source.
    fn enter(&self, job: Job, at: Option<&str>) -> Receipt {
        let (answer, receipt) = oneshot::channel();
        let inner = self.inner.clone();
        let flow = match at {
            None => inner.flow(),
            Some(transform) => Arc::new(inner.flow().from(transform)),
        };
        let running = inner.jobs.token();
        if at.is_none() && is_small(&job) {
            let ticket = inner.context.journal.ticket();
            run_here(inner, Submitted { flow, job, ticket, answer, running });
            return Receipt(receipt);
        }
        self.inner.context.pool.push(|| {
            let ticket = inner.context.journal.ticket();
            Box::new(move || run(&inner, Submitted { flow, job, ticket, answer, running }))
        });
        Receipt(receipt)
    }

    /// Lets a dead letter enter again, here or at a transform behind.
    pub async fn reenter(&self, dead_letter: &DeadLetter, at: Option<&str>) -> Result<(), String> {
        let content = &dead_letter.content;
        let permit = self.reserve(content.body.len()).await.map_err(|_| "the agent stops".to_owned())?;
        let whole = 0..content.body.len();
        let provenance = Provenance {
            source: self.inner.name.clone(),
            seed: content.seed,
            received_at: content.received_at,
            peer: None,
            stamp: content.stamp.clone().map(Arc::new),
        };
        let outcome = self.enter(
            Job {
                chunks: vec![Chunk {
                    bytes: content.body.clone(),
                    frames: Frames::At(vec![whole]),
                    ordinals: Ordinals::Given(vec![content.ordinal]),
                }],
                decoder: Codec::Json.decoder().into(),
                provenance: Arc::new(provenance),
                marks: Vec::new(),
                on_bad: OnBad::Refuse,
                wait: Wait::Journal,
                key: None,
                permit: Some(permit),
                origin: content.origin.as_deref().map(Into::into),
            },
            at,
        );
        let outcome = outcome.await;
        match (outcome.status, outcome.refused.first()) {
            (JobStatus::Done, None) => Ok(()),
            (_, Some(refusal)) => Err(format!("refused again: {}", refusal.reason)),
            (status, None) => Err(format!("not accepted: {status:?}")),
        }
    }
}

impl Inner {
    fn flow(&self) -> Arc<Flow> {
        self.flow.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Intake for SourceIntake {
    fn ready(&self) {
        self.inner.metrics.enter(ComponentState::Running);
        self.inner.ready.send_replace(true);
    }

    fn reserve(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Result<MemoryPermit, ReserveError>> + Send + '_>> {
        Box::pin(async move {
            let flow = self.inner.flow();
            self.inner.context.journal.reserve(bytes, flow.reserved()).await
        })
    }

    fn try_reserve(&self, bytes: usize) -> Result<MemoryPermit, ReserveError> {
        self.inner.context.journal.try_reserve(bytes, self.inner.flow().reserved())
    }

    fn outpaces(&self) -> bool {
        self.inner.context.journal.outpaces()
    }

    fn most_ahead(&self) -> u64 {
        self.inner.context.journal.most_ahead()
    }

    fn submit(&self, job: Job) -> Receipt {
        self.enter(job, None)
    }

    fn positions(&self) -> Vec<(Bytes, Bytes)> {
        self.inner.context.journal.positions(&self.inner.name)
    }

    fn listening(&self, address: &str) {
        *self.inner.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.to_owned());
    }

    fn received_bytes(&self, bytes: u64) {
        self.inner.metrics.update(|counts| counts.bytes_received += bytes);
    }

    fn refused(&self, items: u64) {
        self.inner.metrics.update(|counts| {
            counts.received += items;
            counts.refused += items;
        });
    }

    fn request_refused(&self, reason: &'static str) {
        self.inner.metrics.update(|counts| *counts.requests_refused.entry(reason).or_default() += 1);
    }

    fn connection_failed(&self, class: &'static str) {
        self.inner.metrics.update(|counts| *counts.errors.entry(class).or_default() += 1);
    }

    fn auth_failure(&self) {
        self.inner.metrics.update(|counts| counts.auth_failures += 1);
    }

    fn truncated(&self) {
        self.inner.metrics.update(|counts| counts.truncations += 1);
    }

    fn lost_bytes(&self, bytes: u64) {
        self.inner.metrics.update(|counts| counts.bytes_lost += bytes);
    }

    fn file_skipped(&self, reason: &'static str) {
        self.inner.metrics.update(|counts| *counts.files_skipped.entry(reason).or_default() += 1);
    }

    fn file_damaged(&self, bytes: u64) {
        self.inner.metrics.update(|counts| {
            *counts.errors.entry("damaged").or_default() += 1;
            counts.bytes_lost += bytes;
        });
    }

    fn trouble(&self, message: Option<String>) {
        match message {
            Some(message) => {
                self.inner.metrics.enter(ComponentState::Retrying);
                self.inner.metrics.error(message);
            }
            None => drop(self.inner.metrics.enter(ComponentState::Running)),
        }
    }
}

/// A job on its way through the flow into the journal, and what is released when it has ended.
struct Submitted {
    flow: Arc<Flow>,
    job: Job,
    ticket: Ticket,
    answer: oneshot::Sender<Outcome>,
    running: TaskTrackerToken,
}

fn run(inner: &Arc<Inner>, submitted: Submitted) {
    let Submitted { flow, job, .. } = &submitted;
    if let Some(outcome) = known(inner, flow, job) {
        return say(submitted.answer, outcome);
    }
    match process(flow, job, &inner.context.limits) {
        Ok(work) => keep_and_commit(inner, submitted, work),
        Err(refused) => reject(inner, submitted, JobStatus::Rejected, refused),
    }
}

/// Takes nothing of a job.
fn reject(inner: &Inner, submitted: Submitted, status: JobStatus, refused: Vec<Refusal>) {
    log_refused(inner, &submitted.job, &refused);
    say(submitted.answer, outcome(status, 0, refused));
}

/// Puts what is dead into the queue, and commits the rest of a job.
fn keep_and_commit(inner: &Arc<Inner>, submitted: Submitted, work: Work) {
    match keep_dead_letters(inner, &submitted.flow, &submitted.job, &work) {
        Ok(()) => commit(inner, submitted, work),
        Err(status) => reject(inner, submitted, status, work.refused),
    }
}

/// Whether a job is done sooner than another thread would be awake to do it. A key is looked up on the disk.
fn is_small(job: &Job) -> bool {
    job.key.is_none() && job.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>() <= SMALL_BYTES
}

/// Does a small job on the caller's thread, which must not wait: dead letters are written on a data thread.
fn run_here(inner: Arc<Inner>, submitted: Submitted) {
    let context = inner.context.clone();
    let here = panics::contain(|| match process(&submitted.flow, &submitted.job, &context.limits) {
        Err(refused) => reject(&inner, submitted, JobStatus::Rejected, refused),
        Ok(work) if has_dead_letters(&submitted.job, &work) => {
            context.pool.push(|| Box::new(move || keep_and_commit(&inner, submitted, work)))
        }
        Ok(work) => commit(&inner, submitted, work),
    });
    // What the job holds (ticket, receipt) is released by the unwinding itself.
    if let Err(panic) = here {
        tracing::error!(panic, "a job panicked; it is answered as failed");
    }
}

/// Commits what a job has come to, and answers once that is as safe as the job asked for.
fn commit(inner: &Arc<Inner>, submitted: Submitted, work: Work) {
    let Submitted { flow, job, ticket, answer, running } = submitted;
    log_refused(inner, &job, &work.refused);
    let Work { result, refused, counts, accepted } = work;
    // A key belongs to what was taken: a body of which nothing was usable may be corrected and sent again.
    let key = job.key.filter(|_| accepted + counts.dead_lettered > 0);
    let mut deltas = Deltas { flow, of_source: counts, of_nodes: result.deltas, tapped: result.tapped };
    let done = outcome(JobStatus::Done, accepted, refused);
    if result.entries.is_empty() && job.marks.is_empty() && key.is_none() {
        deltas.enter(inner);
        return say(answer, done);
    }
    let streams: Vec<StreamId> = result.entries.iter().map(|(stream, _)| *stream).collect();
    let commit = Commit {
        entries: result.entries,
        positions: job.marks,
        received_at: job.provenance.received_at,
        key,
        accepted: accepted.min(u64::from(u32::MAX)) as u32,
        permit: job.permit,
    };
    let mut reply = Some((answer, done));
    if job.wait == Wait::None
        && let Some((answer, done)) = reply.take()
    {
        say(answer, done);
    }
    let inner = inner.clone();
    match job.wait {
        // A task for each of many small jobs would cost as much as the job.
        Wait::Journal | Wait::None => ticket.commit_then(commit, move |appended| {
            let settled = entered(&inner, appended, &mut deltas).map_or_else(|failed| failed, |_| (JobStatus::Done, 0));
            conclude(settled, running, reply);
        }),
        Wait::Delivered(patience) => {
            let receipt = ticket.commit(commit);
            inner.context.runtime.clone().spawn(async move {
                let settled = match entered(&inner, receipt.await, &mut deltas) {
                    Ok(seqs) => (delivered(&inner, seqs.end, &streams, &deltas.flow.beyond, patience).await, 0),
                    Err(failed) => failed,
                };
                conclude(settled, running, reply);
            });
        }
    }
}

/// Ends a job, and answers those who still wait for it.
fn conclude(settled: (JobStatus, u64), running: TaskTrackerToken, reply: Option<(oneshot::Sender<Outcome>, Outcome)>) {
    drop(running);
    let Some((answer, done)) = reply else { return };
    say(
        answer,
        match settled {
            (JobStatus::Done, _) => done,
            (JobStatus::Repeat, accepted) => outcome(JobStatus::Repeat, accepted, done.refused),
            (status, _) => outcome(status, 0, done.refused),
        },
    );
}

/// Logs what a source refuses, and from whom. Dead letters are logged elsewhere.
fn log_refused(inner: &Inner, job: &Job, refused: &[Refusal]) {
    let Some(first) = refused.first().filter(|_| job.on_bad != OnBad::DeadLetter) else { return };
    let mut refusals = inner.refusals.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(earlier) = refusals.count(&inner.name, &first.reason, Instant::now()) else { return };
    let (peer, items) = (job.provenance.peer.map(tracing::field::display), refused.len());
    tracing::warn!(source = %inner.name, peer, reason = first.reason, items, earlier, "items were refused");
}

fn outcome(status: JobStatus, accepted: u64, refused: Vec<Refusal>) -> Outcome {
    Outcome { status, accepted, refused }
}

/// The outcome of a request whose key was used before.
fn known(inner: &Inner, flow: &Flow, job: &Job) -> Option<Outcome> {
    match inner.context.journal.known_key(job.key.as_ref()?) {
        Ok(None) => None,
        Ok(Some(known)) => {
            let (status, accepted) = repeated(inner, known);
            // The same body is refused in the same places: a client that lost the first answer gets it again.
            let again = status == JobStatus::Repeat;
            let refused = if again { refusals(flow, job, &inner.context.limits) } else { Vec::new() };
            Some(outcome(status, accepted, refused))
        }
        Err(error) => Some(outcome(JobStatus::Failed(format!("cannot look up the key: {error}")), 0, Vec::new())),
    }
}

fn repeated(inner: &Inner, known: KeyMatch) -> (JobStatus, u64) {
    match known {
        KeyMatch::Same { accepted } => {
            inner.metrics.update(|counts| counts.duplicates += u64::from(accepted));
            (JobStatus::Repeat, u64::from(accepted))
        }
        KeyMatch::OtherBody => (JobStatus::KeyConflict, 0),
    }
}

/// The sender may have left; what was accepted stays accepted.
fn say(answer: oneshot::Sender<Outcome>, outcome: Outcome) {
    drop(answer.send(outcome));
}

/// Whether some of a job goes to the dead-letter queue.
fn has_dead_letters(job: &Job, work: &Work) -> bool {
    (job.on_bad == OnBad::DeadLetter && !work.refused.is_empty()) || !work.result.dead.is_empty()
}

/// Puts dead events into the queue, synced, before the rest of the job is committed: they may come twice if the
/// commit fails, but never not at all.
fn keep_dead_letters(inner: &Inner, flow: &Flow, job: &Job, work: &Work) -> Result<(), JobStatus> {
    let context = &inner.context;
    let dead_letter = |component: &str, kind: ComponentKind, text: &[u8], ordinal, reason: &str| NewDeadLetter {
        component: component.to_owned(),
        kind,
        body: redacted(context, flow, text).into(),
        event_id: None,
        seed: job.provenance.seed,
        ordinal,
        seq: None,
        received_at: job.provenance.received_at,
        stamp: job.provenance.stamp.as_deref().cloned(),
        reason: reason.to_owned(),
        answer: String::new(),
        attempts: 1,
        origin: job.origin.as_ref().map(|origin| format!("{origin} at {ordinal}")),
        parked: None,
    };
    let mut dead_letters = Vec::new();
    if job.on_bad == OnBad::DeadLetter {
        dead_letters.extend(work.refused.iter().map(|refusal| {
            dead_letter(&inner.name, ComponentKind::Source, &refusal.text, refusal.offset, &refusal.reason)
        }));
    }
    dead_letters.extend(work.result.dead.iter().map(|(node, dead)| {
        let name = &flow.nodes[*node].name;
        dead_letter(name, ComponentKind::Transform, &dead.line, dead.ordinal, &dead.reason)
    }));
    if dead_letters.is_empty() {
        return Ok(());
    }
    context.runtime.block_on(context.dead_letters.append(dead_letters)).map_err(|refused| match refused {
        dead_letters::Refused::Full => JobStatus::Full,
        dead_letters::Refused::Failed(message) => JobStatus::Failed(message),
    })
}

/// Raw text without its secrets. Text that cannot be redacted is not kept.
pub(super) fn redacted(context: &IntakeContext, flow: &Flow, text: &[u8]) -> Vec<u8> {
    let cleaned = panics::contain(|| flow.redact_text(context.redactor.redact_text(text).0));
    cleaned.unwrap_or_else(|panic| {
        format!("[{} bytes that could not be redacted, a bug in weir: {panic}]", text.len()).into_bytes()
    })
}

/// What a job adds to the accounting of its source and its transforms, once it is sure.
struct Deltas {
    flow: Arc<Flow>,
    of_source: Counts,
    of_nodes: Vec<Counts>,
    tapped: Vec<Tapped>,
}

impl Deltas {
    fn enter(&mut self, inner: &Inner) {
        inner.metrics.update(|counts| counts.add(&self.of_source));
        self.flow.settle(&self.of_nodes, std::mem::take(&mut self.tapped));
    }
}

/// Enters what was appended into the accounting; else says how the job ends. The number is what a repeat is answered with.
fn entered(
    inner: &Inner,
    appended: Result<Range<u64>, AppendError>,
    deltas: &mut Deltas,
) -> Result<Range<u64>, (JobStatus, u64)> {
    let seqs = appended.map_err(|error| failed(inner, error))?;
    deltas.enter(inner);
    Ok(seqs)
}

fn failed(inner: &Inner, error: AppendError) -> (JobStatus, u64) {
    match error {
        AppendError::KnownKey(known) => repeated(inner, known),
        AppendError::Full => (JobStatus::Full, 0),
        AppendError::TooLarge => (JobStatus::TooLarge, 0),
        AppendError::Sync(_) => {
            inner.metrics.update(|counts| *counts.errors.entry("journal").or_default() += 1);
            tracing::debug!(source = %inner.name, %error, "nothing was acknowledged");
            (JobStatus::Failed(error.to_string()), 0)
        }
        other => (JobStatus::Failed(other.to_string()), 0),
    }
}

async fn delivered(inner: &Inner, end: u64, streams: &[StreamId], beyond: &Beyond, patience: Duration) -> JobStatus {
    let journal = &inner.context.journal;
    let all = async {
        journal.delivered(end, streams).await;
        // What a stage has taken, it has given or holds; what it has given has to be delivered too.
        if streams.iter().any(|stream| beyond.inputs.contains(stream)) {
            for _ in 0..beyond.depth {
                journal.delivered(journal.stats().synced_seq, &beyond.streams).await;
            }
        }
    };
    match tokio::time::timeout(patience, all).await {
        Ok(()) => JobStatus::Done,
        Err(_) => JobStatus::TimedOut,
    }
}
