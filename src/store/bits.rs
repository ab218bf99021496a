//! Integers in as few bits as the widest of a chunk needs, readable chunk by chunk.

use crate::varint::{put_varint, take_varint};

/// Rows of one chunk: the unit in which columns are decoded and postings point.
pub const CHUNK: usize = 256;

/// Bytes behind the last value, so that a value can be read with one wide load.
const PADDING: usize = 16;

/// Packs values. Layout: the count, then for each chunk its minimum (zigzag varint) and width in bits (one byte), then
/// the bits of all chunks, each beginning on a byte.
pub fn pack(values: &[i64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() + 64);
    put_varint(&mut out, values.len() as u64);
    let mut body = Vec::with_capacity(values.len() * 2);
    for chunk in values.chunks(CHUNK) {
        let min = chunk.iter().copied().min().unwrap_or(0);
        let widest = chunk.iter().map(|value| value.wrapping_sub(min) as u64).max().unwrap_or(0);
        let width = 64 - widest.leading_zeros();
        put_varint(&mut out, zigzag(min));
        out.push(width as u8);
        push_bits(&mut body, chunk, min, width);
    }
    out.extend_from_slice(&body);
    out.resize(out.len() + PADDING, 0);
    out
}

fn push_bits(out: &mut Vec<u8>, chunk: &[i64], min: i64, width: u32) {
    let (mut pending, mut bits) = (0u128, 0u32);
    for value in chunk {
        pending |= u128::from(value.wrapping_sub(min) as u64) << bits;
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
    len: usize,
    chunks: Vec<ChunkHead>,
}

#[derive(Clone, Copy)]
struct ChunkHead {
    min: i64,
    width: u32,
    at: usize,
}

impl Packed {
    /// Takes what [`pack`] wrote; `None` if it is something else.
    pub fn open(bytes: Vec<u8>) -> Option<Packed> {
        let mut rest = &bytes[..];
        let len = usize::try_from(take_varint(&mut rest)?).ok()?;
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK).min(bytes.len()));
        let mut at = 0;
        for nth in 0..len.div_ceil(CHUNK) {
            let min = unzigzag(take_varint(&mut rest)?);
            let (width, tail) = rest.split_first()?;
            rest = tail;
            if *width > 64 {
                return None;
            }
            let count = CHUNK.min(len - nth * CHUNK);
            chunks.push(ChunkHead { min, width: u32::from(*width), at });
            at += (count * usize::from(*width)).div_ceil(8);
        }
        let start = bytes.len() - rest.len();
        if rest.len() != at + PADDING {
            return None;
        }
        chunks.iter_mut().for_each(|chunk| chunk.at += start);
        Some(Packed { bytes, len, chunks })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The smallest value of a chunk; the values of most sorted columns are near it.
    pub fn min(&self, chunk: usize) -> i64 {
        self.chunks[chunk].min
    }

    pub fn get(&self, row: usize) -> i64 {
        let head = self.chunks[row / CHUNK];
        head.min.wrapping_add(self.read(head, row % CHUNK) as i64)
    }

    fn read(&self, head: ChunkHead, nth: usize) -> u64 {
        let bit = nth * head.width as usize;
        let at = head.at + bit / 8;
        let word = u128::from_le_bytes(self.bytes[at..at + 16].try_into().expect("sixteen bytes"));
        let mask = if head.width == 64 { u64::MAX } else { (1u64 << head.width) - 1 };
        (word >> (bit % 8)) as u64 & mask
    }

    /// The values of one chunk; `out` is overwritten.
    pub fn chunk(&self, chunk: usize, out: &mut Vec<i64>) {
        out.clear();
        let head = self.chunks[chunk];
        let count = CHUNK.min(self.len - chunk * CHUNK);
        if head.width == 0 {
            out.resize(count, head.min);
        } else if head.width <= 56 {
            let mask = (1u64 << head.width) - 1;
            out.extend((0..count).map(|nth| {
                let bit = nth * head.width as usize;
                let at = head.at + bit / 8;
                let word = u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"));
                head.min.wrapping_add((word >> (bit % 8) & mask) as i64)
            }));
        } else {
            out.extend((0..count).map(|nth| head.min.wrapping_add(self.read(head, nth) as i64)));
        }
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.chunks.len() * std::mem::size_of::<ChunkHead>()
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
            values in proptest::collection::vec(prop_oneof![any::<i64>(), 0i64..5, 1_700_000_000_000_000i64..1_700_000_001_000_000], 0..700)
        ) {
            let packed = Packed::open(pack(&values)).expect("it was just packed");
            prop_assert_eq!(packed.len(), values.len());
            let mut out = Vec::new();
            for chunk in 0..values.len().div_ceil(CHUNK) {
                packed.chunk(chunk, &mut out);
                prop_assert_eq!(&out[..], &values[chunk * CHUNK..(chunk * CHUNK + out.len())]);
            }
            for (row, value) in values.iter().enumerate() {
                prop_assert_eq!(packed.get(row), *value);
            }
        }

        #[test]
        fn bytes_that_nobody_packed_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(packed) = Packed::open(bytes) {
                let mut out = Vec::new();
                (0..packed.chunks.len()).for_each(|chunk| packed.chunk(chunk, &mut out));
            }
        }
    }
}
