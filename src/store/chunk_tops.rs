//! The greatest durations of each status in a part, each with its chunk: what percentiles by time and status are made of.
//!
//! As with [`super::value_tops`], what is not kept of a status is none greater than the least that is.

use super::bits::{CHUNK, Packed, pack};
use super::groups::Hidden;
use super::value_tops::kept_of;
use crate::varint::{put_bytes, take_bytes};

/// The duration of an event with its status and its chunk, while a part is made.
#[derive(Clone, Copy)]
pub struct InChunk {
    pub code: u32,
    pub key: i32,
    pub chunk: u16,
}

/// What a part keeps of these durations. `None` where there is none.
pub fn encode(durations: &mut [InChunk]) -> Option<Vec<u8>> {
    durations.sort_by_key(|one| one.code);
    let (mut codes, mut counts, mut least) = (Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut chunks) = (Vec::new(), Vec::new());
    for of_code in durations.chunk_by_mut(|a, b| a.code == b.code) {
        let count = kept_of(of_code.len() as u64) as usize;
        if count < of_code.len() {
            of_code.select_nth_unstable_by(count, |a, b| b.key.cmp(&a.key));
        }
        let kept = &mut of_code[..count];
        // In the order of their chunks, which take few bits so.
        kept.sort_unstable_by_key(|one| one.chunk);
        codes.push(i64::from(kept[0].code));
        counts.push(count as i64);
        least.push(i64::from(kept.iter().map(|one| one.key).min().unwrap_or(i32::MAX)));
        keys.extend(kept.iter().map(|one| i64::from(one.key)));
        chunks.extend(kept.iter().map(|one| i64::from(one.chunk)));
    }
    (!codes.is_empty()).then(|| {
        let mut out = Vec::new();
        [codes, counts, least, keys, chunks].iter().for_each(|column| put_bytes(&mut out, &pack(column)));
        out
    })
}

/// What a part keeps.
pub struct ChunkTops {
    codes: Vec<Code>,
    keys: Packed,
    chunks: Packed,
}

struct Code {
    code: u32,
    end: usize,
    least: i32,
}

/// A status of a chunk whose events are in one group: as many have a duration.
#[derive(Clone, Copy)]
pub struct Served {
    pub chunk: usize,
    pub code: u32,
    pub group: usize,
    pub durations: u64,
}

/// What is told of the durations of a group.
pub struct Told {
    pub group: usize,
    pub keys: Vec<i32>,
    pub hidden: Option<Hidden>,
}

impl ChunkTops {
    /// Reads what [`encode`] wrote; `None` if it is something else.
    pub fn read(mut bytes: &[u8]) -> Option<ChunkTops> {
        let mut packed = || Packed::open(take_bytes(&mut bytes)?.to_vec());
        let (codes, counts, least, keys, chunks) = (packed()?, packed()?, packed()?, packed()?, packed()?);
        let mut end = 0usize;
        let code = |nth: usize| {
            end = end.checked_add(usize::try_from(counts.get(nth)).ok()?)?;
            Some(Code { code: codes.get(nth) as u32, end, least: least.get(nth) as i32 })
        };
        let is_whole = counts.len() == codes.len() && least.len() == codes.len() && chunks.len() == keys.len();
        let codes: Vec<Code> = (0..if is_whole { codes.len() } else { 0 }).map(code).collect::<Option<_>>()?;
        (is_whole && bytes.is_empty() && end == keys.len()).then_some(ChunkTops { codes, keys, chunks })
    }

    pub fn weight(&self) -> usize {
        self.codes.len() * std::mem::size_of::<Code>() + self.keys.weight() + self.chunks.weight()
    }

    /// What is told of these statuses of a part with so many chunks; `None` if they have fewer durations than are told.
    pub fn told(&self, chunks: usize, served: &[Served]) -> Option<Vec<Told>> {
        const NOT_SERVED: u32 = u32::MAX;
        let mut told: Vec<Told> = Vec::new();
        let (mut keys, mut in_chunks, mut start) = (Vec::new(), Vec::new(), 0);
        let mut of_chunk = vec![NOT_SERVED; chunks];
        for Code { code, end, least } in &self.codes {
            // For each group its number among those of this status, and its durations.
            let (first, mut durations) = (told.len(), Vec::new());
            of_chunk.fill(NOT_SERVED);
            for one in served.iter().filter(|one| one.code == *code) {
                let nth = match told[first..].iter().position(|told| told.group == one.group) {
                    Some(nth) => nth,
                    None => {
                        told.push(Told { group: one.group, keys: Vec::new(), hidden: None });
                        durations.push(0u64);
                        told.len() - 1 - first
                    }
                };
                durations[nth] += one.durations;
                *of_chunk.get_mut(one.chunk)? = nth as u32;
            }
            for place in start..*end {
                if place % CHUNK == 0 || place == start {
                    self.keys.chunk(place / CHUNK, &mut keys);
                    self.chunks.chunk(place / CHUNK, &mut in_chunks);
                }
                let chunk = usize::try_from(in_chunks[place % CHUNK]).ok()?;
                match *of_chunk.get(chunk)? {
                    NOT_SERVED => {}
                    nth => told[first + nth as usize].keys.push(keys[place % CHUNK] as i32),
                }
            }
            start = *end;
            for (told, durations) in told[first..].iter_mut().zip(durations) {
                let count = durations.checked_sub(told.keys.len() as u64)?;
                told.hidden = (count > 0).then_some(Hidden { count: count as u32, most: *least });
            }
        }
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_told_are_the_greatest_and_the_rest_is_counted(
            durations in proptest::collection::vec((0u32..3, -1000i32..100_000, 0u16..9), 1..900),
            groups in proptest::collection::vec(0usize..3, 9),
            is_served in proptest::collection::vec(any::<bool>(), 9),
        ) {
            let mut all: Vec<InChunk> = durations.iter().map(|(code, key, chunk)| InChunk { code: *code, key: *key, chunk: *chunk }).collect();
            let tops = ChunkTops::read(&encode(&mut all).expect("there are some")).expect("it was just written");
            let mut served = Vec::new();
            for chunk in (0..9).filter(|chunk| is_served[*chunk]) {
                for code in 0..3 {
                    let count = all.iter().filter(|one| one.code == code && usize::from(one.chunk) == chunk).count() as u64;
                    served.push(Served { chunk, code, group: groups[chunk], durations: count });
                }
            }
            for told in tops.told(9, &served).expect("they fit") {
                prop_assert!(told.keys.len() + told.hidden.map_or(0, |hidden| hidden.count as usize) <= all.len());
            }
            for group in 0..3 {
                let is_here = |one: &&InChunk| is_served[usize::from(one.chunk)] && groups[usize::from(one.chunk)] == group;
                let mut left: Vec<i32> = all.iter().filter(is_here).map(|one| one.key).collect();
                let told: Vec<Told> = tops.told(9, &served).expect("they fit").into_iter().filter(|told| told.group == group).collect();
                for key in told.iter().flat_map(|told| &told.keys) {
                    let place = left.iter().position(|one| one == key);
                    prop_assert!(place.is_some(), "{} is told and not there", key);
                    left.swap_remove(place.unwrap_or_default());
                }
                let hidden: Vec<Hidden> = told.iter().filter_map(|told| told.hidden).collect();
                prop_assert_eq!(left.len() as u32, hidden.iter().map(|hidden| hidden.count).sum::<u32>());
                let most = hidden.iter().map(|hidden| hidden.most).max().unwrap_or(i32::MIN);
                prop_assert!(left.iter().all(|key| *key <= most));
            }
        }

        #[test]
        fn bytes_that_are_no_tops_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(tops) = ChunkTops::read(&bytes) {
                drop(tops.told(3, &[Served { chunk: 1, code: 1, group: 0, durations: 5 }]));
            }
        }
    }
}
