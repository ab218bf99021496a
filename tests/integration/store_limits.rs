//! The store within its limits: long exports, heavy queries beside ingest, retention, and what a terminal is shown.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Agent, Folder, eventually, free_port, post, request};

/// Events in one request.
const POST: usize = 1000;

fn yaml(port: u16, sinks: &str) -> String {
    format!(
        "limits: {{ memory: 128MiB }}\nsources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [web] }}\nsinks:\n{sinks}"
    )
}

const STORE: &str = "  events: { type: store, inputs: [named], batch: { age: 10ms } }\n";

fn fill(agent: &Agent, port: u16, events: usize, event: impl Fn(usize) -> Value) {
    let before = agent.metric("weir_events_delivered_total", "events");
    for from in (0..events).step_by(POST) {
        let body: String = (from..events.min(from + POST)).map(|n| format!("{}\n", event(n))).collect();
        // A full journal is asked again, as a client would.
        eventually("the events are taken", || {
            request(port, "POST", "/", &[], body.as_bytes()).is_ok_and(|answer| answer.status == 200)
        });
    }
    eventually("they are stored", || agent.metric("weir_events_delivered_total", "events") >= before + events as u64);
}

fn get(agent: &Agent, path: &str) -> Value {
    let bearer = format!("Bearer {}", agent.token());
    let answer = request(agent.api, "GET", path, &[("Authorization", &bearer)], b"").expect("the agent answers");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Reads an export as it comes: lines, and the count in the trailer.
fn read_export(agent: &Agent, mut each: impl FnMut()) -> (u64, Option<u64>) {
    let mut stream = TcpStream::connect(("127.0.0.1", agent.api)).expect("the agent listens");
    let head = format!(
        "GET /api/logs/export?format=ndjson HTTP/1.1\r\nHost: weir\r\nTE: trailers\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\n\r\n",
        agent.token()
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).expect("a head") > 2 {
        line.clear();
    }
    let mut lines = 0;
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).expect("a chunk");
        let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
        if size == 0 {
            break;
        }
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).expect("a whole chunk");
        lines += memchr::memchr_iter(b'\n', &chunk[..size]).count() as u64;
        each();
    }
    let mut trailers = String::new();
    reader.read_to_string(&mut trailers).expect("trailers");
    let count = trailers.to_lowercase().lines().find_map(|line| line.strip_prefix("weir-count:")?.trim().parse().ok());
    (lines, count)
}

/// `WEIR_TEST_EXPORT_ROWS` asks for more; `tests/long/export` for a million.
#[test]
fn an_export_takes_constant_memory_and_its_trailer_counts_its_rows() {
    let rows: usize = std::env::var("WEIR_TEST_EXPORT_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(30_000);
    let (folder, port) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(port, STORE));
    let filler = "all of it comes out again. ".repeat(100);
    fill(
        &agent,
        port,
        rows,
        |n| json!({ "user_id": format!("u{}", n % 7), "event_type": "e", "n": n, "code": filler }),
    );
    let resident = || agent.metrics()["process_resident_memory_bytes"] as u64;
    // The first export brings what every later one needs.
    request(
        agent.api,
        "GET",
        "/api/logs/export?limit=2000",
        &[("Authorization", &format!("Bearer {}", agent.token()))],
        b"",
    )
    .expect("an export");
    let (before, mut most, mut chunks) = (resident(), 0, 0);
    let (lines, count) = read_export(&agent, || {
        chunks += 1;
        if chunks % 10 == 0 {
            most = most.max(resident());
        }
    });
    assert_eq!((lines, count), (rows as u64, Some(rows as u64)));
    let grown = most.saturating_sub(before) >> 20;
    assert!(chunks >= rows / 1000 && grown < 48, "{} MiB of events took {grown} MiB", (rows * filler.len()) >> 20);
}

#[test]
fn heavy_queries_hold_up_neither_ingest_nor_health() {
    let (folder, port) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(port, STORE));
    let text = |n: usize| format!("for i in range({n}): print(i * {}, 'a text like many others')", n * 7919 % 10_007);
    fill(&agent, port, 20_000, |n| json!({ "user_id": format!("u{}", n % 7), "code": text(n) }));
    let bearer = format!("Bearer {}", agent.token());
    let (running, beside) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let heavy = "/api/logs?q=code:~%22[0-9]z[a-f]q%22&limit=1";
    std::thread::scope(|scope| {
        let queries: Vec<_> = (0..24)
            .map(|_| {
                running.fetch_add(1, Ordering::SeqCst);
                let (bearer, running, agent) = (&bearer, &running, &agent);
                scope.spawn(move || {
                    let answer =
                        request(agent.api, "GET", heavy, &[("Authorization", bearer)], b"").expect("an answer");
                    running.fetch_sub(1, Ordering::SeqCst);
                    answer
                })
            })
            .collect();
        // Far more are waiting than there are cores: everything else is answered before they are.
        while running.load(Ordering::SeqCst) > 0 {
            assert_eq!(request(agent.api, "GET", "/health", &[], b"").expect("an answer").status, 200);
            assert_eq!(post(port, "{\"user_id\":\"later\"}\n"), 1);
            beside.fetch_add(usize::from(running.load(Ordering::SeqCst) > 0), Ordering::SeqCst);
        }
        for query in queries {
            let answer = query.join().expect("a query");
            match answer.status {
                200 => assert_eq!(answer.json()["logs"], json!([])),
                // One that stood in line until its deadline.
                status => assert!(status == 503 && answer.text().contains("deadline"), "{}", answer.text()),
            }
        }
    });
    assert!(beside.load(Ordering::SeqCst) > 1, "nothing else was answered while queries ran");
}

/// How many parts a store's folder has.
fn parts(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.iter().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "part")).count()
}

/// The events of an archive.
fn archived(folder: &Path) -> Vec<Value> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let whole = entries.iter().filter(|entry| entry.file_name().to_string_lossy().ends_with(".ndjson.zst"));
    let texts = whole.map(|entry| zstd::decode_all(fs::File::open(entry.path()).expect("a file")).expect("zstd"));
    texts.flat_map(|text| String::from_utf8(text).expect("text").lines().map(value).collect::<Vec<_>>()).collect()
}

fn value(line: &str) -> Value {
    serde_json::from_str(line).expect("an event")
}

#[test]
fn a_running_agent_lets_go_what_is_over_and_keeps_what_is_held() {
    let (folder, port) = (Folder::new(), free_port());
    let archive = folder.path("archive");
    let sinks = format!(
        "{STORE}  aged: {{ type: store, inputs: [named], retention: {{ age: 1s, archive: '{}' }} }}\n  \
         sized: {{ type: store, inputs: [named], retention: {{ bytes: 64KiB }} }}\n  \
         typed: {{ type: store, inputs: [named], retention: {{ types: {{ noise: 1s }} }} }}\n  \
         held: {{ type: store, inputs: [named], retention: {{ age: 1s }}, hold: 'user_id:kept' }}\n",
        archive.display()
    );
    // Little memory: parts are made of few events.
    let yaml = yaml(port, &sinks).replace("128MiB", "32MiB");
    let agent = Agent::start(&folder, &format!("  read: {{ sink: typed }}\n{yaml}"));
    let filler = "text ".repeat(60);
    let event = |n: usize| {
        let user = if n == 0 { "kept" } else { "gone" };
        json!({ "user_id": user, "event_type": if n.is_multiple_of(2) { "noise" } else { "signal" }, "n": n, "code": format!("{n} {filler}") })
    };
    fill(&agent, port, 6000, event);
    let stores = folder.path("data").join("store");
    let of = |name: &str| parts(&stores.join(name));
    eventually("every store has made parts", || of("events") > 1);
    let made = of("events");
    eventually("what is too old is gone", || of("aged") == 0);
    eventually("it is in the archive", || archived(&archive).len() > 1000);
    let numbers: Vec<u64> = archived(&archive).iter().filter_map(|event| event["n"].as_u64()).collect();
    let mut different = numbers.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), numbers.len(), "each event is archived once");
    eventually("what is too much is gone", || {
        let entries = fs::read_dir(stores.join("sized")).expect("a folder");
        let bytes: u64 = entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum();
        of("sized") < of("events") && bytes < 512 << 10
    });
    eventually("the part with a held event alone is left", || of("held") == 1);
    let total = |event_type: &str| get(&agent, &format!("/api/logs?limit=1&event_type={event_type}"))["total"].as_u64();
    eventually("the type whose time is over is gone", || total("noise") < Some(3000));
    assert_eq!(total("signal"), Some(3000), "what nothing is said of stays");
    assert!(of("events") >= made, "without retention everything stays");
    agent.assert_books();
}

#[test]
fn weir_query_is_coloured_on_a_terminal_only() {
    let (folder, port) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(port, STORE));
    fill(&agent, port, 1, |_| json!({ "user_id": "ali", "status": "error", "event_type": "code_execution" }));
    let url = format!("http://127.0.0.1:{}", agent.api);
    let (weir, token) = (env!("CARGO_BIN_EXE_weir"), agent.token());
    let query = [weir, "query", "status:error", "--url", &url, "--token", &token];
    let piped = Command::new(query[0]).args(&query[1..]).output().expect("weir runs").stdout;
    assert!(piped.windows(5).any(|part| part == b"error") && !piped.contains(&0x1b));
    // A terminal, made by Python's `pty`.
    let terminal = |variables: &[(&str, &str)]| {
        let mut command = Command::new("python3");
        command
            .args(["-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"])
            .args(query)
            .stdin(Stdio::null());
        command.env_remove("NO_COLOR").envs(variables.iter().copied());
        command.output().expect("python runs").stdout
    };
    let shown = terminal(&[]);
    assert!(shown.windows(5).any(|part| part == b"\x1b[31m"), "{}", String::from_utf8_lossy(&shown));
    assert!(!terminal(&[("NO_COLOR", "1")]).contains(&0x1b));
}
