//! Appends chunks to a file: through the page cache, or past it where so much comes at once that the cache costs most.
//!
//! A large write spends three quarters of its time in the page cache: pages are allocated, filled and written back, and
//! nobody may ever read them. So large writes are gathered in memory that all sinks share, and go past it.

use std::fs::File;
use std::io::{self, IoSlice, Write};

use crate::journal::direct::{self, BLOCK, LEAST_DIRECT};
use crate::journal::pages::Lent;

/// Chunks in one system call.
const MAX_SLICES: usize = 64;
/// Bytes in one system call: of more at once some kernels make pages so large that filling them costs several times as much.
const MAX_BYTES: usize = 256 * 1024;

/// Appends all chunks to a file that has `size` bytes; past the page cache where that may be and is worth it.
pub fn append(file: &File, size: u64, chunks: &[&[u8]], may_be_direct: bool) -> io::Result<()> {
    let total: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    match may_be_direct && total >= LEAST_DIRECT + BLOCK {
        true => past_cache(file, size, chunks),
        false => through_cache(file, chunks),
    }
}

fn through_cache(mut file: &File, chunks: &[&[u8]]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        chunks.iter().flat_map(|chunk| chunk.chunks(MAX_BYTES)).map(IoSlice::new).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let ends = rest.iter().take(MAX_SLICES).scan(0, |end, slice| {
            *end += slice.len();
            Some(*end)
        });
        let fitting = ends.take_while(|end| *end <= MAX_BYTES).count();
        match file.write_vectored(&rest[..fitting]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn past_cache(file: &File, size: u64, chunks: &[&[u8]]) -> io::Result<()> {
    let mut pages = Lent::take();
    let mut at = size;
    let mut room = begin(&mut pages, at);
    for chunk in chunks {
        let mut rest = *chunk;
        while !rest.is_empty() {
            let (taken, left) = rest.split_at(rest.len().min(room - pages.len()));
            pages.push(taken);
            rest = left;
            if pages.len() == room {
                direct::write_all_at(file, pages.bytes(), at)?;
                at += room as u64;
                room = begin(&mut pages, at);
            }
        }
    }
    direct::write_all_at(file, pages.bytes(), at)
}

/// Empties the memory for what is written at an offset, and returns how many bytes that may be: as many as end with a block
/// of the file.
fn begin(pages: &mut Lent, offset: u64) -> usize {
    pages.begin(offset);
    pages.room - offset as usize % BLOCK
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
            let (mut expected, mut seed) = (Vec::new(), 0u8);
            for lens in writes {
                let chunks: Vec<Vec<u8>> = lens
                    .iter()
                    .map(|len| (0..*len).map(|n| { seed = seed.wrapping_add((n / 251) as u8).wrapping_add(1); seed }).collect())
                    .collect();
                let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
                append(&file, expected.len() as u64, &chunks, is_direct).unwrap();
                chunks.iter().for_each(|chunk| expected.extend_from_slice(chunk));
                prop_assert!(std::fs::read(&path).unwrap() == expected);
            }
        }
    }

    #[test]
    fn what_another_program_has_appended_meanwhile_stays() {
        let folder = Folder::new();
        let text = vec![7; 1 << 20];
        for others in [1, 511, 512, 4096, 5000] {
            let path = folder.write(&format!("a{others}"), "");
            let file = OpenOptions::new().append(true).open(&path).unwrap();
            let theirs = vec![9; others];
            std::fs::write(&path, &theirs).unwrap();
            append(&file, 0, &[&text], true).unwrap();
            assert!(std::fs::read(&path).unwrap() == [&theirs[..], &text].concat(), "{others} bytes of theirs");
        }
    }
}
