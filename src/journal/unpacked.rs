//! Records that were read from the disk lately, so that cursors which lag side by side read and unpack each of them once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Record;
use super::disk::Placed;

/// The most records that are kept, however small they are: looking for one walks over them.
const MAX_RECORDS: usize = 256;

/// Where a record lies: the index of its segment, which no other segment ever has, and the offset in it.
pub type Location = (u64, u32);

/// The latest records, up to a bound in bytes of lines.
pub struct Unpacked {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    location: Location,
    /// Offset of the record behind it.
    next: u32,
    record: Record,
    stream_bytes: u64,
    /// Whether it was read since [`Unpacked::forget_unused`] looked last.
    is_used: bool,
}

impl Unpacked {
    pub fn new(limit: usize) -> Unpacked {
        Unpacked { limit, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record at that place, and the offset of the one behind it.
    pub fn get(&self, location: Location) -> Option<(Placed, u32)> {
        let mut kept = self.kept();
        let entry = kept.records.iter_mut().rev().find(|entry| entry.location == location)?;
        entry.is_used = true;
        // An `Arc` of its own: what is alive beside the journal's memory is recognised by being nobody else's. The lines
        // are shared.
        let record = Arc::new(entry.record.clone());
        Some((Placed { record, stream_bytes: entry.stream_bytes }, entry.next))
    }

    /// Keeps a record; the oldest ones go where there are too many.
    pub fn put(&self, location: Location, next: u32, placed: &Placed) {
        let Placed { record, stream_bytes } = placed;
        let bytes = record.lines.bytes.len();
        if bytes > self.limit {
            return;
        }
        let entry = Entry { location, next, record: (**record).clone(), stream_bytes: *stream_bytes, is_used: true };
        let mut kept = self.kept();
        if kept.records.iter().any(|known| known.location == location) {
            // Two read it at the same time.
            return;
        }
        kept.bytes += bytes;
        kept.records.push_back(entry);
        while kept.bytes > self.limit || kept.records.len() > MAX_RECORDS {
            let Some(oldest) = kept.records.pop_front() else { break };
            kept.bytes -= oldest.record.lines.bytes.len();
        }
    }

    /// Lets go what nobody has read since the last call.
    pub fn forget_unused(&self) {
        let mut kept = self.kept();
        kept.records.retain_mut(|entry| std::mem::take(&mut entry.is_used));
        kept.bytes = kept.records.iter().map(|entry| entry.record.lines.bytes.len()).sum();
        if kept.records.is_empty() {
            kept.records.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Lines;
    use crate::journal::StreamId;
    use crate::units::Timestamp;

    fn placed(first_seq: u64, bytes: usize) -> Placed {
        let lines = Lines { bytes: vec![b'\n'; bytes].into(), ends: vec![bytes as u32], runs: Vec::new() };
        let record = Record { stream: StreamId(1), first_seq, stream_first: 0, received_at: Timestamp(0), lines };
        Placed { record: Arc::new(record), stream_bytes: 7 }
    }

    #[test]
    fn a_record_is_found_again_with_what_lies_behind_it() {
        let unpacked = Unpacked::new(1000);
        unpacked.put((3, 8192), 9000, &placed(5, 100));
        let (found, next) = unpacked.get((3, 8192)).unwrap();
        assert_eq!((found.record.first_seq, found.stream_bytes, next), (5, 7, 9000));
        assert_eq!(Arc::strong_count(&found.record), 1, "it counts as read from the disk");
        assert!(unpacked.get((3, 9000)).is_none() && unpacked.get((4, 8192)).is_none());
    }

    #[test]
    fn the_oldest_records_go_at_either_bound() {
        let unpacked = Unpacked::new(250);
        (0..3).for_each(|n| unpacked.put((1, n), n + 1, &placed(u64::from(n), 100)));
        assert!(unpacked.get((1, 0)).is_none() && unpacked.get((1, 1)).is_some());
        unpacked.put((1, 9), 10, &placed(9, 251));
        assert!(unpacked.get((1, 9)).is_none(), "larger than all of it");
        let many = Unpacked::new(usize::MAX);
        (0..=MAX_RECORDS as u32).for_each(|n| many.put((1, n), n + 1, &placed(u64::from(n), 1)));
        assert_eq!(many.kept().records.len(), MAX_RECORDS);
        assert_eq!(many.kept().bytes, MAX_RECORDS);
    }

    #[test]
    fn what_is_not_read_any_more_is_let_go() {
        let unpacked = Unpacked::new(1000);
        unpacked.put((1, 1), 2, &placed(1, 100));
        unpacked.put((1, 2), 3, &placed(2, 100));
        unpacked.forget_unused();
        assert!(unpacked.get((1, 2)).is_some());
        unpacked.forget_unused();
        assert!(unpacked.get((1, 1)).is_none());
        assert_eq!(unpacked.kept().bytes, 100);
        unpacked.forget_unused();
        assert_eq!(unpacked.kept().bytes, 0);
    }
}
