//! The JSON scanner: validates one value and, if asked, splits an object at its top level.

use std::fmt;

/// The deepest nesting of objects and arrays in an event.
pub const MAX_DEPTH: usize = 64;
/// The most members all objects of one event may have together.
pub const MAX_KEYS: usize = 10_000;

/// One member at the top level: byte offsets into the text that was scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where the name's opening quote stands.
    pub key: u32,
    /// Length of the name between its quotes.
    pub key_len: u32,
    pub value: u32,
    pub value_len: u32,
}

/// Why a text is no acceptable value, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub offset: usize,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Empty,
    ExpectedValue,
    ExpectedName,
    ExpectedColon,
    ExpectedCommaOrEnd,
    UnclosedString,
    Unclosed,
    ControlCharacter,
    Escape,
    LoneSurrogate,
    Number,
    Utf8,
    Trailing,
    TooDeep,
    TooManyKeys,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::Empty => "no value",
            Reason::ExpectedValue => "expected a value",
            Reason::ExpectedName => "expected a member name in quotes",
            Reason::ExpectedColon => "expected `:`",
            Reason::ExpectedCommaOrEnd => "expected `,` or the end of the object or array",
            Reason::UnclosedString => "a string is not closed",
            Reason::Unclosed => "an object or array is not closed",
            Reason::ControlCharacter => "raw control character in a string",
            Reason::Escape => "unknown escape in a string",
            Reason::LoneSurrogate => "lone surrogate in a string",
            Reason::Number => "malformed number",
            Reason::Utf8 => "not UTF-8",
            Reason::Trailing => "more text after the value",
            Reason::TooDeep => "nested deeper than 64 levels",
            Reason::TooManyKeys => "more than 10000 members",
        };
        write!(f, "{reason} at byte {}", self.offset)
    }
}

impl std::error::Error for Unfit {}

/// Reused between texts, so that scanning allocates nothing.
#[derive(Default)]
pub struct Scanner {
    scalar: super::scalar::Walk,
}

impl Scanner {
    pub fn new() -> Scanner {
        Scanner::default()
    }

    /// Validates `text` as exactly one value with nothing but white space around it.
    pub fn validate(&mut self, text: &[u8]) -> Result<(), Unfit> {
        self.scalar.run(text, None).and_then(|end| nothing_but_space(text, end))
    }

    /// Validates as [`Scanner::validate`]; if the value is an object its members are appended to `members`.
    pub fn split(&mut self, text: &[u8], members: &mut Vec<Member>) -> Result<(), Unfit> {
        self.scalar.run(text, Some(members)).and_then(|end| nothing_but_space(text, end))
    }

    /// Validates the value that `text` begins with (white space before it allowed) and tells where it ends;
    /// what follows is not looked at.
    pub fn prefix(&mut self, text: &[u8]) -> Result<usize, Unfit> {
        self.scalar.run(text, None)
    }
}

fn nothing_but_space(text: &[u8], end: usize) -> Result<(), Unfit> {
    match text[end..].iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
        None => Ok(()),
        Some(more) => Err(Unfit { offset: end + more, reason: Reason::Trailing }),
    }
}
