//! A segment: one file of the journal, and the iteration over its records.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::direct::{BLOCK, padding};
use super::format::{DATA_START, RECORD_HEADER, RECORD_MAGIC, RecordHeader, SEGMENT_HEADER, Sector, SegmentHeader};
use super::fs::{File, Fs};
use super::streams::Heads;
use crate::units::Timestamp;

#[derive(Clone)]
pub struct Segment {
    pub index: u64,
    pub salt: u32,
    pub place: Place,
    /// Behind the last synced record.
    pub end: u32,
    pub first_seq: u64,
    /// The `seq` behind the last synced event.
    pub end_seq: u64,
    /// When it was opened.
    pub oldest: Timestamp,
    /// When its last record was received.
    pub newest: Timestamp,
    /// How far each stream had come before it.
    pub starts: Heads,
}

/// A file that is or was or will be a segment.
#[derive(Clone)]
pub struct Place {
    pub file: Arc<dyn File>,
    pub path: PathBuf,
    /// Length of the file.
    pub bytes: u32,
}

/// How a new file gets its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Zeros are written: a later sync of a few bytes finds nothing to note but the bytes, and takes half the time.
    Written,
    /// The file system is asked for it: that costs a tenth, and a sync of many bytes takes no longer.
    Allocated,
}

/// Zeros written at a time, and the memory for them: aligned, so that they need no page cache.
const ZEROS: usize = 512 * 1024;

impl Place {
    /// Makes a file that reads as zeros and survives a power cut. One that could not be finished is removed.
    pub fn create(fs: &dyn Fs, path: PathBuf, bytes: u32, space: Space) -> io::Result<Place> {
        let file = fs.create(&path)?;
        let filled = match space {
            Space::Written => fill(&*file, 0, bytes),
            Space::Allocated => file.allocate(bytes),
        };
        let filled = filled.and_then(|()| file.sync());
        match filled.and_then(|()| fs.sync_dir(path.parent().expect("a file is in a folder"))) {
            Ok(()) => Ok(Place { file, path, bytes }),
            Err(error) => {
                drop(file);
                fs.remove(&path)?;
                Err(error)
            }
        }
    }
}

/// Writes zeros from `from` up to `to`.
pub fn fill(file: &dyn File, from: u32, to: u32) -> io::Result<()> {
    let zeros = vec![0; ZEROS.min(to.saturating_sub(from) as usize) + BLOCK];
    let mut at = from;
    while at < to {
        let start = padding(zeros.as_ptr(), u64::from(at));
        let len = (zeros.len() - BLOCK).min((to - at) as usize);
        file.write_at(&zeros[start..start + len], u64::from(at))?;
        at += len as u32;
    }
    Ok(())
}

pub fn file_name(number: u64) -> String {
    format!("{number:010}.segment")
}

pub fn file_number(name: &str) -> Option<u64> {
    name.strip_suffix(".segment")?.parse().ok()
}

/// What the two header copies of a file say; of two different ones the newer counts.
pub fn read_header(file: &dyn File) -> io::Result<Sector> {
    let mut both = vec![0; 2 * SEGMENT_HEADER];
    let got = file.read_at(&mut both, 0)?;
    both.truncate(got);
    let first = SegmentHeader::decode(&both[..got.min(SEGMENT_HEADER)]);
    let second = SegmentHeader::decode(both.get(SEGMENT_HEADER..).unwrap_or_default());
    Ok(match (first, second) {
        (Sector::Newer(version), _) | (_, Sector::Newer(version)) => Sector::Newer(version),
        (Sector::Header(a), Sector::Header(b)) => {
            let b_tells_more = (b.index, b.streams.len()) > (a.index, a.streams.len());
            Sector::Header(if b_tells_more { b } else { a })
        }
        (Sector::Header(one), _) | (_, Sector::Header(one)) => Sector::Header(one),
        // A file that was never finished may be shorter than its headers.
        (Sector::Empty | Sector::Broken, Sector::Empty | Sector::Broken) if both.iter().all(|b| *b == 0) => {
            Sector::Empty
        }
        _ => Sector::Broken,
    })
}

/// What the walk met.
pub enum Found {
    Record {
        at: u32,
        header: RecordHeader,
        whole: bool,
    },
    /// Bytes in front of the next valid header that are none.
    Damage {
        from: u32,
        to: u32,
    },
}

/// Walks the records in `bytes` (a whole segment) up to `limit`. Ends where no valid header follows any more.
pub fn walk(bytes: &[u8], salt: u32, limit: u32) -> Vec<Found> {
    let bytes = &bytes[..bytes.len().min(limit as usize)];
    let mut found = Vec::new();
    let mut at = DATA_START as usize;
    while at < bytes.len() {
        if let Some(header) = RecordHeader::decode(&bytes[at..], salt) {
            let body = bytes.get(at + RECORD_HEADER..at + RECORD_HEADER + header.body_len());
            let whole = body.is_some_and(|body| header.fits(body));
            found.push(Found::Record { at: at as u32, header, whole });
            // Where the lengths reach past the end the rest is searched for what else is there.
            at = if body.is_some() { at + header.total_len() } else { at + 8 };
        } else if let Some(next) = next_header(bytes, at + 8, salt) {
            found.push(Found::Damage { from: at as u32, to: next as u32 });
            at = next;
        } else {
            break;
        }
    }
    found
}

/// Where the next valid header stands at or behind `from`.
pub fn next_header(bytes: &[u8], from: usize, salt: u32) -> Option<usize> {
    let finder = memchr::memmem::Finder::new(&RECORD_MAGIC);
    let mut at = from;
    while at < bytes.len() {
        let hit = at + finder.find(&bytes[at..])?;
        if hit.is_multiple_of(8) && RecordHeader::decode(&bytes[hit..], salt).is_some() {
            return Some(hit);
        }
        at = hit + 1;
    }
    None
}

/// Reads a whole file.
pub fn read_all(place: &Place) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; place.bytes as usize];
    let got = place.file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    // Of a file that was cut off, the padding of the last record may be all that is missing.
    bytes.resize(got.next_multiple_of(8), 0);
    Ok(bytes)
}

/// Keeps a copy of damaged bytes for people to look at. There is a bound; what is beyond it is only counted.
pub fn quarantine(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    const MAX_FILES: usize = 256;
    let folder = dir.join("quarantine");
    fs.create_dir(&folder)?;
    let names = fs.list(&folder)?;
    if names.len() >= MAX_FILES && !names.iter().any(|known| known == name) {
        return Ok(());
    }
    let file = fs.create(&folder.join(name))?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    fs.sync_dir(&folder)
}
