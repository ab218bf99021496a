//! The filter in front of all rules: one pass that finds the positions where a rule must look.
//!
//! Words are found by five bytes of each (its window), sorted into buckets: a byte, or its two halves, look up the
//! buckets it may belong to, and only where all five bytes agree is the exact table asked. Cards, IBANs and encoded
//! text have no words, so runs of digits and of letters are found in bitmaps of 64 bytes each.

use std::sync::OnceLock;

use super::buckets;
use super::shape::Set;

/// Where a rule should look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    pub at: u32,
    /// The sign, in the order in which signs at the same place are looked at.
    sign: u32,
}

impl Hit {
    #[inline]
    pub fn new(at: u32, sign: Sign) -> Hit {
        // A run is searched before the words within it, which may cover only a part of it.
        let sign = match sign {
            Sign::At => 0,
            Sign::Digits => 1,
            Sign::Run => 2,
            Sign::Country => 3,
            Sign::Window(window) => FIRST_WINDOW + u32::from(window),
        };
        Hit { at, sign }
    }

    #[inline]
    pub fn sign(self) -> Sign {
        match self.sign {
            0 => Sign::At,
            1 => Sign::Digits,
            2 => Sign::Run,
            3 => Sign::Country,
            window => Sign::Window((window - FIRST_WINDOW) as u16),
        }
    }

    /// The same hit in a part of the text that begins there.
    pub fn moved_back(self, by: usize) -> Hit {
        Hit { at: self.at - by as u32, sign: self.sign }
    }

    #[inline]
    pub fn is_at(self) -> bool {
        self.sign == 0
    }

    /// The window of a word, if the hit is one.
    #[inline]
    pub fn window(self) -> Option<u16> {
        self.sign.checked_sub(FIRST_WINDOW).map(|window| window as u16)
    }

    #[inline]
    fn order(self) -> u64 {
        u64::from(self.at) << 32 | u64::from(self.sign)
    }
}

/// The number that stands for the first window.
const FIRST_WINDOW: u32 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// The window of a word begins here.
    Window(u16),
    /// An `@`.
    At,
    /// A run of at least [`DIGITS`] digits, single blanks and hyphens, begins here.
    Digits,
    /// Two capital letters and two digits begin here.
    Country,
    /// A run of at least [`RUN`] characters of base64 begins here.
    Run,
}

/// Shortest run of digits that can be a card.
pub const DIGITS: u32 = 13;
/// Shortest run that is looked at as encoded text.
pub const RUN: u32 = 24;
/// The most windows a filter has.
pub const MAX_WINDOWS: usize = 128 * PARTS;
const PARTS: usize = 4;
/// Bytes of a window.
pub const WINDOW: usize = 5;

pub type Window = [Set; WINDOW];

/// Some of the windows, one bit each.
type Fit = [u128; PARTS];

/// One lookup table for each half of each byte of a window: bit n stands for bucket n.
#[derive(Clone, Default)]
pub struct Halves {
    pub low: [[u8; 16]; WINDOW],
    pub high: [[u8; 16]; WINDOW],
}

/// Buckets are looked up eight at a time.
pub const GROUPS: usize = 4;

/// One lookup table for each byte of a window, which knows all bits of a byte but the highest, and the buckets whose
/// windows begin with that bit clear or set.
#[repr(align(64))]
pub struct Bytes {
    pub tables: [[[u8; 128]; WINDOW]; GROUPS],
    pub ascii: [u8; GROUPS],
    pub foreign: [u8; GROUPS],
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes { tables: [[[0; 128]; WINDOW]; GROUPS], ascii: [0; GROUPS], foreign: [0; GROUPS] }
    }
}

pub struct Filter {
    windows: Vec<Window>,
    /// For each byte of a window the windows it fits, one bit each.
    exact: Box<[[Fit; 256]; WINDOW]>,
    /// One bit for each pair of bytes that some window begins with: most candidates of the buckets end here.
    pairs: Box<[u64; PAIRS]>,
    /// Tables for the instructions that the processor has; the others are made only by tests.
    halves: OnceLock<[Halves; 2]>,
    bytes: OnceLock<Box<Bytes>>,
}

/// Words of 64 bits that hold one for each pair of bytes.
const PAIRS: usize = 65_536 / 64;

/// What is known of 64 bytes: bit n of each stands for byte n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Masks {
    pub windows: u64,
    pub at: u64,
    pub digit: u64,
    pub blank: u64,
    pub upper: u64,
    pub base64: u64,
}

/// Bytes in a block, and how many a block looks at beyond its end.
pub const BLOCK: usize = 64;
pub const AHEAD: usize = WINDOW - 1;

impl Filter {
    pub fn new(windows: Vec<Window>) -> Filter {
        assert!(windows.len() <= MAX_WINDOWS, "a filter has at most {MAX_WINDOWS} windows");
        let mut exact: Box<[[Fit; 256]; WINDOW]> =
            vec![[[0; PARTS]; 256]; WINDOW].into_boxed_slice().try_into().expect("made with this length");
        for (number, window) in windows.iter().enumerate() {
            for (table, set) in exact.iter_mut().zip(window) {
                set.iter().for_each(|byte| table[usize::from(byte)][number / 128] |= 1 << (number % 128));
            }
        }
        let mut pairs = Box::new([0; PAIRS]);
        for pair in 0..=u16::MAX {
            let [first, second] = pair.to_le_bytes();
            let (first, second) = (exact[0][usize::from(first)], exact[1][usize::from(second)]);
            let begins = (0..PARTS).any(|part| first[part] & second[part] != 0);
            pairs[usize::from(pair) / 64] |= u64::from(begins) << (pair % 64);
        }
        let filter = Filter { windows, exact, pairs, halves: OnceLock::new(), bytes: OnceLock::new() };
        // Not when the first event comes.
        filter.scan(&[], &mut Vec::new());
        filter
    }

    /// Two times eight buckets.
    pub(super) fn halves(&self) -> &[Halves; 2] {
        self.halves.get_or_init(|| buckets::by_halves(&self.windows))
    }

    pub(super) fn bytes(&self) -> &Bytes {
        self.bytes.get_or_init(|| buckets::by_bytes(&self.windows))
    }

    /// Appends the hits in `text`, in order but for runs, which are seen at their end.
    pub fn scan(&self, text: &[u8], hits: &mut Vec<Hit>) {
        #[cfg(target_arch = "x86_64")]
        if super::avx512::is_there() {
            return super::avx512::scan(self, text, hits);
        }
        #[cfg(target_arch = "x86_64")]
        if super::avx2::is_there() {
            return super::avx2::scan(self, text, hits);
        }
        self.scan_plain(text, hits);
    }

    /// The safe twin: the same hits without special instructions.
    pub fn scan_plain(&self, text: &[u8], hits: &mut Vec<Hit>) {
        let (mut walk, mut base, mut candidates) = (Walk::default(), 0, NO_CANDIDATES);
        while base < text.len() {
            let masks = [self.masks(&block_at(text, base))];
            let before = hits.len();
            self.find_windows(text, base, &masks, &mut candidates, hits);
            let words = hits.len();
            walk.step(base, masks[0], hits);
            put_among_words(hits, before, words);
            base += BLOCK;
        }
    }

    fn masks(&self, block: &[u8; BLOCK + AHEAD]) -> Masks {
        let mut masks = Masks::default();
        for (at, byte) in block[..BLOCK].iter().enumerate() {
            let bit = 1 << at;
            if self.windows_at(block, at) != [0; PARTS] {
                masks.windows |= bit;
            }
            match byte {
                b'@' => masks.at |= bit,
                b'0'..=b'9' => {
                    masks.digit |= bit;
                    masks.base64 |= bit;
                }
                b' ' => masks.blank |= bit,
                b'-' => {
                    masks.blank |= bit;
                    masks.base64 |= bit;
                }
                b'A'..=b'Z' => {
                    masks.upper |= bit;
                    masks.base64 |= bit;
                }
                b'a'..=b'z' | b'+' | b'/' | b'_' => masks.base64 |= bit,
                _ => {}
            }
        }
        masks
    }

    /// Appends the windows among the candidates of these blocks, of which the first begins at `base`.
    ///
    /// Candidates are many and their number is hard to predict, so they are written down and thinned out without
    /// branches; few are left to be looked at.
    #[inline(always)]
    pub fn find_windows(
        &self,
        text: &[u8],
        base: usize,
        blocks: &[Masks],
        candidates: &mut [u32],
        hits: &mut Vec<Hit>,
    ) {
        let mut count = 0;
        for (block, masks) in blocks.iter().enumerate() {
            let (mut windows, start) = (masks.windows, (base + block * BLOCK) as u32);
            let end = count + windows.count_ones() as usize;
            while count < end {
                for candidate in &mut candidates[count..count + AT_ONCE] {
                    *candidate = start + windows.trailing_zeros();
                    windows &= windows.wrapping_sub(1);
                }
                count += AT_ONCE;
            }
            count = end;
        }
        let mut left = 0;
        for nth in 0..count {
            let at = candidates[nth] as usize;
            candidates[left] = at as u32;
            left += usize::from(self.may_begin(text, at));
        }
        for at in candidates[..left].iter().map(|at| *at as usize) {
            self.push_windows(text, at, hits);
        }
    }

    /// The same for one block with few candidates, which are looked at one by one.
    #[inline(always)]
    pub fn find_few_windows(&self, text: &[u8], base: usize, mut windows: u64, hits: &mut Vec<Hit>) {
        while windows != 0 {
            let at = base + windows.trailing_zeros() as usize;
            if self.may_begin(text, at) {
                self.push_windows(text, at, hits);
            }
            windows &= windows - 1;
        }
    }

    #[inline(always)]
    fn push_windows(&self, text: &[u8], at: usize, hits: &mut Vec<Hit>) {
        for (part, mut exact) in self.windows_at(text, at).into_iter().enumerate() {
            while exact != 0 {
                let number = 128 * part as u16 + exact.trailing_zeros() as u16;
                hits.push(Hit::new(at as u32, Sign::Window(number)));
                exact &= exact - 1;
            }
        }
    }

    /// Whether some window begins with the two bytes at `at`.
    #[inline(always)]
    fn may_begin(&self, text: &[u8], at: usize) -> bool {
        let pair = u16::from_le_bytes([text[at], text.get(at + 1).copied().unwrap_or(0)]);
        self.pairs[usize::from(pair) / 64] >> (pair % 64) & 1 == 1
    }

    /// The windows that begin at `at`, one bit each.
    #[inline(always)]
    fn windows_at(&self, text: &[u8], at: usize) -> Fit {
        // Written out: a loop by iterators is called where this is part of a function with vector instructions.
        let exact = |[one, two, three, four, five]: &[u8; WINDOW]| {
            let fit = |place: usize, byte: &u8| &self.exact[place][usize::from(*byte)];
            let (one, two, three, four, five) = (fit(0, one), fit(1, two), fit(2, three), fit(3, four), fit(4, five));
            let part = |part: usize| one[part] & two[part] & three[part] & four[part] & five[part];
            [part(0), part(1), part(2), part(3)]
        };
        match text[at..].first_chunk() {
            Some(bytes) => exact(bytes),
            None => {
                let mut bytes = [0; WINDOW];
                bytes[..text.len() - at].copy_from_slice(&text[at..]);
                exact(&bytes)
            }
        }
    }
}

/// Puts all hits in order, which are nearly so: what a run is, is seen only behind its beginning.
pub fn put_in_order(hits: &mut [Hit]) {
    put_among(hits, 1);
}

/// Puts the hits from `words` on among the words in front of them, which are in order from `first` on.
#[inline]
pub fn put_among_words(hits: &mut [Hit], first: usize, words: usize) {
    if words < hits.len() {
        merge(&mut hits[first..], words - first);
    }
}

/// Moves the hits from the n-th on, which are few and in some order of their own, among the others.
fn merge(hits: &mut [Hit], words: usize) {
    const FEW: usize = 32;
    let (mut signs, count) = ([Hit { at: 0, sign: 0 }; FEW], hits.len() - words);
    if count > FEW {
        return hits.sort_unstable_by_key(|hit| hit.order());
    }
    signs[..count].copy_from_slice(&hits[words..]);
    put_among(&mut signs[..count], 1);
    let (mut word, mut sign) = (words, count);
    // From the end on, where there is space.
    while sign > 0 {
        let key = signs[sign - 1].order();
        while word > 0 && hits[word - 1].order() > key {
            hits[word + sign - 1] = hits[word - 1];
            word -= 1;
        }
        hits[word + sign - 1] = signs[sign - 1];
        sign -= 1;
    }
}

/// Moves each hit from the n-th on to its place among those in front of it: none has far to go.
fn put_among(hits: &mut [Hit], nth: usize) {
    for nth in nth.max(1)..hits.len() {
        let hit = hits[nth];
        let key = hit.order();
        if hits[nth - 1].order() <= key {
            continue;
        }
        let mut at = nth;
        while at > 0 && hits[at - 1].order() > key {
            hits[at] = hits[at - 1];
            at -= 1;
        }
        hits[at] = hit;
    }
}

/// The block that begins at `base`, filled up with zeros at the end of the text.
pub fn block_at(text: &[u8], base: usize) -> [u8; BLOCK + AHEAD] {
    let mut block = [0; BLOCK + AHEAD];
    let rest = &text[base..text.len().min(base + BLOCK + AHEAD)];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Blocks whose masks are made in one go, before any is looked at: both loops stay small.
pub const TOGETHER: usize = 8;
/// The strings of most events are short: for them it does not pay to prepare for so many blocks.
pub const SHORT: usize = 3 * BLOCK;
/// Candidates that are written down without asking whether there are as many.
pub const AT_ONCE: usize = 4;
/// Space for the candidates of all these blocks.
pub const NO_CANDIDATES: [u32; TOGETHER * BLOCK + AT_ONCE] = [0; TOGETHER * BLOCK + AT_ONCE];

/// What runs from one block into the next.
#[derive(Default)]
pub struct Walk {
    digits: Growing,
    letters: Growing,
    digit: u64,
    upper: u64,
}

/// Runs that have reached a length: bit n says that the last 1, 2, 4, … bytes up to n belong.
#[derive(Default)]
struct Growing {
    one: u64,
    two: u64,
    four: u64,
    eight: u64,
    full: u64,
}

/// `now` moved up by `by` places, its lowest bits coming from the block before.
#[inline(always)]
fn carried(now: u64, before: u64, by: u32) -> u64 {
    now << by | before >> (64 - by)
}

impl Walk {
    #[inline(always)]
    pub fn step(&mut self, base: usize, masks: Masks, hits: &mut Vec<Hit>) {
        push_all(masks.at, base, 0, Sign::At, hits);
        let joined = masks.digit | masks.blank & carried(masks.digit, self.digit, 1);
        push_all(self.digits.thirteen(joined), base, DIGITS - 1, Sign::Digits, hits);
        push_all(self.letters.twenty_four(masks.base64), base, RUN - 1, Sign::Run, hits);
        let two_digits = masks.digit & carried(masks.digit, self.digit, 1);
        let country = two_digits & carried(masks.upper, self.upper, 2) & carried(masks.upper, self.upper, 3);
        push_all(country, base, 3, Sign::Country, hits);
        (self.digit, self.upper) = (masks.digit, masks.upper);
    }
}

impl Growing {
    /// Where the last 13 bytes belong for the first time.
    #[inline(always)]
    fn thirteen(&mut self, one: u64) -> u64 {
        let two = one & carried(one, self.one, 1);
        let four = two & carried(two, self.two, 2);
        let eight = four & carried(four, self.four, 4);
        let full = eight & carried(eight, self.eight, 5);
        let first = full & !carried(full, self.full, 1);
        *self = Growing { one, two, four, eight, full };
        first
    }

    /// Where the last 24 bytes belong for the first time.
    #[inline(always)]
    fn twenty_four(&mut self, one: u64) -> u64 {
        let two = one & carried(one, self.one, 1);
        let four = two & carried(two, self.two, 2);
        let eight = four & carried(four, self.four, 4);
        let sixteen = eight & carried(eight, self.eight, 8);
        let full = sixteen & carried(eight, self.eight, 16);
        let first = full & !carried(full, self.full, 1);
        *self = Growing { one, two, four, eight, full };
        first
    }
}

/// Appends a hit for each bit, so far in front of where the bit stands.
#[inline(always)]
pub fn push_all(mut mask: u64, base: usize, back: u32, sign: Sign, hits: &mut Vec<Hit>) {
    while mask != 0 {
        hits.push(Hit::new(base as u32 + mask.trailing_zeros() - back, sign));
        mask &= mask - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter() -> Filter {
        let word = |text: &[u8; 5]| text.map(Set::any_case);
        let any = Set::of(0..=255);
        let short = [Set::of([b'p']), Set::of([b'A']), any, any, any];
        Filter::new(vec![word(b"passw"), word(b"akia1"), short])
    }

    fn hits(filter: &Filter, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        filter.scan_plain(text, &mut hits);
        hits
    }

    fn sorted(mut hits: Vec<Hit>) -> Vec<Hit> {
        hits.sort_by_key(|hit| hit.order());
        hits
    }

    #[test]
    fn signs_are_found_wherever_a_block_ends() {
        for before in 0..140 {
            let text = [&vec![b'.'; before], b"PASSWx@ 4111 1111 1111 1111 DE89 ".as_slice()].concat();
            let mut found = hits(&filter(), &text);
            found.sort_by_key(|hit| hit.at);
            let sign = |at: usize, sign| Hit::new((before + at) as u32, sign);
            let expected =
                [sign(0, Sign::Window(0)), sign(6, Sign::At), sign(8, Sign::Digits), sign(28, Sign::Country)];
            assert_eq!(found, expected, "{before}");
        }
        let run = [b".".as_slice(), &[b'q'; 24], b"."].concat();
        assert_eq!(hits(&filter(), &run), [Hit::new(1, Sign::Run)]);
        assert_eq!(hits(&filter(), &run[2..]), []);
    }

    proptest! {
        #[test]
        fn the_fast_scan_finds_what_the_plain_one_finds(
            text in proptest::collection::vec(
                prop_oneof![Just(b'p'), Just(b'A'), Just(b's'), Just(b'1'), Just(b' '), Just(b'@'), any::<u8>()],
                0..6000,
            ),
        ) {
            let (filter, mut fast) = (filter(), Vec::new());
            filter.scan(&text, &mut fast);
            prop_assert_eq!(sorted(fast), sorted(hits(&filter, &text)));
            #[cfg(target_arch = "x86_64")]
            if crate::codec::redaction::avx2::is_there() {
                let mut fast = Vec::new();
                crate::codec::redaction::avx2::scan(&filter, &text, &mut fast);
                prop_assert_eq!(sorted(fast), sorted(hits(&filter, &text)));
            }
        }
    }
}
