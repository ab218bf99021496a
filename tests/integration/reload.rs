//! Changing and ending a running agent, and the commands of an operator.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use crate::support::{Agent, Answer, Folder, eventually, free_port, lines_of, post, request};
use serde_json::Value;

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("weir runs")
}

fn reload(agent: &Agent) -> Answer {
    let authorization = format!("Bearer {}", agent.token());
    request(agent.api, "POST", "/api/reload", &[("Authorization", &authorization)], b"").expect("an answer")
}

fn reloads(agent: &Agent, result: &str) -> u64 {
    let name = format!("weir_config_reloads_total{{result=\"{result}\"}}");
    agent.metrics().get(&name).map_or(0, |count| *count as u64)
}

fn web(port: u16) -> String {
    format!("sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n")
}

fn file_sink(folder: &Folder, name: &str, input: &str) -> String {
    let out = folder.path("out");
    format!(
        "  {name}: {{ type: file, inputs: [{input}], path: '{}/{name}.ndjson', batch: {{ age: 20ms }} }}\n",
        out.display()
    )
}

/// A file sink that cannot write: a file stands where its folder should be.
fn stuck_sink(folder: &Folder, more: &str) -> String {
    let blocked = folder.write("blocked", "in the way");
    format!(
        "  stuck: {{ type: file, inputs: [web], path: '{}/x/o.ndjson', batch: {{ age: 20ms }}{more} }}\n",
        blocked.display()
    )
}

fn numbers(folder: &Folder, prefix: &str) -> Vec<u64> {
    let number = |line: String| serde_json::from_str::<Value>(&line).expect("a whole line")["n"].as_u64();
    lines_of(&folder.path("out"), prefix).into_iter().filter_map(number).collect()
}

#[test]
fn sighup_adds_a_sink_and_a_transform_and_loses_nothing_posted_meanwhile() {
    let folder = Folder::new();
    let port = free_port();
    let before = format!("{}sinks:\n{}", web(port), file_sink(&folder, "first", "web"));
    let agent = Agent::start(&folder, &before);
    post(port, "{\"n\":0}");
    agent.configure(
        &folder,
        &format!(
            "{}transforms:\n  tag: {{ type: enrich, inputs: [web], set: {{ team: blue }} }}\nsinks:\n{}{}",
            web(port),
            file_sink(&folder, "first", "web"),
            file_sink(&folder, "second", "tag")
        ),
    );
    let mut n = 1;
    std::thread::scope(|scope| {
        let poster = scope.spawn(|| {
            for n in 1..400_u64 {
                assert_eq!(post(port, &format!("{{\"n\":{n}}}")), 1);
            }
        });
        agent.signal("-HUP");
        eventually("the reload is applied", || reloads(&agent, "applied") == 1);
        poster.join().expect("every post is taken");
        n = 400;
    });
    post(port, &format!("{{\"n\":{n}}}"));
    eventually("the old sink has all", || numbers(&folder, "first").len() as u64 == n + 1);
    eventually("the new sink has the last", || numbers(&folder, "second").contains(&n));
    assert_eq!(numbers(&folder, "first"), (0..=n).collect::<Vec<_>>(), "each once, in order");
    let second = numbers(&folder, "second");
    assert_eq!(second, (second[0]..=n).collect::<Vec<_>>(), "from its start on nothing is missing");
    let line = lines_of(&folder.path("out"), "second").pop().expect("a line");
    assert!(line.contains("\"team\":\"blue\""), "{line}");
    agent.assert_books();
    assert!(agent.stop().success());
}

#[test]
fn outputs_that_are_written_in_another_order_keep_their_events() {
    let folder = Folder::new();
    let port = free_port();
    let (small, large) = ("small: 'n:<30'", "large: 'n:>=30'");
    let yaml = |outputs: [&str; 2]| {
        format!(
            "{}transforms:\n  parted: {{ type: route, inputs: [web], {} }}\nsinks:\n{}{}",
            web(port),
            outputs.join(", "),
            file_sink(&folder, "little", "parted.small"),
            file_sink(&folder, "much", "parted.large")
        )
    };
    let agent = Agent::start(&folder, &yaml([small, large]));
    let send = |numbers: [u64; 3]| numbers.map(|n| post(port, &format!("{{\"n\":{n}}}")));
    send([1, 31, 32]);
    agent.configure(&folder, &yaml([large, small]));
    let answer = reload(&agent);
    assert_eq!(answer.status, 200, "{}", answer.text());
    send([2, 33, 34]);
    eventually("all arrive where they belong", || {
        numbers(&folder, "little") == [1, 2] && numbers(&folder, "much") == [31, 32, 33, 34]
    });
    agent.assert_books();
}

#[test]
fn a_broken_configuration_changes_nothing_and_says_so() {
    let folder = Folder::new();
    let port = free_port();
    let good = format!("{}sinks:\n{}", web(port), file_sink(&folder, "first", "web"));
    let agent = Agent::start(&folder, &good);
    agent.configure(&folder, &format!("{}sinks:\n  first: {{ type: fiel, inputs: [web] }}\n", web(port)));
    let answer = reload(&agent);
    assert_eq!(answer.status, 422, "{}", answer.text());
    let verdict = answer.json();
    assert_eq!(verdict["applied"], false);
    let errors = verdict["errors"].to_string();
    assert!(errors.contains("fiel") && errors.contains("weir.yaml:"), "{errors}");
    assert!(verdict.get("changed").is_some(), "{verdict}");
    assert_eq!(reloads(&agent, "failed"), 1);
    agent.signal("-HUP");
    eventually("the signal is obeyed", || reloads(&agent, "failed") == 2);
    eventually("the log says so", || agent.log().contains("refused") && agent.log().contains("fiel"));
    post(port, "{\"n\":1}");
    eventually("the pipeline runs on", || numbers(&folder, "first") == [1]);
    agent.configure(&folder, &format!("limits: {{ event: 2MiB }}\n{good}"));
    let answer = reload(&agent);
    assert_eq!(answer.status, 422);
    assert!(answer.json()["errors"].to_string().contains("limits"), "{}", answer.text());
    agent.configure(&folder, &good);
    let verdict = reload(&agent);
    assert_eq!((verdict.status, verdict.json()["applied"].as_bool()), (200, Some(true)), "{}", verdict.text());
    assert!(verdict.json()["errors"].as_array().is_some_and(Vec::is_empty));
    assert!(agent.stop().success());
}

#[test]
fn a_sink_with_waiting_events_is_removed_only_where_it_says_drop() {
    let folder = Folder::new();
    let port = free_port();
    let rest = file_sink(&folder, "first", "web");
    let agent = Agent::start(&folder, &format!("{}sinks:\n{rest}{}", web(port), stuck_sink(&folder, "")));
    post(port, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    eventually("they wait", || agent.metric("weir_events_waiting", "stuck") == 3);
    let without = format!("{}sinks:\n{rest}", web(port));
    agent.configure(&folder, &without);
    let answer = reload(&agent);
    assert_eq!(answer.status, 422, "{}", answer.text());
    let errors = answer.json()["errors"].to_string();
    assert!(errors.contains("stuck") && errors.contains("3 undelivered events"), "{errors}");
    agent.configure(&folder, &format!("{}sinks:\n{rest}{}", web(port), stuck_sink(&folder, ", on_remove: drop")));
    assert_eq!(reload(&agent).status, 200);
    assert_eq!(agent.metric("weir_events_waiting", "stuck"), 3, "they still wait");
    agent.configure(&folder, &without);
    let answer = reload(&agent);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["changed"]["removed"].to_string().contains("stuck"), "{}", answer.text());
    eventually("it is gone", || !agent.metrics().keys().any(|name| name.contains("component=\"stuck\"")));
    eventually("the other goes on", || numbers(&folder, "first") == [1, 2, 3]);
    agent.assert_books();
    assert!(agent.stop().success());
    let data = folder.path("data").display().to_string();
    let cursors = String::from_utf8(weir(&["journal", "cursors", "--data-dir", &data]).stdout).expect("text");
    assert!(cursors.contains("first") && !cursors.contains("stuck"), "{cursors}");
}

#[test]
fn a_watched_file_is_reloaded_when_it_changes() {
    let folder = Folder::new();
    let port = free_port();
    let before = format!("{}sinks:\n{}", web(port), file_sink(&folder, "first", "web"));
    let agent = Agent::spawn_with_flags(&folder, &before, &[], &["--watch"]).until_ready();
    agent.configure(&folder, &format!("{before}{}", file_sink(&folder, "second", "web")));
    eventually("the change is seen", || reloads(&agent, "applied") == 1);
    post(port, "{\"n\":1}");
    eventually("the new sink works", || numbers(&folder, "second") == [1]);
    assert!(agent.stop().success());
}

#[test]
fn a_second_agent_on_the_same_data_names_the_first() {
    let folder = Folder::new();
    let yaml = |port| format!("{}sinks:\n  out: {{ type: blackhole, inputs: [web] }}\n", web(port));
    let first = Agent::start(&folder, &yaml(free_port()));
    let pid = first.child.id().to_string();
    // With the very same ports, as somebody does who starts it twice, and with others.
    let same = Command::new(env!("CARGO_BIN_EXE_weir")).args(["run", "-c"]).arg(folder.path("weir.yaml")).output();
    let same = same.expect("weir runs");
    let said = String::from_utf8_lossy(&same.stderr);
    assert_eq!(same.status.code(), Some(1), "{said}");
    assert!(said.contains(&pid), "{said}");
    let mut second = Agent::spawn(&folder, &yaml(free_port()), &[]);
    assert_eq!(second.child.wait().expect("it ends").code(), Some(1), "{}", second.log());
    assert!(second.log().contains(&pid), "{}", second.log());
    assert_eq!(request(first.api, "GET", "/ready", &[], b"").expect("an answer").status, 200);
    assert_eq!(first.stop().code(), Some(0));
}

#[test]
fn what_is_in_memory_and_cannot_be_delivered_is_abandoned_aloud() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = format!(
        "journal: {{ mode: memory }}\nlimits: {{ shutdown_timeout: 1s }}\n\
         sources:\n  web: {{ type: http, address: '127.0.0.1:{port}', wait: none }}\nsinks:\n{}",
        stuck_sink(&folder, "")
    );
    let mut agent = Agent::start(&folder, &yaml);
    let answer = request(port, "POST", "/", &[], b"{\"n\":1}\n{\"n\":2}\n").expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    eventually("they wait", || agent.metric("weir_events_waiting", "stuck") == 2);
    agent.signal("-TERM");
    eventually("it ends", || agent.child.try_wait().expect("it can be waited for").is_some());
    assert_eq!(agent.child.wait().expect("it has ended").code(), Some(1));
    assert!(agent.log().contains("2 events"), "{}", agent.log());
}

#[test]
fn an_ephemeral_agent_says_where_it_is_in_one_line() {
    let folder = Folder::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--ephemeral"])
        .current_dir(&folder.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("weir runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let said: Value = serde_json::from_str(&line).expect("JSON");
    let port = |key: &str| -> u16 {
        let url = said[key].as_str().unwrap_or_else(|| panic!("{key} in {line}"));
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    };
    let (api, ingest) = (port("api"), port("ingest"));
    assert_eq!(post(ingest, "{\"username\":\"ali\",\"code\":\"1\"}"), 1);
    let authorization = format!("Bearer {}", said["token"].as_str().expect("a token"));
    let answer = request(api, "GET", "/api/pipeline", &[("Authorization", &authorization)], b"").expect("an answer");
    assert_eq!(answer.status, 200);
    let url = said["api"].as_str().expect("a URL");
    assert_eq!(weir(&["health", "--url", url]).status.code(), Some(0));
    let done = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(done.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 0, "nothing is left on disk");
}

#[test]
fn health_is_told_by_the_exit_code() {
    let folder = Folder::new();
    let yaml = format!("{}sinks:\n  out: {{ type: blackhole, inputs: [web] }}\n", web(free_port()));
    let agent = Agent::start(&folder, &yaml);
    let data = agent.data_dir.display().to_string();
    assert_eq!(weir(&["health", "--data-dir", &data]).status.code(), Some(0));
    let by_configuration = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["health", "--url", &format!("http://127.0.0.1:{}/", agent.api)])
        .output()
        .expect("weir runs");
    assert_eq!(by_configuration.status.code(), Some(0));
    assert_eq!(agent.stop().code(), Some(0));
    let out = weir(&["health", "--data-dir", &data]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).starts_with("error: "));
}

#[test]
fn the_journal_of_a_stopped_agent_can_be_looked_into() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = format!("{}sinks:\n{}", web(port), file_sink(&folder, "first", "web"));
    let agent = Agent::start(&folder, &yaml);
    post(port, "{\"n\":1}\n{\"n\":2}\n");
    eventually("both are written", || numbers(&folder, "first").len() == 2);
    let data = agent.data_dir.display().to_string();
    let text = |out: Output| (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned());
    let busy = weir(&["journal", "inspect", "--data-dir", &data]);
    assert_eq!(busy.status.code(), Some(1), "the agent has it");
    assert_eq!(agent.stop().code(), Some(0));
    let (code, told) = text(weir(&["journal", "inspect", "--data-dir", &data]));
    assert_eq!(code, Some(0));
    assert!(told.contains("newest seq") && told.contains("first"), "{told}");
    let (code, told) = text(weir(&["journal", "verify", "--data-dir", &data]));
    assert_eq!(code, Some(0));
    assert!(told.contains("2 events are whole"), "{told}");
    let (code, told) = text(weir(&["journal", "export", "--data-dir", &data]));
    assert_eq!((code, told.as_str()), (Some(0), "{\"n\":1}\n{\"n\":2}\n"));
    let (code, told) = text(weir(&["journal", "cursors", "list", "--data-dir", &data]));
    assert_eq!(code, Some(0));
    assert!(told.contains("first"), "{told}");
    assert_eq!(weir(&["journal", "cursors", "drop", "nobody", "--data-dir", &data]).status.code(), Some(1));
    assert_eq!(weir(&["journal", "cursors", "drop", "first", "--data-dir", &data]).status.code(), Some(0));
    let (_, told) = text(weir(&["journal", "cursors", "--data-dir", &data]));
    assert!(!told.contains("first"), "{told}");
}

#[test]
fn redaction_can_be_tried_on_standard_input() {
    let folder = Folder::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("redact")
        .current_dir(&folder.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("weir runs");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(b"{\"n\":1,\"code\":\"password=hunter2hunter2\"}\npassword=hunter2hunter2 in text\n{}")
        .expect("a pipe");
    drop(input);
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8(out.stdout).expect("text");
    assert_eq!(out.status.code(), Some(0));
    assert!(!said.contains("hunter2"), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    let event: Value = serde_json::from_str(lines[0]).expect("still JSON");
    assert_eq!(event["n"], 1);
    assert!(lines[1].contains("[credential]") && lines[1].ends_with("in text"), "{said}");
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 0, "trying leaves nothing behind");
}

#[test]
fn validate_says_what_is_promised_and_what_does_not_work() {
    let folder = Folder::new();
    let data = folder.path("data");
    let head = format!("data_dir: {}\n{}", data.display(), web(free_port()));
    let good = folder.write("good.yaml", &format!("{head}sinks:\n{}", file_sink(&folder, "first", "web")));
    let stuck = folder.write("stuck.yaml", &format!("{head}sinks:\n{}", stuck_sink(&folder, "")));
    let bad = folder.write("bad.yaml", &format!("{head}sinks:\n  first: {{ type: fiel, inputs: [web] }}\n"));
    let validate = |path: &std::path::Path, more: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_weir")).args(["validate", "-c"]).arg(path).args(more).output();
        let out = out.expect("weir runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        (out.status.code(), said, String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, said, _) = validate(&good, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("sinks.first (file): effectively once; works"), "{said}");
    assert!(said.contains("configuration OK: 1 source"), "{said}");
    let (code, said, _) = validate(&stuck, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("failed: cannot write"), "{said}");
    assert_eq!(validate(&stuck, &["--no-connect"]).0, Some(0));
    let (code, said, complaint) = validate(&bad, &[]);
    assert_eq!((code, said.as_str()), (Some(78), ""));
    assert!(complaint.contains("fiel") && complaint.contains("bad.yaml:"), "{complaint}");
    assert!(!data.exists() && !folder.path("out").exists(), "nothing is touched");
}

#[test]
fn wrong_usage_is_2_and_completions_are_written() {
    for wrong in [&["nonsense"][..], &["run", "--nonsense"], &["token"], &["journal"], &["completions", "tcsh"]] {
        let out = weir(wrong);
        assert_eq!(out.status.code(), Some(2), "{wrong:?}");
        assert!(out.stdout.is_empty() && !out.stderr.is_empty());
    }
    for shell in ["bash", "zsh", "fish"] {
        let out = weir(&["completions", shell]);
        assert_eq!(out.status.code(), Some(0), "{shell}");
        assert!(String::from_utf8_lossy(&out.stdout).contains("validate"), "{shell}");
    }
    assert_eq!(weir(&["--version"]).status.code(), Some(0));
}
