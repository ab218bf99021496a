//! Who may use the API: tokens and passwords from the configuration, or the secret created at the first start.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use super::key_file;
use super::login::is_same_origin;
use super::roles::Roles;
use super::routes::Who;
use super::sessions::Sessions;
use crate::config::settings::Api as Settings;
use crate::net::auth::jwt::Terms;
use crate::net::auth::{Authenticator, Proof, config as auth, jwt, now};
use crate::net::http::{Peer, Problem};
use crate::net::network::Network;
use crate::net::{Principal, Role};
use crate::secret::Secret;

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
    pub(super) sessions: Arc<Sessions>,
    tickets: Arc<Tickets>,
}

/// Those that were issued and not used yet, and when.
type Tickets = Mutex<HashMap<String, (Credentials, Instant)>>;

/// Who may use the API now; a reload exchanges it.
#[derive(Clone)]
pub struct CurrentAccess(Arc<watch::Sender<Arc<Access>>>);

impl CurrentAccess {
    pub fn new(access: Access) -> CurrentAccess {
        CurrentAccess(Arc::new(watch::Sender::new(Arc::new(access))))
    }

    pub fn get(&self) -> Arc<Access> {
        self.0.borrow().clone()
    }

    /// Who may use it now, and who may then.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Access>> {
        self.0.subscribe()
    }

    /// Applies to all further requests and to open streams.
    pub fn exchange(&self, next: Access) {
        self.0.send_replace(Arc::new(next));
    }
}

/// What somebody showed, as far as it takes to see later whether they still may come in by it.
#[derive(Clone)]
pub struct Credentials {
    pub proof: Proof,
    /// The id of the session, if it was the cookie.
    pub session: Option<String>,
    /// When they end, in seconds since 1970.
    pub expires: Option<i64>,
}

/// Somebody who was let in, and by what.
type Admitted = (Principal, Credentials);

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
        let sessions = Arc::new(Sessions::open(data_dir, keep)?);
        Access::with(settings, data_dir, keep, sessions, Arc::default())
    }

    /// The same with the credentials of another configuration. Sessions and issued tickets stay, as far as what they
    /// were made from is still good.
    pub fn next(&self, settings: &Settings, data_dir: &Path) -> Result<Access, String> {
        Access::with(settings, data_dir, true, self.sessions.clone(), self.tickets.clone()).map(|(access, _)| access)
    }

    fn with(
        settings: &Settings,
        data_dir: &Path,
        keep: bool,
        sessions: Arc<Sessions>,
        tickets: Arc<Tickets>,
    ) -> Result<(Access, Option<FirstSecret>), String> {
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
            authenticator: authenticator.with_proof_key(sessions.proof_key()),
            roles: Roles::new(auth.roles.unwrap_or_default())?,
            anonymous_prefix: auth.anonymous_prefix,
            anonymous_writers: auth.anonymous.filter(|anonymous| anonymous.write).map_or(Vec::new(), |one| one.from),
            sessions,
            tickets,
        };
        Ok((access, secret))
    }

    /// Somebody with credentials, whatever they may do.
    async fn known(&self, request: &Request<Incoming>, peer: Peer) -> Result<Principal, Problem> {
        self.somebody(request, peer, false).await.map(|(who, _)| who)
    }

    /// Somebody with credentials. A stream takes a token or a ticket in the query, since browsers cannot send headers
    /// with it.
    pub async fn somebody(
        &self,
        request: &Request<Incoming>,
        peer: Peer,
        is_stream: bool,
    ) -> Result<Admitted, Problem> {
        let query = request.uri().query().filter(|_| is_stream);
        if let Some(ticket) = parameter(query, "ticket") {
            return self.redeem(&ticket).await;
        }
        if let Some(token) = parameter(query, "token") {
            return self.by_token(&token, peer).await;
        }
        if !has_credentials(request)
            && let Some(session) = self.sessions.of(request.headers())
        {
            if !is_same_origin(request.headers()) {
                return Err(forbidden("the session cookie is accepted only from the page itself"));
            }
            let who = self.confirm(&session).await.ok_or_else(|| self.authenticator.challenge())?;
            return Ok((who, session));
        }
        let proved = self.authenticator.prove(request.headers(), peer.ip).await?;
        Ok(self.admitted(proved).await)
    }

    pub async fn by_token(&self, token: &str, peer: Peer) -> Result<Admitted, Problem> {
        let proved = self.authenticator.prove_by_token(token, peer.ip).await?;
        Ok(self.admitted(proved).await)
    }

    pub async fn by_password(&self, user: &str, password: &str, peer: Peer) -> Result<Admitted, Problem> {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut headers = hyper::HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Basic {pair}")).expect("plain text");
        headers.insert(hyper::header::AUTHORIZATION, value);
        let proved = self.authenticator.prove(&headers, peer.ip).await?;
        Ok(self.admitted(proved).await)
    }

    /// Who was authenticated, with the role that is configured for them.
    async fn admitted(&self, (who, proof): (Principal, Proof)) -> Admitted {
        let expires = proof.expires();
        (self.roles.complete(who).await, Credentials { proof, session: None, expires })
    }

    /// Whom credentials that were shown earlier speak for now; `None` if they would be refused.
    pub async fn confirm(&self, shown: &Credentials) -> Option<Principal> {
        let is_over = shown.expires.is_some_and(|ends| ends <= now())
            || shown.session.as_ref().is_some_and(|id| self.sessions.is_ended(id));
        if is_over {
            return None;
        }
        let who = self.authenticator.prove_again(&shown.proof).await?;
        Some(self.roles.complete(who).await)
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

    /// The value of a cookie, and when it ends.
    pub fn open_session(&self, shown: &Credentials) -> Result<(String, i64), Problem> {
        let detail = "the claims of this token do not fit into a cookie: send it as `Authorization: Bearer`";
        self.sessions.begin(shown).ok_or_else(|| Problem::bad_request(detail))
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

    /// A ticket for who has these credentials, good as long as they are.
    pub fn ticket(&self, shown: Credentials) -> Ticket {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).expect("the operating system has random bytes");
        let ticket = URL_SAFE_NO_PAD.encode(bytes);
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|_, (_, made)| made.elapsed() < TICKET_AGE);
        if tickets.len() < MAX_TICKETS {
            tickets.insert(ticket.clone(), (shown, Instant::now()));
        }
        Ticket { ticket, expires_in: TICKET_AGE.as_secs() }
    }

    async fn redeem(&self, ticket: &str) -> Result<Admitted, Problem> {
        let found = self.tickets.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket);
        if let Some((shown, made)) = found
            && made.elapsed() < TICKET_AGE
            && let Some(who) = self.confirm(&shown).await
        {
            return Ok((who, shown));
        }
        let challenge = HeaderValue::from_static(r#"Bearer realm="weir""#);
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "the ticket was used or has expired");
        Err(problem.header(WWW_AUTHENTICATE, challenge))
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
    let now = now();
    jwt::mint(secret.expose(), user, role, terms, now, now + ttl.as_secs() as i64)
}
