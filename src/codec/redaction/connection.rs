//! Passwords in URLs: `scheme://user:password@host`.

use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::assign::is_code;
use super::reader::Reader;
use super::values::{is_prose, is_stand_in};

/// How far before an `@` the scheme of a connection string may begin.
const MAX_CREDENTIALS: usize = 256;

/// The password in `scheme://user:password@host`, seen from any `@` of it.
pub fn connection(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    if at > 0 && text[at - 1] == b'}' {
        return filled_in(reader, at);
    }
    let Some(scheme) = reader.scheme_before(at).filter(|scheme| at - scheme <= MAX_CREDENTIALS) else {
        return of_phone(text, at);
    };
    if scheme == 0 || !text[scheme - 1].is_ascii_alphanumeric() {
        return None;
    }
    let authority = scheme + 3;
    reader.charge(at.saturating_sub(authority));
    // A password may hold an `@` itself: the last one before the path ends it.
    let rest = &text[at..];
    let stop = |b: &u8| ends_word(*b) || matches!(b, b'/' | b'?' | b'#' | b',' | b')');
    let len = rest.iter().take(MAX_CREDENTIALS).position(stop).unwrap_or(rest.len().min(MAX_CREDENTIALS));
    reader.charge(len);
    let end = at + memchr::memrchr(b'@', &rest[..len])?;
    let user = text.get(authority..at)?;
    let Some(colon) = memchr::memchr(b':', user) else {
        // A token without a user: `https://ghp_…@github.com`.
        return None;
    };
    let colon = authority + colon;
    if text[authority..colon].iter().any(|b| matches!(b, b'/' | b'?' | b'#')) {
        return None;
    }
    let password = colon + 1..end;
    let value = &text[password.clone()];
    // `host:5432/db?x=a@b`: a port and a path are no password.
    let port = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let path = port > 0 && port < 6 && matches!(value.get(port), Some(b'/' | b'?' | b'#'));
    (!path && !is_code(value) && !is_stand_in(value) && !is_prose(value) && !is_word_for_password(value))
        .then_some(password)
}

/// `sip:1001:x@pbx.example`
fn of_phone(text: &[u8], at: usize) -> Option<Range<usize>> {
    let before = &text[at.saturating_sub(MAX_FILLED_IN)..at];
    let colon = memchr::memrchr(b':', before)?;
    let user = before[..colon].iter().rev().take(24).take_while(|b| b.is_ascii_alphanumeric()).count();
    if user == 0 || !before[..colon - user].closes_with(b"sip:") {
        return None;
    }
    let value = at - before.len() + colon + 1..at;
    let inside = &text[value.clone()];
    let whole = !inside.iter().any(|b| ends_word(*b) || matches!(b, b'/' | b';'));
    (whole && !inside.is_empty() && !is_stand_in(inside)).then_some(value)
}

/// The password that a program fills into a URL of its own: `f"postgres://bob:{'x'}@db"`.
#[cold]
fn filled_in(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    let inside = text[..at].strip_suffix(b"}")?;
    let quote = *inside.last().filter(|b| b"\"'".contains(b))?;
    let end = inside.len() - 1;
    let from = end.saturating_sub(MAX_FILLED_IN);
    reader.charge(MAX_FILLED_IN / 4);
    let start = from + memchr::memrchr(quote, &text[from..end])? + 1;
    let user_end = text[..start - 1].strip_suffix(b"\\").unwrap_or(&text[..start - 1]).strip_suffix(b":{")?.len();
    let end = end - usize::from(text[start..end].closes_with(b"\\"));
    let scheme = reader.scheme_before(user_end).filter(|scheme| user_end - scheme <= MAX_CREDENTIALS)?;
    let value = &text[start..end];
    (scheme > 0 && !is_stand_in(value) && !is_prose(value) && !is_word_for_password(value)).then_some(start..end)
}

/// The longest password that is filled in.
const MAX_FILLED_IN: usize = 80;

/// What documentation writes where the password will stand.
fn is_word_for_password(value: &[u8]) -> bool {
    [&b"password"[..], b"passwd", b"pass", b"pwd", b"pw", b"secret", b"token"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

/// Whether no URL goes on behind this byte.
pub fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let at = text.find('@').expect("has an @");
        connection(&Reader::new(text.as_bytes()), at).map(|range| &text[range])
    }

    #[test]
    fn only_the_password_of_a_connection_string_is_taken() {
        for (text, expected) in [
            ("postgres://app:s3cret@db:5432/x", "s3cret"),
            ("redis://:hunter2@cache/0", "hunter2"),
            ("sip:1001:hunter2@pbx.example", "hunter2"),
            ("amqp://u:p@ss@host/v", "p@ss"),
            ("see https://bot:tok@example.com/x?y=a@b", "tok"),
            ("mongodb+srv://u:a/b@c.example", "a/b"),
        ] {
            assert_eq!(found(text), Some(expected), "{text}");
        }
        for text in [
            "https://example.com/a:b@c",
            "postgres://app@db/x",
            "postgres://app:{password}@db",
            "x://a:$PASSWORD@b",
            "https://example.com a:b@c",
            "mailto:a@b.com",
            "http://x:80/a@b",
            "postgres://user:password@host/db",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
