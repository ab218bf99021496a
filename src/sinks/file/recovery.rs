//! Recovery: truncates every file to its committed length, and undoes or completes what was begun.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tracing::{info, warn};

use super::identity::Identity;
use super::notes::{Files, LONG, Memory, Note, Notes, Placed};
use super::writer::{Writer, classify};
use super::{Config, finished, place};
use crate::component::{Failure, SinkContext};

/// What an open sink works with; by path, the events before these numbers are in files that were put aside.
type Opened = (Writer, BTreeMap<String, u64>);

/// Opens the writer, or only looks whether that could be done.
pub fn open(
    config: &Config,
    cx: &SinkContext,
    root: &Path,
    header: Option<Vec<u8>>,
    is_constant: bool,
) -> Result<Option<Opened>, Failure> {
    let root_name = root.display().to_string();
    // No event has a say in where the root and the sink's own files are.
    let classify = |path: &str, error: io::Error| classify(path, error, true);
    if cx.dry {
        return check_root(root).map(|()| None).map_err(|error| classify(&root_name, error));
    }
    let root = open_root(root).map_err(|error| classify(&root_name, error))?;
    let own = own_folder(cx).map_err(|error| classify("the sink's notes", error))?;
    let lock = take_lock(&own.with_extension("lock")).map_err(|error| Failure::transient(error.to_string()))?;
    let recovered = recover(&root, &own.with_extension("notes"), cx);
    let (notes, files, skip) = recovered.map_err(|error| classify(&root_name, error))?;
    let writer = Writer {
        root: Arc::new(root),
        notes,
        _lock: lock,
        files,
        header,
        rotate: config.rotate,
        compression: config.compression,
        archiver: Arc::default(),
        is_constant,
        open: BTreeMap::new(),
        clock: 0,
        used: BTreeMap::new(),
    };
    Ok(Some((writer, skip)))
}

fn open_root(root: &Path) -> io::Result<OwnedFd> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(root)?;
    Ok(rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The path of the sink's own files, without an extension.
fn own_folder(cx: &SinkContext) -> io::Result<std::path::PathBuf> {
    let folder = cx.data_dir.join("sinks");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder.join(cx.name.replace(['/', '.'], "_")))
}

/// A write whose caller has given up may still be under way; it holds the lock.
fn take_lock(path: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(io::Error::other("an earlier write has not ended yet")),
        locked => Ok(locked.map(|()| lock)?),
    }
}

type Recovered = (Notes, Files, BTreeMap<String, u64>);

fn recover(root: &OwnedFd, path: &Path, cx: &SinkContext) -> io::Result<Recovered> {
    let memory: Option<Memory> = cx.memory.as_ref().and_then(|(_, memory)| serde_json::from_slice(memory).ok());
    let (notes, end) = Notes::read(path)?;
    let start = Start::of(memory, &notes, cx.position);
    let mut files = start.files;
    let mut skip = BTreeMap::new();
    for (nth, note) in start.notes.iter().enumerate() {
        match note {
            Note::Run { .. } => {}
            Note::Begin { path, file, .. } => {
                // A length that the memory knows is the older one, and so the right one.
                if !files.get(path).is_some_and(|known| known.identity.is_same(&file.identity)) {
                    files.insert(path.clone(), *file);
                }
            }
            Note::Finish { path, seq, file, to } => {
                // The next file of this path is begun only when this one has its new name.
                let is_done = start.notes[nth + 1..]
                    .iter()
                    .any(|later| matches!(later, Note::Begin { path: other, .. } if other == path));
                if !is_done && let Ok(folder) = place::folder(root.as_fd(), path, false) {
                    finished::rename(&folder, place::name_of(path), to, file)?;
                }
                files.remove(path);
                skip.insert(path.clone(), *seq);
            }
        }
    }
    let known = std::mem::take(&mut files);
    for (path, mut known) in known {
        if cut_back(root, &path, &mut known)? {
            files.insert(path, known);
        }
    }
    let run = notes.last().map(|placed| placed.run);
    let notes = match run {
        Some(run) if end > 0 && end < LONG => Notes::resume(path, run, end)?,
        run => Notes::begin(path, run.unwrap_or(0) + 1, cx.position, &files)?,
    };
    Ok((notes, files, skip))
}

/// What to begin with, and the notes that come on top of it.
struct Start<'a> {
    files: Files,
    notes: Vec<&'a Note>,
}

impl<'a> Start<'a> {
    fn of(memory: Option<Memory>, notes: &'a [Placed], position: u64) -> Start<'a> {
        let behind = |run: u64, covers: u64| {
            notes.iter().filter(move |placed| (placed.run, placed.at) >= (run, covers)).map(|placed| &placed.note)
        };
        // Nothing was saved since this run began.
        let begun_here = notes.iter().rev().find_map(|placed| match &placed.note {
            Note::Run { run, position: begun, files } if *begun == position => Some((*run, files)),
            _ => None,
        });
        match (memory, begun_here) {
            (Some(memory), _) if notes.iter().any(|placed| placed.run == memory.run) => {
                Start { notes: behind(memory.run, memory.covers).collect(), files: memory.files }
            }
            (_, Some((run, files))) => Start { files: files.clone(), notes: behind(run, 0).collect() },
            (Some(memory), _) => Start { files: memory.files, notes: Vec::new() },
            // Without a memory, only what comes again may be cut.
            (None, _) => {
                let again = |note: &&Note| match note {
                    Note::Begin { seq, .. } | Note::Finish { seq, .. } => *seq >= position,
                    Note::Run { .. } => false,
                };
                Start { files: Files::new(), notes: behind(0, 0).filter(again).collect() }
            }
        }
    }
}

/// Cuts a file back to what is committed; `false` if it is gone or another one by now.
fn cut_back(root: &OwnedFd, path: &str, known: &mut super::notes::Known) -> io::Result<bool> {
    let opened =
        place::folder(root.as_fd(), path, false).and_then(|folder| place::file(folder, place::name_of(path), false));
    let file = match opened {
        Err(Errno::NOENT) => return Ok(false),
        file => file?,
    };
    if !known.identity.is_same(&Identity::of(&file)?) {
        return Ok(false);
    }
    let size = file.metadata()?.len();
    if size > known.len {
        file.set_len(known.len)?;
        file.sync_all()?;
        info!(path, size, committed = known.len, "truncated to the committed length; the rest is written again");
    } else if size < known.len {
        warn!(path, size, committed = known.len, "a file is shorter than what was committed");
        known.len = size;
    }
    Ok(true)
}

/// For `validate`: whether the root is there or could be made, and written.
fn check_root(root: &Path) -> io::Result<()> {
    let there = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    Ok(rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
}
