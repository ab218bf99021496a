//! `/health` (the process works) and `/ready` (it accepts events).

use hyper::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::routes::Call;
use super::{Api, is_near};
use crate::net::http::Problem;
use crate::telemetry::ComponentState;
use crate::units::Timestamp;

/// 200 while the process works, whatever the sinks do; with `?sinks` 503 if one is held (one that has parked events
/// delivers the others), or a source is. Error texts are not for everybody.
pub async fn health(api: &Api, call: Call) -> Result<Answer, Problem> {
    // Asked only where it matters: a look at health needs no credentials.
    let with_errors = is_near(&call) || api.access().shows_admin(&call.request, call.peer).await;
    let components = api.agent.accounting.all();
    let is = |state: ComponentState| components.iter().any(|metrics| metrics.health().state == state);
    let held = is(ComponentState::Held);
    let asks_for_sinks = call.params.has("sinks");
    let status = if asks_for_sinks && held { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let journal = journal(api, with_errors);
    // Where the queue cannot be read its size is unknown; everything else is shown.
    let dead_letters = api.agent.context.dead_letters.summary().await.ok();
    let dead_letters = dead_letters.map(|summary| summary.dead_letters - summary.parked);
    let full_buffers = api.agent.context.journal.full_buffers();
    let is_well = !held && full_buffers.is_empty() && !is(ComponentState::Degraded) && journal["state"] == "ok";
    let word = if is_well { "healthy" } else { "degraded" };
    let components: Vec<Value> = components.iter().map(|metrics| component(metrics, with_errors)).collect();
    let mut body =
        json!({ "status": word, "journal": journal, "dead_letters": dead_letters, "components": components });
    if !full_buffers.is_empty() {
        // The sources that feed these sinks wait.
        body["full_buffers"] = full_buffers.iter().map(|name| name.to_string()).collect();
    }
    Ok(Answer::value(&body).with_status(status))
}

/// Whether the journal takes events.
fn journal(api: &Api, with_errors: bool) -> Value {
    let Some(standstill) = api.agent.standstill() else { return json!({ "state": "ok" }) };
    let mut shown = json!({ "state": standstill.trouble.word(), "since": standstill.since.to_string() });
    if with_errors {
        shown["reason"] = standstill.trouble.reason().into();
    }
    shown
}

/// The health of one component.
pub fn component(metrics: &crate::telemetry::ComponentMetrics, with_errors: bool) -> Value {
    let health = metrics.health();
    let mut told = json!({
        "name": *metrics.name,
        "kind": metrics.kind.as_str(),
        "type": metrics.type_name,
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
pub async fn ready(api: &Api, _: Call) -> Result<Answer, Problem> {
    let (status, word) = if api.shutdown.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else if let Some(trouble) = api.agent.context.journal.trouble() {
        (StatusCode::SERVICE_UNAVAILABLE, trouble.word())
    } else if api.agent.context.journal.is_full() {
        (StatusCode::SERVICE_UNAVAILABLE, "full")
    } else {
        (StatusCode::OK, "ready")
    };
    Ok(Answer::value(&json!({ "status": word })).with_status(status))
}
