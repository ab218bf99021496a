//! `weir run`: starts the agent and its API, handles signals, and prints its addresses.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::client::{ADDRESS_FILE, CERTIFICATE_FILE};
use super::{CONFIGURATION, Configuration, ephemeral, notify};
use crate::api::{self, Access, Api, CurrentAccess, FirstSecret};
use crate::config::settings::{self, Settings};
use crate::config::{self, Loaded, Overrides};
use crate::delivery::fanout::Fanout;
use crate::journal;
use crate::net::Role;
use crate::net::address::Address;
use crate::net::auth::jwt::Terms;
use crate::net::http::{self, ServerTls};
use crate::net::listen::{Listener, SOCKET_MODE};
use crate::net::tls;
use crate::telemetry::log;
use crate::topology::{Agent, Reloaded, StartError, make_private_folder, snapshots_file};

/// How long the login link of the first start is good.
const LOGIN_TTL: Duration = Duration::from_secs(8 * 3600);
/// A second signal that comes sooner than this after the first is the same one.
const SECOND_SIGNAL: Duration = Duration::from_millis(50);
/// How often `--watch` looks at the files.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The API's connections have a thread for so many cores. Where as many threads write to live clients as there are cores,
/// the clients wait for one of them.
const CORES_OF_AN_API_THREAD: usize = 4;

#[derive(Args, Clone)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Reload when a configuration file changes
    #[arg(long)]
    watch: bool,
    /// Add a demo source of generated code executions
    #[arg(long)]
    demo: bool,
    /// Keep everything in memory, listen on free ports, and print the addresses as one JSON line; stores start empty
    /// and are removed at exit
    #[arg(long)]
    ephemeral: bool,
}

pub fn run(arguments: Arguments) -> ExitCode {
    super::descriptors::raise();
    // Before the files are read, so that a change from then on is seen. Only if somebody wants it: a pipe is read once.
    let watch = arguments.watch.then(|| Watch::new(&arguments));
    let mut overrides =
        Overrides { ephemeral: arguments.ephemeral, ..arguments.configuration.overrides(arguments.demo) };
    if arguments.ephemeral {
        overrides.data_dir = Some(ephemeral::choose());
    }
    let loaded = match arguments.configuration.load_to_run(&overrides) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let settings = &loaded.plan.settings;
    log::init(settings.log.level.into(), settings.log.format.into());
    super::descriptors::check();
    super::descriptors::core_dumps(settings.limits.core_dumps);
    let threads = settings.limits.threads();
    let runtimes = runtime("weir-io", threads)
        .and_then(|io| Ok((io, runtime("weir-api", threads.div_ceil(CORES_OF_AN_API_THREAD))?)));
    match runtimes {
        Ok((io, connections)) => {
            let code = io.block_on(serve(arguments, overrides, loaded, watch, connections.handle().clone()));
            connections.shutdown_background();
            code
        }
        Err(error) => super::complain(format!("cannot start: {error}")),
    }
}

fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()
}

async fn serve(
    arguments: Arguments,
    overrides: Overrides,
    loaded: Loaded,
    watch: Option<Watch>,
    connections: Handle,
) -> ExitCode {
    let data_dir = loaded.plan.data_dir.display();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), %data_dir, "starting");
    // Before anybody can see that the agent runs: a signal that nobody listens for ends the process.
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return super::complain(format!("cannot listen for signals: {error}")),
    };
    match start(&arguments, &overrides, loaded, connections).await {
        Ok(running) => {
            notify::ready();
            running.until_stopped(watch, signals).await
        }
        Err(error) if error.newer_format => {
            eprintln!("error: {}", error.message);
            ExitCode::from(CONFIGURATION)
        }
        Err(error) => super::complain(error.message),
    }
}

struct Running {
    agent: Arc<Agent>,
    shutdown: CancellationToken,
    api: Option<tokio::task::JoinHandle<()>>,
    reload: Reload,
    /// Of an agent that keeps nothing.
    _folder: Option<ephemeral::Folder>,
}

/// Names the process that holds the address, if it can be found.
type Reload = Arc<dyn Fn(Option<String>) -> std::pin::Pin<Box<dyn Future<Output = Reloaded> + Send>> + Send + Sync>;

async fn start(
    arguments: &Arguments,
    overrides: &Overrides,
    loaded: Loaded,
    connections: Handle,
) -> Result<Running, StartError> {
    let mut plan = loaded.plan;
    let settings = plan.settings.clone();
    let data_dir = plan.data_dir.clone();
    let quick_start = loaded.is_quick_start;
    let folder = match arguments.ephemeral {
        true => Some(ephemeral::Folder::make(&data_dir).map_err(StartError::new)?),
        false => {
            make_private_folder(&data_dir)?;
            None
        }
    };
    // Ports first: an agent that cannot be reached should not take events.
    let listener = match settings.api.enabled {
        true => Some(Listener::bind(&settings.api.address, SOCKET_MODE).await.map_err(|e| taken(&e, &data_dir))?),
        false => None,
    };
    let live = plan.live_inputs();
    if !arguments.ephemeral {
        for error in config::add_leftover(&mut plan, &snapshots_file(&data_dir)) {
            tracing::warn!(error, "a removed sink cannot deliver its remaining events");
        }
    }
    let agent = Agent::start(plan).await?;
    let shutdown = CancellationToken::new();
    let (journal, shown) = (&agent.context.journal, agent.shown_by(&live).await);
    let fanout = Fanout::start(journal, shown, agent.live_bytes, &connections, shutdown.clone());
    let (files, secret) = ApiFiles::open(&settings.api, &data_dir, !arguments.ephemeral).map_err(StartError::new)?;
    let reload = reloader(arguments, overrides, &agent, &fanout, files.clone());
    let mut running = Running {
        agent: agent.clone(),
        shutdown: shutdown.clone(),
        api: None,
        reload: reload.clone(),
        _folder: folder,
    };
    let Some(listener) = listener else { return Ok(running) };
    let address = listener.address().map_err(|error| StartError::new(error.to_string()))?;
    let addresses = agent.addresses().await;
    announce(arguments, &settings, &agent, &address, secret.as_ref(), quick_start, &addresses)?;
    let reload = Box::new(move |by| reload(by));
    let api = Api::new(agent, files.access, fanout, reload, connections.clone(), shutdown.clone());
    let api = http::AnsweredOn { runtime: Handle::current(), handler: Arc::new(api) };
    let (limits, shutdown) = (http::Limits::default(), http::Shutdown::with(shutdown));
    running.api = Some(connections.spawn(http::serve(listener, files.tls, limits, Arc::new(api), shutdown)));
    Ok(running)
}

/// What the API shows and whom it believes; both may come from files, which a reload reads again.
#[derive(Clone)]
struct ApiFiles {
    settings: settings::Api,
    data_dir: PathBuf,
    access: CurrentAccess,
    tls: ServerTls,
}

/// What the files hold.
type ReadAgain = (Option<Access>, Option<Arc<ServerConfig>>);

impl ApiFiles {
    fn open(settings: &settings::Api, data_dir: &Path, keep: bool) -> Result<(ApiFiles, Option<FirstSecret>), String> {
        let (access, secret) = Access::new(settings, data_dir, keep)?;
        let tls = ServerTls::new(settings.tls.as_ref().map(tls::server).transpose()?);
        let (settings, data_dir) = (settings.clone(), data_dir.to_owned());
        Ok((ApiFiles { settings, data_dir, access: CurrentAccess::new(access), tls }, secret))
    }

    /// Reads the files again, with the credentials of the next configuration.
    fn read(&self, next: &settings::Api) -> Result<ReadAgain, Vec<String>> {
        // Without any, the secret of the first start stays as it is.
        let is_named = self.settings.auth.is_some() || next.auth.is_some();
        let access = is_named.then(|| self.access.get().next(next, &self.data_dir));
        let access = access.transpose().map_err(|error| format!("api.auth: {error}"));
        let tls = self.settings.tls.as_ref().map(tls::server).transpose().map_err(|error| format!("api.tls: {error}"));
        match (access, tls) {
            (Ok(access), Ok(tls)) => Ok((access, tls)),
            (access, tls) => Err(access.err().into_iter().chain(tls.err()).collect()),
        }
    }

    fn exchange(&self, access: Option<Access>, tls: Option<Arc<ServerConfig>>) {
        if let Some(access) = access {
            self.access.exchange(access);
        }
        if let Some(config) = &self.settings.tls
            && let Err(error) = std::fs::copy(&config.cert, self.data_dir.join(CERTIFICATE_FILE))
        {
            tracing::warn!(%error, "cannot write the new certificate to the data folder for the commands");
        }
        self.tls.exchange(tls);
    }
}

/// Why the API's address cannot be bound; a second start of an agent names the first.
fn taken(error: &str, data_dir: &std::path::Path) -> StartError {
    match journal::holder(&data_dir.join("journal")) {
        Some(pid) => StartError::new(format!("{error}; process {pid} already runs on `{}`", data_dir.display())),
        None => StartError::new(error),
    }
}

fn reloader(
    arguments: &Arguments,
    overrides: &Overrides,
    agent: &Arc<Agent>,
    fanout: &Arc<Fanout>,
    files: ApiFiles,
) -> Reload {
    let (configuration, overrides) = (arguments.configuration.clone(), overrides.clone());
    let (agent, fanout) = (agent.clone(), fanout.clone());
    Arc::new(move |by| {
        let (configuration, overrides) = (configuration.clone(), overrides.clone());
        let (agent, fanout, files) = (agent.clone(), fanout.clone(), files.clone());
        Box::pin(async move {
            tracing::info!(by = by.as_deref(), "reloading the configuration");
            let loaded = tokio::task::spawn_blocking(move || configuration.reload(&overrides)).await;
            let outcome = match loaded {
                Ok(Ok(plan)) => match files.read(&plan.settings.api) {
                    Ok((access, tls)) => {
                        let (live, shown) = (plan.live_inputs(), plan.shown.clone());
                        let outcome = agent.reload(plan).await;
                        if outcome.applied {
                            *agent.shown.write().unwrap_or_else(std::sync::PoisonError::into_inner) = shown;
                            files.exchange(access, tls);
                            fanout.follow(agent.shown_by(&live).await);
                        }
                        outcome
                    }
                    Err(errors) => agent.refused_reload(errors),
                },
                Ok(Err(errors)) => agent.refused_reload(errors),
                Err(error) => agent.refused_reload(vec![format!("reading the configuration panicked: {error}")]),
            };
            match outcome.applied {
                true => tracing::info!(changed = %outcome.changed, "the configuration was reloaded"),
                false => tracing::error!(errors = outcome.errors.join("; "), "the reload was refused; nothing changed"),
            }
            // A request for it is recorded with what it was answered.
            if by.is_none() {
                agent.note("config_reload", outcome.words(), outcome.metadata());
            }
            outcome
        })
    })
}

/// Says where the agent is: to a person on stderr, to a program in one JSON line on stdout.
fn announce(
    arguments: &Arguments,
    settings: &Settings,
    agent: &Agent,
    address: &Address,
    secret: Option<&FirstSecret>,
    quick_start: bool,
    addresses: &[(Arc<str>, String)],
) -> Result<(), StartError> {
    let scheme = if settings.api.tls.is_some() { "https" } else { "http" };
    let url = match address {
        Address::Tcp { .. } => format!("{scheme}://{address}{}", settings.api.base_path),
        Address::Unix(_) => address.to_string(),
    };
    let mint = |secret: &FirstSecret| api::mint(&secret.secret, "admin", Role::Admin, &Terms::default(), LOGIN_TTL);
    // Who has opened the page once has no need to find another key to it in the log.
    let token = secret.filter(|secret| secret.is_new).map(mint).transpose().map_err(StartError::new)?;
    if arguments.ephemeral {
        let ingest =
            addresses.iter().map(|(_, address)| address.as_str()).find(|address| !address.starts_with("unix:"));
        let line = serde_json::json!({ "api": url, "ingest": ingest, "token": token });
        println!("{line}");
        return Ok(());
    }
    let cannot = |error| StartError::new(format!("cannot write the address to the data folder: {error}"));
    if let Some(tls) = &settings.api.tls {
        std::fs::copy(&tls.cert, agent.data_dir.join(CERTIFICATE_FILE)).map_err(cannot)?;
    }
    std::fs::write(agent.data_dir.join(ADDRESS_FILE), format!("{url}\n")).map_err(cannot)?;
    let link = token.map(|token| super::token::link(&url, &token)).filter(|_| matches!(address, Address::Tcp { .. }));
    if quick_start {
        eprint!("{}", super::welcome::text(&url, link.as_deref(), &agent.data_dir, addresses));
    } else {
        tracing::info!(api = url, "the agent is ready");
        if let Some(link) = link {
            eprintln!(
                "\nOpen the page, good for 8 hours: {link}\nLater: weir token --user admin --role admin --link\n"
            );
        }
    }
    Ok(())
}

impl Running {
    async fn until_stopped(self, mut watch: Option<Watch>, signals: Signals) -> ExitCode {
        let Signals { mut terminate, mut interrupt, mut hangup } = signals;
        let reason = loop {
            tokio::select! {
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hangup.recv() => drop((self.reload)(None).await),
                () = changed(&mut watch) => drop((self.reload)(None).await),
                () = self.agent.finished() => break "all sources have ended",
            }
        };
        notify::stopping();
        let begun = Instant::now();
        tracing::info!(reason, "stopping");
        self.shutdown.cancel();
        let stop = async {
            let stopped = self.agent.stop().await;
            if let Some(api) = self.api {
                // Streams end with the shutdown; nothing they hold is lost.
                let _ = tokio::time::timeout(Duration::from_secs(2), api).await;
            }
            stopped
        };
        // `timeout` of coreutils and some shells signal the process and its group, which is one signal to those who sent it.
        let second = async {
            let asked = Instant::now();
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if asked.elapsed() >= SECOND_SIGNAL {
                    return;
                }
            }
        };
        tokio::select! {
            stopped = stop => match stopped.abandoned {
                0 => {
                    tracing::info!(seconds = begun.elapsed().as_secs_f64(), "stopped");
                    ExitCode::SUCCESS
                }
                count => super::complain(format!("{count} events in memory were abandoned")),
            },
            () = second => super::complain("stopped immediately by a second signal"),
        }
    }
}

/// The signals that the agent obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Resolves when a file that is watched has changed.
async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Notices when a configuration file changes, by content, so that replaced links and same-second edits count.
struct Watch {
    configuration: Configuration,
    seen: Option<[u8; 32]>,
}

impl Watch {
    fn new(arguments: &Arguments) -> Watch {
        let configuration = arguments.configuration.clone();
        let seen = configuration.digest();
        Watch { configuration, seen: Some(seen) }
    }

    async fn changed(&mut self) {
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            let now = self.configuration.digest();
            if self.seen.replace(now) != Some(now) {
                return;
            }
        }
    }
}
