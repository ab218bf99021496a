//! Whether a stranger is new, or a copy of what was read already: decided by content.

use std::io;
use std::path::Path;

use super::body::{Body, Packing};
use super::discover::Found;
use super::folders::Folders;
use super::followed::{Followed, Past, fits};
use super::identity::{HEAD_BYTES, Print};
use super::tail::Tail;
use crate::component::ranges::RangeTracker;

pub enum Judgement {
    New,
    /// It cannot be told yet.
    Wait,
    /// It goes on where the other one ended.
    Copy(Box<Past>),
}

/// What is known of a stranger.
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
}

impl Tail {
    /// Compares a stranger's content with everything it may be a copy of.
    pub(super) fn judge(&self, found: &Found, is_fresh: bool) -> io::Result<Judgement> {
        let packing = Packing::of(&found.path);
        let folders = &self.settings.patterns.folders;
        let body = open_as(folders, found, packing)?;
        let mut stranger = UnknownFile { found, folders, packing, body, head: Vec::new(), is_fresh, best: None };
        stranger.body.read_at(0, HEAD_BYTES, &mut stranger.head)?;
        if stranger.head.is_empty() {
            return Ok(Judgement::Wait);
        }
        for file in self.files.values() {
            if !stranger.is_relative(&file.family, &file.path, file.packing) {
                continue;
            }
            for past in &file.past {
                if stranger.may_become_past(past)? {
                    return Ok(Judgement::Wait);
                }
            }
            if stranger.may_become(file)? {
                return Ok(Judgement::Wait);
            }
        }
        for file in self.memory.values() {
            if !stranger.is_relative(&file.family, &file.family, Packing::None) {
                continue;
            }
            for past in file.past.iter().chain([&file.as_past()]) {
                stranger.compare(past)?;
            }
        }
        Ok(stranger.best.map_or(Judgement::New, |past| Judgement::Copy(Box::new(past))))
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
            if !begins_alike {
                return Ok(false);
            }
            // Packing leaves the original there until it is done, and we read that first.
            if is_live || file.body.is_some() || file.ranges.in_flight() > 0 {
                return Ok(true);
            }
            self.compare(&file.as_past())?;
            return Ok(false);
        }
        // A copy is younger than its original, which stays where it was until it is cut back.
        if !is_live || file.is_rotated || self.found.stat.identity.birth < file.identity.birth {
            return Ok(false);
        }
        let is_short = self.is_fresh && self.head.len() < file.head.len.into();
        Ok(begins_alike || is_short || begins_with(self.folders, &file.path, &self.head)?)
    }
}

pub fn open_as(folders: &Folders, found: &Found, packing: Packing) -> io::Result<Body> {
    let (file, stat) = folders.open_file(&found.path)?;
    if stat.identity != found.stat.identity || !stat.is_regular() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    Ok(Body::new(file, packing))
}

fn begins_with(folders: &Folders, path: &Path, head: &[u8]) -> io::Result<bool> {
    let (file, _) = folders.open_file(path)?;
    let mut start = Vec::new();
    Body::new(file, Packing::None).read_at(0, head.len(), &mut start)?;
    Ok(start == head)
}
