//! What the agent itself has to say: events of its own, which enter through the built-in source.

use std::sync::Arc;

use serde_json::{Value, json};

use super::agent::Agent;
use crate::codec::{Codec, Frames, Ordinals};
use crate::component::{Intake as _, Job, OnBad, Piece, Wait};
use crate::config::API_SOURCE;
use crate::event::{Provenance, Seed};
use crate::units::Timestamp;

impl Agent {
    /// Enters an event that nobody waits for. `by` is the user who caused it, if one did.
    pub fn note(&self, event_type: &str, by: Option<&str>, is_admin: bool, description: &str, metadata: Value) {
        self.note_from(event_type, by, is_admin, description, metadata, None);
    }

    /// The same, with the address that it came from.
    pub fn note_from(
        &self,
        event_type: &str,
        by: Option<&str>,
        is_admin: bool,
        description: &str,
        metadata: Value,
        from: Option<String>,
    ) {
        let mut event = json!({ "event_type": event_type, "description": description, "metadata": metadata });
        if let Some(from) = from {
            event["ip_address"] = from.into();
        }
        if let Some(by) = by {
            event["user_id"] = by.into();
            event["is_admin"] = is_admin.into();
        }
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
            pieces: vec![Piece { bytes, frames: Frames::Document, ordinals: Ordinals::Count(0) }],
            decoder: Codec::Json.decoder().into(),
            provenance: Arc::new(provenance),
            marks: Vec::new(),
            on_bad: OnBad::Refuse,
            wait: Wait::None,
            room: None,
            origin: None,
        }));
    }
}
