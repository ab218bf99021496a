//! One connection: reads large chunks under load, and holds almost no memory when idle.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::ready;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{REST, REST_PAUSE, Socket};
use crate::codec::Ordinals;
use crate::codec::framing::{Framed, Framer, OutOfFrame};
use crate::component::SourceContext;
use crate::component::source::{CHUNK_BYTES, Chunk};
use crate::journal::MemoryPermit;
use crate::toolkit::Lane;
use crate::toolkit::lane::{Closed, Origin};

/// Bytes of the first read after a pause; they need no buffer while they are awaited.
const FIRST_BYTES: usize = 2048;

/// Spare bytes below which a buffer is not read into any more.
const LEAST_SPARE: usize = 16 * 1024;

/// Up to so many bytes of a frame that has not ended count as part of the connection.
const LEAST_HELD: usize = 4096;

/// How long the rest of a frame may take of which so many bytes are held.
const HALF_FRAME: Duration = Duration::from_secs(30);

/// How long a connection that holds a part of a frame waits for more memory: others that do the same may have all of it.
const SHORTAGE: Duration = Duration::from_secs(5);

/// How long a connection without a timeout may be silent: for ever, in practice.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

enum End {
    /// The peer has closed its side.
    Closed,
    /// The agent stops, or the peer was silent for too long.
    Given,
}

/// Reads everything a peer sends.
pub async fn serve<S: AsyncRead + Unpin>(socket: &Socket, mut stream: S, peer: Option<IpAddr>, cx: SourceContext) {
    let words = peer.map_or_else(|| "a Unix socket".to_string(), |peer| peer.to_string());
    let lane = Lane::new(cx.clone(), socket.decoder.clone(), Origin::passing(peer, words.clone()));
    let frame_bytes = socket.frame_bytes.unwrap_or(cx.event_bytes);
    let framer = Framer::new(socket.framing.unwrap_or_default(), frame_bytes, CHUNK_BYTES);
    let (buffer, held, begun) = (BytesMut::new(), None, None);
    let mut connection = Connection { cx: cx.clone(), lane, framer, buffer, held, begun, ordinal: 0 };
    let idle = socket.idle_timeout.unwrap_or(FOR_EVER);
    debug!(source = %cx.name, peer = %words, "a connection was opened");
    match connection.read_all(&mut stream, idle).await {
        Ok(End::Closed | End::Given) => {}
        Err(Broken::Stream(error)) => {
            debug!(source = %cx.name, peer = %words, %error, "a connection was lost");
            // What came whole is taken; half a frame of a peer that has vanished is submitted as at a close.
            let _ = connection.hand_in(None, true).await;
        }
        Err(Broken::Frame(reason)) => {
            warn!(source = %cx.name, peer = %words, %reason, "a connection was closed");
            cx.intake.refused(1);
        }
        Err(Broken::Stop) => return,
    }
    // Closed means that the agent stops; submitted jobs belong to the intake.
    drop(stream);
    let _ = connection.lane.drain().await;
    debug!(source = %cx.name, peer = %words, frames = connection.ordinal, "a connection was closed");
}

struct Connection {
    cx: SourceContext,
    lane: Lane,
    framer: Framer,
    buffer: BytesMut,
    /// Memory for what the buffer has of a frame that has not ended, unless that is little, and since when.
    held: Option<MemoryPermit>,
    begun: Option<Instant>,
    ordinal: u64,
}

enum Broken {
    Stream(io::Error),
    Frame(String),
    Stop,
}

impl From<Closed> for Broken {
    fn from(_: Closed) -> Broken {
        Broken::Stop
    }
}

impl From<OutOfFrame> for Broken {
    fn from(OutOfFrame(reason): OutOfFrame) -> Broken {
        Broken::Frame(reason)
    }
}

impl Connection {
    async fn read_all<S: AsyncRead + Unpin>(&mut self, stream: &mut S, idle: Duration) -> Result<End, Broken> {
        let shutdown = self.cx.shutdown.clone();
        let (mut is_busy, mut end) = (false, None);
        loop {
            if shutdown.is_cancelled() && *end.get_or_insert_with(|| Instant::now() + REST) <= Instant::now() {
                return Ok(End::Given);
            }
            let first = match is_busy {
                true => None,
                false => {
                    if self.buffer.capacity() - self.buffer.len() > CHUNK_BYTES / 2 {
                        // Nothing may come for a while.
                        self.buffer = BytesMut::from(&self.buffer[..]);
                    }
                    let mut first = Box::pin(first_bytes(stream, &mut self.buffer));
                    let rest = self.begun.map(|begun| (begun + HALF_FRAME).saturating_duration_since(Instant::now()));
                    let silence = tokio::time::sleep(rest.map_or(idle, |rest| rest.min(idle)));
                    let stopped = async {
                        shutdown.cancelled().await;
                        tokio::time::sleep(REST_PAUSE).await;
                    };
                    tokio::pin!(silence, stopped);
                    let read = loop {
                        tokio::select! {
                            biased;
                            read = &mut first => break Some(read),
                            () = &mut stopped => return Ok(End::Given),
                            settled = self.lane.settled() => settled?,
                            () = &mut silence => break None,
                        }
                    };
                    let Some(read) = read else {
                        drop(first);
                        if self.begun.is_some() {
                            let (source, bytes) = (&self.cx.name, self.buffer.len());
                            warn!(%source, bytes, "a connection was closed: the rest of a frame did not come in time");
                            self.hand_in(None, true).await?;
                        }
                        return Ok(End::Given);
                    };
                    Some(read.map_err(Broken::Stream)?)
                }
            };
            if first == Some(0) {
                self.hand_in(None, true).await?;
                return Ok(End::Closed);
            }
            let mut got = first.unwrap_or(0);
            if let Some(first) = first
                && first < FIRST_BYTES
            {
                self.cx.intake.received_bytes(got as u64);
                self.hand_in(None, false).await?;
                continue;
            }
            let mut permit = self.reserve(CHUNK_BYTES).await?;
            let (more, is_closed) = self.read_ready(stream).map_err(Broken::Stream)?;
            got += more;
            permit.shrink(self.buffer.len());
            self.cx.intake.received_bytes(got as u64);
            is_busy = got > LEAST_SPARE && !is_closed;
            self.hand_in(Some(permit), is_closed).await?;
            if is_closed {
                return Ok(End::Closed);
            }
        }
    }

    /// Reads what has come already, up to a chunk; and whether that was the end.
    fn read_ready<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<(usize, bool)> {
        self.buffer.reserve(CHUNK_BYTES);
        let mut got = 0;
        while self.buffer.capacity() - self.buffer.len() >= LEAST_SPARE {
            match stream.read_buf(&mut self.buffer).now_or_never() {
                None => break,
                Some(Ok(0)) => return Ok((got, true)),
                Some(Ok(read)) => got += read,
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(Err(error)) => return Err(error),
            }
        }
        Ok((got, false))
    }

    /// Submits the whole frames of the buffer, the first one under what is held and the permit that was taken for them.
    async fn hand_in(&mut self, permit: Option<MemoryPermit>, is_closed: bool) -> Result<(), Broken> {
        match (&mut self.held, permit) {
            (Some(held), Some(permit)) => held.join(permit),
            (held, Some(permit)) => *held = Some(permit),
            (_, None) => {}
        }
        while let Some(Framed { bytes, frames }) = self.framer.next(&mut self.buffer, is_closed)? {
            self.begun = None;
            let permit = match self.held.take() {
                Some(permit) => permit,
                None => self.lane.reserve(bytes.len()).await?,
            };
            // A frame has a byte at least, so this is as good as counting them, and free.
            let ordinals = Ordinals::Count(self.ordinal);
            self.ordinal += bytes.len() as u64;
            self.lane.submit(Chunk { bytes, frames, ordinals }, permit);
        }
        if self.buffer.is_empty() {
            // What was submitted keeps its bytes; an idle connection keeps none.
            self.buffer = BytesMut::new();
        }
        self.hold().await
    }

    /// Waits for memory, and not for long while it holds some.
    async fn reserve(&mut self, bytes: usize) -> Result<MemoryPermit, Broken> {
        if self.held.is_none() {
            return Ok(self.lane.reserve(bytes).await?);
        }
        match tokio::time::timeout(SHORTAGE, self.lane.reserve(bytes)).await {
            Ok(permit) => Ok(permit?),
            Err(_) => Err(Broken::Frame("memory is short, and the frame has not ended".to_owned())),
        }
    }

    /// Has memory for what is left in the buffer: many peers that send half a frame each are a burden, too.
    async fn hold(&mut self) -> Result<(), Broken> {
        let left = self.buffer.len();
        if left <= LEAST_HELD {
            (self.held, self.begun) = (None, None);
            return Ok(());
        }
        self.begun.get_or_insert_with(Instant::now);
        let held = self.held.as_ref().map_or(0, MemoryPermit::bytes);
        if held < left {
            let more = self.reserve(left - held).await?;
            match &mut self.held {
                Some(held) => held.join(more),
                None => self.held = Some(more),
            }
        } else if let Some(held) = &mut self.held {
            held.shrink(left);
        }
        Ok(())
    }
}

/// Waits for bytes with a buffer that exists only while they are copied. Nothing at all means the end.
async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut small = [0; FIRST_BYTES];
        let mut read = ReadBuf::new(&mut small);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        buffer.extend_from_slice(read.filled());
        std::task::Poll::Ready(Ok(read.filled().len()))
    })
    .await
}
