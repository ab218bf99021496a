//! Test doubles for components: an intake that records jobs, a sink context, temporary folders.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::codec::{Decoded, Decoder, Frames, Limits, Ordinals};
use crate::component::{Fatal, Intake, Job, JobStatus, Outcome, Receipt, SinkContext, Source, SourceContext};
use crate::event::{Batch, Id, Provenance};
use crate::journal::{Full, MemoryPermit, ReserveError};
use crate::net::Sockets;

/// A sink named `out` at the beginning of its life.
pub fn sink_context() -> SinkContext {
    SinkContext {
        name: "out".into(),
        agent: "test".into(),
        data_dir: "/nowhere".into(),
        timeout: Duration::from_secs(60),
        tls: Default::default(),
        encrypted: false,
        proxy: None,
        memory: None,
        left: None,
        position: 0,
        dry: false,
        stores: Default::default(),
    }
}

/// An event as the journal would have it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub text: Vec<u8>,
    pub id: Id,
    pub origin: Option<Arc<str>>,
    pub provenance: Arc<Provenance>,
}

/// Commits what the test says, in the order of submission.
#[derive(Default)]
pub struct FakeIntake {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: Vec<Entry>,
    positions: HashMap<Bytes, Bytes>,
    /// Outcomes still to come; none left means `Done`.
    script: std::collections::VecDeque<JobStatus>,
    /// Held back instead of answered.
    held: Option<Vec<(Job, oneshot::Sender<Outcome>)>>,
    refused: u64,
    trouble: Option<String>,
    received_bytes: u64,
    truncations: u64,
    lost_bytes: u64,
    skipped_files: u64,
    damaged_files: u64,
    is_full: bool,
    outpaces: bool,
    /// Each job makes the source faster than sinks.
    is_soon_ahead: bool,
    is_ready: bool,
}

impl FakeIntake {
    pub fn new() -> Arc<FakeIntake> {
        Arc::default()
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn context(self: &Arc<Self>) -> SourceContext {
        SourceContext {
            name: "test".into(),
            agent: "agent".into(),
            intake: self.clone(),
            shutdown: CancellationToken::new(),
            stopping: CancellationToken::new(),
            event_bytes: 1024 * 1024,
            durable: true,
        }
    }

    /// Gives these verdicts to the next jobs.
    pub fn script(&self, verdicts: impl IntoIterator<Item = JobStatus>) {
        self.inner().script.extend(verdicts);
    }

    /// Gives good verdicts only.
    pub fn unscript(&self) {
        self.inner().script.clear();
    }

    /// From now on jobs wait for `release`.
    pub fn hold(&self) {
        self.inner().held = Some(Vec::new());
    }

    pub fn held(&self) -> usize {
        self.inner().held.as_ref().map_or(0, Vec::len)
    }

    /// Answers what is held, and holds nothing from now on.
    pub fn release(&self) {
        let held = self.inner().held.take().unwrap_or_default();
        for (job, answer) in held {
            self.answer(job, answer);
        }
    }

    pub fn set_full(&self, is_full: bool) {
        self.inner().is_full = is_full;
    }

    /// Says that sinks are slower than the source.
    pub fn set_outpaces(&self, outpaces: bool) {
        self.inner().outpaces = outpaces;
    }

    /// Says that sinks are slower than the source as soon as that has submitted something.
    pub fn set_soon_ahead(&self) {
        let mut inner = self.inner();
        (inner.outpaces, inner.is_soon_ahead) = (false, true);
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.inner().entries.clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.inner().entries.iter().map(|e| String::from_utf8_lossy(&e.text).into_owned()).collect()
    }

    pub fn refused_items(&self) -> u64 {
        self.inner().refused
    }

    /// How often a file was cut back, and bytes that went away unread.
    pub fn losses(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.truncations, inner.lost_bytes)
    }

    /// Files that were not read, and files that were damaged.
    pub fn unread_files(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.skipped_files, inner.damaged_files)
    }

    pub fn trouble_said(&self) -> Option<String> {
        self.inner().trouble.clone()
    }

    pub fn is_ready(&self) -> bool {
        self.inner().is_ready
    }

    pub fn stated(&self) -> usize {
        self.inner().positions.len()
    }

    fn answer(&self, job: Job, answer: oneshot::Sender<Outcome>) {
        let mut inner = self.inner();
        let status = inner.script.pop_front().unwrap_or(JobStatus::Done);
        let mut accepted = 0;
        if status == JobStatus::Done {
            for chunk in &job.chunks {
                for (text, ordinal) in frames(&chunk.bytes, &chunk.frames, &chunk.ordinals) {
                    let id = job.provenance.seed.id(ordinal);
                    let (origin, provenance) = (job.origin.clone(), job.provenance.clone());
                    inner.entries.push(Entry { text, id, origin, provenance });
                    accepted += 1;
                }
            }
            for mark in job.marks {
                assert_eq!(&*mark.source, "test");
                match mark.value.is_empty() {
                    true => drop(inner.positions.remove(&mark.key)),
                    false => drop(inner.positions.insert(mark.key, mark.value)),
                }
            }
        }
        drop(inner);
        drop(answer.send(Outcome { status, accepted, refused: Vec::new() }));
    }
}

/// Frames with their ordinals, as a decoder would find them.
fn frames(bytes: &Bytes, frames: &Frames, ordinals: &Ordinals) -> Vec<(Vec<u8>, u64)> {
    let mut found: Vec<(usize, Vec<u8>)> = Vec::new();
    match frames {
        Frames::At(ranges) => found.extend(ranges.iter().map(|r| (r.start, bytes[r.clone()].to_vec()))),
        Frames::Document => found.push((0, bytes.to_vec())),
        Frames::Lines => {
            assert!(bytes.ends_with(b"\n"), "a chunk of lines ends with one: {bytes:?}");
            let mut start = 0;
            for line in bytes.split_inclusive(|b| *b == b'\n') {
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                if !text.is_empty() {
                    found.push((start, text.to_vec()));
                }
                start += line.len();
            }
        }
    }
    let ordinal = |nth: usize, start: usize| match ordinals {
        Ordinals::Offset(base) => base + start as u64,
        Ordinals::Count(base) => base + nth as u64,
        Ordinals::Given(all) => all[nth],
    };
    found.into_iter().enumerate().map(|(nth, (start, text))| (text, ordinal(nth, start))).collect()
}

impl Intake for FakeIntake {
    fn ready(&self) {
        self.inner().is_ready = true;
    }

    fn reserve(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Result<MemoryPermit, ReserveError>> + Send + '_>> {
        let permit = self.try_reserve(bytes);
        Box::pin(async { permit })
    }

    fn try_reserve(&self, _bytes: usize) -> Result<MemoryPermit, ReserveError> {
        if self.inner().is_full { Err(ReserveError::Full(Full::Memory)) } else { Ok(MemoryPermit::free()) }
    }

    fn outpaces(&self) -> bool {
        self.inner().outpaces
    }

    fn submit(&self, job: Job) -> Receipt {
        let (answer, receipt) = oneshot::channel();
        let mut inner = self.inner();
        inner.outpaces |= inner.is_soon_ahead;
        match &mut inner.held {
            Some(held) => held.push((job, answer)),
            None => {
                drop(inner);
                self.answer(job, answer);
            }
        }
        Receipt(receipt)
    }

    fn positions(&self) -> Vec<(Bytes, Bytes)> {
        self.inner().positions.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn received_bytes(&self, bytes: u64) {
        self.inner().received_bytes += bytes;
    }

    fn refused(&self, items: u64) {
        self.inner().refused += items;
    }

    fn auth_failure(&self) {}

    fn truncated(&self) {
        self.inner().truncations += 1;
    }

    fn lost_bytes(&self, bytes: u64) {
        self.inner().lost_bytes += bytes;
    }

    fn file_skipped(&self, _reason: &'static str) {
        self.inner().skipped_files += 1;
    }

    fn file_damaged(&self, bytes: u64) {
        self.inner().damaged_files += 1;
        self.inner().lost_bytes += bytes;
    }

    fn trouble(&self, message: Option<String>) {
        self.inner().trouble = message;
    }
}

/// Prepares a source on sockets of its own and runs it to its end.
pub async fn run<S: Source>(source: S, cx: SourceContext) -> Result<(), Fatal> {
    let prepared = source.prepare(&Sockets::default()).await?;
    Source::run(Arc::new(source), prepared, cx).await
}

/// Decodes nothing: the fake intake looks at frames itself.
pub struct NoDecoder;

impl Decoder for NoDecoder {
    fn decode(
        &self,
        chunk: Bytes,
        _frames: &Frames,
        _ordinals: Ordinals,
        provenance: Arc<Provenance>,
        _limits: &Limits,
        _split: bool,
    ) -> Decoded {
        Decoded { batch: Batch::new(chunk, provenance), refused: Vec::new(), items: 0 }
    }
}

/// A folder of its own for one test.
pub struct Folder(PathBuf);

impl Folder {
    #[allow(clippy::new_without_default, reason = "a folder is made, not defaulted")]
    pub fn new() -> Folder {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        use std::io::Write;
        let mut file = std::fs::File::options().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
