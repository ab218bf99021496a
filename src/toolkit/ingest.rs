//! HTTP ingest: from a request to a job, and from its outcome to the response.
//!
//! A body is one chunk, whatever its size: how far a broken value reaches is known only to who decodes it, and the
//! index of an item, from which ids derive where there is an Idempotency-Key, counts over the whole body.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::codec::{Decoder, Frames, Ordinals, Refusal};
use crate::component::{Chunk, Intake, Job, JobStatus, OnBad, Outcome, Wait};
use crate::event::escape::push_string;
use crate::event::{Capture, Provenance, Seed, Stamp};
use crate::journal::{Full, IdempotencyKey, MemoryPermit, ReserveError};
use crate::net::http::Peer;
use crate::net::http::body::{self, BodyError, BodyLimits};
use crate::net::http::reply::{self, Body, Problem};
use crate::net::{Principal, Role, origin};
use crate::units::Timestamp;

/// Bytes of the list of refused items in an answer.
const MAX_LISTED_BYTES: usize = 1700;
/// Refused items that are listed whatever their reasons are.
const FIRST_LISTED: usize = 5;
/// Distinct kinds of reasons.
const MAX_KINDS: usize = 20;
/// Characters of a reason.
const MAX_REASON: usize = 160;
/// The longest Idempotency-Key.
const MAX_KEY_BYTES: usize = 256;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// When to come back to a full journal.
const RETRY_FULL: Duration = Duration::from_secs(1);
/// When to come back after a fault of the agent.
const RETRY_FAILED: Duration = Duration::from_secs(5);

/// Takes events from requests whose sender is known already.
pub struct IngestEndpoint {
    /// Name of the source that the events enter by.
    pub source: Arc<str>,
    pub intake: Arc<dyn Intake>,
    pub decoder: Arc<dyn Decoder>,
    pub limits: BodyLimits,
    pub wait: Wait,
    pub on_bad: OnBad,
    /// Where the executions were seen that come this way, as the source knows.
    pub capture: Option<Capture>,
    /// Cancelled when nothing more is taken.
    pub shutdown: CancellationToken,
}

impl IngestEndpoint {
    /// Accepts the body of a request, and answers once it is as durable as `wait` asks.
    pub async fn receive(&self, request: Request<Incoming>, sender: Option<&Principal>, peer: Peer) -> Response<Body> {
        let begun = Instant::now();
        let response = match self.take(request, sender, peer).await {
            Ok(outcome) => answer(outcome, self.wait, self.on_bad),
            Err(problem) => problem.into_response(),
        };
        let (peer, status) = (peer.ip.map(tracing::field::display), response.status().as_u16());
        tracing::debug!(source = %self.source, peer, status, seconds = begun.elapsed().as_secs_f64(), "a request was answered");
        match response.status() {
            StatusCode::PAYLOAD_TOO_LARGE => self.intake.request_refused("too_large"),
            StatusCode::TOO_MANY_REQUESTS => self.intake.request_refused("full"),
            StatusCode::SERVICE_UNAVAILABLE => self.intake.request_refused("unavailable"),
            _ => {}
        }
        response
    }

    fn stamp(&self, sender: Option<&Principal>) -> Option<Arc<Stamp>> {
        let stamp = sender.map(Principal::stamp);
        let capture = self.capture;
        if capture.is_none() { stamp } else { Some(Stamp { capture, ..stamp.unwrap_or_default() }) }.map(Arc::new)
    }

    async fn take(
        &self,
        request: Request<Incoming>,
        sender: Option<&Principal>,
        peer: Peer,
    ) -> Result<Outcome, Problem> {
        if self.shutdown.is_cancelled() {
            return Err(Problem::stopping().closing());
        }
        if sender.is_some_and(|sender| sender.role == Role::Viewer) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "a viewer may not send events").closing());
        }
        if sender.is_none() && origin::is_foreign(request.headers(), &[]) {
            let detail = "requests from another origin are refused where no authentication is required";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail).closing());
        }
        let (head, body) = request.into_parts();
        let key = idempotency_key(&head.headers)?;
        let (bytes, permit) = self.read(&head.headers, body).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::bad_request("the body is empty: expected a JSON object, an array or NDJSON"));
        }
        if self.on_bad != OnBad::DeadLetter
            && let Some(form) = form(&head.headers, &bytes)
        {
            return Err(Problem::bad_request(form));
        }
        let key = key.map(|key| Key::of(&self.source, sender, key));
        let provenance = Provenance {
            source: self.source.clone(),
            seed: key.as_ref().map_or_else(Seed::random, |key| key.seed),
            received_at: Timestamp::now(),
            peer: peer.ip,
            stamp: self.stamp(sender),
        };
        let receipt = self.intake.submit(Job {
            key: key.map(|key| key.with(&bytes)),
            chunks: vec![Chunk { bytes, frames: Frames::Document, ordinals: Ordinals::Count(0) }],
            decoder: self.decoder.clone(),
            provenance: Arc::new(provenance),
            marks: Vec::new(),
            on_bad: self.on_bad,
            wait: self.wait,
            permit: Some(permit),
            origin: peer.ip.filter(|_| self.on_bad == OnBad::DeadLetter).map(|ip| ip.to_string().into()),
        });
        tokio::select! {
            biased;
            outcome = receipt => Ok(outcome),
            () = self.shutdown.cancelled(), if matches!(self.wait, Wait::Delivered(_)) => {
                let detail = "the agent is stopping: the events were accepted, but may not be delivered yet";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_FAILED))
            }
        }
    }

    /// Reads the body into memory that was granted before.
    async fn read(&self, headers: &HeaderMap, body: Incoming) -> Result<(Bytes, MemoryPermit), Problem> {
        let encoding = body::encoding(headers).map_err(Problem::closing)?;
        let (mut received, mut permit) = (0, None);
        let read = body::read(body, encoding, &self.limits, &mut received, |total| self.grow(&mut permit, total));
        let read = tokio::select! {
            biased;
            read = read => Some(read),
            () = self.shutdown.cancelled() => None,
        };
        self.intake.received_bytes(received);
        match read {
            None => Err(Problem::stopping().closing()),
            Some(Err(error)) => Err(self.unread(error).closing()),
            Some(Ok(bytes)) => {
                let mut permit = permit.expect("a body is read under a permit that was granted");
                permit.shrink(bytes.len());
                Ok((bytes, permit))
            }
        }
    }

    /// Takes what is missing to so many bytes; where that does not fit beside what is held, all of it anew, because
    /// a body larger than the budget may have the whole of it.
    fn grow(&self, permit: &mut Option<MemoryPermit>, total: usize) -> Result<(), ReserveError> {
        let Some(mut held) = permit.take() else {
            *permit = Some(self.intake.try_reserve(total)?);
            return Ok(());
        };
        match self.intake.try_reserve(total.saturating_sub(held.bytes())) {
            Ok(more) => held.join(more),
            Err(_) => {
                drop(held);
                held = self.intake.try_reserve(total)?;
            }
        }
        *permit = Some(held);
        Ok(())
    }

    fn unread(&self, error: BodyError<ReserveError>) -> Problem {
        let max_bytes = self.limits.max_bytes;
        match error {
            BodyError::TooLarge => {
                let detail = format!("the body is larger than {max_bytes} bytes: send fewer events at a time");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            BodyError::TooSlow => Problem::new(StatusCode::REQUEST_TIMEOUT, "the body arrived too slowly"),
            BodyError::Cut => Problem::bad_request("the body is incomplete"),
            BodyError::Malformed(reason) => Problem::bad_request(reason),
            BodyError::NoMemory(ReserveError::Full(what)) => full(what),
            BodyError::NoMemory(ReserveError::Closed) => Problem::stopping(),
        }
    }
}

fn full(what: Full) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, what.to_string()).retry_after(RETRY_FULL)
}

/// What to send instead of a form. A form's type alone is no sign: `curl -d` gives it to everything.
fn form(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let kind = headers.get(hyper::header::CONTENT_TYPE)?.to_str().ok()?.trim();
    let is = |wanted: &str| kind.get(..wanted.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(wanted));
    let what = if is("multipart/") && body.trim_ascii_start().starts_with(b"--") {
        "a multipart form"
    } else if is("application/x-www-form-urlencoded") && !matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        "the fields of a form"
    } else {
        return None;
    };
    Some(format!(
        "the body is {what}: send JSON as the body itself, such as `curl --data-binary @events.ndjson` or `curl --json '{{…}}'`"
    ))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.as_bytes().trim_ascii();
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        let detail = format!("an Idempotency-Key has 1 to {MAX_KEY_BYTES} bytes");
        return Err(Problem::bad_request(detail).closing());
    }
    Ok(Some(key))
}

/// A sender's key: what ids derive from, and what a repeat is known by.
struct Key {
    seed: Seed,
}

impl Key {
    fn of(source: &str, sender: Option<&Principal>, key: &[u8]) -> Key {
        let (role, name) = match sender {
            None => ("", ""),
            Some(sender) if sender.role == Role::Ingest => ("service", sender.name.as_str()),
            Some(sender) => ("user", sender.name.as_str()),
        };
        Key { seed: Seed::derive(&[b"request", source.as_bytes(), role.as_bytes(), name.as_bytes(), key]) }
    }

    fn with(&self, body: &[u8]) -> IdempotencyKey {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
        IdempotencyKey { key: self.seed.0, body: hash }
    }
}

/// The answer to an outcome.
fn answer(outcome: Outcome, wait: Wait, on_bad: OnBad) -> Response<Body> {
    let Outcome { status, accepted, refused } = outcome;
    match status {
        JobStatus::Done | JobStatus::Repeat if accepted > 0 || (on_bad == OnBad::DeadLetter && !refused.is_empty()) => {
            let code = if wait == Wait::None { StatusCode::ACCEPTED } else { StatusCode::OK };
            let mut text = format!(r#"{{"accepted":{accepted},"refused":"#).into_bytes();
            if on_bad == OnBad::DeadLetter {
                text.extend_from_slice(format!(r#"[],"refused_count":0,"dead_lettered":{}"#, refused.len()).as_bytes());
            } else {
                push_refused(&mut text, &refused);
            }
            text.push(b'}');
            reply::json(code, text)
        }
        JobStatus::Done | JobStatus::Repeat => unusable("no item of the body is valid", &refused),
        JobStatus::Rejected => unusable("nothing was accepted, because some items are invalid", &refused),
        JobStatus::KeyConflict => {
            let detail = "this Idempotency-Key was used with another body";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).into_response()
        }
        JobStatus::Full => full(Full::Journal).into_response(),
        JobStatus::TooLarge => {
            let detail = "the body is larger than the journal can hold at once: send fewer events at a time";
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response()
        }
        JobStatus::Failed(reason) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason).retry_after(RETRY_FAILED).into_response()
        }
        JobStatus::TimedOut => {
            let detail = "the events were accepted, but not delivered in time";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_FAILED).into_response()
        }
    }
}

fn unusable(detail: &str, refused: &[Refusal]) -> Response<Body> {
    let detail = match refused.first() {
        Some(first) => format!("{detail}: item {}: {}", first.index, first.reason),
        None => detail.to_owned(),
    };
    let mut list = Vec::new();
    push_refused(&mut list, refused);
    Problem::bad_request(detail).member("accepted", b"0").member("refused", &list).into_response()
}

/// Appends the refused items and how many they were: `[…],"refused_count":n`. Of many, the first are listed and the
/// first of each kind of reason, as far as a short answer reaches: senders drop longer ones and send everything again.
fn push_refused(text: &mut Vec<u8>, refused: &[Refusal]) {
    let mut kinds = std::collections::HashSet::new();
    let end = text.len() + MAX_LISTED_BYTES;
    text.push(b'[');
    let mut is_first = true;
    for (nth, refusal) in refused.iter().enumerate() {
        let is_new = kinds.len() < MAX_KINDS && kinds.insert(kind(&refusal.reason));
        if nth >= FIRST_LISTED && !is_new {
            continue;
        }
        let mut item = format!(r#"{{"index":{},"reason":"#, refusal.index).into_bytes();
        push_string(&mut item, shortened(&refusal.reason));
        item.push(b'}');
        if text.len() + item.len() + 1 > end {
            break;
        }
        if !is_first {
            text.push(b',');
        }
        text.extend_from_slice(&item);
        is_first = false;
    }
    text.extend_from_slice(format!(r#"],"refused_count":{}"#, refused.len()).as_bytes());
}

/// Reasons that differ in numbers only are of one kind.
fn kind(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_ascii_digit()).take(MAX_REASON).collect()
}

fn shortened(reason: &str) -> &str {
    reason.char_indices().nth(MAX_REASON).map_or(reason, |(end, _)| &reason[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use hyper::header::{CONTENT_TYPE, RETRY_AFTER};

    fn refusal(index: u64) -> Refusal {
        Refusal { index, offset: 0, text: Bytes::new(), reason: "no \"value\"".into() }
    }

    fn said(status: JobStatus, accepted: u64, refused: u64, wait: Wait, on_bad: OnBad) -> (u16, String) {
        let refused = (0..refused).map(|n| refusal(n + 3)).collect();
        let response = answer(Outcome { status, accepted, refused }, wait, on_bad);
        let code = response.status();
        let kind = if code.is_success() { "application/json" } else { "application/problem+json" };
        assert_eq!(response.headers()[CONTENT_TYPE], kind);
        assert_eq!(response.headers().contains_key(RETRY_AFTER), matches!(code.as_u16(), 429 | 503));
        let body = futures_util::FutureExt::now_or_never(response.into_body().collect()).expect("it is there");
        let text = String::from_utf8(body.expect("it is whole").to_bytes().to_vec()).expect("JSON is text");
        serde_json::from_str::<serde_json::Value>(&text).expect("the answer is JSON");
        (code.as_u16(), text)
    }

    #[test]
    fn what_was_taken_is_counted_and_what_was_not_is_listed() {
        let (refuse, journal) = (OnBad::Refuse, Wait::Journal);
        assert_eq!(
            said(JobStatus::Done, 2, 0, journal, refuse),
            (200, r#"{"accepted":2,"refused":[],"refused_count":0}"#.into())
        );
        assert_eq!(
            said(JobStatus::Repeat, 2, 0, journal, refuse),
            (200, r#"{"accepted":2,"refused":[],"refused_count":0}"#.into())
        );
        assert_eq!(
            said(JobStatus::Done, 2, 0, Wait::None, refuse),
            (202, r#"{"accepted":2,"refused":[],"refused_count":0}"#.into())
        );
        let listed = r#"{"accepted":1,"refused":[{"index":3,"reason":"no \"value\""}],"refused_count":1}"#;
        assert_eq!(said(JobStatus::Done, 1, 1, journal, refuse), (200, listed.into()));
        let kept = r#"{"accepted":0,"refused":[],"refused_count":0,"dead_lettered":2}"#;
        assert_eq!(said(JobStatus::Done, 0, 2, journal, OnBad::DeadLetter), (200, kept.into()));
    }

    #[test]
    fn nothing_usable_is_a_bad_request() {
        for (status, on_bad) in [
            (JobStatus::Done, OnBad::Refuse),
            (JobStatus::Repeat, OnBad::Refuse),
            (JobStatus::Rejected, OnBad::RejectAll),
        ] {
            let (code, text) = said(status, 0, 2, Wait::Journal, on_bad);
            assert_eq!(code, 400);
            assert!(text.contains(r#""refused":[{"index":3,"#) && text.contains("item 3: no "), "{text}");
        }
        assert_eq!(said(JobStatus::Done, 0, 0, Wait::Journal, OnBad::DeadLetter).0, 400);
    }

    #[test]
    fn every_other_outcome_has_its_http_status() {
        for (status, code) in [
            (JobStatus::KeyConflict, 422),
            (JobStatus::Full, 429),
            (JobStatus::Failed("the disk is gone".into()), 503),
            (JobStatus::TimedOut, 503),
        ] {
            assert_eq!(said(status, 0, 0, Wait::Journal, OnBad::Refuse).0, code);
        }
    }

    #[test]
    fn an_answer_is_short_however_much_was_refused() {
        let mut refused: Vec<Refusal> = (0..2000).map(refusal).collect();
        refused[1500].reason = format!("something else: {}", "x".repeat(5000));
        let response = answer(Outcome { status: JobStatus::Done, accepted: 1, refused }, Wait::Journal, OnBad::Refuse);
        let body = futures_util::FutureExt::now_or_never(response.into_body().collect()).expect("it is there");
        let text = String::from_utf8(body.expect("it is whole").to_bytes().to_vec()).expect("JSON is text");
        assert!(text.len() <= 2048 && text.ends_with(r#"],"refused_count":2000}"#), "{text}");
        assert_eq!(text.matches("index").count(), FIRST_LISTED + 1);
        assert!(text.contains(r#"{"index":1500,"reason":"something else: xxx"#), "{text}");
    }

    #[test]
    fn a_key_is_its_senders_and_its_sources_own() {
        let who = |name: &str, role| Principal::new(name, role).expect("a name");
        let of = |source: &str, sender: Option<&Principal>, key: &[u8]| Key::of(source, sender, key).seed;
        let ada = of("web", Some(&who("ada", Role::User)), b"k");
        assert_eq!(ada, of("web", Some(&who("ada", Role::Admin)), b"k"));
        for other in [
            of("web", Some(&who("bob", Role::User)), b"k"),
            of("web", Some(&who("ada", Role::Ingest)), b"k"),
            of("api", Some(&who("ada", Role::User)), b"k"),
            of("web", Some(&who("ada", Role::User)), b"l"),
            of("web", None, b"k"),
        ] {
            assert_ne!(ada, other);
        }
    }
}
