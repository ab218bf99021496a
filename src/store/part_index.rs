//! What the chunks of a part have, looked up in its postings and numbers.

use std::io;
use std::sync::Arc;

use super::bits::CHUNK;
use super::cache::Key;
use super::candidates::{Index, Unique};
use super::chunks::ChunkSet;
use super::grams::term;
use super::layout::{EARLIER_LOOSE, Encoding, LOOSE, Section, VERSION_OF_NUMBERS, VERSION_OF_POSTINGS};
use super::numbers::{BITS, Number, NumberIndex};
use super::part::Part;
use super::postings::{PostingsIndex, Stretch};
use super::value::{UUID_BYTES, time_bytes};
use super::word_blocks::{self, BlockNeeds};
use crate::event::Raw;

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
    /// show that no id is this word: the column shows it at once, and its exceptions one by one.
    fn unique(&mut self, Unique { name, text, hash }: &Unique) -> io::Result<ChunkSet> {
        // Where some line is kept whole the columns do not have all of it.
        if !self.has_sums() {
            return self.hash(*hash);
        }
        let mut set = ChunkSet::none(self.chunks());
        let Some((column, described)) = self.column(name) else { return Ok(set) };
        let is_possible = match described.encoding {
            Encoding::Uuid | Encoding::DerivedId => text.len() == UUID_BYTES,
            Encoding::Time { digits } | Encoding::SameTime { digits } => text.len() == time_bytes(digits),
            _ => true,
        };
        if is_possible {
            return self.hash(*hash);
        }
        if self.file.has(Section::ExceptionRows, column as usize) {
            let found = self.hash(*hash)?;
            if !found.is_empty() {
                let exceptions = self.exceptions(column)?;
                exceptions.rows_where(|value| may_be(value, name, *hash)).into_iter().for_each(|row| {
                    if (row as usize) < self.events() {
                        set.insert(row as usize / CHUNK);
                    }
                });
                set.intersect(&found);
            }
        }
        Ok(set)
    }
}

/// Whether a value may have the hash of a text: another one than a string has its own way to be looked for.
fn may_be(value: Raw<'_>, name: &str, hash: u32) -> bool {
    value.as_str().is_none_or(|text| term(name.as_bytes(), &text) == hash)
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

    /// The blocks of a chunk, a bit for each, that may have what is needed. The page that was read is kept by whoever asks.
    pub fn blocks_with(&self, needs: &BlockNeeds, chunk: usize, kept: &mut word_blocks::Page) -> io::Result<u8> {
        let (section, tables) = (Section::WordBlockIndex, Section::WordBlockTables);
        if *needs == BlockNeeds::Anything || !self.file.has(section, 0) {
            return Ok(word_blocks::ALL);
        }
        let key = Key { part: self.number, section: section as u16, column: 0, block: 0 };
        let index = self.cache().get(key, NumberIndex::weight, || {
            let bytes = self.file.section(section, 0)?;
            NumberIndex::read(&bytes).ok_or_else(|| self.damaged("the index of words of blocks cannot be read"))
        })?;
        let read = |at: u64, len: usize| self.file.slice(tables, 0, at, len);
        let found = word_blocks::blocks_with(needs, chunk, &index, kept, read)?;
        found.ok_or_else(|| self.damaged("the words of its blocks cannot be read"))
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::grams::grams_of;
    use super::super::tests::{Folder, Stored, all, newest, plain};
    use super::super::{Options, Store};
    use super::*;

    #[test]
    fn a_word_with_the_hash_of_something_everywhere_opens_no_texts_though_some_times_are_exceptions() {
        let code: String = (0..400).map(|n| format!("{:03} ", n * 7919 % 1000)).collect();
        let line = |n: u64| {
            let received = match n {
                1234 => "some-other-day".to_owned(),
                _ if n.is_multiple_of(250) => "2026-01-02T03:04:05.5Z".to_owned(),
                _ => format!("2026-01-02T03:04:05.{:06}Z", 100_000 + n),
            };
            format!(r#"{{"received_at":"{received}","code":"{code}"}}"#)
        };
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let events: Vec<Stored> = (1..=2000).map(|n| plain(n, &line(n))).collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("they are stored");
        store.seal_now().expect("a part is made");
        let snapshot = store.snapshot();
        let part = &*snapshot.parts[0];
        let (column, described) = part.column("received_at").expect("it is there");
        assert!(matches!(described.encoding, Encoding::Time { .. } | Encoding::SameTime { .. }));
        assert!(part.file.has(Section::ExceptionRows, column as usize));
        let (everywhere, hash_of) =
            (HashSet::<u32>::from_iter(grams_of(&code)), |word: &str| term(b"received_at", word));
        let mut words = (0..).map(|n: u32| format!("word-{n:07}"));
        let word = words.find(|word| everywhere.contains(&hash_of(word))).expect("one in some thousands");
        let chunks_of = |text: &str| {
            let unique = Unique { name: "received_at", text: text.into(), hash: hash_of(text) };
            (&mut &*part).unique(&unique).expect("read").iter().collect::<Vec<_>>()
        };
        assert_eq!((&mut &*part).hash(hash_of(&word)).expect("read").iter().count(), part.chunks());
        assert!(chunks_of(&word).is_empty());
        assert_eq!(chunks_of("some-other-day"), [1233 / CHUNK]);
        assert_eq!(chunks_of("Some-Other-Day"), [1233 / CHUNK]);
        assert_eq!(chunks_of("2026-01-02T03:04:05.5z"), Vec::from_iter(0..8));
        assert_eq!(chunks_of("2026-01-02T03:04:05.100300Z"), [299 / CHUNK]);
        assert!(chunks_of("20260102").is_empty());
        for (query, found) in [(format!("\"{word}\""), 0), ("\"some-other-day\"".to_owned(), 1)] {
            assert_eq!(snapshot.page(&newest(&query, 10), &all()).expect("a page").rows.len(), found, "{query}");
        }
    }
}
