//! What the delivery loop needs of the journal: the next records, and where to report progress.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::journal::{Cursor, Gap, Journal, ReadError, Record};

/// One consumer's way through one stream. The journal's cursor is one; tests have another.
pub trait Feed: Send + 'static {
    /// Waits for the next records: about `max_bytes` of lines, at least one record.
    /// Returns none when an acknowledgement begins to wait for delivery.
    /// May be dropped and called again without losing a record.
    fn next(&mut self, max_bytes: usize) -> impl Future<Output = Result<Vec<Arc<Record>>, FeedError>> + Send;

    /// Every event before `seq_end` has ended. `totals` are saved with the position, `memory` no later.
    /// No `memory` leaves the last one.
    fn settle(&mut self, seq_end: u64, totals: &[u8], memory: Option<Bytes>);

    /// Starts again at the position, forgetting what was returned since.
    fn rewind(&mut self);

    /// The first `seq` that has not ended; the first record may begin before it.
    fn position(&self) -> u64;

    /// The position on the disk, which follows the other within a second: a crash begins there again.
    fn saved_position(&self) -> u64;

    /// What was given to `settle` last, in this process or the one before.
    fn totals(&self) -> Vec<u8>;

    fn memory(&self) -> Option<Bytes>;

    /// Events of the stream at or behind the position.
    fn waiting_events(&self) -> u64;

    /// Whether an acknowledgement waits for delivery, so that an idle sink writes at once.
    fn is_eager(&self) -> bool;

    /// What was skipped since the last call without being returned.
    fn take_gaps(&mut self) -> Vec<Skipped>;
}

/// Events that a sink will not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The `seq` behind them.
    pub seq_end: u64,
    pub events: u64,
    /// The cause in the event accounting.
    pub cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedError {
    /// There will be no more records.
    Closed,
    /// The records could not be read now.
    Unreadable(String),
}

impl Feed for (Journal, Cursor) {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Arc<Record>>, FeedError> {
        let (journal, cursor) = self;
        // Who begins to wait while an event waits for company should not wait for the age too.
        let waited_for = journal.somebody_waits();
        tokio::select! {
            records = cursor.next(max_bytes) => records.map_err(|error| match error {
                ReadError::Closed => FeedError::Closed,
                ReadError::Io(error) => FeedError::Unreadable(error.to_string()),
            }),
            () = journal.eager(), if !waited_for => Ok(Vec::new()),
        }
    }

    fn settle(&mut self, seq_end: u64, totals: &[u8], memory: Option<Bytes>) {
        self.1.settle(seq_end, totals, memory);
    }

    fn rewind(&mut self) {
        self.1.rewind_to_settled();
    }

    fn position(&self) -> u64 {
        self.1.position()
    }

    fn saved_position(&self) -> u64 {
        self.1.saved_position()
    }

    fn totals(&self) -> Vec<u8> {
        self.1.totals().to_vec()
    }

    fn memory(&self) -> Option<Bytes> {
        self.1.state()
    }

    fn waiting_events(&self) -> u64 {
        self.1.waiting_events()
    }

    fn is_eager(&self) -> bool {
        self.0.somebody_waits()
    }

    fn take_gaps(&mut self) -> Vec<Skipped> {
        let skipped = |gap: Gap| Skipped { seq_end: gap.seqs.end, events: gap.events, cause: gap.cause.word() };
        self.1.take_gaps().into_iter().map(skipped).collect()
    }
}
