//! `tests:` — pipeline tests in the configuration, run by `weir test`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// One test: events go in at a component, and something is expected at another.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Test {
    /// What the test shows, as a sentence.
    pub name: String,
    /// The input.
    pub input: Input,
    /// Expected output.
    pub expect: Vec<Expectation>,
}

/// Events at a component.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Input {
    /// Name of the source the events come from, or of the transform that receives them.
    pub at: String,
    /// The events, as mappings or as text with a JSON object.
    pub events: Vec<EventText>,
}

/// What a component gives on, or what a sink would send.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Expectation {
    /// Name of a source, a transform (or `name.output`) or a sink.
    pub at: String,
    /// The events in order. Additional members are errors, except `id`, `timestamp`, `received_at`, `source`, `agent`
    /// and `host`, which may be omitted.
    pub events: Option<Vec<EventText>>,
    /// The exact bytes: events as lines, or for a sink what its encoder sends, uncompressed. `received_at` is
    /// 2025-01-01T00:00:00Z.
    pub bytes: Option<String>,
}

/// An event of a test as JSON text, its members in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventText(pub String);

impl<'de> Deserialize<'de> for EventText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EventText, D::Error> {
        match deserializer.deserialize_any(Text)? {
            Written::Text(text) => Ok(EventText(text)),
            Written::Json(json) => Ok(EventText(json)),
        }
    }
}

impl JsonSchema for EventText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "EventText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["object", "string"] })
    }
}

/// A value of the configuration.
enum Written {
    Text(String),
    Json(String),
}

impl Written {
    fn json(self) -> String {
        match self {
            Written::Text(text) => Value::String(text).to_string(),
            Written::Json(json) => json,
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Written, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: a mapping, or a JSON object as text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Written, E> {
        Ok(Written::Json(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Written, E> {
        Ok(Written::Json(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Written, E> {
        Ok(Written::Json(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Written, E> {
        Ok(Written::Json(Value::from(value).to_string()))
    }

    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written::Json("null".to_owned()))
    }

    fn visit_none<E>(self) -> Result<Written, E> {
        Ok(Written::Json("null".to_owned()))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Written, D::Error> {
        deserializer.deserialize_any(Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
        let mut texts = Vec::new();
        while let Some(item) = items.next_element::<Written>()? {
            texts.push(item.json());
        }
        Ok(Written::Json(format!("[{}]", texts.join(","))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Written, A::Error> {
        let mut texts = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Written>()? {
            texts.push(format!("{}:{}", Value::String(name), value.json()));
        }
        Ok(Written::Json(format!("{{{}}}", texts.join(","))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_the_order_of_its_members_and_a_text_is_taken_as_it_is() {
        let text = |json: &str| serde_json::from_str::<EventText>(json).expect("an event").0;
        assert_eq!(
            text(r#"{ "b": 1, "a": [ "x", null, {"d": 1.5, "c": true} ] }"#),
            r#"{"b":1,"a":["x",null,{"d":1.5,"c":true}]}"#
        );
        assert_eq!(text(r#""{ \"n\" : 1 }""#), r#"{ "n" : 1 }"#);
    }
}
