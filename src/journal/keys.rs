//! Idempotency keys: a hash table on disk of fixed size, looked up with one or two sector reads.
//!
//! Entries are written after the commit that carries the key was synced, and are not synced themselves before the
//! segment with that commit is full; recovery enters the keys of all records it finds once more.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::IdempotencyKey;
use super::format::{SECTOR, get32, put32};
use super::fs::File;
use crate::units::Timestamp;

/// The most keys that are remembered.
pub const MAX_KEYS: usize = 1_000_000;
/// The most keys that are remembered without a disk.
pub const MAX_KEYS_IN_MEMORY: usize = 100_000;
pub const KEY_AGE: Duration = Duration::from_secs(24 * 3600);

const ENTRY: usize = 48;
const PER_BUCKET: usize = (SECTOR - 4) / ENTRY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMatch {
    /// The same request again, and how many of its events were accepted the first time.
    Same { accepted: u32 },
    /// The key was used for another body.
    OtherBody,
}

pub struct Keys {
    table: Table,
    buckets: u64,
    /// One writer at a time; readers see whole sectors.
    writing: Mutex<()>,
    /// Whether something may not be synced; so at the beginning, since an earlier process may have written it.
    is_dirty: AtomicBool,
}

enum Table {
    File(Arc<dyn File>),
    Memory(Mutex<Vec<u8>>),
}

#[derive(Clone, Copy)]
struct Entry {
    key: [u8; 16],
    body: [u8; 16],
    accepted: u32,
    at: Timestamp,
}

impl Entry {
    fn is_over(&self, now: Timestamp) -> bool {
        self.at.plus(KEY_AGE) <= now
    }
}

/// How many buckets hold `keys` entries with a fifth of the places free, so that few are pushed out early.
fn buckets_for(keys: usize) -> u64 {
    (keys * 5 / 4).div_ceil(PER_BUCKET) as u64
}

impl Keys {
    pub fn on_disk(file: Arc<dyn File>) -> Keys {
        Keys {
            table: Table::File(file),
            buckets: buckets_for(MAX_KEYS),
            writing: Mutex::new(()),
            is_dirty: AtomicBool::new(true),
        }
    }

    pub fn in_memory() -> Keys {
        let buckets = buckets_for(MAX_KEYS_IN_MEMORY);
        let table = Table::Memory(Mutex::new(vec![0; buckets as usize * SECTOR]));
        Keys { table, buckets, writing: Mutex::new(()), is_dirty: AtomicBool::new(true) }
    }

    pub fn find(&self, key: &IdempotencyKey, now: Timestamp) -> io::Result<Option<KeyMatch>> {
        for bucket in self.places(&key.key) {
            let entries = self.read(bucket)?;
            if let Some(entry) = entries.iter().find(|entry| entry.key == key.key && !entry.is_over(now)) {
                let same = entry.body == key.body;
                return Ok(Some(if same { KeyMatch::Same { accepted: entry.accepted } } else { KeyMatch::OtherBody }));
            }
        }
        Ok(None)
    }

    /// Remembers a key. Where both its places are taken, the oldest entry there makes room.
    pub fn enter(&self, key: &IdempotencyKey, accepted: u32, at: Timestamp, now: Timestamp) -> io::Result<()> {
        let _one = self.writing.lock().expect("no panic while it is held");
        let new = Entry { key: key.key, body: key.body, accepted, at };
        if new.is_over(now) {
            return Ok(());
        }
        let places = self.places(&key.key);
        let mut found = [self.read(places[0])?, self.read(places[1])?];
        for (bucket, entries) in places.iter().zip(&mut found) {
            if let Some(same) = entries.iter_mut().find(|entry| entry.key == key.key) {
                *same = new;
                return self.write(*bucket, entries);
            }
        }
        for entries in &mut found {
            entries.retain(|entry| !entry.is_over(now));
        }
        let emptier = usize::from(found[1].len() < found[0].len());
        let entries = &mut found[emptier];
        if entries.len() == PER_BUCKET {
            let oldest = (0..PER_BUCKET).min_by_key(|at| entries[*at].at).expect("a bucket has places");
            entries.swap_remove(oldest);
        }
        entries.push(new);
        self.write(places[emptier], entries)
    }

    /// Makes what was entered since the last sync durable.
    pub fn sync(&self) -> io::Result<()> {
        match &self.table {
            Table::File(file) if self.is_dirty.swap(false, Ordering::AcqRel) => {
                file.sync().inspect_err(|_| self.is_dirty.store(true, Ordering::Release))
            }
            Table::File(_) | Table::Memory(_) => Ok(()),
        }
    }

    fn places(&self, key: &[u8; 16]) -> [u64; 2] {
        let (first, second) = key.split_at(8);
        [first, second].map(|half| u64::from_le_bytes(half.try_into().expect("eight bytes")) % self.buckets)
    }

    fn read(&self, bucket: u64) -> io::Result<Vec<Entry>> {
        let mut sector = [0; SECTOR];
        match &self.table {
            Table::File(file) => {
                file.read_at(&mut sector, bucket * SECTOR as u64)?;
            }
            Table::Memory(bytes) => {
                let at = bucket as usize * SECTOR;
                sector.copy_from_slice(&bytes.lock().expect("no panic while it is held")[at..at + SECTOR]);
            }
        }
        // A damaged sector costs its keys; those the journal still holds come back at the next start.
        if get32(&sector, SECTOR - 4) != crc32c::crc32c(&sector[..SECTOR - 4]) {
            return Ok(Vec::new());
        }
        let entries = sector[..PER_BUCKET * ENTRY].chunks_exact(ENTRY).map(|bytes| Entry {
            key: bytes[..16].try_into().expect("sixteen bytes"),
            body: bytes[16..32].try_into().expect("sixteen bytes"),
            accepted: get32(bytes, 32),
            at: Timestamp(i64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes"))),
        });
        Ok(entries.filter(|entry| entry.at.0 != 0).collect())
    }

    fn write(&self, bucket: u64, entries: &[Entry]) -> io::Result<()> {
        let mut sector = [0; SECTOR];
        for (entry, bytes) in entries.iter().zip(sector.chunks_exact_mut(ENTRY)) {
            bytes[..16].copy_from_slice(&entry.key);
            bytes[16..32].copy_from_slice(&entry.body);
            put32(bytes, 32, entry.accepted);
            bytes[40..48].copy_from_slice(&entry.at.0.to_le_bytes());
        }
        let crc = crc32c::crc32c(&sector[..SECTOR - 4]);
        put32(&mut sector, SECTOR - 4, crc);
        match &self.table {
            Table::File(file) => {
                let written = file.write_at(&sector, bucket * SECTOR as u64);
                // Behind the write, so that no sync comes between that would not cover it.
                self.is_dirty.store(true, Ordering::Release);
                written
            }
            Table::Memory(bytes) => {
                let at = bucket as usize * SECTOR;
                bytes.lock().expect("no panic while it is held")[at..at + SECTOR].copy_from_slice(&sector);
                Ok(())
            }
        }
    }
}
