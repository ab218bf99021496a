//! kill -9 at random moments under load: what was acknowledged is in the file, once, whatever plans come and go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Agent, Folder, eventually, free_port, lines_of, request};

const ROUNDS: u64 = 12;
const CLIENTS: u64 = 4;

#[test]
fn what_was_acknowledged_survives_kill_9_and_arrives_once() {
    let folder = Folder::new();
    let port = free_port();
    let out = folder.path("out");
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  safe: {{ type: redact, inputs: [web] }}\n\
         sinks:\n  file: {{ type: file, inputs: [safe], path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n",
        out.display()
    );
    let next = AtomicU64::new(0);
    let mut acknowledged: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let agent = Agent::start(&folder, &yaml);
        let stop = AtomicBool::new(false);
        let acks: Vec<u64> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(port, &next, &stop))).collect();
            // A spread of moments, the same in every run.
            std::thread::sleep(Duration::from_millis(40 + round * 37 % 300));
            agent.kill();
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|c| c.join().expect("a client ends")).collect()
        });
        acknowledged.extend(acks);
    }
    assert!(acknowledged.len() > 100, "the load was real: {}", acknowledged.len());
    let agent = Agent::start(&folder, &yaml);
    eventually("nothing waits", || agent.metric("weir_events_waiting", "file") == 0);
    agent.assert_books();
    assert!(agent.stop().success());
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for line in lines_of(&out, "events.ndjson") {
        let event: serde_json::Value = serde_json::from_str(&line).expect("every line is whole");
        *seen.entry(event["n"].as_u64().expect("the number sent")).or_default() += 1;
    }
    let missing: Vec<_> = acknowledged.iter().filter(|n| !seen.contains_key(n)).collect();
    assert!(missing.is_empty(), "{} acknowledged events are missing: {missing:?}", missing.len());
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    let sent = next.load(Ordering::Relaxed);
    assert!(seen.keys().all(|n| *n < sent), "nothing arrived that was not sent");
}

/// Posts small batches until the agent is gone; returns the numbers it was told are safe.
fn client(port: u16, next: &AtomicU64, stop: &AtomicBool) -> Vec<u64> {
    let mut safe = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let first = next.fetch_add(10, Ordering::Relaxed);
        let body: String = (first..first + 10).map(|n| format!("{{\"n\":{n},\"code\":\"print({n})\"}}\n")).collect();
        match request(port, "POST", "/", &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(answer.json()["accepted"], 10);
                safe.extend(first..first + 10);
            }
            Ok(answer) => assert!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.text()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    safe
}

/// Each start has another plan, and reloads change it under load: the sink reads one transform or the other, or the source
/// itself, beside another sink that comes and goes.
#[test]
fn what_was_acknowledged_survives_kill_9_and_other_plans() {
    let folder = Folder::new();
    let port = free_port();
    let out = folder.path("out");
    let plan = |n: u64| {
        let input = ["web", "safe", "tagged"][(n % 3) as usize];
        let max_body = 1 + n % 4;
        let other = match n % 2 {
            0 => format!(
                "  other: {{ type: file, inputs: [safe], path: '{}/other.ndjson', batch: {{ age: 20ms }}, on_remove: drain }}\n",
                out.display()
            ),
            _ => String::new(),
        };
        format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}', max_body: {max_body}MiB }}\n\
             transforms:\n  safe: {{ type: redact, inputs: [web] }}\n  tagged: {{ type: enrich, inputs: [web], set: {{ x: 1 }} }}\n\
             sinks:\n  file: {{ type: file, inputs: [{input}], path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n{other}",
            out.display()
        )
    };
    let next = AtomicU64::new(0);
    let mut acknowledged: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let agent = Agent::start(&folder, &plan(round));
        let stop = AtomicBool::new(false);
        let acks: Vec<u64> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(port, &next, &stop))).collect();
            for change in 1..4 {
                std::thread::sleep(Duration::from_millis(20 + round * 37 % 60));
                agent.configure(&folder, &plan(round + change));
                agent.signal("-HUP");
            }
            std::thread::sleep(Duration::from_millis(round * 23 % 50));
            agent.kill();
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|c| c.join().expect("a client ends")).collect()
        });
        acknowledged.extend(acks);
    }
    assert!(acknowledged.len() > 100, "the load was real: {}", acknowledged.len());
    let agent = Agent::start(&folder, &plan(0));
    eventually("nothing waits", || {
        agent.metric("weir_events_waiting", "file") == 0 && agent.metric("weir_events_waiting", "other") == 0
    });
    agent.assert_books();
    assert!(!agent.log().contains("panic"), "{}", agent.log());
    assert!(agent.stop().success());
    let count = |prefix: &str| {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        for line in lines_of(&out, prefix) {
            let event: serde_json::Value = serde_json::from_str(&line).expect("every line is whole");
            *seen.entry(event["n"].as_u64().expect("the number sent")).or_default() += 1;
        }
        seen
    };
    let seen = count("events.ndjson");
    let missing: Vec<_> = acknowledged.iter().filter(|n| !seen.contains_key(n)).collect();
    assert!(missing.is_empty(), "{} acknowledged events are missing: {missing:?}", missing.len());
    for (sink, seen) in [("file", seen), ("other", count("other.ndjson"))] {
        let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "doubled at {sink}: {doubled:?}");
    }
}
