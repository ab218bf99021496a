//! Every filter of lists, alone and combined, from the store and from a table, against a plain look at the events; and what
//! a table has no column for is refused by name.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::support::database::Database;
use crate::support::places::{Dice, Places, ask, escaped, reading, token};
use crate::support::{Agent, Folder};

/// Members of events that are looked for by their whole value, and values of each.
const WHOLE: [(&str, [&str; 3]); 18] = [
    ("event_type", ["cell.finish", "UPDATE", "login"]),
    ("entity_type", ["order", "Order", "سند"]),
    ("entity_id", ["17", "order-5", "a/b c"]),
    ("user_id", ["ali", "Sara", "سارا"]),
    ("status", ["success", "error", "lost"]),
    ("session_id", ["s1", "s2", "S3"]),
    ("operation_id", ["op-1", "op-2", "op-3"]),
    ("target_user_id", ["ali", "reza", "7"]),
    ("endpoint", ["/api/a", "/api/b?x=1", "/"]),
    ("http_method", ["GET", "POST", "delete"]),
    ("language", ["python", "R", "julia"]),
    ("notebook", ["a.ipynb", "b c.ipynb", "دفتر.ipynb"]),
    ("kernel_id", ["k1", "k2", "k3"]),
    ("error_type", ["KeyError", "ValueError", "Boom"]),
    ("trace_id", ["4bf92f3577b34da6a3ce929d0e0e4736", "t2", "t3"]),
    ("host", ["nb-1", "nb-2", "NB-3"]),
    ("user_email", ["ali@example.org", "sara@example.org", "x@y.z"]),
    ("ip_address", ["10.0.0.1", "10.0.0.12", "fd00::1"]),
];
/// Members that contain what is looked for.
const LONG: [(&str, [&str; 3]); 5] = [
    ("description", ["Order 100% paid", "نشد: خطا", "a_b"]),
    ("code", ["import os", "IMPORT pandas", "x = 1"]),
    ("error_message", ["KeyError: 7", "Boom", "division by zero"]),
    ("error_trace", ["line 1\nline 2", "Traceback", "x"]),
    ("user_agent", ["curl/8.0", "Mozilla/5.0 (X11)", "weir"]),
];
const NUMBERS: [(&str, [f64; 4]); 4] = [
    ("duration_ms", [0.0, 12.5, 250.0, 99_999.0]),
    ("status_code", [200.0, 404.0, 500.0, 503.0]),
    ("cell_number", [1.0, 2.0, 30.0, 400.0]),
    ("db_query_count", [0.0, 1.0, 2.0, 77.0]),
];

fn events(count: usize) -> Vec<Value> {
    let mut dice = Dice(11);
    let event = |n: usize| {
        let mut event = Map::new();
        event.insert("id".into(), format!("01890a5d-ac96-774b-bccf-{n:012x}").into());
        let (day, second) = (1 + dice.roll(9), dice.roll(3));
        event.insert("timestamp".into(), format!("2026-01-0{day}T12:00:0{second}Z").into());
        for (name, values) in WHOLE.iter().chain(&LONG) {
            if dice.roll(3) > 0 {
                event.insert((*name).into(), (*dice.one(values)).into());
            }
        }
        for (name, values) in &NUMBERS {
            let value = *dice.one(values);
            if dice.roll(3) > 0 {
                let is_whole = value.fract() == 0.0;
                event.insert((*name).into(), if is_whole { json!(value as i64) } else { json!(value) });
            }
        }
        if dice.roll(3) > 0 {
            event.insert("is_admin".into(), (dice.roll(2) == 0).into());
        }
        // As `normalize` would.
        if event.contains_key("error_message") || event.get("status_code").and_then(Value::as_u64) >= Some(400) {
            event.entry("status").or_insert("error".into());
        }
        Value::Object(event)
    };
    (0..count).map(event).collect()
}

type Holds = Box<dyn Fn(&Value) -> bool>;

/// A filter as it is asked for, and what it means.
struct Case {
    parameter: &'static str,
    value: String,
    holds: Holds,
}

fn case(parameter: &'static str, value: impl Into<String>, holds: impl Fn(&Value) -> bool + 'static) -> Case {
    Case { parameter, value: value.into(), holds: Box::new(holds) }
}

fn text<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    event[name].as_str()
}

fn is(event: &Value, name: &str, wanted: &str) -> bool {
    text(event, name).is_some_and(|value| value.to_lowercase() == wanted.to_lowercase())
}

fn contains(event: &Value, name: &str, wanted: &str) -> bool {
    text(event, name).is_some_and(|value| value.to_lowercase().contains(&wanted.to_lowercase()))
}

fn between(event: &Value, name: &str, least: f64, most: f64) -> bool {
    event[name].as_f64().is_some_and(|value| (least..=most).contains(&value))
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("search", "100%", |event| contains(event, "description", "100%")),
        case("search", "A_B", |event| contains(event, "description", "a_b")),
        case("start_date", "2026-01-04", |event| text(event, "timestamp") >= Some("2026-01-04")),
        case("end_date", "2026-01-06", |event| text(event, "timestamp") < Some("2026-01-07")),
        case("end_date", "2026-01-06T12:00:01Z", |event| text(event, "timestamp") <= Some("2026-01-06T12:00:01Z")),
        case("q", "is_admin:true", |event| event["is_admin"] == true),
        case("q", "is_admin:false", |event| event["is_admin"] == false),
        case("q", "-is_admin:true", |event| event["is_admin"] != true),
        case("q", "ip_address:10.0.0.*", |event| contains(event, "ip_address", "10.0.0.")),
        case("q", "endpoint:/api/*", |event| contains(event, "endpoint", "/api/")),
        case("q", "duration_ms:[12.5 TO 250]", |event| between(event, "duration_ms", 12.5, 250.0)),
        case("q", "duration_ms:>250", |event| between(event, "duration_ms", 250.1, f64::MAX)),
        case("q", "status_code:>=500", |event| between(event, "status_code", 500.0, f64::MAX)),
        case("q", "-status_code:<400", |event| !between(event, "status_code", f64::MIN, 399.9)),
    ];
    // Exactly this value, in this case.
    for name in ["event_type", "entity_type", "entity_id", "user_id", "status", "session_id"] {
        let (_, values) = WHOLE.iter().find(|(known, _)| *known == name).expect("it has values");
        for wanted in values {
            cases.push(case(name, *wanted, move |event| text(event, name) == Some(*wanted)));
        }
        cases.push(case(name, "no such value", |_| false));
    }
    for (name, values) in WHOLE {
        let wanted = values[1];
        cases.push(case("q", format!("{name}:\"{}\"", wanted.to_uppercase()), move |event| is(event, name, wanted)));
        cases.push(case("q", format!("-{name}:\"{wanted}\""), move |event| !is(event, name, wanted)));
    }
    for (name, values) in LONG {
        let wanted: String = values[0].chars().skip(1).take(5).collect();
        let query = format!("{name}:\"{}\"", wanted.to_uppercase());
        cases.push(case("q", query, move |event| contains(event, name, &wanted)));
    }
    for (name, values) in NUMBERS {
        let wanted = values[1];
        cases.push(case("q", format!("{name}:{wanted}"), move |event| between(event, name, wanted, wanted)));
        cases.push(case("q", format!("{name}:<{wanted}"), move |event| between(event, name, f64::MIN, wanted - 0.1)));
    }
    for name in WHOLE.map(|(name, _)| name).into_iter().chain(LONG.map(|(name, _)| name)) {
        cases.push(case("q", format!("has:{name}"), move |event| !event[name].is_null()));
    }
    cases
}

/// How some filters together are asked for.
fn address(cases: &[&Case]) -> Option<String> {
    let queries: Vec<String> =
        cases.iter().filter(|case| case.parameter == "q").map(|case| format!("({})", case.value)).collect();
    let mut parts = Vec::new();
    let mut names = BTreeSet::new();
    for case in cases.iter().filter(|case| case.parameter != "q") {
        if !names.insert(case.parameter) {
            return None;
        }
        parts.push(format!("{}={}", case.parameter, escaped(&case.value)));
    }
    if !queries.is_empty() {
        parts.push(format!("q={}", escaped(&queries.join(" "))));
    }
    Some(parts.join("&"))
}

fn ids(rows: &Value) -> BTreeSet<&str> {
    rows.as_array().expect("rows").iter().map(|row| row["id"].as_str().expect("an id")).collect()
}

/// The events that a list, its statistics and its histogram are about.
fn check(agent: &Agent, token: &str, asked: &str, expected: &BTreeSet<&str>) {
    let (status, page) = ask(agent, token, &format!("/api/logs?limit=1000&{asked}"));
    assert_eq!(status, 200, "{asked}: {page}");
    assert_eq!((&ids(&page["logs"]), &page["total"]), (expected, &json!(expected.len())), "{asked}");
    for (path, member) in [("stats", "total_logs"), ("histogram", "total")] {
        let (status, found) = ask(agent, token, &format!("/api/logs/{path}?{asked}"));
        assert_eq!((status, &found[member]), (200, &json!(expected.len())), "{path} {asked}: {found}");
    }
}

#[test]
fn every_filter_alone_and_combined_means_the_same_events_in_the_store_and_in_a_table() {
    let events = events(200);
    let places = Places::with(&events);
    let (admin, user) = (token("root", "admin"), token("Sara", "user"));
    let cases = cases();
    let mut asked: Vec<Vec<&Case>> = cases.iter().map(|case| vec![case]).collect();
    let mut dice = Dice(3);
    for _ in 0..150 {
        asked.push((0..2 + dice.roll(2)).map(|_| dice.one(&cases)).collect());
    }
    let mut met = 0;
    for some in asked {
        let Some(address) = address(&some) else { continue };
        let all: Vec<&Value> = events.iter().filter(|event| some.iter().all(|case| (case.holds)(event))).collect();
        let id = |event: &Value| event["id"].as_str().expect("an id").to_owned();
        let own = all.iter().filter(|event| event["user_id"] == "Sara").map(|event| id(event));
        let (own, all): (Vec<String>, Vec<String>) = (own.collect(), all.iter().map(|event| id(event)).collect());
        met += usize::from(some.len() > 1 && !all.is_empty());
        for (token, expected) in [(&admin, &all), (&user, &own)] {
            let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
            for agent in [&places.store, &places.table] {
                check(agent, token, &address, &expected);
            }
        }
    }
    assert!(met > 50, "only {met} combinations mean some event");
}

#[test]
fn every_filter_of_the_administrators_list_means_the_same_events_in_the_store_and_in_a_table() {
    let events = events(200);
    let places = Places::with(&events);
    let admin = token("root", "admin");
    let has_failed = |event: &Value| ["error", "lost"].iter().any(|status| event["status"] == *status);
    let names_sara = |event: &Value| contains(event, "user_id", "sara") || contains(event, "user_email", "sara");
    let cases = [
        case("action_filter", "UPDATE", |event| event["event_type"] == "UPDATE"),
        case("action_filter", "update", |_| false),
        case("is_admin", "true", |event| event["is_admin"] == true),
        case("is_admin", "false", |event| event["is_admin"] != true),
        case("success_filter", "true", |event| event["status"] == "success"),
        case("success_filter", "success", |event| event["status"] == "success"),
        case("success_filter", "false", has_failed),
        case("success_filter", "failed", has_failed),
        case("user_search", "SARA", names_sara),
        case("user_search", "y.", |event| contains(event, "user_email", "y.")),
        case("date_from", "2026-01-04", |event| text(event, "timestamp") >= Some("2026-01-04")),
        case("date_to", "2026-01-06", |event| text(event, "timestamp") < Some("2026-01-07")),
        case("q", "endpoint:/api/a http_method:get", |event| {
            is(event, "endpoint", "/api/a") && is(event, "http_method", "get")
        }),
        case("q", "target_user_id:ali OR entity_id:17", |event| {
            is(event, "target_user_id", "ali") || is(event, "entity_id", "17")
        }),
    ];
    let pairs = (0..cases.len()).flat_map(|first| (first..cases.len()).map(move |second| (first, second)));
    for (first, second) in pairs {
        let some = if first == second { vec![&cases[first]] } else { vec![&cases[first], &cases[second]] };
        let Some(address) = address(&some) else { continue };
        let count = events.iter().filter(|event| some.iter().all(|case| (case.holds)(event))).count();
        for agent in [&places.store, &places.table] {
            let (status, page) = ask(agent, &admin, &format!("/api/admin/activity?limit=100&{address}"));
            assert_eq!((status, &page["total"]), (200, &json!(count)), "{address}: {page}");
            assert_eq!(page["logs"].as_array().map(Vec::len), Some(count.min(100)), "{address}");
        }
    }
}

/// A table of an example, and the members that it has a column for.
const TABLES: [(&str, &str, &[&str]); 4] = [
    (
        "notebook",
        "code_execution_logs",
        &["user_id", "session_id", "cell_number", "code", "duration_ms", "status", "error_message"],
    ),
    (
        "shop",
        "activity_logs",
        &["event_type", "entity_type", "entity_id", "user_id", "description", "ip_address", "user_agent"],
    ),
    (
        "chat",
        "activity_logs",
        &[
            "user_id",
            "event_type",
            "endpoint",
            "http_method",
            "status_code",
            "status",
            "error_message",
            "error_type",
            "target_user_id",
            "entity_id",
            "entity_type",
            "duration_ms",
            "db_query_count",
            "ip_address",
            "user_agent",
            "is_admin",
        ],
    ),
    (
        "review",
        "operations",
        &["session_id", "user_id", "event_type", "status", "description", "error_message", "duration_ms"],
    ),
];

#[test]
fn what_a_table_has_no_column_for_is_refused_by_name_and_all_else_is_answered() {
    let admin = token("root", "admin");
    let names: Vec<&str> = (WHOLE.map(|(name, _)| name).into_iter())
        .chain(LONG.map(|(name, _)| name))
        .chain(NUMBERS.map(|(name, _)| name))
        .chain(["is_admin"])
        .collect();
    for (example, table, members) in TABLES {
        let (database, folder) = (Database::new(), Folder::new());
        database.define(example);
        let agent = reading(&folder, &database, table, "");
        let refused = |parameter: &str, address: &str, name: &str| {
            let (status, lack) = ask(&agent, &admin, address);
            if members.contains(&name) {
                assert_eq!(status, 200, "{example} has `{name}`: {address} {lack}");
                return;
            }
            let detail = lack["detail"].as_str().unwrap_or_default();
            let wanted = format!("`{table}` has no column for `{name}`");
            assert_eq!(status, 400, "{example} {address}: {lack}");
            assert!(detail.starts_with(&format!("{parameter}: ")) && detail.contains(&wanted), "{address}: {detail}");
        };
        for name in &names {
            for query in [format!("{name}:x"), format!("-has:{name}"), format!("has:user_id OR {name}:>1")] {
                refused("q", &format!("/api/logs?q={}", escaped(&query)), name);
            }
            refused("q", &format!("/api/logs/stats?q=has:{name}"), name);
            refused("q", &format!("/api/admin/activity?q=has:{name}"), name);
        }
        for name in ["event_type", "entity_type", "entity_id", "user_id", "status", "session_id"] {
            for path in ["/api/logs", "/api/logs/stats", "/api/logs/histogram", "/api/logs/export"] {
                refused(name, &format!("{path}?{name}=x"), name);
            }
        }
        for (parameter, value, name) in [
            ("search", "x", "description"),
            ("sort_by", "status_code", "status_code"),
            ("sort_by", "endpoint", "endpoint"),
        ] {
            refused(parameter, &format!("/api/logs?{parameter}={value}"), name);
        }
        for (parameter, value, name) in [
            ("action_filter", "x", "event_type"),
            ("is_admin", "true", "is_admin"),
            ("success_filter", "failed", "status"),
            ("sort_by", "action_type", "event_type"),
            ("sort_by", "duration_ms", "duration_ms"),
        ] {
            refused(parameter, &format!("/api/admin/activity?{parameter}={value}"), name);
        }
        // Any member of the object that holds the rest may be there.
        let (status, found) = ask(&agent, &admin, "/api/logs?q=metadata.anything:1");
        assert_eq!(status, if example == "notebook" { 400 } else { 200 }, "{example}: {found}");
    }
}
