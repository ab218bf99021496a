//! One of several destinations refuses what is its own: the others do not wait, and it gets everything once it takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::support::collector::{Collector, reply};
use crate::support::splunk::{Splunk, TOKEN};
use crate::support::{Agent, Folder, eventually, free_port, post, request};
use serde_json::Value;

/// How often each line came, by path, at a server of which some paths are not there.
#[derive(Clone, Default)]
struct Paths {
    taken: Arc<Mutex<BTreeMap<String, BTreeMap<String, usize>>>>,
    missing: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Paths {
    fn start(&self) -> Collector {
        let paths = self.clone();
        Collector::start(move |heard| {
            if paths.missing.lock().expect("no panic").contains(&*heard.path) {
                return reply(404, "no such tenant");
            }
            let mut taken = paths.taken.lock().expect("no panic");
            let lines = taken.entry(heard.path.clone()).or_default();
            heard.lines().into_iter().for_each(|line| *lines.entry(line).or_default() += 1);
            reply(200, "")
        })
    }

    fn lacks(&self, path: &'static str) {
        self.missing.lock().expect("no panic").insert(path);
    }

    fn has_all(&self) {
        self.missing.lock().expect("no panic").clear();
    }

    /// Different lines at a path; each was there once.
    fn count(&self, path: &str) -> usize {
        let taken = self.taken.lock().expect("no panic");
        let Some(lines) = taken.get(path) else { return 0 };
        assert!(lines.values().all(|times| *times == 1), "something is doubled at {path}");
        lines.len()
    }
}

fn yaml(ingest: u16, port: u16, more: &str) -> String {
    format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n\
         sinks:\n  out: {{ type: http, inputs: [web], uri: 'http://127.0.0.1:{port}/{{{{ tenant }}}}', \
         batch: {{ age: 20ms }}, retry: {{ initial: 50ms, max: 300ms }}{more} }}\n"
    )
}

fn lines(tenant: &str, range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("{{\"tenant\":\"{tenant}\",\"n\":{n}}}\n")).collect()
}

fn health(agent: &Agent, path: &str) -> (u16, Value) {
    let answer = request(agent.api, "GET", path, &[], b"").expect("the agent answers");
    (answer.status, answer.json())
}

fn parked(agent: &Agent) -> u64 {
    let token = format!("Bearer {}", agent.token());
    let answer = request(agent.api, "GET", "/api/dlq", &[("Authorization", &token)], b"").expect("the agent answers");
    answer.json()["parked"].as_u64().expect("a number")
}

#[test]
fn a_missing_path_parks_its_events_over_a_kill_and_gets_each_once() {
    let (folder, ingest, paths) = (Folder::new(), free_port(), Paths::default());
    let server = paths.start();
    paths.lacks("/b");
    let agent = Agent::start(&folder, &yaml(ingest, server.port, ""));
    for round in 0..5 {
        let range = round * 20..(round + 1) * 20;
        post(ingest, &(lines("a", range.clone()) + &lines("b", range.clone())));
        post(ingest, &lines("b", 1000 + range.start..1000 + range.end));
        eventually("the other path does not wait", || paths.count("/a") == (round + 1) * 20);
        agent.assert_books();
    }
    agent.delivered("out", 100);
    eventually("all are parked", || agent.metric("weir_events_waiting", "out") == 200 && parked(&agent) == 200);
    let (status, told) = health(&agent, "/health?sinks");
    assert_eq!((status, &told["status"]), (200, &"degraded".into()), "the sink is not held");
    let sink = told["components"].as_array().expect("components").iter().find(|one| one["name"] == "out").expect("it");
    assert_eq!(sink["state"], "degraded");
    let said = sink["last_error"]["message"].as_str().expect("a sentence");
    assert!(said.starts_with("200 events are parked for `/b` since ") && said.contains("404"), "{said}");
    let list = agent.weir(&["dlq", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("parked for `/b`: 404"), "{list:?}");
    // Killed while they are parked, and while something for both is on its way.
    post(ingest, &(lines("a", 500..600) + &lines("b", 500..600)));
    eventually("it is parked", || agent.metric("weir_events_waiting", "out") >= 300);
    agent.kill();
    let agent = Agent::start(&folder, &yaml(ingest, server.port, ""));
    post(ingest, &lines("a", 700..720));
    eventually("nobody waits", || {
        let taken = paths.taken.lock().expect("no panic");
        taken["/a"].len() == 220
    });
    eventually("the books are as before", || {
        agent.assert_books();
        agent.metric("weir_events_addressed_total", "out") == 520 && agent.metric("weir_events_waiting", "out") == 300
    });
    paths.has_all();
    eventually("it gets everything", || paths.count("/b") == 300);
    agent.delivered("out", 520);
    assert_eq!((parked(&agent), agent.letters().len()), (0, 0));
    let (_, told) = health(&agent, "/health");
    assert_eq!(told["status"], "healthy");
    agent.assert_books();
}

#[test]
fn parked_letters_are_tried_at_once_or_dropped_and_hold_the_removal_of_their_sink() {
    let (folder, ingest, paths) = (Folder::new(), free_port(), Paths::default());
    let server = paths.start();
    paths.lacks("/b");
    let slow = |more: &str| yaml(ingest, server.port, more).replace("max: 300ms", "max: 20m").replace("50ms", "20m");
    let agent = Agent::start(&folder, &slow(""));
    post(ingest, &(lines("a", 0..1) + &lines("b", 0..5)));
    eventually("they are parked", || agent.letters().len() == 5 && agent.metric("weir_events_waiting", "out") == 5);
    let letters = agent.letters();
    let shown: Value = serde_json::from_slice(&agent.weir(&["dlq", "show", &letters[0]]).stdout).expect("a letter");
    assert_eq!((&shown["parked"], &shown["destination"]), (&true.into(), &"/b".into()));
    assert!(!agent.weir(&["dlq", "replay", &letters[0]]).status.success(), "the path is missing still");
    assert!(agent.weir(&["dlq", "drop", &letters[1]]).status.success());
    assert_eq!(agent.metric("weir_events_dropped_total", "out"), 1);
    assert_eq!(agent.metric("weir_events_waiting", "out"), 4);
    agent.assert_books();
    let bare = format!("sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n");
    agent.configure(&folder, &(bare.clone() + "sinks:\n  other: { type: blackhole, inputs: [web] }\n"));
    let token = format!("Bearer {}", agent.token());
    let reload = || request(agent.api, "POST", "/api/reload", &[("Authorization", &token)], b"").expect("a verdict");
    assert!(reload().text().contains("4 undelivered events"), "{}", reload().text());
    paths.has_all();
    let replayed = agent.weir(&["dlq", "replay", "--all"]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    eventually("they are there", || paths.count("/b") == 4);
    eventually("the sink may go", || agent.metric("weir_events_waiting", "out") == 0);
    agent.assert_books();
    // With `on_remove: drop` they go with their sink.
    paths.lacks("/b");
    agent.configure(&folder, &slow(", on_remove: drop"));
    assert_eq!(reload().json()["applied"], true);
    post(ingest, &(lines("a", 1..2) + &lines("b", 5..7)));
    eventually("they are parked", || parked(&agent) == 2 && agent.metric("weir_events_waiting", "out") == 2);
    agent.configure(&folder, &(bare + "sinks:\n  other: { type: blackhole, inputs: [web] }\n"));
    assert_eq!(reload().json()["applied"], true);
    eventually("they are gone", || parked(&agent) == 0);
}

#[test]
fn an_index_that_splunk_does_not_have_parks_its_events_alone() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    splunk.state().indexes = vec!["act-a".into()];
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n\
         sinks:\n  hec: {{ type: splunk_hec, inputs: [web], endpoint: 'http://127.0.0.1:{}', token: {TOKEN}, \
         index: 'act-{{{{ tenant }}}}', batch: {{ age: 20ms }}, retry: {{ initial: 50ms, max: 300ms }} }}\n",
        server.port
    );
    let agent = Agent::start(&folder, &yaml);
    post(ingest, &lines("a", 0..10));
    agent.delivered("hec", 10);
    for n in 0..20 {
        post(ingest, &lines(if n % 2 == 0 { "b" } else { "a" }, 100 + n..101 + n));
    }
    agent.delivered("hec", 20);
    eventually("ten are parked", || agent.metric("weir_events_waiting", "hec") == 10);
    agent.assert_books();
    agent.kill();
    let agent = Agent::start(&folder, &yaml);
    splunk.state().indexes.push("act-b".into());
    agent.delivered("hec", 30);
    assert_eq!(splunk.counts().len(), 30);
    // Of the others a kill may double what no cursor has passed on disk.
    let late = splunk.state().indexed.iter().filter(|told| told["index"] == "act-b").count();
    assert_eq!(late, 10, "what was parked is there once");
    agent.assert_books();
}
