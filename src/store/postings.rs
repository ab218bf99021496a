//! Which chunks of a part have a hash: sorted hashes in groups, each with the list of its chunks.
//!
//! A group holds up to [`GROUP`] hashes. The index (first hash, offset and checksum of each group) is small and stays
//! in memory; a group is read when it is asked for.

use super::chunks::ChunkSet;
use crate::varint::{put_varint, take_varint};

const GROUP: usize = 64;

/// Above this many chunks a list is written as a bitmap.
const MAX_LIST: usize = 31;
/// Marks a bitmap in place of a count.
const BITMAP: u64 = 0;

/// Builds postings from the hashes of each chunk.
#[derive(Default)]
pub struct PostingsWriter {
    pairs: Vec<u32>,
    chunks: usize,
}

/// Where a group begins, in `body`.
#[derive(Clone, Copy, Debug)]
struct Group {
    first: u32,
    at: u32,
    crc: u32,
}

/// The index of postings.
#[derive(Debug, Default)]
pub struct PostingsIndex {
    groups: Vec<Group>,
    body_len: u32,
    chunks: usize,
}

impl PostingsWriter {
    /// Adds the ascending hashes of the next chunk.
    pub fn add_chunk(&mut self, hashes: &[u32]) {
        assert!(self.chunks < super::chunks::MAX_CHUNKS, "a part has a bounded number of chunks");
        // A hash has 22 bits and a chunk number 10: both fit one word.
        let chunk = self.chunks as u32;
        self.pairs.extend(hashes.iter().map(|hash| hash << 10 | chunk));
        self.chunks += 1;
    }

    /// Index and body.
    pub fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        radix_sort(&mut self.pairs);
        let (mut groups, mut body, mut in_group, mut last) = (Vec::new(), Vec::new(), 0, 0);
        for run in self.pairs.chunk_by(|a, b| a >> 10 == b >> 10) {
            let hash = run[0] >> 10;
            if in_group == 0 {
                groups.push(Group { first: hash, at: body.len() as u32, crc: 0 });
                last = hash;
            }
            put_varint(&mut body, u64::from(hash - last));
            push_chunks(&mut body, run, self.chunks);
            last = hash;
            in_group = (in_group + 1) % GROUP;
        }
        let mut index = Vec::with_capacity(groups.len() * 12 + 8);
        index.extend_from_slice(&(self.chunks as u32).to_le_bytes());
        index.extend_from_slice(&(body.len() as u32).to_le_bytes());
        for (nth, group) in groups.iter().enumerate() {
            let end = groups.get(nth + 1).map_or(body.len(), |next| next.at as usize);
            let crc = crc32c::crc32c(&body[group.at as usize..end]);
            index.extend_from_slice(&group.first.to_le_bytes());
            index.extend_from_slice(&group.at.to_le_bytes());
            index.extend_from_slice(&crc.to_le_bytes());
        }
        (index, body)
    }
}

/// Sorts by hash, then chunk: pairs come in the order of their chunks, and the sort is stable.
fn radix_sort(pairs: &mut Vec<u32>) {
    let mut other = vec![0; pairs.len()];
    for shift in [10, 21] {
        let mut counts = [0usize; 1 << 11];
        pairs.iter().for_each(|pair| counts[(pair >> shift) as usize & 0x7FF] += 1);
        let mut at = 0;
        for count in &mut counts {
            at += std::mem::replace(count, at);
        }
        for pair in pairs.iter() {
            let place = &mut counts[(pair >> shift) as usize & 0x7FF];
            other[*place] = *pair;
            *place += 1;
        }
        std::mem::swap(pairs, &mut other);
    }
}

fn push_chunks(body: &mut Vec<u8>, run: &[u32], chunks: usize) {
    if run.len() > MAX_LIST.min(chunks.div_ceil(8)) {
        put_varint(body, BITMAP);
        let start = body.len();
        body.resize(start + chunks.div_ceil(8), 0);
        for pair in run {
            let chunk = (pair & 0x3FF) as usize;
            body[start + chunk / 8] |= 1 << (chunk % 8);
        }
        return;
    }
    put_varint(body, run.len() as u64);
    let mut last = 0;
    for pair in run {
        let chunk = pair & 0x3FF;
        put_varint(body, u64::from(chunk - last));
        last = chunk;
    }
}

impl PostingsIndex {
    /// Reads an index; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<PostingsIndex> {
        let word =
            |at: usize| bytes.get(at..at + 4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
        let (chunks, body_len) = (word(0)? as usize, word(4)?);
        let groups = bytes[8..].as_chunks::<12>().0.iter().map(|entry| {
            let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes"));
            Group { first: word(0), at: word(4), crc: word(8) }
        });
        Some(PostingsIndex { groups: groups.collect(), body_len, chunks })
    }

    pub fn weight(&self) -> usize {
        self.groups.len() * std::mem::size_of::<Group>()
    }

    /// The chunks that have this hash. `read` gives bytes of the body from an offset; `None` where they are damaged.
    pub fn chunks_of<E>(
        &self,
        hash: u32,
        read: impl FnOnce(u32, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Option<ChunkSet>, E> {
        let nth = self.groups.partition_point(|group| group.first <= hash);
        let Some(nth) = nth.checked_sub(1) else { return Ok(Some(ChunkSet::none(self.chunks))) };
        let group = self.groups[nth];
        let end = self.groups.get(nth + 1).map_or(self.body_len, |next| next.at);
        let bytes = read(group.at, end.saturating_sub(group.at) as usize)?;
        if crc32c::crc32c(&bytes) != group.crc {
            return Ok(None);
        }
        Ok(self.find(group.first, &bytes, hash))
    }

    fn find(&self, first: u32, mut bytes: &[u8], wanted: u32) -> Option<ChunkSet> {
        let mut hash = first;
        while !bytes.is_empty() {
            hash = hash.checked_add(u32::try_from(take_varint(&mut bytes)?).ok()?)?;
            let count = take_varint(&mut bytes)?;
            let mut set = ChunkSet::none(self.chunks);
            if count == BITMAP {
                let (bitmap, rest) = bytes.split_at_checked(self.chunks.div_ceil(8))?;
                bytes = rest;
                if hash == wanted {
                    (0..self.chunks)
                        .filter(|chunk| bitmap[chunk / 8] & 1 << (chunk % 8) != 0)
                        .for_each(|chunk| set.insert(chunk));
                    return Some(set);
                }
            } else {
                let mut chunk = 0;
                for _ in 0..count {
                    chunk += take_varint(&mut bytes)? as usize;
                    if hash == wanted {
                        set.insert(chunk.min(self.chunks.saturating_sub(1)));
                    }
                }
                if hash == wanted {
                    return Some(set);
                }
            }
            if hash > wanted {
                break;
            }
        }
        Some(ChunkSet::none(self.chunks))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_hash_is_found_in_its_chunks_and_no_others(
            chunks in proptest::collection::vec(proptest::collection::btree_set(0u32..1 << 22, 0..400), 1..70),
            common in proptest::collection::btree_set(0u32..1 << 22, 0..20),
        ) {
            let mut writer = PostingsWriter::default();
            let chunks: Vec<BTreeSet<u32>> = chunks.into_iter().map(|chunk| chunk.union(&common).copied().collect()).collect();
            for chunk in &chunks {
                writer.add_chunk(&chunk.iter().copied().collect::<Vec<_>>());
            }
            let (index, body) = writer.finish();
            let index = PostingsIndex::read(&index).expect("an index");
            let asked: BTreeSet<u32> = chunks.iter().flatten().copied().chain([0, 7, (1 << 22) - 1]).collect();
            for hash in asked {
                let read = |at: u32, len: usize| Ok::<_, ()>(body[at as usize..at as usize + len].to_vec());
                let set = index.chunks_of(hash, read).unwrap().expect("whole");
                let expected: Vec<usize> = (0..chunks.len()).filter(|nth| chunks[*nth].contains(&hash)).collect();
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected);
            }
        }
    }
}
