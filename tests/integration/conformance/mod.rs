//! One suite for every sink: each class of failure, recovery and kill -9 in between, counted from outside.
//!
//! What must hold for each, at every look: what counts as delivered is at the target; nothing is lost; an event is there
//! twice only where the promise allows it; the target is not asked in a busy loop; no secret is shown.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Agent, Folder, eventually, free_port, post};

mod alert;
mod answers;
mod http;
mod kafka;
mod local;
mod mail;
mod postgres;
mod search;
mod splunk;

type Tests = &'static [fn()];

/// The sinks that are held to the suite, by their lines in the catalogue, and the tests that do it.
const ENTRIES: &[(&str, Tests)] = &[
    (
        "alert",
        &[
            alert::messages_are_taken_whatever_a_hook_answers,
            alert::messages_are_taken_whatever_a_chat_answers,
            mail::mails_are_taken_whatever_a_server_answers,
        ],
    ),
    ("blackhole", &[local::nothing_is_kept_and_nothing_fails]),
    ("console", &[local::lines_on_the_console_are_whole_whatever_its_reader_does]),
    ("elasticsearch", &[search::documents_are_there_once_whatever_a_node_answers]),
    ("file", &[local::lines_in_files_are_there_once_whatever_is_in_their_place]),
    (
        "http",
        &[
            http::requests_of_many_events_are_taken_whatever_a_server_answers,
            http::requests_by_path_are_taken_whatever_a_server_answers,
            http::arrays_are_taken_whatever_a_server_answers,
        ],
    ),
    ("kafka", &[kafka::messages_are_there_whatever_a_broker_answers]),
    (
        "postgres",
        &[
            postgres::rows_with_a_key_are_there_once_whatever_the_server_answers,
            postgres::rows_without_a_key_are_there_whatever_the_server_answers,
            postgres::rows_that_are_only_appended_are_there_whatever_the_server_answers,
        ],
    ),
    (
        "splunk_hec",
        &[
            splunk::events_are_indexed_whatever_a_collector_answers,
            splunk::acknowledged_events_are_indexed_whatever_a_collector_answers,
            splunk::raw_lines_are_indexed_whatever_a_collector_answers,
        ],
    ),
    ("sse", &[local::a_stream_holds_nothing]),
    ("store", &[local::events_in_the_store_are_there_once_over_kills]),
];

/// Sinks that write to a process of another: the tests in which that is killed while it has a part of a write, or all of
/// it and has not said so. Real servers are killed where there are some; the others die behind a proxy.
const KILLED: &[(&str, Tests)] = &[
    (
        "alert",
        &[
            alert::messages_are_taken_whatever_a_hook_answers,
            alert::messages_are_taken_whatever_a_chat_answers,
            mail::mails_are_taken_whatever_a_server_answers,
        ],
    ),
    (
        "elasticsearch",
        &[
            search::documents_are_there_once_whatever_a_node_answers,
            crate::elasticsearch::a_server_that_is_killed_and_comes_back_has_every_event_once,
        ],
    ),
    ("http", &[http::requests_of_many_events_are_taken_whatever_a_server_answers]),
    ("kafka", &[crate::kafka::a_broker_that_is_killed_and_comes_back_has_every_event_in_order]),
    (
        "postgres",
        &[
            postgres::rows_with_a_key_are_there_once_whatever_the_server_answers,
            crate::postgres::faults::restarts_killed_backends_and_power_cuts_lose_and_double_nothing,
        ],
    ),
    ("splunk_hec", &[splunk::events_are_indexed_whatever_a_collector_answers]),
];
/// Sinks whose target is a file, this process, or nothing.
const WITHOUT_A_PROCESS: [&str; 5] = ["blackhole", "console", "file", "sse", "store"];

#[test]
fn every_target_that_can_be_killed_is_killed() {
    let killed = KILLED.iter().map(|(name, _)| *name).chain(WITHOUT_A_PROCESS);
    let mut killed: Vec<&str> = killed.collect();
    killed.sort_unstable();
    let catalogue: Vec<&str> = weir::sinks::CATALOGUE.iter().map(|entry| entry.type_name).collect();
    assert_eq!(killed, catalogue, "a sink with a target of its own needs a test that kills it");
    assert!(KILLED.iter().all(|(_, tests)| !tests.is_empty()));
}

#[test]
fn every_sink_of_the_catalogue_is_held_to_the_suite() {
    let entered: Vec<&str> = ENTRIES.iter().map(|(name, _)| *name).collect();
    let catalogue: Vec<&str> = weir::sinks::CATALOGUE.iter().map(|entry| entry.type_name).collect();
    assert_eq!(entered, catalogue, "a sink needs an entry here, in the order of the catalogue");
    assert!(ENTRIES.iter().all(|(_, tests)| !tests.is_empty()));
}

/// Events of one round.
pub const ROUND: u64 = 20;

/// What goes wrong for a while.
#[derive(Clone, Debug)]
pub struct Trouble<K> {
    pub name: String,
    pub kind: K,
    /// Whether it is the target's own state, so that no event may become a dead letter.
    pub is_state: bool,
}

/// A target of events, with what can go wrong with it.
pub trait Target {
    type Kind: Clone + std::fmt::Debug;

    /// The keys of the sink, a line each, from its `type` on.
    fn keys(&self) -> String;

    fn troubles(&self) -> Vec<Trouble<Self::Kind>>;

    fn begin(&self, kind: &Self::Kind);

    fn heal(&self);

    /// How often each event is there.
    fn stored(&self) -> BTreeMap<u64, usize>;

    /// Whether an event that is sent again may be there twice.
    fn repeats(&self) -> bool;

    /// How often it was asked.
    fn requests(&self) -> u64 {
        0
    }

    /// An event, which may itself be what goes wrong.
    fn event(&self, n: u64, _during: Option<&Self::Kind>) -> String {
        format!("{{\"n\":{n},\"poison\":{}}}\n", n % ROUND)
    }

    /// What nobody may see.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    fn stdout(&self) -> Option<Stdio> {
        None
    }
}

/// Requests that a trouble may cost in each `WHILE` that it lasts, whatever it is: finding the guilty among a round, and
/// some retries.
const MOST_REQUESTS: u64 = 150;
/// How long a trouble lasts.
const WHILE: Duration = Duration::from_millis(500);

/// Holds a target to the suite.
pub fn hold<T: Target>(target: &T) {
    let mut life = Life::start(target);
    life.post(target, None);
    life.settles(target, "before anything");
    for (nth, trouble) in target.troubles().iter().enumerate() {
        let (dead, asked) = (life.metric("weir_events_dead_lettered_total"), target.requests());
        let began = Instant::now();
        target.begin(&trouble.kind);
        life.post(target, Some(&trouble.kind));
        std::thread::sleep(WHILE);
        life.look(target, &trouble.name);
        let asked = target.requests() - asked;
        let lasted = began.elapsed();
        let most = MOST_REQUESTS * lasted.as_millis() as u64 / WHILE.as_millis() as u64;
        assert!(asked <= most, "{}: {asked} requests in {lasted:?}", trouble.name);
        if nth % 6 == 5 {
            life.kill(target);
        }
        target.heal();
        life.settles(target, &trouble.name);
        if trouble.is_state {
            let now = life.metric("weir_events_dead_lettered_total");
            assert_eq!(now, dead, "{}: the target's state is no event's fault", trouble.name);
        }
    }
    life.shows_no_secret(target);
}

struct Life {
    folder: Folder,
    port: u16,
    yaml: String,
    agent: Option<Agent>,
    posted: u64,
}

impl Life {
    fn start<T: Target>(target: &T) -> Life {
        let (folder, port) = (Folder::new(), free_port());
        let keys: String = target.keys().lines().map(|line| format!("    {line}\n")).collect();
        let frame = |key: &str, text: &str| if keys.contains(key) { String::new() } else { format!("    {text}\n") };
        let yaml = format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\nsinks:\n  out:\n    inputs: [web]\n{keys}{}{}{}",
            frame("batch:", "batch: { age: 20ms }"),
            frame("retry:", "retry: { initial: 50ms, max: 200ms }"),
            frame("timeout:", "timeout: 2s"),
        );
        let mut life = Life { folder, port, yaml, agent: None, posted: 0 };
        life.run(target);
        life
    }

    fn run<T: Target>(&mut self, target: &T) {
        let stdout = target.stdout().unwrap_or_else(Stdio::null);
        self.agent = Some(Agent::spawn_to(&self.folder, &self.yaml, stdout).until_ready());
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("it runs")
    }

    fn metric(&self, name: &str) -> u64 {
        self.agent().metric(name, "out")
    }

    fn post<T: Target>(&mut self, target: &T, during: Option<&T::Kind>) {
        let events = self.posted..self.posted + ROUND;
        let body: String = events.map(|n| target.event(n, during)).collect();
        assert_eq!(post(self.port, &body), ROUND);
        self.posted += ROUND;
    }

    /// kill -9 and a new start.
    fn kill<T: Target>(&mut self, target: &T) {
        self.agent.take().expect("it runs").kill();
        self.run(target);
    }

    /// What counts as delivered is there.
    fn look<T: Target>(&self, target: &T, during: &str) {
        let samples = self.agent().assert_books();
        let of = |name: &str| {
            let mine = samples.iter().filter(|(key, _)| key.starts_with(name) && key.contains("component=\"out\""));
            mine.map(|(_, value)| *value as u64).sum::<u64>()
        };
        let (delivered, stored) = (of("weir_events_delivered_total"), target.stored());
        assert!(delivered <= stored.len() as u64, "{during}: {delivered} delivered, {} stored", stored.len());
    }

    fn settles<T: Target>(&self, target: &T, after: &str) {
        eventually(&format!("`{after}` is over: {:?} {}", self.agent().health("out"), self.agent().log()), || {
            self.metric("weir_events_waiting") == 0
        });
        self.look(target, after);
        let (stored, dead) = (target.stored(), self.metric("weir_events_dead_lettered_total"));
        let missing = (0..self.posted).filter(|n| !stored.contains_key(n)).count() as u64;
        assert!(missing <= dead, "{after}: {missing} are missing, and {dead} are dead letters\n{}", self.agent().log());
        if !target.repeats() {
            let twice: Vec<_> = stored.iter().filter(|(_, count)| **count > 1).collect();
            assert!(twice.is_empty(), "{after}: {twice:?} are there more than once");
        }
    }

    fn shows_no_secret<T: Target>(&self, target: &T) {
        let agent = self.agent();
        let out = agent.weir(&["dlq", "list"]);
        let shown = format!("{}{:?}{}", agent.log(), agent.health("out"), String::from_utf8_lossy(&out.stdout));
        for secret in target.secrets() {
            assert!(!shown.contains(&secret), "`{secret}` is shown");
        }
    }
}
