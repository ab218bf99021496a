//! Reads a request body into one buffer: decompressed, bounded, with a minimum rate.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::Problem;
use crate::net::inflate::{self, Bound, Encoding, Inflate};

/// The first buffer of a body of unknown length, and the least by which it grows.
const STEP_BYTES: usize = 64 * 1024;
/// A compressed body first gets this many times its length.
const EXPANSION_GUESS: usize = 4;

#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes, both as sent and expanded.
    pub max_bytes: usize,
    /// The longest pause between two parts.
    pub idle_timeout: Duration,
    /// A body may take so long before its rate counts.
    pub rate_grace: Duration,
    /// Bytes a second that a body brings on average, after the grace.
    pub min_rate: u32,
}

impl BodyLimits {
    pub fn of(max_bytes: usize) -> BodyLimits {
        let patience = Duration::from_secs(30);
        BodyLimits { max_bytes, idle_timeout: patience, rate_grace: patience, min_rate: 500 }
    }

    /// When the next part must be there at the latest.
    fn deadline(&self, began: Instant, last: Instant, received: u64) -> Instant {
        let earned = Duration::from_secs_f64(received as f64 / f64::from(self.min_rate.max(1)));
        (last + self.idle_timeout).min(began + self.rate_grace + earned)
    }
}

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyError<E> {
    TooLarge,
    TooSlow,
    /// The connection ended, or its framing made no sense.
    Cut,
    Malformed(&'static str),
    /// `grow` has refused.
    NoMemory(E),
}

/// How the body is packed.
pub fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Problem> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let only = values.next().is_none();
    let text = value.as_bytes().trim_ascii();
    if only && (text.is_empty() || text.eq_ignore_ascii_case(b"identity")) {
        return Ok(None);
    }
    match Encoding::parse(text) {
        Some(encoding) if only => Ok(Some(encoding)),
        _ => {
            let detail = "unsupported Content-Encoding: use gzip, zstd or deflate, once";
            let known = HeaderValue::from_static("gzip, zstd, deflate");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).header(ACCEPT_ENCODING, known))
        }
    }
}

/// Whether the announced length of a body is too large.
pub fn is_too_long(body: &Incoming, max_bytes: usize) -> bool {
    body.size_hint().lower() > max_bytes as u64
}

/// Reads and expands a body. `grow` is asked for memory before it is taken, with the bytes needed in all;
/// `received` counts what came over the wire, whatever becomes of it.
pub async fn read<E>(
    mut body: Incoming,
    encoding: Option<Encoding>,
    limits: &BodyLimits,
    received: &mut u64,
    grow: impl FnMut(usize) -> Result<(), E>,
) -> Result<Bytes, BodyError<E>> {
    if is_too_long(&body, limits.max_bytes) {
        return Err(BodyError::TooLarge);
    }
    let length = body.size_hint().exact().map(|length| length as usize);
    let mut bound = Bound { max_bytes: limits.max_bytes, grow };
    let mut parts = Parts { body: &mut body, limits, began: Instant::now(), received };
    match encoding {
        None => gather(&mut parts, length, &mut bound).await,
        Some(encoding) => expand(&mut parts, encoding, length, &mut bound).await,
    }
}

async fn gather<E, F>(parts: &mut Parts<'_>, length: Option<usize>, bound: &mut Bound<F>) -> Result<Bytes, BodyError<E>>
where
    F: FnMut(usize) -> Result<(), E>,
{
    let capacity = length.unwrap_or(STEP_BYTES.min(bound.max_bytes));
    (bound.grow)(capacity).map_err(BodyError::NoMemory)?;
    let Some(first) = parts.next().await? else { return Ok(Bytes::new()) };
    if Some(first.len()) == length {
        return Ok(first);
    }
    let mut out = Vec::with_capacity(capacity);
    let mut next = Some(first);
    while let Some(part) = next {
        let needed = out.len() + part.len();
        if needed > bound.max_bytes {
            return Err(BodyError::TooLarge);
        }
        if needed > out.capacity() {
            let capacity = needed.max(out.capacity() + (out.capacity() / 2).max(STEP_BYTES)).min(bound.max_bytes);
            (bound.grow)(capacity).map_err(BodyError::NoMemory)?;
            out.reserve_exact(capacity - out.len());
        }
        out.extend_from_slice(&part);
        // Its buffer goes back to the connection before the next part is read into it.
        drop(part);
        next = parts.next().await?;
    }
    Ok(Bytes::from(out))
}

async fn expand<E, F>(
    parts: &mut Parts<'_>,
    encoding: Encoding,
    length: Option<usize>,
    bound: &mut Bound<F>,
) -> Result<Bytes, BodyError<E>>
where
    F: FnMut(usize) -> Result<(), E>,
{
    let guess = length.map_or(STEP_BYTES, |length| length.saturating_mul(EXPANSION_GUESS)).min(bound.max_bytes);
    (bound.grow)(guess).map_err(BodyError::NoMemory)?;
    let mut out = Vec::with_capacity(guess);
    let mut inflate = Inflate::new(encoding);
    while let Some(part) = parts.next().await? {
        if *parts.received > bound.max_bytes as u64 {
            return Err(BodyError::TooLarge);
        }
        inflate.push(&part, &mut out, bound).map_err(of_inflate)?;
        // A part can expand a thousandfold: others have their turn before the next.
        tokio::task::consume_budget().await;
    }
    inflate.finish().map_err(of_inflate)?;
    Ok(Bytes::from(out))
}

fn of_inflate<E>(error: inflate::Error<E>) -> BodyError<E> {
    match error {
        inflate::Error::TooLarge => BodyError::TooLarge,
        inflate::Error::Malformed => BodyError::Malformed("the body does not match its Content-Encoding"),
        inflate::Error::Truncated => BodyError::Malformed("the compressed body is incomplete"),
        inflate::Error::NoMemory(refused) => BodyError::NoMemory(refused),
    }
}

/// The data of a body, part by part, with its deadlines.
struct Parts<'a> {
    body: &'a mut Incoming,
    limits: &'a BodyLimits,
    began: Instant,
    received: &'a mut u64,
}

impl Parts<'_> {
    async fn next<E>(&mut self) -> Result<Option<Bytes>, BodyError<E>> {
        loop {
            let frame = match ready(self.body.frame()).await {
                Ok(frame) => frame,
                Err(waiting) => {
                    let deadline = self.limits.deadline(self.began, Instant::now(), *self.received);
                    tokio::time::timeout_at(deadline, waiting).await.map_err(|_| BodyError::TooSlow)?
                }
            };
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(BodyError::Cut),
                Some(Ok(frame)) => {
                    // Trailers are not used.
                    if let Ok(data) = frame.into_data() {
                        *self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The outcome of a future that is ready, or the future, so that a clock is looked at only for those that wait.
async fn ready<F: Future + Unpin>(mut future: F) -> Result<F::Output, F> {
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut future).poll(cx))).await;
    match polled {
        std::task::Poll::Ready(output) => Ok(output),
        std::task::Poll::Pending => Err(future),
    }
}
