//! Rendered events: JSON lines, their ends, and what their ids derive from.

use bytes::Bytes;

use super::id::{Id, Seed};

/// The lines of one stream that travel together: `bytes` holds them one after another, each ended by `\n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    pub bytes: Bytes,
    /// For each event the offset behind its `\n` in `bytes`; ascending, the last equals `bytes.len()`.
    pub ends: Vec<u32>,
    /// Which events derive their ids from which origin; the runs cover all events in order.
    pub runs: Vec<Run>,
}

/// Consecutive events of one origin. The id of the n-th is `seed.id(ordinals[n])`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub seed: Seed,
    /// Ordinal in the origin, one per event (byte offset, Kafka offset or index in the request); ascending.
    pub ordinals: Vec<u64>,
}

impl Lines {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The n-th line without its `\n`.
    pub fn line(&self, n: usize) -> &[u8] {
        &self.bytes[self.start(n)..self.ends[n] as usize - 1]
    }

    /// Where the n-th line starts; `start(len())` is the end of all.
    pub fn start(&self, n: usize) -> usize {
        if n == 0 { 0 } else { self.ends[n - 1] as usize }
    }

    /// The id derived for the n-th event (its own `id` member, if it has one, takes precedence with the caller).
    pub fn derived_id(&self, n: usize) -> Id {
        let (seed, ordinal) = self.origin(n);
        seed.id(ordinal)
    }

    /// What the n-th event's id derives from.
    pub fn origin(&self, n: usize) -> (Seed, u64) {
        let mut first = 0;
        for run in &self.runs {
            if n < first + run.ordinals.len() {
                return (run.seed, run.ordinals[n - first]);
            }
            first += run.ordinals.len();
        }
        unreachable!("runs cover every event")
    }
}
