//! Sends events to Splunk's HTTP Event Collector, with indexer acknowledgement if asked for.
//!
//! Splunk has no keys: what is sent again after a lost answer is there twice, with the same `weir_id`, an indexed field
//! to `dedup` by. An event that Splunk refuses by its number is sent once more alone, and only if it is refused again it
//! is poison; the others are sent without it. Splunk may have indexed those before it already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::codec::encoding::{Encoder, Encoding};
use crate::codec::template::{Malformed, Template};
use crate::component::{BatchEvent, Check, Failure, Findings, Left, Promise, Sink, SinkContext, WriteBatch, Written};
use crate::event::Id;
use crate::net::client::{Answer, Client};
use crate::net::compress::Compression;
use crate::secret::{Secret, SecretMask};
use crate::units;

mod acks;
mod answer;
mod envelope;
mod late;
mod progress;

#[cfg(test)]
mod tests;

use acks::{Acks, Known, Number};
use answer::HecAnswer;
use envelope::Envelope;
use late::Late;
use progress::Progress;

/// How long nothing is sent after an answer without a number.
const WITHOUT_NUMBER: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL of the collector without a path, such as `https://splunk.example:8088`.
    pub endpoint: String,
    /// Token of the collector.
    pub token: Secret<String>,
    /// `event` sends events with time, fields, index and source; `raw` sends lines for Splunk to parse.
    #[serde(default)]
    pub mode: Mode,
    /// Index, such as `activity-{{ metadata.tenant | none }}`; a template must start with fixed text. Default: the
    /// token's index.
    #[serde(default)]
    pub index: Option<String>,
    /// Splunk's `source`. May be a template over the event, unless `mode` is `raw`.
    #[serde(default)]
    pub source: Option<String>,
    /// Splunk's `sourcetype`. May be a template over the event, unless `mode` is `raw`.
    #[serde(default)]
    pub sourcetype: Option<String>,
    /// Splunk's `host`; default: the event's `host`. May be a template over the event, unless `mode` is `raw`.
    #[serde(default)]
    pub host: Option<String>,
    /// Indexed fields: names and templates. `weir_id` is always added. Not with `mode: raw`.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Format of a line, with `mode: raw`.
    #[serde(default)]
    pub encoding: Encoding,
    /// Whether events count as delivered only after the indexers acknowledge them (the token must allow it). Each write
    /// waits for that, so use a larger `concurrency`. What is not acknowledged within `timeout` is sent again.
    #[serde(default)]
    pub indexer_ack: bool,
    /// How often acknowledgements are polled.
    #[serde(default = "default_ack_interval")]
    pub ack_interval: units::Duration,
    /// Compression of bodies: `none` or `gzip`.
    #[serde(default)]
    pub compression: Compression,
}

fn default_ack_interval() -> units::Duration {
    units::Duration::from_secs(2)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Event,
    Raw,
}

const USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));
/// What operators may write behind the address, as other senders want it.
const PATHS: [&str; 3] = ["/services/collector/event", "/services/collector/raw", "/services/collector"];

pub struct SplunkHec {
    client: Client,
    target: Uri,
    health: Uri,
    headers: HeaderMap,
    style: Style,
    compression: Compression,
    acks: Option<Acks>,
    late: Arc<Late>,
    mask: SecretMask,
    /// The whole of a write, but for the time to tell how it ended.
    patience: Duration,
}

enum Style {
    Event(Envelope),
    Raw(Encoder),
}

impl Sink for SplunkHec {
    const TYPE: &'static str = "splunk_hec";
    const PROMISE: Promise = Promise::AtLeastOnce;
    type Config = Config;
    /// A body of all events.
    type Payload = Bytes;

    fn check(config: &Config, check: &mut Check) {
        if origin(&config.endpoint).is_none() {
            let hint = "write it as `https://splunk.example:8088`";
            check.problem_with_hint("endpoint", "expected a URL that starts with `http://` or `https://`", hint);
        }
        if config.token.expose().is_empty() || config.token.expose().contains(|c: char| !c.is_ascii_graphic()) {
            check.problem("token", "it is empty, or has a character in it that no token has");
        }
        if config.compression == Compression::Zstd {
            check.problem("compression", "Splunk does not understand `zstd`; use `gzip`");
        }
        for (path, wrong) in Envelope::new(config).err().into_iter().flatten() {
            check.problem_within(path, wrong.range, wrong.message);
        }
        match config.mode {
            Mode::Event if config.encoding != Encoding::default() => {
                check.problem("encoding", "only lines of `mode: raw` have an encoding");
            }
            Mode::Event => {}
            Mode::Raw => check_raw(config, check),
        }
    }

    async fn open(config: &Config, cx: &SinkContext) -> Result<SplunkHec, Failure> {
        let splunk = SplunkHec::new(config, cx)?;
        splunk.look().await.map_err(|failure| splunk.hide(failure))?;
        Ok(splunk)
    }

    fn encode(&self, batch: &WriteBatch) -> Result<Bytes, Failure> {
        self.body(batch, batch.events()).map(|body| self.compression.compress(body)).map_err(Failure::some)
    }

    fn destination(&self, event: BatchEvent<'_>) -> Option<String> {
        match &self.style {
            Style::Event(envelope) => envelope.index_of(event),
            Style::Raw(_) => None,
        }
    }

    fn preview(config: &Config, cx: &SinkContext, batch: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        let splunk = SplunkHec::new(config, cx);
        let body = splunk.and_then(|splunk| splunk.body(batch, batch.events()).map_err(Failure::some));
        Some(body.map(|body| body.to_vec()))
    }

    async fn write(&self, batch: &WriteBatch, payload: &Bytes) -> Result<Written, Failure> {
        let deadline = Instant::now() + self.patience;
        let mut progress = Progress::new(batch.len());
        let Some(acks) = &self.acks else {
            let ended = self.deliver(batch, payload.clone(), deadline, &mut progress).await;
            return progress.sum_up(ended).map_err(|failure| self.hide(failure));
        };
        // What was sent before, and may be acknowledged by now.
        let earlier = self.late.take(batch);
        if !earlier.is_empty() {
            acks.ask_again(self, deadline).await;
        }
        progress.waiting = earlier;
        let left = progress.unacknowledged();
        let body = match left.len() == batch.len() {
            true => payload.clone(),
            false => self.body_of(batch, &left)?,
        };
        progress.left = left;
        let sent_before = progress.waiting.len();
        let ended = self.deliver(batch, body, deadline, &mut progress).await;
        let failure = match ended.is_err() && progress.waiting.len() == sent_before {
            true => None,
            false => acks.wait(self, &progress.waiting, deadline).await,
        };
        let open = progress.not_acknowledged(failure);
        self.late.keep(batch, std::mem::take(&mut progress.waiting), |nth| open.contains(&nth));
        progress.sum_up(ended).map_err(|failure| self.hide(failure))
    }

    fn leaves(&self) -> Option<Left> {
        let acks = self.acks.as_ref()?;
        Some(Arc::new((acks.known(), self.late.clone())))
    }

    fn findings(&self) -> Findings {
        let mut notes = Vec::new();
        if self.acks.is_none() {
            notes.push("Splunk says when it has received events, not when they are indexed: see `indexer_ack`".into());
        }
        Findings { notes, ..Findings::default() }
    }
}

fn check_raw(config: &Config, check: &mut Check) {
    if let Err(wrong) = config.encoding.encoder() {
        check.problem_within("encoding.template", wrong.range, wrong.message);
    }
    if !config.fields.is_empty() {
        check.problem("fields", "lines of `mode: raw` have no fields");
    }
    let keys = [
        ("index", &config.index),
        ("source", &config.source),
        ("sourcetype", &config.sourcetype),
        ("host", &config.host),
    ];
    for (key, text) in keys {
        let template = text.as_deref().map(Template::parse);
        if let Some(Ok(template)) = template
            && template.constant().is_none()
        {
            check.problem(key, "lines of `mode: raw` share it, so that no event has a say in it");
        }
    }
}

/// The address without the collector's path.
fn origin(endpoint: &str) -> Option<String> {
    let text = endpoint.trim_end_matches('/');
    let text = PATHS.iter().find_map(|path| text.strip_suffix(path)).unwrap_or(text);
    let uri: Uri = text.parse().ok()?;
    let fits = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some()
        && uri.query().is_none()
        && !text.contains('@');
    fits.then(|| text.trim_end_matches('/').to_owned())
}

impl SplunkHec {
    fn new(config: &Config, cx: &SinkContext) -> Result<SplunkHec, Failure> {
        let malformed = |wrong: Malformed| Failure::configuration(wrong.message);
        let client = cx.http_client()?;
        let origin = origin(&config.endpoint).ok_or_else(|| Failure::configuration("`endpoint` is not a URL"))?;
        let uri = |path: String| -> Result<Uri, Failure> {
            format!("{origin}{path}").parse().map_err(|_| Failure::configuration("`endpoint` is not a URL"))
        };
        let mut mask = client.mask();
        mask.cover(config.token.expose());
        let mut headers = HeaderMap::new();
        let mut token = HeaderValue::try_from(format!("Splunk {}", config.token.expose()))
            .map_err(|_| Failure::configuration("`token` cannot stand in a header"))?;
        token.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, token);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if config.indexer_ack || config.mode == Mode::Raw {
            let channel = HeaderValue::try_from(channel(cx)).expect("a uuid fits into a header");
            headers.insert(HeaderName::from_static("x-splunk-request-channel"), channel);
        }
        let (style, target) = match config.mode {
            Mode::Event => {
                let first =
                    |mut wrong: Vec<(String, Malformed)>| Failure::configuration(wrong.swap_remove(0).1.message);
                let envelope = Envelope::new(config).map_err(first)?;
                (Style::Event(envelope), uri("/services/collector/event".into())?)
            }
            Mode::Raw => {
                let encoder = config.encoding.encoder().map_err(malformed)?;
                (Style::Raw(encoder), uri(format!("/services/collector/raw{}", envelope::query(config)))?)
            }
        };
        // The channel is the same, so what was sent on it may still be acknowledged.
        let left = cx.left.as_ref().and_then(|left| left.downcast_ref::<(Known, Arc<Late>)>());
        let (known, late) = left.cloned().unwrap_or_default();
        let acks = match config.indexer_ack {
            true => Some(Acks::new(uri("/services/collector/ack".into())?, *config.ack_interval, patience(cx), known)),
            false => None,
        };
        Ok(SplunkHec {
            client,
            target,
            health: uri("/services/collector/health".into())?,
            headers,
            style,
            compression: config.compression,
            acks,
            late,
            mask,
            patience: patience(cx),
        })
    }

    /// Whether Splunk is well, knows the token, and acknowledges; nothing is sent.
    async fn look(&self) -> Result<(), Failure> {
        let answer = self.ask(Method::GET, &self.health, Bytes::new(), None).await?;
        // Not every collector has this address, nor lets everybody look.
        if let Err(failure @ Failure::Transient { .. }) = HecAnswer::read(&answer).classify(&answer) {
            return Err(failure);
        }
        let answer = self.ask(Method::POST, &self.target, Bytes::new(), None).await?;
        let read = HecAnswer::read(&answer);
        // A request without events is refused for that, once everything else about it is right.
        match read.classify(&answer) {
            Err(Failure::Poison { .. }) | Ok(()) => {}
            Err(failure) => return Err(failure),
        }
        match &self.acks {
            Some(acks) => acks.look(self).await,
            None => Ok(()),
        }
    }

    /// Sends events until each is taken or found unfit. What ends it before is the fate of those that are left.
    async fn deliver(
        &self,
        batch: &WriteBatch,
        mut body: Bytes,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        while !progress.left.is_empty() {
            let left = progress.left.clone();
            match self.send(body, deadline, progress).await? {
                Sent::Taken(ack) => progress.taken(&left, ack),
                Sent::Refused { failure: failure @ Failure::Configuration { .. }, number: Some(_) }
                    if left.len() == 1 && self.destination(batch.event(left[0])).is_some() =>
                {
                    progress.failed(left[0], failure);
                }
                Sent::Refused { failure, number } => {
                    let Some(nth) = number.filter(|nth| *nth < left.len() && left.len() > 1) else {
                        return Err(failure);
                    };
                    // Others count from 1, or say what they like: only who is refused alone is unfit.
                    let suspect = left[nth];
                    match self.send(self.body_of(batch, &[suspect])?, deadline, progress).await? {
                        Sent::Taken(ack) => progress.taken(&[suspect], ack),
                        Sent::Refused { failure, .. } => {
                            if let Failure::Configuration { .. } = failure {
                                self.set_aside(batch, suspect, &failure, progress)?;
                            }
                            progress.failed(suspect, failure);
                        }
                    }
                }
            }
            body = self.body_of(batch, &progress.left)?;
        }
        Ok(())
    }

    /// An index that Splunk does not have concerns all events that go there, and no others.
    fn set_aside(
        &self,
        batch: &WriteBatch,
        suspect: usize,
        failure: &Failure,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let Style::Event(envelope) = &self.style else { return Err(failure.clone()) };
        let all: Vec<BatchEvent<'_>> = batch.events().collect();
        let index = envelope.index_of(all[suspect]).ok_or_else(|| failure.clone())?;
        let is_there = |nth: &usize| envelope.index_of(all[*nth]).as_ref() == Some(&index);
        let aside: Vec<usize> = progress.left.iter().copied().filter(is_there).collect();
        aside.into_iter().for_each(|nth| progress.failed(nth, failure.clone()));
        Ok(())
    }

    async fn send(&self, body: Bytes, deadline: Instant, progress: &mut Progress) -> Result<Sent, Failure> {
        let len = body.len() as u64;
        let before = self.acks.as_ref().map(Acks::before);
        let asked = timeout_at(deadline, self.ask(Method::POST, &self.target, body, self.compression.word()));
        let answer = asked.await.map_err(|_| Failure::transient(format!("no answer within {:?}", self.patience)))??;
        let read = HecAnswer::read(&answer);
        match read.classify(&answer) {
            Ok(()) => {
                progress.bytes += len;
                let ack = match (self.acks.as_ref().zip(before), read.ack_id) {
                    (None, _) => None,
                    (Some((acks, before)), Some(id)) => Some(acks.enter(before, id)),
                    (Some(_), None) => {
                        // The events are indexed, and each try indexes them once more: so there are few.
                        let answer = "the answer has no `ackId`: the token does not allow it, or a proxy drops it";
                        return Err(Failure::Transient { answer: answer.into(), after: Some(WITHOUT_NUMBER) });
                    }
                };
                Ok(Sent::Taken(ack))
            }
            Err(failure @ (Failure::Poison { .. } | Failure::Configuration { .. })) => {
                Ok(Sent::Refused { failure, number: read.invalid_event() })
            }
            Err(failure) => Err(failure),
        }
    }

    async fn ask(
        &self,
        method: Method,
        uri: &Uri,
        body: Bytes,
        encoding: Option<&'static str>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Style::Raw(_) = &self.style {
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            request.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        if let Some(word) = encoding {
            request.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(word));
        }
        Ok(self.client.send(request).await?)
    }

    fn body_of(&self, batch: &WriteBatch, events: &[usize]) -> Result<Bytes, Failure> {
        let all: Vec<BatchEvent<'_>> = batch.events().collect();
        let body = self.body(batch, events.iter().map(|nth| all[*nth])).map_err(Failure::some)?;
        Ok(self.compression.compress(body))
    }

    fn body<'a>(
        &self,
        batch: &WriteBatch,
        events: impl Iterator<Item = BatchEvent<'a>>,
    ) -> Result<Bytes, Vec<(usize, Failure)>> {
        let (mut out, mut failures) = (Vec::with_capacity(batch.bytes() * 3 / 2), Vec::new());
        for (nth, event) in events.enumerate() {
            let appended = match &self.style {
                Style::Event(envelope) => envelope.append(event, &mut out),
                Style::Raw(encoder) => encoder.append(event.json(), &mut out),
            };
            if let Err(answer) = appended {
                failures.push((nth, Failure::poison(answer)));
            }
        }
        if failures.is_empty() { Ok(out.into()) } else { Err(failures) }
    }

    fn hide(&self, failure: Failure) -> Failure {
        failure.reworded(|answer| self.mask.hide(answer))
    }
}

/// The whole of a write, but for the time to tell how it ended.
fn patience(cx: &SinkContext) -> Duration {
    cx.timeout.mul_f64(0.9)
}

#[must_use]
enum Sent {
    /// With the number of the acknowledgement to wait for, if there will be one.
    Taken(Option<Number>),
    Refused {
        failure: Failure,
        number: Option<usize>,
    },
}

/// Splunk keeps something for each channel, so a sink has the same whenever it is opened.
fn channel(cx: &SinkContext) -> String {
    let mut hash = blake3::Hasher::new();
    for part in [&*cx.agent, &*cx.name, &*cx.data_dir.to_string_lossy()] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    Id::version8(hash.finalize().as_bytes()).to_string()
}
