//! The set of hashes of a chunk: substrings of three and four characters, and field values.
//!
//! A set never misses what is there; it may name what is not. Texts are decoded and folded: each code point to its
//! lower case, so that a search in any case and any script finds its chunks. Substrings of random identifiers (UUIDs,
//! hashes) are apart: they are as many as all others together, so a part keeps them for larger units than a chunk.

use super::hashing::Seeded;
use crate::event::{Kind, Raw};

/// Hashes are smaller than `1 << HASH_BITS`: a bitmap of them fits the cache.
pub const HASH_BITS: u32 = 22;

/// Values longer than this have no hash as the value of a field; their substrings have.
const MAX_TERM_BYTES: usize = 128;
/// Strings up to this length are remembered within a chunk, so that a repeated one costs one look.
const MAX_REMEMBERED: usize = 64;
/// How many strings are remembered; the newest takes the place of an older one.
const REMEMBERED: usize = 4096;
/// The end of a text up to this length is not looked at line by line.
const LONG_TEXT: usize = 48;
/// Shorter strings are no random identifiers.
const MIN_RANDOM: usize = 16;
/// Shorter lines are not remembered.
const MIN_LINE: usize = 12;

/// Salts that keep the kinds of hashes apart.
const GRAM3: u64 = 0x9E37_79B9_7F4A_7C15;
const GRAM4: u64 = 0xC2B2_AE3D_27D4_EB4F;
const TERM: u64 = 0x1656_67B1_9E37_79F9;
const PRESENT: u64 = 0xD6E8_FEB8_6659_FD93;

/// What a chunk has.
#[derive(Clone, Debug, Default)]
pub struct Hashes {
    pub exact: HashList,
    /// Substrings of random identifiers.
    pub loose: HashList,
}

impl Hashes {
    pub fn is_empty(&self) -> bool {
        self.exact.len() == 0 && self.loose.len() == 0
    }

    pub fn contains(&self, hash: u32) -> bool {
        self.exact.contains(hash) || self.loose.contains(hash)
    }

    pub fn weight(&self) -> usize {
        self.exact.weight() + self.loose.weight()
    }
}

/// Ascending hashes, two bytes for each: those with the same upper bits stand together.
#[derive(Clone, Debug, Default)]
pub struct HashList {
    low: Vec<u16>,
    /// For each value of the upper bits, where its hashes end.
    ends: Vec<u32>,
}

impl HashList {
    pub fn len(&self) -> usize {
        self.low.len()
    }

    pub fn contains(&self, hash: u32) -> bool {
        let upper = (hash >> 16) as usize;
        let start = if upper == 0 { 0 } else { self.ends.get(upper - 1).map_or(0, |end| *end as usize) };
        let Some(end) = self.ends.get(upper) else { return false };
        self.low[start..*end as usize].binary_search(&(hash as u16)).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let starts = std::iter::once(&0).chain(&self.ends);
        let stretches = starts.zip(&self.ends).enumerate();
        stretches.flat_map(|(upper, (start, end))| {
            self.low[*start as usize..*end as usize].iter().map(move |low| (upper as u32) << 16 | u32::from(*low))
        })
    }

    pub fn weight(&self) -> usize {
        self.low.len() * 2 + self.ends.len() * 4
    }
}

/// A set of hashes: one bit for each.
pub struct HashBits(Vec<u64>);

impl Default for HashBits {
    fn default() -> HashBits {
        HashBits(vec![0; 1 << (HASH_BITS - 6)])
    }
}

impl HashBits {
    pub fn insert(&mut self, hash: u32) {
        self.0[hash as usize / 64] |= 1u64 << (hash % 64);
    }

    /// The hashes; the set is empty afterwards. There are about as many as `expected`.
    pub fn take(&mut self, expected: usize) -> HashList {
        let (mut low, mut ends) = (Vec::with_capacity(expected), Vec::with_capacity(1 << (HASH_BITS - 16)));
        for words in self.0.as_chunks_mut::<{ (1 << 16) / 64 }>().0 {
            for (nth, word) in words.iter_mut().enumerate().filter(|(_, word)| **word != 0) {
                while *word != 0 {
                    low.push((nth as u32 * 64 + word.trailing_zeros()) as u16);
                    *word &= *word - 1;
                }
            }
            ends.push(low.len() as u32);
        }
        HashList { low, ends }
    }

    /// Notes the substrings of three and four characters that begin in `from..to`.
    fn add_windows(&mut self, text: &[u32], from: usize, to: usize) {
        let to = to.min(text.len().saturating_sub(2));
        if from >= to {
            return;
        }
        let mut packed = u64::from(text[from]) << 21 | u64::from(text[from + 1]) << 42;
        let fours = to.min(text.len().saturating_sub(3)).max(from);
        for window in text[from..fours + 3].windows(4) {
            packed = packed >> 21 | u64::from(window[2]) << 42;
            self.insert(gram3_of(packed));
            self.insert(gram4_of(packed, window[3]));
        }
        if fours < to {
            self.insert(gram3(&text[fours..]));
        }
    }
}

/// Collects the hashes of one chunk at a time.
pub struct GramSet {
    exact: HashBits,
    loose: HashBits,
    has_loose: bool,
    /// How many the chunk before had.
    before: (usize, usize),
    folded: Vec<u32>,
    remembered: Vec<(u64, u64)>,
    /// Begins the hashes of what is remembered, so that nobody can choose texts that hide others.
    salts: [u64; 2],
}

impl Default for GramSet {
    fn default() -> GramSet {
        GramSet {
            exact: HashBits::default(),
            loose: HashBits::default(),
            has_loose: false,
            before: (0, 0),
            folded: Vec::new(),
            remembered: vec![(0, 0); REMEMBERED],
            salts: [Seeded::default().hash_bytes(b""), Seeded::default().hash_bytes(b"")],
        }
    }
}

impl GramSet {
    fn insert(&mut self, hash: u32) {
        self.exact.insert(hash);
    }

    /// Notes everything that a search may ask of an event's members.
    pub fn add_event(&mut self, members: &[(&[u8], Raw<'_>)]) {
        for (name, value) in members {
            let name = decoded_name(name);
            if !value.is_null() {
                self.insert(present(&name));
            }
            self.add_member(&name, *value);
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
                if is_random(inside) {
                    self.add_loose();
                } else if !is_unsearched(name) {
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
                if is_random(inside) {
                    self.add_loose();
                } else {
                    self.add_folded();
                }
            }
            Kind::Array => value.elements().for_each(|element| self.add_nested(element)),
            Kind::Object => value.members().for_each(|(_, member)| self.add_nested(member)),
            Kind::Null | Kind::Bool | Kind::Number => {}
        }
    }

    fn is_remembered(&mut self, name: &[u8], inside: &[u8]) -> bool {
        let first = hash_bytes(hash_bytes(self.salts[0], name), inside);
        let second = hash_bytes(hash_bytes(self.salts[1], inside), name);
        self.is_known(first, second)
    }

    fn is_known(&mut self, first: u64, second: u64) -> bool {
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

    /// Notes the substrings of the folded text. Lines that the chunk already has cost one look each.
    fn add_folded(&mut self) {
        let folded = std::mem::take(&mut self.folded);
        let mut start = 0;
        while folded.len() - start > LONG_TEXT {
            let line = &folded[start..];
            let len = line.iter().position(|c| *c == u32::from(b'\n')).map_or(line.len(), |at| at + 1);
            if len >= MIN_LINE && self.is_known_line(&line[..len]) {
                // Only what reaches into the next line is new.
                self.exact.add_windows(line, len.saturating_sub(3), len);
            } else {
                self.exact.add_windows(line, 0, len);
            }
            start += len;
        }
        self.exact.add_windows(&folded[start..], 0, folded.len() - start);
        self.folded = folded;
    }

    /// Notes the substrings of a random identifier.
    fn add_loose(&mut self) {
        self.has_loose = true;
        self.loose.add_windows(&self.folded, 0, self.folded.len());
    }

    fn is_known_line(&mut self, line: &[u32]) -> bool {
        let (pairs, rest) = line.as_chunks::<2>();
        let (mut first, mut second) = (self.salts[0] ^ line.len() as u64, self.salts[1]);
        for [a, b] in pairs {
            let word = u64::from(*a) | u64::from(*b) << 32;
            first = (first ^ word).wrapping_mul(GRAM3).rotate_left(29);
            second = (second ^ word).wrapping_mul(GRAM4).rotate_left(33);
        }
        for c in rest {
            first = (first ^ u64::from(*c)).wrapping_mul(GRAM3);
            second = (second ^ u64::from(*c)).wrapping_mul(GRAM4);
        }
        self.is_known(first ^ first >> 32, second)
    }

    /// The hashes; the set is empty afterwards.
    pub fn take(&mut self) -> Hashes {
        let exact = self.exact.take(self.before.0);
        let loose = if self.has_loose { self.loose.take(self.before.1) } else { HashList::default() };
        (self.before, self.has_loose) = ((exact.len(), loose.len()), false);
        self.remembered.fill((0, 0));
        Hashes { exact, loose }
    }
}

/// Whether a string is a random identifier: a UUID, a hash, a trace id.
fn is_random(inside: &[u8]) -> bool {
    inside.len() >= MIN_RANDOM && inside.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
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

fn packed(c: &[u32]) -> u64 {
    u64::from(c[0]) | u64::from(c[1]) << 21 | u64::from(c[2]) << 42
}

fn gram3(c: &[u32]) -> u32 {
    gram3_of(packed(c))
}

fn gram4(c: &[u32]) -> u32 {
    gram4_of(packed(c), c[3])
}

fn gram3_of(packed: u64) -> u32 {
    small(packed.wrapping_mul(GRAM3))
}

fn gram4_of(packed: u64, last: u32) -> u32 {
    small((packed ^ u64::from(last).wrapping_mul(GRAM3)).wrapping_mul(GRAM4))
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
                let run = inside[at..].iter().position(|b| *b >= 0x80 || *b == b'\\').unwrap_or(inside.len() - at);
                out.extend(inside[at..at + run].iter().map(|b| u32::from(b.to_ascii_lowercase())));
                at += run;
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

    fn set_of(lines: &[&str]) -> Hashes {
        let mut set = GramSet::default();
        lines.iter().for_each(|line| set.add_event(&Raw::valid(line.as_bytes()).members().collect::<Vec<_>>()));
        set.take()
    }

    fn has(set: &Hashes, grams: &[u32]) -> bool {
        grams.iter().all(|gram| set.contains(*gram))
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
    fn parts_of_random_identifiers_are_found_and_kept_apart() {
        let set = set_of(&[
            r#"{"session_id":"DE823285-01e7-40a0-af18-2049b329b6a4","metadata":{"trace":"4bf92f3577b34da6a3ce929d0e0e4736"}}"#,
        ]);
        for text in ["de82", "01E7-40a0", "329b6a4", "-af1", "92f3577b"] {
            assert!(has(&set, &grams_of(text)), "{text}");
        }
        assert!(set.loose.len() > 60 && set.exact.len() < 10);
        let loose: Vec<u32> = set.loose.iter().collect();
        assert!(loose.is_sorted() && loose.iter().all(|hash| set.loose.contains(*hash)));
        assert_eq!(
            (loose.len(), (0..1 << HASH_BITS).filter(|hash| set.loose.contains(*hash)).count()),
            (set.loose.len(), set.loose.len())
        );
    }

    #[test]
    fn a_set_that_was_taken_begins_empty() {
        let mut set = GramSet::default();
        set.add_event(&Raw::valid(br#"{"code":"first text"}"#).members().collect::<Vec<_>>());
        set.take();
        set.add_event(&Raw::valid(br#"{"code":"other"}"#).members().collect::<Vec<_>>());
        let second = set.take();
        assert!(!has(&second, &grams_of("first")) && has(&second, &grams_of("other")));
    }

    #[test]
    fn lines_that_a_chunk_has_already_hide_nothing_of_what_is_around_them() {
        let line = "a line of code that stands in many cells";
        let texts: Vec<String> =
            (0..20).map(|n| format!("{line}\nx{n}z\n{line}\n{line}\n{}{line}", "y".repeat(n))).collect();
        let lines: Vec<String> = texts.iter().map(|text| serde_json::json!({ "code": text }).to_string()).collect();
        let set = set_of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        for text in &texts {
            assert!(text.as_bytes().windows(3).all(|part| has(&set, &grams_of(std::str::from_utf8(part).unwrap()))));
            assert!(text.as_bytes().windows(4).all(|part| has(&set, &grams_of(std::str::from_utf8(part).unwrap()))));
        }
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
