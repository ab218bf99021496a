//! Buffers for what is read at a time, several to a huge page: the kernel reads into one, and writes from one, with fewer
//! pages to look up, and fresh memory costs one fault for all of them.

#![allow(unsafe_code, reason = "a map cannot be split among owners; in the test, vectors are the safe twin")]

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{Advice, MmapMut, MmapRaw};

const PAGE: usize = 2 << 20;
/// Bytes of a buffer.
pub const BUFFER: usize = 256 * 1024;
const BUFFERS: u32 = (PAGE / BUFFER) as u32;

/// A huge page, where the kernel gives one, and which of its buffers are taken.
pub struct HugePage {
    map: MmapRaw,
    /// Where in the map the page begins.
    first: usize,
    /// A bit for each.
    taken: AtomicU32,
}

impl HugePage {
    pub fn new() -> io::Result<Arc<HugePage>> {
        // Only what is written to is memory.
        let map = MmapMut::map_anon(2 * PAGE)?;
        let first = map.as_ptr().addr().next_multiple_of(PAGE) - map.as_ptr().addr();
        // A kernel without huge pages gives small ones.
        let _ = map.advise_range(Advice::HugePage, first, PAGE);
        Ok(Arc::new(HugePage { map: map.into(), first, taken: AtomicU32::new(0) }))
    }

    /// A buffer that nobody has; what is in it is left from before.
    pub fn take(self: &Arc<HugePage>) -> Option<Buffer> {
        let free = |taken: u32| (taken.trailing_ones() < BUFFERS).then(|| taken | (taken + 1));
        let before = self.taken.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).ok()?;
        Some(Buffer { page: self.clone(), nth: before.trailing_ones() })
    }

    /// Whether all of its buffers are free.
    pub fn is_free(&self) -> bool {
        self.taken.load(Ordering::Relaxed) == 0
    }
}

/// A part of a huge page that nobody else has, until it is dropped.
pub struct Buffer {
    page: Arc<HugePage>,
    nth: u32,
}

impl Buffer {
    fn start(&self) -> *mut u8 {
        self.page.map.as_mut_ptr().wrapping_add(self.page.first + self.nth as usize * BUFFER)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: these bytes lie in the map, which the page keeps, are zero or were written to, and are this buffer's alone: its
        // bit is set from `take` to `drop`.
        unsafe { std::slice::from_raw_parts(self.start(), BUFFER) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow of the buffer is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start(), BUFFER) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.page.taken.fetch_and(!(1 << self.nth), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buffers_hold_what_vectors_would(steps in prop::collection::vec((any::<bool>(), any::<u8>(), 0..BUFFER), 1..60)) {
            let pages = [HugePage::new().unwrap(), HugePage::new().unwrap()];
            let mut taken: Vec<(Buffer, Vec<u8>)> = Vec::new();
            for (takes, byte, at) in steps {
                if takes {
                    let all_taken = taken.len() == 2 * BUFFERS as usize;
                    let Some(mut buffer) = pages.iter().find_map(HugePage::take) else {
                        prop_assert!(all_taken);
                        continue;
                    };
                    prop_assert!(!all_taken);
                    buffer.fill(byte);
                    buffer[at] = !byte;
                    let mut twin = vec![byte; BUFFER];
                    twin[at] = !byte;
                    taken.push((buffer, twin));
                } else if !taken.is_empty() {
                    taken.swap_remove(at % taken.len());
                }
                prop_assert!(taken.iter().all(|(buffer, twin)| **buffer == **twin));
            }
            prop_assert_eq!(pages.iter().all(|page| page.is_free()), taken.is_empty());
            drop(pages);
            prop_assert!(taken.iter().all(|(buffer, twin)| **buffer == **twin), "a buffer keeps its page");
        }
    }

    #[test]
    fn threads_take_different_buffers() {
        let page = HugePage::new().unwrap();
        std::thread::scope(|scope| {
            for byte in 0..BUFFERS as u8 + 2 {
                let page = &page;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let Some(mut buffer) = page.take() else { continue };
                        buffer[..1000].fill(byte);
                        assert!(buffer[..1000].iter().all(|b| *b == byte));
                    }
                });
            }
        });
        assert!(page.is_free());
    }
}
