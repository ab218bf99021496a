//! Finds files: names that match a pattern, link targets, and rotated files of the same family.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{Dir, FileType};

use super::content::temporary_ending;
use super::folders::Folders;
use super::identity::Stat;

/// Files that one source follows; further ones are said and left alone.
pub const MOST_FILES: usize = 200_000;

/// Folders below a `**`.
const DEEPEST: usize = 32;

/// Endings such as `-20260101.1.gz` that a rotation may add to a name.
const MOST_ENDINGS: usize = 4;

#[derive(Clone)]
pub struct Patterns {
    include: GlobSet,
    exclude: GlobSet,
    roots: Vec<Root>,
    /// How the patterns end: who names `*.tmp` means it.
    wanted_endings: Vec<String>,
    /// Symbolic links are followed, into these folders too.
    links: Option<Vec<PathBuf>>,
    pub folders: Folders,
    /// By which they are known again.
    pub print: String,
}

/// A folder to list, and how many levels below it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    folder: PathBuf,
    levels: usize,
}

/// A name that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub is_included: bool,
    /// The included name that this one was rotated away from, judging by its endings.
    pub family: Option<PathBuf>,
    pub stat: Stat,
}

#[derive(Debug, Default)]
pub struct Listing {
    pub found: Vec<Found>,
    /// What could not be looked at. Nothing that is missing then counts as gone.
    pub errors: Vec<String>,
    /// Folders that patterns begin with and that are not there.
    pub missing: Vec<PathBuf>,
    /// Files outside of the included folders that links lead to.
    targets: HashSet<PathBuf>,
    /// Included names that are not a regular file, and what they are.
    pub refused: Vec<(PathBuf, &'static str)>,
}

impl Patterns {
    /// Patterns are paths with `*`, `?`, `[…]`, `{a,b}` and `**`. The error names the pattern by its place.
    pub fn new(
        include: &[String],
        exclude: &[String],
        links: Option<Vec<PathBuf>>,
        folders: Folders,
    ) -> Result<Patterns, (&'static str, usize, String)> {
        let mut roots: Vec<Root> = Vec::new();
        let wanted_endings = include.to_vec();
        let print = blake3::hash(include.join("\n").as_bytes()).to_hex().to_string();
        let (include, paths) = globs("include", include)?;
        let (exclude, _) = globs("exclude", exclude)?;
        for path in paths {
            let root = root_of(&path);
            match roots.iter_mut().find(|known| known.folder == root.folder) {
                Some(known) => known.levels = known.levels.max(root.levels),
                None => roots.push(root),
            }
        }
        Ok(Patterns { include, exclude, roots, wanted_endings, links, folders, print })
    }

    /// Looks at everything the patterns mean, now.
    pub fn list(&self) -> Listing {
        let (mut listing, mut seen) = (Listing::default(), HashSet::new());
        for root in &self.roots {
            let opened = self.folders.open_root(&root.folder);
            if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                listing.missing.push(root.folder.clone());
            }
            self.walk(opened, &root.folder, root.levels, &mut seen, &mut listing);
        }
        self.find_rotated_targets(&mut listing);
        listing
    }

    fn walk(
        &self,
        opened: io::Result<Arc<OwnedFd>>,
        folder: &Path,
        levels: usize,
        seen: &mut HashSet<PathBuf>,
        listing: &mut Listing,
    ) {
        if !seen.insert(folder.to_path_buf()) {
            return;
        }
        let opened = opened.and_then(|fd| Ok((Dir::read_from(&fd)?, fd)).map(|(dir, fd)| (fd, dir)));
        let (fd, entries) = match opened {
            Ok(opened) => opened,
            // A folder that is not there has no files; it may come.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return,
            Err(error) => {
                listing.errors.push(format!("cannot list `{}`: {error}", folder.display()));
                return;
            }
        };
        let mut path = folder.to_path_buf();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    listing.errors.push(format!("cannot list `{}`: {}", folder.display(), io::Error::from(error)));
                    return;
                }
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            path.push(name);
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                kind = Stat::at(&fd, Path::new(name), false).map_or(FileType::Unknown, |stat| stat.kind);
            }
            if kind == FileType::Directory && levels > 0 && !self.exclude.is_match(&path) {
                let opened = self.folders.open_folder(&fd, name).map(Arc::new);
                self.walk(opened, &path, levels - 1, seen, listing);
            }
            self.look_at(&fd, &path, name, listing);
            path.pop();
        }
    }

    fn look_at(&self, folder: &OwnedFd, path: &Path, name: &OsStr, listing: &mut Listing) {
        let is_included = self.is_included(path);
        let family = self.family(path);
        if (!is_included && family.is_none()) || self.exclude.is_match(path) {
            return;
        }
        if let Some(ending) = temporary_ending(name.as_bytes())
            && !self.wanted_endings.iter().any(|wanted| wanted.as_bytes().ends_with(ending))
        {
            if is_included {
                let what = "a temporary file, judging by its name";
                listing.refused.push((path.to_path_buf(), what));
            }
            return;
        }
        match Stat::at(folder, Path::new(name), false) {
            // Whoever can make a second name for a file of somebody else could speak in that one's name, and have it removed.
            Ok(stat) if stat.is_regular() && self.folders.is_held() && stat.links > 1 => {
                listing
                    .refused
                    .push((path.to_path_buf(), "a file with several hard links, which may belong to another user"));
            }
            Ok(stat) if stat.is_regular() => {
                if listing.found.len() < MOST_FILES {
                    listing.found.push(Found { path: path.to_path_buf(), is_included, family, stat });
                } else if listing.errors.is_empty() {
                    listing.errors.push(format!("more than {MOST_FILES} files match; the others are not read"));
                }
            }
            Ok(stat) if stat.kind == FileType::Symlink && self.links.is_some() && is_included => {
                self.follow(path, listing)
            }
            Ok(stat) if is_included => listing.refused.push((path.to_path_buf(), describe(stat.kind))),
            // It went away, or it is no file and only looks like a rotated one.
            Ok(_) | Err(_) => {}
        }
    }

    /// A symbolic link may lead only to below the folders that the patterns name, and those named for links.
    fn follow(&self, path: &Path, listing: &mut Listing) {
        let Ok(target) = std::fs::canonicalize(path) else {
            return listing.refused.push((path.to_path_buf(), "a broken symbolic link"));
        };
        let is_below = |folder: &Path| std::fs::canonicalize(folder).is_ok_and(|folder| target.starts_with(folder));
        let is_beyond = self.links.iter().flatten().any(|folder| is_below(folder));
        if !is_beyond && !self.roots.iter().any(|root| is_below(&root.folder)) {
            let what = "a symbolic link out of the included folders; see `symlinks_into`";
            return listing.refused.push((path.to_path_buf(), what));
        }
        if is_beyond {
            listing.targets.insert(target.clone());
        }
        match Stat::at(rustix::fs::CWD, &target, false) {
            Ok(stat) if stat.is_regular() => {
                listing.found.push(Found { path: target, is_included: true, family: None, stat });
            }
            Ok(_) => listing.refused.push((path.to_path_buf(), "a symbolic link to something that is not a file")),
            Err(_) => {}
        }
    }

    /// What was rotated away beside files that links lead to.
    fn find_rotated_targets(&self, listing: &mut Listing) {
        let targets = std::mem::take(&mut listing.targets);
        let folders: HashSet<&Path> = targets.iter().filter_map(|target| target.parent()).collect();
        for folder in folders {
            // What cannot be listed is found again by its link, or gone.
            let Ok(entries) = self.folders.open_root(folder).and_then(|fd| Ok((Dir::read_from(&fd)?, fd))) else {
                continue;
            };
            let (entries, fd) = entries;
            for entry in entries.filter_map(Result::ok) {
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                let path = folder.join(name);
                let family = shortest_base(&path, |base| targets.contains(base));
                if family.is_none() || targets.contains(&path) || temporary_ending(name.as_bytes()).is_some() {
                    continue;
                }
                if let Ok(stat) = Stat::at(&fd, Path::new(name), false)
                    && stat.is_regular()
                    && listing.found.len() < MOST_FILES
                {
                    listing.found.push(Found { path, is_included: false, family, stat });
                }
            }
        }
    }

    fn is_included(&self, path: &Path) -> bool {
        self.include.is_match(path) && !self.exclude.is_match(path)
    }

    /// The shortest included name that this one is with endings added.
    fn family(&self, path: &Path) -> Option<PathBuf> {
        shortest_base(path, |base| self.is_included(base))
    }
}

/// The shortest name that is one of those, and that this one is with endings added.
fn shortest_base(path: &Path, is_one: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes();
    let folder = path.parent()?;
    let mut found = None;
    let ends = name.iter().enumerate().rev().filter(|(at, byte)| *at > 0 && matches!(byte, b'.' | b'-' | b'_' | b'~'));
    for (at, _) in ends.take(MOST_ENDINGS) {
        let base = folder.join(OsStr::from_bytes(&name[..at]));
        if is_one(&base) {
            found = Some(base);
        }
    }
    found
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link, and `follow_symlinks` is not set",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "not a regular file",
    }
}

type Place = (&'static str, usize, String);

fn globs(key: &'static str, patterns: &[String]) -> Result<(GlobSet, Vec<PathBuf>), Place> {
    let (mut set, mut paths) = (GlobSetBuilder::new(), Vec::new());
    for (nth, pattern) in patterns.iter().enumerate() {
        let path = std::path::absolute(pattern).map_err(|error| (key, nth, error.to_string()))?;
        let text = path.to_str().ok_or_else(|| (key, nth, "the path is not UTF-8".to_string()))?;
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        set.add(glob.map_err(|error| (key, nth, error.kind().to_string()))?);
        paths.push(path);
    }
    let set = set.build().map_err(|error| (key, 0, error.to_string()))?;
    Ok((set, paths))
}

/// The folders in front of the first wildcard.
fn root_of(pattern: &Path) -> Root {
    let is_wild = |part: &Component| part.as_os_str().as_bytes().iter().any(|b| b"*?[{\\".contains(b));
    let parts: Vec<Component> = pattern.components().collect();
    let fixed = parts.iter().position(is_wild).unwrap_or(parts.len()).min(parts.len() - 1);
    let rest = &parts[fixed..];
    let is_deep = rest.iter().any(|part| part.as_os_str().as_bytes().windows(2).any(|two| two == b"**"));
    Root { folder: parts[..fixed].iter().collect(), levels: if is_deep { DEEPEST } else { rest.len() - 1 } }
}

#[cfg(test)]
mod tests {
    use rustix::fs::Mode;

    use super::*;
    use crate::toolkit::fake::Folder;

    fn patterns(include: &[PathBuf], exclude: &[PathBuf], follow: bool) -> Patterns {
        let text = |paths: &[PathBuf]| paths.iter().map(|p| p.to_str().unwrap().to_string()).collect::<Vec<_>>();
        Patterns::new(&text(include), &text(exclude), follow.then(Vec::new), Folders::ByPath).unwrap()
    }

    fn names(listing: &Listing) -> Vec<(String, bool, Option<String>)> {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
        let entry = |f: &Found| (name(&f.path), f.is_included, f.family.as_deref().map(name));
        let mut all: Vec<_> = listing.found.iter().map(entry).collect();
        all.sort();
        all
    }

    #[test]
    fn a_star_stays_in_its_folder_and_two_go_down() {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path("deep/er")).unwrap();
        for name in ["a.log", "b.txt", "deep/c.log", "deep/er/d.log", "deep/er/no.log"] {
            folder.write(name, "");
        }
        let flat = patterns(&[folder.path("*.log")], &[], false).list();
        assert_eq!(names(&flat).len(), 1);
        let deep = patterns(&[folder.path("**/*.log")], &[folder.path("**/no.*")], false).list();
        assert_eq!(names(&deep).len(), 3);
    }

    #[test]
    fn rotated_names_belong_to_the_family_of_the_included_one() {
        let folder = Folder::new();
        for name in ["a.log", "a.log.1", "a.log.2.gz", "a.log-20260101", "b.log.1", "a.logs"] {
            folder.write(name, "");
        }
        let family = Some("a.log".to_string());
        assert_eq!(
            names(&patterns(&[folder.path("a.log")], &[], false).list()),
            [
                ("a.log".into(), true, None),
                ("a.log-20260101".into(), false, family.clone()),
                ("a.log.1".into(), false, family.clone()),
                ("a.log.2.gz".into(), false, family.clone()),
            ]
        );
        let all = names(&patterns(&[folder.path("a.log*")], &[], false).list());
        assert!(all.contains(&("a.log.2.gz".into(), true, family)), "{all:?}");
    }

    #[test]
    fn what_is_no_file_is_refused_by_name() {
        let folder = Folder::new();
        let target = folder.write("target", "");
        std::fs::create_dir(folder.path("dir.log")).unwrap();
        std::os::unix::fs::symlink(&target, folder.path("link.log")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path("out.log")).unwrap();
        std::os::unix::fs::symlink(folder.path("loop.log"), folder.path("loop.log")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.path("pipe.log"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let include = [folder.path("*.log")];
        let refused = |follow| {
            let mut kinds: Vec<_> = patterns(&include, &[], follow).list().refused.iter().map(|r| r.1).collect();
            kinds.sort_unstable();
            kinds
        };
        let link = "a symbolic link, and `follow_symlinks` is not set";
        assert_eq!(refused(false), ["a folder", "a pipe", link, link, link]);
        assert_eq!(
            refused(true),
            [
                "a broken symbolic link",
                "a folder",
                "a pipe",
                "a symbolic link out of the included folders; see `symlinks_into`",
            ]
        );
        let followed = patterns(&include, &[], true).list();
        assert_eq!(followed.found[0].path, std::fs::canonicalize(target).unwrap());
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_an_error_and_one_that_is_not_there_is_none() {
        let none = patterns(&["/nowhere/at/all/*.log".into()], &[], false).list();
        assert!(none.found.is_empty() && none.errors.is_empty());
        assert_eq!(Patterns::new(&["/a/[".into()], &[], None, Folders::ByPath).map(|_| ()).unwrap_err().0, "include");
    }
}
