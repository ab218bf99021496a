//! The catalogue of sinks: one file each.

#![deny(clippy::let_underscore_must_use, clippy::unused_result_ok)]

use crate::component::SinkEntry;

pub mod alert;
pub mod blackhole;
pub mod console;
pub mod elasticsearch;
pub mod file;
pub mod http;
pub mod kafka;
pub mod postgres;
pub mod splunk_hec;
pub mod sse;
pub mod store;

/// Every type of sink, by its word in the configuration.
pub const CATALOGUE: &[SinkEntry] = &[
    SinkEntry::of::<alert::Alert>(),
    SinkEntry::of::<blackhole::Blackhole>(),
    SinkEntry::of::<console::Console>(),
    SinkEntry::of::<elasticsearch::Elasticsearch>(),
    SinkEntry::of::<file::File>(),
    SinkEntry::of::<http::Http>(),
    SinkEntry::of::<kafka::Kafka>(),
    SinkEntry::of::<postgres::Postgres>(),
    SinkEntry::of::<splunk_hec::SplunkHec>(),
    SinkEntry::of::<sse::Sse>(),
    SinkEntry::of::<store::StoreSink>(),
];
