//! Percentiles: exact for few values, within one percent for many.

use super::duration_key::{key_of, ms_of};

/// Values that are kept one by one where there is one percentile: 4 MiB. Parts give only the greatest twentieth of theirs
/// ([`super::value_tops`]), so that this is enough for twenty million events.
pub const MAX_EXACT: usize = 1 << 20;
/// The same where there is one for each of some groups, and of many: buckets take less room than more values.
pub const MAX_EXACT_OF_GROUP: usize = 1024;
pub const MAX_EXACT_OF_MANY: usize = 128;
/// Buckets by which a value doubles. Two values in one bucket differ by less than two percent, and a bucket stands for its
/// middle: durations from 1 to 1,000 take 400 bytes.
const OF_DOUBLE: f64 = 40.0;
/// Buckets of values up to 1e12 and down to 1e-12: what is beyond counts as the greatest or the least of them.
const MAX_BUCKET: i32 = 40 * OF_DOUBLE as i32;
/// Buckets are made so many at a time.
const STEP: usize = 64;
/// A bucket holds fewer than this in its byte.
const CARRY: u64 = 256;

/// Made of the keys of durations. Of those that it was not told, it knows their number and that they are among the least.
pub struct Percentile {
    max_exact: usize,
    exact: Vec<i32>,
    /// Once there are too many: counts by the logarithm of the value, from the bucket `first` on. Of a count only the
    /// lowest byte is here.
    buckets: Vec<u8>,
    first: i32,
    /// How often a bucket's byte was full, by bucket.
    carries: Vec<(i32, u32)>,
    /// Values that have no logarithm.
    zeros: u64,
    count: u64,
    hidden: u64,
}

/// What is known of a percentile's value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Key(i32),
    Bucket(i32),
    Zero,
}

impl Found {
    /// Whether it stays the same whatever hidden values are, none of which is greater than this.
    pub fn stays(self, greatest: i32) -> bool {
        match self {
            Found::Key(key) => greatest <= key,
            Found::Bucket(found) => bucket(ms_of(greatest)).is_none_or(|greatest| greatest <= found),
            Found::Zero => bucket(ms_of(greatest)).is_none(),
        }
    }
}

impl Percentile {
    /// A percentile that is exact for so many values.
    pub fn new(max_exact: usize) -> Percentile {
        Percentile {
            max_exact,
            exact: Vec::new(),
            buckets: Vec::new(),
            first: 0,
            carries: Vec::new(),
            zeros: 0,
            count: 0,
            hidden: 0,
        }
    }

    pub fn add(&mut self, values: &[i32]) {
        self.count += values.len() as u64;
        if self.is_exact() && self.exact.len() + values.len() <= self.max_exact {
            let needed = self.exact.len() + values.len();
            if needed > self.exact.capacity() {
                let wanted = needed.next_power_of_two().min(self.max_exact);
                self.exact.reserve_exact(wanted - self.exact.len());
            }
            self.exact.extend_from_slice(values);
            return;
        }
        self.give_up_exact();
        values.iter().for_each(|value| self.count_value(*value));
    }

    /// There are so many more values, none of which is told.
    pub fn hide(&mut self, values: u64) {
        self.hidden += values;
    }

    /// Adds values that were hidden.
    pub fn reveal(&mut self, values: &[i32]) {
        self.hidden = self.hidden.saturating_sub(values.len() as u64);
        self.add(values);
    }

    /// Lets it be exact for fewer values from now on.
    pub fn limit(&mut self, max_exact: usize) {
        self.max_exact = self.max_exact.min(max_exact);
        if self.exact.len() > self.max_exact {
            self.give_up_exact();
        }
    }

    fn give_up_exact(&mut self) {
        std::mem::take(&mut self.exact).into_iter().for_each(|value| self.count_value(value));
    }

    fn count_value(&mut self, value: i32) {
        match bucket(ms_of(value)) {
            None => self.zeros += 1,
            Some(bucket) => self.count_bucket(bucket),
        }
    }

    fn is_exact(&self) -> bool {
        self.buckets.is_empty() && self.zeros == 0
    }

    fn count_bucket(&mut self, bucket: i32) {
        if self.buckets.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let more = ((self.first - bucket) as usize).next_multiple_of(STEP);
            self.buckets.reserve_exact(more);
            self.buckets.splice(..0, std::iter::repeat_n(0, more));
            self.first -= more as i32;
        }
        let place = (bucket - self.first) as usize;
        if place >= self.buckets.len() {
            let len = (place + 1).next_multiple_of(STEP);
            self.buckets.reserve_exact(len - self.buckets.len());
            self.buckets.resize(len, 0);
        }
        let (sum, is_full) = self.buckets[place].overflowing_add(1);
        self.buckets[place] = sum;
        if is_full {
            match self.carries.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
                Ok(found) => self.carries[found].1 = self.carries[found].1.saturating_add(1),
                Err(place) => self.carries.insert(place, (bucket, 1)),
            }
        }
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.exact.capacity() * std::mem::size_of::<f32>()
            + self.buckets.capacity()
            + self.carries.capacity() * std::mem::size_of::<(i32, u32)>()
    }

    /// The smallest value that so much of all values do not exceed, unless hidden ones may be it.
    pub fn find(&mut self, share: f64) -> Option<Found> {
        let all = self.count + self.hidden;
        let rank = ((share * all as f64).ceil() as u64).clamp(1, all.max(1));
        // Counted from the greatest, since hidden values are among the least.
        let from_top = all.checked_sub(rank)? as usize;
        if from_top as u64 >= self.count {
            return None;
        }
        if self.is_exact() {
            let nth = self.exact.len() - 1 - from_top;
            return Some(Found::Key(*self.exact.select_nth_unstable(nth).1));
        }
        let (mut seen, mut carries) = (0, self.carries.iter().rev().peekable());
        for (nth, count) in self.buckets.iter().enumerate().rev() {
            let bucket = self.first + nth as i32;
            let carried = carries.next_if(|(carried, _)| *carried == bucket).map_or(0, |(_, times)| u64::from(*times));
            seen += u64::from(*count) + carried * CARRY;
            if seen > from_top as u64 {
                return Some(Found::Bucket(bucket));
            }
        }
        Some(Found::Zero)
    }

    /// The smallest value that so much of all values do not exceed.
    pub fn of(&mut self, share: f64) -> Option<f64> {
        self.find(share).map(|found| match found {
            Found::Key(key) => ms_of(key),
            // As durations come, with three digits behind the point.
            Found::Bucket(bucket) => ms_of(key_of(middle(bucket))),
            Found::Zero => 0.0,
        })
    }
}

/// Bits of a number behind its exponent.
const FRACTION_BITS: u32 = 52;
const ONE: u64 = 1023 << FRACTION_BITS;

/// The bucket of a value; none of one that is not above zero. A parabola stands for the logarithm between two powers of
/// two: it costs a tenth and rises nearly as evenly.
fn bucket(value: f64) -> Option<i32> {
    if value <= 0.0 || value.is_nan() {
        return None;
    }
    let bits = value.to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - 1023;
    let above = f64::from_bits(bits & ((1 << FRACTION_BITS) - 1) | ONE) - 1.0;
    let doublings = f64::from(exponent) + above * (4.0 - above) / 3.0;
    let place = doublings * OF_DOUBLE;
    // Rounded down without a call, which most processors would need for it.
    let rounded = place as i32;
    Some((rounded - i32::from(place < f64::from(rounded))).clamp(-MAX_BUCKET, MAX_BUCKET))
}

/// The value in the middle of a bucket.
fn middle(bucket: i32) -> f64 {
    let doublings = (f64::from(bucket) + 0.5) / OF_DOUBLE;
    let (whole, rest) = (doublings.floor(), doublings - doublings.floor());
    (3.0 - (4.0 - 3.0 * rest).sqrt()) * whole.exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p95(values: impl Iterator<Item = u32>) -> Option<f64> {
        let mut percentile = Percentile::new(65_536);
        values.for_each(|value| percentile.add(&[key_of(f64::from(value))]));
        percentile.of(0.95)
    }

    #[test]
    fn few_values_are_exact_and_many_nearly() {
        assert_eq!(p95(std::iter::empty()), None);
        assert_eq!(p95(1..=100), Some(95.0));
        for at_once in [1, 30, 7_000] {
            let mut percentile = Percentile::new(MAX_EXACT_OF_GROUP);
            percentile.limit(if at_once == 30 { MAX_EXACT_OF_MANY } else { MAX_EXACT_OF_GROUP });
            let values: Vec<i32> = (1..=200_000u32).map(|value| key_of(f64::from(value))).collect();
            values.chunks(at_once).for_each(|values| percentile.add(values));
            let found = percentile.of(0.95).unwrap();
            assert!((found / 190_000.0 - 1.0).abs() < 0.01, "{found}");
        }
        let many = p95(1..=1_000_000).unwrap();
        assert!((many / 950_000.0 - 1.0).abs() < 0.01, "{many}");
    }

    #[test]
    fn one_percentile_is_exact_for_a_million_values() {
        let mut percentile = Percentile::new(MAX_EXACT);
        let keys: Vec<i32> = (1..=1_000_000u64).map(|nth| key_of((nth * 7919 % 1_000_003) as f64 / 8.0)).collect();
        keys.chunks(65_536).for_each(|keys| percentile.add(keys));
        let mut sorted = keys;
        sorted.sort_unstable();
        assert_eq!(percentile.of(0.95), Some(ms_of(sorted[949_999])));
    }

    #[test]
    fn a_bucket_stands_for_each_of_its_values_within_one_percent() {
        let mut value = 1e-9;
        while value < 1e9 {
            let found = middle(bucket(value).unwrap());
            assert!((found / value - 1.0).abs() < 0.01, "{value}: {found}");
            value *= 1.000_37;
        }
    }

    #[test]
    fn values_of_any_size_and_sign_take_bounded_room() {
        let mut percentile = Percentile::new(2);
        for value in [-5.0, 0.0, 1e-38, 1e38, f64::INFINITY, 0.001, 7.0, 5.0, 6.0] {
            percentile.add(&[key_of(value)]);
        }
        assert_eq!(percentile.of(0.2), Some(0.0));
        let middle = percentile.of(0.6).unwrap();
        assert!((middle / 6.0 - 1.0).abs() < 0.01, "{middle}");
        assert!(percentile.weight() <= 2 * MAX_BUCKET as usize + 4 * STEP);
        percentile.add(&[key_of(3.0); 10_000]);
        assert!(percentile.weight() <= 2 * MAX_BUCKET as usize + 5 * STEP, "a frequent value takes no more room");
    }

    #[test]
    fn hidden_values_change_nothing_once_it_is_settled() {
        for max_exact in [MAX_EXACT, 4] {
            let mut percentile = Percentile::new(max_exact);
            let keys: Vec<i32> = (1..=1000).map(|value| key_of(f64::from(value))).collect();
            percentile.add(&keys[990..]);
            percentile.hide(990);
            assert!(percentile.find(0.95).is_none(), "fifty values are needed");
            percentile.reveal(&keys[920..990]);
            let found = percentile.find(0.95).unwrap();
            assert!(found.stays(keys[919]) && !found.stays(keys[980]));
            let before = percentile.of(0.95).unwrap();
            percentile.reveal(&keys[..920]);
            assert_eq!(percentile.of(0.95), Some(before));
            assert!((before / 950.0 - 1.0).abs() < 0.01, "{before}");
        }
    }
}
