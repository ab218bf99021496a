//! Paths below a root that no event can leave: plain names only, symbolic links are not followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The longest name of a file or folder.
const MAX_NAME: usize = 128;
/// The most folders below the root.
const MAX_DEPTH: usize = 16;

/// Whether a path below the root consists of plain names.
pub fn validate(path: &str) -> Result<(), String> {
    if path.split('/').count() > MAX_DEPTH {
        return Err(format!("`{path}` has more than {MAX_DEPTH} folders"));
    }
    for name in path.split('/') {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if name.is_empty() || name.len() > MAX_NAME || !plain || name == "." || name == ".." {
            return Err(format!("`{name}` is not a plain file name (letters, digits, `.`, `_`, `-`)"));
        }
    }
    Ok(())
}

/// Folder and name of a validated path.
pub fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Opens the folder of a validated path, making what is missing if `make`.
pub fn folder(root: BorrowedFd<'_>, path: &str, make: bool) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = root.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    let Some((folders, _)) = path.rsplit_once('/') else { return Ok(folder) };
    for name in folders.split('/') {
        let below = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o750)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                rustix::fs::fsync(&folder)?;
                rustix::fs::openat(&folder, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        folder = below;
    }
    Ok(folder)
}

/// Opens a file for appending in its folder; `make` if it may be new.
pub fn file(folder: impl AsFd, name: &str, make: bool) -> Result<std::fs::File, Errno> {
    let make = if make { OFlags::CREATE } else { OFlags::empty() };
    // A pipe or a device in the way must not keep us waiting.
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | make;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o640))?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind != rustix::fs::FileType::RegularFile {
        return Err(Errno::LOOP);
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in ["a.log", "ali/2026-01-01.ndjson", "a/b/c", "CON", "..a"] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        let (long, deep) = ("x".repeat(300), "a/".repeat(20) + "b");
        for bad in
            ["../../etc/cron.d/x", "/abs", "..%2f", "a\0b", ".", "", "a//b", "a/", "a\u{2215}b", "a b", &long, &deep]
        {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
    }
}
