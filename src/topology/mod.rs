//! A plan, running: sources over data threads into the journal, and a delivery loop for every sink.

pub mod flow;
pub mod pool;
