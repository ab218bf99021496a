//! Position of a partition: the one in the journal, and which counts if the group's differs.

use std::collections::HashMap;

use bytes::Bytes;

use crate::ranges::{Claim, RangeTracker};

const VERSION: u8 = 1;

/// What one slot of a partition stated last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// How often the group was set back.
    pub era: u32,
    /// What the group had committed by then, if anything.
    pub committed: Option<u64>,
    pub statement: Claim,
}

/// The key of a slot; a cluster's topics are not those of another.
pub fn key(cluster: &str, topic: &str, partition: i32, slot: u8) -> Bytes {
    let mut key = vec![slot];
    key.extend_from_slice(&partition.to_le_bytes());
    key.extend_from_slice(&(cluster.len() as u32).to_le_bytes());
    key.extend_from_slice(cluster.as_bytes());
    key.extend_from_slice(topic.as_bytes());
    key.into()
}

/// Topic and partition of a key of this cluster.
fn read_key(key: &[u8], cluster: &str) -> Option<(String, i32)> {
    let (of, topic, partition) = split_key(key)?;
    (of == cluster.as_bytes()).then(|| (topic.to_owned(), partition))
}

fn split_key(key: &[u8]) -> Option<(&[u8], &str, i32)> {
    let (_, rest) = key.split_first()?;
    let (partition, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (cluster, topic) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((cluster, std::str::from_utf8(topic).ok()?, i32::from_le_bytes(*partition)))
}

/// A partition, as people call it.
pub fn display_name(topic: &str, partition: i32) -> String {
    format!("kafka topic `{topic}` partition {partition}")
}

impl Stated {
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.era.to_le_bytes());
        // Nobody commits the greatest of all offsets.
        out.extend_from_slice(&self.committed.unwrap_or(u64::MAX).to_le_bytes());
        out.extend_from_slice(&self.statement.done.to_le_bytes());
        for span in &self.statement.spans {
            out.extend_from_slice(&span.start.to_le_bytes());
            out.extend_from_slice(&span.end.to_le_bytes());
        }
        out.into()
    }

    pub fn decode(value: &[u8]) -> Option<Stated> {
        let (version, rest) = value.split_first()?;
        let (era, rest) = rest.split_first_chunk()?;
        let (numbers, []) = rest.as_chunks::<8>() else { return None };
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let (committed, done) = (numbers.next()?, numbers.next()?);
        let mut spans = Vec::new();
        while let Some(start) = numbers.next() {
            spans.push(start..numbers.next()?);
        }
        let committed = (committed != u64::MAX).then_some(committed);
        let stated = Stated { era: u32::from_le_bytes(*era), committed, statement: Claim { done, spans } };
        (*version == VERSION).then_some(stated)
    }
}

/// A partition as it was left.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    era: u32,
    committed: Option<u64>,
    statements: Vec<Claim>,
}

/// Everything that this source has stated about a cluster.
pub fn remembered(positions: Vec<(Bytes, Bytes)>, cluster: &str) -> HashMap<(String, i32), Remembered> {
    let mut all: HashMap<(String, i32), Remembered> = HashMap::new();
    for (key, value) in positions {
        let (Some(place), Some(stated)) = (read_key(&key, cluster), Stated::decode(&value)) else { continue };
        let known = all.entry(place).or_default();
        if stated.era < known.era {
            continue;
        }
        if stated.era > known.era {
            *known = Remembered { era: stated.era, ..Remembered::default() };
        }
        known.committed = known.committed.max(stated.committed);
        known.statements.push(stated.statement);
    }
    all
}

/// Where to go on.
#[derive(Clone, Debug)]
pub struct Place {
    pub era: u32,
    pub ranges: RangeTracker,
}

impl Place {
    pub fn starting_at(era: u32, offset: u64) -> Place {
        Place { era, ranges: RangeTracker::starting_at(offset) }
    }
}

/// Where to go on in a partition, from what the group has committed and what the journal remembers; nowhere if neither
/// knows anything.
///
/// A group whose commit is lower than one we saw was set back on purpose, to read messages again.
pub fn place(committed: Option<u64>, remembered: Option<&Remembered>) -> Option<Place> {
    match (committed, remembered) {
        (None, None) => None,
        (Some(offset), None) => Some(Place::starting_at(0, offset)),
        (Some(offset), Some(known)) if known.committed.is_some_and(|seen| offset < seen) => {
            Some(Place::starting_at(known.era + 1, offset))
        }
        (committed, Some(known)) => {
            let of_group = committed.map(|offset| Claim { done: offset, spans: Vec::new() });
            let mut ranges = RangeTracker::resume(known.statements.iter().chain(of_group.as_ref()));
            if let Some(offset) = committed
                && offset > RangeTracker::resume(&known.statements).furthest()
            {
                // Others have read on: nothing before is in this journal alone.
                ranges = RangeTracker::starting_at(offset);
            }
            Some(Place { era: known.era, ranges })
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a position is a list of ranges")]
mod tests {
    use super::*;

    fn stated(era: u32, committed: u64, done: u64, spans: &[(u64, u64)]) -> Stated {
        let spans = spans.iter().map(|(start, end)| *start..*end).collect();
        Stated { era, committed: Some(committed), statement: Claim { done, spans } }
    }

    fn resumed(slots: &[Stated]) -> Remembered {
        let slots = slots.iter().zip(0..).map(|(stated, slot)| (key("c", "logs", 3, slot), stated.encode()));
        remembered(slots.collect(), "c").remove(&("logs".to_owned(), 3)).expect("it is remembered")
    }

    #[test]
    fn a_position_survives_its_bytes() {
        let mut stated = stated(2, 5, 10, &[(20, 30), (10, 15)]);
        assert_eq!(Stated::decode(&stated.encode()), Some(stated.clone()));
        stated.committed = None;
        assert_eq!(Stated::decode(&stated.encode()), Some(stated));
        assert_eq!(Stated::decode(b"\x02garbage"), None);
        assert_eq!(read_key(&key("c", "logs", 3, 7), "c"), Some(("logs".to_owned(), 3)));
        assert_eq!(read_key(&key("c", "logs", 3, 7), "another"), None);
    }

    #[test]
    fn the_journal_counts_where_it_is_ahead_of_the_group() {
        let known = resumed(&[stated(0, 5, 10, &[(20, 30)]), stated(0, 5, 12, &[(12, 15)])]);
        let place = place(Some(8), Some(&known)).expect("a place");
        assert_eq!((place.ranges.done(), place.ranges.limit(), place.era), (15, Some(20), 0));
    }

    #[test]
    fn the_group_counts_where_others_have_read_on() {
        let known = resumed(&[stated(0, 5, 10, &[(20, 30)])]);
        let at = |committed| place(Some(committed), Some(&known)).expect("a place").ranges.cursor();
        assert_eq!((at(25), at(40)), (30, 40));
    }

    #[test]
    fn a_group_that_was_set_back_reads_again_and_stays_set_back() {
        let known = resumed(&[stated(0, 100, 200, &[])]);
        let set_back = place(Some(7), Some(&known)).expect("a place");
        assert_eq!((set_back.ranges.cursor(), set_back.ranges.limit(), set_back.era), (7, None, 1));
        let known = resumed(&[stated(0, 100, 200, &[]), stated(1, 7, 9, &[(9, 12)])]);
        assert_eq!(place(Some(8), Some(&known)).expect("a place").ranges.cursor(), 12);
    }

    #[test]
    fn offsets_that_the_group_has_forgotten_are_those_of_the_journal() {
        let known = resumed(&[stated(0, 100, 200, &[])]);
        assert_eq!(place(None, Some(&known)).expect("a place").ranges.cursor(), 200);
        assert!(place(None, None).is_none());
    }
}
