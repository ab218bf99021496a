//! The watermark of one consumer: what it has passed, what is in progress, what it skips.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Placed, Spot};
use super::state::State;
use super::streams::{Heads, Wanted};
use super::{BufferBound, Record, StreamId};
use crate::units::Timestamp;
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};

/// The most gaps kept for whoever asks; beyond it the last two become one.
const MAX_GAPS: usize = 64;
/// The most bytes of totals a cursor keeps.
pub const MAX_TOTALS: usize = 512;

/// Events that a consumer will not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where they lie; events of other streams may lie between.
    pub seqs: Range<u64>,
    /// How many they are, of this consumer's streams.
    pub events: u64,
    /// Received not before and not after, as far as that is known.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The disk gave back other bytes than were written.
    Damaged,
    /// The consumer's own bound, with `drop_oldest`.
    BufferFull,
    /// The journal's bound, with `drop_oldest`.
    JournalFull,
    /// The events are older than what is still kept.
    Gone,
    /// They were of a stream that the consumer no longer reads, and its operator lets them go.
    Removed,
}

impl Cause {
    /// The word of the event accounting.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Damaged => "damage",
            Cause::BufferFull => "buffer",
            Cause::JournalFull => "journal",
            Cause::Gone => "skipped",
            Cause::Removed => "removed",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub events: u64,
    pub bytes: u64,
}

/// What the journal knows of a cursor, open or not.
pub struct CursorState {
    pub wanted: Wanted,
    /// Every event of its streams before this has ended.
    pub settled: u64,
    /// The same as it stands on disk.
    pub saved: u64,
    /// Events before this were dropped; those already handed out may still end.
    pub dropped_to: u64,
    /// How far each stream that it reads has come at `settled`.
    pub passed: BTreeMap<StreamId, Passed>,
    /// Streams known from disk by the hash of their name, until the cursor is opened with its streams.
    pub stored: Vec<(u64, Passed)>,
    pub totals: Bytes,
    pub extra: Option<Bytes>,
    /// It moved since it was last taken for storing; and so did `extra`.
    pub dirty: bool,
    pub extra_dirty: bool,
    pub generation: u64,
    pub read: Spot,
    /// The next ordinal of each stream at `read`.
    expected: BTreeMap<StreamId, u64>,
    in_flight: VecDeque<InFlight>,
    pub gaps: Vec<Gap>,
    /// Gaps before this were reported.
    told_to: u64,
    pub bound: Option<BufferBound>,
    pub open: bool,
    /// Whether its consumer appends to the journal itself, so that the journal must keep room for what it owes.
    pub appends: bool,
    /// Whether such a consumer cannot append at the moment.
    pub is_stalled: bool,
}

struct InFlight {
    stream: StreamId,
    first_seq: u64,
    end_seq: u64,
    stream_first: u64,
    before: u64,
    bytes: u64,
    received_at: Timestamp,
}

/// What is kept on disk of a cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub name: String,
    /// Of two stored ones the greater is the newer.
    pub generation: u64,
    pub settled: u64,
    pub passed: Vec<(u64, Passed)>,
    pub totals: Bytes,
    pub extra: Option<Bytes>,
}

impl Stored {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, self.name.as_bytes());
        put_varint(&mut out, self.generation);
        put_varint(&mut out, self.settled);
        put_varint(&mut out, self.passed.len() as u64);
        for (name, passed) in &self.passed {
            out.extend_from_slice(&name.to_le_bytes());
            put_varint(&mut out, passed.events);
            put_varint(&mut out, passed.bytes);
        }
        put_bytes(&mut out, &self.totals);
        if let Some(extra) = &self.extra {
            put_bytes(&mut out, extra);
        }
        out
    }

    pub fn decode(mut from: &[u8]) -> Option<Stored> {
        let name = String::from_utf8(take_bytes(&mut from)?.to_vec()).ok()?;
        let generation = take_varint(&mut from)?;
        let settled = take_varint(&mut from)?;
        let mut passed = Vec::new();
        for _ in 0..take_varint(&mut from)? {
            let (stream, rest) = from.split_first_chunk::<8>()?;
            from = rest;
            let (events, bytes) = (take_varint(&mut from)?, take_varint(&mut from)?);
            passed.push((u64::from_le_bytes(*stream), Passed { events, bytes }));
        }
        let totals = Bytes::copy_from_slice(take_bytes(&mut from)?);
        let extra = if from.is_empty() { None } else { Some(Bytes::copy_from_slice(take_bytes(&mut from)?)) };
        Some(Stored { name, generation, settled, passed, totals, extra })
    }
}

impl CursorState {
    pub fn new(stored: Stored) -> CursorState {
        CursorState {
            wanted: Wanted::default(),
            settled: stored.settled,
            saved: stored.settled,
            dropped_to: 0,
            passed: BTreeMap::new(),
            stored: stored.passed,
            totals: stored.totals,
            extra: stored.extra,
            dirty: false,
            extra_dirty: false,
            generation: stored.generation,
            read: Spot { seq: stored.settled, hint: None },
            expected: BTreeMap::new(),
            in_flight: VecDeque::new(),
            gaps: Vec::new(),
            told_to: 0,
            bound: None,
            open: false,
            appends: false,
            is_stalled: false,
        }
    }

    /// Lets it read these streams beside those that it reads already: what it has not passed of those, it still owes.
    /// What is not known of a stream is taken from `heads`: how far it had come at `settled`. `ends` are how far the
    /// streams have come by now.
    pub fn wire(&mut self, streams: &[StreamId], heads: &Heads, ends: &Heads) {
        let known = std::mem::take(&mut self.stored);
        for (name, passed) in &known {
            if let Some(stream) = ends.id_of(*name) {
                self.passed.entry(stream).or_insert(*passed);
            }
        }
        for stream in streams {
            let Some(head) = heads.get(*stream) else { continue };
            let there = Passed { events: head.events, bytes: head.bytes };
            let is_new = !self.passed.contains_key(stream);
            let passed = self.passed.entry(*stream).or_insert(there);
            // A journal that lost its files counts from the beginning again.
            if ends.get(*stream).is_some_and(|end| end.events < passed.events) {
                *passed = there;
            }
            if is_new {
                self.expected.insert(*stream, passed.events);
                self.dirty = true;
            }
        }
        self.wanted = Wanted::new(self.passed.keys().copied(), ends);
        if !self.open {
            self.rewind();
        }
    }

    /// Passes what it has not been given of its other streams than these; the number of events becomes a gap.
    pub fn discard_all_but(&mut self, streams: &[StreamId], ends: &Heads) -> u64 {
        let mut events = 0;
        for (stream, passed) in self.passed.iter_mut().filter(|(stream, _)| !streams.contains(stream)) {
            let Some(end) = ends.get(*stream) else { continue };
            events += end.events.saturating_sub(passed.events);
            *passed = Passed { events: end.events, bytes: end.bytes };
        }
        // What is written to them after all, by whoever began before, is still read.
        self.rewind();
        if events > 0 {
            let seqs = self.settled..self.settled;
            self.tell(Gap { seqs, events, since: None, until: None, cause: Cause::Removed });
            self.dirty = true;
        }
        events
    }

    /// Reads a stream no more: its number goes to another name, or there is nothing left in it.
    pub fn forget(&mut self, stream: StreamId, name: u64) {
        let known = self.stored.len();
        self.stored.retain(|(stored, _)| *stored != name);
        if self.passed.remove(&stream).is_some() || self.stored.len() < known {
            self.expected.remove(&stream);
            self.wanted.forget(stream);
            self.dirty = true;
        }
    }

    pub fn rewind(&mut self) {
        self.read = Spot { seq: self.settled.max(self.dropped_to), hint: None };
        self.in_flight.clear();
        let passed = self.passed.iter();
        if self.dropped_to <= self.settled {
            self.expected = passed.map(|(stream, passed)| (*stream, passed.events)).collect();
        }
    }

    pub fn holds_from(&self) -> u64 {
        self.saved.max(self.dropped_to)
    }

    pub fn has_passed(&self, targets: &[(StreamId, u64)]) -> bool {
        targets.iter().all(|(stream, seq)| !self.wanted.has(*stream) || self.settled >= *seq)
    }

    pub fn waiting(&self, heads: &Heads) -> Passed {
        let mut waiting = Passed::default();
        for (stream, passed) in &self.passed {
            if let Some(head) = heads.get(*stream) {
                waiting.events += head.events.saturating_sub(passed.events);
                waiting.bytes += head.bytes.saturating_sub(passed.bytes);
            }
        }
        // Of a cursor that nobody has opened yet.
        for (name, passed) in &self.stored {
            if let Some(head) = heads.named(*name) {
                waiting.events += head.events.saturating_sub(passed.events);
                waiting.bytes += head.bytes.saturating_sub(passed.bytes);
            }
        }
        waiting
    }

    /// Enters what was read and cuts off what had ended before.
    pub fn hand_out(&mut self, placed: Vec<Placed>, from: u64, read: Spot) -> Vec<Arc<Record>> {
        let mut records = Vec::with_capacity(placed.len());
        let mut last = from;
        for Placed { record, stream_bytes } in placed {
            let passed = self.passed.get(&record.stream).map_or(0, |passed| passed.events);
            let gone = from.saturating_sub(record.first_seq).max(passed.saturating_sub(record.stream_first)) as usize;
            if gone >= record.lines.len() {
                // It was let go.
                last = record.end_seq();
                continue;
            }
            let (bytes, received_at) = (record.lines.bytes.len() as u64, record.received_at);
            let record = if gone == 0 { record } else { Arc::new(record.without_first(gone)) };
            let expected = self.expected.insert(record.stream, record.stream_first + record.lines.len() as u64);
            let missing = record.stream_first.saturating_sub(expected.unwrap_or(record.stream_first));
            if missing > 0 && record.first_seq > self.told_to {
                let seqs = last.min(record.first_seq - missing)..record.first_seq;
                self.tell(Gap { seqs, events: missing, since: None, until: Some(received_at), cause: Cause::Damaged });
            }
            last = record.end_seq();
            self.in_flight.push_back(InFlight {
                stream: record.stream,
                first_seq: record.first_seq,
                end_seq: record.end_seq(),
                stream_first: record.stream_first,
                before: stream_bytes,
                bytes,
                received_at,
            });
            records.push(record);
        }
        self.read = read;
        self.pass_foreign();
        records
    }

    /// With nothing handed out, events of other streams need not be looked at again.
    fn pass_foreign(&mut self) {
        if self.in_flight.is_empty() && self.read.seq > self.settled {
            self.settled = self.read.seq;
            self.dirty = true;
        }
    }

    pub fn tell(&mut self, gap: Gap) {
        self.told_to = self.told_to.max(gap.seqs.end);
        let full = self.gaps.len() >= MAX_GAPS;
        match self.gaps.last_mut() {
            Some(last) if full || (last.cause == gap.cause && last.seqs.end == gap.seqs.start) => {
                last.seqs.end = gap.seqs.end;
                last.events += gap.events;
                last.until = gap.until.or(last.until);
            }
            _ => self.gaps.push(gap),
        }
    }

    pub fn settle(&mut self, seq_end: u64) {
        while let Some(oldest) = self.in_flight.front() {
            if oldest.first_seq >= seq_end {
                break;
            }
            let ended = seq_end.min(oldest.end_seq);
            let whole = ended == oldest.end_seq;
            let bytes = oldest.before + if whole { oldest.bytes } else { 0 };
            let events = oldest.stream_first + (ended - oldest.first_seq);
            self.passed.insert(oldest.stream, Passed { events, bytes });
            if !whole {
                break;
            }
            self.in_flight.pop_front();
        }
        self.settled = self.settled.max(seq_end.min(self.read.seq));
        self.dirty = true;
        if self.in_flight.is_empty() {
            if self.dropped_to > self.settled {
                self.passed_dropped();
            }
            self.pass_foreign();
        }
    }

    /// What was handed out before a drop has ended: now the drop counts as passed.
    fn passed_dropped(&mut self) {
        for (stream, expected) in &self.expected {
            let passed = self.passed.entry(*stream).or_default();
            passed.events = passed.events.max(*expected);
        }
        self.settled = self.settled.max(self.dropped_to);
    }

    /// Skips what was not handed out and lies before `to`, where the streams had come as far as `heads` say.
    pub fn drop_to(&mut self, to: u64, heads: &Heads, cause: Cause, since: Option<Timestamp>) {
        self.dropped_to = self.dropped_to.max(to);
        if self.read.seq >= to {
            return;
        }
        let mut events = 0;
        let streams: Vec<StreamId> = self.passed.keys().copied().collect();
        for stream in &streams {
            let Some(head) = heads.get(*stream) else { continue };
            let expected = self.expected.entry(*stream).or_insert(head.events);
            events += head.events.saturating_sub(*expected);
            *expected = head.events.max(*expected);
            if self.in_flight.is_empty() {
                self.passed.insert(*stream, Passed { events: head.events, bytes: head.bytes });
            }
        }
        let seqs = self.read.seq..to;
        self.read = Spot { seq: to, hint: None };
        if events > 0 {
            self.tell(Gap { seqs, events, since, until: None, cause });
        }
        if self.in_flight.is_empty() {
            self.settled = self.settled.max(to);
        }
        self.dirty = true;
    }

    /// Puts it somewhere else, where the streams had come as far as `heads` say.
    pub fn move_to(&mut self, seq: u64, heads: &Heads) {
        (self.settled, self.dropped_to, self.dirty) = (seq, 0, true);
        self.saved = self.saved.min(seq);
        let known = std::mem::take(&mut self.stored);
        let is_read = |name: u64| known.is_empty() || known.iter().any(|(known, _)| *known == name);
        for stream in heads.ids() {
            let head = heads.get(stream).expect("it is one of them");
            let there = Passed { events: head.events, bytes: head.bytes };
            match self.passed.get_mut(&stream) {
                Some(passed) => *passed = there,
                None if is_read(head.name) => self.stored.push((head.name, there)),
                None => {}
            }
        }
        self.rewind();
    }

    pub fn oldest_in_flight(&self) -> Option<Timestamp> {
        self.in_flight.front().map(|oldest| oldest.received_at)
    }

    pub fn stored(&self, name: &str, heads: &Heads) -> Stored {
        let mut passed = self.stored.clone();
        for (stream, at) in &self.passed {
            if let Some(head) = heads.get(*stream) {
                passed.push((head.name, *at));
            }
        }
        Stored {
            name: name.to_owned(),
            generation: self.generation,
            settled: self.settled,
            passed,
            totals: self.totals.clone(),
            extra: self.extra.clone(),
        }
    }
}

impl State {
    /// What of this cursor is to be written, if it has moved since.
    pub fn cursor_to_store(&mut self, name: &str) -> Option<(Stored, bool)> {
        let cursor = self.cursors.get_mut(name)?;
        if !std::mem::take(&mut cursor.dirty) {
            return None;
        }
        cursor.generation += 1;
        let extra_moved = std::mem::take(&mut cursor.extra_dirty);
        Some((cursor.stored(name, &self.synced), extra_moved))
    }

    /// When the oldest event was received that a cursor has not passed.
    pub fn oldest_waiting(&self, cursor: &CursorState) -> Option<Timestamp> {
        if let Some(in_flight) = cursor.oldest_in_flight() {
            return Some(in_flight);
        }
        if cursor.waiting(&self.synced).events == 0 {
            return None;
        }
        if cursor.read.seq >= self.tier.start() {
            let wanted = |(record, _): &(&Arc<Record>, u64)| cursor.wanted.has_at(record.stream, record.first_seq);
            return self.tier.from(cursor.read.seq).find(wanted).map(|(record, _)| record.received_at);
        }
        let holding = self.segments.partition_point(|segment| segment.end_seq <= cursor.read.seq);
        self.segments.get(holding).map(|segment| segment.oldest)
    }

    pub fn is_over_bound(&self, cursor: &CursorState, bytes: u64, now: Timestamp) -> bool {
        let Some(bound) = cursor.bound else { return false };
        let too_much = bound.max_bytes.is_some_and(|max| cursor.waiting(&self.synced).bytes + bytes > max);
        let too_old =
            bound.max_age.is_some_and(|max| self.oldest_waiting(cursor).is_some_and(|oldest| oldest.plus(max) <= now));
        too_much || too_old
    }

    /// Moves every cursor that needs something before `to`, the start of a segment or of what is in memory.
    pub fn drop_before(&mut self, to: u64, heads: &Heads, cause: Cause) {
        let since = self.segments.front().map(|oldest| oldest.oldest);
        for cursor in self.cursors.values_mut().filter(|cursor| cursor.holds_from() < to) {
            cursor.drop_to(to, heads, cause, since);
        }
    }
}
