//! `weir query`: searches the stored events of a running agent.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration as StdDuration;

use clap::{Args, ValueEnum};
use form_urlencoded::Serializer;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Broken, Connection};
use super::indent::indented;
use super::{table, tap};
use crate::event::Raw;
use crate::units::{Duration, Timestamp};

/// Rows of one request.
const PAGE: usize = 1000;

#[derive(Args)]
pub struct Arguments {
    /// Query, such as `status:error user_id:ali`. Default: all events
    #[arg(value_name = "QUERY")]
    query: Option<String>,
    /// Only events newer than this, such as 1h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<Duration>,
    /// Maximum number of events
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Continue with new events as they arrive (not with csv)
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

/// A page of `/api/logs`, whose rows are shown as they came.
#[derive(Deserialize)]
struct Page {
    logs: Vec<Box<RawValue>>,
    next: Option<String>,
}

pub fn run(arguments: Arguments) -> ExitCode {
    if arguments.format == Format::Csv && arguments.follow {
        return super::misused("csv cannot be followed: use `--format table` or `ndjson`");
    }
    let written = match arguments.format {
        Format::Csv => export(&arguments),
        _ => list(&arguments),
    };
    match written {
        Ok(Listed { is_read: true, newest }) if arguments.follow => follow(&arguments, newest),
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => super::complain(message),
    }
}

/// Text of events that cannot move the cursor of a terminal or change its colours.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\r') { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
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

/// What was written.
struct Listed {
    /// Whether stdout is still read.
    is_read: bool,
    /// The greatest seq.
    newest: Option<u64>,
}

/// Writes the rows, each page when it comes.
fn list(arguments: &Arguments) -> Result<Listed, String> {
    let is_coloured = table::is_coloured();
    let (mut count, mut newest) = (0, None);
    let mut cursor: Option<String> = None;
    // Behind what can fail: an error has no table above it.
    let mut head = (arguments.format == Format::Table).then(table::head);
    let mut is_read = true;
    while is_read && count < arguments.limit {
        let mut parameters = filter(arguments);
        parameters.append_pair("limit", &PAGE.min(arguments.limit - count).to_string());
        if let Some(cursor) = &cursor {
            parameters.append_pair("cursor", cursor);
        }
        let body = ask(&arguments.connection, &format!("/api/logs?{}", parameters.finish()))?;
        let page: Page =
            serde_json::from_slice(&body).map_err(|error| format!("the agent's answer is no list: {error}"))?;
        let mut text = head.take().unwrap_or_default();
        for row in &page.logs {
            let event = Raw::valid(row.get().as_bytes());
            match arguments.format {
                Format::Json => {
                    text += if count == 0 { "[\n  " } else { ",\n  " };
                    text += &indented(row.get(), 1);
                }
                Format::Ndjson => text = text + row.get() + "\n",
                _ => text += &table::line(event, is_coloured),
            }
            newest = newest.max(event.get("seq").and_then(|seq| seq.as_i64()).map(i64::unsigned_abs));
            count += 1;
        }
        is_read = super::write(text)?;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if let Some(head) = head {
        is_read = super::write(head)?;
    }
    if is_read && arguments.format == Format::Json {
        is_read = super::write(if count == 0 { "[]\n" } else { "\n]\n" })?;
    }
    Ok(Listed { is_read, newest })
}

/// Writes an export of the rows as it comes.
fn export(arguments: &Arguments) -> Result<Listed, String> {
    let mut parameters = filter(arguments);
    parameters.append_pair("format", "csv").append_pair("limit", &arguments.limit.to_string());
    let (is_terminal, mut held) = (std::io::stdout().is_terminal(), Vec::new());
    let mut is_read = true;
    let read = arguments.connection.read(&format!("/api/logs/export?{}", parameters.finish()), None, |bytes| {
        is_read = if is_terminal {
            held.extend_from_slice(bytes);
            // Whole lines are whole characters.
            let end = memchr::memrchr(b'\n', &held).map_or(0, |at| at + 1);
            let lines: Vec<u8> = held.drain(..end).collect();
            super::write(harmless(&String::from_utf8_lossy(&lines)))?
        } else {
            super::write(bytes)?
        };
        if is_read { Ok(()) } else { Err(String::new()) }
    });
    match read {
        Err(Broken::Unreachable(reason) | Broken::Refused(reason)) if is_read => Err(reason),
        _ => Ok(Listed { is_read, newest: None }),
    }
}

/// Goes on with what comes behind the newest event that was listed.
fn follow(arguments: &Arguments, newest: Option<u64>) -> ExitCode {
    let mut parameters = Serializer::new(String::new());
    if let Some(query) = arguments.query.as_deref().filter(|query| !query.trim().is_empty()) {
        parameters.append_pair("q", query);
    }
    let path = format!("/api/stream?{}", parameters.finish());
    let format = if arguments.format == Format::Table { table::Format::Table } else { table::Format::Ndjson };
    tap::show(&arguments.connection, &path, newest, format, || true)
}
