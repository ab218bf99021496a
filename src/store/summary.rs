//! Counts and sums kept by a part, by chunk and status, user and type: queries for nothing else read no rows.

use std::collections::HashMap;

use super::aggregate::Outcome;
use super::chunk_tops::{self, InChunk};
use super::duration_key::key_of;
use super::hashing::Seeded;
use super::value_tops;
use crate::query::request::Group;
use crate::units::Timestamp;
use crate::varint::{put_varint, take_varint};

/// The members whose values have sums over the whole part.
pub const OF_PART: [&str; 2] = ["user_id", "event_type"];
/// The member whose values have sums in each chunk.
pub const OF_CHUNKS: &str = "status";

/// Counts and sums of some events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    /// The code of the value that they share; 0 where they have none.
    pub code: u32,
    pub count: u64,
    pub successes: u64,
    pub errors: u64,
    pub durations: u64,
    pub sum_ms: f64,
    pub max_ms: f64,
    pub first: i64,
    pub last: i64,
}

impl Tally {
    pub fn new(code: u32) -> Tally {
        Tally {
            code,
            count: 0,
            successes: 0,
            errors: 0,
            durations: 0,
            sum_ms: 0.0,
            max_ms: f64::MIN,
            first: i64::MAX,
            last: i64::MIN,
        }
    }

    pub fn add(&mut self, outcome: Outcome, duration: Option<f64>, time: i64) {
        self.count += 1;
        self.successes += u64::from(outcome == Outcome::Success);
        self.errors += u64::from(outcome == Outcome::Error);
        if let Some(duration) = duration {
            self.durations += 1;
            self.sum_ms += duration;
            self.max_ms = self.max_ms.max(duration);
        }
        self.first = self.first.min(time);
        self.last = self.last.max(time);
    }

    /// Adds other events with another value.
    pub fn join(&mut self, other: &Tally) {
        self.count += other.count;
        self.successes += other.successes;
        self.errors += other.errors;
        self.durations += other.durations;
        self.sum_ms += other.sum_ms;
        self.max_ms = self.max_ms.max(other.max_ms);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    /// The same as a group without keys.
    pub fn group(&self) -> Group {
        Group {
            keys: Vec::new(),
            count: self.count,
            successes: self.successes,
            errors: self.errors,
            durations: self.durations,
            sum_ms: self.sum_ms,
            max_ms: (self.durations > 0).then_some(self.max_ms),
            p95_ms: None,
            first: Some(Timestamp(self.first)),
            last: Some(Timestamp(self.last)),
        }
    }
}

/// What a part keeps.
#[derive(Debug, PartialEq)]
pub struct Summary {
    /// For each member of [`OF_PART`] the sums of each of its values; none where the member has too many.
    pub of_part: [Option<Vec<Tally>>; OF_PART.len()],
    /// For each member of [`OF_PART`] the greatest durations of its values, as they are written; none in older parts, and
    /// where little is saved.
    pub tops: [Option<Vec<u8>>; OF_PART.len()],
    pub of_chunks: ChunkTallies,
    /// The greatest durations of each status, as they are written; the same holds.
    pub tops_of_chunks: Option<Vec<u8>>,
}

/// The sums of each chunk, one after another, and where each chunk's end.
#[derive(Debug, Default, PartialEq)]
pub struct ChunkTallies {
    tallies: Vec<Tally>,
    ends: Vec<u32>,
}

impl ChunkTallies {
    /// The sums of a chunk by status; none where the status has too many values.
    pub fn chunk(&self, chunk: usize) -> Option<&[Tally]> {
        let start = if chunk == 0 { 0 } else { self.ends.get(chunk - 1).copied()? as usize };
        self.tallies.get(start..*self.ends.get(chunk)? as usize)
    }

    pub fn weight(&self) -> usize {
        self.tallies.len() * std::mem::size_of::<Tally>() + self.ends.len() * 4
    }
}

impl ChunkTallies {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.ends.len() as u64);
        for chunk in 0..self.ends.len() {
            put_tallies(&mut out, self.chunk(chunk).unwrap_or_default());
        }
        out
    }

    /// Reads what [`ChunkTallies::encode`] wrote; `None` if it is something else.
    pub fn read(mut bytes: &[u8], chunks: usize) -> Option<ChunkTallies> {
        let (mut tallies, mut ends) = (Vec::new(), Vec::new());
        let len = take_varint(&mut bytes)?;
        if len != 0 && len != chunks as u64 {
            return None;
        }
        for _ in 0..len {
            take_tallies(&mut bytes, &mut tallies)?;
            ends.push(tallies.len() as u32);
        }
        bytes.is_empty().then_some(ChunkTallies { tallies, ends })
    }
}

impl Summary {
    /// Reads the summary of a part before format 4: everything in one section.
    pub fn read(mut bytes: &[u8], chunks: usize) -> Option<Summary> {
        let mut of_part = [const { None }; OF_PART.len()];
        for tallies in &mut of_part {
            let (is_there, rest) = bytes.split_first()?;
            bytes = rest;
            let mut read = Vec::new();
            take_tallies(&mut bytes, &mut read)?;
            *tallies = (*is_there == 1).then_some(read);
        }
        let tops = [const { None }; OF_PART.len()];
        let of_chunks = ChunkTallies::read(bytes, chunks)?;
        Some(Summary { of_part, tops, of_chunks, tops_of_chunks: None })
    }

    /// The summary as parts before format 4 have it.
    #[cfg(test)]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for tallies in &self.of_part {
            out.push(u8::from(tallies.is_some()));
            put_tallies(&mut out, tallies.as_deref().unwrap_or_default());
        }
        out.extend_from_slice(&self.of_chunks.encode());
        out
    }
}

fn put_tallies(out: &mut Vec<u8>, tallies: &[Tally]) {
    put_varint(out, tallies.len() as u64);
    let mut last = 0i64;
    for tally in tallies {
        for number in [u64::from(tally.code), tally.count, tally.successes, tally.errors, tally.durations] {
            put_varint(out, number);
        }
        if tally.durations > 0 {
            out.extend_from_slice(&tally.sum_ms.to_le_bytes());
            out.extend_from_slice(&tally.max_ms.to_le_bytes());
        }
        put_varint(out, tally.first.wrapping_sub(last) as u64);
        put_varint(out, tally.last.wrapping_sub(tally.first) as u64);
        last = tally.first;
    }
}

fn take_tallies(bytes: &mut &[u8], out: &mut Vec<Tally>) -> Option<()> {
    let mut last = 0i64;
    for _ in 0..take_varint(bytes)? {
        let mut tally = Tally::new(u32::try_from(take_varint(bytes)?).ok()?);
        tally.count = take_varint(bytes)?;
        tally.successes = take_varint(bytes)?;
        tally.errors = take_varint(bytes)?;
        tally.durations = take_varint(bytes)?;
        if tally.durations > 0 {
            let (sum, rest) = bytes.split_first_chunk::<8>()?;
            let (max, rest) = rest.split_first_chunk::<8>()?;
            (tally.sum_ms, tally.max_ms, *bytes) = (f64::from_le_bytes(*sum), f64::from_le_bytes(*max), rest);
        }
        tally.first = last.wrapping_add(take_varint(bytes)? as i64);
        tally.last = tally.first.wrapping_add(take_varint(bytes)? as i64);
        last = tally.first;
        out.push(tally);
    }
    Some(())
}

/// Collects the sums while a part is written.
pub struct SummaryWriter {
    of_part: [HashMap<i64, Tally, Seeded>; OF_PART.len()],
    /// The codes of each event with a duration, and its key.
    durations: Vec<([u32; OF_PART.len()], i32)>,
    in_chunks: Vec<InChunk>,
    chunk: Vec<Tally>,
    tallies: Vec<Tally>,
    ends: Vec<u32>,
    /// Whether each member of [`OF_PART`], and the status, has few enough values.
    is_kept: [bool; OF_PART.len() + 1],
}

/// A chunk with more values of status has no sums.
const MAX_STATUSES: usize = 32;
/// A member with more values in a part has no sums.
const MAX_VALUES: usize = 8192;

impl SummaryWriter {
    /// `is_coded` says which members of [`OF_PART`], and whether the status, have codes in this part.
    pub fn new(is_coded: [bool; OF_PART.len() + 1]) -> SummaryWriter {
        SummaryWriter {
            of_part: Default::default(),
            durations: Vec::new(),
            in_chunks: Vec::new(),
            chunk: Vec::new(),
            tallies: Vec::new(),
            ends: Vec::new(),
            is_kept: is_coded,
        }
    }

    /// Adds an event: the codes of its members of [`OF_PART`] and of its status.
    pub fn add(&mut self, codes: [i64; OF_PART.len() + 1], outcome: Outcome, duration: Option<f64>, time: i64) {
        let kept = self.of_part.iter_mut().zip(&mut self.is_kept).enumerate();
        for (nth, (tallies, is_kept)) in kept.filter(|(_, (_, is_kept))| **is_kept) {
            tallies.entry(codes[nth]).or_insert_with(|| Tally::new(codes[nth] as u32)).add(outcome, duration, time);
            *is_kept = tallies.len() <= MAX_VALUES;
        }
        if let Some(duration) = duration {
            let key = key_of(duration);
            self.durations.push((std::array::from_fn(|nth| codes[nth] as u32), key));
            self.in_chunks.push(InChunk { code: codes[OF_PART.len()] as u32, key, chunk: self.ends.len() as u16 });
        }
        if self.is_kept[OF_PART.len()] {
            let status = codes[OF_PART.len()] as u32;
            let nth = self.chunk.iter().position(|tally| tally.code == status).unwrap_or_else(|| {
                self.chunk.push(Tally::new(status));
                self.chunk.len() - 1
            });
            self.chunk[nth].add(outcome, duration, time);
            self.is_kept[OF_PART.len()] = self.chunk.len() <= MAX_STATUSES;
        }
    }

    pub fn end_chunk(&mut self) {
        self.tallies.append(&mut self.chunk);
        self.ends.push(self.tallies.len() as u32);
    }

    pub fn finish(mut self) -> Summary {
        let is_kept = self.is_kept;
        let mut nth = 0;
        let of_part = self.of_part.map(|tallies| {
            nth += 1;
            let mut tallies: Vec<Tally> = tallies.into_values().collect();
            tallies.sort_unstable_by_key(|tally| tally.code);
            is_kept[nth - 1].then_some(tallies)
        });
        let of_member = |(nth, tallies): (usize, &Option<Vec<Tally>>)| tops(nth, tallies.as_ref()?, &self.durations);
        let mut tops_of = of_part.iter().enumerate().map(of_member);
        let tops = std::array::from_fn(|_| tops_of.next().flatten());
        let has_chunks = is_kept[OF_PART.len()];
        let tops_of_chunks = if has_chunks { chunk_tops::encode(&mut self.in_chunks) } else { None };
        let (tallies, ends) = if has_chunks { (self.tallies, self.ends) } else { Default::default() };
        Summary { of_part, tops, of_chunks: ChunkTallies { tallies, ends }, tops_of_chunks }
    }
}

/// The greatest durations of the nth member's values.
fn tops(nth: usize, tallies: &[Tally], durations: &[([u32; OF_PART.len()], i32)]) -> Option<Vec<u8>> {
    let mut places = vec![0; tallies.last()?.code as usize + 1];
    let mut end = 0;
    for tally in tallies {
        places[tally.code as usize] = end;
        end += tally.durations as usize;
    }
    let mut keys = vec![0; end];
    for (codes, key) in durations {
        let place = &mut places[codes[nth] as usize];
        keys[*place] = *key;
        *place += 1;
    }
    value_tops::encode(tallies, &mut keys)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_summary_reads_as_it_was_written(
            events in proptest::collection::vec((0i64..5, 0i64..3, 0i64..40, proptest::option::of(-5.0f64..1e6), any::<i64>()), 0..600),
            is_coded: [bool; 3],
        ) {
            let mut writer = SummaryWriter::new(is_coded);
            for chunk in events.chunks(256) {
                for (user, of_type, status, duration, time) in chunk {
                    writer.add([*user, *of_type, *status], Outcome::Error, *duration, *time);
                }
                writer.end_chunk();
            }
            let summary = Summary { tops: Default::default(), tops_of_chunks: None, ..writer.finish() };
            let read = Summary::read(&summary.encode(), events.len().div_ceil(256));
            prop_assert_eq!(read.as_ref(), Some(&summary));
            let of_chunks = ChunkTallies::read(&summary.of_chunks.encode(), events.len().div_ceil(256));
            prop_assert_eq!(of_chunks.as_ref(), Some(&summary.of_chunks));
            if let Some(users) = &summary.of_part[0] {
                prop_assert_eq!(users.iter().map(|tally| tally.count).sum::<u64>(), events.len() as u64);
            }
        }

        #[test]
        fn bytes_that_are_no_summary_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Summary::read(&bytes, 3), ChunkTallies::read(&bytes, 3));
        }
    }
}
