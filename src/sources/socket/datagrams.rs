//! Datagrams: each is one event or several lines; those that have arrived form one chunk.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::Instant;
use tracing::warn;

use super::{Place, REST, REST_PAUSE, Socket};
use crate::codec::framing::Framing;
use crate::codec::{Frames, Ordinals};
use crate::component::source::{CHUNK_BYTES, Chunk};
use crate::component::{Fatal, SourceContext};
use crate::net::sockets::Bound;
use crate::toolkit::Lane;
use crate::toolkit::lane::Origin;

/// What the largest datagram over UDP fits in. Those of a Unix socket may be as large as a frame.
const UDP_BYTES: usize = 64 * 1024;

/// How often the kernel is asked what it has dropped.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What the two kinds of datagram sockets have in common.
pub trait Datagrams: std::os::fd::AsFd {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn receive(&self, buffer: &mut impl BufMut) -> io::Result<(usize, Option<IpAddr>)>;
}

impl Datagrams for UdpSocket {
    async fn readable(&self) -> io::Result<()> {
        UdpSocket::readable(self).await
    }

    fn receive(&self, buffer: &mut impl BufMut) -> io::Result<(usize, Option<IpAddr>)> {
        self.try_recv_buf_from(buffer).map(|(len, peer)| (len, Some(peer.ip().to_canonical())))
    }
}

impl Datagrams for UnixDatagram {
    async fn readable(&self) -> io::Result<()> {
        UnixDatagram::readable(self).await
    }

    fn receive(&self, buffer: &mut impl BufMut) -> io::Result<(usize, Option<IpAddr>)> {
        self.try_recv_buf_from(buffer).map(|(len, _)| (len, None))
    }
}

pub struct Receiver {
    cx: SourceContext,
    lane: Lane,
    has_lines: bool,
    frame_bytes: usize,
    /// Room for one datagram, and for one byte more than a frame has: what fills it all was cut by the kernel.
    room: usize,
    ordinal: u64,
    buffer: BytesMut,
    frames: Vec<Range<usize>>,
    peer: Option<IpAddr>,
    dropped: u64,
    /// Nothing more comes, and what has come is read to its end.
    is_leaving: bool,
}

impl Receiver {
    pub fn new(socket: &Socket, cx: SourceContext) -> Receiver {
        let origin = Origin::passing(None, "datagrams");
        let frame_bytes = socket.frame_bytes.unwrap_or(cx.event_bytes);
        Receiver {
            lane: Lane::new(cx.clone(), socket.decoder.clone(), origin),
            has_lines: socket.framing == Some(Framing::Newline),
            frame_bytes,
            room: if matches!(socket.place, Place::UnixDatagram(_)) { frame_bytes + 1 } else { UDP_BYTES },
            ordinal: 0,
            buffer: BytesMut::new(),
            frames: Vec::new(),
            peer: None,
            dropped: 0,
            is_leaving: false,
            cx,
        }
    }

    pub async fn run(mut self, socket: impl Datagrams, bound: Arc<Bound>) -> Result<(), Fatal> {
        let mut asking = tokio::time::interval(ASK_EVERY);
        self.cx.ready();
        let shutdown = self.cx.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    // A successor may read on from the same socket.
                    if bound.leave() {
                        self.take_rest(&socket).await;
                    }
                    return Ok(());
                }
                ready = socket.readable() => ready.map_err(|error| Fatal(format!("cannot read datagrams: {error}")))?,
                Err(_) = self.lane.settled() => return Ok(()),
                _ = asking.tick() => {
                    self.count_dropped(&socket);
                    continue;
                }
            }
            if self.take_ready(&socket).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Takes what the kernel has received by now: it would be gone with the socket.
    async fn take_rest(&mut self, socket: &impl Datagrams) {
        self.is_leaving = true;
        let end = Instant::now() + REST;
        while Instant::now() < end {
            let Ok(Ok(())) = tokio::time::timeout(REST_PAUSE, socket.readable()).await else { return };
            let before = self.ordinal;
            if self.take_ready(socket).await.is_err() || self.ordinal == before {
                return;
            }
        }
    }

    /// Takes what has come, up to a chunk for each run of datagrams from one peer.
    async fn take_ready(&mut self, socket: &impl Datagrams) -> Result<(), crate::toolkit::lane::Closed> {
        let chunk_bytes = CHUNK_BYTES.max(self.room);
        let mut permit = self.lane.reserve(chunk_bytes).await?;
        loop {
            self.buffer.reserve(self.room);
            let start = self.buffer.len();
            let (len, peer) = match socket.receive(&mut (&mut self.buffer).limit(self.room)) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    warn!(source = %self.cx.name, %error, "a datagram could not be read");
                    break;
                }
            };
            // A Unix socket that receives nothing more is readable for ever.
            if len == 0 && self.is_leaving && !matches!(rustix::io::ioctl_fionread(socket), Ok(1..)) {
                break;
            }
            self.cx.intake.received_bytes(len as u64);
            if len == 0 || len > self.frame_bytes || len == self.room {
                let (peer, limit) = (peer.map(tracing::field::display), self.frame_bytes.min(self.room - 1));
                let why = if len == 0 { "it is empty" } else { "it is larger than `max_frame`" };
                warn!(source = %self.cx.name, peer, limit, "a datagram was refused: {why}");
                self.cx.intake.refused(1);
                self.buffer.truncate(start);
                continue;
            }
            if peer != self.peer && !self.frames.is_empty() {
                let rest = self.buffer.split_off(start);
                permit.shrink(self.buffer.len());
                self.hand_in(permit);
                permit = self.lane.reserve(chunk_bytes).await?;
                self.buffer = rest;
            }
            self.peer = peer;
            let start = self.buffer.len() - len;
            self.frames.push(start..start + trimmed(&self.buffer[start..]));
            if self.has_lines && !self.buffer.ends_with(b"\n") {
                self.buffer.put_u8(b'\n');
            }
            if self.buffer.len() + self.room > chunk_bytes {
                break;
            }
        }
        if !self.frames.is_empty() {
            permit.shrink(self.buffer.len());
            self.hand_in(permit);
        }
        Ok(())
    }

    fn hand_in(&mut self, permit: crate::journal::MemoryPermit) {
        let bytes = std::mem::take(&mut self.buffer).freeze();
        let frames = std::mem::take(&mut self.frames);
        let frames = if self.has_lines { Frames::Lines } else { Frames::At(frames) };
        let ordinals = Ordinals::Count(self.ordinal);
        self.ordinal += bytes.len() as u64;
        self.lane.set_peer(self.peer);
        self.lane.submit(Chunk { bytes, frames, ordinals }, permit);
    }

    /// Counts datagrams the kernel dropped, which would otherwise go unnoticed.
    fn count_dropped(&mut self, socket: &impl Datagrams) {
        let Some(dropped) = dropped_by_kernel(socket) else { return };
        let more = dropped.saturating_sub(self.dropped);
        if more > 0 {
            warn!(source = %self.cx.name, datagrams = more, "the kernel dropped datagrams because its buffer was full");
            self.cx.intake.refused(more);
        }
        self.dropped = dropped;
    }
}

/// Length without the line end that some senders add.
fn trimmed(datagram: &[u8]) -> usize {
    let text = datagram.strip_suffix(b"\n").unwrap_or(datagram);
    text.strip_suffix(b"\r").unwrap_or(text).len()
}

fn dropped_by_kernel(socket: &impl Datagrams) -> Option<u64> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino.to_string();
    ["/proc/net/udp", "/proc/net/udp6"].iter().find_map(|path| {
        let table = std::fs::read_to_string(path).ok()?;
        table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            (fields.get(9) == Some(&inode.as_str())).then(|| fields.last()?.parse().ok())?
        })
    })
}
