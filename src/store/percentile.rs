//! Percentiles: exact for few values, within half a percent for many.

use std::collections::BTreeMap;

/// Values that are kept one by one.
const MAX_EXACT: usize = 65_536;
/// Two values in one bucket differ by less than this factor.
const GROWTH: f64 = 1.005;
/// Bytes of a count in the tree, about.
const BUCKET_BYTES: usize = 24;

#[derive(Default)]
pub struct Percentile {
    exact: Vec<f32>,
    /// Counts by the logarithm of the value, once there are too many.
    buckets: BTreeMap<i32, u64>,
    count: u64,
}

impl Percentile {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        if self.buckets.is_empty() && self.exact.len() < MAX_EXACT {
            self.exact.push(value as f32);
            return;
        }
        for value in std::mem::take(&mut self.exact) {
            *self.buckets.entry(bucket(f64::from(value))).or_default() += 1;
        }
        *self.buckets.entry(bucket(value)).or_default() += 1;
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.exact.capacity() * std::mem::size_of::<f32>() + self.buckets.len() * BUCKET_BYTES
    }

    /// Adds the values of another one.
    pub fn absorb(&mut self, other: Percentile) {
        for value in other.exact {
            self.add(f64::from(value));
        }
        if other.buckets.is_empty() {
            return;
        }
        for value in std::mem::take(&mut self.exact) {
            *self.buckets.entry(bucket(f64::from(value))).or_default() += 1;
        }
        for (bucket, count) in other.buckets {
            *self.buckets.entry(bucket).or_default() += count;
            self.count += count;
        }
    }

    /// The smallest value that so much of all values do not exceed.
    pub fn of(&mut self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count);
        if self.buckets.is_empty() {
            let (_, value, _) = self.exact.select_nth_unstable_by(rank as usize - 1, f32::total_cmp);
            return Some(round(f64::from(*value)));
        }
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return Some(round(value_of(*bucket)));
            }
        }
        None
    }
}

/// Values are told with three digits behind the point, as durations come.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn bucket(value: f64) -> i32 {
    if value <= 0.0 { i32::MIN } else { (value.ln() / GROWTH.ln()).round() as i32 }
}

fn value_of(bucket: i32) -> f64 {
    if bucket == i32::MIN { 0.0 } else { GROWTH.powi(bucket) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p95(values: impl Iterator<Item = f64>) -> Option<f64> {
        let mut percentile = Percentile::default();
        values.for_each(|value| percentile.add(value));
        percentile.of(0.95)
    }

    #[test]
    fn few_values_are_exact_and_many_nearly() {
        assert_eq!(p95(std::iter::empty()), None);
        assert_eq!(p95((1..=100).map(f64::from)), Some(95.0));
        for split in [30, 70_000] {
            let (mut first, mut second) = (Percentile::default(), Percentile::default());
            (1..=split).for_each(|value| first.add(f64::from(value)));
            (split + 1..=200_000).for_each(|value| second.add(f64::from(value)));
            first.absorb(second);
            let joined = first.of(0.95).unwrap();
            assert!((joined / 190_000.0 - 1.0).abs() < 0.005, "{joined}");
        }
        let many = p95((1..=1_000_000).map(f64::from)).unwrap();
        assert!((many / 950_000.0 - 1.0).abs() < 0.005, "{many}");
    }
}
