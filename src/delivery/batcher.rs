//! Gathers records into write batches by events, bytes and age, without copying.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Batching;
use crate::component::{RecordSlice, WriteBatch};
use crate::journal::Record;
use crate::units::{ByteSize, Timestamp};

/// Which events of a record a sink wants.
pub type Filter = Box<dyn Fn(&Record) -> Vec<bool> + Send + Sync>;

/// A write batch and what ends together with it.
#[derive(Clone, Debug)]
pub struct Pending {
    pub batch: WriteBatch,
    /// Events in the batch's range that the filter has sorted out.
    pub filtered: u64,
    /// Events that were too old when their turn came.
    pub expired: u64,
    /// The `seq` behind the last event, filtered ones included.
    pub seq_end: u64,
    pub received_at: Timestamp,
}

pub struct Batcher {
    limits: Batching,
    max_age: Option<Duration>,
    filter: Option<Filter>,
    /// Bytes of one write while more than a batch waits; 0 where a batch is the most.
    catch_up: usize,
    /// What the sink may have of records that are nobody else's, whatever the limits say.
    fair: usize,
    queue: VecDeque<Gathered>,
    /// Whether the journal holds all records in the queue in memory anyway.
    is_shared: bool,
    /// Wanted events and their bytes in the queue.
    events: usize,
    bytes: usize,
    /// The first event not yet ended when the loop began.
    position: u64,
}

/// Consecutive events of one record, all wanted or all filtered.
struct Gathered {
    record: Arc<Record>,
    events: Range<usize>,
    wanted: bool,
    arrived: Instant,
}

impl Batcher {
    pub fn new(limits: Batching, max_age: Option<Duration>, filter: Option<Filter>, position: u64) -> Batcher {
        let queue = VecDeque::new();
        Batcher {
            limits,
            max_age,
            filter,
            catch_up: 0,
            fair: usize::MAX,
            queue,
            is_shared: true,
            events: 0,
            bytes: 0,
            position,
        }
    }

    /// Lets one write have up to so many bytes, whatever the limits say, while more than a batch waits in memory that is
    /// the journal's: a sink whose cost is mostly per write catches up with fewer of them.
    pub fn catching_up(self, bytes: usize) -> Batcher {
        Batcher { catch_up: bytes, ..self }
    }

    /// Keeps records that are nobody else's to so many bytes.
    pub fn set_fair(&mut self, bytes: usize) {
        self.fair = bytes;
    }

    /// Whether there is room for as much again of records that are nobody else's while a batch of them is written.
    pub fn may_read_ahead(&self) -> bool {
        self.is_shared || self.fair / 2 >= self.limits.bytes.to_usize()
    }

    /// The most bytes of a batch.
    fn batch_bytes(&self) -> usize {
        let limit = self.limits.bytes.to_usize();
        if self.is_shared { limit } else { limit.min(self.fair) }
    }

    /// Takes a record; events before the position are skipped.
    pub fn push(&mut self, record: Arc<Record>, now: Instant) {
        let skipped = self.position.saturating_sub(record.first_seq).min(record.lines.len() as u64);
        if skipped as usize == record.lines.len() {
            return;
        }
        // What was read from the disk is nobody else's.
        self.is_shared = Arc::strong_count(&record) > 1 && (self.is_shared || self.queue.is_empty());
        let range = skipped as usize..record.lines.len();
        match &self.filter {
            None => self.gather(record, range, true, now),
            Some(filter) => {
                let mask = filter(&record);
                let mut start = range.start;
                while start < range.end {
                    let wanted = mask[start];
                    let run = mask[start..range.end].iter().take_while(|w| **w == wanted).count();
                    self.gather(record.clone(), start..start + run, wanted, now);
                    start += run;
                }
            }
        }
    }

    fn gather(&mut self, record: Arc<Record>, events: Range<usize>, wanted: bool, now: Instant) {
        if wanted {
            self.events += events.len();
            self.bytes += size(&record, &events);
        }
        self.queue.push_back(Gathered { record, events, wanted, arrived: now });
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// When the oldest event was received.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.queue.front().map(|oldest| oldest.record.received_at)
    }

    /// Whether a batch is full.
    fn is_full(&self) -> bool {
        self.events >= self.limits.events.get() || self.bytes >= self.batch_bytes()
    }

    /// Whether more may be read for the next write.
    pub fn wants_more(&self) -> bool {
        !self.is_full() || (self.is_shared && self.bytes < self.catch_up)
    }

    /// Bytes that may be read at once for the next write.
    pub fn wanted_bytes(&self) -> usize {
        let batch = self.batch_bytes();
        let left = if self.is_full() { self.catch_up } else { batch }.saturating_sub(self.bytes);
        left.clamp(1, batch.max(1))
    }

    /// What the next write may have.
    fn limits_now(&self) -> Batching {
        match self.is_shared && self.is_full() && self.catch_up > self.limits.bytes.to_usize() {
            true => {
                Batching { events: NonZeroUsize::MAX, bytes: ByteSize(self.catch_up as u64), ..self.limits.clone() }
            }
            false => self.limits.clone(),
        }
    }

    /// About how many bytes the next batch will have; what catching up adds is memory of the journal.
    pub fn next_bytes(&self) -> usize {
        let share = self.events.min(self.limits.events.get()) as f64 / self.events.max(1) as f64;
        ((self.bytes as f64 * share) as usize).min(self.limits.bytes.to_usize())
    }

    /// When the oldest event has waited long enough.
    pub fn due(&self) -> Option<Instant> {
        self.queue.front().map(|oldest| oldest.arrived + self.limits.age.0)
    }

    /// The next batch, if one is full or due, or if `now_or_never`. It is without events where all were filtered.
    pub fn next(&mut self, now: Instant, now_or_never: bool) -> Option<Pending> {
        let due = self.due()? <= now;
        // What is filtered only need not wait for company.
        if !(due || now_or_never || self.is_full() || self.events == 0) {
            return None;
        }
        let limits = self.limits_now();
        let first = &self.queue.front()?.record;
        let mut pending = Pending {
            batch: WriteBatch::default(),
            filtered: 0,
            expired: 0,
            seq_end: 0,
            received_at: first.received_at,
        };
        let (mut events, mut bytes) = (0, 0);
        let oldest = self.max_age.map(|age| Timestamp::now().minus(age));
        while let Some(front) = self.queue.front_mut() {
            let is_expired = front.wanted && oldest.is_some_and(|oldest| front.record.received_at < oldest);
            let takes = front.wanted && !is_expired;
            let fitting = if takes { limits.reserve(front, events, bytes) } else { front.events.len() };
            if fitting == 0 {
                break;
            }
            let taken = front.events.start..front.events.start + fitting;
            pending.seq_end = front.record.first_seq + taken.end as u64;
            if front.wanted {
                let size = size(&front.record, &taken);
                (self.events, self.bytes) = (self.events - taken.len(), self.bytes - size);
                if is_expired {
                    pending.expired += taken.len() as u64;
                } else {
                    (events, bytes) = (events + taken.len(), bytes + size);
                    pending.batch.slices.push(RecordSlice { record: front.record.clone(), events: taken.clone() });
                }
            } else {
                pending.filtered += taken.len() as u64;
            }
            front.events.start = taken.end;
            if front.events.is_empty() {
                self.queue.pop_front();
            }
        }
        Some(pending)
    }
}

impl Batching {
    /// How many events of `next` still fit; an event larger than all limits goes alone.
    fn reserve(&self, next: &Gathered, events: usize, bytes: usize) -> usize {
        let lines = &next.record.lines;
        let start = lines.start(next.events.start);
        let left = self.bytes.to_usize().saturating_sub(bytes);
        let by_bytes = lines.ends[next.events.clone()].partition_point(|end| *end as usize - start <= left);
        let fits = by_bytes.min(self.events.get().saturating_sub(events));
        if events == 0 { fits.max(1) } else { fits }
    }
}

fn size(record: &Record, events: &Range<usize>) -> usize {
    record.lines.start(events.end) - record.lines.start(events.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Lines;
    use crate::journal::StreamId;

    /// Records of ten events of ten bytes.
    fn records(count: u64) -> Vec<Arc<Record>> {
        let of = |nth: u64| Record {
            stream: StreamId(1),
            first_seq: nth * 10,
            stream_first: nth * 10,
            received_at: Timestamp(0),
            lines: Lines {
                bytes: vec![b'\n'; 100].into(),
                ends: (1..=10).map(|n| n * 10).collect(),
                origins: Default::default(),
            },
        };
        (0..count).map(|nth| Arc::new(of(nth))).collect()
    }

    /// The sizes of the writes that a sink gets of records which it finds waiting.
    fn writes(records: Vec<Arc<Record>>, catch_up: usize) -> Vec<usize> {
        let limits = Batching { events: NonZeroUsize::new(15).unwrap(), bytes: ByteSize(1000), ..Batching::default() };
        let mut batcher = Batcher::new(limits, None, None, 0).catching_up(catch_up);
        let (mut sizes, mut records, now) = (Vec::new(), records.into_iter().peekable(), Instant::now());
        loop {
            while batcher.wants_more()
                && let Some(record) = records.next()
            {
                batcher.push(record, now);
            }
            match batcher.next(now, true) {
                Some(pending) => sizes.push(pending.batch.len()),
                None => return sizes,
            }
        }
    }

    #[test]
    fn a_sink_catches_up_with_larger_writes_of_what_is_in_memory_anyway() {
        let waiting = records(9);
        assert_eq!(writes(waiting.clone(), 0), [15, 15, 15, 15, 15, 15]);
        assert_eq!(writes(waiting.clone(), 5000), [90]);
        let more = records(20);
        assert_eq!(writes(more.clone(), 1500), [150, 50]);
        assert_eq!(writes(waiting[..1].to_vec(), 5000), [10]);
        drop((waiting, more));
    }

    #[test]
    fn what_was_read_from_the_disk_is_written_in_batches() {
        assert_eq!(writes(records(9), 5000), [15, 15, 15, 15, 15, 15]);
        let waiting = records(9);
        let mut mixed: Vec<Arc<Record>> = waiting.iter().take(3).cloned().collect();
        mixed.extend(records(9).into_iter().skip(3));
        assert!(writes(mixed, 5000).iter().all(|events| *events <= 30));
    }

    #[test]
    fn of_what_is_nobody_elses_no_more_is_gathered_than_a_fair_part() {
        let limits = Batching { bytes: ByteSize(1000), ..Batching::default() };
        let mut batcher = Batcher::new(limits, None, None, 0);
        batcher.set_fair(250);
        let waiting = records(3);
        waiting.iter().for_each(|record| batcher.push(record.clone(), Instant::now()));
        assert!(batcher.wants_more() && batcher.may_read_ahead(), "the journal has them in memory too");
        let mut pushed = 0;
        for record in records(9).into_iter().skip(3) {
            if !batcher.wants_more() {
                break;
            }
            batcher.push(record, Instant::now());
            pushed += 1;
        }
        assert_eq!(pushed, 1, "all of it counts");
        assert!(!batcher.may_read_ahead());
        assert_eq!(batcher.next(Instant::now(), false).map(|pending| pending.batch.len()), Some(40));
        assert!(batcher.wanted_bytes() <= 250);
        batcher.set_fair(2000);
        assert!(batcher.may_read_ahead());
        drop(waiting);
    }
}
