//! One problem of a configuration: what, where, and what to try.

use std::ops::Range;

use super::source::Span;

/// Whether the configuration can be used in spite of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    Error,
    Warning,
}

/// A problem, in words for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub severity: Severity,
    /// The key it is about, as `sinks.pg.batch.events`; empty for a whole file.
    pub path: String,
    /// Lowercase, names the thing, no full stop.
    pub message: String,
    /// The text to underline, or nowhere.
    pub span: Span,
    /// The bytes inside the value's text that it is about, until the value at `path` gives the span.
    pub within: Option<Range<usize>>,
    /// What to try.
    pub hint: Option<String>,
    /// A second place that belongs to it, with its caption (`first defined here`).
    pub also: Option<(Span, String)>,
}

impl Problem {
    pub fn error(path: impl Into<String>, span: Span, message: impl Into<String>) -> Problem {
        let (path, message) = (path.into(), message.into());
        Problem { severity: Severity::Error, path, message, span, within: None, hint: None, also: None }
    }

    pub fn warning(path: impl Into<String>, span: Span, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(path, span, message) }
    }

    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    pub fn within(self, range: Range<usize>) -> Problem {
        Problem { within: Some(range), ..self }
    }

    pub fn also(self, span: Span, caption: impl Into<String>) -> Problem {
        Problem { also: Some((span, caption.into())), ..self }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Everything that was found in one run, and which text no report may show.
#[derive(Clone, Default, Debug)]
pub struct Problems {
    list: Vec<Problem>,
    private: Vec<Span>,
}

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Marks text that no report may show.
    pub fn hide(&mut self, span: Span) {
        if !span.is_nowhere() {
            self.private.push(span);
        }
    }

    /// Takes over what another run found.
    pub fn extend(&mut self, other: Problems) {
        self.list.extend(other.list);
        self.private.extend(other.private);
    }

    /// Takes out what turned out to be no problem of its own.
    pub fn forget(&mut self, is_idle: impl Fn(&Problem) -> bool) {
        self.list.retain(|problem| !is_idle(problem));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Problem> {
        self.list.iter_mut()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(Problem::is_error)
    }

    pub fn count_errors(&self) -> usize {
        self.list.iter().filter(|problem| problem.is_error()).count()
    }

    /// Puts what was found since there were `before` into the order of the files.
    pub(super) fn sort_from(&mut self, before: usize) {
        self.list[before..].sort_by_key(|problem| problem.span);
    }

    /// In the order of the files, what stands nowhere at the end, and nothing twice.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|problem| problem.span);
        self.list.dedup();
    }

    /// Whether a byte of a file was marked as private.
    pub(super) fn is_private(&self, file: u32, offset: usize) -> bool {
        self.private.iter().any(|span| span.file == file && span.range().contains(&offset))
    }
}
