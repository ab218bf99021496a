//! Tests of requests, byte for byte.

use std::sync::Arc;

use super::*;
use crate::component::RecordSlice;
use crate::event::{Lines, Origins, Seed};
use crate::journal::{Record, StreamId};
use crate::toolkit::fake::sink_context;
use crate::units::Timestamp;

fn batch(line: &str) -> WriteBatch {
    let bytes = Bytes::from(format!("{line}\n"));
    let origins = Origins::of(Seed([7; 16]), [0]);
    let lines = Lines { ends: vec![bytes.len() as u32], bytes, origins };
    let received_at = Timestamp(1_700_000_000_500_000);
    let record = Record { stream: StreamId(0), first_seq: 7, stream_first: 0, received_at, lines };
    WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..1 }] }
}

fn config(yaml: &str) -> (Config, Check) {
    let config: Config = crate::diagnostic::from_yaml(yaml).expect(yaml);
    let mut check = Check::new("out", "/nowhere", true);
    SplunkHec::check(&config, &mut check);
    (config, check)
}

fn sink(yaml: &str) -> SplunkHec {
    let (config, check) = config(&format!("{{endpoint: 'https://s:8088/services/collector/', token: t0ken, {yaml}}}"));
    assert_eq!(check.problems.count_errors(), 0, "{yaml}: {:?}", check.problems);
    let cx = sink_context();
    SplunkHec::new(&config, &cx).expect(yaml)
}

fn body(yaml: &str, line: &str) -> Result<String, Failure> {
    sink(yaml).encode(&batch(line)).map(|body| String::from_utf8(body.to_vec()).expect("text"))
}

#[test]
fn an_event_stands_whole_in_an_envelope_with_its_time_and_id() {
    let line = r#"{"id":"0197f3a0-0000-7000-8000-000000000001","timestamp":"2025-03-01T10:00:00.25Z","host":"nb-1"}"#;
    assert_eq!(
        body("index: main, source: weir, sourcetype: _json", line).expect("it fits"),
        format!(
            "{{\"time\":1740823200.250000,\"host\":\"nb-1\",\"source\":\"weir\",\"sourcetype\":\"_json\",\
             \"index\":\"main\",\"fields\":{{\"weir_id\":\"0197f3a0-0000-7000-8000-000000000001\"}},\"event\":{line}}}\n"
        )
    );
    let bare = body("", "{}").expect("it fits");
    assert!(bare.starts_with(r#"{"time":1700000000.500000,"fields":{"weir_id":""#), "{bare}");
    serde_json::from_str::<serde_json::Value>(&bare).expect("JSON");
}

#[test]
fn events_say_where_they_belong_within_bounds() {
    let yaml = "index: 'app-{{ tenant }}', source: '{{ source | }}', host: \"h \\\"{{ user_id | - }}\\\"\", \
                fields: {team: '{{ team | none }}', day: '%F'}";
    let seen = body(yaml, r#"{"tenant":"a","user_id":"x\"y","timestamp":1740823200}"#).expect("it fits");
    let seen: serde_json::Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!((&seen["index"], &seen["host"]), (&"app-a".into(), &"h \"x\"y\"".into()));
    assert_eq!((&seen["fields"]["team"], &seen["fields"]["day"]), (&"none".into(), &"2025-03-01".into()));
    assert!(seen.get("source").is_none(), "an empty one leaves the token's");
    let Err(Failure::Some(failures, _)) = body(yaml, r#"{"tenant":"a/../_internal"}"#) else { panic!("no index") };
    assert!(failures[0].1.answer().contains("it contains "), "{failures:?}");
}

#[test]
fn raw_lines_have_their_place_in_the_address() {
    let splunk = sink("mode: raw, index: main, source: 'a b&c', encoding: {format: text, template: '{{ n }}!'}");
    assert_eq!(splunk.target.to_string(), "https://s:8088/services/collector/raw?index=main&source=a%20b%26c");
    assert_eq!(splunk.headers["x-splunk-request-channel"].len(), 36);
    assert_eq!(splunk.encode(&batch(r#"{"n":1}"#)).expect("it fits"), "1!\n");
}

#[test]
fn a_wrong_configuration_is_said_before_anything_is_sent() {
    for (yaml, said) in [
        ("{endpoint: 's:8088', token: t}", "starts with `http://`"),
        ("{endpoint: 'http://s', token: ''}", "it is empty"),
        ("{endpoint: 'http://s', token: 'a b'}", "no token has"),
        ("{endpoint: 'http://s', token: t, compression: zstd}", "does not understand `zstd`"),
        ("{endpoint: 'http://s', token: t, index: Main}", "it contains 'M'"),
        ("{endpoint: 'http://s', token: t, index: '{{ i }}'}", "must start with fixed text"),
        ("{endpoint: 'http://s', token: t, host: '{{'}", "unclosed"),
        ("{endpoint: 'http://s', token: t, encoding: text}", "only lines of `mode: raw`"),
        ("{endpoint: 'http://s', token: t, mode: raw, fields: {a: b}}", "have no fields"),
        ("{endpoint: 'http://s', token: t, mode: raw, source: '{{ a }}'}", "no event has a say"),
    ] {
        let (_, check) = config(yaml);
        assert_eq!(check.problems.count_errors(), 1, "{yaml}: {:?}", check.problems);
        assert!(format!("{:?}", check.problems).contains(said), "{yaml}: {:?}", check.problems);
    }
}
