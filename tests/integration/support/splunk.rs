//! A simulator of Splunk's HTTP Event Collector that refuses what the real one refuses, with its codes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::collector::{Collector, Heard, Reply, reply};

pub const TOKEN: &str = "5c1f7b0e-0000-4000-8000-0123456789ab";

pub type Refuses = Box<dyn Fn(u64) -> bool + Send>;

/// An answer, and the time it asks for.
#[derive(Clone, Copy)]
pub struct Instead {
    pub status: u16,
    pub body: &'static str,
    pub retry_after: Option<&'static str>,
}

/// What it has, and how it behaves.
#[derive(Default)]
pub struct State {
    /// Events as they were indexed: envelopes, or lines under `raw`.
    pub indexed: Vec<Value>,
    /// Channels that requests with events came on.
    pub channels: Vec<String>,
    pub indexes: Vec<String>,
    /// Whether the token acknowledges; then these numbers wait for an indexer.
    pub acknowledges: bool,
    pub acks: BTreeMap<u64, bool>,
    /// Requests before the last start: it counts anew then.
    pub before: usize,
    /// Whether indexers acknowledge what comes.
    pub indexers_work: bool,
    /// Whether what stood before an invalid event is indexed all the same.
    pub keeps_before: bool,
    /// Whether invalid events are counted from 1, as some collectors do.
    pub counts_from_one: bool,
    pub disabled: bool,
    /// Whether it takes events that say `refused`.
    pub lenient: bool,
    /// Requests that are answered with `Server is busy`.
    pub busy: usize,
    pub polls: usize,
    /// The answer to all requests, instead of its own.
    pub instead: Option<Instead>,
    /// Which events it refuses, by their number `n`.
    pub refuses: Option<Refuses>,
    pub requests: u64,
    /// Answers to questions about acknowledgements, instead of its own.
    pub instead_of_acks: Option<(u16, &'static str)>,
    /// How long each answer takes.
    pub delay: std::time::Duration,
}

impl State {
    /// Starts again, as after a power cut: what no indexer has acknowledged is gone.
    pub fn start_again(&mut self) {
        self.acks.clear();
        self.indexed.clear();
        self.before = self.channels.len();
    }
}

#[derive(Clone)]
pub struct Splunk {
    state: Arc<Mutex<State>>,
}

impl Splunk {
    pub fn start() -> (Splunk, Collector) {
        let state = State { indexes: vec!["main".into()], indexers_work: true, ..State::default() };
        let splunk = Splunk { state: Arc::new(Mutex::new(state)) };
        let answering = splunk.clone();
        (splunk, Collector::start(move |heard| answering.answer(heard)))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// How often each event is there, by `weir_id`.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for event in &self.state().indexed {
            *counts.entry(event["fields"]["weir_id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
        counts
    }

    fn answer(&self, heard: &Heard) -> Reply {
        let delay = self.state().delay;
        std::thread::sleep(delay);
        let mut state = self.state();
        state.requests += 1;
        if let Some(Instead { status, body, retry_after }) = state.instead {
            let answer = reply(status, body);
            return match retry_after {
                Some(text) => answer.with("retry-after", text),
                None => answer,
            };
        }
        let path = heard.path.split('?').next().unwrap_or("");
        if path == "/services/collector/health" {
            return if state.busy > 0 {
                said(503, 18, "HEC is unhealthy, queues are full")
            } else {
                said(200, 17, "HEC is healthy")
            };
        }
        // Fluent Bit's in_splunk closes the connection on such a request, also on a probe without a body.
        if heard.header("content-length").is_empty() {
            return said(411, 6, "a POST states its length");
        }
        let token = match heard.header("authorization").split_once(' ') {
            None => return said(401, 2, "Token is required"),
            Some(("Splunk", token)) => token,
            Some(_) => return said(401, 3, "Invalid authorization"),
        };
        if token != TOKEN {
            return said(403, 4, "Invalid token");
        }
        if state.disabled {
            return said(403, 1, "Token disabled");
        }
        let channel = heard.header("x-splunk-request-channel").to_owned();
        let needs_channel = path.ends_with("/raw") || path.ends_with("/ack") || state.acknowledges;
        if needs_channel && channel.is_empty() {
            return said(400, 10, "Data channel is missing");
        }
        if needs_channel && (channel.len() != 36 || channel.split('-').count() != 5) {
            return said(400, 11, "Invalid data channel");
        }
        match path {
            "/services/collector/ack" if state.instead_of_acks.is_some() => {
                let (status, body) = state.instead_of_acks.expect("it is there");
                state.polls += 1;
                reply(status, body)
            }
            "/services/collector/ack" => acks(&mut state, heard),
            _ if heard.body.is_empty() => said(400, 5, "No data"),
            "/services/collector/event" | "/services/collector/raw" if state.busy > 0 => {
                state.busy -= 1;
                said(503, 9, "Server is busy")
            }
            "/services/collector/event" => match events(&mut state, heard) {
                Ok(events) => taken(&mut state, events, channel),
                Err(refused) => refused,
            },
            "/services/collector/raw" => {
                let lines = heard.lines().into_iter().map(|line| json!({ "raw": line, "path": heard.path })).collect();
                taken(&mut state, lines, channel)
            }
            _ => reply(404, r#"{"text":"The requested URL was not found on this server.","code":404}"#),
        }
    }
}

fn said(status: u16, code: u64, text: &str) -> Reply {
    reply(status, json!({ "text": text, "code": code }).to_string())
}

fn taken(state: &mut State, events: Vec<Value>, channel: String) -> Reply {
    state.indexed.extend(events);
    state.channels.push(channel);
    if !state.acknowledges {
        return said(200, 0, "Success");
    }
    let id = (state.channels.len() - state.before) as u64;
    let works = state.indexers_work;
    state.acks.insert(id, works);
    reply(200, json!({ "text": "Success", "code": 0, "ackId": id }).to_string())
}

fn events(state: &mut State, heard: &Heard) -> Result<Vec<Value>, Reply> {
    let mut events = Vec::new();
    for (nth, value) in serde_json::Deserializer::from_str(&heard.body).into_iter::<Value>().enumerate() {
        let refusal = match &value {
            Err(_) => Some((6, "Invalid data format")),
            Ok(event) => wrong(state, event),
        };
        let Some((code, text)) = refusal else {
            events.extend(value);
            continue;
        };
        if state.keeps_before {
            state.indexed.append(&mut events);
        }
        let number = nth + usize::from(state.counts_from_one);
        return Err(reply(400, json!({ "text": text, "code": code, "invalid-event-number": number }).to_string()));
    }
    Ok(events)
}

fn wrong(state: &State, event: &Value) -> Option<(u64, &'static str)> {
    let Some(members) = event.as_object() else { return Some((6, "Invalid data format")) };
    let known = ["time", "host", "source", "sourcetype", "index", "fields", "event"];
    if members.keys().any(|key| !known.contains(&&**key)) || !event["time"].is_number() {
        return Some((6, "Invalid data format"));
    }
    if event["event"]["refused"] == true && !state.lenient {
        return Some((6, "Invalid data format"));
    }
    if state.refuses.as_ref().is_some_and(|which| event["event"]["n"].as_u64().is_some_and(which)) {
        return Some((6, "Invalid data format"));
    }
    let flat = |value: &Value| value.is_string() || value.is_array();
    match &event["event"] {
        Value::Null => Some((12, "Event field is required")),
        Value::String(text) if text.is_empty() => Some((13, "Event field cannot be blank")),
        _ if !event["fields"].as_object().is_none_or(|fields| fields.values().all(flat)) => {
            Some((15, "Error in handling indexed fields"))
        }
        _ if event["index"].as_str().is_some_and(|index| !state.indexes.iter().any(|known| known == index)) => {
            Some((7, "Incorrect index"))
        }
        _ => None,
    }
}

fn acks(state: &mut State, heard: &Heard) -> Reply {
    if !state.acknowledges {
        return said(400, 14, "ACK is disabled");
    }
    state.polls += 1;
    let asked: Value = serde_json::from_str(&heard.body).expect("numbers to look for");
    let mut told = serde_json::Map::new();
    for id in asked["acks"].as_array().expect("a list").iter().filter_map(Value::as_u64) {
        // What was acknowledged is said once.
        let acked = state.acks.get(&id).copied().unwrap_or(false);
        if acked {
            state.acks.remove(&id);
        }
        told.insert(id.to_string(), acked.into());
    }
    reply(200, json!({ "acks": told }).to_string())
}
