//! Property test: tickets, threads, syncs, batches, outcomes and plan changes in random order; nothing hangs, no line
//! is lost or doubled, and each sink gets what its plan says.
//!
//! Journal, file ranges and watermark are the real ones. The pool, the delivery loops and the change of a plan are steps of
//! this test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;

use crate::delivery::watermark::Watermark;
use crate::journal::stepped::{Random, Stepped, lines};
use crate::journal::{Codec, Commit, Cursor, Journal, Options, Position, Receipt, Record, Start, StreamId, Ticket};
use crate::ranges::{Claim, RangeTracker, Span};
use crate::units::Timestamp;

const WORLDS: u64 = 40;
const ROUNDS: u64 = 100;
const LINES: u64 = 10;
const CONCURRENCY: usize = 3;
const ACTORS: usize = 14;
/// The first sink is in every plan; the second comes and goes.
const SINKS: [&str; 2] = ["sink", "other"];
const NAMES: [&str; 2] = ["a", "b"];

/// The name that each sink reads.
type Plan = [Option<usize>; 2];

/// What a source submits goes to every name that is read.
struct Flow {
    plan: Plan,
    streams: BTreeMap<usize, StreamId>,
}

struct Task {
    ticket: Ticket,
    commit: Commit,
    slot: u8,
    span: Span,
    flow: Arc<Flow>,
}

/// What a source waits for.
struct Waiting {
    slot: u8,
    span: Span,
    /// None if the chunk panicked.
    receipt: Option<Receipt>,
    flow: Arc<Flow>,
}

#[derive(Default)]
struct Sink {
    cursor: Option<Cursor>,
    cuts: Vec<(u64, u64, Vec<u64>)>,
    watermark: Watermark<u64>,
    /// Each line at the sink, with its number in the journal.
    stored: BTreeMap<u64, u64>,
    /// Acknowledged under a plan in which it read them.
    owed: BTreeSet<u64>,
    /// On their way when its cursor was made: it sees them or not.
    may_see: BTreeSet<u64>,
    /// Let go by the operator.
    forgiven: BTreeSet<u64>,
    /// In no plan any more; whether what waits for it is let go.
    retiring: Option<bool>,
}

struct World {
    random: Random,
    disk: Stepped,
    flow: Arc<Flow>,
    sinks: [Sink; 2],
    ranges: RangeTracker,
    goal: u64,
    queue: VecDeque<Task>,
    threads: [Option<Task>; 2],
    waiting: Vec<Waiting>,
    blocked: bool,
    faults: u64,
    changes: u64,
    seen: [u64; 7],
}

fn numbers(record: &Record) -> Vec<u64> {
    record.lines.origins.runs().flat_map(|(_, ordinals)| ordinals.to_vec()).collect()
}

fn told(statement: &Claim) -> Bytes {
    let spans = statement.spans.iter().flat_map(|span| [span.start, span.end]);
    std::iter::once(statement.done).chain(spans).flat_map(u64::to_le_bytes).collect()
}

fn heard(value: &[u8]) -> Claim {
    let words: Vec<u64> = value.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    Claim { done: words[0], spans: words[1..].chunks(2).map(|span| span[0]..span[1]).collect() }
}

fn resumed(journal: &Journal) -> RangeTracker {
    let statements: Vec<Claim> = journal.positions("f").iter().map(|(_, value)| heard(value)).collect();
    RangeTracker::resume(&statements)
}

impl World {
    fn new(seed: u64) -> World {
        let options = Options {
            max_bytes: 256 << 10,
            keep_bytes: 32 << 10,
            codec: Codec::None,
            tier_bytes: 1 << 10,
            intake_bytes: 150,
            ..Options::new("/j")
        };
        let disk = Stepped::new(seed, options);
        let flow = Arc::new(Flow { plan: [None, None], streams: BTreeMap::new() });
        let mut world = World {
            random: Random(seed),
            disk,
            flow,
            sinks: Default::default(),
            ranges: RangeTracker::default(),
            goal: 0,
            queue: VecDeque::new(),
            threads: [None, None],
            waiting: Vec::new(),
            blocked: false,
            faults: 0,
            changes: 0,
            seen: [0; 7],
        };
        assert!(world.go_over([Some(0), None]), "a plan on an empty disk");
        world
    }

    /// Whether the actor could do something.
    fn act(&mut self, actor: usize) -> bool {
        match actor {
            0 => self.read(),
            1 | 2 => self.work(actor - 1),
            3 => self.append(),
            4 => self.disk.sync(),
            5 => self.listen(),
            6 => self.cut(0),
            7 | 8 => self.store(0),
            9 => self.cut(1),
            10 => self.store(1),
            11 => self.change(),
            12 => self.retire(),
            _ => self.disk.keep_bounds(),
        }
    }

    fn read(&mut self) -> bool {
        let from = self.ranges.cursor();
        if !self.ranges.is_open() || from >= self.goal {
            return false;
        }
        let count = 1 + self.random.below(3);
        let end = (from + count).min(self.goal).min(self.ranges.limit().unwrap_or(u64::MAX));
        let lines = lines(from, end - from);
        let streams: Vec<StreamId> = self.flow.streams.values().copied().collect();
        let Ok(permit) = self.disk.journal.try_reserve(lines.bytes.len(), &streams) else {
            self.seen[0] += 1;
            return false;
        };
        let (slot, statement) = self.ranges.take(end);
        let position = Position { source: "f".into(), key: Bytes::from(vec![slot]), value: told(&statement) };
        let commit = Commit {
            entries: streams.iter().map(|stream| (*stream, lines.clone())).collect(),
            positions: vec![position],
            received_at: Timestamp(1),
            permit: Some(permit),
            ..Commit::default()
        };
        let (ticket, flow) = (self.disk.journal.ticket(), self.flow.clone());
        self.queue.push_back(Task { ticket, commit, slot, span: from..end, flow });
        true
    }

    fn work(&mut self, thread: usize) -> bool {
        let Some(Task { ticket, commit, slot, span, flow }) = self.threads[thread].take() else {
            self.threads[thread] = self.queue.pop_front();
            return self.threads[thread].is_some();
        };
        let panics = self.faults > 0 && self.random.chance(10);
        self.seen[1] += u64::from(panics);
        let receipt = catch_unwind(AssertUnwindSafe(|| {
            if panics {
                // Without the hook, which would print; the ticket and the permit are dropped with the stack.
                let _held = (ticket, commit);
                resume_unwind(Box::new("on purpose"));
            }
            ticket.commit(commit)
        }));
        self.waiting.push(Waiting { slot, span, receipt: receipt.ok(), flow });
        true
    }

    fn append(&mut self) -> bool {
        self.disk.append(1 << self.random.below(10))
    }

    fn listen(&mut self) -> bool {
        let before = self.waiting.len();
        for Waiting { slot, span, receipt, flow } in std::mem::take(&mut self.waiting) {
            let answer = match receipt {
                None => Some(false),
                Some(mut receipt) => match (&mut receipt).now_or_never() {
                    None => {
                        self.waiting.push(Waiting { slot, span, receipt: Some(receipt), flow });
                        continue;
                    }
                    Some(answer) => Some(answer.is_ok()),
                },
            };
            let taken = answer.expect("answered");
            if taken && self.random.below(200) == 0 {
                self.cut_power_beside(&span);
            }
            self.seen[2] += u64::from(!taken);
            for (sink, _) in self.sinks.iter_mut().zip(flow.plan).filter(|(_, name)| taken && name.is_some()) {
                sink.owed.extend(span.clone());
            }
            self.ranges.settle(slot, taken);
        }
        self.waiting.len() < before
    }

    /// What was acknowledged is on the platter.
    fn cut_power_beside(&mut self, span: &Span) {
        self.seen[3] += 1;
        let after = resumed(&self.disk.after_power_cut());
        assert!(after.done() >= span.end || after.furthest() >= span.end, "{span:?} was acknowledged unsynced");
    }

    fn cut(&mut self, sink: usize) -> bool {
        let sink = &mut self.sinks[sink];
        let Some(cursor) = sink.cursor.as_mut().filter(|_| sink.cuts.len() < CONCURRENCY) else { return false };
        let records = cursor.try_next(1).unwrap();
        for record in &records {
            sink.cuts.push((sink.watermark.start(), record.end_seq(), numbers(record)));
        }
        !records.is_empty()
    }

    fn store(&mut self, sink: usize) -> bool {
        let sink = &mut self.sinks[sink];
        if self.blocked || sink.cuts.is_empty() {
            return false;
        }
        let which = self.random.below(sink.cuts.len() as u64) as usize;
        let (ticket, end, lines) = sink.cuts.remove(which);
        let first = end - lines.len() as u64;
        for (seq, line) in (first..end).zip(lines) {
            assert_eq!(sink.stored.insert(line, seq), None, "line {line} comes twice");
        }
        sink.watermark.end(ticket, end);
        let cursor = sink.cursor.as_ref().expect("what is cut was read");
        while let Some(end) = sink.watermark.pop() {
            cursor.settle(end, b"", None);
        }
        let open = sink.cuts.iter().map(|cut| cut.1 - cut.2.len() as u64).min();
        assert!(open.is_none_or(|open| cursor.position() <= open), "settled past what is open");
        true
    }

    /// Flows under which something is on its way.
    fn flows(&self) -> impl Iterator<Item = &Arc<Flow>> {
        let tasks = self.queue.iter().chain(self.threads.iter().flatten()).map(|task| &task.flow);
        tasks.chain(self.waiting.iter().map(|waiting| &waiting.flow))
    }

    fn on_their_way(&self) -> BTreeSet<u64> {
        let tasks = self.queue.iter().chain(self.threads.iter().flatten()).map(|task| &task.span);
        tasks.chain(self.waiting.iter().map(|waiting| &waiting.span)).flat_map(Clone::clone).collect()
    }

    /// A reload with another plan, or with the same and every loop begun again.
    fn change(&mut self) -> bool {
        if self.changes == 0 || !self.random.chance(25) {
            return false;
        }
        self.changes -= 1;
        let mut plan = self.flow.plan;
        match self.random.below(4) {
            0 => plan[0] = plan[0].map(|name| 1 - name),
            1 => plan[1] = plan[1].map(|name| 1 - name),
            2 => plan[1] = if plan[1].is_some() { None } else { Some(self.random.below(2) as usize) },
            _ => {}
        }
        self.go_over(plan)
    }

    /// Prepares a plan and goes over to it; false if that was not possible, and then nothing has changed.
    fn go_over(&mut self, plan: Plan) -> bool {
        let journal = self.disk.journal.clone();
        let named = |name: usize| vec![NAMES[name].to_owned()];
        let readers = SINKS.iter().zip(plan).filter_map(|(sink, name)| Some(((*sink).into(), named(name?)))).collect();
        let in_use =
            self.flows().flat_map(|flow| flow.streams.values().copied()).chain(self.flow.streams.values().copied());
        let Ok(chosen) = journal.assign_streams(&readers, &in_use.collect()) else { return false };
        let place = |name: &String| NAMES.iter().position(|known| known == name).expect("one of ours");
        let streams: BTreeMap<usize, StreamId> = chosen.iter().map(|(name, stream)| (place(name), *stream)).collect();
        let mut made = Vec::new();
        for (sink, name) in plan.into_iter().enumerate() {
            let Some(name) = name else { continue };
            if journal.wire_cursor(SINKS[sink], &[streams[&name]], Start::End).unwrap() {
                made.push(sink);
            }
        }
        if journal.save_cursors().is_err() {
            self.seen[6] += 1;
            made.iter().for_each(|sink| assert!(journal.drop_cursor(SINKS[*sink])));
            return false;
        }
        let on_their_way = self.on_their_way();
        made.iter().for_each(|sink| self.sinks[*sink].may_see.extend(&on_their_way));
        let before = std::mem::replace(&mut self.flow, Arc::new(Flow { plan, streams })).plan;
        self.seen[4] += 1;
        for sink in 0..SINKS.len() {
            if plan[sink].is_none() {
                if before[sink].is_some() {
                    self.sinks[sink].retiring = Some(self.random.chance(30));
                }
                continue;
            }
            let lets_go = self.sinks[sink].retiring.take();
            if lets_go.is_some() || before[sink] != plan[sink] || self.random.chance(50) {
                self.begin_again(sink, lets_go == Some(true));
            }
        }
        true
    }

    /// Ends a loop, whose writes are given up where they are, and begins its successor.
    fn begin_again(&mut self, sink: usize, lets_go: bool) {
        self.close(sink, lets_go);
        let cursor = self.disk.journal.open_cursor(SINKS[sink], None).expect("it is wired and nobody has it");
        self.sinks[sink].cursor = Some(cursor);
    }

    fn close(&mut self, sink: usize, lets_go: bool) {
        let on_their_way = self.on_their_way();
        let Sink { cursor, cuts, watermark, stored, owed, forgiven, .. } = &mut self.sinks[sink];
        self.seen[5] += u64::from(!cuts.is_empty());
        if let Some(cursor) = cursor.take() {
            // What was stored behind a write that is given up comes again.
            let settled = cursor.position();
            stored.retain(|_, seq| *seq < settled);
        }
        *watermark = Watermark::default();
        cuts.clear();
        if lets_go {
            self.disk.journal.discard_all_but(SINKS[sink], &[]);
            forgiven.extend(owed.iter().chain(&on_their_way));
        }
    }

    /// Looks after the sink that was removed.
    fn retire(&mut self) -> bool {
        let mut moved = false;
        for (sink, name) in SINKS.into_iter().enumerate() {
            let Some(lets_go) = self.sinks[sink].retiring else { continue };
            let waiting = self.disk.journal.cursor_info(&name.into()).map_or(0, |info| info.waiting_events);
            let may_come = self.flows().any(|flow| !Arc::ptr_eq(flow, &self.flow));
            if !lets_go && (waiting > 0 || may_come) {
                continue;
            }
            self.close(sink, lets_go);
            assert!(self.disk.journal.drop_cursor(name), "nobody has it");
            self.sinks[sink].retiring = None;
            moved = true;
        }
        moved
    }

    fn disturb(&mut self) {
        self.faults = self.faults.saturating_sub(1);
        match self.random.below(4) {
            0 => self.disk.fail_next_sync(),
            1 => self.disk.fail_next_write(),
            2 => self.disk.fill_disk(),
            _ => self.blocked = true,
        }
    }

    /// The state of each actor, for the report of a hang.
    fn why(&self) -> String {
        format!(
            "queue {}, threads {}, waiting {}, cuts {:?}, retiring {:?}, open {}, {}",
            self.queue.len(),
            self.threads.iter().flatten().count(),
            self.waiting.len(),
            self.sinks.each_ref().map(|sink| sink.cuts.len()),
            self.sinks.each_ref().map(|sink| sink.retiring),
            self.ranges.is_open(),
            self.disk.why(),
        )
    }

    /// One interleaving: the priorities change a few times (PCT), or each step is drawn anew.
    fn round(&mut self, by_priority: bool) {
        (self.goal, self.faults, self.changes) = (self.goal + LINES, 4, 3);
        let mut order: Vec<usize> = (0..ACTORS).collect();
        for step in 0..150 {
            if step == 0 || !by_priority || self.random.chance(4) {
                (1..ACTORS).rev().for_each(|n| order.swap(n, self.random.below(n as u64 + 1) as usize));
            }
            if self.faults > 0 && self.random.chance(3) {
                self.disturb();
            }
            for actor in order.clone() {
                if self.act(actor) {
                    break;
                }
            }
        }
        (self.faults, self.blocked, self.changes) = (0, false, 0);
        self.disk.heal_disk();
        for pass in 0.. {
            let moved = (0..ACTORS).fold(false, |moved, actor| self.act(actor) | moved);
            let is_idle = self.sinks.iter().all(|sink| sink.cuts.is_empty() && sink.retiring.is_none());
            if self.ranges.done() == self.goal && is_idle && !moved {
                break;
            }
            assert!(pass < 500, "hangs at {} of {}: {}", self.ranges.done(), self.goal, self.why());
        }
        assert!(self.sinks[0].owed.iter().copied().eq(0..self.goal), "it is in every plan");
        for (sink, name) in self.sinks.iter().zip(SINKS) {
            let missing: Vec<_> =
                sink.owed.iter().filter(|n| !sink.stored.contains_key(n) && !sink.forgiven.contains(n)).collect();
            assert!(missing.is_empty(), "{missing:?} never came to `{name}`");
            let strange: Vec<_> =
                sink.stored.keys().filter(|n| !sink.owed.contains(n) && !sink.may_see.contains(n)).collect();
            assert!(strange.is_empty(), "{strange:?} were not for `{name}`");
        }
        assert_eq!(resumed(&self.disk.journal).done(), self.goal, "the positions are not where the lines are");
    }
}

const SEEN: &str = "journal full, panics, failures, power cuts, changes of plan, writes given up, changes refused";

#[test]
fn whatever_the_order_of_steps_every_line_arrives_once_and_nothing_hangs() {
    let mut seen = [0; 7];
    for seed in 0..WORLDS {
        let run = catch_unwind(|| {
            let mut world = World::new(seed);
            (0..ROUNDS).for_each(|round| world.round(round % 2 == 0));
            world.seen
        });
        let world = run.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            resume_unwind(panic)
        });
        (0..7).for_each(|n| seen[n] += world[n]);
    }
    assert!(seen.iter().all(|n| *n > 0), "{SEEN}: {seen:?}");
    println!("{} interleavings; {SEEN}: {seen:?}", WORLDS * ROUNDS);
}
