//! A running sink: its cursor, its delivery loop, and its channel for replays.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
use crate::component::SinkContext;
use crate::config::PlannedSink;
use crate::config::settings::OnRemove;
use crate::delivery::{Delivery, Filter, MAX_REPLAYS, Replay};
use crate::event::Raw;
use crate::journal::Journal;
use crate::journal::dead_letters::DeadLetter;
use crate::query::Query;
use crate::telemetry::{ComponentKind, ComponentMetrics, ComponentState, ParkedEnds, panics};

pub struct RunningSink {
    pub name: Arc<str>,
    pub on_remove: Option<OnRemove>,
    /// The names of the streams that it reads.
    pub streams: Vec<String>,
    /// Which of their events it takes.
    pub filter: Option<Arc<Query>>,
    replays: mpsc::Sender<Replay>,
    metrics: Arc<ComponentMetrics>,
    dropped: Arc<Notify>,
    stop: CancellationToken,
    kill: CancellationToken,
    task: JoinHandle<()>,
}

/// Which events of a record match a sink's `where`. An event over which the query panics is delivered rather than lost.
fn wanted(query: Arc<Query>) -> Filter {
    Box::new(move |record| {
        let matches =
            |event| panics::contain(|| query.matches_line(Raw::valid(record.lines.line(event)))).unwrap_or(true);
        (0..record.lines.len()).map(matches).collect()
    })
}

/// What is needed to send a dead letter to a sink again.
pub struct SinkHandle(mpsc::Sender<Replay>);

/// What a sink waits for before it begins: the same cursor has one owner.
pub enum Predecessor {
    Running(Box<RunningSink>),
    /// A removed sink that is on its way out.
    Leaving(JoinHandle<()>),
}

impl Predecessor {
    /// Asks it to begin no new write.
    pub fn close(&self) {
        if let Predecessor::Running(sink) = self {
            sink.close();
        }
    }

    async fn end(self, deadline: Instant, hurry: &CancellationToken) {
        match self {
            Predecessor::Running(sink) => sink.end(deadline, hurry).await,
            Predecessor::Leaving(task) => {
                if task.await.is_err() {
                    tracing::error!("a bug in weir: removing a sink panicked");
                }
            }
        }
    }
}

impl RunningSink {
    /// Feeds a sink whose cursor is wired already, once its predecessor has ended; `discards` lets go of what the
    /// cursor has not passed yet, whatever it reads.
    pub fn start(
        agent: &Agent,
        planned: PlannedSink,
        names: Vec<String>,
        predecessor: Option<Predecessor>,
        discards: bool,
    ) -> RunningSink {
        let PlannedSink { name, type_name, frame, filter, sink, .. } = planned;
        let filter = filter.map(Arc::new);
        let metrics = agent.accounting.open(&name, ComponentKind::Sink, type_name);
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
            left: None,
            position: 0,
            dry: false,
            stores: agent.stores.clone(),
        };
        let read = &agent.settings.api.read;
        agent.readers.set(&name, sink.readable(), sink.reader(&cx, &read.options()));
        let journal = agent.context.journal.clone();
        let streams = names.clone();
        let owed = Owed { name: name.clone(), names, on_remove: frame.on_remove, discards };
        let bound = frame.buffer.bound();
        let deadline = Instant::now() + Duration::from(agent.settings.limits.shutdown_timeout);
        let begin = {
            let (policy, filter, metrics) = (frame.policy(), filter.clone().map(wanted), metrics.clone());
            let (dead_letters, parks) = (agent.context.dead_letters.clone(), agent.is_durable());
            let (dropped, stop, kill) = (dropped.clone(), stop.clone(), kill.clone());
            let memory = agent.delivery_memory.clone();
            async move {
                if let Some(predecessor) = predecessor {
                    predecessor.end(deadline, &kill).await;
                }
                owed.settle(&journal);
                if let Some(from) = sink.lost_from(&cx).await {
                    go_back(&journal, &owed.name, from).await;
                }
                let cursor = journal.open_cursor(&owed.name, bound).map_err(|error| error.to_string())?;
                let (feed, config, replays) = ((journal, cursor), sink.into(), inbox);
                let delivery = Delivery {
                    feed,
                    config,
                    cx,
                    policy,
                    filter,
                    metrics,
                    dead_letters,
                    replays,
                    memory,
                    parks,
                    dropped,
                    stop,
                    kill,
                };
                delivery.run().await;
                Ok(())
            }
        };
        let watched = metrics.clone();
        let task = tokio::spawn(async move {
            let error = match AssertUnwindSafe(begin).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err::<(), String>(error)) => error,
                Err(panic) => format!("a bug in weir: delivery panicked: {}", panics::message(&*panic)),
            };
            tracing::error!(sink = %watched.name, error, "the sink is not running; restart the agent");
            watched.error(error);
            watched.enter(ComponentState::Held);
        });
        RunningSink { name, on_remove: frame.on_remove, streams, filter, replays, metrics, dropped, stop, kill, task }
    }

    /// Events that it has still to end, parked ones included.
    pub fn waiting(&self, journal: &Journal) -> u64 {
        // In this order: what the cursor has passed is among the parked by then.
        let behind = journal.cursor_info(&self.name).map_or(0, |cursor| cursor.waiting_events);
        behind + self.metrics.snapshot().parked
    }

    /// An operator dropped parked dead letters; this is how all of them have ended so far.
    pub fn dropped(&self, ends: ParkedEnds) {
        self.metrics.update(|counts| counts.end_parked(ends));
        self.dropped.notify_one();
    }

    pub fn handle(&self) -> SinkHandle {
        SinkHandle(self.replays.clone())
    }

    /// Asks it to begin no new write.
    pub fn close(&self) {
        self.stop.cancel();
    }

    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Lets writes in flight end, until the deadline or a second signal.
    pub async fn end(mut self, deadline: Instant, hurry: &CancellationToken) {
        self.close();
        tokio::select! {
            _ = &mut self.task => return,
            () = tokio::time::sleep_until(deadline) => {}
            () = hurry.cancelled() => {}
        }
        self.kill.cancel();
        if (&mut self.task).await.is_err() {
            tracing::error!(sink = %self.name, "a bug in weir: the delivery loop panicked");
        }
    }
}

/// Has a sink deliver again what its target has lost of what was delivered, as far as the journal has it.
async fn go_back(journal: &Journal, sink: &Arc<str>, from: u64) {
    let Some(cursor) = journal.cursor_info(sink).filter(|cursor| from < cursor.settled) else { return };
    let (moving, name) = (journal.clone(), sink.clone());
    let moved = tokio::task::spawn_blocking(move || moving.move_cursor(&name, from, None)).await;
    let up_to = cursor.settled - 1;
    match moved.map_err(|panic| panic.to_string()).and_then(|moved| moved.map_err(|error| error.to_string())) {
        Ok(Some(at)) => {
            let again = journal.cursor_info(sink).map_or(0, |cursor| cursor.waiting_events);
            tracing::error!(%sink, from, up_to, again, "events that were delivered are damaged in the target: what the journal still has is delivered again");
            if at > from {
                tracing::error!(%sink, from, up_to = at - 1, "the journal does not have these any more: they are lost");
            }
        }
        Ok(None) => {}
        Err(error) => {
            tracing::error!(%sink, from, up_to, error, "events that were delivered are damaged in the target, and cannot be delivered again")
        }
    }
}

/// What a sink owes to streams that it would not read by its present inputs.
struct Owed {
    name: Arc<str>,
    names: Vec<String>,
    on_remove: Option<OnRemove>,
    discards: bool,
}

impl Owed {
    /// Says what comes first, or lets it go if that is what the operator wants.
    fn settle(&self, journal: &Journal) {
        let mine: Vec<_> = self.names.iter().flat_map(|name| journal.streams_named(name)).collect();
        let keep: &[_] = if self.discards { &[] } else { &mine };
        let sink = &*self.name;
        if self.discards || self.on_remove == Some(OnRemove::Drop) {
            let events = journal.discard_all_but(sink, keep);
            if events > 0 {
                tracing::warn!(sink, events, "waiting events were dropped, as `on_remove: drop` says");
            }
            return;
        }
        let events = journal.waiting_beyond(sink, &mine);
        if events > 0 && !self.names.is_empty() {
            tracing::info!(sink, events, "the sink first delivers what its earlier inputs hold");
        }
    }
}

impl SinkHandle {
    /// Has the dead letter written; it is the caller's to remove then.
    pub async fn replay(&self, dead_letter: DeadLetter) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.0
            .try_send(Replay { dead_letter, reply })
            .map_err(|_| "too many pending replays for this sink; try again later")?;
        answer.await.map_err(|_| "the sink has stopped".to_owned())?
    }
}
