//! All segments of dead letters: the size limit, the next number, and which files can be removed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::dead_letter::{DeadLetter, NewDeadLetter, Number};
use super::ends::Ends;
use super::parked::Index;
use super::segment::{AppendError, HEADER, MAX_OFFSET, Segment, encode};
use super::{Refused, Summary};
use crate::event::Id;
use crate::units::Timestamp;

/// At this size a segment is full.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// The most bytes added at once, so that every offset in a segment fits its slot.
const MAX_APPEND: usize = MAX_OFFSET / 2;
/// The newest dead letters, remembered so that an event that comes again after a crash is one dead letter.
const REMEMBERED: usize = 4096;

/// By what a dead letter is known when it comes again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    component: String,
    event_id: Id,
    which: Which,
}

/// Events of one id need not be one event: their producer may have given it twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    Seq(u64),
    /// Not in the journal yet: whoever reads it again has the same text.
    Body([u8; 32]),
}

impl Known {
    /// `None` of what has no id, and of what is parked: its sink knows what it has parked.
    fn of(dead_letter: &NewDeadLetter) -> Option<Known> {
        if dead_letter.parked.is_some() {
            return None;
        }
        let which = match dead_letter.seq {
            Some(seq) => Which::Seq(seq),
            None => Which::Body(*blake3::hash(&dead_letter.body).as_bytes()),
        };
        Some(Known { component: dead_letter.component.clone(), event_id: dead_letter.event_id?, which })
    }
}

#[derive(Debug)]
pub struct DeadLetterStore {
    /// `None` in memory.
    folder: Option<PathBuf>,
    max_bytes: u64,
    /// By the number they count from.
    segments: BTreeMap<u64, Segment>,
    next: u64,
    /// Whether the newest segment may be appended to.
    writable: bool,
    recent: HashMap<Known, Number>,
    order: VecDeque<Known>,
    pub(super) parked: Index,
    pub(super) ends: Ends,
}

impl DeadLetterStore {
    pub fn in_memory(max_bytes: u64) -> DeadLetterStore {
        DeadLetterStore {
            folder: None,
            max_bytes,
            segments: BTreeMap::new(),
            next: 0,
            writable: false,
            recent: HashMap::new(),
            order: VecDeque::new(),
            parked: Index::default(),
            ends: Ends::default(),
        }
    }

    /// Opens or makes the folder; damage is counted, never fatal.
    pub fn open(folder: &Path, max_bytes: u64) -> io::Result<DeadLetterStore> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("tmp") => std::fs::remove_file(&path)?,
                Some("dlq") => {
                    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                    if let Ok(first) = u64::from_str_radix(stem, 16) {
                        names.insert(first, path);
                    }
                }
                _ => {}
            }
        }
        let ends = Ends::open(folder)?;
        let mut store =
            DeadLetterStore { folder: Some(folder.to_owned()), ends, ..DeadLetterStore::in_memory(max_bytes) };
        let newest = names.last_key_value().map(|(first, _)| *first);
        for (first, path) in names {
            let segment = Segment::open(&path, first, Some(first) == newest)?;
            store.next = store.next.max(segment.last().map_or(first, |last| last + 1));
            store.segments.insert(first, segment);
        }
        // A number that has ended must not be given again, even if its file is gone and the clock was put back.
        let ended = store.ends.unmarked().iter().map(|number| number.0 + 1).max();
        store.next = store.next.max(ended.unwrap_or(0));
        store.writable = newest.is_some();
        store.mark_ended()?;
        store.remember_newest();
        store.find_parked();
        Ok(store)
    }

    fn remember_newest(&mut self) {
        let newest: Vec<Number> =
            self.segments.values().rev().flat_map(|segment| segment.live().rev()).take(REMEMBERED).collect();
        for number in newest.into_iter().rev() {
            if let Some(Ok(dead_letter)) = self.get(number)
                && let Some(known) = Known::of(&dead_letter.content)
            {
                self.remember(known, number);
            }
        }
    }

    fn remember(&mut self, known: Known, number: Number) {
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        self.order.push_back(known.clone());
        self.recent.insert(known, number);
    }

    fn is_here(&self, known: &Known) -> bool {
        let number = self.recent.get(known);
        number.is_some_and(|number| self.segment_of(*number).is_some_and(|segment| segment.get(*number).is_some()))
    }

    /// Keeps dead letters for good, all of them or none. A dead letter that is here already is not kept twice; parked ones
    /// are distinguished by their sink, which knows what it has parked.
    pub fn append(&mut self, dead_letters: Vec<NewDeadLetter>, now: Timestamp) -> Result<(), Refused> {
        self.append_within(dead_letters, now, self.max_bytes)
    }

    pub(super) fn append_beyond_the_bound(
        &mut self,
        dead_letters: Vec<NewDeadLetter>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.append_within(dead_letters, now, u64::MAX)
    }

    fn append_within(&mut self, dead_letters: Vec<NewDeadLetter>, now: Timestamp, bound: u64) -> Result<(), Refused> {
        let mut seen = HashSet::new();
        let mut is_first = |known: &Known| !self.is_here(known) && seen.insert(known.clone());
        let fresh: Vec<(Option<Known>, NewDeadLetter)> = dead_letters
            .into_iter()
            .map(|dead_letter| (Known::of(&dead_letter), dead_letter))
            .filter(|(known, _)| known.as_ref().is_none_or(&mut is_first))
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let (mut records, mut starts, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let mut number = self.next.max((now.0 / 1000) as u64);
        for (known, dead_letter) in fresh {
            starts.push((number, records.len()));
            let parked = dead_letter.parked.clone().map(|destination| (dead_letter.component.clone(), destination));
            kept.push((known, parked, Number(number)));
            encode(&DeadLetter { number: Number(number), time: now, content: dead_letter }, &mut records);
            number += 1;
        }
        if self.bytes() + records.len() as u64 > bound || records.len() > MAX_APPEND {
            return Err(Refused::Full);
        }
        let segment = self.writable_segment(starts[0].0, number).map_err(Refused::from)?;
        match segment.append(&records, &starts) {
            Ok(()) => {}
            Err(AppendError::Write(error)) => return Err(Refused::from(error)),
            Err(AppendError::Sync(error)) => {
                // Neither the file nor the numbers are used again.
                (self.writable, self.next) = (false, number);
                return Err(Refused::from(error));
            }
        }
        self.next = number;
        for (known, parked, number) in kept {
            if let Some((component, destination)) = parked {
                self.parked.add(&component, &destination, number);
            }
            if let Some(known) = known {
                self.remember(known, number);
            }
        }
        Ok(())
    }

    /// The newest segment, or a new one if that is full or failed or does not reach as far as `until`.
    fn writable_segment(&mut self, from: u64, until: u64) -> io::Result<&mut Segment> {
        let fits = self.writable
            && self
                .segments
                .last_key_value()
                .is_some_and(|(first, segment)| segment.len < SEGMENT_BYTES && until - first <= u64::from(u32::MAX));
        if !fits {
            let segment = Segment::create(self.folder.as_deref(), from)?;
            self.sync_folder()?;
            self.segments.insert(from, segment);
            self.writable = true;
        }
        Ok(self.segments.last_entry().expect("one was just made").into_mut())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.folder.as_ref().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    }

    fn segment_of(&self, number: Number) -> Option<&Segment> {
        self.segments.range(..=number.0).next_back().map(|(_, segment)| segment)
    }

    pub(super) fn parked_numbers(&self) -> impl Iterator<Item = Number> + '_ {
        self.segments.values().flat_map(Segment::parked)
    }

    pub fn get(&self, number: Number) -> Option<io::Result<DeadLetter>> {
        self.segment_of(number)?.get(number)
    }

    /// Dead letters behind `after`, oldest first.
    pub fn list(&self, after: Option<Number>, limit: usize) -> io::Result<Vec<DeadLetter>> {
        let behind = after.map_or(0, |after| after.0 + 1);
        let numbers = self.segments.values().flat_map(Segment::live).filter(|number| number.0 >= behind);
        numbers.take(limit).filter_map(|number| self.get(number)).collect()
    }

    /// Marks dead letters as done; tells how many were not.
    pub(super) fn mark_done(&mut self, numbers: &[Number]) -> io::Result<u64> {
        let mut touched = Vec::new();
        let mut removed = 0;
        for number in numbers {
            let Some((first, segment)) = self.segments.range_mut(..=number.0).next_back() else { continue };
            if segment.mark_done(*number)? {
                self.parked.remove(*number);
                removed += 1;
            }
            // One that is marked already may not be synced.
            touched.push(*first);
        }
        touched.sort_unstable();
        touched.dedup();
        for first in &touched {
            self.segments[first].sync()?;
        }
        self.tidy(&touched)?;
        Ok(removed)
    }

    /// Gives back what is done: whole segments, and half-empty ones by rewriting them.
    fn tidy(&mut self, touched: &[u64]) -> io::Result<()> {
        let newest = self.segments.last_key_value().map(|(first, _)| *first);
        for first in touched {
            let Some(segment) = self.segments.get_mut(first) else { continue };
            if segment.live_count() == 0 && Some(*first) != newest {
                self.segments.remove(first).expect("it was just looked at").remove()?;
            } else if segment.done_bytes > segment.len / 2 && segment.done_bytes > HEADER as u64 {
                segment.compact()?;
            }
        }
        self.sync_folder()
    }

    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    pub fn summary(&self) -> Summary {
        let mut by_component = BTreeMap::new();
        self.segments.values().for_each(|segment| segment.add_dead(&mut by_component));
        Summary {
            dead_letters: self.segments.values().map(|segment| segment.live_count() as u64).sum(),
            parked: self.waiting().values().sum(),
            bytes: self.bytes(),
            max_bytes: self.max_bytes,
            damaged: self.segments.values().map(|segment| segment.damaged).sum(),
            by_component,
        }
    }
}
