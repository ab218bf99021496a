//! The JSON Schema of a configuration, from the structs that read it.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::components::Catalogue;
use super::settings::{Settings, SinkFrame, StageFrame};
use crate::component::entry::Entry;

/// The schema of the whole configuration, draft 2020-12.
pub fn schema(catalogue: Catalogue) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let inputs = json!({
        "description": "Names of the sources and transforms to read from; `*` stands for any characters, and an output of a route is `name.output`.",
        "type": "array",
        "items": { "type": "string" },
        "minItems": 1,
    });
    let reader = Map::from_iter([("inputs".to_string(), inputs)]);
    let mut sink = properties(SinkFrame::json_schema(&mut generator));
    sink.extend(reader.clone());
    let empty = Map::new();
    let mut stage = properties(StageFrame::json_schema(&mut generator));
    stage.extend(reader.clone());
    let sections = [
        ("sources", "Where events come from, by name.", section(catalogue.sources, |_| &empty, &mut generator)),
        (
            "transforms",
            "What is done to events, by name.",
            section(catalogue.transforms, |one| if one.remembers { &stage } else { &reader }, &mut generator),
        ),
        ("sinks", "Where events go, by name.", section(catalogue.sinks, |_| &sink, &mut generator)),
    ];
    let mut all = properties(Settings::json_schema(&mut generator));
    for (name, description, types) in sections {
        let one = json!({ "oneOf": types });
        all.insert(name.into(), json!({ "description": description, "type": "object", "additionalProperties": one }));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Weir",
        "type": "object",
        "properties": all,
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    })
}

fn properties(schema: Schema) -> Map<String, Value> {
    let mut value = schema.to_value();
    value.get_mut("properties").and_then(Value::as_object_mut).map(std::mem::take).unwrap_or_default()
}

/// The schemas of all types of a section, each with the keys of its frame.
fn section<'f, T>(
    catalogue: &[Entry<T>],
    frame: impl Fn(&Entry<T>) -> &'f Map<String, Value>,
    generator: &mut SchemaGenerator,
) -> Vec<Value> {
    let one = |entry: &Entry<T>, generator: &mut SchemaGenerator| {
        let own = (entry.schema)(generator).to_value();
        with_frame(entry.type_name, own, frame(entry))
    };
    catalogue.iter().map(|entry| one(entry, generator)).collect()
}

fn with_frame(type_name: &str, own: Value, frame: &Map<String, Value>) -> Value {
    let mut schema = Map::from_iter([("title".to_string(), type_name.into()), ("type".to_string(), "object".into())]);
    schema.extend(own.get("description").map(|description| ("description".to_string(), description.clone())));
    let mut all = Map::from_iter([("type".to_string(), json!({ "const": type_name }))]);
    all.extend(own.get("properties").and_then(Value::as_object).cloned().unwrap_or_default());
    all.extend(frame.clone());
    schema.insert("properties".into(), all.into());
    let mut required = vec![json!("type")];
    required.extend(own.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    required.extend(frame.contains_key("inputs").then(|| json!("inputs")));
    schema.insert("required".into(), required.into());
    schema.insert("additionalProperties".into(), false.into());
    schema.into()
}
