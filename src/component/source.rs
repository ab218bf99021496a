//! Sources split their input into chunks, submit them, and acknowledge what the outcome allows.

use std::any::Any;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::check::Check;
use super::failure::Fatal;
use crate::codec::{Decoder, Frames, Ordinals, Refusal};
use crate::event::Provenance;
use crate::journal::{IdempotencyKey, MemoryPermit, Position, ReserveError};
use crate::net::{Endpoint, Sockets};

/// The most bytes a chunk should have; a larger event is a chunk alone.
pub const CHUNK_BYTES: usize = 256 * 1024;

pub trait Source: Send + Sync + Sized + 'static {
    /// The word for `type:`.
    const TYPE: &'static str;
    /// Whether it reads its origins again from the positions it has stated: its successor begins once everything that
    /// was submitted has ended.
    const RESUMES: bool = false;
    type Config: DeserializeOwned + JsonSchema;
    /// What running takes hold of: sockets that listen, certificates and keys that are loaded.
    type Prepared: Send + 'static;

    /// Turns configuration into a source, or adds to the problems.
    fn build(config: Self::Config, check: &mut Check) -> Option<Self>;

    /// Where it listens: two sources on one address are refused before anything is bound.
    fn endpoints(&self) -> Vec<Endpoint> {
        Vec::new()
    }

    /// Files that its configuration names by path: what they hold belongs to the configuration.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Loads these files as `prepare` does, and touches nothing else. The error is for the operator.
    fn check_files(&self) -> Result<(), String> {
        Ok(())
    }

    /// Binds and loads everything that may fail at the start, while a predecessor still runs.
    fn prepare(&self, sockets: &Sockets) -> impl Future<Output = Result<Self::Prepared, Fatal>> + Send;

    /// Runs until `cx.shutdown` is cancelled; jobs submitted by then belong to the intake. A source that returns
    /// `Ok` before that has come to its end: nothing more will follow, and an agent without other sources may stop.
    /// Calls `cx.ready()` once it listens or reads. After an error it is prepared and run again.
    fn run(
        self: Arc<Self>,
        prepared: Self::Prepared,
        cx: SourceContext,
    ) -> impl Future<Output = Result<(), Fatal>> + Send;
}

/// What a source may use.
#[derive(Clone)]
pub struct SourceContext {
    /// Name of the component.
    pub name: Arc<str>,
    /// Name of this agent, part of the identity of files.
    pub agent: Arc<str>,
    pub intake: Arc<dyn Intake>,
    /// Cancelled when the source should take nothing more.
    pub shutdown: CancellationToken,
    /// Cancelled when the agent stops: what is under way is refused rather than begun.
    pub stopping: CancellationToken,
    /// Bytes that one event may have.
    pub event_bytes: usize,
    /// Whether the journal keeps events on disk, and so `positions`.
    pub durable: bool,
}

impl SourceContext {
    /// Tells that the source listens or reads.
    pub fn ready(&self) {
        self.intake.ready();
    }
}

/// The wiring as a source sees it: permits, positions, and where jobs are submitted.
pub trait Intake: Send + Sync {
    fn ready(&self);

    /// Waits until this many bytes may be taken into memory and the journal.
    fn reserve(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Result<MemoryPermit, ReserveError>> + Send + '_>>;

    /// The same at once, for those who answer "later" instead of waiting.
    fn try_reserve(&self, bytes: usize) -> Result<MemoryPermit, ReserveError>;

    /// Whether sinks would soon have to read from the disk what is in memory now. Who can wait without losing anything may
    /// wait a moment then.
    fn outpaces(&self) -> bool {
        false
    }

    /// Bytes that a source may have on their way to the journal, so that whoever is not outpaced stays so. Of interest to
    /// those who can wait.
    fn most_ahead(&self) -> u64 {
        u64::MAX
    }

    /// Submits a job. Jobs of one caller keep their order. The receipt resolves when the job's `wait` is met.
    fn submit(&self, job: Job) -> Receipt;

    /// The last position of each origin that this source has stated, as (key, value).
    fn positions(&self) -> Vec<(Bytes, Bytes)>;

    /// Tells the address that the source listens on, for those who ask the agent where to send.
    fn listening(&self, _address: &str) {}

    /// Counts bytes as they arrive.
    fn received_bytes(&self, bytes: u64);

    /// Counts items that were refused before they became a job (too large, not authorised is no item).
    fn refused(&self, items: u64);

    /// Counts a request that was refused as a whole.
    fn request_refused(&self, _reason: &'static str) {}

    /// Counts a connection that was refused before anything was read from it: `tls` or `proxy`.
    fn connection_failed(&self, _class: &'static str) {}

    /// Counts a failed authentication.
    fn auth_failure(&self);

    /// Counts a file that was cut back and begins anew.
    fn truncated(&self) {}

    /// Counts bytes that were there and went away before they could be read.
    fn lost_bytes(&self, _bytes: u64) {}

    /// Counts a file that is not read because of what it holds.
    fn file_skipped(&self, _reason: &'static str) {}

    /// Counts a packed file that is damaged, and the bytes of it that cannot be read.
    fn file_damaged(&self, _bytes: u64) {}

    /// State for health: `None` is fine, else what is wrong.
    fn trouble(&self, message: Option<String>);
}

/// What is committed together: all or nothing.
pub struct Job {
    pub chunks: Vec<Chunk>,
    pub decoder: Arc<dyn Decoder>,
    pub provenance: Arc<Provenance>,
    /// Stated with the events, so that they cannot disagree.
    pub marks: Marks,
    pub on_bad: OnBad,
    pub wait: Wait,
    /// A repeat of the same key and body is answered as the first time and adds nothing.
    pub key: Option<IdempotencyKey>,
    pub permit: Option<MemoryPermit>,
    /// Where the bytes came from in words (path of a file, address of a peer), for dead letters.
    pub origin: Option<Arc<str>>,
}

/// Bytes of whole frames, at most [`CHUNK_BYTES`] unless one frame is larger.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub bytes: Bytes,
    pub frames: Frames,
    pub ordinals: Ordinals,
}

pub type Marks = Vec<Position>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBad {
    /// Listed in the outcome, and gone.
    Refuse,
    /// To the dead-letter queue, redacted as text.
    DeadLetter,
    /// Nothing of the job is taken.
    RejectAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until the journal has synced (in memory mode: until delivered).
    Journal,
    /// Until every sink has ended the events, for so long at most.
    Delivered(Duration),
    /// Not at all.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// What was accepted is as safe as was asked for.
    Done,
    /// This key and body were accepted before; the counts are those of then.
    Repeat,
    /// This key was used with another body.
    KeyConflict,
    /// Nothing was taken because something was bad and the job rejects all then.
    Rejected,
    /// Nothing was taken: the journal or the disk is full.
    Full,
    /// Nothing was taken: the journal can never hold that much at once.
    TooLarge,
    /// Nothing is promised: the journal could not sync, or the agent stops.
    Failed(String),
    /// Taken, but not delivered in time.
    TimedOut,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: JobStatus,
    /// Events taken, those that a filter drops included.
    pub accepted: u64,
    pub refused: Vec<Refusal>,
}

/// Resolves to the outcome of a job.
pub struct Receipt(pub tokio::sync::oneshot::Receiver<Outcome>);

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Outcome> {
        Pin::new(&mut self.0).poll(cx).map(|answer| {
            answer.unwrap_or_else(|_| Outcome {
                status: JobStatus::Failed("the job was dropped without an outcome".into()),
                accepted: 0,
                refused: Vec::new(),
            })
        })
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fatal>> + Send + 'a>>;

/// The boxed form.
pub trait AnySource: Send + Sync {
    fn type_name(&self) -> &'static str;
    fn resumes(&self) -> bool;
    fn endpoints(&self) -> Vec<Endpoint>;
    fn files(&self) -> Vec<PathBuf>;
    fn check_files(&self) -> Result<(), String>;
    fn prepare<'a>(&'a self, sockets: &'a Sockets) -> Answer<'a, Prepared>;
    fn run(self: Arc<Self>, prepared: Prepared, cx: SourceContext) -> Answer<'static, ()>;
}

/// What one source has taken hold of.
pub struct Prepared(Box<dyn Any + Send>);

impl<S: Source> AnySource for S {
    fn type_name(&self) -> &'static str {
        S::TYPE
    }

    fn resumes(&self) -> bool {
        S::RESUMES
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        Source::endpoints(self)
    }

    fn files(&self) -> Vec<PathBuf> {
        Source::files(self)
    }

    fn check_files(&self) -> Result<(), String> {
        Source::check_files(self)
    }

    fn prepare<'a>(&'a self, sockets: &'a Sockets) -> Answer<'a, Prepared> {
        Box::pin(async move { Source::prepare(self, sockets).await.map(|prepared| Prepared(Box::new(prepared))) })
    }

    fn run(self: Arc<Self>, prepared: Prepared, cx: SourceContext) -> Answer<'static, ()> {
        let prepared = prepared.0.downcast::<S::Prepared>().expect("it was prepared by this source");
        Box::pin(Source::run(self, *prepared, cx))
    }
}
