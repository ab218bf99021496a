//! From a plan to flows: which transforms follow each source, and which outputs are journalled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flow::{Beyond, Flow, Node, Port};
use crate::component::AnyTransform;
use crate::config::Input;
use crate::config::settings::StageFrame;
use crate::journal::{Journal, StreamId};
use crate::stages;
use crate::telemetry::{Accounting, ComponentKind, ComponentState};

/// A transform with its place in the pipeline.
#[derive(Clone)]
pub struct Step {
    pub name: Arc<str>,
    pub type_name: &'static str,
    pub inputs: Vec<Input>,
    pub transform: Arc<dyn AnyTransform>,
    /// The frame of one that remembers.
    pub frame: Option<StageFrame>,
}

/// The streams that cursors read, by the output that fills them.
#[derive(Clone, Default)]
pub struct Streams(BTreeMap<Input, StreamId>);

impl Streams {
    /// A stream for each of these outputs.
    pub fn of_outputs(outputs: impl Iterator<Item = (Input, StreamId)>) -> Streams {
        Streams(outputs.collect())
    }

    /// Gives every output that a cursor reads its stream. `cursors` are the names of cursors and what they read; `in_use`
    /// are the streams that are still written to.
    pub fn assign<'a>(
        journal: &Journal,
        steps: &[Step],
        cursors: impl Iterator<Item = (Arc<str>, &'a [Input])>,
        in_use: &BTreeSet<StreamId>,
    ) -> Result<Streams, String> {
        let (mut readers, mut read) = (BTreeMap::new(), BTreeSet::new());
        for (cursor, inputs) in cursors {
            readers.insert(cursor, stream_names(steps, inputs));
            read.extend(inputs.iter().cloned());
        }
        let streams = journal.assign_streams(&readers, in_use).map_err(|error| error.to_string())?;
        let of = |input: Input| {
            let stream = streams.get(&stream_name(steps, &input)).copied();
            Some((input, stream?))
        };
        Ok(Streams(read.into_iter().filter_map(of).collect()))
    }

    pub fn of(&self, inputs: &[Input]) -> Vec<StreamId> {
        let mut streams: Vec<StreamId> = inputs.iter().filter_map(|input| self.0.get(input).copied()).collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    pub fn all(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.0.values().copied()
    }
}

/// The names under which these outputs are journalled.
pub fn stream_names(steps: &[Step], inputs: &[Input]) -> Vec<String> {
    inputs.iter().map(|input| stream_name(steps, input)).collect()
}

fn stream_name(steps: &[Step], input: &Input) -> String {
    let Some(step) = steps.iter().find(|step| step.name == input.component) else { return input.component.to_string() };
    let outputs = step.transform.outputs();
    if step.transform.stage().is_some() && input.port == outputs.len() + 1 {
        return stages::input_name(&step.name);
    }
    match outputs.get(input.port.wrapping_sub(1)) {
        Some(output) => format!("{}.{output}", input.component),
        None => input.component.to_string(),
    }
}

impl Step {
    /// What the cursor of a stage reads.
    pub fn stage_input(&self) -> Option<Input> {
        self.transform.stage()?;
        Some(Input { component: self.name.clone(), port: self.transform.outputs().len() + 1 })
    }
}

/// The flow behind one source. `steps` are in an order in which each stands behind all that feed it.
pub fn flow(source: &Arc<str>, steps: &[Step], streams: &Streams, accounting: &Accounting) -> Flow {
    behind(source, 1, steps, streams, accounting)
}

/// The flow behind one stage.
pub fn flow_behind(stage: &Step, steps: &[Step], streams: &Streams, accounting: &Accounting) -> Flow {
    behind(&stage.name, stage.transform.outputs().len() + 1, steps, streams, accounting)
}

fn behind(origin: &Arc<str>, outputs: usize, steps: &[Step], streams: &Streams, accounting: &Accounting) -> Flow {
    let reached = reached(origin, steps);
    let port = |component: &Arc<str>, port: usize| {
        let output = Input { component: component.clone(), port };
        let next = (0..reached.len()).filter(|at| reached[*at].inputs.contains(&output)).collect();
        Port { name: stream_name(steps, &output).into(), stream: streams.0.get(&output).copied(), next }
    };
    let metrics = |step: &Step| {
        let metrics = accounting.open(&step.name, ComponentKind::Transform, step.type_name);
        if step.transform.stage().is_none() {
            metrics.enter(ComponentState::Running);
        }
        metrics
    };
    let nodes = reached.iter().map(|step| {
        let input = step.stage_input();
        let ports = (0..=step.transform.outputs().len()).map(|n| port(&step.name, n));
        Node {
            name: step.name.clone(),
            transform: step.transform.clone(),
            metrics: metrics(step),
            ports: ports.chain(input.iter().map(|input| port(&step.name, input.port))).collect(),
            input: input.map(|input| input.port),
        }
    });
    let roots = (0..outputs).map(|n| port(origin, n)).collect();
    Flow::new(nodes.collect(), roots, beyond(&reached, steps, streams))
}

/// The transforms that events of a component come to before a stage has taken them.
fn reached<'s>(origin: &Arc<str>, steps: &'s [Step]) -> Vec<&'s Step> {
    let mut reached: Vec<&Step> = Vec::new();
    for step in steps {
        let fed = |input: &Input| input.component == *origin || reached.iter().any(|r| r.name == input.component);
        if step.inputs.iter().any(fed) {
            reached.push(step);
        }
    }
    reached
}

/// What lies behind the stages among these steps. What a stage gives goes the way of what it lets pass, so that the
/// steps behind it are among those reached.
fn beyond(reached: &[&Step], steps: &[Step], streams: &Streams) -> Beyond {
    let mut beyond = Beyond::default();
    for stage in reached.iter().filter(|step| step.transform.stage().is_some()) {
        beyond.inputs.extend(stage.stage_input().and_then(|input| streams.0.get(&input).copied()));
        let behind = self::reached(&stage.name, steps);
        for step in behind.iter().copied().chain([*stage]) {
            let ports = 0..=step.transform.outputs().len() + 1;
            let output = |port| streams.0.get(&Input { component: step.name.clone(), port }).copied();
            beyond.streams.extend(ports.filter_map(output));
        }
        let deeper = behind.iter().filter(|step| step.transform.stage().is_some()).count();
        beyond.depth = beyond.depth.max(deeper + 1);
    }
    beyond.streams.sort_unstable();
    beyond.streams.dedup();
    beyond
}
