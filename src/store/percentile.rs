//! Percentiles: exact for few values, within half a percent for many.

/// Values that are kept one by one where there is one percentile.
pub const MAX_EXACT: usize = 65_536;
/// The same where there are many, one for each group: buckets take less room than more values.
pub const MAX_EXACT_OF_GROUP: usize = 1024;
/// Two values in one bucket differ by less than this factor; a bucket stands for its middle, half a percent from both ends.
const GROWTH: f64 = 1.01;
/// Buckets of values up to 1e12 and down to 1e-12: what is beyond counts as the greatest or the least of them.
const MAX_BUCKET: i32 = 2777;
/// Buckets are made so many at a time.
const STEP: usize = 64;

pub struct Percentile {
    max_exact: usize,
    exact: Vec<f32>,
    /// Once there are too many: counts by the logarithm of the value, from the bucket `first` on.
    buckets: Vec<u32>,
    first: i32,
    /// Values that have no logarithm.
    zeros: u64,
    count: u64,
}

impl Percentile {
    /// A percentile that is exact for so many values.
    pub fn new(max_exact: usize) -> Percentile {
        Percentile { max_exact, exact: Vec::new(), buckets: Vec::new(), first: 0, zeros: 0, count: 0 }
    }

    pub fn add(&mut self, value: f64) {
        self.count += 1;
        if self.is_exact() && self.exact.len() < self.max_exact {
            self.exact.push(value as f32);
            return;
        }
        self.give_up_exact();
        self.count_value(value, 1);
    }

    fn is_exact(&self) -> bool {
        self.buckets.is_empty() && self.zeros == 0
    }

    fn give_up_exact(&mut self) {
        for value in std::mem::take(&mut self.exact) {
            self.count_value(f64::from(value), 1);
        }
    }

    fn count_value(&mut self, value: f64, times: u32) {
        match bucket(value) {
            None => self.zeros += u64::from(times),
            Some(bucket) => self.count_bucket(bucket, times),
        }
    }

    fn count_bucket(&mut self, bucket: i32, times: u32) {
        if self.buckets.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let more = ((self.first - bucket) as usize).next_multiple_of(STEP);
            self.buckets.splice(..0, std::iter::repeat_n(0, more));
            self.first -= more as i32;
        }
        let place = (bucket - self.first) as usize;
        if place >= self.buckets.len() {
            let len = (place + 1).next_multiple_of(STEP);
            self.buckets.reserve_exact(len - self.buckets.len());
            self.buckets.resize(len, 0);
        }
        self.buckets[place] = self.buckets[place].saturating_add(times);
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.exact.capacity() * std::mem::size_of::<f32>() + self.buckets.capacity() * std::mem::size_of::<u32>()
    }

    /// Adds the values of another one.
    pub fn absorb(&mut self, other: Percentile) {
        if other.is_exact() {
            return other.exact.into_iter().for_each(|value| self.add(f64::from(value)));
        }
        self.give_up_exact();
        self.count += other.count;
        self.zeros += other.zeros;
        for (nth, count) in other.buckets.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            self.count_bucket(other.first + nth as i32, count);
        }
    }

    /// The smallest value that so much of all values do not exceed.
    pub fn of(&mut self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count);
        if self.is_exact() {
            let (_, value, _) = self.exact.select_nth_unstable_by(rank as usize - 1, f32::total_cmp);
            return Some(round(f64::from(*value)));
        }
        let mut seen = self.zeros;
        if seen >= rank {
            return Some(0.0);
        }
        for (nth, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Some(round(GROWTH.powi(self.first + nth as i32)));
            }
        }
        None
    }
}

/// Values are told with three digits behind the point, as durations come.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The bucket of a value; none of one that is not above zero.
fn bucket(value: f64) -> Option<i32> {
    (value > 0.0).then(|| ((value.ln() / GROWTH.ln()).round() as i32).clamp(-MAX_BUCKET, MAX_BUCKET))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p95(values: impl Iterator<Item = f64>) -> Option<f64> {
        let mut percentile = Percentile::new(MAX_EXACT);
        values.for_each(|value| percentile.add(value));
        percentile.of(0.95)
    }

    #[test]
    fn few_values_are_exact_and_many_nearly() {
        assert_eq!(p95(std::iter::empty()), None);
        assert_eq!(p95((1..=100).map(f64::from)), Some(95.0));
        for split in [30, 70_000] {
            let (mut first, mut second) = (Percentile::new(MAX_EXACT), Percentile::new(MAX_EXACT_OF_GROUP));
            (1..=split).for_each(|value| first.add(f64::from(value)));
            (split + 1..=200_000).for_each(|value| second.add(f64::from(value)));
            first.absorb(second);
            let joined = first.of(0.95).unwrap();
            assert!((joined / 190_000.0 - 1.0).abs() < 0.005, "{joined}");
        }
        let many = p95((1..=1_000_000).map(f64::from)).unwrap();
        assert!((many / 950_000.0 - 1.0).abs() < 0.005, "{many}");
    }

    #[test]
    fn values_of_any_size_and_sign_take_bounded_room() {
        let mut percentile = Percentile::new(2);
        for value in [-5.0, 0.0, 1e-300, 1e300, f64::INFINITY, 0.001, 7.0, 5.0, 6.0] {
            percentile.add(value);
        }
        assert_eq!(percentile.of(0.2), Some(0.0));
        let middle = percentile.of(0.6).unwrap();
        assert!((middle / 6.0 - 1.0).abs() < 0.005, "{middle}");
        assert!(percentile.weight() <= (2 * MAX_BUCKET as usize + 4 * STEP) * 2 * 4);
    }
}
