//! The journal: one append-only log with a number for every event; everything downstream is a cursor over it.
//!
//! Who appends takes a permit of the memory budget for its bytes, then a [`Ticket`] for its place, and commits. A
//! writer thread gathers what is due in ticket order into records and writes them with one call; a second thread syncs
//! while the writer goes on; in memory mode who commits appends at once. A [`Receipt`] resolves after the sync, and no
//! [`Cursor`] or [`Reader`] sees an event before it.
//! What lies on disk, and what always holds about it, is written at the top of `format`.

mod appender;
mod at_once;
mod condition;
mod config;
mod cursor;
mod descriptors;
pub(crate) mod direct;
mod disk;
#[cfg(test)]
mod faults;
mod format;
pub mod fs;
mod gather;
mod handle;
mod housekeeping;
mod keys;
mod layout;
pub mod marks;
mod memory;
#[cfg(test)]
mod model;
mod packed;
mod packing;
pub(crate) mod pages;
#[cfg(test)]
mod plan_model;
mod positions;
mod recovery;
mod report;
mod segment;
#[cfg(test)]
mod sim;
mod slots;
mod space;
mod state;
#[cfg(test)]
pub(crate) mod stepped;
mod streams;
#[cfg(test)]
mod tests;
mod tier;
mod unpacked;
mod validate;
mod watermark;
mod writer;

pub mod dead_letters;

use std::sync::Arc;

use bytes::Bytes;

use crate::event::Lines;
use crate::units::Timestamp;

pub use condition::{Shortage, Trouble};
pub use config::{BufferBound, Codec, Mode, Options, Start, WhenFull};
pub use cursor::{Cursor, CursorError, CursorInfo, ReadError, Reader};
pub use handle::Journal;
pub use keys::KeyMatch;
pub use memory::{Full, MemoryPermit, ReserveError};
pub use recovery::{OpenError, holder};
pub use report::{Loss, RecoveryReport};
pub use state::Stats;
pub use streams::TooManyStreams;
pub use watermark::{Cause, Gap, Stored};
pub use writer::{AppendError, Receipt, Ticket};

/// The output of one component that at least one cursor reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct StreamId(pub u16);

/// Lines of one stream, gathered from one or more commits; the n-th event has `seq` `first_seq + n`.
/// Up to 256 KiB of lines, or a larger event alone; shared by all readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub stream: StreamId,
    pub first_seq: u64,
    /// Ordinal of the first event within its stream, counted since the journal began.
    pub stream_first: u64,
    pub received_at: Timestamp,
    pub lines: Lines,
}

impl Record {
    /// The `seq` behind the last event.
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.lines.len() as u64
    }

    /// The same without the first `n` events.
    fn without_first(&self, n: usize) -> Record {
        let cut = self.lines.start(n);
        Record {
            stream: self.stream,
            first_seq: self.first_seq + n as u64,
            stream_first: self.stream_first + n as u64,
            received_at: self.received_at,
            lines: Lines {
                bytes: self.lines.bytes.slice(cut..),
                ends: self.lines.ends[n..].iter().map(|end| end - cut as u32).collect(),
                origins: self.lines.origins.between(n, self.lines.len()),
            },
        }
    }
}

/// What is appended all or none.
#[derive(Debug, Default)]
pub struct Commit {
    /// Empty lines are fine and leave nothing.
    pub entries: Vec<(StreamId, Lines)>,
    pub positions: Vec<Position>,
    pub received_at: Timestamp,
    pub key: Option<IdempotencyKey>,
    /// The accepted count that a repeat of `key` is answered with.
    pub accepted: u32,
    pub permit: Option<MemoryPermit>,
}

/// How far a source has read one origin; stated with the events it gave, and the last one stated holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub source: Arc<str>,
    pub key: Bytes,
    /// Empty: forget this origin.
    pub value: Bytes,
}

/// The name under which the state of a stage stands among the positions: an entry is a key with a value, and travels
/// in the commit that changes it.
pub fn state_source(stage: &str) -> String {
    format!("{STATE_SOURCE}{stage}")
}

/// What ends the name of the stream that a stage reads, and of its cursor.
pub const STAGE_INPUT: &str = ":in";
const STATE_SOURCE: &str = "\0state ";

/// What makes a repeated request harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Hash of sender and key.
    pub key: [u8; 16],
    /// Hash of the body.
    pub body: [u8; 16],
}
