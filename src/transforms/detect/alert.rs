//! Builds an alert event.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Look;
use super::config::{Rule, Severity};
use crate::event::names::known;
use crate::event::{Batch, Id, Raw, Seed};
use crate::toolkit::held::made;
use crate::units::{Duration, Timestamp};

/// The most event ids in an alert.
pub const MAX_IDS: usize = 20;

/// What a rule has found.
pub struct Alert {
    /// The event that decided it, or the last one before it was over.
    pub cause: Id,
    pub at: Timestamp,
    pub by: Vec<(String, String)>,
    /// Whether it resolves an earlier alert.
    pub is_resolved: bool,
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    pub ids: Vec<Id>,
    /// Further numbers and values, by their names.
    pub notes: Map<String, Value>,
    /// The message if the rule has none of its own.
    pub text: String,
}

impl Alert {
    /// About one event alone.
    pub(super) fn of_one(look: &Look<'_>, text: String) -> Alert {
        Alert {
            cause: look.id,
            at: look.at,
            by: look.by.clone(),
            is_resolved: false,
            count: 1,
            first: look.at,
            last: look.at,
            ids: vec![look.id],
            notes: Map::new(),
            text,
        }
    }

    pub fn note(mut self, name: &str, value: impl Into<Value>) -> Alert {
        self.notes.insert(name.to_owned(), value.into());
        self
    }

    /// The event; its id follows from the rule and the event that decided it.
    pub fn event(self, rule: &Rule, source: &Arc<str>) -> Batch {
        let kind: &[u8] = if self.is_resolved { b"resolved" } else { b"alert" };
        let parts: Vec<&[u8]> = self.by.iter().map(|(_, value)| value.as_bytes()).collect();
        let cause = self.cause.0.to_be_bytes();
        let seed =
            Seed::derive(&[&[b"detect".as_slice(), kind, rule.name.as_bytes(), cause.as_slice()], &parts[..]].concat());
        let mut event = Map::new();
        event.insert("id".into(), seed.id(0).to_string().into());
        event.insert("timestamp".into(), self.at.to_string().into());
        event.insert("event_type".into(), "alert".into());
        let status = match (self.is_resolved, rule.severity) {
            (true, _) | (false, Severity::Info) => "success",
            (false, Severity::Warning) => "warning",
            (false, Severity::Critical) => "error",
        };
        event.insert("status".into(), status.into());
        // The user or entity it is about goes into the canonical fields.
        for (name, value) in self.by.iter().filter(|(name, _)| known(name.as_bytes()).is_some()) {
            event.entry(name.clone()).or_insert_with(|| value.clone().into());
        }
        let by: Map<String, Value> = self.by.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let mut metadata = Map::new();
        metadata.insert("rule".into(), rule.name.clone().into());
        metadata.insert("kind".into(), rule.kind.as_str().into());
        metadata.insert("severity".into(), rule.severity.as_str().into());
        metadata.insert("resolved".into(), self.is_resolved.into());
        metadata.insert("by".into(), by.into());
        metadata.insert("count".into(), self.count.into());
        metadata.insert("threshold".into(), rule.count.into());
        metadata.insert("window".into(), Duration::from(rule.window).to_string().into());
        metadata.insert("first".into(), self.first.to_string().into());
        metadata.insert("last".into(), self.last.to_string().into());
        let ids: Vec<String> = self.ids.iter().take(MAX_IDS).map(Id::to_string).collect();
        metadata.insert("event_ids".into(), json!(ids));
        metadata.extend(self.notes);
        event.insert("metadata".into(), metadata.into());
        event.insert("description".into(), Value::Null);
        let line = serde_json::to_vec(&event).expect("a map becomes JSON");
        let view = Raw::valid(&line);
        let own = rule.message.as_ref().filter(|_| !self.is_resolved);
        let described = own.and_then(|message| message.render(|path| view.path(path)).ok()).unwrap_or(self.text);
        event.insert("description".into(), described.into());
        let line = serde_json::to_vec(&event).expect("a map becomes JSON");
        made(line, seed, self.at, source)
    }
}

/// `user_id=ali, host=nb-1`, for sentences.
pub fn whom(by: &[(String, String)]) -> String {
    let pairs: Vec<String> = by.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(" for {}", pairs.join(", ")) }
}
