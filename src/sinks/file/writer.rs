//! Appends to many files, and tracks the committed length of each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tracing::warn;

use super::append;
use super::finished::{self, Archiver};
use super::identity::Identity;
use super::notes::{Files, Known, Memory, Note, Notes};
use super::{Compression, Rotate, place};
use crate::component::Failure;
use crate::journal::direct;
use crate::units::Timestamp;

/// Files that are kept open; the one unused for longest is closed first.
const MAX_OPEN: usize = 64;
/// Files whose committed length is remembered; the one unused for longest is forgotten first.
const MAX_KNOWN: usize = 1024;

/// The lines of a batch that go to one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub path: String,
    pub chunks: Vec<Bytes>,
    pub first_seq: u64,
}

pub struct Writer {
    pub root: Arc<OwnedFd>,
    pub notes: Notes,
    /// Kept so that no other writer has the same notes.
    pub _lock: File,
    /// What is committed.
    pub files: Files,
    pub header: Option<Vec<u8>>,
    pub rotate: Rotate,
    pub compression: Compression,
    pub archiver: Arc<Archiver>,
    /// Whether all events go to the same file.
    pub is_constant: bool,
    pub open: BTreeMap<String, Open>,
    /// Ascending with every use.
    pub clock: u64,
    pub used: BTreeMap<String, u64>,
}

/// A file that is open.
pub struct Open {
    file: File,
    folder: OwnedFd,
    /// Whether large writes may go past the page cache.
    is_direct: bool,
}

impl Writer {
    /// Appends all groups and syncs them; if that fails, none of them was written.
    pub fn write(&mut self, groups: &[Group]) -> Result<u64, Failure> {
        if self.notes.is_due()
            && let Some(first) = groups.iter().map(|group| group.first_seq).min()
        {
            let begun = self.notes.next_run(first, &self.files);
            begun.map_err(|error| classify("the sink's notes", error, true))?;
        }
        // Whether every file can be had is settled before the first byte is written.
        for group in groups {
            self.ready(group)?;
        }
        let mut lens = Vec::with_capacity(groups.len());
        for batch in groups.chunks(MAX_OPEN) {
            for group in batch {
                // Files of this write are the last to be closed again.
                self.touch(&group.path);
                let appended = match self.open.contains_key(&group.path) {
                    true => Ok(()),
                    false => self.open_file(group),
                };
                match appended.and_then(|()| self.append(group)) {
                    Ok(len) => lens.push((&group.path, len)),
                    Err(error) => return Err(self.cut_back(batch, &group.path, &error)),
                }
            }
            for group in batch {
                if let Err(error) = self.open[&group.path].file.sync_data() {
                    return Err(self.cut_back(batch, &group.path, &error));
                }
            }
        }
        let mut bytes = 0;
        for (path, len) in lens {
            if let Some(known) = self.files.get_mut(path) {
                bytes += len - known.len;
                known.len = len;
            }
        }
        self.forget_the_unused();
        Ok(bytes)
    }

    /// What the sink must find again after a crash.
    pub fn memory(&self) -> Bytes {
        let memory = Memory { run: self.notes.run, covers: self.notes.len, files: self.files.clone() };
        serde_json::to_vec(&memory).expect("strings and numbers are JSON").into()
    }

    /// No half line stays behind; what cannot be cut now is cut when the sink is opened again.
    fn cut_back(&self, batch: &[Group], path: &str, error: &io::Error) -> Failure {
        for group in batch {
            if let (Some(open), Some(known)) = (self.open.get(&group.path), self.files.get(&group.path))
                && let Err(error) = open.file.set_len(known.len)
            {
                warn!(path = group.path, %error, "a file could not be truncated yet");
            }
        }
        Failure::transient(format!("cannot write `{path}`: {error}"))
    }

    /// Sees to it that the group's file is open, known, the one at its path, and due for no rotation.
    fn ready(&mut self, group: &Group) -> Result<(), Failure> {
        self.touch(&group.path);
        let is_constant = self.is_constant;
        let fail = |error: io::Error| classify(&group.path, error, is_constant);
        if self.is_due(group) {
            self.finish(group).map_err(fail)?;
        }
        if let Some(open) = self.open.get(&group.path) {
            let here = Identity::at(&open.folder, place::name_of(&group.path));
            let same = |here: Identity| self.files.get(&group.path).is_some_and(|known| known.identity.is_same(&here));
            if here.is_ok_and(same) {
                return Ok(());
            }
            // Somebody has moved it away: what comes goes to a new one.
            self.open.remove(&group.path);
        }
        self.open_file(group).map_err(fail)
    }

    fn open_file(&mut self, group: &Group) -> io::Result<()> {
        let folder = place::folder(self.root.as_fd(), &group.path, true)?;
        let file = place::file(&folder, place::name_of(&group.path), true)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(io::Error::other("another process or sink is writing it")),
            locked => locked?,
        }
        let identity = Identity::of(&file)?;
        if !self.files.get(&group.path).is_some_and(|known| known.identity.is_same(&identity)) {
            let known = Known { len: file.metadata()?.len(), identity, begun: Timestamp::now().0 };
            let path = group.path.clone();
            self.notes.add(&Note::Begin { path: path.clone(), seq: group.first_seq, file: known })?;
            rustix::fs::fsync(&folder)?;
            self.files.insert(path, known);
        }
        if self.open.len() >= MAX_OPEN
            && let Some(path) = self.open.keys().min_by_key(|path| self.last_use(path)).cloned()
        {
            self.open.remove(&path);
        }
        self.open.insert(group.path.clone(), Open { is_direct: direct::is_allowed(&file), file, folder });
        Ok(())
    }

    fn touch(&mut self, path: &str) {
        self.clock += 1;
        self.used.insert(path.to_owned(), self.clock);
    }

    fn last_use(&self, path: &str) -> u64 {
        self.used.get(path).copied().unwrap_or(0)
    }

    /// Forgets committed lengths beyond the bound, those unused for longest, once a write has ended.
    fn forget_the_unused(&mut self) {
        let too_many = self.files.len().saturating_sub(MAX_KNOWN);
        if too_many == 0 {
            return;
        }
        let mut closed: Vec<(u64, String)> = self
            .files
            .keys()
            .filter(|path| !self.open.contains_key(*path))
            .map(|path| (self.last_use(path), path.clone()))
            .collect();
        closed.sort_unstable();
        for (_, path) in closed.into_iter().take(too_many) {
            self.files.remove(&path);
            self.used.remove(&path);
        }
    }

    /// Appends the lines of a group and returns the new length of the file.
    fn append(&mut self, group: &Group) -> io::Result<u64> {
        let (open, known) = (
            self.open.get(&group.path).expect("it was opened"),
            self.files.get_mut(&group.path).expect("an open file is known"),
        );
        let size = open.file.metadata()?.len();
        if size != known.len {
            warn!(path = group.path, expected = known.len, size, "another program changed the length of a file");
            known.len = size;
        }
        let header = self.header.as_deref().filter(|_| size == 0);
        let chunks: Vec<&[u8]> = header.into_iter().chain(group.chunks.iter().map(|chunk| &chunk[..])).collect();
        append::append(&open.file, size, &chunks, open.is_direct)?;
        Ok(chunks.iter().fold(size, |len, chunk| len + chunk.len() as u64))
    }

    fn is_due(&self, group: &Group) -> bool {
        let Some(known) = self.files.get(&group.path).filter(|known| known.len > 0) else { return false };
        let more: usize = group.chunks.iter().map(Bytes::len).sum();
        let too_long = self.rotate.size.is_some_and(|most| known.len + more as u64 > most.bytes());
        let too_old = self.rotate.age.is_some_and(|most| Timestamp(known.begun).plus(most.0) <= Timestamp::now());
        too_long || too_old
    }

    /// Puts a file aside; everything in it is synced already.
    fn finish(&mut self, group: &Group) -> io::Result<()> {
        let Some(known) = self.files.get(&group.path).copied() else { return Ok(()) };
        let folder = place::folder(self.root.as_fd(), &group.path, false)?;
        let to = finished::name(place::name_of(&group.path), Timestamp::now());
        let note = Note::Finish { path: group.path.clone(), seq: group.first_seq, file: known, to: to.clone() };
        self.notes.add(&note)?;
        self.open.remove(&group.path);
        finished::rename(&folder, place::name_of(&group.path), &to, &known)?;
        self.files.remove(&group.path);
        self.archiver.tidy(folder, place::name_of(&group.path).to_owned(), self.rotate.keep, self.compression);
        Ok(())
    }
}

/// What an error of the file system means for the events; where they have no say in the path, it is never their fault.
pub fn classify(path: &str, error: io::Error, is_constant: bool) -> Failure {
    let answer = format!("cannot write `{path}`: {error}");
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG | Errno::NXIO) if is_constant => {
            Failure::configuration(format!("{answer}: not a regular file"))
        }
        // A link, or a file where a folder should be.
        Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG | Errno::NXIO) => {
            Failure::poison(format!("confinement_failed: {answer}"))
        }
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Failure::configuration(answer),
        _ => Failure::transient(answer),
    }
}
