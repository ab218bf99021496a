//! Which chunks may have a number: digits with what stands around them.
//!
//! Of the substrings of four characters that `order-4242` has, each is somewhere in most chunks that have orders at all. The
//! five of `-4242`, of `r-424` or of `er-42` together are in few of them, and so are the six of `er-424`: all these have
//! hashes among those of all other substrings, so that one that shares its hash with something else is told by another. A
//! text of five digits and more is looked for by all five that stand together in it. These are kept for each
//! chunk, in a few bits each: as hashes of a range that is 16 times as large as their number in the chunk, so that one in as
//! many of all others is taken for one of them.

use super::chunks::ChunkSet;
use super::hash_list::{HASH_BITS, HashBits};
use super::word_blocks::{WordBits, WordBlocks};
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};

/// Digits of a number behind a character that are looked at, the first ones.
const DIGITS: usize = 4;
/// Digits of a number behind a word, and the characters of the word, the last ones.
const WORD_DIGITS: usize = 3;
const WORD: usize = 3;
/// Characters and the digits behind them that are looked for together from format 7 on.
const NEAR: [(usize, usize); 2] = [(2, 3), (3, 2)];
/// Numbers of fewer digits are nowhere looked for.
const LEAST_DIGITS: usize = 2;
/// Digits of a long number that stand together.
const RUN: usize = 5;
/// A chunk with more of them may have any.
const MAX_NUMBERS: usize = 4096;
/// The range of hashes is as many times as large as their number as two to the power of this. So many low bits of a step
/// from one to the next are written as they are; the others are counted.
pub const BITS: u32 = 4;
/// Chunks whose numbers are read together.
pub const PAGE_CHUNKS: usize = 16;
const ENTRY: usize = 8;
/// So many characters are looked through for digits together.
const STRETCH: usize = 16;
const SALT: u64 = 0x9E37_79B9_7F4A_7C15;

/// A part of a text that a chunk may have, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Number {
    /// Four digits and the character before them.
    Behind(u32),
    /// Three digits and the three characters before them.
    Word(u32),
    /// Three digits and the two characters before them, or two and three.
    Near(u32),
    /// Five digits, wherever they stand in a longer number.
    Run(u16),
}

fn narrow(hash: u32) -> u16 {
    (hash >> (HASH_BITS - 16)) as u16
}

/// All that a text has.
pub fn numbers_in(text: &[u32]) -> Vec<Number> {
    let at = |at: usize| {
        let rest = &text[at..];
        let kinds = [
            number_behind(rest).map(Number::Behind),
            number_of_word(rest).map(|(word, number)| Number::Word(hash_of_word(word, number))),
            run_at(rest).map(Number::Run),
        ];
        let near = NEAR.map(|(before, digits)| number_near(rest, before, digits).map(Number::Near));
        kinds.into_iter().chain(near).flatten()
    };
    (0..text.len()).flat_map(at).collect()
}

/// The hash of a character and the digits behind it, if it begins with these. A number at the beginning of a line is none:
/// texts are looked at line by line.
fn number_behind(text: &[u32]) -> Option<u32> {
    let (before, digits) = text.split_first()?;
    let digits = leading_digits(digits, DIGITS)?;
    (!is_digit(*before) && *before != u32::from('\n')).then(|| {
        let number = digits.iter().fold(0u64, |number, c| number << 8 | u64::from(*c));
        small(number << 21 | u64::from(*before))
    })
}

/// More characters and fewer digits, if it begins with these: the characters, and the number.
fn number_of_word(text: &[u32]) -> Option<(&[u32; WORD], u64)> {
    let (word, rest) = text.split_first_chunk::<WORD>()?;
    let digits = leading_digits(rest, WORD_DIGITS)?;
    let number = digits.iter().fold(0u64, |number, c| number * 10 + u64::from(c - u32::from('0')));
    (!is_digit(word[WORD - 1]) && !word.contains(&u32::from('\n'))).then_some((word, number))
}

fn hash_of_word(word: &[u32; WORD], number: u64) -> u32 {
    small(fold_word(word, number << 32))
}

/// The hash of so many characters and so many digits behind them, if it begins with these.
fn number_near(text: &[u32], before: usize, digits: usize) -> Option<u32> {
    let (word, rest) = text.split_at_checked(before)?;
    let digits = leading_digits(rest, digits)?;
    let is_word = word.last().is_some_and(|last| !is_digit(*last)) && !word.contains(&u32::from('\n'));
    is_word.then(|| small(fold_word(word, (before as u64) << 56) ^ fold_word(digits, 0)))
}

fn fold_word(word: &[u32], first: u64) -> u64 {
    word.iter().fold(first, |hash, c| (hash ^ u64::from(*c)).wrapping_mul(SALT).rotate_left(29))
}

/// The hash of the digits that it begins with.
fn run_at(text: &[u32]) -> Option<u16> {
    let digits = leading_digits(text, RUN)?;
    Some(narrow(small(digits.iter().fold(1, |number, c| number << 8 | u64::from(*c)))))
}

/// The first `len` characters, if all are digits.
fn leading_digits(text: &[u32], len: usize) -> Option<&[u32]> {
    text.get(..len).filter(|digits| digits.iter().all(|c| is_digit(*c)))
}

fn small(value: u64) -> u32 {
    let hash = value.wrapping_mul(SALT);
    ((hash ^ hash >> 29).wrapping_mul(SALT) >> (64 - HASH_BITS)) as u32
}

fn is_digit(c: u32) -> bool {
    c.wrapping_sub(u32::from('0')) < 10
}

/// Whether a text in JSON may have digits that are looked for behind a word: an escaped one is written with as many.
pub fn may_have_word_number(json: &[u8]) -> bool {
    let mut run = 0;
    json.iter().any(|byte| {
        run = if byte.is_ascii_digit() { run + 1 } else { 0 };
        run == WORD_DIGITS
    })
}

/// Collects the long numbers of one chunk at a time, and which of its blocks have which digits behind a word.
#[derive(Default)]
pub struct NumberBits {
    runs: Bits,
    words: WordBits,
}

impl NumberBits {
    /// Goes on with a row of the chunk.
    pub fn begin_row(&mut self, row: usize) {
        self.words.begin_row(row);
    }

    /// Of which block the row is.
    pub fn block(&self) -> usize {
        self.words.block()
    }

    /// Notes the numbers of a text, those behind characters among other hashes.
    pub fn add(&mut self, text: &[u32], hashes: &mut HashBits) {
        let mut run = 0;
        for (nth, some) in text.chunks(STRETCH).enumerate() {
            // All together are compared at once, and most stretches have none.
            if !some.iter().fold(false, |has_digit, c| has_digit | is_digit(*c)) {
                run = 0;
                continue;
            }
            for (at, c) in (nth * STRETCH..).zip(some) {
                run = if is_digit(*c) { run + 1 } else { 0 };
                if run >= LEAST_DIGITS {
                    self.add_number(&text[..=at], run, hashes);
                }
            }
        }
    }

    /// Notes what ends with the last of so many digits.
    fn add_number(&mut self, text: &[u32], digits: usize, hashes: &mut HashBits) {
        let last = |len: usize| text.len().checked_sub(len).map(|from| &text[from..]);
        let near = NEAR.into_iter().filter(|(_, of)| *of == digits);
        let near = near.filter_map(|(before, of)| number_near(last(before + of)?, before, of));
        near.for_each(|hash| hashes.insert(hash));
        match digits {
            ..WORD_DIGITS => {}
            WORD_DIGITS => {
                let word = last(WORD + WORD_DIGITS).and_then(number_of_word);
                if let Some((word, number)) = word {
                    let hash = hash_of_word(word, number);
                    hashes.insert(hash);
                    self.words.insert(hash);
                }
            }
            DIGITS => last(1 + DIGITS).and_then(number_behind).into_iter().for_each(|hash| hashes.insert(hash)),
            _ => last(RUN).and_then(run_at).into_iter().for_each(|run| self.runs.insert(run)),
        }
    }

    /// The long numbers, and those behind words; the set is empty afterwards.
    pub fn take(&mut self) -> (NumberList, WordBlocks) {
        (self.runs.take(), self.words.take())
    }
}

/// A set of short hashes.
pub struct Bits {
    words: Box<[u64; 1024]>,
    is_empty: bool,
}

impl Default for Bits {
    fn default() -> Bits {
        let words = vec![0; 1024].into_boxed_slice().try_into().expect("as many words as there are");
        Bits { words, is_empty: true }
    }
}

impl Bits {
    pub fn insert(&mut self, number: u16) {
        self.words[usize::from(number) / 64] |= 1 << (number % 64);
        self.is_empty = false;
    }

    /// The numbers, ascending; the set is empty afterwards.
    fn take(&mut self) -> NumberList {
        if self.is_empty {
            return NumberList::default();
        }
        let count = self.words.iter().map(|word| word.count_ones() as usize).sum();
        let mut numbers = Vec::with_capacity(count);
        self.drain(|number| numbers.push(number));
        NumberList((numbers.len() <= MAX_NUMBERS).then_some(numbers))
    }

    /// Takes the numbers out, ascending.
    pub fn drain(&mut self, mut take: impl FnMut(u16)) {
        if std::mem::replace(&mut self.is_empty, true) {
            return;
        }
        for (nth, word) in self.words.iter_mut().enumerate() {
            let mut word = std::mem::take(word);
            while word != 0 {
                take((nth * 64) as u16 + word.trailing_zeros() as u16);
                word &= word - 1;
            }
        }
    }
}

/// The numbers of a chunk; nothing inside where it may have any.
#[derive(Clone, Debug)]
pub struct NumberList(Option<Vec<u16>>);

impl Default for NumberList {
    fn default() -> NumberList {
        NumberList(Some(Vec::new()))
    }
}

impl NumberList {
    pub fn contains(&self, number: u16) -> bool {
        self.0.as_ref().is_none_or(|numbers| numbers.binary_search(&number).is_ok())
    }

    /// Those of a chunk of an earlier part.
    #[cfg(test)]
    pub fn narrow(numbers: impl Iterator<Item = u16>) -> NumberList {
        NumberList(Some(std::collections::BTreeSet::from_iter(numbers).into_iter().collect()))
    }

    pub fn weight(&self) -> usize {
        self.0.as_ref().map_or(0, |numbers| numbers.len() * 2)
    }
}

/// The place of a number in a range for so many.
fn place(number: u16, count: usize, bits: u32) -> u32 {
    (u32::from(number) * ((count as u32) << bits).min(1 << 16)) >> 16
}

/// Index and lists of the chunks of a part.
pub fn encode(chunks: &[&NumberList], bits: u32) -> (Vec<u8>, Vec<u8>) {
    encode_pages(chunks, |lists, numbers| push_chunk(lists, numbers, bits))
}

/// The same of whatever chunks have.
pub fn encode_pages<T>(chunks: &[T], push: impl Fn(&mut Vec<u8>, &T)) -> (Vec<u8>, Vec<u8>) {
    let (mut index, mut lists) = (Vec::new(), Vec::new());
    for page in chunks.chunks(PAGE_CHUNKS) {
        let start = lists.len();
        page.iter().for_each(|chunk| push(&mut lists, chunk));
        index.extend_from_slice(&(start as u32).to_le_bytes());
        index.extend_from_slice(&crc32c::crc32c(&lists[start..]).to_le_bytes());
    }
    index.extend_from_slice(&(lists.len() as u32).to_le_bytes());
    (index, lists)
}

/// How many there are and one more, 0 for any; then the bytes of their places, and these.
fn push_chunk(out: &mut Vec<u8>, numbers: &NumberList, low_bits: u32) {
    let Some(numbers) = &numbers.0 else { return put_varint(out, 0) };
    put_varint(out, numbers.len() as u64 + 1);
    let mut places: Vec<u32> = numbers.iter().map(|number| place(*number, numbers.len(), low_bits)).collect();
    places.dedup();
    let (mut bytes, mut pending, mut bits, mut next) = (Vec::new(), 0u64, 0, 0);
    for place in places {
        let step = place - next;
        next = place + 1;
        // As many ones as the high part says, a zero, and the low part.
        let (mut ones, low) = (step >> low_bits, u64::from(step & ((1 << low_bits) - 1)));
        while ones > 0 {
            let some = ones.min(32);
            pending |= ((1u64 << some) - 1) << bits;
            bits += some;
            ones -= some;
            flush(&mut bytes, &mut pending, &mut bits);
        }
        pending |= low << 1 << bits;
        bits += low_bits + 1;
        flush(&mut bytes, &mut pending, &mut bits);
    }
    if bits > 0 {
        bytes.push(pending as u8);
    }
    put_bytes(out, &bytes);
}

fn flush(bytes: &mut Vec<u8>, pending: &mut u64, bits: &mut u32) {
    while *bits >= 8 {
        bytes.push(*pending as u8);
        *pending >>= 8;
        *bits -= 8;
    }
}

/// Where the lists of a part lie.
pub struct NumberIndex {
    /// Where each page begins, and its checksum.
    pages: Vec<(u32, u32)>,
    len: u32,
}

impl NumberIndex {
    /// Reads an index; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<NumberIndex> {
        let (pages, len) = bytes.split_last_chunk::<4>()?;
        let (pages, []) = pages.as_chunks::<ENTRY>() else { return None };
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let pages = pages.iter().map(|page| (word(&page[..4]), word(&page[4..]))).collect();
        Some(NumberIndex { pages, len: u32::from_le_bytes(*len) })
    }

    pub fn weight(&self) -> usize {
        self.pages.len() * ENTRY
    }

    /// Where a page lies, its length and its checksum.
    pub fn page(&self, page: usize) -> Option<(u64, usize, u32)> {
        let (at, crc) = self.pages.get(page).copied()?;
        let end = self.pages.get(page + 1).map_or(self.len, |next| next.0);
        Some((u64::from(at), end.saturating_sub(at) as usize, crc))
    }

    /// Those of some chunks that may have this number. `read` gives the bytes of a page; `None` where they are damaged.
    pub fn chunks_within<E>(
        &self,
        number: u16,
        bits: u32,
        within: &ChunkSet,
        mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Option<ChunkSet>, E> {
        let mut found = within.clone();
        let asked: Vec<usize> = within.iter().collect();
        for some in asked.chunk_by(|a, b| a / PAGE_CHUNKS == b / PAGE_CHUNKS) {
            let page = some[0] / PAGE_CHUNKS;
            let Some((at, len, crc)) = self.page(page) else { return Ok(None) };
            let bytes = read(at, len)?;
            if crc32c::crc32c(&bytes) != crc
                || keep_those_with((number, bits), page, some, &bytes, &mut found).is_none()
            {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }
}

/// Takes the chunks of a page that have not the number out of the set.
fn keep_those_with(
    (number, bits): (u16, u32),
    page: usize,
    asked: &[usize],
    mut bytes: &[u8],
    set: &mut ChunkSet,
) -> Option<()> {
    let mut asked = asked.iter().copied().peekable();
    let mut chunk = page * PAGE_CHUNKS;
    while asked.peek().is_some() {
        if let Some(count) = take_varint(&mut bytes)?.checked_sub(1) {
            let count = usize::try_from(count).ok().filter(|count| *count <= MAX_NUMBERS)?;
            let list = take_bytes(&mut bytes)?;
            if asked.peek() == Some(&chunk) && !has_place(list, place(number, count, bits), bits) {
                set.remove(chunk);
            }
        }
        asked.next_if_eq(&chunk);
        chunk += 1;
    }
    Some(())
}

fn has_place(list: &[u8], wanted: u32, low_bits: u32) -> bool {
    let (mut bit, mut next) = (0, 0u32);
    let end = list.len() * 8;
    let is_one = |bit: usize| list[bit / 8] & 1 << (bit % 8) != 0;
    while bit < end {
        let start = bit;
        while bit < end && is_one(bit) {
            bit += 1;
        }
        if bit + low_bits as usize >= end {
            // What is left fills the last byte.
            return false;
        }
        let low = (0..low_bits).fold(0, |low, nth| low | u32::from(is_one(bit + 1 + nth as usize)) << nth);
        let found = next + (((bit - start) as u32) << low_bits | low);
        if found >= wanted {
            return found == wanted;
        }
        (bit, next) = (bit + 1 + low_bits as usize, found + 1);
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(text: &str) -> Vec<u32> {
        text.to_lowercase().chars().map(u32::from).collect()
    }

    fn kinds_in(text: &str) -> [Vec<Number>; 4] {
        let all = numbers_in(&folded(text));
        let of = |is_kind: fn(&Number) -> bool| all.iter().copied().filter(is_kind).collect();
        [
            of(|number| matches!(number, Number::Behind(_))),
            of(|number| matches!(number, Number::Word(..))),
            of(|number| matches!(number, Number::Run(_))),
            of(|number| matches!(number, Number::Near(_))),
        ]
    }

    #[test]
    fn a_number_is_four_digits_behind_a_character_or_three_behind_a_word_of_the_same_line_or_five_anywhere() {
        let counts = |text: &str| kinds_in(text).map(|numbers| numbers.len());
        assert_eq!(counts("qty_4242"), [1, 1, 0, 2]);
        assert_eq!(counts("Order-42421 x9999"), [2, 2, 1, 4]);
        assert_eq!(counts("qty_424, 4242"), [1, 2, 0, 4]);
        assert_eq!(counts("_424"), [0, 0, 0, 0]);
        assert_eq!(counts("y_424"), [0, 0, 0, 1]);
        assert_eq!(counts("ty_42"), [0, 0, 0, 1]);
        assert_eq!(counts("12345678"), [0, 0, 4, 0]);
        for text in ["", "4242", "y_42", "a\n4242", "y\n_424", "٤٢٤٢ ٤٢٤٢٤"] {
            assert_eq!(counts(text), [0, 0, 0, 0], "{text}");
        }
        assert_eq!(kinds_in("-4242")[0], kinds_in("order-424299")[0]);
        assert_ne!(kinds_in("-4242")[0], kinds_in("_4242")[0]);
        assert_eq!(kinds_in("er-424")[1], kinds_in("order-424299")[1]);
        assert_ne!(kinds_in("ax_424")[1], kinds_in("ay_424")[1]);
        assert_ne!(kinds_in("x_424")[3], kinds_in("x_425")[3]);
        assert_eq!(kinds_in("rx_424")[3][1], kinds_in("x_4249")[3][0]);
        assert_eq!(kinds_in("34567")[2], kinds_in("a345678")[2][..1]);
    }

    #[test]
    fn what_a_text_has_is_noted_of_every_text_that_it_is_part_of() {
        let texts =
            ["run_160 of 12345678", "x = {\"a1\": 160160, \"qty_99\": 99.12345}", "id 1234567890123 ۱۲۳۴۵ v2_1600"];
        let (mut bits, mut hashes) = (NumberBits::default(), HashBits::default());
        texts.iter().for_each(|text| bits.add(&folded(text), &mut hashes));
        let (behind, (runs, _)) = (hashes.take(0), bits.take());
        for text in texts.map(folded) {
            for (from, to) in (0..text.len()).flat_map(|from| (from..=text.len()).map(move |to| (from, to))) {
                let has_all = numbers_in(&text[from..to]).into_iter().all(|number| match number {
                    Number::Behind(number) | Number::Word(number) | Number::Near(number) => behind.contains(number),
                    Number::Run(number) => runs.contains(number),
                });
                assert!(has_all, "{from}..{to}");
            }
        }
        let (behind, (runs, _)) = (hashes.take(0), bits.take());
        assert!(behind.len() == 0 && (0..=u16::MAX).all(|number| !runs.contains(number)));
    }

    #[test]
    fn numbers_behind_words_have_hashes_of_their_own() {
        let words = ["qty_", "key_", "run-", "price ", "سال", "n = "];
        let texts = words.iter().flat_map(|word| (0..1000).map(move |number| format!("{word}{number:03}")));
        let hashes = texts.flat_map(|text| numbers_in(&folded(&text))).filter_map(|number| match number {
            Number::Word(hash) => Some(hash),
            _ => None,
        });
        let hashes: Vec<u32> = hashes.collect();
        let different = std::collections::BTreeSet::from_iter(&hashes);
        assert_eq!(hashes.len(), words.len() * 1000);
        // As many of them share one as do of random numbers of 22 bits.
        assert!(hashes.len() - different.len() < 20, "{}", hashes.len() - different.len());
    }

    proptest! {
        #[test]
        fn a_chunk_that_has_a_number_is_never_left_out_and_most_others_are(
            chunks in proptest::collection::vec(proptest::collection::btree_set(0u16..10_000, 0..300), 1..40), full in 0usize..60, bits_of_each in 4u32..6,
        ) {
            let (mut bits, mut hashes, mut lists) = (NumberBits::default(), HashBits::default(), Vec::new());
            for (nth, chunk) in chunks.iter().enumerate() {
                chunk.iter().for_each(|number| bits.add(&folded(&format!("_1{number:04} b")), &mut hashes));
                if nth == full {
                    (0..9999).for_each(|number| bits.add(&folded(&format!("x2{number:04}")), &mut hashes));
                }
                lists.push(bits.take().0);
            }
            let (index, bytes) = encode(&lists.iter().collect::<Vec<_>>(), bits_of_each);
            let index = NumberIndex::read(&index).expect("an index");
            let (mut right, mut wrong) = (0, 0);
            for number in (0..10_000).step_by(61) {
                let hash = run_at(&folded(&format!("1{number:04}"))).expect("a number");
                let read = |at: u64, len: usize| Ok::<_, ()>(bytes[at as usize..at as usize + len].to_vec());
                let found = index.chunks_within(hash, bits_of_each, &ChunkSet::all(chunks.len()), read).unwrap().expect("whole");
                for (nth, chunk) in chunks.iter().enumerate() {
                    let has = chunk.contains(&number) || nth == full;
                    prop_assert!(found.contains(nth) || !has);
                    prop_assert!(lists[nth].contains(hash) || !has);
                    (right, wrong) = (right + usize::from(!has), wrong + usize::from(!has && found.contains(nth)));
                }
            }
            prop_assert!(wrong * 10 <= right + 200, "{} of {}", wrong, right);
        }

        #[test]
        fn bytes_that_are_no_numbers_are_refused_or_read(index in proptest::collection::vec(any::<u8>(), 0..60), lists in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = NumberIndex::read(&index);
            let pages = vec![(0, crc32c::crc32c(&lists)); 3];
            let index = NumberIndex { pages, len: lists.len() as u32 };
            let read = |_: u64, _: usize| Ok::<_, ()>(lists.clone());
            let _ = index.chunks_within(77, BITS, &ChunkSet::all(40), read);
        }
    }
}
