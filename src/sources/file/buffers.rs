//! Read buffers, reused when the last chunk that shares one is dropped.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;

use crate::component::source::CHUNK_BYTES;
use crate::event::huge::{self, HugePage};
use crate::ranges::MOST_IN_FLIGHT;

/// Buffers kept for the next read.
const MOST_KEPT: usize = MOST_IN_FLIGHT;

/// Huge pages of which nothing is used that are kept.
const MOST_FREE_PAGES: usize = 2;
const _: () = assert!(huge::BUFFER == CHUNK_BYTES, "a buffer takes a chunk");

/// Beginnings of long lines that are held at the same time.
const MOST_HEADS: usize = 8;

/// Larger buffers have a multiple of these bytes, so that they fit again for files of about the same length.
const STEP: usize = 16 * 1024;

type Pages = Arc<Mutex<Vec<Arc<HugePage>>>>;

/// All sources have the same pages, so that there are no more than the chunks on their way fill.
static PAGES: LazyLock<Pages> = LazyLock::new(Pages::default);

/// Fresh memory costs a page fault for every 4 KiB, which is more than reading them costs.
#[derive(Clone)]
pub struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    /// For chunks that are full.
    pages: Pages,
    /// How many heads are held.
    heads: Arc<AtomicUsize>,
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers { free: Arc::default(), pages: PAGES.clone(), heads: Arc::default() }
    }
}

/// The beginning of a line, held while its end is looked for.
#[derive(Clone, Debug)]
pub struct Head(Arc<HeldHead>);

#[derive(Debug)]
struct HeldHead {
    bytes: Box<[u8]>,
    heads: Arc<AtomicUsize>,
}

impl Head {
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Drop for HeldHead {
    fn drop(&mut self) {
        self.heads.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is read into.
pub enum Buffer {
    Heap(Vec<u8>),
    /// With how much of it was read.
    Huge(huge::Buffer, usize),
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Buffer::Heap(bytes) => bytes,
            Buffer::Huge(bytes, len) => &bytes[..*len],
        }
    }
}

impl Buffer {
    pub fn truncate(&mut self, to: usize) {
        match self {
            Buffer::Heap(bytes) => bytes.truncate(to),
            Buffer::Huge(_, len) => *len = to.min(*len),
        }
    }

    /// Adds a line feed behind the end of a file, up to which it was not filled.
    pub fn end_line(&mut self) {
        match self {
            Buffer::Heap(bytes) => bytes.push(b'\n'),
            Buffer::Huge(bytes, len) => {
                bytes[*len] = b'\n';
                *len += 1;
            }
        }
    }
}

struct Lent {
    buffer: Buffer,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let none = Buffer::Heap(Vec::new());
        self.home.give_back(std::mem::replace(&mut self.buffer, none));
    }
}

impl Buffers {
    /// An empty buffer for so many bytes: a used one if it fits well, so that a short line pins little memory.
    pub fn take(&self, bytes: usize) -> Buffer {
        if bytes == huge::BUFFER
            && let Some(buffer) = self.take_huge()
        {
            return Buffer::Huge(buffer, 0);
        }
        Buffer::Heap(self.take_vec(bytes))
    }

    /// The first that is free, so that those who need few of them use few pages.
    fn take_huge(&self) -> Option<huge::Buffer> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buffer) = pages.iter().find_map(HugePage::take) {
            return Some(buffer);
        }
        // Where there is no address space left, a vector does.
        let page = HugePage::new().ok()?;
        let buffer = page.take();
        pages.push(page);
        buffer
    }

    pub fn take_vec(&self, bytes: usize) -> Vec<u8> {
        let bytes = if bytes > STEP { bytes.next_multiple_of(STEP) } else { bytes };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<u8>| buffer.capacity() >= bytes && buffer.capacity() / 2 <= bytes;
        let found = free.iter().rposition(fits).map(|at| free.swap_remove(at));
        found.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// Holds the beginning of a line, unless too many are held.
    pub fn hold(&self, bytes: &[u8]) -> Option<Head> {
        if self.heads.fetch_add(1, Ordering::AcqRel) >= MOST_HEADS {
            self.heads.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Head(Arc::new(HeldHead { bytes: bytes.into(), heads: self.heads.clone() })))
    }

    /// Shares what was read; the buffer returns when nobody needs it any more.
    pub fn share(&self, buffer: Buffer) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }

    pub fn give_back(&self, buffer: Buffer) {
        let Buffer::Heap(mut buffer) = buffer else {
            drop(buffer);
            return self.forget_pages(MOST_FREE_PAGES);
        };
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MOST_KEPT && buffer.capacity() > 0 {
            free.push(buffer);
        }
    }

    /// Frees what is kept, when there is nothing to read.
    pub fn clear(&self) {
        self.forget_pages(0);
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    /// Frees pages of which nothing is used, but for so many.
    fn forget_pages(&self, mut kept: usize) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|page| {
            let is_kept = !page.is_free() || kept > 0;
            kept = kept.saturating_sub(usize::from(page.is_free()));
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_with_the_last_piece_of_it() {
        let buffers = Buffers::default();
        let Buffer::Heap(mut buffer) = buffers.take(100) else { panic!("it is small") };
        buffer.extend_from_slice(b"hello");
        let at = buffer.as_ptr();
        let shared = buffers.share(Buffer::Heap(buffer));
        let part = shared.slice(1..3);
        drop(shared);
        let other = buffers.take(100);
        assert_ne!(other.as_ptr(), at);
        drop(part);
        let again = buffers.take(100);
        assert_eq!(again.as_ptr(), at);
    }

    #[test]
    fn files_of_about_the_same_length_share_a_buffer() {
        let buffers = Buffers::default();
        let mut seen = std::collections::HashSet::new();
        for length in (100_000..110_000).rev().step_by(7) {
            let buffer = buffers.take_vec(length);
            assert!(buffer.capacity() >= length);
            seen.insert(buffer.as_ptr());
            buffers.give_back(Buffer::Heap(buffer));
        }
        assert!(seen.len() <= 2, "{} buffers", seen.len());
        assert!(buffers.take_vec(100).capacity() < STEP, "a short line pins little");
    }

    #[test]
    fn chunks_that_are_full_share_pages_which_go_when_nothing_is_read() {
        let buffers = Buffers { pages: Pages::default(), ..Buffers::default() };
        let pages = || buffers.pages.lock().unwrap().len();
        let mut many: Vec<Bytes> = (0..20).map(|_| buffers.share(buffers.take(CHUNK_BYTES))).collect();
        assert_eq!(pages(), 3);
        buffers.clear();
        assert_eq!(pages(), 3, "they are used");
        let last = many.pop();
        drop(many);
        buffers.clear();
        assert_eq!(pages(), 1);
        drop(last);
        assert_eq!(pages(), 1, "one more may come");
        buffers.clear();
        assert_eq!(pages(), 0);
    }
}
