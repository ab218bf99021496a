//! The embedded store: events kept on disk so that they are found again, without a database beside it.
//!
//! Invariants:
//! - An event is stored when its frame in the tail is synced (`tail`). A tail that is full becomes a part (`layout`),
//!   which is synced and renamed before the tail's file is removed; a part knows the number of its tail, so that a
//!   crash in between stores nothing twice.
//! - Parts never change. Retention removes whole parts. A part that is damaged is named, moved to `quarantine/`, and
//!   costs itself.
//! - A line comes back byte for byte as it was journalled.
//! - Every hash that a search can ask for is in the chunk that holds the event (`grams`): an index may name too many
//!   chunks, never too few.
//! - A reader sees what was stored at one moment ([`search::Snapshot`]); it holds up no writer.

mod aggregate;
mod bits;
mod bloom;
mod cache;
mod candidates;
mod chunks;
mod grams;
mod layout;
mod part;
mod percentile;
mod postings;
mod retention;
mod rows;
mod seal;
pub mod search;
mod split;
mod tail;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;

use cache::Cache;
use layout::parse_part_name;
use part::Part;
pub use retention::Retention;
use search::Snapshot;
pub use tail::NewEvent;
use tail::{Frozen, TailFile, TailMemory};

use crate::event::Id;

/// Events of a part.
const PART_EVENTS: usize = 65_536;
/// A tail with so many bytes of lines becomes a part, however few its events are.
const PART_BYTES: usize = 48 << 20;
/// Events that enter memory under one lock, so that readers never wait long.
const ENTER_EVENTS: usize = 256;

#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    pub retention: Retention,
    /// Bytes that may be kept in memory of what was read.
    pub cache_bytes: usize,
    /// Events of a part.
    pub part_events: usize,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options { dir: dir.into(), retention: Retention::default(), cache_bytes: 32 << 20, part_events: PART_EVENTS }
    }
}

/// A handle; clones share one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    part_events: usize,
    retention: Mutex<Retention>,
    cache: Arc<Cache>,
    /// Held while events are appended.
    writer: Mutex<Writer>,
    memory: Mutex<TailMemory>,
    published: RwLock<Published>,
    damaged: Arc<Mutex<Vec<u64>>>,
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
    /// Parts that could not be read and were moved to `quarantine/`.
    pub damaged: Vec<String>,
    /// Bytes behind the last whole frame of a tail, cut off: nothing there was acknowledged.
    pub cut_bytes: u64,
}

impl Store {
    /// Opens or makes a store.
    pub fn open(options: &Options) -> io::Result<(Store, Report)> {
        make_private(&options.dir)?;
        let cache = Arc::new(Cache::new(options.cache_bytes));
        let mut report = Report::default();
        let (mut parts, mut tails) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&options.dir)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(".new") {
                // A part that was being made; its tail is still there.
                fs::remove_file(&path)?;
            } else if let Some(number) = name.strip_suffix(".tail").and_then(|number| number.parse::<u64>().ok()) {
                tails.push(number);
            } else if let Some(number) = parse_part_name(name) {
                match Part::open(&path, number, cache.clone()) {
                    Ok(part) => parts.push(Arc::new(part)),
                    Err(error)
                        if error.kind() == io::ErrorKind::InvalidData
                            || error.kind() == io::ErrorKind::UnexpectedEof =>
                    {
                        tracing::error!(path = %path.display(), %error, "a part of the store is damaged and set aside");
                        report.damaged.push(name.to_owned());
                        set_aside(&options.dir, &path)?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        parts.sort_by_key(|part| part.number);
        tails.sort_unstable();
        let last_part = parts.last().map_or(0, |part| part.number);
        for number in tails.iter().filter(|number| parts.iter().any(|part| part.number == **number)) {
            fs::remove_file(options.dir.join(tail::tail_name(*number)))?;
        }
        tails.retain(|number| parts.iter().all(|part| part.number != *number));
        let newest = tails.pop().unwrap_or(last_part + 1);
        let mut frozen = Vec::new();
        for number in tails {
            // A tail that was becoming a part when the process ended.
            let (file, mut memory, cut) = TailFile::open(&options.dir, number)?;
            report.cut_bytes += cut;
            frozen.push(Arc::new(memory.freeze(number, file.path)?));
        }
        let (file, memory, cut) = TailFile::open(&options.dir, newest)?;
        report.cut_bytes += cut;
        let max_seq = parts.iter().map(|part| part.meta.last_seq).max().unwrap_or(0).max(memory.max_seq);
        let in_frozen = frozen.iter().flat_map(|frozen| &frozen.view.chunks).flat_map(|chunk| &chunk.rows);
        let max_seq = in_frozen.map(|row| row.seq).max().unwrap_or(0).max(max_seq);
        let published = Published { parts, frozen: frozen.clone(), stored_seq: max_seq };
        let store = Store(Arc::new(Inner {
            dir: options.dir.clone(),
            part_events: options.part_events,
            retention: Mutex::new(options.retention.clone()),
            cache,
            writer: Mutex::new(Writer { file, max_seq, sealing: None }),
            memory: Mutex::new(memory),
            published: RwLock::new(published),
            damaged: Arc::default(),
        }));
        for one in frozen {
            store.0.seal(&one)?;
        }
        report.events = store.snapshot().places().iter().map(|place| place.events() as u64).sum();
        Ok((store, report))
    }

    /// Stores events; when this returns they are on disk and every later reader sees them.
    pub fn append(&self, events: &[NewEvent<'_>]) -> io::Result<Appended> {
        let inner = &self.0;
        let mut writer = lock(&inner.writer);
        let mut appended = Appended::default();
        let mut new: Vec<(NewEvent<'_>, (Id, bool))> = Vec::with_capacity(events.len());
        let mut in_batch: HashMap<Id, usize> = HashMap::new();
        for (nth, event) in events.iter().enumerate() {
            let id = event.id();
            let known = match in_batch.get(&id.0) {
                Some(earlier) => Some(new[*earlier].0.line.to_vec()),
                None => self.known_line(event, id, writer.max_seq)?,
            };
            match known {
                Some(line) if line == event.line => appended.repeated += 1,
                Some(_) => appended.conflicts.push(nth),
                None => {
                    in_batch.insert(id.0, new.len());
                    new.push((*event, id));
                }
            }
        }
        if !new.is_empty() {
            writer.file.append(&new)?;
            for some in new.chunks(ENTER_EVENTS) {
                let mut memory = lock(&inner.memory);
                for (event, id) in some {
                    memory.enter(event, *id)?;
                }
            }
            appended.stored = new.len();
        }
        let newest = events.iter().map(|event| event.seq).max().unwrap_or(0);
        writer.max_seq = writer.max_seq.max(newest);
        let mut published = write(&inner.published);
        published.stored_seq = published.stored_seq.max(newest);
        drop(published);
        let (count, bytes) = {
            let memory = lock(&inner.memory);
            (memory.events, memory.line_bytes)
        };
        if count >= inner.part_events || bytes >= PART_BYTES {
            self.roll(&mut writer)?;
        }
        Ok(appended)
    }

    /// The stored line that an event repeats or contradicts.
    fn known_line(&self, event: &NewEvent<'_>, (id, is_own): (Id, bool), max_seq: u64) -> io::Result<Option<Vec<u8>>> {
        let in_tail = lock(&self.0.memory).find(id)?;
        if in_tail.is_some() {
            return Ok(in_tail);
        }
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
        Snapshot { parts: published.parts.clone(), tails, damaged: self.0.damaged.clone() }
    }

    /// Makes the tail a part, in a thread of its own, and begins another tail.
    fn roll(&self, writer: &mut Writer) -> io::Result<()> {
        if let Some(sealing) = writer.sealing.take()
            && sealing.join().is_err()
        {
            tracing::error!("making a part of the store has panicked; its events stay in their tail");
        }
        let (file, empty, _) = TailFile::open(&self.0.dir, writer.file.number + 1)?;
        sync_dir(&self.0.dir)?;
        let old = std::mem::replace(&mut writer.file, file);
        let frozen = {
            // Both under the lock of what is published, so that no reader misses the events or sees them twice.
            let mut published = write(&self.0.published);
            let mut memory = lock(&self.0.memory);
            let frozen = Arc::new(memory.freeze(old.number, old.path)?);
            *memory = empty;
            published.frozen.push(frozen.clone());
            frozen
        };
        let inner = Arc::downgrade(&self.0);
        let thread = std::thread::Builder::new()
            .name("store-seal".to_owned())
            .spawn(move || seal_in_background(&inner, &frozen));
        writer.sealing = Some(thread?);
        Ok(())
    }

    /// Everything that is stored now.
    pub fn snapshot(&self) -> Snapshot {
        let published = read(&self.0.published);
        let mut tails: Vec<_> = published.frozen.iter().map(|frozen| frozen.view.clone()).collect();
        tails.push(lock(&self.0.memory).view());
        Snapshot { parts: published.parts.clone(), tails, damaged: self.0.damaged.clone() }
    }

    /// The `seq` of the newest event that was handed in; readers see it.
    pub fn stored_seq(&self) -> u64 {
        read(&self.0.published).stored_seq
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        let parts: u64 = read(&self.0.published).parts.iter().map(|part| part.bytes()).sum();
        parts + lock(&self.0.writer).file.bytes()
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        let blooms: usize = read(&self.0.published).parts.iter().map(|part| part.bloom_weight()).sum();
        lock(&self.0.memory).weight() + self.0.cache.weight() + blooms
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
        let mut writer = lock(&self.0.writer);
        if lock(&self.0.memory).events > 0 {
            self.roll(&mut writer)?;
        }
        drop(writer);
        self.settle();
        Ok(())
    }
}

fn seal_in_background(inner: &Weak<Inner>, frozen: &Arc<Frozen>) {
    let Some(inner) = inner.upgrade() else { return };
    if let Err(error) = inner.seal(frozen) {
        tracing::error!(%error, tail = frozen.number, "cannot make a part of the store; its events stay in their tail until the next start");
    }
}

impl Inner {
    /// Makes a part of a frozen tail and lets it take the tail's place.
    fn seal(&self, frozen: &Arc<Frozen>) -> io::Result<()> {
        let path = self.dir.join(layout::part_name(frozen.number));
        let temporary = path.with_extension("new");
        seal::write_part(&temporary, &frozen.view.chunks, &frozen.seeds)?;
        fs::rename(&temporary, &path)?;
        sync_dir(&self.dir)?;
        let part = Arc::new(Part::open(&path, frozen.number, self.cache.clone())?);
        {
            let mut published = write(&self.published);
            published.frozen.retain(|other| other.number != frozen.number);
            published.parts.push(part);
            published.parts.sort_by_key(|part| part.number);
        }
        fs::remove_file(&frozen.path)?;
        sync_dir(&self.dir)
    }
}

/// The stores of one agent, by folder: who writes and who reads share one.
#[derive(Clone, Default)]
pub struct Stores(Arc<Mutex<HashMap<PathBuf, Weak<Inner>>>>);

impl Stores {
    /// The store in this folder, opened if it is not open yet; its policy is the newest one asked for.
    pub fn open(&self, options: &Options) -> io::Result<(Store, Report)> {
        let mut open = lock(&self.0);
        if let Some(inner) = open.get(&options.dir).and_then(Weak::upgrade) {
            let store = Store(inner);
            store.set_retention(options.retention.clone());
            return Ok((store, Report::default()));
        }
        let (store, report) = Store::open(options)?;
        open.retain(|_, inner| inner.strong_count() > 0);
        open.insert(options.dir.clone(), Arc::downgrade(&store.0));
        Ok((store, report))
    }

    /// The store in this folder, if somebody has it open.
    pub fn get(&self, dir: &Path) -> Option<Store> {
        lock(&self.0).get(dir).and_then(Weak::upgrade).map(Store)
    }
}

fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Moves a file that cannot be read out of the way; nothing is deleted.
fn set_aside(dir: &Path, path: &Path) -> io::Result<()> {
    let quarantine = dir.join("quarantine");
    make_private(&quarantine)?;
    if let Some(name) = path.file_name() {
        fs::rename(path, quarantine.join(name))?;
    }
    sync_dir(&quarantine)?;
    sync_dir(dir)
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
