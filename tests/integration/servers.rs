//! Events from three kinds of sources, made safe, in Postgres, Kafka, Elasticsearch and on a live stream side by side,
//! while each server is killed and brought back in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::search::Search;
use crate::support::services::Services;
use crate::support::{Agent, Folder, eventually, free_port, kafka, post};
use serde_json::{Value, json};

/// How long a server may take to come back, and a sink to catch up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Events that the other sinks must have delivered before a dead server is brought back.
const MEANWHILE: u64 = 300;
const SINKS: [&str; 3] = ["postgres", "kafka", "elasticsearch"];
const SECRET: &str = "hunter2hunter2";

fn sql(url: &str, statement: &str) -> String {
    let out = Command::new("psql").args([url, "-AtX", "-v", "ON_ERROR_STOP=1", "-c", statement]).output();
    let out = out.expect("psql runs");
    assert!(out.status.success(), "{statement}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// Long enough for a server to start.
fn in_the_end(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn event(source: &str, n: u64) -> String {
    let code = format!("connect(password = \\\"{SECRET}\\\")  # {}", "x".repeat(200));
    format!(
        "{{\"session_id\":\"{source}\",\"username\":\"ali\",\"cell_number\":{n},\"code\":\"{code}\",\"lang\":\"py\"}}\n"
    )
}

/// Sends from each source until told to stop; how many events each has sent.
struct Senders<'a> {
    ports: (u16, u16),
    file: &'a Path,
    stop: AtomicBool,
    sent: [AtomicU64; 3],
}

impl Senders<'_> {
    fn run<'s>(&'s self, scope: &'s std::thread::Scope<'s, '_>) {
        scope.spawn(|| {
            self.each_while(0, "http", |events| {
                assert_eq!(post(self.ports.0, events), 5, "every event is acknowledged")
            })
        });
        scope.spawn(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", self.ports.1)).expect("the agent listens");
            self.each_while(1, "socket", |events| stream.write_all(events.as_bytes()).expect("the agent reads"));
        });
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(self.file).expect("a file");
            self.each_while(2, "file", |events| file.write_all(events.as_bytes()).expect("the file takes lines"));
        });
    }

    fn each_while(&self, nth: usize, source: &str, mut send: impl FnMut(&str)) {
        while !self.stop.load(Ordering::SeqCst) {
            let first = self.sent[nth].load(Ordering::SeqCst);
            send(&(first..first + 5).map(|n| event(source, n)).collect::<String>());
            self.sent[nth].store(first + 5, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What must be everywhere in the end.
    fn all(&self) -> BTreeSet<(String, u64)> {
        let of = |(source, sent): (&str, &AtomicU64)| {
            let source = source.to_owned();
            (0..sent.load(Ordering::SeqCst)).map(move |n| (source.clone(), n))
        };
        ["http", "socket", "file"].into_iter().zip(&self.sent).flat_map(of).collect()
    }
}

/// Source and number of an event by its id; a second event of the same id would show.
#[derive(Debug, Default, PartialEq)]
struct Seen(BTreeMap<String, (String, u64)>);

impl Seen {
    fn add(&mut self, id: &str, session: &str, number: u64, code: &str) {
        assert!(!code.contains(SECRET), "a secret came through: {code}");
        let there = self.0.insert(id.to_owned(), (session.to_owned(), number));
        assert!(there.is_none_or(|there| there == (session.to_owned(), number)), "two events have the id {id}");
    }

    fn add_json(&mut self, id: &str, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or("").to_owned();
        let number = event["cell_number"].as_u64().expect("a number");
        self.add(id, &text("session_id"), number, &text("code"));
    }

    fn events(&self) -> BTreeSet<(String, u64)> {
        let events: BTreeSet<(String, u64)> = self.0.values().cloned().collect();
        assert_eq!(events.len(), self.0.len(), "an event has two ids");
        events
    }
}

fn in_postgres(url: &str, table: &str) -> Seen {
    let mut seen = Seen::default();
    let rows = sql(url, &format!("SELECT id, session_id, cell_number, code FROM {table}"));
    for row in rows.lines() {
        let columns: Vec<&str> = row.splitn(4, '|').collect();
        assert!(!seen.0.contains_key(columns[0]), "{row} is there twice");
        seen.add(columns[0], columns[1], columns[2].parse().expect("a number"), columns[3]);
    }
    seen
}

/// By `weir-id`: a message may be there twice, an event may not.
fn in_kafka(brokers: &str, topic: &str) -> Seen {
    let mut seen = Seen::default();
    for message in kafka::read_all(brokers, topic) {
        seen.add_json(&message.id, &serde_json::from_str(&message.value).expect("JSON"));
    }
    seen
}

fn in_elasticsearch(server: &Search, index: &str) -> Seen {
    let mut seen = Seen::default();
    server.must("POST", &format!("/{index}/_refresh"), None);
    for session in ["http", "socket", "file"] {
        let mut after = None;
        loop {
            let mut query =
                json!({"size": 5000, "sort": [{"cell_number": "asc"}], "query": {"term": {"session_id": session}}});
            if let Some(after) = after {
                query["search_after"] = json!([after]);
            }
            let answer = server.must("POST", &format!("/{index}/_search"), Some(query));
            let hits = answer["hits"]["hits"].as_array().expect("hits");
            for hit in hits {
                seen.add_json(hit["_id"].as_str().expect("an id"), &hit["_source"]);
            }
            let Some(last) = hits.last() else { break };
            after = last["sort"][0].as_u64();
        }
    }
    assert_eq!(seen.0.len() as u64, server.count(index), "a document is there twice");
    seen
}

/// A client of the live stream, which writes down what it sees.
struct Live(Child);

impl Live {
    fn follow(agent: &Agent, into: &Path) -> Live {
        let url = format!("http://127.0.0.1:{}/api/stream?token={}", agent.api, agent.token());
        let file = fs::File::create(into).expect("a file");
        let curl = Command::new("curl").args(["-sN", &url]).stdin(Stdio::null()).stdout(file).spawn();
        eventually("the stream begins", || fs::metadata(into).is_ok_and(|file| file.len() > 0));
        Live(curl.expect("curl runs"))
    }

    fn seen(file: &Path) -> Seen {
        let text = fs::read_to_string(file).expect("the stream is text");
        let mut seen = Seen::default();
        // The last frame may be on its way still.
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        for data in whole.lines().filter_map(|line| line.strip_prefix("data:")) {
            let event: Value = serde_json::from_str(data.trim()).expect("JSON");
            seen.add_json(event["id"].as_str().expect("an id"), &event);
        }
        seen
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_server_dies_and_comes_back_and_every_event_is_everywhere_once() {
    let servers = Services::start("side-by-side", &SINKS);
    let (url, brokers) = (servers.get("WEIR_TEST_POSTGRES"), servers.get("WEIR_TEST_KAFKA"));
    let search = Search::at(&servers.get("WEIR_TEST_ELASTICSEARCH"));
    sql(
        &url,
        "CREATE TABLE activity (id uuid PRIMARY KEY, timestamp timestamptz NOT NULL, username text, session_id text, \
         cell_number bigint, code text, metadata jsonb)",
    );
    let topic = kafka::topic(&brokers, "activity", 4);
    let (folder, ports) = (Folder::new(), (free_port(), free_port()));
    let file = folder.write("in/events.ndjson", "");
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  \
               web: {{ type: http, address: '127.0.0.1:{}' }}\n  \
               lines: {{ type: socket, mode: tcp, address: '127.0.0.1:{}' }}\n  \
               tail: {{ type: file, include: ['{}'], read_from: beginning }}\n\
             transforms:\n  \
               named: {{ type: normalize, inputs: [web, lines, tail] }}\n  \
               safe: {{ type: redact, inputs: [named] }}\n  \
               short: {{ type: truncate, inputs: [safe], fields: [code], max_chars: 100 }}\n\
             sinks:\n  \
               postgres: {{ type: postgres, inputs: [short], url: '{url}', table: activity, {FRAME} }}\n  \
               kafka: {{ type: kafka, inputs: [short], brokers: ['{brokers}'], topic: '{topic}', {FRAME} }}\n  \
               elasticsearch: {{ type: elasticsearch, inputs: [short], endpoints: ['{}'], index: activity, \
                 install_template: true, {FRAME} }}\n  \
               live: {{ type: sse, inputs: [short] }}\n",
            ports.0,
            ports.1,
            file.display(),
            search.url,
        ),
    );
    let stream = folder.path("stream");
    let live = Live::follow(&agent, &stream);
    let delivered = |sink: &str| agent.metric("weir_events_delivered_total", sink);
    let senders = Senders { ports, file: &file, stop: AtomicBool::new(false), sent: Default::default() };
    std::thread::scope(|scope| {
        let stop = Stop(&senders.stop);
        senders.run(scope);
        in_the_end("all deliver", || SINKS.iter().all(|sink| delivered(sink) > MEANWHILE));
        for dead in SINKS {
            servers.kill(dead);
            // What was on its way when it died has ended by now, one way or the other.
            in_the_end(&format!("{dead} falls behind"), || agent.metric("weir_events_waiting", dead) > MEANWHILE);
            let before: Vec<u64> = SINKS.iter().map(|sink| delivered(sink)).collect();
            let shown = Live::seen(&stream).0.len() as u64;
            in_the_end(&format!("the others go on while {dead} is dead"), || {
                let more = |(sink, before): (&&str, &u64)| *sink == dead || delivered(sink) > before + MEANWHILE;
                SINKS.iter().zip(&before).all(more) && Live::seen(&stream).0.len() as u64 > shown + MEANWHILE
            });
            let nth = SINKS.iter().position(|sink| *sink == dead).expect("one of them");
            assert_eq!(delivered(dead), before[nth], "{dead} is dead and takes events");
            agent.assert_books();
            servers.resume(dead);
            in_the_end(&format!("{dead} catches up"), || agent.metric("weir_events_waiting", dead) < MEANWHILE);
            assert!(delivered(dead) > before[nth] + MEANWHILE);
        }
        drop(stop);
    });
    let all = senders.all();
    in_the_end("everything is delivered", || SINKS.iter().all(|sink| delivered(sink) == all.len() as u64));
    let metrics = agent.assert_books();
    let lost =
        |name: &str| metrics.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, count)| *count).sum::<f64>();
    assert_eq!((lost("weir_events_dead_lettered_total"), lost("weir_events_dropped_total")), (0.0, 0.0));
    let (rows, messages, documents) =
        (in_postgres(&url, "activity"), in_kafka(&brokers, &topic), in_elasticsearch(&search, "activity"));
    assert_eq!(rows.events(), all, "in Postgres");
    assert!(rows == messages, "Kafka has other events than Postgres, or under other ids");
    assert!(rows == documents, "Elasticsearch has other events than Postgres, or under other ids");
    in_the_end("the live stream has shown all", || Live::seen(&stream).0.len() == all.len());
    assert!(rows == Live::seen(&stream), "the live stream shows other events");
    drop(live);
    assert!(agent.stop().success());
}

/// Impatient, so that a server that is back is noticed soon.
const FRAME: &str = "batch: { age: 50ms }, retry: { initial: 100ms, max: 1s }, timeout: 10s";

/// Ends the senders, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
