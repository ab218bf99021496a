//! Passwords identified by position alone: `.pgpass` lines, Oracle logins, Go DSNs.

use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::assign::{Role, may_be_secret};
use super::byte_set::ByteSet;
use super::names::Class;
use super::reader::Reader;

/// How far such a line or address goes in front of what the filter has seen, and behind it.
const MAX_BEFORE: usize = 120;
const MAX_BEHIND: usize = 300;
/// Commands that take a login of Oracle.
const ORACLE: &[&[u8]] = &[b"sqlldr ", b"expdp ", b"impdp ", b"rman ", b"sqlplus ", b"exp ", b"imp ", b"userid="];

/// What ends a line or the text that holds it.
fn ends(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`<>\\|,;()") }.has(byte)
}

/// The password of `host:port:database:user:password`, whose port begins behind the colon at `at`.
pub fn pgpass(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    let port = text.get(at + 1..)?.iter().take(6).take_while(|b| b.is_ascii_digit() || **b == b'*').count();
    let field = |from: usize| {
        let len = text.get(from..)?.iter().take(64).position(|b| *b == b':' || ends(b))?;
        let named = text[from..from + len].iter().all(|b| b.is_ascii_alphanumeric() || b"_-.*%+@".contains(b));
        let told = text[from..from + len].iter().any(|b| b.is_ascii_alphabetic() || *b == b'*');
        (len > 0 && named && told && text[from + len] == b':').then_some(from + len + 1)
    };
    if !(port == 1 && text[at + 1] == b'*' || (4..=5).contains(&port)) || text.get(at + 1 + port) != Some(&b':') {
        return None;
    }
    let start = field(field(at + port + 2)?)?;
    let host = text[..at].iter().rev().take(MAX_BEFORE).take_while(|b| !ends(b) && **b != b':').count();
    let host = &text[at - host..at];
    let is_host = host.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.*".contains(b));
    let alone = host.len() == at || ends(&text[at - host.len() - 1]);
    reader.charge(MAX_BEFORE);
    if host.is_empty() || !is_host || !alone {
        return None;
    }
    // A colon more is no line of passwords.
    let stops = |b: &u8| ends(b) || *b == b':';
    let len = text[start..].iter().take(MAX_BEHIND).position(stops).unwrap_or(text.len() - start);
    let value = &text[start..start + len];
    let taken = text.get(start + len) != Some(&b':');
    (taken && !value.begins_with(b"/") && may_be_secret(Class::Password, value, Role::Setting))
        .then_some(start..start + len)
}

/// The password in front of the `@` of `thin:user/password@host`, `sqlldr user/password@db`, `user:password@tcp(host)`.
pub fn login(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    if let Some(value) = domain_login(reader, at) {
        return Some(value);
    }
    let text = reader.text;
    reader.charge(16);
    let rest = &text[at + 1..];
    let go = rest.begins_with(b"tcp(") || rest.begins_with(b"unix(");
    let start = reader.login_before(at, MAX_BEFORE);
    let sign = if go { b':' } else { b'/' };
    let split = start + memchr::memchr(sign, &text[start..at])?;
    let user = &text[start..split];
    let name = user.iter().rev().take_while(|b| b.is_ascii_alphanumeric() || b"_$#.-".contains(b)).count();
    let head = &user[..user.len() - name];
    let known = go && head.is_empty() || is_oracle(text, head, split - name);
    let value = split + 1..at;
    (known && name > 0 && may_be_secret(Class::Password, &text[value.clone()], Role::Setting)).then_some(value)
}

/// The password of `domain/user:password@10.0.0.1`, as the tools of impacket take it.
pub fn domain_login(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    let start = reader.login_before(at, MAX_BEFORE);
    let slash = start + memchr::memchr(b'/', &text[start..at])?;
    let colon = slash + memchr::memchr(b':', &text[slash..at])?;
    let named = |part: &[u8]| !part.is_empty() && part.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-$".contains(b));
    let digits = text[at + 1..].iter().take(16).take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    let is_address = memchr::memchr_iter(b'.', &text[at + 1..at + 1 + digits]).count() == 3;
    let before = &text[start.saturating_sub(MAX_BEFORE)..start];
    let line = memchr::memrchr(b'\n', before).map_or(before, |end| &before[end + 1..]);
    let known = is_address || [&b"impacket"[..], b".py "].iter().any(|tool| memchr::memmem::find(line, tool).is_some());
    let value = colon + 1..at;
    (known && named(&text[start..slash]) && named(&text[slash + 1..colon]))
        .then_some(value)
        .filter(|value| may_be_secret(Class::Password, &text[value.clone()], Role::Setting))
}

/// The value of `fs.azure.account.key.NAME.blob.core.windows.net`, seen from `ount.key.`.
pub fn account_key(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    reader.charge(MAX_BEFORE);
    let name = at + 9;
    let host =
        text.get(name..)?.iter().take(100).take_while(|b| b.is_ascii_alphanumeric() || b"-.".contains(b)).count();
    memchr::memmem::find(&text[name..name + host], b".core.")?;
    let behind = &text[name + host..text.len().min(name + host + 48)];
    let joins = |b: &u8| const { &ByteSet::of(b" \t\"'\\,:=>") }.has(b);
    let tags = [&b"</name><value>"[..], b"</name>\n<value>"];
    let element = tags.iter().find(|tags| behind.starts_with(tags));
    let gap = element.map_or_else(|| behind.iter().take_while(|b| joins(b)).count(), |tags| tags.len());
    let start = name + host + gap;
    let ends = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`<>\\,;)") }.has(b);
    let len = text[start..].iter().take(MAX_BEHIND).position(ends).unwrap_or((text.len() - start).min(MAX_BEHIND));
    let value = start..start + len;
    (gap > 0 && may_be_secret(Class::Secret, &text[value.clone()], Role::Assigned)).then_some(value)
}

/// Whether what stands in front of a user says that a login of Oracle follows.
fn is_oracle(text: &[u8], head: &[u8], at: usize) -> bool {
    if head.closes_with(b"thin:") || head.closes_with(b"oci:") || head.closes_with(b"oci8:") {
        return true;
    }
    let before = &text[at.saturating_sub(40)..at];
    let line = memchr::memrchr(b'\n', before).map_or(before, |end| &before[end + 1..]);
    let given = |command: &&[u8]| memchr::memmem::find(line, command).is_some();
    let connects = line.trim_ascii_end().closes_with(b"connect(\"") || line.trim_ascii_end().closes_with(b"connect('");
    (head.is_empty() || head.closes_with(b"="))
        && (ORACLE.iter().any(given) || connects && memchr::memmem::find(line, b"racle").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_field(text: &str) -> Option<&str> {
        let at = text.find(":5432:").or_else(|| text.find(":*:")).expect("has a port");
        pgpass(&Reader::new(text.as_bytes()), at).map(|range| &text[range])
    }

    fn password(text: &str) -> Option<&str> {
        login(&Reader::new(text.as_bytes()), text.find('@').expect("has an @")).map(|range| &text[range])
    }

    #[test]
    fn the_last_field_of_a_line_of_passwords_is_taken() {
        for text in ["h.example:5432:shop:bob:hunter2", "*:*:*:bob:hunter2", "echo 'h:5432:x:bob:hunter2' > ~/.pgpass"]
        {
            assert_eq!(last_field(text), Some("hunter2"), "{text}");
        }
        for text in ["h:5432:12:30:hunter2", "tcp://h:5432:5432:a:b", "h:5432:x:bob:", "h:5432: x:bob:hunter2"] {
            assert_eq!(last_field(text), None, "{text}");
        }
    }

    #[test]
    fn logins_without_a_scheme_are_known_by_their_neighbours() {
        for text in
            ["jdbc:oracle:thin:bob/hunter2@h:1521/x", "sqlldr userid=bob/hunter2@x", "bob:hunter2@tcp(h:3306)/x"]
        {
            assert_eq!(password(text), Some("hunter2"), "{text}");
        }
        for text in ["npm i foo/bar@1.2.3", "see a/b@c.example", "uses: actions/checkout@v4", "me:x@example.com"] {
            assert_eq!(password(text), None, "{text}");
        }
    }
}
