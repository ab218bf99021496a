//! An event that a stage withholds: its bytes, and the origin its id derives from.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Batch, Id, Provenance, Raw, Seed, names};
use crate::units::Timestamp;
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};

/// An event that waits, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub line: Bytes,
    pub seed: Seed,
    pub ordinal: u64,
    pub received_at: Timestamp,
    /// When it was taken.
    pub at: Timestamp,
    /// A note of the stage that holds it.
    pub mark: bool,
}

impl Held {
    /// Takes an event of a split batch.
    pub fn take(batch: &Batch, event: usize, now: Timestamp) -> Held {
        let mut line = Vec::new();
        batch.render_event(event, &mut line);
        let (seed, ordinal) = batch.origin(event);
        Held { line: line.into(), seed, ordinal, received_at: batch.provenance.received_at, at: now, mark: false }
    }

    pub fn json(&self) -> Raw<'_> {
        Raw::valid(&self.line)
    }

    pub fn id(&self) -> Id {
        let own = self.json().get("id").and_then(|id| id.as_str()).and_then(|id| Id::parse(&id));
        own.unwrap_or_else(|| self.seed.id(self.ordinal))
    }

    /// A split batch of this event alone, under its own id.
    pub fn batch(&self, source: &Arc<str>) -> Batch {
        let (seed, received_at) = (self.seed, self.received_at);
        let provenance = Provenance { source: source.clone(), seed, received_at, peer: None, stamp: None };
        let mut batch = Batch::new(self.line.clone(), Arc::new(provenance));
        batch.push_validated(0..self.line.len(), self.ordinal);
        batch.split_all();
        batch
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.line);
        out.extend_from_slice(&self.seed.0);
        put_varint(out, self.ordinal);
        put_time(out, self.received_at);
        put_time(out, self.at);
        out.push(u8::from(self.mark));
    }

    /// Reads one from `from`, a part of `whole`, whose memory it shares.
    pub fn decode(whole: &Bytes, from: &mut &[u8]) -> Option<Held> {
        let line = whole.slice_ref(take_bytes(from)?);
        let seed = Seed(take_array(from)?);
        let ordinal = take_varint(from)?;
        let (received_at, at) = (take_time(from)?, take_time(from)?);
        let [mark] = take_array::<1>(from)?;
        Some(Held { line, seed, ordinal, received_at, at, mark: mark != 0 })
    }
}

pub fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.0.to_le_bytes());
}

pub fn take_time(from: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp(i64::from_le_bytes(take_array(from)?)))
}

pub fn take_array<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*array)
}

/// A split batch of one event that a stage made, whose id derives from `seed`; an `id` that it has as a member is set
/// to that.
pub fn made(line: Vec<u8>, seed: Seed, received_at: Timestamp, source: &Arc<str>) -> Batch {
    let line = Bytes::from(line);
    let provenance = Provenance { source: source.clone(), seed, received_at, peer: None, stamp: None };
    let mut batch = Batch::new(line.clone(), Arc::new(provenance));
    batch.push_validated(0..line.len(), 0);
    batch.split_all();
    if batch.get(0, names::ID).is_some() {
        batch.set_str(0, names::ID, &seed.id(0).to_string());
    }
    batch
}
