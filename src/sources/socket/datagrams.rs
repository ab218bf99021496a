//! Datagrams: each is one event or several lines; those that have arrived form one chunk.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::net::{UdpSocket, UnixDatagram};
use tracing::warn;

use super::Socket;
use crate::codec::framing::Framing;
use crate::codec::{Frames, Ordinals};
use crate::component::source::{CHUNK_BYTES, Chunk};
use crate::component::{Fatal, SourceContext};
use crate::toolkit::Lane;
use crate::toolkit::lane::Origin;

/// The largest datagram taken. UDP has none larger; a Unix socket may.
const DATAGRAM_BYTES: usize = 64 * 1024;

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
    ordinal: u64,
    buffer: BytesMut,
    frames: Vec<Range<usize>>,
    peer: Option<IpAddr>,
    dropped: u64,
}

impl Receiver {
    pub fn new(socket: &Socket, cx: SourceContext) -> Receiver {
        let origin = Origin::passing(None, "datagrams");
        Receiver {
            lane: Lane::new(cx.clone(), socket.decoder.clone(), origin),
            has_lines: socket.framing == Some(Framing::Newline),
            frame_bytes: socket.frame_bytes.unwrap_or(cx.event_bytes).min(DATAGRAM_BYTES),
            ordinal: 0,
            buffer: BytesMut::new(),
            frames: Vec::new(),
            peer: None,
            dropped: 0,
            cx,
        }
    }

    pub async fn run(mut self, socket: impl Datagrams) -> Result<(), Fatal> {
        let mut asking = tokio::time::interval(ASK_EVERY);
        self.cx.ready();
        let shutdown = self.cx.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
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

    /// Takes what has come, up to a chunk for each run of datagrams from one peer.
    async fn take_ready(&mut self, socket: &impl Datagrams) -> Result<(), crate::toolkit::lane::Closed> {
        let mut permit = self.lane.reserve(CHUNK_BYTES).await?;
        loop {
            self.buffer.reserve(DATAGRAM_BYTES);
            let start = self.buffer.len();
            let (len, peer) = match socket.receive(&mut (&mut self.buffer).limit(DATAGRAM_BYTES)) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    warn!(source = %self.cx.name, %error, "a datagram could not be read");
                    break;
                }
            };
            self.cx.intake.received_bytes(len as u64);
            if len == 0 || len > self.frame_bytes || len == DATAGRAM_BYTES {
                // Nothing is no event, and what fills the buffer was cut by the kernel.
                warn!(source = %self.cx.name, peer = peer.map(tracing::field::display), bytes = len, "a datagram was refused");
                self.cx.intake.refused(1);
                self.buffer.truncate(start);
                continue;
            }
            if peer != self.peer && !self.frames.is_empty() {
                let rest = self.buffer.split_off(start);
                permit.shrink(self.buffer.len());
                self.hand_in(permit);
                permit = self.lane.reserve(CHUNK_BYTES).await?;
                self.buffer = rest;
            }
            self.peer = peer;
            let start = self.buffer.len() - len;
            self.frames.push(start..start + trimmed(&self.buffer[start..]));
            if self.has_lines && !self.buffer.ends_with(b"\n") {
                self.buffer.put_u8(b'\n');
            }
            if self.buffer.len() >= CHUNK_BYTES - DATAGRAM_BYTES {
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
