//! The outcome of an event from its delivery report.

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::component::{Failure, Written};

/// How one message ended.
pub type Report = Result<(), Code>;

/// The class of a message's error.
///
/// Everything transient is retried by librdkafka itself as long as a write lasts; what comes back as an
/// error is there to stay, or was given up by us.
pub fn classify(code: Code, topic: &str) -> Failure {
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            Failure::poison(format!("the message is larger than the topic `{topic}` accepts"))
        }
        Code::InvalidMessage | Code::InvalidRecord | Code::InvalidTimestamp | Code::PolicyViolation => {
            Failure::poison(format!("the topic `{topic}` rejects the message: {code}"))
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Failure::configuration(format!("there is no topic `{topic}`: create it, or let the brokers create topics"))
        }
        Code::InvalidTopic => Failure::configuration(format!("the brokers reject the topic name `{topic}`")),
        Code::TopicAuthorizationFailed => {
            Failure::configuration(format!("no permission to write to the topic `{topic}`"))
        }
        Code::ClusterAuthorizationFailed => {
            Failure::configuration("no permission for idempotent writes: allow `IdempotentWrite` on the cluster")
        }
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
            Failure::configuration(format!("the brokers reject the credentials: {code}"))
        }
        Code::UnsupportedCompressionType | Code::InvalidRequiredAcks | Code::UnsupportedForMessageFormat => {
            Failure::configuration(format!("the topic `{topic}` rejects the message format: {code}"))
        }
        code if passes(code) => Failure::transient(format!("the topic `{topic}` did not accept it: {code}")),
        // Brokers say so of their own state, and of one message that something behind them cannot take.
        _ => Failure::ambiguous(format!("the topic `{topic}` did not accept it: {code}")),
    }
}

/// Whether an error passes by itself, or is about the connection or the producer and not about messages.
fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::PurgeQueue
            | Code::PurgeInflight
            | Code::QueueFull
            | Code::Fatal
            | Code::Fail
            | Code::BrokerDestroy
            | Code::DestroyBroker
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::State
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::KafkaStorageError
            | Code::OutOfOrderSequenceNumber
            | Code::DuplicateSequenceNumber
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping
            | Code::UnknownProducerId
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::ThrottlingQuotaExceeded
    )
}

/// Whether one message may have brought this upon all that were sent together.
pub fn concerns_a_set(code: Code) -> bool {
    code == Code::InvalidDifferentRecord
        || matches!(classify(code, ""), Failure::Poison { .. } | Failure::Ambiguous { .. })
}

/// Whether it is the topic that does not take messages, while another may.
pub fn concerns_a_topic(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::UnsupportedCompressionType
            | Code::InvalidRequiredAcks
            | Code::UnsupportedForMessageFormat
    )
}

/// What a write came to: `failures` of `count` messages, of which `bytes` were delivered. A failure of all of them in the
/// same way is the brokers', unless each is `of_topics`.
pub fn sum_up(
    mut failures: Vec<(usize, Failure)>,
    count: usize,
    bytes: u64,
    of_topics: bool,
) -> Result<Written, Failure> {
    if failures.is_empty() {
        return Ok(Written { bytes, ..Written::default() });
    }
    let is_alike = |class: fn(&Failure) -> bool| failures.len() == count && failures.iter().all(|(_, f)| class(f));
    let is_whole = is_alike(|failure| matches!(failure, Failure::Transient { .. }))
        || !of_topics && is_alike(|failure| matches!(failure, Failure::Configuration { .. }));
    Err(if is_whole { failures.swap_remove(0).1 } else { Failure::some(failures) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_events_own_fault_is_poison() {
        for code in [Code::Unknown, Code::InvalidRequest, Code::InvalidConfig] {
            assert!(matches!(classify(code, "t"), Failure::Ambiguous { .. }) && concerns_a_set(code), "{code}");
        }
        for code in [Code::MessageSizeTooLarge, Code::MessageBatchTooLarge, Code::InvalidRecord, Code::InvalidTimestamp]
        {
            assert!(matches!(classify(code, "t"), Failure::Poison { .. }), "{code}");
        }
        for code in [
            Code::UnknownTopic,
            Code::UnknownTopicOrPartition,
            Code::TopicAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::SaslAuthenticationFailed,
        ] {
            assert!(matches!(classify(code, "t"), Failure::Configuration { .. }), "{code}");
        }
        for code in [Code::PurgeQueue, Code::PurgeInflight, Code::NotEnoughReplicas, Code::MessageTimedOut, Code::Fatal]
        {
            assert!(matches!(classify(code, "t"), Failure::Transient { .. }), "{code}");
        }
    }

    #[test]
    fn a_failure_of_all_is_whole_and_a_failure_of_some_names_them() {
        let transient = || Failure::transient("later");
        assert_eq!(sum_up(vec![], 2, 9, false), Ok(Written { bytes: 9, ..Written::default() }));
        assert_eq!(sum_up(vec![(0, transient()), (1, transient())], 2, 0, true), Err(transient()));
        assert_eq!(sum_up(vec![(1, transient())], 2, 5, false), Err(Failure::some(vec![(1, transient())])));
        let denied = || Failure::configuration("denied");
        assert_eq!(sum_up(vec![(0, denied())], 1, 0, false), Err(denied()));
        assert_eq!(sum_up(vec![(0, denied())], 1, 0, true), Err(Failure::some(vec![(0, denied())])));
        let poison = || Failure::poison("bad");
        assert_eq!(sum_up(vec![(0, poison())], 1, 0, false), Err(Failure::some(vec![(0, poison())])));
    }
}
