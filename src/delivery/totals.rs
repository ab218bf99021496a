//! A sink's event totals as they are saved beside its cursor, in fixed columns.

use super::{ID_CONFLICT, MOVED};
use crate::telemetry::Counts;

/// Columns in the order they are stored. New ones are added at the end, and none is ever taken away.
const COLUMNS: &[Column] = &[
    Column::Delivered,
    Column::DeadLettered,
    Column::Duplicates,
    Column::Bytes,
    Column::Retries,
    Column::Filtered("where"),
    Column::Dropped("poison"),
    Column::Dropped("buffer"),
    Column::Dropped("journal"),
    Column::Dropped("damage"),
    Column::Dropped("skipped"),
    Column::Error("transient"),
    Column::Error("configuration"),
    Column::Error("poison"),
    Column::Error("partial"),
    Column::Error("timeout"),
    Column::Error("panic"),
    Column::Parked,
    Column::Dropped("dlq"),
    Column::Dropped("target"),
    Column::ParkedDelivered,
    Column::ParkedDeadLettered,
    Column::ParkedPoison,
    Column::ParkedDropped,
    Column::Dropped(ID_CONFLICT),
    Column::Dropped("removed"),
    Column::Dropped(MOVED),
];

const VERSION: u8 = 1;

enum Column {
    Delivered,
    DeadLettered,
    Duplicates,
    Bytes,
    Retries,
    Filtered(&'static str),
    Dropped(&'static str),
    Error(&'static str),
    Parked,
    ParkedDelivered,
    ParkedDeadLettered,
    ParkedPoison,
    ParkedDropped,
}

impl Column {
    fn of<'a>(&self, counts: &'a mut Counts) -> &'a mut u64 {
        match self {
            Column::Delivered => &mut counts.delivered,
            Column::DeadLettered => &mut counts.dead_lettered,
            Column::Duplicates => &mut counts.duplicates,
            Column::Bytes => &mut counts.bytes_delivered,
            Column::Retries => &mut counts.retries,
            Column::Filtered(reason) => counts.filtered.entry(reason).or_default(),
            Column::Dropped(cause) => counts.dropped.entry(cause).or_default(),
            Column::Error(class) => counts.errors.entry(class).or_default(),
            Column::Parked => &mut counts.parked,
            Column::ParkedDelivered => &mut counts.parked_ends.delivered,
            Column::ParkedDeadLettered => &mut counts.parked_ends.dead_lettered,
            Column::ParkedPoison => &mut counts.parked_ends.poison,
            Column::ParkedDropped => &mut counts.parked_ends.dropped,
        }
    }

    fn get(&self, counts: &Counts) -> u64 {
        match self {
            Column::Delivered => counts.delivered,
            Column::DeadLettered => counts.dead_lettered,
            Column::Duplicates => counts.duplicates,
            Column::Bytes => counts.bytes_delivered,
            Column::Retries => counts.retries,
            Column::Filtered(reason) => counts.filtered.get(reason).copied().unwrap_or(0),
            Column::Dropped(cause) => counts.dropped.get(cause).copied().unwrap_or(0),
            Column::Error(class) => counts.errors.get(class).copied().unwrap_or(0),
            Column::Parked => counts.parked,
            Column::ParkedDelivered => counts.parked_ends.delivered,
            Column::ParkedDeadLettered => counts.parked_ends.dead_lettered,
            Column::ParkedPoison => counts.parked_ends.poison,
            Column::ParkedDropped => counts.parked_ends.dropped,
        }
    }
}

/// The stored form: a version, the position that the totals belong to, the columns.
pub fn encode(counts: &Counts, position: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + 8 * COLUMNS.len());
    out.push(VERSION);
    out.extend_from_slice(&position.to_le_bytes());
    for column in COLUMNS {
        out.extend_from_slice(&column.get(counts).to_le_bytes());
    }
    out
}

/// Reads the stored form into the counts; columns that were not stored are zero. Tells the position.
/// What cannot be read, or was never written, starts from nothing.
pub fn decode(stored: &[u8], counts: &mut Counts) -> Option<u64> {
    let (values, version) = stored.split_first().map_or((&[][..], VERSION), |(version, rest)| (rest, *version));
    let values = if version == VERSION { values } else { &[] };
    let mut values = values.chunks_exact(8).map(|value| u64::from_le_bytes(value.try_into().expect("eight bytes")));
    let position = values.next();
    for column in COLUMNS {
        let value = values.next().unwrap_or(0);
        // A word that never occurred has no line on the metrics page.
        if value > 0 || column.get(counts) > 0 {
            *column.of(counts) = value;
        }
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Cause;

    #[test]
    fn totals_read_as_they_were_written_and_fit_beside_the_cursor() {
        let mut counts = Counts { delivered: 7, retries: 3, ..Counts::default() };
        counts.filtered.insert("where", 4);
        counts.dropped.insert("poison", 2);
        counts.errors.insert("timeout", 1);
        let stored = encode(&counts, 99);
        assert!(stored.len() <= 512);
        let mut read = Counts::default();
        assert_eq!(decode(&stored, &mut read), Some(99));
        assert_eq!(read, counts);
    }

    #[test]
    fn whatever_the_journal_may_drop_is_in_the_totals() {
        for cause in [Cause::Damaged, Cause::BufferFull, Cause::JournalFull, Cause::Gone, Cause::Removed] {
            let counts = Counts { dropped: [(cause.word(), 3)].into(), ..Counts::default() };
            let mut read = Counts::default();
            assert_eq!(decode(&encode(&counts, 0), &mut read), Some(0));
            assert_eq!(read, counts, "{cause:?}");
        }
    }

    #[test]
    fn totals_of_an_older_agent_have_fewer_columns() {
        let stored = &encode(&Counts { delivered: 7, retries: 3, ..Counts::default() }, 5)[..17];
        let mut read = Counts::default();
        assert_eq!(decode(stored, &mut read), Some(5));
        assert_eq!((read.delivered, read.retries), (7, 0));
        assert_eq!(decode(&[], &mut Counts::default()), None);
    }
}
