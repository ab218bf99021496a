//! Maps events to the names of other schemes.

use crate::event::time::{Moment, is_canonical};
use crate::event::{Kind, Raw};
use crate::units::Timestamp;

pub mod ecs;

/// Appends the event's time as a JSON string in UTC, and tells whether there was one: what its `timestamp` says, as
/// RFC 3339 or an epoch number, else when it was received.
pub fn push_time(timestamp: Option<Raw<'_>>, received_at: Option<Timestamp>, out: &mut Vec<u8>) -> bool {
    if let Some(value) = timestamp.filter(|value| value.inside().is_some_and(is_canonical)) {
        out.extend_from_slice(value.as_bytes());
        return true;
    }
    let start = out.len();
    out.push(b'"');
    match (timestamp.and_then(moment), received_at) {
        (Some(moment), _) => moment.write(out),
        (None, Some(received_at)) => out.extend_from_slice(received_at.to_string().as_bytes()),
        (None, None) => {
            out.truncate(start);
            return false;
        }
    }
    out.push(b'"');
    true
}

fn moment(value: Raw<'_>) -> Option<Moment> {
    match value.kind() {
        Kind::Number => Moment::parse_epoch(value.text()),
        Kind::String => value.as_str().and_then(|text| Moment::parse(&text).or_else(|| Moment::parse_epoch(&text))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(value: Option<&str>, received_at: Option<i64>) -> Option<String> {
        let mut out = Vec::new();
        let written = push_time(value.map(|value| Raw::valid(value.as_bytes())), received_at.map(Timestamp), &mut out);
        assert_eq!(written, !out.is_empty());
        written.then(|| String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_time_is_what_the_event_says_else_when_it_came() {
        for (value, expected) in [
            (r#""2025-01-31T08:00:00.123456Z""#, r#""2025-01-31T08:00:00.123456Z""#),
            (r#""2025-01-31 09:00:00+01:00""#, r#""2025-01-31T08:00:00Z""#),
            (r#""\u0032025-01-31T08:00:00Z""#, r#""2025-01-31T08:00:00Z""#),
            ("1735689600.5", r#""2025-01-01T00:00:00.5Z""#),
            (r#""1735689600123""#, r#""2025-01-01T00:00:00.123Z""#),
            (r#""soon""#, r#""1970-01-01T00:00:01.000Z""#),
            ("null", r#""1970-01-01T00:00:01.000Z""#),
        ] {
            assert_eq!(time(Some(value), Some(1_000_000)).as_deref(), Some(expected), "{value}");
        }
        assert_eq!(time(None, None), None);
        assert_eq!(time(Some("[]"), None), None);
    }
}
