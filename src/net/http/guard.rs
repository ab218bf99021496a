//! A stream with deadlines by the state of its connection: idle, reading a head, answering, closing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Limits, target, unread};
use crate::net::wire::Stream;

/// A client that is still sending when it is refused gets so long to notice, so that the answer reaches it:
/// closing at once would reset the connection and take the answer away.
const LINGER: Duration = Duration::from_secs(2);
/// What is read and thrown away meanwhile of a body whose length was not announced.
const LINGER_BYTES: u64 = 1024 * 1024;
/// The most of one whose length was: clients that look at the answer only once they have sent all find it.
const LINGER_MOST: u64 = 64 * 1024 * 1024;
/// A client that sends slower than this gets no more time for what it has announced.
const LINGER_BYTES_PER_SECOND: u64 = 8 * 1024 * 1024;

/// What a connection does, in the lowest bits of its phase; above them requests are counted, so that a deadline
/// is never taken for the one of a request before.
const DOING: u32 = 3;
const HEAD: u32 = 0;
const BUSY: u32 = 1;
const IDLE: u32 = 2;

/// What the connection is doing; shared between its stream and its requests.
#[derive(Clone)]
pub struct Phase(Arc<Shared>);

struct Shared {
    phase: AtomicU32,
    /// Bytes that may be read and thrown away before the connection is closed; 0 for none.
    linger: AtomicU64,
}

impl Phase {
    pub(super) fn new() -> Phase {
        Phase(Arc::new(Shared { phase: AtomicU32::new(HEAD), linger: AtomicU64::new(0) }))
    }

    /// Busy until the lease is dropped: with the last byte of the response's body.
    pub fn lease(&self) -> Lease {
        let next = (self.get() | DOING).wrapping_add(1) | BUSY;
        self.0.phase.store(next, Ordering::Relaxed);
        Lease(self.clone())
    }

    fn get(&self) -> u32 {
        self.0.phase.load(Ordering::Relaxed)
    }

    /// No request has begun on the connection yet.
    pub(super) fn awaits_first_request(&self) -> bool {
        self.get() == HEAD
    }

    /// The same request's next phase.
    fn enter(&self, doing: u32) {
        self.0.phase.store(self.get() & !DOING | doing, Ordering::Relaxed);
    }

    /// The connection will close with part of the request unread, of which this many bytes were announced.
    pub fn linger(&self, announced: Option<u64>) {
        let bytes = announced.unwrap_or(0).clamp(LINGER_BYTES, LINGER_MOST);
        self.0.linger.store(bytes, Ordering::Relaxed);
    }
}

pub struct Lease(Phase);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// The stream. Reads fail when the head or the rest between requests takes too long (bodies have their own
/// deadlines), writes when the client takes nothing.
pub struct Guard {
    stream: Stream,
    phase: Phase,
    head_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    /// When a read that waits in this phase fails.
    read_by: (u32, Instant),
    /// When the write that is waiting fails.
    write_by: Option<Instant>,
    /// Since when a close waits for the client, and what was thrown away.
    closing: Option<(Instant, u64)>,
    alarm: Pin<Box<Sleep>>,
    /// What is written in place of an answer of hyper's own, as far as it is not written yet, and the length of that.
    explained: Option<(Vec<u8>, usize)>,
    /// Whether the head that is read announces more than 64 bits count.
    is_too_long: bool,
    /// Whether something of the head that is awaited has been read.
    has_begun: bool,
}

impl Guard {
    pub fn new(stream: Stream, phase: Phase, limits: &Limits) -> Guard {
        let first_head = Instant::now() + limits.head_timeout;
        Guard {
            stream,
            phase,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            write_timeout: limits.write_timeout,
            read_by: (HEAD, first_head),
            write_by: None,
            closing: None,
            alarm: Box::pin(tokio::time::sleep_until(first_head)),
            explained: None,
            is_too_long: false,
            has_begun: false,
        }
    }

    /// Whether a deadline has come. The alarm is left where it stands while it rings early enough, so that
    /// a deadline which moves with every request costs nothing.
    fn has_passed(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        if self.alarm.deadline() > deadline {
            self.alarm.as_mut().reset(deadline);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            self.alarm.as_mut().reset(deadline);
        }
        false
    }

    /// When a read that waits now fails, if it does.
    fn read_deadline(&mut self) -> Option<Instant> {
        let phase = self.phase.get();
        let wait = match phase & DOING {
            BUSY => return None,
            HEAD => self.head_timeout,
            _ => self.idle_timeout,
        };
        if self.read_by.0 != phase {
            self.read_by = (phase, Instant::now() + wait);
        }
        Some(self.read_by.1)
    }

    /// Looks at what was read behind `before`, unless it belongs to a body.
    fn note_head(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        match self.phase.get() & DOING {
            BUSY => {
                self.has_begun = false;
                return;
            }
            IDLE => {
                self.phase.enter(HEAD);
                (self.is_too_long, self.has_begun) = (false, false);
            }
            _ => {}
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            target::encode(buf, before);
        }
        self.is_too_long |= unread::announces_too_much(&buf.filled()[before..]);
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waste = [0; 16 * 1024];
        loop {
            let (since, thrown) = *self.closing.get_or_insert_with(|| (Instant::now(), 0));
            let most = self.phase.0.linger.load(Ordering::Relaxed);
            let time = LINGER + Duration::from_secs(most / LINGER_BYTES_PER_SECOND);
            if thrown >= most || self.has_passed(since + time, cx) {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut waste);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    self.closing = Some((since, thrown + buf.filled().len() as u64));
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes the explanation that takes the place of these bytes, if they are an answer of hyper's own.
    fn poll_explain(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        if self.explained.is_none() {
            let answer = unread::explained(bytes, self.is_too_long)?;
            self.phase.linger(None);
            self.explained = Some((answer, bytes.len()));
        }
        let (rest, length) = self.explained.as_mut()?;
        while !rest.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => drop(rest.drain(..written)),
                other => return Some(other),
            }
        }
        let length = *length;
        self.explained = None;
        Some(Poll::Ready(Ok(length)))
    }

    /// Checks the outcome of a write against its deadline.
    fn settle_write<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_by = None;
            return written;
        }
        let wait = self.write_timeout;
        let deadline = *self.write_by.get_or_insert_with(|| Instant::now() + wait);
        if self.has_passed(deadline, cx) {
            return Poll::Ready(Err(too_slow("timeout: the client does not read its answer")));
        }
        Poll::Pending
    }
}

fn too_slow(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_ready() {
            if buf.filled().len() > before {
                this.note_head(buf, before);
            }
            return read;
        }
        match this.read_deadline() {
            Some(deadline) if this.has_passed(deadline, cx) => {
                Poll::Ready(Err(too_slow("timeout: no complete request")))
            }
            _ => Poll::Pending,
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let explained = this.poll_explain(bytes, cx);
        let written = explained.unwrap_or_else(|| Pin::new(&mut this.stream).poll_write(cx, bytes));
        this.settle_write(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let explained = this.poll_explain(slices.first().map_or(&[], |slice| slice), cx);
        let written = explained.unwrap_or_else(|| Pin::new(&mut this.stream).poll_write_vectored(cx, slices));
        this.settle_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.settle_write(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            match this.settle_write(shut, cx) {
                Poll::Ready(Ok(())) if this.phase.0.linger.load(Ordering::Relaxed) > 0 => {}
                other => return other,
            }
        }
        this.poll_linger(cx)
    }
}
