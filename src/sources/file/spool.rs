//! Spool files: each has one writer, which holds a shared lock while it runs; removed once all of it is durable.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;

use super::identity::{Identity, Stat};

/// Whether a process holds a lock on the file.
pub fn has_writer(file: impl AsFd) -> bool {
    let is_free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if is_free {
        // What was just locked can be unlocked, and closing would do it too.
        let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
    }
    !is_free
}

/// Removes the file unless somebody holds a lock, wrote more, or put another file in its place.
pub fn remove(file: impl AsFd, folder: impl AsFd, name: &OsStr, identity: Identity, size: u64) -> io::Result<bool> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let removed = remove_locked(&file, folder, name, identity, size);
    rustix::fs::flock(&file, FlockOperation::Unlock)?;
    removed
}

fn remove_locked(file: impl AsFd, folder: impl AsFd, name: &OsStr, identity: Identity, size: u64) -> io::Result<bool> {
    let named = Stat::at(&folder, Path::new(name), false)?;
    if named.identity != identity || Stat::of(&file)?.size != size {
        return Ok(false);
    }
    rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolkit::fake::Folder;

    #[test]
    fn a_locked_grown_or_replaced_file_stays() {
        let folder = Folder::new();
        let path = folder.write("spool", "12345");
        let ours = std::fs::File::open(&path).unwrap();
        let identity = Stat::of(&ours).unwrap().identity;
        let writer = std::fs::File::open(&path).unwrap();
        let parent = std::fs::File::open(folder.path("")).unwrap();
        let remove =
            |ours: &std::fs::File, name: &str, size| remove(ours, &parent, OsStr::new(name), identity, size).unwrap();
        rustix::fs::flock(&writer, FlockOperation::LockShared).unwrap();
        assert!(has_writer(&ours));
        assert!(!remove(&ours, "spool", 5));
        drop(writer);
        assert!(!has_writer(&ours));
        assert!(!remove(&ours, "spool", 4), "it has grown");
        folder.rename("spool", "other");
        folder.write("spool", "12345");
        assert!(!remove(&ours, "spool", 5), "it is another file");
        assert!(remove(&ours, "other", 5));
        assert!(!folder.path("other").exists());
    }
}
