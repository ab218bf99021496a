//! Runs the transforms of a plan over given events in memory, without its sources, up to what its sinks would send.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::agent::steps;
use super::flow::{Broken, Flow, Yield};
use super::wiring::{Step, Streams, flow, flow_behind};
use crate::codec::{Codec, Frames, Limits, Ordinals};
use crate::component::{RecordSlice, State, WriteBatch};
use crate::config::{API_SOURCE, Input, Plan, PlannedSink};
use crate::event::{Batch, Lines, Provenance, Raw, Seed};
use crate::journal::{Record, StreamId};
use crate::stages;
use crate::telemetry::Accounting;
use crate::units::Timestamp;

/// When the events of a trial are received: 2025-01-01T00:00:00Z, so that what follows from it can be foretold.
pub const RECEIVED_AT: Timestamp = Timestamp(1_735_689_600_000_000);

/// The components of a plan that can be tried out.
pub struct Trial {
    data_dir: PathBuf,
    limits: Limits,
    sources: BTreeSet<Arc<str>>,
    steps: Vec<Step>,
    sinks: Vec<PlannedSink>,
    outputs: Vec<Input>,
    received_at: Timestamp,
}

/// What came of some events.
pub struct Outcome {
    lines: BTreeMap<Input, Vec<Bytes>>,
    /// Component and reason of each failed event.
    pub dead: Vec<(Arc<str>, String)>,
}

impl Trial {
    pub fn new(plan: Plan) -> Trial {
        let data_dir = plan.data_dir.clone();
        let limits = Limits { event_bytes: plan.settings.limits.event.bytes() as usize, values: usize::MAX };
        let Plan { sources, transforms, sinks, .. } = plan;
        let steps = steps(transforms);
        let mut names: BTreeSet<Arc<str>> = sources.into_iter().map(|source| source.name).collect();
        names.insert(API_SOURCE.into());
        let of_sources = names.iter().map(|name| Input { component: name.clone(), port: 0 });
        let of_steps = steps.iter().flat_map(|step| {
            let outputs = (0..=step.transform.outputs().len()).map(|port| Input { component: step.name.clone(), port });
            outputs.chain(step.stage_input())
        });
        let outputs = of_sources.chain(of_steps).collect();
        Trial { data_dir, limits, sources: names, steps, sinks, outputs, received_at: RECEIVED_AT }
    }

    /// The same, over events that are received now.
    pub fn receiving_at(self, received_at: Timestamp) -> Trial {
        Trial { received_at, ..self }
    }

    /// Gives events to a component: those that a source has received, or those that a transform is given.
    pub fn run(&self, at: &str, events: &[&str]) -> Result<Outcome, String> {
        let batch = self.decode(at, events)?;
        let streams = (0..).zip(&self.outputs).map(|(stream, output)| (output.clone(), StreamId(stream)));
        let streams = Streams::of_outputs(streams);
        let accounting = Accounting::default();
        let source: Arc<str> = match self.sources.get(at) {
            Some(source) => source.clone(),
            None => self.source_of(at).ok_or_else(|| format!("`{at}` is not a source or transform"))?,
        };
        let whole = flow(&source, &self.steps, &streams, &accounting);
        let flow = if self.sources.contains(at) { whole } else { whole.from(at) };
        let mut result = flow.new_yield();
        if let Err(Broken) = flow.run(batch.clone(), &mut result) {
            result = flow.new_yield();
            for event in 0..batch.len() {
                flow.run_alone(&batch, event, &mut result).map_err(|panic| format!("event {event}: {panic}"))?;
            }
        }
        let mut outcome = Outcome { lines: BTreeMap::new(), dead: Vec::new() };
        let mut states: BTreeMap<Arc<str>, State> = BTreeMap::new();
        let mut left = VecDeque::from([(result, Arc::new(flow))]);
        while let Some((result, flow)) = left.pop_front() {
            for (stream, lines) in result.entries {
                let output = self.outputs[stream.0 as usize].clone();
                if let Some(step) = self.steps.iter().find(|step| step.stage_input().as_ref() == Some(&output)) {
                    let state = states.entry(step.name.clone()).or_default();
                    let behind = flow_behind(step, &self.steps, &streams, &accounting);
                    left.push_back((self.step(step, state, lines, &behind, &mut outcome)?, Arc::new(behind)));
                    continue;
                }
                let split = (0..lines.len()).map(|nth| Bytes::copy_from_slice(lines.line(nth)));
                outcome.lines.entry(output).or_default().extend(split);
            }
            let dead = result.dead.into_iter().map(|(node, dead)| (flow.nodes[node].name.clone(), dead.reason));
            outcome.dead.extend(dead);
        }
        Ok(outcome)
    }

    /// Gives events to a transform that remembers. No time passes: what it holds, it keeps.
    fn step(
        &self,
        step: &Step,
        state: &mut State,
        lines: Lines,
        behind: &Flow,
        outcome: &mut Outcome,
    ) -> Result<Yield, String> {
        let stage = step.transform.stage().ok_or("a stage has an input, another transform has none")?;
        let record =
            Record { stream: StreamId(0), first_seq: 1, stream_first: 0, received_at: self.received_at, lines };
        let (emitted, dead) = stages::take_once(&**stage, &step.name, state, record, self.received_at);
        outcome.dead.extend(dead.into_iter().map(|reason| (step.name.clone(), reason)));
        let mut result = behind.new_yield();
        for (port, batch) in emitted {
            for event in 0..batch.len() {
                let alone = behind.run_alone_from(port, &batch, event, &mut result);
                alone.map_err(|panic| format!("behind `{}`: {panic}", step.name))?;
            }
        }
        Ok(result)
    }

    /// A source whose events pass the transform.
    fn source_of(&self, transform: &str) -> Option<Arc<str>> {
        let mut name: Arc<str> = self.steps.iter().find(|step| &*step.name == transform)?.name.clone();
        // Steps have no cycle, so that each turn goes one up.
        for _ in 0..=self.steps.len() {
            let Some(step) = self.steps.iter().find(|step| step.name == name) else { return Some(name) };
            name = step.inputs.first()?.component.clone();
        }
        None
    }

    fn decode(&self, at: &str, events: &[&str]) -> Result<Batch, String> {
        let provenance = Provenance {
            source: at.into(),
            seed: Seed([0; 16]),
            received_at: self.received_at,
            peer: None,
            stamp: None,
        };
        let mut text = Vec::new();
        let frames: Vec<Range<usize>> = events.iter().map(|event| push(&mut text, event.trim().as_bytes())).collect();
        let (decoder, frames) = (Codec::Json.decoder(), Frames::At(frames));
        let decoded =
            decoder.decode(text.into(), &frames, Ordinals::Count(0), Arc::new(provenance), &self.limits, true);
        match decoded.refused.first() {
            None => Ok(decoded.batch),
            Some(refusal) => Err(format!("event {} is refused: {}", refusal.index + 1, refusal.reason)),
        }
    }

    /// The events that a source, a transform, one of its outputs, or a sink comes to.
    pub fn at<'o>(&self, outcome: &'o Outcome, name: &str) -> Result<Vec<&'o Bytes>, String> {
        let sink = self.sink(name);
        let inputs = match sink {
            Some(sink) => sink.inputs.clone(),
            None => vec![self.output(name).ok_or_else(|| format!("no component `{name}`"))?],
        };
        let all = inputs.iter().filter_map(|input| outcome.lines.get(input)).flatten();
        let filter = sink.and_then(|sink| sink.filter.as_ref());
        Ok(all.filter(|line| filter.is_none_or(|filter| filter.matches_line(Raw::valid(line)))).collect())
    }

    fn sink(&self, name: &str) -> Option<&PlannedSink> {
        self.sinks.iter().find(|sink| &*sink.name == name)
    }

    fn output(&self, name: &str) -> Option<Input> {
        self.outputs.iter().find(|output| self.name_of(output) == name).cloned()
    }

    fn name_of(&self, output: &Input) -> String {
        let step = self.steps.iter().find(|step| step.name == output.component);
        match step.and_then(|step| step.transform.outputs().get(output.port.wrapping_sub(1)).cloned()) {
            Some(port) => format!("{}.{port}", output.component),
            None => output.component.to_string(),
        }
    }

    /// The bytes that a sink would send, or the lines that another component gives on.
    pub fn bytes(&self, outcome: &Outcome, name: &str) -> Result<Vec<u8>, String> {
        let lines = self.at(outcome, name)?;
        let Some(sink) = self.sink(name) else {
            return Ok(lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect());
        };
        match sink.sink.preview(&sink.dry_context("test".into(), &self.data_dir), &batch_of(&lines)) {
            None => {
                Err(format!("the output of a `{}` sink depends on its target: use `events` instead", sink.type_name))
            }
            Some(Err(failure)) => Err(failure.answer().to_owned()),
            Some(Ok(bytes)) => Ok(bytes),
        }
    }
}

fn push(text: &mut Vec<u8>, event: &[u8]) -> Range<usize> {
    let start = text.len();
    text.extend_from_slice(event);
    text.push(b'\n');
    start..start + event.len()
}

/// The lines as a sink receives them.
fn batch_of(lines: &[&Bytes]) -> WriteBatch {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for line in lines {
        push(&mut bytes, line);
        ends.push(u32::try_from(bytes.len()).expect("a test is far smaller than 4 GiB"));
    }
    let origins = crate::event::Origins::of(Seed([0; 16]), 0..lines.len() as u64);
    let lines = Lines { bytes: bytes.into(), ends, origins };
    let events = 0..lines.len();
    let record = Record { stream: StreamId(0), first_seq: 1, stream_first: 0, received_at: RECEIVED_AT, lines };
    WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events }] }
}
