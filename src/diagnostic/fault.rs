//! Why a value could not be read, its position, and what the next attempt must skip.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::de::NodeReader;
use super::node::Node;
use super::problem::Problem;
use super::source::Span;
use super::{known, nearest};

/// Why a value could not be read.
#[derive(Debug)]
pub(super) struct Fault {
    pub message: String,
    pub hint: Option<Box<str>>,
    pub span: Span,
    pub path: Option<String>,
    pub culprit: Culprit,
}

/// What the next attempt has to do without.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Culprit {
    Unknown,
    /// The node at this address.
    Node(usize),
    /// A key that is not in the mapping at this address, or is there with a value that was left out.
    Missing {
        mapping: usize,
        field: &'static str,
        omitted: Option<usize>,
    },
    /// A value that we made up ourselves, by its number in `Recovery::invented`.
    Invented(usize),
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), hint: None, span: Span::NOWHERE, path: None, culprit: Culprit::Unknown }
    }

    pub fn hint(self, hint: Option<String>) -> Fault {
        Fault { hint: self.hint.or(hint.map(Into::into)), ..self }
    }

    /// Says that the fault lies in what was made up, not in what was written.
    pub fn invented(self, what: usize) -> Fault {
        Fault { culprit: Culprit::Invented(what), ..self }
    }

    pub fn into_problem(self) -> Problem {
        let problem = Problem::error(self.path.unwrap_or_default(), self.span, self.message);
        Problem { hint: self.hint.map(Into::into), ..problem }
    }

    /// Takes a secret out of the words.
    pub fn hide(&mut self, node: &Node) {
        if let Some(text) = node.text().filter(|text| !text.is_empty()) {
            // A letter or two stand in other words, too; where they are quoted, they are the value.
            let (short, quoted) = (text.len() < 3, format!("`{text}`"));
            self.message = match short {
                true => self.message.replace(&quoted, "`***`"),
                false => self.message.replace(text, "***"),
            };
            self.hint =
                self.hint.take().filter(|hint| if short { !hint.contains(&quoted) } else { !hint.contains(text) });
        }
    }

    /// Says of a fault without a place that this node is its place.
    pub fn at(mut self, reader: &NodeReader) -> Fault {
        if self.culprit == Culprit::Unknown {
            self.culprit = Culprit::Node(address(reader.node));
            self.span = self.span.or(reader.node.span);
            if let Some(scalar) = reader.node.scalar() {
                self.message = scalar.conceal(&self.message);
            }
            if reader.is_private() {
                self.hide(reader.node);
            }
        }
        self.path.get_or_insert_with(|| reader.path());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::new(format!("expected {expected}, got {found}"))
    }

    fn unknown_variant(variant: &str, variants: &'static [&'static str]) -> Fault {
        unknown("value", variant, variants)
    }

    fn unknown_field(field: &str, fields: &'static [&'static str]) -> Fault {
        unknown("key", field, fields)
    }

    fn missing_field(field: &'static str) -> Fault {
        let culprit = Culprit::Missing { mapping: 0, field, omitted: None };
        Fault { culprit, ..Fault::new(format!("missing key `{field}`")) }
    }
}

pub(super) fn unknown(what: &str, word: &str, names: &[&str]) -> Fault {
    let message = match nearest(word, names.iter().copied()) {
        Some(name) => format!("unknown {what} `{word}`; did you mean `{name}`?"),
        None => format!("unknown {what} `{word}`"),
    };
    Fault::new(message).hint(known(&format!("{what}s"), names.iter().copied()))
}

pub(super) fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}
