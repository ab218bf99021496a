//! How many events a filter means: by what is kept and by sums, else row by row within a bound of work.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Instant;

use super::by_value;
use super::candidates::Needs;
use super::kept::{Counted, Question, part_within};
use super::parallel;
use super::rows::RowFilter;
use super::search::{Place, Snapshot, Stop, covers, is_in_time, needs_of};
use crate::query::request::{CountLimit, Filter, ReadError, Total};
use crate::visibility::Visibility;

/// Blocks of texts that counting opens, about 50 microseconds each, before it answers "at least".
const MAX_COUNTED_BLOCKS: usize = 160;
/// The same of a store with more than [`LARGE`] events: what is in so many of its blocks is in many more, so that the answer
/// would be the same later.
const MAX_COUNTED_OF_LARGE: usize = 32;
const LARGE: usize = 1_000_000;

impl Snapshot {
    /// How many events a filter means.
    pub fn count(
        &self,
        filter: &Filter,
        visibility: &Visibility,
        limit: CountLimit,
        deadline: Instant,
    ) -> Result<Total, ReadError> {
        let (needs, question) = (needs_of(filter, visibility), Question::of_count(filter, visibility));
        let is_of_all = filter.query.is_none() && filter.equals.is_empty() && visibility.only_user().is_none();
        let mut places = self.places();
        let events: usize = places.iter().map(Place::events).sum();
        let counting = Counting {
            filter,
            visibility,
            needs,
            question,
            limit,
            deadline,
            is_of_all,
            is_of_sums: by_value::is_of_sums(filter),
            count: AtomicU64::new(0),
            max_blocks: if events > LARGE { MAX_COUNTED_OF_LARGE } else { MAX_COUNTED_BLOCKS },
            opened_blocks: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
        };
        // The newest first: the page that was asked for has just opened their texts.
        places.retain(|place| is_in_time(place, filter, visibility));
        places.reverse();
        let order: Vec<usize> = (0..places.len()).collect();
        parallel::each(Instant::now(), &order, |(): &mut (), nth, may_start| {
            match counting.add(&places[nth], may_start) {
                Ok(()) => Ok(()),
                Err(Stop::Failed(ReadError::Deadline)) if limit != CountLimit::Exact => {
                    counting.has_ended.store(true, Relaxed);
                    Ok(())
                }
                Err(Stop::Failed(error)) => Err(error),
                Err(Stop::Io(error)) => self.excuse::<()>(&places[nth], Err(error)).map(drop),
            }
        })?;
        let count = counting.count.into_inner();
        let is_at_least = counting.has_ended.into_inner()
            || matches!(limit, CountLimit::UpTo(most)
                if count > most || count == most && self.parts.len() + self.tails.len() > 1);
        Ok(Total { count, is_at_least })
    }
}

/// A count on its way through the places, by two threads if it takes long.
struct Counting<'a> {
    filter: &'a Filter,
    visibility: &'a Visibility,
    needs: Needs,
    question: Question,
    limit: CountLimit,
    deadline: Instant,
    /// Whether the filter accepts whatever lies within its time.
    is_of_all: bool,
    /// Whether it asks of members alone that have sums.
    is_of_sums: bool,
    count: AtomicU64,
    max_blocks: usize,
    opened_blocks: AtomicUsize,
    /// Whether something was left uncounted: the answer is "at least".
    has_ended: AtomicBool,
}

impl Counting<'_> {
    /// Adds a place, unless enough is counted.
    fn add(&self, place: &Place, may_start: &dyn Fn()) -> Result<(), Stop> {
        let is_enough = matches!(self.limit, CountLimit::UpTo(most) if self.count.load(Relaxed) >= most);
        if is_enough || self.has_ended.load(Relaxed) {
            return Ok(());
        }
        if self.is_of_all && covers(self.filter, place.times()) {
            self.count.fetch_add(place.events() as u64, Relaxed);
            return Ok(());
        }
        let part = part_within(place, self.filter);
        let known = part.and_then(|part| self.question.count(part));
        let mut counted = known.unwrap_or(Counted { count: 0, left: usize::MAX });
        let before = counted;
        let ended = if counted.left == 0 { Ok(()) } else { self.count_rows(place, &mut counted, may_start) };
        self.count.fetch_add(counted.count, Relaxed);
        // Where the bound of work was reached, the count goes on there next time.
        if let Some(part) = part.filter(|_| counted != before) {
            self.question.keep_count(part, counted);
        }
        ended
    }

    fn count_rows(&self, place: &Place, counted: &mut Counted, may_start: &dyn Fn()) -> Result<(), Stop> {
        let may_be_known = counted.left == usize::MAX && part_within(place, self.filter).is_some();
        let by_sums = |filter: &RowFilter<'_>| if may_be_known { by_value::count(place, filter) } else { Ok(None) };
        let new_filter = || Ok::<_, Stop>(RowFilter::new(place, self.filter, self.visibility)?.with_needs(&self.needs));
        // Sums are asked before postings where they are likely to know, since most parts have the user.
        let first = if may_be_known && self.is_of_sums { Some(new_filter()?) } else { None };
        if let Some(count) = first.as_ref().map_or(Ok(None), by_sums)? {
            *counted = Counted { count, left: 0 };
            return Ok(());
        }
        let candidates = place.candidates(&self.needs)?;
        let mut chunks: Vec<usize> = candidates.iter().take_while(|chunk| *chunk < counted.left).collect();
        if !chunks.is_empty() {
            let mut filter = match first {
                Some(filter) => filter,
                None => {
                    let filter = new_filter()?;
                    if let Some(count) = by_sums(&filter)? {
                        *counted = Counted { count, left: 0 };
                        return Ok(());
                    }
                    filter
                }
            };
            let (mut times, mut rows) = (Vec::new(), Vec::new());
            while let Some(chunk) = chunks.pop() {
                if Instant::now() >= self.deadline {
                    return Err(Stop::Failed(ReadError::Deadline));
                }
                may_start();
                let is_enough = self.opened_blocks.load(Relaxed) >= self.max_blocks && filter.reads_lines();
                if is_enough && self.limit != CountLimit::Exact {
                    self.has_ended.store(true, Relaxed);
                    return Ok(());
                }
                match part_within(place, self.filter) {
                    Some(_) => place.times_within(chunk, &[], &mut times)?,
                    None => place.chunk_times(chunk, &mut times)?,
                }
                let before = filter.opened_blocks();
                filter.rows(chunk, &times, &mut rows)?;
                self.opened_blocks.fetch_add(filter.opened_blocks() - before, Relaxed);
                (counted.count, counted.left) = (counted.count + rows.len() as u64, chunk);
            }
        }
        counted.left = 0;
        Ok(())
    }
}
