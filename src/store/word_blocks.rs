//! Which blocks of a chunk may have three digits behind a word, where postings say that the chunk has them.
//!
//! A chunk has a table with four bits at each place, one for each block of texts. The hash of a word with its digits has a
//! place, and its blocks have their bits there; of a block that has it not the bit is set in two of five cases. Texts of the
//! others need not be opened. The table of a chunk grows with what its blocks have, by seven bits for each four.

use super::bits::CHUNK;
use super::hash_list::HASH_BITS;
use super::numbers::{Bits, NumberIndex, PAGE_CHUNKS, encode_pages};
use super::text::BLOCK_ROWS;
use crate::varint::{put_bytes, take_bytes};

/// Blocks of a chunk.
pub const BLOCKS: usize = CHUNK / BLOCK_ROWS;
/// All of them, a bit for each.
pub const ALL: u8 = (1 << BLOCKS) - 1;
/// Where blocks of a chunk have more together, each may have any.
const MAX_WORDS: usize = 8192;
/// Bits of the table for so many that blocks have.
const BITS_FOR: (usize, usize) = (7, 4);

const _: () = assert!(BLOCKS == 4, "two places of a table are a byte");

/// Collects what the blocks of one chunk have.
#[derive(Default)]
pub struct WordBits {
    blocks: [Bits; BLOCKS],
    /// Of the block whose rows come now.
    now: usize,
}

impl WordBits {
    /// Goes on with a row of the chunk.
    pub fn begin_row(&mut self, row: usize) {
        self.now = row / BLOCK_ROWS % BLOCKS;
    }

    /// Of which block the row is.
    pub fn block(&self) -> usize {
        self.now
    }

    pub fn insert(&mut self, hash: u32) {
        self.blocks[self.now].insert(narrow(hash));
    }

    /// What the blocks have; empty afterwards.
    pub fn take(&mut self) -> WordBlocks {
        self.now = 0;
        let mut words = Vec::new();
        for (block, bits) in self.blocks.iter_mut().enumerate() {
            bits.drain(|word| words.push((word, block)));
        }
        let len = match words.len() {
            0 => return WordBlocks::default(),
            count if count > MAX_WORDS => return WordBlocks(vec![u8::MAX].into()),
            count => (count * BITS_FOR.0).div_ceil(BITS_FOR.1 * 8),
        };
        let mut table = vec![0; len];
        for (word, block) in words {
            let place = place(word, len);
            table[place / 2] |= 1 << (place % 2 * BLOCKS + block);
        }
        WordBlocks(table.into())
    }
}

fn narrow(hash: u32) -> u16 {
    (hash >> (HASH_BITS - 16)) as u16
}

/// The place of a word in a table of so many bytes.
fn place(word: u16, bytes: usize) -> usize {
    (usize::from(word) * bytes * 2) >> 16
}

/// The blocks that may have a word.
fn blocks_in(table: &[u8], hash: u32) -> u8 {
    let place = place(narrow(hash), table.len());
    table.get(place / 2).map_or(0, |both| both >> (place % 2 * BLOCKS) & ALL)
}

/// The bits of a key that say in which block its text was.
const BLOCK_BITS: u64 = BLOCKS as u64 - 1;

/// A text's key with the block that it is in.
pub fn key_in(block: usize, (first, second): (u64, u64)) -> (u64, u64) {
    (first, second & !BLOCK_BITS | block as u64)
}

/// Whether two such keys are of one text in two blocks.
pub fn is_in_other_block(known: (u64, u64), key: (u64, u64)) -> bool {
    known.0 == key.0 && known.1 != key.1 && (known.1 ^ key.1) & !BLOCK_BITS == 0
}

/// What the blocks of a chunk have: its table.
#[derive(Clone, Debug, Default)]
pub struct WordBlocks(Box<[u8]>);

impl WordBlocks {
    pub fn weight(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub fn with(&self, hash: u32) -> u8 {
        blocks_in(&self.0, hash)
    }
}

/// Index and tables of the chunks of a part.
pub fn encode(chunks: &[&WordBlocks]) -> (Vec<u8>, Vec<u8>) {
    encode_pages(chunks, |out, chunk| put_bytes(out, &chunk.0))
}

/// What the texts of a block must have, as far as tables tell.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockNeeds {
    Anything,
    /// Nothing is enough.
    Never,
    /// Three digits behind a word, by their hash.
    Word(u32),
    All(Vec<BlockNeeds>),
    Any(Vec<BlockNeeds>),
}

impl BlockNeeds {
    /// What has all of these.
    pub fn all(parts: Vec<BlockNeeds>) -> BlockNeeds {
        let mut parts: Vec<_> = parts.into_iter().filter(|part| *part != BlockNeeds::Anything).collect();
        match parts.len() {
            0 => BlockNeeds::Anything,
            1 => parts.swap_remove(0),
            _ => BlockNeeds::All(parts),
        }
    }

    /// What has one of these.
    pub fn any(parts: Vec<BlockNeeds>) -> BlockNeeds {
        if parts.contains(&BlockNeeds::Anything) {
            return BlockNeeds::Anything;
        }
        let mut parts: Vec<_> = parts.into_iter().filter(|part| *part != BlockNeeds::Never).collect();
        match parts.len() {
            0 => BlockNeeds::Never,
            1 => parts.swap_remove(0),
            _ => BlockNeeds::Any(parts),
        }
    }

    fn blocks(&self, table: &[u8]) -> u8 {
        match self {
            BlockNeeds::Anything => ALL,
            BlockNeeds::Never => 0,
            BlockNeeds::Word(hash) => blocks_in(table, *hash),
            BlockNeeds::All(parts) => parts.iter().fold(ALL, |blocks, part| blocks & part.blocks(table)),
            BlockNeeds::Any(parts) => parts.iter().fold(0, |blocks, part| blocks | part.blocks(table)),
        }
    }
}

/// A page that was read, and which.
pub type Page = Option<(usize, Vec<u8>)>;

/// The blocks of a chunk, a bit for each, that may have what is needed. `read` gives the bytes of a page, of which the last
/// is kept; `None` where they are damaged.
pub fn blocks_with<E>(
    needs: &BlockNeeds,
    chunk: usize,
    index: &NumberIndex,
    kept: &mut Page,
    read: impl FnOnce(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<Option<u8>, E> {
    let (number, nth) = (chunk / PAGE_CHUNKS, chunk % PAGE_CHUNKS);
    if kept.as_ref().is_none_or(|(page, _)| *page != number) {
        let Some((at, len, crc)) = index.page(number) else { return Ok(None) };
        let bytes = read(at, len)?;
        if crc32c::crc32c(&bytes) != crc {
            return Ok(None);
        }
        *kept = Some((number, bytes));
    }
    let mut bytes = kept.as_ref().map_or(&[][..], |(_, bytes)| bytes);
    let table = (0..=nth).map(|_| take_bytes(&mut bytes)).last().flatten();
    Ok(table.map(|table| needs.blocks(table)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::grams::{GramSet, Hashes, numbers_of};
    use super::super::members::Walked;
    use super::super::numbers::Number;
    use super::super::rows::RowFilter;
    use super::super::search::{Place, needs_of};
    use super::super::tests::{Folder, Stored, all, filter, plain};
    use super::super::{Options, Store};
    use super::*;
    use crate::event::Raw;

    /// Lines of which each begins another block.
    fn set_of_blocks(lines: &[String]) -> Hashes {
        let mut set = GramSet::default();
        let mut walked = Walked::default();
        for (nth, line) in lines.iter().enumerate() {
            set.begin_row(nth * BLOCK_ROWS);
            let members = walked.add(line.as_bytes());
            let named = walked.shape(members).members.iter().zip(walked.values(members));
            named.for_each(|(member, value)| set.add(member, *value));
        }
        set.take()
    }

    /// The blocks of each chunk that may have a word.
    fn read_all((index, tables): &(Vec<u8>, Vec<u8>), chunks: usize, needs: &BlockNeeds) -> Option<Vec<u8>> {
        let (index, mut kept) = (NumberIndex::read(index)?, None);
        let read = |at: u64, len: usize| {
            let bytes = usize::try_from(at).ok().and_then(|at| tables.get(at..at.checked_add(len)?));
            Ok::<_, ()>(bytes.unwrap_or_default().to_vec())
        };
        (0..chunks).map(|chunk| blocks_with(needs, chunk, &index, &mut kept, read).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_block_that_has_a_word_is_never_left_out_and_most_others_are(
            chunks in proptest::collection::vec(proptest::collection::vec((0u32..1 << HASH_BITS, 0usize..CHUNK), 0..400), 1..40), full in 0usize..60,
        ) {
            let mut bits = WordBits::default();
            let mut of_chunk = |(nth, words): (usize, &Vec<(u32, usize)>)| {
                for (hash, row) in words {
                    bits.begin_row(*row);
                    bits.insert(*hash);
                }
                if nth == full {
                    (0..MAX_WORDS as u32 + 1).for_each(|n| bits.insert(n << 7));
                }
                bits.take()
            };
            let taken: Vec<WordBlocks> = chunks.iter().enumerate().map(&mut of_chunk).collect();
            let encoded = encode(&taken.iter().collect::<Vec<_>>());
            let (mut wrong, mut right) = (0, 0);
            for (hash, _) in chunks.iter().flatten().step_by(37) {
                let found = read_all(&encoded, chunks.len(), &BlockNeeds::Word(*hash)).expect("they are whole");
                for (nth, blocks) in found.into_iter().enumerate() {
                    let has = |block: usize| chunks[nth].iter().any(|(one, row)| one == hash && row / BLOCK_ROWS == block);
                    for block in 0..BLOCKS {
                        let is_found = blocks & 1 << block != 0;
                        prop_assert!(is_found || !has(block));
                        if nth != full && !has(block) {
                            (wrong, right) = (wrong + usize::from(is_found), right + usize::from(!is_found));
                        }
                    }
                }
            }
            prop_assert!(wrong <= right * 9 / 10 + 100, "{} and {}", wrong, right);
        }

        #[test]
        fn each_block_has_the_numbers_behind_words_of_all_its_texts_though_other_blocks_have_them_too(
            of_chunk in proptest::collection::vec("((item|Item |a_long_name_of_a_variable_)[0-9]{2,5}( of the long list|\n| \\|é)?){1,3}", 1..3),
            picks in proptest::collection::vec((0usize..3, 0usize..3), 4), is_nested in any::<bool>(),
        ) {
            let texts: Vec<String> = picks.iter().map(|(a, b)| {
                let of = |nth: usize| of_chunk.get(nth).map_or("", String::as_str);
                format!("{}{}", of(*a), of(*b))
            }).collect();
            let line = |text: &String| match is_nested {
                true => serde_json::json!({ "metadata": { "a": [text] } }).to_string(),
                false => serde_json::json!({ "code": text }).to_string(),
            };
            let set = set_of_blocks(&texts.iter().map(line).collect::<Vec<_>>());
            for (block, text) in texts.iter().enumerate() {
                for number in numbers_of(text) {
                    if let Number::Word(hash) = number {
                        prop_assert!(set.words.with(hash) & 1 << block != 0, "block {} of {:?}", block, texts);
                    }
                }
            }
        }

        #[test]
        fn bytes_that_are_no_tables_are_refused_or_read(
            index in proptest::collection::vec(any::<u8>(), 0..60), tables in proptest::collection::vec(any::<u8>(), 0..100), hash in 0u32..1 << HASH_BITS,
        ) {
            let needs = BlockNeeds::Word(hash);
            let _ = read_all(&(index, tables.clone()), 40, &needs);
            let mut index = Vec::new();
            for word in [0, crc32c::crc32c(&tables), tables.len() as u32] {
                index.extend_from_slice(&word.to_le_bytes());
            }
            let _ = read_all(&(index, tables), 16, &needs);
        }
    }

    #[test]
    fn blocks_without_the_number_are_not_opened() {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        // Each number is in one block of each chunk, and some lines come again in every block.
        let line = |n: u64| match n % 10 {
            0 => r#"{"user_id":"ali","code":"the same line of all blocks with qty_777 in it"}"#.to_owned(),
            _ => format!(r#"{{"user_id":"ali","code":"frame_{n} = read(); qty_{:03} = {n}"}}"#, n % 256 + 100),
        };
        let events: Vec<Stored> = (0..2048).map(|n| plain(n + 1, &line(n))).collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("they are stored");
        store.seal_now().expect("a part is made");
        let place = Place::Part(store.snapshot().parts[0].clone());
        let (mut opened, mut looked) = ([0, 0], 0);
        for number in (101..356).step_by(9).chain([777]) {
            let (filter, sees) = (filter(&format!("qty_{number}")), all());
            let query = filter.query.as_ref().expect("a query");
            let needs = needs_of(&filter, &sees);
            let chunks: Vec<usize> = place.candidates(&needs).expect("read").iter().collect();
            let is_match = |event: &Stored| query.matches_line(Raw::valid(event.line.as_bytes()));
            for with_needs in [false, true] {
                let new = RowFilter::new(&place, &filter, &sees).expect("a filter");
                let mut of_rows = if with_needs { new.with_needs(&needs) } else { new };
                let (mut times, mut rows, mut found) = (Vec::new(), Vec::new(), Vec::new());
                for chunk in &chunks {
                    place.chunk_times(*chunk, &mut times).expect("read");
                    of_rows.rows(*chunk, &times, &mut rows).expect("read");
                    found.extend(rows.iter().map(|row| chunk * CHUNK + row));
                }
                let wanted: Vec<usize> = (0..events.len()).filter(|row| is_match(&events[*row])).collect();
                assert_eq!(found, wanted, "{number}");
                if number != 777 {
                    opened[usize::from(with_needs)] += of_rows.opened_blocks();
                    looked += chunks.len();
                }
            }
        }
        assert_eq!(opened[0], looked / 2 * BLOCKS);
        assert!(opened[1] * 4 < opened[0] * 3, "{opened:?}");
    }

    #[test]
    fn what_has_all_or_any_of_some_words_is_in_the_blocks_that_have() {
        let mut bits = WordBits::default();
        for (hash, row) in [(1 << 10, 0), (1 << 21, 70), (1 << 10, 130), (1 << 21, 140)] {
            bits.begin_row(row);
            bits.insert(hash);
        }
        let encoded = encode(&[&bits.take(), &bits.take()]);
        let [first, second] = [BlockNeeds::Word(1 << 10), BlockNeeds::Word(1 << 21)];
        let blocks = |needs: BlockNeeds| read_all(&encoded, 2, &needs).expect("they are whole");
        let (all, any) = (BlockNeeds::all, BlockNeeds::any);
        assert_eq!(blocks(all(vec![first.clone(), second.clone(), BlockNeeds::Anything])), [0b0100, 0]);
        assert_eq!(blocks(any(vec![first.clone(), second.clone(), BlockNeeds::Never])), [0b0111, 0]);
        assert_eq!(any(vec![first.clone(), BlockNeeds::Never]), first);
        assert_eq!(blocks(any(vec![second, BlockNeeds::Anything])), [ALL, ALL]);
        assert_eq!(blocks(any(Vec::new())), [0, 0]);
    }
}
