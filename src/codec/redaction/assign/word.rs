//! What a word without quotes is if it is no value: a number, a type, a declaration, a part of a sentence, a template.

use super::secret::{MAX_EXAMINED, beginning};
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::is_name;

/// Whether a word of small letters stands in front of another.
pub(super) fn is_word_of_sentence(text: &[u8]) -> bool {
    let len = text.iter().take(24).take_while(|b| b.is_ascii_lowercase() || **b >= 0xC3).count();
    len > 0 && text.get(len) == Some(&b' ') && text.get(len + 1).is_some_and(|b| b.is_ascii_lowercase() || *b >= 0xC3)
}

/// Whether a program for tests says that one passed.
pub(super) fn is_of_tests(before: &[u8], value: &[u8]) -> bool {
    let word = &value[..value.iter().take(MAX_EXAMINED).take_while(|b| b.is_ascii_graphic()).count()];
    before.closes_with(b"--- ") || word.contains(&b'/') || word.len() > 4 && word[..4].eq_ignore_ascii_case(b"test")
}

/// Whether a word is a number of a program, a variable, a type in a page, or the declaration of a function:
/// `0x53c2_37`, `44`, `$newpass`, `Pin&lt;Ptr`, `*get1_key(EVP_PKEY`.
pub(super) fn is_of_code(value: &[u8]) -> bool {
    let value = beginning(value);
    match value {
        [b'0', b'x' | b'X', digits @ ..] => {
            digits.len() < 24 && digits.iter().all(|b| b.is_ascii_hexdigit() || *b == b'_')
        }
        [b'0'..=b'9', ..] => value.len() < 3 && value.iter().all(u8::is_ascii_digit),
        [b'A'..=b'Z', ..] => {
            value.iter().position(|b| !b.is_ascii_alphanumeric()).is_some_and(|at| value[at..].starts_with(b"&lt;"))
        }
        // `-Password $newpass`, `$DB_1_ENV_PASSWORD`
        [b'$', rest @ ..] => {
            let constant = rest.contains(&b'_') && rest.iter().all(|b| is_name(*b) && !b.is_ascii_lowercase());
            constant || !rest.is_empty() && rest.iter().all(|b| b.is_ascii_alphabetic() || *b == b'_')
        }
        [b'*', rest @ ..] => rest.iter().position(|b| !is_name(*b)).is_some_and(|at| at > 0 && rest[at] == b'('),
        _ => false,
    }
}

/// Whether a sentence goes on or ends behind a value.
pub(super) fn text_follows(rest: &[u8]) -> bool {
    match rest {
        [] | [b'\n' | b'"' | b'.' | b',', ..] => true,
        [b' ', next, ..] => next.is_ascii_lowercase(),
        _ => false,
    }
}

/// Whether a user stands in front of a name, and a comma between them.
pub(super) fn is_behind_user(before: &[u8]) -> bool {
    let Some(user) = before.trim_ascii_end().strip_suffix(b",") else { return false };
    let Some(equals) = memchr::memrchr(b'=', user) else { return false };
    let name = user[..equals].trim_ascii_end();
    let word = name.iter().rev().take_while(|b| is_name(**b)).count();
    let word = &name[name.len() - word..];
    [&b"user"[..], b"username", b"login"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether something begins here that stands for a value: `${X}`, `$(cmd)`, `{x}`, `<x>`, `[x]`.
pub(super) fn is_opening_template(text: &[u8]) -> bool {
    match text {
        [b'{' | b'[' | b'(', ..] | [b'$', b'{' | b'(', ..] | [b'<', b'(', ..] => true,
        [b'<', rest @ ..] => rest.iter().take(64).any(|b| *b == b'>'),
        [b'%', rest @ ..] => {
            rest.iter().take(64).any(|b| *b == b'%') && rest.first().is_some_and(u8::is_ascii_alphabetic)
        }
        _ => false,
    }
}

/// Words that declare what follows, or that a condition begins with.
#[rustfmt::skip]
const DECLARING: &[&[u8]] = &[
    b"let", b"const", b"var", b"val", b"my", b"our", b"local", b"auto", b"string", b"String", b"str", b"char", b"final", b"static",
    b"public", b"private", b"def", b"dim", b"Dim", b"type", b"export", b"global", b"set", b"return", b"if", b"and", b"or", b"where",
    b"else", b"elif", b"not", b"mut", b"declare", b"readonly", b"object", b"byte", b"any", b"WHERE", b"AND", b"OR", b"SET", b"SELECT",
];

/// Whether a few words of letters, and none that declares the next, are all that the line has in front of a name: `root password = x`.
#[inline(never)]
pub(super) fn is_title(before: &[u8]) -> bool {
    let words = before.trim_ascii();
    let last = words.rsplit(|b| *b == b' ').next().unwrap_or_default();
    (2..40).contains(&words.len())
        && before.closes_with(b" ")
        && words.iter().all(|b| b.is_ascii_alphabetic() || *b == b' ')
        && !DECLARING.contains(&last)
        && !words.split(|b| *b == b' ').next().is_some_and(|first| DECLARING.contains(&first))
}
