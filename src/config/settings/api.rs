//! `api:` — who may reach Weir over HTTP, and where.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::component::{ReadOptions, UsersTable};
use crate::net::address::Address;
use crate::net::auth::{Gate, Revoked, config as auth};
use crate::net::network::Network;
use crate::net::tls;
use crate::secret::Secret;

/// Health, metrics, live streams and queries over HTTP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Api {
    /// Whether there is an API at all.
    pub enabled: bool,
    /// `host:port` or `unix:/path`. Off loopback it needs `auth`.
    pub address: Address,
    /// Who may use it. Without it a secret is made in the data folder at the first start.
    pub auth: Option<Auth>,
    /// Where the API reads. Without it, the only sink of type `store`.
    pub read: Read,
    /// Certificate and key for HTTPS.
    pub tls: Option<tls::Config>,
    /// Pages of other origins that may ask.
    pub cors: Cors,
    /// Names of this host in requests, besides its addresses and `localhost`: others are refused, so that no domain can be
    /// made to point here. Without it every name is answered off loopback.
    pub hosts: Vec<String>,
    /// Path in front of every route, where a proxy passes one on.
    pub base_path: String,
    /// Addresses of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Time zone of dates and local times in requests.
    pub timezone: String,
    /// Characters of other people's code that lists and streams show.
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
    /// Where another role of the database reads.
    pub url: Option<Secret<String>>,
    /// A table of the database with the e-mail addresses and names of users.
    pub users: Option<UsersTable>,
}

impl Read {
    pub fn options(&self) -> ReadOptions {
        ReadOptions { url: self.url.clone(), users: self.users.clone() }
    }
}

/// Pages of other origins that may ask.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cors {
    /// Origins such as `https://hub.example.org`.
    pub origins: Vec<String>,
}

/// Who may use the API, and as what.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Auth {
    /// Tokens that somebody else signs.
    pub jwt: Option<auth::Jwt>,
    /// Roles of users by name, or from a table.
    pub roles: Option<Roles>,
    /// Users with a password, by name.
    pub basic: BTreeMap<String, auth::User>,
    /// Beginning of the names of visitors, who may not read.
    pub anonymous_prefix: Option<String>,
    /// What may be done without a token.
    pub anonymous: Option<Anonymous>,
    /// File with revoked tokens, one id (`jti`) a line; read again when it changes.
    pub revoked: Option<PathBuf>,
}

/// Roles of users whose token does not say.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Roles {
    /// Names that see everything.
    pub admin: Vec<String>,
    /// Names that see previews of everything.
    pub viewer: Vec<String>,
    /// A table that knows, asked at most once a minute for each user.
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

/// What may be done without a token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Anonymous {
    /// Whether events may be posted.
    pub write: bool,
    /// Addresses or networks that may do so.
    pub from: Vec<Network>,
}

impl Default for Anonymous {
    fn default() -> Anonymous {
        let loopback = ["127.0.0.0/8", "::1"].map(|text| text.parse().expect("it is a network"));
        Anonymous { write: false, from: loopback.into() }
    }
}

impl Auth {
    /// The gate that knows these credentials.
    pub fn gate(&self) -> Result<Gate, String> {
        let gate = Gate::of(&auth::Tokens::default(), &self.basic, self.jwt.as_ref())?;
        match &self.revoked {
            Some(path) => Ok(gate.without(Revoked::open(path)?)),
            None => Ok(gate),
        }
    }
}
