//! What takes the place of a secret, and how to know it again.

use super::byte_set::ByteSet;
use super::search::Span;
use super::{Action, Engine, report, rules};

impl Engine {
    pub(super) fn replace(&self, text: &[u8], spans: &[Span]) -> Vec<u8> {
        let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
        for span in spans {
            out.extend_from_slice(&text[from..span.start]);
            out.extend_from_slice(&self.instead(span.rule, &text[span.start..span.end]));
            from = span.end;
        }
        out.extend_from_slice(&text[from..]);
        out
    }

    /// What stands in the place of a secret.
    pub(super) fn instead(&self, rule: u16, secret: &[u8]) -> Vec<u8> {
        let name = &self.names[usize::from(rule)];
        match self.action(rule) {
            Action::Remove => Vec::new(),
            Action::Hash(key) => {
                let hash = blake3::keyed_hash(key, secret).to_hex();
                format!("[{name}:{}]", &hash[..HASH]).into_bytes()
            }
            Action::KeepLast(last) => {
                let secret = String::from_utf8_lossy(secret);
                let (len, last) = (secret.chars().count(), (*last).min(MAX_KEPT));
                if len < MIN_KEPT_OF || rule == rules::UNFINISHED || last == 0 {
                    return format!("[{name}]").into_bytes();
                }
                let tail = secret.chars().skip(len - last).map(|c| if c.is_ascii_alphanumeric() { c } else { '.' });
                format!("[{name} *{}]", tail.collect::<String>()).into_bytes()
            }
            Action::Mask => format!("[{name}]").into_bytes(),
        }
    }

    /// Whether the whole text is what this engine puts in the place of secrets.
    pub(super) fn is_mask(&self, text: &[u8]) -> bool {
        self.mask_len(text) == Some(text.len())
    }

    /// Whether a value that begins here is a mask and nothing more.
    pub(super) fn begins_with_mask(&self, text: &[u8]) -> bool {
        let Some(len) = self.mask_len(text) else { return false };
        text.get(len).is_none_or(|b| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`\\<>;&,)]}") }.has(b))
    }

    /// Whether the word at `at` is the name within a mask.
    pub(super) fn is_in_mask(&self, text: &[u8], at: usize) -> bool {
        let back = text[..at].iter().rev().take(report::MAX_RULE_NAME).take_while(|b| is_rule_byte(**b)).count();
        let start = at - back;
        start > 0 && self.mask_len(&text[start - 1..]).is_some()
    }

    fn mask_len(&self, text: &[u8]) -> Option<usize> {
        let inside = text.strip_prefix(b"[")?;
        let word = inside.iter().take(report::MAX_RULE_NAME).take_while(|b| is_rule_byte(**b)).count();
        let name = std::str::from_utf8(&inside[..word]).ok()?;
        if !self.names.iter().any(|known| known == name) {
            return None;
        }
        let rest = &inside[word..];
        let more = match rest {
            [b':', ..] => 1 + rest[1..].iter().take(HASH).take_while(|b| b.is_ascii_hexdigit()).count(),
            [b' ', b'*', ..] => 2 + rest[2..].iter().take(MAX_KEPT).take_while(|b| is_kept(**b)).count(),
            _ => 0,
        };
        (rest.get(more) == Some(&b']')).then_some(word + more + 2)
    }
}

/// Hexadecimal digits that are shown of a keyed hash.
const HASH: usize = 8;
/// The most characters that are left of a secret, and the shortest secret of which any are left.
const MAX_KEPT: usize = 4;
const MIN_KEPT_OF: usize = 12;

fn is_rule_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte)
}

fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.'
}
