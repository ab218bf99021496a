//! File positions as bytes in the journal, and the state restored from them at start.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::followed::Past;
use super::identity::{ByIdentity, Identity, Print};
use crate::ranges::{Claim, RangeTracker};

/// Bytes of a path that are remembered; a longer one is forgotten, and with it only the file's family.
const MOST_PATH_BYTES: usize = 4096;

const VERSION: u8 = 1;

/// The slot of contents that were cut away, of which a copy may turn up.
pub const PAST: u8 = u8::MAX - 1;

/// The slot of what is said without events. No job uses it, so nothing that a job has stated is taken back by it.
pub const BEGUN: u8 = u8::MAX;

/// In place of a file: since when the source looks, with the print of its patterns for a name.
pub const SOURCE: Identity = Identity { birth: 0, device: 0, inode: 0 };

/// What one slot of a file stated last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// How often the file was cut back to nothing.
    pub generation: u32,
    /// Ids derive from this file; it differs from the file itself for a copy that goes on where its original ended.
    pub origin: (Identity, u32),
    pub statement: Claim,
    pub head: Print,
    /// The print of the bytes before `place_at`.
    pub place: Print,
    pub place_at: u64,
    /// When it was first followed, in nanoseconds since 1970.
    pub since: i64,
    /// The name under which the file was included: rotated generations are found beside it.
    pub family: PathBuf,
}

pub fn key(identity: Identity, slot: u8) -> Bytes {
    let mut key = identity.to_bytes().to_vec();
    key.push(slot);
    Bytes::from(key)
}

/// The file of a key.
pub fn read_key(key: &[u8]) -> Option<Identity> {
    let (identity, slot) = key.split_first_chunk()?;
    (slot.len() == 1).then(|| Identity::from_bytes(identity))
}

impl Position {
    /// That the source looks at these patterns since then.
    pub fn looking(since: i64, patterns: &str) -> Position {
        Position {
            generation: 0,
            origin: (SOURCE, 0),
            statement: Claim::default(),
            head: Print::default(),
            place: Print::default(),
            place_at: 0,
            since,
            family: patterns.into(),
        }
    }

    pub fn encode(&self) -> Bytes {
        use std::os::unix::ffi::OsStrExt;

        let mut out = Vec::with_capacity(160);
        out.push(VERSION);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.origin.0.to_bytes());
        out.extend_from_slice(&self.origin.1.to_le_bytes());
        out.extend_from_slice(&self.head.to_bytes());
        out.extend_from_slice(&self.place.to_bytes());
        out.extend_from_slice(&self.place_at.to_le_bytes());
        out.extend_from_slice(&self.since.to_le_bytes());
        out.extend_from_slice(&self.statement.done.to_le_bytes());
        out.push(self.statement.spans.len() as u8);
        for span in &self.statement.spans {
            out.extend_from_slice(&span.start.to_le_bytes());
            out.extend_from_slice(&span.end.to_le_bytes());
        }
        let path = self.family.as_os_str().as_bytes();
        if path.len() <= MOST_PATH_BYTES {
            out.extend_from_slice(path);
        }
        Bytes::from(out)
    }

    pub fn decode(value: &[u8]) -> Option<Position> {
        use std::os::unix::ffi::OsStrExt;

        let mut reader = Reader(value);
        if reader.take::<1>()? != [VERSION] {
            return None;
        }
        let generation = reader.number32()?;
        let origin = (Identity::from_bytes(&reader.take()?), reader.number32()?);
        let (head, place) = (Print::from_bytes(&reader.take()?), Print::from_bytes(&reader.take()?));
        let place_at = reader.number()?;
        let since = reader.number()? as i64;
        let done = reader.number()?;
        let [count] = reader.take::<1>()?;
        let mut spans = Vec::with_capacity(count.into());
        for _ in 0..count {
            spans.push(reader.number()?..reader.number()?);
        }
        let family = Path::new(std::ffi::OsStr::from_bytes(reader.0)).to_path_buf();
        Some(Position { generation, origin, statement: Claim { done, spans }, head, place, place_at, since, family })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn number32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}

/// A file as it was left, from all its slots.
#[derive(Clone, Debug)]
pub struct Remembered {
    pub generation: u32,
    pub origin: (Identity, u32),
    pub ranges: RangeTracker,
    pub head: Print,
    /// The print of the bytes before `place_at`, the furthest place that was read.
    pub place: Print,
    pub place_at: u64,
    pub since: i64,
    pub family: PathBuf,
    /// Slots that hold something, to be forgotten with the file.
    pub slots: u8,
    pub past: Vec<Past>,
}

/// Everything that this source has stated, by file. Also says how many statements cannot be read.
pub fn remembered(positions: Vec<(Bytes, Bytes)>) -> (ByIdentity<Remembered>, usize) {
    let mut unreadable = 0;
    let mut files: HashMap<Identity, (Vec<Position>, u8, Option<Position>)> = HashMap::new();
    for (key, value) in positions {
        match (read_key(&key), Position::decode(&value)) {
            (Some(identity), Some(position)) => {
                let slot = key[Identity::LEN];
                let (all, slots, past) = files.entry(identity).or_default();
                if slot == PAST {
                    *past = Some(position);
                    continue;
                }
                all.push(position);
                if slot < PAST {
                    *slots = (*slots).max(slot + 1);
                }
            }
            _ => unreadable += 1,
        }
    }
    let merged = |(identity, (all, slots, past)): (Identity, (Vec<Position>, u8, Option<Position>))| {
        let mut file = merge(all, slots)?;
        file.past.extend(past.map(|past| merge(vec![past], 0).expect("one position is enough").as_past()));
        Some((identity, file))
    };
    (files.into_iter().filter_map(merged).collect(), unreadable)
}

fn merge(mut positions: Vec<Position>, slots: u8) -> Option<Remembered> {
    let newest = positions.iter().map(|p| p.generation).max().unwrap_or(0);
    positions.retain(|position| position.generation == newest);
    positions.sort_by_key(|position| position.place_at);
    let ranges = RangeTracker::resume(positions.iter().map(|position| &position.statement));
    let head = positions.iter().map(|position| position.head).max_by_key(|head| head.len).unwrap_or_default();
    let last = positions.pop()?;
    Some(Remembered {
        generation: newest,
        origin: last.origin,
        ranges,
        head,
        place: last.place,
        place_at: last.place_at,
        since: last.since,
        family: last.family,
        slots,
        past: Vec::new(),
    })
}

impl Remembered {
    pub fn as_past(&self) -> Past {
        let (head, place, place_at) = (self.head, self.place, self.place_at);
        Past { head, place, place_at, ranges: self.ranges.clone(), origin: self.origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(generation: u32, done: u64, spans: &[(u64, u64)]) -> Position {
        let spans: Vec<_> = spans.iter().map(|(start, end)| *start..*end).collect();
        Position {
            generation,
            origin: (Identity { birth: 1, device: 2, inode: 3 }, generation),
            place_at: spans.last().map_or(done, |span| span.end),
            statement: Claim { done, spans },
            head: Print::of(b"head"),
            place: Print::of(b"place"),
            since: -1,
            family: "/var/log/a.log".into(),
        }
    }

    #[test]
    fn a_position_survives_its_bytes() {
        let position = position(3, 10, &[(20, 30), (10, 15)]);
        assert_eq!(Position::decode(&position.encode()), Some(position));
        assert_eq!(Position::decode(b"\x02garbage"), None);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a position is a list of ranges")]
    fn slots_of_an_older_generation_do_not_count() {
        let identity = Identity { birth: 1, device: 2, inode: 3 };
        let slots = [position(1, 0, &[(0, 10)]), position(0, 500, &[(500, 600)]), position(1, 0, &[(20, 30)])];
        let stated = slots.iter().zip(0..).map(|(p, slot)| (key(identity, slot), p.encode()));
        let (files, unreadable) = remembered(stated.chain([(Bytes::new(), Bytes::new())]).collect());
        let file = &files[&identity];
        assert_eq!((file.generation, file.slots, unreadable), (1, 3, 1));
        assert_eq!((file.ranges.done(), file.ranges.limit(), file.place_at), (10, Some(20), 30));
    }
}
