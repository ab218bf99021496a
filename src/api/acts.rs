//! What people do by the API, as events: reads and exports of other people's events, failed logins, reloads, and what
//! becomes of dead letters.

use std::time::Instant;

use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use super::Api;
use super::routes::Call;
use crate::net::Role;
use crate::net::http::Peer;

/// What an event says of the request behind it.
pub struct Act {
    method: Method,
    path: String,
    user_agent: Option<HeaderValue>,
    peer: Peer,
    started: Instant,
}

impl Act {
    pub fn of<B>(request: &Request<B>, peer: Peer, started: Instant) -> Act {
        Act {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            user_agent: request.headers().get(USER_AGENT).cloned(),
            peer,
            started,
        }
    }

    fn event(&self, event_type: &str, status: StatusCode) -> Map<String, Value> {
        let mut event = Map::new();
        event.insert("event_type".into(), event_type.into());
        event.insert("status".into(), if status.is_success() { "success" } else { "error" }.into());
        event.insert("endpoint".into(), self.path.as_str().into());
        event.insert("http_method".into(), self.method.as_str().into());
        event.insert("status_code".into(), status.as_u16().into());
        event.insert("duration_ms".into(), ((self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3).into());
        if let Some(ip) = self.peer.ip {
            event.insert("ip_address".into(), ip.to_string().into());
        }
        if let Some(agent) = self.user_agent.as_ref().and_then(|agent| agent.to_str().ok()) {
            event.insert("user_agent".into(), agent.into());
        }
        event
    }

    /// Records that somebody showed wrong credentials, so many times since it was recorded last.
    pub fn record_failed_login(&self, api: &Api, count: u64) {
        let mut event = self.event("login_failed", StatusCode::UNAUTHORIZED);
        event.insert("is_admin".into(), false.into());
        event.insert("description".into(), "wrong credentials".into());
        event.insert("metadata".into(), json!({ "path": self.path, "count": count }));
        api.agent.note_event(event);
    }
}

/// Records what the caller has done, and how it was answered.
pub fn record(api: &Api, call: &Call, event_type: &str, status: StatusCode, description: &str, metadata: Value) {
    let mut event = of_caller(call, event_type, status);
    event.insert("description".into(), description.into());
    event.insert("metadata".into(), metadata);
    api.agent.note_event(event);
}

/// Records that a reader has read or exported other people's events.
pub fn record_read(api: &Api, call: &Call, event_type: &str, results: u64) {
    if !matches!(call.reader().role, Role::Admin | Role::Viewer) {
        return;
    }
    let filters: Map<String, Value> = call
        .params
        .given()
        .filter(|(name, value)| {
            !value.is_empty() && !matches!(*name, "page" | "limit" | "offset" | "cursor" | "token" | "ticket")
        })
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let mut event = of_caller(call, event_type, StatusCode::OK);
    let metadata = json!({
        "page": call.params.number("page", 1),
        "limit": call.params.text("limit").and_then(|text| text.parse::<u64>().ok()),
        "filters_applied": filters,
        "results_count": results,
    });
    event.insert("metadata".into(), metadata);
    api.agent.note_event(event);
}

fn of_caller(call: &Call, event_type: &str, status: StatusCode) -> Map<String, Value> {
    let who = call.reader();
    let mut event = Act::of(&call.request, call.peer, call.started).event(event_type, status);
    event.insert("user_id".into(), who.name.clone().into());
    event.insert("is_admin".into(), (who.role == Role::Admin).into());
    event
}
