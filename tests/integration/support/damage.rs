//! Bytes that go bad in a journal, and a file sink that cannot write until then.

use std::fs;
use std::path::PathBuf;

use super::Folder;

const HEADER: usize = 128;

/// A record.
pub struct Record {
    pub segment: PathBuf,
    /// Where its header stands.
    pub at: usize,
    pub body_len: usize,
    pub count: u32,
}

impl Record {
    /// Whether a text stands behind the header, where positions are not compressed.
    pub fn has(&self, text: &str) -> bool {
        let bytes = fs::read(&self.segment).expect("a segment can be read");
        bytes[self.at..self.at + HEADER + self.body_len].windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// A byte in the middle of what stands behind the header.
    pub fn body(&self) -> (PathBuf, usize) {
        (self.segment.clone(), self.at + HEADER + self.body_len / 2)
    }
}

/// The records of the journal in a test's folder that hold events.
pub fn records(folder: &Folder) -> Vec<Record> {
    let mut records = every_record(folder);
    records.retain(|record| record.count > 0);
    records
}

/// Those without events too: with positions or state, or with nothing but how far the disk was synced.
pub fn every_record(folder: &Folder) -> Vec<Record> {
    let names = fs::read_dir(folder.path("data").join("journal")).expect("there is a journal");
    let mut segments: Vec<PathBuf> = names.map(|entry| entry.expect("a name").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    segments.sort();
    let mut found = Vec::new();
    for segment in segments {
        let bytes = fs::read(&segment).expect("a segment can be read");
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let mut at = 8192;
        while bytes.get(at..at + 4) == Some(b"WJr\n") {
            let body_len = (number(at + 64) + number(at + 68) + number(at + 72)) as usize;
            found.push(Record { segment: segment.clone(), at, body_len, count: number(at + 56) });
            at += (HEADER + body_len).next_multiple_of(8);
        }
    }
    found
}

/// Changes one byte of a file.
pub fn flip((path, at): (PathBuf, usize)) {
    let mut bytes = fs::read(&path).expect("a segment can be read");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("a segment can be written");
}

/// A sink that writes below `out` cannot: where the folder should be is a file.
pub fn block(folder: &Folder) {
    folder.write("out", "");
}

pub fn unblock(folder: &Folder) {
    fs::remove_file(folder.path("out")).expect("the file can be removed");
}
