//! `weir dlq`: lists, replays and drops dead letters of a running agent.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::client::{Answer, Connection};
use super::indent::indented;

/// Dead letters that one request drops.
const DROPPED_AT_A_TIME: usize = 500;
/// Failures that are printed one by one.
const SHOWN_FAILURES: usize = 20;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Subcommand)]
enum Command {
    /// List dead letters, and events parked for a destination
    List,
    /// Show one dead letter
    Show { id: String },
    /// Replay dead letters: a sink's to that sink, a source's through that source
    Replay(Which),
    /// Delete dead letters
    Drop(Which),
}

#[derive(Args)]
struct Which {
    /// Ids of dead letters
    #[arg(value_name = "ID", required_unless_present_any = ["all", "component"], conflicts_with_all = ["all", "component"])]
    ids: Vec<String>,
    /// All dead letters
    #[arg(long, conflicts_with = "component")]
    all: bool,
    /// All dead letters of one component
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let connection = &arguments.connection;
    let done = match &arguments.command {
        Command::List => list(connection),
        Command::Show { id } => fetch(connection, Method::GET, &format!("/api/dlq/{id}")).and_then(show),
        Command::Replay(which) => replay(connection, which),
        Command::Drop(which) => drop_dead_letters(connection, which),
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
    serde_json::from_slice(&answer.body).map_err(|error| format!("the agent's answer is not JSON: {error}"))
}

fn show(answer: Answer) -> Result<String, String> {
    let text = std::str::from_utf8(&answer.body).map_err(|_| "the agent's answer is not UTF-8".to_owned())?;
    Ok(format!("{}\n", indented(text, 0)))
}

fn dead_letters(connection: &Connection) -> Result<Vec<Value>, String> {
    let (mut all, mut path) = (Vec::new(), "/api/dlq?limit=1000".to_owned());
    loop {
        let mut page = document(&fetch(connection, Method::GET, &path)?)?;
        all.extend(page.get_mut("dead_letters").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("/api/dlq?limit=1000&after={next}"),
            None => return Ok(all),
        }
    }
}

fn list(connection: &Connection) -> Result<String, String> {
    let mut out = String::new();
    for dead_letter in dead_letters(connection)? {
        let mut columns = ["id", "time", "component", "attempts", "reason"].map(|name| word(&dead_letter, name));
        if dead_letter["parked"] == true {
            columns[4] =
                format!("parked for `{}`: {}", word(&dead_letter, "destination"), word(&dead_letter, "answer"));
        }
        out.push_str(&columns.join("  ").replace(char::is_control, " "));
        out.push('\n');
    }
    Ok(out)
}

fn word(dead_letter: &Value, name: &str) -> String {
    match dead_letter.get(name) {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The ids that are meant, oldest first.
fn chosen(connection: &Connection, which: &Which) -> Result<Vec<String>, String> {
    if !which.all && which.component.is_none() {
        return Ok(which.ids.clone());
    }
    let is_meant =
        |dead_letter: &Value| which.component.as_ref().is_none_or(|name| word(dead_letter, "component") == *name);
    Ok(dead_letters(connection)?
        .iter()
        .filter(|dead_letter| is_meant(dead_letter))
        .map(|dead_letter| word(dead_letter, "id"))
        .collect())
}

/// Goes on past dead letters that fail, and says how many did.
fn replay(connection: &Connection, which: &Which) -> Result<String, String> {
    let (mut replayed, mut failures) = (0, Vec::new());
    for id in chosen(connection, which)? {
        let answer = connection.ask(Method::POST, &format!("/api/dlq/{id}/replay"))?;
        match answer.status {
            status if status.is_success() => replayed += 1,
            // Parked dead letters leave by themselves.
            StatusCode::NOT_FOUND if which.ids.is_empty() => {}
            _ => failures.push(format!("{id}: {}", answer.problem())),
        }
    }
    finish("replayed", replayed, &failures)
}

/// Drops many dead letters with each request, since every one costs the queue a sync; those that somebody has named one
/// by one, so that it can be said which of them failed.
fn drop_dead_letters(connection: &Connection, which: &Which) -> Result<String, String> {
    let (mut dropped, mut failures) = (0, Vec::new());
    let at_a_time = if which.ids.is_empty() { DROPPED_AT_A_TIME } else { 1 };
    for ids in chosen(connection, which)?.chunks(at_a_time) {
        let ids = ids.join(",");
        let answer = connection.ask(Method::DELETE, &format!("/api/dlq/{ids}"))?;
        match answer.status {
            status if status.is_success() => dropped += document(&answer)?["count"].as_u64().unwrap_or(1),
            StatusCode::NOT_FOUND if which.ids.is_empty() => {}
            _ => failures.push(format!("{ids}: {}", answer.problem())),
        }
    }
    finish("dropped", dropped, &failures)
}

fn finish(done: &str, count: u64, failures: &[String]) -> Result<String, String> {
    if failures.is_empty() {
        return Ok(format!("{count} {done}\n"));
    }
    let shown = failures.iter().take(SHOWN_FAILURES).map(String::as_str).collect::<Vec<_>>().join("\n");
    Err(format!("{count} {done}, {} failed:\n{shown}", failures.len()))
}
