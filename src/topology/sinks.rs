//! A sink while it runs: its cursor, its delivery loop, and the door for replays.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, StartError};
use super::wiring::Streams;
use crate::component::SinkContext;
use crate::config::PlannedSink;
use crate::config::settings::OnRemove;
use crate::delivery::{Delivery, Filter, MAX_REPLAYS, Replay};
use crate::event::Raw;
use crate::journal::Journal;
use crate::journal::dead_letters::DeadLetter;
use crate::query::Query;
use crate::telemetry::{ComponentKind, ComponentMetrics, panics};

pub struct RunningSink {
    pub name: Arc<str>,
    pub on_remove: Option<OnRemove>,
    replays: mpsc::Sender<Replay>,
    ledger: Arc<ComponentMetrics>,
    dropped: Arc<Notify>,
    stop: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

/// Which events of a record match a sink's `where`. An event over which the query panics is delivered rather than lost.
fn wanted(query: Query) -> Filter {
    Box::new(move |record| {
        let matches =
            |event| panics::contain(|| query.matches_line(Raw::valid(record.lines.line(event)))).unwrap_or(true);
        (0..record.lines.len()).map(matches).collect()
    })
}

/// What is needed to send a letter to a sink again.
pub struct SinkHandle(mpsc::Sender<Replay>);

impl RunningSink {
    pub fn start(agent: &Agent, planned: PlannedSink, streams: &Streams) -> Result<RunningSink, StartError> {
        let PlannedSink { name, type_name, inputs, frame, filter, sink, .. } = planned;
        let failed = |error: &dyn std::fmt::Display| StartError::new(format!("sinks.{name}: {error}"));
        let bound = frame.buffer.bound();
        let streams = streams.of(&inputs);
        let cursor =
            agent.commons.journal.cursor(&name, &streams, frame.start.into(), bound).map_err(|e| failed(&e))?;
        let ledger = agent.books.open(&name, ComponentKind::Sink, type_name);
        let (replays, inbox) = mpsc::channel(MAX_REPLAYS);
        let dropped = Arc::new(Notify::new());
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let cx = SinkContext {
            name: name.clone(),
            agent: agent.name.clone(),
            data_dir: agent.data_dir.clone(),
            timeout: frame.timeout.into(),
            tls: frame.tls.clone().unwrap_or_default(),
            encrypted: frame.tls.is_some(),
            proxy: frame.proxy.clone(),
            memory: None,
            position: 0,
            dry: false,
            stores: agent.stores.clone(),
        };
        let delivery = Delivery {
            feed: (agent.commons.journal.clone(), cursor),
            config: sink.into(),
            cx,
            policy: frame.policy(),
            filter: filter.map(wanted),
            ledger: ledger.clone(),
            dead_letters: agent.commons.dead_letters.clone(),
            replays: inbox,
            parks: agent.is_durable(),
            dropped: dropped.clone(),
            stop: stop.clone(),
            kill: kill.clone(),
        };
        let task = tokio::spawn(delivery.run());
        Ok(RunningSink { name, on_remove: frame.on_remove, replays, ledger, dropped, stop, kill, task })
    }

    /// Events that it has still to end, parked ones included.
    pub fn waiting(&self, journal: &Journal) -> u64 {
        // In this order: what the cursor has passed is among the parked by then.
        let behind = journal.cursor_info(&self.name).map_or(0, |cursor| cursor.waiting_events);
        behind + self.ledger.snapshot().parked
    }

    /// A parked letter was dropped by somebody.
    pub fn dropped(&self) {
        self.ledger.update(|counts| {
            if counts.parked == 0 {
                // The cursor has not passed it yet; the loop counts it once it finds nothing.
                return;
            }
            (counts.parked, counts.waiting) = (counts.parked - 1, counts.waiting.saturating_sub(1));
            *counts.dropped.entry("dlq").or_default() += 1;
        });
        self.dropped.notify_one();
    }

    pub fn handle(&self) -> SinkHandle {
        SinkHandle(self.replays.clone())
    }

    /// Lets writes on their way end, for so long at most.
    pub async fn stop(mut self, patience: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            self.kill.cancel();
            if (&mut self.task).await.is_err() {
                tracing::error!(sink = %self.name, "the delivery loop has panicked");
            }
        }
    }

    /// For a sink that is not configured any more: its waiting events go the way `on_remove` says, then its cursor.
    pub async fn retire(self, agent: &Arc<Agent>) {
        let agent = agent.clone();
        let name = self.name.clone();
        let retire = async move {
            while self.on_remove == Some(OnRemove::Drain)
                && self.waiting(&agent.commons.journal) > 0
                && !self.task.is_finished()
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let lets_go = self.on_remove == Some(OnRemove::Drop);
            self.stop(agent.settings.limits.shutdown_timeout.into()).await;
            if lets_go && let Err(error) = agent.commons.dead_letters.clear(&name).await {
                tracing::error!(sink = %name, %error, "what is parked for a removed sink could not be removed");
            }
            match agent.commons.journal.drop_cursor(&name) {
                Ok(_) => agent.books.close(&name, ComponentKind::Sink),
                Err(error) => {
                    tracing::error!(sink = %name, %error, "the cursor of a removed sink could not be removed")
                }
            }
        };
        tokio::spawn(retire);
    }
}

impl SinkHandle {
    /// Has the letter written; it is the caller's to remove then.
    pub async fn replay(&self, letter: DeadLetter) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.0
            .try_send(Replay { letter, reply })
            .map_err(|_| "too many replays wait for this sink; try again later")?;
        answer.await.map_err(|_| "the sink has stopped".to_owned())?
    }
}
