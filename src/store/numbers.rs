//! Which chunks may have a number behind a character: four digits and what stands before them, in a few bits each.
//!
//! Of the substrings of four characters that `order-4242` has, each is somewhere in most chunks that have orders at all. The
//! five of `-4242` together are in few of them. They are kept as hashes of a range that is [`SPREAD`] times as large as their
//! number in the chunk, so that one in as many of all others is taken for one of them.

use super::chunks::ChunkSet;
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};

/// Digits of a number that are looked at, the first ones.
const DIGITS: usize = 4;
/// A chunk with more of them may have any.
const MAX_NUMBERS: usize = 2048;
const SPREAD: u32 = 16;
/// Low bits of a step from one to the next that are written as they are; the others are counted.
const LOW_BITS: u32 = 4;
/// Chunks whose numbers are read together.
const PAGE_CHUNKS: usize = 16;
const ENTRY: usize = 8;
const SALT: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of a character and the digits behind it, if it begins with these. A number at the beginning of a line is none:
/// texts are looked at line by line.
pub fn number_at(text: &[u32]) -> Option<u16> {
    let (before, digits) = text.split_first()?;
    let digits = digits.get(..DIGITS)?;
    let is_number = !is_digit(*before) && *before != u32::from('\n') && digits.iter().all(|c| is_digit(*c));
    is_number.then(|| {
        let number = digits.iter().fold(0u64, |number, c| number << 8 | u64::from(*c));
        let hash = (number << 21 | u64::from(*before)).wrapping_mul(SALT);
        ((hash ^ hash >> 29).wrapping_mul(SALT) >> 48) as u16
    })
}

fn is_digit(c: u32) -> bool {
    c.wrapping_sub(u32::from('0')) < 10
}

/// Collects the numbers of one chunk at a time.
pub struct NumberBits(Box<[u64; 1024]>);

impl Default for NumberBits {
    fn default() -> NumberBits {
        NumberBits(vec![0; 1024].into_boxed_slice().try_into().expect("as many words as there are"))
    }
}

impl NumberBits {
    /// Notes the numbers of a text.
    pub fn add(&mut self, text: &[u32]) {
        let mut run = 0;
        for (at, c) in text.iter().enumerate() {
            run = if is_digit(*c) { run + 1 } else { 0 };
            if run == DIGITS
                && at >= DIGITS
                && let Some(number) = number_at(&text[at - DIGITS..=at])
            {
                self.0[usize::from(number) / 64] |= 1 << (number % 64);
            }
        }
    }

    /// The numbers, ascending; the set is empty afterwards.
    pub fn take(&mut self) -> NumberList {
        let mut numbers = Vec::new();
        for (nth, word) in self.0.iter_mut().enumerate() {
            let mut word = std::mem::take(word);
            while word != 0 {
                numbers.push((nth * 64) as u16 + word.trailing_zeros() as u16);
                word &= word - 1;
            }
        }
        NumberList((numbers.len() <= MAX_NUMBERS).then_some(numbers))
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

    pub fn weight(&self) -> usize {
        self.0.as_ref().map_or(0, |numbers| numbers.len() * 2)
    }
}

/// The place of a number among so many times [`SPREAD`].
fn place(number: u16, count: usize) -> u32 {
    (u32::from(number) * (count as u32 * SPREAD).min(1 << 16)) >> 16
}

/// Index and lists of the chunks of a part.
pub fn encode(chunks: &[&NumberList]) -> (Vec<u8>, Vec<u8>) {
    let (mut index, mut lists) = (Vec::new(), Vec::new());
    for page in chunks.chunks(PAGE_CHUNKS) {
        let start = lists.len();
        for numbers in page {
            push_chunk(&mut lists, numbers);
        }
        index.extend_from_slice(&(start as u32).to_le_bytes());
        index.extend_from_slice(&crc32c::crc32c(&lists[start..]).to_le_bytes());
    }
    index.extend_from_slice(&(lists.len() as u32).to_le_bytes());
    (index, lists)
}

/// How many there are and one more, 0 for any; then the bytes of their places, and these.
fn push_chunk(out: &mut Vec<u8>, numbers: &NumberList) {
    let Some(numbers) = &numbers.0 else { return put_varint(out, 0) };
    put_varint(out, numbers.len() as u64 + 1);
    let mut places: Vec<u32> = numbers.iter().map(|number| place(*number, numbers.len())).collect();
    places.dedup();
    let (mut bytes, mut pending, mut bits, mut next) = (Vec::new(), 0u64, 0, 0);
    for place in places {
        let step = place - next;
        next = place + 1;
        // As many ones as the high part says, a zero, and the low part.
        let (mut ones, low) = (step >> LOW_BITS, u64::from(step & ((1 << LOW_BITS) - 1)));
        while ones > 0 {
            let some = ones.min(32);
            pending |= ((1u64 << some) - 1) << bits;
            bits += some;
            ones -= some;
            flush(&mut bytes, &mut pending, &mut bits);
        }
        pending |= low << 1 << bits;
        bits += LOW_BITS + 1;
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

    /// Those of some chunks that may have this number. `read` gives the bytes of a page; `None` where they are damaged.
    pub fn chunks_within<E>(
        &self,
        number: u16,
        within: &ChunkSet,
        mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Option<ChunkSet>, E> {
        let mut found = within.clone();
        let asked: Vec<usize> = within.iter().collect();
        for some in asked.chunk_by(|a, b| a / PAGE_CHUNKS == b / PAGE_CHUNKS) {
            let page = some[0] / PAGE_CHUNKS;
            let Some((at, crc)) = self.pages.get(page).copied() else { return Ok(None) };
            let end = self.pages.get(page + 1).map_or(self.len, |next| next.0);
            let bytes = read(u64::from(at), end.saturating_sub(at) as usize)?;
            if crc32c::crc32c(&bytes) != crc || keep_those_with(number, page, some, &bytes, &mut found).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }
}

/// Takes the chunks of a page that have not the number out of the set.
fn keep_those_with(number: u16, page: usize, asked: &[usize], mut bytes: &[u8], set: &mut ChunkSet) -> Option<()> {
    let mut asked = asked.iter().copied().peekable();
    let mut chunk = page * PAGE_CHUNKS;
    while asked.peek().is_some() {
        if let Some(count) = take_varint(&mut bytes)?.checked_sub(1) {
            let count = usize::try_from(count).ok().filter(|count| *count <= MAX_NUMBERS)?;
            let list = take_bytes(&mut bytes)?;
            if asked.peek() == Some(&chunk) && !has_place(list, place(number, count)) {
                set.remove(chunk);
            }
        }
        asked.next_if_eq(&chunk);
        chunk += 1;
    }
    Some(())
}

fn has_place(list: &[u8], wanted: u32) -> bool {
    let (mut bit, mut next) = (0, 0u32);
    let end = list.len() * 8;
    let is_one = |bit: usize| list[bit / 8] & 1 << (bit % 8) != 0;
    while bit < end {
        let start = bit;
        while bit < end && is_one(bit) {
            bit += 1;
        }
        if bit + LOW_BITS as usize >= end {
            // What is left fills the last byte.
            return false;
        }
        let low = (0..LOW_BITS).fold(0, |low, nth| low | u32::from(is_one(bit + 1 + nth as usize)) << nth);
        let found = next + (((bit - start) as u32) << LOW_BITS | low);
        if found >= wanted {
            return found == wanted;
        }
        (bit, next) = (bit + 1 + LOW_BITS as usize, found + 1);
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

    fn numbers_in(text: &str) -> Vec<u16> {
        let text = folded(text);
        (0..text.len()).filter_map(|at| number_at(&text[at..])).collect()
    }

    #[test]
    fn a_number_is_four_digits_behind_a_character_of_the_same_line() {
        assert_eq!(numbers_in("qty_4242").len(), 1);
        assert_eq!(numbers_in("Order-42421 x9999").len(), 2);
        assert_eq!(numbers_in("qty_424, 4242").len(), 1);
        for text in ["", "4242", "qty_424", "\n4242", "٤٢٤٢ ٤٢٤٢"] {
            assert!(numbers_in(text).is_empty(), "{text}");
        }
        assert_eq!(numbers_in("-4242"), numbers_in("order-424299"));
        assert_ne!(numbers_in("-4242"), numbers_in("_4242"));
    }

    proptest! {
        #[test]
        fn a_chunk_that_has_a_number_is_never_left_out_and_most_others_are(
            chunks in proptest::collection::vec(proptest::collection::btree_set(0u16..10_000, 0..300), 1..40), full in 0usize..60,
        ) {
            let (mut bits, mut lists) = (NumberBits::default(), Vec::new());
            for (nth, chunk) in chunks.iter().enumerate() {
                chunk.iter().for_each(|number| bits.add(&folded(&format!("a_{number:04} b"))));
                if nth == full {
                    (0..9999).for_each(|number| bits.add(&folded(&format!("x{number:04}"))));
                }
                lists.push(bits.take());
            }
            let (index, bytes) = encode(&lists.iter().collect::<Vec<_>>());
            let index = NumberIndex::read(&index).expect("an index");
            let (mut right, mut wrong) = (0, 0);
            for number in (0..10_000).step_by(61) {
                let hash = number_at(&folded(&format!("_{number:04}"))).expect("a number");
                let read = |at: u64, len: usize| Ok::<_, ()>(bytes[at as usize..at as usize + len].to_vec());
                let found = index.chunks_within(hash, &ChunkSet::all(chunks.len()), read).unwrap().expect("whole");
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
            let _ = index.chunks_within(77, &ChunkSet::all(40), read);
        }
    }
}
