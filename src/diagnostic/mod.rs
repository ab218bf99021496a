//! What the operator hears: problems with their place, and the tree of values that knows where each one stands.

use std::ops::Range;

use serde::de::DeserializeOwned;

/// One value of a configuration file with its place.
#[derive(Clone, Debug)]
pub struct Node {}

/// One problem: what, where, and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path below the component or the top level, such as `rules[2].pattern`.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
    /// The bytes inside the scalar's text that the caret points at; the whole value if absent.
    pub within: Option<Range<usize>>,
}

/// Reads a value; problems are added with paths relative to `node`.
pub fn read<T: DeserializeOwned>(_node: &Node, _problems: &mut Vec<Problem>) -> Option<T> {
    None
}
