//! Splits a query into tokens: words with escapes, quoted strings, operators.

use std::ops::Range;

use super::{Pattern, QueryError};

pub struct Lexer<'a> {
    pub text: &'a str,
    pub at: usize,
}

/// Where an unquoted word ends besides white space.
pub const IN_TEXT: &str = "()\":";
pub const IN_VALUE: &str = "()\"";
pub const IN_RANGE: &str = "()\"[]";
pub const IN_NAME: &str = "()\":.";

impl<'a> Lexer<'a> {
    pub fn error(&self, range: Range<usize>, message: impl Into<String>, hint: Option<&str>) -> QueryError {
        QueryError { query: self.text.to_owned(), range, message: message.into(), hint: hint.map(str::to_owned) }
    }

    /// What comes next, as far as it is on one character.
    pub fn here(&self) -> Range<usize> {
        self.at..self.at + self.peek().map_or(0, char::len_utf8)
    }

    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    pub fn eat(&mut self, sign: &str) -> bool {
        let there = self.rest().starts_with(sign);
        if there {
            self.at += sign.len();
        }
        there
    }

    /// Whether this keyword is here as a whole word.
    pub fn is_keyword(&self, word: &str) -> bool {
        self.rest()
            .strip_prefix(word)
            .is_some_and(|rest| rest.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')' | '"')))
    }

    pub fn eat_keyword(&mut self, word: &str) -> bool {
        self.is_keyword(word) && self.eat(word)
    }

    /// The inside of the string whose opening quote is next: `\"` is a quote, `\\` a backslash.
    pub fn quoted(&mut self) -> Result<String, QueryError> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + 1 + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    // Patterns are full of backslashes, so others stay.
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err(self.error(start..start + 1, "a string is not closed", Some("add `\"` at its end")))
    }

    /// A word up to white space or one of `ends`; `\` takes the next character as it is, `*` stands for any text.
    pub fn word(&mut self, ends: &str) -> Result<Pattern, QueryError> {
        let start = self.at;
        let mut parts = vec![String::new()];
        let mut chars = self.rest().char_indices();
        let mut end = self.text.len();
        while let Some((at, c)) = chars.next() {
            if c.is_whitespace() || ends.contains(c) {
                end = start + at;
                break;
            }
            match c {
                '*' if parts.len() > 1 && parts[parts.len() - 1].is_empty() => {}
                '*' => parts.push(String::new()),
                '\\' => match chars.next() {
                    Some((_, escaped)) => parts.last_mut().expect("begins with one").push(escaped),
                    None => {
                        let last = self.text.len() - 1;
                        return Err(self.error(
                            last..last + 1,
                            "nothing follows `\\`",
                            Some("write `\\\\` for a backslash"),
                        ));
                    }
                },
                c => parts.last_mut().expect("begins with one").push(c),
            }
        }
        self.at = end;
        Ok(Pattern(parts))
    }
}
