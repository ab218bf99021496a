//! Test helpers for transforms: events in, events out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::component::{Changes, Check, Outputs, Stage, State, StateTag, Transaction, Transform, Why};
use crate::diagnostic;
use crate::event::{Batch, Provenance, Scanner, Seed, Stamp};
use crate::units::Timestamp;

/// When all events of the tests were received: 2025-06-01T12:00:00.250Z.
pub const RECEIVED_AT: Timestamp = Timestamp(1_748_779_200_250_000);

pub fn provenance(peer: Option<IpAddr>, stamp: Option<Stamp>) -> Arc<Provenance> {
    let seed = Seed([7; 16]);
    Arc::new(Provenance { source: "web".into(), seed, received_at: RECEIVED_AT, peer, stamp: stamp.map(Arc::new) })
}

/// A split batch of JSON lines.
pub fn batch(lines: &[&str], provenance: Arc<Provenance>) -> Batch {
    let mut batch = Batch::new(Bytes::from(lines.join("\n")), provenance);
    let (mut start, mut scanner, mut scratch) = (0, Scanner::new(), Vec::new());
    for (nth, line) in lines.iter().enumerate() {
        let range = start..start + line.len();
        batch.push_split(range, nth as u64, &mut scanner, &mut scratch).expect("the test gives valid events");
        start += line.len() + 1;
    }
    batch
}

/// A transform from its configuration, which must be right.
pub fn build<T: Transform>(yaml: &str) -> T {
    built(yaml, T::build)
}

fn built<C: serde::de::DeserializeOwned, T>(yaml: &str, build: impl FnOnce(C, &mut Check) -> Option<T>) -> T {
    let mut check = Check::new("it", "/nowhere", true);
    let config = diagnostic::from_yaml(yaml).unwrap_or_else(|report| panic!("{report}"));
    let transform = build(config, &mut check);
    assert!(check.problems.is_empty(), "{:?}", check.problems);
    transform.expect("a transform without problems")
}

/// The problems of a configuration as `path: message`.
pub fn problems<T: Transform>(yaml: &str) -> Vec<String> {
    problems_of(yaml, T::build)
}

/// The same of a stage.
pub fn stage_problems<S: Stage>(yaml: &str) -> Vec<String> {
    problems_of(yaml, S::build)
}

fn problems_of<C: serde::de::DeserializeOwned, T>(
    yaml: &str,
    build: impl FnOnce(C, &mut Check) -> Option<T>,
) -> Vec<String> {
    let mut check = Check::new("it", "/nowhere", true);
    let config = diagnostic::from_yaml(yaml).unwrap_or_else(|report| panic!("{report}"));
    assert!(build(config, &mut check).is_none());
    check.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

/// The lines of a batch; each must be valid.
pub fn lines(batch: &Batch) -> Vec<String> {
    let line = |event| {
        let mut out = Vec::new();
        batch.render_event(event, &mut out);
        Scanner::new().validate(&out).expect("a transform gives valid events");
        String::from_utf8(out).expect("events are text")
    };
    (0..batch.len()).map(line).collect()
}

/// What a transform makes of a batch on its default output, where it keeps every event.
pub fn apply<T: Transform>(transform: &T, batch: Batch) -> Vec<String> {
    let mut out = Outputs::default();
    let count = batch.len();
    transform.apply(batch, &mut out).expect("the transform does not fail");
    let given: Vec<String> = out.emitted.iter().flat_map(|(_, batch)| lines(batch)).collect();
    assert_eq!(given.len(), count);
    given
}

/// A stage with its state, driven by hand. The state is read back from its stored form after each step, as after a crash.
pub struct Driven<S> {
    pub stage: S,
    state: State,
    stored: BTreeMap<Bytes, Bytes>,
    pub now: Timestamp,
    events: u64,
}

impl<S: Stage> Driven<S> {
    pub fn new(yaml: &str) -> Driven<S> {
        let stage = built(yaml, S::build);
        Driven { stage, state: State::default(), stored: BTreeMap::new(), now: RECEIVED_AT, events: 0 }
    }

    /// Steps over these events together, as if all had been received when the test began.
    pub fn step(&mut self, lines: &[&str]) -> Given {
        self.step_at(lines, RECEIVED_AT)
    }

    /// The same with events that are received now.
    pub fn step_now(&mut self, lines: &[&str]) -> Given {
        self.step_at(lines, self.now)
    }

    fn step_at(&mut self, lines: &[&str], received_at: Timestamp) -> Given {
        let provenance = Provenance { received_at, ..(*provenance(None, None)).clone() };
        let mut batch = Batch::new(Bytes::from(lines.join("\n")), Arc::new(provenance));
        let mut start = 0;
        for line in lines {
            batch.push_validated(start..start + line.len(), self.events);
            self.events += 1;
            start += line.len() + 1;
        }
        batch.split_all();
        let mut out = Outputs::default();
        let mut transaction = Transaction::new(&self.state, self.now);
        self.stage.step(batch, &mut transaction, &mut out).expect("the stage does not fail");
        let changes = transaction.into_changes();
        self.apply(changes);
        Given::of(out)
    }

    /// Lets this many seconds pass, and returns what is due.
    pub fn wait(&mut self, seconds: f64) -> Given {
        self.now = Timestamp(self.now.0 + (seconds * 1e6) as i64);
        let mut out = Outputs::default();
        for _ in 0..100 {
            let due = self.state.due_by(self.now, 100);
            if due.is_empty() {
                return Given::of(out);
            }
            let mut transaction = Transaction::new(&self.state, self.now);
            for (key, value) in due {
                self.stage.due(&key, &value, Why::Due, &mut transaction, &mut out);
            }
            let changes = transaction.into_changes();
            self.apply(changes);
        }
        panic!("an entry is due again and again")
    }

    /// Makes it emit all that it holds.
    pub fn release(&mut self, why: Why) -> Given {
        let mut out = Outputs::default();
        let mut transaction = Transaction::new(&self.state, self.now);
        for (key, value) in self.state.oldest(usize::MAX) {
            self.stage.due(&key, &value, why, &mut transaction, &mut out);
            transaction.remove(&key);
        }
        let changes = transaction.into_changes();
        self.apply(changes);
        Given::of(out)
    }

    pub fn entries(&self) -> usize {
        self.state.len()
    }

    fn apply(&mut self, changes: Changes) {
        for (key, value) in changes.stored(StateTag::of(S::TYPE)) {
            match value.is_empty() {
                true => self.stored.remove(&key),
                false => self.stored.insert(key, value),
            };
        }
        self.state.apply(changes);
        let restored = State::restore(self.stored.clone(), Some(StateTag::of(S::TYPE))).0;
        assert_eq!((restored.len(), restored.bytes()), (self.state.len(), self.state.bytes()));
        self.state = restored;
    }
}

/// What a stage gave.
#[derive(Debug, Default)]
pub struct Given {
    /// Lines of the default output.
    pub lines: Vec<String>,
    /// The ids they have.
    pub ids: Vec<String>,
    /// Lines of the other outputs.
    pub others: Vec<String>,
    pub filtered: BTreeMap<&'static str, u64>,
}

impl Given {
    fn of(out: Outputs) -> Given {
        let mut given = Given::default();
        for (port, batch) in &out.emitted {
            let ids = (0..batch.len()).map(|event| {
                let own = batch.get_str(event, crate::event::names::ID).map(|id| id.into_owned());
                own.unwrap_or_else(|| batch.derived_id(event).to_string())
            });
            match port {
                0 => {
                    given.ids.extend(ids);
                    given.lines.extend(lines(batch));
                }
                _ => given.others.extend(lines(batch)),
            }
        }
        out.filtered.iter().for_each(|(reason, count)| *given.filtered.entry(reason).or_default() += count);
        assert!(out.dead.is_empty(), "{:?}", out.dead);
        given
    }

    /// The n-th line of the default output as a value.
    pub fn json(&self, nth: usize) -> serde_json::Value {
        serde_json::from_str(&self.lines[nth]).expect("a line is JSON")
    }
}
