//! Opening: what the disk still holds is read, judged by the invariants of `format`, and made whole again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::Notify;

use super::appender::Appender;
use super::format::{DATA_START, Notes, RECORD_HEADER, RecordHeader, Sector, SegmentHeader, VERSION};
use super::fs::{Fs, Guard, Lock};
use super::house::load_cursors;
use super::keys::Keys;
use super::positions::Positions;
use super::room::Purse;
use super::segment::{Found, Place, Segment, file_number, fill, next_header, quarantine, read_all, read_header, walk};
use super::state::{Heads, Shared, State};
use super::tier::Tier;
use super::watermark::CursorState;
use super::{Mode, Options};
use crate::telemetry::Histogram;
use crate::units::Timestamp;

/// The largest ordinary segment.
const SEGMENT_BYTES: u64 = 4 << 20;
/// A journal is at least this many segments, so that reuse comes in time.
const SEGMENTS: u64 = 16;
const MIN_SEGMENT_BYTES: u64 = 16 << 10;

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

/// Events that were once in the journal and are not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub seqs: Range<u64>,
    pub bytes: u64,
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub records: u64,
    pub events: u64,
    /// Damaged places: their bytes are in `quarantine/`, the events in `seqs` are gone.
    pub lost: Vec<Loss>,
    /// Bytes behind the last whole commit that were cut off. Nothing there was acknowledged.
    pub cut_bytes: u64,
    /// Files without a readable header, moved to `quarantine/`.
    pub broken_files: Vec<String>,
    /// Cursors that stood behind the end: name, from, to.
    pub set_back: Vec<(String, u64, u64)>,
    /// Cursors whose files were unreadable or gone; they begin at the oldest event.
    pub cursors_lost: Vec<String>,
}

impl RecoveryReport {
    pub fn lost_events(&self) -> u64 {
        self.lost.iter().map(|loss| loss.seqs.end - loss.seqs.start).sum()
    }
}

/// A journal without its threads.
pub struct Opened {
    pub shared: Arc<Shared>,
    pub appender: Appender,
    pub guard: Option<Guard>,
    pub report: RecoveryReport,
}

/// Under this source the journal remembers which cursors it has.
pub const OWN_CURSORS: &str = "\0cursors";

/// The process that has the journal in this folder open, where one has.
pub fn holder(dir: &Path) -> Option<u32> {
    super::fs::holder(&dir.join("lock"))
}

pub fn open(options: Options, fs: Arc<dyn Fs>) -> Result<Opened, OpenError> {
    if options.mode == Mode::Memory {
        let next_seq = Timestamp::now().0.max(1) as u64;
        let found = Chain { next_seq, ..Chain::default() };
        let shared = Arc::new(assemble(options, fs, found, Keys::in_memory(), Vec::new()));
        let appender = Appender::new(shared.clone(), SEGMENT_BYTES as u32, 0, None);
        return Ok(Opened { shared, appender, guard: None, report: RecoveryReport::default() });
    }
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
    let shared = Arc::new(assemble(options, fs, chain, keys, states));
    let mut appender = Appender::new(shared.clone(), segment_bytes, next_file, spare);
    appender.prepare();
    Ok(Opened { shared, appender, guard: Some(guard), report })
}

fn assemble(
    options: Options,
    fs: Arc<dyn Fs>,
    chain: Chain,
    keys: Keys,
    cursors: Vec<(super::watermark::Stored, super::house::CursorFiles)>,
) -> Shared {
    let mut states = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (stored, cursor_files) in cursors {
        let name: Arc<str> = stored.name.as_str().into();
        states.insert(name.clone(), CursorState::new(stored));
        files.insert(name, cursor_files);
    }
    let state = State {
        next_seq: chain.next_seq,
        synced_seq: chain.next_seq,
        heads: chain.heads.clone(),
        synced: chain.heads,
        segments: chain.segments.into(),
        broken: None,
        tier: Tier::new(chain.next_seq, options.tier_bytes),
        positions: chain.positions,
        pending_keys: HashSet::new(),
        cursors: states,
        deliveries: Vec::new(),
        sync_times: Histogram::default(),
    };
    Shared {
        purse: Purse::new(options.intake_bytes),
        options,
        fs,
        state: Mutex::new(state),
        keys,
        queue: Mutex::default(),
        due: Condvar::new(),
        house: Condvar::new(),
        syncs: Mutex::default(),
        sync_turn: Condvar::new(),
        changed: Notify::new(),
        eager: Notify::new(),
        waiting_for_delivery: AtomicUsize::new(0),
        closing: AtomicBool::new(false),
        files: Mutex::new(files),
        capacity: AtomicU64::new(0),
        damaged: AtomicU64::new(0),
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
    next_seq: u64,
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
            let judged = judge(&bytes, header.salt, known_end);
            for damage in &judged.damaged {
                let name = format!("{:010}-{}", header.index, damage.start);
                quarantine(fs, dir, &name, &bytes[damage.start as usize..damage.end as usize])?;
            }
            for entry in &header.streams {
                self.heads.raise(entry, 0);
            }
            self.expect(header.first_seq, &judged, report);
            let mut segment = Segment {
                index: header.index,
                salt: header.salt,
                place,
                end: judged.end,
                first_seq: header.first_seq,
                end_seq: header.first_seq,
                oldest: header.created_at,
                newest: header.created_at,
                starts: self.heads.clone(),
            };
            for (at, record) in &judged.records {
                self.expect(record.first_seq, &judged, report);
                self.enter(&bytes, *at, record, header.index, keys)?;
                segment.newest = segment.newest.max(record.received_at);
                report.records += u64::from(record.count > 0);
                report.events += u64::from(record.count);
            }
            // Damaged events at the end of a segment show in the next one's first number.
            segment.end_seq = self.next_seq;
            if nth == last {
                report.cut_bytes += mend_tail(&segment, &bytes, &judged)?;
            }
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Counts what is missing in front of `seq`.
    fn expect(&mut self, seq: u64, judged: &Judged, report: &mut RecoveryReport) {
        if seq > self.next_seq {
            let bytes = judged.damaged.iter().map(|range| u64::from(range.end - range.start)).sum();
            report.lost.push(Loss { seqs: self.next_seq..seq, bytes });
            self.next_seq = seq;
        }
    }

    fn enter(&mut self, bytes: &[u8], at: u32, record: &RecordHeader, index: u64, keys: &Keys) -> io::Result<()> {
        if record.count > 0 {
            self.heads.raise(&record.entry_at(record.end_seq()), record.end_seq());
        }
        self.next_seq = record.end_seq();
        let notes = at as usize + RECORD_HEADER;
        let Some(notes) = Notes::decode(&bytes[notes..notes + record.notes_len as usize]) else { return Ok(()) };
        for position in &notes.positions {
            self.positions.state(position, index);
        }
        let now = Timestamp::now();
        for (key, accepted) in &notes.keys {
            keys.enter(key, *accepted, notes.keys_at, now)?;
        }
        Ok(())
    }
}

/// Which bytes of a segment are to be believed.
#[derive(Debug, Default)]
struct Judged {
    /// Whole records and where they stand.
    records: Vec<(u32, RecordHeader)>,
    damaged: Vec<Range<u32>>,
    /// Up to here a finished sync is certain.
    claimed: u32,
    /// Behind the last record that counts.
    end: u32,
}

/// `known_end` is what a later segment says about the end of this one.
fn judge(bytes: &[u8], salt: u32, known_end: Option<u32>) -> Judged {
    let limit = known_end.unwrap_or(bytes.len() as u32).min(bytes.len() as u32);
    let found = walk(bytes, salt, limit);
    let claims = found.iter().map(|found| match found {
        Found::Record { header, .. } => header.synced,
        Found::Damage { .. } => 0,
    });
    let claimed = known_end.unwrap_or_else(|| claims.max().unwrap_or(0)).clamp(DATA_START, limit.max(DATA_START));
    let mut judged = Judged { claimed, end: claimed, ..Judged::default() };
    let mut covered = DATA_START;
    let mut group: Vec<(u32, RecordHeader)> = Vec::new();
    let mut next_seq = 0;
    for one in found {
        match one {
            Found::Record { at, header, whole } if at < claimed => {
                let end = at + header.total_len() as u32;
                if whole && end <= claimed && header.first_seq >= next_seq {
                    next_seq = header.end_seq();
                    judged.records.push((at, header));
                } else {
                    judged.damaged.push(at..end.min(claimed));
                }
                covered = end;
            }
            Found::Damage { from, to } if from < claimed => {
                judged.damaged.push(from..to.min(claimed));
                covered = to.min(claimed);
            }
            // Behind the last certain sync only whole groups count that follow without a break.
            Found::Record { at, header, whole } => {
                let expected = group.last().map_or(judged.end, |(at, last)| at + last.total_len() as u32);
                let in_order = usize::from(header.order) == group.len() && header.first_seq >= next_seq;
                if !whole || at != expected || !in_order {
                    break;
                }
                next_seq = header.end_seq();
                group.push((at, header));
                if header.ends_group() {
                    judged.end = at + header.total_len() as u32;
                    judged.records.append(&mut group);
                }
            }
            Found::Damage { .. } => break,
        }
    }
    if covered < claimed {
        judged.damaged.push(covered..claimed);
    }
    judged
}

/// Makes the end of the last segment certain: what is kept without a known sync is written and synced once more
/// (a sync that failed may have left it in memory only), and what is cut off is overwritten. Tells how much was cut.
fn mend_tail(segment: &Segment, bytes: &[u8], judged: &Judged) -> io::Result<u64> {
    let file = &*segment.place.file;
    let (claimed, end) = (judged.claimed as usize, judged.end as usize);
    let mut cut = 0;
    // Without any known sync the header itself may be in memory only.
    let header_is_uncertain = claimed == DATA_START as usize;
    if header_is_uncertain {
        file.write_at(&bytes[..claimed.min(bytes.len())], 0)?;
    }
    if end > claimed {
        file.write_at(&bytes[claimed..end], claimed as u64)?;
    }
    if end < bytes.len()
        && let Some(leftover) = next_header(bytes, end, segment.salt)
    {
        cut = walk(bytes, segment.salt, bytes.len() as u32)
            .iter()
            .filter_map(|found| match found {
                Found::Record { at, header, .. } if *at as usize >= leftover => Some(header.total_len() as u64),
                _ => None,
            })
            .sum();
        fill(file, judged.end, segment.place.bytes)?;
    }
    if end > claimed || cut > 0 || header_is_uncertain {
        file.sync()?;
    }
    Ok(cut)
}
