//! `weir top`: a live table of every component's rates, lag and errors.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration as StdDuration, Instant};

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::client::Connection;
use super::table::plain;
use crate::units::Duration;

/// Characters of the last error that are shown.
const MAX_ERROR: usize = 60;
/// Moves to the top left corner and clears what was painted before.
const REPAINT: &str = "\x1b[H\x1b[2J";

#[derive(Args)]
pub struct Arguments {
    /// Refresh interval
    #[arg(long, value_name = "TIME", default_value = "2s")]
    interval: Duration,
    /// Print once and exit (the default if the output is not a terminal)
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What a component had counted at some time.
type Counted = BTreeMap<(String, String), (f64, f64)>;

pub fn run(arguments: Arguments) -> ExitCode {
    let is_once = arguments.once || !std::io::stdout().is_terminal();
    let interval = StdDuration::from(arguments.interval).max(StdDuration::from_millis(200));
    let mut before: Option<(Instant, Counted)> = None;
    loop {
        let pipeline = match ask(&arguments.connection) {
            Ok(pipeline) => pipeline,
            Err(message) => return super::complain(message),
        };
        let now = Instant::now();
        let counted = counted(&pipeline);
        let rates = before.as_ref().map(|(at, earlier)| rates(earlier, &counted, (now - *at).as_secs_f64()));
        let text = paint(&pipeline, rates.as_ref());
        match super::write(&if is_once { text } else { format!("{REPAINT}{text}") }) {
            Ok(true) if !is_once => {}
            Ok(_) => return ExitCode::SUCCESS,
            Err(message) => return super::complain(message),
        }
        before = Some((now, counted));
        std::thread::sleep(interval);
    }
}

fn ask(connection: &Connection) -> Result<Value, String> {
    let answer = connection.ask(Method::GET, "/api/pipeline")?;
    if !answer.status.is_success() {
        return Err(answer.problem());
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("the agent's answer is not JSON: {error}"))
}

fn components(pipeline: &Value) -> impl Iterator<Item = &Value> {
    pipeline["components"].as_array().into_iter().flatten()
}

fn text<'v>(component: &'v Value, name: &str) -> &'v str {
    component[name].as_str().unwrap_or("-")
}

fn key(component: &Value) -> (String, String) {
    (text(component, "kind").to_owned(), text(component, "name").to_owned())
}

/// Events that came into each component, and that left it.
fn counted(pipeline: &Value) -> Counted {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let of = |component: &Value| {
        let counts = &component["accounting"];
        match text(component, "kind") {
            "source" => (number(&counts["received"]), number(&counts["entered"])),
            "transform" => (number(&counts["entered"]), number(&counts["left"])),
            _ => (number(&counts["addressed"]), number(&counts["delivered"])),
        }
    };
    components(pipeline).map(|component| (key(component), of(component))).collect()
}

fn rates(earlier: &Counted, now: &Counted, seconds: f64) -> Counted {
    let rate = |key: &(String, String), (into, out): &(f64, f64)| {
        let (into_before, out_before) = earlier.get(key).copied().unwrap_or((*into, *out));
        // A restarted agent counts from zero.
        (((into - into_before) / seconds).max(0.0), ((out - out_before) / seconds).max(0.0))
    };
    now.iter().map(|(key, counts)| (key.clone(), rate(key, counts))).collect()
}

fn paint(pipeline: &Value, rates: Option<&Counted>) -> String {
    let mut rows = vec![
        ["component", "kind", "type", "state", "in/s", "out/s", "waiting", "lag", "errors", "last error"]
            .map(str::to_owned),
    ];
    let known = rates.is_some();
    for component in components(pipeline) {
        let rate = rates.and_then(|rates| rates.get(&key(component))).copied();
        let (into, out) = rate.or_else(|| (!known).then(|| given(component))).unwrap_or((0.0, 0.0));
        let counts = &component["accounting"];
        let whole = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string());
        let lag = counts["lag_seconds"].as_f64().map_or_else(|| "-".to_owned(), |lag| format!("{lag:.1}s"));
        let errors: u64 = component["errors"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        let last = component["last_error"]["message"].as_str().or(component["last_error"].as_str()).unwrap_or("");
        rows.push([
            plain(text(component, "name"), 40),
            text(component, "kind").to_owned(),
            text(component, "type").to_owned(),
            text(component, "state").to_owned(),
            format!("{into:.1}"),
            format!("{out:.1}"),
            whole(&counts["waiting"]),
            lag,
            errors.to_string(),
            plain(last, MAX_ERROR),
        ]);
    }
    let journal = &pipeline["journal"];
    let bytes =
        |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes / 1048576.0));
    let state = if journal["full"] == true { "FULL, " } else { "" };
    let store = &pipeline["store"]["bytes"];
    format!(
        "{}\njournal {state}{} of {}; store {}\n",
        columns(&rows),
        bytes(&journal["bytes"]),
        bytes(&journal["limit_bytes"]),
        bytes(store)
    )
}

/// The rates that the agent has measured itself, for a first look.
fn given(component: &Value) -> (f64, f64) {
    let rate = |names: [&str; 3]| names.iter().find_map(|name| component["rates"][*name].as_f64()).unwrap_or(0.0);
    match text(component, "kind") {
        "source" => (rate(["received", "", ""]), rate(["entered", "received", ""])),
        _ => (rate(["entered", "addressed", "delivered"]), rate(["left", "delivered", ""])),
    }
}

/// Numbers end, and words begin, under each other.
fn columns(rows: &[[String; 10]]) -> String {
    let width = |nth: usize| rows.iter().map(|row| row[nth].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..10).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(nth, cell)| match nth {
            4..=8 => format!("{cell:>width$}", width = widths[nth]),
            _ => format!("{cell:<width$}", width = widths[nth]),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rates_follow_from_two_looks_and_numbers_line_up() {
        let look = |n: u64| {
            json!({
                "components": [
                    { "name": "web", "kind": "source", "type": "http", "state": "running", "accounting": { "received": n, "entered": n } },
                    { "name": "table", "kind": "sink", "type": "postgres", "state": "held",
                      "accounting": { "addressed": n, "delivered": 1, "waiting": n, "lag_seconds": 2.5 },
                      "errors": { "transient": 3 }, "last_error": { "message": "no\nanswer" } }
                ],
                "journal": { "bytes": 1048576, "limit_bytes": 2097152, "full": true }, "store": { "bytes": null }
            })
        };
        let rates = rates(&counted(&look(10)), &counted(&look(30)), 2.0);
        let text = paint(&look(30), Some(&rates));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("10.0   10.0"), "{text}");
        assert!(lines[2].ends_with("0.0       30  2.5s       3  no answer"), "{text}");
        assert!(text.ends_with("journal FULL, 1.0 MiB of 2.0 MiB; store -\n"), "{text}");
    }
}
