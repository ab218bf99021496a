//! Which chunks of a part contain a hash: sorted hashes in groups, each with its list of chunks.
//!
//! The substrings of one word are in the same chunks, so a list of chunks is written once, however many hashes have it:
//! `lists`, those that most hashes have first. A hash of one chunk needs no list, and a list of one hash stands beside it
//! (from format 4 on). Groups hold up to [`GROUP`] hashes; lists lie in pages. The index (first hash, offset and checksum of
//! each group, checksum of each page) is small and stays in memory; groups and pages are read when they are asked for.

use std::collections::HashMap;

use super::chunk_list;
use super::chunks::ChunkSet;
use super::hash_list::{HASH_BITS, HashList};
use super::hashing::Seeded;
use crate::varint::{put_varint, take_varint};

/// The index holds one entry for each group and stays in memory, for every part; a group is read for each look-up. Older
/// parts have smaller groups.
const GROUP: usize = 256;

/// Bytes of a page of lists; no list lies in two.
const PAGE: usize = 4096;
const HEAD: usize = 16;
const ENTRY: usize = 12;

/// A list of more chunks than this part of all, in percent, becomes one of all, where that is allowed.
const DENSE_PERCENT: usize = 60;

/// In the head, beside the number of chunks: beside each step from hash to hash stands of which [`kind`](kind) its chunks
/// are; lists of one hash stand in its group. Before format 4 a place is a chunk, or behind all chunks that of a list.
const HAS_KINDS: u32 = 1 << 31;
/// The same: lists are those of [`chunk_list`], and one chunk is a byte in parts of up to [`MAX_FAR_CHUNKS`] (from format 6 on).
const HAS_SHORT_LISTS: u32 = 1 << 30;

/// How the chunks of a hash are written: two bits below its step.
mod kind {
    /// One chunk, in a byte where there are no more than 256.
    pub const CHUNK: u64 = 0;
    /// A list that follows.
    pub const INNER: u64 = 1;
    /// Where a list of several hashes begins.
    pub const LIST: u64 = 2;
    /// One chunk from the 257th on, in a byte.
    pub const FAR_CHUNK: u64 = 3;
}
const KIND_BITS: u32 = 2;
/// The most chunks of which one is written as a byte.
const MAX_BYTE_CHUNKS: usize = 256;
const MAX_FAR_CHUNKS: usize = 512;

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
    has_kinds: bool,
    has_short_lists: bool,
}

/// Where some bytes of postings lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    Groups { at: u32, len: usize },
    Lists { at: u32, len: usize },
}

/// Fewer pairs of hash and chunk are sorted rather than counted.
const MIN_COUNTED: usize = 1 << 14;

/// The hashes of all chunks, ascending, each with its chunks.
struct Runs {
    hashes: Vec<u32>,
    /// Where the chunks of each hash end.
    ends: Vec<u32>,
    chunks: Vec<u16>,
}

impl Runs {
    /// One upper half of the hashes after another, so that counters and chunks stay in the cache.
    fn of(lists: &[&HashList]) -> Runs {
        let mut runs = Runs { hashes: Vec::new(), ends: Vec::new(), chunks: Vec::new() };
        runs.chunks.reserve(lists.iter().map(|list| list.len()).sum());
        let mut counts = Vec::new();
        for upper in 0..1usize << (HASH_BITS - 16) {
            match lists.iter().map(|list| list.stretch(upper).len()).sum() {
                0 => {}
                1..MIN_COUNTED => runs.sort(upper, lists),
                _ => runs.count(upper, lists, &mut counts),
            }
        }
        runs
    }

    fn sort(&mut self, upper: usize, lists: &[&HashList]) {
        let pairs = lists
            .iter()
            .enumerate()
            .flat_map(|(chunk, list)| list.stretch(upper).iter().map(move |low| u32::from(*low) << 16 | chunk as u32));
        let mut pairs: Vec<u32> = pairs.collect();
        pairs.sort_unstable();
        for run in pairs.chunk_by(|a, b| a >> 16 == b >> 16) {
            self.hashes.push((upper as u32) << 16 | run[0] >> 16);
            self.chunks.extend(run.iter().map(|pair| *pair as u16));
            self.ends.push(self.chunks.len() as u32);
        }
    }

    /// Sorts by counting. `counts` are all zero, before and afterwards.
    fn count(&mut self, upper: usize, lists: &[&HashList], counts: &mut Vec<u32>) {
        counts.resize(1 << 16, 0);
        for list in lists {
            list.stretch(upper).iter().for_each(|low| counts[usize::from(*low)] += 1);
        }
        let mut at = self.chunks.len() as u32;
        for (low, count) in counts.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            at += std::mem::replace(count, at);
            self.hashes.push((upper << 16 | low) as u32);
            self.ends.push(at);
        }
        self.chunks.resize(at as usize, 0);
        for (chunk, list) in lists.iter().enumerate() {
            for low in list.stretch(upper) {
                let place = &mut counts[usize::from(*low)];
                self.chunks[*place as usize] = chunk as u16;
                *place += 1;
            }
        }
        counts.fill(0);
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &[u16])> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let ranges = starts.zip(&self.ends).map(|(start, end)| *start as usize..*end as usize);
        self.hashes.iter().copied().zip(ranges.map(|range| &self.chunks[range]))
    }
}

impl Postings {
    /// The postings of chunks with these hashes. Where that is allowed, they name all chunks instead of most.
    pub fn of(lists: &[&HashList], rounds_up: bool) -> Postings {
        assert!(lists.len() <= super::chunks::MAX_CHUNKS, "a part has a bounded number of chunks");
        let (runs, chunks) = (Runs::of(lists), lists.len());
        let (lists, places) = lists_of(&runs, chunks, rounds_up);
        let (mut groups, mut body, mut in_group, mut last) = (Vec::new(), Vec::new(), 0, 0);
        let mut places = places.into_iter();
        for (hash, run) in runs.iter() {
            if in_group == 0 {
                groups.push(Group { first: hash, at: body.len() as u32, crc: 0 });
                last = hash;
            }
            let step = |body: &mut Vec<u8>, kind: u64| put_varint(body, u64::from(hash - last) << KIND_BITS | kind);
            match run {
                [only] if chunks > MAX_FAR_CHUNKS => {
                    step(&mut body, kind::CHUNK);
                    put_varint(&mut body, u64::from(*only));
                }
                [only] => {
                    step(&mut body, if usize::from(*only) < MAX_BYTE_CHUNKS { kind::CHUNK } else { kind::FAR_CHUNK });
                    body.push(*only as u8);
                }
                _ => match places.next().expect("each longer run has a list") {
                    Some(at) => {
                        step(&mut body, kind::LIST);
                        put_varint(&mut body, u64::from(at));
                    }
                    None => {
                        step(&mut body, kind::INNER);
                        chunk_list::push(&mut body, run, chunks);
                    }
                },
            }
            last = hash;
            in_group = (in_group + 1) % GROUP;
        }
        Postings { index: index_of(chunks, &mut groups, &body, &lists), groups: body, lists }
    }
}

/// The lists of several hashes, and for each hash of more than one chunk where its list begins; nothing where no other
/// hash has the list.
fn lists_of(runs: &Runs, chunks: usize, rounds_up: bool) -> (Vec<u8>, Vec<Option<u32>>) {
    let mut numbers: HashMap<&[u16], u32, Seeded> = HashMap::default();
    let (mut uses, mut of_runs): (Vec<(u32, &[u16])>, Vec<u32>) = (Vec::new(), Vec::new());
    let all: Vec<u16> = (0..chunks as u16).collect();
    for (_, run) in runs.iter().filter(|(_, run)| run.len() > 1) {
        let is_dense = rounds_up && run.len() * 100 >= chunks * DENSE_PERCENT;
        let run = if is_dense { &all[..] } else { run };
        let number = *numbers.entry(run).or_insert_with(|| {
            uses.push((0, run));
            uses.len() as u32 - 1
        });
        uses[number as usize].0 += 1;
        of_runs.push(number);
    }
    let mut order: Vec<u32> = (0..uses.len() as u32).collect();
    order.sort_by_key(|number| {
        let (uses, run) = uses[*number as usize];
        std::cmp::Reverse((uses, run.len() == chunks))
    });
    let (mut lists, mut places, mut list) = (Vec::new(), vec![None; uses.len()], Vec::new());
    for number in order {
        // A list that was rounded up is not what its hash has, so it stands among the lists in any case.
        if uses[number as usize].0 == 1 && uses[number as usize].1.len() < chunks {
            break;
        }
        list.clear();
        chunk_list::push(&mut list, uses[number as usize].1, chunks);
        let in_page = lists.len() % PAGE;
        if in_page + list.len() > PAGE {
            lists.resize(lists.len() + PAGE - in_page, 0);
        }
        places[number as usize] = Some(lists.len() as u32);
        lists.extend_from_slice(&list);
    }
    (lists, of_runs.into_iter().map(|number| places[number as usize]).collect())
}

fn index_of(chunks: usize, groups: &mut [Group], body: &[u8], lists: &[u8]) -> Vec<u8> {
    let mut index = Vec::with_capacity(HEAD + groups.len() * ENTRY + lists.len() / PAGE * 4 + 4);
    for word in
        [chunks as u32 | HAS_KINDS | HAS_SHORT_LISTS, body.len() as u32, lists.len() as u32, groups.len() as u32]
    {
        index.extend_from_slice(&word.to_le_bytes());
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

impl PostingsIndex {
    /// Reads an index; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<PostingsIndex> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (flags, groups_len, lists_len) = (word(head, 0), word(head, 4), word(head, 8));
        let chunks = (flags & !(HAS_KINDS | HAS_SHORT_LISTS)) as usize;
        let (has_kinds, has_short_lists) = (flags & HAS_KINDS != 0, flags & HAS_SHORT_LISTS != 0);
        let (groups, pages) = rest.split_at_checked((word(head, 12) as usize).checked_mul(ENTRY)?)?;
        let groups = groups.as_chunks::<ENTRY>().0.iter();
        let groups = groups.map(|entry| Group { first: word(entry, 0), at: word(entry, 4), crc: word(entry, 8) });
        let (pages, []) = pages.as_chunks::<4>() else { return None };
        if pages.len() != (lists_len as usize).div_ceil(PAGE) || chunks > super::chunks::MAX_CHUNKS {
            return None;
        }
        let pages = pages.iter().map(|page| u32::from_le_bytes(*page)).collect();
        Some(PostingsIndex {
            groups: groups.collect(),
            groups_len,
            pages,
            lists_len,
            chunks,
            has_kinds,
            has_short_lists,
        })
    }

    pub fn weight(&self) -> usize {
        self.groups.len() * std::mem::size_of::<Group>() + self.pages.len() * 4
    }

    /// What is read first of the chunks of a hash.
    pub fn group_of(&self, hash: u32) -> Option<Stretch> {
        self.find_group(hash).map(|(_, stretch)| stretch)
    }

    fn find_group(&self, hash: u32) -> Option<(Group, Stretch)> {
        let nth = self.groups.partition_point(|group| group.first <= hash).checked_sub(1)?;
        let group = self.groups[nth];
        let end = self.groups.get(nth + 1).map_or(self.groups_len, |next| next.at);
        Some((group, Stretch::Groups { at: group.at, len: end.saturating_sub(group.at) as usize }))
    }

    /// The chunks that have this hash. `read` gives the bytes of a stretch; `None` where they are damaged.
    pub fn chunks_of<E>(
        &self,
        hash: u32,
        mut read: impl FnMut(Stretch) -> Result<Vec<u8>, E>,
    ) -> Result<Option<ChunkSet>, E> {
        let Some((group, stretch)) = self.find_group(hash) else { return Ok(Some(ChunkSet::none(self.chunks))) };
        let bytes = read(stretch)?;
        if crc32c::crc32c(&bytes) != group.crc {
            return Ok(None);
        }
        match self.find(group.first, &bytes, hash) {
            None => Ok(None),
            Some(Found::Nowhere) => Ok(Some(ChunkSet::none(self.chunks))),
            Some(Found::Chunk(chunk)) => {
                let mut set = ChunkSet::none(self.chunks);
                set.insert(chunk);
                Ok(Some(set))
            }
            Some(Found::Inner(list)) => Ok(self.read_list(list)),
            Some(Found::At(at)) => self.list(at, read),
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
        let take = if self.has_short_lists { chunk_list::take } else { chunk_list::take_steps };
        take(&mut bytes, self.chunks)
    }
}

/// Where the chunks of a hash are.
enum Found<'a> {
    Nowhere,
    Chunk(usize),
    /// A list that stands in the group.
    Inner(&'a [u8]),
    /// A list that begins at this offset of the lists.
    At(u64),
}

impl PostingsIndex {
    /// Where a group says that the chunks of a hash are; `None` if it is damaged.
    fn find<'a>(&self, first: u32, mut bytes: &'a [u8], wanted: u32) -> Option<Found<'a>> {
        let skip = if self.has_short_lists { chunk_list::skip } else { chunk_list::skip_steps };
        let mut hash = first;
        while !bytes.is_empty() {
            let step = take_varint(&mut bytes)?;
            let (step, kind) = if self.has_kinds { (step >> KIND_BITS, step & 3) } else { (step, kind::CHUNK) };
            hash = hash.checked_add(u32::try_from(step).ok()?)?;
            if hash > wanted {
                break;
            }
            let is_wanted = hash == wanted;
            let found = match kind {
                kind::INNER if is_wanted => Found::Inner(bytes),
                kind::INNER => {
                    skip(&mut bytes, self.chunks)?;
                    continue;
                }
                kind::FAR_CHUNK if self.has_short_lists => self.take_chunk(&mut bytes, MAX_BYTE_CHUNKS)?,
                kind::LIST => Found::At(take_varint(&mut bytes)?),
                _ => self.take_chunk(&mut bytes, 0)?,
            };
            if is_wanted {
                return Some(found);
            }
        }
        Some(Found::Nowhere)
    }

    /// A chunk, which is so many more than its byte says.
    fn take_chunk<'a>(&self, bytes: &mut &'a [u8], more: usize) -> Option<Found<'a>> {
        let max_bytes = if self.has_short_lists { MAX_FAR_CHUNKS } else { MAX_BYTE_CHUNKS };
        if self.has_kinds && self.chunks <= max_bytes {
            let (chunk, rest) = bytes.split_first()?;
            *bytes = rest;
            let chunk = usize::from(*chunk) + more;
            return (chunk < self.chunks).then_some(Found::Chunk(chunk));
        }
        let place = take_varint(bytes)?;
        match place.checked_sub(self.chunks as u64) {
            None => Some(Found::Chunk(place as usize)),
            Some(at) if !self.has_kinds => Some(Found::At(at)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::chunk_list::tests::push_steps;
    use super::super::hash_list::HashBits;
    use super::*;

    /// The same as parts before format 4 have it.
    fn before_format_4(lists: &[&HashList]) -> Postings {
        let (runs, chunks) = (Runs::of(lists), lists.len());
        let (mut groups, mut body, mut all, mut list) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut last = 0;
        for (nth, (hash, run)) in runs.iter().enumerate() {
            if nth % GROUP == 0 {
                groups.push(Group { first: hash, at: body.len() as u32, crc: 0 });
                last = hash;
            }
            put_varint(&mut body, u64::from(hash - last));
            last = hash;
            if let [only] = run {
                put_varint(&mut body, u64::from(*only));
                continue;
            }
            list.clear();
            push_steps(&mut list, run, chunks);
            if all.len() % PAGE + list.len() > PAGE {
                all.resize(all.len().next_multiple_of(PAGE), 0);
            }
            put_varint(&mut body, (chunks + all.len()) as u64);
            all.extend_from_slice(&list);
        }
        let mut index = index_of(chunks, &mut groups, &body, &all);
        index[3] &= !((HAS_KINDS | HAS_SHORT_LISTS) >> 24) as u8;
        Postings { index, groups: body, lists: all }
    }

    /// The same as parts of formats 4 and 5 have it, where no list is shared.
    fn before_format_6(lists: &[&HashList]) -> Postings {
        let (runs, chunks) = (Runs::of(lists), lists.len());
        let (mut groups, mut body, mut last) = (Vec::new(), Vec::new(), 0);
        for (nth, (hash, run)) in runs.iter().enumerate() {
            if nth % GROUP == 0 {
                groups.push(Group { first: hash, at: body.len() as u32, crc: 0 });
                last = hash;
            }
            let kind = if run.len() == 1 { kind::CHUNK } else { kind::INNER };
            put_varint(&mut body, u64::from(hash - last) << KIND_BITS | kind);
            last = hash;
            match run {
                [only] if chunks <= MAX_BYTE_CHUNKS => body.push(*only as u8),
                [only] => put_varint(&mut body, u64::from(*only)),
                _ => push_steps(&mut body, run, chunks),
            }
        }
        let mut index = index_of(chunks, &mut groups, &body, &[]);
        index[3] &= !(HAS_SHORT_LISTS >> 24) as u8;
        Postings { index, groups: body, lists: Vec::new() }
    }

    /// Postings as parts of format 5 have them.
    pub fn as_format_5([index, groups, lists]: [Vec<u8>; 3]) -> Postings {
        let index = PostingsIndex::read(&index).expect("an index");
        let mut bits: Vec<HashBits> = (0..index.chunks).map(|_| HashBits::default()).collect();
        for (nth, group) in index.groups.iter().enumerate() {
            let end = index.groups.get(nth + 1).map_or(groups.len(), |next| next.at as usize);
            let (mut rest, mut hash) = (&groups[group.at as usize..end], group.first);
            while !rest.is_empty() {
                let step = take_varint(&mut rest).unwrap();
                hash += (step >> KIND_BITS) as u32;
                match step & 3 {
                    kind::INNER => chunk_list::skip(&mut rest, index.chunks).unwrap(),
                    kind::LIST => drop(take_varint(&mut rest).unwrap()),
                    _ => rest = &rest[1..],
                }
                let read = |stretch: Stretch| {
                    Ok::<_, ()>(match stretch {
                        Stretch::Groups { at, len } => groups[at as usize..at as usize + len].to_vec(),
                        Stretch::Lists { at, len } => lists[at as usize..at as usize + len].to_vec(),
                    })
                };
                let chunks = index.chunks_of(hash, read).unwrap().expect("whole");
                chunks.iter().for_each(|chunk| bits[chunk].insert(hash));
            }
        }
        let of_chunks: Vec<HashList> = bits.iter_mut().map(|bits| bits.take(0)).collect();
        before_format_6(&of_chunks.iter().collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn every_hash_is_found_in_its_chunks_and_no_others(
            chunks in prop_oneof![
                6 => proptest::collection::vec(proptest::collection::btree_set(0u32..1 << 22, 0..100), 1..70),
                // Many chunks have the same.
                1 => proptest::collection::vec(proptest::collection::btree_set(0u32..300, 0..20), 250..300),
                1 => proptest::collection::vec(proptest::collection::btree_set(0u32..1 << 22, 0..9), 500..530),
            ],
            common in proptest::collection::btree_set(0u32..1 << 22, 0..20),
            crowd in prop_oneof![15 => Just(0u32), 1 => Just(1000)],
        ) {
            // Many hashes with one upper half are counted instead of sorted.
            let common: BTreeSet<u32> = common.into_iter().chain((0..crowd).map(|n| n * 7)).collect();
            let chunks: Vec<BTreeSet<u32>> = chunks.into_iter().map(|chunk| chunk.union(&common).copied().collect()).collect();
            let mut bits = HashBits::default();
            let mut list = |chunk: &BTreeSet<u32>| {
                chunk.iter().for_each(|hash| bits.insert(*hash));
                bits.take(chunk.len())
            };
            let lists: Vec<HashList> = chunks.iter().map(&mut list).collect();
            let lists: Vec<&HashList> = lists.iter().collect();
            let asked: BTreeSet<u32> = chunks.iter().flatten().copied().chain([0, 7, (1 << 22) - 1]).collect();
            for (postings, hash) in [Postings::of(&lists, false), before_format_6(&lists), before_format_4(&lists)].iter().flat_map(|postings| asked.iter().map(move |hash| (postings, *hash))) {
                let index = PostingsIndex::read(&postings.index).expect("an index");
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
