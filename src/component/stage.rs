//! Stages, the transforms that remember: each is a cursor over one journal stream that appends to others; its state
//! change, position and output are one commit.

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::check::Check;
use super::failure::Failure;
use super::state::Transaction;
use super::transform::{AnyTransform, Outputs};
use crate::event::Batch;

/// What becomes of the events that a stage does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They leave at once, by the default output.
    Pass,
    /// They end here.
    Filter,
}

/// Why an entry of the state is handed back to its stage, which removes it or puts it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time has come.
    Due,
    /// The state is over its bound; the entry goes, whatever the stage does.
    Evicted,
    /// The stage ends for good; the entry goes, whatever the stage does.
    Released,
}

pub trait Stage: Send + Sync + Sized + 'static {
    /// The word for `type:`.
    const TYPE: &'static str;
    const OTHERS: Others = Others::Pass;
    /// Names of outputs beside the default one.
    const OUTPUTS: &'static [&'static str] = &[];
    type Config: DeserializeOwned + JsonSchema;

    /// Turns configuration into a stage, or adds to the problems.
    fn build(config: Self::Config, check: &mut Check) -> Option<Self>;

    /// Which events of a split batch it takes; one flag for each is pushed.
    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>) {
        taken.resize(batch.len(), true);
    }

    /// Takes the events of a split batch in order. What it gives depends on the events and the state alone, so that
    /// the same step made again after a crash gives the same events under the same ids. If this fails or panics, it
    /// runs again event by event, and the events it fails on become dead letters.
    fn step(&self, batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure>;

    /// An entry of the state is due, or has to go. What is emitted counts as made.
    fn due(&self, key: &[u8], value: &Bytes, why: Why, state: &mut Transaction<'_>, out: &mut Outputs);

    /// How many events an entry holds that the stage has taken and not emitted yet.
    fn held(&self, _value: &Bytes) -> u64 {
        0
    }

    /// Events of an entry that reports show before the stage emits them.
    fn open(&self, _value: &Bytes) -> Vec<Bytes> {
        Vec::new()
    }
}

/// The boxed form.
pub trait AnyStage: Send + Sync {
    fn type_name(&self) -> &'static str;
    fn others(&self) -> Others;
    fn outputs(&self) -> &'static [&'static str];
    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>);
    fn step(&self, batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure>;
    fn due(&self, key: &[u8], value: &Bytes, why: Why, state: &mut Transaction<'_>, out: &mut Outputs);
    fn held(&self, value: &Bytes) -> u64;
    fn open(&self, _value: &Bytes) -> Vec<Bytes> {
        Vec::new()
    }
}

impl<S: Stage> AnyStage for S {
    fn type_name(&self) -> &'static str {
        S::TYPE
    }

    fn others(&self) -> Others {
        S::OTHERS
    }

    fn outputs(&self) -> &'static [&'static str] {
        S::OUTPUTS
    }

    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>) {
        Stage::takes(self, batch, taken);
    }

    fn step(&self, batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure> {
        Stage::step(self, batch, state, out)
    }

    fn due(&self, key: &[u8], value: &Bytes, why: Why, state: &mut Transaction<'_>, out: &mut Outputs) {
        Stage::due(self, key, value, why, state, out);
    }

    fn held(&self, value: &Bytes) -> u64 {
        Stage::held(self, value)
    }

    fn open(&self, value: &Bytes) -> Vec<Bytes> {
        Stage::open(self, value)
    }
}

/// A stage as a part of the flow behind a source: it sorts out which events the stage takes. These go to the port behind
/// its outputs, whose stream the stage's cursor reads.
pub struct StageEntrance(pub Arc<dyn AnyStage>);

impl StageEntrance {
    fn input_port(&self) -> usize {
        self.0.outputs().len() + 1
    }
}

impl AnyTransform for StageEntrance {
    fn type_name(&self) -> &'static str {
        self.0.type_name()
    }

    fn outputs(&self) -> Vec<String> {
        self.0.outputs().iter().map(|output| (*output).to_owned()).collect()
    }

    fn needs_fields(&self) -> bool {
        true
    }

    fn redact_text(&self, _text: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn stage(&self) -> Option<&Arc<dyn AnyStage>> {
        Some(&self.0)
    }

    fn apply(&self, mut batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        let mut taken = Vec::with_capacity(batch.len());
        self.0.takes(&batch, &mut taken);
        let others = taken.iter().filter(|taken| !**taken).count();
        if others > 0 {
            match self.0.others() {
                Others::Filter => out.filtered("unmatched", others as u64),
                Others::Pass => {
                    let mut others = batch.clone();
                    others.retain(|event| !taken[event]);
                    out.emit(others);
                }
            }
            batch.retain(|event| taken[event]);
        }
        out.emit_to(self.input_port(), batch);
        Ok(())
    }
}
