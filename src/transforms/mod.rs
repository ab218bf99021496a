//! The catalogue of transforms: one file each.

use crate::component::TransformEntry;

/// Every type of transform, by its word in the configuration.
pub const CATALOGUE: &[TransformEntry] = &[];
