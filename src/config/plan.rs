//! A valid configuration: plain data and components that are built but have opened nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::settings::{Settings, SinkFrame, StageFrame};
use crate::component::sink::AnySinkConfig;
use crate::component::{AnySource, AnyTransform, Promise, Readable, SinkContext};
use crate::query::Query;

/// What a component's configuration comes to, for comparing: a hash, since the text may hold secrets.
pub type Fingerprint = [u8; 32];

/// How long a sink may take to show that it works.
pub const DRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything the wiring needs.
pub struct Plan {
    pub data_dir: PathBuf,
    pub settings: Settings,
    pub sources: Vec<PlannedSource>,
    /// Each behind all that feed it.
    pub transforms: Vec<PlannedTransform>,
    pub sinks: Vec<PlannedSink>,
    /// Sinks that are in no configuration any more, as they were configured last, and that may still owe events.
    pub leftover: Vec<PlannedSink>,
    /// The same of stages, and stages that have another type now.
    pub leftover_stages: Vec<EarlierStage>,
    pub snapshots: Snapshots,
    /// The fingerprint of each section of the settings.
    pub sections: Vec<(&'static str, Fingerprint)>,
    /// The configuration as it may be shown to administrators.
    pub shown: serde_json::Value,
}

/// Components as they are written, nothing filled in, so that one that is gone can finish what it owes.
#[derive(Clone, Default)]
pub struct Snapshots {
    /// The text of each sink by its name.
    pub sinks: BTreeMap<String, String>,
    /// By the name and type of each stage: itself and every transform that follows it.
    pub stages: BTreeMap<StageKey, String>,
}

/// The name and the type of a stage.
pub type StageKey = (String, String);

/// A stage as it was configured last.
pub struct EarlierStage {
    pub name: Arc<str>,
    /// Itself and what followed it, each behind all that feed it.
    pub transforms: Vec<PlannedTransform>,
}

pub struct PlannedSource {
    pub name: Arc<str>,
    pub type_name: &'static str,
    pub source: Box<dyn AnySource>,
    pub fingerprint: Fingerprint,
}

pub struct PlannedTransform {
    pub name: Arc<str>,
    pub type_name: &'static str,
    pub inputs: Vec<Input>,
    pub transform: Box<dyn AnyTransform>,
    /// The frame of one that remembers.
    pub frame: Option<StageFrame>,
    pub fingerprint: Fingerprint,
}

pub struct PlannedSink {
    pub name: Arc<str>,
    pub type_name: &'static str,
    pub inputs: Vec<Input>,
    pub frame: SinkFrame,
    /// The frame's `where`, ready to match.
    pub filter: Option<Query>,
    pub promise: Promise,
    pub sink: Box<dyn AnySinkConfig>,
    pub fingerprint: Fingerprint,
}

impl PlannedSink {
    /// For opening the sink, or looking at what it would send, without anything being created or changed.
    pub fn dry_context(&self, agent: Arc<str>, data_dir: &std::path::Path) -> SinkContext {
        SinkContext {
            name: self.name.clone(),
            agent,
            data_dir: data_dir.to_owned(),
            timeout: DRY_TIMEOUT,
            tls: self.frame.tls.clone().unwrap_or_default(),
            encrypted: self.frame.tls.is_some(),
            proxy: self.frame.proxy.clone(),
            memory: None,
            left: None,
            position: 0,
            dry: true,
            stores: Default::default(),
        }
    }
}

/// What live streams show.
pub struct LiveInputs {
    /// The inputs of sinks, each with the query of what it takes.
    pub taken: Vec<(Vec<Input>, Option<Arc<Query>>)>,
    /// Whether the sink that the API reads takes the same.
    pub are_read: bool,
}

impl Plan {
    /// What live streams show: the inputs of the sinks that end in a live stream, else of the one that the API reads.
    pub fn live_inputs(&self) -> LiveInputs {
        let live: Vec<&PlannedSink> = self.sinks.iter().filter(|sink| sink.sink.is_live()).collect();
        let read = self.settings.api.read.sink.as_deref();
        let is_read = |sink: &&PlannedSink| match read {
            Some(name) => sink.sink.readable() != Readable::Never && name == &*sink.name,
            None => sink.sink.readable() == Readable::ByDefault,
        };
        let read: Vec<&PlannedSink> = self.sinks.iter().filter(is_read).collect();
        let takes = |sink: &PlannedSink| {
            let inputs: BTreeSet<Input> = sink.inputs.iter().cloned().collect();
            (inputs, sink.filter.as_ref().map(|filter| filter.text().to_owned()))
        };
        let are_read = read.first().is_some_and(|read| live.iter().all(|sink| takes(sink) == takes(read)));
        let again = |query: &Query| Query::parse(query.text()).ok().map(Arc::new);
        let shown = if live.is_empty() { read } else { live };
        let taken = shown.into_iter().map(|sink| (sink.inputs.clone(), sink.filter.as_ref().and_then(again)));
        LiveInputs { taken: taken.collect(), are_read }
    }
}

/// One output of one component.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Input {
    pub component: Arc<str>,
    /// 0 is the default output, n the n-th of the transform's `outputs()`.
    pub port: usize,
}

/// The source that is always there: events posted to the API.
pub const API_SOURCE: &str = "api";
