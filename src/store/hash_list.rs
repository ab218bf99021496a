//! Sets of hashes: as bits while they are collected, as a list afterwards.

/// Hashes are smaller than `1 << HASH_BITS`: a bitmap of them fits the cache.
pub const HASH_BITS: u32 = 22;

/// Ascending hashes, two bytes for each: those with the same upper bits stand together.
#[derive(Clone, Debug, Default)]
pub struct HashList {
    low: Vec<u16>,
    /// For each value of the upper bits, where its hashes end.
    ends: Vec<u32>,
}

impl HashList {
    pub fn len(&self) -> usize {
        self.low.len()
    }

    pub fn contains(&self, hash: u32) -> bool {
        self.stretch((hash >> 16) as usize).binary_search(&(hash as u16)).is_ok()
    }

    /// The lower halves of the hashes that have this upper half.
    pub fn stretch(&self, upper: usize) -> &[u16] {
        let start = if upper == 0 { 0 } else { self.ends.get(upper - 1).map_or(0, |end| *end as usize) };
        &self.low[start..self.ends.get(upper).map_or(start, |end| *end as usize)]
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let stretches = (0..self.ends.len()).map(|upper| (upper, self.stretch(upper)));
        stretches.flat_map(|(upper, low)| low.iter().map(move |low| (upper as u32) << 16 | u32::from(*low)))
    }

    pub fn weight(&self) -> usize {
        self.low.len() * 2 + self.ends.len() * 4
    }
}

const WORDS: usize = 1 << (HASH_BITS - 6);

/// A set of hashes: one bit for each.
pub struct HashBits(Box<[u64; WORDS]>);

impl Default for HashBits {
    fn default() -> HashBits {
        HashBits(vec![0; WORDS].into_boxed_slice().try_into().expect("as many words as there are"))
    }
}

impl HashBits {
    pub fn insert(&mut self, hash: u32) {
        self.0[hash as usize / 64 % WORDS] |= 1u64 << (hash % 64);
    }

    /// The hashes; the set is empty afterwards. There are about as many as `expected`.
    pub fn take(&mut self, expected: usize) -> HashList {
        let (mut low, mut ends) = (Vec::with_capacity(expected), Vec::with_capacity(1 << (HASH_BITS - 16)));
        for words in self.0.as_chunks_mut::<{ (1 << 16) / 64 }>().0 {
            for (nth, some) in words.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                let mut set = some.iter().enumerate().fold(0, |set, (at, word)| set | u64::from(*word != 0) << at);
                while set != 0 {
                    let at = set.trailing_zeros() as usize;
                    set &= set - 1;
                    let mut word = std::mem::take(&mut some[at]);
                    while word != 0 {
                        low.push(((nth * 64 + at) as u32 * 64 + word.trailing_zeros()) as u16);
                        word &= word - 1;
                    }
                }
            }
            ends.push(low.len() as u32);
        }
        low.shrink_to_fit();
        HashList { low, ends }
    }
}
