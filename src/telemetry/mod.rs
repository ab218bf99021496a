//! The agent about itself: the books of every component, what Prometheus reads, and the log.

pub mod books;
pub mod exposition;
pub mod histogram;
pub mod log;
pub mod names;
mod page;

pub use books::{Books, Counts, Health, Kind, Ledger, State};
pub use histogram::Histogram;
