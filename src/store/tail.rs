//! The newest events, before they become a part: in memory by chunks, and on disk in a file of frames.
//!
//! A frame is `magic, length, CRC-32C, expanded length` (four bytes each) and LZ4 data: for each event its `seq`, time of
//! receipt, seed and ordinal, then the length of each line, then the lines. A frame is synced before its events count
//! as stored. What follows the last whole frame was never acknowledged and is cut off at the start.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bits::CHUNK;
use super::grams::GramSet;
use crate::event::time::Moment;
use crate::event::{Id, Raw, Seed};
use crate::units::Timestamp;
use crate::varint::{put_varint, take_varint};

const FRAME_MAGIC: [u8; 4] = *b"WTf\n";
const FRAME_HEAD: usize = 16;
/// No frame is larger than this when expanded.
const MAX_FRAME: usize = 1 << 30;

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

impl NewEvent<'_> {
    /// The id of the event, and whether its producer gave it: a derived one may stand in the line as well.
    pub fn id(&self) -> (Id, bool) {
        let derived = self.seed.id(self.ordinal);
        let own = Raw::valid(self.line).get("id").and_then(|id| id.as_str()).and_then(|text| Id::parse(&text));
        match own {
            Some(id) if id != derived => (id, true),
            _ => (derived, false),
        }
    }

    fn time(&self) -> i64 {
        let written = Raw::valid(self.line).get("timestamp").and_then(|value| value.as_str());
        let moment = written.and_then(|text| Moment::parse(&text));
        moment.map_or(self.received_at.0, |moment| moment.timestamp().0)
    }
}

/// Up to [`CHUNK`] events.
#[derive(Clone, Debug, Default)]
pub struct TailChunk {
    pub rows: Vec<RowHead>,
    /// What a search may ask for, ascending; empty while the chunk is open.
    pub hashes: Vec<u32>,
    pub min_time: i64,
    pub max_time: i64,
    ends: Vec<u32>,
    text: Text,
}

#[derive(Clone, Debug)]
enum Text {
    Plain(Arc<Vec<u8>>),
    Packed { bytes: Arc<Vec<u8>>, len: usize },
}

impl Default for Text {
    fn default() -> Text {
        Text::Plain(Arc::default())
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
        let text = match &self.text {
            Text::Plain(text) => text.clone(),
            Text::Packed { bytes, len } => Arc::new(lz4::block::decompress(bytes, Some(*len as i32))?),
        };
        Ok(ChunkLines { text, ends: self.ends.clone() })
    }

    fn push(&mut self, head: RowHead, line: &[u8]) {
        let is_first = self.rows.is_empty();
        self.min_time = if is_first { head.time } else { self.min_time.min(head.time) };
        self.max_time = if is_first { head.time } else { self.max_time.max(head.time) };
        self.rows.push(head);
        if let Text::Plain(text) = &mut self.text {
            let text = Arc::make_mut(text);
            text.extend_from_slice(line);
            self.ends.push(text.len() as u32);
        }
    }

    fn close(&mut self, hashes: Vec<u32>) -> io::Result<()> {
        self.hashes = hashes;
        if let Text::Plain(text) = &self.text {
            let bytes = lz4::block::compress(text, None, false)?;
            self.text = Text::Packed { len: text.len(), bytes: Arc::new(bytes) };
        }
        Ok(())
    }

    fn weight(&self) -> usize {
        let text = match &self.text {
            Text::Plain(text) => text.len(),
            Text::Packed { bytes, .. } => bytes.len(),
        };
        text + self.hashes.len() * 4 + self.rows.len() * (std::mem::size_of::<RowHead>() + 4)
    }
}

/// What readers see of a tail; it does not change.
#[derive(Clone, Default)]
pub struct TailView {
    pub chunks: Vec<Arc<TailChunk>>,
}

/// The file name of a tail.
pub fn tail_name(number: u64) -> String {
    format!("{number:010}.tail")
}

/// The file of a tail.
pub struct TailFile {
    pub number: u64,
    pub path: PathBuf,
    file: File,
    end: u64,
}

impl TailFile {
    /// Begins a new tail, or goes on with the frames that are there. Tells how many bytes behind the last whole frame
    /// were cut off.
    pub fn open(dir: &Path, number: u64) -> io::Result<(TailFile, TailMemory, u64)> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = dir.join(tail_name(number));
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let mut tail = TailFile { number, path, file, end: 0 };
        let mut memory = TailMemory::default();
        let len = tail.file.metadata()?.len();
        while let Some((raw, next)) = tail.read_frame(tail.end, len)? {
            if memory.enter_frame(&raw).is_none() {
                break;
            }
            tail.end = next;
        }
        let cut = len - tail.end;
        if cut > 0 {
            tail.file.set_len(tail.end)?;
            tail.file.sync_all()?;
        }
        Ok((tail, memory, cut))
    }

    /// The expanded frame at an offset, and where the next begins; none where no whole one is.
    fn read_frame(&self, at: u64, len: u64) -> io::Result<Option<(Vec<u8>, u64)>> {
        let mut head = [0; FRAME_HEAD];
        if at + FRAME_HEAD as u64 > len {
            return Ok(None);
        }
        self.file.read_exact_at(&mut head, at)?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let (packed_len, crc, raw_len) = (u64::from(word(4)), word(8), word(12) as usize);
        let body_at = at + FRAME_HEAD as u64;
        if head[..4] != FRAME_MAGIC || body_at + packed_len > len || raw_len > MAX_FRAME {
            return Ok(None);
        }
        let mut packed = vec![0; packed_len as usize];
        self.file.read_exact_at(&mut packed, body_at)?;
        if crc32c::crc32c_append(raw_len as u32, &packed) != crc {
            return Ok(None);
        }
        let raw = lz4::block::decompress(&packed, Some(raw_len as i32)).ok();
        Ok(raw.map(|raw| (raw, body_at + packed_len)))
    }

    /// Appends events and syncs them. On a failure nothing is stored: what was written of it is written over.
    pub fn append(&mut self, events: &[(NewEvent<'_>, (Id, bool))]) -> io::Result<()> {
        let frame = frame_of(events)?;
        self.file.write_all_at(&frame, self.end)?;
        self.file.sync_data()?;
        self.end += frame.len() as u64;
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.end
    }
}

fn frame_of(events: &[(NewEvent<'_>, (Id, bool))]) -> io::Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(events.iter().map(|(event, _)| event.line.len() + 32).sum());
    put_varint(&mut raw, events.len() as u64);
    let (mut seq, mut received) = (0u64, 0i64);
    for (event, _) in events {
        put_varint(&mut raw, event.seq.wrapping_sub(seq));
        put_varint(&mut raw, event.received_at.0.wrapping_sub(received) as u64);
        raw.extend_from_slice(&event.seed.0);
        put_varint(&mut raw, event.ordinal);
        (seq, received) = (event.seq, event.received_at.0);
    }
    events.iter().for_each(|(event, _)| put_varint(&mut raw, event.line.len() as u64));
    events.iter().for_each(|(event, _)| raw.extend_from_slice(event.line));
    if raw.len() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write of more than 1 GiB"));
    }
    let packed = lz4::block::compress(&raw, None, false)?;
    let mut frame = Vec::with_capacity(FRAME_HEAD + packed.len());
    frame.extend_from_slice(&FRAME_MAGIC);
    frame.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c_append(raw.len() as u32, &packed).to_le_bytes());
    frame.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    frame.extend_from_slice(&packed);
    Ok(frame)
}

/// The events of a tail in memory.
#[derive(Default)]
pub struct TailMemory {
    closed: Vec<Arc<TailChunk>>,
    open: TailChunk,
    grams: GramSet,
    seeds: Vec<Seed>,
    seed_numbers: HashMap<Seed, u32>,
    by_id: HashMap<Id, u32>,
    pub events: usize,
    pub line_bytes: usize,
    pub max_seq: u64,
    weight: usize,
}

impl TailMemory {
    fn enter_frame(&mut self, raw: &[u8]) -> Option<()> {
        let mut rest = raw;
        let count = take_varint(&mut rest)? as usize;
        let (mut heads, mut seq, mut received) = (Vec::with_capacity(count.min(raw.len())), 0u64, 0i64);
        for _ in 0..count {
            seq = seq.wrapping_add(take_varint(&mut rest)?);
            received = received.wrapping_add(take_varint(&mut rest)? as i64);
            let (seed, more) = rest.split_first_chunk::<16>()?;
            rest = more;
            heads.push((seq, received, Seed(*seed), take_varint(&mut rest)?));
        }
        let lengths: Option<Vec<usize>> = (0..count).map(|_| take_varint(&mut rest).map(|len| len as usize)).collect();
        let lengths = lengths?;
        if lengths.iter().sum::<usize>() != rest.len() {
            return None;
        }
        for ((seq, received, seed, ordinal), len) in heads.into_iter().zip(lengths) {
            let (line, more) = rest.split_at(len);
            rest = more;
            let event = NewEvent { seq, received_at: Timestamp(received), seed, ordinal, line };
            self.enter(&event, event.id()).ok()?;
        }
        Some(())
    }

    /// Adds an event that is on disk.
    pub fn enter(&mut self, event: &NewEvent<'_>, (id, is_own_id): (Id, bool)) -> io::Result<()> {
        let seed = *self.seed_numbers.entry(event.seed).or_insert_with(|| {
            self.seeds.push(event.seed);
            self.seeds.len() as u32 - 1
        });
        let head = RowHead {
            seq: event.seq,
            received: event.received_at.0,
            time: event.time(),
            seed,
            ordinal: event.ordinal,
            id,
            is_own_id,
        };
        self.by_id.entry(id).or_insert(self.events as u32);
        self.max_seq = self.max_seq.max(event.seq);
        self.events += 1;
        self.line_bytes += event.line.len();
        self.grams.add_event(event.line);
        self.open.push(head, event.line);
        if self.open.rows.len() == CHUNK {
            self.close_chunk()?;
        }
        Ok(())
    }

    fn close_chunk(&mut self) -> io::Result<()> {
        let mut chunk = std::mem::take(&mut self.open);
        chunk.close(self.grams.take())?;
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
