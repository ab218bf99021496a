//! Replacement texts for secrets, and how they are recognised later.

use super::byte_set::ByteSet;
use super::reader::Work;
use super::search::Span;
use super::{Action, Engine, report, rules};

impl Engine {
    /// Puts masks into the places of the spans, and leaves word of them for the next round.
    pub(super) fn replace(&self, text: &[u8], spans: &[Span], work: &mut Work) -> Vec<u8> {
        let (mut out, mut from) = (work.take_buffer(), 0);
        out.reserve(text.len() + MASKS);
        let (mut named, mut next) = (std::mem::take(&mut work.named), 0);
        for span in spans {
            // What stands between two secrets moves with them. A name is settled if what is masked is its value, and not
            // something longer that has the value in it.
            while let Some((place, end)) = named.get(next).filter(|(place, _)| *place < span.end) {
                if *place < span.start && *end == span.end {
                    work.masked.settled.push(place - from + out.len());
                }
                next += 1;
            }
            out.extend_from_slice(&text[from..span.start]);
            let start = out.len();
            self.push_instead(span.rule, &text[span.start..span.end], &mut out);
            work.masked.masks.push(start..out.len());
            from = span.end;
        }
        out.extend_from_slice(&text[from..]);
        named.clear();
        work.named = named;
        out
    }

    /// Appends what stands in the place of a secret.
    pub(super) fn push_instead(&self, rule: u16, secret: &[u8], out: &mut Vec<u8>) {
        let action = self.action(rule);
        if *action == Action::Remove {
            return;
        }
        if *action == Action::Mask {
            return out.extend_from_slice(&self.masks[usize::from(rule)]);
        }
        out.push(b'[');
        out.extend_from_slice(self.names[usize::from(rule)].as_bytes());
        match action {
            Action::Hash(key) => {
                out.push(b':');
                out.extend_from_slice(&blake3::keyed_hash(key, secret).to_hex().as_bytes()[..HASH]);
            }
            Action::KeepLast(last) => {
                let secret = String::from_utf8_lossy(secret);
                let (len, last) = (secret.chars().count(), (*last).min(MAX_KEPT));
                if len >= MIN_KEPT_OF && rule != rules::UNFINISHED && last > 0 {
                    let tail = secret.chars().skip(len - last);
                    out.extend_from_slice(b" *");
                    out.extend(tail.map(|c| if c.is_ascii_alphanumeric() { c as u8 } else { b'.' }));
                }
            }
            Action::Mask | Action::Remove => {}
        }
        out.push(b']');
    }

    /// Whether the whole text is what this engine puts in the place of secrets.
    pub(super) fn is_mask(&self, text: &[u8]) -> bool {
        self.mask_len(text) == Some(text.len())
    }

    /// Whether a value is masked already, but for a few letters and signs around its masks.
    pub(super) fn is_masked(&self, value: &[u8]) -> bool {
        let Some(mut at) = memchr::memchr(b'[', value) else { return false };
        let (mut masks, mut left) = (0, of_words(&value[..at]));
        while at < value.len() && left < MAX_AROUND_MASK {
            match self.mask_len(&value[at..]) {
                Some(len) => (masks, at) = (masks + 1, at + len),
                None => at += 1,
            }
            let next = memchr::memchr(b'[', &value[at..]).map_or(value.len(), |len| at + len);
            left += of_words(&value[at..next]);
            at = next;
        }
        masks > 0 && left < MAX_AROUND_MASK
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

/// Letters and digits beside masks that may be a secret of their own.
const MAX_AROUND_MASK: usize = 4;

fn of_words(text: &[u8]) -> usize {
    text.iter().take(MAX_AROUND_MASK).filter(|b| b.is_ascii_alphanumeric() || **b >= 0x80).count()
}

/// What a text may grow by where its secrets are masked, before it has to move.
const MASKS: usize = 64;
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
