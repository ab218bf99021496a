//! The append queue and the threads that drive the appender for it.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::appender::Appender;
use super::gather::{Answer, Pending, Reply};
use super::keys::KeyMatch;
use super::memory::Full;
use super::state::Shared;
use super::{Commit, StreamId, housekeeping};
use crate::units::Timestamp;

/// While a sync runs, commits gather up to this many bytes before the next write.
const GATHER_BYTES: usize = 256 * 1024;
/// The most bytes of commits in one group, unless one commit is larger. A group and its frame fit in one huge page, and each costs
/// a write and a sync.
pub const GROUP_BYTES: usize = 1900 * 1024;
/// A journal with less room than this is full, unless it is small itself.
const LEAST_SPACE: u64 = 64 * 1024;
/// Room that is kept for what a stage has to append, as a multiple of the bytes that wait for it: its output, and the
/// state that it keeps with it.
const STAGE_SPACE: u64 = 2;
/// While many senders wait for a sync each, writes begin this far apart, so that one sync is for all of them: otherwise a
/// faster disk would only mean more syncs of fewer events. Who sends alone is never kept waiting.
const GATHER_TIME: Duration = Duration::from_millis(1);
/// How often housekeeping looks whether a cursor has moved.
const HOUSEKEEPING: Duration = Duration::from_millis(400);
/// How long records stay in memory that all cursors have passed, for clients that connect again.
const PASSED_STAYS: Duration = Duration::from_secs(5);

/// Why something was not appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// No room in the journal, on the disk or in memory: later.
    Full,
    /// More than this journal can ever hold in one commit.
    TooLarge,
    /// The disk failed; nothing is promised about the commit.
    Sync(String),
    Closed,
    /// The key was used before; nothing was appended.
    KnownKey(KeyMatch),
    /// A commit with the same key waits for its sync.
    KeyInFlight,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Full => f.write_str("the journal is full"),
            AppendError::TooLarge => f.write_str("a commit is larger than the journal can hold"),
            AppendError::Sync(reason) => write!(f, "the journal could not be written: {reason}"),
            AppendError::Closed => f.write_str("the journal is closed"),
            AppendError::KnownKey(_) => f.write_str("the idempotency key is known"),
            AppendError::KeyInFlight => f.write_str("the idempotency key is in use by a request in flight"),
        }
    }
}

impl std::error::Error for AppendError {}

/// Tickets in the order they were taken. Permits bound how many there are.
#[derive(Default)]
pub struct Queue {
    /// Number of the first place.
    first: u64,
    places: VecDeque<Place>,
    closed: bool,
    /// While the writer lets more gather: the bytes that came since. Too few of them need not wake it.
    gathering: Option<usize>,
}

pub enum Place {
    Open,
    Due(Pending),
    Released,
}

impl Queue {
    pub fn take_place(&mut self) -> u64 {
        self.places.push_back(Place::Open);
        self.first + self.places.len() as u64 - 1
    }

    fn put(&mut self, number: u64, place: Place) {
        self.places[(number - self.first) as usize] = place;
    }

    /// Whether something can be taken, and if it is worth a write while a sync runs.
    pub fn due_bytes(&self) -> Option<usize> {
        let mut bytes = None;
        for place in &self.places {
            match place {
                Place::Open => break,
                Place::Due(commit) => *bytes.get_or_insert(0) += commit.bytes,
                Place::Released => {}
            }
            if bytes >= Some(GATHER_BYTES) {
                break;
            }
        }
        bytes
    }

    /// Takes what is due, in order, up to `max_bytes` but at least one commit if one is due.
    pub fn take_due(&mut self, max_bytes: usize) -> Vec<Pending> {
        let (mut due, mut bytes) = (Vec::new(), 0);
        loop {
            match self.places.front() {
                Some(Place::Released) => {}
                Some(Place::Due(commit)) if due.is_empty() || bytes + commit.bytes <= max_bytes => {}
                _ => return due,
            }
            self.first += 1;
            if let Some(Place::Due(commit)) = self.places.pop_front() {
                bytes += commit.bytes;
                due.push(commit);
            }
        }
    }
}

impl Queue {
    /// Takes nothing more. Who submitted what is returned hears it when that is dropped, so not while the queue is held.
    #[must_use]
    pub fn close(&mut self) -> Vec<Place> {
        self.closed = true;
        self.places.iter_mut().map(|place| std::mem::replace(place, Place::Released)).collect()
    }
}

impl Shared {
    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic while it is held")
    }

    fn put(&self, number: u64, place: Place) {
        let mut queue = self.queue();
        let bytes = if let Place::Due(commit) = &place { commit.bytes } else { 0 };
        let wakes = queue.gathering.as_mut().is_none_or(|gathered| {
            *gathered += bytes;
            *gathered >= GATHER_BYTES
        });
        if queue.closed {
            // Those who wait hear it from their dropped reply.
            queue.put(number, Place::Released);
        } else {
            queue.put(number, place);
        }
        drop(queue);
        if !self.on_disk() {
            self.append_at_once();
        } else if wakes {
            self.due.notify_one();
        }
    }
}

/// A place in the order of appends. Dropped without a commit it holds nobody up.
pub struct Ticket {
    shared: Arc<Shared>,
    number: u64,
    used: bool,
}

impl Ticket {
    pub(super) fn take(shared: &Arc<Shared>) -> Ticket {
        let number = shared.queue().take_place();
        Ticket { shared: shared.clone(), number, used: false }
    }

    /// Submits what belongs in this place. Large entries are compressed here, on the caller's thread.
    pub fn commit(self, commit: Commit) -> Receipt {
        let (reply, receipt) = Reply::receipt();
        self.submit(commit, reply);
        Receipt(receipt)
    }

    /// The same, for those who have little to do then and need no task for it: `then` is called on a thread of the
    /// journal, in memory mode on any that submits something, and must not wait.
    pub fn commit_then(self, commit: Commit, then: impl FnOnce(Answer) + Send + 'static) {
        self.submit(commit, Reply::call(then));
    }

    fn submit(mut self, commit: Commit, reply: Reply) {
        let codec = self.shared.on_disk().then(|| self.shared.packing.codec());
        let pending = Pending::new(commit, codec, reply);
        self.used = true;
        self.shared.put(self.number, Place::Due(pending));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.used {
            self.shared.put(self.number, Place::Released);
        }
    }
}

/// Resolves after the sync (in memory mode after the append), with the numbers of the first event and behind the
/// last; events of others may lie between.
pub struct Receipt(oneshot::Receiver<Answer>);

impl Future for Receipt {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}

impl Shared {
    pub fn wake_all(&self) {
        drop(self.queue());
        self.due.notify_all();
        self.housekeeping.notify_all();
        drop(self.syncs.lock().expect("no panic while it is held"));
        self.sync_turn.notify_all();
        self.changed.notify_waiters();
    }

    /// Whether the journal has no space for so many bytes, or a cursor over these streams is at its bound.
    pub fn holds_back(&self, bytes: usize, streams: &[StreamId]) -> Option<Full> {
        if self.is_shut_out.load(Ordering::Acquire) {
            return Some(Full::Journal);
        }
        if self.on_disk() {
            // What is in memory may all have to go in uncompressed. In a journal that is small beside the memory budget an
            // eighth must do.
            let due = ((self.intake.taken() + bytes) as u64).max(LEAST_SPACE).min(self.options.max_bytes / 8);
            let owed = self.state().owed_by_stages().saturating_mul(STAGE_SPACE).min(self.options.max_bytes / 4);
            if self.capacity.load(Ordering::Acquire) < due + owed {
                return Some(Full::Journal);
            }
        }
        self.state().blocks(streams, bytes as u64).then_some(Full::Buffer)
    }

    fn is_syncing(&self) -> bool {
        let syncs = self.syncs.lock().expect("no panic while it is held");
        syncs.running || !syncs.jobs.is_empty()
    }
}

pub fn write_loop(mut appender: Appender) {
    let shared = appender.shared.clone();
    let group_bytes = GROUP_BYTES.min(appender.segment_bytes as usize / 2);
    let mut next_write = Instant::now();
    loop {
        let mut queue = shared.queue();
        let mut idle = false;
        loop {
            let closing = shared.closing.load(Ordering::Acquire);
            let due = queue.due_bytes();
            let early = next_write.saturating_duration_since(Instant::now());
            // Small commits that come while a sync runs go together with the next one.
            if due.is_some_and(|bytes| bytes >= GATHER_BYTES || closing || (early.is_zero() && !shared.is_syncing())) {
                break;
            }
            if closing {
                let refused = queue.close();
                drop(queue);
                drop(refused);
                return appender.seal();
            }
            if idle {
                break;
            }
            queue.gathering = due;
            let is_early = due.is_some() && !early.is_zero();
            let pause = if is_early { early } else { HOUSEKEEPING };
            let (locked, wait) = shared.due.wait_timeout(queue, pause).expect("no panic while it is held");
            (queue, idle) = (locked, wait.timed_out() && !is_early);
            queue.gathering = None;
        }
        let due = if idle { Vec::new() } else { queue.take_due(group_bytes) };
        drop(queue);
        if due.is_empty() {
            appender.claim_synced();
        } else {
            if due.len() > 1 {
                next_write = Instant::now() + GATHER_TIME;
            }
            appender.append(due);
        }
        if appender.prepare() {
            shared.changed.notify_waiters();
        }
    }
}

pub fn sync_loop(shared: &Shared) {
    loop {
        {
            let mut syncs = shared.syncs.lock().expect("no panic while it is held");
            while syncs.jobs.is_empty() {
                if syncs.closed {
                    return;
                }
                syncs = shared.sync_turn.wait(syncs).expect("no panic while it is held");
            }
        }
        shared.sync_once();
        drop(shared.queue());
        shared.due.notify_one();
    }
}

pub fn housekeeping_loop(shared: &Arc<Shared>) {
    let mut queue = shared.queue();
    while !shared.closing.load(Ordering::Acquire) {
        drop(queue);
        housekeeping::keep_bounds(shared);
        // Tried again with the next round.
        let _ = housekeeping::save_cursors(shared);
        housekeeping::remove_dropped(shared);
        housekeeping::forget_passed(shared, Timestamp::now().minus(PASSED_STAYS));
        shared.unpacked.forget_unused();
        queue = shared.queue();
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        queue = shared.housekeeping.wait_timeout(queue, HOUSEKEEPING).expect("no panic while it is held").0;
    }
}
