//! What a name announces where the words around it decide: `fs.s3a.secret.key`, `here is the key: x`, `passwordInput.value = "x"`.

use std::ops::Range;

use crate::codec::redaction::escapes::is_after_escape;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::{Class, classify, field_of, is_name};
use crate::codec::redaction::reader::Reader;

/// What follows the name of an element that is filled in.
const FILLED: &[&[u8]] = &[b".value = ", b".send_keys(", b".sendKeys(", b".fill(", b".type("];
/// How far the user is looked for in front of `key`.
const MAX_BEFORE: usize = 80;
/// Whose key a sentence speaks of.
const OWNING: &[&[u8]] = &[b" the ", b" my ", b" your ", b" our ", b"The ", b"My ", b"Your "];

/// What a name announces, with the words before it that belong to it: `fs.s3a.secret.key`, `API key`.
pub(super) fn class_of(reader: &Reader<'_>, range: &Range<usize>) -> Option<Class> {
    let text = reader.text;
    let name = &text[range.clone()];
    if name == b"key"
        && let Some(class) = class_of_key(text, range)
    {
        return Some(class);
    }
    // `passwordInput.value = "x"`
    if text.get(range.end) == Some(&b'.')
        && FILLED.iter().any(|call| text[range.end..].starts_with(call))
        && let Some(field) = field_of(name)
    {
        return classify(field);
    }
    // `?code=x&state=y`
    if name == b"code" && text.get(range.end) == Some(&b'=') {
        return Some(Class::Weak);
    }
    // `kata sandi: x`
    if name.eq_ignore_ascii_case(b"sandi") {
        return (text[..range.start].closes_with(b"ata ")).then_some(Class::Password);
    }
    // `PRAGMA key = 'x'` of SQLCipher.
    let pragma = || range.start > 6 && text[range.start - 7..range.start].eq_ignore_ascii_case(b"pragma ");
    if (name.eq_ignore_ascii_case(b"key") || name.eq_ignore_ascii_case(b"rekey")) && pragma() {
        return Some(Class::Password);
    }
    // `10.0.0.7:6379> AUTH x`
    if name == b"AUTH" && text[..range.start].closes_with(b"> ") {
        return Some(Class::Password);
    }
    // A list of keys, whose line may end as JSON writes it.
    let list = |signs: &&[u8]| text[range.end..].starts_with(signs);
    if name == b"keys" && [&b": ["[..], b":\n", b":\\n", b":\r\n"].iter().any(list)
        || name == b"tokens"
            && [&b"\":[\""[..], b"\": [\"", b"\\\":[\\\"", b"\\\": [\\\"", b" = [\"", b": ['"].iter().any(list)
    {
        return Some(Class::Weak);
    }
    if name == b"getpass" && [&b" = lambda"[..], b"=lambda"].iter().any(list) {
        return Some(Class::Password);
    }
    if !name.eq_ignore_ascii_case(b"key") || range.start == 0 || !matches!(text[range.start - 1], b'.' | b' ') {
        return reader.classify(name);
    }
    let before = &text[..range.start - 1];
    let word = before.iter().rev().take(24).take_while(|b| b.is_ascii_alphabetic()).count();
    let start = before.len() - word;
    let start = start + usize::from(word > 0 && is_after_escape(text, start + 1));
    classify(&text[start..range.end]).filter(|class| *class == Class::Key)
}

/// `login(key="x")`, `the key for the api is x`, `here is the key: x`, `?key=x`, `Client(key="x")`, `params={"key": "x"}`.
#[inline(never)]
fn class_of_key(text: &[u8], range: &Range<usize>) -> Option<Class> {
    let (before, behind) = (&text[..range.start], &text[range.end..]);
    if before.closes_with(b"login(") || behind.begins_with(b" for ") && before.closes_with(b" ") {
        return Some(Class::Key);
    }
    let owned =
        (behind.begins_with(b": ") || behind.begins_with(b" is ")) && OWNING.iter().any(|word| before.ends_with(word));
    let given = match behind {
        [b'=', b'"' | b'\'' | b'\\', ..] => before.closes_with(b"(") || before.closes_with(b", "),
        [b' ', b'=', b' ', b'"' | b'\'' | b'\\', ..] => before.closes_with(b"("),
        [b'=', ..] => false,
        [b'"' | b'\'' | b'\\', ..] => is_member_beside_user(before),
        _ => false,
    };
    let of_url = behind.begins_with(b"=") && matches!(before.last(), Some(b'?' | b'&'));
    (owned || given || of_url).then_some(Class::Weak)
}

/// `params={"` or `{"username":"bob","` in front of `key`.
fn is_member_beside_user(before: &[u8]) -> bool {
    let before = &before[before.len().saturating_sub(MAX_BEFORE)..];
    let Some(head) = before.strip_suffix(b"\"").or_else(|| before.strip_suffix(b"'")) else { return false };
    let head = head[..head.len() - head.iter().rev().take(7).take_while(|b| **b == b'\\').count()].trim_ascii_end();
    let Some(head) = head.strip_suffix(b"{") else {
        return head.closes_with(b",") && memchr::memmem::find(head, b"username").is_some();
    };
    let sign = head.trim_ascii_end();
    let Some(sign) = sign.strip_suffix(b"=").or_else(|| sign.strip_suffix(b":")) else { return false };
    let sign = sign.trim_ascii_end();
    let word = sign.iter().rev().take(24).take_while(|b| is_name(**b)).count();
    &sign[sign.len() - word..] == b"params"
}

pub(super) fn class_of_file(name: &[u8]) -> Option<Class> {
    let (name, file) = name.split_at(name.len().checked_sub(5)?);
    (file.eq_ignore_ascii_case(b"_file") || file.eq_ignore_ascii_case(b"-file")).then(|| classify(name)).flatten()
}
