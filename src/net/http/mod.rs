//! An HTTP/1.1 server with a deadline on everything: heads, bodies, idle connections, slow readers, shutdown.

pub mod body;
mod guard;
pub mod reply;
mod target;
mod unread;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{debug, warn};

pub use self::body::{BodyError, BodyLimits};
pub use self::guard::Phase as Busy;
use self::guard::{Guard, Phase};
pub use self::reply::{Body, Problem};
use super::listen::{Accepted, Acceptor, Listener};
use super::tls;
use super::{PROXY_FAILURE, TLS_FAILURE};

/// Bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_connections: usize,
    /// From the first byte of a request (or the start of the connection) to the end of its head.
    pub head_timeout: Duration,
    /// How long a connection may rest between requests.
    pub idle_timeout: Duration,
    /// How long a client may accept nothing of what is written to it.
    pub write_timeout: Duration,
    /// Time that running requests get at shutdown.
    pub grace: Duration,
    pub max_headers: usize,
    /// Bytes of a request's head, and of the read buffer.
    pub max_head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: super::listen::MAX_CONNECTIONS,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            max_headers: 100,
            max_head_bytes: 64 * 1024,
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Absent on Unix sockets.
    pub ip: Option<IpAddr>,
    /// Whether an untrusted proxy has forwarded the request: then it is not local, whatever its address is.
    pub is_forwarded: bool,
}

impl Peer {
    /// Whether the request comes from this machine.
    pub fn is_local(self) -> bool {
        !self.is_forwarded && self.ip.is_none_or(|ip| ip.to_canonical().is_loopback())
    }
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Body>> + Send;

    /// A connection was refused before any request was read, for a reason of this class.
    fn connection_failed(&self, class: &'static str);
}

/// What a future gives on another runtime, where it ends with this one and panics as it would here; `None` if that runtime
/// ends before.
pub async fn on<T: Send + 'static>(runtime: &Handle, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    match AbortOnDropHandle::new(runtime.spawn(future)).await.map_err(JoinError::try_into_panic) {
        Ok(given) => Some(given),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => None,
    }
}

/// Answers on another runtime than the one that serves the connections.
pub struct AnsweredOn<H> {
    pub runtime: Handle,
    pub handler: Arc<H>,
}

impl<H: Handler> Handler for AnsweredOn<H> {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let handler = self.handler.clone();
        // Given up with its connection.
        let answer = on(&self.runtime, async move { handler.handle(request, peer).await }).await;
        answer.unwrap_or_else(|| Problem::stopping().closing().into_response())
    }

    fn connection_failed(&self, class: &'static str) {
        self.handler.connection_failed(class);
    }
}

/// The certificate of a listener, which may be exchanged while it serves.
#[derive(Clone, Default)]
pub struct ServerTls(Arc<RwLock<Option<Arc<ServerConfig>>>>);

impl ServerTls {
    pub fn new(config: Option<Arc<ServerConfig>>) -> ServerTls {
        ServerTls(Arc::new(RwLock::new(config)))
    }

    /// Connections that come from now on are shown this one.
    pub fn exchange(&self, config: Option<Arc<ServerConfig>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn current(&self) -> Option<Arc<ServerConfig>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A server that stops waits this long for the first request of a connection that it has accepted: its client has seen
/// the connection open, and may be about to write.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// When a server ends, and how.
#[derive(Clone)]
pub struct Shutdown {
    /// No connection is accepted any more, and none is kept for another request.
    pub closing: CancellationToken,
    /// Requests that come on the connections that are left are answered 503, because the agent stops. Until then a
    /// server that only makes way for its successor answers them.
    pub refusing: CancellationToken,
}

impl Shutdown {
    /// Everything at once.
    pub fn with(token: CancellationToken) -> Shutdown {
        Shutdown { closing: token.clone(), refusing: token }
    }
}

/// Serves until `shutdown`, then closes idle connections and lets requests under way end within the grace. Returns when
/// no connection is left.
pub async fn serve<H: Handler>(
    listener: Listener,
    tls: ServerTls,
    limits: Limits,
    handler: Arc<H>,
    shutdown: Shutdown,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let mut acceptor = Acceptor::new(listener, limits.max_connections, shutdown.closing.clone());
    while let Some(accepted) = acceptor.next().await {
        let (tls, handler, shutdown, cut) = (tls.current(), handler.clone(), shutdown.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(accepted, tls, limits, handler, shutdown) => {}
                () = cut.cancelled() => {}
            }
        });
    }
    drop(acceptor);
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_err() {
        warn!(connections = connections.len(), "requests did not end in time and were aborted");
        cut.cancel();
        connections.wait().await;
    }
}

async fn connection<H: Handler>(
    accepted: Accepted,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    handler: Arc<H>,
    shutdown: Shutdown,
) {
    let Accepted { stream, peer, permit: _permit, .. } = match accepted.by_proxy().await {
        Ok(accepted) => accepted,
        Err((peer, reason)) => {
            warn!(peer = peer.map(tracing::field::display), reason, "a connection was refused");
            handler.connection_failed(PROXY_FAILURE);
            return;
        }
    };
    let peer = Peer { ip: peer, is_forwarded: false };
    let stream = match &tls {
        None => stream,
        Some(config) => match tls::accept(config, stream).await {
            Ok(stream) => stream,
            Err(reason) => {
                debug!(peer = peer.ip.map(tracing::field::display), reason, "TLS handshake failed");
                handler.connection_failed(TLS_FAILURE);
                return;
            }
        },
    };
    let phase = Phase::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        let lease = phase.lease();
        // For whoever keeps the connection for something else than an answer.
        request.extensions_mut().insert(phase.clone());
        let has_body = !request.body().is_end_stream();
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let (handler, phase, stopping) = (&handler, &phase, shutdown.refusing.is_cancelled());
        async move {
            let mut response = if stopping {
                Problem::stopping().closing().into_response()
            } else if !names_one_host(&request) {
                Problem::bad_request("expected exactly one Host header").closing().into_response()
            } else {
                handler.handle(request, peer).await
            };
            if has_body && !response.status().is_success() {
                phase.linger(announced);
            }
            response.body_mut().hold(lease);
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Guard::new(stream, phase.clone(), &limits));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The guard keeps the deadlines: hyper's own would count the rest between requests as a slow head.
        .header_read_timeout(None)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_head_bytes)
        .max_header_size(limits.max_head_bytes)
        .half_close(true);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.closing.cancelled() => match first_request(connection.as_mut(), &phase).await {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        },
    };
    if let Err(error) = ended {
        debug!(peer = peer.ip.map(tracing::field::display), %error, "a connection ended early");
    }
}

/// Drives a new connection until its first request has begun, for a bounded time; gives the result if it ends. Without
/// this, hyper closes a connection that has sent nothing yet.
async fn first_request<C: Future>(mut connection: Pin<&mut C>, phase: &Phase) -> Option<C::Output> {
    let mut patience = std::pin::pin!(tokio::time::sleep(FIRST_REQUEST));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(ended));
        }
        if !phase.awaits_first_request() || patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// A proxy in between may choose another of several hosts.
fn names_one_host(request: &Request<Incoming>) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11)
}

/// A method that a path does not have.
pub fn method_not_allowed(allowed: &'static str) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed: this path supports {allowed}"))
        .allow(allowed)
}

#[cfg(test)]
mod tests;
