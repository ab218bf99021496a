//! Lines of a tail that are compressed together, in memory or in the tail's file.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use lz4::block::CompressionMode;

use super::disk::DiskFile;
use super::tail::MAX_FRAME;

/// Begins a segment in a frame: its packed and its expanded length.
pub const SEGMENT_HEAD: usize = 8;
/// Segments with at most so many bytes between them are read together.
const MAX_GAP: u64 = 4096;
/// How hasty compressing is: a greater number finds less.
const HASTE: i32 = 2;

/// Lines that were compressed together.
#[derive(Clone, Debug)]
pub struct Segment {
    packed: Packed,
    /// Of the packed bytes.
    crc: u32,
    /// Bytes of the lines.
    len: usize,
}

#[derive(Clone, Debug)]
enum Packed {
    Memory(Arc<[u8]>),
    File { file: Arc<DiskFile>, at: u64, len: u32 },
}

impl Segment {
    /// Bytes of the lines.
    pub fn line_bytes(&self) -> usize {
        self.len
    }

    /// In memory.
    pub fn of(text: &[u8]) -> io::Result<Segment> {
        let bytes = lz4::block::compress(text, Some(CompressionMode::FAST(HASTE)), false)?;
        Ok(Segment { crc: crc32c::crc32c(&bytes), packed: Packed::Memory(bytes.into()), len: text.len() })
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        match &self.packed {
            Packed::Memory(bytes) => bytes.len(),
            Packed::File { .. } => 0,
        }
    }

    /// Packed bytes, wherever they are.
    pub fn packed_len(&self) -> usize {
        match &self.packed {
            Packed::Memory(bytes) => bytes.len(),
            Packed::File { len, .. } => *len as usize,
        }
    }

    /// What lies at this place of a file.
    pub fn at(file: &Arc<DiskFile>, at: u64, packed: &[u8], len: usize) -> Segment {
        let place = Packed::File { file: file.clone(), at, len: packed.len() as u32 };
        Segment { packed: place, crc: crc32c::crc32c(packed), len }
    }

    /// It lies at this place of a file from now on, and no longer in memory.
    pub fn is_at(&mut self, file: &Arc<DiskFile>, at: u64) {
        self.packed = Packed::File { file: file.clone(), at, len: self.packed_len() as u32 };
    }

    /// Adds a segment that is in memory to a frame whose checksum is `crc` so far; tells what it is then.
    pub fn write(&self, frame: &mut Vec<u8>, crc: u32) -> u32 {
        let Packed::Memory(bytes) = &self.packed else { return crc };
        let start = frame.len();
        frame.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        frame.extend_from_slice(&(self.len as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &frame[start..]);
        frame.extend_from_slice(bytes);
        crc32c::crc32c_combine(crc, self.crc, bytes.len())
    }

    /// Where it lies, if that is in a file.
    fn place(&self) -> Option<(&Arc<DiskFile>, Range<u64>)> {
        match &self.packed {
            Packed::Memory(_) => None,
            Packed::File { file, at, len } => Some((file, *at..*at + u64::from(*len))),
        }
    }
}

/// Adds what was packed; `len` bytes.
pub fn unpack(packed: &[u8], len: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + len, 0);
    match lz4::block::decompress_to_buffer(packed, Some(len as i32), &mut out[start..]) {
        Ok(expanded) if expanded == len => Ok(()),
        _ => Err(damaged()),
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "lines of a tail are damaged")
}

/// Adds the lines of segments, of which those that lie together are read at once.
pub fn expand(mut segments: &[Segment], out: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(first) = segments.first() {
        let mut count = 1;
        match &first.packed {
            Packed::Memory(bytes) => unpack(bytes, first.len, out)?,
            Packed::File { file, at: start, len } => {
                let mut end = start + u64::from(*len);
                let follows = |segment: &Segment, end: u64| {
                    let (other, place) = segment.place()?;
                    let is_near = place.start >= end && place.start - end <= MAX_GAP;
                    (Arc::ptr_eq(other, file) && is_near).then_some(place.end)
                };
                while let Some(further) = segments.get(count).and_then(|segment| follows(segment, end)) {
                    (count, end) = (count + 1, further);
                }
                buffer.resize((end - start) as usize, 0);
                file.read_exact_at(&mut buffer, *start).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => damaged(),
                    _ => error,
                })?;
                for (segment, (_, place)) in segments[..count].iter().filter_map(|one| Some((one, one.place()?))) {
                    let packed = &buffer[(place.start - start) as usize..(place.end - start) as usize];
                    if crc32c::crc32c(packed) != segment.crc {
                        return Err(damaged());
                    }
                    unpack(packed, segment.len, out)?;
                }
            }
        }
        segments = &segments[count..];
    }
    Ok(())
}

/// The packed bytes of a segment, and how many they become.
pub fn take_segment<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], usize)> {
    let (head, more) = rest.split_first_chunk::<SEGMENT_HEAD>()?;
    let (packed, len) = (u32::from_le_bytes(*head.first_chunk()?), u32::from_le_bytes(*head.last_chunk()?));
    let (bytes, more) = more.split_at_checked(packed as usize)?;
    *rest = more;
    (len as usize <= MAX_FRAME).then_some((bytes, len as usize))
}
