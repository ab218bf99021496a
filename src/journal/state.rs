//! The journal's state in memory behind one short lock: streams, segments, memory tier, cursors, positions.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use tokio::sync::{Notify, oneshot};

use super::appender::SyncQueue;
use super::condition::Shortages;
use super::fs::Fs;
use super::housekeeping::CursorFiles;
use super::keys::Keys;
use super::memory::MemoryBudget;
use super::packing::{Packing, Standing};
use super::positions::Positions;
use super::segment::Segment;
use super::streams::Heads;
use super::tier::Tier;
use super::unpacked::Unpacked;
use super::watermark::CursorState;
use super::writer::{Queue, Receipt};
use super::{Mode, Options, StreamId};
use crate::telemetry::Histogram;

/// What all handles and threads of one journal have in common.
pub struct Shared {
    pub options: Options,
    pub fs: Arc<dyn Fs>,
    pub state: Mutex<State>,
    pub intake: MemoryBudget,
    pub packing: Packing,
    /// What cursors that lag have read from the disk.
    pub unpacked: Unpacked,
    pub keys: Keys,
    pub queue: Mutex<Queue>,
    /// In memory mode, whoever has it appends what is due.
    pub turn: Mutex<()>,
    /// A commit is due, or a sync has ended.
    pub due: Condvar,
    /// Housekeeping sleeps here.
    pub housekeeping: Condvar,
    pub syncs: Mutex<SyncQueue>,
    /// A sync has ended, or one is due.
    pub sync_turn: Condvar,
    /// Events were synced, a cursor moved, or the journal closes.
    pub changed: Notify,
    /// Somebody waits for delivery.
    pub eager: Notify,
    pub waiting_for_delivery: AtomicUsize,
    pub closing: AtomicBool,
    pub files: Mutex<BTreeMap<Arc<str>, CursorFiles>>,
    /// Bytes that can still be appended before the journal is full.
    pub capacity: AtomicU64,
    /// Events lost to damage and counted while running.
    pub damaged: AtomicU64,
    /// The last write or sync, if it has failed, and whether for lack of space.
    pub fault: Mutex<Option<(String, bool)>>,
    /// Why nothing is taken for a reason outside of the journal.
    pub shut_out: Mutex<Option<String>>,
    pub is_shut_out: AtomicBool,
    /// What finds no space.
    pub shortage: Shortages,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the state is held")
    }

    pub fn on_disk(&self) -> bool {
        self.options.mode == Mode::Disk
    }

    pub fn standing(&self) -> Standing {
        let capacity = self.capacity.load(Ordering::Acquire);
        Standing { lag: self.state().greatest_lag(), capacity, limit: self.options.max_bytes }
    }
}

pub struct State {
    pub next_seq: u64,
    pub synced_seq: u64,
    pub heads: Heads,
    /// The heads without what waits for its sync.
    pub synced: Heads,
    pub segments: VecDeque<Segment>,
    /// Index of a segment whose sync or write failed: nothing more goes there.
    pub broken: Option<u64>,
    pub tier: Tier,
    pub positions: Positions,
    /// Keys of commits whose sync is still due.
    pub pending_keys: HashSet<[u8; 16]>,
    pub cursors: BTreeMap<Arc<str>, CursorState>,
    /// Cursors that were removed in this life.
    pub removed: BTreeMap<Arc<str>, Removed>,
    pub deliveries: Vec<Delivery>,
    pub sync_times: Histogram,
}

/// A removed cursor. Its files stay until the journal says on the disk that it is gone: whatever a crash finds, it is either
/// there as it was, or not at all.
pub struct Removed {
    /// What its files may say, so that a new cursor of the name is newer.
    pub generation: u64,
    pub stage: Removal,
}

pub enum Removal {
    /// The note in the journal is on its way.
    Noted(Receipt),
    /// It is on the disk: the files may go.
    Synced,
    /// Nothing is left.
    Done,
}

/// Who waits until cursors passed an event.
pub struct Delivery {
    /// The `seq` that a cursor over each of these streams has to reach.
    pub targets: Vec<(StreamId, u64)>,
    pub done: oneshot::Sender<()>,
}

/// A few numbers about a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of segments that hold something, or bytes in memory.
    pub bytes: u64,
    pub limit: u64,
    /// Bytes that can still be appended.
    pub capacity: u64,
    /// The `seq` that the next event gets.
    pub head_seq: u64,
    /// Every event before this is synced.
    pub synced_seq: u64,
    pub oldest_seq: u64,
    pub segments: usize,
    pub tier_bytes: usize,
    pub intake_bytes: usize,
    /// Records that turned out to be damaged while they were read.
    pub damaged: u64,
}

impl State {
    /// The first `seq` that every durable cursor still needs; what lies before may go.
    pub fn held_from(&self) -> u64 {
        self.cursors.values().map(CursorState::holds_from).min().unwrap_or(self.synced_seq)
    }

    /// Bytes of lines that wait for the slowest cursor.
    pub fn greatest_lag(&self) -> u64 {
        self.cursors.values().map(|cursor| cursor.waiting(&self.synced).bytes).max().unwrap_or(0)
    }

    /// Whether a consumer that reads from memory would soon have to read from the disk if more came now.
    pub fn outpaces(&self, ahead: u64) -> bool {
        let start = self.tier.start();
        let reads_memory = |cursor: &&CursorState| cursor.open && cursor.read.seq >= start;
        let passed = self.cursors.values().filter(reads_memory).map(|cursor| cursor.read.seq).min();
        passed.is_some_and(|passed| !self.tier.has_room(usize::try_from(ahead).unwrap_or(usize::MAX), passed))
    }

    /// Lets records that are on the disk go from memory where there is no room beside those that were read from it.
    pub fn trim_tier(&mut self, unpacked: &Unpacked) {
        self.tier.lend(unpacked.bytes());
        self.tier.trim(self.synced_seq);
    }

    /// The first event that can still be read.
    pub fn oldest_seq(&self) -> u64 {
        let in_memory = self.tier.start();
        self.segments.front().map_or(in_memory, |oldest| oldest.first_seq.min(in_memory))
    }

    /// Tells those who waited for delivery that it is done, and in memory mode lets go what all have passed.
    pub fn after_settling(&mut self, memory: bool) -> usize {
        let before = self.deliveries.len();
        let cursors = &self.cursors;
        let mut waiting = Vec::new();
        for delivery in self.deliveries.drain(..) {
            if delivery.done.is_closed() {
                continue;
            }
            if cursors.values().all(|cursor| cursor.has_passed(&delivery.targets)) {
                // Who asked may have gone in this moment.
                let _ = delivery.done.send(());
            } else {
                waiting.push(delivery);
            }
        }
        self.deliveries = waiting;
        if memory {
            let held_from = self.held_from();
            self.tier.release_permits(held_from);
            self.tier.trim(held_from);
        }
        before - self.deliveries.len()
    }
}
