//! An in-memory feed whose cursor is saved when a test says so.

use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::Notify;

use super::*;
use crate::event::{Lines, Origins};
use crate::journal::StreamId;

pub const FIRST_SEQ: u64 = 1000;

/// A stream in memory with one cursor. Every third `seq` belongs to another stream.
#[derive(Clone, Default)]
pub struct FakeFeed {
    state: Arc<Mutex<Stream>>,
    changed: Arc<Notify>,
    read: usize,
}

#[derive(Clone, Default)]
struct Stream {
    records: Vec<Arc<Record>>,
    next_seq: u64,
    next_ordinal: u64,
    gaps: Vec<Skipped>,
    /// Those seen and not seen.
    lost: Vec<Skipped>,
    closed: bool,
    eager: bool,
    /// What was given to `settle` last.
    now: Settled,
    /// What of it is on the disk.
    saved: Settled,
    /// The disk follows when it was asked for so many times; at once if it is 0.
    saves_after: u64,
    asked: u64,
}

#[derive(Clone, Default)]
struct Settled {
    position: u64,
    totals: Vec<u8>,
    memory: Option<Bytes>,
}

impl FakeFeed {
    pub fn new() -> FakeFeed {
        let feed = FakeFeed::default();
        let mut state = feed.state.lock().unwrap();
        (state.next_seq, state.now.position, state.saved.position) = (FIRST_SEQ, FIRST_SEQ, FIRST_SEQ);
        drop(state);
        feed
    }

    /// Adds records of so many events, numbered in order.
    pub fn push(&self, sizes: &[usize]) {
        self.push_received(sizes, Timestamp::now());
    }

    /// The same, received at some time.
    pub fn push_received(&self, sizes: &[usize], received_at: Timestamp) {
        let mut state = self.state.lock().unwrap();
        for size in sizes {
            let first = state.next_ordinal;
            let ordinals: Vec<u64> = (first..first + *size as u64).collect();
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for n in &ordinals {
                bytes.extend_from_slice(format!("{{\"n\":{n}}}\n").as_bytes());
                ends.push(bytes.len() as u32);
            }
            let record = Record {
                stream: StreamId(1),
                first_seq: state.next_seq,
                stream_first: first,
                received_at,
                lines: Lines { bytes: bytes.into(), ends, origins: Origins::of(Seed([7; 16]), ordinals) },
            };
            state.next_seq += *size as u64;
            state.next_ordinal += *size as u64;
            state.records.push(Arc::new(record));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// So many events are dropped before anybody read them.
    pub fn lose(&self, events: u64) {
        let mut state = self.state.lock().unwrap();
        state.next_seq += events;
        state.next_ordinal += events;
        let seq_end = state.next_seq;
        let gap = Skipped { seq_end, events, cause: "buffer" };
        state.gaps.push(gap.clone());
        state.lost.push(gap);
    }

    pub fn close(&self) {
        self.state.lock().unwrap().closed = true;
        self.changed.notify_one();
    }

    pub fn be_eager(&self) {
        self.state.lock().unwrap().eager = true;
    }

    /// The disk follows only when somebody has asked for its position so many times; at once with 0.
    pub fn saves_after(&self, asked: u64) {
        let mut state = self.state.lock().unwrap();
        (state.saves_after, state.asked) = (asked, 0);
        if asked == 0 {
            state.saved = state.now.clone();
        }
    }

    /// A crash, perhaps after the memory was saved and before the cursor was.
    pub fn crash(&self, is_memory_saved: bool) {
        let mut state = self.state.lock().unwrap();
        let memory = if is_memory_saved { state.now.memory.clone() } else { state.saved.memory.clone() };
        state.now = Settled { memory, ..state.saved.clone() };
    }

    /// The end of a process in order.
    pub fn save(&self) {
        let mut state = self.state.lock().unwrap();
        state.saved = state.now.clone();
    }
}

impl Feed for FakeFeed {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Arc<Record>>, FeedError> {
        loop {
            {
                let state = self.state.lock().unwrap();
                let mut given = Vec::new();
                let mut bytes = 0;
                while let Some(record) = state.records.get(self.read)
                    && (bytes == 0 || bytes < max_bytes)
                {
                    self.read += 1;
                    bytes += record.lines.bytes.len();
                    given.push(record.clone());
                }
                if !given.is_empty() {
                    return Ok(given);
                }
                if state.closed {
                    return Err(FeedError::Closed);
                }
            }
            self.changed.notified().await;
        }
    }

    fn settle(&mut self, seq_end: u64, totals: &[u8], memory: Option<Bytes>) {
        let mut state = self.state.lock().unwrap();
        assert!(seq_end >= state.now.position, "a cursor does not move back");
        let memory = memory.or(state.now.memory.clone());
        state.now = Settled { position: seq_end, totals: totals.to_vec(), memory };
        if state.saves_after == 0 {
            state.saved = state.now.clone();
        }
    }

    fn rewind(&mut self) {
        let state = self.state.lock().unwrap();
        self.read =
            state.records.partition_point(|record| record.first_seq + record.lines.len() as u64 <= state.now.position);
    }

    fn position(&self) -> u64 {
        self.state.lock().unwrap().now.position
    }

    fn saved_position(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        if state.saves_after > 0 && state.asked.is_multiple_of(state.saves_after) {
            state.saved = state.now.clone();
        }
        state.saved.position
    }

    fn totals(&self) -> Vec<u8> {
        self.state.lock().unwrap().now.totals.clone()
    }

    fn memory(&self) -> Option<Bytes> {
        self.state.lock().unwrap().now.memory.clone()
    }

    fn waiting_events(&self) -> u64 {
        let state = self.state.lock().unwrap();
        let behind = |record: &Arc<Record>| {
            let end = record.first_seq + record.lines.len() as u64;
            end.saturating_sub(state.now.position.max(record.first_seq))
        };
        let lost = state.lost.iter().filter(|gap| gap.seq_end > state.now.position);
        state.records.iter().map(behind).sum::<u64>() + lost.map(|gap| gap.events).sum::<u64>()
    }

    fn is_eager(&self) -> bool {
        self.state.lock().unwrap().eager
    }

    fn take_gaps(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.state.lock().unwrap().gaps)
    }
}
