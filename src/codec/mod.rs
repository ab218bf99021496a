//! Formats: from the bytes of a piece to a batch, and what was refused on the way.

pub mod stamp;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Batch, Provenance};

/// How a piece's bytes fall into frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frames {
    /// One value per line, ended by `\n` or `\r\n`; empty lines are skipped.
    Lines,
    /// The body of an HTTP request.
    Document,
    /// Frames that the source has cut.
    At(Vec<Range<usize>>),
}

/// The ordinals of a piece's events in their origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordinals {
    /// Base plus the byte offset at which the frame starts.
    Offset(u64),
    /// Base plus the index of the frame.
    Count(u64),
    /// One for each frame.
    Given(Vec<u64>),
}

/// What one piece may hold.
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
    /// Index of the item in the piece.
    pub index: u64,
    /// Byte offset of the item in the piece.
    pub offset: u64,
    pub text: Bytes,
    pub reason: String,
}

/// A piece, decoded.
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
        piece: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded;
}
