//! Log messages about dead letters.

use std::time::Instant;

use super::NewDeadLetter;
use crate::telemetry::Folding;

#[derive(Debug, Default)]
pub struct Said(Folding);

impl Said {
    /// Notes dead letters that were just kept. Parked ones are no dead letters.
    pub fn note<'a>(&mut self, dead_letters: impl Iterator<Item = &'a NewDeadLetter>, now: Instant) {
        for dead_letter in dead_letters.filter(|dead_letter| dead_letter.parked.is_none()) {
            if let Some(earlier) = self.0.count(&dead_letter.component, &dead_letter.reason, now) {
                tracing::warn!(
                    component = dead_letter.component,
                    reason = dead_letter.reason,
                    answer = dead_letter.answer,
                    origin = dead_letter.origin,
                    earlier,
                    "an event became a dead letter; see `weir dlq list`"
                );
            }
        }
    }
}
