//! Keys of rows, for groups: read from their column, and from their line only where that alone tells.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::bits::{CHUNK, Packed};
use super::clock::Clock;
use super::coded::{IN_LINE, NONE, number_of};
use super::dictionary::Dictionary;
use super::groups::{KeyValue, key_value};
use super::layout::{Encoding, Section};
use super::part::{Exceptions, Part};
use super::search::Place;
use super::slices::Slice;
use super::split::WHOLE;
use super::tail::TailChunk;
use super::value::write_uuid;
use crate::event::Raw;
use crate::query::request::GroupKey;
use crate::visibility::Visibility;

/// Reads one column by chunk.
pub struct ColumnReader {
    pub in_shape: Vec<bool>,
    pub column: u32,
    pub kind: Reading,
    pub values: Vec<i64>,
}

pub enum Reading {
    Codes(Arc<Packed>, Arc<Dictionary>),
    Numbers(Arc<Packed>, Encoding),
    Uuids(Arc<Vec<u8>>, Arc<Exceptions>),
    Each,
}

impl ColumnReader {
    pub fn new(part: &Part, name: &str) -> io::Result<Option<ColumnReader>> {
        let Some((column, described)) = part.column(name) else { return Ok(None) };
        let encoding = described.encoding;
        let kind = match encoding {
            Encoding::Dictionary => Reading::Codes(part.packed(Section::Codes, column)?, part.dictionary(column)?),
            Encoding::Number { .. } if part.exceptions(column)?.is_empty() => {
                Reading::Numbers(part.packed(Section::Numbers, column)?, encoding)
            }
            Encoding::Uuid => Reading::Uuids(part.uuids(column)?, part.exceptions(column)?),
            _ => Reading::Each,
        };
        let in_shape = part.meta.shapes.iter().map(|shape| shape.columns.contains(&column)).collect();
        Ok(Some(ColumnReader { in_shape, column, kind, values: Vec::new() }))
    }

    pub fn load(&mut self, chunk: usize, rows: &[usize]) {
        match &self.kind {
            Reading::Codes(packed, _) | Reading::Numbers(packed, _) => packed.rows(chunk, rows, &mut self.values),
            Reading::Uuids(..) | Reading::Each => {}
        }
    }
}

/// Reads one part of the keys of rows.
pub struct KeyReader<'a> {
    by: &'a GroupKey,
    visibility: &'a Visibility,
    column: Option<ColumnReader>,
    chunk: usize,
    shapes: Option<Arc<Packed>>,
    shape_of: Vec<i64>,
    /// Of a tail: the number of the member among those that are kept, the values met so far, and for each code of the
    /// chunk the number of its value.
    kept: Option<usize>,
    numbers: HashMap<Vec<u8>, i64>,
    of_codes: Vec<i64>,
    codes: Vec<u16>,
    lines: Option<super::tail::ChunkLines>,
    texts: HashMap<i64, KeyValue>,
    /// For each code the hash of its value; 0 where it is not known yet.
    hashes: Vec<u32>,
    clock: Clock,
}

impl<'a> KeyReader<'a> {
    pub fn new(place: &Place, by: &'a GroupKey, visibility: &'a Visibility) -> io::Result<KeyReader<'a>> {
        let (mut column, mut shapes) = (None, None);
        if let (Place::Part(part), GroupKey::Field(path)) = (place, by) {
            column = path.first().map(|name| ColumnReader::new(part, name)).transpose()?.flatten();
            shapes = Some(part.packed(Section::Shapes, 0)?);
        }
        let clock = Clock::new(by);
        Ok(KeyReader {
            by,
            visibility,
            column,
            chunk: 0,
            shapes,
            shape_of: Vec::new(),
            kept: kept_of(place, by, visibility),
            numbers: HashMap::new(),
            of_codes: Vec::new(),
            codes: Vec::new(),
            lines: None,
            texts: HashMap::new(),
            hashes: Vec::new(),
            clock,
        })
    }

    pub fn load(&mut self, place: &Place, chunk: usize, rows: &[usize]) -> io::Result<()> {
        if let (GroupKey::Field(path), Place::Tail(tail)) = (self.by, place) {
            self.load_kept(&tail.chunks[chunk], path);
            let is_known = !self.codes.is_empty() && !self.codes.contains(&IN_LINE);
            self.lines = if is_known { None } else { place.tail_lines(chunk)? };
        }
        self.chunk = chunk;
        if let Some(shapes) = &self.shapes {
            shapes.rows(chunk, rows, &mut self.shape_of);
        }
        if let Some(column) = &mut self.column {
            column.load(chunk, rows);
        }
        Ok(())
    }

    fn load_kept(&mut self, chunk: &TailChunk, path: &[String]) {
        self.codes.clear();
        self.of_codes.clear();
        let Some(column) = self.kept.and_then(|nth| chunk.columns.of(nth)) else { return };
        self.codes.extend((0..chunk.rows.len()).map(|row| column.code(row)));
        for value in column.values() {
            let number = match self.numbers.get(value.as_bytes()) {
                Some(known) => *known,
                None => {
                    let number = self.numbers.len() as i64 + 1;
                    self.numbers.insert(value.as_bytes().to_vec(), number);
                    self.texts.insert(number, key_value(value.path(&path[1..])));
                    number
                }
            };
            self.of_codes.push(number);
        }
    }

    /// A number that stands for the key within this place, where there is one.
    pub fn short(&mut self, row: usize, time: i64) -> Option<i64> {
        match self.by {
            GroupKey::Field(_) if !self.codes.is_empty() => match self.codes[row] {
                NONE => Some(0),
                IN_LINE => None,
                code => Some(self.of_codes[usize::from(code) - 1]),
            },
            GroupKey::Field(_) => {
                let shape = *self.shape_of.get(row)?;
                if shape == i64::from(WHOLE) {
                    return None;
                }
                match &self.column {
                    None => Some(0),
                    Some(column) if !column.in_shape.get(shape as usize).copied().unwrap_or(false) => Some(0),
                    Some(ColumnReader { kind: Reading::Codes(..), values, .. }) => values.get(row).copied(),
                    Some(_) => None,
                }
            }
            _ => Some(self.clock.key(self.by, time)),
        }
    }

    /// What a code of a part stands for.
    fn of_code(&self, path: &[String], code: i64) -> Option<KeyValue> {
        let Some(ColumnReader { kind: Reading::Codes(_, dictionary), .. }) = &self.column else { return None };
        Some(key_value(dictionary.get(code).map(Raw::valid).and_then(|value| value.path(&path[1..]))))
    }

    /// Whether the column's values are UUIDs that are the keys, and the row has one.
    fn uuid(&self, row: usize) -> Option<u128> {
        let column = self.column.as_ref()?;
        let (Reading::Uuids(bits, others), GroupKey::Field(path)) = (&column.kind, self.by) else { return None };
        let shape = *self.shape_of.get(row)?;
        if path.len() != 1 || !column.in_shape.get(shape as usize).copied().unwrap_or(false) {
            return None;
        }
        let row = self.chunk * CHUNK + row;
        if !others.is_empty() && others.get(row).is_some() {
            return None;
        }
        let at = row * 16;
        Some(u128::from_le_bytes(bits.get(at..at + 16)?.try_into().expect("sixteen bytes")))
    }

    /// Two numbers that stand for the key, for a UUID.
    pub fn short_of_uuid(&self, row: usize) -> Option<[i64; 2]> {
        let bits = self.uuid(row)?;
        let halves = [bits as i64, (bits >> 64) as i64];
        // One number alone stands beside the least.
        (halves[1] != i64::MIN).then_some(halves)
    }

    /// The hash of the key. That of a code is kept, and its text is not.
    pub fn hash(&mut self, slice: &Slice, place: &Place, chunk: usize, row: usize, time: i64) -> io::Result<u32> {
        let GroupKey::Field(path) = self.by else { return Ok(slice.hash(&self.full(place, chunk, row, time)?)) };
        if let Some(bits) = self.uuid(row) {
            return Ok(slice.hash_uuid(bits));
        }
        let Some(code) = self.short(row, time) else { return Ok(slice.hash(&self.full(place, chunk, row, time)?)) };
        let nth = code as usize;
        if let Some(known) = self.hashes.get(nth).filter(|known| **known != 0) {
            return Ok(*known);
        }
        let value = match self.of_code(path, code).filter(|_| code != 0) {
            Some(value) => value,
            None => self.full(place, chunk, row, time)?,
        };
        let hash = slice.hash(&value);
        self.hashes.resize(self.hashes.len().max(nth + 1), 0);
        self.hashes[nth] = hash;
        Ok(hash)
    }

    pub fn full(&mut self, place: &Place, chunk: usize, row: usize, time: i64) -> io::Result<KeyValue> {
        let GroupKey::Field(path) = self.by else { return Ok(KeyValue::Number(self.clock.key(self.by, time))) };
        if let Some(short) = self.short(row, time) {
            if short == 0 {
                return Ok(KeyValue::Missing);
            }
            if let Some(known) = self.texts.get(&short) {
                return Ok(known.clone());
            }
            if let Some(value) = self.of_code(path, short) {
                self.texts.insert(short, value.clone());
                return Ok(value);
            }
        }
        if let Some(bits) = self.uuid(row) {
            let mut quoted = Vec::with_capacity(38);
            write_uuid(bits, &mut quoted);
            return Ok(key_value(Some(Raw::valid(&quoted))));
        }
        if let (Place::Part(part), Some(column), [name, rest @ ..]) = (place, &self.column, &path[..])
            && self.shape_of[row] != i64::from(WHOLE)
            && !self.visibility.hides(name)
        {
            let value = part.value(chunk * CHUNK + row, column.column)?;
            return Ok(key_value(value.as_deref().and_then(|value| Raw::valid(value).path(rest))));
        }
        let line = match &self.lines {
            Some(lines) => lines.line(row).to_vec(),
            None => place.line(chunk * CHUNK + row)?,
        };
        let shown = self.visibility.searchable(&line);
        Ok(key_value(shown.as_deref().and_then(|line| Raw::valid(line).path(path))))
    }
}

/// The member of a tail that a key is, if it is kept and shown as it is.
fn kept_of(place: &Place, by: &GroupKey, visibility: &Visibility) -> Option<usize> {
    match (place, by) {
        (Place::Tail(_), GroupKey::Field(path)) => {
            path.first().filter(|name| !visibility.hides(name)).and_then(|name| number_of(name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Folder, Stored, all, plain};
    use super::super::{Options, Store};
    use super::*;

    #[test]
    fn keys_of_all_kinds_are_read_without_texts() {
        let code = "some code that is long ".repeat(90);
        let line = |n: u64| {
            // A few are no UUIDs, which does not make texts of all.
            let session = format!("{}{n:07x}-0000-4000-8000-{n:012}", if n % 300 == 299 { "X" } else { "0" });
            let session = if n % 50 == 3 { "null".to_owned() } else { format!("\"{session}\"") };
            format!("{{\"session_id\":{session},\"kind\":\"k{}\",\"n\":{n}.5,\"code\":\"{code}{n}\"}}", n % 3)
        };
        let some = |n: u64| if n % 40 == 7 { r#"{"code":"short"}"#.to_owned() } else { line(n) };
        for (name, lines) in [("session_id", &line as &dyn Fn(u64) -> String), ("kind", &some), ("n", &some)] {
            let folder = Folder::new();
            let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
            let events: Vec<Stored> = (0..600).map(|n| plain(n + 1, &lines(n))).collect();
            store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
            store.seal_now().expect("a part is made");
            let (by, sees) = (GroupKey::Field(vec![name.to_owned()]), all());
            let place = store.snapshot().places().swap_remove(0);
            let Place::Part(part) = &place else { panic!("it is a part") };
            let slice = Slice::whole();
            let mut reader = KeyReader::new(&place, &by, &sees).expect("it is read");
            for (nth, event) in events.iter().enumerate() {
                let (chunk, row) = (nth / CHUNK, nth % CHUNK);
                reader.load(&place, chunk, &[row]).expect("it is read");
                let wanted = key_value(Raw::valid(event.line.as_bytes()).get(name));
                assert_eq!(reader.full(&place, chunk, row, 0).expect("it is read"), wanted, "{name} {nth}");
                assert_eq!(reader.hash(&slice, &place, chunk, row, 0).expect("it is read"), slice.hash(&wanted));
            }
            assert!(part.cache().weight() < 100_000, "{name}: texts were opened");
        }
    }
}
