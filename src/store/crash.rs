//! The store's crash model: a life is cut off after each of its steps, with any unsynced data lost or torn, and again
//! while it recovers; and every step fails once. What was acknowledged is there, once, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::disk::{Disk, Step, Watch};
use super::tests::{Folder, Stored, plain};
use super::*;
use crate::query::request::{CountLimit, Filter};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// Numbers that look random and follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

fn open(dir: &Path, watch: &Arc<Mutex<Watch>>) -> io::Result<(Store, Report)> {
    // Every third event stays longer, so that tails become two parts.
    let types = [("other".to_owned(), Duration::from_secs(1 << 30))].into();
    let retention = Retention { types, ..Retention::default() };
    let options = Options { part_events: 12, retention, ..Options::new(dir) };
    Store::open_on(Disk { watch: Some(watch.clone()) }, &options)
}

fn events() -> Vec<Stored> {
    let line = |n: u64| {
        let event_type = if n.is_multiple_of(3) { "other" } else { "cell" };
        format!("{{\"n\":{n},\"event_type\":\"{event_type}\",\"code\":\"{}\"}}", "some text ".repeat(n as usize % 7))
    };
    (1..=60).map(|n| plain(n, &line(n))).collect()
}

/// What is on disk after these steps, of which those that nothing has synced may be lost or torn.
fn remains(steps: &[Step], random: &mut Random) -> BTreeMap<PathBuf, Vec<u8>> {
    let synced_until =
        |dir: &Path| steps.iter().rposition(|step| matches!(step, Step::SyncDir(synced) if synced == dir)).unwrap_or(0);
    let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
    // A file system keeps the order of changes of names: a beginning of those that were not synced is there.
    let lost_from = random.below(steps.len() as u64 + 1) as usize;
    let stays = |at: usize, path: &Path| at < lost_from || at < synced_until(path.parent().expect("in a folder"));
    // Files as they were made, each with the changes of its content.
    let (mut now, mut contents): (BTreeMap<PathBuf, usize>, Vec<Vec<usize>>) = Default::default();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Create(path) => {
                contents.push(Vec::new());
                now.insert(path.clone(), contents.len() - 1);
                if stays(at, path) {
                    names.insert(path.clone(), contents.len() - 1);
                }
            }
            Step::Rename(from, to) => {
                let file = now.remove(from).expect("it is there");
                now.insert(to.clone(), file);
                if stays(at, to) {
                    names.remove(from);
                    names.insert(to.clone(), file);
                }
            }
            Step::Remove(path) => {
                now.remove(path);
                if stays(at, path) {
                    names.remove(path);
                }
            }
            Step::Write { path, .. } | Step::SetLen { path, .. } | Step::Sync(path) => {
                contents[now[path]].push(at);
            }
            Step::SyncDir(_) => {}
        }
    }
    names.into_iter().map(|(path, file)| (path, content(steps, &contents[file], random))).collect()
}

fn content(steps: &[Step], changes: &[usize], random: &mut Random) -> Vec<u8> {
    let synced = changes.iter().rposition(|at| matches!(steps[*at], Step::Sync(_))).unwrap_or(0);
    let mut content = Vec::new();
    for (nth, at) in changes.iter().enumerate() {
        let kept = if nth < synced { 3 } else { random.below(4) };
        match &steps[*at] {
            Step::Write { at, bytes, .. } if kept > 0 => {
                let end = *at as usize + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                // A torn write: its beginning is there, or the length alone.
                let len = if kept == 3 { bytes.len() } else { random.below(bytes.len() as u64 + 1) as usize };
                content[*at as usize..*at as usize + len].copy_from_slice(&bytes[..len]);
            }
            Step::SetLen { len, .. } if kept > 1 => content.resize(*len as usize, 0),
            _ => {}
        }
    }
    content
}

/// Puts files into a new folder; paths are those of another one.
fn materialise(files: &BTreeMap<PathBuf, Vec<u8>>, from: &Path) -> Folder {
    let folder = Folder::new();
    fs::create_dir_all(&folder.0).unwrap();
    for (path, bytes) in files {
        let path = folder.0.join(path.strip_prefix(from).expect("it lay in the folder"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// All that the store has, once each, in order.
fn check(store: &Store, events: &[Stored], acknowledged: &BTreeSet<u64>, label: &str) {
    let everything = Visibility::All { own: String::new(), preview: 1000 };
    let mut found = BTreeSet::new();
    for place in store.snapshot().places() {
        for row in 0..place.events() {
            let line = place.line(row).unwrap();
            let event = events.iter().find(|event| event.line.as_bytes() == line);
            let event = event.unwrap_or_else(|| panic!("{label}: a line that nobody stored"));
            assert!(found.insert(event.seq), "{label}: {} is there twice", event.seq);
        }
    }
    let lost: Vec<&u64> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{label}: {lost:?} are lost");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let total = store.snapshot().count(&Filter::default(), &everything, CountLimit::Exact, deadline).unwrap();
    assert_eq!(total.count, found.len() as u64, "{label}");
}

/// A life: events in batches, parts, retention. Tells after how many steps each batch was acknowledged.
fn live(folder: &Folder, watch: &Arc<Mutex<Watch>>, events: &[Stored]) -> Vec<(usize, BTreeSet<u64>)> {
    let (store, _) = open(&folder.0, watch).unwrap();
    let (mut known, mut acknowledged) = (BTreeSet::new(), Vec::new());
    for some in events.chunks(5) {
        store.append(&some.iter().map(Stored::event).collect::<Vec<_>>()).unwrap();
        store.settle();
        known.extend(some.iter().map(|event| event.seq));
        acknowledged.push((watch.lock().unwrap().steps.len(), known.clone()));
    }
    acknowledged
}

#[test]
fn a_life_may_end_after_any_step_and_again_while_it_recovers() {
    let (folder, watch, events) = (Folder::new(), Arc::<Mutex<Watch>>::default(), events());
    let acknowledged = live(&folder, &watch, &events);
    let steps = watch.lock().unwrap().steps.clone();
    assert!(steps.len() > 60 && steps.iter().any(|step| matches!(step, Step::Rename(..))));
    for cut in 0..=steps.len() {
        let none = BTreeSet::new();
        let known = acknowledged.iter().rev().find(|(at, _)| *at <= cut).map_or(&none, |(_, known)| known);
        for seed in 0..4 {
            let label = format!("cut after step {cut}, seed {seed}");
            let mut random = Random((cut as u64) << 8 | seed);
            let again = materialise(&remains(&steps[..cut], &mut random), &folder.0);
            let watch = Arc::<Mutex<Watch>>::default();
            // What is there when the second life begins counts as synced.
            let before = files_of(&again.0);
            let (store, report) = open(&again.0, &watch).unwrap();
            assert!(report.damaged.is_empty(), "{label}: {report:?}");
            store.settle();
            check(&store, &events, known, &label);
            drop(store);
            let recovery = with_beginning(&before, watch.lock().unwrap().steps.clone());
            let second = before.len() * 4 + random.below((recovery.len() - before.len() * 4) as u64 + 1) as usize;
            let third = materialise(&remains(&recovery[..second], &mut random), &again.0);
            let (store, _) = open(&third.0, &Arc::default()).unwrap();
            store.settle();
            check(&store, &events, known, &format!("{label}, and again after {second}"));
        }
    }
}

fn files_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Steps before which these files were made and synced.
fn with_beginning(files: &BTreeMap<PathBuf, Vec<u8>>, steps: Vec<Step>) -> Vec<Step> {
    let begin = files.iter().flat_map(|(path, bytes)| {
        let write = Step::Write { path: path.clone(), at: 0, bytes: bytes.clone() };
        let dir = path.parent().expect("in a folder").to_owned();
        [Step::Create(path.clone()), write, Step::Sync(path.clone()), Step::SyncDir(dir)]
    });
    begin.chain(steps).collect()
}

#[test]
fn any_step_may_fail_once_and_nothing_is_lost() {
    let (folder, watch, events) = (Folder::new(), Arc::<Mutex<Watch>>::default(), events());
    live(&folder, &watch, &events);
    let steps = watch.lock().unwrap().steps.len();
    for failing in 0..steps {
        let (folder, watch) = (Folder::new(), Arc::<Mutex<Watch>>::default());
        watch.lock().unwrap().fails_in = Some(failing);
        let opened = open(&folder.0, &watch).or_else(|_| open(&folder.0, &watch));
        let (store, _) = opened.expect("it opens when it is tried again");
        let label = format!("step {failing} fails");
        for some in events.chunks(5) {
            let batch: Vec<_> = some.iter().map(Stored::event).collect();
            let appended =
                store.append(&batch).or_else(|_| store.append(&batch)).expect("it is stored when tried again");
            assert!(appended.conflicts.is_empty(), "{label}");
            store.settle();
        }
        let all: BTreeSet<u64> = events.iter().map(|event| event.seq).collect();
        check(&store, &events, &all, &label);
        drop(store);
        let (store, report) = open(&folder.0, &Arc::default()).unwrap();
        assert!(report.damaged.is_empty(), "{label}: {report:?}");
        store.settle();
        check(&store, &events, &all, &format!("{label}, opened again"));
        let _ = store.tidy(Timestamp(0)).unwrap();
    }
}
