//! The outcome of a bulk request, event by event.

use hyper::header;
use serde::Deserialize;

use super::conflicts::There;
use crate::component::{Failure, Written};
use crate::net::client::{Answer, MAX_ANSWER};
use crate::toolkit::reply;

/// Asks for what is needed to tell, so that the answer to a thousand events is 30 kB and not 300.
pub const FILTER: &str = "filter_path=errors,items.*.status,items.*.error";

#[derive(Deserialize)]
struct Bulk {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    error: Option<Reason>,
}

/// Why the server refuses something; the form is the same everywhere.
#[derive(Deserialize)]
pub struct Reason {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    caused_by: Option<Box<Reason>>,
    #[serde(default)]
    index: Option<String>,
}

impl Reason {
    fn text(&self) -> String {
        let mut text = self.kind.clone();
        let mut next = Some(self);
        while let Some(reason) = next {
            if let Some(words) = &reason.reason {
                text.push_str(": ");
                text.push_str(words);
            }
            next = reason.caused_by.as_deref();
        }
        reply::shown(&text)
    }
}

/// What an answer means to so many events. Where they may go to several indices, what an index refuses is said of
/// each event, for it may be that index alone. Events whose ids are there are added to `there`.
pub fn classify(answer: &Answer, sent: usize, indices_vary: bool, there: &mut Vec<There>) -> Result<Written, Failure> {
    whole(answer)?;
    let bulk: Bulk = serde_json::from_slice(&answer.body).map_err(|error| unreadable(answer, &error))?;
    if bulk.items.len() != sent {
        let answered = bulk.items.len();
        return Err(Failure::transient(format!("the server answered for {answered} of {sent} events")));
    }
    let mut written = Written::default();
    let mut failures = Vec::new();
    for (nth, Item { create }) in bulk.items.iter().enumerate() {
        match item(create) {
            Ok(true) => {}
            Ok(false) => {
                written.duplicates += 1;
                let index = create.error.as_ref().and_then(|reason| reason.index.clone());
                there.push(There { nth, index });
            }
            Err(failure) => failures.push((nth, failure)),
        }
    }
    if failures.is_empty() {
        return Ok(written);
    }
    let is_whole = failures.len() == sent;
    let all = |class: fn(&Failure) -> bool| is_whole && failures.iter().all(|(_, failure)| class(failure));
    let alike = all(|failure| matches!(failure, Failure::Transient { .. }))
        || !indices_vary && all(|failure| matches!(failure, Failure::Configuration { .. }));
    // What befalls all events alike is the target's own state, and shows as such.
    Err(if alike { failures.swap_remove(0).1 } else { Failure::Some(failures, written) })
}

/// What a whole request came to, with the server's reason where it gives one.
pub fn whole(answer: &Answer) -> Result<(), Failure> {
    reply::classify(answer).map_err(|failure| match (failure, reason(answer)) {
        (Failure::Transient { after, .. }, Some(said)) => Failure::Transient { answer: said, after },
        (Failure::Configuration { .. }, Some(answer)) => Failure::Configuration { answer },
        (Failure::Ambiguous { .. }, Some(answer)) => Failure::Ambiguous { answer },
        (Failure::Poison { .. }, Some(answer)) => Failure::Poison { answer },
        (failure, _) => failure,
    })
}

/// Status and the server's reason in one line.
pub fn reason(answer: &Answer) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Reason,
    }
    let refusal: Refusal = serde_json::from_slice(&answer.body).ok()?;
    Some(format!("{}: {}", answer.status, refusal.error.text()))
}

/// An answer that is no JSON comes from something else than a search node, which does not pass by itself.
fn unreadable(answer: &Answer, error: &serde_json::Error) -> Failure {
    if !answer.is_whole {
        return Failure::ambiguous(format!("the answer is longer than {} MiB", MAX_ANSWER >> 20));
    }
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    match kind.contains("json") {
        true => Failure::transient(format!("the answer cannot be read: {error}")),
        false => Failure::configuration(format!("not an Elasticsearch or OpenSearch node: {}", reply::said(answer))),
    }
}

/// Errors that are always a document's own.
const OF_DOCUMENTS: [&str; 4] =
    ["mapper_parsing_exception", "document_parsing_exception", "strict_dynamic_mapping_exception", "mapper_exception"];

/// Whether the event is new, or there already.
fn item(outcome: &Outcome) -> Result<bool, Failure> {
    let kind = outcome.error.as_ref().map_or("", |reason| &*reason.kind);
    let said = || match &outcome.error {
        Some(reason) => format!("{} {}", outcome.status, reason.text()),
        None => outcome.status.to_string(),
    };
    match (outcome.status, kind) {
        (200..=299, _) => Ok(true),
        (409, "version_conflict_engine_exception" | "") => Ok(false),
        // A node that runs out of disk blocks its indices until somebody makes room.
        (429, "cluster_block_exception") => Err(Failure::configuration(said())),
        (408 | 409 | 429 | 500..=599, _) => Err(Failure::transient(said())),
        (401 | 403 | 404, _) => Err(Failure::configuration(said())),
        // Closed by somebody, or the limit of shards: nothing is wrong with the event.
        (_, "index_closed_exception" | "validation_exception") => Err(Failure::configuration(said())),
        (_, kind) if OF_DOCUMENTS.contains(&kind) => Err(Failure::poison(said())),
        // An alias without an index to write to, a pipeline that is gone, too many fields; or this document alone.
        _ => Err(Failure::ambiguous(said())),
    }
}
