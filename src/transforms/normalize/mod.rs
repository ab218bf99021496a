//! `normalize`: canonical names, ids, times and status values, however producers spell them.

mod normalizer;
mod plan;
#[cfg(test)]
mod tests;
mod value;

use schemars::JsonSchema;
use serde::Deserialize;

use self::normalizer::Normalizer;
use self::plan::Plans;
use crate::component::{Check, Failure, Outputs, Transform};
use crate::event::{Batch, Sender, Stamp};

/// Gives events canonical field names, an id, UTC timestamps and standard status values. Aliases are renamed in place.
/// A canonical name takes precedence over its aliases, and among aliases the first of the list; the others move to
/// `metadata` under their own names. A null counts as absent. An alias whose value has the wrong type (an object as
/// `user`, a word as `duration`) is treated as an unknown member. Moving a member to `metadata` never replaces an
/// existing one. A `metadata` that is not an object becomes the member `metadata` of one. A value that would be nested
/// too deeply there becomes its JSON text. If they are missing, these are added at the end: `id`, `timestamp`,
/// `received_at`, `source`, `peer_ip`, and `status` if it follows from `success`, an error or a `status_code` of 400 or
/// more. An `id` that is not a UUID or ULID is replaced by one derived from it and kept as `metadata.source_id`; a
/// timestamp that cannot be parsed is replaced by `received_at` and kept as `metadata.timestamp_original`.
/// `received_at`, `source` and `peer_ip` from a service or another agent are kept; from a user's own token they move to
/// `metadata`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How unknown top-level members are handled: moved into `metadata`, or kept where they are. (`seq` is always
    /// moved: it is reserved for readers.)
    pub unknown: Unknown,
}

/// Where unknown members go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    #[default]
    Metadata,
    Keep,
}

/// Whether the events may say where they were captured: only if their source knows it, or a service passes them on.
fn may_say_capture(stamp: &Stamp) -> bool {
    stamp.capture.is_some() || matches!(stamp.sender, Some(Sender::Service(_)))
}

pub struct Normalize {
    unknown: Unknown,
}

impl Transform for Normalize {
    const TYPE: &'static str = "normalize";
    type Config = Config;

    fn build(config: Config, _check: &mut Check) -> Option<Normalize> {
        Some(Normalize { unknown: config.unknown })
    }

    fn apply(&self, mut batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        let stamp = batch.provenance.stamp.as_deref();
        let mut plans = Plans::new(self.unknown, stamp.is_some_and(may_say_capture));
        let mut normalizer = Normalizer::new(&batch.provenance, self.unknown);
        for event in 0..batch.len() {
            let plan = plans.of(&batch, event);
            normalizer.normalize(&mut batch, event, plan);
        }
        out.emit(batch);
        Ok(())
    }
}
