//! A page: the first rows in an order, looked for by as many threads as it takes.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::IMPORTED;
use super::ahead;
use super::bits::CHUNK;
use super::budget::Held;
use super::candidates::Needs;
use super::kept::{Counted, Question, part_within};
use super::lock;
use super::order::{Best, Candidate, Order};
use super::parallel;
use super::part::Part;
use super::rows::RowFilter;
use super::search::{Place, Snapshot, Stop, is_in_time, needs_of};
use super::sort_column::{SortColumn, Worst};
use crate::event::{Id, Raw};
use crate::query::request::{Keyset, Page, PageRequest, ReadError, Row, Sort, SortKey};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// Rows of a page that one thread reads one after another.
const READ_TOGETHER: usize = 8;

impl Snapshot {
    /// The rows of one page.
    pub fn page(&self, request: &PageRequest, visibility: &Visibility) -> Result<Page, ReadError> {
        let (begun, places) = (Instant::now(), self.places());
        let wanted = request.offset.saturating_add(request.limit);
        let needs = needs_of(&request.filter, visibility);
        let mut order: Vec<usize> = (0..places.len()).collect();
        let bound = |place: &Place| match (&request.sort, request.is_descending) {
            (Sort::Seq, true) => (place.seqs().1 as i64).wrapping_neg(),
            (Sort::Seq, false) => place.seqs().0 as i64,
            (_, true) => place.times().1.wrapping_neg(),
            (_, false) => place.times().0,
        };
        let is_asked = |place: &Place| !is_passed(request, place) && is_in_time(place, &request.filter, visibility);
        order.retain(|nth| is_asked(&places[*nth]));
        order.sort_by_key(|nth| bound(&places[*nth]));
        let may_stop = request.may_be_partial && request.offset == 0 && request.sort == Sort::Time;
        let in_order: Vec<usize> = (0..order.len()).collect();
        let is_count = request.is_descending && request.sort == Sort::Time && request.after.is_none();
        let question = is_count.then(|| Question::of_count(&request.filter, visibility));
        let best = Mutex::new(Best::of(wanted + 1));
        let search = Search { snapshot: self, request, visibility, needs, question, best };
        let best = &search.best;
        parallel::each(begun, &in_order, |(): &mut (), at, may_start| {
            let nth = order[at];
            let place = &places[nth];
            if Instant::now() >= request.deadline && may_stop {
                lock(best).left.push(nth);
                return Ok(());
            }
            {
                let best = lock(best);
                if best.worst().is_some_and(|worst| is_behind(request, place, worst)) {
                    return Ok(());
                }
                if at == ahead::PARTS_BEFORE && best.rows.len() * 2 < wanted {
                    drop(best);
                    ahead::ask(order[at..].iter().filter_map(|nth| places[*nth].part()), &search.needs);
                }
            }
            match search.add_place(place, nth, may_start) {
                Ok(()) => Ok(()),
                Err(Stop::Failed(ReadError::Deadline)) if may_stop => {
                    lock(best).left.push(nth);
                    Ok(())
                }
                Err(Stop::Failed(error)) => Err(error),
                Err(Stop::Io(error)) => self.excuse::<()>(place, Err(error)).map(drop),
            }
        })?;
        let best = search.best.into_inner().unwrap_or_else(PoisonError::into_inner);
        let left: Vec<&Place> = best.left.iter().map(|nth| &places[*nth]).collect();
        if left.len() == order.len() && !left.is_empty() {
            return Err(ReadError::Deadline);
        }
        let mut resume = resume_at(request, &left)?;
        // Held until the page is whole.
        let held = best.held;
        let mut sorted = best.rows.into_sorted_vec();
        if let Some(resume) = &resume {
            let end = order_of(resume, request);
            sorted.truncate(sorted.partition_point(|candidate| candidate.order <= end));
        }
        let has_more = sorted.len() > wanted || resume.is_some();
        resume = resume.filter(|_| sorted.len() < wanted);
        let wanted: Vec<Candidate> = sorted.into_iter().take(wanted).skip(request.offset).collect();
        let rows = self.read_rows(begun, &places, &wanted, visibility)?;
        drop(held);
        Ok(Page { rows, has_more, resume })
    }

    /// The events of a page. Each may lie in another block of texts, of which a page expands more than it looks through.
    fn read_rows(
        &self,
        begun: Instant,
        places: &[Place],
        wanted: &[Candidate],
        visibility: &Visibility,
    ) -> Result<Vec<Row>, ReadError> {
        let stretches: Vec<usize> = (0..wanted.len().div_ceil(READ_TOGETHER)).collect();
        let read = parallel::each(begun, &stretches, |(rows, held): &mut (Vec<(usize, Row)>, Held), nth, _| {
            for (at, candidate) in wanted.iter().enumerate().skip(nth * READ_TOGETHER).take(READ_TOGETHER) {
                let place = &places[candidate.place];
                let read = read_row(place, candidate.row, visibility, candidate.order.clone());
                if let Some(Some(row)) = self.excuse(place, read)? {
                    held.add(&self.share, row.line.len() + std::mem::size_of::<Row>())?;
                    rows.push((at, row));
                }
            }
            Ok(())
        })?;
        // Held until the page is whole.
        let (rows, _held): (Vec<_>, Vec<Held>) = read.into_iter().unzip();
        let mut rows: Vec<(usize, Row)> = rows.into_iter().flatten().collect();
        rows.sort_unstable_by_key(|(at, _)| *at);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

/// What is asked of each place, and what was found so far.
struct Search<'a> {
    snapshot: &'a Snapshot,
    request: &'a PageRequest,
    visibility: &'a Visibility,
    needs: Needs,
    /// Under which places keep how many rows they have; none where a page is no beginning of a count.
    question: Option<Question>,
    /// Shared by the threads: each looks for what the page still lacks, not for a page of its own.
    best: Mutex<Best>,
}

impl Search<'_> {
    /// Looks for rows in one place, by its number.
    fn add_place(&self, place: &Place, number: usize, may_start: &dyn Fn()) -> Result<(), Stop> {
        let Search { snapshot, request, visibility, needs, best, .. } = self;
        let candidates = place.candidates(needs)?;
        if candidates.is_empty() {
            return Ok(());
        }
        let mut filter = RowFilter::new(place, &request.filter, visibility)?.with_needs(needs);
        let mut chunks: Vec<usize> = candidates.iter().collect();
        if request.is_descending {
            chunks.reverse();
        }
        let part = part_within(place, &request.filter);
        let mut counted = self.question.as_ref().zip(part).filter(|_| filter.reads_lines()).map(PlaceCount::new);
        let mut column = match &request.sort {
            Sort::Field(name) => SortColumn::new(place, name)?,
            Sort::Time | Sort::Seq => None,
        };
        let span = column.as_ref().map(|_| place.times());
        let (mut times, mut seqs, mut rows, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            if Instant::now() >= request.deadline {
                return Err(Stop::Failed(ReadError::Deadline));
            }
            may_start();
            if let (Sort::Seq, Some(after)) = (&request.sort, &request.after) {
                place.chunk_seqs(chunk, &mut seqs)?;
                let is_behind = |seq: u64| if request.is_descending { seq < after.seq } else { seq > after.seq };
                if !seqs.iter().any(|seq| is_behind(*seq as u64)) {
                    continue;
                }
            }
            let worst = lock(best).worst().cloned();
            let bound = worst.as_ref().zip(span).map(|(order, span)| Worst::new(order, span));
            if let (Some(column), Some(bound)) = (&mut column, &bound)
                && !column.may_precede(chunk, bound)
            {
                continue;
            }
            // Until the page is full, times and numbers are read only of what matches.
            let is_late = (worst.is_none() || column.is_some()) && part.is_some();
            if is_late {
                place.times_within(chunk, &[], &mut times)?;
            } else {
                place.chunk_times(chunk, &mut times)?;
                place.chunk_seqs(chunk, &mut seqs)?;
            }
            if worst.as_ref().is_some_and(|worst| !can_be_better(request, &times, &seqs, worst)) {
                // What is left of the place is not counted.
                counted = None;
                continue;
            }
            filter.rows(chunk, &times, &mut rows)?;
            if let Some(counted) = &mut counted {
                counted.add(chunk, rows.len());
            }
            if let Some(column) = &mut column {
                column.keep(chunk, &mut rows, bound.as_ref(), &mut keys)?;
            }
            if is_late && !rows.is_empty() {
                place.times_within(chunk, &rows, &mut times)?;
                place.seqs_of(chunk, &rows, &mut seqs)?;
            }
            let mut keys = keys.drain(..);
            for row in rows.iter().copied() {
                let (time, seq) = (times[row], seqs[row] as u64);
                let key = keys.next().unwrap_or(SortKey::None);
                if request.sort == Sort::Seq && seq >= IMPORTED {
                    continue;
                }
                let row = chunk * CHUNK + row;
                let time_key = if request.sort == Sort::Seq { 0 } else { time };
                let order = Order { key, time: time_key, seq, is_descending: request.is_descending };
                if request.after.as_ref().is_some_and(|after| order <= order_of(after, request))
                    || worst.as_ref().is_some_and(|worst| order >= *worst)
                {
                    continue;
                }
                lock(best).add(Candidate { order, place: number, row }, &snapshot.share).map_err(Stop::Failed)?;
            }
        }
        if let Some(counted) = &mut counted {
            counted.counted.left = 0;
        }
        Ok(())
    }
}

/// How many rows of a part a page has seen, kept for who counts them next: chunks come in the order in which they are counted.
struct PlaceCount<'a> {
    question: &'a Question,
    part: &'a Part,
    counted: Counted,
}

impl<'a> PlaceCount<'a> {
    fn new((question, part): (&'a Question, &'a Part)) -> PlaceCount<'a> {
        PlaceCount { question, part, counted: Counted { count: 0, left: usize::MAX } }
    }

    fn add(&mut self, chunk: usize, rows: usize) {
        self.counted = Counted { count: self.counted.count + rows as u64, left: chunk };
    }
}

impl Drop for PlaceCount<'_> {
    fn drop(&mut self) {
        let known = self.question.count(self.part).map_or(usize::MAX, |known| known.left);
        if self.counted.left < known {
            self.question.keep_count(self.part, self.counted);
        }
    }
}

/// Whether all of a place lies before where the page begins.
fn is_passed(request: &PageRequest, place: &Place) -> bool {
    match (&request.after, &request.sort, request.is_descending) {
        (Some(after), Sort::Seq, true) => place.seqs().0 >= after.seq,
        (Some(after), Sort::Seq, false) => place.seqs().1 <= after.seq,
        _ => false,
    }
}

/// Whether nothing of a place can come before the worst row of a full page.
fn is_behind(request: &PageRequest, place: &Place, worst: &Order) -> bool {
    match (&request.sort, request.is_descending) {
        (Sort::Field(_), _) => false,
        (Sort::Seq, true) => place.seqs().1 < worst.seq,
        (Sort::Seq, false) => place.seqs().0 > worst.seq,
        (Sort::Time, true) => place.times().1 < worst.time,
        (Sort::Time, false) => place.times().0 > worst.time,
    }
}

/// Where to go on after a deadline: before the first row that places which were not looked through can have. The deadline
/// is an error where that is no farther than the page began.
fn resume_at(request: &PageRequest, left: &[&Place]) -> Result<Option<Keyset>, ReadError> {
    let first = match request.is_descending {
        true => left.iter().map(|place| place.times().1).max(),
        false => left.iter().map(|place| place.times().0).min(),
    };
    let Some(first) = first else { return Ok(None) };
    // Behind every row of the time before, in the order of the page.
    let (time, seq) =
        if request.is_descending { (first.saturating_add(1), 0) } else { (first.saturating_sub(1), u64::MAX) };
    let resume = Keyset { key: SortKey::None, time, seq, row: None };
    let is_farther = request.after.as_ref().is_none_or(|after| order_of(&resume, request) > order_of(after, request));
    if is_farther { Ok(Some(resume)) } else { Err(ReadError::Deadline) }
}

fn can_be_better(request: &PageRequest, times: &[i64], seqs: &[i64], worst: &Order) -> bool {
    match (&request.sort, request.is_descending) {
        (Sort::Field(_), _) => true,
        (Sort::Seq, true) => seqs.iter().any(|seq| *seq as u64 > worst.seq),
        (Sort::Seq, false) => seqs.iter().any(|seq| (*seq as u64) < worst.seq),
        (Sort::Time, true) => times.iter().any(|time| *time >= worst.time),
        (Sort::Time, false) => times.iter().any(|time| *time <= worst.time),
    }
}

fn order_of(after: &Keyset, request: &PageRequest) -> Order {
    let time = if request.sort == Sort::Seq { 0 } else { after.time };
    Order { key: after.key.clone(), time, seq: after.seq, is_descending: request.is_descending }
}

fn read_row(place: &Place, row: usize, visibility: &Visibility, order: Order) -> io::Result<Option<Row>> {
    let line = place.line(row)?;
    let Some(shown) = visibility.show(&line) else { return Ok(None) };
    let time = place.time(row)?;
    // What follows from where the event came from stands in most lines.
    let own = Raw::valid(&line).get("id").and_then(|id| id.as_str()).and_then(|id| Id::parse(&id));
    Ok(Some(Row {
        seq: order.seq,
        time: Timestamp(time),
        received_at: Some(Timestamp(place.received(row)?)),
        id: own.map_or_else(|| place.id(row), Ok)?.to_string(),
        line: shown.into_owned(),
        keyset: Keyset { key: order.key, time, seq: order.seq, row: None },
    }))
}
