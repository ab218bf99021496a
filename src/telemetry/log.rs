//! The agent's own log on stderr: text on a terminal, JSON lines otherwise, repeats folded.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::units::Timestamp;

/// How long the same line is only counted after it was written.
const FOLD_FOR: Duration = Duration::from_secs(10);
/// Different lines remembered for folding; beyond it the memory is cleared.
const MAX_REMEMBERED: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

impl Format {
    /// Text where a person reads along, JSON where a program collects.
    pub fn fitting() -> Format {
        if std::io::stderr().is_terminal() { Format::Text } else { Format::Json }
    }
}

/// Sets the process's log up; once, by whoever owns the process.
pub fn init(level: Level, format: Format) {
    let colour = format == Format::Text && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let writer = Writer { level, format, colour, seen: Mutex::default() };
    // A second call (in tests) leaves the first in place.
    drop(tracing::subscriber::set_global_default(tracing_subscriber::registry().with(writer)));
    super::panics::log_panics();
}

struct Writer {
    level: Level,
    format: Format,
    colour: bool,
    seen: Mutex<HashMap<String, Seen>>,
}

struct Seen {
    written: Instant,
    folded: u64,
}

impl<S: Subscriber> Layer<S> for Writer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("weir")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = *event.metadata().level();
        let Some(folded) = self.fold(level, &line) else { return };
        if folded > 0 {
            line.fields.push(("repeated".into(), folded.into()));
        }
        let mut text = match self.format {
            Format::Text => line.text(level, self.colour),
            Format::Json => line.json(level),
        };
        text.push('\n');
        // If stderr is gone, there is nowhere to report it.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

impl Writer {
    /// How often the line came since it was last written, or `None` if it is to be counted only.
    fn fold(&self, level: Level, line: &Line) -> Option<u64> {
        let key = format!("{level}{}{:?}", line.message, line.fields);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(before) = seen.get_mut(&key) {
            if now.duration_since(before.written) < FOLD_FOR {
                before.folded += 1;
                return None;
            }
            before.written = now;
            return Some(std::mem::take(&mut before.folded));
        }
        if seen.len() == MAX_REMEMBERED {
            seen.clear();
        }
        seen.insert(key, Seen { written: now, folded: 0 });
        Some(0)
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<(String, Value)>,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    /// What is displayed comes here too.
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl Line {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.fields.push((name.to_owned(), value)),
        }
    }

    fn text(&self, level: Level, colour: bool) -> String {
        let mut out = format!("{} ", Timestamp::now());
        let code = match level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            _ => "34",
        };
        let _ = if colour { write!(out, "\x1b[{code}m{level:>5}\x1b[0m ") } else { write!(out, "{level:>5} ") };
        push_printable(&mut out, &self.message);
        for (name, value) in &self.fields {
            let _ = write!(out, " {name}=");
            match value {
                Value::String(text) => push_printable(&mut out, text),
                number => out.push_str(&number.to_string()),
            }
        }
        out
    }

    fn json(&self, level: Level) -> String {
        let mut object = serde_json::Map::new();
        object.insert("timestamp".into(), Timestamp::now().to_string().into());
        object.insert("level".into(), level.as_str().to_lowercase().into());
        object.insert("message".into(), self.message.clone().into());
        for (name, value) in &self.fields {
            object.insert(name.clone(), value.clone());
        }
        Value::Object(object).to_string()
    }
}

/// Control characters could forge lines or drive the terminal, so they are escaped.
fn push_printable(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        Writer { level: Level::INFO, format: Format::Text, colour: false, seen: Mutex::default() }
    }

    #[test]
    fn a_repeated_line_is_counted_and_not_written() {
        let (writer, line) = (writer(), Line { message: "down".into(), fields: Vec::new() });
        assert_eq!(writer.fold(Level::WARN, &line), Some(0));
        assert_eq!(writer.fold(Level::WARN, &line), None);
        let other = Line { message: "up".into(), fields: Vec::new() };
        assert_eq!(writer.fold(Level::WARN, &other), Some(0));
    }

    #[test]
    fn numbers_are_numbers_in_a_line_of_json() {
        let fields = vec![("bytes".into(), 5_u64.into()), ("path".into(), "a b".into())];
        let line = Line { message: "read".into(), fields };
        let json: Value = serde_json::from_str(&line.json(Level::INFO)).expect("it is JSON");
        assert_eq!((&json["bytes"], &json["path"], &json["level"]), (&5.into(), &"a b".into(), &"info".into()));
        assert!(line.text(Level::INFO, false).ends_with("read bytes=5 path=a b"));
    }

    #[test]
    fn a_line_break_in_a_value_forges_no_second_line() {
        let line =
            Line { message: "refused".into(), fields: vec![("user".into(), "a\n2026 ERROR \x1b[31m\u{202E}".into())] };
        let text = line.text(Level::INFO, false);
        assert!(!text.contains(['\n', '\x1b', '\u{202E}']), "{text}");
        assert!(text.contains(r"user=a\n2026 ERROR \u{1b}[31m\u{202e}"), "{text}");
    }
}
