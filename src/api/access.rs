//! Who may use the API: tokens and passwords from the configuration, or the secret created at the first start.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};
use serde::Serialize;

use super::key_file;
use super::login::is_same_origin;
use super::roles::Roles;
use super::routes::Who;
use super::sessions::Sessions;
use crate::config::settings::Api as Settings;
use crate::net::auth::jwt::Terms;
use crate::net::auth::{Authenticator, config as auth, jwt};
use crate::net::http::{Peer, Problem};
use crate::net::network::Network;
use crate::net::{Principal, Role};
use crate::secret::Secret;
use crate::units::Timestamp;

/// The secret that signs tokens where the configuration names none.
pub struct FirstSecret {
    pub secret: Secret<String>,
    /// Created at this start: no token has been issued yet.
    pub is_new: bool,
}

/// Where the secret of the first start is kept, below the data folder.
pub const SECRET_FILE: &str = "api.secret";
/// How long a ticket for a stream is good.
const TICKET_AGE: Duration = Duration::from_secs(30);
/// Tickets that were issued and not used yet.
const MAX_TICKETS: usize = 10_000;

/// Decides by the head of a request.
pub struct Access {
    authenticator: Authenticator,
    roles: Roles,
    anonymous_prefix: Option<String>,
    /// From where events may be posted without a token.
    anonymous_writers: Vec<Network>,
    pub(super) sessions: Sessions,
    tickets: Mutex<HashMap<String, (Principal, Instant)>>,
}

/// Who may use the API now; a reload exchanges it.
#[derive(Clone)]
pub struct CurrentAccess(Arc<RwLock<Arc<Access>>>);

impl CurrentAccess {
    pub fn new(access: Access) -> CurrentAccess {
        CurrentAccess(Arc::new(RwLock::new(Arc::new(access))))
    }

    pub fn get(&self) -> Arc<Access> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Applies to all further requests; issued tickets stay valid.
    pub fn exchange(&self, next: Access) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let tickets = std::mem::take(&mut *current.tickets.lock().unwrap_or_else(PoisonError::into_inner));
        *next.tickets.lock().unwrap_or_else(PoisonError::into_inner) = tickets;
        *current = Arc::new(next);
    }
}

/// Somebody who may read, and for how long the proof is good.
pub struct Reader(pub Principal);

/// Good for opening one stream.
#[derive(Serialize)]
pub struct Ticket {
    ticket: String,
    expires_in: u64,
}

impl Access {
    /// With the credentials of the configuration; without any, with the secret in the data folder, made if need be.
    /// The secret comes back so that a login link can be printed.
    pub fn new(settings: &Settings, data_dir: &Path, keep: bool) -> Result<(Access, Option<FirstSecret>), String> {
        let (authenticator, secret) = match &settings.auth {
            Some(configured) => (configured.authenticator()?, None),
            None => {
                let secret = first_secret(data_dir, keep)?;
                let own = auth::Jwt { secret: Some(secret.secret.clone()), ..auth::Jwt::default() };
                (Authenticator::of(&auth::Tokens::default(), &Default::default(), Some(&own))?, Some(secret))
            }
        };
        let auth = settings.auth.clone().unwrap_or_default();
        let access = Access {
            authenticator,
            roles: Roles::new(auth.roles.unwrap_or_default())?,
            anonymous_prefix: auth.anonymous_prefix,
            anonymous_writers: auth.anonymous.filter(|anonymous| anonymous.write).map_or(Vec::new(), |one| one.from),
            sessions: Sessions::open(data_dir, keep)?,
            tickets: Mutex::default(),
        };
        Ok((access, secret))
    }

    /// Somebody with credentials, whatever they may do.
    async fn known(&self, request: &Request<Incoming>, peer: Peer) -> Result<Principal, Problem> {
        self.somebody(request, peer, false).await.map(|(who, _)| who)
    }

    /// Somebody with credentials, and when what they showed ends. A stream takes a token or a ticket in the query, since
    /// browsers cannot send headers with it.
    pub async fn somebody(
        &self,
        request: &Request<Incoming>,
        peer: Peer,
        is_stream: bool,
    ) -> Result<(Principal, Option<i64>), Problem> {
        let query = request.uri().query().filter(|_| is_stream);
        if let Some(ticket) = parameter(query, "ticket") {
            return self.redeem(&ticket);
        }
        if let Some(token) = parameter(query, "token") {
            return self.by_token(&token, peer).await;
        }
        if !has_credentials(request)
            && let Some(session) = self.sessions.of(request.headers())
        {
            let is_page = is_same_origin(request.headers());
            return match is_page {
                true => Ok((session.who, Some(session.ends))),
                false => Err(forbidden("the session cookie is accepted only from the page itself")),
            };
        }
        let who = self.authenticator.authenticate(request.headers(), peer.ip).await?;
        Ok((self.with_role(who).await, bearer(request).and_then(|token| expiry(&token))))
    }

    /// Who a token is of, and when it ends.
    pub async fn by_token(&self, token: &str, peer: Peer) -> Result<(Principal, Option<i64>), Problem> {
        let who = self.authenticator.authenticate_token(token, peer.ip).await?;
        Ok((self.with_role(who).await, expiry(token)))
    }

    pub async fn by_password(&self, user: &str, password: &str, peer: Peer) -> Result<Principal, Problem> {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut headers = hyper::HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Basic {pair}")).expect("plain text");
        headers.insert(hyper::header::AUTHORIZATION, value);
        let who = self.authenticator.authenticate(&headers, peer.ip).await?;
        Ok(self.with_role(who).await)
    }

    /// Who was authenticated, with the role that is configured for them.
    async fn with_role(&self, who: Option<Principal>) -> Principal {
        self.roles.complete(who.expect("the authenticator of the API is never open")).await
    }

    /// Whether the caller may use a route.
    pub fn check(&self, who: &Principal, needed: Who) -> Result<(), Problem> {
        match needed {
            Who::Open | Who::Sender => Ok(()),
            Who::Admin | Who::StreamAdmin if who.role != Role::Admin => Err(forbidden("administrators only")),
            Who::Exporter if who.role == Role::Viewer => Err(forbidden("viewers may not export")),
            _ if who.role == Role::Ingest => Err(forbidden("a sender may not read")),
            _ if self.is_visitor(who) => Err(forbidden("visitors may not read")),
            _ => Ok(()),
        }
    }

    fn is_visitor(&self, who: &Principal) -> bool {
        self.anonymous_prefix.as_ref().is_some_and(|prefix| who.name.starts_with(prefix.as_str()))
    }

    pub fn open_session(&self, who: &Principal, expires: Option<i64>) -> (String, i64) {
        self.sessions.begin(who, expires)
    }

    pub fn close_session(&self, headers: &hyper::HeaderMap) {
        self.sessions.end(headers);
    }

    /// Somebody who may post events; `None` where that needs no name.
    pub async fn sender(&self, request: &Request<Incoming>, peer: Peer) -> Result<Option<Principal>, Problem> {
        // Whoever comes through a Unix socket is on this machine.
        let ip = peer.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if !has_credentials(request)
            && !peer.is_forwarded
            && self.anonymous_writers.iter().any(|network| network.contains(ip))
        {
            return Ok(None);
        }
        self.known(request, peer).await.map(Some)
    }

    /// Whether the request has an administrator's credentials; nothing is logged if not.
    pub async fn shows_admin(&self, request: &Request<Incoming>, peer: Peer) -> bool {
        has_credentials(request)
            && self.known(request, peer).await.is_ok_and(|who| self.check(&who, Who::Admin).is_ok())
    }

    pub fn ticket(&self, reader: Reader) -> Ticket {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).expect("the operating system has random bytes");
        let ticket = URL_SAFE_NO_PAD.encode(bytes);
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|_, (_, made)| made.elapsed() < TICKET_AGE);
        if tickets.len() < MAX_TICKETS {
            tickets.insert(ticket.clone(), (reader.0, Instant::now()));
        }
        Ticket { ticket, expires_in: TICKET_AGE.as_secs() }
    }

    fn redeem(&self, ticket: &str) -> Result<(Principal, Option<i64>), Problem> {
        let found = self.tickets.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket);
        match found {
            Some((who, made)) if made.elapsed() < TICKET_AGE => Ok((who, None)),
            _ => {
                let challenge = HeaderValue::from_static(r#"Bearer realm="weir""#);
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "the ticket was used or has expired");
                Err(problem.header(WWW_AUTHENTICATE, challenge))
            }
        }
    }
}

fn has_credentials(request: &Request<Incoming>) -> bool {
    request.headers().contains_key("authorization") || request.headers().contains_key("x-api-key")
}

/// Whether there is anything that could be wrong: a header, or a token or ticket in the query.
pub fn shows_credentials(request: &Request<Incoming>) -> bool {
    let query = request.uri().query();
    has_credentials(request) || ["token", "ticket"].iter().any(|name| parameter(query, name).is_some())
}

pub fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// The value of one parameter of a query.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(query?.as_bytes());
    pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty()).last()
}

/// The token of a request's header.
fn bearer(request: &Request<Incoming>) -> Option<String> {
    let headers = request.headers();
    let given = headers.get("authorization").or_else(|| headers.get("x-api-key"))?.to_str().ok()?;
    let token = given.trim();
    Some(
        token
            .get(..7)
            .filter(|scheme| scheme.eq_ignore_ascii_case("bearer "))
            .map_or(token, |_| &token[7..])
            .to_owned(),
    )
}

/// When a token that was verified ends, if it says so.
fn expiry(token: &str) -> Option<i64> {
    let body = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&body).ok()?;
    claims.get("exp")?.as_f64().map(|seconds| seconds as i64)
}

/// Whether a WebSocket may be opened. No browser asks another page before it opens one, so that the handshake itself
/// has to say whose it is, whatever credentials come with it.
pub fn may_upgrade(headers: &HeaderMap, origins: &[String]) -> bool {
    let is_allowed = |origin: &HeaderValue| origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    is_same_origin(headers) || headers.get("origin").is_some_and(is_allowed)
}

/// The secret in the data folder; made at the first start, readable for this user alone.
fn first_secret(data_dir: &Path, keep: bool) -> Result<FirstSecret, String> {
    if keep && let Some(secret) = own_secret(data_dir)? {
        return Ok(FirstSecret { secret, is_new: false });
    }
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    let secret = URL_SAFE_NO_PAD.encode(bytes);
    if keep {
        key_file::write(&data_dir.join(SECRET_FILE), secret.as_bytes())?;
    }
    Ok(FirstSecret { secret: Secret::new(secret), is_new: true })
}

/// The secret in the data folder, if one was made there.
pub fn own_secret(data_dir: &Path) -> Result<Option<Secret<String>>, String> {
    let path = data_dir.join(SECRET_FILE);
    let Some(bytes) = key_file::read(&path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| format!("`{}` does not contain a valid secret", path.display()))?;
    Ok(Some(Secret::new(text.trim().to_owned())))
}

/// A token signed with the secret, good for `ttl`, under the terms of the configuration.
pub fn mint(secret: &Secret<String>, user: &str, role: Role, terms: &Terms, ttl: Duration) -> Result<String, String> {
    let now = Timestamp::now().0.div_euclid(1_000_000);
    jwt::mint(secret.expose(), user, role, terms, now, now + ttl.as_secs() as i64)
}
