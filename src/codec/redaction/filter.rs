//! The filter in front of all rules: one pass over the bytes that tells where a rule should look.
//!
//! Words are found by four bytes of each (its window), sorted into sixteen buckets: a byte's two halves look up
//! the buckets it may belong to, and only where all four bytes agree is the exact table asked. Cards, IBANs and
//! encoded text have no words, so runs of digits and of letters are found in bitmaps of 64 bytes each.

use super::shape::Set;

/// Where a rule should look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    pub at: u32,
    pub sign: Sign,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// The window of a word begins here.
    Window(u8),
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
pub const MAX_WINDOWS: usize = 128;
/// Bytes of a window.
pub const WINDOW: usize = 4;

pub type Window = [Set; WINDOW];

/// One lookup table for each half of each byte of a window: bit n stands for bucket n.
#[derive(Clone, Default)]
pub struct Halves {
    pub low: [[u8; 16]; WINDOW],
    pub high: [[u8; 16]; WINDOW],
}

pub struct Filter {
    /// For each byte of a window the windows it fits.
    exact: Box<[[u128; 256]; WINDOW]>,
    /// Two times eight buckets.
    pub(super) halves: [Halves; 2],
}

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
    pub fn new(windows: &[Window]) -> Filter {
        assert!(windows.len() <= MAX_WINDOWS, "a filter has at most {MAX_WINDOWS} windows");
        let mut exact: Box<[[u128; 256]; WINDOW]> =
            vec![[0; 256]; WINDOW].into_boxed_slice().try_into().expect("made with this length");
        for (number, window) in windows.iter().enumerate() {
            for (table, set) in exact.iter_mut().zip(window) {
                set.iter().for_each(|byte| table[usize::from(byte)] |= 1 << number);
            }
        }
        Filter { exact, halves: sort_into_buckets(windows) }
    }

    /// Appends the hits in `text`, nearly in order.
    pub fn scan(&self, text: &[u8], hits: &mut Vec<Hit>) {
        #[cfg(target_arch = "x86_64")]
        if super::avx2::is_there() {
            return super::avx2::scan(self, text, hits);
        }
        self.scan_plain(text, hits);
    }

    /// The safe twin: the same hits without special instructions.
    pub fn scan_plain(&self, text: &[u8], hits: &mut Vec<Hit>) {
        let (mut walk, mut base) = (Walk::default(), 0);
        while base < text.len() {
            walk.step(self, text, base, self.masks(&block_at(text, base)), hits);
            base += BLOCK;
        }
    }

    fn masks(&self, block: &[u8; BLOCK + AHEAD]) -> Masks {
        let mut masks = Masks::default();
        for (at, byte) in block[..BLOCK].iter().enumerate() {
            let bit = 1 << at;
            if self.windows_at(block, at) != 0 {
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

    /// The windows that begin at `at`, one bit each.
    #[inline]
    fn windows_at(&self, text: &[u8], at: usize) -> u128 {
        match text.get(at..at + WINDOW) {
            Some(bytes) => (0..WINDOW).fold(u128::MAX, |all, n| all & self.exact[n][usize::from(bytes[n])]),
            None => 0,
        }
    }
}

/// The block that begins at `base`, filled up with zeros at the end of the text.
pub fn block_at(text: &[u8], base: usize) -> [u8; BLOCK + AHEAD] {
    let mut block = [0; BLOCK + AHEAD];
    let rest = &text[base..text.len().min(base + BLOCK + AHEAD)];
    block[..rest.len()].copy_from_slice(rest);
    block
}

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
    pub fn step(&mut self, filter: &Filter, text: &[u8], base: usize, masks: Masks, hits: &mut Vec<Hit>) {
        let mut windows = masks.windows;
        while windows != 0 {
            let at = base + windows.trailing_zeros() as usize;
            windows &= windows - 1;
            let mut exact = filter.windows_at(text, at);
            while exact != 0 {
                hits.push(Hit { at: at as u32, sign: Sign::Window(exact.trailing_zeros() as u8) });
                exact &= exact - 1;
            }
        }
        push_all(masks.at, base, 0, Sign::At, hits);
        let joined = masks.digit | masks.blank & carried(masks.digit, self.digit, 1);
        push_all(self.digits.thirteen(joined), base, DIGITS - 1, Sign::Digits, hits);
        push_all(self.letters.twenty_four(masks.base64), base, RUN - 1, Sign::Run, hits);
        let country = masks.digit
            & carried(masks.digit, self.digit, 1)
            & carried(masks.upper, self.upper, 2)
            & carried(masks.upper, self.upper, 3);
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

#[inline(always)]
fn push_all(mut mask: u64, base: usize, back: u32, sign: Sign, hits: &mut Vec<Hit>) {
    while mask != 0 {
        hits.push(Hit { at: base as u32 + mask.trailing_zeros() - back, sign });
        mask &= mask - 1;
    }
}

// --- windows and buckets ---

/// The best four neighbours of `sets` to look for, and how far behind the first they begin.
/// Bytes that JSON may escape with a backslash are avoided.
pub fn best_window(sets: &[Set]) -> Option<(usize, Window)> {
    let any = Set::of(0..=255);
    let plain = |set: &Set| !b"\"\\/".iter().any(|byte| set.has(*byte));
    let padded: Vec<Set> = sets.iter().copied().chain([any; WINDOW - 1]).collect();
    (0..sets.len().saturating_sub(2).min(24))
        .map(|at| (at, [padded[at], padded[at + 1], padded[at + 2], padded[at + 3]]))
        .filter(|(_, window)| window[..3].iter().all(plain) && (window[3] == any || plain(&window[3])))
        .min_by(|(_, a), (_, b)| chance(a).total_cmp(&chance(b)))
}

/// How often a window is seen by chance, roughly.
fn chance(window: &Window) -> f64 {
    window.iter().map(|set| set.iter().map(frequency).sum::<f64>()).product()
}

/// The share of a byte in logs and code, roughly.
fn frequency(byte: u8) -> f64 {
    match byte {
        b'e' | b't' | b'a' | b' ' => 0.05,
        b'o' | b'i' | b'n' | b's' | b'r' | b'"' => 0.035,
        b'l' | b'd' | b'c' | b'p' | b'm' | b'u' | b'_' | b'\\' | b'0'..=b'9' => 0.018,
        b'f' | b'h' | b'g' | b'y' | b'.' | b',' | b':' | b'-' | b'=' | b'(' | b')' => 0.012,
        b'b' | b'v' | b'w' | b'k' | b'x' | b'/' => 0.007,
        b'j' | b'q' | b'z' | b'A'..=b'Z' => 0.0025,
        0x80.. => 0.001,
        _ => 0.001,
    }
}

/// Puts each window into the bucket that it makes the least busier.
fn sort_into_buckets(windows: &[Window]) -> [Halves; 2] {
    const BUCKETS: usize = 16;
    let mut order: Vec<&Window> = windows.iter().collect();
    order.sort_by(|a, b| chance(b).total_cmp(&chance(a)));
    let frequencies = std::array::from_fn(|byte| frequency(byte as u8));
    let mut buckets = vec![(Bucket::default(), 0.0); BUCKETS];
    for window in order {
        let window = with(&Bucket::default(), window);
        let mut best = (0, f64::MAX, 0.0);
        for (number, (bucket, before)) in buckets.iter().enumerate() {
            let after = busy(&or(bucket, &window), &frequencies);
            if after - before < best.1 {
                best = (number, after - before, after);
            }
        }
        let bucket = &mut buckets[best.0];
        *bucket = (or(&bucket.0, &window), best.2);
    }
    let mut halves: [Halves; 2] = Default::default();
    for (number, (bucket, _)) in buckets.iter().enumerate() {
        let (tables, bit) = (&mut halves[number / 8], 1u8 << (number % 8));
        for (place, [low, high]) in bucket.iter().enumerate() {
            for half in (0..16).filter(|half| low >> half & 1 == 1) {
                tables.low[place][half] |= bit;
            }
            for half in (0..16).filter(|half| high >> half & 1 == 1) {
                tables.high[place][half] |= bit;
            }
        }
    }
    halves
}

/// The low and high halves of the bytes that a bucket lets through, one bit for each half.
type Bucket = [[u16; 2]; WINDOW];

fn or(one: &Bucket, two: &Bucket) -> Bucket {
    std::array::from_fn(|place| std::array::from_fn(|half| one[place][half] | two[place][half]))
}

/// A bucket with one more window in it.
fn with(bucket: &Bucket, window: &Window) -> Bucket {
    let mut bucket = *bucket;
    for (halves, set) in bucket.iter_mut().zip(window) {
        for byte in set.iter() {
            halves[0] |= 1 << (byte & 15);
            halves[1] |= 1 << (byte >> 4);
        }
    }
    bucket
}

/// How often a bucket asks the exact table in vain.
fn busy(bucket: &Bucket, frequencies: &[f64; 256]) -> f64 {
    let share = |[low, high]: &[u16; 2]| -> f64 {
        let passes = |byte: usize| low >> (byte & 15) & high >> (byte >> 4) & 1 == 1;
        frequencies.iter().enumerate().filter(|(byte, _)| passes(*byte)).map(|(_, share)| share).sum()
    };
    bucket.iter().map(share).product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter() -> Filter {
        let word = |text: &[u8; 4]| text.map(Set::any_case);
        Filter::new(&[word(b"pass"), word(b"akia"), [b'g', b'h', b'p', b'_'].map(|b| Set::of([b]))])
    }

    fn hits(filter: &Filter, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        filter.scan_plain(text, &mut hits);
        hits
    }

    #[test]
    fn signs_are_found_wherever_a_block_ends() {
        for before in 0..140 {
            let text = [&vec![b'.'; before], b"PASS x@ 4111 1111 1111 1111 DE89 ".as_slice()].concat();
            let mut found = hits(&filter(), &text);
            found.sort_by_key(|hit| hit.at);
            let sign = |at: usize, sign| Hit { at: (before + at) as u32, sign };
            let expected =
                [sign(0, Sign::Window(0)), sign(6, Sign::At), sign(8, Sign::Digits), sign(28, Sign::Country)];
            assert_eq!(found, expected, "{before}");
        }
        let run = [b".".as_slice(), &[b'q'; 24], b"."].concat();
        assert_eq!(hits(&filter(), &run), [Hit { at: 1, sign: Sign::Run }]);
        assert_eq!(hits(&filter(), &run[2..]), []);
    }

    proptest! {
        #[test]
        fn the_fast_scan_finds_what_the_plain_one_finds(
            text in proptest::collection::vec(
                prop_oneof![Just(b'p'), Just(b'A'), Just(b's'), Just(b'1'), Just(b' '), Just(b'@'), any::<u8>()],
                0..300,
            ),
        ) {
            let (filter, mut fast) = (filter(), Vec::new());
            filter.scan(&text, &mut fast);
            prop_assert_eq!(fast, hits(&filter, &text));
        }
    }
}
