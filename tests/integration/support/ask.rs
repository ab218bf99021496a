//! What an operator asks an agent: its health, its dead letters, whether a configuration works.

use std::process::{Command, Output};

use super::{Agent, Folder, eventually, request};

/// What `/health?sinks` says of one component.
#[derive(Debug)]
pub struct Health {
    pub state: String,
    pub last_error: String,
    /// The status of the whole answer.
    pub status: u16,
}

impl Agent {
    pub fn health(&self, component: &str) -> Health {
        let answer = request(self.api, "GET", "/health?sinks", &[], b"").expect("the agent answers");
        let told = answer.json();
        let mine = told["components"].as_array().and_then(|all| all.iter().find(|one| one["name"] == component));
        let mine = mine.unwrap_or_else(|| panic!("there is no `{component}` in {told}"));
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
        Health { state: text(&mine["state"]), last_error: text(&mine["last_error"]["message"]), status: answer.status }
    }

    /// Waits until a sink has delivered so many events, and looks at the books.
    pub fn delivered(&self, sink: &str, count: u64) {
        eventually(&format!("`{sink}` has delivered {count}"), || {
            self.metric("weir_events_delivered_total", sink) == count
        });
        self.assert_books();
    }

    /// Runs a command that talks to this agent.
    pub fn weir(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .args(["--url", &format!("http://127.0.0.1:{}", self.api), "--token", &self.token()])
            .output()
            .expect("weir runs")
    }

    /// The ids of all dead letters.
    pub fn letters(&self) -> Vec<String> {
        let out = self.weir(&["dlq", "list"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("text");
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }
}

/// Runs `weir validate` on the folder's configuration: whether all works, and what it says.
pub fn validate(folder: &Folder) -> (bool, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["validate", "-c", &folder.path("weir.yaml").display().to_string()])
        .output()
        .expect("weir validate runs");
    (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}
