//! `weir test`: what a configuration promises about itself holds, or is shown not to.

use std::process::Command;

use crate::support::Folder;

const PIPELINE: &str = r#"
sources:
  web: { type: http, address: '127.0.0.1:0' }
transforms:
  tidy: { type: normalize, inputs: [web] }
  safe: { type: redact, inputs: [tidy] }
  kinds: { type: route, inputs: [safe], failed: 'status:error', slow: 'duration_ms:>100' }
sinks:
  out: { type: console, inputs: [kinds.failed], where: 'user_id:ali', encoding: { format: text, template: '{{ user_id }}: {{ error_message }}' } }
  file: { type: file, inputs: [kinds.slow], path: logs/all.csv, encoding: { format: csv, columns: [user_id, duration_ms] } }
  hook: { type: http, inputs: [kinds.slow], uri: 'http://127.0.0.1:1/', encoding: json }
  topic: { type: kafka, inputs: [kinds.slow], brokers: ['127.0.0.1:1'], topic: t }
  splunk: { type: splunk_hec, inputs: [kinds.slow], endpoint: 'http://127.0.0.1:1', token: t }
  search: { type: elasticsearch, inputs: [kinds.slow], endpoints: ['http://127.0.0.1:1'], index: 'a-%Y' }
  kept: { type: store, inputs: [kinds.slow] }
  table: { type: postgres, inputs: [kinds.slow], url: 'postgres://127.0.0.1:1/x', table: t }
"#;

/// Runs `weir test`: the exit code, what it prints, and what it complains about.
fn run(tests: &str) -> (i32, String, String) {
    let folder = Folder::new();
    let config = folder.write("weir.yaml", &format!("{PIPELINE}{tests}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let out = command.arg("test").arg("-c").arg(config).current_dir(&folder.0).output().expect("weir test runs");
    assert!(!folder.path("weir-data").exists() && !folder.path("logs").exists(), "a test leaves nothing behind");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (out.status.code().expect("it ends by itself"), text(out.stdout), text(out.stderr))
}

#[test]
fn events_and_exact_bytes_are_expected_at_every_kind_of_component() {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let line = format!(
        r#"{{"user_id":"سارا","duration_ms":200,"id":"{id}","timestamp":"2025-01-01T00:00:00.000Z","received_at":"2025-01-01T00:00:00.000Z","source":"web"}}"#
    );
    let quoted = |text: &str| serde_json::to_string(text).expect("a text");
    let tests = format!(
        r#"
tests:
  - name: secrets leave a failed cell before it is routed
    input: {{ at: web, events: [ {{ username: ali, error: 'password = "hunter2hunter2"' }}, {{ username: eve, error: no }} ] }}
    expect:
      - {{ at: web, events: [ {{ username: ali, error: 'password = "hunter2hunter2"' }}, {{ username: eve, error: no }} ] }}
      - at: kinds.failed
        events:
          - {{ user_id: ali, error_message: 'password = "[credential]"', status: error, redactions: [ {{ rule: credential, count: 1 }} ] }}
          - {{ user_id: eve, error_message: no, status: error }}
      - {{ at: out, bytes: "ali: password = \"[credential]\"\n" }}
      - {{ at: kinds.slow, events: [] }}
  - name: what is sent is known to the byte
    input: {{ at: web, events: [ '{{"user":"سارا", "duration": 200, "id":"{id}"}}' ] }}
    expect:
      - {{ at: kinds.slow, bytes: {whole} }}
      - {{ at: file, bytes: "user_id,duration_ms\nسارا,200\n" }}
      - {{ at: hook, bytes: {array} }}
      - {{ at: topic, bytes: {whole} }}
      - {{ at: kept, bytes: {whole} }}
      - {{ at: search, bytes: {bulk} }}
      - {{ at: table, events: [ {{ user_id: سارا, duration_ms: 200 }} ] }}
      - {{ at: out, events: [] }}
  - name: a transform is given events directly
    input: {{ at: kinds, events: [ {{ status: error, n: 1 }} ] }}
    expect: [ {{ at: kinds.failed, bytes: "{{\"status\":\"error\",\"n\":1}}\n" }}, {{ at: safe, events: [] }} ]
"#,
        whole = quoted(&format!("{line}\n")),
        array = quoted(&format!("[{line}]")),
        bulk = quoted(&format!(
            "{{\"create\":{{\"_index\":\"a-2025\",\"_id\":\"{id}\"}}}}\n{{\"@timestamp\":\"2025-01-01T00:00:00.000Z\",{}\n",
            &line[1..]
        )),
    );
    let (code, out, err) = run(&tests);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.ends_with("3 passed, 0 failed\n"), "{out}");
}

#[test]
fn what_does_not_hold_is_said_with_place_member_and_both_values() {
    let (code, out, _) = run(r#"
tests:
  - name: this holds
    input: { at: kinds, events: [ { status: error } ] }
    expect: [ { at: kinds.failed, events: [ { status: error } ] } ]
  - name: this does not
    input: { at: web, events: [ { user: ali, code: x, error: boom } ] }
    expect:
      - { at: kinds.failed, events: [ { user_id: sara, status: error, error_message: boom, language: python } ] }
      - { at: kinds.slow, events: [ { user_id: ali } ] }
      - { at: table, bytes: "" }
      - { at: out, bytes: "ali: bang\n" }
  - name: nor does this
    input: { at: web, events: [ '[1]' ] }
    expect: [ { at: web, events: [] } ]
"#);
    assert_eq!(code, 1, "{out}");
    for line in [
        "ok      this holds",
        "FAILED  this does not",
        "at `kinds.failed`: event 1:",
        "`user_id`: expected \"sara\", found \"ali\"",
        "`code`: not expected, found \"x\"",
        "`language`: expected \"python\", not there",
        "at `kinds.slow`: 1 events expected, 0 found",
        "the output of a `postgres` sink depends on its target",
        "expected \"ali: bang\\n\"",
        "found    \"ali: boom\\n\"",
        "FAILED  nor does this",
        "input at `web`: event 1 is refused",
        "1 passed, 2 failed",
    ] {
        assert!(out.contains(line), "{line} is missing in:\n{out}");
    }
}

#[test]
fn a_test_of_something_that_is_not_there_is_a_wrong_configuration() {
    let (code, _, err) = run(r#"
tests:
  - name: names that nobody has
    input: { at: wev, events: [ { n: 1 } ] }
    expect: [ { at: kinds.faild, events: [] }, { at: out } ]
  - name: a sink gives nothing on
    input: { at: out, events: [ { n: 1 } ] }
    expect: []
"#);
    assert_eq!(code, 78, "{err}");
    for text in [
        "no component is called `wev`; did you mean `web`?",
        "no component is called `kinds.faild`",
        "expected `events`, `bytes`, or both",
        "`out` is a sink; give events to what it reads",
        "a test that expects nothing always holds",
        "weir.yaml:20:18",
    ] {
        assert!(err.contains(text), "{text} is missing in:\n{err}");
    }
}
