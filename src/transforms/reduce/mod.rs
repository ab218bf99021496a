//! `reduce`: merges many events with the same key into one.

mod merge;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{Check, Failure, Outputs, Stage, Transaction, Why};
use crate::event::Batch;
use crate::query::Query;
use crate::toolkit::{EventKey, Held};
use crate::units::{Duration, OneOrMany};
pub use merge::Merge;
use merge::{Group, Limits};

/// Merges events with the same key into one: the first event, with the fields that only later ones have, and the fields
/// of `merge` combined. `metadata.reduced` has the number of events and the times of the first and the last. A merged
/// event counts as filtered (`reduced`), the emitted one as made; its id is derived from the first event's. Events
/// without the key pass on at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Field or fields that identify a group.
    #[schemars(with = "OneOrMany")]
    pub key: OneOrMany,
    /// Maximum duration of a group, from its first event.
    #[serde(default = "default_window")]
    pub window: Duration,
    /// A group also ends after this time without an event.
    #[serde(default)]
    pub idle: Option<Duration>,
    /// Maximum number of events in a group.
    #[serde(default = "default_max_events")]
    pub max_events: u32,
    /// Query of an event that ends its group; the event is part of it.
    #[serde(default)]
    pub ends_when: Option<String>,
    /// How the values of a field are combined; of other fields the first value is kept.
    #[serde(default)]
    pub merge: BTreeMap<String, Merge>,
}

fn default_window() -> Duration {
    Duration::from_secs(30)
}

fn default_max_events() -> u32 {
    1000
}

pub struct Reduce {
    source: Arc<str>,
    key: EventKey,
    ends_when: Option<Query>,
    merge: BTreeMap<String, Merge>,
    limits: Limits,
}

impl Stage for Reduce {
    const TYPE: &'static str = "reduce";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Reduce> {
        let before = check.problems.len();
        let window: std::time::Duration = config.window.into();
        if window.is_zero() {
            check.problem("window", "expected more than 0");
        }
        if config.max_events < 2 {
            check.problem("max_events", "expected at least 2");
        }
        if let Some(name) =
            config.merge.keys().find(|name| name.is_empty() || ["id", "metadata"].contains(&name.as_str()))
        {
            check.problem("merge", format!("`{name}` cannot be merged: name another top-level field"));
        }
        let key = EventKey::read(&config.key, "key", check);
        let ends_when = config.ends_when.as_ref().map(|text| check.query("ends_when", text));
        if check.problems.len() > before {
            return None;
        }
        let limits = Limits { window, idle: config.idle.map(Into::into), events: u64::from(config.max_events) };
        Some(Reduce {
            source: check.name.clone(),
            key: key?,
            ends_when: ends_when.flatten(),
            merge: config.merge,
            limits,
        })
    }

    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>) {
        taken.extend((0..batch.len()).map(|event| self.key.of(batch, event).is_some()));
    }

    fn step(&self, mut batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure> {
        let mut is_taken = vec![true; batch.len()];
        // Read and written once a step, however many events a group has in it.
        let mut groups: HashMap<Vec<u8>, Option<Group>> = HashMap::new();
        for (event, is_taken) in is_taken.iter_mut().enumerate() {
            let Some(key) = self.key.of(&batch, event) else {
                *is_taken = false;
                continue;
            };
            let held = Held::take(&batch, event, state.now);
            let known = groups.entry(key).or_insert_with_key(|key| state.get(key).and_then(Group::decode));
            // A group that was due in the meantime has ended before this event.
            if let Some(over) = known.take_if(|group| group.due(&self.limits) <= held.received_at) {
                out.emit(over.finish(&self.merge, &self.source));
            }
            match known {
                Some(group) => group.add(&held, &self.merge),
                None => *known = Some(Group::begin(held)),
            }
            let ends = self.ends_when.as_ref().is_some_and(|query| query.matches_event(&batch, event));
            let is_over = |group: &mut Group| ends || group.count >= self.limits.events || group.is_full();
            if let Some(over) = known.take_if(is_over) {
                out.emit(over.finish(&self.merge, &self.source));
            }
        }
        for (key, group) in groups {
            match group {
                Some(group) => state.put(&key, group.encode(), Some(group.due(&self.limits))),
                None => state.remove(&key),
            }
        }
        out.filtered("reduced", is_taken.iter().filter(|is_taken| **is_taken).count() as u64);
        batch.retain(|event| !is_taken[event]);
        out.emit(batch);
        Ok(())
    }

    fn due(&self, key: &[u8], value: &Bytes, _: Why, state: &mut Transaction<'_>, out: &mut Outputs) {
        state.remove(key);
        if let Some(group) = Group::decode(value) {
            out.emit(group.finish(&self.merge, &self.source));
        }
    }

    fn held(&self, value: &Bytes) -> u64 {
        Group::decode(value).map_or(1, |group| group.count)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::transforms::testing::{Driven, RECEIVED_AT, stage_problems};

    fn given(config: &str, events: &[&str]) -> serde_json::Value {
        let mut reduce: Driven<Reduce> = Driven::new(config);
        let given = reduce.step(events);
        assert!(given.lines.is_empty());
        assert_eq!(given.filtered, [("reduced", events.len() as u64)].into());
        let given = reduce.wait(100.0);
        assert_eq!((given.lines.len(), reduce.entries()), (1, 0));
        given.json(0)
    }

    #[test]
    fn a_group_is_its_first_event_with_what_the_others_add() {
        let merge =
            "{ key: k, merge: { n: sum, low: min, high: max, last: last, text: concat, all: array, c: count } }";
        let events = [
            r#"{"k":"a","first":1,"n":1,"low":5,"high":5,"last":"x","text":"one","all":1,"c":9}"#,
            r#"{"k":"a","first":2,"n":2.5,"low":4.5,"high":4,"last":"y","text":"two","all":{"b":2},"c":9}"#,
            r#"{"k":"a","more":true,"n":"no number","low":7,"high":12,"last":"z","text":"three","all":null}"#,
        ];
        let time = RECEIVED_AT.to_string();
        assert_eq!(
            given(merge, &events),
            json!({
                "k": "a", "first": 1, "n": 3.5, "low": 4.5, "high": 12, "last": "z", "text": "one\ntwo\nthree",
                "all": [1, {"b": 2}, null], "c": 2, "more": true,
                "metadata": {"reduced": {"count": 3, "first": time, "last": time}},
            })
        );
    }

    #[test]
    fn integers_stay_integers_and_large_ones_stay_exact() {
        let big = 9_007_199_254_740_993_i64;
        let events = [format!(r#"{{"k":1,"n":{big}}}"#), r#"{"k":1,"n":2}"#.to_owned()];
        let reduced = given("{ key: k, merge: { n: sum } }", &events.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(reduced["n"], big + 2);
    }

    #[test]
    fn a_group_ends_by_its_query_its_size_or_its_age() {
        let mut reduce: Driven<Reduce> =
            Driven::new("{ key: k, window: 60s, idle: 10s, max_events: 3, ends_when: 'done:true' }");
        let event = r#"{"k":"a"}"#;
        assert_eq!(reduce.step(&[event, event, event, event]).json(0)["metadata"]["reduced"]["count"], 3);
        let given = reduce.step(&[r#"{"k":"a","done":true}"#]);
        assert_eq!(given.json(0)["metadata"]["reduced"]["count"], 2);
        reduce.step(&[event]);
        assert!(reduce.wait(9.0).lines.is_empty());
        assert_eq!(reduce.wait(1.0).lines.len(), 1);
    }

    #[test]
    fn the_same_events_again_make_an_event_of_the_same_id() {
        let ids = || {
            let mut reduce: Driven<Reduce> = Driven::new("key: k");
            reduce.step(&[r#"{"k":"a","id":"0190163d-8694-739b-aea5-966c26f8ad91"}"#, r#"{"k":"a"}"#]);
            let given = reduce.release(Why::Released);
            assert_ne!(given.json(0)["id"], "0190163d-8694-739b-aea5-966c26f8ad91");
            given.ids
        };
        assert_eq!(ids(), ids());
    }

    #[test]
    fn what_cannot_be_reduced_is_a_problem() {
        assert_eq!(
            stage_problems::<Reduce>("{ key: [], window: 0s, max_events: 1, merge: { id: last } }"),
            [
                "window: expected more than 0",
                "max_events: expected at least 2",
                "merge: `id` cannot be merged: name another top-level field",
                "key: the key has 1 to 8 fields",
            ]
        );
    }
}
