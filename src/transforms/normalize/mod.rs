//! `normalize`: one set of names, ids, times and status words, however producers spell them.

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

/// Gives events canonical names, an id, times in UTC and plain status words.
///
/// Aliases take their canonical name and keep their place. A canonical member beats its alias, and among aliases the
/// first of their list wins; the loser goes to `metadata` under its own name. A null counts as absent. An alias whose
/// value cannot be what the name says (an object as `user`, a word as `duration`) is an unknown member.
/// What goes to `metadata` never replaces what is there. A `metadata` that is no object becomes the member
/// `metadata` of one. A value that would be nested too deeply there becomes its JSON
/// text.
///
/// Added, at the end and where they are missing: `id`, `timestamp`, `received_at`, `source`, `peer_ip`, and `status`
/// where `success`, an error or a `status_code` of 400 and more says it. An `id` that is no UUID or ULID is replaced
/// by one derived from it and kept as `metadata.source_id`; a time that cannot be read gives way to `received_at`
/// and is kept as `metadata.timestamp_original`. A service's or another agent's `received_at`, `source` and
/// `peer_ip` stand; those that a user's own token brings do not, and go to `metadata`.
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
