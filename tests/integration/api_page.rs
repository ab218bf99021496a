//! `docs/api.md`: a request and its answer for each route, made by asking a running agent, so that it cannot go stale.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use weir::api::routes::{ROUTES, Route, Who};

use crate::support::{Agent, Folder, eventually, free_port, post, request};

/// A request that shows a route: method and route, its address, and its body.
type Request = (&'static str, &'static str, &'static str, &'static str);

/// Every route but the files of the page has one. `DEAD` stands for the id of a dead letter, `TOKEN` for a token.
const REQUESTS: &[Request] = &[
    ("GET", "/health", "/health", ""),
    ("GET", "/ready", "/ready", ""),
    ("GET", "/metrics", "/metrics", ""),
    ("GET", "/version", "/version", ""),
    ("GET", "/openapi.json", "/openapi.json", ""),
    ("POST", "/api/login", "/api/login", "{\"token\":\"TOKEN\"}"),
    ("POST", "/api/logout", "/api/logout", ""),
    ("GET", "/api/me", "/api/me", ""),
    ("POST", "/api/stream-ticket", "/api/stream-ticket", ""),
    ("GET", "/api/activity/recent", "/api/activity/recent?limit=1", ""),
    ("GET", "/api/activity/summary", "/api/activity/summary", ""),
    ("GET", "/api/activity/stats", "/api/activity/stats?days=1", ""),
    ("GET", "/api/activity/search", "/api/activity/search?query=pandas", ""),
    ("GET", "/api/recent-activity", "/api/recent-activity", ""),
    ("GET", "/api/search-code", "/api/search-code?query=pandas", ""),
    ("GET", "/api/admin/all-users-activity", "/api/admin/all-users-activity?sort=errors", ""),
    ("GET", "/api/admin/system-stats", "/api/admin/system-stats", ""),
    ("GET", "/api/admin/all-activity", "/api/admin/all-activity", ""),
    ("GET", "/api/admin/activity", "/api/admin/activity?success_filter=failed&limit=1", ""),
    ("GET", "/api/admin/activity/stream", "/api/admin/activity/stream", ""),
    ("GET", "/api/logs", "/api/logs?q=status:error&limit=1", ""),
    ("POST", "/api/logs", "/api/logs", "{\"event_type\":\"order_created\",\"entity_id\":\"17\"}"),
    ("GET", "/api/logs/export", "/api/logs/export?format=csv&columns=timestamp,user_id,status,code", ""),
    ("GET", "/api/logs/{id}", "/api/logs/0190163d-8694-739b-aea5-966c26f8ad91", ""),
    ("GET", "/api/logs/{id}/context", "/api/logs/0190163d-8694-739b-aea5-966c26f8ad91/context?limit=1", ""),
    ("GET", "/api/logs/stats", "/api/logs/stats?group_by=user_id,status&user_id=ali", ""),
    ("GET", "/api/logs/histogram", "/api/logs/histogram?interval=1d&user_id=ali", ""),
    ("GET", "/api/fields", "/api/fields?prefix=s", ""),
    ("GET", "/api/fields/{field}/values", "/api/fields/status/values", ""),
    ("GET", "/api/sessions", "/api/sessions?user_id=ali", ""),
    ("GET", "/ws/logs", "/ws/logs?q=status:error", ""),
    ("GET", "/api/stream", "/api/stream?q=status:error", ""),
    ("GET", "/get_logs", "/get_logs?format=summary&session_id=s-1", ""),
    ("GET", "/api/pipeline", "/api/pipeline", ""),
    ("GET", "/api/config", "/api/config", ""),
    ("POST", "/api/reload", "/api/reload", ""),
    ("GET", "/api/dlq", "/api/dlq?limit=1", ""),
    ("GET", "/api/dlq/{id}", "/api/dlq/DEAD", ""),
    ("POST", "/api/dlq/{id}/replay", "/api/dlq/DEAD/replay", ""),
    ("DELETE", "/api/dlq/{id}", "/api/dlq/DEAD", ""),
];

fn events() -> Vec<Value> {
    vec![
        json!({ "id": "0190163d-8694-739b-aea5-966c26f8ad91", "timestamp": "2026-01-02T03:04:05Z", "event_type": "code_execution",
                "user_id": "ali", "session_id": "s-1", "cell_number": 1, "code": "import pandas as pd", "status": "success", "duration_ms": 12.5 }),
        json!({ "id": "0190163d-8694-739b-aea5-966c26f8ad92", "timestamp": "2026-01-02T03:05:05Z", "event_type": "code_execution",
                "user_id": "ali", "session_id": "s-1", "cell_number": 2, "code": "1 / 0", "status": "error", "duration_ms": 1,
                "error_message": "ZeroDivisionError: division by zero" }),
    ]
}

#[test]
fn the_page_about_the_api_is_fresh() {
    let (folder, port, rough) = (Folder::new(), free_port(), free_port());
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n  \
             rough: {{ type: http, address: '127.0.0.1:{rough}', on_bad: dead_letter }}\n\
             transforms:\n  named: {{ type: normalize, inputs: [web, rough] }}\n\
             sinks:\n  events: {{ type: store, inputs: [named], batch: {{ age: 10ms }} }}\n"
        ),
    );
    let body: String = events().iter().map(|event| format!("{event}\n")).collect();
    assert_eq!(post(port, &body), 2);
    eventually("they are stored", || agent.metric("weir_events_delivered_total", "events") == 2);
    for bad in ["{\"user_id\": ", "[1,"] {
        request(rough, "POST", "/", &[], bad.as_bytes()).expect("the source answers");
    }
    let (user, admin) = (agent.token_of("ali", "user"), agent.token());
    let mut page = String::from(
        "# API\n\nMade by `BLESS=1 cargo test --test integration api_page` from a running agent; don't edit it.\n\n\
         Requests are commands for a shell, against an agent on this machine:\n\n\
         ```\nWEIR=http://127.0.0.1:8686\nTOKEN=$(weir token --user root --role admin)\n```\n\n\
         Routes about own executions are shown as `ali` sees them (`--user ali --role user`). An error is a problem document\n\
         with a `detail` that names the parameter. A list whose search reaches its deadline has what was found so far,\n\
         `is_partial: true`, and a `next` that goes on.\n",
    );
    for route in ROUTES {
        describe(&mut page, route);
        let shown = REQUESTS.iter().find(|(method, shown, ..)| *shown == route.path && *method == route.method);
        let Some((_, _, path, body)) = shown else {
            assert!(
                matches!(route.path, "/" | "/logs") || route.path.starts_with("/ui/"),
                "{} has no example",
                route.path
            );
            continue;
        };
        let is_own = route.path.starts_with("/api/activity")
            || matches!(route.path, "/api/recent-activity" | "/api/search-code");
        let asked = Asked { agent: &agent, token: if is_own { &user } else { &admin } };
        let answer = match route.path {
            "/ws/logs" => asked.frame(path),
            path if path.ends_with("stream") => asked.events(shown.expect("it was just found").2),
            _ => asked.answer(route, path, body),
        };
        let command = command(route, path, body).replace("DEAD", DEAD);
        let _ = write!(page, "\n```\n{command}\n\n{}\n```\n", answer.trim_end());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = found.lines().zip(page.lines()).find(|(found, made)| found != made);
    assert!(found == page, "docs/api.md is stale: run `BLESS=1 cargo test --test integration api_page`; {differing:?}");
}

/// The id of a dead letter, and the `seq` of an event, as the page has them.
const DEAD: &str = "01m8hp1b1x";
const SEQ: u64 = 1_767_322_985_000_001;

/// The command that asks, for a shell with `WEIR` and `TOKEN`.
fn command(route: &Route, path: &str, body: &str) -> String {
    let token = if route.who == Who::Open { "" } else { " -H \"Authorization: Bearer $TOKEN\"" };
    if route.path == "/ws/logs" {
        return format!("websocat --origin http://127.0.0.1:8686{token} \"ws://127.0.0.1:8686{path}\"");
    }
    let method = if route.method == "GET" { String::new() } else { format!(" -X {}", route.method) };
    let is_stream = if route.path.ends_with("stream") { " -N" } else { "" };
    let body = match body {
        "" => String::new(),
        body if body.contains("TOKEN") => format!(" -d \"{}\"", body.replace('"', "\\\"").replace("TOKEN", "$TOKEN")),
        body => format!(" -d '{body}'"),
    };
    format!("curl{method}{is_stream}{token} \"$WEIR{path}\"{body}")
}

struct Asked<'a> {
    agent: &'a Agent,
    token: &'a str,
}

impl Asked<'_> {
    /// The answer to the command as it is shown.
    fn answer(&self, route: &Route, path: &str, body: &str) -> String {
        let mut command = command(route, path, body);
        if path.contains("DEAD") {
            let token = format!("Bearer {}", self.token);
            let all =
                request(self.agent.api, "GET", "/api/dlq", &[("Authorization", &token)], b"").expect("it answers");
            let id = all.json()["dead_letters"][0]["id"].as_str().expect("there is a dead letter").to_owned();
            command = command.replace("DEAD", &id);
        }
        let (text, status) = self.run(&command);
        if path == "/metrics" {
            let is_shown = |line: &&str| line.contains("weir_events_received_total");
            return text.lines().filter(is_shown).collect::<Vec<_>>().join("\n");
        }
        if !text.starts_with(['{', '[']) {
            assert_eq!(status, 200, "{path}: {text}");
            return text;
        }
        assert!(status == 200 || status == 409, "{path}: {text}");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        steady(&mut answer);
        match path {
            "/openapi.json" => ["paths", "components"].into_iter().for_each(|name| answer[name] = json!("…")),
            // One component of many, whose numbers differ.
            "/api/pipeline" => {
                let components = answer["components"].as_array_mut().expect("components");
                components.retain(|component| component["name"] == "events");
                ones(&mut answer);
            }
            _ => {}
        }
        format!("{answer:#}")
    }

    /// What a shell makes of a command: the answer and its status.
    fn run(&self, command: &str) -> (String, u16) {
        let out = Command::new("sh")
            .args(["-c", &format!("{command} -s -w '\\n%{{http_code}}'")])
            .env("WEIR", format!("http://127.0.0.1:{}", self.agent.api))
            .env("TOKEN", self.token)
            .output()
            .expect("a shell runs");
        let text = String::from_utf8(out.stdout).expect("text");
        let (text, status) = text.rsplit_once('\n').expect("a status behind the answer");
        (text.to_owned(), status.parse().unwrap_or_else(|_| panic!("{command}: {text}")))
    }

    fn connect(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.agent.api)).expect("the agent listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let (api, token) = (self.agent.api, self.token);
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{api}\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("it can be written");
        stream
    }

    /// What a stream of server-sent events says up to its first event.
    fn events(&self, path: &str) -> String {
        let mut stream = self.connect(path, "Last-Event-ID: 0\r\n");
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        let is_whole = |text: &str| {
            let found = text.find("event: log").or_else(|| text.find("new_activity"));
            found.is_some_and(|at| text[at..].contains("\n\n"))
        };
        while !is_whole(&text) {
            let read = stream.read(&mut buffer).expect("an event comes");
            assert!(read > 0, "{path}: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        let end = body.find("event: log").or_else(|| body.find("new_activity")).expect("it was just found");
        let end = end + body[end..].find("\n\n").expect("the end of an event");
        // Lines of the stream end with \n alone, those of the chunks around them with \r\n.
        let lines = body[..end].split('\n').filter(|line| !line.ends_with('\r'));
        let lines = lines.map(|line| match (line.strip_prefix("data: "), line.starts_with("id: ")) {
            (Some(data), _) => {
                let mut data: Value = serde_json::from_str(data).expect("JSON");
                steady(&mut data);
                format!("data: {data}")
            }
            (None, true) => format!("id: {SEQ}"),
            (None, false) => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The first frame of a WebSocket.
    fn frame(&self, path: &str) -> String {
        let origin = format!("Origin: http://127.0.0.1:{}\r\n", self.agent.api);
        let headers = format!(
            "{origin}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        let mut stream = self.connect(&format!("{path}&last_event_id=0"), &headers);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let mut first = [0; 4];
        stream.read_exact(&mut first).expect("a frame");
        assert_eq!(first[..2], [0x81, 126], "a text of 126 to 65,535 bytes");
        let mut text = vec![0; usize::from(u16::from_be_bytes([first[2], first[3]]))];
        stream.read_exact(&mut text).expect("the whole frame");
        let mut frame: Value = serde_json::from_slice(&text).expect("JSON");
        steady(&mut frame);
        format!("{frame:#}")
    }
}

fn ones(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(ones),
        Value::Array(items) => items.iter_mut().for_each(ones),
        Value::Number(_) => *value = json!(1),
        _ => {}
    }
}

fn describe(page: &mut String, route: &Route) {
    let who = match route.who {
        Who::Open => "everybody",
        Who::Reader | Who::StreamReader => "users (their own events), viewers (previews), administrators",
        Who::Exporter => "users (their own events), administrators",
        Who::Admin | Who::StreamAdmin => "administrators",
        Who::Sender => "services, users, administrators",
    };
    let _ = write!(page, "\n## {} {}\n\n{}. For {who}.\n", route.method, route.path, route.about);
    let parameters: Vec<_> = route.parameters.iter().flat_map(|some| some.iter()).collect();
    if !parameters.is_empty() {
        page.push_str("\n| parameter | |\n|---|---|\n");
        for parameter in parameters {
            let _ = writeln!(page, "| `{}` | {} |", parameter.name, parameter.about.replace('|', "\\|"));
        }
    }
}

/// Ids of dead letters are made anew each time; they are shorter than those of events.
fn shorten(value: &mut Value) {
    if value.as_str().is_some_and(|id| id.len() == DEAD.len()) {
        *value = json!(DEAD);
    }
}

/// Whether it is a time that the events of this page say themselves.
fn is_of_an_event(value: &Value) -> bool {
    value.as_str().is_some_and(|time| time.starts_with("2026-01-02"))
}

/// What differs from run to run gets a value that stays.
fn steady(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "limit_bytes" => *value = json!(1),
                    "seq" if value.is_u64() => *value = json!(SEQ),
                    "received_at" | "expires" | "since" | "time" | "last_event" if !is_of_an_event(value) => {
                        *value = json!("2026-01-02T03:05:06.000Z");
                    }
                    "date" if value.is_string() => *value = json!("2026-01-02"),
                    "ticket" => *value = json!("xkRMfWOpPVFaoEU3qEjPqGmBf2dEGUe0"),
                    "address" => *value = json!("127.0.0.1:8687"),
                    "version" => *value = json!("0.1.0"),
                    "data_dir" => *value = json!("/var/lib/weir"),
                    "id" | "next" => shorten(value),
                    _ => steady(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(steady),
        _ => {}
    }
}
