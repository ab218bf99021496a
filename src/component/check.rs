//! What a component may use and report while its configuration is checked: it opens no port and no file.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::diagnostic::{Problem, Problems, Span};
use crate::query::Query;

/// Collects all problems of one component.
#[derive(Debug)]
pub struct Check {
    /// Name of the component.
    pub name: Arc<str>,
    /// The data folder, made or not.
    pub data_dir: PathBuf,
    /// Whether the journal keeps events on disk.
    pub durable: bool,
    /// Problems, and notes that are printed at start and by `validate` though nothing is wrong yet.
    pub problems: Problems,
}

impl Check {
    pub fn new(name: impl Into<Arc<str>>, data_dir: impl Into<PathBuf>, durable: bool) -> Check {
        Check { name: name.into(), data_dir: data_dir.into(), durable, problems: Problems::default() }
    }

    /// Adds a problem at a path below the component, such as `rules[2].pattern`.
    pub fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::error(path, Span::NOWHERE, message));
    }

    /// Adds a problem with what to try.
    pub fn problem_with_hint(&mut self, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::error(path, Span::NOWHERE, message).hint(hint));
    }

    /// Adds a problem with some bytes of the text at a path, such as a part of a query.
    pub fn problem_within(&mut self, path: impl Into<String>, range: Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem::error(path, Span::NOWHERE, message).within(range));
    }

    /// Reads the query at a path; a problem points at the part of it that is wrong.
    pub fn query(&mut self, path: impl Into<String>, text: &str) -> Option<Query> {
        let wrong = match Query::parse(text) {
            Ok(query) => return Some(query),
            Err(wrong) => wrong,
        };
        let problem = Problem::error(path, Span::NOWHERE, wrong.message).within(wrong.range);
        self.problems.push(match wrong.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
        None
    }

    /// Adds a warning.
    pub fn warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::warning(path, Span::NOWHERE, message));
    }
}
