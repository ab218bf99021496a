//! A write batch in flight: which of its events are still to be written, and what an answer means for them. No clock,
//! no socket.

use std::fmt;
use std::time::Duration;

mod partial;

use super::batcher::Pending;
use super::evidence::Evidence;
use super::window::Outcomes;
use crate::component::{BatchEvent, Failure, RecordSlice, WriteBatch, Written};
use crate::units::Timestamp;

/// How often a batch may panic before it counts as poison.
const PANICS: u32 = 3;
/// Why an event that used up its attempts is a dead letter.
const GAVE_UP: &str = "gave up";
/// Other events that are tried, each alone, before a refusal counts as every event's.
const WITNESSES: usize = 3;

/// What was not yet written, in the order of the events; each batch in it is written by itself.
#[derive(Debug)]
pub struct InFlight {
    pub pending: Pending,
    /// A stack: the last is the next.
    todo: Vec<Unsent>,
    /// Single events that were refused, since when nothing was taken: their own fault, or every event's.
    suspects: Vec<Unsent>,
    /// While the sink is held: the event that is tried next, alone.
    probe: Option<usize>,
    /// When its first write began, by the evidence's count.
    pub began: Option<u64>,
    pub delivered: u64,
    /// Taken by the target and not kept.
    pub discarded: u64,
    /// Of these, those whose id the target has with other content.
    pub conflicts: u64,
    /// Too old by now to be written.
    pub expired: u64,
    pub duplicates: u64,
    pub bytes: u64,
    pub poison: Vec<Poisoned>,
    /// What is set aside for its destination.
    pub parked: Vec<(String, Refused)>,
    /// What its destinations refuse until an operator acts: to be parked or put back.
    refused: Vec<Refused>,
}

/// Events that are written together.
#[derive(Clone, Debug)]
pub struct Unsent {
    pub batch: WriteBatch,
    /// Writes so far.
    pub attempts: u32,
    /// Those of them that failed for reasons that may pass.
    transient: u32,
    panics: u32,
    /// When the current write began, by the evidence's count.
    began: u64,
    ambiguity: Option<Ambiguity>,
}

/// Why it is not known whether these events are at fault, or the target.
#[derive(Clone, Copy, Debug)]
pub struct Ambiguity {
    /// When a write of them first failed so, by the evidence's count.
    pub since: u64,
    /// Whether the attempts that are allowed are used up.
    pub is_exhausted: bool,
}

/// One event that is refused until an operator acts.
#[derive(Clone, Debug)]
pub struct Refused {
    /// A batch of this one event.
    pub batch: WriteBatch,
    pub answer: String,
    pub attempts: u32,
    ambiguity: Option<Ambiguity>,
}

/// One event that can never be stored.
#[derive(Clone, Debug)]
pub struct Poisoned {
    /// A batch of this one event.
    pub batch: WriteBatch,
    pub reason: &'static str,
    pub answer: String,
    pub attempts: u32,
}

/// How an attempt failed, as the loop saw it.
#[derive(Clone, Debug)]
#[must_use]
pub enum AttemptError {
    /// The encoder refused; nothing was written.
    Encode(Failure),
    /// The sink answered.
    Write(Failure),
    /// The sink gave no answer in time.
    TimedOut(Duration),
    Panicked(String),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Next {
    /// The target works.
    GoOn,
    /// Whether the target works is not known yet: less at a time will show it.
    Split,
    /// Retry later: after the time asked for, or the backoff for this number of attempts.
    Wait { answer: String, after: Option<Duration>, attempts: u32, whole: bool },
    /// An operator has to act. `alone`: no other event is available to show whether this one is at fault.
    Hold { answer: String, alone: bool },
}

/// What an answer is classified by, beside itself.
pub struct Circumstances<'a> {
    /// Writes that are allowed, if they are limited.
    pub most_attempts: Option<u32>,
    pub evidence: &'a mut Evidence,
    pub destination: &'a dyn Fn(BatchEvent<'_>) -> Option<String>,
}

impl AttemptError {
    /// The class in the event accounting.
    pub fn class(&self) -> &'static str {
        match self {
            AttemptError::Panicked(_) => "panic",
            AttemptError::TimedOut(_) => "timeout",
            AttemptError::Encode(failure) | AttemptError::Write(failure) => match failure {
                Failure::Transient { .. } => "transient",
                Failure::Configuration { .. } | Failure::Ambiguous { .. } => "configuration",
                Failure::Poison { .. } | Failure::Suspect { .. } => "poison",
                Failure::Some(..) => "partial",
            },
        }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptError::Panicked(message) => write!(f, "the sink panicked: {message}"),
            AttemptError::TimedOut(limit) => write!(f, "no answer within {limit:?}"),
            AttemptError::Encode(failure) | AttemptError::Write(failure) => f.write_str(failure.answer()),
        }
    }
}

impl Unsent {
    pub fn new(batch: WriteBatch) -> Unsent {
        Unsent { batch, attempts: 0, transient: 0, panics: 0, began: 0, ambiguity: None }
    }

    fn with(&self, batch: WriteBatch) -> Unsent {
        Unsent { batch, ..*self }
    }
}

impl InFlight {
    pub fn new(pending: Pending) -> InFlight {
        InFlight::ambiguous_since(pending, None)
    }

    /// Events that were refused before, at this count of the evidence.
    pub fn ambiguous_since(pending: Pending, since: Option<u64>) -> InFlight {
        let ambiguity = since.map(|since| Ambiguity { since, is_exhausted: false });
        let whole = Unsent { ambiguity, ..Unsent::new(pending.batch.clone()) };
        let todo = if whole.batch.is_empty() { Vec::new() } else { vec![whole] };
        let (suspects, poison, parked, refused) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        InFlight {
            pending,
            todo,
            suspects,
            probe: None,
            began: None,
            delivered: 0,
            discarded: 0,
            conflicts: 0,
            expired: 0,
            duplicates: 0,
            bytes: 0,
            poison,
            parked,
            refused,
        }
    }

    /// The events to write next, with the evidence's count as it is; they are given back to `wrote` or `failed`.
    pub fn take(&mut self, now: u64) -> Option<Unsent> {
        self.began.get_or_insert(now);
        if self.todo.is_empty() {
            self.todo.extend(self.suspects.drain(..).rev());
        }
        let next = match self.probe {
            Some(nth) => self.take_probe(nth),
            None => self.todo.pop(),
        };
        next.map(|next| Unsent { attempts: next.attempts + 1, began: now, ..next })
    }

    /// One event alone, to find out with little whether the sink takes anything again. Each time it is another one.
    fn take_probe(&mut self, nth: usize) -> Option<Unsent> {
        let all = self.gather(None)?;
        let (before, rest) = all.batch.split(nth % all.batch.len());
        let (probe, after) = rest.split(1);
        self.put(all.with(after));
        self.put(all.with(before));
        Some(all.with(probe))
    }

    pub fn is_done(&self) -> bool {
        self.todo.is_empty() && self.suspects.is_empty()
    }

    /// How its events have ended so far; those that are still to be written count as good. What was given up because the
    /// operator limits the attempts says nothing about the events.
    pub fn outcomes(&self) -> Outcomes {
        let given_up = self.poison.iter().filter(|poisoned| poisoned.reason == GAVE_UP).count();
        let events = (self.pending.batch.len() - self.parked.len() - given_up) as u64 - self.expired;
        Outcomes { events, poison: (self.poison.len() - given_up) as u64 }
    }

    /// From now on one event alone is tried at a time.
    pub fn probe(&mut self) {
        self.probe.get_or_insert(0);
    }

    pub fn wrote(&mut self, sent: &Unsent, written: Written) {
        let discarded = written.discarded.min(sent.batch.len() as u64);
        self.delivered += sent.batch.len() as u64 - discarded;
        self.discarded += discarded;
        self.conflicts += written.conflicts.min(discarded);
        self.duplicates += written.duplicates;
        self.bytes += written.bytes;
        self.something_was_taken();
    }

    /// The target works: those who were refused show now whether it was their fault.
    fn something_was_taken(&mut self) {
        self.probe = None;
        self.todo.extend(self.suspects.drain(..).rev());
    }

    /// What the last failure has left to be parked or put back.
    pub fn take_refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    /// Puts back what was refused, to be written behind everything else.
    pub fn put_back_refused(&mut self, refused: Vec<Refused>) {
        let attempts = refused.iter().map(|event| event.attempts).max().unwrap_or(0);
        let ambiguity = refused.iter().find_map(|event| event.ambiguity);
        let batch = WriteBatch::merge(refused.into_iter().map(|event| event.batch));
        if !batch.is_empty() {
            self.todo.insert(0, Unsent { attempts, ambiguity, ..Unsent::new(batch) });
        }
    }

    /// Gives up what was received before this.
    pub fn expire(&mut self, oldest: Timestamp) {
        let is_fresh = |slice: &RecordSlice| slice.record.received_at >= oldest;
        for unsent in self.todo.iter_mut().chain(&mut self.suspects) {
            let before = unsent.batch.len();
            unsent.batch.slices.retain(is_fresh);
            self.expired += (before - unsent.batch.len()) as u64;
        }
        self.todo.retain(|unsent| !unsent.batch.is_empty());
        self.suspects.retain(|unsent| !unsent.batch.is_empty());
    }

    /// When the oldest event was received that is still to be written.
    pub fn oldest(&self) -> Option<Timestamp> {
        let slices = self.todo.iter().chain(&self.suspects).flat_map(|unsent| &unsent.batch.slices);
        slices.map(|slice| slice.record.received_at).min()
    }

    /// Everything that is still to be written.
    pub fn rest(&self) -> WriteBatch {
        WriteBatch::merge(self.suspects.iter().chain(&self.todo).map(|unsent| unsent.batch.clone()))
    }

    /// Everything found poisonous is open again: too much of it was, so the fault is not theirs.
    pub fn reopen(&mut self) {
        let open: Vec<Poisoned> = self.poison.extract_if(.., |poisoned| poisoned.reason != GAVE_UP).collect();
        let attempts = open.iter().map(|poisoned| poisoned.attempts).max().unwrap_or(0);
        let batch = WriteBatch::merge(open.into_iter().map(|poisoned| poisoned.batch));
        self.put(Unsent { attempts, ..Unsent::new(batch) });
        self.probe = Some(self.probe.map_or(0, |nth| nth + 1));
    }

    /// Decides what a failed attempt means. `unsent.attempts` counts it already.
    pub fn failed(&mut self, mut unsent: Unsent, error: AttemptError, cx: &mut Circumstances<'_>) -> Next {
        match error {
            AttemptError::TimedOut(limit) => self.again(unsent, format!("no answer within {limit:?}"), None, true, cx),
            AttemptError::Panicked(message) => {
                unsent.panics += 1;
                if unsent.panics >= PANICS {
                    return self.poisoned(unsent, "the sink panicked on this event", message);
                }
                self.again(unsent, format!("the sink panicked: {message}"), None, true, cx)
            }
            AttemptError::Encode(Failure::Some(failures, _)) => self.some(unsent, failures, None, cx),
            AttemptError::Write(Failure::Some(failures, of_rest)) => self.some(unsent, failures, Some(of_rest), cx),
            AttemptError::Encode(
                Failure::Poison { answer } | Failure::Suspect { answer } | Failure::Ambiguous { answer },
            ) => self.poisoned(unsent, "cannot be encoded", answer),
            AttemptError::Write(Failure::Poison { answer } | Failure::Suspect { answer }) => {
                self.poisoned(unsent, "refused by the target", answer)
            }
            AttemptError::Write(Failure::Ambiguous { answer }) => self.ambiguous(unsent, answer, false, cx),
            AttemptError::Encode(Failure::Transient { answer, after })
            | AttemptError::Write(Failure::Transient { answer, after }) => self.again(unsent, answer, after, true, cx),
            AttemptError::Encode(Failure::Configuration { answer })
            | AttemptError::Write(Failure::Configuration { answer }) => {
                self.put(unsent);
                Next::Hold { answer, alone: false }
            }
        }
    }

    fn again(
        &mut self,
        mut unsent: Unsent,
        answer: String,
        after: Option<Duration>,
        whole: bool,
        cx: &mut Circumstances<'_>,
    ) -> Next {
        // Whether the target is held is not the question any more.
        self.probe = None;
        unsent.transient += 1;
        let attempts = unsent.transient;
        if cx.most_attempts.is_some_and(|most| attempts >= most) {
            if unsent.batch.len() == 1 && unsent.ambiguity.is_none() {
                self.poison.push(Poisoned::of(unsent, GAVE_UP, answer));
                return Next::Split;
            }
            // One event may be what the target fails on: the others are not given up with it.
            return self.ambiguous(unsent, answer, true, cx);
        }
        self.put(unsent);
        Next::Wait { answer, after, attempts, whole }
    }

    fn poisoned(&mut self, unsent: Unsent, reason: &'static str, answer: String) -> Next {
        self.condemn(unsent, reason, answer);
        Next::GoOn
    }

    /// Halves the batch until the poisonous event is alone: at most twice the binary logarithm of writes for each.
    fn condemn(&mut self, unsent: Unsent, reason: &'static str, answer: String) {
        if unsent.batch.len() <= 1 {
            self.poison.push(Poisoned::of(unsent, reason, answer));
        } else {
            self.halve(unsent);
        }
    }

    fn halve(&mut self, unsent: Unsent) {
        let (head, tail) = unsent.batch.split(unsent.batch.len() / 2);
        self.put(unsent.with(tail));
        self.put(unsent.with(head));
    }

    /// One event is at fault, or the target. What an event meets twice, while another was taken in between, is its own.
    fn ambiguous(
        &mut self,
        mut unsent: Unsent,
        answer: String,
        is_exhausted: bool,
        cx: &mut Circumstances<'_>,
    ) -> Next {
        let met_before = unsent.ambiguity.is_some();
        let since = unsent.ambiguity.map_or(unsent.began, |ambiguity| ambiguity.since);
        unsent.ambiguity = Some(Ambiguity { since, is_exhausted });
        if unsent.batch.len() > 1 {
            self.halve(unsent);
            return Next::Split;
        }
        let destination = (cx.destination)(unsent.batch.event(0));
        if cx.evidence.has_taken_since(&destination, since) {
            if !met_before {
                self.put(unsent);
                return Next::Split;
            }
            cx.evidence.use_up(&destination);
            self.probe = None;
            let reason = if is_exhausted { GAVE_UP } else { "refused by the target, which accepts others" };
            self.poison.push(Poisoned::of(unsent, reason, answer));
            return Next::GoOn;
        }
        self.suspects.push(unsent);
        if self.probe.is_none() && self.suspects.len() <= WITNESSES && self.call_witness() {
            return Next::Split;
        }
        if is_exhausted {
            return self.give_up(answer);
        }
        let untried = self.todo.iter().map(|unsent| unsent.batch.len()).sum::<usize>();
        self.hold(answer, untried.saturating_sub(self.probe.unwrap_or(0)))
    }

    /// Puts another event alone on top, if there is one: the next in order, then the last, which has least to do with it.
    fn call_witness(&mut self) -> bool {
        let at = if self.suspects.len() == 2 { 0 } else { self.todo.len().saturating_sub(1) };
        if at >= self.todo.len() {
            return false;
        }
        let unsent = self.todo.remove(at);
        let last = unsent.batch.len() - 1;
        let (before, after) = unsent.batch.split(if self.suspects.len() == 2 { last } else { 1 });
        let (witness, rest) = if self.suspects.len() == 2 { (after, before) } else { (before, after) };
        if !rest.is_empty() {
            self.todo.insert(at, unsent.with(rest));
        }
        self.put(unsent.with(witness));
        true
    }

    /// Every event that was tried fails: an operator has to act. From now on one event is tried at a time.
    fn hold(&mut self, answer: String, untried: usize) -> Next {
        let all = self.gather(None);
        self.todo.extend(all);
        self.probe = Some(self.probe.map_or(0, |nth| nth + 1));
        Next::Hold { answer, alone: untried == 0 }
    }

    /// Nothing is taken at all, and the attempts that are allowed are used up.
    fn give_up(&mut self, answer: String) -> Next {
        let is_over = |unsent: &mut Unsent| unsent.ambiguity.is_some_and(|ambiguity| ambiguity.is_exhausted);
        let over: Vec<Unsent> =
            self.suspects.extract_if(.., is_over).chain(self.todo.extract_if(.., is_over)).collect();
        for unsent in over {
            let single = |batch| Poisoned::of(unsent.with(batch), GAVE_UP, answer.clone());
            self.poison.extend(unsent.batch.singles().map(single));
        }
        Next::Split
    }

    /// Everything that is still to be written as one batch, with `more`; `None` if there is nothing.
    fn gather(&mut self, more: Option<Unsent>) -> Option<Unsent> {
        let all: Vec<Unsent> = self.suspects.drain(..).chain(self.todo.drain(..)).chain(more).collect();
        let first = all.first()?;
        let most = |count: fn(&Unsent) -> u32| all.iter().map(count).max().unwrap_or(0);
        let since = all.iter().filter_map(|unsent| unsent.ambiguity).map(|ambiguity| ambiguity.since).min();
        Some(Unsent {
            batch: WriteBatch::merge(all.iter().map(|unsent| unsent.batch.clone())),
            attempts: most(|unsent| unsent.attempts),
            transient: most(|unsent| unsent.transient),
            panics: 0,
            began: first.began,
            ambiguity: since.map(|since| Ambiguity { since, is_exhausted: false }),
        })
    }

    fn put(&mut self, unsent: Unsent) {
        if !unsent.batch.is_empty() {
            self.todo.push(unsent);
        }
    }
}

impl Refused {
    fn of(unsent: Unsent, answer: String) -> Refused {
        Refused { batch: unsent.batch, answer, attempts: unsent.attempts, ambiguity: unsent.ambiguity }
    }
}

impl Poisoned {
    fn of(unsent: Unsent, reason: &'static str, answer: String) -> Poisoned {
        Poisoned { batch: unsent.batch, reason, answer, attempts: unsent.attempts }
    }
}
