//! Sinks that are in no plan any more: their waiting events are drained or dropped as `on_remove` says, then their
//! cursors are removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Running};
use super::sinks::RunningSink;
use crate::component::Readable;
use crate::config::PlannedSink;
use crate::config::settings::OnRemove;
use crate::telemetry::{ComponentKind, ComponentState};

/// How often it is looked whether a removed sink has nothing left to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A removed sink.
pub(super) enum Retired {
    /// It delivers what waits for it, or is about to be dropped.
    Finishing(Box<RunningSink>),
    /// It ends; then its cursor goes, unless the name is in a plan again. Whether what it has not delivered is let go.
    Leaving(JoinHandle<()>, bool),
}

/// What a cursor without a sink is called where components are listed.
const ORPHAN_TYPE: &str = "removed";

impl Agent {
    /// Looks after removed sinks for as long as the agent runs.
    pub(super) async fn watch_retired(self: Arc<Agent>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let mut running = self.running.lock().await;
            self.look_after_leaving_stages(&mut running);
            self.forget_texts(&mut running);
            let done: Vec<Arc<str>> = running
                .retired
                .iter()
                .filter(|(_, retired)| match retired {
                    Retired::Finishing(sink) => self.has_nothing_left(&running, sink),
                    Retired::Leaving(task, _) => task.is_finished(),
                })
                .map(|(name, _)| name.clone())
                .collect();
            for name in done {
                match running.retired.remove(&name) {
                    Some(Retired::Finishing(sink)) => self.leave(&mut running, name, sink),
                    Some(Retired::Leaving(..)) | None => {}
                }
            }
        }
    }

    fn has_nothing_left(&self, running: &Running, sink: &RunningSink) -> bool {
        // What was submitted before the change may still come for it.
        let may_come = running.flows.iter().filter(|flow| flow.strong_count() > 0).count()
            > running.sources.len() + 1 + running.stages.len();
        sink.on_remove == Some(OnRemove::Drop)
            || sink.is_finished()
            || (!may_come && sink.waiting(&self.context.journal) == 0)
    }

    fn leave(self: &Arc<Agent>, running: &mut Running, name: Arc<str>, sink: Box<RunningSink>) {
        let discards = sink.on_remove == Some(OnRemove::Drop);
        let (agent, deadline) = (self.clone(), self.deadline());
        sink.close();
        let task = tokio::spawn({
            let name = name.clone();
            async move {
                sink.end(deadline, &CancellationToken::new()).await;
                agent.forget(&name, discards).await;
            }
        });
        running.retired.insert(name, Retired::Leaving(task, discards));
    }

    /// Forgets the cursor of a removed sink, unless a plan has the name again, or something waits that is not to be
    /// let go.
    async fn forget(&self, name: &Arc<str>, discards: bool) {
        let mut running = self.running.lock().await;
        if running.sinks.contains_key(name) || running.claimed.contains(name) || running.stopping {
            return;
        }
        let journal = &self.context.journal;
        if discards {
            let events = journal.discard_all_but(name, &[]);
            if events > 0 {
                tracing::warn!(sink = %name, events, "the sink was removed; its waiting events were dropped");
            }
            if let Err(error) = self.context.dead_letters.clear(name).await {
                tracing::error!(sink = %name, %error, "cannot remove the parked events of a removed sink");
            }
        }
        let waiting = journal.cursor_info(name).map_or(0, |cursor| cursor.waiting_events);
        if waiting > 0 {
            self.adopt_orphan(&mut running, name, waiting);
            return;
        }
        journal.drop_cursor(name);
        self.accounting.close(name, ComponentKind::Sink);
        self.readers.set(name, Readable::Never, None);
        tracing::info!(sink = %name, "the sink was removed");
    }

    /// Looks at the cursors that no sink of the plan moves: empty ones go, and what waits is delivered, dropped, or
    /// held where everybody can see it.
    pub(super) async fn settle_orphans(&self, running: &mut Running, parked: &BTreeMap<String, u64>) {
        let journal = self.context.journal.clone();
        for cursor in journal.cursors() {
            let name = cursor.name;
            if let Some(stage) = name.strip_suffix(":in") {
                if !running.stages.contains_key(stage) && !running.leaving_stages.contains_key(stage) {
                    self.settle_orphan_stage(stage);
                }
                continue;
            }
            if running.sinks.contains_key(&name) || running.retired.contains_key(&name) {
                continue;
            }
            let parked = parked.get(&*name).copied().unwrap_or(0);
            let waiting = cursor.waiting_events + parked;
            if waiting == 0 {
                if journal.drop_cursor(&name) {
                    tracing::info!(sink = %name, "the cursor of a removed sink was deleted");
                }
                continue;
            }
            self.adopt_orphan(running, &name, waiting);
        }
    }

    /// Shows a cursor that waits for the operator to decide.
    fn adopt_orphan(&self, running: &mut Running, name: &Arc<str>, waiting: u64) {
        let message = format!(
            "{waiting} events wait for this sink, which is no longer configured: bring it back, with `on_remove: \
             drain` or `on_remove: drop` if it shall go, or stop the agent and let them go with `weir journal cursors \
             drop {name}`"
        );
        tracing::warn!(sink = %name, waiting, "{message}");
        let metrics = self.accounting.open(name, ComponentKind::Sink, ORPHAN_TYPE);
        metrics.enter(ComponentState::Held);
        metrics.error(message);
        running.orphans.insert(name.clone());
    }

    /// A sink that left the plan delivers what it owes, as it was last configured.
    pub(super) fn go_on_draining(self: &Arc<Agent>, running: &mut Running, sink: PlannedSink) {
        let name = sink.name.clone();
        let Some(cursor) = self.context.journal.cursor_info(&name) else {
            running.snapshots.sinks.remove(&*name);
            return;
        };
        let waiting = cursor.waiting_events;
        let discards = sink.frame.on_remove == Some(OnRemove::Drop);
        tracing::warn!(
            sink = %name, waiting,
            "the sink is no longer configured; its waiting events are {}",
            if discards { "dropped, as its `on_remove: drop` said" } else { "delivered first, as its `on_remove: drain` said" }
        );
        if let Err(error) = self.context.journal.wire_cursor(&name, &[], sink.frame.start.into()) {
            tracing::error!(sink = %name, %error, "the cursor of a removed sink cannot be read");
            return;
        }
        let started = RunningSink::start(self, sink, Vec::new(), None, discards);
        running.retired.insert(name, Retired::Finishing(Box::new(started)));
    }
}
