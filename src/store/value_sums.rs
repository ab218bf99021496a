//! Counts and sums of each value of one member in a part, packed so that those of one value are read alone.

use super::bits::{CHUNK, Packed, pack};
use super::summary::Tally;
use crate::varint::{put_bytes, take_bytes};

/// Code, count, successes, errors, durations, first, from first to last, sum and greatest duration.
const COLUMNS: usize = 9;
const SUM: usize = 7;
const MAX: usize = 8;
/// Durations come in milliseconds with three digits behind the point, so that most sums are whole thousandths.
const THOUSANDTHS: f64 = 1000.0;
const MAX_THOUSANDTHS: f64 = (1u64 << 52) as f64;
/// What adding up thousands of numbers may be wrong by.
const ROUNDING: f64 = 1e-12;

pub struct ValueSums {
    columns: [Packed; COLUMNS],
    /// Whether sums, and greatest durations, are thousandths; else the bits of a number.
    is_scaled: [bool; 2],
}

impl ValueSums {
    /// Writes tallies, whose codes ascend.
    pub fn encode(tallies: &[Tally]) -> Vec<u8> {
        let duration = |value: fn(&Tally) -> f64| -> Vec<f64> {
            tallies.iter().map(|tally| if tally.durations > 0 { value(tally) } else { 0.0 }).collect()
        };
        let (sums, are_sums_scaled) = numbers(&duration(|tally| tally.sum_ms), ROUNDING);
        let (most, are_most_scaled) = numbers(&duration(|tally| tally.max_ms), 0.0);
        let mut out = vec![u8::from(are_sums_scaled) | u8::from(are_most_scaled) << 1];
        let columns: [fn(&Tally) -> i64; SUM] = [
            |tally| i64::from(tally.code),
            |tally| tally.count as i64,
            |tally| tally.successes as i64,
            |tally| tally.errors as i64,
            |tally| tally.durations as i64,
            |tally| tally.first,
            |tally| tally.last.wrapping_sub(tally.first),
        ];
        for column in columns {
            put_bytes(&mut out, &pack(&tallies.iter().map(column).collect::<Vec<_>>()));
        }
        put_bytes(&mut out, &pack(&sums));
        put_bytes(&mut out, &pack(&most));
        out
    }

    /// Reads what [`ValueSums::encode`] wrote; `None` if it is something else.
    pub fn read(bytes: &[u8]) -> Option<ValueSums> {
        let (flags, mut rest) = bytes.split_first()?;
        let mut columns = Vec::with_capacity(COLUMNS);
        for _ in 0..COLUMNS {
            columns.push(Packed::open(take_bytes(&mut rest)?.to_vec())?);
        }
        let columns: [Packed; COLUMNS] = columns.try_into().ok()?;
        let is_whole = rest.is_empty() && columns.iter().all(|column| column.len() == columns[0].len());
        is_whole.then_some(ValueSums { columns, is_scaled: [flags & 1 != 0, flags & 2 != 0] })
    }

    pub fn len(&self) -> usize {
        self.columns[0].len()
    }

    /// All of them; columns are read chunk by chunk, which is faster than one by one.
    pub fn all(&self) -> Vec<Tally> {
        let mut all = Vec::with_capacity(self.len());
        let mut read: [Vec<i64>; COLUMNS] = Default::default();
        for chunk in 0..self.len().div_ceil(CHUNK) {
            for (column, read) in self.columns.iter().zip(&mut read) {
                column.chunk(chunk, read);
            }
            all.extend((0..read[0].len()).map(|nth| self.tally(|column| read[column][nth])));
        }
        all
    }

    pub fn get(&self, nth: usize) -> Tally {
        self.tally(|column| self.columns[column].get(nth))
    }

    fn tally(&self, column: impl Fn(usize) -> i64) -> Tally {
        let number = |at: usize| match self.is_scaled[at - SUM] {
            true => column(at) as f64 / THOUSANDTHS,
            false => f64::from_bits(column(at) as u64),
        };
        let durations = column(4) as u64;
        Tally {
            code: column(0) as u32,
            count: column(1) as u64,
            successes: column(2) as u64,
            errors: column(3) as u64,
            durations,
            sum_ms: number(SUM),
            max_ms: if durations > 0 { number(MAX) } else { f64::MIN },
            first: column(5),
            last: column(5).wrapping_add(column(6)),
        }
    }

    /// Where the sums of the value with this code are.
    pub fn place_of(&self, code: u32) -> Option<usize> {
        let codes = &self.columns[0];
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if codes.get(middle) < i64::from(code) { low = middle + 1 } else { high = middle }
        }
        (low < self.len() && codes.get(low) == i64::from(code)).then_some(low)
    }

    pub fn weight(&self) -> usize {
        self.columns.iter().map(Packed::weight).sum()
    }
}

/// Numbers as integers, and whether these are thousandths: where each number is one, but for so much of it.
fn numbers(values: &[f64], rounding: f64) -> (Vec<i64>, bool) {
    let scaled = |value: &f64| {
        let thousandths = (value * THOUSANDTHS).round();
        let is_same = (thousandths / THOUSANDTHS - value).abs() <= rounding * value.abs();
        (is_same && thousandths.abs() < MAX_THOUSANDTHS).then_some(thousandths as i64)
    };
    match values.iter().map(scaled).collect::<Option<Vec<i64>>>() {
        Some(scaled) => (scaled, true),
        None => (values.iter().map(|value| value.to_bits() as i64).collect(), false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::aggregate::Outcome;
    use super::*;

    proptest! {
        #[test]
        fn sums_read_as_they_were_written_all_together_and_one_by_one(
            events in proptest::collection::vec((0u32..600, proptest::option::of(prop_oneof![
                (-5000i64..1_000_000).prop_map(|thousandths| thousandths as f64 / 1000.0), any::<f64>().prop_filter("a number", |n| n.is_finite()),
            ]), any::<i64>()), 0..700),
            only_thousandths: bool,
        ) {
            let mut tallies: Vec<Tally> = Vec::new();
            for (code, duration, time) in events {
                let duration = duration.map(|ms| if only_thousandths { (ms % 1e6 * 1000.0).round() / 1000.0 } else { ms });
                let nth = tallies.iter().position(|tally| tally.code == code).unwrap_or_else(|| {
                    tallies.push(Tally::new(code));
                    tallies.len() - 1
                });
                tallies[nth].add(Outcome::Error, duration, time);
            }
            tallies.sort_unstable_by_key(|tally| tally.code);
            let sums = ValueSums::read(&ValueSums::encode(&tallies)).expect("it was just written");
            let is_same = |found: &Tally, wanted: &Tally| {
                let near = (found.sum_ms - wanted.sum_ms).abs() <= wanted.sum_ms.abs() * ROUNDING;
                near && Tally { sum_ms: 0.0, ..*found } == Tally { sum_ms: 0.0, ..*wanted }
            };
            prop_assert_eq!(sums.len(), tallies.len());
            for (found, wanted) in sums.all().iter().zip(&tallies) {
                prop_assert!(is_same(found, wanted) || wanted.sum_ms.is_infinite(), "{:?} {:?}", found, wanted);
            }
            for code in 0..601 {
                let wanted = tallies.iter().find(|tally| tally.code == code).map(|tally| tally.count);
                prop_assert_eq!(sums.place_of(code).map(|nth| sums.get(nth).count), wanted);
            }
        }

        #[test]
        fn bytes_that_are_no_sums_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(sums) = ValueSums::read(&bytes) {
                prop_assert!(sums.all().len() == sums.len() && sums.place_of(7).is_none_or(|nth| sums.get(nth).code == 7));
            }
        }
    }
}
