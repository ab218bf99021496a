//! Position of a partition: the one in the journal, and which counts if the group's differs.

use std::collections::HashMap;

use bytes::Bytes;

use crate::ranges::{Claim, RangeTracker};

const VERSION: u8 = 2;
/// Before positions belonged to a group.
const VERSION_1: u8 = 1;
/// The slot that states what was committed, when nothing else is stated with it.
pub const COMMITTED: u8 = u8::MAX;

/// What one slot of a partition stated last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The group that read; nothing where that was not stated.
    pub group: Option<GroupId>,
    /// How often the topic was found to have been made anew.
    pub remade: u32,
    /// How often the group was set back.
    pub era: u32,
    /// What the group had committed by then, if anything.
    pub committed: Option<u64>,
    pub statement: Claim,
}

/// A group, as positions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupId([u8; 8]);

impl GroupId {
    pub fn of(name: &str) -> GroupId {
        let mut id = [0; 8];
        id.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
        GroupId(id)
    }
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
        let mut out = Vec::with_capacity(64);
        match self.group {
            Some(group) => {
                out.push(VERSION);
                out.extend_from_slice(&group.0);
                out.extend_from_slice(&self.remade.to_le_bytes());
            }
            None => out.push(VERSION_1),
        }
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
        let (version, mut rest) = value.split_first()?;
        let (mut group, mut remade) = (None, 0);
        match *version {
            VERSION_1 => {}
            VERSION => {
                let (id, behind) = rest.split_first_chunk()?;
                let (count, behind) = behind.split_first_chunk()?;
                (group, remade, rest) = (Some(GroupId(*id)), u32::from_le_bytes(*count), behind);
            }
            _ => return None,
        }
        let (era, rest) = rest.split_first_chunk()?;
        let (numbers, []) = rest.as_chunks::<8>() else { return None };
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let (committed, done) = (numbers.next()?, numbers.next()?);
        let mut spans = Vec::new();
        while let Some(start) = numbers.next() {
            spans.push(start..numbers.next()?);
        }
        let committed = (committed != u64::MAX).then_some(committed);
        Some(Stated { group, remade, era: u32::from_le_bytes(*era), committed, statement: Claim { done, spans } })
    }
}

/// A partition as it was left.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    remade: u32,
    era: u32,
    committed: Option<u64>,
    statements: Vec<Claim>,
}

/// Everything that this source has stated about a cluster as a member of this group.
pub fn remembered(positions: Vec<(Bytes, Bytes)>, cluster: &str, group: GroupId) -> HashMap<(String, i32), Remembered> {
    let mut all: HashMap<(String, i32), Remembered> = HashMap::new();
    for (key, value) in positions {
        let (Some(place), Some(stated)) = (read_key(&key, cluster), Stated::decode(&value)) else { continue };
        if stated.group.is_some_and(|stated| stated != group) {
            continue;
        }
        let known = all.entry(place).or_default();
        let (time, known_time) = ((stated.remade, stated.era), (known.remade, known.era));
        if time < known_time {
            continue;
        }
        if time > known_time {
            *known = Remembered { remade: stated.remade, era: stated.era, ..Remembered::default() };
        }
        known.committed = known.committed.max(stated.committed);
        known.statements.push(stated.statement);
    }
    all
}

/// Where to go on.
#[derive(Clone, Debug)]
pub struct Place {
    pub remade: u32,
    pub era: u32,
    pub ranges: RangeTracker,
}

impl Place {
    pub fn starting_at(era: u32, offset: u64) -> Place {
        Place { remade: 0, era, ranges: RangeTracker::starting_at(offset) }
    }
}

impl Remembered {
    /// The offset behind all that was read.
    fn furthest(&self) -> u64 {
        RangeTracker::resume(&self.statements).furthest()
    }

    /// Whether this was of another topic of the name: the group, which had committed something, has committed nothing,
    /// and what was read ends behind what there is.
    pub fn is_of_another_topic(&self, committed: Option<u64>, high: u64) -> bool {
        committed.is_none() && self.committed.is_some() && self.furthest() > high
    }

    /// The beginning of a topic that was made anew.
    pub fn begin_anew(&self, beginning: Place) -> Place {
        Place { remade: self.remade + 1, ..beginning }
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
            Some(Place { remade: known.remade, ..Place::starting_at(known.era + 1, offset) })
        }
        (committed, Some(known)) => {
            let of_group = committed.map(|offset| Claim { done: offset, spans: Vec::new() });
            let mut ranges = RangeTracker::resume(known.statements.iter().chain(of_group.as_ref()));
            if let Some(offset) = committed
                && offset > known.furthest()
            {
                // Others have read on: nothing before is in this journal alone.
                ranges = RangeTracker::starting_at(offset);
            }
            Some(Place { remade: known.remade, era: known.era, ranges })
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a position is a list of ranges")]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId([1; 8]);

    fn stated(era: u32, committed: u64, done: u64, spans: &[(u64, u64)]) -> Stated {
        let spans = spans.iter().map(|(start, end)| *start..*end).collect();
        Stated { group: Some(GROUP), remade: 0, era, committed: Some(committed), statement: Claim { done, spans } }
    }

    fn resumed(slots: &[Stated]) -> Remembered {
        let slots = slots.iter().zip(0..).map(|(stated, slot)| (key("c", "logs", 3, slot), stated.encode()));
        remembered(slots.collect(), "c", GROUP).remove(&("logs".to_owned(), 3)).expect("it is remembered")
    }

    #[test]
    fn a_position_survives_its_bytes() {
        let mut stated = stated(2, 5, 10, &[(20, 30), (10, 15)]);
        assert_eq!(Stated::decode(&stated.encode()), Some(stated.clone()));
        stated.committed = None;
        assert_eq!(Stated::decode(&stated.encode()), Some(stated.clone()));
        stated.group = None;
        assert_eq!(Stated::decode(&stated.encode()), Some(stated), "as it was stated before groups were");
        assert_eq!(Stated::decode(b"\x02garbage"), None);
        assert_eq!(Stated::decode(b"\x03garbage"), None);
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
    fn a_position_is_that_of_its_group() {
        let slot = (key("c", "logs", 3, 0), stated(0, 100, 200, &[]).encode());
        assert!(remembered(vec![slot.clone()], "c", GroupId::of("another")).is_empty());
        assert_eq!(remembered(vec![slot], "c", GROUP).len(), 1);
    }

    #[test]
    fn a_topic_that_is_made_anew_is_read_from_its_beginning() {
        let known = resumed(&[stated(3, 100, 200, &[])]);
        assert!(known.is_of_another_topic(None, 150));
        assert!(!known.is_of_another_topic(None, 200) && !known.is_of_another_topic(Some(90), 150));
        let place = known.begin_anew(Place::starting_at(0, 0));
        assert_eq!((place.remade, place.era, place.ranges.cursor()), (1, 0, 0));
        let anew = Stated { remade: 1, ..stated(0, 5, 10, &[]) };
        let both = resumed(&[stated(3, 100, 200, &[]), anew]);
        assert_eq!(super::place(Some(5), Some(&both)).expect("a place").ranges.cursor(), 10);
    }

    #[test]
    fn offsets_that_the_group_has_forgotten_are_those_of_the_journal() {
        let known = resumed(&[stated(0, 100, 200, &[])]);
        assert_eq!(place(None, Some(&known)).expect("a place").ranges.cursor(), 200);
        assert!(place(None, None).is_none());
    }
}
