//! The catalogue of sinks: one file each.

use crate::component::SinkEntry;

/// Every type of sink, by its word in the configuration.
pub const CATALOGUE: &[SinkEntry] = &[];
