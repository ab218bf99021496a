//! Telemetry of the agent itself: event accounting, Prometheus metrics, log.

pub mod accounting;
pub mod exposition;
mod folding;
pub mod histogram;
pub mod log;
mod measured;
pub mod names;
mod page;
pub mod panics;
mod parked;
mod text_format;

pub use accounting::{Accounting, ComponentKind, ComponentMetrics, ComponentState, Counts, Health};
pub use folding::Folding;
pub use histogram::Histogram;
pub use measured::{Measured, MetricSpec};
pub use parked::ParkedEnds;
