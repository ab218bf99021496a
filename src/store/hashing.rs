//! A fast hash for internal tables, seeded per table so that nobody can choose colliding keys.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers of one table.
#[derive(Clone, Copy, Debug)]
pub struct Seeded([u64; 2]);

impl Default for Seeded {
    fn default() -> Seeded {
        Seeded([RandomState::new().hash_one(1u8), RandomState::new().hash_one(2u8)])
    }
}

impl Seeded {
    pub fn hash_bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// Two independent hashes of the same bytes, for little more than the price of one.
    pub fn hash_twice(first: &Seeded, second: &Seeded, bytes: &[u8]) -> (u64, u64) {
        let (mut first, mut second) = (first.build_hasher(), second.build_hasher());
        let (blocks, rest) = bytes.as_chunks::<16>();
        let mut mix = |(low, high): (u64, u64)| {
            first.mix(low, high);
            second.mix(low, high);
        };
        blocks.iter().for_each(|block| mix(words(block)));
        mix(words(rest));
        mix((bytes.len() as u64, 0));
        (first.finish(), second.finish())
    }
}

/// Up to sixteen bytes as two words: different for different bytes of one length. Words that overlap are read at once,
/// where copying the bytes to a place of their own would stall the processor.
pub fn words(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)));
    }
    match bytes {
        [] => (0, 0),
        [first, .., last] => (u64::from(*first) | u64::from(bytes[bytes.len() / 2]) << 8, u64::from(*last)),
        [only] => (u64::from(*only), 0),
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded { state: self.0[0], key: self.0[1] }
    }
}

/// Multiplies two words to 128 bits and folds the halves together.
pub struct Folded {
    state: u64,
    key: u64,
}

impl Folded {
    fn mix(&mut self, low: u64, high: u64) {
        let product = u128::from(low ^ self.state) * u128::from(high ^ self.key);
        self.state = product as u64 ^ (product >> 64) as u64 ^ self.key.rotate_left(32);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<16>();
        for block in blocks {
            let (low, high) = words(block);
            self.mix(low, high);
        }
        let (low, high) = words(rest);
        self.mix(low, high);
        // In a step of its own, so that no text can make up for another length.
        self.mix(bytes.len() as u64, 0);
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value), 0);
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value, 0);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64, 1);
    }

    fn write_u128(&mut self, value: u128) {
        self.mix(value as u64, (value >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.state) * u128::from(self.key | 1);
        product as u64 ^ (product >> 64) as u64
    }
}

/// Makes hashers of a table whose keys are hashes of a seeded one already.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfHashes;

impl BuildHasher for OfHashes {
    type Hasher = Same;

    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

/// Takes a hash as it is.
pub struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_values_have_different_hashes_and_equal_ones_the_same() {
        let seeded = Seeded::default();
        let hashes: HashSet<u64> = (0..100_000u32).map(|n| seeded.hash_bytes(n.to_string().as_bytes())).collect();
        assert_eq!(hashes.len(), 100_000);
        let short: HashSet<u64> =
            (0..1 << 16).map(|n: u32| seeded.hash_bytes(&n.to_le_bytes()[..2 + n as usize % 3])).collect();
        assert_eq!(short.len(), 1 << 16);
        assert_eq!(
            seeded.hash_bytes(b"a text of more than sixteen bytes"),
            seeded.hash_bytes(b"a text of more than sixteen bytes")
        );
        assert_ne!(seeded.hash_bytes(b"a\0"), seeded.hash_bytes(b"a"));
        let other = Seeded::default();
        for text in [&b""[..], b"short", b"a text of more than sixteen bytes"] {
            let both = (seeded.hash_bytes(text), other.hash_bytes(text));
            assert_eq!(Seeded::hash_twice(&seeded, &other, text), both);
        }
    }
}
