//! Records that were read from the disk lately, so that cursors which lag side by side read and unpack each of them once.
//!
//! The latest are kept, up to a bound. Those before them are found as long as a sink still has their text, so that many
//! sinks that stand at the same place, such as the dead ones, have it in memory once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::Record;
use super::disk::Placed;

/// The most records that are known, however small they are: looking for one walks over them.
const MAX_RECORDS: usize = 256;

/// Where a record lies: the index of its segment, which no other segment ever has, and the offset in it.
pub type Location = (u64, u32);

/// The latest records, up to a bound in bytes of lines.
pub struct Unpacked {
    limit: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By age, the oldest first.
    records: VecDeque<Entry>,
    /// Bytes of lines that are kept whether or not somebody uses them.
    bytes: usize,
}

struct Entry {
    location: Location,
    /// Offset of the record behind it.
    next: u32,
    /// Without its text.
    record: Record,
    stream_bytes: u64,
    text: Weak<Bytes>,
    bytes: usize,
    kept: Option<Text>,
    /// Whether it was read since [`Unpacked::forget_unused`] looked last.
    is_used: bool,
}

/// The lines of a record, for everybody who has read it.
#[derive(Clone)]
struct Text(Arc<Bytes>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Entry {
    /// An `Arc` of its own for each reader: what is alive beside the journal's memory is recognised by being nobody else's.
    fn placed(&self, text: Text) -> Placed {
        let mut record = self.record.clone();
        record.lines.bytes = Bytes::from_owner(text);
        Placed { record: Arc::new(record), stream_bytes: self.stream_bytes }
    }

    fn is_alive(&self) -> bool {
        self.text.strong_count() > 0
    }
}

impl Known {
    /// Leaves the record to those who use it.
    fn let_go(&mut self, nth: usize) {
        if let Some(text) = self.records[nth].kept.take() {
            self.bytes -= text.0.len();
        }
    }

    fn forget_dead(&mut self) {
        self.records.retain(Entry::is_alive);
        if self.records.is_empty() {
            self.records.shrink_to_fit();
        }
    }
}

impl Unpacked {
    pub fn new(limit: usize) -> Unpacked {
        Unpacked { limit, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record at that place, and the offset of the one behind it.
    pub fn get(&self, location: Location) -> Option<(Placed, u32)> {
        let mut known = self.known();
        let entry = known.records.iter_mut().rev().find(|entry| entry.location == location)?;
        let text = Text(entry.text.upgrade()?);
        entry.is_used = true;
        Some((entry.placed(text), entry.next))
    }

    /// Keeps a record, and returns it as the others will get it; the oldest ones are let go where there are too many.
    pub fn put(&self, location: Location, next: u32, placed: Placed) -> Placed {
        let Placed { record, stream_bytes } = placed;
        let mut record = Arc::unwrap_or_clone(record);
        let text = Text(Arc::new(std::mem::take(&mut record.lines.bytes)));
        let (bytes, weak) = (text.0.len(), Arc::downgrade(&text.0));
        let kept = (bytes <= self.limit).then(|| text.clone());
        let entry = Entry { location, next, record, stream_bytes, text: weak, bytes, kept, is_used: true };
        let placed = entry.placed(text);
        let mut known = self.known();
        known.forget_dead();
        if known.records.iter().any(|known| known.location == location) {
            // Two read it at the same time.
            return placed;
        }
        known.bytes += entry.kept.as_ref().map_or(0, |_| bytes);
        known.records.push_back(entry);
        let mut oldest = 0;
        while known.bytes > self.limit {
            known.let_go(oldest);
            oldest += 1;
        }
        if known.records.len() > MAX_RECORDS {
            known.let_go(0);
            known.records.pop_front();
        }
        placed
    }

    /// Bytes of lines in memory, whoever has them.
    pub fn bytes(&self) -> usize {
        self.known().records.iter().filter(|entry| entry.is_alive()).map(|entry| entry.bytes).sum()
    }

    /// Lets go what nobody has read since the last call.
    pub fn forget_unused(&self) {
        let mut known = self.known();
        for nth in 0..known.records.len() {
            if !std::mem::take(&mut known.records[nth].is_used) {
                known.let_go(nth);
            }
        }
        known.forget_dead();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Lines;
    use crate::journal::StreamId;
    use crate::units::Timestamp;

    fn placed(first_seq: u64, bytes: usize) -> Placed {
        let lines = Lines { bytes: vec![b'\n'; bytes].into(), ends: vec![bytes as u32], origins: Default::default() };
        let record = Record { stream: StreamId(1), first_seq, stream_first: 0, received_at: Timestamp(0), lines };
        Placed { record: Arc::new(record), stream_bytes: 7 }
    }

    #[test]
    fn a_record_is_found_again_with_what_lies_behind_it() {
        let unpacked = Unpacked::new(1000);
        let put = unpacked.put((3, 8192), 9000, placed(5, 100));
        let (found, next) = unpacked.get((3, 8192)).unwrap();
        assert_eq!((found.record.first_seq, found.stream_bytes, next), (5, 7, 9000));
        assert_eq!((&put.record, put.stream_bytes), (&found.record, 7));
        assert_eq!(Arc::strong_count(&found.record), 1, "it counts as read from the disk");
        assert_eq!(put.record.lines.bytes.as_ptr(), found.record.lines.bytes.as_ptr(), "the lines are shared");
        assert!(unpacked.get((3, 9000)).is_none() && unpacked.get((4, 8192)).is_none());
    }

    #[test]
    fn the_oldest_records_go_at_either_bound() {
        let unpacked = Unpacked::new(250);
        (0..3).for_each(|n| drop(unpacked.put((1, n), n + 1, placed(u64::from(n), 100))));
        assert!(unpacked.get((1, 0)).is_none() && unpacked.get((1, 1)).is_some());
        drop(unpacked.put((1, 9), 10, placed(9, 251)));
        assert!(unpacked.get((1, 9)).is_none(), "larger than all of it");
        assert_eq!(unpacked.known().bytes, 200);
        let many = Unpacked::new(usize::MAX);
        (0..=MAX_RECORDS as u32).for_each(|n| drop(many.put((1, n), n + 1, placed(u64::from(n), 1))));
        assert_eq!(many.known().records.len(), MAX_RECORDS);
        assert_eq!(many.known().bytes, MAX_RECORDS);
    }

    #[test]
    fn what_is_not_read_any_more_is_let_go() {
        let unpacked = Unpacked::new(1000);
        drop(unpacked.put((1, 1), 2, placed(1, 100)));
        drop(unpacked.put((1, 2), 3, placed(2, 100)));
        unpacked.forget_unused();
        assert!(unpacked.get((1, 2)).is_some());
        unpacked.forget_unused();
        assert!(unpacked.get((1, 1)).is_none());
        assert_eq!(unpacked.known().bytes, 100);
        unpacked.forget_unused();
        assert_eq!(unpacked.known().bytes, 0);
        assert!(unpacked.known().records.is_empty());
    }

    #[test]
    fn what_somebody_still_has_is_found_though_it_is_not_kept() {
        let unpacked = Unpacked::new(250);
        let dead_sinks: Vec<Placed> = (0..4).map(|n| unpacked.put((1, n), n + 1, placed(u64::from(n), 100))).collect();
        (0..2).for_each(|_| unpacked.forget_unused());
        assert_eq!(unpacked.known().bytes, 0);
        assert_eq!(unpacked.bytes(), 400);
        for (n, theirs) in (0..4).zip(&dead_sinks) {
            let (found, _) = unpacked.get((1, n)).expect("it is in memory");
            assert_eq!(found.record.lines.bytes.as_ptr(), theirs.record.lines.bytes.as_ptr());
        }
        drop(dead_sinks);
        assert_eq!(unpacked.bytes(), 0);
        assert!(unpacked.get((1, 0)).is_none());
        unpacked.forget_unused();
        assert!(unpacked.known().records.is_empty());
    }
}
