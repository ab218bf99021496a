//! Text blocks: the text columns of up to 64 rows, compressed together column by column.

use std::io;

use zstd::bulk::Compressor;
use zstd::zstd_safe::DCtx;

use super::value::is_json;
use crate::varint::{put_varint, take_varint};

/// Rows of a block.
pub const BLOCK_ROWS: usize = 64;
/// A block ends at this many bytes, however few rows it has.
const BLOCK_BYTES: usize = 256 * 1024;
/// Plain text of the part that its blocks are compressed against.
pub const DICTIONARY_BYTES: usize = 64 * 1024;
const LEVEL: i32 = 1;
/// How hard texts are compressed where that takes a twentieth less: it costs twice as much, and repeated code gains
/// nothing.
const HARDER: i32 = 3;
/// So many blocks of a part are compressed both ways, to find out. The first ones show nothing: texts are compressed
/// against their own beginning there.
const TRIED_BLOCKS: std::ops::Range<usize> = 12..16;
const ENTRY: usize = 24;

/// Writes the blocks of one part.
pub struct TextWriter {
    compressor: Compressor<'static>,
    /// Until it is decided: another compressor, the blocks so far, and the bytes of either of those that both compressed.
    trial: Option<Trial>,
    raw: Vec<u8>,
    columns: usize,
    /// For each column the values of the open block: lengths and bytes.
    open: Vec<(Vec<u8>, Vec<u8>)>,
    open_bytes: usize,
    rows: usize,
    first_row: usize,
    body: Vec<u8>,
    index: Vec<u8>,
}

struct Trial {
    harder: Compressor<'static>,
    blocks: usize,
    bytes: [usize; 2],
}

impl TextWriter {
    pub fn new(dictionary: &[u8], columns: usize) -> io::Result<TextWriter> {
        Ok(TextWriter {
            compressor: Compressor::with_dictionary(LEVEL, dictionary)?,
            trial: Some(Trial { harder: Compressor::with_dictionary(HARDER, dictionary)?, blocks: 0, bytes: [0; 2] }),
            raw: Vec::new(),
            columns,
            open: vec![Default::default(); columns],
            open_bytes: 0,
            rows: 0,
            first_row: 0,
            body: Vec::new(),
            index: Vec::new(),
        })
    }

    /// A value of the row that is being written.
    pub fn value(&mut self, column: usize, value: &[u8]) {
        let (lengths, bytes) = &mut self.open[column];
        put_varint(lengths, value.len() as u64);
        bytes.extend_from_slice(value);
        self.open_bytes += value.len();
    }

    pub fn end_row(&mut self) -> io::Result<()> {
        self.rows += 1;
        if self.rows - self.first_row == BLOCK_ROWS || self.open_bytes >= BLOCK_BYTES {
            self.close_block()?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> io::Result<()> {
        let raw = &mut self.raw;
        raw.clear();
        raw.reserve(self.open_bytes + self.columns * BLOCK_ROWS);
        for (lengths, _) in &self.open {
            raw.extend_from_slice(lengths);
        }
        for (_, bytes) in &self.open {
            raw.extend_from_slice(bytes);
        }
        let mut packed = self.compressor.compress(raw)?;
        if let Some(mut trial) = self.trial.take() {
            if TRIED_BLOCKS.contains(&trial.blocks) {
                let harder = trial.harder.compress(raw)?;
                trial.bytes = [trial.bytes[0] + packed.len(), trial.bytes[1] + harder.len()];
                if harder.len() < packed.len() {
                    packed = harder;
                }
            }
            trial.blocks += 1;
            let pays = trial.bytes[1] * 20 < trial.bytes[0] * 19;
            match trial.blocks < TRIED_BLOCKS.end {
                true => self.trial = Some(trial),
                false if pays => self.compressor = trial.harder,
                false => {}
            }
        }
        for word in [self.first_row as u32, packed.len() as u32, raw.len() as u32, crc32c::crc32c(&packed)] {
            self.index.extend_from_slice(&word.to_le_bytes());
        }
        self.index.extend_from_slice(&(self.body.len() as u64).to_le_bytes());
        self.body.extend_from_slice(&packed);
        self.open.iter_mut().for_each(|(lengths, bytes)| {
            lengths.clear();
            bytes.clear();
        });
        self.open_bytes = 0;
        self.first_row = self.rows;
        Ok(())
    }

    /// Index and body.
    pub fn finish(mut self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        if self.rows > self.first_row {
            self.close_block()?;
        }
        Ok((self.index, self.body))
    }
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub first_row: usize,
    pub rows: usize,
    pub at: u64,
    packed_len: usize,
    raw_len: usize,
    crc: u32,
}

impl Block {
    pub fn packed_len(&self) -> usize {
        self.packed_len
    }
}

/// Where the blocks of a part with so many rows are, as it was written: there are a thousand in a part.
pub struct TextIndex {
    bytes: Vec<u8>,
    rows: usize,
}

impl TextIndex {
    /// `None` unless the blocks have all rows.
    pub fn read(bytes: Vec<u8>, rows: usize) -> Option<TextIndex> {
        let index = TextIndex { bytes, rows };
        let found: usize = (0..index.len()).map(|nth| index.block(nth).rows).sum();
        (found == rows).then_some(index)
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / ENTRY
    }

    fn first_row(&self, nth: usize) -> usize {
        if nth < self.len() { self.word(nth, 0) } else { self.rows }
    }

    fn word(&self, nth: usize, at: usize) -> usize {
        let word = &self.bytes[nth * ENTRY + at..][..4];
        u32::from_le_bytes(word.try_into().expect("four bytes")) as usize
    }

    pub fn block(&self, nth: usize) -> Block {
        let first_row = self.first_row(nth);
        let at = &self.bytes[nth * ENTRY + 16..][..8];
        Block {
            first_row,
            rows: self.first_row(nth + 1).saturating_sub(first_row),
            at: u64::from_le_bytes(at.try_into().expect("eight bytes")),
            packed_len: self.word(nth, 4),
            raw_len: self.word(nth, 8),
            crc: self.word(nth, 12) as u32,
        }
    }

    /// The block that a row is in, and its number.
    pub fn block_of(&self, row: usize) -> (usize, Block) {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.first_row(middle) <= row { low = middle + 1 } else { high = middle }
        }
        let nth = low.saturating_sub(1);
        (nth, self.block(nth))
    }

    pub fn weight(&self) -> usize {
        self.bytes.len()
    }
}

/// Opens blocks of one part. Their dictionary is plain text, which needs no tables of its own.
pub struct TextReader(Vec<u8>);

/// The values of one block.
pub struct Texts {
    raw: Vec<u8>,
    /// For each column and row of the block: where the value is; the same place twice where there is none.
    spans: Vec<(u32, u32)>,
    rows: usize,
}

impl TextReader {
    pub fn new(dictionary: Vec<u8>) -> TextReader {
        TextReader(dictionary)
    }

    pub fn weight(&self) -> usize {
        self.0.len()
    }

    /// Expands a block. `has(column, row)` says which rows of the block have a value in which text column.
    /// `None` if the block is damaged.
    pub fn open(
        &self,
        block: &Block,
        packed: &[u8],
        columns: usize,
        has: impl Fn(usize, usize) -> bool,
        context: &mut DCtx<'static>,
    ) -> Option<Texts> {
        if crc32c::crc32c(packed) != block.crc {
            return None;
        }
        let mut raw = Vec::with_capacity(block.raw_len);
        context.decompress_using_dict(&mut raw, packed, &self.0).ok()?;
        let mut rest = &raw[..];
        let mut lengths = Vec::with_capacity(columns * block.rows);
        for column in 0..columns {
            for row in 0..block.rows {
                let length = if has(column, row) { take_varint(&mut rest)? } else { 0 };
                let length = usize::try_from(length).ok().filter(|length| *length <= raw.len())?;
                lengths.push(length);
            }
        }
        let mut at = raw.len() - rest.len();
        let mut spans = Vec::with_capacity(lengths.len());
        for length in lengths {
            spans.push((at as u32, (at + length) as u32));
            at += length;
        }
        let is_text = |(nth, (from, to)): (usize, &(u32, u32))| {
            !has(nth / block.rows, nth % block.rows) || raw.get(*from as usize..*to as usize).is_some_and(is_json)
        };
        let is_whole = at == raw.len() && spans.iter().enumerate().all(is_text);
        is_whole.then_some(Texts { raw, spans, rows: block.rows })
    }
}

impl Texts {
    /// The value of a text column in a row of the block.
    pub fn get(&self, column: usize, row: usize) -> &[u8] {
        let (from, to) = self.spans[column * self.rows + row];
        &self.raw[from as usize..to as usize]
    }

    /// All values of a text column, one behind the other.
    pub fn column(&self, column: usize) -> &[u8] {
        let spans = &self.spans[column * self.rows..(column + 1) * self.rows];
        let (from, to) = (spans.first().map_or(0, |span| span.0), spans.last().map_or(0, |span| span.1));
        &self.raw[from as usize..to as usize]
    }

    /// The rows, a bit for each, whose values of a text column have some place within them. `each_place` is given all of the
    /// column's bytes and whom to tell of a place, who says from where on another one counts; it gives false where any row
    /// may be one of them.
    pub fn rows_at(
        &self,
        column: usize,
        each_place: impl FnOnce(&[u8], &mut dyn FnMut(usize) -> usize) -> bool,
    ) -> u64 {
        let spans = &self.spans[column * self.rows..(column + 1) * self.rows];
        let (first, mut rows) = (spans.first().map_or(0, |span| span.0 as usize), 0);
        let mut tell = |at: usize| {
            let row = spans.partition_point(|span| span.1 as usize <= first + at);
            rows |= 1u64.checked_shl(row as u32).unwrap_or(u64::MAX);
            spans.get(row).map_or(usize::MAX, |span| span.1 as usize - first)
        };
        if each_place(self.column(column), &mut tell) { rows } else { u64::MAX }
    }

    pub fn weight(&self) -> usize {
        self.raw.len() + self.spans.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_row_with_a_place_is_told(values in proptest::collection::vec("[ab]{0,4}", 1..64), other in "[ab]{0,9}") {
            let raw = format!("{other}{}", values.concat()).into_bytes();
            let mut at = other.len();
            let ends = values.iter().map(|value| {
                at += value.len();
                ((at - value.len()) as u32, at as u32)
            });
            // The first column has one row with everything before these.
            let mut spans = vec![(0, 0); values.len()];
            spans[0] = (0, other.len() as u32);
            spans.extend(ends);
            let texts = Texts { raw, spans, rows: values.len() };
            let rows = texts.rows_at(1, |bytes, tell| {
                let mut from = 0;
                while let Some(found) = bytes.get(from..).and_then(|rest| rest.windows(2).position(|two| two == b"ab")) {
                    from = tell(from + found);
                }
                true
            });
            for (row, value) in values.iter().enumerate() {
                let may_straddle = value.ends_with('a');
                let is_told = rows & 1 << row != 0;
                prop_assert!(is_told || !value.contains("ab"), "{} of {:?}", row, values);
                prop_assert!(!is_told || value.contains("ab") || may_straddle, "{} of {:?}", row, values);
            }
            prop_assert_eq!(rows.checked_shr(values.len() as u32).unwrap_or(0), 0);
            prop_assert_eq!(texts.rows_at(1, |_, _| false), u64::MAX);
        }
    }

    /// Code that nobody wrote twice: names of a few hundred words.
    fn value(nth: usize) -> String {
        let word = |n: usize| format!("{}{}", ["read", "open_", "value", "Type", "self."][n % 5], n * n % 397);
        let words = (0..40).map(|n| word(nth * 7919 % 10_007 + n * n * (nth % 13 + 1)));
        format!("\"{}\"", words.collect::<Vec<_>>().join([" = ", "(", ", "][nth % 3]))
    }

    #[test]
    fn texts_that_gain_by_it_are_compressed_harder_and_read_the_same() {
        let values: Vec<String> = (0..3000).map(value).collect();
        let dictionary: Vec<u8> = values.iter().flat_map(|value| value.bytes()).take(DICTIONARY_BYTES).collect();
        let write = |trial: bool| {
            let mut writer = TextWriter::new(&dictionary, 1).expect("a writer");
            writer.trial = writer.trial.take().filter(|_| trial);
            for value in &values {
                writer.value(0, value.as_bytes());
                writer.end_row().expect("it is written");
            }
            writer.finish().expect("it is written")
        };
        let ((_, quick), (index, body)) = (write(false), write(true));
        assert!(body.len() * 100 < quick.len() * 97, "{} {}", body.len(), quick.len());
        let (reader, mut context) = (TextReader::new(dictionary.clone()), DCtx::default());
        let index = TextIndex::read(index, values.len()).expect("it has all rows");
        for nth in 0..index.len() {
            let block = index.block(nth);
            let in_it = |row: usize| index.block_of(block.first_row + row) == (nth, block);
            assert!(in_it(0) && in_it(block.rows - 1));
            let packed = &body[block.at as usize..block.at as usize + block.packed_len()];
            let texts = reader.open(&block, packed, 1, |_, _| true, &mut context).expect("it was just written");
            for row in 0..block.rows {
                assert_eq!(texts.get(0, row), values[block.first_row + row].as_bytes());
            }
        }
    }
}
