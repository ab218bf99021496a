//! What a scan means: known files met again, files that went away, and strangers, which may be new files, rotated
//! generations that nobody saw, or copies of what was read already.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::body::{Body, Packing, open};
use super::discover::Found;
use super::followed::{Followed, Past, fits};
use super::identity::{HEAD_BYTES, Identity, Print};
use super::ledger::{Ledger, Statement};
use super::tail::{REMEMBER_MISSING, Tail};

/// Refused names that are remembered, so that each is said once.
const MOST_REFUSED: usize = 10_000;

/// How long a short file beside a truncated one may still be a copy in the making.
const COPY_TIME: Duration = Duration::from_secs(2);

/// File systems on which a file may get another inode without being another file: overlay, NFS, FUSE, SMB, CIFS, 9P.
const SHIFTING: [u64; 6] = [0x794c_7630, 0x6969, 0x6573_5546, 0xfe53_4d42, 0xff53_4d42, 0x0102_1997];

/// Files beside the included ones that are not followed, by what is known of them.
#[derive(Default)]
pub struct Strangers(HashMap<Identity, Stranger>);

#[derive(Clone, Copy, Debug)]
struct Stranger {
    kind: StrangerKind,
    /// The scan that saw it last, its size then, and since when it has that.
    seen: u64,
    size: u64,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StrangerKind {
    /// It is not clear yet whether it is a copy.
    Waits,
    /// An older generation from before our time.
    Ignored,
}

enum Judgement {
    New,
    Wait,
    Copy(Box<Past>),
}

impl Tail {
    /// Looks at all names and takes note of what has changed.
    pub(super) fn rescan(&mut self, now: Instant) {
        self.scan += 1;
        let listing = self.settings.patterns.list();
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
                warn!(path = %path.display(), "not read: it is {what}");
                self.refused.insert(path);
            }
        }
        let mut strangers = Vec::new();
        for found in listing.found {
            if self.files.contains_key(&found.stat.identity) { self.meet(&found, now) } else { strangers.push(found) }
        }
        if !strangers.is_empty() {
            let newest = self.newest_of_families();
            // By birth, so that an original comes before its copies.
            strangers.sort_by(|a, b| (a.stat.identity, &a.path).cmp(&(b.stat.identity, &b.path)));
            for found in strangers {
                if self.files.contains_key(&found.stat.identity) {
                    continue;
                }
                if let Err(error) = self.adopt(&found, &newest, now)
                    && error.kind() != io::ErrorKind::NotFound
                    && self.refused.insert(found.path.clone())
                {
                    warn!(path = %found.path.display(), %error, "cannot look into the file");
                }
            }
        }
        let scan = self.scan;
        self.strangers.0.retain(|_, stranger| stranger.seen == scan);
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
            if file.path != found.path {
                file.words = found.path.display().to_string().into();
                file.path.clone_from(&found.path);
            }
            file.is_rotated = !found.is_included || found.family.is_some();
        }
        (file.seen, file.missing_since) = (scan, None);
        if has_changed || (file.body.is_none() && !file.is_at_end()) {
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
                        warn!(path = %file.path.display(), bytes = lost, "the file went away before all of it was read");
                        file.size = file.ledger.cursor();
                    }
                    let is_over = now.saturating_duration_since(since) >= REMEMBER_MISSING || file.is_removed;
                    if is_over && file.body.is_none() && file.ledger.in_flight() == 0 {
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

    /// The birth of the youngest file of each family that was known before this scan.
    fn newest_of_families(&self) -> HashMap<PathBuf, i64> {
        let mut newest: HashMap<PathBuf, i64> = HashMap::new();
        let known = self.files.values().map(|file| (&file.family, file.identity.birth));
        let remembered = self.memory.iter().map(|(identity, file)| (&file.family, identity.birth));
        for (family, birth) in known.chain(remembered) {
            match newest.get_mut(family) {
                Some(newest) => *newest = birth.max(*newest),
                None => drop(newest.insert(family.clone(), birth)),
            }
        }
        newest
    }

    fn adopt(&mut self, found: &Found, newest: &HashMap<PathBuf, i64>, now: Instant) -> io::Result<()> {
        let identity = found.stat.identity;
        if self.settings.stamps_owner && found.stat.links > 1 {
            // Whoever can make a second name for a file of somebody else could speak in that one's name.
            return Err(io::Error::other("it has several names, so its owner proves nothing"));
        }
        if let Some(remembered) = self.memory.remove(&identity) {
            self.follow(found, Some(remembered), now);
            return Ok(());
        }
        let is_packed = Packing::of(&found.path) != Packing::None;
        if found.family.is_none() && !is_packed {
            if !self.moved(found, now)? {
                self.begin(found, now)?;
            }
            return Ok(());
        }
        let stranger = self.strangers.0.get(&identity).copied();
        let known = stranger.map(|stranger| stranger.kind);
        let since = stranger.filter(|s| s.size == found.stat.size).map_or(now, |stranger| stranger.since);
        let scan = self.scan;
        let note = |kind| Stranger { kind, seen: scan, size: found.stat.size, since };
        let family = found.family.as_ref().and_then(|family| newest.get(family));
        let is_younger = family.is_some_and(|newest| identity.birth > *newest) || known == Some(StrangerKind::Waits);
        let may_be_new = found.is_included || is_younger;
        if known == Some(StrangerKind::Ignored) || !(may_be_new || is_packed && family.is_some()) {
            self.strangers.0.insert(identity, note(StrangerKind::Ignored));
            return Ok(());
        }
        let is_fresh = now.saturating_duration_since(since) < COPY_TIME;
        let judged = self.judge(found, is_fresh);
        let kind = match judged? {
            Judgement::New if may_be_new => return self.begin(found, now),
            Judgement::New => StrangerKind::Ignored,
            Judgement::Wait => StrangerKind::Waits,
            Judgement::Copy(past) => {
                self.follow_copy(found, &past, now);
                return Ok(());
            }
        };
        self.strangers.0.insert(identity, note(kind));
        Ok(())
    }

    /// Compares a stranger's content with everything it may be a copy of.
    fn judge(&self, found: &Found, is_fresh: bool) -> io::Result<Judgement> {
        let packing = Packing::of(&found.path);
        let mut body = open_as(found, packing)?;
        let mut head = Vec::new();
        body.read_at(0, HEAD_BYTES, &mut head)?;
        if head.is_empty() {
            return Ok(Judgement::Wait);
        }
        let folder = found.path.parent();
        let family = found.family.as_deref();
        let is_relative = |file: &&Followed| {
            file.packing == Packing::None
                && (family == Some(&*file.family) || (packing != Packing::None && file.path.parent() == folder))
        };
        for file in self.files.values().filter(is_relative) {
            for past in &file.past {
                if fits(&mut body, &past.head, &past.place, past.place_at)? {
                    return Ok(Judgement::Copy(Box::new(past.clone())));
                }
                if found.stat.size >= past.place_at || packing != Packing::None {
                    continue;
                }
                // A copy in the making, or one that was made before we read on: then all of it was read.
                if is_fresh && (head.len() < past.head.len.into() || past.head.fits(&head)) {
                    return Ok(Judgement::Wait);
                }
                if past.head.fits(&head) {
                    let ledger = Ledger::starting_at(found.stat.size);
                    return Ok(Judgement::Copy(Box::new(Past {
                        ledger,
                        place: Print::default(),
                        place_at: 0,
                        ..*past
                    })));
                }
            }
            let is_live = file.missing_since.is_none();
            // Whether that one is still what it was will be known before the next scan.
            if is_live && file.looked_at != Some(file.state()) && !file.head.is_empty() && file.head.fits(&head) {
                return Ok(Judgement::Wait);
            }
            if packing != Packing::None {
                if file.head.is_empty() || !file.head.fits(&head) {
                    continue;
                }
                if is_live || file.body.is_some() || file.ledger.in_flight() > 0 {
                    return Ok(Judgement::Wait);
                }
                if fits(&mut body, &file.head, &file.place, file.place_at)? {
                    return Ok(Judgement::Copy(Box::new(file.as_past())));
                }
            } else if is_live && !file.is_rotated && found.stat.identity.birth >= file.identity.birth {
                // A copy is younger than its original, which stays where it was. If that is being cut back right
                // now, it will be noticed before the next scan.
                let holds_read = !file.head.is_empty() && file.head.fits(&head);
                let may_become = is_fresh && head.len() < file.head.len.into();
                if holds_read || may_become || begins_with(&file.path, &head)? {
                    return Ok(Judgement::Wait);
                }
            }
        }
        if packing != Packing::None {
            for (origin, file) in &self.memory {
                if !file.head.is_empty() && fits(&mut body, &file.head, &file.place, file.place_at)? {
                    info!(path = %found.path.display(), inode = origin.inode, "a packed copy of a file that was read before");
                    let (head, place, place_at) = (file.head, file.place, file.place_at);
                    let (ledger, origin) = (file.ledger.clone(), file.origin);
                    return Ok(Judgement::Copy(Box::new(Past { head, place, place_at, ledger, origin })));
                }
            }
        }
        Ok(Judgement::New)
    }

    /// Follows a file that nobody has read.
    fn begin(&mut self, found: &Found, now: Instant) -> io::Result<()> {
        if !(self.is_first && self.settings.from_end) {
            self.follow(found, None, now);
            return Ok(());
        }
        let mut file = Followed::new(found, &self.cx.agent, None, self.scan, now);
        let at = match file.packing {
            Packing::None => last_line(&mut open_as(found, Packing::None)?, found.stat.size)?,
            _ => u64::MAX,
        };
        file.ledger = Ledger::starting_at(at);
        self.follow_stated(file);
        Ok(())
    }

    fn follow_copy(&mut self, found: &Found, past: &Past, now: Instant) {
        let mut file = Followed::new(found, &self.cx.agent, None, self.scan, now);
        file.resume_copy(&self.cx.agent, past);
        self.follow_stated(file);
    }

    /// Follows a file whose place must be remembered even if no more lines come.
    fn follow_stated(&mut self, mut file: Followed) {
        file.slots = 1;
        let statement = Statement { done: file.ledger.done(), spans: Vec::new() };
        self.marks.push(self.mark(&file, 0, statement));
        let identity = file.identity;
        self.files.insert(identity, file);
        self.enqueue(identity);
    }

    fn follow(&mut self, found: &Found, remembered: Option<super::position::Remembered>, now: Instant) {
        let file = Followed::new(found, &self.cx.agent, remembered, self.scan, now);
        let identity = file.identity;
        self.files.insert(identity, file);
        self.enqueue(identity);
    }

    /// Whether the file is one that was read, under a new inode: some file systems do that to open files.
    fn moved(&mut self, found: &Found, now: Instant) -> io::Result<bool> {
        let magic = rustix::fs::statfs(&found.path)?.f_type as u64;
        if !SHIFTING.contains(&magic) {
            return Ok(false);
        }
        let (scan, path) = (self.scan, &found.path);
        let is_former = |file: &&Followed| file.path == *path && file.seen != scan && file.ledger.in_flight() == 0;
        let former = self.files.values().find(is_former).map(|file| (file.identity, file.slots, file.as_past()));
        let remembered = || {
            let (identity, file) = self.memory.iter().find(|(_, file)| file.family == *path)?;
            let (head, place, place_at) = (file.head, file.place, file.place_at);
            let past = Past { head, place, place_at, ledger: file.ledger.clone(), origin: file.origin };
            Some((*identity, file.slots, past))
        };
        let Some((identity, slots, past)) = former.or_else(remembered) else { return Ok(false) };
        let mut body = open_as(found, Packing::None)?;
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

fn open_as(found: &Found, packing: Packing) -> io::Result<Body> {
    let (file, stat) = open(&found.path, false)?;
    if stat.identity != found.stat.identity || !stat.is_regular() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    Ok(Body::new(file, packing))
}

fn begins_with(path: &Path, head: &[u8]) -> io::Result<bool> {
    let (file, _) = open(path, false)?;
    let mut start = Vec::new();
    Body::new(file, Packing::None).read_at(0, head.len(), &mut start)?;
    Ok(start == head)
}

/// Where the last line starts, so that reading from the end does not begin inside one.
fn last_line(body: &mut Body, size: u64) -> io::Result<u64> {
    const LOOK_BACK: u64 = 1024 * 1024;
    let from = size.saturating_sub(LOOK_BACK);
    let mut tail = Vec::new();
    body.read_at(from, (size - from) as usize, &mut tail)?;
    Ok(memchr::memrchr(b'\n', &tail).map_or(from, |at| from + at as u64 + 1))
}
