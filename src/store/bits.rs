//! Bit-packed integers, readable chunk by chunk.

use std::ops::Range;

use crate::varint::{put_varint, take_varint};

/// Rows of one chunk: the unit in which columns are decoded and postings point.
pub const CHUNK: usize = 256;

/// So many rows of a chunk are read one by one, more all together.
const FEW_ROWS: usize = 32;

/// Bytes behind the last value, so that a value can be read with one wide load.
const PADDING: usize = 16;

/// A width with this bit is that of differences that were divided by [`DIVISOR`]: times of whole milliseconds.
const DIVIDED: u8 = 0x80;
const DIVISOR: u64 = 1000;
/// A width from here on is that of differences from a straight line, whose slope follows: numbers that count up.
const SLOPED: u8 = 65;
/// Differences above this are kept as they are.
const MAX_SLOPED: u64 = 1 << 40;
/// In place of a width: the chunk is runs, within which each value is the one before and a step. Their bytes, the step
/// and how far the least value lies below the first follow. Times of receipt, and ordinals, which jump where another
/// read begins.
const RUNS: u8 = 127;
/// A chunk with more runs is not looked at further.
const MAX_RUNS: usize = 48;
/// Of so many heads the place of one is kept, from which the others are found.
const HEADS_STEP: usize = 16;

/// Packs values. Layout: the count, then for each chunk its base (zigzag varint), its width in bits with flags (one byte)
/// and its slope, if it has one (zigzag varint), then the bits of all chunks, each beginning on a byte. A chunk of runs has
/// the length and the jump behind each run but the last instead of bits (varint, zigzag varint).
pub fn pack(values: &[i64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() + 64);
    put_varint(&mut out, values.len() as u64);
    let mut body = Vec::with_capacity(values.len() * 2);
    let mut differences = Vec::with_capacity(CHUNK);
    for chunk in values.chunks(CHUNK) {
        pack_chunk(chunk, &mut differences, &mut out, &mut body);
    }
    out.extend_from_slice(&body);
    out.resize(out.len() + PADDING, 0);
    out
}

fn pack_chunk(chunk: &[i64], differences: &mut Vec<u64>, heads: &mut Vec<u8>, body: &mut Vec<u8>) {
    let mut base = chunk.iter().copied().min().unwrap_or(0);
    differences.clear();
    differences.extend(chunk.iter().map(|value| value.wrapping_sub(base) as u64));
    let mut widest = differences.iter().copied().max().unwrap_or(0);
    let is_divided = widest >= DIVISOR && differences.iter().all(|difference| difference.is_multiple_of(DIVISOR));
    let divisor = if is_divided { DIVISOR } else { 1 };
    if is_divided {
        differences.iter_mut().for_each(|difference| *difference /= DIVISOR);
        widest /= DIVISOR;
    }
    let mut flags = if is_divided { DIVIDED } else { 0 };
    let mut slope = None;
    if let Some((steps, least, most)) = sloped(differences, widest)
        && bits(most) + 1 < bits(widest)
    {
        let along = |nth: usize| steps * nth as i64 + least;
        differences.iter_mut().enumerate().for_each(|(nth, value)| *value = (*value as i64 - along(nth)) as u64);
        base = base.wrapping_add(least.wrapping_mul(divisor as i64));
        (slope, widest, flags) = (Some(steps), most, flags | SLOPED);
    }
    let width = bits(widest);
    if let Some((runs, step)) = runs_of(chunk, (chunk.len() * width as usize).div_ceil(8)) {
        let least = chunk.iter().copied().min().unwrap_or(chunk[0]);
        put_varint(heads, zigzag(chunk[0]));
        heads.push(RUNS);
        put_varint(heads, runs.len() as u64);
        put_varint(heads, zigzag(step));
        put_varint(heads, chunk[0].wrapping_sub(least) as u64);
        body.extend_from_slice(&runs);
        return;
    }
    put_varint(heads, zigzag(base));
    heads.push(flags + width as u8);
    if let Some(slope) = slope {
        put_varint(heads, zigzag(slope));
    }
    push_bits(body, differences, width);
}

/// The runs of a chunk and their step, where they take less than so many bytes.
fn runs_of(chunk: &[i64], most_bytes: usize) -> Option<(Vec<u8>, i64)> {
    let steps = || chunk.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    // The step that more than half of all have, if there is one: others would make too many runs.
    let (mut step, mut lead) = (0, 0usize);
    for one in steps() {
        match lead {
            0 => (step, lead) = (one, 1),
            _ if one == step => lead += 1,
            _ => lead -= 1,
        }
    }
    // What takes a byte or two has nothing to save.
    if most_bytes <= 4 || steps().filter(|one| *one != step).count() >= MAX_RUNS {
        return None;
    }
    let (mut runs, mut start) = (Vec::new(), 0);
    for (nth, one) in steps().enumerate().filter(|(_, one)| *one != step) {
        put_varint(&mut runs, (nth + 1 - start) as u64);
        put_varint(&mut runs, zigzag(one.wrapping_sub(step)));
        start = nth + 1;
    }
    (runs.len() + 4 < most_bytes).then_some((runs, step))
}

fn bits(widest: u64) -> u32 {
    64 - widest.leading_zeros()
}

/// The slope of a line through the first and the last, the least difference from it, and how much the greatest is more.
fn sloped(differences: &[u64], widest: u64) -> Option<(i64, i64, u64)> {
    let (first, last) = (*differences.first()?, *differences.last()?);
    if widest > MAX_SLOPED || differences.len() < 2 {
        return None;
    }
    let slope = (last as i64 - first as i64) / (differences.len() as i64 - 1);
    let from_line = || differences.iter().enumerate().map(|(nth, value)| *value as i64 - slope * nth as i64);
    let (least, most) = (from_line().min()?, from_line().max()?);
    Some((slope, least, most.abs_diff(least)))
}

fn push_bits(out: &mut Vec<u8>, values: &[u64], width: u32) {
    let (mut pending, mut bits) = (0u128, 0u32);
    for value in values {
        pending |= u128::from(*value) << bits;
        bits += width;
        while bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(pending as u8);
    }
}

/// A packed sequence, ready to be read.
pub struct Packed {
    bytes: Vec<u8>,
    heads: Heads,
}

/// What stands before the bits of a packed sequence.
struct Heads {
    len: usize,
    chunks: Vec<ChunkHead>,
    /// Where the bits of the last chunk end.
    end: usize,
}

#[derive(Clone, Copy)]
struct ChunkHead {
    base: i64,
    /// No value is smaller.
    least: i64,
    /// If it is made of runs, their step.
    slope: i64,
    multiplier: i64,
    at: u32,
    width: u8,
    has_runs: bool,
}

impl ChunkHead {
    #[inline]
    fn value(self, nth: usize, difference: u64) -> i64 {
        let steps = (difference as i64).wrapping_add(self.slope.wrapping_mul(nth as i64));
        self.base.wrapping_add(steps.wrapping_mul(self.multiplier))
    }

    /// The bits of a value, which begin within the first of these bytes.
    fn difference(self, bytes: &[u8; 16], bit: usize) -> u64 {
        let mask = if self.width == 64 { u64::MAX } else { (1u64 << self.width) - 1 };
        (u128::from_le_bytes(*bytes) >> (bit % 8)) as u64 & mask
    }

    /// The value in a row of a chunk that is made of these runs.
    fn value_in_runs(self, bytes: &[u8], nth: usize) -> i64 {
        let (mut first, mut value) = (0, self.base);
        for (start, begin) in self.runs(bytes).take_while(|(start, _)| *start <= nth) {
            (first, value) = (start, begin);
        }
        value.wrapping_add(self.slope.wrapping_mul((nth - first) as i64))
    }

    /// Where each run begins, and its first value.
    fn runs<'a>(self, mut rest: &'a [u8]) -> impl Iterator<Item = (usize, i64)> + use<'a> {
        let slope = self.slope;
        let mut next = Some((0usize, self.base));
        std::iter::from_fn(move || {
            let (start, value) = next?;
            next = take_varint(&mut rest).zip(take_varint(&mut rest)).map(|(len, jump)| {
                let along = value.wrapping_add(slope.wrapping_mul(len as i64));
                (start.saturating_add(len as usize), along.wrapping_add(unzigzag(jump)))
            });
            Some((start, value))
        })
    }
}

/// Reads the head of one chunk after another.
struct HeadReader<'a> {
    rest: &'a [u8],
    /// Values of the sequence.
    len: usize,
    /// The chunk whose head comes next, and where its bits begin behind all heads.
    chunk: usize,
    at: usize,
}

impl<'a> HeadReader<'a> {
    fn new(mut bytes: &'a [u8]) -> Option<HeadReader<'a>> {
        let len = usize::try_from(take_varint(&mut bytes)?).ok()?;
        Some(HeadReader { rest: bytes, len, chunk: 0, at: 0 })
    }

    fn next(&mut self) -> Option<ChunkHead> {
        let base = unzigzag(take_varint(&mut self.rest)?);
        let (flags, rest) = self.rest.split_first()?;
        self.rest = rest;
        let at = u32::try_from(self.at).ok()?;
        let count = CHUNK.min(self.len.checked_sub(self.chunk * CHUNK)?);
        self.chunk += 1;
        if *flags == RUNS {
            let len = u32::try_from(take_varint(&mut self.rest)?).ok()?;
            let slope = unzigzag(take_varint(&mut self.rest)?);
            let least = base.wrapping_sub(take_varint(&mut self.rest)? as i64);
            self.at += len as usize;
            return Some(ChunkHead { base, least, slope, multiplier: 1, at, width: 0, has_runs: true });
        }
        let (code, multiplier) = (flags & !DIVIDED, if flags & DIVIDED == 0 { 1 } else { DIVISOR as i64 });
        let (width, slope) = match code.checked_sub(SLOPED) {
            None => (code, 0),
            Some(width) => (width, unzigzag(take_varint(&mut self.rest)?)),
        };
        let fall = slope.min(0).wrapping_mul(count as i64 - 1).wrapping_mul(multiplier);
        self.at += (count * usize::from(width)).div_ceil(8);
        Some(ChunkHead { base, least: base.wrapping_add(fall), slope, multiplier, at, width, has_runs: false })
    }
}

impl Heads {
    /// Takes the beginning of what [`pack`] wrote; `None` if it is something else.
    fn read(bytes: &[u8]) -> Option<Heads> {
        let mut reader = HeadReader::new(bytes)?;
        let len = reader.len;
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK).min(bytes.len()));
        for _ in 0..len.div_ceil(CHUNK) {
            chunks.push(reader.next()?);
        }
        let start = bytes.len() - reader.rest.len();
        let end = start + reader.at;
        if end + PADDING != bytes.len() || u32::try_from(end).is_err() {
            return None;
        }
        chunks.iter_mut().for_each(|chunk| chunk.at += start as u32);
        Some(Heads { len, chunks, end })
    }

    /// The bytes of the bits or runs of a chunk.
    fn bits_of(&self, chunk: usize) -> Range<usize> {
        self.chunks[chunk].at as usize..self.chunks.get(chunk + 1).map_or(self.end, |next| next.at as usize)
    }

    /// Bytes in memory.
    fn weight(&self) -> usize {
        self.chunks.len() * std::mem::size_of::<ChunkHead>()
    }
}

/// The heads of a packed sequence as they are written, a tenth of what they are in memory, and where some of them begin.
pub struct PackedHeads {
    len: usize,
    bytes: Vec<u8>,
    /// Of each [`HEADS_STEP`]th chunk, where its head begins and, behind all heads, its bits.
    marks: Vec<(u32, u32)>,
}

/// Where the value of one row is.
pub struct ValuePlace {
    head: ChunkHead,
    nth: usize,
    /// The bytes that tell it.
    pub bytes: Range<usize>,
}

impl PackedHeads {
    /// Takes the beginning of what [`pack`] wrote, of which there are so many bytes; `None` if it is something else, or if
    /// it ends too early.
    pub fn read(bytes: &[u8], all: usize) -> Option<PackedHeads> {
        let mut reader = HeadReader::new(bytes)?;
        let mut marks = Vec::new();
        for chunk in 0..reader.len.div_ceil(CHUNK) {
            if chunk % HEADS_STEP == 0 {
                marks.push((u32::try_from(bytes.len() - reader.rest.len()).ok()?, u32::try_from(reader.at).ok()?));
            }
            reader.next()?;
        }
        let heads = bytes.len() - reader.rest.len();
        let is_whole = heads + reader.at + PADDING == all && u32::try_from(all).is_ok();
        is_whole.then(|| PackedHeads { len: reader.len, bytes: bytes[..heads].to_vec(), marks })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Where the value of a row is; `None` if there is none.
    pub fn place_of(&self, row: usize) -> Option<ValuePlace> {
        let (chunk, nth) = (row / CHUNK, row % CHUNK);
        let (head_at, at) = *self.marks.get(chunk / HEADS_STEP).filter(|_| row < self.len)?;
        let (rest, first) = (self.bytes.get(head_at as usize..)?, chunk - chunk % HEADS_STEP);
        let mut reader = HeadReader { rest, len: self.len, chunk: first, at: at as usize };
        for _ in first..chunk {
            reader.next()?;
        }
        let head = reader.next()?;
        let start = self.bytes.len() + head.at as usize;
        let bytes = match head.has_runs {
            true => start..self.bytes.len() + reader.at,
            false => {
                let at = start + nth * usize::from(head.width) / 8;
                at..at + PADDING
            }
        };
        Some(ValuePlace { head, nth, bytes })
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.marks.len() * std::mem::size_of::<(u32, u32)>()
    }
}

impl ValuePlace {
    /// The value, from the bytes that tell it.
    pub fn value(&self, bytes: &[u8]) -> Option<i64> {
        Some(match self.head.has_runs {
            true => self.head.value_in_runs(bytes, self.nth),
            false => {
                let difference = self.head.difference(bytes.first_chunk()?, self.nth * usize::from(self.head.width));
                self.head.value(self.nth, difference)
            }
        })
    }
}

impl Packed {
    /// Takes what [`pack`] wrote; `None` if it is something else.
    pub fn open(bytes: Vec<u8>) -> Option<Packed> {
        let heads = Heads::read(&bytes)?;
        Some(Packed { bytes, heads })
    }

    pub fn len(&self) -> usize {
        self.heads.len
    }

    /// No value of a chunk is smaller than this; of most chunks it is the smallest.
    pub fn least(&self, chunk: usize) -> i64 {
        self.heads.chunks[chunk].least
    }

    /// No value of a chunk is greater than this; none where its bits do not tell.
    pub fn most(&self, chunk: usize) -> Option<i64> {
        let head = self.heads.chunks[chunk];
        let is_plain = !head.has_runs && head.slope == 0 && head.width < 63 && head.multiplier >= 0;
        let greatest = |head: ChunkHead| head.multiplier.checked_mul((1i64 << head.width) - 1)?.checked_add(head.base);
        Some(head).filter(|_| is_plain).and_then(greatest)
    }

    pub fn get(&self, row: usize) -> i64 {
        let (head, nth) = (self.heads.chunks[row / CHUNK], row % CHUNK);
        if head.has_runs {
            return head.value_in_runs(&self.bytes[self.heads.bits_of(row / CHUNK)], nth);
        }
        head.value(nth, self.read(head, nth))
    }

    fn read(&self, head: ChunkHead, nth: usize) -> u64 {
        let bit = nth * usize::from(head.width);
        let at = head.at as usize + bit / 8;
        head.difference(self.bytes[at..].first_chunk().expect("sixteen bytes"), bit)
    }

    /// The values of one chunk; `out` is overwritten.
    pub fn chunk(&self, chunk: usize, out: &mut Vec<i64>) {
        out.clear();
        let head = self.heads.chunks[chunk];
        let count = CHUNK.min(self.heads.len - chunk * CHUNK);
        if head.has_runs {
            let mut runs = head.runs(&self.bytes[self.heads.bits_of(chunk)]).peekable();
            while let Some((_, mut value)) = runs.next() {
                let end = runs.peek().map_or(count, |(start, _)| count.min(*start));
                while out.len() < end {
                    out.push(value);
                    value = value.wrapping_add(head.slope);
                }
            }
        } else if head.width == 0 && head.slope == 0 {
            out.resize(count, head.base);
        } else if head.width <= 56 {
            // A plain loop: it is what most questions spend their time in.
            let (mask, width) = ((1u64 << head.width) - 1, head.width as usize);
            let start = head.at as usize;
            let bytes = &self.bytes[start..start + (count * width).div_ceil(8) + PADDING];
            let mut bit = 0;
            out.resize(count, 0);
            for (nth, out) in out.iter_mut().enumerate() {
                let word = u64::from_le_bytes(bytes[bit / 8..bit / 8 + 8].try_into().expect("eight bytes"));
                *out = head.value(nth, word >> (bit % 8) & mask);
                bit += width;
            }
        } else {
            out.extend((0..count).map(|nth| head.value(nth, self.read(head, nth))));
        }
    }

    /// The values of some rows of a chunk; what `out` has for others is no value of theirs.
    pub fn rows(&self, chunk: usize, rows: &[usize], out: &mut Vec<i64>) {
        if rows.len() > FEW_ROWS || self.heads.chunks[chunk].has_runs {
            return self.chunk(chunk, out);
        }
        out.resize(CHUNK.min(self.heads.len - chunk * CHUNK), 0);
        for row in rows {
            out[*row] = self.get(chunk * CHUNK + row);
        }
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.heads.weight()
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_reads_the_same_by_row_and_by_chunk(
            values in proptest::collection::vec(prop_oneof![any::<i64>(), 0i64..5, 1_700_000_000_000_000i64..1_700_000_001_000_000], 0..700),
            slope in prop_oneof![Just(0i64), -5000i64..5000],
            step in prop_oneof![Just(1i64), Just(1000)],
        ) {
            let values: Vec<i64> = values
                .into_iter()
                .enumerate()
                .map(|(nth, value)| value.wrapping_add(slope * nth as i64).wrapping_mul(step))
                .collect();
            let packed = Packed::open(pack(&values)).expect("it was just packed");
            prop_assert_eq!(packed.len(), values.len());
            let mut out = Vec::new();
            for chunk in 0..values.len().div_ceil(CHUNK) {
                packed.chunk(chunk, &mut out);
                prop_assert_eq!(&out[..], &values[chunk * CHUNK..(chunk * CHUNK + out.len())]);
                prop_assert!(out.iter().all(|value| packed.least(chunk) <= *value));
                for step in [1, 50] {
                    let rows: Vec<usize> = (0..out.len()).step_by(step).collect();
                    let mut some = Vec::new();
                    packed.rows(chunk, &rows, &mut some);
                    prop_assert!(rows.iter().all(|row| some[*row] == out[*row]) && some.len() == out.len());
                }
            }
            let bytes = pack(&values);
            let heads = PackedHeads::read(&bytes, bytes.len()).expect("it was just packed");
            for (row, value) in values.iter().enumerate() {
                prop_assert_eq!(packed.get(row), *value);
                let place = heads.place_of(row).expect("there is such a row");
                prop_assert_eq!(place.value(&bytes[place.bytes.clone()]), Some(*value));
            }
            prop_assert!(heads.place_of(values.len()).is_none());
        }

        #[test]
        fn runs_read_the_same_and_take_less_room(
            runs in proptest::collection::vec((1usize..200, prop_oneof![any::<i64>(), 0i64..100_000]), 1..12),
            step in prop_oneof![Just(0i64), Just(1), -9i64..9, any::<i64>()],
        ) {
            let values: Vec<i64> = runs
                .iter()
                .flat_map(|(len, first)| (0..*len as i64).map(move |nth| first.wrapping_add(step.wrapping_mul(nth))))
                .collect();
            let bytes = pack(&values);
            // The jump behind a run takes at most ten bytes, and so does each number of a chunk's head.
            prop_assert!(bytes.len() <= runs.len() * 24 + values.len().div_ceil(CHUNK) * 40 + PADDING + 4);
            let packed = Packed::open(bytes).expect("it was just packed");
            let mut out = Vec::new();
            for chunk in 0..values.len().div_ceil(CHUNK) {
                packed.chunk(chunk, &mut out);
                prop_assert_eq!(&out[..], &values[chunk * CHUNK..(chunk * CHUNK + out.len())]);
                prop_assert!(out.iter().all(|value| packed.least(chunk) <= *value));
            }
            for (row, value) in values.iter().enumerate() {
                prop_assert_eq!(packed.get(row), *value);
            }
        }

        #[test]
        fn bytes_that_nobody_packed_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(heads) = PackedHeads::read(&bytes, bytes.len()) {
                for place in (0..heads.len().min(1000)).filter_map(|row| heads.place_of(row)) {
                    let _ = bytes.get(place.bytes.clone()).and_then(|bytes| place.value(bytes));
                }
            }
            if let Some(packed) = Packed::open(bytes) {
                let mut out = Vec::new();
                (0..packed.len().div_ceil(CHUNK)).for_each(|chunk| packed.chunk(chunk, &mut out));
            }
        }
    }
}
