//! `weir dlq`: looks at dead letters of the running agent, sends them again or drops them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::client::{Answer, Connection};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Subcommand)]
enum Command {
    /// One line for each letter, dead or parked for its destination
    List,
    /// One letter, whole
    Show { id: String },
    /// Send letters again: a sink's to that sink, a source's through that source
    Replay(Which),
    /// Drop letters for good
    Drop(Which),
}

#[derive(Args)]
struct Which {
    /// Ids of letters
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All letters
    #[arg(long)]
    all: bool,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let connection = &arguments.connection;
    let done = match &arguments.command {
        Command::List => list(connection),
        Command::Show { id } => fetch(connection, Method::GET, &format!("/api/dlq/{id}")).and_then(show),
        Command::Replay(which) => each(connection, which, Method::POST, "/replay", "replayed"),
        Command::Drop(which) => each(connection, which, Method::DELETE, "", "dropped"),
    };
    match done {
        Ok(text) => super::print(&text),
        Err(message) => super::complain(message),
    }
}

fn fetch(connection: &Connection, method: Method, path: &str) -> Result<Answer, String> {
    let answer = connection.ask(method, path)?;
    if answer.status.is_success() { Ok(answer) } else { Err(answer.problem()) }
}

fn document(answer: &Answer) -> Result<Value, String> {
    serde_json::from_slice(&answer.body).map_err(|error| format!("the agent's answer is no JSON: {error}"))
}

fn show(answer: Answer) -> Result<String, String> {
    Ok(format!("{:#}\n", document(&answer)?))
}

fn letters(connection: &Connection) -> Result<Vec<Value>, String> {
    let (mut all, mut path) = (Vec::new(), "/api/dlq?limit=1000".to_owned());
    loop {
        let mut page = document(&fetch(connection, Method::GET, &path)?)?;
        all.extend(page.get_mut("letters").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("/api/dlq?limit=1000&after={next}"),
            None => return Ok(all),
        }
    }
}

fn list(connection: &Connection) -> Result<String, String> {
    let mut out = String::new();
    for letter in letters(connection)? {
        let mut columns = ["id", "time", "component", "attempts", "reason"].map(|name| word(&letter, name));
        if letter["parked"] == true {
            columns[4] = format!("parked for `{}`: {}", word(&letter, "destination"), word(&letter, "answer"));
        }
        out.push_str(&columns.join("  ").replace(char::is_control, " "));
        out.push('\n');
    }
    Ok(out)
}

fn word(letter: &Value, name: &str) -> String {
    match letter.get(name) {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn each(connection: &Connection, which: &Which, method: Method, action: &str, done: &str) -> Result<String, String> {
    let ids = match which.all {
        false => which.ids.clone(),
        true => letters(connection)?.iter().map(|letter| word(letter, "id")).collect(),
    };
    let mut out = String::new();
    for id in ids {
        let answer = connection.ask(method.clone(), &format!("/api/dlq/{id}{action}"))?;
        if which.all && answer.status == StatusCode::NOT_FOUND {
            // Parked letters leave by themselves.
            continue;
        }
        if !answer.status.is_success() {
            return Err(format!("{id}: {}", answer.problem()));
        }
        out.push_str(&format!("{id} {done}\n"));
    }
    Ok(out)
}
