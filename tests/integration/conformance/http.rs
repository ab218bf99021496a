//! The `http` sink before a server that takes what it takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::answers::{self, Canned, Kind, Now};
use super::{Target, Trouble, hold};
use crate::support::collector::{Collector, Heard, Reply, reply};

struct Server {
    shared: Arc<Shared>,
    _server: Collector,
    keys: String,
}

struct Shared {
    now: Now,
    stored: Mutex<BTreeMap<u64, usize>>,
    requests: AtomicU64,
}

const TOKEN: &str = "s3cr3t-of-the-hook";

impl Server {
    fn new(path: &str, more: &str) -> Server {
        let shared = Arc::new(Shared { now: Now::new(), stored: Mutex::default(), requests: AtomicU64::new(0) });
        let answering = shared.clone();
        let server = Collector::start(move |heard| answering.answer(heard));
        let port = shared.now.before(server.port);
        let keys = format!(
            "type: http\nuri: 'http://127.0.0.1:{port}{path}'\nauth: {{ type: bearer, token: {TOKEN} }}\n{more}"
        );
        Server { shared, _server: server, keys }
    }
}

impl Shared {
    fn answer(&self, heard: &Heard) -> Reply {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let events: Vec<Value> = match serde_json::from_str(&heard.body) {
            Ok(Value::Array(events)) => events,
            _ => heard.lines().iter().map(|line| serde_json::from_str(line).expect("an event")).collect(),
        };
        let numbers: Vec<u64> = events.iter().map(|event| event["n"].as_u64().expect("a number")).collect();
        let take = |numbers: &[u64]| {
            let mut stored = self.stored.lock().expect("no panic");
            numbers.iter().for_each(|n| *stored.entry(*n).or_default() += 1);
        };
        let kind = self.now.kind().clone();
        match kind {
            Some(Kind::Answer(Canned { status, body, retry_after })) => {
                // It quotes what it was sent.
                let body = format!("{body}{}", heard.header("authorization"));
                match retry_after {
                    Some(text) => reply(status, body).with("retry-after", text),
                    None => reply(status, body),
                }
            }
            Some(Kind::Refuses(which)) if numbers.iter().any(|n| which.refuses(*n)) => reply(422, "not these"),
            // As another Weir: it takes what it can, and lists the others.
            Some(Kind::Own(name)) if name != "a long page" && name != "a firewall" => {
                let is_refused = |n: u64| n % 5 == 3;
                let taken: Vec<u64> = numbers.iter().copied().filter(|n| !is_refused(*n)).collect();
                let refused: Vec<Value> = numbers
                    .iter()
                    .enumerate()
                    .filter(|(_, n)| is_refused(**n))
                    .map(|(index, _)| json!({"index": index, "reason": "bad"}))
                    .collect();
                take(&taken);
                let count = refused.len();
                let listed = &refused[..if name == "a short list" { count.min(1) } else { count }];
                let text = json!({"accepted": taken.len(), "refused": listed, "refused_count": count}).to_string();
                match name {
                    "a torn list" if numbers.len() > 1 => reply(200, &text[..text.len() - 3]),
                    _ => reply(200, text),
                }
            }
            Some(Kind::Own("a firewall")) if numbers.iter().any(|n| n % super::ROUND == 4) => reply(403, "blocked"),
            Some(Kind::Own("a long page")) => {
                take(&numbers);
                reply(200, "<p>thanks</p>".repeat(1_500_000))
            }
            _ => {
                take(&numbers);
                reply(200, "ok")
            }
        }
    }
}

impl Target for Server {
    type Kind = Kind;

    fn keys(&self) -> String {
        self.keys.clone()
    }

    fn troubles(&self) -> Vec<Trouble<Kind>> {
        answers::troubles(&[
            ("a list", false),
            ("a short list", false),
            ("a torn list", false),
            ("a firewall", false),
            ("a long page", true),
        ])
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

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.into()]
    }
}

#[test]
pub fn requests_of_many_events_are_taken_whatever_a_server_answers() {
    hold(&Server::new("/in", "compression: gzip"));
}

#[test]
pub fn requests_by_path_are_taken_whatever_a_server_answers() {
    hold(&Server::new("/in/{{ poison }}", "batch: { age: 20ms, events: 5 }\nconcurrency: 2"));
}

#[test]
pub fn arrays_are_taken_whatever_a_server_answers() {
    hold(&Server::new("/in", "encoding: json\nbatch: { age: 20ms, events: 1 }"));
}
