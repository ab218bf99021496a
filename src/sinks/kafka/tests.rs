//! Tests of messages, and of the producer against librdkafka's mock cluster.

use bytes::Bytes;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::json;

use super::message::Message;
use super::*;
use crate::component::RecordSlice;
use crate::event::{Lines, Origins, Seed};
use crate::journal::{Record, StreamId};
use crate::toolkit::fake::sink_context;
use crate::units::Timestamp;

fn config(more: serde_json::Value) -> Config {
    let mut config = json!({"brokers": ["127.0.0.1:1"], "topic": "events"});
    config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    serde_json::from_value(config).expect("a configuration")
}

fn context() -> SinkContext {
    SinkContext { timeout: Duration::from_secs(20), ..sink_context() }
}

fn batch(lines: &[&str]) -> WriteBatch {
    let bytes: Bytes = lines.iter().map(|line| format!("{line}\n")).collect::<String>().into();
    let ends = lines.iter().scan(0, |end, line| {
        *end += line.len() as u32 + 1;
        Some(*end)
    });
    let origins = Origins::of(Seed([1; 16]), 0..lines.len() as u64);
    let record = Record {
        stream: StreamId(0),
        first_seq: 1,
        stream_first: 0,
        received_at: Timestamp(5_000_000),
        lines: Lines { ends: ends.collect(), bytes, origins },
    };
    WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..lines.len() }] }
}

/// Topic, key, id and value.
type Seen = (String, Option<String>, String, String);

fn encode(more: serde_json::Value, lines: &[&str]) -> Result<Vec<Seen>, Failure> {
    let config = config(more);
    let topic = NameTemplate::parse(&config.topic, &TOPIC).expect("a topic");
    let encoder = config.encoding.encoder().expect("an encoder");
    let write_batch = batch(lines);
    let messages = Messages::encode(&write_batch, &topic, config.key().expect("a key").as_ref(), &encoder)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let seen = |message: Message<'_>| {
        assert_eq!(message.received_at, 5_000);
        (message.topic.to_owned(), message.key.map(text), text(message.id), text(message.value))
    };
    Ok(messages.of(&write_batch).map(seen).collect())
}

#[test]
fn a_session_is_the_key_else_the_user_else_there_is_none() {
    let lines = [
        r#"{"session_id":"s1","user_id":"ali"}"#,
        r#"{"session_id":null,"user_id":7}"#,
        r#"{"session_id":"","\u0075ser_id":"eve"}"#,
        r#"{"a":{"session_id":"inner"}}"#,
    ];
    let messages = encode(json!({}), &lines).expect("messages");
    let keys: Vec<_> = messages.iter().map(|message| message.1.as_deref()).collect();
    assert_eq!(keys, [Some("s1"), Some("7"), Some("eve"), None]);
    assert!(messages.iter().zip(lines).all(|(message, line)| message.0 == "events" && message.3 == line));
}

#[test]
fn the_id_is_the_events_own_as_it_is_spelled_or_follows_from_its_origin() {
    let lines = [r#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#, r#"{"id":"order-5"}"#, "{}"];
    let ids: Vec<String> = encode(json!({}), &lines).expect("messages").into_iter().map(|message| message.2).collect();
    let derived = |ordinal| Seed([1; 16]).id(ordinal).to_string();
    assert_eq!(ids, ["01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(), derived(1), derived(2)]);
}

#[test]
fn a_topic_by_template_is_confined_and_what_lacks_its_field_is_poison() {
    let lines = [r#"{"tenant":"a"}"#, r#"{"tenant":"a/b"}"#, "{}", r#"{"tenant":"c"}"#];
    let topic = json!({"topic": "logs.{{ tenant }}", "key": "{{ tenant }}-x"});
    let Err(Failure::Some(failures, _)) = encode(topic.clone(), &lines) else { panic!("two are poison") };
    assert!(failures[0].1.answer().contains("it contains '/'"), "{failures:?}");
    assert!(failures[1].1.answer().contains("`tenant`"), "{failures:?}");
    assert_eq!(failures.iter().map(|(nth, _)| *nth).collect::<Vec<_>>(), [1, 2]);
    let messages = encode(topic, &[lines[0], lines[3], lines[0]]).expect("messages");
    let topics: Vec<&str> = messages.iter().map(|message| message.0.as_str()).collect();
    assert_eq!(topics, ["logs.a", "logs.c", "logs.a"]);
    assert_eq!(messages[1].1.as_deref(), Some("c-x"));
}

#[test]
fn a_value_may_be_written_another_way_and_ends_where_it_ends() {
    let encoding = json!({"encoding": {"format": "csv", "columns": ["a", "b"]}});
    let messages = encode(encoding, &[r#"{"a":1,"b":"x,y"}"#, "{}"]).expect("messages");
    let values: Vec<&str> = messages.iter().map(|message| message.3.as_str()).collect();
    assert_eq!(values, ["1,\"x,y\"", ","]);
}

#[test]
fn options_that_would_break_the_promise_are_refused() {
    let check = |more| {
        let mut check = Check::new("out", "/nonexistent", true);
        Kafka::check(&config(more), &mut check);
        check.problems.count_errors()
    };
    assert_eq!(check(json!({})), 0);
    for name in RESERVED.iter().map(|(name, _)| *name) {
        assert_eq!(check(json!({"options": {name: "1"}})), 1, "{name}");
    }
    assert_eq!(check(json!({"topic": "{{ tenant }}"})), 1);
    assert_eq!(check(json!({"topic": "a b"})), 1);
    assert_eq!(check(json!({"brokers": []})), 1);
    assert_eq!(Kafka::promise(&config(json!({"acks": "all"}))), Promise::AtLeastOnce);
    assert_eq!(Kafka::promise(&config(json!({"acks": "1"}))), Promise::BestEffort);
}

/// A cluster with the topic `events`, and an open sink.
async fn cluster(timeout: Duration) -> (MockCluster<'static, DefaultProducerContext>, Kafka) {
    cluster_with(timeout, json!({})).await
}

async fn cluster_with(
    timeout: Duration,
    mut more: serde_json::Value,
) -> (MockCluster<'static, DefaultProducerContext>, Kafka) {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("events", 1, 1).expect("a topic");
    more["brokers"] = json!([cluster.bootstrap_servers()]);
    let config = config(more);
    let sink = Kafka::open(&config, &SinkContext { timeout, ..context() }).await.expect("it opens");
    (cluster, sink)
}

async fn write(sink: &Kafka, lines: &[&str]) -> Result<Written, Failure> {
    let write_batch = batch(lines);
    let messages = sink.encode(&write_batch).expect("messages");
    sink.write(&write_batch, &messages).await
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_the_brokers_mend_by_themselves_is_repeated_within_the_write() {
    let (cluster, sink) = cluster(PATIENCE).await;
    use RDKafkaRespErr::*;
    let errors = [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    assert_eq!(write(&sink, &["{}", r#"{"a":1}"#]).await, Ok(Written { bytes: 9, ..Written::default() }));
}

#[tokio::test]
async fn of_a_set_that_is_refused_the_guilty_message_alone_is_poison() {
    let (cluster, sink) = cluster(PATIENCE).await;
    use RDKafkaRespErr::*;
    for refused in [RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_INVALID_RECORD] {
        // The set is refused, and then the first message by itself.
        cluster.request_errors(RDKafkaApiKey::Produce, &[refused, refused]);
        let failure = write(&sink, &["{}", r#"{"a":1}"#, r#"{"b":1}"#]).await.expect_err("one is refused");
        let Failure::Some(failures, _) = failure else { panic!("{failure:?}") };
        assert!(matches!(&failures[..], [(0, Failure::Poison { .. })]), "{failures:?}");
    }
}

#[tokio::test]
async fn a_topic_that_is_not_there_or_not_ours_holds_the_sink() {
    let (cluster, sink) = cluster(PATIENCE).await;
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[refused]);
    let failure = write(&sink, &["{}"]).await.expect_err("it is refused");
    assert_eq!(failure, Failure::configuration("no permission to write to the topic `events`"));
    cluster.topic_error("events", refused).expect("an error is set");
    let config = config(json!({"brokers": [cluster.bootstrap_servers()]}));
    let failure = Kafka::open(&config, &context()).await.err().expect("it does not open");
    assert_eq!(failure, Failure::configuration("no permission to write to the topic `events`"));
}

#[tokio::test]
async fn after_a_fatal_error_the_producer_is_made_afresh() {
    // With this option a message that fails for good leaves a gap that the producer does not go on behind.
    let gapless = json!({"enable.gapless.guarantee": "true"});
    let (cluster, sink) = cluster_with(PATIENCE, json!({"options": gapless})).await;
    assert!(write(&sink, &["{}"]).await.is_ok());
    let first = sink.slot().clone().expect("a producer");
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    let failure = write(&sink, &["{}", "{}"]).await.expect_err("it is fatal");
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
    assert!(first.is_spent());
    assert!(write(&sink, &["{}", "{}"]).await.is_ok());
}

#[tokio::test]
async fn a_write_without_an_answer_ends_before_the_loop_would_cut_it_off() {
    let (cluster, sink) = cluster(Duration::from_secs(2)).await;
    assert!(write(&sink, &["{}"]).await.is_ok());
    cluster.broker_round_trip_time(1, Duration::from_secs(30)).expect("a slow broker");
    let failure = write(&sink, &["{}"]).await.expect_err("no answer in time");
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
    assert!(sink.slot().as_ref().is_some_and(|producer| producer.is_spent()));
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_is_given_up() {
    let (cluster, sink) = cluster(PATIENCE).await;
    assert!(write(&sink, &["{}"]).await.is_ok());
    cluster.broker_round_trip_time(1, Duration::from_secs(30)).expect("a slow broker");
    tokio::select! {
        biased;
        ended = write(&sink, &["{}"]) => panic!("it ended: {ended:?}"),
        () = tokio::task::yield_now() => {}
    }
    assert!(sink.slot().as_ref().is_some_and(|producer| producer.is_spent()));
}

#[tokio::test]
async fn who_is_not_there_is_named_and_a_check_creates_nothing() {
    let failure = Kafka::open(&config(json!({})), &context()).await.err().expect("nobody listens");
    assert!(matches!(&failure, Failure::Transient { .. }), "{failure:?}");
    assert!(failure.answer().starts_with("cannot reach `127.0.0.1:1`: "), "{failure:?}");
    let (cluster, _) = cluster(PATIENCE).await;
    let dry = SinkContext { dry: true, ..context() };
    let config = config(json!({"brokers": [cluster.bootstrap_servers()]}));
    let sink = Kafka::open(&config, &dry).await.expect("it can be reached");
    assert!(matches!(write(&sink, &["{}"]).await, Err(Failure::Configuration { .. })));
}
