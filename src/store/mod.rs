//! The embedded store: keeps events on disk and finds them again, without a database.
//!
//! Invariants:
//! - An event is stored when its frame in the tail is synced (`tail`). A tail that is full becomes a part (`layout`),
//!   which is synced and renamed before the tail's file is removed; a part knows the number of its tail, so that a
//!   crash in between stores nothing twice.
//! - Parts never change. Retention removes whole parts; events of types that stay for another time have parts of their own
//!   (`classes`). A part that is damaged is named, moved to `quarantine/`, and
//!   costs itself.
//! - A line comes back byte for byte as it was journalled.
//! - Every hash that a search can ask for is in the chunk that holds the event (`grams`): an index may name too many
//!   chunks, never too few. The same holds for blocks of a chunk (`word_blocks`).
//! - A reader sees what was stored at one moment ([`search::Snapshot`]); it holds up no writer.

#[cfg(test)]
mod ages;
mod aggregate;
mod ahead;
mod anywhere;
mod bits;
mod bloom;
mod budget;
mod by_value;
mod byte_set;
mod cache;
mod candidates;
mod chunk_list;
mod chunk_tops;
mod chunks;
mod classes;
mod clock;
mod coded;
mod content;
mod count;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
mod dictionary;
mod disk;
mod duration_key;
mod folding;
mod grams;
mod groups;
mod hash_list;
mod hashing;
mod id_table;
mod identifiers;
mod kept;
mod layout;
#[cfg(test)]
mod limits;
mod members;
mod newest;
mod numbers;
mod open;
mod order;
mod page;
mod pages;
#[cfg(test)]
mod paging;
mod parallel;
mod part;
mod part_index;
mod percentile;
mod plan;
mod postings;
mod retention;
mod row_keys;
mod rows;
mod seal;
pub mod search;
mod segment;
mod short_keys;
mod slices;
mod sort_column;
mod split;
mod summary;
mod sums;
mod tail;
mod tail_filter;
mod tail_memory;
mod tail_to_part;
#[cfg(test)]
mod tests;
mod text;
mod time_bounds;
mod uuid_piece;
mod value;
mod value_codes;
mod value_sums;
mod value_tops;
mod word_blocks;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;

use bits::CHUNK;
use budget::Budget;
use cache::Cache;
use disk::Disk;
use grams::GramSet;
use hashing::Seeded;
use members::Walked;
pub use open::bytes_in;
use open::{Begun, Loading, read_tail};
use part::Part;
pub use retention::Retention;
use search::Snapshot;
pub use tail::NewEvent;
use tail::{Prepared, TailContent, TailFile};
use tail_memory::{Frozen, TailMemory};

use crate::event::Id;

/// Events of a part.
const PART_EVENTS: usize = 65_536;
/// Where stores without a `path` have their folders, within the data folder.
pub const FOLDER: &str = "store";
/// Imported events have numbers from here on, which no journal reaches and JavaScript still counts. They are on no stream.
pub const IMPORTED: u64 = 1 << 52;
/// Memory of a store of which nothing else is said.
const MEMORY: usize = 96 << 20;
/// What questions may hold, however little memory the store has: a page of common events.
const LEAST_FOR_QUESTIONS: usize = 1 << 20;
/// Tails with fewer bytes come into memory while the store opens.
const LOADED_AT_ONCE: usize = 1 << 20;
/// A tail with so many bytes of lines becomes a part, however few its events are.
const PART_BYTES: usize = 48 << 20;

#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    pub retention: Retention,
    /// Bytes of memory that the store may take: a third for the newest events, as much for those that become a part
    /// meanwhile, a sixth for what was read, a sixth for questions. While no part is made, what was read may take twice as
    /// much. Making a part takes about as much as the last beside it.
    pub memory: usize,
    /// Events of a part.
    pub part_events: usize,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options { dir: dir.into(), retention: Retention::default(), memory: MEMORY, part_events: PART_EVENTS }
    }
}

/// A handle; clones share one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    disk: Disk,
    loading: Arc<Loading>,
    part_events: usize,
    /// The newest events become a part when they take so much memory.
    tail_memory: usize,
    retention: Mutex<Retention>,
    cache: Arc<Cache>,
    /// What questions may hold.
    budget: Arc<Budget>,
    /// Held while events are appended.
    writer: Mutex<Writer>,
    memory: Mutex<TailMemory>,
    published: RwLock<Published>,
    damaged: Arc<Mutex<Vec<u64>>>,
    lost_from: Mutex<Option<u64>>,
}

struct Writer {
    file: TailFile,
    max_seq: u64,
    sealing: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Published {
    parts: Vec<Arc<Part>>,
    /// Tails that are becoming parts.
    frozen: Vec<Arc<Frozen>>,
    /// The newest event that every reader sees.
    stored_seq: u64,
}

/// What became of the events of one append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    pub stored: usize,
    /// Events that were there already.
    pub repeated: usize,
    /// Places of events whose id is there with another content: they are not stored.
    pub conflicts: Vec<usize>,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub events: u64,
    /// Parts that could not be read and were moved to `quarantine/`, and stretches of tails that were copied there.
    pub damaged: Vec<String>,
    /// Bytes behind the last whole frame of a tail, cut off: nothing there was acknowledged.
    pub cut_bytes: u64,
    /// Where something of a tail is damaged or missing: the number of the first event that may have been there.
    pub lost_from: Option<u64>,
}

impl Store {
    /// Opens or makes a store. The events of tails may come into memory afterwards; who asks for them waits for that, and
    /// not for their index.
    pub fn open(options: &Options) -> io::Result<(Store, Report)> {
        Store::open_on(Disk::default(), options)
    }

    fn open_on(disk: Disk, options: &Options) -> io::Result<(Store, Report)> {
        let is_new = !options.dir.exists();
        make_private(&options.dir)?;
        let cache = Arc::new(Cache::new(options.memory / 6, options.memory / 6));
        let found = open::find(&disk, options, &cache, is_new)?;
        let (mut tails, report) = (found.tails, found.report);
        let (file, content) = tails.pop().expect("there is a tail to append to");
        let max_seq = found.parts.iter().map(|part| part.meta.newest()).max().unwrap_or(0);
        let published = Published { parts: found.parts, frozen: Vec::new(), stored_seq: max_seq };
        let store = Store(Arc::new(Inner {
            dir: options.dir.clone(),
            disk,
            part_events: options.part_events,
            tail_memory: options.memory / 3,
            retention: Mutex::new(options.retention.clone()),
            cache,
            budget: Budget::new((options.memory / 6).max(LEAST_FOR_QUESTIONS)),
            loading: Arc::default(),
            writer: Mutex::new(Writer { file, max_seq, sealing: None }),
            memory: Mutex::default(),
            published: RwLock::new(published),
            damaged: Arc::default(),
            lost_from: Mutex::new(report.lost_from),
        }));
        store.load(tails, content)?;
        Ok((store, report))
    }

    /// Brings the events of tails into memory, in a thread of its own where that takes time.
    fn load(&self, tails: Vec<(TailFile, TailContent)>, newest: TailContent) -> io::Result<()> {
        let bytes = tails.iter().map(|(_, content)| content.len()).sum::<usize>() + newest.len();
        if bytes < LOADED_AT_ONCE && tails.is_empty() {
            self.0.load(tails, &newest);
            self.0.index();
            return Ok(());
        }
        let (inner, loading) = (Arc::downgrade(&self.0), self.0.loading.clone());
        let begun = Begun(loading.begin());
        let thread = std::thread::Builder::new().name("store-load".to_owned()).spawn(move || {
            if let Some(inner) = inner.upgrade() {
                inner.load(tails, &newest);
                drop((begun, newest));
                inner.index();
                inner.seal_all();
            }
        });
        lock(&self.0.writer).sealing = Some(thread?);
        Ok(())
    }

    /// Stores events; when this returns they are on disk and every later reader sees them.
    pub fn append(&self, events: &[NewEvent<'_>]) -> io::Result<Appended> {
        let inner = &self.0;
        inner.loading.wait();
        let mut walked = Walked::with_capacity(events.len());
        let prepared: Vec<Prepared<'_>> = events.iter().map(|event| event.prepare(&mut walked)).collect();
        let mut writer = lock(&inner.writer);
        let mut appended = Appended::default();
        let mut new: Vec<Prepared<'_>> = Vec::with_capacity(events.len());
        let mut in_tail = lock(&inner.memory).lines_of(&prepared)?.into_iter().peekable();
        let may_repeat = !have_other_ids(&prepared);
        let mut in_batch: HashMap<Id, usize, Seeded> = HashMap::default();
        for (nth, event) in prepared.into_iter().enumerate() {
            let known = match in_batch.get(&event.id) {
                Some(earlier) => Some(new[*earlier].event.line.to_vec()),
                None => match in_tail.next_if(|(place, _)| *place == nth) {
                    Some((_, line)) => Some(line),
                    None => self.line_in_parts(&event, writer.max_seq)?,
                },
            };
            match known {
                Some(line) if content::is_same(&line, event.event.line) => appended.repeated += 1,
                Some(_) => appended.conflicts.push(nth),
                None => {
                    if may_repeat {
                        in_batch.insert(event.id, new.len());
                    }
                    new.push(event);
                }
            }
        }
        if !new.is_empty() {
            let room = lock(&inner.memory).room();
            let segments = writer.file.append(&new, room)?;
            let (first, others) = new.split_at(room.min(new.len()));
            let mut segments = segments.chunks(1);
            for some in Some(first).filter(|first| !first.is_empty()).into_iter().chain(others.chunks(CHUNK)) {
                lock(&inner.memory).enter(some, &walked, segments.next().unwrap_or_default())?;
            }
            appended.stored = new.len();
        }
        let newest = events.iter().map(|event| event.seq).filter(|seq| *seq < IMPORTED).max().unwrap_or(0);
        writer.max_seq = writer.max_seq.max(newest);
        let mut published = write(&inner.published);
        published.stored_seq = published.stored_seq.max(newest);
        drop(published);
        let is_full = {
            let memory = lock(&inner.memory);
            memory.events >= inner.part_events || memory.line_bytes >= PART_BYTES || memory.size() >= inner.tail_memory
        };
        if is_full {
            // The events are stored: that no new tail can be begun is a trouble of the next ones.
            if let Err(error) = self.roll(&mut writer) {
                tracing::warn!(%error, "cannot begin another tail of the store; the one that is full goes on");
            }
        }
        Ok(appended)
    }

    /// The line that an event repeats or contradicts, if parts have it or a tail that becomes one.
    fn line_in_parts(&self, prepared: &Prepared<'_>, max_seq: u64) -> io::Result<Option<Vec<u8>>> {
        let Prepared { event, id, is_own_id: is_own, .. } = *prepared;
        // A derived id comes again only with its own `seq`, or soon after.
        if is_own || event.seq <= max_seq {
            let snapshot = self.parts_only();
            if is_own {
                return snapshot.line_of(id, true);
            }
            if snapshot.has(event.seq, id)? {
                return Ok(Some(event.line.to_vec()));
            }
        }
        Ok(None)
    }

    fn parts_only(&self) -> Snapshot {
        let published = read(&self.0.published);
        let tails = published.frozen.iter().map(|frozen| frozen.view.clone()).collect();
        Snapshot {
            parts: published.parts.clone(),
            tails,
            damaged: self.0.damaged.clone(),
            share: self.0.budget.share(),
        }
    }

    /// Makes the tail a part, in a thread of its own, and begins another tail.
    fn roll(&self, writer: &mut Writer) -> io::Result<()> {
        if let Some(sealing) = writer.sealing.take()
            && sealing.join().is_err()
        {
            tracing::error!("making a part of the store has panicked; its events stay in their tail");
        }
        let (file, _) = TailFile::open(&self.0.disk, &self.0.dir, writer.file.number + 1)?;
        self.0.disk.sync_dir(&self.0.dir)?;
        let old = std::mem::replace(&mut writer.file, file);
        {
            // Both under the lock of what is published, so that no reader misses the events or sees them twice.
            let mut published = write(&self.0.published);
            let mut memory = lock(&self.0.memory);
            let frozen = Arc::new(memory.freeze(old.number, old.path)?);
            published.frozen.push(frozen);
            self.0.lend_to_cache(&published);
        }
        let inner = Arc::downgrade(&self.0);
        let thread = std::thread::Builder::new().name("store-seal".to_owned()).spawn(move || {
            if let Some(inner) = inner.upgrade() {
                inner.seal_all();
            }
        });
        writer.sealing = Some(thread?);
        Ok(())
    }

    /// Everything that is stored now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.loading.wait();
        let published = read(&self.0.published);
        let mut tails: Vec<_> = published.frozen.iter().map(|frozen| frozen.view.clone()).collect();
        tails.push(lock(&self.0.memory).view());
        Snapshot {
            parts: published.parts.clone(),
            tails,
            damaged: self.0.damaged.clone(),
            share: self.0.budget.share(),
        }
    }

    /// The number of the first event that may have been lost by damage; told once.
    pub fn take_lost_from(&self) -> Option<u64> {
        lock(&self.0.lost_from).take()
    }

    /// The `seq` of the newest event that was submitted; readers see it.
    pub fn stored_seq(&self) -> u64 {
        self.0.loading.wait();
        read(&self.0.published).stored_seq
    }

    /// The first number that no imported event has.
    pub fn next_imported_seq(&self) -> u64 {
        self.snapshot().places().iter().map(|place| place.seqs().1 + 1).fold(IMPORTED, u64::max)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        let parts: u64 = read(&self.0.published).parts.iter().map(|part| part.bytes()).sum();
        parts + lock(&self.0.writer).file.bytes()
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        let published = read(&self.0.published);
        let blooms: usize = published.parts.iter().map(|part| part.bloom_weight()).sum();
        let frozen: usize = published.frozen.iter().map(|frozen| frozen.view.weight()).sum();
        drop(published);
        lock(&self.0.memory).weight() + frozen + self.0.cache.weight() + blooms
    }

    /// Another policy from now on.
    pub fn set_retention(&self, retention: Retention) {
        *lock(&self.0.retention) = retention;
    }

    /// Waits until no part is being made.
    pub fn settle(&self) {
        let sealing = lock(&self.0.writer).sealing.take();
        if let Some(sealing) = sealing
            && sealing.join().is_err()
        {
            tracing::error!("making a part of the store has panicked; its events stay in their tail");
        }
    }

    /// Makes a part of what is in the tail, however little it is.
    pub fn seal_now(&self) -> io::Result<()> {
        self.roll_if(|tail| tail.events > 0)?;
        self.settle();
        Ok(())
    }

    /// Begins another tail if that is so of the present one, of which a part is made beside. Tells whether it was.
    fn roll_if(&self, is_due: impl FnOnce(&TailMemory) -> bool) -> io::Result<bool> {
        let mut writer = lock(&self.0.writer);
        let is_due = is_due(&lock(&self.0.memory));
        if is_due {
            self.roll(&mut writer)?;
        }
        Ok(is_due)
    }
}

impl Inner {
    /// Brings the events of tails into memory.
    fn load(&self, tails: Vec<(TailFile, TailContent)>, newest: &TailContent) {
        let mut max_seq = 0;
        for (file, content) in tails {
            let mut memory = read_tail(&content, &file.path);
            max_seq = memory.max_seq.max(max_seq);
            match memory.freeze(file.number, file.path) {
                Ok(frozen) => write(&self.published).frozen.push(Arc::new(frozen)),
                Err(error) => tracing::error!(%error, "a tail of the store cannot be kept in memory"),
            }
        }
        let mut writer = lock(&self.writer);
        let memory = read_tail(newest, &writer.file.path);
        writer.max_seq = writer.max_seq.max(max_seq).max(memory.max_seq);
        let mut published = write(&self.published);
        published.stored_seq = writer.max_seq;
        *lock(&self.memory) = memory;
        self.lend_to_cache(&published);
    }

    /// Memory of tails that become parts is for what was read while there are none: a search of many parts finds what an
    /// earlier one has read.
    fn lend_to_cache(&self, published: &Published) {
        self.cache.lend(published.frozen.is_empty());
    }

    /// Adds the hashes of chunks that were loaded. Until a chunk has them, every search looks into it.
    fn index(&self) {
        let (mut grams, mut nth) = (None::<GramSet>, 0);
        loop {
            let Some(chunk) = lock(&self.memory).full_chunk(nth) else { break };
            if chunk.hashes.is_empty() {
                match tail_memory::indexed(&chunk, grams.get_or_insert_default()) {
                    Ok(indexed) => lock(&self.memory).put_indexed(nth, &chunk, indexed),
                    Err(error) => tracing::error!(%error, "newest events of the store cannot be indexed"),
                }
            }
            nth += 1;
        }
    }
}

/// The stores of one agent, by folder: who writes and who reads share one.
#[derive(Clone, Default)]
pub struct Stores {
    open: Arc<Mutex<HashMap<PathBuf, Weak<Inner>>>>,
    /// Bytes of memory for each, where somebody has said.
    memory: Option<usize>,
}

impl Stores {
    /// Stores each of which may take so many bytes of memory.
    pub fn with_memory(bytes: usize) -> Stores {
        Stores { memory: Some(bytes), ..Stores::default() }
    }

    /// The store in this folder, opened if it is not open yet; its policy is the newest one asked for.
    pub fn open(&self, options: &Options) -> io::Result<(Store, Report)> {
        let mut open = lock(&self.open);
        if let Some(inner) = open.get(&options.dir).and_then(Weak::upgrade) {
            let store = Store(inner);
            store.set_retention(options.retention.clone());
            return Ok((store, Report::default()));
        }
        let options = Options { memory: self.memory.unwrap_or(options.memory), ..options.clone() };
        let (store, report) = Store::open(&options)?;
        open.retain(|_, inner| inner.strong_count() > 0);
        open.insert(options.dir.clone(), Arc::downgrade(&store.0));
        Ok((store, report))
    }

    /// All that are open.
    pub fn all(&self) -> Vec<Store> {
        lock(&self.open).values().filter_map(Weak::upgrade).map(Store).collect()
    }

    /// The store in this folder, if somebody has it open.
    pub fn get(&self, dir: &Path) -> Option<Store> {
        lock(&self.open).get(dir).and_then(Weak::upgrade).map(Store)
    }
}

/// Whether each event has another id for certain: ids that follow from places of one origin.
fn have_other_ids(events: &[Prepared<'_>]) -> bool {
    let follows = |pair: &[Prepared<'_>]| {
        pair[0].event.seed == pair[1].event.seed && pair[0].event.ordinal < pair[1].event.ordinal
    };
    events.iter().all(|event| !event.is_own_id) && events.windows(2).all(follows)
}

fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Moves a file that cannot be read out of the way; nothing is deleted.
fn set_aside(disk: &Disk, dir: &Path, path: &Path) -> io::Result<()> {
    let quarantine = dir.join("quarantine");
    make_private(&quarantine)?;
    if let Some(name) = path.file_name() {
        disk.rename(path, &quarantine.join(name))?;
    }
    disk.sync_dir(&quarantine)?;
    disk.sync_dir(dir)
}

/// A panic elsewhere leaves these usable: every change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
