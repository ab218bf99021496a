//! Cumulative histograms of durations.

use std::time::Duration;

/// Upper bounds of the buckets in seconds; what took longer counts beyond them.
const BOUNDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Each duration counts in the first bucket it fits into.
    counts: [u64; BOUNDS.len()],
    beyond: u64,
    sum_seconds: f64,
}

impl Histogram {
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        match BOUNDS.iter().position(|bound| seconds <= *bound) {
            Some(bucket) => self.counts[bucket] += 1,
            None => self.beyond += 1,
        }
        self.sum_seconds += seconds;
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// In seconds.
    pub fn sum(&self) -> f64 {
        self.sum_seconds
    }

    /// Each bound in seconds, and how many took no longer.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut no_longer = 0;
        BOUNDS.iter().zip(&self.counts).map(move |(bound, count)| {
            no_longer += count;
            (*bound, no_longer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_it_fits_into() {
        let mut histogram = Histogram::default();
        for millis in [1, 2, 700, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let at = |seconds: f64| histogram.buckets().find(|(bound, _)| *bound == seconds).expect("a bound").1;
        assert_eq!([at(0.0005), at(0.001), at(0.0025), at(0.5), at(1.0), at(30.0)], [0, 1, 2, 2, 3, 3]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 60.703));
    }
}
