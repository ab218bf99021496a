//! The administrators' routes: all users, system statistics, and the activity list of the chat product.

use std::cmp::Ordering;
use std::time::Duration;

use super::Api;
use super::activity::{error_rate, since_midnight};
use super::acts::record_read;
use super::answer::Answer;
use super::params::Params;
use super::reading::{
    EXACT_TOTAL, check_fields, check_subject, deadline, distinct, executions, has_outcomes, newest, page, problem,
    query, reader, top, total_of_last, visibility, whole,
};
use super::routes::Call;
use super::shape::{Event, Object, array};
use crate::net::http::Problem;
use crate::query::Expr;
use crate::query::request::{CountLimit, Filter, Group, GroupKey, PageRequest, Row, Sort, Top, contains, is, rate};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// How long statistics of everything are shown again.
pub const CACHED: u64 = 60;
/// Users that were active within this are active.
const ACTIVE: Duration = Duration::from_secs(86_400);
const TOP: usize = 10;
/// Up to so many users are counted as they are sorted; more are counted for themselves.
const COUNTED: usize = 1000;

fn by_user() -> Vec<GroupKey> {
    vec![GroupKey::Field(vec!["user_id".to_owned()])]
}

fn name(group: &Group) -> &str {
    group.keys[0].as_deref().unwrap_or("")
}

/// The most executions first.
fn most_first(a: &Group, b: &Group) -> Ordering {
    b.count.cmp(&a.count).then_with(|| name(a).cmp(name(b)))
}

/// How users are sorted.
fn order(sort: &str, is_descending: bool) -> impl Fn(&Group, &Group) -> Ordering + Send + Sync + 'static {
    let ascending: fn(&Group, &Group) -> Ordering = match sort {
        "username" => |a, b| name(a).cmp(name(b)),
        "errors" => |a, b| a.errors.cmp(&b.errors),
        "success_rate" => |a, b| a.success_rate().total_cmp(&b.success_rate()),
        "avg_execution_time_ms" => |a, b| a.avg_ms().unwrap_or(-1.0).total_cmp(&b.avg_ms().unwrap_or(-1.0)),
        "last_active" => |a, b| a.last.cmp(&b.last),
        _ => |a, b| a.count.cmp(&b.count),
    };
    move |a, b| {
        let order = ascending(a, b);
        if is_descending { order.reverse() } else { order }.then_with(|| name(a).cmp(name(b)))
    }
}

pub async fn all_users(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let sort = call.params.text("sort").unwrap_or("executions");
    let is_descending = call.params.text("order").map_or(sort != "username", |order| order == "desc");
    let limit = call.params.number("limit", u64::MAX) as usize;
    let sees = visibility(api, call.reader());
    let users = top(api, executions(), by_user(), Top::new(limit, order(sort, is_descending)), sees).await?;
    let has_outcomes = has_outcomes(api).await?;
    let rows = users.iter().map(|user| {
        Object::new()
            .text("username", Some(name(user)))
            .number("executions", user.count)
            .count("errors", has_outcomes.then_some(user.errors))
            .float("success_rate", has_outcomes.then(|| user.success_rate()))
            .float("avg_execution_time_ms", user.avg_ms())
            .time("last_active", user.last)
            .finish()
    });
    let body = Object::new().raw("users", Some(&array(rows))).finish();
    record_read(api, &call, "activity_read", users.len() as u64);
    Ok(Answer::json(body).cached(CACHED))
}

pub async fn all_activity(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let last_first = Top::new(usize::MAX, |a, b| b.last.cmp(&a.last).then_with(|| name(a).cmp(name(b))));
    let users = top(api, executions(), by_user(), last_first, visibility(api, call.reader())).await?;
    let rows = users.iter().map(|user| {
        Object::new()
            .text("user", Some(name(user)))
            .number("executions", user.count)
            .time("last_active", user.last)
            .finish()
    });
    let body = array(rows);
    record_read(api, &call, "activity_read", users.len() as u64);
    Ok(Answer::json(body).cached(CACHED))
}

pub async fn system_stats(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["code", "user_id"]).await?;
    let sees = visibility(api, call.reader());
    let users = top(api, executions(), by_user(), Top::new(COUNTED, most_first), sees.clone()).await?;
    let all = whole(api, executions(), sees.clone()).await?;
    let today = whole(api, since_midnight(executions(), call.params.zone()), sees.clone()).await?;
    let since = Timestamp(Timestamp::now().0 - ACTIVE.as_micros() as i64);
    let is_active = |user: &Group| user.last.is_some_and(|last| last >= since);
    let mut total = (users.len() as u64, users.iter().filter(|user| is_active(user)).count() as u64);
    if users.len() == COUNTED {
        let recent = Filter { from: Some(since), ..executions() };
        total.0 = distinct(api, executions(), by_user(), sees.clone()).await?;
        total.1 = distinct(api, recent, by_user(), sees.clone()).await?;
    }
    let first = users.iter().take(TOP).map(|user| {
        Object::new()
            .text("username", Some(name(user)))
            .number("executions", user.count)
            .time("last_active", user.last)
            .text("status", Some(if is_active(user) { "active" } else { "inactive" }))
            .finish()
    });
    let first = array(first);
    let errors = array(page(api, newest(errors(), TOP, 0), sees).await?.rows.iter().map(recent_error));
    let has_outcomes = has_outcomes(api).await?;
    let body = Object::new()
        .number("total_users", total.0)
        .number("active_users", total.1)
        .number("total_executions", all.count)
        .number("today_executions", today.count)
        .float("error_rate", has_outcomes.then(|| error_rate(all.errors, all.count)))
        .raw("top_users", Some(&first))
        .raw("recent_errors", Some(&errors))
        .finish();
    record_read(api, &call, "activity_read", all.count);
    Ok(Answer::json(body).cached(CACHED))
}

fn errors() -> Filter {
    let mut filter = executions();
    filter.and(Expr::or(["error", "aborted", "lost"].map(|status| is("status", status)).to_vec()));
    filter
}

fn recent_error(row: &Row) -> Vec<u8> {
    let event = Event::new(row);
    Object::new()
        .raw("username", event.get("user_id"))
        .text("error_type", error_type(&event).as_deref())
        .raw("code_preview", event.get("code"))
        .text("timestamp", Some(&event.time()))
        .finish()
}

/// The type of an error; without one, the class before the first `:` of its message.
pub fn error_type(event: &Event<'_>) -> Option<String> {
    event.text("error_type").map(|text| text.into_owned()).or_else(|| {
        let message = event.text("error_message")?;
        let message = message.trim();
        // A message begins with the class; a whole trace has it in its last line.
        [message.lines().next()?, message.lines().next_back()?].into_iter().find_map(class_of)
    })
}

/// The name before the first `:`, if it can be one.
fn class_of(line: &str) -> Option<String> {
    let (class, _) = line.split_once(':')?;
    let is_class = !class.is_empty() && class.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    is_class.then(|| class.to_owned())
}

pub async fn activity(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_fields(api, &call.params).await?;
    let (number, limit) = (call.params.number("page", 1), call.params.number("limit", 20));
    let offset = (number - 1) * limit;
    if offset > 100_000 {
        return Err(super::params::bad("page", "pages end at row 100,000; narrow the filter"));
    }
    let sees = visibility(api, call.reader());
    let filter = listed(&call.params)?;
    let sort = match call.params.text("sort_by").unwrap_or("timestamp") {
        "timestamp" => Sort::Time,
        "action_type" => Sort::Field("event_type".to_owned()),
        other => Sort::Field(other.to_owned()),
    };
    let is_descending = call.params.text("sort_order").is_none_or(|order| order == "desc");
    let newest = newest(filter.clone(), limit as usize, offset as usize);
    let request = PageRequest { sort, is_descending, ..newest };
    let place = reader(api)?;
    let found = place.page(request, sees.clone()).await.map_err(problem)?;
    let total = match total_of_last(&found, offset) {
        Some(total) => total,
        None => place.count(filter, sees.clone(), CountLimit::UpTo(EXACT_TOTAL), deadline()).await.map_err(problem)?,
    };
    let rows = found.rows;
    let stats = statistics(api, sees).await?;
    let mut object = Object::new();
    object
        .raw("logs", Some(&array(rows.iter().map(admin_row))))
        .number("total", total.count)
        .number("page", number)
        .number("limit", limit)
        .number("total_pages", total.count.div_ceil(limit))
        .raw("stats", Some(&stats));
    if total.is_at_least {
        object.bool("total_is_at_least", true);
    }
    let body = object.finish();
    record_read(api, &call, "admin_view_activity_logs", rows.len() as u64);
    Ok(Answer::json(body))
}

/// What the parameters of the administrators' list mean.
fn listed(params: &Params) -> Result<Filter, Problem> {
    let mut filter = Filter { from: params.from("date_from")?, to: params.to("date_to")?, ..Filter::default() };
    if let Some(action) = params.text("action_filter") {
        filter.equals.push(("event_type".to_owned(), action.to_owned()));
    }
    match params.text("is_admin") {
        Some("true") => filter.and(is("is_admin", "true")),
        Some(_) => filter.and(Expr::Not(Box::new(is("is_admin", "true")))),
        None => {}
    }
    match params.text("success_filter") {
        Some("true" | "success") => filter.and(is("status", "success")),
        Some(_) => filter.and(Expr::or(["error", "aborted", "lost"].map(|status| is("status", status)).to_vec())),
        None => {}
    }
    if let Some(text) = params.text("user_search") {
        let fields = ["user_id", "user_email", "user_display_name"];
        filter.and(Expr::or(fields.map(|field| contains(field, text)).to_vec()));
    }
    if let Some(expr) = query(params)? {
        filter.and(expr);
    }
    Ok(filter)
}

/// Of everything that the reader may see.
async fn statistics(api: &Api, sees: Visibility) -> Result<Vec<u8>, Problem> {
    let all = whole(api, Filter::default(), sees.clone()).await?;
    let users = distinct(api, Filter::default(), by_user(), sees.clone()).await?;
    let mut admins = Filter::default();
    admins.and(is("is_admin", "true"));
    let admins = whole(api, admins, sees.clone()).await?;
    let recent = Filter { from: Some(Timestamp(Timestamp::now().0 - ACTIVE.as_micros() as i64)), ..Filter::default() };
    let recent = whole(api, recent, sees).await?;
    let has_outcomes = has_outcomes(api).await?;
    let ended = all.successes + all.errors;
    Ok(Object::new()
        .number("total_logs", all.count)
        .count("success_count", has_outcomes.then_some(all.successes))
        .count("failed_count", has_outcomes.then_some(all.errors))
        .float("success_rate", has_outcomes.then(|| rate(all.successes, ended.max(1))))
        .number("unique_users", users)
        .number("admin_actions", admins.count)
        .float("avg_duration_ms", all.avg_ms())
        .number("recent_24h", recent.count)
        .finish())
}

/// A row of the administrators' list.
fn admin_row(row: &Row) -> Vec<u8> {
    let event = Event::new(row);
    let mut object = row_head(row, &event);
    object
        .raw("error_message", event.get("error_message"))
        .text("error_type", error_type(&event).as_deref())
        .raw("target_user_id", event.get("target_user_id"))
        .raw("target_resource_id", event.get("entity_id"))
        .raw("resource_type", event.get("entity_type"))
        .raw("details", event.get("metadata"));
    for name in ["duration_ms", "ip_address", "user_agent"] {
        object.raw(name, event.get(name));
    }
    object.raw("is_admin", Some(event.get("is_admin").unwrap_or(b"false")));
    for name in ["user_email", "user_display_name", "description", "status", "session_id", "code"] {
        object.raw(name, event.get(name));
    }
    object.number("seq", row.seq).finish()
}

/// How the rows of the administrators' list and stream begin; times are whole seconds since 1970.
fn row_head(row: &Row, event: &Event<'_>) -> Object {
    let mut object = Object::new();
    object
        .raw("id", Some(&event.id_json()))
        .number("timestamp", row.time.0.div_euclid(1_000_000))
        .raw("user_id", event.get("user_id"))
        .raw("action_type", event.get("event_type"));
    for name in ["endpoint", "http_method", "status_code"] {
        object.raw(name, event.get(name));
    }
    let known = event.is_success().map(|success| if success { &b"true"[..] } else { &b"false"[..] });
    object.raw("success", known);
    object
}

/// An event of the administrators' stream.
pub fn stream_row(row: &Row) -> Vec<u8> {
    let event = Event::new(row);
    let mut object = row_head(row, &event);
    for name in ["error_message", "duration_ms", "ip_address"] {
        object.raw(name, event.get(name));
    }
    object.raw("is_admin", Some(event.get("is_admin").unwrap_or(b"false"))).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::request::Keyset;

    #[test]
    fn an_error_has_the_class_before_the_first_colon_of_its_message() {
        let of = |message: &str| {
            let row = Row {
                seq: 1,
                time: Timestamp(0),
                received_at: None,
                id: String::new(),
                line: serde_json::json!({ "error_message": message }).to_string().into_bytes(),
                keyset: Keyset { key: crate::query::request::SortKey::None, time: 0, seq: 1, row: None },
            };
            error_type(&Event::new(&row))
        };
        assert_eq!(of("ZeroDivisionError: division by zero").as_deref(), Some("ZeroDivisionError"));
        assert_eq!(
            of("botocore.errorfactory.NoSuchKey: it: is gone").as_deref(),
            Some("botocore.errorfactory.NoSuchKey")
        );
        // Messages of several lines, and whole traces, whose class is in the last one.
        assert_eq!(
            of("ValueError: Expected 2D array:\narray=[1 2].\nReshape: your data").as_deref(),
            Some("ValueError")
        );
        assert_eq!(of("ValueError: two lines\nof text\n").as_deref(), Some("ValueError"));
        assert_eq!(of("Traceback (most recent call last):\n  File \"x\"\nKeyError: 'a'").as_deref(), Some("KeyError"));
        assert_eq!(of("\n  KeyError: 'a'").as_deref(), Some("KeyError"));
        for none in ["boom", "it failed: why", ": x", ""] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
