//! Memory for rendered frames: one budget for all views and clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all rendered frames together may have.
#[derive(Clone)]
pub struct FrameBudget {
    limit: usize,
    used: Arc<AtomicUsize>,
}

/// Bytes of frames in use; returned when dropped.
#[derive(Debug)]
pub struct FramePermit {
    bytes: usize,
    /// The budget, and what it was taken for.
    used: Vec<Arc<AtomicUsize>>,
}

impl FrameBudget {
    pub fn new(limit: usize) -> FrameBudget {
        FrameBudget { limit, used: Arc::default() }
    }

    /// The share of one view among this many; at least `least`, or no client would ever get anything.
    pub fn share(&self, views: usize, least: usize) -> usize {
        (self.limit / views.max(1)).max(least.min(self.limit))
    }

    /// Takes some of the budget, of which this many quarters may be in use afterwards.
    pub fn try_take(&self, bytes: usize, quarters: usize, group: Option<&Arc<AtomicUsize>>) -> Option<FramePermit> {
        let limit = self.limit / 4 * quarters;
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            let used = used.checked_add(bytes)?;
            (used <= limit).then_some(used)
        });
        taken.ok()?;
        let mut used = vec![self.used.clone()];
        if let Some(group) = group {
            group.fetch_add(bytes, Ordering::AcqRel);
            used.push(group.clone());
        }
        Some(FramePermit { bytes, used })
    }
}

impl FramePermit {
    /// Gives back what is not needed after all.
    pub fn shrink(&mut self, bytes: usize) {
        let given_back = self.bytes.saturating_sub(bytes);
        for used in &self.used {
            used.fetch_sub(given_back, Ordering::AcqRel);
        }
        self.bytes -= given_back;
    }
}

impl Drop for FramePermit {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_take_no_more_than_their_budget_and_give_it_back() {
        let budget = FrameBudget::new(100);
        let group = Arc::new(AtomicUsize::new(0));
        let mut first = budget.try_take(80, 4, Some(&group)).unwrap();
        assert!(budget.try_take(30, 4, None).is_none());
        first.shrink(10);
        assert_eq!(group.load(Ordering::Acquire), 10);
        let second = budget.try_take(90, 4, None).unwrap();
        drop((first, second));
        assert_eq!(group.load(Ordering::Acquire), 0);
        assert!(budget.try_take(60, 2, None).is_none());
        assert!(budget.try_take(100, 4, None).is_some());
        assert_eq!((budget.share(4, 10), budget.share(1000, 10)), (25, 10));
    }
}
