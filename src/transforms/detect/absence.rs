//! Absence: nothing from a host, user or other key for a time; and its end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::alert::{Alert, whom};
use super::config::Rule;
use super::{Look, Place};
use crate::component::Transaction;
use crate::event::Id;
use crate::units::{Duration, Timestamp};

/// How long what is absent is waited for, before it is forgotten.
const REMEMBERED: u32 = 1000;

#[derive(Serialize, Deserialize)]
struct Last {
    at: i64,
    id: u128,
    alerted: bool,
}

pub fn look(rule: &Rule, look: &Look<'_>, state: &mut Transaction<'_>) -> Vec<Alert> {
    let place = rule.place(look);
    let known: Option<Last> = place.read(state);
    place.write(state, &Last { at: look.at.0, id: look.id.0, alerted: false }, Some(look.at.plus(rule.window)));
    let over = known.filter(|last| last.alerted).map(|last| {
        let text = format!("over: events come again{}", whom(&look.by));
        Alert { is_resolved: true, text, ..alert(rule, look.id, look.at, look.by.clone(), Timestamp(last.at)) }
    });
    over.into_iter().collect()
}

/// Its time has come without an event.
pub fn due(rule: &Rule, place: Place, parts: &[String], value: &Bytes, state: &mut Transaction<'_>) -> Vec<Alert> {
    let Ok(last) = serde_json::from_slice::<Last>(value) else { return Vec::new() };
    if last.alerted {
        // It was waited for long enough.
        return Vec::new();
    }
    let since = Timestamp(last.at);
    let forget = since.plus(rule.window.saturating_mul(REMEMBERED));
    place.write(state, &Last { alerted: true, ..last }, Some(forget));
    vec![alert(rule, Id(last.id), since.plus(rule.window), rule.by_of(parts), since)]
}

fn alert(rule: &Rule, cause: Id, at: Timestamp, by: Vec<(String, String)>, since: Timestamp) -> Alert {
    let text = format!("{}: no event for {}{}", rule.name, Duration::from(rule.window), whom(&by));
    Alert {
        cause,
        at,
        by,
        is_resolved: false,
        count: 0,
        first: since,
        last: since,
        ids: vec![cause],
        notes: Default::default(),
        text,
    }
}
