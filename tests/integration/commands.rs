//! The commands that look at a running agent: what they print is what the agent has.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::collector::{Collector, reply};
use crate::support::{Agent, Folder, eventually, free_port, post};

fn yaml(ingest: u16) -> String {
    format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}' }} }}\n\
         transforms:\n  tidy: {{ type: normalize, inputs: [web] }}\n  \
         kinds: {{ type: route, inputs: [tidy], failed: 'status:error', rest: '-status:error' }}\n\
         sinks:\n  kept: {{ type: store, inputs: [kinds.failed, kinds.rest] }}\n  \
         errors: {{ type: file, inputs: [kinds.failed], path: out/errors.ndjson, batch: {{ age: 10ms }} }}\n"
    )
}

fn command(agent: &Agent, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).arg("--data-dir").arg(&agent.data_dir);
    command
}

fn run(agent: &Agent, arguments: &[&str]) -> Output {
    command(agent, arguments).output().expect("weir runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A command that goes on, and what it prints line by line.
struct Following {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Following {
    fn start(agent: &Agent, arguments: &[&str]) -> Following {
        let mut child = command(agent, arguments).stdout(Stdio::piped()).spawn().expect("weir runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Following { child, lines }
    }

    fn number(&mut self) -> u64 {
        let line = self.lines.next().expect("the command goes on").expect("a line");
        let event: Value = serde_json::from_str(&line).expect("an event");
        event["metadata"]["n"].as_u64().expect("a number")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(ingest: u16, range: std::ops::Range<u64>) {
    for n in range {
        let error = if n % 2 == 0 { ",\"error\":\"boom\"" } else { "" };
        assert_eq!(post(ingest, &format!("{{\"n\":{n},\"user\":\"ali\"{error}}}")), 1);
    }
}

fn stored(agent: &Agent, count: u64) {
    eventually("everything is stored", || agent.metric("weir_events_delivered_total", "kept") == count);
}

/// Sends again and again until something is done that needs it: a command that follows is too late for what came before it
/// was connected.
fn while_sending(send: impl Fn() + Sync, does: impl FnOnce()) {
    /// Also where the test fails, so that it ends.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = Done(&is_done);
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                send();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        does();
    });
}

#[test]
fn tap_shows_what_comes_out_of_a_component_and_goes_into_a_sink() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(ingest));
    let live = |arguments: &[&str]| Following::start(&agent, &[&["tap", "--format", "ndjson"], arguments].concat());
    let mut taps = [
        live(&[]),
        live(&["kinds.failed"]),
        live(&["kinds"]),
        live(&["errors"]),
        live(&["--where", "metadata.n:3 OR metadata.n:>=100"]),
    ];
    let expected = [vec![0, 1, 2, 3], vec![0, 2], vec![0, 1, 2, 3], vec![0, 2], vec![3]];
    while_sending(|| send(ingest, 100..102), || taps.iter_mut().for_each(|tap| assert!(tap.number() >= 100)));
    send(ingest, 0..4);
    for (tap, expected) in taps.iter_mut().zip(expected) {
        let mut found = Vec::new();
        while found.len() < expected.len() {
            let n = tap.number();
            if n < 100 {
                found.push(n);
            }
        }
        assert_eq!(found, expected);
    }
    let unknown = run(&agent, &["tap", "tidie"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = text(&unknown.stderr);
    assert!(said.contains("no component is called `tidie`: there are web, api, tidy, kinds,"), "{said}");
    eventually("both are stored", || {
        let found = run(&agent, &["query", "metadata.n:1 OR metadata.n:2", "--format", "ndjson"]);
        text(&found.stdout).lines().count() == 2
    });
}

#[test]
fn what_only_transforms_read_is_watched_too_and_shows_no_secret() {
    let (folder, ingest) = (Folder::new(), free_port());
    let yaml = format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}' }} }}\n\
         transforms:\n  tidy: {{ type: normalize, inputs: [web] }}\n  \
         joined: {{ type: dedupe, inputs: [tidy], key: metadata.n, window: 1h }}\n  \
         safe: {{ type: redact, inputs: [joined], rules: [builtin, {{ name: project, pattern: 'Falcon-[0-9]+' }}] }}\n\
         sinks: {{ kept: {{ type: store, inputs: [safe] }} }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    let event = |n: u64| format!("{{\"n\":{n},\"code\":\"password = 'hunter2'; plan = 'Falcon-7'; x = {n}\"}}");
    for (component, place) in
        [("web", "/n"), ("tidy", "/metadata/n"), ("joined", "/metadata/n"), ("safe", "/metadata/n")]
    {
        let mut tap = Following::start(&agent, &["tap", component, "--format", "ndjson", "--where", "code:plan"]);
        let next = || agent.metric("weir_events_received_total", "web");
        while_sending(
            || assert_eq!(post(ingest, &event(next())), 1),
            || assert!(tap.lines.next().is_some_and(|line| line.is_ok())),
        );
        let first = next();
        (first..first + 3).for_each(|n| assert_eq!(post(ingest, &event(n)), 1));
        for n in first..first + 3 {
            let (line, event) = loop {
                let line = tap.lines.next().expect("the command goes on").expect("a line");
                let event: Value = serde_json::from_str(&line).expect("an event");
                if event.pointer(place).and_then(Value::as_u64).is_none_or(|n| n >= first) {
                    break (line, event);
                }
            };
            assert_eq!(event.pointer(place), Some(&n.into()), "{component}: {line}");
            assert!(
                !line.contains("hunter2") && !line.contains("Falcon-7") && line.contains("x = "),
                "{component}: {line}"
            );
        }
    }
    agent.assert_books();
}

#[test]
fn a_component_is_watched_by_administrators_only_and_few_at_a_time() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(ingest));
    let user = agent.token_of("ali", "user");
    let refused = run(&agent, &["tap", "kinds", "--token", &user]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    let _taps: Vec<Following> = (0..4).map(|_| Following::start(&agent, &["tap", "kinds"])).collect();
    eventually("one more is turned away", || {
        let out = command(&agent, &["tap", "kinds", "--limit", "0"]).output().expect("weir runs");
        assert!(out.status.success());
        let mut fifth = command(&agent, &["tap", "kinds"]).stderr(Stdio::piped()).spawn().expect("weir runs");
        // It goes on where it came before one of the four.
        let has_ended = (0..50).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            fifth.try_wait().expect("it can be waited for").is_some()
        });
        let _ = fifth.kill();
        let out = fifth.wait_with_output().expect("it ends");
        has_ended && text(&out.stderr).contains("at most 4 components")
    });
}

#[test]
fn following_goes_on_over_a_restart_with_nothing_missing_and_nothing_twice() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(ingest));
    send(ingest, 0..3);
    stored(&agent, 3);
    // The address changes with the restart: it is found in the data folder again.
    let mut following = Following::start(&agent, &["query", "user_id:ali", "--follow", "--format", "ndjson"]);
    let mut seen: Vec<u64> = (0..3).map(|_| following.number()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    send(ingest, 3..6);
    assert_eq!([following.number(), following.number(), following.number()], [3, 4, 5]);
    agent.kill();
    let agent = Agent::start(&folder, &yaml(ingest));
    send(ingest, 6..9);
    assert_eq!([following.number(), following.number(), following.number()], [6, 7, 8]);
    drop(agent);
}

#[test]
fn top_shows_every_component_once_where_nobody_looks_at_a_terminal() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(ingest));
    send(ingest, 0..4);
    stored(&agent, 4);
    let out = run(&agent, &["top"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let table = text(&out.stdout);
    for name in ["web", "tidy", "kinds", "kept", "errors", "api"] {
        assert_eq!(table.lines().filter(|line| line.starts_with(&format!("{name} "))).count(), 1, "{name}: {table}");
    }
    assert!(table.contains("journal ") && !table.contains('\x1b'), "{table}");
}

#[test]
fn an_export_is_what_was_stored_and_a_changed_one_is_found_out() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(ingest));
    send(ingest, 0..50);
    stored(&agent, 50);
    let file = |name: &str| folder.path(name).display().to_string();
    let made = run(&agent, &["export", "status:error", "-o", &file("a.zip")]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).starts_with("25 events"), "{}", text(&made.stdout));
    let verify = |name: &str| Command::new(env!("CARGO_BIN_EXE_weir")).args(["verify", &file(name)]).output();
    let whole = verify("a.zip").expect("weir runs");
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let hash = |out: &Output| text(&out.stdout).lines().last().map(str::to_owned);
    assert_eq!(hash(&whole), hash(&made), "both say the same of the manifest");
    let again = run(&agent, &["export", "-o", &file("a.zip")]);
    assert!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));
    // One changed byte anywhere is found out, or changes nothing that is in it.
    let bytes = fs::read(folder.path("a.zip")).expect("the export");
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(folder.path("b.zip"), &changed).expect("it can be written");
        let out = verify("b.zip").expect("weir runs");
        assert!(!out.status.success() || hash(&out) == hash(&made), "byte {at}: {}", text(&out.stdout));
    }
    fs::write(folder.path("c.zip"), &bytes[..bytes.len() / 2]).expect("it can be written");
    assert_eq!(verify("c.zip").expect("weir runs").status.code(), Some(1));
    let wrong = run(&agent, &["export", "status:", "-o", &file("d.zip")]);
    assert_eq!(wrong.status.code(), Some(1));
    let left: Vec<_> = fs::read_dir(&folder.0).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    let parts = left.iter().filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "part"));
    assert_eq!(parts.count(), 0, "nothing half written stays: {left:?}");
    assert!(!folder.path("d.zip").exists());
}

#[test]
fn every_command_that_asks_an_agent_finds_it_by_its_configuration() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(ingest));
    assert_eq!(post(ingest, "{\"n\":1,\"status\":\"error\"}"), 1);
    let config = folder.path("weir.yaml");
    let weir = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).arg("-c").arg(&config).current_dir("/").output().expect("weir runs")
    };
    let zip = folder.path("all.zip").display().to_string();
    eventually("it is stored", || text(&weir(&["query", "status:error"]).stdout).contains("error"));
    for arguments in [&["dlq", "list"][..], &["query"], &["top"], &["health"], &["export", "-o", &zip]] {
        let out = weir(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
    }
    let tapped = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["tap", "--limit", "1", "-c"])
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .expect("weir runs");
    eventually("somebody taps", || {
        agent.metrics().iter().any(|(name, value)| name.starts_with("weir_stream_clients") && *value == 1.0)
    });
    assert_eq!(post(ingest, "{\"n\":2}"), 1);
    assert!(tapped.wait_with_output().expect("it ends").status.success());
    assert!(agent.stop().success());
    let out = weir(&["query"]);
    assert!(!out.status.success() && text(&out.stderr).contains("cannot reach the agent"), "{}", text(&out.stderr));
    let inspected = text(&weir(&["journal", "inspect"]).stdout);
    assert!(inspected.contains("2 GiB") && inspected.contains("256 MiB"), "{inspected}");
    let moved = weir(&["journal", "cursors", "move", "kept", "99999999999999999"]);
    assert_eq!(moved.status.code(), Some(1));
    assert!(text(&moved.stderr).contains("is outside of it: nothing was moved"), "{}", text(&moved.stderr));
    assert_eq!(text(&weir(&["journal", "inspect"]).stdout), inspected);
    fs::write(&config, "sources: { web: { type: htpp } }\n").expect("a file");
    let wrong = weir(&["query"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("htpp"), "{}", text(&wrong.stderr));
}

/// How a sink's events have ended, by the metrics.
fn counts(agent: &Agent, sink: &str) -> [u64; 4] {
    agent.assert_books();
    let of = |name| agent.metric(name, sink);
    let moved = format!("weir_events_dropped_total{{component=\"{sink}\"");
    let samples = agent.metrics();
    let moved = samples.iter().filter(|(key, _)| key.starts_with(&moved) && key.contains("cause=\"moved\""));
    let moved = moved.map(|(_, value)| *value as u64).sum();
    [of("weir_events_addressed_total"), of("weir_events_delivered_total"), moved, of("weir_events_waiting")]
}

#[test]
fn events_that_a_moved_cursor_passes_over_are_dropped_and_those_it_goes_back_for_are_addressed_again() {
    let (folder, ingest, takes) = (Folder::new(), free_port(), Arc::new(AtomicBool::new(false)));
    let collector = Collector::start({
        let takes = takes.clone();
        move |_| reply(if takes.load(Ordering::Relaxed) { 200 } else { 503 }, "")
    });
    let yaml = format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}' }} }}\n\
         sinks: {{ h: {{ type: http, inputs: [web], uri: '{}', batch: {{ age: 10ms }}, retry: {{ initial: 20ms, max: 50ms }} }} }}\n",
        format_args!("http://127.0.0.1:{}/", collector.port)
    );
    let agent = Agent::start(&folder, &yaml);
    let body: String = (0..30).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    assert_eq!(post(ingest, &body), 30);
    assert_eq!(counts(&agent, "h"), [30, 0, 0, 30]);
    assert!(agent.stop().success());
    let weir = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let out = command.args(["journal", "cursors"]).args(arguments).arg("-c").arg(folder.path("weir.yaml")).output();
        let out = out.expect("weir runs");
        assert!(out.status.success(), "{}", text(&out.stderr));
        (text(&out.stdout), text(&out.stderr))
    };
    let (list, _) = weir(&["list"]);
    let settled = list.lines().find(|line| line.starts_with("h ")).and_then(|line| line.split_whitespace().nth(1));
    let first: u64 = settled.expect("its cursor").parse().expect("a seq");
    let to = |nth: u64| weir(&["move", "h", &(first + nth).to_string()]).1;
    let after = || {
        let agent = Agent::start(&folder, &yaml);
        let counted = counts(&agent, "h");
        assert!(agent.stop().success());
        counted
    };
    assert!(to(10).contains("10 events"));
    // A move that is taken back before the sink has run has dropped nothing.
    to(25);
    to(10);
    assert_eq!(after(), [30, 0, 10, 20]);
    assert_eq!(after(), [30, 0, 10, 20]);
    to(25);
    to(0);
    to(30);
    to(20);
    assert_eq!(after(), [30, 0, 20, 10]);
    // What counts as dropped by now, and is wanted after all, is addressed once more.
    assert!(to(5).contains("15 events again"));
    assert_eq!(after(), [45, 0, 20, 25]);
    takes.store(true, Ordering::Relaxed);
    let agent = Agent::start(&folder, &yaml);
    eventually("they are delivered", || counts(&agent, "h") == [45, 25, 20, 0]);
    assert!(agent.stop().success());
    to(28);
    to(29);
    assert_eq!(after()[..1], [46]);
    let agent = Agent::start(&folder, &yaml);
    eventually("it is delivered", || counts(&agent, "h") == [46, 26, 20, 0]);
}

/// What `weir redact` prints for these arguments and this input.
fn redacted(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("redact").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.env("WEIR_CONFIG", "").spawn().expect("weir runs");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("weir reads");
    let output = child.wait_with_output().expect("weir ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn redact_explains_line_column_rule_and_what_decided() {
    let folder = Folder::new();
    let config = folder.path("weir.yaml");
    let rules = "[builtin, ip_address, {name: badge, pattern: 'B-[0-9]{6}'}]";
    let yaml = format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:1' }} }}\n\
         transforms: {{ safe: {{ type: redact, inputs: [web], rules: {rules} }} }}\n\
         sinks: {{ out: {{ type: blackhole, inputs: [safe] }} }}\n"
    );
    fs::write(&config, yaml).expect("written");
    let input = concat!(
        "x = 1\n",
        "رمز = 2; password = 'hunter2'\n",
        "{\"code\":\"k = 'AKIAQWERTYUIOPASDF12'\",\"password\":\"p\"}\n",
        "203.0.113.7 has B-123456\n",
    );
    let arguments = ["-c", config.to_str().expect("a path")];
    let explained = redacted(&[&arguments[..], &["--explain"]].concat(), input);
    assert_eq!(
        explained,
        concat!(
            "2:22 credential: a literal given to the name\n",
            "3:15 aws_access_key: the form of the token\n",
            "3:49 secret_field: the name of the member and its value\n",
            "4:1 ip_address: the form of an address\n",
            "4:17 badge: a pattern of your own\n",
        )
    );
    let clean = redacted(&arguments, input);
    assert!(clean.starts_with("x = 1\nرمز = 2; password = '[credential]'\n"), "{clean}");
    assert!(clean.ends_with("[ip_address] has [badge]\n"), "{clean}");
}

#[test]
fn what_commands_show_of_an_event_is_what_was_sent() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(ingest).replace("type: http,", "type: http, on_bad: dead_letter,"));
    // Numbers that no float holds, in an order that nobody sorted.
    let metadata = r#"{"z":123456789012345678901234567890,"a":1e400,"f":1.10,"n":-0.0}"#;
    let event = format!("{{\"user_id\":\"ali\",\"status\":\"error\",\"metadata\":{metadata}}}");
    let shows = |arguments: &[&str]| {
        let out = run(&agent, arguments);
        assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    assert_eq!(post(ingest, &event), 1);
    stored(&agent, 1);
    let lines = shows(&["query", "--format", "ndjson"]);
    assert!(lines.contains(&format!("\"metadata\":{metadata}")) && lines.starts_with("{\"id\":"), "{lines}");
    assert_eq!(lines.lines().count(), 1);
    assert!(shows(&["query"]).contains("  ali  "));
    let list = shows(&["query", "--format", "json"]);
    assert!(list.starts_with("[\n  {\n    \"id\": ") && list.ends_with("\n  }\n]\n"), "{list}");
    for kept in ["\"z\": 123456789012345678901234567890", "\"a\": 1e400", "\"f\": 1.10"] {
        assert!(list.contains(kept), "{kept} in {list}");
    }
    assert_eq!(shows(&["query", "user_id:nobody", "--format", "json"]), "[]\n");
    for format in ["table", "ndjson"] {
        while_sending(
            || {
                post(ingest, &event);
            },
            || {
                let tapped = shows(&["tap", "--limit", "1", "--format", format]);
                assert!(tapped.contains("ali"), "{tapped}");
            },
        );
    }
    post(ingest, &format!("{event}]"));
    eventually("it is put aside", || !agent.letters().is_empty());
    assert!(shows(&["dlq", "show", &agent.letters()[0]]).contains("1e400"));
}

#[test]
fn what_is_found_is_written_as_it_comes_however_much_it_is() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &yaml(ingest));
    // More than a command keeps of one answer.
    let long = "x".repeat(900_000);
    for n in 0..80 {
        assert_eq!(post(ingest, &format!("{{\"user_id\":\"ali\",\"code\":\"{n} {long}\"}}")), 1);
    }
    stored(&agent, 80);
    let out = run(&agent, &["query", "--format", "csv"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(out.stdout.iter().filter(|byte| **byte == b'\n').count(), 81);
    assert!(out.stdout.len() > 72_000_000);
}

#[test]
fn the_secret_of_a_configuration_that_is_named_signs() {
    let (folder, ingest) = (Folder::new(), free_port());
    let auth = "  auth: { jwt: { secret: 'a secret of this test that is long enough', audience: weir } }\n";
    let agent = Agent::start(&folder, &format!("{auth}{}", yaml(ingest)));
    let asked = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("query").args(arguments).current_dir("/").output().expect("weir runs")
    };
    let (config, data_dir) = (folder.path("weir.yaml"), agent.data_dir.display().to_string());
    let named = asked(&["-c", &config.display().to_string()]);
    assert!(named.status.success(), "{}", text(&named.stderr));
    let unnamed = asked(&["--data-dir", &data_dir]);
    assert!(!unnamed.status.success() && text(&unnamed.stderr).contains("`-c`"), "{}", text(&unnamed.stderr));
}
