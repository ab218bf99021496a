//! `/api/dlq`: lists, replays and drops dead letters.

use std::borrow::Cow;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Api;
use super::acts::{record, record_read};
use super::answer::Answer;
use super::params::bad;
use super::routes::Call;
use crate::journal::dead_letters::{DeadLetter, Number};
use crate::net::http::Problem;
use crate::topology::Dropped;

/// Dead letters that one request drops at most.
const MAX_DROPPED: usize = 500;
/// Dead letters of one answer.
const DEFAULT_LIMIT: u64 = 100;

/// A dead letter with what it holds.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    brief: Value,
    /// As it came, where it is JSON: a number may be larger than any float.
    event: Option<Box<RawValue>>,
    text: Cow<'a, str>,
}

pub async fn list(api: &Api, call: Call) -> Result<Answer, Problem> {
    let limit = call.params.number("limit", DEFAULT_LIMIT) as usize;
    let unknown = |_| bad("after", "expected the `next` of an earlier page");
    let after = call.params.text("after").map(|text| number(text).map_err(unknown)).transpose()?;
    let queue = &api.agent.context.dead_letters;
    let summary = queue.summary().await.map_err(broken)?;
    let dead_letters = queue.list(after, limit).await.map_err(broken)?;
    let next = (dead_letters.len() == limit)
        .then(|| dead_letters.last().map(|dead_letter| dead_letter.number.to_string()))
        .flatten();
    let dead_letters: Vec<Value> = dead_letters.iter().map(brief).collect();
    let answer = json!({
        "dead_letters": dead_letters, "total": summary.dead_letters, "parked": summary.parked, "bytes": summary.bytes,
        "limit_bytes": summary.max_bytes,
        "next": next,
    });
    Ok(Answer::value(&answer))
}

pub async fn show(api: &Api, call: Call) -> Result<Answer, Problem> {
    let id = &call.path[0];
    let dead_letter = api.agent.context.dead_letters.get(number(id)?).await.map_err(broken)?.ok_or_else(gone)?;
    let body = &dead_letter.content.body;
    let shown = Shown {
        brief: brief(&dead_letter),
        event: serde_json::from_slice(body).ok(),
        text: String::from_utf8_lossy(body),
    };
    record_read(api, &call, "activity_read", 1);
    Ok(Answer::value(&shown))
}

pub async fn replay(api: &Api, call: Call) -> Result<Answer, Problem> {
    let id = &call.path[0];
    let number = number(id)?;
    if api.agent.context.dead_letters.get(number).await.map_err(broken)?.is_none() {
        return Err(gone());
    }
    let done = api.agent.replay(number).await;
    let metadata = json!({ "dead_letter": id, "replayed": done.is_ok() });
    let (status, said) = match &done {
        Ok(_) => (StatusCode::OK, format!("replayed dead letter {id}")),
        Err(_) => (StatusCode::CONFLICT, format!("failed to replay dead letter {id}")),
    };
    record(api, &call, "dead_letter_replay", status, &said, metadata);
    done.map_err(|reason| Problem::new(StatusCode::CONFLICT, format!("replay failed: {reason}")))?;
    Ok(Answer::value(&json!({ "id": id, "replayed": true })))
}

/// One dead letter, or several whose ids stand one after another with commas between them.
pub async fn drop(api: &Api, call: Call) -> Result<Answer, Problem> {
    let ids = &call.path[0];
    let numbers: Vec<Number> = ids.split(',').map(number).collect::<Result<_, _>>()?;
    if numbers.len() > MAX_DROPPED {
        return Err(Problem::bad_request(format!("at most {MAX_DROPPED} dead letters can be dropped at a time")));
    }
    let Dropped { dropped, on_their_way } = api.agent.drop_dead_letters(numbers).await.map_err(broken)?;
    let (said, metadata) = match dropped {
        0 if on_their_way > 0 => {
            let reason = "its batch is still being delivered; try again after that";
            return Err(Problem::new(StatusCode::CONFLICT, format!("the dead letter stays: {reason}")));
        }
        0 => return Err(gone()),
        1 => (format!("dropped dead letter {ids}"), json!({ "dead_letter": ids })),
        _ => (format!("dropped {dropped} dead letters"), json!({ "dead_letters": dropped })),
    };
    record(api, &call, "dead_letter_drop", StatusCode::OK, &said, metadata);
    Ok(Answer::value(&json!({ "id": ids, "dropped": true, "count": dropped })))
}

fn brief(dead_letter: &DeadLetter) -> Value {
    let told = &dead_letter.content;
    json!({
        "id": dead_letter.number.to_string(),
        "time": dead_letter.time.to_string(),
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
