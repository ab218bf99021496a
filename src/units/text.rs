//! Shared parsing of a number with a unit, and serde by way of text.

use std::fmt;

/// A text that is no size, duration or rate; the words say what is expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// Splits `10.5 MiB` into its digits and its unit.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = &text[..end];
    let is_number = number.starts_with(|c: char| c.is_ascii_digit()) && number.matches('.').count() < 2;
    (is_number && !number.ends_with('.')).then(|| (number, text[end..].trim()))
}

/// A decimal number of units, as a whole number of the smallest unit; `None` if it does not fit.
pub(super) fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut total = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut place = unit as f64;
    let mut rest = 0.0;
    for digit in fraction.bytes() {
        place /= 10.0;
        rest += f64::from(digit - b'0') * place;
    }
    total = total.checked_add(rest.round() as u64)?;
    Some(total)
}

/// serde and schema for a unit that is written as text and read by `FromStr`.
macro_rules! as_text {
    ($unit:ident, $what:literal, $pattern:literal, $example:literal) => {
        impl<'de> serde::Deserialize<'de> for $unit {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$unit, D::Error> {
                struct Text;

                impl serde::de::Visitor<'_> for Text {
                    type Value = $unit;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!($what, " such as `", $example, "`"))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$unit, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$unit, E> {
                        self.visit_str(&number.to_string())
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }

        impl serde::Serialize for $unit {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $unit {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($unit).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "integer"], "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}

pub(super) use as_text;
