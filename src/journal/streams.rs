//! Streams: names, numbers and the last seq of each.
//!
//! A cursor reads streams by number. A name that a plan writes under gets a new number (the next *generation* of the
//! name) whenever some cursor must not see what is written from now on, or must not see what was written before: then
//! each cursor still finds exactly the events it is owed, in order, whatever plans come and go. The number of a name
//! that nobody waits for and nobody writes to is free for another name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::format::{MAX_STREAMS, StreamEntry};
use super::state::State;
use super::{Journal, StreamId};

/// How many generations of one name there can be. A name begins anew once all of its streams are forgotten.
const MAX_GENERATIONS: u64 = 1 << 20;
/// What lies between the hashes of two generations, an odd number; and the number that undoes a multiplication by it.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const STEP_INVERSE: u64 = inverse(STEP);

const fn inverse(odd: u64) -> u64 {
    let (mut inverse, mut round) = (odd, 0);
    while round < 6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
}

/// How far each stream has come, by the number of its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads(Vec<Head>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub name: u64,
    pub events: u64,
    pub bytes: u64,
    /// The `seq` behind its last event.
    pub end_seq: u64,
    /// Records of this number before this `seq` belong to a name it had earlier.
    pub since: u64,
}

/// There is no place for one more stream: cursors wait for events of every one that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyStreams;

impl std::fmt::Display for TooManyStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the journal has {MAX_STREAMS} streams, and sinks still wait for events of each of them")
    }
}

pub fn name_hash(name: &str) -> u64 {
    u64::from_le_bytes(blake3::hash(name.as_bytes()).as_bytes()[..8].try_into().expect("eight bytes"))
}

/// What a generation of a name, counted from 0, is known by on disk.
fn generation_hash(name: &str, generation: u64) -> u64 {
    name_hash(name).wrapping_add(generation.wrapping_mul(STEP))
}

/// Which generation of a name a hash stands for, if it is one of its.
fn generation_of(name: u64, hash: u64) -> Option<u64> {
    let generation = hash.wrapping_sub(name).wrapping_mul(STEP_INVERSE);
    (generation < MAX_GENERATIONS).then_some(generation)
}

impl Heads {
    pub fn get(&self, stream: StreamId) -> Option<&Head> {
        self.0.get(stream.0 as usize)
    }

    pub fn get_mut(&mut self, stream: StreamId) -> Option<&mut Head> {
        self.0.get_mut(stream.0 as usize)
    }

    pub fn id_of(&self, name: u64) -> Option<StreamId> {
        self.0.iter().position(|head| head.name == name).map(|id| StreamId(id as u16))
    }

    pub fn named(&self, name: u64) -> Option<&Head> {
        self.0.iter().find(|head| head.name == name)
    }

    pub fn ids(&self) -> impl Iterator<Item = StreamId> + use<> {
        (0..self.0.len() as u16).map(StreamId)
    }

    /// The stream with this name, made if there is none yet and there is a place for it.
    pub fn enter(&mut self, name: u64) -> Option<StreamId> {
        if let Some(known) = self.id_of(name) {
            return Some(known);
        }
        if let Some(unused) = self.0.iter().position(|head| head.name == 0) {
            self.0[unused].name = name;
            return Some(StreamId(unused as u16));
        }
        if self.0.len() == MAX_STREAMS {
            return None;
        }
        self.0.push(Head { name, ..Head::default() });
        Some(StreamId(self.0.len() as u16 - 1))
    }

    /// Gives a number to another name, whose events begin at `since`.
    fn rename(&mut self, stream: StreamId, name: u64, since: u64) {
        self.0[stream.0 as usize] = Head { name, since, ..Head::default() };
    }

    /// Raises what is known of a stream found on disk at `since`. Streams between that left no trace get a name nobody
    /// has. A number found under another name belongs to that name from there on.
    pub fn raise(&mut self, entry: &StreamEntry, since: u64, end_seq: u64) {
        while self.0.len() <= entry.id.0 as usize && self.0.len() < MAX_STREAMS {
            self.0.push(Head::default());
        }
        if let Some(head) = self.0.get_mut(entry.id.0 as usize) {
            if head.name != entry.name {
                let since = if head.name == 0 { 0 } else { since };
                *head = Head { name: entry.name, since, ..Head::default() };
            }
            head.events = head.events.max(entry.events);
            head.bytes = head.bytes.max(entry.bytes);
            head.end_seq = head.end_seq.max(end_seq);
        }
    }

    /// The same under the names of `now`: a number that had another name then, or none, had none of the events.
    pub fn by_the_names_of(mut self, now: &Heads) -> Heads {
        self.0.resize(now.0.len(), Head::default());
        for (head, now) in self.0.iter_mut().zip(&now.0) {
            if head.name != now.name {
                *head = Head { name: now.name, since: now.since, ..Head::default() };
            }
        }
        self
    }

    pub fn table(&self) -> Vec<StreamEntry> {
        let entry = |(id, head): (usize, &Head)| StreamEntry {
            id: StreamId(id as u16),
            name: head.name,
            events: head.events,
            bytes: head.bytes,
        };
        self.0.iter().enumerate().map(entry).collect()
    }
}

/// Which streams somebody wants, by number: the `seq` from which on, or [`NEVER`].
#[derive(Clone, Default)]
pub struct Wanted(Vec<u64>);

const NEVER: u64 = u64::MAX;

impl Wanted {
    pub fn new(streams: impl IntoIterator<Item = StreamId>, heads: &Heads) -> Wanted {
        let mut wanted = Vec::new();
        for stream in streams {
            let at = stream.0 as usize;
            wanted.resize(wanted.len().max(at + 1), NEVER);
            wanted[at] = heads.get(stream).map_or(0, |head| head.since);
        }
        Wanted(wanted)
    }

    pub fn has(&self, stream: StreamId) -> bool {
        self.0.get(stream.0 as usize).is_some_and(|since| *since != NEVER)
    }

    pub fn forget(&mut self, stream: StreamId) {
        if let Some(since) = self.0.get_mut(stream.0 as usize) {
            *since = NEVER;
        }
    }

    /// Whether a record of this number that begins at `first_seq` is wanted.
    pub fn has_at(&self, stream: StreamId, first_seq: u64) -> bool {
        self.0.get(stream.0 as usize).is_some_and(|since| *since <= first_seq)
    }
}

impl State {
    /// The generations of a name that there are, in order, and the streams they are.
    fn generations(&self, name: &str) -> Vec<(u64, StreamId)> {
        let name = name_hash(name);
        let found = |stream: StreamId| Some((generation_of(name, self.heads.get(stream)?.name)?, stream));
        let mut found: Vec<_> = self.heads.ids().filter_map(found).collect();
        found.sort_unstable();
        found
    }

    /// Whether this cursor reads, or once read and has not passed, the stream.
    fn reads(&self, cursor: &str, stream: StreamId) -> bool {
        let Some(cursor) = self.cursors.get(cursor) else { return false };
        let name = self.heads.get(stream).map_or(0, |head| head.name);
        cursor.passed.contains_key(&stream) || cursor.stored.iter().any(|(stored, _)| *stored == name)
    }

    /// Takes a number for a name; if there is none left, that of the stream that has been without use the longest.
    fn enter(&mut self, name: u64, in_use: &BTreeSet<StreamId>) -> Result<StreamId, TooManyStreams> {
        let stream = match self.heads.enter(name) {
            Some(stream) => stream,
            None => {
                let is_free = |stream: &StreamId| {
                    let head = self.heads.get(*stream);
                    let all_synced = head.map(|head| head.events) == self.synced.get(*stream).map(|head| head.events);
                    all_synced && !in_use.contains(stream) && !self.is_awaited(*stream)
                };
                let free = self.heads.ids().filter(is_free);
                let oldest = free.min_by_key(|stream| self.heads.get(*stream).map_or(0, |head| head.end_seq));
                let stream = oldest.ok_or(TooManyStreams)?;
                // All of the old name is synced, and whatever comes next has a number behind that.
                let since = self.synced_seq;
                let old = self.heads.get(stream).map_or(0, |head| head.name);
                self.heads.rename(stream, name, since);
                self.synced.rename(stream, name, since);
                self.cursors.values_mut().for_each(|cursor| cursor.forget(stream, old));
                return Ok(stream);
            }
        };
        let same = self.synced.enter(name);
        debug_assert_eq!(same, Some(stream), "both tables know the same streams");
        Ok(stream)
    }

    /// Whether some cursor waits for events of this stream.
    fn is_awaited(&self, stream: StreamId) -> bool {
        let Some(head) = self.heads.get(stream) else { return false };
        self.cursors.values().any(|cursor| {
            let stored = cursor.stored.iter().find(|(name, _)| *name == head.name).map(|(_, passed)| passed);
            let passed = cursor.passed.get(&stream).or(stored);
            passed.is_some_and(|passed| passed.events < head.events)
        })
    }

    /// Chooses the stream that each name of a plan is written to. `readers` are the cursors of the plan and the names
    /// that each reads; `in_use` are the streams that are still written to.
    fn assign(
        &mut self,
        readers: &BTreeMap<Arc<str>, Vec<String>>,
        in_use: &BTreeSet<StreamId>,
    ) -> Result<BTreeMap<String, StreamId>, TooManyStreams> {
        let names: BTreeSet<&String> = readers.values().flatten().collect();
        let mut chosen: BTreeMap<String, StreamId> = BTreeMap::new();
        let mut taken = in_use.clone();
        for name in names {
            let current = self.generations(name).last().copied();
            let stream = match current {
                Some((_, stream)) if !self.is_misread(readers, name, stream, in_use) => stream,
                Some((generation, _)) => self.enter(generation_hash(name, generation + 1), &taken)?,
                None => self.enter(name_hash(name), &taken)?,
            };
            taken.insert(stream);
            chosen.insert(name.clone(), stream);
        }
        Ok(chosen)
    }

    /// Whether somebody would miss events, or see some that are not meant for it, if the name stayed this stream.
    fn is_misread(
        &mut self,
        readers: &BTreeMap<Arc<str>, Vec<String>>,
        name: &String,
        stream: StreamId,
        in_use: &BTreeSet<StreamId>,
    ) -> bool {
        let has_events = self.heads.get(stream).is_some_and(|head| head.events > 0) || in_use.contains(&stream);
        let cursors: Vec<Arc<str>> = self.cursors.keys().cloned().collect();
        cursors.iter().any(|cursor| {
            let wants = readers.get(cursor).is_some_and(|names| names.contains(name));
            let reads = self.reads(cursor, stream);
            if reads && !wants && !in_use.contains(&stream) && !self.waits_for(cursor, stream) {
                // It has passed all there will ever be for it.
                let name = self.heads.get(stream).map_or(0, |head| head.name);
                if let Some(cursor) = self.cursors.get_mut(cursor) {
                    cursor.forget(stream, name);
                }
                return false;
            }
            has_events && reads != wants
        })
    }

    fn waits_for(&self, cursor: &str, stream: StreamId) -> bool {
        let (Some(cursor), Some(head)) = (self.cursors.get(cursor), self.heads.get(stream)) else { return false };
        let stored = cursor.stored.iter().find(|(name, _)| *name == head.name).map(|(_, passed)| passed);
        cursor.passed.get(&stream).or(stored).is_some_and(|passed| passed.events < head.events)
    }
}

impl Journal {
    /// Chooses the stream of each name that a plan's cursors read, so that no cursor misses an event it is owed or sees
    /// one it is not. `in_use` are the streams that are still written to.
    pub fn assign_streams(
        &self,
        readers: &BTreeMap<Arc<str>, Vec<String>>,
        in_use: &BTreeSet<StreamId>,
    ) -> Result<BTreeMap<String, StreamId>, TooManyStreams> {
        self.shared.state().assign(readers, in_use)
    }

    /// Every stream that was written under this name and is still known, the oldest first: for those who look back.
    pub fn streams_named(&self, name: &str) -> Vec<StreamId> {
        self.shared.state().generations(name).into_iter().map(|(_, stream)| stream).collect()
    }

    /// The cursors that read this stream, open or not.
    pub fn readers_of(&self, stream: StreamId) -> Vec<Arc<str>> {
        let state = self.shared.state();
        state.cursors.keys().filter(|cursor| state.reads(cursor, stream)).cloned().collect()
    }

    /// The stream with this name, whatever cursors read. None where there is no place for one more.
    pub fn stream(&self, name: &str) -> Option<StreamId> {
        self.shared.state().enter(name_hash(name), &BTreeSet::new()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_known_by_its_hash() {
        for generation in [0, 1, 2, 77, MAX_GENERATIONS - 1] {
            let hash = generation_hash("web", generation);
            assert_eq!(generation_of(name_hash("web"), hash), Some(generation));
            assert_eq!(generation_of(name_hash("safe"), hash), None);
        }
        assert_eq!(generation_of(name_hash("web"), generation_hash("web", MAX_GENERATIONS)), None);
    }
}
