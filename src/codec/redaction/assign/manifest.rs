//! Secrets of Kubernetes: in a manifest of kind `Secret` every value below `data` and `stringData` is one.

use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::secret::{Role, may_be_secret};
use super::{CREDENTIAL, Class, Found};
use crate::codec::redaction::reader::Reader;
use crate::codec::redaction::values::is_stand_in;

/// How far a manifest is read around the line that says its kind.
const MAX_MANIFEST: usize = 16 << 10;
/// The shortest value.
const MIN_VALUE: usize = 4;

/// Finds the values of the manifest whose kind stands at `name`; tells whether it is one.
pub(super) fn values(reader: &Reader<'_>, name: &Range<usize>, found: &mut Vec<Found>) -> bool {
    let text = reader.text;
    if !is_kind(text, name) {
        return false;
    }
    // Each manifest is read once.
    if name.start < reader.manifest_end.get() {
        return true;
    }
    let from = name.start.saturating_sub(MAX_MANIFEST).max(reader.manifest_end.get());
    let start = memchr::memmem::rfind(&text[from..name.start], b"\n---").map_or(from, |at| from + at + 4);
    let reach = text.len().min(name.end + MAX_MANIFEST);
    let end = memchr::memmem::find(&text[name.end..reach], b"\n---").map_or(reach, |at| name.end + at);
    reader.charge(end - start);
    reader.manifest_end.set(end);
    // The indentation of `data:` and of its members, while they are read, and of a block of text.
    let (mut data, mut members, mut block): (Option<usize>, usize, Option<usize>) = (None, 0, None);
    let mut at = start;
    for line in text[start..end].split_inclusive(|b| *b == b'\n') {
        let line_start = at;
        at += line.len();
        let said = line.trim_ascii();
        let indent = line.len() - line.trim_ascii_start().len();
        if said.is_empty() || said.begins_with(b"#") {
            continue;
        }
        let value_at = |value: &[u8]| line_start + (value.as_ptr() as usize - line.as_ptr() as usize);
        if data.is_some_and(|of| indent <= of) {
            (data, block) = (None, None);
        }
        if block.is_some_and(|of| indent <= of) {
            block = None;
        }
        if data.is_none() {
            if matches!(said, b"data:" | b"stringData:") {
                (data, members) = (Some(indent), usize::MAX);
            }
            continue;
        }
        let value = if block.is_some() {
            said
        } else {
            members = members.min(indent);
            let Some(colon) = memchr::memchr(b':', said).filter(|_| indent == members) else { continue };
            let value = said[colon + 1..].trim_ascii();
            if matches!(value.first(), Some(b'|' | b'>')) && value.len() < 4 {
                block = Some(indent);
                continue;
            }
            unquoted(value)
        };
        if value.len() >= MIN_VALUE && !is_stand_in(value) && is_value(value) {
            let start = value_at(value);
            found.push(Found {
                range: start..start + value.len(),
                rule: CREDENTIAL,
                why: "a value of a Kubernetes secret",
            });
        }
    }
    true
}

/// `kind: Secret`, `kind: "Secret"`
fn is_kind(text: &[u8], name: &Range<usize>) -> bool {
    let before = &text[..name.start];
    let before = before.strip_suffix(b"\"").or_else(|| before.strip_suffix(b"'")).unwrap_or(before);
    text[name.clone()].eq_ignore_ascii_case(b"secret")
        && before.closes_with(b"kind: ")
        && !matches!(text.get(name.end), Some(b'L' | b'/' | b'.' | b':'))
}

/// Text in base64 without words around it, or what a password may be.
fn is_value(value: &[u8]) -> bool {
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
    value.iter().all(base64) && value.len().is_multiple_of(4) || may_be_secret(Class::Password, value, Role::Assigned)
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [open @ (b'"' | b'\''), inside @ .., close] if open == close => inside,
        _ => value,
    }
}
