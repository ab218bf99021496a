//! The agent about itself: the books of every component, what Prometheus reads, and the log.

pub mod books;
pub mod exposition;
pub mod log;
pub mod names;

pub use books::{Books, Counts, Health, Kind, Ledger, State};
pub use exposition::Exposition;
