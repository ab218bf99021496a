//! The tail: the newest events before they become a part, in memory by chunks and on disk in a framed file.
//!
//! A frame is `magic, length, CRC-32C, number of segments` (four bytes each) and its segments. A segment is `packed length,
//! expanded length` (four bytes each) and LZ4 data. The first segment has for each event its `seq`, time of receipt, seed
//! and ordinal, then the length of each line. The others have the lines, each those of one chunk, and are read from the file
//! again when somebody asks for lines: in memory is what searches need to know which. A frame is synced before its events
//! count as stored. What follows the last whole frame was never acknowledged and is cut off at the start; damage between two
//! costs what lies there. Frames of format 1 have one segment with everything.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::IMPORTED;
use super::bits::CHUNK;
use super::coded::Columns;
use super::disk::{Disk, DiskFile};
use super::grams::Hashes;
use super::layout::Shape;
use super::members::{Members, Walked};
use super::segment::{SEGMENT_HEAD, Segment, expand, take_segment, unpack};
use super::split::WHOLE;
use crate::event::time::Moment;
use crate::event::{Id, Seed};
use crate::units::Timestamp;
use crate::varint::{put_varint, take_varint};

const FRAME_MAGIC: [u8; 4] = *b"WTf2";
/// Frames of format 1 are read.
const FRAME_MAGIC_1: [u8; 4] = *b"WTf\n";
const FRAME_HEAD: usize = 16;
/// No frame is larger than this when expanded.
pub const MAX_FRAME: usize = 1 << 30;
/// A larger buffer of lines is not kept for the next chunk.
const MAX_BUFFER: usize = 1 << 20;

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
    /// Whether the value of `timestamp` is that time and nothing else.
    pub is_own_time: bool,
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
    pub time: i64,
    /// Whether the value of `timestamp` is that time and nothing else.
    pub is_own_time: bool,
    pub members: Members,
}

impl<'a> NewEvent<'a> {
    /// Looks through the line; `walked` receives its members.
    pub fn prepare(&self, walked: &mut Walked<'a>) -> Prepared<'a> {
        let members = walked.add(self.line);
        let (shape, values) = (walked.shape(members), walked.values(members));
        let text = |place: Option<usize>| place.and_then(|place| values[place].as_str());
        let derived = self.seed.id(self.ordinal);
        let given = shape.id.map(|place| values[place]).filter(|id| !id.is_null());
        let own = text(shape.id).and_then(|text| Id::parse(&text));
        // What its producer calls it may be no id of ours: then the derived one follows from that.
        let is_foreign = own.is_none() && given.is_some_and(|id| !id.display().is_empty());
        let own = own.filter(|id| *id != derived);
        let timestamp = text(shape.timestamp);
        let moment = timestamp.as_deref().and_then(Moment::parse);
        // White space around a time is no part of it, and yet of the value.
        let is_own_time = moment.is_some() && timestamp.is_some_and(|text| text.trim() == text);
        Prepared {
            event: *self,
            id: own.unwrap_or(derived),
            is_own_id: own.is_some() || is_foreign,
            time: moment.map_or(self.received_at.0, |moment| moment.timestamp().0),
            is_own_time,
            members,
        }
    }
}

/// Up to [`CHUNK`] events.
#[derive(Clone, Debug, Default)]
pub struct TailChunk {
    pub rows: Vec<RowHead>,
    /// What a search may ask for; empty while the chunk is open, or loaded and not indexed yet.
    pub hashes: Hashes,
    /// What is most asked for; empty while the chunk is open.
    pub columns: Columns,
    pub min_time: i64,
    pub max_time: i64,
    ends: Vec<u32>,
    /// The shape of each line, and the lengths of its values, unless it is kept whole.
    pub shapes: Vec<u16>,
    pub lengths: Vec<u8>,
    /// The lines as they were submitted; empty when the chunk is full, or filled by one write.
    plain: Arc<Vec<u8>>,
    is_filled_at_once: bool,
    /// The same, compressed.
    pub segments: Vec<Segment>,
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
    /// The lines of a chunk that is open.
    pub fn open_lines(&self) -> ChunkLines {
        ChunkLines { text: self.plain.clone(), ends: self.ends.clone() }
    }

    pub fn lines(&self) -> io::Result<ChunkLines> {
        let text = if self.columns.is_empty() {
            self.plain.clone()
        } else {
            let mut text = Vec::with_capacity(self.ends.last().map_or(0, |end| *end as usize));
            expand(&self.segments, &mut text)?;
            Arc::new(text)
        };
        Ok(ChunkLines { text, ends: self.ends.clone() })
    }

    /// Bytes of all lines.
    pub fn line_bytes(&self) -> u64 {
        self.ends.last().map_or(0, |end| u64::from(*end))
    }

    /// Shows each line with its values: of a line kept whole, none.
    pub fn each_line(
        &self,
        shapes: &[Shape],
        mut each: impl FnMut(&RowHead, &[u8], u32, &[&[u8]]) -> io::Result<()>,
    ) -> io::Result<()> {
        let lines = self.lines()?;
        let (mut lengths, mut values) = (&self.lengths[..], Vec::new());
        for (nth, head) in self.rows.iter().enumerate() {
            let (line, shape) = (lines.line(nth), u32::from(self.shapes[nth]));
            values.clear();
            let mut rest = line;
            let pieces = if shape == WHOLE { &[] } else { &shapes[shape as usize].pieces[1..] };
            rest =
                rest.get(if shape == WHOLE { 0 } else { shapes[shape as usize].pieces[0].len() }..).unwrap_or_default();
            for piece in pieces {
                let broken = || io::Error::other("the values of a line in memory cannot be found");
                let len = take_varint(&mut lengths).ok_or_else(broken)? as usize;
                let (value, more) = rest.split_at_checked(len).ok_or_else(broken)?;
                values.push(value);
                rest = more.get(piece.len()..).ok_or_else(broken)?;
            }
            each(head, line, shape, &values)?;
        }
        Ok(())
    }

    pub fn push(&mut self, head: RowHead, line: &[u8]) {
        let is_first = self.rows.is_empty();
        self.min_time = if is_first { head.time } else { self.min_time.min(head.time) };
        self.max_time = if is_first { head.time } else { self.max_time.max(head.time) };
        self.rows.push(head);
        self.ends.push((self.line_bytes() as usize + line.len()) as u32);
        if !self.is_filled_at_once {
            Arc::make_mut(&mut self.plain).extend_from_slice(line);
        }
    }

    /// Adds what lines that come next were compressed to. If these fill the chunk, nobody reads it while it is open.
    pub fn add_segment(&mut self, segment: Segment, fills: bool) {
        self.is_filled_at_once = fills;
        self.segments.push(segment);
    }

    /// Tells the buffer of its lines, emptied, for the next one.
    pub fn close(&mut self, hashes: Hashes, columns: Columns) -> io::Result<Vec<u8>> {
        let known: usize = self.segments.iter().map(|segment| segment.line_bytes()).sum();
        if !self.is_filled_at_once && known != self.plain.len() {
            self.segments = vec![Segment::of(&self.plain)?];
        }
        self.segments.shrink_to_fit();
        (self.hashes, self.columns) = (hashes, columns);
        let plain = Arc::try_unwrap(std::mem::take(&mut self.plain)).unwrap_or_default();
        let mut plain = if plain.capacity() > MAX_BUFFER { Vec::new() } else { plain };
        plain.clear();
        Ok(plain)
    }

    /// An empty chunk with room for as much as another one has.
    pub fn as_large_as(other: &TailChunk) -> TailChunk {
        TailChunk {
            rows: Vec::with_capacity(CHUNK),
            ends: Vec::with_capacity(CHUNK),
            shapes: Vec::with_capacity(CHUNK),
            lengths: Vec::with_capacity(other.lengths.len() + other.lengths.len() / 8),
            ..TailChunk::default()
        }
    }

    pub fn take_buffer(&mut self, buffer: Vec<u8>) {
        self.plain = Arc::new(buffer);
    }

    /// Packed bytes of its lines, wherever they are.
    pub fn packed_bytes(&self) -> usize {
        self.segments.iter().map(Segment::packed_len).sum()
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        let packed: usize = self.segments.iter().map(Segment::weight).sum();
        packed
            + self.segments.len() * std::mem::size_of::<Segment>()
            + self.plain.len()
            + self.columns.weight()
            + self.hashes.weight()
            + self.lengths.len()
            + self.rows.len() * (std::mem::size_of::<RowHead>() + 6)
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
    file: Arc<DiskFile>,
    end: u64,
}

/// What the file of a tail had when it was opened.
pub struct TailContent {
    file: Arc<DiskFile>,
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
        let (tail, content) = TailFile::read(disk, dir, number)?;
        if content.cut > 0 {
            tail.file.set_len(tail.end)?;
            tail.file.sync()?;
        }
        Ok((tail, content))
    }

    /// The same without cutting off anything.
    fn read(disk: &Disk, dir: &Path, number: u64) -> io::Result<(TailFile, TailContent)> {
        let path = dir.join(tail_name(number));
        let file = Arc::new(disk.open_or_create(&path)?);
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let content = TailContent::of(bytes, file.clone());
        let end = content.bytes.len() as u64 - content.cut;
        Ok((TailFile { number, path, file, end }, content))
    }

    /// What can be read of a tail that takes no more. All of it was acknowledged, so nothing is cut off: what follows the
    /// last whole frame is damage as well.
    pub fn read_again(disk: &Disk, dir: &Path, number: u64) -> io::Result<(TailFile, TailContent)> {
        let (tail, mut content) = TailFile::read(disk, dir, number)?;
        if content.cut > 0 {
            content.damaged.push(tail.end as usize..content.bytes.len());
        }
        Ok((tail, content))
    }

    /// Appends events and syncs them, of which the first `room` go into a chunk that is open. Tells how their lines were
    /// compressed. On a failure nothing is stored: what was written of it is written over.
    pub fn append(&mut self, events: &[Prepared<'_>], room: usize) -> io::Result<Vec<Segment>> {
        let (frame, mut segments) = frame_of(events, room)?;
        self.file.write_all_at(&frame, self.end)?;
        self.file.sync()?;
        self.end += frame.len() as u64;
        // The lines are the end of the frame.
        let mut end = self.end;
        for segment in segments.iter_mut().rev() {
            let start = end - segment.packed_len() as u64;
            segment.is_at(&self.file, start);
            end = start - SEGMENT_HEAD as u64;
        }
        Ok(segments)
    }

    pub fn bytes(&self) -> u64 {
        self.end
    }
}

impl TailContent {
    /// Finds the whole frames. Damage between two costs what lies there, not what follows.
    fn of(bytes: Vec<u8>, file: Arc<DiskFile>) -> TailContent {
        let mut content = TailContent { file, bytes, frames: Vec::new(), events: 0, cut: 0, damaged: Vec::new() };
        let mut at = 0;
        while at < content.bytes.len() {
            let Some((from, frame)) = content.next_frame(at) else { break };
            if from > at {
                content.damaged.push(at..from);
            }
            content.events +=
                WholeFrame::read(&content.bytes[frame.clone()]).and_then(|frame| frame.count()).unwrap_or(0);
            at = frame.end;
            content.frames.push(frame);
        }
        content.cut = (content.bytes.len() - at) as u64;
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

    /// Of a tail of which something is damaged or cut off: the number of the newest event that was read before that, if
    /// there is one.
    pub fn newest_before_damage(&self) -> Option<Option<u64>> {
        let cut = (self.cut > 0).then(|| self.bytes.len() - self.cut as usize);
        let damage = self.damaged.first().map(|range| range.start).or(cut)?;
        let frames = self.frames.iter().filter(|frame| frame.end <= damage);
        let read = |range: &Range<usize>| WholeFrame::read(&self.bytes[range.clone()]).and_then(|frame| frame.newest());
        Some(frames.filter_map(read).max())
    }

    /// The bytes of a stretch that is damaged.
    pub fn stretch(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The frames by their places; none where a frame is whole and yet cannot be read.
    pub fn frames(&self) -> impl Iterator<Item = (usize, Option<Frame>)> {
        let read = |range: &Range<usize>| {
            WholeFrame::read(&self.bytes[range.clone()])?.expanded(&self.file, range.start as u64)
        };
        self.frames.iter().map(move |range| (range.start, read(range)))
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

/// The events of a frame.
pub struct Frame {
    /// The first segment, expanded.
    pub heads: Vec<u8>,
    /// Where the lines lie in the file.
    pub segments: Vec<Segment>,
    /// The lines.
    pub text: Vec<u8>,
}

/// A frame that is whole; its lines are compressed.
struct WholeFrame<'a> {
    /// The first segment, expanded.
    heads: Vec<u8>,
    /// The others: where each begins in the frame, its packed bytes, and how many it is expanded.
    segments: Vec<(usize, &'a [u8], usize)>,
}

impl<'a> WholeFrame<'a> {
    fn read(bytes: &'a [u8]) -> Option<WholeFrame<'a>> {
        let (head, mut rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
        let last = u32::from_le_bytes(*head.last_chunk()?);
        let mut heads = Vec::new();
        if head[..4] == FRAME_MAGIC_1 {
            let len = (last as usize <= MAX_FRAME).then_some(last as usize)?;
            unpack(rest, len, &mut heads).ok()?;
            return Some(WholeFrame { heads, segments: Vec::new() });
        }
        let mut take = || {
            let (packed, len) = take_segment(&mut rest)?;
            Some((bytes.len() - rest.len() - packed.len(), packed, len))
        };
        let (_, packed, len) = take()?;
        unpack(packed, len, &mut heads).ok()?;
        let segments: Vec<_> = (1..last).map(|_| take()).collect::<Option<_>>()?;
        let is_whole = rest.is_empty() && segments.iter().map(|(.., len)| len).sum::<usize>() <= MAX_FRAME;
        is_whole.then_some(WholeFrame { heads, segments })
    }

    /// The same with its lines expanded, as it begins at this place of a file.
    fn expanded(self, file: &Arc<DiskFile>, start: u64) -> Option<Frame> {
        let (mut text, mut segments) = (Vec::new(), Vec::with_capacity(self.segments.len()));
        for (at, packed, len) in self.segments {
            unpack(packed, len, &mut text).ok()?;
            segments.push(Segment::at(file, start + at as u64, packed, len));
        }
        Some(Frame { heads: self.heads, segments, text })
    }

    /// The greatest number among its events that were not imported.
    fn newest(&self) -> Option<u64> {
        let mut heads = &self.heads[..];
        let (mut seq, mut newest) = (0u64, None);
        for _ in 0..take_varint(&mut heads)? {
            seq = seq.wrapping_add(take_varint(&mut heads)?);
            take_varint(&mut heads)?;
            heads = heads.get(16..)?;
            take_varint(&mut heads)?;
            newest = newest.max(Some(seq).filter(|seq| *seq < IMPORTED));
        }
        newest
    }

    /// How many events it has.
    fn count(&self) -> Option<u64> {
        take_varint(&mut &self.heads[..])
    }
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
    if segments.iter().map(|segment| segment.line_bytes()).sum::<usize>() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write of more than 1 GiB"));
    }
    Ok((frame_with(&Segment::of(&heads)?, &segments), segments))
}

/// Of segments in memory.
fn frame_with(heads: &Segment, lines: &[Segment]) -> Vec<u8> {
    let segments = || Some(heads).into_iter().chain(lines);
    let len = segments().map(|segment| SEGMENT_HEAD + segment.packed_len()).sum::<usize>();
    let mut frame = Vec::with_capacity(FRAME_HEAD + len);
    frame.resize(FRAME_HEAD, 0);
    let mut crc = lines.len() as u32 + 1;
    for segment in segments() {
        crc = segment.write(&mut frame, crc);
    }
    let (len, segments) = (len as u32, lines.len() as u32 + 1);
    frame[..4].copy_from_slice(&FRAME_MAGIC);
    for (nth, word) in [len, crc, segments].into_iter().enumerate() {
        frame[4 + nth * 4..8 + nth * 4].copy_from_slice(&word.to_le_bytes());
    }
    frame
}
