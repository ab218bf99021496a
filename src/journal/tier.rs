//! The memory tier: the newest records, so that a reader that keeps up never reads the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Record;
use super::memory::MemoryPermit;

/// A record in memory costs at least this much beside its lines.
const OVERHEAD: usize = 256;

pub struct Tier {
    records: VecDeque<Held>,
    /// Every event from here on is in memory.
    start: u64,
    bytes: usize,
    limit: usize,
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
    pub fn new(start: u64, limit: usize) -> Tier {
        Tier { records: VecDeque::new(), start, bytes: 0, limit }
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, record: Arc<Record>, stream_bytes: u64, permits: Vec<Arc<MemoryPermit>>) {
        let lines = &record.lines;
        let ordinals: usize = lines.runs.iter().map(|run| run.ordinals.len() * 8 + 48).sum();
        let bytes = lines.bytes.len() + lines.ends.len() * 4 + ordinals + OVERHEAD;
        self.bytes += bytes;
        self.records.push_back(Held { record, stream_bytes, bytes, permits });
    }

    /// Lets the oldest records go while there are more bytes than the limit, but none at or behind `keep_from`.
    pub fn trim(&mut self, keep_from: u64) {
        while self.bytes > self.limit
            && let Some(oldest) = self.records.front()
            && oldest.record.end_seq() <= keep_from
        {
            self.pop();
        }
    }

    /// Gives back the permits of everything before `passed`, whether or not the records stay for live readers.
    pub fn release_permits(&mut self, passed: u64) {
        for held in self.records.iter_mut().take_while(|held| held.record.end_seq() <= passed) {
            held.permits.clear();
        }
    }

    /// Lets the oldest record go whoever needs it; tells where the rest begins.
    pub fn pop(&mut self) -> Option<u64> {
        let oldest = self.records.pop_front()?;
        self.bytes -= oldest.bytes;
        self.start = oldest.record.end_seq();
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

    /// The first event of the newer half of the records, once there are about as many as fit. Who reads before it is about
    /// to miss what is here.
    pub fn half(&self) -> Option<u64> {
        let is_full = self.bytes > self.limit / 4 * 3;
        self.records.get(self.records.len() / 2).filter(|_| is_full).map(|held| held.record.first_seq)
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
