//! `/api/pipeline`: every component with its books, rates, state and lag.

use std::time::Instant;

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Api, health};
use crate::net::http::Body;
use crate::telemetry::{ComponentKind, ComponentMetrics};

pub fn pipeline(api: &Api) -> Response<Body> {
    api.agent.refresh_books();
    let components: Vec<Value> = api.agent.books.all().iter().map(|ledger| component(api, ledger)).collect();
    let stats = api.agent.commons.journal.stats();
    let journal = json!({
        "bytes": stats.bytes,
        "limit_bytes": stats.limit,
        "head_seq": stats.head_seq,
        "synced_seq": stats.synced_seq,
        "oldest_seq": stats.oldest_seq,
        "full": api.agent.commons.journal.is_full(),
    });
    super::json(StatusCode::OK, &json!({ "components": components, "journal": journal }))
}

fn component(api: &Api, ledger: &ComponentMetrics) -> Value {
    let counts = ledger.snapshot();
    let rates = api.rates.of(ledger, &counts, Instant::now());
    let mut told = health::component(ledger, true);
    let books = match ledger.kind {
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
    told["books"] = books;
    told["rates"] = rates;
    told["errors"] = json!(counts.errors);
    told["last_event"] = json!(counts.last_event.map(|time| time.to_string()));
    told
}
