//! Live clients: one task reads the live streams; equal views are filtered and rendered once and shared.
//!
//! A client is a position. It first reads what it missed from the journal by itself, then follows the shared frames;
//! one that falls behind reads the journal again, and nothing is kept for it. Reading and rendering happen off the runtime,
//! and all frames together have one budget.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::frames::{FrameBudget, FramePermit};
use super::shown::Shown;
use super::view::View;
use crate::journal::{Cause, Gap, Journal, ReadError, Reader, Record};

/// Bytes of lines read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Chunks that a client may fall behind before it gets a gap.
const MAX_BEHIND: usize = 64;
/// Clients at a time; more are turned away.
pub const MAX_CLIENTS: usize = 1000;

/// Clients of one user at a time.
pub const MAX_CLIENTS_OF_A_USER: usize = 50;
/// Clients that read the journal by themselves at the same time, and as many that read what is stored; the others wait for
/// their turn.
const MAX_CATCHING_UP: usize = 2;
/// Bytes of frames of one step while memory is scarce.
const SMALL_STEP: usize = 16 * 1024;
/// How often a read that failed is tried before the place is passed over, and how long to wait before that.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_millis(300);
/// How long a client waits that wants to read by itself while all memory for frames is in use.
const MEMORY_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of lines, for all views together, that are rendered on the runtime: another thread would take longer to wake.
const SOON_RENDERED: usize = 16 * 1024;

/// Frames of one view over one read.
#[derive(Debug)]
pub struct Chunk {
    /// The `seq` of the first event that was looked at, and the one behind the last.
    pub first_seq: u64,
    pub end_seq: u64,
    pub events: u64,
    /// Events that the journal had lost before this chunk.
    pub missed: u64,
    /// Ready to send. None if all memory for frames is in use: the client then reads the journal itself.
    pub frames: Option<Bytes>,
    _permit: Option<FramePermit>,
}

/// The one reader, and the views it serves.
pub struct Fanout {
    journal: Journal,
    /// What is shown; a reload may change it.
    shown: watch::Sender<Shown>,
    /// None once nothing comes any more.
    groups: Mutex<Option<HashMap<View, Group>>>,
    clients: Mutex<HashMap<String, usize>>,
    budget: FrameBudget,
    catching_up: Arc<Semaphore>,
    reading_stored: Arc<Semaphore>,
    shutdown: CancellationToken,
}

struct Group {
    sender: broadcast::Sender<Arc<Chunk>>,
    /// Bytes of its frames in use.
    bytes: Arc<AtomicUsize>,
}

/// Tells all clients that nothing comes any more, also when the one reader has panicked.
struct Running(Arc<Fanout>);

impl Drop for Running {
    fn drop(&mut self) {
        *lock(&self.0.groups) = None;
    }
}

/// One client's way through the stream.
pub struct Client {
    fanout: Arc<Fanout>,
    user: String,
    view: View,
    receiver: broadcast::Receiver<Arc<Chunk>>,
    catching_up: CatchUp,
    /// Everything before this was given.
    position: u64,
    /// Steps in a row that failed from there.
    failures: u32,
    /// What was returned last; a client that asks for more has sent it.
    held: Option<Held>,
}

/// Memory of frames that are on their way to a client.
enum Held {
    Shared(#[expect(dead_code, reason = "it holds the memory")] Arc<Chunk>),
    Own(#[expect(dead_code, reason = "it holds the memory")] FramePermit),
}

/// What a client still reads by itself, one step after the other, off the runtime.
enum CatchUp {
    Done,
    /// The next step begins with this reader, or with one at the client's position.
    Next(Option<Reader>),
    Step(JoinHandle<Step>),
}

struct Step {
    /// For the next step, if that goes on where this one has read to.
    reader: Option<Reader>,
    gaps: Vec<Gap>,
    found: Found,
    position: u64,
    /// Of at least one event.
    frames: Option<Bytes>,
    permit: FramePermit,
}

/// What a step has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// There may be more.
    More,
    /// Nothing is left to be read.
    End,
    /// The journal could not be read.
    Failure,
    /// Nothing was wrong with this record; what is, comes behind it.
    Nothing,
}

/// What a step does with what it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Renders up to this many bytes of frames.
    Render(usize),
    /// Passes over what could not be read, or the first record that cannot be rendered: it becomes a gap.
    Pass,
}

/// What a client gets next.
#[derive(Debug)]
pub enum Live {
    Frames(Bytes),
    /// So many events were missed (at least, where `exact` is false).
    Gap {
        events: u64,
        from_seq: u64,
        to_seq: u64,
    },
}

impl Fanout {
    /// `frame_bytes` is what all rendered frames together may have. It reads on this runtime: best the one that writes to
    /// the clients.
    pub fn start(
        journal: &Journal,
        shown: Shown,
        frame_bytes: usize,
        runtime: &Handle,
        shutdown: CancellationToken,
    ) -> Arc<Fanout> {
        let fanout = Arc::new(Fanout {
            journal: journal.clone(),
            shown: watch::Sender::new(shown),
            groups: Mutex::new(Some(HashMap::new())),
            clients: Mutex::default(),
            budget: FrameBudget::new(frame_bytes.max(2 * READ_BYTES)),
            catching_up: Arc::new(Semaphore::new(MAX_CATCHING_UP)),
            reading_stored: Arc::new(Semaphore::new(MAX_CATCHING_UP)),
            shutdown,
        });
        runtime.spawn(fanout.clone().run());
        fanout
    }

    /// Shows these from now on.
    pub fn follow(&self, next: Shown) {
        self.shown.send_if_modified(|shown| {
            let differs = *shown != next;
            *shown = next;
            differs
        });
    }

    /// Whether anything is shown live.
    pub fn has_streams(&self) -> bool {
        !self.shown.borrow().is_empty()
    }

    pub fn clients(&self) -> usize {
        lock(&self.clients).values().sum()
    }

    /// A client that sees what comes from now on, or everything behind `from`. `None` if there are too many, in all or of
    /// this user.
    pub fn subscribe(self: &Arc<Fanout>, view: View, from: Option<u64>, user: &str) -> Option<Client> {
        {
            let mut clients = lock(&self.clients);
            let mine = clients.get(user).copied().unwrap_or(0);
            if mine >= MAX_CLIENTS_OF_A_USER || clients.values().sum::<usize>() >= MAX_CLIENTS {
                return None;
            }
            clients.insert(user.to_owned(), mine + 1);
        }
        let receiver = {
            let new = || Group { sender: broadcast::Sender::new(MAX_BEHIND), bytes: Arc::default() };
            match &mut *lock(&self.groups) {
                Some(groups) => groups.entry(view.clone()).or_insert_with(new).sender.subscribe(),
                None => new().sender.subscribe(),
            }
        };
        let position = from.unwrap_or_else(|| self.journal.stats().synced_seq);
        Some(Client {
            fanout: self.clone(),
            user: user.to_owned(),
            view,
            receiver,
            catching_up: CatchUp::Next(None),
            position,
            failures: 0,
            held: None,
        })
    }

    /// Whether what the journal no longer has may be in the place that the API reads.
    pub fn is_read(&self) -> bool {
        self.shown.borrow().is_read
    }

    /// Waits until a client may read what is stored, and gives its turn and memory for that many bytes of frames. That may
    /// take long, so that those who read the journal do not wait for it.
    pub async fn turn_to_read_stored(&self) -> Option<(OwnedSemaphorePermit, FramePermit, usize)> {
        self.turn(&self.reading_stored).await
    }

    async fn turn(&self, turns: &Arc<Semaphore>) -> Option<(OwnedSemaphorePermit, FramePermit, usize)> {
        loop {
            let turn = turns.clone().acquire_owned().await.ok()?;
            // A stuck client holds its last frames: with little memory left, every client gets less at a time.
            let permit = self.budget.try_take(READ_BYTES, 3, None).map(|permit| (permit, READ_BYTES));
            let small = || self.budget.try_take(SMALL_STEP, 4, None).map(|permit| (permit, SMALL_STEP));
            match permit.or_else(small) {
                Some((permit, most)) => return Some((turn, permit, most)),
                None => drop(turn),
            }
            tokio::time::sleep(MEMORY_PAUSE).await;
        }
    }

    fn reader(&self, position: u64) -> std::io::Result<Reader> {
        self.journal.reader(position, &self.shown.borrow().streams())
    }

    async fn run(self: Arc<Fanout>) {
        let _running = Running(self.clone());
        let mut shown = self.shown.subscribe();
        let mut position = self.journal.stats().synced_seq;
        loop {
            let nothing_is_shown = shown.borrow_and_update().is_empty();
            if nothing_is_shown {
                tokio::select! {
                    _ = shown.changed() => position = self.journal.stats().synced_seq,
                    () = self.shutdown.cancelled() => return,
                }
            } else {
                match self.read_on(position, &mut shown).await {
                    Some(reached) => position = reached,
                    None => return,
                }
            }
        }
    }

    /// Shares what comes until something else is to be shown: then, from where. `None` at the end.
    async fn read_on(self: &Arc<Fanout>, position: u64, shown: &mut watch::Receiver<Shown>) -> Option<u64> {
        let mut failures = 0;
        let mut reader = loop {
            match self.reader(position) {
                Ok(reader) => break reader,
                Err(error) => failures = self.could_not_read(&error, failures).await?,
            }
            if failures >= TRIES {
                break self.journal.reader_behind_unreadable(position, &self.shown.borrow().streams());
            }
        };
        loop {
            let first_seq = reader.position();
            let records = tokio::select! {
                records = reader.next(READ_BYTES) => records,
                _ = shown.changed() => return Some(reader.position()),
                () = self.shutdown.cancelled() => return None,
            };
            match records {
                Ok(records) => {
                    failures = 0;
                    let missed = reader.take_gaps().iter().map(|gap| gap.events).sum();
                    let (this, end_seq) = (self.clone(), reader.position());
                    let bytes: usize = records.iter().map(|record| record.lines.bytes.len()).sum();
                    let is_soon_done = bytes.saturating_mul(self.views()) <= SOON_RENDERED;
                    let share = move || this.share(first_seq, end_seq, missed, &records);
                    // Rendering for many views takes long, and nothing else should wait for it.
                    let has_panicked = match is_soon_done {
                        true => std::panic::catch_unwind(std::panic::AssertUnwindSafe(share)).is_err(),
                        false => tokio::task::spawn_blocking(share).await.is_err(),
                    };
                    if has_panicked {
                        tracing::error!("a bug in weir: rendering for live clients panicked; they read the journal");
                    }
                }
                Err(ReadError::Closed) => return None,
                Err(ReadError::Io(error)) => {
                    failures = self.could_not_read(&error, failures).await?;
                    if failures >= TRIES && reader.pass_unreadable() {
                        failures = 0;
                    }
                }
            }
        }
    }

    /// Waits before the next try; gives the number of failures by now. `None` when the agent stops.
    async fn could_not_read(&self, error: &std::io::Error, failures: u32) -> Option<u32> {
        if failures == 0 {
            tracing::error!(%error, "live streams cannot read the journal; what stays unreadable becomes a gap");
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_AGAIN) => Some(failures.saturating_add(1)),
            () = self.shutdown.cancelled() => None,
        }
    }

    fn views(&self) -> usize {
        lock(&self.groups).as_ref().map_or(0, HashMap::len)
    }

    fn share(&self, first_seq: u64, end_seq: u64, missed: u64, records: &[Arc<Record>]) {
        let groups: Vec<(View, broadcast::Sender<Arc<Chunk>>, Arc<AtomicUsize>)> = {
            let mut groups = lock(&self.groups);
            let Some(groups) = groups.as_mut() else { return };
            groups.retain(|_, group| group.sender.receiver_count() > 0);
            let shared = |(view, group): (&View, &Group)| (view.clone(), group.sender.clone(), group.bytes.clone());
            groups.iter().map(shared).collect()
        };
        let share = self.budget.share(groups.len(), READ_BYTES);
        let shown = self.shown.borrow().clone();
        for (view, sender, held) in groups {
            let mut chunk = Chunk { first_seq, end_seq, events: 0, missed, frames: None, _permit: None };
            if held.load(Ordering::Acquire) < share
                && let Some(mut permit) = self.budget.try_take(READ_BYTES, 2, Some(&held))
            {
                let (frames, events) = view.render(&shown, records, first_seq);
                permit.shrink(frames.len());
                (chunk.frames, chunk.events, chunk._permit) = (Some(frames), events, Some(permit));
            }
            // No receiver may be left.
            drop(sender.send(Arc::new(chunk)));
        }
    }

    /// Reads and renders once for a client that reads by itself.
    fn step(&self, reader: Option<Reader>, from: u64, view: &View, permit: FramePermit, mode: Mode) -> Step {
        let read = reader.map_or_else(|| self.reader(from), Ok).and_then(|mut reader| {
            let records = reader.try_next(READ_BYTES).map_err(std::io::Error::other)?;
            Ok((reader, records))
        });
        let shown = self.shown.borrow().clone();
        let step = Step { reader: None, gaps: Vec::new(), found: Found::More, position: from, frames: None, permit };
        match (read, mode) {
            (Ok((reader, records)), Mode::Render(most)) => step.rendered(reader, &records, (view, &shown), most),
            (Ok((reader, records)), Mode::Pass) => step.passed(reader, &records, (view, &shown)),
            (Err(_), Mode::Render(_)) => Step { found: Found::Failure, ..step },
            (Err(_), Mode::Pass) => {
                let reader = self.journal.reader_behind_unreadable(from, &self.shown.borrow().streams());
                Step { reader: Some(reader), ..step }.with_gaps()
            }
        }
    }
}

impl Step {
    /// Renders up to this many bytes of frames.
    fn rendered(
        mut self,
        reader: Reader,
        records: &[Arc<Record>],
        (view, shown): (&View, &Shown),
        most: usize,
    ) -> Step {
        let from = self.position;
        self = Step { reader: Some(reader), ..self }.with_gaps();
        if !self.gaps.is_empty() {
            return self;
        }
        let (frames, events, rest) = view.render_some(shown, records, from, most);
        self.permit.shrink(frames.len());
        self.frames = (events > 0).then_some(frames);
        if records.is_empty() {
            self.found = Found::End;
        }
        if let Some(position) = rest {
            // The reader is past it: the next step reads it again.
            (self.reader, self.position) = (None, position);
        }
        self
    }

    /// Takes one record, after a panic somewhere in what comes next: if it cannot be rendered, it becomes a gap.
    fn passed(mut self, mut reader: Reader, records: &[Arc<Record>], (view, shown): (&View, &Shown)) -> Step {
        let Some(record) = records.first() else { return self.rendered(reader, records, (view, shown), 0) };
        self.gaps = reader.take_gaps();
        if !self.gaps.is_empty() {
            return self;
        }
        let from = self.position.max(record.first_seq);
        self.position = record.end_seq();
        let render = || view.render(shown, std::slice::from_ref(record), from);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(render)) {
            Ok((frames, events)) => {
                self.permit.shrink(frames.len());
                self.frames = (events > 0).then_some(frames);
                self.found = Found::Nothing;
            }
            Err(_) => {
                let (seqs, events) = (from..record.end_seq(), record.end_seq() - from);
                self.gaps.push(Gap { seqs, events, since: None, until: None, cause: Cause::Damaged });
            }
        }
        self
    }

    fn with_gaps(mut self) -> Step {
        if let Some(reader) = &mut self.reader {
            (self.gaps, self.position) = (reader.take_gaps(), reader.position());
        }
        self
    }
}

impl Client {
    /// Waits for more. `None` when the agent stops.
    pub async fn next(&mut self) -> Option<Live> {
        self.held = None;
        loop {
            if !matches!(self.catching_up, CatchUp::Done) {
                let shutdown = self.fanout.shutdown.clone();
                tokio::select! {
                    live = self.catch_up() => if live.is_some() { return live },
                    () = shutdown.cancelled() => return None,
                }
            }
            // At the end the channel is closed. To listen for the end as well would take a lock that all clients share, for
            // each frame.
            match self.receiver.recv().await {
                Ok(chunk) => {
                    if let Some(live) = self.take(chunk) {
                        return Some(live);
                    }
                }
                // What was overwritten is still in the journal.
                Err(broadcast::error::RecvError::Lagged(_)) => self.catching_up = CatchUp::Next(None),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Reads from the journal, a step at a time, until there is nothing that the shared frames do not have. May be
    /// cancelled: a step that has begun is waited for with the next call.
    async fn catch_up(&mut self) -> Option<Live> {
        loop {
            let step = match &mut self.catching_up {
                CatchUp::Done => return None,
                CatchUp::Step(step) => step.await,
                CatchUp::Next(_) => {
                    let (turn, permit, most) = self.fanout.turn(&self.fanout.catching_up).await?;
                    let CatchUp::Next(reader) = std::mem::replace(&mut self.catching_up, CatchUp::Done) else {
                        continue;
                    };
                    let (fanout, view, from) = (self.fanout.clone(), self.view.clone(), self.position);
                    let mode = if self.failures < TRIES { Mode::Render(most) } else { Mode::Pass };
                    self.catching_up = CatchUp::Step(tokio::task::spawn_blocking(move || {
                        let step = fanout.step(reader, from, &view, permit, mode);
                        drop(turn);
                        step
                    }));
                    continue;
                }
            };
            self.catching_up = CatchUp::Next(None);
            let Some(step) = step.ok().filter(|step| step.found != Found::Failure) else {
                // A step that cannot be done is tried a few times; then it is passed over, and the client hears of a gap.
                self.failures = self.failures.saturating_add(1);
                tokio::time::sleep(TRY_AGAIN).await;
                continue;
            };
            if step.found != Found::Nothing {
                self.failures = 0;
            }
            if let (Some(first), Some(last)) = (step.gaps.first(), step.gaps.last()) {
                let events = step.gaps.iter().map(|gap| gap.events).sum();
                let live = Live::Gap { events, from_seq: first.seqs.start, to_seq: last.seqs.end };
                // The records stand behind the gap: they are read again, now without it.
                self.position = last.seqs.end.max(self.position);
                return Some(live);
            }
            self.position = step.position.max(self.position);
            if step.found == Found::End {
                self.catching_up = CatchUp::Done;
                return None;
            }
            self.catching_up = CatchUp::Next(step.reader);
            if let Some(frames) = step.frames {
                self.held = Some(Held::Own(step.permit));
                return Some(Live::Frames(frames));
            }
        }
    }

    fn take(&mut self, chunk: Arc<Chunk>) -> Option<Live> {
        if chunk.end_seq <= self.position {
            return None;
        }
        let frames = chunk.frames.clone().filter(|_| chunk.first_seq == self.position && chunk.missed == 0);
        let Some(frames) = frames else {
            // Partly seen, lost, not kept, or not what comes next: the journal may still have it all.
            self.catching_up = CatchUp::Next(None);
            return None;
        };
        self.position = chunk.end_seq;
        let live = (chunk.events > 0).then_some(Live::Frames(frames));
        self.held = Some(Held::Shared(chunk));
        live
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut clients = lock(&self.fanout.clients);
        if let Some(mine) = clients.get_mut(&self.user) {
            *mine -= 1;
            if *mine == 0 {
                clients.remove(&self.user);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
