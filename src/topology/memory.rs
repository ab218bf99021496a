//! One budget for the process, shared out once at start.

/// What the process needs before it has taken a single event, where the kernel does not tell.
const BASE_BYTES: u64 = 12 * 1024 * 1024;
/// The least that anything is given, however small the budget.
const LEAST_BYTES: u64 = 1024 * 1024;

/// Bytes for each use of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShares {
    /// Bodies and chunks from their arrival to the journal. Decoding a chunk takes about as much again.
    pub intake: usize,
    /// The newest records, for sinks and clients that keep up.
    pub tier: usize,
    /// Batches on their way to sinks.
    pub delivery: usize,
    /// Frames on their way to live clients.
    pub live: usize,
}

impl MemoryShares {
    /// Shares out `limit` bytes; `used` are gone already. What is not given to a budget is for tables of batches in
    /// work and for the API, which intake can never take.
    pub fn share(limit: u64, used: u64) -> MemoryShares {
        let left = limit.saturating_sub(used.max(BASE_BYTES));
        let part = |tenths: u64| (left / 10 * tenths).max(LEAST_BYTES).min(u32::MAX as u64) as usize;
        MemoryShares { intake: part(3), tier: part(2), delivery: part(2), live: part(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_budget_stays_out_of_the_shares() {
        let limit = 64 * 1024 * 1024;
        let shares = MemoryShares::share(limit, 10 * 1024 * 1024);
        assert!((shares.intake + shares.tier) as u64 <= limit / 2);
        assert!(shares.intake > shares.tier);
    }

    #[test]
    fn a_budget_smaller_than_the_process_still_moves() {
        assert_eq!(
            MemoryShares::share(0, 50 << 20),
            MemoryShares { intake: 1 << 20, tier: 1 << 20, delivery: 1 << 20, live: 1 << 20 }
        );
    }
}
