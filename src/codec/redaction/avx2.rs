//! The filter with AVX2: bitmaps of 64 bytes at a time.
#![allow(unsafe_code, reason = "vector instructions; the plain filter is its safe twin")]

use std::arch::x86_64::*;

use super::filter::{
    AHEAD, AT_ONCE, BLOCK, Filter, Hit, Masks, NO_CANDIDATES, SHORT, TOGETHER, WINDOW, Walk, block_at, put_among_words,
};
use super::marks;

/// Whether this processor can.
pub fn is_there() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("popcnt")
}

/// The marks of at most 64 bytes. Only to be called where [`is_there`].
pub fn marks(part: &[u8], into: &marks::Block) {
    assert!(is_there() && part.len() <= BLOCK, "the caller has asked for AVX2");
    // SAFETY: the processor has the instructions, as just asserted; there is no other condition.
    unsafe { read_marks(part, into) }
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn read_marks(part: &[u8], into: &marks::Block) {
    let mut block = [0; BLOCK];
    block[..part.len()].copy_from_slice(part);
    let ours = if part.is_empty() { 0 } else { u64::MAX >> (BLOCK - part.len()) };
    let mut found = [0u64; marks::MARKS];
    for half in 0..2 {
        let bytes = load_32(block[32 * half..32 * half + 32].try_into().expect("cut to this length"));
        let foreign = _mm256_movemask_epi8(bytes) as u32;
        for (group, table) in MARKS.iter().enumerate() {
            let mut kinds = _mm256_setzero_si256();
            for (row, table) in table.iter().enumerate() {
                // Bytes with another upper half are none of this row.
                let upper = _mm256_and_si256(bytes, _mm256_set1_epi8(0xF0u8 as i8));
                let is_row = _mm256_cmpeq_epi8(upper, _mm256_set1_epi8((row << 4) as i8));
                let of_row = _mm256_shuffle_epi8(load_32(table), bytes);
                kinds = _mm256_or_si256(kinds, _mm256_and_si256(is_row, of_row));
            }
            for kind in (0..8).rev() {
                let other = if marks::OF_BYTES[0x80] >> (8 * group + kind) & 1 == 1 { foreign } else { 0 };
                let bits = _mm256_movemask_epi8(kinds) as u32 | other;
                found[8 * group + kind] |= u64::from(bits) << (32 * half);
                kinds = _mm256_add_epi8(kinds, kinds);
            }
        }
    }
    into.iter().zip(found).for_each(|(cell, bits)| cell.set(bits & ours));
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: thirty-two bytes are read from a reference to thirty-two; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The kinds of each byte of ASCII, eight in a table of eight rows, each row twice.
static MARKS: [[[u8; 32]; 8]; marks::MARKS / 8] = {
    let (mut tables, mut group) = ([[[0; 32]; 8]; marks::MARKS / 8], 0);
    while group < tables.len() {
        let mut byte = 0;
        while byte < 128 {
            let kinds = (marks::OF_BYTES[byte] >> (8 * group)) as u8;
            (tables[group][byte / 16][byte % 16], tables[group][byte / 16][16 + byte % 16]) = (kinds, kinds);
            byte += 1;
        }
        group += 1;
    }
    tables
};

/// As [`Filter::scan_plain`]. Only to be called where [`is_there`].
pub fn scan(filter: &Filter, text: &[u8], hits: &mut Vec<Hit>) {
    assert!(is_there(), "the caller has asked for AVX2");
    // SAFETY: the processor has the instructions, as just asserted; there is no other condition.
    unsafe { run(filter, text, hits) }
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn run(filter: &Filter, text: &[u8], hits: &mut Vec<Hit>) {
    let tables = Tables::of(filter);
    if text.len() <= SHORT {
        let (mut walk, mut candidates) = (Walk::default(), [0; SHORT + AT_ONCE]);
        for base in (0..text.len()).step_by(BLOCK) {
            let masks = [masks(&tables, &block_at(text, base))];
            let before = hits.len();
            filter.find_windows(text, base, &masks, &mut candidates, hits);
            let words = hits.len();
            walk.step(base, masks[0], hits);
            put_among_words(hits, before, words);
        }
        return;
    }
    let (mut walk, mut base, mut candidates) = (Walk::default(), 0, NO_CANDIDATES);
    let mut gathered = [Masks::default(); TOGETHER];
    while base < text.len() {
        let mut count = 0;
        for gathered in &mut gathered {
            let at = base + count * BLOCK;
            let Some(block) = text.get(at..at + BLOCK + AHEAD) else { break };
            *gathered = masks(&tables, block.try_into().expect("cut to this length"));
            count += 1;
        }
        if count == 0 {
            gathered[0] = masks(&tables, &block_at(text, base));
            count = 1;
        }
        let before = hits.len();
        filter.find_windows(text, base, &gathered[..count], &mut candidates, hits);
        let words = hits.len();
        for masks in &gathered[..count] {
            walk.step(base, *masks, hits);
            base += BLOCK;
        }
        put_among_words(hits, before, words);
    }
}

/// The lookup tables, each doubled to both lanes.
struct Tables {
    low: [[__m256i; WINDOW]; 2],
    high: [[__m256i; WINDOW]; 2],
    class_low: __m256i,
    class_high: __m256i,
}

/// Classes of bytes, one bit each, so that a byte's class is what its two halves have in common.
pub const DIGIT: u8 = 1;
pub const LETTERS_1: u8 = 2;
pub const LETTERS_2: u8 = 4;
const SMALL_1: u8 = 8;
const SMALL_2: u8 = 16;
const SIGNS: u8 = 32;
const UNDERSCORE: u8 = 64;
const AT: u8 = 128;

const CLASS_HIGH: [u8; 16] = {
    let mut table = [0; 16];
    (table[2], table[3], table[4]) = (SIGNS, DIGIT, LETTERS_1 | AT);
    (table[5], table[6], table[7]) = (LETTERS_2 | UNDERSCORE, SMALL_1, SMALL_2);
    table
};

const CLASS_LOW: [u8; 16] = {
    let mut table = [0; 16];
    let mut half = 0;
    while half < 16 {
        table[half] = if half <= 9 { DIGIT } else { 0 }
            | if half >= 1 { LETTERS_1 | SMALL_1 } else { AT }
            | if half <= 10 { LETTERS_2 | SMALL_2 } else { 0 }
            | if matches!(half, 0xB | 0xD | 0xF) { SIGNS } else { 0 };
        half += 1;
    }
    table[0xF] |= UNDERSCORE;
    table
};

/// The classes of each byte of ASCII.
pub const CLASSES: [u8; 128] = {
    let (mut table, mut byte) = ([0; 128], 0);
    while byte < 128 {
        table[byte] = CLASS_LOW[byte & 15] & CLASS_HIGH[byte >> 4];
        byte += 1;
    }
    table
};

impl Tables {
    #[target_feature(enable = "avx2")]
    fn of(filter: &Filter) -> Tables {
        let [one, two] = filter.halves();
        Tables {
            low: [each(&one.low), each(&two.low)],
            high: [each(&one.high), each(&two.high)],
            class_low: both(&CLASS_LOW),
            class_high: both(&CLASS_HIGH),
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn each(tables: &[[u8; 16]; WINDOW]) -> [__m256i; WINDOW] {
    let [one, two, three, four, five] = tables;
    [both(one), both(two), both(three), both(four), both(five)]
}

#[target_feature(enable = "avx2")]
#[inline]
fn both(table: &[u8; 16]) -> __m256i {
    // SAFETY: sixteen bytes are read from a reference to sixteen; the load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
fn load(block: &[u8; BLOCK + AHEAD], at: usize) -> __m256i {
    let bytes: &[u8; 32] = block[at..at + 32].try_into().expect("cut to this length");
    // SAFETY: thirty-two bytes are read from a reference to thirty-two; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn masks(tables: &Tables, block: &[u8; BLOCK + AHEAD]) -> Masks {
    let (low, high) = (half(tables, block, 0), half(tables, block, 32));
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Masks {
        windows: join(low[0], high[0]),
        at: join(low[1], high[1]),
        digit: join(low[2], high[2]),
        blank: join(low[3], high[3]),
        upper: join(low[4], high[4]),
        base64: join(low[5], high[5]),
    }
}

/// The six masks of 32 bytes, in the order of [`Masks`].
#[target_feature(enable = "avx2,bmi1")]
#[inline]
fn half(tables: &Tables, block: &[u8; BLOCK + AHEAD], at: usize) -> [u32; 6] {
    let fifteen = _mm256_set1_epi8(15);
    let zero = _mm256_setzero_si256();
    let bits = |vector: __m256i| _mm256_movemask_epi8(vector) as u32;
    let (mut one, mut two) = (_mm256_set1_epi8(-1), _mm256_set1_epi8(-1));
    let mut class = zero;
    let first = load(block, at);
    for place in 0..WINDOW {
        let bytes = if place == 0 { first } else { load(block, at + place) };
        let low = _mm256_and_si256(bytes, fifteen);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), fifteen);
        if place == 0 {
            class = _mm256_and_si256(
                _mm256_shuffle_epi8(tables.class_low, low),
                _mm256_shuffle_epi8(tables.class_high, high),
            );
        }
        let buckets = |n: usize| {
            _mm256_and_si256(
                _mm256_shuffle_epi8(tables.low[n][place], low),
                _mm256_shuffle_epi8(tables.high[n][place], high),
            )
        };
        (one, two) = (_mm256_and_si256(one, buckets(0)), _mm256_and_si256(two, buckets(1)));
    }
    let none = |bits_of: i8| {
        let of = _mm256_and_si256(class, _mm256_set1_epi8(bits_of));
        bits(_mm256_cmpeq_epi8(of, zero))
    };
    let is = |byte: u8| bits(_mm256_cmpeq_epi8(first, _mm256_set1_epi8(byte as i8)));
    [
        !bits(_mm256_cmpeq_epi8(_mm256_or_si256(one, two), zero)),
        bits(class),
        bits(_mm256_slli_epi16::<7>(class)),
        is(b' ') | is(b'-'),
        !none((LETTERS_1 | LETTERS_2) as i8),
        !none(0x7F),
    ]
}
