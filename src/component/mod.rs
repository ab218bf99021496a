//! The contracts: what a source, a transform and a sink are, and what each may use.

pub mod check;
pub mod door;
pub mod entry;
pub mod failure;
#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod holes_test;
pub mod lane;
pub mod ledger;
pub mod reply;
pub mod sink;
pub mod source;
pub mod transform;

pub use check::Check;
pub use door::Door;
pub use entry::{SinkEntry, SourceEntry, TransformEntry};
pub use failure::{Failure, Fatal};
pub use lane::Lane;
pub use sink::{AnySink, AnySinkConfig, Cut, CutEvent, Findings, Promise, Sink, SinkContext, Slice, Written};
pub use source::{
    AnySource, Intake, Job, Marks, OnBad, Outcome, Piece, Receipt, RoomError, Source, SourceContext, Verdict, Wait,
};
pub use transform::{AnyTransform, DeadEvent, Outputs, Transform};
