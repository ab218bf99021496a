//! The delivery loop that all sinks share: it batches, encodes, writes, retries, bisects and settles.
//!
//! Invariants:
//! - An event has ended when it was written, sorted out by `where`, kept as a dead letter, or dropped by policy;
//!   it ends once. The cursor passes it only when it and all before it have ended or are parked.
//! - A parked event waits in the queue for its destination, and counts as waiting. It ends in the queue, which counts in
//!   the same step how it ended, and only after the cursor on the disk has passed it. What is parked at or behind the
//!   cursor when the loop begins is forgotten, for it comes again.
//! - A write that failed, panicked, ran out of time or was dropped has ended nothing.
//! - The event accounting changes in the same step as the cursor, and is kept with it.

#![deny(clippy::let_underscore_must_use, clippy::unused_result_ok)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

mod batcher;
mod circuit_breaker;
mod connection;
mod dead_letters;
mod deliver;
mod evidence;
pub mod fanout;
mod feed;
pub mod frames;
mod in_flight;
mod limits;
mod memory;
mod moving;
mod parking;
pub mod policy;
mod saved;
mod select;
pub mod shown;
mod totals;
mod unpark;
pub mod view;
pub(crate) mod watermark;
mod window;

#[cfg(test)]
mod tests;

pub use batcher::Filter;
use batcher::{Batcher, Pending};
use connection::SinkConnection;
use dead_letters::Again;
use deliver::Outcome;
pub use feed::{Feed, FeedError, Skipped};
use in_flight::InFlight;
use limits::{ConcurrencyLimit, RateLimiter};
pub use memory::DeliveryMemory;
use memory::{DeliveryPermit, Seat};
pub use moving::{Moved, move_cursor};
pub use policy::Policy;
use saved::Saved;
use unpark::Unparked;
use watermark::Watermark;

use crate::component::{AnySinkConfig, SinkContext, StateTag, Written};
use crate::journal::Record;
use crate::journal::dead_letters::{DeadLetter, DeadLetters};
use crate::telemetry::{ComponentMetrics, ComponentState, Counts, ParkedEnds};
use crate::units::Timestamp;

/// The cause of what the target has under the same id with other content.
const ID_CONFLICT: &str = "id_conflict";
/// The cause of what an operator has moved the cursor over.
const MOVED: &str = "moved";

/// How often the accounting of a sink that waits is looked over.
const TICK: Duration = Duration::from_secs(1);
/// How long to wait after the journal could not be read, or the loop has met a bug of its own.
const AGAIN: Duration = Duration::from_secs(1);
/// Batches behind those that are held, to find out whether the target or an event is at fault.
const MAX_WITNESSES: usize = 32;
/// Replays that may wait for a sink; more are refused.
pub const MAX_REPLAYS: usize = 64;

/// A dead letter that should be written after all.
pub struct Replay {
    pub dead_letter: DeadLetter,
    /// Hears whether it was written; the dead letter is the caller's to remove then.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// Everything one sink needs to be fed.
pub struct Delivery<F> {
    pub feed: F,
    pub config: Arc<dyn AnySinkConfig>,
    pub cx: SinkContext,
    pub policy: Policy,
    pub filter: Option<Filter>,
    pub metrics: Arc<ComponentMetrics>,
    pub dead_letters: DeadLetters,
    pub replays: mpsc::Receiver<Replay>,
    /// What all sinks together may hold of batches on their way.
    pub memory: DeliveryMemory,
    /// Whether the queue outlives the process, so that events may be parked in it.
    pub parks: bool,
    /// Notified when an operator has dropped parked dead letters.
    pub dropped: Arc<Notify>,
    /// No new writes begin; those on their way end in peace.
    pub stop: CancellationToken,
    /// Those on their way are given up; their events wait in the journal.
    pub kill: CancellationToken,
}

/// What a task of the loop has come to.
enum Done {
    Opened { one_at_a_time: bool },
    Delivered(u64, Option<Outcome>),
    Replayed(Result<Written, String>, Reply),
    Unparked(Unparked, Option<Reply>),
}

type Reply = oneshot::Sender<Result<(), String>>;

/// A batch on its way to the sink.
struct OnItsWay {
    received_at: Timestamp,
    _memory: DeliveryPermit,
}

struct Loop<F> {
    feed: F,
    /// Whose memory it is that is saved.
    tag: StateTag,
    connection: Arc<SinkConnection>,
    batcher: Batcher,
    /// Gives the batcher its filter again after a restart.
    filter: Option<Arc<Filter>>,
    tasks: JoinSet<Done>,
    watermark: Watermark<Outcome>,
    /// What is on its way, by ticket.
    out: BTreeMap<u64, OnItsWay>,
    /// Events and bytes of batches that the cursor has not passed, oldest first: on their way, or ended behind one that is.
    unsettled: VecDeque<(usize, usize)>,
    memory: DeliveryMemory,
    _seat: Seat,
    /// The next batch waits for it.
    lacks_memory: bool,
    rate: RateLimiter,
    concurrency: ConcurrencyLimit,
    /// Events passed over, and counted, that the cursor has not reached.
    skipped: Vec<Skipped>,
    /// So many events before this `seq` are in the totals since the sink's memory covers them, though a crash has left the
    /// cursor behind them.
    covered: (u64, u64),
    opened: bool,
    /// Whether the sink must be written one batch after another.
    one_at_a_time: bool,
    stopping: bool,
    closed: bool,
    read_again: Option<Instant>,
    /// Parked events are on their way; nothing else tries parked ones at the same time.
    unparking: bool,
    /// They were the last to have their turn.
    had_their_turn: bool,
    /// How parked events had ended when the totals were saved.
    ends_saved: ParkedEnds,
}

impl<F: Feed> Delivery<F> {
    /// Feeds the sink until it is stopped or there is nothing more to come.
    pub async fn run(self) {
        let Delivery { feed, config, mut cx, policy, filter, metrics, dead_letters, mut replays, .. } = self;
        let (parks, dropped, stop, kill, memory) = (self.parks, self.dropped, self.stop, self.kill, self.memory);
        let tag = StateTag::of(config.type_name());
        let mut saved = Saved::read(&feed, tag);
        metrics.update(|counts| {
            totals::decode(&saved.totals, counts);
            (counts.skipped, counts.waiting) = (0, saved.waiting(&feed) + counts.parked);
        });
        cx.position = saved.position;
        cx.memory = saved.memory.take().map(|memory| (saved.position, memory));
        let filter = filter.map(Arc::new);
        let mut this = Loop {
            batcher: batcher(&policy, &filter, &*config, &memory, saved.position),
            rate: RateLimiter::new(policy.rate),
            concurrency: ConcurrencyLimit::new(policy.concurrency),
            connection: Arc::new(SinkConnection::new(config, cx, policy, metrics, dead_letters, parks, stop.clone())),
            feed,
            tag,
            filter,
            tasks: JoinSet::new(),
            watermark: Watermark::default(),
            out: BTreeMap::new(),
            unsettled: VecDeque::new(),
            _seat: memory.seat(),
            memory,
            lacks_memory: false,
            skipped: Vec::new(),
            covered: (saved.position, saved.covered),
            opened: false,
            one_at_a_time: false,
            stopping: false,
            closed: false,
            read_again: None,
            unparking: false,
            had_their_turn: false,
            ends_saved: ParkedEnds::default(),
        };
        let all = async {
            let settled = totals::decode(&saved.totals, &mut Counts::default()).unwrap_or(saved.position);
            if settled < saved.position {
                // An operator has moved the cursor on. From now on what it passed over has ended for good.
                this.connection.metrics.update(|counts| {
                    this.feed.settle(saved.position, &totals::encode(counts, saved.position), None);
                });
            }
            if this.take_up(saved.position, settled).await {
                this.tasks.spawn(open(this.connection.clone()));
                this.run(&mut replays, &dropped, &stop).await;
            }
        };
        tokio::select! {
            () = all => {}
            () = kill.cancelled() => {}
        }
        this.connection.metrics.enter(ComponentState::Stopped);
    }
}

fn batcher(
    policy: &Policy,
    filter: &Option<Arc<Filter>>,
    config: &dyn AnySinkConfig,
    memory: &DeliveryMemory,
    position: u64,
) -> Batcher {
    let filter = filter.clone().map(|filter| Box::new(move |record: &Record| filter(record)) as Filter);
    let batcher = Batcher::new(policy.batch.clone(), policy.max_age, filter, position);
    // A limit that somebody has set is kept, and a rate is not for bursts.
    let is_free = policy.batch == policy::Batching::default() && policy.rate.is_none();
    batcher.catching_up(if is_free { config.catch_up_bytes().min(memory.most_at_once()) } else { 0 })
}

impl<F: Feed> Loop<F> {
    async fn run(&mut self, replays: &mut mpsc::Receiver<Replay>, dropped: &Notify, stop: &CancellationToken) {
        loop {
            if self.had_their_turn {
                self.start_writes();
            }
            self.start_unparking();
            self.start_writes();
            let is_done = self.stopping || self.closed && self.batcher.is_empty();
            if is_done && self.out.is_empty() && !self.unparking {
                return;
            }
            let now = Instant::now();
            self.batcher.set_fair(self.memory.fair_bytes());
            let may_read = !self.stopping
                && !self.closed
                && self.batcher.wants_more()
                && (self.out.is_empty() || self.batcher.may_read_ahead())
                && self.read_again.is_none_or(|again| again <= now);
            let wanted = self.batcher.wanted_bytes();
            let wake = self.wake(now);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.stopping => self.stopping = true,
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done),
                    // Our own code has panicked: what was on its way is begun again.
                    Err(error) => self.restart(&error.to_string()).await,
                },
                records = self.feed.next(wanted), if may_read => self.take(records),
                Some(replay) = replays.recv(), if self.may_replay() => self.replay(replay),
                () = dropped.notified() => {
                    self.connection.lock().parking.hurry(now);
                    self.look();
                }
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => self.look(),
            }
        }
    }

    /// When something has to be done although nothing happens.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let tick = (!self.batcher.is_empty() || !self.out.is_empty()).then(|| now + TICK);
        // What waits for another batch to end is looked at when that ends, and on each tick.
        let may_start = self.has_room() && self.is_near() && !self.lacks_memory && !self.stopping;
        let due = self.batcher.due().filter(|_| may_start);
        let parked = self.connection.lock().parking.next_due().filter(|_| self.may_unpark());
        let paid = |due: Instant| self.rate.not_before(now).map_or(due, |paid| paid.max(due));
        let (due, parked) = (due.map(paid), parked.map(paid));
        [tick, due, parked, self.read_again.filter(|again| *again > now)].into_iter().flatten().min()
    }

    /// A batch that is held with nothing left to compare it with does not keep another from showing what is at fault.
    fn has_room(&self) -> bool {
        let witnesses = if self.one_at_a_time { 0 } else { self.connection.seeking().min(MAX_WITNESSES) };
        self.opened && self.tasks.len() < self.concurrency.limit() + witnesses
    }

    fn take(&mut self, records: Result<Vec<Arc<Record>>, FeedError>) {
        self.read_again = None;
        match records {
            Ok(records) => {
                let now = Instant::now();
                let end = records.last().map(|record| record.first_seq + record.lines.len() as u64);
                records.into_iter().for_each(|record| self.batcher.push(record, now));
                if end.is_some_and(|end| end >= self.covered.0) {
                    self.pass_covered();
                }
            }
            Err(FeedError::Closed) => self.closed = true,
            Err(FeedError::Unreadable(answer)) => {
                self.connection.say(&format!("cannot read the journal: {answer}"), ComponentState::Held);
                self.read_again = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// Moves the cursor behind what the sink's memory covers, once that was read: perhaps no other event comes that would
    /// move it.
    fn pass_covered(&mut self) {
        let (to, _) = self.covered;
        if self.feed.position() < to {
            let (feed, skipped) = (&mut self.feed, &self.skipped);
            self.connection.metrics.update(|counts| feed.settle(to, &totals_at(counts, skipped, to), None));
            self.look();
        }
    }

    /// Whether another batch may be written although the oldest has not ended: what is behind it is sent again after a
    /// kill, so that there is a bound on it.
    fn is_near(&self) -> bool {
        let most = (self.concurrency.limit() * policy::AHEAD).max(self.connection.seeking().min(MAX_WITNESSES) + 1);
        let (events, bytes) = self.unsettled.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let batch = &self.connection.policy.batch;
        self.unsettled.is_empty()
            || self.unsettled.len() < most
                && events < batch.events.get() * most
                && bytes < batch.bytes.to_usize() * most
    }

    fn start_writes(&mut self) {
        while !self.stopping && self.has_room() && self.is_near() {
            let now = Instant::now();
            if self.rate.not_before(now).is_some() {
                return;
            }
            let at_once = self.closed || self.out.is_empty() && self.feed.is_eager();
            let memory = self.memory.take(self.batcher.next_bytes(), self.out.is_empty());
            self.lacks_memory = memory.is_none();
            let Some(memory) = memory else { return };
            let Some(pending) = self.batcher.next(now, at_once) else { return };
            self.rate.spend(pending.batch.len(), now);
            self.had_their_turn = false;
            self.start(pending, memory);
        }
    }

    fn start(&mut self, pending: Pending, memory: DeliveryPermit) {
        let ticket = self.watermark.start();
        self.out.insert(ticket, OnItsWay { received_at: pending.received_at, _memory: memory });
        self.unsettled.push_back((pending.batch.len(), pending.batch.bytes()));
        let connection = self.connection.clone();
        self.tasks
            .spawn(async move { Done::Delivered(ticket, deliver::deliver(connection, InFlight::new(pending)).await) });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Opened { one_at_a_time } => {
                self.opened = true;
                self.one_at_a_time = one_at_a_time;
                if one_at_a_time {
                    self.concurrency.narrow();
                }
            }
            Done::Delivered(ticket, Some(ended)) => {
                self.out.remove(&ticket);
                self.concurrency.learn(ended.took, ended.pushed_back);
                self.watermark.end(ticket, ended);
                self.settle(Again::default());
            }
            // The sink stops; the pending waits in the journal.
            Done::Delivered(ticket, None) => drop(self.out.remove(&ticket)),
            Done::Replayed(answer, reply) => {
                if let Ok(written) = answer {
                    let (bytes, duplicates) = (written.bytes, written.duplicates);
                    let discarded = written.discarded.min(1);
                    let (delivered, conflicts) = (1 - discarded, written.conflicts.min(discarded));
                    self.settle(Again { delivered, discarded, conflicts, bytes, duplicates, ..Again::default() });
                }
                #[expect(
                    clippy::let_underscore_must_use,
                    reason = "who asked may have gone; the dead letter is still there then, and may be replayed again"
                )]
                let _ = reply.send(answer.map(|_| ()));
            }
            Done::Unparked(unparked, reply) => self.unparked(unparked, reply),
        }
    }

    /// Moves the cursor over everything that has ended without a hole, and the accounting with it.
    fn settle(&mut self, again: Again) {
        let ended: Vec<Outcome> = std::iter::from_fn(|| self.watermark.pop()).collect();
        self.unsettled.drain(..ended.len());
        let seen = self.feed.take_gaps();
        self.skipped.extend_from_slice(&seen);
        let oldest = self.oldest();
        let memory = match ended.last() {
            Some(last) => last.memory.clone(),
            None if again.is_any() => self.connection.lock().memory.as_ref().map(|(_, memory)| memory.clone()),
            None => None,
        };
        let covered = self.covered;
        let (feed, skipped, ends_saved) = (&mut self.feed, &mut self.skipped, &mut self.ends_saved);
        let seq_end = ended.last().map_or(feed.position(), |last| last.seq_end);
        self.connection.metrics.update(|counts| {
            again.enter(counts);
            ended.iter().for_each(|pending| pending.enter(counts));
            seen.iter().for_each(|gap| add(&mut counts.dropped, gap.cause, gap.events));
            // Somebody else may have dropped parked ones.
            let parked_ended = counts.parked_ends != std::mem::replace(ends_saved, counts.parked_ends);
            if !ended.is_empty() || again.is_any() || parked_ended {
                let totals = totals_at(counts, skipped, seq_end);
                let written = |memory: bytes::Bytes| match covered.0 > seq_end {
                    // A memory that is ahead of the cursor stays there.
                    true => Saved::write(covered.0, &totals_at(counts, skipped, covered.0), self.tag, &memory),
                    false => Saved::write(seq_end, &totals, self.tag, &memory),
                };
                feed.settle(seq_end, &totals, memory.map(written));
            }
            // Once nothing is on its way any more, the cursor is behind what was dropped.
            let position = feed.position();
            if skipped.extract_if(.., |gap| gap.seq_end <= position).count() > 0 {
                feed.settle(position, &totals_at(counts, skipped, position), None);
            }
            counts.skipped = skipped.iter().map(|gap| gap.events).sum();
            counts.lag_events = saved::waiting(feed, covered).saturating_sub(counts.skipped);
            counts.waiting = counts.lag_events + counts.parked;
            counts.lag_seconds = oldest.filter(|_| counts.lag_events > 0).map_or(0.0, seconds_since);
        });
        if ended.iter().any(|pending| !pending.parked.is_empty()) {
            self.connection.set_aside(ended.iter().flat_map(|pending| &pending.parked));
        }
    }

    /// Looks over the accounting while nothing ends.
    fn look(&mut self) {
        self.settle(Again::default());
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.out.first_key_value().map(|(_, one)| one.received_at).or_else(|| self.batcher.oldest())
    }

    /// Begins again behind the last event that has ended.
    async fn restart(&mut self, error: &str) {
        self.connection.say(&format!("delivery is begun again after a bug: {error}"), ComponentState::Retrying);
        self.tasks.shutdown().await;
        (self.watermark, self.out, self.unparking) = (Watermark::default(), BTreeMap::new(), false);
        self.unsettled.clear();
        self.feed.rewind();
        let position = self.feed.position().max(self.covered.0);
        let connection = &self.connection;
        self.batcher = batcher(&connection.policy, &self.filter, &*connection.config, &self.memory, position);
        self.connection.forget_sink();
        self.opened = false;
        self.read_again = Some(Instant::now() + AGAIN);
        // What was parked on the way is parked again.
        if !self.take_up(position, position).await {
            return;
        }
        self.tasks.spawn(open(self.connection.clone()));
    }
}

/// Opens the sink, however long it takes.
async fn open(connection: Arc<SinkConnection>) -> Done {
    let one_at_a_time = deliver::open(&connection).await.is_some_and(|sink| sink.memory().is_some());
    Done::Opened { one_at_a_time }
}

impl Outcome {
    /// Enters what a pending came to into the accounting.
    fn enter(&self, counts: &mut Counts) {
        counts.delivered += self.delivered;
        counts.dead_lettered += self.dead_lettered;
        counts.parked += self.parked.values().map(|(events, _)| events).sum::<u64>();
        counts.duplicates += self.duplicates;
        counts.bytes_delivered += self.bytes;
        add(&mut counts.filtered, "where", self.filtered);
        add(&mut counts.dropped, "poison", self.dropped);
        add_discarded(counts, self.discarded, self.conflicts);
        add(&mut counts.dropped, "buffer", self.expired);
        counts.last_event = counts.last_event.max(Some(self.received_at));
    }
}

/// The totals to be saved with a position: what was dropped behind it is found missing again after a restart.
fn totals_at(counts: &Counts, skipped: &[Skipped], position: u64) -> Vec<u8> {
    let mut counts = counts.clone();
    for gap in skipped.iter().filter(|gap| gap.seq_end > position) {
        if let Some(dropped) = counts.dropped.get_mut(gap.cause) {
            *dropped = dropped.saturating_sub(gap.events);
        }
    }
    totals::encode(&counts, position)
}

/// Counts what targets took and did not keep, and how much of that for its id.
fn add_discarded(counts: &mut Counts, discarded: u64, conflicts: u64) {
    add(&mut counts.dropped, "target", discarded - conflicts);
    add(&mut counts.dropped, ID_CONFLICT, conflicts);
}

/// A word that never occurred has no line on the metrics page.
fn add(words: &mut BTreeMap<&'static str, u64>, word: &'static str, count: u64) {
    if count > 0 {
        *words.entry(word).or_default() += count;
    }
}

fn seconds_since(received_at: Timestamp) -> f64 {
    (Timestamp::now().0 - received_at.0).max(0) as f64 / 1e6
}
