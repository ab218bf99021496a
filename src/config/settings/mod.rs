//! The top level of a configuration, apart from its components: the structs are the manual.

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
    /// Folder for the journal, the dead letters and the secret of the API. It is made with mode 0700.
    pub data_dir: PathBuf,
    /// The log between transforms and sinks, in which every event is durable.
    pub journal: Journal,
    /// Health, metrics, live streams and queries over HTTP.
    pub api: Api,
    /// What Weir says about itself on stderr.
    pub log: Log,
    /// Bounds of the process.
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

/// What Weir says about itself on stderr.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Log {
    /// The least important level that is said.
    pub level: Level,
    /// How a line looks; `auto` is text for a terminal and JSON otherwise.
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

/// Bounds of the process.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Memory of the whole process.
    pub memory: ByteSize,
    /// The largest event; a larger one is refused by the source.
    pub event: ByteSize,
    /// How long a stop waits for writes in flight.
    pub shutdown_timeout: Duration,
    /// Threads that decode and transform; without it as many as the process may use cores.
    pub threads: Option<u32>,
    /// Whether every way from a source to a sink must pass a `redact` transform.
    pub require_redact: bool,
    /// Whether the system may write the memory of the process, with events and secrets in it, to disk when it crashes.
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
