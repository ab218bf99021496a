//! The intake budget: memory that a source reserves before it reads a body, and releases later.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why no permit was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// There is no space: later.
    Full(Full),
    /// The journal is closing.
    Closed,
}

/// What has no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The journal, or its disk.
    Journal,
    /// The buffer of a sink that blocks.
    Buffer,
    /// The memory for events on their way into the journal.
    Memory,
}

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Full::Journal => "the journal is full",
            Full::Buffer => "the `buffer` of a sink is full",
            Full::Memory => "the memory for events on their way into the journal is full (`limits.memory`)",
        })
    }
}

/// Bytes taken from the intake budget; given back when dropped. It travels with the commit.
#[derive(Debug)]
pub struct MemoryPermit {
    permit: Option<OwnedSemaphorePermit>,
}

impl MemoryPermit {
    pub fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let too_many = self.bytes().saturating_sub(bytes);
        if let Some(permit) = &mut self.permit
            && too_many > 0
        {
            drop(permit.split(too_many));
        }
    }

    /// Takes over another permit of the same budget.
    pub fn join(&mut self, other: MemoryPermit) {
        match (&mut self.permit, other.permit) {
            (Some(mine), Some(more)) => mine.merge(more),
            (None, more) => self.permit = more,
            (Some(_), None) => {}
        }
    }

    /// A permit that counts for nothing, for tests of those who carry one.
    pub fn free() -> MemoryPermit {
        MemoryPermit { permit: None }
    }
}

/// One budget; first come, first served.
pub struct MemoryBudget {
    left: Arc<Semaphore>,
    total: usize,
}

impl MemoryBudget {
    pub fn new(total: usize) -> MemoryBudget {
        let total = total.clamp(1, u32::MAX as usize);
        MemoryBudget { left: Arc::new(Semaphore::new(total)), total }
    }

    /// What one permit can hold at most is the whole budget: a larger wish gets that.
    fn wish(&self, bytes: usize) -> u32 {
        bytes.clamp(1, self.total) as u32
    }

    pub async fn take(&self, bytes: usize) -> Result<MemoryPermit, ReserveError> {
        let taken = self.left.clone().acquire_many_owned(self.wish(bytes)).await;
        taken.map(|permit| MemoryPermit { permit: Some(permit) }).map_err(|_| ReserveError::Closed)
    }

    pub fn try_take(&self, bytes: usize) -> Result<MemoryPermit, ReserveError> {
        match self.left.clone().try_acquire_many_owned(self.wish(bytes)) {
            Ok(permit) => Ok(MemoryPermit { permit: Some(permit) }),
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(ReserveError::Full(Full::Memory)),
            Err(tokio::sync::TryAcquireError::Closed) => Err(ReserveError::Closed),
        }
    }

    pub fn taken(&self) -> usize {
        self.total - self.left.available_permits().min(self.total)
    }

    pub fn is_empty(&self) -> bool {
        self.left.available_permits() == 0
    }

    pub fn close(&self) {
        self.left.close();
    }
}
