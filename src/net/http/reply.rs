//! Responses: complete or streamed bodies, and problem documents (RFC 9457).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, SizeHint};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::guard::Lease;
use crate::event::escape::push_string;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// When to come back to an agent that stops: its successor should be up by then.
const RETRY_STOPPING: Duration = Duration::from_secs(5);

/// The body of an answer.
pub struct Body {
    content: Content,
    /// Tells the connection that it is busy for as long as the body is there.
    _lease: Option<Lease>,
}

enum Content {
    Whole(Bytes),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    pub fn stream(body: UnsyncBoxBody<Bytes, BoxError>) -> Body {
        Body { content: Content::Stream(body), _lease: None }
    }

    pub(super) fn hold(&mut self, lease: Lease) {
        self._lease = Some(lease);
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Body {
        Body { content: Content::Whole(bytes.into()), _lease: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(body) => body.size_hint(),
        }
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Why a request was not done: becomes a problem document.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    /// The detail for administrators: it may name servers, tables and roles.
    inside: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Further members as JSON text: `,"name":value`.
    members: Vec<u8>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), inside: None, headers: Vec::new(), members: Vec::new() }
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "no such path")
    }

    /// The agent stops.
    pub fn stopping() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping").retry_after(RETRY_STOPPING)
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Adds a detail that only administrators get, instead of the other.
    pub fn inside(self, detail: String) -> Problem {
        Problem { inside: Some(detail), ..self }
    }

    /// What is said to administrators only, if that is another thing.
    pub fn take_inside(&mut self) -> Option<String> {
        self.inside.take()
    }

    pub fn detailed(self, detail: String) -> Problem {
        Problem { detail, ..self }
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// When it is worth trying again, in whole seconds, at least one.
    pub fn retry_after(self, after: Duration) -> Problem {
        let seconds = after.as_millis().div_ceil(1000).clamp(1, 86_400) as u64;
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub fn allow(self, methods: &'static str) -> Problem {
        self.header(ALLOW, HeaderValue::from_static(methods))
    }

    /// Closes the connection afterwards: the request's body has not been read and will not be.
    pub fn closing(self) -> Problem {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Adds a member whose value is given as JSON.
    pub fn member(mut self, name: &str, json: &[u8]) -> Problem {
        self.members.push(b',');
        push_string(&mut self.members, name);
        self.members.push(b':');
        self.members.extend_from_slice(json);
        self
    }

    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.document()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }

    pub(super) fn document(&self) -> Vec<u8> {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let status = self.status.as_u16();
        let mut text = format!(r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":"#).into_bytes();
        push_string(&mut text, &self.detail);
        text.extend_from_slice(&self.members);
        text.push(b'}');
        text
    }
}
