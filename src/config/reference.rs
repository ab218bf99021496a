//! The reference page: every key with its type, default and description, from the JSON Schema.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::components::{Catalogue, SINK_KEYS, STAGE_KEYS, TRANSFORM_KEYS};
use super::schema::without_variables;
use crate::codec::redaction::rule_texts;

/// Structs inside structs are shown as `outer.inner` down to here.
const MAX_DEPTH: usize = 5;

/// The page as Markdown.
pub fn reference(catalogue: Catalogue) -> String {
    let schema = without_variables(catalogue);
    let mut page = Page { definitions: schema["$defs"].as_object().cloned().unwrap_or_default(), out: String::new() };
    page.say("# Reference\n\nEvery key of the configuration. This page is made from the code; do not edit it by hand.");
    page.say("Sizes read `10 MiB`, times `5s` or `1h30m`, rates `100/s`. `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `${file:/path}` are replaced in every value; `$$` is a dollar. `${WEIR_DATA_DIR}`, `${WEIR_SPOOL_DIR}` and `${WEIR_SERVER_SPOOL_DIR}` always have a value.");
    page.say("## Top level");
    let sections = ["sources", "transforms", "sinks"];
    let settings = schema["properties"].as_object().cloned().unwrap_or_default();
    page.table(settings.iter().filter(|(key, _)| !sections.contains(&key.as_str())), &[]);
    for section in sections {
        let types = settings[section]["additionalProperties"]["oneOf"].as_array().cloned().unwrap_or_default();
        page.say(&format!("## {}{}", section[..1].to_uppercase(), &section[1..]));
        if section == "transforms" {
            page.say("Every transform has `type` and `inputs`: names of what it reads from, with `*`; the outputs of a `route` are `name.output`.");
            page.say("Those that remember (`operations`, `dedupe`, `reduce`, `detect`) keep their state in the journal, in the same commit as what they pass on: a crash neither loses nor repeats anything. They have these keys too:");
            page.frame(types.iter().find(|one| one["properties"].get("state").is_some()), STAGE_KEYS);
        }
        if section == "sinks" {
            page.say("Every sink has `type`, `inputs` and these keys:");
            page.frame(types.first(), SINK_KEYS);
        }
        for one in &types {
            let remembers = section == "transforms" && one["properties"].get("state").is_some();
            let of_section = if section == "sinks" { SINK_KEYS } else { TRANSFORM_KEYS };
            page.component(one, if remembers { STAGE_KEYS } else { of_section });
            if text(one, "title") == "redact" {
                page.rules();
            }
        }
    }
    page.out
}

struct Page {
    definitions: Map<String, Value>,
    out: String,
}

impl Page {
    fn say(&mut self, text: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// The built-in rules of redaction, with their examples.
    fn rules(&mut self) {
        self.say("The built-in rules, each with a text on which it fires and one that stays. Of a long example the beginning is shown.\n\n| rule | group | fires | stays |\n|---|---|---|---|");
        for rule in rule_texts() {
            let shown = |text: &str| match text {
                "" => String::new(),
                text => format!(
                    "`{}{}`",
                    text.chars().take(48).collect::<String>().replace('\n', "⏎").replace('|', "\\|"),
                    if text.chars().count() > 48 { "…" } else { "" }
                ),
            };
            self.out.push_str(&format!(
                "| `{}` | {} | {} | {} |\n",
                rule.name,
                rule.group,
                shown(&rule.fires),
                shown(&rule.stays)
            ));
        }
    }

    fn frame(&mut self, component: Option<&Value>, frame_keys: &[&str]) {
        let keys = component.and_then(|one| one["properties"].as_object()).cloned().unwrap_or_default();
        let is_frame = |key: &String| frame_keys.contains(&key.as_str()) && !TRANSFORM_KEYS.contains(&key.as_str());
        self.table(keys.iter().filter(|(key, _)| is_frame(key)), &[]);
    }

    fn component(&mut self, schema: &Value, aside: &[&str]) {
        self.say(&format!("### `{}`", text(schema, "title")));
        if !text(schema, "description").is_empty() {
            self.say(&one_line(text(schema, "description")));
        }
        let keys = schema["properties"].as_object().cloned().unwrap_or_default();
        let own: Vec<_> = keys.iter().filter(|(key, _)| !aside.contains(&key.as_str())).collect();
        if own.is_empty() {
            self.say("It has no keys of its own.");
        } else {
            self.table(own.into_iter(), &required(schema));
        }
    }

    fn table<'v>(&mut self, keys: impl Iterator<Item = (&'v String, &'v Value)>, needed: &[String]) {
        self.say("| key | value | default | |\n|---|---|---|---|");
        for (key, value) in keys {
            self.row(key, value, needed.contains(key), MAX_DEPTH);
        }
    }

    fn row(&mut self, key: &str, value: &Value, is_needed: bool, depth: usize) {
        let resolved = self.resolve(value);
        let default = match value.get("default") {
            _ if is_needed => "**required**".to_string(),
            None | Some(Value::Null | Value::Object(_)) => String::new(),
            Some(Value::String(text)) if text.is_empty() => "`\"\"`".into(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(default) => format!("`{default}`"),
        };
        let described = if text(value, "description").is_empty() { &resolved } else { value };
        let words = one_line(text(described, "description"));
        let _ = writeln!(self.out, "| `{key}` | {} | {default} | {words} |", self.kind(&resolved).replace('|', "\\|"));
        if depth > 0 {
            self.inner(key, &resolved, depth - 1);
        }
    }

    /// The rows of what stands inside a value.
    fn inner(&mut self, key: &str, schema: &Value, depth: usize) {
        if let Some(keys) = schema["properties"].as_object() {
            let needed = required(schema);
            for (inner, value) in keys.iter().filter(|(_, value)| value.get("const").is_none()) {
                self.row(&format!("{key}.{inner}"), value, needed.contains(inner), depth);
            }
        }
        if schema["items"].is_object() {
            let items = self.resolve(&schema["items"]);
            self.inner(&format!("{key}[]"), &items, depth);
        }
        if schema["additionalProperties"].is_object() {
            let values = self.resolve(&schema["additionalProperties"]);
            self.inner(&format!("{key}.NAME"), &values, depth);
        }
        for variant in variants(schema) {
            let variant = self.resolve(variant);
            self.inner(key, &variant, depth);
        }
    }

    /// A schema with its reference followed, and the `null` of an optional value left out.
    fn resolve(&self, schema: &Value) -> Value {
        if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
            return self.definitions.get(name).cloned().unwrap_or_default();
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let mut real = any.iter().filter(|one| one["type"] != "null");
            if let (Some(only), None) = (real.next(), real.next()) {
                return self.resolve(only);
            }
        }
        schema.clone()
    }

    /// The type in words.
    fn kind(&self, schema: &Value) -> String {
        if let Some(values) = schema["enum"].as_array() {
            return values.iter().filter(|value| !value.is_null()).map(code).collect::<Vec<_>>().join(" | ");
        }
        if let Some(value) = schema.get("const") {
            return code(value);
        }
        let variants: Vec<&Value> = variants(schema).collect();
        if !variants.is_empty() {
            let kinds: Vec<String> = variants.iter().map(|variant| self.variant(&self.resolve(variant))).collect();
            return kinds.join(" | ");
        }
        match schema["examples"][0].as_str() {
            Some("10 MiB") => return "size".into(),
            Some("5s") => return "time".into(),
            Some("100/s") => return "rate".into(),
            _ => {}
        }
        let names = match &schema["type"] {
            Value::String(name) => vec![name.as_str()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let kinds = names.iter().filter(|name| **name != "null").map(|name| match *name {
            "boolean" => "true | false".to_string(),
            "integer" | "number" => "number".into(),
            "array" => format!("list of {}", self.kind(&self.resolve(&schema["items"]))),
            "object" if schema["additionalProperties"].is_object() => "mapping by name".into(),
            "object" => "mapping".into(),
            "string" => "text".into(),
            other => other.into(),
        });
        let kinds: Vec<String> = kinds.collect();
        if kinds.is_empty() { "anything".into() } else { kinds.join(" or ") }
    }

    /// A variant by its word, its `type`, or its only key.
    fn variant(&self, schema: &Value) -> String {
        match schema["properties"]["type"].get("const") {
            Some(name) => format!("{{type: {}}}", name.as_str().unwrap_or("")),
            None => self.kind(schema),
        }
    }
}

fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    let any = ["oneOf", "anyOf"].iter().filter_map(|key| schema[*key].as_array());
    any.flatten().filter(|variant| variant["type"] != "null")
}

fn required(schema: &Value) -> Vec<String> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_string).collect()
}

fn text<'v>(schema: &'v Value, key: &str) -> &'v str {
    schema[key].as_str().unwrap_or("")
}

fn code(value: &Value) -> String {
    value.as_str().map_or_else(|| format!("`{value}`"), |text| format!("`{text}`"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
