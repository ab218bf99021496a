//! More failures within a window than the same key had in its own past.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::Look;
use super::alert::{Alert, MAX_IDS, whom};
use super::config::Rule;
use crate::component::Transaction;
use crate::event::Id;
use crate::units::{Duration, Timestamp};

/// A past in which nothing failed counts as if one in a hundred had.
const LEAST_RATE: f64 = 0.01;
/// Only this many past windows count, so that changing habits are followed.
const MEMORY_WINDOWS: f64 = 100.0;

#[derive(Serialize, Deserialize)]
struct Past {
    since: i64,
    /// Events and failures of earlier windows; the older, the less they weigh.
    events: f64,
    failures: f64,
    /// The window that is on.
    begun: i64,
    now_events: u64,
    now_failures: u64,
    first: i64,
    ids: Vec<u128>,
    alerted: bool,
}

pub fn look(rule: &Rule, look: &Look<'_>, state: &mut Transaction<'_>) -> Vec<Alert> {
    let place = rule.place(look);
    let at = look.at.0;
    let mut past: Past = place.read(state).unwrap_or(Past {
        since: at,
        events: 0.0,
        failures: 0.0,
        begun: at,
        now_events: 0,
        now_failures: 0,
        first: at,
        ids: Vec::new(),
        alerted: false,
    });
    if look.at >= Timestamp(past.begun).plus(rule.window) {
        let keep = 1.0 - 1.0 / MEMORY_WINDOWS;
        past.events = past.events * keep + past.now_events as f64;
        past.failures = past.failures * keep + past.now_failures as f64;
        (past.begun, past.now_events, past.now_failures, past.alerted) = (at, 0, 0, false);
        past.ids.clear();
    }
    past.now_events += 1;
    let mut alerts = Vec::new();
    if rule.failed.matches_event(look.batch, look.event) {
        if past.now_failures == 0 {
            past.first = at;
        }
        past.now_failures += 1;
        past.ids.push(look.id.0);
        if past.ids.len() > MAX_IDS {
            past.ids.remove(0);
        }
        let before = if past.events > 0.0 { past.failures / past.events } else { 0.0 };
        let now = past.now_failures as f64 / past.now_events as f64;
        let has_learned = look.at >= Timestamp(past.since).plus(rule.learn);
        if has_learned
            && !past.alerted
            && past.now_failures >= rule.count
            && now >= rule.factor * before.max(LEAST_RATE)
        {
            past.alerted = true;
            alerts.push(alert(rule, look, &past, before, now));
        }
    }
    place.write(state, &past, None);
    alerts
}

fn alert(rule: &Rule, look: &Look<'_>, past: &Past, before: f64, now: f64) -> Alert {
    let percent = |rate: f64| (rate * 1000.0).round() / 10.0;
    let text = format!(
        "{}: {} of {} events failed within {}{}: {} % now, {} % before",
        rule.name,
        past.now_failures,
        past.now_events,
        Duration::from(rule.window),
        whom(&look.by),
        percent(now),
        percent(before)
    );
    let mut notes = Map::new();
    notes.insert("failure_rate".into(), percent(now).into());
    notes.insert("failure_rate_before".into(), percent(before).into());
    notes.insert("events".into(), past.now_events.into());
    Alert {
        cause: look.id,
        at: look.at,
        by: look.by.clone(),
        is_resolved: false,
        count: past.now_failures,
        first: Timestamp(past.first),
        last: look.at,
        ids: past.ids.iter().map(|id| Id(*id)).collect(),
        notes,
        text,
    }
}
