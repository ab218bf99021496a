//! A part is made: the events of a tail, column by column, with everything that finds them again.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::bits::{CHUNK, pack};
use super::bloom::Bloom;
use super::layout::{Column, Encoding, Meta, PartWriter, Section, VERSION};
use super::postings::PostingsWriter;
use super::split::{Shapes, Split, WHOLE};
use super::tail::{RowHead, TailChunk};
use super::text::{DICTIONARY_BYTES, TextWriter};
use super::value::{plain_number, quoted_time, quoted_uuid};
use crate::event::Seed;
use crate::varint::put_bytes;

/// What one value gives to the text that others are compressed against.
const SAMPLE_BYTES: usize = 2048;
/// Bits of an id by which rows are found.
pub const FINGERPRINT_BITS: u32 = 24;

/// Writes the events of these chunks as a part at `path`, synced. Every chunk but the last has [`CHUNK`] rows.
pub fn write_part(path: &Path, chunks: &[Arc<TailChunk>], seeds: &[Seed]) -> io::Result<()> {
    let heads: Vec<&RowHead> = chunks.iter().flat_map(|chunk| &chunk.rows).collect();
    let mut shapes = Shapes::new();
    let mut row_shapes = Vec::with_capacity(heads.len());
    let (mut sample, mut line_bytes) = (Vec::with_capacity(DICTIONARY_BYTES), 0);
    for_each_line(chunks, |head, line| {
        line_bytes += line.len() as u64;
        let split = Split::of(line);
        let shape = shapes.of(&split);
        row_shapes.push(i64::from(shape));
        let derived = seeds[head.seed as usize].id(head.ordinal);
        if shape == WHOLE {
            shapes.columns[0].add(line, head.time, derived);
            take_sample(&mut sample, line);
            return Ok(());
        }
        for (nth, value) in split.values.iter().enumerate() {
            let column = shapes.shapes[shape as usize].columns[nth];
            shapes.columns[column as usize].add(value, head.time, derived);
            if value.len() > 32 {
                take_sample(&mut sample, value);
            }
        }
        Ok(())
    })?;
    let columns: Vec<Column> = shapes
        .columns
        .iter()
        .enumerate()
        .map(|(nth, stats)| match nth {
            0 => Column { name: String::new(), encoding: Encoding::Text, is_full: false },
            _ => stats.choose(heads.len()),
        })
        .collect();
    let mut part = PartWriter::create(path)?;
    write_heads(&mut part, &heads, seeds, chunks)?;
    part.section(Section::Shapes, 0, &pack(&row_shapes))?;
    write_columns(&mut part, chunks, seeds, &shapes, &row_shapes, &columns, &sample)?;
    let mut postings = PostingsWriter::default();
    chunks.iter().for_each(|chunk| postings.add_chunk(&chunk.hashes));
    let (index, body) = postings.finish();
    part.section(Section::PostingsIndex, 0, &index)?;
    part.section(Section::PostingsBody, 0, &body)?;
    let times = || heads.iter().map(|head| head.time);
    let meta = Meta {
        version: VERSION,
        events: heads.len() as u32,
        first_seq: heads.first().map_or(0, |head| head.seq),
        last_seq: heads.last().map_or(0, |head| head.seq),
        min_time: times().min().unwrap_or(0),
        max_time: times().max().unwrap_or(0),
        max_received: heads.iter().map(|head| head.received).max().unwrap_or(0),
        line_bytes,
        columns,
        shapes: shapes.shapes,
        has_own_ids: heads.iter().any(|head| head.is_own_id),
    };
    part.section(Section::Meta, 0, &serde_json::to_vec(&meta).map_err(io::Error::other)?)?;
    part.finish()
}

fn for_each_line(chunks: &[Arc<TailChunk>], mut each: impl FnMut(&RowHead, &[u8]) -> io::Result<()>) -> io::Result<()> {
    for chunk in chunks {
        let lines = chunk.lines()?;
        for (nth, head) in chunk.rows.iter().enumerate() {
            each(head, lines.line(nth))?;
        }
    }
    Ok(())
}

fn take_sample(sample: &mut Vec<u8>, value: &[u8]) {
    let room = (DICTIONARY_BYTES - sample.len()).min(SAMPLE_BYTES);
    sample.extend_from_slice(&value[..value.len().min(room)]);
}

/// What stands beside the lines: numbers, times, origins, ids.
fn write_heads(part: &mut PartWriter, heads: &[&RowHead], seeds: &[Seed], chunks: &[Arc<TailChunk>]) -> io::Result<()> {
    let column = |value: fn(&RowHead) -> i64| pack(&heads.iter().map(|head| value(head)).collect::<Vec<_>>());
    part.section(Section::Seq, 0, &column(|head| head.seq as i64))?;
    part.section(Section::Time, 0, &column(|head| head.time))?;
    part.section(Section::Received, 0, &column(|head| head.received))?;
    // Only the seeds that are in use, in the order of their first use.
    let (mut codes, mut used) = (HashMap::new(), Vec::new());
    let seed_codes: Vec<i64> = heads
        .iter()
        .map(|head| {
            *codes.entry(head.seed).or_insert_with(|| {
                used.extend_from_slice(&seeds[head.seed as usize].0);
                (used.len() / 16 - 1) as i64
            })
        })
        .collect();
    part.section(Section::Seeds, 0, &used)?;
    part.section(Section::SeedCodes, 0, &pack(&seed_codes))?;
    part.section(Section::Ordinals, 0, &column(|head| head.ordinal as i64))?;
    let mut prints: Vec<(i64, i64)> =
        heads.iter().enumerate().map(|(row, head)| (fingerprint(head.id.0), row as i64)).collect();
    prints.sort_unstable();
    part.section(Section::Fingerprints, 0, &pack(&prints.iter().map(|(print, _)| *print).collect::<Vec<_>>()))?;
    part.section(Section::FingerprintRows, 0, &pack(&prints.iter().map(|(_, row)| *row).collect::<Vec<_>>()))?;
    let own: Vec<u128> =
        chunks.iter().flat_map(|c| &c.rows).filter(|head| head.is_own_id).map(|head| head.id.0).collect();
    if !own.is_empty() {
        part.section(Section::Bloom, 0, &Bloom::of(&own).encode())?;
    }
    Ok(())
}

/// The bits of an id by which its row is found.
pub fn fingerprint(id: u128) -> i64 {
    let mixed = (id as u64 ^ (id >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - FINGERPRINT_BITS)) as i64
}

/// One column while it is written.
struct Open {
    encoding: Encoding,
    numbers: Vec<i64>,
    uuids: Vec<u8>,
    dictionary: HashMap<Vec<u8>, i64>,
    dictionary_values: Vec<u8>,
    exception_rows: Vec<i64>,
    exception_values: Vec<u8>,
    /// Its number among the text columns.
    text: usize,
    is_full: bool,
}

fn write_columns(
    part: &mut PartWriter,
    chunks: &[Arc<TailChunk>],
    seeds: &[Seed],
    shapes: &Shapes,
    row_shapes: &[i64],
    columns: &[Column],
    sample: &[u8],
) -> io::Result<()> {
    let mut texts = 0;
    let mut open: Vec<Open> = columns
        .iter()
        .map(|column| {
            let text = texts;
            texts += usize::from(column.encoding == Encoding::Text);
            Open {
                encoding: column.encoding,
                numbers: Vec::new(),
                uuids: Vec::new(),
                dictionary: HashMap::new(),
                dictionary_values: Vec::new(),
                exception_rows: Vec::new(),
                exception_values: Vec::new(),
                text,
                is_full: column.is_full,
            }
        })
        .collect();
    let mut writer = TextWriter::new(sample, texts);
    let mut row = 0;
    for_each_line(chunks, |head, line| {
        let shape = row_shapes[row] as usize;
        if shape == WHOLE as usize {
            writer.value(open[0].text, line);
        } else {
            let derived = seeds[head.seed as usize].id(head.ordinal).0;
            let split = Split::of(line);
            for (column, value) in shapes.shapes[shape].columns.iter().zip(&split.values) {
                open[*column as usize].push(value, row, head.time, derived, &mut writer);
            }
        }
        row += 1;
        writer.end_row()
    })?;
    for (nth, column) in open.iter_mut().enumerate() {
        column.write(part, nth, row)?;
    }
    let (index, body) = writer.finish()?;
    part.section(Section::TextDictionary, 0, sample)?;
    part.section(Section::TextIndex, 0, &index)?;
    part.section(Section::Text, 0, &body)
}

impl Open {
    fn push(&mut self, value: &[u8], row: usize, time: i64, derived: u128, texts: &mut TextWriter) {
        match self.encoding {
            Encoding::Text => texts.value(self.text, value),
            Encoding::Dictionary => {
                self.numbers.resize(row, 0);
                let code = self.code(value);
                self.numbers.push(code);
            }
            Encoding::Number { .. } => {
                let style = self.encoding.number_style().expect("it is a number");
                let number = plain_number(value).and_then(|plain| style.encode(plain));
                self.push_number(number, value, row);
            }
            Encoding::Time { digits } => {
                let micros = quoted_time(value).filter(|(_, known)| *known == digits).map(|(micros, _)| micros);
                self.push_number(micros, value, row);
            }
            Encoding::SameTime { digits } => {
                if quoted_time(value) != Some((time, digits)) {
                    self.except(value, row);
                }
            }
            Encoding::Uuid => {
                let bits = quoted_uuid(value);
                if bits.is_none() {
                    self.except(value, row);
                }
                self.uuids.extend_from_slice(&bits.unwrap_or(0).to_le_bytes());
            }
            Encoding::DerivedId => {
                if quoted_uuid(value) != Some(derived) {
                    self.except(value, row);
                }
            }
        }
    }

    /// Codes begin at 1; 0 is no value.
    fn code(&mut self, value: &[u8]) -> i64 {
        if let Some(code) = self.dictionary.get(value) {
            return *code;
        }
        let code = self.dictionary.len() as i64 + 1;
        self.dictionary.insert(value.to_vec(), code);
        put_bytes(&mut self.dictionary_values, value);
        code
    }

    fn push_number(&mut self, number: Option<i64>, value: &[u8], row: usize) {
        // Rows without the member repeat the number before, which takes no bits of its own.
        let filler = self.numbers.last().copied().unwrap_or(0);
        self.numbers.resize(row, filler);
        if number.is_none() {
            self.except(value, row);
        }
        self.numbers.push(number.unwrap_or(filler));
    }

    fn except(&mut self, value: &[u8], row: usize) {
        self.exception_rows.push(row as i64);
        put_bytes(&mut self.exception_values, value);
    }

    fn write(&mut self, part: &mut PartWriter, nth: usize, rows: usize) -> io::Result<()> {
        let filler = if self.encoding == Encoding::Dictionary { 0 } else { self.numbers.last().copied().unwrap_or(0) };
        match self.encoding {
            Encoding::Dictionary => {
                self.numbers.resize(rows, filler);
                part.section(Section::Dictionary, nth, &compressed(&self.dictionary_values)?)?;
                part.section(Section::Codes, nth, &pack(&self.numbers))?;
            }
            Encoding::Number { .. } | Encoding::Time { .. } => {
                self.numbers.resize(rows, filler);
                part.section(Section::Numbers, nth, &pack(&self.numbers))?;
            }
            Encoding::Uuid => {
                debug_assert!(self.is_full && self.uuids.len() == rows * 16);
                part.section(Section::Uuids, nth, &self.uuids)?;
            }
            Encoding::SameTime { .. } | Encoding::DerivedId | Encoding::Text => {}
        }
        if !self.exception_rows.is_empty() {
            part.section(Section::ExceptionRows, nth, &pack(&self.exception_rows))?;
            part.section(Section::ExceptionValues, nth, &compressed(&self.exception_values)?)?;
        }
        Ok(())
    }
}

/// Bytes behind their length, compressed.
fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(&zstd::bulk::compress(bytes, 1)?);
    Ok(out)
}

/// The way back.
pub fn expanded(bytes: &[u8]) -> Option<Vec<u8>> {
    let (len, packed) = bytes.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok().filter(|len| *len <= MAX_EXPANDED)?;
    zstd::bulk::decompress(packed, len).ok().filter(|raw| raw.len() == len)
}

/// No dictionary or list of exceptions is larger.
const MAX_EXPANDED: usize = 256 << 20;

const _: () = assert!(CHUNK * 256 <= 1 << 16, "a row of a part fits 16 bits");
