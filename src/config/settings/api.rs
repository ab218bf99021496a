//! `api:` — the HTTP address, access, and limits of the API.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{ReadOptions, UsersTable};
use crate::net::address::Address;
use crate::net::auth::{Authenticator, Revoked, config as auth};
use crate::net::network::Network;
use crate::net::tls;
use crate::secret::Secret;

/// Health, metrics, live streams and queries over HTTP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Api {
    /// Whether the API is served.
    pub enabled: bool,
    /// `host:port` or `unix:/path`. Off loopback it needs `auth`.
    pub address: Address,
    /// Authentication. If absent, a secret is created in the data folder at the first start.
    pub auth: Option<Auth>,
    /// Where the API reads. Without it, the only sink of type `store`.
    pub read: Read,
    /// Certificate and key for HTTPS.
    pub tls: Option<tls::Config>,
    /// Cross-origin requests (CORS).
    pub cors: Cors,
    /// Accepted `Host` headers besides `localhost` and IP addresses. Requests for other names are refused, which
    /// prevents DNS rebinding. If the list is empty and the address is not loopback, every name is accepted.
    pub hosts: Vec<String>,
    /// Path prefix of all routes, for a reverse proxy that passes it on.
    pub base_path: String,
    /// Addresses or networks of proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<Network>,
    /// Time zone of dates and local times in requests.
    pub timezone: String,
    /// Length of previews of other people's code in lists and streams, in characters.
    pub preview: u32,
}

impl Default for Api {
    fn default() -> Api {
        Api {
            enabled: true,
            address: Address::Tcp { host: "127.0.0.1".into(), port: 8686 },
            auth: None,
            read: Read::default(),
            tls: None,
            cors: Cors::default(),
            hosts: Vec::new(),
            base_path: String::new(),
            trusted_proxies: Vec::new(),
            timezone: "UTC".into(),
            preview: 100,
        }
    }
}

/// Where the API reads.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Read {
    /// Name of the sink whose target is read: of type `store`, or `postgres`.
    pub sink: Option<String>,
    /// Database URL to read with, if another role reads.
    pub url: Option<Secret<String>>,
    /// Table with the e-mail addresses and names of users.
    pub users: Option<UsersTable>,
}

impl Read {
    pub fn options(&self) -> ReadOptions {
        ReadOptions { url: self.url.clone(), users: self.users.clone() }
    }
}

/// Cross-origin requests (CORS).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cors {
    /// Allowed origins, such as `https://hub.example.org`.
    pub origins: Vec<String>,
}

/// Who may use the API, and as what.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Auth {
    /// Accepts JWTs that are signed with this secret, key or key set.
    pub jwt: Option<auth::Jwt>,
    /// Roles of users by name, or from a table.
    pub roles: Option<Roles>,
    /// Users with a password, by name.
    pub basic: BTreeMap<String, auth::User>,
    /// Prefix of the ids of anonymous users, such as `anon-`; they may not read.
    pub anonymous_prefix: Option<String>,
    /// Access without a token.
    pub anonymous: Option<Anonymous>,
    /// File of revoked token ids (`jti`), one per line; reloaded when it changes.
    pub revoked: Option<PathBuf>,
}

/// Roles of users whose token does not say.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Roles {
    /// Users with the role `admin`.
    pub admin: Vec<String>,
    /// Users with the role `viewer`.
    pub viewer: Vec<String>,
    /// Looks roles up in Postgres; each answer is cached for 60 s.
    pub postgres: Option<RoleTable>,
}

/// Where roles are looked up.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct RoleTable {
    /// Address of the database.
    pub url: Secret<String>,
    /// Query with the user as `$1` (a text) that gives one row with the role: `admin`, `viewer`, or true for `admin`.
    pub query: String,
}

/// Access without a token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Anonymous {
    /// Whether events may be posted to `/api/logs`.
    pub write: bool,
    /// Addresses or networks that may.
    pub from: Vec<Network>,
}

impl Default for Anonymous {
    fn default() -> Anonymous {
        let loopback = ["127.0.0.0/8", "::1"].map(|text| text.parse().expect("it is a network"));
        Anonymous { write: false, from: loopback.into() }
    }
}

impl Auth {
    /// The authenticator for these credentials.
    pub fn authenticator(&self) -> Result<Authenticator, String> {
        let authenticator = Authenticator::of(&auth::Tokens::default(), &self.basic, self.jwt.as_ref())?;
        match &self.revoked {
            Some(path) => Ok(authenticator.without(Revoked::open(path)?)),
            None => Ok(authenticator),
        }
    }
}
