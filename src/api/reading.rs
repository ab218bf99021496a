//! What the families of routes share: who sees what, which filter a request means, cursors and deadlines.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::Api;
use super::params::{Params, bad};
use crate::component::Reader;
use crate::net::http::Problem;
use crate::net::{Principal, Role};
use crate::query::request::{
    AggregateRequest, Filter, Group, GroupKey, Keyset, Page, PageRequest, ReadError, Sort, SortKey, Top, Total,
    contains, has, is,
};
use crate::query::{Expr, Query};
use crate::visibility::Visibility;

/// How long the questions of one request may take together.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The most groups of an aggregate.
pub const MAX_GROUPS: u64 = 100_000;
/// The longest cursor that is looked at.
const MAX_CURSOR: usize = 8 * 1024;

tokio::task_local! {
    /// When the questions of the request that is answered end: set by the first of them.
    static ENDS: OnceCell<Instant>;
}

/// Answers a request, of which all questions end at one deadline however many there are.
pub async fn within_a_deadline<F: Future>(answer: F) -> F::Output {
    ENDS.scope(OnceCell::new(), answer).await
}

/// When a question ends that is asked now. Each page of an export, which is streamed, has a deadline of its own.
pub fn deadline() -> Instant {
    let fresh = || Instant::now() + DEADLINE;
    ENDS.try_with(|ends| *ends.get_or_init(fresh)).unwrap_or_else(|_| fresh())
}

/// The visibility of the reader.
pub fn visibility(api: &Api, who: &Principal) -> Visibility {
    let preview = api.agent.settings.api.preview as usize;
    match who.role {
        Role::Admin => Visibility::All { own: who.name.clone(), preview },
        Role::Viewer => Visibility::Previews { preview },
        Role::User | Role::Ingest => Visibility::Own(who.name.clone()),
    }
}

/// The place that the API reads.
pub fn reader(api: &Api) -> Result<Arc<dyn Reader>, Problem> {
    api.agent.reader().ok_or_else(|| {
        let detail = "no store configured: add a sink of type `store`, or set `api.read`";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}

/// A failed read, as the response to the client.
pub fn problem(error: ReadError) -> Problem {
    match error {
        ReadError::Deadline => {
            let detail = "the query exceeded its deadline: narrow the time range or the filter";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(1))
        }
        ReadError::Unavailable(text) => {
            let detail = "what is read from cannot be read at the moment; the agent's log says why";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).inside(text).retry_after(Duration::from_secs(5))
        }
        ReadError::Unsupported(text) => Problem::new(StatusCode::NOT_FOUND, text),
        ReadError::Invalid(text) | ReadError::TooLarge(text) => Problem::bad_request(text),
    }
}

/// The filter of a query in the language.
pub fn query(params: &Params) -> Result<Option<Expr>, Problem> {
    let Some(text) = params.text("q") else { return Ok(None) };
    let parsed = Query::parse(text).map_err(|error| bad("q", &error.render()))?;
    Ok(Some(parsed.expr().clone()))
}

/// What the parameters of the `/api/logs` family mean.
pub fn filter(params: &Params) -> Result<Filter, Problem> {
    let mut filter = Filter { from: params.from("start_date")?, to: params.to("end_date")?, ..Filter::default() };
    for name in ["event_type", "entity_type", "entity_id", "user_id", "status", "session_id"] {
        if let Some(value) = params.text(name) {
            filter.equals.push((name.to_owned(), value.to_owned()));
        }
    }
    if let Some(text) = params.text("search") {
        filter.and(contains("description", text));
    }
    if let Some(expr) = query(params)? {
        filter.and(expr);
    }
    Ok(filter)
}

/// Refuses what asks for a member that the place can never have.
pub async fn check_fields(api: &Api, params: &Params) -> Result<(), Problem> {
    let place = reader(api)?;
    let mut asked: Vec<(&str, Vec<String>)> = Vec::new();
    for name in ["event_type", "entity_type", "entity_id", "user_id", "status", "session_id"] {
        asked.extend(params.text(name).map(|_| (name, vec![name.to_owned()])));
    }
    // Parameters whose member has another name.
    for (name, member) in [
        ("search", "description"),
        ("action_filter", "event_type"),
        ("is_admin", "is_admin"),
        ("success_filter", "status"),
    ] {
        asked.extend(params.text(name).map(|_| (name, vec![member.to_owned()])));
    }
    // The administrators' list has a name of its own for the type.
    let sorted = params.text("sort_by").map(|name| if name == "action_type" { "event_type" } else { name });
    asked.extend(sorted.map(|name| ("sort_by", vec![name.to_owned()])));
    if let Some(expr) = query(params)? {
        asked.extend(expr.tests().into_iter().filter_map(|test| Some(("q", test.field.clone()?))));
    }
    for (parameter, path) in asked {
        if let Some(lack) = place.lacks(path).await.map_err(problem)? {
            return Err(bad(parameter, &lack));
        }
    }
    Ok(())
}

/// Refuses a route whose subject the place can never have.
pub async fn check_subject(api: &Api, names: &[&str]) -> Result<(), Problem> {
    let place = reader(api)?;
    for name in names {
        if let Some(lack) = place.lacks(vec![(*name).to_owned()]).await.map_err(problem)? {
            return Err(Problem::new(StatusCode::NOT_FOUND, lack));
        }
    }
    Ok(())
}

/// Whether the place that is read can have no such member.
pub async fn lacks(api: &Api, name: &str) -> Result<bool, Problem> {
    Ok(reader(api)?.lacks(vec![name.to_owned()]).await.map_err(problem)?.is_some())
}

/// Whether the place can say how an event went: a table may have no column for it.
pub async fn has_outcomes(api: &Api) -> Result<bool, Problem> {
    Ok(!lacks(api, "status").await?)
}

/// Events with code that have ended.
pub fn executions() -> Filter {
    let mut filter = Filter::default();
    filter.and(Expr::and(vec![has("code"), Expr::Not(Box::new(is("status", "in_progress")))]));
    filter
}

/// Totals are exact up to this.
pub const EXACT_TOTAL: u64 = 100_000;

/// A page, newest first.
pub fn newest(filter: Filter, limit: usize, offset: usize) -> PageRequest {
    PageRequest {
        filter,
        sort: Sort::Time,
        is_descending: true,
        after: None,
        offset,
        limit,
        deadline: deadline(),
        may_be_partial: false,
    }
}

pub async fn page(api: &Api, request: PageRequest, visibility: Visibility) -> Result<Page, Problem> {
    reader(api)?.page(request, visibility).await.map_err(problem)
}

pub async fn groups(
    api: &Api,
    filter: Filter,
    group_by: Vec<GroupKey>,
    with_percentiles: bool,
    visibility: Visibility,
) -> Result<Vec<Group>, Problem> {
    let request = groups_request(filter, group_by, with_percentiles);
    reader(api)?.aggregate(request, visibility).await.map_err(problem)
}

pub fn groups_request(filter: Filter, group_by: Vec<GroupKey>, with_percentiles: bool) -> AggregateRequest {
    let deadline = deadline();
    AggregateRequest {
        filter,
        group_by,
        with_durations: true,
        with_percentiles,
        max_groups: MAX_GROUPS as usize,
        min_count: 0,
        top: None,
        deadline,
    }
}

/// The first groups in an order.
pub async fn top(
    api: &Api,
    filter: Filter,
    group_by: Vec<GroupKey>,
    top: Top,
    visibility: Visibility,
) -> Result<Vec<Group>, Problem> {
    let request = AggregateRequest { top: Some(top), ..groups_request(filter, group_by, false) };
    reader(api)?.aggregate(request, visibility).await.map_err(problem_of_all)
}

/// How many values a key has.
pub async fn distinct(api: &Api, filter: Filter, by: Vec<GroupKey>, visibility: Visibility) -> Result<u64, Problem> {
    reader(api)?.distinct(groups_request(filter, by, false), visibility).await.map_err(problem_of_all)
}

/// A failed read of everything: no parameter makes it less, so that it is not the client's fault if it is too much.
pub fn problem_of_all(error: ReadError) -> Problem {
    match error {
        ReadError::TooLarge(text) => {
            let (needs, _) = text.split_once(':').unwrap_or((&text, ""));
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{needs}: raise `limits.memory`"))
        }
        other => problem(other),
    }
}

/// The total of a list, where its last page tells and nothing needs to be counted.
pub fn total_of_last(page: &Page, offset: u64) -> Option<Total> {
    let rows = page.rows.len() as u64;
    let is_last = !page.has_more && (rows > 0 || offset == 0);
    is_last.then_some(Total { count: offset + rows, is_at_least: false })
}

/// The one group of an aggregate without keys.
pub async fn whole(api: &Api, filter: Filter, visibility: Visibility) -> Result<Group, Problem> {
    Ok(groups(api, filter, Vec::new(), false, visibility).await?.pop().unwrap_or_default())
}

/// Where the next page of a list in this order begins, so that only this agent can have written it.
pub fn cursor(api: &Api, keyset: &Keyset, order: &str) -> String {
    let key = match &keyset.key {
        SortKey::None => json!(null),
        // The bits: a number read from its decimal text may be the next one.
        SortKey::Number(number) => json!(number.to_bits()),
        SortKey::Decimal(text) => json!([text]),
        SortKey::Text(text) => json!(text),
        SortKey::Missing => json!(false),
    };
    let text = json!([key, keyset.time, keyset.seq, keyset.row]).to_string();
    let mac = api.cursor_mac(format!("{order}{text}").as_bytes());
    format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(mac))
}

pub fn read_cursor(api: &Api, params: &Params, order: &str) -> Result<Option<Keyset>, Problem> {
    let Some(text) = params.text("cursor") else { return Ok(None) };
    let keyset = || {
        let (body, mac) = text.split_once('.').filter(|_| text.len() <= MAX_CURSOR)?;
        let (body, mac) = (URL_SAFE_NO_PAD.decode(body).ok()?, URL_SAFE_NO_PAD.decode(mac).ok()?);
        if api.cursor_mac(&[order.as_bytes(), &body].concat())[..] != mac[..] {
            return None;
        }
        let (key, time, seq, row): (Value, i64, u64, Option<String>) = serde_json::from_slice(&body).ok()?;
        let key = match key {
            Value::Null => SortKey::None,
            Value::Number(bits) => SortKey::Number(f64::from_bits(bits.as_u64()?)),
            Value::String(text) => SortKey::Text(text),
            Value::Array(mut texts) => match texts.pop()? {
                Value::String(text) => SortKey::Decimal(text),
                _ => return None,
            },
            _ => SortKey::Missing,
        };
        Some(Keyset { key, time, seq, row })
    };
    keyset().map(Some).ok_or_else(|| bad("cursor", "expected the `next` of an earlier page, with the same order"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_questions_of_a_request_end_at_one_deadline() {
        let asked = async || {
            let first = groups_request(Filter::default(), Vec::new(), true).deadline;
            tokio::time::sleep(Duration::from_millis(2)).await;
            (first, newest(Filter::default(), 1, 0).deadline)
        };
        let (first, last) = within_a_deadline(asked()).await;
        assert_eq!(first, last);
        // Each page of an export is a request of its own.
        let (first, last) = asked().await;
        assert_ne!(first, last);
    }

    #[test]
    fn what_no_parameter_makes_smaller_is_not_the_fault_of_the_client() {
        let text = "the query needs more than the 17 MiB of memory that queries may hold: narrow the time range";
        let (of_filter, of_all) =
            (problem(ReadError::TooLarge(text.into())), problem_of_all(ReadError::TooLarge(text.into())));
        assert_eq!((of_filter.status(), of_all.status()), (StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(
            of_all.detail(),
            "the query needs more than the 17 MiB of memory that queries may hold: raise `limits.memory`"
        );
    }
}
