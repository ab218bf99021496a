//! Groups and aggregates, computed by the database.

use tokio_postgres::Row as Found;

use super::super::table::literal;
use super::columns::{Columns, Kind, Stored};
use super::filter::Statement;
use super::page::ordered_time;
use crate::query::request::{AggregateRequest, Group, GroupKey, ReadError, Zone, first_interval};
use crate::units::Timestamp;

const SECOND: i64 = 1_000_000;
/// More seconds than lie between the first time that a table can have and 1970.
const BEFORE_ALL: i64 = 300_000_000_000;
/// What is measured, behind the keys.
const MEASURES: usize = 9;

/// The statement for an aggregate.
pub fn select(
    columns: &Columns,
    statement: &mut Statement<'_>,
    request: &AggregateRequest,
) -> Result<String, ReadError> {
    let mut keys = Vec::new();
    for by in &request.group_by {
        keys.push(key(columns, statement, by)?);
    }
    let status = statement.value(&["status".to_owned()], None).map_or("NULL::text".to_owned(), |value| value.text());
    let duration = statement.value(&["duration_ms".to_owned()], None).filter(|value| value.kind == Kind::Number);
    let is_whole = duration.as_ref().is_some_and(|value| value.stored == Stored::Integer);
    let has_durations = duration.is_some();
    let duration = match duration {
        Some(value) if is_whole => value.sql,
        Some(value) => format!("({})::float8", value.sql),
        None => "NULL::float8".to_owned(),
    };
    // Without a column for it, nothing is sorted.
    let percentile = match request.with_percentiles && has_durations {
        true => format!("(percentile_disc(0.95) WITHIN GROUP (ORDER BY {duration}))::text"),
        false => "NULL::text".to_owned(),
    };
    let measures: [String; MEASURES] = [
        "count(*)::text".into(),
        format!("(count(*) FILTER (WHERE {status} = 'success'))::text"),
        format!("(count(*) FILTER (WHERE {status} IN ('error', 'aborted', 'lost')))::text"),
        format!("count({duration})::text"),
        if is_whole { format!("sum({duration})::text") } else { sum(&duration) },
        format!("max({duration})::text"),
        percentile,
        of_times(columns, "min"),
        of_times(columns, "max"),
    ];
    let condition = statement.condition(&request.filter);
    let grouped: Vec<&str> = keys.iter().map(|key| key.grouped.as_str()).collect();
    let grouped = if grouped.is_empty() { String::new() } else { format!(" GROUP BY {}", grouped.join(", ")) };
    let selected: Vec<String> = keys.iter().map(|key| key.shown.clone()).chain(measures).collect();
    Ok(format!(
        "SELECT {} FROM {} WHERE {condition}{grouped} LIMIT {}",
        selected.join(", "),
        statement.from(),
        request.max_groups.saturating_add(1)
    ))
}

/// The first or last time, in microseconds since 1970. Rows without one are no part of any answer. What stands in the
/// table is compared, as lists do, and only the one that is found is made a time with a zone.
fn of_times(columns: &Columns, which: &str) -> String {
    let found = format!("{which}({})", ordered_time(&columns.time));
    let time = match columns.time.stored {
        Stored::Local(_) => format!("({found}::timestamp AT TIME ZONE {})", columns.zone),
        _ => found,
    };
    format!("round(extract(epoch FROM {time}) * 1000000)::bigint::text")
}

/// The sum of durations. A few that are larger than anything could be would overflow it, which the database takes for an
/// error of the whole statement.
fn sum(duration: &str) -> String {
    let is_over = format!("max(abs({duration})) >= 1e290");
    format!(
        "CASE WHEN {is_over} THEN 'Infinity' ELSE (sum({duration}) FILTER (WHERE abs({duration}) < 1e290))::text END"
    )
}

/// A key as it tells rows apart, and as it is shown: the latter is worked out once for each group.
struct Key {
    grouped: String,
    shown: String,
}

fn key(columns: &Columns, statement: &mut Statement<'_>, by: &GroupKey) -> Result<Key, ReadError> {
    let time = &columns.time.sql;
    let key = |grouped: String, shown: &dyn Fn(&str) -> String| Key { shown: shown(&grouped), grouped };
    Ok(match by {
        GroupKey::Field(path) => match statement.value(path, None) {
            Some(value) => key(value.text(), &str::to_owned),
            // Every event may be without a status.
            None if path.len() == 1 && path[0] == "status" => key("NULL::text".to_owned(), &str::to_owned),
            None => {
                let name = path.join(".");
                return Err(ReadError::Unsupported(format!("the table `{}` has no column for `{name}`", columns.name)));
            }
        },
        GroupKey::Day(zone) => key(format!("({time} AT TIME ZONE {})::date", name(zone)), &|day| {
            format!("to_char({day}::timestamp, 'YYYY-MM-DD')")
        }),
        GroupKey::Hour(zone) => {
            key(format!("extract(hour FROM {time} AT TIME ZONE {})::int", name(zone)), &|hour| format!("{hour}::text"))
        }
        GroupKey::Interval { micros, zone } => {
            let first = first_interval(*micros);
            if let (Ok(offset), 0) = (zone.0.to_fixed_offset(), micros % SECOND) {
                let (width, first) = (micros / SECOND, first / SECOND - i64::from(offset.seconds()));
                // Nothing is divided that is less than nothing.
                let shift = (BEFORE_ALL / width + 1) * width - first;
                let nth = format!("((floor(extract(epoch FROM {time}))::bigint + {shift}) / {width})");
                return Ok(key(nth, &|nth| format!("(({nth} * {width} - {shift}) * {SECOND})::text")));
            }
            let micros_of = |time: &str| format!("round(extract(epoch FROM {time}) * 1000000)::numeric");
            let zone = name(zone);
            let (utc, local) = (micros_of(time), micros_of(&format!("({time} AT TIME ZONE {zone})")));
            let begins = format!("(floor(({local} - {first}) / {micros}) * {micros} + {first})");
            // Where the clocks were changed since then, it began by another offset than that of the event.
            let guess = format!("({begins} - ({local} - {utc}))");
            let then = micros_of(&format!("(to_timestamp({guess} / 1000000.0) AT TIME ZONE {zone})"));
            key(format!("({begins} - ({then} - {guess}))::bigint"), &|begins| format!("{begins}::text"))
        }
    })
}

/// A zone as SQL.
fn name(zone: &Zone) -> String {
    match zone.0.iana_name() {
        Some(name) => literal(name),
        None => {
            let seconds = zone.offset_at(Timestamp(0));
            format!("INTERVAL '{seconds} seconds'")
        }
    }
}

/// A group in a row of the answer.
pub fn group(found: &Found, group_by: &[GroupKey]) -> Group {
    let text = |nth: usize| found.get::<_, Option<&str>>(nth);
    let keys = group_by.iter().enumerate().map(|(nth, by)| {
        let key = text(nth)?;
        match by {
            GroupKey::Interval { .. } => Some(Timestamp(key.parse().ok()?).to_string()),
            _ => Some(key.to_owned()),
        }
    });
    let whole = |nth: usize| text(group_by.len() + nth).and_then(|text| text.parse().ok()).unwrap_or(0);
    let float = |nth: usize| text(group_by.len() + nth).and_then(|text| text.parse().ok());
    let time = |nth: usize| text(group_by.len() + nth).and_then(|text| text.parse().ok()).map(Timestamp);
    Group {
        keys: keys.collect(),
        count: whole(0),
        successes: whole(1),
        errors: whole(2),
        durations: whole(3),
        sum_ms: float(4).unwrap_or(0.0),
        max_ms: float(5),
        p95_ms: float(6),
        first: time(7),
        last: time(8),
    }
}
