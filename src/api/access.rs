//! Who may use the API: tokens and passwords from the configuration, or the secret made at the first start.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};
use serde::Serialize;

use super::parameter;
use super::roles::Roles;
use crate::config::settings::Api as Settings;
use crate::net::auth::jwt::Terms;
use crate::net::auth::{Gate, config as auth, jwt};
use crate::net::http::{Peer, Problem};
use crate::net::network::Network;
use crate::net::{Principal, Role};
use crate::secret::Secret;
use crate::units::Timestamp;

/// Where the secret of the first start is kept, below the data folder.
pub const SECRET_FILE: &str = "api.secret";
/// How long a ticket for a stream is good.
const TICKET_AGE: Duration = Duration::from_secs(30);
/// Tickets that were given out and not used yet.
const MAX_TICKETS: usize = 10_000;

/// Decides by the head of a request.
pub struct Access {
    gate: Gate,
    roles: Roles,
    anonymous_prefix: Option<String>,
    /// From where events may be posted without a token.
    anonymous_writers: Vec<Network>,
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

    /// Requests from now on are judged by this; tickets that were given out stay good.
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
    pub fn new(settings: &Settings, data_dir: &Path, keep: bool) -> Result<(Access, Option<Secret<String>>), String> {
        let (gate, secret) = match &settings.auth {
            Some(configured) => (configured.gate()?, None),
            None => {
                let secret = first_secret(data_dir, keep)?;
                let own = auth::Jwt { secret: Some(secret.clone()), ..auth::Jwt::default() };
                (Gate::of(&auth::Tokens::default(), &Default::default(), Some(&own))?, Some(secret))
            }
        };
        let auth = settings.auth.clone().unwrap_or_default();
        let access = Access {
            gate,
            roles: Roles::new(auth.roles.unwrap_or_default())?,
            anonymous_prefix: auth.anonymous_prefix,
            anonymous_writers: auth.anonymous.filter(|anonymous| anonymous.write).map_or(Vec::new(), |one| one.from),
            tickets: Mutex::default(),
        };
        Ok((access, secret))
    }

    /// Somebody with credentials, whatever they may do.
    async fn known(&self, request: &Request<Incoming>, peer: Peer) -> Result<Principal, Problem> {
        let admitted = self.gate.admit(request.headers(), peer.ip).await?;
        Ok(self.roles.complete(admitted.expect("the gate of the API is never open")).await)
    }

    pub async fn admin(&self, request: &Request<Incoming>, peer: Peer) -> Result<Principal, Problem> {
        let who = self.known(request, peer).await?;
        match who.role {
            Role::Admin => Ok(who),
            _ => Err(forbidden("this is for administrators")),
        }
    }

    /// Somebody who may read something.
    pub async fn reader(&self, request: &Request<Incoming>, peer: Peer) -> Result<Reader, Problem> {
        self.as_reader(self.known(request, peer).await?)
    }

    /// The same for a stream, which takes a token or a ticket in the query, since browsers cannot send headers with
    /// it.
    pub async fn stream_reader(&self, request: &Request<Incoming>, peer: Peer) -> Result<Reader, Problem> {
        let query = request.uri().query();
        let who = if let Some(ticket) = parameter(query, "ticket") {
            self.redeem(&ticket)?
        } else if let Some(token) = parameter(query, "token") {
            let admitted = self.gate.admit_token(&token, peer.ip).await?;
            self.roles.complete(admitted.expect("the gate of the API is never open")).await
        } else {
            self.known(request, peer).await?
        };
        self.as_reader(who)
    }

    fn as_reader(&self, who: Principal) -> Result<Reader, Problem> {
        let is_visitor = self.anonymous_prefix.as_ref().is_some_and(|prefix| who.name.starts_with(prefix.as_str()));
        match who.role {
            Role::Ingest => Err(forbidden("a sender may not read")),
            _ if is_visitor => Err(forbidden("visitors may not read")),
            _ => Ok(Reader(who)),
        }
    }

    /// Somebody who may post events; `None` where that needs no name.
    pub async fn sender(&self, request: &Request<Incoming>, peer: Peer) -> Result<Option<Principal>, Problem> {
        // Whoever comes through a Unix socket is on this machine.
        let ip = peer.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if !has_credentials(request) && self.anonymous_writers.iter().any(|network| network.contains(ip)) {
            return Ok(None);
        }
        self.known(request, peer).await.map(Some)
    }

    /// Whether the request shows an administrator's credentials; nothing is said if not.
    pub async fn shows_admin(&self, request: &Request<Incoming>, peer: Peer) -> bool {
        has_credentials(request) && self.admin(request, peer).await.is_ok()
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

    fn redeem(&self, ticket: &str) -> Result<Principal, Problem> {
        let found = self.tickets.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket);
        match found {
            Some((who, made)) if made.elapsed() < TICKET_AGE => Ok(who),
            _ => {
                let challenge = HeaderValue::from_static(r#"Bearer realm="weir""#);
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "this ticket is used or too old");
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

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// The secret in the data folder; made at the first start, readable for this user alone.
fn first_secret(data_dir: &Path, keep: bool) -> Result<Secret<String>, String> {
    let path = data_dir.join(SECRET_FILE);
    if let Ok(known) = std::fs::read_to_string(&path) {
        return Ok(Secret::new(known.trim().to_owned()));
    }
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    let secret = URL_SAFE_NO_PAD.encode(bytes);
    if keep {
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.and_then(|mut file| file.write_all(secret.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|error| format!("cannot write the secret `{}`: {error}", path.display()))?;
    }
    Ok(Secret::new(secret))
}

/// A token signed with the secret, good for `ttl`, under the terms of the configuration.
pub fn mint(secret: &Secret<String>, user: &str, role: Role, terms: &Terms, ttl: Duration) -> Result<String, String> {
    let now = Timestamp::now().0.div_euclid(1_000_000);
    jwt::mint(secret.expose(), user, role, terms, now, now + ttl.as_secs() as i64)
}
