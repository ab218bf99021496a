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

/// Words by the last bits of their first byte: comparing with each of many is most of what a text of short lines would
/// cost.
struct ByFirst<const KINDS: usize> {
    words: &'static [&'static str],
    /// For each kind of first byte its words, one bit each.
    bits: [u128; KINDS],
}

impl<const KINDS: usize> ByFirst<KINDS> {
    const fn of(words: &'static [&'static str]) -> ByFirst<KINDS> {
        assert!(words.len() <= 128, "there is a bit for each word");
        let (mut bits, mut nth) = ([0; KINDS], 0);
        while nth < words.len() {
            bits[words[nth].as_bytes()[0] as usize % KINDS] |= 1 << nth;
            nth += 1;
        }
        ByFirst { words, bits }
    }

    /// The words whose first byte may be this, by their numbers.
    #[inline]
    fn those_of(&self, first: u8) -> impl Iterator<Item = (usize, &'static [u8])> + '_ {
        let mut left = self.bits[usize::from(first) % KINDS];
        std::iter::from_fn(move || {
            let nth = (left != 0).then_some(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some((nth, self.words[nth].as_bytes()))
        })
    }
}

/// Words that a text may begin with, looked up by its first byte.
pub struct Beginnings(ByFirst<256>);

impl Beginnings {
    pub const fn of(words: &'static [&'static str]) -> Beginnings {
        Beginnings(ByFirst::of(words))
    }

    /// Whether the text begins with one of the words.
    #[inline]
    pub fn begin(&self, text: &[u8]) -> bool {
        let is_begun = |word: &[u8]| word.len() <= text.len() && word.iter().zip(text).all(|(byte, said)| byte == said);
        text.first().is_some_and(|first| self.0.those_of(*first).any(|(_, word)| is_begun(word)))
    }
}

/// Words in small letters that a word is compared with in any case, looked up by its first letter, which has no more than
/// five bits.
pub struct Vocabulary(ByFirst<32>);

impl Vocabulary {
    pub const fn of(words: &'static [&'static str]) -> Vocabulary {
        Vocabulary(ByFirst::of(words))
    }

    /// The words that begin with this letter, by their numbers.
    #[inline]
    pub fn beginning_with(&self, first: u8) -> impl Iterator<Item = (usize, &'static [u8])> + '_ {
        self.0.those_of(first)
    }

    /// Whether it is one of the words.
    #[inline]
    pub fn has(&self, word: &[u8]) -> bool {
        word.first().is_some_and(|first| {
            self.beginning_with(*first).any(|(_, known)| known.len() == word.len() && word.eq_ignore_ascii_case(known))
        })
    }
}
