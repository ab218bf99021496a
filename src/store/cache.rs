//! A bounded cache of what was read from parts; the least recently used entry is evicted.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zstd::zstd_safe::DCtx;

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

/// Bounded by bytes.
pub struct Cache {
    inner: Mutex<Inner>,
    contexts: Mutex<Vec<DCtx<'static>>>,
    limit: usize,
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

/// What an entry costs beside its bytes.
const OVERHEAD: usize = 128;

impl Cache {
    pub fn new(limit: usize) -> Cache {
        Cache { inner: Mutex::default(), contexts: Mutex::default(), limit }
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
            let mut inner = self.lock();
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
        if weight <= self.limit / 4 {
            self.lock().insert(key, value.clone(), weight, self.limit);
        }
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
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.entries.retain(|key, entry| {
            let stays = key.part != part;
            if !stays {
                inner.weight -= entry.weight;
            }
            stays
        });
    }

    pub fn weight(&self) -> usize {
        self.lock().weight
    }

    /// A panic elsewhere leaves the table usable.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
