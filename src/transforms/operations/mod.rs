//! `operations`: joins a start and its completion into one event; what never completes is lost, and what only the
//! server saw is a `capture_gap`.

mod entry;
mod join;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{Check, Failure, Outputs, Stage, Transaction, Why};
use crate::event::{Batch, names};
use crate::query::Query;
use crate::toolkit::{EventKey, Held};
use crate::units::{Duration, OneOrMany, Timestamp};
use entry::{Ended, Entry, MAX_NESTED, Times, has_ended, was_passed_over};

/// Joins the start and the completion of an operation into one event: the completion, with the fields that only the
/// start has, a `duration_ms` and `metadata.started_at`. A Jupyter server's report of the same execution is joined too.
/// Events without the key, and those that are neither start nor completion, pass on at once. A waiting start counts as
/// filtered (`joined`), and the event emitted for it later as made. With a journal in memory, open operations are
/// emitted as they are when Weir stops, and are lost when it is killed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Field or fields that identify an operation. If several starts have the same key, the last one is completed
    /// first.
    #[schemars(with = "OneOrMany")]
    pub key: OneOrMany,
    /// Query of starts.
    pub start: String,
    /// Query of completions.
    pub end: String,
    /// Query of reports of a Jupyter server.
    pub seen: String,
    /// An operation that has been open for this long is emitted on the output `NAME.open`, with the id of its start.
    pub open_after: Duration,
    /// A start without a completion becomes an event with `status: lost` after this time.
    pub timeout: Duration,
    /// An execution that the server saw and the kernel has not reported for this long is emitted alone, together with a
    /// `capture_gap` event.
    pub gap_after: Duration,
    /// How long after a completion its repeats and late reports of the server are recognised.
    pub repeats: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            key: OneOrMany(vec!["operation_id".into()]),
            start: "status:in_progress -event_type:cell.seen".into(),
            end: "has:status -status:in_progress -event_type:cell.seen".into(),
            seen: "event_type:cell.seen".into(),
            open_after: Duration::from_secs(5),
            timeout: Duration::from_secs(24 * 3600),
            gap_after: Duration::from_secs(30),
            repeats: Duration::from_secs(60),
        }
    }
}

pub struct Operations {
    source: Arc<str>,
    key: EventKey,
    start: Query,
    end: Query,
    seen: Query,
    times: Times,
}

/// What an event is to its operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    End,
    Seen,
}

impl Stage for Operations {
    const TYPE: &'static str = "operations";
    const OUTPUTS: &'static [&'static str] = &["open"];
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Operations> {
        let before = check.problems.len();
        let key = EventKey::read(&config.key, "key", check);
        if config.timeout < config.open_after {
            check.problem(
                "timeout",
                "an operation would be lost before it is shown as open: `timeout` is below `open_after`",
            );
        }
        let start = check.query("start", &config.start);
        let end = check.query("end", &config.end);
        let seen = check.query("seen", &config.seen);
        if check.problems.has_errors() && check.problems.len() > before {
            return None;
        }
        Some(Operations {
            source: check.name.clone(),
            key: key?,
            start: start?,
            end: end?,
            seen: seen?,
            times: Times {
                open_after: config.open_after.into(),
                timeout: config.timeout.into(),
                gap_after: config.gap_after.into(),
                repeats: config.repeats.into(),
            },
        })
    }

    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>) {
        taken.extend(
            (0..batch.len()).map(|event| self.key.of(batch, event).is_some() && self.phase(batch, event).is_some()),
        );
    }

    fn step(&self, mut batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure> {
        let mut goes_on = vec![false; batch.len()];
        for (event, goes_on) in goes_on.iter_mut().enumerate() {
            let (Some(key), Some(phase)) = (self.key.of(&batch, event), self.phase(&batch, event)) else {
                // The configuration was another when it was taken.
                *goes_on = true;
                continue;
            };
            let mut entry = state.get(&key).and_then(Entry::decode).unwrap_or_default();
            let word = match phase {
                Phase::Start => self.start(&mut entry, Held::take(&batch, event, state.now), out),
                Phase::End => self.end(&mut entry, &mut batch, event, state.now, out),
                Phase::Seen => self.seen(&mut entry, Held::take(&batch, event, state.now), out),
            };
            match word {
                Some(word) => out.filtered(word, 1),
                None => *goes_on = true,
            }
            self.put(state, &key, &entry);
        }
        batch.retain(|event| goes_on[event]);
        out.emit(batch);
        Ok(())
    }

    fn due(&self, key: &[u8], value: &Bytes, why: Why, state: &mut Transaction<'_>, out: &mut Outputs) {
        let Some(mut entry) = Entry::decode(value) else { return state.remove(key) };
        match why {
            Why::Due => {
                self.expire(&mut entry, state.now, out);
                self.put(state, key, &entry);
            }
            Why::Evicted => {
                entry.starts.iter().for_each(|start| out.emit(join::lost(start, &self.source)));
                entry.seen.iter().for_each(|seen| out.emit(seen.batch(&self.source)));
            }
            Why::Released => {
                let held = entry.starts.iter().chain(&entry.seen);
                held.for_each(|held| out.emit(held.batch(&self.source)));
            }
        }
    }

    fn held(&self, value: &Bytes) -> u64 {
        Entry::decode(value).map_or(1, |entry| entry.held())
    }

    fn open(&self, value: &Bytes) -> Vec<Bytes> {
        let starts = Entry::decode(value).map(|entry| entry.starts).unwrap_or_default();
        // What was shown is an event of its own, where that output is read.
        starts.into_iter().filter(|start| !start.mark).map(|start| start.line).collect()
    }
}

impl Operations {
    fn phase(&self, batch: &Batch, event: usize) -> Option<Phase> {
        let is = |query: &Query| query.matches_event(batch, event);
        if is(&self.seen) {
            Some(Phase::Seen)
        } else if is(&self.start) {
            Some(Phase::Start)
        } else {
            is(&self.end).then_some(Phase::End)
        }
    }

    fn put(&self, state: &mut Transaction<'_>, key: &[u8], entry: &Entry) {
        match entry {
            Entry { ended: None, .. } if entry.held() == 0 => state.remove(key),
            entry if entry.held() == 0 => state.put_spare(key, entry.encode(), entry.due(&self.times)),
            entry => state.put(key, entry.encode(), entry.due(&self.times)),
        }
    }

    /// The word under which a start is filtered.
    fn start(&self, entry: &mut Entry, start: Held, out: &mut Outputs) -> Option<&'static str> {
        let id = start.id();
        if entry.starts.iter().any(|known| known.id() == id) {
            return Some("repeat");
        }
        if let Some(ended) = entry.ended.as_mut().filter(|ended| !ended.had_start) {
            // It arrived after its own completion, which was already emitted.
            ended.had_start = true;
            return Some("joined");
        }
        if entry.starts.len() == MAX_NESTED {
            out.emit(join::lost(&entry.starts.remove(0), &self.source));
        }
        entry.starts.push(start);
        Some("joined")
    }

    /// Completes an end in its place, or returns the reason under which it is filtered.
    fn end(
        &self,
        entry: &mut Entry,
        batch: &mut Batch,
        event: usize,
        now: Timestamp,
        out: &mut Outputs,
    ) -> Option<&'static str> {
        let id = Held::take(batch, event, now).id();
        if entry.ended.as_ref().is_some_and(|ended| ended.id == id) {
            return Some("repeat");
        }
        let start = entry.starts.pop();
        let seen = if entry.starts.is_empty() { entry.seen.take() } else { None };
        let code = join::code_hash(batch.get(event, names::CODE));
        if start.is_some() || seen.is_some() {
            join::complete(batch, event, start.as_ref(), seen.as_ref());
        }
        self.compare(code, seen.as_ref(), out);
        entry.ended = Some(Ended { at: now, id, had_start: start.is_some(), was_seen: seen.is_some(), code });
        None
    }

    /// The word under which a report of the server is filtered.
    fn seen(&self, entry: &mut Entry, seen: Held, out: &mut Outputs) -> Option<&'static str> {
        if entry.starts.is_empty()
            && let Some(ended) = &mut entry.ended
        {
            let code = ended.code.filter(|_| !ended.was_seen);
            ended.was_seen = true;
            self.compare(code, Some(&seen), out);
            return Some("joined");
        }
        // A later report says more: that it has ended.
        entry.seen = Some(seen);
        Some("joined")
    }

    /// What the kernel reports and what the server saw must be the same code.
    fn compare(&self, reported: Option<[u8; 16]>, seen: Option<&Held>, out: &mut Outputs) {
        let Some((seen, code)) = seen.and_then(|seen| Some((seen, join::code_hash(seen.json().get("code"))?))) else {
            return;
        };
        if reported.is_some_and(|reported| reported != code) {
            let description = "the server saw other code than the kernel reported";
            out.emit(join::capture_gap(seen, "code_differs", description, &self.source));
        }
    }

    /// Gives what has waited for its time.
    fn expire(&self, entry: &mut Entry, now: Timestamp, out: &mut Outputs) {
        let times = &self.times;
        for start in entry.starts.extract_if(.., |start| start.at.plus(times.timeout) <= now).collect::<Vec<_>>() {
            out.emit(join::lost(&start, &self.source));
            if entry.starts.is_empty() {
                // The server has seen it begin, and not end either.
                let was_seen = entry.seen.take_if(|seen| !has_ended(seen)).is_some();
                let code = join::code_hash(start.json().get("code"));
                entry.ended = Some(Ended { at: now, id: start.id(), had_start: true, was_seen, code });
            }
        }
        for start in entry.starts.iter_mut().filter(|s| !s.mark && s.at.plus(times.open_after) <= now) {
            start.mark = true;
            out.emit_to(1, start.batch(&self.source));
        }
        if let Some(seen) = entry
            .seen
            .take_if(|seen| (entry.starts.is_empty() || has_ended(seen)) && seen.at.plus(times.gap_after) <= now)
        {
            let start = entry.starts.pop();
            let mut alone = seen.batch(&self.source);
            if let Some(start) = &start {
                join::complete(&mut alone, 0, Some(start), None);
            }
            out.emit(alone);
            let (reason, description) = match start {
                Some(_) => ("not_completed", "the server saw the end of an execution that the kernel did not report"),
                None => ("not_reported", "the server saw an execution that the kernel did not report"),
            };
            // There was nothing that the kernel could have reported.
            if !was_passed_over(&seen) {
                out.emit(join::capture_gap(&seen, reason, description, &self.source));
            }
            let code = join::code_hash(seen.json().get("code"));
            let had_start = start.is_some();
            entry.ended = Some(Ended { at: now, id: seen.id(), had_start, was_seen: true, code });
        }
        entry.ended.take_if(|ended| ended.at.plus(times.repeats) <= now);
    }
}
