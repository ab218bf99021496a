//! The file-system calls of the journal, and their real implementation; the simulated one is in `sim`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::descriptors::Descriptors;

/// An open file. Offsets are explicit, so that readers share one handle.
pub trait File: Send + Sync {
    /// Reads until `buffer` is full or the file ends; tells how much came.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// The same for bytes that lie in several places, one behind the other.
    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        match pieces {
            [one] => self.write_at(one, offset),
            pieces => self.write_at(&pieces.concat(), offset),
        }
    }
    /// Makes a new file that long. It reads as zeros and has its space on the disk.
    fn allocate(&self, bytes: u32) -> io::Result<()>;
    fn size(&self) -> io::Result<u64>;
    /// Makes everything written so far survive a power cut, the length included.
    fn sync(&self) -> io::Result<()>;
}

/// What keeps a second opener out for as long as it lives.
pub type Guard = Box<dyn Send + Sync>;

pub enum Lock {
    Held(Guard),
    /// Somebody else has it; who, if the file says.
    Taken(Option<u32>),
}

/// Where files live. Creating, renaming and removing survive a power cut only after `sync_dir`.
pub trait Fs: Send + Sync {
    /// Makes a private folder; one that exists is fine.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file for reading and writing, made (private) if it is missing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// The names of the files in a folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that can still be allocated.
    fn available(&self, dir: &Path) -> io::Result<u64>;
    fn lock(&self, path: &Path) -> io::Result<Lock>;
}

/// The file system of the operating system.
#[derive(Default)]
pub struct Real {
    descriptors: Arc<Descriptors>,
}

pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl Real {
    #[cfg(test)]
    pub(super) fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }
}

impl Fs for Real {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.descriptors.keep(path, private().create(true).truncate(false).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.descriptors.keep(path, private().open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::File::open(dir)?.sync_all()
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut file = private().create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // The number is for people to read; on a full disk the lock holds without it.
                let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                Ok(Lock::Held(Box::new(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Ok(Lock::Taken(std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok())))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The process that holds the lock at `path`, where one does; nothing is made.
pub fn holder(path: &Path) -> Option<u32> {
    let file = std::fs::File::open(path).ok()?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => std::fs::read_to_string(path).ok()?.trim().parse().ok(),
        _ => None,
    }
}

/// Whether an error says that the disk, its quota or its table of files is full.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
