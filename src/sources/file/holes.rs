//! What a damaged journal has lost is read again, where the file is still there.

use std::ops::Range;
use std::time::Duration;

use tracing::{error, warn};

use super::identity::Identity;
use super::position::{self, BEGUN, Position};
use super::tail::Tail;
use crate::component::{JobStatus, Outcome};
use crate::journal::{self, Hole};

/// How long a full journal is left alone before holes are stated again.
const AGAIN: Duration = Duration::from_millis(200);

/// Scans that may miss a file before it counts as gone: a rename can hide it from one.
const SCANS: u64 = 3;

/// A file of which something is read again.
pub struct Again {
    hole: Hole,
    /// Lines that were taken again so far.
    lines: u64,
    is_missed: bool,
}

impl Tail {
    /// Takes over what the journal has lost: from now on the positions do not claim it, and it is read like anything
    /// that was never read. Before anything else is.
    pub async fn take_over_holes(&mut self) {
        for hole in self.cx.intake.holes() {
            let is_origin =
                |(_, file): &(&Identity, &position::Remembered)| position::origin_key(file.origin) == hole.origin;
            let identity = self.memory.iter().find(is_origin).map(|(identity, _)| *identity);
            loop {
                let mut marks = vec![hole.taken_over()];
                marks.extend(identity.into_iter().flat_map(|identity| self.reopen(identity, &hole.spans)));
                match self.state_alone(marks).await.verdict {
                    JobStatus::Full | JobStatus::Failed(_) => tokio::time::sleep(AGAIN).await,
                    _ => break,
                }
            }
            let Hole { words, seqs, events, .. } = &hole;
            let (spans, source) = (hole.all(), &self.cx.name);
            let bytes = length(&spans);
            let Some(identity) = identity else {
                error!(%source, origin = words, ?spans, bytes, first_seq = seqs.start, last_seq = seqs.end - 1, events,
                    "lines that the damaged journal has lost cannot be read again: their file is not known any more");
                continue;
            };
            warn!(%source, origin = words, ?spans, bytes, first_seq = seqs.start, last_seq = seqs.end - 1, events,
                "lines that the damaged journal has lost are read again");
            if let Some(file) = self.memory.get_mut(&identity) {
                file.slots = 0;
            }
            self.again.insert(identity, Again { hole, lines: 0, is_missed: false });
        }
    }

    /// What to state so that these ranges of a file are not claimed any more.
    fn reopen(&mut self, identity: Identity, spans: &[Range<u64>]) -> Vec<journal::Position> {
        let Some(file) = self.memory.get_mut(&identity) else { return Vec::new() };
        file.ledger.reopen(spans);
        let position = Position {
            generation: file.generation,
            origin: file.origin,
            statement: file.ledger.statement(),
            head: file.head,
            place: file.place,
            place_at: file.place_at,
            since: file.since,
            family: file.family.clone(),
        };
        let state =
            |slot, value| journal::Position { source: self.cx.name.clone(), key: position::key(identity, slot), value };
        let forget = (0..file.slots).map(|slot| state(slot, bytes::Bytes::new()));
        forget.chain([state(BEGUN, position.encode())]).collect()
    }

    /// Hears that a piece was taken.
    pub(super) fn note_again(&mut self, identity: Identity, span: &Range<u64>, outcome: &Outcome) {
        let Some(again) = self.again.get_mut(&identity) else { return };
        let is_part = |hole: &Range<u64>| hole.start < span.end && span.start < hole.end;
        let spans = again.hole.all();
        if spans.iter().any(is_part) {
            again.lines += outcome.accepted + outcome.refused.len() as u64;
        }
        let end = spans.last().map_or(0, |last| last.end);
        if self.files.get(&identity).is_some_and(|file| file.ledger.done() >= end)
            && let Some(Again { hole, lines, .. }) = self.again.remove(&identity)
        {
            warn!(source = %self.cx.name, origin = hole.words, lines, bytes = length(&spans), events = hole.events,
                "lines that the damaged journal had lost were read again");
        }
    }

    /// Says of which files nothing can be read again because they are gone.
    pub(super) fn miss_again(&mut self) {
        let (scan, source) = (self.scan, &self.cx.name);
        let is_gone = |identity: &Identity| match self.files.get(identity) {
            None => scan >= SCANS,
            Some(file) => file.body.is_none() && file.is_missed(scan, SCANS),
        };
        for (identity, again) in self.again.iter_mut().filter(|(identity, again)| !again.is_missed && is_gone(identity))
        {
            again.is_missed = true;
            let Hole { words, seqs, events, .. } = &again.hole;
            let spans = again.hole.all();
            self.cx.intake.lost_bytes(length(&spans));
            error!(%source, origin = words, inode = identity.inode, ?spans, bytes = length(&spans),
                first_seq = seqs.start, last_seq = seqs.end - 1, events,
                "lines that the damaged journal has lost cannot be read again: the file is gone");
        }
    }
}

fn length(spans: &[Range<u64>]) -> u64 {
    spans.iter().map(|span| span.end - span.start).sum()
}
