//! `/api/stream`: events as they come, as server-sent events that resume.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::access::Reader;
use super::{Api, parameter};
use crate::delivery::fanout::{Client, Live};
use crate::delivery::view::View;
use crate::net::Role;
use crate::net::http::{Body, Problem};
use crate::query::Query;
use crate::visibility::Visibility;

/// How often a silent stream shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again, in milliseconds.
const RETRY: &[u8] = b"retry: 3000\n\n";

pub fn open(api: &Api, request: &Request<Incoming>, reader: Reader) -> Result<Response<Body>, Problem> {
    if !api.fanout.has_streams() {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no live stream configured: add a sink of type `sse`",
        ));
    }
    let query = request.uri().query();
    let filter = match parameter(query, "q").filter(|text| !text.trim().is_empty()) {
        None => None,
        Some(text) => {
            let parsed = Query::parse(&text);
            Some(Arc::new(parsed.map_err(|error| Problem::bad_request(format!("q: {}", error.render())))?))
        }
    };
    let from = last_event_id(request)?.map(|seq| seq.saturating_add(1));
    let view = View { query: filter, sight: sight(reader, api.agent.settings.api.preview as usize) };
    let client = api.fanout.subscribe(view, from).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the journal cannot be read: {error}"))
    })?;
    let Some(client) = client else {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many live clients");
        return Err(problem.retry_after(Duration::from_secs(5)));
    };
    let frames = stream::unfold((Some(Bytes::from_static(RETRY)), client), next);
    let mut response =
        Response::new(Body::stream(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn sight(Reader(who): Reader, preview: usize) -> Visibility {
    match who.role {
        Role::Admin => Visibility::All { own: who.name, preview },
        Role::Viewer => Visibility::Previews { preview },
        Role::User | Role::Ingest => Visibility::Own(who.name),
    }
}

/// From the header that a browser sends when it comes back, or the parameter of the same meaning.
fn last_event_id(request: &Request<Incoming>) -> Result<Option<u64>, Problem> {
    let header = request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let given = header.or_else(|| parameter(request.uri().query(), "last_event_id"));
    let wrong = |_| Problem::bad_request("Last-Event-ID: expected the number of an event");
    given.filter(|text| !text.is_empty()).map(|text| text.parse().map_err(wrong)).transpose()
}

type State = (Option<Bytes>, Client);

async fn next((first, mut client): State) -> Option<(Result<Frame<Bytes>, Infallible>, State)> {
    if let Some(first) = first {
        return Some((Ok(Frame::data(first)), (None, client)));
    }
    let bytes = match timeout_at(Instant::now() + HEARTBEAT, client.next()).await {
        Err(_) => Bytes::from_static(b": heartbeat\n\n"),
        Ok(None) => return None,
        Ok(Some(Live::Frames(frames))) => frames,
        Ok(Some(Live::Gap { events, from_seq, to_seq })) => {
            let last = to_seq.saturating_sub(1);
            let data = format!("{{\"missed\":{events},\"from_seq\":{from_seq},\"to_seq\":{last}}}");
            Bytes::from(format!("id: {last}\nevent: gap\ndata: {data}\n\n"))
        }
    };
    Some((Ok(Frame::data(bytes)), (None, client)))
}
