//! Groups commits: small parts of one stream are joined into records, and each is compressed once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::format::{Notes, RECORD_BYTES, RECORD_HEADER};
use super::memory::MemoryPermit;
use super::packed::{Packed, pack};
use super::writer::AppendError;
use super::{Codec, Commit, IdempotencyKey, Position, StreamId, layout};
use crate::event::{Lines, Origins};
use crate::telemetry::panics;
use crate::units::Timestamp;

/// Parts of this size or more are a record alone, compressed on the thread that commits them: joining them would be a copy
/// for nothing.
pub const ALONE: usize = 64 * 1024;

/// What a commit has come to: the numbers of its events, or why there are none.
pub type Answer = Result<Range<u64>, AppendError>;

/// Who hears what a commit has come to. Dropped without an answer it says that the journal is closed.
pub struct Reply(Option<Listener>);

enum Listener {
    Receipt(oneshot::Sender<Answer>),
    Call(Box<dyn FnOnce(Answer) + Send>),
}

impl Reply {
    /// To one who waits.
    pub fn receipt() -> (Reply, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Reply(Some(Listener::Receipt(sender))), receiver)
    }

    /// Calls `then` on the thread that knows the answer.
    pub fn call(then: impl FnOnce(Answer) + Send + 'static) -> Reply {
        Reply(Some(Listener::Call(Box::new(then))))
    }

    pub fn send(mut self, answer: Answer) {
        self.answer(answer);
    }

    fn answer(&mut self, answer: Answer) {
        match self.0.take() {
            // Who no longer listens needs no answer.
            Some(Listener::Receipt(sender)) => drop(sender.send(answer)),
            // The threads of the journal outlive a bug of those who listen.
            Some(Listener::Call(then)) => {
                if let Err(panic) = panics::contain(|| then(answer)) {
                    tracing::error!(panic, "the listener of a commit panicked");
                }
            }
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.answer(Err(AppendError::Closed));
    }
}

/// A commit that waits for its turn.
pub struct Pending {
    parts: Vec<Part>,
    positions: Vec<Position>,
    received_at: Timestamp,
    pub key: Option<IdempotencyKey>,
    accepted: u32,
    permit: Option<Arc<MemoryPermit>>,
    pub reply: Reply,
    /// Bytes of its lines.
    pub bytes: usize,
}

struct Part {
    stream: StreamId,
    lines: Lines,
    packed: Option<Packed>,
}

impl Part {
    fn is_alone(&self) -> bool {
        self.lines.bytes.len() >= ALONE
    }
}

impl Pending {
    /// Cuts a commit into parts no larger than a record and packs the large ones. No codec: nothing is packed.
    pub fn new(commit: Commit, codec: Option<Codec>, reply: Reply) -> Pending {
        let mut parts = Vec::with_capacity(commit.entries.len());
        let mut bytes = 0;
        for (stream, lines) in commit.entries {
            bytes += lines.bytes.len();
            for lines in cut(lines) {
                let packed = codec.filter(|_| lines.bytes.len() >= ALONE).map(|codec| pack(&lines, codec));
                parts.push(Part { stream, lines, packed });
            }
        }
        Pending {
            parts,
            positions: commit.positions,
            received_at: commit.received_at,
            key: commit.key,
            accepted: commit.accepted,
            permit: commit.permit.map(Arc::new),
            reply,
            bytes,
        }
    }
}

/// Splits into parts of at most a record's size, unless one event is larger. None for lines without events.
fn cut(lines: Lines) -> Vec<Lines> {
    if lines.is_empty() {
        return Vec::new();
    }
    if lines.bytes.len() <= RECORD_BYTES || lines.len() == 1 {
        return vec![lines];
    }
    let mut parts = Vec::new();
    let mut from = 0;
    while from < lines.len() {
        let start = lines.start(from);
        let fits = lines.ends[from..].partition_point(|end| *end as usize - start <= RECORD_BYTES);
        let to = from + fits.max(1);
        parts.push(Lines {
            bytes: lines.bytes.slice(start..lines.start(to)),
            ends: lines.ends[from..to].iter().map(|end| end - start as u32).collect(),
            origins: lines.origins.between(from, to),
        });
        from = to;
    }
    parts
}

/// A record before it has numbers.
pub struct Draft {
    pub stream: StreamId,
    pub lines: Lines,
    pub packed: Option<Packed>,
    pub received_at: Timestamp,
    /// The permits of the commits that have lines here.
    pub permits: Vec<Arc<MemoryPermit>>,
}

/// What one write carries.
#[derive(Default)]
pub struct Group {
    pub drafts: Vec<Draft>,
    pub notes: Notes,
    pub waiting: Vec<Waiting>,
}

/// A commit in a group.
pub struct Waiting {
    reply: Reply,
    /// Where its events lie: draft, first event there, how many.
    spans: Vec<(usize, usize, usize)>,
    permit: Option<Arc<MemoryPermit>>,
}

impl Waiting {
    /// The numbers of its events, given the first number of each draft. Events of others may lie between.
    pub fn seqs(&self, firsts: &[u64], otherwise: u64) -> Range<u64> {
        let start = self.spans.iter().map(|(draft, first, _)| firsts[*draft] + *first as u64).min();
        let end = self.spans.iter().map(|(draft, first, count)| firsts[*draft] + (first + count) as u64).max();
        start.unwrap_or(otherwise)..end.unwrap_or(otherwise)
    }

    /// Gives the permit back, unless the record holds it too, and then the answer.
    pub fn answer(self, answer: Result<Range<u64>, AppendError>) {
        drop(self.permit);
        self.reply.send(answer);
    }
}

/// The open record of one stream.
struct Open {
    draft: usize,
    parts: Vec<Lines>,
    events: usize,
    bytes: usize,
}

impl Group {
    pub fn gather(commits: impl IntoIterator<Item = Pending>, codec: Option<Codec>) -> Group {
        let mut group = Group::default();
        let mut open: HashMap<StreamId, Open> = HashMap::new();
        for commit in commits {
            let mut spans = Vec::new();
            for part in commit.parts {
                let fits = |open: &Open| !part.is_alone() && open.bytes + part.lines.bytes.len() <= RECORD_BYTES;
                if let Some(full) = open.get(&part.stream).is_some_and(|o| !fits(o)).then(|| open.remove(&part.stream))
                {
                    group.close(full.expect("it was there"));
                }
                let count = part.lines.len();
                if part.is_alone() {
                    spans.push((group.drafts.len(), 0, count));
                    group.start(part.stream, commit.received_at, &commit.permit);
                    let draft = group.drafts.last_mut().expect("just started");
                    (draft.lines, draft.packed) = (part.lines, part.packed);
                    continue;
                }
                let place = open.entry(part.stream).or_insert_with(|| {
                    group.start(part.stream, commit.received_at, &None);
                    Open { draft: group.drafts.len() - 1, parts: Vec::new(), events: 0, bytes: 0 }
                });
                spans.push((place.draft, place.events, count));
                group.drafts[place.draft].permits.extend(commit.permit.clone());
                place.events += count;
                place.bytes += part.lines.bytes.len();
                place.parts.push(part.lines);
            }
            group.notes.positions.extend(commit.positions);
            if let Some(key) = commit.key {
                group.notes.keys.push((key, commit.accepted));
                group.notes.keys_at = group.notes.keys_at.max(commit.received_at);
            }
            group.waiting.push(Waiting { reply: commit.reply, spans, permit: commit.permit });
        }
        for (_, open) in open {
            group.close(open);
        }
        if let Some(codec) = codec {
            for draft in group.drafts.iter_mut().filter(|draft| draft.packed.is_none()) {
                draft.packed = Some(pack(&draft.lines, codec));
            }
        }
        group
    }

    /// Positions without events.
    pub fn of_positions(positions: Vec<Position>) -> Group {
        Group { notes: Notes { positions, ..Notes::default() }, ..Group::default() }
    }

    fn start(&mut self, stream: StreamId, received_at: Timestamp, permit: &Option<Arc<MemoryPermit>>) {
        let permits = permit.iter().cloned().collect();
        self.drafts.push(Draft { stream, lines: Lines::default(), packed: None, received_at, permits });
    }

    fn close(&mut self, open: Open) {
        self.drafts[open.draft].lines = join(open.parts, open.bytes);
    }

    /// The most bytes that its records take, notes not counted.
    pub fn bytes(&self) -> usize {
        let body = |draft: &Draft| {
            let bytes = |packed: &Packed| packed.meta.len() + packed.packed.len() + layout::most_filled(packed);
            draft.packed.as_ref().map_or(0, bytes)
        };
        self.drafts.iter().map(|draft| body(draft) + RECORD_HEADER + 8).sum()
    }

    /// A record without lines, where there is none to carry the notes.
    pub fn carry_notes(&mut self, codec: Codec, received_at: Timestamp) {
        if self.drafts.is_empty() {
            self.start(StreamId(0), received_at, &None);
            let draft = self.drafts.last_mut().expect("just started");
            draft.packed = Some(pack(&draft.lines, codec));
        }
    }

    pub fn fail(self, error: &AppendError) {
        for waiting in self.waiting {
            waiting.answer(Err(error.clone()));
        }
    }
}

fn join(mut parts: Vec<Lines>, bytes: usize) -> Lines {
    if parts.len() == 1 {
        return parts.pop().expect("there is one");
    }
    let mut all = Vec::with_capacity(bytes);
    let mut ends = Vec::with_capacity(parts.iter().map(Lines::len).sum());
    let mut origins = Origins::default();
    for part in parts {
        let start = all.len() as u32;
        all.extend_from_slice(&part.bytes);
        ends.extend(part.ends.iter().map(|end| start + end));
        origins.append(&part.origins);
    }
    Lines { bytes: Bytes::from(all), ends, origins }
}
