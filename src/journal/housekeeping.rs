//! Housekeeping: saves cursors within a second of moving, and enforces bounds that drop.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;

use super::fs::Fs;
use super::positions::OWN_CURSORS;
use super::segment::Segment;
use super::slots::Slots;
use super::state::{Removal, Shared, State};
use super::streams::{Heads, Wanted};
use super::watermark::{CursorState, Stored};
use super::writer::{Receipt, Ticket};
use super::{Cause, Commit, Position, WhenFull};
use crate::units::Timestamp;

/// Bytes for a position, totals and the streams of a cursor.
const POSITION_SLOT: usize = 4096;
/// The most bytes a consumer can keep with its cursor.
pub const STATE_SLOT: usize = 256 * 1024;

/// The files of one cursor. The second, made when first needed, also holds what the consumer itself remembers.
pub struct CursorFiles {
    position: Slots,
    state: Option<Slots>,
}

fn path(dir: &Path, name: &str, kind: &str) -> PathBuf {
    let mut file = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            file.push(byte as char);
        } else {
            file.push_str(&format!("%{byte:02x}"));
        }
    }
    dir.join("cursors").join(format!("{file}.{kind}"))
}

impl CursorFiles {
    /// Whether something that the consumer remembers may be there.
    pub fn has_state(&self) -> bool {
        self.state.is_some()
    }

    pub fn open(fs: &dyn Fs, dir: &Path, name: &str) -> io::Result<CursorFiles> {
        let (position, _) = Slots::open(fs, &path(dir, name, "cursor"), POSITION_SLOT)?;
        fs.sync_dir(&dir.join("cursors"))?;
        Ok(CursorFiles { position, state: None })
    }
}

/// Cursors and their files, and the names of files in which nothing was readable.
type Loaded = (Vec<(Stored, CursorFiles)>, Vec<String>);

/// Reads all cursors that left a file.
pub fn load_cursors(fs: &dyn Fs, dir: &Path) -> io::Result<Loaded> {
    let folder = dir.join("cursors");
    let (mut cursors, mut broken) = (Vec::new(), Vec::new());
    for file in fs.list(&folder)? {
        let Some(stem) = file.strip_suffix(".cursor") else { continue };
        let (position, stored) = Slots::open(fs, &folder.join(&file), POSITION_SLOT)?;
        let stored = stored.and_then(|bytes| Stored::decode(&bytes));
        let state_name = format!("{stem}.state");
        let (mut state, mut with_state) = (None, None);
        if fs.list(&folder)?.contains(&state_name) {
            let (slots, content) = Slots::open(fs, &folder.join(state_name), STATE_SLOT)?;
            with_state = content.and_then(|bytes| Stored::decode(&bytes));
            state = Some(slots);
        }
        let extra = with_state.as_ref().and_then(|stored| stored.extra.clone());
        match stored.into_iter().chain(with_state).max_by_key(|stored| stored.generation) {
            Some(newest) => cursors.push((Stored { extra, ..newest }, CursorFiles { position, state })),
            None => broken.push(file),
        }
    }
    Ok((cursors, broken))
}

/// Writes every cursor that moved since it was last written; the error is that of the first that could not be.
pub fn save_cursors(shared: &Arc<Shared>) -> io::Result<()> {
    if !shared.on_disk() {
        return Ok(());
    }
    let mut result = Ok(());
    let mut files = shared.files.lock().expect("no panic while it is held");
    let names: Vec<Arc<str>> = shared.state().cursors.keys().cloned().collect();
    for name in names {
        let Some((stored, with_state)) = shared.state().cursor_to_store(&name) else { continue };
        let is_new = !files.contains_key(&name);
        let saved = save(shared, &mut files, &name, &stored, with_state);
        if is_new && saved.is_ok() {
            // Losing this note in a crash costs nothing as long as the cursor's file is there.
            drop(note_cursor(shared, &name, true));
        }
        let mut state = shared.state();
        let Some(cursor) = state.cursors.get_mut(&name) else { continue };
        match saved {
            Ok(()) => cursor.saved = stored.settled,
            Err(error) => {
                (cursor.dirty, cursor.extra_dirty) = (true, cursor.extra_dirty || with_state);
                tracing::warn!(%error, cursor = %name, "cannot save a cursor");
                result = result.and(Err(error));
            }
        }
    }
    result
}

type Files = std::collections::BTreeMap<Arc<str>, CursorFiles>;

fn save(shared: &Shared, files: &mut Files, name: &Arc<str>, stored: &Stored, with_state: bool) -> io::Result<()> {
    let dir = &shared.options.dir;
    if !files.contains_key(name) {
        files.insert(name.clone(), CursorFiles::open(&*shared.fs, dir, name)?);
    }
    let files = files.get_mut(name).expect("just made");
    if with_state {
        if files.state.is_none() {
            let (slots, _) = Slots::open(&*shared.fs, &path(dir, name, "state"), STATE_SLOT)?;
            shared.fs.sync_dir(&dir.join("cursors"))?;
            files.state = Some(slots);
        }
        files.state.as_mut().expect("just made").save(&stored.encode())?;
    }
    files.position.save(&Stored { extra: None, ..stored.clone() }.encode())
}

/// Writes into the journal that there is a cursor of this name, or that it is gone.
pub fn note_cursor(shared: &Arc<Shared>, name: &str, is_there: bool) -> Receipt {
    let value: &[u8] = if is_there { b"1" } else { b"" };
    let key = Bytes::copy_from_slice(name.as_bytes());
    let position = Position { source: OWN_CURSORS.into(), key, value: Bytes::from_static(value) };
    let commit = Commit { positions: vec![position], received_at: Timestamp::now(), ..Commit::default() };
    Ticket::take(shared).commit(commit)
}

/// Removes the files of cursors that are no more, as soon as the journal says so on the disk.
pub fn remove_dropped(shared: &Arc<Shared>) {
    // Whoever makes a cursor of the same name waits for this lock.
    let mut files = shared.files.lock().expect("no panic while it is held");
    let names: Vec<Arc<str>> = shared.state().removed.keys().cloned().collect();
    for name in names {
        let mut state = shared.state();
        let Some(removed) = state.removed.get_mut(&name) else { continue };
        let answer = match &mut removed.stage {
            Removal::Done => continue,
            Removal::Synced => Ok(()),
            Removal::Noted(receipt) => match receipt.now_or_never() {
                None => continue,
                Some(answer) => answer.map(drop),
            },
        };
        drop(state);
        let stage = match answer {
            Ok(()) => match remove_files(shared, &mut files, &name) {
                Ok(()) => Removal::Done,
                Err(error) => {
                    tracing::warn!(%error, cursor = %name, "the files of a removed cursor could not be removed");
                    Removal::Synced
                }
            },
            // Said again: what a crash would find otherwise is the cursor as it was.
            Err(_) => Removal::Noted(note_cursor(shared, &name, false)),
        };
        if let Some(removed) = shared.state().removed.get_mut(&name) {
            removed.stage = stage;
        }
    }
}

fn remove_files(shared: &Shared, files: &mut Files, name: &Arc<str>) -> io::Result<()> {
    let Some(known) = files.get_mut(name) else { return Ok(()) };
    if known.state.is_some() {
        shared.fs.remove(&path(&shared.options.dir, name, "state"))?;
        known.state = None;
    }
    shared.fs.remove(&path(&shared.options.dir, name, "cursor"))?;
    files.remove(name);
    shared.fs.sync_dir(&shared.options.dir.join("cursors"))
}

/// Moves the cursors that are over a bound with `drop_oldest` to where they are under it.
pub fn keep_bounds(shared: &Shared) {
    let mut state = shared.state();
    let now = Timestamp::now();
    let over = |state: &State, cursor: &CursorState| {
        cursor.bound.is_some_and(|bound| bound.when_full == WhenFull::DropOldest) && state.is_over_bound(cursor, 0, now)
    };
    let names: Vec<Arc<str>> =
        state.cursors.iter().filter(|(_, cursor)| over(&state, cursor)).map(|(name, _)| name.clone()).collect();
    for name in names {
        let cursor = &state.cursors[&name];
        let (bound, read, since) =
            (cursor.bound.expect("it is over it"), cursor.read.seq, state.oldest_waiting(cursor));
        let oldest = bound.max_age.map_or(i64::MIN, |age| now.0.saturating_sub(age.as_micros() as i64));
        let limit = bound.max_bytes.unwrap_or(u64::MAX);
        let wanted = cursor.wanted.clone();
        let (to, heads) = state.place_within(read, &wanted, limit, Timestamp(oldest));
        if to > read {
            let cursor = state.cursors.get_mut(&name).expect("it was there");
            cursor.drop_to(to, &heads, Cause::BufferFull, since);
        }
    }
    drop(state);
}

/// Lets records in memory go that all cursors have passed and that were received before `time`: whoever resumes behind them
/// reads them from the disk. In memory mode there is no disk, and they stay as long as there is room.
pub fn forget_passed(shared: &Shared, time: Timestamp) {
    if shared.on_disk() {
        let mut state = shared.state();
        let passed = state.held_from().min(state.synced_seq);
        state.tier.forget(passed, time);
    }
}

impl State {
    /// The first place behind `from` with no more than `limit` bytes of the wanted streams behind it, none of them
    /// received before `oldest`: a record in memory, or the start of a segment.
    fn place_within(&self, from: u64, wanted: &Wanted, limit: u64, oldest: Timestamp) -> (u64, Heads) {
        let waiting = |heads: &Heads| -> u64 {
            let streams = heads.ids().filter(|stream| wanted.has(*stream));
            streams.filter_map(|s| Some(self.synced.get(s)?.bytes.saturating_sub(heads.get(s)?.bytes))).sum()
        };
        let starts = |segment: &Segment| segment.starts.clone().by_the_names_of(&self.heads);
        let mut segments = self.segments.iter().skip(1).filter(|segment| segment.first_seq > from);
        if let Some(segment) = segments.find(|segment| {
            segment.first_seq <= self.tier.start() && segment.oldest >= oldest && waiting(&starts(segment)) <= limit
        }) {
            return (segment.first_seq, starts(segment));
        }
        let mut heads = self.synced.clone();
        let mut behind = 0;
        let mut to = self.synced_seq;
        for (record, stream_bytes) in self.tier.backwards() {
            if record.end_seq() > self.synced_seq {
                continue;
            }
            if record.first_seq < from {
                break;
            }
            if wanted.has_at(record.stream, record.first_seq) {
                behind += record.lines.bytes.len() as u64;
                if behind > limit || record.received_at < oldest {
                    break;
                }
            }
            to = record.first_seq;
            if let Some(head) = heads.get_mut(record.stream)
                && record.first_seq >= head.since
            {
                (head.events, head.bytes) = (record.stream_first, stream_bytes);
            }
        }
        (to, heads)
    }
}
