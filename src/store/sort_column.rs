//! What rows are sorted by: read from columns where these tell, from lines elsewhere. Most chunks are passed over by their
//! least and greatest value once a page is full.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use super::bits::{CHUNK, Packed};
use super::coded::{IN_LINE, NONE, number_of};
use super::dictionary::Dictionary;
use super::layout::Section;
use super::order::Order;
use super::part::Part;
use super::row_keys::{ColumnReader, Reading};
use super::search::{Place, sort_key};
use super::split::WHOLE;
use super::tail::{ChunkLines, TailChunk, TailView};
use super::value::NumberStyle;
use crate::event::Raw;
use crate::query::request::SortKey;

/// Of dictionaries with more values it is not asked beforehand whether one can be on the page.
const FEW_VALUES: usize = 64;

/// Reads one place.
pub enum SortColumn<'a> {
    Part(OfPart<'a>),
    Tail(OfTail<'a>),
}

pub struct OfPart<'a> {
    part: &'a Part,
    /// None where no event of the part has the member.
    column: Option<ColumnReader>,
    shapes: Arc<Packed>,
    shape_of: Vec<i64>,
    /// Of a dictionary: for each code what its rows are sorted by, as far as it was met.
    of_codes: Vec<Option<SortKey>>,
    name: &'a str,
    chunk: usize,
}

pub struct OfTail<'a> {
    tail: &'a TailView,
    name: &'a str,
    chunk: &'a TailChunk,
    lines: Option<ChunkLines>,
}

/// The row that a page ends with so far, for rows of one place.
pub struct Worst<'a> {
    order: &'a Order,
    /// Whether a row of the place may have its key and come before it.
    may_tie: bool,
}

impl<'a> Worst<'a> {
    /// The earliest and the latest time of the place are these.
    pub fn new(order: &'a Order, (first, last): (i64, i64)) -> Worst<'a> {
        let may_tie = if order.is_descending { last >= order.time } else { first <= order.time };
        Worst { order, may_tie }
    }

    /// Whether a row with this key may come before it.
    fn may_precede(&self, key: &SortKey) -> bool {
        let order = key.compare(&self.order.key, self.order.is_descending);
        order.is_lt() || (order.is_eq() && self.may_tie)
    }
}

impl<'a> SortColumn<'a> {
    pub fn new(place: &'a Place, name: &'a str) -> io::Result<Option<SortColumn<'a>>> {
        Ok(match place {
            Place::Part(part) => Some(SortColumn::Part(OfPart::new(part, name)?)),
            Place::Tail(tail) => {
                tail.chunks.first().map(|chunk| SortColumn::Tail(OfTail { tail, name, chunk, lines: None }))
            }
        })
    }

    /// Whether rows of a chunk may come before the worst.
    pub fn may_precede(&mut self, chunk: usize, worst: &Worst) -> bool {
        match self {
            SortColumn::Part(of_part) => of_part.may_precede(chunk, worst),
            SortColumn::Tail(_) => true,
        }
    }

    /// Keeps of some rows of a chunk those that may come before the worst, and says what each is sorted by.
    pub fn keep(
        &mut self,
        chunk: usize,
        rows: &mut Vec<usize>,
        worst: Option<&Worst>,
        keys: &mut Vec<SortKey>,
    ) -> io::Result<()> {
        keys.clear();
        self.load(chunk, rows)?;
        for nth in 0..rows.len() {
            let key = self.key(rows[nth])?;
            if worst.is_none_or(|worst| worst.may_precede(&key)) {
                rows[keys.len()] = rows[nth];
                keys.push(key.into_owned());
            }
        }
        rows.truncate(keys.len());
        Ok(())
    }

    fn load(&mut self, chunk: usize, rows: &[usize]) -> io::Result<()> {
        match self {
            SortColumn::Part(of_part) => of_part.load(chunk, rows),
            SortColumn::Tail(of_tail) => return of_tail.load(chunk),
        }
        Ok(())
    }

    /// What one of the rows that were loaded is sorted by.
    fn key(&mut self, row: usize) -> io::Result<Cow<'_, SortKey>> {
        match self {
            SortColumn::Part(of_part) => of_part.key(row),
            SortColumn::Tail(of_tail) => of_tail.key(row).map(Cow::Owned),
        }
    }
}

impl<'a> OfPart<'a> {
    fn new(part: &'a Part, name: &'a str) -> io::Result<OfPart<'a>> {
        let column = ColumnReader::new(part, name)?;
        let shapes = part.packed(Section::Shapes, 0)?;
        Ok(OfPart { part, column, shapes, shape_of: Vec::new(), of_codes: Vec::new(), name, chunk: 0 })
    }

    fn may_precede(&mut self, chunk: usize, worst: &Worst) -> bool {
        // Of lines kept whole no column tells, and a part that has sums has none. What has no value is the last of all.
        if !self.part.has_sums() || worst.may_precede(&SortKey::Missing) {
            return true;
        }
        let is_descending = worst.order.is_descending;
        match self.column.as_ref().map(|column| &column.kind) {
            None => false,
            Some(Reading::Numbers(packed, encoding)) => {
                let bound = if is_descending { packed.most(chunk) } else { Some(packed.least(chunk)) };
                let bound = bound.zip(encoding.number_style()).map(|(value, style)| exact(style, value));
                bound.is_none_or(|bound| worst.may_precede(&SortKey::Number(bound)))
            }
            Some(Reading::Codes(_, dictionary)) if dictionary.len() <= FEW_VALUES => {
                let dictionary = dictionary.clone();
                (1..=dictionary.len() as i64).any(|code| worst.may_precede(self.of_code(&dictionary, code)))
            }
            Some(_) => true,
        }
    }

    fn load(&mut self, chunk: usize, rows: &[usize]) {
        self.chunk = chunk;
        self.shapes.rows(chunk, rows, &mut self.shape_of);
        if let Some(column) = &mut self.column {
            column.load(chunk, rows);
        }
    }

    fn of_code(&mut self, dictionary: &Dictionary, code: i64) -> &SortKey {
        let nth = code as usize;
        self.of_codes.resize(self.of_codes.len().max(nth + 1), None);
        self.of_codes[nth].get_or_insert_with(|| sort_key(dictionary.get(code).map(Raw::valid)))
    }

    fn key(&mut self, row: usize) -> io::Result<Cow<'_, SortKey>> {
        let shape = self.shape_of[row];
        if shape == i64::from(WHOLE) {
            let line = self.part.line(self.chunk * CHUNK + row)?;
            return Ok(Cow::Owned(sort_key(Raw::valid(&line).get(self.name))));
        }
        let has = |column: &&ColumnReader| column.in_shape.get(shape as usize).copied().unwrap_or(false);
        let Some(column) = self.column.as_ref().filter(has) else { return Ok(Cow::Owned(SortKey::Missing)) };
        match &column.kind {
            Reading::Codes(_, dictionary) => {
                let (dictionary, code) = (dictionary.clone(), column.values[row]);
                Ok(Cow::Borrowed(self.of_code(&dictionary, code)))
            }
            Reading::Numbers(_, encoding) => {
                let number = encoding.number_style().map(|style| exact(style, column.values[row]));
                Ok(Cow::Owned(number.map_or(SortKey::Missing, SortKey::Number)))
            }
            Reading::Uuids(..) | Reading::Each => {
                let value = self.part.value(self.chunk * CHUNK + row, column.column)?;
                Ok(Cow::Owned(sort_key(value.as_deref().map(Raw::valid))))
            }
        }
    }
}

impl<'a> OfTail<'a> {
    fn load(&mut self, chunk: usize) -> io::Result<()> {
        (self.chunk, self.lines) = (&self.tail.chunks[chunk], None);
        Ok(())
    }

    fn key(&mut self, row: usize) -> io::Result<SortKey> {
        let column = number_of(self.name).and_then(|nth| self.chunk.columns.of(nth));
        match column.map(|column| (column, column.code(row))) {
            Some((_, NONE)) => Ok(SortKey::Missing),
            Some((column, code)) if code != IN_LINE => Ok(sort_key(Some(column.value_of(code)))),
            _ => {
                if self.lines.is_none() {
                    self.lines = Some(self.chunk.lines()?);
                }
                let line = self.lines.as_ref().map_or(&b"{}"[..], |lines| lines.line(row));
                Ok(sort_key(Raw::valid(line).get(self.name)))
            }
        }
    }
}

/// A number as its text is read, so that it has the same place on a page whether it is still in a tail or not.
fn exact(style: NumberStyle, value: i64) -> f64 {
    // Up to here a division is rounded once.
    if value.unsigned_abs() < 1 << 53 && style.scale <= 22 {
        return style.to_f64(value);
    }
    let mut text = Vec::new();
    style.write(value, &mut text);
    Raw::valid(&text).as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Folder, all, events_strategy, fill, filter, later};
    use super::super::{Options, Store};
    use super::*;
    use crate::query::request::{PageRequest, Sort};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

        #[test]
        fn whatever_they_are_sorted_by_pages_are_those_of_a_plain_list(
            events in events_strategy(900), seal_every in 1usize..4, limit in 1usize..40,
        ) {
            let folder = Folder::new();
            let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
            fill(&store, &events, 60, seal_every);
            let names = ["duration_ms", "status_code", "event_type", "status", "user_id", "code", "session_id", "nothing"];
            for (name, query) in names.into_iter().flat_map(|name| ["", "-status:error"].map(|query| (name, query))) {
                for is_descending in [true, false] {
                    let mut orders: Vec<Order> = Vec::new();
                    let wanted = filter(query);
                    for event in &events {
                        let line = Raw::valid(event.line.as_bytes());
                        if wanted.query.as_ref().is_none_or(|query| query.matches_line(line)) {
                            let (key, time) = (sort_key(line.get(name)), event.time());
                            orders.push(Order { key, time, seq: event.seq, is_descending });
                        }
                    }
                    orders.sort();
                    let expected: Vec<u64> = orders.iter().map(|order| order.seq).collect();
                    let (mut after, mut seen) = (None, Vec::new());
                    for _ in 0..4 {
                        let request = PageRequest {
                            filter: wanted.clone(), sort: Sort::Field(name.into()), is_descending, after: after.take(),
                            offset: 0, limit, deadline: later(), may_be_partial: false,
                        };
                        let page = store.snapshot().page(&request, &all()).expect("a page");
                        seen.extend(page.rows.iter().map(|row| row.seq));
                        after = page.rows.last().map(|row| row.keyset.clone());
                        if !page.has_more {
                            break;
                        }
                    }
                    let expected = &expected[..expected.len().min(4 * limit)];
                    prop_assert_eq!(&seen[..], expected, "{} {} {}", name, query, is_descending);
                }
            }
        }
    }
}
