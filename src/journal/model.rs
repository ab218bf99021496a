//! The model test: random lives of a journal on a simulated disk, with crashes as steps.
//!
//! Two sources read numbered lines and resume from the positions the journal holds, by the same range tracker as file
//! and Kafka sources. One consumer reads both streams. After every crash: nothing acknowledged is missing, no line is
//! there twice or was not written, lines that were submitted once are in order, and a source resumes from exactly the
//! lines that the journal holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use futures_util::FutureExt;

use super::appender::Appender;
use super::recovery::{self, Opened};
use super::report::RecoveryReport;
use super::sim::{Random, Sim};
use super::*;
use crate::event::{Origins, Seed};
use crate::ranges::{Claim, RangeTracker, Span};
use crate::varint::{put_varint, take_varint};

const LANES: usize = 2;

fn options() -> Options {
    Options {
        max_bytes: 160 << 10,
        keep_bytes: 32 << 10,
        codec: Codec::Lz4,
        intake_bytes: 1 << 20,
        tier_bytes: 4 << 10,
        ..Options::new("/j")
    }
}

/// The text of a lane's n-th line.
fn text(lane: usize, n: u64) -> String {
    let mut random = Random((lane as u64) << 32 | n);
    let len = if random.chance(10) { 900 } else { random.below(60) };
    let noise: String = (0..len).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
    format!("{{\"lane\":{lane},\"n\":{n},\"x\":\"{noise}\"}}")
}

/// Which of the streams a line goes to.
fn stream_of(lane: usize, n: u64) -> usize {
    Random(n ^ (lane as u64) << 40).below(2) as usize
}

#[derive(Default)]
struct Source {
    /// What was submitted of its lines, and what must be read again.
    ranges: RangeTracker,
    acknowledged: BTreeSet<u64>,
    /// Lines that were submitted, and those that were submitted again.
    submitted: BTreeSet<u64>,
    again: BTreeSet<u64>,
    /// Every line that the consumer has seen, with its number in the journal.
    seen: BTreeMap<u64, u64>,
    /// The last line in each stream that was seen and submitted only once.
    newest: [Option<u64>; 2],
    open: Vec<(Receipt, u8, Span)>,
}

struct Life {
    journal: Journal,
    appender: Appender,
    cursor: Cursor,
    streams: [StreamId; 2],
    /// The ends of the records that the consumer has in hand.
    hand: VecDeque<u64>,
    tickets: VecDeque<(usize, u8, Span, Ticket, Commit)>,
}

struct World {
    random: Random,
    disk: Sim,
    sources: [Source; LANES],
    life: Option<Life>,
    /// At the end, everything that steps up to here had been seen: totals to tell how much the test covers.
    crashes: u64,
}

fn seed_of(lane: usize) -> Seed {
    Seed([lane as u8; 16])
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random(seed),
            disk: Sim::new(seed ^ 0xABCD),
            sources: Default::default(),
            life: None,
            crashes: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) -> RecoveryReport {
        let Opened { shared, appender, guard, report } = recovery::open(options(), self.disk.boot()).unwrap();
        let journal = Journal::without_threads(shared, Some(guard));
        let streams = [journal.stream("a").unwrap(), journal.stream("b").unwrap()];
        let cursor = journal.cursor("sink", &streams, Start::Oldest, None).unwrap();
        for (lane, source) in self.sources.iter_mut().enumerate() {
            source.open.clear();
            source.ranges = RangeTracker::resume(&claims(&journal, lane));
        }
        self.life = Some(Life { journal, appender, cursor, streams, hand: VecDeque::new(), tickets: VecDeque::new() });
        report
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("between two crashes there is a life")
    }

    /// After a restart everything is read at once and compared.
    fn check_all(&mut self) {
        self.life().appender.finish_syncs();
        self.listen();
        self.rewind_reading();
        while self.read_some() {}
        for (lane, source) in self.sources.iter().enumerate() {
            let held = covered(&source.ranges);
            let missing: Vec<&u64> = source.acknowledged.difference(&held).collect();
            assert!(missing.is_empty(), "lane {lane}: acknowledged and not covered by a position: {missing:?}");
            let seen: BTreeSet<u64> = source.seen.keys().copied().collect();
            assert_eq!(seen, held, "lane {lane}: lines that are there, and those that its positions cover");
        }
        assert_eq!(self.life().cursor.take_gaps(), vec![], "gaps without damage");
    }

    /// Reads again from the watermark.
    fn rewind_reading(&mut self) {
        self.life().cursor.rewind_to_settled();
        self.life().hand.clear();
    }

    /// Takes what the cursor has next and checks that it may be there.
    fn read_some(&mut self) -> bool {
        let bytes = 1 + self.random.below(4000) as usize;
        let life = self.life.as_mut().expect("between two crashes there is a life");
        let records = life.cursor.try_next(bytes).unwrap();
        for record in &records {
            let stream = life.streams.iter().position(|id| *id == record.stream).expect("one of ours");
            for nth in 0..record.lines.len() {
                let line = std::str::from_utf8(record.lines.line(nth)).unwrap();
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let (lane, n) = (value["lane"].as_u64().unwrap() as usize, value["n"].as_u64().unwrap());
                assert_eq!(line, text(lane, n));
                assert_eq!(stream, stream_of(lane, n), "a line in another stream");
                assert_eq!(record.lines.derived_id(nth), seed_of(lane).id(n), "a line under another id");
                let seq = record.first_seq + nth as u64;
                let source = &mut self.sources[lane];
                // A watermark that was not saved in time makes lines come again: from the place they had.
                if let Some(before) = source.seen.insert(n, seq) {
                    assert_eq!(before, seq, "lane {lane}: line {n} is there twice");
                } else if !source.again.contains(&n) {
                    assert!(source.newest[stream] < Some(n), "lane {lane}: line {n} is out of order");
                    source.newest[stream] = Some(n);
                }
            }
            life.hand.push_back(record.end_seq());
        }
        !records.is_empty()
    }

    fn settle(&mut self) {
        let count = self.random.below(3) as usize + 1;
        for _ in 0..count {
            let Some(end) = self.life().hand.pop_front() else { break };
            self.life().cursor.settle(end, b"", None);
        }
    }

    /// A source reads some lines and takes a ticket for them.
    fn take_ticket(&mut self) {
        let lane = self.random.below(LANES as u64) as usize;
        let count = 1 + self.random.below(12);
        let source = &mut self.sources[lane];
        if !source.ranges.is_open() {
            return;
        }
        let first = source.ranges.cursor();
        let end = (first + count).min(source.ranges.limit().unwrap_or(u64::MAX));
        let (slot, claim) = source.ranges.take(end);
        for n in first..end {
            if !source.submitted.insert(n) {
                source.again.insert(n);
            }
        }
        let life = self.life.as_mut().unwrap();
        let ticket = life.journal.ticket();
        let mut entries = Vec::new();
        for stream in 0..2 {
            let mine: Vec<u64> = (first..end).filter(|n| stream_of(lane, *n) == stream).collect();
            entries.push((life.streams[stream], lines_of(lane, &mine)));
        }
        let key = Bytes::from(vec![lane as u8, slot]);
        let place = Position { source: "files".into(), key, value: encode(&claim) };
        let commit =
            Commit { entries, positions: vec![place], received_at: Timestamp(end as i64), ..Commit::default() };
        life.tickets.push_back((lane, slot, first..end, ticket, commit));
    }

    /// Submits a commit for one of the open tickets, or drops the ticket.
    fn use_ticket(&mut self) {
        let drops = self.random.chance(3);
        let which = self.random.next() as usize;
        let life = self.life.as_mut().unwrap();
        if life.tickets.is_empty() {
            return;
        }
        let (lane, slot, span, ticket, commit) = life.tickets.remove(which % life.tickets.len()).expect("within");
        if drops {
            self.sources[lane].ranges.settle(slot, false);
        } else {
            self.sources[lane].open.push((ticket.commit(commit), slot, span));
        }
    }

    fn append(&mut self) {
        let bytes = 1 << self.random.below(14);
        // As `codec: auto` does at any time.
        let packs = self.random.chance(50);
        let life = self.life();
        life.journal.shared().packing.set(packs);
        let due = life.journal.shared().queue().take_due(bytes);
        if !due.is_empty() {
            life.appender.append(due);
        }
    }

    /// The sources hear what became of their commits.
    fn listen(&mut self) {
        for source in &mut self.sources {
            for (mut receipt, slot, span) in std::mem::take(&mut source.open) {
                match (&mut receipt).now_or_never() {
                    None => source.open.push((receipt, slot, span)),
                    Some(outcome) => {
                        source.ranges.settle(slot, outcome.is_ok());
                        source.acknowledged.extend(outcome.is_ok().then_some(span).into_iter().flatten());
                    }
                }
            }
        }
    }

    fn crash(&mut self) {
        self.listen();
        self.crashes += 1;
        if self.random.chance(75) {
            self.disk.cut_power();
        } else {
            self.disk.kill();
        }
        self.disk.set_free(None);
        self.life = None;
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..20 => self.take_ticket(),
            20..40 => self.use_ticket(),
            40..60 => self.append(),
            60..72 => drop(self.life().journal.shared().sync_once()),
            72..76 => drop(self.life().appender.prepare()),
            76..78 => self.life().appender.claim_synced(),
            78..84 => drop(self.read_some()),
            84..90 => self.settle(),
            90 => drop(housekeeping::save_cursors(&self.life().journal.shared())),
            91 => housekeeping::forget_passed(&self.life().journal.shared(), Timestamp(i64::MAX)),
            92 => self.disk.fail_next_syncs(1),
            93 => self.disk.fail_next_writes(1),
            94 => {
                let free = self.random.below(100_000);
                let free = self.random.chance(50).then_some(free);
                self.disk.set_free(free);
            }
            95 => {
                let life = self.life();
                life.tickets.clear();
                life.appender.finish_syncs();
                life.appender.seal();
                self.listen();
                self.disk.set_free(None);
                self.life = None;
                self.disk.kill();
                self.start();
                self.check_all();
            }
            96..98 => {
                self.crash();
                self.start();
                self.check_all();
            }
            98 => self.rewind_reading(),
            _ => self.listen(),
        }
    }
}

/// What the journal holds of a lane by its positions, one for each slot.
fn claims(journal: &Journal, lane: usize) -> Vec<Claim> {
    let all = journal.positions("files");
    all.iter().filter(|(key, _)| key[0] == lane as u8).map(|(_, value)| decode(value)).collect()
}

/// The lines that a source which has just started does not read again.
fn covered(ranges: &RangeTracker) -> BTreeSet<u64> {
    ranges.statement().spans.into_iter().flatten().chain(0..ranges.done()).collect()
}

fn encode(claim: &Claim) -> Bytes {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, claim.done);
    for span in &claim.spans {
        put_varint(&mut bytes, span.start);
        put_varint(&mut bytes, span.end);
    }
    bytes.into()
}

fn decode(mut bytes: &[u8]) -> Claim {
    let mut next = || take_varint(&mut bytes);
    let done = next().expect("a number");
    let spans = std::iter::from_fn(|| Some(next()?..next()?)).collect();
    Claim { done, spans }
}

fn lines_of(lane: usize, numbers: &[u64]) -> Lines {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for n in numbers {
        bytes.extend_from_slice(text(lane, *n).as_bytes());
        bytes.push(b'\n');
        ends.push(bytes.len() as u32);
    }
    let origins = Origins::of(seed_of(lane), numbers.iter().copied());
    Lines { bytes: Bytes::from(bytes), ends, origins }
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    let steps = 20 + world.random.below(200);
    for _ in 0..steps {
        world.step();
    }
    world.crash();
    world.start();
    world.check_all();
}

/// How many lives the test run goes through.
const LIVES: u64 = 10_000;

#[test]
fn whatever_was_acknowledged_is_there_after_any_crash_in_order_and_once() {
    // `JOURNAL_SEED=17 cargo test --lib acknowledged` lives one life again.
    if let Ok(seed) = std::env::var("JOURNAL_SEED") {
        return live(seed.parse().expect("a number"));
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (thread..LIVES).step_by(threads as usize) {
                    if std::panic::catch_unwind(|| live(seed)).is_err() {
                        panic!("the life with seed {seed} went wrong: JOURNAL_SEED={seed}");
                    }
                }
            });
        }
    });
}
