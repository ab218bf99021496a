//! The Kafka sink against a real broker: what arrives, and what becomes of it when the broker does not do its part.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::kafka::{self, Found};
use crate::support::proxy::{Fault, Proxy};
use crate::support::services::{Services, service};
use crate::support::{Agent, Folder, eventually, free_port, post, request};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::json;

fn brokers() -> String {
    service("WEIR_TEST_KAFKA")
}

/// An agent that takes events over HTTP and sends them to Kafka.
struct Sending {
    agent: Agent,
    port: u16,
    _folder: Folder,
}

impl Sending {
    /// `sink` is what the sink's configuration has besides its type and inputs.
    fn start(sink: &str) -> Sending {
        let (folder, port) = (Folder::new(), free_port());
        let agent = Agent::start(&folder, &Sending::yaml(port, sink));
        Sending { agent, port, _folder: folder }
    }

    fn yaml(port: u16, sink: &str) -> String {
        let sink: String = sink.lines().map(|line| format!("    {}\n", line.trim_start_matches("    "))).collect();
        format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             sinks:\n  kafka:\n    type: kafka\n    inputs: [web]\n    batch: {{ age: 20ms }}\n    \
             retry: {{ initial: 100ms, max: 500ms }}\n{sink}"
        )
    }

    /// Posts events numbered from `first`.
    fn post(&self, first: u64, count: u64) {
        let lines: Vec<String> = (first..first + count)
            .map(|n| json!({"n": n, "session_id": format!("s{}", n % 7), "code": "x".repeat(100)}).to_string())
            .collect();
        assert_eq!(post(self.port, &lines.join("\n")), count);
    }

    fn until_delivered(&self, count: u64) {
        eventually("all is delivered", || self.agent.metric("weir_events_delivered_total", "kafka") >= count);
        self.agent.assert_books();
    }

    /// The sink's part of `/health?sinks`.
    fn health(&self) -> serde_json::Value {
        let health = request(self.agent.api, "GET", "/health?sinks", &[], b"").expect("the agent answers").json();
        let all = health["components"].as_array().expect("a list of components");
        all.iter().find(|one| one["component"] == "kafka" || one["name"] == "kafka").expect("the sink").clone()
    }

    fn until_it_says(&self, state: &str, words: &str) {
        eventually(&format!("{state}: {words}"), || {
            let health = self.health().to_string();
            health.contains(state) && health.contains(words)
        });
    }
}

fn number(found: &Found) -> u64 {
    let event: serde_json::Value = serde_json::from_str(&found.value).expect("an event");
    event["n"].as_u64().expect("a number")
}

/// Each number once, each session in order in one partition, each id its own; the messages by id.
fn assert_complete(found: &[Found], numbers: std::ops::Range<u64>) {
    let mut by_id: BTreeMap<&str, u64> = BTreeMap::new();
    let mut last: BTreeMap<&str, (i32, u64)> = BTreeMap::new();
    for message in found {
        let (n, id) = (number(message), message.id.as_str());
        if by_id.insert(id, n).is_some_and(|before| before == n) {
            continue;
        }
        let key = message.key.as_deref().expect("a session");
        assert_eq!(key, format!("s{}", n % 7));
        let before = last.insert(key, (message.partition, n));
        assert!(before.is_none_or(|(partition, before)| partition == message.partition && before < n), "{key} {n}");
    }
    let seen: BTreeSet<u64> = by_id.values().copied().collect();
    assert_eq!(by_id.len(), seen.len(), "an event has one id");
    let missing: Vec<u64> = numbers.clone().filter(|n| !seen.contains(n)).collect();
    assert!(missing.is_empty() && seen.len() as u64 == numbers.end - numbers.start, "missing: {missing:?}");
}

#[test]
fn events_arrive_once_with_id_and_key_in_the_order_of_their_session() {
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = kafka::topic(&brokers(), "plain", 3);
        let sending =
            Sending::start(&format!("brokers: ['{}']\ntopic: '{topic}'\ncompression: {compression}", brokers()));
        for batch in 0..10 {
            sending.post(batch * 100, 100);
        }
        sending.until_delivered(1000);
        let found = kafka::read_all(&brokers(), &topic);
        assert_eq!(found.len(), 1000);
        assert_complete(&found, 0..1000);
        assert!(sending.agent.stop().success());
    }
}

#[test]
fn a_topic_by_template_takes_its_own_and_a_stray_name_is_a_dead_letter() {
    let name = kafka::topic_name("by");
    for tenant in ["a", "b"] {
        kafka::create_topic(&brokers(), &format!("{name}.{tenant}"), 1, &[]);
    }
    let sending = Sending::start(&format!(
        "brokers: ['{}']\ntopic: '{name}.{{{{ tenant }}}}'\nkey: '{{{{ tenant }}}}-k'",
        brokers()
    ));
    let id = "6f1f64a3-2b7e-4c92-8a5d-0d9a0d5c7e11";
    let body =
        format!("{{\"id\":\"{id}\",\"tenant\":\"a\"}}\n{{\"tenant\":\"b\"}}\n{{\"tenant\":\"../c\"}}\n{{\"none\":1}}");
    assert_eq!(post(sending.port, &body), 4);
    sending.until_delivered(2);
    assert_eq!(sending.agent.metric("weir_events_dead_lettered_total", "kafka"), 2);
    let found = kafka::read_all(&brokers(), &format!("{name}.a"));
    assert_eq!((found[0].id.as_str(), found[0].key.as_deref()), (id, Some("a-k")));
    assert_eq!(found[0].value, format!("{{\"id\":\"{id}\",\"tenant\":\"a\"}}"));
    assert_eq!(kafka::read_all(&brokers(), &format!("{name}.b")).len(), 1);
}

#[test]
fn a_message_that_is_too_large_is_one_dead_letter() {
    let topic = kafka::topic_name("small");
    kafka::create_topic(&brokers(), &topic, 1, &[("max.message.bytes", "2000")]);
    let sending = Sending::start(&format!("brokers: ['{}']\ntopic: '{topic}'", brokers()));
    // Together they are far more than the topic takes at once.
    sending.post(0, 50);
    let large = json!({"n": 50, "session_id": "s1", "code": "y".repeat(5000)}).to_string();
    assert_eq!(post(sending.port, &large), 1);
    sending.post(51, 50);
    sending.until_delivered(100);
    eventually("one dead letter", || sending.agent.metric("weir_events_dead_lettered_total", "kafka") == 1);
    sending.agent.assert_books();
    let numbers: BTreeSet<u64> = kafka::read_all(&brokers(), &topic).iter().map(number).collect();
    assert_eq!(numbers, (0..101).filter(|n| *n != 50).collect());
}

#[test]
fn a_missing_topic_holds_the_sink_until_it_is_there() {
    let topic = kafka::topic_name("late");
    let sending = Sending::start(&format!("brokers: ['{}']\ntopic: '{topic}'", brokers()));
    sending.post(0, 20);
    sending.until_it_says("held", &format!("there is no topic `{topic}`"));
    assert_eq!(sending.agent.metric("weir_events_waiting", "kafka"), 20);
    kafka::create_topic(&brokers(), &topic, 2, &[]);
    sending.until_delivered(20);
    assert_complete(&kafka::read_all(&brokers(), &topic), 0..20);
}

#[test]
fn a_missing_topic_by_template_parks_its_events_over_a_kill_while_the_others_go_on() {
    let name = kafka::topic_name("half");
    let (good, bad) = (format!("{name}.a"), format!("{name}.b"));
    kafka::create_topic(&brokers(), &good, 1, &[]);
    let sink = format!("brokers: ['{}']\ntopic: '{name}.{{{{ tenant }}}}'", brokers());
    let sending = Sending::start(&sink);
    let mixed = |from: u64| -> String {
        let event = |n: u64| format!("{{\"tenant\":\"{}\",\"n\":{n}}}\n", ["a", "b"][n as usize % 2]);
        (from..from + 20).map(event).collect()
    };
    for round in 0..3 {
        assert_eq!(post(sending.port, &mixed(round * 20)), 20);
        sending.until_delivered((round + 1) * 10);
    }
    sending.until_it_says("degraded", &format!("30 events are parked for `{bad}`"));
    sending.until_it_says("degraded", &format!("there is no topic `{bad}`"));
    assert_eq!(sending.agent.metric("weir_events_waiting", "kafka"), 30);
    assert_eq!(kafka::count(&brokers(), &good), 30, "what was written is not written again");
    let Sending { agent, port, _folder: folder } = sending;
    agent.kill();
    let agent = Agent::start(&folder, &Sending::yaml(port, &sink));
    let sending = Sending { agent, port, _folder: folder };
    kafka::create_topic(&brokers(), &bad, 1, &[]);
    eventually("all is delivered", || sending.agent.metric("weir_events_waiting", "kafka") == 0);
    sending.until_delivered(60);
    let found = kafka::read_all(&brokers(), &bad);
    let ids: BTreeSet<&str> = found.iter().map(|found| found.id.as_str()).collect();
    assert_eq!((found.len(), ids.len()), (30, 30), "each once");
    assert_eq!(found.iter().map(number).collect::<BTreeSet<_>>(), (0..60).filter(|n| n % 2 == 1).collect());
}

#[test]
pub fn a_broker_that_is_killed_and_comes_back_has_every_event_in_order() {
    let services = Services::start("kafka-killed", &["kafka"]);
    let brokers = services.get("WEIR_TEST_KAFKA");
    let topic = kafka::topic(&brokers, "killed", 3);
    let sending = Sending::start(&format!("brokers: ['{brokers}']\ntopic: '{topic}'"));
    sending.post(0, 500);
    sending.until_delivered(100);
    services.kill("kafka");
    for batch in 0..10 {
        sending.post(500 + batch * 100, 100);
    }
    sending.until_it_says("retrying", "cannot reach");
    services.resume("kafka");
    sending.post(1500, 100);
    sending.until_delivered(1600);
    assert_complete(&kafka::read_all(&brokers, &topic), 0..1600);
    assert!(!sending.agent.log().contains("panicked"));
}

#[test]
fn slow_silent_and_lost_answers_lose_nothing() {
    let topic = kafka::topic(&brokers(), "faults", 2);
    let proxied: u16 = service("WEIR_TEST_KAFKA_PROXIED").parse().expect("a port");
    let proxy = Proxy::on(proxied, &service("WEIR_TEST_KAFKA_BEHIND"));
    let sink = "timeout: 4s\noptions: { socket.timeout.ms: 3000, reconnect.backoff.max.ms: 200 }";
    let sending = Sending::start(&format!("brokers: ['127.0.0.1:{proxied}']\ntopic: '{topic}'\n{sink}"));
    sending.post(0, 100);
    sending.until_delivered(100);
    let faults = [Fault::Slow(Duration::from_millis(200)), Fault::BlackHole, Fault::Refuse, Fault::LoseAnswers];
    for (nth, fault) in (1..).zip(faults) {
        proxy.set(fault);
        sending.post(nth * 100, 100);
        std::thread::sleep(Duration::from_secs(5));
        if matches!(fault, Fault::LoseAnswers) {
            eventually("answers are lost", || proxy.lost() > 0);
        }
        proxy.set(Fault::None);
        sending.until_delivered((nth + 1) * 100);
    }
    assert_complete(&kafka::read_all(&brokers(), &topic), 0..500);
    assert_eq!(sending.agent.metric("weir_events_dead_lettered_total", "kafka"), 0);
}

#[test]
fn passwords_of_every_kind_and_certificates_are_checked_and_never_shown() {
    let topic = kafka::topic(&brokers(), "secure", 2);
    let (secure, ca) = (service("WEIR_TEST_KAFKA_SECURE"), service("WEIR_TEST_KAFKA_CA"));
    let sink = |sasl: &str, ca: &str| {
        format!("brokers: ['{secure}']\ntopic: '{topic}'\nsasl: {{ {sasl} }}\ntls: {{ ca: '{ca}' }}")
    };
    let token = unsecured_token();
    let ways = [
        "mechanism: plain, username: weir, password: weir-secret".to_owned(),
        "mechanism: scram-sha-512, username: weir, password: weir-secret".to_owned(),
        format!("mechanism: oauthbearer, token: {token}"),
    ];
    for (nth, way) in (0..).zip(&ways) {
        let sending = Sending::start(&sink(way, &ca));
        sending.post(nth * 10, 10);
        sending.until_delivered(10);
    }
    assert_complete(&kafka::read_all(&brokers(), &topic), 0..30);

    let sending = Sending::start(&sink("mechanism: plain, username: weir, password: geheim", &ca));
    sending.post(0, 10);
    sending.until_it_says("held", "rejected the credentials");
    assert_eq!(sending.agent.metric("weir_events_waiting", "kafka"), 10);
    let shown = format!("{}{}", sending.agent.log(), sending.health());
    assert!(!shown.contains("geheim"), "{shown}");

    let sending = Sending::start(&sink(&ways[0], "/etc/ssl/certs/ca-certificates.crt"));
    sending.post(0, 10);
    sending.until_it_says("held", "TLS error with");
    sending.agent.assert_books();
}

/// A token that brokers without an identity provider believe.
fn unsecured_token() -> String {
    use base64::prelude::*;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs();
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(json!({"alg": "none"})), part(json!({"sub": "weir", "iat": now, "exp": now + 3600})))
}

#[test]
fn validate_says_whether_the_brokers_and_the_topic_are_there() {
    let folder = Folder::new();
    let validate = |brokers: &str, topic: &str| {
        let yaml = Sending::yaml(free_port(), &format!("brokers: ['{brokers}']\ntopic: '{topic}'"));
        let path = folder.write("weir.yaml", &format!("data_dir: {}\n{yaml}", folder.path("data").display()));
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["validate", "-c"])
            .arg(path)
            .output()
            .expect("weir validate runs");
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (out.status.success(), said)
    };
    let there = kafka::topic(&brokers(), "validated", 1);
    let (works, said) = validate(&brokers(), &there);
    assert!(works, "{said}");
    let (works, said) = validate(&brokers(), "no.such.topic");
    assert!(!works && said.contains("there is no topic `no.such.topic`"), "{said}");
    let (works, said) = validate("127.0.0.1:1", &there);
    assert!(!works && said.contains("cannot reach `127.0.0.1:1`"), "{said}");
}

#[test]
fn a_topic_by_the_day_takes_the_day_of_receipt_where_an_event_has_no_time() {
    let name = kafka::topic_name("day");
    let sending = Sending::start(&format!("brokers: ['{}']\ntopic: '{name}-%Y'\nkey: '%Y'", brokers()));
    let year = 1970 + std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() / 31_556_952;
    kafka::create_topic(&brokers(), &format!("{name}-{year}"), 1, &[]);
    kafka::create_topic(&brokers(), &format!("{name}-2020"), 1, &[]);
    assert_eq!(post(sending.port, "{\"n\":1}\n{\"n\":2,\"timestamp\":\"2020-02-02T00:00:00Z\"}"), 2);
    sending.until_delivered(2);
    let found = kafka::read_all(&brokers(), &format!("{name}-{year}"));
    assert_eq!((found.len(), found[0].key.clone()), (1, Some(year.to_string())));
    assert_eq!(kafka::count(&brokers(), &format!("{name}-2020")), 1);
}

#[test]
fn what_keeps_brokers_from_taking_events_is_said() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("isr", 1, 1).expect("a topic");
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 10_000]);
    let sending = Sending::start(&format!("brokers: ['{}']\ntopic: isr\ntimeout: 3s", cluster.bootstrap_servers()));
    sending.post(0, 10);
    sending.until_it_says("retrying", "replicas");
    assert_eq!(sending.agent.metric("weir_events_waiting", "kafka"), 10);
    assert!(!sending.health().to_string().contains("no answer"), "{}", sending.health());
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    sending.until_delivered(10);
}
