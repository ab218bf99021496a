//! Opens the folder of a store, and lets queries wait until it is loaded.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use super::cache::Cache;
use super::disk::Disk;
use super::layout::{PARTS_OF_TAIL, parse_part_name};
use super::part::Part;
use super::search::is_damage;
use super::tail::{TailContent, TailFile, tail_name};
use super::tail_memory::TailMemory;
use super::{Options, Report, lock, make_private, set_aside};

/// Parts and tails of a folder.
pub struct Found {
    pub parts: Vec<Arc<Part>>,
    /// The last is the one that is appended to.
    pub tails: Vec<(TailFile, TailContent)>,
    pub report: Report,
}

/// Bytes of parts and tails in a folder, whether a store has it open or not.
pub fn bytes_in(dir: &Path) -> u64 {
    let is_ours = |name: &str| name.ends_with(".tail") || parse_part_name(name).is_some();
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = files.filter(|file| file.file_name().to_str().is_some_and(is_ours));
    ours.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Opens what is in the folder. What is damaged is set aside; tails that have become parts are removed.
pub fn find(disk: &Disk, options: &Options, cache: &Arc<Cache>, is_new: bool) -> io::Result<Found> {
    let dir = &options.dir;
    let mut found = Found { parts: Vec::new(), tails: Vec::new(), report: Report::default() };
    let mut numbers = Vec::new();
    let mut damaged_parts = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_ours = [".new", ".tail", ".part"].iter().any(|end| name.ends_with(end));
        if is_ours && !fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            tracing::error!(path = %path.display(), "what stands in the place of a file of the store is none and set aside");
            found.report.damaged.push(name.to_owned());
            if let Some(number) = parse_part_name(name) {
                damaged_parts.push(number);
            }
            set_aside(disk, dir, &path)?;
        } else if name.ends_with(".new") {
            // A part that was being made; its tail is still there.
            disk.remove(&path)?;
        } else if let Some(number) = name.strip_suffix(".tail").and_then(|number| number.parse::<u64>().ok()) {
            numbers.push(number);
        } else if let Some(number) = parse_part_name(name) {
            match Part::open(&path, number, cache.clone()) {
                Ok(part) => found.parts.push(Arc::new(part)),
                Err(error) if is_damage(&error) => {
                    tracing::error!(path = %path.display(), %error, "a part of the store is damaged and set aside");
                    found.report.damaged.push(name.to_owned());
                    damaged_parts.push(number);
                    set_aside(disk, dir, &path)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    numbers.sort_unstable();
    remove_unfinished(disk, &numbers, &mut found.parts)?;
    found.parts.sort_by_key(|part| part.number);
    set_copies_aside(disk, dir, &mut found)?;
    let is_part = |number: &u64| found.parts.iter().any(|part| part.tail == *number);
    for number in numbers.iter().filter(|number| is_part(number)) {
        disk.remove(&dir.join(tail_name(*number)))?;
    }
    numbers.retain(|number| !is_part(number));
    let last_part = found.parts.last().map_or(0, |part| part.tail);
    let in_parts = found.parts.iter().map(|part| part.meta.newest()).max().unwrap_or(0);
    if numbers.last().is_none_or(|last| *last < last_part) {
        numbers.push(last_part + 1);
        // There is always one, from the first start on.
        found.report.lost_from = (!is_new).then_some(in_parts + 1);
    }
    if damaged_parts.iter().any(|(tail, _)| *tail >= last_part) {
        found.report.lost_from = Some(in_parts + 1);
    }
    for number in numbers {
        let (file, content) = TailFile::open(disk, dir, number)?;
        found.report.cut_bytes += content.cut;
        keep_damaged(disk, dir, &file, &content, &mut found.report)?;
        if let Some(whole) = content.newest_before_damage() {
            let lost_from = whole.unwrap_or(in_parts) + 1;
            found.report.lost_from = Some(found.report.lost_from.map_or(lost_from, |other| other.min(lost_from)));
        }
        found.report.events += content.events;
        found.tails.push((file, content));
    }
    // The name of a new tail is there before anything in it is acknowledged.
    disk.sync_dir(dir)?;
    found.report.events += found.parts.iter().map(|part| part.events() as u64).sum::<u64>();
    Ok(found)
}

/// Sets aside parts that are copies of earlier ones: their events would be found twice.
fn set_copies_aside(disk: &Disk, dir: &Path, found: &mut Found) -> io::Result<()> {
    let mut known = HashSet::new();
    let is_copy = |part: &Arc<Part>| !known.insert((part.meta.first_seq, part.meta.max_received, part.file.table_crc));
    let (copies, parts) = std::mem::take(&mut found.parts).into_iter().partition::<Vec<_>, _>(is_copy);
    found.parts = parts;
    for part in copies {
        tracing::error!(path = %part.path().display(), "a part of the store is a copy of another one and set aside");
        found.report.damaged.extend(part.path().file_name().map(|name| name.to_string_lossy().into_owned()));
        set_aside(disk, dir, part.path())?;
    }
    Ok(())
}

/// Removes parts of a tail that is there, whose first part is not: they are made again.
fn remove_unfinished(disk: &Disk, tails: &[u64], parts: &mut Vec<Arc<Part>>) -> io::Result<()> {
    let has_first = |tail: u64| parts.iter().any(|part| part.tail == tail && part.number.is_multiple_of(PARTS_OF_TAIL));
    let is_unfinished = |part: &Arc<Part>| tails.contains(&part.tail) && !has_first(part.tail);
    let unfinished: Vec<u64> = parts.iter().filter(|part| is_unfinished(part)).map(|part| part.number).collect();
    for part in parts.iter().filter(|part| unfinished.contains(&part.number)) {
        disk.remove(part.path())?;
    }
    parts.retain(|part| !unfinished.contains(&part.number));
    Ok(())
}

/// Copies stretches that are no frames to `quarantine/`: the tail's file goes when it becomes a part.
pub fn keep_damaged(
    disk: &Disk,
    dir: &Path,
    file: &TailFile,
    content: &TailContent,
    report: &mut Report,
) -> io::Result<()> {
    let quarantine = dir.join("quarantine");
    for range in &content.damaged {
        let name = format!("{}.{}-{}", tail_name(file.number), range.start, range.end);
        tracing::error!(path = %file.path.display(), from = range.start, to = range.end, "a tail of the store is damaged; what cannot be read was copied to `quarantine/`");
        let path = quarantine.join(&name);
        if !path.exists() {
            make_private(&quarantine)?;
            let copy = disk.create(&path)?;
            copy.write_all_at(content.stretch(range), 0)?;
            copy.sync()?;
            disk.sync_dir(&quarantine)?;
        }
        report.damaged.push(name);
    }
    Ok(())
}

/// The events of a tail's file. A write that is whole and yet cannot be read is left out.
pub fn read_tail(content: &TailContent, path: &Path) -> TailMemory {
    let (memory, unread) = TailMemory::of(content);
    for at in unread {
        tracing::error!(path = %path.display(), at, "a write in a tail of the store cannot be read and is left out");
    }
    memory
}

/// Whether the events of tails are still on their way into memory.
#[derive(Default)]
pub struct Loading {
    is_loading: Mutex<bool>,
    ended: Condvar,
}

/// Loading ends when this is dropped, also by a panic.
pub struct Begun(pub Arc<Loading>);

impl Loading {
    pub fn begin(self: &Arc<Loading>) -> Arc<Loading> {
        *lock(&self.is_loading) = true;
        self.clone()
    }

    pub fn wait(&self) {
        let mut is_loading = lock(&self.is_loading);
        while *is_loading {
            is_loading = self.ended.wait(is_loading).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        *lock(&self.0.is_loading) = false;
        self.0.ended.notify_all();
    }
}
