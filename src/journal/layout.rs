//! What one write consists of: records one behind the other, most lines from where they lie.
//!
//! Lines that were read from a file go to the disk from the memory they were read into, where their whole blocks begin there
//! at the same places in a block as in the segment. So in front of their record stands one without events, which is as long
//! as that takes: copying them costs a sixth of the way to the disk, and more where memory is busy.

use bytes::Bytes;

use super::direct::BLOCK;
use super::format::{RECORD_HEADER, RecordHeader};
use super::packed::Packed;
use super::pages::Pages;
use super::{Codec, gather};

/// Lines of so many bytes are written from where they lie. In tests few are enough, and blocks are small, so that the model
/// meets what they come to.
const LEAST_LINES: usize = if cfg!(test) { 256 } else { gather::ALONE };
const UNIT: usize = if cfg!(test) { 64 } else { BLOCK };
/// What lies at a multiple of this is a record.
const STEP: usize = 8;
/// The most bytes that a number may have.
const LONGEST_VARINT: usize = 10;

/// The most bytes that stand in front of a record, notes not counted, so that its lines lie as blocks do.
pub fn most_filled(packed: &Packed) -> usize {
    if is_large(packed) { RECORD_HEADER + UNIT } else { 0 }
}

fn is_large(packed: &Packed) -> bool {
    packed.codec == Codec::None && packed.packed.len() >= LEAST_LINES
}

/// Where in a block these bytes begin. In tests it follows from how many they are, so that a run can be repeated.
fn place(lines: &[u8]) -> usize {
    (if cfg!(test) { lines.len() } else { lines.as_ptr().addr() }) % UNIT
}

/// Lengthens the first number of `meta` so that lines which follow it may stand in a segment as they lie in memory: records
/// begin at multiples of eight. A number that ends in bytes of nothing is the same number.
pub fn suit(meta: &mut Vec<u8>, lines: &[u8]) {
    let more = (place(lines) + STEP - (RECORD_HEADER + meta.len()) % STEP) % STEP;
    let Some(last) = meta.iter().position(|byte| byte & 0x80 == 0) else { return };
    if lines.len() < LEAST_LINES || more == 0 || last + 1 + more > LONGEST_VARINT {
        return;
    }
    meta[last] |= 0x80;
    meta.splice(last + 1..last + 1, (1..=more).map(|nth| if nth < more { 0x80 } else { 0 }));
}

enum Piece {
    /// Up to here in the pages.
    Copied(usize),
    Lines(Bytes),
}

/// A write as it grows.
pub struct Layout<'a> {
    pages: &'a mut Pages,
    /// Where in the segment it begins.
    begin: u32,
    /// Whether it begins with a block.
    is_whole: bool,
    pieces: Vec<Piece>,
    /// Bytes that are not in the pages.
    apart: usize,
}

impl<'a> Layout<'a> {
    /// A write at `begin`. `before` stands there already, in the same block.
    pub fn new(pages: &'a mut Pages, begin: u32, before: Option<&[u8]>) -> Layout<'a> {
        pages.begin(u64::from(begin));
        pages.push(before.unwrap_or_default());
        Layout { pages, begin, is_whole: before.is_some(), pieces: Vec::new(), apart: 0 }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.pages.len() + self.apart
    }

    /// How many bytes are to stand in front of a record, with so many of notes, before its lines can be written from where
    /// they lie. None where they are copied.
    pub fn filled(&self, packed: &Packed, notes: usize) -> Option<usize> {
        if !self.is_whole || !is_large(packed) {
            return None;
        }
        let lines = self.begin as usize + self.len() + RECORD_HEADER + packed.meta.len();
        let gap = (place(&packed.packed) + UNIT - lines % UNIT) % UNIT;
        let least = RECORD_HEADER + notes;
        let gap = if gap < least { gap + (least - gap).next_multiple_of(UNIT) } else { gap };
        gap.is_multiple_of(STEP).then_some(gap)
    }

    /// Adds a record without events that is `len` bytes long.
    pub fn fill(&mut self, header: RecordHeader, salt: u32, notes: &[u8], len: usize) {
        let zeros = vec![0; len - RECORD_HEADER - notes.len()];
        let (packed_len, body_crc) = (zeros.len() as u32, crc32c::crc32c(&zeros));
        let header = RecordHeader { packed_len, body_crc, ..header };
        for bytes in [&header.encode(salt)[..], notes, &zeros] {
            self.pages.push(bytes);
        }
    }

    /// Adds a record, whose lines are copied unless their place was seen to.
    pub fn push(&mut self, header: &RecordHeader, salt: u32, notes: &[u8], packed: &Packed, is_placed: bool) {
        let start = self.len();
        for bytes in [&header.encode(salt)[..], notes, &packed.meta] {
            self.pages.push(bytes);
        }
        let lines = &packed.packed;
        let head = if is_placed { (UNIT - place(lines)) % UNIT } else { lines.len() };
        let whole = lines.len().saturating_sub(head) / UNIT * UNIT;
        if whole > 0 {
            self.pages.push(&lines[..head]);
            self.pieces.push(Piece::Copied(self.pages.len()));
            self.pieces.push(Piece::Lines(lines.slice(head..head + whole)));
            self.apart += whole;
            self.pages.push(&lines[head + whole..]);
        } else {
            self.pages.push(lines);
        }
        self.fill_up(start + header.total_len());
    }

    /// Adds zeros until there are so many bytes.
    pub fn fill_up(&mut self, len: usize) {
        self.pages.fill_up(len - self.apart);
    }

    /// The last bytes so far, of a block at most.
    pub fn ending(&self) -> Vec<u8> {
        let (mut ending, mut before) = (Vec::with_capacity(BLOCK), self.len().saturating_sub(BLOCK));
        for piece in self.pieces() {
            let (_, rest) = piece.split_at(before.min(piece.len()));
            before -= piece.len() - rest.len();
            ending.extend_from_slice(rest);
        }
        ending
    }

    /// All that is to be written, in order.
    pub fn pieces(&self) -> Vec<&[u8]> {
        let (copied, mut from) = (self.pages.bytes(), 0);
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(self.pieces.len() + 1);
        for piece in &self.pieces {
            pieces.push(match piece {
                Piece::Copied(to) => &copied[std::mem::replace(&mut from, *to)..*to],
                Piece::Lines(lines) => lines,
            });
        }
        pieces.push(&copied[from..]);
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::format::DATA_START;
    use super::super::packed::{pack, unpack};
    use super::super::segment::{Found, walk};
    use super::*;
    use crate::event::{Lines, Origins, Seed};

    const SALT: u32 = 7;

    fn lines(len: usize, fill: u8) -> Lines {
        let ends = vec![len as u32 / 3, len as u32];
        Lines { bytes: vec![fill; len].into(), ends, origins: Origins::of(Seed([fill; 16]), [1, 2]) }
    }

    proptest! {
        #[test]
        fn what_is_written_from_several_places_reads_as_one(
            before in (0u32..BLOCK as u32 / 8).prop_map(|n| n * 8),
            is_whole: bool,
            sizes in prop::collection::vec(1usize..2000, 1..8),
            notes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let all: Vec<Lines> = sizes.iter().zip(1..).map(|(len, fill)| lines(*len, fill)).collect();
            let (mut pages, stands) = (Pages::default(), vec![0xAA; before as usize]);
            pages.make_room(100_000);
            let begin = DATA_START + if is_whole { 0 } else { before };
            let mut layout = Layout::new(&mut pages, begin, is_whole.then_some(&stands[..]));
            let mut apart = 0;
            for (nth, lines) in all.iter().enumerate() {
                let packed = pack(lines, Codec::None);
                let mut notes = if nth + 1 == all.len() { &notes[..] } else { &[] };
                let filled = layout.filled(&packed, notes.len());
                if let Some(len) = filled {
                    let (notes_len, notes_crc) = (notes.len() as u32, crc32c::crc32c(notes));
                    let start = layout.len();
                    layout.fill(RecordHeader { notes_len, notes_crc, ..RecordHeader::default() }, SALT, notes, len);
                    prop_assert!(layout.len() - start == len && len <= most_filled(&packed) + notes.len());
                    notes = &[];
                }
                prop_assert_eq!(filled.is_some(), is_whole && lines.bytes.len() >= LEAST_LINES, "every large one");
                let header = RecordHeader {
                    count: 2,
                    lines_len: lines.bytes.len() as u32,
                    packed_len: packed.packed.len() as u32,
                    meta_len: packed.meta.len() as u32,
                    notes_len: notes.len() as u32,
                    body_crc: packed.crc,
                    notes_crc: crc32c::crc32c(notes),
                    ..RecordHeader::default()
                };
                layout.push(&header, SALT, notes, &packed, filled.is_some());
                apart += usize::from(filled.is_some() && lines.bytes.len() >= 2 * UNIT);
            }
            let (pieces, len) = (layout.pieces(), layout.len());
            prop_assert!(pieces.len() == 2 * apart + 1);
            let (_, whole) = pieces.split_last().unwrap();
            prop_assert!(whole.iter().all(|piece| piece.len().is_multiple_of(UNIT)));
            let mut segment = vec![0; begin as usize];
            segment.extend(pieces.concat());
            prop_assert_eq!(segment.len(), begin as usize + len);
            prop_assert!(segment[begin as usize..].ends_with(&layout.ending()) && layout.ending().len() == len.min(BLOCK));
            segment.splice(DATA_START as usize..DATA_START as usize + before as usize, []);
            let mut read = Vec::new();
            let mut noted = Vec::new();
            for found in walk(&segment, SALT, segment.len() as u32) {
                let Found::Record { at, header, whole } = found else { panic!("nothing is damaged") };
                prop_assert!(whole);
                let mut body = segment[at as usize + RECORD_HEADER..][..header.body_len()].to_vec();
                noted.extend_from_slice(&body[..header.notes_len as usize]);
                if header.count > 0 {
                    read.push(unpack(&header, &mut body).unwrap());
                }
            }
            prop_assert!(noted == notes);
            prop_assert_eq!(read.len(), all.len());
            for (read, lines) in read.iter().zip(&all) {
                prop_assert!(read.bytes == lines.bytes && read.ends == lines.ends);
            }
        }
    }
}
