//! What the loop needs of the journal: records to come, and a place to say how far it is.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::journal::Record;

/// One consumer's way through one stream. The journal's cursor is one; tests have another.
pub trait Feed: Send + 'static {
    /// Waits for records behind those given so far: about `max_bytes` of lines, at least one record.
    /// Returns with none when somebody begins to wait for delivery.
    /// May be dropped and called again without losing a record.
    fn next(&mut self, max_bytes: usize) -> impl Future<Output = Result<Vec<Arc<Record>>, FeedError>> + Send;

    /// Every event before `seq_end` has ended. `totals` and `memory` are saved no later than the position.
    fn settle(&mut self, seq_end: u64, totals: &[u8], memory: Option<Bytes>);

    /// Begins again at the position, forgetting what was given since.
    fn rewind(&mut self);

    /// The first `seq` that has not ended; the first record may begin before it.
    fn position(&self) -> u64;

    /// What was given to `settle` last, in this process or the one before.
    fn totals(&self) -> Vec<u8>;

    /// The sink's memory with the `seq` it was saved at, which a crash may leave ahead of the position.
    fn memory(&self) -> Option<(u64, Bytes)>;

    /// Events of the stream at or behind the position.
    fn waiting_events(&self) -> u64;

    /// Whether somebody waits for delivery, so that an idle sink should not wait for company.
    fn is_eager(&self) -> bool;

    /// Why events were passed over without being given: the cause in the books.
    fn gap_cause(&self) -> &'static str;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedError {
    /// There will be no more records.
    Closed,
    /// The records could not be read now.
    Unreadable(String),
}
