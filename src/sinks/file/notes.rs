//! Write-ahead notes about files that the sink's saved state does not know yet: created and rotated files.
//!
//! The memory is saved within a second; whatever happens in between stands here. A line is one JSON object, synced
//! before what it announces. The first line says which run of notes this is; the memory names the run and how
//! much of it it covers. A torn last line announced nothing that was done.
//!
//! Notes that have become long are begun anew; the run before is kept beside them, for the memory that is saved may be
//! one of it still.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::identity::Identity;

/// The extension of the run before.
const BEFORE: &str = "notes-before";

/// A file as far as it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub len: u64,
    #[serde(flatten)]
    pub identity: Identity,
    /// When it was begun, in microseconds since 1970.
    pub begun: i64,
}

pub type Files = BTreeMap<String, Known>;

/// What the sink remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub run: u64,
    /// Bytes of the notes that it covers.
    pub covers: u64,
    pub files: Files,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    Run {
        run: u64,
        position: u64,
        files: Files,
    },
    /// A file is about to be written whose content so far is not ours to cut.
    Begin {
        path: String,
        seq: u64,
        file: Known,
    },
    /// A file is about to get another name; events of this path before `seq` are in files put aside.
    Finish {
        path: String,
        seq: u64,
        file: Known,
        to: String,
    },
}

#[derive(Debug)]
pub struct Notes {
    file: File,
    path: PathBuf,
    /// When this run began, or was taken up.
    since: Instant,
    pub run: u64,
    pub len: u64,
}

/// Notes longer than this are begun anew.
pub const LONG: u64 = 1024 * 1024;
/// So long the run before must have been kept until the next one replaces it: by then a newer memory is saved.
pub const KEPT: Duration = Duration::from_secs(60);

/// A note, and where it is.
#[derive(Debug)]
pub struct Placed {
    pub run: u64,
    pub at: u64,
    pub note: Note,
}

impl Notes {
    /// Reads what the last two runs have left, and where the last one ends; nothing if there is none.
    pub fn read(path: &Path) -> io::Result<(Vec<Placed>, u64)> {
        let (mut placed, mut end) = (Vec::new(), 0);
        for path in [path.with_extension(BEFORE), path.to_owned()] {
            let (notes, len) = Notes::read_one(&path)?;
            end = len;
            let Some((_, Note::Run { run, .. })) = notes.first() else { continue };
            let run = *run;
            placed.extend(notes.into_iter().map(|(at, note)| Placed { run, at, note }));
        }
        Ok((placed, end))
    }

    /// The notes of one file with their places, and the end of the last.
    fn read_one(path: &Path) -> io::Result<(Vec<(u64, Note)>, u64)> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            text => text?,
        };
        let (mut notes, mut at) = (Vec::new(), 0);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(Ok(note)) = line.strip_suffix(b"\n").map(serde_json::from_slice) else { break };
            notes.push((at, note));
            at += line.len() as u64;
        }
        Ok((notes, at))
    }

    /// Goes on with notes of which `len` bytes are whole.
    pub fn resume(path: &Path, run: u64, len: u64) -> io::Result<Notes> {
        let file = OpenOptions::new().append(true).open(path)?;
        if file.metadata()?.len() > len {
            file.set_len(len)?;
            file.sync_all()?;
        }
        Ok(Notes { file, path: path.to_owned(), run, len, since: Instant::now() })
    }

    /// Whether they are long, and the run before has been kept for long enough.
    pub fn is_due(&self) -> bool {
        self.len >= LONG && self.since.elapsed() >= KEPT
    }

    /// Begins the next run.
    pub fn next_run(&mut self, position: u64, files: &Files) -> io::Result<()> {
        *self = Notes::begin(&self.path, self.run + 1, position, files)?;
        Ok(())
    }

    /// Begins a new run in the place of the old one, which is kept beside it.
    pub fn begin(path: &Path, run: u64, position: u64, files: &Files) -> io::Result<Notes> {
        let temporary: PathBuf = path.with_extension("tmp");
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut notes = Notes { file, path: path.to_owned(), run, len: 0, since: Instant::now() };
        notes.add(&Note::Run { run, position, files: files.clone() })?;
        match std::fs::rename(path, path.with_extension(BEFORE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(&temporary, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Notes { file, ..notes })
    }

    /// Writes a note down for good.
    pub fn add(&mut self, note: &Note) -> io::Result<()> {
        let mut line = serde_json::to_vec(note).expect("strings and numbers are JSON");
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.len += line.len() as u64,
            // Half a line would hide the notes behind it.
            Err(_) => self.file.set_len(self.len)?,
        }
        written
    }
}
