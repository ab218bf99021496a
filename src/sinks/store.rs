//! Writes events to the embedded store, which the API queries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration as StdDuration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::component::reader::{Key, Reading};
use crate::component::{
    Check, Failure, Promise, ReadOptions, Readable, Reader, Sink, SinkContext, WriteBatch, Written,
};
use crate::event::Id;
use crate::query::Query;
use crate::query::request::{AggregateRequest, CountLimit, Filter, Group, Page, PageRequest, ReadError, Row, Total};
use crate::store::search::Snapshot;
use crate::store::{FOLDER, NewEvent, Options, Retention as Policy, Store, Stores};
use crate::units::{ByteSize, Duration, Timestamp};
use crate::visibility::Visibility;

/// How long a question without a deadline of its own waits for its turn.
const TURN: StdDuration = StdDuration::from_secs(10);
/// How often retention is looked after.
const TIDY_EVERY: StdDuration = StdDuration::from_secs(10);

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the store. Default: a folder named after the sink in `store/` of the data folder. A sink that gets another
    /// name or path leaves its events where they are, and `validate` and each start say so.
    pub path: Option<PathBuf>,
    /// How long events are kept; unlimited if absent.
    pub retention: Retention,
    /// Query of events to keep whatever `retention` says. Of events that were stored before the query was set, those that lie
    /// in one part with such an event (up to 65,536) stay with it.
    pub hold: Option<String>,
}

/// How long events stay. Events go in parts of up to 65,536, the oldest first.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Maximum age, by the time of receipt. Events are removed at most an eighth of it later.
    pub age: Option<Duration>,
    /// Maximum age by event type, such as `{kernel.start: 7d, alert: 365d}`; `age` applies to all others.
    pub types: BTreeMap<String, Duration>,
    /// Maximum size on disk.
    pub bytes: Option<ByteSize>,
    /// Folder where events are archived as zstd-compressed NDJSON before they are removed. Stores may share one.
    pub archive: Option<PathBuf>,
}

pub struct StoreSink {
    /// Absent while a configuration is only checked.
    store: Option<Store>,
    tidying: Option<JoinHandle<()>>,
}

impl Config {
    fn dir(&self, cx: &SinkContext) -> PathBuf {
        self.path.clone().unwrap_or_else(|| cx.data_dir.join(FOLDER).join(&*cx.name))
    }

    fn options(&self, cx: &SinkContext) -> Result<Options, Failure> {
        let dir = self.dir(cx);
        let hold = self.hold.as_ref().map(|text| Query::parse(text)).transpose();
        let hold = hold.map_err(|error| Failure::configuration(format!("hold: {error}")))?;
        let retention = Policy {
            age: self.retention.age.map(Into::into),
            types: self.retention.types.iter().map(|(name, age)| (name.clone(), (*age).into())).collect(),
            bytes: self.retention.bytes.map(|bytes| bytes.bytes()),
            archive: self.retention.archive.clone(),
            hold: hold.map(Arc::new),
        };
        Ok(Options { retention, ..Options::new(dir) })
    }
}

impl Sink for StoreSink {
    const TYPE: &'static str = "store";
    const PROMISE: Promise = Promise::EffectivelyOnce;
    const READ: Readable = Readable::ByDefault;
    type Config = Config;
    type Payload = ();

    fn check(config: &Config, check: &mut Check) {
        if let Some(Err(error)) = config.hold.as_ref().map(|text| Query::parse(text)) {
            check.problem_within("hold", error.range.clone(), error.message.clone());
        }
    }

    async fn open(config: &Config, cx: &SinkContext) -> Result<StoreSink, Failure> {
        if cx.dry {
            return Ok(StoreSink { store: None, tidying: None });
        }
        let (options, stores) = (config.options(cx)?, cx.stores.clone());
        let store = open_store(stores, options).await.map_err(Failure::transient)?;
        let tidied = store.clone();
        let tidying = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TIDY_EVERY).await;
                tidy(tidied.clone()).await;
            }
        });
        Ok(StoreSink { store: Some(store), tidying: Some(tidying) })
    }

    async fn lost_from(config: &Config, cx: &SinkContext) -> Option<u64> {
        let options = config.options(cx).ok().filter(|_| !cx.dry)?;
        // Where it cannot be opened, opening it for writing says so.
        open_store(cx.stores.clone(), options).await.ok()?.take_lost_from()
    }

    fn encode(&self, _: &WriteBatch) -> Result<(), Failure> {
        Ok(())
    }

    fn preview(_: &Config, _: &SinkContext, batch: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        Some(Ok(batch.chunks().flatten().copied().collect()))
    }

    async fn write(&self, batch: &WriteBatch, (): &()) -> Result<Written, Failure> {
        let store = self.store.clone().ok_or_else(|| Failure::transient("the store is not open"))?;
        let (batch, bytes) = (batch.clone(), batch.bytes() as u64);
        let append = tokio::task::spawn_blocking(move || append(&store, &batch));
        let appended =
            append.await.map_err(|error| Failure::transient(format!("a bug in weir: storing panicked: {error}")))?;
        let appended = appended.map_err(|error| Failure::transient(format!("cannot store events: {error}")))?;
        if appended.conflicts.is_empty() {
            return Ok(Written { bytes, duplicates: appended.repeated as u64, ..Written::default() });
        }
        let conflict = || Failure::poison("id_conflict: an event with this id and other content is stored");
        let conflicts = appended.conflicts.into_iter().map(|nth| (nth, conflict())).collect();
        let of_rest = Written { duplicates: appended.repeated as u64, ..Written::default() };
        Err(Failure::Some(conflicts, of_rest))
    }

    fn reader(config: &Config, cx: &SinkContext, _: &ReadOptions) -> Option<Arc<dyn Reader>> {
        let options = config.options(cx).ok()?;
        Some(Arc::new(StoreReader::new(cx.stores.clone(), options)))
    }

    fn folder(config: &Config, cx: &SinkContext) -> Option<PathBuf> {
        Some(config.dir(cx))
    }
}

impl Drop for StoreSink {
    fn drop(&mut self) {
        if let Some(tidying) = &self.tidying {
            tidying.abort();
        }
    }
}

async fn open_store(stores: Stores, options: Options) -> Result<Store, String> {
    let dir = options.dir.clone();
    let cannot = |error: &dyn std::fmt::Display| format!("cannot open the store in `{}`: {error}", dir.display());
    let opened = tokio::task::spawn_blocking(move || stores.open(&options)).await.map_err(|error| cannot(&error))?;
    let (store, report) = opened.map_err(|error| cannot(&error))?;
    if report.cut_bytes > 0 {
        tracing::warn!(
            bytes = report.cut_bytes,
            "an incomplete write was removed from the store; its events are written again if the journal has them"
        );
    }
    Ok(store)
}

async fn tidy(store: Store) {
    match tokio::task::spawn_blocking(move || store.tidy(Timestamp::now())).await {
        Ok(Ok(tidied)) if tidied.parts > 0 => {
            tracing::info!(events = tidied.events, parts = tidied.parts, "retention removed events from the store");
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "retention of the store failed and will be retried"),
        Err(error) => tracing::error!(%error, "a bug in weir: retention of the store panicked"),
    }
}

fn append(store: &Store, batch: &WriteBatch) -> std::io::Result<crate::store::Appended> {
    let mut events = Vec::with_capacity(batch.len());
    events.extend(batch.events().map(|event| {
        let (seed, ordinal) = event.record.lines.origins.at(event.index);
        NewEvent { seq: event.seq(), received_at: event.record.received_at, seed, ordinal, line: event.line() }
    }));
    store.append(&events)
}

/// Asks the store; at most as many questions at a time as there are cores.
struct StoreReader {
    stores: Stores,
    options: Options,
    queries: Arc<Semaphore>,
}

impl StoreReader {
    fn new(stores: Stores, options: Options) -> StoreReader {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        StoreReader { stores, options, queries: Arc::new(Semaphore::new(cores)) }
    }

    async fn store(&self) -> Result<Store, ReadError> {
        match self.stores.get(&self.options.dir) {
            Some(store) => Ok(store),
            None => open_store(self.stores.clone(), self.options.clone()).await.map_err(ReadError::Unavailable),
        }
    }

    /// Runs a question on a thread of its own.
    async fn ask<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        question: impl FnOnce(Snapshot) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let store = self.store().await?;
        let deadline = deadline.unwrap_or_else(|| Instant::now() + TURN);
        let permit = tokio::time::timeout_at(deadline.into(), self.queries.clone().acquire_owned());
        let permit = permit.await.map_err(|_| ReadError::Deadline)?;
        let permit = permit.map_err(|_| ReadError::Unavailable("the agent is stopping".into()))?;
        let answer = tokio::task::spawn_blocking(move || {
            let answer = question(store.snapshot());
            drop(permit);
            answer
        });
        answer.await.map_err(|error| ReadError::Unavailable(format!("a bug in weir: the query panicked: {error}")))?
    }
}

impl Reader for StoreReader {
    fn page(&self, request: PageRequest, visibility: Visibility) -> Reading<'_, Page> {
        Box::pin(self.ask(Some(request.deadline), move |snapshot| snapshot.page(&request, &visibility)))
    }

    fn get(&self, key: Key, visibility: Visibility) -> Reading<'_, Option<Row>> {
        Box::pin(self.ask(None, move |snapshot| match key {
            Key::Id(id) => snapshot.by_id(id, &visibility),
            Key::Seq(seq) => snapshot.by_seq(seq, &visibility),
            Key::Text(text) => match (Id::parse(&text), text.parse()) {
                (Some(id), _) => snapshot.by_id(id, &visibility),
                (None, Ok(seq)) => snapshot.by_seq(seq, &visibility),
                (None, Err(_)) => Ok(None),
            },
        }))
    }

    fn count(
        &self,
        filter: Filter,
        visibility: Visibility,
        limit: CountLimit,
        deadline: Instant,
    ) -> Reading<'_, Total> {
        Box::pin(self.ask(Some(deadline), move |snapshot| snapshot.count(&filter, &visibility, limit, deadline)))
    }

    fn between(&self, from: u64, to: u64) -> Reading<'_, Option<(u64, u64)>> {
        Box::pin(self.ask(None, move |snapshot| snapshot.between(from, to)))
    }

    fn aggregate(&self, request: AggregateRequest, visibility: Visibility) -> Reading<'_, Vec<Group>> {
        Box::pin(self.ask(Some(request.deadline), move |snapshot| snapshot.aggregate(&request, &visibility)))
    }

    fn distinct(&self, request: AggregateRequest, visibility: Visibility) -> Reading<'_, u64> {
        Box::pin(self.ask(Some(request.deadline), move |snapshot| snapshot.distinct(&request, &visibility)))
    }

    fn names(&self) -> Reading<'_, Vec<String>> {
        Box::pin(self.ask(None, |snapshot| Ok(snapshot.names())))
    }

    fn bytes(&self) -> Option<u64> {
        self.stores.get(&self.options.dir).map(|store| store.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_waits_for_its_turn_until_its_deadline() {
        let dir = std::env::temp_dir().join(format!("weir-store-reader-{}", std::process::id()));
        let (stores, options) = (Stores::default(), Options::new(&dir));
        let (_store, _) = stores.open(&options).expect("a store");
        let reader = StoreReader { stores, options, queries: Arc::new(Semaphore::new(1)) };
        let everything = || Visibility::All { own: String::new(), preview: 100 };
        let count = |deadline| reader.count(Filter::default(), everything(), CountLimit::Exact, deadline);
        let turn = reader.queries.clone().acquire_owned().await.expect("a permit");
        assert_eq!(count(Instant::now()).await, Err(ReadError::Deadline));
        drop(turn);
        let later = Instant::now() + StdDuration::from_secs(600);
        assert_eq!(count(later).await, Ok(Total { count: 0, is_at_least: false }));
        drop(std::fs::remove_dir_all(&dir));
    }

    #[tokio::test]
    async fn as_many_questions_run_at_a_time_as_there_are_cores() {
        let dir = std::env::temp_dir().join(format!("weir-store-questions-{}", std::process::id()));
        let (stores, options) = (Stores::default(), Options::new(&dir));
        let (_store, _) = stores.open(&options).expect("a store");
        let reader = Arc::new(StoreReader::new(stores, options));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (began, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let questions: Vec<_> = (0..cores + 2)
            .map(|_| {
                let (reader, began, released) = (reader.clone(), began.clone(), released.clone());
                tokio::spawn(async move {
                    let question = move |_| {
                        began.send(()).expect("the test listens");
                        released.lock().expect("no question panics").recv().expect("the test releases it");
                        Ok(())
                    };
                    reader.ask(Some(Instant::now() + StdDuration::from_secs(600)), question).await
                })
            })
            .collect();
        for _ in 0..cores {
            begun.recv().await.expect("one for each core begins");
        }
        assert_eq!(reader.queries.available_permits(), 0);
        assert!(begun.try_recv().is_err(), "the others wait");
        for _ in 0..2 {
            release.send(()).expect("a question waits");
            begun.recv().await.expect("one that ends lets another begin");
        }
        (0..cores).for_each(|_| release.send(()).expect("a question waits"));
        for question in questions {
            assert_eq!(question.await.expect("no question panics"), Ok(()));
        }
        drop(std::fs::remove_dir_all(&dir));
    }
}
