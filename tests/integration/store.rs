//! The store and the API over it, as readers of every role meet them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};
use weir::api::routes::{ROUTES, Who};

use crate::support::{Agent, Answer, Folder, eventually, free_port, post, request};
use crate::systems::Stream;

const SECRET: &str = "a secret of more than thirty-two bytes, for tests";

fn yaml(port: u16) -> String {
    format!(
        "  auth: {{ jwt: {{ secret: '{SECRET}' }} }}\n\
         sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [web, api] }}\n\
         sinks:\n  events: {{ type: store, inputs: [named], batch: {{ age: 10ms }} }}\n"
    )
}

struct Running {
    agent: Agent,
    port: u16,
    folder: Folder,
}

impl Running {
    fn start() -> Running {
        let (folder, port) = (Folder::new(), free_port());
        let agent = Agent::start(&folder, &yaml(port));
        Running { agent, port, folder }
    }

    /// Sends events and waits until reads see them.
    fn send(&self, events: &[Value]) {
        let before = self.agent.metric("weir_events_delivered_total", "events");
        let body: String = events.iter().map(|event| format!("{event}\n")).collect();
        assert_eq!(post(self.port, &body), events.len() as u64);
        eventually("they are stored", || {
            self.agent.metric("weir_events_delivered_total", "events") >= before + events.len() as u64
        });
    }

    fn ask(&self, method: &str, path: &str, token: Option<&str>) -> Answer {
        let value = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = value.iter().map(|value| ("Authorization", value.as_str())).collect();
        request(self.agent.api, method, path, &headers, b"").expect("the agent answers")
    }

    fn get(&self, path: &str, who: (&str, &str)) -> Value {
        let answer = self.ask("GET", path, Some(&token(who.0, who.1)));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

fn token(user: &str, role: &str) -> String {
    let claims = json!({ "sub": user, "role": role, "exp": 4_000_000_000_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

const ADMIN: (&str, &str) = ("root", "admin");
const ALI: (&str, &str) = ("ali", "user");
const GUEST: (&str, &str) = ("guest", "viewer");

/// Events of two users, each with something that the other must not find.
fn two_users() -> Vec<Value> {
    vec![
        json!({ "user_id": "ali", "code": "import pandas as pd\nprint('سلام')", "status": "success", "duration_ms": 10,
                "session_id": "s-ali", "cell_number": 1, "timestamp": "2026-01-02T03:04:05Z", "event_type": "code_execution" }),
        json!({ "user_id": "ali", "code": "1 / 0", "status": "error", "error_message": "ZeroDivisionError: division by zero",
                "session_id": "s-ali", "cell_number": 2, "timestamp": "2026-01-02T03:05:05Z", "event_type": "code_execution" }),
        json!({ "user_id": "sara", "code": format!("{}zebrasecret", "x = 1 # padding\n".repeat(10)), "status": "success",
                "duration_ms": 30, "session_id": "s-sara", "timestamp": "2026-01-03T00:00:00Z", "event_type": "code_execution",
                "error_trace": "hiddentrace", "metadata": { "note": "zebranote" }, "entity_type": "order", "entity_id": "7" }),
    ]
}

#[test]
fn a_user_sees_own_executions_in_every_form() {
    let running = Running::start();
    running.send(&two_users());
    let recent = running.get("/api/activity/recent", ALI);
    assert_eq!(recent["count"], 2);
    let first = &recent["activities"][0];
    for name in [
        "id",
        "timestamp",
        "username",
        "session_id",
        "cell_number",
        "code",
        "execution_time_ms",
        "status",
        "error_message",
    ] {
        assert!(first.get(name).is_some(), "{name} is missing in {first}");
    }
    assert_eq!(
        (&first["code"], &first["username"], &first["execution_time_ms"]),
        (&json!("1 / 0"), &json!("ali"), &Value::Null)
    );
    let summary = running.get("/api/activity/summary", ALI);
    assert_eq!(
        (
            &summary["total_executions"],
            &summary["error_count"],
            &summary["total_errors"],
            &summary["success_rate"],
            &summary["avg_execution_time_ms"]
        ),
        (&json!(2), &json!(1), &json!(1), &json!(50.0), &json!(10.0))
    );
    let stats = running.get("/api/activity/stats?days=3", ALI);
    assert_eq!(stats["days"].as_array().map(Vec::len), Some(3), "empty days are there");
    assert_eq!(running.get("/api/activity/search?query=PANDAS", ALI)["count"], 1);
    assert_eq!(running.get("/api/activity/search?query=%D8%B3%D9%84%D8%A7%D9%85", ALI)["count"], 1);
    assert_eq!(running.get("/api/activity/search?query=%25", ALI)["count"], 0, "a percent sign is itself");
    assert_eq!(running.get("/api/activity/search?query=zebrasecret", ALI)["count"], 0, "another's code");
    let cells = running.get("/api/recent-activity", ALI);
    assert_eq!(cells[0], json!({ "time": "2026-01-02T03:05:05Z", "cell": 2, "code": "1 / 0", "status": "error" }));
    assert_eq!(running.get("/api/search-code?query=print", ALI).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_user_whose_id_is_a_number_sees_own_events_however_they_spell_it() {
    let running = Running::start();
    let event = |user: Value, n: u32| json!({ "user_id": user, "code": format!("n = {n}"), "status": "success" });
    running.send(&[event(json!(4711), 1), event(json!("4711"), 2), event(json!(47), 3), event(json!(true), 4)]);
    let user = ("4711", "user");
    for (path, count) in [("/api/logs", "total"), ("/api/activity/recent", "count"), ("/api/logs?q=code:n", "total")] {
        assert_eq!(running.get(path, user)[count], 2, "{path}");
    }
    assert_eq!(running.get("/api/activity/summary", user)["total_executions"], 2);
    let stream = format!("/api/stream?last_event_id=1&token={}", token("4711", "user"));
    let stream = Stream::open(running.agent.api, &stream);
    eventually("both are sent again", || stream.heard().matches("event: log").count() == 2);
    assert_eq!(running.get("/api/logs", ("true", "user"))["total"], 0);
}

#[test]
fn nothing_of_foreign_events_is_seen_by_a_user_and_nothing_hidden_by_a_viewer() {
    let running = Running::start();
    running.send(&two_users());
    let all = running.get("/api/logs", ADMIN);
    let foreign =
        all["logs"].as_array().expect("rows").iter().find(|row| row["user_id"] == "sara").expect("a row").clone();
    assert_eq!(foreign["code"].as_str().map(|code| code.chars().count()), Some(100), "a preview");
    let id = foreign["id"].as_str().expect("an id");
    let user = token(ALI.0, ALI.1);
    assert_eq!(running.ask("GET", &format!("/api/logs/{id}"), Some(&user)).status, 404);
    assert_eq!(running.ask("GET", &format!("/api/logs/{}", foreign["seq"]), Some(&user)).status, 404);
    for query in [
        "user_id=sara",
        "q=zebrasecret",
        "q=zebranote",
        "q=user_id:sara",
        "entity_id=7",
        "session_id=s-sara",
        "q=-user_id:ali",
    ] {
        assert_eq!(running.get(&format!("/api/logs?{query}"), ALI)["total"], 0, "{query}");
    }
    for path in [
        "/api/logs/stats",
        "/api/logs/stats?group_by=user_id",
        "/api/logs/histogram",
        "/api/sessions",
        "/api/fields/user_id/values",
        "/api/fields/entity_id/values",
        "/api/logs/export?format=json",
        "/api/logs/export?format=csv",
        "/api/fields",
    ] {
        let answer = running.ask("GET", path, Some(&user));
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.text();
        assert!(!text.contains("sara") && !text.contains("zebra"), "{path}: {text}");
    }
    assert_eq!(running.get("/api/logs/stats", ALI)["total_logs"], 2);
    assert_eq!(running.get("/get_logs?format=summary&session_id=s-sara", ALI)["total_activities"], 0);
    // A viewer finds what is shown, and nothing behind it.
    assert_eq!(running.get("/api/logs?q=code:padding", GUEST)["total"], 1);
    for query in
        ["q=zebrasecret", "q=code:zebrasecret", "q=hiddentrace", "q=has:error_trace", "q=error_trace:hiddentrace"]
    {
        assert_eq!(running.get(&format!("/api/logs?{query}"), GUEST)["total"], 0, "{query}");
    }
    assert_eq!(
        running.get("/api/logs?q=has:code%20-code:zebrasecret", GUEST)["total"],
        3,
        "what is hidden is not told by its absence"
    );
    assert!(running.get(&format!("/api/logs/{id}"), GUEST).get("error_trace").is_none());
    assert_eq!(running.ask("GET", "/api/logs/export", Some(&token(GUEST.0, GUEST.1))).status, 403);
    // An administrator sees one event whole.
    assert!(running.get(&format!("/api/logs/{id}"), ADMIN)["code"].as_str().expect("code").ends_with("zebrasecret"));
}

#[test]
fn every_route_lets_in_whom_it_says_and_nobody_else() {
    let running = Running::start();
    running.send(&two_users());
    let tokens = [
        ("user", token("ali", "user")),
        ("viewer", token("guest", "viewer")),
        ("admin", token("root", "admin")),
        ("ingest", token("svc", "ingest")),
    ];
    for route in ROUTES {
        let path = route.path.replace("{id}", "1").replace("{field}", "status");
        if route.path.contains("stream") || route.path == "/ws/logs" || route.path == "/api/reload" {
            continue;
        }
        let anonymous = running.ask(route.method, &path, None).status;
        assert_eq!(anonymous == 401, route.who != Who::Open, "{} {path} without a token: {anonymous}", route.method);
        for (role, token) in &tokens {
            let status = running.ask(route.method, &path, Some(token)).status;
            let may = match route.who {
                Who::Open => true,
                Who::Reader | Who::StreamReader => *role != "ingest",
                Who::Exporter => matches!(*role, "user" | "admin"),
                Who::Admin | Who::StreamAdmin => *role == "admin",
                Who::Sender => *role != "viewer",
            };
            assert_eq!(status != 403, may, "{} {path} as {role}: {status}", route.method);
            assert!(status != 401 && status != 500, "{} {path} as {role}: {status}", route.method);
        }
    }
}

#[test]
fn what_is_not_understood_is_named() {
    let running = Running::start();
    let admin = token("root", "admin");
    for (path, named) in [
        ("/api/logs?limits=1", "limits"),
        ("/api/logs?limit=1001", "limit"),
        ("/api/logs?limit=x", "limit"),
        ("/api/logs?offset=100001", "offset"),
        ("/api/logs?start_date=soon", "start_date"),
        ("/api/logs?q=status:(", "q"),
        ("/api/logs?cursor=forged.AAAA", "cursor"),
        ("/api/logs?tz=Mars", "tz"),
        ("/api/activity/stats?days=367", "days"),
        ("/api/logs/stats?group_by=code", "group_by"),
        ("/api/logs/histogram?interval=fast", "interval"),
        ("/api/admin/activity?sort_by=code", "sort_by"),
        ("/api/logs/export?format=xml", "format"),
        ("/health?x=1", "x"),
    ] {
        let answer = running.ask("GET", path, Some(&admin));
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(
            answer.json()["detail"].as_str().expect("a detail").starts_with(&format!("{named}:")),
            "{path}: {}",
            answer.text()
        );
    }
    assert_eq!(running.ask("PUT", "/api/logs", Some(&admin)).status, 405);
    assert!(running.ask("PUT", "/api/logs", Some(&admin)).head.to_lowercase().contains("allow: get, head, post"));
}

#[test]
fn pages_stay_right_while_events_arrive() {
    let running = Running::start();
    let event = |n: u64| json!({ "user_id": "ali", "n": n, "metadata": { "n": n } });
    running.send(&(0..250).map(event).collect::<Vec<_>>());
    let (mut seen, mut path) = (Vec::new(), "/api/logs?limit=100&user_id=ali".to_owned());
    loop {
        let page = running.get(&path, ADMIN);
        seen.extend(page["logs"].as_array().expect("rows").iter().map(|row| row["metadata"]["n"].as_u64().expect("n")));
        // What comes meanwhile is newer than the pages that follow.
        running.send(&[event(1000 + seen.len() as u64)]);
        match page["next"].as_str() {
            Some(next) => path = format!("/api/logs?limit=100&user_id=ali&cursor={next}"),
            None => break,
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
    // Reads are events too, so that what was delivered last need not be the event that was sent last.
    let path = "/api/logs?limit=10&offset=5&user_id=ali";
    eventually("all are read", || running.get(path, ADMIN)["total"] == 253);
    let page = running.get(path, ADMIN);
    assert_eq!(
        (page["logs"].as_array().map(Vec::len), &page["total"], &page["offset"]),
        (Some(10), &json!(253), &json!(5))
    );
}

#[test]
fn a_list_is_sorted_by_a_member_over_all_its_pages() {
    let running = Running::start();
    let event = |n: u64| {
        let mut event = json!({ "user_id": "ali", "metadata": { "n": n } });
        if !n.is_multiple_of(10) {
            event["duration_ms"] = json!((n * 7919 % 97) as f64 / 3.0);
        }
        event
    };
    running.send(&(0..120).map(event).collect::<Vec<_>>());
    for order in ["asc", "desc"] {
        let first = format!("/api/logs?limit=25&sort_by=duration_ms&sort_order={order}");
        let (mut seen, mut path): (Vec<Value>, String) = (Vec::new(), first.clone());
        loop {
            let page = running.get(&path, ADMIN);
            seen.extend(page["logs"].as_array().expect("rows").iter().filter(|row| row["user_id"] == "ali").cloned());
            match page["next"].as_str() {
                Some(next) => path = format!("{first}&cursor={next}"),
                None => break,
            }
        }
        let numbers: std::collections::BTreeSet<u64> =
            seen.iter().filter_map(|row| row["metadata"]["n"].as_u64()).collect();
        assert_eq!((seen.len(), numbers.len()), (120, 120), "each row once");
        let durations: Vec<Option<f64>> = seen.iter().map(|row| row["duration_ms"].as_f64()).collect();
        assert!(durations[..108].iter().all(Option::is_some) && durations[108..].iter().all(Option::is_none));
        let is_sorted = durations[..108].windows(2).all(|pair| match order {
            "asc" => pair[0] <= pair[1],
            _ => pair[0] >= pair[1],
        });
        assert!(is_sorted, "{order}: {durations:?}");
    }
    let next = running.get("/api/logs?limit=25&sort_by=duration_ms", ADMIN)["next"].as_str().expect("more").to_owned();
    let other = running.ask("GET", &format!("/api/logs?cursor={next}"), Some(&token("root", "admin")));
    assert_eq!(other.status, 400, "a cursor belongs to its order");
    let components = running.get("/api/pipeline", ADMIN)["components"].clone();
    let inputs = |name: &str| {
        let all = components.as_array().expect("components");
        all.iter().find(|component| component["name"] == name).expect("it is there")["inputs"].clone()
    };
    assert_eq!(inputs("named"), json!(["api", "web"]));
    assert_eq!(inputs("events"), json!(["named"]));
    assert_eq!(inputs("web"), json!([]));
}

#[test]
fn an_export_is_whole_and_says_how_many_it_has() {
    let running = Running::start();
    running.send(
        &(0..2500)
            .map(|n| json!({ "user_id": "ali", "description": format!("=cmd|{n}"), "event_type": "e" }))
            .collect::<Vec<_>>(),
    );
    let admin = token("root", "admin");
    let answer = running.ask("GET", "/api/logs/export?format=json", Some(&admin));
    assert_eq!(answer.json().as_array().map(Vec::len), Some(2500));
    let answer = running.ask("GET", "/api/logs/export?format=ndjson&limit=1200", Some(&admin));
    assert_eq!(answer.text().lines().count(), 1200);
    let answer = running.ask("GET", "/api/logs/export?format=csv", Some(&admin));
    let head = answer.head.to_lowercase();
    assert!(head.contains("trailer: weir-count") && head.contains("filename=\"logs-"), "{head}");
    let text = answer.text();
    assert!(text.starts_with(
        "id,timestamp,event_type,entity_type,entity_id,user_id,description,metadata,ip_address,user_agent,status,"
    ));
    assert!(text.contains(",'=cmd|7,") && !text.contains(",=cmd"), "formulas are guarded");
    let bare = running.ask("GET", "/api/logs/export?format=csv&guard=off&columns=description", Some(&admin)).text();
    for only in ["columns=id", "guard=off"] {
        let refused = running.ask("GET", &format!("/api/logs/export?format=ndjson&{only}"), Some(&admin));
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    assert!(bare.contains("=cmd|7") && !bare.contains("'=cmd"));
    // Everything that was read of others is an event itself.
    eventually("the export is an event", || {
        running.get("/api/logs?event_type=activity_export", ADMIN)["total"].as_u64() >= Some(3)
    });
}

#[test]
fn administrators_have_their_list_statistics_and_session_reports() {
    let running = Running::start();
    let event = |user: &str, action: &str, status: u16, ms: u64| {
        json!({ "user_id": user, "action_type": action, "endpoint": "/chat", "http_method": "POST", "status_code": status,
                "success": status < 400, "duration_ms": ms, "is_admin": user == "boss", "session_id": "s" })
    };
    running.send(&[
        event("ali", "chat.send", 200, 10),
        event("anon-7", "chat.send", 500, 30),
        event("boss", "user.ban", 200, 20),
    ]);
    let list = running.get("/api/admin/activity?limit=2&sort_by=duration_ms&sort_order=desc", ADMIN);
    let row = &list["logs"][0];
    assert_eq!(
        (&row["user_id"], &row["success"], &row["action_type"]),
        (&json!("anon-7"), &json!(false), &json!("chat.send"))
    );
    assert!(row["timestamp"].is_i64() || row["timestamp"].is_u64(), "whole seconds: {row}");
    for name in [
        "id",
        "user_email",
        "user_display_name",
        "details",
        "target_user_id",
        "target_resource_id",
        "resource_type",
        "error_type",
    ] {
        assert!(row.get(name).is_some(), "{name} is missing in {row}");
    }
    let stats = &list["stats"];
    assert_eq!((&list["total"], &list["total_pages"]), (&json!(3), &json!(2)));
    assert_eq!(
        (
            &stats["success_count"],
            &stats["failed_count"],
            &stats["unique_users"],
            &stats["admin_actions"],
            &stats["avg_duration_ms"]
        ),
        (&json!(2), &json!(1), &json!(3), &json!(1), &json!(20.0))
    );
    for path in ["/api/admin/system-stats", "/api/admin/all-users-activity", "/api/admin/all-activity"] {
        let head = running.ask("GET", path, Some(&token("root", "admin"))).head.to_lowercase();
        assert!(head.contains("cache-control: private, max-age=60"), "{path}: {head}");
    }
    assert_eq!(running.get("/api/admin/activity?success_filter=failed", ADMIN)["total"], 1);
    assert_eq!(running.get("/api/admin/activity?action_filter=user.ban", ADMIN)["total"], 1);
    assert_eq!(running.get("/api/admin/activity?user_search=ANON", ADMIN)["total"], 1);
    eventually("the reading is an event", || {
        running.get("/api/logs?event_type=admin_view_activity_logs", ADMIN)["total"].as_u64() >= Some(1)
    });
    let report = running.get("/get_logs?format=json&session_id=s", ADMIN);
    assert_eq!(
        (&report["summary"]["total_activities"], &report["summary"]["action_breakdown"]),
        (&json!(3), &json!({ "chat": 2, "user": 1 }))
    );
    let page = running.ask("GET", "/get_logs?session_id=s", Some(&token("root", "admin")));
    assert!(page.text().contains("✅ success") && page.text().contains("❌ failed"), "{}", page.text());
}

#[test]
fn an_event_that_was_waited_for_can_be_read_at_once() {
    let running = Running::start();
    let admin = format!("Bearer {}", token("root", "admin"));
    for n in 0..5 {
        let body = format!("{{\"event_type\":\"now\",\"n\":{n}}}");
        let answer =
            request(running.agent.api, "POST", "/api/logs?wait=stored", &[("Authorization", &admin)], body.as_bytes())
                .expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(running.get("/api/logs?event_type=now", ADMIN)["total"], n + 1);
    }
}

#[test]
fn what_is_stored_survives_kill_9_once() {
    let running = Running::start();
    running.send(&(0..500).map(|n| json!({ "user_id": "ali", "n": n })).collect::<Vec<_>>());
    let Running { agent, port, folder } = running;
    agent.kill();
    let agent = Agent::start(&folder, &yaml(port));
    let running = Running { agent, port, folder };
    assert_eq!(running.get("/api/logs?limit=1&user_id=ali", ADMIN)["total"], 500);
    assert_eq!(post(running.port, "{\"user_id\":\"ali\",\"n\":500}\n"), 1);
    eventually("the next one is stored", || running.get("/api/logs?limit=1&user_id=ali", ADMIN)["total"] == 501);
}

#[test]
fn the_page_logs_in_with_a_cookie_that_other_sites_cannot_use() {
    let running = Running::start();
    let body = json!({ "token": token("ali", "user") }).to_string();
    let answer = request(running.agent.api, "POST", "/api/login", &[], body.as_bytes()).expect("an answer");
    assert_eq!((answer.status, &answer.json()["user"]), (200, &json!("ali")));
    let head = answer.head;
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair");
    let ask = |more: &[(&str, &str)]| {
        let headers = [&[("Cookie", pair)], more].concat();
        request(running.agent.api, "GET", "/api/me", &headers, b"").expect("an answer").status
    };
    assert_eq!(ask(&[("Sec-Fetch-Site", "same-origin")]), 200);
    assert_eq!(ask(&[("Sec-Fetch-Site", "cross-site")]), 403);
    assert_eq!(ask(&[("Origin", "https://elsewhere.example")]), 403);
    let headers = [("Cookie", pair), ("Sec-Fetch-Site", "same-origin")];
    request(running.agent.api, "POST", "/api/logout", &headers, b"").expect("an answer");
    assert_eq!(ask(&[("Sec-Fetch-Site", "same-origin")]), 401, "the session was ended");
}

#[test]
fn a_websocket_brings_rows_as_they_come() {
    let running = Running::start();
    let mut socket = TcpStream::connect(("127.0.0.1", running.agent.api)).expect("a connection");
    let handshake = format!(
        "GET /ws/logs?token={}&q=status:error HTTP/1.1\r\nHost: weir\r\nOrigin: http://weir\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token("root", "admin")
    );
    socket.write_all(handshake.as_bytes()).expect("it is sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("the head comes");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    running.send(&two_users());
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("ZeroDivisionError") {
        let mut buffer = [0; 4096];
        let count = socket.read(&mut buffer).expect("frames come");
        assert!(count > 0, "the socket was closed");
        text.extend_from_slice(&buffer[..count]);
    }
    let start = text.iter().position(|byte| *byte == b'{').expect("a message");
    let message: Value = serde_json::from_slice(&text[start..]).expect("one message");
    assert_eq!(
        (&message["type"], &message["count"], &message["data"][0]["user_id"]),
        (&json!("logs"), &json!(1), &json!("ali"))
    );
}

#[test]
fn a_handshake_says_whose_it_is_whatever_its_credentials() {
    let running = Running::start();
    let root = token("root", "admin");
    let ask = |headers: &[(&str, &str)]| {
        let bearer = format!("Bearer {root}");
        let mut all = vec![
            ("Host", "weir:8686"),
            ("Authorization", bearer.as_str()),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        all.extend_from_slice(headers);
        let head: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut socket = TcpStream::connect(("127.0.0.1", running.agent.api)).expect("a connection");
        write!(socket, "GET /ws/logs HTTP/1.1\r\n{head}\r\n").expect("it is sent");
        let mut status = [0; 12];
        socket.read_exact(&mut status).expect("an answer");
        String::from_utf8_lossy(&status[9..]).into_owned()
    };
    assert_eq!(ask(&[]), "403");
    assert_eq!(ask(&[("Origin", "https://elsewhere.example")]), "403");
    assert_eq!(ask(&[("Origin", "null")]), "403");
    assert_eq!(ask(&[("Sec-Fetch-Site", "cross-site")]), "403");
    assert_eq!(ask(&[("Origin", "http://weir:8686")]), "101");
    assert_eq!(ask(&[("Sec-Fetch-Site", "same-origin")]), "101");
}

#[test]
fn a_message_that_is_too_large_ends_a_websocket_with_the_reason() {
    let running = Running::start();
    let mut socket = TcpStream::connect(("127.0.0.1", running.agent.api)).expect("a connection");
    let path = format!("/ws/logs?token={}", token("root", "admin"));
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: weir\r\nOrigin: http://weir\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .expect("it is sent");
    // A masked text of 2 MiB, of which the head alone says too much.
    socket.write_all(&[0x81, 0xFF, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4]).expect("it is sent");
    let mut heard = Vec::new();
    while !heard.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 1009_u16.to_be_bytes()) {
        let mut buffer = [0; 1024];
        let count = socket.read(&mut buffer).expect("frames come");
        assert!(count > 0, "closed without a reason: {heard:?}");
        heard.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn an_event_is_known_by_what_its_producer_calls_it_without_normalize_too() {
    for transforms in ["", "transforms:\n  seen: { type: filter, inputs: [web], where: 'has:a' }\n"] {
        let (folder, ingest) = (Folder::new(), free_port());
        let input = if transforms.is_empty() { "web" } else { "seen" };
        let agent = Agent::start(
            &folder,
            &format!(
                "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n{transforms}\
                 sinks:\n  kept: {{ type: store, inputs: [{input}] }}\n"
            ),
        );
        let event = |a: u64| format!(r#"{{"id":"order-5","a":{a},"timestamp":"2026-11-29T10:00:00Z"}}"#);
        for a in [1, 1, 2] {
            assert_eq!(post(ingest, &event(a)), 1);
        }
        assert_eq!(post(ingest, &format!("{}\n{}", event(1), r#"{"id":6,"a":1}"#)), 2);
        eventually("all have ended", || {
            agent.metric("weir_events_delivered_total", "kept") == 4
                && agent.metric("weir_events_dead_lettered_total", "kept") == 1
        });
        assert_eq!(agent.metric("weir_duplicates_ignored_total", "kept"), 2);
        let ask = |path: &str| {
            let authorization = format!("Bearer {}", agent.token());
            request(agent.api, "GET", path, &[("Authorization", &authorization)], b"").expect("an answer").json()
        };
        let page = ask("/api/logs");
        assert_eq!(page["total"], 2, "{page}");
        for row in page["logs"].as_array().expect("rows") {
            let id = row["id"].as_str().expect("an id");
            assert_eq!(ask(&format!("/api/logs/{id}"))["a"], 1, "{row}");
            assert!([json!("order-5"), json!(6)].contains(&row["metadata"]["source_id"]), "{row}");
        }
        agent.assert_books();
    }
}

#[test]
fn a_stream_shows_what_its_sink_takes() {
    for sink in ["type: store", "type: sse"] {
        let (folder, ingest) = (Folder::new(), free_port());
        let agent = Agent::start(
            &folder,
            &format!(
                "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n\
                 sinks:\n  kept: {{ {sink}, inputs: [web], where: 'k:<5' }}\n  all: {{ type: blackhole, inputs: [web] }}\n"
            ),
        );
        let token = agent.token_of("root", "admin");
        let paths = ["/api/stream?", "/api/stream?component=kept&", "/api/admin/activity/stream?"];
        let mut streams: Vec<Stream> =
            paths.iter().map(|path| Stream::open(agent.api, &format!("{path}token={token}"))).collect();
        streams.push(Stream::websocket(agent.api, &format!("/ws/logs?token={token}")));
        let all: String = (0..10).map(|k| format!("{{\"k\":{k},\"description\":\"no {k}.\"}}\n")).collect();
        assert_eq!(post(ingest, &all), 10);
        eventually("all have ended", || agent.metric("weir_events_delivered_total", "kept") == 5);
        assert_eq!(post(ingest, "{\"k\":4,\"description\":\"the last.\"}"), 1);
        let again = Stream::open(agent.api, &format!("/api/stream?token={token}&last_event_id=1"));
        for stream in &streams[..2] {
            eventually("the last is shown", || stream.heard().contains("the last."));
        }
        eventually("it is shown again", || again.heard().contains("the last."));
        for stream in streams.iter().chain([&again]) {
            let heard = stream.heard();
            assert!((5..10).all(|k| !heard.contains(&format!("\"k\":{k}"))), "{sink}: {heard}");
        }
        assert!((0..5).all(|k| again.heard().contains(&format!("no {k}."))), "{}", again.heard());
        agent.assert_books();
    }
}

#[test]
fn names_are_those_of_events_that_may_be_seen() {
    let running = Running::start();
    running.send(&[
        json!({ "user_id": "ali", "code": "1", "metadata": { "mine": 1 } }),
        json!({ "user_id": "sara", "endpoint": "/x", "error_trace": "deep", "metadata": { "hers": 1 } }),
    ]);
    let names = |user: &str, role: &str| {
        let fields = running.ask("GET", "/api/fields", Some(&token(user, role))).json();
        let names = fields["fields"].as_array().expect("names").iter();
        names.map(|name| name.as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let has = |names: &[String], name: &str| names.iter().any(|known| known == name);
    let ali = names("ali", "user");
    assert!(has(&ali, "code") && has(&ali, "metadata.mine"), "{ali:?}");
    assert!(!has(&ali, "endpoint") && !has(&ali, "error_trace") && !has(&ali, "metadata.hers"), "{ali:?}");
    assert_eq!(names("nobody", "user"), Vec::<String>::new());
    let viewer = names("eye", "viewer");
    assert!(has(&viewer, "metadata.hers") && has(&viewer, "endpoint") && !has(&viewer, "error_trace"), "{viewer:?}");
    let root = names("root", "admin");
    assert!(has(&root, "error_trace") && has(&root, "metadata.mine"), "{root:?}");
}

#[test]
fn the_description_of_the_api_names_every_route() {
    let running = Running::start();
    let document = running.ask("GET", "/openapi.json", None).json();
    for route in ROUTES {
        assert!(
            document["paths"][route.path].get(route.method.to_lowercase()).is_some(),
            "{} {}",
            route.method,
            route.path
        );
    }
}

#[test]
fn weir_query_finds_what_happened() {
    let running = Running::start();
    running.send(&two_users());
    let query = |arguments: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("query")
            .args(arguments)
            .args(["--url", &format!("http://127.0.0.1:{}", running.agent.api), "--token", &token("root", "admin")])
            .output()
            .expect("weir runs");
        (out.status.code(), String::from_utf8(out.stdout).expect("text"), String::from_utf8(out.stderr).expect("text"))
    };
    let (code, out, err) = query(&["status:error"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.contains("ZeroDivisionError: division by zero"), "{out}");
    let (_, out, _) = query(&["user_id:sara", "--format", "ndjson"]);
    assert_eq!(serde_json::from_str::<Value>(&out).expect("a row")["entity_id"], "7");
    let (code, out, err) = query(&["status:("]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains('^'), "{err}");
}

#[test]
fn without_a_store_reads_say_so() {
    let folder = Folder::new();
    let agent = Agent::start(
        &folder,
        "sources: { in: { type: demo, count: 1 } }\nsinks: { out: { type: blackhole, inputs: [in] } }\n",
    );
    let bearer = format!("Bearer {}", agent.token());
    let answer = request(agent.api, "GET", "/api/logs", &[("Authorization", &bearer)], b"").expect("an answer");
    assert_eq!(answer.status, 503);
    assert!(
        answer.json()["detail"].as_str().expect("a detail").starts_with("no store configured"),
        "{}",
        answer.text()
    );
}
