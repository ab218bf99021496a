//! What `operations` keeps of one key: the starts that have no end, what the server saw, and how it ended last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::event::{Batch, Id, Provenance, Raw, Seed};
use crate::units::Timestamp;
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};

/// The most starts of one key without an end; of more, the oldest is given up as lost.
pub const MAX_NESTED: usize = 16;
/// The first byte of a value, so that a later format can be told apart.
const FORMAT: u8 = 1;

/// An event that waits, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub line: Bytes,
    pub seed: Seed,
    pub ordinal: u64,
    pub received_at: Timestamp,
    /// When it was taken.
    pub at: Timestamp,
    /// Whether it was given on the output of what is open.
    pub is_shown: bool,
}

/// How the key ended last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub at: Timestamp,
    pub id: Id,
    /// Whether there was a start; without one, a start that comes late belongs to this end.
    pub had_start: bool,
    /// Whether what the server saw is among what ended.
    pub was_seen: bool,
    /// Hash of the code that ended, if it had one.
    pub code: Option<[u8; 16]>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The innermost is the last.
    pub starts: Vec<Held>,
    pub seen: Option<Held>,
    pub ended: Option<Ended>,
}

/// The times of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub open_after: Duration,
    pub timeout: Duration,
    pub gap_after: Duration,
    pub repeats: Duration,
}

impl Held {
    /// Takes an event of a split batch.
    pub fn take(batch: &Batch, event: usize, now: Timestamp) -> Held {
        let mut line = Vec::new();
        batch.render_event(event, &mut line);
        Held {
            line: line.into(),
            seed: batch.provenance.seed,
            ordinal: batch.ordinal(event),
            received_at: batch.provenance.received_at,
            at: now,
            is_shown: false,
        }
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
        self.batch_from(source, self.seed, self.ordinal)
    }

    /// The same with an id that derives from another origin; an id of its own has to be set besides.
    pub fn batch_from(&self, source: &Arc<str>, seed: Seed, ordinal: u64) -> Batch {
        let received_at = self.received_at;
        let provenance = Provenance { source: source.clone(), seed, received_at, peer: None, stamp: None };
        let mut batch = Batch::new(self.line.clone(), Arc::new(provenance));
        batch.push_validated(0..self.line.len(), ordinal);
        batch.split_all();
        batch
    }

    /// Whether it says that it has ended.
    pub fn has_ended(&self) -> bool {
        self.json().get("status").and_then(|status| status.as_str()).is_some_and(|status| status != "in_progress")
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.line);
        out.extend_from_slice(&self.seed.0);
        put_varint(out, self.ordinal);
        put_time(out, self.received_at);
        put_time(out, self.at);
        out.push(u8::from(self.is_shown));
    }

    fn decode(whole: &Bytes, from: &mut &[u8]) -> Option<Held> {
        let line = whole.slice_ref(take_bytes(from)?);
        let seed = Seed(take_array(from)?);
        let ordinal = take_varint(from)?;
        let (received_at, at) = (take_time(from)?, take_time(from)?);
        let [is_shown] = take_array::<1>(from)?;
        Some(Held { line, seed, ordinal, received_at, at, is_shown: is_shown != 0 })
    }
}

impl Entry {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.starts.len() as u64);
        self.starts.iter().for_each(|start| start.encode(&mut out));
        out.push(u8::from(self.seen.is_some()));
        self.seen.iter().for_each(|seen| seen.encode(&mut out));
        out.push(u8::from(self.ended.is_some()));
        if let Some(ended) = &self.ended {
            put_time(&mut out, ended.at);
            out.extend_from_slice(&ended.id.0.to_le_bytes());
            out.extend_from_slice(&[u8::from(ended.had_start), u8::from(ended.was_seen)]);
            out.extend_from_slice(ended.code.as_ref().map_or(&[], |code| &code[..]));
        }
        out
    }

    /// `None` for what another version has written.
    pub fn decode(value: &Bytes) -> Option<Entry> {
        let mut from = &value[..];
        if take_array::<1>(&mut from)? != [FORMAT] {
            return None;
        }
        let count = take_varint(&mut from)?;
        let starts = (0..count).map(|_| Held::decode(value, &mut from)).collect::<Option<Vec<Held>>>()?;
        let seen = match take_array(&mut from)? {
            [0] => None,
            _ => Some(Held::decode(value, &mut from)?),
        };
        let ended = match take_array(&mut from)? {
            [0] => None,
            _ => Some(Ended {
                at: take_time(&mut from)?,
                id: Id(u128::from_le_bytes(take_array(&mut from)?)),
                had_start: take_array(&mut from)? != [0],
                was_seen: take_array(&mut from)? != [0],
                code: take_array(&mut from),
            }),
        };
        Some(Entry { starts, seen, ended })
    }

    /// Events that wait in it.
    pub fn held(&self) -> u64 {
        self.starts.len() as u64 + u64::from(self.seen.is_some())
    }

    /// When something of it has to be looked at again.
    pub fn due(&self, times: &Times) -> Option<Timestamp> {
        let starts = self.starts.iter().flat_map(|start| {
            let shown = (!start.is_shown).then(|| start.at.plus(times.open_after));
            shown.into_iter().chain([start.at.plus(times.timeout)])
        });
        let waits_for_kernel = |seen: &&Held| self.starts.is_empty() || seen.has_ended();
        let seen = self.seen.iter().filter(waits_for_kernel).map(|seen| seen.at.plus(times.gap_after));
        let ended = self.ended.iter().map(|ended| ended.at.plus(times.repeats));
        starts.chain(seen).chain(ended).min()
    }
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.0.to_le_bytes());
}

fn take_time(from: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp(i64::from_le_bytes(take_array(from)?)))
}

fn take_array<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*array)
}
