//! Whether an unknown file is new or a copy of one already read: decided by content.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::body::Body;
use super::content::Packing;
use super::discover::Found;
use super::folders::Folders;
use super::followed::{Followed, Origin, Past, fits};
use super::identity::{HEAD_BYTES, Identity, Print, Stat};
use super::tail::Tail;
use crate::ranges::RangeTracker;

/// How much is compared with a file that begins alike and is still there.
const BEGINNING: usize = 16 * 1024;

pub enum Classification {
    New,
    /// Not decidable yet.
    Wait,
    /// It goes on where the other one ended.
    Copy(Box<Past>),
    /// It is packed, damaged, and must be a copy of what was read under this origin.
    Damaged(Origin),
}

/// What is known of an unknown file.
struct UnknownFile<'a> {
    found: &'a Found,
    folders: &'a Folders,
    packing: Packing,
    body: Body,
    /// Its first bytes.
    head: Vec<u8>,
    /// It has just changed, so it may still be in the making.
    is_fresh: bool,
    /// Of all that it is a copy of, what was read furthest.
    best: Option<Past>,
    /// Files that went away and of which it may be a damaged copy; those that begin like it first.
    suspects: Vec<Suspect>,
    /// The file that is being packed, by its name, is still there.
    original_is_there: bool,
}

struct Suspect {
    identity: Identity,
    origin: Origin,
    begins_alike: bool,
}

impl Tail {
    /// Compares an unknown file's content with everything it may be a copy of.
    pub(super) fn classify(
        &self,
        found: &Found,
        body: Body,
        packing: Packing,
        is_fresh: bool,
    ) -> io::Result<Classification> {
        let folders = &self.settings.patterns.folders;
        let mut unknown = UnknownFile {
            found,
            folders,
            packing,
            body,
            head: Vec::new(),
            is_fresh,
            best: None,
            suspects: Vec::new(),
            original_is_there: false,
        };
        unknown.body.read_at(0, HEAD_BYTES, &mut unknown.head)?;
        if unknown.head.is_empty() && (packing == Packing::None || is_fresh) {
            return Ok(Classification::Wait);
        }
        for file in self.files.values() {
            if !unknown.is_relative(&file.family, &file.path, file.packing) {
                continue;
            }
            // A copy is younger than its original.
            let is_younger = found.stat.identity.birth >= file.identity.birth;
            for past in file.past.iter().filter(|_| is_younger) {
                if unknown.may_become_past(past)? {
                    return Ok(Classification::Wait);
                }
            }
            if unknown.may_become(file)? {
                return Ok(Classification::Wait);
            }
        }
        for (identity, file) in &self.memory {
            if !unknown.is_relative(&file.family, &file.family, Packing::None) {
                continue;
            }
            for past in file.past.iter().chain([&file.as_past()]) {
                unknown.compare(past)?;
            }
            if file.ranges.cursor() > 0 {
                unknown.suspect(*identity, file.origin, &file.family, file.head.fits(&unknown.head));
            }
        }
        match unknown.best.take() {
            Some(past) => Ok(Classification::Copy(Box::new(past))),
            None => self.classify_damaged(unknown),
        }
    }

    /// Decides of a packed file that is not known by its content. One that is damaged may begin like nothing that was
    /// read, and yet be a copy of it: then its lines would come twice.
    fn classify_damaged(&self, mut unknown: UnknownFile) -> io::Result<Classification> {
        if !unknown.is_packed() {
            return Ok(Classification::New);
        }
        if unknown.original_is_there {
            return Ok(Classification::Wait);
        }
        unknown.suspects.retain(|suspect| !self.has_copy(suspect));
        if unknown.suspects.is_empty() {
            return Ok(Classification::New);
        }
        unknown.body.unpack_all()?;
        if unknown.body.damage().is_none() {
            return Ok(Classification::New);
        }
        if unknown.is_fresh {
            return Ok(Classification::Wait);
        }
        let alike = unknown.suspects.iter().find(|suspect| suspect.begins_alike);
        let original = alike.or(unknown.suspects.first()).expect("there are some");
        Ok(Classification::Damaged(original.origin))
    }

    /// Whether another file is known to go on where this one ended.
    fn has_copy(&self, suspect: &Suspect) -> bool {
        let followed = self.files.values().map(|file| (file.identity, file.origin));
        let remembered = self.memory.iter().map(|(identity, file)| (*identity, file.origin));
        followed.chain(remembered).any(|(identity, origin)| origin == suspect.origin && identity != suspect.identity)
    }
}

impl UnknownFile<'_> {
    fn is_packed(&self) -> bool {
        self.packing != Packing::None
    }

    fn is_relative(&self, family: &Path, path: &Path, packing: Packing) -> bool {
        let is_near = self.is_packed() && path.parent() == self.found.path.parent();
        packing == Packing::None && (self.found.family.as_deref() == Some(family) || is_near)
    }

    /// Takes note of a file that went away, and of which this one may be a damaged copy.
    fn suspect(&mut self, identity: Identity, origin: Origin, path: &Path, begins_alike: bool) {
        let is_named_like = self.found.path.with_extension("") == path;
        if self.is_packed() && (begins_alike || is_named_like || self.found.family.is_some()) {
            self.suspects.push(Suspect { identity, origin, begins_alike: begins_alike || is_named_like });
        }
    }

    /// Whether it holds what was read, up to where it was read.
    fn compare(&mut self, past: &Past) -> io::Result<bool> {
        if past.head.is_empty() || !fits(&mut self.body, &past.head, &past.place, past.place_at)? {
            return Ok(false);
        }
        if self.best.as_ref().is_none_or(|best| best.ranges.cursor() < past.ranges.cursor()) {
            self.best = Some(past.clone());
        }
        Ok(true)
    }

    /// Compares it with contents that were cut away. Whether it may still be on its way to be a copy of them.
    fn may_become_past(&mut self, past: &Past) -> io::Result<bool> {
        if self.compare(past)? || self.is_packed() || self.found.stat.size >= past.place_at {
            return Ok(false);
        }
        let begins_alike = past.head.fits(&self.head);
        if self.is_fresh && (self.head.len() < past.head.len.into() || begins_alike) {
            return Ok(true);
        }
        if begins_alike && self.best.is_none() {
            // It was made before we read on, so all of it was read.
            let ranges = RangeTracker::starting_at(self.found.stat.size);
            self.best = Some(Past { ranges, place: Print::default(), place_at: 0, ..*past });
        }
        Ok(false)
    }

    /// Compares it with a file that is followed. Whether nothing can be said before that one has changed.
    fn may_become(&mut self, file: &Followed) -> io::Result<bool> {
        let is_live = file.missing_since.is_none();
        let begins_alike = !file.head.is_empty() && file.head.fits(&self.head);
        // Whether the file is still what it was is looked at before the next scan.
        if is_live && begins_alike && file.looked_at != Some(file.state()) {
            return Ok(true);
        }
        if self.is_packed() {
            let is_named_like = self.found.path.with_extension("") == file.path;
            let begins_alike = begins_alike && !(is_live && self.goes_on_otherwise(file)?);
            self.original_is_there |= is_live && is_named_like && !begins_alike;
            // Packing leaves the original there until it is done, and we read that first.
            let is_read = !is_live && file.body.is_none() && file.ranges.in_flight() == 0;
            if begins_alike && !is_read {
                return Ok(true);
            }
            if begins_alike {
                self.compare(&file.as_past())?;
            }
            if !is_live && file.ranges.cursor() > 0 {
                self.suspect(file.identity, file.origin, &file.path, begins_alike);
            }
            return Ok(false);
        }
        // A copy is younger than its original, which stays where it was until it is cut back.
        if !is_live || file.is_rotated || self.found.stat.identity.birth < file.identity.birth {
            return Ok(false);
        }
        let is_short = self.is_fresh && self.head.len() < file.head.len.into();
        Ok(begins_alike || is_short || begins_with(self.folders, &file.path, &self.head)?)
    }

    /// Whether it goes on otherwise than a file that begins like it and is what it was when it was looked at: programs
    /// write the same words at the beginning of every file.
    fn goes_on_otherwise(&mut self, file: &Followed) -> io::Result<bool> {
        let Ok((descriptor, stat)) = self.folders.open_file(&file.path) else { return Ok(false) };
        let is_it = |stat: &Stat| stat.identity == file.identity && (stat.size, stat.modified) == file.state();
        let descriptor = Arc::new(descriptor);
        let (mut mine, mut other) = (Vec::new(), Vec::new());
        Body::new(descriptor.clone(), Packing::None).read_at(0, BEGINNING, &mut other)?;
        if !is_it(&stat) || !is_it(&Stat::of(&*descriptor)?) {
            return Ok(false);
        }
        self.body.read_at(0, BEGINNING, &mut mine)?;
        Ok(!other.starts_with(&mine) && self.body.damage().is_none())
    }
}

/// Opens a file that was found, unless another one has its name by now.
pub fn open_found(folders: &Folders, found: &Found) -> io::Result<Body> {
    let (file, stat) = folders.open_file(&found.path)?;
    if stat.identity != found.stat.identity || !stat.is_regular() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    Ok(Body::new(file, Packing::None))
}

fn begins_with(folders: &Folders, path: &Path, head: &[u8]) -> io::Result<bool> {
    let (file, _) = folders.open_file(path)?;
    let mut start = Vec::new();
    Body::new(file, Packing::None).read_at(0, head.len(), &mut start)?;
    Ok(start == head)
}
