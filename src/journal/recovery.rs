//! Opens a journal: reads the disk, validates it by the invariants of `format`, and repairs its end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use super::appender::Appender;
use super::format::{Notes, RECORD_HEADER, RecordHeader, Sector, SegmentHeader, VERSION};
use super::fs::{Fs, Guard, Lock};
use super::housekeeping::load_cursors;
use super::keys::Keys;
use super::marks::{MARK, Numbers};
use super::memory::MemoryBudget;
use super::packing::Packing;
use super::positions::{OWN_CURSORS, Positions};
use super::report::{Loss, REPORTED, RecoveryReport};
use super::segment::{Place, Segment, file_number, quarantine, read_all, read_header};
use super::state::{Shared, State};
use super::streams::Heads;
use super::tier::Tier;
use super::unpacked::Unpacked;
use super::validate::{Item, mend_tail, validate};
use super::watermark::CursorState;
use super::{Mode, Options, Position, STAGE_INPUT, state_source};
use crate::telemetry::Histogram;
use crate::units::Timestamp;

/// The largest ordinary segment: some eight groups, so that its end cuts few of them short.
const SEGMENT_BYTES: u64 = 16 << 20;
/// A journal is at least this many segments, so that reuse comes in time.
const SEGMENTS: u64 = 16;
const MIN_SEGMENT_BYTES: u64 = 16 << 10;
/// Part of the memory for the newest records that records read from the disk may have though nobody uses them any more.
const UNPACKED_SHARE: usize = 4;

/// Why a journal could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    Locked {
        path: PathBuf,
        pid: Option<u32>,
    },
    /// A newer program wrote it. Nothing was changed.
    NewerFormat {
        path: PathBuf,
        version: u32,
    },
    Io {
        path: PathBuf,
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { path, pid: Some(pid) } => write!(f, "`{}` is locked by process {pid}", path.display()),
            OpenError::Locked { path, pid: None } => write!(f, "`{}` is locked by another process", path.display()),
            OpenError::NewerFormat { path, version } => {
                write!(f, "`{}` has format {version}, this program knows {VERSION}", path.display())
            }
            OpenError::Io { path, source } => write!(f, "cannot use `{}`: {source}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// A journal on the disk, without its threads.
pub struct Opened {
    pub shared: Arc<Shared>,
    pub appender: Appender,
    pub guard: Guard,
    pub report: RecoveryReport,
}

/// The process that has the journal in this folder open, where one has.
pub fn holder(dir: &Path) -> Option<u32> {
    super::fs::holder(&dir.join("lock"))
}

/// Makes a journal without a disk.
pub fn in_memory(options: Options, fs: Arc<dyn Fs>) -> Arc<Shared> {
    let next_seq = Timestamp::now().0.max(1) as u64;
    let found = Chain { next_seq, ..Chain::default() };
    Arc::new(assemble(options, fs, found, Keys::in_memory(), Vec::new()))
}

/// Opens or makes a journal on the disk.
pub fn open(options: Options, fs: Arc<dyn Fs>) -> Result<Opened, OpenError> {
    let dir = options.dir.clone();
    let at = |source| OpenError::Io { path: dir.clone(), source };
    fs.create_dir(&dir).map_err(at)?;
    let guard = match fs.lock(&dir.join("lock")).map_err(at)? {
        Lock::Held(guard) => guard,
        Lock::Taken(pid) => return Err(OpenError::Locked { path: dir, pid }),
    };
    let files = look(&*fs, &dir)?;
    fs.create_dir(&dir.join("cursors")).map_err(at)?;
    fs.sync_dir(&dir).map_err(at)?;
    let keys = Keys::on_disk(fs.create(&dir.join("keys")).map_err(at)?);

    let mut report = RecoveryReport::default();
    let (cursors, broken_cursors) = load_cursors(&*fs, &dir).map_err(at)?;
    let newest_cursor = cursors.iter().map(|(stored, _)| stored.settled).max().unwrap_or(0);

    let total: u64 = files.iter().map(|file| u64::from(file.place.bytes)).sum();
    let disk = fs.available(&dir).map_err(at)? + total;
    let segment_bytes = SEGMENT_BYTES.min(options.max_bytes / SEGMENTS).min(disk / SEGMENTS).max(MIN_SEGMENT_BYTES);
    let segment_bytes = (segment_bytes / 4096 * 4096) as u32;
    let next_file = files.iter().map(|file| file.number + 1).max().unwrap_or(1);

    let (headed, spare) = sort_out(&*fs, &dir, files, segment_bytes, &mut report).map_err(at)?;
    let mut chain = Chain::default();
    chain.read(&*fs, &dir, headed, &keys, &mut report).map_err(at)?;
    if chain.segments.is_empty() {
        chain.next_seq = (Timestamp::now().0.max(1) as u64).max(newest_cursor);
    }

    let remembered: Vec<String> = chain
        .positions
        .of(OWN_CURSORS)
        .into_iter()
        .map(|(name, _)| String::from_utf8_lossy(&name).into_owned())
        .filter(|name| !cursors.iter().any(|(stored, _)| stored.name == *name))
        .collect();
    cursors.iter().for_each(|(stored, _)| chain.compare(&stored.name, &stored.totals));
    report.cursors_lost = broken_cursors.into_iter().chain(remembered).collect();
    let end = chain.next_seq;
    let mut states = Vec::new();
    for (mut stored, files) in cursors {
        if stored.settled > end {
            report.set_back.push((stored.name.clone(), stored.settled, end));
            stored.settled = end;
        }
        states.push((stored, files));
    }
    // Damage that every cursor has passed costs nothing.
    let everybody = states.iter().map(|(stored, _)| stored.settled).min();
    let needed_from = if report.cursors_lost.is_empty() { everybody.unwrap_or(end) } else { 0 };
    report.needed_from = needed_from;
    let reported = chain.positions.of(REPORTED);
    for loss in report.lost.iter_mut().chain(&mut report.notes_lost) {
        loss.was_reported = reported.contains(&loss.as_position());
    }
    let shared = Arc::new(assemble(options, fs, chain, keys, states));
    let mut appender = Appender::new(shared.clone(), segment_bytes, next_file, spare);
    appender.prepare();
    Ok(Opened { shared, appender, guard, report })
}

fn assemble(
    options: Options,
    fs: Arc<dyn Fs>,
    chain: Chain,
    keys: Keys,
    cursors: Vec<(super::watermark::Stored, super::housekeeping::CursorFiles)>,
) -> Shared {
    let mut states = BTreeMap::new();
    let mut files = BTreeMap::new();
    let mut chain = chain;
    // A stream of which nothing was written yet, or nothing is left, is known by its cursors alone. Without a place for
    // one more, it is made anew when a plan wants it.
    let known: HashSet<u64> = chain.heads.table().iter().map(|entry| entry.name).collect();
    let passed = cursors.iter().flat_map(|(stored, _)| &stored.passed);
    for (name, passed) in passed.filter(|(name, _)| !known.contains(name)) {
        if let Some(head) = chain.heads.enter(*name).and_then(|stream| chain.heads.get_mut(stream)) {
            (head.events, head.bytes) = (head.events.max(passed.events), head.bytes.max(passed.bytes));
        }
    }
    for (stored, cursor_files) in cursors {
        let name: Arc<str> = stored.name.as_str().into();
        states.insert(name.clone(), CursorState::new(stored));
        files.insert(name, cursor_files);
    }
    let unpacked_bytes = if options.mode == Mode::Disk { options.tier_bytes / UNPACKED_SHARE } else { 0 };
    let state = State {
        next_seq: chain.next_seq,
        synced_seq: chain.next_seq,
        heads: chain.heads.clone(),
        synced: chain.heads,
        segments: chain.segments.into(),
        broken: None,
        tier: Tier::new(chain.next_seq, options.tier_bytes, options.consumer_bytes),
        positions: chain.positions,
        pending_keys: HashSet::new(),
        cursors: states,
        removed: BTreeMap::new(),
        deliveries: Vec::new(),
        sync_times: Histogram::default(),
    };
    Shared {
        intake: MemoryBudget::new(options.intake_bytes),
        packing: Packing::new(&options, Instant::now()),
        unpacked: Unpacked::new(unpacked_bytes),
        options,
        fs,
        state: Mutex::new(state),
        keys,
        queue: Mutex::default(),
        turn: Mutex::default(),
        due: Condvar::new(),
        housekeeping: Condvar::new(),
        syncs: Mutex::default(),
        sync_turn: Condvar::new(),
        changed: Notify::new(),
        eager: Notify::new(),
        waiting_for_delivery: AtomicUsize::new(0),
        closing: AtomicBool::new(false),
        files: Mutex::new(files),
        capacity: AtomicU64::new(0),
        damaged: AtomicU64::new(0),
        fault: Mutex::default(),
        shut_out: Mutex::default(),
        is_shut_out: AtomicBool::new(false),
        shortage: Default::default(),
    }
}

/// A segment as its header tells it, and its file.
type Headed = (SegmentHeader, Place);

struct SegmentFile {
    number: u64,
    name: String,
    place: Place,
    header: Sector,
}

/// Opens every segment file and reads its header; changes nothing.
fn look(fs: &dyn Fs, dir: &Path) -> Result<Vec<SegmentFile>, OpenError> {
    let mut files = Vec::new();
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    for name in fs.list(dir).map_err(at(dir))? {
        let Some(number) = file_number(&name) else { continue };
        let path = dir.join(&name);
        let file = fs.open(&path).map_err(at(&path))?;
        let bytes = file.size().map_err(at(&path))?.min(u64::from(u32::MAX)) as u32;
        let header = read_header(&*file).map_err(at(&path))?;
        if let Sector::Newer(version) = header {
            return Err(OpenError::NewerFormat { path, version });
        }
        files.push(SegmentFile { number, name, place: Place { file, path, bytes }, header });
    }
    Ok(files)
}

/// Segments in order, and a file that can become one. What is broken goes to quarantine.
fn sort_out(
    fs: &dyn Fs,
    dir: &Path,
    files: Vec<SegmentFile>,
    segment_bytes: u32,
    report: &mut RecoveryReport,
) -> io::Result<(Vec<Headed>, Option<Place>)> {
    let (mut headed, mut spare) = (Vec::new(), None);
    for SegmentFile { name, place, header, .. } in files {
        match header {
            Sector::Header(header) => headed.push((header, place)),
            Sector::Empty if spare.is_none() && place.bytes == segment_bytes => spare = Some(place),
            Sector::Empty => fs.remove(&place.path)?,
            Sector::Broken | Sector::Newer(_) => {
                let folder = dir.join("quarantine");
                fs.create_dir(&folder)?;
                fs.rename(&place.path, &folder.join(&name))?;
                fs.sync_dir(&folder)?;
                fs.sync_dir(dir)?;
                report.broken_files.push(name);
            }
        }
    }
    headed.sort_by_key(|(header, _)| header.index);
    Ok((headed, spare))
}

/// What the segments say, one after the other.
#[derive(Default)]
struct Chain {
    segments: Vec<Segment>,
    heads: Heads,
    positions: Positions,
    /// Of the commits of states.
    numbers: Numbers,
    next_seq: u64,
    /// Damaged bytes since the last number of an event that is known.
    damaged: u64,
}

impl Chain {
    fn read(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        headed: Vec<Headed>,
        keys: &Keys,
        report: &mut RecoveryReport,
    ) -> io::Result<()> {
        let mut ends: HashMap<(u64, u32), u32> = HashMap::new();
        for (header, _) in &headed {
            ends.extend(header.before.iter().map(|(index, salt, end)| ((*index, *salt), *end)));
        }
        let last = headed.len().saturating_sub(1);
        for (nth, (header, place)) in headed.into_iter().enumerate() {
            let bytes = read_all(&place)?;
            let known_end = ends.get(&(header.index, header.salt)).copied();
            if nth == 0 {
                self.next_seq = header.first_seq;
            }
            let validated = validate(&bytes, header.salt, known_end);
            for damage in &validated.damaged {
                let name = format!("{:010}-{}", header.index, damage.start);
                quarantine(fs, dir, &name, &bytes[damage.start as usize..damage.end as usize])?;
            }
            for entry in &header.streams {
                self.heads.raise(entry, header.first_seq, 0);
            }
            self.expect(header.first_seq, report);
            let mut segment = Segment {
                index: header.index,
                salt: header.salt,
                place,
                end: validated.end,
                first_seq: header.first_seq,
                end_seq: header.first_seq,
                oldest: header.created_at,
                newest: header.created_at,
                starts: self.heads.clone(),
            };
            for item in validated.items() {
                let (at, record) = match item {
                    Item::Damage(range) => {
                        self.damaged += range.len() as u64;
                        continue;
                    }
                    Item::Torn(at, record) => {
                        self.expect(record.first_seq, report);
                        self.damaged += record.total_len() as u64;
                        self.expect(record.end_seq(), report);
                        if record.count > 0 {
                            self.heads.raise(&record.entry_at(record.end_seq()), record.first_seq, record.end_seq());
                        }
                        self.state(&bytes, at, &record, header.index);
                        continue;
                    }
                    Item::Whole(at, record) => (at, record),
                };
                self.expect(record.first_seq, report);
                self.enter(&bytes, at, &record, header.index, keys)?;
                segment.newest = segment.newest.max(record.received_at);
                report.records += u64::from(record.count > 0);
                report.events += u64::from(record.count);
            }
            // Damaged events at the end of a segment show in the next one's first number.
            segment.end_seq = self.next_seq;
            if nth == last {
                if validated.unnumbered() > 0 {
                    let (seqs, bytes) = (self.next_seq..self.next_seq, validated.unnumbered());
                    report.lost.push(Loss { seqs, bytes, was_reported: false });
                }
                report.cut_bytes += mend_tail(&segment, &bytes, &validated)?;
            }
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Counts what is missing in front of `seq`: events, or what was damaged without one.
    fn expect(&mut self, seq: u64, report: &mut RecoveryReport) {
        let bytes = std::mem::take(&mut self.damaged);
        if seq > self.next_seq {
            report.lost.push(Loss { seqs: self.next_seq..seq, bytes, was_reported: false });
            self.next_seq = seq;
        } else if bytes > RECORD_HEADER as u64 {
            // A header alone only says how far the disk was synced.
            report.notes_lost.push(Loss { seqs: seq..seq, bytes, was_reported: false });
        }
    }

    /// The positions in a record count even where its lines are lost: no source reads those again.
    fn state(&mut self, bytes: &[u8], at: u32, record: &RecordHeader, index: u64) -> Option<Notes> {
        let notes = notes_of(bytes, at, record)?;
        for position in &notes.positions {
            if let Some(uncertain) = self.numbers.follow(position) {
                self.positions.forget(&position.source, |key| uncertain.is_about(key));
            }
        }
        for position in &notes.positions {
            self.positions.state(position, index);
        }
        Some(notes)
    }

    /// Holds the last commit of a stage's state against the one that its cursor knows.
    fn compare(&mut self, cursor: &str, totals: &[u8]) {
        if !cursor.ends_with(STAGE_INPUT) {
            return;
        }
        let source: Arc<str> = state_source(cursor).into();
        let last = self.positions.of(&source).into_iter().find(|(key, _)| &key[..] == MARK).map(|(_, value)| value);
        if let Some((uncertain, mark)) = self.numbers.compare(&source, totals, last.as_ref()) {
            let segment = self.segments.last().map_or(0, |last| last.index);
            self.positions.forget(&source, |key| uncertain.is_about(key));
            self.positions.state(&Position { source, key: MARK.into(), value: mark.encode() }, segment);
        }
    }

    fn enter(&mut self, bytes: &[u8], at: u32, record: &RecordHeader, index: u64, keys: &Keys) -> io::Result<()> {
        if record.count > 0 {
            self.heads.raise(&record.entry_at(record.end_seq()), record.first_seq, record.end_seq());
        }
        self.next_seq = record.end_seq();
        let Some(notes) = self.state(bytes, at, record, index) else { return Ok(()) };
        let now = Timestamp::now();
        for (key, accepted) in &notes.keys {
            keys.enter(key, *accepted, notes.keys_at, now)?;
        }
        Ok(())
    }
}

/// The notes of a record, if they are what was written.
fn notes_of(bytes: &[u8], at: u32, header: &RecordHeader) -> Option<Notes> {
    let from = at as usize + RECORD_HEADER;
    let notes = bytes.get(from..from + header.notes_len as usize)?;
    header.fits_notes(notes).then(|| Notes::decode(notes)).flatten()
}
