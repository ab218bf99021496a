//! Kafka from outside: topics made, and what is in them counted by `weir-id`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::PATIENCE;

/// A message as it lies in a topic.
#[derive(Clone, Debug)]
pub struct Found {
    pub partition: i32,
    pub key: Option<String>,
    pub id: String,
    pub value: String,
}

/// A name that no other test uses.
pub fn topic_name(what: &str) -> String {
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970").as_nanos();
    format!("{what}-{}-{nanos}", std::process::id())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client")
}

pub fn create_topic(brokers: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let results = block_on(admin(brokers).create_topics([&topic], &AdminOptions::new()));
    results.expect("the broker answers")[0].as_ref().expect("the topic is created");
}

/// A new topic with a name of its own.
pub fn topic(brokers: &str, what: &str, partitions: i32) -> String {
    let name = topic_name(what);
    create_topic(brokers, &name, partitions, &[]);
    name
}

/// Makes a topic anew under its name, with nothing in it.
pub fn make_anew(brokers: &str, name: &str, partitions: i32) {
    let results = block_on(admin(brokers).delete_topics(&[name], &AdminOptions::new()));
    results.expect("the broker answers")[0].as_ref().expect("the topic is deleted");
    let deadline = Instant::now() + PATIENCE;
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    // The name is free once every replica is gone.
    while block_on(admin(brokers).create_topics([&topic], &AdminOptions::new())).expect("the broker answers")[0]
        .is_err()
    {
        assert!(Instant::now() < deadline, "the name of a deleted topic is not free");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sets a group without members to an offset.
pub fn set_group(brokers: &str, group: &str, topic: &str, partition: i32, offset: i64) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
    let deadline = Instant::now() + PATIENCE;
    // The group is empty once the broker has noticed that its members left.
    while let Err(error) = consumer.commit(&offsets, rdkafka::consumer::CommitMode::Sync) {
        assert!(Instant::now() < deadline, "the group cannot be set: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Removes everything before these offsets, as retention would.
pub fn delete_records(brokers: &str, topic: &str, before: &[(i32, i64)]) {
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in before {
        offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("an offset");
    }
    block_on(admin(brokers).delete_records(&offsets, &AdminOptions::new())).expect("the broker answers");
}

/// Everything in a topic, in the order of each partition.
pub fn read_all(brokers: &str, topic: &str) -> Vec<Found> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "nobody's")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks");
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        ends.insert(partition, high);
        left += usize::from(high > low);
    }
    consumer.assign(&assignment).expect("an assignment");
    let (mut found, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while left > 0 {
        assert!(Instant::now() < deadline, "the topic cannot be read to its end");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("a message");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = message.headers();
        let id = headers.and_then(|headers| headers.iter().find(|header| header.key == "weir-id"));
        found.push(Found {
            partition: message.partition(),
            key: message.key().map(text),
            id: id.and_then(|id| id.value).map(text).unwrap_or_default(),
            value: message.payload().map(text).unwrap_or_default(),
        });
        left -= usize::from(message.offset() + 1 >= ends[&message.partition()]);
    }
    found
}

/// One more member of a group, which commits nothing; `options` as they are written in YAML.
pub fn member(brokers: &str, topic: &str, group: &str, options: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group).set("enable.auto.commit", "false");
    for option in options.split(", ") {
        let (key, value) = option.split_once(": ").expect("a name and a value");
        config.set(key, value);
    }
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    consumer
}

/// Messages that there are, without reading them.
pub fn count(brokers: &str, topic: &str) -> u64 {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let partitions = metadata.topics()[0].partitions().iter().map(|partition| partition.id());
    let sizes = partitions.map(|partition| consumer.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks"));
    sizes.map(|(low, high)| (high - low) as u64).sum()
}

/// A message to send; the fields of [`Found`] as one would give them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    pub partition: Option<i32>,
    pub id: Option<&'a str>,
    /// A tombstone if absent.
    pub value: Option<&'a str>,
}

/// Sends messages as a program would that is no Weir.
pub fn send(brokers: &str, topic: &str, messages: &[Given<'_>]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "1").create().expect("a producer");
    for message in messages {
        let mut record = BaseRecord::<[u8], str>::to(topic);
        if let Some(partition) = message.partition {
            record = record.partition(partition);
        }
        if let Some(value) = message.value {
            record = record.payload(value);
        }
        if let Some(id) = message.id {
            record = record.headers(OwnedHeaders::new().insert(Header { key: "weir-id", value: Some(id) }));
        }
        producer.send(record).map_err(|(error, _)| error).expect("there is room");
    }
    producer.flush(PATIENCE).expect("all is sent");
}

/// The offset of each partition that a group has committed.
pub fn committed(brokers: &str, group: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().expect("a consumer");
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, partitions - 1);
    let offsets = consumer.committed_offsets(asked, PATIENCE).expect("the broker answers");
    offsets.elements().iter().map(|element| element.offset().to_raw().unwrap_or(-1)).collect()
}
