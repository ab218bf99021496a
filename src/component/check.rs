//! What a component may use, and say, while its configuration is checked: no port and no file is touched yet.

use std::path::PathBuf;
use std::sync::Arc;

use crate::diagnostic::Problem;

/// Collects all problems of one component.
#[derive(Debug)]
pub struct Check {
    /// Name of the component.
    pub name: Arc<str>,
    /// The data folder, made or not.
    pub data_dir: PathBuf,
    /// Whether the journal keeps events on disk.
    pub durable: bool,
    pub problems: Vec<Problem>,
    /// Said once at start and by `validate`; nothing is wrong yet.
    pub warnings: Vec<Problem>,
}

impl Check {
    /// Adds a problem at a path below the component, such as `rules[2].pattern`.
    pub fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), message: message.into(), hint: None, within: None });
    }

    /// Adds a problem with what to try.
    pub fn problem_with_hint(&mut self, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem {
            path: path.into(),
            message: message.into(),
            hint: Some(hint.into()),
            within: None,
        });
    }

    /// Adds a warning.
    pub fn warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem { path: path.into(), message: message.into(), hint: None, within: None });
    }
}
