//! What the documentation shows holds: every example, and the pipeline on the README's first screen.

use std::path::{Path, PathBuf};
use std::process::Command;

use weir::config::{self, Catalogue, Environment, Overrides, Text};

fn assert_holds(name: &str, text: &str) {
    let variable = |name: &str| {
        let value = match name {
            _ if name.ends_with("DATABASE_URL") => "postgres://weir@127.0.0.1/weir",
            "JWT_SECRET" => "a secret of at least thirty-two bytes",
            _ if name.ends_with("_URL") => "http://127.0.0.1:9999",
            _ if name.ends_with("_TOKEN") => "a-token-for-an-example",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let file = |_: &Path| Err("examples read no files".to_owned());
    let environment = Environment { variable: &variable, file: &file };
    let texts = vec![Text { name: name.to_owned(), bytes: text.into() }];
    match config::load_texts(texts, Catalogue::built_in(), environment, &Overrides::default()) {
        Ok(loaded) => assert_eq!(loaded.render_warnings(false), "", "{name}"),
        Err(rejected) => panic!("{}", rejected.render(false)),
    }
}

/// Whether a file goes beside a system's `weir.yaml` and says nothing by itself.
fn is_an_addition(path: &Path, examples: &Path) -> bool {
    path.parent() != Some(examples) && (path.ends_with("ship.yaml") || path.ends_with("read-table.yaml"))
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("there are examples");
    entries.map(|entry| entry.expect("examples can be listed").path()).collect()
}

#[test]
fn every_example_holds_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    let mut paths: Vec<_> = list(&folder);
    let folders: Vec<_> = paths.iter().filter(|path| path.is_dir()).cloned().collect();
    paths.extend(folders.iter().flat_map(|folder| list(folder)));
    for path in paths {
        // `compose.yaml` is for another program.
        if path.ends_with("compose.yaml")
            || is_an_addition(&path, &folder)
            || path.extension().is_none_or(|extension| extension != "yaml")
        {
            continue;
        }
        assert_holds(&path.display().to_string(), &std::fs::read_to_string(&path).expect("an example is text"));
        count += 1;
    }
    assert!(count >= 2, "only {count} examples were found");
}

#[test]
fn what_init_prints_holds_without_a_warning_and_so_does_what_it_suggests() {
    for system in [None, Some("jupyter"), Some("shop"), Some("chat"), Some("review"), Some("gateway")] {
        let out = Command::new(env!("CARGO_BIN_EXE_weir")).arg("init").args(system).output().expect("weir runs");
        assert!(out.status.success(), "{system:?}");
        let text = String::from_utf8(out.stdout).expect("it prints text");
        assert_holds(&format!("{system:?}"), &text);
        assert_holds(&format!("{system:?}, with its suggestions"), &uncommented(&text));
    }
}

/// The lines of configuration that are commented out, put in.
fn uncommented(text: &str) -> String {
    let is_setting = |line: &str| {
        let Some(rest) = line.trim_start().strip_prefix("# ") else { return false };
        let name = rest.trim_start().split(':').next().expect("there is a first part");
        rest.contains(':') && !name.contains([' ', '`', '/', ','])
    };
    let lines = text.lines().map(|line| if is_setting(line) { line.replacen("# ", "", 1) } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_pipeline_of_the_readme_holds() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a YAML block");
    assert_eq!(block.lines().count(), 9, "it is a pipeline for a first screen");
    assert_holds("README.md", block);
}
