//! Tells a repeat from another event of the same id, by comparing with the document that is there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cluster::Cluster;
use super::encode::{Encoder, Shape};
use crate::component::WriteBatch;
use crate::event::names::OF_RECEIPT;

/// Documents that are asked for at once, and bytes of events that they are compared with: their answer has room for more.
const MOST_AT_ONCE: usize = 256;
const MOST_BYTES: usize = 4 << 20;
/// How long the server may take for each, and which part of a write's own time that is at most. The events are there, so
/// that a question without an answer changes nothing.
const PATIENCE: Duration = Duration::from_secs(5);
const OF_TIMEOUT: u32 = 4;
/// Indices of which it is known whether they give documents back as they were sent.
const MOST_INDICES: usize = 64;

/// An event of a batch whose id is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    /// Its place in the batch.
    pub nth: usize,
    /// Where it is, if the server says so: behind an alias or a data stream it is another name than the one written to.
    pub index: Option<String>,
}

/// What is known of the indices that were asked.
pub struct Comparison {
    patience: Duration,
    verbatim: Mutex<BTreeMap<String, bool>>,
}

#[derive(Deserialize)]
struct Action {
    create: Name,
}

#[derive(Deserialize)]
struct Name {
    #[serde(rename = "_index")]
    index: Option<String>,
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Documents {
    docs: Vec<Document>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(rename = "_source")]
    source: Option<Value>,
}

impl Comparison {
    /// One that takes a part of the time that a write may take.
    pub fn within(timeout: Duration) -> Comparison {
        Comparison { patience: PATIENCE.min(timeout / OF_TIMEOUT), verbatim: Mutex::default() }
    }

    /// How many of these events are there with other content.
    pub async fn conflicts(&self, cluster: &Cluster, encoder: &Encoder, batch: &WriteBatch, there: &[There]) -> u64 {
        let mut conflicts = 0;
        let mut rest = there;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(together(batch, rest).end);
            rest = later;
            match tokio::time::timeout(self.patience, self.compare(cluster, encoder, batch, now)).await {
                Ok(Ok(found)) => conflicts += found,
                Ok(Err(said)) => {
                    tracing::debug!(error = said, "cannot compare events with the documents of their ids");
                    return conflicts;
                }
                Err(_) => return conflicts,
            }
        }
        conflicts
    }

    async fn compare(
        &self,
        cluster: &Cluster,
        encoder: &Encoder,
        batch: &WriteBatch,
        there: &[There],
    ) -> Result<u64, String> {
        let (mut wanted, mut sent) = (Vec::new(), Vec::new());
        for There { nth, index } in there {
            let Some((name, document)) = encoded(encoder, &batch.split(*nth).1.split(1).0) else { continue };
            let index = index.as_deref().or(name.index.as_deref()).or(encoder.names.constant());
            let Some(index) = index else { continue };
            wanted.push(json!({ "_index": index, "_id": name.id }));
            sent.push((index.to_owned(), document));
        }
        let path = "/_mget?filter_path=docs._source,docs._id";
        let request = cluster.request_with(Method::POST, path, &json!({ "docs": wanted }));
        let answer = cluster.send(request).await.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(answer.status.to_string());
        }
        let found: Documents = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let mut conflicts = 0;
        for ((index, sent), found) in sent.iter().zip(found.docs) {
            let is_other =
                found.source.is_some_and(|found| content(found, encoder.shape) != content(sent.clone(), encoder.shape));
            if is_other && self.is_verbatim(cluster, index).await? {
                conflicts += 1;
            }
        }
        Ok(conflicts)
    }

    /// Whether an index gives documents back as they were sent: no pipeline changes them, and nothing is left out of their
    /// source or made up for it.
    async fn is_verbatim(&self, cluster: &Cluster, index: &str) -> Result<bool, String> {
        let known = self.verbatim.lock().unwrap_or_else(PoisonError::into_inner).get(index).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !index.chars().all(is_name) {
            return Ok(false);
        }
        let settings = ["mode", "mapping.source", "default_pipeline", "final_pipeline"];
        let asked: String = settings.iter().map(|name| format!(",*.settings.index.{name}")).collect();
        let request = cluster.request(Method::GET, &format!("/{index}?filter_path=*.mappings._source{asked}"));
        let answer = cluster.send(request).await.map_err(|error| error.to_string())?;
        // Who may not look cannot tell.
        let is_verbatim = answer.status.is_success()
            && serde_json::from_slice(&answer.body).is_ok_and(|settings: Value| changes_nothing(&settings));
        let mut verbatim = self.verbatim.lock().unwrap_or_else(PoisonError::into_inner);
        if verbatim.len() >= MOST_INDICES {
            verbatim.clear();
        }
        verbatim.insert(index.to_owned(), is_verbatim);
        Ok(is_verbatim)
    }
}

/// The first of these events that are compared together.
fn together(batch: &WriteBatch, there: &[There]) -> Range<usize> {
    let mut bytes = 0;
    let mut fits = |one: &There| {
        bytes += batch.event(one.nth).line().len();
        bytes <= MOST_BYTES
    };
    0..there.iter().take(MOST_AT_ONCE).take_while(|one| fits(one)).count().max(1)
}

/// Where one event goes, and as what.
fn encoded(encoder: &Encoder, event: &WriteBatch) -> Option<(Name, Value)> {
    let body = encoder.body(event).ok()?;
    let mut lines = body.splitn(2, |byte| *byte == b'\n');
    let action: Action = serde_json::from_slice(lines.next()?).ok()?;
    Some((action.create, serde_json::from_slice(lines.next()?).ok()?))
}

/// A document without what an event gets when it is taken, which a repeat may have anew: an event without a time of its own
/// has that of its receipt.
fn content(document: Value, shape: Shape) -> Value {
    let Value::Object(mut document) = document else { return document };
    match shape {
        Shape::Line => forget(&mut document),
        Shape::Ecs => {
            for (name, members) in
                [("event", &["created", "provider"][..]), ("weir", &["timestamp"]), ("weir", &OF_RECEIPT)]
            {
                let Some(Value::Object(inner)) = document.get_mut(name) else { continue };
                members.iter().for_each(|member| drop(inner.remove(*member)));
            }
            document.remove("@timestamp");
        }
    }
    Value::Object(document)
}

fn forget(document: &mut Map<String, Value>) {
    for name in ["timestamp", "@timestamp"].into_iter().chain(OF_RECEIPT) {
        document.remove(name);
    }
}

/// Whether none of these settings of one index says that its documents are other than what was sent.
fn changes_nothing(settings: &Value) -> bool {
    let Some(settings) = settings.as_object() else { return false };
    settings.values().all(|index| {
        let of_index = &index["settings"]["index"];
        let pipeline = |name: &str| of_index[name].as_str().is_some_and(|pipeline| pipeline != "_none");
        let is_plain = of_index["mode"].as_str().is_none_or(|mode| mode == "standard");
        let source = (&index["mappings"]["_source"], &of_index["mapping"]["source"]);
        is_plain
            && source.0.is_null()
            && source.1.is_null()
            && !pipeline("default_pipeline")
            && !pipeline("final_pipeline")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_at_receipt_makes_no_other_content() {
        let one = json!({"@timestamp": 1, "timestamp": 1, "received_at": 1, "source": "a", "peer_ip": "b", "k": [1.50, null]});
        let again = json!({"@timestamp": 2, "source": "c", "k": [1.50, null]});
        assert_eq!(content(one.clone(), Shape::Line), content(again, Shape::Line));
        assert_ne!(content(one.clone(), Shape::Line), content(json!({"k": [1.50]}), Shape::Line));
        let ecs = |created: u64, word: &str| {
            json!({"@timestamp": created, "event": {"created": created, "provider": created, "action": word},
                   "weir": {"timestamp": created, "peer_ip": created, "status": "lost"}})
        };
        assert_eq!(content(ecs(1, "run"), Shape::Ecs), content(ecs(2, "run"), Shape::Ecs));
        assert_ne!(content(ecs(1, "run"), Shape::Ecs), content(ecs(1, "stop"), Shape::Ecs));
    }

    #[test]
    fn an_index_that_changes_documents_is_not_compared_with() {
        assert!(changes_nothing(&json!({})));
        let index = |index: Value| changes_nothing(&json!({"a": {"settings": {"index": index}}}));
        assert!(index(json!({"default_pipeline": "_none", "mode": "standard"})));
        assert!(!index(json!({"default_pipeline": "geo"})));
        assert!(!index(json!({"final_pipeline": "geo"})));
        assert!(!index(json!({"mode": "logsdb"})));
        assert!(!index(json!({"mapping": {"source": {"mode": "synthetic"}}})));
        assert!(!changes_nothing(&json!({"a": {"mappings": {"_source": {"excludes": ["code"]}}}})));
        assert!(!changes_nothing(&json!([])));
    }
}
