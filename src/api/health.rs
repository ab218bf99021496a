//! `/health`: the process works. `/ready`: it can take events.

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::Api;
use crate::net::http::Body;
use crate::telemetry::ComponentState;
use crate::units::Timestamp;

/// 200 while the process works, whatever the sinks do; with `?sinks` 503 if one is held (one that has parked events
/// delivers the others), or a source is. Error texts are not for everybody.
pub fn health(api: &Api, request: &Request<Incoming>, with_errors: bool) -> Response<Body> {
    let ledgers = api.agent.books.all();
    let is = |state: ComponentState| ledgers.iter().any(|ledger| ledger.health().state == state);
    let held = is(ComponentState::Held);
    let asks_for_sinks = super::parameter(request.uri().query(), "sinks").is_some();
    let status = if asks_for_sinks && held { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let word = if held || is(ComponentState::Degraded) { "degraded" } else { "healthy" };
    let components: Vec<Value> = ledgers.iter().map(|ledger| component(ledger, with_errors)).collect();
    super::json(status, &json!({ "status": word, "components": components }))
}

/// What health says about one component.
pub fn component(ledger: &crate::telemetry::ComponentMetrics, with_errors: bool) -> Value {
    let health = ledger.health();
    let mut told = json!({
        "name": *ledger.name,
        "kind": ledger.kind.as_str(),
        "type": ledger.type_name,
        "state": health.state.as_str(),
        "since": health.since.to_string(),
    });
    if with_errors {
        let error = |(at, message): (Timestamp, String)| json!({ "time": at.to_string(), "message": message });
        told["last_error"] = health.last_error.map(error).into();
    }
    told
}

/// 503 only while the agent cannot accept.
pub fn ready(api: &Api) -> Response<Body> {
    let (status, word) = if api.shutdown.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else if api.agent.commons.journal.is_full() {
        (StatusCode::SERVICE_UNAVAILABLE, "full")
    } else {
        (StatusCode::OK, "ready")
    };
    super::json(status, &json!({ "status": word }))
}
