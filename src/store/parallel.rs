//! Runs a scan on one thread, and on two if it takes long.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::query::request::ReadError;

/// A question that takes longer is done by two threads. As many questions as there are cores run at a time, and few of them
/// are long.
const PATIENCE: Duration = Duration::from_micros(500);
/// The same of groups: each thread makes its own of a place before they are merged.
const PATIENCE_OF_GROUPS: Duration = Duration::from_millis(2);

/// Looks at each place once, in this order as far as one thread goes. Each thread has a state of its own; they come back
/// for whoever joins them. `begun` is when the question began: one that has taken long before is done by two threads at once.
/// `look` calls what it is given from time to time, so that a second thread need not wait for the end of a place.
pub fn each<S: Default + Send>(
    begun: Instant,
    order: &[usize],
    look: impl Fn(&mut S, usize, &dyn Fn()) -> Result<(), ReadError> + Sync,
) -> Result<Vec<S>, ReadError> {
    by_two_from(begun + PATIENCE, order, look)
}

/// The same for groups.
pub fn each_of_groups<S: Default + Send>(
    order: &[usize],
    look: impl Fn(&mut S, usize) -> Result<(), ReadError> + Sync,
) -> Result<Vec<S>, ReadError> {
    by_two_from(Instant::now() + PATIENCE_OF_GROUPS, order, |state, place, _| look(state, place))
}

fn by_two_from<S: Default + Send>(
    start: Instant,
    order: &[usize],
    look: impl Fn(&mut S, usize, &dyn Fn()) -> Result<(), ReadError> + Sync,
) -> Result<Vec<S>, ReadError> {
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = |state: &mut S, may_start: &dyn Fn()| {
        while !has_failed.load(Ordering::Relaxed) {
            let Some(place) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            may_start();
            look(state, *place, may_start).inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    let help = || {
        let mut second = S::default();
        work(&mut second, &|| ()).map(|()| second)
    };
    std::thread::scope(|scope| {
        // Without a second thread the first does it all.
        let helper = OnceCell::new();
        let may_start = || {
            if helper.get().is_none() && next.load(Ordering::Relaxed) < order.len() && Instant::now() >= start {
                let started = std::thread::Builder::new().name("store-query".to_owned()).spawn_scoped(scope, help);
                helper.get_or_init(|| started.ok());
            }
        };
        let mut first = S::default();
        let done = work(&mut first, &may_start);
        let second = match helper.into_inner().flatten() {
            Some(helper) => helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(Some),
            None => Ok(None),
        };
        done?;
        Ok(std::iter::once(first).chain(second?).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_looked_at_once_and_the_first_failure_ends_it() {
        for (len, wait) in [(0usize, 0u64), (1, 6), (50, 0), (50, 1)] {
            let order: Vec<usize> = (0..len).rev().collect();
            let slow = |seen: &mut Vec<usize>, place: usize, _: &dyn Fn()| {
                let until = Instant::now() + Duration::from_millis(wait);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                seen.push(place);
                Ok(())
            };
            let mut seen = each(Instant::now(), &order, slow).unwrap().concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>());
        }
        // A place that takes long does not keep the others waiting.
        let is_second_seen = AtomicBool::new(false);
        let waits = |(): &mut (), place: usize, may_start: &dyn Fn()| {
            is_second_seen.fetch_or(place == 1, Ordering::Relaxed);
            while !is_second_seen.load(Ordering::Relaxed) {
                may_start();
                std::thread::yield_now();
            }
            Ok(())
        };
        assert_eq!(each(Instant::now(), &[0, 1], waits).unwrap().len(), 2);
        let fails = |seen: &mut usize, place: usize, _: &dyn Fn()| {
            *seen += 1;
            if place == 7 { Err(ReadError::Deadline) } else { Ok(()) }
        };
        assert!(matches!(each::<usize>(Instant::now(), &(0..20).collect::<Vec<_>>(), fails), Err(ReadError::Deadline)));
    }
}
