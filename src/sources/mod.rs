//! The catalogue of sources: one file each.

mod http;

use crate::component::SourceEntry;

/// Every type of source, by its word in the configuration.
pub const CATALOGUE: &[SourceEntry] = &[SourceEntry::of::<http::Http>()];
