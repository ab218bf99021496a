//! The body of a record: compressed lines, preceded by the lengths and origins of their events.

use std::cell::RefCell;

use bytes::Bytes;
use lz4::block::CompressionMode;

use super::format::{RECORD_BYTES, RecordHeader, body_crc};
use super::{Codec, layout};
use crate::event::{Lines, Origins, Seed};
use crate::varint::{put_varint, take_varint};

/// Lines made ready for the disk before their place is known.
#[derive(Clone, Debug)]
pub struct Packed {
    pub codec: Codec,
    pub meta: Vec<u8>,
    pub packed: Bytes,
    pub crc: u32,
}

/// A step of two costs 3 % of the ratio and saves a sixteenth of the time.
const LZ4_MODE: CompressionMode = CompressionMode::FAST(2);

thread_local! {
    /// What LZ4 writes to before anyone knows how much that will be, one for each thread that packs.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn lz4_compress(bytes: &[u8]) -> Option<Vec<u8>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let bound = lz4::block::compress_bound(bytes.len()).ok()?;
        if scratch.len() < bound {
            scratch.resize(bound, 0);
        }
        let len = lz4::block::compress_to_buffer(bytes, Some(LZ4_MODE), false, scratch).ok()?;
        let packed = scratch[..len].to_vec();
        if bytes.len() > RECORD_BYTES {
            // One huge event is no reason to hold its size for ever.
            *scratch = Vec::new();
        }
        Some(packed)
    })
}

pub fn pack(lines: &Lines, codec: Codec) -> Packed {
    let mut meta = encode_meta(lines);
    let smaller = match codec {
        Codec::None => None,
        Codec::Lz4 => lz4_compress(&lines.bytes),
        Codec::Zstd => zstd::bulk::compress(&lines.bytes, 1).ok(),
    };
    // What does not shrink is kept as it is: it costs nothing to read.
    let (codec, packed) = match smaller {
        Some(smaller) if smaller.len() < lines.bytes.len() => (codec, Bytes::from(smaller)),
        _ => {
            layout::suit(&mut meta, &lines.bytes);
            (Codec::None, lines.bytes.clone())
        }
    };
    let crc = body_crc([&meta[..], &packed[..]]);
    Packed { codec, meta, packed, crc }
}

/// The lines behind a header whose body [`RecordHeader::fits`]. Lines that are not packed stay in the memory of the body;
/// else what remains of it is for others to read into.
pub fn unpack(header: &RecordHeader, body: &mut Vec<u8>) -> Option<Lines> {
    let (meta, packed) = body.get(header.notes_len as usize..)?.split_at_checked(header.meta_len as usize)?;
    let size = header.lines_len as usize;
    let bytes = match header.codec {
        Codec::None => {
            let (meta, from) = (meta.to_vec(), body.len() - packed.len());
            let bytes = Bytes::from(std::mem::take(body)).slice(from..);
            return (bytes.len() == size).then(|| decode_meta(&meta, bytes, header.count as usize)).flatten();
        }
        Codec::Lz4 => lz4::block::decompress(packed, Some(i32::try_from(size).ok()?)).ok()?,
        Codec::Zstd => zstd::bulk::decompress(packed, size).ok()?,
    };
    (bytes.len() == size).then_some(())?;
    decode_meta(meta, Bytes::from(bytes), header.count as usize)
}

fn encode_meta(lines: &Lines) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + lines.len() * 3);
    let mut before = 0;
    for end in &lines.ends {
        put_varint(&mut out, u64::from(end - before));
        before = *end;
    }
    for (seed, ordinals) in lines.origins.runs() {
        out.extend_from_slice(&seed.0);
        put_varint(&mut out, ordinals.len() as u64);
        let mut before = 0u64;
        for ordinal in ordinals {
            put_varint(&mut out, ordinal.wrapping_sub(before));
            before = *ordinal;
        }
    }
    out
}

fn decode_meta(mut meta: &[u8], bytes: Bytes, count: usize) -> Option<Lines> {
    let mut ends = Vec::with_capacity(count.min(meta.len()));
    let mut end = 0u64;
    for _ in 0..count {
        end += take_varint(&mut meta)?;
        ends.push(u32::try_from(end).ok()?);
    }
    (end == bytes.len() as u64).then_some(())?;
    let mut origins = Origins::default();
    while let Some((seed, rest)) = meta.split_first_chunk::<16>() {
        meta = rest;
        let len = take_varint(&mut meta)? as usize;
        (len <= meta.len()).then_some(())?;
        let mut ordinals = Vec::with_capacity(len);
        let mut ordinal = 0u64;
        for _ in 0..len {
            ordinal = ordinal.wrapping_add(take_varint(&mut meta)?);
            ordinals.push(ordinal);
        }
        origins.push(Seed(*seed), ordinals);
    }
    meta.is_empty().then_some(Lines { bytes, ends, origins })
}
