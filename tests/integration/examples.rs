//! What the documentation shows holds: every example, and the pipeline on the README's first screen.

use std::path::Path;

use weir::config::{self, Catalogue, Environment, Overrides, Text};

fn assert_holds(name: &str, text: &str) {
    let variable = |name: &str| name.ends_with("_TOKEN").then(|| "a-token-for-an-example".to_owned());
    let file = |_: &Path| Err("examples read no files".to_owned());
    let environment = Environment { variable: &variable, file: &file };
    let texts = vec![Text { name: name.to_owned(), bytes: text.into() }];
    match config::load_texts(texts, Catalogue::house(), environment, &Overrides::default()) {
        Ok(loaded) => assert_eq!(loaded.render_warnings(false), "", "{name}"),
        Err(rejected) => panic!("{}", rejected.render(false)),
    }
}

#[test]
fn every_example_holds_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("there are examples") {
        let path = entry.expect("examples can be listed").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        assert_holds(&path.display().to_string(), &std::fs::read_to_string(&path).expect("an example is text"));
        count += 1;
    }
    assert!(count >= 2, "only {count} examples were found");
}

#[test]
fn the_pipeline_of_the_readme_holds() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a YAML block");
    assert_eq!(block.lines().count(), 9, "it is a pipeline for a first screen");
    assert_holds("README.md", block);
}
