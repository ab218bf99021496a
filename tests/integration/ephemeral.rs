//! `weir run --ephemeral`: what comes in is found while the agent runs, and nothing is left behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Folder, post, request};

struct Ephemeral {
    child: Child,
    said: Value,
    /// Where the log says that its data is.
    data: PathBuf,
}

impl Ephemeral {
    fn start(folder: &Folder, arguments: &[&str]) -> Ephemeral {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--ephemeral"])
            .args(arguments)
            .current_dir(&folder.0)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path("log")).expect("a file"))
            .spawn()
            .expect("weir runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let said = serde_json::from_str(&line).expect("one JSON line");
        let log = fs::read_to_string(folder.path("log")).expect("a log");
        let starting = log.lines().find(|line| line.contains("\"starting\"")).expect("it says where its data is");
        let starting: Value = serde_json::from_str(starting).expect("the log is JSON");
        Ephemeral { child, said, data: starting["data_dir"].as_str().expect("a path").into() }
    }

    fn port(&self, key: &str) -> u16 {
        let url = self.said[key].as_str().expect("an address").trim_end_matches('/');
        url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    fn total(&self) -> Value {
        let authorization = format!("Bearer {}", self.said["token"].as_str().expect("a token"));
        let path = "/api/logs?user_id=ali";
        let answer = request(self.port("api"), "GET", path, &[("Authorization", &authorization)], b"");
        let answer = answer.expect("the agent answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["total"].clone()
    }

    fn stop(mut self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), (signal == "-TERM").then_some(0));
    }
}

#[test]
fn an_ephemeral_agent_answers_questions_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let own = folder.write(
        "own.yaml",
        "sources: { web: { type: http, address: '127.0.0.1:0' } }\n\
         sinks:\n  kept: { type: store, inputs: [web] }\n",
    );
    let own = own.display().to_string();
    for arguments in [&[][..], &["-c", &own], &["-c", &own, "--data-dir", "given"]] {
        // Each begins with nothing, whatever another has kept.
        let (first, second) = (Ephemeral::start(&folder, arguments), Ephemeral::start(&folder, arguments));
        for agent in [&first, &second] {
            assert_eq!(agent.total(), 0);
            // The answer waits until the event can be read.
            assert_eq!(post(agent.port("ingest"), "{\"user_id\":\"ali\",\"code\":\"1\"}"), 1);
            assert_eq!(agent.total(), 1);
            assert!(agent.data.exists(), "{}", agent.data.display());
        }
        let (killed, ended) = (first.data.clone(), second.data.clone());
        first.stop("-KILL");
        second.stop("-TERM");
        assert!(!ended.exists());
        let next = Ephemeral::start(&folder, arguments);
        assert!(!killed.exists(), "the next one removes what a killed one has left");
        let data = next.data.clone();
        next.stop("-TERM");
        assert!(!data.exists());
    }
    let mut left: Vec<String> = fs::read_dir(&folder.0)
        .expect("the folder")
        .map(|entry| entry.expect("a name").file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["log", "own.yaml"]);
}
