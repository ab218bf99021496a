//! JSON string escapes: encoding and decoding.

use std::borrow::Cow;

/// Decodes the inside of a valid JSON string (without its quotes).
///
/// The text must have passed the scanner: escapes are well formed and surrogates are paired.
pub fn unescape(inside: &[u8]) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', inside) else {
        return match std::str::from_utf8(inside) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(inside),
        };
    };
    let mut out = Vec::with_capacity(inside.len());
    out.extend_from_slice(&inside[..first]);
    unescape_into(&inside[first..], &mut out);
    match String::from_utf8(out) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// Appends what the inside of a JSON string says.
pub fn unescape_into(inside: &[u8], out: &mut Vec<u8>) {
    out.reserve(inside.len());
    let mut at = 0;
    while at < inside.len() {
        if inside[at] != b'\\' {
            let run = memchr::memchr(b'\\', &inside[at..]).map_or(inside.len(), |n| at + n);
            out.extend_from_slice(&inside[at..run]);
            at = run;
            continue;
        }
        let escaped = inside.get(at + 1).copied().unwrap_or(b'\\');
        at += 2;
        match escaped {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (unit, next) = (hex4(inside, at), at + 4);
                let (code, next) = match unit {
                    0xD800..=0xDBFF => (
                        0x10000 + ((unit - 0xD800) << 10) + (hex4(inside, next + 2).wrapping_sub(0xDC00) & 0x3FF),
                        next + 6,
                    ),
                    _ => (unit, next),
                };
                let decoded = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                at = next;
            }
            other => out.push(other),
        }
    }
}

/// The four hexadecimal digits at `at`, or U+FFFD's number where they are none.
pub fn hex4(text: &[u8], at: usize) -> u32 {
    let Some(digits) = text.get(at..at + 4) else { return 0xFFFD };
    let mut unit = 0;
    for digit in digits {
        match (*digit as char).to_digit(16) {
            Some(value) => unit = unit * 16 + value,
            None => return 0xFFFD,
        }
    }
    unit
}

/// Appends `text` to `out` as a JSON string, quotes included.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_inside(out, text);
    out.push(b'"');
}

/// Appends ASCII as a JSON string, quotes included.
pub fn push_ascii(out: &mut Vec<u8>, text: &[u8]) {
    debug_assert!(text.is_ascii(), "other text is checked first");
    out.push(b'"');
    push_bytes(out, text);
    out.push(b'"');
}

/// Appends the inside of a JSON string.
pub fn push_inside(out: &mut Vec<u8>, text: &str) {
    push_bytes(out, text.as_bytes());
}

fn push_bytes(out: &mut Vec<u8>, mut rest: &[u8]) {
    loop {
        let clean = clean_len(rest);
        out.extend_from_slice(&rest[..clean]);
        let Some(byte) = rest.get(clean) else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let digits = [DIGITS[usize::from(control >> 4)], DIGITS[usize::from(control & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
        rest = &rest[clean + 1..];
    }
}

/// How many bytes at the head of `text` need no escape, found eight at a time.
fn clean_len(text: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let zero = |word: u64| word.wrapping_sub(EACH) & !word;
    let mut at = 0;
    while let Some(bytes) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*bytes);
        // Up to the first hit these are exact; a borrow spoils only bytes behind it.
        let low = word.wrapping_sub(0x20 * EACH) & !word;
        let hits = (low | zero(word ^ (EACH * 0x22)) | zero(word ^ (EACH * 0x5C))) & HIGH;
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let needs_escape = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    at + text[at..].iter().position(needs_escape).unwrap_or(text.len() - at)
}
