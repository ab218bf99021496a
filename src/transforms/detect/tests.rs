//! Tests of each rule, with events that trigger it and events that do not.

use serde_json::{Value, json};

use super::Detect;
use crate::transforms::testing::{Driven, Given, RECEIVED_AT, stage_problems};

fn detect(rule: &str) -> Driven<Detect> {
    Driven::new(&format!("rules: [{{ name: r, {rule} }}]"))
}

fn alerts(given: &Given) -> Vec<Value> {
    (0..given.lines.len()).map(|nth| given.json(nth)).collect()
}

#[test]
fn three_failed_logins_from_one_address_are_one_alert_that_says_which() {
    let mut detect =
        detect("where: 'event_type:login_failed', by: ip_address, count: 3, window: 10m, severity: critical");
    let failed = |ip: &str, id: u32| {
        format!(r#"{{"id":"00000000-0000-8000-8000-{id:012}","event_type":"login_failed","ip_address":"{ip}"}}"#)
    };
    let given = detect.step(&[&failed("1.1.1.1", 1), &failed("2.2.2.2", 2), &failed("1.1.1.1", 3)]);
    assert!(given.lines.is_empty());
    assert_eq!(given.filtered, [("looked_at", 3)].into());
    let given = detect.step(&[&failed("1.1.1.1", 4), &failed("1.1.1.1", 5)]);
    let found = alerts(&given);
    assert_eq!(found.len(), 1, "it alerts once");
    let time = RECEIVED_AT.to_string();
    let ids = [1, 3, 4].map(|id| format!("00000000-0000-8000-8000-{id:012}"));
    assert_eq!(
        found[0],
        json!({
            "id": given.ids[0], "timestamp": time, "event_type": "alert", "status": "error", "ip_address": "1.1.1.1",
            "description": "r: 3 events within 10m for ip_address=1.1.1.1",
            "metadata": {
                "rule": "r", "kind": "threshold", "severity": "critical", "resolved": false,
                "by": {"ip_address": "1.1.1.1"}, "count": 3, "threshold": 3, "window": "10m", "first": time, "last": time,
                "event_ids": (ids),
            },
        })
    );
    let over = alerts(&detect.wait(600.0));
    assert_eq!((over.len(), &over[0]["metadata"]["resolved"]), (1, &json!(true)));
    assert_eq!(over[0]["metadata"]["count"], 4);
    assert_eq!(detect.entries(), 0);
}

#[test]
fn the_same_events_again_alert_under_the_same_id() {
    let ids = || {
        let mut detect = detect("by: user_id, count: 2");
        detect.step(&[r#"{"user_id":"a"}"#, r#"{"user_id":"a"}"#]).ids
    };
    assert_eq!(ids(), ids());
}

#[test]
fn events_count_as_often_as_they_say_and_messages_are_templates_over_the_alert() {
    let mut detect = detect(
        "count: 5, weight: metadata.count, by: user_id, message: '{{ metadata.count }} of {{ user_id }}: {{ x | - }}'",
    );
    let given =
        detect.step(&[r#"{"user_id":"ali","metadata":{"count":3}}"#, r#"{"user_id":"ali","metadata":{"count":4}}"#]);
    assert_eq!(alerts(&given)[0]["description"], "7 of ali: -");
}

#[test]
fn an_event_may_count_as_a_fraction() {
    for (weights, is_alert) in [
        (vec![5.5, 5.5], true),
        (vec![9.9, 0.2], true),
        (vec![9.9, 0.05], false),
        (vec![4.0, 0.0, -3.0, 5.5], false),
        (vec![0.125; 79], false),
        (vec![0.125; 80], true),
    ] {
        let mut detect = detect("count: 10, weight: n, by: user_id");
        let lines: Vec<String> = weights.iter().map(|n| format!(r#"{{"user_id":"ali","n":{n:?}}}"#)).collect();
        let given = detect.step(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(!given.lines.is_empty(), is_alert, "{weights:?}");
    }
}

#[test]
fn what_does_not_match_or_has_nothing_to_count_by_is_passed_over() {
    let mut detect = detect("where: status:error, by: user_id, count: 2");
    let given = detect.step(&[
        r#"{"status":"error"}"#,
        r#"{"status":"error"}"#,
        r#"{"status":"success","user_id":"a"}"#,
        r#"{"status":"error","user_id":"a"}"#,
    ]);
    assert!(given.lines.is_empty());
}

#[test]
fn code_that_reads_credentials_or_calls_out_is_found_in_plain_sight() {
    let mut detect = detect("kind: forbidden, by: user_id, patterns: [credentials, network, 'eval\\(']");
    for (code, found) in [
        ("open('/root/.aws/credentials')", Some("credentials")),
        ("import requests; requests.get('http://x')", Some("network")),
        ("!curl http://x", Some("network")),
        ("eval(input())", Some("eval\\(")),
        ("df = pd.read_csv('requests.csv')", None),
    ] {
        let user = code.len();
        let event = json!({"code": code, "user_id": user}).to_string();
        let given = alerts(&detect.step(&[&event]));
        assert_eq!(given.first().and_then(|alert| alert["metadata"]["found"].as_str()), found, "{code}");
    }
}

#[test]
fn a_value_is_new_only_after_the_rule_has_learned() {
    let mut detect = detect("kind: first_seen, by: user_id, field: import, learn: 1d");
    let code = |user: &str, code: &str| json!({"user_id": user, "code": code}).to_string();
    assert!(detect.step(&[&code("a", "import os"), &code("a", "import sys")]).lines.is_empty());
    detect.wait(86_400.0);
    let given = |detect: &mut Driven<Detect>, event: String| detect.step_now(&[&event]);
    assert!(given(&mut detect, code("a", "import os")).lines.is_empty());
    let new = given(&mut detect, code("a", "import socket, os"));
    assert_eq!(alerts(&new)[0]["metadata"]["value"], "socket");
    assert!(given(&mut detect, code("a", "import socket")).lines.is_empty(), "once");
    assert!(given(&mut detect, code("b", "import ctypes")).lines.is_empty(), "another user learns for itself");
}

#[test]
fn a_user_who_was_never_there_is_seen_first() {
    let mut detect = detect("kind: first_seen, by: user_id, learn: 1h");
    detect.step(&[r#"{"user_id":"a"}"#]);
    detect.wait(3600.0);
    let given = detect.step_now(&[r#"{"user_id":"a"}"#, r#"{"user_id":"b"}"#]);
    assert_eq!(alerts(&given)[0]["user_id"], "b");
    assert_eq!(given.lines.len(), 1);
}

#[test]
fn an_hour_without_a_past_is_unusual_in_the_zone_of_the_rule() {
    let mut detect = detect("kind: unusual_hour, by: user_id, learn: 1d, timezone: Asia/Tehran");
    let at = |time: &str| json!({"user_id": "a", "timestamp": time}).to_string();
    for day in 1..7 {
        for hour in 5..14 {
            detect.step_now(&[&at(&format!("2025-06-{day:02}T{hour:02}:00:00Z"))]);
        }
    }
    detect.wait(86_400.0);
    assert!(detect.step_now(&[&at("2025-06-08T09:00:00Z")]).lines.is_empty());
    let given = detect.step_now(&[&at("2025-06-08T22:40:00Z"), &at("2025-06-08T22:50:00Z")]);
    assert_eq!(given.lines.len(), 1, "a night of work is one alert");
    assert_eq!(alerts(&given)[0]["metadata"]["hour"], 2);
}

#[test]
fn a_user_who_fails_more_than_before_is_told_from_one_who_always_fails() {
    let mut detect = detect("kind: own_past, by: user_id, count: 5, window: 1h, learn: 1d, factor: 3");
    let event = |user: &str, fails: bool| {
        json!({"user_id": user, "status": if fails { "error" } else { "success" }}).to_string()
    };
    for _ in 0..48 {
        for n in 0..10 {
            detect.step_now(&[&event("careful", n == 0), &event("careless", n % 2 == 0)]);
        }
        detect.wait(3600.0);
    }
    let mut found = Vec::new();
    for n in 0..20 {
        found.extend(alerts(&detect.step_now(&[&event("careful", n % 2 == 0), &event("careless", n % 2 == 0)])));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["user_id"], "careful");
    assert_eq!(found[0]["metadata"]["failure_rate_before"], 10.0);
}

#[test]
fn silence_is_an_alert_and_the_next_event_ends_it() {
    let mut detect = detect("kind: absence, by: host, window: 10m");
    detect.step_now(&[r#"{"host":"nb-1"}"#, r#"{"host":"nb-2"}"#]);
    detect.wait(300.0);
    detect.step_now(&[r#"{"host":"nb-2"}"#]);
    let given = alerts(&detect.wait(301.0));
    assert_eq!((given.len(), &given[0]["host"]), (1, &json!("nb-1")));
    assert_eq!(given[0]["description"], "r: no event for 10m for host=nb-1");
    let over = alerts(&detect.step_now(&[r#"{"host":"nb-1"}"#]));
    assert_eq!(over[0]["metadata"]["resolved"], true);
}

#[test]
fn all_that_is_wrong_with_rules_is_said_at_once() {
    let rules = "rules: [{ name: a, count: 0, window: 0s }, { name: a, kind: forbidden }, \
                 { kind: own_past, factor: 0.5, timezone: Mars, message: '{{ x' }, { name: d, kind: forbidden, patterns: ['('] }]";
    let found = stage_problems::<Detect>(rules);
    let expected = [
        "rules[0].count: ",
        "rules[0].window: ",
        "rules[1].name: ",
        "rules[1].patterns: ",
        "rules[2].name: ",
        "rules[2].factor: ",
        "rules[2].by: ",
        "rules[2].message: ",
        "rules[2].timezone: ",
        "rules[3].patterns[0]: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} is not {expected}");
    }
}
