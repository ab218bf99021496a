//! Reads records: from the memory tier if they are there, else from the segments.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::Record;
use super::format::{DATA_START, RECORD_HEADER, RecordHeader};
use super::packed::unpack;
use super::segment::{Found, Segment, next_header, quarantine, read_all, walk};
use super::state::{Shared, State};
use super::streams::{Heads, Wanted};

/// Where somebody reads: the next `seq`, and the offset in a segment where its record stands, if known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    pub seq: u64,
    pub hint: Option<(u64, u32)>,
}

/// A record and how many bytes of lines its stream had before it.
pub struct Placed {
    pub record: Arc<Record>,
    pub stream_bytes: u64,
}

/// Reads synced records from `spot` on, up to `max_bytes` of lines but at least one if there is one, and moves the
/// spot behind what was read or skipped. The first record may begin before the spot.
pub fn read(shared: &Shared, spot: &mut Spot, wanted: &Wanted, max_bytes: usize) -> io::Result<Vec<Placed>> {
    let mut placed = Vec::new();
    let mut bytes = 0;
    loop {
        let segment = {
            let state = shared.state();
            if spot.seq >= state.synced_seq {
                break;
            }
            if spot.seq >= state.tier.start() {
                for (record, stream_bytes) in state.tier.from(spot.seq) {
                    if record.end_seq() > state.synced_seq || (bytes >= max_bytes && !placed.is_empty()) {
                        break;
                    }
                    if wanted.has_at(record.stream, record.first_seq) {
                        bytes += record.lines.bytes.len();
                        placed.push(Placed { record: record.clone(), stream_bytes });
                    }
                    *spot = Spot { seq: record.end_seq(), hint: None };
                }
                break;
            }
            let holding = state.segments.partition_point(|segment| segment.end_seq <= spot.seq);
            match state.segments.get(holding) {
                Some(segment) => {
                    // Between two segments, or before the oldest, there is nothing.
                    spot.seq = spot.seq.max(segment.first_seq);
                    segment.clone()
                }
                None => {
                    spot.seq = state.tier.start();
                    continue;
                }
            }
        };
        let read = || read_segment(shared, &segment, spot, wanted, max_bytes, &mut bytes, &mut placed);
        if let Err(error) = beside_the_runtime(read) {
            // Its file may have gone while it was read.
            if still_there(shared, &segment) {
                return Err(error);
            }
            spot.hint = None;
        }
        if bytes >= max_bytes && !placed.is_empty() {
            break;
        }
    }
    Ok(placed)
}

/// A slow disk, unpacking and checksums must not keep a worker of the runtime from its other tasks: they go on elsewhere
/// meanwhile. A worker that reads from memory never comes here.
fn beside_the_runtime<T>(read: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(read),
        _ => read(),
    }
}

/// Reads on in one segment until it ends or enough has come.
fn read_segment(
    shared: &Shared,
    segment: &Segment,
    spot: &mut Spot,
    wanted: &Wanted,
    max_bytes: usize,
    bytes: &mut usize,
    placed: &mut Vec<Placed>,
) -> io::Result<()> {
    let mut at = match spot.hint {
        Some((index, at)) if index == segment.index => at,
        _ => DATA_START,
    };
    let is_shared = shared.state().cursors.len() > 1;
    let mut body = Vec::new();
    while at < segment.end && (*bytes < max_bytes || placed.is_empty()) {
        if is_shared && let Some((known, next)) = shared.unpacked.get((segment.index, at)) {
            let record = &known.record;
            let end_seq = record.end_seq();
            if end_seq > spot.seq && wanted.has_at(record.stream, record.first_seq) {
                *bytes += record.lines.bytes.len();
                placed.push(known);
            }
            at = next;
            *spot = Spot { seq: spot.seq.max(end_seq), hint: Some((segment.index, at)) };
            continue;
        }
        let mut head = [0; RECORD_HEADER];
        segment.place.file.read_at(&mut head, u64::from(at))?;
        let Some(header) = RecordHeader::decode(&head, segment.salt) else {
            if !still_there(shared, segment) {
                return Ok(());
            }
            at = skip_damage(shared, segment, at)?;
            continue;
        };
        if header.end_seq() > spot.seq && header.count > 0 && wanted.has_at(header.stream, header.first_seq) {
            body.resize(header.body_len(), 0);
            segment.place.file.read_at(&mut body, u64::from(at) + RECORD_HEADER as u64)?;
            match header.fits(&body).then(|| unpack(&header, &mut body)).flatten() {
                Some(lines) => {
                    *bytes += lines.bytes.len();
                    let record = Record {
                        stream: header.stream,
                        first_seq: header.first_seq,
                        stream_first: header.stream_first,
                        received_at: header.received_at,
                        lines,
                    };
                    let read = Placed { record: Arc::new(record), stream_bytes: header.stream_bytes };
                    placed.push(match is_shared {
                        true => shared.unpacked.put((segment.index, at), at + header.total_len() as u32, read),
                        false => read,
                    });
                }
                None if !still_there(shared, segment) => return Ok(()),
                None => report_damage(shared, segment, at, at + header.total_len() as u32),
            }
        }
        at += header.total_len() as u32;
        *spot = Spot { seq: spot.seq.max(header.end_seq()), hint: Some((segment.index, at)) };
    }
    if at >= segment.end {
        *spot = Spot { seq: spot.seq.max(segment.end_seq), hint: None };
    }
    if is_shared {
        shared.state().trim_tier(&shared.unpacked);
    }
    Ok(())
}

/// A segment that was reused while it was read is no damage.
fn still_there(shared: &Shared, segment: &Segment) -> bool {
    shared.state().segments.iter().any(|known| known.index == segment.index)
}

/// Where reading goes on behind bytes that are no record.
fn skip_damage(shared: &Shared, segment: &Segment, at: u32) -> io::Result<u32> {
    let bytes = read_all(&segment.place)?;
    let limit = bytes.len().min(segment.end as usize);
    let next = next_header(&bytes[..limit], at as usize + 8, segment.salt).map_or(segment.end, |next| next as u32);
    report_damage(shared, segment, at, next);
    Ok(next)
}

/// Keeps a copy of damaged bytes. How many events they held shows in the numbers of the next record.
fn report_damage(shared: &Shared, segment: &Segment, from: u32, to: u32) {
    shared.damaged.fetch_add(1, Ordering::Relaxed);
    let name = format!("{:010}-{from}", segment.index);
    let mut bytes = vec![0; (to - from) as usize];
    let kept = segment
        .place
        .file
        .read_at(&mut bytes, u64::from(from))
        .and_then(|_| quarantine(&*shared.fs, &shared.options.dir, &name, &bytes));
    match kept {
        Ok(()) => tracing::warn!(segment = segment.index, from, to, "a damaged record was copied to quarantine"),
        Err(error) => tracing::warn!(%error, segment = segment.index, from, to, "a damaged record was skipped"),
    }
}

/// How far each stream had come before `seq`, under the names of now.
pub fn heads_at(shared: &Shared, seq: u64) -> io::Result<Heads> {
    let heads = old_heads_at(shared, seq)?;
    Ok(heads.by_the_names_of(&shared.state().heads))
}

/// The same for a `seq` that is in memory: what is synced, less what lies behind.
fn heads_in_memory(state: &State, seq: u64) -> Heads {
    let mut heads = state.synced.clone();
    for (record, stream_bytes) in state.tier.from(seq) {
        if record.end_seq() <= state.synced_seq
            && let Some(head) = heads.get_mut(record.stream)
            && record.first_seq >= head.since
        {
            head.events = head.events.min(record.stream_first + seq.saturating_sub(record.first_seq));
            head.bytes = head.bytes.min(stream_bytes);
        }
    }
    heads
}

/// The next place behind a segment that cannot be read, and how far each stream had come before `seq` (at least) and
/// before that place. Nothing is read for it.
pub fn behind_unreadable(shared: &Shared, seq: u64) -> (Heads, u64, Heads) {
    let state = shared.state();
    let holding = state.segments.partition_point(|segment| segment.end_seq <= seq);
    let named = |heads: &Heads| heads.clone().by_the_names_of(&state.heads);
    let from = state.segments.get(holding).map_or_else(|| heads_in_memory(&state, seq), |one| named(&one.starts));
    match state.segments.get(holding + 1).filter(|next| next.first_seq < state.tier.start()) {
        Some(next) => (from, next.first_seq, named(&next.starts)),
        None => {
            let to = state.tier.start().clamp(seq, state.synced_seq.max(seq));
            (from, to, heads_in_memory(&state, to))
        }
    }
}

fn old_heads_at(shared: &Shared, seq: u64) -> io::Result<Heads> {
    let (mut heads, segment) = {
        let state = shared.state();
        if seq >= state.synced_seq {
            return Ok(state.synced.clone());
        }
        let holding = state.segments.partition_point(|segment| segment.end_seq <= seq);
        // What segments no longer have may still be in memory.
        let first_in_memory = state.tier.start();
        let is_on_disk = |segment: &&Segment| seq < first_in_memory && segment.first_seq <= first_in_memory;
        match state.segments.get(holding).filter(is_on_disk) {
            Some(segment) => (segment.starts.clone(), segment.clone()),
            None => return Ok(heads_in_memory(&state, seq)),
        }
    };
    for found in walk(&read_all(&segment.place)?, segment.salt, segment.end) {
        let Found::Record { header, .. } = found else { continue };
        if header.first_seq >= seq {
            break;
        }
        heads.raise(&header.entry_at(seq), header.first_seq, header.end_seq().min(seq));
    }
    Ok(heads)
}
