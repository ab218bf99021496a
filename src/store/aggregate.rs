//! Counts, sums and percentiles over matching events, grouped by up to two keys.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::bits::{CHUNK, Packed};
use super::by_value::ByValue;
use super::candidates::Needs;
use super::chunks::ChunkSet;
use super::clock::Clock;
use super::coded::{IN_LINE, NONE, number_of};
use super::groups::{Failed, Groups, KeyValue, Partial, PartialGroups, key_value};
use super::kept::{Question, part_within};
use super::layout::{Encoding, Section};
use super::lock;
use super::parallel;
use super::part::{Dictionary, Part};
use super::rows::RowFilter;
use super::search::{Place, Snapshot, Stop, is_in_time, needs_of};
use super::slices::{Slice, too_many};
use super::split::WHOLE;
use super::sums::ChunkSums;
use super::tail::TailChunk;
use crate::event::Raw;
use crate::query::request::{AggregateRequest, GroupKey, ReadError};
use crate::visibility::Visibility;

/// What parts may leave out of the durations of groups is noted at most so often, some 20 bytes each.
const MAX_HIDDEN: usize = 256 * 1024;

impl Snapshot {
    /// The groups of a slice of those of the events that match.
    pub fn aggregate_slice(
        &self,
        request: &AggregateRequest,
        visibility: &Visibility,
        slice: Slice,
    ) -> Result<Groups, ReadError> {
        let (needs, places) = (needs_of(&request.filter, visibility), self.places());
        let order: Vec<usize> =
            (0..places.len()).filter(|nth| is_in_time(&places[*nth], &request.filter, visibility)).collect();
        let of_failure = |place: &Place, failed: Failed| match failed {
            Failed::Stop(Stop::Failed(error)) => Err(error),
            Failed::Stop(Stop::Io(error)) => self.excuse::<()>(place, Err(error)).map(drop),
            Failed::TooMany => Err(too_many(request)),
        };
        let groups = Mutex::new(Groups::new(&self.share, slice));
        let question = Question::of_groups(request, visibility);
        let most_tops = if request.group_by.is_empty() { usize::MAX } else { MAX_HIDDEN / places.len().max(1) };
        let asking = Asking { request, visibility, needs, question, most_tops, slice, groups };
        parallel::each(&order, |partial: &mut Partial, nth| {
            asking.add_place(&places[nth], nth, partial).or_else(|failed| of_failure(&places[nth], failed))
        })?;
        let unsettled = lock(&asking.groups).unsettled();
        parallel::each(&unsettled, |partial: &mut Partial, nth| {
            asking.reveal_place(&places[nth], nth, partial).or_else(|failed| of_failure(&places[nth], failed))
        })?;
        Ok(asking.groups.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a status says of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Error,
    Other,
}

pub fn outcome(status: Option<Raw<'_>>) -> Outcome {
    match status.and_then(|status| status.as_str()).as_deref() {
        Some("success") => Outcome::Success,
        Some("error" | "aborted" | "lost") => Outcome::Error,
        _ => Outcome::Other,
    }
}

/// A request on its way through the places.
struct Asking<'a> {
    request: &'a AggregateRequest,
    visibility: &'a Visibility,
    needs: Needs,
    question: Option<Question>,
    /// Of members with more values all durations are read.
    most_tops: usize,
    slice: Slice,
    groups: Mutex<Groups>,
}

impl Asking<'_> {
    /// Adds the groups of a place, of whose durations perhaps only the greatest.
    fn add_place(&self, place: &Place, nth: usize, partial: &mut Partial) -> Result<(), Failed> {
        let Asking { request, visibility, needs, slice, groups, .. } = self;
        let known = part_within(place, &request.filter).zip(self.question.as_ref());
        if let Some(groups_of_part) = known.and_then(|(part, question)| question.groups(part)) {
            return groups_of_part.merge(nth, request, groups);
        }
        let candidates = place.candidates(needs)?;
        // Without candidates no column is opened.
        let found = if candidates.is_empty() {
            PartialGroups::none()
        } else if let Some(by_value) = by_value(place, request, visibility, self.most_tops)? {
            by_value.groups(request, needs, partial, groups)?
        } else if let Some(sums) = ChunkSums::of(place, request, visibility)? {
            // What sums tell is merged at once and not kept.
            let left = add_sums(sums, nth, request, &candidates, groups)?;
            return match left.is_empty() {
                true => Ok(()),
                false => {
                    add_rows(place, request, visibility, slice, left, partial, groups)?.merge(nth, request, groups)
                }
            };
        } else {
            add_rows(place, request, visibility, slice, candidates.iter().collect(), partial, groups)?
        };
        found.merge(nth, request, groups)?;
        self.keep(known, found);
        Ok(())
    }

    /// Adds the durations of a place that were left out and that a percentile may be among.
    fn reveal_place(&self, place: &Place, nth: usize, partial: &mut Partial) -> Result<(), Failed> {
        let Asking { request, visibility, needs, slice, groups, .. } = self;
        let candidates = place.candidates(needs)?;
        let Some(of_tops) = by_value(place, request, visibility, self.most_tops)? else {
            let Some(mut sums) = ChunkSums::of(place, request, visibility)? else { return Ok(()) };
            let mut chunks = Vec::new();
            for chunk in candidates.iter() {
                if sums.find_chunk(chunk, request, &mut lock(groups))? {
                    chunks.push(chunk);
                }
            }
            let found = add_rows(place, request, visibility, slice, chunks, partial, groups)?;
            let told = sums.told()?.into_iter().map(|told| (told.group, told.keys)).collect();
            return lock(groups).reveal(nth, told, &found);
        };
        let told = of_tops.groups(request, needs, partial, groups)?;
        let found = match by_value(place, request, visibility, 0)? {
            Some(by_value) => by_value.groups(request, needs, partial, groups)?,
            None => add_rows(place, request, visibility, slice, candidates.iter().collect(), partial, groups)?,
        };
        let told = lock(groups).numbered(&told);
        lock(groups).reveal(nth, told, &found)?;
        self.keep(part_within(place, &request.filter).zip(self.question.as_ref()), found);
        Ok(())
    }

    fn keep(&self, known: Option<(&Part, &Question)>, found: PartialGroups) {
        // The next who asks may ask for all groups.
        if let Some((part, question)) = known.filter(|_| self.slice.is_whole()) {
            question.keep_groups(part, Arc::new(found));
        }
    }
}

/// The groups of the rows of some chunks.
fn add_rows(
    place: &Place,
    request: &AggregateRequest,
    visibility: &Visibility,
    slice: &Slice,
    chunks: Vec<usize>,
    partial: &mut Partial,
    groups: &Mutex<Groups>,
) -> Result<PartialGroups, Failed> {
    let mut filter = RowFilter::new(place, &request.filter, visibility)?;
    let mut measures = Measures::new(place)?;
    let mut keys: Vec<KeyReader> =
        request.group_by.iter().map(|by| KeyReader::new(place, by, visibility)).collect::<io::Result<_>>()?;
    let (mut times, mut rows) = (Vec::new(), Vec::new());
    let is_within = part_within(place, &request.filter).is_some();
    partial.begin(groups, request.with_percentiles.then(|| place.events()))?;
    for chunk in chunks {
        if Instant::now() >= request.deadline {
            return Err(Failed::Stop(Stop::Failed(ReadError::Deadline)));
        }
        match is_within {
            true => place.times_within(chunk, &[], &mut times)?,
            false => place.chunk_times(chunk, &mut times)?,
        }
        filter.rows(chunk, &times, &mut rows)?;
        if rows.is_empty() {
            continue;
        }
        if is_within {
            place.times_within(chunk, &rows, &mut times)?;
        }
        measures.load(place, chunk, &rows)?;
        for key in &mut keys {
            key.load(place, chunk, &rows)?;
        }
        for row in rows.iter().copied() {
            if !slice.is_whole() && !is_in_slice(slice, &mut keys, place, chunk, row, times[row])? {
                continue;
            }
            let short = [
                keys.first_mut().map(|key| key.short(row, times[row])),
                keys.get_mut(1).map(|key| key.short(row, times[row])),
            ];
            let is_short = short.iter().all(|part| !matches!(part, Some(None)));
            let short = is_short.then(|| short.map(|part| part.flatten().unwrap_or(i64::MIN)));
            let number = match short.and_then(|short| partial.known(short)) {
                Some(number) => number,
                None => {
                    let mut full = [KeyValue::Missing, KeyValue::Missing];
                    for (nth, key) in keys.iter_mut().enumerate() {
                        full[nth] = key.full(place, chunk, row, times[row])?;
                    }
                    partial.number(short, full, request.max_groups)?
                }
            };
            let (outcome, duration) = measures.of(place, chunk, row)?;
            partial.add(number, outcome, duration, times[row]);
        }
    }
    Ok(partial.end())
}

fn is_in_slice(
    slice: &Slice,
    keys: &mut [KeyReader],
    place: &Place,
    chunk: usize,
    row: usize,
    time: i64,
) -> io::Result<bool> {
    let mut hashes = [slice.hash(&KeyValue::Missing); 2];
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = key.hash(slice, place, chunk, row, time)?;
    }
    Ok(slice.has_hashes(hashes))
}

/// The sums of the whole part, if they know the groups.
fn by_value<'p>(
    place: &'p Place,
    request: &AggregateRequest,
    visibility: &Visibility,
    most_tops: usize,
) -> io::Result<Option<ByValue<'p>>> {
    match part_within(place, &request.filter) {
        Some(part) => ByValue::of(place, part, request, visibility, most_tops),
        None => Ok(None),
    }
}

/// Adds what sums tell of a place. Tells which chunks are left.
fn add_sums(
    mut sums: ChunkSums,
    place: usize,
    request: &AggregateRequest,
    candidates: &ChunkSet,
    groups: &Mutex<Groups>,
) -> Result<Vec<usize>, Failed> {
    let mut left = Vec::new();
    let mut groups = lock(groups);
    for chunk in candidates.iter() {
        if !sums.add_chunk(chunk, request, &mut groups)? {
            left.push(chunk);
        }
    }
    sums.told()?.iter().try_for_each(|told| groups.tell(place, told))?;
    Ok(left)
}

/// Reads one column by chunk.
struct ColumnReader {
    in_shape: Vec<bool>,
    column: u32,
    kind: Reading,
    values: Vec<i64>,
}

enum Reading {
    Codes(Arc<Packed>, Arc<Dictionary>),
    Numbers(Arc<Packed>, Encoding),
    Each,
}

impl ColumnReader {
    fn new(part: &Part, name: &str) -> io::Result<Option<ColumnReader>> {
        let Some((column, described)) = part.column(name) else { return Ok(None) };
        let encoding = described.encoding;
        let kind = match encoding {
            Encoding::Dictionary => Reading::Codes(part.packed(Section::Codes, column)?, part.dictionary(column)?),
            Encoding::Number { .. } if part.exceptions(column)?.is_empty() => {
                Reading::Numbers(part.packed(Section::Numbers, column)?, encoding)
            }
            _ => Reading::Each,
        };
        let in_shape = part.meta.shapes.iter().map(|shape| shape.columns.contains(&column)).collect();
        Ok(Some(ColumnReader { in_shape, column, kind, values: Vec::new() }))
    }

    fn load(&mut self, chunk: usize, rows: &[usize]) {
        match &self.kind {
            Reading::Codes(packed, _) | Reading::Numbers(packed, _) => packed.rows(chunk, rows, &mut self.values),
            Reading::Each => {}
        }
    }
}

/// Status and duration of rows.
struct Measures {
    status: Option<ColumnReader>,
    /// For each code of the status column.
    outcomes: Vec<Outcome>,
    duration: Option<ColumnReader>,
    shapes: Option<Arc<Packed>>,
    shape_of: Vec<i64>,
    /// Of the chunk of a tail: its rows' outcomes and durations, where its columns tell.
    of_tail: Vec<Option<(Outcome, Option<f64>)>>,
    lines: Option<super::tail::ChunkLines>,
}

impl Measures {
    fn new(place: &Place) -> io::Result<Measures> {
        let mut measures = Measures {
            status: None,
            outcomes: Vec::new(),
            duration: None,
            shapes: None,
            shape_of: Vec::new(),
            of_tail: Vec::new(),
            lines: None,
        };
        if let Place::Part(part) = place {
            measures.status = ColumnReader::new(part, "status")?;
            if let Some(ColumnReader { kind: Reading::Codes(_, dictionary), .. }) = &measures.status {
                let of = |code: i64| outcome(dictionary.get(code).map(Raw::valid));
                measures.outcomes = (1..=dictionary.len() as i64).map(of).collect();
            }
            measures.duration = ColumnReader::new(part, "duration_ms")?;
            measures.shapes = Some(part.packed(Section::Shapes, 0)?);
        }
        Ok(measures)
    }

    fn load(&mut self, place: &Place, chunk: usize, rows: &[usize]) -> io::Result<()> {
        if let Place::Tail(tail) = place {
            measure_tail(&tail.chunks[chunk], rows, &mut self.of_tail);
            let is_known = rows.iter().all(|row| self.of_tail.get(*row).is_some_and(Option::is_some));
            self.lines = if is_known { None } else { place.tail_lines(chunk)? };
        }
        if let Some(shapes) = &self.shapes {
            shapes.rows(chunk, rows, &mut self.shape_of);
        }
        self.status.iter_mut().chain(&mut self.duration).for_each(|column| column.load(chunk, rows));
        Ok(())
    }

    fn of(&self, place: &Place, chunk: usize, row: usize) -> io::Result<(Outcome, Option<f64>)> {
        let Place::Part(part) = place else {
            if let Some(Some(known)) = self.of_tail.get(row) {
                return Ok(*known);
            }
            let line = Raw::valid(self.lines.as_ref().expect("they were loaded").line(row));
            return Ok(measured(line));
        };
        let shape = self.shape_of[row] as usize;
        if shape == WHOLE as usize {
            return Ok(measured(Raw::valid(&part.line(chunk * CHUNK + row)?)));
        }
        let has = |column: &ColumnReader| column.in_shape.get(shape).copied().unwrap_or(false);
        let status = match self.status.as_ref().filter(|column| has(column)) {
            None => Outcome::Other,
            Some(column) => match &column.kind {
                Reading::Codes(..) => {
                    let code = column.values[row];
                    self.outcomes.get((code - 1) as usize).copied().unwrap_or(Outcome::Other)
                }
                _ => outcome(part.value(chunk * CHUNK + row, column.column)?.as_deref().map(Raw::valid)),
            },
        };
        let duration = match self.duration.as_ref().filter(|column| has(column)) {
            None => None,
            Some(column) => match &column.kind {
                Reading::Numbers(_, encoding) => encoding.number_style().map(|style| style.to_f64(column.values[row])),
                Reading::Codes(_, dictionary) => {
                    dictionary.get(column.values[row]).and_then(|value| Raw::valid(value).as_f64())
                }
                Reading::Each => {
                    part.value(chunk * CHUNK + row, column.column)?.and_then(|value| Raw::valid(&value).as_f64())
                }
            },
        };
        Ok((status, duration))
    }
}

/// Outcomes and durations of some rows of a chunk, where its columns tell.
fn measure_tail(chunk: &TailChunk, rows: &[usize], out: &mut Vec<Option<(Outcome, Option<f64>)>>) {
    out.clear();
    let column = |name: &str| number_of(name).and_then(|nth| chunk.columns.of(nth));
    let (Some(status), Some(duration)) = (column("status"), column("duration_ms")) else { return };
    out.resize(chunk.rows.len(), None);
    let outcomes: Vec<Outcome> = status.values().map(|value| outcome(Some(value))).collect();
    for row in rows {
        let outcome = match status.code(*row) {
            NONE => Outcome::Other,
            IN_LINE => continue,
            code => outcomes[usize::from(code) - 1],
        };
        out[*row] = match duration.code(*row) {
            NONE => Some((outcome, None)),
            IN_LINE => None,
            code => Some((outcome, duration.value_of(code).as_f64())),
        };
    }
}

fn measured(line: Raw<'_>) -> (Outcome, Option<f64>) {
    (outcome(line.get("status")), line.get("duration_ms").and_then(|value| value.as_f64()))
}

/// Reads one part of the keys of rows.
struct KeyReader<'a> {
    by: &'a GroupKey,
    visibility: &'a Visibility,
    column: Option<ColumnReader>,
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
    fn new(place: &Place, by: &'a GroupKey, visibility: &'a Visibility) -> io::Result<KeyReader<'a>> {
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

    fn load(&mut self, place: &Place, chunk: usize, rows: &[usize]) -> io::Result<()> {
        if let (GroupKey::Field(path), Place::Tail(tail)) = (self.by, place) {
            self.load_kept(&tail.chunks[chunk], path);
            let is_known = !self.codes.is_empty() && !self.codes.contains(&IN_LINE);
            self.lines = if is_known { None } else { place.tail_lines(chunk)? };
        }
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
    fn short(&mut self, row: usize, time: i64) -> Option<i64> {
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

    /// The hash of the key. That of a code is kept, and its text is not.
    fn hash(&mut self, slice: &Slice, place: &Place, chunk: usize, row: usize, time: i64) -> io::Result<u32> {
        let GroupKey::Field(path) = self.by else { return Ok(slice.hash(&self.full(place, chunk, row, time)?)) };
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

    fn full(&mut self, place: &Place, chunk: usize, row: usize, time: i64) -> io::Result<KeyValue> {
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
