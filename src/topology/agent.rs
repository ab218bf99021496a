//! A running pipeline: started from a plan, changed by the next one, stopped without losing accepted events.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::flow::Flow;
use super::intake::{IntakeContext, SourceIntake};
use super::left_behind::StoreFolders;
use super::memory::MemoryShares;
use super::pool::Pool;
use super::readers::Readers;
use super::retired::Retired;
use super::sinks::RunningSink;
use super::sources::{RunningSource, SourceResources};
use super::stages::{self, RunningStage};
use super::taps::{Redactor, Taps, Watch, is_output_of};
use super::wiring::{Step, Streams};
use crate::codec::Limits;
use crate::codec::redaction::Engine;
use crate::config::settings::{self, Settings};
use crate::config::{
    API_AUTH, API_SOURCE, Changes, LiveInputs, Outline, Plan, PlannedSink, PlannedTransform, Snapshots,
};
use crate::delivery::DeliveryMemory;
use crate::delivery::shown::Shown;
use crate::journal::dead_letters::{self, DeadLetters};
use crate::journal::fs::Real;
use crate::journal::{self, Journal};
use crate::net::expiry;
use crate::query::Query;
use crate::stages::StateMemory;
use crate::store::Stores;
use crate::telemetry::exposition::Process;
use crate::telemetry::{Accounting, ComponentKind, ComponentMetrics};
use crate::units::Timestamp;

/// Most values in one document of a request.
const MAX_VALUES: usize = 1_000_000;

/// In the mode of a folder: users other than its owner may change its content.
const OTHERS_WRITE: u32 = 0o022;

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

/// Where what leaves a component can be watched.
pub enum Watched {
    Streams(Shown),
    /// On its way to transforms.
    Outputs(Watch),
}

/// A running pipeline.
pub struct Agent {
    pub name: Arc<str>,
    pub data_dir: PathBuf,
    pub settings: Settings,
    pub context: Arc<IntakeContext>,
    pub accounting: Accounting,
    /// The embedded stores, shared by sinks that write and the API that reads.
    pub stores: Stores,
    pub(super) readers: Readers,
    /// What all sinks together may hold of batches on their way.
    pub(super) delivery_memory: DeliveryMemory,
    /// What all stages together may remember.
    pub(super) state_memory: StateMemory,
    /// Bytes that all frames on their way to live clients may have.
    pub live_bytes: usize,
    /// The configuration that runs, as it may be shown.
    pub shown: std::sync::RwLock<serde_json::Value>,
    pub reloads_applied: AtomicU64,
    pub reloads_failed: AtomicU64,
    pub(super) api_intake: SourceIntake,
    pub(super) resources: SourceResources,
    /// One plan is prepared at a time.
    changing: Mutex<()>,
    pub(super) running: Mutex<Running>,
    pub(super) stopped: CancellationToken,
    /// When the first certificate of each component ends that has some.
    pub certificates: std::sync::RwLock<BTreeMap<String, Timestamp>>,
    /// What keeps the journal from taking events.
    pub(super) standstill: std::sync::RwLock<Option<super::watch::Standstill>>,
}

#[derive(Default)]
pub(super) struct Running {
    pub(super) outline: Outline,
    pub(super) steps: Vec<Step>,
    pub(super) streams: Streams,
    pub(super) sources: BTreeMap<Arc<str>, RunningSource>,
    pub(super) sinks: BTreeMap<Arc<str>, RunningSink>,
    pub(super) stages: BTreeMap<Arc<str>, RunningStage>,
    /// What ends the refreshing of each transform that has some.
    pub(super) refreshers: BTreeMap<Arc<str>, CancellationToken>,
    /// Stages that the plan no longer has and that have not ended.
    pub(super) leaving_stages: BTreeMap<Arc<str>, RunningStage>,
    /// Sinks that the plan no longer has and that have not ended.
    pub(super) retired: BTreeMap<Arc<str>, Retired>,
    /// Cursors that nothing moves, and for which events wait.
    pub(super) orphans: BTreeSet<Arc<str>>,
    /// Sinks of the plan that is being prepared.
    pub(super) claimed: BTreeSet<Arc<str>>,
    /// The texts of sinks and stages that may have to be begun again without a plan that has them.
    pub(super) snapshots: Snapshots,
    /// Every flow that a job may still run through.
    pub(super) flows: Vec<Weak<Flow>>,
    /// Removed sources that have not ended.
    pub(super) leaving: TaskTracker,
    pub(super) stopping: bool,
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
        let stores = plan.sinks.iter().filter(|sink| sink.type_name == "store").count();
        let shares = MemoryShares::share(settings.limits.memory.bytes(), Process::look().resident_bytes, stores > 0);
        let options = journal_options(&data_dir, &settings, shares);
        let mut delivery_memory = DeliveryMemory::new(shares.delivery);
        if durable {
            delivery_memory = delivery_memory.with_bytes_from_disk(options.bytes_from_disk());
        }
        let (journal, report) = open_journal(options)?;
        let redactor: Redactor = Arc::new(LazyLock::new(Engine::builtin));
        let context = Arc::new(IntakeContext {
            journal,
            pool: Pool::start(settings.limits.threads())
                .map_err(|e| StartError::new(format!("cannot start threads: {e}")))?,
            dead_letters: open_dead_letters(&data_dir, durable)?,
            taps: Taps::new(redactor.clone()),
            redactor,
            limits: Limits { event_bytes: settings.limits.event.bytes() as usize, values: MAX_VALUES },
            runtime: tokio::runtime::Handle::current(),
        });
        let accounting = Accounting::default();
        let api: Arc<str> = API_SOURCE.into();
        let metrics = accounting.open(&api, ComponentKind::Source, API_SOURCE);
        let api_intake = SourceIntake::new(api, metrics, Default::default(), context.clone());
        let name: Arc<str> = host_name().into();
        let patience = settings.limits.shutdown_timeout.into();
        let stopped = CancellationToken::new();
        let stopping = stopped.clone();
        let resources = SourceResources { agent: name.clone(), durable, sockets: Arc::default(), stopping, patience };
        let agent = Arc::new(Agent {
            name,
            data_dir,
            settings,
            context,
            accounting,
            stores: Stores::with_memory(shares.stores / stores.max(1)),
            readers: Readers::default(),
            delivery_memory,
            state_memory: StateMemory::new(shares.state),
            live_bytes: shares.live,
            shown: std::sync::RwLock::new(plan.shown.clone()),
            reloads_applied: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            api_intake,
            resources,
            changing: Mutex::default(),
            running: Mutex::default(),
            stopped,
            standstill: Default::default(),
            certificates: std::sync::RwLock::new(expiries(&plan)),
        });
        let folders = StoreFolders::of(&plan);
        agent.begin(plan).await?;
        agent.report_damage(&report);
        folders.report();
        tokio::spawn(agent.clone().watch_retired(agent.stopped.clone()));
        tokio::spawn(agent.clone().watch_journal());
        Ok(agent)
    }

    async fn begin(self: &Arc<Agent>, plan: Plan) -> Result<(), StartError> {
        let prepared = self.prepare(plan).await.map_err(|errors| StartError::new(errors.join("; ")))?;
        let parked = self.context.dead_letters.waiting().await.unwrap_or_default();
        let mut running = self.running.lock().await;
        self.commit(&mut running, prepared);
        self.settle_orphans(&mut running, &parked).await;
        self.save_snapshots(&running);
        self.report_parked(&running, &parked);
        for source in running.sources.values_mut() {
            source.until_ready().await?;
        }
        Ok(())
    }

    /// The side of the wiring that belongs to a source.
    pub(super) fn intake(&self, name: &Arc<str>, type_name: &'static str, flow: Arc<Flow>) -> SourceIntake {
        let metrics = self.accounting.open(name, ComponentKind::Source, type_name);
        SourceIntake::new(name.clone(), metrics, flow, self.context.clone())
    }

    /// The built-in source, for events that are posted to the API.
    pub fn api_intake(&self) -> &SourceIntake {
        &self.api_intake
    }

    /// Brings the gauges of all sinks up to date, each in one step with its accounting.
    pub fn refresh_accounting(&self) {
        let components = self.accounting.all();
        for cursor in self.context.journal.cursors() {
            if let Some(stage) = cursor.name.strip_suffix(":in") {
                let of_stage = |l: &&Arc<ComponentMetrics>| l.kind == ComponentKind::Transform && *l.name == *stage;
                if let Some(metrics) = components.iter().find(of_stage) {
                    metrics.update(|counts| {
                        counts.lag_events = cursor.waiting_events;
                        counts.lag_seconds = cursor.lag_seconds;
                    });
                }
                continue;
            }
            let Some(metrics) = components.iter().find(|l| l.kind == ComponentKind::Sink && l.name == cursor.name)
            else {
                continue;
            };
            metrics.update(|counts| {
                // Asked again under the lock: the delivery loop changes accounting and cursor under it too.
                if let Some(now) = self.context.journal.cursor_info(&cursor.name) {
                    counts.lag_events = now.waiting_events.saturating_sub(counts.skipped);
                    counts.waiting = counts.lag_events + counts.parked;
                    counts.lag_seconds = now.lag_seconds;
                }
            });
        }
    }

    /// The outputs that each transform and each sink reads, by name.
    pub async fn inputs(&self) -> BTreeMap<Arc<str>, Vec<String>> {
        let running = self.running.lock().await;
        let steps = running.steps.iter();
        let of_steps = steps.map(|step| (step.name.clone(), super::wiring::stream_names(&running.steps, &step.inputs)));
        let of_sinks = running.sinks.iter().map(|(name, sink)| (name.clone(), sink.streams.clone()));
        of_steps.chain(of_sinks).collect()
    }

    /// What live sinks show, of streams included that a name had before.
    pub async fn shown_by(&self, live: &LiveInputs) -> Shown {
        let running = self.running.lock().await;
        let mut shown = Shown::new(live.are_read);
        for (inputs, filter) in &live.taken {
            let names = super::wiring::stream_names(&running.steps, inputs);
            shown.add(names.iter().flat_map(|name| self.context.journal.streams_named(name)), filter.as_ref());
        }
        shown
    }

    /// Where the events can be watched that a sink reads, or that leave a source, a transform or one of its outputs. The
    /// error has the names that can be asked for.
    pub async fn watch(&self, component: &str) -> Result<Watched, Vec<String>> {
        let running = self.running.lock().await;
        let streams = |names: &mut dyn Iterator<Item = &String>, filter: Option<&Arc<Query>>| {
            let mut shown = Shown::default();
            shown.add(names.flat_map(|name| self.context.journal.streams_named(name)), filter);
            Watched::Streams(shown)
        };
        if let Some(sink) = running.sinks.get(component) {
            return Ok(streams(&mut sink.streams.iter(), sink.filter.as_ref()));
        }
        let of_steps = running.steps.iter().flat_map(|step| {
            let outputs = step.transform.outputs();
            let named = outputs.into_iter().map(|output| format!("{}.{output}", step.name));
            std::iter::once(step.name.to_string()).chain(named)
        });
        let sources = running.sources.keys().map(|name| name.to_string());
        let mut known: Vec<String> = sources.chain([API_SOURCE.to_owned()]).chain(of_steps).collect();
        if !known.iter().any(|name| name == component) {
            known.extend(running.sinks.keys().map(|name| name.to_string()));
            return Err(known);
        }
        let by_sinks: BTreeSet<&String> = running.sinks.values().flat_map(|sink| &sink.streams).collect();
        let by_steps = running.steps.iter().flat_map(|step| super::wiring::stream_names(&running.steps, &step.inputs));
        // What nothing but transforms reads is in no stream.
        let is_in_streams = by_steps.filter(|name| is_output_of(name, component)).all(|name| by_sinks.contains(&name));
        let mut read = by_sinks.into_iter().filter(|name| is_output_of(name, component)).peekable();
        Ok(match is_in_streams && read.peek().is_some() {
            true => streams(&mut read, None),
            false => Watched::Outputs(self.context.taps.watch(component)),
        })
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
                let is_idle = |sink: &RunningSink| sink.waiting(&self.context.journal) == 0;
                let has_taken = |stage: &RunningStage| stage.waiting(&self.context.journal) == 0;
                let taken = running.stages.values().all(has_taken) && running.leaving_stages.is_empty();
                if done && taken && running.sinks.values().all(is_idle) && running.retired.is_empty() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Goes over to another plan. What did not change keeps running; data never moves. If anything speaks against
    /// it, nothing is changed.
    pub async fn reload(self: &Arc<Agent>, plan: Plan) -> Reloaded {
        let certificates = expiries(&plan);
        let folders = StoreFolders::of(&plan);
        let turn = self.changing.lock().await;
        let result = match self.objections(&plan).await {
            errors if !errors.is_empty() => Err(errors),
            _ => self.change(plan).await,
        };
        drop(turn);
        match result {
            Ok(changed) => {
                folders.report();
                self.reloads_applied.fetch_add(1, Ordering::Relaxed);
                *self.certificates.write().unwrap_or_else(std::sync::PoisonError::into_inner) = certificates;
                Reloaded { applied: true, changed, errors: Vec::new() }
            }
            Err(errors) => self.refused_reload(errors),
        }
    }

    async fn change(self: &Arc<Agent>, plan: Plan) -> Result<Changes, Vec<String>> {
        let prepared = match self.prepare(plan).await {
            Ok(prepared) => prepared,
            Err(errors) => {
                self.running.lock().await.claimed.clear();
                return Err(errors);
            }
        };
        let mut running = self.running.lock().await;
        if running.stopping {
            drop(running);
            self.abandon(prepared).await;
            return Err(vec!["the agent is stopping".into()]);
        }
        let changed = self.commit(&mut running, prepared);
        self.save_snapshots(&running);
        Ok(changed)
    }

    /// What a reload would lose, or cannot do.
    async fn objections(&self, plan: &Plan) -> Vec<String> {
        let running = self.running.lock().await;
        let changed = Changes::between(&running.outline, &plan.outline());
        let mut errors = Vec::new();
        if running.stopping {
            errors.push("the agent is stopping".into());
        }
        for section in &changed.settings {
            // Whom the API believes is exchanged as certificates are.
            if !matches!(*section, "tests" | API_AUTH) {
                errors.push(format!("`{section}` cannot change while the agent runs; restart it"));
            }
        }
        for name in &changed.removed {
            if let Some(stage) = running.stages.get(name) {
                let owed = stage.owed(&self.context.journal);
                if stage.on_remove.is_none() && owed > 0 {
                    errors.push(stages::objection(name, owed));
                }
            }
            let Some(sink) = running.sinks.get(name) else { continue };
            if sink.on_remove.is_none() && sink.waiting(&self.context.journal) > 0 {
                errors.push(format!(
                    "sinks.{name}: {} undelivered events; set `on_remove: drain` or `on_remove: drop` on the sink before removing it",
                    sink.waiting(&self.context.journal)
                ));
            }
        }
        errors
    }

    /// Closes intake, syncs, gives writes in flight their time, saves cursors. What is in a journal on disk waits
    /// there; what is in memory gets that time to drain.
    pub async fn stop(&self) -> Stopped {
        let deadline = self.deadline();
        self.stopped.cancel();
        let (sources, leaving) = {
            let mut running = self.running.lock().await;
            running.stopping = true;
            (std::mem::take(&mut running.sources), running.leaving.clone())
        };
        futures_util::future::join_all(sources.into_values().map(|source| source.stop(deadline))).await;
        leaving.close();
        let _ = tokio::time::timeout_at(deadline, leaving.wait()).await;
        let context = self.context.clone();
        blocking(move || context.pool.close()).await;
        self.stop_stages(deadline).await;
        let (mut sinks, mut forgetting) = (Vec::new(), Vec::new());
        {
            let mut running = self.running.lock().await;
            sinks.extend(std::mem::take(&mut running.sinks).into_values());
            for retired in std::mem::take(&mut running.retired).into_values() {
                match retired {
                    Retired::Finishing(sink) => sinks.push(*sink),
                    Retired::Leaving(task, _) => forgetting.push(task),
                }
            }
        }
        if !self.is_durable() {
            let empty = async {
                while sinks.iter().any(|sink| sink.waiting(&self.context.journal) > 0) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let _ = tokio::time::timeout_at(deadline, empty).await;
        }
        let abandoned = sinks.iter().map(|sink| sink.waiting(&self.context.journal)).max().unwrap_or(0);
        let nobody = CancellationToken::new();
        futures_util::future::join_all(sinks.into_iter().map(|sink| sink.end(deadline, &nobody))).await;
        let _ = tokio::time::timeout_at(deadline, futures_util::future::join_all(forgetting)).await;
        let journal = self.context.journal.clone();
        blocking(move || journal.close()).await;
        Stopped { abandoned: if self.is_durable() { 0 } else { abandoned } }
    }
}

/// When the first of the certificates ends that each component names by its file; the API is `api`.
fn expiries(plan: &Plan) -> BTreeMap<String, Timestamp> {
    let sources = plan.sources.iter().map(|planned| (planned.name.to_string(), planned.source.files()));
    let tls = |sink: &PlannedSink| sink.frame.tls.as_ref().map_or(Vec::new(), |trust| trust.files());
    let sinks = plan.sinks.iter().map(|sink| (sink.name.to_string(), tls(sink)));
    let api = plan.settings.api.tls.iter().map(|tls| (API_SOURCE.to_owned(), tls.files()));
    let first = |files: Vec<std::path::PathBuf>| files.iter().filter_map(|file| expiry::of_file(file)).min();
    sources.chain(sinks).chain(api).filter_map(|(name, files)| Some((name, first(files)?))).collect()
}

/// The transforms of a plan with their places.
pub(super) fn steps(transforms: Vec<PlannedTransform>) -> Vec<Step> {
    let step = |planned: PlannedTransform| Step {
        name: planned.name,
        type_name: planned.type_name,
        inputs: planned.inputs,
        transform: planned.transform.into(),
        frame: planned.frame,
    };
    transforms.into_iter().map(step).collect()
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::error!("a bug in weir: a shutdown step panicked");
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The data folder, for this user alone: made, or refused if others may change what is in it.
pub fn make_private_folder(path: &std::path::Path) -> Result<(), StartError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let mode = made.and_then(|()| close_fresh_mount(path)).and_then(|()| std::fs::metadata(path));
    let mode = mode.map(|folder| folder.mode());
    let shown = path.display();
    let mode = mode.map_err(|error| StartError::new(format!("cannot make the data folder `{shown}`: {error}")))?;
    match mode & OTHERS_WRITE {
        0 => Ok(()),
        _ => Err(StartError::new(format!(
            "the data folder `{shown}` is writable by others, who could plant events, keys or links in it: run `chmod go-w {shown}`, or set `data_dir` to a folder inside it"
        ))),
    }
}

/// The root of a file system that was just made belongs to everybody: while nothing is in it and it is ours, it is made
/// private like a folder that we make.
fn close_fresh_mount(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = std::fs::metadata(path)?;
    let is_mount = std::fs::metadata(path.join(".."))?.dev() != folder.dev();
    let is_ours = folder.uid() == rustix::process::geteuid().as_raw();
    if !is_mount || !is_ours || folder.mode() & OTHERS_WRITE == 0 {
        return Ok(());
    }
    let mut entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
    let is_empty = entries.all(|name| name.is_ok_and(|name| name == "lost+found"));
    if is_empty { std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)) } else { Ok(()) }
}

fn journal_options(data_dir: &std::path::Path, settings: &Settings, shares: MemoryShares) -> journal::Options {
    journal::Options {
        intake_bytes: shares.intake,
        tier_bytes: shares.tier,
        consumer_bytes: DeliveryMemory::of_records(shares.delivery),
        ..settings.journal.options(data_dir.join("journal"))
    }
}

fn open_journal(options: journal::Options) -> Result<(Journal, journal::RecoveryReport), StartError> {
    if options.mode == journal::Mode::Memory {
        owes_nothing(&options)?;
    }
    let (journal, report) = Journal::open(options, Arc::new(Real::default())).map_err(|error| StartError {
        newer_format: matches!(error, journal::OpenError::NewerFormat { .. }),
        message: format!("cannot open the journal: {error}"),
    })?;
    for (name, from, to) in &report.set_back {
        tracing::warn!(sink = name, from, to, "a cursor was past the end of the journal and was reset");
    }
    for name in &report.cursors_lost {
        tracing::warn!(sink = name, "the cursor was lost; the sink starts at the oldest event");
    }
    Ok((journal, report))
}

/// A journal in memory does not see what one on the disk still owes, so that this would wait unseen.
fn owes_nothing(options: &journal::Options) -> Result<(), StartError> {
    if !options.dir.is_dir() {
        return Ok(());
    }
    let on_disk = journal::Options { mode: journal::Mode::Disk, ..options.clone() };
    let (earlier, _) = Journal::open(on_disk, Arc::new(Real::default()))
        .map_err(|error| StartError::new(format!("cannot look into the earlier journal: {error}")))?;
    let owed: Vec<String> = earlier
        .cursors()
        .into_iter()
        .filter(|cursor| cursor.waiting_events > 0)
        .map(|cursor| format!("{} for `{}`", cursor.waiting_events, cursor.name))
        .collect();
    earlier.close();
    match owed.is_empty() {
        true => Ok(()),
        false => Err(StartError::new(format!(
            "the journal in `{}` still holds undelivered events ({}), which `journal.mode: memory` would leave there: \
             deliver them with `mode: disk` first, or move the folder away",
            options.dir.display(),
            owed.join(", ")
        ))),
    }
}

fn open_dead_letters(data_dir: &std::path::Path, durable: bool) -> Result<DeadLetters, StartError> {
    let opened = match durable {
        true => DeadLetters::open(&data_dir.join("dlq"), dead_letters::DEFAULT_MAX_BYTES),
        false => DeadLetters::in_memory(dead_letters::MEMORY_MAX_BYTES),
    };
    opened.map_err(|error| StartError::new(format!("cannot open the dead-letter queue: {error}")))
}
