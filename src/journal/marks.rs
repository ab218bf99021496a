//! Numbers of a stage's state commits, by which recovery detects a missing one.
//!
//! A damaged record can hold changes of a state. Without them an earlier value of an entry would come back, or an entry
//! that was removed. So each commit carries a mark beside the entries that it changes: its number, which entries it and
//! the commit before it changed, and how many there are now. Where a number is missing, the entries that the missing
//! commits may have changed are let go, unless they are stated again behind it. The number of entries in the last mark
//! then tells how many were lost.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Position, STATE_SOURCE};
use crate::varint::{put_varint, take_varint};

/// The key of the mark among the positions of a stage.
pub const MARK: &[u8] = b"p";
/// What stands before the keys of entries.
pub const ENTRY: u8 = b'e';
/// A mark lists so many changed entries. Beyond it any entry may have changed.
const MAX_LISTED: usize = 1024;

/// Entries that a commit changed, by hashes of their keys; none where they are too many to list, or not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed(Option<Vec<u32>>);

impl Changed {
    /// Of the keys as they are stored.
    pub fn of<'k>(keys: impl ExactSizeIterator<Item = &'k [u8]>) -> Changed {
        Changed((keys.len() <= MAX_LISTED).then(|| keys.map(hash).collect()))
    }

    fn may_have(&self, key: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|hashes| hashes.contains(&hash(key)))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.as_ref().map_or(0, |hashes| hashes.len() as u64 + 1));
        self.0.iter().flatten().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
    }

    fn decode(from: &mut &[u8]) -> Option<Changed> {
        let Some(count) = take_varint(from)?.checked_sub(1) else { return Some(Changed(None)) };
        let (hashes, rest) = from.split_at_checked(usize::try_from(count).ok()?.checked_mul(4)?)?;
        *from = rest;
        let hashes = hashes.chunks_exact(4).map(|hash| u32::from_le_bytes(hash.try_into().expect("four bytes")));
        Some(Changed(Some(hashes.collect())))
    }
}

fn hash(key: &[u8]) -> u32 {
    crc32c::crc32c(key)
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Events before this were taken.
    pub taken: u64,
    /// The commits of a state are numbered without a hole. 0: an early version wrote it, and nothing else is known.
    pub number: u64,
    /// Entries there are, and those of them that are not spare.
    pub entries: u64,
    pub not_spare: u64,
    /// Entries that were stated before do not count.
    pub begins: bool,
    /// The newest commits are missing, as opening found, and no stage has gone on from there yet.
    pub is_cut: bool,
    pub changed: Changed,
    /// The same of the commit before.
    pub changed_before: Changed,
}

impl Mark {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        let flags = u64::from(self.begins) | u64::from(self.is_cut) << 1;
        for number in [self.taken, self.number, self.entries, self.not_spare, flags] {
            put_varint(&mut out, number);
        }
        self.changed.encode(&mut out);
        self.changed_before.encode(&mut out);
        out.into()
    }

    pub fn decode(mut from: &[u8]) -> Option<Mark> {
        let from = &mut from;
        let taken = take_varint(from)?;
        if from.is_empty() {
            return Some(Mark { taken, ..Mark::default() });
        }
        let [number, entries, not_spare, flags] =
            [take_varint(from)?, take_varint(from)?, take_varint(from)?, take_varint(from)?];
        let (begins, is_cut) = (flags & 1 != 0, flags & 2 != 0);
        let (changed, changed_before) = (Changed::decode(from)?, Changed::decode(from)?);
        Some(Mark { taken, number, entries, not_spare, begins, is_cut, changed, changed_before })
    }

    /// What the cursor of the stage keeps of it: number and entries.
    pub fn as_totals(&self) -> Vec<u8> {
        let mut out = Vec::new();
        [self.number, self.entries, self.not_spare].into_iter().for_each(|number| put_varint(&mut out, number));
        out
    }
}

/// The numbers of the last commits, by the source under which a stage's state stands.
#[derive(Default)]
pub struct Numbers(HashMap<Arc<str>, u64>);

/// Which of the entries stated so far may not be what they were last.
#[derive(Debug, PartialEq, Eq)]
pub struct Uncertain(Changed);

impl Uncertain {
    pub fn is_about(&self, key: &[u8]) -> bool {
        key.first() == Some(&ENTRY) && self.0.may_have(key)
    }
}

impl Numbers {
    /// Takes what a record states next, before its entries count.
    pub fn follow(&mut self, position: &Position) -> Option<Uncertain> {
        if &position.key[..] != MARK || !position.source.starts_with(STATE_SOURCE) {
            return None;
        }
        let mark = match Mark::decode(&position.value) {
            Some(mark) if mark.number > 0 => mark,
            _ => {
                self.0.remove(&position.source);
                return None;
            }
        };
        let last = self.0.insert(position.source.clone(), mark.number);
        if mark.begins || mark.is_cut {
            return Some(Uncertain(Changed(None)));
        }
        let last = last?;
        match mark.number.checked_sub(last) {
            // The same one stated again, or the next.
            Some(0 | 1) => None,
            Some(2) => Some(Uncertain(mark.changed_before)),
            _ => Some(Uncertain(Changed(None))),
        }
    }

    /// What is uncertain where the cursor of a stage knows of a later commit than the journal, and the mark that takes
    /// the place of the missing ones.
    pub fn compare(&mut self, source: &Arc<str>, totals: &[u8], mark: Option<&Bytes>) -> Option<(Uncertain, Mark)> {
        let from = &mut &totals[..];
        let (known, entries, not_spare) = (take_varint(from)?, take_varint(from)?, take_varint(from)?);
        if known <= self.0.get(source).copied().unwrap_or(0) {
            return None;
        }
        let taken = mark.and_then(|mark| Mark::decode(mark)).map_or(0, |mark| mark.taken);
        let mark = Mark { taken, number: known, entries, not_spare, is_cut: true, ..Mark::default() };
        Some((Uncertain(Changed(None)), mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(mark: &Mark) -> Position {
        Position { source: "\0state s:in".into(), key: MARK.into(), value: mark.encode() }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let keys: Vec<Vec<u8>> = (0..=MAX_LISTED).map(|n| n.to_string().into_bytes()).collect();
        let changed = |n: usize| Changed::of(keys[..n].iter().map(|key| &key[..]));
        for (n, before) in [(0, 3), (MAX_LISTED, 0), (MAX_LISTED + 1, 1)] {
            let (changed, changed_before) = (changed(n), changed(before));
            let (begins, is_cut) = (before == 0, n == 0);
            let mark =
                Mark { taken: 7, number: 300, entries: 5, not_spare: 4, begins, is_cut, changed, changed_before };
            assert_eq!(Mark::decode(&mark.encode()), Some(mark.clone()));
            let whole = mark.encode();
            for len in 2..whole.len() {
                assert_ne!(Mark::decode(&whole[..len]), Some(mark.clone()));
            }
        }
        assert_eq!(Mark::decode(&[9]), Some(Mark { taken: 9, ..Mark::default() }), "an early version wrote it");
    }

    #[test]
    fn a_missing_number_casts_doubt_on_what_its_commit_may_have_changed() {
        let mut numbers = Numbers::default();
        let mut follow = |number| {
            let changed_before = Changed::of([&b"ea"[..]].into_iter());
            numbers.follow(&position(&Mark { number, changed_before, ..Mark::default() }))
        };
        let uncertain = |found: Option<Uncertain>| {
            found.map(|uncertain| [&b"ea"[..], b"eb", b"p"].map(|key| uncertain.is_about(key)))
        };
        assert_eq!([5, 5, 6].map(|number| uncertain(follow(number))), [None, None, None]);
        assert_eq!(uncertain(follow(8)), Some([true, false, false]));
        assert_eq!(
            uncertain(follow(11)),
            Some([true, true, false]),
            "of two missing ones nobody says what they changed"
        );
        assert_eq!(uncertain(follow(0)), None);
        assert_eq!(uncertain(follow(1)), None, "a state that begins anew");
    }

    #[test]
    fn a_cursor_that_knows_a_later_commit_casts_doubt_on_everything() {
        let mut numbers = Numbers::default();
        let newest = position(&Mark { number: 5, entries: 3, ..Mark::default() });
        assert_eq!(numbers.follow(&newest), None);
        let known = |number| Mark { number, entries: number, ..Mark::default() }.as_totals();
        let mut compare = |number| numbers.compare(&newest.source, &known(number), Some(&newest.value));
        assert_eq!((compare(4), compare(5)), (None, None));
        let (uncertain, mark) = compare(6).expect("one is missing");
        assert!(uncertain.is_about(b"ea"));
        assert_eq!((mark.number, mark.entries, mark.is_cut), (6, 6, true));
        let next = Mark { number: 7, begins: true, ..Mark::default() };
        assert!(
            numbers.follow(&position(&next)).is_some_and(|uncertain| uncertain.is_about(b"ea")),
            "so it is at later starts"
        );
    }
}
