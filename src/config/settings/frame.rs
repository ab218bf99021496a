//! The keys common to all sinks: inputs, batching, retry, buffer.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::journal::WhenFull;
use crate::delivery::policy::{self, Policy};
use crate::diagnostic::Spanned;
use crate::journal::{self, BufferBound};
use crate::net::tls::Trust;
use crate::secret::Secret;
use crate::units::{ByteSize, Duration, Rate};

/// The keys that every sink has.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SinkFrame {
    /// Size of a write. Where it is not set, a `file` sink writes up to 4 MiB at once while more waits in memory.
    pub batch: Batch,
    /// How failed writes are retried.
    pub retry: Retry,
    /// Concurrent writes: a number, or `adaptive` (by round-trip time). Above 1 the order of events is not kept, and
    /// while one write hangs, up to four batches per concurrent write are written after it, which a crash repeats.
    pub concurrency: Concurrency,
    /// Maximum rate of events, such as `100/s`.
    pub rate: Option<Rate>,
    /// Query of the events to deliver; others are filtered.
    #[serde(rename = "where")]
    #[schemars(with = "Option<String>")]
    pub filter: Option<Spanned<String>>,
    /// Timeout of one write.
    pub timeout: Duration,
    /// TLS settings.
    pub tls: Option<Trust>,
    /// HTTP proxy, `http://host:port`.
    pub proxy: Option<Secret<String>>,
    /// Whether events that the target refuses go to the dead-letter queue; otherwise they are dropped and counted.
    pub dead_letter: bool,
    /// Limits of what may wait for this sink.
    pub buffer: Buffer,
    /// Where a sink that is new to the journal starts: at new events (`end`) or at the oldest event in the journal.
    pub start: Start,
    /// What happens to waiting events when the sink is removed from the configuration. If absent, the removal is
    /// refused while there are any.
    pub on_remove: Option<OnRemove>,
}

impl Default for SinkFrame {
    fn default() -> SinkFrame {
        SinkFrame {
            batch: Batch::default(),
            retry: Retry::default(),
            concurrency: Concurrency::default(),
            rate: None,
            filter: None,
            timeout: Duration::from_secs(60),
            tls: None,
            proxy: None,
            dead_letter: true,
            buffer: Buffer::default(),
            start: Start::default(),
            on_remove: None,
        }
    }
}

/// The keys that every transform has which remembers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StageFrame {
    /// Limits of its state.
    pub state: StateBounds,
    /// What happens to waiting and held events when the transform is removed from the configuration. If absent, the
    /// removal is refused while there are any.
    pub on_remove: Option<OnRemove>,
}

/// How much a transform may remember; beyond it what was touched the longest ago goes, with a count and a line in the log.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateBounds {
    /// Maximum number of entries: open operations, keys or groups.
    pub entries: NonZeroU32,
    /// Maximum size; at most a sixteenth of `limits.memory` and a sixty-fourth of `journal.max_bytes`.
    pub bytes: ByteSize,
}

impl Default for StateBounds {
    fn default() -> StateBounds {
        StateBounds { entries: NonZeroU32::new(20_000).expect("it is not zero"), bytes: ByteSize::mib(8) }
    }
}

impl SinkFrame {
    /// The same as the delivery loop takes it; numbers below 1 were refused before.
    pub fn policy(&self) -> Policy {
        let at_least_one = |count: u32| NonZeroUsize::new(count as usize).unwrap_or(NonZeroUsize::MIN);
        let Batch { events, bytes, age } = self.batch;
        let Retry { initial, max, attempts } = self.retry;
        Policy {
            max_age: self.buffer.max_age.filter(|_| self.buffer.when_full == WhenFull::DropOldest).map(Into::into),
            batch: policy::Batching { events: at_least_one(events), bytes, age },
            retry: policy::Retry { initial, max, attempts: attempts.and_then(NonZeroU32::new) },
            concurrency: match self.concurrency {
                Concurrency::Fixed(count) => policy::Concurrency::Fixed(at_least_one(count)),
                Concurrency::Adaptive => policy::Concurrency::Adaptive,
            },
            rate: self.rate,
            timeout: self.timeout,
            dead_letter: self.dead_letter,
        }
    }
}

/// When a write is full: whichever comes first.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Batch {
    /// Maximum events per write.
    pub events: u32,
    /// Maximum bytes per write; a larger event is written alone.
    pub bytes: ByteSize,
    /// Maximum time an event waits for its batch to fill.
    pub age: Duration,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { events: 1000, bytes: ByteSize::mib(1), age: Duration::from_secs(1) }
    }
}

/// How a failed write is tried again: doubling waits with some chance in them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Retry {
    /// Initial delay.
    pub initial: Duration,
    /// Maximum delay.
    pub max: Duration,
    /// Attempts before an event becomes a dead letter; unlimited if absent.
    pub attempts: Option<u32>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { initial: Duration::from_secs(1), max: Duration::from_secs(30), attempts: None }
    }
}

impl Buffer {
    /// The same as the journal takes it; `None` if there is no bound.
    pub fn bound(&self) -> Option<BufferBound> {
        (self.max_bytes.is_some() || self.max_age.is_some()).then(|| BufferBound {
            max_bytes: self.max_bytes.map(ByteSize::bytes),
            max_age: self.max_age.map(Into::into),
            when_full: self.when_full.into(),
        })
    }
}

impl From<Start> for journal::Start {
    fn from(start: Start) -> journal::Start {
        match start {
            Start::End => journal::Start::End,
            Start::Oldest => journal::Start::Oldest,
        }
    }
}

/// Writes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    Fixed(u32),
    Adaptive,
}

impl Default for Concurrency {
    fn default() -> Concurrency {
        Concurrency::Fixed(1)
    }
}

impl<'de> Deserialize<'de> for Concurrency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Concurrency, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(0) => Err(serde::de::Error::custom("expected at least 1")),
            Ok(count) => Ok(Concurrency::Fixed(count)),
            Err(_) if text == "adaptive" => Ok(Concurrency::Adaptive),
            Err(_) => Err(serde::de::Error::custom(format!("expected a number or `adaptive`, got `{text}`"))),
        }
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Concurrency::Fixed(count) => write!(f, "{count}"),
            Concurrency::Adaptive => f.write_str("adaptive"),
        }
    }
}

impl Serialize for Concurrency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Concurrency::Fixed(count) => serializer.serialize_u32(*count),
            Concurrency::Adaptive => serializer.serialize_str("adaptive"),
        }
    }
}

impl JsonSchema for Concurrency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Concurrency".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "adaptive" }] })
    }
}

/// How far a sink may fall behind; without bounds only the journal's own counts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Buffer {
    /// Maximum bytes that wait for this sink.
    pub max_bytes: Option<ByteSize>,
    /// Maximum age of a waiting event.
    pub max_age: Option<Duration>,
    /// What happens at either limit: `block` makes the sources that feed this sink wait until it has delivered, so that an
    /// HTTP source answers 429; `drop_oldest` drops the oldest events, or those that are too old, and counts them.
    pub when_full: WhenFull,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With events that come from now on.
    #[default]
    End,
    /// With the oldest event that the journal still has.
    Oldest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRemove {
    /// Write them first.
    Drain,
    /// Drop and count them.
    Drop,
}
