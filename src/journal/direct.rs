//! Large writes past the page cache, where the file system is known to take them: the cache costs more than the write.
//!
//! Only whole blocks can be written directly, and only from memory that is aligned as they are. What comes before the first
//! and behind the last one goes through the cache. A sync covers both.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// What offsets, lengths and memory of direct writes are multiples of; no disk asks for more.
pub const BLOCK: usize = 4096;
/// Fewer bytes in whole blocks than this are not worth a write of their own.
pub const LEAST_DIRECT: usize = 256 * 1024;
/// ext4 and XFS.
const FILE_SYSTEMS: [u64; 2] = [0xEF53, 0x5846_5342];

/// Whether direct writes may be tried on this file.
pub fn is_allowed(file: impl AsFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| FILE_SYSTEMS.contains(&(stat.f_type as u64)))
}

/// Whether an error says that this file takes no direct writes.
fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

/// How many bytes to put in front of what is written at `offset`, so that its blocks lie in memory as they do in the file.
pub fn padding(memory: *const u8, offset: u64) -> usize {
    (offset as usize % BLOCK + BLOCK - memory.addr() % BLOCK) % BLOCK
}

/// A descriptor for direct writes to an open file, where it takes them. It is one of its own: readers of the other one read
/// any number of bytes. Of a file that is only appended to, this one appends too: where somebody else has appended
/// meanwhile, the kernel refuses to write at an end that is no multiple of a block.
pub fn open(file: &File) -> Option<File> {
    if !is_allowed(file) {
        return None;
    }
    let appends = rustix::fs::fcntl_getfl(file).ok()? & OFlags::APPEND;
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC | appends;
    // The same file, whatever has its name by now.
    let same = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(same, flags, Mode::empty()).map(File::from).ok()
}

/// Writes all of `bytes` to an open file.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_all_by(file, || open(file), bytes, offset)
}

/// The same with the descriptor for direct writes given by `direct`, which is asked where there is enough to write.
pub fn write_all_by<F: Borrow<File>>(
    file: &File,
    direct: impl FnOnce() -> Option<F>,
    bytes: &[u8],
    offset: u64,
) -> io::Result<()> {
    let head = (offset.next_multiple_of(BLOCK as u64) - offset) as usize;
    let whole = bytes.len().saturating_sub(head) / BLOCK * BLOCK;
    let fits = whole >= LEAST_DIRECT && bytes[head..].as_ptr().addr().is_multiple_of(BLOCK);
    let Some(direct) = fits.then(direct).flatten() else { return file.write_all_at(bytes, offset) };
    // In order, for files that are only appended to.
    file.write_all_at(&bytes[..head], offset)?;
    let rest = head + write_blocks(direct.borrow(), &bytes[head..head + whole], offset + head as u64)?;
    file.write_all_at(&bytes[rest..], offset + rest as u64)
}

/// Writes what lies in several places, one behind the other: directly where each is whole blocks.
pub fn write_pieces_by<F: Borrow<File>>(
    file: &File,
    direct: impl FnOnce() -> Option<F>,
    pieces: &[&[u8]],
    mut offset: u64,
) -> io::Result<()> {
    let is_whole = |piece: &&[u8]| piece.as_ptr().addr().is_multiple_of(BLOCK) && piece.len().is_multiple_of(BLOCK);
    let fits = offset.is_multiple_of(BLOCK as u64) && pieces.iter().all(is_whole);
    let mut written = match fits.then(direct).flatten() {
        Some(direct) => write_vectored(direct.borrow(), pieces, offset)?,
        None => 0,
    };
    // What is left: all of it, or what a disk did not take at once.
    for piece in pieces {
        let (done, rest) = piece.split_at(written.min(piece.len()));
        written -= done.len();
        file.write_all_at(rest, offset + done.len() as u64)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Writes pieces of whole blocks directly, and returns how many bytes were written.
fn write_vectored(file: &File, pieces: &[&[u8]], offset: u64) -> io::Result<usize> {
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    loop {
        match rustix::io::pwritev(file, &slices, offset) {
            Err(Errno::INTR) => {}
            Err(error) if is_refusal(&error.into()) => return Ok(0),
            written => return Ok(written?),
        }
    }
}

/// Writes whole blocks directly, and returns how many bytes were written.
fn write_blocks(file: &File, blocks: &[u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.write_at(blocks, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_refusal(&error) => return Ok(0),
            written => return written,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_that_are_whole_blocks_and_others_stand_in_a_file_one_behind_the_other() {
        let path = std::env::temp_dir().join(format!("weir-pieces-{}", std::process::id()));
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        let memory: Vec<u8> = (0..20 * BLOCK).map(|n| (n / 97) as u8).collect();
        let first = padding(memory.as_ptr(), 0);
        for (offset, lens) in [(0, [2, 1, 3]), (4096, [1, 1, 1]), (8192, [1, 4, 2]), (100, [2, 1, 1])] {
            for odd in [0, 1, BLOCK / 2] {
                let (mut at, mut pieces) = (first, Vec::new());
                for len in lens {
                    pieces.push(&memory[at..at + len * BLOCK + odd]);
                    at += (len + 2) * BLOCK;
                }
                write_pieces_by(&file, || open(&file), &pieces, offset).unwrap();
                let written = std::fs::read(&path).unwrap();
                assert!(written[offset as usize..].starts_with(&pieces.concat()), "{lens:?} and {odd} at {offset}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_file_holds_what_was_written_however_it_got_there(
            writes in prop::collection::vec((0u64..100_000, 0usize..900_000, any::<bool>()), 1..6),
        ) {
            let path = std::env::temp_dir().join(format!("weir-direct-{}", std::process::id()));
            let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
            let (mut expected, mut fill) = (Vec::new(), 0u8);
            for (offset, len, lies_well) in writes {
                let mut memory = Vec::with_capacity(len + 2 * BLOCK);
                let padding = padding(memory.as_ptr(), offset) + usize::from(!lies_well);
                memory.resize(padding, 0);
                memory.extend((0..len).map(|n| { fill = fill.wrapping_add((n / 251) as u8).wrapping_add(1); fill }));
                write_all_at(&file, &memory[padding..], offset).unwrap();
                let end = offset as usize + len;
                expected.resize(expected.len().max(if len > 0 { end } else { 0 }), 0);
                if len > 0 {
                    expected[offset as usize..end].copy_from_slice(&memory[padding..]);
                }
                prop_assert!(std::fs::read(&path).unwrap() == expected);
            }
            std::fs::remove_file(&path).unwrap();
        }
    }
}
