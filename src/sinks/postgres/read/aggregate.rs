//! Groups and aggregates, computed by the database.

use tokio_postgres::Row as Found;

use super::super::table::literal;
use super::columns::{Columns, Kind, is_countable};
use super::filter::Statement;
use crate::query::request::{AggregateRequest, Group, GroupKey, ReadError, Zone, first_interval};
use crate::units::Timestamp;

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
    let duration = duration.map_or("NULL::float8".to_owned(), |value| format!("({})::float8", value.sql));
    let percentile = match request.with_percentiles {
        true => format!("(percentile_disc(0.95) WITHIN GROUP (ORDER BY {duration}))::text"),
        false => "NULL::text".to_owned(),
    };
    let time = &columns.time.sql;
    let micros = |sql: String| format!("round(extract(epoch FROM {sql}) * 1000000)::bigint::text");
    let measures: [String; MEASURES] = [
        "count(*)::text".into(),
        format!("(count(*) FILTER (WHERE {status} = 'success'))::text"),
        format!("(count(*) FILTER (WHERE {status} IN ('error', 'aborted', 'lost')))::text"),
        format!("count({duration})::text"),
        sum(&duration),
        format!("max({duration})::text"),
        percentile,
        micros(format!("min({time}) FILTER (WHERE {})", is_countable(time))),
        micros(format!("max({time}) FILTER (WHERE {})", is_countable(time))),
    ];
    let condition = statement.condition(&request.filter);
    let grouped = match keys.len() {
        0 => String::new(),
        count => format!(" GROUP BY {}", (1..=count).map(|nth| nth.to_string()).collect::<Vec<_>>().join(", ")),
    };
    let selected: Vec<String> = keys.into_iter().chain(measures).collect();
    Ok(format!(
        "SELECT {} FROM {} WHERE {condition}{grouped} LIMIT {}",
        selected.join(", "),
        statement.from(),
        request.max_groups.saturating_add(1)
    ))
}

/// The sum of durations. A few that are larger than anything could be would overflow it, which the database takes for an
/// error of the whole statement.
fn sum(duration: &str) -> String {
    let is_over = format!("max(abs({duration})) >= 1e290");
    format!(
        "CASE WHEN {is_over} THEN 'Infinity' ELSE (sum({duration}) FILTER (WHERE abs({duration}) < 1e290))::text END"
    )
}

fn key(columns: &Columns, statement: &mut Statement<'_>, by: &GroupKey) -> Result<String, ReadError> {
    let time = &columns.time.sql;
    Ok(match by {
        GroupKey::Field(path) => match statement.value(path, None) {
            Some(value) => value.text(),
            // Every event may be without a status.
            None if path.len() == 1 && path[0] == "status" => "NULL::text".to_owned(),
            None => {
                let name = path.join(".");
                return Err(ReadError::Unsupported(format!("the table `{}` has no column for `{name}`", columns.name)));
            }
        },
        GroupKey::Day(zone) => format!("to_char({time} AT TIME ZONE {}, 'YYYY-MM-DD')", name(zone)),
        GroupKey::Hour(zone) => format!("extract(hour FROM {time} AT TIME ZONE {})::int::text", name(zone)),
        GroupKey::Interval { micros, zone } => {
            let (zone, first) = (name(zone), first_interval(*micros));
            let micros_of = |time: &str| format!("round(extract(epoch FROM {time}) * 1000000)::numeric");
            let (utc, local) = (micros_of(time), micros_of(&format!("({time} AT TIME ZONE {zone})")));
            let begins = format!("(floor(({local} - {first}) / {micros}) * {micros} + {first})");
            // Where the clocks were changed since then, it began by another offset than that of the event.
            let guess = format!("({begins} - ({local} - {utc}))");
            let then = micros_of(&format!("(to_timestamp({guess} / 1000000.0) AT TIME ZONE {zone})"));
            format!("({begins} - ({then} - {guess}))::bigint::text")
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
