//! The HTTP API of a running agent: ingest, queries, statistics, live streams, health, metrics and operation.

mod access;
mod activity;
mod acts;
mod admin;
mod answer;
mod cors;
mod dlq;
mod export;
mod fields;
mod health;
mod key_file;
mod live;
mod login;
mod logs;
pub mod openapi;
mod operate;
mod page;
mod params;
mod rates;
mod reading;
mod report;
mod report_page;
mod resumed;
mod roles;
pub mod routes;
mod sessions;
mod shape;
mod stats;
mod stream_access;

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use acts::Act;

pub use access::{Access, CurrentAccess, FirstSecret, SECRET_FILE, mint, own_secret};

use crate::component::{Intake as _, OnBad, Wait};
use crate::config::API_SOURCE;
use crate::delivery::fanout::Fanout;
use crate::net::http::body::BodyLimits;
use crate::net::http::{Body, Handler, Peer, Problem};
use crate::net::{Principal, Role, network, origin};
use crate::query::request::Zone;
use crate::toolkit::ingest::IngestEndpoint;
use crate::topology::{Agent, Reloaded};
use crate::units::Timestamp;
use access::Credentials;
use params::Params;
use rates::Rates;
use routes::{Call, Found, Route, Who};

/// The largest body that the API takes.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// How long a request that waits for delivery waits.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Wrong credentials of one address are logged once in this time, with their number.
const LOGIN_FAILED_EVERY: Duration = Duration::from_secs(60);
/// How often the log says why queries cannot be answered.
const UNREADABLE_EVERY: Duration = Duration::from_secs(60);
/// Addresses whose wrong credentials are counted.
const MAX_ADDRESSES: usize = 10_000;

type Reload = dyn Fn(Option<String>) -> Pin<Box<dyn Future<Output = Reloaded> + Send>> + Send + Sync;

/// Everything that the routes need.
pub struct Api {
    agent: Arc<Agent>,
    access: CurrentAccess,
    endpoint: IngestEndpoint,
    fanout: Arc<Fanout>,
    started: Timestamp,
    rates: Arc<Rates>,
    reload: Box<Reload>,
    shutdown: CancellationToken,
    /// Where connections are served, and streams written.
    connections: Handle,
    /// For watching single components.
    taps: Arc<tokio::sync::Semaphore>,
    exports: Arc<export::Exports>,
    /// Of times that name none.
    zone: Zone,
    failed_logins: Mutex<HashMap<Option<IpAddr>, FailedLogins>>,
    /// When the log said last why a query could not be answered.
    said_unreadable: Mutex<Option<Instant>>,
    page: page::Page,
}

/// Wrong credentials of one address since they were last logged.
struct FailedLogins {
    since: Instant,
    count: u64,
}

impl Api {
    /// `reload` reads the configuration again and goes over to it; it is given who wants that. `connections` is the
    /// runtime that serves them.
    pub fn new(
        agent: Arc<Agent>,
        access: CurrentAccess,
        fanout: Arc<Fanout>,
        reload: Box<Reload>,
        connections: Handle,
        shutdown: CancellationToken,
    ) -> Api {
        let wait = if agent.is_durable() { Wait::Journal } else { Wait::Delivered(WAIT_TIMEOUT) };
        let endpoint = IngestEndpoint {
            source: API_SOURCE.into(),
            intake: Arc::new(agent.api_intake().clone()),
            decoder: crate::codec::Codec::Json.decoder().into(),
            limits: BodyLimits::of(MAX_BODY),
            wait,
            on_bad: OnBad::Refuse,
            capture: None,
            shutdown: shutdown.clone(),
        };
        let rates = Rates::follow(agent.accounting.clone(), shutdown.clone());
        let zone = params::zone_of(&agent.settings.api.timezone).unwrap_or_default();
        Api {
            agent,
            access,
            endpoint,
            fanout,
            started: Timestamp::now(),
            rates,
            reload,
            shutdown,
            connections,
            taps: Arc::new(tokio::sync::Semaphore::new(live::MAX_TAPS)),
            exports: Arc::default(),
            zone,
            failed_logins: Mutex::default(),
            said_unreadable: Mutex::default(),
            page: page::Page::default(),
        }
    }

    fn access(&self) -> Arc<Access> {
        self.access.get()
    }

    /// A keyed hash of a cursor, so that it cannot be forged.
    fn cursor_mac(&self, text: &[u8]) -> [u8; 16] {
        self.access().sessions.mac("cursor", text)
    }

    async fn route(&self, request: Request<Incoming>, peer: Peer) -> Result<Response<Body>, Problem> {
        let started = Instant::now();
        self.check_origin(&request)?;
        let path = request.uri().path().to_owned();
        if let Some(moved) = page::folder_of(request.uri(), &self.agent.settings.api.base_path) {
            return Ok(moved);
        }
        let path = below(&path, &self.agent.settings.api.base_path).ok_or_else(Problem::not_found)?;
        let (route, parts) = match routes::find(request.method(), path) {
            Found::Route(route, parts) => (route, parts),
            Found::OtherMethods(methods) => return Err(method_not_allowed(&methods)),
            Found::Nothing => return Err(Problem::not_found()),
        };
        let (who, credentials) = self.admit(route, &request, peer).await?;
        let params = Params::read(route.query(request.uri()), route.parameters, &self.zone)?;
        let headers: HeaderMap = request.headers().clone();
        let is_admin = who.as_ref().is_some_and(|who| who.role == Role::Admin);
        let call = Call { request, peer, who, credentials, path: parts, params, started };
        let answer = reading::within_a_deadline((route.handler)(self, call)).await;
        answer.map_err(|problem| self.outside(problem, is_admin)).map(|answer| answer.respond(&headers))
    }

    /// What is told to the client: administrators are told what the log says.
    fn outside(&self, mut problem: Problem, is_admin: bool) -> Problem {
        let Some(reason) = problem.take_inside() else { return problem };
        let mut said = self.said_unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= UNREADABLE_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!(reason, "a query could not be answered");
        }
        if is_admin { problem.detailed(reason) } else { problem }
    }

    /// Refuses what a browser sends for another site, or to a domain that was made to point here.
    fn check_origin(&self, request: &Request<Incoming>) -> Result<(), Problem> {
        let settings = &self.agent.settings.api;
        let is_guarded = settings.address.is_local() || !settings.hosts.is_empty();
        if is_guarded && origin::is_rebound(request.headers(), &settings.hosts) {
            return Err(access::forbidden("this host name is not accepted: add it to `api.hosts`").closing());
        }
        let changes = !matches!(*request.method(), hyper::Method::GET | hyper::Method::HEAD | hyper::Method::OPTIONS);
        if changes && origin::is_foreign(request.headers(), &settings.cors.origins) {
            return Err(
                access::forbidden("requests from another origin are refused: add it to `api.cors.origins`").closing()
            );
        }
        Ok(())
    }

    /// Authorizes a request for a route: who it is, and by what they came in.
    async fn admit(
        &self,
        route: &Route,
        request: &Request<Incoming>,
        peer: Peer,
    ) -> Result<(Option<Principal>, Option<Credentials>), Problem> {
        let streams = matches!(route.who, Who::StreamReader | Who::StreamAdmin);
        if route.path == "/ws/logs" && !access::may_upgrade(request.headers(), &self.agent.settings.api.cors.origins) {
            return Err(access::forbidden(
                "a WebSocket needs this host's own `Origin`, such as `http://127.0.0.1:8686`, or one of `api.cors.origins`",
            ));
        }
        match route.who {
            Who::Open => Ok((None, None)),
            Who::Sender => Ok((self.access().sender(request, peer).await?, None)),
            _ => {
                let access = self.access();
                let (who, credentials) = access.somebody(request, peer, streams).await?;
                access.check(&who, route.who)?;
                Ok((Some(who), Some(credentials)))
            }
        }
    }

    /// Records wrong credentials: once for each address and minute, with a count.
    fn login_failed(&self, act: &Act, ip: Option<IpAddr>) {
        let mut failed = self.failed_logins.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if failed.len() >= MAX_ADDRESSES {
            failed.retain(|_, logins| now - logins.since < LOGIN_FAILED_EVERY);
        }
        let logins = failed.entry(ip).or_insert(FailedLogins { since: now, count: 0 });
        logins.count += 1;
        let is_first = logins.since == now;
        if !is_first && now - logins.since < LOGIN_FAILED_EVERY {
            return;
        }
        let count = if is_first { 1 } else { logins.count };
        *logins = FailedLogins { since: now, count: 0 };
        drop(failed);
        act.record_failed_login(self, count);
    }
}

/// The path below the base, which ends where a part of the path does.
fn below<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(base.trim_end_matches('/'))?;
    rest.starts_with('/').then_some(rest)
}

fn method_not_allowed(methods: &[&'static str]) -> Problem {
    let methods = methods.join(", ");
    let problem =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed: this path supports {methods}"));
    problem.header(hyper::header::ALLOW, HeaderValue::from_str(&methods).expect("plain text"))
}

impl Handler for Api {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let settings = &self.agent.settings.api;
        let trusted = &settings.trusted_proxies;
        let peer = Peer {
            ip: peer.ip.map(|ip| network::client(ip, request.headers(), trusted)),
            is_forwarded: peer.ip.is_some_and(|ip| network::is_by_unknown_proxy(ip, request.headers(), trusted)),
        };
        let origin = cors::allowed(request.headers(), &settings.cors.origins);
        if let Some(preflight) = cors::preflight(&request, origin.as_ref()) {
            return preflight;
        }
        let login = access::shows_credentials(&request).then(|| Act::of(&request, peer, Instant::now()));
        let is_by_page = login::is_by_page(request.headers());
        let mut response = self.route(request, peer).await.unwrap_or_else(Problem::into_response);
        if let Some(login) = login.filter(|_| response.status() == StatusCode::UNAUTHORIZED) {
            self.agent.api_intake().auth_failure();
            self.login_failed(&login, peer.ip);
        }
        let headers = response.headers_mut();
        if is_by_page {
            // A browser would ask for a password in a window of its own, instead of the page.
            headers.remove(WWW_AUTHENTICATE);
        }
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
        cors::admit(headers, origin, !settings.cors.origins.is_empty());
        response
    }

    fn connection_failed(&self, class: &'static str) {
        self.agent.api_intake().connection_failed(class);
    }
}

/// Whether the caller may see error texts in health: an administrator, or a local caller.
fn is_near(call: &Call) -> bool {
    call.peer.is_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_ends_with_a_part_of_the_path() {
        assert_eq!(below("/weir/health", "/weir"), Some("/health"));
        assert_eq!(below("/weir/health", "/weir/"), Some("/health"));
        assert_eq!(below("/weirhealth", "/weir"), None);
        assert_eq!(below("/health", ""), Some("/health"));
    }
}
