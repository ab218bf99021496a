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
            let word = u128::from_le_bytes(*block);
            self.mix(word as u64, (word >> 64) as u64);
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let word = u128::from_le_bytes(last);
        self.mix(word as u64, (word >> 64) as u64 ^ bytes.len() as u64);
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_values_have_different_hashes_and_equal_ones_the_same() {
        let seeded = Seeded::default();
        let hashes: HashSet<u64> = (0..100_000u32).map(|n| seeded.hash_bytes(n.to_string().as_bytes())).collect();
        assert_eq!(hashes.len(), 100_000);
        assert_eq!(
            seeded.hash_bytes(b"a text of more than sixteen bytes"),
            seeded.hash_bytes(b"a text of more than sixteen bytes")
        );
        assert_ne!(seeded.hash_bytes(b"a\0"), seeded.hash_bytes(b"a"));
    }
}
