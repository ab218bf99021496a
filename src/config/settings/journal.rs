//! `journal:` — the log on disk in which events wait for the sinks.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::journal;
use crate::units::{ByteSize, Duration};

/// The write-ahead log between transforms and sinks; an event in it is durable.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Journal {
    /// `disk` survives a crash. `memory` needs no disk; events are acknowledged once every sink has delivered them.
    pub mode: Mode,
    /// Maximum size of the journal; when it is reached, `when_full` applies.
    pub max_bytes: ByteSize,
    /// How much is kept after every sink has delivered it, for replay and for live streams that resume. The limit that
    /// is reached first applies.
    pub keep: Keep,
    /// What happens at `max_bytes`: `block` makes sources wait, `drop_oldest` drops the oldest events and counts them.
    pub when_full: WhenFull,
    /// Compression of records.
    pub codec: Codec,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            mode: Mode::Disk,
            max_bytes: ByteSize::gib(2),
            keep: Keep::default(),
            when_full: WhenFull::Block,
            codec: Codec::Auto,
        }
    }
}

/// Whichever bound comes first.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Keep {
    /// Maximum size of what is kept.
    pub bytes: ByteSize,
    /// Maximum age of what is kept.
    pub age: Duration,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { bytes: ByteSize::mib(256), age: Duration::from_secs(3600) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Disk,
    Memory,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Sources wait or answer 429.
    #[default]
    Block,
    /// The oldest events are given up, and counted.
    DropOldest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// `lz4` for what stays, which is a backlog or the history of a slow stream, and where the disk is slow; nothing while
    /// every sink keeps up and the disk too, which halves the CPU of a fast stream.
    Auto,
    /// Fast; about 4.6 times smaller.
    Lz4,
    /// About 7.9 times smaller, for a third more CPU.
    Zstd,
    None,
}

impl Journal {
    /// The same as the journal takes it.
    pub fn options(&self, dir: PathBuf) -> journal::Options {
        journal::Options {
            mode: match self.mode {
                Mode::Disk => journal::Mode::Disk,
                Mode::Memory => journal::Mode::Memory,
            },
            max_bytes: self.max_bytes.bytes(),
            keep_bytes: self.keep.bytes.bytes(),
            keep_age: self.keep.age.into(),
            when_full: self.when_full.into(),
            codec: match self.codec {
                Codec::Auto | Codec::Lz4 => journal::Codec::Lz4,
                Codec::Zstd => journal::Codec::Zstd,
                Codec::None => journal::Codec::None,
            },
            is_auto: self.codec == Codec::Auto,
            ..journal::Options::new(dir)
        }
    }
}

impl From<WhenFull> for journal::WhenFull {
    fn from(when: WhenFull) -> journal::WhenFull {
        match when {
            WhenFull::Block => journal::WhenFull::Block,
            WhenFull::DropOldest => journal::WhenFull::DropOldest,
        }
    }
}
