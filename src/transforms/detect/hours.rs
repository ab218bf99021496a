//! Unusual hours: an event at an hour of the day that had hardly any before.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Look;
use super::alert::{Alert, whom};
use super::config::Rule;
use crate::component::Transaction;
use crate::event::names;
use crate::units::Timestamp;

/// Fewer events than this do not show a habit.
const LEAST_EVENTS: u64 = 50;
/// An hour with less than this share of all events, its neighbours included, is unusual.
const UNUSUAL_SHARE: f64 = 0.01;

#[derive(Serialize, Deserialize)]
struct Habits {
    since: i64,
    hours: [u64; 24],
    /// The day of the last alert, so that a night of work is one.
    alerted: Option<i64>,
}

pub fn look(rule: &Rule, look: &Look<'_>, state: &mut Transaction<'_>) -> Vec<Alert> {
    let place = rule.place(look);
    let mut habits: Habits = place.read(state).unwrap_or(Habits { since: look.at.0, hours: [0; 24], alerted: None });
    let own = look.batch.get_str(look.event, names::TIMESTAMP).and_then(|time| Timestamp::parse(&time));
    let at = own.unwrap_or(look.at);
    let local = jiff::Timestamp::from_microsecond(at.0)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned_datetime(rule.zone.clone());
    let hour = usize::from(local.hour().unsigned_abs()) % 24;
    let total: u64 = habits.hours.iter().sum();
    let near: u64 = [hour + 23, hour, hour + 1].iter().map(|hour| habits.hours[hour % 24]).sum();
    let share = near as f64 / total.max(1) as f64;
    let has_learned = look.at >= Timestamp(habits.since).plus(rule.learn) && total >= LEAST_EVENTS;
    let day = at.0.div_euclid(86_400_000_000);
    let mut alerts = Vec::new();
    if has_learned && share < UNUSUAL_SHARE && habits.alerted != Some(day) {
        habits.alerted = Some(day);
        let text = format!(
            "{}: an event at {hour}:00 hours{}, where {near} of {total} events were before",
            rule.name,
            whom(&look.by)
        );
        let alert = Alert::of_one(look, text).note("hour", hour).note("events_near_this_hour", near);
        alerts.push(alert.note("events_before", total).note("hours", json!(habits.hours)));
    }
    habits.hours[hour] += 1;
    place.write(state, &habits, None);
    alerts
}
