//! How somebody proved who they are, kept so that it can be held against credentials that change later.

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What remains of credentials once they were accepted. It holds none of them and opens nothing by itself: whoever takes
/// it from outside has to know that it is genuine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A token of the configuration.
    Token(Fingerprint),
    /// A token that a key signed.
    Jwt {
        key: Fingerprint,
        algorithm: Algorithm,
        /// Those that decide whom it speaks for, as what, and whether it is believed.
        claims: Map<String, Value>,
    },
    /// A user's password.
    Password { user: String, password: Fingerprint },
}

impl Proof {
    /// When it ends, if it does, in seconds since 1970.
    pub fn expires(&self) -> Option<i64> {
        match self {
            Proof::Jwt { claims, .. } => claims.get("exp")?.as_f64().map(|seconds| seconds as i64),
            Proof::Token(_) | Proof::Password { .. } => None,
        }
    }
}

/// A keyed hash of a secret or a key: it tells whether they are the same, and nobody can guess a secret by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint([u8; 16]);

/// Makes fingerprints; those of another key are others.
pub struct Fingerprints(pub [u8; 32]);

impl Fingerprints {
    /// With a key that nobody has, for proofs that end with this process.
    pub fn random() -> Fingerprints {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system has random bytes");
        Fingerprints(key)
    }

    pub fn of(&self, digest: &[u8; 32]) -> Fingerprint {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::keyed_hash(&self.0, digest).as_bytes()[..16]);
        Fingerprint(short)
    }
}
