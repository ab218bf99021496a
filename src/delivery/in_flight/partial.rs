//! Partial failures: an answer that names the events that failed; all others are written.

use std::time::Duration;

use super::{Ambiguity, Circumstances, InFlight, Next, Poisoned, Refused, Unsent};
use crate::component::{Failure, Written};

impl InFlight {
    /// Some events failed. If `rest_written`, the others are done, else they are still to be written.
    pub(super) fn some(
        &mut self,
        unsent: Unsent,
        mut failures: Vec<(usize, Failure)>,
        of_rest: Option<Written>,
        cx: &mut Circumstances<'_>,
    ) -> Next {
        failures.sort_by_key(|(index, _)| *index);
        failures.dedup_by_key(|(index, _)| *index);
        let len = unsent.batch.len();
        if failures.is_empty() || failures.last().is_some_and(|(index, _)| *index >= len) {
            let answer = "the sink reports failures of events that it was not given".to_owned();
            return self.again(unsent, answer, None, true, cx);
        }
        let failed: Vec<usize> = failures.iter().map(|(index, _)| *index).collect();
        let others_taken = of_rest.is_some() && failed.len() < len;
        if let Some(of_rest) = of_rest {
            let others = (len - failed.len()) as u64;
            let discarded = of_rest.discarded.min(others);
            self.delivered += others - discarded;
            self.discarded += discarded;
            self.conflicts += of_rest.conflicts.min(discarded);
            self.duplicates += of_rest.duplicates;
            self.bytes += (unsent.batch.bytes() - unsent.batch.select(&failed).bytes()) as u64;
        } else {
            let rest: Vec<usize> = (0..len).filter(|index| failed.binary_search(index).is_err()).collect();
            self.put(unsent.with(unsent.batch.select(&rest)));
        }
        if others_taken {
            self.something_was_taken();
        }
        let sorted = self.sort(&unsent, failures, of_rest.is_some(), cx);
        self.write_again(unsent, sorted, others_taken, cx)
    }

    /// Sorts failures of single events by what has to be done with them.
    fn sort(
        &mut self,
        unsent: &Unsent,
        failures: Vec<(usize, Failure)>,
        was_written: bool,
        cx: &mut Circumstances<'_>,
    ) -> Sorted {
        let reason = if was_written { "refused by the target" } else { "cannot be encoded" };
        let mut sorted = Sorted::default();
        let mut used = Vec::new();
        let since = unsent.ambiguity.map_or(unsent.began, |ambiguity| ambiguity.since);
        for (index, failure) in failures {
            let single = || unsent.with(unsent.batch.select(&[index]));
            match failure {
                Failure::Transient { answer, after } => sorted.wait(index, answer, after),
                Failure::Some(..) => {
                    sorted.wait(index, "the sink reports failures inside a failure".to_owned(), None);
                }
                Failure::Configuration { answer } => self.refused.push(Refused::of(single(), answer)),
                Failure::Poison { answer } => self.poison.push(Poisoned::of(single(), reason, answer)),
                Failure::Ambiguous { answer } if !was_written => {
                    self.poison.push(Poisoned::of(single(), reason, answer));
                }
                Failure::Ambiguous { answer } => {
                    let destination = (cx.destination)(unsent.batch.event(index));
                    if !cx.evidence.has_taken_since(&destination, since) && destination.is_some() {
                        let ambiguity = Some(Ambiguity { since, is_exhausted: false });
                        self.refused.push(Refused::of(Unsent { ambiguity, ..single() }, answer));
                    } else if cx.evidence.has_taken_since(&destination, since) && unsent.ambiguity.is_some() {
                        let reason = "refused by the target, which accepts others";
                        self.poison.push(Poisoned::of(single(), reason, answer));
                        used.push(destination);
                    } else {
                        sorted.ambiguous.push(index);
                        sorted.answer = answer;
                    }
                }
                Failure::Suspect { answer } => {
                    sorted.suspected.push(index);
                    sorted.suspicion = answer;
                }
            }
        }
        used.iter().for_each(|destination| cx.evidence.use_up(destination));
        sorted
    }

    /// Puts back what of a batch is to be written again.
    fn write_again(&mut self, unsent: Unsent, sorted: Sorted, others_taken: bool, cx: &mut Circumstances<'_>) -> Next {
        let part = |indices: &[usize]| unsent.with(unsent.batch.select(indices));
        if !sorted.suspected.is_empty() {
            self.condemn(part(&sorted.suspected), "refused by the target", sorted.suspicion);
        }
        let since = unsent.ambiguity.map_or(unsent.began, |ambiguity| ambiguity.since);
        let ambiguous = Unsent { ambiguity: Some(Ambiguity { since, is_exhausted: false }), ..part(&sorted.ambiguous) };
        if let Some((answer, after)) = sorted.wait {
            self.put(ambiguous);
            return self.again(Unsent { panics: 0, ..part(&sorted.waiting) }, answer, after, false, cx);
        }
        match sorted.ambiguous.len() {
            0 => Next::GoOn,
            // Each was refused by name, so that nothing is to be learned from less at a time.
            2.. if !others_taken => {
                let untried = self.todo.iter().map(|unsent| unsent.batch.len()).sum::<usize>();
                self.put(ambiguous);
                self.hold(sorted.answer, untried)
            }
            1 if !others_taken => {
                self.ambiguous(Unsent { ambiguity: unsent.ambiguity, ..ambiguous }, sorted.answer, false, cx)
            }
            _ => {
                self.put(ambiguous);
                Next::GoOn
            }
        }
    }
}

/// Failures of single events, by what has to be done with them.
#[derive(Default)]
struct Sorted {
    waiting: Vec<usize>,
    wait: Option<(String, Option<Duration>)>,
    suspected: Vec<usize>,
    suspicion: String,
    ambiguous: Vec<usize>,
    answer: String,
}

impl Sorted {
    fn wait(&mut self, index: usize, answer: String, after: Option<Duration>) {
        self.waiting.push(index);
        let before = self.wait.take();
        let longest = before.as_ref().and_then(|(_, after)| *after).max(after);
        self.wait = Some((before.map_or(answer, |(first, _)| first), longest));
    }
}
