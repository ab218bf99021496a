//! One file of dead letters, appended to until full; a finished dead letter is marked in its own header.
//!
//! A file begins with [`MAGIC`]. A record is a header of 28 bytes and a payload:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `LETR` |
//! | 4 | state: [`LIVE`], or [`DONE`] once replayed or dropped; overwritten in place, so in no checksum |
//! | 5 | 1 if the dead letter is parked, which its head says too; else zero |
//! | 6..8 | zero |
//! | 8..16 | number |
//! | 16..20 | length of the payload |
//! | 20..24 | CRC-32C of the payload |
//! | 24..28 | CRC-32C of the header without the state (and without what is zero in 5..8) |
//!
//! Recovery takes every record whose checksums hold, looks for the next one behind damage, and cuts what
//! follows the last.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::dead_letter::{DeadLetter, Number};

pub const MAGIC: &[u8; 16] = b"weir letters 1\r\n";
const MARK: &[u8; 4] = b"LETR";
const LIVE: u8 = 0xA5;
const DONE: u8 = 0x5A;
const PARKED: u8 = 1;
pub const HEADER: usize = 28;

/// Where a segment's bytes are.
#[derive(Debug)]
enum Medium {
    File(File, PathBuf),
    Memory(Vec<u8>),
}

#[derive(Debug)]
pub struct Segment {
    medium: Medium,
    /// The number that the slots count from.
    pub first: u64,
    /// Bytes that hold the magic and whole records.
    pub len: u64,
    slots: Vec<Slot>,
    /// Names of components, which slots give the place of.
    names: Vec<String>,
    /// Bytes of records that are done.
    pub done_bytes: u64,
    /// Damaged places that recovery has skipped.
    pub damaged: u64,
}

/// A dead letter's place, small because there may be a million.
#[derive(Clone, Copy, Debug)]
struct Slot {
    delta: u32,
    offset: u32,
    /// The place of the component's name; of more than there can be, the last.
    name: u16,
}

/// Marks a slot's offset as that of a dead letter that is done.
const SLOT_DONE: u32 = 1 << 31;
/// Marks a slot's offset as that of a parked dead letter.
const SLOT_PARKED: u32 = 1 << 30;
/// Offsets are below this.
pub const MAX_OFFSET: usize = 1 << 30;

impl Slot {
    fn offset(self) -> u64 {
        u64::from(self.offset & !(SLOT_DONE | SLOT_PARKED))
    }

    fn is_parked(self) -> bool {
        self.offset & SLOT_PARKED != 0
    }

    fn is_live(self) -> bool {
        self.offset & SLOT_DONE == 0
    }
}

impl Segment {
    /// Makes a file in a folder, or a segment in memory. The caller syncs the folder.
    pub fn create(folder: Option<&Path>, first: u64) -> io::Result<Segment> {
        let medium = match folder {
            None => Medium::Memory(MAGIC.to_vec()),
            Some(folder) => {
                let path = folder.join(format!("{first:016x}.dlq"));
                let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
                file.write_all_at(MAGIC, 0)?;
                file.sync_all()?;
                Medium::File(file, path)
            }
        };
        Ok(Segment {
            medium,
            first,
            len: MAGIC.len() as u64,
            slots: Vec::new(),
            names: Vec::new(),
            done_bytes: 0,
            damaged: 0,
        })
    }

    /// Opens a file and reads what it holds. `newest`: its tail may be torn and is cut.
    pub fn open(path: &Path, first: u64, newest: bool) -> io::Result<Segment> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = std::fs::read(path)?;
        let medium = Medium::File(file, path.to_owned());
        let mut segment =
            Segment { medium, first, len: 0, slots: Vec::new(), names: Vec::new(), done_bytes: 0, damaged: 0 };
        segment.read_records(&bytes);
        if newest && segment.len < bytes.len() as u64 {
            segment.cut_tail()?;
        }
        Ok(segment)
    }

    fn read_records(&mut self, bytes: &[u8]) {
        let mut at = if bytes.starts_with(MAGIC) { MAGIC.len() } else { 0 };
        self.len = MAGIC.len() as u64;
        while at < bytes.len() {
            let Some(header) = Header::read(&bytes[at..]) else {
                // Behind damage, the next record is found by its mark.
                let skip = memchr::memmem::find(&bytes[at + 1..], MARK).map_or(bytes.len() - at, |found| found + 1);
                let more = Header::read(&bytes[(at + skip).min(bytes.len())..]).is_some();
                self.damaged += u64::from(more);
                at += skip;
                continue;
            };
            let end = at + HEADER + header.payload_len as usize;
            let payload = bytes.get(at + HEADER..end);
            let in_reach = header.number.checked_sub(self.first).is_some_and(|delta| delta <= u32::MAX.into());
            let whole = payload.filter(|payload| in_reach && crc32c::crc32c(payload) == header.payload_crc);
            if let Some(payload) = whole {
                self.add(header.number, at as u64, end as u64, header.flags(), payload);
                at = end;
            } else {
                self.damaged += u64::from(payload.is_some());
                at += HEADER;
            }
        }
    }

    fn add(&mut self, number: u64, start: u64, end: u64, flags: u32, payload: &[u8]) {
        let component = DeadLetter::component_of(payload).unwrap_or_default();
        let known = self.names.iter().position(|name| *name == component);
        let name = known.unwrap_or_else(|| {
            if self.names.len() < usize::from(u16::MAX) {
                self.names.push(component.into_owned());
            }
            self.names.len() - 1
        }) as u16;
        self.slots.push(Slot { delta: (number - self.first) as u32, offset: start as u32 | flags, name });
        self.done_bytes += if flags & SLOT_DONE != 0 { end - start } else { 0 };
        self.len = end;
    }

    /// Appends records that [`encode`] made, and syncs them. On failure nothing was added.
    pub fn append(&mut self, records: &[u8], starts: &[(u64, usize)]) -> Result<(), AppendError> {
        if let Err(error) = self.medium.write_at(records, self.len) {
            // What was written in part must not be taken for dead letters later.
            return Err(match self.cut_tail() {
                Ok(()) => AppendError::Write(error),
                Err(_) => AppendError::Sync(error),
            });
        }
        if let Err(error) = self.medium.sync() {
            drop(self.cut_tail());
            return Err(AppendError::Sync(error));
        }
        let base = self.len;
        for (nth, (number, start)) in starts.iter().enumerate() {
            let end = starts.get(nth + 1).map_or(records.len(), |next| next.1);
            let header = Header::read(&records[*start..]).expect("it was encoded just now");
            let payload = &records[*start + HEADER..end];
            self.add(*number, base + *start as u64, base + end as u64, header.flags(), payload);
        }
        Ok(())
    }

    fn cut_tail(&mut self) -> io::Result<()> {
        match &mut self.medium {
            Medium::File(file, _) => {
                file.set_len(self.len)?;
                if self.len == MAGIC.len() as u64 {
                    file.write_all_at(MAGIC, 0)?;
                }
                file.sync_all()
            }
            Medium::Memory(bytes) => {
                bytes.truncate(self.len as usize);
                Ok(())
            }
        }
    }

    /// Numbers of the dead letters that are not done, ascending.
    pub fn live(&self) -> impl DoubleEndedIterator<Item = Number> + '_ {
        self.slots.iter().filter(|slot| slot.is_live()).map(|slot| Number(self.first + u64::from(slot.delta)))
    }

    /// Those of them that are parked.
    pub fn parked(&self) -> impl Iterator<Item = Number> + '_ {
        let parked = self.slots.iter().filter(|slot| slot.is_live() && slot.is_parked());
        parked.map(|slot| Number(self.first + u64::from(slot.delta)))
    }

    /// How many dead letters each component has, parked ones aside.
    pub fn add_dead(&self, counts: &mut BTreeMap<String, u64>) {
        let mut by_name = vec![0; self.names.len()];
        for slot in self.slots.iter().filter(|slot| slot.is_live() && !slot.is_parked()) {
            by_name[usize::from(slot.name)] += 1;
        }
        for (name, count) in self.names.iter().zip(by_name).filter(|(_, count)| *count > 0) {
            *counts.entry(name.clone()).or_default() += count;
        }
    }

    pub fn live_count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_live()).count()
    }

    pub fn last(&self) -> Option<u64> {
        self.slots.last().map(|slot| self.first + u64::from(slot.delta))
    }

    fn slot(&self, number: Number) -> Option<usize> {
        let delta = u32::try_from(number.0.checked_sub(self.first)?).ok()?;
        let at = self.slots.binary_search_by_key(&delta, |slot| slot.delta).ok()?;
        self.slots[at].is_live().then_some(at)
    }

    /// A dead letter that is not done.
    pub fn get(&self, number: Number) -> Option<io::Result<DeadLetter>> {
        let slot = self.slots[self.slot(number)?];
        Some(
            self.record(slot)
                .and_then(|record| DeadLetter::decode(number, &record[HEADER..]).map_err(io::Error::other)),
        )
    }

    /// A whole record with its header.
    fn record(&self, slot: Slot) -> io::Result<Vec<u8>> {
        let mut record = vec![0; HEADER];
        self.medium.read_at(&mut record, slot.offset())?;
        let header = Header::read(&record).ok_or_else(|| io::Error::other("a dead letter's header is damaged"))?;
        record.resize(HEADER + header.payload_len as usize, 0);
        self.medium.read_at(&mut record[HEADER..], slot.offset() + HEADER as u64)?;
        if crc32c::crc32c(&record[HEADER..]) != header.payload_crc {
            return Err(io::Error::other("a dead letter is damaged"));
        }
        Ok(record)
    }

    /// Marks a dead letter as done; `sync` makes it last. Tells whether it was live.
    pub fn mark_done(&mut self, number: Number) -> io::Result<bool> {
        let Some(at) = self.slot(number) else { return Ok(false) };
        let offset = self.slots[at].offset();
        self.medium.write_at(&[DONE], offset + 4)?;
        let mut header = vec![0; HEADER];
        self.medium.read_at(&mut header, offset)?;
        let payload = Header::read(&header).map_or(0, |header| header.payload_len);
        self.slots[at].offset |= SLOT_DONE;
        self.done_bytes += HEADER as u64 + u64::from(payload);
        Ok(true)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.medium.sync()
    }

    /// Rewrites the segment without what is done. The caller syncs the folder.
    pub fn compact(&mut self) -> io::Result<()> {
        let (mut bytes, mut slots) = (MAGIC.to_vec(), Vec::new());
        for slot in self.slots.iter().filter(|slot| slot.is_live()) {
            slots.push(Slot { offset: bytes.len() as u32 | slot.offset & SLOT_PARKED, ..*slot });
            bytes.extend_from_slice(&self.record(*slot)?);
        }
        let len = bytes.len() as u64;
        match &mut self.medium {
            Medium::Memory(old) => *old = bytes,
            Medium::File(file, path) => {
                let temporary = path.with_extension("tmp");
                let new = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&temporary)?;
                new.write_all_at(&bytes, 0)?;
                new.sync_all()?;
                std::fs::rename(&temporary, path)?;
                *file = new;
            }
        }
        (self.slots, self.len, self.done_bytes) = (slots, len, 0);
        Ok(())
    }

    /// Removes the file of a segment without live dead letters. The caller syncs the folder.
    pub fn remove(self) -> io::Result<()> {
        match self.medium {
            Medium::File(_, path) => std::fs::remove_file(path),
            Medium::Memory(_) => Ok(()),
        }
    }
}

#[derive(Debug)]
pub enum AppendError {
    /// Nothing was added; the segment is as before.
    Write(io::Error),
    /// What the disk holds now is unknown: the segment takes nothing more.
    Sync(io::Error),
}

impl Medium {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Medium::File(file, _) => file.write_all_at(bytes, offset),
            Medium::Memory(memory) => {
                let start = offset as usize;
                memory.resize(memory.len().max(start + bytes.len()), 0);
                memory[start..start + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Medium::File(file, _) => file.read_exact_at(bytes, offset),
            Medium::Memory(memory) => {
                let from = memory.get(offset as usize..).and_then(|rest| rest.get(..bytes.len()));
                bytes.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Medium::File(file, _) => file.sync_data(),
            Medium::Memory(_) => Ok(()),
        }
    }
}

struct Header {
    number: u64,
    payload_len: u32,
    payload_crc: u32,
    done: bool,
    parked: bool,
}

impl Header {
    fn flags(&self) -> u32 {
        (if self.done { SLOT_DONE } else { 0 }) | (if self.parked { SLOT_PARKED } else { 0 })
    }

    fn read(bytes: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if &bytes[..4] != MARK || u32_at(24) != header_crc(bytes) {
            return None;
        }
        Some(Header {
            number: u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes")),
            payload_len: u32_at(16),
            payload_crc: u32_at(20),
            done: bytes[4] == DONE,
            parked: bytes[5] == PARKED,
        })
    }
}

fn header_crc(header: &[u8]) -> u32 {
    let mark = crc32c::crc32c(&header[..4]);
    let kind = if header[5..8] == [0; 3] { mark } else { crc32c::crc32c_append(mark, &header[5..8]) };
    crc32c::crc32c_append(kind, &header[8..24])
}

/// Appends a dead letter's record.
pub fn encode(dead_letter: &DeadLetter, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    dead_letter.encode(out);
    let (header, payload) = out[start..].split_at_mut(HEADER);
    header[..4].copy_from_slice(MARK);
    header[4] = LIVE;
    header[5] = if dead_letter.content.parked.is_some() { PARKED } else { 0 };
    header[8..16].copy_from_slice(&dead_letter.number.0.to_le_bytes());
    header[16..20].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[20..24].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let crc = header_crc(header);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
}
