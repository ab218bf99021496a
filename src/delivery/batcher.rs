//! Gathers records into write batches by events, bytes and age, without copying.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Batching;
use crate::component::{RecordSlice, WriteBatch};
use crate::journal::Record;
use crate::units::Timestamp;

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
    queue: VecDeque<Gathered>,
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
        Batcher { limits, max_age, filter, queue: VecDeque::new(), events: 0, bytes: 0, position }
    }

    /// Takes a record; events before the position are skipped.
    pub fn push(&mut self, record: Arc<Record>, now: Instant) {
        let skipped = self.position.saturating_sub(record.first_seq).min(record.lines.len() as u64);
        if skipped as usize == record.lines.len() {
            return;
        }
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

    /// Whether a batch is full, so that nothing more needs to be read for it.
    pub fn is_full(&self) -> bool {
        self.events >= self.limits.events.get() || self.bytes >= self.limits.bytes.to_usize()
    }

    /// Bytes that may be read to fill the next batch.
    pub fn wanted_bytes(&self) -> usize {
        self.limits.bytes.to_usize().saturating_sub(self.bytes).max(1)
    }

    /// About how many bytes the next batch will have.
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
            let fitting = if takes { self.limits.reserve(front, events, bytes) } else { front.events.len() };
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
