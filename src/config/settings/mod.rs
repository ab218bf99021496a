//! The top-level keys of a configuration; the structs' doc comments are the manual.

mod api;
mod frame;
mod journal;
mod pipeline_test;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use api::{Anonymous, Api, Auth, Cors, RoleTable, Roles};
pub use frame::{Batch, Buffer, Concurrency, OnRemove, Retry, SinkFrame, StageFrame, Start, StateBounds};
pub use journal::{Codec, Journal, Keep, Mode, WhenFull};
pub use pipeline_test::{EventText, Expectation, Input, Test};

use crate::units::{ByteSize, Duration};

/// How Weir runs: where it keeps its data, how much it may use, how it is reached.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Folder for the journal, the dead letters and the API's secret. Created with mode 0700.
    pub data_dir: PathBuf,
    /// The write-ahead log between transforms and sinks; an event in it is durable.
    pub journal: Journal,
    /// Health, metrics, live streams and queries over HTTP.
    pub api: Api,
    /// Weir's own log, on stderr.
    pub log: Log,
    /// Resource limits of the process.
    pub limits: Limits,
    /// Tests of this configuration, run by `weir test`.
    pub tests: Vec<Test>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            data_dir: "weir-data".into(),
            journal: Journal::default(),
            api: Api::default(),
            log: Log::default(),
            limits: Limits::default(),
            tests: Vec::new(),
        }
    }
}

/// Weir's own log, on stderr.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Log {
    /// Minimum log level.
    pub level: Level,
    /// Line format; `auto` is text on a terminal and JSON otherwise.
    pub format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Auto,
    Text,
    Json,
}

/// Resource limits of the process.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Memory limit of the whole process.
    pub memory: ByteSize,
    /// Maximum size of an event; sources refuse larger ones.
    pub event: ByteSize,
    /// How long shutdown waits for writes in flight.
    pub shutdown_timeout: Duration,
    /// Threads for decoding and transforms. Default: the number of available cores.
    pub threads: Option<u32>,
    /// Whether a configuration is refused in which a path from a source to a sink has no `redact` transform.
    pub require_redact: bool,
    /// Whether a crash may write a core dump, which would contain events and secrets.
    pub core_dumps: bool,
}

/// More threads than this help nobody.
const MAX_THREADS: usize = 64;

impl Limits {
    /// How many data threads there are.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, |threads| threads as usize).clamp(1, MAX_THREADS)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: ByteSize::mib(256),
            event: ByteSize::mib(1),
            shutdown_timeout: Duration::from_secs(10),
            threads: None,
            require_redact: false,
            core_dumps: false,
        }
    }
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> tracing::Level {
        match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        }
    }
}

impl From<Format> for crate::telemetry::log::Format {
    fn from(format: Format) -> crate::telemetry::log::Format {
        match format {
            Format::Auto => crate::telemetry::log::Format::fitting(),
            Format::Text => crate::telemetry::log::Format::Text,
            Format::Json => crate::telemetry::log::Format::Json,
        }
    }
}
