//! Which bytes of a word the filter compares, and which words share a bucket.

use std::cmp::Reverse;

use super::filter::{Bytes, GROUPS, Halves, WINDOW, Window};
use super::shape::Set;

/// Bytes of a window that must be more than any.
const SHORTEST: usize = 3;
/// How far behind the beginning of a word its window may begin.
const FURTHEST: usize = 24;

/// The best five neighbours of `sets` to look for, and how far behind the first they begin.
/// Bytes that JSON may escape with a backslash are avoided.
pub fn best_window(sets: &[Set]) -> Option<(usize, Window)> {
    let any = Set::of(0..=255);
    let plain = |set: &Set| !b"\"\\/".iter().any(|byte| set.has(*byte));
    let all = share(&any);
    let shares: Vec<f64> = sets.iter().take(FURTHEST + WINDOW).map(share).collect();
    (0..sets.len().min(FURTHEST))
        .filter_map(|at| {
            // Only what stands unescaped in front of the first byte that may not.
            let len = sets[at..].iter().take(WINDOW).take_while(|set| plain(set)).count();
            (len >= SHORTEST).then_some((at, len))
        })
        .min_by_key(|(at, len)| rank(std::array::from_fn(|place| if place < *len { shares[at + place] } else { all })))
        .map(|(at, len)| (at, std::array::from_fn(|place| if place < len { sets[at + place] } else { any })))
}

/// How often the best window of `sets` is seen by chance, roughly, for each byte of a text.
pub fn chance(sets: &[Set]) -> Option<f64> {
    best_window(sets)
        .map(|(_, window)| window.iter().map(share).product::<f64>() / share(&Set::of(0..=255)).powi(WINDOW as i32))
}

/// How often one of the bytes of a set is seen, roughly.
fn share(set: &Set) -> f64 {
    set.iter().map(|byte| FREQUENCIES[usize::from(byte)]).sum()
}

/// Orders windows by how often they are seen by chance, given the shares of their bytes.
fn rank(shares: [f64; WINDOW]) -> u64 {
    // The bits of numbers that are not negative are in the order of the numbers.
    shares.iter().product::<f64>().to_bits()
}

/// The share of each byte in logs and code, roughly.
const FREQUENCIES: [f64; 256] = {
    let mut table = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = frequency(byte as u8);
        byte += 1;
    }
    table
};

const fn frequency(byte: u8) -> f64 {
    match byte {
        b'"' | b'e' => 0.08,
        b't' | b' ' | b's' | b'n' | b'a' => 0.045,
        b'r' | b'o' | b'i' | b':' | b',' | b'\\' => 0.03,
        b'l' | b'c' | b'm' | b'p' | b'd' | b'u' | b'_' | b'0'..=b'2' => 0.02,
        b'f' | b'b' | b'h' | b'y' | b'.' | b'-' | b'(' | b')' | b'3'..=b'9' | b'=' | b'/' => 0.01,
        b'g' | b'v' | b'x' | b'k' | b'w' | b'{' | b'}' | b'[' | b']' => 0.005,
        b'j' | b'q' | b'z' | b'A'..=b'Z' => 0.0015,
        _ => 0.0005,
    }
}

/// The share of each byte in text that JSON has escaped: `\u06a9\u200c…`.
const ESCAPED: [f64; 256] = {
    let mut table = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0' => 0.2,
            b'6' => 0.17,
            b'\\' | b'u' => 0.15,
            b'2' | b'3' | b'4' => 0.05,
            b'1' | b'5' | b'7'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => 0.025,
            _ => 0.0005,
        };
        byte += 1;
    }
    table
};

/// The share of each byte in text of other scripts.
const FOREIGN: [f64; 256] = {
    let mut table = [0.003; 256];
    let mut byte = 0x80;
    while byte < 256 {
        table[byte] = match byte {
            0xD8..=0xDB => 0.125,
            0x80..=0xBF => 0.01,
            _ => 0.003,
        };
        byte += 1;
    }
    table
};

/// The kinds of text that windows are sorted for, and how much each counts.
const TEXTS: [(&[f64; 256], f64); 3] = [(&FREQUENCIES, 1.0), (&ESCAPED, 1.0), (&FOREIGN, 0.3)];

/// Windows that are looked for together: each byte of a window may be one of these.
#[derive(Clone, Default)]
struct Bucket {
    sets: Window,
    /// How much of each kind of text each set lets through.
    shares: [[f64; TEXTS.len()]; WINDOW],
    /// How often the bucket asks the exact table in vain, roughly.
    busy: f64,
}

impl Bucket {
    /// The bucket with one window more. `widen` says what the tables let through for a set.
    fn with(&self, window: &Window, widen: fn(usize, Set) -> Set) -> Bucket {
        let mut bucket = self.clone();
        for (place, set) in window.iter().enumerate() {
            let wider = widen(place, self.sets[place].or(*set));
            for byte in wider.without(self.sets[place]).iter() {
                for (share, (text, _)) in bucket.shares[place].iter_mut().zip(TEXTS) {
                    *share += text[usize::from(byte)];
                }
            }
            bucket.sets[place] = wider;
        }
        let seen = |kind: usize| bucket.shares.iter().map(|shares| shares[kind]).product::<f64>();
        bucket.busy = TEXTS.iter().enumerate().map(|(kind, (_, weight))| weight * seen(kind)).sum();
        bucket
    }
}

/// Puts each window into the bucket that it makes the least busier. The last `foreign` buckets are for windows that
/// begin with no ASCII.
fn sort(windows: &[Window], count: usize, foreign: usize, widen: fn(usize, Set) -> Set) -> Vec<Bucket> {
    let mut buckets = vec![Bucket::default(); count];
    let alone = |window: &&Window| Bucket::default().with(window, widen).busy.to_bits();
    let mut order: Vec<&Window> = windows.iter().collect();
    order.sort_by_cached_key(|window| Reverse(alone(window)));
    for window in order {
        let allowed = match foreign {
            0 => 0..count,
            _ if begins_with_ascii(window) => 0..count - foreign,
            _ => count - foreign..count,
        };
        let grown = allowed.map(|number| (number, buckets[number].with(window, widen)));
        let more = |(number, grown): &(usize, Bucket)| grown.busy - buckets[*number].busy;
        let best = grown.min_by(|a, b| more(a).total_cmp(&more(b)));
        let (number, grown) = best.expect("there are buckets");
        buckets[number] = grown;
    }
    buckets
}

fn begins_with_ascii(window: &Window) -> bool {
    window[0].iter().any(|byte| byte < 0x80)
}

/// Tables for processors that look up halves of bytes.
pub fn by_halves(windows: &[Window]) -> [Halves; 2] {
    let widen = |_: usize, set: Set| {
        let (low, high) =
            set.iter().fold((0u16, 0u16), |(low, high), byte| (low | 1 << (byte & 15), high | 1 << (byte >> 4)));
        Set::of((0..=255).filter(|byte: &u8| low >> (byte & 15) & 1 == 1 && high >> (byte >> 4) & 1 == 1))
    };
    let mut halves: [Halves; 2] = Default::default();
    for (number, bucket) in sort(windows, 16, 0, widen).iter().enumerate() {
        let (tables, bit) = (&mut halves[number / 8], 1u8 << (number % 8));
        for (place, set) in bucket.sets.iter().enumerate() {
            for byte in set.iter() {
                tables.low[place][usize::from(byte & 15)] |= bit;
                tables.high[place][usize::from(byte >> 4)] |= bit;
            }
        }
    }
    halves
}

/// How many buckets the windows have that begin with no ASCII.
const FOREIGN_BUCKETS: usize = 2;

/// Tables for processors that look up whole bytes, without their highest bit; of the first byte of a window that is known.
pub fn by_bytes(windows: &[Window]) -> Box<Bytes> {
    let widen = |place: usize, set: Set| if place == 0 { set } else { set.with_other_halves() };
    let mut bytes = Box::new(Bytes::default());
    for (number, bucket) in sort(windows, 8 * GROUPS, FOREIGN_BUCKETS, widen).iter().enumerate() {
        let (group, bit) = (number / 8, 1u8 << (number % 8));
        for (place, set) in bucket.sets.iter().enumerate() {
            for byte in set.iter() {
                bytes.tables[group][place][usize::from(byte & 127)] |= bit;
            }
        }
        for byte in bucket.sets[0].iter() {
            let begins = if byte < 0x80 { &mut bytes.ascii } else { &mut bytes.foreign };
            begins[group] |= bit;
        }
    }
    bytes
}
