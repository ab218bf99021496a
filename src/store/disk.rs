//! The store's file-system calls in one place, so that a test can stop between any two.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::{Arc, Mutex};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// One step that changes what is on disk.
#[cfg(test)]
#[derive(Clone, Debug)]
pub enum Step {
    Create(PathBuf),
    Write { path: PathBuf, at: u64, bytes: Vec<u8> },
    SetLen { path: PathBuf, len: u64 },
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
}

/// What tests watch, and where they let a step fail.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Watch {
    pub steps: Vec<Step>,
    /// The step, counted from now on, that fails.
    pub fails_in: Option<usize>,
}

/// The file system; clones are one.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    #[cfg(test)]
    pub watch: Option<Arc<Mutex<Watch>>>,
}

/// An open file whose changes are steps.
#[derive(Debug)]
pub struct DiskFile {
    file: fs::File,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests watch steps by path"))]
    path: PathBuf,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests watch steps"))]
    disk: Disk,
}

impl Disk {
    /// Notes a step before it is taken; an error where a test wants it to fail.
    #[cfg(test)]
    fn step(&self, step: impl FnOnce() -> Step) -> io::Result<()> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let mut watch = watch.lock().unwrap();
        if let Some(left) = watch.fails_in {
            watch.fails_in = left.checked_sub(1);
            if left == 0 {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
            }
        }
        let step = step();
        watch.steps.push(step);
        Ok(())
    }

    /// Opens a file for reading and writing, made (private) if it is missing.
    pub fn open_or_create(&self, path: &Path) -> io::Result<DiskFile> {
        #[cfg(test)]
        if !path.exists() {
            self.step(|| Step::Create(path.to_owned()))?;
        }
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Makes an empty private file, in place of one that may be there.
    pub fn create(&self, path: &Path) -> io::Result<DiskFile> {
        #[cfg(test)]
        self.step(|| Step::Create(path.to_owned()))?;
        let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.step(|| Step::Rename(from.to_owned(), to.to_owned()))?;
        fs::rename(from, to)
    }

    /// Renames a file unless another one has the name. Tells whether it was.
    pub fn rename_new(&self, from: &Path, to: &Path) -> io::Result<bool> {
        #[cfg(test)]
        if !to.exists() {
            self.step(|| Step::Rename(from.to_owned(), to.to_owned()))?;
        }
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            // The file system cannot tell both at once.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if to.try_exists()? => return Ok(false),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(from, to)?,
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    pub fn remove(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.step(|| Step::Remove(path.to_owned()))?;
        fs::remove_file(path)
    }

    /// Makes created, renamed and removed names of a folder survive a power cut.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.step(|| Step::SyncDir(dir.to_owned()))?;
        fs::File::open(dir)?.sync_all()
    }
}

impl DiskFile {
    pub fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    pub fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    pub fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.step(|| Step::Write { path: self.path.clone(), at, bytes: bytes.to_vec() })?;
        self.file.write_all_at(bytes, at)
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.step(|| Step::SetLen { path: self.path.clone(), len })?;
        self.file.set_len(len)
    }

    /// Makes everything written so far survive a power cut, the length included.
    pub fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.disk.step(|| Step::Sync(self.path.clone()))?;
        self.file.sync_data()
    }

    /// Writes from the beginning on, one buffer after another.
    pub fn sequential(self) -> Sequential {
        Sequential { file: self, at: 0 }
    }
}

/// A file that is written from its beginning to its end.
pub struct Sequential {
    file: DiskFile,
    at: u64,
}

impl Sequential {
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Write for Sequential {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
