//! The filter with AVX-512 and its byte permutes: bitmaps of 64 bytes in one step.
#![allow(unsafe_code, reason = "vector instructions; the plain filter is its safe twin")]

use std::arch::x86_64::*;

use super::avx2::{CLASSES, DIGIT, LETTERS_1, LETTERS_2};
use super::filter::{
    self, AHEAD, BLOCK, Bytes, DIGITS, Filter, GROUPS, Hit, Masks, NO_CANDIDATES, RUN, SHORT, Sign, TOGETHER, WINDOW,
    block_at, push_all, put_in_order,
};

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
            put_in_order(hits, before, words);
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
        put_in_order(hits, before, words);
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
    #[target_feature(enable = "avx512f")]
    fn new() -> Walk {
        let zero = _mm512_setzero_si512();
        Walk { digits: [zero; 4], letters: [zero; 5], digit: zero, upper: zero, full: [zero; 2] }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1")]
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
#[target_feature(enable = "avx512f")]
#[inline]
fn all(blocks: &[Masks; TOGETHER], one: impl Fn(&Masks) -> u64) -> __m512i {
    let lanes: [i64; TOGETHER] = std::array::from_fn(|nth| one(&blocks[nth]) as i64);
    _mm512_set_epi64(lanes[7], lanes[6], lanes[5], lanes[4], lanes[3], lanes[2], lanes[1], lanes[0])
}

#[target_feature(enable = "avx512f")]
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

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: sixty-four bytes are read from a reference to sixty-four; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// What a table of 128 says of each byte without its highest bit.
#[target_feature(enable = "avx512f,avx512vbmi")]
#[inline]
fn look_up(table: &[u8; 128], bytes: __m512i) -> __m512i {
    let (low, high) = table.split_at(64);
    let half = |half: &[u8]| load(half.try_into().expect("half of the table"));
    _mm512_permutex2var_epi8(half(low), bytes, half(high))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1")]
#[inline]
fn masks(tables: &Bytes, block: &[u8; BLOCK + AHEAD]) -> Masks {
    let bytes: [__m512i; WINDOW] =
        std::array::from_fn(|place| load(block[place..place + BLOCK].try_into().expect("cut to this length")));
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
