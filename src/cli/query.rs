//! `weir query`: finds stored events of the running agent.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration as StdDuration;

use clap::{Args, ValueEnum};
use form_urlencoded::Serializer;
use hyper::Method;
use serde_json::Value;

use super::client::Connection;
use crate::units::{Duration, Timestamp};

/// Rows of one request.
const PAGE: usize = 1000;
/// How often `--follow` asks for what is new.
const FOLLOW_EVERY: StdDuration = StdDuration::from_secs(1);
/// Characters of a cell of the table.
const WIDTH: usize = 60;
/// Columns of the table, and how wide each is at least.
const COLUMNS: [(&str, usize); 5] =
    [("timestamp", 24), ("user_id", 12), ("event_type", 14), ("status", 11), ("text", 0)];

#[derive(Args)]
pub struct Arguments {
    /// What to look for, such as `status:error user_id:ali`; everything without it
    #[arg(value_name = "QUERY")]
    query: Option<String>,
    /// Not older than this, such as 1h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<Duration>,
    /// Most events
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// How events are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Go on with events as they are stored
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Table,
    Json,
    Ndjson,
    Csv,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let found = match arguments.format {
        Format::Csv => export(&arguments),
        _ => list(&arguments).and_then(|rows| write(&arguments, &rows)),
    };
    match found {
        Ok(text) => {
            let code = super::print(&text);
            if arguments.follow { follow(&arguments) } else { code }
        }
        Err(message) => super::complain(message),
    }
}

/// The parameters that say which events are meant.
fn filter(arguments: &Arguments) -> Serializer<'static, String> {
    let mut parameters = Serializer::new(String::new());
    if let Some(query) = arguments.query.as_deref().filter(|query| !query.trim().is_empty()) {
        parameters.append_pair("q", query);
    }
    if let Some(since) = arguments.since {
        let from = Timestamp(Timestamp::now().0 - StdDuration::from(since).as_micros() as i64);
        parameters.append_pair("start_date", &from.to_string());
    }
    parameters
}

fn ask(connection: &Connection, path: &str) -> Result<Vec<u8>, String> {
    let answer = connection.ask(Method::GET, path)?;
    if answer.status.is_success() { Ok(answer.body.to_vec()) } else { Err(answer.problem()) }
}

fn list(arguments: &Arguments) -> Result<Vec<Value>, String> {
    let (mut rows, mut cursor): (Vec<Value>, Option<String>) = (Vec::new(), None);
    while rows.len() < arguments.limit {
        let mut parameters = filter(arguments);
        parameters.append_pair("limit", &PAGE.min(arguments.limit - rows.len()).to_string());
        if let Some(cursor) = &cursor {
            parameters.append_pair("cursor", cursor);
        }
        let body = ask(&arguments.connection, &format!("/api/logs?{}", parameters.finish()))?;
        let mut page: Value =
            serde_json::from_slice(&body).map_err(|error| format!("the agent's answer is no JSON: {error}"))?;
        rows.extend(page.get_mut("logs").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default());
        cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(rows)
}

fn export(arguments: &Arguments) -> Result<String, String> {
    let mut parameters = filter(arguments);
    parameters.append_pair("format", "csv").append_pair("limit", &arguments.limit.to_string());
    let body = ask(&arguments.connection, &format!("/api/logs/export?{}", parameters.finish()))?;
    String::from_utf8(body).map_err(|_| "the agent's answer is no text".to_owned())
}

fn write(arguments: &Arguments, rows: &[Value]) -> Result<String, String> {
    Ok(match arguments.format {
        Format::Json => format!("{:#}\n", Value::Array(rows.to_vec())),
        Format::Ndjson => rows.iter().map(|row| format!("{row}\n")).collect(),
        _ => table(rows, std::io::stdout().is_terminal(), true),
    })
}

fn table(rows: &[Value], is_coloured: bool, with_head: bool) -> String {
    let mut out = String::new();
    if with_head {
        let head: Vec<String> = COLUMNS.iter().map(|(name, width)| format!("{name:<width$}")).collect();
        out.push_str(head.join("  ").trim_end());
        out.push('\n');
    }
    for row in rows {
        let cells: Vec<String> = COLUMNS.iter().map(|(name, width)| format!("{:<width$}", cell(row, name))).collect();
        let line = cells.join("  ");
        let colour = match row.get("status").and_then(Value::as_str) {
            Some("error" | "aborted" | "lost") => "31",
            Some("warning" | "in_progress") => "33",
            _ => "0",
        };
        match is_coloured {
            true => out.push_str(&format!("\x1b[{colour}m{}\x1b[0m\n", line.trim_end())),
            false => out.push_str(&format!("{}\n", line.trim_end())),
        }
    }
    out
}

/// A value in one line. The text of an event is its error, its description or its code.
fn cell(row: &Value, name: &str) -> String {
    let names: &[&str] = if name == "text" { &["error_message", "description", "code", "endpoint"] } else { &[name] };
    let value = names.iter().find_map(|name| row.get(*name).filter(|value| !value.is_null()));
    let text = match value {
        None => return "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    // What events say must not steer the terminal.
    let plain: String = text.chars().map(|c| if c.is_control() || is_bidi(c) { ' ' } else { c }).collect();
    let mut chars = plain.chars();
    let cut: String = chars.by_ref().take(WIDTH).collect();
    if chars.next().is_some() { format!("{cut}…") } else { cut }
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Asks again and again for events that are newer than the last.
fn follow(arguments: &Arguments) -> ExitCode {
    let mut last = match newest(arguments) {
        Ok(last) => last,
        Err(message) => return super::complain(message),
    };
    loop {
        std::thread::sleep(FOLLOW_EVERY);
        let mut rows = match list(arguments) {
            Ok(rows) => rows,
            Err(message) => return super::complain(message),
        };
        rows.retain(|row| seq(row) > last);
        rows.sort_by_key(seq);
        last = rows.last().map_or(last, seq);
        let text = match arguments.format {
            Format::Table | Format::Csv => table(&rows, std::io::stdout().is_terminal(), false),
            _ => rows.iter().map(|row| format!("{row}\n")).collect(),
        };
        if super::print(&text) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
    }
}

fn newest(arguments: &Arguments) -> Result<u64, String> {
    Ok(list(arguments)?.iter().map(seq).max().unwrap_or(0))
}

fn seq(row: &Value) -> u64 {
    row.get("seq").and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_shows_one_line_for_each_event_and_no_control_characters() {
        let rows = [
            json!({ "timestamp": "2026-01-02T03:04:05.000Z", "user_id": "ali", "status": "error", "error_message": "a\nb\u{1b}[2J" }),
            json!({ "timestamp": "2026-01-02T03:04:06.000Z", "code": "x".repeat(80) }),
        ];
        let text = table(&rows, false, true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].ends_with("error        a b [2J"), "{:?}", lines[1]);
        assert!(lines[2].ends_with(&format!("{}…", "x".repeat(WIDTH))));
    }
}
