//! Encodes an event as a line of text: JSON (its own or another scheme's names), CSV, or a template.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::mapping::ecs;
use super::template::{Malformed, Template};
use crate::event::{Kind, Raw};

/// How each event is written, one line each: the word of a format (`encoding: csv`), or a mapping with more to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoding(Detail);

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Encoding")]
struct Detail {
    /// Format of a line.
    format: Format,
    /// Columns of `csv`: names, or paths such as `metadata.tenant`.
    columns: Option<Vec<String>>,
    /// Template of a `text` line, such as `{{ timestamp }} {{ user_id | - }}`.
    template: Option<String>,
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Encoding, D::Error> {
        deserializer.deserialize_any(WordOrDetail)
    }
}

struct WordOrDetail;

impl<'de> Visitor<'de> for WordOrDetail {
    type Value = Encoding;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a format, or a mapping with `format`")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Encoding, E> {
        let format = Format::deserialize(StrDeserializer::new(word))?;
        Ok(Encoding(Detail { format, ..Detail::default() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Encoding, A::Error> {
        Detail::deserialize(MapAccessDeserializer::new(map)).map(Encoding)
    }
}

impl JsonSchema for Encoding {
    fn schema_name() -> Cow<'static, str> {
        "EncodingOrWord".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<Format>(), generator.subschema_for::<Detail>()] })
    }
}

/// Format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line, byte for byte as it lies in the journal.
    #[default]
    Ndjson,
    /// The same; in the body of an HTTP request, one JSON array.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// A line for people.
    Text,
    /// One JSON object a line with the names of the Elastic Common Schema.
    Ecs,
}

const COLUMNS: &[&str] =
    &["timestamp", "event_type", "status", "user_id", "session_id", "duration_ms", "description", "error_message"];
const TEXT: &str =
    "{{ timestamp | - }} {{ event_type | event }} {{ status | - }} {{ user_id | - }} {{ description | }}";

/// An encoding, ready to use.
#[derive(Clone, Debug)]
pub enum Encoder {
    /// The line as it is.
    Verbatim,
    Csv(Vec<Vec<String>>),
    Text(Template),
    Ecs,
}

impl Encoding {
    pub fn format(&self) -> Format {
        self.0.format
    }

    pub fn encoder(&self) -> Result<Encoder, Malformed> {
        Ok(match self.0.format {
            Format::Ndjson | Format::Json => Encoder::Verbatim,
            Format::Csv => {
                let path = |name: &str| name.split('.').map(str::to_owned).collect();
                let columns = self.0.columns.as_ref();
                Encoder::Csv(match columns {
                    Some(columns) => columns.iter().map(|name| path(name)).collect(),
                    None => COLUMNS.iter().map(|name| path(name)).collect(),
                })
            }
            Format::Text => Encoder::Text(Template::parse(self.0.template.as_deref().unwrap_or(TEXT))?),
            Format::Ecs => Encoder::Ecs,
        })
    }
}

impl Encoder {
    pub fn is_verbatim(&self) -> bool {
        matches!(self, Encoder::Verbatim)
    }

    /// The first line of a file.
    pub fn header(&self) -> Option<Vec<u8>> {
        let Encoder::Csv(columns) = self else { return None };
        let mut line = Vec::new();
        for (nth, column) in columns.iter().enumerate() {
            push_csv(&mut line, nth, &column.join("."));
        }
        line.push(b'\n');
        Some(line)
    }

    /// Appends an event and a line break; the error says what the event lacks.
    pub fn append(&self, event: Raw<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Encoder::Verbatim => out.extend_from_slice(event.as_bytes()),
            Encoder::Csv(columns) => {
                for (nth, column) in columns.iter().enumerate() {
                    let value = event.path(column).filter(|value| value.kind() != Kind::Null);
                    push_csv(out, nth, &value.map(|value| value.display()).unwrap_or_default());
                }
            }
            Encoder::Text(template) => {
                let line = template.render(|path| event.path(path)).map_err(|missing| missing.to_string())?;
                let line: String = line.chars().flat_map(printable).collect();
                out.extend_from_slice(line.as_bytes());
            }
            Encoder::Ecs => ecs::append(event, None, out),
        }
        out.push(b'\n');
        Ok(())
    }
}

/// Control characters could forge lines or drive a terminal, so they are shown instead.
fn printable(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    escaped.into_iter().flatten().chain((!c.is_control()).then_some(c))
}

fn push_csv(out: &mut Vec<u8>, nth: usize, value: &str) {
    if nth > 0 {
        out.push(b',');
    }
    if value.contains([',', '"', '\n', '\r']) {
        // Writing to a vector does not fail.
        let _ = write!(out, "\"{}\"", value.replace('"', "\"\""));
    } else {
        out.extend_from_slice(value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(encoding: &str, event: &str) -> String {
        let encoding: Encoding = serde_json::from_str(encoding).unwrap();
        let mut out = encoding.encoder().unwrap().header().unwrap_or_default();
        encoding.encoder().unwrap().append(Raw::valid(event.as_bytes()), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_lines_are_the_bytes_of_the_event() {
        assert_eq!(encode("{}", r#"{"n": 1.50e3}"#), "{\"n\": 1.50e3}\n");
    }

    #[test]
    fn the_word_of_a_format_is_an_encoding() {
        assert_eq!(encode(r#""json""#, r#"{"n":1}"#), "{\"n\":1}\n");
        assert_eq!(encode(r#""ecs""#, r#"{"user_id":"ali"}"#), encode(r#"{"format":"ecs"}"#, r#"{"user_id":"ali"}"#));
        let error = crate::diagnostic::from_yaml::<Encoding>("jsn").expect_err("no format");
        assert!(error.to_string().contains("`json`"), "{error}");
    }

    #[test]
    fn csv_quotes_what_needs_quotes_and_reaches_into_objects() {
        let encoding = r#"{"format":"csv","columns":["user_id","metadata.a","description","none"]}"#;
        let event = r#"{"user_id":"ali","metadata":{"a":[1,2]},"description":"say \"hi\"\nnow"}"#;
        assert_eq!(
            encode(encoding, event),
            "user_id,metadata.a,description,none\nali,\"[1,2]\",\"say \"\"hi\"\"\nnow\",\n"
        );
    }

    #[test]
    fn a_line_of_text_cannot_forge_another() {
        let event = r#"{"user_id":"a\nb\u001b[31m","description":"é"}"#;
        assert_eq!(encode(r#"{"format":"text"}"#, event), "- event - a\\nb\\u{1b}[31m é\n");
    }
}
