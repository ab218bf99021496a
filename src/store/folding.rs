//! Texts as they are searched: the characters of JSON strings in lower case, and the pieces that many texts have.

use crate::event::escape::unescape;

/// Shorter pieces are not remembered.
pub const MIN_PIECE: usize = 12;

/// The folded code points of what stands between the quotes of a JSON string.
pub fn fold_json(inside: &[u8], out: &mut Vec<u32>) {
    out.reserve(inside.len());
    let mut rest = inside;
    while !rest.is_empty() {
        // Escapes are too near to each other for a search of its own for each.
        let plain = match rest.first_chunk() {
            Some(block) => {
                let mut folded = [0; 8];
                for (folded, byte) in folded.iter_mut().zip(block) {
                    *folded = u32::from(byte.to_ascii_lowercase());
                }
                let word = u64::from_le_bytes(*block);
                let plain = first_of(backslashes(word) | word & HIGH);
                out.extend_from_slice(&folded);
                out.truncate(out.len() - (8 - plain));
                plain
            }
            None => {
                let plain = rest.iter().take_while(|byte| byte.is_ascii() && **byte != b'\\');
                let before = out.len();
                out.extend(plain.map(|byte| u32::from(byte.to_ascii_lowercase())));
                out.len() - before
            }
        };
        rest = &rest[plain..];
        match rest.first() {
            Some(b'\\') => rest = &rest[fold_escape(rest, out)..],
            Some(byte) if !byte.is_ascii() => {
                let len = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
                let (text, more) = rest.split_at(len);
                std::str::from_utf8(text).unwrap_or("").chars().for_each(|c| push_folded(c, out));
                rest = more;
            }
            _ => {}
        }
    }
}

/// The low and the high bit of each of eight bytes.
const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// The high bits of the bytes that are backslashes. What stands above the lowest of them may be another byte.
fn backslashes(word: u64) -> u64 {
    let other = word ^ (ONES * b'\\' as u64);
    other.wrapping_sub(ONES) & !other & HIGH
}

/// The high bits of the bytes that are digits.
fn digits(word: u64) -> u64 {
    let other = word ^ (ONES * b'0' as u64);
    !(((other & !HIGH) + ONES * (0x80 - 10)) | other) & HIGH
}

/// How many of eight bytes stand before the first of which the high bit is set.
fn first_of(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// One escape, or a pair of them that stands for one character; tells how many bytes it takes.
fn fold_escape(text: &[u8], out: &mut Vec<u32>) -> usize {
    let plain = match text.get(1) {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'u') => {
            let is_pair = text.get(6..8) == Some(b"\\u")
                && matches!(text.get(2..4), Some([b'd' | b'D', b'8'..=b'9' | b'a' | b'b' | b'A' | b'B']));
            let len = if is_pair { 12 } else { 6 }.min(text.len());
            unescape(&text[..len]).chars().for_each(|c| push_folded(c, out));
            return len;
        }
        Some(byte) => *byte,
        None => return 1,
    };
    out.push(u32::from(plain.to_ascii_lowercase()));
    2
}

/// A character in lower case, as the filter language compares it. One expands when lowered, and both small sigmas are
/// one, since lowering a whole text chooses between them.
pub fn push_folded(c: char, out: &mut Vec<u32>) {
    match c {
        '\u{130}' => out.extend([u32::from('i'), 0x307]),
        'ς' => out.push(u32::from('σ')),
        _ if c.is_ascii() => out.push(u32::from(c.to_ascii_lowercase())),
        _ => out.extend(c.to_lowercase().map(u32::from)),
    }
}

/// Where a piece of a JSON string ends that other texts may have as well: behind a `\n`, before and behind a number unless
/// that makes a piece too short, or at the end.
pub fn piece_end(text: &[u8]) -> usize {
    let number = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = number + line_or_number(&text[number..]);
    if number > 0 && end - number >= MIN_PIECE { number } else { end }
}

/// Where a line ends, or a number begins behind at least [`MIN_PIECE`] bytes. No escape is torn.
fn line_or_number(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if let Some(block) = text[at..].first_chunk() {
            let word = u64::from_le_bytes(*block);
            let plain = first_of(backslashes(word) | digits(word));
            if plain > 0 {
                at += plain;
                continue;
            }
        }
        match byte {
            b'\\' if text.get(at + 1) == Some(&b'n') => return at + 2,
            b'\\' => at += if text.get(at + 1) == Some(&b'u') { 6 } else { 2 },
            b'0'..=b'9' if at >= MIN_PIECE => return at,
            b'0'..=b'9' => at += text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_folds_the_same_wherever_its_escapes_and_other_scripts_stand() {
        for nth in 0..24 {
            for inside in [r"\n", r"\\", r#"\""#, "é", "結果", r"\u0041", r"\ud83d\ude00", "İς", "\u{7f}"] {
                let text = format!("{}{inside}{}", &"ABCdefGHIjklMNOpqrSTUvwx"[..nth], &"yzABCDEFGHI"[..nth % 11]);
                let mut folded = Vec::new();
                fold_json(text.as_bytes(), &mut folded);
                let mut expected = Vec::new();
                unescape(text.as_bytes()).chars().for_each(|c| push_folded(c, &mut expected));
                assert_eq!(folded, expected, "{text}");
            }
        }
    }

    #[test]
    fn pieces_end_at_lines_and_around_numbers_and_tear_neither_these_nor_escapes() {
        let pieces = |text: &str| {
            let (mut rest, mut all) = (text, Vec::new());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(piece_end(rest.as_bytes()));
                all.push(piece.to_owned());
                rest = more;
            }
            all
        };
        let expected = ["random_state=", "1234", ", shuffle=True)\\n", "df.head(", "12)"];
        assert_eq!(pieces(&expected.concat())[..3], expected[..3]);
        assert_eq!(pieces(&expected.concat())[3..], ["df.head(12)"]);
        assert_eq!(pieces(r"caf\u00e9 and na\u00efve 12"), [r"caf\u00e9 and na\u00efve ", "12"]);
        assert_eq!(pieces(r"a long path C:\\n1 and \\\n22"), [r"a long path C:\\n", r"1 and \\\n", "22"]);
        assert_eq!(pieces("123456789 short 12 and then long"), ["123456789", " short 12 and then long"]);
        assert_eq!(pieces("123456789, 12 34"), ["123456789, 12 34"]);
    }
}
