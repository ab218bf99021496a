//! The memory share of all stages' states.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The share of the process's memory that is for the states of stages.
#[derive(Clone, Default)]
pub struct StateMemory(Arc<Shared>);

#[derive(Default)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
    stages: AtomicUsize,
}

impl StateMemory {
    pub fn new(limit: usize) -> StateMemory {
        StateMemory(Arc::new(Shared { limit, ..Shared::default() }))
    }

    /// The part of one more stage, which has nothing yet.
    pub fn join(&self) -> StatePart {
        self.0.stages.fetch_add(1, Ordering::Relaxed);
        StatePart { shared: self.0.clone(), bytes: 0 }
    }

    /// Bytes of all states.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

/// What one stage has of it, until it is dropped.
pub struct StatePart {
    shared: Arc<Shared>,
    bytes: usize,
}

impl StatePart {
    /// The state has this size now.
    pub fn set(&mut self, bytes: usize) {
        self.shared.used.fetch_add(bytes, Ordering::Relaxed);
        self.shared.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Whether this stage has to let entries go: all together have too much, and it has more than an equal part. What
    /// one stage needs little of, another may have.
    pub fn is_over(&self) -> bool {
        let stages = self.shared.stages.load(Ordering::Relaxed).max(1);
        self.shared.used.load(Ordering::Relaxed) > self.shared.limit && self.bytes > self.shared.limit / stages
    }
}

impl Drop for StatePart {
    fn drop(&mut self) {
        self.set(0);
        self.shared.stages.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_let_go_when_they_have_to_stay_within_their_memory() {
        let memory = StateMemory::new(1000);
        let mut parts: Vec<StatePart> = (0..7).map(|_| memory.join()).collect();
        for round in 1..200_usize {
            let turn = round * 5 % 7;
            let grown = parts[turn].bytes + round * 37 % 90;
            parts[turn].set(grown);
            // As the loops do: whoever is over gives up entries until it is not.
            for part in &mut parts {
                while part.is_over() {
                    part.set(part.bytes.saturating_sub(10));
                }
            }
            assert!(memory.used() <= 1000, "{}", memory.used());
        }
        assert!(memory.used() > 900, "the memory is used: {}", memory.used());
        parts.truncate(1);
        assert_eq!(memory.used(), parts[0].bytes, "what has ended has nothing");
        parts[0].set(1000);
        assert!(!parts[0].is_over(), "one alone has all of it");
    }
}
