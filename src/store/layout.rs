//! The file of a part: sections one after another, and their table at the end. Format and invariants.
//!
//! - A part is written under a temporary name, synced, renamed and never changed. Its name is the number of its tail. Where
//!   types of events stay for different times a tail becomes several parts, the first of which is renamed last: with it
//!   all are there.
//! - It begins with [`MAGIC`]. It ends with the table of sections (kind, column, offset, length, CRC-32C of the section)
//!   and a trailer of 24 bytes: length of the table, its CRC-32C, the number of sections, [`MAGIC`] again.
//! - Pages of columns have checksums, too ([`Section::PageSums`]): single values are read without the rest.
//! - Sections with a checksum of their own for each block ([`Section::Text`], [`Section::PostingsGroups`], [`Section::PostingsLists`],
//!   [`Section::NumberLists`], [`Section::WordNumberLists`], [`Section::RunLists`], [`Section::WordBlockTables`]) are read in parts; all others are read whole
//!   and checked against the table.
//! - A row is an event. Rows are in the order of their `seq`. A *shape* is the text around the values of an event's
//!   members, so that shape and values together are the line, byte for byte. Shape 0 is a line kept whole.
//! - A column holds the values of one member name. How they are encoded is chosen for each part ([`Encoding`]); a value
//!   that its encoding cannot give back exactly is an exception and kept as text.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, pread};
use serde::{Deserialize, Serialize};

use super::IMPORTED;
use super::byte_set::ByteSet;
use super::disk::{Disk, Sequential};
use super::value::NumberStyle;

pub const MAGIC: [u8; 8] = *b"WEIRprt1";
/// The format that this program writes. Parts of format 1 have postings that are not read any more: in them every chunk
/// is looked into. Packed columns have runs from format 3 on. Sums by user and by type are sections of their own from
/// format 4 on. Format 5 has substrings of random identifiers for larger units, where a program of format 4 would find none.
/// Format 6 has numbers behind characters among all other hashes, and lists of chunks in fewer bits; [`Section::PageSums`]
/// came later. Format 7 has hashes of shorter numbers with what stands before them, too; in earlier parts some numbers lack
/// theirs, so that these are not looked at any more. [`Section::WordBlockTables`] came later.
pub const VERSION: u32 = 7;
/// The first format whose postings are read, and whose text dictionary is compressed.
pub const VERSION_OF_POSTINGS: u32 = 2;
/// The first format with [`Section::ValueSums`].
pub const VERSION_OF_VALUE_SUMS: u32 = 4;
/// The first format whose postings have all numbers behind characters, those of two or three digits as well.
pub const VERSION_OF_NUMBERS: u32 = 7;
/// The column under which postings of random identifiers stand, and the chunks of one unit of theirs.
pub const LOOSE: (usize, usize) = (2, 8);
/// The same in older parts.
pub const EARLIER_LOOSE: (usize, usize) = (1, 4);
const ENTRY: usize = 24;
const TRAILER: usize = 24;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Section {
    Meta = 1,
    Seq = 2,
    /// By which events are ordered: `timestamp`, else the time of receipt; microseconds.
    Time = 3,
    Received = 4,
    /// For each row the number of its seed in `Seeds`.
    SeedCodes = 5,
    Ordinals = 6,
    Shapes = 7,
    /// 24 bits of each id, ascending, and the rows that they are of.
    Fingerprints = 8,
    FingerprintRows = 9,
    /// Values of a dictionary column, as JSON.
    Dictionary = 10,
    Codes = 11,
    Numbers = 12,
    ExceptionRows = 13,
    ExceptionValues = 14,
    /// 16 bytes of each row; from format 6 on also those of the values of a dictionary that has nothing else.
    Uuids = 15,
    TextIndex = 16,
    Text = 17,
    /// What texts are compressed against.
    TextDictionary = 18,
    Seeds = 21,
    /// Ids that producers gave, as a bloom filter.
    Bloom = 22,
    /// 19 and 20 were the postings of format 1. Column [`LOOSE`] has those of random identifiers, for units of some chunks.
    PostingsIndex = 23,
    PostingsGroups = 24,
    PostingsLists = 25,
    /// Counts and sums by chunk and status; before format 4 those by user and by type, too.
    Summary = 26,
    /// Counts and sums by the values of one member: column 0 those by user, column 1 those by type.
    ValueSums = 27,
    /// Numbers behind characters, for each chunk; of format 4, and not read any more. 28 and 29 were the same in fewer bits.
    NumberIndex = 30,
    NumberLists = 31,
    /// The greatest durations of the values that [`Section::ValueSums`] has sums of, by the same columns; older parts of
    /// format 4 have none, and programs that do not know them pass them by.
    ValueTops = 32,
    /// The greatest durations of each status, each with its chunk; the same holds.
    ChunkTops = 33,
    /// Numbers behind characters and words, for each chunk; of format 5, and not read any more.
    WordNumberIndex = 34,
    WordNumberLists = 35,
    /// Parts of long numbers, for each chunk; from format 5 on.
    RunIndex = 36,
    RunLists = 37,
    /// For each column ([`is_paged`]), in the order of the table, the CRC-32C of each [`PAGE`] bytes of it.
    PageSums = 38,
    /// Which blocks of each chunk may have which three digits behind a word ([`super::word_blocks`]); older parts of format 7
    /// have none, and programs that do not know them pass them by.
    WordBlockIndex = 39,
    WordBlockTables = 40,
}

/// Bytes of a column that have one checksum.
pub const PAGE: usize = 1024;

/// Whether pages of a section have checksums.
fn is_paged(kind: u16) -> bool {
    use Section::{Codes, Numbers, Ordinals, Received, SeedCodes, Seq, Shapes, Time, Uuids};
    [Seq, Time, Received, SeedCodes, Ordinals, Shapes, Codes, Numbers, Uuids].iter().any(|paged| *paged as u16 == kind)
}

/// What [`Section::PageSums`] has.
pub struct PageSums(Vec<u32>);

impl PageSums {
    pub fn weight(&self) -> usize {
        self.0.len() * 4
    }
}

/// What can be known of a part without reading its columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    pub version: u32,
    pub events: u32,
    pub first_seq: u64,
    pub last_seq: u64,
    /// The last number that is not of an imported event; 0 in older parts.
    #[serde(default)]
    pub last_journalled: u64,
    pub min_time: i64,
    pub max_time: i64,
    pub max_received: i64,
    /// Bytes of all lines, without line breaks.
    pub line_bytes: u64,
    pub columns: Vec<Column>,
    pub shapes: Vec<Shape>,
    /// Whether some id was given by its producer.
    pub has_own_ids: bool,
    /// When events of each type were received last; none in older parts, and where there are many types.
    #[serde(default)]
    pub types: Option<BTreeMap<String, i64>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    /// The member's name, decoded. Empty for lines kept whole.
    pub name: String,
    pub encoding: Encoding,
    /// Whether every row has the member.
    pub is_full: bool,
    /// Whether no row has `null` for it; older parts do not say.
    #[serde(default)]
    pub is_never_null: bool,
    /// Which bytes the values of a dictionary have; parts before format 4 do not say.
    #[serde(default)]
    pub bytes: Option<ByteSet>,
    /// Whether no value of a text column has a random identifier; parts before format 5 do not say.
    #[serde(default)]
    pub has_no_identifier: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// The text before each value, and behind the last.
    pub pieces: Vec<String>,
    /// The column of each value.
    pub columns: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    Dictionary,
    Number {
        scale: u32,
        point_zero: bool,
        #[serde(default)]
        is_fixed: bool,
    },
    /// A canonical time with so many digits behind the second.
    Time {
        digits: u32,
    },
    /// The time by which the event is ordered.
    SameTime {
        digits: u32,
    },
    Uuid,
    /// The id that follows from where the event came from.
    DerivedId,
    Text,
}

impl Meta {
    /// The number of the newest event that was journalled.
    pub fn newest(&self) -> u64 {
        if self.last_seq < IMPORTED { self.last_seq } else { self.last_journalled }
    }
}

impl Encoding {
    pub fn number_style(self) -> Option<NumberStyle> {
        match self {
            Encoding::Number { scale, point_zero, is_fixed } => Some(NumberStyle { scale, point_zero, is_fixed }),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: u16,
    column: u16,
    at: u64,
    len: u32,
    crc: u32,
}

/// Writes a part.
pub struct PartWriter {
    file: io::BufWriter<Sequential>,
    at: u64,
    entries: Vec<Entry>,
    page_sums: Vec<u8>,
}

impl PartWriter {
    pub fn create(disk: &Disk, path: &Path) -> io::Result<PartWriter> {
        let mut file = io::BufWriter::with_capacity(1 << 20, disk.create(path)?.sequential());
        file.write_all(&MAGIC)?;
        Ok(PartWriter { file, at: MAGIC.len() as u64, entries: Vec::new(), page_sums: Vec::new() })
    }

    pub fn section(&mut self, kind: Section, column: usize, bytes: &[u8]) -> io::Result<()> {
        let crc = crc32c::crc32c(bytes);
        let entry = Entry { kind: kind as u16, column: column as u16, at: self.at, len: bytes.len() as u32, crc };
        self.entries.push(entry);
        if is_paged(entry.kind) {
            let sums = bytes.chunks(PAGE).map(|page| crc32c::crc32c(page).to_le_bytes());
            self.page_sums.extend(sums.flatten());
        }
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Writes the table and syncs. The file is whole afterwards.
    pub fn finish(mut self) -> io::Result<()> {
        let page_sums = std::mem::take(&mut self.page_sums);
        self.section(Section::PageSums, 0, &page_sums)?;
        let mut table = Vec::with_capacity(self.entries.len() * ENTRY);
        for entry in &self.entries {
            table.extend_from_slice(&entry.kind.to_le_bytes());
            table.extend_from_slice(&entry.column.to_le_bytes());
            table.extend_from_slice(&entry.len.to_le_bytes());
            table.extend_from_slice(&entry.at.to_le_bytes());
            table.extend_from_slice(&entry.crc.to_le_bytes());
            table.extend_from_slice(&[0; 4]);
        }
        let mut trailer = Vec::with_capacity(TRAILER);
        trailer.extend_from_slice(&(table.len() as u32).to_le_bytes());
        trailer.extend_from_slice(&crc32c::crc32c(&table).to_le_bytes());
        trailer.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        trailer.extend_from_slice(&MAGIC);
        self.file.write_all(&table)?;
        self.file.write_all(&trailer)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync()
    }
}

/// A part's file, open for reading.
#[derive(Debug)]
pub struct PartFile {
    file: File,
    pub path: PathBuf,
    pub bytes: u64,
    /// Of the table, which has the checksums of all sections.
    pub table_crc: u32,
    entries: Vec<Entry>,
}

/// What is wrong with a file that should be a part.
pub fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is damaged: {what}", path.display()))
}

impl PartFile {
    pub fn open(path: &Path) -> io::Result<PartFile> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut trailer = [0; TRAILER];
        let trailer_at = bytes.checked_sub(TRAILER as u64).ok_or_else(|| damaged(path, "it is too short"))?;
        file.read_exact_at(&mut trailer, trailer_at)?;
        let word = |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().expect("four bytes"));
        let (len, crc) = (word(0) as usize, word(4));
        if trailer[16..] != MAGIC || len % ENTRY != 0 || len as u64 > trailer_at {
            return Err(damaged(path, "its end is missing"));
        }
        let mut table = vec![0; len];
        file.read_exact_at(&mut table, trailer_at - len as u64)?;
        if crc32c::crc32c(&table) != crc {
            return Err(damaged(path, "the table of its sections does not fit its checksum"));
        }
        let entries = table.as_chunks::<ENTRY>().0.iter().map(|entry| {
            let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes"));
            Entry {
                kind: u16::from_le_bytes([entry[0], entry[1]]),
                column: u16::from_le_bytes([entry[2], entry[3]]),
                len: word(4),
                at: u64::from_le_bytes(entry[8..16].try_into().expect("eight bytes")),
                crc: word(16),
            }
        });
        let entries = entries.collect();
        Ok(PartFile { file, path: path.to_owned(), bytes, table_crc: crc, entries })
    }

    fn entry(&self, kind: Section, column: usize) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.kind == kind as u16 && usize::from(entry.column) == column)
    }

    pub fn has(&self, kind: Section, column: usize) -> bool {
        self.entry(kind, column).is_some()
    }

    /// Bytes of a section; 0 where there is none.
    pub fn bytes_of(&self, kind: Section, column: usize) -> usize {
        self.entry(kind, column).map_or(0, |entry| entry.len as usize)
    }

    /// All sections, in the order in which they stand.
    #[cfg(test)]
    pub fn sections(&self) -> impl Iterator<Item = (Section, usize)> {
        let known = [
            Section::Meta,
            Section::Seq,
            Section::Time,
            Section::Received,
            Section::SeedCodes,
            Section::Ordinals,
            Section::Shapes,
            Section::Fingerprints,
            Section::FingerprintRows,
            Section::Dictionary,
            Section::Codes,
            Section::Numbers,
            Section::ExceptionRows,
            Section::ExceptionValues,
            Section::Uuids,
            Section::TextIndex,
            Section::Text,
            Section::TextDictionary,
            Section::Seeds,
            Section::Bloom,
            Section::PostingsIndex,
            Section::PostingsGroups,
            Section::PostingsLists,
            Section::Summary,
            Section::ValueSums,
            Section::NumberIndex,
            Section::NumberLists,
            Section::ValueTops,
            Section::ChunkTops,
            Section::WordNumberIndex,
            Section::WordNumberLists,
            Section::RunIndex,
            Section::RunLists,
            Section::WordBlockIndex,
            Section::WordBlockTables,
        ];
        // Checksums of pages are made anew by whoever writes sections again.
        let entries = self.entries.iter().filter(|entry| entry.kind != Section::PageSums as u16);
        entries.map(move |entry| {
            let section = known.iter().find(|section| **section as u16 == entry.kind).expect("a kind that is known");
            (*section, usize::from(entry.column))
        })
    }

    /// A whole section, as it was written.
    pub fn section(&self, kind: Section, column: usize) -> io::Result<Vec<u8>> {
        let entry = self.entry(kind, column).ok_or_else(|| damaged(&self.path, "a section is missing"))?;
        let bytes = self.read(entry.at, entry.len as usize)?;
        if crc32c::crc32c(&bytes) != entry.crc {
            return Err(damaged(&self.path, &format!("section {kind:?} does not fit its checksum")));
        }
        Ok(bytes)
    }

    /// Some bytes of a section whose blocks have checksums of their own.
    pub fn slice(&self, kind: Section, column: usize, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let entry = self.entry(kind, column).ok_or_else(|| damaged(&self.path, "a section is missing"))?;
        if at.saturating_add(len as u64) > u64::from(entry.len) {
            return Err(damaged(&self.path, &format!("a block lies outside of section {kind:?}")));
        }
        self.read(entry.at + at, len)
    }

    pub fn page_sums(&self) -> io::Result<PageSums> {
        let bytes = self.section(Section::PageSums, 0)?;
        Ok(PageSums(bytes.as_chunks::<4>().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect()))
    }

    /// Some bytes of a section whose pages have checksums.
    pub fn within(&self, kind: Section, column: usize, range: Range<usize>, sums: &PageSums) -> io::Result<Vec<u8>> {
        let pages = |entry: &Entry| if is_paged(entry.kind) { (entry.len as usize).div_ceil(PAGE) } else { 0 };
        let of_entry = |entry: &Entry| entry.kind == kind as u16 && usize::from(entry.column) == column;
        let before: usize = self.entries.iter().take_while(|entry| !of_entry(entry)).map(pages).sum();
        let entry = self.entry(kind, column).ok_or_else(|| damaged(&self.path, "a section is missing"))?;
        let (first, last) = (range.start / PAGE, range.end.div_ceil(PAGE));
        let (start, end) = (first * PAGE, (last * PAGE).min(entry.len as usize));
        if range.start > range.end || range.end > entry.len as usize {
            return Err(damaged(&self.path, &format!("a value lies outside of section {kind:?}")));
        }
        let mut bytes = self.read(entry.at + start as u64, end - start)?;
        let sums = sums.0.get(before + first..before + last);
        let is_whole = |sums: &[u32]| bytes.chunks(PAGE).zip(sums).all(|(page, sum)| crc32c::crc32c(page) == *sum);
        if !sums.is_some_and(is_whole) {
            return Err(damaged(&self.path, &format!("a page of section {kind:?} does not fit its checksum")));
        }
        bytes.truncate(range.end - start);
        bytes.drain(..range.start - start);
        Ok(bytes)
    }

    /// Where a section lies in the file.
    #[cfg(test)]
    pub fn place_of(&self, kind: Section, column: usize) -> Option<Range<usize>> {
        self.entry(kind, column).map(|entry| entry.at as usize..entry.at as usize + entry.len as usize)
    }

    /// Tells the system that some bytes of a section are read soon. It may do nothing.
    pub fn will_need(&self, kind: Section, column: usize, at: u64, len: usize) {
        if let (Some(entry), Some(len)) = (self.entry(kind, column), NonZeroU64::new(len as u64)) {
            let _ = fadvise(&self.file, entry.at.saturating_add(at), Some(len), Advice::WillNeed);
        }
    }

    /// Reads into memory that nobody has zeroed before.
    fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let from = at + bytes.len() as u64;
            match pread(&self.file, spare_capacity(&mut bytes), from) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// The name of a part's file: the number of the tail that it was made of, and its place among the parts of that tail.
pub fn part_name(tail: u64, nth: u64) -> String {
    if nth == 0 { format!("{tail:010}.part") } else { format!("{tail:010}-{nth}.part") }
}

/// What [`part_name`] was made of.
pub fn parse_part_name(name: &str) -> Option<(u64, u64)> {
    let name = name.strip_suffix(".part")?;
    match name.split_once('-') {
        None => Some((name.parse().ok()?, 0)),
        Some((tail, nth)) => {
            Some((tail.parse().ok()?, nth.parse().ok().filter(|nth| (1..PARTS_OF_TAIL).contains(nth))?))
        }
    }
}

/// A tail becomes fewer parts.
pub const PARTS_OF_TAIL: u64 = 16;
