//! Read buffers, reused when the last chunk that shares one is dropped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::ranges::MOST_IN_FLIGHT;

/// Buffers kept for the next read.
const MOST_KEPT: usize = MOST_IN_FLIGHT;

/// Beginnings of long lines that are held at the same time.
const MOST_HEADS: usize = 8;

/// Larger buffers have a multiple of these bytes, so that they fit again for files of about the same length.
const STEP: usize = 16 * 1024;

/// Fresh memory costs a page fault for every 4 KiB, which is more than reading them costs.
#[derive(Clone, Default)]
pub struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    /// How many heads are held.
    heads: Arc<AtomicUsize>,
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

struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

impl Buffers {
    /// An empty buffer for so many bytes: a used one if it fits well, so that a short line pins little memory.
    pub fn take(&self, bytes: usize) -> Vec<u8> {
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
    pub fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }

    pub fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MOST_KEPT && buffer.capacity() > 0 {
            free.push(buffer);
        }
    }

    /// Frees what is kept, when there is nothing to read.
    pub fn clear(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_with_the_last_piece_of_it() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(100);
        buffer.extend_from_slice(b"hello");
        let at = buffer.as_ptr();
        let shared = buffers.share(buffer);
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
            let buffer = buffers.take(length);
            assert!(buffer.capacity() >= length);
            seen.insert(buffer.as_ptr());
            buffers.give_back(buffer);
        }
        assert!(seen.len() <= 2, "{} buffers", seen.len());
        assert!(buffers.take(100).capacity() < STEP, "a short line pins little");
    }
}
