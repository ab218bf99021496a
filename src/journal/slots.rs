//! A small, frequently changing file that is never torn: two preallocated slots, written in turn.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::format::{get32, get64, put32, put64};
use super::fs::{File, Fs};

const MAGIC: u32 = u32::from_le_bytes(*b"WJs\n");
const HEADER: usize = 20;

pub struct Slots {
    file: Arc<dyn File>,
    slot_bytes: usize,
    generation: u64,
}

impl Slots {
    /// Opens or makes the file and tells what was last written whole. Its room on disk is taken now, so that it
    /// can still be written when the disk is full.
    pub fn open(fs: &dyn Fs, path: &Path, slot_bytes: usize) -> io::Result<(Slots, Option<Vec<u8>>)> {
        let file = fs.create(path)?;
        let mut both = vec![0; 2 * slot_bytes];
        let had = file.read_at(&mut both, 0)?;
        let newest = both.chunks(slot_bytes).filter_map(read).max_by_key(|(generation, _)| *generation);
        let (generation, content) = match newest {
            Some((generation, content)) => (generation, Some(content.to_vec())),
            None => (0, None),
        };
        if had < both.len() {
            file.write_at(&vec![0; both.len() - had], had as u64)?;
        }
        let mut slots = Slots { file, slot_bytes, generation };
        // What a killed process has written may be in the kernel's memory only, without a sync that would help: what is
        // read here must not be another thing after a power cut.
        match &content {
            Some(content) => slots.save(content)?,
            None => slots.file.sync()?,
        }
        Ok((slots, content))
    }

    /// The most bytes [`Slots::save`] takes.
    pub fn capacity(&self) -> usize {
        self.slot_bytes - HEADER
    }

    /// Writes over the older of the two slots, and syncs.
    pub fn save(&mut self, content: &[u8]) -> io::Result<()> {
        if content.len() > self.capacity() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} bytes do not fit", content.len())));
        }
        let generation = self.generation + 1;
        let mut slot = vec![0; HEADER + content.len()];
        put32(&mut slot, 0, MAGIC);
        put64(&mut slot, 8, generation);
        put32(&mut slot, 16, content.len() as u32);
        slot[HEADER..].copy_from_slice(content);
        let crc = crc32c::crc32c(&slot[8..]);
        put32(&mut slot, 4, crc);
        self.file.write_at(&slot, (generation % 2) * self.slot_bytes as u64)?;
        self.file.sync()?;
        self.generation = generation;
        Ok(())
    }
}

fn read(slot: &[u8]) -> Option<(u64, &[u8])> {
    if slot.len() < HEADER || get32(slot, 0) != MAGIC {
        return None;
    }
    let end = HEADER.checked_add(get32(slot, 16) as usize)?;
    let all = slot.get(8..end)?;
    (crc32c::crc32c(all) == get32(slot, 4)).then(|| (get64(slot, 8), &slot[HEADER..end]))
}
