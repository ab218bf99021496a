//! kill -9 at random moments under load: what was acknowledged is in the file, once, whatever plans come and go.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::collector::{Collector, reply};
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
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(&[port], 0, &next, &stop))).collect();
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
    let seen = count(&out, "events.ndjson");
    let missing: Vec<_> = acknowledged.iter().filter(|n| !seen.contains_key(n)).collect();
    assert!(missing.is_empty(), "{} acknowledged events are missing: {missing:?}", missing.len());
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    let sent = next.load(Ordering::Relaxed);
    assert!(seen.keys().all(|n| *n < sent), "nothing arrived that was not sent");
}

/// Posts small batches until the agent is gone, to the next port where one does not answer; returns the numbers that were
/// acknowledged.
fn client(ports: &[u16], first_port: usize, next: &AtomicU64, stop: &AtomicBool) -> Vec<u64> {
    let (mut safe, mut at) = (Vec::new(), first_port);
    while !stop.load(Ordering::Relaxed) {
        let first = next.fetch_add(10, Ordering::Relaxed);
        let body: String = (first..first + 10).map(|n| format!("{{\"n\":{n},\"code\":\"print({n})\"}}\n")).collect();
        match request(ports[at % ports.len()], "POST", "/", &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(answer.json()["accepted"], 10);
                safe.extend(first..first + 10);
            }
            Ok(answer) => assert!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.text()),
            Err(_) => {
                at += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
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
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(&[port], 0, &next, &stop))).collect();
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
    let seen = count(&out, "events.ndjson");
    let missing: Vec<_> = acknowledged.iter().filter(|n| !seen.contains_key(n)).collect();
    assert!(missing.is_empty(), "{} acknowledged events are missing: {missing:?}", missing.len());
    for (sink, seen) in [("file", seen), ("other", count(&out, "other.ndjson"))] {
        let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "doubled at {sink}: {doubled:?}");
    }
}

/// Each plan has the source on another port, under another name, and its transform and a sink renamed, while the target of
/// one sink takes long or does not answer at all.
#[test]
fn what_was_acknowledged_survives_kill_9_moves_renames_and_hung_writes() {
    let folder = Folder::new();
    let ports = [free_port(), free_port()];
    let out = folder.path("out");
    let (hangs, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::<u64, u64>::new())));
    let target = Collector::start({
        let (hangs, taken) = (hangs.clone(), taken.clone());
        move |heard| {
            while hangs.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut taken = taken.lock().expect("no panic");
            heard.lines().iter().for_each(|line| *taken.entry(number(line)).or_default() += 1);
            reply(200, "")
        }
    });
    let plan = |n: u64| {
        let (port, source) = (ports[(n % 2) as usize], ["web", "site"][(n / 2 % 2) as usize]);
        let (safe, copy) = (["safe", "clean", "pure"][(n % 3) as usize], ["one", "two"][(n / 3 % 2) as usize]);
        format!(
            "limits: {{ shutdown_timeout: 300ms }}\n\
             sources:\n  {source}: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             transforms:\n  {safe}: {{ type: redact, inputs: [{source}] }}\n\
             sinks:\n  file: {{ type: file, inputs: [{safe}], path: '{out}/events.ndjson', batch: {{ age: 20ms }} }}\n  \
             {copy}: {{ type: file, inputs: [{safe}], path: '{out}/{copy}.ndjson', batch: {{ age: 20ms }}, on_remove: drain }}\n  \
             hook: {{ type: http, inputs: [{source}], uri: 'http://127.0.0.1:{hook}/', timeout: 400ms, batch: {{ age: 20ms }}, \
             concurrency: {concurrency}, retry: {{ initial: 20ms, max: 100ms }} }}\n",
            out = out.display(),
            hook = target.port,
            concurrency = 1 + n % 2,
        )
    };
    let next = AtomicU64::new(0);
    let mut acknowledged: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let agent = Agent::start(&folder, &plan(round));
        let stop = AtomicBool::new(false);
        let acks: Vec<u64> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|nth| {
                    scope.spawn({
                        let (next, stop) = (&next, &stop);
                        move || client(&ports, nth as usize, next, stop)
                    })
                })
                .collect();
            for change in 1..5 {
                hangs.store(change % 2 == round % 2, Ordering::Relaxed);
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
    hangs.store(false, Ordering::Relaxed);
    assert!(acknowledged.len() > 100, "the load was real: {}", acknowledged.len());
    let agent = Agent::start(&folder, &plan(0));
    eventually("nothing waits", || {
        ["file", "one", "two", "hook"].iter().all(|sink| agent.metric("weir_events_waiting", sink) == 0)
    });
    agent.assert_books();
    assert!(!agent.log().contains("panic"), "{}", agent.log());
    assert!(agent.stop().success());
    let seen = count(&out, "events.ndjson");
    let taken = taken.lock().expect("no panic");
    for (sink, seen) in [("file", &seen), ("hook", &*taken)] {
        let missing: Vec<_> = acknowledged.iter().filter(|n| !seen.contains_key(n)).collect();
        assert!(missing.is_empty(), "{} acknowledged events are missing at {sink}: {missing:?}", missing.len());
    }
    for (sink, seen) in [("file", seen), ("one", count(&out, "one.ndjson")), ("two", count(&out, "two.ndjson"))] {
        let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "doubled at {sink}: {doubled:?}");
    }
}

/// How often each number is in the files that begin so.
fn count(folder: &Path, prefix: &str) -> BTreeMap<u64, u64> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    lines_of(folder, prefix).iter().for_each(|line| *seen.entry(number(line)).or_default() += 1);
    seen
}

fn number(line: &str) -> u64 {
    let event: serde_json::Value = serde_json::from_str(line).expect("every line is whole");
    event["n"].as_u64().expect("the number sent")
}
