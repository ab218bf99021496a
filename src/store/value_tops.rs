//! The greatest durations of each value of one member in a part: as many as a 95th percentile over many parts needs.
//!
//! A percentile over all parts is mostly among the greatest twentieth of each. Where it is not, the durations of a part are
//! read one by one ([`super::aggregate`]), so that it is the same in any case.

use super::bits::{Packed, pack};
use super::summary::Tally;
use crate::varint::{put_bytes, take_bytes};

/// Where more than one in so many durations would be kept they are better read from their column.
const LEAST_SAVED: u64 = 3;
/// A twentieth.
const OF_ALL: u64 = 20;

/// How many of so many durations are kept: a twentieth, and what chance adds to it in one part of many.
pub fn kept_of(durations: u64) -> u64 {
    let expected = durations.div_ceil(OF_ALL);
    durations.min(expected + (10 * expected).isqrt() + 1)
}

/// The greatest keys of each tally, the greatest first; `keys` are those of all tallies, one tally behind the other. `None`
/// where too little is saved.
pub fn encode(tallies: &[Tally], keys: &mut [i32]) -> Option<Vec<u8>> {
    let (mut rest, mut kept, mut ends) = (keys, Vec::new(), Vec::with_capacity(tallies.len()));
    for tally in tallies {
        let (of_tally, more) = std::mem::take(&mut rest).split_at_mut(tally.durations as usize);
        rest = more;
        let count = kept_of(tally.durations) as usize;
        if count < of_tally.len() {
            of_tally.select_nth_unstable_by(count, |a, b| b.cmp(a));
        }
        of_tally[..count].sort_unstable_by(|a, b| b.cmp(a));
        kept.extend(of_tally[..count].iter().map(|key| i64::from(*key)));
        ends.push(kept.len() as i64);
    }
    let all: u64 = tallies.iter().map(|tally| tally.durations).sum();
    (kept.len() as u64 * LEAST_SAVED <= all && all > 0).then(|| {
        let mut out = Vec::new();
        put_bytes(&mut out, &pack(&ends));
        put_bytes(&mut out, &pack(&kept));
        out
    })
}

/// The durations that are kept of each value.
pub struct ValueTops {
    /// Where those of each value end.
    ends: Packed,
    keys: Packed,
}

impl ValueTops {
    /// Reads what [`encode`] wrote; `None` if it is something else.
    pub fn read(mut bytes: &[u8]) -> Option<ValueTops> {
        let mut packed = || Packed::open(take_bytes(&mut bytes)?.to_vec());
        let tops = ValueTops { ends: packed()?, keys: packed()? };
        bytes.is_empty().then_some(tops)
    }

    /// Of how many values.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Gives the kept durations of the nth value, the greatest first.
    pub fn each(&self, nth: usize, mut give: impl FnMut(i32)) {
        let start = if nth == 0 { 0 } else { self.ends.get(nth - 1) };
        let ends = start.max(0) as usize..(self.ends.get(nth).max(0) as usize).min(self.keys.len());
        ends.for_each(|nth| give(self.keys.get(nth) as i32));
    }

    pub fn weight(&self) -> usize {
        self.ends.weight() + self.keys.weight()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::aggregate::Outcome;
    use super::super::tests::{Folder, Stored, all, filter, later, plain};
    use super::super::{Options, Store};
    use super::*;
    use crate::query::request::{AggregateRequest, GroupKey};

    #[test]
    fn the_greatest_of_each_value_are_kept_and_few_of_many() {
        let counts = [0usize, 70, 1, 20, 5000];
        let tallies: Vec<Tally> = counts
            .iter()
            .enumerate()
            .map(|(code, count)| {
                let mut tally = Tally::new(code as u32);
                (0..*count).for_each(|_| tally.add(Outcome::Other, Some(1.0), 0));
                tally
            })
            .collect();
        let key = |nth: usize, tally: usize| (nth * 7919 % 10_007) as i32 - 50 * tally as i32;
        let of = |tally: usize| (0..counts[tally]).map(move |nth| key(nth, tally));
        let mut keys: Vec<i32> = (0..counts.len()).flat_map(of).collect();
        let tops = ValueTops::read(&encode(&tallies, &mut keys).expect("much is saved")).expect("it was just written");
        let mut kept = 0;
        for (nth, tally) in tallies.iter().enumerate() {
            let mut wanted: Vec<i32> = of(nth).collect();
            wanted.sort_unstable_by(|a, b| b.cmp(a));
            wanted.truncate(kept_of(tally.durations) as usize);
            let mut found = Vec::new();
            tops.each(nth, |key| found.push(key));
            assert_eq!(found, wanted);
            kept += found.len();
        }
        assert!(tops.len() == counts.len() && kept < 400, "{kept}");
        assert!(encode(&tallies[2..3], &mut [1]).is_none(), "of few nothing is saved");
    }

    /// Where an hour was slow, percentiles over all hours are far below what its parts tell, and where most were, above.
    #[test]
    fn percentiles_over_many_parts_are_exact_wherever_their_values_lie() {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options { part_events: 600, ..Options::new(&folder.0) }).expect("it opens");
        let duration = |n: u64| match (n / 600 % 8, n * 7919 % 10_007) {
            (3, some) => 100_000.0 + some as f64 * 1000.017,
            (5, some) => some as f64 / 1000.0 - 2.0,
            (_, some) => some as f64 / 8.0 + (n / 600) as f64,
        };
        let user = |n: u64| ["ali", "سارا", "reza"][(n * n / 7 % 3) as usize];
        for part in 0..16 {
            let event = |n: u64| {
                let event_type = if n.is_multiple_of(5) { "kernel.start" } else { "code_execution" };
                plain(
                    n + 1,
                    &format!(
                        r#"{{"user_id":"{}","event_type":"{event_type}","duration_ms":{}}}"#,
                        user(n),
                        duration(n)
                    ),
                )
            };
            let events: Vec<Stored> = (part * 600..part * 600 + 600).map(event).collect();
            store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
        }
        store.settle();
        let parts = store.snapshot().parts.clone();
        assert!(parts.len() == 16 && parts.iter().all(|part| part.value_tops(0).is_ok_and(|tops| tops.is_some())));
        let by_user = vec![GroupKey::Field(vec!["user_id".to_owned()])];
        for (query, group_by) in [
            ("", vec![]),
            ("user_id:ali", vec![]),
            ("user_id:(سارا OR reza)", vec![]),
            ("event_type:kernel.start", vec![]),
            ("event_type:kernel.start user_id:reza", vec![]),
            ("", by_user.clone()),
            ("user_id:(ali OR reza)", by_user),
        ] {
            let request = AggregateRequest {
                filter: filter(query),
                group_by: group_by.clone(),
                with_durations: true,
                with_percentiles: true,
                max_groups: 100,
                min_count: 0,
                top: None,
                deadline: later(),
            };
            // The second answer comes from what was kept of the first.
            for _ in 0..2 {
                for group in store.snapshot().aggregate(&request, &all()).expect("groups") {
                    let only = group.keys.first().cloned().flatten();
                    let is_meant = |n: &u64| {
                        (only.as_deref().is_none_or(|only| only == user(*n)))
                            && (!query.contains("user_id") || query.contains(user(*n)))
                            && (!query.contains("kernel.start") || n.is_multiple_of(5))
                    };
                    let mut durations: Vec<f64> = (0..9600).filter(is_meant).map(duration).collect();
                    durations.sort_unstable_by(f64::total_cmp);
                    let wanted = durations[(durations.len() as f64 * 0.95).ceil() as usize - 1];
                    let found = group.p95_ms.expect("there are durations");
                    // Of several groups each is exact for fewer values.
                    let most = if group_by.is_empty() { 0.000_501 + wanted * 1e-7 } else { wanted * 0.01 };
                    assert!((found - wanted).abs() <= most, "{query} {only:?}: {found} {wanted}");
                    assert_eq!(group.count, durations.len() as u64);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_tops_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(tops) = ValueTops::read(&bytes) {
                (0..tops.len()).for_each(|nth| tops.each(nth, |_| {}));
            }
        }
    }
}
