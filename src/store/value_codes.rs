//! Which values of a dictionary are shown as a text, by hashes that are kept: each part is asked for the same user.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use super::cache::{ANSWERS, Key};
use super::dictionary::Dictionary;
use super::part::Part;
use super::value::plain_uuid;
use crate::event::Raw;

/// Hashes are kept among answers, of so many values at most.
const MAX_VALUES: usize = 2048;
const CODES: u16 = ANSWERS + 2;

/// A hash of each value of a dictionary, in their order. One that nobody can choose texts for is taken for the value: of a
/// thousand values, one text in 10^16 is taken for another one.
struct ValueCodes {
    hasher: RandomState,
    hashes: Box<[u64]>,
}

impl ValueCodes {
    fn of(dictionary: &Dictionary) -> ValueCodes {
        let hasher = RandomState::new();
        let hash = |code: i64| hasher.hash_one(&*Raw::valid(dictionary.get(code).unwrap_or(b"null")).display());
        let hashes = (1..=dictionary.len() as i64).map(hash).collect();
        ValueCodes { hasher, hashes }
    }

    fn shown_as(&self, text: &str) -> Vec<bool> {
        let wanted = self.hasher.hash_one(text);
        self.hashes.iter().map(|hash| *hash == wanted).collect()
    }

    fn weight(&self) -> usize {
        self.hashes.len() * 8
    }
}

impl Part {
    /// Of each value of a dictionary column, whether it is shown as this text.
    pub fn values_shown_as(&self, column: u32, text: &str) -> io::Result<Vec<bool>> {
        if self.has_uuids(column) {
            // These are written in one way only.
            let wanted = plain_uuid(text.as_bytes());
            let is_wanted = |bits: &[u8; 16]| Some(u128::from_le_bytes(*bits)) == wanted;
            return Ok(self.uuids_once(column)?.as_chunks().0.iter().map(is_wanted).collect());
        }
        let key = Key { part: self.number, section: CODES, column, block: 0 };
        if let Some(codes) = self.cache().kept::<ValueCodes>(key) {
            return Ok(codes.shown_as(text));
        }
        let dictionary = self.dictionary_once(column)?;
        // Where there is no room for those of all parts they would drive out each other, and are made in vain.
        if dictionary.len() <= MAX_VALUES && self.cache().has_room(key, dictionary.len() * 8) {
            let codes = Arc::new(ValueCodes::of(&dictionary));
            self.cache().keep(key, &codes, codes.weight());
        }
        Ok(shown_as(&dictionary, text))
    }
}

fn shown_as(dictionary: &Dictionary, text: &str) -> Vec<bool> {
    // Asked of all values together: it takes longer than to compare them.
    let has_escapes = memchr::memchr(b'\\', dictionary.all()).is_some();
    let is_shown_as = |code: i64| dictionary.get(code).is_some_and(|value| is_shown_as(value, text, has_escapes));
    (1..=dictionary.len() as i64).map(is_shown_as).collect()
}

/// Whether a JSON value is shown as this text. Most are strings without escapes, which are the bytes between their quotes.
fn is_shown_as(json: &[u8], text: &str, may_have_escapes: bool) -> bool {
    let inside = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match inside.filter(|inside| !may_have_escapes || memchr::memchr(b'\\', inside).is_none()) {
        Some(inside) => inside == text.as_bytes(),
        None => Raw::valid(json).display() == text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::varint::put_bytes;

    proptest! {
        #[test]
        fn the_values_are_those_that_are_shown_as_the_text(values in proptest::collection::vec(r#"[ab1"\\é]{0,2}"#, 0..30), text in r#"[ab1"\\é]{0,2}"#) {
            let others = ["11", "1", "true", "null", r#"["1"]"#, r#""\u0061b""#, r#""true""#].map(str::to_owned);
            let json: Vec<String> = values.iter().map(|value| serde_json::json!(value).to_string()).chain(others).collect();
            let mut bytes = Vec::new();
            json.iter().for_each(|json| put_bytes(&mut bytes, json.as_bytes()));
            let dictionary = Dictionary::read(bytes).expect("a dictionary");
            let codes = ValueCodes::of(&dictionary);
            for text in [&text, "1", "ab", "true", "null", r#"["1"]"#] {
                let wanted: Vec<bool> = json.iter().map(|json| Raw::valid(json.as_bytes()).display() == text).collect();
                prop_assert_eq!(&codes.shown_as(text), &wanted, "{}", text);
                prop_assert_eq!(shown_as(&dictionary, text), wanted, "{}", text);
            }
        }
    }
}
