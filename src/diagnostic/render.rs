//! Renders problems: on a terminal with the line and a caret, and as JSON for the API.

use std::fmt::Write;

use serde::Serialize;

use super::private;
use super::problem::{Problem, Problems, Severity};
use super::source::{self, Sources, Span};

/// Longer lines are shown around the caret only.
const MAX_COLUMNS: usize = 120;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const RESET: &str = "\x1b[0m";

/// One problem for the API.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct Report {
    pub severity: &'static str,
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
    pub file: Option<String>,
    pub line: Option<usize>,
    pub column: Option<usize>,
    /// The line itself.
    pub text: Option<String>,
}

/// All problems in the form the API gives them.
pub fn report(problems: &Problems, sources: &Sources) -> Vec<Report> {
    let one = |problem: &Problem| {
        let at = sources.position(problem.span);
        Report {
            severity: severity(problem.severity).0,
            path: problem.path.clone(),
            message: private::without_users(&problem.message),
            hint: problem.hint.as_deref().map(private::without_users),
            file: at.map(|at| at.file.to_string()),
            line: at.map(|at| at.line),
            column: at.map(|at| at.column),
            text: snippet(problem.span, problems, sources).map(|snippet| snippet.line),
        }
    };
    problems.iter().map(one).collect()
}

/// All problems for a terminal, a blank line between them.
pub fn render(problems: &Problems, sources: &Sources, coloured: bool) -> String {
    let mut out = String::new();
    for problem in problems.iter() {
        if !out.is_empty() {
            out.push('\n');
        }
        one(problem, problems, sources, coloured, &mut out);
    }
    out
}

fn one(problem: &Problem, problems: &Problems, sources: &Sources, coloured: bool, out: &mut String) {
    let (word, colour) = severity(problem.severity);
    let paint = |colour: &str, text: &str| {
        if coloured { format!("{colour}{text}{RESET}") } else { text.to_string() }
    };
    let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
    let headline = printable(&format!("{path}{}", problem.message));
    line(out, &format!("{}: {}", paint(colour, word), paint(BOLD, &headline)));
    let width = [Some(problem.span), problem.also.as_ref().map(|also| also.0)]
        .into_iter()
        .flatten()
        .filter_map(|span| sources.position(span))
        .map(|at| at.line.to_string().len())
        .max()
        .unwrap_or(1);
    let mut show = |span: Span, caption: &str| {
        let (Some(at), Some(snippet)) = (sources.position(span), snippet(span, problems, sources)) else { return };
        let caption = if caption.is_empty() { String::new() } else { format!(" {caption}") };
        let arrow = paint(BLUE, "-->");
        line(out, &format!("{:width$}{arrow} {}:{}:{}", "", at.file, at.line, at.column));
        line(out, &format!("{} {}", paint(BLUE, &format!("{:>width$} |", at.line)), snippet.line));
        let carets = paint(colour, &"^".repeat(snippet.carets));
        line(
            out,
            &format!("{} {:skip$}{carets}{caption}", paint(BLUE, &format!("{:width$} |", "")), "", skip = snippet.skip),
        );
    };
    show(problem.span, "");
    if let Some((span, caption)) = &problem.also {
        show(*span, caption);
    }
    if let Some(hint) = &problem.hint {
        line(out, &format!("{:width$} {} {}", "", paint(BLUE, "= hint:"), printable(hint)));
    }
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{}", text.trim_end());
}

fn severity(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Error => ("error", RED),
        Severity::Warning => ("warning", YELLOW),
    }
}

/// The line of a span as it may be shown, and where the carets go, in columns.
struct Snippet {
    line: String,
    skip: usize,
    carets: usize,
}

fn snippet(span: Span, problems: &Problems, sources: &Sources) -> Option<Snippet> {
    let text = &sources.get(span.file)?.text;
    let start = text.floor_char_boundary(span.start as usize);
    let (line_start, _) = source::line_of(text, start);
    let line = text[line_start..].split('\n').next().unwrap_or("").trim_end_matches('\r');
    let end = (span.end as usize).clamp(start, line_start + line.len());
    let mut shown = Snippet { line: String::new(), skip: 0, carets: 0 };
    let mut columns = Vec::new();
    let by_itself = private::in_line(line);
    let mut was_private = false;
    for (offset, character) in line.char_indices().map(|(offset, character)| (line_start + offset, character)) {
        let is_private = problems.is_private(span.file, offset)
            || by_itself.iter().any(|range| range.contains(&(offset - line_start)));
        let covered = offset >= start && offset < end;
        match (is_private, was_private) {
            (true, true) => {}
            (true, false) => columns.extend([('*', covered); 3]),
            (false, _) if character == '\u{feff}' => {}
            (false, _) => columns.push((visible(character), covered)),
        }
        if offset < start && !(is_private && was_private) && character != '\u{feff}' {
            shown.skip += if is_private { 3 } else { 1 };
        }
        was_private = is_private;
    }
    shown.carets = columns.iter().filter(|(_, covered)| *covered).count().max(1);
    let trimmed = columns.iter().rposition(|(character, _)| *character != ' ').map_or(0, |last| last + 1);
    columns.truncate(trimmed.max(shown.skip));
    shown.line = columns.iter().map(|(character, _)| character).collect();
    if columns.len() > MAX_COLUMNS {
        shown.cut(&columns);
    }
    Some(shown)
}

impl Snippet {
    /// Keeps the part of a long line around the carets.
    fn cut(&mut self, columns: &[(char, bool)]) {
        let from = self.skip.saturating_sub(MAX_COLUMNS / 3).min(columns.len());
        let to = (from + MAX_COLUMNS).min(columns.len());
        let mut line: String = columns[from..to].iter().map(|(character, _)| character).collect();
        if from > 0 {
            line.insert(0, '…');
            self.skip = self.skip - from + 1;
        }
        if to < columns.len() {
            line.push('…');
        }
        self.carets = self.carets.min(to.saturating_sub(from + self.skip.saturating_sub(1)).max(1));
        self.line = line;
    }
}

/// A character that cannot move the cursor or change a colour.
fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        character if character.is_control() => '\u{fffd}',
        character => character,
    }
}

fn printable(text: &str) -> String {
    private::without_users(text)
        .chars()
        .map(|character| if character == '\n' { ' ' } else { visible(character) })
        .collect()
}
