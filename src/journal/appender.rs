//! Appending as a state machine driven step by step: write a group, sync it, open the next segment. The threads in
//! `writer` drive it in production; the model test drives it in any order.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::direct::{BLOCK, LEAST_DIRECT};
use super::format::{DATA_START, ENDS_GROUP, Notes, RECORD_HEADER, RecordHeader};
use super::fs::{File, is_no_space};
use super::gather::{Group, Pending, Reply, Waiting};
use super::layout::Layout;
use super::pages::Pages;
use super::positions::MAX_POSITIONS;
use super::segment::{Place, Space};
use super::state::{Shared, State};
use super::streams::Head;
use super::writer::AppendError;
use super::{Record, StreamId};
use crate::event::Lines;
use crate::units::Timestamp;

/// Groups of so many bytes are written as whole blocks. In tests small ones are, too, so that the model meets them.
const LEAST_BLOCKS: usize = if cfg!(test) { 1024 } else { LEAST_DIRECT };

/// Groups that were written and wait for their sync, in order.
#[derive(Default)]
pub struct SyncQueue {
    pub jobs: VecDeque<SyncJob>,
    pub running: bool,
    pub closed: bool,
}

pub struct SyncJob {
    segment: u64,
    file: Arc<dyn File>,
    end: u32,
    end_seq: u64,
    newest: Timestamp,
    touched: Vec<StreamId>,
    /// The streams after this group, for those touched.
    heads: Vec<Head>,
    notes: Notes,
    answers: Vec<(Waiting, Range<u64>)>,
}

pub struct Appender {
    pub shared: Arc<Shared>,
    pub(super) active: Option<Active>,
    /// A file ready to become the next segment.
    pub(super) spare: Option<Place>,
    /// Bytes of a segment, unless something larger has to go in.
    pub(super) segment_bytes: u32,
    /// Number for the next new file.
    pub(super) next_file: u64,
    /// Positions of passed segments, to be stated again with the next group.
    pub(super) carried: Vec<super::Position>,
    /// How the next new file gets its space.
    pub(super) new_space: Space,
    /// When the last segment was opened.
    pub(super) rolled_at: Instant,
    pages: Pages,
}

/// The segment that groups are written to.
pub struct Active {
    pub index: u64,
    pub salt: u32,
    pub place: Place,
    /// Behind the last written record, synced or not.
    pub end: u32,
    /// The greatest synced length that a written header tells.
    pub claimed: u32,
    /// What was written between the beginning of a block and `end`, where that is known.
    pub tail: Vec<u8>,
}

impl Active {
    /// Where a write of whole blocks begins that goes on at `end`; it has what stands in the first of them already.
    fn block(&self) -> Option<u32> {
        let begun = self.end % BLOCK as u32;
        (self.tail.len() == begun as usize).then_some(self.end - begun)
    }

    /// Enters that so many bytes were written at `end`, and what the last of them are.
    fn advance(&mut self, len: usize, last: &[u8]) {
        let is_known = self.block().is_some();
        self.end += len as u32;
        let begun = self.end as usize % BLOCK;
        if let Some(tail) = last.len().checked_sub(begun) {
            self.tail.clear();
            self.tail.extend_from_slice(&last[tail..]);
        } else if is_known {
            self.tail.extend_from_slice(last);
        } else {
            self.tail.clear();
        }
    }
}

impl Appender {
    /// Goes on where recovery found the end; `spares` are files without content.
    pub fn new(shared: Arc<Shared>, segment_bytes: u32, next_file: u64, spare: Option<Place>) -> Appender {
        let active = shared.state().segments.back().map(|last| Active {
            index: last.index,
            salt: last.salt,
            place: last.place.clone(),
            end: last.end,
            claimed: DATA_START,
            tail: Vec::new(),
        });
        Appender {
            shared,
            active,
            spare,
            segment_bytes,
            next_file,
            carried: Vec::new(),
            new_space: Space::Written,
            rolled_at: Instant::now(),
            pages: Pages::default(),
        }
    }

    /// Appends what the commits gathered. The answers come with the sync, which is left in the queue.
    pub fn append(&mut self, commits: Vec<Pending>) {
        let (commits, refused) = self.shared.refuse_known_keys(commits);
        refused.into_iter().for_each(|(reply, error)| reply.send(Err(error)));
        if commits.is_empty() {
            return;
        }
        let mut group = Group::gather(commits, Some(self.shared.packing.codec()));
        if group.drafts.is_empty() && group.notes == Notes::default() {
            return self.answer_nothing(group);
        }
        if let Err(error) = self.make_space(&group) {
            return self.refuse(group, &error);
        }
        // Before the new positions, which count where both state the same origin.
        group.notes.positions.splice(0..0, std::mem::take(&mut self.carried));
        self.write(group);
    }

    /// A group without lines and notes is durable as soon as everything before it is.
    fn answer_nothing(&self, group: Group) {
        let seq = self.shared.state().next_seq;
        for waiting in group.waiting {
            waiting.answer(Ok(seq..seq));
        }
    }

    /// Bytes at the end of a segment that only positions may use, so that reuse can always carry them forward.
    pub(super) fn reserve(&self) -> u32 {
        (self.shared.state().positions.bytes() + 2 * RECORD_HEADER) as u32
    }

    /// Sees to it that the active segment can take a group.
    pub(super) fn make_space(&mut self, group: &Group) -> Result<(), AppendError> {
        let need = group.bytes() + 2 * RECORD_HEADER + group.notes.encode().len();
        if need as u64 > self.shared.options.max_bytes / 2 || need > (u32::MAX / 8) as usize {
            return Err(AppendError::TooLarge);
        }
        if self.shared.state().positions.len() + group.notes.positions.len() > MAX_POSITIONS {
            return Err(AppendError::TooLarge);
        }
        let (need, reserve) = (need as u32, self.reserve());
        let carried = if self.carried.is_empty() { 0 } else { reserve };
        if self.fits(need + carried + reserve) {
            return Ok(());
        }
        self.roll(need, reserve)
    }

    pub(super) fn fits(&self, bytes: u32) -> bool {
        let Some(active) = &self.active else { return false };
        active.end + bytes <= active.place.bytes && self.shared.state().broken != Some(active.index)
    }

    /// Writes a group into the active segment, where it fits, and leaves its sync in the queue.
    pub(super) fn write(&mut self, mut group: Group) {
        let shared = self.shared.clone();
        let active = self.active.as_mut().expect("space was made");
        group.carry_notes(shared.packing.codec(), Timestamp::now());
        let notes = group.notes.encode();
        let mut records = Vec::with_capacity(group.drafts.len());
        let mut firsts = Vec::with_capacity(group.drafts.len());
        let mut touched = Vec::new();
        // A large group goes from here to the disk without another copy, as whole blocks: the first with what stands in it
        // already, which a disk that fails leaves as it is or as it was, and the last with zeros.
        let room = group.bytes() + notes.len();
        let block = active.block().filter(|_| room >= LEAST_BLOCKS);
        let begin = block.unwrap_or(active.end);
        self.pages.make_room(room + block.map_or(0, |_| 2 * BLOCK));
        let mut layout = Layout::new(&mut self.pages, begin, block.map(|_| &active.tail[..]));
        let before = layout.len();
        let mut order = 0;
        let mut newest = Timestamp::default();
        let mut state = shared.state();
        let synced = state.segments.back().map_or(DATA_START, |last| last.end);
        let last = group.drafts.len() - 1;
        for (nth, draft) in std::mem::take(&mut group.drafts).into_iter().enumerate() {
            let packed = draft.packed.expect("packed when it was gathered");
            let mut notes = if nth == last { &notes[..] } else { &[] };
            let filled = layout.filled(&packed, notes.len());
            if let Some(len) = filled {
                // It has the notes, too: where the lines begin must not depend on them.
                let (notes_len, notes_crc) = (notes.len() as u32, crc32c::crc32c(notes));
                let first_seq = state.next_seq;
                let filler = RecordHeader { order, first_seq, notes_len, notes_crc, synced, ..RecordHeader::default() };
                layout.fill(filler, active.salt, notes, len);
                (notes, order) = (&[], order + 1);
            }
            let head = state.heads.get(draft.stream).cloned().unwrap_or_default();
            let (first_seq, lines_len) = (state.next_seq, draft.lines.bytes.len() as u32);
            let count = draft.lines.len() as u32;
            let record = state.number(draft.stream, draft.received_at, draft.lines);
            let header = RecordHeader {
                flags: if nth == last { ENDS_GROUP } else { 0 },
                codec: packed.codec,
                stream: draft.stream,
                key_id: 0,
                order,
                first_seq,
                stream_first: head.events,
                stream_bytes: head.bytes,
                stream_name: head.name,
                received_at: draft.received_at,
                count,
                lines_len,
                packed_len: packed.packed.len() as u32,
                meta_len: packed.meta.len() as u32,
                notes_len: notes.len() as u32,
                body_crc: packed.crc,
                notes_crc: crc32c::crc32c(notes),
                synced,
            };
            layout.push(&header, active.salt, notes, &packed, filled.is_some());
            order += 1;
            firsts.push(first_seq);
            newest = newest.max(draft.received_at);
            touched.push(draft.stream);
            records.push((record, head.bytes));
        }
        let end_seq = state.next_seq;
        drop(state);

        let len = layout.len() - before;
        let ending = layout.ending();
        if block.is_some() {
            layout.fill_up(layout.len().next_multiple_of(BLOCK).min((active.place.bytes - begin) as usize));
        }
        let written = active.place.file.write_pieces_at(&layout.pieces(), u64::from(begin));
        if let Err(error) = written {
            shared.note_fault("write to the journal", &error);
            return self.give_up_segment(group, append_error("write", &error));
        }
        active.advance(len, &ending);
        let end = active.end;
        active.claimed = active.claimed.max(synced);
        let lines = records.iter().map(|(record, _)| record.lines.bytes.len()).sum();
        shared.packing.wrote(lines, Instant::now(), || shared.standing());
        let (index, file) = (active.index, active.place.file.clone());
        let answers = group.waiting.into_iter().map(|waiting| (waiting.seqs(&firsts, end_seq), waiting));
        let answers = answers.map(|(seqs, waiting)| (waiting, seqs)).collect();
        let mut state = shared.state();
        let heads = touched.iter().map(|stream| state.heads.get(*stream).cloned().unwrap_or_default()).collect();
        let job = SyncJob { segment: index, file, end, end_seq, newest, touched, heads, notes: group.notes, answers };
        if state.broken == Some(index) {
            // The sync of what was written before has failed in the meantime.
            return job.fail(&mut state, &AppendError::Sync("the sync before failed".into()));
        }
        for (record, stream_bytes) in records.into_iter().filter(|(record, _)| !record.lines.is_empty()) {
            state.tier.push(record, stream_bytes, Vec::new());
        }
        state.trim_tier(&shared.unpacked);
        shared.syncs.lock().expect("no panic while it is held").jobs.push_back(job);
        drop(state);
        shared.sync_turn.notify_all();
    }

    /// Nothing more goes into the active segment: a write to it failed. What was written before is synced first.
    fn give_up_segment(&mut self, group: Group, error: AppendError) {
        self.finish_syncs();
        let mut state = self.shared.state();
        state.broken = self.active.as_ref().map(|active| active.index);
        state.forget_unsynced();
        drop(state);
        tracing::error!(%error, "cannot write to the journal; continuing in another segment");
        self.refuse(group, &error);
    }

    fn refuse(&self, group: Group, error: &AppendError) {
        let mut state = self.shared.state();
        for (key, _) in &group.notes.keys {
            state.pending_keys.remove(&key.key);
        }
        drop(state);
        group.fail(error);
    }

    /// Syncs here what is due, and waits for what another thread syncs.
    pub fn finish_syncs(&self) {
        while self.shared.sync_once() {}
    }

    /// Notes on the disk, without a sync, that everything written so far is synced, so that damage that comes later
    /// is known for what it is.
    pub fn claim_synced(&mut self) {
        if !self.is_idle() || !self.fits(self.reserve() + RECORD_HEADER as u32) {
            return;
        }
        let state = self.shared.state();
        let Some(active) = &mut self.active else { return };
        let Some(synced) = state.segments.back().map(|last| last.end) else { return };
        if synced <= active.claimed || synced != active.end {
            return;
        }
        let header = RecordHeader { flags: ENDS_GROUP, first_seq: state.next_seq, synced, ..RecordHeader::default() };
        drop(state);
        // Whatever comes next is written over a claim that failed.
        let claim = header.encode(active.salt);
        if active.place.file.write_at(&claim, u64::from(active.end)).is_ok() {
            active.advance(claim.len(), &claim);
            active.claimed = synced;
        }
    }

    /// The last act: everything written is synced, and the disk says so.
    pub fn seal(&mut self) {
        self.finish_syncs();
        self.claim_synced();
        if let Some(active) = &self.active
            && self.shared.state().broken != Some(active.index)
            && let Err(error) = active.place.file.sync()
        {
            tracing::warn!(%error, "cannot sync the end of the journal");
        }
        let mut syncs = self.shared.syncs.lock().expect("no panic while it is held");
        syncs.closed = true;
        drop(syncs);
        self.shared.sync_turn.notify_all();
    }

    pub(super) fn is_idle(&self) -> bool {
        let syncs = self.shared.syncs.lock().expect("no panic while it is held");
        syncs.jobs.is_empty() && !syncs.running
    }
}

pub(super) fn append_error(doing: &str, error: &io::Error) -> AppendError {
    if is_no_space(error) { AppendError::Full } else { AppendError::Sync(format!("cannot {doing}: {error}")) }
}

impl Shared {
    /// Syncs the groups that wait, as far as they lie in one segment, with one call. False if none waits.
    pub fn sync_once(&self) -> bool {
        let mut syncs = self.syncs.lock().expect("no panic while it is held");
        while syncs.running {
            syncs = self.sync_turn.wait(syncs).expect("no panic while it is held");
        }
        let Some(first) = syncs.jobs.front() else { return false };
        let (segment, file) = (first.segment, first.file.clone());
        let same = syncs.jobs.iter().take_while(|job| job.segment == segment).count();
        let jobs: Vec<SyncJob> = syncs.jobs.drain(..same).collect();
        syncs.running = true;
        drop(syncs);

        let started = Instant::now();
        let result = file.sync();
        let took = started.elapsed();
        match result {
            Ok(()) => {
                self.forget_fault();
                self.packing.synced(took);
                self.synced(jobs, took);
            }
            Err(error) => self.sync_failed(jobs, &error),
        }
        self.syncs.lock().expect("no panic while it is held").running = false;
        self.sync_turn.notify_all();
        true
    }

    fn synced(&self, jobs: Vec<SyncJob>, took: std::time::Duration) {
        for job in &jobs {
            enter_keys(self, &job.notes);
        }
        let mut state = self.state();
        state.sync_times.observe(took);
        for job in &jobs {
            state.apply(job);
        }
        drop(state);
        self.changed.notify_waiters();
        for (waiting, seqs) in jobs.into_iter().flat_map(|job| job.answers) {
            waiting.answer(Ok(seqs));
        }
    }

    /// The kernel forgets what a failed sync was about, so that asking again would lie: the segment ends where the
    /// last good sync left it, and everything behind that fails.
    fn sync_failed(&self, mut jobs: Vec<SyncJob>, error: &io::Error) {
        let mut state = self.state();
        state.broken = Some(jobs[0].segment);
        state.forget_unsynced();
        // What was written meanwhile lies in the same segment.
        jobs.extend(self.syncs.lock().expect("no panic while it is held").jobs.drain(..));
        if self.note_fault("sync the journal", error) {
            tracing::error!(%error, groups = jobs.len(), "cannot sync the journal; continuing in another segment");
        }
        let error = append_error("sync", error);
        for job in jobs {
            job.fail(&mut state, &error);
        }
    }
}

impl Shared {
    /// Parts commits from those whose key is known or on its way, which are refused.
    pub(super) fn refuse_known_keys(&self, commits: Vec<Pending>) -> (Vec<Pending>, Vec<(Reply, AppendError)>) {
        let now = Timestamp::now();
        let (mut fresh, mut refused) = (Vec::with_capacity(commits.len()), Vec::new());
        for commit in commits {
            let Some(key) = &commit.key else {
                fresh.push(commit);
                continue;
            };
            let refusal = match self.keys.find(key, now) {
                Ok(Some(known)) => Some(AppendError::KnownKey(known)),
                Ok(None) if !self.state().pending_keys.insert(key.key) => Some(AppendError::KeyInFlight),
                Ok(None) => None,
                Err(error) => Some(AppendError::Sync(format!("cannot read the idempotency keys: {error}"))),
            };
            match refusal {
                None => fresh.push(commit),
                Some(error) => refused.push((commit.reply, error)),
            }
        }
        (fresh, refused)
    }
}

/// Writes keys to their table; where that fails they are still in the journal, and enter the table at the next start.
pub(super) fn enter_keys(shared: &Shared, notes: &Notes) {
    let now = Timestamp::now();
    for (key, accepted) in &notes.keys {
        if let Err(error) = shared.keys.enter(key, *accepted, notes.keys_at, now) {
            tracing::warn!(%error, "cannot write an idempotency key");
        }
    }
    if !notes.keys.is_empty() {
        let mut state = shared.state();
        for (key, _) in &notes.keys {
            state.pending_keys.remove(&key.key);
        }
    }
}

impl SyncJob {
    fn fail(self, state: &mut State, error: &AppendError) {
        for (key, _) in &self.notes.keys {
            state.pending_keys.remove(&key.key);
        }
        for (waiting, _) in self.answers {
            waiting.answer(Err(error.clone()));
        }
    }
}

impl State {
    /// Gives lines their numbers.
    pub(super) fn number(&mut self, stream: StreamId, received_at: Timestamp, lines: Lines) -> Arc<Record> {
        let count = lines.len() as u64;
        let first_seq = self.next_seq;
        self.next_seq += count;
        let mut stream_first = 0;
        if let Some(head) = self.heads.get_mut(stream) {
            stream_first = head.events;
            head.events += count;
            head.bytes += lines.bytes.len() as u64;
            head.end_seq = self.next_seq;
        }
        Arc::new(Record { stream, first_seq, stream_first, received_at, lines })
    }

    /// What a finished sync makes true.
    fn apply(&mut self, job: &SyncJob) {
        self.synced_seq = job.end_seq;
        for (stream, head) in job.touched.iter().zip(&job.heads) {
            if let Some(known) = self.synced.get_mut(*stream) {
                *known = head.clone();
            }
        }
        for position in &job.notes.positions {
            self.positions.state(position, job.segment);
        }
        let segment = self.segments.back_mut().expect("groups are written to the last segment");
        debug_assert_eq!(segment.index, job.segment, "the next segment is opened after the last sync");
        segment.end = job.end;
        segment.end_seq = job.end_seq;
        segment.newest = segment.newest.max(job.newest);
    }

    /// Takes back the numbers of what will never be synced.
    fn forget_unsynced(&mut self) {
        self.next_seq = self.synced_seq;
        self.heads = self.synced.clone();
        let synced_seq = self.synced_seq;
        self.tier.cut(synced_seq);
    }
}
