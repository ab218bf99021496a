//! JSON string escapes: encoding and decoding.

use std::borrow::Cow;
use std::ops::Range;

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

/// Writes what the inside of a JSON string says, which stands at `range` of the input, if it has no other escapes than
/// [`push_inside`] writes of one letter; notes where in the text what they say stands. Gives the length of the text, or
/// nothing if there are other escapes. `out` has [`SLACK`] bytes more than the inside.
pub fn unescape_plain(input: &[u8], range: Range<usize>, out: &mut [u8], escapes: &mut Vec<u32>) -> Option<usize> {
    let (inside, mut padded) = (&input[range.clone()], [0; 2 * BLOCK]);
    let (mut from, mut to) = (0, 0);
    while from < inside.len() {
        // What stands behind the string may be read with it.
        let two: &[u8; 2 * BLOCK] = match input[range.start + from..].first_chunk() {
            Some(two) => two,
            None => {
                let rest = &input[range.start + from..];
                padded[..rest.len()].copy_from_slice(rest);
                &padded
            }
        };
        let len = BLOCK.min(inside.len() - from);
        let mut slashes = slashes(two) & (u64::MAX >> (BLOCK - len));
        // Where in the block the text goes on, behind an escape.
        let mut at = 0;
        while slashes != 0 {
            let slash = slashes.trailing_zeros() as usize;
            let says = inside.get(from + slash + 1).map_or(0, |escaped| SAYS[usize::from(*escaped)]);
            if says == 0 {
                return None;
            }
            // Always as many bytes, of which some are too many.
            out[to..to + BLOCK].copy_from_slice(&two[at..at + BLOCK]);
            to += slash - at;
            out[to] = says;
            escapes.push(to as u32);
            (to, at) = (to + 1, slash + 2);
            // The second of two is what the first one says.
            slashes &= !(3 << slash);
        }
        out[to..to + BLOCK].copy_from_slice(&two[at.min(BLOCK)..at.min(BLOCK) + BLOCK]);
        to += len.saturating_sub(at);
        from += len.max(at);
    }
    Some(to)
}

const BLOCK: usize = 64;
/// What a text may take while it is written beyond what the string takes.
pub const SLACK: usize = 2 * BLOCK;

/// One bit for each backslash.
#[inline]
fn slashes(block: &[u8; 2 * BLOCK]) -> u64 {
    let mut all = 0;
    for (nth, eight) in block[..BLOCK].as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*eight) ^ (EACH * 0x5C);
        // The highest bit of each byte that is zero, of no other.
        let zeros = !(((word & !HIGH) + !HIGH) | word) & HIGH;
        all |= ((zeros >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * nth);
    }
    all
}

/// What the letter of an escape says, if [`push_inside`] writes such escapes.
static SAYS: [u8; 256] = {
    let mut says = [0; 256];
    says[b'n' as usize] = b'\n';
    says[b't' as usize] = b'\t';
    says[b'r' as usize] = b'\r';
    says[b'"' as usize] = b'"';
    says[b'\\' as usize] = b'\\';
    says
};

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * EACH;

/// Has the highest bit of each byte that is zero, and perhaps of bytes behind the first one.
fn zero(word: u64) -> u64 {
    word.wrapping_sub(EACH) & !word
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_escapes_say_what_any_reader_of_escapes_says(
            text in proptest::collection::vec(
                prop_oneof![Just('\\'), Just('"'), Just('\n'), Just('\t'), Just('a'), Just('é'), "[ -~]{1,70}".prop_map(|s| s.chars().next().unwrap_or('x'))],
                0..300,
            ),
            behind in 0usize..200,
        ) {
            let text: String = text.into_iter().collect();
            let mut input = Vec::new();
            push_string(&mut input, &text);
            let range = 1..input.len() - 1;
            input.extend(vec![b'\\'; behind]);
            let (mut out, mut escapes) = (vec![b'x'; range.len() + SLACK], Vec::new());
            let len = unescape_plain(&input, range.clone(), &mut out, &mut escapes);
            prop_assert_eq!(len.map(|len| &out[..len]), Some(text.as_bytes()));
            let expected: Vec<u32> =
                text.bytes().enumerate().filter(|(_, b)| b"\\\"\n\t".contains(b)).map(|(at, _)| at as u32).collect();
            prop_assert_eq!(escapes, expected);
        }
    }

    #[test]
    fn other_escapes_are_not_plain() {
        for inside in ["a\\/b", "\\u00e9", "\\b", "x\\f"] {
            let mut out = vec![0; inside.len() + SLACK];
            assert_eq!(unescape_plain(inside.as_bytes(), 0..inside.len(), &mut out, &mut Vec::new()), None, "{inside}");
        }
    }
}
