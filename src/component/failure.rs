//! How a component fails: what the delivery loop needs to know, and nothing else.

use std::time::Duration;

use super::sink::Written;

/// Why a write did not succeed, by what should happen next.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Failure {
    /// Try again: with backoff, or after the time the other side asked for.
    Transient { answer: String, after: Option<Duration> },
    /// Nothing will succeed until an operator acts, whatever the events are: hold the cursor, log it once, keep the
    /// data.
    Configuration { answer: String },
    /// Either an operator has to act, or one event causes this for all that are written with it. The loop finds out by
    /// writing less at a time: what every event meets holds the sink, what one event meets twice while others are taken
    /// makes that event a dead letter.
    Ambiguous { answer: String },
    /// This can never be stored; the loop finds the event by bisecting if the batch holds more than one.
    Poison { answer: String },
    /// Among all that failed so at least one can never be stored: they are written again in smaller batches.
    Suspect { answer: String },
    /// The others succeeded, and that came to this; these, by index in the batch, failed each in its way.
    Some(Vec<(usize, Failure)>, Written),
}

impl Failure {
    pub fn transient(answer: impl Into<String>) -> Failure {
        Failure::Transient { answer: answer.into(), after: None }
    }

    pub fn configuration(answer: impl Into<String>) -> Failure {
        Failure::Configuration { answer: answer.into() }
    }

    pub fn ambiguous(answer: impl Into<String>) -> Failure {
        Failure::Ambiguous { answer: answer.into() }
    }

    pub fn poison(answer: impl Into<String>) -> Failure {
        Failure::Poison { answer: answer.into() }
    }

    /// These, by index in the batch, failed each in its way; of the others there is nothing to tell.
    pub fn some(failures: Vec<(usize, Failure)>) -> Failure {
        Failure::Some(failures, Written::default())
    }

    /// The same failure in other words, such as with secrets hidden.
    pub fn reworded(self, reword: impl Fn(String) -> String + Copy) -> Failure {
        match self {
            Failure::Transient { answer, after } => Failure::Transient { answer: reword(answer), after },
            Failure::Configuration { answer } => Failure::Configuration { answer: reword(answer) },
            Failure::Ambiguous { answer } => Failure::Ambiguous { answer: reword(answer) },
            Failure::Poison { answer } => Failure::Poison { answer: reword(answer) },
            Failure::Suspect { answer } => Failure::Suspect { answer: reword(answer) },
            Failure::Some(each, of_rest) => {
                let each = each.into_iter().map(|(index, failure)| (index, failure.reworded(reword)));
                Failure::Some(each.collect(), of_rest)
            }
        }
    }

    /// What the other side said; of several failures, the first one's.
    pub fn answer(&self) -> &str {
        match self {
            Failure::Transient { answer, .. }
            | Failure::Configuration { answer }
            | Failure::Ambiguous { answer }
            | Failure::Poison { answer }
            | Failure::Suspect { answer } => answer,
            Failure::Some(failures, _) => failures.first().map_or("", |(_, failure)| failure.answer()),
        }
    }
}

/// A source cannot continue; the message is for the operator.
#[derive(Debug)]
pub struct Fatal(pub String);

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fatal {}
