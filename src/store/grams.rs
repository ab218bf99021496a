//! What a chunk of events contains, as a set of hashes: substrings of three and four characters, and values of fields.
//!
//! A set never misses what is there; it may name what is not. Texts are decoded and folded: each code point to its
//! lower case, so that a search in any case and any script finds its chunks.

use crate::event::{Kind, Raw};

/// Hashes are smaller than `1 << HASH_BITS`: a bitmap of them fits the cache.
pub const HASH_BITS: u32 = 22;

/// Values longer than this have no hash as the value of a field; their substrings have.
const MAX_TERM_BYTES: usize = 128;
/// Strings up to this length are remembered within a chunk, so that a repeated one costs one look.
const MAX_REMEMBERED: usize = 64;
/// How many strings are remembered; the newest takes the place of an older one.
const REMEMBERED: usize = 2048;

/// Salts that keep the kinds of hashes apart.
const GRAM3: u64 = 0x9E37_79B9_7F4A_7C15;
const GRAM4: u64 = 0xC2B2_AE3D_27D4_EB4F;
const TERM: u64 = 0x1656_67B1_9E37_79F9;
const PRESENT: u64 = 0xD6E8_FEB8_6659_FD93;

/// Collects the hashes of one chunk at a time.
pub struct GramSet {
    seen: Vec<u64>,
    found: Vec<u32>,
    folded: Vec<u32>,
    remembered: Vec<(u64, u64)>,
}

impl Default for GramSet {
    fn default() -> GramSet {
        GramSet {
            seen: vec![0; 1 << (HASH_BITS - 6)],
            found: Vec::new(),
            folded: Vec::new(),
            remembered: vec![(0, 0); REMEMBERED],
        }
    }
}

impl GramSet {
    fn insert(&mut self, hash: u32) {
        let (word, bit) = (hash as usize / 64, 1u64 << (hash % 64));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.found.push(hash);
        }
    }

    /// Notes everything that a search may ask of an event's members.
    pub fn add_event(&mut self, line: &[u8]) {
        for (name, value) in Raw::valid(line).members() {
            let name = decoded_name(name);
            if !value.is_null() {
                self.insert(present(&name));
            }
            self.add_member(&name, value);
        }
    }

    fn add_member(&mut self, name: &[u8], value: Raw<'_>) {
        match value.kind() {
            Kind::String => {
                let inside = value.inside().expect("a string has an inside");
                if inside.len() <= MAX_REMEMBERED && self.is_remembered(name, inside) {
                    return;
                }
                self.fold(inside);
                if inside.len() <= MAX_TERM_BYTES {
                    let hash = term_of_folded(name, &self.folded);
                    self.insert(hash);
                }
                if !is_unsearched(name) {
                    self.add_folded();
                }
            }
            Kind::Bool => self.insert(term(name, value.text())),
            Kind::Number => {
                if let Some(number) = value.as_f64().filter(|_| is_counted(name)) {
                    self.insert(number_term(name, number));
                }
            }
            Kind::Array => {
                for element in value.elements() {
                    self.add_member(name, element);
                }
            }
            Kind::Object => {
                for (_, member) in value.members() {
                    self.add_nested(member);
                }
            }
            Kind::Null => {}
        }
    }

    /// Strings within an object are found as text only.
    fn add_nested(&mut self, value: Raw<'_>) {
        match value.kind() {
            Kind::String => {
                let inside = value.inside().expect("a string has an inside");
                if inside.len() <= MAX_REMEMBERED && self.is_remembered(b"", inside) {
                    return;
                }
                self.fold(inside);
                self.add_folded();
            }
            Kind::Array => value.elements().for_each(|element| self.add_nested(element)),
            Kind::Object => value.members().for_each(|(_, member)| self.add_nested(member)),
            Kind::Null | Kind::Bool | Kind::Number => {}
        }
    }

    fn is_remembered(&mut self, name: &[u8], inside: &[u8]) -> bool {
        let first = hash_bytes(hash_bytes(GRAM3, name), inside);
        let second = hash_bytes(hash_bytes(GRAM4, inside), name);
        let slot = &mut self.remembered[first as usize % REMEMBERED];
        if *slot == (first, second) {
            return true;
        }
        *slot = (first, second);
        false
    }

    fn fold(&mut self, inside: &[u8]) {
        self.folded.clear();
        fold_json(inside, &mut self.folded);
    }

    fn add_folded(&mut self) {
        let folded = std::mem::take(&mut self.folded);
        for window in folded.windows(3) {
            self.insert(gram3(window));
        }
        for window in folded.windows(4) {
            self.insert(gram4(window));
        }
        self.folded = folded;
    }

    /// The hashes, ascending; the set is empty afterwards.
    pub fn take(&mut self) -> Vec<u32> {
        let mut found = std::mem::take(&mut self.found);
        for hash in &found {
            self.seen[*hash as usize / 64] = 0;
        }
        self.remembered.fill((0, 0));
        found.sort_unstable();
        found.shrink_to_fit();
        found
    }
}

/// Names whose strings are found by their whole value only: each event has another, and nobody knows a part of it.
pub fn is_unsearched(name: &[u8]) -> bool {
    matches!(name, b"id" | b"timestamp" | b"received_at")
}

/// Names whose numbers are looked for one by one.
pub fn is_counted(name: &[u8]) -> bool {
    matches!(name, b"status_code" | b"cell_number")
}

/// What each chunk that contains this text must have; empty where the text is too short to tell.
pub fn grams_of(text: &str) -> Vec<u32> {
    let mut folded = Vec::with_capacity(text.len());
    text.chars().for_each(|c| push_folded(c, &mut folded));
    let mut grams: Vec<u32> = match folded.len() {
        0..=2 => Vec::new(),
        3 => vec![gram3(&folded)],
        _ => folded.windows(4).map(gram4).collect(),
    };
    grams.sort_unstable();
    grams.dedup();
    grams
}

/// What each chunk has where a member has this text as its value.
pub fn term(name: &[u8], text: &str) -> u32 {
    let mut folded = Vec::with_capacity(text.len());
    text.chars().for_each(|c| push_folded(c, &mut folded));
    term_of_folded(name, &folded)
}

/// The same for a number; 0.0 and -0.0 are one.
pub fn number_term(name: &[u8], number: f64) -> u32 {
    let number = if number == 0.0 { 0.0 } else { number };
    small(hash_bytes(hash_bytes(TERM ^ 1, name), &number.to_bits().to_le_bytes()))
}

/// What each chunk has where some event has this member and it is not null.
pub fn present(name: &[u8]) -> u32 {
    small(hash_bytes(PRESENT, name))
}

/// Whether a value of this length may have a hash of its own.
pub fn has_term(text: &str) -> bool {
    // The value in the event may be escaped, which takes up to six bytes for one.
    text.chars().map(|c| if c.is_ascii_graphic() && c != '\\' && c != '"' { 1 } else { 6 }).sum::<usize>()
        <= MAX_TERM_BYTES
}

fn term_of_folded(name: &[u8], folded: &[u32]) -> u32 {
    let mut hash = hash_bytes(TERM, name);
    for c in folded {
        hash = (hash ^ u64::from(*c)).wrapping_mul(GRAM3).rotate_left(29);
    }
    small(hash)
}

fn gram3(c: &[u32]) -> u32 {
    let packed = u64::from(c[0]) | u64::from(c[1]) << 21 | u64::from(c[2]) << 42;
    small(packed.wrapping_mul(GRAM3))
}

fn gram4(c: &[u32]) -> u32 {
    let packed = u64::from(c[0]) | u64::from(c[1]) << 21 | u64::from(c[2]) << 42;
    small((packed ^ u64::from(c[3]).wrapping_mul(GRAM3)).wrapping_mul(GRAM4))
}

fn small(hash: u64) -> u32 {
    ((hash ^ hash >> 29).wrapping_mul(GRAM3) >> (64 - HASH_BITS)) as u32
}

fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(GRAM4).rotate_left(31);
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(GRAM3).rotate_left(27);
    }
    hash ^ hash >> 32
}

fn decoded_name(name: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    match memchr::memchr(b'\\', name) {
        None => name.into(),
        Some(_) => crate::event::escape::unescape(name).into_owned().into_bytes().into(),
    }
}

/// The folded code points of what stands between the quotes of a JSON string.
fn fold_json(inside: &[u8], out: &mut Vec<u32>) {
    let mut at = 0;
    while let Some(byte) = inside.get(at) {
        match byte {
            b'\\' => at += fold_escape(&inside[at..], out),
            0..0x80 => {
                out.push(u32::from(byte.to_ascii_lowercase()));
                at += 1;
            }
            _ => {
                let run = inside[at..].iter().position(|b| *b < 0x80).unwrap_or(inside.len() - at);
                let text = std::str::from_utf8(&inside[at..at + run]).unwrap_or("");
                text.chars().for_each(|c| push_folded(c, out));
                at += run;
            }
        }
    }
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
            crate::event::escape::unescape(&text[..len]).chars().for_each(|c| push_folded(c, out));
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
fn push_folded(c: char, out: &mut Vec<u32>) {
    match c {
        '\u{130}' => out.extend([u32::from('i'), 0x307]),
        'ς' => out.push(u32::from('σ')),
        _ if c.is_ascii() => out.push(u32::from(c.to_ascii_lowercase())),
        _ => out.extend(c.to_lowercase().map(u32::from)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set_of(lines: &[&str]) -> Vec<u32> {
        let mut set = GramSet::default();
        lines.iter().for_each(|line| set.add_event(line.as_bytes()));
        set.take()
    }

    fn has(set: &[u32], grams: &[u32]) -> bool {
        grams.iter().all(|gram| set.binary_search(gram).is_ok())
    }

    #[test]
    fn a_text_is_found_in_any_case_and_script_however_it_is_escaped() {
        let set = set_of(&[r#"{"code":"Print(\"Привет\u0020МИР\")\nسلام \ud83d\ude00 ok","user_id":"Ali"}"#]);
        for text in ["print(\"привет мир\")", "سلام", "мир\")\nسلا", "😀 ok", "PRINT", "ali"] {
            assert!(has(&set, &grams_of(text)), "{text}");
        }
        for text in ["priwet", "sara", "سلامت"] {
            assert!(!has(&set, &grams_of(text)), "{text}");
        }
    }

    #[test]
    fn values_of_fields_are_found_whole() {
        let set = set_of(&[r#"{"user_id":"Ali","tags":["A","b"],"status_code":200,"is_admin":true,"gone":null}"#]);
        assert!(has(&set, &[term(b"user_id", "aLI"), term(b"tags", "a"), term(b"is_admin", "true"), present(b"tags")]));
        assert!(has(&set, &[number_term(b"status_code", 200.0)]));
        assert!(!has(&set, &[term(b"user_id", "al")]) && !has(&set, &[present(b"gone")]));
    }

    #[test]
    fn a_set_that_was_taken_begins_empty() {
        let mut set = GramSet::default();
        set.add_event(br#"{"code":"first text"}"#);
        set.take();
        set.add_event(br#"{"code":"other"}"#);
        let second = set.take();
        assert!(!has(&second, &grams_of("first")) && has(&second, &grams_of("other")));
    }

    proptest! {
        #[test]
        fn every_part_of_a_text_is_found(text in "\\PC{3,60}", from in 0usize..60, len in 3usize..20) {
            let line = serde_json::json!({ "code": text }).to_string();
            let set = set_of(&[&line]);
            let part: String = text.chars().skip(from).take(len).collect();
            for needle in [part.to_lowercase(), part.clone()] {
                prop_assert!(has(&set, &grams_of(&needle)), "{:?} of {:?}", needle, text);
            }
        }
    }
}
