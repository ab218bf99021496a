//! The filter with AVX-512 and its byte permutes: bitmaps of 64 bytes in one step.
#![allow(unsafe_code, reason = "vector instructions; the plain filter is its safe twin")]

use std::arch::x86_64::*;

use super::avx2::{CLASSES, DIGIT, LETTERS_1, LETTERS_2};
use super::filter::{
    self, AHEAD, BLOCK, Bytes, DIGITS, Filter, GROUPS, Hit, Masks, NO_CANDIDATES, RUN, SHORT, Sign, TOGETHER, WINDOW,
    block_at, push_all, put_among_words,
};
use super::marks;

/// Whether this processor can.
pub fn is_there() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vbmi")
        && std::arch::is_x86_feature_detected!("avx512vbmi2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("popcnt")
}

/// As [`Filter::scan_plain`]. Only to be called where [`is_there`].
pub fn scan(filter: &Filter, text: &[u8], hits: &mut Vec<Hit>) {
    assert!(is_there(), "the caller has asked for AVX-512");
    // SAFETY: the processor has the instructions, as just asserted; there is no other condition.
    unsafe { run(filter, text, hits) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
fn run(filter: &Filter, text: &[u8], hits: &mut Vec<Hit>) {
    let bytes = filter.bytes();
    if text.len() <= SHORT {
        let mut walk = filter::Walk::default();
        for base in (0..text.len()).step_by(BLOCK) {
            let masks = masks(bytes, &block_at(text, base));
            let before = hits.len();
            filter.find_few_windows(text, base, masks.windows, hits);
            let words = hits.len();
            walk.step(base, masks, hits);
            put_among_words(hits, before, words);
        }
        return;
    }
    let (mut walk, mut base, mut candidates) = (Walk::new(), 0, NO_CANDIDATES);
    while base < text.len() {
        let (mut gathered, mut count) = ([Masks::default(); TOGETHER], 0);
        for gathered in &mut gathered {
            let at = base + count * BLOCK;
            *gathered = match text.get(at..at + BLOCK + AHEAD) {
                Some(block) => masks(bytes, block.try_into().expect("cut to this length")),
                None if at < text.len() => masks(bytes, &block_at(text, at)),
                None => break,
            };
            count += 1;
        }
        let before = hits.len();
        filter.find_windows(text, base, &gathered[..count], &mut candidates, hits);
        let words = hits.len();
        walk.step(base, &gathered, hits);
        put_among_words(hits, before, words);
        base += TOGETHER * BLOCK;
    }
}

/// What runs from eight blocks into the next, as [`super::filter::Walk`] has it for one.
struct Walk {
    digits: [__m512i; 4],
    letters: [__m512i; 5],
    digit: __m512i,
    upper: __m512i,
    full: [__m512i; 2],
}

/// The bitmaps of eight blocks, moved up by so many places, the lowest bits coming from the blocks before.
macro_rules! carried {
    ($by:literal, $now:expr, $before:expr) => {
        _mm512_shldi_epi64::<$by>($now, _mm512_alignr_epi64::<7>($now, $before))
    };
}

/// The marks of at most 64 bytes. Only to be called where [`is_there`].
pub fn marks(part: &[u8], into: &marks::Block) {
    assert!(is_there() && part.len() <= BLOCK, "the caller has asked for AVX-512");
    // SAFETY: the processor has the instructions, as just asserted; there is no other condition.
    unsafe { read_marks(part, into) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
fn read_marks(part: &[u8], into: &marks::Block) {
    let bytes = match part.try_into() {
        Ok(block) => load(block),
        Err(_) => {
            let mut block = [0; BLOCK];
            block[..part.len()].copy_from_slice(part);
            load(&block)
        }
    };
    let ours = if part.is_empty() { 0 } else { u64::MAX >> (BLOCK - part.len()) };
    let foreign = _mm512_movepi8_mask(bytes);
    for (group, table) in MARKS.iter().enumerate() {
        let other = _mm512_set1_epi8((marks::OF_BYTES[0x80] >> (8 * group)) as i8);
        let kinds = _mm512_mask_mov_epi8(look_up(table, bytes), foreign, other);
        for kind in 0..8 {
            into[8 * group + kind].set(ours & _mm512_test_epi8_mask(kinds, _mm512_set1_epi8((1u8 << kind) as i8)));
        }
    }
}

/// The kinds of each byte of ASCII, eight in a table.
static MARKS: [[u8; 128]; marks::MARKS / 8] = {
    let (mut tables, mut group) = ([[0; 128]; marks::MARKS / 8], 0);
    while group < tables.len() {
        let mut byte = 0;
        while byte < 128 {
            tables[group][byte] = (marks::OF_BYTES[byte] >> (8 * group)) as u8;
            byte += 1;
        }
        group += 1;
    }
    tables
};

/// Where the bytes belong of which each bitmap knows as many as the one before and so many more.
macro_rules! grow {
    ($one:expr, $known:expr; $($by:literal),*) => {{
        let (mut now, mut at) = ($one, 0);
        $(
            let before = std::mem::replace(&mut $known[at], now);
            now = _mm512_and_si512(now, carried!($by, now, before));
            at += 1;
        )*
        let _ = at;
        now
    }};
}

impl Walk {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
    fn new() -> Walk {
        let zero = _mm512_setzero_si512();
        Walk { digits: [zero; 4], letters: [zero; 5], digit: zero, upper: zero, full: [zero; 2] }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
    #[inline]
    fn step(&mut self, base: usize, blocks: &[Masks; TOGETHER], hits: &mut Vec<Hit>) {
        let (digit, blank) = (all(blocks, |masks| masks.digit), all(blocks, |masks| masks.blank));
        let (upper, base64) = (all(blocks, |masks| masks.upper), all(blocks, |masks| masks.base64));
        let behind_digit = carried!(1, digit, self.digit);
        let joined = _mm512_or_si512(digit, _mm512_and_si512(blank, behind_digit));
        // Where the last 13 bytes belong for the first time, and the last 24.
        let thirteen = grow!(joined, self.digits; 1, 2, 4, 5);
        let digits = _mm512_andnot_si512(carried!(1, thirteen, self.full[0]), thirteen);
        let twenty_four = grow!(base64, self.letters; 1, 2, 4, 8, 8);
        let letters = _mm512_andnot_si512(carried!(1, twenty_four, self.full[1]), twenty_four);
        let capitals = _mm512_and_si512(carried!(2, upper, self.upper), carried!(3, upper, self.upper));
        let country = _mm512_and_si512(_mm512_and_si512(digit, behind_digit), capitals);
        (self.digit, self.upper, self.full) = (digit, upper, [thirteen, twenty_four]);
        let at = all(blocks, |masks| masks.at);
        push(at, base, 0, Sign::At, hits);
        push(digits, base, DIGITS - 1, Sign::Digits, hits);
        push(letters, base, RUN - 1, Sign::Run, hits);
        push(country, base, 3, Sign::Country, hits);
    }
}

/// One bitmap of each block.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
#[inline]
fn all(blocks: &[Masks; TOGETHER], one: impl Fn(&Masks) -> u64) -> __m512i {
    let [a, b, c, d, e, f, g, h] = blocks;
    _mm512_set_epi64(
        one(h) as i64,
        one(g) as i64,
        one(f) as i64,
        one(e) as i64,
        one(d) as i64,
        one(c) as i64,
        one(b) as i64,
        one(a) as i64,
    )
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
#[inline]
fn push(bitmaps: __m512i, base: usize, back: u32, sign: Sign, hits: &mut Vec<Hit>) {
    let mut some = _mm512_test_epi64_mask(bitmaps, bitmaps);
    if some == 0 {
        return;
    }
    let mut lanes = [0u64; TOGETHER];
    // SAFETY: sixty-four bytes are written to an array of sixty-four; the store needs no alignment.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), bitmaps) };
    while some != 0 {
        let nth = some.trailing_zeros() as usize;
        push_all(lanes[nth], base + nth * BLOCK, back, sign, hits);
        some &= some - 1;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
#[inline]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: sixty-four bytes are read from a reference to sixty-four; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// What a table of 128 says of each byte without its highest bit.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
#[inline]
fn look_up(table: &[u8; 128], bytes: __m512i) -> __m512i {
    let (low, high) = table.split_at(64);
    let (low, high) = (low.try_into().expect("half of the table"), high.try_into().expect("half of the table"));
    _mm512_permutex2var_epi8(load(low), bytes, load(high))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
#[inline]
fn masks(tables: &Bytes, block: &[u8; BLOCK + AHEAD]) -> Masks {
    // By a loop: what closures load is not always made part of this function.
    let mut bytes = [_mm512_setzero_si512(); WINDOW];
    for (place, bytes) in bytes.iter_mut().enumerate() {
        *bytes = load(block[place..place + BLOCK].try_into().expect("cut to this length"));
    }
    let first = bytes[0];
    let foreign = _mm512_movepi8_mask(first);
    let mut windows = _mm512_setzero_si512();
    for group in 0..GROUPS {
        let (ascii, other) = (tables.ascii[group] as i8, tables.foreign[group] as i8);
        let mut all = _mm512_mask_mov_epi8(_mm512_set1_epi8(ascii), foreign, _mm512_set1_epi8(other));
        // 0x80 is the truth table of `a & b & c`, 0xF8 that of `a | b & c`.
        for pair in [1, 3] {
            let one = look_up(&tables.tables[group][pair], bytes[pair]);
            let two = look_up(&tables.tables[group][pair + 1], bytes[pair + 1]);
            all = _mm512_ternarylogic_epi32::<0x80>(all, one, two);
        }
        windows = _mm512_ternarylogic_epi32::<0xF8>(windows, all, look_up(&tables.tables[group][0], first));
    }
    let class = _mm512_maskz_mov_epi8(!foreign, look_up(&CLASSES, first));
    let is_any = |of: u8| _mm512_test_epi8_mask(class, _mm512_set1_epi8(of as i8));
    let is = |byte: u8| _mm512_cmpeq_epi8_mask(first, _mm512_set1_epi8(byte as i8));
    Masks {
        windows: _mm512_test_epi8_mask(windows, windows),
        at: _mm512_movepi8_mask(class),
        digit: is_any(DIGIT),
        blank: is(b' ') | is(b'-'),
        upper: is_any(LETTERS_1 | LETTERS_2),
        base64: is_any(0x7F),
    }
}
