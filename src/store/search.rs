//! A snapshot search: which rows match, in which order, and how many.

use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::IMPORTED;
use super::ahead;
use super::bits::CHUNK;
use super::budget::{Held, Share};
use super::candidates::{Needs, needs};
use super::chunks::ChunkSet;
use super::order::{Best, Candidate, Order, weight_of};
use super::parallel;
use super::part::Part;
use super::rows::RowFilter;
use super::tail::{ChunkLines, TailView};
use super::time_bounds;
use crate::event::{Id, Raw};
use crate::query::Expr;
use crate::query::request::{Filter, Keyset, Page, PageRequest, ReadError, Row, Sort, SortKey};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// Of the newest events one in so many is asked for the names of its members.
const NAMES_STEP: usize = 8;
/// Rows of a page that one thread reads one after another.
const READ_TOGETHER: usize = 8;

/// Everything that is stored, as it was at one moment.
#[derive(Clone)]
pub struct Snapshot {
    pub parts: Vec<Arc<Part>>,
    pub tails: Vec<TailView>,
    /// Parts that turned out to be damaged while they were read.
    pub damaged: Arc<std::sync::Mutex<Vec<u64>>>,
    /// What the question holds in memory.
    pub share: Arc<Share>,
}

/// A part or a tail.
#[derive(Clone)]
pub enum Place {
    Part(Arc<Part>),
    Tail(TailView),
}

impl Place {
    pub fn chunks(&self) -> usize {
        match self {
            Place::Part(part) => part.chunks(),
            Place::Tail(tail) => tail.chunks.len(),
        }
    }

    pub fn events(&self) -> usize {
        match self {
            Place::Part(part) => part.events(),
            Place::Tail(tail) => tail.chunks.iter().map(|chunk| chunk.rows.len()).sum(),
        }
    }

    fn part(&self) -> Option<&Part> {
        match self {
            Place::Part(part) => Some(part),
            Place::Tail(_) => None,
        }
    }

    /// The earliest and the latest time of an event.
    pub fn times(&self) -> (i64, i64) {
        match self {
            Place::Part(part) => (part.meta.min_time, part.meta.max_time),
            Place::Tail(tail) => (
                tail.chunks.iter().map(|chunk| chunk.min_time).min().unwrap_or(i64::MAX),
                tail.chunks.iter().map(|chunk| chunk.max_time).max().unwrap_or(i64::MIN),
            ),
        }
    }

    pub fn seqs(&self) -> (u64, u64) {
        match self {
            Place::Part(part) => (part.meta.first_seq, part.meta.last_seq),
            Place::Tail(tail) => {
                let seqs = || tail.chunks.iter().flat_map(|chunk| chunk.rows.iter().map(|row| row.seq));
                (seqs().min().unwrap_or(u64::MAX), seqs().max().unwrap_or(0))
            }
        }
    }

    /// The chunks that can have what is needed.
    pub fn candidates(&self, needs: &Needs) -> io::Result<ChunkSet> {
        match self {
            Place::Part(part) => needs.chunks(part.chunks(), &mut &**part),
            Place::Tail(tail) => {
                let mut set = ChunkSet::none(tail.chunks.len());
                for (nth, chunk) in tail.chunks.iter().enumerate() {
                    // An open chunk, and one that was just loaded, has no hashes yet.
                    if chunk.hashes.is_empty() || needs.is_in(&chunk.hashes) {
                        set.insert(nth);
                    }
                }
                Ok(set)
            }
        }
    }

    /// Times of the rows of a chunk.
    pub fn chunk_times(&self, chunk: usize, out: &mut Vec<i64>) -> io::Result<()> {
        match self {
            Place::Part(part) => part.packed(super::layout::Section::Time, 0)?.chunk(chunk, out),
            Place::Tail(tail) => {
                out.clear();
                out.extend(tail.chunks[chunk].rows.iter().map(|row| row.time));
            }
        }
        Ok(())
    }

    /// The rows of a chunk.
    pub fn chunk_len(&self, chunk: usize) -> usize {
        match self {
            Place::Part(part) => CHUNK.min(part.events() - chunk * CHUNK),
            Place::Tail(tail) => tail.chunks[chunk].rows.len(),
        }
    }

    /// Times of rows of a chunk whose place lies within a filter's time: where no row is asked for, any time within it.
    pub fn times_within(&self, chunk: usize, rows: &[usize], out: &mut Vec<i64>) -> io::Result<()> {
        match self {
            Place::Part(part) => {
                out.clear();
                out.resize(self.chunk_len(chunk), part.meta.min_time);
                if !rows.is_empty() {
                    part.packed(super::layout::Section::Time, 0)?.rows(chunk, rows, out);
                }
                Ok(())
            }
            Place::Tail(_) => self.chunk_times(chunk, out),
        }
    }

    pub fn chunk_seqs(&self, chunk: usize, out: &mut Vec<i64>) -> io::Result<()> {
        match self {
            Place::Part(part) => part.packed(super::layout::Section::Seq, 0)?.chunk(chunk, out),
            Place::Tail(tail) => {
                out.clear();
                out.extend(tail.chunks[chunk].rows.iter().map(|row| row.seq as i64));
            }
        }
        Ok(())
    }

    /// The lines of the rows of a chunk that a tail has; parts give theirs row by row.
    pub fn tail_lines(&self, chunk: usize) -> io::Result<Option<ChunkLines>> {
        match self {
            Place::Part(_) => Ok(None),
            Place::Tail(tail) => tail.chunks[chunk].lines().map(Some),
        }
    }

    pub fn line(&self, row: usize) -> io::Result<Vec<u8>> {
        match self {
            Place::Part(part) => part.line(row),
            Place::Tail(tail) => Ok(tail.chunks[row / CHUNK].lines()?.line(row % CHUNK).to_vec()),
        }
    }

    fn time(&self, row: usize) -> io::Result<i64> {
        match self {
            Place::Part(part) => part.value_at(super::layout::Section::Time, 0, row),
            Place::Tail(tail) => Ok(tail.chunks[row / CHUNK].rows[row % CHUNK].time),
        }
    }

    fn id(&self, row: usize) -> io::Result<Id> {
        match self {
            Place::Part(part) => part.id(row),
            Place::Tail(tail) => Ok(tail.chunks[row / CHUNK].rows[row % CHUNK].id),
        }
    }

    fn received(&self, row: usize) -> io::Result<i64> {
        match self {
            Place::Part(part) => part.value_at(super::layout::Section::Received, 0, row),
            Place::Tail(tail) => Ok(tail.chunks[row / CHUNK].rows[row % CHUNK].received),
        }
    }

    fn find_id(&self, id: Id) -> io::Result<Option<usize>> {
        match self {
            Place::Part(part) => part.find_id(id),
            Place::Tail(tail) => Ok(tail.chunks.iter().flat_map(|chunk| &chunk.rows).position(|row| row.id == id)),
        }
    }

    fn find_seq(&self, seq: u64) -> io::Result<Option<usize>> {
        match self {
            Place::Part(part) => part.find_seq(seq),
            Place::Tail(tail) => Ok(tail.chunks.iter().flat_map(|chunk| &chunk.rows).position(|row| row.seq == seq)),
        }
    }
}

/// A failed read of the store, as whoever asked hears it.
pub fn unavailable(error: &io::Error) -> ReadError {
    ReadError::Unavailable(format!("the store cannot be read: {error}"))
}

impl Snapshot {
    pub fn places(&self) -> Vec<Place> {
        let parts = self.parts.iter().cloned().map(Place::Part);
        parts.chain(self.tails.iter().cloned().map(Place::Tail)).collect()
    }

    /// Notes a part that cannot be read and goes on without it; every other error ends the question.
    pub fn excuse<T>(&self, place: &Place, result: io::Result<T>) -> Result<Option<T>, ReadError> {
        match (result, place) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(error), Place::Part(part)) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(path = %part.path().display(), %error, "a part of the store is damaged and skipped");
                self.damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(part.number);
                Ok(None)
            }
            // They are read again, without what is damaged, when a part is made of them.
            (Err(error), Place::Tail(_)) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%error, "newest events of the store are damaged and skipped");
                Ok(None)
            }
            (Err(error), _) => Err(unavailable(&error)),
        }
    }

    /// The names of all members, sorted. Of lines that are kept whole, and of the newest events, only some are looked at.
    pub fn names(&self) -> Vec<String> {
        let mut names = std::collections::BTreeSet::new();
        for part in &self.parts {
            names.extend(part.meta.columns.iter().map(|column| column.name.clone()).filter(|name| !name.is_empty()));
        }
        for chunk in self.tails.iter().flat_map(|tail| &tail.chunks) {
            let Ok(lines) = chunk.lines() else { continue };
            for row in (0..chunk.rows.len()).step_by(NAMES_STEP) {
                let members = Raw::valid(lines.line(row)).members();
                names.extend(members.map(|(name, _)| crate::event::escape::unescape(name).into_owned()));
            }
        }
        names.into_iter().collect()
    }

    /// The rows of one page.
    pub fn page(&self, request: &PageRequest, visibility: &Visibility) -> Result<Page, ReadError> {
        let places = self.places();
        let wanted = request.offset.saturating_add(request.limit);
        let needs = needs_of(&request.filter, visibility);
        let mut order: Vec<usize> = (0..places.len()).collect();
        let bound = |place: &Place| match (&request.sort, request.is_descending) {
            (Sort::Seq, true) => (place.seqs().1 as i64).wrapping_neg(),
            (Sort::Seq, false) => place.seqs().0 as i64,
            (_, true) => place.times().1.wrapping_neg(),
            (_, false) => place.times().0,
        };
        order.retain(|nth| is_in_time(&places[*nth], &request.filter, visibility));
        order.sort_by_key(|nth| bound(&places[*nth]));
        let may_stop = request.may_be_partial && request.offset == 0 && request.sort == Sort::Time;
        let in_order: Vec<usize> = (0..order.len()).collect();
        let found = parallel::each(&in_order, |best: &mut Best, at| {
            let nth = order[at];
            let place = &places[nth];
            if Instant::now() >= request.deadline && may_stop {
                best.left.push(nth);
                return Ok(());
            }
            let worst = best.rows.peek().filter(|_| best.rows.len() > wanted);
            if worst.is_some_and(|worst| is_behind(request, place, worst)) {
                return Ok(());
            }
            if at == ahead::PARTS_BEFORE && best.rows.len() * 2 < wanted {
                ahead::ask(order[at..].iter().filter_map(|nth| places[*nth].part()), &needs);
            }
            match self.page_of_place(request, visibility, &needs, place, nth, wanted, best) {
                Ok(()) => Ok(()),
                Err(Stop::Failed(ReadError::Deadline)) if may_stop => {
                    best.left.push(nth);
                    Ok(())
                }
                Err(Stop::Failed(error)) => Err(error),
                Err(Stop::Io(error)) => self.excuse::<()>(place, Err(error)).map(drop),
            }
        })?;
        let left: Vec<&Place> = found.iter().flat_map(|best| &best.left).map(|nth| &places[*nth]).collect();
        if left.len() == order.len() && !left.is_empty() {
            return Err(ReadError::Deadline);
        }
        let mut resume = resume_at(request, &left)?;
        // Held until the page is whole.
        let (found, held): (Vec<BinaryHeap<Candidate>>, Vec<Held>) =
            found.into_iter().map(|best| (best.rows, best.held)).unzip();
        let best: BinaryHeap<Candidate> = found.into_iter().flatten().collect();
        let mut sorted = best.into_sorted_vec();
        if let Some(resume) = &resume {
            let end = order_of(resume, request);
            sorted.truncate(sorted.partition_point(|candidate| candidate.order <= end));
        }
        let has_more = sorted.len() > wanted || resume.is_some();
        resume = resume.filter(|_| sorted.len() < wanted);
        let wanted: Vec<Candidate> = sorted.into_iter().take(wanted).skip(request.offset).collect();
        let rows = self.read_rows(&places, &wanted, visibility)?;
        drop(held);
        Ok(Page { rows, has_more, resume })
    }

    /// The events of a page. Each may lie in another block of texts, of which a page expands more than it looks through.
    fn read_rows(
        &self,
        places: &[Place],
        wanted: &[Candidate],
        visibility: &Visibility,
    ) -> Result<Vec<Row>, ReadError> {
        let stretches: Vec<usize> = (0..wanted.len().div_ceil(READ_TOGETHER)).collect();
        let read = parallel::each(&stretches, |(rows, held): &mut (Vec<(usize, Row)>, Held), nth| {
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

    #[allow(clippy::too_many_arguments, reason = "one step of a loop, in a function of its own to be read")]
    fn page_of_place(
        &self,
        request: &PageRequest,
        visibility: &Visibility,
        needs: &Needs,
        place: &Place,
        number: usize,
        wanted: usize,
        Best { rows: best, held, .. }: &mut Best,
    ) -> Result<(), Stop> {
        let candidates = place.candidates(needs)?;
        if candidates.is_empty() {
            return Ok(());
        }
        let mut filter = RowFilter::new(place, &request.filter, visibility)?;
        let mut chunks: Vec<usize> = candidates.iter().collect();
        if request.is_descending {
            chunks.reverse();
        }
        let (mut times, mut seqs, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            if Instant::now() >= request.deadline {
                return Err(Stop::Failed(ReadError::Deadline));
            }
            place.chunk_times(chunk, &mut times)?;
            place.chunk_seqs(chunk, &mut seqs)?;
            if let Some(worst) = best.peek().filter(|_| best.len() > wanted)
                && !can_be_better(request, &times, &seqs, worst)
            {
                continue;
            }
            filter.rows(chunk, &times, &mut rows)?;
            for row in rows.iter().copied() {
                let (time, seq) = (times[row], seqs[row] as u64);
                if request.sort == Sort::Seq && seq >= IMPORTED {
                    continue;
                }
                let row = chunk * CHUNK + row;
                let key = match &request.sort {
                    Sort::Time => SortKey::None,
                    Sort::Seq => SortKey::None,
                    Sort::Field(name) => filter.sort_key(row, name)?,
                };
                let time_key = if request.sort == Sort::Seq { 0 } else { time };
                let order = Order { key, time: time_key, seq, is_descending: request.is_descending };
                if request.after.as_ref().is_some_and(|after| order <= order_of(after, request)) {
                    continue;
                }
                if best.len() > wanted && best.peek().is_some_and(|worst| order >= worst.order) {
                    continue;
                }
                held.add(&self.share, weight_of(&order)).map_err(Stop::Failed)?;
                best.push(Candidate { order, place: number, row });
                if best.len() > wanted + 1
                    && let Some(worst) = best.pop()
                {
                    held.sub(weight_of(&worst.order));
                }
            }
        }
        Ok(())
    }

    /// One event by its id, as far as it may be seen.
    pub fn by_id(&self, id: Id, visibility: &Visibility) -> Result<Option<Row>, ReadError> {
        self.one(visibility, |place| place.find_id(id))
    }

    /// One event by its `seq`.
    pub fn by_seq(&self, seq: u64, visibility: &Visibility) -> Result<Option<Row>, ReadError> {
        self.one(visibility, |place| place.find_seq(seq))
    }

    fn one(
        &self,
        visibility: &Visibility,
        find: impl Fn(&Place) -> io::Result<Option<usize>>,
    ) -> Result<Option<Row>, ReadError> {
        for place in self.places().iter().rev() {
            let Some(Some(row)) = self.excuse(place, find(place))? else { continue };
            let read = whole_row(place, row, visibility);
            if let Some(found) = self.excuse(place, read)? {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The stored line with this id, for whoever stores another one.
    pub fn line_of(&self, id: Id, is_own: bool) -> io::Result<Option<Vec<u8>>> {
        for place in self.places().iter().rev() {
            if let Place::Part(part) = place
                && !(is_own && part.may_have_own_id(id)?)
            {
                continue;
            }
            if let Some(row) = place.find_id(id)? {
                return place.line(row).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether an event with this `seq` and id is stored.
    pub fn has(&self, seq: u64, id: Id) -> io::Result<bool> {
        for place in self.places() {
            if let Some(row) = place.find_seq(seq)?
                && place.id(row)? == id
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Why a look into one place ended early.
pub enum Stop {
    /// For the whole question.
    Failed(ReadError),
    /// Of this place.
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

pub fn needs_of(filter: &Filter, visibility: &Visibility) -> Needs {
    let all = Expr::All;
    needs(filter.query.as_ref().map_or(&all, |query| query.expr()), &filter.equals, visibility)
}

/// Whether events of a place can be within the times that a filter asks for.
pub fn is_in_time(place: &Place, filter: &Filter, visibility: &Visibility) -> bool {
    let (min, max) = place.times();
    let is_within = filter.from.is_none_or(|from| max >= from.0) && filter.to.is_none_or(|to| min < to.0);
    min <= max
        && is_within
        && match (place, &filter.query) {
            (Place::Part(part), Some(query)) => {
                let (first, last) = time_bounds::of(part, query.expr(), visibility);
                first <= max && min <= last
            }
            _ => true,
        }
}

pub fn covers(filter: &Filter, (min, max): (i64, i64)) -> bool {
    filter.from.is_none_or(|from| min >= from.0) && filter.to.is_none_or(|to| max < to.0)
}

/// Whether nothing of a place can come before the worst row of a full page.
fn is_behind(request: &PageRequest, place: &Place, worst: &Candidate) -> bool {
    match (&request.sort, request.is_descending) {
        (Sort::Field(_), _) => false,
        (Sort::Seq, true) => place.seqs().1 < worst.order.seq,
        (Sort::Seq, false) => place.seqs().0 > worst.order.seq,
        (Sort::Time, true) => place.times().1 < worst.order.time,
        (Sort::Time, false) => place.times().0 > worst.order.time,
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

fn can_be_better(request: &PageRequest, times: &[i64], seqs: &[i64], worst: &Candidate) -> bool {
    match (&request.sort, request.is_descending) {
        (Sort::Field(_), _) => true,
        (Sort::Seq, true) => seqs.iter().any(|seq| *seq as u64 > worst.order.seq),
        (Sort::Seq, false) => seqs.iter().any(|seq| (*seq as u64) < worst.order.seq),
        (Sort::Time, true) => times.iter().any(|time| *time >= worst.order.time),
        (Sort::Time, false) => times.iter().any(|time| *time <= worst.order.time),
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
    Ok(Some(Row {
        seq: order.seq,
        time: Timestamp(time),
        received_at: Some(Timestamp(place.received(row)?)),
        id: place.id(row)?.to_string(),
        line: shown.into_owned(),
        keyset: Keyset { key: order.key, time, seq: order.seq, row: None },
    }))
}

fn whole_row(place: &Place, row: usize, visibility: &Visibility) -> io::Result<Option<Row>> {
    let line = place.line(row)?;
    let Some(shown) = visibility.show_whole(&line) else { return Ok(None) };
    let mut seqs = Vec::new();
    place.chunk_seqs(row / CHUNK, &mut seqs)?;
    let (time, seq) = (place.time(row)?, seqs[row % CHUNK] as u64);
    Ok(Some(Row {
        seq,
        time: Timestamp(time),
        received_at: Some(Timestamp(place.received(row)?)),
        id: place.id(row)?.to_string(),
        line: shown.into_owned(),
        keyset: Keyset { key: SortKey::None, time, seq, row: None },
    }))
}

/// The value that an event is sorted by, from its JSON.
pub fn sort_key(value: Option<Raw<'_>>) -> SortKey {
    match value {
        None => SortKey::Missing,
        Some(value) if value.is_null() => SortKey::Missing,
        Some(value) => match value.as_f64() {
            Some(number) => SortKey::Number(number),
            None => SortKey::text(&value.display()),
        },
    }
}
