//! How a codec is written in a configuration: a name, or a name with settings such as `csv: {columns: […]}`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::{Codec, csv, syslog};

const NAMES: &[&str] = &["json", "text", "logfmt", "syslog", "csv", "msgpack"];

impl<'de> Deserialize<'de> for Codec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Codec, D::Error> {
        deserializer.deserialize_any(Spelling)
    }
}

/// Codecs that have settings.
const DETAILED: &[&str] = &["csv", "syslog"];

struct Spelling;

impl<'de> Visitor<'de> for Spelling {
    type Value = Codec;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a codec name, `csv` with columns, or `syslog` with a time zone")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Codec, E> {
        Ok(match name {
            "json" => Codec::Json,
            "text" => Codec::Text,
            "logfmt" => Codec::Logfmt,
            "syslog" => Codec::Syslog(syslog::Config::default()),
            "csv" => Codec::Csv(csv::Config::default()),
            "msgpack" => Codec::Msgpack,
            _ => return Err(E::unknown_variant(name, NAMES)),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Codec, A::Error> {
        let codec = match map.next_key::<Cow<str>>()?.as_deref() {
            Some("csv") => Codec::Csv(map.next_value()?),
            Some("syslog") => Codec::Syslog(map.next_value()?),
            Some(other) => return Err(de::Error::unknown_field(other, DETAILED)),
            None => return Err(de::Error::missing_field("csv")),
        };
        match map.next_key::<Cow<str>>()? {
            Some(other) => Err(de::Error::unknown_field(&other, DETAILED)),
            None => Ok(codec),
        }
    }
}

impl JsonSchema for Codec {
    fn schema_name() -> Cow<'static, str> {
        "Codec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The format in which events come in; `csv` may name its columns, `syslog` the time zone of devices.",
            "oneOf": [
                { "type": "string", "enum": NAMES },
                {
                    "type": "object",
                    "properties": { "csv": generator.subschema_for::<csv::Config>() },
                    "required": ["csv"],
                    "additionalProperties": false
                },
                {
                    "type": "object",
                    "properties": { "syslog": generator.subschema_for::<syslog::Config>() },
                    "required": ["syslog"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_is_its_name_or_csv_with_columns() {
        let read = serde_json::from_str::<Codec>;
        assert_eq!(read(r#""logfmt""#).expect("a name"), Codec::Logfmt);
        let Codec::Csv(config) = read(r#"{"csv":{"columns":["a","b"]}}"#).expect("a map") else { panic!("not csv") };
        assert_eq!(config.columns, ["a", "b"]);
        assert!(read(r#""cvs""#).unwrap_err().to_string().starts_with("unknown variant `cvs`"));
        assert!(read(r#"{"csv":{"column":[]}}"#).unwrap_err().to_string().starts_with("unknown field `column`"));
        assert!(read(r#"{"csv":{},"x":1}"#).unwrap_err().to_string().starts_with("unknown field `x`"));
    }
}
