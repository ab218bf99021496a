//! First-seen values, once the rule has learned what is usual.

use super::alert::{Alert, whom};
use super::config::Rule;
use super::{Look, Place, imports};
use crate::component::Transaction;
use crate::units::Timestamp;

pub fn look(rule: &Rule, look: &Look<'_>, state: &mut Transaction<'_>) -> Vec<Alert> {
    let (name, values): (String, Vec<String>) = match &rule.field {
        None => {
            let values: Vec<&str> = look.by.iter().map(|(_, value)| value.as_str()).collect();
            let names: Vec<&str> = look.by.iter().map(|(name, _)| name.as_str()).collect();
            (names.join(", "), vec![values.join(", ")])
        }
        Some(field) if field.len() == 1 && field[0] == "import" => {
            let code = look.batch.get_path(look.event, &["code"]).and_then(|code| code.as_str());
            ("import".into(), code.map(|code| imports::of(&code)).unwrap_or_default())
        }
        Some(field) => {
            let value = look.batch.get_path(look.event, field).filter(|value| !value.is_null());
            (field.join("."), value.map(|value| value.display().into_owned()).into_iter().collect())
        }
    };
    // With a field, each `by` has what it has seen, and learns for itself; without one, all learn together.
    let whose: Vec<&str> = match rule.field {
        Some(_) => look.by.iter().map(|(_, value)| value.as_str()).collect(),
        None => Vec::new(),
    };
    let began = Place::new(rule, &[&["began"], &whose[..]].concat());
    let since: i64 = began.read(state).unwrap_or(look.at.0);
    began.write(state, &since, None);
    let learns = look.at < Timestamp(since).plus(rule.learn);
    let mut alerts = Vec::new();
    for value in values {
        // A hash, because values may have any length.
        let hash = blake3::hash(value.as_bytes()).to_hex();
        let place = Place::new(rule, &[&["seen", &hash[..32]], &whose[..]].concat());
        if place.read::<i64>(state).is_some() {
            continue;
        }
        place.write(state, &look.at.0, None);
        if learns {
            continue;
        }
        let shown: String = value.chars().take(100).collect();
        let text = format!("{}: {name} {shown} was never seen before{}", rule.name, whom(&look.by));
        let by = [look.by.clone(), vec![(name.clone(), value.clone())]].concat();
        let alert = Alert { by, ..Alert::of_one(look, text) };
        let alert = alert.note("field", name.clone()).note("value", shown);
        alerts.push(alert.note("learned_since", Timestamp(since).to_string()));
    }
    alerts
}
