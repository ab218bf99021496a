//! A component's entry in the catalogue: its name, its configuration type and how it is built.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::check::Check;
use super::sink::{AnySinkConfig, Configured, Sink};
use super::source::{AnySource, Source};
use super::stage::{Stage, StageEntrance};
use super::transform::{AnyTransform, Transform};
use crate::diagnostic::{self, Node, Problems};

type Build<T> = fn(&Node, &mut Check) -> Option<T>;

/// One type of component.
pub struct Entry<T> {
    /// The word for `type:`.
    pub type_name: &'static str,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Reads the component's own keys; `None` comes with at least one problem.
    pub build: Build<T>,
    /// Whether it is a transform that remembers, which has keys of the frame that others have not.
    pub remembers: bool,
}

pub type SourceEntry = Entry<Box<dyn AnySource>>;
pub type TransformEntry = Entry<Box<dyn AnyTransform>>;
pub type SinkEntry = Entry<Box<dyn AnySinkConfig>>;

impl SourceEntry {
    pub const fn of<S: Source>() -> SourceEntry {
        Entry {
            type_name: S::TYPE,
            schema: <S::Config as JsonSchema>::json_schema,
            build: |node, check| build(node, check, S::build).map(|source| Box::new(source) as _),
            remembers: false,
        }
    }
}

impl TransformEntry {
    pub const fn of<T: Transform>() -> TransformEntry {
        Entry {
            type_name: T::TYPE,
            schema: <T::Config as JsonSchema>::json_schema,
            build: |node, check| build(node, check, T::build).map(|transform| Box::new(transform) as _),
            remembers: false,
        }
    }

    /// A transform that remembers.
    pub const fn of_stage<S: Stage>() -> TransformEntry {
        Entry {
            type_name: S::TYPE,
            schema: <S::Config as JsonSchema>::json_schema,
            build: |node, check| {
                build(node, check, S::build).map(|stage| Box::new(StageEntrance(Arc::new(stage))) as _)
            },
            remembers: true,
        }
    }
}

impl SinkEntry {
    pub const fn of<S: Sink>() -> SinkEntry {
        Entry {
            type_name: S::TYPE,
            schema: <S::Config as JsonSchema>::json_schema,
            build: |node, check| {
                let configured = |config, check: &mut Check| {
                    S::check(&config, check);
                    (!check.problems.has_errors()).then(|| Box::new(Configured::<S>(config)) as _)
                };
                build(node, check, configured)
            },
            remembers: false,
        }
    }
}

/// Reads a component's configuration and builds it. If some of it cannot be read, the rest is checked all the same, so
/// that all its problems are reported at once.
fn build<C: DeserializeOwned, T>(
    node: &Node,
    check: &mut Check,
    build: impl FnOnce(C, &mut Check) -> Option<T>,
) -> Option<T> {
    let mut found = Problems::default();
    let read = diagnostic::read_anyway(node, &mut found);
    let is_whole = found.is_empty();
    check.problems.extend(found);
    let (config, unreliable) = read?;
    let mut beyond = Check::new(check.name.clone(), check.data_dir.clone(), check.durable);
    let built = build(config, &mut beyond);
    beyond.problems.forget(|problem| unreliable.may_cause(problem));
    check.problems.extend(beyond.problems);
    built.filter(|_| is_whole)
}
