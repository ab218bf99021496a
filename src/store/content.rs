//! Whether two lines of one id are one event that came twice, or two events.

use serde_json::{Map, Value};

use crate::event::names::OF_RECEIPT;

/// Whether both lines have the same content. Their ids are the same, however they are spelled.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    one == other || matches!((content(one), content(other)), (Some(one), Some(other)) if one == other)
}

fn content(line: &[u8]) -> Option<Map<String, Value>> {
    let mut members: Map<String, Value> = serde_json::from_slice(line).ok()?;
    // An event without a time of its own has that of its receipt.
    if members.get("timestamp").is_some_and(|timestamp| members.get("received_at") == Some(timestamp)) {
        members.remove("timestamp");
    }
    for name in OF_RECEIPT {
        members.remove(name);
    }
    members.remove("id");
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_sent_again_is_the_same_whenever_and_however_it_comes() {
        let first = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","user_id":"ali","code":"سلام","metadata":{"a":1,"b":[2]},"timestamp":"2026-11-29T10:00:00Z","received_at":"2026-11-29T10:00:01Z","source":"http","peer_ip":"10.0.0.1"}"#;
        let again = r#"{"id":"0190163D8694739BAEA5966C26F8AD91","timestamp":"2026-11-29T10:00:00Z","code":"\u0633\u0644\u0627\u0645","metadata":{"b":[2],"a":1},"user_id":"ali","received_at":"2026-11-29T11:00:00Z","source":"api","peer_ip":"::1"}"#;
        assert!(is_same(first.as_bytes(), again.as_bytes()));
        let own_time = r#"{"id":"a","timestamp":"2026-11-29T10:00:01Z","received_at":"2026-11-29T10:00:01Z"}"#;
        let later = r#"{"id":"a","timestamp":"2026-11-29T11:00:00Z","received_at":"2026-11-29T11:00:00Z"}"#;
        assert!(is_same(own_time.as_bytes(), later.as_bytes()), "neither has a time of its own");
        assert!(is_same(b"no JSON", b"no JSON"));
    }

    #[test]
    fn whatever_the_producer_says_otherwise_is_other_content() {
        let first = r#"{"id":"a","code":"1","timestamp":"2026-11-29T10:00:00Z","received_at":"2026-11-29T10:00:01Z"}"#;
        for other in [
            r#"{"id":"a","code":"2","timestamp":"2026-11-29T10:00:00Z","received_at":"2026-11-29T10:00:01Z"}"#,
            r#"{"id":"a","code":"1","timestamp":"2026-11-29T10:00:02Z","received_at":"2026-11-29T10:00:03Z"}"#,
            r#"{"id":"a","code":"1","timestamp":"2026-11-29T10:00:03Z","received_at":"2026-11-29T10:00:03Z"}"#,
            r#"{"id":"a","code":"1","more":null,"timestamp":"2026-11-29T10:00:00Z","received_at":"2026-11-29T10:00:01Z"}"#,
            "no JSON",
        ] {
            assert!(!is_same(first.as_bytes(), other.as_bytes()), "{other}");
        }
    }
}
