//! The journal's handle: its interface for the rest of the agent.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::cursor::{Cursor, CursorError, CursorInfo, ReadError, Reader};
use super::disk::{Spot, heads_at};
use super::fs::{Fs, Guard};
use super::housekeeping::CursorFiles;
use super::keys::KeyMatch;
use super::marks::{ENTRY, MARK, Mark};
use super::memory::{MemoryPermit, ReserveError};
use super::positions::OWN_CURSORS;
use super::recovery::{self, OpenError, Opened};
use super::report::RecoveryReport;
use super::state::{Delivery, Removal, Removed, Shared, Stats};
use super::streams::{Heads, Wanted};
use super::watermark::{Cause, CursorState, Gap, Stored};
use super::writer::{Ticket, housekeeping_loop, sync_loop, write_loop};
use super::{
    BufferBound, Commit, IdempotencyKey, Mode, Options, Position, Record, Start, StreamId, housekeeping, state_source,
};
use crate::telemetry::Histogram;
use crate::units::Timestamp;

/// Bytes of lines read at a time by [`Journal::read_all`].
const READ_ALL_BYTES: usize = 1024 * 1024;

/// A handle; clones share one journal. [`Journal::close`] ends it, and so does dropping the last handle.
#[derive(Clone)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    guard: Mutex<Option<Guard>>,
}

impl Journal {
    /// Opens or makes a journal, recovering what the disk holds, and starts its threads.
    pub fn open(options: Options, fs: Arc<dyn Fs>) -> Result<(Journal, RecoveryReport), OpenError> {
        if options.mode == Mode::Memory {
            let journal = Journal::without_threads(recovery::in_memory(options, fs), None);
            return Ok((journal, RecoveryReport::default()));
        }
        let dir = options.dir.clone();
        let Opened { shared, appender, guard, report } = recovery::open(options, fs)?;
        let journal = Journal::without_threads(shared.clone(), Some(guard));
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            let thread = thread.map_err(|source| OpenError::Io { path: dir.clone(), source })?;
            journal.running.threads.lock().expect("no panic while it is held").push(thread);
            Ok(())
        };
        let (syncing, housekeeping) = (shared.clone(), shared);
        spawn("journal-write", Box::new(move || write_loop(appender)))?;
        spawn("journal-sync", Box::new(move || sync_loop(&syncing)))?;
        spawn("journal-keeper", Box::new(move || housekeeping_loop(&housekeeping)))?;
        Ok((journal, report))
    }

    /// In memory nothing is left for threads to do; tests do themselves what the threads would.
    pub(super) fn without_threads(shared: Arc<Shared>, guard: Option<Guard>) -> Journal {
        let running = Running { shared: shared.clone(), threads: Mutex::default(), guard: Mutex::new(guard) };
        Journal { shared, running: Arc::new(running) }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    pub fn ticket(&self) -> Ticket {
        Ticket::take(&self.shared)
    }

    /// Resolves when every cursor over these streams has settled past what they hold before `seq`.
    pub fn delivered(&self, seq: u64, streams: &[StreamId]) -> impl Future<Output = ()> + Send + use<> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.shared.state();
        let targets = streams.iter().map(|stream| {
            let end = state.synced.get(*stream).map_or(seq, |head| head.end_seq);
            (*stream, seq.min(end))
        });
        let targets = targets.collect();
        state.deliveries.push(Delivery { targets, done });
        state.after_settling(!self.shared.on_disk());
        drop(state);
        let eager = Eager::new(self.shared.clone());
        async move {
            // A journal that closes leaves the wait to its deadline.
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
            drop(eager);
        }
    }

    /// Whether somebody waits for delivery right now: then nothing is held back to make a larger batch.
    pub fn somebody_waits(&self) -> bool {
        self.shared.waiting_for_delivery.load(Ordering::Acquire) > 0
    }

    /// Resolves as soon as somebody waits for delivery.
    pub async fn eager(&self) {
        loop {
            let mut eager = pin!(self.shared.eager.notified());
            eager.as_mut().enable();
            if self.somebody_waits() {
                return;
            }
            eager.await;
        }
    }

    /// Waits until so many bytes may be taken into memory and, for these streams, into the journal.
    pub async fn reserve(&self, bytes: usize, streams: &[StreamId]) -> Result<MemoryPermit, ReserveError> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if self.shared.closing.load(Ordering::Acquire) {
                return Err(ReserveError::Closed);
            }
            let Some(full) = self.shared.holds_back(bytes, streams) else { break };
            let _waits = self.shared.shortage.wait(full, bytes);
            changed.await;
        }
        self.shared.intake.take(bytes).await
    }

    pub fn try_reserve(&self, bytes: usize, streams: &[StreamId]) -> Result<MemoryPermit, ReserveError> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(ReserveError::Closed);
        }
        if let Some(full) = self.shared.holds_back(bytes, streams) {
            self.shared.shortage.refuse(full, bytes);
            return Err(ReserveError::Full(full));
        }
        self.shared.intake.try_take(bytes)
    }

    /// Whether the journal, the disk or the memory budget has no space even for a small event.
    pub fn is_full(&self) -> bool {
        self.shared.holds_back(1, &[]).is_some() || self.shared.intake.is_empty()
    }

    /// Whether, without a disk, the records that are kept take more than so many times what intake may take.
    pub fn is_over_memory(&self, times: usize) -> bool {
        !self.shared.on_disk() && self.shared.state().tier.bytes() > self.shared.options.intake_bytes * times
    }

    /// Whether events come faster than a consumer reads them that has so far read from memory. Without a disk they wait for it
    /// anyway.
    pub fn outpaces(&self) -> bool {
        self.shared.on_disk() && self.shared.state().outpaces(self.most_ahead())
    }

    /// How much may come at once before a consumer is outpaced that was not: a quarter of what is kept in memory.
    pub fn most_ahead(&self) -> u64 {
        if self.shared.on_disk() { self.shared.options.tier_bytes as u64 / 4 } else { u64::MAX }
    }

    pub fn stats(&self) -> Stats {
        let state = self.shared.state();
        let on_disk = self.shared.on_disk();
        Stats {
            bytes: if on_disk { state.segment_bytes() } else { state.tier.bytes() as u64 },
            limit: if on_disk { self.shared.options.max_bytes } else { self.shared.options.intake_bytes as u64 },
            capacity: self.shared.capacity.load(Ordering::Acquire),
            head_seq: state.next_seq,
            synced_seq: state.synced_seq,
            oldest_seq: state.oldest_seq(),
            segments: state.segments.len(),
            tier_bytes: state.tier.bytes(),
            intake_bytes: self.shared.intake.taken(),
            damaged: self.shared.damaged.load(Ordering::Relaxed),
        }
    }

    /// How long syncs took since it was opened.
    pub fn sync_times(&self) -> Histogram {
        self.shared.state().sync_times.clone()
    }

    /// What a source stated last about each of its origins.
    pub fn positions(&self, source: &str) -> Vec<(Bytes, Bytes)> {
        self.shared.state().positions.of(source)
    }

    /// Whether a request with this key was accepted before.
    pub fn known_key(&self, key: &IdempotencyKey) -> std::io::Result<Option<KeyMatch>> {
        self.shared.keys.find(key, Timestamp::now())
    }

    /// Makes the cursor of this name if the journal has not seen it (then `start` counts), and lets it read these
    /// streams beside those of which it still owes something. Tells whether it was made.
    pub fn wire_cursor(&self, name: &str, streams: &[StreamId], start: Start) -> std::io::Result<bool> {
        let is_new = !self.shared.state().cursors.contains_key(name);
        if is_new {
            self.make_cursor(name, start);
        }
        let settled = self.shared.state().cursors.get(name).map_or(0, |cursor| cursor.settled);
        let heads = heads_at(&self.shared, settled)?;
        let mut state = self.shared.state();
        let ends = state.synced.clone();
        if let Some(cursor) = state.cursors.get_mut(name) {
            cursor.wire(streams, &heads, &ends);
        }
        Ok(is_new)
    }

    /// Opens a cursor, which has one owner at a time.
    pub fn open_cursor(&self, name: &str, bound: Option<BufferBound>) -> Result<Cursor, CursorError> {
        let mut state = self.shared.state();
        let cursor = state.cursors.get_mut(name).ok_or(CursorError::Unknown)?;
        if cursor.open {
            return Err(CursorError::Busy);
        }
        (cursor.bound, cursor.open, cursor.appends, cursor.is_stalled) = (bound, true, false, false);
        cursor.rewind();
        Ok(Cursor { shared: self.shared.clone(), name: name.into() })
    }

    /// Wires a cursor to these streams and opens it.
    #[cfg(test)]
    pub fn cursor(
        &self,
        name: &str,
        streams: &[StreamId],
        start: Start,
        bound: Option<BufferBound>,
    ) -> std::io::Result<Cursor> {
        if self.wire_cursor(name, streams, start)? {
            self.save_cursors()?;
        }
        self.open_cursor(name, bound).map_err(std::io::Error::other)
    }

    /// Lets go of what a cursor that nobody has open has not passed of other streams than these. Tells how many events
    /// that were; whoever opens the cursor hears of them as a gap.
    pub fn discard_all_but(&self, name: &str, streams: &[StreamId]) -> u64 {
        let mut state = self.shared.state();
        let ends = state.synced.clone();
        let cursor = state.cursors.get_mut(name).filter(|cursor| !cursor.open);
        let events = cursor.map_or(0, |cursor| cursor.discard_all_but(streams, &ends));
        state.after_settling(!self.shared.on_disk());
        events
    }

    /// Events that a cursor has not passed of other streams than these.
    pub fn waiting_beyond(&self, name: &str, streams: &[StreamId]) -> u64 {
        let state = self.shared.state();
        let Some(cursor) = state.cursors.get(name) else { return 0 };
        let others = cursor.passed.iter().filter(|(stream, _)| !streams.contains(stream));
        let heads = others.filter_map(|(stream, passed)| Some((state.synced.get(*stream)?, passed)));
        heads.map(|(head, passed)| head.events.saturating_sub(passed.events)).sum()
    }

    /// Writes every cursor that has moved to the disk now. The error is that of the first that could not be written.
    pub fn save_cursors(&self) -> std::io::Result<()> {
        housekeeping::save_cursors(&self.shared)
    }

    /// The position of a cursor on the disk, from which a crash would begin again.
    pub fn saved_position(&self, name: &str) -> Option<u64> {
        self.shared.state().cursors.get(name).map(|cursor| cursor.saved)
    }

    fn make_cursor(&self, name: &str, start: Start) {
        let files = self.shared.files.lock().expect("no panic while it is held");
        let has_memory = files.get(name).is_some_and(CursorFiles::has_state);
        let mut state = self.shared.state();
        // The journal remembers its cursors, so that one whose file was lost reads again instead of skipping.
        let remembered = state.positions.of(OWN_CURSORS).iter().any(|(known, _)| known == name.as_bytes());
        let removed = state.removed.remove(name);
        let was_there = removed.is_none() && remembered;
        let seq = match start {
            Start::End if !was_there => state.synced_seq,
            _ => state.oldest_seq(),
        };
        // It takes over files that are still there, with what its predecessor remembered.
        let generation = removed.map_or(0, |removed| removed.generation);
        let stored = Stored { name: name.to_owned(), settled: seq, generation, ..Stored::default() };
        let mut cursor = CursorState::new(stored);
        (cursor.dirty, cursor.extra_dirty) = (true, has_memory);
        state.cursors.insert(name.into(), cursor);
        drop(state);
        if files.contains_key(name) {
            drop(housekeeping::note_cursor(&self.shared, name, true));
        }
    }

    /// Entries of the state that a stage keeps in the journal, by key, as its last commits left them.
    pub fn state_of(&self, stage: &str) -> Vec<(Bytes, Bytes)> {
        self.positions(&state_source(stage))
    }

    /// Lets go of the entries of the state that a stage keeps in the journal. How far it had come stays: after a crash its
    /// cursor may be there as it was, and must not have events taken again.
    pub fn forget_state(&self, stage: &str) {
        let source: Arc<str> = state_source(stage).into();
        let (entries, others): (Vec<_>, Vec<_>) =
            self.state_of(stage).into_iter().partition(|(key, _)| key.first() == Some(&ENTRY));
        if entries.is_empty() {
            return;
        }
        let mark = others.into_iter().find(|(key, _)| &key[..] == MARK).and_then(|(_, value)| Mark::decode(&value));
        let last = mark.unwrap_or_default();
        let mark = Mark { taken: last.taken, number: last.number + 1, begins: true, ..Mark::default() };
        let gone = |(key, _)| Position { source: source.clone(), key, value: Bytes::new() };
        let mut positions: Vec<Position> = entries.into_iter().map(gone).collect();
        positions.push(Position { source, key: Bytes::from_static(MARK), value: mark.encode() });
        // What a crash keeps of it is let go at the next start.
        drop(self.ticket().commit(Commit { positions, received_at: Timestamp::now(), ..Commit::default() }));
    }

    /// All cursors, open or not.
    pub fn cursors(&self) -> Vec<CursorInfo> {
        let state = self.shared.state();
        state.cursors.keys().filter_map(|name| state.cursor_info(name)).collect()
    }

    /// One cursor by its name.
    pub fn cursor_info(&self, name: &Arc<str>) -> Option<CursorInfo> {
        self.shared.state().cursor_info(name)
    }

    /// What is kept of a cursor that nobody has open.
    pub fn stored_cursor(&self, name: &str) -> Option<Stored> {
        let state = self.shared.state();
        let cursor = state.cursors.get(name).filter(|cursor| !cursor.open)?;
        Some(cursor.stored(name, &state.synced))
    }

    /// Puts a cursor that nobody has open at `seq`, or as near as there are events, and gives it these totals. Tells where
    /// that is; nothing if there is no such cursor.
    pub fn move_cursor(&self, name: &str, seq: u64, totals: Option<Bytes>) -> std::io::Result<Option<u64>> {
        let heads = heads_at(&self.shared, seq)?;
        let mut state = self.shared.state();
        let seq = seq.clamp(state.oldest_seq(), state.synced_seq);
        let Some(cursor) = state.cursors.get_mut(name).filter(|cursor| !cursor.open) else { return Ok(None) };
        cursor.move_to(seq, &heads);
        cursor.totals = totals.unwrap_or(std::mem::take(&mut cursor.totals));
        drop(state);
        self.save_cursors()?;
        Ok(Some(seq))
    }

    /// Events of these streams, known by the hashes of their names, from one `seq` that is still there up to another.
    pub fn events_between(&self, streams: &[u64], from: u64, to: u64) -> std::io::Result<u64> {
        let (before, behind) = (heads_at(&self.shared, from)?, heads_at(&self.shared, to)?);
        let events = |heads: &Heads, name| heads.named(name).map_or(0, |head| head.events);
        Ok(streams.iter().map(|name| events(&behind, *name).saturating_sub(events(&before, *name))).sum())
    }

    /// Removes a cursor that nobody has open, and what it kept. False if there is none such. Its files go once the
    /// journal says so on the disk.
    pub fn drop_cursor(&self, name: &str) -> bool {
        let mut state = self.shared.state();
        let Some(cursor) = state.cursors.get(name).filter(|cursor| !cursor.open) else { return false };
        let generation = cursor.generation;
        state.cursors.remove(name);
        state.after_settling(!self.shared.on_disk());
        drop(state);
        let stage = Removal::Noted(housekeeping::note_cursor(&self.shared, name, false));
        self.shared.state().removed.insert(name.into(), Removed { generation, stage });
        self.forget_state(name);
        self.shared.changed.notify_waiters();
        true
    }

    /// Whether a cursor was removed and its files are still there: a kill may bring it back, as it was saved last.
    pub fn is_leaving(&self, name: &str) -> bool {
        self.shared.state().removed.get(name).is_some_and(|removed| !matches!(removed.stage, Removal::Done))
    }

    /// Follows streams from `seq` on without holding anything.
    pub fn reader(&self, seq: u64, streams: &[StreamId]) -> std::io::Result<Reader> {
        let (oldest, newest, wanted) = {
            let state = self.shared.state();
            (state.oldest_seq(), state.synced_seq, Wanted::new(streams.iter().copied(), &state.heads))
        };
        let heads = heads_at(&self.shared, seq)?;
        let expected = streams.iter().filter_map(|stream| Some((*stream, heads.get(*stream)?.events)));
        let mut reader = Reader {
            shared: self.shared.clone(),
            spot: Spot { seq: seq.min(newest), hint: None },
            wanted,
            expected: expected.collect(),
            gaps: Vec::new(),
        };
        // Of what is gone only numbers are known: these streams had so many events in all.
        let before: u64 = streams.iter().filter_map(|stream| heads.get(*stream)).map(|head| head.events).sum();
        let gone = oldest.saturating_sub(seq).min(before);
        if gone > 0 {
            let (seqs, cause) = (seq..oldest, Cause::Gone);
            reader.gaps.push(Gap { seqs, events: gone, since: None, until: None, cause });
        }
        Ok(reader)
    }

    /// The same where it cannot be read how far the streams had come by `seq`: it begins behind what is unreadable, with
    /// a gap.
    pub fn reader_behind_unreadable(&self, seq: u64, streams: &[StreamId]) -> Reader {
        let wanted = Wanted::new(streams.iter().copied(), &self.shared.state().heads);
        let spot = Spot { seq, hint: None };
        let mut reader =
            Reader { shared: self.shared.clone(), spot, wanted, expected: Default::default(), gaps: Vec::new() };
        // `false` says that nothing is there yet: there is no gap then.
        reader.pass_unreadable();
        reader
    }

    /// Gives every record that is still there, oldest first.
    pub fn read_all(&self, mut each: impl FnMut(&Record) -> std::io::Result<()>) -> std::io::Result<()> {
        let streams: Vec<StreamId> = self.shared.state().heads.ids().collect();
        let oldest = self.shared.state().oldest_seq();
        let mut reader = self.reader(oldest, &streams)?;
        loop {
            let records = match reader.try_next(READ_ALL_BYTES) {
                Ok(records) => records,
                Err(ReadError::Closed) => return Ok(()),
                Err(ReadError::Io(error)) => return Err(error),
            };
            if records.is_empty() {
                return Ok(());
            }
            records.iter().try_for_each(|record| each(record))?;
        }
    }

    /// Appends what was submitted, syncs, saves the cursors and lets go of the lock. Tickets without a commit are
    /// refused from now on. Blocks until it is done.
    pub fn close(&self) {
        self.running.stop();
    }
}

impl Running {
    fn stop(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake_all();
        if !self.shared.on_disk() {
            self.shared.close_at_once();
        }
        let threads = std::mem::take(&mut *self.threads.lock().expect("no panic while it is held"));
        // The last handle may go with what one of them has just answered.
        let others = threads.into_iter().filter(|other| other.thread().id() != std::thread::current().id());
        for thread in others {
            if thread.join().is_err() {
                tracing::error!("a thread of the journal has panicked");
            }
        }
        self.shared.intake.close();
        self.shared.changed.notify_waiters();
        if let Err(error) = housekeeping::save_cursors(&self.shared) {
            tracing::warn!(%error, "some cursors were not saved; their sinks repeat a little");
        }
        housekeeping::remove_dropped(&self.shared);
        drop(self.guard.lock().expect("no panic while it is held").take());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Counts as somebody who waits for delivery, as long as it lives.
struct Eager(Arc<Shared>);

impl Eager {
    fn new(shared: Arc<Shared>) -> Eager {
        shared.waiting_for_delivery.fetch_add(1, Ordering::AcqRel);
        shared.eager.notify_waiters();
        Eager(shared)
    }
}

impl Drop for Eager {
    fn drop(&mut self) {
        self.0.waiting_for_delivery.fetch_sub(1, Ordering::AcqRel);
    }
}
