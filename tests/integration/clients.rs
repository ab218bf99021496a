//! The API through the clients that people use: curl beside psql, Python's websockets, and a client of server-sent events.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::{Agent, Folder, free_port, post, python};

#[test]
fn websockets_and_event_sources_of_python_follow_and_come_back() {
    let (folder, port) = (Folder::new(), free_port());
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [web, api] }}\n\
         sinks:\n  events: {{ type: store, inputs: [named] }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    let token = agent.token_of("root", "admin");
    let said = python::run(python::program(&folder, "live.py", &[&agent.api.to_string(), &port.to_string(), &token]));
    let all: Vec<u64> = (0..20).collect();
    assert_eq!((&said[0]["websocket"], &said[0]["texts"]), (&json!(all), &json!("سلام")));
    assert_eq!((&said[1]["sse"], &said[1]["actions"]), (&json!(all), &json!(vec!["live"; 20])));
    let ids: Vec<u64> = said[1]["ids"].as_array().expect("ids").iter().filter_map(Value::as_u64).collect();
    assert!(ids.len() == 20 && ids.is_sorted(), "{ids:?}");
    assert_eq!(said[2]["resumed"], json!((5..40).collect::<Vec<u64>>()));
    agent.assert_books();
}

struct Curl<'a> {
    api: u16,
    token: &'a str,
}

impl Curl<'_> {
    /// What curl writes, with the status behind it.
    fn ask(&self, path: &str, more: &[&str]) -> (String, String) {
        let out = Command::new("curl")
            .args([
                "-sS",
                "--compressed",
                "-w",
                "\n%{http_code}",
                "-H",
                &format!("Authorization: Bearer {}", self.token),
            ])
            .args(more)
            .arg(format!("http://127.0.0.1:{}{path}", self.api))
            .output()
            .expect("curl runs");
        assert!(out.status.success(), "{path}: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("text");
        let (body, status) = text.rsplit_once('\n').expect("the status is behind the body");
        (body.to_owned(), status.to_owned())
    }

    fn json(&self, path: &str) -> Value {
        let (body, status) = self.ask(path, &[]);
        assert_eq!(status, "200", "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

#[test]
fn curl_counts_what_psql_counts() {
    let (folder, database, port) = (Folder::new(), Database::new(), free_port());
    let yaml = format!(
        "  read: {{ sink: rows }}\nsources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [web] }}\n\
         sinks:\n  rows: {{ type: postgres, inputs: [named], url: '{}', table: events, create_table: true, batch: {{ age: 10ms }} }}\n",
        database.url()
    );
    let agent = Agent::start(&folder, &yaml);
    let event = |n: u64| {
        let (user, status) =
            (["ali", "sara", "سارا"][n as usize % 3], ["success", "error"][usize::from(n.is_multiple_of(5))]);
        json!({ "user_id": user, "status": status, "code": format!("print({n}) # 100%_{}", n % 7), "duration_ms": n,
                "session_id": format!("s{}", n % 4), "timestamp": format!("2026-01-{:02}T00:00:00Z", n % 27 + 1) })
    };
    let body: String = (0..1500).map(|n| format!("{}\n", event(n))).collect();
    assert_eq!(post(port, &body), 1500);
    agent.delivered("rows", 1500);
    let token = agent.token_of("root", "admin");
    let curl = Curl { api: agent.api, token: &token };
    for (path, condition) in [
        ("/api/logs?limit=1", "true"),
        ("/api/logs?limit=1&status=error", "status = 'error'"),
        ("/api/logs?limit=1&user_id=%D8%B3%D8%A7%D8%B1%D8%A7", "user_id = 'سارا'"),
        (
            "/api/logs?limit=1&session_id=s3&start_date=2026-01-10&end_date=2026-01-12",
            "session_id = 's3' AND timestamp >= '2026-01-10Z' AND timestamp < '2026-01-13Z'",
        ),
        (
            "/api/logs?limit=1&q=code%3A%22%25_3%22%20duration_ms%3A%3E700",
            "code LIKE '%\\%\\_3%' AND duration_ms > 700",
        ),
    ] {
        let counted = database.sql(&format!("SELECT count(*) FROM events WHERE {condition}"));
        assert_eq!(curl.json(path)["total"].to_string(), counted.trim(), "{path}");
    }
    let (export, status) = curl.ask("/api/logs/export?format=ndjson&user_id=ali", &[]);
    assert_eq!(status, "200");
    let counted = database.sql("SELECT count(*) FROM events WHERE user_id = 'ali'");
    assert_eq!(export.lines().count().to_string(), counted.trim());
    assert!(
        export.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|event| event["user_id"] == "ali"))
    );
    assert_eq!(curl.ask("/api/logs?limit=1001", &[]).1, "400");
    assert_eq!(curl.ask("/api/logs", &["-H", "Authorization: Bearer x"]).1, "401");
}
