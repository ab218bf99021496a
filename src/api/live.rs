//! Live events: resumable server-sent events for readers and administrators, and a WebSocket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role as Side, WebSocketConfig};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Api;
use super::acts::record_read;
use super::admin::stream_row;
use super::answer::Answer;
use super::params::bad;
use super::reading::visibility;
use super::resumed::{Place, Resumed};
use super::routes::{Call, Who};
use super::shape::{Object, array, log_row};
use super::stream_access::StreamAccess;
use crate::delivery::fanout::{Fanout, Live};
use crate::delivery::shown::Shown;
use crate::delivery::view::{Format, LiveEvent, View};
use crate::event::Raw;
use crate::event::time::Moment;
use crate::net::http::{Body, Busy, Problem};
use crate::query::Query;
use crate::query::request::{Keyset, Row, SortKey};
use crate::topology::{Watch, Watched};

/// How often a silent stream shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again, in milliseconds.
const RETRY: &[u8] = b"retry: 3000\n\n";
/// The most bytes a WebSocket client may send; its messages are ignored.
const MAX_MESSAGE: usize = 4096;
/// A WebSocket client that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Components that are watched at a time.
pub const MAX_TAPS: usize = 4;
/// Rendered frames of one of them.
const TAP_BYTES: usize = 512 * 1024;

/// What is sent where there are no events for so long.
const PAUSE: &[u8] = b": heartbeat\n\n";

/// `/api/stream` of one component: the event as it passes by.
const PASSING: Format = Format { name: "passing", push: push_passing };
/// `/api/stream`: the event as it is seen, with its `seq` at the end.
const LOG: Format = Format { name: "log", push: push_log };
/// `/api/admin/activity/stream`
const ADMIN: Format = Format { name: "admin", push: push_admin };
/// `/ws/logs`: rows of `/api/logs`, a line each.
const ROWS: Format = Format { name: "rows", push: push_row };

pub async fn stream(api: &Api, call: Call) -> Result<Answer, Problem> {
    let (client, tap) = match call.params.text("component") {
        Some(component) => match tap(api, &call, component).await? {
            (Watched::Streams(shown), permit) => tap_streams(api, &call, shown, permit)?,
            (Watched::Outputs(watch), permit) => return tap_outputs(api, &call, watch, permit),
        },
        None => (subscribe(api, &call, LOG)?, None),
    };
    let access = StreamAccess::of(api, &call, Who::StreamReader);
    Ok(events(client, tap, Bytes::from_static(RETRY), access, |events, from, last| {
        let data = format!("{{\"missed\":{events},\"from_seq\":{from},\"to_seq\":{last}}}");
        format!("id: {last}\nevent: gap\ndata: {data}\n\n")
    }))
}

pub async fn admin_stream(api: &Api, call: Call) -> Result<Answer, Problem> {
    // A client that comes back from here has missed nothing: neither what is sent again now, nor what arrives meanwhile.
    let newest = api.agent.context.journal.stats().synced_seq.saturating_sub(1);
    let behind = last_event_id(&call)?.unwrap_or(newest);
    let client = subscribe(api, &call, ADMIN)?;
    let first = format!("id: {behind}\ndata: {{\"type\":\"connected\"}}\n\n");
    let access = StreamAccess::of(api, &call, Who::StreamAdmin);
    Ok(events(client, None, Bytes::from(first), access, |events, from, last| {
        format!("id: {last}\ndata: {{\"type\":\"gap\",\"missed\":{events},\"from\":{from},\"to\":{last}}}\n\n")
    }))
}

/// A reader of one component's streams, for one client.
type Tap = (DropGuard, OwnedSemaphorePermit);

/// Where one component can be watched: by administrators, and only few at a time.
async fn tap(api: &Api, call: &Call, component: &str) -> Result<(Watched, OwnedSemaphorePermit), Problem> {
    api.access().check(call.reader(), Who::Admin)?;
    let watched = api.agent.watch(component).await.map_err(|known| {
        let detail = format!("no component is called `{component}`: there are {}", known.join(", "));
        Problem::new(StatusCode::NOT_FOUND, detail)
    })?;
    let permit = api.taps.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("at most {MAX_TAPS} components are watched at a time");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(Duration::from_secs(5))
    })?;
    Ok((watched, permit))
}

/// Watches streams by a reader of its own.
fn tap_streams(
    api: &Api,
    call: &Call,
    shown: Shown,
    permit: OwnedSemaphorePermit,
) -> Result<(Resumed, Option<Tap>), Problem> {
    let end = api.shutdown.child_token();
    let fanout = Fanout::start(&api.agent.context.journal, shown, TAP_BYTES, &api.connections, end.clone());
    Ok((subscribe_to(&fanout, api, call, LOG)?, Some((end.drop_guard(), permit))))
}

/// Tells when nothing was sent for so long that a heartbeat is due.
struct Silence {
    since: Instant,
    /// Left where it stands while things are sent: to set it for each frame takes the runtime's lock.
    alarm: Pin<Box<Sleep>>,
}

impl Silence {
    fn begins() -> Silence {
        Silence { since: Instant::now(), alarm: Box::pin(sleep(HEARTBEAT)) }
    }

    fn begins_anew(&mut self) {
        self.since = Instant::now();
    }

    /// Waits until a heartbeat is due. May be given up and called again.
    async fn ends(&mut self) {
        loop {
            self.alarm.as_mut().await;
            let due = self.since + HEARTBEAT;
            if due <= Instant::now() {
                return;
            }
            self.alarm.as_mut().reset(due);
        }
    }
}

/// Watches what is on its way to transforms: it has no `seq` yet, and cannot be resumed.
fn tap_outputs(api: &Api, call: &Call, watch: Watch, permit: OwnedSemaphorePermit) -> Result<Answer, Problem> {
    let view = View { query: query(call)?, visibility: visibility(api, call.reader()), format: PASSING };
    let tapped = Tapped {
        first: Some(Bytes::from_static(RETRY)),
        watch,
        view,
        access: StreamAccess::of(api, call, Who::StreamAdmin),
        silence: Silence::begins(),
        shutdown: api.shutdown.clone(),
        _permit: permit,
    };
    Ok(event_stream(stream::unfold(tapped, next_tapped)))
}

/// One who watches outputs.
struct Tapped {
    first: Option<Bytes>,
    watch: Watch,
    view: View,
    access: StreamAccess,
    silence: Silence,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

async fn next_tapped(mut tapped: Tapped) -> Option<(Result<Frame<Bytes>, Infallible>, Tapped)> {
    if let Some(first) = tapped.first.take() {
        return Some((Ok(Frame::data(first)), tapped));
    }
    tapped.silence.begins_anew();
    loop {
        let (record, missed) = tokio::select! {
            biased;
            () = tapped.shutdown.cancelled() => return None,
            () = tapped.access.due() => match tapped.access.holds().await {
                true => continue,
                false => return None,
            },
            next = tapped.watch.next() => next?,
            () = tapped.silence.ends() => return Some((Ok(Frame::data(Bytes::from_static(PAUSE))), tapped)),
        };
        let mut frames = Vec::new();
        if missed > 0 {
            frames.extend_from_slice(format!("event: gap\ndata: {{\"missed\":{missed}}}\n\n").as_bytes());
        }
        frames.extend_from_slice(&tapped.view.render(&Shown::default(), &[record], 0).0);
        if !frames.is_empty() {
            return Some((Ok(Frame::data(Bytes::from(frames))), tapped));
        }
    }
}

fn subscribe(api: &Api, call: &Call, frame: Format) -> Result<Resumed, Problem> {
    if !api.fanout.has_streams() {
        let detail = "no live stream configured: add a sink of type `store` or `sse`";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    subscribe_to(&api.fanout, api, call, frame)
}

fn subscribe_to(fanout: &Arc<Fanout>, api: &Api, call: &Call, frame: Format) -> Result<Resumed, Problem> {
    let from = last_event_id(call)?.map(|seq| seq.saturating_add(1));
    let view = View { query: query(call)?, visibility: visibility(api, call.reader()), format: frame };
    let client = fanout.subscribe(view.clone(), from, &call.reader().name).ok_or_else(|| {
        let detail = "too many live clients";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(Duration::from_secs(5))
    })?;
    if from.is_some() {
        // What is sent again is read as in a list.
        record_read(api, call, "activity_read", 0);
    }
    let reader = if fanout.is_read() { api.agent.reader() } else { None };
    let place = |reader| Place { reader, fanout: fanout.clone(), view, shutdown: api.shutdown.clone() };
    Ok(Resumed::new(client, reader.map(place)))
}

fn query(call: &Call) -> Result<Option<Arc<Query>>, Problem> {
    let text = call.params.text("q").filter(|text| !text.trim().is_empty());
    text.map(|text| Query::parse(text).map(Arc::new).map_err(|error| bad("q", &error.render()))).transpose()
}

/// From the header that a browser sends when it comes back, or the parameter of the same meaning.
fn last_event_id(call: &Call) -> Result<Option<u64>, Problem> {
    let header = call.request.headers().get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let given = header.or_else(|| call.params.text("last_event_id")).filter(|text| !text.is_empty());
    given.map(|text| text.parse().map_err(|_| bad("last_event_id", "expected the seq of an event"))).transpose()
}

struct Events<G> {
    first: Option<Bytes>,
    client: Resumed,
    gap: G,
    /// Ends the reader of one component with its client.
    _tap: Option<Tap>,
    access: StreamAccess,
    silence: Silence,
}

fn events(
    client: Resumed,
    tap: Option<Tap>,
    first: Bytes,
    access: StreamAccess,
    gap: impl Fn(u64, u64, u64) -> String + Send + 'static,
) -> Answer {
    let state = Events { first: Some(first), client, gap, _tap: tap, access, silence: Silence::begins() };
    event_stream(stream::unfold(state, next))
}

fn event_stream(frames: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static) -> Answer {
    let body = StreamBody::new(frames).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(Body::stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Answer::Response(response)
}

async fn next<G: Fn(u64, u64, u64) -> String>(
    mut events: Events<G>,
) -> Option<(Result<Frame<Bytes>, Infallible>, Events<G>)> {
    if let Some(first) = events.first.take() {
        return Some((Ok(Frame::data(first)), events));
    }
    events.silence.begins_anew();
    loop {
        let bytes = tokio::select! {
            biased;
            () = events.access.due() => match events.access.holds().await {
                true => continue,
                false => return None,
            },
            live = events.client.next() => match live? {
                Live::Frames(frames) => frames,
                Live::Gap { events: missed, from_seq, to_seq } => {
                    Bytes::from((events.gap)(missed, from_seq, to_seq.saturating_sub(1)))
                }
            },
            () = events.silence.ends() => Bytes::from_static(PAUSE),
        };
        return Some((Ok(Frame::data(bytes)), events));
    }
}

fn push_log(out: &mut Vec<u8>, event: &LiveEvent<'_>) {
    let body = event.line.strip_suffix(b"}").unwrap_or(event.line);
    let comma = if body == b"{" { "" } else { "," };
    out.extend_from_slice(format!("id: {}\nevent: log\ndata: ", event.seq).as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(format!("{comma}\"seq\":{}}}\n\n", event.seq).as_bytes());
}

fn push_passing(out: &mut Vec<u8>, event: &LiveEvent<'_>) {
    out.extend_from_slice(b"event: log\ndata: ");
    out.extend_from_slice(event.line);
    out.extend_from_slice(b"\n\n");
}

fn push_admin(out: &mut Vec<u8>, event: &LiveEvent<'_>) {
    out.extend_from_slice(format!("id: {}\ndata: ", event.seq).as_bytes());
    let row = stream_row(&row_of(event));
    out.extend_from_slice(&Object::new().text("type", Some("new_activity")).raw("data", Some(&row)).finish());
    out.extend_from_slice(b"\n\n");
}

fn push_row(out: &mut Vec<u8>, event: &LiveEvent<'_>) {
    out.extend_from_slice(&log_row(&row_of(event)));
    out.push(b'\n');
}

/// A live event as lists show it.
fn row_of(event: &LiveEvent<'_>) -> Row {
    let written = Raw::valid(event.line).get("timestamp").and_then(|value| value.as_str());
    let time = written.and_then(|text| Moment::parse(&text)).map_or(event.received_at, |moment| moment.timestamp());
    Row {
        seq: event.seq,
        time,
        received_at: Some(event.received_at),
        id: event.id.to_string(),
        line: event.line.to_vec(),
        keyset: Keyset { key: SortKey::None, time: time.0, seq: event.seq, row: None },
    }
}

// --- WebSocket ---

pub async fn websocket(api: &Api, mut call: Call) -> Result<Answer, Problem> {
    let accept = accept_key(call.request.headers())?;
    let client = subscribe(api, &call, ROWS)?;
    let access = StreamAccess::of(api, &call, Who::StreamReader);
    let busy = call.request.extensions_mut().remove::<Busy>();
    api.connections.spawn(serve(call.request, client, access, busy));
    let mut response = Response::new(Body::from(Vec::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("plain text"));
    Ok(Answer::Response(response))
}

/// The answer to a handshake, if the request is one.
fn accept_key(headers: &HeaderMap) -> Result<String, Problem> {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| has(UPGRADE, "websocket") && has(CONNECTION, "upgrade"));
    let Some(key) = key.filter(|_| has(SEC_WEBSOCKET_VERSION, "13")) else {
        let problem = Problem::new(StatusCode::UPGRADE_REQUIRED, "expected a WebSocket handshake (version 13)");
        return Err(problem.header(UPGRADE, HeaderValue::from_static("websocket")));
    };
    Ok(derive_accept_key(key.as_bytes()))
}

/// The last message, with the reason.
fn closing(code: CloseCode, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

async fn serve(
    request: Request<hyper::body::Incoming>,
    mut client: Resumed,
    mut access: StreamAccess,
    busy: Option<Busy>,
) {
    // As long as this is held the connection is no idle one.
    let _lease = busy.as_ref().map(Busy::lease);
    let upgraded = match hyper::upgrade::on(request).await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "a WebSocket handshake was aborted"),
    };
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Side::Server, Some(config)).await;
    let (mut sender, mut receiver) = socket.split();
    let mut silence = Silence::begins();
    loop {
        let message = tokio::select! {
            live = client.next() => match live {
                None => closing(CloseCode::Away, "the agent stops"),
                Some(Live::Frames(frames)) => rows_message(&frames),
                Some(Live::Gap { events, from_seq, to_seq }) => Message::text(format!(
                    "{{\"type\":\"gap\",\"missed\":{events},\"from\":{from_seq},\"to\":{}}}", to_seq.saturating_sub(1)
                )),
            },
            // Pings are answered by the library; whatever else a client says is passed over.
            heard = receiver.next() => match heard {
                Some(Err(Error::Capacity(_))) => closing(CloseCode::Size, "the message is too large"),
                None | Some(Err(_)) | Some(Ok(Message::Close(_))) => break,
                Some(Ok(_)) => continue,
            },
            () = silence.ends() => Message::Ping(Bytes::new()),
            () = access.due() => match access.holds().await {
                true => continue,
                false => closing(CloseCode::Policy, "the token is no longer valid"),
            },
        };
        silence.begins_anew();
        let is_last = message.is_close();
        if !matches!(timeout(WRITE_TIMEOUT, sender.send(message)).await, Ok(Ok(()))) || is_last {
            return;
        }
    }
    // A client that is gone gets no close frame.
    let _ = timeout(WRITE_TIMEOUT, sender.close()).await;
}

fn rows_message(frames: &Bytes) -> Message {
    let rows: Vec<Vec<u8>> =
        frames.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).map(<[u8]>::to_vec).collect();
    let count = rows.len();
    let text = Object::new().text("type", Some("logs")).raw("data", Some(&array(rows))).number("count", count).finish();
    Message::text(String::from_utf8(text).expect("rows are text"))
}
