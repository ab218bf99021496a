//! Windows on a running agent: health, metrics, the pipeline, dead letters, live streams, and a door for events.

mod access;
mod cors;
mod dlq;
mod health;
mod pipeline;
mod rates;
mod roles;
mod stream;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio_util::sync::CancellationToken;

pub use access::{Access, CurrentAccess, SECRET_FILE, mint};

use crate::component::Intake as _;
use crate::component::ingest::IngestEndpoint;
use crate::component::{OnBad, Wait};
use crate::config::API_SOURCE;
use crate::delivery::fanout::Fanout;
use crate::net::http::body::BodyLimits;
use crate::net::http::{self, Body, Handler, Peer, Problem};
use crate::net::{Principal, network};
use crate::telemetry::exposition::{self, ProcessContext};
use crate::topology::{Agent, Reloaded};
use crate::units::Timestamp;
use rates::Rates;

/// The largest body that the API takes.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// How long a request that waits for delivery waits.
const WAIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

type Reload = dyn Fn(Option<String>) -> Pin<Box<dyn Future<Output = Reloaded> + Send>> + Send + Sync;

/// Everything the routes need.
pub struct Api {
    agent: Arc<Agent>,
    access: CurrentAccess,
    door: IngestEndpoint,
    fanout: Arc<Fanout>,
    started: Timestamp,
    rates: Arc<Rates>,
    reload: Box<Reload>,
    shutdown: CancellationToken,
}

impl Api {
    /// `reload` reads the configuration again and goes over to it; it is told who wants that.
    pub fn new(
        agent: Arc<Agent>,
        access: CurrentAccess,
        fanout: Arc<Fanout>,
        reload: Box<Reload>,
        shutdown: CancellationToken,
    ) -> Api {
        let wait = if agent.is_durable() { Wait::Journal } else { Wait::Delivered(WAIT_TIMEOUT) };
        let door = IngestEndpoint {
            source: API_SOURCE.into(),
            intake: Arc::new(agent.api_intake().clone()),
            decoder: crate::codec::Codec::Json.decoder().into(),
            limits: BodyLimits::of(MAX_BODY),
            wait,
            on_bad: OnBad::Refuse,
            shutdown: shutdown.clone(),
        };
        let rates = Rates::follow(agent.books.clone(), shutdown.clone());
        Api { agent, access, door, fanout, started: Timestamp::now(), rates, reload, shutdown }
    }

    fn access(&self) -> Arc<Access> {
        self.access.get()
    }

    async fn route(&self, request: Request<Incoming>, peer: Peer) -> Result<Response<Body>, Problem> {
        let path = request.uri().path().to_owned();
        let path = path.strip_prefix(&self.agent.settings.api.base_path).ok_or_else(Problem::not_found)?;
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let get = request.method() == Method::GET || request.method() == Method::HEAD;
        let post = request.method() == Method::POST;
        let only = |allowed: bool, methods: &'static str| {
            if allowed { Ok(()) } else { Err(http::method_not_allowed(methods)) }
        };
        match parts.as_slice() {
            ["health"] => {
                only(get, "GET")?;
                // Asked only where it matters: a look at health needs no credentials.
                let with_errors = is_near(peer) || self.access().shows_admin(&request, peer).await;
                Ok(health::health(self, &request, with_errors))
            }
            ["ready"] => only(get, "GET").map(|()| health::ready(self)),
            ["metrics"] => only(get, "GET").map(|()| self.metrics()),
            ["version"] => only(get, "GET").map(|()| version()),
            ["api", "pipeline"] => {
                only(get, "GET")?;
                self.access().admin(&request, peer).await?;
                Ok(pipeline::pipeline(self))
            }
            ["api", "dlq"] => {
                only(get, "GET")?;
                self.access().admin(&request, peer).await?;
                dlq::list(self, request.uri().query()).await
            }
            ["api", "dlq", id] => {
                let admin = self.access().admin(&request, peer).await?;
                match *request.method() {
                    Method::GET => dlq::show(self, id).await,
                    Method::DELETE => dlq::drop(self, id, &admin).await,
                    _ => Err(http::method_not_allowed("GET, DELETE")),
                }
            }
            ["api", "dlq", id, "replay"] => {
                only(post, "POST")?;
                let admin = self.access().admin(&request, peer).await?;
                dlq::replay(self, id, &admin).await
            }
            ["api", "reload"] => {
                only(post, "POST")?;
                let admin = self.access().admin(&request, peer).await?;
                let verdict = (self.reload)(Some(admin.name)).await;
                let status = if verdict.applied { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
                Ok(json(status, &verdict))
            }
            ["api", "stream"] => {
                only(get, "GET")?;
                let reader = self.access().stream_reader(&request, peer).await?;
                stream::open(self, &request, reader)
            }
            ["api", "stream-ticket"] => {
                only(post, "POST")?;
                let reader = self.access().reader(&request, peer).await?;
                Ok(json(StatusCode::OK, &self.access().ticket(reader)))
            }
            ["api", "logs"] => {
                only(post, "POST")?;
                let sender = self.access().sender(&request, peer).await?;
                check_wait(request.uri().query())?;
                Ok(self.door.receive(request, sender.as_ref(), peer).await)
            }
            _ => Err(Problem::not_found()),
        }
    }

    fn metrics(&self) -> Response<Body> {
        self.agent.refresh_books();
        let journal = self.agent.commons.journal.stats();
        let around = ProcessContext {
            started: self.started,
            journal_bytes: journal.bytes,
            journal_limit_bytes: journal.limit,
            journal_syncs: self.agent.commons.journal.sync_times(),
            store_bytes: None,
            stream_clients: self.fanout.clients() as u64,
            reloads_applied: self.agent.reloads_applied.load(Ordering::Relaxed),
            reloads_failed: self.agent.reloads_failed.load(Ordering::Relaxed),
        };
        let mut response = Response::new(Body::from(exposition::render(&self.agent.books, &around)));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

impl Handler for Api {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let settings = &self.agent.settings.api;
        let peer = Peer { ip: peer.ip.map(|ip| network::client(ip, request.headers(), &settings.trusted_proxies)) };
        let origin = cors::allowed(request.headers(), &settings.cors.origins);
        if let Some(preflight) = cors::preflight(&request, origin.as_ref()) {
            return preflight;
        }
        let path = request.uri().path().to_owned();
        let showed_something = access::shows_credentials(&request);
        let mut response = self.route(request, peer).await.unwrap_or_else(Problem::into_response);
        if response.status() == StatusCode::UNAUTHORIZED && showed_something {
            self.agent.api_intake().auth_failure();
            let metadata = serde_json::json!({ "path": path });
            let from = peer.ip.map(|ip| ip.to_string());
            self.agent.note_from("login_failed", None, false, "wrong credentials", metadata, from);
        }
        let headers = response.headers_mut();
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
        cors::admit(headers, origin, !settings.cors.origins.is_empty());
        response
    }
}

fn version() -> Response<Body> {
    json(StatusCode::OK, &serde_json::json!({ "name": "weir", "version": env!("CARGO_PKG_VERSION") }))
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    http::reply::json(status, serde_json::to_vec(value).expect("answers are plain data"))
}

/// The value of one parameter of a query, percent-decoded.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| percent_decode(value)).next_back()
}

/// `?wait=stored` is the only wait that a sender may ask for.
fn check_wait(query: Option<&str>) -> Result<(), Problem> {
    match parameter(query, "wait") {
        Some(wait) if wait != "stored" => Err(Problem::bad_request("wait: the only value is `stored`").closing()),
        _ => Ok(()),
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code =
            bytes.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether somebody may see error texts in health: an administrator, or whoever is on this machine.
fn is_near(peer: Peer) -> bool {
    peer.ip.is_none_or(|ip| ip.to_canonical().is_loopback())
}

/// An act of an administrator becomes an event itself.
fn note(api: &Api, who: &Principal, event_type: &str, description: &str, metadata: serde_json::Value) {
    api.agent.note(event_type, Some(&who.name), true, description, metadata);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_percent_decoded_and_the_last_one_counts() {
        assert_eq!(parameter(Some("q=a&q=user%3Aali+x%"), "q").as_deref(), Some("user:ali x%"));
        assert_eq!(parameter(Some("query=1"), "q"), None);
        assert_eq!(parameter(None, "q"), None);
    }
}
