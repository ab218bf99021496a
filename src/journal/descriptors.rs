//! File descriptors opened on demand, so that a journal of many segments needs few.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::direct;
use super::fs::{File, private};
use super::segment::fill;

/// Descriptors that are held open beside those with something to sync; the one that was opened first is closed for
/// another.
const MAX_OPEN: usize = 64;

/// The files that have a descriptor, in the order in which they were opened.
#[derive(Default)]
pub struct Descriptors(Mutex<VecDeque<Weak<PooledFile>>>);

/// A file that is opened again when it is needed.
pub struct PooledFile {
    path: PathBuf,
    open: Mutex<Option<Arc<Open>>>,
    /// Written and not synced. Another descriptor might not hear that the write failed, so this one stays.
    is_dirty: AtomicBool,
    pool: Arc<Descriptors>,
    me: Weak<PooledFile>,
}

struct Open {
    file: std::fs::File,
    /// For direct writes, once there was one; none where the file system takes none.
    direct: OnceLock<Option<std::fs::File>>,
}

impl Open {
    fn new(file: std::fs::File) -> Arc<Open> {
        Arc::new(Open { file, direct: OnceLock::new() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Descriptors {
    pub fn keep(self: &Arc<Descriptors>, path: &Path, file: std::fs::File) -> Arc<PooledFile> {
        let kept = Arc::new_cyclic(|me| PooledFile {
            path: path.to_owned(),
            open: Mutex::new(Some(Open::new(file))),
            is_dirty: AtomicBool::new(false),
            pool: self.clone(),
            me: me.clone(),
        });
        self.opened(&kept.me);
        kept
    }

    /// Closes others if there are too many by now.
    fn opened(&self, file: &Weak<PooledFile>) {
        let mut files = lock(&self.0);
        files.retain(|file| file.strong_count() > 0);
        files.push_back(file.clone());
        for _ in 0..files.len() {
            if files.len() <= MAX_OPEN {
                return;
            }
            let Some(oldest) = files.pop_front() else { return };
            let Some(file) = oldest.upgrade() else { continue };
            if file.is_dirty.load(Ordering::Acquire) {
                files.push_back(oldest);
            } else if let Ok(mut open) = file.open.try_lock() {
                *open = None;
            } else {
                // Somebody opens it at this moment.
                files.push_back(oldest);
            }
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        lock(&self.0).iter().filter_map(Weak::upgrade).filter(|file| lock(&file.open).is_some()).count()
    }
}

impl PooledFile {
    fn descriptor(&self) -> io::Result<Arc<Open>> {
        let mut open = lock(&self.open);
        if let Some(open) = &*open {
            return Ok(open.clone());
        }
        let opened = Open::new(private().open(&self.path)?);
        *open = Some(opened.clone());
        self.pool.opened(&self.me);
        Ok(opened)
    }
}

impl File for PooledFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let open = self.descriptor()?;
        let mut got = 0;
        while got < buffer.len() {
            match open.file.read_at(&mut buffer[got..], offset + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.is_dirty.store(true, Ordering::Release);
        let open = self.descriptor()?;
        let direct = || open.direct.get_or_init(|| direct::open(&open.file)).as_ref();
        direct::write_all_by(&open.file, direct, bytes, offset)
    }

    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        if let [one] = pieces {
            return self.write_at(one, offset);
        }
        self.is_dirty.store(true, Ordering::Release);
        let open = self.descriptor()?;
        let direct = || open.direct.get_or_init(|| direct::open(&open.file)).as_ref();
        direct::write_pieces_by(&open.file, direct, pieces, offset)
    }

    fn allocate(&self, bytes: u32) -> io::Result<()> {
        self.is_dirty.store(true, Ordering::Release);
        match rustix::fs::fallocate(&self.descriptor()?.file, FallocateFlags::empty(), 0, u64::from(bytes)) {
            // The file system has no such call.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(self, 0, bytes),
            allocated => Ok(allocated?),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.descriptor()?.file.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        let open = self.descriptor()?;
        // A write that comes meanwhile makes it dirty again.
        self.is_dirty.store(false, Ordering::Release);
        let synced = open.file.sync_data();
        if synced.is_err() {
            self.is_dirty.store(true, Ordering::Release);
        }
        synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::fs::{Fs, Real};

    #[test]
    fn many_files_are_read_and_written_by_few_descriptors() {
        let folder = std::env::temp_dir().join(format!("weir-descriptors-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let fs = Real::default();
        let files: Vec<_> = (0..3 * MAX_OPEN).map(|n| fs.create(&folder.join(n.to_string())).unwrap()).collect();
        for (n, file) in files.iter().enumerate() {
            file.write_at(n.to_string().as_bytes(), 0).unwrap();
            file.sync().unwrap();
        }
        assert!(fs.descriptors().count() <= MAX_OPEN);
        for (n, file) in files.iter().enumerate() {
            let mut text = [0; 8];
            let len = file.read_at(&mut text, 0).unwrap();
            assert_eq!(&text[..len], n.to_string().as_bytes());
        }
        assert!(fs.descriptors().count() <= MAX_OPEN);
        // What is not synced yet keeps its descriptor.
        files.iter().for_each(|file| file.write_at(b"x", 0).unwrap());
        assert_eq!(fs.descriptors().count(), files.len());
        files.iter().for_each(|file| file.sync().unwrap());
        files[0].size().unwrap();
        drop(fs.create(&folder.join("last")).unwrap());
        assert!(fs.descriptors().count() <= MAX_OPEN);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn space_is_allocated_and_reads_as_zeros() {
        let path = std::env::temp_dir().join(format!("weir-allocated-{}", std::process::id()));
        let file = Real::default().create(&path).unwrap();
        file.allocate(100_000).unwrap();
        file.write_at(b"x", 5).unwrap();
        let mut expected = vec![0; 100_000];
        expected[5] = b'x';
        assert!(file.size().unwrap() == 100_000 && std::fs::read(&path).unwrap() == expected);
        std::fs::remove_file(&path).unwrap();
    }
}
