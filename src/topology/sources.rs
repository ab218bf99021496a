//! A running source: started after its predecessor, and restarted after a failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::agent::StartError;
use super::intake::SourceIntake;
use crate::component::{AnySource, Prepared, SourceContext};
use crate::net::Sockets;
use crate::telemetry::panics;

/// How long a source may take until it listens or reads.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before a source that has failed is begun again; doubled up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A source that ran for so long has recovered.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// A source that may run, with what it takes hold of.
pub struct PreparedSource {
    pub name: Arc<str>,
    pub type_name: &'static str,
    pub source: Arc<dyn AnySource>,
    pub prepared: Prepared,
}

pub struct RunningSource {
    pub name: Arc<str>,
    pub intake: SourceIntake,
    shutdown: CancellationToken,
    /// It has come to its end by itself: nothing more will follow.
    finished: Arc<AtomicBool>,
    failure: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

/// What all sources of an agent have in common.
#[derive(Clone)]
pub struct SourceResources {
    pub agent: Arc<str>,
    pub durable: bool,
    pub sockets: Arc<Sockets>,
    /// Cancelled when the agent stops.
    pub stopping: CancellationToken,
    /// How long a predecessor gets.
    pub patience: Duration,
}

impl RunningSource {
    /// Runs a source. One that resumes from its positions begins once its predecessor and everything that it has
    /// submitted have ended; any other one at once.
    pub fn start(
        source: PreparedSource,
        intake: SourceIntake,
        resources: SourceResources,
        predecessor: Option<RunningSource>,
    ) -> RunningSource {
        let shutdown = CancellationToken::new();
        let cx = SourceContext {
            name: intake.name().clone(),
            agent: resources.agent.clone(),
            intake: Arc::new(intake.clone()),
            shutdown: shutdown.clone(),
            stopping: resources.stopping.clone(),
            event_bytes: intake.event_bytes(),
            durable: resources.durable,
        };
        let (failures, failure) = watch::channel(None);
        let finished = Arc::new(AtomicBool::new(false));
        let supervisor = Supervisor { cx, sockets: resources.sockets, intake: intake.clone(), failures };
        let deadline = Instant::now() + resources.patience;
        if let Some(predecessor) = predecessor.as_ref().filter(|_| !source.source.resumes()) {
            predecessor.close();
        }
        let (has_finished, resumes) = (finished.clone(), source.source.resumes());
        let task = tokio::spawn(async move {
            match predecessor {
                Some(predecessor) if resumes => predecessor.stop(deadline).await,
                Some(predecessor) => drop(tokio::spawn(predecessor.stop(deadline))),
                None => {}
            }
            if supervisor.run(source).await {
                has_finished.store(true, Ordering::Release);
            }
        });
        RunningSource { name: intake.name().clone(), intake, shutdown, finished, failure, task }
    }

    /// Waits until the source listens or reads, or has read everything; what keeps it from that is the error.
    pub async fn until_ready(&mut self) -> Result<(), StartError> {
        let mut ready = self.intake.readiness();
        let error = |text: &dyn std::fmt::Display| Err(StartError::new(format!("sources.{}: {text}", self.name)));
        tokio::select! {
            biased;
            seen = ready.wait_for(|ready| *ready) => match seen {
                Ok(_) => Ok(()),
                Err(_) => error(&"it ended unexpectedly"),
            },
            failed = self.failure.wait_for(Option::is_some) => match failed {
                Ok(message) => error(&message.as_deref().unwrap_or("it has failed")),
                // A short input may be read to its end before anybody looks.
                Err(_) => Ok(()),
            },
            () = tokio::time::sleep(START_TIMEOUT) => {
                error(&format_args!("not ready after {} s", START_TIMEOUT.as_secs()))
            }
        }
    }

    /// Whether it has come to its end by itself. One that has failed has not.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Asks it to take nothing more.
    pub fn close(&self) {
        self.shutdown.cancel();
    }

    /// Asks it to take nothing more and waits until it and what it has submitted have ended, but not beyond the
    /// deadline.
    pub async fn stop(mut self, deadline: Instant) {
        self.close();
        if tokio::time::timeout_at(deadline, &mut self.task).await.is_err() {
            tracing::warn!(source = %self.name, "the source did not stop in time and was aborted");
            self.task.abort();
        }
        if tokio::time::timeout_at(deadline, self.intake.idle()).await.is_err() {
            tracing::warn!(source = %self.name, "the source's events were not finished in time");
        }
    }
}

struct Supervisor {
    cx: SourceContext,
    sockets: Arc<Sockets>,
    intake: SourceIntake,
    failures: watch::Sender<Option<String>>,
}

impl Supervisor {
    /// Runs the source, again and again if it fails; whether it has come to its end by itself.
    async fn run(self, source: PreparedSource) -> bool {
        let PreparedSource { source, prepared, .. } = source;
        let (mut prepared, mut pause) = (Some(prepared), FIRST_PAUSE);
        loop {
            let began = Instant::now();
            let error = match self.attempt(&source, prepared.take()).await {
                Ok(()) => {
                    self.intake.stopped();
                    return !self.cx.shutdown.is_cancelled();
                }
                Err(error) => error,
            };
            self.intake.failed(&error);
            self.failures.send_replace(Some(error));
            if began.elapsed() > RECOVERED_AFTER {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = self.cx.shutdown.cancelled() => {
                    self.intake.stopped();
                    return false;
                }
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, source: &Arc<dyn AnySource>, prepared: Option<Prepared>) -> Result<(), String> {
        let run = async {
            let prepared = match prepared {
                Some(prepared) => prepared,
                None => source.prepare(&self.sockets).await?,
            };
            source.clone().run(prepared, self.cx.clone()).await
        };
        match std::panic::AssertUnwindSafe(run).catch_unwind().await {
            Ok(ended) => ended.map_err(|error| error.0),
            Err(panic) => Err(format!("a bug in weir: it panicked: {}", panics::message(&*panic))),
        }
    }
}
