//! Thresholds: a number of events within a window. Alerts once, and says when it is over.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Look;
use super::alert::{Alert, MAX_IDS, whom};
use super::config::Rule;
use crate::component::Transaction;
use crate::event::Id;
use crate::units::{Duration, Timestamp};

/// What is known of one key.
#[derive(Default, Serialize, Deserialize)]
struct Window {
    /// Time, weight and id of each event within the window.
    events: Vec<(i64, u64, u128)>,
    /// When it has alerted, if it is not over.
    alerted: Option<i64>,
    /// Events since it has alerted, those included that made it alert.
    count: u64,
}

pub fn look(rule: &Rule, look: &Look<'_>, state: &mut Transaction<'_>) -> Vec<Alert> {
    let place = rule.place(look);
    let mut window: Window = place.read(state).unwrap_or_default();
    let since = look.at.minus(rule.window);
    window.events.retain(|(at, ..)| *at > since.0);
    let weight = rule.weight.as_ref().and_then(|path| look.batch.get_path(look.event, path)?.as_i64()).unwrap_or(1);
    window.events.push((look.at.0, weight.max(1) as u64, look.id.0));
    // More than decide it need not be kept.
    let most = (rule.count as usize).max(MAX_IDS);
    let too_many = window.events.len().saturating_sub(most);
    window.events.drain(..too_many);
    let sum: u64 = window.events.iter().fold(0, |sum, (_, weight, _)| sum.saturating_add(*weight));
    let mut alerts = Vec::new();
    if window.alerted.is_some() {
        window.count = window.count.saturating_add(weight.max(1) as u64);
    } else if sum >= rule.count {
        (window.alerted, window.count) = (Some(look.at.0), sum);
        alerts.push(alert(rule, &window, look.by.clone(), look.at));
    }
    place.write(state, &window, Some(look.at.plus(rule.window)));
    alerts
}

/// Nothing has come for a window: what was alerted is over.
pub fn due(rule: &Rule, parts: &[String], value: &Bytes) -> Vec<Alert> {
    let Ok(window) = serde_json::from_slice::<Window>(value) else { return Vec::new() };
    if window.alerted.is_none() {
        return Vec::new();
    }
    let last = window.events.last().map_or(0, |(at, ..)| *at);
    let by = rule.by_of(parts);
    let text = format!("over: {}{}, {} events", rule.name, whom(&by), window.count);
    let at = Timestamp(last).plus(rule.window);
    vec![Alert { is_resolved: true, text, ..alert(rule, &window, by, at) }]
}

fn alert(rule: &Rule, window: &Window, by: Vec<(String, String)>, at: Timestamp) -> Alert {
    let ids: Vec<Id> = window.events.iter().map(|(.., id)| Id(*id)).collect();
    let time = |event: Option<&(i64, u64, u128)>| Timestamp(event.map_or(at.0, |(at, ..)| *at));
    let text = format!("{}: {} events within {}{}", rule.name, window.count, Duration::from(rule.window), whom(&by));
    Alert {
        cause: ids.last().copied().unwrap_or(Id(0)),
        at,
        by,
        is_resolved: false,
        count: window.count,
        first: time(window.events.first()),
        last: time(window.events.last()),
        // The newest ones, if they are many.
        ids: ids[ids.len().saturating_sub(MAX_IDS)..].to_vec(),
        notes: Default::default(),
        text,
    }
}
