//! Which bytes of a word the filter compares, and which words share a bucket.

use std::cmp::Reverse;

use super::filter::{Halves, WINDOW, Window};
use super::shape::Set;

/// Bytes of a window that must be more than any.
const SHORTEST: usize = 3;
const BUCKETS: usize = 16;
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

/// Puts each window into the bucket that it makes the least busier; those of `apart` have the first buckets.
pub fn sort(windows: &[Window], apart: &[Vec<Window>]) -> [Halves; 2] {
    let mut order: Vec<&Window> =
        windows.iter().filter(|window| !apart.iter().flatten().any(|w| w == *window)).collect();
    order.sort_by_cached_key(|window| Reverse(rank(window.each_ref().map(share))));
    let mut buckets = vec![(Bucket::default(), 0.0); BUCKETS];
    for (bucket, windows) in buckets.iter_mut().zip(apart) {
        bucket.0 = windows.iter().fold(Bucket::default(), |bucket, window| or(&bucket, &of(window)));
    }
    for window in order {
        let window = of(window);
        let mut best = (0, f64::MAX, 0.0);
        for (number, (bucket, before)) in buckets.iter().enumerate().skip(apart.len()) {
            let after = busy(&or(bucket, &window));
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

/// A bucket with one window in it.
fn of(window: &Window) -> Bucket {
    window.map(|set| set.iter().fold([0, 0], |[low, high], byte| [low | 1 << (byte & 15), high | 1 << (byte >> 4)]))
}

/// How often a bucket asks the exact table in vain, roughly.
fn busy(bucket: &Bucket) -> f64 {
    let halves = |bits: u16| (0..16).filter(move |half| bits >> half & 1 == 1);
    let share = |[low, high]: &[u16; 2]| -> f64 {
        halves(*high).map(|high| halves(*low).map(|low| FREQUENCIES[high << 4 | low]).sum::<f64>()).sum()
    };
    bucket.iter().map(share).product()
}
