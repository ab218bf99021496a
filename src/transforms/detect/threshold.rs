//! Thresholds: a number of events within a window. Alerts once, and says when it is over.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Look;
use super::alert::{Alert, MAX_IDS, whom};
use super::config::Rule;
use crate::component::Transaction;
use crate::event::Id;
use crate::units::{Duration, Timestamp};

/// So many times the events are kept that a threshold has, where each counts as less than one.
const MOST_LIGHT: usize = 8;

/// What is known of one key.
#[derive(Default, Serialize, Deserialize)]
struct Window {
    /// Time, weight and id of each event within the window.
    events: Vec<(i64, f64, u128)>,
    /// When it has alerted, if it is not over.
    alerted: Option<i64>,
    /// Events since it has alerted, those included that made it alert.
    count: f64,
}

impl Window {
    /// Forgets the oldest events without which the newer ones decide, and those of more than are ever kept. Gives what the
    /// others count as.
    fn forget_needless(&mut self, wanted: u64) -> f64 {
        let enough = (wanted as usize).max(MAX_IDS);
        let mut sum: f64 = self.events.iter().map(|(_, weight, _)| weight).sum();
        let mut needless = 0;
        for (_, weight, _) in &self.events {
            let left = self.events.len() - needless;
            if left <= enough || (left <= MOST_LIGHT * enough && sum - weight < wanted as f64) {
                break;
            }
            sum -= weight;
            needless += 1;
        }
        self.events.drain(..needless);
        sum
    }
}

pub fn look(rule: &Rule, look: &Look<'_>, state: &mut Transaction<'_>) -> Vec<Alert> {
    let place = rule.place(look);
    let mut window: Window = place.read(state).unwrap_or_default();
    let since = look.at.minus(rule.window);
    window.events.retain(|(at, ..)| *at > since.0);
    let weight = rule.weight.as_ref().and_then(|path| look.batch.get_path(look.event, path)?.as_f64());
    let weight = weight.filter(|weight| weight.is_finite()).map_or(1.0, |weight| weight.max(0.0));
    window.events.push((look.at.0, weight, look.id.0));
    let sum = window.forget_needless(rule.count);
    let mut alerts = Vec::new();
    if window.alerted.is_some() {
        window.count += weight;
    } else if sum >= rule.count as f64 {
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
    let text = format!("over: {}{}, {} events", rule.name, whom(&by), window.count as u64);
    let at = Timestamp(last).plus(rule.window);
    vec![Alert { is_resolved: true, text, ..alert(rule, &window, by, at) }]
}

fn alert(rule: &Rule, window: &Window, by: Vec<(String, String)>, at: Timestamp) -> Alert {
    let ids: Vec<Id> = window.events.iter().map(|(.., id)| Id(*id)).collect();
    let time = |event: Option<&(i64, f64, u128)>| Timestamp(event.map_or(at.0, |(at, ..)| *at));
    let text =
        format!("{}: {} events within {}{}", rule.name, window.count as u64, Duration::from(rule.window), whom(&by));
    Alert {
        cause: ids.last().copied().unwrap_or(Id(0)),
        at,
        by,
        is_resolved: false,
        count: window.count as u64,
        first: time(window.events.first()),
        last: time(window.events.last()),
        // The newest ones, if they are many.
        ids: ids[ids.len().saturating_sub(MAX_IDS)..].to_vec(),
        notes: Default::default(),
        text,
    }
}
