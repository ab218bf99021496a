//! Whether raw JSON may give a value to a name; escapes are not decoded yet.

use std::ops::Range;

use super::{MAX_NAME, class_of, class_of_file, files, name_around, prose, spread};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::escapes::trailing_slashes;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::is_name;
use crate::codec::redaction::reader::Reader;

/// Whether raw JSON may give a value to the name around `at`.
pub fn is_plausible(reader: &Reader<'_>, at: usize) -> bool {
    let raw = reader.text;
    let Some(mut name) = name_around(reader, at) else { return false };
    let before = &raw[name.start.saturating_sub(12)..name.start];
    let colored = memchr::memmem::find(before, b"u001b[").is_some();
    // One of two backslashes is what the other says, and no escape.
    if trailing_slashes(&raw[..name.start], MAX_NAME) % 2 == 1 {
        let digits =
            raw.get(name.start + 1..name.start + 5).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        name.start += if raw[name.start] == b'u' && digits { 5 } else { 1 };
    }
    if name.start >= name.end {
        return false;
    }
    let words = raw[name.start..].get(..12).is_some_and(|words| words.eq_ignore_ascii_case(b"mot de passe"));
    if words {
        name.end = name.start + 12;
    }
    let access = raw[name.clone()].eq_ignore_ascii_case(b"clave") && raw[name.end..].starts_with(b" de acceso");
    if access {
        name.end += 10;
    }
    // A name that goes on says what it is at its end.
    if raw.get(name.end).is_some_and(|byte| is_name(*byte)) {
        return true;
    }
    if words || colored || class_of(reader, &name).is_some() {
        return is_value_itself(raw, name.start)
            || leads_to_value(raw, name.clone())
            || prose::is_led_to(raw, name.start)
            || spread::is_comment(raw, &name)
            || files::redirection(reader, name.start).is_some()
            || raw.get(name.end) == Some(&b';') && files::annotation(raw, name.start).is_some();
    }
    class_of_file(&raw[name.clone()]).is_some() && files::redirection(reader, name.start).is_some()
}

/// Whether a name stands where values do: `"x" -> password`, `"name": "password"`.
fn is_value_itself(raw: &[u8], at: usize) -> bool {
    let before = raw[..at].iter().rev().take(16).find(|b| !const { &ByteSet::of(b" \\\"'") }.has(b));
    matches!(before, Some(b':' | b'=' | b'>'))
}

/// Whether `pass` is all that its line says, as in Python, and the next line begins another statement.
fn is_statement(raw: &[u8], name: &Range<usize>) -> bool {
    if &raw[name.clone()] != b"pass" {
        return false;
    }
    let gap = raw[..name.start].iter().rev().take(MAX_NAME).take_while(|b| **b == b' ').count();
    let before = &raw[..name.start - gap];
    let begins = [&b"\\n"[..], b"\""].iter().any(|end| before.ends_with(end));
    if !begins || !raw[name.end..].begins_with(b"\\n") {
        return false;
    }
    let mut at = name.end;
    while raw[at..].begins_with(b"\\n") || raw[at..].begins_with(b" ") {
        at += if raw[at] == b' ' { 1 } else { 2 };
    }
    raw.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || b"_@".contains(b))
}

/// Whether raw JSON may go on with something that joins a name to its value.
fn leads_to_value(raw: &[u8], name: Range<usize>) -> bool {
    let mut at = name.end;
    if is_statement(raw, &name) {
        return false;
    }
    let (mut gap, flag) = (false, raw[name].begins_with(b"-"));
    while let Some(byte) = raw.get(at) {
        match byte {
            b'=' | b':' | b',' | b'(' | b'>' | b'|' | b'<' | b'?' | b'.' | b'&' | b'%' | 0x80.. => return true,
            b'\\' if matches!(raw.get(at + 1), Some(b'n' | b'r' | b't')) => (at, gap) = (at + 2, true),
            b'\\' if raw.get(at + 1) == Some(&b'u') => return true,
            b'"' | b'\'' | b'`' if gap => return true,
            b' ' => (at, gap) = (at + 1, true),
            // `name[64] =`
            b'0'..=b'9' if matches!(raw[at - 1], b'[' | b'0'..=b'9') => at += 1,
            b'"' | b'\'' | b'`' | b'\\' | b']' | b'[' | b')' | b'!' | b'}' | b'*' | b'+' | b'-' => at += 1,
            _ => return gap || flag,
        }
    }
    false
}
