//! Settings of the journal: where, how large, what to do when it is full.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    pub mode: Mode,
    pub max_bytes: u64,
    /// Passed events are kept for resume and replay until one of the two is exceeded.
    pub keep_bytes: u64,
    pub keep_age: Duration,
    pub when_full: WhenFull,
    pub codec: Codec,
    /// Nothing is packed while every cursor reads from memory and the disk keeps up; else everything is, with `codec`.
    pub is_auto: bool,
    /// The budget that permits are taken from.
    pub intake_bytes: usize,
    /// How much of the newest lines stays in memory for readers.
    pub tier_bytes: usize,
    /// How much of what left that memory may still be in use by consumers, out of a budget of theirs.
    pub consumer_bytes: usize,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            mode: Mode::Disk,
            max_bytes: 2 << 30,
            keep_bytes: 256 << 20,
            keep_age: Duration::from_secs(3600),
            when_full: WhenFull::Block,
            codec: Codec::Lz4,
            is_auto: false,
            intake_bytes: 16 << 20,
            tier_bytes: 8 << 20,
            consumer_bytes: 4 << 20,
        }
    }

    /// How much there may be of records that were read from the disk, those included that consumers pay for.
    pub fn bytes_from_disk(&self) -> usize {
        self.tier_bytes / 4 * 3 + self.consumer_bytes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Disk,
    /// The same without segments: nothing survives the process, and entries stay until every cursor passed them.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    Block,
    DropOldest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    #[default]
    None = 0,
    Lz4 = 1,
    Zstd = 2,
}

impl Codec {
    pub(super) fn from_number(number: u8) -> Option<Codec> {
        [Codec::None, Codec::Lz4, Codec::Zstd].into_iter().find(|codec| *codec as u8 == number)
    }
}

/// Where a cursor begins whose name the journal has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    End,
    Oldest,
}

/// How far one cursor may fall behind, and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferBound {
    pub max_bytes: Option<u64>,
    pub max_age: Option<Duration>,
    pub when_full: WhenFull,
}
