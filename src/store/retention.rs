//! Retention: drops whole parts, oldest first, by age and size; archives them first if configured.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::Disk;
use super::layout::{Meta, PARTS_OF_TAIL};
use super::part::Part;
use super::rows::RowFilter;
use super::search::{Place, is_damage, note_damage};
use super::{Inner, Store, lock, read, set_aside, write};
use crate::query::Query;
use crate::query::request::Filter;
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// How long events stay.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    pub age: Option<Duration>,
    /// The age of events of some types.
    pub types: BTreeMap<String, Duration>,
    /// Bytes on disk.
    pub bytes: Option<u64>,
    /// What goes is written here first, as compressed NDJSON.
    pub archive: Option<PathBuf>,
    /// Such events stay. They get a part of their own; in a part that was made before they were held, all stay with them.
    pub hold: Option<Arc<Query>>,
}

impl Retention {
    /// Whether the time of every event of a part is over.
    fn is_over(&self, meta: &Meta, now: Timestamp) -> bool {
        let is_over = |received: i64, age: Option<&Duration>| {
            age.or(self.age.as_ref()).is_some_and(|age| Timestamp(received).plus(*age) < now)
        };
        match &meta.types {
            Some(types) => types.iter().all(|(name, received)| is_over(*received, self.types.get(name))),
            None => is_over(meta.max_received, self.types.values().max()),
        }
    }
}

/// With more parts than this, parts that are made for the sake of age become larger.
const MANY_PARTS: usize = 200;
/// A tail is sealed when it has lasted for this share of the shortest time that events stay: whatever little arrives, it
/// goes when its time is over, and that much later at most.
const SHARE: u32 = 8;

impl Retention {
    /// How long a tail may last before it becomes a part, full or not.
    fn tail_lasts(&self, parts: usize) -> Option<Duration> {
        let ages = || self.types.values().chain(&self.age);
        let shortest = *ages().min()? / SHARE;
        // Of events that stay for ever there would be more and more parts.
        let longest = self.age.and_then(|_| ages().max().copied()).unwrap_or(TEN_YEARS);
        Some(if parts < MANY_PARTS { shortest } else { shortest.max(longest / MANY_PARTS as u32) })
    }
}

/// A tail that has got nothing for this long becomes a part, if it has at least one in so many of a part's events.
const RESTS_AFTER: Duration = Duration::from_secs(20);
const RESTING_SHARE: usize = 4;

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What tidying did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    pub events: u64,
    pub parts: usize,
}

impl Store {
    /// Lets go what is over, and sets aside parts that turned out to be damaged.
    pub fn tidy(&self, now: Timestamp) -> io::Result<Tidied> {
        let retention = lock(&self.0.retention).clone();
        self.0.set_damaged_aside()?;
        self.seal_what_lasts(&retention, now)?;
        self.seal_what_rests(now)?;
        self.0.cache.rest();
        let parts = read(&self.0.published).parts.clone();
        let mut total = self.bytes();
        let mut tidied = Tidied::default();
        for part in parts {
            let is_old = retention.is_over(&part.meta, now);
            let is_over = retention.bytes.is_some_and(|bytes| total > bytes);
            if !(is_old || is_over) {
                continue;
            }
            match may_go(&self.0.disk, &part, &retention) {
                Ok(true) => {
                    tidied.events += part.events() as u64;
                    tidied.parts += 1;
                    self.0.remove(&part)?;
                }
                Ok(false) => continue,
                // Whatever is damaged holds up nothing that is not.
                Err(error) if is_damage(&error) => note_damage(&self.0.damaged, &part, &error),
                Err(error) => return Err(error),
            }
            total -= part.bytes();
        }
        self.0.set_damaged_aside()?;
        Ok(tidied)
    }
}

/// Archives a part whose time is over, where that is asked for, unless some of it is held.
fn may_go(disk: &Disk, part: &Arc<Part>, retention: &Retention) -> io::Result<bool> {
    if is_held(part, retention)? {
        return Ok(false);
    }
    if let Some(archive) = &retention.archive {
        write_archive(disk, archive, part)?;
    }
    Ok(true)
}

impl Store {
    /// Only parts can go, so that a tail that fills too slowly becomes one before it is full.
    fn seal_what_lasts(&self, retention: &Retention, now: Timestamp) -> io::Result<()> {
        let Some(lasts) = retention.tail_lasts(read(&self.0.published).parts.len()) else { return Ok(()) };
        self.0.loading.wait();
        if self.roll_if(|tail| tail.oldest.is_some_and(|oldest| Timestamp(oldest).plus(lasts) < now))? {
            self.settle();
        }
        Ok(())
    }
}

impl Store {
    /// Events that nobody adds to take less memory in a part. Few of them stay as they are: parts should not become many.
    fn seal_what_rests(&self, now: Timestamp) -> io::Result<()> {
        self.0.loading.wait();
        let least = self.0.part_events / RESTING_SHARE;
        let rests = |newest: i64| Timestamp(newest).plus(RESTS_AFTER) < now;
        if self.roll_if(|tail| tail.events > 0 && tail.events >= least && tail.newest.is_some_and(rests))? {
            self.settle();
        }
        Ok(())
    }
}

fn is_held(part: &Arc<Part>, retention: &Retention) -> io::Result<bool> {
    let Some(hold) = &retention.hold else { return Ok(false) };
    let mut is_held = false;
    each_held(&Place::Part(part.clone()), hold, |_, _| {
        is_held = true;
        false
    })?;
    Ok(is_held)
}

/// Gives the rows that are held, chunk by chunk, as long as somebody wants more; only chunks that have some.
pub fn each_held(
    place: &Place,
    hold: &Arc<Query>,
    mut wants_more: impl FnMut(usize, &[usize]) -> bool,
) -> io::Result<()> {
    let filter = Filter { query: Some(hold.clone()), ..Filter::default() };
    let everything = Visibility::All { own: String::new(), preview: usize::MAX };
    let candidates = place.candidates(&super::search::needs_of(&filter, &everything))?;
    let mut rows_of = RowFilter::new(place, &filter, &everything)?;
    let (mut times, mut rows) = (Vec::new(), Vec::new());
    for chunk in candidates.iter() {
        place.chunk_times(chunk, &mut times)?;
        rows_of.rows(chunk, &times, &mut rows)?;
        if !rows.is_empty() && !wants_more(chunk, &rows) {
            break;
        }
    }
    Ok(())
}

/// One file for each part, whole before it has its name. Other events under that name are left as they are: stores may
/// share a folder, and imported events have the same numbers again once none is left.
fn write_archive(disk: &Disk, folder: &Path, part: &Part) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let nth = part.number % PARTS_OF_TAIL;
    let suffix = if nth == 0 { String::new() } else { format!("-{nth}") };
    let name = format!("events-{:020}-{:020}{suffix}", part.meta.first_seq, part.meta.last_seq);
    // Stores that share the folder may write at the same time.
    let writer = crc32c::crc32c(part.path().as_os_str().as_encoded_bytes());
    let temporary = folder.join(format!("{name}.{writer:08x}.new"));
    let file = disk.create(&temporary)?.sequential();
    let mut out = zstd::Encoder::new(io::BufWriter::new(file), 3)?;
    for row in 0..part.events() {
        out.write_all(&part.line(row)?)?;
        out.write_all(b"\n")?;
    }
    out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync()?;
    for copy in 1u64.. {
        let copy = if copy == 1 { String::new() } else { format!(".{copy}") };
        let path = folder.join(format!("{name}{copy}.ndjson.zst"));
        if disk.rename_new(&temporary, &path)? {
            break;
        }
        // The agent may have ended before the part was removed.
        if have_same_lines(&temporary, &path) {
            disk.remove(&temporary)?;
            break;
        }
    }
    disk.sync_dir(folder)
}

/// Whether two archives have the same lines, whatever they are compressed by.
fn have_same_lines(one: &Path, other: &Path) -> bool {
    let open = |path| zstd::Decoder::new(fs::File::open(path)?);
    let (Ok(mut one), Ok(mut other)) = (open(one), open(other)) else { return false };
    let (mut buffer, mut expected) = ([0; 8192], [0; 8192]);
    loop {
        match one.read(&mut expected) {
            Ok(0) => return matches!(other.read(&mut buffer), Ok(0)),
            Ok(len) if other.read_exact(&mut buffer[..len]).is_ok() && buffer[..len] == expected[..len] => {}
            _ => return false,
        }
    }
}

impl Inner {
    fn remove(&self, part: &Part) -> io::Result<()> {
        write(&self.published).parts.retain(|other| other.number != part.number);
        self.cache.forget(part.number);
        // Readers that still have it keep their open file.
        self.disk.remove(part.path())?;
        self.disk.sync_dir(&self.dir)
    }

    fn set_damaged_aside(&self) -> io::Result<()> {
        let damaged = std::mem::take(&mut *lock(&self.damaged));
        for number in damaged {
            let gone = {
                let mut published = write(&self.published);
                let gone = published.parts.iter().find(|part| part.number == number).cloned();
                published.parts.retain(|part| part.number != number);
                gone
            };
            if let Some(part) = gone {
                self.cache.forget(number);
                tracing::error!(path = %part.path().display(), events = part.events(), "a damaged part of the store was set aside");
                set_aside(&self.disk, &self.dir, part.path())?;
            }
        }
        Ok(())
    }
}
