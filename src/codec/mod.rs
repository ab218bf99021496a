//! Codecs: from the bytes of a chunk to a batch and its rejected items.

pub mod framing;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Batch, Provenance};

pub mod csv;
pub mod encoding;
mod frames;
mod json;
mod logfmt;
mod make;
pub mod mapping;
mod msgpack;
pub mod name;
pub mod redaction;
mod spelling;
pub mod stamp;
pub mod syslog;
pub mod template;
mod text;

/// The format in which a source's events come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// JSON objects: one per line or message; over HTTP also arrays, and objects that span lines.
    #[default]
    Json,
    /// Each line is an event with a `message`.
    Text,
    /// `key=value` pairs, as Go and Heroku programs write them.
    Logfmt,
    /// RFC 5424 and RFC 3164.
    Syslog(syslog::Config),
    /// Comma-separated values with a header line, or with the columns named in the configuration.
    Csv(csv::Config),
    /// MessagePack maps, one after another.
    Msgpack,
}

impl Codec {
    pub fn decoder(&self) -> Box<dyn Decoder> {
        match self {
            Codec::Json => Box::new(json::Json),
            Codec::Text => Box::new(text::Text),
            Codec::Logfmt => Box::new(logfmt::Logfmt),
            Codec::Syslog(config) => Box::new(syslog::Syslog::new(config)),
            Codec::Csv(config) => Box::new(csv::Csv::new(config)),
            Codec::Msgpack => Box::new(msgpack::Msgpack),
        }
    }
}

/// How a chunk's bytes fall into frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frames {
    /// One value per line, ended by `\n` or `\r\n`; empty lines are skipped.
    Lines,
    /// The body of an HTTP request.
    Document,
    /// Frames that the source has cut.
    At(Vec<Range<usize>>),
}

/// The ordinals of a chunk's events in their origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordinals {
    /// Base plus the byte offset at which the frame starts.
    Offset(u64),
    /// Base plus the index of the frame.
    Count(u64),
    /// One for each frame.
    Given(Vec<u64>),
}

/// What one chunk may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event.
    pub event_bytes: usize,
    /// Values in one document.
    pub values: usize,
}

/// An item that is no event, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Index of the item in the chunk.
    pub index: u64,
    /// Byte offset of the item in the chunk.
    pub offset: u64,
    pub text: Bytes,
    pub reason: String,
}

/// A chunk, decoded.
pub struct Decoded {
    pub batch: Batch,
    pub refused: Vec<Refusal>,
    /// Items seen: events and refusals.
    pub items: u64,
}

pub trait Decoder: Send + Sync {
    /// Events come split into fields if `split`, else validated only.
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded;
}

pub use frames::cut as frame_ranges;

fn too_large(limit: usize) -> String {
    format!("larger than {limit} bytes")
}

fn too_many(limit: usize) -> String {
    format!("more than {limit} values in one request")
}

#[cfg(test)]
mod tests;
