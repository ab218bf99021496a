//! The contracts: what a source, a transform, a stage, a sink and a reader are, and what each may use.

pub mod check;
pub mod entry;
pub mod failure;
pub mod reader;
pub mod refresh;
pub mod sink;
pub mod source;
pub mod stage;
pub mod state;
pub mod transform;

pub use check::Check;
pub use entry::{SinkEntry, SourceEntry, TransformEntry};
pub use failure::{Failure, Fatal};
pub use reader::{ReadOptions, Reader, UsersTable};
pub use sink::{
    AnySink, AnySinkConfig, BatchEvent, Findings, Left, Promise, Readable, RecordSlice, Sink, SinkContext, WriteBatch,
    Written,
};
pub use source::{
    AnySource, Chunk, Intake, Job, JobStatus, Marks, OnBad, Outcome, Prepared, Receipt, Source, SourceContext, Wait,
};
pub use stage::{AnyStage, Others, Stage, StageEntrance, Why};
pub use state::{Bounds, Changes, State, StateTag, Transaction};
pub use transform::{AnyTransform, DeadEvent, Outputs, Transform};
