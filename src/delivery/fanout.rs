//! Live clients: one task reads the live streams; equal views are filtered and rendered once and shared.
//!
//! A client is a position. It first reads what it missed from the journal by itself, then follows the shared frames;
//! one that falls behind is told how many events it missed, and nothing is kept for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::view::View;
use crate::journal::{Journal, ReadError, Reader, Record, StreamId};

/// Bytes of lines read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Chunks that a client may fall behind before it is told of a gap.
const MAX_BEHIND: usize = 64;
/// Clients at a time; more are turned away.
pub const MAX_CLIENTS: usize = 1000;

/// Frames of one view over one read.
#[derive(Debug)]
pub struct Chunk {
    /// The `seq` of the first event that was looked at, and the one behind the last.
    pub first_seq: u64,
    pub end_seq: u64,
    /// Matching events of this view before and in this chunk, counted since the view began.
    before: u64,
    pub events: u64,
    /// Events that the journal had lost before this chunk.
    pub missed: u64,
    /// Ready to send.
    pub frames: Bytes,
}

/// The one reader, and the views it serves.
pub struct Fanout {
    journal: Journal,
    /// What is shown; a reload may change it.
    streams: watch::Sender<Vec<StreamId>>,
    groups: Mutex<HashMap<View, Group>>,
    clients: AtomicUsize,
    shutdown: CancellationToken,
}

struct Group {
    sender: broadcast::Sender<Arc<Chunk>>,
    events: u64,
}

/// One client's way through the stream.
pub struct Client {
    fanout: Arc<Fanout>,
    view: View,
    receiver: broadcast::Receiver<Arc<Chunk>>,
    /// What it still reads by itself.
    catching_up: Option<Reader>,
    /// Everything before this was given.
    position: u64,
    /// Matching events of the shared frames that it has seen.
    seen: Option<u64>,
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
    pub fn start(journal: &Journal, streams: &[StreamId], shutdown: CancellationToken) -> Arc<Fanout> {
        let fanout = Arc::new(Fanout {
            journal: journal.clone(),
            streams: watch::Sender::new(streams.to_vec()),
            groups: Mutex::default(),
            clients: AtomicUsize::new(0),
            shutdown,
        });
        tokio::spawn(fanout.clone().run());
        fanout
    }

    /// Shows these from now on.
    pub fn follow(&self, streams: Vec<StreamId>) {
        self.streams.send_if_modified(|shown| {
            let differs = *shown != streams;
            *shown = streams;
            differs
        });
    }

    /// Whether anything is shown live.
    pub fn has_streams(&self) -> bool {
        !self.streams.borrow().is_empty()
    }

    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// A client that sees what comes from now on, or everything behind `from`. `None` if there are too many.
    pub fn subscribe(self: &Arc<Fanout>, view: View, from: Option<u64>) -> std::io::Result<Option<Client>> {
        if self.clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            self.clients.fetch_sub(1, Ordering::Relaxed);
            return Ok(None);
        }
        let receiver = {
            let mut groups = self.groups();
            groups
                .entry(view.clone())
                .or_insert_with(|| Group { sender: broadcast::Sender::new(MAX_BEHIND), events: 0 })
                .sender
                .subscribe()
        };
        let now = self.journal.stats().synced_seq;
        let mut client = Client {
            fanout: self.clone(),
            view,
            receiver,
            catching_up: None,
            position: from.unwrap_or(now),
            seen: None,
        };
        client.catching_up = Some(self.reader(client.position)?);
        Ok(Some(client))
    }

    fn reader(&self, position: u64) -> std::io::Result<Reader> {
        self.journal.reader(position, &self.streams.borrow())
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<View, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Fanout>) {
        let mut streams = self.streams.subscribe();
        let mut position = self.journal.stats().synced_seq;
        loop {
            let nothing_is_shown = streams.borrow_and_update().is_empty();
            if nothing_is_shown {
                tokio::select! {
                    _ = streams.changed() => position = self.journal.stats().synced_seq,
                    () = self.shutdown.cancelled() => return,
                }
            } else {
                match self.read_on(position, &mut streams).await {
                    Some(reached) => position = reached,
                    None => return,
                }
            }
        }
    }

    /// Shares what comes until something else is to be shown: then, from where. `None` at the end.
    async fn read_on(&self, position: u64, streams: &mut watch::Receiver<Vec<StreamId>>) -> Option<u64> {
        let mut reader = match self.reader(position) {
            Ok(reader) => reader,
            Err(error) => {
                tracing::error!(%error, "live streams cannot read the journal");
                return None;
            }
        };
        loop {
            let first_seq = reader.position();
            let records = tokio::select! {
                records = reader.next(READ_BYTES) => records,
                _ = streams.changed() => return Some(reader.position()),
                () = self.shutdown.cancelled() => return None,
            };
            match records {
                Ok(records) => {
                    let missed = reader.take_gaps().iter().map(|gap| gap.events).sum();
                    self.share(first_seq, reader.position(), missed, &records);
                }
                Err(ReadError::Closed) => return None,
                Err(ReadError::Io(error)) => {
                    tracing::error!(%error, "live streams cannot read the journal");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn share(&self, first_seq: u64, end_seq: u64, missed: u64, records: &[Arc<Record>]) {
        let mut groups = self.groups();
        groups.retain(|_, group| group.sender.receiver_count() > 0);
        for (view, group) in groups.iter_mut() {
            let (frames, events) = view.render(records, first_seq);
            let chunk = Chunk { first_seq, end_seq, before: group.events, events, missed, frames };
            group.events += events;
            // Nobody may be left to hear it.
            drop(group.sender.send(Arc::new(chunk)));
        }
    }
}

impl Client {
    /// Waits for more. `None` when the agent stops.
    pub async fn next(&mut self) -> Option<Live> {
        loop {
            if let Some(live) = self.catch_up() {
                return Some(live);
            }
            let received = tokio::select! {
                received = self.receiver.recv() => received,
                () = self.fanout.shutdown.cancelled() => return None,
            };
            match received {
                Ok(chunk) => {
                    if let Some(live) = self.take(&chunk) {
                        return Some(live);
                    }
                }
                // What was overwritten shows in the counts of the next chunk.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Reads from the journal until there is nothing that the shared frames do not have.
    fn catch_up(&mut self) -> Option<Live> {
        let reader = self.catching_up.as_mut()?;
        loop {
            let records = match reader.try_next(READ_BYTES) {
                Ok(records) => records,
                Err(_) => {
                    self.catching_up = None;
                    return None;
                }
            };
            let gaps = reader.take_gaps();
            let from = self.position;
            self.position = reader.position();
            if let (Some(first), Some(last)) = (gaps.first(), gaps.last()) {
                let live = Live::Gap {
                    events: gaps.iter().map(|g| g.events).sum(),
                    from_seq: first.seqs.start,
                    to_seq: last.seqs.end,
                };
                // The records stand behind the gap: they are read again, now without it.
                self.position = last.seqs.end.max(from);
                self.catching_up = self.fanout.reader(self.position).ok();
                return Some(live);
            }
            if records.is_empty() {
                self.catching_up = None;
                return None;
            }
            let (frames, events) = self.view.render(&records, from);
            if events > 0 {
                return Some(Live::Frames(frames));
            }
        }
    }

    fn take(&mut self, chunk: &Chunk) -> Option<Live> {
        let missed = match self.seen {
            Some(seen) => chunk.before.saturating_sub(seen) + chunk.missed,
            None => chunk.missed,
        };
        if chunk.end_seq <= self.position {
            self.seen = Some(chunk.before + chunk.events);
            return None;
        }
        if chunk.first_seq < self.position || missed > 0 {
            // Partly seen, or something was overwritten: the journal may still have it all.
            self.seen = Some(chunk.before + chunk.events);
            self.catching_up = self.fanout.reader(self.position).ok();
            return self.catch_up();
        }
        self.seen = Some(chunk.before + chunk.events);
        self.position = chunk.end_seq;
        (chunk.events > 0).then(|| Live::Frames(chunk.frames.clone()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.fanout.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
