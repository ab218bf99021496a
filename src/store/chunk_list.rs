//! A list of chunks in few bits: the low bits of each, and the high ones counted.
//!
//! A list of `count` chunks of `chunks` begins with `count * 2`; with one more if its chunks are those that are missing,
//! which are fewer. The low bits of each follow, as many as a step from one to the next has on average, then for each a one
//! behind as many zeros as its high part is more than that of the one before. So the length follows from the head, and a
//! list that nobody asked for costs nothing. Where a bitmap is no longer, it stands behind a zero. Before format 6 lists
//! were steps, a byte or two for each.

use super::chunks::ChunkSet;
use crate::varint::{put_varint, take_varint};

/// Marks a bitmap in place of a count.
const BITMAP: u64 = 0;

/// Low bits of each chunk.
fn low_bits(count: usize, chunks: usize) -> usize {
    (chunks / count.max(1)).max(1).ilog2() as usize
}

/// Bytes behind the head.
fn bytes_of(count: usize, chunks: usize) -> usize {
    match low_bits(count, chunks) {
        _ if count == 0 => 0,
        low => (count * (low + 1) + ((chunks - 1) >> low)).div_ceil(8),
    }
}

/// Writes ascending chunks.
pub fn push(out: &mut Vec<u8>, list: &[u16], chunks: usize) {
    let missing = chunks - list.len();
    let (count, is_of_missing) = if missing < list.len() { (missing, true) } else { (list.len(), false) };
    let (len, bitmap) = (bytes_of(count, chunks), chunks.div_ceil(8));
    let start;
    if len >= bitmap || list.is_empty() {
        put_varint(out, BITMAP);
        start = out.len();
        out.resize(start + bitmap, 0);
        list.iter().for_each(|chunk| out[start + usize::from(*chunk) / 8] |= 1 << (chunk % 8));
        return;
    }
    put_varint(out, (count as u64) << 1 | u64::from(is_of_missing));
    start = out.len();
    out.resize(start + len, 0);
    let bits = &mut out[start..];
    if is_of_missing {
        let mut present = list.iter().map(|chunk| usize::from(*chunk)).peekable();
        let all = (0..chunks).filter(|chunk| present.next_if_eq(chunk).is_none());
        push_bits(bits, all, low_bits(count, chunks), count);
    } else {
        push_bits(bits, list.iter().map(|chunk| usize::from(*chunk)), low_bits(count, chunks), count);
    }
}

fn push_bits(bits: &mut [u8], list: impl Iterator<Item = usize>, low: usize, count: usize) {
    for (nth, chunk) in list.enumerate() {
        let (at, of_low) = (nth * low, chunk & ((1 << low) - 1));
        // At most ten bits, which lie in three bytes.
        let spread = (of_low << (at % 8)).to_le_bytes();
        for (byte, more) in bits[at / 8..].iter_mut().zip(&spread[..3]) {
            *byte |= more;
        }
        let high = count * low + (chunk >> low) + nth;
        bits[high / 8] |= 1 << (high % 8);
    }
}

/// Takes a list from the front; `None` where there is none.
pub fn take(from: &mut &[u8], chunks: usize) -> Option<ChunkSet> {
    let head = take_varint(from)?;
    if head == BITMAP {
        return take_bitmap(from, chunks);
    }
    let count = usize::try_from(head >> 1).ok().filter(|count| *count <= chunks)?;
    let (bits, rest) = from.split_at_checked(bytes_of(count, chunks))?;
    *from = rest;
    let is_of_missing = head & 1 == 1;
    let mut set = if is_of_missing { ChunkSet::all(chunks) } else { ChunkSet::none(chunks) };
    let low = low_bits(count, chunks);
    let mut at = count * low;
    for nth in 0..count {
        loop {
            let left = bits.get(at / 8)? >> (at % 8);
            if left != 0 {
                at += left.trailing_zeros() as usize;
                break;
            }
            at = (at / 8 + 1) * 8;
        }
        let high = (at - count * low).checked_sub(nth)?;
        at += 1;
        let of_low = nth * low;
        let mut word = [0; 4];
        let end = bits.len().min(of_low / 8 + 3);
        let some = &bits[of_low / 8..end];
        word[..some.len()].copy_from_slice(some);
        let of_low = (u32::from_le_bytes(word) >> (of_low % 8)) as usize & ((1 << low) - 1);
        let chunk = high << low | of_low;
        match is_of_missing {
            _ if chunk >= chunks => return None,
            true => set.remove(chunk),
            false => set.insert(chunk),
        }
    }
    Some(set)
}

/// Passes a list by.
pub fn skip(from: &mut &[u8], chunks: usize) -> Option<()> {
    let head = take_varint(from)?;
    let len = match head {
        BITMAP => chunks.div_ceil(8),
        _ => bytes_of(usize::try_from(head >> 1).ok().filter(|count| *count <= chunks)?, chunks),
    };
    *from = from.get(len..)?;
    Some(())
}

/// The same as [`take`] of a list in a part before format 6.
pub fn take_steps(from: &mut &[u8], chunks: usize) -> Option<ChunkSet> {
    let count = take_varint(from)?;
    if count == BITMAP {
        return take_bitmap(from, chunks);
    }
    let (mut set, mut chunk) = (ChunkSet::none(chunks), 0u64);
    for _ in 0..count {
        chunk = chunk.checked_add(take_varint(from)?)?;
        if chunk >= chunks as u64 {
            return None;
        }
        set.insert(chunk as usize);
    }
    Some(set)
}

/// The same as [`skip`] of a list in a part before format 6.
pub fn skip_steps(from: &mut &[u8], chunks: usize) -> Option<()> {
    let count = take_varint(from)?;
    if count == BITMAP {
        *from = from.get(chunks.div_ceil(8)..)?;
        return Some(());
    }
    (0..count).try_for_each(|_| take_varint(from).map(drop))
}

fn take_bitmap(from: &mut &[u8], chunks: usize) -> Option<ChunkSet> {
    let (bitmap, rest) = from.split_at_checked(chunks.div_ceil(8))?;
    *from = rest;
    let mut set = ChunkSet::none(chunks);
    let is_in = |chunk: &usize| bitmap[chunk / 8] & 1 << (chunk % 8) != 0;
    (0..chunks).filter(is_in).for_each(|chunk| set.insert(chunk));
    Some(set)
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Above this many chunks a list was written as a bitmap.
    const MAX_STEPS: usize = 31;

    /// Writes a list as parts before format 6 have it.
    pub fn push_steps(out: &mut Vec<u8>, list: &[u16], chunks: usize) {
        let numbers = list.iter().map(|chunk| usize::from(*chunk));
        if list.len() > MAX_STEPS.min(chunks.div_ceil(8)) {
            put_varint(out, BITMAP);
            let start = out.len();
            out.resize(start + chunks.div_ceil(8), 0);
            numbers.for_each(|chunk| out[start + chunk / 8] |= 1 << (chunk % 8));
            return;
        }
        put_varint(out, list.len() as u64);
        let mut last = 0;
        for chunk in numbers {
            put_varint(out, (chunk - last) as u64);
            last = chunk;
        }
    }

    proptest! {
        #[test]
        fn a_list_reads_the_same_in_no_more_room_and_is_passed_by(
            chunks in prop_oneof![1usize..40, 250usize..260, 1usize..=super::super::chunks::MAX_CHUNKS],
            one_in in 1u64..200, seed: u64, behind in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut state = seed;
            let mut random = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            };
            let some: Vec<u16> = (0..chunks as u16).filter(|_| random() % one_in == 0).collect();
            let most: Vec<u16> = (0..chunks as u16).filter(|chunk| some.binary_search(chunk).is_err()).collect();
            for list in [some, most] {
                let expected: Vec<usize> = list.iter().map(|chunk| usize::from(*chunk)).collect();
                let (mut new, mut earlier) = (Vec::new(), Vec::new());
                push(&mut new, &list, chunks);
                // No hash is in no chunk.
                if list.is_empty() {
                    earlier.extend(std::iter::once(0).chain(std::iter::repeat_n(0, chunks.div_ceil(8))));
                } else {
                    push_steps(&mut earlier, &list, chunks);
                }
                prop_assert!(new.len() <= earlier.len() + 2, "{} {}", new.len(), earlier.len());
                new.extend_from_slice(&behind);
                earlier.extend_from_slice(&behind);
                let (mut read, mut passed) = (&new[..], &new[..]);
                prop_assert_eq!(take(&mut read, chunks).expect("a list").iter().collect::<Vec<_>>(), expected.clone());
                prop_assert!(skip(&mut passed, chunks).is_some() && read == behind && passed == behind);
                let (mut read, mut passed) = (&earlier[..], &earlier[..]);
                prop_assert_eq!(take_steps(&mut read, chunks).expect("a list").iter().collect::<Vec<_>>(), expected);
                prop_assert!(skip_steps(&mut passed, chunks).is_some() && read == behind && passed == behind);
            }
        }

        #[test]
        fn bytes_that_are_no_list_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..80), chunks in 0usize..300) {
            for (take, skip) in [
                (take as fn(&mut &[u8], usize) -> Option<ChunkSet>, skip as fn(&mut &[u8], usize) -> Option<()>),
                (take_steps, skip_steps),
            ] {
                let (mut read, mut passed) = (&bytes[..], &bytes[..]);
                let set = take(&mut read, chunks);
                prop_assert!(set.is_none_or(|set| set.iter().all(|chunk| chunk < chunks)));
                let _ = skip(&mut passed, chunks);
            }
        }
    }
}
