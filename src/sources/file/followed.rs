//! One followed file: its state, and whether it is still the same file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use encoding_rs::Encoding;

use super::body::{Body, PackedState};
use super::content::{Packing, has_packed_name};
use super::discover::Found;
use super::identity::{HEAD_BYTES, Identity, PLACE_BYTES, Print, Stat};
use super::position::Remembered;
use super::reader::Scanned;
use crate::event::{Seed, Stamp};
use crate::ranges::RangeTracker;
use crate::units::Timestamp;

/// Former contents of one file that are remembered, for the copies that rotation by copying makes of them.
const MOST_PAST: usize = 4;

/// How long nobody has written to a file that is at rest, in nanoseconds.
const REST: i64 = 2_000_000_000;

/// What ids derive from: a file, and how often it was cut back to nothing.
pub type Origin = (Identity, u32);

pub struct Followed {
    pub identity: Identity,
    pub path: PathBuf,
    /// The included name it has or had.
    pub family: PathBuf,
    pub is_rotated: bool,
    /// As its first bytes say, once it was opened.
    pub packing: Packing,
    /// The byte order that the file's own mark says, where it is read as UTF-16.
    pub encoding: Option<&'static Encoding>,
    /// It has no lines that could be read, and was said to have none.
    pub is_unreadable: bool,
    /// The damage of a packed file was said.
    pub is_damage_said: bool,
    pub owner: u32,
    pub stamp: Option<Arc<Stamp>>,

    pub generation: u32,
    pub origin: Origin,
    pub seed: Seed,
    pub ranges: RangeTracker,
    /// Slots that the journal may remember.
    pub slots: u8,
    /// When it was first followed, in nanoseconds since 1970.
    pub since: i64,
    pub head: Print,
    /// The print of the bytes before `place_at`.
    pub place: Print,
    pub place_at: u64,
    pub past: Vec<Past>,

    pub body: Option<Body>,
    /// Size and time of change as last seen, and as of the last look at the content.
    pub size: u64,
    pub modified: i64,
    /// The largest size that was seen of the present contents.
    pub grown_to: u64,
    pub looked_at: Option<(u64, i64)>,
    pub quiet_since: Instant,
    /// From here on there was no whole line, when the file had this size and time of change.
    pub unfinished: Option<(u64, (u64, i64))>,
    /// When the unfinished line is looked at again although nothing was written; never, if only that could end it.
    pub looks_again: Option<Instant>,
    pub scanned: Option<Scanned>,
    /// A packed file was read to its end.
    pub is_spent: bool,

    /// The scan that saw it last, and since when it is missing.
    pub seen: u64,
    pub missing_since: Option<Instant>,
    /// We removed it ourselves.
    pub is_removed: bool,
    pub is_queued: bool,
    pub retry: Retry,
}

/// Contents that were read, for copies of them.
#[derive(Clone, Debug)]
pub struct Past {
    pub head: Print,
    pub place: Print,
    pub place_at: u64,
    pub ranges: RangeTracker,
    pub origin: Origin,
}

/// When to try again, and how long to wait the next time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retry {
    pub at: Option<Instant>,
    pub pause: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);

    pub fn later(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(Retry::FIRST, Retry::LONGEST);
        self.at = Some(now + self.pause);
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }
}

impl Followed {
    pub fn new(found: &Found, agent: &str, remembered: Option<Remembered>, scan: u64, now: Instant) -> Followed {
        let identity = found.stat.identity;
        let is_rotated = !found.is_included || found.family.is_some();
        let remembered = remembered.unwrap_or_else(|| Remembered {
            generation: 0,
            origin: (identity, 0),
            ranges: RangeTracker::default(),
            head: Print::default(),
            place: Print::default(),
            place_at: 0,
            since: 1000 * Timestamp::now().0,
            family: found.family.clone().unwrap_or_else(|| found.path.clone()),
            slots: 0,
            past: Vec::new(),
        });
        Followed {
            identity,
            path: found.path.clone(),
            family: remembered.family,
            is_rotated,
            packing: Packing::None,
            encoding: None,
            is_unreadable: false,
            is_damage_said: false,
            owner: found.stat.owner,
            stamp: None,
            generation: remembered.generation,
            origin: remembered.origin,
            seed: seed(agent, remembered.origin),
            ranges: remembered.ranges,
            slots: remembered.slots,
            since: remembered.since,
            head: remembered.head,
            place: remembered.place,
            place_at: remembered.place_at,
            past: remembered.past,
            body: None,
            size: found.stat.size,
            modified: found.stat.modified,
            grown_to: found.stat.size,
            looked_at: None,
            quiet_since: now,
            unfinished: None,
            looks_again: None,
            scanned: None,
            is_spent: false,
            seen: scan,
            missing_since: None,
            is_removed: false,
            is_queued: false,
            retry: Retry::default(),
        }
    }

    /// Goes on in this file where another one ended, of which it is a copy.
    pub fn resume_copy(&mut self, agent: &str, of: &Past) {
        self.origin = of.origin;
        self.seed = seed(agent, of.origin);
        self.ranges = of.ranges.clone();
        (self.head, self.place, self.place_at) = (of.head, of.place, of.place_at);
    }

    /// Everything that can be said about its present contents.
    pub fn as_past(&self) -> Past {
        // What is in flight will be settled; if it fails, it cannot be read again.
        let ranges = if self.ranges.in_flight() > 0 { self.ranges.landed() } else { self.ranges.clone() };
        Past { head: self.head, place: self.place, place_at: self.place_at, ranges, origin: self.origin }
    }

    /// By which a change is noticed.
    pub fn state(&self) -> (u64, i64) {
        (self.size, self.modified)
    }

    /// Takes note of size and time of change; whether they differ.
    pub fn note(&mut self, stat: &Stat, now: Instant) -> bool {
        let has_changed = self.state() != (stat.size, stat.modified);
        if has_changed {
            (self.size, self.modified, self.quiet_since) = (stat.size, stat.modified, now);
            self.owner = stat.owner;
            self.grown_to = self.grown_to.max(stat.size);
        }
        has_changed
    }

    /// Whether the file still begins with what was read of it, up to where it was read. `first` are its first bytes,
    /// where they are known already.
    pub fn is_same(&mut self, first: Option<&[u8]>) -> io::Result<bool> {
        let (head, place, place_at, size) = (self.head, self.place, self.place_at, self.size);
        let Some(body) = &mut self.body else { return Ok(true) };
        let is_plain = matches!(body, Body::Plain(_));
        if is_plain && size < self.ranges.furthest() {
            return Ok(false);
        }
        let fits = fits(body, &head, &place, place_at)?;
        if fits && usize::from(head.len) < HEAD_BYTES {
            self.head = first.filter(|_| is_plain).map_or_else(|| print_head(body), |first| Ok(Print::of(first)))?;
        }
        Ok(fits)
    }

    /// Begins anew: the file was cut back and written again. Returns the bytes that were seen of it and not read.
    pub fn start_over(&mut self, agent: &str) -> u64 {
        let is_counted = self.packing == Packing::None && !self.is_unreadable;
        let unread = if is_counted { self.grown_to.saturating_sub(self.ranges.cursor()) } else { 0 };
        self.grown_to = 0;
        if self.ranges.cursor() > 0 {
            self.past.push(self.as_past());
        }
        if self.past.len() > MOST_PAST {
            self.past.remove(0);
        }
        self.generation += 1;
        self.origin = (self.identity, self.generation);
        self.seed = seed(agent, self.origin);
        self.ranges = RangeTracker::default();
        (self.head, self.place, self.place_at) = (Print::default(), Print::default(), 0);
        (self.unfinished, self.scanned, self.looked_at) = (None, None, None);
        (self.is_unreadable, self.is_damage_said) = (false, false);
        unread
    }

    /// Takes prints of the place that reading has come to; `before` are the file's own bytes before it, as many as are in
    /// memory.
    pub fn print_place(&mut self, before: &[u8]) -> io::Result<()> {
        let at = self.ranges.cursor();
        let Some(body) = &mut self.body else { return Ok(()) };
        if usize::from(self.head.len) < HEAD_BYTES {
            self.head = match before.get(..HEAD_BYTES).filter(|_| before.len() as u64 == at) {
                Some(head) => Print::of(head),
                None => print_head(body)?,
            };
        }
        self.place = match before.last_chunk::<{ PLACE_BYTES as usize }>() {
            Some(place) => Print::of(place),
            None => print_place(body, at)?,
        };
        self.place_at = at;
        Ok(())
    }

    /// Bytes that were seen and not submitted.
    pub fn unread(&self) -> u64 {
        let is_counted = self.packing == Packing::None && !self.is_unreadable;
        if is_counted { self.size.saturating_sub(self.ranges.cursor()) } else { 0 }
    }

    /// Whether so many scans have not seen it: a rename can hide a file from one of them.
    pub fn is_missed(&self, scan: u64, scans: u64) -> bool {
        scan.saturating_sub(self.seen) >= scans
    }

    /// Whether a packed file was unpacked to its end.
    pub fn is_packed_end(&self) -> bool {
        matches!(&self.body, Some(Body::Packed(packed)) if packed.state == PackedState::Ended)
    }

    /// Whether everything that is there was submitted.
    pub fn is_at_end(&self) -> bool {
        match self.packing {
            _ if self.is_unreadable => true,
            // What is not known yet to be plain, and what may have been cut back, has no end that its size would say.
            Packing::None if self.looked_at.is_none() => {
                self.ranges.cursor() == self.size && !has_packed_name(&self.path)
            }
            Packing::None => self.ranges.cursor() >= self.size,
            _ => self.is_spent,
        }
    }

    /// Whether there is nothing to read of it now, but for what is written to it.
    pub fn is_idle(&self, now: Instant) -> bool {
        let is_unfinished = self.packing == Packing::None
            && self.unfinished.is_some_and(|(_, state)| state == self.state())
            && self.looks_again.is_none_or(|at| now < at);
        is_unfinished || self.is_at_end()
    }

    /// Whether nobody has written to it for a while.
    pub fn is_at_rest(&self) -> bool {
        (1000 * Timestamp::now().0).saturating_sub(self.modified) >= REST
    }

    /// Whether everything that is there is durable.
    pub fn is_done(&self) -> bool {
        self.is_at_end()
            && !self.is_unreadable
            && !self.is_damage_said
            && self.ranges.done() == self.ranges.cursor()
            && self.ranges.limit().is_none()
    }
}

pub fn seed(agent: &str, origin: Origin) -> Seed {
    Seed::derive(&[agent.as_bytes(), &origin.0.to_bytes(), &origin.1.to_le_bytes()])
}

pub fn print_head(body: &mut Body) -> io::Result<Print> {
    let mut head = Vec::new();
    body.read_at(0, HEAD_BYTES, &mut head)?;
    Ok(Print::of(&head))
}

fn print_place(body: &mut Body, at: u64) -> io::Result<Print> {
    let from = at.saturating_sub(PLACE_BYTES);
    let mut bytes = Vec::new();
    body.read_at(from, (at - from) as usize, &mut bytes)?;
    Ok(Print::of(&bytes))
}

/// Whether a file begins with `head` and has `place` before `at`.
pub fn fits(body: &mut Body, head: &Print, place: &Print, at: u64) -> io::Result<bool> {
    let mut bytes = Vec::new();
    body.read_at(0, usize::from(head.len), &mut bytes)?;
    if !head.fits(&bytes) {
        return Ok(false);
    }
    bytes.clear();
    body.read_at(at - u64::from(place.len), usize::from(place.len), &mut bytes)?;
    Ok(place.fits(&bytes))
}
