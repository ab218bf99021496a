//! From configuration text to a plan: reads every file, types every value, builds every component, and reports all
//! problems at once.

mod bounds;
mod changes;
mod components;
mod earlier;
mod files;
mod foreign;
mod interpolate;
mod named_files;
mod plan;
mod reference;
mod schema;
pub mod settings;
mod shown;
mod tested;
mod unknown_fields;
mod wiring;

use std::path::{Path, PathBuf};

pub use changes::{Changes, Outline};
use components::BuildContext;
pub use components::{Catalogue, SINK_KEYS, SOURCE_KEYS, STAGE_KEYS, TRANSFORM_KEYS};
pub use earlier::add_leftover;
pub use files::{Text, locate};
pub use interpolate::Environment;
pub use plan::{
    API_SOURCE, DRY_TIMEOUT, EarlierStage, Fingerprint, Input, LiveInputs, Plan, PlannedSink, PlannedSource,
    PlannedTransform, Snapshots,
};
pub use reference::reference;
pub use schema::schema;
use settings::Settings;

use crate::component::Readable;
use crate::diagnostic::{self, Entry, Kind, Node, Problem, Problems, Sources, Span};
use crate::net::Endpoint;
use crate::net::address::Address;

/// The configuration when there is none.
pub const QUICK_START: &str = include_str!("../../config/quickstart.yaml");
/// The same with nothing on disk, on free ports.
pub const EPHEMERAL: &str = include_str!("../../config/ephemeral.yaml");
/// The name that problems of the quick start show.
const QUICK_START_NAME: &str = "the built-in quick start";
/// The name of the source that `Overrides::demo` adds.
const DEMO: &str = "demo";
/// Variables that have a value even where the environment gives them none.
const DATA_DIR: &str = "WEIR_DATA_DIR";
const SPOOL_DIR: &str = "WEIR_SPOOL_DIR";
const SERVER_SPOOL_DIR: &str = "WEIR_SERVER_SPOOL_DIR";
/// The sections that hold components.
const SECTIONS: [&str; 3] = ["sources", "transforms", "sinks"];
/// A part of a section that a reload may change.
pub const API_AUTH: &str = "api.auth";
/// The rest of the top level.
const SETTINGS: [&str; 6] = ["data_dir", "journal", "api", "log", "limits", "tests"];

/// Values from command-line arguments, which override the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub data_dir: Option<PathBuf>,
    /// Adds the demo source wherever a source is read.
    pub demo: bool,
    /// Keeps everything in memory, on free ports.
    pub ephemeral: bool,
}

/// A configuration that holds, with what is worth a warning.
pub struct Loaded {
    pub plan: Plan,
    pub warnings: Problems,
    pub texts: Sources,
    /// Whether no file was found and this is the quick start.
    pub is_quick_start: bool,
    places: named_files::Places,
}

/// A configuration that does not hold: every reason.
#[derive(Debug)]
pub struct Rejected {
    pub problems: Problems,
    pub texts: Sources,
}

impl Rejected {
    /// For a terminal.
    pub fn render(&self, coloured: bool) -> String {
        diagnostic::render(&self.problems, &self.texts, coloured)
    }
}

impl Loaded {
    pub fn render_warnings(&self, coloured: bool) -> String {
        diagnostic::render(&self.warnings, &self.texts, coloured)
    }

    /// Loads the certificates and keys that are named by path, without which an agent does not start: the problems, for
    /// a terminal.
    pub fn check_files(&self, coloured: bool) -> Result<(), String> {
        let problems = self.places.check(&self.plan);
        if problems.has_errors() { Err(diagnostic::render(&problems, &self.texts, coloured)) } else { Ok(()) }
    }
}

/// Loads files and folders; without any, the quick start.
pub fn load(paths: &[PathBuf], overrides: &Overrides) -> Result<Loaded, Rejected> {
    let mut problems = Problems::default();
    let files = files::expand(paths, &mut problems);
    let mut texts = files::read(&files, &mut problems);
    if paths.is_empty() {
        let text = if overrides.ephemeral { EPHEMERAL } else { QUICK_START };
        texts.push(Text { name: QUICK_START_NAME.into(), bytes: text.into() });
    }
    let is_quick_start = paths.is_empty();
    let loading =
        Loading { catalogue: Catalogue::built_in(), environment: Environment::process(), overrides, problems };
    loading.run(texts).map(|loaded| Loaded { is_quick_start, ..loaded })
}

/// The contents of all files that the paths stand for and that can be read.
pub fn texts(paths: &[PathBuf]) -> Vec<Text> {
    let mut unheard = Problems::default();
    files::read(&files::expand(paths, &mut unheard), &mut unheard)
}

/// Loads texts with a catalogue and an environment of one's own.
pub fn load_texts(
    texts: Vec<Text>,
    catalogue: Catalogue,
    environment: Environment<'_>,
    overrides: &Overrides,
) -> Result<Loaded, Rejected> {
    Loading { catalogue, environment, overrides, problems: Problems::default() }.run(texts)
}

struct Loading<'l> {
    catalogue: Catalogue,
    environment: Environment<'l>,
    overrides: &'l Overrides,
    problems: Problems,
}

impl Loading<'_> {
    fn run(mut self, texts: Vec<Text>) -> Result<Loaded, Rejected> {
        let all_read = !self.problems.has_errors();
        let mut sources = Sources::default();
        let (mut root, all_parsed) = files::merge(texts, &mut sources, &mut self.problems);
        if self.overrides.demo {
            add_demo(&mut root);
        }
        let shown = shown::shown(&root);
        let data_dir = self.data_dir(&root);
        let texts_as_written = earlier::Written::of(&root);
        let (mut unset, mut broken) = (Problems::default(), Vec::new());
        self.interpolate(&mut root, &data_dir, &mut unset, &mut broken);
        let settings = self.settings(&root);
        let context = BuildContext {
            catalogue: self.catalogue,
            data_dir: &data_dir,
            durable: !self.overrides.ephemeral
                && settings.as_ref().is_none_or(|settings| settings.journal.mode == settings::Mode::Disk),
        };
        let components = components::read(&root, &context, &mut self.problems);
        // Names from a file that could not be read would all look unknown.
        let plan = if all_read && all_parsed { self.wire(components, settings, data_dir, &root) } else { None };
        let plan = plan.map(|plan| Plan { snapshots: texts_as_written.snapshots(&plan), ..plan });
        // What a value that could not be filled in fails to be is no second problem.
        self.problems.forget(|problem| broken.contains(&problem.span));
        self.problems.extend(unset);
        foreign::explain(&root, &mut self.problems);
        explain_moved(&mut self.problems);
        self.problems.sort();
        match plan {
            Some(plan) if !self.problems.has_errors() => {
                let plan = Plan { shown, ..plan };
                let places = named_files::Places::of(&plan, &root);
                Ok(Loaded { plan, warnings: self.problems, texts: sources, is_quick_start: false, places })
            }
            _ => Err(Rejected { problems: self.problems, texts: sources }),
        }
    }

    /// The data folder has to be known before the values that may name it are filled in.
    fn data_dir(&self, root: &Node) -> PathBuf {
        if let Some(given) = &self.overrides.data_dir {
            return given.clone();
        }
        let Some(entry) = root.get("data_dir") else { return Settings::default().data_dir };
        let mut node = entry.value.clone();
        // Its problems are found again and reported with all others.
        interpolate::interpolate(&mut node, "", &self.environment, &mut Problems::default(), &mut Vec::new());
        node.text().filter(|text| !text.is_empty()).map_or_else(|| Settings::default().data_dir, PathBuf::from)
    }

    fn interpolate(&self, root: &mut Node, data_dir: &Path, problems: &mut Problems, broken: &mut Vec<Span>) {
        let variable = |name: &str| {
            let set = (self.environment.variable)(name);
            set.or_else(|| match name {
                DATA_DIR => Some(data_dir.display().to_string()),
                SPOOL_DIR => Some(spool_dir_in(self.environment.variable)),
                // As the Python package names it.
                SERVER_SPOOL_DIR => Some(format!("{}-server", spool_dir_in(self.environment.variable))),
                _ => None,
            })
        };
        let environment = Environment { variable: &variable, file: self.environment.file };
        interpolate::interpolate(root, "", &environment, problems, broken);
    }

    fn settings(&mut self, root: &Node) -> Option<Settings> {
        let node = Node { aside: &SECTIONS, ..root.clone() };
        let mut found = Problems::default();
        let (settings, unreliable) = diagnostic::read_anyway::<Settings>(&node, &mut found).unzip();
        if let (Some(settings), Some(unreliable)) = (&settings, &unreliable) {
            let mut beyond = Problems::default();
            bounds::of_settings(settings, unreliable, &node, &mut beyond);
            beyond.forget(|problem| unreliable.touch(&problem.path));
            found.extend(beyond);
        }
        diagnostic::place(&mut found, 0, &node, "", node.span);
        self.problems.extend(found);
        settings
    }

    fn wire(
        &mut self,
        components: components::Components,
        settings: Option<Settings>,
        data_dir: PathBuf,
        root: &Node,
    ) -> Option<Plan> {
        let knots = components.knots();
        let wires = wiring::connect(&knots, self.overrides.demo.then_some(DEMO), &mut self.problems);
        let order = wiring::order(&knots, &wires, &mut self.problems);
        // Tests that could not be read completely are not checked by their remaining parts.
        let is_read = !self.problems.iter().any(|problem| problem.path.starts_with("tests"));
        if let Some(settings) = settings.as_ref().filter(|_| is_read) {
            let mut found = Problems::default();
            tested::check(&settings.tests, &knots, &mut found);
            diagnostic::place(&mut found, 0, root, "", root.span);
            self.problems.extend(found);
        }
        let api = settings.as_ref().filter(|settings| settings.api.enabled && !self.overrides.ephemeral);
        let span = root.get("api").map_or(Span::NOWHERE, |entry| entry.key.span);
        components.check_endpoints(api.map(|s| (Endpoint::stream(&s.api.address), span)), &mut self.problems);
        let is_sound = !self.problems.has_errors();
        let settings = settings?;
        // What could not be built passes for a redaction, so that nothing is reported that may not be so.
        if settings.limits.require_redact {
            wiring::require_redaction(&knots, &wires, &mut self.problems);
        }
        if is_sound {
            warn_of_nothing(root, &mut self.problems);
            wiring::warn_of_loose_ends(&knots, &wires, &mut self.problems);
            if settings.api.enabled && !self.overrides.ephemeral && !knots.is_empty() {
                wiring::warn_of_unread_api(&wires, span, &mut self.problems);
            }
            unknown_fields::warn(root, &knots, &wires, &order, &mut self.problems);
        }
        let (sources, transforms, sinks) = components.plan(wires, &order);
        if let Some(name) = &settings.api.read.sink {
            check_read(name, &sinks, root, &mut self.problems);
        }
        let (rest, auth) = without_auth(root);
        let mut sections = SETTINGS.map(|section| (section, fingerprint(rest.get(section)))).to_vec();
        sections.push((API_AUTH, fingerprint(auth.as_ref())));
        let mut settings = Settings { data_dir: data_dir.clone(), ..settings };
        if self.overrides.ephemeral {
            settings.journal.mode = settings::Mode::Memory;
            settings.api.address = Address::Tcp { host: "127.0.0.1".into(), port: 0 };
        }
        Some(Plan {
            data_dir,
            settings,
            sources,
            transforms,
            sinks,
            leftover: Vec::new(),
            leftover_stages: Vec::new(),
            snapshots: Snapshots::default(),
            sections,
            shown: Default::default(),
        })
    }
}

/// Whether the sink that the API is to read can be read.
fn check_read(name: &str, sinks: &[PlannedSink], root: &Node, problems: &mut Problems) {
    let found = sinks.iter().find(|sink| &*sink.name == name);
    let message = match found {
        Some(sink) if sink.sink.readable() != Readable::Never => return,
        Some(sink) => format!("`{name}` is a sink of type `{}`, which cannot be queried", sink.type_name),
        // Its other problems are reported at their positions.
        None if root.get("sinks").is_some_and(|sinks| sinks.value.get(name).is_some()) => return,
        None => {
            let near = diagnostic::nearest(name, sinks.iter().map(|sink| &*sink.name));
            format!("no sink `{name}`{}", near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())
        }
    };
    let mut found = Problems::default();
    found.push(Problem::error("api.read.sink", Span::NOWHERE, message));
    diagnostic::place(&mut found, 0, root, "", root.span);
    problems.extend(found);
}

/// Says where a section of earlier versions has gone.
fn explain_moved(problems: &mut Problems) {
    for problem in problems.iter_mut().filter(|problem| problem.path.is_empty()) {
        if problem.message == "unknown key `store`" {
            problem.hint = Some("the store is a sink: `sinks: { NAME: { type: store, inputs: [...] } }`".to_owned());
        }
    }
}

fn warn_of_nothing(root: &Node, problems: &mut Problems) {
    for (section, consequence) in [("sources", "nothing will arrive"), ("sinks", "events are not delivered anywhere")] {
        let found = root.get(section);
        let is_empty = found.and_then(|found| found.value.entries()).is_none_or(<[Entry]>::is_empty);
        // Events may come over the API alone.
        if is_empty && !(section == "sources" && reads_the_api(root)) {
            let span = found.map_or(Span::NOWHERE, |found| found.key.span);
            problems.push(Problem::warning(section, span, format!("no {section}: {consequence}")));
        }
    }
}

/// Whether a transform or a sink names the built-in source `api` among its inputs.
fn reads_the_api(root: &Node) -> bool {
    let components = ["transforms", "sinks"].into_iter().filter_map(|section| root.get(section)?.value.entries());
    let mut inputs = components.flatten().filter_map(|component| component.value.get("inputs"));
    inputs.any(|inputs| match &inputs.value.kind {
        Kind::Sequence(names) => names.iter().any(|name| name.text() == Some(API_SOURCE)),
        _ => inputs.value.text() == Some(API_SOURCE),
    })
}

/// The configuration without `api.auth`, and that.
fn without_auth(root: &Node) -> (Node, Option<Entry>) {
    let mut root = root.clone();
    let mut auth = None;
    if let Kind::Mapping(sections) = &mut root.kind
        && let Some(at) = sections.iter().position(|section| section.name() == "api")
        && let Kind::Mapping(keys) = &mut sections[at].value.kind
    {
        auth = keys.iter().position(|key| key.name() == "auth").map(|found| keys.remove(found));
        if keys.is_empty() {
            sections.remove(at);
        }
    }
    (root, auth)
}

fn fingerprint(section: Option<&Entry>) -> Fingerprint {
    let mut canonical = String::new();
    if let Some(entry) = section {
        entry.value.canonical(false, &mut canonical);
    }
    *blake3::hash(canonical.as_bytes()).as_bytes()
}

/// Puts the demo source beside the others, unless there is a component of its name.
fn add_demo(root: &mut Node) {
    let word = |text: &str| Node::plain(text, Span::NOWHERE);
    let mapping =
        |key: &str, value: Node| Node::new(Kind::Mapping(vec![Entry { key: word(key), value }]), Span::NOWHERE);
    let is_taken =
        SECTIONS.iter().any(|section| root.get(section).is_some_and(|found| found.value.get(DEMO).is_some()));
    if is_taken {
        return;
    }
    let demo = mapping(DEMO, mapping("type", word("demo")));
    if root.is_null() {
        *root = mapping("sources", demo);
        return;
    }
    let Kind::Mapping(entries) = &mut root.kind else { return };
    match entries.iter_mut().find(|entry| entry.name() == "sources") {
        None => entries.push(Entry { key: word("sources"), value: demo }),
        Some(section) if section.value.is_null() => section.value = demo,
        Some(section) => {
            if let (Kind::Mapping(sources), Kind::Mapping(demo)) = (&mut section.value.kind, demo.kind) {
                sources.extend(demo);
            }
        }
    }
}

/// Where the Python packages leave events for Weir, by this process's environment.
pub fn spool_dir() -> String {
    spool_dir_in(&|name| std::env::var(name).ok())
}

fn spool_dir_in(variable: &dyn Fn(&str) -> Option<String>) -> String {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(named) = set(SPOOL_DIR) {
        return named.trim_end_matches('/').to_owned();
    }
    let state = set("XDG_STATE_HOME").unwrap_or_else(|| format!("{}/.local/state", set("HOME").unwrap_or_default()));
    format!("{state}/weir/spool")
}
