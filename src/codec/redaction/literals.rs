//! Compares with words that are known beforehand, in place: what they are compared by otherwise is called for a few bytes.

pub trait Literals {
    fn begins_with<const LEN: usize>(&self, word: &[u8; LEN]) -> bool;
    fn closes_with<const LEN: usize>(&self, word: &[u8; LEN]) -> bool;
    /// Where a word stands first in a short text: a searcher for it would take longer to make.
    fn place_of<const LEN: usize>(&self, word: &[u8; LEN]) -> Option<usize>;
    /// Where the text goes on behind it.
    fn behind<const LEN: usize>(&self, word: &[u8; LEN]) -> Option<usize>;
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

    #[inline]
    fn place_of<const LEN: usize>(&self, word: &[u8; LEN]) -> Option<usize> {
        memchr::memchr_iter(word[0], self).find(|at| self[*at..].begins_with(word))
    }

    #[inline]
    fn behind<const LEN: usize>(&self, word: &[u8; LEN]) -> Option<usize> {
        self.place_of(word).map(|at| at + LEN)
    }
}

/// Words that a text may begin with, looked up by its first byte: comparing with each of many is most of what a text of
/// short lines would cost.
pub struct Beginnings {
    words: &'static [&'static str],
    /// For each first byte its words, one bit each.
    by_first: [u128; 256],
}

impl Beginnings {
    pub const fn of(words: &'static [&'static str]) -> Beginnings {
        assert!(words.len() <= 128, "there is a bit for each word");
        let (mut by_first, mut nth) = ([0; 256], 0);
        while nth < words.len() {
            by_first[words[nth].as_bytes()[0] as usize] |= 1 << nth;
            nth += 1;
        }
        Beginnings { words, by_first }
    }

    /// Whether the text begins with one of the words.
    #[inline]
    pub fn begin(&self, text: &[u8]) -> bool {
        let Some(first) = text.first() else { return false };
        let mut left = self.by_first[usize::from(*first)];
        while left != 0 {
            let word = self.words[left.trailing_zeros() as usize].as_bytes();
            if word.len() <= text.len() && word.iter().zip(text).all(|(byte, said)| byte == said) {
                return true;
            }
            left &= left - 1;
        }
        false
    }
}

/// Words in small letters that a word is compared with in any case, looked up by its first letter.
pub struct Vocabulary {
    words: &'static [&'static str],
    /// For each first letter its words, one bit each.
    by_first: [u64; 32],
}

impl Vocabulary {
    pub const fn of(words: &'static [&'static str]) -> Vocabulary {
        assert!(words.len() <= 64, "there is a bit for each word");
        let (mut by_first, mut nth) = ([0; 32], 0);
        while nth < words.len() {
            by_first[(words[nth].as_bytes()[0] & 0x1F) as usize] |= 1 << nth;
            nth += 1;
        }
        Vocabulary { words, by_first }
    }

    /// The words that begin with this letter, by their numbers.
    #[inline]
    pub fn beginning_with(&self, first: u8) -> impl Iterator<Item = (usize, &'static [u8])> + '_ {
        let mut left = self.by_first[usize::from(first & 0x1F)];
        std::iter::from_fn(move || {
            let nth = (left != 0).then_some(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some((nth, self.words[nth].as_bytes()))
        })
    }

    /// Whether it is one of the words.
    #[inline]
    pub fn has(&self, word: &[u8]) -> bool {
        word.first().is_some_and(|first| {
            self.beginning_with(*first).any(|(_, known)| known.len() == word.len() && word.eq_ignore_ascii_case(known))
        })
    }
}
