//! Writes lines to files: paths by template, rotated and compressed, each event once even after a crash.
//!
//! A write is appended and synced before it counts. What was committed of each file goes into the sink's memory,
//! which is saved before the cursor; at a start every file is truncated to that, and the events behind it come again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::codec::encoding::{Encoder, Encoding};
use crate::codec::template::Template;
use crate::component::sink;
use crate::component::{BatchEvent, Check, Failure, Promise, Sink, SinkContext, WriteBatch, Written};
use crate::units::{ByteSize, Duration};

mod append;
mod finished;
mod identity;
mod notes;
mod place;
mod recovery;
mod writer;

#[cfg(test)]
mod tests;

use writer::{Group, Writer};

/// What one write may have while more waits: each write is synced, which costs as much as writing a megabyte.
const CATCH_UP_BYTES: usize = 4 * 1024 * 1024;
/// Files are rotated between writes; smaller ones would become too long with larger writes.
const LEAST_ROTATED: ByteSize = ByteSize::mib(64);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Path of the file, a template over the event and its time, such as `/var/log/weir/{{ user_id | nobody
    /// }}/%Y-%m-%d.ndjson`. The fixed part before it, up to a `/`, is the root folder that no event can leave.
    pub path: String,
    /// Format of each event.
    #[serde(default)]
    pub encoding: Encoding,
    /// When files are rotated.
    #[serde(default)]
    pub rotate: Rotate,
    /// Compression of rotated files.
    #[serde(default)]
    pub compression: Compression,
}

/// When a file is put aside; its name gets the time, and a new one is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotate {
    /// Maximum size of a file.
    pub size: Option<ByteSize>,
    /// Maximum age of a file; it is rotated at the next event.
    pub age: Option<Duration>,
    /// Number of rotated files to keep; all if absent.
    pub keep: Option<u32>,
}

/// Compression of rotated files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

pub struct File {
    /// The file below the root.
    template: Template,
    encoder: Encoder,
    /// Absent while a configuration is only checked.
    writer: Option<Arc<Mutex<Writer>>>,
    /// Events before these numbers are in files that were put aside already.
    skip: BTreeMap<String, u64>,
}

/// The root folder and the template below it.
fn parts(path: &str) -> (PathBuf, &str) {
    let fixed = path.find(['{', '%']).unwrap_or(path.len());
    match path[..fixed].rfind('/') {
        Some(slash) => (PathBuf::from(&path[..=slash]), &path[slash + 1..]),
        None => (PathBuf::from("."), path),
    }
}

impl Sink for File {
    const TYPE: &'static str = "file";
    const PROMISE: Promise = Promise::EffectivelyOnce;
    type Config = Config;
    type Payload = Vec<Group>;

    fn check(config: &Config, check: &mut Check) {
        let (root, below) = parts(&config.path);
        let offset = config.path.len() - below.len();
        match Template::parse(below) {
            Err(wrong) => {
                let range = wrong.range.start + offset..wrong.range.end + offset;
                check.problem_within("path", range, wrong.message);
            }
            Ok(template) => {
                let is_everywhere = root.components().all(|part| part == std::path::Component::RootDir);
                if (below.starts_with("{{") && offset == 0) || (is_everywhere && template.constant().is_none()) {
                    let hint = "begin with a folder, such as `/var/log/weir/`";
                    check.problem_with_hint("path", "an event could choose the folder", hint);
                } else if let Some(path) = template.constant()
                    && let Err(wrong) = place::validate(path)
                {
                    check.problem("path", wrong);
                }
            }
        }
        if let Err(wrong) = config.encoding.encoder() {
            check.problem_within("encoding.template", wrong.range, wrong.message);
        }
        if config.compression != Compression::None && config.rotate.size.is_none() && config.rotate.age.is_none() {
            check.warning("compression", "only files that `rotate` puts aside are compressed, and nothing is");
        }
    }

    async fn open(config: &Config, cx: &SinkContext) -> Result<File, Failure> {
        let (root, below) = parts(&config.path);
        let wrong = |wrong: crate::codec::template::Malformed| Failure::configuration(wrong.message);
        let template = Template::parse(below).map_err(wrong)?;
        let encoder = config.encoding.encoder().map_err(wrong)?;
        let (config, cx, header) = (config.clone(), cx.clone(), encoder.header());
        let is_constant = template.constant().is_some();
        let opening = tokio::task::spawn_blocking(move || recovery::open(&config, &cx, &root, header, is_constant));
        let opened = opening.await.map_err(|error| Failure::transient(error.to_string()))??;
        let (writer, skip) = opened.map_or((None, BTreeMap::new()), |(writer, skip)| (Some(writer), skip));
        Ok(File { template, encoder, writer: writer.map(|writer| Arc::new(Mutex::new(writer))), skip })
    }

    fn encode(&self, batch: &WriteBatch) -> Result<Vec<Group>, Failure> {
        let first_seq = batch.events().next().map_or(0, |event| event.seq());
        let skips = self.skip.values().any(|until| first_seq < *until);
        if let Some(path) = self.template.constant()
            && self.encoder.is_verbatim()
            && !skips
        {
            return Ok(vec![Group { path: path.into(), chunks: batch.shared_chunks().collect(), first_seq }]);
        }
        let mut groups = Groups::default();
        let mut failures = Vec::new();
        for (nth, event) in batch.events().enumerate() {
            let placed = self.path_of(event).and_then(|path| match self.skip.get(&*path) {
                Some(until) if event.seq() < *until => Ok(()),
                _ => groups.add(&path, event, &self.encoder),
            });
            if let Err(answer) = placed {
                failures.push((nth, Failure::poison(answer)));
            }
        }
        if failures.is_empty() { Ok(groups.finish()) } else { Err(Failure::some(failures)) }
    }

    /// Lines that need no encoding stay where they are in memory, however many they are.
    fn catch_up_bytes(config: &Config) -> usize {
        let is_verbatim = config.encoding.encoder().is_ok_and(|encoder| encoder.is_verbatim());
        let is_long = config.rotate.size.is_none_or(|size| size >= LEAST_ROTATED);
        if is_verbatim && is_long { CATCH_UP_BYTES } else { 0 }
    }

    fn preview(config: &Config, _: &SinkContext, batch: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        sink::preview(&config.encoding, batch)
    }

    async fn write(&self, _: &WriteBatch, payload: &Vec<Group>) -> Result<Written, Failure> {
        let writer = self.writer.clone().ok_or_else(|| Failure::configuration("opened for a check only"))?;
        let groups = payload.clone();
        let writing = move || {
            // After a panic the files are what the next start makes of them.
            let mut writer = writer.lock().map_err(|_| Failure::transient("an earlier write panicked"))?;
            writer.write(&groups)
        };
        let bytes =
            tokio::task::spawn_blocking(writing).await.map_err(|error| Failure::transient(error.to_string()))??;
        Ok(Written { bytes, ..Written::default() })
    }

    fn memory(&self) -> Option<Bytes> {
        Some(self.writer.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).memory())
    }
}

impl File {
    /// Where an event goes, below the root.
    fn path_of(&self, event: BatchEvent<'_>) -> Result<String, String> {
        let strays = Cell::new(false);
        let values = event.values();
        let path = self.template.render(|path| {
            let value = values.get(path);
            // Only the template may begin a folder.
            strays.set(strays.get() || value.is_some_and(|value| value.display().contains('/')));
            value
        });
        let path = path.map_err(|missing| missing.to_string())?;
        if strays.get() {
            return Err(format!("confinement_failed: a field of `{path}` has a `/` in it"));
        }
        place::validate(&path).map_err(|wrong| format!("confinement_failed: {wrong}"))?;
        Ok(path)
    }
}

/// The lines of a write batch by file, in order.
#[derive(Default)]
struct Groups {
    groups: Vec<Group>,
    /// Encoded lines of each group, and its place.
    at: BTreeMap<String, usize>,
    encoded: Vec<Vec<u8>>,
    /// The record and the end of the run that the last verbatim chunk of a group came from.
    runs: Vec<(u64, usize)>,
}

impl Groups {
    fn add(&mut self, path: &str, event: BatchEvent<'_>, encoder: &Encoder) -> Result<(), String> {
        let at = match self.at.get(path) {
            Some(at) => *at,
            None => {
                let at = self.groups.len();
                self.groups.push(Group { path: path.into(), chunks: Vec::new(), first_seq: event.seq() });
                self.encoded.push(Vec::new());
                self.runs.push((u64::MAX, 0));
                self.at.insert(path.to_owned(), at);
                at
            }
        };
        if !encoder.is_verbatim() {
            return encoder.append(event.json(), &mut self.encoded[at]);
        }
        let lines = &event.record.lines;
        let (start, end) = (lines.start(event.index), lines.start(event.index + 1));
        let (chunks, run) = (&mut self.groups[at].chunks, &mut self.runs[at]);
        match chunks.last_mut() {
            // Lines that stand one after another are one chunk.
            Some(last) if *run == (event.record.first_seq, start) => {
                *last = lines.bytes.slice(start - last.len()..end);
            }
            _ => chunks.push(lines.bytes.slice(start..end)),
        }
        *run = (event.record.first_seq, end);
        Ok(())
    }

    fn finish(mut self) -> Vec<Group> {
        for (group, encoded) in self.groups.iter_mut().zip(self.encoded) {
            if !encoded.is_empty() {
                group.chunks.push(encoded.into());
            }
        }
        self.groups
    }
}
