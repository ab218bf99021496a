//! JSON string escapes, both ways.

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
    let mut at = first;
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
    match String::from_utf8(out) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
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

/// Appends the inside of a JSON string.
pub fn push_inside(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut clean_from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[clean_from..at]);
        clean_from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[clean_from..]);
}
