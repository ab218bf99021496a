//! From a plan to flows: which transforms follow each source, and which outputs are journalled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flow::{Flow, Node, Port};
use crate::component::AnyTransform;
use crate::config::Input;
use crate::journal::{Journal, StreamId};
use crate::telemetry::{Accounting, ComponentKind, ComponentState};

/// A transform with its place in the pipeline.
#[derive(Clone)]
pub struct Step {
    pub name: Arc<str>,
    pub type_name: &'static str,
    pub inputs: Vec<Input>,
    pub transform: Arc<dyn AnyTransform>,
}

/// The streams that cursors read, by the output that fills them.
#[derive(Clone, Default)]
pub struct Streams(BTreeMap<Input, StreamId>);

impl Streams {
    /// A stream for each of these outputs, whoever reads them.
    pub fn of_outputs(outputs: impl Iterator<Item = (Input, StreamId)>) -> Streams {
        Streams(outputs.collect())
    }

    /// Gives every output that a sink reads its stream. `sinks` are the names of cursors and what they read; `in_use`
    /// are the streams that are still written to.
    pub fn assign<'a>(
        journal: &Journal,
        steps: &[Step],
        sinks: impl Iterator<Item = (&'a Arc<str>, &'a [Input])>,
        in_use: &BTreeSet<StreamId>,
    ) -> Result<Streams, String> {
        let (mut readers, mut read) = (BTreeMap::new(), BTreeSet::new());
        for (sink, inputs) in sinks {
            readers.insert(sink.clone(), stream_names(steps, inputs));
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
    let outputs = steps.iter().find(|step| step.name == input.component).map(|step| step.transform.outputs());
    match outputs.unwrap_or_default().get(input.port.wrapping_sub(1)) {
        Some(output) => format!("{}.{output}", input.component),
        None => input.component.to_string(),
    }
}

/// The flow behind one source. `steps` are in an order in which each stands behind all that feed it.
pub fn flow(source: &Arc<str>, steps: &[Step], streams: &Streams, books: &Accounting) -> Flow {
    let mut reached: Vec<&Step> = Vec::new();
    for step in steps {
        let fed = |input: &Input| input.component == *source || reached.iter().any(|r| r.name == input.component);
        if step.inputs.iter().any(fed) {
            reached.push(step);
        }
    }
    let port = |component: &Arc<str>, port: usize| {
        let output = Input { component: component.clone(), port };
        let next = (0..reached.len()).filter(|at| reached[*at].inputs.contains(&output)).collect();
        Port { stream: streams.0.get(&output).copied(), next }
    };
    let ledger = |step: &Step| {
        let ledger = books.open(&step.name, ComponentKind::Transform, step.type_name);
        ledger.enter(ComponentState::Running);
        ledger
    };
    let nodes = reached.iter().map(|step| Node {
        name: step.name.clone(),
        transform: step.transform.clone(),
        ledger: ledger(step),
        ports: (0..=step.transform.outputs().len()).map(|n| port(&step.name, n)).collect(),
    });
    Flow::new(nodes.collect(), port(source, 0))
}
