//! Tests of request bodies byte for byte, and of every kind of answer.

use std::io::Read as _;
use std::sync::Arc;

use hyper::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::component::RecordSlice;
use crate::event::{Id, Lines, Origins, Scanner, Seed};
use crate::journal::{Record, StreamId};
use crate::units::Timestamp;

const ID: &str = "0195e0a0-0000-7000-8000-0000000000a1";

fn batch(lines: &[&str]) -> WriteBatch {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        ends.push(bytes.len() as u32);
    }
    let origins = Origins::of(Seed([3; 16]), 0..lines.len() as u64);
    let record = Record {
        stream: StreamId(1),
        first_seq: 1,
        stream_first: 0,
        received_at: Timestamp(1_735_689_600_000_000),
        lines: Lines { bytes: bytes.into(), ends, origins },
    };
    WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..lines.len() }] }
}

fn config(more: Value) -> Config {
    let mut config = json!({"endpoints": ["http://localhost:9200"]});
    config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    serde_json::from_value(config).expect("a configuration")
}

fn body(more: Value, lines: &[&str]) -> Result<String, Failure> {
    let encoder = config(more).encoder().expect("it can be used");
    encoder.body(&batch(lines)).map(|body| String::from_utf8(body).expect("text"))
}

fn derived(nth: u64) -> Id {
    Seed([3; 16]).id(nth)
}

#[test]
fn a_body_is_an_action_and_the_events_line_with_its_time() {
    let lines = [
        &*format!(r#"{{"id":"{ID}","timestamp":"2025-01-31T08:00:00Z","n":1.50}}"#),
        r#"{ "timestamp" : 1738400400 }"#,
        r#"{"@timestamp":"2024-01-01","x":1}"#,
        "{}",
    ];
    let expected = format!(
        "{{\"create\":{{\"_id\":\"{ID}\"}}}}\n\
         {{\"@timestamp\":\"2025-01-31T08:00:00Z\",\"id\":\"{ID}\",\"timestamp\":\"2025-01-31T08:00:00Z\",\"n\":1.50}}\n\
         {{\"create\":{{\"_id\":\"{}\"}}}}\n\
         {{\"@timestamp\":\"2025-02-01T09:00:00Z\", \"timestamp\" : 1738400400 }}\n\
         {{\"create\":{{\"_id\":\"{}\"}}}}\n\
         {{\"@timestamp\":\"2024-01-01\",\"x\":1}}\n\
         {{\"create\":{{\"_id\":\"{}\"}}}}\n\
         {{\"@timestamp\":\"2025-01-01T00:00:00.000Z\"}}\n",
        derived(1),
        derived(2),
        derived(3)
    );
    assert_eq!(body(json!({"index": "logs"}), &lines), Ok(expected));
}

#[test]
fn the_index_follows_the_events_own_time_and_fields() {
    let lines = [
        r#"{"timestamp":"2025-01-31T23:59:59Z","t":"a"}"#,
        r#"{"timestamp":"2025-01-31T23:59:59.5-01:00","t":"b"}"#,
        r#"{"t":"c"}"#,
        r#"{"timestamp":"2025-01-31T00:00:00Z","t":"a"}"#,
    ];
    let indices = |index: &str| -> Vec<String> {
        let body = body(json!({"index": index}), &lines).expect("a body");
        let actions = body.lines().step_by(2).map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        actions.map(|action| action["create"]["_index"].as_str().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(indices("log-%Y.%m.%d"), ["log-2025.01.31", "log-2025.02.01", "log-2025.01.01", "log-2025.01.31"]);
    assert_eq!(indices("log-{{ t }}-%Y"), ["log-a-2025", "log-b-2025", "log-c-2025", "log-a-2025"]);
    assert_eq!(indices("log"), ["", "", "", ""]);
}

#[test]
fn an_event_that_wants_out_of_its_index_is_poison_and_the_others_are_not() {
    let forged = r#"{"t":"x\n{\"delete\":{\"_index\":\"y\",\"_id\":\"1\"}}"}"#;
    let failure = body(json!({"index": "log-{{ t }}"}), &[r#"{"t":"a"}"#, forged, "{}", r#"{"t":"A"}"#]);
    let Err(Failure::Some(failures, _)) = failure else { panic!("{failure:?}") };
    assert_eq!(failures.iter().map(|(nth, _)| *nth).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(failures.iter().all(|(_, failure)| matches!(failure, Failure::Poison { .. })));
    assert!(failures[1].1.answer().contains("`t`"), "{failures:?}");
}

#[test]
fn a_compressed_body_is_the_same_body() {
    let encoder = config(json!({"encoding": "ecs"})).encoder().expect("it can be used");
    let write_batch = batch(&[r#"{"user_id":"ali"}"#, r#"{"user_id":"eve"}"#]);
    let sent = encoder.encode(&write_batch).expect("a body");
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut text).expect("gzip");
    assert_eq!(text, encoder.body(&write_batch).expect("a body"));
    assert!(String::from_utf8(text).expect("text").contains(r#""user":{"id":"ali"}"#));
}

proptest! {
    #[test]
    fn every_line_of_a_body_is_valid_and_the_events_own_members_stay(
        members in proptest::collection::vec((proptest::sample::select(vec![
            "id", "timestamp", "@timestamp", "i\\u0064", "\\u0040timestamp", "x",
        ]), proptest::sample::select(vec!["1", "\"a\"", "null", "[]", "\"2025-01-31T08:00:00Z\"", "{\"b\":\"}\"}"])), 0..6),
    ) {
        let texts: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let line = format!("{{{}}}", texts.join(","));
        let body = body(json!({"index": "a-%Y"}), &[&line]).expect("a body");
        let lines: Vec<&str> = body.lines().collect();
        prop_assert_eq!(lines.len(), 2);
        Scanner::new().validate(lines[1].as_bytes()).expect("a valid document");
        prop_assert!(lines[1].ends_with(&line[1..]));
        let times = crate::event::Raw::valid(lines[1].as_bytes()).members();
        let times = times.filter(|(name, _)| crate::event::raw::name_is(name, "@timestamp")).count();
        let own = members.iter().filter(|(name, _)| name.ends_with("timestamp") && *name != "timestamp").count();
        prop_assert_eq!(times, own.max(1));
    }
}

fn classified(status: u16, kind: &'static str, body: &str, sent: usize) -> Result<Written, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
    let status = StatusCode::from_u16(status).expect("a status");
    let answer = Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), is_whole: true };
    answer::classify(&answer, sent, false, &mut Vec::new())
}

/// What an answer means with items of these statuses and types.
fn items(items: &[(u16, &str)]) -> Result<Written, Failure> {
    let item = |(status, kind): &(u16, &str)| match *kind {
        "" => json!({"create": {"status": status}}),
        kind => json!({"create": {"status": status, "error": {"type": kind, "reason": "why", "index": "x"}}}),
    };
    let items: Vec<Value> = items.iter().map(item).collect();
    classified(200, "application/json", &json!({"errors": true, "items": items}).to_string(), items.len())
}

const CONFLICT: (u16, &str) = (409, "version_conflict_engine_exception");

#[test]
fn what_is_there_already_is_done_and_counted() {
    assert_eq!(items(&[(201, ""), CONFLICT, (201, "")]), Ok(Written { duplicates: 1, ..Written::default() }));
    assert_eq!(items(&[CONFLICT; 3]), Ok(Written { duplicates: 3, ..Written::default() }));
}

#[test]
fn only_the_items_that_failed_fail_each_in_its_way() {
    let answer = items(&[
        (201, ""),
        (400, "document_parsing_exception"),
        (429, "es_rejected_execution_exception"),
        (403, "cluster_block_exception"),
        CONFLICT,
        (404, "index_not_found_exception"),
        (503, "unavailable_shards_exception"),
        (400, "illegal_argument_exception"),
        (400, "something_new_exception"),
    ]);
    let Err(Failure::Some(failures, _)) = answer else { panic!("{answer:?}") };
    let class = |failure: &Failure| match failure {
        Failure::Transient { .. } => 't',
        Failure::Configuration { .. } => 'c',
        Failure::Poison { .. } => 'p',
        Failure::Ambiguous { .. } => 'a',
        Failure::Suspect { .. } | Failure::Some(..) => '?',
    };
    let seen: Vec<(usize, char)> = failures.iter().map(|(nth, failure)| (*nth, class(failure))).collect();
    assert_eq!(seen, [(1, 'p'), (2, 't'), (3, 'c'), (5, 'c'), (6, 't'), (7, 'a'), (8, 'a')]);
    assert_eq!(failures[0].1.answer(), "400 document_parsing_exception: why");
}

#[test]
fn what_befalls_all_items_is_the_targets_own_state() {
    assert!(matches!(items(&[(429, "es_rejected_execution_exception"); 3]), Err(Failure::Transient { .. })));
    for all in [(403, "cluster_block_exception"), (429, "cluster_block_exception"), (400, "index_closed_exception")] {
        assert!(matches!(items(&[all; 3]), Err(Failure::Configuration { .. })), "{all:?}");
    }
    assert!(
        matches!(items(&[(400, "mapper_parsing_exception"); 3]), Err(Failure::Some(failures, _)) if failures.len() == 3)
    );
}

#[test]
fn where_indices_vary_each_event_is_refused_by_its_own() {
    let body = r#"{"items":[{"create":{"status":404,"error":{"type":"index_not_found_exception"}}}]}"#;
    let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into(), is_whole: true };
    assert!(matches!(answer::classify(&answer, 1, false, &mut Vec::new()), Err(Failure::Configuration { .. })));
    let Err(Failure::Some(failures, _)) = answer::classify(&answer, 1, true, &mut Vec::new()) else {
        panic!("of each event")
    };
    assert!(matches!(failures[..], [(0, Failure::Configuration { .. })]), "{failures:?}");
    let at = |index: &str| {
        let names = NameTemplate::parse(index, &INDEX).expect("a name");
        let encoder = Encoder { names, shape: Shape::Line, compression: Compression::None };
        let write_batch = batch(&[r#"{"timestamp":"2025-03-01T10:00:00Z","tenant":"a"}"#]);
        encoder.index_of(write_batch.event(0))
    };
    assert_eq!(at("x-{{ tenant }}-%Y"), Some("x-a-2025".to_owned()));
    assert_eq!(at("x-%Y.%m"), Some("x-2025.03".to_owned()));
    assert_eq!((at("x"), at("x-{{ nothing }}")), (None, None));
}

#[test]
fn an_answer_that_does_not_fit_is_no_success() {
    let short = classified(200, "application/json", r#"{"errors":false,"items":[{"create":{"status":201}}]}"#, 2);
    assert_eq!(short, Err(Failure::transient("the server answered for 1 of 2 events")));
    for text in ["", "{", "{}", r#"{"items":[{"index":{"status":201}}]}"#, r#"{"items":[{"create":{}}]}"#] {
        let answer = classified(200, "application/json", text, 1);
        assert!(matches!(answer, Err(Failure::Transient { .. })), "{text}: {answer:?}");
    }
    let page = classified(200, "text/html", "<html>please sign in</html>", 1);
    assert!(matches!(page, Err(Failure::Configuration { .. })), "{page:?}");
}

#[test]
fn a_refused_request_tells_the_servers_reason() {
    let text = r#"{"error":{"root_cause":[],"type":"security_exception","reason":"unable to authenticate user [weir]"},"status":401}"#;
    let expected = "401 Unauthorized: security_exception: unable to authenticate user [weir]";
    assert_eq!(classified(401, "application/json", text, 1), Err(Failure::configuration(expected)));
    assert!(matches!(classified(413, "text/plain", "", 5), Err(Failure::Poison { .. })));
    for status in [429, 502, 503] {
        let Err(Failure::Transient { after, .. }) = classified(status, "text/html", "<html>", 1) else {
            panic!("{status}")
        };
        assert_eq!(after, Some(std::time::Duration::from_secs(7)));
    }
}

fn problems(more: Value) -> Vec<String> {
    let mut check = Check::new("es", "data", true);
    Elasticsearch::check(&config(more), &mut check);
    check.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn a_configuration_is_checked_before_anything_is_asked() {
    assert_eq!(problems(json!({})), [""; 0]);
    for (more, expected) in [
        (json!({"endpoints": []}), "endpoints: there is no node"),
        (json!({"endpoints": ["http://a", "b:9200"]}), "endpoints[1]: `b:9200` is not a URL"),
        (json!({"index": "{{ t }}-a"}), "index: the index must start with fixed text"),
        (json!({"index": "_all"}), "index: the name of an index begins with"),
        (json!({"index": "Logs"}), "index: \"Logs\" is not a valid index"),
        (json!({"encoding": "csv"}), "encoding: documents are JSON"),
        (json!({"pipeline": "a/../b"}), "pipeline: "),
        (json!({"auth": {"type": "basic", "user": "a"}}), "auth.password: `basic` needs a `password`"),
        (json!({"auth": {"type": "api_key", "token": "a"}}), "auth.key: `api_key` needs a `key`"),
        (
            json!({"auth": {"type": "bearer", "token": "a", "user": "b"}}),
            "auth.user: `user` does not apply to `type: bearer`",
        ),
        (
            json!({"endpoints": ["http://es:9200"], "auth": {"type": "bearer", "token": "a"}}),
            "endpoints[0]: credentials go over the network unencrypted",
        ),
    ] {
        let said = problems(more.clone());
        assert!(said.len() == 1 && said[0].starts_with(expected), "{more}: {said:?}");
    }
}

#[test]
fn credentials_take_the_form_that_the_server_reads_and_are_not_shown() {
    let header = |auth: Value| {
        let auth: Auth = serde_json::from_value(auth).expect("an auth");
        assert!(!format!("{auth:?}").contains("geheim"));
        let value = auth.header().expect("it holds").expect("a header");
        assert!(!format!("{value:?}").contains("geheim"), "{value:?}");
        value.to_str().expect("text").to_owned()
    };
    assert_eq!(header(json!({"type": "basic", "user": "ali", "password": "geheim"})), "Basic YWxpOmdlaGVpbQ==");
    assert_eq!(header(json!({"type": "bearer", "token": "geheim\n"})), "Bearer geheim");
    assert_eq!(header(json!({"type": "api_key", "key": "aWQ6Z2VoZWlt"})), "ApiKey aWQ6Z2VoZWlt");
    assert_eq!(header(json!({"type": "api_key", "key": "id:geheim"})), "ApiKey aWQ6Z2VoZWlt");
}
