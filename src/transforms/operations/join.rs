//! Joins a start, its completion and the server's report into one event.

use std::sync::Arc;

use crate::event::object::Rewrite;
use crate::event::raw::Kind;
use crate::event::{Batch, Raw, Seed, escape, names};
use crate::toolkit::Held;
use crate::toolkit::held::made;
use crate::units::Timestamp;

/// Members that an end never takes from its start.
const OWN: &[&str] = &["id", "seq", "status", "timestamp", "received_at", "metadata", "event_type", "capture"];
/// What an event that was made about an execution says about it.
const ABOUT: &[&str] =
    &["user_id", "session_id", "operation_id", "notebook", "kernel_id", "cell_number", "host", "code"];

/// Completes an end in its place: what it does not say itself comes from the start, then from what the server saw.
pub fn complete(batch: &mut Batch, event: usize, start: Option<&Held>, seen: Option<&Held>) {
    let ended_at = time_of(batch.get(event, names::TIMESTAMP));
    let mut metadata = Rewrite::default();
    metadata.begin(batch.get(event, names::METADATA), "value");
    for other in [start, seen].into_iter().flatten() {
        for (name, value) in other.json().members() {
            let name = escape::unescape(name).into_owned();
            if name == "metadata" && value.kind() == Kind::Object {
                for (name, value) in value.members() {
                    metadata.add(&escape::unescape(name), value);
                }
            }
            if OWN.contains(&name.as_str()) {
                continue;
            }
            let id = batch.name_id(&name);
            if batch.get(event, id).is_none_or(|value| value.is_null()) {
                batch.set_json(event, id, value.as_bytes());
            }
        }
    }
    if let Some(started) = start.and_then(|start| start.json().get("timestamp")) {
        metadata.add("started_at", started);
        if batch.get(event, names::DURATION_MS).is_none_or(|value| value.is_null())
            && let (Some(from), Some(to)) = (time_of(Some(started)), ended_at)
        {
            batch.set_json(event, names::DURATION_MS, milliseconds(to.0 - from.0).as_bytes());
        }
    }
    if seen.is_some() {
        metadata.add("seen_by_server", Raw::valid(b"true"));
    }
    let metadata = metadata.finish().to_vec();
    if metadata != b"{}" {
        batch.set_json(event, names::METADATA, &metadata);
    }
}

fn time_of(value: Option<Raw<'_>>) -> Option<Timestamp> {
    value.and_then(|value| value.as_str()).and_then(|text| Timestamp::parse(&text))
}

/// A time that ran backwards is none.
fn milliseconds(micros: i64) -> String {
    let micros = micros.max(0);
    match micros % 1000 {
        0 => (micros / 1000).to_string(),
        rest => format!("{}.{rest:03}", micros / 1000).trim_end_matches('0').to_owned(),
    }
}

/// A start whose end is not coming.
pub fn lost(start: &Held, source: &Arc<str>) -> Batch {
    let seed = Seed::derive(&[b"operations", b"lost", &start.id().0.to_be_bytes()]);
    let mut batch = made(start.line.to_vec(), seed, start.received_at, source);
    batch.set_str(0, names::STATUS, "lost");
    batch
}

/// The event that says that the server saw what the kernel did not report, or reported otherwise.
pub fn capture_gap(seen: &Held, reason: &str, description: &str, source: &Arc<str>) -> Batch {
    let seed = Seed::derive(&[b"operations", b"capture_gap", reason.as_bytes(), &seen.id().0.to_be_bytes()]);
    let event = seen.json();
    let mut line = Vec::new();
    let member = |line: &mut Vec<u8>, name: &str, value: &[u8]| {
        line.push(if line.is_empty() { b'{' } else { b',' });
        escape::push_string(line, name);
        line.push(b':');
        line.extend_from_slice(value);
    };
    let text = |text: &str| {
        let mut quoted = Vec::new();
        escape::push_string(&mut quoted, text);
        quoted
    };
    member(&mut line, "id", &text(&seed.id(0).to_string()));
    let time = event.get("timestamp").map(|time| time.as_bytes().to_vec());
    member(&mut line, "timestamp", &time.unwrap_or_else(|| text(&seen.received_at.to_string())));
    member(&mut line, "event_type", b"\"capture_gap\"");
    member(&mut line, "status", b"\"warning\"");
    for name in ABOUT.iter().filter(|name| **name != "code") {
        if let Some(value) = event.get(name) {
            member(&mut line, name, value.as_bytes());
        }
    }
    member(&mut line, "description", &text(description));
    let metadata = format!("{{\"reason\":\"{reason}\",\"seen_id\":\"{}\"}}", seen.id());
    member(&mut line, "metadata", metadata.as_bytes());
    line.push(b'}');
    made(line, seed, seen.received_at, source)
}

/// What two reports of one execution have to agree on.
pub fn code_hash(code: Option<Raw<'_>>) -> Option<[u8; 16]> {
    let code = code?.as_str()?;
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(code.as_bytes()).as_bytes()[..16]);
    Some(hash)
}
