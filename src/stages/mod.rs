//! The loop of stages: reads a cursor, steps, and commits output, state and position as one.
//!
//! Invariants:
//! - The position up to which events were taken stands in the same commit as what was made of them. After a crash the
//!   cursor may stand before it; what lies between is passed over.
//! - The state in memory changes only after its commit. A commit that fails is tried again as it is.
//! - A commit says its number, what it changed and how many entries there are. Where a damaged record held one of them,
//!   no entry that it may have changed comes back as it was before; what is missing is counted.
//! - What waits for the stage has room kept for it in the journal, so that a full journal can always drain.

#[cfg(test)]
mod damage;
mod memory;
mod step;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::component::{AnyStage, Bounds, Changes, State, StateTag, Why};
use crate::event::{Batch, Lines};
use crate::journal::dead_letters::{DeadLetters, NewDeadLetter};
use crate::journal::marks::{Changed, ENTRY, MARK, Mark};
use crate::journal::{
    AppendError, Commit, Cursor, Journal, Position, ReadError, Record, STAGE_INPUT, Start, StreamId, state_source,
};
use crate::telemetry::{ComponentKind, ComponentMetrics, ComponentState};
use crate::units::Timestamp;
pub use memory::{StateMemory, StatePart};
use step::Step;

/// Bytes of lines that one step takes, unless one event is larger.
const STEP_BYTES: usize = 256 * 1024;
/// Entries that one step hands back to the stage.
const STEP_ENTRIES: usize = 500;
/// What is committed together was received within this time of each other.
const STEP_AGE: Duration = Duration::from_secs(1);
/// How long it waits before it tries again what failed.
const RETRY: Duration = Duration::from_millis(200);
/// The longest sleep until an entry is due, so that a clock that is set does no lasting harm.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// In memory mode it waits while the records kept there take this many times what intake may take.
const TIER_SHARE: usize = 2;

/// The stream that a stage reads, and the name of its cursor and state.
pub fn input_name(stage: &str) -> String {
    format!("{stage}{STAGE_INPUT}")
}

/// What follows a stage. The wiring provides it, and may exchange it at any time.
pub trait Downstream: Send + Sync {
    /// Runs events, by the ports they left, through all that follows.
    fn run(&self, emitted: Vec<(usize, Batch)>) -> Followed;

    /// Text of an event as it may be kept in the dead-letter queue.
    fn redacted(&self, text: &[u8]) -> Vec<u8>;
}

/// What came of the events behind a stage.
pub struct Followed {
    pub entries: Vec<(StreamId, Lines)>,
    pub dead: Vec<NewDeadLetter>,
    /// Counts what the transforms behind have done, once it is committed.
    pub count: Box<dyn FnOnce() + Send>,
}

/// The place of what follows a stage.
pub struct Outlet(RwLock<Arc<dyn Downstream>>);

impl Outlet {
    pub fn new(downstream: Arc<dyn Downstream>) -> Outlet {
        Outlet(RwLock::new(downstream))
    }

    /// Steps from now on go through this.
    pub fn exchange(&self, downstream: Arc<dyn Downstream>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = downstream;
    }

    fn get(&self) -> Arc<dyn Downstream> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a stage is stopped.
#[derive(Clone, Default)]
pub struct StageStop {
    /// It takes nothing more.
    pub stop: CancellationToken,
    /// Before it ends it takes what waits and emits what it holds.
    pub release: CancellationToken,
}

/// A stage while it runs.
pub struct StageLoop {
    pub name: Arc<str>,
    pub stage: Arc<dyn AnyStage>,
    pub bounds: Bounds,
    pub memory: StatePart,
    pub journal: Journal,
    pub cursor: Cursor,
    pub outlet: Arc<Outlet>,
    pub metrics: Arc<ComponentMetrics>,
    pub dead_letters: DeadLetters,
    pub stop: StageStop,
    /// Entries over the bound were evicted, and this was logged.
    pub evicting: bool,
}

/// A stage's state and position as the journal has them.
pub struct Restored {
    pub state: State,
    /// Entries that a stage of another type left under this name.
    pub others: usize,
    /// The mark of the last commit.
    pub mark: Mark,
}

impl Restored {
    /// Entries that damage has taken: all of them, and those that are not spare.
    pub fn lost(&self) -> (u64, u64) {
        let missing = |were: u64, are: usize| were.saturating_sub(are as u64);
        match self.others {
            // Whoever reads the other ones counts.
            1.. => (0, 0),
            0 => (missing(self.mark.entries, self.state.len()), missing(self.mark.not_spare, self.state.not_spare())),
        }
    }

    /// Whether damage has taken something of the state.
    pub fn is_damaged(&self) -> bool {
        self.mark.is_cut || self.lost().0 > 0
    }
}

/// Reads what the last commits left: of a stage of this type, or of whichever there was.
pub fn restore(journal: &Journal, stage: &str, type_name: Option<&str>) -> Restored {
    let mut mark = Mark::default();
    let entries = journal.state_of(&input_name(stage)).into_iter().filter_map(|(key, value)| match key.first() {
        Some(&ENTRY) => Some((key.slice(1..), value)),
        _ => {
            mark = Mark::decode(&value).unwrap_or_default();
            None
        }
    });
    let (state, others) = State::restore(entries, type_name.map(StateTag::of));
    Restored { state, others, mark }
}

/// Whether a stage of this type has left state under this name.
pub fn has_state(journal: &Journal, name: &str, type_name: &str) -> bool {
    !restore(journal, name, Some(type_name)).state.is_empty()
}

/// Has a stage take a record outside of any journal: what it emits by port, and why what it failed on is dead.
pub fn take_once(
    stage: &dyn AnyStage,
    name: &Arc<str>,
    state: &mut State,
    record: Record,
    now: Timestamp,
) -> (Vec<(usize, Batch)>, Vec<String>) {
    let step = step::take(stage, name, state, &[Arc::new(record)], 0, now);
    state.apply(step.changes);
    (step.emitted, step.dead.into_iter().map(|(_, dead)| dead.reason).collect())
}

/// Brings the cursor of a stage that does not run to where its last commit was. A crash may have left it up to a second
/// behind.
pub fn catch_up(journal: &Journal, stage: &str) -> Result<(), String> {
    let taken = restore(journal, stage, None).mark.taken;
    // A cursor that nobody has opened yet is known by the names of its streams only.
    journal.wire_cursor(&input_name(stage), &[], Start::Oldest).map_err(|error| error.to_string())?;
    let mut cursor = journal.open_cursor(&input_name(stage), None).map_err(|error| error.to_string())?;
    while cursor.position() < taken {
        let records = cursor.try_next(STEP_BYTES).map_err(|error| error.to_string())?;
        let Some(last) = records.last() else { break };
        cursor.settle(last.end_seq().min(taken), &cursor.totals(), None);
    }
    Ok(())
}

/// Events that a stage holds and that reports show already.
pub fn open(journal: &Journal, name: &str, stage: &dyn AnyStage) -> Vec<Bytes> {
    let state = restore(journal, name, Some(stage.type_name())).state;
    state.oldest(usize::MAX).iter().flat_map(|(_, value)| stage.open(value)).collect()
}

/// Events that the state of a stage holds; without the stage each entry that is not spare counts as one.
pub fn held(journal: &Journal, name: &str, stage: Option<&dyn AnyStage>) -> u64 {
    let state = restore(journal, name, stage.map(|stage| stage.type_name())).state;
    match stage {
        Some(stage) => state.oldest(usize::MAX).iter().map(|(_, value)| stage.held(value)).sum(),
        None => state.not_spare() as u64,
    }
}

/// Why the loop ends.
enum End {
    Stopped,
    Closed,
}

impl StageLoop {
    /// Runs until it is stopped or the journal closes.
    pub async fn run(mut self) {
        self.cursor.appends();
        let type_name = self.stage.type_name();
        let restored = restore(&self.journal, &self.name, Some(type_name));
        if restored.others > 0 {
            return self.hold(restored.others);
        }
        let is_damaged = restored.is_damaged();
        if is_damaged {
            self.report_damage(&restored);
        }
        let Restored { state, mark, .. } = restored;
        let mut position = Progress { state, mark };
        self.metrics.enter(ComponentState::Running);
        self.memory.set(position.state.bytes());
        self.show(&position);
        if is_damaged && self.commit(&mut position, Step::default(), None, Timestamp::now()).await.is_some() {
            self.metrics.enter(ComponentState::Stopped);
            return;
        }
        let end = loop {
            if let Some(end) = self.turn(&mut position).await {
                break end;
            }
        };
        if let End::Stopped = end
            && self.stop.release.is_cancelled()
        {
            self.release(&mut position).await;
        }
        self.metrics.enter(ComponentState::Stopped);
    }

    /// It must not begin: a stage of another type had its name and has not given what it holds.
    fn hold(&self, others: usize) {
        let message = format!(
            "a transform of another type has left {others} entries of state under this name: give it its earlier type \
             with `on_remove: drain` or `on_remove: drop` and reload, or give the new one a name of its own"
        );
        tracing::error!(transform = %self.name, "{message}");
        self.metrics.error(message);
        self.metrics.enter(ComponentState::Held);
    }

    /// Logs what damage has taken of the state. The next commit records how many entries there are now, so that
    /// it is logged once.
    fn report_damage(&self, restored: &Restored) {
        let (lost, not_spare) = restored.lost();
        tracing::error!(
            transform = %self.name, lost, left = restored.state.len(),
            "the journal was damaged where it holds the state of this transform: entries that it had in the damaged \
             place are lost, and it goes on with those that are whole"
        );
        self.metrics.update(|counts| *counts.dropped.entry("damage").or_default() += not_spare);
    }

    /// One turn: what has to go, what is due, or what has come.
    async fn turn(&mut self, position: &mut Progress) -> Option<End> {
        if self.stop.stop.is_cancelled() {
            return Some(End::Stopped);
        }
        if self.is_over(position) {
            return self.evict(position).await;
        }
        let now = Timestamp::now();
        let due = position.state.due_by(now, STEP_ENTRIES);
        if !due.is_empty() {
            let step = step::expire(&*self.stage, &position.state, &due, Why::Due, now);
            return self.commit(position, step, None, now).await;
        }
        let sleep = position
            .state
            .next_due()
            .map_or(LONGEST_SLEEP, |due| Duration::from_micros((due.0 - now.0).max(0) as u64).min(LONGEST_SLEEP));
        let stop = self.stop.stop.clone();
        let records = tokio::select! {
            biased;
            () = stop.cancelled() => return Some(End::Stopped),
            () = tokio::time::sleep(sleep) => return None,
            records = self.cursor.next(STEP_BYTES) => records,
        };
        match records {
            Ok(records) => self.take(position, &records).await,
            Err(ReadError::Closed) => Some(End::Closed),
            Err(ReadError::Io(error)) => {
                self.trouble(&format!("cannot read the journal: {error}"));
                self.cursor.rewind_to_settled();
                tokio::time::sleep(RETRY).await;
                None
            }
        }
    }

    /// Steps over records; those that were received together are committed together.
    async fn take(&mut self, position: &mut Progress, records: &[Arc<Record>]) -> Option<End> {
        self.count_gaps();
        let mut rest = records;
        while let Some(first) = rest.first() {
            let until = first.received_at.plus(STEP_AGE);
            let together = rest.iter().take_while(|record| record.received_at <= until).count().max(1);
            let (now_taken, later) = rest.split_at(together);
            rest = later;
            let seq_end = now_taken.last().map_or(position.mark.taken, |last| last.end_seq());
            if seq_end <= position.mark.taken {
                self.cursor.settle(seq_end, &position.mark.as_totals(), None);
                continue;
            }
            let step =
                step::take(&*self.stage, &self.name, &position.state, now_taken, position.mark.taken, Timestamp::now());
            let end = self.commit(position, step, Some(seq_end), first.received_at).await;
            if end.is_some() {
                return end;
            }
        }
        None
    }

    /// Whether the state is over its own bound, or over its part of the memory that all states share.
    fn is_over(&self, position: &Progress) -> bool {
        position.state.exceeds(self.bounds) || self.memory.is_over()
    }

    async fn evict(&mut self, position: &mut Progress) -> Option<End> {
        let entries = position.state.oldest(STEP_ENTRIES.min(position.state.len() / 10 + 1));
        if !std::mem::replace(&mut self.evicting, true) {
            tracing::warn!(
                transform = %self.name, entries = position.state.len(), bytes = position.state.bytes(),
                "the state is over its bound; its oldest entries go"
            );
        }
        let now = Timestamp::now();
        let mut step = step::expire(&*self.stage, &position.state, &entries, Why::Evicted, now);
        step.counts.evicted = entries.len() as u64;
        self.commit(position, step, None, now).await
    }

    /// Takes what waits by now and emits all that it holds.
    async fn release(&mut self, position: &mut Progress) {
        let newest = self.journal.stats().synced_seq;
        while self.cursor.position() < newest {
            match self.cursor.try_next(STEP_BYTES) {
                Ok(records) if records.is_empty() => break,
                Ok(records) => {
                    if self.take(position, &records).await.is_some() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(transform = %self.name, %error, "what waits for a stage that ends cannot be read");
                    break;
                }
            }
        }
        while !position.state.is_empty() {
            let entries = position.state.oldest(STEP_ENTRIES);
            let now = Timestamp::now();
            let step = step::expire(&*self.stage, &position.state, &entries, Why::Released, now);
            if self.commit(position, step, None, now).await.is_some() {
                return;
            }
        }
    }

    /// Commits a step, however often it takes, and makes it count.
    async fn commit(
        &mut self,
        position: &mut Progress,
        step: Step,
        seq_end: Option<u64>,
        received_at: Timestamp,
    ) -> Option<End> {
        let Step { changes, emitted, dead, counts, panics } = step;
        for panic in panics {
            tracing::error!(transform = %self.name, panic, "a bug in weir: an entry of the state was given up");
        }
        let downstream = self.outlet.get();
        let mut dead_letters: Vec<NewDeadLetter> =
            dead.into_iter().map(|(seed, dead)| self.dead_letter(&*downstream, seed, dead, received_at)).collect();
        let Followed { entries, dead, count } = downstream.run(emitted);
        dead_letters.extend(dead);
        if !dead_letters.is_empty() && self.keep(dead_letters).await.is_some() {
            return Some(End::Stopped);
        }
        let mark = position.next_mark(&changes, seq_end);
        let positions = positions(&self.name, StateTag::of(self.stage.type_name()), &changes, &mark);
        loop {
            if self.wait_for_memory().await.is_some() {
                return Some(End::Stopped);
            }
            let (entries, positions) = (entries.clone(), positions.clone());
            let commit = Commit { entries, positions, received_at, ..Commit::default() };
            match self.journal.ticket().commit(commit).await {
                Ok(_) => break,
                Err(AppendError::Closed) => return Some(End::Closed),
                Err(error) => self.trouble(&error.to_string()),
            }
            if self.pause().await.is_some() {
                return Some(End::Stopped);
            }
        }
        self.cursor.set_stalled(false);
        position.state.apply(changes);
        self.memory.set(position.state.bytes());
        if !self.is_over(position) {
            self.evicting = false;
        }
        count();
        self.metrics.update(|total| total.add(&counts));
        self.metrics.enter(ComponentState::Running);
        position.mark = mark;
        self.cursor.settle(position.mark.taken, &position.mark.as_totals(), None);
        self.show(position);
        None
    }

    /// Keeps dead letters, synced, before the rest is committed: they may come twice, but never not at all.
    async fn keep(&self, dead_letters: Vec<NewDeadLetter>) -> Option<End> {
        loop {
            match self.dead_letters.append(dead_letters.clone()).await {
                Ok(()) => return None,
                Err(error) => self.trouble(&error.to_string()),
            }
            if let Some(end) = self.pause().await {
                return Some(end);
            }
        }
    }

    /// In memory mode what it appends takes no permit: it waits until the sinks have taken enough of it.
    async fn wait_for_memory(&self) -> Option<End> {
        while self.journal.is_over_memory(TIER_SHARE) {
            if let Some(end) = self.pause().await {
                return Some(end);
            }
        }
        None
    }

    async fn pause(&self) -> Option<End> {
        tokio::select! {
            () = tokio::time::sleep(RETRY) => None,
            () = self.stop.stop.cancelled(), if !self.stop.release.is_cancelled() => Some(End::Stopped),
        }
    }

    fn trouble(&self, message: &str) {
        self.cursor.set_stalled(true);
        if self.metrics.enter(ComponentState::Retrying) {
            tracing::warn!(transform = %self.name, error = message, "what a transform made cannot be kept; it is tried again");
        }
        self.metrics.error(message);
        self.metrics.update(|counts| *counts.errors.entry("journal").or_default() += 1);
    }

    fn count_gaps(&mut self) {
        for gap in self.cursor.take_gaps() {
            let cause = gap.cause.word();
            tracing::warn!(transform = %self.name, events = gap.events, cause, "events are missing");
            self.metrics.update(|counts| *counts.dropped.entry(cause).or_default() += gap.events);
        }
    }

    fn show(&self, position: &Progress) {
        let state = (position.state.len() as u64, position.state.bytes() as u64);
        self.metrics.update(|counts| counts.state = Some(state));
    }

    fn dead_letter(
        &self,
        downstream: &dyn Downstream,
        seed: crate::event::Seed,
        dead: crate::component::DeadEvent,
        received_at: Timestamp,
    ) -> NewDeadLetter {
        NewDeadLetter {
            component: self.name.to_string(),
            kind: ComponentKind::Transform,
            body: downstream.redacted(&dead.line).into(),
            event_id: None,
            seed,
            ordinal: dead.ordinal,
            seq: None,
            received_at,
            stamp: None,
            reason: dead.reason,
            answer: String::new(),
            attempts: 1,
            origin: None,
            parked: None,
        }
    }
}

/// Changes of the state, and what their commit says of itself, as the journal keeps them.
fn positions(stage: &str, tag: StateTag, changes: &Changes, mark: &Mark) -> Vec<Position> {
    let source: Arc<str> = state_source(&input_name(stage)).into();
    let entry = |(key, value): (Bytes, Bytes)| Position { source: source.clone(), key: entry_key(&key).into(), value };
    let mut positions: Vec<Position> = changes.stored(tag).map(entry).collect();
    positions.push(Position { source: source.clone(), key: Bytes::from_static(MARK), value: mark.encode() });
    positions
}

/// The key of an entry among the positions.
fn entry_key(key: &[u8]) -> Vec<u8> {
    [&[ENTRY], key].concat()
}

/// How far a stage has come.
struct Progress {
    state: State,
    /// The mark of the last commit.
    mark: Mark,
}

impl Progress {
    /// The mark of a commit with these changes.
    fn next_mark(&self, changes: &Changes, seq_end: Option<u64>) -> Mark {
        let (entries, not_spare) = self.state.counts_with(changes);
        let keys: Vec<Vec<u8>> = changes.keys().map(|key| entry_key(key)).collect();
        Mark {
            taken: seq_end.unwrap_or(self.mark.taken),
            number: self.mark.number + 1,
            entries,
            not_spare,
            // Behind missing commits nothing that was stated before counts.
            begins: self.mark.is_cut,
            is_cut: false,
            changed: Changed::of(keys.iter().map(|key| &key[..])),
            changed_before: self.mark.changed.clone(),
        }
    }
}
