//! The `/api/logs` routes: lists, single events, their neighbours, and ingest from other services.

use std::time::Duration;

use hyper::StatusCode;

use super::Api;
use super::acts::record_read;
use super::answer::Answer;
use super::params::Params;
use super::reading::{
    EXACT_TOTAL, check_fields, cursor, deadline, filter, newest, page, problem, read_cursor, reader, total_of_last,
    visibility,
};
use super::routes::Call;
use super::shape::{Event, Object, array, log_row};
use crate::component::reader::Key;
use crate::net::http::Problem;
use crate::query::request::{CountLimit, Filter, Keyset, PageRequest, Row, Sort, SortKey, Total};

/// How long `?wait=stored` waits.
const STORED_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn list(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_fields(api, &call.params).await?;
    let params = &call.params;
    let (limit, offset) = (params.number("limit", 100), params.number("offset", 0));
    let (sort, is_descending) = sorted(params);
    let order = order_label(&sort, is_descending);
    let (filter, after, sees) = (filter(params)?, read_cursor(api, params, &order)?, visibility(api, call.reader()));
    let newest = newest(filter.clone(), limit as usize, offset as usize);
    let request = PageRequest { sort, is_descending, after, may_be_partial: true, ..newest };
    let place = reader(api)?;
    let found = place.page(request, sees.clone()).await.map_err(problem)?;
    let count = if params.has("count") { CountLimit::Exact } else { CountLimit::UpTo(EXACT_TOTAL) };
    let total = match total_of_last(&found, offset).filter(|_| params.text("cursor").is_none()) {
        Some(total) => total,
        None if found.resume.is_some() => Total { count: 0, is_at_least: true },
        None => place.count(filter, sees, count, deadline()).await.map_err(problem)?,
    };
    let seen = offset + found.rows.len() as u64 + u64::from(found.has_more && found.resume.is_none());
    let total = Total { count: total.count.max(if total.is_at_least { seen } else { 0 }), ..total };
    let next = found.next().map(|keyset| cursor(api, keyset, &order));
    let mut object = Object::new();
    object
        .raw("logs", Some(&array(found.rows.iter().map(log_row))))
        .number("total", total.count)
        .number("limit", limit)
        .number("offset", offset)
        .text("next", next.as_deref());
    if total.is_at_least {
        object.bool("total_is_at_least", true);
    }
    if found.resume.is_some() {
        object.bool("is_partial", true);
    }
    let body = object.finish();
    record_read(api, &call, "activity_read", found.rows.len() as u64);
    Ok(Answer::json(body))
}

/// By what the list is sorted, and whether descending.
fn sorted(params: &Params) -> (Sort, bool) {
    let sort = match params.text("sort_by") {
        None | Some("timestamp") => Sort::Time,
        Some(name) => Sort::Field(name.to_owned()),
    };
    (sort, params.text("sort_order").is_none_or(|order| order == "desc"))
}

/// Names an order, so that a cursor of one list is not taken for one of another.
fn order_label(sort: &Sort, is_descending: bool) -> String {
    let name = match sort {
        Sort::Time => "",
        Sort::Seq => "seq",
        Sort::Field(name) => name,
    };
    format!("{name}{}", if is_descending { "" } else { ":asc" })
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such event")
}

async fn event(api: &Api, call: &Call) -> Result<Row, Problem> {
    let key = Key::Text(call.path[0].clone());
    let found = reader(api)?.get(key, visibility(api, call.reader())).await.map_err(problem)?;
    found.ok_or_else(missing)
}

pub async fn one(api: &Api, call: Call) -> Result<Answer, Problem> {
    let row = event(api, &call).await?;
    if !is_own(&call, &row) {
        record_read(api, &call, "activity_read", 1);
    }
    Ok(Answer::json(log_row(&row)))
}

fn is_own(call: &Call, row: &Row) -> bool {
    Event::new(row).text("user_id").is_some_and(|user| *user == *call.reader().name)
}

pub async fn context(api: &Api, call: Call) -> Result<Answer, Problem> {
    let row = event(api, &call).await?;
    let limit = call.params.number("limit", 10) as usize;
    let of = Event::new(&row);
    let mut filter = Filter::default();
    let session =
        ["session_id", "user_id"].into_iter().find_map(|name| Some((name.to_owned(), of.text(name)?.into_owned())));
    let (mut before, mut after) = (Vec::new(), Vec::new());
    if let Some(session) = session {
        filter.equals.push(session);
        let keyset = Keyset { key: SortKey::None, ..row.keyset.clone() };
        let request = |is_descending: bool| PageRequest {
            is_descending,
            after: Some(keyset.clone()),
            ..newest(filter.clone(), limit, 0)
        };
        let sees = visibility(api, call.reader());
        before = page(api, request(true), sees.clone()).await?.rows;
        after = page(api, request(false), sees).await?.rows;
        before.reverse();
    }
    let body = Object::new()
        .raw("before", Some(&array(before.iter().map(log_row))))
        .raw("event", Some(&log_row(&row)))
        .raw("after", Some(&array(after.iter().map(log_row))))
        .finish();
    record_read(api, &call, "activity_read", (before.len() + after.len() + 1) as u64);
    Ok(Answer::json(body))
}

pub async fn receive(api: &Api, call: Call) -> Result<Answer, Problem> {
    let waits = call.params.text("wait") == Some("stored");
    if waits {
        reader(api)?;
    }
    let response = api.endpoint.receive(call.request, call.who.as_ref(), call.peer).await;
    if waits
        && response.status().is_success()
        && tokio::time::timeout(STORED_TIMEOUT, api.agent.until_readable()).await.is_err()
    {
        let detail = "the events were accepted, but are not visible to reads yet";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(1)));
    }
    Ok(Answer::Response(response))
}
