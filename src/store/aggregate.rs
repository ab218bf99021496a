//! Counts, sums and percentiles over matching events, grouped by up to two keys.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::bits::{CHUNK, Packed};
use super::by_value::ByValue;
use super::candidates::Needs;
use super::coded::{IN_LINE, NONE, number_of};
use super::groups::{Failed, Groups, KeyValue, Partial, PartialGroups};
use super::kept::{Question, fits, part_within};
use super::layout::Section;
use super::lock;
use super::parallel;
use super::part::Part;
use super::row_keys::{ColumnReader, KeyReader, Reading};
use super::rows::RowFilter;
use super::search::{Place, Snapshot, Stop, is_in_time, needs_of};
use super::slices::{Slice, too_many};
use super::split::WHOLE;
use super::sums::ChunkSums;
use super::tail::TailChunk;
use crate::event::Raw;
use crate::query::request::{AggregateRequest, ReadError};
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
        let (needs, places) = (slice.needs(needs_of(&request.filter, visibility)), self.places());
        let order: Vec<usize> =
            (0..places.len()).filter(|nth| is_in_time(&places[*nth], &request.filter, visibility)).collect();
        let of_failure = |place: &Place, failed: Failed| match failed {
            Failed::Stop(Stop::Failed(error)) => Err(error),
            Failed::Stop(Stop::Io(error)) => self.excuse::<()>(place, Err(error)).map(drop),
            Failed::TooMany => Err(too_many(request)),
        };
        let groups = Mutex::new(Groups::new(&self.share, slice.clone()));
        let question = Question::of_groups(request, visibility);
        let most_tops = if request.group_by.is_empty() { usize::MAX } else { MAX_HIDDEN / places.len().max(1) };
        let kept = Mutex::default();
        let asking = Asking { request, visibility, needs, question, most_tops, slice, groups, kept };
        parallel::each_of_groups(&order, |partial: &mut Partial, nth| {
            asking.add_place(&places[nth], nth, partial).or_else(|failed| of_failure(&places[nth], failed))
        })?;
        let unsettled = lock(&asking.groups).unsettled();
        parallel::each_of_groups(&unsettled, |partial: &mut Partial, nth| {
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
    /// What was kept of places and does not tell all of their durations.
    kept: Mutex<HashMap<usize, Arc<PartialGroups>>>,
}

impl Asking<'_> {
    /// Adds the groups of a place, of whose durations perhaps only the greatest.
    fn add_place(&self, place: &Place, nth: usize, partial: &mut Partial) -> Result<(), Failed> {
        let Asking { request, visibility, needs, slice, groups, .. } = self;
        let known = part_within(place, &request.filter).zip(self.question.as_ref());
        if let Some(kept) = known.and_then(|(part, question)| question.groups(part)) {
            kept.merge(nth, request, groups)?;
            if kept.hides_some() {
                lock(&self.kept).insert(nth, kept);
            }
            return Ok(());
        }
        let candidates = place.candidates(needs)?;
        // Without candidates no column is opened.
        let found = if candidates.is_empty() {
            PartialGroups::none()
        } else if let Some(by_value) = by_value(place, request, visibility, self.most_tops)? {
            by_value.groups(request, needs, partial, groups)?
        } else if let Some(mut sums) = ChunkSums::of(place, request, visibility)? {
            let left: Vec<usize> = candidates.iter().filter(|chunk| !sums.add_chunk(*chunk, request)).collect();
            let found = sums.groups()?;
            match left.is_empty() {
                true => found,
                false => found.and(add_rows(place, request, visibility, slice, left, partial, groups)?),
            }
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
        let rows_of = |chunks: Vec<usize>, partial: &mut Partial| {
            add_rows(place, request, visibility, slice, chunks, partial, groups)
        };
        // What is told is numbered in a statement of its own: whoever reads rows takes the same lock.
        let kept = lock(&self.kept).remove(&nth);
        let (told, found, others) = if let Some(kept) = kept {
            let told = lock(groups).numbered(&kept);
            let found = match by_value(place, request, visibility, 0)? {
                Some(by_value) => by_value.groups(request, needs, partial, groups)?,
                None => rows_of(candidates.iter().collect(), partial)?,
            };
            (told, found, PartialGroups::none())
        } else if let Some(of_tops) = by_value(place, request, visibility, self.most_tops)? {
            let told = of_tops.groups(request, needs, partial, groups)?;
            let told = lock(groups).numbered(&told);
            let found = match by_value(place, request, visibility, 0)? {
                Some(by_value) => by_value.groups(request, needs, partial, groups)?,
                None => rows_of(candidates.iter().collect(), partial)?,
            };
            (told, found, PartialGroups::none())
        } else if let Some(mut sums) = ChunkSums::of(place, request, visibility)? {
            let (served, left) = candidates.iter().partition(|chunk| sums.add_chunk(*chunk, request));
            let told = lock(groups).numbered(&sums.groups()?);
            (told, rows_of(served, partial)?, rows_of(left, partial)?)
        } else {
            return Ok(());
        };
        lock(groups).reveal(nth, told, &found)?;
        let found = if fits(&found) { found } else { found.greatest() };
        self.keep(part_within(place, &request.filter).zip(self.question.as_ref()), found.and(others));
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
    let needs = needs_of(&request.filter, visibility);
    let mut filter = RowFilter::new(place, &request.filter, visibility)?.with_needs(&needs);
    let mut measures = Measures::new(place, request.with_durations)?;
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
            let short = match &keys[..] {
                [key] if !is_short => key.short_of_uuid(row),
                _ => is_short.then(|| short.map(|part| part.flatten().unwrap_or(i64::MIN))),
            };
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
    fn new(place: &Place, with_durations: bool) -> io::Result<Measures> {
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
            if with_durations {
                measures.duration = ColumnReader::new(part, "duration_ms")?;
            }
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
                Reading::Uuids(..) | Reading::Each => {
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
