//! Taps: what leaves a source or a transform, for those who watch while it happens.
//!
//! What a sink reads is in a stream, and is watched there. What only transforms read is in no stream: it is copied here
//! for whoever watches, once it is committed, and redacted as text for the dead-letter queue is, because what a redaction
//! further down hides is not shown before it either. Nothing waits for those who watch: what they have no room for is
//! counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::codec::redaction::Engine;
use crate::event::{Batch, Lines, Origins, Scanner};
use crate::journal::{Record, StreamId};
use crate::units::Timestamp;

/// Bytes of lines that wait for one who watches.
const MAX_WAITING: usize = 512 * 1024;
/// Batches that wait for one who watches.
const MAX_BATCHES: usize = 256;
/// Bytes of lines that are shown of one batch.
const MAX_OF_BATCH: usize = 128 * 1024;

/// Built-in rules, made when first needed.
pub type Redactor = Arc<LazyLock<Engine>>;

/// All who watch. Cloning shares them.
#[derive(Clone)]
pub struct Taps(Arc<Shared>);

struct Shared {
    redactor: Redactor,
    /// How many watch; most of the time nobody does.
    count: AtomicUsize,
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    component: String,
    sender: mpsc::Sender<Arc<Record>>,
    load: Arc<Load>,
}

#[derive(Default)]
struct Load {
    /// Bytes that wait.
    bytes: AtomicUsize,
    /// Events that there was no room for since somebody asked.
    missed: AtomicU64,
}

/// What left an output, to be shown once it is committed.
pub struct Tapped {
    output: Arc<str>,
    lines: Lines,
    received_at: Timestamp,
    /// Events of the batch that are not among the lines.
    left_out: u64,
}

/// One who watches a component.
pub struct Watch {
    taps: Taps,
    receiver: mpsc::Receiver<Arc<Record>>,
    load: Arc<Load>,
}

impl Taps {
    pub fn new(redactor: Redactor) -> Taps {
        Taps(Arc::new(Shared { redactor, count: AtomicUsize::new(0), watched: Mutex::default() }))
    }

    /// Watches all outputs of a component, or one of them.
    pub fn watch(&self, component: &str) -> Watch {
        let (sender, receiver) = mpsc::channel(MAX_BATCHES);
        let load = Arc::<Load>::default();
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(Watched { component: component.to_owned(), sender, load: load.clone() });
        self.0.count.store(watched.len(), Ordering::Release);
        Watch { taps: self.clone(), receiver, load }
    }

    /// Copies what leaves an output if somebody watches it. `redact` is what the flow itself hides of a text.
    pub fn take(&self, output: &Arc<str>, batch: &Batch, redact: impl Fn(Vec<u8>) -> Vec<u8>) -> Option<Tapped> {
        if self.0.count.load(Ordering::Acquire) == 0 || batch.is_empty() || !self.is_watched(output) {
            return None;
        }
        let (mut bytes, mut ends, mut line) = (Vec::new(), Vec::new(), Vec::new());
        let mut scanner = Scanner::new();
        for event in 0..batch.len() {
            line.clear();
            batch.render_event(event, &mut line);
            if bytes.len() + line.len() > MAX_OF_BATCH {
                break;
            }
            let shown = redact(self.0.redactor.redact_text(&line).0);
            // A rule of one's own may take more than a value.
            if scanner.validate(&shown).is_ok() {
                bytes.extend_from_slice(&shown);
                bytes.push(b'\n');
                ends.push(u32::try_from(bytes.len()).expect("a batch is shown in part"));
            }
        }
        let left_out = (batch.len() - ends.len()) as u64;
        let lines = Lines { bytes: Bytes::from(bytes), ends, origins: Origins::default() };
        Some(Tapped { output: output.clone(), lines, received_at: batch.provenance.received_at, left_out })
    }

    /// Shows what was taken: it is committed.
    pub fn show(&self, tapped: Vec<Tapped>) {
        if tapped.is_empty() {
            return;
        }
        let watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for Tapped { output, lines, received_at, left_out } in tapped {
            for watched in watched.iter().filter(|watched| is_output_of(&output, &watched.component)) {
                watched.offer(&lines, received_at, left_out);
            }
        }
    }

    fn is_watched(&self, output: &str) -> bool {
        let watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.iter().any(|watched| is_output_of(output, &watched.component))
    }
}

/// Whether an output is this component's, or this one.
pub fn is_output_of(output: &str, component: &str) -> bool {
    output == component || output.split_once('.').is_some_and(|(head, _)| head == component)
}

impl Watched {
    fn offer(&self, lines: &Lines, received_at: Timestamp, left_out: u64) {
        let (bytes, events) = (lines.bytes.len(), lines.len() as u64);
        let lines = lines.clone();
        let record = Record { stream: StreamId(0), first_seq: 0, stream_first: 0, received_at, lines };
        let has_room = self.load.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= MAX_WAITING;
        let is_sent = has_room && self.sender.try_send(Arc::new(record)).is_ok();
        if !is_sent {
            self.load.bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        let missed = left_out + if is_sent { 0 } else { events };
        self.load.missed.fetch_add(missed, Ordering::AcqRel);
    }
}

impl Watch {
    /// What left the component next, and how many events were missed before. Its events have no `seq`.
    pub async fn next(&mut self) -> Option<(Arc<Record>, u64)> {
        let record = self.receiver.recv().await?;
        self.load.bytes.fetch_sub(record.lines.bytes.len(), Ordering::AcqRel);
        Some((record, self.load.missed.swap(0, Ordering::AcqRel)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.taps.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|watched| !Arc::ptr_eq(&watched.load, &self.load));
        self.taps.0.count.store(watched.len(), Ordering::Release);
    }
}
