//! The statement for a page of a list: rows in an order, behind a cursor.

use super::columns::{Columns, Kind, Stored, Value};
use super::filter::{Statement, is_uuid};
use super::{missing, row};
use crate::query::request::{Filter, Keyset, PageRequest, ReadError, SORTED_CHARS, Sort, SortKey};

/// What rows are sorted by, where it is not their time alone.
pub struct SortedBy {
    value: Value,
    /// As it is compared.
    sql: String,
}

impl SortedBy {
    pub fn new(columns: &Columns, statement: &mut Statement<'_>, sort: &Sort) -> Result<Option<SortedBy>, ReadError> {
        let Sort::Field(name) = sort else { return Ok(None) };
        let value = statement.value(std::slice::from_ref(name), None).ok_or_else(|| missing(columns, name))?;
        let sql = match value.kind {
            Kind::Number => value.sql.clone(),
            _ => format!("left({}, {SORTED_CHARS}) COLLATE \"C\"", value.text()),
        };
        Ok(Some(SortedBy { value, sql }))
    }

    /// The position of a row in the order, from the text that the database has written.
    pub fn key(&self, text: Option<&str>) -> SortKey {
        match text {
            None => SortKey::Missing,
            Some(text) if self.value.kind == Kind::Number => SortKey::Decimal(text.to_owned()),
            Some(text) => SortKey::Text(text.to_owned()),
        }
    }
}

/// Which rows of a list: those without a value to be sorted by come behind the others. They are asked for by themselves,
/// since an index has its rows without a value at one end, whichever way it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    All,
    WithValue,
    WithoutValue,
}

/// The parts of a list, in order, from where a cursor points.
pub fn parts(sort: &Sort, after: Option<&Keyset>) -> &'static [Part] {
    match (sort, after.map(|after| &after.key)) {
        (Sort::Time | Sort::Seq, _) => &[Part::All],
        (Sort::Field(_), Some(SortKey::Missing)) => &[Part::WithoutValue],
        (Sort::Field(_), _) => &[Part::WithValue, Part::WithoutValue],
    }
}

/// The WHERE clause of a part.
pub fn condition(
    columns: &Columns,
    statement: &mut Statement<'_>,
    request: &PageRequest,
    sorted: Option<&SortedBy>,
    part: Part,
) -> Result<String, ReadError> {
    let mut all = vec![statement.condition(&request.filter)];
    match (part, sorted) {
        (Part::WithValue, Some(sorted)) => all.push(format!("({}) IS NOT NULL", sorted.sql)),
        (Part::WithoutValue, Some(sorted)) => all.push(format!("({}) IS NULL", sorted.sql)),
        _ => {}
    }
    if let Some(after) = &request.after {
        let behind = behind(statement, columns, sorted, after, request.is_descending, part);
        all.extend(behind.ok_or_else(|| ReadError::Invalid("`cursor` is of another table or column".into()))?);
    }
    Ok(all.join(" AND "))
}

/// The statement for some rows of a part. What is shown of a row is made of those that are on the page alone, not of those
/// that are sorted or skipped.
pub fn select(
    columns: &Columns,
    statement: &mut Statement<'_>,
    request: &PageRequest,
    part: Part,
    (limit, offset): (usize, usize),
) -> Result<(String, Option<SortedBy>), ReadError> {
    let sorted = SortedBy::new(columns, statement, &request.sort)?;
    let condition = condition(columns, statement, request, sorted.as_ref(), part)?;
    let direction = if request.is_descending { "DESC" } else { "ASC" };
    let key = sorted.as_ref().filter(|_| part == Part::WithValue).map(|sorted| sorted.sql.as_str());
    let ordered = |key: Option<&str>, tie: &str| {
        let key = key.map_or(String::new(), |key| format!("{key} {direction}, "));
        format!("ORDER BY {key}{} {direction}, {tie} {direction}", ordered_time(&columns.time))
    };
    let of_rows = format!(
        "SELECT {}, {} AS \"weir key\", {} AS \"weir tie\" FROM {} WHERE {condition} {} LIMIT {limit} OFFSET {offset}",
        columns.readable.join(", "),
        key.unwrap_or("NULL::text"),
        columns.tie(),
        statement.from(),
        ordered(key, &columns.tie()),
    );
    let collated = match &sorted {
        Some(sorted) if sorted.value.kind == Kind::Number => "t.\"weir key\"",
        _ => "t.\"weir key\" COLLATE \"C\"",
    };
    let sql = format!(
        "SELECT {}, (t.\"weir key\")::text FROM ({of_rows}) t {}",
        row::selected(columns, "t.\"weir tie\""),
        ordered(key.map(|_| collated), "t.\"weir tie\""),
    );
    Ok((sql, sorted))
}

/// The statement that counts the rows of a part.
pub fn count(
    columns: &Columns,
    statement: &mut Statement<'_>,
    request: &PageRequest,
    part: Part,
) -> Result<String, ReadError> {
    let sorted = SortedBy::new(columns, statement, &request.sort)?;
    let condition = condition(columns, statement, request, sorted.as_ref(), part)?;
    Ok(format!("SELECT count(*)::text FROM {} WHERE {condition}", statement.from()))
}

/// The statement for one row with this value.
pub fn one(columns: &Columns, statement: &mut Statement<'_>, filter: &Filter) -> String {
    let condition = statement.condition(filter);
    let (selected, from) = (row::selected(columns, &columns.tie()), statement.from());
    format!("SELECT {selected} FROM {from} WHERE {condition} LIMIT 1")
}

/// The time as an index has it.
pub fn ordered_time(time: &Value) -> &str {
    match &time.stored {
        Stored::Local(column) => column,
        _ => &time.sql,
    }
}

/// Rows of a part that come after the one where the page before has ended; none if it was a page of something else.
fn behind(
    statement: &mut Statement<'_>,
    columns: &Columns,
    sorted: Option<&SortedBy>,
    after: &Keyset,
    is_descending: bool,
    part: Part,
) -> Option<Option<String>> {
    let (sign, or_same_sign) = if is_descending { ("<", "<=") } else { (">", ">=") };
    let value = match (&after.key, sorted) {
        (SortKey::None, None) | (SortKey::Missing, Some(_)) => None,
        (SortKey::Decimal(text), Some(sorted)) if sorted.value.kind == Kind::Number => {
            Some(format!("{}::text::{}", statement.bind(text), number_type(&sorted.value, text)?))
        }
        (SortKey::Text(text), Some(sorted)) if sorted.value.kind != Kind::Number => Some(statement.bind(text)),
        _ => return None,
    };
    if value.is_some() && part == Part::WithoutValue {
        return Some(None);
    }
    let time = crate::units::Timestamp(after.time);
    let earlier = statement.compare_time(&columns.time, sign, time);
    let same = statement.compare_time(&columns.time, "=", time);
    let row = after.row.as_deref()?;
    let tie = statement.bind(row);
    let tie = match columns.key_of_order() {
        Some(key) if key.kind == Kind::Number => format!("{} {sign} {tie}::text::{}", key.sql, number_type(key, row)?),
        Some(key) if key.kind == Kind::Uuid => is_uuid(row).then(|| format!("{} {sign} {tie}::text::uuid", key.sql))?,
        Some(key) => format!("{} {sign} {tie}", key.text()),
        None => format!("{} {sign} {tie}", columns.tie()),
    };
    let rest = format!("({earlier} OR ({same} AND {tie}))");
    // Gives an index a place to begin.
    Some(Some(match (value, sorted) {
        (Some(value), Some(SortedBy { sql: key, .. })) => {
            format!("{key} {or_same_sign} {value} AND ({key} {sign} {value} OR {rest})")
        }
        _ => format!("{} AND {rest}", statement.compare_time(&columns.time, or_same_sign, time)),
    }))
}

/// The type in which a number, as a column has written it, is itself again.
fn number_type(column: &Value, text: &str) -> Option<&'static str> {
    match text {
        "NaN" => Some("numeric"),
        // No type but this has them in every version.
        "Infinity" | "-Infinity" => Some("float8"),
        _ if column.stored == Stored::Integer && text.parse::<i64>().is_ok() => Some("bigint"),
        _ => crate::query::number(text).map(|_| "numeric"),
    }
}
