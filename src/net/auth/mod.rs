//! Authentication: decided from the head of a request, before its body is read.

pub mod config;
mod jwks;
pub mod jwt;
mod limiter;
pub mod password;
mod proof;
mod revoked;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use jsonwebtoken::jwk::JwkSet;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

pub use self::config::{Config, Kind};
use self::jwt::Verified;
use self::limiter::Limiter;
use self::password::Password;
use self::proof::Fingerprints;
pub use self::proof::Proof;
pub use self::revoked::Revoked;
use super::http::Problem;
use crate::diagnostic::{self, Problems, Span};
use crate::event::Stamp;
use crate::secret::Secret;
use crate::units::Timestamp;

/// The longest name of a user: it is written into each of their events.
const MAX_NAME_BYTES: usize = 256;
/// Passwords checked against slow hashes at the same time.
const MAX_HASHING: usize = 2;
/// A token that can also be sent without the word Bearer.
const API_KEY: &str = "x-api-key";

/// A role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends and reads what is their own.
    #[default]
    User,
    /// Reads the events of all, shortened; sends nothing.
    Viewer,
    Admin,
    /// A service that sends for others and reads nothing.
    Ingest,
}

impl Role {
    /// The role of that name, spelt exactly; `guest` is another word for viewer.
    pub fn parse(name: &str) -> Option<Role> {
        match name {
            "user" => Some(Role::User),
            "viewer" | "guest" => Some(Role::Viewer),
            "admin" => Some(Role::Admin),
            "ingest" => Some(Role::Ingest),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Viewer => "viewer",
            Role::Admin => "admin",
            Role::Ingest => "ingest",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
        let name = String::deserialize(deserializer)?;
        Role::parse(&name).ok_or_else(|| {
            serde::de::Error::custom(format!("unknown role `{name}`: expected user, viewer, admin or ingest"))
        })
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for Role {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Role".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "enum": ["user", "viewer", "guest", "admin", "ingest"] })
    }
}

/// Somebody who has proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of a user, or of the service that a token was issued to.
    pub name: String,
    pub role: Role,
}

impl Principal {
    /// `None` if the name is empty, too long, or holds control characters.
    pub fn new(name: impl Into<String>, role: Role) -> Option<Principal> {
        let name = name.into();
        let usable = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
        usable.then_some(Principal { name, role })
    }

    /// What authentication adds to the events that they send.
    pub fn stamp(&self) -> Stamp {
        match self.role {
            Role::Ingest => Stamp::service(self.name.clone()),
            Role::User | Role::Viewer | Role::Admin => Stamp::user(self.name.clone()),
        }
    }
}

/// Checks who sends a request.
pub struct Authenticator {
    /// Whether nobody is asked for credentials.
    open: bool,
    tokens: Vec<(Principal, [u8; 32])>,
    users: BTreeMap<String, Login>,
    jwt: Option<jwt::Verifier>,
    revoked: Option<Revoked>,
    fingerprints: Fingerprints,
    limiter: Limiter,
    /// Keeps slow hashes from taking every core.
    hashing: Semaphore,
    /// Slow hashes that were computed.
    #[cfg(test)]
    hashes: std::sync::atomic::AtomicUsize,
}

struct Login {
    principal: Principal,
    password: Arc<Password>,
    /// BLAKE3 of the password that fitted a slow hash last, so that it is hashed once and not with every request.
    fitted: Mutex<Option<[u8; 32]>>,
}

impl Login {
    /// Whether the password is right, as far as that is known without a slow hash.
    fn admits_at_once(&self, password: &str, presented: &[u8; 32]) -> bool {
        if !self.password.is_slow() {
            return self.password.fits(password);
        }
        let fitted = *self.fitted.lock().unwrap_or_else(PoisonError::into_inner);
        fitted.is_some_and(|fitted| verify_slices_are_equal(&fitted, presented).is_ok())
    }
}

/// Why access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Missing,
    Wrong(&'static str),
}

impl Authenticator {
    /// Asks nobody for credentials.
    pub fn open() -> Authenticator {
        Authenticator { open: true, ..Authenticator::with(Vec::new(), BTreeMap::new(), None) }
    }

    /// Accepts these credentials.
    fn with(
        tokens: Vec<(Principal, [u8; 32])>,
        users: BTreeMap<String, Login>,
        jwt: Option<jwt::Verifier>,
    ) -> Authenticator {
        let hashing = Semaphore::new(MAX_HASHING);
        Authenticator {
            open: false,
            tokens,
            users,
            jwt,
            revoked: None,
            fingerprints: Fingerprints::random(),
            limiter: Limiter::default(),
            hashing,
            #[cfg(test)]
            hashes: Default::default(),
        }
    }

    /// The same, but refusing these tokens.
    pub fn without(self, revoked: Revoked) -> Authenticator {
        Authenticator { revoked: Some(revoked), ..self }
    }

    /// The same, but with proofs that another one with this key can hold against its credentials.
    pub fn with_proof_key(self, key: [u8; 32]) -> Authenticator {
        Authenticator { fingerprints: Fingerprints(key), ..self }
    }

    /// Builds the authenticator and reads the JWKS file. The error is for the operator.
    pub fn new(config: &Config) -> Result<Authenticator, String> {
        match config.kind {
            Kind::None => Ok(Authenticator::open()),
            Kind::Bearer => Authenticator::of(&config.tokens, &BTreeMap::new(), None),
            Kind::Basic => Authenticator::of(&config::Tokens::default(), &config.users, None),
            Kind::Jwt => Authenticator::of(&config::Tokens::default(), &BTreeMap::new(), config.jwt.as_ref()),
        }
    }

    /// Access with any of several kinds of credentials.
    pub fn of(
        tokens: &config::Tokens,
        users: &BTreeMap<String, config::User>,
        jwt: Option<&config::Jwt>,
    ) -> Result<Authenticator, String> {
        let tokens = tokens.0.iter().map(|(name, token)| {
            let principal = Principal::new(name, Role::Ingest).ok_or("a token's name is unusable")?;
            Ok::<_, String>((principal, digest(token.expose())))
        });
        let users = users.iter().map(|(name, user)| Ok::<_, String>((name.clone(), login(name, user)?)));
        let verifier = jwt.map(|jwt| {
            let set = match &jwt.jwks {
                Some(config::Jwks::File(path)) => Some(read_set(path)?),
                _ => None,
            };
            jwt::Verifier::new(jwt, set.as_ref()).map_err(|(_, message)| message)
        });
        Ok(Authenticator::with(
            tokens.collect::<Result<_, _>>()?,
            users.collect::<Result<_, _>>()?,
            verifier.transpose()?,
        ))
    }

    /// Decides by the head of a request; `None` where no authentication is configured.
    pub async fn authenticate(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Option<Principal>, Problem> {
        if self.open {
            return Ok(None);
        }
        self.prove(headers, peer).await.map(|(who, _)| Some(who))
    }

    /// Who sends a request, and how they proved it. Where nobody is asked for credentials, nobody has any.
    pub async fn prove(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(Principal, Proof), Problem> {
        self.check(headers, peer).await.or_else(|refused| self.refuse(refused, peer))
    }

    /// The same by a token that came another way than in a header.
    pub async fn prove_by_token(&self, token: &str, peer: Option<IpAddr>) -> Result<(Principal, Proof), Problem> {
        self.check_token(token).await.or_else(|refused| self.refuse(refused, peer))
    }

    /// Who this proves now; `None` if the credentials behind it would be refused.
    pub async fn prove_again(&self, proof: &Proof) -> Option<Principal> {
        match proof {
            Proof::Token(token) => {
                let mut tokens = self.tokens.iter();
                tokens.find(|(_, digest)| self.fingerprints.of(digest) == *token).map(|(who, _)| who.clone())
            }
            Proof::Password { user, password } => {
                let login = self.users.get(user)?;
                (self.fingerprints.of(&login.password.digest()) == *password).then(|| login.principal.clone())
            }
            Proof::Jwt { key, algorithm, claims } if !self.is_revoked(claims) => {
                let is_its = |digest: &[u8; 32]| self.fingerprints.of(digest) == *key;
                self.jwt.as_ref()?.verify_again(is_its, *algorithm, claims, now()).await.ok()
            }
            Proof::Jwt { .. } => None,
        }
    }

    async fn check(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(Principal, Proof), Refused> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = given.next() else {
            let key = headers.get(API_KEY).ok_or(Refused::Missing)?;
            return self.check_token(key.to_str().map_err(|_| Refused::Wrong("not ASCII"))?).await;
        };
        if given.next().is_some() {
            return Err(Refused::Wrong("several Authorization headers"));
        }
        let text = value.to_str().map_err(|_| Refused::Wrong("not ASCII"))?.trim();
        let (scheme, rest) = text.split_once(' ').ok_or(Refused::Wrong("no credentials"))?;
        match rest.trim() {
            token if scheme.eq_ignore_ascii_case("bearer") => self.check_token(token).await,
            pair if scheme.eq_ignore_ascii_case("basic") => self.check_basic(pair, peer).await,
            _ => Err(Refused::Wrong("an unknown scheme")),
        }
    }

    async fn check_token(&self, token: &str) -> Result<(Principal, Proof), Refused> {
        if token.is_empty() {
            return Err(Refused::Missing);
        }
        let presented = digest(token);
        let mut found = None;
        // All of them, so that the time does not reveal which one came close.
        for (principal, expected) in &self.tokens {
            if verify_slices_are_equal(expected, &presented).is_ok() {
                found = Some(principal);
            }
        }
        match (found, &self.jwt) {
            (Some(principal), _) => Ok((principal.clone(), Proof::Token(self.fingerprints.of(&presented)))),
            (None, Some(jwt)) => {
                let Verified { who, key, algorithm, claims } =
                    jwt.verify(token, now()).await.map_err(Refused::Wrong)?;
                if self.is_revoked(&claims) {
                    return Err(Refused::Wrong("a revoked token"));
                }
                Ok((who, Proof::Jwt { key: self.fingerprints.of(&key), algorithm, claims }))
            }
            (None, None) => Err(Refused::Wrong("an unknown token")),
        }
    }

    async fn check_basic(&self, pair: &str, peer: Option<IpAddr>) -> Result<(Principal, Proof), Refused> {
        let wrong = Refused::Wrong("an unknown user or a wrong password");
        let pair = STANDARD.decode(pair).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = Secret::new(pair.ok_or(Refused::Wrong("no pair of user and password"))?);
        let (name, password) = pair.expose().split_once(':').ok_or(wrong)?;
        let login = self.users.get(name);
        let presented = digest(password);
        let admits = |login: &&Login| login.admits_at_once(password, &presented);
        if let Some(login) = login.filter(admits) {
            return Ok(self.signed_in(login));
        }
        // A wrong name takes as long as a slow hash if there is any: the time must not reveal which names exist.
        let Some(slow) = login.filter(|login| login.password.is_slow()).or(self.slow_login()) else {
            return Err(wrong);
        };
        if self.limiter.wait(peer, Instant::now()).is_some() {
            return Err(wrong);
        }
        #[cfg(test)]
        self.hashes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let _turn = self.hashing.acquire().await.expect("the semaphore is never closed");
        let (hash, password) = (slow.password.clone(), Secret::new(password.to_owned()));
        let fits = tokio::task::spawn_blocking(move || hash.fits(password.expose())).await.unwrap_or(false);
        match login.filter(|login| fits && login.password.is_slow()) {
            None => Err(wrong),
            Some(login) => {
                *login.fitted.lock().unwrap_or_else(PoisonError::into_inner) = Some(presented);
                Ok(self.signed_in(login))
            }
        }
    }

    fn signed_in(&self, login: &Login) -> (Principal, Proof) {
        let password = self.fingerprints.of(&login.password.digest());
        (login.principal.clone(), Proof::Password { user: login.principal.name.clone(), password })
    }

    /// Whether these are the claims of a token that was revoked.
    fn is_revoked(&self, claims: &Map<String, Value>) -> bool {
        let id = claims.get("jti").and_then(Value::as_str);
        self.revoked.as_ref().zip(id).is_some_and(|(revoked, id)| revoked.contains(id))
    }

    /// Any user whose password is kept as a slow hash.
    fn slow_login(&self) -> Option<&Login> {
        self.users.values().find(|login| login.password.is_slow())
    }

    /// The answer says nothing about why; the log does.
    fn refuse<T>(&self, refused: Refused, peer: Option<IpAddr>) -> Result<T, Problem> {
        let Refused::Wrong(reason) = refused else {
            debug!(peer = peer.map(tracing::field::display), "a request without credentials");
            return Err(self.challenge());
        };
        let now = Instant::now();
        if let Some(wait) = self.limiter.wait(peer, now) {
            warn!("too many wrong credentials from one address");
            let detail = "too many attempts with wrong credentials";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait).closing());
        }
        self.limiter.fail(peer, now);
        warn!(peer = %peer.map_or("a Unix socket".into(), |ip| ip.to_string()), reason, "wrong credentials");
        Err(self.challenge())
    }

    /// The answer to who has no right to come in, or has it no longer.
    pub fn challenge(&self) -> Problem {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "this needs valid credentials").closing();
        let problem = match self.users.is_empty() {
            true => problem,
            false => {
                problem.header(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="weir", charset="UTF-8""#))
            }
        };
        match self.tokens.is_empty() && self.jwt.is_none() {
            true => problem,
            false => problem.header(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="weir""#)),
        }
    }
}

/// In seconds since 1970.
pub fn now() -> i64 {
    Timestamp::now().seconds()
}

fn digest(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

fn login(name: &str, user: &config::User) -> Result<Login, String> {
    let password = match (&user.password, &user.password_hash) {
        (Some(password), None) => Password::plain(password.expose()),
        (None, Some(hash)) => Password::hashed(hash.expose())?,
        _ => return Err(format!("user `{name}` needs either `password` or `password_hash`")),
    };
    let principal = Principal::new(name, user.role).ok_or_else(|| format!("`{name}` cannot be the name of a user"))?;
    Ok(Login { principal, password: Arc::new(password), fitted: Mutex::default() })
}

fn read_set(path: &std::path::Path) -> Result<JwkSet, String> {
    let text = std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("`{}` is no JSON Web Key Set: {error}", path.display()))
}

impl Config {
    /// Adds what is wrong, with paths below `at`. No file is touched.
    pub fn check(&self, at: &str, problems: &mut Problems) {
        let mut add = |path: String, message: String| {
            problems.push(diagnostic::Problem::error(format!("{at}{path}"), Span::NOWHERE, message));
        };
        match self.kind {
            Kind::Bearer if self.tokens.0.is_empty() => add(String::new(), "`bearer` needs `tokens`".into()),
            Kind::Basic if self.users.is_empty() => add(String::new(), "`basic` needs `users`".into()),
            Kind::Jwt if self.jwt.is_none() => add(String::new(), "`jwt` needs `jwt`".into()),
            _ => {}
        }
        let unused = [
            ("tokens", Kind::Bearer, !self.tokens.0.is_empty()),
            ("users", Kind::Basic, !self.users.is_empty()),
            ("jwt", Kind::Jwt, self.jwt.is_some()),
        ];
        for (key, kind, given) in unused {
            if given && self.kind != kind {
                add(format!(".{key}"), format!("`{key}` is not looked at, because `type` says something else"));
            }
        }
        for (name, token) in &self.tokens.0 {
            if token.expose().is_empty() {
                add(format!(".tokens.{name}"), "an empty token would let everybody in".into());
            } else if !token.expose().bytes().all(|b| b.is_ascii_graphic()) {
                add(format!(".tokens.{name}"), "a token has no spaces and only ASCII characters".into());
            } else if Principal::new(name, Role::Ingest).is_none() {
                add(format!(".tokens.{name}"), "the name is unusable".into());
            }
        }
        for (name, user) in &self.users {
            user.check(name, &format!("{at}.users.{name}"), problems);
        }
        if let Some(jwt) = &self.jwt {
            jwt.check(&format!("{at}.jwt"), problems);
        }
    }
}

impl config::User {
    /// Adds what is wrong at the path `at`.
    pub fn check(&self, name: &str, at: &str, problems: &mut Problems) {
        if let Err(message) = login(name, self) {
            problems.push(diagnostic::Problem::error(at, Span::NOWHERE, message));
        }
    }
}

impl config::Jwt {
    /// Adds what is wrong, with paths below `at`. No file is touched.
    pub fn check(&self, at: &str, problems: &mut Problems) {
        if let Err((key, message)) = jwt::Verifier::new(self, None) {
            let path = if key.is_empty() { at.to_owned() } else { format!("{at}.{key}") };
            problems.push(diagnostic::Problem::error(path, Span::NOWHERE, message));
        }
    }
}

#[cfg(test)]
mod tests;
