//! Tells a repeat from another event of the same id, by comparing with the row that is there.

use super::key::Key;
use super::plan::{Fill, Filled, Plan};
use super::table::{Table, quote};
use super::value::Form;
use crate::event::names::OF_RECEIPT;

/// Members that a repeat may have anew: an event without a time of its own has that of its receipt.
fn renewed() -> impl Iterator<Item = &'static str> {
    std::iter::once("timestamp").chain(OF_RECEIPT)
}

/// The query that counts rows of `r` whose key is there with other content. A column of which the event says nothing,
/// or that does not come back as it was written, is not compared. With triggers every row may be other than what was
/// written.
pub fn query(plan: &Plan, key: &Key, table: &Table) -> Option<String> {
    let index = match key {
        Key::Column { index, .. } => index.clone(),
        Key::None { name: Some(name), .. } => vec![name.clone()],
        Key::Add | Key::None { name: None, .. } => return None,
    };
    let may_read = |name: &str| table.column(name).is_some_and(|column| column.may_select);
    if table.has_triggers || !index.iter().all(|name| may_read(name)) {
        return None;
    }
    let columns = || plan.columns.iter().enumerate();
    let is_key = |column: &Filled| index.contains(&column.name);
    let same: Vec<String> = columns()
        .filter(|(_, column)| is_key(column))
        .map(|(nth, column)| format!("t.{} = {}", quote(&column.name), column.written(nth)))
        .collect();
    let others = columns().filter(|(_, column)| !is_key(column) && may_read(&column.name));
    let differences: Vec<String> = others.filter_map(|(nth, column)| difference(plan, nth, column)).collect();
    if same.len() < index.len() || differences.is_empty() {
        return None;
    }
    Some(format!(
        "SELECT count(*) FROM {} JOIN {} t ON {} WHERE {}",
        plan.rows(),
        plan.table,
        same.join(" AND "),
        differences.join(" OR ")
    ))
}

/// The condition that a column differs, if that can be told.
fn difference(plan: &Plan, nth: usize, column: &Filled) -> Option<String> {
    let is_renewed = |source: usize| renewed().any(|name| name == plan.sources[source]);
    match &column.fill {
        Fill::Event(takes) if takes.iter().any(|take| is_renewed(take.source)) => return None,
        Fill::Event(_) | Fill::Rest(_) => {}
        Fill::Id | Fill::IdText | Fill::Template(_) => return None,
    }
    let (there, sent) = (format!("t.{}", quote(&column.name)), column.written(nth));
    let (there, sent) = match column.form {
        Form::Json | Form::Jsonb => (content(&there), content(&sent)),
        Form::Text(_) | Form::Int2 | Form::Int4 | Form::Int8 | Form::Bool | Form::Uuid => (there, sent),
        // Rounded, or without an operator for equality, or of a zone.
        _ => return None,
    };
    Some(format!("r.c{nth} IS NOT NULL AND {there} IS DISTINCT FROM {sent}"))
}

/// JSON without what an event gets when it is taken.
fn content(value: &str) -> String {
    let names = renewed().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    format!(
        "CASE WHEN jsonb_typeof({value}::jsonb) = 'object' THEN {value}::jsonb - ARRAY[{names}] ELSE {value}::jsonb END"
    )
}
