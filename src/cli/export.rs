//! `weir export`: writes events to one file, with a manifest of their counts and hashes.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration as StdDuration;

use aws_lc_rs::digest::{Context, SHA256, digest};
use clap::Args;
use form_urlencoded::Serializer;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::client::{Broken, Connection};
use crate::units::{Duration, Timestamp};

/// The events, one JSON object a line, oldest last as lists have them.
pub const EVENTS: &str = "events.ndjson";
/// What is in the file, with the hash of each part.
pub const MANIFEST: &str = "manifest.json";

#[derive(Args)]
pub struct Arguments {
    /// Query, such as `user_id:ali`. Default: all events
    #[arg(value_name = "QUERY")]
    query: Option<String>,
    /// Only events newer than this, such as 7d
    #[arg(long, value_name = "TIME")]
    since: Option<Duration>,
    /// File to write; it must not exist
    #[arg(short, long, value_name = "FILE.zip")]
    output: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let beside = beside(&arguments.output);
    let made = write(&arguments, &beside);
    let made = made.and_then(|summary| {
        std::fs::hard_link(&beside, &arguments.output)
            .map_err(|error| format!("cannot write `{}`: {error}", arguments.output.display()))?;
        Ok(summary)
    });
    // Only the whole export keeps its name.
    let removed = std::fs::remove_file(&beside);
    match made {
        Ok(summary) => {
            if let Err(error) = removed {
                eprintln!("warning: cannot remove `{}`: {error}", beside.display());
            }
            super::print(&summary)
        }
        Err(message) => super::complain(message),
    }
}

fn beside(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    output.with_file_name(name)
}

/// A part of the file on its way: what was written of it so far.
struct Part {
    hash: Context,
    bytes: u64,
    lines: u64,
}

fn write(arguments: &Arguments, to: &Path) -> Result<String, String> {
    let output = &arguments.output;
    if output.exists() {
        return Err(format!("`{}` exists already", output.display()));
    }
    let cannot = |error: &dyn std::fmt::Display| format!("cannot write `{}`: {error}", output.display());
    let file = File::options().read(true).write(true).create_new(true).open(to).map_err(|error| cannot(&error))?;
    let mut zip = ZipWriter::new(BufWriter::new(file));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .large_file(true)
        .unix_permissions(0o600);
    let mut parameters = Serializer::new(String::new());
    parameters.append_pair("format", "ndjson");
    if let Some(query) = arguments.query.as_deref().filter(|query| !query.trim().is_empty()) {
        parameters.append_pair("q", query);
    }
    let since =
        arguments.since.map(|since| Timestamp(Timestamp::now().0 - StdDuration::from(since).as_micros() as i64));
    if let Some(since) = since {
        parameters.append_pair("start_date", &since.to_string());
    }
    zip.start_file(EVENTS, options).map_err(|error| cannot(&error))?;
    let mut part = Part { hash: Context::new(&SHA256), bytes: 0, lines: 0 };
    let trailers = arguments.connection.read(&format!("/api/logs/export?{}", parameters.finish()), None, |bytes| {
        part.hash.update(bytes);
        part.bytes += bytes.len() as u64;
        part.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        zip.write_all(bytes).map_err(|error| cannot(&error))
    });
    let trailers = trailers.map_err(|broken| match broken {
        Broken::Unreachable(reason) | Broken::Refused(reason) => reason,
    })?;
    let count = trailers.get("weir-count").and_then(|count| count.to_str().ok()).and_then(|count| count.parse().ok());
    if count != Some(part.lines) {
        return Err(format!("the agent closed the connection after {} events: nothing was exported", part.lines));
    }
    let events = hex(part.hash.finish().as_ref());
    let manifest = json!({
        "format": "weir-export/1",
        "made_at": Timestamp::now().to_string(),
        "weir": env!("CARGO_PKG_VERSION"),
        "query": arguments.query,
        "since": since.map(|since| since.to_string()),
        "files": [{ "name": EVENTS, "bytes": part.bytes, "events": part.lines, "sha256": events }],
    });
    let text = format!("{manifest:#}\n");
    zip.start_file(MANIFEST, options).map_err(|error| cannot(&error))?;
    zip.write_all(text.as_bytes()).map_err(|error| cannot(&error))?;
    let file = zip.finish().map_err(|error| cannot(&error))?.into_inner().map_err(|error| cannot(&error))?;
    file.sync_all().map_err(|error| cannot(&error))?;
    Ok(format!(
        "{} events, {} bytes in `{}`\nSHA-256 of the manifest: {}\n",
        part.lines,
        part.bytes,
        output.display(),
        sha256(text.as_bytes())
    ))
}

/// The hash of a whole text, in hexadecimal.
pub fn sha256(text: &[u8]) -> String {
    hex(digest(&SHA256, text).as_ref())
}

/// The manifest, as far as it is looked at.
pub fn files(manifest: &Value) -> impl Iterator<Item = (&str, u64, u64, &str)> {
    manifest["files"].as_array().into_iter().flatten().filter_map(|file| {
        Some((file["name"].as_str()?, file["bytes"].as_u64()?, file["events"].as_u64()?, file["sha256"].as_str()?))
    })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
