//! The Elastic Common Schema: canonical members under the names that Kibana and OpenSearch Dashboards expect.
//!
//! What the schema has no place for, and what does not fit its place (an `ip_address` that is none), comes under
//! `weir`, so that nothing is lost and nothing is refused. Aliases count as the members they stand for.

use std::net::IpAddr;

use super::push_time;
use crate::event::aliases::{ALIASES, STATUS_WORDS, canonical};
use crate::event::decimal::Decimal;
use crate::event::names::*;
use crate::event::{Kind, NameId, Raw, escape, names};
use crate::units::Timestamp;

/// The version of the schema whose fields are used.
const VERSION: &[u8] = b"\"8.11.0\"";

/// Where each member goes, in the order in which it is written; what lies in one object stands together. The page
/// `docs/ecs.md` says the same.
pub const TABLE: &[(NameId, &[&str])] = &[
    (ID, &["event", "id"]),
    (EVENT_TYPE, &["event", "action"]),
    (STATUS, &["event", "outcome"]),
    (DURATION_MS, &["event", "duration"]),
    (RECEIVED_AT, &["event", "created"]),
    (SOURCE, &["event", "provider"]),
    (TIMESTAMP, &["@timestamp"]),
    (DESCRIPTION, &["message"]),
    (USER_ID, &["user", "id"]),
    (USER_EMAIL, &["user", "email"]),
    (USER_DISPLAY_NAME, &["user", "full_name"]),
    (TARGET_USER_ID, &["user", "target", "id"]),
    (SESSION_ID, &["session", "id"]),
    (OPERATION_ID, &["transaction", "id"]),
    (TRACE_ID, &["trace", "id"]),
    (ERROR_TYPE, &["error", "type"]),
    (ERROR_MESSAGE, &["error", "message"]),
    (ERROR_TRACE, &["error", "stack_trace"]),
    (ENDPOINT, &["url", "path"]),
    (HTTP_METHOD, &["http", "request", "method"]),
    (STATUS_CODE, &["http", "response", "status_code"]),
    (IP_ADDRESS, &["source", "ip"]),
    (USER_AGENT, &["user_agent", "original"]),
    (HOST, &["host", "name"]),
    (AGENT, &["agent", "name"]),
    (REPORTED_BY, &["service", "name"]),
];

/// The place in [`TABLE`] of each canonical name that has one.
const PLACES: [Option<u8>; KNOWN.len()] = {
    let mut places = [None; KNOWN.len()];
    let mut at = 0;
    while at < TABLE.len() {
        places[TABLE[at].0.0 as usize] = Some(at as u8);
        at += 1;
    }
    places
};

/// A member of the event.
#[derive(Clone, Copy)]
struct Member<'a> {
    /// As it stands between its quotes.
    key: &'a [u8],
    name: NameId,
    value: Raw<'a>,
    /// 0 for the canonical name, above it the place among its aliases.
    rank: usize,
}

/// Appends the event as one JSON object. An event without a time gets the one at which it was received.
pub fn append(event: Raw<'_>, received_at: Option<Timestamp>, out: &mut Vec<u8>) {
    let mut placed: [Option<Member>; TABLE.len()] = [None; TABLE.len()];
    let mut rest: Vec<(&[u8], Raw)> = Vec::new();
    for (key, value) in event.members().filter(|(_, value)| !value.is_null()) {
        let Some((place, member)) = place_of(key, value) else {
            rest.push((key, value));
            continue;
        };
        match &mut placed[place] {
            Some(better) if better.rank < member.rank => rest.push((key, value)),
            // Of a name written twice the last counts, here as everywhere.
            held => {
                let beaten = held.replace(member).filter(|other| other.rank != member.rank);
                rest.extend(beaten.map(|other| (other.key, other.value)));
            }
        }
    }
    let mut object = Nested::begin(out);
    object.put(&["event", "kind"], if is_alert(&placed) { b"\"alert\"" } else { b"\"event\"" });
    let (mut scratch, mut time) = (Vec::new(), Vec::new());
    for ((name, path), member) in TABLE.iter().zip(&placed) {
        scratch.clear();
        let fitting = member.as_ref().and_then(|member| fit(member, &mut scratch));
        if let Some(value) = fitting {
            object.put(path, value);
        } else if *name == TIMESTAMP && push_time(None, received_at, &mut time) {
            object.put(path, &time);
        }
        // The schema's three outcomes say less than our words, so those stay beside them.
        if fitting.is_none() || *name == STATUS {
            rest.extend(member.iter().map(|member| (member.key, member.value)));
        }
    }
    object.put(&["ecs", "version"], VERSION);
    for (key, value) in rest {
        object.put_below(&["weir"], key, value.as_bytes());
    }
    object.end();
}

/// Where a member belongs, if the schema has a place for it.
fn place_of<'a>(key: &'a [u8], value: Raw<'a>) -> Option<(usize, Member<'a>)> {
    let name = match memchr::memchr(b'\\', key) {
        None => names::known(key),
        Some(_) => names::known(escape::unescape(key).as_bytes()),
    }?;
    let meant = canonical(name).unwrap_or(name);
    let place = PLACES[meant.0 as usize]?;
    let rank = ALIASES.iter().position(|(alias, _)| *alias == name).map_or(0, |nth| nth + 1);
    let is_scalar = !matches!(value.kind(), Kind::Object | Kind::Array);
    is_scalar.then_some((place as usize, Member { key, name, value, rank }))
}

fn is_alert(placed: &[Option<Member<'_>>]) -> bool {
    placed.iter().flatten().any(|member| member.name == EVENT_TYPE && member.value.as_bytes() == b"\"alert\"")
}

/// The value as its place wants it, perhaps written into `scratch`; `None` if it does not fit there.
fn fit<'a>(member: &Member<'a>, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let value = member.value;
    let fits = match member.name {
        TIMESTAMP | TIME | TS | AT_TIMESTAMP | RECEIVED_AT => {
            return push_time(Some(value), None, scratch).then_some(&scratch[..]);
        }
        DURATION_MS | EXECUTION_TIME_MS | DURATION => return scaled(value, 6, scratch),
        DURATION_SECONDS | DURATION_S => return scaled(value, 9, scratch),
        STATUS | SUCCESS => return Some(outcome(value)),
        STATUS_CODE => value.display().parse::<u16>().is_ok(),
        IP_ADDRESS => value.display().parse::<IpAddr>().is_ok(),
        _ => true,
    };
    fits.then_some(value.as_bytes())
}

/// The number times 10 to the power of `places`, without what stays behind the point then.
fn scaled<'a>(value: Raw<'_>, places: i64, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let number = Decimal::parse(value.as_bytes()).filter(|number| !number.is_negative())?.times_power_of_ten(places)?;
    let (whole, _) = number.places();
    let first = whole.iter().position(|digit| *digit != b'0').unwrap_or(whole.len() - 1);
    scratch.extend_from_slice(&whole[first..]);
    std::str::from_utf8(scratch).ok()?.parse::<i64>().ok()?;
    Some(scratch)
}

/// The schema knows three outcomes, as JSON here.
fn outcome(status: Raw<'_>) -> &'static [u8] {
    let text = status.display().to_ascii_lowercase();
    let word = STATUS_WORDS.iter().find(|(alias, _)| *alias == text).map_or(&*text, |(_, word)| word);
    match word {
        "success" | "true" => b"\"success\"",
        "error" | "aborted" | "lost" | "false" => b"\"failure\"",
        _ => b"\"unknown\"",
    }
}

/// A JSON object that is written path by path; neighbours with the same beginning share their objects.
struct Nested<'a> {
    out: &'a mut Vec<u8>,
    /// The objects that are open inside the outermost.
    open: &'static [&'static str],
    /// Whether the innermost is still empty.
    is_empty: bool,
}

impl<'a> Nested<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Nested<'a> {
        out.push(b'{');
        Nested { out, open: &[], is_empty: true }
    }

    fn put(&mut self, path: &'static [&'static str], value: &[u8]) {
        let (name, parents) = path.split_last().expect("every place has a name");
        self.put_below(parents, name.as_bytes(), value);
    }

    /// `key` is the inside of a JSON string.
    fn put_below(&mut self, parents: &'static [&'static str], key: &[u8], value: &[u8]) {
        let shared = self.open.iter().zip(parents).take_while(|(open, wanted)| open == wanted).count();
        for _ in shared..self.open.len() {
            self.out.push(b'}');
        }
        self.is_empty &= shared == self.open.len();
        for parent in &parents[shared..] {
            self.name(parent.as_bytes());
            self.out.push(b'{');
            self.is_empty = true;
        }
        self.open = parents;
        self.name(key);
        self.out.extend_from_slice(value);
        self.is_empty = false;
    }

    fn name(&mut self, key: &[u8]) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key);
        self.out.extend_from_slice(b"\":");
    }

    fn end(self) {
        self.out.extend(std::iter::repeat_n(b'}', self.open.len() + 1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::Scanner;

    fn map(event: &str) -> Value {
        let mut out = Vec::new();
        append(Raw::valid(event.as_bytes()), Some(Timestamp(1_735_689_600_000_000)), &mut out);
        Scanner::new().validate(&out).expect("a mapped event is valid");
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn members_come_under_the_names_of_the_schema() {
        let event = json!({
            "id": "0195e0a0-0000-7000-8000-000000000001", "timestamp": "2025-01-31T08:00:00Z",
            "received_at": "2025-01-31T08:00:01Z", "event_type": "code_execution", "status": "aborted",
            "user_id": "ali", "target_user_id": "eve", "session_id": "s1", "operation_id": "o1", "description": "ran",
            "duration_ms": 12.5, "code": "x = 1", "error_type": "KeyError", "error_message": "'x'",
            "error_trace": "Traceback", "endpoint": "/run", "http_method": "POST", "status_code": 500,
            "ip_address": "10.0.0.1", "user_agent": "curl/8", "host": "nb-1", "agent": "weir-1", "source": "http",
            "reported_by": "shop", "metadata": {"k": [1]}
        });
        assert_eq!(
            map(&event.to_string()),
            json!({
                "@timestamp": "2025-01-31T08:00:00Z", "message": "ran", "ecs": {"version": "8.11.0"},
                "event": {
                    "id": "0195e0a0-0000-7000-8000-000000000001", "action": "code_execution", "outcome": "failure",
                    "duration": 12_500_000, "created": "2025-01-31T08:00:01Z", "provider": "http", "kind": "event"
                },
                "user": {"id": "ali", "target": {"id": "eve"}}, "session": {"id": "s1"}, "transaction": {"id": "o1"},
                "error": {"type": "KeyError", "message": "'x'", "stack_trace": "Traceback"}, "url": {"path": "/run"},
                "http": {"request": {"method": "POST"}, "response": {"status_code": 500}},
                "source": {"ip": "10.0.0.1"}, "user_agent": {"original": "curl/8"}, "host": {"name": "nb-1"},
                "agent": {"name": "weir-1"}, "service": {"name": "shop"},
                "weir": {"code": "x = 1", "metadata": {"k": [1]}, "status": "aborted"}
            })
        );
    }

    #[test]
    fn aliases_count_and_what_they_lose_to_is_kept() {
        let mapped = map(r#"{"username":"ali","userId":"eve","action":"login","success":false,"duration_s":0.25}"#);
        assert_eq!(mapped["user"]["id"], "ali");
        assert_eq!(mapped["event"]["action"], "login");
        assert_eq!(mapped["event"]["outcome"], "failure");
        assert_eq!(mapped["event"]["duration"], 250_000_000);
        assert_eq!(mapped["weir"], json!({"userId": "eve", "success": false}));
        let mapped = map(r#"{"userId":"eve","username":"ali","user_id":"bob"}"#);
        assert_eq!(
            (&mapped["user"]["id"], &mapped["weir"]),
            (&json!("bob"), &json!({"userId": "eve", "username": "ali"}))
        );
    }

    #[test]
    fn what_does_not_fit_its_place_is_kept_under_weir() {
        let event = r#"{"ip_address":"1.2.3.4, 10.0.0.1","status_code":"high","duration_ms":-1,"timestamp":"soon",
                        "host":{"name":"a"},"x":1,"n\u0061me":2,"user_id":null}"#;
        let mapped = map(event);
        assert_eq!(
            mapped,
            json!({
                "@timestamp": "2025-01-01T00:00:00.000Z", "ecs": {"version": "8.11.0"}, "event": {"kind": "event"},
                "weir": {
                    "ip_address": "1.2.3.4, 10.0.0.1", "status_code": "high", "duration_ms": -1, "timestamp": "soon",
                    "host": {"name": "a"}, "x": 1, "name": 2
                }
            })
        );
    }

    #[test]
    fn an_alert_says_that_it_is_one() {
        assert_eq!(map(r#"{"event_type":"alert"}"#)["event"], json!({"action": "alert", "kind": "alert"}));
    }

    #[test]
    fn the_page_about_the_names_is_complete() {
        let page = include_str!("../../../docs/ecs.md");
        for (name, path) in TABLE {
            let row = format!("| `{}` | `{}` |", KNOWN[name.0 as usize], path.join("."));
            assert!(page.contains(&row), "docs/ecs.md lacks {row}");
        }
    }

    #[test]
    fn the_table_keeps_what_lies_in_one_object_together() {
        let heads: Vec<&str> = TABLE.iter().map(|(_, path)| path[0]).collect();
        let mut distinct = heads.clone();
        distinct.dedup();
        let count = distinct.len();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), count, "{heads:?}");
    }

    proptest! {
        #[test]
        fn every_member_is_somewhere_and_the_result_is_valid(
            members in proptest::collection::vec((proptest::sample::select(KNOWN), proptest::sample::select(vec![
                "1", "-2.5", "\"error\"", "{\"a\":[]}", "[1]", "true", "\"2025-01-31T08:00:00Z\"", "1e400", "\"::1\"",
            ])), 0..12),
        ) {
            let distinct: std::collections::BTreeMap<_, _> = members.into_iter().collect();
            let texts: Vec<String> = distinct.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let mut out = Vec::new();
            append(Raw::valid(format!("{{{}}}", texts.join(",")).as_bytes()), None, &mut out);
            Scanner::new().validate(&out).expect("a mapped event is valid");
            let mapped = Raw::valid(&out);
            for (name, value) in &distinct {
                let kept = mapped.path(&["weir", name]).is_some_and(|kept| kept.text() == *value);
                let placed = TABLE.iter().any(|(_, path)| mapped.path(path).is_some());
                prop_assert!(kept || placed, "{} in {}", name, mapped.text());
            }
        }
    }
}
