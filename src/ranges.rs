//! Which ranges of a file or partition are submitted, settled, or must be read again: plain numbers only.
//!
//! Several chunks of it are in flight at once, and one may fail while a later one is committed. So no position
//! says "all before me is done". Each states what was known when it was submitted (everything up to `done`, and
//! the ranges above it that are settled) and the range of its own events, under a key of its own slot. Whatever
//! the journal remembers of all slots together is committed, and everything else is read again.

use std::collections::VecDeque;
use std::ops::Range;

/// Chunks of one origin without an outcome.
pub const MOST_IN_FLIGHT: usize = 16;

pub type Span = Range<u64>;

#[derive(Clone, Debug, Default)]
pub struct RangeTracker {
    /// Reading began here; what lies before was never ours.
    base: u64,
    /// Everything before is settled.
    done: u64,
    /// Everything before was submitted, skipped or settled; reading goes on here.
    cursor: u64,
    /// What lies between the two, without holes.
    submitted: VecDeque<Submitted>,
    /// Settled ranges behind the cursor, ascending: reading jumps over them.
    kept: VecDeque<Span>,
    failed: bool,
}

#[derive(Clone, Debug)]
struct Submitted {
    slot: u8,
    span: Span,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Settled,
    Failed,
}

/// The content of a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub done: u64,
    /// Settled ranges above `done`; the last one is the range of the events it stands with. Where reading did not
    /// begin at 0, the first one is what lies before.
    pub spans: Vec<Span>,
}

impl Claim {
    /// Where reading began.
    pub fn base(&self) -> u64 {
        // A range of its own is the last one; alone it says nothing of what lies before.
        self.spans.first().filter(|first| self.spans.len() > 1 && first.start == 0).map_or(0, |first| first.end)
    }
}

impl RangeTracker {
    /// Continues where the positions of all slots say.
    pub fn resume<'a>(statements: impl IntoIterator<Item = &'a Claim>) -> RangeTracker {
        let (mut base, mut done, mut spans) = (0, 0, Vec::new());
        for statement in statements {
            base = base.max(statement.base());
            done = done.max(statement.done);
            spans.extend(statement.spans.iter().cloned());
        }
        let mut ranges = RangeTracker { base, done, cursor: done, ..RangeTracker::default() };
        ranges.keep(spans);
        ranges
    }

    /// All that is settled, for a position without events.
    pub fn statement(&self) -> Claim {
        let own = self.before().map(|before| [before, self.base..self.done]);
        let spans = own.into_iter().flatten().chain(self.kept.iter().cloned()).collect();
        Claim { done: self.done, spans }
    }

    /// The same once everything in flight is settled.
    pub fn landed(&self) -> RangeTracker {
        let (base, kept) = (self.base, self.kept.clone());
        RangeTracker { base, done: self.cursor, cursor: self.cursor, kept, ..RangeTracker::default() }
    }

    fn before(&self) -> Option<Span> {
        (self.base > 0).then_some(0..self.base)
    }

    /// Starts after what is there already.
    pub fn starting_at(offset: u64) -> RangeTracker {
        RangeTracker { base: offset, done: offset, cursor: offset, ..RangeTracker::default() }
    }

    pub fn done(&self) -> u64 {
        self.done
    }

    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Where reading must stop because what follows is settled.
    pub fn limit(&self) -> Option<u64> {
        self.kept.front().map(|span| span.start)
    }

    /// The furthest byte that is known to have been read.
    pub fn furthest(&self) -> u64 {
        self.kept.back().map_or(self.cursor, |span| span.end)
    }

    pub fn in_flight(&self) -> usize {
        self.submitted.iter().filter(|part| part.state == State::Pending).count()
    }

    /// Whether one more chunk may be submitted.
    pub fn is_open(&self) -> bool {
        // Settled ones behind a pending one count too: every position names them.
        !self.failed && self.submitted.len() < MOST_IN_FLIGHT
    }

    /// Enters the chunk from the cursor up to `end`: its slot, and what its position shall say.
    pub fn take(&mut self, end: u64) -> (u8, Claim) {
        debug_assert!(self.is_open() && end >= self.cursor);
        let taken = |slot| self.submitted.iter().any(|f| f.state == State::Pending && f.slot == slot);
        let slot = (0..MOST_IN_FLIGHT as u8).find(|slot| !taken(*slot)).expect("an open tracker has a free slot");
        let span = self.cursor..end;
        let settled = self.submitted.iter().filter(|part| part.state == State::Settled);
        let mut spans: Vec<Span> = self.before().into_iter().collect();
        spans.extend(settled.map(|part| part.span.clone()));
        spans.extend(self.kept.iter().cloned());
        spans.push(span.clone());
        self.submitted.push_back(Submitted { slot, span, state: State::Pending });
        self.cursor = end;
        self.jump();
        (slot, Claim { done: self.done, spans })
    }

    /// Passes over bytes that hold no event, such as a hole, when nothing else will state it.
    pub fn skip(&mut self, end: u64) {
        debug_assert!(end >= self.cursor);
        self.submitted.push_back(Submitted { slot: 0, span: self.cursor..end, state: State::Settled });
        self.cursor = end;
        self.jump();
        self.advance();
    }

    /// Enters an outcome. Returns whether reading was set back to the first range that failed: that happens only
    /// when nothing is pending any more, so that order within the file is kept among what is read again.
    pub fn settle(&mut self, slot: u8, is_taken: bool) -> bool {
        let part = self.submitted.iter_mut().find(|f| f.state == State::Pending && f.slot == slot);
        let Some(part) = part else { return false };
        part.state = if is_taken { State::Settled } else { State::Failed };
        self.failed |= !is_taken;
        self.advance();
        if !self.failed || self.in_flight() > 0 {
            return false;
        }
        let submitted = std::mem::take(&mut self.submitted);
        let settled = submitted.into_iter().filter(|part| part.state == State::Settled).map(|part| part.span);
        let spans: Vec<Span> = settled.chain(std::mem::take(&mut self.kept)).collect();
        (self.cursor, self.failed) = (self.done, false);
        self.keep(spans);
        true
    }

    fn advance(&mut self) {
        while self.submitted.front().is_some_and(|first| first.state == State::Settled) {
            self.done = self.submitted.pop_front().expect("there is a first one").span.end;
        }
    }

    /// Jumps over what is settled at the cursor.
    fn jump(&mut self) {
        while self.kept.front().is_some_and(|span| span.start <= self.cursor) {
            let span = self.kept.pop_front().expect("there is a first one");
            if span.end > self.cursor {
                self.submitted.push_back(Submitted { slot: 0, span: self.cursor..span.end, state: State::Settled });
                self.cursor = span.end;
            }
        }
        self.advance();
    }

    fn keep(&mut self, mut spans: Vec<Span>) {
        spans.sort_by_key(|span| span.start);
        let mut merged: VecDeque<Span> = VecDeque::new();
        for span in spans.into_iter().filter(|span| span.end > self.done && !span.is_empty()) {
            match merged.back_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => merged.push_back(span),
            }
        }
        self.kept = merged;
        self.jump();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_failed_is_read_again_and_nothing_else() {
        let mut ranges = RangeTracker::default();
        let slots: Vec<u8> = [10, 20, 30, 40].into_iter().map(|end| ranges.take(end).0).collect();
        assert!(!ranges.settle(slots[3], true));
        assert!(!ranges.settle(slots[1], false));
        assert!(!ranges.is_open(), "nothing follows a failure before it is known what it left");
        assert!(!ranges.settle(slots[0], true));
        assert!(ranges.settle(slots[2], true));
        assert_eq!((ranges.done(), ranges.cursor(), ranges.limit()), (10, 10, Some(20)));
        let (slot, statement) = ranges.take(20);
        assert_eq!(statement, Claim { done: 10, spans: vec![20..40, 10..20] });
        assert_eq!((ranges.cursor(), ranges.limit()), (40, None));
        ranges.settle(slot, true);
        assert_eq!(ranges.done(), 40);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Take(u64),
        Settle(usize, bool),
        Crash,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (1u64..20).prop_map(Act::Take),
            6 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(n, ok)| Act::Settle(n, ok)),
            1 => Just(Act::Crash),
        ]
    }

    proptest! {
        /// The journal commits in the order of submission; an outcome comes some time after. A crash forgets the
        /// ranges and keeps what was committed, whether its outcome was received or not.
        #[test]
        fn every_byte_is_committed_exactly_once_whatever_fails_or_crashes(acts in prop::collection::vec(act(), 1..200)) {
            const SIZE: u64 = 400;
            let mut ranges = RangeTracker::default();
            let mut journal: HashMap<u8, Claim> = HashMap::new();
            let mut committed = vec![0; SIZE as usize];
            let mut pending: Vec<(u8, Span, Claim)> = Vec::new();
            let drain = (0..2000).map(|n| if n % 2 == 0 { Act::Take(7) } else { Act::Settle(0, true) });
            for act in acts.into_iter().chain(drain) {
                match act {
                    Act::Take(bytes) => {
                        let end = (ranges.cursor() + bytes).min(ranges.limit().unwrap_or(SIZE));
                        if ranges.is_open() && end > ranges.cursor() {
                            let span = ranges.cursor()..end;
                            let (slot, statement) = ranges.take(end);
                            pending.push((slot, span, statement));
                        }
                    }
                    Act::Settle(nth, is_taken) => {
                        if pending.is_empty() { continue }
                        let (slot, span, statement) = pending.remove(nth % pending.len().min(4));
                        if is_taken {
                            span.for_each(|byte| committed[byte as usize] += 1);
                            journal.insert(slot, statement);
                        }
                        ranges.settle(slot, is_taken);
                    }
                    Act::Crash => {
                        // Some pending chunks were committed, in order, without an outcome being received.
                        for (slot, span, statement) in pending.drain(..).take(2) {
                            span.for_each(|byte| committed[byte as usize] += 1);
                            journal.insert(slot, statement);
                        }
                        ranges = RangeTracker::resume(journal.values());
                    }
                }
            }
            prop_assert!(committed.iter().all(|times| *times == 1), "{committed:?}");
            prop_assert_eq!(ranges.done(), SIZE);
        }
    }
}
