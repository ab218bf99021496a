//! Memory for write batches: one share for all sinks, from which each batch takes what it pins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted at a time, so that a share of any size fits into a semaphore.
const UNIT: usize = 1024;
/// A batch is there as records and once more as the sink encodes it.
const COPIES: usize = 2;
/// What may be read from the disk is enough for so many of the largest writes.
const WRITES: usize = 4;

/// One share, for every sink; clones are the same one.
#[derive(Clone, Debug)]
pub struct DeliveryMemory {
    left: Arc<Semaphore>,
    total: usize,
    /// What the sinks may have in all of records that the journal has not in memory.
    from_disk: usize,
    most_at_once: usize,
    sinks: Arc<AtomicUsize>,
}

/// A sink among those that share the memory, for as long as it lives.
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a batch has taken; returned when dropped.
#[derive(Debug)]
pub struct DeliveryPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

impl DeliveryMemory {
    pub fn new(bytes: usize) -> DeliveryMemory {
        let total = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        DeliveryMemory {
            left: Arc::new(Semaphore::new(total)),
            total,
            from_disk: Self::of_records(bytes),
            most_at_once: usize::MAX,
            sinks: Arc::default(),
        }
    }

    /// The same where so many bytes of records may be read from the disk.
    pub fn with_bytes_from_disk(self, bytes: usize) -> DeliveryMemory {
        DeliveryMemory { from_disk: bytes, most_at_once: bytes / WRITES, ..self }
    }

    pub fn seat(&self) -> Seat {
        self.sinks.fetch_add(1, Ordering::Relaxed);
        Seat(self.sinks.clone())
    }

    /// The most bytes of records for one write, though the journal has them in memory: what is written for long takes the room
    /// of what others are about to read.
    pub fn most_at_once(&self) -> usize {
        self.most_at_once
    }

    /// The equal part of a sink of what may be read from the disk.
    pub fn fair_bytes(&self) -> usize {
        self.from_disk / self.sinks.load(Ordering::Relaxed).max(1)
    }

    /// How much of a share of so many bytes is for records, which the journal may have in memory as well.
    pub fn of_records(bytes: usize) -> usize {
        bytes / COPIES
    }

    /// Takes what a batch of so many bytes costs; `None` if that is not left. The only batch of a sink gets what there
    /// is, so that no sink waits for another for ever.
    pub fn take(&self, bytes: usize, is_only: bool) -> Option<DeliveryPermit> {
        let wanted = (bytes * COPIES).div_ceil(UNIT).clamp(1, self.total);
        let take = |units: usize| self.left.clone().try_acquire_many_owned(units as u32).ok();
        match take(wanted) {
            Some(permit) => Some(DeliveryPermit { _permit: Some(permit) }),
            None if is_only => {
                let rest = self.left.available_permits();
                Some(DeliveryPermit { _permit: take(rest).filter(|_| rest > 0) })
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_take_what_they_cost_and_the_only_one_of_a_sink_never_waits() {
        let memory = DeliveryMemory::new(100 * UNIT);
        let first = memory.take(30 * UNIT, false).expect("it fits");
        assert!(memory.take(30 * UNIT, false).is_none());
        let only = memory.take(30 * UNIT, true).expect("what is left");
        assert_eq!(memory.left.available_permits(), 0);
        let none = memory.take(usize::MAX / 4, true).expect("though nothing is left");
        drop((first, only, none));
        assert_eq!(memory.left.available_permits(), 100);
        assert!(memory.take(usize::MAX / 4, false).is_some(), "one batch may have all of it");
    }

    #[test]
    fn sinks_have_equal_parts_of_what_may_be_read_from_the_disk() {
        let memory = DeliveryMemory::new(100 * UNIT).with_bytes_from_disk(80 * UNIT);
        assert_eq!(memory.fair_bytes(), 80 * UNIT);
        let seats: Vec<Seat> = (0..4).map(|_| memory.clone().seat()).collect();
        assert_eq!(memory.fair_bytes(), 20 * UNIT);
        drop(seats);
        assert_eq!(memory.fair_bytes(), 80 * UNIT);
    }
}
