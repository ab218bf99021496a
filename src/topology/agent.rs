//! A running pipeline: started from a plan, changed by the next one, stopped without losing what it took.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::intake::{IntakeContext, SourceIntake};
use super::memory::MemoryShares;
use super::pool::Pool;
use super::sinks::RunningSink;
use super::sources::RunningSource;
use super::wiring::{self, Step, Streams};
use crate::codec::Limits;
use crate::codec::redaction::Engine;
use crate::component::Intake as _;
use crate::config::settings::{self, Settings};
use crate::config::{API_SOURCE, Changes, Input, Outline, Plan, PlannedSink};
use crate::journal::dead_letters::{self, DeadLetters};
use crate::journal::fs::Real;
use crate::journal::{self, Journal, StreamId};
use crate::store::Stores;
use crate::telemetry::exposition::Process;
use crate::telemetry::{Accounting, ComponentKind};

/// Values in one document at the door.
const MAX_VALUES: usize = 1_000_000;

/// Why an agent did not start.
#[derive(Debug)]
pub struct StartError {
    pub message: String,
    /// Whether the data was written by a newer program: then nothing was changed, and a retry cannot help.
    pub newer_format: bool,
}

impl StartError {
    pub fn new(message: impl Into<String>) -> StartError {
        StartError { message: message.into(), newer_format: false }
    }
}

/// What came of a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Events of a memory journal that some sink had not ended.
    pub abandoned: u64,
}

/// What came of a reload.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Reloaded {
    pub applied: bool,
    pub changed: Changes,
    pub errors: Vec<String>,
}

/// A running pipeline.
pub struct Agent {
    pub name: Arc<str>,
    pub data_dir: PathBuf,
    pub settings: Settings,
    pub commons: Arc<IntakeContext>,
    pub books: Accounting,
    /// The embedded stores, shared by sinks that write and the API that reads.
    pub stores: Stores,
    pub reloads_applied: AtomicU64,
    pub reloads_failed: AtomicU64,
    pub(super) api_intake: SourceIntake,
    pub(super) running: Mutex<Running>,
}

#[derive(Default)]
pub(super) struct Running {
    outline: Outline,
    steps: Vec<Step>,
    streams: Streams,
    pub(super) sources: BTreeMap<Arc<str>, RunningSource>,
    pub(super) sinks: BTreeMap<Arc<str>, RunningSink>,
    stopping: bool,
}

impl Agent {
    /// Opens the journal and starts every component. Sinks may be down; a source that cannot start ends it.
    pub async fn start(plan: Plan) -> Result<Arc<Agent>, StartError> {
        let Plan { data_dir, settings, .. } = &plan;
        let (data_dir, settings) = (data_dir.clone(), settings.clone());
        let durable = settings.journal.mode == settings::Mode::Disk;
        if durable {
            make_private_folder(&data_dir)?;
        }
        let (journal, report) = open_journal(&data_dir, &settings)?;
        let commons = Arc::new(IntakeContext {
            journal,
            pool: Pool::start(settings.limits.threads()).map_err(|e| StartError::new(format!("no threads: {e}")))?,
            dead_letters: open_dead_letters(&data_dir, durable)?,
            redactor: LazyLock::new(Engine::builtin),
            limits: Limits { event_bytes: settings.limits.event.bytes() as usize, values: MAX_VALUES },
            runtime: tokio::runtime::Handle::current(),
        });
        let books = Accounting::default();
        let api: Arc<str> = API_SOURCE.into();
        let ledger = books.open(&api, ComponentKind::Source, API_SOURCE);
        let api_intake = SourceIntake::new(api, ledger, Default::default(), commons.clone());
        let agent = Arc::new(Agent {
            name: host_name().into(),
            data_dir,
            settings,
            commons,
            books,
            stores: Stores::default(),
            reloads_applied: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            api_intake,
            running: Mutex::default(),
        });
        agent.begin(plan).await?;
        agent.report_damage(&report);
        Ok(agent)
    }

    async fn begin(self: &Arc<Agent>, plan: Plan) -> Result<(), StartError> {
        let mut running = self.running.lock().await;
        running.outline = plan.outline();
        let (sources, steps, sinks) = parts(plan);
        let streams = self.assign(&steps, &sinks)?;
        (running.steps, running.streams) = (steps, streams);
        for sink in sinks {
            let started = RunningSink::start(self, sink, &running.streams)?;
            running.sinks.insert(started.name.clone(), started);
        }
        self.report_orphans(&running).await;
        self.connect_api(&running);
        self.api_intake.ready();
        for (name, type_name, source) in sources {
            let started = self.start_source(&running, name.clone(), type_name, source);
            running.sources.insert(name, started);
        }
        for source in running.sources.values_mut() {
            source.until_ready().await?;
        }
        Ok(())
    }

    fn assign(&self, steps: &[Step], sinks: &[PlannedSink]) -> Result<Streams, StartError> {
        let read = sinks.iter().flat_map(|sink| &sink.inputs);
        Streams::assign(&self.commons.journal, steps, read).map_err(StartError::new)
    }

    fn start_source(
        &self,
        running: &Running,
        name: Arc<str>,
        type_name: &'static str,
        source: Box<dyn crate::component::AnySource>,
    ) -> RunningSource {
        let flow = wiring::flow(&name, &running.steps, &running.streams, &self.books);
        let ledger = self.books.open(&name, ComponentKind::Source, type_name);
        let intake = SourceIntake::new(name, ledger, Arc::new(flow), self.commons.clone());
        let durable = self.settings.journal.mode == settings::Mode::Disk;
        RunningSource::start(source, intake, &self.name, durable)
    }

    fn connect_api(&self, running: &Running) {
        let flow = wiring::flow(&API_SOURCE.into(), &running.steps, &running.streams, &self.books);
        self.api_intake.exchange(Arc::new(flow));
    }

    /// A cursor that no sink moves holds the journal; somebody must decide.
    async fn report_orphans(&self, running: &Running) {
        let parked = self.commons.dead_letters.waiting().await.unwrap_or_default();
        for (sink, parked) in parked.iter().filter(|(name, _)| !running.sinks.contains_key(name.as_str())) {
            tracing::warn!(
                sink,
                parked,
                "events are parked for a sink that is not configured any more; bring it back, or let them go with \
                 `weir dlq drop`"
            );
        }
        for cursor in self.commons.journal.cursors() {
            if !running.sinks.contains_key(&*cursor.name) && cursor.waiting_events > 0 {
                tracing::warn!(
                    sink = %cursor.name, waiting = cursor.waiting_events,
                    "events wait for a sink that is not configured any more; bring it back, or let them go with \
                     `weir journal cursors drop`"
                );
            }
        }
    }

    /// The built-in source, for events that are posted to the API.
    pub fn api_intake(&self) -> &SourceIntake {
        &self.api_intake
    }

    /// Brings the gauges of all sinks up to date, each in one step with its books.
    pub fn refresh_books(&self) {
        for cursor in self.commons.journal.cursors() {
            let ledgers = self.books.all();
            let Some(ledger) = ledgers.iter().find(|l| l.kind == ComponentKind::Sink && l.name == cursor.name) else {
                continue;
            };
            ledger.update(|counts| {
                // Asked again under the lock: the delivery loop changes books and cursor under it too.
                if let Some(now) = self.commons.journal.cursor_info(&cursor.name) {
                    counts.lag_events = now.waiting_events.saturating_sub(counts.skipped);
                    counts.waiting = counts.lag_events + counts.parked;
                    counts.lag_seconds = now.lag_seconds;
                }
            });
        }
    }

    /// The streams of live sinks.
    pub async fn streams_of(&self, inputs: &[Input]) -> Vec<StreamId> {
        self.running.lock().await.streams.of(inputs)
    }

    /// Where each source listens that does, by its name.
    pub async fn addresses(&self) -> Vec<(Arc<str>, String)> {
        let running = self.running.lock().await;
        running.sources.values().filter_map(|source| Some((source.name.clone(), source.intake.address()?))).collect()
    }

    /// A reload whose configuration does not hold.
    pub fn refused_reload(&self, errors: Vec<String>) -> Reloaded {
        self.reloads_failed.fetch_add(1, Ordering::Relaxed);
        Reloaded { applied: false, changed: Changes::default(), errors }
    }

    pub fn is_durable(&self) -> bool {
        self.settings.journal.mode == settings::Mode::Disk
    }

    /// Resolves when every configured source has come to its end and all it gave is delivered.
    pub async fn finished(&self) {
        loop {
            {
                let running = self.running.lock().await;
                let done = !running.sources.is_empty() && running.sources.values().all(RunningSource::is_finished);
                if done && running.sinks.values().all(|sink| sink.waiting(&self.commons.journal) == 0) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Goes over to another plan. What did not change keeps running; data never moves. If anything speaks against
    /// it, nothing is changed.
    pub async fn reload(self: &Arc<Agent>, plan: Plan) -> Reloaded {
        let mut running = self.running.lock().await;
        let changed = Changes::between(&running.outline, &plan.outline());
        let mut errors = self.objections(&running, &changed, &plan);
        if errors.is_empty()
            && let Err(error) = self.change(&mut running, &changed, plan).await
        {
            errors.push(error.message);
        }
        let applied = errors.is_empty();
        let count = if applied { &self.reloads_applied } else { &self.reloads_failed };
        count.fetch_add(1, Ordering::Relaxed);
        Reloaded { applied, changed, errors }
    }

    /// What a reload would lose, or cannot do.
    fn objections(&self, running: &Running, changed: &Changes, plan: &Plan) -> Vec<String> {
        let mut errors = Vec::new();
        if running.stopping {
            errors.push("the agent is stopping".into());
        }
        for section in &changed.settings {
            if !matches!(*section, "tests") {
                errors.push(format!("`{section}` cannot change while the agent runs; restart it"));
            }
        }
        for name in &changed.removed {
            let Some(sink) = running.sinks.get(name) else { continue };
            if sink.on_remove.is_none() && sink.waiting(&self.commons.journal) > 0 {
                errors.push(format!(
                    "sinks.{name}: {} events wait for this sink; set `on_remove: drain` or `on_remove: drop` on it \
                     before it is removed",
                    sink.waiting(&self.commons.journal)
                ));
            }
        }
        // A sink under the name of a source (or the other way round) would share its fingerprint's place.
        debug_assert!(plan.sinks.iter().all(|sink| plan.sources.iter().all(|source| source.name != sink.name)));
        errors
    }

    async fn change(self: &Arc<Agent>, running: &mut Running, changed: &Changes, plan: Plan) -> Result<(), StartError> {
        let outline = plan.outline();
        let (sources, mut steps, sinks) = parts(plan);
        for step in &mut steps {
            // What did not change stays the very same object.
            if !changed.touches(&step.name)
                && let Some(old) = running.steps.iter().find(|old| old.name == step.name)
            {
                step.transform = old.transform.clone();
            }
        }
        let streams = self.assign(&steps, &sinks)?;
        let deadline = self.settings.limits.shutdown_timeout.into();
        let mut kept = BTreeMap::new();
        let mut moved = Vec::new();
        for sink in sinks {
            let same_streams = streams.of(&sink.inputs) == running.streams.of(&sink.inputs);
            match running.sinks.remove(&sink.name) {
                Some(old) if same_streams && !changed.touches(&sink.name) => drop(kept.insert(old.name.clone(), old)),
                Some(old) => {
                    old.stop(deadline).await;
                    moved.push(sink);
                }
                None => moved.push(sink),
            }
        }
        for removed in std::mem::take(&mut running.sinks).into_values() {
            removed.retire(self).await;
        }
        running.sinks = kept;
        for sink in moved {
            let started = RunningSink::start(self, sink, &streams)?;
            running.sinks.insert(started.name.clone(), started);
        }
        (running.steps, running.streams, running.outline) = (steps, streams, outline);
        self.connect_api(running);
        self.change_sources(running, changed, sources).await
    }

    async fn change_sources(
        self: &Arc<Agent>,
        running: &mut Running,
        changed: &Changes,
        sources: Vec<NamedSource>,
    ) -> Result<(), StartError> {
        let mut old = std::mem::take(&mut running.sources);
        let deadline = self.settings.limits.shutdown_timeout.into();
        let mut fresh = Vec::new();
        for (name, type_name, source) in sources {
            match old.remove(&name) {
                Some(same) if !changed.touches(&name) => {
                    let flow = wiring::flow(&name, &running.steps, &running.streams, &self.books);
                    same.intake.exchange(Arc::new(flow));
                    running.sources.insert(name, same);
                }
                Some(before) => {
                    before.stop(deadline).await;
                    fresh.push((name, type_name, source));
                }
                None => fresh.push((name, type_name, source)),
            }
        }
        for gone in old.into_values() {
            let name = gone.name.clone();
            gone.stop(deadline).await;
            self.books.close(&name, ComponentKind::Source);
        }
        let mut result = Ok(());
        for (name, type_name, source) in fresh {
            let mut started = self.start_source(running, name.clone(), type_name, source);
            if let Err(error) = started.until_ready().await {
                result = Err(error);
            }
            running.sources.insert(name, started);
        }
        result
    }

    /// Closes intake, syncs, gives writes in flight their time, saves cursors. What is in a journal on disk waits
    /// there; what is in memory gets that time to drain.
    pub async fn stop(&self) -> Stopped {
        let patience: Duration = self.settings.limits.shutdown_timeout.into();
        let deadline = tokio::time::Instant::now() + patience;
        let mut running = self.running.lock().await;
        running.stopping = true;
        let sources = std::mem::take(&mut running.sources).into_values();
        futures_util::future::join_all(sources.map(|source| source.stop(patience))).await;
        let commons = self.commons.clone();
        blocking(move || commons.pool.close()).await;
        if !self.is_durable() {
            let empty = async {
                while running.sinks.values().any(|sink| sink.waiting(&self.commons.journal) > 0) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let _ = tokio::time::timeout_at(deadline, empty).await;
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let abandoned = running.sinks.values().map(|sink| sink.waiting(&self.commons.journal)).max().unwrap_or(0);
        let sinks = std::mem::take(&mut running.sinks).into_values();
        futures_util::future::join_all(sinks.map(|sink| sink.stop(left))).await;
        let journal = self.commons.journal.clone();
        blocking(move || journal.close()).await;
        Stopped { abandoned: if self.is_durable() { 0 } else { abandoned } }
    }
}

type NamedSource = (Arc<str>, &'static str, Box<dyn crate::component::AnySource>);

fn parts(plan: Plan) -> (Vec<NamedSource>, Vec<Step>, Vec<PlannedSink>) {
    let sources = plan.sources.into_iter().map(|planned| (planned.name, planned.type_name, planned.source));
    let steps = plan.transforms.into_iter().map(|planned| Step {
        name: planned.name,
        type_name: planned.type_name,
        inputs: planned.inputs,
        transform: planned.transform.into(),
    });
    (sources.collect(), steps.collect(), plan.sinks)
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::error!("a step of the stop has panicked");
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The data folder, for this user alone.
pub fn make_private_folder(path: &std::path::Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| StartError::new(format!("cannot make the data folder `{}`: {error}", path.display())))
}

fn open_journal(
    data_dir: &std::path::Path,
    settings: &Settings,
) -> Result<(Journal, journal::RecoveryReport), StartError> {
    let purses = MemoryShares::share(settings.limits.memory.bytes(), Process::look().resident_bytes);
    let options = journal::Options {
        intake_bytes: purses.intake,
        tier_bytes: purses.tier,
        ..settings.journal.options(data_dir.join("journal"))
    };
    let (journal, report) = Journal::open(options, Arc::new(Real)).map_err(|error| StartError {
        newer_format: matches!(error, journal::OpenError::NewerFormat { .. }),
        message: format!("cannot open the journal: {error}"),
    })?;
    for (name, from, to) in &report.set_back {
        tracing::warn!(sink = name, from, to, "a cursor stood behind the end of the journal and was set back");
    }
    for name in &report.cursors_lost {
        tracing::warn!(sink = name, "the cursor was lost; the sink begins at the oldest event");
    }
    Ok((journal, report))
}

fn open_dead_letters(data_dir: &std::path::Path, durable: bool) -> Result<DeadLetters, StartError> {
    let opened = match durable {
        true => DeadLetters::open(&data_dir.join("dlq"), dead_letters::DEFAULT_MAX_BYTES),
        false => DeadLetters::in_memory(dead_letters::MEMORY_MAX_BYTES),
    };
    opened.map_err(|error| StartError::new(format!("cannot open the dead-letter queue: {error}")))
}
