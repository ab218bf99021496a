//! The model test of plan changes: sinks are added, removed, re-added and re-wired between any two steps, with crashes
//! and failing disks, by reload and by restart.
//!
//! Each line is written to every name that the plan of its time reads. Whatever was acknowledged reaches each sink that
//! read its name then, once in a life, in the order of the name, unless the operator let it go; and nothing else does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;

use super::appender::Appender;
use super::recovery::{self, Opened};
use super::sim::{Random, Sim};
use super::*;
use crate::event::{Origins, Seed};

const SINKS: [&str; 3] = ["s", "t", "u"];
const NAMES: [&str; 3] = ["a", "b", "c"];

/// The names that each sink reads, by their numbers.
type Plan = BTreeMap<usize, BTreeSet<usize>>;
/// A line under a name.
type Line = (usize, u64);
/// The stream of each name that is written.
type Flow = Arc<BTreeMap<usize, StreamId>>;

fn options() -> Options {
    Options {
        max_bytes: 160 << 10,
        keep_bytes: 16 << 10,
        codec: Codec::None,
        intake_bytes: 1 << 20,
        tier_bytes: 2 << 10,
        ..Options::new("/j")
    }
}

struct Written {
    plan: Plan,
    acknowledged: bool,
}

/// What a sink has got.
#[derive(Default)]
struct Sink {
    settled: BTreeSet<Line>,
    /// The same since the last start.
    in_this_life: BTreeSet<Line>,
    /// Let go by the operator.
    forgiven: BTreeSet<Line>,
    /// Lines that were not acknowledged when its cursor was made: it may see them or not.
    may_see: BTreeSet<Line>,
}

/// A sink that runs.
struct Open {
    cursor: Cursor,
    hand: VecDeque<(u64, Vec<Line>)>,
    last: BTreeMap<usize, u64>,
}

struct Life {
    journal: Journal,
    appender: Appender,
    flow: Flow,
    open: BTreeMap<usize, Open>,
    tickets: VecDeque<(u64, Flow, Ticket)>,
    receipts: Vec<(u64, Flow, Receipt)>,
    /// Removed sinks, and whether what waits for them is let go.
    retired: BTreeMap<usize, bool>,
}

struct World {
    random: Random,
    disk: Sim,
    plan: Plan,
    lines: BTreeMap<u64, Written>,
    sinks: [Sink; 3],
    life: Option<Life>,
    changes: u64,
    crashes: u64,
}

fn readers(plan: &Plan) -> BTreeMap<Arc<str>, Vec<String>> {
    let names = |names: &BTreeSet<usize>| names.iter().map(|name| NAMES[*name].to_owned()).collect();
    plan.iter().map(|(sink, reads)| (SINKS[*sink].into(), names(reads))).collect()
}

fn streams(flow: &BTreeMap<usize, StreamId>, names: &BTreeSet<usize>) -> Vec<StreamId> {
    names.iter().filter_map(|name| flow.get(name).copied()).collect()
}

fn text(name: usize, n: u64) -> Lines {
    let line = format!("{{\"name\":{name},\"n\":{n}}}\n");
    let ends = vec![line.len() as u32];
    Lines { bytes: Bytes::from(line), ends, origins: Origins::of(Seed([name as u8; 16]), [n]) }
}

impl Life {
    /// Streams that something may still be written to.
    fn in_use(&self) -> BTreeSet<StreamId> {
        let flows = self.tickets.iter().map(|(_, flow, _)| flow).chain(self.receipts.iter().map(|(_, flow, _)| flow));
        flows.chain([&self.flow]).flat_map(|flow| flow.values().copied()).collect()
    }

    /// Whether something that was begun under an earlier plan has not ended.
    fn has_old_flows(&self) -> bool {
        let flows = self.tickets.iter().map(|(_, flow, _)| flow).chain(self.receipts.iter().map(|(_, flow, _)| flow));
        flows.into_iter().any(|flow| !Arc::ptr_eq(flow, &self.flow))
    }

    fn open(&mut self, sink: usize) {
        let cursor = self.journal.open_cursor(SINKS[sink], None).expect("it is wired and nobody has it");
        self.open.insert(sink, Open { cursor, hand: VecDeque::new(), last: BTreeMap::new() });
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random(seed),
            disk: Sim::new(seed ^ 0x77),
            plan: Plan::new(),
            lines: BTreeMap::new(),
            sinks: Default::default(),
            life: None,
            changes: 0,
            crashes: 0,
        };
        world.plan = world.any_plan();
        world.start();
        world
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("between two crashes there is a life")
    }

    fn any_plan(&mut self) -> Plan {
        let mut plan = Plan::new();
        for sink in 0..SINKS.len() {
            if self.random.chance(70) {
                let mut names: BTreeSet<usize> = (0..NAMES.len()).filter(|_| self.random.chance(40)).collect();
                names.insert(self.random.below(NAMES.len() as u64) as usize);
                plan.insert(sink, names);
            }
        }
        plan
    }

    fn start(&mut self) {
        let Opened { shared, appender, guard, report } = recovery::open(options(), self.disk.boot()).unwrap();
        let journal = Journal::without_threads(shared, Some(guard));
        for sink in &mut self.sinks {
            sink.in_this_life.clear();
        }
        // A crash finds a cursor or none, and never the name of one without its position. (A file in which nothing was
        // written yet is that of a cursor which was just made.)
        let lost = report.cursors_lost.iter().filter(|name| !name.ends_with(".cursor"));
        assert_eq!(lost.count(), 0, "{:?}", report.cursors_lost);
        self.life = Some(Life {
            journal,
            appender,
            flow: Flow::default(),
            open: BTreeMap::new(),
            tickets: VecDeque::new(),
            receipts: Vec::new(),
            retired: BTreeMap::new(),
        });
        let plan = self.plan.clone();
        assert!(self.go_over(plan, false), "a start with a disk that works");
        for cursor in self.life().journal.cursors() {
            let sink = SINKS.iter().position(|name| **name == *cursor.name).expect("one of ours");
            if self.plan.contains_key(&sink) {
                continue;
            }
            if cursor.waiting_events == 0 {
                assert!(self.life().journal.drop_cursor(SINKS[sink]));
            } else if self.random.chance(50) {
                // Its drain goes on; otherwise it waits for somebody to decide.
                self.life().journal.wire_cursor(SINKS[sink], &[], Start::End).unwrap();
                self.life().open(sink);
                self.life().retired.insert(sink, false);
            }
        }
    }

    /// Prepares a plan and goes over to it; false if that was not possible, and then nothing has changed.
    fn go_over(&mut self, plan: Plan, may_crash: bool) -> bool {
        let in_use = self.life().in_use();
        let Ok(chosen) = self.life().journal.assign_streams(&readers(&plan), &in_use) else { return false };
        let name = |name: &String| NAMES.iter().position(|known| known == name).expect("one of ours");
        let flow: BTreeMap<usize, StreamId> = chosen.iter().map(|(named, stream)| (name(named), *stream)).collect();
        let mut made = Vec::new();
        for (sink, names) in &plan {
            let is_new = self.life().journal.wire_cursor(SINKS[*sink], &streams(&flow, names), Start::End).unwrap();
            if is_new {
                made.push(*sink);
                // A commit that failed may be found after a crash all the same.
                let open = self.lines.iter().filter(|(_, written)| !written.acknowledged);
                let open = open.flat_map(|(n, _)| (0..NAMES.len()).map(move |name| (name, *n)));
                self.sinks[*sink].may_see.extend(open);
            }
        }
        if self.life().journal.save_cursors().is_err() {
            made.iter().for_each(|sink| assert!(self.life().journal.drop_cursor(SINKS[*sink])));
            return false;
        }
        if may_crash && self.random.chance(5) {
            self.crash();
            self.start();
            return true;
        }
        self.changes += 1;
        self.life().flow = Arc::new(flow);
        let before = std::mem::replace(&mut self.plan, plan.clone());
        for sink in before.keys().filter(|sink| !plan.contains_key(*sink)) {
            let lets_go = self.random.chance(30);
            self.life().retired.insert(*sink, lets_go);
        }
        for (sink, names) in &plan {
            let lets_go = self.life().retired.remove(sink);
            let is_open = self.life().open.contains_key(sink);
            let rewired = before.get(sink).is_some_and(|old| old != names);
            // The loop is begun again, maybe while a write hangs.
            if is_open && (lets_go.is_some() || rewired || self.random.chance(30)) {
                self.life().open.remove(sink);
            }
            if lets_go == Some(true) {
                self.let_go(*sink, &BTreeSet::new());
            } else if rewired && self.random.chance(20) {
                self.let_go(*sink, names);
            }
            if !self.life().open.contains_key(sink) {
                self.life().open(*sink);
            }
        }
        true
    }

    /// The operator lets go what waits for a sink under other names than these.
    fn let_go(&mut self, sink: usize, names: &BTreeSet<usize>) {
        let life = self.life.as_mut().expect("there is a life");
        let keep: Vec<StreamId> = names.iter().flat_map(|name| life.journal.streams_named(NAMES[*name])).collect();
        let waiting = life.journal.waiting_beyond(SINKS[sink], &keep);
        assert_eq!(life.journal.discard_all_but(SINKS[sink], &keep), waiting, "what is let go is counted");
        for (n, written) in &self.lines {
            for name in written.plan.get(&sink).into_iter().flatten().filter(|name| !names.contains(*name)) {
                self.sinks[sink].forgiven.insert((*name, *n));
            }
        }
    }

    /// Looks after removed sinks.
    fn retire(&mut self) {
        let retired: Vec<(usize, bool)> = self.life().retired.iter().map(|(sink, drops)| (*sink, *drops)).collect();
        for (sink, drops) in retired {
            let waiting = self.life().journal.cursor_info(&SINKS[sink].into()).map_or(0, |info| info.waiting_events);
            if !drops && (waiting > 0 || self.life().has_old_flows()) {
                continue;
            }
            self.life().open.remove(&sink);
            if drops {
                self.let_go(sink, &BTreeSet::new());
            }
            self.life().journal.drop_cursor(SINKS[sink]);
            self.life().retired.remove(&sink);
        }
    }

    fn take_ticket(&mut self) {
        let n = self.lines.len() as u64;
        self.lines.insert(n, Written { plan: self.plan.clone(), acknowledged: false });
        let life = self.life();
        let (flow, ticket) = (life.flow.clone(), life.journal.ticket());
        life.tickets.push_back((n, flow, ticket));
    }

    fn use_ticket(&mut self) {
        let which = self.random.next() as usize;
        let life = self.life();
        if life.tickets.is_empty() {
            return;
        }
        let (n, flow, ticket) = life.tickets.remove(which % life.tickets.len()).expect("within");
        let entries = flow.iter().map(|(name, stream)| (*stream, text(*name, n))).collect();
        let commit = Commit { entries, received_at: Timestamp(n as i64), ..Commit::default() };
        life.receipts.push((n, flow, ticket.commit(commit)));
    }

    fn append(&mut self) {
        let bytes = 1 << self.random.below(12);
        let life = self.life();
        let due = life.journal.shared().queue().take_due(bytes);
        if !due.is_empty() {
            life.appender.append(due);
        }
    }

    fn listen(&mut self) {
        let life = self.life.as_mut().expect("there is a life");
        life.receipts.retain_mut(|(n, _, receipt)| match receipt.now_or_never() {
            None => true,
            Some(answer) => {
                self.lines.get_mut(n).expect("it was written").acknowledged = answer.is_ok();
                false
            }
        });
    }

    fn read(&mut self, sink: usize) -> bool {
        let bytes = 1 + self.random.below(400) as usize;
        let Some(open) = self.life.as_mut().expect("there is a life").open.get_mut(&sink) else { return false };
        let records = open.cursor.try_next(bytes).unwrap();
        for record in &records {
            let mut lines = Vec::new();
            for nth in 0..record.lines.len() {
                let value: serde_json::Value = serde_json::from_slice(record.lines.line(nth)).unwrap();
                let line = (value["name"].as_u64().unwrap() as usize, value["n"].as_u64().unwrap());
                let state = &self.sinks[sink];
                let written = &self.lines[&line.1];
                let is_meant = written.plan.get(&sink).is_some_and(|names| names.contains(&line.0));
                // One whose commit failed was promised to nobody, and may be found after a crash all the same.
                let is_refused = !written.acknowledged;
                let may = is_meant || is_refused || state.may_see.contains(&line);
                assert!(may, "{} sees {line:?}, which is not meant for it", SINKS[sink]);
                assert!(!state.in_this_life.contains(&line), "{} sees {line:?} twice", SINKS[sink]);
                let before = open.last.insert(line.0, line.1);
                assert!(before.is_none_or(|before| before < line.1), "{} sees {line:?} too late", SINKS[sink]);
                lines.push(line);
            }
            open.hand.push_back((record.end_seq(), lines));
        }
        assert!(open.cursor.take_gaps().iter().all(|gap| gap.cause == Cause::Removed), "gaps without damage");
        !records.is_empty()
    }

    fn settle(&mut self, sink: usize) {
        let Some(open) = self.life.as_mut().expect("there is a life").open.get_mut(&sink) else { return };
        let Some((end, lines)) = open.hand.pop_front() else { return };
        open.cursor.settle(end, b"", None);
        self.sinks[sink].settled.extend(&lines);
        self.sinks[sink].in_this_life.extend(&lines);
    }

    fn crash(&mut self) {
        self.listen();
        self.crashes += 1;
        if self.random.chance(75) {
            self.disk.cut_power()
        } else {
            self.disk.kill()
        }
        self.disk.set_free(None);
        self.life = None;
    }

    fn step(&mut self) {
        let sink = self.random.below(SINKS.len() as u64) as usize;
        match self.random.below(100) {
            0..18 => self.take_ticket(),
            18..36 => self.use_ticket(),
            36..52 => self.append(),
            52..62 => drop(self.life().journal.shared().sync_once()),
            62..64 => drop(self.life().appender.prepare()),
            64..74 => drop(self.read(sink)),
            74..82 => self.settle(sink),
            82 => drop(housekeeping::save_cursors(&self.life().journal.shared())),
            83 => {
                housekeeping::remove_dropped(&self.life().journal.shared());
                housekeeping::forget_passed(&self.life().journal.shared(), Timestamp(i64::MAX));
            }
            84 => self.disk.fail_next_syncs(1),
            85 => self.disk.fail_next_writes(1),
            86..92 => {
                let plan = self.any_plan();
                self.go_over(plan, true);
            }
            92..95 => self.retire(),
            95 => {
                self.crash();
                // Maybe with another plan.
                if self.random.chance(50) {
                    self.plan = self.any_plan();
                }
                self.start();
            }
            _ => self.listen(),
        }
    }

    /// Brings every sink back and checks that it has got what it is owed.
    fn finish(&mut self) {
        self.crash();
        self.plan = (0..SINKS.len()).map(|sink| (sink, BTreeSet::from([sink]))).collect();
        self.start();
        for (sink, name_of_sink) in SINKS.iter().enumerate() {
            while self.read(sink) {}
            while self.life().open.get(&sink).is_some_and(|open| !open.hand.is_empty()) {
                self.settle(sink);
            }
            for (n, written) in self.lines.iter().filter(|(_, written)| written.acknowledged) {
                for name in written.plan.get(&sink).into_iter().flatten() {
                    let line = (*name, *n);
                    let state = &self.sinks[sink];
                    let ended = state.settled.contains(&line) || state.forgiven.contains(&line);
                    assert!(ended, "{line:?} was acknowledged and never came to {name_of_sink}");
                }
            }
        }
    }
}

fn live(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed);
    let steps = 50 + world.random.below(400);
    (0..steps).for_each(|_| world.step());
    world.finish();
    (world.changes, world.crashes)
}

/// How many lives the test run goes through.
const LIVES: u64 = 400;

#[test]
fn whatever_plans_come_and_go_every_sink_gets_what_it_is_owed_and_nothing_else() {
    // `PLAN_SEED=17 cargo test --lib whatever_plans` lives one life again.
    if let Ok(seed) = std::env::var("PLAN_SEED") {
        live(seed.parse().expect("a number"));
        return;
    }
    let lives = std::env::var("PLAN_LIVES").ok().and_then(|lives| lives.parse().ok()).unwrap_or(LIVES);
    let (mut changes, mut crashes) = (0, 0);
    for seed in 0..lives {
        match std::panic::catch_unwind(|| live(seed)) {
            Ok(life) => (changes, crashes) = (changes + life.0, crashes + life.1),
            Err(_) => panic!("the life with seed {seed} went wrong: PLAN_SEED={seed}"),
        }
    }
    println!("{lives} lives, {changes} changes of plan, {crashes} crashes");
    assert!(changes > 10 * lives && crashes > 2 * lives);
}
