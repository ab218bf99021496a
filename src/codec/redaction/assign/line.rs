//! What the line around a name and its value says: where it ends, what joins it, what it begins with.

use super::Finder;
use super::bare::{LINE_WORDS_END, MAX_BEFORE, Place};
use super::blanks;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::is_name;

impl Finder<'_, '_> {
    /// Whether the line in front says who logs in.
    pub(super) fn is_below_login(&self, line_start: usize) -> bool {
        let before = &self.text[line_start.saturating_sub(MAX_BEFORE)..line_start];
        let Some(before) = before.strip_suffix(b"\n") else { return false };
        let line = &before[memchr::memrchr(b'\n', before).map_or(0, |end| end + 1)..];
        line.trim_ascii_start().begins_with(b"login ")
    }

    /// Whether the value ends with the line, perhaps before a comment.
    pub(super) fn is_whole_line(&self, at: usize) -> bool {
        let end = self.end_of(at, Place::Setting);
        let rest = blanks(self.text, end);
        match self.text.get(rest) {
            None | Some(b'\n' | b'\r' | b'"' | b'\'' | b'`' | b'#' | b'}') => true,
            Some(b'\\') => true,
            Some(b'/' | b'|' | b'-' | b'<') => rest > end || self.text[rest] == b'<',
            Some(b',' | b';') => true,
            _ => false,
        }
    }

    /// The last byte of the line that holds the value.
    pub(super) fn last_byte(&self, at: usize) -> Option<u8> {
        let end = self.last_word_end(at);
        self.text[at..end].last().copied()
    }

    /// Where the line ends that holds `at`, without blanks at its end. Many names may stand in front of many blanks.
    pub(super) fn last_word_end(&self, at: usize) -> usize {
        self.reader.end(LINE_WORDS_END, at, || {
            let line = &self.text[at..self.reader.line_end(at)];
            at + line.trim_ascii_end().len()
        })
    }

    pub(super) fn is_comment(&self, before: &[u8]) -> bool {
        let before = before.trim_ascii_start();
        before.begins_with(b"#") || before.begins_with(b"//") || before.begins_with(b"--")
    }

    /// `<password `, `<ns:Password `
    pub(super) fn begins_tag(&self) -> bool {
        let before = &self.text[..self.start()];
        let space = before.strip_suffix(b":").map_or(0, |rest| {
            1 + rest.iter().rev().take(24).take_while(|b| b.is_ascii_alphanumeric() || b"_-".contains(b)).count()
        });
        before[..before.len() - space].closes_with(b"<")
    }

    /// `self.password=`: an attribute of a program.
    pub(super) fn is_own(&self, before: &[u8]) -> bool {
        [&b"self."[..], b"this.", b"cls.", b"@", b"->"].iter().any(|own| before.ends_with(own))
    }

    pub(super) fn joined_by_ampersand(&self, at: usize) -> bool {
        let end = self.end_of(at, Place::Url);
        let next = &self.text[end..];
        let name = next.iter().skip(1).take(40).take_while(|b| is_name(**b)).count();
        next.first() == Some(&b'&') && name > 0 && next.get(1 + name) == Some(&b'=')
    }

    /// `a=b;Password=x;c=d`
    pub(super) fn is_field(&self, before: &[u8], at: usize) -> bool {
        let near = &before[before.len().saturating_sub(80)..];
        let joined = near.trim_ascii_end().closes_with(b";") && near.contains(&b'=');
        let end = self.end_of(at, Place::Field);
        let next = &self.text[end..];
        let name = next.iter().skip(1).take(40).take_while(|b| is_name(**b) || **b == b' ').count();
        let joins = next.first() == Some(&b';') && name > 1 && next.get(1 + name) == Some(&b'=');
        joined || joins
    }
}
