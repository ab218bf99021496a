//! Disk space: which file becomes the next segment, what is carried forward first, how much still fits.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::appender::{Active, Appender, append_error};
use super::format::{DATA_START, ENDS_REMEMBERED, RECORD_HEADER, SegmentHeader};
use super::gather::Group;
use super::segment::{Place, Segment, Space, file_name};
use super::state::{Shared, State};
use super::writer::AppendError;
use super::{Cause, WhenFull, housekeeping};
use crate::units::Timestamp;

/// A segment has room for this many times what all positions take, or it is made larger.
const RESERVE_SHARE: u32 = 4;
/// Segments that nobody needs any more are removed beyond this number.
const SPARE_SEGMENTS: usize = 8;
/// Where a segment is full this soon, so much is written with each sync that new ones need no zeros.
const SOON: Duration = Duration::from_millis(250);
/// Segments that may lie beyond the bound while writes or syncs fail in a full journal.
const MAX_BEYOND: u64 = 4;

impl Appender {
    /// Opens the next segment.
    pub(super) fn roll(&mut self, need: u32, reserve: u32) -> Result<(), AppendError> {
        self.finish_syncs();
        let bytes = self.segment_bytes.max((DATA_START + need + RESERVE_SHARE * reserve).next_multiple_of(4096));
        if self.spare.as_ref().is_none_or(|spare| spare.bytes < bytes) {
            self.find_spare(bytes, true)?;
        }
        let place = self.spare.take().expect("found above");
        let mut state = self.shared.state();
        let skip = state.segments.len().saturating_sub(ENDS_REMEMBERED);
        let before = state.segments.iter().skip(skip).map(|last| (last.index, last.salt, last.end)).collect();
        let index = state.segments.back().map_or(1, |last| last.index + 1);
        let header = SegmentHeader {
            index,
            salt: new_salt(),
            first_seq: state.next_seq,
            created_at: Timestamp::now(),
            before,
            streams: state.heads.table(),
        };
        let (first_seq, newest) = (state.next_seq, header.created_at);
        let now = Instant::now();
        let took = now.saturating_duration_since(std::mem::replace(&mut self.rolled_at, now));
        self.new_space = if took < SOON { Space::Allocated } else { Space::Written };
        let (salt, tail) = (header.salt, Vec::new());
        self.active = Some(Active { index, salt, place: place.clone(), end: DATA_START, claimed: 0, tail });
        let starts = state.heads.clone();
        state.segments.push_back(Segment {
            index,
            salt: header.salt,
            place,
            end: DATA_START,
            first_seq,
            end_seq: first_seq,
            oldest: newest,
            newest,
            starts,
        });
        // Durable together with the first group. One half written may still be read after a crash, and says where
        // the segment before ended: so that one has ended, and this one too.
        let written = self.active.as_ref().expect("just made").place.file.write_at(&header.encode(), 0);
        if let Err(error) = written {
            state.broken = Some(index);
            self.shared.note_fault("write to the journal", &error);
            return Err(append_error("write", &error));
        }
        drop(state);
        self.carry_for_later();
        if let Err(error) = self.shared.keys.sync() {
            tracing::warn!(%error, "cannot sync the idempotency keys");
        }
        Ok(())
    }

    /// Finds a file for the next segment: the oldest one that nobody needs, or a new one. In need, what is only kept
    /// for replay goes, cursors are saved first, and with `drop_oldest` the oldest events go too.
    fn find_spare(&mut self, bytes: u32, in_need: bool) -> Result<(), AppendError> {
        if let Some(small) = self.spare.take_if(|spare| spare.bytes < bytes) {
            self.remove(&small);
        }
        if self.spare.is_some() {
            return Ok(());
        }
        let mut error = AppendError::Full;
        if self.take_oldest(bytes, false) {
            return Ok(());
        }
        match self.create(bytes) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(reason) => {
                self.shared.note_fault("make a segment of the journal", &reason);
                error = append_error("make a segment", &reason);
            }
        }
        if !in_need {
            return Err(error);
        }
        // What cannot be saved holds its events, and is said where it is saved.
        let _ = housekeeping::save_cursors(&self.shared);
        while self.shared.state().segments.len() > 1 {
            let before = self.shared.state().segments.len();
            if self.take_oldest(bytes, true) {
                return Ok(());
            }
            if self.shared.state().segments.len() < before {
                // It was too small and is gone; the next may make place enough.
                continue;
            }
            if !self.carry_oldest() && !self.drop_oldest() {
                return if self.create_beyond(bytes) { Ok(()) } else { Err(error) };
            }
            // A file that was too small has made place for one that is not.
            if self.create(bytes).unwrap_or(false) {
                return Ok(());
            }
        }
        Err(error)
    }

    /// Takes the oldest segment if nothing in it is needed any more.
    fn take_oldest(&mut self, bytes: u32, in_need: bool) -> bool {
        let mut state = self.shared.state();
        if !state.oldest_is_passed() || (!in_need && !state.keep_is_over(&self.shared)) {
            return false;
        }
        let oldest = state.segments[0].index;
        if state.positions.any_up_to(oldest) {
            return false;
        }
        let gone = state.segments.pop_front().expect("there is one");
        drop(state);
        if gone.place.bytes >= bytes && gone.place.bytes <= bytes.max(self.segment_bytes) {
            self.spare = Some(gone.place);
            return true;
        }
        self.remove(&gone.place);
        self.create(bytes).unwrap_or(false)
    }

    /// States again what only the oldest, passed segment says; its room at the end of the active one is reserved.
    fn carry_oldest(&mut self) -> bool {
        let positions = {
            let state = self.shared.state();
            let Some(passed) = state.last_passed() else { return false };
            state.positions.stated_up_to(passed)
        };
        let group = Group::of_positions(positions);
        let need = (group.notes.encode().len() + 2 * RECORD_HEADER) as u32;
        if group.notes.positions.is_empty() || !self.fits(need) {
            return false;
        }
        self.write(group);
        self.finish_syncs();
        let state = self.shared.state();
        !state.positions.any_up_to(state.segments[0].index)
    }

    /// Moves the cursors that still need the oldest segment behind it, if that is what the operator wants.
    fn drop_oldest(&mut self) -> bool {
        if self.shared.options.when_full != WhenFull::DropOldest {
            return false;
        }
        let mut state = self.shared.state();
        if state.segments.len() < 2 || state.oldest_is_passed() {
            return false;
        }
        let heads = state.segments[1].starts.clone().by_the_names_of(&state.heads);
        let to = state.segments[1].first_seq;
        state.drop_before(to, &heads, Cause::JournalFull);
        true
    }

    /// A segment beyond the bound, where passed ones cannot go only because the active one takes nothing any more: what
    /// they state about positions has no other place. With it they go, and the journal is within its bound again.
    fn create_beyond(&mut self, bytes: u32) -> bool {
        let is_stuck = {
            let state = self.shared.state();
            state.oldest_is_passed() && self.active.as_ref().is_some_and(|active| state.broken == Some(active.index))
        };
        is_stuck && self.create_within(bytes, MAX_BEYOND * u64::from(bytes)).unwrap_or(false)
    }

    /// Makes a new file, if the bound and the disk allow it.
    fn create(&mut self, bytes: u32) -> io::Result<bool> {
        self.create_within(bytes, 0)
    }

    /// The same, with so many bytes more than the bound.
    fn create_within(&mut self, bytes: u32, beyond: u64) -> io::Result<bool> {
        let options = &self.shared.options;
        let spare = self.spare.as_ref().map_or(0, |spare| u64::from(spare.bytes));
        let used = self.shared.state().segment_bytes() + spare;
        if used + u64::from(bytes) > options.max_bytes.max(2 * u64::from(bytes)) + beyond {
            return Ok(false);
        }
        if self.shared.fs.available(&options.dir)? < u64::from(bytes) + spare_bytes(self.segment_bytes) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let path = options.dir.join(file_name(self.next_file));
        self.next_file += 1;
        self.spare = Some(Place::create(&*self.shared.fs, path, bytes, self.new_space)?);
        Ok(true)
    }

    fn remove(&self, place: &Place) {
        // Synced at once: were a later removal kept and this one forgotten, the hole would look like a loss.
        let removed = self.shared.fs.remove(&place.path);
        if let Err(error) = removed.and_then(|()| self.shared.fs.sync_dir(&self.shared.options.dir)) {
            tracing::warn!(%error, path = %place.path.display(), "cannot remove an unused segment");
        }
    }

    /// Work that need not wait for a group: a file for the next segment, positions of the oldest carried forward,
    /// surplus files removed, the measure of what still fits.
    /// True if more fits than before.
    pub fn prepare(&mut self) -> bool {
        self.carry_for_later();
        if self.spare.is_none() {
            // Full is no error here: whoever appends will hear it.
            let _ = self.find_spare(self.segment_bytes, false);
        }
        let mut removed = 0;
        while self.spare.is_some() && removed < SPARE_SEGMENTS && self.has_surplus() {
            self.remove_surplus();
            removed += 1;
        }
        let capacity = self.capacity();
        self.shared.capacity.swap(capacity, Ordering::AcqRel) < capacity
    }

    /// Removes the oldest file. That is the one that is to be used again: it still has what it had, and with the segment behind
    /// it gone would stand before a hole. The segment takes its place.
    fn remove_surplus(&mut self) {
        let oldest = self.shared.state().segments.pop_front().expect("there is one");
        if let Some(older) = self.spare.take() {
            self.remove(&older);
        }
        match oldest.place.bytes == self.segment_bytes {
            true => self.spare = Some(oldest.place),
            false => self.remove(&oldest.place),
        }
    }

    /// Whether the oldest segments could go and there are more such than reuse will need soon.
    fn has_surplus(&self) -> bool {
        let state = self.shared.state();
        let passed = state.held_from();
        let unneeded = state.segments.iter().take_while(|segment| segment.end_seq <= passed).count();
        unneeded > SPARE_SEGMENTS
            && state.oldest_is_passed()
            && state.keep_is_over(&self.shared)
            && !state.positions.any_up_to(state.segments[0].index)
    }

    /// The next group states again what only the oldest segment states. Nothing may wait for a sync: then the table of
    /// positions is exact.
    fn carry_for_later(&mut self) {
        if !self.carried.is_empty() || !self.is_idle() {
            return;
        }
        let state = self.shared.state();
        if state.oldest_is_passed() && state.keep_is_over(&self.shared) {
            let carried = state.positions.stated_up_to(state.segments[0].index);
            drop(state);
            self.carried = carried;
        }
    }

    fn capacity(&self) -> u64 {
        let reserve = self.reserve();
        let state = self.shared.state();
        let broken = state.broken;
        let active = self.active.as_ref().filter(|active| broken != Some(active.index));
        let active = active.map_or(0, |active| active.place.bytes.saturating_sub(active.end + reserve));
        let spare = self.spare.as_ref().map_or(0, |spare| spare.bytes - DATA_START);
        let used = state.segment_bytes();
        let passed = state.held_from();
        // What may be dropped is as good as free: it goes when something is appended. A consumer that appends what it makes
        // of the events is waited for all the same, unless it is the one that cannot go on.
        let drops_to = match self.shared.options.when_full {
            WhenFull::DropOldest => state.passed_by_stages(),
            WhenFull::Block => 0,
        };
        let mut free = u64::from(active) + u64::from(spare);
        for segment in state.segments.iter().take(state.segments.len().saturating_sub(1)) {
            if segment.end_seq <= drops_to.max(passed) {
                free += u64::from(segment.place.bytes - DATA_START);
            }
        }
        drop(state);
        let allowed = self.shared.options.max_bytes.saturating_sub(used + u64::from(spare));
        let on_disk = self.shared.fs.available(&self.shared.options.dir).unwrap_or(0);
        let new = allowed.min(on_disk.saturating_sub(spare_bytes(self.segment_bytes)));
        free + new / u64::from(self.segment_bytes) * u64::from(self.segment_bytes - DATA_START)
    }
}

fn new_salt() -> u32 {
    let mut salt = [0; 4];
    getrandom::fill(&mut salt).expect("the operating system has random bytes");
    u32::from_le_bytes(salt)
}

/// Left free on the disk, so that cursors, dead letters and the log can still be written.
fn spare_bytes(segment_bytes: u32) -> u64 {
    u64::from(segment_bytes)
}

impl State {
    /// Bytes of all segment files.
    pub fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.place.bytes)).sum()
    }

    /// Whether every cursor, as it stands on disk, is behind the oldest segment.
    fn oldest_is_passed(&self) -> bool {
        self.segments.len() > 1 && self.segments[0].end_seq <= self.held_from()
    }

    /// Whether the oldest segment need not be kept for replay any more.
    fn keep_is_over(&self, shared: &Shared) -> bool {
        let oldest = &self.segments[0];
        let younger = self.segment_bytes() - u64::from(oldest.place.bytes);
        younger >= shared.options.keep_bytes || oldest.newest.plus(shared.options.keep_age) <= Timestamp::now()
    }

    /// Index of the last segment that every cursor has passed, the one being written excepted.
    fn last_passed(&self) -> Option<u64> {
        let held_from = self.held_from();
        let closed = self.segments.len().saturating_sub(1);
        self.segments.iter().take(closed).take_while(|segment| segment.end_seq <= held_from).last().map(|s| s.index)
    }
}
