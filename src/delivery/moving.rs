//! Moves the cursor of a sink that does not run: what it passes over is dropped, and counted.

use std::io;

use bytes::Bytes;

use super::saved::Saved;
use super::{MOVED, totals};
use crate::component::StateTag;
use crate::journal::{Journal, STAGE_INPUT, Stored};
use crate::telemetry::Counts;

/// How many events a move has changed something for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// They are not delivered any more.
    On(u64),
    /// They are delivered again.
    Back(u64),
}

/// Moves a cursor that nobody has open to a `seq` that the journal holds. Nothing if there is no such cursor.
///
/// The totals go on saying up to where they count, so that a cursor which is moved on and back before its sink has run
/// has dropped nothing.
pub fn move_cursor(journal: &Journal, name: &str, seq: u64) -> io::Result<Option<Moved>> {
    let Some(stored) = journal.stored_cursor(name) else { return Ok(None) };
    let streams: Vec<u64> = stored.passed.iter().map(|(stream, _)| *stream).collect();
    let moved = match seq < stored.settled {
        true => Moved::Back(journal.events_between(&streams, seq, stored.settled)?),
        false => Moved::On(journal.events_between(&streams, stored.settled, seq)?),
    };
    // A stage counts what it takes, and keeps something else in this place.
    let totals = if name.ends_with(STAGE_INPUT) { None } else { Some(recount(journal, stored, seq)?) };
    journal.move_cursor(name, seq, totals)?;
    Ok(Some(moved))
}

/// The totals of a sink whose cursor goes from where it is stored to `seq`.
fn recount(journal: &Journal, stored: Stored, seq: u64) -> io::Result<Bytes> {
    let streams: Vec<u64> = stored.passed.iter().map(|(stream, _)| *stream).collect();
    let saved = Saved::of(stored.settled, stored.totals.to_vec(), stored.extra, StateTag::of(""));
    let mut counts = Counts::default();
    let counted_to = totals::decode(&saved.totals, &mut counts).unwrap_or(saved.position);
    let from = counted_to.max(journal.stats().oldest_seq);
    let passed_over = |to: u64| journal.events_between(&streams, from, to.max(from));
    let (before, after) = (passed_over(saved.position)?, passed_over(seq)?);
    if before != after {
        let dropped = counts.dropped.entry(MOVED).or_default();
        *dropped = (*dropped + after).saturating_sub(before);
    }
    Ok(totals::encode(&counts, counted_to).into())
}
