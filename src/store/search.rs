//! A snapshot search: which rows match, in which order, and how many.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::bits::CHUNK;
use super::budget::Share;
use super::candidates::{Needs, needs};
use super::chunks::ChunkSet;
use super::part::Part;
use super::tail::{ChunkLines, TailView};
use super::time_bounds;
use crate::event::{Id, Raw};
use crate::query::Expr;
use crate::query::request::{Filter, Keyset, ReadError, Row, SortKey};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// Times of so few rows of a chunk are read one by one, unless their column is kept.
const FEW_ROWS: usize = 4;
/// Of the newest events one in so many is asked for the names of its members.
const NAMES_STEP: usize = 8;

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

    pub fn part(&self) -> Option<&Part> {
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

    fn seqs_within(&self, range: Range<u64>) -> io::Result<Vec<u64>> {
        let (mut seqs, mut found) = (Vec::new(), Vec::new());
        for chunk in 0..self.chunks() {
            self.chunk_seqs(chunk, &mut seqs)?;
            found.extend(seqs.iter().map(|seq| *seq as u64).filter(|seq| range.contains(seq)));
        }
        Ok(found)
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
                match rows.len() {
                    0..=FEW_ROWS => {
                        for row in rows {
                            out[*row] = part.value_at(super::layout::Section::Time, 0, chunk * CHUNK + row)?;
                        }
                    }
                    _ => part.packed(super::layout::Section::Time, 0)?.rows(chunk, rows, out),
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

    /// The `seq` of some rows of a chunk; what `out` has for others is none of theirs.
    pub fn seqs_of(&self, chunk: usize, rows: &[usize], out: &mut Vec<i64>) -> io::Result<()> {
        match self {
            Place::Part(part) => part.packed(super::layout::Section::Seq, 0)?.rows(chunk, rows, out),
            Place::Tail(_) => self.chunk_seqs(chunk, out)?,
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

    pub fn time(&self, row: usize) -> io::Result<i64> {
        match self {
            Place::Part(part) => part.value_at(super::layout::Section::Time, 0, row),
            Place::Tail(tail) => Ok(tail.chunks[row / CHUNK].rows[row % CHUNK].time),
        }
    }

    pub fn id(&self, row: usize) -> io::Result<Id> {
        match self {
            Place::Part(part) => part.id(row),
            Place::Tail(tail) => Ok(tail.chunks[row / CHUNK].rows[row % CHUNK].id),
        }
    }

    pub fn received(&self, row: usize) -> io::Result<i64> {
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

    /// The first of the events from one `seq` to before another, and how many there are.
    pub fn between(&self, from: u64, to: u64) -> Result<Option<(u64, u64)>, ReadError> {
        let (mut least, mut count) = (u64::MAX, 0);
        for place in self.places() {
            let (first, last) = place.seqs();
            if from <= first && last < to {
                (least, count) = (least.min(first), count + place.events() as u64);
            } else if first < to && from <= last {
                let found = self.excuse(&place, place.seqs_within(from..to))?;
                for seq in found.unwrap_or_default() {
                    (least, count) = (least.min(seq), count + 1);
                }
            }
        }
        Ok((count > 0).then_some((least, count)))
    }

    /// Goes on without a part that cannot be read; every other error ends the question.
    pub fn excuse<T>(&self, place: &Place, result: io::Result<T>) -> Result<Option<T>, ReadError> {
        self.pass_over(place, result).map_err(|error| unavailable(&error))
    }

    /// The same for whoever stores: a part that cannot be read is noted, and set aside when the store is tidied.
    fn pass_over<T>(&self, place: &Place, result: io::Result<T>) -> io::Result<Option<T>> {
        match (result, place) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(error), Place::Part(part)) if is_damage(&error) => {
                note_damage(&self.damaged, part, &error);
                Ok(None)
            }
            // They are read again, without what is damaged, when a part is made of them.
            (Err(error), Place::Tail(_)) if is_damage(&error) => {
                tracing::error!(%error, "newest events of the store are damaged and skipped");
                Ok(None)
            }
            (Err(error), _) => Err(error),
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
            if let Some(Some(line)) = self.pass_over(place, line_in(place, id, is_own))? {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Whether an event with this `seq` and id is stored.
    pub fn has(&self, seq: u64, id: Id) -> io::Result<bool> {
        for place in self.places() {
            let id_of_seq = place.find_seq(seq).and_then(|row| row.map(|row| place.id(row)).transpose());
            if self.pass_over(&place, id_of_seq)?.flatten() == Some(id) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The line with this id in one place.
fn line_in(place: &Place, id: Id, is_own: bool) -> io::Result<Option<Vec<u8>>> {
    if let Place::Part(part) = place
        && !(is_own && part.may_have_own_id(id)?)
    {
        return Ok(None);
    }
    place.find_id(id)?.map(|row| place.line(row)).transpose()
}

/// Notes a part that turned out to be damaged, and says so once.
pub fn note_damage(damaged: &std::sync::Mutex<Vec<u64>>, part: &Part, error: &io::Error) {
    let mut damaged = super::lock(damaged);
    if !damaged.contains(&part.number) {
        tracing::error!(path = %part.path().display(), %error, "a part of the store is damaged and skipped");
        damaged.push(part.number);
    }
}

/// Whether bytes are wrong or missing, which another attempt cannot change.
pub fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
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
