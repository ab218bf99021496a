//! Produces to Kafka: one message per event, its id in the header `weir-id`, ordered within a session.
//!
//! What to know before changing it:
//! - The idempotent producer keeps messages from being doubled or reordered while it lives; it repeats by itself as
//!   long as a write lasts. Only what is given up (at the end of `timeout`, or where no broker can be reached for a
//!   while) may come a second time, with the same id.
//! - A producer that has given something up is never used again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::encoding::{Encoder, Encoding};
use crate::codec::name::{NameTemplate, Rules};
use crate::codec::template::{Malformed, Template};
use crate::component::sink;
use crate::component::{BatchEvent, Check, Failure, Promise, Sink, SinkContext, WriteBatch, Written};
use crate::net::kafka::{Access, Options, Reserved, Sasl};
use crate::units::{OneOrMany, one_or_many};

mod message;
mod outcome;
mod producer;

#[cfg(test)]
mod tests;

use message::Messages;
use producer::Producer;

/// Sends each event as one message, with its id in the header `weir-id`. Connections are encrypted if `tls` is set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Bootstrap brokers, as `host:port`.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub brokers: Vec<String>,
    /// Topic, a template over the event and its time, such as `activity-{{ metadata.tenant | none }}`. It must start
    /// with fixed text, so that no event can choose any topic.
    pub topic: String,
    /// Message key, such as `{{ user_id | none }}`; messages with the same key keep their order. Default: the event's
    /// `session_id`, else its `user_id`, else none.
    #[serde(default)]
    pub key: Option<String>,
    /// Compression of messages.
    #[serde(default)]
    pub compression: Compression,
    /// Brokers that must acknowledge a message: all in-sync replicas (`all`), the leader (`1`), or none (`0`). Only
    /// `all` survives the loss of a broker and avoids duplicates while leaders change.
    #[serde(default)]
    pub acks: Acks,
    /// Format of each message.
    #[serde(default)]
    pub encoding: Encoding,
    /// SASL authentication.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// Further librdkafka options, such as `linger.ms: 20`. Their values are never shown.
    #[serde(default)]
    pub options: Options,
}

/// Compression of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Who must have a message before it counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Acks {
    #[default]
    #[serde(rename = "all")]
    All,
    #[serde(rename = "1")]
    Leader,
    #[serde(rename = "0")]
    None,
}

static TOPIC: Rules =
    Rules { noun: "topic", allowed: |c| c.is_ascii_alphanumeric() || "._-".contains(c), max_len: 249 };

/// Options that would break what the sink promises, or are keys of its own.
const RESERVED: &[Reserved] = &[
    ("acks", "it is the sink's own key `acks`"),
    ("request.required.acks", "it is the sink's own key `acks`"),
    ("compression.codec", "it is the sink's own key `compression`"),
    ("compression.type", "it is the sink's own key `compression`"),
    ("enable.idempotence", "with `acks: all` messages are neither doubled nor reordered while the producer lives"),
    ("max.in.flight", "it follows from `acks`"),
    ("max.in.flight.requests.per.connection", "it follows from `acks`"),
    ("message.timeout.ms", "an event waits in the journal for as long as it takes: see `timeout` and `retry`"),
    ("delivery.timeout.ms", "an event waits in the journal for as long as it takes: see `timeout` and `retry`"),
    ("retries", "see `timeout` and `retry`"),
    ("message.send.max.retries", "see `timeout` and `retry`"),
    ("delivery.report.only.error", "delivered events could not be told from lost ones"),
    ("transactional.id", "the sink uses no transactions"),
];

pub struct Kafka {
    topic: NameTemplate,
    key: Option<Template>,
    encoder: Encoder,
    /// For producers after the first.
    config: Config,
    cx: SinkContext,
    /// Absent while a configuration is only checked, and after something was given up.
    producer: Mutex<Option<Arc<Producer>>>,
}

impl Config {
    fn access<'a>(&'a self, cx: &'a SinkContext) -> Access<'a> {
        Access {
            brokers: &self.brokers,
            trust: cx.encrypted.then_some(&cx.tls),
            sasl: self.sasl.as_ref(),
            options: &self.options,
        }
    }

    fn key(&self) -> Result<Option<Template>, Malformed> {
        self.key.as_deref().map(Template::parse).transpose()
    }
}

impl Sink for Kafka {
    const TYPE: &'static str = "kafka";
    const PROMISE: Promise = Promise::AtLeastOnce;
    type Config = Config;
    type Payload = Messages;

    fn check(config: &Config, check: &mut Check) {
        let access =
            Access { brokers: &config.brokers, trust: None, sasl: config.sasl.as_ref(), options: &config.options };
        for (path, message) in access.problems(RESERVED) {
            check.problem(path, message);
        }
        if let Err(wrong) = NameTemplate::parse(&config.topic, &TOPIC) {
            check.problem_within("topic", wrong.range, wrong.message);
        }
        if let Err(wrong) = config.key() {
            check.problem_within("key", wrong.range, wrong.message);
        }
        if let Err(wrong) = config.encoding.encoder() {
            check.problem_within("encoding.template", wrong.range, wrong.message);
        }
        if config.acks != Acks::All {
            check.warning("acks", "events that a broker took are lost if it dies before others have them");
        }
    }

    async fn open(config: &Config, cx: &SinkContext) -> Result<Kafka, Failure> {
        let wrong = |wrong: Malformed| Failure::configuration(wrong.message);
        let sink = Kafka {
            topic: NameTemplate::parse(&config.topic, &TOPIC).map_err(wrong)?,
            key: config.key().map_err(wrong)?,
            encoder: config.encoding.encoder().map_err(wrong)?,
            config: config.clone(),
            cx: cx.clone(),
            producer: Mutex::default(),
        };
        if cx.dry {
            producer::try_out(&config.access(cx), sink.topic.constant(), cx).await?;
        } else {
            let producer = sink.new_producer().await?;
            producer.reach(sink.topic.constant(), cx.timeout).await?;
            *sink.slot() = Some(producer);
        }
        Ok(sink)
    }

    fn encode(&self, batch: &WriteBatch) -> Result<Messages, Failure> {
        Messages::encode(batch, &self.topic, self.key.as_ref(), &self.encoder)
    }

    fn preview(config: &Config, _: &SinkContext, batch: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        sink::preview(&config.encoding, batch)
    }

    async fn write(&self, batch: &WriteBatch, payload: &Messages) -> Result<Written, Failure> {
        if self.cx.dry {
            return Err(Failure::configuration("opened for a check only"));
        }
        let spent = |producer: &Arc<Producer>| producer.is_spent();
        let producer = self.slot().clone().filter(|producer| !spent(producer));
        let producer = match producer {
            Some(producer) => producer,
            None => {
                let producer = self.new_producer().await?;
                self.slot().insert(producer).clone()
            }
        };
        producer.write(batch, payload, self.topic.constant().is_none(), patience(self.cx.timeout)).await
    }

    fn destination(&self, event: BatchEvent<'_>) -> Option<String> {
        match self.topic.constant() {
            Some(_) => None,
            None => {
                let values = event.values();
                self.topic.render_with(|path| values.get(path)).ok()
            }
        }
    }

    fn promise(config: &Config) -> Promise {
        if config.acks == Acks::All { Promise::AtLeastOnce } else { Promise::BestEffort }
    }
}

impl Kafka {
    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Producer>>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn new_producer(&self) -> Result<Arc<Producer>, Failure> {
        let access = self.config.access(&self.cx);
        let settings = access.settings(&self.cx.name, &own_settings(&self.config)).map_err(Failure::configuration)?;
        Producer::start(&self.cx.name, &access, settings).await
    }
}

/// What is delivered by the end of `timeout` has to be known before it, so that it is not sent again for ever.
fn patience(timeout: Duration) -> Duration {
    timeout.mul_f64(0.9)
}

fn own_settings(config: &Config) -> Vec<(&'static str, &'static str)> {
    let is_safe = config.acks == Acks::All;
    vec![
        (
            "acks",
            match config.acks {
                Acks::All => "all",
                Acks::Leader => "1",
                Acks::None => "0",
            },
        ),
        ("enable.idempotence", if is_safe { "true" } else { "false" }),
        // More would not keep the order of an idempotent producer, nor more than one that of another.
        ("max.in.flight.requests.per.connection", if is_safe { "5" } else { "1" }),
        ("message.timeout.ms", "0"),
        (
            "compression.codec",
            match config.compression {
                Compression::None => "none",
                Compression::Gzip => "gzip",
                Compression::Snappy => "snappy",
                Compression::Lz4 => "lz4",
                Compression::Zstd => "zstd",
            },
        ),
        // What is too large is for the broker to say: its limit is the topic's, after compression.
        ("message.max.bytes", "100000000"),
        ("batch.size", "1000000"),
        // The same key goes to the same partition as with the Java clients.
        ("partitioner", "murmur2_random"),
        // A batch comes at once, so that hardly anything is gained by waiting for more.
        ("linger.ms", "1"),
        ("sticky.partitioning.linger.ms", "0"),
        ("topic.metadata.refresh.interval.ms", "30000"),
        ("topic.metadata.propagation.max.ms", "5000"),
    ]
}
