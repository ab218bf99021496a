//! The state machine that follows files: one step at a time without waiting, so that tests can drive it.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tracing::{debug, info, warn};

use super::adopt::UnknownFiles;
use super::body::Body;
use super::content::Packing;
use super::discover::Patterns;
use super::followed::Followed;
use super::identity::{ByIdentity, Identities, Identity, Stat};
use super::losses::{Losses, Truncation};
use super::owners::Owners;
use super::pace::{PAUSE, Pace};
use super::position::{BEGUN, PAST, Remembered, SOURCE, remembered};
use super::reader::{ChunkReader, ReadResult, SCAN_BYTES, View};
use super::submit::{self, Landing};
use crate::codec::Decoder;
use crate::component::SourceContext;
use crate::component::source::CHUNK_BYTES;
use crate::event::{Capture, Stamp};
use crate::journal::{self, ReserveError};
use crate::ranges::Claim;
use crate::units::Timestamp;

/// Chunks of all files without an outcome.
const MOST_SUBMISSIONS: usize = 256;

/// Chunks of one file before the next file has its turn.
const TURN: usize = 8;

/// Bytes and visits of one step, so that verdicts are heard and stopping is noticed.
const STEP_BYTES: u64 = 4 * 1024 * 1024;
const STEP_VISITS: usize = 256;

/// A scan may take a twentieth of the time, a sixtieth while more files than may be open wait to be read, and no longer pause
/// than this.
const SCAN_SHARE: u32 = 20;
const BUSY_SCAN_SHARE: u32 = 60;
const LONGEST_SCAN_PAUSE: Duration = Duration::from_secs(30);

/// How long a file that went away is remembered, for packed copies of it.
pub const REMEMBER_MISSING: Duration = Duration::from_secs(3600);

/// How long a spool file must be quiet before it is removed.
pub(super) const REMOVE_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Settings {
    pub patterns: Patterns,
    pub reader: ChunkReader,
    pub decoder: Arc<dyn Decoder>,
    pub from_end: bool,
    pub removes: bool,
    pub stamps_owner: bool,
    pub capture: Option<Capture>,
    /// Bytes that one owner may have taken in a second.
    pub owner_rate: Option<u64>,
    /// Whether an unfinished line that is a whole JSON value may be taken for a line early.
    pub is_json: bool,
    pub poll: Duration,
    /// How long a last line may stay unfinished.
    pub patience: Duration,
    pub most_open: usize,
}

/// What to do before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Step,
    /// Wait for so much memory and `grant` it.
    NeedsMemory(usize),
    /// Wait for an outcome or this time.
    Wait(Instant),
}

pub struct Tail {
    pub(super) settings: Settings,
    pub(super) cx: SourceContext,
    /// Boxed, since there may be many and a map keeps place for more than it holds.
    pub(super) files: ByIdentity<Box<Followed>>,
    /// Files that the journal knows and no scan has seen yet.
    pub(super) memory: ByIdentity<Remembered>,
    pub(super) unknown_files: UnknownFiles,
    pub(super) owners: Owners,
    /// Whether the journal knew nothing and no scan was made yet.
    pub(super) is_first: bool,
    pub(super) scan: u64,
    /// Paths of which something was said that is said once.
    pub(super) refused: HashSet<PathBuf>,
    pub(super) losses: Losses,
    pub(super) marks: Vec<journal::Position>,
    pub(super) said: Vec<String>,
    /// A folder and a device, and whether files there get new inodes.
    pub(super) last_folder: Option<(PathBuf, u64, bool)>,
    troubled: Identities,
    queue: VecDeque<Identity>,
    pub(super) open: Identities,
    /// Whether a file could not be opened because so many others are.
    pub(super) lacked_descriptor: bool,
    /// How often a file was opened to be read.
    #[cfg(test)]
    pub opens: usize,
    pub(super) submissions: FuturesUnordered<Landing>,
    /// Bytes of files in `submissions`.
    pub(super) submitted_bytes: u64,
    most_submitted: u64,
    permit: Option<journal::MemoryPermit>,
    pace: Pace,
    next_scan: Instant,
    /// The same should no file wait by then.
    next_idle_scan: Instant,
    scan_took: Duration,
    next_poll: Instant,
    /// When files that wait in the queue are looked at next.
    next_watch: Instant,
    pub(super) started: Instant,
    /// When these patterns were looked at first, maybe by an agent before this one, in nanoseconds since 1970.
    pub(super) looks_since: i64,
}

/// How a visit ended.
enum Visit {
    /// There is nothing more to do now.
    Rest,
    /// There is more: another turn.
    Again,
    /// An outcome must come first.
    Blocked,
    NeedsMemory(usize),
    Closed,
}

impl Tail {
    pub fn new(settings: Settings, cx: SourceContext, now: Instant) -> Tail {
        let (mut memory, unreadable) = remembered(cx.intake.positions());
        if unreadable > 0 {
            warn!(source = %cx.name, unreadable, "some positions are unreadable; their files are read from the start");
        }
        let looks_since = memory.remove(&SOURCE).filter(|known| known.family.as_os_str() == &*settings.patterns.print);
        let looks_since = looks_since.map(|known| known.since);
        let most_submitted = submit::most_bytes(cx.intake.most_ahead());
        let mut tail = Tail {
            is_first: looks_since.is_none() && memory.is_empty(),
            settings,
            cx,
            files: ByIdentity::default(),
            memory,
            unknown_files: UnknownFiles::default(),
            troubled: Identities::default(),
            owners: Owners::default(),
            scan: 0,
            refused: HashSet::new(),
            losses: Losses::default(),
            marks: Vec::new(),
            said: Vec::new(),
            last_folder: None,
            queue: VecDeque::new(),
            open: Identities::default(),
            lacked_descriptor: false,
            #[cfg(test)]
            opens: 0,
            submissions: FuturesUnordered::new(),
            submitted_bytes: 0,
            most_submitted,
            permit: None,
            pace: Pace::new(now),
            next_scan: now,
            next_idle_scan: now,
            scan_took: Duration::ZERO,
            next_poll: now,
            next_watch: now,
            started: now,
            looks_since: looks_since.unwrap_or_else(|| 1000 * Timestamp::now().0),
        };
        if looks_since.is_none() {
            tail.mark_looking();
        }
        tail
    }

    /// Does a bounded amount of work.
    pub fn step(&mut self, now: Instant) -> Next {
        self.look_around(now);
        if self.is_busy() {
            // Nothing is read before the next outcome.
            return Next::Wait(self.watch(now));
        }
        if self.pace.waits(now, self.cx.intake.outpaces()) {
            return Next::Wait(self.watch(now).min(now + PAUSE));
        }
        let (mut bytes, mut visits) = (0, 0);
        while !self.is_busy()
            && let Some(identity) = self.queue.pop_front()
        {
            let Some(mut file) = self.files.remove(&identity) else { continue };
            file.is_queued = false;
            let before = bytes;
            let visit = self.visit(&mut file, now, &mut bytes);
            file.is_queued = matches!(visit, Visit::Again | Visit::NeedsMemory(_));
            // One that is open and was not read keeps its turn: behind many others it would keep a descriptor from them.
            match visit {
                Visit::Again if bytes > before => self.queue.push_back(identity),
                Visit::Again | Visit::NeedsMemory(_) => self.queue.push_front(identity),
                _ => {}
            }
            self.keep(file);
            visits += 1;
            match visit {
                Visit::NeedsMemory(wanted) => return Next::NeedsMemory(wanted),
                Visit::Closed => break,
                _ if self.pace.is_waiting() => return Next::Wait(now + PAUSE),
                _ if bytes >= STEP_BYTES || visits >= STEP_VISITS => return Next::Step,
                _ => {}
            }
        }
        if self.submissions.is_empty() {
            self.settings.reader.buffers.clear();
            self.state_marks();
        }
        if self.queue.is_empty() {
            // Those that found no descriptor are met by the next scan.
            let soon =
                if std::mem::take(&mut self.lacked_descriptor) { now + self.settings.poll } else { self.next_scan };
            self.next_scan = self.next_scan.min(self.next_idle_scan).min(soon);
        }
        Next::Wait(self.next_scan.min(self.next_poll))
    }

    /// Whether an outcome must come before more is submitted.
    fn is_busy(&self) -> bool {
        self.submissions.len() >= MOST_SUBMISSIONS || self.submitted_bytes >= self.most_submitted
    }

    /// Takes in outcomes, and looks for files when it is time to.
    fn look_around(&mut self, now: Instant) {
        while let Some(Some((submission, outcome))) = self.submissions.next().now_or_never() {
            self.land(submission, outcome, now);
        }
        if now >= self.next_scan {
            let begun = Instant::now();
            self.rescan(now);
            // One scan that was slow because the machine was busy does not make for a long pause.
            let took = begun.elapsed();
            let usual = std::mem::replace(&mut self.scan_took, took).min(took);
            let pause = |share| (usual * share).clamp(self.settings.poll, LONGEST_SCAN_PAUSE);
            self.next_idle_scan = now + pause(SCAN_SHARE);
            self.next_scan = match self.queue.len() > self.settings.most_open {
                true => now + pause(BUSY_SCAN_SHARE),
                false => self.next_idle_scan,
            };
        }
        if now >= self.next_poll {
            self.poll();
            self.next_poll = now + self.settings.poll;
        }
    }

    /// What goes on while nothing can be read, because memory or the journal has no space: files are looked for, opened
    /// as far as they may be, and looked at, so that those that are rotated away or cut back meanwhile are still read, or
    /// counted. Returns when to call again. Whoever waits for memory often does not look at all files each time.
    pub fn watch(&mut self, now: Instant) -> Instant {
        let is_due = now >= self.next_watch || now >= self.next_scan || now >= self.next_poll;
        self.look_around(now);
        if !is_due {
            return self.next_scan.min(self.next_poll);
        }
        self.next_watch = now + self.settings.poll;
        let waiting: Vec<Identity> = self.queue.iter().copied().collect();
        let mut is_full = false;
        for identity in waiting {
            if is_full && !self.open.contains(&identity) {
                continue;
            }
            let Some(mut file) = self.files.remove(&identity) else { continue };
            let is_closed = file.body.is_none();
            if file.retry.is_due(now) {
                if let Err(error) = self.look(&mut file, now) {
                    self.say_unreadable(&mut file, &error, now);
                }
                is_full |= is_closed && file.body.is_none() && self.open.len() >= self.settings.most_open;
            }
            self.keep(file);
        }
        self.next_scan.min(self.next_poll)
    }

    /// MemoryPermit that was waited for.
    pub fn grant(&mut self, permit: journal::MemoryPermit) {
        self.permit = Some(permit);
    }

    /// Waits for an outcome; for ever if none is due.
    pub async fn landed(&mut self, now: Instant) {
        match self.submissions.next().await {
            Some((submission, outcome)) => self.land(submission, outcome, now),
            None => std::future::pending().await,
        }
    }

    /// Waits until nothing is in flight.
    pub async fn all_landed(&mut self) {
        while let Some((submission, outcome)) = self.submissions.next().await {
            self.land(submission, outcome, Instant::now());
        }
    }

    /// Scans and polls with the next step.
    #[cfg(test)]
    pub fn look_again(&mut self) {
        (self.next_scan, self.next_poll) = (self.started, self.started);
    }

    pub(super) fn enqueue(&mut self, identity: Identity) {
        if let Some(file) = self.files.get_mut(&identity)
            && !std::mem::replace(&mut file.is_queued, true)
        {
            self.queue.push_back(identity);
        }
    }

    /// Looks again at every file that is open, or could not be read.
    fn poll(&mut self) {
        let due: Vec<Identity> = self.open.union(&self.troubled).copied().collect();
        for identity in due {
            self.enqueue(identity);
        }
    }

    fn visit(&mut self, file: &mut Followed, now: Instant, bytes: &mut u64) -> Visit {
        if !file.retry.is_due(now) {
            return Visit::Rest;
        }
        if let Err(error) = self.look(file, now) {
            self.say_unreadable(file, &error, now);
            return Visit::Rest;
        }
        if file.body.is_none() {
            return Visit::Rest;
        }
        if self.troubled.remove(&file.identity) && self.troubled.is_empty() {
            self.cx.intake.trouble(None);
        }
        for _ in 0..TURN {
            match self.read_chunk(file, now, bytes) {
                Ok(None) => {}
                Ok(Some(Visit::Rest)) => {
                    self.finish(file, now);
                    return Visit::Rest;
                }
                Ok(Some(visit)) => return visit,
                Err(error) => {
                    self.say_unreadable(file, &error, now);
                    return Visit::Rest;
                }
            }
        }
        Visit::Again
    }

    /// Opens the file if need be and makes sure that it is what it was.
    fn look(&mut self, file: &mut Followed, now: Instant) -> std::io::Result<()> {
        if file.body.is_none() && (file.missing_since.is_some() || !self.may_open(now)) {
            return Ok(());
        }
        let is_opened = file.body.is_none();
        let stat = match &file.body {
            Some(body) => Stat::of(body.file())?,
            None => {
                let (opened, stat) = self.settings.patterns.folders.open_file(&file.path)?;
                if stat.identity != file.identity || !stat.is_regular() {
                    // Another file has that name now; a scan soon says what it is, before ours is gone too.
                    self.next_scan = self.next_scan.min(now + self.settings.poll);
                    return Ok(());
                }
                debug!(source = %self.cx.name, path = %file.path.display(), bytes = stat.size, offset = file.ranges.cursor(), "a file was opened");
                file.body = Some(Body::new(opened, Packing::None));
                #[cfg(test)]
                {
                    self.opens += 1;
                }
                stat
            }
        };
        file.note(&stat, now);
        if let Some(body) = &mut file.body {
            body.note_size(stat.size);
        }
        let has_changed = file.looked_at != Some(file.state());
        let mut first = None;
        if is_opened || (has_changed && file.ranges.cursor() == 0) {
            first = Some(self.classify_content(file)?);
        }
        if !has_changed {
            return Ok(());
        }
        if file.is_unreadable {
            file.looked_at = Some(file.state());
            return Ok(());
        }
        (file.is_spent, file.is_damage_said) = (false, false);
        if let Some(Body::Packed(packed)) = &mut file.body {
            packed.try_again();
        }
        if !file.is_same(first.as_deref())? {
            if file.ranges.cursor() > 0 {
                self.marks.push(self.mark(file, PAST, file.as_past().ranges.landed().statement()));
            }
            let (origin, is_unknown) = (file.origin, file.ranges.cursor() == 0);
            let bytes = file.start_over(&self.cx.agent);
            // The new generation must be known before a copy of the old one is read, or ids would come twice.
            self.marks.push(self.mark(file, BEGUN, Claim::default()));
            // A copy of what was cut away had better be looked for at once.
            self.next_scan = now;
            (file.size, file.grown_to) = (stat.size, stat.size);
            file.quiet_since = now;
            let (path, family) = (file.path.clone(), file.family.clone());
            info!(source = %self.cx.name, path = %path.display(), unread_bytes = bytes, truncations = file.generation, "the file was cut back and begins anew");
            self.cx.intake.truncated();
            self.losses.add(Truncation { path, family, origin, is_unknown, bytes, at: now });
            first = Some(self.classify_content(file)?);
        }
        file.looked_at = Some(file.state());
        if file.ranges.cursor() == 0 {
            self.say_wide(file, first)?;
        }
        if file.stamp.is_none() {
            let capture = self.settings.capture;
            file.stamp = match (self.settings.stamps_owner, capture) {
                (true, _) => Some(self.owners.stamp(file.owner, capture)),
                (false, Some(_)) => Some(Arc::new(Stamp { sender: None, capture })),
                (false, None) => None,
            };
        }
        Ok(())
    }

    /// Submits the next chunk, or says why not.
    fn read_chunk(&mut self, file: &mut Followed, now: Instant, bytes: &mut u64) -> std::io::Result<Option<Visit>> {
        if !file.ranges.is_open() {
            return Ok(Some(Visit::Blocked));
        }
        if file.is_at_end() {
            return Ok(Some(Visit::Rest));
        }
        if self.is_busy() || self.pace.waits(now, self.cx.intake.outpaces()) {
            return Ok(Some(Visit::Again));
        }
        if self.settings.owner_rate.is_some_and(|rate| !self.owners.may_take(file.owner, rate, now)) {
            // The next look at open files comes soon enough.
            return Ok(Some(Visit::Blocked));
        }
        if self.is_damaged_here(file, now) {
            return Ok(Some(Visit::Rest));
        }
        let is_last = file.is_packed_end() || (file.unfinished.is_some() && self.is_final(file, now)?);
        if !is_last && file.unfinished.is_some_and(|(_, state)| state == file.state()) {
            file.looks_again = self.looks_again(file, now);
            return Ok(Some(Visit::Rest));
        }
        let permit = match self.permit.take() {
            Some(permit) => permit,
            None => {
                let left = if file.packing == Packing::None { file.unread() } else { CHUNK_BYTES as u64 };
                let wanted = left.clamp(1, CHUNK_BYTES as u64) as usize;
                match self.cx.intake.try_reserve(wanted) {
                    Ok(permit) => permit,
                    Err(ReserveError::Full(_)) => return Ok(Some(Visit::NeedsMemory(wanted))),
                    Err(ReserveError::Closed) => return Ok(Some(Visit::Closed)),
                }
            }
        };
        let view = View { at: file.ranges.cursor(), limit: file.ranges.limit(), is_last };
        let body = file.body.as_mut().expect("a visit opens the file");
        let next = match file.encoding {
            Some(encoding) => self.settings.reader.read_as(encoding).next(body, view, &mut file.scanned)?,
            None => self.settings.reader.next(body, view, &mut file.scanned)?,
        };
        match next {
            ReadResult::Chunk(chunk) => {
                *bytes += chunk.end - view.at;
                self.pace.read(chunk.end - view.at);
                self.owners.take(file.owner, chunk.end - view.at);
                file.unfinished = None;
                self.hand_in(file, chunk, permit)?;
                Ok(None)
            }
            ReadResult::Hole { end } => {
                file.ranges.skip(end);
                Ok(None)
            }
            ReadResult::Later => {
                *bytes += SCAN_BYTES;
                Ok(Some(Visit::Again))
            }
            ReadResult::Unfinished { from } => {
                file.unfinished = Some((from, file.state()));
                Ok(None)
            }
            ReadResult::End => {
                file.is_spent = file.is_packed_end();
                self.is_damaged_here(file, now);
                Ok(Some(Visit::Rest))
            }
        }
    }

    /// Whether nothing will be added to an unfinished line.
    fn is_final(&self, file: &mut Followed, now: Instant) -> std::io::Result<bool> {
        if file.packing != Packing::None {
            return Ok(file.is_packed_end());
        }
        let quiet = now.saturating_duration_since(file.quiet_since);
        if self.settings.removes && quiet >= REMOVE_AFTER {
            let body = file.body.as_ref().expect("a visit opens the file");
            if !super::spool::has_writer(body.file()) {
                return Ok(true);
            }
        }
        if quiet < self.settings.patience {
            return Ok(false);
        }
        if file.missing_since.is_some() || file.is_rotated || !self.settings.is_json {
            return Ok(true);
        }
        // Half a JSON value is of no use to anyone: it waits for the rest for as long as the file stays.
        let (Some((from, _)), Some(body)) = (file.unfinished, &mut file.body) else { return Ok(false) };
        let want = self.settings.reader.shape.line_bytes.min(file.size.saturating_sub(from) as usize);
        let mut line = Vec::new();
        body.read_at(from, want, &mut line)?;
        Ok(from + (line.len() as u64) < file.size || serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_ok())
    }

    /// What is done with a file of which everything was read.
    fn finish(&mut self, file: &mut Followed, now: Instant) {
        let quiet = now.saturating_duration_since(file.quiet_since);
        if file.missing_since.is_some() && file.is_at_end() && quiet >= self.settings.patience {
            file.body = None;
            return;
        }
        let may_remove = self.settings.removes && file.missing_since.is_none() && file.is_done();
        if may_remove && quiet >= REMOVE_AFTER {
            let body = file.body.as_ref().expect("a visit opens the file");
            let parent = self.settings.patterns.folders.parent(&file.path);
            let removed = parent
                .and_then(|(folder, name)| super::spool::remove(body.file(), &folder, name, file.identity, file.size));
            match removed {
                Ok(true) => {
                    (file.is_removed, file.missing_since, file.body) = (true, Some(now), None);
                }
                Ok(false) => {}
                Err(error) => self.say_unreadable(file, &error, now),
            }
            return;
        }
        if self.open.len() >= self.settings.most_open && file.is_idle(now) && file.missing_since.is_none() {
            file.body = None;
        }
    }

    fn say_unreadable(&mut self, file: &mut Followed, error: &std::io::Error, now: Instant) {
        file.retry.later(now);
        if error.kind() == std::io::ErrorKind::NotFound {
            return;
        }
        warn!(source = %self.cx.name, path = %file.path.display(), %error, "cannot read the file, trying again");
        self.cx.intake.trouble(Some(format!("cannot read `{}`: {error}", file.path.display())));
        self.troubled.insert(file.identity);
    }
}
