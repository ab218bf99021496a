//! A running plan: sources, data threads, the journal, and a delivery loop per sink.

mod agent;
mod change;
mod dead_letters;
mod flow;
mod intake;
#[cfg(test)]
mod interleaving;
mod leaving;
mod left_behind;
mod memory;
mod notes;
mod pool;
mod process;
mod readers;
mod refresh;
mod retired;
mod sinks;
mod snapshots;
mod sources;
mod stages;
mod taps;
mod trial;
mod watch;
mod wiring;

pub use agent::{Agent, Reloaded, StartError, Stopped, Watched, make_private_folder};
pub use dead_letters::Dropped;
pub use intake::SourceIntake;
pub use left_behind::StoreFolders;
pub use snapshots::snapshots_file;
pub use taps::Watch;
pub use trial::{Outcome, RECEIVED_AT, Trial};
pub use watch::Standstill;
