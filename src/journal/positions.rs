//! The latest position of each source origin and the segment that records it, so that segment reuse can carry it
//! forward.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::Position;

/// Under this source the journal remembers which cursors it has.
pub const OWN_CURSORS: &str = "\0cursors";

/// The most origins a journal remembers, over all sources.
pub const MAX_POSITIONS: usize = 1_000_000;

/// Sources under which earlier versions stated what damage had taken, to read it again. Nobody does any more.
const IGNORED: [&str; 2] = ["\0said-in", "\0holes"];

#[derive(Default)]
pub struct Positions {
    sources: HashMap<Arc<str>, HashMap<Bytes, Stated>>,
    count: usize,
    /// Bytes that stating all of them again would take, at most.
    bytes: usize,
    /// How many are last stated in each segment.
    per_segment: BTreeMap<u64, usize>,
}

struct Stated {
    value: Bytes,
    /// Index of the segment that says so last.
    segment: u64,
}

/// What one takes beside its bytes.
const OVERHEAD: usize = 40;

impl Positions {
    pub fn state(&mut self, position: &Position, segment: u64) {
        if IGNORED.contains(&&*position.source) {
            return;
        }
        let weight = position.source.len() + position.key.len() + OVERHEAD;
        let origins = self.sources.entry(position.source.clone()).or_default();
        if position.value.is_empty() {
            if let Some(old) = origins.remove(&position.key) {
                self.bytes -= weight + old.value.len();
                self.count -= 1;
                leave(&mut self.per_segment, old.segment);
            }
            return;
        }
        self.bytes += position.value.len();
        *self.per_segment.entry(segment).or_default() += 1;
        match origins.get_mut(&position.key) {
            Some(old) => {
                self.bytes -= old.value.len();
                leave(&mut self.per_segment, old.segment);
                *old = Stated { value: position.value.clone(), segment };
            }
            None => {
                self.bytes += weight;
                self.count += 1;
                // Keys are often slices of a larger buffer, which would stay in memory as long as they do.
                let (key, value) = (Bytes::copy_from_slice(&position.key), position.value.clone());
                origins.insert(key, Stated { value, segment });
            }
        }
    }

    /// Lets go of what a source has stated, by key.
    pub fn forget(&mut self, source: &Arc<str>, is_gone: impl Fn(&[u8]) -> bool) {
        let gone: Vec<Bytes> = self.of(source).into_iter().map(|(key, _)| key).filter(|key| is_gone(key)).collect();
        for key in gone {
            self.state(&Position { source: source.clone(), key, value: Bytes::new() }, 0);
        }
    }

    pub fn of(&self, source: &str) -> Vec<(Bytes, Bytes)> {
        let Some(origins) = self.sources.get(source) else { return Vec::new() };
        origins.iter().map(|(key, stated)| (key.clone(), stated.value.clone())).collect()
    }

    /// Every position whose last statement is in a segment up to `last`.
    pub fn stated_up_to(&self, last: u64) -> Vec<Position> {
        let mut found = Vec::new();
        for (source, origins) in &self.sources {
            for (key, stated) in origins.iter().filter(|(_, stated)| stated.segment <= last) {
                let (source, key, value) = (source.clone(), key.clone(), stated.value.clone());
                found.push(Position { source, key, value });
            }
        }
        found
    }

    pub fn any_up_to(&self, last: u64) -> bool {
        self.per_segment.first_key_value().is_some_and(|(segment, _)| *segment <= last)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn leave(per_segment: &mut BTreeMap<u64, usize>, segment: u64) {
    if let Some(count) = per_segment.get_mut(&segment) {
        *count -= 1;
        if *count == 0 {
            per_segment.remove(&segment);
        }
    }
}
