//! A bounded cache of what was read from parts; the least recently used entry is evicted.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zstd::zstd_safe::DCtx;

use super::layout::Section;

/// Names something within a part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    pub part: u64,
    pub section: u16,
    pub column: u32,
    pub block: u32,
}

/// Contexts for expanding that are kept for the next who needs one.
const MAX_CONTEXTS: usize = 4;

/// Bounded by bytes. What parts have answered has a share of its own: a question that reads many columns would drive
/// out the answers that it has just left. So have texts: those of one page are larger than the columns of all parts.
pub struct Cache {
    inner: Mutex<Inner>,
    answers: Mutex<Inner>,
    texts: Mutex<Inner>,
    contexts: Mutex<Vec<DCtx<'static>>>,
    limit: usize,
    /// What more it may take of what nobody else needs now, and whether it may.
    more: usize,
    is_lent: AtomicBool,
    /// The clocks of the tables when [`Cache::rest`] looked last, and how often they had not moved by then.
    rested: Mutex<([u64; 3], u32)>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    weight: usize,
    clock: u64,
}

struct Entry {
    value: Arc<dyn Any + Send + Sync>,
    weight: usize,
    used: u64,
}

/// Keys from this section on are those of answers.
pub const ANSWERS: u16 = 0x100;
/// One byte in so many is for answers.
const SHARE_OF_ANSWERS: usize = 4;
/// The same for blocks of texts, and of what is lent.
const SHARE_OF_TEXTS: usize = 4;
const TEXTS: u16 = Section::Text as u16;

/// So often nobody has asked for anything before what is kept is forgotten.
const RESTS: u32 = 2;

/// What an entry costs beside its bytes.
const OVERHEAD: usize = 128;

impl Cache {
    /// One of so many bytes, and of `more` while these are lent.
    pub fn new(limit: usize, more: usize) -> Cache {
        Cache {
            inner: Mutex::default(),
            answers: Mutex::default(),
            texts: Mutex::default(),
            contexts: Mutex::default(),
            limit,
            more,
            is_lent: AtomicBool::new(false),
            rested: Mutex::default(),
        }
    }

    /// The table that a key is in, and the most bytes of it.
    fn of(&self, key: Key) -> (MutexGuard<'_, Inner>, usize) {
        let (of_columns, of_texts) = self.shares(if self.is_lent.load(Relaxed) { self.more } else { 0 });
        match key.section {
            ANSWERS.. => (lock(&self.answers), self.limit / SHARE_OF_ANSWERS),
            TEXTS => (lock(&self.texts), of_texts),
            _ => (lock(&self.inner), of_columns),
        }
    }

    /// The most bytes of columns and of texts, with so many that are lent.
    fn shares(&self, more: usize) -> (usize, usize) {
        let of_texts = (self.limit + more) / SHARE_OF_TEXTS;
        (self.limit + more - self.limit / SHARE_OF_ANSWERS - of_texts, of_texts)
    }

    fn tables(&self) -> [&Mutex<Inner>; 3] {
        [&self.inner, &self.answers, &self.texts]
    }

    /// Lends it more memory, or takes that back at once.
    pub fn lend(&self, is_lent: bool) {
        if self.is_lent.swap(is_lent, Relaxed) && !is_lent {
            let (of_columns, of_texts) = self.shares(0);
            for (table, limit) in [(&self.inner, of_columns), (&self.texts, of_texts)] {
                let mut table = lock(table);
                if table.weight > limit {
                    table.make_room(limit);
                }
            }
        }
    }

    /// What is kept under a key, or what `read` gives, which is kept from now on.
    pub fn get<T: Send + Sync + 'static>(
        &self,
        key: Key,
        weight: impl FnOnce(&T) -> usize,
        read: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Arc<T>> {
        if let Some(value) = self.kept(key) {
            return Ok(value);
        }
        let value = Arc::new(read()?);
        self.keep(key, &value, weight(&value));
        Ok(value)
    }

    /// What is kept under a key.
    pub fn kept<T: Send + Sync + 'static>(&self, key: Key) -> Option<Arc<T>> {
        let kept = {
            let (mut inner, _) = self.of(key);
            inner.clock += 1;
            let clock = inner.clock;
            inner.entries.get_mut(&key).map(|entry| {
                entry.used = clock;
                entry.value.clone()
            })
        };
        kept.and_then(|value| value.downcast::<T>().ok())
    }

    /// Keeps a value, unless it is too large.
    pub fn keep<T: Send + Sync + 'static>(&self, key: Key, value: &Arc<T>, weight: usize) {
        let weight = weight + OVERHEAD;
        let (mut inner, limit) = self.of(key);
        if weight <= limit / 4 {
            inner.insert(key, value.clone(), weight, limit);
        }
    }

    /// Whether a value of this weight would drive out no other.
    pub fn has_room(&self, key: Key, weight: usize) -> bool {
        let (inner, limit) = self.of(key);
        inner.weight + weight + OVERHEAD <= limit
    }

    /// Lends a context for expanding: making one costs more than expanding a block.
    pub fn decompress<T>(&self, expand: impl FnOnce(&mut DCtx<'static>) -> T) -> T {
        let kept = self.contexts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut context = kept.unwrap_or_default();
        let expanded = expand(&mut context);
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        if contexts.len() < MAX_CONTEXTS {
            contexts.push(context);
        }
        expanded
    }

    /// Forgets what belongs to a part that is gone.
    pub fn forget(&self, part: u64) {
        for inner in self.tables() {
            let mut inner = lock(inner);
            let inner = &mut *inner;
            inner.entries.retain(|key, entry| {
                let stays = key.part != part;
                if !stays {
                    inner.weight -= entry.weight;
                }
                stays
            });
        }
    }

    pub fn weight(&self) -> usize {
        self.tables().map(|inner| lock(inner).weight).iter().sum()
    }

    /// Called from time to time. Once nobody has asked for anything for [`RESTS`] times, everything is forgotten but answers:
    /// these are small, and cost the most to find again.
    pub fn rest(&self) {
        let clocks = self.tables().map(|inner| lock(inner).clock);
        let mut rested = self.rested.lock().unwrap_or_else(PoisonError::into_inner);
        rested.1 = if rested.0 == clocks { rested.1.saturating_add(1) } else { 0 };
        rested.0 = clocks;
        if rested.1 == RESTS {
            for table in [&self.inner, &self.texts] {
                let mut inner = lock(table);
                (inner.entries, inner.weight) = (HashMap::new(), 0);
            }
            *self.contexts.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        }
    }
}

/// A panic elsewhere leaves the table usable.
fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn insert(&mut self, key: Key, value: Arc<dyn Any + Send + Sync>, weight: usize, limit: usize) {
        if self.weight + weight > limit {
            self.make_room(limit * 3 / 4);
        }
        self.clock += 1;
        let entry = Entry { value, weight, used: self.clock };
        self.weight += weight;
        if let Some(old) = self.entries.insert(key, entry) {
            self.weight -= old.weight;
        }
    }

    /// Drops the entries used longest ago, a quarter of all at a time, so that it is seldom done.
    fn make_room(&mut self, target: usize) {
        let mut by_use: Vec<(u64, Key)> = self.entries.iter().map(|(key, entry)| (entry.used, *key)).collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_use {
            if self.weight <= target {
                break;
            }
            if let Some(entry) = self.entries.remove(&key) {
                self.weight -= entry.weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asks_for_is_forgotten_and_answers_stay() {
        let cache = Cache::new(64 * 1024, 16 * 1024);
        let [column, answer] = [1, ANSWERS].map(|section| Key { part: 7, section, column: 0, block: 0 });
        cache.keep(column, &Arc::new(7u64), 4096);
        cache.keep(answer, &Arc::new(8u64), 64);
        for _ in 0..10 {
            cache.rest();
            assert_eq!(cache.kept::<u64>(column), Some(Arc::new(7)), "somebody asks");
        }
        (0..=RESTS).for_each(|_| cache.rest());
        assert_eq!(cache.kept::<u64>(answer), Some(Arc::new(8)));
        assert_eq!(cache.kept::<u64>(column), None);
        assert!(cache.weight() < 1024);
        cache.keep(column, &Arc::new(9u64), 4096);
        assert_eq!(cache.kept::<u64>(column), Some(Arc::new(9)));
    }

    #[test]
    fn columns_and_texts_drive_out_their_like_and_none_takes_more_than_its_share() {
        let cache = Cache::new(64 * 1024, 16 * 1024);
        let key = |section: u16, part: u64| Key { part, section, column: 0, block: 0 };
        let answer = Arc::new(7u64);
        cache.keep(key(ANSWERS, 0), &answer, 8);
        for part in 0..1000 {
            cache.keep(key(1, part), &Arc::new(part), 4096);
            assert!(cache.weight() <= 64 * 1024);
        }
        assert_eq!(cache.kept::<u64>(key(ANSWERS, 0)), Some(answer));
        assert_eq!((cache.kept::<u64>(key(1, 0)), cache.kept::<u64>(key(1, 999))), (None, Some(Arc::new(999))));
        let column = Arc::new(7u64);
        cache.keep(key(1, 1000), &column, 4096);
        for part in 0..1000 {
            cache.keep(key(TEXTS, part), &Arc::new(part), 2048);
            assert!(cache.weight() <= 64 * 1024);
        }
        assert_eq!((cache.kept::<u64>(key(1, 1000)), cache.kept::<u64>(key(TEXTS, 0))), (Some(column), None));
        (1..1000).for_each(|part| cache.keep(key(ANSWERS, part), &Arc::new(part), 512));
        assert!(cache.weight() <= 64 * 1024 && cache.kept::<u64>(key(ANSWERS, 0)).is_none());
        let before = cache.weight();
        cache.lend(true);
        for part in 2000..3000 {
            cache.keep(key(1, part), &Arc::new(part), 4096);
            assert!(cache.weight() <= 80 * 1024);
        }
        assert!(cache.weight() > before);
        cache.lend(false);
        assert!(cache.weight() <= 64 * 1024 && cache.kept::<u64>(key(1, 2999)).is_some());
        cache.keep(key(1, 999), &Arc::new(999u64), 4096);
        cache.forget(999);
        assert_eq!((cache.kept::<u64>(key(ANSWERS, 999)), cache.kept::<u64>(key(1, 999))), (None, None));
    }
}
