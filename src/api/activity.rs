//! The notebook routes: what one user ran, with summary, statistics and search.

use super::Api;
use super::answer::Answer;
use super::params::Params;
use super::reading::{check_subject, executions, groups, has_outcomes, newest, page, whole};
use super::routes::Call;
use super::shape::{Event, Object, array};
use crate::event::escape::push_string;
use crate::net::http::Problem;
use crate::query::request::{Filter, GroupKey, Row, Zone, contains, is, rate};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// Characters of code in short rows.
const SHORT_CODE: usize = 100;
const DAY: i64 = 86_400 * 1_000_000;

fn own(call: &Call) -> Visibility {
    Visibility::Own(call.reader().name.clone())
}

pub async fn recent(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let limit = call.params.number("limit", 10) as usize;
    let rows = page(api, newest(executions(), limit, 0), own(&call)).await?.rows;
    Ok(activities(&rows))
}

pub async fn search(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let (limit, offset) = (call.params.number("limit", 20) as usize, call.params.number("offset", 0) as usize);
    let filter = searched(&call.params)?;
    let rows = page(api, newest(filter, limit, offset), own(&call)).await?.rows;
    Ok(activities(&rows))
}

/// Executions whose code contains the text, `%` and `_` being themselves.
fn searched(params: &Params) -> Result<Filter, Problem> {
    let mut filter = executions();
    filter.from = params.from("start_date")?;
    filter.to = params.to("end_date")?;
    if let Some(text) = params.text("query") {
        filter.and(contains("code", text));
    }
    if let Some(status) = params.text("status") {
        filter.and(is("status", status));
    }
    Ok(filter)
}

fn activities(rows: &[Row]) -> Answer {
    let activities = array(rows.iter().map(activity));
    Answer::json(Object::new().raw("activities", Some(&activities)).number("count", rows.len()).finish())
}

fn activity(row: &Row) -> Vec<u8> {
    let event = Event::new(row);
    Object::new()
        .raw("id", Some(&event.id_json()))
        .text("timestamp", Some(&event.time()))
        .raw("username", event.get("user_id"))
        .raw("session_id", event.get("session_id"))
        .raw("cell_number", event.get("cell_number"))
        .raw("code", event.get("code"))
        .raw("execution_time_ms", event.get("duration_ms"))
        .raw("status", event.get("status"))
        .raw("error_message", event.get("error_message"))
        .finish()
}

pub async fn cells(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let rows = page(api, newest(executions(), 10, 0), own(&call)).await?.rows;
    Ok(Answer::json(array(rows.iter().map(|row| cell(row, Some(SHORT_CODE))))))
}

pub async fn search_cells(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let rows = page(api, newest(searched(&call.params)?, 20, 0), own(&call)).await?.rows;
    Ok(Answer::json(array(rows.iter().map(|row| cell(row, None)))))
}

fn cell(row: &Row, most: Option<usize>) -> Vec<u8> {
    let event = Event::new(row);
    let code = event.text("code").map(|code| match most {
        Some(most) => code.chars().take(most).collect::<String>(),
        None => code.into_owned(),
    });
    Object::new()
        .text("time", Some(&event.time()))
        .raw("cell", event.get("cell_number"))
        .text("code", code.as_deref())
        .raw("status", event.get("status"))
        .finish()
}

pub async fn summary(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let all = whole(api, executions(), own(&call)).await?;
    let today = whole(api, since_midnight(executions(), call.params.zone()), own(&call)).await?;
    let has_outcomes = has_outcomes(api).await?;
    let object = Object::new()
        .number("total_executions", all.count)
        .number("today_executions", today.count)
        .count("error_count", has_outcomes.then_some(all.errors))
        .count("total_errors", has_outcomes.then_some(all.errors))
        .float("success_rate", has_outcomes.then(|| all.success_rate()))
        .float("avg_execution_time_ms", all.avg_ms())
        .time("last_execution", all.last)
        .finish();
    Ok(Answer::json(object))
}

/// The filter, from the beginning of today on.
pub fn since_midnight(mut filter: Filter, zone: &Zone) -> Filter {
    filter.from = Some(zone.interval_start(Timestamp::now(), DAY));
    filter
}

/// The date this many days before today.
fn date(zone: &Zone, before: u64) -> String {
    let now = Timestamp::now();
    let local = now.0 + zone.offset_at(now) * 1_000_000;
    Timestamp((local.div_euclid(DAY) - before as i64) * DAY).to_string()[..10].to_owned()
}

pub async fn days(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let (days, zone) = (call.params.number("days", 7), call.params.zone().clone());
    let mut filter = since_midnight(executions(), &zone);
    // One more than asked for, since a day may have 25 hours.
    filter.from = filter.from.map(|from| Timestamp(from.0 - days as i64 * DAY));
    let found = groups(api, filter, vec![GroupKey::Day(zone.clone())], false, own(&call)).await?;
    let has_outcomes = has_outcomes(api).await?;
    let rows = (0..days).rev().map(|before| {
        let date = date(&zone, before);
        let group = found.iter().find(|group| group.keys[0].as_deref() == Some(&date)).cloned().unwrap_or_default();
        Object::new()
            .text("date", Some(&date))
            .number("executions", group.count)
            .count("success", has_outcomes.then_some(group.successes))
            .count("errors", has_outcomes.then_some(group.errors))
            .float("avg_execution_time_ms", group.avg_ms())
            .finish()
    });
    Ok(Answer::json(Object::new().raw("days", Some(&array(rows))).finish()))
}

/// The share of errors, 0 to 100 with one decimal.
pub fn error_rate(errors: u64, count: u64) -> f64 {
    rate(errors, count)
}

/// A text as JSON.
pub fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_string(&mut out, text);
    out
}
