//! What the chunks of a part have, looked up in its postings and numbers.

use std::io;
use std::sync::Arc;

use super::cache::Key;
use super::candidates::{Index, Unique};
use super::chunks::ChunkSet;
use super::layout::{EARLIER_LOOSE, Encoding, LOOSE, Section, VERSION_OF_NUMBERS, VERSION_OF_POSTINGS};
use super::numbers::{BITS, Number, NumberIndex};
use super::part::Part;
use super::postings::{PostingsIndex, Stretch};
use super::value::UUID_BYTES;

impl Index for &Part {
    fn hash(&mut self, hash: u32) -> io::Result<ChunkSet> {
        if self.meta.version < VERSION_OF_POSTINGS {
            return Ok(ChunkSet::all(self.chunks()));
        }
        self.postings_of(hash, 0)
    }

    fn loose(&mut self, hash: u32) -> io::Result<ChunkSet> {
        if self.meta.version < VERSION_OF_POSTINGS {
            return Ok(ChunkSet::all(self.chunks()));
        }
        let mut set = ChunkSet::none(self.chunks());
        for (column, size) in [LOOSE, EARLIER_LOOSE] {
            if self.file.has(Section::PostingsIndex, column) {
                for unit in self.postings_of(hash, column)?.iter() {
                    (unit * size..self.chunks().min((unit + 1) * size)).for_each(|chunk| set.insert(chunk));
                }
            }
        }
        Ok(set)
    }

    fn number(&mut self, number: Number, within: &ChunkSet) -> io::Result<ChunkSet> {
        let number = match number {
            // Earlier parts lack some of the numbers before which another word stood than the first time.
            Number::Behind(_) | Number::Word(_) | Number::Near(_) if self.meta.version < VERSION_OF_NUMBERS => {
                return Ok(within.clone());
            }
            Number::Behind(hash) | Number::Word(hash) | Number::Near(hash) => {
                let mut set = self.postings_of(hash, 0)?;
                set.intersect(within);
                return Ok(set);
            }
            Number::Run(number) => number,
        };
        let (section, lists) = (Section::RunIndex, Section::RunLists);
        if !self.file.has(section, 0) {
            return Ok(within.clone());
        }
        let key = Key { part: self.number, section: section as u16, column: 0, block: 0 };
        if within.iter().count() * 2 > within.len() && self.cache().kept::<NumberIndex>(key).is_none() {
            // Nearly all of them are read, a few at a time.
            self.file.will_need(lists, 0, 0, self.file.bytes_of(lists, 0));
        }
        let index = self.cache().get(key, NumberIndex::weight, || {
            let bytes = self.file.section(section, 0)?;
            NumberIndex::read(&bytes).ok_or_else(|| self.damaged("the index of its numbers cannot be read"))
        })?;
        let read = |at: u64, len: usize| self.file.slice(lists, 0, at, len);
        index.chunks_within(number, BITS, within, read)?.ok_or_else(|| self.damaged("its numbers cannot be read"))
    }

    fn has_lists_of(&self, number: Number) -> bool {
        matches!(number, Number::Run(_))
    }

    /// One hash in a hundred is that of something which every chunk has, and nothing but the texts of all of them would
    /// show that no id is this word: the column shows it at once.
    fn unique(&mut self, Unique { name, text, hash }: &Unique) -> io::Result<ChunkSet> {
        // Where some line is kept whole the columns do not have all of it.
        let is_possible = !self.has_sums()
            || self.column(name).is_some_and(|(column, described)| {
                self.file.has(Section::ExceptionRows, column as usize)
                    || match described.encoding {
                        Encoding::Uuid | Encoding::DerivedId => text.len() == UUID_BYTES,
                        Encoding::Time { .. } | Encoding::SameTime { .. } => text.starts_with(is_of_year),
                        _ => true,
                    }
            });
        if is_possible { self.hash(*hash) } else { Ok(ChunkSet::none(self.chunks())) }
    }
}

fn is_of_year(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '-' | '+')
}

impl Part {
    /// Whether it has postings that are read.
    pub fn has_postings(&self, column: usize) -> bool {
        self.meta.version >= VERSION_OF_POSTINGS && self.file.has(Section::PostingsIndex, column)
    }

    /// Whether the index of some postings is kept.
    pub fn has_read_postings(&self, column: usize) -> bool {
        self.cache().kept::<PostingsIndex>(self.key_of_postings(column)).is_some()
    }

    fn key_of_postings(&self, column: usize) -> Key {
        Key { part: self.number, section: Section::PostingsIndex as u16, column: column as u32, block: 0 }
    }

    /// The index of some postings.
    pub fn postings(&self, column: usize) -> io::Result<Arc<PostingsIndex>> {
        self.cache().get(self.key_of_postings(column), PostingsIndex::weight, || {
            let bytes = self.file.section(Section::PostingsIndex, column)?;
            PostingsIndex::read(&bytes).ok_or_else(|| self.damaged("the index of its postings cannot be read"))
        })
    }

    fn postings_of(&self, hash: u32, column: usize) -> io::Result<ChunkSet> {
        let index = self.postings(column)?;
        let read = |stretch: Stretch| match stretch {
            Stretch::Groups { at, len } => self.file.slice(Section::PostingsGroups, column, u64::from(at), len),
            Stretch::Lists { at, len } => self.file.slice(Section::PostingsLists, column, u64::from(at), len),
        };
        index.chunks_of(hash, read)?.ok_or_else(|| self.damaged("its postings cannot be read"))
    }
}
