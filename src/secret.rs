//! A secret value: never shown in logs, errors or `/api/pipeline`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use crate::diagnostic;

/// What is shown instead.
const SHOWN: &str = "***";

/// A password, a token, a key. Printing or serializing it gives `***`; dropping a text overwrites it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T: Wipe>(T);

impl<T: Wipe> Secret<T> {
    pub fn new(value: T) -> Secret<T> {
        Secret(value)
    }

    /// The value itself, for the one place that has to send or compare it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Wipe> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

/// Overwrites what it holds.
pub trait Wipe {
    fn wipe(&mut self);
}

impl Wipe for String {
    fn wipe(&mut self) {
        let mut bytes = std::mem::take(self).into_bytes();
        bytes.wipe();
    }
}

impl Wipe for Vec<u8> {
    fn wipe(&mut self) {
        self.fill(0);
        // The compiler may not conclude that nobody reads these zeroes.
        std::hint::black_box(self.as_ptr());
    }
}

/// Secrets that we have sent: who answers may quote them, and what is quoted is shown.
#[derive(Clone, Debug, Default)]
pub struct SecretMask(Vec<Secret<String>>);

/// Shorter ones are in every text, and hiding them would only point at them.
const SHORTEST_HIDDEN: usize = 4;

impl SecretMask {
    pub fn cover(&mut self, secret: &str) {
        if secret.len() >= SHORTEST_HIDDEN {
            self.0.push(Secret(secret.to_owned()));
        }
    }

    /// The text with stars for every secret in it.
    pub fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(&secret.0) {
            true => text.replace(&secret.0, SHOWN),
            false => text,
        })
    }
}

impl<T: Wipe> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

impl<T: Wipe> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

impl<T: Wipe> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(SHOWN)
    }
}

impl<'de, T: Wipe + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret<T>, D::Error> {
        struct Inner<T>(std::marker::PhantomData<T>);

        impl<'de, T: Wipe + Deserialize<'de>> serde::de::Visitor<'de> for Inner<T> {
            type Value = Secret<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Secret<T>, D::Error> {
                T::deserialize(deserializer).map(Secret)
            }
        }

        deserializer.deserialize_newtype_struct(diagnostic::SECRET, Inner(std::marker::PhantomData))
    }
}

impl<T: Wipe + schemars::JsonSchema> schemars::JsonSchema for Secret<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = T::json_schema(generator);
        schema.insert("writeOnly".into(), true.into());
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_as_stars() {
        let secret: Secret<String> = diagnostic::from_yaml("hunter2").expect("a text");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).expect("a text"), "\"***\"");
    }

    #[test]
    fn a_secret_that_somebody_quotes_is_hidden() {
        let mut mask = SecretMask::default();
        mask.cover("hunter2");
        mask.cover("a");
        assert_eq!(mask.hide("bad token hunter2, hunter2".into()), "bad token ***, ***");
        assert_eq!(format!("{mask:?}"), "SecretMask([***])");
    }
}
