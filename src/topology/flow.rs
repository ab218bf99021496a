//! The flow of one source: its transforms in order, and the streams they end in.
//!
//! A batch runs through to completion, without a channel or a task switch. If a transform fails or panics over a
//! batch, the job is run again event by event, and only the events it fails on become dead letters.

use std::sync::{Arc, OnceLock};

use super::taps::{Tapped, Taps};
use crate::component::{AnyTransform, DeadEvent, Outputs};
use crate::event::{Batch, Lines};
use crate::journal::StreamId;
use crate::telemetry::{ComponentMetrics, Counts, panics};
use crate::units::Timestamp;

/// The transforms behind a source or a stage, as a graph without cycles.
#[derive(Default)]
pub struct Flow {
    pub nodes: Vec<Node>,
    /// Where the events go, by the port they come from; a source has one.
    pub roots: Vec<Port>,
    /// What lies behind the stages that it leads to.
    pub beyond: Beyond,
    /// Who may watch on the way.
    taps: Option<Taps>,
    /// Found once: every request asks for room in them.
    streams: OnceLock<Vec<StreamId>>,
    reserved: OnceLock<Vec<StreamId>>,
}

/// What lies behind the stages that a flow leads to.
#[derive(Clone, Debug, Default)]
pub struct Beyond {
    /// The streams that these stages read.
    pub inputs: Vec<StreamId>,
    /// Every stream that these stages, and the stages behind them, append to.
    pub streams: Vec<StreamId>,
    /// How many stages there are one behind the other.
    pub depth: usize,
}

/// One transform.
pub struct Node {
    pub name: Arc<str>,
    pub transform: Arc<dyn AnyTransform>,
    pub metrics: Arc<ComponentMetrics>,
    /// One for each output, the default one first; then the input of a stage.
    pub ports: Vec<Port>,
    /// Of a stage: the port of the events that wait for it. They count once it has taken them.
    pub input: Option<usize>,
}

/// Who reads an output.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// The name of the output.
    pub name: Arc<str>,
    /// The stream it is journalled in, if a cursor reads it.
    pub stream: Option<StreamId>,
    /// Transforms that read it, by their place in `nodes`.
    pub next: Vec<usize>,
}

/// What a job has come to.
pub struct Yield {
    pub entries: Vec<(StreamId, Lines)>,
    /// Node and event of what a transform failed on.
    pub dead: Vec<(usize, DeadEvent)>,
    /// What each node adds to its accounting once the job is committed.
    pub deltas: Vec<Counts>,
    /// What somebody watches, to be shown once the job is committed.
    pub tapped: Vec<Tapped>,
}

impl Yield {
    pub fn add(&mut self, other: Yield) {
        self.tapped.extend(other.tapped);
        self.entries.extend(other.entries);
        self.dead.extend(other.dead);
        self.deltas.iter_mut().zip(&other.deltas).for_each(|(delta, other)| delta.add(other));
    }
}

/// A transform failed or panicked over a batch; nothing of the yield counts.
#[derive(Debug)]
pub struct Broken;

impl Flow {
    pub fn new(nodes: Vec<Node>, roots: Vec<Port>, beyond: Beyond) -> Flow {
        Flow { nodes, roots, beyond, taps: None, streams: OnceLock::new(), reserved: OnceLock::new() }
    }

    /// The same flow, in which what leaves a component can be watched.
    pub fn with_taps(self, taps: &Taps) -> Flow {
        Flow { taps: Some(taps.clone()), ..self }
    }

    /// Whether anything looks into events, so that they had better come split.
    pub fn needs_fields(&self) -> bool {
        self.nodes.iter().any(|node| node.transform.needs_fields())
    }

    /// Every stream that these events may be journalled in, before any stage has taken them.
    pub fn streams(&self) -> &[StreamId] {
        self.streams.get_or_init(|| {
            let ports = self.roots.iter().chain(self.nodes.iter().flat_map(|node| &node.ports));
            let mut streams: Vec<StreamId> = ports.filter_map(|port| port.stream).collect();
            streams.sort_unstable();
            streams.dedup();
            streams
        })
    }

    /// Every stream that these events, and what stages make of them, may end in.
    pub fn reserved(&self) -> &[StreamId] {
        self.reserved.get_or_init(|| {
            let mut streams = [self.streams(), &self.beyond.streams].concat();
            streams.sort_unstable();
            streams.dedup();
            streams
        })
    }

    /// The part that begins at one transform: for an event that comes back to it.
    pub fn from(&self, transform: &str) -> Flow {
        let at = self.nodes.iter().position(|node| &*node.name == transform);
        let nodes = self.nodes.iter().map(|node| Node {
            name: node.name.clone(),
            transform: node.transform.clone(),
            metrics: node.metrics.clone(),
            ports: node.ports.clone(),
            input: node.input,
        });
        Flow::new(
            nodes.collect(),
            vec![Port { next: at.into_iter().collect(), ..Port::default() }],
            self.beyond.clone(),
        )
    }

    /// Applies the text form of every redaction in this flow.
    pub fn redact_text(&self, mut text: Vec<u8>) -> Vec<u8> {
        for node in &self.nodes {
            if let Some(redacted) = node.transform.redact_text(&text) {
                text = redacted;
            }
        }
        text
    }

    pub fn new_yield(&self) -> Yield {
        let deltas = self.nodes.iter().map(|_| Counts::default()).collect();
        Yield { entries: Vec::new(), dead: Vec::new(), deltas, tapped: Vec::new() }
    }

    /// Enters what a job came to into the accounting of the transforms, and shows it to those who watch: it is committed.
    pub fn settle(&self, deltas: &[Counts], tapped: Vec<Tapped>) {
        for (node, delta) in self.nodes.iter().zip(deltas) {
            node.metrics.update(|counts| counts.add(delta));
        }
        if let Some(taps) = &self.taps {
            taps.show(tapped);
        }
    }

    /// Runs a batch through all transforms.
    pub fn run(&self, batch: Batch, to: &mut Yield) -> Result<(), Broken> {
        self.run_from(0, batch, to)
    }

    /// Runs a batch that comes from this port through all transforms.
    pub fn run_from(&self, port: usize, batch: Batch, to: &mut Yield) -> Result<(), Broken> {
        self.roots.get(port).map_or(Ok(()), |root| self.deliver(root, batch, to, false))
    }

    /// Runs one event of a batch alone, so that a failure costs this event and no other. What a transform cannot pass
    /// on becomes its dead letter; a panic outside of the transforms is the error, and nothing of the event counts.
    pub fn run_alone(&self, batch: &Batch, event: usize, to: &mut Yield) -> Result<(), String> {
        self.run_alone_from(0, batch, event, to)
    }

    /// The same for an event that comes from this port.
    pub fn run_alone_from(&self, port: usize, batch: &Batch, event: usize, to: &mut Yield) -> Result<(), String> {
        let Some(root) = self.roots.get(port) else { return Ok(()) };
        let mut result = self.new_yield();
        panics::contain(|| {
            let mut alone = batch.clone();
            alone.retain(|n| n == event);
            self.deliver(root, alone, &mut result, true).expect("a careful run turns failures into dead letters");
        })?;
        to.add(result);
        Ok(())
    }

    fn deliver(&self, port: &Port, batch: Batch, to: &mut Yield, careful: bool) -> Result<(), Broken> {
        if let Some(taps) = &self.taps {
            to.tapped.extend(taps.take(&port.name, &batch, |text| self.redact_text(text)));
        }
        if let Some(stream) = port.stream {
            to.entries.push((stream, batch.render()));
        }
        let Some((last, others)) = port.next.split_last() else { return Ok(()) };
        for node in others {
            self.pass(*node, batch.clone(), to, careful)?;
        }
        self.pass(*last, batch, to, careful)
    }

    fn pass(&self, at: usize, mut batch: Batch, to: &mut Yield, careful: bool) -> Result<(), Broken> {
        let node = &self.nodes[at];
        let mut entered = batch.len() as u64;
        if node.transform.needs_fields() {
            batch.split_all();
        }
        let before = careful.then(|| batch.clone());
        let mut out = Outputs::default();
        if let Err(reason) = apply(&*node.transform, batch, &mut out) {
            let Some(before) = before else { return Err(Broken) };
            out = Outputs::default();
            (0..before.len()).for_each(|event| out.dead(&before, event, reason.clone()));
        }
        let waiting = |port: usize| node.input == Some(port);
        let waits = out.emitted.iter().filter(|(port, _)| waiting(*port)).map(|(_, batch)| batch.len() as u64).sum();
        entered -= entered.min(waits);
        count(&mut to.deltas[at], entered, waits, &out);
        to.dead.extend(out.dead.into_iter().map(|dead| (at, dead)));
        for (port, batch) in out.emitted {
            self.deliver(&node.ports[port], batch, to, careful)?;
        }
        Ok(())
    }
}

/// Counts what a transform did; `waits` of what it gave wait for a stage.
fn count(counts: &mut Counts, entered: u64, waits: u64, out: &Outputs) {
    let left = out.emitted.iter().map(|(_, batch)| batch.len() as u64).sum::<u64>() - waits;
    let filtered: u64 = out.filtered.iter().map(|(_, count)| count).sum();
    let ended = left + filtered + out.dead.len() as u64;
    counts.entered += entered;
    counts.left += left;
    counts.made += ended.saturating_sub(entered);
    counts.dead_lettered += out.dead.len() as u64;
    for (reason, count) in &out.filtered {
        *counts.filtered.entry(reason).or_default() += count;
    }
    counts.measured.add(&out.measured);
    for (rule, count) in &out.redactions {
        *counts.redactions.entry(rule.clone()).or_default() += count;
    }
    if ended < entered {
        // A transform that forgets events is a bug of ours; the accounting must show it rather than balance.
        *counts.errors.entry("unaccounted").or_default() += entered - ended;
    }
    counts.last_event = Some(Timestamp::now());
}

fn apply(transform: &dyn AnyTransform, batch: Batch, out: &mut Outputs) -> Result<(), String> {
    match panics::contain(|| transform.apply(batch, out)) {
        Ok(applied) => applied.map_err(|failure| failure.answer().to_owned()),
        Err(panic) => Err(format!("panic: {panic}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::Failure;
    use crate::event::{Provenance, Seed, names};
    use crate::telemetry::ComponentKind;
    use bytes::Bytes;

    /// Panics at a code of `panic`, fails at `fail`, drops `drop`, doubles `double`.
    struct Moody;

    impl AnyTransform for Moody {
        fn type_name(&self) -> &'static str {
            "moody"
        }
        fn outputs(&self) -> Vec<String> {
            Vec::new()
        }
        fn needs_fields(&self) -> bool {
            true
        }
        fn redact_text(&self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }
        fn apply(&self, mut batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
            let word = |batch: &Batch, n| batch.get_str(n, names::CODE).map(|c| c.into_owned()).unwrap_or_default();
            let words: Vec<String> = (0..batch.len()).map(|n| word(&batch, n)).collect();
            assert!(!words.iter().any(|w| w == "panic"), "moody panic");
            if words.iter().any(|w| w == "fail") {
                return Err(Failure::poison("moody failure"));
            }
            let mut twins = batch.clone();
            twins.retain(|n| words[n] == "double");
            out.filtered("moody", words.iter().filter(|w| *w == "drop").count() as u64);
            batch.retain(|n| words[n] != "drop");
            out.emit(batch);
            out.emit(twins);
            Ok(())
        }
    }

    fn flow() -> Flow {
        let node = Node {
            name: "m".into(),
            transform: Arc::new(Moody),
            metrics: Arc::new(ComponentMetrics::new("m".into(), ComponentKind::Transform, "moody")),
            ports: vec![Port { stream: Some(StreamId(2)), ..Port::default() }],
            input: None,
        };
        Flow::new(
            vec![node],
            vec![Port { stream: Some(StreamId(1)), next: vec![0], ..Port::default() }],
            Beyond::default(),
        )
    }

    fn batch(codes: &[&str]) -> Batch {
        let provenance = Provenance {
            source: "s".into(),
            seed: Seed::default(),
            received_at: Timestamp(0),
            peer: None,
            stamp: None,
        };
        let text: String = codes.iter().map(|code| format!("{{\"code\":\"{code}\"}}\n")).collect();
        let mut batch = Batch::new(Bytes::from(text.clone()), Arc::new(provenance));
        let mut start = 0;
        for line in text.lines() {
            batch.push_validated(start..start + line.len(), start as u64);
            start += line.len() + 1;
        }
        batch
    }

    fn lines(result: &Yield, stream: u16) -> Vec<String> {
        let of_stream = result.entries.iter().filter(|(id, _)| *id == StreamId(stream));
        let mut all = Vec::new();
        for (_, lines) in of_stream {
            all.extend((0..lines.len()).map(|n| String::from_utf8(lines.line(n).to_vec()).unwrap()));
        }
        all
    }

    #[test]
    fn every_event_of_a_batch_ends_in_one_column() {
        let (flow, batch) = (flow(), batch(&["a", "drop", "double"]));
        let mut result = flow.new_yield();
        flow.run(batch, &mut result).unwrap();
        assert_eq!(lines(&result, 1).len(), 3);
        assert_eq!(lines(&result, 2), [r#"{"code":"a"}"#, r#"{"code":"double"}"#, r#"{"code":"double"}"#]);
        let counts = &result.deltas[0];
        assert_eq!((counts.entered, counts.made, counts.left, counts.filtered_total()), (3, 1, 3, 1));
        assert_eq!(counts.entered + counts.made, counts.left + counts.filtered_total() + counts.dead_lettered);
    }

    #[test]
    fn a_panic_costs_the_event_it_is_about() {
        let (flow, batch) = (flow(), batch(&["a", "panic", "fail", "b"]));
        assert!(flow.run(batch.clone(), &mut flow.new_yield()).is_err());
        let mut result = flow.new_yield();
        (0..batch.len()).for_each(|event| flow.run_alone(&batch, event, &mut result).unwrap());
        assert_eq!(lines(&result, 2), [r#"{"code":"a"}"#, r#"{"code":"b"}"#]);
        let reasons: Vec<&str> = result.dead.iter().map(|(_, dead)| dead.reason.as_str()).collect();
        assert_eq!(reasons, ["panic: moody panic", "moody failure"]);
        assert_eq!(result.dead[0].1.line, br#"{"code":"panic"}"#);
        assert_eq!((result.deltas[0].entered, result.deltas[0].dead_lettered), (4, 2));
    }
}
