//! `weir tap`: shows the events of a running agent as they happen.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;
use form_urlencoded::Serializer;
use serde_json::value::RawValue;

use super::client::Connection;
use super::live;
use super::table::{self, Format};
use crate::event::Raw;

#[derive(Args)]
pub struct Arguments {
    /// A source, a transform, one of its outputs, or a sink. Default: the events that the API reads
    #[arg(value_name = "COMPONENT")]
    component: Option<String>,
    /// Only events that match this query, such as `status:error`
    #[arg(long = "where", value_name = "QUERY")]
    filter: Option<String>,
    /// Output format. Default: a table on a terminal, else NDJSON
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Exit after this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let mut parameters = Serializer::new(String::new());
    if let Some(component) = &arguments.component {
        parameters.append_pair("component", component);
    }
    if let Some(query) = &arguments.filter {
        parameters.append_pair("q", query);
    }
    let path = format!("/api/stream?{}", parameters.finish());
    let format = arguments.format.unwrap_or_else(fitting);
    if format == Format::Table && super::print(&table::head()) != ExitCode::SUCCESS {
        return ExitCode::SUCCESS;
    }
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    if left == 0 {
        return ExitCode::SUCCESS;
    }
    show(&arguments.connection, &path, None, format, || {
        left -= 1;
        left > 0
    })
}

/// A table for people, lines for programs.
pub fn fitting() -> Format {
    if std::io::stdout().is_terminal() { Format::Table } else { Format::Ndjson }
}

/// Writes what a stream brings as long as `goes_on` says so and somebody reads.
pub fn show(
    connection: &Connection,
    path: &str,
    after: Option<u64>,
    format: Format,
    mut goes_on: impl FnMut() -> bool,
) -> ExitCode {
    let (mut ended, is_coloured) = (false, table::is_coloured());
    let followed = live::follow(connection, path, after, |frame| {
        if frame.event == "gap" {
            eprintln!("missed: {}", frame.data);
            return Ok(());
        }
        let event: &RawValue = serde_json::from_str(&frame.data)
            .map_err(|error| format!("the agent sent something that is not an event: {error}"))?;
        let text = match format {
            Format::Table => table::line(Raw::valid(event.get().as_bytes()), is_coloured),
            Format::Ndjson => format!("{}\n", frame.data),
        };
        ended = !super::write(&text)? || !goes_on();
        if ended { Err(String::new()) } else { Ok(()) }
    });
    match followed {
        _ if ended => ExitCode::SUCCESS,
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => super::complain(message),
    }
}
