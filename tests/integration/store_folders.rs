//! Folders of stores that a changed configuration leaves behind are named, with what is in them and how to read it.

use std::process::Command;

use crate::support::{Agent, Folder, eventually, free_port, post, request};

fn yaml(port: u16, sink: &str, path: &str) -> String {
    format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:{port}' }} }}\n\
         sinks: {{ {sink}: {{ type: store, inputs: [web, api], batch: {{ age: 10ms }}{path} }} }}\n"
    )
}

fn reload(agent: &Agent) {
    let bearer = format!("Bearer {}", agent.token());
    let answer = request(agent.api, "POST", "/api/reload", &[("Authorization", &bearer)], b"").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn total(agent: &Agent) -> u64 {
    let bearer = format!("Bearer {}", agent.token());
    let headers = [("Authorization", bearer.as_str())];
    let answer = request(agent.api, "GET", "/api/logs?q=has:n", &headers, b"").expect("an answer");
    answer.json()["total"].as_u64().unwrap_or_else(|| panic!("{}", answer.text()))
}

/// How often the log, and whether `validate`, names the folder.
fn named(agent: &Agent, folder: &Folder, left: &str) -> (usize, bool) {
    let warned =
        agent.log().lines().filter(|line| line.contains("not configured any more") && line.contains(left)).count();
    let out = Command::new(env!("CARGO_BIN_EXE_weir")).args(["validate", "-c"]).arg(folder.path("weir.yaml")).output();
    let out = out.expect("weir runs");
    assert!(out.status.success());
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    (warned, said.lines().any(|line| line.starts_with("warning: ") && line.contains(left)))
}

#[test]
fn a_store_that_a_rename_or_another_path_leaves_behind_is_named_at_each_start_and_reload_and_by_validate() {
    let (folder, port) = (Folder::new(), free_port());
    let elsewhere = format!(", path: '{}'", folder.path("elsewhere").display());
    let old = folder.path("data/store/one").display().to_string();
    let agent = Agent::start(&folder, &yaml(port, "one", ""));
    assert_eq!(post(port, "{\"n\":1}\n{\"n\":2}"), 2);
    eventually("they are stored", || total(&agent) == 2);
    assert_eq!(named(&agent, &folder, &old), (0, false));

    // Renamed, at a reload and at a start.
    agent.configure(&folder, &yaml(port, "two", &elsewhere));
    reload(&agent);
    assert_eq!(named(&agent, &folder, &old), (1, true));
    assert_eq!(post(port, "{\"n\":3}"), 1);
    eventually("it is stored", || total(&agent) == 1);
    assert!(agent.stop().success());

    // A folder that is not in the data folder is known from before.
    let agent = Agent::start(&folder, &yaml(port, "two", ""));
    assert_eq!(named(&agent, &folder, &old), (2, true));
    assert_eq!(named(&agent, &folder, "elsewhere"), (1, true));

    assert_eq!(post(port, "{\"n\":4}"), 1);
    eventually("it is stored", || total(&agent) == 1);

    // What the warning says to do.
    agent.configure(&folder, &yaml(port, "two", &format!(", path: '{old}'")));
    reload(&agent);
    eventually("it is read again", || total(&agent) == 2);
    assert_eq!(named(&agent, &folder, &old), (2, false));
    assert_eq!(named(&agent, &folder, &folder.path("data/store/two").display().to_string()), (1, true));
    assert_eq!(named(&agent, &folder, "elsewhere"), (1, true), "the log repeats no line at once");
    std::fs::remove_dir_all(folder.path("elsewhere")).expect("a folder");
    assert!(!named(&agent, &folder, "elsewhere").1);
}
