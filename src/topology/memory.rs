//! The memory budget of the process, divided into shares at start.

/// What the process needs before its first event, where the kernel does not report it.
const BASE_BYTES: u64 = 12 * 1024 * 1024;
/// What it needs soon after and nobody counts: code that has not run yet, and memory for writes past the page cache.
const SOON_BYTES: u64 = 16 * 1024 * 1024;
/// The least that anything is given, however small the budget.
const LEAST_BYTES: u64 = 1024 * 1024;
/// The states of all stages together have at most this share of `limits.memory`.
const STATE_SHARE: u64 = 16;
/// The newest records need no more: who lags further behind reads from the disk at the same pace.
const MAX_TIER_BYTES: usize = 24 * 1024 * 1024;

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
    /// Newest events, indexes and questions of embedded stores.
    pub stores: usize,
    /// What stages remember.
    pub state: usize,
}

impl MemoryShares {
    /// Shares out `limit` bytes; `used` are gone already. What is not given to a budget is for tables of batches in
    /// work and for the API, which intake can never take. A store needs much, so that others get less beside one.
    pub fn share(limit: u64, used: u64, has_store: bool) -> MemoryShares {
        let soon = SOON_BYTES.min(limit / 4);
        let left = limit.saturating_sub(used.max(BASE_BYTES) + soon);
        let part = |tenths: u64| (left / 10 * tenths).max(LEAST_BYTES).min(u32::MAX as u64) as usize;
        let state = (limit / STATE_SHARE).max(LEAST_BYTES) as usize;
        let (intake, tier, delivery, stores) = if has_store { (2, 1, 1, 4) } else { (3, 2, 2, 1) };
        let (intake, tier, delivery, stores) = (part(intake), part(tier), part(delivery), part(stores));
        MemoryShares { intake, tier: tier.min(MAX_TIER_BYTES), delivery, live: part(1), stores, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_budget_stays_out_of_the_shares() {
        let limit = 64 * 1024 * 1024;
        for has_store in [false, true] {
            let shares = MemoryShares::share(limit, 10 * 1024 * 1024, has_store);
            assert!((shares.intake + shares.tier) as u64 <= limit / 2);
            assert!(shares.intake > shares.tier);
            let all = shares.intake + shares.tier + shares.delivery + shares.live + shares.stores + shares.state;
            assert!(all as u64 <= limit / 10 * 9);
        }
    }

    #[test]
    fn a_budget_smaller_than_the_process_still_moves() {
        assert_eq!(
            MemoryShares::share(0, 50 << 20, false),
            MemoryShares {
                intake: 1 << 20,
                tier: 1 << 20,
                delivery: 1 << 20,
                live: 1 << 20,
                stores: 1 << 20,
                state: 1 << 20,
            }
        );
    }
}
