//! Components that an earlier configuration had, the present one has not, and that may still owe events.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::components::{self, BuildContext, Components};
use super::plan::{EarlierStage, Plan, PlannedSink, PlannedTransform, Snapshots};
use super::{Catalogue, Environment, Loading, Overrides, Text, files, settings, wiring};
use crate::diagnostic::{self, Entry, Kind, Node, Problems, Sources, Span};

/// What stands between the name and the type of a stage in a key of the file.
const OF_TYPE: &str = " of type ";

/// The components of a configuration before anything is filled in.
pub(super) struct Written {
    sinks: BTreeMap<String, String>,
    transforms: BTreeMap<String, String>,
}

impl Written {
    pub(super) fn of(root: &Node) -> Written {
        let texts = |section| entries(root, section).iter().map(|entry| (entry.name().to_owned(), text(entry)));
        Written { sinks: texts("sinks").collect(), transforms: texts("transforms").collect() }
    }

    pub(super) fn snapshots(self, plan: &Plan) -> Snapshots {
        let stages = plan.transforms.iter().filter(|transform| transform.transform.stage().is_some());
        let stage = |stage: &PlannedTransform| {
            let texts = reached_from(&stage.name, &plan.transforms)
                .into_iter()
                .filter_map(|name| Some(format!("{name}: {}", self.transforms.get(&*name)?)));
            let text = format!("{{ {} }}", texts.collect::<Vec<_>>().join(", "));
            ((stage.name.to_string(), stage.type_name.to_owned()), text)
        };
        Snapshots { stages: stages.map(stage).collect(), sinks: self.sinks }
    }
}

/// A transform and all that follow it. `transforms` are in an order in which each stands behind all that feed it.
fn reached_from(name: &Arc<str>, transforms: &[PlannedTransform]) -> BTreeSet<Arc<str>> {
    let mut reached = BTreeSet::from([name.clone()]);
    for transform in transforms {
        if transform.inputs.iter().any(|input| reached.contains(&input.component)) {
            reached.insert(transform.name.clone());
        }
    }
    reached
}

fn entries<'n>(root: &'n Node, section: &str) -> &'n [Entry] {
    root.get(section).and_then(|section| section.value.entries()).unwrap_or_default()
}

fn text(entry: &Entry) -> String {
    let mut text = String::new();
    entry.value.flow_yaml(&mut text);
    text
}

impl Snapshots {
    /// As the file has them that [`add_leftover`] reads.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if !self.sinks.is_empty() {
            text.push_str("sinks:\n");
            self.sinks.iter().for_each(|(name, sink)| text.push_str(&format!("  {name}: {sink}\n")));
        }
        if !self.stages.is_empty() {
            text.push_str("stages:\n");
            for ((name, type_name), transforms) in &self.stages {
                text.push_str(&format!("  {name}{OF_TYPE}{type_name}: {transforms}\n"));
            }
        }
        text
    }
}

/// Adds the sinks and stages of an earlier configuration that this plan does not have and that say what becomes of
/// waiting events, and the stages that have another type in this plan. Returns what cannot be read any more.
pub fn add_leftover(plan: &mut Plan, earlier: &Path) -> Vec<String> {
    let Ok(bytes) = std::fs::read(earlier) else { return Vec::new() };
    let texts = vec![Text { name: earlier.display().to_string(), bytes }];
    let (root, _) = files::merge(texts, &mut Sources::default(), &mut Problems::default());
    let mut errors = Vec::new();
    let gone = |entry: &&Entry| plan.sinks.iter().all(|sink| *sink.name != *entry.name());
    for entry in entries(&root, "sinks").iter().filter(gone).cloned().collect::<Vec<_>>() {
        match earlier_sink(&entry, plan) {
            Ok(Some(sink)) => {
                plan.snapshots.sinks.insert(entry.name().to_owned(), text(&entry));
                plan.leftover.push(sink);
            }
            Ok(None) => {}
            Err(error) => errors.push(format!("sinks.{}: {error}", entry.name())),
        }
    }
    for entry in entries(&root, "stages") {
        let Some((name, type_name)) = entry.name().split_once(OF_TYPE) else { continue };
        let now = plan.transforms.iter().find(|transform| *transform.name == *name);
        if now.is_some_and(|now| now.type_name == type_name) {
            continue;
        }
        let says = entry.value.get(name).is_some_and(|stage| stage.value.get("on_remove").is_some());
        // Kept as it was, for a start that brings the stage back with something to say about it.
        plan.snapshots.stages.insert((name.to_owned(), type_name.to_owned()), text(entry));
        if now.is_none() && !says {
            continue;
        }
        match earlier_transforms(entry, plan) {
            Ok(transforms) => plan.leftover_stages.push(EarlierStage { name: name.into(), transforms }),
            Err(error) => errors.push(format!("transforms.{name}: {error}")),
        }
    }
    errors
}

/// `None` where it does not say what becomes of waiting events.
fn earlier_sink(entry: &Entry, plan: &Plan) -> Result<Option<PlannedSink>, String> {
    if entry.value.get("on_remove").is_none() {
        return Ok(None);
    }
    let section = Node::new(Kind::Mapping(vec![entry.clone()]), entry.value.span);
    let components = read(section, "sinks", plan)?;
    let (_, _, sinks) = components.plan(vec![Vec::new()], &[]);
    Ok(sinks.into_iter().next())
}

/// A stage and what followed it. What it read is of no interest any more.
fn earlier_transforms(entry: &Entry, plan: &Plan) -> Result<Vec<PlannedTransform>, String> {
    let components = read(entry.value.clone(), "transforms", plan)?;
    let knots = components.knots();
    let mut unheard = Problems::default();
    let wires = wiring::connect(&knots, None, &mut unheard);
    let order = wiring::order(&knots, &wires, &mut unheard);
    let (_, transforms, _) = components.plan(wires, &order);
    Ok(transforms)
}

/// Builds the components of one section, with the variables of today.
fn read(section: Node, name: &str, plan: &Plan) -> Result<Components, String> {
    let section = Entry { key: Node::plain(name, Span::NOWHERE), value: section };
    let mut root = Node::new(Kind::Mapping(vec![section]), Span::NOWHERE);
    let mut problems = Problems::default();
    let overrides = Overrides::default();
    let (catalogue, environment) = (Catalogue::built_in(), Environment::process());
    let loading = Loading { catalogue, environment, overrides: &overrides, problems: Problems::default() };
    loading.interpolate(&mut root, &plan.data_dir, &mut problems, &mut Vec::new());
    let durable = plan.settings.journal.mode == settings::Mode::Disk;
    let context = BuildContext { catalogue, data_dir: &plan.data_dir, durable };
    let components = components::read(&root, &context, &mut problems);
    if !problems.has_errors() {
        return Ok(components);
    }
    let first = diagnostic::report(&problems, &Sources::default()).into_iter().next();
    Err(first.map_or_else(|| "the file cannot be parsed".to_owned(), |report| report.message))
}
