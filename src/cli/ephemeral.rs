//! `--ephemeral`: a data folder on a memory file system where the machine has one, removed when the process ends.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::journal::fs::{Fs, Guard, Lock, Real};

const PREFIX: &str = "weir-ephemeral-";
const LOCK: &str = "lock";
const ATTEMPTS: usize = 3;
/// A memory file system.
const SHARED_MEMORY: &str = "/dev/shm";
/// One with less space than this is not used: containers often have 64 MiB.
const LEAST_SPACE: u64 = 256 << 20;

/// Where the folder will be; nothing is made yet.
pub fn choose() -> PathBuf {
    let shared = Path::new(SHARED_MEMORY);
    let has_space = Real::default().available(shared).is_ok_and(|bytes| bytes >= LEAST_SPACE);
    let parent = if has_space { shared.to_owned() } else { std::env::temp_dir() };
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    parent.join(format!("{PREFIX}{:016x}", u64::from_le_bytes(random)))
}

/// The folder, until it is dropped.
pub struct Folder {
    path: PathBuf,
    _guard: Guard,
}

impl Folder {
    /// Makes the folder, and removes those of agents that were killed.
    pub fn make(path: &Path) -> Result<Folder, String> {
        if let Some(parent) = path.parent() {
            remove_abandoned(parent);
        }
        for _ in 0..ATTEMPTS {
            match fs::DirBuilder::new().mode(0o700).create(path).and_then(|()| lock(path)) {
                Ok(Some(guard)) if path.join(LOCK).exists() => {
                    return Ok(Folder { path: path.to_owned(), _guard: guard });
                }
                // Another agent that has just started took it for abandoned, and removes it.
                Ok(_) => {}
                Err(error) => return Err(format!("cannot make the folder `{}`: {error}", path.display())),
            }
        }
        Err(format!("the folder `{}` is removed as soon as it is made", path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next agent.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn lock(folder: &Path) -> io::Result<Option<Guard>> {
    Ok(match Real::default().lock(&folder.join(LOCK))? {
        Lock::Held(guard) => Some(guard),
        Lock::Taken(_) => None,
    })
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let own = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir() && found.uid() == own);
        // Without the file an agent is just making its folder.
        if is_ours
            && path.join(LOCK).exists()
            && let Ok(Some(_guard)) = lock(&path)
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_agent_and_that_of_a_killed_one_with_the_next() {
        let parent = std::env::temp_dir().join(format!("weir-folders-{}", std::process::id()));
        fs::create_dir_all(&parent).expect("a folder");
        let at = |name: &str| parent.join(format!("{PREFIX}{name}"));
        let first = Folder::make(&at("a")).expect("it can be made");
        fs::create_dir(at("killed")).expect("a folder");
        fs::write(at("killed").join(LOCK), "1").expect("a file");
        fs::create_dir(at("begun")).expect("a folder");
        let second = Folder::make(&at("b")).expect("it can be made");
        assert_eq!(["a", "b", "killed", "begun"].map(|name| at(name).exists()), [true, true, false, true]);
        assert!(Folder::make(&at("a")).is_err(), "it is another's");
        drop((first, second));
        assert_eq!(["a", "b"].map(|name| at(name).exists()), [false, false]);
        fs::remove_dir_all(&parent).expect("the folder can be removed");
    }
}
