//! The `alert` sink before a hook or a chat that takes what it takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::answers::{self, Canned, Kind, Now};
use super::{ROUND, Target, Trouble, hold};
use crate::support::collector::{Collector, Heard, Reply, reply};

struct Hook {
    shared: Arc<Shared>,
    _server: Collector,
    keys: String,
}

struct Shared {
    now: Now,
    stored: Mutex<BTreeMap<u64, usize>>,
    requests: AtomicU64,
    style: Style,
}

/// How a message looks.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Webhook,
    Slack,
}

/// In the address, as chats have it.
const SECRET: &str = "T0SECRETB0HOOK";

impl Shared {
    fn answer(&self, heard: &Heard) -> Reply {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let message: Value = serde_json::from_str(&heard.body).expect("a message is JSON");
        let numbers = match self.style {
            Style::Webhook => {
                let alerts = message["alerts"].as_array().expect("the events").iter();
                alerts.map(|event| event["n"].as_u64().expect("a number")).collect()
            }
            Style::Slack => numbers_in(message["text"].as_str().expect("a text")),
        };
        let kind = self.now.kind().clone();
        match kind {
            Some(Kind::Answer(Canned { status, body, retry_after })) => {
                // It quotes how it was asked.
                let reply = reply(status, format!("{body}{}", heard.path));
                match retry_after {
                    Some(text) => reply.with("retry-after", text),
                    None => reply,
                }
            }
            Some(Kind::Refuses(which)) if numbers.iter().any(|n| which.refuses(*n)) => reply(422, "not these"),
            _ => {
                let mut stored = self.stored.lock().expect("no panic");
                numbers.iter().for_each(|n| *stored.entry(*n).or_default() += 1);
                reply(200, "ok")
            }
        }
    }
}

impl Target for Hook {
    type Kind = Kind;

    fn keys(&self) -> String {
        self.keys.clone()
    }

    fn troubles(&self) -> Vec<Trouble<Kind>> {
        answers::troubles(&[])
    }

    fn begin(&self, kind: &Kind) {
        self.shared.now.begin(kind);
    }

    fn heal(&self) {
        self.shared.now.heal();
    }

    fn stored(&self) -> BTreeMap<u64, usize> {
        self.shared.stored.lock().expect("no panic").clone()
    }

    fn repeats(&self) -> bool {
        true
    }

    fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    fn event(&self, n: u64, _: Option<&Kind>) -> String {
        event(n)
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.into()]
    }
}

/// An event that people can read the number of.
pub fn event(n: u64) -> String {
    format!("{{\"n\":{n},\"poison\":{},\"description\":\"number {n} is it\"}}\n", n % ROUND)
}

/// The numbers that a message for people names.
pub fn numbers_in(text: &str) -> Vec<u64> {
    let named = text.split("number ").skip(1);
    named.map(|rest| rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")).collect()
}

#[test]
pub fn messages_are_taken_whatever_a_hook_answers() {
    hold_hook(Style::Webhook, "webhook");
}

#[test]
pub fn messages_are_taken_whatever_a_chat_answers() {
    hold_hook(Style::Slack, "slack");
}

fn hold_hook(style: Style, key: &str) {
    let requests = AtomicU64::new(0);
    let shared = Arc::new(Shared { now: Now::new(), stored: Mutex::default(), requests, style });
    let answering = shared.clone();
    let server = Collector::start(move |heard| answering.answer(heard));
    let port = shared.now.before(server.port);
    // More groups than one, so that a message fails behind another that was taken.
    let keys = format!(
        "type: alert\n{key}: {{ url: 'http://127.0.0.1:{port}/services/{SECRET}' }}\ngroup_by: poison\nlimit: 9000/s\nbatch: {{ age: 20ms, events: 5 }}"
    );
    hold(&Hook { shared, _server: server, keys });
}
