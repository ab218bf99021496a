//! Which rows of a chunk match: by columns as far as possible, by lines otherwise.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::anywhere::Anywhere;
use super::bits::{CHUNK, Packed};
use super::layout::{Encoding, Section};
use super::part::{Part, TextCursor};
use super::search::{Place, sort_key};
use super::split::WHOLE;
use super::tail_filter::TailPlan;
use super::text::{BLOCK_ROWS, Texts};
use crate::event::Raw;
use crate::query::request::{Filter, SortKey};
use crate::query::{AnywhereTest, Expr, FieldTest};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// What columns tell of a row.
pub const NO: u8 = 0;
pub const MAYBE: u8 = 1;
pub const YES: u8 = 2;

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
}

enum Plan {
    Yes,
    Maybe,
    And(Vec<Plan>),
    Or(Vec<Plan>),
    Not(Box<Plan>),
    Field(Vec<ColumnTest>),
    Anywhere(Box<Anywhere>),
}

/// A test on one column. Of several, the first whose member a row has counts.
struct ColumnTest {
    column: u32,
    /// For each shape, whether it has the member.
    in_shape: Vec<bool>,
    values: Values,
}

enum Values {
    /// Every row that has the member is accepted.
    All,
    /// The answer for each code of a dictionary.
    Codes(Arc<Packed>, Vec<bool>),
    Numbers(Arc<Packed>, Encoding, Arc<FieldTest>),
    /// Each value as text.
    Each(Arc<FieldTest>),
    /// Text in compressed blocks, looked into only for rows of which nothing else tells; the column's number among them.
    Text(Arc<FieldTest>, usize),
    /// Only the line tells.
    Line,
}

impl<'a> RowFilter<'a> {
    pub fn new(place: &'a Place, filter: &'a Filter, visibility: &'a Visibility) -> io::Result<RowFilter<'a>> {
        let (mut plan, mut equals, mut shapes) = (Plan::Maybe, Vec::new(), None);
        if let Place::Part(part) = place {
            plan = match &filter.query {
                None => Plan::Yes,
                Some(query) => plan_of(part, query.expr(), visibility)?,
            };
            let user = visibility.only_user().map(|user| ("user_id".to_owned(), user.to_owned()));
            for (name, value) in filter.equals.iter().cloned().chain(user) {
                equals.push(equal(part, &name, &value)?);
            }
            shapes = Some(part.packed(Section::Shapes, 0)?);
        }
        let tail = matches!(place, Place::Tail(_)).then(|| TailPlan::new(filter, visibility));
        Ok(RowFilter {
            place,
            filter,
            visibility,
            plan,
            equals,
            tail,
            shapes,
            verdicts: Vec::new(),
            scratch: Vec::new(),
            shape_of: Vec::new(),
            cursor: TextCursor::default(),
            opened_blocks: 0,
        })
    }

    /// Whether the filter is known to accept every row of the place, whatever its time.
    pub fn is_true_of_all(&self) -> bool {
        let (Place::Part(part), Some(shapes)) = (self.place, &self.shapes) else { return false };
        let is_whole = |chunk: usize| shapes.least(chunk) == i64::from(WHOLE);
        self.equals.is_empty()
            && self.plan.of_all(part.meta.shapes.len()) == Some(true)
            && !(0..part.chunks()).any(is_whole)
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
                            lines.as_ref().is_some_and(|lines| self.matches(lines.line(row)))
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
                let mut in_vain = 0..0;
                for (row, verdict) in verdicts.iter().enumerate() {
                    let is_match = match *verdict {
                        _ if !in_time(times[row]) => false,
                        NO => false,
                        YES => true,
                        _ => {
                            self.open_block(row / BLOCK_ROWS, &mut last_block);
                            let (shape, row) = (self.shape_of[row] as usize, chunk * CHUNK + row);
                            !self.is_in_vain(part, row, shape, &mut cursor, &mut in_vain)?
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

    fn evaluate(&mut self, part: &Part, chunk: usize, len: usize, verdicts: &mut Vec<u8>) -> io::Result<()> {
        let shapes = self.shapes.clone().expect("a part has shapes");
        let mut shape_of = std::mem::take(&mut self.shape_of);
        shapes.chunk(chunk, &mut shape_of);
        self.plan.evaluate(part, chunk, &shape_of, &mut self.scratch, verdicts)?;
        let mut more = Vec::new();
        for equal in &self.equals {
            equal.evaluate(part, chunk, &shape_of, &mut self.scratch, &mut more)?;
            combine(verdicts, &more, u8::min);
        }
        self.shape_of = shape_of;
        verdicts.truncate(len);
        Ok(())
    }

    /// Whether the texts of a row's block, looked at together, show that none of its rows matches. `in_vain` are the rows
    /// of the last such block.
    fn is_in_vain(
        &self,
        part: &Part,
        row: usize,
        shape: usize,
        cursor: &mut TextCursor,
        in_vain: &mut Range<usize>,
    ) -> io::Result<bool> {
        if shape == WHOLE as usize || !self.plan.is_told_by_texts() || cursor.is_at(row) {
            return Ok(false);
        }
        if !in_vain.contains(&row) {
            let is_told = self.equals.is_empty();
            let (block, may_match) = part.texts_if(row, cursor, |texts| self.plan.may_hold_within(texts, is_told))?;
            *in_vain = if may_match { 0..0 } else { block.first_row..block.first_row + block.rows };
        }
        Ok(in_vain.contains(&row))
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

    /// What a row of the place is sorted by.
    pub fn sort_key(&self, row: usize, name: &str) -> io::Result<SortKey> {
        if let Place::Part(part) = self.place
            && part.shape(row)? != WHOLE as usize
        {
            let value = match part.column(name) {
                Some((column, _)) => part.value(row, column)?,
                None => None,
            };
            return Ok(sort_key(value.as_deref().map(Raw::valid)));
        }
        Ok(sort_key(Raw::valid(&self.place.line(row)?).get(name)))
    }
}

fn plan_of(part: &Part, expr: &Expr, visibility: &Visibility) -> io::Result<Plan> {
    let all =
        |parts: &[Expr]| parts.iter().map(|part_of| plan_of(part, part_of, visibility)).collect::<io::Result<_>>();
    Ok(match expr {
        Expr::All => Plan::Yes,
        Expr::And(parts) => Plan::And(all(parts)?),
        Expr::Or(parts) => Plan::Or(all(parts)?),
        Expr::Not(inner) => Plan::Not(Box::new(plan_of(part, inner, visibility)?)),
        Expr::Test(test) => match FieldTest::new(test) {
            Some(test)
                if !visibility.hides(&test.name) && !test.canonical.is_some_and(|name| visibility.hides(name)) =>
            {
                field(part, test)?
            }
            None if matches!(visibility, Visibility::Previews { .. }) => Plan::Maybe,
            None => match AnywhereTest::new(test) {
                Some(test) => Plan::Anywhere(Box::new(Anywhere::new(part, test)?)),
                None => Plan::Maybe,
            },
            Some(_) => Plan::Maybe,
        },
    })
}

fn field(part: &Part, test: FieldTest) -> io::Result<Plan> {
    let test = Arc::new(test);
    let mut columns = Vec::new();
    for name in [Some(test.name.as_str()), test.canonical].into_iter().flatten() {
        let Some((column, described)) = part.column(name) else { continue };
        let encoding = described.encoding;
        let values = match encoding {
            _ if described.is_never_null && test.is_of_presence() => Values::All,
            Encoding::Dictionary => {
                let dictionary = part.dictionary(column)?;
                let accepts = |code: i64| dictionary.get(code).is_some_and(|value| test.accepts(Raw::valid(value)));
                let codes = (1..=dictionary.len() as i64).map(accepts).collect();
                Values::Codes(part.packed(Section::Codes, column)?, codes)
            }
            Encoding::Number { .. } if part.exceptions(column)?.is_empty() && test.rest.is_empty() => {
                Values::Numbers(part.packed(Section::Numbers, column)?, encoding, test.clone())
            }
            Encoding::SameTime { .. } if part.exceptions(column)?.is_empty() && test.rest.is_empty() => {
                Values::Numbers(part.packed(Section::Time, 0)?, encoding, test.clone())
            }
            Encoding::Text => Values::Text(test.clone(), part.text_number(column)),
            _ => Values::Each(test.clone()),
        };
        columns.push(ColumnTest { column, in_shape: part.in_shape(column), values });
    }
    Ok(Plan::Field(columns))
}

/// A member that has exactly this value.
fn equal(part: &Part, name: &str, wanted: &str) -> io::Result<Plan> {
    let Some((column, described)) = part.column(name) else { return Ok(Plan::Field(Vec::new())) };
    let values = match described.encoding {
        Encoding::Dictionary => {
            let dictionary = part.dictionary(column)?;
            let accepts = |code: i64| dictionary.get(code).is_some_and(|value| Raw::valid(value).display() == wanted);
            let codes = (1..=dictionary.len() as i64).map(accepts).collect();
            Values::Codes(part.packed(Section::Codes, column)?, codes)
        }
        _ => Values::Line,
    };
    Ok(Plan::Field(vec![ColumnTest { column, in_shape: part.in_shape(column), values }]))
}

/// What parts answer together for every row, where one that answers `decisive` decides.
fn of_parts(parts: &[Plan], shapes: usize, decisive: bool) -> Option<bool> {
    let all: Vec<Option<bool>> = parts.iter().map(|part| part.of_all(shapes)).collect();
    if all.contains(&Some(decisive)) {
        return Some(decisive);
    }
    all.iter().all(Option::is_some).then_some(!decisive)
}

impl Plan {
    /// The answer for every row that is not kept whole, where columns have one.
    fn of_all(&self, shapes: usize) -> Option<bool> {
        match self {
            Plan::Yes => Some(true),
            Plan::Maybe | Plan::Anywhere(_) => None,
            Plan::Not(inner) => inner.of_all(shapes).map(|holds| !holds),
            Plan::And(parts) => of_parts(parts, shapes, false),
            Plan::Or(parts) => of_parts(parts, shapes, true),
            Plan::Field(columns) => {
                let of_shape = |shape: usize| match columns.iter().find(|column| column.in_shape[shape]) {
                    None => Some(false),
                    Some(column) => column.of_all(),
                };
                let mut answers = (WHOLE as usize + 1..shapes).map(of_shape);
                let first = answers.next()??;
                answers.all(|answer| answer == Some(first)).then_some(first)
            }
        }
    }

    /// Whether it may leave rows that only their lines can tell of.
    fn is_open(&self) -> bool {
        match self {
            Plan::Yes => false,
            Plan::Maybe => true,
            Plan::Anywhere(anywhere) => anywhere.is_open(),
            Plan::And(parts) | Plan::Or(parts) => parts.iter().any(Plan::is_open),
            Plan::Not(inner) => inner.is_open(),
            Plan::Field(columns) => {
                columns.iter().any(|column| matches!(column.values, Values::Text(..) | Values::Line))
            }
        }
    }

    /// Whether texts that are looked at together may show that no row matches.
    fn is_told_by_texts(&self) -> bool {
        match self {
            Plan::Yes | Plan::Maybe | Plan::Not(_) => false,
            Plan::Anywhere(anywhere) => anywhere.is_open(),
            Plan::And(parts) => parts.iter().any(Plan::is_told_by_texts),
            Plan::Or(parts) => parts.iter().all(Plan::is_told_by_texts),
            Plan::Field(columns) => columns.iter().any(|column| matches!(column.values, Values::Text(..))),
        }
    }

    /// Whether some row of a block may match: false where its texts show that none does. Where `is_told`, only rows count
    /// of which this test's columns do not tell.
    fn may_hold_within(&self, texts: &Texts, is_told: bool) -> bool {
        match self {
            Plan::Yes | Plan::Maybe | Plan::Not(_) => true,
            Plan::Anywhere(anywhere) => anywhere.may_accept_within(texts, is_told),
            // A row that one test accepts may wait for another.
            Plan::And(parts) => parts.iter().all(|part| part.may_hold_within(texts, false)),
            Plan::Or(parts) => parts.iter().any(|part| part.may_hold_within(texts, is_told)),
            Plan::Field(columns) => columns.iter().any(|column| match &column.values {
                Values::Text(test, text) => test.may_accept_within(texts.column(*text)),
                _ => true,
            }),
        }
    }

    /// The answer for one row that is not kept whole; none where only its line tells.
    fn decide(&self, part: &Part, row: usize, shape: usize, cursor: &mut TextCursor) -> io::Result<Option<bool>> {
        Ok(match self {
            Plan::Yes => Some(true),
            Plan::Maybe => None,
            Plan::Anywhere(anywhere) => Some(anywhere.decide(part, row, shape, cursor)?),
            Plan::Not(inner) => inner.decide(part, row, shape, cursor)?.map(|holds| !holds),
            Plan::And(parts) => {
                let mut all = Some(true);
                for one in parts {
                    match one.decide(part, row, shape, cursor)? {
                        Some(true) => {}
                        Some(false) => return Ok(Some(false)),
                        None => all = None,
                    }
                }
                all
            }
            Plan::Or(parts) => {
                let mut any = Some(false);
                for one in parts {
                    match one.decide(part, row, shape, cursor)? {
                        Some(false) => {}
                        Some(true) => return Ok(Some(true)),
                        None => any = None,
                    }
                }
                any
            }
            Plan::Field(columns) => {
                let has = |column: &&ColumnTest| column.in_shape.get(shape).copied().unwrap_or(false);
                match columns.iter().find(has) {
                    None => Some(false),
                    Some(column) => column.decide(part, row, cursor)?,
                }
            }
        })
    }

    fn evaluate(
        &self,
        part: &Part,
        chunk: usize,
        shapes: &[i64],
        scratch: &mut Vec<i64>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        out.clear();
        match self {
            Plan::Yes => out.resize(shapes.len(), YES),
            Plan::Maybe => out.resize(shapes.len(), MAYBE),
            Plan::Anywhere(anywhere) => anywhere.evaluate(chunk, shapes, scratch, out),
            Plan::And(parts) => {
                out.resize(shapes.len(), YES);
                fold(parts, part, chunk, shapes, scratch, out, u8::min)?;
            }
            Plan::Or(parts) => {
                out.resize(shapes.len(), NO);
                fold(parts, part, chunk, shapes, scratch, out, u8::max)?;
            }
            Plan::Not(inner) => {
                inner.evaluate(part, chunk, shapes, scratch, out)?;
                out.iter_mut().for_each(|verdict| *verdict = YES - *verdict);
            }
            Plan::Field(columns) => {
                let whole = |shape: &i64| if *shape == i64::from(WHOLE) { MAYBE } else { NO };
                out.extend(shapes.iter().map(whole));
                for column in columns.iter().rev() {
                    column.evaluate(part, chunk, shapes, scratch, out)?;
                }
            }
        }
        Ok(())
    }
}

fn fold(
    parts: &[Plan],
    part: &Part,
    chunk: usize,
    shapes: &[i64],
    scratch: &mut Vec<i64>,
    out: &mut [u8],
    join: fn(u8, u8) -> u8,
) -> io::Result<()> {
    let mut verdicts = Vec::with_capacity(out.len());
    for one in parts {
        one.evaluate(part, chunk, shapes, scratch, &mut verdicts)?;
        combine(out, &verdicts, join);
    }
    Ok(())
}

/// Joins the verdicts of another test: the lesser of two where both must hold, the greater where one is enough.
pub fn combine(out: &mut [u8], verdicts: &[u8], join: fn(u8, u8) -> u8) {
    out.iter_mut().zip(verdicts).for_each(|(mine, theirs)| *mine = join(*mine, *theirs));
}

impl ColumnTest {
    /// The answer for every row that has the member, where it is the same.
    fn of_all(&self) -> Option<bool> {
        match &self.values {
            Values::All => Some(true),
            Values::Codes(_, accepted) => {
                let first = *accepted.first()?;
                accepted.iter().all(|one| *one == first).then_some(first)
            }
            _ => None,
        }
    }

    /// The answer for one row that has the member; none where only its line tells.
    fn decide(&self, part: &Part, row: usize, cursor: &mut TextCursor) -> io::Result<Option<bool>> {
        Ok(match &self.values {
            Values::All => Some(true),
            Values::Codes(packed, accepted) => {
                let code = packed.get(row);
                Some(code > 0 && accepted.get(code as usize - 1).copied().unwrap_or(false))
            }
            Values::Numbers(_, _, test) | Values::Each(test) => Some(accepts(part, row, self.column, test)?),
            Values::Text(test, text) => Some(test.accepts(Raw::valid(part.text_at(cursor, row, *text)?))),
            Values::Line => None,
        })
    }

    /// Overwrites the verdict of each row that has the member.
    fn evaluate(
        &self,
        part: &Part,
        chunk: usize,
        shapes: &[i64],
        scratch: &mut Vec<i64>,
        out: &mut [u8],
    ) -> io::Result<()> {
        let has = |shape: i64| self.in_shape.get(shape as usize).copied().unwrap_or(false);
        let verdict = |holds: bool| if holds { YES } else { NO };
        match &self.values {
            Values::All => {
                for (out, shape) in out.iter_mut().zip(shapes) {
                    if has(*shape) {
                        *out = YES;
                    }
                }
            }
            Values::Codes(packed, accepted) => {
                packed.chunk(chunk, scratch);
                for ((code, out), shape) in scratch.iter().zip(out).zip(shapes) {
                    if *code > 0 && has(*shape) {
                        *out = verdict(accepted.get(*code as usize - 1).copied().unwrap_or(false));
                    }
                }
            }
            Values::Numbers(packed, encoding, test) => {
                packed.chunk(chunk, scratch);
                for (row, ((number, out), shape)) in scratch.iter().zip(out).zip(shapes).enumerate() {
                    if !has(*shape) {
                        continue;
                    }
                    let told = match encoding.number_style() {
                        Some(style) => test.accepts_number(style.to_f64(*number)),
                        None => test.accepts_time(Timestamp(*number)),
                    };
                    *out = match told {
                        Some(holds) => verdict(holds),
                        None => verdict(accepts(part, chunk * CHUNK + row, self.column, test)?),
                    };
                }
            }
            Values::Each(test) => {
                for (row, (out, shape)) in out.iter_mut().zip(shapes).enumerate() {
                    if has(*shape) {
                        *out = verdict(accepts(part, chunk * CHUNK + row, self.column, test)?);
                    }
                }
            }
            Values::Text(..) | Values::Line => {
                for (out, shape) in out.iter_mut().zip(shapes) {
                    if has(*shape) {
                        *out = MAYBE;
                    }
                }
            }
        }
        Ok(())
    }
}

fn accepts(part: &Part, row: usize, column: u32, test: &FieldTest) -> io::Result<bool> {
    Ok(part.value(row, column)?.is_some_and(|value| test.accepts(Raw::valid(&value))))
}
