//! The `splunk_hec` sink before a collector that answers with each of Splunk's codes, and with none.

use std::collections::BTreeMap;

use super::answers::{self, Canned, Kind, Now};
use super::{Target, Trouble, hold};
use crate::support::collector::Collector;
use crate::support::splunk::{Instead, Splunk, TOKEN};

struct Hec {
    splunk: Splunk,
    _server: Collector,
    now: Now,
    keys: String,
}

impl Hec {
    fn new(more: &str) -> Hec {
        let (splunk, server) = Splunk::start();
        splunk.state().acknowledges = more.contains("indexer_ack");
        let now = Now::new();
        let port = now.before(server.port);
        let keys = format!("type: splunk_hec\nendpoint: http://127.0.0.1:{port}\ntoken: {TOKEN}\n{more}");
        Hec { splunk, _server: server, now, keys }
    }
}

/// Each code that Splunk documents, with the status it comes with; and answers that are none.
const OWN: &[(&str, bool)] = &[
    (r#"403 {"text":"Token disabled","code":1}"#, true),
    (r#"401 {"text":"Token is required","code":2}"#, true),
    (r#"401 {"text":"Invalid authorization","code":3}"#, true),
    (r#"403 {"text":"Invalid token","code":4}"#, true),
    (r#"400 {"text":"Incorrect index","code":7,"invalid-event-number":0}"#, true),
    (r#"500 {"text":"Internal server error","code":8}"#, true),
    (r#"503 {"text":"Server is busy","code":9}"#, true),
    (r#"400 {"text":"Data channel is missing","code":10}"#, true),
    (r#"400 {"text":"ACK is disabled","code":14}"#, true),
    (r#"400 {"text":"Query string authorization is not enabled","code":16}"#, true),
    (r#"200 {"text":"HEC is unhealthy","code":18}"#, true),
    (r#"503 {"text":"Server is shutting down","code":23}"#, true),
    (r#"429 {"text":"Token at capacity","code":26}"#, true),
    (r#"200 {"text":"Success"}"#, true),
    (r#"200 {"text":"Success","code":"zero"}"#, true),
    (r#"200 {"text":"Success","code"#, true),
    ("200 <html>It works!</html>", true),
    ("204 ", true),
    ("202 []", true),
    (r#"200 {"code":99,"text":"what"}"#, true),
];

impl Target for Hec {
    type Kind = Kind;

    fn keys(&self) -> String {
        self.keys.clone()
    }

    fn troubles(&self) -> Vec<Trouble<Kind>> {
        let mut troubles = answers::troubles(OWN);
        if self.keys.contains("mode: raw") {
            // Lines are refused by nothing that is in them.
            troubles.retain(|trouble| !matches!(trouble.kind, Kind::Refuses(_)));
        }
        troubles
    }

    fn begin(&self, kind: &Kind) {
        self.now.begin(kind);
        let mut state = self.splunk.state();
        match kind {
            Kind::Answer(Canned { status, body, retry_after }) => {
                state.instead = Some(Instead { status: *status, body, retry_after: *retry_after });
            }
            Kind::Own(text) => {
                let (status, body) = text.split_once(' ').expect("a status and a body");
                let status = status.parse().expect("a status");
                state.instead = Some(Instead { status, body, retry_after: None });
            }
            Kind::Refuses(which) => {
                let which = *which;
                state.refuses = Some(Box::new(move |n| which.refuses(n)));
            }
            Kind::Wire(_) => {}
        }
    }

    fn heal(&self) {
        self.now.heal();
        let mut state = self.splunk.state();
        (state.instead, state.refuses) = (None, None);
    }

    fn stored(&self) -> BTreeMap<u64, usize> {
        let mut stored = BTreeMap::new();
        for event in &self.splunk.state().indexed {
            let n = match event["raw"].as_str() {
                Some(line) => serde_json::from_str::<serde_json::Value>(line).expect("an event")["n"].as_u64(),
                None => event["event"]["n"].as_u64(),
            };
            *stored.entry(n.expect("a number")).or_default() += 1;
        }
        stored
    }

    fn repeats(&self) -> bool {
        true
    }

    fn requests(&self) -> u64 {
        self.splunk.state().requests
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.into()]
    }
}

#[test]
pub fn events_are_indexed_whatever_a_collector_answers() {
    hold(&Hec::new("compression: gzip"));
}

#[test]
pub fn acknowledged_events_are_indexed_whatever_a_collector_answers() {
    hold(&Hec::new("indexer_ack: true\nack_interval: 5s\nconcurrency: 2"));
}

#[test]
pub fn raw_lines_are_indexed_whatever_a_collector_answers() {
    hold(&Hec::new("mode: raw"));
}
