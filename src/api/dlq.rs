//! `/api/dlq`: dead letters, seen, sent again or dropped.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Api, note, parameter};
use crate::journal::dead_letters::{DeadLetter, Number};
use crate::net::Principal;
use crate::net::http::{Body, Problem};

/// Letters of one answer.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

pub async fn list(api: &Api, query: Option<&str>) -> Result<Response<Body>, Problem> {
    let limit = match parameter(query, "limit") {
        None => DEFAULT_LIMIT,
        Some(text) => match text.parse() {
            Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => limit,
            _ => return Err(Problem::bad_request(format!("limit: expected a number from 1 to {MAX_LIMIT}"))),
        },
    };
    let after = parameter(query, "after").map(|text| number(&text)).transpose()?;
    let queue = &api.agent.commons.dead_letters;
    let summary = queue.summary().await.map_err(broken)?;
    let letters = queue.list(after, limit).await.map_err(broken)?;
    let next = (letters.len() == limit).then(|| letters.last().map(|letter| letter.number.to_string())).flatten();
    let letters: Vec<Value> = letters.iter().map(brief).collect();
    let answer = json!({
        "letters": letters, "total": summary.letters, "parked": summary.parked, "bytes": summary.bytes,
        "limit_bytes": summary.max_bytes,
        "next": next,
    });
    Ok(super::json(StatusCode::OK, &answer))
}

pub async fn show(api: &Api, id: &str) -> Result<Response<Body>, Problem> {
    let letter = api.agent.commons.dead_letters.get(number(id)?).await.map_err(broken)?.ok_or_else(gone)?;
    let mut told = brief(&letter);
    let body = &letter.letter.body;
    told["event"] = serde_json::from_slice::<Box<serde_json::value::RawValue>>(body)
        .ok()
        .and_then(|raw| serde_json::to_value(raw).ok())
        .unwrap_or(Value::Null);
    told["text"] = json!(String::from_utf8_lossy(body));
    Ok(super::json(StatusCode::OK, &told))
}

pub async fn replay(api: &Api, id: &str, admin: &Principal) -> Result<Response<Body>, Problem> {
    let number = number(id)?;
    if api.agent.commons.dead_letters.get(number).await.map_err(broken)?.is_none() {
        return Err(gone());
    }
    let done = api.agent.replay(number).await;
    let metadata = json!({ "letter": id, "replayed": done.is_ok() });
    let said = match &done {
        Ok(_) => format!("replayed dead letter {id}"),
        Err(_) => format!("tried to replay dead letter {id}, which stays"),
    };
    note(api, admin, "dead_letter_replay", &said, metadata);
    done.map_err(|reason| Problem::new(StatusCode::CONFLICT, format!("the letter stays: {reason}")))?;
    Ok(super::json(StatusCode::OK, &json!({ "id": id, "replayed": true })))
}

pub async fn drop(api: &Api, id: &str, admin: &Principal) -> Result<Response<Body>, Problem> {
    if !api.agent.drop_letter(number(id)?).await.map_err(broken)? {
        return Err(gone());
    }
    note(api, admin, "dead_letter_drop", &format!("dropped dead letter {id}"), json!({ "letter": id }));
    Ok(super::json(StatusCode::OK, &json!({ "id": id, "dropped": true })))
}

fn brief(letter: &DeadLetter) -> Value {
    let told = &letter.letter;
    json!({
        "id": letter.number.to_string(),
        "time": letter.time.to_string(),
        "component": told.component,
        "kind": told.kind.as_str(),
        "event_id": told.event_id.map(|id| id.to_string()),
        "seq": told.seq,
        "reason": told.reason,
        "answer": told.answer,
        "attempts": told.attempts,
        "origin": told.origin,
        "parked": told.parked.is_some(),
        "destination": told.parked,
    })
}

fn number(id: &str) -> Result<Number, Problem> {
    id.parse().map_err(|_| gone())
}

fn gone() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such dead letter")
}

fn broken(error: std::io::Error) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the dead-letter queue cannot be read: {error}"))
}
