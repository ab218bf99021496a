//! The agent's own events, which enter through the built-in source.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::agent::{Agent, Reloaded, Running};
use crate::codec::{Codec, Frames, Ordinals};
use crate::component::{Chunk, Intake as _, Job, OnBad, Wait};
use crate::config::API_SOURCE;
use crate::event::{Provenance, Seed};
use crate::journal::RecoveryReport;
use crate::units::Timestamp;

impl Agent {
    /// Reports what the journal has lost to damage: in the log, and as an event `gap` for each damaged place that held
    /// events.
    pub(super) fn report_damage(&self, report: &RecoveryReport) {
        let (needed, passed): (Vec<_>, Vec<_>) =
            report.lost.iter().partition(|loss| loss.seqs.end > report.needed_from || loss.seqs.is_empty());
        if !passed.is_empty() {
            let events: u64 = passed.iter().map(|loss| loss.seqs.end - loss.seqs.start).sum();
            tracing::warn!(
                events,
                places = passed.len(),
                "the journal was damaged, but every sink had passed these events"
            );
        }
        for loss in needed.into_iter().filter(|loss| !loss.was_reported) {
            let events = loss.seqs.end - loss.seqs.start;
            let (first_seq, last_seq) = (loss.seqs.start, loss.seqs.start + events.saturating_sub(1));
            let count = match events {
                0 => format!("an unknown number of events in its last {} bytes", loss.bytes),
                _ => format!("{events} events"),
            };
            tracing::error!(
                first_seq,
                last_seq,
                events,
                bytes = loss.bytes,
                "the journal lost {count} to damage; the damaged bytes are in its quarantine folder"
            );
            let description = format!("the journal lost {count} to damage");
            let metadata = json!({
                "cause": "damage", "first_seq": first_seq, "last_seq": last_seq,
                "events": (events > 0).then_some(events),
            });
            self.note("gap", &description, metadata);
        }
        for loss in report.notes_lost.iter().filter(|loss| !loss.was_reported) {
            tracing::warn!(
                seq = loss.seqs.start,
                bytes = loss.bytes,
                "the journal was damaged in a place that held no events: a source may read again what it had read by \
                 then, and a transform whose state was there says what of it is lost; the damaged bytes are in the \
                 quarantine folder of the journal"
            );
        }
        self.context.journal.note_reported(report);
    }

    /// Events parked for a sink without a cursor block nothing, but wait for the operator to decide.
    pub(super) fn report_parked(&self, running: &Running, parked: &BTreeMap<String, u64>) {
        let is_known = |name: &str| running.sinks.contains_key(name) || running.orphans.contains(name);
        for (sink, parked) in parked.iter().filter(|(name, _)| !is_known(name)) {
            tracing::warn!(
                sink,
                parked,
                "events are parked for a sink that is no longer configured; bring it back, or let them go with \
                 `weir dlq drop`"
            );
        }
    }

    /// Enters an event without waiting.
    pub fn note(&self, event_type: &str, description: &str, metadata: Value) {
        self.enter_own(&json!({ "event_type": event_type, "description": description, "metadata": metadata }));
    }

    /// Enters an event unchanged.
    pub fn note_event(&self, event: serde_json::Map<String, Value>) {
        self.enter_own(&Value::Object(event));
    }

    fn enter_own(&self, event: &Value) {
        let provenance = Provenance {
            source: API_SOURCE.into(),
            seed: Seed::random(),
            received_at: Timestamp::now(),
            peer: None,
            stamp: None,
        };
        let bytes = event.to_string().into_bytes().into();
        drop(self.api_intake().submit(Job {
            key: None,
            chunks: vec![Chunk { bytes, frames: Frames::Document, ordinals: Ordinals::Count(0) }],
            decoder: Codec::Json.decoder().into(),
            provenance: Arc::new(provenance),
            marks: Vec::new(),
            on_bad: OnBad::Refuse,
            wait: Wait::None,
            permit: None,
            origin: None,
        }));
    }
}

impl Reloaded {
    /// What happened, for the event about it.
    pub fn words(&self) -> &'static str {
        if self.applied { "reloaded the configuration" } else { "refused to reload the configuration" }
    }

    pub fn metadata(&self) -> Value {
        json!({ "applied": self.applied, "changed": self.changed })
    }
}
