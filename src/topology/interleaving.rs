//! Tickets, threads, syncs, cuts and verdicts in the order a seed chooses: nothing hangs, no line is lost or doubled.
//!
//! Journal, file ranges and watermark are the real ones. The pool and the delivery loop are steps of this test.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bytes::Bytes;
use futures_util::FutureExt;

use crate::component::ranges::{Claim, RangeTracker, Span};
use crate::delivery::watermark::Watermark;
use crate::journal::stepped::{Random, Stepped, lines};
use crate::journal::{Codec, Commit, Cursor, Journal, Options, Position, Receipt, Record, Start, StreamId, Ticket};
use crate::units::Timestamp;

const WORLDS: u64 = 40;
const ROUNDS: u64 = 100;
const LINES: u64 = 10;
const CONCURRENCY: usize = 3;
const ACTORS: usize = 10;

struct Task {
    ticket: Ticket,
    commit: Commit,
    slot: u8,
    span: Span,
}

struct World {
    random: Random,
    disk: Stepped,
    cursor: Cursor,
    stream: StreamId,
    ranges: RangeTracker,
    goal: u64,
    queue: VecDeque<Task>,
    threads: [Option<Task>; 2],
    /// What a source waits for; none if the chunk panicked.
    waiting: Vec<(u8, Span, Option<Receipt>)>,
    cuts: Vec<(u64, u64, Vec<u64>)>,
    watermark: Watermark<u64>,
    /// Each line at the sink, with its number in the journal.
    stored: BTreeMap<u64, u64>,
    blocked: bool,
    faults: u64,
    seen: [u64; 4],
}

fn numbers(record: &Record) -> Vec<u64> {
    record.lines.runs.iter().flat_map(|run| run.ordinals.iter().copied()).collect()
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
        let stream = disk.journal.stream("a").unwrap();
        let cursor = disk.journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
        World {
            random: Random(seed),
            disk,
            cursor,
            stream,
            ranges: RangeTracker::default(),
            goal: 0,
            queue: VecDeque::new(),
            threads: [None, None],
            waiting: Vec::new(),
            cuts: Vec::new(),
            watermark: Watermark::default(),
            stored: BTreeMap::new(),
            blocked: false,
            faults: 0,
            seen: [0; 4],
        }
    }

    /// Whether the actor could do something.
    fn act(&mut self, actor: usize) -> bool {
        match actor {
            0 => self.read(),
            1 | 2 => self.work(actor - 1),
            3 => self.append(),
            4 => self.disk.sync(),
            5 => self.listen(),
            6 => self.cut(),
            7 | 8 => self.store(),
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
        let Ok(permit) = self.disk.journal.try_reserve(lines.bytes.len(), &[self.stream]) else {
            self.seen[0] += 1;
            return false;
        };
        let (slot, statement) = self.ranges.take(end);
        let position = Position { source: "f".into(), key: Bytes::from(vec![slot]), value: told(&statement) };
        let commit = Commit {
            entries: vec![(self.stream, lines)],
            positions: vec![position],
            received_at: Timestamp(1),
            permit: Some(permit),
            ..Commit::default()
        };
        self.queue.push_back(Task { ticket: self.disk.journal.ticket(), commit, slot, span: from..end });
        true
    }

    fn work(&mut self, thread: usize) -> bool {
        let Some(Task { ticket, commit, slot, span }) = self.threads[thread].take() else {
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
        self.waiting.push((slot, span, receipt.ok()));
        true
    }

    fn append(&mut self) -> bool {
        self.disk.append(1 << self.random.below(10))
    }

    fn listen(&mut self) -> bool {
        let before = self.waiting.len();
        for (slot, span, receipt) in std::mem::take(&mut self.waiting) {
            let answer = match receipt {
                None => Some(false),
                Some(mut receipt) => match (&mut receipt).now_or_never() {
                    None => {
                        self.waiting.push((slot, span, Some(receipt)));
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

    fn cut(&mut self) -> bool {
        if self.cuts.len() >= CONCURRENCY {
            return false;
        }
        let records = self.cursor.try_next(1).unwrap();
        for record in &records {
            self.cuts.push((self.watermark.start(), record.end_seq(), numbers(record)));
        }
        !records.is_empty()
    }

    fn store(&mut self) -> bool {
        if self.blocked || self.cuts.is_empty() {
            return false;
        }
        let which = self.random.below(self.cuts.len() as u64) as usize;
        let (ticket, end, lines) = self.cuts.remove(which);
        let first = end - lines.len() as u64;
        for (seq, line) in (first..end).zip(lines) {
            assert_eq!(self.stored.insert(line, seq), None, "line {line} comes twice");
        }
        self.watermark.end(ticket, end);
        while let Some(end) = self.watermark.pop() {
            self.cursor.settle(end, b"", None);
        }
        let open = self.cuts.iter().map(|cut| cut.1 - cut.2.len() as u64).min();
        assert!(open.is_none_or(|open| self.cursor.position() <= open), "settled past what is open");
        true
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

    /// Who stands where, for whoever reads of a hang.
    fn why(&self) -> String {
        format!(
            "queue {}, threads {}, waiting {}, cuts {}, position {}, open {}, {}",
            self.queue.len(),
            self.threads.iter().flatten().count(),
            self.waiting.len(),
            self.cuts.len(),
            self.cursor.position(),
            self.ranges.is_open(),
            self.disk.why(),
        )
    }

    /// One interleaving: the priorities change a few times (PCT), or each step is drawn anew.
    fn round(&mut self, by_priority: bool) {
        (self.goal, self.faults) = (self.goal + LINES, 4);
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
        (self.faults, self.blocked) = (0, false);
        self.disk.heal_disk();
        for pass in 0.. {
            let moved = (0..ACTORS).fold(false, |moved, actor| self.act(actor) | moved);
            if self.ranges.done() == self.goal && self.cuts.is_empty() && !moved {
                break;
            }
            assert!(pass < 500, "hangs at {} of {}: {}", self.ranges.done(), self.goal, self.why());
        }
        assert!(self.stored.keys().copied().eq(0..self.goal), "lines are missing or invented");
        assert_eq!(resumed(&self.disk.journal).done(), self.goal, "the positions are not where the lines are");
    }
}

#[test]
fn whatever_the_order_of_steps_every_line_arrives_once_and_nothing_hangs() {
    let mut seen = [0; 4];
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
        (0..4).for_each(|n| seen[n] += world[n]);
    }
    assert!(seen.iter().all(|n| *n > 0), "journal full, panics, failures, power cuts: {seen:?}");
    println!("{} interleavings; journal full, panics, failures, power cuts: {seen:?}", WORLDS * ROUNDS);
}
