//! A plan, running: sources over data threads into the journal, and a delivery loop for every sink.

mod agent;
mod flow;
mod intake;
#[cfg(test)]
mod interleaving;
mod letters;
mod notes;
mod pool;
mod purses;
mod sinks;
mod sources;
mod wiring;

pub use agent::{Agent, Reloaded, StartError, Stopped, make_private_folder};
pub use intake::SourceIntake;
