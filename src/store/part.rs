//! An open part: columns by chunk, lines by row.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::bits::{CHUNK, Packed};
use super::bloom::Bloom;
use super::byte_set::ByteSet;
use super::cache::{Cache, Key};
use super::chunk_tops::ChunkTops;
use super::dictionary::Dictionary;
use super::layout::{
    Column, Encoding, Meta, PARTS_OF_TAIL, PartFile, Section, VERSION, VERSION_OF_POSTINGS, VERSION_OF_VALUE_SUMS,
    damaged,
};
use super::seal::{expanded, fingerprint};
use super::split::WHOLE;
use super::summary::{ChunkTallies, Summary};
use super::text::{Block, TextIndex, TextReader, Texts};
use super::value::{write_time, write_uuid};
use super::value_sums::ValueSums;
use super::value_tops::ValueTops;
use crate::event::{Id, Raw, Seed};

pub struct Part {
    /// The tail that it was made of.
    pub tail: u64,
    /// Names it among all parts, in the order of their tails.
    pub number: u64,
    pub meta: Meta,
    pub(super) file: PartFile,
    /// Of the text columns, by column: their number in the blocks.
    text_columns: HashMap<u32, usize>,
    /// Of the text columns, by that number: for each shape whether it has the member.
    text_shapes: Vec<Vec<bool>>,
    bloom: OnceLock<Option<Bloom>>,
    cache: Arc<Cache>,
}

/// The block that was read last: rows that are looked at one after another are mostly in one.
#[derive(Default)]
pub struct TextCursor(Option<(Block, Arc<Texts>)>);

impl TextCursor {
    /// Whether the block that was read last has this row.
    pub fn is_at(&self, row: usize) -> bool {
        self.0.as_ref().is_some_and(|(block, _)| (block.first_row..block.first_row + block.rows).contains(&row))
    }
}

/// Values that the encoding of their column could not give back.
#[derive(Default)]
pub struct Exceptions {
    rows: Vec<u32>,
    values: Option<Dictionary>,
}

impl Exceptions {
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let nth = self.rows.binary_search(&(row as u32)).ok()?;
        self.values.as_ref()?.get(nth as i64 + 1)
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows whose values are accepted, ascending.
    pub fn rows_where(&self, accepts: impl Fn(Raw<'_>) -> bool) -> Vec<u32> {
        let Some(values) = &self.values else { return Vec::new() };
        let is_accepted = |nth: usize| values.get(nth as i64 + 1).is_some_and(|value| accepts(Raw::valid(value)));
        self.rows.iter().enumerate().filter(|(nth, _)| is_accepted(*nth)).map(|(_, row)| *row).collect()
    }

    fn weight(&self) -> usize {
        self.rows.len() * 4 + self.values.as_ref().map_or(0, Dictionary::weight)
    }
}

impl Part {
    pub fn open(path: &Path, (tail, nth): (u64, u64), cache: Arc<Cache>) -> io::Result<Part> {
        let file = PartFile::open(path)?;
        let meta: Meta = serde_json::from_slice(&file.section(Section::Meta, 0)?)
            .map_err(|error| damaged(path, &format!("its description cannot be read: {error}")))?;
        if meta.version > VERSION {
            let message = format!("`{}` has format {}, this program knows {VERSION}", path.display(), meta.version);
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let texts = meta.columns.iter().enumerate().filter(|(_, column)| column.encoding == Encoding::Text);
        let text_columns: HashMap<u32, usize> =
            texts.enumerate().map(|(text, (column, _))| (column as u32, text)).collect();
        let mut text_shapes = vec![Vec::new(); text_columns.len()];
        for (column, text) in &text_columns {
            text_shapes[*text] = meta.shapes.iter().map(|shape| shape.columns.contains(column)).collect();
        }
        let number = tail * PARTS_OF_TAIL + nth;
        Ok(Part { tail, number, meta, file, text_columns, text_shapes, bloom: OnceLock::new(), cache })
    }

    pub fn path(&self) -> &Path {
        &self.file.path
    }

    pub fn bytes(&self) -> u64 {
        self.file.bytes
    }

    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    pub fn events(&self) -> usize {
        self.meta.events as usize
    }

    pub fn chunks(&self) -> usize {
        self.events().div_ceil(CHUNK)
    }

    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<(u32, &Column)> {
        let nth = self.meta.columns.iter().position(|column| column.name == name && !name.is_empty())?;
        Some((nth as u32, &self.meta.columns[nth]))
    }

    fn expanded(&self, section: Section, column: usize) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.file.section(section, column)?;
        Ok(self.cache.decompress(|context| expanded(&bytes, context)))
    }

    pub(super) fn damaged(&self, what: &str) -> io::Error {
        damaged(&self.file.path, what)
    }

    /// A packed section, from the cache where it is there.
    pub fn packed(&self, section: Section, column: u32) -> io::Result<Arc<Packed>> {
        self.cache.get(Key { part: self.number, section: section as u16, column, block: 0 }, Packed::weight, || {
            let bytes = self.file.section(section, column as usize)?;
            // Whoever reads it asks for the rows of the part.
            let packed = Packed::open(bytes).filter(|packed| packed.len() == self.events());
            packed.ok_or_else(|| self.damaged("a packed column cannot be read"))
        })
    }

    pub fn dictionary(&self, column: u32) -> io::Result<Arc<Dictionary>> {
        self.cache.get(self.key_of_dictionary(column), Dictionary::weight, || self.read_dictionary(column))
    }

    /// The same for a look at it that is not repeated. What is read is not kept: the dictionaries of all parts would drive
    /// everything else out.
    pub fn dictionary_once(&self, column: u32) -> io::Result<Arc<Dictionary>> {
        let kept: Option<Arc<Dictionary>> = self.cache.kept(self.key_of_dictionary(column));
        kept.map_or_else(|| self.read_dictionary(column).map(Arc::new), Ok)
    }

    /// Whether the values of a dictionary column are all UUIDs, and kept as their bits.
    pub fn has_uuids(&self, column: u32) -> bool {
        self.file.has(Section::Uuids, column as usize)
    }

    fn key_of_dictionary(&self, column: u32) -> Key {
        Key { part: self.number, section: Section::Dictionary as u16, column, block: 0 }
    }

    fn read_dictionary(&self, column: u32) -> io::Result<Dictionary> {
        let dictionary = if self.has_uuids(column) {
            Dictionary::of_uuids(&self.file.section(Section::Uuids, column as usize)?)
        } else {
            self.expanded(Section::Dictionary, column as usize)?.and_then(Dictionary::read)
        };
        dictionary.ok_or_else(|| self.damaged("a dictionary cannot be read"))
    }

    pub fn exceptions(&self, column: u32) -> io::Result<Arc<Exceptions>> {
        let key = Key { part: self.number, section: Section::ExceptionRows as u16, column, block: 0 };
        self.cache.get(key, Exceptions::weight, || {
            if !self.file.has(Section::ExceptionRows, column as usize) {
                return Ok(Exceptions::default());
            }
            let broken = || self.damaged("exceptions of a column cannot be read");
            let packed =
                Packed::open(self.file.section(Section::ExceptionRows, column as usize)?).ok_or_else(broken)?;
            let rows = (0..packed.len()).map(|nth| packed.get(nth) as u32).collect();
            let values = self.expanded(Section::ExceptionValues, column as usize)?;
            let values = values.and_then(Dictionary::read).ok_or_else(broken)?;
            Ok(Exceptions { rows, values: Some(values) })
        })
    }

    /// The bits of a column of UUIDs, 16 bytes for each row.
    pub fn uuids(&self, column: u32) -> io::Result<Arc<Vec<u8>>> {
        let key = Key { part: self.number, section: Section::Uuids as u16, column, block: 0 };
        self.cache.get(key, Vec::len, || self.file.section(Section::Uuids, column as usize))
    }

    /// The same for a look at all of them that is not repeated: what is read is not kept.
    pub fn uuids_once(&self, column: u32) -> io::Result<Arc<Vec<u8>>> {
        let kept = self.cache.kept(Key { part: self.number, section: Section::Uuids as u16, column, block: 0 });
        kept.map_or_else(|| self.file.section(Section::Uuids, column as usize).map(Arc::new), Ok)
    }

    fn text_index(&self) -> io::Result<Arc<TextIndex>> {
        let key = Key { part: self.number, section: Section::TextIndex as u16, column: 0, block: 0 };
        self.cache.get(key, TextIndex::weight, || {
            let index = TextIndex::read(self.file.section(Section::TextIndex, 0)?, self.events());
            index.ok_or_else(|| self.damaged("the index of its texts is not whole"))
        })
    }

    fn text_reader(&self) -> io::Result<Arc<TextReader>> {
        let key = Key { part: self.number, section: Section::TextDictionary as u16, column: 0, block: 0 };
        self.cache.get(key, TextReader::weight, || self.read_text_dictionary())
    }

    fn read_text_dictionary(&self) -> io::Result<TextReader> {
        let bytes = self.file.section(Section::TextDictionary, 0)?;
        if self.meta.version < VERSION_OF_POSTINGS {
            return Ok(TextReader::new(bytes));
        }
        let bytes = self
            .cache
            .decompress(|context| expanded(&bytes, context))
            .ok_or_else(|| self.damaged("what its texts are compressed against is broken"))?;
        Ok(TextReader::new(bytes))
    }

    /// The texts of the block that a row is in, and the block.
    pub fn texts(&self, row: usize) -> io::Result<(Block, Arc<Texts>)> {
        let (nth, block) = self.block_of(row)?;
        let texts = self.cache.get(self.key_of_block(nth), Texts::weight, || self.open_block(nth, &block))?;
        Ok((block, texts))
    }

    /// The same, but what is read is kept only where it is wanted: a search that looks into every block must not drive
    /// out everything else. `rows_of` tells which of its rows are, a bit for each, and where none is it is not wanted; `cursor`
    /// is at the block otherwise.
    pub fn texts_where(
        &self,
        row: usize,
        cursor: &mut TextCursor,
        rows_of: impl Fn(&Texts) -> u64,
    ) -> io::Result<(Block, u64)> {
        let (nth, block) = self.block_of(row)?;
        let key = self.key_of_block(nth);
        let kept: Option<Arc<Texts>> = self.cache.kept(key);
        let is_kept = kept.is_some();
        let texts = kept.map_or_else(|| self.open_block(nth, &block).map(Arc::new), Ok)?;
        let rows = rows_of(&texts);
        if rows == 0 {
            return Ok((block, rows));
        }
        if !is_kept {
            self.cache.keep(key, &texts, texts.weight());
        }
        cursor.0 = Some((block, texts));
        Ok((block, rows))
    }

    fn block_of(&self, row: usize) -> io::Result<(usize, Block)> {
        Ok(self.text_index()?.block_of(row))
    }

    fn key_of_block(&self, nth: usize) -> Key {
        Key { part: self.number, section: Section::Text as u16, column: 0, block: nth as u32 }
    }

    fn open_block(&self, nth: usize, block: &Block) -> io::Result<Texts> {
        let packed = self.file.slice(Section::Text, 0, block.at, block.packed_len())?;
        let shapes = self.packed(Section::Shapes, 0)?;
        let shape_of: Vec<usize> =
            (block.first_row..block.first_row + block.rows).map(|row| shapes.get(row) as usize).collect();
        let has = |text: usize, row: usize| self.text_shapes[text].get(shape_of[row]).copied().unwrap_or(false);
        let reader = self.text_reader()?;
        let opened = self.cache.decompress(|context| reader.open(block, &packed, self.text_shapes.len(), has, context));
        opened.ok_or_else(|| self.damaged(&format!("text block {nth} cannot be read")))
    }

    /// The value of a text column, by its number among them, in a row that has it.
    pub fn text_at<'c>(&self, cursor: &'c mut TextCursor, row: usize, text: usize) -> io::Result<&'c [u8]> {
        if !cursor.is_at(row) {
            cursor.0 = Some(self.texts(row)?);
        }
        let (block, texts) = cursor.0.as_ref().expect("it was just read");
        Ok(texts.get(text, row - block.first_row))
    }

    /// The number of a text column among the text columns.
    pub fn text_number(&self, column: u32) -> usize {
        self.text_columns[&column]
    }

    /// For each shape, whether it has the member.
    pub fn in_shape(&self, column: u32) -> Vec<bool> {
        self.meta.shapes.iter().map(|shape| shape.columns.contains(&column)).collect()
    }

    /// Bytes of a section on disk.
    pub fn bytes_of(&self, section: Section, column: u32) -> usize {
        self.file.bytes_of(section, column as usize)
    }

    /// Whether counts and sums are kept with the part.
    pub fn has_sums(&self) -> bool {
        self.file.has(Section::Summary, 0)
    }

    /// The sums of each chunk.
    pub fn chunk_sums(&self) -> io::Result<Arc<ChunkTallies>> {
        let key = Key { part: self.number, section: Section::Summary as u16, column: 0, block: 0 };
        self.cache.get(key, ChunkTallies::weight, || {
            if self.meta.version < VERSION_OF_VALUE_SUMS {
                return Ok(self.read_old_summary()?.of_chunks);
            }
            let bytes = self.expanded(Section::Summary, 0)?;
            let sums = bytes.and_then(|bytes| ChunkTallies::read(&bytes, self.chunks()));
            sums.ok_or_else(|| self.damaged("its counts and sums cannot be read"))
        })
    }

    /// The sums of each value of the nth member of [`OF_PART`](super::summary::OF_PART); none where it has too many.
    pub fn value_sums(&self, nth: usize) -> io::Result<Arc<Option<ValueSums>>> {
        let section = Section::ValueSums;
        let key = Key { part: self.number, section: section as u16, column: nth as u32, block: 0 };
        let weight = |sums: &Option<ValueSums>| sums.as_ref().map_or(0, ValueSums::weight);
        self.cache.get(key, weight, || {
            let bytes = if self.meta.version < VERSION_OF_VALUE_SUMS {
                self.read_old_summary()?.of_part[nth].as_deref().map(ValueSums::encode)
            } else if self.file.has(section, nth) {
                Some(self.file.section(section, nth)?)
            } else {
                None
            };
            let Some(bytes) = bytes else { return Ok(None) };
            ValueSums::read(&bytes).map(Some).ok_or_else(|| self.damaged("sums of a member cannot be read"))
        })
    }

    /// The greatest durations of each value of the nth member of [`OF_PART`](super::summary::OF_PART), if they are kept.
    pub fn value_tops(&self, nth: usize) -> io::Result<Option<Arc<ValueTops>>> {
        let section = Section::ValueTops;
        if !self.file.has(section, nth) {
            return Ok(None);
        }
        let key = Key { part: self.number, section: section as u16, column: nth as u32, block: 0 };
        let read = || {
            let tops = ValueTops::read(&self.file.section(section, nth)?);
            tops.ok_or_else(|| self.damaged("greatest durations of a member cannot be read"))
        };
        self.cache.get(key, ValueTops::weight, read).map(Some)
    }

    /// The greatest durations of each status, if they are kept.
    pub fn chunk_tops(&self) -> io::Result<Option<Arc<ChunkTops>>> {
        let section = Section::ChunkTops;
        if !self.file.has(section, 0) {
            return Ok(None);
        }
        let key = Key { part: self.number, section: section as u16, column: 0, block: 0 };
        let read = || {
            let tops = ChunkTops::read(&self.file.section(section, 0)?);
            tops.ok_or_else(|| self.damaged("greatest durations by chunk cannot be read"))
        };
        self.cache.get(key, ChunkTops::weight, read).map(Some)
    }

    fn read_old_summary(&self) -> io::Result<Summary> {
        let bytes = self.expanded(Section::Summary, 0)?;
        let summary = bytes.and_then(|bytes| Summary::read(&bytes, self.chunks()));
        summary.ok_or_else(|| self.damaged("its counts and sums cannot be read"))
    }

    /// Which bytes the strings of a dictionary have, in lower case.
    pub fn bytes_of_dictionary(&self, column: u32) -> io::Result<ByteSet> {
        if let Some(bytes) = self.meta.columns[column as usize].bytes {
            return Ok(bytes);
        }
        let key = Key { part: self.number, section: Section::Dictionary as u16, column, block: 1 };
        let read = || {
            let mut set = ByteSet::default();
            let dictionary = self.dictionary_once(column)?;
            (1..=dictionary.len() as i64).filter_map(|code| dictionary.get(code)).for_each(|value| set.add(value));
            Ok(set)
        };
        self.cache.get(key, |_| std::mem::size_of::<ByteSet>(), read).map(|set| *set)
    }

    /// Whether a producer's own id may be in the part.
    pub fn may_have_own_id(&self, id: Id) -> io::Result<bool> {
        if !self.meta.has_own_ids {
            return Ok(false);
        }
        if self.bloom.get().is_none() {
            let bloom = Bloom::decode(&self.file.section(Section::Bloom, 0)?);
            // Another thread may have read it meanwhile: it read the same.
            let _ = self.bloom.set(bloom);
        }
        Ok(self.bloom.get().and_then(Option::as_ref).is_none_or(|bloom| bloom.may_have(id.0)))
    }

    pub fn bloom_weight(&self) -> usize {
        self.bloom.get().and_then(Option::as_ref).map_or(0, Bloom::weight)
    }

    /// The row with this id.
    pub fn find_id(&self, id: Id) -> io::Result<Option<usize>> {
        let wanted = fingerprint(id.0);
        let prints = self.packed(Section::Fingerprints, 0)?;
        let chunks = prints.len().div_ceil(CHUNK);
        // Fingerprints ascend, so a chunk's smallest is its first.
        let first = |chunk: usize| prints.get(chunk * CHUNK);
        let mut chunk = partition(chunks, |chunk| first(chunk) < wanted).saturating_sub(1);
        let mut values = Vec::new();
        while chunk < chunks && first(chunk) <= wanted {
            prints.chunk(chunk, &mut values);
            for (nth, _) in values.iter().enumerate().filter(|(_, print)| **print == wanted) {
                let row = self.packed(Section::FingerprintRows, 0)?.get(chunk * CHUNK + nth) as usize;
                if row < self.events() && self.id(row)? == id {
                    return Ok(Some(row));
                }
            }
            chunk += 1;
        }
        Ok(None)
    }

    /// The row with this `seq`.
    pub fn find_seq(&self, seq: u64) -> io::Result<Option<usize>> {
        if seq < self.meta.first_seq || seq > self.meta.last_seq {
            return Ok(None);
        }
        let seqs = self.packed(Section::Seq, 0)?;
        let mut values = Vec::new();
        // Events that were sent again stand out of order, so every chunk that can have it is looked at.
        for chunk in (0..self.chunks()).filter(|chunk| seqs.least(*chunk) <= seq as i64) {
            seqs.chunk(chunk, &mut values);
            if let Some(nth) = values.iter().position(|value| *value as u64 == seq) {
                return Ok(Some(chunk * CHUNK + nth));
            }
        }
        Ok(None)
    }

    /// The id that follows from where the event of a row came from.
    fn derived_id(&self, row: usize) -> io::Result<Id> {
        let key = Key { part: self.number, section: Section::Seeds as u16, column: 0, block: 0 };
        let seeds = self.cache.get(key, Vec::len, || self.file.section(Section::Seeds, 0))?;
        let code = self.value_at(Section::SeedCodes, 0, row)? as usize;
        let seed = seeds.as_chunks::<16>().0.get(code).ok_or_else(|| self.damaged("a seed is missing"))?;
        Ok(Seed(*seed).id(self.value_at(Section::Ordinals, 0, row)? as u64))
    }

    /// The id of a row: its own if it is one, else the derived one.
    pub fn id(&self, row: usize) -> io::Result<Id> {
        let own = match self.column("id") {
            Some((_, column)) if column.encoding == Encoding::DerivedId => None,
            Some((column, _)) => self.value(row, column)?,
            None => None,
        };
        let whole = (self.shape(row)? == WHOLE as usize).then(|| self.line(row)).transpose()?;
        let own = whole.as_deref().map_or(own, |line| Raw::valid(line).get("id").map(|id| id.as_bytes().to_vec()));
        if own.is_none()
            && let Some((column, _)) = self.column("id")
            && let Some(value) = self.exceptions(column)?.get(row)
        {
            return Ok(own_id(value).unwrap_or(self.derived_id(row)?));
        }
        Ok(own.as_deref().and_then(own_id).unwrap_or(self.derived_id(row)?))
    }

    pub fn shape(&self, row: usize) -> io::Result<usize> {
        let shape = self.value_at(Section::Shapes, 0, row)? as usize;
        if shape < self.meta.shapes.len() { Ok(shape) } else { Err(self.damaged("a shape is missing")) }
    }

    /// The JSON of a member in a row that is not kept whole; none where it has no such member.
    pub fn value(&self, row: usize, column: u32) -> io::Result<Option<Vec<u8>>> {
        let shape = self.shape(row)?;
        if !self.meta.shapes[shape].columns.contains(&column) {
            return Ok(None);
        }
        let mut out = Vec::new();
        self.push_value(row, column, &mut out)?;
        Ok(Some(out))
    }

    fn push_value(&self, row: usize, column: u32, out: &mut Vec<u8>) -> io::Result<()> {
        let encoding = self.meta.columns[column as usize].encoding;
        if !matches!(encoding, Encoding::Text | Encoding::Dictionary)
            && let Some(value) = self.exceptions(column)?.get(row)
        {
            out.extend_from_slice(value);
            return Ok(());
        }
        match encoding {
            Encoding::Text => {
                let (block, texts) = self.texts(row)?;
                out.extend_from_slice(texts.get(self.text_columns[&column], row - block.first_row));
            }
            Encoding::Dictionary => {
                let code = self.value_at(Section::Codes, column, row)?;
                let missing = || self.damaged("a value of a dictionary is missing");
                let kept: Option<Arc<Dictionary>> = self.cache.kept(self.key_of_dictionary(column));
                if kept.is_none() && self.file.has(Section::Uuids, column as usize) {
                    let place = usize::try_from(code - 1).map_err(|_| missing())?;
                    write_uuid(self.uuid_at(column, place)?, out);
                    return Ok(());
                }
                let dictionary = kept.map_or_else(|| self.dictionary(column), Ok)?;
                out.extend_from_slice(dictionary.get(code).ok_or_else(missing)?);
            }
            Encoding::Number { .. } => {
                let style = encoding.number_style().expect("it is a number");
                style.write(self.value_at(Section::Numbers, column, row)?, out);
            }
            Encoding::Time { digits } => write_time(self.value_at(Section::Numbers, column, row)?, digits, out),
            Encoding::SameTime { digits } => write_time(self.value_at(Section::Time, 0, row)?, digits, out),
            Encoding::Uuid => write_uuid(self.uuid_at(column, row)?, out),
            Encoding::DerivedId => write_uuid(self.derived_id(row)?.0, out),
        }
        Ok(())
    }

    /// The line of a row, byte for byte as it was journalled, without its line break.
    pub fn line(&self, row: usize) -> io::Result<Vec<u8>> {
        let shape = &self.meta.shapes[self.shape(row)?];
        let mut out = Vec::with_capacity(512);
        for (nth, piece) in shape.pieces.iter().enumerate() {
            out.extend_from_slice(piece.as_bytes());
            if let Some(column) = shape.columns.get(nth) {
                self.push_value(row, *column, &mut out)?;
            }
        }
        Ok(out)
    }
}

fn own_id(value: &[u8]) -> Option<Id> {
    Raw::valid(value).as_str().and_then(|text| Id::parse(&text))
}

/// The first number from 0 on that does not hold, if those that do come first.
fn partition(len: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = (low + high) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
