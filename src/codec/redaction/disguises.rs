//! Disguises: spellings that hide letters from a search but not from a reader, and where raw JSON contains one.

use super::byte_set::ByteSet;
use super::escapes::{is_after_escape, trailing_slashes};
use super::views::{Disguises, hex_pair};
use crate::codec::redaction::literals::Literals as _;
use crate::event::escape::hex4;

/// The most backslashes in front of an escape: those of JSON four times within JSON.
const MAX_SLASHES: usize = 16;

/// Takes note of a disguise in decoded text, seen at `at`.
pub fn notice(text: &[u8], at: usize, disguises: &mut Disguises) {
    match text[at] {
        b'u' => disguises.json |= at > 0 && text[at - 1] == b'\\',
        b'%' => disguises.percent |= is_percent(&text[at..]),
        b'&' => disguises.entity = true,
        _ => disguises.shape = true,
    }
}

/// `%` and the number of a letter, a digit or a sign.
fn is_percent(text: &[u8]) -> bool {
    let Some(&[high, low]) = text.get(1..3) else { return false };
    hex_pair(high, low).is_some_and(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Whether raw JSON hides something here: an escaped letter, or something without a width within a word.
pub fn is_disguise(raw: &[u8], at: usize) -> bool {
    match raw[at] {
        b'u' if at == 0 || raw[at - 1] != b'\\' => false,
        b'u' => is_escaped_disguise(raw, at),
        b'%' => is_percent(&raw[at..]),
        0xE2 => in_word(raw, at, at + 3),
        0xC2 => in_word(raw, at, at + 2),
        0xEF if raw.get(at + 1) == Some(&0xBB) => in_word(raw, at, at + 3),
        _ => true,
    }
}

fn is_escaped_disguise(raw: &[u8], at: usize) -> bool {
    // JSON within JSON has more backslashes.
    let slashes = trailing_slashes(&raw[..at], MAX_SLASHES);
    let start = at - slashes;
    match hex4(raw, at + 1) {
        0x1B => {
            let word = |at: usize| raw.get(at).is_some_and(u8::is_ascii_alphanumeric);
            // Of many colours in a row the first one reads all of them.
            start >= 1 && word(start - 1) && !is_after_escape(raw, start) && word(past_colors(raw, start, slashes))
        }
        0xAD | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x2064 | 0xFEFF => in_word(raw, start, at + 5),
        0x20..=0x7F | 0xFF01..=0xFF5E | 0xD835 => true,
        _ => false,
    }
}

/// Where terminal colours end that follow one another from `at` on, escaped as in JSON with so many backslashes.
fn past_colors(raw: &[u8], mut at: usize, slashes: usize) -> usize {
    let escape = |at: usize| raw.get(at..at + slashes).is_some_and(|part| part.iter().all(|b| *b == b'\\'));
    let is_color = |code: &[u8]| code.begins_with(b"u001b[") || code.begins_with(b"u001B[");
    while escape(at) && is_color(&raw[at + slashes..]) {
        let rest = &raw[at + slashes + 6..];
        let parameters = rest.iter().take(32).take_while(|b| (0x20..0x40).contains(*b)).count();
        at = raw.len().min(at + slashes + 6 + parameters + 1);
    }
    at
}

/// Whether letters, digits or further disguises touch both ends.
fn in_word(raw: &[u8], start: usize, end: usize) -> bool {
    let touches = |b: &u8| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"-_.@") }.has(b);
    let before = start.checked_sub(1).is_some_and(|at| touches(&raw[at]));
    let escape = start >= 6 && raw[start - 6..].begins_with(b"\\u") || start >= 2 && raw[start - 2] == b'\\';
    let after = raw.get(end).is_some_and(|b| touches(b) || matches!(b, b'\\' | 0xC2 | 0xE2 | 0xEF));
    before && !escape && after
}
