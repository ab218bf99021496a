//! How far a partition was read: what stands in the journal about it, and what counts if the group says otherwise.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use crate::component::ranges::{Claim, RangeTracker};
use crate::journal::{Hole, Position, Told};

const VERSION: u8 = 1;

/// The slot of what is said without messages, where the journal has lost some that are read again.
const REOPENED: u8 = u8::MAX;

/// What one slot of a partition stated last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// How often somebody has set the group back.
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

/// What a position says to the journal. After a group was set back, the partition is another origin.
pub fn told(key: &[u8], value: &[u8]) -> Option<Told> {
    let (_, topic, partition) = split_key(key)?;
    let Stated { era, statement, .. } = Stated::decode(value)?;
    Some(statement.told(origin(key, era), key[0] != REOPENED, words(topic, partition)))
}

/// A partition, as people call it.
pub fn words(topic: &str, partition: i32) -> String {
    format!("kafka topic `{topic}` partition {partition}")
}

fn origin(key: &[u8], era: u32) -> Bytes {
    let mut origin = key[1..].to_vec();
    origin.extend_from_slice(&era.to_le_bytes());
    origin.into()
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
    /// What was lost lies before this, whatever the group has committed.
    reopened_to: Option<u64>,
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
        if key.first() == Some(&REOPENED) {
            known.reopened_to = Some(stated.statement.spans.last().map_or(stated.statement.done, |last| last.end));
        }
        known.statements.push(stated.statement);
    }
    all
}

/// Where to go on.
#[derive(Clone, Debug)]
pub struct Place {
    pub era: u32,
    pub ledger: RangeTracker,
    /// Messages before this are read again: until that is done the group's offset stays where it is.
    pub reopened_to: Option<u64>,
}

impl Place {
    pub fn starting_at(era: u32, offset: u64) -> Place {
        Place { era, ledger: RangeTracker::starting_at(offset), reopened_to: None }
    }

    /// Reads what a damaged journal has lost again, as far as the brokers have it. Tells what to state, before
    /// anything else is handed in, so that no position claims it any more, and how many messages are gone.
    pub fn reopen(
        &mut self,
        hole: &Hole,
        low: u64,
        key: &Bytes,
        committed: Option<u64>,
        positions: &[(Bytes, Bytes)],
    ) -> (Vec<Position>, u64) {
        let is_there = |span: &Range<u64>| span.start.max(low).min(span.end)..span.end;
        // What nobody claims is hidden by what the group has committed.
        let all = hole.all();
        let there: Vec<Range<u64>> = all.iter().map(is_there).filter(|span| !span.is_empty()).collect();
        let length = |spans: &[Range<u64>]| spans.iter().map(|span| span.end - span.start).sum::<u64>();
        let gone = length(&all) - length(&there);
        let mut marks = vec![hole.taken_over()];
        if there.is_empty() {
            return (marks, gone);
        }
        self.reopened_to = self.reopened_to.max(Some(self.ledger.furthest()));
        self.ledger.reopen(&there);
        let state = |slot: u8, value: Bytes| {
            let key = [&[slot], &key[1..]].concat();
            Position { source: hole.source.clone(), key: key.into(), value }
        };
        let slots = positions.iter().filter(|(known, _)| known[1..] == key[1..]).map(|(known, _)| known[0]);
        marks.extend(slots.map(|slot| state(slot, Bytes::new())));
        let stated = Stated { era: self.era, committed, statement: self.ledger.statement() };
        marks.push(state(REOPENED, stated.encode()));
        (marks, gone)
    }

    /// Whether a hole is one of this partition.
    pub fn has(&self, hole: &Hole, key: &Bytes) -> bool {
        hole.origin == origin(key, self.era)
    }
}

/// Where to go on in a partition, from what the group has committed and what the journal remembers; nowhere if neither
/// knows anything.
///
/// A group that has committed less than we saw it commit was set back by somebody who wants the messages again.
pub fn place(committed: Option<u64>, remembered: Option<&Remembered>) -> Option<Place> {
    match (committed, remembered) {
        (None, None) => None,
        (Some(offset), None) => Some(Place::starting_at(0, offset)),
        (Some(offset), Some(known)) if known.committed.is_some_and(|seen| offset < seen) => {
            Some(Place::starting_at(known.era + 1, offset))
        }
        (committed, Some(known)) => {
            let of_group = committed.map(|offset| match known.reopened_to {
                // The group knows nothing of what was lost since.
                Some(to) => Claim { done: 0, spans: std::iter::once(to..offset.max(to)).collect() },
                None => Claim { done: offset, spans: Vec::new() },
            });
            let mut ledger = RangeTracker::resume(known.statements.iter().chain(of_group.as_ref()));
            if let (Some(offset), None) = (committed, known.reopened_to)
                && offset > RangeTracker::resume(&known.statements).furthest()
            {
                // Others have read on: nothing before is in this journal alone.
                ledger = RangeTracker::starting_at(offset);
            }
            Some(Place { era: known.era, ledger, reopened_to: known.reopened_to })
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
        assert_eq!((place.ledger.done(), place.ledger.limit(), place.era), (15, Some(20), 0));
    }

    #[test]
    fn the_group_counts_where_others_have_read_on() {
        let known = resumed(&[stated(0, 5, 10, &[(20, 30)])]);
        let at = |committed| place(Some(committed), Some(&known)).expect("a place").ledger.cursor();
        assert_eq!((at(25), at(40)), (30, 40));
    }

    #[test]
    fn a_group_that_was_set_back_reads_again_and_stays_set_back() {
        let known = resumed(&[stated(0, 100, 200, &[])]);
        let set_back = place(Some(7), Some(&known)).expect("a place");
        assert_eq!((set_back.ledger.cursor(), set_back.ledger.limit(), set_back.era), (7, None, 1));
        let known = resumed(&[stated(0, 100, 200, &[]), stated(1, 7, 9, &[(9, 12)])]);
        assert_eq!(place(Some(8), Some(&known)).expect("a place").ledger.cursor(), 12);
    }

    #[test]
    fn offsets_that_the_group_has_forgotten_are_those_of_the_journal() {
        let known = resumed(&[stated(0, 100, 200, &[])]);
        assert_eq!(place(None, Some(&known)).expect("a place").ledger.cursor(), 200);
        assert!(place(None, None).is_none());
    }

    #[test]
    fn lost_messages_are_read_again_whatever_the_group_has_committed() {
        let slots = [stated(0, 40, 30, &[(0, 5), (30, 40)]), stated(0, 40, 40, &[(0, 5), (40, 50)])];
        let key = |slot| key("c", "logs", 3, slot);
        let positions: Vec<_> = slots.iter().zip(0..).map(|(stated, slot)| (key(slot), stated.encode())).collect();
        let told = told(&positions[1].0, &positions[1].1).expect("it can be read");
        assert_eq!((told.base, told.own, told.words.as_str()), (5, Some(40..50), "kafka topic `logs` partition 3"));
        let hole = Hole {
            source: "kafka".into(),
            origin: told.origin,
            spans: vec![10..20, 30..35],
            open: Vec::new(),
            seqs: 0..15,
            events: 15,
            words: told.words,
        };
        let known = resumed(&slots);
        let mut found = place(Some(50), Some(&known)).expect("a place");
        assert!(found.has(&hole, &key(0)));
        // The brokers have nothing before 12 any more.
        let (marks, gone) = found.reopen(&hole, 12, &key(0), Some(50), &positions);
        assert_eq!((found.ledger.cursor(), found.ledger.limit(), found.reopened_to, gone), (12, Some(20), Some(50), 2));

        let mut table: HashMap<Bytes, Bytes> = positions.into_iter().collect();
        for mark in marks.into_iter().filter(|mark| mark.source == hole.source && &*mark.source == "kafka") {
            match mark.value.is_empty() {
                true => drop(table.remove(&mark.key)),
                false => drop(table.insert(mark.key, mark.value)),
            }
        }
        let known =
            remembered(table.clone().into_iter().collect(), "c").remove(&("logs".to_owned(), 3)).expect("known");
        for committed in [Some(50), None] {
            let again = place(committed, Some(&known)).expect("a place");
            assert_eq!((again.ledger.cursor(), again.ledger.limit(), again.reopened_to), (12, Some(20), Some(50)));
        }
        // Others have read on meanwhile, and part of it is read.
        let on = stated(0, 50, 12, &[(0, 5), (12, 20)]);
        table.insert(key(0), on.encode());
        let known = remembered(table.into_iter().collect(), "c").remove(&("logs".to_owned(), 3)).expect("known");
        let on = place(Some(70), Some(&known)).expect("a place");
        assert_eq!((on.ledger.cursor(), on.ledger.limit(), on.ledger.furthest()), (30, Some(35), 70));
    }

    #[test]
    fn what_the_brokers_have_not_is_given_up() {
        let slots = [stated(0, 40, 30, &[(30, 40)])];
        let known = resumed(&slots);
        let mut found = place(Some(40), Some(&known)).expect("a place");
        let (origin, spans) = (Bytes::new(), vec![10..20]);
        let hole = Hole {
            source: "kafka".into(),
            origin,
            spans,
            open: Vec::new(),
            seqs: 0..10,
            events: 10,
            words: String::new(),
        };
        let (marks, gone) = found.reopen(&hole, 25, &key("c", "logs", 3, 0), Some(40), &[]);
        assert_eq!((marks, gone, found.ledger.cursor()), (vec![hole.taken_over()], 10, 40));
    }
}
