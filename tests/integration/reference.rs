//! What is generated from the configuration's structs is fresh, and says the same as the structs.

use std::path::Path;

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
fn the_quick_start_holds_without_a_warning() {
    let loaded = load(&[], &Overrides::default()).map_err(|rejected| rejected.render(false)).expect("it holds");
    assert_eq!(loaded.render_warnings(false), "");
}
