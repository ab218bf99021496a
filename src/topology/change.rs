//! A plan change: whatever may fail is prepared while the running plan continues; the commit cannot fail, waits for
//! nothing, and leaves no gap.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::agent::{Agent, Running, steps};
use super::flow::Flow;
use super::leaving::LeftoverStage;
use super::retired::Retired;
use super::sinks::{Predecessor, RunningSink};
use super::sources::{PreparedSource, RunningSource};
use super::stages::waiting;
use super::wiring::{self, Step, Streams, stream_names};
use crate::component::Intake as _;
use crate::config::settings::OnRemove;
use crate::config::{API_SOURCE, Changes, Input, Outline, Plan, PlannedSink, Snapshots};
use crate::journal::{self, Journal, StreamId};
use crate::stages::{has_state, input_name};
use crate::telemetry::ComponentKind;

/// A plan that can be gone over to.
pub(super) struct Prepared {
    changed: Changes,
    outline: Outline,
    snapshots: Snapshots,
    steps: Vec<Step>,
    streams: Streams,
    /// Sources that are new or other than before; the others run on.
    sources: Vec<PreparedSource>,
    source_names: BTreeSet<Arc<str>>,
    sinks: Vec<PlannedSink>,
    /// Sinks that are in no plan any more and still owe events.
    leftover: Vec<PlannedSink>,
    /// The same of stages, and stages that have another type now.
    leftover_stages: Vec<LeftoverStage>,
    /// Cursors that the journal had not seen.
    made: Vec<Arc<str>>,
}

/// What the running plan looked like when preparing began.
struct Before {
    outline: Outline,
    steps: Vec<Step>,
    in_use: BTreeSet<StreamId>,
}

impl Running {
    fn look(&mut self) -> Before {
        self.flows.retain(|flow| flow.strong_count() > 0);
        let live: Vec<Arc<Flow>> = self.flows.iter().filter_map(Weak::upgrade).collect();
        let in_use = live.iter().flat_map(|flow| flow.streams()).copied().chain(self.streams.all()).collect();
        Before { outline: self.outline.clone(), steps: self.steps.clone(), in_use }
    }
}

/// Whether the text of a stage is needed: it runs, or it holds, waits for or may again have something to finish.
fn keeps_stage(journal: &Journal, steps: &[Step], (name, type_name): &(String, String)) -> bool {
    match steps.iter().find(|step| *step.name == **name) {
        Some(step) if step.type_name == type_name => true,
        Some(step) if step.frame.is_some() => has_state(journal, name, type_name),
        _ => has_state(journal, name, type_name) || waiting(journal, name) > 0 || journal.is_leaving(&input_name(name)),
    }
}

impl Agent {
    /// Binds, loads and looks up everything that the plan takes. If anything prevents it, all reasons are reported
    /// and nothing has changed.
    pub(super) async fn prepare(&self, plan: Plan) -> Result<Prepared, Vec<String>> {
        let before = {
            let mut running = self.running.lock().await;
            running.claimed = plan.sinks.iter().map(|sink| sink.name.clone()).collect();
            running.look()
        };
        let (outline, snapshots) = (plan.outline(), plan.snapshots.clone());
        let changed = Changes::between(&before.outline, &outline);
        let Plan { sources, transforms, sinks, leftover, leftover_stages, .. } = plan;
        let mut steps = steps(transforms);
        let leftover_stages: Vec<LeftoverStage> =
            leftover_stages.into_iter().map(|earlier| LeftoverStage::new(earlier, &self.context.journal)).collect();
        for step in &mut steps {
            // What did not change stays the very same object.
            if !changed.touches(&step.name)
                && let Some(old) = before.steps.iter().find(|old| old.name == step.name)
            {
                step.transform = old.transform.clone();
            }
        }
        let source_names = sources.iter().map(|source| source.name.clone()).collect();
        let (mut ready, mut errors) = (Vec::new(), Vec::new());
        for source in sources.into_iter().filter(|source| changed.touches(&source.name)) {
            let (name, type_name, source) = (source.name, source.type_name, Arc::from(source.source));
            let source: Arc<dyn crate::component::AnySource> = source;
            match source.prepare(&self.resources.sockets).await {
                Ok(prepared) => ready.push(PreparedSource { name, type_name, source, prepared }),
                Err(error) => errors.push(format!("sources.{name}: {error}")),
            }
        }
        for sink in sinks.iter().filter(|sink| changed.touches(&sink.name)) {
            let trust = sink.frame.tls.as_ref().map(crate::net::tls::client).transpose();
            errors.extend(trust.err().map(|error| format!("sinks.{}: {error}", sink.name)));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let fresh = steps.iter().filter(|step| changed.touches(&step.name));
        futures_util::future::join_all(fresh.map(super::refresh::first)).await;
        let in_use = before.in_use.into_iter().chain(leftover_stages.iter().flat_map(LeftoverStage::streams)).collect();
        self.announce_snapshots(&snapshots).await;
        let (streams, made) = self.wire(&steps, &sinks, &in_use).await.map_err(|error| vec![error])?;
        let sources = ready;
        Ok(Prepared {
            changed,
            outline,
            snapshots,
            steps,
            streams,
            sources,
            source_names,
            sinks,
            leftover,
            leftover_stages,
            made,
        })
    }

    /// Chooses streams and lets every cursor of the plan read its own, beside those that it still owes events of; all
    /// that is on disk before anything is written to them.
    async fn wire(
        &self,
        steps: &[Step],
        sinks: &[PlannedSink],
        in_use: &BTreeSet<StreamId>,
    ) -> Result<(Streams, Vec<Arc<str>>), String> {
        let journal = &self.context.journal;
        let inputs: Vec<(Arc<str>, Input)> =
            steps.iter().filter_map(|step| Some((input_name(&step.name).into(), step.stage_input()?))).collect();
        let readers = sinks.iter().map(|sink| (sink.name.clone(), &*sink.inputs));
        let stages = inputs.iter().map(|(cursor, input)| (cursor.clone(), std::slice::from_ref(input)));
        let streams = Streams::assign(journal, steps, readers.chain(stages), in_use)?;
        let mut made = Vec::new();
        let mut failed = None;
        for (cursor, input) in &inputs {
            // One whose file was lost begins at the oldest event, and its state says which of them it has taken. A removed
            // one of the name has left neither, and its events are not for this one.
            match journal.wire_cursor(cursor, &streams.of(std::slice::from_ref(input)), journal::Start::End) {
                Ok(true) => made.push(cursor.clone()),
                Ok(false) => {}
                Err(error) => failed = Some(format!("transforms.{}: {error}", input.component)),
            }
        }
        for sink in sinks {
            match journal.wire_cursor(&sink.name, &streams.of(&sink.inputs), sink.frame.start.into()) {
                Ok(true) => {
                    if let Some(cursor) = journal.cursor_info(&sink.name) {
                        let (seq, waiting) = (cursor.settled, cursor.waiting_events);
                        let start = match journal::Start::from(sink.frame.start) {
                            journal::Start::Oldest => "the oldest event that is still in the journal",
                            journal::Start::End => "the events that come from now on",
                        };
                        tracing::info!(sink = %sink.name, seq, waiting, start, "the sink is new to the journal");
                    }
                    made.push(sink.name.clone());
                }
                Ok(false) => {}
                Err(error) => failed = Some(format!("sinks.{}: {error}", sink.name)),
            }
        }
        let saving = journal.clone();
        let saved = tokio::task::spawn_blocking(move || saving.save_cursors()).await;
        let unsaved = match saved {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("the cursors cannot be saved: {error}")),
            Err(error) => Some(format!("saving the cursors panicked: {error}")),
        };
        match failed.or(unsaved) {
            None => Ok((streams, made)),
            Some(error) => {
                self.unmake(&made);
                Err(error)
            }
        }
    }

    fn unmake(&self, made: &[Arc<str>]) {
        for name in made {
            self.context.journal.drop_cursor(name);
        }
    }

    /// Gives a prepared plan up.
    pub(super) async fn abandon(&self, prepared: Prepared) {
        self.unmake(&prepared.made);
        self.running.lock().await.claimed.clear();
    }

    /// Goes over to a prepared plan. Whoever has to stop gets its time in the background, and its successor begins
    /// after it.
    pub(super) fn commit(self: &Arc<Agent>, running: &mut Running, prepared: Prepared) -> Changes {
        let Prepared { changed, outline, snapshots, steps, streams, sources, source_names, sinks, .. } = prepared;
        let Prepared { leftover, leftover_stages, .. } = prepared;
        let names: BTreeSet<Arc<str>> = sinks.iter().map(|sink| sink.name.clone()).collect();
        let mut starting = Vec::new();
        for sink in sinks {
            if !changed.touches(&sink.name) && running.sinks.contains_key(&sink.name) {
                continue;
            }
            let (predecessor, discards) = self.take_over(running, &sink.name);
            if let Some(predecessor) = &predecessor {
                predecessor.close();
            }
            starting.push((sink, predecessor, discards));
        }
        let gone: Vec<Arc<str>> = running.sinks.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            if let Some(sink) = running.sinks.remove(&name) {
                running.retired.insert(name, Retired::Finishing(Box::new(sink)));
            }
        }
        self.note_snapshots(running, snapshots, &steps);
        (running.steps, running.streams, running.outline) = (steps, streams, outline);
        let moved = names.iter().cloned().chain(leftover.iter().map(|sink| sink.name.clone())).collect();
        self.begin_leftover_stages(running, leftover_stages, moved);
        self.change_stages(running, |name| changed.touches(name));
        self.change_refreshers(running, |name| changed.touches(name));
        self.change_sources(running, sources, &source_names);
        for (sink, predecessor, discards) in starting {
            let names = stream_names(&running.steps, &sink.inputs);
            let name = sink.name.clone();
            running.orphans.remove(&name);
            let started = RunningSink::start(self, sink, names, predecessor, discards);
            running.sinks.insert(name, started);
        }
        for sink in leftover {
            self.go_on_draining(running, sink);
        }
        running.claimed.clear();
        changed
    }

    /// Keeps the texts of the plan, and of what has still something to finish.
    fn note_snapshots(&self, running: &mut Running, snapshots: Snapshots, steps: &[Step]) {
        let (retired, orphans, journal) = (&running.retired, &running.orphans, &self.context.journal);
        let kept = &mut running.snapshots;
        let is_owed = |name: &str| retired.contains_key(name) || orphans.contains(name) || journal.is_leaving(name);
        kept.sinks.retain(|name, _| is_owed(name));
        kept.sinks.extend(snapshots.sinks);
        kept.stages.extend(snapshots.stages);
        kept.stages.retain(|key, _| keeps_stage(journal, steps, key));
    }

    /// Forgets the texts of sinks and stages that are gone with their files. Not sooner: a cursor that a kill brings back
    /// is finished by its text.
    pub(super) fn forget_texts(&self, running: &mut Running) {
        let journal = &self.context.journal;
        let Running { snapshots, sinks, retired, orphans, steps, leaving_stages, .. } = running;
        let count = snapshots.sinks.len() + snapshots.stages.len();
        let is_known = |name: &str| sinks.contains_key(name) || retired.contains_key(name) || orphans.contains(name);
        snapshots.sinks.retain(|name, _| is_known(name) || journal.is_leaving(name));
        snapshots.stages.retain(|key, _| leaving_stages.contains_key(&*key.0) || keeps_stage(journal, steps, key));
        if snapshots.sinks.len() + snapshots.stages.len() < count {
            self.save_snapshots(running);
        }
    }

    /// The owner of the cursor of this name, and whether what it has not passed is to be dropped.
    fn take_over(&self, running: &mut Running, name: &Arc<str>) -> (Option<Predecessor>, bool) {
        if let Some(sink) = running.sinks.remove(name) {
            return (Some(Predecessor::Running(Box::new(sink))), false);
        }
        match running.retired.remove(name) {
            None => (None, false),
            Some(Retired::Finishing(sink)) => {
                let discards = sink.on_remove == Some(OnRemove::Drop);
                (Some(Predecessor::Running(sink)), discards)
            }
            Some(Retired::Leaving(task, discards)) => (Some(Predecessor::Leaving(task)), discards),
        }
    }

    fn change_sources(
        self: &Arc<Agent>,
        running: &mut Running,
        fresh: Vec<PreparedSource>,
        names: &BTreeSet<Arc<str>>,
    ) {
        let deadline = self.deadline();
        let mut old = std::mem::take(&mut running.sources);
        let changed: BTreeSet<Arc<str>> = fresh.iter().map(|source| source.name.clone()).collect();
        for name in names.iter().filter(|name| !changed.contains(*name)) {
            if let Some(same) = old.remove(name) {
                let flow = self.flow(running, name);
                same.intake.exchange(flow);
                running.sources.insert(name.clone(), same);
            }
        }
        let flow = self.flow(running, &API_SOURCE.into());
        self.api_intake.exchange(flow);
        self.api_intake.ready();
        for source in fresh {
            let name = source.name.clone();
            let predecessor = old.remove(&name);
            if let Some(predecessor) = &predecessor {
                predecessor.close();
            }
            let flow = self.flow(running, &name);
            let intake = self.intake(&name, source.type_name, flow);
            let started = RunningSource::start(source, intake, self.resources.clone(), predecessor);
            running.sources.insert(name, started);
        }
        for (name, gone) in old {
            gone.close();
            let agent = self.clone();
            running.leaving.spawn(async move {
                gone.stop(deadline).await;
                let running = agent.running.lock().await;
                if !running.sources.contains_key(&name) {
                    agent.accounting.close(&name, ComponentKind::Source);
                }
            });
        }
    }

    /// What follows a source by the plan that runs.
    fn flow(&self, running: &mut Running, source: &Arc<str>) -> Arc<Flow> {
        let flow = wiring::flow(source, &running.steps, &running.streams, &self.accounting);
        let flow = Arc::new(flow.with_taps(&self.context.taps));
        running.flows.push(Arc::downgrade(&flow));
        flow
    }

    /// The deadline for components that stop now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from(self.settings.limits.shutdown_timeout)
    }
}
