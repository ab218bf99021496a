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

/// Whoever opens exports and reads none of them takes neither memory nor, when they are closed, the place of a later one.
#[test]
fn exports_that_nobody_reads_take_little_memory_and_are_few() {
    const EVENTS: usize = 4000;
    let (folder, port) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(port, STORE));
    let filler = "all of it comes out again. ".repeat(200);
    fill(&agent, port, EVENTS, |n| json!({ "user_id": "ali", "n": n, "code": filler }));
    let resident = || agent.metrics()["process_resident_memory_bytes"] as u64;
    let begin = |user: &str, role: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", agent.api)).expect("the agent listens");
        let bearer = agent.token_of(user, role);
        let head = format!(
            "GET /api/logs/export?format=ndjson HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nAuthorization: Bearer {bearer}\r\n\r\n",
        );
        stream.write_all(head.as_bytes()).expect("it is sent");
        let mut reader = BufReader::with_capacity(256, stream);
        let mut head = String::new();
        while reader.read_line(&mut head).expect("a head") > 2 {}
        (head[9..12].parse::<u16>().expect("a status"), head.to_lowercase(), reader)
    };
    // The first one brings what every later one needs.
    let (status, _, mut first) = begin("ali", "user");
    assert_eq!(status, 200);
    let mut all = Vec::new();
    first.read_to_end(&mut all).expect("all of it");
    assert!(all.len() > EVENTS * filler.len() && all.ends_with(b"\r\n\r\n"));
    drop(all);
    let before = resident();
    let exports: Vec<_> = (0..50).map(|_| begin("ali", "user")).collect();
    let grown = resident().saturating_sub(before) >> 20;
    let open = exports.iter().filter(|(status, ..)| *status == 200).count();
    let refused = exports.iter().filter(|(status, head, _)| *status == 429 && head.contains("retry-after:")).count();
    assert!(open >= 4 && open + refused == 50, "{open} open, {refused} refused");
    assert!(grown < 32, "{open} exports hold {grown} MiB");
    assert_eq!(begin("eve", "user").0, 200, "others have exports of their own");
    drop(exports);
    eventually("a closed export makes room for another", || begin("ali", "user").0 == 200);
}

/// Four times as many users and sessions as fit into the memory of queries at once.
#[test]
fn administrators_see_statistics_of_any_number_of_users_and_sessions() {
    const EVENTS: usize = 48_000;
    const USERS: usize = 16_000;
    let (folder, port) = (Folder::new(), free_port());
    let yaml = yaml(port, STORE).replace("128MiB", "32MiB");
    let agent = Agent::start(&folder, &yaml);
    // User n has his session s-n, and every thousandth a second one.
    fill(&agent, port, EVENTS, |n| {
        let (user, again) = (n % USERS, n >= 2 * USERS && n % 1000 == 0);
        json!({
            "user_id": format!("user-{user:06}"), "session_id": format!("s-{user:06}{}", if again { "-b" } else { "" }),
            "event_type": "cell", "code": "x", "status": if user % 4 == 0 { "error" } else { "success" },
            "duration_ms": n % 977,
        })
    });
    let ask = |path: &str| get(&agent, path);
    // Reads are events of the administrator.
    let administrator = 1;
    let unique = ask("/api/admin/activity")["stats"]["unique_users"].as_u64().expect("a number");
    assert!((USERS as u64..=USERS as u64 + administrator).contains(&unique), "{unique}");
    let stats = ask("/api/admin/system-stats");
    assert_eq!((&stats["total_users"], &stats["active_users"]), (&json!(USERS), &json!(USERS)));
    let top = ask("/api/admin/all-users-activity?limit=3&sort=username&order=asc");
    assert_eq!(top["users"][2]["username"], "user-000002");
    assert_eq!(top["users"][2]["executions"], 3);
    assert_eq!(top["users"].as_array().map(Vec::len), Some(3));
    let values = ask("/api/fields/user_id/values?prefix=USER-0123");
    // Where that takes long, those of the newest events are offered.
    if values["of_newest"].is_null() {
        assert_eq!(values["values"].as_array().map(Vec::len), Some(100));
        assert_eq!(values["values"][7], json!({ "value": "user-012307", "count": 3 }));
    }
    let sessions = ask("/api/sessions?limit=5");
    let sessions = sessions["sessions"].as_array().expect("a list");
    let is_new = |session: &Value| session["session_id"].as_str().is_some_and(|name| name.starts_with("s-015"));
    assert!(sessions.len() == 5 && sessions.iter().all(is_new), "{sessions:?}");
    let grouped = ask("/api/logs/stats?group_by=session_id&min_count=4");
    assert_eq!(grouped["groups"], json!([]), "no session has so many events");
    let grouped = ask("/api/logs/stats?group_by=session_id&event_type=cell&limit=7");
    let groups = grouped["groups"].as_array().expect("a list");
    let is_first = |group: &Value| group["count"] == 3 && group["session_id"].as_str() < Some("s-000010");
    assert!(groups.len() == 7 && groups.iter().all(is_first), "{groups:?}");
    assert_eq!(grouped["is_partial"], json!(true));
    let grouped = ask("/api/logs/stats?group_by=session_id&event_type=cell");
    let groups = grouped["groups"].as_array().expect("a list");
    assert!(groups.len() >= 100 && groups.iter().all(|group| group["count"] == 3), "{}", groups.len());
    assert_eq!((&grouped["groups"][0]["session_id"], &grouped["is_partial"]), (&json!("s-000001"), &json!(true)));
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
