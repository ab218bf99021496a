//! A producer and its thread: sends messages and passes on delivery reports.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::metadata::MetadataPartition;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::message::{Message, Messages};
use super::outcome::{Report, classify, concerns_a_set, concerns_a_topic, sum_up};
use crate::component::{Failure, SinkContext, WriteBatch, Written};
use crate::net::kafka::{Access, Common, Fault, ID_HEADER, log};

/// How long no broker may be reachable before a write is given up. A broker that restarts is back by then, and what
/// the producer still holds is neither doubled nor reordered.
const GRACE: Duration = Duration::from_secs(10);
/// How long opening waits for the brokers' answer.
const REACH: Duration = Duration::from_secs(10);
/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(1);
/// How long a topic may be missing that the brokers are about to create.
const CREATION: Duration = Duration::from_secs(3);
/// How long reports are waited for after everything was given up.
const PURGE: Duration = Duration::from_secs(1);
/// How often the thread looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(100);
/// How long a full queue is waited for before it is tried again, should no report come.
const QUEUE_FULL: Duration = Duration::from_millis(100);

// A message carries the number of its write and its place there.
const _: () = assert!(usize::BITS == 64, "both fit into a pointer");

pub struct Producer {
    /// Absent only while it is dropped.
    base: Option<Arc<BaseProducer<Context>>>,
    stop: Arc<AtomicBool>,
    /// Whether something was given up: its messages may still be on their way.
    spent: AtomicBool,
    next_write: AtomicU32,
}

struct Context {
    common: Common,
    writes: Mutex<HashMap<u32, Write>>,
}

/// The messages of one write.
struct Write {
    reports: Vec<Option<Report>>,
    open: usize,
    /// Notified when all reports have arrived, and from time to time before.
    moved: Arc<Notify>,
}

impl Context {
    fn writes(&self) -> MutexGuard<'_, HashMap<u32, Write>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, number: u32, nth: usize, report: Report) {
        let mut writes = self.writes();
        // Nobody waits any more for what was given up.
        let Some(write) = writes.get_mut(&number) else { return };
        if write.reports[nth].replace(report).is_none() {
            write.open -= 1;
        }
        if write.open % 256 == 0 {
            write.moved.notify_one();
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.common.note(&error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.common.generate_oauth_token(config)
    }
}

impl ProducerContext for Context {
    /// Number of the write, and place of the message in it.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let report = match result {
            Ok(_) => {
                self.common.works();
                Ok(())
            }
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Fail)),
        };
        self.report((opaque >> 32) as u32, opaque & 0xFFFF_FFFF, report);
    }
}

#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    /// How long it was.
    patience: Duration,
}

/// A write under way. If nobody waits for it any more, everything is given up.
struct Writing<'a> {
    producer: &'a Producer,
    number: u32,
    moved: Arc<Notify>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let write = self.producer.context().writes().remove(&self.number);
        if write.is_some_and(|write| write.open > 0) {
            self.producer.spent.store(true, Ordering::SeqCst);
            self.producer.base().purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
    }
}

impl Producer {
    pub async fn start(name: &str, access: &Access<'_>, settings: ClientConfig) -> Result<Arc<Producer>, Failure> {
        let common = Common::new(access).map_err(Failure::configuration)?;
        let context = Context { common, writes: Mutex::default() };
        // It reads certificates and starts threads.
        let base = blocking(move || settings.create_with_context::<_, BaseProducer<Context>>(context))
            .await?
            .map_err(|error| Failure::configuration(format!("librdkafka refuses these options: {error}")))?;
        let (base, stop) = (Arc::new(base), Arc::new(AtomicBool::new(false)));
        let (polled, stopped) = (base.clone(), stop.clone());
        let poll = move || {
            while !stopped.load(Ordering::SeqCst) {
                polled.poll(POLL);
            }
            // Whatever is left is given up; to do so may take a while, and it is nobody's but this thread's.
            drop(polled);
        };
        let thread = std::thread::Builder::new().name(format!("kafka {name}")).spawn(poll);
        thread.map_err(|error| Failure::transient(format!("cannot start a thread: {error}")))?;
        let (spent, next_write) = (AtomicBool::new(false), AtomicU32::new(0));
        Ok(Arc::new(Producer { base: Some(base), stop, spent, next_write }))
    }

    /// Waits until the brokers answer, and know the topic if it is always the same.
    pub async fn reach(self: &Arc<Self>, topic: Option<&str>, timeout: Duration) -> Result<(), Failure> {
        let (producer, topic) = (self.clone(), topic.map(str::to_owned));
        let patience = REACH.min(timeout.mul_f64(0.8));
        let context = self.context().clone();
        blocking(move || reach(producer.base().client(), &context.common, topic.as_deref(), patience, || {})).await?
    }

    pub fn is_spent(&self) -> bool {
        self.spent.load(Ordering::SeqCst) || self.base().client().fatal_error().is_some()
    }

    /// Sends the messages and waits for their reports, for `patience` at most. Where `topics_vary`, what topics refuse
    /// is said of each event.
    pub async fn write(
        self: &Arc<Self>,
        batch: &WriteBatch,
        messages: &Messages,
        topics_vary: bool,
        patience: Duration,
    ) -> Result<Written, Failure> {
        let deadline = Deadline { at: Instant::now() + patience, patience };
        let count = batch.len();
        let mut failures = Vec::new();
        let (mut bytes, mut alone) = (0, Vec::new());
        let mut of_topics = topics_vary;
        let mut classified = |code: Code, topic: &str, given_up: Option<&Failure>| {
            of_topics &= concerns_a_topic(code);
            failure(code, topic, given_up)
        };
        let (reports, mut given_up) = self.send(messages.of(batch), count, deadline).await?;
        for (nth, (report, message)) in reports.into_iter().zip(messages.of(batch)).enumerate() {
            match report {
                Ok(()) => bytes += message.value.len() as u64,
                // A broker refuses a whole set of messages at once, so the guilty ones have to be found.
                Err(code) if count > 1 && concerns_a_set(code) => alone.push((nth, message)),
                Err(code) => failures.push((nth, classified(code, message.topic, given_up.as_ref()))),
            }
        }
        for (nth, message) in alone {
            if given_up.is_some() {
                failures.push((nth, Failure::transient("no time left to send it alone")));
                continue;
            }
            let (mut reports, fault) = self.send(std::iter::once(message), 1, deadline).await?;
            given_up = fault;
            match reports.remove(0) {
                Ok(()) => bytes += message.value.len() as u64,
                Err(code) => failures.push((nth, classified(code, message.topic, given_up.as_ref()))),
            }
        }
        failures.sort_by_key(|(nth, _)| *nth);
        sum_up(failures, count, bytes, of_topics)
    }

    /// Sends so many messages together; also tells why those without a good report were given up, if they were.
    async fn send<'m>(
        self: &Arc<Self>,
        messages: impl Iterator<Item = Message<'m>>,
        count: usize,
        deadline: Deadline,
    ) -> Result<(Vec<Report>, Option<Failure>), Failure> {
        let number = self.next_write.fetch_add(1, Ordering::SeqCst);
        let moved = Arc::new(Notify::new());
        let write = Write { reports: vec![None; count], open: count, moved: moved.clone() };
        self.context().writes().insert(number, write);
        let writing = Writing { producer: self, number, moved };
        let mut topic = None;
        for (nth, message) in messages.enumerate() {
            topic.get_or_insert_with(|| message.topic.to_owned());
            while let Err(code) = self.enqueue(&message, (number as usize) << 32 | nth) {
                if code != Code::QueueFull || Instant::now() >= deadline.at {
                    self.context().report(number, nth, Err(code));
                    break;
                }
                #[expect(clippy::let_underscore_must_use, reason = "a report makes room, and so may time")]
                let _ = tokio::time::timeout(QUEUE_FULL, writing.moved.notified()).await;
            }
        }
        let mut given_up = writing.settle(deadline).await;
        if given_up.is_some() {
            if let Some(topic) = topic.filter(|_| self.context().common.fault().is_none()) {
                let (producer, patience) = (self.clone(), deadline.patience);
                let why = blocking(move || producer.explain(&topic, patience)).await?;
                given_up = why.map(Failure::transient).or(given_up);
            }
            self.spent.store(true, Ordering::SeqCst);
            let producer = self.clone();
            blocking(move || producer.base().purge(PurgeConfig::default().queue().inflight())).await?;
            #[expect(clippy::let_underscore_must_use, reason = "what is not reported counts as given up below")]
            let _ = tokio::time::timeout(PURGE, writing.all_reported()).await;
        }
        let reports = self.context().writes().remove(&number).map(|write| write.reports).unwrap_or_default();
        let reports = reports.into_iter().map(|report| report.unwrap_or(Err(Code::PurgeInflight))).collect();
        Ok((reports, given_up))
    }

    /// Why brokers that can be reached did not take messages for so long, as far as they tell.
    fn explain(&self, topic: &str, patience: Duration) -> Option<String> {
        let metadata = self.base().client().fetch_metadata(Some(topic), ASK.min(patience / 20)).ok()?;
        let topic_metadata = metadata.topics().first()?;
        let of_partition = |partition: &MetadataPartition| match partition.error().map(Code::from) {
            Some(code) => Some(format!("partition {}: {code}", partition.id())),
            None if partition.leader() < 0 => Some(format!("partition {} has no leader", partition.id())),
            None if partition.isr().len() < partition.replicas().len() => Some(format!(
                "only {} of {} replicas of partition {} are in sync",
                partition.isr().len(),
                partition.replicas().len(),
                partition.id()
            )),
            None => None,
        };
        let why = match topic_metadata.error() {
            Some(error) => Code::from(error).to_string(),
            None => topic_metadata.partitions().iter().find_map(of_partition).unwrap_or_else(|| {
                "the brokers answer; the topic's `min.insync.replicas` may exceed its number of replicas".into()
            }),
        };
        Some(format!("the topic `{topic}` did not accept the events within {patience:?}: {why}"))
    }

    fn enqueue(&self, message: &Message<'_>, opaque: usize) -> Result<(), Code> {
        let id = Header { key: ID_HEADER, value: Some(message.id) };
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(message.topic, opaque)
            .payload(message.value)
            .timestamp(message.received_at)
            .headers(OwnedHeaders::new_with_capacity(1).insert(id));
        if let Some(key) = message.key {
            record = record.key(key);
        }
        self.base().send(record).map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::Fail))
    }

    fn base(&self) -> &BaseProducer<Context> {
        self.base.as_ref().expect("it is there until it is dropped")
    }

    fn context(&self) -> &Arc<Context> {
        self.base().client().context()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // First ours, so that the thread's is the last and the wait is there.
        drop(self.base.take());
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Writing<'_> {
    fn is_over(&self) -> bool {
        self.producer.context().writes().get(&self.number).is_none_or(|write| write.open == 0)
    }

    async fn all_reported(&self) {
        while !self.is_over() {
            self.moved.notified().await;
        }
    }

    /// Waits for all reports, or until waiting is of no use: then says why.
    async fn settle(&self, deadline: Deadline) -> Option<Failure> {
        let common = &self.producer.context().common;
        let mut faults = common.faults();
        let mut unreachable_since = None;
        loop {
            if self.is_over() {
                return None;
            }
            let mut until = deadline.at;
            let fault = faults.borrow_and_update().clone();
            match &fault {
                Some(Fault::Denied(reason)) => return Some(Failure::configuration(reason)),
                Some(Fault::Fatal(reason)) => return Some(Failure::transient(reason)),
                Some(Fault::Unreachable(_)) => {
                    until = until.min(*unreachable_since.get_or_insert_with(Instant::now) + GRACE);
                }
                None => unreachable_since = None,
            }
            if Instant::now() >= until {
                return Some(Failure::transient(match fault {
                    Some(fault) => fault.reason().to_owned(),
                    None => common.silence(deadline.patience),
                }));
            }
            tokio::select! {
                () = self.moved.notified() => {}
                _ = faults.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

/// Why one message failed; what was given up failed for the reason that all of it was.
fn failure(code: Code, topic: &str, given_up: Option<&Failure>) -> Failure {
    match (code, given_up) {
        (Code::PurgeQueue | Code::PurgeInflight | Code::QueueFull | Code::Fatal, Some(reason)) => reason.clone(),
        _ => classify(code, topic),
    }
}

/// For `validate`: asks the brokers with a client that cannot make them create a topic.
pub async fn try_out(access: &Access<'_>, topic: Option<&str>, cx: &SinkContext) -> Result<(), Failure> {
    let common = Common::new(access).map_err(Failure::configuration)?;
    let settings = access.settings(&cx.name, &[]).map_err(Failure::configuration)?;
    let (topic, patience) = (topic.map(str::to_owned), REACH.min(cx.timeout.mul_f64(0.8)));
    blocking(move || {
        let consumer = settings
            .create_with_context::<_, BaseConsumer<Common>>(common)
            .map_err(|error| Failure::configuration(format!("librdkafka refuses these options: {error}")))?;
        let serve = || drop(consumer.poll(Duration::ZERO));
        reach(consumer.client(), consumer.context(), topic.as_deref(), patience, serve)
    })
    .await?
}

/// Asks for the topic until the brokers answer. `serve` lets errors be heard that come from elsewhere.
fn reach<C: ClientContext>(
    client: &Client<C>,
    common: &Common,
    topic: Option<&str>,
    patience: Duration,
    serve: impl Fn(),
) -> Result<(), Failure> {
    let began = std::time::Instant::now();
    let mut answered = None;
    while began.elapsed() < patience {
        let missing = match topic {
            None if client.fetch_cluster_id(ASK).is_some() => return Ok(()),
            None => None,
            Some(topic) => match client.fetch_metadata(Some(topic), ASK) {
                Ok(metadata) => match metadata.topics().first().and_then(|topic| topic.error()) {
                    None => return Ok(()),
                    Some(error) => Some(Code::from(error)),
                },
                Err(_) => None,
            },
        };
        serve();
        if let Some(code) = missing {
            let since = *answered.get_or_insert_with(std::time::Instant::now);
            let passing = matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::LeaderNotAvailable);
            if !passing || since.elapsed() >= CREATION {
                return Err(classify(code, topic.unwrap_or_default()));
            }
            std::thread::sleep(POLL);
        }
        match common.fault() {
            Some(Fault::Denied(reason)) => return Err(Failure::configuration(reason)),
            Some(Fault::Fatal(reason) | Fault::Unreachable(reason)) => return Err(Failure::transient(reason)),
            None => {}
        }
    }
    Err(Failure::transient(common.silence(patience)))
}

fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> + Send {
    let task = tokio::task::spawn_blocking(work);
    async { task.await.map_err(|error| Failure::transient(error.to_string())) }
}
