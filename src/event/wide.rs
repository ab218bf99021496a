//! The bitmaps of a block with AVX-512: one comparison for sixty-four bytes, which gives its bitmap at once.

use std::arch::x86_64::*;

use super::{BLOCK, Bitmaps, SEPARATORS, SPACES};

/// Whether this machine has what is needed beyond [`super::available`].
pub fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi2")
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub fn bitmaps(block: &[u8; BLOCK]) -> Bitmaps {
    // SAFETY: an unaligned load of the 64 bytes borrowed.
    let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    let equal = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
    let folded = _mm512_or_si512(bytes, _mm512_set1_epi8(0x20));
    Bitmaps {
        beyond_ascii: _mm512_movepi8_mask(bytes),
        backslash: equal(b'\\'),
        quote: equal(b'"'),
        n: equal(b'n'),
        control: _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20)),
        space: _mm512_cmpeq_epi8_mask(bytes, _mm512_shuffle_epi8(table(SPACES), bytes)),
        separator: _mm512_cmpeq_epi8_mask(folded, _mm512_shuffle_epi8(table(SEPARATORS), bytes)),
    }
}

/// The same table for each quarter of a register.
#[target_feature(enable = "avx512f")]
#[inline]
fn table(half: [i8; 16]) -> __m512i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = half;
    _mm512_broadcast_i32x4(_mm_setr_epi8(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p))
}

/// As [`super::flatten`]: the instructions have one that gathers the bytes whose bits are set.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
#[inline]
pub fn flatten(bits: u64, base: u32, out: &mut [u32]) -> usize {
    const LANES: usize = 16;
    let out: &mut [u32; BLOCK] = out.first_chunk_mut().expect("room for a whole block was made before");
    let numbers: [u8; BLOCK] = const {
        let mut numbers = [0; BLOCK];
        let mut n = 0;
        while n < BLOCK {
            numbers[n] = n as u8;
            n += 1;
        }
        numbers
    };
    // SAFETY: an unaligned load of the 64 bytes of an array.
    let numbers = unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) };
    let found = _mm512_maskz_compress_epi8(bits, numbers);
    let base = _mm512_set1_epi32(base as i32);
    let count = bits.count_ones() as usize;
    let put = |out: &mut [u32], sixteen: __m128i| {
        let out: &mut [u32; LANES] = out.first_chunk_mut().expect("a quarter of a block");
        let positions = _mm512_add_epi32(base, _mm512_cvtepu8_epi32(sixteen));
        // SAFETY: an unaligned store of 16 numbers to an array of 16.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), positions) };
    };
    put(&mut out[..LANES], _mm512_castsi512_si128(found));
    if count > LANES {
        put(&mut out[LANES..2 * LANES], _mm512_extracti32x4_epi32::<1>(found));
    }
    if count > 2 * LANES {
        put(&mut out[2 * LANES..3 * LANES], _mm512_extracti32x4_epi32::<2>(found));
        put(&mut out[3 * LANES..], _mm512_extracti32x4_epi32::<3>(found));
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Index;

    /// Bytes of JSON in any order, and any others.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            9 => prop::sample::select(b"{}[]:,\"\\ \nun0d8.".to_vec()),
            3 => Just(b'a'),
            1 => any::<u8>(),
        ];
        prop::collection::vec(byte, 0..400)
    }

    proptest! {
        #[test]
        fn wide_registers_find_what_narrow_ones_find(text in noise(), part in 0..400_usize) {
            let mut indexes = [Index::new(), Index::new()];
            indexes[1].is_wide = false;
            let part = if part < text.len() { part / 64 * 64 } else { text.len() };
            let found = indexes.each_mut().map(|index| {
                if super::super::available() {
                    // SAFETY: the instructions are there.
                    unsafe {
                        index.extend(&text, part);
                        index.extend(&text, text.len());
                    }
                }
                (index.positions.get(..index.count + 2).map(<[u32]>::to_vec), index.is_faulty(), index.is_ascii())
            });
            prop_assert_eq!(&found[0], &found[1]);
        }
    }
}
