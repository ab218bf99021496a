//! How many events a filter means: by what is kept and by sums, else row by row within a bound of work.

use std::time::Instant;

use super::by_value;
use super::candidates::Needs;
use super::kept::{Counted, Question, part_within};
use super::rows::RowFilter;
use super::search::{Place, Snapshot, Stop, covers, is_in_time, needs_of};
use crate::query::request::{CountLimit, Filter, ReadError, Total};
use crate::visibility::Visibility;

/// Blocks of texts that counting opens, about 50 microseconds each, before it answers "at least".
const MAX_COUNTED_BLOCKS: usize = 160;

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
        let mut counting =
            Counting { filter, visibility, needs, question, limit, deadline, count: 0, opened_blocks: 0 };
        let is_of_all = filter.query.is_none() && filter.equals.is_empty() && visibility.only_user().is_none();
        // The newest first: the page that was asked for has just opened their texts.
        for place in self.places().into_iter().rev() {
            if !is_in_time(&place, filter, visibility) {
                continue;
            }
            if is_of_all && covers(filter, place.times()) {
                counting.count += place.events() as u64;
            } else {
                match counting.add(&place) {
                    Ok(true) => return Ok(Total { count: counting.count, is_at_least: true }),
                    Ok(false) => {}
                    Err(Stop::Failed(ReadError::Deadline)) if limit != CountLimit::Exact => {
                        return Ok(Total { count: counting.count, is_at_least: true });
                    }
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::Io(error)) => drop(self.excuse::<()>(&place, Err(error))?),
                }
            }
            let count = counting.count;
            if let CountLimit::UpTo(most) = limit
                && count >= most
            {
                return Ok(Total { count, is_at_least: count > most || self.parts.len() + self.tails.len() > 1 });
            }
        }
        Ok(Total { count: counting.count, is_at_least: false })
    }
}

/// A count on its way through the places.
struct Counting<'a> {
    filter: &'a Filter,
    visibility: &'a Visibility,
    needs: Needs,
    question: Question,
    limit: CountLimit,
    deadline: Instant,
    count: u64,
    opened_blocks: usize,
}

impl Counting<'_> {
    /// Adds a place. Where the bound of work was reached the answer is `true`, and the count goes on there next time.
    fn add(&mut self, place: &Place) -> Result<bool, Stop> {
        let part = part_within(place, self.filter);
        let known = part.and_then(|part| self.question.count(part));
        let mut counted = known.unwrap_or(Counted { count: 0, left: usize::MAX });
        let before = counted;
        let ended = if counted.left == 0 { Ok(false) } else { self.count_rows(place, &mut counted) };
        self.count += counted.count;
        if let Some(part) = part.filter(|_| counted != before) {
            self.question.keep_count(part, counted);
        }
        ended
    }

    fn count_rows(&mut self, place: &Place, counted: &mut Counted) -> Result<bool, Stop> {
        let candidates = place.candidates(&self.needs)?;
        if counted.left == usize::MAX
            && !candidates.is_empty()
            && part_within(place, self.filter).is_some()
            && let Some(count) = by_value::count(place, self.filter, self.visibility)?
        {
            *counted = Counted { count, left: 0 };
            return Ok(false);
        }
        let mut chunks: Vec<usize> = candidates.iter().take_while(|chunk| *chunk < counted.left).collect();
        if !chunks.is_empty() {
            let mut filter = RowFilter::new(place, self.filter, self.visibility)?;
            let (mut times, mut rows) = (Vec::new(), Vec::new());
            while let Some(chunk) = chunks.pop() {
                if Instant::now() >= self.deadline {
                    return Err(Stop::Failed(ReadError::Deadline));
                }
                let is_enough = self.opened_blocks >= MAX_COUNTED_BLOCKS && filter.reads_lines();
                if is_enough && self.limit != CountLimit::Exact {
                    return Ok(true);
                }
                match part_within(place, self.filter) {
                    Some(_) => place.times_within(chunk, &[], &mut times)?,
                    None => place.chunk_times(chunk, &mut times)?,
                }
                let before = filter.opened_blocks();
                filter.rows(chunk, &times, &mut rows)?;
                self.opened_blocks += filter.opened_blocks() - before;
                (counted.count, counted.left) = (counted.count + rows.len() as u64, chunk);
            }
        }
        counted.left = 0;
        Ok(false)
    }
}
