//! The state of one operation: open starts, what the server saw, and how it last ended.

use std::time::Duration;

use bytes::Bytes;

use crate::event::Id;
use crate::toolkit::Held;
use crate::toolkit::held::{put_time, take_array, take_time};
use crate::units::Timestamp;
use crate::varint::{put_varint, take_varint};

/// The most starts of one key without an end; of more, the oldest is given up as lost.
pub const MAX_NESTED: usize = 16;
/// The first byte of a value, so that a later format can be distinguished.
const FORMAT: u8 = 1;

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
            let shown = (!start.mark).then(|| start.at.plus(times.open_after));
            shown.into_iter().chain([start.at.plus(times.timeout)])
        });
        let waits_for_kernel = |seen: &&Held| self.starts.is_empty() || has_ended(seen);
        let seen = self.seen.iter().filter(waits_for_kernel).map(|seen| seen.at.plus(times.gap_after));
        let ended = self.ended.iter().map(|ended| ended.at.plus(times.repeats));
        starts.chain(seen).chain(ended).min()
    }
}

/// Whether the kernel never began it, as far as the server could see: a cell before it had failed.
pub fn was_passed_over(seen: &Held) -> bool {
    let mark = seen.json().get("metadata").and_then(|metadata| metadata.get("passed_over"));
    mark.is_some_and(|mark| mark.as_bool() == Some(true))
}

/// Whether the server's report shows the execution as ended.
pub fn has_ended(seen: &Held) -> bool {
    seen.json().get("status").and_then(|status| status.as_str()).is_some_and(|status| status != "in_progress")
}
