//! The set of hashes of a chunk: substrings of three and four characters, numbers behind characters, and field values.
//!
//! A set never misses what is there; it may name what is not. Texts are decoded and folded: each code point to its
//! lower case, so that a search in any case and any script finds its chunks. Substrings of random identifiers (UUIDs,
//! hashes) are apart: they are as many as all others together, so a chunk keeps the identifiers themselves, and a part
//! their substrings for larger units than a chunk.

use std::hash::{BuildHasher, Hasher};

use super::folding::{MIN_PIECE, fold_json, piece_end, push_folded};
use super::hash_list::{HASH_BITS, HashBits, HashList};
use super::hashing::Seeded;
use super::identifiers::Identifiers;
use super::members::Member;
use super::numbers::{Number, NumberBits, NumberList, may_have_word_number, numbers_in};
use super::word_blocks::{WordBlocks, is_in_other_block, key_in};
use crate::event::{Kind, Raw};

/// Values longer than this have no hash as the value of a field; their substrings have.
const MAX_TERM_BYTES: usize = 128;
/// Strings up to this length are remembered within a chunk, so that a repeated one costs one look.
const MAX_REMEMBERED: usize = 64;
/// How many strings, and how many pieces of longer ones, are remembered; a newer one takes the place of an older one.
const REMEMBERED: usize = 4096;
const REMEMBERED_PIECES: usize = 2048;
/// The end of a text up to this length is not looked at piece by piece.
const LONG_TEXT: usize = 24;
/// Shorter strings are no random identifiers.
const MIN_RANDOM: usize = 16;
/// So many of the last characters of a piece can share a substring with the piece behind it.
const REACH: usize = 3;
/// So many of its first characters can be in one with the piece before it: a number of that many digits.
const HEAD: usize = 4;

/// Begin the keys of remembered strings that no member's own hashes are made of.
const NESTED: u64 = 1;
const IDENTIFIER: u64 = 2;

/// Salts that keep the kinds of hashes apart.
const GRAM3: u64 = 0x9E37_79B9_7F4A_7C15;
const GRAM4: u64 = 0xC2B2_AE3D_27D4_EB4F;
const TERM: u64 = 0x1656_67B1_9E37_79F9;
const PRESENT: u64 = 0xD6E8_FEB8_6659_FD93;

/// What a chunk has.
#[derive(Clone, Debug, Default)]
pub struct Hashes {
    pub exact: HashList,
    pub identifiers: Identifiers,
    /// Parts of long numbers, of all texts that are no identifiers.
    pub runs: NumberList,
    /// Which blocks have which digits behind a word.
    pub words: WordBlocks,
}

impl Hashes {
    pub fn is_empty(&self) -> bool {
        self.exact.len() == 0 && self.identifiers.is_empty()
    }

    pub fn has_number(&self, number: Number) -> bool {
        match number {
            Number::Behind(hash) | Number::Word(hash) | Number::Near(hash) => self.exact.contains(hash),
            Number::Run(number) => self.runs.contains(number),
        }
    }

    #[cfg(test)]
    fn contains(&self, hash: u32) -> bool {
        let mut folded = self.identifiers.iter().map(|text| String::from_utf8_lossy(text).into_owned());
        self.exact.contains(hash) || folded.any(|text| loose_grams_of(&text).iter().any(|gram| gram.hash == hash))
    }

    pub fn weight(&self) -> usize {
        self.exact.weight() + self.identifiers.weight() + self.runs.weight() + self.words.weight()
    }
}

impl HashBits {
    /// Notes the substrings of a random identifier. `folded` is overwritten.
    pub fn add_identifier(&mut self, text: &[u8], folded: &mut Vec<u32>) {
        folded.clear();
        fold_json(text, folded);
        self.add_windows(folded);
    }

    /// Notes the substrings of three and four characters.
    fn add_windows(&mut self, text: &[u32]) {
        if text.len() < 3 {
            return;
        }
        let mut packed = u64::from(text[0]) << 21 | u64::from(text[1]) << 42;
        for window in text.windows(4) {
            packed = packed >> 21 | u64::from(window[2]) << 42;
            self.insert(gram3_of(packed));
            self.insert(gram4_of(packed, window[3]));
        }
        self.insert(gram3(&text[text.len() - 3..]));
    }
}

/// Collects the hashes of one chunk at a time.
pub struct GramSet {
    exact: HashBits,
    identifiers: Identifiers,
    numbers: NumberBits,
    /// How many the chunk before had.
    before: usize,
    folded: Vec<u32>,
    remembered: Vec<(u64, u64)>,
    pieces: Vec<Piece>,
    /// Begin the hashes of what is remembered, so that nobody can choose texts that hide others. Each chunk has its own
    /// number, so that nothing of the one before is taken for known.
    hashers: [Seeded; 2],
    chunk: u64,
}

/// A piece of a text that the chunk has.
#[derive(Clone, Copy, Default)]
struct Piece {
    key: (u64, u64),
    /// Its first and its last characters, folded.
    head: [u32; HEAD],
    tail: [u32; REACH],
}

impl Default for GramSet {
    fn default() -> GramSet {
        GramSet {
            exact: HashBits::default(),
            identifiers: Identifiers::default(),
            numbers: NumberBits::default(),
            before: 0,
            folded: Vec::new(),
            remembered: vec![(0, 0); REMEMBERED],
            pieces: vec![Piece::default(); REMEMBERED_PIECES],
            hashers: [Seeded::default(), Seeded::default()],
            chunk: 1,
        }
    }
}

impl GramSet {
    fn insert(&mut self, hash: u32) {
        self.exact.insert(hash);
    }

    /// Goes on with a row of the chunk.
    pub fn begin_row(&mut self, row: usize) {
        self.numbers.begin_row(row);
    }

    /// Notes everything that a search may ask of a member of an event and its value.
    pub fn add(&mut self, member: &Member, value: Raw<'_>) {
        if !value.is_null() {
            self.insert(member.present);
            self.add_member(member, value);
        }
    }

    fn add_member(&mut self, member: &Member, value: Raw<'_>) {
        match value.kind() {
            Kind::String => {
                let inside = value.inside().expect("a string has an inside");
                if inside.len() <= MAX_REMEMBERED
                    && !member.is_unsearched
                    && self.is_remembered(self.salt(member), inside)
                {
                    return;
                }
                if inside.len() <= MAX_TERM_BYTES {
                    self.fold(inside);
                    let hash = term_behind(member.term, &self.folded);
                    self.insert(hash);
                }
                if !member.is_unsearched {
                    self.add_text(inside);
                }
            }
            Kind::Bool => self.insert(term(member.name.as_bytes(), value.text())),
            Kind::Number => {
                if let Some(number) = value.as_f64().filter(|_| member.is_counted) {
                    self.insert(number_term(member.name.as_bytes(), number));
                }
            }
            Kind::Array => {
                for element in value.elements() {
                    self.add_member(member, element);
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
                if inside.len() > MAX_REMEMBERED || !self.is_remembered(NESTED, inside) {
                    self.add_text(inside);
                }
            }
            Kind::Array => value.elements().for_each(|element| self.add_nested(element)),
            Kind::Object => value.members().for_each(|(_, member)| self.add_nested(member)),
            Kind::Null | Kind::Bool | Kind::Number => {}
        }
    }

    /// Tells apart the members whose strings add other hashes: two names whose values have the same hashes are one.
    fn salt(&self, member: &Member) -> u64 {
        let mut hasher = self.hashers[0].build_hasher();
        hasher.write_u64(member.term);
        hasher.finish()
    }

    /// Whether the chunk has this string under the same name already, and its block, where that matters.
    fn is_remembered(&mut self, salt: u64, inside: &[u8]) -> bool {
        let (first, second) = self.key_of(inside);
        let key = key_in(self.numbers.block(), (first ^ salt, second ^ salt.rotate_left(32)));
        let slot = &mut self.remembered[key.0 as usize % REMEMBERED];
        let known = std::mem::replace(slot, key);
        known == key || is_in_other_block(known, key) && !may_have_word_number(inside)
    }

    /// Tells apart whatever the chunk has.
    fn key_of(&self, bytes: &[u8]) -> (u64, u64) {
        let [first, second] = &self.hashers;
        let (first, second) = Seeded::hash_twice(first, second, bytes);
        (first ^ self.chunk.wrapping_mul(GRAM4), second ^ self.chunk.wrapping_mul(TERM))
    }

    fn fold(&mut self, inside: &[u8]) {
        self.folded.clear();
        fold_json(inside, &mut self.folded);
    }

    /// Notes the substrings of the inside of a string. Pieces that the chunk already has cost one look each: lines differ in
    /// their numbers more often than in the words around them.
    fn add_text(&mut self, inside: &[u8]) {
        if is_random(inside) {
            if inside.len() <= MAX_REMEMBERED || !self.is_remembered(IDENTIFIER, inside) {
                self.identifiers.add(inside);
            }
            return;
        }
        let mut folded = std::mem::take(&mut self.folded);
        folded.clear();
        let mut rest = inside;
        while !rest.is_empty() {
            let len = if rest.len() > LONG_TEXT { piece_end(rest) } else { rest.len() };
            let (piece, more) = rest.split_at(len);
            self.add_piece(piece, &mut folded);
            rest = more;
        }
        self.folded = folded;
    }

    /// Notes a piece behind the last characters of the one before it, which share substrings with it.
    fn add_piece(&mut self, piece: &[u8], before: &mut Vec<u32>) {
        let start = before.len();
        if piece.len() < MIN_PIECE {
            fold_json(piece, before);
            self.add_folded(before);
            return;
        }
        let key = key_in(self.numbers.block(), self.key_of(piece));
        let slot = key.0 as usize % REMEMBERED_PIECES;
        let known = self.pieces[slot];
        if known.key == key || is_in_other_block(known.key, key) && !may_have_word_number(piece) {
            self.pieces[slot].key = key;
            if start > 0 {
                before.extend_from_slice(&known.head);
                self.exact.add_windows(before);
                // The number is known, what stands before it may be new.
                self.numbers.add(before, &mut self.exact);
                before.clear();
            }
            before.extend_from_slice(&known.tail);
            return;
        }
        fold_json(piece, before);
        if before.len() - start >= HEAD + REACH
            && let (Some(head), Some(tail)) = (before[start..].first_chunk(), before.last_chunk())
        {
            self.pieces[slot] = Piece { key, head: *head, tail: *tail };
        }
        self.add_folded(before);
    }

    /// Notes characters; the last ones stay.
    fn add_folded(&mut self, text: &mut Vec<u32>) {
        self.exact.add_windows(text);
        self.numbers.add(text, &mut self.exact);
        text.drain(..text.len().saturating_sub(REACH));
    }

    /// The hashes; the set is empty afterwards.
    pub fn take(&mut self) -> Hashes {
        let exact = self.exact.take(self.before);
        self.before = exact.len();
        self.chunk += 1;
        let (runs, words) = self.numbers.take();
        Hashes { exact, identifiers: self.identifiers.take(), runs, words }
    }
}

/// Whether a value is a random identifier, or has one somewhere within.
pub fn has_identifier(value: Raw<'_>) -> bool {
    match value.kind() {
        Kind::String => value.inside().is_some_and(is_random),
        Kind::Array => value.elements().any(has_identifier),
        Kind::Object => value.members().any(|(_, member)| has_identifier(member)),
        Kind::Null | Kind::Bool | Kind::Number => false,
    }
}

/// Whether a string is a random identifier: a UUID, a hash, a trace id.
fn is_random(inside: &[u8]) -> bool {
    inside.len() >= MIN_RANDOM && inside.iter().all(is_of_random)
}

fn is_of_random(byte: &u8) -> bool {
    byte.is_ascii_hexdigit() || *byte == b'-'
}

/// Whether a random identifier can contain this text. No other character folds to one of theirs.
pub fn may_be_random(text: &str) -> bool {
    text.as_bytes().iter().all(is_of_random)
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

/// A substring of random identifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct LooseGram {
    pub hash: u32,
    pub text: Box<[u8]>,
}

/// The same as [`grams_of`] for a text that [may be](may_be_random) of a random identifier.
pub fn loose_grams_of(text: &str) -> Vec<LooseGram> {
    let text = text.to_ascii_lowercase();
    let of = |window: &[u8]| {
        let folded: Vec<u32> = window.iter().map(|byte| u32::from(*byte)).collect();
        LooseGram { hash: if folded.len() == 3 { gram3(&folded) } else { gram4(&folded) }, text: window.into() }
    };
    let mut grams: Vec<LooseGram> = match text.len() {
        0..=2 => Vec::new(),
        len => text.as_bytes().windows(len.min(4)).map(of).collect(),
    };
    grams.sort_unstable_by_key(|gram| gram.hash);
    grams.dedup();
    grams
}

/// The numbers that each chunk must have which contains this text.
pub fn numbers_of(text: &str) -> Vec<Number> {
    let mut folded = Vec::with_capacity(text.len());
    text.chars().for_each(|c| push_folded(c, &mut folded));
    let mut numbers = numbers_in(&folded);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// What each chunk has where a member has this text as its value.
pub fn term(name: &[u8], text: &str) -> u32 {
    let mut folded = Vec::with_capacity(text.len());
    text.chars().for_each(|c| push_folded(c, &mut folded));
    term_behind(term_of_name(name), &folded)
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

/// How the hashes of a member's values begin.
pub fn term_of_name(name: &[u8]) -> u64 {
    hash_bytes(TERM, name)
}

fn term_behind(name: u64, folded: &[u32]) -> u32 {
    let mut hash = name;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::members::Walked;
    use super::*;

    fn set_of(lines: &[&str]) -> Hashes {
        let mut set = GramSet::default();
        lines.iter().for_each(|line| add(&mut set, line));
        set.take()
    }

    fn add(set: &mut GramSet, line: &str) {
        let mut walked = Walked::default();
        let members = walked.add(line.as_bytes());
        let named = walked.shape(members).members.iter().zip(walked.values(members));
        named.for_each(|(member, value)| set.add(member, *value));
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
        assert!(set.exact.len() < 10);
        let texts = ["de823285-01e7-40a0-af18-2049b329b6a4", "4bf92f3577b34da6a3ce929d0e0e4736"];
        assert_eq!(set.identifiers.iter().collect::<Vec<_>>(), texts.map(str::as_bytes));
        let (mut bits, mut folded) = (HashBits::default(), Vec::new());
        set.identifiers.iter().for_each(|text| bits.add_identifier(text, &mut folded));
        let hashes = bits.take(0);
        for text in ["de82", "01E7-40a0", "6a4", "92f3577b", "de823285-01e7-40a0-af18-2049b329b6a4"] {
            for gram in loose_grams_of(text) {
                assert!(hashes.contains(gram.hash) && set.identifiers.contains(&gram.text), "{text}");
            }
        }
        // What two have together none has alone.
        assert!(!set.identifiers.contains(b"6a44") && !set.identifiers.contains(b"de81"));
    }

    #[test]
    fn a_set_that_was_taken_begins_empty() {
        let mut set = GramSet::default();
        add(&mut set, r#"{"code":"first text"}"#);
        set.take();
        add(&mut set, r#"{"code":"other"}"#);
        let second = set.take();
        assert!(!has(&second, &grams_of("first")) && has(&second, &grams_of("other")));
    }

    #[test]
    fn a_number_is_found_behind_each_word_though_a_piece_that_begins_with_it_was_there_before() {
        for (number, behind) in
            [("1234", ", short\n more of the text"), ("123456789012", " and then much more of the text")]
        {
            let texts = ["random_state=", "some_other_word_", "yet_another (", "the_last_of_all:"]
                .map(|word| format!("{word}{number}{behind}"));
            let lines = texts.each_ref().map(|text| serde_json::json!({ "code": text }).to_string());
            let set = set_of(&lines.each_ref().map(String::as_str));
            for text in &texts {
                for (from, to) in (0..text.len()).flat_map(|from| (from + 3..=text.len()).map(move |to| (from, to))) {
                    let part = &text[from..to];
                    assert!(numbers_of(part).into_iter().all(|number| set.has_number(number)), "{part:?} of {text:?}");
                }
            }
        }
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
        fn every_part_of_a_long_text_is_found_though_most_of_it_was_there_before(
            texts in proptest::collection::vec("(item [0-9]{1,6} of the long list( été|\n| \\\\|\t)?){1,4}", 1..12), nth in 0usize..12, from in 0usize..90, len in 3usize..30,
        ) {
            let lines: Vec<String> = texts.iter().map(|text| serde_json::json!({ "code": text }).to_string()).collect();
            let set = set_of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let part: String = texts[nth % texts.len()].chars().skip(from).take(len).collect();
            prop_assert!(has(&set, &grams_of(&part)), "{:?}", part);
            prop_assert!(numbers_of(&part).into_iter().all(|number| set.has_number(number)), "{:?}", part);
        }

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
