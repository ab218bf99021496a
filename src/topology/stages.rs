//! A running stage: its cursor, its loop, and the flow behind it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::agent::Agent;
use super::flow::Flow;
use super::intake::{IntakeContext, redacted};
use super::wiring::Step;
use crate::component::{AnyStage, Bounds};
use crate::config::settings::{OnRemove, StageFrame};
use crate::event::{Batch, Seed};
use crate::journal::Journal;
use crate::journal::dead_letters::NewDeadLetter;
use crate::stages::{self, Downstream, Followed, Outlet, StageLoop, StageStop};
use crate::telemetry::{ComponentKind, ComponentState, panics};
use crate::units::Timestamp;

/// The same of `journal.max_bytes`: every segment keeps room to state all of it again.
const JOURNAL_SHARE: u64 = 64;

pub struct RunningStage {
    pub name: Arc<str>,
    pub on_remove: Option<OnRemove>,
    /// The transforms that follow it.
    feeds: Vec<Arc<str>>,
    stage: Arc<dyn AnyStage>,
    outlet: Arc<Outlet>,
    stop: StageStop,
    task: JoinHandle<()>,
}

impl RunningStage {
    /// Starts a stage whose cursor is wired already, once its predecessor has ended.
    pub fn start(
        agent: &Agent,
        step: &Step,
        flow: Arc<Flow>,
        predecessor: Option<RunningStage>,
    ) -> Option<RunningStage> {
        let stage = step.transform.stage()?.clone();
        let frame = step.frame.clone().unwrap_or_default();
        let (name, context) = (step.name.clone(), agent.context.clone());
        let metrics = agent.accounting.open(&name, ComponentKind::Transform, step.type_name);
        let feeds = names(&flow);
        let outlet = Arc::new(Outlet::new(Arc::new(Behind { name: name.clone(), flow, context: context.clone() })));
        let stop = StageStop::default();
        let bounds = bounds(agent, &frame);
        let memory = agent.state_memory.join();
        if let Some(predecessor) = &predecessor {
            predecessor.make_way(&*stage);
        }
        let begin = {
            let (name, stage, outlet, stop, metrics) =
                (name.clone(), stage.clone(), outlet.clone(), stop.clone(), metrics.clone());
            async move {
                let journal = context.journal.clone();
                if let Some(predecessor) = predecessor {
                    predecessor.give_way(&*stage, &journal).await;
                }
                let cursor =
                    journal.open_cursor(&stages::input_name(&name), None).map_err(|error| error.to_string())?;
                let dead_letters = context.dead_letters.clone();
                let evicting = false;
                StageLoop {
                    name,
                    stage,
                    bounds,
                    memory,
                    journal,
                    cursor,
                    outlet,
                    metrics,
                    dead_letters,
                    stop,
                    evicting,
                }
                .run()
                .await;
                Ok(())
            }
        };
        // On a thread of its own: its steps, and what follows them, are work and not waiting.
        let runtime = agent.context.runtime.clone();
        let task = tokio::task::spawn_blocking(move || {
            let error = match runtime.block_on(AssertUnwindSafe(begin).catch_unwind()) {
                Ok(Ok(())) => return,
                Ok(Err::<(), String>(error)) => error,
                Err(panic) => format!("a bug in weir: a transform panicked: {}", panics::message(&*panic)),
            };
            tracing::error!(transform = %metrics.name, error, "the transform is not running; restart the agent");
            metrics.error(error);
            metrics.enter(ComponentState::Held);
        });
        Some(RunningStage { name, on_remove: frame.on_remove, feeds, stage, outlet, stop, task })
    }

    /// What it emits from now on goes through this flow.
    pub fn exchange(&mut self, flow: Arc<Flow>, context: &Arc<IntakeContext>) {
        self.feeds = names(&flow);
        self.outlet.exchange(Arc::new(Behind { name: self.name.clone(), flow, context: context.clone() }));
    }

    /// Events that wait for it.
    pub fn waiting(&self, journal: &Journal) -> u64 {
        waiting(journal, &self.name)
    }

    /// Events that wait for it, or that it holds.
    pub fn owed(&self, journal: &Journal) -> u64 {
        self.waiting(journal) + stages::held(journal, &self.name, Some(&*self.stage))
    }

    /// Asks it to begin no new step.
    pub fn close(&self) {
        self.stop.stop.cancel();
    }

    /// Asks it to take what waits, to emit what it holds, and to end.
    pub fn release(&self) {
        self.stop.release.cancel();
        self.stop.stop.cancel();
    }

    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    pub fn type_name(&self) -> &'static str {
        self.stage.type_name()
    }

    /// The transforms that follow it.
    pub fn followers(&self) -> &[Arc<str>] {
        &self.feeds
    }

    /// Whether its output reaches this transform.
    pub fn feeds(&self, transform: &str) -> bool {
        self.feeds.iter().any(|fed| **fed == *transform)
    }

    /// Asks it to end for this successor, which cannot use the state of another type.
    fn make_way(&self, successor: &dyn AnyStage) {
        match self.type_name() == successor.type_name() || self.on_remove == Some(OnRemove::Drop) {
            true => self.close(),
            false => {
                tracing::info!(
                    transform = %self.name, from = self.type_name(), to = successor.type_name(),
                    "the transform has another type now; what the earlier one holds is given first"
                );
                self.release();
            }
        }
    }

    async fn give_way(self, successor: &dyn AnyStage, journal: &Journal) {
        let drops = self.on_remove == Some(OnRemove::Drop) && self.type_name() != successor.type_name();
        let (name, stage) = (self.name.clone(), self.stage.clone());
        self.ended().await;
        if drops {
            let events = stages::held(journal, &name, Some(&*stage));
            journal.forget_state(&stages::input_name(&name));
            tracing::warn!(transform = %name, events, "the transform's type changed; its held events were dropped");
        }
    }

    async fn ended(self) {
        if self.task.await.is_err() {
            tracing::error!(transform = %self.name, "a bug in weir: a transform panicked");
        }
    }

    /// Lets the step that it is in end, until the deadline.
    pub async fn end(self, deadline: Instant) {
        self.close();
        let name = self.name.clone();
        if tokio::time::timeout_at(deadline, self.ended()).await.is_err() {
            tracing::warn!(transform = %name, "a transform did not end in time");
        }
    }
}

fn names(flow: &Flow) -> Vec<Arc<str>> {
    flow.nodes.iter().map(|node| node.name.clone()).collect()
}

/// Events that wait for a stage, running or not.
pub fn waiting(journal: &Journal, stage: &str) -> u64 {
    journal.cursor_info(&stages::input_name(stage).into()).map_or(0, |cursor| cursor.waiting_events)
}

fn bounds(agent: &Agent, frame: &StageFrame) -> Bounds {
    let journal = match agent.is_durable() {
        true => agent.settings.journal.max_bytes.bytes() / JOURNAL_SHARE,
        false => u64::MAX,
    };
    let bytes = frame.state.bytes.bytes().min(journal) as usize;
    Bounds { entries: frame.state.entries.get() as usize, bytes }
}

/// What follows a stage by the plan that runs.
struct Behind {
    name: Arc<str>,
    flow: Arc<Flow>,
    context: Arc<IntakeContext>,
}

impl Downstream for Behind {
    fn run(&self, emitted: Vec<(usize, Batch)>) -> Followed {
        let mut total = self.flow.new_yield();
        let mut dead = Vec::new();
        for (port, batch) in emitted {
            let (seed, received_at) = (batch.provenance.seed, batch.provenance.received_at);
            let mut result = self.flow.new_yield();
            let whole = panics::contain(|| self.flow.run_from(port, batch.clone(), &mut result));
            if !matches!(whole, Ok(Ok(()))) {
                result = self.flow.new_yield();
                for event in 0..batch.len() {
                    if let Err(panic) = self.flow.run_alone_from(port, &batch, event, &mut result) {
                        let reason = format!("a bug in weir: panic on this event: {panic}");
                        let mut line = Vec::new();
                        batch.render_event(event, &mut line);
                        let name = self.name.clone();
                        dead.push(self.dead_letter(&name, &line, batch.ordinal(event), reason, seed, received_at));
                    }
                }
            }
            for (node, event) in std::mem::take(&mut result.dead) {
                let name = self.flow.nodes[node].name.clone();
                dead.push(self.dead_letter(&name, &event.line, event.ordinal, event.reason, seed, received_at));
            }
            total.add(result);
        }
        let (flow, deltas, tapped) = (self.flow.clone(), total.deltas, total.tapped);
        let count = Box::new(move || flow.settle(&deltas, tapped));
        Followed { entries: total.entries, dead, count }
    }

    fn redacted(&self, text: &[u8]) -> Vec<u8> {
        redacted(&self.context, &self.flow, text)
    }
}

impl Behind {
    fn dead_letter(
        &self,
        component: &str,
        line: &[u8],
        ordinal: u64,
        reason: String,
        seed: Seed,
        received_at: Timestamp,
    ) -> NewDeadLetter {
        NewDeadLetter {
            component: component.to_owned(),
            kind: ComponentKind::Transform,
            body: self.redacted(line).into(),
            event_id: None,
            seed,
            ordinal,
            seq: None,
            received_at,
            stamp: None,
            reason,
            answer: String::new(),
            attempts: 1,
            origin: None,
            parked: None,
        }
    }
}

/// What a reload or a start would do with a stage that is in no plan any more.
pub fn objection(name: &str, owed: u64) -> String {
    format!(
        "transforms.{name}: {owed} waiting or held events; set `on_remove: drain` or `on_remove: drop` on the transform before removing it"
    )
}

impl Agent {
    /// Operations that have begun, not ended, and that no place to read has been given yet.
    pub async fn open_operations(&self) -> Vec<bytes::Bytes> {
        let running = self.running.lock().await;
        let stages: Vec<(Arc<str>, Arc<dyn AnyStage>)> =
            running.stages.values().map(|stage| (stage.name.clone(), stage.stage.clone())).collect();
        drop(running);
        let journal = &self.context.journal;
        stages.iter().flat_map(|(name, stage)| stages::open(journal, name, &**stage)).collect()
    }

    /// Ends all stages. What a journal on disk has waits there; what is in memory is taken, and given.
    pub(super) async fn stop_stages(&self, deadline: Instant) {
        let mut running = self.running.lock().await;
        let (stages, leaving) = (std::mem::take(&mut running.stages), std::mem::take(&mut running.leaving_stages));
        // In the order of the steps, so that each one's output reaches the next.
        let order: Vec<Arc<str>> = running.steps.iter().map(|step| step.name.clone()).collect();
        drop(running);
        let mut all: Vec<RunningStage> = stages.into_values().chain(leaving.into_values()).collect();
        all.sort_by_key(|stage| order.iter().position(|name| *name == stage.name));
        if self.is_durable() {
            all.iter().for_each(RunningStage::close);
        }
        for stage in all {
            if !self.is_durable() {
                stage.release();
            }
            stage.end(deadline).await;
        }
    }

    /// Starts the stages of a plan, hands the running ones what follows them now, and lets those end that are gone.
    pub(super) fn change_stages(
        self: &Arc<Agent>,
        running: &mut super::agent::Running,
        touches: impl Fn(&Arc<str>) -> bool,
    ) {
        let steps: Vec<Step> = running.steps.iter().filter(|step| step.transform.stage().is_some()).cloned().collect();
        for step in &steps {
            let flow = super::wiring::flow_behind(step, &running.steps, &running.streams, &self.accounting);
            let flow = Arc::new(flow.with_taps(&self.context.taps));
            running.flows.push(Arc::downgrade(&flow));
            match running.stages.get_mut(&step.name) {
                Some(same) if !touches(&step.name) => same.exchange(flow, &self.context),
                _ => {
                    let predecessor =
                        running.stages.remove(&step.name).or_else(|| running.leaving_stages.remove(&step.name));
                    if let Some(started) = RunningStage::start(self, step, flow, predecessor) {
                        running.stages.insert(step.name.clone(), started);
                    }
                }
            }
        }
        let gone: Vec<Arc<str>> =
            running.stages.keys().filter(|name| !steps.iter().any(|step| step.name == **name)).cloned().collect();
        for name in gone {
            if let Some(stage) = running.stages.remove(&name) {
                running.leaving_stages.insert(name, stage);
            }
        }
    }
}
