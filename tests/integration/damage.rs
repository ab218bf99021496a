//! A byte of the journal goes bad while a sink is down: the damaged record is lost, counted and reported, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::support::damage::{Record, block, every_record, flip, records, unblock};
use crate::support::{Agent, Folder, eventually, free_port, lines_of, post, request};

fn yaml(folder: &Folder, sources: &str, inputs: &str) -> String {
    format!(
        "{sources}sinks:\n  out: {{ type: file, inputs: {inputs}, path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("out").display()
    )
}

fn delivered(folder: &Folder) -> Vec<serde_json::Value> {
    let lines = lines_of(&folder.path("out"), "events.ndjson");
    lines.iter().map(|line| serde_json::from_str(line).expect("every line is whole")).collect()
}

fn gaps(events: &[serde_json::Value]) -> Vec<&serde_json::Value> {
    events.iter().filter(|event| event["event_type"] == "gap").map(|event| &event["metadata"]).collect()
}

/// How often each number arrived.
fn numbers(events: &[serde_json::Value]) -> BTreeMap<u64, u64> {
    let mut seen = BTreeMap::new();
    for n in events.iter().filter_map(|event| event["n"].as_u64()) {
        *seen.entry(n).or_default() += 1;
    }
    seen
}

/// Some seven records.
const LINES: u64 = 60_000;

/// Damages the journal of an agent that has read a file. Every other line arrives once, and the count of the lost is exact.
/// With `twice`, intact lines may come a second time: a group of records states the source's position in its last header,
/// and without that header the source reads the group's whole range again.
fn a_damaged_record_costs_itself(twice: bool, hurt: impl Fn(&[Record]) -> Vec<(PathBuf, usize)>) {
    let folder = Folder::new();
    let line = |n: u64| format!("{{\"n\":{n},\"code\":\"{:0200x}\"}}\n", n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    folder.write("app.log", &(0..LINES).map(line).collect::<String>());
    let sources = format!("sources:\n  logs: {{ type: file, include: ['{}'] }}\n", folder.path("app.log").display());
    let yaml = yaml(&folder, &sources, "[logs, api]");
    block(&folder);
    let agent = Agent::start(&folder, &yaml);
    eventually("all is in the journal", || agent.metric("weir_events_entered_total", "logs") == LINES);
    agent.kill();
    hurt(&records(&folder)).into_iter().for_each(flip);

    unblock(&folder);
    let agent = Agent::start(&folder, &yaml);
    eventually("nothing waits", || agent.metric("weir_events_waiting", "out") == 0);
    let events = delivered(&folder);
    let doubled: Vec<_> = numbers(&events).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice || doubled.is_empty(), "{} lines came twice: {:?}", doubled.len(), &doubled[..doubled.len().min(5)]);
    let missed: u64 = gaps(&events).iter().map(|gap| gap["events"].as_u64().expect("a count")).sum();
    assert!(missed > 0, "{:?}", gaps(&events));
    // Where the position of a damaged record was stated nowhere else, the source reads its range as if for the first time.
    assert!(numbers(&events).len() as u64 + missed >= LINES);
    assert_eq!(
        agent.metrics()["weir_events_dropped_total{component=\"out\",type=\"file\",kind=\"sink\",cause=\"damage\"}"]
            as u64,
        missed
    );
    agent.assert_books();
    assert!(agent.log().contains("to damage; the damaged bytes are in its quarantine folder"), "{}", agent.log());
    assert!(agent.stop().success());

    // The source reads nothing of it again.
    let agent = Agent::start(&folder, &yaml);
    let mut more = fs::OpenOptions::new().append(true).open(folder.path("app.log")).expect("the log is there");
    std::io::Write::write_all(&mut more, line(LINES).as_bytes()).expect("it can be written");
    eventually("the new line has arrived", || numbers(&delivered(&folder)).contains_key(&LINES));
    eventually("nothing waits", || agent.metric("weir_events_waiting", "out") == 0);
    assert_eq!(agent.metric("weir_events_received_total", "logs"), 1, "{}", agent.log());
    assert!(twice || numbers(&delivered(&folder)).values().all(|times| *times == 1));
}

#[test]
fn a_record_of_a_file_with_a_damaged_body_costs_itself() {
    a_damaged_record_costs_itself(false, |records| vec![records[records.len() / 2].body()]);
}

#[test]
fn records_of_a_file_with_damaged_headers_cost_themselves() {
    a_damaged_record_costs_itself(true, |records| {
        assert!(records.len() > 4, "another is damaged each time: {}", records.len());
        let hurt = [&records[1], &records[records.len() / 2], &records[records.len() / 2 + 1]];
        hurt.map(|record| (record.segment.clone(), record.at + 20)).to_vec()
    });
}

#[test]
fn a_damaged_record_of_requests_is_counted_and_reported_once() {
    let folder = Folder::new();
    let port = free_port();
    let sources = format!("sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n");
    let yaml = yaml(&folder, &sources, "[web, api]");
    block(&folder);
    let agent = Agent::start(&folder, &yaml);
    for first in (0..200).step_by(10) {
        let body: String = (first..first + 10).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        assert_eq!(post(port, &body), 10);
    }
    agent.kill();
    let records = records(&folder);
    let hurt = &records[records.len() / 2];
    assert_eq!(hurt.count, 10);
    flip(hurt.body());
    // It is told at once, and once.
    let agent = Agent::start(&folder, &yaml);
    eventually("the gap is an event", || agent.metric("weir_events_entered_total", "api") == 1);
    assert!(agent.stop().success());

    unblock(&folder);
    let agent = Agent::start(&folder, &yaml);
    eventually("the rest has arrived", || numbers(&delivered(&folder)).len() == 190);
    eventually("nothing waits", || agent.metric("weir_events_waiting", "out") == 0);
    let events = delivered(&folder);
    let there = numbers(&events);
    assert!(there.values().all(|times| *times == 1));
    let missing: Vec<u64> = (0..200).filter(|n| !there.contains_key(n)).collect();
    assert_eq!((missing.len(), missing[0] % 10, missing[9] - missing[0]), (10, 0, 9), "{missing:?}");
    let gap = gaps(&events)[0];
    assert_eq!(gaps(&events).len(), 1);
    assert_eq!((&gap["events"], &gap["cause"]), (&10.into(), &"damage".into()));
    assert_eq!(gap["last_seq"].as_u64().unwrap() - gap["first_seq"].as_u64().unwrap(), 9);
    assert_eq!(
        agent.metrics()["weir_events_dropped_total{component=\"out\",type=\"file\",kind=\"sink\",cause=\"damage\"}"]
            as u64,
        10
    );
    agent.assert_books();
    let log = agent.log();
    assert!(log.contains(r#""events":10"#), "{log}");
}

#[test]
fn a_damaged_record_of_state_costs_what_it_had_and_is_said_once() {
    const OPERATIONS: usize = 6;
    let start = |n: usize| format!("{{\"operation_id\":\"o{n}\",\"status\":\"in_progress\",\"from_start\":{n}}}");
    let end = |n: usize| format!("{{\"operation_id\":\"o{n}\",\"status\":\"success\"}}");
    for damaged in 0..OPERATIONS {
        let folder = Folder::new();
        let port = free_port();
        let sources = format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             transforms:\n  ops: {{ type: operations, inputs: [web], timeout: 1h }}\n"
        );
        let yaml = yaml(&folder, &sources, "[ops]");
        let agent = Agent::start(&folder, &yaml);
        for n in 0..OPERATIONS {
            post(port, &start(n));
            eventually("it is taken", || agent.metric("weir_state_entries", "ops") as usize == n + 1);
        }
        // The cursor comes to the disk, and what follows tells damage from an end.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        post(port, "{\"n\":1}");
        eventually("it is through", || numbers(&delivered(&folder)).contains_key(&1));
        agent.kill();
        let mut of_state = every_record(&folder);
        of_state.retain(|record| record.count == 0 && record.has("\0state ops:in"));
        flip(of_state[of_state.len() * damaged / OPERATIONS].body());
        let agent = Agent::start(&folder, &yaml);
        let said = "entries that it had in the damaged place are lost";
        eventually("it is said", || agent.log().contains(said));
        let left = agent.metric("weir_state_entries", "ops") as usize;
        let dropped =
            "weir_events_dropped_total{component=\"ops\",type=\"operations\",kind=\"transform\",cause=\"damage\"}";
        eventually("it is counted", || {
            agent.metrics().get(dropped).is_some_and(|lost| *lost as usize == OPERATIONS - left)
        });
        assert!(agent.stop().success());
        let agent = Agent::start(&folder, &yaml);
        assert_eq!(agent.log().matches(said).count(), 1, "the log of all lives says it once");
        for n in 0..OPERATIONS {
            post(port, &end(n));
        }
        let ended = || delivered(&folder).into_iter().filter(|event| event["status"] == "success").collect::<Vec<_>>();
        eventually("all have ended", || ended().len() == OPERATIONS);
        let joined = ended().iter().filter(|event| event.to_string().contains("from_start")).count();
        assert_eq!(joined, left, "{:?}", ended());
        agent.assert_books();
    }
}

#[test]
fn what_the_store_loses_of_what_was_delivered_is_delivered_again() {
    type Hurt = fn(&std::path::Path);
    let zero_from = |part: usize| {
        move |path: &std::path::Path| {
            let mut bytes = fs::read(path).expect("the tail");
            let from = bytes.len() * part / 4;
            bytes[from..].fill(0);
            fs::write(path, bytes).expect("it is damaged");
        }
    };
    let flip_in_the_middle: Hurt = |path| {
        let mut bytes = fs::read(path).expect("the tail");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(path, bytes).expect("it is damaged");
    };
    let remove: Hurt = |path| fs::remove_file(path).expect("it is removed");
    type AnyHurt = Box<dyn Fn(&std::path::Path)>;
    let hurts: [AnyHurt; 4] =
        [Box::new(zero_from(0)), Box::new(zero_from(2)), Box::new(flip_in_the_middle), Box::new(remove)];
    for (nth, hurt) in hurts.iter().enumerate() {
        let (folder, port) = (Folder::new(), free_port());
        let yaml = format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             sinks:\n  kept: {{ type: store, inputs: [web], batch: {{ age: 10ms }} }}\n"
        );
        let agent = Agent::start(&folder, &yaml);
        for n in 0..30 {
            let some: String = (0..10).map(|i| format!("{{\"n\":{}}}\n", n * 10 + i)).collect();
            assert_eq!(post(port, &some), 10);
            eventually("they are stored", || agent.metric("weir_events_delivered_total", "kept") == (n + 1) * 10);
        }
        let data = agent.data_dir.clone();
        assert!(agent.stop().success());
        let tails =
            fs::read_dir(data.join("store/kept")).expect("the store").map(|entry| entry.expect("a file").path());
        let tail = tails.filter(|path| path.extension().is_some_and(|end| end == "tail")).max().expect("a tail");
        hurt(&tail);
        let agent = Agent::start(&folder, &yaml);
        let token = format!("Bearer {}", agent.token());
        let ask = |path: &str| {
            request(agent.api, "GET", path, &[("Authorization", &token)], b"").expect("an answer").json()["total"]
                .as_u64()
        };
        eventually("all are there again", || ask("/api/logs?limit=1") == Some(300));
        // Before the sink has begun, nothing waits either.
        eventually("nothing waits", || agent.metric("weir_events_waiting", "kept") == 0);
        assert!(agent.log().contains("is delivered again"), "{nth}: {}", agent.log());
        agent.assert_books();
        // It is told once, and what is whole is left alone.
        assert!(agent.stop().success());
        let agent = Agent::start(&folder, &yaml);
        assert_eq!(agent.metric("weir_events_waiting", "kept"), 0);
        assert_eq!(agent.log().matches("is delivered again").count(), 1, "{}", agent.log());
    }
}
