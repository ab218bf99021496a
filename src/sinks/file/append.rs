//! Appends chunks to a file: through the page cache, or past it where so much comes at once that the cache costs most.
//!
//! A large write spends three quarters of its time in the page cache: pages are allocated, filled and written back, and
//! nobody may ever read them. So the whole blocks in the middle of a large write go to the disk directly, from a buffer
//! that is used again. What comes before the first and behind the last whole block goes through the cache, so that the
//! file never has a byte that is not an event's. A sync covers both.

use std::fs::File;
use std::io::{self, IoSlice, Write};

use rustix::fs::OFlags;

use crate::journal::direct::{BLOCK, LEAST_DIRECT, is_refusal};

/// Bytes of one direct write.
const DIRECT_BYTES: usize = 512 * 1024;
/// Chunks in one system call.
const MAX_SLICES: usize = 64;
/// Bytes in one system call: of more at once some kernels make pages so large that filling them costs several times as much.
const MAX_BYTES: usize = 256 * 1024;

/// Memory for direct writes, made when it is first needed.
#[derive(Default)]
pub struct DirectBuffer(Vec<u8>);

impl DirectBuffer {
    fn aligned(&mut self) -> &mut [u8] {
        if self.0.is_empty() {
            self.0 = vec![0; DIRECT_BYTES + BLOCK];
        }
        let start = self.0.as_ptr().align_offset(BLOCK);
        &mut self.0[start..start + DIRECT_BYTES]
    }
}

/// Appends all chunks to a file that has `size` bytes. Where direct writes turn out to be impossible, `buffer` is taken
/// away.
pub fn append(file: &File, size: u64, chunks: &[&[u8]], buffer: &mut Option<&mut DirectBuffer>) -> io::Result<()> {
    let total: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let head = (size.next_multiple_of(BLOCK as u64) - size) as usize;
    let whole = total.saturating_sub(head) / BLOCK * BLOCK;
    let mut rest = Rest { chunks, at: 0 };
    if whole >= LEAST_DIRECT
        && let Some(memory) = buffer.take()
    {
        through_cache(file, &mut rest, head)?;
        if past_cache(file, &mut rest, whole, memory.aligned())? {
            *buffer = Some(memory);
        }
    }
    through_cache(file, &mut rest, usize::MAX)
}

/// The bytes that are still to be written.
struct Rest<'a> {
    chunks: &'a [&'a [u8]],
    /// Bytes of the first chunk that are written.
    at: usize,
}

impl<'a> Rest<'a> {
    /// The next bytes that lie together.
    fn front(&self) -> Option<&'a [u8]> {
        self.chunks.first().map(|chunk| &chunk[self.at..])
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some(front) = self.front() {
            if bytes < front.len() {
                self.at += bytes;
                return;
            }
            bytes -= front.len();
            (self.chunks, self.at) = (&self.chunks[1..], 0);
        }
    }

    /// Up to so many bytes, as they lie in memory.
    fn slices(&self, most: usize) -> Vec<IoSlice<'a>> {
        let (mut slices, mut left) = (Vec::new(), most);
        let others = self.chunks.iter().skip(1).copied();
        for chunk in self.front().into_iter().chain(others).take(MAX_SLICES) {
            let taken = &chunk[..chunk.len().min(left)];
            slices.push(IoSlice::new(taken));
            left -= taken.len();
            if left == 0 {
                break;
            }
        }
        slices
    }

    /// Fills a buffer; there is at least so much.
    fn fill(&self, buffer: &mut [u8]) {
        let mut at = 0;
        for slice in self.chunks.iter().enumerate().map(|(nth, chunk)| if nth == 0 { &chunk[self.at..] } else { chunk })
        {
            let taken = slice.len().min(buffer.len() - at);
            buffer[at..at + taken].copy_from_slice(&slice[..taken]);
            at += taken;
            if at == buffer.len() {
                break;
            }
        }
    }
}

/// Writes the next bytes, up to `most`, through the page cache.
fn through_cache(mut file: &File, rest: &mut Rest<'_>, mut most: usize) -> io::Result<()> {
    while most > 0 && rest.front().is_some() {
        match file.write_vectored(&rest.slices(most.min(MAX_BYTES))) {
            Ok(0) if rest.front().is_some_and(<[u8]>::is_empty) => rest.advance(0),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                rest.advance(written);
                most -= written;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes the next `bytes`, whole blocks at a block's offset, past the page cache. `false` if that is impossible here; the
/// rest is still to be written then.
fn past_cache(mut file: &File, rest: &mut Rest<'_>, mut bytes: usize, buffer: &mut [u8]) -> io::Result<bool> {
    while bytes > 0 {
        let len = bytes.min(buffer.len());
        let buffer = &mut buffer[..len];
        rest.fill(buffer);
        if set_direct(file, true).is_err() {
            return Ok(false);
        }
        let written = file.write(buffer);
        set_direct(file, false)?;
        match written {
            Ok(written) => {
                rest.advance(written);
                bytes -= written;
                if written < len {
                    // What keeps the rest out is said when it goes through the cache.
                    return Ok(written > 0);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_refusal(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn set_direct(file: &File, is_direct: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, is_direct);
    Ok(rustix::fs::fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use proptest::prelude::*;

    use super::*;
    use crate::toolkit::fake::Folder;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_file_holds_what_was_appended_however_it_got_there(
            writes in prop::collection::vec(prop::collection::vec(0usize..400_000, 0..5), 1..5),
            is_direct: bool,
        ) {
            let folder = Folder::new();
            let path = folder.write("a", "");
            let file = OpenOptions::new().append(true).open(&path).unwrap();
            let (mut expected, mut memory, mut seed) = (Vec::new(), DirectBuffer::default(), 0u8);
            for lens in writes {
                let chunks: Vec<Vec<u8>> = lens
                    .iter()
                    .map(|len| (0..*len).map(|n| { seed = seed.wrapping_add((n / 251) as u8).wrapping_add(1); seed }).collect())
                    .collect();
                let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
                let mut buffer = is_direct.then_some(&mut memory);
                append(&file, expected.len() as u64, &chunks, &mut buffer).unwrap();
                chunks.iter().for_each(|chunk| expected.extend_from_slice(chunk));
                prop_assert!(std::fs::read(&path).unwrap() == expected);
            }
        }
    }

    #[test]
    fn a_file_that_takes_no_direct_write_gets_it_through_the_cache() {
        let folder = Folder::new();
        let path = folder.write("a", "");
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        let text = vec![7; 1 << 20];
        let (mut memory, mut rest) = (DirectBuffer::default(), Rest { chunks: &[&text], at: 0 });
        // An offset that is no multiple of a block: the kernel refuses it.
        through_cache(&file, &mut rest, 5).unwrap();
        let is_possible = past_cache(&file, &mut rest, 1 << 19, memory.aligned()).unwrap();
        through_cache(&file, &mut rest, usize::MAX).unwrap();
        assert!(std::fs::read(&path).unwrap() == text, "direct writes possible: {is_possible}");
    }
}
