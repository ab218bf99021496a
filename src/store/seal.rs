//! Seals a part: writes the events of a tail column by column, with all indexes.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use zstd::zstd_safe::DCtx;

use super::IMPORTED;
use super::aggregate::{Outcome, outcome};
use super::bits::{CHUNK, pack};
use super::bloom::Bloom;
use super::byte_set::ByteSet;
use super::classes::{Class, last_received};
use super::disk::Disk;
use super::grams::has_identifier;
use super::hash_list::{HashBits, HashList};
use super::hashing::Seeded;
use super::layout::{Column, Encoding, LOOSE, Meta, PartWriter, Section, VERSION};
use super::numbers::{self, BITS, NumberList};
use super::postings::Postings;
use super::split::{Shapes, WHOLE};
use super::summary::{OF_CHUNKS, OF_PART, Summary, SummaryWriter};
use super::tail::{RowHead, TailChunk};
use super::text::{DICTIONARY_BYTES, TextWriter};
use super::value::{number, plain_number, quoted_time, quoted_uuid};
use super::value_sums::ValueSums;
use super::word_blocks::{self, WordBlocks};
use crate::event::{Id, Raw, Seed};
use crate::varint::{put_bytes, take_bytes};

/// What one value gives to the text that others are compressed against.
const SAMPLE_BYTES: usize = 2048;
/// Bits of an id by which rows are found.
pub const FINGERPRINT_BITS: u32 = 24;

/// Writes these events as a part at `path`, synced. Every chunk but the last has [`CHUNK`] rows.
pub fn write_part(disk: &Disk, path: &Path, class: &Class) -> io::Result<()> {
    let Class { chunks, seeds, shapes } = class;
    let heads: Vec<&RowHead> = chunks.iter().flat_map(|chunk| &chunk.rows).collect();
    let row_shapes: Vec<i64> = chunks.iter().flat_map(|chunk| &chunk.shapes).map(|shape| i64::from(*shape)).collect();
    let sample = sample_of(chunks, shapes)?;
    let mut columns: Vec<Column> = shapes
        .columns
        .iter()
        .enumerate()
        .map(|(nth, stats)| match nth {
            0 => Column {
                name: String::new(),
                encoding: Encoding::Text,
                is_full: false,
                is_never_null: false,
                bytes: None,
                has_no_identifier: false,
            },
            _ => stats.choose(heads.len()),
        })
        .collect();
    let mut part = PartWriter::create(disk, path)?;
    write_heads(&mut part, &heads, seeds, chunks)?;
    part.section(Section::Shapes, 0, &pack(&row_shapes))?;
    let written = write_columns(&mut part, chunks, shapes, &row_shapes, &columns, &sample)?;
    for (column, open) in columns.iter_mut().zip(written) {
        column.bytes = (column.encoding == Encoding::Dictionary).then_some(open.bytes);
        column.has_no_identifier = column.encoding == Encoding::Text && !column.name.is_empty() && !open.has_identifier;
    }
    write_postings(&mut part, chunks)?;
    let times = || heads.iter().map(|head| head.time);
    let seqs = || heads.iter().map(|head| head.seq);
    let meta = Meta {
        version: VERSION,
        events: heads.len() as u32,
        first_seq: seqs().min().unwrap_or(0),
        last_seq: seqs().max().unwrap_or(0),
        last_journalled: seqs().filter(|seq| *seq < IMPORTED).max().unwrap_or(0),
        min_time: times().min().unwrap_or(0),
        max_time: times().max().unwrap_or(0),
        max_received: heads.iter().map(|head| head.received).max().unwrap_or(0),
        line_bytes: chunks.iter().map(|chunk| chunk.line_bytes()).sum(),
        columns,
        shapes: shapes.shapes.clone(),
        has_own_ids: heads.iter().any(|head| head.is_own_id),
        types: last_received(chunks)?,
    };
    part.section(Section::Meta, 0, &serde_json::to_vec(&meta).map_err(io::Error::other)?)?;
    part.finish()
}

/// What texts are compressed against: the first long values.
fn sample_of(chunks: &[Arc<TailChunk>], shapes: &Shapes) -> io::Result<Vec<u8>> {
    let mut sample = Vec::with_capacity(DICTIONARY_BYTES);
    for chunk in chunks {
        if sample.len() == DICTIONARY_BYTES {
            break;
        }
        chunk.each_line(&shapes.shapes, |_, line, shape, values| {
            match shape {
                WHOLE => take_sample(&mut sample, line),
                _ => values.iter().filter(|value| value.len() > 32).for_each(|value| take_sample(&mut sample, value)),
            }
            Ok(())
        })?;
    }
    Ok(sample)
}

fn take_sample(sample: &mut Vec<u8>, value: &[u8]) {
    let room = (DICTIONARY_BYTES - sample.len()).min(SAMPLE_BYTES);
    sample.extend_from_slice(&value[..value.len().min(room)]);
}

fn write_postings(part: &mut PartWriter, chunks: &[Arc<TailChunk>]) -> io::Result<()> {
    let exact: Vec<&HashList> = chunks.iter().map(|chunk| &chunk.hashes.exact).collect();
    write_postings_of(part, 0, Postings::of(&exact, false))?;
    let runs: Vec<&NumberList> = chunks.iter().map(|chunk| &chunk.hashes.runs).collect();
    let (index, lists) = numbers::encode(&runs, BITS);
    part.section(Section::RunIndex, 0, &index)?;
    part.section(Section::RunLists, 0, &lists)?;
    let words: Vec<&WordBlocks> = chunks.iter().map(|chunk| &chunk.hashes.words).collect();
    let (index, tables) = word_blocks::encode(&words);
    part.section(Section::WordBlockIndex, 0, &index)?;
    part.section(Section::WordBlockTables, 0, &tables)?;
    if chunks.iter().all(|chunk| chunk.hashes.identifiers.is_empty()) {
        return Ok(());
    }
    let (mut bits, mut folded, (column, size)) = (HashBits::default(), Vec::new(), LOOSE);
    let units = chunks.chunks(size).map(|unit| {
        let identifiers = || unit.iter().flat_map(|chunk| chunk.hashes.identifiers.iter());
        identifiers().for_each(|text| bits.add_identifier(text, &mut folded));
        bits.take(0)
    });
    let units: Vec<HashList> = units.collect();
    write_postings_of(part, column, Postings::of(&units.iter().collect::<Vec<_>>(), true))
}

fn write_postings_of(part: &mut PartWriter, column: usize, postings: Postings) -> io::Result<()> {
    part.section(Section::PostingsIndex, column, &postings.index)?;
    part.section(Section::PostingsGroups, column, &postings.groups)?;
    part.section(Section::PostingsLists, column, &postings.lists)
}

/// What stands beside the lines: numbers, times, origins, ids.
fn write_heads(part: &mut PartWriter, heads: &[&RowHead], seeds: &[Seed], chunks: &[Arc<TailChunk>]) -> io::Result<()> {
    let column = |value: fn(&RowHead) -> i64| pack(&heads.iter().map(|head| value(head)).collect::<Vec<_>>());
    part.section(Section::Seq, 0, &column(|head| head.seq as i64))?;
    part.section(Section::Time, 0, &column(|head| head.time))?;
    part.section(Section::Received, 0, &column(|head| head.received))?;
    // Only the seeds that are in use, in the order of their first use.
    let (mut codes, mut used): (HashMap<u32, i64, Seeded>, Vec<u8>) = Default::default();
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
    dictionary: HashMap<Vec<u8>, i64, Seeded>,
    /// The value before: many members seldom change.
    last: Vec<u8>,
    last_code: i64,
    dictionary_values: Vec<u8>,
    /// Which bytes the values of the dictionary have.
    bytes: ByteSet,
    /// Whether some text has a random identifier.
    has_identifier: bool,
    exception_rows: Vec<i64>,
    exception_values: Vec<u8>,
    /// Its number among the text columns.
    text: usize,
    is_full: bool,
}

fn write_columns(
    part: &mut PartWriter,
    chunks: &[Arc<TailChunk>],
    shapes: &Shapes,
    row_shapes: &[i64],
    columns: &[Column],
    sample: &[u8],
) -> io::Result<Vec<Open>> {
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
                dictionary: HashMap::default(),
                last: Vec::new(),
                last_code: 0,
                dictionary_values: Vec::new(),
                bytes: ByteSet::default(),
                has_identifier: false,
                exception_rows: Vec::new(),
                exception_values: Vec::new(),
                text,
                is_full: column.is_full,
            }
        })
        .collect();
    let mut writer = TextWriter::new(sample, texts)?;
    let mut row = 0;
    let mut sums = Sums::new(columns, row_shapes);
    for chunk in chunks {
        chunk.each_line(&shapes.shapes, |head, line, shape, values| {
            sums.begin();
            if shape == WHOLE {
                writer.value(open[0].text, line);
            } else {
                for (column, value) in shapes.shapes[shape as usize].columns.iter().zip(values) {
                    let code = open[*column as usize].push(value, row, head, &mut writer);
                    sums.value(*column as usize, value, code);
                }
            }
            row += 1;
            sums.end(head.time, row);
            writer.end_row()
        })?;
    }
    if let Some(summary) = sums.finish(row) {
        part.section(Section::Summary, 0, &compressed(&summary.of_chunks.encode())?)?;
        if let Some(tops) = &summary.tops_of_chunks {
            part.section(Section::ChunkTops, 0, tops)?;
        }
        for (nth, tallies) in summary.of_part.iter().enumerate() {
            if let Some(tallies) = tallies {
                part.section(Section::ValueSums, nth, &ValueSums::encode(tallies))?;
            }
            if let Some(tops) = &summary.tops[nth] {
                part.section(Section::ValueTops, nth, tops)?;
            }
        }
    }
    for (nth, column) in open.iter_mut().enumerate() {
        column.write(part, nth, row)?;
    }
    let (index, body) = writer.finish()?;
    part.section(Section::TextDictionary, 0, &compressed(sample)?)?;
    part.section(Section::TextIndex, 0, &index)?;
    part.section(Section::Text, 0, &body)?;
    Ok(open)
}

/// What is summed up while the columns are written; nothing where some line is kept whole.
struct Sums {
    writer: Option<SummaryWriter>,
    /// Of the members of [`OF_PART`], the status and the duration: their columns.
    columns: [Option<usize>; OF_PART.len() + 2],
    codes: [i64; OF_PART.len() + 1],
    /// What each code of the status says.
    outcomes: Vec<Outcome>,
    duration: Option<f64>,
}

impl Sums {
    fn new(columns: &[Column], row_shapes: &[i64]) -> Sums {
        let [user, event_type] = OF_PART;
        let places = [user, event_type, OF_CHUNKS, "duration_ms"]
            .map(|name| columns.iter().position(|column| column.name == name && !name.is_empty()));
        let is_coded =
            |nth: usize| places[nth].is_none_or(|column: usize| columns[column].encoding == Encoding::Dictionary);
        // The outcome of an event follows from the code of its status.
        let is_whole = row_shapes.contains(&i64::from(WHOLE)) || !is_coded(OF_PART.len());
        let writer = (!is_whole).then(|| SummaryWriter::new([0, 1, 2].map(is_coded)));
        Sums { writer, columns: places, codes: [0; 3], outcomes: vec![Outcome::Other], duration: None }
    }

    fn begin(&mut self) {
        (self.codes, self.duration) = ([0; 3], None);
    }

    fn value(&mut self, column: usize, value: &[u8], code: i64) {
        let Some(nth) = self.columns.iter().position(|known| *known == Some(column)) else { return };
        match self.codes.get_mut(nth) {
            Some(known) => *known = code,
            None => self.duration = number(Raw::valid(value)),
        }
        if nth == OF_PART.len() && code as usize == self.outcomes.len() {
            self.outcomes.push(outcome(Some(Raw::valid(value))));
        }
    }

    fn end(&mut self, time: i64, rows: usize) {
        let Some(writer) = &mut self.writer else { return };
        let outcome = self.outcomes.get(self.codes[OF_PART.len()] as usize).copied().unwrap_or(Outcome::Other);
        writer.add(self.codes, outcome, self.duration, time);
        if rows.is_multiple_of(CHUNK) {
            writer.end_chunk();
        }
    }

    fn finish(self, rows: usize) -> Option<Summary> {
        let mut writer = self.writer?;
        if !rows.is_multiple_of(CHUNK) {
            writer.end_chunk();
        }
        Some(writer.finish())
    }
}

impl Open {
    /// Adds a value. Tells its code, if the column is a dictionary.
    fn push(&mut self, value: &[u8], row: usize, head: &RowHead, texts: &mut TextWriter) -> i64 {
        match self.encoding {
            Encoding::Text => {
                self.has_identifier = self.has_identifier || has_identifier(Raw::valid(value));
                texts.value(self.text, value);
            }
            Encoding::Dictionary => {
                self.numbers.resize(row, 0);
                let code = self.code(value);
                self.numbers.push(code);
                return code;
            }
            Encoding::Number { .. } => {
                let style = self.encoding.number_style().expect("it is a number");
                let number = plain_number(value).and_then(|plain| style.encode(plain));
                self.push_number(number, value, row);
            }
            Encoding::Time { .. } if !self.last.is_empty() && self.last == value => {
                let number = self.numbers.last().copied();
                self.push_number(number, value, row);
            }
            Encoding::Time { digits } => {
                let micros = quoted_time(value).filter(|(_, known)| *known == digits).map(|(micros, _)| micros);
                self.last.clear();
                self.last.extend_from_slice(if micros.is_some() { value } else { b"" });
                self.push_number(micros, value, row);
            }
            Encoding::SameTime { digits } => {
                if quoted_time(value) != Some((head.time, digits)) {
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
                if quoted_uuid(value).is_none_or(|bits| head.derived_id() != Some(Id(bits))) {
                    self.except(value, row);
                }
            }
        }
        0
    }

    /// Codes begin at 1; 0 is no value.
    fn code(&mut self, value: &[u8]) -> i64 {
        if self.last_code > 0 && self.last == value {
            return self.last_code;
        }
        self.last.clear();
        self.last.extend_from_slice(value);
        self.last_code = self.code_of_another(value);
        self.last_code
    }

    fn code_of_another(&mut self, value: &[u8]) -> i64 {
        if let Some(code) = self.dictionary.get(value) {
            return *code;
        }
        let code = self.dictionary.len() as i64 + 1;
        self.dictionary.insert(value.to_vec(), code);
        put_bytes(&mut self.dictionary_values, value);
        self.bytes.add(value);
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
                match uuids_of(&self.dictionary_values) {
                    Some(uuids) => part.section(Section::Uuids, nth, &uuids)?,
                    None => part.section(Section::Dictionary, nth, &compressed(&self.dictionary_values)?)?,
                }
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

/// The bits of the values of a dictionary, if all are UUIDs: they take less room, and one is read without the rest.
fn uuids_of(mut values: &[u8]) -> Option<Vec<u8>> {
    let mut uuids = Vec::new();
    while !values.is_empty() {
        uuids.extend_from_slice(&quoted_uuid(take_bytes(&mut values)?)?.to_le_bytes());
    }
    (!uuids.is_empty()).then_some(uuids)
}

/// Bytes behind their length, compressed.
fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(&zstd::bulk::compress(bytes, 1)?);
    Ok(out)
}

/// The way back.
pub fn expanded(bytes: &[u8], context: &mut DCtx<'static>) -> Option<Vec<u8>> {
    let (len, packed) = bytes.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok().filter(|len| *len <= MAX_EXPANDED)?;
    let mut raw = Vec::with_capacity(len);
    context.decompress(&mut raw, packed).ok()?;
    (raw.len() == len).then_some(raw)
}

/// No dictionary or list of exceptions is larger.
const MAX_EXPANDED: usize = 256 << 20;

const _: () = assert!(CHUNK * 256 <= 1 << 16, "a row of a part fits 16 bits");
