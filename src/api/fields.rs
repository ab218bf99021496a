//! What a page needs to complete a search: names of fields, their frequent values, and sessions.

use super::Api;
use super::answer::Answer;
use super::reading::{groups, problem, reader, visibility};
use super::routes::Call;
use super::shape::{Object, array};
use crate::event::names::KNOWN;
use crate::net::http::Problem;
use crate::query::Expr;
use crate::query::request::{Filter, GroupKey, Row, has, is, newest_of};

/// The most names or values of an answer.
const MOST: usize = 100;
/// The longest value that is offered.
const LONGEST: usize = 200;

pub async fn names(api: &Api, call: Call) -> Result<Answer, Problem> {
    let prefix = call.params.text("prefix").unwrap_or("").to_lowercase();
    let mut names = reader(api)?.names().await.map_err(problem)?;
    // Names of members may tell of others' events: a user is offered the canonical ones alone.
    if visibility(api, call.reader()).only_user().is_some() {
        names.retain(|name| KNOWN.contains(&name.as_str()));
    }
    names.retain(|name| name.to_lowercase().starts_with(&prefix));
    names.truncate(MOST);
    Ok(Answer::value(&serde_json::json!({ "fields": names })))
}

pub async fn values(api: &Api, call: Call) -> Result<Answer, Problem> {
    let path: Vec<String> = call.path[0].split('.').map(str::to_owned).collect();
    let sees = visibility(api, call.reader());
    if path.iter().any(String::is_empty) {
        return Err(Problem::bad_request("field: expected a name such as `status` or `metadata.tenant`"));
    }
    if sees.hides(&path[0]) {
        return Err(Problem::new(hyper::StatusCode::FORBIDDEN, "values of this field are not shown to viewers"));
    }
    let prefix = call.params.text("prefix").unwrap_or("").to_lowercase();
    let found = groups(api, Filter::default(), vec![GroupKey::Field(path)], false, sees).await?;
    let mut values: Vec<(&str, u64)> = found
        .iter()
        .filter_map(|group| Some((group.keys[0].as_deref()?, group.count)))
        .filter(|(value, _)| value.len() <= LONGEST && value.to_lowercase().starts_with(&prefix))
        .collect();
    values.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    values.truncate(MOST);
    let rows =
        values.iter().map(|(value, count)| Object::new().text("value", Some(value)).number("count", *count).finish());
    let rows = array(rows);
    Ok(Answer::json(Object::new().text("field", Some(&call.path[0])).raw("values", Some(&rows)).finish()))
}

pub async fn sessions(api: &Api, call: Call) -> Result<Answer, Problem> {
    let limit = call.params.number("limit", MOST as u64) as usize;
    let mut filter = Filter::default();
    if let Some(user) = call.params.text("user_id") {
        filter.equals.push(("user_id".to_owned(), user.to_owned()));
    }
    filter.and(has("session_id"));
    let sees = visibility(api, call.reader());
    let field = |name: &str| GroupKey::Field(vec![name.to_owned()]);
    let mut found =
        groups(api, filter.clone(), vec![field("session_id"), field("user_id")], false, sees.clone()).await?;
    found.sort_by_key(|group| std::cmp::Reverse(group.last));
    found.truncate(limit);
    let mut open = filter;
    open.and(Expr::and(vec![is("status", "in_progress")]));
    let open = groups(api, open, vec![field("session_id")], false, sees.clone()).await?;
    let mut rows = Vec::with_capacity(found.len());
    for group in &found {
        let session = group.keys[0].as_deref().unwrap_or("");
        let still_open =
            open.iter().find(|other| other.keys[0].as_deref() == Some(session)).map_or(0, |other| other.count);
        let newest = newest_of("session_id", session);
        let host = reader(api)?.page(newest, sees.clone()).await.map_err(problem)?.rows.pop();
        let host = host
            .as_ref()
            .and_then(|row: &Row| super::shape::Event::new(row).text("host").map(|host| host.into_owned()));
        rows.push(
            Object::new()
                .text("session_id", Some(session))
                .text("user_id", group.keys[1].as_deref())
                .text("host", host.as_deref())
                .time("started", group.first)
                .time("last_activity", group.last)
                .number("events", group.count)
                .number("errors", group.errors)
                .number("open_operations", still_open)
                .finish(),
        );
    }
    Ok(Answer::json(Object::new().raw("sessions", Some(&array(rows))).finish()))
}
