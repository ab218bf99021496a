//! The tail: the newest events before they become a part, in memory by chunks and on disk in a framed file.
//!
//! A frame is `magic, length, CRC-32C, number of segments` (four bytes each) and its segments. A segment is `packed length,
//! expanded length` (four bytes each) and LZ4 data. The first segment has for each event its `seq`, time of receipt, seed
//! and ordinal, then the length of each line. The others have the lines, each those of one chunk: what was compressed for
//! the disk is kept in memory as it is. A frame is synced before its events count as stored. What follows the last whole
//! frame was never acknowledged and is cut off at the start; damage between two costs what lies there. Frames of format 1 have one segment with everything.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lz4::block::CompressionMode;

use super::IMPORTED;
use super::bits::CHUNK;
use super::coded::{Builder, Columns};
use super::disk::{Disk, DiskFile};
use super::grams::{GramSet, Hashes};
use super::hashing::Seeded;
use crate::event::raw::name_is;
use crate::event::time::Moment;
use crate::event::{Id, Raw, Seed};
use crate::units::Timestamp;
use crate::varint::{put_varint, take_varint};

const FRAME_MAGIC: [u8; 4] = *b"WTf2";
/// Frames of format 1 are read.
const FRAME_MAGIC_1: [u8; 4] = *b"WTf\n";
const FRAME_HEAD: usize = 16;
const SEGMENT_HEAD: usize = 8;
/// No frame is larger than this when expanded.
const MAX_FRAME: usize = 1 << 30;
/// A chunk that came in more segments is compressed again when it is full.
const MAX_SEGMENTS: usize = 8;
/// How hasty compressing is: a greater number finds less.
const HASTE: i32 = 2;

/// What is known of an event beside its line.
#[derive(Clone, Debug)]
pub struct RowHead {
    pub seq: u64,
    pub received: i64,
    /// By which it is ordered: its `timestamp`, else the time of receipt.
    pub time: i64,
    /// Its seed's number in the tail.
    pub seed: u32,
    pub ordinal: u64,
    pub id: Id,
    /// Whether its producer gave the id.
    pub is_own_id: bool,
}

/// An event as the store takes it.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    pub seq: u64,
    pub received_at: Timestamp,
    pub seed: Seed,
    pub ordinal: u64,
    /// A JSON object without a line break.
    pub line: &'a [u8],
}

impl RowHead {
    /// The id that follows from where the event came from, unless its producer gave it another.
    pub fn derived_id(&self) -> Option<Id> {
        (!self.is_own_id).then_some(self.id)
    }
}

/// An event whose line was looked through once.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'a> {
    pub event: NewEvent<'a>,
    pub id: Id,
    /// Whether its producer gave the id: a derived one may stand in the line as well.
    pub is_own_id: bool,
    time: i64,
    members: (u32, u32),
}

/// Names and values of the members of some events.
pub type Members<'a> = Vec<(&'a [u8], Raw<'a>)>;

impl<'a> NewEvent<'a> {
    /// Looks through the line; `members` receives what it has.
    pub fn prepare(&self, members: &mut Members<'a>) -> Prepared<'a> {
        let from = members.len();
        members.extend(Raw::valid(self.line).members());
        let last = |wanted: &str| {
            let of_name = members[from..].iter().rev().find(|(name, _)| name_is(name, wanted));
            of_name.and_then(|(_, value)| value.as_str())
        };
        let derived = self.seed.id(self.ordinal);
        let own = last("id").and_then(|text| Id::parse(&text)).filter(|id| *id != derived);
        let moment = last("timestamp").and_then(|text| Moment::parse(&text));
        Prepared {
            event: *self,
            id: own.unwrap_or(derived),
            is_own_id: own.is_some(),
            time: moment.map_or(self.received_at.0, |moment| moment.timestamp().0),
            members: (from as u32, members.len() as u32),
        }
    }
}

/// Up to [`CHUNK`] events.
#[derive(Clone, Debug, Default)]
pub struct TailChunk {
    pub rows: Vec<RowHead>,
    /// What a search may ask for; empty while the chunk is open.
    pub hashes: Hashes,
    /// What is most asked for; empty while the chunk is open.
    pub columns: Columns,
    pub min_time: i64,
    pub max_time: i64,
    ends: Vec<u32>,
    /// The lines as they were submitted; empty when the chunk is full.
    plain: Arc<Vec<u8>>,
    /// The same, compressed.
    segments: Vec<Segment>,
}

/// Lines that were compressed together.
#[derive(Clone, Debug)]
pub struct Segment {
    bytes: Arc<[u8]>,
    len: usize,
}

impl Segment {
    fn of(text: &[u8]) -> io::Result<Segment> {
        let bytes = lz4::block::compress(text, Some(CompressionMode::FAST(HASTE)), false)?;
        Ok(Segment { bytes: bytes.into(), len: text.len() })
    }

    fn expand(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        out.resize(start + self.len, 0);
        let len = lz4::block::decompress_to_buffer(&self.bytes, Some(self.len as i32), &mut out[start..])?;
        if len == self.len { Ok(()) } else { Err(io::Error::other("lines in memory cannot be expanded")) }
    }
}

/// The lines of a chunk.
pub struct ChunkLines {
    text: Arc<Vec<u8>>,
    ends: Vec<u32>,
}

impl ChunkLines {
    pub fn line(&self, nth: usize) -> &[u8] {
        let start = if nth == 0 { 0 } else { self.ends[nth - 1] as usize };
        &self.text[start..self.ends[nth] as usize]
    }
}

impl TailChunk {
    pub fn lines(&self) -> io::Result<ChunkLines> {
        let text = if self.columns.is_empty() {
            self.plain.clone()
        } else {
            let mut text = Vec::with_capacity(self.ends.last().map_or(0, |end| *end as usize));
            self.segments.iter().try_for_each(|segment| segment.expand(&mut text))?;
            Arc::new(text)
        };
        Ok(ChunkLines { text, ends: self.ends.clone() })
    }

    fn push(&mut self, head: RowHead, line: &[u8]) {
        let is_first = self.rows.is_empty();
        self.min_time = if is_first { head.time } else { self.min_time.min(head.time) };
        self.max_time = if is_first { head.time } else { self.max_time.max(head.time) };
        self.rows.push(head);
        let plain = Arc::make_mut(&mut self.plain);
        plain.extend_from_slice(line);
        self.ends.push(plain.len() as u32);
    }

    fn close(&mut self, hashes: Hashes, columns: Columns) -> io::Result<()> {
        let known: usize = self.segments.iter().map(|segment| segment.len).sum();
        if self.segments.len() > MAX_SEGMENTS || known != self.plain.len() {
            self.segments = vec![Segment::of(&self.plain)?];
        }
        (self.hashes, self.columns, self.plain) = (hashes, columns, Arc::default());
        Ok(())
    }

    fn weight(&self) -> usize {
        let packed: usize = self.segments.iter().map(|segment| segment.bytes.len()).sum();
        packed
            + self.plain.len()
            + self.columns.weight()
            + self.hashes.weight()
            + self.rows.len() * (std::mem::size_of::<RowHead>() + 4)
    }
}

/// What readers see of a tail; it does not change.
#[derive(Clone, Default)]
pub struct TailView {
    pub chunks: Vec<Arc<TailChunk>>,
}

impl TailView {
    pub fn weight(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.weight()).sum()
    }
}

/// The file name of a tail.
pub fn tail_name(number: u64) -> String {
    format!("{number:010}.tail")
}

/// The file of a tail.
pub struct TailFile {
    pub number: u64,
    pub path: PathBuf,
    file: DiskFile,
    end: u64,
}

/// What the file of a tail had when it was opened.
pub struct TailContent {
    bytes: Vec<u8>,
    /// Where whole frames lie.
    frames: Vec<Range<usize>>,
    /// Events of these frames.
    pub events: u64,
    /// Bytes behind the last whole frame, cut off.
    pub cut: u64,
    /// What lies between whole frames and is none.
    pub damaged: Vec<Range<usize>>,
}

impl TailFile {
    /// Begins a new tail, or goes on behind the frames that are there.
    pub fn open(disk: &Disk, dir: &Path, number: u64) -> io::Result<(TailFile, TailContent)> {
        let path = dir.join(tail_name(number));
        let file = disk.open_or_create(&path)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let mut content = TailContent::of(bytes);
        let end = content.frames.last().map_or(0, |frame| frame.end);
        content.cut = (content.bytes.len() - end) as u64;
        if content.cut > 0 {
            file.set_len(end as u64)?;
            file.sync()?;
        }
        Ok((TailFile { number, path, file, end: end as u64 }, content))
    }

    /// Appends events and syncs them, of which the first `room` go into a chunk that is open. Tells how their lines were
    /// compressed. On a failure nothing is stored: what was written of it is written over.
    pub fn append(&mut self, events: &[Prepared<'_>], room: usize) -> io::Result<Vec<Segment>> {
        let (frame, segments) = frame_of(events, room)?;
        self.file.write_all_at(&frame, self.end)?;
        self.file.sync()?;
        self.end += frame.len() as u64;
        Ok(segments)
    }

    pub fn bytes(&self) -> u64 {
        self.end
    }
}

impl TailContent {
    /// Finds the whole frames. Damage between two costs what lies there, not what follows.
    fn of(bytes: Vec<u8>) -> TailContent {
        let mut content = TailContent { bytes, frames: Vec::new(), events: 0, cut: 0, damaged: Vec::new() };
        let mut at = 0;
        while at < content.bytes.len() {
            let Some((from, frame)) = content.next_frame(at) else { break };
            if from > at {
                content.damaged.push(at..from);
            }
            content.events += Frame::read(&content.bytes[frame.clone()]).and_then(|frame| frame.count()).unwrap_or(0);
            at = frame.end;
            content.frames.push(frame);
        }
        content
    }

    /// The next whole frame from a place on.
    fn next_frame(&self, at: usize) -> Option<(usize, Range<usize>)> {
        if let Some(end) = whole_frame(&self.bytes, at) {
            return Some((at, at..end));
        }
        let mut magics = memchr::memchr_iter(FRAME_MAGIC[0], &self.bytes[at + 1..]).map(|found| at + 1 + found);
        magics.find_map(|from| whole_frame(&self.bytes, from).map(|end| (from, from..end)))
    }

    /// The bytes of a stretch that is damaged.
    pub fn stretch(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The events in memory; also the places of frames that are whole and yet cannot be read.
    pub fn load(&self) -> (TailMemory, Vec<usize>) {
        let (mut memory, mut unread) = (TailMemory::default(), Vec::new());
        for range in &self.frames {
            let entered = Frame::read(&self.bytes[range.clone()])
                .and_then(Frame::expanded)
                .and_then(|frame| memory.enter_frame(&frame));
            if entered.is_none() {
                unread.push(range.start);
            }
        }
        (memory, unread)
    }
}

/// Where the frame at a place ends, if a whole one begins there.
fn whole_frame(bytes: &[u8], at: usize) -> Option<usize> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<FRAME_HEAD>()?;
    if !(head[..4] == FRAME_MAGIC || head[..4] == FRAME_MAGIC_1) {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let (len, crc, last) = (word(4) as usize, word(8), word(12));
    let packed = rest.get(..len)?;
    (crc32c::crc32c_append(last, packed) == crc).then_some(at + FRAME_HEAD + len)
}

/// A frame that was read.
struct Frame {
    /// The first segment, expanded.
    heads: Vec<u8>,
    segments: Vec<Segment>,
    /// The lines, when they are expanded.
    text: Vec<u8>,
}

impl Frame {
    /// Reads a frame that is whole; its lines stay compressed.
    fn read(bytes: &[u8]) -> Option<Frame> {
        let (head, mut rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
        let last = u32::from_le_bytes(*head.last_chunk()?);
        let mut heads = Vec::new();
        if head[..4] == FRAME_MAGIC_1 {
            Segment { bytes: rest.into(), len: last as usize }.bounded()?.expand(&mut heads).ok()?;
            return Some(Frame { heads, segments: Vec::new(), text: Vec::new() });
        }
        take_segment(&mut rest)?.expand(&mut heads).ok()?;
        let segments: Vec<Segment> = (1..last).map(|_| take_segment(&mut rest)).collect::<Option<_>>()?;
        let is_whole = rest.is_empty() && segments.iter().map(|segment| segment.len).sum::<usize>() <= MAX_FRAME;
        is_whole.then_some(Frame { heads, segments, text: Vec::new() })
    }

    fn expanded(mut self) -> Option<Frame> {
        self.segments.iter().try_for_each(|segment| segment.expand(&mut self.text)).ok()?;
        Some(self)
    }

    /// How many events it has.
    fn count(&self) -> Option<u64> {
        take_varint(&mut &self.heads[..])
    }
}

impl Segment {
    fn bounded(self) -> Option<Segment> {
        (self.len <= MAX_FRAME).then_some(self)
    }
}

fn take_segment(rest: &mut &[u8]) -> Option<Segment> {
    let (head, more) = rest.split_first_chunk::<SEGMENT_HEAD>()?;
    let (packed, len) = (u32::from_le_bytes(*head.first_chunk()?), u32::from_le_bytes(*head.last_chunk()?));
    let (bytes, more) = more.split_at_checked(packed as usize)?;
    *rest = more;
    Segment { bytes: bytes.into(), len: len as usize }.bounded()
}

fn frame_of(events: &[Prepared<'_>], room: usize) -> io::Result<(Vec<u8>, Vec<Segment>)> {
    let mut heads = Vec::with_capacity(events.len() * 32);
    put_varint(&mut heads, events.len() as u64);
    let (mut seq, mut received) = (0u64, 0i64);
    for Prepared { event, .. } in events {
        put_varint(&mut heads, event.seq.wrapping_sub(seq));
        put_varint(&mut heads, event.received_at.0.wrapping_sub(received) as u64);
        heads.extend_from_slice(&event.seed.0);
        put_varint(&mut heads, event.ordinal);
        (seq, received) = (event.seq, event.received_at.0);
    }
    events.iter().for_each(|Prepared { event, .. }| put_varint(&mut heads, event.line.len() as u64));
    let (first, others) = events.split_at(room.min(events.len()));
    let mut segments = Vec::with_capacity(2 + others.len() / CHUNK);
    let mut text = Vec::with_capacity(CHUNK * 1024);
    for some in Some(first).filter(|first| !first.is_empty()).into_iter().chain(others.chunks(CHUNK)) {
        text.clear();
        some.iter().for_each(|Prepared { event, .. }| text.extend_from_slice(event.line));
        segments.push(Segment::of(&text)?);
    }
    if segments.iter().map(|segment| segment.len).sum::<usize>() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write of more than 1 GiB"));
    }
    Ok((frame_with(&Segment::of(&heads)?, &segments), segments))
}

fn frame_with(heads: &Segment, lines: &[Segment]) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEAD];
    for segment in Some(heads).into_iter().chain(lines) {
        frame.extend_from_slice(&(segment.bytes.len() as u32).to_le_bytes());
        frame.extend_from_slice(&(segment.len as u32).to_le_bytes());
        frame.extend_from_slice(&segment.bytes);
    }
    let (len, segments) = ((frame.len() - FRAME_HEAD) as u32, lines.len() as u32 + 1);
    let crc = crc32c::crc32c_append(segments, &frame[FRAME_HEAD..]);
    frame[..4].copy_from_slice(&FRAME_MAGIC);
    for (nth, word) in [len, crc, segments].into_iter().enumerate() {
        frame[4 + nth * 4..8 + nth * 4].copy_from_slice(&word.to_le_bytes());
    }
    frame
}

/// The events of a tail in memory.
#[derive(Default)]
pub struct TailMemory {
    closed: Vec<Arc<TailChunk>>,
    open: TailChunk,
    grams: GramSet,
    columns: Builder,
    seeds: Vec<Seed>,
    seed_numbers: HashMap<Seed, u32, Seeded>,
    by_id: HashMap<Id, u32, Seeded>,
    pub events: usize,
    pub line_bytes: usize,
    pub max_seq: u64,
    weight: usize,
}

impl TailMemory {
    /// Adds the events of a frame, or none where it is broken.
    fn enter_frame(&mut self, frame: &Frame) -> Option<()> {
        let mut rest = &frame.heads[..];
        let count = take_varint(&mut rest)? as usize;
        let (mut heads, mut seq, mut received) = (Vec::with_capacity(count.min(rest.len())), 0u64, 0i64);
        for _ in 0..count {
            seq = seq.wrapping_add(take_varint(&mut rest)?);
            received = received.wrapping_add(take_varint(&mut rest)? as i64);
            let (seed, more) = rest.split_first_chunk::<16>()?;
            rest = more;
            heads.push((seq, received, Seed(*seed), take_varint(&mut rest)?));
        }
        let lengths: Option<Vec<usize>> = (0..count).map(|_| take_varint(&mut rest).map(|len| len as usize)).collect();
        let lengths = lengths?;
        let mut text = if frame.segments.is_empty() { rest } else { &frame.text[..] };
        if lengths.iter().try_fold(0usize, |sum, len| sum.checked_add(*len)) != Some(text.len()) {
            return None;
        }
        let (mut events, mut members) = (Vec::with_capacity(count), Vec::new());
        for ((seq, received, seed, ordinal), len) in heads.into_iter().zip(lengths) {
            let (line, more) = text.split_at(len);
            text = more;
            let event = NewEvent { seq, received_at: Timestamp(received), seed, ordinal, line };
            events.push(event.prepare(&mut members));
        }
        self.enter(&events, &members, &frame.segments).ok()
    }

    /// How many events fit the open chunk.
    pub fn room(&self) -> usize {
        CHUNK - self.open.rows.len()
    }

    /// Adds events that are on disk, with their lines as [`TailFile::append`] has compressed them.
    pub fn enter(
        &mut self,
        events: &[Prepared<'_>],
        members: &[(&[u8], Raw<'_>)],
        segments: &[Segment],
    ) -> io::Result<()> {
        let (mut rest, mut segments) = (events, segments.iter());
        while !rest.is_empty() {
            let (some, more) = rest.split_at(self.room().min(rest.len()));
            rest = more;
            self.open.segments.extend(segments.next().cloned());
            for event in some {
                self.enter_one(event, members);
            }
            if self.room() == 0 {
                self.close_chunk()?;
            }
        }
        Ok(())
    }

    fn enter_one(&mut self, prepared: &Prepared<'_>, members: &[(&[u8], Raw<'_>)]) {
        let Prepared { event, id, is_own_id, time, members: (from, to) } = *prepared;
        let members = &members[from as usize..to as usize];
        // Events of one origin come one after another.
        let seed = match self.open.rows.last() {
            Some(last) if self.seeds[last.seed as usize] == event.seed => last.seed,
            _ => *self.seed_numbers.entry(event.seed).or_insert_with(|| {
                self.seeds.push(event.seed);
                self.seeds.len() as u32 - 1
            }),
        };
        let received = event.received_at.0;
        let head = RowHead { seq: event.seq, received, time, seed, ordinal: event.ordinal, id, is_own_id };
        self.by_id.entry(id).or_insert(self.events as u32);
        if event.seq < IMPORTED {
            self.max_seq = self.max_seq.max(event.seq);
        }
        self.events += 1;
        self.line_bytes += event.line.len();
        self.grams.add_event(members);
        self.columns.add_event(members);
        self.open.push(head, event.line);
    }

    fn close_chunk(&mut self) -> io::Result<()> {
        let mut chunk = std::mem::take(&mut self.open);
        chunk.close(self.grams.take(), self.columns.take())?;
        self.weight += chunk.weight();
        self.closed.push(Arc::new(chunk));
        Ok(())
    }

    /// Every event so far, indexed: what a part is made of. The memory is empty afterwards.
    pub fn freeze(&mut self, number: u64, path: PathBuf) -> io::Result<Frozen> {
        if !self.open.rows.is_empty() {
            self.close_chunk()?;
        }
        let memory = std::mem::take(self);
        Ok(Frozen { number, path, view: TailView { chunks: memory.closed }, seeds: memory.seeds })
    }

    pub fn view(&self) -> TailView {
        let mut chunks = self.closed.clone();
        if !self.open.rows.is_empty() {
            chunks.push(Arc::new(self.open.clone()));
        }
        TailView { chunks }
    }

    /// The line stored under this id.
    pub fn find(&self, id: Id) -> io::Result<Option<Vec<u8>>> {
        let Some(row) = self.by_id.get(&id).map(|row| *row as usize) else { return Ok(None) };
        let chunk = self.closed.get(row / CHUNK).map_or(&self.open, |chunk| chunk);
        Ok(Some(chunk.lines()?.line(row % CHUNK).to_vec()))
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.weight + self.open.weight() + self.events * 40
    }
}

/// A tail that takes no more and becomes a part.
pub struct Frozen {
    pub number: u64,
    pub path: PathBuf,
    pub view: TailView,
    pub seeds: Vec<Seed>,
}
