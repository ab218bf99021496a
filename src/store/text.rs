//! Text blocks: the text columns of up to 64 rows, compressed together column by column.

use std::io;

use zstd::bulk::Compressor;
use zstd::dict::DecoderDictionary;
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
const ENTRY: usize = 24;

/// Writes the blocks of one part.
pub struct TextWriter {
    compressor: Compressor<'static>,
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

impl TextWriter {
    pub fn new(dictionary: &[u8], columns: usize) -> io::Result<TextWriter> {
        Ok(TextWriter {
            compressor: Compressor::with_dictionary(LEVEL, dictionary)?,
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
        let packed = self.compressor.compress(raw)?;
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

/// The index of the blocks of a part with so many rows.
pub fn read_index(bytes: &[u8], rows: usize) -> Vec<Block> {
    let entries = bytes.as_chunks::<ENTRY>().0;
    let word = |nth: usize, at: usize| u32::from_le_bytes(entries[nth][at..at + 4].try_into().expect("four bytes"));
    let first = |nth: usize| if nth < entries.len() { word(nth, 0) as usize } else { rows };
    let block = |nth: usize| Block {
        first_row: first(nth),
        rows: first(nth + 1).saturating_sub(first(nth)),
        at: u64::from_le_bytes(entries[nth][16..24].try_into().expect("eight bytes")),
        packed_len: word(nth, 4) as usize,
        raw_len: word(nth, 8) as usize,
        crc: word(nth, 12),
    };
    (0..entries.len()).map(block).collect()
}

/// Opens blocks of one part.
pub struct TextReader {
    dictionary: DecoderDictionary<'static>,
    weight: usize,
}

/// The values of one block.
pub struct Texts {
    raw: Vec<u8>,
    /// For each column and row of the block: where the value is; the same place twice where there is none.
    spans: Vec<(u32, u32)>,
    rows: usize,
}

impl TextReader {
    pub fn new(dictionary: &[u8]) -> TextReader {
        TextReader { dictionary: DecoderDictionary::copy(dictionary), weight: dictionary.len() * 2 }
    }

    pub fn weight(&self) -> usize {
        self.weight
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
        context.decompress_using_ddict(&mut raw, packed, self.dictionary.as_ddict()).ok()?;
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

    pub fn weight(&self) -> usize {
        self.raw.len() + self.spans.len() * 8
    }
}
