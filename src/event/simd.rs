//! Stage one of the scanner with AVX2: the positions of structural characters.
//!
//! Sixty-four bytes at a time become bitmaps: what is escaped, what stands inside strings, what separates. Every
//! opening quote, bracket, brace, colon, comma and first byte of anything else outside of strings is a position.
//! What can be wrong inside a string (control characters, escapes, surrogates) is checked here as well, as one flag:
//! where it is raised, the safe twin looks again and says what is wrong.
#![allow(unsafe_code, reason = "vector instructions make the scanner four times as fast; `scalar` is its safe twin")]

use std::arch::x86_64::*;

const BLOCK: usize = 64;
const EVEN: u64 = 0x5555_5555_5555_5555;

/// Whether this machine has the instructions.
pub fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("lzcnt")
}

/// The positions found so far in one text, and what the next block must know of the last one.
#[derive(Default)]
pub struct Index {
    positions: Vec<u32>,
    count: usize,
    /// How much of the text has been looked at: whole blocks, or all of it.
    done: usize,
    carry: Carry,
}

#[derive(Clone, Copy, Default)]
struct Carry {
    /// 1 if the next byte is escaped.
    escaped: u64,
    /// All ones if the next byte is inside a string.
    in_string: u64,
    /// 1 if the last byte belongs to a number, a literal or rubbish.
    scalar: u64,
    /// Leading bytes of the next block that must be hexadecimal digits.
    hex: u64,
    /// 1 if the last byte was the `u` of an escape.
    after_u: u64,
    /// 1 if the last byte was the `d` of what may be `\ud8xx`.
    after_d: u64,
    /// Where the low surrogate must stand that the last high one asks for, and 0 if none does.
    low_due: usize,
    fault: u64,
    beyond_ascii: u64,
}

impl Index {
    pub fn clear(&mut self) {
        (self.count, self.done, self.carry) = (0, 0, Carry::default());
    }

    /// Looks at `text` up to `to`, which is its end or a multiple of 64.
    ///
    /// # Safety
    /// [`available`] must have said yes.
    pub unsafe fn extend(&mut self, text: &[u8], to: usize) {
        debug_assert!(to == text.len() || to.is_multiple_of(BLOCK));
        let needed = self.count + (to - self.done) + 2 * BLOCK;
        if self.positions.len() < needed {
            self.positions.resize(needed.next_power_of_two(), 0);
        }
        // SAFETY: the caller has asked `available`, which names the same features as `blocks`.
        unsafe { self.blocks(text, to) };
        self.positions[self.count] = u32::MAX;
        self.positions[self.count + 1] = u32::MAX;
    }

    /// The positions in order, closed by two of `u32::MAX`.
    pub fn positions(&self) -> &[u32] {
        &self.positions[..self.count + 2]
    }

    /// Whether the inside of some string seen so far is wrong.
    pub fn is_faulty(&self) -> bool {
        self.carry.fault != 0 || self.carry.low_due != 0
    }

    pub fn is_ascii(&self) -> bool {
        self.carry.beyond_ascii == 0
    }

    #[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2,popcnt,lzcnt")]
    fn blocks(&mut self, text: &[u8], to: usize) {
        let (mut carry, mut count, mut at) = (self.carry, self.count, self.done);
        let positions = &mut self.positions[..];
        while let Some(block) = text[at..to].first_chunk::<BLOCK>() {
            let bits = Block::<false>::load(block, 0).positions(text, at, &mut carry);
            count += flatten(bits, at as u32, &mut positions[count..]);
            at += BLOCK;
        }
        let rest = to - at;
        if rest > 0 {
            // The last bytes once more as the end of a whole block, or where there is none, a copy padded in front.
            let mut padded = [b' '; BLOCK];
            let block = text[..to].last_chunk::<BLOCK>().unwrap_or_else(|| {
                padded[BLOCK - rest..].copy_from_slice(&text[at..to]);
                &padded
            });
            let mut bits = Block::<true>::load(block, (BLOCK - rest) as u32).positions(text, at, &mut carry);
            while bits != 0 {
                positions[count] = at as u32 + bits.trailing_zeros();
                bits &= bits - 1;
                count += 1;
            }
        }
        (self.carry, self.count, self.done) = (carry, count, to);
    }
}

/// Writes the numbers of the set bits, counted from `base`, and tells how many there are. What lies behind them in
/// the first sixteen is scribbled over: a fixed number of writes is cheaper than the exact one.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
#[inline]
fn flatten(mut bits: u64, base: u32, out: &mut [u32]) -> usize {
    let out: &mut [u32; BLOCK] = out.first_chunk_mut().expect("room for a whole block was made before");
    let count = bits.count_ones() as usize;
    for slot in &mut out[..8] {
        *slot = base + bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
    }
    if count > 8 {
        for slot in &mut out[8..16] {
            *slot = base + bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
        }
    }
    if count > 16 {
        for slot in &mut out[16..count] {
            *slot = base + bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
        }
    }
    count
}

/// Sixty-four bytes in two registers, whole. `LAST` marks the last block of a text, whose first bytes may belong to
/// the block before: so many bits are then shifted out of every bitmap.
struct Block<const LAST: bool> {
    low: __m256i,
    high: __m256i,
    skip: u32,
}

impl<const LAST: bool> Block<LAST> {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(bytes: &[u8; BLOCK], skip: u32) -> Block<LAST> {
        let start = bytes.as_ptr();
        // SAFETY: both unaligned loads of 32 bytes lie within the 64 bytes borrowed.
        let (low, high) = unsafe { (_mm256_loadu_si256(start.cast()), _mm256_loadu_si256(start.add(32).cast())) };
        Block { low, high, skip }
    }

    fn skip(&self) -> u32 {
        if LAST { self.skip } else { 0 }
    }

    /// One bit per byte that is all ones.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn mask(&self, low: __m256i, high: __m256i) -> u64 {
        let bits = u64::from(_mm256_movemask_epi8(low) as u32) | u64::from(_mm256_movemask_epi8(high) as u32) << 32;
        bits >> self.skip()
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn equal(&self, byte: u8) -> u64 {
        let wanted = _mm256_set1_epi8(byte as i8);
        self.mask(_mm256_cmpeq_epi8(self.low, wanted), _mm256_cmpeq_epi8(self.high, wanted))
    }

    #[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2,popcnt,lzcnt")]
    #[inline]
    fn positions(&self, text: &[u8], at: usize, carry: &mut Carry) -> u64 {
        let live = u64::MAX >> self.skip();
        carry.beyond_ascii |= self.mask(self.low, self.high);

        let escaped = escaped(self.equal(b'\\'), self.skip(), carry);
        let any_quote = self.equal(b'"');
        let quote = any_quote & !escaped;
        // Ones from an opening quote up to the byte before the closing one.
        let in_string = prefix_xor(quote) ^ carry.in_string;
        carry.in_string = ((in_string << self.skip()) as i64 >> 63) as u64;

        let control = self.mask(below_space(self.low), below_space(self.high));
        carry.fault |= in_string & live & control;
        // Of the escapes these two are common; the others are looked at only where there are any.
        let rare = escaped & !(any_quote | self.equal(b'n'));
        if rare | carry.hex != 0 {
            // By value: a carry whose address is known could not stay in registers.
            *carry = self.rare_escapes(rare, text, at, *carry);
        }

        let space = self.mask(is_space(self.low), is_space(self.high));
        let separator = self.mask(is_separator(self.low), is_separator(self.high));
        let scalar = !(space | separator) & live;
        let other = scalar & !quote;
        let starts = scalar & !(other << 1 | carry.scalar);
        carry.scalar = other << self.skip() >> 63;
        (separator | starts) & !(in_string ^ quote)
    }

    /// Checks what is escaped at these bits, and the `\uXXXX` among it: four digits each, surrogates in pairs.
    /// What a backslash outside of strings escapes is checked the same way: that text is refused anyway.
    #[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2,popcnt,lzcnt")]
    #[inline(never)]
    fn rare_escapes(&self, escaped: u64, text: &[u8], at: usize, mut carry: Carry) -> Carry {
        carry.fault |= escaped & !self.mask(may_be_escaped(self.low), may_be_escaped(self.high));
        let u = escaped & self.equal(b'u');
        if u | carry.hex == 0 {
            return carry;
        }
        let live = u64::MAX >> self.skip();
        let len = BLOCK as u32 - self.skip();
        let u_wide = u128::from(u);
        let due = u_wide << 1 | u_wide << 2 | u_wide << 3 | u_wide << 4 | u128::from(carry.hex);
        let hex = self.mask(is_hex(self.low), is_hex(self.high));
        carry.fault |= due as u64 & live & !hex;
        carry.hex = (due >> len) as u64;

        let d = (u << 1 | carry.after_u) & (self.equal(b'd') | self.equal(b'D'));
        let mut surrogates =
            (d << 1 | carry.after_d) & hex & !self.mask(is_low_digit(self.low), is_low_digit(self.high));
        carry.after_u = u >> (len - 1) & 1;
        carry.after_d = d >> (len - 1) & 1;
        surrogates &= live;
        while surrogates != 0 {
            let digit = at + surrogates.trailing_zeros() as usize;
            surrogates &= surrogates - 1;
            // The escape begins three bytes before its second digit: `\`, `u`, `d`.
            let start = digit - 3;
            let is_high = matches!(text[digit], b'8' | b'9' | b'a' | b'b' | b'A' | b'B');
            if is_high == (carry.low_due != 0) || (!is_high && carry.low_due != start) {
                carry.fault = 1;
            }
            carry.low_due = if is_high { start + 6 } else { 0 };
        }
        carry
    }
}

/// Which bytes are escaped by the backslash before them.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
#[inline]
fn escaped(backslash: u64, skip: u32, carry: &mut Carry) -> u64 {
    if backslash == 0 {
        return std::mem::take(&mut carry.escaped);
    }
    let backslash = backslash & !carry.escaped;
    let follows = backslash << 1 | carry.escaped;
    let odd_starts = backslash & !EVEN & !follows;
    // Adding carries each run that starts on an odd bit to the bit behind its end.
    let (even_runs, overflow) = odd_starts.overflowing_add(backslash);
    let escaped = (EVEN ^ even_runs << 1) & follows;
    if skip == 0 {
        carry.escaped = u64::from(overflow);
        escaped
    } else {
        // Only the last block of a text is short, and what would be escaped behind it does not exist.
        carry.escaped = 0;
        escaped & u64::MAX >> skip
    }
}

/// Each bit becomes the parity of all bits up to and including it.
#[target_feature(enable = "pclmulqdq")]
#[inline]
fn prefix_xor(bits: u64) -> u64 {
    let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
    _mm_cvtsi128_si64(product) as u64
}

#[target_feature(enable = "avx2")]
#[inline]
fn below_space(bytes: __m256i) -> __m256i {
    at_most(bytes, 0x1F)
}

#[target_feature(enable = "avx2")]
#[inline]
fn at_most(bytes: __m256i, limit: u8) -> __m256i {
    _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(limit as i8)), bytes)
}

#[target_feature(enable = "avx2")]
#[inline]
fn is_hex(bytes: __m256i) -> __m256i {
    let digit = at_most(_mm256_sub_epi8(bytes, _mm256_set1_epi8(b'0' as i8)), 9);
    let lower = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
    _mm256_or_si256(digit, at_most(_mm256_sub_epi8(lower, _mm256_set1_epi8(b'a' as i8)), 5))
}

/// The digits 0 to 7: behind `\ud` they make no surrogate.
#[target_feature(enable = "avx2")]
#[inline]
fn is_low_digit(bytes: __m256i) -> __m256i {
    at_most(_mm256_sub_epi8(bytes, _mm256_set1_epi8(b'0' as i8)), 7)
}

/// One of `"\/bfnrtu`, by a table for each half of the byte whose entries must share a bit.
#[target_feature(enable = "avx2")]
#[inline]
fn may_be_escaped(bytes: __m256i) -> __m256i {
    const LOW: [i8; 16] = [0, 0, 13, 0, 8, 8, 4, 0, 0, 0, 0, 0, 2, 0, 4, 1];
    const HIGH: [i8; 16] = [0, 0, 1, 0, 0, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = _mm256_set1_epi8(0x0F);
    let low = _mm256_shuffle_epi8(table(LOW), _mm256_and_si256(bytes, half));
    let high = _mm256_shuffle_epi8(table(HIGH), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), half));
    _mm256_cmpgt_epi8(_mm256_and_si256(low, high), _mm256_setzero_si256())
}

#[target_feature(enable = "avx2")]
#[inline]
fn is_space(bytes: __m256i) -> __m256i {
    // Each entry is the one space character with this low half; 100 stands for none, since its own half is 4.
    const SPACES: [i8; 16] = [0x20, 100, 100, 100, 17, 100, 113, 2, 100, 9, 10, 112, 100, 13, 100, 100];
    _mm256_cmpeq_epi8(bytes, _mm256_shuffle_epi8(table(SPACES), bytes))
}

/// One of `{}[]:,`, and two control characters that the grammar then refuses.
#[target_feature(enable = "avx2")]
#[inline]
fn is_separator(bytes: __m256i) -> __m256i {
    const SEPARATORS: [i8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b':' as i8, b'{' as i8, b',' as i8, b'}' as i8, 0, 0];
    let folded = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
    _mm256_cmpeq_epi8(folded, _mm256_shuffle_epi8(table(SEPARATORS), bytes))
}

#[target_feature(enable = "avx2")]
#[inline]
fn table(half: [i8; 16]) -> __m256i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = half;
    _mm256_setr_epi8(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
}
