//! A filter as tests of columns, and what they tell of rows: yes, no, or only the line does.

use std::cell::OnceCell;
use std::io;
use std::ops::{BitAnd, BitOr};
use std::sync::Arc;

use super::anywhere::Anywhere;
use super::bits::{CHUNK, Packed};
use super::candidates::{Needs, may_be_of_identifier, of_plain_texts};
use super::chunks::ChunkSet;
use super::layout::{Encoding, Section};
use super::part::{Part, TextCursor};
use super::split::WHOLE;
use super::text::Texts;
use super::time_bounds;
use crate::event::Raw;
use crate::query::{AnywhereTest, Expr, FieldTest, Test};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// What columns tell of a row.
pub const NO: u8 = 0;
pub const MAYBE: u8 = 1;
pub const YES: u8 = 2;

pub enum Plan {
    Yes,
    Maybe,
    And(Vec<Plan>),
    Or(Vec<Plan>),
    Not(Box<Plan>),
    Field(Vec<ColumnTest>),
    Anywhere(Box<Anywhere>),
}

/// A test on one column. Of several, the first whose member a row has counts.
pub struct ColumnTest {
    column: u32,
    /// For each shape, whether it has the member.
    in_shape: Vec<bool>,
    values: Values,
}

pub enum Values {
    /// Every row that has the member is accepted.
    All,
    /// The answer for each code of a dictionary.
    Codes(CodeColumn, Vec<bool>),
    Numbers(Arc<Packed>, Encoding, Arc<FieldTest>),
    /// Each value as text.
    Each(Arc<FieldTest>),
    /// Text in compressed blocks, looked into only for rows of which nothing else tells; the column's number among them,
    /// and the chunks that may have what is searched, where others are known not to.
    Text(Arc<FieldTest>, usize, Option<ChunkSet>),
    /// Only the line tells.
    Line,
}

/// The codes of a column, read once rows are looked at: sums may tell before.
#[derive(Default)]
pub struct CodeColumn(OnceCell<Arc<Packed>>);

impl CodeColumn {
    fn read(&self, part: &Part, column: u32) -> io::Result<&Packed> {
        if self.0.get().is_none() {
            let packed = part.packed(Section::Codes, column)?;
            return Ok(self.0.get_or_init(|| packed));
        }
        Ok(self.0.get().expect("it was just there"))
    }
}

/// The rows that a filter accepts, by the codes of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    All,
    /// Those with an accepted code; first stands whether rows without the member are.
    Codes(Vec<bool>),
}

impl Accepted {
    /// No row.
    fn none() -> Accepted {
        Accepted::Codes(Vec::new())
    }

    /// What two filters accept together.
    pub fn and(self, other: Accepted) -> Accepted {
        match (self, other) {
            (Accepted::All, other) => other,
            (some, Accepted::All) => some,
            (Accepted::Codes(mine), Accepted::Codes(theirs)) => {
                Accepted::Codes(mine.into_iter().zip(theirs).map(|(mine, theirs)| mine && theirs).collect())
            }
        }
    }

    /// What one or the other of two filters accepts.
    fn or(self, other: Accepted) -> Accepted {
        match (self, other) {
            (Accepted::All, _) | (_, Accepted::All) => Accepted::All,
            (Accepted::Codes(mine), Accepted::Codes(theirs)) => {
                let (mut longer, shorter) = if mine.len() < theirs.len() { (theirs, mine) } else { (mine, theirs) };
                longer.iter_mut().zip(shorter).for_each(|(mine, theirs)| *mine |= theirs);
                Accepted::Codes(longer)
            }
        }
    }

    pub fn accepts(&self, code: u32) -> bool {
        match self {
            Accepted::All => true,
            Accepted::Codes(codes) => codes.get(code as usize).copied().unwrap_or(false),
        }
    }
}

/// `is_required` says that only rows count of which this is true.
pub fn plan_of(part: &Part, expr: &Expr, visibility: &Visibility, is_required: bool) -> io::Result<Plan> {
    let all = |parts: &[Expr], is_required: bool| -> io::Result<Vec<Plan>> {
        parts.iter().map(|one| plan_of(part, one, visibility, is_required)).collect()
    };
    Ok(match expr {
        Expr::All => Plan::Yes,
        Expr::And(parts) => Plan::And(all(parts, is_required)?),
        Expr::Or(parts) => Plan::Or(all(parts, false)?),
        Expr::Not(inner) => Plan::Not(Box::new(plan_of(part, inner, visibility, false)?)),
        Expr::Test(test) => {
            let chunks = || text_chunks(part, test, visibility, is_required);
            match FieldTest::new(test) {
                Some(test)
                    if !visibility.hides(&test.name) && !test.canonical.is_some_and(|name| visibility.hides(name)) =>
                {
                    field(part, test, chunks)?
                }
                None if matches!(visibility, Visibility::Previews { .. }) => Plan::Maybe,
                None => match AnywhereTest::new(test) {
                    Some(test) => Plan::Anywhere(Box::new(Anywhere::new(part, test, chunks()?)?)),
                    None => Plan::Maybe,
                },
                Some(_) => Plan::Maybe,
            }
        }
    })
}

/// The chunks that may have what is searched in texts without identifiers; nothing where those of the whole query tell as
/// much. Digits are in the identifiers of nearly every chunk, and there columns tell of them.
fn text_chunks(part: &Part, test: &Test, visibility: &Visibility, is_required: bool) -> io::Result<Option<ChunkSet>> {
    // What others have written must not be felt in the time that an answer takes.
    if visibility.only_user().is_some() || is_required && !may_be_of_identifier(test) {
        return Ok(None);
    }
    match of_plain_texts(test) {
        Needs::Anything => Ok(None),
        needs => needs.chunks(part.chunks(), &mut &*part).map(Some),
    }
}

fn field(part: &Part, test: FieldTest, text_chunks: impl Fn() -> io::Result<Option<ChunkSet>>) -> io::Result<Plan> {
    let test = Arc::new(test);
    let mut columns = Vec::new();
    for name in [Some(test.name.as_str()), test.canonical].into_iter().flatten() {
        let Some((column, described)) = part.column(name) else { continue };
        let encoding = described.encoding;
        let values = match encoding {
            _ if described.is_never_null && test.is_of_presence() => Values::All,
            Encoding::Dictionary => Values::Codes(CodeColumn::default(), part.dictionary(column)?.accepted(&test)),
            Encoding::Number { .. } if part.exceptions(column)?.is_empty() && test.rest.is_empty() => {
                Values::Numbers(part.packed(Section::Numbers, column)?, encoding, test.clone())
            }
            _ if time_bounds::is_same_time(part, column, encoding) && is_within(part, &test) => Values::All,
            Encoding::SameTime { .. } if part.exceptions(column)?.is_empty() && test.rest.is_empty() => {
                Values::Numbers(part.packed(Section::Time, 0)?, encoding, test.clone())
            }
            Encoding::Time { .. } if part.exceptions(column)?.is_empty() && test.rest.is_empty() => {
                Values::Numbers(part.packed(Section::Numbers, column)?, encoding, test.clone())
            }
            Encoding::Text => {
                let chunks = if described.has_no_identifier { text_chunks()? } else { None };
                Values::Text(test.clone(), part.text_number(column), chunks)
            }
            _ => Values::Each(test.clone()),
        };
        columns.push(ColumnTest { column, in_shape: part.in_shape(column), values });
    }
    Ok(Plan::Field(columns))
}

/// Whether a test accepts the times of all events of a part.
fn is_within(part: &Part, test: &FieldTest) -> bool {
    test.times().is_some_and(|(first, last)| first.0 <= part.meta.min_time && part.meta.max_time <= last.0)
}

/// A member that has exactly this value.
pub fn equal(part: &Part, name: &str, wanted: &str) -> io::Result<Plan> {
    let Some((column, described)) = part.column(name) else { return Ok(Plan::Field(Vec::new())) };
    let values = match described.encoding {
        Encoding::Dictionary => Values::Codes(CodeColumn::default(), part.values_shown_as(column, wanted)?),
        _ => Values::Line,
    };
    Ok(Plan::Field(vec![ColumnTest { column, in_shape: part.in_shape(column), values }]))
}

/// What a test of one column accepts, by its codes: of rows without the member none.
fn codes_of(columns: &[ColumnTest], column: u32) -> Option<Vec<bool>> {
    match columns {
        [ColumnTest { column: of, values: Values::Codes(_, accepted), .. }] if *of == column => {
            Some(std::iter::once(false).chain(accepted.iter().copied()).collect())
        }
        _ => None,
    }
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
    pub fn of_all(&self, shapes: usize) -> Option<bool> {
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

    /// The rows that are accepted, where the codes of this column tell all of it. No row of the part is kept whole.
    pub fn by_codes(&self, column: Option<u32>, shapes: usize) -> Option<Accepted> {
        match (self, self.of_all(shapes)) {
            (_, Some(true)) => Some(Accepted::All),
            (_, Some(false)) => Some(Accepted::none()),
            (Plan::And(parts), None) => parts
                .iter()
                .map(|part| part.by_codes(column, shapes))
                .try_fold(Accepted::All, |all, part| part.map(|part| all.and(part))),
            (Plan::Or(parts), None) => parts
                .iter()
                .map(|part| part.by_codes(column, shapes))
                .try_fold(Accepted::none(), |all, part| part.map(|part| all.or(part))),
            (Plan::Not(inner), None) => match &**inner {
                Plan::Field(columns) => {
                    let mut codes = codes_of(columns, column?)?;
                    codes.iter_mut().for_each(|accepted| *accepted = !*accepted);
                    Some(Accepted::Codes(codes))
                }
                _ => None,
            },
            (Plan::Field(columns), None) => codes_of(columns, column?).map(Accepted::Codes),
            _ => None,
        }
    }

    /// Whether it may leave rows that only their lines can tell of.
    pub fn is_open(&self) -> bool {
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

    /// Whether texts of a chunk that are looked at together may show that no row matches.
    pub fn is_told_by_texts(&self, chunk: usize) -> bool {
        match self {
            Plan::Yes | Plan::Maybe | Plan::Not(_) => false,
            Plan::Anywhere(anywhere) => anywhere.is_told_by_texts(chunk),
            Plan::And(parts) => parts.iter().any(|part| part.is_told_by_texts(chunk)),
            Plan::Or(parts) => parts.iter().all(|part| part.is_told_by_texts(chunk)),
            Plan::Field(columns) => columns.iter().any(|column| match &column.values {
                Values::Text(_, _, chunks) => is_among(chunks.as_ref(), chunk),
                _ => false,
            }),
        }
    }

    /// The rows of a block, a bit for each, that may match, as far as its texts show. Where `is_told`, only rows count of
    /// which this test's columns do not tell.
    pub fn rows_within(&self, texts: &Texts, is_told: bool) -> u64 {
        match self {
            Plan::Yes | Plan::Maybe | Plan::Not(_) => u64::MAX,
            Plan::Anywhere(anywhere) => anywhere.rows_within(texts, is_told),
            // A row that one test accepts may wait for another.
            Plan::And(parts) => parts.iter().map(|part| part.rows_within(texts, false)).fold(u64::MAX, BitAnd::bitand),
            Plan::Or(parts) => parts.iter().map(|part| part.rows_within(texts, is_told)).fold(0, BitOr::bitor),
            Plan::Field(columns) => {
                let may_hold = columns.iter().any(|column| match &column.values {
                    Values::Text(test, text, _) => test.may_accept_within(texts.column(*text)),
                    _ => true,
                });
                if may_hold { u64::MAX } else { 0 }
            }
        }
    }

    /// The answer for one row that is not kept whole; none where only its line tells.
    pub fn decide(&self, part: &Part, row: usize, shape: usize, cursor: &mut TextCursor) -> io::Result<Option<bool>> {
        Ok(match self {
            Plan::Yes => Some(true),
            Plan::Maybe => None,
            Plan::Anywhere(anywhere) => Some(anywhere.decide(part, row, shape, cursor)?),
            Plan::Not(inner) => inner.decide(part, row, shape, cursor)?.map(|holds| !holds),
            Plan::And(parts) => decide_together(parts, false, part, row, shape, cursor)?,
            Plan::Or(parts) => decide_together(parts, true, part, row, shape, cursor)?,
            Plan::Field(columns) => {
                let has = |column: &&ColumnTest| column.in_shape.get(shape).copied().unwrap_or(false);
                match columns.iter().find(has) {
                    None => Some(false),
                    Some(column) => column.decide(part, row, cursor)?,
                }
            }
        })
    }

    pub fn evaluate(
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
                fold(parts, part, chunk, shapes, scratch, out, (u8::min, NO))?;
            }
            Plan::Or(parts) => {
                out.resize(shapes.len(), NO);
                fold(parts, part, chunk, shapes, scratch, out, (u8::max, YES))?;
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

/// The answer of several tests together: one that answers `decisive` settles it.
fn decide_together(
    parts: &[Plan],
    decisive: bool,
    part: &Part,
    row: usize,
    shape: usize,
    cursor: &mut TextCursor,
) -> io::Result<Option<bool>> {
    let mut answer = Some(!decisive);
    for one in parts {
        match one.decide(part, row, shape, cursor)? {
            Some(holds) if holds == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => answer = None,
        }
    }
    Ok(answer)
}

fn fold(
    parts: &[Plan],
    part: &Part,
    chunk: usize,
    shapes: &[i64],
    scratch: &mut Vec<i64>,
    out: &mut [u8],
    (join, decisive): (fn(u8, u8) -> u8, u8),
) -> io::Result<()> {
    let mut verdicts = Vec::with_capacity(out.len());
    for (nth, one) in parts.iter().enumerate() {
        if nth > 0 && out.iter().all(|verdict| *verdict == decisive) {
            break;
        }
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
            Values::Codes(codes, accepted) => {
                let code = codes.read(part, self.column)?.get(row);
                Some(code > 0 && accepted.get(code as usize - 1).copied().unwrap_or(false))
            }
            Values::Numbers(_, _, test) | Values::Each(test) => Some(accepts(part, row, self.column, test)?),
            Values::Text(_, _, chunks) if !is_among(chunks.as_ref(), row / CHUNK) => Some(false),
            Values::Text(test, text, _) => Some(test.accepts(Raw::valid(part.text_at(cursor, row, *text)?))),
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
            Values::Codes(codes, accepted) => {
                codes.read(part, self.column)?.chunk(chunk, scratch);
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
            Values::Text(_, _, chunks) if !is_among(chunks.as_ref(), chunk) => {
                for (out, shape) in out.iter_mut().zip(shapes) {
                    if has(*shape) {
                        *out = NO;
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

/// Whether a chunk may have what is searched; any may where nothing is known.
pub fn is_among(chunks: Option<&ChunkSet>, chunk: usize) -> bool {
    chunks.is_none_or(|chunks| chunks.contains(chunk))
}

fn accepts(part: &Part, row: usize, column: u32, test: &FieldTest) -> io::Result<bool> {
    Ok(part.value(row, column)?.is_some_and(|value| test.accepts(Raw::valid(&value))))
}
