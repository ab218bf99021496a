//! Receives events by HTTP `POST`, over TCP, TLS or a Unix socket.

use std::path::PathBuf;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_rustls::rustls::ServerConfig;

use crate::codec::Codec;
use crate::component::{Check, Fatal, OnBad, Source, SourceContext, Wait};
use crate::event::Capture;
use crate::net::http::{self, Body, BodyLimits, Handler, Limits, Peer, Problem, ServerTls, Shutdown};
use crate::net::network::{self, Network};
use crate::net::{Address, Authenticator, Endpoint, Listener, Sockets, auth, listen, origin, tls};
use crate::toolkit::IngestEndpoint;
use crate::units::{ByteSize, Duration};

/// The largest `max_body` that makes sense: a batch counts its bytes in 32 bits.
const MAX_BODY: ByteSize = ByteSize::gib(1);

/// Receives events by HTTP `POST`: one JSON object, an array or NDJSON per request, optionally compressed with gzip,
/// zstd or deflate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on: `host:port` or `unix:/path`.
    #[serde(default = "default_address")]
    pub address: Address,
    /// Path that accepts events; all others are 404.
    #[serde(default = "default_path")]
    pub path: String,
    /// Authentication of senders. Default: none on loopback; on any other address `type: none` must be set explicitly.
    #[serde(default)]
    pub auth: Option<auth::Config>,
    /// Accepted `Host` headers besides `localhost` and IP addresses. A source on loopback without `auth` refuses
    /// requests for other names, so that a web page cannot send events through DNS rebinding.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Certificate and key. Without them connections are not encrypted.
    #[serde(default)]
    pub tls: Option<tls::Config>,
    /// Maximum size of a body, before and after decompression; a larger one is answered 413.
    #[serde(default = "default_max_body")]
    pub max_body: ByteSize,
    /// When to answer: `journal` after the journal has synced, `delivered` after every sink has finished with the
    /// events, `none` at once. Default: `journal`, or `delivered` with a journal in memory.
    #[serde(default)]
    pub wait: Option<WaitFor>,
    /// How long `wait: delivered` waits before it answers 503.
    #[serde(default = "default_wait_timeout")]
    pub wait_timeout: Duration,
    /// How invalid items of a request are handled: `refuse` refuses them, `dead_letter` sends them to the dead-letter
    /// queue, `reject_all` refuses the whole request.
    #[serde(default)]
    pub on_bad: Bad,
    /// Sets `capture` on every event: `kernel` or `server`. A value in the event itself moves to `metadata`.
    #[serde(default)]
    pub capture: Option<Capture>,
    /// Maximum number of concurrent connections; further ones are closed.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// Addresses or networks of proxies whose `X-Forwarded-For` is trusted.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// Whether connections start with a PROXY protocol header (version 1 or 2) from one of `trusted_proxies`; others
    /// are closed.
    #[serde(default)]
    pub proxy_protocol: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    Journal,
    Delivered,
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bad {
    #[default]
    Refuse,
    DeadLetter,
    RejectAll,
}

fn default_address() -> Address {
    Address::Tcp { host: "127.0.0.1".into(), port: 8687 }
}

fn default_path() -> String {
    "/".into()
}

fn default_max_body() -> ByteSize {
    ByteSize::mib(16)
}

fn default_wait_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_max_connections() -> usize {
    listen::MAX_CONNECTIONS
}

/// Listens and submits a job for every request.
pub struct Http {
    config: Config,
    wait: Wait,
}

impl Source for Http {
    const TYPE: &'static str = "http";
    type Config = Config;
    type Prepared = (Listener, Loaded);

    fn build(config: Config, check: &mut Check) -> Option<Http> {
        let errors = check.problems.count_errors();
        match &config.auth {
            Some(auth) => auth.check("auth", &mut check.problems),
            None if config.address.is_local() => {}
            None => check.problem_with_hint(
                "address",
                format!("`{}` can be reached from other machines, so `auth` is required", config.address),
                "set `auth`, or `auth: {type: none}` to accept events from everybody",
            ),
        }
        if !config.path.starts_with('/') || config.path.contains(['?', '#', ' ']) {
            check.problem("path", format!("`{}` is not a path: it must start with `/`", config.path));
        }
        if !(1..=MAX_BODY.bytes()).contains(&config.max_body.bytes()) {
            check.problem("max_body", format!("expected more than 0 and at most {MAX_BODY}"));
        }
        if config.max_connections == 0 {
            check.problem("max_connections", "expected at least 1");
        }
        if config.proxy_protocol && config.trusted_proxies.is_empty() {
            let hint = "such as `trusted_proxies: [10.0.0.0/8]`; otherwise any sender could forge its address";
            check.problem_with_hint("proxy_protocol", "`trusted_proxies` is required", hint);
        }
        let wait = match config.wait {
            Some(WaitFor::None) => Wait::None,
            Some(WaitFor::Delivered) => Wait::Delivered(*config.wait_timeout),
            Some(WaitFor::Journal) if !check.durable => {
                let message = "with a journal in memory nothing is durable to wait for";
                check.problem_with_hint("wait", message, "use `wait: delivered`, or `journal: {mode: disk}`");
                return None;
            }
            Some(WaitFor::Journal) => Wait::Journal,
            None if check.durable => Wait::Journal,
            None => Wait::Delivered(*config.wait_timeout),
        };
        (check.problems.count_errors() == errors).then_some(Http { config, wait })
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::stream(&self.config.address)]
    }

    fn files(&self) -> Vec<PathBuf> {
        let tls = self.config.tls.iter().flat_map(tls::Config::files);
        tls.chain(self.config.auth.iter().flat_map(auth::Config::files)).collect()
    }

    fn check_files(&self) -> Result<(), String> {
        self.load().map(drop)
    }

    async fn prepare(&self, sockets: &Sockets) -> Result<(Listener, Loaded), Fatal> {
        let loaded = self.load().map_err(Fatal)?;
        let proxies = self.config.proxy_protocol.then(|| self.config.trusted_proxies.clone().into());
        let listener = sockets.listen(&self.config.address).await.map_err(Fatal)?;
        Ok((listener.behind_proxies(proxies), loaded))
    }

    async fn run(self: Arc<Http>, (listener, loaded): (Listener, Loaded), cx: SourceContext) -> Result<(), Fatal> {
        let Loaded { authenticator, tls } = loaded;
        let front = front(&self.config, self.wait, authenticator, &cx);
        let limits = Limits { max_connections: self.config.max_connections, ..Limits::default() };
        let address = listener.address().map_err(|error| Fatal(error.to_string()))?;
        tracing::info!(source = %cx.name, %address, "listening");
        let scheme = if tls.is_some() { "https://" } else { "http://" };
        let is_unix = matches!(address, Address::Unix(_));
        cx.intake.listening(&format!("{}{address}", if is_unix { "" } else { scheme }));
        cx.ready();
        let shutdown = Shutdown { closing: cx.shutdown, refusing: cx.stopping };
        http::serve(listener, ServerTls::new(tls), limits, Arc::new(front), shutdown).await;
        Ok(())
    }
}

/// What the configuration names by path, read.
pub struct Loaded {
    authenticator: Authenticator,
    tls: Option<Arc<ServerConfig>>,
}

impl Http {
    fn load(&self) -> Result<Loaded, String> {
        let authenticator = self.config.auth.as_ref().map_or_else(|| Ok(Authenticator::open()), Authenticator::new)?;
        let tls = self.config.tls.as_ref().map(tls::server).transpose()?;
        Ok(Loaded { authenticator, tls })
    }
}

fn front(config: &Config, wait: Wait, authenticator: Authenticator, cx: &SourceContext) -> Front {
    let on_bad = match config.on_bad {
        Bad::Refuse => OnBad::Refuse,
        Bad::DeadLetter => OnBad::DeadLetter,
        Bad::RejectAll => OnBad::RejectAll,
    };
    let endpoint = IngestEndpoint {
        source: cx.name.clone(),
        intake: cx.intake.clone(),
        decoder: Arc::from(Codec::Json.decoder()),
        limits: BodyLimits::of(config.max_body.to_usize()),
        wait,
        on_bad,
        capture: config.capture,
        shutdown: cx.stopping.clone(),
    };
    let is_open = config.auth.as_ref().is_none_or(auth::Config::is_open);
    let is_tcp = matches!(config.address, Address::Tcp { .. });
    let hosts = (is_open && is_tcp && config.address.is_local()).then(|| config.hosts.clone());
    Front { path: config.path.clone(), authenticator, endpoint, trusted_proxies: config.trusted_proxies.clone(), hosts }
}

/// What precedes the endpoint: path, method and authentication.
struct Front {
    trusted_proxies: Vec<Network>,
    /// The names that requests may ask for, where the name is what tells a program from the page of a foreign domain.
    hosts: Option<Vec<String>>,
    path: String,
    authenticator: Authenticator,
    endpoint: IngestEndpoint,
}

impl Handler for Front {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let (headers, trusted) = (request.headers(), &self.trusted_proxies);
        let peer = Peer {
            ip: peer.ip.map(|ip| network::client(ip, headers, trusted)),
            is_forwarded: peer.ip.is_some_and(|ip| network::is_by_unknown_proxy(ip, headers, trusted)),
        };
        if self.hosts.as_ref().is_some_and(|hosts| origin::is_rebound(headers, hosts)) {
            let detail = format!("this host name is not accepted: add it to `sources.{}.hosts`", self.endpoint.source);
            return Problem::new(StatusCode::FORBIDDEN, detail).closing().into_response();
        }
        if request.uri().path() != self.path {
            return Problem::not_found().into_response();
        }
        if request.method() != Method::POST {
            return http::method_not_allowed("POST").into_response();
        }
        match self.authenticator.authenticate(request.headers(), peer.ip).await {
            Ok(sender) => self.endpoint.receive(request, sender.as_ref(), peer).await,
            Err(problem) => {
                self.endpoint.intake.auth_failure();
                problem.into_response()
            }
        }
    }

    fn connection_failed(&self, class: &'static str) {
        self.endpoint.intake.connection_failed(class);
    }
}

#[cfg(test)]
mod tests;
