//! Bad input costs itself and nothing else: refusals by index, dead letters with their place, redacted.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::support::{Agent, Folder, eventually, free_port, lines_of, post, request};

#[test]
fn refused_items_are_listed_by_index_and_the_others_are_taken() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  file: {{ type: file, inputs: [web], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("out").display()
    );
    let agent = Agent::start(&folder, &yaml);
    let body = "{\"a\":1}\n{\"b\":\n[1,2]\nnonsense\n{\"c\":12345678901234567890123}\n\"text\"\n";
    let answer = request(port, "POST", "/", &[], body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!(told["accepted"], 2, "{told}");
    let indexes: Vec<u64> =
        told["refused"].as_array().expect("a list").iter().filter_map(|item| item["index"].as_u64()).collect();
    assert!(indexes.contains(&1) && !indexes.contains(&0), "{told}");
    for (body, status) in [("", 400), ("nonsense", 400), ("[", 400)] {
        assert_eq!(request(port, "POST", "/", &[], body.as_bytes()).expect("an answer").status, status, "{body:?}");
    }
    let unknown = request(port, "POST", "/", &[("Content-Encoding", "br")], b"{}").expect("an answer");
    assert_eq!(unknown.status, 415);
    eventually("both are delivered", || agent.metric("weir_events_delivered_total", "file") == 2);
    agent.assert_books();
    let lines = lines_of(&folder.path("out"), "out.ndjson");
    assert_eq!(lines, ["{\"a\":1}", "{\"c\":12345678901234567890123}"], "what nobody touched comes out as it went in");
}

#[test]
fn a_broken_line_of_a_file_is_a_dead_letter_with_its_place_and_no_secret() {
    let folder = Folder::new();
    let log = folder.path("app.log");
    fs::write(&log, "{\"n\":1}\n{\"n\": password=hunter2hunter2 }\n{\"n\":3}\n").expect("a file");
    let yaml = format!(
        "sources:\n  app: {{ type: file, include: ['{}'], read_from: beginning }}\n\
         sinks:\n  file: {{ type: file, inputs: [app], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        log.display(),
        folder.path("out").display()
    );
    let agent = Agent::start(&folder, &yaml);
    eventually("the good lines arrive", || lines_of(&folder.path("out"), "out.ndjson").len() == 2);
    let token = agent.token();
    let bearer = format!("Bearer {token}");
    let list = request(agent.api, "GET", "/api/dlq", &[("Authorization", &bearer)], b"").expect("an answer").json();
    assert_eq!(list["total"], 1, "{list}");
    let letter = &list["dead_letters"][0];
    assert_eq!(letter["component"], "app");
    let origin = letter["origin"].as_str().expect("an origin");
    assert!(origin.contains("app.log") && origin.contains('8'), "{origin}");
    let id = letter["id"].as_str().expect("an id");
    let whole =
        request(agent.api, "GET", &format!("/api/dlq/{id}"), &[("Authorization", &bearer)], b"").expect("an answer");
    assert!(!whole.text().contains("hunter2"), "{}", whole.text());
    assert!(whole.text().contains("[credential]"), "{}", whole.text());
    for path in ["/api/dlq", "/api/pipeline"] {
        assert_eq!(request(agent.api, "GET", path, &[], b"").expect("an answer").status, 401, "{path}");
    }
    agent.assert_books();
    assert!(agent.stop().success());
    let found =
        Command::new("grep").args(["-r", "-l", "hunter2"]).arg(folder.path("data")).output().expect("grep runs");
    assert!(found.stdout.is_empty(), "a secret is on disk: {}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn a_rotated_file_under_load_arrives_whole_and_in_order() {
    let folder = Folder::new();
    let logs = folder.path("logs");
    fs::create_dir_all(&logs).expect("a folder");
    let yaml = format!(
        "sources:\n  app: {{ type: file, include: ['{}/app.log'], read_from: beginning, poll: 50ms }}\n\
         sinks:\n  file: {{ type: file, inputs: [app], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        logs.display(),
        folder.path("out").display()
    );
    let mut agent = Agent::start(&folder, &yaml);
    let mut n = 0;
    for generation in 0..12 {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(logs.join("app.log")).expect("a file");
        for _ in 0..500 {
            writeln!(file, "{{\"n\":{n},\"g\":{generation}}}").expect("a line");
            n += 1;
        }
        if generation % 4 == 3 {
            agent.kill();
            agent = Agent::start(&folder, &yaml);
        }
        fs::rename(logs.join("app.log"), logs.join(format!("app.log.{generation}"))).expect("a rename");
    }
    eventually("all lines arrive", || lines_of(&folder.path("out"), "out.ndjson").len() >= n);
    assert!(agent.stop().success());
    let mut seen: Vec<u64> = lines_of(&folder.path("out"), "out.ndjson")
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a whole line")["n"].as_u64().expect("n"))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..n as u64).collect::<Vec<_>>(), "each line once");
}

#[test]
fn a_wrong_configuration_ends_with_78_before_anything_is_touched() {
    let folder = Folder::new();
    let config = folder.write(
        "weir.yaml",
        &format!(
            "data_dir: {}\nsources:\n  web: {{ type: htpp }}\nsinks:\n  out: {{ type: console, inputs: [wbe] }}\n",
            folder.path("data").display()
        ),
    );
    let out = Command::new(env!("CARGO_BIN_EXE_weir")).args(["run", "-c"]).arg(&config).output().expect("weir runs");
    assert_eq!(out.status.code(), Some(78));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("htpp") && said.contains("http") && said.contains("weir.yaml:3:"), "{said}");
    assert!(!folder.path("data").exists());
}

#[test]
fn a_taken_port_ends_with_1_and_names_it() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\nsinks:\n  out: {{ type: blackhole, inputs: [web] }}\n"
    );
    let mut agent = Agent::spawn(&folder, &yaml, &[]);
    let status = agent.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", agent.log());
    assert!(agent.log().contains(&format!("127.0.0.1:{port}")), "{}", agent.log());
}

#[test]
fn a_repeat_with_the_same_key_adds_nothing_even_after_a_kill() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  file: {{ type: file, inputs: [web], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("out").display()
    );
    let key = [("Idempotency-Key", "order-5")];
    let agent = Agent::start(&folder, &yaml);
    assert_eq!(request(port, "POST", "/", &key, b"{\"n\":1}\n{\"n\":2}").expect("an answer").json()["accepted"], 2);
    agent.kill();
    let agent = Agent::start(&folder, &yaml);
    let again = request(port, "POST", "/", &key, b"{\"n\":1}\n{\"n\":2}").expect("an answer");
    assert_eq!((again.status, again.json()["accepted"].as_u64()), (200, Some(2)));
    assert_eq!(request(port, "POST", "/", &key, b"{\"n\":3}").expect("an answer").status, 422);
    assert_eq!(post(port, "{\"n\":4}"), 1);
    eventually("the last arrives", || lines_of(&folder.path("out"), "out.ndjson").contains(&"{\"n\":4}".to_owned()));
    assert_eq!(lines_of(&folder.path("out"), "out.ndjson"), ["{\"n\":1}", "{\"n\":2}", "{\"n\":4}"]);
    agent.assert_books();
}

#[test]
fn a_repeat_is_refused_in_the_same_places_and_an_unusable_body_may_be_mended() {
    let folder = Folder::new();
    let (refuse, bury) = (free_port(), free_port());
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{refuse}' }}\n\
         \x20 bury: {{ type: http, address: '127.0.0.1:{bury}', on_bad: dead_letter }}\n\
         sinks:\n  none: {{ type: blackhole, inputs: [web, bury] }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    let send = |port, key, body: &str| {
        let answer = request(port, "POST", "/", &[("Idempotency-Key", key)], body.as_bytes()).expect("an answer");
        (answer.status, answer.text())
    };
    let first = send(refuse, "a", "{\"a\":1}\nbad");
    assert!(first.0 == 200 && first.1.contains("\"index\":1"), "{first:?}");
    assert_eq!(send(refuse, "a", "{\"a\":1}\nbad"), first);
    let first = send(bury, "a", "{\"a\":1}\nbad");
    assert_eq!(first, (200, "{\"accepted\":1,\"refused\":[],\"refused_count\":0,\"dead_lettered\":1}".into()));
    assert_eq!(send(bury, "a", "{\"a\":1}\nbad"), first);
    assert_eq!(send(refuse, "b", "bad").0, 400);
    assert_eq!(send(refuse, "b", "{\"mended\":1}").0, 200, "nothing was taken under this key before");
    assert_eq!(send(refuse, "b", "{\"other\":1}").0, 422);
    assert_eq!(agent.metric("weir_duplicates_ignored_total", "web"), 1);
    assert_eq!(agent.metric("weir_events_dead_lettered_total", "bury"), 1, "a repeat is buried once");
    agent.assert_books();
}

#[test]
fn who_looks_at_the_answer_only_once_everything_is_sent_finds_it() {
    let (folder, locked, small) = (Folder::new(), free_port(), free_port());
    let yaml = format!(
        "sources:\n  locked: {{ type: http, address: '127.0.0.1:{locked}', auth: {{ type: bearer, tokens: {{ a: right-token }} }} }}\n  \
         small: {{ type: http, address: '127.0.0.1:{small}', max_body: 64 KiB }}\n\
         sinks: {{ out: {{ type: blackhole, inputs: [locked, small] }} }}\n"
    );
    let _agent = Agent::start(&folder, &yaml);
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(20 << 20));
    for _ in 0..3 {
        let wrong = [("Authorization", "Bearer wrong")];
        assert_eq!(request(locked, "POST", "/", &wrong, body.as_bytes()).expect("an answer").status, 401);
        assert_eq!(request(small, "POST", "/", &[], body.as_bytes()).expect("an answer").status, 413);
    }
}

/// Anonymous memory of a process, in MiB.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it is there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

#[test]
fn halves_of_frames_are_held_within_the_limit_of_memory() {
    let (folder, port) = (Folder::new(), free_port());
    let yaml = format!(
        "limits: {{ memory: 64 MiB }}\nsources:\n  raw: {{ type: socket, mode: tcp, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  out: {{ type: file, inputs: [raw], path: out/events.ndjson, batch: {{ age: 10ms }} }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    let before = anonymous(agent.pid());
    let half = vec![b'x'; 900_000];
    let mut peers = Vec::new();
    for _ in 0..200 {
        let mut peer = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        peer.set_nonblocking(true).expect("it is set");
        let mut sent = 0;
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(200);
        while sent < half.len() && std::time::Instant::now() < deadline {
            match peer.write(&half[sent..]) {
                Ok(some) => sent += some,
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        }
        peers.push(peer);
    }
    let grown = anonymous(agent.pid()).saturating_sub(before);
    assert!(grown < 64, "{grown} MiB for halves of frames");
    // What they hold is free again once they are gone.
    drop(peers);
    let mut peer = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    peer.write_all(b"{\"n\":1}\n").expect("it is sent");
    eventually("a whole line is taken", || {
        lines_of(&folder.path("out"), "events.ndjson").iter().any(|line| line == "{\"n\":1}")
    });
    agent.assert_books();
}
