//! Discards everything; for tests and measurements.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{Failure, Promise, Sink, SinkContext, WriteBatch, Written};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

pub struct Blackhole;

impl Sink for Blackhole {
    const TYPE: &'static str = "blackhole";
    const PROMISE: Promise = Promise::BestEffort;
    type Config = Config;
    type Payload = ();

    async fn open(_: &Config, _: &SinkContext) -> Result<Blackhole, Failure> {
        Ok(Blackhole)
    }

    fn encode(&self, _: &WriteBatch) -> Result<(), Failure> {
        Ok(())
    }

    async fn write(&self, batch: &WriteBatch, (): &()) -> Result<Written, Failure> {
        Ok(Written { bytes: batch.bytes() as u64, ..Written::default() })
    }
}
