//! One partition: what was read, what is on its way into the journal, what may be committed.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::given::GivenIds;
use super::place::{GroupId, Place, Stated, display_name};
use crate::codec::{Frames, Ordinals};
use crate::component::Chunk;
use crate::component::source::CHUNK_BYTES;
use crate::event::Seed;
use crate::ranges::{Claim, RangeTracker};

/// Messages of one chunk.
const MOST_FRAMES: usize = 16 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One unbroken reading of a partition: nothing that was read in another one joins it, or there would be a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    assignment: u64,
    era: u32,
}

/// A partition that is ours.
pub struct Lane {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The partition in words, for dead letters.
    pub words: Arc<str>,
    pub seed: Seed,
    /// Counts the times that a partition became ours.
    assignment: u64,
    /// What the group has committed, as far as we know.
    pub committed: Option<u64>,
    /// Why it is left alone.
    pub stopped: Option<String>,
    /// Messages without a value that are not counted yet.
    pub empty: u64,
    era: u32,
    remade: u32,
    group: GroupId,
    /// Absent until the first message says where that is.
    ranges: Option<RangeTracker>,
    gathered: Gathered,
    waiting: VecDeque<Sealed>,
    /// Chunks without an outcome, or with a failed one, by first offset.
    kept: BTreeMap<u64, Sealed>,
    pause: Duration,
    again_at: Option<Instant>,
}

/// Messages that are still joined by others.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
    offsets: Vec<u64>,
    ids: GivenIds,
    /// The offset behind the last message; 0 if there is none.
    end: u64,
}

/// Messages that are submitted together; it may be none, where only the place moves.
#[derive(Clone)]
pub struct Sealed {
    pub chunk: Chunk,
    pub ids: GivenIds,
    end: u64,
}

/// What is submitted.
pub struct Handed {
    pub sealed: Sealed,
    pub slot: u8,
    pub start: u64,
    pub stated: Stated,
}

/// A message as it comes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub offset: u64,
    pub value: Option<&'a [u8]>,
    pub id: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Taken,
    /// What was gathered has to be submitted first.
    Later,
}

impl Lane {
    pub fn new(
        cluster: &str,
        group: GroupId,
        topic: &str,
        partition: i32,
        assignment: u64,
        place: Option<Place>,
    ) -> Lane {
        let number = partition.to_le_bytes();
        let era = place.as_ref().map_or(0, |place| place.era);
        let remade = place.as_ref().map_or(0, |place| place.remade);
        let origin = Seed::derive(&[b"kafka", cluster.as_bytes(), topic.as_bytes(), &number]);
        let ranges = place.map(|place| place.ranges);
        Lane {
            topic: topic.into(),
            partition,
            words: display_name(topic, partition).into(),
            // Offsets of another topic of the name are those of other messages.
            seed: if remade == 0 { origin } else { Seed::derive(&[&origin.0, &remade.to_le_bytes()]) },
            assignment,
            committed: None,
            stopped: None,
            empty: 0,
            era,
            remade,
            group,
            ranges,
            gathered: Gathered::default(),
            waiting: VecDeque::new(),
            kept: BTreeMap::new(),
            pause: FIRST_PAUSE,
            again_at: None,
        }
    }

    pub fn tenure(&self) -> Tenure {
        Tenure { assignment: self.assignment, era: self.era }
    }

    /// The offset to read from.
    pub fn next(&self) -> Option<u64> {
        let ranges = self.ranges.as_ref()?;
        let behind = self.waiting.back().map_or(0, |sealed| sealed.end);
        Some(ranges.cursor().max(behind).max(self.gathered.end))
    }

    /// The offset that everything before is settled of.
    pub fn done(&self) -> Option<u64> {
        self.ranges.as_ref().map(RangeTracker::done)
    }

    /// The offset to commit, if it has moved.
    pub fn to_commit(&self) -> Option<u64> {
        self.done().filter(|done| self.committed != Some(*done))
    }

    /// Takes a message. Nothing may be waiting to be submitted. Of a value longer than an event may be, as much is
    /// taken as shows that.
    pub fn accept(&mut self, message: Message<'_>, event_bytes: usize) -> Answer {
        debug_assert!(self.waiting.is_empty());
        let Message { offset, value, id } = message;
        let ranges = self.ranges.get_or_insert_with(|| RangeTracker::starting_at(offset));
        if offset < ranges.cursor().max(self.gathered.end) {
            return Answer::Taken;
        }
        // What is in the journal already is jumped over.
        if let Some(limit) = ranges.limit().filter(|limit| offset >= *limit) {
            self.seal_up_to(limit);
            return Answer::Later;
        }
        let value = value.unwrap_or_default();
        let value = &value[..value.len().min(event_bytes + 1)];
        let gathered = &mut self.gathered;
        let is_full = gathered.bytes.len() + value.len() > CHUNK_BYTES || gathered.frames.len() >= MOST_FRAMES;
        if is_full && !gathered.frames.is_empty() {
            self.seal();
            return Answer::Later;
        }
        gathered.end = offset + 1;
        if value.is_empty() {
            self.empty += 1;
            return Answer::Taken;
        }
        let start = gathered.bytes.len();
        gathered.bytes.extend_from_slice(value);
        gathered.frames.push(start..gathered.bytes.len());
        gathered.offsets.push(offset);
        if let Some(id) = id {
            gathered.ids.push(offset, id);
        }
        Answer::Taken
    }

    pub fn gathered_bytes(&self) -> usize {
        self.gathered.bytes.len()
    }

    /// Nothing joins what was gathered any more.
    pub fn seal(&mut self) {
        if self.gathered.end > 0 {
            self.seal_up_to(self.gathered.end);
        }
    }

    fn seal_up_to(&mut self, end: u64) {
        let Gathered { bytes, frames, offsets, ids, .. } = std::mem::take(&mut self.gathered);
        let chunk = Chunk { bytes: bytes.into(), frames: Frames::At(frames), ordinals: Ordinals::Given(offsets) };
        self.waiting.push_back(Sealed { chunk, ids, end });
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes of the chunk to submit next, if one may be now.
    pub fn wants(&self, now: Instant) -> Option<usize> {
        let ranges = self.ranges.as_ref()?;
        let is_due = self.again_at.is_none_or(|at| now >= at);
        (ranges.is_open() && is_due).then(|| self.waiting.front().map(|sealed| sealed.chunk.bytes.len())).flatten()
    }

    /// The chunk to submit; nothing where only the place moves.
    pub fn hand(&mut self) -> Option<Handed> {
        let (ranges, sealed) = (self.ranges.as_mut()?, self.waiting.pop_front()?);
        if sealed.chunk.bytes.is_empty() {
            ranges.skip(sealed.end);
            return None;
        }
        let start = ranges.cursor();
        let (slot, statement) = ranges.take(sealed.end);
        self.kept.insert(start, sealed.clone());
        Some(Handed { sealed, slot, start, stated: self.state(statement) })
    }

    fn state(&self, statement: Claim) -> Stated {
        let Lane { group, remade, era, committed, .. } = *self;
        Stated { group: Some(group), remade, era, committed, statement }
    }

    /// What to state of an offset that was just committed, so that a group that is set back below it is noticed.
    pub fn state_committed(&self) -> Option<Stated> {
        Some(self.state(Claim { done: self.done()?, spans: Vec::new() }))
    }

    /// Enters an outcome. What failed is submitted again once the others have an outcome.
    pub fn settle(&mut self, start: u64, slot: u8, is_taken: bool, now: Instant) {
        let Some(ranges) = self.ranges.as_mut() else { return };
        if is_taken {
            self.kept.remove(&start);
            (self.pause, self.again_at) = (FIRST_PAUSE, None);
        }
        if ranges.settle(slot, is_taken) {
            for (_, sealed) in std::mem::take(&mut self.kept).into_iter().rev() {
                self.waiting.push_front(sealed);
            }
            self.again_at = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Goes on at another offset: what lies between is gone. Says whether reading goes back.
    pub fn jump(&mut self, offset: u64) -> bool {
        let goes_back = self.next().is_some_and(|next| offset < next);
        if goes_back {
            self.gathered = Gathered::default();
            (self.waiting, self.kept) = (VecDeque::new(), BTreeMap::new());
            (self.ranges, self.era) = (Some(RangeTracker::starting_at(offset)), self.era + 1);
        } else {
            self.ranges.get_or_insert_with(|| RangeTracker::starting_at(offset));
            self.seal_up_to(offset);
        }
        goes_back
    }

    /// Forgets what was read and not submitted: another member reads it.
    pub fn let_go(&mut self) {
        (self.gathered, self.empty) = (Gathered::default(), 0);
        self.waiting.clear();
    }
}

/// A message that could not be taken yet.
#[derive(Debug)]
pub struct Held {
    pub topic: String,
    pub partition: i32,
    pub tenure: Tenure,
    pub offset: u64,
    pub value: Option<Bytes>,
    pub id: Option<Bytes>,
}

impl Held {
    pub fn message(&self) -> Message<'_> {
        Message { offset: self.offset, value: self.value.as_deref(), id: self.id.as_deref() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::place;
    use super::*;

    fn lane(committed: u64) -> Lane {
        Lane::new("c", GroupId::of("g"), "logs", 0, 1, place(Some(committed), None))
    }

    fn message(offset: u64, value: &[u8]) -> Message<'_> {
        Message { offset, value: Some(value), id: None }
    }

    /// Submits everything that waits.
    fn hand_all(lane: &mut Lane, now: Instant) -> Vec<Handed> {
        let mut handed = Vec::new();
        while lane.wants(now).is_some() {
            handed.extend(lane.hand());
        }
        handed
    }

    /// Reads these messages and submits them.
    fn take(lane: &mut Lane, offsets: Range<u64>, now: Instant) -> Vec<Handed> {
        let mut handed = Vec::new();
        for offset in offsets {
            while lane.accept(message(offset, b"{}"), 1000) == Answer::Later {
                handed.extend(hand_all(lane, now));
            }
        }
        lane.seal();
        handed.extend(hand_all(lane, now));
        handed
    }

    fn offsets(handed: &Handed) -> Vec<u64> {
        let Ordinals::Given(offsets) = &handed.sealed.chunk.ordinals else { panic!("offsets are given") };
        offsets.clone()
    }

    #[test]
    fn offsets_of_a_topic_that_was_made_anew_give_other_ids() {
        let lane =
            |remade| Lane::new("c", GroupId::of("g"), "logs", 0, 1, Some(Place { remade, ..Place::starting_at(0, 0) }));
        assert_eq!(lane(0).seed, lane(0).seed);
        assert!(lane(0).seed != lane(1).seed && lane(1).seed != lane(2).seed);
    }

    #[test]
    fn only_what_is_settled_without_a_gap_may_be_committed() {
        let (mut lane, now) = (lane(5), Instant::now());
        let mut handed = take(&mut lane, 5..8, now);
        handed.extend(take(&mut lane, 8..10, now));
        lane.settle(handed[1].start, handed[1].slot, true, now);
        assert_eq!(lane.done(), Some(5));
        lane.settle(handed[0].start, handed[0].slot, true, now);
        assert_eq!((lane.done(), lane.is_settled()), (Some(10), true));
    }

    #[test]
    fn what_failed_is_handed_in_again_in_its_order_and_nothing_else_is() {
        let (mut lane, now) = (lane(0), Instant::now());
        let handed: Vec<Handed> =
            [0, 2, 4, 6].into_iter().flat_map(|start| take(&mut lane, start..start + 2, now)).collect();
        for (handed, is_taken) in handed.iter().zip([false, true, false, true]) {
            lane.settle(handed.start, handed.slot, is_taken, now);
        }
        assert_eq!(lane.wants(now), None, "after a while");
        let again = hand_all(&mut lane, now + LONGEST_PAUSE);
        assert_eq!(again.iter().map(offsets).collect::<Vec<_>>(), [[0, 1], [4, 5]]);
        for handed in &again {
            lane.settle(handed.start, handed.slot, true, now);
        }
        assert_eq!(lane.done(), Some(8));
    }

    #[test]
    fn a_restart_jumps_over_what_the_journal_has() {
        let (mut lane, now) = (lane(0), Instant::now());
        take(&mut lane, 0..3, now);
        let stated = take(&mut lane, 3..6, now).remove(0).stated;
        let key = super::super::place::key("c", "logs", 0, 1);
        let all = super::super::place::remembered(vec![(key, stated.encode())], "c", GroupId::of("g"));
        let remembered = &all[&("logs".to_owned(), 0)];
        let mut lane = Lane::new("c", GroupId::of("g"), "logs", 0, 2, place(Some(0), Some(remembered)));
        assert_eq!(lane.next(), Some(0));
        let found: Vec<u64> = take(&mut lane, 0..9, now).iter().flat_map(offsets).collect();
        assert_eq!(found, [0, 1, 2, 6, 7, 8]);
    }

    #[test]
    fn messages_without_a_value_move_the_place_and_are_counted() {
        let (mut lane, now) = (lane(0), Instant::now());
        for offset in 0..3 {
            assert_eq!(lane.accept(Message { offset, value: None, id: None }, 10), Answer::Taken);
        }
        lane.seal();
        assert_eq!(lane.empty, 3);
        assert!(hand_all(&mut lane, now).is_empty());
        assert_eq!(lane.done(), Some(3));
    }

    #[test]
    fn chunks_are_bounded_and_a_value_that_is_too_long_shows_that() {
        let mut lane = lane(0);
        let long = vec![b'x'; CHUNK_BYTES];
        assert_eq!(lane.accept(message(0, &long), 100), Answer::Taken);
        assert_eq!(lane.gathered_bytes(), 101);
        assert_eq!(lane.accept(message(1, &long), CHUNK_BYTES), Answer::Later);
        assert_eq!(hand_all(&mut lane, Instant::now()).len(), 1);
        assert_eq!(lane.accept(message(1, &long), CHUNK_BYTES), Answer::Taken);
    }

    #[test]
    fn a_jump_forward_keeps_what_was_read_and_one_back_begins_anew() {
        let (mut lane, now) = (lane(0), Instant::now());
        assert_eq!(lane.accept(message(0, b"{}"), 10), Answer::Taken);
        assert!(!lane.jump(50));
        let handed = hand_all(&mut lane, now);
        assert_eq!(offsets(&handed[0]), [0]);
        lane.settle(handed[0].start, handed[0].slot, true, now);
        assert_eq!(lane.done(), Some(50));
        assert!(lane.jump(10));
        assert_eq!((lane.done(), lane.next(), lane.era), (Some(10), Some(10), 1));
    }
}
