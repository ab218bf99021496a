//! The events of a tail in memory, indexed as they come.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::IMPORTED;
use super::bits::CHUNK;
use super::coded::Builder;
use super::grams::{GramSet, Hashes};
use super::hashing::Seeded;
use super::id_table::IdTable;
use super::members::Walked;
use super::segment::Segment;
use super::split::{Shapes, WHOLE};
use super::tail::{ChunkLines, Frame, NewEvent, Prepared, RowHead, TailChunk, TailContent, TailView};
use super::text::BLOCK_ROWS;
use crate::event::{Id, Seed};
use crate::units::Timestamp;
use crate::varint::{put_varint, take_varint};

/// The events of a tail in memory.
#[derive(Default)]
pub struct TailMemory {
    closed: Vec<Arc<TailChunk>>,
    open: TailChunk,
    /// Of the open chunk. Its tables take a megabyte, so they are made when events arrive.
    grams: Option<GramSet>,
    columns: Builder,
    shapes: Shapes,
    seeds: Vec<Seed>,
    seed_numbers: HashMap<Seed, u32, Seeded>,
    by_id: IdTable,
    pub events: usize,
    pub line_bytes: usize,
    pub max_seq: u64,
    /// When the oldest event was received.
    pub oldest: Option<i64>,
    /// The same for the newest.
    pub newest: Option<i64>,
    weight: usize,
    /// Of the lines of closed chunks, wherever they are.
    packed_bytes: usize,
    /// Whether chunks are closed without their hashes, which take most of the time.
    is_loading: bool,
    /// Whether `grams` has nothing of the open chunk yet, since its events were loaded.
    is_open_unindexed: bool,
}

impl TailMemory {
    /// The events of a tail's file; also the places of frames that are whole and yet cannot be read. Full chunks have no
    /// hashes yet: [`indexed`] adds them.
    pub fn of(content: &TailContent) -> (TailMemory, Vec<usize>) {
        let (mut memory, mut unread) = (TailMemory { is_loading: true, ..TailMemory::default() }, Vec::new());
        for (at, frame) in content.frames() {
            if frame.and_then(|frame| memory.enter_frame(&frame)).is_none() {
                unread.push(at);
            }
        }
        (memory.is_loading, memory.is_open_unindexed) = (false, true);
        (memory, unread)
    }

    /// A full chunk, if there are so many.
    pub fn full_chunk(&self, nth: usize) -> Option<Arc<TailChunk>> {
        self.closed.get(nth).cloned()
    }

    /// Puts a chunk with its hashes in the place of the same without, unless that is gone.
    pub fn put_indexed(&mut self, nth: usize, before: &Arc<TailChunk>, indexed: TailChunk) {
        if let Some(place) = self.closed.get_mut(nth).filter(|place| Arc::ptr_eq(place, before)) {
            self.weight += indexed.hashes.weight();
            *place = Arc::new(indexed);
        }
    }

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
        // Frames of format 1 have lines behind the heads.
        let mut text = if frame.segments.is_empty() { rest } else { &frame.text[..] };
        if lengths.iter().try_fold(0usize, |sum, len| sum.checked_add(*len)) != Some(text.len()) {
            return None;
        }
        let (mut events, mut walked) = (Vec::with_capacity(count), Walked::default());
        for ((seq, received, seed, ordinal), len) in heads.into_iter().zip(lengths) {
            let (line, more) = text.split_at(len);
            text = more;
            let event = NewEvent { seq, received_at: Timestamp(received), seed, ordinal, line };
            events.push(event.prepare(&mut walked));
        }
        self.enter(&events, &walked, &frame.segments).ok()
    }

    /// How many events fit the open chunk.
    pub fn room(&self) -> usize {
        CHUNK - self.open.rows.len()
    }

    /// Adds events that are on disk, with their lines as [`TailFile::append`] has compressed them.
    pub fn enter(&mut self, events: &[Prepared<'_>], walked: &Walked<'_>, segments: &[Segment]) -> io::Result<()> {
        self.index_open();
        let (mut rest, mut segments, mut at, mut end) = (events, segments.iter().peekable(), 0, 0);
        // The numbers of the write's shapes in this tail.
        let mut numbers = vec![None; walked.shapes.len()];
        let mut last = Vec::new();
        while !rest.is_empty() {
            let (some, more) = rest.split_at(self.room().min(rest.len()));
            rest = more;
            // Where a write before was lost, chunks begin elsewhere than when the segments were made.
            let len: usize = some.iter().map(|event| event.event.line.len()).sum();
            while let Some(segment) = segments.next_if(|_| end <= at) {
                if end == at && segment.line_bytes() == len {
                    self.open.add_segment(segment.clone(), some.len() == CHUNK);
                }
                end += segment.line_bytes();
            }
            at += len;
            last.clear();
            for event in some {
                let shape = event.members.shape as usize;
                let number = *numbers[shape].get_or_insert_with(|| self.shapes.of(&walked.shapes[shape]));
                self.enter_one(event, walked, number, &mut last);
            }
            if self.room() == 0 {
                self.close_chunk()?;
            }
        }
        Ok(())
    }

    /// `last` has for each column the value before in this chunk: most members seldom change, and what a value is entered
    /// into has it already.
    fn enter_one<'a>(&mut self, prepared: &Prepared<'_>, walked: &Walked<'a>, shape: u32, last: &mut Vec<&'a [u8]>) {
        let Prepared { event, id, is_own_id, time, is_own_time, members } = *prepared;
        // Events of one origin come one after another.
        let seed = match self.open.rows.last() {
            Some(last) if self.seeds[last.seed as usize] == event.seed => last.seed,
            _ => *self.seed_numbers.entry(event.seed).or_insert_with(|| {
                self.seeds.push(event.seed);
                self.seeds.len() as u32 - 1
            }),
        };
        let received = event.received_at.0;
        self.oldest = Some(self.oldest.map_or(received, |oldest| oldest.min(received)));
        self.newest = self.newest.max(Some(received));
        let ordinal = event.ordinal;
        let head = RowHead { seq: event.seq, received, time, seed, ordinal, id, is_own_id, is_own_time };
        let id_of = |row| id_of(&self.closed, &self.open, row);
        self.by_id.insert(id, self.events as u32, id_of);
        if event.seq < IMPORTED {
            self.max_seq = self.max_seq.max(event.seq);
        }
        self.events += 1;
        self.line_bytes += event.line.len();
        let named = walked.shape(members).members.iter().zip(walked.values(members));
        let row = self.open.rows.len();
        if row.is_multiple_of(BLOCK_ROWS) {
            // Each block has its own numbers.
            last.clear();
        }
        let mut grams = (!self.is_loading).then(|| self.grams.get_or_insert_default());
        grams.iter_mut().for_each(|grams| grams.begin_row(row));
        let derived = head.derived_id();
        self.open.shapes.push(shape as u16);
        if shape == WHOLE {
            self.shapes.add(0, event.line, false, time, derived);
            for (member, value) in named {
                self.columns.add(member, *value, false);
                grams.iter_mut().for_each(|grams| grams.add(member, *value));
            }
            last.clear();
        } else {
            for (nth, (member, value)) in named.enumerate() {
                let (column, bytes) = (self.shapes.shapes[shape as usize].columns[nth], value.as_bytes());
                if last.len() <= column as usize {
                    last.resize(column as usize + 1, &[]);
                }
                let repeats = std::mem::replace(&mut last[column as usize], bytes) == bytes;
                put_varint(&mut self.open.lengths, bytes.len() as u64);
                self.shapes.add(column, bytes, repeats, time, derived);
                self.columns.add(member, *value, repeats);
                if !repeats {
                    grams.iter_mut().for_each(|grams| grams.add(member, *value));
                }
            }
        }
        self.columns.end_event();
        self.open.push(head, event.line);
    }

    /// Adds the hashes of events of the open chunk that were loaded.
    fn index_open(&mut self) {
        if std::mem::take(&mut self.is_open_unindexed) {
            let open = self.open.open_lines();
            add_lines(&open, self.open.rows.len(), self.grams.get_or_insert_default());
        }
    }

    fn close_chunk(&mut self) -> io::Result<()> {
        let next = TailChunk::as_large_as(&self.open);
        let mut chunk = std::mem::replace(&mut self.open, next);
        let hashes = if self.is_loading { Hashes::default() } else { self.grams.get_or_insert_default().take() };
        self.open.take_buffer(chunk.close(hashes, self.columns.take())?);
        self.weight += chunk.weight();
        self.packed_bytes += chunk.packed_bytes();
        self.closed.push(Arc::new(chunk));
        Ok(())
    }

    /// Every event so far, indexed: what a part is made of. The memory is empty afterwards.
    pub fn freeze(&mut self, number: u64, path: PathBuf) -> io::Result<Frozen> {
        if !self.open.rows.is_empty() {
            self.index_open();
            self.close_chunk()?;
        }
        let memory = std::mem::take(self);
        let TailMemory { closed, seeds, shapes, .. } = memory;
        Ok(Frozen { number, path, view: TailView { chunks: closed }, seeds, shapes: Arc::new(shapes) })
    }

    pub fn view(&self) -> TailView {
        let mut chunks = self.closed.clone();
        if !self.open.rows.is_empty() {
            chunks.push(Arc::new(self.open.clone()));
        }
        TailView { chunks }
    }

    /// The lines stored under the ids of events, by the places of these.
    pub fn lines_of(&self, events: &[Prepared<'_>]) -> io::Result<Vec<(usize, Vec<u8>)>> {
        let (mut found, mut read) = (Vec::new(), None);
        for (nth, event) in events.iter().enumerate() {
            let id_of = |row| id_of(&self.closed, &self.open, row);
            if let Some(row) = self.by_id.row(event.id, id_of).map(|row| row as usize) {
                // Repeats come as they came before: many of one chunk.
                let number = row / CHUNK;
                let lines = match read.take_if(|(known, _)| *known == number) {
                    Some((_, lines)) => lines,
                    None => match self.closed.get(number).map_or(&self.open, |chunk| chunk).lines() {
                        Ok(lines) => Some(lines),
                        // Its event is there, and nobody can tell any more what it says.
                        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
                        Err(error) => return Err(error),
                    },
                };
                let line = lines.as_ref().map_or(event.event.line, |lines| lines.line(row % CHUNK));
                found.push((nth, line.to_vec()));
                read = Some((number, lines));
            }
        }
        Ok(found)
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.weight + self.open.weight() + self.shapes.weight() + self.by_id.weight()
    }

    /// Bytes in memory, and packed bytes of lines in the file: what making a part of it takes follows from both.
    pub fn size(&self) -> usize {
        self.weight() + self.packed_bytes + self.open.packed_bytes()
    }
}

fn id_of(closed: &[Arc<TailChunk>], open: &TailChunk, row: u32) -> Id {
    let row = row as usize;
    closed.get(row / CHUNK).map_or(open, |chunk| chunk).rows[row % CHUNK].id
}

/// A tail that takes no more and becomes a part.
pub struct Frozen {
    pub number: u64,
    pub path: PathBuf,
    pub view: TailView,
    pub seeds: Vec<Seed>,
    pub shapes: Arc<Shapes>,
}

impl Frozen {
    /// The same with the hashes of every chunk.
    pub fn indexed(&self) -> io::Result<Frozen> {
        let mut grams = GramSet::default();
        let index = |chunk: &Arc<TailChunk>| match chunk.hashes.is_empty() {
            true => indexed(chunk, &mut grams).map(Arc::new),
            false => Ok(chunk.clone()),
        };
        let chunks = self.view.chunks.iter().map(index).collect::<io::Result<_>>()?;
        let (seeds, shapes) = (self.seeds.clone(), self.shapes.clone());
        Ok(Frozen { number: self.number, path: self.path.clone(), view: TailView { chunks }, seeds, shapes })
    }
}

/// A chunk that was loaded without its hashes, with them. The set is empty before and afterwards.
pub fn indexed(chunk: &TailChunk, grams: &mut GramSet) -> io::Result<TailChunk> {
    add_lines(&chunk.lines()?, chunk.rows.len(), grams);
    let mut chunk = chunk.clone();
    chunk.hashes = grams.take();
    Ok(chunk)
}

fn add_lines(lines: &ChunkLines, count: usize, grams: &mut GramSet) {
    let mut walked = Walked::default();
    for nth in 0..count {
        grams.begin_row(nth);
        let members = walked.add(lines.line(nth));
        let named = walked.shape(members).members.iter().zip(walked.values(members));
        named.for_each(|(member, value)| grams.add(member, *value));
    }
}
