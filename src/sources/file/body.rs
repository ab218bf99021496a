//! Reads the bytes of a file by offset: plain, or decompressed from gzip or zstd.

use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::buffers::Buffer;
use super::content::Packing;

/// Window of a zstd frame that is expanded; a larger one is refused (2^23 bytes, as RFC 9659 allows).
const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes skipped in one go on the way to an offset in a packed file.
const SKIP_BYTES: usize = 64 * 1024;

pub enum Body {
    Plain(Plain),
    Packed(Box<Packed>),
}

pub struct Plain {
    file: Arc<OwnedFd>,
    /// Its size when it was looked at last, so that its end need not be found by reading nothing there.
    size: u64,
}

/// Where and why nothing more can be read from a packed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub reason: String,
    /// Up to here there is text.
    pub text_bytes: u64,
    /// Place in the file behind which nothing was unpacked.
    pub offset: u64,
    /// The file ends in the middle: it may still be being written.
    pub is_cut_off: bool,
}

impl Body {
    pub fn new(file: impl Into<Arc<OwnedFd>>, packing: Packing) -> Body {
        let file = file.into();
        match packing {
            Packing::None => Body::Plain(Plain { file, size: u64::MAX }),
            packing => Body::Packed(Box::new(Packed {
                file,
                packing,
                stream: None,
                back: Vec::new(),
                at: 0,
                state: PackedState::Unknown,
                #[cfg(test)]
                rewinds: 0,
            })),
        }
    }

    pub fn file(&self) -> &Arc<OwnedFd> {
        match self {
            Body::Plain(plain) => &plain.file,
            Body::Packed(packed) => &packed.file,
        }
    }

    /// Says how large the file is now.
    pub fn note_size(&mut self, size: u64) {
        if let Body::Plain(plain) = self {
            plain.size = size;
        }
    }

    /// Bytes from `offset` to the end, as far as that is known; else more than any file has.
    pub fn left(&self, offset: u64) -> u64 {
        match self {
            Body::Plain(plain) => plain.size.saturating_sub(offset),
            Body::Packed(_) => u64::MAX,
        }
    }

    /// Unpacks what is left, to learn whether all of it can be.
    pub fn unpack_all(&mut self) -> io::Result<()> {
        self.read_at(u64::MAX, 0, &mut Vec::new()).map(drop)
    }

    /// What is wrong with a packed file, as far as it was unpacked.
    pub fn damage(&self) -> Option<Damage> {
        let Body::Packed(packed) = self else { return None };
        let (reason, is_cut_off) = match &packed.state {
            PackedState::CutOff => ("it ends in the middle".to_owned(), true),
            PackedState::Broken(reason) => (reason.clone(), false),
            PackedState::Unknown | PackedState::Ended => return None,
        };
        Some(Damage { reason, text_bytes: packed.at, offset: packed.offset(), is_cut_off })
    }

    /// Reads up to `want` bytes from `offset` on into an empty buffer, which has room for them; fewer only at the end.
    pub fn fill(&mut self, offset: u64, want: usize, buffer: &mut Buffer) -> io::Result<usize> {
        let (slot, len) = match buffer {
            Buffer::Heap(bytes) => return self.read_at(offset, want, bytes),
            Buffer::Huge(slot, len) => (slot, len),
        };
        *len = match self {
            Body::Plain(plain) => plain.fill(offset, &mut slot[..want])?,
            Body::Packed(packed) => {
                let mut bytes = Vec::new();
                packed.read_at(offset, want, &mut bytes)?;
                slot[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            }
        };
        Ok(*len)
    }

    /// Appends up to `want` bytes from `offset` on; fewer only at the end.
    pub fn read_at(&mut self, offset: u64, want: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Body::Plain(plain) => plain.read_at(offset, want, buffer),
            Body::Packed(packed) => packed.read_at(offset, want, buffer),
        }
    }
}

impl Plain {
    fn read_at(&self, offset: u64, want: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let start = buffer.len();
        buffer.reserve_exact(want);
        self.read_on(offset, want, |at, _| rustix::io::pread(&*self.file, rustix::buffer::spare_capacity(buffer), at))?;
        buffer.truncate(start + want);
        Ok(buffer.len() - start)
    }

    /// Fills all of `to` that the file has something for.
    fn fill(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        let want = to.len();
        self.read_on(offset, want, |at, got| rustix::io::pread(&*self.file, &mut to[got..], at))
    }

    /// Calls `read`, with the offset and how much there is already, until so many bytes have come or the file ends.
    fn read_on(
        &self,
        offset: u64,
        want: usize,
        mut read: impl FnMut(u64, usize) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut got = 0;
        while got < want {
            match read(offset + got as u64, got) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            // A short read alone is no end: a remote file may give less than is there.
            if offset + got as u64 >= self.size {
                break;
            }
        }
        Ok(got)
    }
}

/// How a packed file ends, as far as it was expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackedState {
    Unknown,
    /// It is whole.
    Ended,
    /// It stops in the middle: somebody may still be writing it.
    CutOff,
    Broken(String),
}

pub struct Packed {
    file: Arc<OwnedFd>,
    packing: Packing,
    stream: Option<Unpacker>,
    /// What was read last, up to `at`, because the last line of a chunk is read again with the next one.
    back: Vec<u8>,
    at: u64,
    pub state: PackedState,
    /// How often it was begun again.
    #[cfg(test)]
    pub rewinds: usize,
}

/// Reads a file from its beginning without moving anyone else's place in it.
struct FromStart {
    file: Arc<OwnedFd>,
    offset: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = rustix::io::pread(&*self.file, buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

enum Unpacker {
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<FromStart>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<FromStart>>),
}

impl Packed {
    /// Bytes of the file that were taken in.
    fn offset(&self) -> u64 {
        let input = match &self.stream {
            None => return 0,
            Some(Unpacker::Gzip(decoder)) => decoder.get_ref(),
            Some(Unpacker::Zstd(decoder)) => decoder.get_ref(),
        };
        input.get_ref().offset - input.buffer().len() as u64
    }

    fn read_at(&mut self, offset: u64, want: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let start = buffer.len();
        let back_from = self.at - self.back.len() as u64;
        if offset < back_from {
            self.rewind();
        }
        if offset <= self.at && !self.back.is_empty() {
            let from = (offset - (self.at - self.back.len() as u64)) as usize;
            let until = (from + want).min(self.back.len());
            buffer.extend_from_slice(&self.back[from..until]);
            if until < self.back.len() {
                return Ok(buffer.len() - start);
            }
        }
        while self.at < offset {
            let step = ((offset - self.at) as usize).min(SKIP_BYTES);
            let mut skipped = Vec::new();
            if self.expand(step, &mut skipped)? == 0 {
                return Ok(0);
            }
        }
        while buffer.len() - start < want {
            if self.expand(want - (buffer.len() - start), buffer)? == 0 {
                break;
            }
        }
        self.back.clear();
        self.back.extend_from_slice(&buffer[start..]);
        Ok(buffer.len() - start)
    }

    fn rewind(&mut self) {
        #[cfg(test)]
        {
            self.rewinds += 1;
        }
        (self.stream, self.at, self.state) = (None, 0, PackedState::Unknown);
        self.back = Vec::new();
    }

    /// Forgets that the file was cut off, because it has changed.
    pub fn try_again(&mut self) {
        if self.state == PackedState::CutOff {
            self.rewind();
        }
    }

    fn expand(&mut self, want: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
        if matches!(self.state, PackedState::Ended | PackedState::CutOff | PackedState::Broken(_)) {
            return Ok(0);
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(unpacker(self.packing, self.file.clone())?),
        };
        let before = buffer.len();
        let result = match stream {
            Unpacker::Gzip(decoder) => decoder.take(want as u64).read_to_end(buffer),
            Unpacker::Zstd(decoder) => decoder.take(want as u64).read_to_end(buffer),
        };
        let got = buffer.len() - before;
        self.at += got as u64;
        match result {
            Ok(_) if got < want => self.state = PackedState::Ended,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.state = PackedState::CutOff,
            Err(error) => self.state = PackedState::Broken(error.to_string()),
        }
        Ok(got)
    }
}

fn unpacker(packing: Packing, file: Arc<OwnedFd>) -> io::Result<Unpacker> {
    let input = BufReader::with_capacity(SKIP_BYTES, FromStart { file, offset: 0 });
    if packing == Packing::Gzip {
        return Ok(Unpacker::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))));
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(Unpacker::Zstd(decoder))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    fn body(bytes: &[u8], packing: Packing) -> Body {
        let folder = crate::toolkit::fake::Folder::new();
        let file = std::fs::File::open(folder.write("packed", bytes)).unwrap();
        Body::new(OwnedFd::from(file), packing)
    }

    fn read(body: &mut Body, offset: u64, want: usize) -> Vec<u8> {
        let mut buffer = Vec::new();
        body.read_at(offset, want, &mut buffer).unwrap();
        buffer
    }

    #[test]
    fn several_members_are_one_text_and_any_offset_can_be_read() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let (first, second) = text.split_at(150_001);
        let zstd = [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()].concat();
        for (packed, packing) in [([gzip(first), gzip(second)].concat(), Packing::Gzip), (zstd, Packing::Zstd)] {
            let mut body = body(&packed, packing);
            for (offset, want) in [(0, 10), (5, 100), (149_990, 50_000), (149_995, 10), (3, 7), (399_990, 100)] {
                let end = (offset + want).min(text.len());
                assert_eq!(read(&mut body, offset as u64, want), &text[offset..end], "{packing:?} {offset} {want}");
            }
            let Body::Packed(packed) = &body else { panic!("it is packed") };
            assert_eq!(packed.state, PackedState::Ended);
        }
    }

    #[test]
    fn a_file_that_is_still_being_packed_is_cut_off_and_a_damaged_one_broken() {
        let noise: Vec<u8> =
            (0..50_000u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec()).collect();
        let mut packed = gzip(&noise);
        let mut cut = body(&packed[..packed.len() / 2], Packing::Gzip);
        assert!(!read(&mut cut, 0, 200_000).is_empty());
        let end = packed.len() - 6;
        packed[end] ^= 1;
        let mut damaged = body(&packed, Packing::Gzip);
        assert_eq!(read(&mut damaged, 0, 300_000).len(), 200_000);
        let (Body::Packed(cut), Body::Packed(damaged)) = (&cut, &damaged) else { panic!("both are packed") };
        assert_eq!(cut.state, PackedState::CutOff);
        assert!(matches!(damaged.state, PackedState::Broken(_)), "{:?}", damaged.state);
    }
}
