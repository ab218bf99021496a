//! Builds components and their wiring from the sections `sources`, `transforms` and `sinks`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::plan::{API_SOURCE, Fingerprint, Input, PlannedSink, PlannedSource, PlannedTransform};
use super::settings::{SinkFrame, StageFrame};
use super::wiring::{Kind, Knot};
use crate::component::entry::Entry as Catalogued;
use crate::component::sink::AnySinkConfig;
use crate::component::{AnySource, AnyTransform, Check, SinkEntry, SourceEntry, TransformEntry};
use crate::diagnostic::{self, Entry, Kind as NodeKind, Node, Problem, Problems, Span, Spanned};
use crate::net::Endpoint;
use crate::net::tls::Trust;
use crate::query::Query;

/// The keys of a sink that belong to the frame and not to the sink.
pub const SINK_KEYS: &[&str] = &[
    "type",
    "inputs",
    "batch",
    "retry",
    "concurrency",
    "rate",
    "where",
    "timeout",
    "tls",
    "proxy",
    "dead_letter",
    "buffer",
    "start",
    "on_remove",
];
/// The same of a transform.
pub const TRANSFORM_KEYS: &[&str] = &["type", "inputs"];
/// The same of a transform that remembers.
pub const STAGE_KEYS: &[&str] = &["type", "inputs", "state", "on_remove"];
/// The same of a source.
pub const SOURCE_KEYS: &[&str] = &["type"];

/// Longest name of a component.
const MAX_NAME: usize = 64;

/// The types of components that there are.
#[derive(Clone, Copy)]
pub struct Catalogue {
    pub sources: &'static [SourceEntry],
    pub transforms: &'static [TransformEntry],
    pub sinks: &'static [SinkEntry],
}

impl Catalogue {
    /// All components that are built in.
    pub const fn built_in() -> Catalogue {
        Catalogue {
            sources: crate::sources::CATALOGUE,
            transforms: crate::transforms::CATALOGUE,
            sinks: crate::sinks::CATALOGUE,
        }
    }

    /// The section in which a type belongs, if there is such a type.
    fn section_of(&self, type_name: &str) -> Option<&'static str> {
        let is = |name: &&str| *name == type_name;
        if self.sources.iter().map(|entry| entry.type_name).any(|name| is(&name)) {
            return Some("sources");
        }
        if self.transforms.iter().map(|entry| entry.type_name).any(|name| is(&name)) {
            return Some("transforms");
        }
        self.sinks.iter().map(|entry| entry.type_name).any(|name| is(&name)).then_some("sinks")
    }
}

/// What a component may know while it is checked.
pub struct BuildContext<'s> {
    pub catalogue: Catalogue,
    pub data_dir: &'s Path,
    pub durable: bool,
}

/// A component that was read: `None` where it could not be built.
pub struct Built<T> {
    pub knot: Knot,
    pub type_name: &'static str,
    pub fingerprint: Fingerprint,
    pub component: Option<T>,
}

impl<T> Built<T> {
    fn with_files(self, files: &[PathBuf]) -> Built<T> {
        Built { fingerprint: with_files(self.fingerprint, files), ..self }
    }
}

/// What files hold that a component names by path is part of its configuration.
fn with_files(fingerprint: Fingerprint, files: &[PathBuf]) -> Fingerprint {
    if files.is_empty() {
        return fingerprint;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fingerprint);
    for file in files {
        match std::fs::File::open(file).and_then(|file| hasher.update_reader(file).map(drop)) {
            Ok(()) => drop(hasher.update(b";")),
            // Whoever needs the file says what is wrong with it.
            Err(error) => drop(hasher.update(error.kind().to_string().as_bytes())),
        }
    }
    *hasher.finalize().as_bytes()
}

/// All components, the ones that could not be built included, so that wiring can be checked all the same.
#[derive(Default)]
pub struct Components {
    pub sources: Vec<Built<Box<dyn AnySource>>>,
    /// Where each of the sources listens.
    endpoints: Vec<Vec<Endpoint>>,
    pub transforms: Vec<Built<FramedTransform>>,
    pub sinks: Vec<Built<(Frame, Box<dyn AnySinkConfig>)>>,
}

/// Reads the three sections below `root`.
pub fn read(root: &Node, context: &BuildContext<'_>, problems: &mut Problems) -> Components {
    let mut components = Components::default();
    let mut names: Vec<(&str, Span)> = Vec::new();
    let catalogue = context.catalogue;
    for entry in section(root, "sources", &mut names, problems) {
        let built = build(entry, SOURCES, catalogue.sources, context, problems);
        components.sources.extend(built.map(|built| {
            let endpoints = match &built.component {
                Some(source) => source.endpoints(),
                None => written_endpoint(entry).into_iter().collect(),
            };
            components.endpoints.push(endpoints);
            let files = built.component.as_ref().map(|source| source.files()).unwrap_or_default();
            built.with_files(&files)
        }));
    }
    for entry in section(root, "transforms", &mut names, problems) {
        let before = problems.count_errors();
        let built = build(entry, TRANSFORMS, catalogue.transforms, context, problems);
        components.transforms.extend(built.map(|mut built| {
            built.knot.inputs = inputs(entry, TRANSFORMS, problems);
            let remembers = built.component.as_ref().is_some_and(|transform| transform.stage().is_some());
            let frame = remembers.then(|| stage_frame(entry, problems)).flatten();
            if let Some(transform) = built.component.as_ref().filter(|_| problems.count_errors() == before) {
                built.knot.outputs = Some(transform.outputs());
                built.knot.passes = remembers;
            }
            let files = built.component.as_ref().map(|transform| transform.files()).unwrap_or_default();
            let Built { knot, type_name, fingerprint, component } = built.with_files(&files);
            Built { knot, type_name, fingerprint, component: component.map(|transform| (frame, transform)) }
        }));
    }
    let mut files_of_sinks = Vec::new();
    for entry in section(root, "sinks", &mut names, problems) {
        let built = build(entry, SINKS, catalogue.sinks, context, problems);
        check_own_files(entry, &mut files_of_sinks, problems);
        let frame = frame(entry, problems);
        let files = frame.as_ref().and_then(|(frame, _)| frame.tls.as_ref()).map(Trust::files).unwrap_or_default();
        components.sinks.extend(built.map(|built| Built {
            knot: Knot { inputs: inputs(entry, SINKS, problems), ..built.knot },
            type_name: built.type_name,
            fingerprint: with_files(built.fingerprint, &files),
            component: frame.zip(built.component),
        }));
    }
    components
}

/// A section and what its components have in common.
#[derive(Clone, Copy)]
struct Section {
    name: &'static str,
    kind: Kind,
    keys: &'static [&'static str],
}

const SOURCES: Section = Section { name: "sources", kind: Kind::Source, keys: SOURCE_KEYS };
const TRANSFORMS: Section = Section { name: "transforms", kind: Kind::Transform, keys: TRANSFORM_KEYS };
const SINKS: Section = Section { name: "sinks", kind: Kind::Sink, keys: SINK_KEYS };

/// The entries of a section whose names may be used.
fn section<'n>(
    root: &'n Node,
    name: &str,
    names: &mut Vec<(&'n str, Span)>,
    problems: &mut Problems,
) -> Vec<&'n Entry> {
    let Some(found) = root.get(name) else { return Vec::new() };
    let Some(entries) = found.value.entries() else {
        let message = format!("expected a mapping of names to components, got {}", found.value.describe());
        problems.push(Problem::error(name, found.value.span, message));
        return Vec::new();
    };
    let mut good = Vec::new();
    for entry in entries {
        let path = format!("{name}.{}", entry.name());
        if let Err((message, hint)) = check_name(entry.name()) {
            problems.push(Problem::error(path, entry.key.span, message).hint(hint));
        } else if let Some((_, first)) = names.iter().find(|(known, _)| *known == entry.name()) {
            let message = format!("duplicate component name `{}`", entry.name());
            problems.push(Problem::error(path, entry.key.span, message).also(*first, "first here"));
        } else {
            names.push((entry.name(), entry.key.span));
            good.push(entry);
        }
    }
    good
}

fn check_name(name: &str) -> Result<(), (String, &'static str)> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name == API_SOURCE {
        return Err(("`api` is a built-in source".into(), "choose another name"));
    }
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
        let hint = "a name has up to 64 letters, digits, `_` and `-`";
        return Err((format!("`{name}` is not a valid component name"), hint));
    }
    Ok(())
}

/// Finds the type and builds the component; `None` only where the type is not known.
fn build<T>(
    entry: &Entry,
    section: Section,
    catalogue: &'static [Catalogued<T>],
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Built<T>> {
    let path = format!("{}.{}", section.name, entry.name());
    let knot = Knot {
        name: entry.name().into(),
        kind: section.kind,
        span: entry.key.span,
        outputs: (section.kind != Kind::Transform).then(Vec::new),
        passes: false,
        inputs: Vec::new(),
        redacts: false,
    };
    let unbuilt = |knot: Knot| {
        let outputs = if knot.kind == Kind::Transform { None } else { knot.outputs };
        Some(Built {
            knot: Knot { outputs, redacts: true, ..knot },
            type_name: "",
            fingerprint: [0; 32],
            component: None,
        })
    };
    let Some(catalogued) = choose(entry, &path, catalogue, context, problems) else {
        diagnostic::hide_unread(&entry.value, problems);
        return unbuilt(knot);
    };
    let mut canonical = format!("{} {} ", section.name, entry.name());
    // The outputs of a route are numbered in the order in which they are written, and so are rules that come one by one.
    entry.value.canonical(section.kind == Kind::Transform, &mut canonical);
    let own = own_keys(&entry.value, if catalogued.remembers { STAGE_KEYS } else { section.keys });
    let mut check = Check::new(entry.name(), context.data_dir, context.durable);
    let component = (catalogued.build)(&own, &mut check);
    diagnostic::place(&mut check.problems, 0, &own, &path, entry.key.span);
    problems.extend(check.problems);
    Some(Built {
        knot: Knot { redacts: catalogued.type_name == "redact", ..knot },
        type_name: catalogued.type_name,
        fingerprint: *blake3::hash(canonical.as_bytes()).as_bytes(),
        component,
    })
}

/// The catalogue entry that `type` names.
fn choose<'c, T>(
    entry: &Entry,
    path: &str,
    catalogue: &'c [Catalogued<T>],
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<&'c Catalogued<T>> {
    let known = || catalogue.iter().map(|catalogued| catalogued.type_name);
    let hint = || diagnostic::known("types", known());
    if entry.value.entries().is_none() {
        let message = format!("expected a mapping, got {}", entry.value.describe());
        problems.push(Problem::error(path, entry.value.span, message));
        return None;
    }
    let Some(chosen) = entry.value.get("type") else {
        problems.push(Problem { hint: hint(), ..Problem::error(path, entry.key.span, "missing key `type`") });
        return None;
    };
    let path = format!("{path}.type");
    let Some(name) = chosen.value.text().filter(|_| !chosen.value.is_null()) else {
        let message = format!("expected a type, got {}", chosen.value.describe());
        problems.push(Problem { hint: hint(), ..Problem::error(path, chosen.value.span, message) });
        return None;
    };
    let found = catalogue.iter().find(|catalogued| catalogued.type_name == name);
    if found.is_none() {
        let nearest = diagnostic::nearest(name, known());
        let written = chosen.value.scalar().and_then(|scalar| scalar.written.as_deref()).unwrap_or(name);
        let mut problem = Problem::error(path, chosen.value.span, format!("unknown type `{written}`"));
        problem.hint = hint();
        if let Some(elsewhere) = context.catalogue.section_of(name) {
            problem.hint = Some(format!("`{name}` belongs under `{elsewhere}`"));
        } else if let Some(nearest) = nearest {
            problem.message.push_str(&format!("; did you mean `{nearest}`?"));
        }
        problems.push(problem);
    }
    found
}

/// Reports a sink that writes to the files of another: each would cut back what the other has written.
fn check_own_files<'n>(entry: &'n Entry, known: &mut Vec<(&'n str, &'n Entry)>, problems: &mut Problems) {
    let text = |key: &str| entry.value.get(key).and_then(|found| Some((found.value.text()?, found.value.span)));
    let (Some(("file", _)), Some((path, span))) = (text("type"), text("path")) else { return };
    match known.iter().find(|(other, _)| *other == path) {
        Some((_, first)) => {
            let message = format!("the sink `{}` writes to this path as well", first.name());
            let problem = Problem::error(format!("{}.{}.path", SINKS.name, entry.name()), span, message);
            problems.push(problem.also(first.key.span, "here").hint("give each its own path, or one sink both inputs"));
        }
        None => known.push((path, entry)),
    }
}

/// Where a source listens of which something else is wrong, as far as that can be said.
fn written_endpoint(entry: &Entry) -> Option<Endpoint> {
    let text = |key: &str| entry.value.get(key)?.value.text();
    let address = text("address")?.parse().ok()?;
    match (text("type")?, text("mode")) {
        ("http", _) | ("socket", Some("tcp" | "unix")) => Some(Endpoint::stream(&address)),
        ("socket", Some("udp")) => Some(Endpoint::udp(&address)),
        _ => None,
    }
}

/// The component's own keys; those of the frame are known, but passed over.
fn own_keys(node: &Node, aside: &'static [&'static str]) -> Node {
    Node { aside, ..node.clone() }
}

/// The mapping with the keys of the frame alone.
fn frame_keys(node: &Node, keys: &[&str]) -> Node {
    let entries = node.entries().unwrap_or(&[]).iter().filter(|entry| keys.contains(&entry.name())).cloned();
    Node::new(NodeKind::Mapping(entries.collect()), node.span)
}

#[derive(Deserialize)]
struct Inputs {
    inputs: Vec<Spanned<String>>,
}

fn inputs(entry: &Entry, section: Section, problems: &mut Problems) -> Vec<Spanned<String>> {
    let path = format!("{}.{}", section.name, entry.name());
    if entry.value.entries().is_none() {
        return Vec::new();
    }
    let is_misspelt = |key: &str| !section.keys.contains(&key) && diagnostic::nearest(key, ["inputs"]).is_some();
    if entry.value.get("inputs").is_none()
        && entry.value.entries().iter().flat_map(|e| e.iter()).any(|e| is_misspelt(e.name()))
    {
        return Vec::new();
    }
    let node = frame_keys(&entry.value, &["inputs"]);
    let mut found = Problems::default();
    let read = diagnostic::read::<Inputs>(&node, &mut found);
    if read.as_ref().is_some_and(|read| read.inputs.is_empty()) {
        found.push(Problem::error("inputs", Span::NOWHERE, "`inputs` is empty"));
    }
    diagnostic::place(&mut found, 0, &node, &path, entry.key.span);
    problems.extend(found);
    read.map(|read| read.inputs).unwrap_or_default()
}

/// A transform, with its frame if it remembers.
pub type FramedTransform = (Option<StageFrame>, Box<dyn AnyTransform>);

/// The frame of a sink and its compiled `where`.
type Frame = (SinkFrame, Option<Query>);

fn frame(entry: &Entry, problems: &mut Problems) -> Option<Frame> {
    let path = format!("{}.{}", SINKS.name, entry.name());
    entry.value.entries()?;
    let node = Node { aside: &["type", "inputs"], ..frame_keys(&entry.value, SINK_KEYS) };
    let mut found = Problems::default();
    let (frame, unreliable) = diagnostic::read_anyway::<SinkFrame>(&node, &mut found).unzip();
    if let (Some(frame), Some(unreliable)) = (&frame, &unreliable) {
        let mut beyond = Problems::default();
        super::bounds::of_frame(frame, unreliable, &mut beyond);
        beyond.forget(|problem| unreliable.touch(&problem.path));
        found.extend(beyond);
    }
    let filter = frame.as_ref().and_then(|frame| frame.filter.as_deref()).and_then(|text| {
        let mut check = Check::new(entry.name(), "", true);
        let query = check.query("where", text);
        found.extend(check.problems);
        query
    });
    diagnostic::place(&mut found, 0, &node, &path, entry.key.span);
    problems.extend(found);
    frame.map(|frame| (frame, filter))
}

fn stage_frame(entry: &Entry, problems: &mut Problems) -> Option<StageFrame> {
    let path = format!("{}.{}", TRANSFORMS.name, entry.name());
    entry.value.entries()?;
    let node = Node { aside: &["type", "inputs"], ..frame_keys(&entry.value, STAGE_KEYS) };
    let mut found = Problems::default();
    let frame = diagnostic::read::<StageFrame>(&node, &mut found);
    diagnostic::place(&mut found, 0, &node, &path, entry.key.span);
    problems.extend(found);
    frame
}

impl Components {
    /// Reports sources that listen on one address, with each other or with the API.
    pub fn check_endpoints(&self, api: Option<(Endpoint, Span)>, problems: &mut Problems) {
        let mut known: Vec<(Endpoint, String, Span)> = Vec::new();
        known.extend(api.map(|(endpoint, span)| (endpoint, "the API".to_owned(), span)));
        for (built, endpoints) in self.sources.iter().zip(&self.endpoints) {
            let name = &built.knot.name;
            for endpoint in endpoints {
                if let Some((_, other, span)) = known.iter().find(|(other, ..)| other.conflicts_with(endpoint)) {
                    let message = format!("`{endpoint}` is already used by {other}");
                    let problem = Problem::error(format!("sources.{name}"), built.knot.span, message);
                    problems.push(problem.also(*span, "here").hint("give each its own address"));
                }
                known.push((endpoint.clone(), format!("the source `{name}`"), built.knot.span));
            }
        }
    }

    /// All of them as the wiring sees them: sources, transforms, sinks.
    pub fn knots(&self) -> Vec<Knot> {
        let sources = self.sources.iter().map(|built| built.knot.clone());
        let transforms = self.transforms.iter().map(|built| built.knot.clone());
        let sinks = self.sinks.iter().map(|built| built.knot.clone());
        sources.chain(transforms).chain(sinks).collect()
    }

    /// The components with their wires, the transforms in the given order of knots; without errors none is missing.
    pub fn plan(
        self,
        mut wires: Vec<Vec<Input>>,
        order: &[usize],
    ) -> (Vec<PlannedSource>, Vec<PlannedTransform>, Vec<PlannedSink>) {
        let transforms_from = self.sources.len();
        let sinks_from = transforms_from + self.transforms.len();
        let mut take = |knot: usize| std::mem::take(&mut wires[knot]);
        let sources = self.sources.into_iter().filter_map(|built| {
            let (name, type_name, fingerprint) = (built.knot.name, built.type_name, built.fingerprint);
            built.component.map(|source| PlannedSource { name, type_name, source, fingerprint })
        });
        let sources = sources.collect();
        let mut transforms: Vec<Option<PlannedTransform>> = Vec::new();
        for (index, built) in self.transforms.into_iter().enumerate() {
            let (name, type_name) = (built.knot.name, built.type_name);
            let inputs = take(transforms_from + index);
            let fingerprint = with_inputs(built.fingerprint, &inputs);
            let planned =
                |(frame, transform)| PlannedTransform { name, type_name, inputs, transform, frame, fingerprint };
            transforms.push(built.component.map(planned));
        }
        let ordered = order.iter().filter_map(|knot| transforms.get_mut(knot - transforms_from)?.take()).collect();
        let mut sinks = Vec::new();
        for (index, built) in self.sinks.into_iter().enumerate() {
            let (name, type_name) = (built.knot.name, built.type_name);
            let inputs = take(sinks_from + index);
            let fingerprint = with_inputs(built.fingerprint, &inputs);
            if let Some(((frame, filter), sink)) = built.component {
                let promise = sink.promise();
                sinks.push(PlannedSink { name, type_name, inputs, frame, filter, promise, sink, fingerprint });
            }
        }
        (sources, ordered, sinks)
    }
}

/// A pattern may come to other inputs without a change of its text.
fn with_inputs(fingerprint: Fingerprint, inputs: &[Input]) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fingerprint);
    for Input { component, port } in inputs {
        hasher.update(format!("{component}/{port};").as_bytes());
    }
    *hasher.finalize().as_bytes()
}
