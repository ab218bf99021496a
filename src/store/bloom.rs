//! A blocked Bloom filter over ids: one cache line decides whether a part may contain one.

const BITS_PER_ID: usize = 12;
const BLOCK: usize = 64;
const PROBES: u32 = 6;

pub struct Bloom {
    blocks: Vec<[u8; BLOCK]>,
}

impl Bloom {
    pub fn of(ids: &[u128]) -> Bloom {
        let blocks = (ids.len() * BITS_PER_ID).div_ceil(BLOCK * 8).max(1);
        let mut bloom = Bloom { blocks: vec![[0; BLOCK]; blocks] };
        for id in ids {
            let (block, bits) = bloom.place(*id);
            for bit in bits {
                bloom.blocks[block][bit / 8] |= 1 << (bit % 8);
            }
        }
        bloom
    }

    pub fn may_have(&self, id: u128) -> bool {
        let (block, bits) = self.place(id);
        bits.into_iter().all(|bit| self.blocks[block][bit / 8] & 1 << (bit % 8) != 0)
    }

    fn place(&self, id: u128) -> (usize, [usize; PROBES as usize]) {
        let hash = (id as u64 ^ (id >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let block = ((u128::from(hash) * self.blocks.len() as u128) >> 64) as usize;
        let mut more = (id as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F) ^ hash >> 17;
        let bits = [(); PROBES as usize].map(|()| {
            more = more.wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(23);
            (more >> 55) as usize % (BLOCK * 8)
        });
        (block, bits)
    }

    pub fn encode(&self) -> Vec<u8> {
        self.blocks.concat()
    }

    pub fn decode(bytes: &[u8]) -> Option<Bloom> {
        let (blocks, []) = bytes.as_chunks::<BLOCK>() else { return None };
        (!blocks.is_empty()).then(|| Bloom { blocks: blocks.to_vec() })
    }

    pub fn weight(&self) -> usize {
        self.blocks.len() * BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_entered_is_found_and_little_else_is() {
        let id = |n: u128| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C834);
        let ids: Vec<u128> = (1..10_000).map(id).collect();
        let bloom = Bloom::decode(&Bloom::of(&ids).encode()).expect("it was just encoded");
        assert!(ids.iter().all(|id| bloom.may_have(*id)));
        let wrong = (20_000..120_000).filter(|n| bloom.may_have(id(*n))).count();
        assert!(wrong < 2_000, "{wrong} of 100,000");
    }
}
