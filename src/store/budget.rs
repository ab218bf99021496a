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

    /// What one question will hold.
    pub fn share(self: &Arc<Budget>) -> Arc<Share> {
        Arc::new(Share { budget: self.clone(), taken: AtomicUsize::new(0) })
    }

    /// Bytes that are held now.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one question holds, with all its threads.
pub struct Share {
    budget: Arc<Budget>,
    taken: AtomicUsize,
}

impl Share {
    fn take(&self, bytes: usize) -> Result<(), ReadError> {
        let limit = self.budget.limit;
        let own = self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used <= limit {
            return Ok(());
        }
        self.give_back(bytes);
        // Waiting helps one that others keep from its memory, not one that needs most of it.
        Err(if own > limit / 2 || own >= used { too_much(limit) } else { busy() })
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one thread of a question holds; given back when it is dropped.
#[derive(Default)]
pub struct Held {
    share: Option<Arc<Share>>,
    /// Taken from the budget.
    taken: usize,
    /// In use.
    bytes: usize,
}

impl Held {
    /// Holds so many bytes more.
    pub fn add(&mut self, share: &Arc<Share>, bytes: usize) -> Result<(), ReadError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= self.taken {
            return Ok(());
        }
        let limit = share.budget.limit;
        let more = (self.bytes - self.taken).next_multiple_of(STEP).min(limit.saturating_sub(self.taken));
        if self.taken + more < self.bytes {
            return Err(too_much(limit));
        }
        share.take(more)?;
        self.taken += more;
        self.share.get_or_insert_with(|| share.clone());
        Ok(())
    }

    /// Holds nothing; what was taken stays with the question.
    pub fn clear(&mut self) {
        self.bytes = 0;
    }

    /// Holds so many bytes less; they stay with the question.
    pub fn sub(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(share) = &self.share {
            share.give_back(self.taken);
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
        let (one, other) = (budget.share(), budget.share());
        let (mut first, mut second) = (Held::default(), Held::default());
        first.add(&one, 1).unwrap();
        assert_eq!(budget.used(), STEP);
        first.add(&one, STEP - 1).unwrap();
        assert_eq!(budget.used(), STEP);
        assert!(matches!(first.add(&one, 11 * STEP), Err(ReadError::TooLarge(_))));
        drop(first);
        assert_eq!(budget.used(), 0);
        second.add(&one, 7 * STEP).unwrap();
        let mut third = Held::default();
        assert!(matches!(third.add(&other, 4 * STEP), Err(ReadError::Unavailable(_))), "another question holds it");
        let mut fourth = Held::default();
        assert!(matches!(fourth.add(&one, 4 * STEP), Err(ReadError::TooLarge(_))), "it holds most of it itself");
        second.sub(7 * STEP);
        second.add(&one, 7 * STEP).unwrap();
        assert_eq!(budget.used(), 7 * STEP);
        drop((second, third, fourth));
        assert_eq!(budget.used(), 0);
    }
}
