//! Submits chunks with their positions to the journal, and handles the outcomes.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use tracing::{info, warn};

use super::content::Packing;
use super::followed::{Followed, Retry};
use super::identity::Identity;
use super::position::{self, BEGUN, PAST, Position, SOURCE};
use super::reader::Chunk;
use super::tail::Tail;
use crate::component::source::CHUNK_BYTES;
use crate::component::{self, Job, JobStatus, OnBad, Outcome, Wait};
use crate::event::{Provenance, Seed};
use crate::journal;
use crate::ranges::Claim;
use crate::units::Timestamp;

/// Positions that are forgotten with one job.
const MOST_MARKS: usize = 256;

/// Bytes without an outcome: twice what one file may have, which is enough for any disk.
pub const MOST_BYTES: u64 = 8 * 1024 * 1024;
/// A chunk for each of some threads, however little memory there is.
const LEAST_BYTES: u64 = 4 * CHUNK_BYTES as u64;

/// The most bytes without an outcome where so many may be on their way to the journal.
pub fn most_bytes(ahead: u64) -> u64 {
    MOST_BYTES.min(ahead).max(LEAST_BYTES)
}

/// A job without an outcome yet.
pub struct Submission {
    identity: Identity,
    generation: u32,
    slot: u8,
    span: Range<u64>,
    /// Positions of other files that it forgets or states.
    others: Vec<journal::Position>,
}

impl Submission {
    fn bytes(&self) -> u64 {
        self.span.end - self.span.start
    }
}

pub type Landing = Pin<Box<dyn Future<Output = (Submission, Outcome)> + Send>>;

impl Tail {
    /// Submits a chunk, with the position that says so.
    pub(super) fn hand_in(
        &mut self,
        file: &mut Followed,
        chunk: Chunk,
        permit: journal::MemoryPermit,
    ) -> std::io::Result<()> {
        self.say_notes(file, &chunk);
        let start = file.ranges.cursor();
        let (slot, statement) = file.ranges.take(chunk.end);
        // To look back in a packed file would mean to expand it again; its print stays where it is.
        if file.packing == Packing::None {
            // Behind the chunk there may be a range that was settled before.
            let before = if file.ranges.cursor() == chunk.end { chunk.as_in_file() } else { &[] };
            file.print_place(before)?;
        }
        file.slots = file.slots.max(slot + 1);
        let mark = self.mark(file, slot, statement);
        let others: Vec<journal::Position> = self.marks.drain(..self.marks.len().min(MOST_MARKS)).collect();
        let marks = others.iter().cloned().chain([mark]).collect();
        self.cx.intake.received_bytes(chunk.end - start);
        let provenance = Provenance {
            source: self.cx.name.clone(),
            seed: file.seed,
            received_at: Timestamp::now(),
            peer: None,
            stamp: file.stamp.clone(),
        };
        let submission =
            Submission { identity: file.identity, generation: file.generation, slot, span: start..chunk.end, others };
        let chunk = component::source::Chunk { bytes: chunk.bytes, frames: chunk.frames, ordinals: chunk.ordinals };
        self.submit(
            submission,
            vec![chunk],
            Arc::new(provenance),
            marks,
            Some(permit),
            Some(file.path.display().to_string().into()),
        );
        Ok(())
    }

    fn submit(
        &mut self,
        submission: Submission,
        chunks: Vec<component::source::Chunk>,
        provenance: Arc<Provenance>,
        marks: Vec<journal::Position>,
        permit: Option<journal::MemoryPermit>,
        origin: Option<Arc<str>>,
    ) {
        self.submitted_bytes += submission.bytes();
        let receipt = self.cx.intake.submit(self.job(chunks, provenance, marks, permit, origin));
        self.submissions.push(Box::pin(receipt.map(|outcome| (submission, outcome))));
    }

    fn job(
        &self,
        chunks: Vec<component::source::Chunk>,
        provenance: Arc<Provenance>,
        marks: Vec<journal::Position>,
        permit: Option<journal::MemoryPermit>,
        origin: Option<Arc<str>>,
    ) -> Job {
        Job {
            chunks,
            decoder: self.settings.decoder.clone(),
            provenance,
            marks,
            on_bad: OnBad::DeadLetter,
            wait: Wait::Journal,
            key: None,
            permit,
            origin,
        }
    }

    /// What the journal shall remember of a file.
    pub(super) fn mark(&self, file: &Followed, slot: u8, statement: Claim) -> journal::Position {
        let position = Position {
            generation: file.generation,
            origin: file.origin,
            statement,
            head: file.head,
            place: file.place,
            place_at: file.place_at,
            since: file.since,
            family: file.family.clone(),
        };
        journal::Position {
            source: self.cx.name.clone(),
            key: position::key(file.identity, slot),
            value: position.encode(),
        }
    }

    /// What the journal shall remember of the source itself.
    pub(super) fn mark_looking(&mut self) {
        let position = Position::looking(self.looks_since, &self.settings.patterns.print);
        let (source, key) = (self.cx.name.clone(), position::key(SOURCE, BEGUN));
        self.marks.push(journal::Position { source, key, value: position.encode() });
    }

    /// The provenance of positions that no events go with.
    fn nobody(&self) -> Provenance {
        Provenance {
            source: self.cx.name.clone(),
            seed: Seed::default(),
            received_at: Timestamp::now(),
            peer: None,
            stamp: None,
        }
    }

    /// States positions that no events go with, once nothing else is under way.
    pub(super) fn state_marks(&mut self) {
        if self.marks.is_empty() || !self.cx.durable {
            self.marks.clear();
            return;
        }
        let others: Vec<journal::Position> = self.marks.drain(..self.marks.len().min(MOST_MARKS)).collect();
        let submission = Submission { identity: SOURCE, generation: 0, slot: 0, span: 0..0, others: others.clone() };
        self.submit(submission, Vec::new(), Arc::new(self.nobody()), others, None, None);
    }

    /// Forgets a file: its positions go with the next job.
    pub(super) fn forget(&mut self, identity: Identity, slots: u8) {
        let source = &self.cx.name;
        let forget = |slot| journal::Position {
            source: source.clone(),
            key: position::key(identity, slot),
            value: Bytes::new(),
        };
        self.marks.extend((0..slots).chain([PAST, BEGUN]).map(forget));
    }

    /// Enters an outcome.
    pub(super) fn land(&mut self, submission: Submission, outcome: Outcome, now: Instant) {
        let bytes = submission.bytes();
        self.submitted_bytes -= bytes;
        let is_taken = match &outcome.status {
            JobStatus::Failed(reason) => {
                warn!(source = %self.cx.name, %reason, "reading a part of a file again");
                false
            }
            JobStatus::Full | JobStatus::TooLarge => false,
            _ => true,
        };
        if !is_taken {
            // Again, unless a file that was to be forgotten has come back.
            let is_due = |mark: &journal::Position| {
                let file = position::read_key(&mark.key).and_then(|identity| self.files.get(&identity));
                !mark.value.is_empty() || file.is_none()
            };
            self.marks.extend(submission.others.into_iter().filter(is_due));
        }
        let Some(file) = self.files.get_mut(&submission.identity) else { return };
        if submission.generation != file.generation {
            if !is_taken {
                warn!(source = %self.cx.name, path = %file.path.display(), bytes, "the file was truncated before lines could be read again");
                self.cx.intake.lost_bytes(bytes);
            }
            return;
        }
        if is_taken {
            file.retry = Retry::default();
        } else if file.retry.is_due(now) {
            file.retry.later(now);
        }
        if file.ranges.settle(submission.slot, is_taken) {
            (file.unfinished, file.scanned, file.is_spent) = (None, None, false);
            // The prints are those of the place furthest on; the file is read from further back now.
            file.looked_at = None;
        }
        // To look at each of many files that nobody writes to any more costs as much as to read it, since most are closed by
        // now. What is written to one that is open is seen by the next poll, else by the next scan.
        let is_done_with = file.packing == Packing::None && file.is_at_end() && file.is_at_rest();
        if !is_done_with || self.settings.removes {
            self.enqueue(submission.identity);
        }
    }

    fn say_notes(&self, file: &Followed, chunk: &Chunk) {
        let (path, offset) = (file.path.display(), file.ranges.cursor());
        if let Some(bytes) = chunk.notes.cut {
            warn!(source = %self.cx.name, %path, offset, bytes, "a line is too long and was truncated");
        }
        if chunk.notes.hole > 0 {
            warn!(source = %self.cx.name, %path, offset, bytes = chunk.notes.hole, "NUL bytes were skipped");
        }
        if chunk.notes.unfinished {
            info!(source = %self.cx.name, %path, offset, "the last line has no line break and was read as it is");
        }
    }
}
