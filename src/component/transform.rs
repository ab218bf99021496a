//! Stateless transforms: a plain function from one batch to batches.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::check::Check;
use super::failure::Failure;
use super::refresh::Refresh;
use super::stage::AnyStage;
use crate::codec::redaction::Finding;
use crate::event::Batch;
use crate::telemetry::Measured;

pub trait Transform: Send + Sync + Sized + 'static {
    /// The word for `type:`.
    const TYPE: &'static str;
    type Config: DeserializeOwned + JsonSchema;

    /// Turns configuration into a transform, or adds to the problems.
    fn build(config: Self::Config, check: &mut Check) -> Option<Self>;

    /// Names of outputs besides the default one (`route` has these).
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether events are passed on whole and in place, so that nothing needs to be split for it.
    fn needs_fields(&self) -> bool {
        true
    }

    /// Files that its configuration names by path: what they hold belongs to the configuration.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What it reads again once in a while.
    fn refresh(&self) -> Option<Refresh> {
        None
    }

    /// For a transform that redacts: the same rules over raw text, so that a dead letter is as safe as an event.
    fn redact_text(&self, _text: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// For a transform that redacts: what it would redact in a line, and why.
    fn explain(&self, _line: &[u8]) -> Vec<Finding> {
        Vec::new()
    }

    /// Runs over a batch that is split into fields (if `needs_fields`). If this fails or panics, the wiring
    /// runs it again event by event and gives the events it fails on to the dead-letter queue.
    fn apply(&self, batch: Batch, out: &mut Outputs) -> Result<(), Failure>;
}

/// What a transform gives back. The accounting follows from it: every event of the input must be emitted,
/// filtered or dead; what is emitted beyond the input was made.
#[derive(Default)]
pub struct Outputs {
    /// Port 0 is the default output, port n the n-th of `outputs()`.
    pub emitted: Vec<(usize, Batch)>,
    /// Reason and count of the events that end here on purpose.
    pub filtered: Vec<(&'static str, u64)>,
    pub dead: Vec<DeadEvent>,
    /// Rule and count of what was redacted, for the metrics.
    pub redactions: Vec<(String, u64)>,
    /// What the operator's own metrics take from these events.
    pub measured: Measured,
}

/// An event that a transform cannot pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadEvent {
    /// The event as a JSON line, without the line break.
    pub line: Vec<u8>,
    /// Its ordinal in its origin.
    pub ordinal: u64,
    pub reason: String,
}

impl Outputs {
    pub fn emit(&mut self, batch: Batch) {
        self.emit_to(0, batch);
    }

    pub fn emit_to(&mut self, port: usize, batch: Batch) {
        if !batch.is_empty() {
            self.emitted.push((port, batch));
        }
    }

    pub fn filtered(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            self.filtered.push((reason, count));
        }
    }

    pub fn dead(&mut self, batch: &Batch, event: usize, reason: impl Into<String>) {
        let mut line = Vec::new();
        batch.render_event(event, &mut line);
        self.dead.push(DeadEvent { line, ordinal: batch.ordinal(event), reason: reason.into() });
    }
}

/// The boxed form.
pub trait AnyTransform: Send + Sync {
    fn type_name(&self) -> &'static str;

    /// The stage that events enter here, if this is one.
    fn stage(&self) -> Option<&Arc<dyn AnyStage>> {
        None
    }

    fn outputs(&self) -> Vec<String>;
    fn needs_fields(&self) -> bool;
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
    fn refresh(&self) -> Option<Refresh> {
        None
    }
    fn redact_text(&self, text: &[u8]) -> Option<Vec<u8>>;
    fn explain(&self, _line: &[u8]) -> Vec<Finding> {
        Vec::new()
    }
    fn apply(&self, batch: Batch, out: &mut Outputs) -> Result<(), Failure>;
}

impl<T: Transform> AnyTransform for T {
    fn type_name(&self) -> &'static str {
        T::TYPE
    }

    fn outputs(&self) -> Vec<String> {
        Transform::outputs(self)
    }

    fn needs_fields(&self) -> bool {
        Transform::needs_fields(self)
    }

    fn files(&self) -> Vec<PathBuf> {
        Transform::files(self)
    }

    fn refresh(&self) -> Option<Refresh> {
        Transform::refresh(self)
    }

    fn redact_text(&self, text: &[u8]) -> Option<Vec<u8>> {
        Transform::redact_text(self, text)
    }

    fn explain(&self, line: &[u8]) -> Vec<Finding> {
        Transform::explain(self, line)
    }

    fn apply(&self, batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        Transform::apply(self, batch, out)
    }
}
