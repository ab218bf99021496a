//! Opens files by path, or relative to an open folder so that a symbolic link cannot be inserted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::identity::Stat;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// Opens folders and files, removes files.
#[derive(Clone, Debug)]
pub enum Folders {
    /// As any program does: links on the way are followed.
    ByPath,
    /// For folders that belong to the users whose files are read, and removed: what a user may exchange is never followed
    /// through a link. The folders in front of the wildcards are kept open, one for each pattern.
    Held(Arc<Mutex<HashMap<PathBuf, Arc<OwnedFd>>>>),
}

impl Folders {
    pub fn held() -> Folders {
        Folders::Held(Arc::default())
    }

    pub fn is_held(&self) -> bool {
        matches!(self, Folders::Held(_))
    }

    /// Opens a folder in front of a wildcard, for a look at what is there now.
    pub fn open_root(&self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        let Folders::Held(held) = self else {
            return Ok(Arc::new(rustix::fs::open(path, FOLDER, Mode::empty())?));
        };
        let opened = Arc::new(open_unlinked(path)?);
        held.lock().expect("no thread panics here").insert(path.to_owned(), opened.clone());
        Ok(opened)
    }

    /// Opens a folder that was found in an open one.
    pub fn open_folder(&self, parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
        let mut flags = FOLDER;
        flags.set(OFlags::NOFOLLOW, self.is_held());
        Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
    }

    /// Opens a file for reading, without ever waiting for it, and looks at what it is. A link in place of the file is an error.
    pub fn open_file(&self, path: &Path) -> io::Result<(OwnedFd, Stat)> {
        let file = match self {
            Folders::ByPath => rustix::fs::open(path, FILE | OFlags::NOFOLLOW, Mode::empty())?,
            Folders::Held(_) => {
                let (folder, name) = self.parent(path)?;
                rustix::fs::openat(&folder, name, FILE | OFlags::NOFOLLOW, Mode::empty())?
            }
        };
        let stat = Stat::of(&file)?;
        Ok((file, stat))
    }

    /// The open folder in which a file is, and the file's name there.
    pub fn parent<'p>(&self, path: &'p Path) -> io::Result<(Arc<OwnedFd>, &'p OsStr)> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let Folders::Held(held) = self else {
            return Ok((Arc::new(rustix::fs::open(folder, FOLDER, Mode::empty())?), name));
        };
        let root = {
            let held = held.lock().expect("no thread panics here");
            let nearest = held.iter().filter(|(root, _)| folder.starts_with(root));
            nearest.max_by_key(|(root, _)| root.as_os_str().len()).map(|(root, fd)| (root.clone(), fd.clone()))
        };
        let Some((root, mut opened)) = root else { return Err(io::ErrorKind::NotFound.into()) };
        let below = folder.strip_prefix(&root).expect("it starts with the root");
        for name in below.iter() {
            opened = Arc::new(self.open_folder(&opened, name)?);
        }
        Ok((opened, name))
    }
}

/// Opens a folder, but not through a link that somebody else than root and the agent's own user has made, and not if the
/// name itself is a link.
fn open_unlinked(path: &Path) -> io::Result<OwnedFd> {
    let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let mut folder = rustix::fs::open("/", way, Mode::empty())?;
    for (nth, name) in names.iter().enumerate() {
        let opened = rustix::fs::openat(&folder, *name, way | OFlags::NOFOLLOW, Mode::empty());
        folder = match opened {
            Ok(opened) => opened,
            Err(error @ (Errno::LOOP | Errno::NOTDIR)) => {
                let link = rustix::fs::statat(&folder, *name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(link.st_mode) != FileType::Symlink {
                    return Err(error.into());
                }
                let is_ours = link.st_uid == 0 || link.st_uid == rustix::process::geteuid().as_raw();
                if nth + 1 == names.len() || !is_ours {
                    let at: PathBuf = Path::new("/").join(names[..=nth].iter().collect::<PathBuf>());
                    let what = format!(
                        "`{}` is a symbolic link, which is not allowed with `remove` or `owner`; use the folder itself",
                        at.display()
                    );
                    return Err(io::Error::other(what));
                }
                rustix::fs::openat(&folder, *name, way, Mode::empty())?
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(rustix::fs::openat(&folder, ".", FOLDER, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::toolkit::fake::Folder;

    #[test]
    fn a_held_folder_stays_the_same_when_a_link_takes_its_name() {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path("spool/deep")).unwrap();
        std::fs::create_dir_all(folder.path("victim/deep")).unwrap();
        folder.write("spool/deep/a", "ours");
        folder.write("victim/deep/a", "theirs");
        let folders = Folders::held();
        folders.open_root(&folder.path("spool")).unwrap();
        folder.rename("spool", "away");
        symlink(folder.path("victim"), folder.path("spool")).unwrap();
        let (_, stat) = folders.open_file(&folder.path("spool/deep/a")).unwrap();
        assert_eq!(stat.size, 4, "it is the file of the folder that was opened");
        let refused = folders.open_root(&folder.path("spool")).unwrap_err().to_string();
        assert!(refused.contains("is a symbolic link"), "{refused}");
    }

    #[test]
    fn a_link_below_a_held_folder_is_not_followed() {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path("homes/ali")).unwrap();
        std::fs::create_dir_all(folder.path("victim")).unwrap();
        folder.write("victim/a", "theirs");
        symlink(folder.path("victim"), folder.path("homes/ali/spool")).unwrap();
        let folders = Folders::held();
        folders.open_root(&folder.path("homes")).unwrap();
        assert!(folders.open_file(&folder.path("homes/ali/spool/a")).is_err());
        assert!(Folders::ByPath.open_file(&folder.path("homes/ali/spool/a")).is_ok());
    }

    #[test]
    fn a_link_on_the_way_is_followed_if_the_agents_user_or_root_has_made_it() {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path("real/spool")).unwrap();
        symlink(folder.path("real"), folder.path("run")).unwrap();
        assert!(Folders::held().open_root(&folder.path("run/spool")).is_ok());
        // Where the tests run as root, a link of another user can be made.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(folder.path("run"), Some(65534), None).unwrap();
            let refused = Folders::held().open_root(&folder.path("run/spool")).unwrap_err().to_string();
            assert!(refused.contains("run` is a symbolic link"), "{refused}");
        }
    }
}
