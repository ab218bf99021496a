//! `dedupe`: passes on the first of all events with the same key within a window.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{Check, Failure, Outputs, Stage, Transaction, Why};
use crate::event::Batch;
use crate::toolkit::EventKey;
use crate::units::{Duration, OneOrMany};

/// Bytes of a key's hash that are kept.
const HASH_BYTES: usize = 16;

/// Passes on the first event of each key within a window; the others are counted as filtered (`duplicate`). Events
/// without one of the fields pass on. Only hashes of the keys are kept; at the limit of `state` the oldest are evicted,
/// and a repeat of those passes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Field or fields that identify a duplicate. `id` is the event's id, its own or the derived one.
    #[schemars(with = "OneOrMany")]
    pub key: OneOrMany,
    /// How long a key is remembered, from its first event.
    pub window: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { key: OneOrMany(vec!["id".into()]), window: Duration::from_secs(3600) }
    }
}

pub struct Dedupe {
    key: EventKey,
    window: std::time::Duration,
}

impl Stage for Dedupe {
    const TYPE: &'static str = "dedupe";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Dedupe> {
        let window: std::time::Duration = config.window.into();
        if window.is_zero() {
            check.problem("window", "expected more than 0");
        }
        let key = EventKey::read(&config.key, "key", check)?;
        (!window.is_zero()).then_some(Dedupe { key, window })
    }

    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>) {
        taken.extend((0..batch.len()).map(|event| self.key.of(batch, event).is_some()));
    }

    fn step(&self, mut batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure> {
        // By the time of receipt, so that a backlog gives the same result as none.
        let received_at = batch.provenance.received_at;
        let mut is_first = vec![true; batch.len()];
        for (event, is_first) in is_first.iter_mut().enumerate() {
            let Some(key) = self.key.of(&batch, event) else { continue };
            let hash = blake3::hash(&key);
            let hash = &hash.as_bytes()[..HASH_BYTES];
            let until = state.get(hash).and_then(|until| Some(i64::from_le_bytes(*until.first_chunk()?)));
            *is_first = until.is_none_or(|until| until <= received_at.0);
            if *is_first {
                let until = received_at.plus(self.window);
                state.put_spare(hash, until.0.to_le_bytes().to_vec(), Some(until));
            }
        }
        out.filtered("duplicate", is_first.iter().filter(|is_first| !**is_first).count() as u64);
        batch.retain(|event| is_first[event]);
        out.emit(batch);
        Ok(())
    }

    fn due(&self, key: &[u8], _: &Bytes, _: Why, state: &mut Transaction<'_>, _: &mut Outputs) {
        state.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::testing::{Driven, stage_problems};

    #[test]
    fn the_first_of_a_window_goes_on_untouched_and_the_next_window_begins_anew() {
        let mut dedupe: Driven<Dedupe> = Driven::new("{ key: [user_id, code], window: 10s }");
        let event = r#"{ "user_id" : "ali", "code":"1" }"#;
        let other = r#"{"user_id":"sara","code":"1"}"#;
        let given = dedupe.step(&[event, other, event]);
        assert_eq!(given.lines, [event, other]);
        assert_eq!(given.filtered, [("duplicate", 1)].into());
        assert_eq!(dedupe.step(&[event]).filtered, [("duplicate", 1)].into());
        dedupe.wait(11.0);
        assert_eq!(dedupe.entries(), 0);
        assert_eq!(dedupe.step(&[event]).lines, [event]);
    }

    #[test]
    fn values_that_look_alike_side_by_side_are_told_apart() {
        let mut dedupe: Driven<Dedupe> = Driven::new("key: [a, b]");
        let given = dedupe.step(&[r#"{"a":"x","b":"yz"}"#, r#"{"a":"xy","b":"z"}"#]);
        assert_eq!(given.lines.len(), 2);
    }

    #[test]
    fn by_default_the_id_counts_as_128_bits() {
        let mut dedupe: Driven<Dedupe> = Driven::new("{}");
        let id = "0190163d-8694-739b-aea5-966c26f8ad91";
        let lines = [format!(r#"{{"id":"{id}"}}"#), format!(r#"{{"id":"{}"}}"#, id.to_uppercase()), "{}".into()];
        let given = dedupe.step(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(given.filtered, [("duplicate", 1)].into());
    }

    #[test]
    fn no_window_and_no_key_are_problems() {
        assert_eq!(stage_problems::<Dedupe>("window: 0s"), ["window: expected more than 0"]);
        assert_eq!(stage_problems::<Dedupe>("key: ['a..b']"), ["key: the key has 1 to 8 fields"]);
        let template = stage_problems::<Dedupe>("key: '{{ metadata.k }}'");
        assert_eq!(
            template,
            ["key: `{{ metadata.k }}` is a template: name fields, such as `user_id` or `metadata.tenant`"]
        );
    }
}
