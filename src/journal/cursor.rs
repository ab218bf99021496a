//! Cursors and readers: a cursor is saved on disk and retains what it has not passed; a reader retains nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::disk::{self, Placed, Spot};
use super::state::{Shared, State};
use super::streams::Wanted;
use super::watermark::{Cause, CursorState, Gap, MAX_TOTALS};
use super::{Mode, Record, StreamId, WhenFull};
use crate::units::Timestamp;

/// Why nothing more can be read.
#[derive(Debug)]
pub enum ReadError {
    Closed,
    Io(io::Error),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Closed => f.write_str("the journal is closed"),
            ReadError::Io(error) => write!(f, "cannot read the journal: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Why a cursor could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorError {
    /// There is none of this name.
    Unknown,
    /// Somebody has it open.
    Busy,
}

impl std::fmt::Display for CursorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CursorError::Unknown => "no such cursor",
            CursorError::Busy => "the cursor is in use",
        })
    }
}

impl std::error::Error for CursorError {}

/// One consumer. Dropping it leaves the cursor where it is, for whoever opens it next.
pub struct Cursor {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
}

/// A line about a cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct CursorInfo {
    pub name: Arc<str>,
    pub settled: u64,
    pub waiting_events: u64,
    pub waiting_bytes: u64,
    pub lag_seconds: f64,
    /// Whether a consumer has it open.
    pub open: bool,
}

impl Cursor {
    fn with<T>(&self, f: impl FnOnce(&mut CursorState) -> T) -> T {
        f(self.shared.state().cursors.get_mut(&self.name).expect("an open cursor is not removed"))
    }

    /// Waits for records of its streams behind those already handed out; in order, at least one, up to about
    /// `max_bytes` of lines.
    pub async fn next(&mut self, max_bytes: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        let shared = self.shared.clone();
        loop {
            let mut changed = pin!(shared.changed.notified());
            changed.as_mut().enable();
            let records = self.try_next(max_bytes)?;
            if !records.is_empty() {
                return Ok(records);
            }
            if shared.closing.load(Ordering::Acquire) {
                return Err(ReadError::Closed);
            }
            changed.await;
        }
    }

    /// The same without waiting: empty if there is nothing new.
    pub fn try_next(&mut self, max_bytes: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        loop {
            let (from, wanted) = self.with(|cursor| (cursor.read, cursor.wanted.clone()));
            let mut spot = from;
            let placed = disk::read(&self.shared, &mut spot, &wanted, max_bytes).map_err(ReadError::Io)?;
            let mut state = self.shared.state();
            let cursor = state.cursors.get_mut(&self.name).expect("an open cursor is not removed");
            if cursor.read != from {
                // It was moved by a bound while the disk was read.
                continue;
            }
            let any = !placed.is_empty();
            let records = cursor.hand_out(placed, from.seq, spot);
            if records.is_empty() && any {
                // All of it was let go; there may be more behind.
                continue;
            }
            if records.is_empty() {
                state.after_settling(!self.shared.on_disk());
            }
            return Ok(records);
        }
    }

    /// Reads again from the watermark.
    pub fn rewind_to_settled(&mut self) {
        self.with(CursorState::rewind);
    }

    /// Every event before `seq_end` has ended. `totals` (up to 512 bytes) and `state` are kept with the position;
    /// no `state` leaves the last one. Reaches the disk within a second.
    pub fn settle(&self, seq_end: u64, totals: &[u8], state: Option<Bytes>) {
        let mut shared = self.shared.state();
        let cursor = shared.cursors.get_mut(&self.name).expect("an open cursor is not removed");
        cursor.settle(seq_end);
        debug_assert!(totals.len() <= MAX_TOTALS, "a sink's totals are a few counters");
        cursor.totals = Bytes::copy_from_slice(totals);
        cursor.extra_dirty |= state.is_some();
        cursor.extra = state.or(cursor.extra.take());
        if self.shared.options.mode == Mode::Memory {
            cursor.saved = cursor.settled;
        }
        let reported = shared.after_settling(!self.shared.on_disk());
        drop(shared);
        if reported > 0 || !self.shared.on_disk() {
            self.shared.changed.notify_waiters();
        }
    }

    pub fn position(&self) -> u64 {
        self.with(|cursor| cursor.settled)
    }

    /// The position on the disk, from which a crash would begin again.
    pub fn saved_position(&self) -> u64 {
        self.with(|cursor| cursor.saved)
    }

    /// Its consumer appends to the journal what it makes of the events: sources leave room for that.
    pub fn appends(&self) {
        self.with(|cursor| cursor.appends = true);
    }

    /// Whether its consumer cannot append at the moment: a journal that drops the oldest events does not wait for it then.
    pub fn set_stalled(&self, is_stalled: bool) {
        self.with(|cursor| cursor.is_stalled = is_stalled);
    }

    pub fn totals(&self) -> Bytes {
        self.with(|cursor| cursor.totals.clone())
    }

    pub fn state(&self) -> Option<Bytes> {
        self.with(|cursor| cursor.extra.clone())
    }

    pub fn waiting_events(&self) -> u64 {
        self.info().waiting_events
    }

    pub fn info(&self) -> CursorInfo {
        self.shared.state().cursor_info(&self.name).expect("an open cursor is not removed")
    }

    /// What it skipped since the last call.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        self.with(|cursor| std::mem::take(&mut cursor.gaps))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Some(cursor) = self.shared.state().cursors.get_mut(&self.name) {
            cursor.open = false;
            cursor.rewind();
        }
    }
}

impl State {
    pub fn cursor_info(&self, name: &Arc<str>) -> Option<CursorInfo> {
        let cursor = self.cursors.get(name)?;
        let waiting = cursor.waiting(&self.synced);
        let lag = self.oldest_waiting(cursor).map_or(0, |oldest| Timestamp::now().0.saturating_sub(oldest.0));
        Some(CursorInfo {
            name: name.clone(),
            settled: cursor.settled,
            waiting_events: waiting.events,
            waiting_bytes: waiting.bytes,
            lag_seconds: lag.max(0) as f64 / 1e6,
            open: cursor.open,
        })
    }

    /// Bytes that wait for consumers which append to the journal themselves.
    pub fn owed_by_stages(&self) -> u64 {
        let stages = self.cursors.values().filter(|cursor| cursor.appends);
        stages.map(|cursor| cursor.waiting(&self.synced).bytes).sum()
    }

    /// The first `seq` that a consumer of these has not passed which runs and can append.
    pub fn passed_by_stages(&self) -> u64 {
        let is_running = |cursor: &&CursorState| cursor.appends && cursor.open && !cursor.is_stalled;
        let stages = self.cursors.values().filter(is_running);
        stages.map(|cursor| cursor.settled.max(cursor.dropped_to)).min().unwrap_or(u64::MAX)
    }

    /// Whether a cursor that blocks keeps the sources of these streams waiting.
    pub fn blocks(&self, streams: &[StreamId], bytes: u64) -> bool {
        let now = Timestamp::now();
        let is_read = |cursor: &CursorState| streams.iter().any(|stream| cursor.wanted.has(*stream));
        self.cursors.values().any(|cursor| is_read(cursor) && self.is_full(cursor, bytes, now))
    }

    /// The cursors that keep sources waiting with so many bytes.
    pub fn full_buffers(&self, bytes: u64) -> Vec<Arc<str>> {
        let now = Timestamp::now();
        let full = self.cursors.iter().filter(|(_, cursor)| self.is_full(cursor, bytes, now));
        full.map(|(name, _)| name.clone()).collect()
    }

    fn is_full(&self, cursor: &CursorState, bytes: u64, now: Timestamp) -> bool {
        cursor.bound.is_some_and(|bound| bound.when_full == WhenFull::Block)
            && cursor.waiting(&self.synced).events > 0
            && self.is_over_bound(cursor, bytes, now)
    }
}

/// Follows streams without retaining anything: what is gone is reported as a gap.
pub struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) spot: Spot,
    pub(super) wanted: Wanted,
    /// The next ordinal of each stream, where known.
    pub(super) expected: BTreeMap<StreamId, u64>,
    pub(super) gaps: Vec<Gap>,
}

impl Reader {
    /// Waits for the next records; see [`Cursor::next`].
    pub async fn next(&mut self, max_bytes: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        let shared = self.shared.clone();
        loop {
            let mut changed = pin!(shared.changed.notified());
            changed.as_mut().enable();
            let records = self.try_next(max_bytes)?;
            if !records.is_empty() || !self.gaps.is_empty() {
                return Ok(records);
            }
            if shared.closing.load(Ordering::Acquire) {
                return Err(ReadError::Closed);
            }
            changed.await;
        }
    }

    pub fn try_next(&mut self, max_bytes: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        let from = self.spot.seq;
        let oldest = self.shared.state().oldest_seq();
        // What an error leaves half read is read again.
        let mut spot = self.spot;
        let placed = disk::read(&self.shared, &mut spot, &self.wanted, max_bytes).map_err(ReadError::Io)?;
        self.spot = spot;
        let mut records = Vec::with_capacity(placed.len());
        let mut last = from;
        for Placed { record, .. } in placed {
            let gone = from.saturating_sub(record.first_seq) as usize;
            let record = if gone == 0 { record } else { Arc::new(record.without_first(gone)) };
            let expected = self.expected.insert(record.stream, record.stream_first + record.lines.len() as u64);
            let missing = record.stream_first.saturating_sub(expected.unwrap_or(record.stream_first));
            if missing > 0 {
                let cause = if last < oldest { Cause::Gone } else { Cause::Damaged };
                let (seqs, until) = (last..record.first_seq, Some(record.received_at));
                self.gaps.push(Gap { seqs, events: missing, since: None, until, cause });
            }
            last = record.end_seq();
            records.push(record);
        }
        Ok(records)
    }

    /// Goes on behind a segment that cannot be read; what it held becomes a gap. `false` if there is nothing behind it.
    pub fn pass_unreadable(&mut self) -> bool {
        let from = self.spot.seq;
        let (before, to, heads) = disk::behind_unreadable(&self.shared, from);
        if to <= from {
            return false;
        }
        let mut events = 0;
        for stream in before.ids().chain(heads.ids()).collect::<BTreeSet<_>>() {
            let Some(head) = heads.get(stream).filter(|_| self.wanted.has(stream)) else { continue };
            let known = before.get(stream).map_or(0, |head| head.events);
            let expected = self.expected.insert(stream, head.events).map_or(known, |expected| expected.max(known));
            events += head.events.saturating_sub(expected);
        }
        self.spot = Spot { seq: to, hint: None };
        let events = events.min(to - from);
        if events > 0 {
            self.gaps.push(Gap { seqs: from..to, events, since: None, until: None, cause: Cause::Damaged });
        }
        true
    }

    /// The next `seq` it will look at.
    pub fn position(&self) -> u64 {
        self.spot.seq
    }

    /// What it could not read since the last call.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }
}
