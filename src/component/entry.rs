//! A component's line in the catalogue: everything the house needs to offer it.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::check::Check;
use super::sink::{AnySinkConfig, Configured, Sink};
use super::source::{AnySource, Source};
use super::transform::{AnyTransform, Transform};
use crate::diagnostic::{self, Node};

type Build<T> = fn(&Node, &mut Check) -> Option<T>;

/// One type of component.
pub struct Entry<T> {
    /// The word for `type:`.
    pub type_name: &'static str,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Reads the component's own keys; `None` comes with at least one problem.
    pub build: Build<T>,
}

pub type SourceEntry = Entry<Box<dyn AnySource>>;
pub type TransformEntry = Entry<Box<dyn AnyTransform>>;
pub type SinkEntry = Entry<Box<dyn AnySinkConfig>>;

impl SourceEntry {
    pub const fn of<S: Source>() -> SourceEntry {
        Entry {
            type_name: S::TYPE,
            schema: <S::Config as JsonSchema>::json_schema,
            build: |node, check| {
                let config = diagnostic::read(node, &mut check.problems)?;
                S::build(config, check).map(|source| Box::new(source) as _)
            },
        }
    }
}

impl TransformEntry {
    pub const fn of<T: Transform>() -> TransformEntry {
        Entry {
            type_name: T::TYPE,
            schema: <T::Config as JsonSchema>::json_schema,
            build: |node, check| {
                let config = diagnostic::read(node, &mut check.problems)?;
                T::build(config, check).map(|transform| Box::new(transform) as _)
            },
        }
    }
}

impl SinkEntry {
    pub const fn of<S: Sink>() -> SinkEntry {
        Entry {
            type_name: S::TYPE,
            schema: <S::Config as JsonSchema>::json_schema,
            build: |node, check| {
                let config = diagnostic::read(node, &mut check.problems)?;
                let before = check.problems.count_errors();
                S::check(&config, check);
                (check.problems.count_errors() == before).then(|| Box::new(Configured::<S>(config)) as _)
            },
        }
    }
}
