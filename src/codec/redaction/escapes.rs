//! JSON escapes that appear literally in a text, because it is JSON inside JSON.

use super::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;

/// Whether an escape ends right before `at`: `\n`, `\u00a0`, or that of a colour.
#[inline]
pub fn is_after_escape(text: &[u8], at: usize) -> bool {
    let letter =
        at >= 2 && text[at - 2] == b'\\' && text.get(at - 1).is_some_and(|b| const { &ByteSet::of(b"nrtbf") }.has(b));
    letter || at >= 6 && is_unicode(text, at - 6) || at > 3 && text[at - 1] == b'm' && ends_colour(&text[..at - 1])
}

/// Whether the text ends with `\u001b[0`, in any notation of the escape.
fn ends_colour(text: &[u8]) -> bool {
    let codes = text.iter().rev().take(MAX_COLOUR).take_while(|b| b.is_ascii_digit() || **b == b';').count();
    let Some(before) = text[..text.len() - codes].strip_suffix(b"[") else { return false };
    [&b"\x1b"[..], b"1b", b"1B", b"033", b"\\e"].iter().any(|escape| before.ends_with(escape))
}

/// Digits and semicolons of a colour: `38;2;255;255;255`.
const MAX_COLOUR: usize = 16;

/// How many backslashes a text begins with, of the first few bytes.
pub fn leading_slashes(text: &[u8], most: usize) -> usize {
    text.iter().take(most).take_while(|b| **b == b'\\').count()
}

/// How many backslashes a text ends with, of the last few bytes.
pub fn trailing_slashes(text: &[u8], most: usize) -> usize {
    text.iter().rev().take(most).take_while(|b| **b == b'\\').count()
}

/// Whether `\u` and four digits begin at `at`.
fn is_unicode(text: &[u8], at: usize) -> bool {
    text.get(at..at + 6).is_some_and(|six| six.begins_with(b"\\u") && six[2..].iter().all(u8::is_ascii_hexdigit))
}

/// Where the escape ends that holds `at`, or `at`: the letters and digits of `\n` and `\u00a0` are no text.
pub fn past_escape(text: &[u8], at: usize) -> usize {
    for back in 1..=5 {
        let Some(start) = at.checked_sub(back) else { break };
        if text[start] == b'\\' {
            if is_unicode(text, start) {
                return start + 6;
            }
            return if back == 1 && const { &ByteSet::of(b"nrtbf") }.has(&text[at]) { at + 1 } else { at };
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_end_where_they_end() {
        assert!(is_after_escape(b"a\\nb", 3) && is_after_escape(b"\\u00a0b", 6));
        assert!(!is_after_escape(b"anb", 2) && !is_after_escape(b"xu00a0b", 6));
        assert_eq!(past_escape(b"\\u00a04111", 4), 6);
        assert_eq!(past_escape(b"\\u00a04111", 1), 6);
        assert_eq!(past_escape(b"\\nabc", 1), 2);
        assert_eq!(past_escape(b"abc", 1), 1);
    }
}
