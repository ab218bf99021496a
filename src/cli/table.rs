//! Events as rows on a terminal, with control characters removed.

use std::io::IsTerminal as _;

use clap::ValueEnum;

use crate::event::Raw;

/// Characters of a cell of the table.
const WIDTH: usize = 60;
/// Columns of the table, and how wide each is at least.
const COLUMNS: [(&str, usize); 5] =
    [("timestamp", 27), ("user_id", 12), ("event_type", 14), ("status", 11), ("text", 0)];

/// How events are written that come one after another.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    /// One line per event
    Table,
    /// One JSON object per line
    Ndjson,
}

/// The names of the columns.
pub fn head() -> String {
    let head: Vec<String> = COLUMNS.iter().map(|(name, width)| format!("{name:<width$}")).collect();
    format!("{}\n", head.join("  ").trim_end())
}

/// Whether colours can be seen.
pub fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// One event in one line.
pub fn line(row: Raw, is_coloured: bool) -> String {
    let cells: Vec<String> = COLUMNS.iter().map(|(name, width)| pad(&cell(row, name), *width)).collect();
    let line = cells.join("  ");
    let colour = match row.get("status").and_then(|status| status.as_str()).as_deref() {
        Some("error" | "aborted" | "lost") => "31",
        Some("warning" | "in_progress") => "33",
        _ => "0",
    };
    match is_coloured {
        true => format!("\x1b[{colour}m{}\x1b[0m\n", line.trim_end()),
        false => format!("{}\n", line.trim_end()),
    }
}

/// The text with spaces behind it up to a width.
pub fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

/// A value in one line. The text of an event is its error, its description or its code.
fn cell(row: Raw, name: &str) -> String {
    let names: &[&str] = if name == "text" { &["error_message", "description", "code", "endpoint"] } else { &[name] };
    let value = names.iter().find_map(|name| row.get(name).filter(|value| !value.is_null()));
    value.map_or_else(|| "-".to_owned(), |value| plain(&value.display(), WIDTH))
}

/// A text in one line of at most `width` characters.
pub fn plain(text: &str, width: usize) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() || is_bidi(c) { ' ' } else { c }).collect();
    let mut chars = plain.chars();
    let cut: String = chars.by_ref().take(width).collect();
    if chars.next().is_some() { format!("{cut}…") } else { cut }
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(row: &Value, is_coloured: bool) -> String {
        super::line(Raw::valid(row.to_string().as_bytes()), is_coloured)
    }

    #[test]
    fn a_line_shows_one_event_and_no_control_characters() {
        let event = json!({ "timestamp": "2026-01-02T03:04:05.000Z", "user_id": "ali", "status": "error", "error_message": "a\nb\u{1b}[2J" });
        let text = line(&event, false);
        assert_eq!(text.lines().count(), 1);
        assert!(text.ends_with("error        a b [2J\n"), "{text:?}");
        let long = json!({ "timestamp": "2026-01-02T03:04:06.000Z", "code": "x".repeat(80) });
        assert!(line(&long, false).ends_with(&format!("{}…\n", "x".repeat(WIDTH))));
    }

    #[test]
    fn columns_stand_under_their_names_whatever_the_precision_of_the_time() {
        let column = head().find("user_id");
        for timestamp in ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z"] {
            let line = line(&json!({ "timestamp": timestamp, "user_id": "ali" }), false);
            assert_eq!(line.find("ali"), column, "{line}");
        }
    }
}
