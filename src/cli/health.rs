//! `weir health`: asks the running agent; for container health checks without curl.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::client::Connection;

#[derive(Args)]
pub struct Arguments {
    /// Also fail while a component is held
    #[arg(long)]
    sinks: bool,
    #[command(flatten)]
    connection: Connection,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let connection = arguments.connection;
    let path = if arguments.sinks { "/health?sinks" } else { "/health" };
    match connection.ask(Method::GET, path) {
        Ok(answer) if answer.status.is_success() => {
            let health: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match takes_events(&health) {
                true => super::print(&describe(&health)),
                false => super::complain(describe(&health).replacen("healthy\n", "unhealthy\n", 1).trim_end()),
            }
        }
        Ok(answer) => match serde_json::from_slice::<Value>(&answer.body) {
            Ok(health) if health["components"].is_array() => {
                super::complain(describe(&health).replacen("healthy\n", "unhealthy\n", 1).trim_end())
            }
            _ => super::complain(format!("unhealthy: {}", answer.problem())),
        },
        Err(message) => super::complain(message),
    }
}

/// Whether the journal takes events: an agent that refuses all of them is not healthy.
fn takes_events(health: &Value) -> bool {
    matches!(health["journal"]["state"].as_str(), None | Some("ok"))
}

/// One line, and one more for each sink that does not deliver all: the process is well all the same.
fn describe(health: &Value) -> String {
    let mut out = "healthy\n".to_owned();
    let journal = &health["journal"];
    if !takes_events(health) {
        let word = |name: &str| journal[name].as_str().unwrap_or("?").replace(char::is_control, " ");
        let reason = journal["reason"].as_str().map(|_| format!(": {}", word("reason"))).unwrap_or_default();
        out.push_str(&format!("the journal is {} since {}{reason}\n", word("state"), word("since")));
    }
    let word = |value: &Value| value.as_str().unwrap_or("?").replace(char::is_control, " ");
    let full_buffers = health["full_buffers"].as_array().map(Vec::as_slice).unwrap_or_default();
    for name in full_buffers.iter().map(word) {
        out.push_str(&format!("the `buffer` of sinks.{name} is full: the sources that feed it wait\n"));
    }
    if let Some(dead_letters) = health["dead_letters"].as_u64().filter(|dead_letters| *dead_letters > 0) {
        let noun = if dead_letters == 1 { "dead letter" } else { "dead letters" };
        out.push_str(&format!("{dead_letters} {noun}: `weir dlq list`\n"));
    }
    let components = health["components"].as_array().map(Vec::as_slice).unwrap_or_default();
    for sink in components {
        let kind = word(&sink["kind"]);
        let (name, state, since) = (word(&sink["name"]), word(&sink["state"]), word(&sink["since"]));
        if matches!(&*state, "held" | "retrying" | "degraded") {
            let error = sink["last_error"]["message"].as_str().map(|_| word(&sink["last_error"]["message"]));
            let error = error.map(|error| format!(": {error}")).unwrap_or_default();
            out.push_str(&format!("{kind}s.{name} is {state} since {since}{error}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sink_that_does_not_deliver_has_a_line_of_its_own() {
        let sink = |name: &str, state: &str| json!({ "name": name, "kind": "sink", "state": state, "since": "T" });
        let mut held = sink("db", "held");
        held["last_error"] = json!({ "time": "T", "message": "no such\ntable" });
        let health = json!({ "components": [sink("a", "running"), held, sink("c", "retrying")] });
        assert_eq!(
            describe(&health),
            "healthy\nsinks.db is held since T: no such table\nsinks.c is retrying since T\n"
        );
        assert_eq!(describe(&Value::Null), "healthy\n");
    }
}
