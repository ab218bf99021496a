//! Routes for operators: components, metrics, the configuration, reload.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::acts::record;
use super::answer::Answer;
use super::routes::Call;
use super::{Api, health};
use crate::net::http::Problem;
use crate::telemetry::exposition::{self, Process, ProcessContext};
use crate::telemetry::{ComponentKind, ComponentMetrics};

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub async fn metrics(api: &Api, _: Call) -> Result<Answer, Problem> {
    api.agent.refresh_accounting();
    let journal = api.agent.context.journal.stats();
    // Where the queue cannot be read its size is unknown; everything else is shown.
    let dead_letters = api.agent.context.dead_letters.summary().await.unwrap_or_default();
    let context = ProcessContext {
        started: api.started,
        journal_bytes: journal.bytes,
        journal_limit_bytes: journal.limit,
        journal_is_full: api.agent.context.journal.is_full(),
        certificates: api.agent.certificates.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        dead_letters: dead_letters.by_component,
        dead_letter_bytes: dead_letters.bytes,
        dead_letter_limit_bytes: dead_letters.max_bytes,
        journal_syncs: api.agent.context.journal.sync_times(),
        store_bytes: api.agent.reader().and_then(|reader| reader.bytes()),
        stream_clients: api.fanout.clients() as u64,
        reloads_applied: api.agent.reloads_applied.load(Ordering::Relaxed),
        reloads_failed: api.agent.reloads_failed.load(Ordering::Relaxed),
    };
    Ok(Answer::with_type(METRICS_TYPE, exposition::render(&api.agent.accounting, &context)))
}

pub async fn version(_: &Api, _: Call) -> Result<Answer, Problem> {
    Ok(Answer::value(&json!({ "name": "weir", "version": env!("CARGO_PKG_VERSION") })))
}

pub async fn config(api: &Api, _: Call) -> Result<Answer, Problem> {
    let shown = api.agent.shown.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Answer::value(&json!({ "config": *shown })))
}

pub async fn reload(api: &Api, call: Call) -> Result<Answer, Problem> {
    let outcome = (api.reload)(Some(call.reader().name.clone())).await;
    let status = if outcome.applied { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    record(api, &call, "config_reload", status, outcome.words(), outcome.metadata());
    Ok(Answer::value(&outcome).with_status(status))
}

pub async fn pipeline(api: &Api, _: Call) -> Result<Answer, Problem> {
    api.agent.refresh_accounting();
    let inputs = api.agent.inputs().await;
    let described = |metrics: &Arc<ComponentMetrics>| {
        let mut described = component(api, metrics);
        described["inputs"] = json!(inputs.get(&*metrics.name).cloned().unwrap_or_default());
        described
    };
    let components: Vec<Value> = api.agent.accounting.all().iter().map(described).collect();
    let stats = api.agent.context.journal.stats();
    let journal = json!({
        "bytes": stats.bytes,
        "limit_bytes": stats.limit,
        "head_seq": stats.head_seq,
        "synced_seq": stats.synced_seq,
        "oldest_seq": stats.oldest_seq,
        "full": api.agent.context.journal.is_full(),
    });
    let store = json!({ "bytes": api.agent.reader().and_then(|reader| reader.bytes()) });
    let memory = json!({
        "bytes": Process::look().resident_bytes,
        "limit_bytes": api.agent.settings.limits.memory.bytes(),
    });
    let folder = api.agent.data_dir.clone();
    let disk = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder).ok()).await.ok().flatten();
    let disk = disk.map(|disk| {
        let (total, free) = (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize);
        json!({ "used_bytes": total.saturating_sub(free), "total_bytes": total })
    });
    let answer =
        json!({ "components": components, "journal": journal, "store": store, "memory": memory, "disk": disk });
    Ok(Answer::value(&answer))
}

fn component(api: &Api, metrics: &ComponentMetrics) -> Value {
    let counts = metrics.snapshot();
    let rates = api.rates.of(metrics, &counts, Instant::now());
    let mut described = health::component(metrics, true);
    let events = match metrics.kind {
        ComponentKind::Source => json!({
            "received": counts.received, "refused": counts.refused, "dead_lettered": counts.dead_lettered,
            "entered": counts.entered, "bytes": counts.bytes_received,
        }),
        ComponentKind::Transform => json!({
            "entered": counts.entered, "made": counts.made, "left": counts.left, "filtered": counts.filtered,
            "dead_lettered": counts.dead_lettered,
        }),
        ComponentKind::Sink => json!({
            "addressed": counts.addressed(), "delivered": counts.delivered, "filtered": counts.filtered,
            "dead_lettered": counts.dead_lettered, "dropped": counts.dropped, "waiting": counts.waiting,
            "bytes": counts.bytes_delivered, "retries": counts.retries, "duplicates": counts.duplicates,
            "lag_events": counts.lag_events, "lag_seconds": counts.lag_seconds,
        }),
    };
    described["accounting"] = events;
    described["rates"] = rates;
    described["errors"] = json!(counts.errors);
    described["last_event"] = json!(counts.last_event.map(|time| time.to_string()));
    described
}
