//! File identity: an inode alone is not enough, because it is reused when a file is removed.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Stat, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Device, inode, and time of birth where the file system keeps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    /// In nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<i64>,
}

impl Identity {
    /// Of an open file.
    pub fn of(file: impl AsFd) -> Result<Identity, Errno> {
        let stat = rustix::fs::fstat(&file)?;
        Ok(Identity::new(&stat, born(file, c"", AtFlags::EMPTY_PATH)))
    }

    /// Of the file of this name in a folder; links are not followed.
    pub fn at(folder: impl AsFd, name: &str) -> Result<Identity, Errno> {
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let name = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
        Ok(Identity::new(&stat, born(folder, &name, AtFlags::SYMLINK_NOFOLLOW)))
    }

    fn new(stat: &Stat, born: Option<i64>) -> Identity {
        Identity { device: stat.st_dev, inode: stat.st_ino, born }
    }

    /// Whether both may be the same file: a time of birth that is not known excludes nothing.
    pub fn is_same(&self, other: &Identity) -> bool {
        let born = self.born.zip(other.born).is_none_or(|(one, other)| one == other);
        (self.device, self.inode) == (other.device, other.inode) && born
    }
}

/// Neither every kernel nor every file system knows it.
fn born(folder: impl AsFd, name: &std::ffi::CStr, flags: AtFlags) -> Option<i64> {
    let stat = rustix::fs::statx(folder, name, flags, StatxFlags::BTIME).ok()?;
    let is_known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    is_known.then(|| stat.stx_btime.tv_sec.saturating_mul(1_000_000_000) + i64::from(stat.stx_btime.tv_nsec))
}
