//! What /openapi.json promises holds for whatever a generator of requests thinks of, whoever asks.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Agent, Folder, eventually, free_port, post, python, request};

/// Who asks, and which phases of schemathesis: one with every combination that the description allows and forbids,
/// one with random values. Together they take about half a minute.
const ASKING: [(Option<&str>, &str); 5] = [
    (Some("admin"), "examples,coverage,fuzzing"),
    (Some("user"), "coverage"),
    (Some("viewer"), "fuzzing"),
    (Some("ingest"), "fuzzing"),
    (None, "fuzzing"),
];

#[test]
fn no_generated_request_of_any_role_gets_an_answer_that_the_description_does_not_have() {
    let (folder, port) = (Folder::new(), free_port());
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [web, api] }}\n\
         sinks:\n  events: {{ type: store, inputs: [named], batch: {{ age: 10ms }} }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    let event = |n: u64| -> Value {
        let (user, status) = (["ali", "سارا"][n as usize % 2], ["success", "error", "in_progress"][n as usize % 3]);
        json!({ "user_id": user, "session_id": "s", "code": "print('سلام')", "cell_number": n, "status": status,
                "duration_ms": n, "metadata": { "n": n } })
    };
    let body: String = (0..30).map(|n| format!("{}\n", event(n))).collect();
    assert_eq!(post(port, &body), 30);
    eventually("they are stored", || agent.metric("weir_events_delivered_total", "events") >= 30);
    for (role, phases) in ASKING {
        let mut command = Command::new(python::interpreter().with_file_name("schemathesis"));
        command.current_dir(&folder.0).args(["run", &format!("http://127.0.0.1:{}/openapi.json", agent.api)]);
        if let Some(role) = role {
            let token = agent.token_of("ali", role);
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        // Python 3.11 cannot parse in two threads at once, which its generators do.
        command.args(["--phases", phases, "--max-examples", "5", "--workers", "1", "--request-timeout", "20"]);
        command.args([
            "--seed",
            "7",
            "--no-shrink",
            "--generation-database",
            "none",
            "--no-color",
            "--warnings",
            "off",
        ]);
        // A stream does not end.
        command.args(["--exclude-path-regex", "stream$|^/ws/"]);
        command.args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ]);
        let out = command.output().expect("schemathesis runs");
        assert!(out.status.success(), "{role:?}: {}", String::from_utf8_lossy(&out.stdout));
    }
    let health = request(agent.api, "GET", "/health", &[], b"").expect("the agent answers");
    assert_eq!(health.status, 200, "{}", health.text());
    assert!(!agent.log().contains("panic"), "{}", agent.log());
    agent.assert_books();
}
