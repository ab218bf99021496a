//! Memory for direct writes: huge pages where the kernel gives them. A direct write looks up and holds each page that it
//! takes from, which is half of its cost where a page is as large as a block.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memmap2::{Advice, MmapMut};

use super::direct::{BLOCK, LEAST_DIRECT, padding};

const HUGE_PAGE: usize = 2 << 20;
/// What is lent has room for so many bytes, or for fewer where no huge page comes back in time.
const LENT: usize = HUGE_PAGE - 2 * BLOCK;
const LENT_OF_HEAP: usize = 512 * 1024;
/// Huge pages that are lent at a time: writers of one disk take turns anyway.
const MOST_LENT: usize = 2;
/// How long to wait for one: of several disks some may hang.
const PATIENCE: Duration = Duration::from_millis(100);

/// Bytes on their way into a file, which lie in memory as the blocks of the file do.
#[derive(Default)]
pub struct Pages {
    memory: Memory,
    start: usize,
    end: usize,
}

enum Memory {
    Heap(Vec<u8>),
    /// With the place of the first huge page.
    Mapped(MmapMut, usize),
}

impl Memory {
    fn heap(room: usize) -> Memory {
        Memory::Heap(vec![0; room + BLOCK])
    }

    /// Nothing where there is no address space left.
    fn mapped(room: usize) -> Option<Memory> {
        let bytes = (room + BLOCK).next_multiple_of(HUGE_PAGE);
        // Only what is written to is memory.
        let map = MmapMut::map_anon(bytes + HUGE_PAGE).ok()?;
        let first = map.as_ptr().addr().next_multiple_of(HUGE_PAGE) - map.as_ptr().addr();
        // A kernel without huge pages gives small ones.
        let _ = map.advise_range(Advice::HugePage, first, bytes);
        Some(Memory::Mapped(map, first))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Memory::Heap(bytes) => bytes,
            Memory::Mapped(map, first) => &map[*first..],
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Heap(bytes) => bytes,
            Memory::Mapped(map, first) => &mut map[*first..],
        }
    }

    /// Whether it has so much room wherever in its first block the bytes begin.
    fn has(&self, room: usize) -> bool {
        let bytes = match self {
            Memory::Heap(bytes) => bytes.len(),
            Memory::Mapped(map, _) => map.len() - HUGE_PAGE,
        };
        room + BLOCK <= bytes
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::Heap(Vec::new())
    }
}

impl Pages {
    /// Sees to room for so many bytes; what is in it is lost.
    pub fn make_room(&mut self, room: usize) {
        if !self.memory.has(room) {
            let mapped = if room >= LEAST_DIRECT { Memory::mapped(room) } else { None };
            self.memory = mapped.unwrap_or_else(|| Memory::heap(room.next_power_of_two()));
        }
    }

    /// Empties it for what goes to an offset of a file.
    pub fn begin(&mut self, offset: u64) {
        self.start = padding(self.memory.bytes().as_ptr(), offset);
        self.end = self.start;
    }

    /// Adds bytes, for which there is room.
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        self.memory.bytes_mut()[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// Adds zeros until there are `len` bytes, for which there is room.
    pub fn fill_up(&mut self, len: usize) {
        let end = self.start + len;
        self.memory.bytes_mut()[self.end..end].fill(0);
        self.end = end;
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Shared pages that no writer has.
struct Lending {
    free: Vec<Pages>,
    made: usize,
}

static RETURNED: Condvar = Condvar::new();
static LENDING: Mutex<Lending> = Mutex::new(Lending { free: Vec::new(), made: 0 });

fn lending() -> MutexGuard<'static, Lending> {
    LENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pages for one write, which many writers share; they go back when this is dropped.
pub struct Lent {
    pages: Pages,
    is_shared: bool,
    pub room: usize,
}

impl Lent {
    /// Waits a moment where all are taken; then there is less room, on the heap.
    pub fn take() -> Lent {
        let all_taken = |lending: &mut Lending| lending.free.is_empty() && lending.made == MOST_LENT;
        let waited = RETURNED.wait_timeout_while(lending(), PATIENCE, all_taken);
        let (mut lending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(pages) = lending.free.pop() {
            return Lent { pages, is_shared: true, room: LENT };
        }
        let is_shared = lending.made < MOST_LENT;
        lending.made += usize::from(is_shared);
        drop(lending);
        let room = if is_shared { LENT } else { LENT_OF_HEAP };
        let mapped = if is_shared { Memory::mapped(room) } else { None };
        let memory = mapped.unwrap_or_else(|| Memory::heap(room));
        Lent { pages: Pages { memory, ..Pages::default() }, is_shared, room }
    }
}

impl Deref for Lent {
    type Target = Pages;

    fn deref(&self) -> &Pages {
        &self.pages
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Pages {
        &mut self.pages
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.is_shared {
            lending().free.push(std::mem::take(&mut self.pages));
            RETURNED.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lie_in_memory_as_the_blocks_of_the_file() {
        for room in [0, 1, 5000, LEAST_DIRECT, HUGE_PAGE - BLOCK, HUGE_PAGE, 3 * HUGE_PAGE + 7] {
            let mut pages = Pages::default();
            pages.make_room(room);
            for offset in [0u64, 1, 4095, 4096, 1 << 30, (1 << 40) + 777] {
                pages.begin(offset);
                pages.push(&vec![7; room / 2]);
                pages.fill_up(room);
                assert_eq!(pages.bytes().as_ptr().addr() % BLOCK, offset as usize % BLOCK, "{room} at {offset}");
                let expected: Vec<u8> = (0..room).map(|n| if n < room / 2 { 7 } else { 0 }).collect();
                assert!(pages.bytes() == expected, "{room} at {offset}");
            }
        }
    }

    #[test]
    fn a_few_writers_share_pages_and_nobody_waits_for_ever() {
        let many: Vec<Lent> = (0..3 * MOST_LENT).map(|_| Lent::take()).collect();
        assert!(many.iter().filter(|lent| lent.is_shared).count() <= MOST_LENT);
        drop(many);
        assert!(lending().free.len() <= MOST_LENT && lending().made <= MOST_LENT);
    }
}
