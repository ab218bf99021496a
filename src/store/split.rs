//! Collects the shapes of a part's lines, and chooses the encoding of each member's values.

use std::collections::{HashMap, HashSet};

use super::hashing::{OfHashes, Seeded};
use super::layout::{Column, Encoding, Shape};
use super::members::LineShape;
use super::text::BLOCK_ROWS;
use super::value::{MAX_SCALE, NumberStyle, UUID_BYTES, plain_number, quoted_time, quoted_uuid};
use crate::event::Id;

/// The most shapes and columns of a part; a line beyond them is kept whole.
const MAX_SHAPES: usize = 1000;
const MAX_COLUMNS: usize = 1000;
/// A line with more members is kept whole.
const MAX_MEMBERS: usize = 256;
/// The most values of a dictionary, and their bytes.
const MAX_DISTINCT: usize = 32_768;
const MAX_DICTIONARY_BYTES: usize = 512 * 1024;
/// The most different values of which all columns together hold the hashes.
const MAX_ALL_DISTINCT: usize = 256 * 1024;

/// Shapes and columns of a part, numbered as they are met.
pub struct Shapes {
    pub shapes: Vec<Shape>,
    pub columns: Vec<Stats>,
    by_pieces: HashMap<Vec<u8>, u32, Seeded>,
    by_name: HashMap<String, u32>,
    hasher: Seeded,
    /// Hashes of different values that all columns hold.
    distinct: usize,
    /// Bytes of the texts of all shapes.
    bytes: usize,
}

/// The shape of a line that is kept whole.
pub const WHOLE: u32 = 0;

impl Default for Shapes {
    fn default() -> Shapes {
        let whole = Shape { pieces: vec![String::new(), String::new()], columns: vec![0] };
        Shapes {
            shapes: vec![whole],
            columns: vec![Stats { name: String::new(), ..Stats::default() }],
            by_pieces: HashMap::default(),
            by_name: HashMap::new(),
            hasher: Seeded::default(),
            distinct: 0,
            bytes: 0,
        }
    }
}

impl Shapes {
    /// The number of a shape; that of lines kept whole where there are too many.
    pub fn of(&mut self, shape: &LineShape<'_>) -> u32 {
        let mut key = Vec::new();
        for piece in &shape.pieces {
            key.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            key.extend_from_slice(piece);
        }
        if let Some(known) = self.by_pieces.get(&key) {
            return *known;
        }
        let Some(number) = self.enter(shape) else { return WHOLE };
        self.bytes += 2 * key.len() + shape.pieces.len() * 2 * std::mem::size_of::<String>();
        self.by_pieces.insert(key, number);
        number
    }

    /// Adds a value to what is known of its column; `repeats` if the column had it before.
    pub fn add(&mut self, column: u32, value: &[u8], repeats: bool, time: i64, derived: Option<Id>) {
        let stats = &mut self.columns[column as usize];
        let before = stats.distinct.len();
        stats.add(value, repeats, self.hasher, time, derived);
        self.distinct = self.distinct + stats.distinct.len() - before;
        if self.distinct > MAX_ALL_DISTINCT {
            self.distinct -= stats.distinct.len();
            stats.give_up();
        }
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.bytes + self.distinct * 2 * std::mem::size_of::<u64>()
    }

    fn enter(&mut self, shape: &LineShape<'_>) -> Option<u32> {
        if self.shapes.len() >= MAX_SHAPES || shape.members.len() > MAX_MEMBERS {
            return None;
        }
        let names = || shape.members.iter().map(|member| &member.name);
        let different: HashSet<&String> = names().collect();
        let new = different.iter().filter(|name| !self.by_name.contains_key(**name)).count();
        // The empty name is the one of lines kept whole.
        if different.len() < shape.members.len()
            || different.contains(&String::new())
            || self.columns.len() + new > MAX_COLUMNS
        {
            return None;
        }
        let pieces: Option<Vec<String>> =
            shape.pieces.iter().map(|piece| std::str::from_utf8(piece).ok().map(str::to_owned)).collect();
        let pieces = pieces?;
        let columns = names().map(|name| self.column(name.clone())).collect();
        self.shapes.push(Shape { pieces, columns });
        Some(self.shapes.len() as u32 - 1)
    }

    fn column(&mut self, name: String) -> u32 {
        if let Some(known) = self.by_name.get(&name) {
            return *known;
        }
        let number = self.columns.len() as u32;
        self.columns.push(Stats { name: name.clone(), ..Stats::default() });
        self.by_name.insert(name, number);
        number
    }
}

/// Of the values of a column the first so many, and one in so many of the others, are looked at as numbers, times and
/// UUIDs. What those do not show is an exception of the encoding.
const CHECKED_FIRST: usize = 64;
const CHECKED_STEP: usize = 8;

/// Of so many values the first [`BLOCK_ROWS`] show how often an identifier is there again within a block of texts.
const NEAR_STEP: usize = 512;
/// Bytes of a random UUID in a block of texts, and of one that the block already has.
const UUID_IN_TEXT: usize = 19;
const UUID_AGAIN: usize = 4;

/// What the values of one column have in common.
#[derive(Default)]
pub struct Stats {
    pub name: String,
    pub count: usize,
    bytes: usize,
    distinct: HashSet<u64, OfHashes>,
    distinct_bytes: usize,
    is_diverse: bool,
    /// How many were looked at as numbers, times and UUIDs.
    checked: usize,
    numbers: usize,
    /// The digits behind the point that the first number has, and how many have as many.
    first_scale: u32,
    at_first_scale: usize,
    scale: u32,
    point_zeros: usize,
    zeros_at_end: usize,
    wholes: usize,
    range: Option<(i64, i64)>,
    times: usize,
    digits: u32,
    same_times: usize,
    uuids: usize,
    /// How many of them have the version of random ones: others share most of their digits with their neighbours.
    random_uuids: usize,
    derived_ids: usize,
    nulls: usize,
    near: Near,
}

/// How often a random UUID is there again among its neighbours.
#[derive(Default)]
struct Near {
    hashes: Vec<u64>,
    seen: usize,
    again: usize,
}

impl Near {
    fn add(&mut self, nth: usize, hash: impl FnOnce() -> u64) {
        if nth >= BLOCK_ROWS {
            return self.hashes.clear();
        }
        let hash = hash();
        self.seen += 1;
        match self.hashes.contains(&hash) {
            true => self.again += 1,
            false => self.hashes.push(hash),
        }
    }
}

impl Stats {
    /// Adds a value of an event with this time, whose id is `derived` unless its producer gave it one; `repeats` if it was
    /// added before.
    pub fn add(&mut self, value: &[u8], repeats: bool, hasher: Seeded, time: i64, derived: Option<Id>) {
        self.count += 1;
        self.bytes += value.len();
        self.nulls += usize::from(value == b"null");
        if !repeats && !self.is_diverse {
            self.add_distinct(value, hasher);
        }
        if is_random_uuid(value) {
            self.near.add((self.count - 1) % NEAR_STEP, || hasher.hash_bytes(value));
        }
        if self.count > CHECKED_FIRST && !self.count.is_multiple_of(CHECKED_STEP) {
            return;
        }
        self.checked += 1;
        match value.first() {
            Some(b'-' | b'0'..=b'9') => self.add_number(value),
            Some(b'"') => self.add_string(value, time, derived),
            _ => {}
        }
    }

    fn add_distinct(&mut self, value: &[u8], hasher: Seeded) {
        if self.distinct.insert(hasher.hash_bytes(value)) {
            self.distinct_bytes += value.len();
            let is_too_much = self.distinct.len() > MAX_DISTINCT || self.distinct_bytes > MAX_DICTIONARY_BYTES;
            if is_too_much {
                self.give_up();
            }
        }
    }

    /// Holds the different values no longer: they are too many.
    fn give_up(&mut self) {
        (self.is_diverse, self.distinct) = (true, HashSet::default());
    }

    fn add_number(&mut self, value: &[u8]) {
        let Some(plain) = plain_number(value) else { return };
        if self.numbers == 0 {
            self.first_scale = plain.scale;
        }
        self.numbers += 1;
        self.at_first_scale += usize::from(plain.scale == self.first_scale);
        self.point_zeros += usize::from(plain.is_point_zero());
        self.wholes += usize::from(plain.scale == 0 || plain.is_point_zero());
        self.zeros_at_end += usize::from(plain.has_zeros_at_end());
        if !plain.is_point_zero() {
            self.scale = self.scale.max(plain.scale);
        }
        let (low, high) = self.range.unwrap_or((plain.mantissa, plain.mantissa));
        self.range = Some((low.min(plain.mantissa), high.max(plain.mantissa)));
    }

    fn add_string(&mut self, value: &[u8], time: i64, derived: Option<Id>) {
        if let Some((micros, digits)) = quoted_time(value) {
            if self.times == 0 {
                self.digits = digits;
            }
            self.times += usize::from(digits == self.digits);
            self.same_times += usize::from(digits == self.digits && micros == time);
        } else if let Some(bits) = quoted_uuid(value) {
            self.uuids += 1;
            self.random_uuids += usize::from(is_random_uuid(value));
            self.derived_ids += usize::from(derived == Some(Id(bits)));
        }
    }

    /// How most numbers are written.
    fn number_style(&self) -> NumberStyle {
        // `12.340` has to keep its zero: then all are written with as many digits.
        let is_fixed = self.zeros_at_end > 0 && self.at_first_scale * 8 >= self.numbers * 7;
        let scale = if is_fixed { self.first_scale } else { self.scale };
        NumberStyle { scale, point_zero: self.point_zeros * 2 > self.wholes, is_fixed }
    }

    fn column(&self, encoding: Encoding, rows: usize) -> Column {
        Column {
            name: self.name.clone(),
            encoding,
            is_full: self.count == rows,
            is_never_null: self.nulls == 0,
            bytes: None,
            has_no_identifier: false,
        }
    }

    /// The encoding that takes the least room, as far as that can be told beforehand.
    pub fn choose(&self, rows: usize) -> Column {
        let most = |count: usize| count * 8 >= self.checked * 7 && self.checked > 0;
        let digits = self.digits;
        if self.name == "id" && most(self.derived_ids) {
            return self.column(Encoding::DerivedId, rows);
        }
        if self.name == "timestamp" && most(self.same_times) {
            return self.column(Encoding::SameTime { digits }, rows);
        }
        if most(self.times) && self.digits >= 3 {
            return self.column(Encoding::Time { digits }, rows);
        }
        // Short values compress worse than long ones.
        let packed = match self.bytes {
            // Random digits do not compress; only what is there again does.
            _ if most(self.random_uuids) => {
                let saved = self.count * (UUID_IN_TEXT - UUID_AGAIN) * self.near.again / self.near.seen.max(1);
                self.count * (UUID_IN_TEXT - 1) - saved
            }
            bytes if bytes < self.count * 32 => bytes * 6 / 10,
            bytes => bytes * 3 / 10,
        };
        let mut best = (packed + self.count, Encoding::Text);
        let mut offer = |cost: usize, encoding: Encoding| {
            if cost < best.0 {
                best = (cost, encoding);
            }
        };
        let bits = |distinct: u64| (64 - distinct.leading_zeros()) as usize;
        if !self.is_diverse {
            offer(self.distinct_bytes / 2 + rows * bits(self.distinct.len() as u64) / 8, Encoding::Dictionary);
        }
        if most(self.numbers) && self.scale <= MAX_SCALE {
            let (low, high) = self.range.unwrap_or_default();
            let NumberStyle { scale, point_zero, is_fixed } = self.number_style();
            let width = bits(high.abs_diff(low)) + if is_fixed { 0 } else { scale as usize };
            offer(rows * width / 8, Encoding::Number { scale, point_zero, is_fixed });
        }
        if most(self.uuids) && self.count == rows {
            offer(rows * 16, Encoding::Uuid);
        }
        // Short values in a dictionary can be filtered and grouped without opening any text.
        if best.1 == Encoding::Text && !self.is_diverse && self.distinct.len() <= 256 {
            best.1 = Encoding::Dictionary;
        }
        self.column(best.1, rows)
    }
}

/// Whether a value may be a UUID of version 4, by its length and the digit of the version.
fn is_random_uuid(value: &[u8]) -> bool {
    value.len() == UUID_BYTES + 2 && value[15] == b'4'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: &str, values: &[String]) -> Encoding {
        let mut stats = Stats { name: name.to_owned(), ..Stats::default() };
        let hasher = Seeded::default();
        values.iter().for_each(|value| stats.add(value.as_bytes(), false, hasher, 1_735_689_600_500_000, Some(Id(7))));
        stats.choose(values.len()).encoding
    }

    #[test]
    fn the_encoding_follows_from_the_values() {
        let many = |each: fn(u32) -> String| (0..2000).map(each).collect::<Vec<_>>();
        assert_eq!(
            chosen("status", &many(|n| format!("\"{}\"", ["ok", "error"][n as usize % 2]))),
            Encoding::Dictionary
        );
        let number = Encoding::Number { scale: 3, point_zero: false, is_fixed: false };
        assert_eq!(
            chosen(
                "duration_ms",
                &many(|n| format!("{}.{:03}", n * 7919 % 99_991, n % 999 + 1).trim_end_matches('0').to_owned())
            ),
            number
        );
        let fixed = Encoding::Number { scale: 3, point_zero: false, is_fixed: true };
        assert_eq!(chosen("duration_ms", &many(|n| format!("{}.{:03}", n * 7919 % 99_991, n % 1000))), fixed);
        assert_eq!(
            chosen("timestamp", &many(|_| "\"2025-01-01T00:00:00.500Z\"".into())),
            Encoding::SameTime { digits: 3 }
        );
        assert_eq!(
            chosen("at", &many(|n| format!("\"2025-01-01T00:{:02}:00.500Z\"", n % 60))),
            Encoding::Time { digits: 3 }
        );
        let uuid = |n: u32, version: u32| {
            let random = u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            format!(
                "\"{:08x}-{:04x}-{version}{:03x}-8{:03x}-{:012x}\"",
                random >> 96,
                random >> 80 & 0xffff,
                random >> 64 & 0xfff,
                random >> 52 & 0xfff,
                random & 0xffff_ffff_ffff
            )
        };
        let uuids = |version: u32| (0..40_000).map(|n| uuid(n, version)).collect::<Vec<_>>();
        assert_eq!(chosen("request_id", &uuids(4)), Encoding::Uuid);
        assert_eq!(chosen("request_id", &uuids(7)), Encoding::Text);
        let again: Vec<String> = (0..60_000).map(|n| uuid(n / 64 * 20 + n % 20, 4)).collect();
        assert_eq!(chosen("session_id", &again), Encoding::Text, "most are in their block already");
        assert_eq!(
            chosen("code", &many(|n| format!("\"a text of some length, number {n}, which nobody repeats\""))),
            Encoding::Text
        );
    }
}
