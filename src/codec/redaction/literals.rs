//! Compares with words that are known beforehand, in place: what they are compared by otherwise is called for a few bytes.

pub trait Literals {
    fn begins_with<const LEN: usize>(&self, word: &[u8; LEN]) -> bool;
    fn closes_with<const LEN: usize>(&self, word: &[u8; LEN]) -> bool;
}

impl Literals for [u8] {
    #[inline(always)]
    fn begins_with<const LEN: usize>(&self, word: &[u8; LEN]) -> bool {
        self.first_chunk() == Some(word)
    }

    #[inline(always)]
    fn closes_with<const LEN: usize>(&self, word: &[u8; LEN]) -> bool {
        self.last_chunk() == Some(word)
    }
}
