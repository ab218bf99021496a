//! The Kafka source against a real broker: consumer groups, rebalances, kills, and messages that are no events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use crate::support::database::Database;
use crate::support::kafka::{self, Given};
use crate::support::services::{Services, service};
use crate::support::{Agent, Folder, PATIENCE, eventually, free_port, lines_of, post, request};
use serde_json::json;

fn brokers() -> String {
    service("WEIR_TEST_KAFKA")
}

/// An agent that reads a topic into a file.
fn reading(brokers: &str, topic: &str, group: &str, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("    {}\n", line.trim_start())).collect();
    format!(
        "sources:\n  kafka:\n    type: kafka\n    brokers: ['{brokers}']\n    topics: ['{topic}']\n    \
         group: '{group}'\n    options: {{ session.timeout.ms: 6000 }}\n{more}\
         sinks:\n  file: {{ type: file, inputs: [kafka], path: out/events.ndjson, batch: {{ age: 20ms }} }}\n"
    )
}

fn events(folder: &Folder) -> Vec<serde_json::Value> {
    let lines = lines_of(&folder.path("out"), "events.ndjson");
    lines.iter().map(|line| serde_json::from_str(line).expect("every line is whole")).collect()
}

fn numbers(folder: &Folder) -> BTreeMap<u64, u64> {
    let mut seen = BTreeMap::new();
    for event in events(folder) {
        *seen.entry(event["n"].as_u64().expect("a number")).or_default() += 1;
    }
    seen
}

fn until_written(agent: &Agent, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while agent.metric("weir_events_delivered_total", "file") < count {
        assert!(
            Instant::now() < deadline,
            "{} received and {} of {count} written: {}\n{}",
            agent.metric("weir_events_received_total", "kafka"),
            agent.metric("weir_events_delivered_total", "file"),
            health(agent),
            agent.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.assert_books();
}

/// Events numbered from `first`.
fn send_numbered(brokers: &str, topic: &str, numbers: std::ops::Range<u64>) {
    let values: Vec<String> = numbers.map(|n| json!({"n": n}).to_string()).collect();
    let messages: Vec<Given> = values.iter().map(|value| Given { value: Some(value), ..Given::default() }).collect();
    kafka::send(brokers, topic, &messages);
}

fn health(agent: &Agent) -> String {
    request(agent.api, "GET", "/health?sinks", &[], b"").expect("the agent answers").text()
}

/// The state of the source.
fn state(agent: &Agent) -> String {
    let health: serde_json::Value = serde_json::from_str(&health(agent)).expect("JSON");
    let all = health["components"].as_array().expect("components");
    let kafka = all.iter().find(|one| one["name"] == "kafka").expect("the source");
    kafka["state"].as_str().expect("a state").to_owned()
}

#[test]
fn ids_are_those_of_the_header_else_the_events_own_else_they_follow_from_the_place() {
    const HEADER: &str = "6f1f64a3-2b7e-4c92-8a5d-0d9a0d5c7e11";
    const OWN: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let topic = kafka::topic(&brokers(), "ids", 1);
    let own = format!(r#"{{"id":"{OWN}","n":2}}"#);
    let given = |id, value| Given { partition: Some(0), id, value: Some(value) };
    kafka::send(
        &brokers(),
        &topic,
        &[given(Some(HEADER), r#"{"n": 1}"#), given(None, &own), given(None, r#"{"n":3}"#)],
    );
    let mut derived = BTreeSet::new();
    // Two groups read the same messages: what derives from their place is the same in both.
    for group in ["first", "second"] {
        let folder = Folder::new();
        let yaml = reading(&brokers(), &topic, &format!("{topic}-{group}"), "").replace(
            "sinks:\n  file: { type: file, inputs: [kafka],",
            "transforms:\n  named: { type: normalize, inputs: [kafka] }\nsinks:\n  file: { type: file, inputs: [named],",
        );
        let agent = Agent::start(&folder, &yaml);
        until_written(&agent, 3);
        let ids: Vec<String> =
            events(&folder).iter().map(|event| event["id"].as_str().expect("an id").into()).collect();
        assert_eq!(ids[..2], [HEADER.to_owned(), OWN.to_owned()]);
        assert_eq!(&ids[2][14..15], "8", "a derived id is a UUIDv8: {}", ids[2]);
        derived.insert(ids[2].clone());
        assert!(agent.stop().success());
    }
    assert_eq!(derived.len(), 1);
}

#[test]
fn what_is_no_event_is_a_dead_letter_and_the_offset_advances() {
    let topic = kafka::topic(&brokers(), "poison", 1);
    let group = format!("{topic}-group");
    let value = |value| Given { partition: Some(0), id: None, value };
    let large = format!(r#"{{"n":5,"code":"{}"}}"#, "x".repeat(50_000));
    kafka::send(
        &brokers(),
        &topic,
        &[
            value(Some(r#"{"n":1}"#)),
            value(Some(r#"{"n":2, password=hunter2hunter2"#)),
            value(None),
            value(Some(&large)),
            value(Some(r#"{"n":6}"#)),
        ],
    );
    let folder = Folder::new();
    let yaml = format!("limits: {{ event: 10 KiB }}\n{}", reading(&brokers(), &topic, &group, ""));
    let agent = Agent::start(&folder, &yaml);
    until_written(&agent, 2);
    assert_eq!(agent.metric("weir_events_dead_lettered_total", "kafka"), 2);
    assert_eq!(agent.metric("weir_events_refused_total", "kafka"), 1, "a tombstone is counted");
    eventually("everything is committed", || kafka::committed(&brokers(), &group, &topic, 1) == [5]);
    let token = format!("Bearer {}", agent.token());
    let letters = request(agent.api, "GET", "/api/dlq", &[("Authorization", &token)], b"").expect("it answers").text();
    assert!(letters.contains(&format!("kafka topic `{topic}` partition 0 at 1")), "{letters}");
    assert!(!letters.contains("hunter2hunter2"), "{letters}");
    assert_eq!(numbers(&folder).into_keys().collect::<Vec<_>>(), [1, 6]);
}

#[test]
fn a_kill_loses_nothing_and_doubles_nothing() {
    let topic = kafka::topic(&brokers(), "killed", 3);
    let yaml = reading(&brokers(), &topic, &format!("{topic}-group"), "");
    let folder = Folder::new();
    for round in 0..6 {
        let agent = Agent::start(&folder, &yaml);
        send_numbered(&brokers(), &topic, round * 500..round * 500 + 500);
        // A spread of moments, some of them before the first message is read again.
        eventually("some are read", || agent.metric("weir_events_delivered_total", "file") > round * 100);
        std::thread::sleep(Duration::from_millis(round * 70));
        agent.kill();
    }
    let agent = Agent::start(&folder, &yaml);
    eventually("all are there", || numbers(&folder).len() == 3000);
    agent.assert_books();
    let doubled: Vec<_> = numbers(&folder).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    assert!(agent.stop().success());
}

#[test]
fn of_two_consumers_one_is_killed_while_three_sidecars_send() {
    const EACH: u64 = 3000;
    let topic = kafka::topic(&brokers(), "tiers", 6);
    let group = format!("{topic}-group");
    let (sidecar_folders, ports) =
        (Vec::from([Folder::new(), Folder::new(), Folder::new()]), [(); 3].map(|()| free_port()));
    let sidecars: Vec<Agent> = sidecar_folders
        .iter()
        .zip(ports)
        .map(|(folder, port)| {
            let yaml = format!(
                "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
                 sinks:\n  kafka: {{ type: kafka, inputs: [web], brokers: ['{}'], topic: '{topic}', \
                 batch: {{ age: 20ms }} }}\n",
                brokers()
            );
            Agent::start(folder, &yaml)
        })
        .collect();
    let folders = [Folder::new(), Folder::new()];
    let database = Database::new();
    database.sql("CREATE TABLE activity (id uuid PRIMARY KEY, n bigint NOT NULL, session_id text)");
    let yaml = format!(
        "{}  table: {{ type: postgres, inputs: [kafka], url: '{}', table: activity, batch: {{ age: 20ms }} }}\n",
        reading(&brokers(), &topic, &group, ""),
        database.url()
    );
    let first = Agent::start(&folders[0], &yaml);
    let second = Agent::start(&folders[1], &yaml);
    eventually("both have partitions", || {
        [&first, &second].iter().all(|agent| agent.log().contains("partition assigned"))
    });
    std::thread::scope(|scope| {
        for (nth, port) in (0..).zip(ports) {
            scope.spawn(move || {
                for batch in 0..EACH / 50 {
                    let lines: Vec<String> = (0..50)
                        .map(|n| json!({"n": nth * EACH + batch * 50 + n, "session_id": format!("s{n}")}).to_string())
                        .collect();
                    assert_eq!(post(port, &lines.join("\n")), 50);
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
        // Both have partitions when one of them goes.
        eventually("both read", || numbers(&folders[0]).len() > 100 && numbers(&folders[1]).len() > 100);
        first.kill();
    });
    for sidecar in &sidecars {
        eventually("it has sent all", || sidecar.metric("weir_events_delivered_total", "kafka") == EACH);
        sidecar.assert_books();
    }
    // What the killed one had in its journal is delivered when it comes back.
    let first = Agent::start(&folders[0], &yaml);
    let union = || numbers(&folders[0]).into_keys().chain(numbers(&folders[1]).into_keys()).collect::<BTreeSet<u64>>();
    eventually("every event has arrived", || union().len() as u64 == 3 * EACH);
    // Who stops while partitions change hands leaves the rest to whoever gets them.
    let committed = || kafka::committed(&brokers(), &group, &topic, 6).iter().sum::<i64>() as u64;
    eventually("everything is committed", || committed() == kafka::count(&brokers(), &topic));
    for agent in [first, second] {
        eventually("nothing waits", || agent.metric("weir_events_waiting", "table") == 0);
        agent.assert_books();
        assert!(agent.stop().success());
    }
    let rows = database.sql("SELECT count(*), count(DISTINCT id), count(DISTINCT n), min(n), max(n) FROM activity");
    assert_eq!(rows, format!("{0}|{0}|{0}|0|{1}", 3 * EACH, 3 * EACH - 1), "each event is one row");
    // In one agent's file nothing is twice; across both only what the killed one had taken and not committed.
    for folder in &folders {
        assert!(numbers(folder).values().all(|times| *times == 1));
    }
    let ids: BTreeSet<String> = kafka::read_all(&brokers(), &topic).into_iter().map(|found| found.id).collect();
    assert_eq!(ids.len() as u64, 3 * EACH);
}

#[test]
fn a_member_that_joins_and_leaves_makes_nobody_read_twice() {
    let topic = kafka::topic(&brokers(), "rebalance", 4);
    let group = format!("{topic}-group");
    for strategy in ["range", "cooperative-sticky"] {
        let folders = [Folder::new(), Folder::new()];
        let yaml = reading(&brokers(), &topic, &format!("{group}-{strategy}"), "").replace(
            "session.timeout.ms: 6000",
            &format!("session.timeout.ms: 6000, partition.assignment.strategy: {strategy}"),
        );
        let before = kafka::count(&brokers(), &topic);
        let first = Agent::start(&folders[0], &yaml);
        let sent = std::sync::atomic::AtomicU64::new(before);
        let send = |count: u64| {
            let from = sent.fetch_add(count, std::sync::atomic::Ordering::SeqCst);
            send_numbered(&brokers(), &topic, from..from + count);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..40).for_each(|_| send(100)));
            eventually("the first reads", || numbers(&folders[0]).len() > 500);
            let second = Agent::start(&folders[1], &yaml);
            scope.spawn(|| (0..40).for_each(|_| send(100)));
            eventually("the second reads", || {
                send(10);
                numbers(&folders[1]).len() > 20
            });
            assert!(second.stop().success());
            send(500);
        });
        let all = sent.load(std::sync::atomic::Ordering::SeqCst);
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        eventually("every event has arrived", || {
            seen = numbers(&folders[0]);
            for (n, times) in numbers(&folders[1]) {
                *seen.entry(n).or_default() += times;
            }
            seen.len() as u64 == all
        });
        let doubled = seen.values().filter(|times| **times > 1).count();
        assert_eq!(doubled, 0, "a planned rebalance doubles nothing with {strategy}");
        first.assert_books();
        assert!(first.stop().success());
    }
}

#[test]
fn a_message_that_is_gone_stops_its_partition_unless_the_operator_says_how_to_go_on() {
    let topic = kafka::topic(&brokers(), "gone", 1);
    let group = format!("{topic}-group");
    let folder = Folder::new();
    let agent = Agent::start(&folder, &reading(&brokers(), &topic, &group, ""));
    send_numbered(&brokers(), &topic, 0..10);
    until_written(&agent, 10);
    assert!(agent.stop().success());
    assert_eq!(kafka::committed(&brokers(), &group, &topic, 1), [10]);
    send_numbered(&brokers(), &topic, 10..30);
    kafka::delete_records(&brokers(), &topic, &[(0, 20)]);

    let agent = Agent::start(&folder, &reading(&brokers(), &topic, &group, ""));
    eventually("it says so", || health(&agent).contains("offset 10 is gone, 20 to 30 exist"));
    assert_eq!(numbers(&folder).len(), 10);
    assert!(agent.stop().success());
    assert_eq!(kafka::committed(&brokers(), &group, &topic, 1), [10], "nothing is decided for the operator");

    let agent = Agent::start(&folder, &reading(&brokers(), &topic, &group, "out_of_range: oldest"));
    eventually("it goes on", || numbers(&folder).len() == 20);
    assert_eq!(numbers(&folder).into_keys().collect::<Vec<_>>(), (0..10).chain(20..30).collect::<Vec<u64>>());
    agent.assert_books();
    assert!(agent.stop().success());
    assert_eq!(kafka::committed(&brokers(), &group, &topic, 1), [30]);
}

#[test]
fn a_new_group_begins_where_it_is_told_to_and_remembers_it() {
    let topic = kafka::topic(&brokers(), "start", 2);
    let group = format!("{topic}-group");
    send_numbered(&brokers(), &topic, 0..10);
    let (folder, yaml) = (Folder::new(), reading(&brokers(), &topic, &group, "start: end"));
    let agent = Agent::start(&folder, &yaml);
    eventually("the end is committed", || kafka::committed(&brokers(), &group, &topic, 2).iter().sum::<i64>() == 10);
    assert!(agent.stop().success());
    send_numbered(&brokers(), &topic, 10..20);
    let agent = Agent::start(&folder, &yaml);
    until_written(&agent, 10);
    assert_eq!(numbers(&folder).into_keys().collect::<Vec<_>>(), (10..20).collect::<Vec<u64>>());
    assert!(agent.stop().success());
}

#[test]
fn a_broker_that_goes_and_a_topic_that_is_not_there_yet_are_waited_for() {
    let services = Services::start("kafka-source", &["kafka"]);
    let brokers = services.get("WEIR_TEST_KAFKA");
    let topic = kafka::topic_name("late");
    let folder = Folder::new();
    let agent = Agent::start(&folder, &reading(&brokers, &topic, "late", ""));
    eventually("it says so", || health(&agent).contains(&format!("there is no topic `{topic}`")));
    kafka::create_topic(&brokers, &topic, 2, &[]);
    send_numbered(&brokers, &topic, 0..100);
    until_written(&agent, 100);
    eventually("it is well", || state(&agent) == "running");
    services.kill("kafka");
    eventually("it says so", || state(&agent) == "retrying" && health(&agent).contains("cannot reach"));
    services.resume("kafka");
    send_numbered(&brokers, &topic, 100..200);
    until_written(&agent, 200);
    eventually("it is well", || state(&agent) == "running");
    assert!(numbers(&folder).into_iter().eq((0..200).map(|n| (n, 1))));
    assert!(agent.stop().success());
}

/// An agent whose journal is full of what is in this topic: its sink has to wait until a file is removed.
fn full(folder: &Folder, topic: &str, options: &str) -> (Agent, std::path::PathBuf) {
    let blocked = folder.write("out", "in the way");
    let yaml = format!(
        "journal: {{ max_bytes: 16 MiB, codec: none, keep: {{ bytes: 0 MiB }} }}\n{}",
        reading(&brokers(), topic, &format!("{topic}-group"), "")
    )
    .replace("session.timeout.ms: 6000", &format!("session.timeout.ms: 6000, {options}"))
    .replace("batch: { age: 20ms }", "batch: { age: 20ms }, retry: { initial: 100ms, max: 200ms }");
    let agent = Agent::start(folder, &yaml);
    let code = "x".repeat(10_000);
    let values: Vec<String> = (0..4000).map(|n| json!({"n": n, "code": code}).to_string()).collect();
    let messages: Vec<Given> = values.iter().map(|value| Given { value: Some(value), ..Given::default() }).collect();
    kafka::send(&brokers(), topic, &messages);
    eventually("reading pauses", || agent.log().contains("reading is paused"));
    (agent, blocked)
}

#[test]
fn a_full_journal_pauses_reading_and_the_member_stays() {
    let topic = kafka::topic(&brokers(), "full", 2);
    let folder = Folder::new();
    let (agent, blocked) = full(&folder, &topic, "max.poll.interval.ms: 8000");
    // Longer than a member may go without polling.
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(agent.log().matches("partition assigned").count(), 2, "it was never thrown out: {}", agent.log());
    std::fs::remove_file(blocked).expect("it can be removed");
    until_written(&agent, 4000);
    assert!(numbers(&folder).into_iter().eq((0..4000).map(|n| (n, 1))));
    assert!(agent.stop().success());
}

#[test]
fn partitions_that_come_back_while_reading_is_paused_are_read_without_a_gap() {
    for strategy in ["range", "cooperative-sticky"] {
        let topic = kafka::topic(&brokers(), "paused", 2);
        let folder = Folder::new();
        let strategy = format!("partition.assignment.strategy: {strategy}");
        let (agent, blocked) = full(&folder, &topic, &strategy);
        // Another member has one of the partitions for a while, and reads nothing of it.
        let log = || agent.log().matches("partition assigned").count();
        let before = log();
        let member = kafka::member(&brokers(), &topic, &format!("{topic}-group"), &strategy);
        eventually("the other has a partition", || {
            member.poll(Duration::from_millis(100));
            member.assignment().expect("an assignment").count() == 1
        });
        drop(member);
        eventually("a partition came back", || log() > before);
        std::thread::sleep(Duration::from_secs(4));
        std::fs::remove_file(blocked).expect("it can be removed");
        until_written(&agent, 4000);
        // What the journal had not answered for in time is read again.
        assert!(numbers(&folder).into_keys().eq(0..4000), "{strategy}: {}", agent.log());
        assert!(agent.stop().success());
    }
}

#[test]
fn a_group_that_is_set_back_or_changed_reads_again_and_so_does_a_topic_that_is_made_anew() {
    let topic = kafka::topic(&brokers(), "again", 1);
    let (group, other) = (format!("{topic}-group"), format!("{topic}-other"));
    let folder = Folder::new();
    send_numbered(&brokers(), &topic, 0..100);
    let agent = Agent::start(&folder, &reading(&brokers(), &topic, &group, "start: oldest"));
    until_written(&agent, 100);
    assert!(agent.stop().success());
    kafka::set_group(&brokers(), &group, &topic, 0, 40);
    let agent = Agent::start(&folder, &reading(&brokers(), &topic, &group, "start: oldest"));
    until_written(&agent, 160);
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &reading(&brokers(), &topic, &other, "start: oldest"));
    until_written(&agent, 260);
    assert!(agent.stop().success());
    kafka::make_anew(&brokers(), &topic, 1);
    send_numbered(&brokers(), &topic, 1000..1030);
    let agent = Agent::start(&folder, &reading(&brokers(), &topic, &other, "start: oldest"));
    until_written(&agent, 290);
    let numbers = numbers(&folder);
    assert_eq!((numbers[&0], numbers[&40], numbers[&99], numbers[&1000]), (2, 3, 3, 1));
    agent.assert_books();
}
