//! The `kafka` sink before brokers that answer with each error, go away and are slow.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{Target, Trouble, hold};
use crate::support::kafka;

struct Brokers {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

const TOPIC: &str = "conformance";

#[derive(Clone, Debug)]
enum Kind {
    /// So many requests with messages are answered so.
    Errors(RDKafkaRespErr, usize),
    Down,
    Slow,
}

impl Target for Brokers {
    type Kind = Kind;

    fn keys(&self) -> String {
        let brokers = self.cluster.bootstrap_servers();
        format!(
            "type: kafka\nbrokers: ['{brokers}']\ntopic: {TOPIC}\ntimeout: 3s\n\
             options: {{ reconnect.backoff.max.ms: 200, retry.backoff.ms: 20 }}"
        )
    }

    fn troubles(&self) -> Vec<Trouble<Kind>> {
        use RDKafkaRespErr::*;
        let mut troubles = Vec::new();
        let mut add = |kind: Kind, is_state| troubles.push(Trouble { name: format!("{kind:?}"), kind, is_state });
        // (error, whether it may be a message's own)
        for (error, is_state) in [
            (RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, true),
            (RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, true),
            (RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, true),
            (RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, true),
            (RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, true),
            (RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, true),
            (RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS, true),
            (RD_KAFKA_RESP_ERR_UNKNOWN, true),
            (RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, false),
            (RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, false),
            (RD_KAFKA_RESP_ERR_INVALID_RECORD, false),
            (RD_KAFKA_RESP_ERR_INVALID_MSG, false),
        ] {
            for count in [2, 1000] {
                add(Kind::Errors(error, count), is_state);
            }
        }
        add(Kind::Down, true);
        add(Kind::Slow, true);
        troubles
    }

    fn begin(&self, kind: &Kind) {
        match kind {
            Kind::Errors(error, count) => {
                self.cluster.request_errors(RDKafkaApiKey::Produce, &vec![*error; *count]);
            }
            Kind::Down => self.cluster.broker_down(1).expect("a broker"),
            Kind::Slow => self.cluster.broker_round_trip_time(1, Duration::from_millis(150)).expect("a broker"),
        }
    }

    fn heal(&self) {
        self.cluster.clear_request_errors(RDKafkaApiKey::Produce);
        self.cluster.broker_up(1).expect("a broker");
        self.cluster.broker_round_trip_time(1, Duration::ZERO).expect("a broker");
    }

    fn stored(&self) -> BTreeMap<u64, usize> {
        // While a broker is down nothing can be read; nothing can be delivered then, either.
        let mut stored = BTreeMap::new();
        self.cluster.broker_up(1).expect("a broker");
        for found in kafka::read_all(&self.cluster.bootstrap_servers(), TOPIC) {
            let event: serde_json::Value = serde_json::from_str(&found.value).expect("an event");
            *stored.entry(event["n"].as_u64().expect("a number")).or_default() += 1;
        }
        stored
    }

    fn repeats(&self) -> bool {
        true
    }
}

#[test]
pub fn messages_are_there_whatever_a_broker_answers() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    hold(&Brokers { cluster });
}
