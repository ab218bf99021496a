//! Reads the next chunk of whole lines from a file, without looking at each line.
//!
//! Nothing is carried from one chunk to the next: the half line at the end of a buffer is read again with the
//! following one, which costs less than keeping it. So a chunk depends on its offset alone, and reading again
//! after a failure or a restart gives the same lines with the same ids.

use std::io;

use bytes::Bytes;
use encoding_rs::Encoding;

use super::body::Body;
use super::buffers::{Buffer, Buffers, Head};
use super::shape::{LineEnd, Shape, char_start};
use crate::codec::framing::cut_mark;
use crate::codec::{Frames, Ordinals};
use crate::component::source::CHUNK_BYTES;

/// NUL bytes at the start of a line that are a hole, which a crash or a copy left, and no text.
pub const HOLE_BYTES: usize = 4096;

/// Bytes looked through in one go for the end of something long.
pub const SCAN_BYTES: u64 = 8 * 1024 * 1024;

const MARK: &[u8] = b"\xEF\xBB\xBF";

#[derive(Clone)]
pub struct ChunkReader {
    pub shape: Shape,
    pub buffers: Buffers,
}

/// What is known of a line or a hole that is longer than a buffer, so that it is not looked through again.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// Where the caller stands.
    at: u64,
    /// Where the line begins.
    from: u64,
    to: u64,
    is_hole: bool,
    /// The beginning of a line of a packed file, which goes back only by unpacking everything again.
    head: Option<Head>,
}

/// What the caller knows about the place to read.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub at: u64,
    /// What lies behind is settled already, and what lies before it was whole.
    pub limit: Option<u64>,
    /// Nothing will be added: an unfinished line is the last one.
    pub is_last: bool,
}

#[derive(Debug)]
pub enum ReadResult {
    Chunk(Chunk),
    /// From here on there is no whole line.
    Unfinished {
        from: u64,
    },
    /// There is nothing but NUL bytes up to the end of a file that ends.
    Hole {
        end: u64,
    },
    /// Something long was looked through in part: call again.
    Later,
    End,
}

#[derive(Debug)]
pub struct Chunk {
    pub bytes: Bytes,
    pub frames: Frames,
    pub ordinals: Ordinals,
    /// Where the next chunk begins.
    pub end: u64,
    pub notes: Notes,
}

impl Chunk {
    /// The file's bytes before `end`, as far as the chunk holds them unchanged.
    pub fn as_in_file(&self) -> &[u8] {
        match (&self.frames, &self.ordinals) {
            (Frames::Lines, Ordinals::Offset(base)) if base + self.bytes.len() as u64 == self.end => &self.bytes,
            _ => &[],
        }
    }
}

/// What was done to the bytes, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Bytes of a line that was cut short.
    pub cut: Option<u64>,
    /// Bytes of a hole that was passed over.
    pub hole: u64,
    /// The last line had no line feed.
    pub unfinished: bool,
}

impl ChunkReader {
    /// The same for a file whose mark says its byte order.
    pub fn read_as(&self, encoding: &'static Encoding) -> ChunkReader {
        ChunkReader { shape: Shape { encoding: Some(encoding), ..self.shape.clone() }, buffers: self.buffers.clone() }
    }

    /// The next chunk from `view.at`, which is the start of a line.
    pub fn next(&self, body: &mut Body, view: View, scanned: &mut Option<Scanned>) -> io::Result<ReadResult> {
        if let Some(known) = scanned.take_if(|known| known.at == view.at) {
            return self.long(body, view, known, scanned);
        }
        *scanned = None;
        self.within(body, view, view.at, CHUNK_BYTES, scanned)
    }

    /// Reads a window of up to `want` bytes from `begin`; what lies between `view.at` and `begin` is passed over.
    fn within(
        &self,
        body: &mut Body,
        view: View,
        begin: u64,
        want: usize,
        scanned: &mut Option<Scanned>,
    ) -> io::Result<ReadResult> {
        let allowed = view.limit.map_or(want, |limit| limit.saturating_sub(begin).min(want as u64) as usize);
        // No buffer is larger than what there is to read, since a chunk holds it until the last of its events has gone.
        let there = allowed.min(usize::try_from(body.left(begin)).unwrap_or(usize::MAX));
        let mut buffer = match body {
            // Where more is asked for than there is, the last line may lack its line feed, for which a full buffer has no room.
            Body::Plain(_) if want == CHUNK_BYTES => self.buffers.take(there),
            _ => Buffer::Heap(self.buffers.take_vec(there)),
        };
        let got = body.fill(begin, there, &mut buffer)?;
        let is_end = got < want;
        let is_last = view.is_last || (is_end && got == allowed && view.limit.is_some());
        if got == 0 {
            return Ok(match begin {
                begin if begin > view.at && is_last => ReadResult::Hole { end: begin },
                _ => ReadResult::End,
            });
        }
        let ends = LineEnd::of(self.shape.encoding);
        let (mark, hole) = (byte_order_mark(&buffer, begin), leading_hole(&buffer, ends));
        if hole == got && hole > 0 {
            // Whoever made room in the file beforehand may still write into it, so a hole at the end is awaited.
            let to = begin + got as u64;
            self.buffers.give_back(buffer);
            return self.long(
                body,
                view,
                Scanned { at: view.at, from: view.at, to, is_hole: true, head: None },
                scanned,
            );
        }
        let skip = mark.max(hole);
        let data = &buffer[skip..];
        // A line that is larger than a chunk is a chunk alone.
        let is_alone = want > CHUNK_BYTES && self.shape.grouping.is_none();
        let whole = if is_alone { ends.first(data) } else { whole_lines(data, ends) };
        let mut notes = Notes { hole: (begin - view.at) + hole as u64, ..Notes::default() };
        let region = match whole {
            Some(end) => end,
            None if !is_end && want <= self.shape.line_bytes => {
                let wider = (want * 2).min(self.shape.line_bytes + skip + 2);
                let wider = if wider <= want { self.shape.line_bytes + skip + 2 } else { wider };
                self.buffers.give_back(buffer);
                return self.within(body, view, begin, wider, scanned);
            }
            None if !is_end => {
                let mut known = Scanned {
                    at: view.at,
                    from: begin + skip as u64,
                    to: begin + got as u64,
                    is_hole: false,
                    head: None,
                };
                if matches!(body, Body::Packed(_)) {
                    // Others hold theirs: the line waits for its turn.
                    let Some(head) = self.buffers.hold(&data[..data.len().min(self.shape.line_bytes)]) else {
                        self.buffers.give_back(buffer);
                        return Ok(ReadResult::Later);
                    };
                    known.head = Some(head);
                }
                self.buffers.give_back(buffer);
                return self.long(body, view, known, scanned);
            }
            None if is_last => {
                notes.unfinished = true;
                data.len()
            }
            None => return Ok(ReadResult::Unfinished { from: begin + skip as u64 }),
        };
        let base = begin + skip as u64;
        if self.shape.is_plain(CHUNK_BYTES) {
            let end = base + region as u64;
            buffer.truncate(skip + region);
            if notes.unfinished {
                buffer.end_line();
            }
            let bytes = self.buffers.share(buffer).slice(skip..);
            return Ok(ReadResult::Chunk(Chunk {
                bytes,
                frames: Frames::Lines,
                ordinals: Ordinals::Offset(base),
                end,
                notes,
            }));
        }
        let is_all = is_end && region == data.len();
        let shaped = self.shape.apply(&data[..region], base, is_last && is_all);
        if shaped.used == 0 && is_end {
            return Ok(ReadResult::Unfinished { from: base });
        }
        if shaped.used == 0 && want <= self.shape.line_bytes {
            return self.within(body, view, begin, (want * 2).max(self.shape.line_bytes + skip + 2), scanned);
        }
        let shaped = if shaped.used == 0 { self.shape.apply(&data[..region], base, true) } else { shaped };
        let end = base + shaped.used as u64;
        self.buffers.give_back(buffer);
        Ok(ReadResult::Chunk(Chunk {
            bytes: Bytes::from(shaped.text),
            frames: Frames::At(shaped.frames),
            ordinals: Ordinals::Given(shaped.offsets),
            end,
            notes,
        }))
    }

    /// Looks through a line or a hole that fills more than a buffer, a bounded number of bytes at a time.
    fn long(
        &self,
        body: &mut Body,
        view: View,
        mut known: Scanned,
        scanned: &mut Option<Scanned>,
    ) -> io::Result<ReadResult> {
        let ends = LineEnd::of(self.shape.encoding);
        let mut buffer = self.buffers.take_vec(CHUNK_BYTES);
        let is_hole = known.is_hole;
        let stop = known.to + SCAN_BYTES;
        while known.to < stop {
            let want = view.limit.map_or(CHUNK_BYTES as u64, |limit| limit.saturating_sub(known.to)) as usize;
            buffer.clear();
            let got = body.read_at(known.to, want.min(CHUNK_BYTES), &mut buffer)?;
            if got == 0 {
                let is_last = view.is_last || view.limit == Some(known.to);
                self.buffers.give_back(Buffer::Heap(buffer));
                return match (is_last, is_hole) {
                    (true, true) => Ok(ReadResult::Hole { end: known.to }),
                    (true, false) => self.cut_short(body, &known, known.to),
                    (false, _) => {
                        let from = known.from;
                        // A packed file that goes on is unpacked from its beginning.
                        *scanned = Some(known).filter(|known| known.head.is_none());
                        Ok(ReadResult::Unfinished { from })
                    }
                };
            }
            let found = match is_hole {
                true => buffer.iter().position(|b| *b != 0),
                false => ends.first(&buffer),
            };
            match found {
                Some(at) if is_hole => {
                    self.buffers.give_back(Buffer::Heap(buffer));
                    return self.within(body, view, known.to + at as u64, CHUNK_BYTES, scanned);
                }
                Some(at) => {
                    self.buffers.give_back(Buffer::Heap(buffer));
                    return self.cut_short(body, &known, known.to + at as u64);
                }
                None => known.to += got as u64,
            }
        }
        *scanned = Some(known);
        self.buffers.give_back(Buffer::Heap(buffer));
        Ok(ReadResult::Later)
    }

    /// The head of a line that is too long, marked as cut, for all of it.
    fn cut_short(&self, body: &mut Body, known: &Scanned, end: u64) -> io::Result<ReadResult> {
        let (limit, from) = (self.shape.line_bytes, known.from);
        let mut head = Vec::new();
        match &known.head {
            Some(held) => head.extend_from_slice(held.bytes()),
            None => drop(body.read_at(from, limit.min((end - from) as usize), &mut head)?),
        }
        let mut text = match self.shape.encoding {
            None => head,
            Some(encoding) => encoding.decode_without_bom_handling(&head).0.into_owned().into_bytes(),
        };
        text.truncate(char_start(&text, limit.min(text.len())));
        text.extend_from_slice(cut_mark(limit).as_bytes());
        let frame = 0..text.len();
        text.push(b'\n');
        Ok(ReadResult::Chunk(Chunk {
            bytes: Bytes::from(text),
            frames: Frames::At(std::iter::once(frame).collect()),
            ordinals: Ordinals::Given(vec![from]),
            end,
            notes: Notes { cut: Some(end - from), ..Notes::default() },
        }))
    }
}

fn byte_order_mark(bytes: &[u8], offset: u64) -> usize {
    match bytes {
        _ if offset > 0 => 0,
        [0xEF, 0xBB, 0xBF, ..] => MARK.len(),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => 2,
        _ => 0,
    }
}

/// NUL bytes at the start, if they are enough for a hole.
fn leading_hole(bytes: &[u8], ends: LineEnd) -> usize {
    if bytes.first() != Some(&0) || ends != LineEnd::Byte {
        return 0;
    }
    let nulls = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    if nulls >= HOLE_BYTES { nulls } else { 0 }
}

/// The end of the last whole line before a hole that begins a line.
fn whole_lines(data: &[u8], ends: LineEnd) -> Option<usize> {
    let end = ends.last(data)?;
    if ends != LineEnd::Byte {
        return Some(end);
    }
    // A hole covers at least one of these places, so that lines need not be looked at for it.
    let probes = (0..end).step_by(HOLE_BYTES).filter(|at| data[*at] == 0);
    for probe in probes {
        let start = data[..probe].iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        if start > 0 && data[start - 1] == b'\n' && leading_hole(&data[start..], ends) > 0 {
            return Some(start);
        }
    }
    Some(end)
}
