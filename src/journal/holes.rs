//! Holes: what damage took of origins that can be read again, told from the positions around it.
//!
//! A position says how far its origin is known (its *claims*) and which range the events beside it came from. What
//! was claimed before the first damage that counts is sure; behind it only the ranges are that stand in whole groups.
//! Whatever is claimed in the end and not sure was in a damaged record: the source reads it again. Nothing of this
//! needs the damaged bytes themselves. The holes are stated like positions before any cursor moves, so that a crash
//! forgets none, and forgotten with the statement by which the source takes them over.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{Notes, RECORD_HEADER, RecordHeader, put_bytes, put_varint, take_bytes, take_varint};
use super::judge::{Item, judge};
use super::packed::unpack;
use super::positions::restated;
use super::segment::{Segment, read_all};
use super::state::State;
use super::{Position, StreamId};
use crate::event::{Lines, Run, Seed};

/// Under this source the journal remembers what is still to be read again.
pub const HOLES: &str = "\0holes";
/// The most ranges in one hole; beyond it the nearest become one.
const MAX_SPANS: usize = 64;
/// The most events remembered of groups that lost a record, so that they do not enter twice.
const MAX_PRESENT: usize = 1_000_000;

/// What a position says of its origin: offsets in a file or a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Names the origin among those of its source.
    pub origin: Bytes,
    /// Reading began here.
    pub base: u64,
    /// Everything it knows to be in the journal.
    pub claims: Vec<Range<u64>>,
    /// The part of it that stands with it; none where no events do.
    pub own: Option<Range<u64>>,
    /// The origin as people call it.
    pub words: String,
}

/// How the positions of a source are read.
pub type ReadPosition = fn(&[u8], &[u8]) -> Option<Told>;

/// What of one origin is to be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    pub source: Arc<str>,
    pub origin: Bytes,
    /// Claimed and lost.
    pub spans: Vec<Range<u64>>,
    /// Claimed by nobody, though what lies behind is: lost as well, or never taken. It is read in any case.
    pub open: Vec<Range<u64>>,
    /// Where the damage lies, and how many events it took, those of other origins included.
    pub seqs: Range<u64>,
    pub events: u64,
    pub words: String,
}

impl Hole {
    fn key(source: &str, origin: &[u8]) -> Bytes {
        let mut key = Vec::new();
        put_bytes(&mut key, source.as_bytes());
        key.extend_from_slice(origin);
        key.into()
    }

    /// What the journal remembers until somebody states [`Hole::taken_over`].
    pub(super) fn position(&self) -> Position {
        let mut value = Vec::new();
        for number in [self.seqs.start, self.seqs.end, self.events] {
            put_varint(&mut value, number);
        }
        for spans in [&self.spans, &self.open] {
            put_varint(&mut value, spans.len() as u64);
            for span in spans {
                put_varint(&mut value, span.start);
                put_varint(&mut value, span.end);
            }
        }
        put_bytes(&mut value, self.words.as_bytes());
        Position { source: HOLES.into(), key: Hole::key(&self.source, &self.origin), value: value.into() }
    }

    pub(super) fn read(mut key: &[u8], mut value: &[u8]) -> Option<Hole> {
        let source = std::str::from_utf8(take_bytes(&mut key)?).ok()?.into();
        let value = &mut value;
        let seqs = take_varint(value)?..take_varint(value)?;
        let events = take_varint(value)?;
        let mut both = [Vec::new(), Vec::new()];
        for spans in &mut both {
            for _ in 0..take_varint(value)? {
                spans.push(take_varint(value)?..take_varint(value)?);
            }
        }
        let [spans, open] = both;
        let words = String::from_utf8(take_bytes(value)?.to_vec()).ok()?;
        Some(Hole { source, origin: Bytes::copy_from_slice(key), spans, open, seqs, events, words })
    }

    /// Everything that its source reads again.
    pub fn all(&self) -> Vec<Range<u64>> {
        joined(self.spans.iter().chain(&self.open).cloned())
    }

    /// Stated together with positions that claim the hole no more, or by a source that cannot read it again.
    pub fn taken_over(&self) -> Position {
        Position { source: HOLES.into(), key: Hole::key(&self.source, &self.origin), value: Bytes::new() }
    }

    /// Takes over what is known of the same hole from before.
    pub(super) fn join(&mut self, known: Hole) {
        self.spans = joined(self.spans.drain(..).chain(known.spans));
        self.open = joined(self.open.drain(..).chain(known.open));
        (self.seqs.start, self.seqs.end) = (self.seqs.start.min(known.seqs.start), self.seqs.end.max(known.seqs.end));
        self.events = self.events.max(known.events);
    }
}

/// Events of groups that lost a record and that are there all the same: when the rest is read again, these do not
/// enter twice.
#[derive(Default)]
pub struct Present {
    ordinals: HashMap<(StreamId, Seed), Vec<u64>>,
    count: usize,
}

impl Present {
    fn add(&mut self, stream: StreamId, lines: &Lines) {
        for run in &lines.runs {
            if self.count + run.ordinals.len() > MAX_PRESENT {
                return;
            }
            self.count += run.ordinals.len();
            self.ordinals.entry((stream, run.seed)).or_default().extend(&run.ordinals);
        }
    }

    fn sort(&mut self) {
        self.ordinals.values_mut().for_each(|ordinals| ordinals.sort_unstable());
    }

    /// The lines without those that are there.
    pub fn leave_out(&self, stream: StreamId, lines: Lines) -> Lines {
        if self.count == 0 || !lines.runs.iter().any(|run| self.ordinals.contains_key(&(stream, run.seed))) {
            return lines;
        }
        let (mut bytes, mut ends, mut runs, mut nth) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for run in &lines.runs {
            let there = self.ordinals.get(&(stream, run.seed)).map_or(&[][..], Vec::as_slice);
            let mut left = Vec::new();
            for ordinal in &run.ordinals {
                if there.binary_search(ordinal).is_err() {
                    bytes.extend_from_slice(&lines.bytes[lines.start(nth)..lines.start(nth + 1)]);
                    ends.push(bytes.len() as u32);
                    left.push(*ordinal);
                }
                nth += 1;
            }
            if !left.is_empty() {
                runs.push(Run { seed: run.seed, ordinals: left });
            }
        }
        Lines { bytes: bytes.into(), ends, runs }
    }
}

impl State {
    /// Everything that is to be read again.
    pub fn holes(&self) -> Vec<Hole> {
        self.positions.of(HOLES).iter().filter_map(|(key, value)| Hole::read(key, value)).collect()
    }
}

type Origin = (Arc<str>, Bytes);

/// What came of a search.
#[derive(Default)]
pub struct Found {
    pub holes: Vec<Hole>,
    pub present: Present,
    /// Whether there is an origin at all that can be read again: what nobody claims of one is read in any case.
    pub is_readable: bool,
}

/// Goes through the journal from its oldest record on.
pub struct Search<'a> {
    readers: &'a HashMap<Arc<str>, ReadPosition>,
    /// What lies before was passed by every cursor: damage there costs nothing.
    needed_from: u64,
    /// What each key was last said to be.
    table: HashMap<Origin, Bytes>,
    /// Segment of the first damage that counts.
    since: Option<u64>,
    /// Sure ranges of each origin, from the first damage on.
    sure: BTreeMap<Origin, Vec<Range<u64>>>,
    group: Open,
    next_seq: u64,
    lost: Range<u64>,
    events: u64,
    present: Present,
}

/// The group that is being read.
#[derive(Default)]
struct Open {
    is_begun: bool,
    is_damaged: bool,
    whole: Vec<(u32, RecordHeader)>,
}

impl<'a> Search<'a> {
    pub fn new(readers: &'a HashMap<Arc<str>, ReadPosition>, needed_from: u64) -> Search<'a> {
        Search {
            readers,
            needed_from,
            table: HashMap::new(),
            since: None,
            sure: BTreeMap::new(),
            group: Open::default(),
            next_seq: 0,
            lost: 0..0,
            events: 0,
            present: Present::default(),
        }
    }

    /// Reads all segments; tells the holes, and what of the groups around them is there.
    pub fn run(mut self, segments: &[Segment]) -> io::Result<Found> {
        self.next_seq = segments.first().map_or(0, |first| first.first_seq);
        for (nth, segment) in segments.iter().enumerate() {
            let bytes = read_all(&segment.place)?;
            self.group = Open::default();
            for item in judge(&bytes, segment.salt, Some(segment.end)).items() {
                match item {
                    Item::Damage => self.group.is_damaged = true,
                    Item::Torn(at, header) => {
                        self.miss(header.first_seq, segment.index);
                        self.begin(&bytes, &header);
                        self.miss(header.end_seq(), segment.index);
                        self.group.is_damaged = true;
                        self.end(&bytes, at, &header);
                    }
                    Item::Whole(at, header) => {
                        self.miss(header.first_seq, segment.index);
                        self.begin(&bytes, &header);
                        self.next_seq = header.end_seq();
                        self.group.whole.push((at, header));
                        self.end(&bytes, at, &header);
                    }
                }
            }
            let next = segments.get(nth + 1);
            // What is missing there stood at the end of this one, or in one that is gone.
            self.miss(next.map_or(segment.end_seq, |next| next.first_seq), segment.index);
            self.group.is_damaged |= self.group.is_begun;
            if self.group.is_begun && next.is_none() && self.needed_from < segment.end_seq {
                // No number behind it tells that its end is missing.
                self.begin_search(segment.index);
            }
            self.leave(&bytes);
        }
        self.present.sort();
        let holes = self.holes();
        let reads = |((source, key), value): (&Origin, &Bytes)| {
            self.readers.get(source).is_some_and(|read| read(key, value).is_some())
        };
        let is_readable = self.table.iter().any(reads);
        Ok(Found { holes, present: self.present, is_readable })
    }

    /// Counts events that are missing before `seq`; with the first that somebody needs, what was said becomes sure.
    fn miss(&mut self, seq: u64, segment: u64) {
        if seq <= self.next_seq {
            return;
        }
        let missing = std::mem::replace(&mut self.next_seq, seq)..seq;
        if missing.end <= self.needed_from {
            return;
        }
        self.events += missing.end - missing.start;
        self.lost = if self.lost.is_empty() { missing.clone() } else { self.lost.start..missing.end };
        self.begin_search(segment);
    }

    fn begin_search(&mut self, segment: u64) {
        if self.since.is_some() {
            return;
        }
        self.since = Some(segment);
        for ((source, key), value) in &self.table {
            if let Some(told) = self.readers.get(source).and_then(|read| read(key, value)) {
                self.sure.entry((source.clone(), told.origin)).or_default().extend(told.claims);
            }
        }
    }

    fn begin(&mut self, bytes: &[u8], header: &RecordHeader) {
        if header.order == 0 {
            // The end of the one before may be what the damage took.
            self.group.is_damaged |= self.group.is_begun;
            self.leave(bytes);
        } else {
            self.group.is_damaged |= !self.group.is_begun;
        }
        self.group.is_begun = true;
    }

    /// Done with a group: of one that lost something the rest is remembered. Tells whether it did.
    fn leave(&mut self, bytes: &[u8]) -> bool {
        let Open { is_damaged, whole, .. } = std::mem::take(&mut self.group);
        for (at, header) in whole.iter().filter(|_| is_damaged && self.since.is_some()) {
            let body = *at as usize + RECORD_HEADER;
            if let Some(lines) = bytes.get(body..body + header.body_len()).and_then(|body| unpack(header, body)) {
                self.present.add(header.stream, &lines);
            }
        }
        is_damaged
    }

    /// At the last record of a group, what it says counts.
    fn end(&mut self, bytes: &[u8], at: u32, header: &RecordHeader) {
        if !header.ends_group() {
            return;
        }
        let is_damaged = self.leave(bytes);
        let Some(notes) = notes_of(bytes, at, header) else { return };
        if header.restates() {
            for (said_in, position) in restated(notes.positions) {
                self.restate(said_in, &position);
            }
            return;
        }
        for position in notes.positions {
            self.state(&position, is_damaged);
        }
    }

    /// What was said before the damage is sure, wherever it is said again.
    fn restate(&mut self, said_in: u64, position: &Position) {
        if self.since.is_some_and(|since| said_in < since)
            && let Some(told) = self.told(position)
        {
            self.sure.entry((position.source.clone(), told.origin)).or_default().extend(told.claims);
        }
        // It may be all that is left of a statement that was lost.
        self.table.insert((position.source.clone(), position.key.clone()), position.value.clone());
    }

    fn state(&mut self, position: &Position, is_damaged: bool) {
        if self.since.is_some()
            && let Some(told) = self.told(position)
        {
            let sure = self.sure.entry((position.source.clone(), told.origin)).or_default();
            let is_new = sure.is_empty();
            sure.push(0..told.base);
            match told.own {
                Some(own) if !is_damaged => sure.push(own),
                None if is_new => sure.extend(told.claims),
                _ => {}
            }
        }
        let place = (position.source.clone(), position.key.clone());
        if position.value.is_empty() {
            self.table.remove(&place);
        } else {
            self.table.insert(place, position.value.clone());
        }
    }

    fn told(&self, position: &Position) -> Option<Told> {
        self.readers.get(&position.source).and_then(|read| read(&position.key, &position.value))
    }

    /// What is claimed and not sure.
    fn holes(&mut self) -> Vec<Hole> {
        let mut claims: BTreeMap<Origin, (Vec<Range<u64>>, String)> = BTreeMap::new();
        for ((source, key), value) in &self.table {
            let Some(told) = self.readers.get(source).and_then(|read| read(key, value)) else { continue };
            let origin = (source.clone(), told.origin);
            if self.sure.contains_key(&origin) {
                let (claimed, words) = claims.entry(origin).or_default();
                claimed.extend(told.claims);
                *words = told.words;
            }
        }
        let mut holes = Vec::new();
        for (origin, (claimed, words)) in claims {
            let sure = joined(self.sure.remove(&origin).unwrap_or_default());
            let claimed = joined(claimed);
            let end = claimed.last().map_or(0, |last| last.end);
            let open = without(std::iter::once(0..end).collect(), &claimed);
            let spans = without(claimed, &sure);
            if !spans.is_empty() || !open.is_empty() {
                let ((source, origin), seqs, events) = (origin, self.lost.clone(), self.events);
                holes.push(Hole { source, origin, spans, open, seqs, events, words });
            }
        }
        holes
    }
}

/// The notes of a record, if they are what was written.
pub fn notes_of(bytes: &[u8], at: u32, header: &RecordHeader) -> Option<Notes> {
    let from = at as usize + RECORD_HEADER;
    let notes = bytes.get(from..from + header.notes_len as usize)?;
    header.fits_notes(notes).then(|| Notes::decode(notes)).flatten()
}

/// Ascending and apart from each other; not too many.
fn joined(spans: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = spans.into_iter().filter(|span| !span.is_empty()).collect();
    spans.sort_by_key(|span| span.start);
    let mut all: Vec<Range<u64>> = Vec::with_capacity(spans.len());
    for span in spans {
        match all.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => all.push(span),
        }
    }
    all
}

/// `spans` without `sure`, both ascending. What is between two ranges is read again with them where there are too many.
fn without(spans: Vec<Range<u64>>, sure: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    for mut span in spans {
        for known in &sure[sure.partition_point(|known| known.end <= span.start)..] {
            if known.start >= span.end {
                break;
            }
            left.push(span.start..known.start.max(span.start));
            span.start = known.end.min(span.end);
        }
        left.push(span);
    }
    left.retain(|span| !span.is_empty());
    while left.len() > MAX_SPANS {
        let nearest =
            (1..left.len()).min_by_key(|nth| left[*nth].start - left[*nth - 1].end).expect("there are several");
        left[nearest - 1].end = left.remove(nearest).end;
    }
    left
}
