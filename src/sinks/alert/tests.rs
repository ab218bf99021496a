//! Tests of message texts, and of what event text cannot change in them.

use serde_json::{Value, json};

use super::*;
use crate::component::{BatchEvent, RecordSlice};
use crate::diagnostic;
use crate::event::{Lines, Origins, Seed};
use crate::journal::{Record, StreamId};
use crate::toolkit::fake::sink_context;
use crate::units::Timestamp;

fn batch(events: &[Value]) -> WriteBatch {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for event in events {
        bytes.extend_from_slice(event.to_string().as_bytes());
        bytes.push(b'\n');
        ends.push(bytes.len() as u32);
    }
    let origins = Origins::of(Seed([3; 16]), 0..events.len() as u64);
    let lines = Lines { bytes: bytes.into(), ends, origins };
    let record = Record { stream: StreamId(0), first_seq: 1, stream_first: 0, received_at: Timestamp(1), lines };
    WriteBatch { slices: vec![RecordSlice { record: record.into(), events: 0..events.len() }] }
}

fn messages(events: &[Value]) -> Vec<Outgoing> {
    message::group(&batch(events), &["metadata".into(), "rule".into()])
}

fn alert(rule: &str, description: &str) -> Value {
    json!({
        "timestamp": "2026-01-01T00:00:00Z", "event_type": "alert", "status": "warning", "description": description,
        "user_id": "ali", "metadata": {"rule": rule, "severity": "warning", "resolved": false},
    })
}

#[test]
fn alerts_of_one_rule_are_one_message_and_what_is_resolved_another() {
    let mut over = alert("a", "over");
    over["metadata"]["resolved"] = true.into();
    let mut grave = alert("a", "second");
    grave["metadata"]["severity"] = "critical".into();
    let found = messages(&[alert("a", "first"), alert("b", "other"), over, grave]);
    let heads: Vec<String> = found.iter().map(|outgoing| outgoing.message.headline()).collect();
    assert_eq!(heads, ["[CRITICAL] a: 2 alerts", "[RESOLVED] a", "[WARNING] b: 1 alert"]);
    assert_eq!(found[0].events, [0, 3]);
    let text = found[0].message.text(7);
    assert_eq!(
        text,
        "[CRITICAL] a: 2 alerts\r\n\r\n- 2026-01-01T00:00:00Z first (user_id=ali)\r\n\
         - 2026-01-01T00:00:00Z second (user_id=ali)\r\n\
         - 7 earlier alerts were suppressed by the rate limit\r\n"
    );
}

#[test]
fn a_chat_sees_text_and_nobody_is_mentioned() {
    let hostile = "<!channel> <@U123> @everyone *bold* <http://evil|click> & \u{202E}txt\nnew line";
    let body: Value = serde_json::from_slice(&messages(&[alert("r<x>", hostile)])[0].message.slack(0)).unwrap();
    let text = body["text"].as_str().unwrap();
    assert!(!text.contains(['<', '>']), "{text}");
    assert!(text.split('@').skip(1).all(|behind| behind.starts_with('\u{200B}')), "{text}");
    assert!(text.contains("&lt;!channel&gt;") && text.contains("&amp; txt new line"), "{text}");
    assert_eq!((text.lines().count(), &body["mrkdwn"]), (2, &json!(false)));
}

#[test]
fn code_comes_as_a_preview_and_traces_not_at_all() {
    let event = json!({"event_type": "x", "code": "s".repeat(5000), "error_trace": "secret/path", "description": "d"});
    let body: Value = serde_json::from_slice(&messages(&[event])[0].message.webhook(0)).unwrap();
    assert_eq!(body["alerts"][0]["code"].as_str().map(str::len), Some(100));
    assert!(body["alerts"][0].get("error_trace").is_none());
    assert_eq!((&body["count"], &body["group"]), (&json!(1), &json!("x")));
}

#[test]
fn of_many_alerts_people_read_some_and_programs_get_all() {
    let events: Vec<Value> = (0..120).map(|n| alert("r", &format!("n{n}"))).collect();
    let found = messages(&events);
    assert_eq!(found.iter().map(|outgoing| outgoing.events.len()).collect::<Vec<_>>(), [50, 50, 20]);
    assert!(found[0].message.text(0).contains("and 40 more"));
    let body: Value = serde_json::from_slice(&found[0].message.webhook(0)).unwrap();
    assert_eq!(body["alerts"].as_array().map(Vec::len), Some(50));
}

fn mailer() -> Mailer {
    let config = "{ server: 'localhost:2525', security: none, from: 'Weir <weir@example.org>', to: [ops@example.org], subject: '[lab]' }";
    let config: email::Config = diagnostic::from_yaml(config).unwrap_or_else(|report| panic!("{report}"));
    Mailer::new(&config, &sink_context(), &mut SecretMask::default()).unwrap()
}

#[tokio::test]
async fn an_event_adds_no_header_and_no_recipient_to_a_mail() {
    let hostile = "x\r\nBcc: evil@example.com\r\n\r\n<script>";
    let mail = mailer().mail(&messages(&[alert(hostile, "هشدار\r\n.\r\nDATA")])[0].message, 0).unwrap();
    let text = String::from_utf8(mail.formatted()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let names: Vec<&str> =
        head.lines().filter(|line| !line.starts_with(' ')).map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["From", "To", "Subject", "Content-Type", "Content-Transfer-Encoding", "Date"], "{head}");
    let envelope: Vec<String> = mail.envelope().to().iter().map(ToString::to_string).collect();
    assert_eq!(envelope, ["ops@example.org"]);
    assert!(!body.lines().any(|line| line == "."), "no line ends the mail: {body}");
}

#[tokio::test]
async fn a_persian_subject_is_encoded() {
    let mail = mailer().mail(&messages(&[alert("ورود ناموفق", "x")])[0].message, 0).unwrap();
    assert!(mail.formatted().is_ascii());
}

#[test]
fn what_cannot_be_an_alert_sink_is_said() {
    let problems = |yaml: &str| {
        let config: Config = diagnostic::from_yaml(yaml).unwrap_or_else(|report| panic!("{report}"));
        let mut check = Check::new("it", "/nowhere", true);
        Alert::check(&config, &mut check);
        check.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>()
    };
    assert_eq!(problems("{}"), [": expected exactly one of `webhook`, `slack` and `email`"]);
    assert_eq!(
        problems("slack: { url: 'ftp://x' }"),
        ["slack.url: expected an address that begins with `https://` or `http://`"]
    );
    let email = "email: { server: 'mail.example:25', security: none, from: me, to: [], username: a, password: b }";
    assert_eq!(
        problems(email),
        [
            "email.from: `me` is not an e-mail address",
            "email.to: expected 1 to 50 e-mail addresses",
            "email.security: the password would be sent unencrypted: use `starttls` or `tls`",
        ]
    );
    assert!(problems("webhook: { url: 'https://x/y' }").is_empty());
}

#[test]
fn a_failure_is_that_of_its_message_and_of_those_behind_it() {
    let found = messages(&[alert("a", "1"), alert("b", "2"), alert("a", "3")]);
    let of_rest = |failure, rest| of_rest(failure, rest, 3, Written::default());
    for whole in [Failure::transient("down"), Failure::configuration("no"), Failure::ambiguous("no")] {
        assert_eq!(of_rest(whole.clone(), &found), whole);
    }
    let Failure::Some(failures, _) = of_rest(Failure::poison("no"), &found) else { panic!("some") };
    assert_eq!(failures[0], (0, Failure::Suspect { answer: "no".into() }));
    assert!(matches!(&failures[1], (1, Failure::Transient { .. })));
    for (failure, of_one) in [Failure::poison("no"), Failure::ambiguous("no")].map(|failure| (failure.clone(), failure))
    {
        let Failure::Some(failures, _) = of_rest(failure, &found[1..]) else { panic!("some") };
        assert_eq!(failures, [(1, of_one)]);
    }
}

#[test]
fn what_the_limit_holds_back_is_not_delivered_though_a_later_message_fails() {
    let found = messages(&[alert("a", "1"), alert("b", "2")]);
    let before = Written { discarded: 1, ..Written::default() };
    let Failure::Some(failures, written) = of_rest(Failure::transient("down"), &found[1..], 2, before) else {
        panic!("some")
    };
    assert_eq!((failures.len(), written.discarded), (1, 1));
}

#[test]
fn events_are_counted_by_their_place_in_the_batch() {
    let events = [alert("b", "0"), alert("a", "1")];
    let batch = batch(&events);
    let ids: Vec<String> = batch.events().map(|event: BatchEvent<'_>| event.id().to_string()).collect();
    let found = messages(&events);
    let body: Value = serde_json::from_slice(&found[0].message.webhook(0)).unwrap();
    assert_eq!((found[0].events.as_slice(), body["ids"][0].as_str()), (&[1][..], Some(ids[1].as_str())));
}
