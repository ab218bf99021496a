//! Runs a scan on one thread, and on two if it takes long.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::query::request::ReadError;

/// What takes longer is done by two threads. As many questions as there are cores run at a time, and few of them are long.
const PATIENCE: Duration = Duration::from_millis(2);

/// Looks at each place once, in this order as far as one thread goes. Each thread has a state of its own; they come back
/// for whoever joins them.
pub fn each<S: Default + Send>(
    order: &[usize],
    look: impl Fn(&mut S, usize) -> Result<(), ReadError> + Sync,
) -> Result<Vec<S>, ReadError> {
    let (next, has_failed, begun) = (AtomicUsize::new(0), AtomicBool::new(false), Instant::now());
    let work = |state: &mut S, patience: Option<Duration>| {
        while !has_failed.load(Ordering::Relaxed) && patience.is_none_or(|patience| begun.elapsed() < patience) {
            let Some(place) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            look(state, *place).inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    let mut first = S::default();
    work(&mut first, Some(PATIENCE))?;
    if next.load(Ordering::Relaxed) + 1 >= order.len() {
        work(&mut first, None)?;
        return Ok(vec![first]);
    }
    std::thread::scope(|scope| {
        let help = || {
            let mut second = S::default();
            work(&mut second, None).map(|()| second)
        };
        // Without a second thread the first does it all.
        let helper = std::thread::Builder::new().name("store-query".to_owned()).spawn_scoped(scope, help);
        let done = work(&mut first, None);
        let second = match helper {
            Ok(helper) => helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(Some),
            Err(_) => Ok(None),
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
            let slow = |seen: &mut Vec<usize>, place: usize| {
                let until = Instant::now() + Duration::from_millis(wait);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                seen.push(place);
                Ok(())
            };
            let mut seen = each(&order, slow).unwrap().concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>());
        }
        let fails = |seen: &mut usize, place: usize| {
            *seen += 1;
            if place == 7 { Err(ReadError::Deadline) } else { Ok(()) }
        };
        assert!(matches!(each::<usize>(&(0..20).collect::<Vec<_>>(), fails), Err(ReadError::Deadline)));
    }
}
