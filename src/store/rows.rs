//! Which rows of a chunk match: by columns as far as possible, by lines otherwise.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::bits::{CHUNK, Packed};
use super::candidates::Needs;
use super::layout::Section;
use super::part::{Part, TextCursor};
use super::plan::{Accepted, NO, Plan, YES, combine, equal, plan_of};
use super::search::Place;
use super::split::WHOLE;
use super::tail_filter::TailPlan;
use super::text::BLOCK_ROWS;
use super::word_blocks::{self, BlockNeeds};
use crate::event::Raw;
use crate::query::request::Filter;
use crate::visibility::Visibility;

/// What the texts of a block have shown.
#[derive(Default)]
struct Looked {
    rows: Range<usize>,
    /// Of its rows, a bit for each, those that may match.
    may_match: u64,
}

/// A filter, ready for the chunks of one place.
pub struct RowFilter<'a> {
    place: &'a Place,
    filter: &'a Filter,
    visibility: &'a Visibility,
    plan: Plan,
    equals: Vec<Plan>,
    tail: Option<TailPlan>,
    shapes: Option<Arc<Packed>>,
    verdicts: Vec<u8>,
    scratch: Vec<i64>,
    shape_of: Vec<i64>,
    cursor: TextCursor,
    opened_blocks: usize,
    needs: Option<&'a Needs>,
    /// Of each block, known once some row is not decided by columns.
    of_blocks: Option<BlockNeeds>,
    page: word_blocks::Page,
}

impl<'a> RowFilter<'a> {
    pub fn new(place: &'a Place, filter: &'a Filter, visibility: &'a Visibility) -> io::Result<RowFilter<'a>> {
        let (mut plan, mut equals) = (Plan::Maybe, Vec::new());
        if let Place::Part(part) = place {
            plan = match &filter.query {
                None => Plan::Yes,
                Some(query) => plan_of(part, query.expr(), visibility, true)?,
            };
            let user = visibility.only_user().map(|user| ("user_id".to_owned(), user.to_owned()));
            for (name, value) in filter.equals.iter().cloned().chain(user) {
                equals.push(equal(part, &name, &value)?);
            }
        }
        let tail = matches!(place, Place::Tail(_)).then(|| TailPlan::new(filter, visibility));
        Ok(RowFilter {
            place,
            filter,
            visibility,
            plan,
            equals,
            tail,
            shapes: None,
            verdicts: Vec::new(),
            scratch: Vec::new(),
            shape_of: Vec::new(),
            cursor: TextCursor::default(),
            opened_blocks: 0,
            needs: None,
            of_blocks: None,
            page: None,
        })
    }

    /// The same, with what every event that matches needs: blocks of texts without it are not opened.
    pub fn with_needs(self, needs: &'a Needs) -> RowFilter<'a> {
        RowFilter { needs: Some(needs), ..self }
    }

    /// The rows that the filter accepts, whatever their time, where the codes of this column tell all of it.
    pub fn accepted(&self, column: Option<u32>) -> Option<Accepted> {
        // A part that has sums keeps no line whole.
        let Place::Part(part) = self.place else { return None };
        let shapes = part.has_sums().then_some(part.meta.shapes.len())?;
        let plans = self.equals.iter().chain([&self.plan]);
        plans
            .map(|plan| plan.by_codes(column, shapes))
            .try_fold(Accepted::All, |all, plan| plan.map(|plan| all.and(plan)))
    }

    /// The same where the codes of two columns tell all of it together: those of each.
    pub fn accepted_by_two(&self, columns: [Option<u32>; 2]) -> Option<[Accepted; 2]> {
        let Place::Part(part) = self.place else { return None };
        let shapes = part.has_sums().then_some(part.meta.shapes.len())?;
        let mut accepted = [Accepted::All, Accepted::All];
        let mut left: Vec<&Plan> = self.equals.iter().chain([&self.plan]).collect();
        while let Some(plan) = left.pop() {
            let of_column = |nth: usize| plan.by_codes(columns[nth], shapes).map(|found| (nth, found));
            match (of_column(0).or_else(|| of_column(1)), plan) {
                (Some((nth, found)), _) => {
                    accepted[nth] = std::mem::replace(&mut accepted[nth], Accepted::All).and(found);
                }
                (None, Plan::And(parts)) => left.extend(parts),
                (None, _) => return None,
            }
        }
        Some(accepted)
    }

    /// Whether lines are looked at, which costs more than columns do.
    pub fn reads_lines(&self) -> bool {
        matches!(self.place, Place::Tail(_)) || self.plan.is_open() || self.equals.iter().any(Plan::is_open)
    }

    /// Blocks of texts in which rows were looked at; those of a tail are as large.
    pub fn opened_blocks(&self) -> usize {
        self.opened_blocks
    }

    fn open_block(&mut self, block: usize, last: &mut Option<usize>) {
        self.opened_blocks += usize::from(last.replace(block) != Some(block));
    }

    /// The rows of a chunk that match, counted from its beginning; `rows` is overwritten.
    pub fn rows(&mut self, chunk: usize, times: &[i64], rows: &mut Vec<usize>) -> io::Result<()> {
        rows.clear();
        let mut last_block = None;
        let in_time = |time: i64| {
            self.filter.from.is_none_or(|from| time >= from.0) && self.filter.to.is_none_or(|to| time < to.0)
        };
        match self.place {
            Place::Tail(tail) => {
                let mut verdicts = std::mem::take(&mut self.verdicts);
                if let Some(plan) = &self.tail {
                    plan.evaluate(&tail.chunks[chunk], &mut verdicts);
                }
                let mut lines = None;
                for (row, verdict) in verdicts.iter().enumerate().filter(|(row, _)| in_time(times[*row])) {
                    let is_match = match *verdict {
                        NO => false,
                        YES => true,
                        _ => {
                            self.open_block(row / BLOCK_ROWS, &mut last_block);
                            if lines.is_none() {
                                lines = self.place.tail_lines(chunk)?;
                            }
                            let line = lines.as_ref().map_or(&b""[..], |lines| lines.line(row));
                            self.tail.as_ref().is_none_or(|plan| plan.may_accept(line)) && self.matches(line)
                        }
                    };
                    if is_match {
                        rows.push(row);
                    }
                }
                self.verdicts = verdicts;
            }
            Place::Part(part) => {
                let mut verdicts = std::mem::take(&mut self.verdicts);
                self.evaluate(part, chunk, times.len(), &mut verdicts)?;
                let mut cursor = std::mem::take(&mut self.cursor);
                let mut looked = Looked::default();
                let mut blocks = None;
                for (row, verdict) in verdicts.iter().enumerate() {
                    let is_match = match *verdict {
                        _ if !in_time(times[row]) => false,
                        NO => false,
                        YES => true,
                        _ if !self.may_be_in(row / BLOCK_ROWS, part, chunk, &mut blocks)? => false,
                        _ => {
                            self.open_block(row / BLOCK_ROWS, &mut last_block);
                            let (shape, row) = (self.shape_of[row] as usize, chunk * CHUNK + row);
                            !self.is_in_vain(part, row, shape, &mut cursor, &mut looked)?
                                && self.decide(part, row, shape, &mut cursor)?
                        }
                    };
                    if is_match {
                        rows.push(row);
                    }
                }
                (self.verdicts, self.cursor) = (verdicts, cursor);
            }
        }
        Ok(())
    }

    /// Whether a block of a chunk may have what is needed. `blocks` are those that may, once they are known.
    fn may_be_in(&mut self, block: usize, part: &Part, chunk: usize, blocks: &mut Option<u8>) -> io::Result<bool> {
        let known = match (*blocks, self.needs) {
            (Some(known), _) => known,
            (None, None) => word_blocks::ALL,
            (None, Some(needs)) => {
                let of_blocks = match &mut self.of_blocks {
                    Some(of_blocks) => of_blocks,
                    unknown => unknown.insert(needs.of_blocks(&mut &*part)?),
                };
                part.blocks_with(of_blocks, chunk, &mut self.page)?
            }
        };
        *blocks = Some(known);
        Ok(known & 1 << block != 0)
    }

    fn evaluate(&mut self, part: &Part, chunk: usize, len: usize, verdicts: &mut Vec<u8>) -> io::Result<()> {
        let mut shape_of = std::mem::take(&mut self.shape_of);
        match &self.shapes {
            Some(shapes) => shapes.chunk(chunk, &mut shape_of),
            None => self.shapes.insert(part.packed(Section::Shapes, 0)?).chunk(chunk, &mut shape_of),
        }
        self.plan.evaluate(part, chunk, &shape_of, &mut self.scratch, verdicts)?;
        let mut more = Vec::new();
        for equal in &self.equals {
            if verdicts.iter().all(|verdict| *verdict == NO) {
                break;
            }
            equal.evaluate(part, chunk, &shape_of, &mut self.scratch, &mut more)?;
            combine(verdicts, &more, u8::min);
        }
        self.shape_of = shape_of;
        verdicts.truncate(len);
        Ok(())
    }

    /// Whether the texts of a row's block, looked at together, show that the row does not match.
    fn is_in_vain(
        &self,
        part: &Part,
        row: usize,
        shape: usize,
        cursor: &mut TextCursor,
        looked: &mut Looked,
    ) -> io::Result<bool> {
        if shape == WHOLE as usize || !self.plan.is_told_by_texts(row / CHUNK) {
            return Ok(false);
        }
        if !looked.rows.contains(&row) {
            if cursor.is_at(row) {
                return Ok(false);
            }
            let is_told = self.equals.is_empty();
            let (block, may_match) = part.texts_where(row, cursor, |texts| self.plan.rows_within(texts, is_told))?;
            *looked = Looked { rows: block.first_row..block.first_row + block.rows, may_match };
        }
        Ok(looked.may_match.checked_shr((row - looked.rows.start) as u32).is_some_and(|rest| rest & 1 == 0))
    }

    /// Whether a row of which columns do not tell matches: its texts are looked into, or its whole line.
    fn decide(&self, part: &Part, row: usize, shape: usize, cursor: &mut TextCursor) -> io::Result<bool> {
        if shape != WHOLE as usize {
            let mut known = self.plan.decide(part, row, shape, cursor)?;
            for equal in &self.equals {
                known = match (known, equal.decide(part, row, shape, cursor)?) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                };
            }
            if let Some(known) = known {
                return Ok(known);
            }
        }
        Ok(self.matches(&part.line(row)?))
    }

    /// Whether an event matches, as far as the reader may see it.
    fn matches(&self, line: &[u8]) -> bool {
        let Some(shown) = self.visibility.searchable(line) else { return false };
        let line = Raw::valid(&shown);
        let is_equal = |(name, value): &(String, String)| line.get(name).is_some_and(|found| found.display() == *value);
        self.filter.equals.iter().all(is_equal)
            && self.filter.query.as_ref().is_none_or(|query| query.matches_line(line))
    }
}
