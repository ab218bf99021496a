//! Interprets a scan: known files found again, files that disappeared, and unknown files, which may be new, missed
//! rotations, or copies of what was already read.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::body::Body;
use super::classify::{Classification, open_found};
use super::content::{Content, Packing, has_packed_name};
use super::discover::Found;
use super::followed::{Followed, Origin, Past, fits};
use super::identity::ByIdentity;
use super::position::BEGUN;
use super::tail::{REMEMBER_MISSING, Tail};
use crate::ranges::RangeTracker;

/// Refused names that are remembered, so that each is said once.
const MOST_REFUSED: usize = 10_000;

/// How long a short file beside a truncated one may still be a copy in the making.
const COPY_TIME: Duration = Duration::from_secs(2);

/// By how much the clock of a file system may be behind, in nanoseconds.
const CLOCK_TICK: i64 = 20_000_000;

/// File systems on which a file may get another inode without being another file: overlay, NFS, FUSE, SMB, CIFS, 9P.
const SHIFTING: [u64; 6] = [0x794c_7630, 0x6969, 0x6573_5546, 0xfe53_4d42, 0xff53_4d42, 0x0102_1997];

/// Files beside the included ones that are not followed, by what is known of them.
#[derive(Default)]
pub struct UnknownFiles(ByIdentity<UnknownFile>);

#[derive(Clone, Copy, Debug)]
struct UnknownFile {
    kind: UnknownFileKind,
    /// The scan that saw it last, its size then, and since when it has that.
    seen: u64,
    size: u64,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnknownFileKind {
    /// It is not clear yet whether it is a copy.
    Waits,
    /// An older generation from before our time.
    Ignored,
}

impl Tail {
    /// Looks at all names and takes note of what has changed.
    pub(super) fn rescan(&mut self, now: Instant) {
        self.scan += 1;
        let mut listing = self.settings.patterns.list();
        for folder in std::mem::take(&mut listing.missing) {
            if self.refused.insert(folder.clone()) {
                info!(source = %self.cx.name, folder = %folder.display(), "the folder does not exist yet; its files are read once it does");
            }
        }
        if listing.errors != self.said {
            listing.errors.iter().for_each(|error| warn!("{error}"));
            self.cx.intake.trouble(listing.errors.first().cloned());
            self.said.clone_from(&listing.errors);
        }
        if self.refused.len() > MOST_REFUSED {
            self.refused.clear();
        }
        for (path, what) in listing.refused {
            if !self.refused.contains(&path) {
                warn!(source = %self.cx.name, path = %path.display(), "file skipped: {what}");
                self.refused.insert(path);
            }
        }
        let mut unknown_files = Vec::new();
        for found in listing.found {
            if self.files.contains_key(&found.stat.identity) {
                self.meet(&found, now)
            } else {
                unknown_files.push(found)
            }
        }
        if !unknown_files.is_empty() {
            // They are of use only to names that have endings more than an included one.
            let families = match unknown_files.iter().any(|found| found.family.is_some()) {
                true => self.families(),
                false => HashMap::new(),
            };
            // Known ones first, and by birth, so that an original comes before its copies.
            let (mut known, mut new): (Vec<Found>, Vec<Found>) =
                unknown_files.into_iter().partition(|found| self.memory.contains_key(&found.stat.identity));
            for files in [&mut known, &mut new] {
                files.sort_unstable_by(|a, b| (a.stat.identity, &a.path).cmp(&(b.stat.identity, &b.path)));
            }
            for found in known.into_iter().chain(new) {
                if self.files.contains_key(&found.stat.identity) {
                    continue;
                }
                if let Err(error) = self.adopt(&found, &families, now)
                    && error.kind() != io::ErrorKind::NotFound
                    && self.refused.insert(found.path.clone())
                {
                    warn!(source = %self.cx.name, path = %found.path.display(), %error, "cannot open the file");
                }
            }
        }
        for lost in self.losses.take_due(now) {
            let (path, bytes) = (lost.path.display(), lost.bytes);
            warn!(source = %self.cx.name, %path, bytes, "the file was truncated before all lines were read, and no copy was found");
            self.cx.intake.lost_bytes(bytes);
        }
        let scan = self.scan;
        self.unknown_files.0.retain(|_, unknown| unknown.seen == scan);
        if self.said.is_empty() {
            self.miss(now);
        }
        self.is_first = false;
    }

    fn meet(&mut self, found: &Found, now: Instant) {
        let scan = self.scan;
        let Some(file) = self.files.get_mut(&found.stat.identity) else { return };
        let has_changed = file.note(&found.stat, now);
        // A file with several names keeps the one it was read under.
        if file.seen != scan || file.path == found.path {
            file.path.clone_from(&found.path);
            let was_rotated = std::mem::replace(&mut file.is_rotated, !found.is_included || found.family.is_some());
            if file.is_rotated && !was_rotated {
                // Half a line is its last one now.
                file.looks_again = Some(now);
            }
        }
        (file.seen, file.missing_since) = (scan, None);
        if has_changed || (file.body.is_none() && !file.is_idle(now)) {
            self.enqueue(found.stat.identity);
        }
    }

    /// What was not seen has gone; what is still open is read to its end.
    fn miss(&mut self, now: Instant) {
        let (scan, mut gone, mut enqueued) = (self.scan, Vec::new(), Vec::new());
        for file in self.files.values_mut().filter(|file| file.seen != scan) {
            match file.missing_since {
                None => {
                    file.missing_since = Some(now);
                    enqueued.push(file.identity);
                }
                Some(since) => {
                    let lost = file.unread();
                    if file.body.is_none() && lost > 0 && file.is_missed(scan, 3) {
                        warn!(source = %self.cx.name, path = %file.path.display(), bytes = lost, "the file was removed before all of it was read");
                        self.cx.intake.lost_bytes(lost);
                        file.size = file.ranges.cursor();
                    }
                    let is_over = now.saturating_duration_since(since) >= REMEMBER_MISSING || file.is_removed;
                    if is_over && file.body.is_none() && file.ranges.in_flight() == 0 {
                        gone.push((file.identity, file.slots));
                    }
                }
            }
        }
        for identity in enqueued {
            self.enqueue(identity);
        }
        for (identity, slots) in gone {
            self.files.remove(&identity);
            self.forget(identity, slots);
        }
        if now.saturating_duration_since(self.started) >= REMEMBER_MISSING {
            for (identity, remembered) in std::mem::take(&mut self.memory) {
                self.forget(identity, remembered.slots);
            }
        }
    }

    /// Since when each family is followed, as known before this scan.
    fn families(&self) -> HashMap<PathBuf, i64> {
        let mut families: HashMap<PathBuf, i64> = HashMap::new();
        let known = self.files.values().map(|file| (&file.family, file.since));
        let remembered = self.memory.values().map(|file| (&file.family, file.since));
        for (family, since) in known.chain(remembered) {
            match families.get_mut(family) {
                Some(first) => *first = since.min(*first),
                None => drop(families.insert(family.clone(), since)),
            }
        }
        families
    }

    fn adopt(&mut self, found: &Found, families: &HashMap<PathBuf, i64>, now: Instant) -> io::Result<()> {
        let identity = found.stat.identity;
        if let Some(remembered) = self.memory.remove(&identity) {
            self.follow(found, Some(remembered), now);
            return Ok(());
        }
        let is_packed = has_packed_name(&found.path);
        if found.family.is_none() && !is_packed {
            if !self.moved(found, now)? {
                self.begin(found, now)?;
            }
            return Ok(());
        }
        let unknown = self.unknown_files.0.get(&identity).copied();
        let known = unknown.map(|unknown| unknown.kind);
        let quiet = unknown.filter(|s| s.size == found.stat.size).map_or(now, |unknown| unknown.since);
        let scan = self.scan;
        let note = |kind| UnknownFile { kind, seen: scan, size: found.stat.size, since: quiet };
        // What was written since we follow its family, and is unknown, is a generation that nobody saw.
        let since = found.family.as_ref().and_then(|family| families.get(family));
        // So is one of a family that came and went between two looks, or while the agent was stopped.
        let is_young = |at: i64| at + CLOCK_TICK >= self.looks_since;
        let came_and_went = is_young(found.stat.modified) && (identity.birth == 0 || is_young(identity.birth));
        let was_written = since.is_some_and(|since| found.stat.modified + CLOCK_TICK >= *since);
        let may_be_new = found.is_included || was_written || came_and_went;
        let is_old_news = known == Some(UnknownFileKind::Ignored) && unknown.is_some_and(|s| s.size == found.stat.size);
        if is_old_news || !(may_be_new || is_packed && since.is_some()) {
            self.unknown_files.0.insert(identity, note(UnknownFileKind::Ignored));
            return Ok(());
        }
        let is_fresh = now.saturating_duration_since(quiet) < COPY_TIME;
        let (body, content) = self.open_classified(found)?;
        let packing = match content {
            Content::Lines(packing) => packing,
            Content::Undecided if is_fresh => {
                self.unknown_files.0.insert(identity, note(UnknownFileKind::Waits));
                return Ok(());
            }
            Content::Undecided | Content::Unreadable(_) => {
                if may_be_new {
                    self.say_unreadable_content(&found.path, content);
                }
                self.unknown_files.0.insert(identity, note(UnknownFileKind::Ignored));
                return Ok(());
            }
        };
        let kind = match self.classify(found, body, packing, is_fresh)? {
            Classification::New if may_be_new => {
                found.family.iter().for_each(|family| self.losses.found_unknown(family));
                return self.begin(found, now);
            }
            Classification::New => UnknownFileKind::Ignored,
            Classification::Wait => UnknownFileKind::Waits,
            Classification::Copy(past) => {
                self.losses.found(past.origin);
                // One copy goes on where the original ended; what else begins like it is something else.
                self.files.values_mut().for_each(|file| file.past.retain(|known| known.origin != past.origin));
                self.follow_copy(found, &past, now);
                return Ok(());
            }
            Classification::Damaged(origin) => {
                self.losses.found(origin);
                self.follow_damaged(found, origin, now);
                return Ok(());
            }
        };
        self.unknown_files.0.insert(identity, note(kind));
        Ok(())
    }

    /// Follows a file that nobody has read.
    fn begin(&mut self, found: &Found, now: Instant) -> io::Result<()> {
        if !(self.is_first && self.settings.from_end) {
            self.follow(found, None, now);
            return Ok(());
        }
        let mut file = Followed::new(found, &self.cx.agent, None, self.scan, now);
        let at = match self.open_classified(found)? {
            (mut body, Content::Lines(Packing::None)) => last_line(&mut body, found.stat.size)?,
            _ => u64::MAX,
        };
        file.ranges = RangeTracker::starting_at(at);
        self.follow_stated(file);
        Ok(())
    }

    fn follow_copy(&mut self, found: &Found, past: &Past, now: Instant) {
        let mut file = Followed::new(found, &self.cx.agent, None, self.scan, now);
        file.resume_copy(&self.cx.agent, past);
        self.follow_stated(file);
    }

    /// Follows a damaged copy of what was read before: nothing more is read of it, and that is remembered.
    fn follow_damaged(&mut self, found: &Found, origin: Origin, now: Instant) {
        let mut file = Followed::new(found, &self.cx.agent, None, self.scan, now);
        file.origin = origin;
        file.ranges = RangeTracker::starting_at(u64::MAX);
        self.follow_stated(file);
    }

    /// Follows a file whose place must be remembered even if no more lines come.
    fn follow_stated(&mut self, file: Followed) {
        self.marks.push(self.mark(&file, BEGUN, file.ranges.statement()));
        let identity = file.identity;
        self.files.insert(identity, Box::new(file));
        self.enqueue(identity);
    }

    fn follow(&mut self, found: &Found, remembered: Option<super::position::Remembered>, now: Instant) {
        let file = Followed::new(found, &self.cx.agent, remembered, self.scan, now);
        let identity = file.identity;
        self.files.insert(identity, Box::new(file));
        self.enqueue(identity);
    }

    /// Whether the file's file system gives files new inodes. Files that are found one after another mostly lie together.
    fn is_shifting(&mut self, found: &Found) -> io::Result<bool> {
        let (folder, device) = (found.path.parent(), found.stat.identity.device);
        if let Some((known, on, is_shifting)) = &self.last_folder
            && Some(known.as_path()) == folder
            && *on == device
        {
            return Ok(*is_shifting);
        }
        let magic = rustix::fs::statfs(&found.path)?.f_type as u64;
        let is_shifting = SHIFTING.contains(&magic);
        self.last_folder = folder.map(|folder| (folder.to_owned(), device, is_shifting));
        Ok(is_shifting)
    }

    /// Whether the file is one that was read, under a new inode: some file systems do that to open files.
    fn moved(&mut self, found: &Found, now: Instant) -> io::Result<bool> {
        if !self.is_shifting(found)? {
            return Ok(false);
        }
        let (scan, path) = (self.scan, &found.path);
        let is_former = |file: &&Followed| file.path == *path && file.seen != scan && file.ranges.in_flight() == 0;
        let former = self
            .files
            .values()
            .map(Box::as_ref)
            .find(is_former)
            .map(|file| (file.identity, file.slots, file.as_past()));
        let remembered = || {
            let (identity, file) = self.memory.iter().find(|(_, file)| file.family == *path)?;
            Some((*identity, file.slots, file.as_past()))
        };
        let Some((identity, slots, past)) = former.or_else(remembered) else { return Ok(false) };
        let mut body = open_found(&self.settings.patterns.folders, found)?;
        if past.head.is_empty() || !fits(&mut body, &past.head, &past.place, past.place_at)? {
            return Ok(false);
        }
        self.files.remove(&identity);
        self.memory.remove(&identity);
        self.forget(identity, slots);
        self.follow_copy(found, &past, now);
        Ok(true)
    }
}

/// Where the last line starts, so that reading from the end does not begin inside one.
fn last_line(body: &mut Body, size: u64) -> io::Result<u64> {
    const LOOK_BACK: u64 = 1024 * 1024;
    let from = size.saturating_sub(LOOK_BACK);
    let mut tail = Vec::new();
    body.read_at(from, (size - from) as usize, &mut tail)?;
    Ok(memchr::memrchr(b'\n', &tail).map_or(from, |at| from + at as u64 + 1))
}
