//! The memory tier: the newest records, so that a reader that keeps up never reads the disk.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Record;
use super::memory::MemoryPermit;
use crate::units::Timestamp;

/// A record in memory costs at least this much beside its lines.
const OVERHEAD: usize = 256;

pub struct Tier {
    records: VecDeque<Held>,
    /// Every event from here on is in memory.
    start: u64,
    bytes: usize,
    limit: usize,
    /// Bytes of records that were read from the disk, which have the room of those that nobody reads who lags.
    lent: usize,
    /// No record before it holds permits.
    released: u64,
    pinned: Pinned,
}

/// Records that left the tier while somebody still used them: their memory is free only when the last user is done.
#[derive(Default)]
struct Pinned {
    records: Vec<(Weak<Record>, usize)>,
    bytes: usize,
    /// As much of them is paid for by those who use them; the rest counts against the limit of the tier.
    paid: usize,
    /// How many calls are let pass before those that are free are looked for again: as many as there were to look at, so
    /// that looking costs a fixed amount for each record.
    rest: usize,
}

impl Pinned {
    fn add(&mut self, record: &Arc<Record>, bytes: usize) {
        self.records.push((Arc::downgrade(record), bytes));
        self.bytes += bytes;
    }

    /// What nobody pays for of them and of as many others.
    fn unpaid(&self, others: usize) -> usize {
        (self.bytes + others).saturating_sub(self.paid)
    }

    /// Forgets those that nobody uses any more.
    fn forget_free(&mut self) {
        if let Some(rest) = self.rest.checked_sub(1) {
            self.rest = rest;
            return;
        }
        self.rest = self.records.len();
        self.records.retain(|(record, _)| record.strong_count() > 0);
        self.bytes = self.records.iter().map(|(_, bytes)| bytes).sum();
        if self.records.is_empty() {
            self.records = Vec::new();
        }
    }
}

struct Held {
    record: Arc<Record>,
    /// Bytes of lines of its stream before it.
    stream_bytes: u64,
    bytes: usize,
    /// In memory mode: the permits of the commits in this record, given back when it leaves.
    permits: Vec<Arc<MemoryPermit>>,
}

impl Tier {
    /// `paid` is how much of what left it its users may hold by a budget of their own.
    pub fn new(start: u64, limit: usize, paid: usize) -> Tier {
        Tier {
            records: VecDeque::new(),
            start,
            bytes: 0,
            limit,
            lent: 0,
            released: start,
            pinned: Pinned { paid, ..Pinned::default() },
        }
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    /// What the records take, those included that left or were read from the disk and that nobody else pays for.
    pub fn bytes(&self) -> usize {
        self.bytes + self.pinned.unpaid(self.lent)
    }

    /// Makes room for as many bytes of records that were read from the disk. A quarter stays for the newest: who has kept up
    /// until now should go on so.
    pub fn lend(&mut self, bytes: usize) {
        self.lent = bytes.min(self.limit / 4 * 3 + self.pinned.paid);
    }

    pub fn push(&mut self, record: Arc<Record>, stream_bytes: u64, permits: Vec<Arc<MemoryPermit>>) {
        let lines = &record.lines;
        let bytes = lines.bytes.len() + lines.ends.len() * 4 + lines.origins.pinned_bytes() + OVERHEAD;
        self.bytes += bytes;
        self.records.push_back(Held { record, stream_bytes, bytes, permits });
    }

    /// Lets the oldest records go while there are more bytes than the limit, but none at or behind `keep_from`.
    pub fn trim(&mut self, keep_from: u64) {
        if self.bytes() > self.limit {
            self.pinned.forget_free();
        }
        while self.bytes() > self.limit
            && let Some(oldest) = self.records.front()
            && oldest.record.end_seq() <= keep_from
        {
            self.pop();
        }
    }

    /// Lets records go that were received before `time` and that nobody at or behind `passed` waits for.
    pub fn forget(&mut self, passed: u64, time: Timestamp) {
        while let Some(oldest) = self.records.front()
            && oldest.record.end_seq() <= passed
            && oldest.record.received_at < time
        {
            self.pop();
        }
        if self.records.is_empty() {
            self.records = VecDeque::new();
            self.pinned.forget_free();
        }
    }

    /// Gives back the permits of everything before `passed`, whether or not the records stay for live readers.
    pub fn release_permits(&mut self, passed: u64) {
        // Not from the start each time: there may be many records that nobody waits for any more.
        let first = self.records.partition_point(|held| held.record.end_seq() <= self.released);
        for held in self.records.range_mut(first..).take_while(|held| held.record.end_seq() <= passed) {
            held.permits.clear();
        }
        self.released = self.released.max(passed);
    }

    /// Lets the oldest record go whoever needs it; tells where the rest begins.
    pub fn pop(&mut self) -> Option<u64> {
        let oldest = self.records.pop_front()?;
        self.bytes -= oldest.bytes;
        self.start = oldest.record.end_seq();
        if Arc::strong_count(&oldest.record) > 1 {
            self.pinned.add(&oldest.record, oldest.bytes);
        }
        Some(self.start)
    }

    /// Forgets what was appended at or behind `seq`: its sync failed.
    pub fn cut(&mut self, seq: u64) {
        while self.records.back().is_some_and(|held| held.record.first_seq >= seq) {
            let newest = self.records.pop_back().expect("there is one");
            self.bytes -= newest.bytes;
        }
        self.start = self.start.min(seq);
    }

    /// Whether so many bytes can come before a record goes that somebody still reads who is at or behind `passed`. What is used
    /// has gone for nothing. It looks at no more records than that takes, since it is asked for each chunk of a file.
    pub fn has_room(&self, bytes: usize, passed: u64) -> bool {
        if self.records.back().is_none_or(|newest| newest.record.end_seq() <= passed) {
            // There is nothing that anybody could lose.
            return true;
        }
        let mut room = self.limit.saturating_sub(self.bytes());
        let mut behind = self.records.iter().take_while(|held| held.record.end_seq() <= passed);
        while room < bytes {
            let Some(held) = behind.next() else { return false };
            if Arc::strong_count(&held.record) == 1 {
                room += held.bytes;
            }
        }
        true
    }

    /// The records from the one that holds `seq` on, each with the bytes of its stream before it.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = (&Arc<Record>, u64)> {
        let first = self.records.partition_point(|held| held.record.end_seq() <= seq);
        self.records.range(first..).map(|held| (&held.record, held.stream_bytes))
    }

    /// The same from the newest on.
    pub fn backwards(&self) -> impl Iterator<Item = (&Arc<Record>, u64)> {
        self.records.iter().rev().map(|held| (&held.record, held.stream_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Lines;
    use crate::journal::StreamId;

    const EACH: usize = 1000 + 4 + OVERHEAD;

    fn record(seq: u64) -> Arc<Record> {
        record_at(seq, Timestamp(0))
    }

    fn record_at(seq: u64, received_at: Timestamp) -> Arc<Record> {
        let lines = Lines { bytes: vec![b'\n'; 1000].into(), ends: vec![1000], origins: Default::default() };
        Arc::new(Record { stream: StreamId(1), first_seq: seq, stream_first: seq, received_at, lines })
    }

    fn append(tier: &mut Tier, seq: u64) {
        tier.push(record(seq), 0, Vec::new());
        tier.trim(u64::MAX);
    }

    /// However much its users hold, all of it together stays within the limit: what they hold is taken off what is kept.
    #[test]
    fn what_is_still_used_counts_until_its_last_user_is_done() {
        for (limit, paid) in [(10, 0), (100, 0), (500, 0), (10, 2), (500, 100)] {
            let mut tier = Tier::new(0, limit * EACH, paid * EACH);
            (0..limit as u64).for_each(|seq| append(&mut tier, seq));
            let used: Vec<Arc<Record>> = tier.from(0).take(limit / 2).map(|(record, _)| record.clone()).collect();
            for seq in 0..3 * limit as u64 {
                append(&mut tier, limit as u64 + seq);
                let others = used.iter().filter(|record| record.end_seq() <= tier.start()).count();
                assert!(tier.records.len() + others <= limit + paid, "{} kept, {others} used", tier.records.len());
            }
            assert_eq!((tier.records.len(), tier.bytes()), (limit + paid - limit / 2, limit * EACH));
            drop(used);
            // It is noticed after as many records as were held.
            (0..2 * limit as u64).for_each(|seq| append(&mut tier, 4 * limit as u64 + seq));
            assert_eq!((tier.records.len(), tier.bytes()), (limit, limit * EACH));
        }
    }
    #[test]
    fn permits_are_given_back_up_to_what_has_passed_while_the_records_stay() {
        let budget = crate::journal::memory::MemoryBudget::new(1 << 20);
        let mut tier = Tier::new(7, usize::MAX, 0);
        for seq in 7..107 {
            tier.push(record(seq), 0, vec![Arc::new(budget.try_take(10).unwrap())]);
        }
        for (passed, left) in [(0, 100), (8, 99), (8, 99), (50, 57), (20, 57), (107, 0)] {
            tier.release_permits(passed);
            assert_eq!(budget.taken(), left * 10, "before {passed}");
        }
        tier.push(record(107), 0, vec![Arc::new(budget.try_take(10).unwrap())]);
        tier.release_permits(108);
        assert_eq!((budget.taken(), tier.records.len()), (0, 101));
    }

    #[test]
    fn what_all_have_passed_is_forgotten_when_it_is_old_enough() {
        let mut tier = Tier::new(0, usize::MAX, 0);
        (0..10).for_each(|seq| tier.push(record_at(seq as u64, Timestamp(seq)), 0, Vec::new()));
        tier.forget(4, Timestamp(2));
        assert_eq!(tier.start(), 2, "the others are too young");
        tier.forget(4, Timestamp(9));
        assert_eq!(tier.start(), 4, "somebody waits for the others");
        tier.forget(u64::MAX, Timestamp(i64::MAX));
        assert_eq!((tier.start(), tier.bytes()), (10, 0));
    }

    #[test]
    fn the_newest_keep_a_quarter_beside_what_was_read_from_the_disk() {
        let mut tier = Tier::new(0, 8 * EACH, 2 * EACH);
        (0..8).for_each(|seq| append(&mut tier, seq));
        assert_eq!(tier.start(), 0);
        for (from_disk, start) in [(2, 0), (5, 3), (100, 6), (0, 6)] {
            tier.lend(from_disk * EACH);
            tier.trim(u64::MAX);
            assert_eq!(tier.start(), start, "{from_disk} were read from the disk");
        }
    }

    #[test]
    fn there_is_room_as_long_as_nobody_loses_what_is_in_memory() {
        let mut tier = Tier::new(0, 8 * EACH, 0);
        (0..6).for_each(|seq| append(&mut tier, seq));
        let room = |tier: &Tier, passed| (0..).find(|bytes| !tier.has_room(bytes + 1, passed)).expect("it ends");
        assert_eq!(room(&tier, 0), 2 * EACH);
        assert_eq!(room(&tier, 3), 5 * EACH);
        assert!(tier.has_room(usize::MAX, 6), "everybody has read all");
        let slow: Vec<Arc<Record>> = tier.from(1).take(2).map(|(record, _)| record.clone()).collect();
        assert_eq!(room(&tier, 3), 3 * EACH, "to let go what somebody uses gains nothing");
        drop(slow);
        (6..20).for_each(|seq| append(&mut tier, seq));
        assert_eq!(room(&tier, 12), 0);
        assert_eq!(room(&tier, 14), 2 * EACH);
    }
}
