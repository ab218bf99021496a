//! Tests of requests, byte for byte.

use std::sync::Arc;

use super::*;
use crate::component::RecordSlice;
use crate::event::{Lines, Origins, Seed};
use crate::journal::{Record, StreamId};
use crate::toolkit::fake::sink_context;
use crate::units::Timestamp;

fn batch(lines: &[&str]) -> WriteBatch {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ends = lines.iter().scan(0, |at, line| {
        *at += line.len() as u32 + 1;
        Some(*at)
    });
    let origins = Origins::of(Seed([7; 16]), 0..lines.len() as u64);
    let lines = Lines { ends: ends.collect(), bytes: Bytes::from(text.clone()), origins };
    let count = lines.len();
    let record = Record {
        stream: StreamId(0),
        first_seq: 7,
        stream_first: 0,
        received_at: Timestamp(1_700_000_000_000_000),
        lines,
    };
    WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..count }] }
}

fn sink(yaml: &str) -> Http {
    let cx = sink_context();
    let config: Config = crate::diagnostic::from_yaml(yaml).expect(yaml);
    let mut check = Check::new("out", "/nowhere", true);
    Http::check(&config, &mut check);
    assert_eq!(check.problems.count_errors(), 0, "{yaml}: {:?}", check.problems);
    Http::new(&config, &cx).expect(yaml)
}

fn problem(yaml: &str) -> String {
    let config: Config = crate::diagnostic::from_yaml(yaml).expect(yaml);
    let mut check = Check::new("out", "/nowhere", true);
    Http::check(&config, &mut check);
    assert_eq!(check.problems.count_errors(), 1, "{yaml}: {:?}", check.problems);
    format!("{:?}", check.problems)
}

fn text(outgoing: &Outgoing) -> &str {
    std::str::from_utf8(&outgoing.body).expect("text")
}

fn header<'o>(outgoing: &'o Outgoing, name: &str) -> &'o str {
    outgoing.headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

#[test]
fn a_body_holds_the_lines_as_they_are_or_one_array_or_a_table() {
    let write_batch = batch(&[r#"{"n": 1.50,"user_id":"ali"}"#, r#"{"n":2}"#]);
    let bodies = |yaml: &str| sink(yaml).encode(&write_batch).expect("it can be encoded");
    let plain = bodies("uri: http://a/in");
    assert_eq!(text(&plain[0]), "{\"n\": 1.50,\"user_id\":\"ali\"}\n{\"n\":2}\n");
    assert_eq!(plain[0].body.as_ptr(), write_batch.slices[0].chunk().as_ptr(), "nothing was copied");
    assert_eq!(header(&plain[0], "content-type"), "application/x-ndjson");
    let array = bodies("{uri: http://a/in, encoding: {format: json}}");
    assert_eq!(text(&array[0]), "[{\"n\": 1.50,\"user_id\":\"ali\"},\n{\"n\":2}]");
    assert_eq!(header(&array[0], "content-type"), "application/json");
    let table = bodies("{uri: http://a/in, encoding: {format: csv, columns: [n]}, headers: {Content-Type: text/x}}");
    assert_eq!((text(&table[0]), header(&table[0], "content-type")), ("n\n1.50\n2\n", "text/x"));
    let unfit = sink("{uri: http://a/in, encoding: {format: text, template: '{{ user_id }}'}}").encode(&write_batch);
    let Err(Failure::Some(unfit, _)) = unfit else { panic!("the second has no user") };
    assert_eq!(unfit.len(), 1);
    assert_eq!(unfit[0].0, 1);
}

#[test]
fn each_address_and_set_of_headers_gets_a_request_of_its_own() {
    let write_batch = batch(&[
        r#"{"n":0,"t":"a"}"#,
        r#"{"n":1,"t":"b","timestamp":"2025-03-01T10:00:00Z"}"#,
        r#"{"n":2,"t":"a"}"#,
        r#"{"n":3,"t":"a","role":"x"}"#,
    ]);
    let sink = sink("{uri: 'http://a/{{ t }}?d=%Y', headers: {x-role: 'r-{{ role | none }}'}}");
    let requests = sink.encode(&write_batch).expect("it can be encoded");
    let seen: Vec<_> = requests
        .iter()
        .map(|r| (r.uri.to_string(), header(r, "x-role"), r.events.clone().unwrap_or_default()))
        .collect();
    assert_eq!(
        seen,
        [
            ("http://a/a?d=2023".to_owned(), "r-none", vec![0, 2]),
            ("http://a/a?d=2023".to_owned(), "r-x", vec![3]),
            ("http://a/b?d=2025".to_owned(), "r-none", vec![1]),
        ]
    );
    assert_eq!(text(&requests[0]), "{\"n\":0,\"t\":\"a\"}\n{\"n\":2,\"t\":\"a\"}\n");
}

#[test]
fn what_would_leave_its_place_is_poison_and_the_rest_is_not() {
    let write_batch = batch(&[r#"{"t":"a"}"#, r#"{"t":".."}"#, r#"{"t":"b","h":"x\r\nevil: 1"}"#]);
    let Err(Failure::Some(failures, _)) =
        sink("{uri: 'http://a/{{ t }}', headers: {x: '{{ h | - }}'}}").encode(&write_batch)
    else {
        panic!("two of them do not fit")
    };
    let answers: Vec<_> = failures.iter().map(|(nth, failure)| (*nth, failure.answer())).collect();
    assert_eq!(answers[0].0, 1);
    assert!(answers[0].1.starts_with("confinement_failed: "), "{answers:?}");
    assert_eq!(answers[1], (2, "`x` cannot hold a line break or control character"));
}

#[test]
fn an_idempotency_key_names_these_events_in_this_body() {
    let key = |yaml: &str, batch: &WriteBatch| {
        header(&sink(yaml).encode(batch).expect("encoded")[0], "idempotency-key").to_owned()
    };
    let (one, yaml) = (batch(&["{}", "{}"]), "uri: http://a/");
    assert_eq!(key(yaml, &one), key(yaml, &one));
    assert_eq!(key(yaml, &one).len(), 36);
    let (head, tail) = one.split(1);
    assert_ne!(key(yaml, &head), key(yaml, &tail), "they look the same and are two");
    assert_ne!(key(yaml, &head), key("{uri: http://a/, encoding: {format: json}}", &head));
    assert_eq!(key("{uri: http://a/, idempotency_key: false}", &one), "");
}

#[test]
fn another_weir_says_what_it_refuses_and_other_servers_say_what_they_like() {
    let answer = br#"{"accepted":1,"refused":[{"index":1,"reason":"too\nlarge"},{"index":9,"reason":"?"}]}"#;
    let refused = |body: &[u8], len| {
        let body = Bytes::copy_from_slice(body);
        refused(&Answer { status: StatusCode::OK, headers: HeaderMap::new(), body, is_whole: true }, len)
    };
    assert_eq!(refused(answer, 2), Ok(vec![(1, Failure::poison("too large"))]));
    let unnamed = refused(br#"{"accepted":1,"refused":[]}"#, 2);
    assert!(matches!(unnamed, Err(Failure::Poison { .. })), "one of them is not taken: {unnamed:?}");
    for other in ["", "ok", "{}", r#"{"refused":[1]}"#, r#"{"accepted":true,"refused":[]}"#] {
        assert_eq!(refused(other.as_bytes(), 2), Ok(Vec::new()), "{other}");
    }
    // More was refused than is listed: those that are not listed are not known to be taken.
    let cut = br#"{"accepted":2,"refused":[{"index":1,"reason":"bad"}],"refused_count":2}"#;
    let Ok(failures) = refused(cut, 4) else { panic!("some are named") };
    let suspects = failures.iter().filter(|(_, failure)| matches!(failure, Failure::Suspect { .. })).count();
    assert_eq!((failures.len(), suspects), (4, 3), "{failures:?}");
    let whole = br#"{"accepted":3,"refused":[{"index":1,"reason":"bad"}],"refused_count":1}"#;
    assert_eq!(refused(whole, 4), Ok(vec![(1, Failure::poison("bad"))]));
    let torn = br#"{"accepted":3,"refused":[{"index":1,"rea"#;
    assert!(matches!(refused(torn, 4), Err(Failure::Poison { .. })));
    let long: Vec<String> = (0..40_000).map(|n| format!(r#"{{"index":{n},"reason":"{}"}}"#, "x".repeat(40))).collect();
    let long = format!(r#"{{"accepted":1,"refused":[{}]}}"#, long.join(","));
    assert_eq!(refused(long.as_bytes(), 40_001).map(|failures| failures.len()), Ok(40_000));
}

#[test]
fn a_wrong_configuration_is_said_before_anything_is_sent() {
    for (yaml, said) in [
        ("uri: logs.example", "starts with `http://`"),
        ("{uri: http://a/, headers: {'a b': x}}", "`a b` is not a header name"),
        ("{uri: http://a/, headers: {Content-Length: '1'}}", "`Content-Length` follows from the body"),
        ("{uri: http://a/, headers: {authorization: x}, auth: {type: bearer, token: t}}", "`auth` sets this header"),
        ("{uri: http://a/, headers: {x: \"a\\nb\"}}", "it contains a control character"),
        ("{uri: http://a/, encoding: {format: text, template: '{{'}}", "unclosed"),
        ("{uri: http://a/, auth: {type: bearer}}", "needs `token`"),
    ] {
        assert!(problem(yaml).contains(said), "{yaml}: {}", problem(yaml));
    }
}
