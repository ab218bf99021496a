//! What is generated from the configuration's structs is fresh, and says the same as the structs.

use std::path::Path;

use crate::support::{Folder, python};
use weir::config::{Catalogue, Overrides, SINK_KEYS, load, reference, schema};

#[test]
fn the_reference_page_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let page = reference(Catalogue::built_in());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/reference.md is stale: run `BLESS=1 cargo test --test integration reference`");
}

#[test]
fn no_component_has_a_key_that_belongs_to_the_frame() {
    for entry in Catalogue::built_in().sinks {
        let own = (entry.schema)(&mut schemars::SchemaGenerator::default()).to_value();
        for key in own["properties"].as_object().into_iter().flat_map(|keys| keys.keys()) {
            assert!(!SINK_KEYS.contains(&key.as_str()), "the sink `{}` has a key `{key}`", entry.type_name);
        }
    }
}

#[test]
fn the_keys_of_the_frame_are_those_of_its_struct() {
    let schema = schema(Catalogue::built_in());
    let sink = &schema["properties"]["sinks"]["additionalProperties"]["oneOf"][0]["properties"];
    for key in SINK_KEYS {
        assert!(sink[*key].is_object(), "`{key}` is no key of a sink");
    }
}

#[test]
fn every_reference_in_the_schema_leads_somewhere() {
    fn check(value: &serde_json::Value, definitions: &serde_json::Value) {
        if let Some(name) = value["$ref"].as_str() {
            let name = name.strip_prefix("#/$defs/").expect("references lead to definitions");
            assert!(definitions[name].is_object(), "`{name}` is not defined");
        }
        value.as_object().into_iter().flat_map(|object| object.values()).for_each(|inner| check(inner, definitions));
        value.as_array().into_iter().flatten().for_each(|inner| check(inner, definitions));
    }
    let schema = schema(Catalogue::built_in());
    check(&schema, &schema["$defs"]);
}

#[test]
fn an_editor_finds_nothing_wrong_in_the_examples() {
    let folder = Folder::new();
    let schema = folder.write("schema.json", &schema(Catalogue::built_in()).to_string());
    let mut files = vec![schema];
    let mut folders = vec![python::root().join("examples"), python::root().join("config")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(ending) if ending == "yaml" => files.push(path),
                _ => {}
            }
        }
    }
    let files: Vec<&str> = files.iter().map(|path| path.to_str().expect("text")).collect();
    let found = python::run(python::program(&folder, "schema.py", &files));
    assert!(found.len() > 10, "{found:?}");
    let refused: Vec<_> = found.iter().filter(|one| one["refused"] != serde_json::json!([])).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn the_quick_start_holds_without_a_warning() {
    let loaded = load(&[], &Overrides::default()).map_err(|rejected| rejected.render(false)).expect("it holds");
    assert_eq!(loaded.render_warnings(false), "");
}
