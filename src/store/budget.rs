//! Memory that questions hold while they are answered: one share for all questions of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::query::request::ReadError;

/// Memory is taken in steps of so many bytes, so that small amounts cost no look at what others hold.
const STEP: usize = 64 * 1024;

/// What all questions together may hold.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget { limit: limit.max(STEP), used: AtomicUsize::new(0) })
    }

    /// Bytes that are held now.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one question, or one thread of it, holds; given back when it is dropped.
#[derive(Default)]
pub struct Held {
    budget: Option<Arc<Budget>>,
    /// Taken from the budget.
    taken: usize,
    /// In use.
    bytes: usize,
}

impl Held {
    /// Holds so many bytes more.
    pub fn add(&mut self, budget: &Arc<Budget>, bytes: usize) -> Result<(), ReadError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= self.taken {
            return Ok(());
        }
        let more = (self.bytes - self.taken).next_multiple_of(STEP).min(budget.limit.saturating_sub(self.taken));
        if self.taken + more < self.bytes {
            return Err(too_much(budget.limit));
        }
        let used = budget.used.fetch_add(more, Ordering::Relaxed) + more;
        if used > budget.limit {
            budget.used.fetch_sub(more, Ordering::Relaxed);
            // One question may have two threads: what it holds itself cannot be told from what others hold.
            return Err(if self.taken * 2 >= budget.limit / 2 { too_much(budget.limit) } else { busy() });
        }
        self.taken += more;
        self.budget.get_or_insert_with(|| budget.clone());
        Ok(())
    }

    /// Holds so many bytes less; they stay with the question.
    pub fn sub(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.used.fetch_sub(self.taken, Ordering::Relaxed);
        }
    }
}

fn too_much(limit: usize) -> ReadError {
    let mib = limit.div_ceil(1 << 20);
    ReadError::TooLarge(format!(
        "the query needs more than the {mib} MiB of memory that queries may hold: narrow the time range or the filter, \
         ask for fewer rows or groups, or raise `limits.memory`"
    ))
}

fn busy() -> ReadError {
    ReadError::Unavailable("other queries hold all the memory that queries may hold".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back_and_no_more_than_the_limit_is_held() {
        let budget = Budget::new(10 * STEP);
        let (mut first, mut second) = (Held::default(), Held::default());
        first.add(&budget, 1).unwrap();
        assert_eq!(budget.used(), STEP);
        first.add(&budget, STEP - 1).unwrap();
        assert_eq!(budget.used(), STEP);
        assert!(matches!(first.add(&budget, 11 * STEP), Err(ReadError::TooLarge(_))));
        drop(first);
        assert_eq!(budget.used(), 0);
        second.add(&budget, 9 * STEP).unwrap();
        let mut third = Held::default();
        assert!(matches!(third.add(&budget, 2 * STEP), Err(ReadError::Unavailable(_))));
        second.sub(9 * STEP);
        second.add(&budget, 9 * STEP).unwrap();
        assert_eq!(budget.used(), 9 * STEP);
        drop((second, third));
        assert_eq!(budget.used(), 0);
    }
}
