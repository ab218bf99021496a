//! Transforms that remember, from outside: kill -9, other plans, removal, memory mode, full journals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::support::collector::{Collector, reply};
use crate::support::{Agent, Folder, eventually, free_port, lines_of, post, request};

const ROUNDS: u64 = 10;
const CLIENTS: u64 = 3;

/// Starts and ends that were acknowledged, by the number of their operation.
#[derive(Default)]
struct Acknowledged {
    starts: BTreeSet<u64>,
    ends: BTreeSet<u64>,
}

/// Starts operations and completes them later, some in another order, until the agent is gone.
fn client(port: u16, next: &AtomicU64, stop: &AtomicBool, acknowledged: &Mutex<Acknowledged>) {
    let mut open: Vec<u64> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let start = format!(
            r#"{{"op":{n},"operation_id":"o{n}","event_type":"work","status":"in_progress","from_start":{n}}}"#
        );
        if send(port, &start) {
            acknowledged.lock().unwrap().starts.insert(n);
            open.push(n);
        }
        if open.len() > 3 {
            let n = open.swap_remove((n % 3) as usize);
            let end = format!(r#"{{"op":{n},"operation_id":"o{n}","event_type":"work","status":"success"}}"#);
            if send(port, &end) {
                acknowledged.lock().unwrap().ends.insert(n);
            }
        }
    }
}

fn send(port: u16, body: &str) -> bool {
    match request(port, "POST", "/", &[], body.as_bytes()) {
        Ok(answer) => answer.status == 200,
        Err(_) => {
            std::thread::sleep(Duration::from_millis(1));
            false
        }
    }
}

fn events(folder: &std::path::Path, prefix: &str) -> Vec<Value> {
    lines_of(folder, prefix).iter().map(|line| serde_json::from_str(line).expect("every line is whole")).collect()
}

/// Under load and kill -9, each life with other options and another wiring: an operation whose start and end were
/// acknowledged is one event, with what the start said.
#[test]
fn kill_9_anywhere_neither_loses_nor_doubles_an_operation() {
    let folder = Folder::new();
    let port = free_port();
    let out = folder.path("out");
    let plan = |n: u64| {
        let inputs = ["safe", "tagged"][(n % 2) as usize];
        let open_after = 1 + n % 3;
        let sink_input = ["ops", "after"][(n / 2 % 2) as usize];
        format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             transforms:\n  safe: {{ type: redact, inputs: [web] }}\n  \
             tagged: {{ type: enrich, inputs: [web], set: {{ x: 1 }} }}\n  \
             ops: {{ type: operations, inputs: [{inputs}], open_after: {open_after}m, repeats: 0s }}\n  \
             after: {{ type: enrich, inputs: [ops], set: {{ y: 2 }} }}\n\
             sinks:\n  file: {{ type: file, inputs: [{sink_input}], path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n",
            out.display()
        )
    };
    let next = AtomicU64::new(0);
    let acknowledged = Mutex::new(Acknowledged::default());
    for round in 0..ROUNDS {
        let agent = Agent::start(&folder, &plan(round));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| client(port, &next, &stop, &acknowledged));
            }
            for change in 1..3 {
                std::thread::sleep(Duration::from_millis(30 + round * 37 % 90));
                agent.configure(&folder, &plan(round + change));
                agent.signal("-HUP");
            }
            std::thread::sleep(Duration::from_millis(round * 23 % 50));
            agent.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }
    let agent = Agent::start(&folder, &plan(0));
    eventually("nothing waits", || {
        agent.metric("weir_events_waiting", "file") == 0 && agent.metric("weir_cursor_lag_events", "ops") == 0
    });
    agent.assert_books();
    assert!(!agent.log().contains("panic"), "{}", agent.log());
    assert!(agent.stop().success());
    let mut seen: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for event in events(&out, "events.ndjson") {
        seen.entry(event["op"].as_u64().expect("the number sent")).or_default().push(event);
    }
    let Acknowledged { starts, ends } = acknowledged.into_inner().unwrap();
    assert!(ends.len() > 50, "the load was real: {}", ends.len());
    for n in &ends {
        let events = seen.get(n).unwrap_or_else(|| panic!("operation {n} is lost"));
        assert_eq!(events.len(), 1, "operation {n} came {} times", events.len());
        assert_eq!(events[0]["status"], "success");
        if starts.contains(n) {
            assert_eq!(events[0]["from_start"], *n, "operation {n} has lost its start");
        }
    }
    assert!(seen.values().all(|events| events.len() == 1), "an unacknowledged operation came twice");
}

fn plan_with(port: u16, out: &std::path::Path, operations: &str, journal: &str) -> String {
    let transforms = match operations {
        "" => String::new(),
        options => format!("transforms:\n  ops: {{ type: operations, inputs: [web], {options} }}\n"),
    };
    let input = if operations.is_empty() { "web" } else { "ops" };
    format!(
        "{journal}sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n{transforms}\
         sinks:\n  file: {{ type: file, inputs: [{input}], path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n",
        out.display()
    )
}

fn reload(agent: &Agent, folder: &Folder, plan: &str) -> Value {
    agent.configure(folder, plan);
    let token = format!("Bearer {}", agent.token());
    let answer = request(agent.api, "POST", "/api/reload", &[("Authorization", &token)], b"").expect("it answers");
    answer.json()
}

const START: &str = r#"{"operation_id":"a","event_type":"work","status":"in_progress"}"#;

#[test]
fn a_stage_that_holds_events_is_not_removed_without_a_word() {
    let folder = Folder::new();
    let (port, out) = (free_port(), folder.path("out"));
    let agent = Agent::start(&folder, &plan_with(port, &out, "timeout: 1h", ""));
    post(port, START);
    eventually("it is taken", || agent.metric("weir_state_entries", "ops") == 1);
    let refused = reload(&agent, &folder, &plan_with(port, &out, "", ""));
    assert_eq!(refused["applied"], false);
    assert!(refused["errors"][0].as_str().unwrap().contains("transforms.ops: 1 waiting or held events"), "{refused}");
    let drains = reload(&agent, &folder, &plan_with(port, &out, "timeout: 1h, on_remove: drain", ""));
    assert_eq!(drains["applied"], true, "{drains}");
    let gone = reload(&agent, &folder, &plan_with(port, &out, "", ""));
    assert_eq!(gone["applied"], true, "{gone}");
    eventually("what it held is given as it came", || {
        events(&out, "events.ndjson").iter().any(|event| event["status"] == "in_progress")
    });
    eventually("it is forgotten", || agent.log().contains("the transform was removed"));
    post(port, START);
    eventually("the other way works", || events(&out, "events.ndjson").len() == 2);
    agent.assert_books();
    assert!(agent.stop().success());
}

#[test]
fn a_stage_that_is_gone_at_a_start_keeps_what_it_holds_until_somebody_decides() {
    let folder = Folder::new();
    let (port, out) = (free_port(), folder.path("out"));
    let with = plan_with(port, &out, "timeout: 1h", "");
    let agent = Agent::start(&folder, &with);
    post(port, START);
    eventually("it is taken", || agent.metric("weir_state_entries", "ops") == 1);
    agent.kill();
    let agent = Agent::start(&folder, &plan_with(port, &out, "", ""));
    assert!(agent.log().contains("1 events wait for this transform or are held by it"), "{}", agent.log());
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &with);
    post(port, r#"{"operation_id":"a","event_type":"work","status":"success","timestamp":"2026-01-01T00:00:00Z"}"#);
    eventually("it is completed", || {
        let events = events(&out, "events.ndjson");
        events.len() == 1 && events[0]["status"] == "success"
    });
    assert!(agent.stop().success());
}

/// Runs an agent by the plan `with` until its stage `ops` holds one start, and kills it.
fn killed_while_it_holds_a_start(port: u16, folder: &Folder, with: &str) {
    let agent = Agent::start(folder, with);
    post(port, START);
    eventually("it is taken", || agent.metric("weir_state_entries", "ops") == 1);
    agent.kill();
}

/// Whether the metrics do not list the transform `ops`.
fn is_forgotten(agent: &Agent) -> bool {
    let page = request(agent.api, "GET", "/metrics", &[], b"").expect("it answers").text();
    !page.lines().any(|line| line.starts_with("weir_component") && line.contains("\"ops\""))
}

#[test]
fn a_stage_that_is_gone_at_a_start_gives_what_it_holds_through_what_followed_it() {
    let folder = Folder::new();
    let (port, out) = (free_port(), folder.path("out"));
    let plan = |transforms: &str, input: &str| {
        format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n{transforms}\
             sinks:\n  file: {{ type: file, inputs: [{input}], path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n",
            out.display()
        )
    };
    let stages = "transforms:\n  ops: { type: operations, inputs: [web], timeout: 1h, on_remove: drain }\n  \
                  once: { type: dedupe, inputs: [ops], key: [operation_id], window: 1h, on_remove: drain }\n  \
                  after: { type: enrich, inputs: [once], set: { marked: true } }\n";
    killed_while_it_holds_a_start(port, &folder, &plan(stages, "after"));
    let without = plan("", "web");
    let agent = Agent::start(&folder, &without);
    eventually("what it held is given", || !events(&out, "events.ndjson").is_empty());
    let given = events(&out, "events.ndjson");
    assert_eq!((given.len(), &given[0]["status"], &given[0]["marked"]), (1, &"in_progress".into(), &true.into()));
    eventually("both are forgotten", || agent.log().matches("the transform was removed").count() == 2);
    agent.assert_books();
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &without);
    assert_eq!(agent.log().matches("no longer configured").count(), 2, "{}", agent.log());
    assert!(agent.stop().success());
    assert_eq!(events(&out, "events.ndjson").len(), 1);
}

#[test]
fn a_stage_that_is_gone_at_a_start_and_drops_says_how_much() {
    let folder = Folder::new();
    let (port, out) = (free_port(), folder.path("out"));
    killed_while_it_holds_a_start(port, &folder, &plan_with(port, &out, "timeout: 1h, on_remove: drop", ""));
    let agent = Agent::start(&folder, &plan_with(port, &out, "", ""));
    eventually("it is forgotten", || agent.log().contains("the transform was removed"));
    assert!(agent.log().contains("\"events\":1"), "{}", agent.log());
    eventually("it is listed no more", || is_forgotten(&agent));
    assert!(agent.stop().success());
    assert!(events(&out, "events.ndjson").is_empty());
}

#[test]
fn a_stage_of_another_type_under_the_same_name_begins_once_the_first_has_given_what_it_held() {
    for by_restart in [false, true] {
        let folder = Folder::new();
        let (port, out) = (free_port(), folder.path("out"));
        let plan = |stage: &str| {
            format!(
                "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
                 transforms:\n  ops: {{ inputs: [web], {stage} }}\n\
                 sinks:\n  file: {{ type: file, inputs: [ops], path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n",
                out.display()
            )
        };
        let mut agent = Agent::start(&folder, &plan("type: operations, timeout: 1h"));
        post(port, START);
        eventually("it is taken", || agent.metric("weir_state_entries", "ops") == 1);
        let other = plan("type: dedupe, key: [operation_id], window: 1h");
        if by_restart {
            agent.kill();
            agent = Agent::start(&folder, &other);
        } else {
            let changed = reload(&agent, &folder, &other);
            assert_eq!(changed["applied"], true, "{changed}");
        }
        eventually("what the first held is given", || events(&out, "events.ndjson").len() == 1);
        assert_eq!(events(&out, "events.ndjson")[0]["status"], "in_progress");
        // The second has seen nothing of this name.
        post(port, START);
        post(port, START);
        eventually("the second took both", || {
            agent.metric("weir_cursor_lag_events", "ops") == 0 && events(&out, "events.ndjson").len() == 2
        });
        assert_eq!(agent.metric("weir_state_entries", "ops"), 1);
        agent.assert_books();
        assert!(!agent.log().contains("panic"), "{}", agent.log());
        assert!(agent.stop().success());
        assert_eq!(events(&out, "events.ndjson").len(), 2, "by restart: {by_restart}");
    }
}

#[test]
fn without_a_disk_a_stop_gives_what_is_open() {
    let folder = Folder::new();
    let (port, out) = (free_port(), folder.path("out"));
    let agent = Agent::start(&folder, &plan_with(port, &out, "timeout: 1h", "journal: { mode: memory }\n"));
    // It waits for delivery: of what the stage holds, there is nothing to deliver yet.
    post(port, START);
    post(port, r#"{"operation_id":"b","event_type":"work","status":"in_progress"}"#);
    post(port, r#"{"operation_id":"b","event_type":"work","status":"success"}"#);
    assert_eq!(events(&out, "events.ndjson").len(), 1, "what was acknowledged is delivered");
    agent.assert_books();
    assert!(agent.stop().success());
    let statuses: Vec<String> = events(&out, "events.ndjson").iter().map(|e| e["status"].to_string()).collect();
    assert_eq!(statuses, ["\"success\"", "\"in_progress\""]);
}

#[test]
fn a_full_journal_drains_through_a_stage() {
    let folder = Folder::new();
    let port = free_port();
    let (is_up, delivered) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
    let collector = {
        let (is_up, delivered) = (is_up.clone(), delivered.clone());
        Collector::start(move |heard| {
            if !is_up.load(Ordering::Relaxed) {
                return reply(503, "later");
            }
            let ids = heard
                .lines()
                .into_iter()
                .map(|line| serde_json::from_str::<Value>(&line).expect("a line is JSON")["operation_id"].to_string());
            delivered.lock().unwrap().extend(ids);
            reply(200, "")
        })
    };
    let target = collector.port;
    let plan = format!(
        "journal: {{ max_bytes: 2 MiB, keep: {{ bytes: 0, age: 0s }} }}\n\
         sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  ops: {{ type: operations, inputs: [web] }}\n\
         sinks:\n  out: {{ type: http, inputs: [ops], uri: 'http://127.0.0.1:{target}/', retry: {{ max: 1s }} }}\n"
    );
    let agent = Agent::start(&folder, &plan);
    let mut sent = 0;
    // Text that no codec makes small.
    let noise = |n: u64| {
        (0..600).map(|k| format!("{:x}", (n * 7919 + k).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect::<String>()
    };
    loop {
        let pair = format!(
            "{{\"operation_id\":\"o{sent}\",\"status\":\"in_progress\",\"code\":\"{}\"}}\n{{\"operation_id\":\"o{sent}\",\"status\":\"success\"}}",
            noise(sent)
        );
        let answer = request(port, "POST", "/", &[], pair.as_bytes()).expect("it answers");
        if answer.status == 429 {
            break;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        sent += 1;
        assert!(sent < 5000, "the journal is never full");
    }
    is_up.store(true, Ordering::Relaxed);
    eventually("everything is delivered", || delivered.lock().unwrap().len() as u64 == sent);
    eventually("it takes events again", || {
        request(port, "POST", "/", &[], START.as_bytes()).is_ok_and(|answer| answer.status == 200)
    });
    agent.assert_books();
}

#[test]
fn an_open_operation_is_in_reports_and_sessions_at_once_and_one_row_in_the_end() {
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             transforms:\n  named: {{ type: normalize, inputs: [web, api] }}\n  \
             ops: {{ type: operations, inputs: [named], open_after: 1s }}\n\
             sinks:\n  events: {{ type: store, inputs: [ops, ops.open] }}\n"
        ),
    );
    let token = format!("Bearer {}", agent.token());
    let headers = [("Authorization", token.as_str())];
    let ask = |path: &str| {
        let answer = request(agent.api, "GET", path, &headers, b"").expect("it answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let send = |body: &str| {
        let answer =
            request(agent.api, "POST", "/api/logs?wait=stored", &headers, body.as_bytes()).expect("it answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    send(r#"{"operation_id":"a","session_id":"s","event_type":"upload","status":"in_progress"}"#);
    let is_open = |expected: u64| {
        let sessions = ask("/api/sessions");
        assert_eq!(sessions["sessions"][0]["open_operations"], expected, "{sessions}");
        let report = ask("/get_logs?format=json&session_id=s");
        assert_eq!(report["open_operations"].as_array().map(Vec::len), Some(expected as usize), "{report}");
        assert_eq!(report["summary"]["total_activities"], 1);
        assert_eq!(ask("/get_logs?format=json")["session_id"], "s", "it is the newest session");
    };
    is_open(1);
    eventually("it is shown", || ask("/api/logs?status=in_progress&session_id=s")["total"] == 1);
    is_open(1);
    send(r#"{"operation_id":"a","session_id":"s","event_type":"upload","status":"success"}"#);
    is_open(0);
    send(r#"{"operation_id":"b","session_id":"s2","event_type":"upload","status":"in_progress"}"#);
    send(r#"{"operation_id":"b","session_id":"s2","event_type":"upload","status":"success"}"#);
    assert_eq!(ask("/api/logs?session_id=s2")["total"], 1, "what ends soon is one row");
    agent.assert_books();
}

#[test]
fn sessions_and_operations_of_one_name_are_told_apart_by_their_users() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  events: {{ type: store, inputs: [web] }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    let token = format!("Bearer {}", agent.token());
    let headers = [("Authorization", token.as_str())];
    // One of them is done, and never gave one operation a name.
    for (user, host, status) in [("bob", "b", "in_progress"), ("ali", "a", "in_progress"), ("ali", "a", "success")] {
        for name in ["\"operation_id\":\"up\",", ""] {
            let body =
                format!(r#"{{{name}"session_id":"main","user_id":"{user}","host":"{host}","status":"{status}"}}"#);
            post(port, &body);
        }
    }
    agent.delivered("events", 6);
    let answer = request(agent.api, "GET", "/api/sessions", &headers, b"").expect("it answers");
    let sessions = answer.json();
    let of = |user: &str| {
        let rows = sessions["sessions"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["user_id"] == user).unwrap_or_else(|| panic!("{user} in {sessions}"));
        (row["open_operations"].as_u64(), row["host"].as_str().map(str::to_owned))
    };
    assert_eq!(of("bob"), (Some(2), Some("b".to_owned())));
    assert_eq!(of("ali"), (Some(1), Some("a".to_owned())), "nobody knows whether what has no name has ended");
}

#[test]
fn metrics_of_events_are_on_the_page_once_the_events_are_in_the_journal() {
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             transforms:\n  counted:\n    type: metrics\n    inputs: [web]\n    metrics:\n      \
             - {{ name: cells_total, help: Cells, labels: [status] }}\n      \
             - {{ name: cell_seconds, kind: histogram, field: duration_ms, scale: 0.001, buckets: [0.5, 1] }}\n\
             sinks:\n  out: {{ type: blackhole, inputs: [counted] }}\n"
        ),
    );
    post(port, "{\"status\":\"er\\\"ror\",\"duration_ms\":700}\n{\"status\":\"success\",\"duration_ms\":2000}\n");
    let samples = agent.assert_books();
    for (sample, value) in [
        (r#"cells_total{component="counted",status="er\"ror"}"#, 1.0),
        (r#"cell_seconds_bucket{component="counted",le="0.5"}"#, 0.0),
        (r#"cell_seconds_bucket{component="counted",le="1"}"#, 1.0),
        (r#"cell_seconds_bucket{component="counted",le="+Inf"}"#, 2.0),
        (r#"cell_seconds_sum{component="counted"}"#, 2.7),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample} in {samples:?}");
    }
    assert!(agent.stop().success());
}
