//! Which rows of a tail chunk match, from its coded columns as far as possible.

use std::sync::Arc;

use super::coded::{Column, IN_LINE, NONE, PRESENT, number_of};
use super::plan::{MAYBE, NO, YES, combine};
use super::tail::TailChunk;
use crate::event::Raw;
use crate::query::request::Filter;
use crate::query::{AnywhereTest, Expr, FieldTest};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// The member by which events are ordered.
const TIME: &str = "timestamp";

/// A filter, ready for the chunks of a tail.
pub enum TailPlan {
    Yes,
    Maybe,
    And(Vec<TailPlan>),
    Or(Vec<TailPlan>),
    Not(Box<TailPlan>),
    /// A test of the first of these columns that a row has.
    Field(Vec<usize>, Arc<FieldTest>),
    /// Whether a row has the member of which only that is kept.
    Present,
    /// A test of the time by which rows are ordered, where that is a member of theirs.
    Time(FieldTest),
    /// A column that has exactly this value.
    Equal(usize, String),
    /// A text that only lines tell of, anywhere in them.
    Anywhere(AnywhereTest),
    /// The same in one member.
    Contained(FieldTest),
}

impl TailPlan {
    pub fn new(filter: &Filter, visibility: &Visibility) -> TailPlan {
        let user = visibility.only_user().map(|user| ("user_id", user));
        let equals = filter.equals.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(user);
        let mut parts: Vec<TailPlan> = equals
            .map(|(name, value)| number_of(name).map_or(TailPlan::Maybe, |nth| TailPlan::Equal(nth, value.to_owned())))
            .collect();
        parts.extend(filter.query.as_ref().map(|query| TailPlan::of(query.expr(), visibility)));
        TailPlan::And(parts)
    }

    fn of(expr: &Expr, visibility: &Visibility) -> TailPlan {
        let all = |parts: &[Expr]| parts.iter().map(|part| TailPlan::of(part, visibility)).collect();
        match expr {
            Expr::All => TailPlan::Yes,
            Expr::And(parts) => TailPlan::And(all(parts)),
            Expr::Or(parts) => TailPlan::Or(all(parts)),
            Expr::Not(inner) => TailPlan::Not(Box::new(TailPlan::of(inner, visibility))),
            Expr::Test(test) => match FieldTest::new(test) {
                Some(test) => field(test, visibility),
                // A preview is another text than the line has.
                None if matches!(visibility, Visibility::Previews { .. }) => TailPlan::Maybe,
                None => AnywhereTest::new(test).map_or(TailPlan::Maybe, TailPlan::Anywhere),
            },
        }
    }

    /// What the columns of a chunk tell of its rows; `out` is overwritten.
    pub fn evaluate(&self, chunk: &TailChunk, out: &mut Vec<u8>) {
        out.clear();
        let len = chunk.rows.len();
        match self {
            TailPlan::Yes => out.resize(len, YES),
            TailPlan::Maybe | TailPlan::Anywhere(_) | TailPlan::Contained(_) => out.resize(len, MAYBE),
            TailPlan::And(parts) => {
                out.resize(len, YES);
                join(parts, chunk, out, u8::min);
            }
            TailPlan::Or(parts) => {
                out.resize(len, NO);
                join(parts, chunk, out, u8::max);
            }
            TailPlan::Not(inner) => {
                inner.evaluate(chunk, out);
                out.iter_mut().for_each(|verdict| *verdict = YES - *verdict);
            }
            TailPlan::Field(columns, test) => {
                out.resize(len, if chunk.columns.is_empty() { MAYBE } else { NO });
                for column in columns.iter().rev().filter_map(|nth| chunk.columns.of(*nth)) {
                    evaluate_column(column, |value| test.accepts(value), out);
                }
            }
            TailPlan::Time(test) => out.extend(chunk.rows.iter().map(|row| {
                match test.accepts_time(Timestamp(row.time)).filter(|_| row.is_own_time) {
                    Some(true) => YES,
                    Some(false) => NO,
                    None => MAYBE,
                }
            })),
            TailPlan::Present if chunk.columns.is_empty() => out.resize(len, MAYBE),
            TailPlan::Present => {
                out.extend((0..len).map(|row| if chunk.columns.has_present(row) { YES } else { NO }));
            }
            TailPlan::Equal(nth, wanted) => {
                out.resize(len, if chunk.columns.is_empty() { MAYBE } else { NO });
                if let Some(column) = chunk.columns.of(*nth) {
                    evaluate_column(column, |value| value.display() == *wanted, out);
                }
            }
        }
    }

    /// Whether a line may be accepted: false where its bytes show that it is not, which costs a twentieth of looking at its
    /// members.
    pub fn may_accept(&self, line: &[u8]) -> bool {
        match self {
            TailPlan::And(parts) => parts.iter().all(|part| part.may_accept(line)),
            TailPlan::Or(parts) => parts.iter().any(|part| part.may_accept(line)),
            TailPlan::Anywhere(test) => test.may_accept_within(line),
            TailPlan::Contained(test) => test.may_accept_within(line),
            _ => true,
        }
    }
}

fn field(test: FieldTest, visibility: &Visibility) -> TailPlan {
    let names = [Some(test.name.as_str()), test.canonical];
    if names.into_iter().flatten().any(|name| visibility.hides(name)) {
        return TailPlan::Maybe;
    }
    if test.is_of_presence() && test.name == PRESENT && test.canonical.is_none_or(|name| name == PRESENT) {
        return TailPlan::Present;
    }
    if test.name == TIME && test.canonical.is_none_or(|name| name == TIME) && test.times().is_some() {
        return TailPlan::Time(test);
    }
    // A name that is not kept may be that of a member which counts first.
    let columns: Option<Vec<usize>> = names.into_iter().flatten().map(number_of).collect();
    match columns {
        Some(columns) => TailPlan::Field(columns, Arc::new(test)),
        None if test.is_contained() && !matches!(visibility, Visibility::Previews { .. }) => TailPlan::Contained(test),
        None => TailPlan::Maybe,
    }
}

/// Overwrites the result of each row that has the member.
fn evaluate_column(column: &Column, accepts: impl Fn(Raw<'_>) -> bool, out: &mut [u8]) {
    let verdicts: Vec<u8> = column.values().map(|value| if accepts(value) { YES } else { NO }).collect();
    for (row, verdict) in out.iter_mut().enumerate() {
        match column.code(row) {
            NONE => {}
            IN_LINE => *verdict = MAYBE,
            code => *verdict = verdicts[usize::from(code) - 1],
        }
    }
}

fn join(parts: &[TailPlan], chunk: &TailChunk, out: &mut [u8], join: fn(u8, u8) -> u8) {
    let mut verdicts = Vec::with_capacity(out.len());
    for part in parts {
        part.evaluate(chunk, &mut verdicts);
        combine(out, &verdicts, join);
    }
}
