//! Configuration of authentication.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Role, jwks};
use crate::secret::Secret;
use crate::units::OneOrMany;

/// Who may send.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Type of authentication; `none` accepts everybody.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// For `bearer`: tokens by service name, or a list of tokens.
    #[serde(default)]
    pub tokens: Tokens,
    /// For `basic`: users by name.
    #[serde(default)]
    pub users: BTreeMap<String, User>,
    /// For `jwt`: which tokens are accepted.
    #[serde(default)]
    pub jwt: Option<Jwt>,
}

impl Config {
    /// Whether everybody may come in.
    pub fn is_open(&self) -> bool {
        self.kind == Kind::None
    }

    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.jwt.iter().flat_map(Jwt::files).collect()
    }
}

impl Jwt {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.jwks {
            Some(Jwks::File(path)) => vec![path.clone()],
            _ => Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    None,
    Bearer,
    Basic,
    Jwt,
}

/// A user who signs in with a password.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The password; best given as `${VAR}` or `${file:…}`.
    #[serde(default)]
    pub password: Option<Secret<String>>,
    /// The password's PBKDF2 hash: `$pbkdf2-sha256$600000$SALT$HASH` (as passlib writes it), or
    /// `pbkdf2_sha256$600000$SALT$HASH` (as Django does).
    #[serde(default)]
    pub password_hash: Option<Secret<String>>,
    /// Role of the user.
    #[serde(default)]
    pub role: Role,
}

/// Which JSON Web Tokens are believed. Exactly one of `secret`, `public_key` and `jwks` says how they are signed.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The shared secret of HS256, at least 32 bytes.
    #[serde(default)]
    pub secret: Option<Secret<String>>,
    /// The issuer's public key in PEM, RSA or ECDSA; best as `${file:…}`.
    #[serde(default)]
    pub public_key: Option<String>,
    /// The issuer's JSON Web Key Set: an `https://` URL, the path of a file, or the set itself.
    #[serde(default)]
    pub jwks: Option<Jwks>,
    /// Accepted signature algorithms. Default: HS256, RS256 or ES256, depending on the key.
    #[serde(default)]
    pub algorithms: Vec<String>,
    /// Accepted audiences (`aud`); a token must name one of them.
    #[serde(default)]
    pub audience: OneOrMany,
    /// Accepted issuers (`iss`); a token must name one of them.
    #[serde(default)]
    pub issuer: OneOrMany,
    /// Claim with the user's id. Default: the first of `user_id`, `username` and `sub`.
    #[serde(default)]
    pub user_claim: Option<String>,
}

/// Tokens, each with the name of who has it.
#[derive(Clone, Debug, Default)]
pub struct Tokens(pub Vec<(String, Secret<String>)>);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tokens, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Tokens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens by name, or a list of tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tokens, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = list.next_element()? {
                    tokens.push((format!("token-{}", tokens.len() + 1), token));
                }
                Ok(Tokens(tokens))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens, A::Error> {
                let mut tokens = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    tokens.push(entry);
                }
                Ok(Tokens(tokens))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Tokens {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tokens".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let by_name = <BTreeMap<String, Secret<String>>>::json_schema(generator);
        either(by_name, <Vec<Secret<String>>>::json_schema(generator))
    }
}

/// A key set in place, or where it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Jwks {
    File(PathBuf),
    Url(String),
    Inline(jsonwebtoken::jwk::JwkSet),
}

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Jwks, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Jwks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, the path of a file, or a key set")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Jwks, E> {
                if text.trim_start().starts_with('{') {
                    return serde_json::from_str(text).map(Jwks::Inline).map_err(E::custom);
                }
                if text.contains("://") {
                    return jwks::validate_url(text).map(|_| Jwks::Url(text.to_owned())).map_err(E::custom);
                }
                Ok(Jwks::File(text.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Jwks, A::Error> {
                // By way of a plain value: which members a key has depends on its kind.
                let value = serde_json::Value::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                serde_json::from_value(value).map(Jwks::Inline).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Jwks {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Jwks".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        either(String::json_schema(generator), <BTreeMap<String, serde_json::Value>>::json_schema(generator))
    }
}

fn either(one: Schema, other: Schema) -> Schema {
    schemars::json_schema!({ "anyOf": [one, other] })
}
