//! A lane whose origin cannot be read again: it keeps what it submitted until the outcome, to submit it again if needed.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::codec::Decoder;
use crate::component::{Chunk, Job, JobStatus, OnBad, Receipt, SourceContext, Wait};
use crate::event::{Provenance, Seed, Stamp};
use crate::journal::MemoryPermit;
use crate::units::Timestamp;

/// Jobs of one lane without an outcome; further ones wait.
pub const MOST_IN_FLIGHT: usize = 16;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The agent stops: nothing more is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// What all events of a lane have in common.
#[derive(Clone, Debug)]
pub struct Origin {
    pub seed: Seed,
    pub peer: Option<IpAddr>,
    pub stamp: Option<Arc<Stamp>>,
    /// The origin in words, for dead letters.
    pub words: Option<Arc<str>>,
}

impl Origin {
    /// An origin that cannot be read again, such as a connection.
    pub fn passing(peer: Option<IpAddr>, words: impl Into<Arc<str>>) -> Origin {
        Origin { seed: Seed::random(), peer, stamp: None, words: Some(words.into()) }
    }
}

/// Submits chunks in order, a bounded number at a time.
pub struct Lane {
    cx: SourceContext,
    decoder: Arc<dyn Decoder>,
    origin: Origin,
    submissions: FuturesUnordered<Submission>,
}

type Submission = Pin<Box<dyn Future<Output = Result<(), Closed>> + Send>>;

/// What is kept until its outcome is known; it shares the submitted bytes.
struct Kept {
    cx: SourceContext,
    decoder: Arc<dyn Decoder>,
    chunk: Chunk,
    provenance: Arc<Provenance>,
    words: Option<Arc<str>>,
}

impl Lane {
    pub fn new(cx: SourceContext, decoder: Arc<dyn Decoder>, origin: Origin) -> Lane {
        Lane { cx, decoder, origin, submissions: FuturesUnordered::new() }
    }

    /// Waits until one more chunk of this size may be taken.
    pub async fn reserve(&mut self, bytes: usize) -> Result<MemoryPermit, Closed> {
        while self.submissions.len() >= MOST_IN_FLIGHT {
            self.submissions.next().await.unwrap_or(Ok(()))?;
        }
        // While this lane waits for memory, its own failed chunks must be able to proceed.
        let permit = self.cx.intake.reserve(bytes);
        tokio::pin!(permit);
        loop {
            tokio::select! {
                // What has been received is taken before a stop is looked at.
                biased;
                permit = &mut permit => return permit.map_err(|_| Closed),
                settled = self.submissions.next(), if !self.submissions.is_empty() => settled.unwrap_or(Ok(()))?,
                () = self.cx.shutdown.cancelled() => return Err(Closed),
            }
        }
    }

    /// Says who sent the chunks that follow.
    pub fn set_peer(&mut self, peer: Option<IpAddr>) {
        self.origin.peer = peer;
    }

    /// Submits a chunk.
    pub fn submit(&mut self, chunk: Chunk, permit: MemoryPermit) {
        let provenance = Arc::new(Provenance {
            source: self.cx.name.clone(),
            seed: self.origin.seed,
            received_at: Timestamp::now(),
            peer: self.origin.peer,
            stamp: self.origin.stamp.clone(),
        });
        let kept = Kept {
            cx: self.cx.clone(),
            decoder: self.decoder.clone(),
            chunk,
            provenance,
            words: self.origin.words.clone(),
        };
        let receipt = kept.submit(permit);
        self.submissions.push(Box::pin(kept.until_taken(receipt)));
    }

    /// Waits for the next chunk to be taken; for ever if none is in flight. May be cancelled.
    pub async fn settled(&mut self) -> Result<(), Closed> {
        match self.submissions.next().await {
            Some(settled) => settled,
            None => std::future::pending().await,
        }
    }

    /// Waits until everything that was submitted is taken.
    pub async fn drain(&mut self) -> Result<(), Closed> {
        while let Some(settled) = self.submissions.next().await {
            settled?;
        }
        Ok(())
    }
}

impl Kept {
    fn submit(&self, permit: MemoryPermit) -> Receipt {
        self.cx.intake.submit(Job {
            chunks: vec![self.chunk.clone()],
            decoder: self.decoder.clone(),
            provenance: self.provenance.clone(),
            marks: Vec::new(),
            on_bad: OnBad::DeadLetter,
            wait: Wait::Journal,
            key: None,
            permit: Some(permit),
            origin: self.words.clone(),
        })
    }

    /// The ids stay the same, so a chunk that was taken after all does no harm where ids are keys.
    async fn until_taken(self, mut receipt: Receipt) -> Result<(), Closed> {
        let mut pause = FIRST_PAUSE;
        loop {
            match (&mut receipt).await.status {
                JobStatus::Failed(reason) => {
                    tracing::warn!(source = %self.cx.name, %reason, "submitting a chunk again")
                }
                JobStatus::Full | JobStatus::TooLarge => {}
                _ => return Ok(()),
            }
            let again = async {
                tokio::time::sleep(pause).await;
                self.cx.intake.reserve(self.chunk.bytes.len()).await
            };
            let permit = tokio::select! {
                permit = again => permit.map_err(|_| Closed)?,
                () = self.cx.shutdown.cancelled() => return Err(Closed),
            };
            receipt = self.submit(permit);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
