//! `weir query`: searches the stored events of a running agent.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration as StdDuration;

use clap::{Args, ValueEnum};
use form_urlencoded::Serializer;
use hyper::Method;
use serde_json::Value;

use super::client::Connection;
use super::{table, tap};
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

pub fn run(arguments: Arguments) -> ExitCode {
    if arguments.format == Format::Csv && arguments.follow {
        return super::misused("csv cannot be followed: use `--format table` or `ndjson`");
    }
    if arguments.format == Format::Csv {
        return match export(&arguments) {
            Ok(text) if std::io::stdout().is_terminal() => super::print(&harmless(&text)),
            Ok(text) => super::print(&text),
            Err(message) => super::complain(message),
        };
    }
    match list(&arguments).map(|rows| (write(&arguments, &rows), rows)) {
        Ok((text, rows)) => {
            let code = super::print(&text);
            if arguments.follow { follow(&arguments, rows.iter().filter_map(seq).max()) } else { code }
        }
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
            serde_json::from_slice(&body).map_err(|error| format!("the agent's answer is not JSON: {error}"))?;
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
    String::from_utf8(body).map_err(|_| "the agent's answer is not UTF-8".to_owned())
}

fn write(arguments: &Arguments, rows: &[Value]) -> String {
    match arguments.format {
        Format::Json => format!("{:#}\n", Value::Array(rows.to_vec())),
        Format::Ndjson => rows.iter().map(|row| format!("{row}\n")).collect(),
        _ => {
            let is_coloured = table::is_coloured();
            rows.iter().fold(table::head(), |out, row| out + &table::line(row, is_coloured))
        }
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
    tap::show(&arguments.connection, &path, newest, format, |_| true)
}

fn seq(row: &Value) -> Option<u64> {
    row.get("seq").and_then(Value::as_u64)
}
