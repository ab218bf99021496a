//! Truncates the inside of a JSON string: never within a character, never within an escape.

use super::escape::hex4;

/// How long the decoded text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// Unicode characters.
    Chars(usize),
    /// Bytes of UTF-8.
    Bytes(usize),
}

impl Most {
    /// Whether the inside of a string can only decode to a text within the bound: no escape is shorter than what it
    /// stands for, and no character shorter than a byte.
    pub fn surely_holds(self, inside: &[u8]) -> bool {
        let (Most::Chars(most) | Most::Bytes(most)) = self;
        inside.len() <= most
    }

    /// The length of the longest beginning of `inside` that decodes to a text within the bound.
    pub fn longest(self, inside: &[u8]) -> usize {
        let (mut at, mut left) = match self {
            Most::Chars(most) | Most::Bytes(most) => (0, most),
        };
        while at < inside.len() && left > 0 {
            // Up to the next escape a plain byte is a character, whichever way one counts.
            let plain = &inside[at..];
            let plain = &plain[..memchr::memchr(b'\\', plain).unwrap_or(plain.len())];
            let within = &plain[..plain.len().min(left)];
            if !within.is_empty() && within.is_ascii() {
                at += within.len();
                left -= within.len();
                continue;
            }
            let end = at + plain.len().max(1);
            while at < end {
                let (raw, decoded) = character(&inside[at..]);
                let cost = if matches!(self, Most::Chars(_)) { 1 } else { decoded };
                if cost > left {
                    return at;
                }
                left -= cost;
                at += raw;
            }
        }
        at.min(inside.len())
    }
}

/// How many bytes the first character takes as it is written, and how many of UTF-8 once decoded.
fn character(inside: &[u8]) -> (usize, usize) {
    match inside[0] {
        b'\\' if inside.get(1) == Some(&b'u') => match hex4(inside, 2) {
            0xD800..=0xDBFF => (12, 4),
            0..=0x7F => (6, 1),
            0x80..=0x7FF => (6, 2),
            _ => (6, 3),
        },
        b'\\' => (2, 1),
        0..=0x7F => (1, 1),
        0xF0.. => (4, 4),
        0xE0.. => (3, 3),
        _ => (2, 2),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::escape;

    #[test]
    fn escapes_and_surrogate_pairs_are_cut_whole() {
        let inside = br#"a\n\u00e9\ud83d\ude00b"#;
        let cut = |most: Most| std::str::from_utf8(&inside[..most.longest(inside)]).expect("text");
        assert_eq!(cut(Most::Chars(2)), r"a\n");
        assert_eq!(cut(Most::Chars(4)), r"a\n\u00e9\ud83d\ude00");
        assert_eq!(cut(Most::Bytes(3)), r"a\n");
        assert_eq!(cut(Most::Bytes(7)), r"a\n\u00e9");
        assert_eq!(cut(Most::Bytes(100)).len(), inside.len());
    }

    proptest! {
        #[test]
        fn it_is_the_longest_beginning_of_the_decoded_text(text in "(\\PC|[\\x00-\\x7f]|[a-z]{40}){0,40}", most in 0usize..200, escaped in any::<bool>()) {
            let inside = if escaped {
                text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>().into_bytes()
            } else {
                let mut out = Vec::new();
                escape::push_inside(&mut out, &text);
                out
            };
            let decoded = |most: Most| escape::unescape(&inside[..most.longest(&inside)]).into_owned();
            prop_assert_eq!(decoded(Most::Chars(most)), text.chars().take(most).collect::<String>());
            let end = text.floor_char_boundary(most);
            prop_assert_eq!(decoded(Most::Bytes(most)), &text[..end]);
            prop_assert!(!Most::Bytes(most).surely_holds(&inside) || text.len() <= most);
        }
    }
}
