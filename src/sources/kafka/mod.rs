//! `kafka`: reads topics as a member of a consumer group.
//!
//! What to know before changing it:
//! - An offset is committed when the journal has everything before it, and `lane` decides what that is.
//! - The journal knows better than the group how far this agent has read, because a position stands there with the
//!   events themselves; `place` says when it counts.
//! - All of the consumer's callbacks come while it is polled, on the thread that polls it.

mod consumer;
mod given;
mod lane;
mod place;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::codec::framing::Framing;
use crate::codec::{Codec, Decoder};
use crate::component::{Check, Fatal, Source, SourceContext};
use crate::net::Sockets;
use crate::net::kafka::{Access, Options, Reserved, Sasl};
use crate::net::tls::{self, Trust};
use crate::units::{OneOrMany, one_or_many};

/// How long leaving the group may take when the source stops.
const LEAVE: Duration = Duration::from_secs(4);

/// Reads Kafka topics as a member of a consumer group. Offsets are committed once their events are durable in the
/// journal. An event's id is the header `weir-id` (written into the event if it has another or none), else its own,
/// else derived from topic, partition and offset, so that a message that is read twice has the same id. Messages
/// without a value are skipped and counted as refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Bootstrap brokers, as `host:port`.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub brokers: Vec<String>,
    /// Topics to read; a name that starts with `^` is a regular expression.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub topics: Vec<String>,
    /// Consumer group; its members share the partitions.
    pub group: String,
    /// Format of a message.
    #[serde(default)]
    pub codec: Codec,
    /// Where the group starts in a partition without a committed offset.
    #[serde(default)]
    pub start: Start,
    /// What happens when the next message was removed by retention: `stop` stops reading the partition until an
    /// operator decides, `oldest` continues with the oldest message, `end` with new ones.
    #[serde(default)]
    pub out_of_range: OutOfRange,
    /// TLS settings. Without them connections are not encrypted.
    #[serde(default)]
    pub tls: Option<Trust>,
    /// SASL authentication.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// Further librdkafka options, such as `session.timeout.ms: 10000`. Their values are never shown.
    #[serde(default)]
    pub options: Options,
}

/// Where a group begins that is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest message there is.
    #[default]
    Oldest,
    /// With messages that come from now on.
    End,
}

/// What happens when the next message is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutOfRange {
    #[default]
    Stop,
    Oldest,
    End,
}

/// Options that would break what the source promises, or are keys of its own.
const RESERVED: &[Reserved] = &[
    ("group.id", "it is the source's own key `group`"),
    ("enable.auto.commit", "offsets are committed when their events are in the journal"),
    ("auto.commit.interval.ms", "offsets are committed when their events are in the journal"),
    ("enable.auto.offset.store", "offsets are committed when their events are in the journal"),
    ("auto.offset.reset", "see `start` and `out_of_range`"),
    ("enable.partition.eof", "expected at least one topic"),
];

/// Settings that the options may change.
const SETTINGS: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    // What librdkafka reads ahead is memory that no budget knows.
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "8388608"),
    ("fetch.queue.backoff.ms", "10"),
    // A topic that appears is found soon.
    ("topic.metadata.refresh.interval.ms", "10000"),
];

/// Reads topics.
pub struct Kafka {
    config: Config,
    decoder: Arc<dyn Decoder>,
}

impl Config {
    fn access(&self) -> Access<'_> {
        Access { brokers: &self.brokers, trust: self.tls.as_ref(), sasl: self.sasl.as_ref(), options: &self.options }
    }
}

impl Source for Kafka {
    const TYPE: &'static str = "kafka";
    const RESUMES: bool = true;
    type Config = Config;
    type Prepared = ();

    fn build(config: Config, check: &mut Check) -> Option<Kafka> {
        let before = check.problems.count_errors();
        for (path, message) in config.access().problems(RESERVED) {
            check.problem(path, message);
        }
        if config.topics.is_empty() {
            check.problem("topics", "expected at least one topic");
        }
        if config.group.is_empty() {
            check.problem("group", "expected a group name");
        }
        // A message is a frame.
        super::check_codec(&config.codec, Framing::Length, check)?;
        let decoder = Arc::from(config.codec.decoder());
        (check.problems.count_errors() == before).then_some(Kafka { config, decoder })
    }

    fn files(&self) -> Vec<PathBuf> {
        self.config.tls.iter().flat_map(Trust::files).collect()
    }

    fn check_files(&self) -> Result<(), String> {
        self.config.tls.as_ref().map(tls::client).transpose().map(drop)
    }

    /// Brokers may be away: only what is on this machine is looked at.
    async fn prepare(&self, _: &Sockets) -> Result<(), Fatal> {
        Source::check_files(self).map_err(Fatal)
    }

    /// The consumer has a thread of its own: its callbacks wait for the journal, and polling it blocks.
    async fn run(self: Arc<Kafka>, (): (), cx: SourceContext) -> Result<(), Fatal> {
        let (ended, end) = oneshot::channel();
        let (runtime, shutdown) = (Handle::current(), cx.shutdown.clone());
        let thread = std::thread::Builder::new().name(format!("kafka {}", cx.name)).spawn(move || {
            cx.ready();
            session::run(&self.config, &self.decoder, &cx, &runtime);
            // Nobody listens any more if the source was dropped.
            let _ = ended.send(());
        });
        thread.map_err(|error| Fatal(format!("cannot start a thread: {error}")))?;
        let late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(LEAVE).await;
        };
        tokio::select! {
            ended = end => ended.map_err(|_| Fatal("a bug in weir: the reading thread panicked".into())),
            // The group notices by itself that we are gone.
            () = late => Ok(()),
        }
    }
}
