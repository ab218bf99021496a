//! The catalogue of transforms: one file each.

pub mod dedupe;
pub mod detect;
pub mod enrich;
pub mod filter;
pub mod metrics;
pub mod normalize;
pub mod operations;
pub mod redact;
pub mod reduce;
pub mod route;
pub mod truncate;

use crate::component::TransformEntry;
#[cfg(test)]
pub(crate) use crate::toolkit::testing;

/// Every type of transform, by its word in the configuration.
pub const CATALOGUE: &[TransformEntry] = &[
    TransformEntry::of_stage::<dedupe::Dedupe>(),
    TransformEntry::of_stage::<detect::Detect>(),
    TransformEntry::of::<enrich::Enrich>(),
    TransformEntry::of::<filter::Filter>(),
    TransformEntry::of::<metrics::Metrics>(),
    TransformEntry::of::<normalize::Normalize>(),
    TransformEntry::of_stage::<operations::Operations>(),
    TransformEntry::of::<redact::Redact>(),
    TransformEntry::of_stage::<reduce::Reduce>(),
    TransformEntry::of::<route::Route>(),
    TransformEntry::of::<truncate::Truncate>(),
];
