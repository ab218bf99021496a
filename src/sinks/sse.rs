//! Serves its inputs live at `/api/stream`. Live clients retain nothing, so every event passes at once.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{Check, Failure, Promise, Sink, SinkContext, WriteBatch, Written};

/// Server-sent events on the API.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Path of the stream on the API.
    pub path: String,
}

impl Default for Config {
    fn default() -> Config {
        Config { path: PATH.into() }
    }
}

/// The one path there is.
const PATH: &str = "/api/stream";

/// The fan-out reads the same streams by itself; this only lets the accounting and the cursor go on.
pub struct Sse;

impl Sink for Sse {
    const TYPE: &'static str = "sse";
    const PROMISE: Promise = Promise::BestEffort;
    const IS_LIVE: bool = true;
    type Config = Config;
    type Payload = ();

    fn check(config: &Config, check: &mut Check) {
        if config.path != PATH {
            check.problem("path", format!("live streams are served at `{PATH}`"));
        }
    }

    async fn open(_: &Config, _: &SinkContext) -> Result<Sse, Failure> {
        Ok(Sse)
    }

    fn encode(&self, _: &WriteBatch) -> Result<(), Failure> {
        Ok(())
    }

    async fn write(&self, _: &WriteBatch, (): &()) -> Result<Written, Failure> {
        Ok(Written::default())
    }
}
