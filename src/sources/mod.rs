//! The catalogue of sources: one file each.

use crate::component::SourceEntry;

/// Every type of source, by its word in the configuration.
pub const CATALOGUE: &[SourceEntry] = &[];
