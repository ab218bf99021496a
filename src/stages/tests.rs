//! Tests of the stage loop under crashes: whatever was acknowledged is taken once, in order, with its state.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::component::{Changes, Failure, Others, Outputs, Transaction};
use crate::event::{Origins, Provenance, Seed};
use crate::journal::stepped::{Random, Stepped};
use crate::journal::{Codec, Mode, Options, Receipt};

/// Counts the events of each key, and gives each with its number. A key that begins with `d` is closed at once.
struct Counting {
    /// It fails on every event with a number that this divides.
    fails: Option<u64>,
}

impl AnyStage for Counting {
    fn type_name(&self) -> &'static str {
        "counting"
    }

    fn others(&self) -> Others {
        Others::Pass
    }

    fn outputs(&self) -> &'static [&'static str] {
        &[]
    }

    fn takes(&self, batch: &Batch, taken: &mut Vec<bool>) {
        taken.resize(batch.len(), true);
    }

    fn step(&self, batch: Batch, state: &mut Transaction<'_>, out: &mut Outputs) -> Result<(), Failure> {
        let (key, n) = (batch.find_name("key"), batch.find_name("n"));
        for event in 0..batch.len() {
            let key = key.and_then(|key| batch.get_str(event, key)).expect("the test gives one").into_owned();
            let n = n.and_then(|n| batch.get(event, n)).and_then(|n| n.as_i64()).expect("the test gives one");
            let count = state.get(key.as_bytes()).map_or(0, |count| count.len()) + 1;
            let due = key.starts_with('d').then_some(state.now);
            state.put(key.as_bytes(), vec![b'.'; count], due);
            if self.fails.is_some_and(|divisor| (n as u64).is_multiple_of(divisor)) {
                return Err(Failure::poison("on purpose"));
            }
            out.emit(made(format!("{{\"key\":\"{key}\",\"n\":{n},\"count\":{count}}}")));
        }
        Ok(())
    }

    fn due(&self, key: &[u8], value: &Bytes, _: Why, state: &mut Transaction<'_>, out: &mut Outputs) {
        let key_text = String::from_utf8_lossy(key);
        out.emit(made(format!("{{\"key\":\"{key_text}\",\"closed\":{}}}", value.len())));
        state.remove(key);
    }

    fn held(&self, _: &Bytes) -> u64 {
        0
    }
}

fn made(line: String) -> Batch {
    let provenance =
        Provenance { source: "s".into(), seed: Seed([9; 16]), received_at: Timestamp(1), peer: None, stamp: None };
    let mut batch = Batch::new(Bytes::from(line.clone()), Arc::new(provenance));
    batch.push_validated(0..line.len(), 0);
    batch
}

/// Everything goes to one stream.
struct Into(StreamId);

impl Downstream for Into {
    fn run(&self, emitted: Vec<(usize, Batch)>) -> Followed {
        let entries = emitted.into_iter().map(|(_, batch)| (self.0, batch.render())).collect();
        Followed { entries, dead: Vec::new(), count: Box::new(|| ()) }
    }

    fn redacted(&self, text: &[u8]) -> Vec<u8> {
        text.to_vec()
    }
}

fn options(random: &mut Random) -> Options {
    Options {
        mode: Mode::Disk,
        max_bytes: [200 << 10, 1 << 20][random.below(2) as usize],
        keep_bytes: 16 << 10,
        codec: [Codec::None, Codec::Lz4][random.below(2) as usize],
        intake_bytes: 1 << 20,
        tier_bytes: 4 << 10,
        ..Options::new("/j")
    }
}

fn counting(random: &mut Random) -> Arc<dyn AnyStage> {
    Arc::new(Counting { fails: [None, Some(7)][random.below(2) as usize] })
}

/// One life of the process.
pub(super) struct Life {
    pub(super) stepped: Stepped,
    pub(super) input: StreamId,
    stage: Pin<Box<dyn Future<Output = ()> + Send>>,
    sink: Cursor,
    metrics: Arc<ComponentMetrics>,
}

impl Life {
    pub(super) fn begin(stepped: Stepped, stage: Arc<dyn AnyStage>) -> Life {
        let journal = stepped.journal.clone();
        let readers: BTreeMap<Arc<str>, Vec<String>> =
            [("s:in".into(), vec!["s:in".to_owned()]), ("sink".into(), vec!["s".to_owned()])].into();
        let streams = journal.assign_streams(&readers, &BTreeSet::new()).expect("there is room for two streams");
        let (input, output) = (streams["s:in"], streams["s"]);
        for (cursor, stream) in [("s:in", input), ("sink", output)] {
            journal.wire_cursor(cursor, &[stream], Start::Oldest).expect("it can be wired");
        }
        let metrics = Arc::new(ComponentMetrics::new("s".into(), ComponentKind::Transform, stage.type_name()));
        let task = StageLoop {
            name: "s".into(),
            stage,
            bounds: Bounds { entries: 1000, bytes: 1 << 20 },
            memory: StateMemory::new(1 << 20).join(),
            cursor: journal.open_cursor("s:in", None).expect("nobody has it"),
            outlet: Arc::new(Outlet::new(Arc::new(Into(output)))),
            metrics: metrics.clone(),
            dead_letters: DeadLetters::in_memory(1 << 20).expect("memory"),
            stop: StageStop::default(),
            evicting: false,
            journal: journal.clone(),
        };
        let sink = journal.open_cursor("sink", None).expect("nobody has it");
        Life { stepped, input, stage: Box::pin(task.run()), sink, metrics }
    }

    /// Takes and commits all that was submitted.
    pub(super) async fn settle(&mut self) {
        for _ in 0..3 {
            while self.stepped.append(1 << 20) {}
            while self.stepped.sync() {}
            self.turn().await;
        }
    }

    /// Lets the loop go on as far as it can.
    async fn turn(&mut self) {
        for _ in 0..4 {
            assert!(self.stage.as_mut().now_or_never().is_none(), "the loop does not end by itself");
            tokio::time::advance(Duration::from_millis(250)).await;
            // Dead letters are kept by a thread of their own.
            std::thread::yield_now();
        }
    }
}

/// What the sink has got, by seq: a crash may give it again, the same.
type Got = BTreeMap<u64, String>;

fn read(life: &mut Life, got: &mut Got) {
    let records = life.sink.try_next(1 << 16).expect("it can be read");
    for record in &records {
        for n in 0..record.lines.len() {
            let line = String::from_utf8(record.lines.line(n).to_vec()).expect("text");
            let known = got.insert(record.first_seq + n as u64, line.clone());
            assert!(known.is_none_or(|known| known == line), "a seq has another line after a crash");
        }
    }
    if let Some(last) = records.last() {
        life.sink.settle(last.end_seq(), &[], None);
    }
}

async fn live(seed: u64) {
    let mut random = Random(seed);
    let options = options(&mut random);
    let mut life = Life::begin(Stepped::new(seed, options), counting(&mut random));
    let mut got = Got::new();
    let mut sent = 0_u64;
    let mut acknowledged: BTreeSet<u64> = BTreeSet::new();
    let mut receipts: Vec<(Vec<u64>, Receipt)> = Vec::new();
    for _ in 0..120 + random.below(120) {
        match random.below(12) {
            0..=3 => {
                let numbers: Vec<u64> = (0..1 + random.below(6))
                    .map(|_| {
                        sent += 1;
                        sent
                    })
                    .collect();
                let receipt = send(&mut life, &numbers, &mut random);
                receipts.push((numbers, receipt));
            }
            4 | 5 => drop(life.stepped.append(1 << 20)),
            6 => drop(life.stepped.sync()),
            7 => life.turn().await,
            8 => read(&mut life, &mut got),
            9 => drop(life.stepped.keep_bounds()),
            10 if random.chance(20) => life.stepped.fail_next_sync(),
            10 if random.chance(20) => life.stepped.fail_next_write(),
            11 if random.chance(30) => {
                let next = life.stepped.restarted();
                receipts.clear();
                life = Life::begin(next, counting(&mut random));
            }
            _ => {}
        }
        receipts.retain_mut(|(numbers, receipt)| match receipt.now_or_never() {
            None => true,
            Some(answer) => {
                if answer.is_ok() {
                    acknowledged.extend(numbers.iter());
                }
                false
            }
        });
    }
    life.stepped.heal_disk();
    let is_done = |life: &Life, turns: u32| {
        let waiting =
            |name: &str| life.stepped.journal.cursor_info(&name.into()).map_or(0, |cursor| cursor.waiting_events);
        turns > 10 && waiting("s:in") + waiting("sink") == 0
    };
    let mut turns = 0;
    while !is_done(&life, turns) {
        turns += 1;
        assert!(
            turns < 20_000,
            "seed {seed}: it never comes to an end: {}; {:?}; {:?}",
            life.stepped.why(),
            life.stepped.journal.cursors(),
            life.metrics.health()
        );
        life.turn().await;
        while life.stepped.append(1 << 20) {}
        while life.stepped.sync() {}
        life.stepped.keep_bounds();
        read(&mut life, &mut got);
    }
    assert_eq!(life.metrics.health().state, ComponentState::Running);
    check(&got, &acknowledged, seed);
}

/// Submits events with these numbers.
pub(super) fn send(life: &mut Life, numbers: &[u64], random: &mut Random) -> Receipt {
    let entries = vec![(life.input, input(numbers, random))];
    let commit = Commit { entries, received_at: Timestamp(random.below(5_000_000) as i64), ..Commit::default() };
    life.stepped.journal.ticket().commit(commit)
}

fn input(numbers: &[u64], random: &mut Random) -> Lines {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for n in numbers {
        let key = ["a", "b", "d1", "d2"][random.below(4) as usize];
        let filler = "x".repeat(random.below(400) as usize);
        bytes.extend_from_slice(format!("{{\"key\":\"{key}\",\"n\":{n},\"x\":\"{filler}\"}}\n").as_bytes());
        ends.push(bytes.len() as u32);
    }
    let half = numbers.len() / 2;
    let mut origins = Origins::default();
    for (seed, ordinals) in [(1, &numbers[..half]), (2, &numbers[half..])] {
        origins.push(Seed([seed; 16]), ordinals.iter().copied());
    }
    Lines { bytes: bytes.into(), ends, origins }
}

/// Each acknowledged event came once; numbers of a key ascend, and its count goes up by one until it is closed with it.
fn check(got: &Got, acknowledged: &BTreeSet<u64>, seed: u64) {
    let mut counts: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in got.values() {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let (count, last) = counts.entry(event["key"].as_str().expect("a key").to_owned()).or_default();
        if let Some(closed) = event["closed"].as_i64() {
            assert_eq!(closed, *count, "seed {seed}: closed with another state");
            *count = 0;
            continue;
        }
        let n = event["n"].as_i64().expect("a number");
        assert!(seen.insert(n as u64), "seed {seed}: {n} was taken twice");
        assert!(n > *last, "seed {seed}: {n} came behind {last}");
        assert_eq!(event["count"].as_i64(), Some(*count + 1), "seed {seed}: the state of {n} is not that before it");
        (*count, *last) = (*count + 1, n);
    }
    // What the stage fails on is a dead letter.
    let missing: Vec<_> = acknowledged.iter().filter(|n| !seen.contains(n) && **n % 7 != 0).collect();
    assert!(missing.is_empty(), "seed {seed}: {missing:?} were acknowledged and never given");
}

#[test]
fn what_was_acknowledged_is_taken_once_with_the_state_before_it_whatever_crashes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for seed in 0..300 {
        runtime.block_on(live(seed));
    }
}

#[test]
fn what_waits_for_a_stage_has_room_kept_in_a_full_journal() {
    for (seed, appends) in [(1, true), (2, true), (1, false)] {
        let options = Options { max_bytes: 400 << 10, keep_bytes: 0, codec: Codec::None, ..Options::new("/j") };
        let mut stepped = Stepped::new(seed, options);
        let journal = stepped.journal.clone();
        let stream = journal.stream("s:in").expect("the first stream");
        let cursor = journal.cursor("s:in", &[stream], Start::Oldest, None).expect("it can be opened");
        if appends {
            cursor.appends();
        }
        let lines = || crate::journal::stepped::lines(0, 100);
        let commit = |lines| Commit { entries: vec![(stream, lines)], received_at: Timestamp(1), ..Commit::default() };
        let mut waiting = 0;
        while let Ok(permit) = journal.try_reserve(lines().bytes.len(), &[stream]) {
            drop(journal.ticket().commit(Commit { permit: Some(permit), ..commit(lines()) }));
            stepped.append(1 << 20);
            while stepped.sync() {}
            stepped.keep_bounds();
            waiting += 1;
            assert!(waiting < 10_000, "it is never full");
        }
        // Nothing can be let go before the stage has appended what it makes of all that waits.
        let fits = (0..waiting).all(|_| {
            let receipt = journal.ticket().commit(commit(lines()));
            stepped.append(1 << 20);
            while stepped.sync() {}
            stepped.keep_bounds();
            receipt.now_or_never().is_some_and(|answer| answer.is_ok())
        });
        assert_eq!(fits, appends, "after {waiting} commits");
    }
}

#[test]
fn changes_are_stored_under_a_prefix_beside_the_position() {
    let state = State::default();
    let mut transaction = Transaction::new(&state, Timestamp(0));
    transaction.put(b"p", "1", None);
    let changes: Changes = transaction.into_changes();
    let positions = positions("s", StateTag::of("counting"), &changes, &Mark { number: 7, ..Mark::default() });
    let keys: Vec<&[u8]> = positions.iter().map(|position| &position.key[..]).collect();
    assert_eq!(keys, [&b"ep"[..], MARK]);
    assert!(positions.iter().all(|position| *position.source == *"\0state s:in"));
}
