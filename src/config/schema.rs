//! The JSON Schema of a configuration, from the structs that read it.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::components::Catalogue;
use super::settings::{Settings, SinkFrame, StageFrame};
use crate::component::entry::Entry;

/// The schema of the whole configuration, draft 2020-12.
pub fn schema(catalogue: Catalogue) -> Value {
    let mut schema = without_variables(catalogue);
    ["properties", "$defs"].into_iter().for_each(|key| admit_variables(&mut schema[key]));
    schema
}

/// The same of what is left once variables are replaced and every scalar has its type.
pub fn without_variables(catalogue: Catalogue) -> Value {
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
    // A route's outputs are keys of its own.
    let others = own.get("additionalProperties").cloned().unwrap_or(false.into());
    schema.insert("additionalProperties".into(), others);
    schema.into()
}

/// Lets `${VAR}` stand for every scalar, as in a configuration, and a number or a word such as `true` for a text.
fn admit_variables(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(admit_variables),
        Value::Object(keys) => {
            // The word that says which schema applies is looked for before variables are.
            keys.iter_mut()
                .filter(|(name, _)| !ABOUT.contains(&name.as_str()))
                .for_each(|(_, inner)| admit_variables(inner));
            admit_here(keys);
        }
        _ => {}
    }
}

/// Keys of a schema that hold values, not schemas.
const ABOUT: [&str; 6] = ["default", "const", "enum", "examples", "required", "type"];

fn admit_here(keys: &mut Map<String, Value>) {
    let variable = json!({ "type": "string", "pattern": "\\$\\{" });
    let is_word = |one: &Value| one.get("const").is_some() || one.get("enum").is_some();
    if let Some(words) = keys.get_mut("oneOf").and_then(Value::as_array_mut).filter(|words| words.iter().all(is_word)) {
        words.push(variable);
        return;
    }
    let kinds: Vec<&str> = match keys.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let is_scalar = kinds.iter().all(|kind| matches!(*kind, "string" | "number" | "integer" | "boolean" | "null"));
    if !is_scalar || keys.contains_key("const") {
        return;
    }
    let is_free = !["enum", "pattern", "format"].iter().any(|key| keys.contains_key(*key));
    if kinds.contains(&"string") && is_free {
        let more = ["number", "boolean"].into_iter().filter(|more| !kinds.contains(more));
        let kinds: Vec<Value> = kinds.iter().copied().chain(more).map(Value::from).collect();
        keys.insert("type".into(), kinds.into());
        return;
    }
    let told = ["description", "default", "title"];
    let own: Map<String, Value> = std::mem::take(keys).into_iter().collect();
    let (about, shape): (Map<String, Value>, Map<String, Value>) =
        own.into_iter().partition(|(name, _)| told.contains(&name.as_str()));
    *keys = about;
    keys.insert("anyOf".into(), json!([shape, variable]));
}
