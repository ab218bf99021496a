//! A source while it runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::agent::StartError;
use super::intake::SourceIntake;
use crate::component::{AnySource, Fatal, SourceContext};

/// How long a source may take until it listens or reads.
const START_TIMEOUT: Duration = Duration::from_secs(10);

pub struct RunningSource {
    pub name: Arc<str>,
    pub intake: SourceIntake,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Fatal>>,
}

impl RunningSource {
    pub fn start(source: Box<dyn AnySource>, intake: SourceIntake, agent: &Arc<str>, durable: bool) -> RunningSource {
        let shutdown = CancellationToken::new();
        let cx = SourceContext {
            name: intake.name().clone(),
            agent: agent.clone(),
            intake: Arc::new(intake.clone()),
            shutdown: shutdown.clone(),
            event_bytes: intake.event_bytes(),
            durable,
        };
        let watched = intake.clone();
        let task = tokio::spawn(async move {
            let ended = source.run(cx).await;
            if let Err(error) = &ended {
                watched.failed(&error.0);
            }
            ended
        });
        RunningSource { name: intake.name().clone(), intake, shutdown, task }
    }

    /// Waits until the source listens or reads; what keeps it from that is the error.
    pub async fn until_ready(&mut self) -> Result<(), StartError> {
        let mut ready = self.intake.readiness();
        let name = self.name.clone();
        tokio::select! {
            biased;
            ended = &mut self.task => {
                let ended = ended.unwrap_or_else(|error| Err(Fatal(format!("it panicked: {error}"))));
                // A short input may be read to its end before anybody looks.
                let result = ended.map_err(|error| StartError::new(format!("sources.{name}: {error}")));
                self.task = tokio::spawn(async { Ok(()) });
                result
            }
            seen = ready.wait_for(|ready| *ready) => {
                seen.map(drop).map_err(|_| StartError::new(format!("sources.{name}: it has gone away")))
            }
            () = tokio::time::sleep(START_TIMEOUT) => {
                Err(StartError::new(format!("sources.{name}: not ready after {} s", START_TIMEOUT.as_secs())))
            }
        }
    }

    /// Whether it has come to its end by itself.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Asks it to take nothing more and waits, but not longer than `patience`.
    pub async fn stop(mut self, patience: Duration) {
        self.shutdown.cancel();
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            tracing::warn!(source = %self.name, "the source did not stop in time; it is cut off");
            self.task.abort();
        }
        self.intake.stopped();
    }
}
