//! Which chunks of a part contain a hash: sorted hashes in groups, each with its list of chunks.
//!
//! The substrings of one word are in the same chunks, so a list of chunks is written once, however many hashes have it:
//! `lists`, those that most hashes have first. A hash of one chunk needs no list. Groups hold up to [`GROUP`] hashes;
//! lists lie in pages. The index (first hash, offset and checksum of each group, checksum of each page) is small and
//! stays in memory; groups and pages are read when they are asked for.

use std::collections::HashMap;

use super::chunks::ChunkSet;
use super::hashing::Seeded;
use crate::varint::{put_varint, take_varint};

const GROUP: usize = 64;

/// Above this many chunks a list is written as a bitmap.
const MAX_LIST: usize = 31;
/// Marks a bitmap in place of a count.
const BITMAP: u64 = 0;
/// Bytes of a page of lists; no list lies in two.
const PAGE: usize = 4096;
const HEAD: usize = 16;
const ENTRY: usize = 12;

/// A list of more chunks than this part of all, in percent, becomes one of all, where that is allowed.
const DENSE_PERCENT: usize = 60;

/// Builds postings from the hashes of each chunk.
#[derive(Default)]
pub struct PostingsWriter {
    pairs: Vec<u32>,
    chunks: usize,
    rounds_up: bool,
}

/// What is written of postings.
pub struct Postings {
    pub index: Vec<u8>,
    pub groups: Vec<u8>,
    pub lists: Vec<u8>,
}

/// Where a group begins, in `groups`.
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
    groups_len: u32,
    pages: Vec<u32>,
    lists_len: u32,
    chunks: usize,
}

/// Where some bytes of postings lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    Groups { at: u32, len: usize },
    Lists { at: u32, len: usize },
}

impl PostingsWriter {
    /// Postings that may name all chunks instead of most.
    pub fn rounding_up() -> PostingsWriter {
        PostingsWriter { rounds_up: true, ..PostingsWriter::default() }
    }

    /// Adds the ascending hashes of the next chunk.
    pub fn add_chunk(&mut self, hashes: impl Iterator<Item = u32>) {
        assert!(self.chunks < super::chunks::MAX_CHUNKS, "a part has a bounded number of chunks");
        // A hash has 22 bits and a chunk number 10: both fit one word.
        let chunk = self.chunks as u32;
        self.pairs.extend(hashes.map(|hash| hash << 10 | chunk));
        self.chunks += 1;
    }

    pub fn finish(mut self) -> Postings {
        radix_sort(&mut self.pairs);
        let (lists, places) = self.lists();
        let (mut groups, mut body, mut in_group, mut last) = (Vec::new(), Vec::new(), 0, 0);
        let mut places = places.into_iter();
        for run in self.pairs.chunk_by(|a, b| a >> 10 == b >> 10) {
            let hash = run[0] >> 10;
            if in_group == 0 {
                groups.push(Group { first: hash, at: body.len() as u32, crc: 0 });
                last = hash;
            }
            put_varint(&mut body, u64::from(hash - last));
            let place = match run {
                [only] => u64::from(only & 0x3FF),
                _ => self.chunks as u64 + u64::from(places.next().expect("each longer run has a list")),
            };
            put_varint(&mut body, place);
            last = hash;
            in_group = (in_group + 1) % GROUP;
        }
        Postings { index: self.index(&mut groups, &body, &lists), groups: body, lists }
    }

    /// All lists, and for each hash of more than one chunk where its list begins.
    fn lists(&self) -> (Vec<u8>, Vec<u32>) {
        let hasher = Seeded::default();
        let mut numbers: HashMap<&[u8], u32, Seeded> = HashMap::with_hasher(hasher);
        let (mut uses, mut of_runs): (Vec<(u32, &[u8])>, Vec<u32>) = (Vec::new(), Vec::new());
        // The chunks of a run as bytes, two for each, so that equal lists are equal bytes.
        let chunk_bytes: Vec<u8> = self.pairs.iter().flat_map(|pair| ((pair & 0x3FF) as u16).to_le_bytes()).collect();
        let all: Vec<u8> = (0..self.chunks as u16).flat_map(u16::to_le_bytes).collect();
        let mut at = 0;
        for run in self.pairs.chunk_by(|a, b| a >> 10 == b >> 10) {
            let is_dense = self.rounds_up && run.len() * 100 >= self.chunks * DENSE_PERCENT;
            let bytes = if is_dense { &all[..] } else { &chunk_bytes[at * 2..(at + run.len()) * 2] };
            at += run.len();
            if run.len() > 1 {
                let number = *numbers.entry(bytes).or_insert_with(|| {
                    uses.push((0, bytes));
                    uses.len() as u32 - 1
                });
                uses[number as usize].0 += 1;
                of_runs.push(number);
            }
        }
        let mut order: Vec<u32> = (0..uses.len() as u32).collect();
        order.sort_by_key(|number| std::cmp::Reverse(uses[*number as usize].0));
        let (mut lists, mut places, mut list) = (Vec::new(), vec![0; uses.len()], Vec::new());
        for number in order {
            list.clear();
            push_list(&mut list, uses[number as usize].1, self.chunks);
            let in_page = lists.len() % PAGE;
            if in_page + list.len() > PAGE {
                lists.resize(lists.len() + PAGE - in_page, 0);
            }
            places[number as usize] = lists.len() as u32;
            lists.extend_from_slice(&list);
        }
        of_runs.iter_mut().for_each(|number| *number = places[*number as usize]);
        (lists, of_runs)
    }

    fn index(&self, groups: &mut [Group], body: &[u8], lists: &[u8]) -> Vec<u8> {
        let mut index = Vec::with_capacity(HEAD + groups.len() * ENTRY + lists.len() / PAGE * 4 + 4);
        for word in [self.chunks, body.len(), lists.len(), groups.len()] {
            index.extend_from_slice(&(word as u32).to_le_bytes());
        }
        for nth in 0..groups.len() {
            let end = groups.get(nth + 1).map_or(body.len(), |next| next.at as usize);
            groups[nth].crc = crc32c::crc32c(&body[groups[nth].at as usize..end]);
            for word in [groups[nth].first, groups[nth].at, groups[nth].crc] {
                index.extend_from_slice(&word.to_le_bytes());
            }
        }
        lists.chunks(PAGE).for_each(|page| index.extend_from_slice(&crc32c::crc32c(page).to_le_bytes()));
        index
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

/// Writes a list of chunks, given with two bytes for each.
fn push_list(out: &mut Vec<u8>, list: &[u8], chunks: usize) {
    let list = list.as_chunks::<2>().0;
    let numbers = list.iter().map(|bytes| usize::from(u16::from_le_bytes(*bytes)));
    if list.len() > MAX_LIST.min(chunks.div_ceil(8)) {
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

impl PostingsIndex {
    /// Reads an index; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<PostingsIndex> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (chunks, groups_len, lists_len) = (word(head, 0) as usize, word(head, 4), word(head, 8));
        let (groups, pages) = rest.split_at_checked((word(head, 12) as usize).checked_mul(ENTRY)?)?;
        let groups = groups.as_chunks::<ENTRY>().0.iter();
        let groups = groups.map(|entry| Group { first: word(entry, 0), at: word(entry, 4), crc: word(entry, 8) });
        let (pages, []) = pages.as_chunks::<4>() else { return None };
        if pages.len() != (lists_len as usize).div_ceil(PAGE) || chunks > super::chunks::MAX_CHUNKS {
            return None;
        }
        let pages = pages.iter().map(|page| u32::from_le_bytes(*page)).collect();
        Some(PostingsIndex { groups: groups.collect(), groups_len, pages, lists_len, chunks })
    }

    pub fn weight(&self) -> usize {
        self.groups.len() * std::mem::size_of::<Group>() + self.pages.len() * 4
    }

    /// The chunks that have this hash. `read` gives the bytes of a stretch; `None` where they are damaged.
    pub fn chunks_of<E>(
        &self,
        hash: u32,
        mut read: impl FnMut(Stretch) -> Result<Vec<u8>, E>,
    ) -> Result<Option<ChunkSet>, E> {
        let nth = self.groups.partition_point(|group| group.first <= hash);
        let Some(nth) = nth.checked_sub(1) else { return Ok(Some(ChunkSet::none(self.chunks))) };
        let group = self.groups[nth];
        let end = self.groups.get(nth + 1).map_or(self.groups_len, |next| next.at);
        let bytes = read(Stretch::Groups { at: group.at, len: end.saturating_sub(group.at) as usize })?;
        if crc32c::crc32c(&bytes) != group.crc {
            return Ok(None);
        }
        let place = match find(group.first, &bytes, hash) {
            None => return Ok(None),
            Some(None) => return Ok(Some(ChunkSet::none(self.chunks))),
            Some(Some(place)) => place,
        };
        match place.checked_sub(self.chunks as u64) {
            None => {
                let mut set = ChunkSet::none(self.chunks);
                set.insert(place as usize);
                Ok(Some(set))
            }
            Some(at) => self.list(at, read),
        }
    }

    /// The list that begins at an offset of the lists.
    fn list<E>(&self, at: u64, mut read: impl FnMut(Stretch) -> Result<Vec<u8>, E>) -> Result<Option<ChunkSet>, E> {
        if at >= u64::from(self.lists_len) {
            return Ok(None);
        }
        let page = at as usize / PAGE;
        let len = PAGE.min(self.lists_len as usize - page * PAGE);
        let bytes = read(Stretch::Lists { at: (page * PAGE) as u32, len })?;
        if crc32c::crc32c(&bytes) != self.pages[page] {
            return Ok(None);
        }
        Ok(bytes.get(at as usize % PAGE..).and_then(|bytes| self.read_list(bytes)))
    }

    fn read_list(&self, mut bytes: &[u8]) -> Option<ChunkSet> {
        let mut set = ChunkSet::none(self.chunks);
        let count = take_varint(&mut bytes)?;
        if count == BITMAP {
            let bitmap = bytes.get(..self.chunks.div_ceil(8))?;
            let is_in = |chunk: &usize| bitmap[chunk / 8] & 1 << (chunk % 8) != 0;
            (0..self.chunks).filter(is_in).for_each(|chunk| set.insert(chunk));
            return Some(set);
        }
        let mut chunk = 0u64;
        for _ in 0..count {
            chunk = chunk.checked_add(take_varint(&mut bytes)?)?;
            if chunk >= self.chunks as u64 {
                return None;
            }
            set.insert(chunk as usize);
        }
        Some(set)
    }
}

/// Where a group says that the chunks of a hash are; nothing inside where it does not have the hash.
fn find(first: u32, mut bytes: &[u8], wanted: u32) -> Option<Option<u64>> {
    let mut hash = first;
    while !bytes.is_empty() {
        hash = hash.checked_add(u32::try_from(take_varint(&mut bytes)?).ok()?)?;
        let place = take_varint(&mut bytes)?;
        if hash >= wanted {
            return Some((hash == wanted).then_some(place));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_hash_is_found_in_its_chunks_and_no_others(
            chunks in proptest::collection::vec(proptest::collection::btree_set(0u32..1 << 22, 0..100), 1..70),
            common in proptest::collection::btree_set(0u32..1 << 22, 0..20),
        ) {
            let mut writer = PostingsWriter::default();
            let chunks: Vec<BTreeSet<u32>> = chunks.into_iter().map(|chunk| chunk.union(&common).copied().collect()).collect();
            for chunk in &chunks {
                writer.add_chunk(chunk.iter().copied());
            }
            let postings = writer.finish();
            let index = PostingsIndex::read(&postings.index).expect("an index");
            let asked: BTreeSet<u32> = chunks.iter().flatten().copied().chain([0, 7, (1 << 22) - 1]).collect();
            for hash in asked {
                let read = |stretch: Stretch| Ok::<_, ()>(match stretch {
                    Stretch::Groups { at, len } => postings.groups[at as usize..at as usize + len].to_vec(),
                    Stretch::Lists { at, len } => postings.lists[at as usize..at as usize + len].to_vec(),
                });
                let set = index.chunks_of(hash, read).unwrap().expect("whole");
                let expected: Vec<usize> = (0..chunks.len()).filter(|nth| chunks[*nth].contains(&hash)).collect();
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected);
            }
        }
    }
}
