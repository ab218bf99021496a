//! An HTTP/1.1 client with pooled connections, TLS and a proxy, for sinks that speak HTTP.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tower_service::Service;

use super::fault::{innermost, is_untrusted};
use super::tls::{self, Trust};
use crate::secret::SecretMask;
use crate::units::Timestamp;

/// The most bytes that are read of an answer.
pub const MAX_ANSWER: usize = 16 << 20;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept; most servers close theirs after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_IDLE_PER_HOST: usize = 16;
const KEEPALIVE: Duration = Duration::from_secs(30);

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Sends requests; clones share the connections.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<HttpsConnector<Dial>, Full<Bytes>>,
    /// What a proxy wants to see of requests that it forwards.
    proxy_authorization: Option<HeaderValue>,
    mask: SecretMask,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The first [`MAX_ANSWER`] bytes, if it is longer.
    pub body: Bytes,
    pub is_whole: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Nothing was sent.
    Unreachable(String),
    /// The other side cannot show that it is who it should be; nothing was sent.
    Untrusted(String),
    /// The request may have been taken; its answer is lost.
    Lost(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable(reason) | Error::Untrusted(reason) | Error::Lost(reason) => f.write_str(reason),
        }
    }
}

impl Client {
    /// `proxy` is `http://[user:password@]host:port`. The error is for the operator.
    pub fn new(trust: &Trust, proxy: Option<&str>) -> Result<Client, String> {
        Client::with(tls::client(trust)?, trust.server_name.as_deref(), proxy)
    }

    /// For one server, known by its certificate. The error is for the operator.
    pub fn of_certificate(cert: &Path) -> Result<Client, String> {
        Client::with(tls::client_of(cert)?, None, None)
    }

    /// Trusts the authorities of a file, and its certificates themselves. The error is for the operator.
    pub fn trusting(ca: &Path) -> Result<Client, String> {
        Client::with(tls::client_trusting(ca)?, None, None)
    }

    fn with(tls: ClientConfig, server_name: Option<&str>, proxy: Option<&str>) -> Result<Client, String> {
        let mut mask = SecretMask::default();
        let proxy = proxy.map(|proxy| Proxy::parse(proxy, &mut mask)).transpose()?;
        let proxy_authorization = proxy.as_ref().and_then(|proxy| proxy.authorization.clone());
        let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        if let Some(name) = server_name {
            let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("invalid server name `{name}`"))?;
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let connector = builder.enable_http1().wrap_connector(Dial { http: http(), proxy });
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Client { inner, proxy_authorization, mask })
    }

    /// Covers what it sends by itself, which an answer may quote.
    pub fn mask(&self) -> SecretMask {
        self.mask.clone()
    }

    /// Sends a request and reads its whole answer. There is no deadline here: whoever calls has one for the whole
    /// write.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, Error> {
        let place = place(request.uri());
        let (head, body) = self.open(request).await?.into_parts();
        let (body, is_whole) = read(body).await.map_err(|error| {
            Error::Lost(format!("`{place}` closed the connection before the end of its answer: {}", innermost(&error)))
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body, is_whole })
    }

    /// Sends a request and returns with the head of its answer; the body is read as it comes.
    pub async fn open(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Error> {
        let is_empty = request.body().is_empty();
        let mut request = request.map(Full::new);
        // Some servers close on a request that may have a body and does not say how long it is.
        if is_empty && matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let place = place(request.uri());
        if let Some(value) = &self.proxy_authorization
            && request.uri().scheme_str() == Some("http")
        {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        self.inner.request(request).await.map_err(|error| explain(&place, &error))
    }
}

/// Reads a body up to the bound; returns whether that is all of it.
async fn read(mut body: Incoming) -> Result<(Bytes, bool), hyper::Error> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > MAX_ANSWER {
            whole.extend_from_slice(&data[..MAX_ANSWER - whole.len()]);
            return Ok((whole.freeze(), false));
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), true))
}

impl Answer {
    /// The time that the other side asked us to wait: `Retry-After` in seconds or as a date.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?.as_microsecond();
        Some(Duration::from_micros(at.saturating_sub(Timestamp::now().0).max(0) as u64))
    }
}

/// Host and port, without anything private.
fn place(uri: &Uri) -> String {
    let host = uri.host().unwrap_or("");
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    format!("{host}:{port}")
}

fn explain(place: &str, error: &legacy::Error) -> Error {
    let reason = innermost(error);
    if is_untrusted(error) {
        return Error::Untrusted(format!("TLS error with `{place}`: {reason}"));
    }
    match error.is_connect() {
        true => Error::Unreachable(format!("cannot reach `{place}`: {reason}")),
        false => Error::Lost(format!("no answer from `{place}`: {reason}")),
    }
}

fn http() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_keepalive(Some(KEEPALIVE));
    http
}

#[derive(Clone)]
struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Covers user and password.
    fn parse(text: &str, mask: &mut SecretMask) -> Result<Proxy, String> {
        let wrong =
            || "`proxy` must read `http://host:port`, with `user:password@` before the host if it asks".to_owned();
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let uri: Uri = format!("http://{host}").parse().map_err(|_| wrong())?;
        uri.port_u16().ok_or_else(wrong)?;
        let authorization = user.map(|user| {
            let pair = BASE64_STANDARD.encode(user);
            mask.cover(&pair);
            mask.cover(user);
            mask.cover(user.split_once(':').map_or("", |(_, password)| password));
            let mut value = HeaderValue::try_from(format!("Basic {pair}")).expect("base64 fits into a header");
            value.set_sensitive(true);
            value
        });
        Ok(Proxy { uri, authorization })
    }
}

/// Makes connections: straight, through a proxy's tunnel for `https`, or to a proxy that forwards for `http`.
#[derive(Clone)]
struct Dial {
    http: HttpConnector,
    proxy: Option<Proxy>,
}

impl Service<Uri> for Dial {
    type Response = Dialed;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, Fault>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        // The connector that was found ready is the one to use.
        let ready = self.http.clone();
        let mut http = std::mem::replace(&mut self.http, ready);
        let proxy = self.proxy.clone();
        Box::pin(async move {
            let Some(Proxy { uri, authorization }) = proxy else {
                return Ok(Dialed { stream: http.call(target).await?, forwarded: false });
            };
            let place = place(&uri);
            // Whoever reads this looks at the target, and it is the proxy that is not there.
            let through = |error: &(dyn std::error::Error + 'static)| -> Fault {
                format!("the proxy `{place}` cannot connect: {}", innermost(error)).into()
            };
            if target.scheme_str() != Some("https") {
                let stream = http.call(uri).await.map_err(|error| through(&error))?;
                return Ok(Dialed { stream, forwarded: true });
            }
            let mut tunnel = Tunnel::new(uri, http);
            if let Some(authorization) = authorization {
                tunnel = tunnel.with_auth(authorization);
            }
            Ok(Dialed { stream: tunnel.call(target).await.map_err(|error| through(&error))?, forwarded: false })
        })
    }
}

struct Dialed {
    stream: TokioIo<TcpStream>,
    /// Whether the other side forwards, so that requests must name the whole address.
    forwarded: bool,
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.forwarded)
    }
}

impl Read for Dialed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request on one connection and gives back what was asked.
    async fn once(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it has one").port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("somebody connects");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.expect("it can be read") > 0 {}
            stream.write_all(answer.as_bytes()).await.expect("it can be written");
            String::from_utf8(head).expect("a head is text")
        });
        (port, asked)
    }

    fn get(url: &str) -> Request<Bytes> {
        Request::get(url).body(Bytes::new()).expect("a request")
    }

    #[tokio::test]
    async fn an_answer_comes_whole_with_the_time_that_it_asks_for() {
        let (port, asked) = once("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nwait").await;
        let client = Client::new(&Trust::default(), None).expect("a client");
        let answer = client.send(get(&format!("http://127.0.0.1:{port}/a?b"))).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (429, &b"wait"[..]));
        assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
        assert!(asked.await.expect("no panic").starts_with("GET /a?b HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn a_proxy_forwards_plain_requests_and_is_asked_for_a_tunnel_for_others() {
        let (port, asked) = once("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let client = |port| Client::new(&Trust::default(), Some(&format!("http://ali:geheim@127.0.0.1:{port}")));
        client(port).expect("a client").send(get("http://logs.example/x")).await.expect("an answer");
        let head = asked.await.expect("no panic").to_lowercase();
        assert!(head.starts_with("get http://logs.example/x http/1.1\r\n"), "{head}");
        assert!(head.contains("proxy-authorization: basic ywxpomdlagvpbq=="), "{head}");

        let (port, asked) = once("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n").await;
        let error = client(port).expect("a client").send(get("https://logs.example/x")).await.expect_err("no tunnel");
        assert!(matches!(error, Error::Unreachable(_)), "{error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
        let head = asked.await.expect("no panic").to_lowercase();
        assert!(head.starts_with("connect logs.example:443 http/1.1\r\n"), "{head}");
        assert!(head.contains("proxy-authorization: basic "), "{head}");
    }

    #[tokio::test]
    async fn who_is_not_there_and_who_hangs_up_are_told_apart() {
        let client = Client::new(&Trust::default(), None).expect("a client");
        let (port, asked) = once("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        let error = client.send(get(&format!("http://127.0.0.1:{port}/"))).await.expect_err("half an answer");
        assert!(matches!(error, Error::Lost(_)), "{error}");
        asked.await.expect("no panic");
        let error = client.send(get(&format!("http://127.0.0.1:{port}/"))).await.expect_err("nobody listens");
        assert_eq!(error.to_string(), format!("cannot reach `127.0.0.1:{port}`: connection refused"));
        assert!(matches!(error, Error::Unreachable(_)));
    }

    #[test]
    fn a_date_is_a_time_to_wait_for_too() {
        let mut answer =
            Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new(), is_whole: true };
        let date = |text: &'static str| HeaderValue::from_static(text);
        answer.headers.insert(header::RETRY_AFTER, date("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(answer.retry_after(), Some(Duration::ZERO));
        answer.headers.insert(header::RETRY_AFTER, date("Fri, 06 Nov 2099 08:49:37 GMT"));
        assert!(answer.retry_after() > Some(Duration::from_secs(86400)));
        answer.headers.insert(header::RETRY_AFTER, date("soon"));
        assert_eq!(answer.retry_after(), None);
    }

    #[test]
    fn a_proxy_that_cannot_be_read_is_refused_without_being_shown() {
        for text in ["https://a:1", "http://ali:geheim@host", "geheim"] {
            let error = Client::new(&Trust::default(), Some(text)).err().expect(text);
            assert!(error.contains("http://host:port") && !error.contains("geheim"), "{error}");
        }
    }
}
