//! The filter with AVX-512: bitmaps of 64 bytes in one step.
#![allow(unsafe_code, reason = "vector instructions; the plain filter is its safe twin")]

use std::arch::x86_64::*;

use super::avx2::{CLASS_HIGH, CLASS_LOW, DIGIT, LETTERS_1, LETTERS_2};
use super::filter::{AHEAD, BLOCK, Filter, Hit, Masks, NO_CANDIDATES, TOGETHER, WINDOW, Walk, block_at};

/// Whether this processor can.
pub fn is_there() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("bmi1")
}

/// As [`Filter::scan_plain`]. Only to be called where [`is_there`].
pub fn scan(filter: &Filter, text: &[u8], hits: &mut Vec<Hit>) {
    assert!(is_there(), "the caller has asked for AVX-512");
    // SAFETY: the processor has the instructions, as just asserted; there is no other condition.
    unsafe { run(filter, text, hits) }
}

#[target_feature(enable = "avx512f,avx512bw,bmi1")]
fn run(filter: &Filter, text: &[u8], hits: &mut Vec<Hit>) {
    let [one, two] = &filter.halves;
    let each = |halves: &[[u8; 16]; WINDOW]| std::array::from_fn(|place| all_lanes(&halves[place]));
    let tables = Tables {
        low: [each(&one.low), each(&two.low)],
        high: [each(&one.high), each(&two.high)],
        class_low: all_lanes(&CLASS_LOW),
        class_high: all_lanes(&CLASS_HIGH),
    };
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
        filter.find_windows(text, base, &gathered[..count], &mut candidates, hits);
        for masks in &gathered[..count] {
            walk.step(base, *masks, hits);
            base += BLOCK;
        }
    }
}

/// The lookup tables, each four times, once for each lane.
struct Tables {
    low: [[__m512i; WINDOW]; 2],
    high: [[__m512i; WINDOW]; 2],
    class_low: __m512i,
    class_high: __m512i,
}

#[target_feature(enable = "avx512f")]
fn all_lanes(table: &[u8; 16]) -> __m512i {
    // SAFETY: sixteen bytes are read from a reference to sixteen; the load needs no alignment.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(block: &[u8; BLOCK + AHEAD], at: usize) -> __m512i {
    let bytes: &[u8; 64] = block[at..at + 64].try_into().expect("cut to this length");
    // SAFETY: sixty-four bytes are read from a reference to sixty-four; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f,avx512bw,bmi1")]
#[inline]
fn masks(tables: &Tables, block: &[u8; BLOCK + AHEAD]) -> Masks {
    let fifteen = _mm512_set1_epi8(15);
    let is_any = |class: __m512i, of: u8| _mm512_test_epi8_mask(class, _mm512_set1_epi8(of as i8));
    let first = load(block, 0);
    let (mut one, mut two) = (_mm512_set1_epi8(-1), _mm512_set1_epi8(-1));
    let mut class = first;
    for place in 0..WINDOW {
        let bytes = if place == 0 { first } else { load(block, place) };
        let low = _mm512_and_si512(bytes, fifteen);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), fifteen);
        if place == 0 {
            let halves = (_mm512_shuffle_epi8(tables.class_low, low), _mm512_shuffle_epi8(tables.class_high, high));
            class = _mm512_and_si512(halves.0, halves.1);
        }
        // 0x80 is the truth table of `a & b & c`.
        let narrow = |all: __m512i, n: usize| {
            let low = _mm512_shuffle_epi8(tables.low[n][place], low);
            let high = _mm512_shuffle_epi8(tables.high[n][place], high);
            _mm512_ternarylogic_epi32::<0x80>(all, low, high)
        };
        (one, two) = (narrow(one, 0), narrow(two, 1));
    }
    let is = |byte: u8| _mm512_cmpeq_epi8_mask(first, _mm512_set1_epi8(byte as i8));
    let either = _mm512_or_si512(one, two);
    Masks {
        windows: _mm512_test_epi8_mask(either, either),
        at: _mm512_movepi8_mask(class),
        digit: is_any(class, DIGIT),
        blank: is(b' ') | is(b'-'),
        upper: is_any(class, LETTERS_1 | LETTERS_2),
        base64: is_any(class, 0x7F),
    }
}
