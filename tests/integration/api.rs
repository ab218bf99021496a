//! The API from outside: who may do what, and live streams that resume.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::support::{Agent, Answer, Folder, eventually, free_port, lines_of, post, request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// An HTTP source shown live and counted by a sink.
fn live(port: u16) -> String {
    format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  live: {{ type: sse, inputs: [web, api] }}\n  out: {{ type: blackhole, inputs: [web], batch: {{ age: 20ms }} }}\n"
    )
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn ask(agent: &Agent, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
    let value = token.map(bearer);
    let headers: Vec<(&str, &str)> = value.iter().map(|value| ("Authorization", value.as_str())).collect();
    request(agent.api, method, path, &headers, body.as_bytes()).expect("the agent answers")
}

/// A client of `/api/stream` that reads all the time.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    parsed: Mutex<Parsed>,
    socket: TcpStream,
}

/// The whole frames of a text up to a place: whoever waits for many looks at each once.
#[derive(Default)]
struct Parsed {
    to: usize,
    id: u64,
    event: String,
    frames: Vec<(u64, String, Value)>,
}

impl Stream {
    /// Connects and waits for the head of the answer.
    fn open(agent: &Agent, path: &str, headers: &[(&str, &str)]) -> Stream {
        let socket = ask_for_stream(agent, path, headers);
        let text = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (socket.try_clone().expect("a second handle"), text.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                sink.lock().expect("no panic").extend_from_slice(&buffer[..count]);
            }
        });
        let stream = Stream { text, parsed: Mutex::default(), socket };
        eventually("the stream begins", || stream.text().contains("retry:") || stream.text().contains("\"detail\""));
        stream
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no panic")).into_owned()
    }

    /// Id, event name and data of every whole frame; each HTTP chunk holds whole frames.
    fn frames(&self) -> Vec<(u64, String, Value)> {
        self.parsed().frames.clone()
    }

    fn numbers(&self) -> Vec<u64> {
        numbers(&self.parsed().frames)
    }

    fn parsed(&self) -> MutexGuard<'_, Parsed> {
        let mut parsed = self.parsed.lock().expect("no panic");
        let mut more = self.text.lock().expect("no panic")[parsed.to..].to_vec();
        more.truncate(more.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        parsed.to += more.len();
        for line in String::from_utf8_lossy(&more).split_inclusive('\n').map(str::trim_end) {
            if let Some(value) = line.strip_prefix("id: ") {
                parsed.id = value.parse().expect("an id is a number");
            } else if let Some(value) = line.strip_prefix("event: ") {
                parsed.event = value.to_owned();
            } else if let Some(value) = line.strip_prefix("data: ") {
                let frame = (parsed.id, parsed.event.clone(), serde_json::from_str(value).expect("data is JSON"));
                parsed.frames.push(frame);
            }
        }
        parsed
    }

    /// The first `count` frames, once they are there.
    fn wait(&self, count: usize) -> Vec<(u64, String, Value)> {
        eventually(&format!("{count} frames arrive"), || self.parsed().frames.len() >= count);
        self.frames()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn ask_for_stream(agent: &Agent, path: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", agent.api)).expect("the agent listens");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: weir\r\n{headers}\r\n").expect("a request");
    socket
}

fn numbers(frames: &[(u64, String, Value)]) -> Vec<u64> {
    frames.iter().filter(|(_, event, _)| event == "log").filter_map(|(_, _, data)| data["n"].as_u64()).collect()
}

#[test]
fn the_first_start_makes_a_secret_for_this_user_alone() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &live(free_port()));
    let mode = |path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(agent.data_dir.clone()), 0o700);
    assert_eq!(mode(agent.data_dir.join("api.secret")), 0o600);
    let secret = fs::read_to_string(agent.data_dir.join("api.secret")).expect("the secret");
    assert!(!agent.log().contains(secret.trim()), "the secret is not logged");
    let token = agent.token();
    assert_eq!(ask(&agent, "GET", "/api/pipeline", Some(&token), "").status, 200);
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &live(free_port()));
    assert_eq!(ask(&agent, "GET", "/api/pipeline", Some(&token), "").status, 200, "a token outlives a restart");
}

#[test]
fn who_shows_nothing_is_asked_and_who_may_not_is_refused() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &live(free_port()));
    let user = agent.token_of("ali", "user");
    for (method, path) in [
        ("GET", "/api/pipeline"),
        ("GET", "/api/dlq"),
        ("GET", "/api/dlq/1"),
        ("POST", "/api/dlq/1/replay"),
        ("DELETE", "/api/dlq/1"),
        ("POST", "/api/reload"),
    ] {
        let none = ask(&agent, method, path, None, "");
        assert_eq!(none.status, 401, "{method} {path}");
        assert!(none.head.to_lowercase().contains("www-authenticate: bearer"), "{}", none.head);
        assert!(none.json()["detail"].is_string());
        for role in ["user", "viewer", "ingest"] {
            let token = agent.token_of("ali", role);
            assert_eq!(ask(&agent, method, path, Some(&token), "").status, 403, "{role} {method} {path}");
        }
    }
    for path in ["/api/stream", "/api/logs", "/api/stream-ticket"] {
        let method = if path == "/api/stream" { "GET" } else { "POST" };
        assert_eq!(ask(&agent, method, path, None, "{}").status, 401, "{path}");
    }
    for path in ["/health", "/ready", "/metrics", "/version"] {
        assert_eq!(ask(&agent, "GET", path, None, "").status, 200, "{path}");
    }
    let ingest = agent.token_of("svc", "ingest");
    assert_eq!(ask(&agent, "GET", "/api/stream", Some(&ingest), "").status, 403, "a sender may not read");
    let viewer = agent.token_of("vera", "viewer");
    assert_eq!(ask(&agent, "POST", "/api/logs", Some(&viewer), "{}").status, 403, "a viewer may not send");
    let lost = ask(&agent, "GET", "/api/nothing", Some(&user), "");
    assert_eq!(lost.status, 404);
    assert!(lost.head.contains("application/problem+json") && lost.json()["detail"].is_string(), "{}", lost.head);
    let wrong = ask(&agent, "DELETE", "/health", None, "");
    assert_eq!(wrong.status, 405);
    assert!(wrong.head.contains("application/problem+json"), "{}", wrong.head);
    assert!(wrong.head.to_lowercase().contains("\r\nallow: get"), "{}", wrong.head);
    let query = format!("/api/pipeline?token={}", agent.token());
    assert_eq!(ask(&agent, "GET", &query, None, "").status, 401, "only streams take a token in the query");
    let query = format!("/api/stream-ticket?token={user}");
    assert_eq!(ask(&agent, "POST", &query, None, "").status, 401, "only streams take a token in the query");
    let key = agent.token();
    let shown = request(agent.api, "GET", "/api/pipeline", &[("X-API-Key", &key)], b"").expect("an answer");
    assert_eq!(shown.status, 200, "a key does as well");
}

#[test]
fn tokens_that_are_expired_unsigned_or_signed_by_others_are_refused() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &live(free_port()));
    let secret = fs::read_to_string(agent.data_dir.join("api.secret")).expect("the secret");
    let sign = |claims: &Value, secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("a token")
    };
    let far = 4_000_000_000_u64;
    let good = json!({ "sub": "root", "role": "admin", "exp": far });
    assert_eq!(ask(&agent, "GET", "/api/pipeline", Some(&sign(&good, secret.trim())), "").status, 200);
    let flagged = json!({ "sub": "root", "is_admin": true, "exp": far });
    assert_eq!(ask(&agent, "GET", "/api/pipeline", Some(&sign(&flagged, secret.trim())), "").status, 200);
    let signed = sign(&good, secret.trim());
    let payload = signed.split('.').nth(1).expect("a payload");
    // {"alg":"none","typ":"JWT"}
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
    let bad = [
        unsigned,
        sign(&json!({ "sub": "root", "role": "admin", "exp": 1_000_000_000 }), secret.trim()),
        sign(&json!({ "sub": "root", "role": "admin" }), secret.trim()),
        sign(&good, "another secret that is long enough for this"),
        "nonsense".to_owned(),
    ];
    for token in bad {
        assert_eq!(ask(&agent, "GET", "/api/pipeline", Some(&token), "").status, 401, "{token}");
        assert_eq!(ask(&agent, "GET", &format!("/api/stream?token={token}"), None, "").status, 401, "{token}");
    }
}

#[test]
fn a_ticket_opens_one_stream() {
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(&folder, &live(port));
    let made = ask(&agent, "POST", "/api/stream-ticket", Some(&agent.token()), "");
    assert_eq!(made.status, 200, "{}", made.text());
    let ticket = made.json()["ticket"].as_str().expect("a ticket").to_owned();
    let path = format!("/api/stream?ticket={ticket}");
    let stream = Stream::open(&agent, &path, &[]);
    assert!(stream.text().starts_with("HTTP/1.1 200 "), "{}", stream.text());
    assert_eq!(ask(&agent, "GET", &path, None, "").status, 401, "it is used");
    let by_token = Stream::open(&agent, &format!("/api/stream?token={}", agent.token()), &[]);
    post(port, "{\"n\":1}");
    // The failed login is an event, too, and may come first.
    eventually("the ticket's stream has it", || stream.numbers() == [1]);
    eventually("the other stream has it", || by_token.numbers() == [1]);
}

#[test]
fn what_a_user_posts_is_stamped_and_what_a_service_posts_is_reported() {
    let folder = Folder::new();
    let yaml = format!(
        "sinks:\n  file: {{ type: file, inputs: [api], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("out").display()
    );
    let agent = Agent::start(&folder, &yaml);
    let user = agent.token_of("ali", "user");
    let answer = ask(&agent, "POST", "/api/logs", Some(&user), r#"{"user_id":"eve","n":1,"metadata":{"a":2}}"#);
    assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (200, Some(1)), "{}", answer.text());
    let alias = ask(&agent, "POST", "/api/logs", Some(&user), r#"{"username":"eve","n":2}"#);
    assert_eq!(alias.status, 200);
    let ingest = agent.token_of("svc", "ingest");
    let answer = ask(&agent, "POST", "/api/logs", Some(&ingest), r#"{"user_id":"bob","n":3}"#);
    assert_eq!(answer.status, 200);
    eventually("all are written", || lines_of(&folder.path("out"), "out.ndjson").len() == 3);
    let events: Vec<Value> = lines_of(&folder.path("out"), "out.ndjson")
        .iter()
        .map(|line| serde_json::from_str(line).expect("a whole line"))
        .collect();
    assert_eq!((&events[0]["user_id"], &events[0]["metadata"]["claimed_user_id"]), (&json!("ali"), &json!("eve")));
    assert_eq!(events[0]["metadata"]["a"], 2);
    assert_eq!((&events[1]["user_id"], &events[1]["metadata"]["claimed_user_id"]), (&json!("ali"), &json!("eve")));
    assert_eq!((&events[2]["user_id"], &events[2]["reported_by"]), (&json!("bob"), &json!("svc")));
    agent.assert_books();
}

#[test]
fn health_tells_errors_to_this_machine() {
    let folder = Folder::new();
    let port = free_port();
    let blocked = folder.write("blocked", "a file where a folder should be");
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  stuck: {{ type: file, inputs: [web], path: '{}/x/out.ndjson', batch: {{ age: 20ms }} }}\n",
        blocked.display()
    );
    let agent = Agent::start(&folder, &yaml);
    post(port, "{\"n\":1}");
    let sinks = || ask(&agent, "GET", "/health", None, "").json();
    eventually("the error shows", || sinks().to_string().contains("\"message\""));
    let health = ask(&agent, "GET", "/health", None, "");
    assert_eq!(health.status, 200, "the process works");
    let listed = health.json();
    let stuck = listed["components"].as_array().expect("a list").iter().find(|c| c["name"] == "stuck").expect("it");
    assert!(stuck["since"].is_string() && stuck["state"].is_string(), "{stuck}");
    assert_eq!(ask(&agent, "GET", "/ready", None, "").status, 200, "it still accepts");
    eventually("the sink is held", || ask(&agent, "GET", "/health?sinks", None, "").status == 503);
}

#[test]
fn a_stream_has_named_frames_with_their_seq_and_is_not_buffered() {
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(&folder, &live(port));
    let authorization = bearer(&agent.token());
    let stream = Stream::open(&agent, "/api/stream", &[("Authorization", &authorization)]);
    let head = stream.text().to_lowercase();
    for header in ["cache-control: no-cache", "x-accel-buffering: no", "content-type: text/event-stream"] {
        assert!(head.contains(header), "{head}");
    }
    let picky = Stream::open(&agent, "/api/stream?q=status%3Aerror", &[("Authorization", &authorization)]);
    post(port, "{\"n\":1}\n{\"n\":2,\"status\":\"error\"}\n{}\n");
    let frames = stream.wait(3);
    for (id, event, data) in &frames {
        assert_eq!((event.as_str(), data["seq"].as_u64()), ("log", Some(*id)));
    }
    assert!(frames.windows(2).all(|pair| pair[0].0 < pair[1].0), "seqs rise");
    assert_eq!(numbers(&picky.wait(1)), [2]);
    let wrong = ask(&agent, "GET", "/api/stream?q=status%3A", Some(&agent.token()), "");
    assert_eq!(wrong.status, 400);
    let detail = wrong.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains('^') && detail.contains("status:"), "{detail}");
    let wrong =
        request(agent.api, "GET", "/api/stream", &[("Authorization", &authorization), ("Last-Event-ID", "x")], b"");
    assert_eq!(wrong.expect("an answer").status, 400);
}

#[test]
fn a_user_sees_own_events_and_a_viewer_sees_previews() {
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(&folder, &live(port));
    let open = |user: &str, role: &str| {
        let authorization = bearer(&agent.token_of(user, role));
        Stream::open(&agent, "/api/stream", &[("Authorization", &authorization)])
    };
    let (user, viewer, admin) = (open("ali", "user"), open("vera", "viewer"), open("root", "admin"));
    let code = "ü".repeat(150);
    let event =
        |n: u64, user: &str| json!({ "n": n, "user_id": user, "code": code, "error_trace": "deep" }).to_string();
    post(port, &[event(1, "bob"), event(2, "ali"), event(3, "root")].join("\n"));
    let (shown, previews, all) = (user.wait(1), viewer.wait(3), admin.wait(3));
    assert_eq!(numbers(&shown), [2]);
    assert_eq!(shown[0].2["code"], code.as_str(), "one's own is whole");
    for (_, _, data) in &previews {
        assert_eq!(data["code"].as_str().expect("code").chars().count(), 100);
        assert!(data.get("error_trace").is_none(), "{data}");
    }
    assert_eq!(all[0].2["code"].as_str().expect("code").chars().count(), 100);
    assert_eq!(all[2].2["code"], code.as_str());
    assert_eq!(user.numbers(), [2], "and nobody else's");
}

#[test]
fn a_stream_resumes_after_a_restart_with_exactly_what_was_missed() {
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(&folder, &live(port));
    let authorization = bearer(&agent.token());
    let stream = Stream::open(&agent, "/api/stream", &[("Authorization", &authorization)]);
    let body = |range: std::ops::Range<u64>| range.map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>();
    post(port, &body(0..5));
    let frames = stream.wait(5);
    drop(stream);
    let last = frames[2].0.to_string();
    post(port, &body(5..8));
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &live(port));
    let resumed = Stream::open(&agent, "/api/stream", &[("Authorization", &authorization), ("Last-Event-ID", &last)]);
    assert_eq!(numbers(&resumed.wait(5)), [3, 4, 5, 6, 7]);
    post(port, &body(8..10));
    let all = resumed.wait(7);
    assert_eq!(numbers(&all), (3..10).collect::<Vec<_>>());
    assert!(all.iter().all(|(_, event, _)| event == "log"), "{all:?}");
}

/// Posts events that do not pack, numbered from 1 on, until the journal has let go of one behind `first`; gives the next.
fn until_the_journal_lets_go(agent: &Agent, port: u16, first: u64) -> u64 {
    let mut state = 1_u64;
    let mut noise = || {
        let word = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{:016x}", state)
        };
        (0..4000).map(word).collect::<String>()
    };
    let mut n = 1;
    eventually("the journal lets the first events go", || {
        let line = |i: u64| format!("{{\"n\":{i},\"user_id\":\"u{}\",\"code\":\"{}\"}}\n", i % 2, noise());
        post(port, &(n..n + 16).map(line).collect::<String>());
        n += 16;
        oldest_seq(agent) > first + 2
    });
    n
}

fn oldest_seq(agent: &Agent) -> u64 {
    let pipeline = ask(agent, "GET", "/api/pipeline", Some(&agent.token()), "").json();
    pipeline["journal"]["oldest_seq"].as_u64().expect("a number")
}

#[test]
fn what_the_journal_no_longer_has_comes_from_the_store_and_what_that_has_not_is_told_as_a_gap() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = |sinks: &str| {
        format!(
            "journal: {{ max_bytes: 64MiB, keep: {{ bytes: 1MiB, age: 1h }} }}\nsources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             sinks:\n  out: {{ type: blackhole, inputs: [web] }}\n{sinks}"
        )
    };
    let before = Agent::start(&folder, &yaml(""));
    let first = oldest_seq(&before);
    post(port, "{\"n\":-1}\n{\"n\":0}\n");
    assert!(before.stop().success());
    let stored = yaml("  kept: { type: store, inputs: [web] }\n");
    let mut agent = Agent::start(&folder, &stored);
    let n = until_the_journal_lets_go(&agent, port, first);
    let token = |user: &str, role: &str| agent.token_of(user, role);
    let (admin, own) = (bearer(&token("boss", "admin")), bearer(&token("u1", "user")));
    for is_restarted in [false, true] {
        if is_restarted {
            assert!(agent.stop().success());
            agent = Agent::start(&folder, &stored);
        }
        let resume =
            |path: &str, token: &str| Stream::open(&agent, path, &[("Authorization", token), ("Last-Event-ID", "0")]);
        let all = resume("/api/stream", &admin);
        eventually("all that is stored comes", || all.numbers().last() == Some(&(n - 1)));
        let frames = all.frames();
        assert_eq!((&*frames[0].1, &frames[0].2["missed"]), ("gap", &json!(2)), "{:?}", frames[0]);
        assert_eq!(numbers(&frames[1..]), (1..n).collect::<Vec<_>>());
        assert!(frames.is_sorted_by(|a, b| a.0 < b.0));
        assert!(
            frames[1..].iter().all(|(_, event, data)| event == "log" && data["code"].as_str().unwrap().len() == 100)
        );
        let mine = resume("/api/stream", &own);
        eventually("so do a user's own", || mine.numbers().last() == Some(&(n - 2)));
        let odd: Vec<u64> = (1..n).filter(|n| n % 2 == 1).collect();
        assert_eq!(numbers(&mine.frames()[1..]), odd);
        let few = resume("/api/stream?q=n:3", &admin);
        assert_eq!(numbers(&few.wait(2)[1..]), [3]);
    }
}

#[test]
fn what_the_journal_no_longer_has_is_told_as_a_gap() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = format!("journal: {{ max_bytes: 64MiB, keep: {{ bytes: 1MiB, age: 1h }} }}\n{}", live(port));
    let agent = Agent::start(&folder, &yaml);
    let authorization = bearer(&agent.token());
    let stream = Stream::open(&agent, "/api/stream", &[("Authorization", &authorization)]);
    post(port, "{\"n\":0}\n");
    let first = stream.wait(1)[0].0;
    drop(stream);
    let n = until_the_journal_lets_go(&agent, port, first);
    let resumed = Stream::open(
        &agent,
        "/api/stream",
        &[("Authorization", &authorization), ("Last-Event-ID", &first.to_string())],
    );
    assert_eq!(resumed.wait(1)[0].1, "gap");
    eventually("the rest follows", || resumed.numbers().last() == Some(&(n - 1)));
    // The journal may let more go while it is read: then there is one more gap.
    let (mut next, mut last_id) = (1, 0);
    for (id, event, data) in resumed.frames() {
        if event == "gap" {
            next += data["missed"].as_u64().expect("a count");
        } else if let Some(number) = data["n"].as_u64() {
            assert_eq!(number, next, "the gap says how many were missed");
            next += 1;
        }
        assert!(id > last_id);
        last_id = id;
    }
    assert_eq!(next, n);
}

#[test]
fn a_client_that_never_reads_slows_nobody() {
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(&folder, &live(port));
    let authorization = bearer(&agent.token());
    let stalled = ask_for_stream(&agent, "/api/stream", &[("Authorization", &authorization)]);
    eventually("it is a client", || agent.metrics().get("weir_stream_clients") == Some(&1.0));
    let padding = "x".repeat(900);
    for round in 0..20 {
        let body: String =
            (0..1000).map(|n| format!("{{\"n\":{},\"code\":\"{padding}\"}}\n", round * 1000 + n)).collect();
        assert_eq!(post(port, &body), 1000);
    }
    eventually("all is delivered", || agent.metric("weir_events_delivered_total", "out") == 20_000);
    agent.assert_books();
    drop(stalled);
    eventually("it is forgotten", || agent.metrics().get("weir_stream_clients") == Some(&0.0));
    assert!(agent.stop().success());
}

#[test]
fn without_a_live_sink_there_is_no_stream() {
    let folder = Folder::new();
    let port = free_port();
    let sources = format!("sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n");
    let agent = Agent::start(&folder, &format!("{sources}sinks:\n  out: {{ type: blackhole, inputs: [web] }}\n"));
    let answer = ask(&agent, "GET", "/api/stream", Some(&agent.token()), "");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["detail"].as_str().expect("a detail").contains("sse"), "{}", answer.text());
    agent.configure(&folder, &live(port));
    let reloaded = ask(&agent, "POST", "/api/reload", Some(&agent.token()), "");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    let authorization = bearer(&agent.token());
    let stream = Stream::open(&agent, "/api/stream", &[("Authorization", &authorization)]);
    post(port, "{\"n\":1}");
    eventually("a reload can bring it", || stream.numbers() == [1]);
}

#[test]
fn one_user_cannot_take_every_live_slot() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &live(free_port()));
    let ali = format!("/api/stream?token={}", agent.token_of("ali", "user"));
    let open: Vec<Stream> = (0..50).map(|_| Stream::open(&agent, &ali, &[])).collect();
    assert!(open.iter().all(|stream| stream.text().starts_with("HTTP/1.1 200 ")));
    assert!(Stream::open(&agent, &ali, &[]).text().starts_with("HTTP/1.1 429 "));
    let sara = format!("/api/stream?token={}", agent.token_of("sara", "user"));
    assert!(Stream::open(&agent, &sara, &[]).text().starts_with("HTTP/1.1 200 "));
}

/// Clients that never read, each with a filter of its own: the frames kept for all of them have one budget, and a client
/// that reads is shown everything all the same.
#[test]
fn clients_that_do_not_read_hold_little_memory_and_nobody_up() {
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(&folder, &format!("limits: {{ memory: 64MiB }}\n{}", live(port)));
    let token = agent.token();
    let lazy: Vec<TcpStream> = (0..40)
        .map(|n| ask_for_stream(&agent, &format!("/api/stream?token={token}&q=-n:{}", 1_000_000 + n), &[]))
        .collect();
    let eager = Stream::open(&agent, &format!("/api/stream?token={}", agent.token_of("root2", "admin")), &[]);
    let resident = || agent.metrics().get("process_resident_memory_bytes").copied().unwrap_or(0.0);
    let before = resident();
    let filler = "x".repeat(2000);
    for first in (0..6000).step_by(500) {
        let body: String = (first..first + 500).map(|n| format!("{{\"n\":{n},\"x\":\"{filler}\"}}\n")).collect();
        assert_eq!(post(port, &body), 500);
    }
    eventually("the one that reads has all", || eager.numbers().len() == 6000);
    assert_eq!(eager.numbers(), (0..6000).collect::<Vec<_>>());
    // Twelve megabytes for each of forty filters would be half a gigabyte.
    let grown = (resident() - before) / 1024.0 / 1024.0;
    assert!(grown < 100.0, "it grew by {grown} MiB");
    drop(lazy);
}

#[test]
fn a_thousand_clients_of_whom_a_hundred_never_read_get_everything_within_the_memory() {
    let (_, hard) = raise_descriptors();
    assert!(hard > 2500, "the test needs more files than {hard}");
    let folder = Folder::new();
    let port = free_port();
    let agent = Agent::start(&folder, &live(port));
    let tokens: Vec<String> = (0..20).map(|n| agent.token_of(&format!("admin{n}"), "admin")).collect();
    let path = |n: usize, q: &str| format!("/api/stream?token={}&q={q}", tokens[n % tokens.len()]);
    let stalled: Vec<TcpStream> = (0..100).map(|n| ask_for_stream(&agent, &path(n, "has:n"), &[])).collect();
    let reading: Vec<Stream> = (100..1000).map(|n| Stream::open(&agent, &path(n, "to:all"), &[])).collect();
    eventually("all are clients", || agent.metrics().get("weir_stream_clients") == Some(&1000.0));
    assert!(Stream::open(&agent, &path(0, "has:n"), &[]).text().starts_with("HTTP/1.1 429 "));
    let filler = "x".repeat(2000);
    for round in 0..20 {
        let body: String = (0..250)
            .map(|n| match n {
                0..10 => format!("{{\"n\":{},\"to\":\"all\"}}\n", round * 10 + n),
                _ => format!("{{\"n\":{n},\"to\":\"nobody\",\"x\":\"{filler}\"}}\n"),
            })
            .collect();
        assert_eq!(post(port, &body), 250);
    }
    agent.delivered("out", 5000);
    let all: Vec<u64> = (0..200).collect();
    eventually("whoever reads has all", || reading.iter().all(|stream| stream.numbers().len() == 200));
    assert!(reading.iter().all(|stream| stream.numbers() == all));
    let resident = agent.metrics()["process_resident_memory_bytes"] / 1024.0 / 1024.0;
    assert!(resident < 256.0, "{resident} MiB");
    agent.assert_books();
    drop(stalled);
}

/// As many open files as the machine allows this process, before and after.
fn raise_descriptors() -> (u64, u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("it may be raised");
    (limit.current.unwrap_or(u64::MAX), hard)
}
