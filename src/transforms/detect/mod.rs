//! `detect`: explainable rules over events that raise alerts.

mod absence;
mod alert;
mod config;
mod hours;
mod imports;
mod past;
mod patterns;
mod seen;
#[cfg(test)]
mod tests;
mod threshold;

use std::sync::Arc;

use bytes::Bytes;

use crate::component::{Check, Failure, Others, Outputs, Stage, Transaction, Why};
use crate::event::{Batch, Id};
use crate::toolkit::id_of;
use crate::units::Timestamp;
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};
use alert::Alert;
use config::Rule;
pub use config::{Config, Kind, RuleConfig, Severity};

pub struct Detect {
    source: Arc<str>,
    rules: Vec<Rule>,
}

/// An event as a rule sees it.
struct Look<'b> {
    batch: &'b Batch,
    event: usize,
    id: Id,
    /// The time of receipt, so that a backlog gives the same result as none.
    at: Timestamp,
    /// Names and values of the rule's `by`.
    by: Vec<(String, String)>,
}

/// Where a rule keeps what it knows of one key.
struct Place {
    key: Vec<u8>,
}

impl Place {
    /// The part of the state for a rule and what it looks at.
    fn new(rule: &Rule, parts: &[&str]) -> Place {
        let mut key = Vec::new();
        put_bytes(&mut key, rule.name.as_bytes());
        put_varint(&mut key, parts.len() as u64);
        parts.iter().for_each(|part| put_bytes(&mut key, part.as_bytes()));
        Place { key }
    }

    fn read<T: serde::de::DeserializeOwned>(&self, state: &Transaction<'_>) -> Option<T> {
        state.get(&self.key).and_then(|value| serde_json::from_slice(value).ok())
    }

    fn write<T: serde::Serialize>(&self, state: &mut Transaction<'_>, value: &T, due: Option<Timestamp>) {
        let value = serde_json::to_vec(value).expect("plain data becomes JSON");
        state.put(&self.key, value, due);
    }
}

/// The rule of a place and the parts of its key.
fn parts(mut key: &[u8]) -> Option<(String, Vec<String>)> {
    let text = |from: &mut &[u8]| String::from_utf8(take_bytes(from)?.to_vec()).ok();
    let rule = text(&mut key)?;
    let count = take_varint(&mut key)?;
    let parts = (0..count).map(|_| text(&mut key)).collect::<Option<Vec<String>>>()?;
    Some((rule, parts))
}

impl Stage for Detect {
    const TYPE: &'static str = "detect";
    const OTHERS: Others = Others::Filter;
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Detect> {
        let rules = config::read(config, check)?;
        Some(Detect { source: check.name.clone(), rules })
    }

    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>) {
        let matches = |event| self.rules.iter().any(|rule| rule.query.matches_event(batch, event));
        taken.extend((0..batch.len()).map(matches));
    }

    fn step(&self, batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure> {
        for event in 0..batch.len() {
            for rule in self.rules.iter().filter(|rule| rule.query.matches_event(&batch, event)) {
                let by = rule.by.as_ref().map(|by| by.shown(&batch, event)).unwrap_or_default();
                if rule.by.as_ref().is_some_and(|key| key.paths().len() != by.len()) {
                    // It lacks what the rule counts by.
                    continue;
                }
                let at = batch.provenance.received_at;
                let look = Look { batch: &batch, event, id: id_of(&batch, event), at, by };
                for alert in rule.look(&look, state) {
                    out.emit(alert.event(rule, &self.source));
                }
            }
        }
        out.filtered("looked_at", batch.len() as u64);
        Ok(())
    }

    fn due(&self, key: &[u8], value: &Bytes, why: Why, state: &mut Transaction<'_>, out: &mut Outputs) {
        let known =
            parts(key).and_then(|(name, parts)| Some((self.rules.iter().find(|rule| rule.name == name)?, parts)));
        state.remove(key);
        // What a rule that is gone knew is of no use.
        if let (Some((rule, parts)), Why::Due) = (known, why) {
            for alert in rule.due(key, &parts, value, state) {
                out.emit(alert.event(rule, &self.source));
            }
        }
    }
}

impl Rule {
    fn look(&self, look: &Look<'_>, state: &mut Transaction<'_>) -> Vec<Alert> {
        match self.kind {
            Kind::Threshold => threshold::look(self, look, state),
            Kind::Forbidden => match patterns::found(self, look) {
                Some(found) => threshold::look(self, look, state)
                    .into_iter()
                    .map(|alert| alert.note("found", found.as_str()))
                    .collect(),
                None => Vec::new(),
            },
            Kind::FirstSeen => seen::look(self, look, state),
            Kind::UnusualHour => hours::look(self, look, state),
            Kind::OwnPast => past::look(self, look, state),
            Kind::Absence => absence::look(self, look, state),
        }
    }

    fn due(&self, key: &[u8], parts: &[String], value: &Bytes, state: &mut Transaction<'_>) -> Vec<Alert> {
        let place = Place { key: key.to_vec() };
        match self.kind {
            Kind::Threshold | Kind::Forbidden => threshold::due(self, parts, value),
            Kind::Absence => absence::due(self, place, parts, value, state),
            Kind::FirstSeen | Kind::UnusualHour | Kind::OwnPast => Vec::new(),
        }
    }

    /// Names and values of `by`, from the parts of a key.
    fn by_of(&self, parts: &[String]) -> Vec<(String, String)> {
        let names = self.by.iter().flat_map(|by| by.paths()).map(|path| path.join("."));
        names.zip(parts.iter().cloned()).collect()
    }

    /// The place for what an event is counted by.
    fn place(&self, look: &Look<'_>) -> Place {
        Place::new(self, &look.by.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>())
    }
}
