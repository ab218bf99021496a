//! One portion on its way: which of its events are still open, and what an answer means for them. No clock, no socket.

use std::fmt;
use std::time::Duration;

use super::cutter::Portion;
use crate::component::{Failure, RecordSlice, WriteBatch, Written};

/// How often a part may panic before it counts as poison.
const PANICS: u32 = 3;

/// What was not yet written, in the order of the events; each part is written by itself.
#[derive(Debug)]
pub struct Flight {
    pub portion: Portion,
    /// A stack: the last is the next.
    todo: Vec<Part>,
    pub delivered: u64,
    pub duplicates: u64,
    pub bytes: u64,
    pub poison: Vec<Poisoned>,
    /// What is set aside for its destination.
    pub parked: Vec<(String, Refused)>,
    /// What was refused until somebody acts, and is not yet judged.
    refused: Vec<Refused>,
}

/// Events that are written together.
#[derive(Clone, Debug)]
pub struct Part {
    pub cut: WriteBatch,
    /// Writes so far.
    pub attempts: u32,
    panics: u32,
}

/// One event that is not taken until somebody acts.
#[derive(Clone, Debug)]
pub struct Refused {
    /// A cut of this one event.
    pub cut: WriteBatch,
    pub answer: String,
    pub attempts: u32,
}

/// One event that can never be stored.
#[derive(Clone, Debug)]
pub struct Poisoned {
    /// A cut of this one event.
    pub cut: WriteBatch,
    pub reason: &'static str,
    pub answer: String,
    pub attempts: u32,
}

/// How an attempt failed, as the loop saw it.
#[derive(Clone, Debug)]
pub enum Trouble {
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
pub enum Next {
    GoOn,
    /// Try again after a while: the time asked for, or the backoff for so many attempts.
    Wait {
        answer: String,
        after: Option<Duration>,
        attempts: u32,
        whole: bool,
    },
    /// Somebody has to act.
    Hold {
        answer: String,
    },
}

impl Trouble {
    /// The word for the class in the books.
    pub fn class(&self) -> &'static str {
        match self {
            Trouble::Panicked(_) => "panic",
            Trouble::TimedOut(_) => "timeout",
            Trouble::Encode(failure) | Trouble::Write(failure) => match failure {
                Failure::Transient { .. } => "transient",
                Failure::Configuration { .. } => "configuration",
                Failure::Poison { .. } | Failure::Suspect { .. } => "poison",
                Failure::Some(_) => "partial",
            },
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Panicked(message) => write!(f, "the sink panicked: {message}"),
            Trouble::TimedOut(limit) => write!(f, "no answer within {limit:?}"),
            Trouble::Encode(failure) | Trouble::Write(failure) => f.write_str(failure.answer()),
        }
    }
}

impl Part {
    pub fn new(cut: WriteBatch) -> Part {
        Part { cut, attempts: 0, panics: 0 }
    }
}

impl Flight {
    pub fn new(portion: Portion) -> Flight {
        let whole = Part::new(portion.cut.clone());
        let todo = if whole.cut.is_empty() { Vec::new() } else { vec![whole] };
        let (delivered, duplicates, bytes) = (0, 0, 0);
        let (poison, parked, refused) = (Vec::new(), Vec::new(), Vec::new());
        Flight { portion, todo, delivered, duplicates, bytes, poison, parked, refused }
    }

    /// The part to write next; whoever takes it gives it back to `wrote` or `failed`.
    pub fn take(&mut self) -> Option<Part> {
        self.todo.pop()
    }

    /// The first event alone, to find out with little whether the sink takes anything again.
    pub fn take_one(&mut self) -> Option<Part> {
        let part = self.todo.pop()?;
        let (head, tail) = part.cut.split(1);
        self.put(tail, part.attempts, part.panics);
        Some(Part { cut: head, ..part })
    }

    pub fn is_done(&self) -> bool {
        self.todo.is_empty()
    }

    pub fn wrote(&mut self, part: &Part, written: Written) {
        self.delivered += part.cut.len() as u64;
        self.duplicates += written.duplicates;
        self.bytes += written.bytes;
    }

    /// What the last failure has left without a verdict: the caller parks it or puts it back.
    pub fn take_refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    /// Puts back what was refused, to be written behind everything else.
    pub fn put_back_refused(&mut self, refused: Vec<Refused>) {
        let attempts = refused.first().map_or(0, |event| event.attempts);
        let mut cut = WriteBatch::default();
        refused.into_iter().flat_map(|event| event.cut.slices).for_each(|slice| cut.push(slice));
        if !cut.is_empty() {
            self.todo.insert(0, Part { cut, attempts, panics: 0 });
        }
    }

    /// Everything that is still to be written.
    pub fn rest(&self) -> WriteBatch {
        WriteBatch { slices: self.todo.iter().rev().flat_map(|part| part.cut.slices.iter().cloned()).collect() }
    }

    /// Gives a part back as it was.
    pub fn put_back(&mut self, part: Part) {
        self.put(part.cut, part.attempts, part.panics);
    }

    /// Everything found poisonous is open again: too much of it was, so the fault is not theirs.
    pub fn reopen(&mut self) {
        for poisoned in std::mem::take(&mut self.poison).into_iter().rev() {
            self.put(poisoned.cut, poisoned.attempts, 0);
        }
    }

    /// Judges a failed attempt. `part.attempts` counts it already.
    pub fn failed(&mut self, mut part: Part, trouble: Trouble, most_attempts: Option<u32>) -> Next {
        match trouble {
            Trouble::TimedOut(limit) => {
                self.again(part, format!("no answer within {limit:?}"), None, true, most_attempts)
            }
            Trouble::Panicked(message) => {
                part.panics += 1;
                if part.panics >= PANICS {
                    return self.poisoned(part, "the sink panics on it", message);
                }
                self.again(part, format!("the sink panicked: {message}"), None, true, most_attempts)
            }
            Trouble::Encode(Failure::Some(failures)) => self.some(part, failures, false, most_attempts),
            Trouble::Write(Failure::Some(failures)) => self.some(part, failures, true, most_attempts),
            Trouble::Encode(Failure::Poison { answer } | Failure::Suspect { answer }) => {
                self.poisoned(part, "it cannot be encoded", answer)
            }
            Trouble::Write(Failure::Poison { answer } | Failure::Suspect { answer }) => {
                self.poisoned(part, "the target refuses it", answer)
            }
            Trouble::Encode(failure) | Trouble::Write(failure) => match failure {
                Failure::Transient { answer, after } => self.again(part, answer, after, true, most_attempts),
                Failure::Configuration { answer } => {
                    self.put_back(part);
                    Next::Hold { answer }
                }
                Failure::Poison { .. } | Failure::Suspect { .. } | Failure::Some(_) => unreachable!("matched above"),
            },
        }
    }

    fn again(
        &mut self,
        part: Part,
        answer: String,
        after: Option<Duration>,
        whole: bool,
        most_attempts: Option<u32>,
    ) -> Next {
        let attempts = part.attempts;
        if most_attempts.is_some_and(|most| attempts >= most) {
            let single = |event| Poisoned { cut: event, reason: "gave up", answer: answer.clone(), attempts };
            self.poison.extend(part.cut.singles().map(single));
            return Next::GoOn;
        }
        self.put_back(part);
        Next::Wait { answer, after, attempts, whole }
    }

    /// Halves the part until the poisonous event stands alone: at most twice the binary logarithm of writes for each.
    fn poisoned(&mut self, part: Part, reason: &'static str, answer: String) -> Next {
        let len = part.cut.len();
        if len <= 1 {
            self.poison.push(Poisoned { cut: part.cut, reason, answer, attempts: part.attempts });
            return Next::GoOn;
        }
        let (head, tail) = part.cut.split(len / 2);
        self.put(tail, part.attempts, part.panics);
        self.put(head, part.attempts, part.panics);
        Next::GoOn
    }

    /// Some events failed. If `rest_written`, the others are done, else they are still to be written.
    fn some(
        &mut self,
        part: Part,
        mut failures: Vec<(usize, Failure)>,
        rest_written: bool,
        most_attempts: Option<u32>,
    ) -> Next {
        failures.sort_by_key(|(index, _)| *index);
        failures.dedup_by_key(|(index, _)| *index);
        let len = part.cut.len();
        if failures.is_empty() || failures.last().is_some_and(|(index, _)| *index >= len) {
            let answer = "the sink reports failures of events that it was not given".to_owned();
            return self.again(part, answer, None, true, most_attempts);
        }
        let failed: Vec<usize> = failures.iter().map(|(index, _)| *index).collect();
        let (mut waiting, mut suspects) = (Vec::new(), Vec::new());
        let mut wait: Option<(String, Option<Duration>)> = None;
        let mut suspicion = String::new();
        let reason = if rest_written { "the target refuses it" } else { "it cannot be encoded" };
        for (index, failure) in failures {
            match failure {
                Failure::Transient { answer, after } => {
                    waiting.push(index);
                    let longest = wait.as_ref().and_then(|(_, after)| *after).max(after);
                    wait = Some((wait.map_or(answer, |(first, _)| first), longest));
                }
                Failure::Configuration { answer } => {
                    let cut = part.cut.select(&[index]);
                    self.refused.push(Refused { cut, answer, attempts: part.attempts });
                }
                Failure::Poison { answer } => {
                    let cut = part.cut.select(&[index]);
                    self.poison.push(Poisoned { cut, reason, answer, attempts: part.attempts });
                }
                Failure::Suspect { answer } => {
                    suspects.push(index);
                    suspicion = answer;
                }
                Failure::Some(_) => {
                    waiting.push(index);
                    wait.get_or_insert(("the sink reports failures inside a failure".to_owned(), None));
                }
            }
        }
        if rest_written {
            self.delivered += (len - failed.len()) as u64;
            self.bytes += (part.cut.bytes() - part.cut.select(&failed).bytes()) as u64;
        } else {
            let rest: Vec<usize> = (0..len).filter(|index| failed.binary_search(index).is_err()).collect();
            self.put(part.cut.select(&rest), part.attempts, part.panics);
        }
        if !suspects.is_empty() {
            let suspects = Part { cut: part.cut.select(&suspects), attempts: part.attempts, panics: part.panics };
            self.poisoned(suspects, reason, suspicion);
        }
        match wait {
            Some((answer, after)) => {
                let retried = Part { cut: part.cut.select(&waiting), attempts: part.attempts, panics: 0 };
                self.again(retried, answer, after, false, most_attempts)
            }
            None => Next::GoOn,
        }
    }

    fn put(&mut self, cut: WriteBatch, attempts: u32, panics: u32) {
        if !cut.is_empty() {
            self.todo.push(Part { cut, attempts, panics });
        }
    }
}

impl WriteBatch {
    /// The events at these ascending indices.
    fn select(&self, indices: &[usize]) -> WriteBatch {
        let mut chosen = WriteBatch::default();
        let mut indices = indices.iter().copied().peekable();
        let mut before = 0;
        for slice in &self.slices {
            while let Some(index) = indices.next_if(|index| *index < before + slice.events.len()) {
                let at = slice.events.start + index - before;
                chosen.push(RecordSlice { record: slice.record.clone(), events: at..at + 1 });
            }
            before += slice.events.len();
        }
        chosen
    }

    /// Adds a slice, to the last one if it follows it.
    fn push(&mut self, slice: RecordSlice) {
        match self.slices.last_mut() {
            Some(last)
                if std::sync::Arc::ptr_eq(&last.record, &slice.record) && last.events.end == slice.events.start =>
            {
                last.events.end = slice.events.end;
            }
            _ => self.slices.push(slice),
        }
    }

    /// Each event as a cut of its own.
    fn singles(&self) -> impl Iterator<Item = WriteBatch> + '_ {
        self.slices.iter().flat_map(|slice| {
            slice
                .events
                .clone()
                .map(|at| WriteBatch { slices: vec![RecordSlice { record: slice.record.clone(), events: at..at + 1 }] })
        })
    }
}
