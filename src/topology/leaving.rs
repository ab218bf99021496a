//! Stages that are in no plan any more: their waiting events and state are drained or dropped as `on_remove` says.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::agent::{self, Agent, Running};
use super::stages::{self, RunningStage};
use super::wiring::{self, Step, Streams};
use crate::config::settings::OnRemove;
use crate::config::{EarlierStage, Input};
use crate::journal::{Journal, Start, StreamId};
use crate::stages::{catch_up, has_state, held, input_name, restore};
use crate::telemetry::{ComponentKind, ComponentState};

/// What a state without a stage is called where components are listed.
const ORPHAN_TYPE: &str = "removed";

/// A stage that left the plan or changed its type, as it was last configured, and the outputs it emits to.
pub(super) struct LeftoverStage {
    name: Arc<str>,
    steps: Vec<Step>,
    streams: Streams,
}

impl LeftoverStage {
    pub(super) fn new(earlier: EarlierStage, journal: &Journal) -> LeftoverStage {
        let EarlierStage { name, transforms } = earlier;
        let steps = agent::steps(transforms);
        let outputs = steps.iter().flat_map(|step| {
            let ports = 0..=step.transform.outputs().len() + usize::from(step.transform.stage().is_some());
            ports.map(|port| Input { component: step.name.clone(), port })
        });
        // What the cursors of the last plan read is written under the latest of its names.
        let known = outputs.filter_map(|output| {
            let name = wiring::stream_names(&steps, std::slice::from_ref(&output)).pop()?;
            let stream = journal.streams_named(&name).pop()?;
            (!journal.readers_of(stream).is_empty()).then_some((output, stream))
        });
        let streams = Streams::of_outputs(known.collect::<Vec<_>>().into_iter());
        LeftoverStage { name, steps, streams }
    }

    /// All its possible inputs and outputs.
    pub(super) fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.all()
    }

    fn step(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == self.name)
    }

    fn inputs(&self) -> Vec<StreamId> {
        self.step().and_then(Step::stage_input).map_or(Vec::new(), |input| self.streams.of(&[input]))
    }
}

impl Agent {
    /// Runs stages that are in no plan any more as they were last configured. `moved` are the sinks that run.
    pub(super) fn begin_leftover_stages(
        self: &Arc<Agent>,
        running: &mut Running,
        leftover: Vec<LeftoverStage>,
        mut moved: BTreeSet<Arc<str>>,
    ) {
        let stages = running.steps.iter().filter(|step| step.frame.is_some()).map(|step| &step.name);
        let names: Vec<&Arc<str>> = stages.chain(leftover.iter().map(|stage| &stage.name)).collect();
        moved.extend(names.into_iter().map(|name| Arc::from(input_name(name))));
        // One that owes nothing yet may receive events from another that runs.
        let mut rest: Vec<LeftoverStage> = leftover;
        loop {
            let before = rest.len();
            rest.retain(|stage| match self.begin_leftover_stage(running, stage, &moved) {
                Some(started) => {
                    running.leaving_stages.insert(stage.name.clone(), started);
                    false
                }
                None => true,
            });
            if rest.len() == before {
                return;
            }
        }
    }

    fn begin_leftover_stage(
        &self,
        running: &mut Running,
        leftover: &LeftoverStage,
        moved: &BTreeSet<Arc<str>>,
    ) -> Option<RunningStage> {
        let (name, journal, step) = (&leftover.name, &self.context.journal, leftover.step()?);
        let has_successor = running.steps.iter().any(|step| step.name == *name && step.frame.is_some());
        let is_fed = running.leaving_stages.values().any(|other| other.feeds(name));
        // Of several types that a name had, the one that holds something runs; one at a time.
        let owes = has_state(journal, name, step.type_name)
            || (!has_successor
                && restore(journal, name, None).state.is_empty()
                && (is_fed || stages::waiting(journal, name) > 0));
        if running.leaving_stages.contains_key(name) {
            return None;
        }
        let drops = step.frame.as_ref().is_some_and(|frame| frame.on_remove == Some(OnRemove::Drop));
        let inputs = leftover.inputs();
        let is_read = |stream: &StreamId| journal.readers_of(*stream).iter().any(|reader| moved.contains(reader));
        let goes_somewhere =
            leftover.streams().filter(|stream| !inputs.contains(stream)).any(|stream| is_read(&stream));
        if !owes || journal.cursor_info(&input_name(name).into()).is_none() || !(drops || goes_somewhere) {
            return None;
        }
        if let Err(error) = journal.wire_cursor(&input_name(name), &inputs, Start::Oldest) {
            tracing::error!(transform = %name, %error, "the cursor of a removed transform cannot be read");
            return None;
        }
        if !has_successor {
            let what = if drops {
                "dropped, as its `on_remove: drop` said"
            } else {
                "given first, as its `on_remove: drain` said"
            };
            tracing::warn!(transform = %name, "the transform is no longer configured; its held events are {what}");
        }
        let flow = wiring::flow_behind(step, &leftover.steps, &leftover.streams, &self.accounting);
        let flow = Arc::new(flow);
        running.flows.push(Arc::downgrade(&flow));
        RunningStage::start(self, step, flow, None)
    }

    /// Runs removed stages to their end.
    pub(super) fn look_after_leaving_stages(&self, running: &mut Running) {
        let expected = running.sources.len() + 1 + running.stages.len() + running.leaving_stages.len();
        let may_come = running.flows.iter().filter(|flow| flow.strong_count() > 0).count() > expected;
        let journal = &self.context.journal;
        for stage in running.leaving_stages.values() {
            let is_fed = running.leaving_stages.values().any(|other| other.feeds(&stage.name));
            match stage.on_remove {
                Some(OnRemove::Drop) => stage.close(),
                // What was submitted before the change may still come for it.
                _ if !may_come && !is_fed && stage.waiting(journal) == 0 => stage.release(),
                _ => {}
            }
        }
        let ended: Vec<Arc<str>> = running
            .leaving_stages
            .iter()
            .filter(|(_, stage)| stage.is_finished())
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            if let Some(stage) = running.leaving_stages.remove(&name) {
                self.forget_stage(running, &stage);
            }
        }
    }

    fn forget_stage(&self, running: &mut Running, stage: &RunningStage) {
        let is_needed = |name: &str| {
            let feeds = |other: &RunningStage| other.feeds(name);
            running.steps.iter().any(|step| *step.name == *name) || running.leaving_stages.values().any(feeds)
        };
        // What followed it and is in no plan any more has nothing left to do.
        let done = stage.followers().iter().filter(|name| !is_needed(name));
        done.for_each(|name| self.accounting.close(name, ComponentKind::Transform));
        self.forget_cursor_of(stage);
    }

    fn forget_cursor_of(&self, stage: &RunningStage) {
        let (journal, name, cursor) = (&self.context.journal, &stage.name, input_name(&stage.name));
        let owed = stage.owed(journal);
        if owed > 0 && stage.on_remove == Some(OnRemove::Drop) {
            tracing::warn!(transform = %name, events = owed, "the transform was removed; its waiting events were dropped");
            journal.discard_all_but(&cursor, &[]);
        } else if owed > 0 {
            return self.hold_orphan_stage(name, owed);
        }
        journal.drop_cursor(&cursor);
        self.accounting.close(name, ComponentKind::Transform);
        tracing::info!(transform = %name, "the transform was removed");
    }

    /// A cursor that no stage of the plan moves: with nothing owed it goes, otherwise it is held where everybody sees it.
    pub(super) fn settle_orphan_stage(&self, name: &str) {
        let journal = &self.context.journal;
        if let Err(error) = catch_up(journal, name) {
            tracing::warn!(transform = name, error, "cannot read the waiting events of a removed transform");
        }
        let owed = stages::waiting(journal, name) + held(journal, name, None);
        if owed > 0 {
            return self.hold_orphan_stage(&name.into(), owed);
        }
        if journal.drop_cursor(&input_name(name)) {
            tracing::info!(transform = name, "the state of a removed transform was deleted");
        }
    }

    fn hold_orphan_stage(&self, name: &Arc<str>, owed: u64) {
        let cursor = input_name(name);
        let message = format!(
            "{owed} events wait for this transform or are held by it, and it is no longer configured: bring it back, \
             with `on_remove: drain` or `on_remove: drop` if it shall go, or stop the agent and let them go with `weir \
             journal cursors drop {cursor}`"
        );
        tracing::warn!(transform = %name, owed, "{message}");
        let metrics = self.accounting.open(name, ComponentKind::Transform, ORPHAN_TYPE);
        metrics.enter(ComponentState::Held);
        metrics.error(message);
    }
}
