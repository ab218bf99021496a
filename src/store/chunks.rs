//! A set of chunks of one part.

/// The most chunks of a part.
pub const MAX_CHUNKS: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSet {
    words: Vec<u64>,
    len: usize,
}

impl ChunkSet {
    pub fn none(len: usize) -> ChunkSet {
        ChunkSet { words: vec![0; len.div_ceil(64)], len }
    }

    pub fn all(len: usize) -> ChunkSet {
        let mut set = ChunkSet { words: vec![u64::MAX; len.div_ceil(64)], len };
        if !len.is_multiple_of(64)
            && let Some(last) = set.words.last_mut()
        {
            *last = (1 << (len % 64)) - 1;
        }
        set
    }

    /// The number of chunks that there are.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn insert(&mut self, chunk: usize) {
        self.words[chunk / 64] |= 1 << (chunk % 64);
    }

    pub fn remove(&mut self, chunk: usize) {
        self.words[chunk / 64] &= !(1 << (chunk % 64));
    }

    pub fn contains(&self, chunk: usize) -> bool {
        self.words.get(chunk / 64).is_some_and(|word| word & 1 << (chunk % 64) != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn intersect(&mut self, other: &ChunkSet) {
        self.words.iter_mut().zip(&other.words).for_each(|(mine, theirs)| *mine &= theirs);
    }

    pub fn unite(&mut self, other: &ChunkSet) {
        self.words.iter_mut().zip(&other.words).for_each(|(mine, theirs)| *mine |= theirs);
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len).filter(|chunk| self.contains(*chunk))
    }
}
