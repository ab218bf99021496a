//! Writes the authenticated sender into each event, overriding what the event claims.

use std::borrow::Cow;

use crate::event::aliases::aliases;
use crate::event::names::{AGENT, CAPTURE, IS_ADMIN, METADATA, PEER_IP, REPORTED_BY, USER_ID};
use crate::event::object::{Rewrite, push_sunk};
use crate::event::raw::Kind;
use crate::event::{Batch, NameId, Raw, Sender, escape};

/// What a user's own program cannot know, or must not decide: who reported the event, through which agent, from where,
/// and whether it is an administrator's act.
const NOT_A_USERS: [(NameId, &str); 4] = [
    (REPORTED_BY, "claimed_reported_by"),
    (IS_ADMIN, "claimed_is_admin"),
    (AGENT, "claimed_agent"),
    (PEER_IP, "claimed_peer_ip"),
];

/// Stamps every event of a batch that came in with authentication: a user's own `user_id`, or the service that
/// reported it. What the event claims instead goes to `metadata.claimed_user_id` and the like. Splits the batch; does nothing to one without a stamp, or stamped before.
pub fn apply(batch: &mut Batch) {
    let Some(stamp) = batch.provenance.stamp.clone() else { return };
    batch.split_all();
    let mut rewrite = Rewrite::default();
    let user_names: Vec<NameId> = std::iter::once(USER_ID).chain(aliases(USER_ID)).collect();
    for event in 0..batch.len() {
        match &stamp.sender {
            None => {}
            Some(Sender::User(user)) => {
                write(batch, event, &user_names, Some(user), "claimed_user_id", &mut rewrite);
                for (name, claim) in NOT_A_USERS {
                    write(batch, event, &[name], None, claim, &mut rewrite);
                }
            }
            Some(Sender::Service(service)) => {
                write(batch, event, &[REPORTED_BY], Some(service), "claimed_reported_by", &mut rewrite)
            }
        }
        // A service passes on what another Weir has stamped.
        if stamp.capture.is_some() || !matches!(stamp.sender, Some(Sender::Service(_))) {
            let capture = stamp.capture.map(|capture| capture.as_str().to_owned());
            write(batch, event, &[CAPTURE], capture.as_ref(), "claimed_capture", &mut rewrite);
        }
    }
}

/// Leaves exactly one member of `names`, the first of them, with the text `truth` (or none), in the place of what
/// was there; what was there and differs is kept as the member `claim` of metadata.
fn write(
    batch: &mut Batch,
    event: usize,
    names: &[NameId],
    truth: Option<&String>,
    claim: &str,
    rewrite: &mut Rewrite,
) {
    let mut found = places(batch, event, names);
    let first = found.next();
    let is_true = |nth| truth.is_some_and(|truth| batch.nth(event, nth).1.as_str().is_some_and(|text| text == *truth));
    match first {
        None => drop(found),
        // The common case of a well-behaved sender: its one claim is the truth.
        Some((nth, 0)) if found.next().is_none() && is_true(nth) => return,
        Some(_) => drop(found),
    }
    let mut present: Vec<(usize, usize)> = places(batch, event, names).collect();
    present.sort_by_key(|(_, preference)| *preference);
    keep_claims(batch, event, present.iter().map(|(nth, _)| *nth), truth, claim, rewrite);
    let place = match (present.first(), truth) {
        (Some((nth, _)), Some(truth)) => {
            let mut json = Vec::with_capacity(truth.len() + 2);
            escape::push_string(&mut json, truth);
            batch.set_nth(event, *nth, &json);
            if batch.nth(event, *nth).0 != names[0] {
                batch.rename_nth(event, *nth, names[0]);
            }
            Some(*nth)
        }
        (None, Some(truth)) => return batch.set_str(event, names[0], truth),
        (_, None) => None,
    };
    batch.keep_fields(event, |nth| Some(nth) == place || present.iter().all(|(other, _)| *other != nth));
}

/// Where the event has one of `names`, and which of them it is.
fn places<'a>(batch: &'a Batch, event: usize, names: &'a [NameId]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let at = |name| names.iter().position(|wanted| *wanted == name);
    batch.field_names(event).enumerate().filter_map(move |(nth, name)| Some((nth, at(name)?)))
}

fn keep_claims(
    batch: &mut Batch,
    event: usize,
    places: impl Iterator<Item = usize>,
    truth: Option<&String>,
    name: &str,
    rewrite: &mut Rewrite,
) {
    let mut claims: Vec<Raw> = Vec::new();
    for nth in places {
        let value = batch.nth(event, nth).1;
        let claimed = !value.is_null() && truth.is_none_or(|truth| value.display() != Cow::Borrowed(truth.as_str()));
        if claimed && claims.iter().all(|other| other.display() != value.display()) {
            claims.push(value);
        }
    }
    let mut json = Vec::new();
    match claims[..] {
        [] => return,
        [claim] => push_sunk(&mut json, claim),
        _ => push_list(&mut json, &claims),
    }
    rewrite.begin(batch.get(event, METADATA), "metadata");
    rewrite.set(name, Raw::valid(&json));
    batch.set_json(event, METADATA, rewrite.finish());
}

/// Appends an array of the values; nested ones as their text, so that it is no deeper than they were.
fn push_list(out: &mut Vec<u8>, values: &[Raw]) {
    for (nth, value) in values.iter().enumerate() {
        out.push(if nth == 0 { b'[' } else { b',' });
        match value.kind() {
            Kind::Array | Kind::Object => escape::push_string(out, value.text()),
            _ => out.extend_from_slice(value.as_bytes()),
        }
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Capture, Provenance, Scanner, Seed, Stamp};
    use crate::units::Timestamp;

    fn stamped(line: &str, stamp: Option<Stamp>) -> String {
        let provenance = Provenance {
            source: "http".into(),
            seed: Seed([7; 16]),
            received_at: Timestamp(1_735_689_600_000_000),
            peer: None,
            stamp: stamp.map(Arc::new),
        };
        let mut batch = Batch::new(Bytes::copy_from_slice(line.as_bytes()), Arc::new(provenance));
        batch.push_validated(0..line.len(), 0);
        apply(&mut batch);
        let mut out = Vec::new();
        batch.render_event(0, &mut out);
        Scanner::new().validate(&out).expect("a stamped event is valid");
        String::from_utf8(out).expect("text")
    }

    fn as_ali(line: &str) -> String {
        stamped(line, Some(Stamp::user("ali")))
    }

    fn as_shop(line: &str) -> String {
        stamped(line, Some(Stamp::service("shop")))
    }

    #[test]
    fn a_user_claims_no_rights_no_agent_and_no_address() {
        assert_eq!(
            as_ali(r#"{"is_admin":true,"agent":"w1","peer_ip":"10.0.0.1","reported_by":"bank","a":1}"#),
            r#"{"a":1,"user_id":"ali","metadata":{"claimed_reported_by":"bank","claimed_is_admin":true,"claimed_agent":"w1","claimed_peer_ip":"10.0.0.1"}}"#
        );
        assert_eq!(as_ali(r#"{"user_id":"ali","is_admin":null}"#), r#"{"user_id":"ali"}"#);
        let service = r#"{"is_admin":true,"agent":"w1","peer_ip":"10.0.0.1","reported_by":"shop"}"#;
        assert_eq!(as_shop(service), service);
    }

    #[test]
    fn a_user_is_who_the_token_says() {
        assert_eq!(as_ali(r#"{"a": 1}"#), r#"{"a": 1,"user_id":"ali"}"#);
        assert_eq!(
            as_ali(r#"{"user_id":"eve","a":1}"#),
            r#"{"user_id":"ali","a":1,"metadata":{"claimed_user_id":"eve"}}"#
        );
        assert_eq!(as_ali(r#"{"user_id":null}"#), r#"{"user_id":"ali"}"#);
    }

    #[test]
    fn aliases_are_claims_as_well_and_keep_their_place() {
        for alias in ["username", "user", "userId"] {
            assert_eq!(
                as_ali(&format!(r#"{{"{alias}":"eve","metadata":{{"k":1}},"a":1}}"#)),
                r#"{"user_id":"ali","metadata":{"k":1,"claimed_user_id":"eve"},"a":1}"#
            );
        }
        assert_eq!(
            as_ali(r#"{"user":{"id":7},"a":1,"user_id":"eve","username":"ali"}"#),
            r#"{"a":1,"user_id":"ali","metadata":{"claimed_user_id":["eve","{\"id\":7}"]}}"#
        );
    }

    #[test]
    fn a_true_claim_changes_nothing() {
        let line = r#"{ "user_id" : "ali", "n": 1e400 }"#;
        assert_eq!(as_ali(line), line);
        assert_eq!(as_ali(r#"{"username":"ali"}"#), r#"{"user_id":"ali"}"#);
    }

    #[test]
    fn a_claim_cannot_be_hidden_by_writing_another_into_metadata() {
        assert_eq!(
            as_ali(r#"{"user_id":"eve","metadata":{"claimed_user_id":"ali","claimed_user_id":1}}"#),
            r#"{"user_id":"ali","metadata":{"claimed_user_id":"eve","claimed_user_id":"eve"}}"#
        );
        assert_eq!(
            as_ali(r#"{"user_id":"eve","metadata":"text"}"#),
            r#"{"user_id":"ali","metadata":{"metadata":"text","claimed_user_id":"eve"}}"#
        );
    }

    #[test]
    fn a_service_keeps_the_users_it_names_and_is_named_itself() {
        assert_eq!(as_shop(r#"{"username":"bob"}"#), r#"{"username":"bob","reported_by":"shop"}"#);
        assert_eq!(
            as_shop(r#"{"reported_by":"bank"}"#),
            r#"{"reported_by":"shop","metadata":{"claimed_reported_by":"bank"}}"#
        );
    }

    #[test]
    fn where_an_execution_was_seen_is_said_by_the_source_alone() {
        let seen = |capture, sender| Some(Stamp { capture, sender });
        let server = r#"{"a":1,"capture":"server"}"#;
        assert_eq!(
            stamped(server, seen(Some(Capture::Kernel), None)),
            r#"{"a":1,"capture":"kernel","metadata":{"claimed_capture":"server"}}"#
        );
        assert_eq!(stamped(r#"{"a":1}"#, seen(Some(Capture::Server), None)), r#"{"a":1,"capture":"server"}"#);
        assert_eq!(as_ali(server), r#"{"a":1,"user_id":"ali","metadata":{"claimed_capture":"server"}}"#);
        assert_eq!(
            as_shop(server),
            r#"{"a":1,"capture":"server","reported_by":"shop"}"#,
            "another Weir has stamped it"
        );
    }

    #[test]
    fn nobody_reports_for_a_user_who_speaks_for_himself() {
        assert_eq!(
            as_ali(r#"{"user_id":"ali","reported_by":"bank"}"#),
            r#"{"user_id":"ali","metadata":{"claimed_reported_by":"bank"}}"#
        );
    }

    #[test]
    fn without_a_stamp_an_event_stays_as_it_came() {
        let line = r#"{"user_id":"eve","username":"mallory"}"#;
        assert_eq!(stamped(line, None), line);
    }

    proptest! {
        #[test]
        fn a_second_stamp_changes_nothing(
            names in proptest::sample::subsequence(vec!["user_id", "username", "user", "reported_by", "metadata"], 0..5),
            values in proptest::collection::vec(proptest::sample::select(vec![
                "null", "1", "\"ali\"", "\"eve\"", "\"\\u0061li\"", "{\"claimed_user_id\":1}", "[[]]",
            ]), 5),
        ) {
            let members: Vec<String> = names.iter().zip(&values).map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let line = format!("{{{}}}", members.join(","));
            let once = as_ali(&line);
            prop_assert_eq!(as_ali(&once), once);
            let once = as_shop(&line);
            prop_assert_eq!(as_shop(&once), once);
        }
    }
}
