//! Stage one of the scanner with vector instructions: the positions of structural characters.
//!
//! Sixty-four bytes at a time become bitmaps: what is escaped, what stands inside strings, what separates. Every
//! opening quote, bracket, brace, colon, comma and first byte of anything else outside of strings is a position.
//! What can be wrong inside a string (control characters, escapes, surrogates) is checked here as well, as one flag:
//! where it is raised, the safe twin looks again and says what is wrong.
//!
//! The bitmaps come from AVX2, or from AVX-512 where the machine has that ([`wide`]); what is made of them is the same.
#![allow(unsafe_code, reason = "vector instructions make the scanner four times as fast; `scalar` is its safe twin")]

use std::arch::x86_64::*;
use std::cell::Cell;

#[path = "wide.rs"]
mod wide;

const BLOCK: usize = 64;
const EVEN: u64 = 0x5555_5555_5555_5555;

/// For each low half of a byte the one space character that has it; 100 stands for none, since its own half is 4.
const SPACES: [i8; 16] = [0x20, 100, 100, 100, 17, 100, 113, 2, 100, 9, 10, 112, 100, 13, 100, 100];
/// For each low half of a byte the separator that has it, once the bit is set by which brackets differ from braces.
const SEPARATORS: [i8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b':' as i8, b'{' as i8, b',' as i8, b'}' as i8, 0, 0];

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
pub struct Index {
    is_wide: bool,
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

/// The loop over the blocks of a text, once for each set of instructions: what is inlined must be compiled with the same.
macro_rules! blocks {
    ($name:ident, $features:literal, $bitmaps:path, $flatten:path) => {
        #[target_feature(enable = $features)]
        fn $name(&mut self, text: &[u8], to: usize) {
            let (mut carry, mut count, mut at) = (self.carry, self.count, self.done);
            let positions = &mut self.positions[..];
            while let Some(block) = text[at..to].first_chunk::<BLOCK>() {
                let bits = Place::<false> { block, skip: 0, text, at }.positions($bitmaps(block), &mut carry);
                count += $flatten(bits, at as u32, &mut positions[count..]);
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
                let skip = (BLOCK - rest) as u32;
                let bits = Place::<true> { block, skip, text, at }.positions($bitmaps(block), &mut carry);
                count += $flatten(bits, at as u32, &mut positions[count..]);
            }
            (self.carry, self.count, self.done) = (carry, count, to);
        }
    };
}

/// The longest list of positions that a thread keeps: 512 KiB, for texts of up to 128 KiB.
const MOST_KEPT: usize = 128 * 1024;

thread_local! {
    /// Positions of an index that is gone, for the next one: each chunk is read by a scanner of its own, and to touch the
    /// memory for large events anew costs more than to scan them.
    static KEPT: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

impl Drop for Index {
    fn drop(&mut self) {
        let positions = std::mem::take(&mut self.positions);
        if positions.len() <= MOST_KEPT {
            // A thread that ends keeps nothing.
            let _ = KEPT.try_with(|kept| {
                let before = kept.take();
                kept.set(if before.len() > positions.len() { before } else { positions });
            });
        }
    }
}

impl Index {
    /// With the best instructions that this machine has; [`available`] must have said yes.
    pub fn new() -> Index {
        let positions = KEPT.try_with(Cell::take).unwrap_or_default();
        Index { is_wide: wide::available(), positions, count: 0, done: 0, carry: Carry::default() }
    }

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
        // SAFETY: the caller has asked `available`, and `new` has asked `wide::available`, which name the same features.
        unsafe { if self.is_wide { self.wide_blocks(text, to) } else { self.blocks(text, to) } };
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

    blocks!(blocks, "avx2,pclmulqdq,bmi1,bmi2,popcnt,lzcnt", Bitmaps::of, flatten);
    blocks!(
        wide_blocks,
        "avx512f,avx512bw,avx512vbmi2,avx2,pclmulqdq,bmi1,bmi2,popcnt,lzcnt",
        wide::bitmaps,
        wide::flatten
    );
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

/// What the bytes of a block are, one bit for each.
#[derive(Clone, Copy)]
struct Bitmaps {
    beyond_ascii: u64,
    backslash: u64,
    quote: u64,
    /// The letter `n`.
    n: u64,
    control: u64,
    space: u64,
    separator: u64,
}

impl Bitmaps {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Bitmaps {
        let pair = Pair::load(block);
        Bitmaps {
            beyond_ascii: pair.bits(|bytes| bytes),
            backslash: pair.equal(b'\\'),
            quote: pair.equal(b'"'),
            n: pair.equal(b'n'),
            control: pair.bits(|bytes| at_most(bytes, 0x1F)),
            space: pair.bits(|bytes| is_space(bytes)),
            separator: pair.bits(|bytes| is_separator(bytes)),
        }
    }

    fn without_first(self, skip: u32) -> Bitmaps {
        Bitmaps {
            beyond_ascii: self.beyond_ascii >> skip,
            backslash: self.backslash >> skip,
            quote: self.quote >> skip,
            n: self.n >> skip,
            control: self.control >> skip,
            space: self.space >> skip,
            separator: self.separator >> skip,
        }
    }
}

/// Sixty-four bytes in two registers.
struct Pair {
    low: __m256i,
    high: __m256i,
}

impl Pair {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(bytes: &[u8; BLOCK]) -> Pair {
        let start = bytes.as_ptr();
        // SAFETY: both unaligned loads of 32 bytes lie within the 64 bytes borrowed.
        let (low, high) = unsafe { (_mm256_loadu_si256(start.cast()), _mm256_loadu_si256(start.add(32).cast())) };
        Pair { low, high }
    }

    /// One bit per byte whose highest bit `f` sets.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn bits(&self, f: impl Fn(__m256i) -> __m256i) -> u64 {
        let (low, high) = (_mm256_movemask_epi8(f(self.low)), _mm256_movemask_epi8(f(self.high)));
        u64::from(low as u32) | u64::from(high as u32) << 32
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn equal(&self, byte: u8) -> u64 {
        self.bits(|bytes| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8)))
    }
}

/// A block and where it stands. `LAST` marks the last block of a text, whose first bytes may belong to the block before:
/// so many bits are then shifted out of every bitmap.
struct Place<'t, const LAST: bool> {
    block: &'t [u8; BLOCK],
    skip: u32,
    text: &'t [u8],
    at: usize,
}

impl<const LAST: bool> Place<'_, LAST> {
    fn skip(&self) -> u32 {
        if LAST { self.skip } else { 0 }
    }

    #[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2,popcnt,lzcnt")]
    #[inline]
    fn positions(&self, bitmaps: Bitmaps, carry: &mut Carry) -> u64 {
        let is = if LAST { bitmaps.without_first(self.skip) } else { bitmaps };
        let live = u64::MAX >> self.skip();
        carry.beyond_ascii |= is.beyond_ascii;

        let escaped = escaped(is.backslash, self.skip(), carry);
        let quote = is.quote & !escaped;
        // Ones from an opening quote up to the byte before the closing one.
        let in_string = prefix_xor(quote) ^ carry.in_string;
        carry.in_string = ((in_string << self.skip()) as i64 >> 63) as u64;

        carry.fault |= in_string & live & is.control;
        // Of the escapes these two are common; the others are looked at only where there are any.
        let rare = escaped & !(is.quote | is.n);
        if rare | carry.hex != 0 {
            // By value: a carry whose address is known could not stay in registers.
            *carry = self.rare_escapes(rare, *carry);
        }

        let scalar = !(is.space | is.separator) & live;
        let other = scalar & !quote;
        let starts = scalar & !(other << 1 | carry.scalar);
        carry.scalar = other << self.skip() >> 63;
        (is.separator | starts) & !(in_string ^ quote)
    }

    /// Checks what is escaped at these bits, and the `\uXXXX` among it: four digits each, surrogates in pairs.
    /// What a backslash outside of strings escapes is checked the same way: that text is refused anyway.
    #[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2,popcnt,lzcnt")]
    #[inline(never)]
    fn rare_escapes(&self, escaped: u64, mut carry: Carry) -> Carry {
        let (pair, text, at) = (Pair::load(self.block), self.text, self.at);
        let skip = self.skip();
        carry.fault |= escaped & !(pair.bits(|bytes| may_be_escaped(bytes)) >> skip);
        let u = escaped & pair.equal(b'u') >> skip;
        if u | carry.hex == 0 {
            return carry;
        }
        let live = u64::MAX >> skip;
        let len = BLOCK as u32 - skip;
        let u_wide = u128::from(u);
        let due = u_wide << 1 | u_wide << 2 | u_wide << 3 | u_wide << 4 | u128::from(carry.hex);
        let hex = pair.bits(|bytes| is_hex(bytes)) >> skip;
        carry.fault |= due as u64 & live & !hex;
        carry.hex = (due >> len) as u64;

        let d = (u << 1 | carry.after_u) & (pair.equal(b'd') | pair.equal(b'D')) >> skip;
        let mut surrogates = (d << 1 | carry.after_d) & hex & !(pair.bits(|bytes| is_low_digit(bytes)) >> skip);
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
    _mm256_cmpeq_epi8(bytes, _mm256_shuffle_epi8(table(SPACES), bytes))
}

/// One of `{}[]:,`, and two control characters that the grammar then refuses.
#[target_feature(enable = "avx2")]
#[inline]
fn is_separator(bytes: __m256i) -> __m256i {
    let folded = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
    _mm256_cmpeq_epi8(folded, _mm256_shuffle_epi8(table(SEPARATORS), bytes))
}

#[target_feature(enable = "avx2")]
#[inline]
fn table(half: [i8; 16]) -> __m256i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = half;
    _mm256_setr_epi8(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
}
