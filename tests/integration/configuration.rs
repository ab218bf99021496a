//! Wrong configurations and what is said about them: each `tests/configuration/NAME.yaml` has its `NAME.txt` beside it.
//! `BLESS=1 cargo test --test configuration` writes the texts anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;
use weir::component::transform::Outputs;
use weir::component::{
    Check, Failure, Fatal, Promise, Sink, SinkContext, SinkEntry, Source, SourceContext, SourceEntry, Transform,
    TransformEntry, WriteBatch, Written,
};
use weir::config::{Catalogue, Changes, Environment, Loaded, Overrides, Rejected, Text, load_texts};
use weir::event::Batch;
use weir::net::Sockets;
use weir::secret::Secret;
use weir::units::{ByteSize, Duration};

/// Components of this test alone, so that a new one in the house changes no expectation.
const CATALOGUE: Catalogue = Catalogue {
    sources: &[SourceEntry::of::<Web>(), SourceEntry::of::<Demo>()],
    transforms: &[TransformEntry::of::<Redact>(), TransformEntry::of::<Route>(), TransformEntry::of::<Shape>()],
    sinks: &[SinkEntry::of::<Table>(), SinkEntry::of::<Console>()],
};

/// Takes what is posted.
#[derive(Deserialize, JsonSchema)]
struct WebConfig {
    /// Where to listen.
    address: weir::net::Address,
    #[serde(default)]
    auth: Auth,
    #[serde(default = "ten_mib")]
    #[allow(dead_code)]
    max_body: ByteSize,
}

fn ten_mib() -> ByteSize {
    ByteSize::mib(10)
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
#[schemars(tag = "type")]
#[allow(dead_code)]
enum Auth {
    #[default]
    None,
    Bearer {
        tokens: Vec<Secret<String>>,
    },
}

struct Web;

impl Source for Web {
    const TYPE: &'static str = "web";
    type Config = WebConfig;
    type Prepared = ();

    fn build(config: WebConfig, check: &mut Check) -> Option<Web> {
        if !config.address.is_local() && matches!(config.auth, Auth::None) {
            check.problem_with_hint("address", "anybody could send", "configure `auth`");
            return None;
        }
        Some(Web)
    }

    async fn prepare(&self, _: &Sockets) -> Result<(), Fatal> {
        Ok(())
    }

    async fn run(self: Arc<Self>, (): (), _: SourceContext) -> Result<(), Fatal> {
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
struct DemoConfig {
    #[serde(default)]
    #[allow(dead_code)]
    rate: Option<weir::units::Rate>,
}

struct Demo;

impl Source for Demo {
    const TYPE: &'static str = "demo";
    type Config = DemoConfig;
    type Prepared = ();

    fn build(_: DemoConfig, _: &mut Check) -> Option<Demo> {
        Some(Demo)
    }

    async fn prepare(&self, _: &Sockets) -> Result<(), Fatal> {
        Ok(())
    }

    async fn run(self: Arc<Self>, (): (), _: SourceContext) -> Result<(), Fatal> {
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
struct RedactConfig {
    #[serde(default)]
    patterns: Vec<String>,
}

struct Redact;

impl Transform for Redact {
    const TYPE: &'static str = "redact";
    type Config = RedactConfig;

    fn build(config: RedactConfig, check: &mut Check) -> Option<Redact> {
        for (index, pattern) in config.patterns.iter().enumerate() {
            if let Some(at) = pattern.find("((") {
                check.problem_within(
                    format!("patterns[{index}]"),
                    at..at + 2,
                    format!("`{}` opens a group that is never closed", &pattern[..at + 2]),
                );
            }
        }
        (!check.problems.has_errors()).then_some(Redact)
    }

    fn apply(&self, _: Batch, _: &mut Outputs) -> Result<(), Failure> {
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
struct RouteConfig {
    outputs: std::collections::BTreeMap<String, String>,
}

struct Route(Vec<String>);

impl Transform for Route {
    const TYPE: &'static str = "route";
    type Config = RouteConfig;

    fn build(config: RouteConfig, _: &mut Check) -> Option<Route> {
        Some(Route(config.outputs.into_keys().collect()))
    }

    fn outputs(&self) -> Vec<String> {
        self.0.clone()
    }

    fn apply(&self, _: Batch, _: &mut Outputs) -> Result<(), Failure> {
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct ShapeConfig {
    fields: Vec<String>,
    max_chars: u32,
    #[serde(default)]
    marker: Option<String>,
}

struct Shape;

impl Transform for Shape {
    const TYPE: &'static str = "shape";
    type Config = ShapeConfig;

    fn build(_: ShapeConfig, _: &mut Check) -> Option<Shape> {
        Some(Shape)
    }

    fn apply(&self, _: Batch, _: &mut Outputs) -> Result<(), Failure> {
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct TableConfig {
    url: Secret<String>,
    table: String,
    #[serde(default)]
    create_table: bool,
    #[serde(default)]
    wait: Option<Duration>,
}

#[derive(Deserialize, JsonSchema)]
struct ConsoleConfig {}

struct Table;
struct Console;

macro_rules! sink {
    ($sink:ident, $type:literal, $config:ident) => {
        impl Sink for $sink {
            const TYPE: &'static str = $type;
            const PROMISE: Promise = Promise::AtLeastOnce;
            type Config = $config;
            type Payload = ();

            async fn open(_: &$config, _: &SinkContext) -> Result<$sink, Failure> {
                Ok($sink)
            }

            fn encode(&self, _: &WriteBatch) -> Result<(), Failure> {
                Ok(())
            }

            async fn write(&self, _: &WriteBatch, _: &()) -> Result<Written, Failure> {
                Ok(Written::default())
            }
        }
    };
}

sink!(Table, "table", TableConfig);
sink!(Console, "console", ConsoleConfig);

fn variable(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("9000".into()),
        "WORDS" => Some("many words".into()),
        "PASSWORD" => Some("correct-horse-battery".into()),
        _ => None,
    }
}

fn load(texts: &[(&str, &[u8])], overrides: &Overrides) -> Result<Loaded, Rejected> {
    let texts = texts.iter().map(|(name, bytes)| Text { name: name.to_string(), bytes: bytes.to_vec() }).collect();
    let environment = Environment { variable: &variable, file: &|_| Err("no such file".into()) };
    load_texts(texts, CATALOGUE, environment, overrides)
}

fn said(texts: &[(&str, &[u8])]) -> String {
    match load(texts, &Overrides::default()) {
        Ok(loaded) => format!("configuration OK\n\n{}", loaded.render_warnings(false)).trim_end().to_string() + "\n",
        Err(rejected) => rejected.render(false),
    }
}

/// A case is a file, or a folder whose files are merged.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configuration");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the cases").map(|e| e.expect("a case").path()).collect();
    cases.retain(|path| path.extension().is_none_or(|extension| extension == "yaml"));
    cases.sort();
    cases
}

fn files_of(case: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![case.to_path_buf()];
    if case.is_dir() {
        files = std::fs::read_dir(case).expect("the files").map(|entry| entry.expect("a file").path()).collect();
        files.sort();
    }
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read(path).expect("a text"))).collect()
}

#[test]
fn every_wrong_configuration_is_explained() {
    let mut stale = Vec::new();
    for case in cases() {
        let files = files_of(&case);
        let texts: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let (found, expected) = (said(&texts), case.with_extension("txt"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &found).expect("the text can be written");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            stale.push(format!("{}:\n{found}", expected.display()));
        }
    }
    assert!(stale.is_empty(), "if these are right, run with BLESS=1\n{}", stale.join("\n"));
}

#[test]
fn no_text_of_a_case_shows_a_secret() {
    for case in cases() {
        let expected = std::fs::read_to_string(case.with_extension("txt")).expect("the case has a text");
        for secret in ["correct-horse", "hunter"] {
            assert!(!expected.contains(secret), "{} shows `{secret}`", case.display());
        }
    }
}

const WHOLE: &str = "
limits: {memory: 64 MiB}
sources: {web: {type: web, address: '127.0.0.1:${PORT}'}}
transforms: {safe: {type: redact, inputs: [web]}}
sinks: {out: {type: console, inputs: [safe], batch: {events: 5}}}
";

fn whole(yaml: &str, overrides: &Overrides) -> Loaded {
    load(&[("a.yaml", yaml.as_bytes())], overrides).map_err(|rejected| rejected.render(false)).expect("it holds")
}

#[test]
fn a_good_configuration_becomes_a_plan() {
    let plan = whole(WHOLE, &Overrides::default()).plan;
    assert_eq!(plan.settings.limits.memory, ByteSize::mib(64));
    assert_eq!(plan.sinks[0].frame.batch.events, 5);
    assert_eq!(plan.sinks[0].inputs[0].component, plan.transforms[0].name);
    assert_eq!(plan.transforms[0].inputs[0].component, plan.sources[0].name);
}

#[test]
fn the_demo_joins_wherever_a_source_is_read() {
    let plan = whole(WHOLE, &Overrides { demo: true, ..Overrides::default() }).plan;
    assert_eq!(plan.sources.len(), 2);
    let inputs: Vec<&str> = plan.transforms[0].inputs.iter().map(|input| &*input.component).collect();
    assert_eq!(inputs, ["demo", "web"]);
    assert_eq!(plan.sinks[0].inputs.len(), 1);
}

#[test]
fn a_reload_sees_what_changed_and_nothing_else() {
    let running = whole(WHOLE, &Overrides::default()).plan.outline();
    let spelled_otherwise = WHOLE.replace(
        "{type: console, inputs: [safe], batch: {events: 5}}",
        "{batch: {events: 5}, inputs: ['safe'], type: \"console\"}",
    );
    assert!(Changes::between(&running, &whole(&spelled_otherwise, &Overrides::default()).plan.outline()).is_empty());

    let other = WHOLE.replace("events: 5", "events: 6").replace("64 MiB", "65 MiB").replace("safe", "clean");
    let changes = Changes::between(&running, &whole(&other, &Overrides::default()).plan.outline());
    let names = |list: &[std::sync::Arc<str>]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&changes.added), ["clean"]);
    assert_eq!(names(&changes.removed), ["safe"]);
    assert_eq!(names(&changes.changed), ["out"]);
    assert_eq!(changes.settings, ["limits"]);
}

#[test]
fn a_billion_laughs_are_refused_quickly() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let previous = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
    }
    let found = said(&[("bomb.yaml", bomb.as_bytes())]);
    assert!(found.contains("more than 200000 values, aliases followed"), "{found}");
}

#[test]
fn what_is_no_text_is_named_with_its_place() {
    let nested = [&b"a: "[..], &b"["[..].repeat(100), &b"]"[..].repeat(100)].concat();
    let large = vec![b' '; 5 << 20];
    for (bytes, expected) in [
        (&b"log:\n  level: \xff\n"[..], "the file is not UTF-8 from here on\n --> a.yaml:2:10"),
        (b"\xff\xfea\0", "the file is UTF-16"),
        (&nested, "nested more than 64 levels deep\n --> a.yaml:1:"),
        (&large, "more than the 4194304 a configuration may have"),
    ] {
        let found = said(&[("a.yaml", bytes)]);
        assert!(found.contains(expected), "{found}");
    }
    assert!(said(&[("a.yaml", b"\xef\xbb\xbflog: {level: info}\n")]).starts_with("configuration OK"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_loaded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        said(&[("a.yaml", &bytes)]);
    }

    #[test]
    fn any_yaml_like_text_is_loaded_or_refused(text in "(sources|sinks|limits|[a-z]|[:{}\\[\\],&*!|>'\"#%@`?-]|\n|\n  |\n    |  - |: |\\$\\{|type: web|é|\t){0,60}") {
        said(&[("a.yaml", text.as_bytes())]);
    }

    #[test]
    fn one_wrong_byte_in_a_good_configuration_is_explained(at in 0..WHOLE.len(), byte in any::<u8>()) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        bytes[at] = byte;
        said(&[("a.yaml", &bytes)]);
    }
}
