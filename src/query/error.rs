//! A query error and its position.

use std::fmt;
use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    pub query: String,
    /// Bytes of the query that the message is about.
    pub range: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

impl QueryError {
    /// The column at which the trouble begins, counted in characters from 1.
    pub fn column(&self) -> usize {
        self.query[..self.range.start].chars().count() + 1
    }

    /// The query with a caret below the trouble.
    pub fn render(&self) -> String {
        let shown = |text: &str| text.replace(['\n', '\r', '\t'], " ");
        let width = self.query[self.range.clone()].chars().count().max(1);
        let mut out = format!(
            "{}\n  {}\n  {}{}",
            self.message,
            shown(&self.query),
            " ".repeat(self.column() - 1),
            "^".repeat(width)
        );
        if let Some(hint) = &self.hint {
            out.push_str(&format!("\nhint: {hint}"));
        }
        out
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at column {}", self.message, self.column())
    }
}

impl std::error::Error for QueryError {}
