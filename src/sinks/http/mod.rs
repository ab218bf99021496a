//! Sends events to any HTTP server: a webhook, a collector, another Weir.
//!
//! A batch becomes one request for each address and set of headers that its events name. What a server has taken counts
//! as soon as it says so; a request whose answer is lost is sent again, the same bytes with the same idempotency key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::codec::encoding::{Encoder, Encoding, Format};
use crate::codec::template::Template;
use crate::component::{BatchEvent, Check, Failure, Promise, Sink, SinkContext, WriteBatch, Written};
use crate::diagnostic::Spanned;
use crate::event::Id;
use crate::net::client::{Answer, Client};
use crate::net::compress::Compression;
use crate::secret::{Secret, SecretMask};
use crate::toolkit::reply;

mod auth;
mod place;

#[cfg(test)]
mod tests;

use auth::Auth;
use place::Place;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL, such as `https://logs.example/in/{{ metadata.tenant | none }}?day=%F`. Path and query may be templates over
    /// the event; values are percent-encoded. A URL that is a secret belongs in a variable: `${WEBHOOK_URL}`.
    pub uri: Spanned<String>,
    /// HTTP method.
    #[serde(default)]
    pub method: Method,
    /// Further headers; values may be templates over the event.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret<String>>,
    /// Format of a body: `ndjson`, `json` (one array), `csv` with a header line, `text`, or `ecs`. For a server that
    /// expects one object per request, keep `ndjson` and set `batch: {events: 1}` and the header `content-type`.
    #[serde(default)]
    pub encoding: Encoding,
    /// Compression of bodies.
    #[serde(default)]
    pub compression: Compression,
    /// Authentication of requests.
    #[serde(default)]
    pub auth: auth::Config,
    /// Whether requests have an `idempotency-key` header. It is derived from the events and the body, so that a retried
    /// request has the same key and a server that supports such keys stores it once.
    #[serde(default = "yes")]
    pub idempotency_key: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Post,
    Put,
    Patch,
}

impl From<Method> for hyper::Method {
    fn from(method: Method) -> hyper::Method {
        match method {
            Method::Post => hyper::Method::POST,
            Method::Put => hyper::Method::PUT,
            Method::Patch => hyper::Method::PATCH,
        }
    }
}

const USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));
/// Headers that say how a body travels, which is not the operator's to say.
const OURS: &[&str] = &["connection", "content-encoding", "content-length", "host", "transfer-encoding"];

pub struct Http {
    client: Client,
    place: Place,
    method: hyper::Method,
    /// The same for all requests.
    headers: HeaderMap,
    /// Those that events have a say in.
    templates: Vec<(HeaderName, Template)>,
    encoder: Encoder,
    is_array: bool,
    compression: Compression,
    auth: Auth,
    idempotent: bool,
    mask: SecretMask,
    /// The whole of a write, but for the time to tell what was written.
    patience: Duration,
}

/// One request.
#[derive(Debug)]
pub struct Outgoing {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    /// Events in it.
    len: usize,
    /// Their places in the batch; all if absent.
    events: Option<Vec<usize>>,
}

impl Sink for Http {
    const TYPE: &'static str = "http";
    const PROMISE: Promise = Promise::AtLeastOnce;
    type Config = Config;
    type Payload = Vec<Outgoing>;

    fn check(config: &Config, check: &mut Check) {
        if let Err(wrong) = Place::parse(&config.uri) {
            check.problem_within("uri", wrong.range, wrong.message);
        }
        for (name, value) in &config.headers {
            let path = format!("headers.{name}");
            let lower = name.to_ascii_lowercase();
            if HeaderName::try_from(name).is_err() {
                check.problem(path, format!("`{name}` is not a header name"));
            } else if OURS.contains(&&*lower) {
                check.problem(path, format!("`{name}` follows from the body and the address"));
            } else if lower == "authorization" && !matches!(config.auth.kind, auth::Kind::None | auth::Kind::Hmac) {
                check.problem(path, "`auth` sets this header");
            } else if let Err(wrong) = Template::parse(value.expose()) {
                check.problem(path, wrong.message);
            } else if value.expose().contains(char::is_control) {
                check.problem(path, "it contains a control character");
            }
        }
        if let Err(wrong) = config.encoding.encoder() {
            check.problem_within("encoding.template", wrong.range, wrong.message);
        }
        config.auth.check(check);
    }

    async fn open(config: &Config, cx: &SinkContext) -> Result<Http, Failure> {
        let http = Http::new(config, cx)?;
        if let Auth::Oauth2(oauth2) = &http.auth {
            oauth2.token().await?;
        }
        if cx.dry {
            http.knock().await?;
        }
        Ok(http)
    }

    fn encode(&self, batch: &WriteBatch) -> Result<Vec<Outgoing>, Failure> {
        if let (Some(uri), true) = (self.place.constant(), self.templates.is_empty()) {
            let body = self.body(batch, batch.events()).map_err(Failure::some)?;
            return Ok(vec![self.outgoing(uri.clone(), self.headers.clone(), body, batch.events(), batch.len())]);
        }
        let mut groups: BTreeMap<(String, Vec<String>), Vec<usize>> = BTreeMap::new();
        let mut failures = Vec::new();
        for (nth, event) in batch.events().enumerate() {
            match self.address(event) {
                Ok((uri, values)) => groups.entry((uri.to_string(), values)).or_default().push(nth),
                Err(answer) => failures.push((nth, Failure::poison(answer))),
            }
        }
        let mut outgoing = Vec::with_capacity(groups.len());
        let all: Vec<BatchEvent<'_>> = batch.events().collect();
        for ((uri, values), indices) in groups {
            let mut headers = self.headers.clone();
            for ((name, _), value) in self.templates.iter().zip(values) {
                headers.insert(name.clone(), HeaderValue::try_from(value).expect("checked when it was rendered"));
            }
            let events = || indices.iter().map(|nth| all[*nth]);
            match self.body(batch, events()) {
                Ok(body) => {
                    let uri = uri.parse().expect("it was an address before");
                    let request = self.outgoing(uri, headers, body, events(), indices.len());
                    outgoing.push(Outgoing { events: Some(indices), ..request });
                }
                Err(unfit) => failures.extend(unfit.into_iter().map(|(nth, failure)| (indices[nth], failure))),
            }
        }
        if failures.is_empty() { Ok(outgoing) } else { Err(Failure::some(failures)) }
    }

    /// The path, without what may be private behind it.
    fn destination(&self, event: BatchEvent<'_>) -> Option<String> {
        match self.place.constant() {
            Some(_) => None,
            None => self.address(event).ok().map(|(uri, _)| self.mask.hide(uri.path().to_owned())),
        }
    }

    fn preview(config: &Config, cx: &SinkContext, batch: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        let body = Http::new(config, cx).and_then(|http| http.body(batch, batch.events()).map_err(Failure::some));
        Some(body.map(|body| body.to_vec()))
    }

    async fn write(&self, batch: &WriteBatch, payload: &Vec<Outgoing>) -> Result<Written, Failure> {
        if let ([only], Some(_)) = (&payload[..], self.place.constant()) {
            let refused = self.send(only).await.map_err(|refusal| refusal.failure)?;
            let bytes = only.body.len() as u64;
            return if refused.is_empty() {
                Ok(Written { bytes, ..Written::default() })
            } else {
                Err(some(only, refused))
            };
        }
        self.write_all(payload, Instant::now() + self.patience, batch.len()).await
    }
}

/// Failures of events by their place in the batch, from those by their place in the request.
fn some(request: &Outgoing, failures: Vec<(usize, Failure)>) -> Failure {
    let place = |nth: usize| request.events.as_ref().map_or(nth, |events| events[nth]);
    Failure::some(failures.into_iter().map(|(nth, failure)| (place(nth), failure)).collect())
}

impl Http {
    fn new(config: &Config, cx: &SinkContext) -> Result<Http, Failure> {
        let malformed = |wrong: crate::codec::template::Malformed| Failure::configuration(wrong.message);
        let client = cx.http_client()?;
        let mut mask = client.mask();
        let place = Place::parse(&config.uri).map_err(malformed)?;
        // What came out of a variable may be a secret, such as the path of a webhook.
        if !config.uri.is_as_written() {
            place.fixed_texts().for_each(|text| cover_path(&mut mask, text));
        }
        let auth = Auth::new(&config.auth, &client, &mut mask)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(config.encoding.format())));
        if let Some(word) = config.compression.word() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(word));
        }
        let mut templates = Vec::new();
        for (name, value) in &config.headers {
            let name = HeaderName::try_from(name).map_err(|_| Failure::configuration("`headers` has no name in it"))?;
            let template = Template::parse(value.expose()).map_err(malformed)?;
            let Some(text) = template.constant() else {
                templates.push((name, template));
                continue;
            };
            mask.cover(text);
            let mut value = HeaderValue::try_from(text)
                .map_err(|_| Failure::configuration(format!("the value of `headers.{name}` cannot be a header's")))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Http {
            client,
            place,
            method: config.method.into(),
            headers,
            templates,
            encoder: config.encoding.encoder().map_err(malformed)?,
            is_array: config.encoding.format() == Format::Json,
            compression: config.compression,
            auth,
            idempotent: config.idempotency_key,
            mask,
            patience: cx.timeout.mul_f64(0.9),
        })
    }

    /// Asks without sending anything; whatever is answered shows that somebody is there, if it lets us in.
    async fn knock(&self) -> Result<(), Failure> {
        let mut request = Request::options(self.place.url()).body(Bytes::new()).expect("a checked address");
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        self.auth.apply(request.headers_mut(), b"").await?;
        let answer = self.client.send(request).await?;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(self.hide(Failure::configuration(reply::said(&answer)), &HeaderMap::new()).await)
            }
            _ => Ok(()),
        }
    }

    /// Address and values of headers for one event.
    fn address(&self, event: BatchEvent<'_>) -> Result<(Uri, Vec<String>), String> {
        let values = event.values();
        let get = |path: &[String]| values.get(path);
        let uri = match self.place.constant() {
            Some(uri) => uri.clone(),
            None => self.place.uri(get)?,
        };
        let value = |(name, template): &(HeaderName, Template)| {
            let value = template.render(get).map_err(|missing| missing.to_string())?;
            HeaderValue::try_from(&value)
                .map_err(|_| format!("`{name}` cannot hold a line break or control character"))?;
            Ok(value)
        };
        let values: Result<Vec<String>, String> = self.templates.iter().map(value).collect();
        Ok((uri, values?))
    }

    /// The body for some events of a batch; failures by their place among them.
    fn body<'a>(
        &self,
        batch: &WriteBatch,
        events: impl Iterator<Item = BatchEvent<'a>>,
    ) -> Result<Bytes, Vec<(usize, Failure)>> {
        if let (true, false, [slice]) = (self.encoder.is_verbatim(), self.is_array, &batch.slices[..])
            && self.place.constant().is_some()
            && self.templates.is_empty()
        {
            return Ok(slice.record.lines.bytes.slice(slice.byte_range()));
        }
        let mut out = self.encoder.header().unwrap_or_default();
        out.reserve(batch.bytes());
        let mut failures = Vec::new();
        if self.is_array {
            out.push(b'[');
        }
        for (nth, event) in events.enumerate() {
            if self.is_array && nth > 0 {
                // In the place of the line break that ends each event.
                out.pop();
                out.extend_from_slice(b",\n");
            }
            if let Err(answer) = self.encoder.append(event.json(), &mut out) {
                failures.push((nth, Failure::poison(answer)));
            }
        }
        if self.is_array {
            out.pop();
            out.push(b']');
        }
        if failures.is_empty() { Ok(out.into()) } else { Err(failures) }
    }

    fn outgoing<'a>(
        &self,
        uri: Uri,
        mut headers: HeaderMap,
        body: Bytes,
        events: impl Iterator<Item = BatchEvent<'a>>,
        len: usize,
    ) -> Outgoing {
        if self.idempotent {
            let key = HeaderValue::try_from(idempotency_key(&body, events)).expect("a uuid fits into a header");
            headers.insert(HeaderName::from_static("idempotency-key"), key);
        }
        Outgoing { uri, headers, body: self.compression.compress(body), len, events: None }
    }

    /// Several requests, one after another; tells what became of each.
    async fn write_all(&self, payload: &[Outgoing], deadline: Instant, len: usize) -> Result<Written, Failure> {
        let (mut bytes, mut failures) = (0, Vec::new());
        // Once the server is gone or time is up, what is left is not even tried.
        let mut down: Option<Failure> = None;
        // What is wrong with us is not the fault of one address, unless another takes events.
        let mut ours: Option<Failure> = None;
        for request in payload {
            let events = request.events.as_deref().unwrap_or_default();
            let sent = match &down {
                Some(failure) => Err(failure.clone().into()),
                None => match timeout_at(deadline, self.send(request)).await {
                    Ok(sent) => sent,
                    Err(_) => {
                        let answer = format!("not all requests were answered in {:?}", self.patience);
                        Err(Failure::transient(answer).into())
                    }
                },
            };
            match sent {
                Ok(refused) => {
                    bytes += request.body.len() as u64;
                    failures.extend(refused.into_iter().map(|(nth, failure)| (events[nth], failure)));
                }
                Err(Refusal { failure, of_address }) => {
                    match &failure {
                        Failure::Transient { .. } => drop(down.get_or_insert_with(|| failure.clone())),
                        Failure::Configuration { .. } if !of_address => drop(ours.get_or_insert(failure.clone())),
                        _ => {}
                    }
                    // Of a whole request it is not known which of its events it is about.
                    let failure = match failure {
                        Failure::Poison { answer } if events.len() > 1 => Failure::Suspect { answer },
                        failure => failure,
                    };
                    failures.extend(events.iter().map(|nth| (*nth, failure.clone())));
                }
            }
        }
        let is_all = failures.len() == len;
        if let Some(failure) = ours.filter(|_| is_all) {
            return Err(failure);
        }
        match down {
            _ if failures.is_empty() => Ok(Written { bytes, ..Written::default() }),
            // Nothing was written, and nothing is to be learned of single events.
            Some(failure) if is_all && failures.iter().all(|(_, other)| *other == failure) => Err(failure),
            _ => Err(Failure::some(failures)),
        }
    }

    /// Sends a request; gives the events that the server took none of, by their place in the request.
    async fn send(&self, outgoing: &Outgoing) -> Result<Vec<(usize, Failure)>, Refusal> {
        let mut answer = self.ask(outgoing).await?;
        if answer.status == StatusCode::UNAUTHORIZED && self.auth.refresh().await {
            answer = self.ask(outgoing).await?;
        }
        match reply::classify(&answer) {
            Ok(()) => Ok(refused(&answer, outgoing.len)?),
            Err(failure) => {
                let failure = self.hide(failure, &outgoing.headers).await;
                Err(Refusal { failure, of_address: !is_about_us(answer.status) })
            }
        }
    }

    async fn ask(&self, outgoing: &Outgoing) -> Result<Answer, Failure> {
        let mut headers = outgoing.headers.clone();
        self.auth.apply(&mut headers, &outgoing.body).await?;
        let mut request = Request::new(outgoing.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = outgoing.uri.clone();
        *request.headers_mut() = headers;
        Ok(self.client.send(request).await?)
    }

    /// Values of `headers` may be secret in part, so they are hidden whole.
    async fn hide(&self, failure: Failure, sent: &HeaderMap) -> Failure {
        let mut mask = self.auth.mask().await;
        let values = self.templates.iter().filter_map(|(name, _)| sent.get(name)?.to_str().ok());
        values.for_each(|value| mask.cover(value));
        failure.reworded(|answer| mask.hide(self.mask.hide(answer)))
    }
}

/// Why the events of a request were not taken.
#[must_use]
struct Refusal {
    failure: Failure,
    /// Whether it was said of this address; another may take events.
    of_address: bool,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal { failure, of_address: false }
    }
}

/// Who does not know us at one address does not know us at another.
fn is_about_us(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED)
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Csv => "text/csv",
        Format::Text => "text/plain; charset=utf-8",
        _ => "application/x-ndjson",
    }
}

/// The same for the same events in the same body, and for nothing else: events that look the same come from different
/// places, and a server may refuse a key that it knows with another body.
fn idempotency_key<'a>(body: &[u8], events: impl Iterator<Item = BatchEvent<'a>>) -> String {
    let mut hash = blake3::Hasher::new();
    for event in events {
        let (seed, ordinal) = event.record.lines.origins.at(event.index);
        hash.update(&seed.0);
        hash.update(&ordinal.to_le_bytes());
    }
    hash.update(body);
    Id::version8(hash.finalize().as_bytes()).to_string()
}

/// Hides a path that may be a secret, as a whole and each part of it that is long enough to be one.
fn cover_path(mask: &mut SecretMask, path: &str) {
    mask.cover(path);
    path.split(['/', '?', '&', '=']).filter(|part| part.len() >= SHORTEST_SECRET).for_each(|part| mask.cover(part));
}

/// The shortest part of a path that is hidden wherever it occurs.
const SHORTEST_SECRET: usize = 8;

/// Another Weir takes what it can, and lists what it refuses; to overlook that would be to lose it. The list may be
/// shorter than what was refused: the count is not.
#[derive(Deserialize)]
struct Taken {
    accepted: usize,
    refused: Vec<Refused>,
    #[serde(default)]
    refused_count: usize,
}

#[derive(Deserialize)]
struct Refused {
    index: usize,
    reason: String,
}

/// The events of a request that was answered with success and not taken, by their place in it.
fn refused(answer: &Answer, len: usize) -> Result<Vec<(usize, Failure)>, Failure> {
    if !answer.body.trim_ascii_start().starts_with(b"{") {
        return Ok(Vec::new());
    }
    let Taken { accepted, mut refused, refused_count } = match serde_json::from_slice(&answer.body) {
        Ok(taken) => taken,
        // Other servers answer as they like.
        Err(error) if answer.is_whole && !error.is_eof() => return Ok(Vec::new()),
        Err(_) if memchr::memmem::find(&answer.body, b"\"accepted\"").is_none() => return Ok(Vec::new()),
        // The list is cut: a shorter request has a shorter one.
        Err(_) => return Err(Failure::poison("the server's list of refused events is cut")),
    };
    refused.retain(|refused: &Refused| refused.index < len);
    let listed: BTreeSet<usize> = refused.iter().map(|refused| refused.index).collect();
    let mut failures: Vec<(usize, Failure)> = Vec::with_capacity(refused.len());
    if accepted + refused_count.max(listed.len()) < len {
        // So it answers to a request whose first answer, with the list, was lost.
        return Err(Failure::poison(format!("the server has taken {accepted} of {len} events and names no others")));
    }
    if accepted + listed.len() < len {
        let unlisted = len - accepted - listed.len();
        let answer = format!("the server has refused {unlisted} more events than it lists");
        let others = (0..len).filter(|nth| !listed.contains(nth));
        failures.extend(others.map(|nth| (nth, Failure::Suspect { answer: answer.clone() })));
    }
    failures.extend(refused.into_iter().map(|refused| (refused.index, Failure::poison(reply::shown(&refused.reason)))));
    Ok(failures)
}
