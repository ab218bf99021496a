//! What recovery found and did, and which losses were already reported.

use std::ops::Range;

use bytes::Bytes;

use super::{Commit, Journal, Position};
use crate::units::Timestamp;

/// The source name under which the journal records which losses were reported.
pub const REPORTED: &str = "\0told";

impl Journal {
    /// Records these losses as reported, so that the next start does not repeat them; losses no longer on disk are forgotten.
    pub fn note_reported(&self, report: &RecoveryReport) {
        let now: Vec<(Bytes, Bytes)> = report.lost.iter().chain(&report.notes_lost).map(Loss::as_position).collect();
        let before = self.positions(REPORTED);
        let state =
            |key: &Bytes, value: &Bytes| Position { source: REPORTED.into(), key: key.clone(), value: value.clone() };
        let gone = before.iter().filter(|(key, _)| !now.iter().any(|(known, _)| known == key));
        let new = now.iter().filter(|one| !before.contains(one));
        let positions: Vec<Position> =
            gone.map(|(key, _)| state(key, &Bytes::new())).chain(new.map(|(key, value)| state(key, value))).collect();
        if !positions.is_empty() {
            // If this fails, the loss is reported once more.
            drop(self.ticket().commit(Commit { positions, received_at: Timestamp::now(), ..Commit::default() }));
        }
    }
}

/// Events that were once in the journal and are not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Empty where no number behind the damage tells how many they were.
    pub seqs: Range<u64>,
    pub bytes: u64,
    /// Already reported at an earlier start.
    pub was_reported: bool,
}

impl Loss {
    /// The position (key and value) that records the report.
    pub fn as_position(&self) -> (Bytes, Bytes) {
        let bytes = |number: u64| Bytes::copy_from_slice(&number.to_le_bytes());
        (bytes(self.seqs.start), bytes(self.seqs.end))
    }
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub records: u64,
    pub events: u64,
    /// Damaged places: their bytes are in `quarantine/`, the events in `seqs` are gone.
    pub lost: Vec<Loss>,
    /// Damaged places without an event, which held positions of sources or the state of a transform.
    pub notes_lost: Vec<Loss>,
    /// What lies before was passed by every cursor: it is missed by nobody.
    pub needed_from: u64,
    /// Bytes behind the last whole commit that were cut off. Nothing there was acknowledged.
    pub cut_bytes: u64,
    /// Files without a readable header, moved to `quarantine/`.
    pub broken_files: Vec<String>,
    /// Cursors that stood behind the end: name, from, to.
    pub set_back: Vec<(String, u64, u64)>,
    /// Cursors whose files were unreadable or gone; they begin at the oldest event.
    pub cursors_lost: Vec<String>,
}

#[cfg(test)]
impl RecoveryReport {
    pub fn lost_events(&self) -> u64 {
        self.lost.iter().map(|loss| loss.seqs.end - loss.seqs.start).sum()
    }
}
