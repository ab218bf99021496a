//! The format of a segment on disk, and its invariants.
//!
//! A segment is a file of fixed length, zero-filled once and then used again and again:
//!
//! ```text
//! 0      segment header (one sector), table of streams       first copy
//! 4096   the same                                            second copy
//! 8192   record, record, record, …                           each at a multiple of 8
//! ```
//!
//! A record is a header of 128 bytes, then `notes` (positions and idempotency keys), then `meta` (where each line
//! ends, what its id derives from), then `packed` (the lines, compressed). Numbers are little-endian; those in
//! notes and meta are variable-length, most of them as differences.
//!
//! Invariants:
//! - A segment's salt is random and differs from the one the file had before; every record header's CRC is seeded
//!   with it. What an earlier use left behind is never taken for a record of this one.
//! - The body's CRCs stand in the header and are not seeded, so that a body is packed before its place is known.
//! - What one write carries is a *group*: records in order (`order` counts from 0), the last with [`ENDS_GROUP`].
//!   A commit lies whole inside one group, a group whole inside one segment.
//! - `synced` in a header says how many bytes of this segment a finished sync had covered when it was written.
//!   What lies before the greatest such claim was durable, and can only be missing because the disk lost it.
//!   What lies behind it is kept as far as whole valid groups reach, and no further.
//! - A segment header says where the segments before it ended validly. Nothing behind such an end is ever read: it
//!   belongs to a sync that failed. The next header is written only after that end was synced.
//! - The sequence number is one counter over all streams; `stream_first` and `stream_bytes` count within one
//!   stream since the journal began. What is missing shows as a jump of `stream_first`, and is counted there.
//! - A position that only the oldest segment states is stated again in a later group before that segment is reused.
//!   (Bit 2 of a record's flags marked such groups in earlier versions. It means nothing now.)
//! - A record without events may be as long as it takes for what stands behind it to begin at a place of its own in a block
//!   of the disk. What it has behind its notes means nothing, damaged or not.
//! - A segment header fits one sector, which a disk writes whole or not at all.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

use super::{Codec, IdempotencyKey, Position, StreamId};
use crate::units::Timestamp;
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};

/// The format this program writes. It opens no newer one.
pub const VERSION: u32 = 1;
pub const SECTOR: usize = 512;
pub const SEGMENT_HEADER: usize = 4096;
/// Where the records of a segment begin.
pub const DATA_START: u32 = 2 * SEGMENT_HEADER as u32;
pub const RECORD_HEADER: usize = 128;
/// The most streams a journal can hold: as many as the table beside a segment header has room for.
pub const MAX_STREAMS: usize = (SEGMENT_HEADER - SECTOR) / STREAM_ENTRY;
/// The most bytes of lines in a record, unless a single event is larger.
pub const RECORD_BYTES: usize = 256 * 1024;

/// How many segments back a segment header remembers where each ended: a segment whose own header never reached
/// the disk is no gap in this memory.
pub const ENDS_REMEMBERED: usize = 16;

const STREAM_ENTRY: usize = 2 + 8 + 8 + 8;
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"WEIRseg\n");
pub const RECORD_MAGIC: [u8; 4] = *b"WJr\n";

/// The last record of its group.
pub const ENDS_GROUP: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub index: u64,
    pub salt: u32,
    pub first_seq: u64,
    pub created_at: Timestamp,
    /// Index, salt and end of the last segments before this one, the oldest first.
    pub before: Vec<(u64, u32, u32)>,
    /// How far each stream had come.
    pub streams: Vec<StreamEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    pub id: StreamId,
    /// Hash of the stream's name.
    pub name: u64,
    pub events: u64,
    pub bytes: u64,
}

/// What a sector that should hold a segment header turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Sector {
    Header(SegmentHeader),
    Newer(u32),
    Empty,
    Broken,
}

impl SegmentHeader {
    /// Both copies, up to where the records begin.
    pub fn encode(&self) -> Vec<u8> {
        let mut copy = vec![0; SEGMENT_HEADER];
        copy[..8].copy_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        put32(&mut copy, 12, VERSION);
        put64(&mut copy, 16, self.index);
        put32(&mut copy, 24, self.salt);
        put64(&mut copy, 32, self.first_seq);
        put64(&mut copy, 40, self.created_at.0 as u64);
        put32(&mut copy, 28, self.before.len() as u32);
        for (nth, (index, salt, end)) in self.before.iter().enumerate() {
            put64(&mut copy, 72 + nth * 16, *index);
            put32(&mut copy, 80 + nth * 16, *salt);
            put32(&mut copy, 84 + nth * 16, *end);
        }
        let mut at = SECTOR;
        for entry in &self.streams {
            copy[at..at + 2].copy_from_slice(&entry.id.0.to_le_bytes());
            put64(&mut copy, at + 2, entry.name);
            put64(&mut copy, at + 10, entry.events);
            put64(&mut copy, at + 18, entry.bytes);
            at += STREAM_ENTRY;
        }
        put32(&mut copy, 64, self.streams.len() as u32);
        let table_crc = crc32c::crc32c(&copy[SECTOR..at]);
        put32(&mut copy, 68, table_crc);
        let crc = crc32c::crc32c(&copy[12..SECTOR]);
        put32(&mut copy, 8, crc);
        let twin = copy.clone();
        copy.extend_from_slice(&twin);
        copy
    }

    /// Reads one copy. A torn table comes out empty: then nothing was synced in this segment yet, and the streams
    /// are known from the segments before.
    pub fn decode(copy: &[u8]) -> Sector {
        let Some(sector) = copy.get(..SECTOR) else { return Sector::Broken };
        if sector.iter().all(|b| *b == 0) {
            return Sector::Empty;
        }
        if get64(sector, 0) != SEGMENT_MAGIC || get32(sector, 8) != crc32c::crc32c(&sector[12..]) {
            return Sector::Broken;
        }
        let version = get32(sector, 12);
        if version > VERSION {
            return Sector::Newer(version);
        }
        let before = sector[72..].chunks_exact(16).take(get32(sector, 28) as usize);
        let before = before.map(|one| (get64(one, 0), get32(one, 8), get32(one, 12))).collect();
        let table = copy.get(SECTOR..SECTOR + get32(sector, 64) as usize * STREAM_ENTRY);
        let table = table.filter(|table| crc32c::crc32c(table) == get32(sector, 68)).unwrap_or_default();
        let streams = table.chunks_exact(STREAM_ENTRY).map(|entry| StreamEntry {
            id: StreamId(u16::from_le_bytes([entry[0], entry[1]])),
            name: get64(entry, 2),
            events: get64(entry, 10),
            bytes: get64(entry, 18),
        });
        Sector::Header(SegmentHeader {
            index: get64(sector, 16),
            salt: get32(sector, 24),
            first_seq: get64(sector, 32),
            created_at: Timestamp(get64(sector, 40) as i64),
            before,
            streams: streams.collect(),
        })
    }
}

/// Bytes 88–95 and the 32 of the hash chain (96–127) are zero until something is built on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    pub flags: u8,
    pub codec: Codec,
    pub stream: StreamId,
    /// Which key the body is encrypted with; 0 for none.
    pub key_id: u16,
    /// Place in its group.
    pub order: u16,
    pub first_seq: u64,
    pub stream_first: u64,
    /// Bytes of lines of this stream before this record.
    pub stream_bytes: u64,
    pub stream_name: u64,
    pub received_at: Timestamp,
    pub count: u32,
    pub lines_len: u32,
    pub packed_len: u32,
    pub meta_len: u32,
    pub notes_len: u32,
    pub body_crc: u32,
    pub notes_crc: u32,
    pub synced: u32,
}

impl RecordHeader {
    pub fn encode(&self, salt: u32) -> [u8; RECORD_HEADER] {
        let mut to = [0; RECORD_HEADER];
        to[..4].copy_from_slice(&RECORD_MAGIC);
        to[8] = self.flags;
        to[9] = self.codec as u8;
        to[10..12].copy_from_slice(&self.stream.0.to_le_bytes());
        to[12..14].copy_from_slice(&self.key_id.to_le_bytes());
        to[14..16].copy_from_slice(&self.order.to_le_bytes());
        put64(&mut to, 16, self.first_seq);
        put64(&mut to, 24, self.stream_first);
        put64(&mut to, 32, self.stream_bytes);
        put64(&mut to, 40, self.stream_name);
        put64(&mut to, 48, self.received_at.0 as u64);
        for (at, value) in [
            (56, self.count),
            (60, self.lines_len),
            (64, self.packed_len),
            (68, self.meta_len),
            (72, self.notes_len),
            (76, self.body_crc),
            (80, self.notes_crc),
            (84, self.synced),
        ] {
            put32(&mut to, at, value);
        }
        let crc = crc32c::crc32c_append(salt, &to[8..]);
        put32(&mut to, 4, crc);
        to
    }

    /// The header at the start of `from`, if it is one of the segment with this salt.
    pub fn decode(from: &[u8], salt: u32) -> Option<RecordHeader> {
        let from = from.get(..RECORD_HEADER)?;
        if from[..4] != RECORD_MAGIC || get32(from, 4) != crc32c::crc32c_append(salt, &from[8..]) {
            return None;
        }
        Some(RecordHeader {
            flags: from[8],
            codec: Codec::from_number(from[9])?,
            stream: StreamId(u16::from_le_bytes([from[10], from[11]])),
            key_id: u16::from_le_bytes([from[12], from[13]]),
            order: u16::from_le_bytes([from[14], from[15]]),
            first_seq: get64(from, 16),
            stream_first: get64(from, 24),
            stream_bytes: get64(from, 32),
            stream_name: get64(from, 40),
            received_at: Timestamp(get64(from, 48) as i64),
            count: get32(from, 56),
            lines_len: get32(from, 60),
            packed_len: get32(from, 64),
            meta_len: get32(from, 68),
            notes_len: get32(from, 72),
            body_crc: get32(from, 76),
            notes_crc: get32(from, 80),
            synced: get32(from, 84),
        })
    }

    pub fn end_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count)
    }

    /// How far its stream has come at `seq`, which does not lie before this record.
    pub fn entry_at(&self, seq: u64) -> StreamEntry {
        let whole = seq >= self.end_seq();
        StreamEntry {
            id: self.stream,
            name: self.stream_name,
            events: self.stream_first + (seq.min(self.end_seq()) - self.first_seq),
            bytes: self.stream_bytes + if whole { u64::from(self.lines_len) } else { 0 },
        }
    }

    pub fn ends_group(&self) -> bool {
        self.flags & ENDS_GROUP != 0
    }

    /// Bytes behind the header.
    pub fn body_len(&self) -> usize {
        self.notes_len as usize + self.meta_len as usize + self.packed_len as usize
    }

    /// Bytes from this header to the next.
    pub fn total_len(&self) -> usize {
        (RECORD_HEADER + self.body_len()).next_multiple_of(8)
    }

    /// Whether the bytes behind the header are the ones it was written with.
    pub fn fits(&self, body: &[u8]) -> bool {
        let (notes, rest) = body.split_at(self.notes_len as usize);
        self.fits_notes(notes) && (self.count == 0 || body_crc([rest]) == self.body_crc)
    }

    /// The same for the notes alone, which can be whole where the lines are not.
    pub fn fits_notes(&self, notes: &[u8]) -> bool {
        crc32c::crc32c(notes) == self.notes_crc
    }
}

/// The CRC-32C of what stands one behind the other: of much, it is folded, which takes half of the time.
pub fn body_crc<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    parts.into_iter().for_each(|part| digest.update(part));
    digest.finalize() as u32
}

/// What a group says besides its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    pub positions: Vec<Position>,
    /// With how many events were accepted under each.
    pub keys: Vec<(IdempotencyKey, u32)>,
    /// When the keys came; they end 24 hours later.
    pub keys_at: Timestamp,
}

impl Notes {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.positions.is_empty() && self.keys.is_empty() {
            return out;
        }
        put_varint(&mut out, self.positions.len() as u64);
        let mut source: &str = "";
        for position in &self.positions {
            // The source is left out where it is the one before: files come by the thousand.
            if *position.source == *source {
                out.push(0);
            } else {
                out.push(1);
                put_bytes(&mut out, position.source.as_bytes());
                source = &position.source;
            }
            put_bytes(&mut out, &position.key);
            put_bytes(&mut out, &position.value);
        }
        out.extend_from_slice(&self.keys_at.0.to_le_bytes());
        for (key, accepted) in &self.keys {
            out.extend_from_slice(&key.key);
            out.extend_from_slice(&key.body);
            out.extend_from_slice(&accepted.to_le_bytes());
        }
        out
    }

    pub fn decode(mut from: &[u8]) -> Option<Notes> {
        let mut notes = Notes::default();
        if from.is_empty() {
            return Some(notes);
        }
        let count = take_varint(&mut from)?;
        let mut source: std::sync::Arc<str> = "".into();
        for _ in 0..count {
            let (new_source, rest) = from.split_first()?;
            from = rest;
            if *new_source == 1 {
                source = std::str::from_utf8(take_bytes(&mut from)?).ok()?.into();
            }
            let key = Bytes::copy_from_slice(take_bytes(&mut from)?);
            let value = Bytes::copy_from_slice(take_bytes(&mut from)?);
            notes.positions.push(Position { source: source.clone(), key, value });
        }
        let (at, keys) = from.split_first_chunk::<8>()?;
        notes.keys_at = Timestamp(i64::from_le_bytes(*at));
        for entry in keys.chunks(36) {
            let key = entry.get(..16)?.try_into().ok()?;
            let body = entry.get(16..32)?.try_into().ok()?;
            notes.keys.push((IdempotencyKey { key, body }, get32(entry.get(..36)?, 32)));
        }
        Some(notes)
    }
}

pub fn put32(to: &mut [u8], at: usize, value: u32) {
    to[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub fn put64(to: &mut [u8], at: usize, value: u64) {
    to[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub fn get32(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(from[at..at + 4].try_into().expect("four bytes"))
}

pub fn get64(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(from[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_checksum_is_the_same_however_it_is_made(
            bytes in prop::collection::vec(any::<u8>(), 0..100_000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut rest, mut at, mut parts) = (&bytes[..], 0, Vec::new());
            for cut in cuts {
                let (part, behind) = rest.split_at(cut - at);
                parts.push(part);
                (rest, at) = (behind, cut);
            }
            parts.push(rest);
            prop_assert_eq!(body_crc(parts), crc32c::crc32c(&bytes));
        }
    }
}
