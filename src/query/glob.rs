//! Wildcard patterns, matched without regard to case.

use std::borrow::Cow;

use super::ast::Pattern;
use crate::event::escape::unescape;

#[derive(Debug)]
pub struct Glob {
    parts: Vec<String>,
    ascii: bool,
    /// Stands in the JSON of every string that contains the parts, unless it has `\u` escapes: the longest run of
    /// characters that are spelled in one way only there, as they are spelled, and that no other character becomes when it
    /// is lowered.
    probe: String,
}

impl Glob {
    pub fn new(pattern: &Pattern) -> Glob {
        let parts: Vec<String> = pattern.0.iter().map(|part| part.to_lowercase()).collect();
        let ascii = parts.iter().all(|part| part.is_ascii());
        let is_steady = |c: char| match c {
            // A slash may be escaped, and need not be.
            '/' => false,
            _ if c.is_ascii() => {
                short_escape(c).is_some() || !c.is_ascii_control() && (ascii || !c.is_ascii_alphabetic())
            }
            _ => c.is_alphanumeric() && c.to_uppercase().eq([c]) && c.to_lowercase().eq([c]),
        };
        let runs = parts.iter().flat_map(|part| part.split(|c| !is_steady(c))).map(spelled);
        let probe = runs.max_by_key(String::len).unwrap_or_default();
        Glob { ascii, parts, probe }
    }

    /// The text in the case of the parts; where those are ASCII the search itself looks past case.
    fn folded<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.ascii { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
    }

    /// Whether the whole text is this.
    pub fn is(&self, text: &str) -> bool {
        let text = self.folded(text);
        let mut rest = text.as_bytes();
        let (first, others) = self.parts.split_first().expect("a pattern has a part");
        let Some((last, middle)) = others.split_last() else {
            return rest.eq_ignore_ascii_case(first.as_bytes());
        };
        let (Some(head), true) = (rest.get(..first.len()), rest.len() >= first.len() + last.len()) else {
            return false;
        };
        let tail = &rest[rest.len() - last.len()..];
        if !head.eq_ignore_ascii_case(first.as_bytes()) || !tail.eq_ignore_ascii_case(last.as_bytes()) {
            return false;
        }
        rest = &rest[first.len()..rest.len() - last.len()];
        in_order(rest, middle)
    }

    /// Whether a JSON value is a string without escapes that is surely another; where not, it may be this.
    pub fn is_other(&self, json: &[u8]) -> bool {
        let [only] = &self.parts[..] else { return false };
        let Some(inside) = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else { return false };
        self.ascii && !inside.eq_ignore_ascii_case(only.as_bytes()) && memchr::memchr(b'\\', inside).is_none()
    }

    /// Whether this occurs in the text.
    pub fn is_in(&self, text: &str) -> bool {
        in_order(self.folded(text).as_bytes(), &self.parts)
    }

    /// The same for the inside of a JSON string, which is decoded only where it may be so.
    pub fn is_in_json(&self, inside: &[u8]) -> bool {
        self.may_be_within(inside) && self.is_in(&unescape(inside))
    }

    /// Whether a JSON string within these bytes may contain this: false where it certainly does not.
    pub fn may_be_within(&self, json: &[u8]) -> bool {
        find(json, self.probe.as_bytes()).is_some() || memchr::memmem::find(json, b"\\u").is_some()
    }

    /// What stands in every string without escapes that contains this.
    pub fn probe(&self) -> &str {
        &self.probe
    }

    /// Where within these bytes a JSON value may have this: nothing where any may.
    pub fn places_within(&self, json: &[u8]) -> Option<Vec<usize>> {
        let mut places = Vec::new();
        let is_told = self.each_place_within(json, |at| {
            places.push(at);
            at + 1
        });
        is_told.then_some(places)
    }

    /// Tells each such place; `next` says from where on another one counts. False where any value may have this.
    pub fn each_place_within(&self, json: &[u8], mut next: impl FnMut(usize) -> usize) -> bool {
        if self.probe.is_empty() || memchr::memmem::find(json, b"\\u").is_some() {
            return false;
        }
        let mut from = 0;
        while let Some(at) = json.get(from..).and_then(|rest| find(rest, self.probe.as_bytes())) {
            from = next(from + at).max(from + at + 1);
        }
        true
    }

    /// Whether a whole ASCII text of so many bytes can be this.
    pub fn may_have_len(&self, len: usize) -> bool {
        let least: usize = self.parts.iter().map(String::len).sum();
        if self.parts.len() == 1 { least == len } else { least <= len }
    }

    /// Whether a text in which all bytes are of this kind could contain the parts.
    pub fn may_be_in(&self, is_of_kind: impl Fn(u8) -> bool) -> bool {
        self.parts.iter().all(|part| part.bytes().all(&is_of_kind))
    }
}

/// What stands behind the backslash of a character that JSON escapes, if it has an escape of two characters.
fn short_escape(c: char) -> Option<char> {
    Some(match c {
        '"' | '\\' => c,
        '\n' => 'n',
        '\t' => 't',
        '\r' => 'r',
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        _ => return None,
    })
}

/// A text as JSON spells it.
fn spelled(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    for c in text.chars() {
        if let Some(escape) = short_escape(c) {
            spelled.push('\\');
            spelled.push(escape);
        } else {
            spelled.push(c);
        }
    }
    spelled
}

/// Whether the parts occur in the text in this order.
fn in_order(mut rest: &[u8], parts: &[String]) -> bool {
    for part in parts {
        match find(rest, part.as_bytes()) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// How common a byte is in texts and code, roughly.
fn commonness(byte: u8) -> u8 {
    match byte {
        b'e' | b't' | b'a' | b' ' => 9,
        b'o' | b'i' | b'n' | b's' | b'r' => 8,
        b'l' | b'd' | b'c' | b'p' | b'm' | b'u' | b'h' | b'f' => 7,
        b'g' | b'y' | b'b' | b'=' | b'.' | b'(' | b')' | b'_' | b',' | b'"' | b'0' | b'1' => 6,
        b'v' | b'w' | b'k' | b'x' | b'2'..=b'5' => 5,
        b'6'..=b'9' | b'-' | b':' | b'/' => 4,
        b'j' | b'q' | b'z' => 2,
        _ => 3,
    }
}

/// Where `needle`, in lower case, begins in `text` for the first time, ASCII letters in any case.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let Some((place, rarest)) = needle.iter().copied().enumerate().min_by_key(|(_, byte)| commonness(*byte)) else {
        return Some(0);
    };
    let last = text.len().checked_sub(needle.len())?;
    if commonness(rarest) >= COMMON && text.len() >= LONG {
        return find_pair(text, needle, place);
    }
    let mut at = 0;
    while at <= last {
        at += memchr::memchr2(rarest, rarest.to_ascii_uppercase(), &text[at + place..=last + place])?;
        if text[at..at + needle.len()].eq_ignore_ascii_case(needle) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// A byte that stands so often in texts that looking at each place of it costs more than looking for two at once.
const COMMON: u8 = 5;
/// Shorter texts are not worth it.
const LONG: usize = 256;
/// Places that are compared together.
const TOGETHER: usize = 64;

/// The same by two bytes of the needle, of which one is at `place`.
fn find_pair(text: &[u8], needle: &[u8], place: usize) -> Option<usize> {
    let others = needle.iter().enumerate().filter(|(nth, _)| *nth != place);
    let other = others.min_by_key(|(_, byte)| commonness(**byte)).map_or(place, |(nth, _)| nth);
    let places = text.len() + 1 - needle.len();
    // One bit tells the cases of a letter apart.
    let byte = |at: usize| (needle[at], if needle[at].is_ascii_lowercase() { 0x20 } else { 0 });
    let ((first, first_case), (second, second_case)) = (byte(place), byte(other));
    let is_pair = |one: u8, two: u8| (one | first_case == first) & (two | second_case == second);
    let (ones, twos) = (&text[place..place + places], &text[other..other + places]);
    let is_at =
        |at: &usize| is_pair(ones[*at], twos[*at]) && text[*at..*at + needle.len()].eq_ignore_ascii_case(needle);
    let (blocks, rest) = ones.as_chunks::<TOGETHER>();
    for (nth, (one, two)) in blocks.iter().zip(twos.as_chunks::<TOGETHER>().0).enumerate() {
        let pairs = one.iter().zip(two).fold(0, |found, (one, two)| found | u8::from(is_pair(*one, *two)));
        if pairs != 0
            && let Some(at) = (nth * TOGETHER..(nth + 1) * TOGETHER).find(is_at)
        {
            return Some(at);
        }
    }
    (places - rest.len()..places).find(is_at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_json_says_is_what_its_text_says(
            text in "[a-cKkİiſsΣςσ結果 \n\t\"\\\\/\u{307}\u{8}\u{1}é]{0,40}", needle in "[a-cki sσ結果\n\t\"\\\\/\u{307}\u{8}\u{1}é]{1,4}", escaped: bool,
        ) {
            let json = serde_json::to_string(&text).expect("text");
            let mut inside = json[1..json.len() - 1].to_owned();
            if escaped {
                inside = inside.chars().map(|c| match c {
                    'a' | 'K' | '結' | 'é' => format!("\\u{:04x}", c as u32),
                    '/' => "\\/".to_owned(),
                    c => c.to_string(),
                }).collect();
            }
            let glob = Glob::new(&Pattern::text(&needle));
            prop_assert_eq!(glob.is_in_json(inside.as_bytes()), glob.is_in(&text), "{} in {}", needle, inside);
            prop_assert!(!glob.is_other(json.as_bytes()) || !glob.is(&text));
            let among_others = format!("\"a\"\"{inside}\"{{\"b\":\"\"}}");
            prop_assert!(glob.may_be_within(among_others.as_bytes()) || !glob.is_in(&text));
            let (from, places) = (among_others.find(&inside).unwrap_or(0), glob.places_within(among_others.as_bytes()));
            let is_within = |at: &usize| (from..=from + inside.len()).contains(at);
            prop_assert!(places.is_none_or(|places| places.iter().any(is_within)) || !glob.is_in(&text));
        }

        #[test]
        fn the_first_place_is_found(text in "[aAbBqQ0 ]{0,60}([ab]{150,300}[aAbB0 ]{0,9}Q?[b0]{0,80})?", needle in "[abq0 ]{0,4}") {
            prop_assert_eq!(find(text.as_bytes(), needle.as_bytes()), text.to_lowercase().find(&needle));
            for (nth, _) in needle.bytes().enumerate().filter(|_| text.len() >= needle.len()) {
                prop_assert_eq!(find_pair(text.as_bytes(), needle.as_bytes(), nth), text.to_lowercase().find(&needle));
            }
        }
    }
}
