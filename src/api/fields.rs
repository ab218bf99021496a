//! What the page needs to complete a search: field names, their frequent values, and sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Api;
use super::acts::record_read;
use super::answer::Answer;
use super::reading::{
    groups, groups_request, has_outcomes, lacks, newest, page, problem, problem_of_all, reader, top, visibility,
};
use super::report::open_rows;
use super::routes::Call;
use super::shape::{Event, Object, array};
use crate::event::Raw;
use crate::event::escape::unescape;
use crate::net::http::Problem;
use crate::query::request::{
    AggregateRequest, Filter, Group, GroupKey, PageRequest, ReadError, Row, Top, has, is, newest_first, newest_of,
};
use crate::query::{Check, Expr, Test};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// What tells sessions apart: users may name theirs alike.
const SESSION: [&str; 2] = ["session_id", "user_id"];
/// The values of [`SESSION`].
type Keys = Vec<Option<String>>;

/// The most names or values of an answer.
const MOST: usize = 100;
/// Begun operations of which it is asked whether they have ended, the newest first.
const MOST_ASKED: usize = 200;
/// The newest events of an operation's name among which its own are looked for.
const MOST_NAMESAKES: usize = 20;
/// Up to so many sessions are asked for at once; of more, those that are shown are asked one by one.
const AT_ONCE: usize = 1000;
/// Newest events whose members are offered.
const LOOKED_AT: usize = 500;
/// How long the values of all events are looked for.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest name or value that is offered.
const LONGEST: usize = 200;

pub async fn names(api: &Api, call: Call) -> Result<Answer, Problem> {
    let prefix = call.params.text("prefix").unwrap_or("").to_lowercase();
    let sees = visibility(api, call.reader());
    let mut names = BTreeSet::new();
    // Names tell of others' events too: who sees only their own is offered what these have.
    if sees.only_user().is_none() {
        names.extend(reader(api)?.names().await.map_err(problem)?);
        names.retain(|name| !sees.hides(name));
    }
    let newest = newest(Filter::default(), LOOKED_AT, 0);
    for row in page(api, newest, sees).await?.rows {
        for (name, value) in Raw::valid(&row.line).members() {
            let name = unescape(name).into_owned();
            if name == "metadata" {
                let inside = value.members().map(|(inner, _)| unescape(inner)).filter(|inner| !inner.contains('.'));
                names.extend(inside.map(|inner| format!("{name}.{inner}")));
            }
            names.insert(name);
        }
    }
    names.retain(|name| name.len() <= LONGEST && name.to_lowercase().starts_with(&prefix));
    let names: Vec<String> = names.into_iter().take(MOST).collect();
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
    let prefix = call.params.text("prefix").unwrap_or("").to_owned();
    let frequent = Top::new(MOST, |a, b| b.count.cmp(&a.count).then_with(|| a.keys.cmp(&b.keys)));
    let frequent = Top { prefix, longest: LONGEST, ..frequent };
    let mut request = groups_request(Filter::default(), vec![GroupKey::Field(path.clone())], false);
    request.deadline = request.deadline.min(Instant::now() + PATIENCE);
    let request = AggregateRequest { with_durations: false, top: Some(frequent.clone()), ..request };
    let (found, of_newest) = match reader(api)?.aggregate(request, sees.clone()).await {
        // Texts such as code, of which nearly each event has another.
        Err(ReadError::Deadline | ReadError::TooLarge(_)) => {
            let rows = newest_with(api, &path, sees.clone()).await?;
            (values_among(&rows, &path, &frequent, &sees), Some(rows.len() as u64))
        }
        found => (found.map_err(problem_of_all)?, None),
    };
    let values = found.iter().filter_map(|group| Some((group.keys[0].as_deref()?, group.count)));
    let rows = values.map(|(value, count)| Object::new().text("value", Some(value)).number("count", count).finish());
    let rows = array(rows);
    let mut answer = Object::new();
    answer.text("field", Some(&call.path[0])).raw("values", Some(&rows)).count("of_newest", of_newest);
    record_read(api, &call, "activity_read", found.len() as u64);
    Ok(Answer::json(answer.finish()))
}

/// The newest events that have this member.
async fn newest_with(api: &Api, path: &[String], sees: Visibility) -> Result<Vec<Row>, Problem> {
    let mut filter = Filter::default();
    filter.and(Expr::Test(Test { field: Some(path.to_vec()), check: Check::Exists }));
    Ok(page(api, newest(filter, LOOKED_AT, 0), sees).await?.rows)
}

/// The values of a member of these events, as far as they are shown whole.
fn values_among(rows: &[Row], path: &[String], top: &Top, sees: &Visibility) -> Vec<Group> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        let value = Raw::valid(&row.line).path(path).filter(|value| !value.is_null());
        if let Some(text) = value.map(|value| value.display()).filter(|text| !sees.may_be_cut(&path[0], text)) {
            *counts.entry(text.into_owned()).or_default() += 1;
        }
    }
    let group = |(value, count)| Group { keys: vec![Some(value)], count, ..Group::default() };
    let mut groups: Vec<Group> = counts.into_iter().map(group).filter(|group| top.accepts(group)).collect();
    top.cut(&mut groups);
    groups
}

pub async fn sessions(api: &Api, call: Call) -> Result<Answer, Problem> {
    let limit = call.params.number("limit", MOST as u64) as usize;
    let mut filter = Filter::default();
    if let Some(user) = call.params.text("user_id") {
        filter.equals.push(("user_id".to_owned(), user.to_owned()));
    }
    filter.and(has("session_id"));
    let sees = visibility(api, call.reader());
    let mut held = open_rows(api, &sees).await;
    held.retain(|row| {
        let event = Event::new(row);
        let user = call.params.text("user_id");
        event.text("session_id").is_some() && user.is_none_or(|user| event.text("user_id").as_deref() == Some(user))
    });
    let by: Vec<GroupKey> = SESSION.into_iter().map(field).collect();
    let mut found = top(api, filter.clone(), by.clone(), Top::newest(limit), sees.clone()).await?;
    for row in &held {
        enter_session(&mut found, row);
    }
    found.sort_by(newest_first);
    found.truncate(limit);
    // What is entered now may have been stored long ago, behind the newest.
    for entered in found.iter_mut().filter(|group| group.count == 0) {
        let session = entered.keys[0].clone().unwrap_or_default();
        let filter = Filter { equals: vec![("session_id".to_owned(), session)], ..filter.clone() };
        let stored = groups(api, filter, by.clone(), false, sees.clone()).await?;
        if let Some(stored) = stored.iter().find(|group| group.keys == entered.keys) {
            entered.add(stored);
        }
    }
    let open = stored_open(api, filter, &found, &sees).await?;
    let has_outcomes = has_outcomes(api).await?;
    let mut rows = Vec::with_capacity(found.len());
    for group in &found {
        let session = group.keys[0].as_deref().unwrap_or("");
        let is_own = |row: &&Row| {
            let event = Event::new(row);
            SESSION.iter().zip(&group.keys).all(|(name, key)| event.text(name).as_deref() == key.as_deref())
        };
        let still_open = open.get(&group.keys).copied().unwrap_or(0) + held.iter().filter(is_own).count() as u64;
        let mut newest = newest_of("session_id", session);
        match &group.keys[1] {
            Some(user) => newest.filter.equals.push(("user_id".to_owned(), user.clone())),
            None => newest.filter.and(Expr::Not(Box::new(has("user_id")))),
        }
        // No need to look for it elsewhere.
        newest.filter.from = group.last;
        newest.filter.to = group.last.map(|last| Timestamp(last.0 + 1));
        let stored = reader(api)?.page(newest, sees.clone()).await.map_err(problem)?.rows.pop();
        let row = stored.as_ref().or_else(|| held.iter().find(is_own));
        let host = row.and_then(|row| Event::new(row).text("host").map(|host| host.into_owned()));
        rows.push(
            Object::new()
                .text("session_id", Some(session))
                .text("user_id", group.keys[1].as_deref())
                .text("host", host.as_deref())
                .time("started", group.first)
                .time("last_activity", group.last)
                .number("events", group.count)
                .count("errors", has_outcomes.then_some(group.errors))
                .number("open_operations", still_open)
                .finish(),
        );
    }
    record_read(api, &call, "activity_read", rows.len() as u64);
    Ok(Answer::json(Object::new().raw("sessions", Some(&array(rows))).finish()))
}

fn field(name: &str) -> GroupKey {
    GroupKey::Field(vec![name.to_owned()])
}

/// Makes a session known of which only an open operation is there yet, and its last activity that of the newest.
fn enter_session(found: &mut Vec<Group>, row: &Row) {
    let event = Event::new(row);
    let keys: Keys = SESSION.iter().map(|name| event.text(name).map(|text| text.into_owned())).collect();
    match found.iter_mut().find(|group| group.keys == keys) {
        Some(group) => group.last = group.last.max(Some(row.time)),
        None => found.push(Group { keys, first: Some(row.time), last: Some(row.time), ..Group::default() }),
    }
}

/// Stored operations of these sessions that have begun and not ended.
async fn stored_open(
    api: &Api,
    mut filter: Filter,
    sessions: &[Group],
    sees: &Visibility,
) -> Result<BTreeMap<Keys, u64>, Problem> {
    let mut open = BTreeMap::new();
    let shown: BTreeSet<Keys> = sessions.iter().map(|group| group.keys.clone()).collect();
    if shown.is_empty() || !has_outcomes(api).await? {
        return Ok(open);
    }
    filter.and(is("status", "in_progress"));
    // A table without the column has no ids of operations.
    if !lacks(api, "operation_id").await? {
        let mut filter = filter.clone();
        filter.and(has("operation_id"));
        let by = vec![field("operation_id"), field("session_id")];
        for group in top(api, filter, by, Top::newest(MOST_ASKED), sees.clone()).await? {
            let of_session: Vec<Keys> = shown.iter().filter(|keys| keys[0] == group.keys[1]).cloned().collect();
            if of_session.is_empty() {
                continue;
            }
            let operation = group.keys[0].as_deref().unwrap_or("");
            let newest = PageRequest { limit: MOST_NAMESAKES, ..newest_of("operation_id", operation) };
            let rows = reader(api)?.page(newest, sees.clone()).await.map_err(problem)?.rows;
            for keys in of_session.into_iter().filter(|keys| is_open(&rows, keys)) {
                *open.entry(keys).or_default() += 1;
            }
        }
    }
    for (keys, count) in without_id(api, filter, &shown, sees).await? {
        *open.entry(keys).or_default() += count;
    }
    Ok(open)
}

/// Whether the newest of an operation's events, the newest first, that may be of this session and user has it in
/// progress. Others may have an operation of that name, too, and its end need not say whose it is.
fn is_open(rows: &[Row], keys: &Keys) -> bool {
    let of = |event: &Event<'_>, when_absent: bool| {
        SESSION.iter().zip(keys).all(|(name, key)| match event.text(name) {
            Some(text) => key.as_deref() == Some(&*text),
            None => when_absent || key.is_none(),
        })
    };
    let newest = rows.iter().map(Event::new).find(|event| of(event, true));
    newest.is_some_and(|event| of(&event, false) && event.text("status").as_deref() == Some("in_progress"))
}

/// Of operations without an id nobody knows which end belongs to them: how many of these sessions have begun.
async fn without_id(
    api: &Api,
    mut filter: Filter,
    sessions: &BTreeSet<Keys>,
    sees: &Visibility,
) -> Result<Vec<(Keys, u64)>, Problem> {
    if !lacks(api, "operation_id").await? {
        filter.and(Expr::Not(Box::new(has("operation_id"))));
    }
    let by: Vec<GroupKey> = SESSION.into_iter().map(field).collect();
    let mut begun = top(api, filter.clone(), by.clone(), Top::newest(AT_ONCE), sees.clone()).await?;
    if begun.len() == AT_ONCE {
        begun.clear();
        let names: BTreeSet<&str> = sessions.iter().filter_map(|keys| keys[0].as_deref()).collect();
        for session in names {
            let equals = vec![("session_id".to_owned(), session.to_owned())];
            let filter = Filter { equals, ..filter.clone() };
            begun.extend(groups(api, filter, by.clone(), false, sees.clone()).await?);
        }
    }
    begun.retain(|group| sessions.contains(&group.keys));
    Ok(begun.into_iter().map(|group| (group.keys, group.count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::request::{Keyset, SortKey, most_first};

    fn row(line: &str) -> Row {
        let keyset = Keyset { key: SortKey::None, time: 0, seq: 1, row: None };
        let (id, line) = ("1".to_owned(), line.as_bytes().to_vec());
        Row { seq: 1, time: Timestamp(0), received_at: None, id, line, keyset }
    }

    #[test]
    fn values_of_the_newest_are_counted_and_what_a_preview_cuts_is_left_out() {
        let lines = [
            r#"{"code":"import os"}"#,
            r#"{"code":"import os"}"#,
            r#"{"code":"Import sys"}"#,
            r#"{"code":"import pandas as pd"}"#,
            r#"{"code":"x"}"#,
            r#"{"code":null}"#,
            "{}",
        ];
        let rows: Vec<Row> = lines.into_iter().map(row).collect();
        let top = Top { prefix: "imp".to_owned(), longest: LONGEST, ..Top::new(2, most_first) };
        let values = |sees: &Visibility| -> Vec<(String, u64)> {
            let found = values_among(&rows, &["code".to_owned()], &top, sees);
            found.into_iter().map(|group| (group.keys[0].clone().unwrap_or_default(), group.count)).collect()
        };
        let whole = values(&Visibility::Own("ali".to_owned()));
        assert_eq!(whole, [("import os".to_owned(), 2), ("Import sys".to_owned(), 1)]);
        // Of ten characters it is not known whether more follow.
        assert_eq!(values(&Visibility::All { own: "ali".to_owned(), preview: 10 }), [("import os".to_owned(), 2)]);
    }
}
