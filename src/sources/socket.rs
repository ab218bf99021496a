//! `socket`: events over TCP, UDP and Unix sockets.

mod config;
mod connection;
mod datagrams;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::task::TaskTracker;

pub use config::Config;
use config::Place;

use crate::codec::Decoder;
use crate::codec::framing::Framing;
use crate::component::{Check, Fatal, Source, SourceContext};
use crate::net::listen::{Accepted, Acceptor, Listener};
use crate::net::network::Network;
use crate::net::sockets::Bound;
use crate::net::{Endpoint, PROXY_FAILURE, Sockets, TLS_FAILURE, tls};

/// A source that is stopped reads on for so long as something comes without such a pause, and not longer than that: the
/// peer takes for received what the kernel has.
const REST_PAUSE: Duration = Duration::from_millis(10);
const REST: Duration = Duration::from_secs(1);

pub struct Socket {
    place: Place,
    decoder: Arc<dyn Decoder>,
    /// How frames follow each other; on datagrams, nothing means that each is one.
    framing: Option<Framing>,
    tls: Option<tls::Config>,
    max_connections: usize,
    frame_bytes: Option<usize>,
    idle_timeout: Option<Duration>,
    /// Whose header of the PROXY protocol is believed, where every connection begins with one.
    proxies: Option<Arc<[Network]>>,
}

impl Source for Socket {
    const TYPE: &'static str = "socket";
    type Config = Config;
    type Prepared = BoundSocket;

    fn build(config: Config, check: &mut Check) -> Option<Socket> {
        config.socket(check)
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        match &self.place {
            Place::Stream(address) => vec![Endpoint::stream(address)],
            Place::Udp(address) => vec![Endpoint::udp(address)],
            Place::UnixDatagram(path) => vec![Endpoint::Path(path.clone())],
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        self.tls.iter().flat_map(tls::Config::files).collect()
    }

    fn check_files(&self) -> Result<(), String> {
        self.tls.as_ref().map(tls::server).transpose().map(drop)
    }

    async fn prepare(&self, sockets: &Sockets) -> Result<BoundSocket, Fatal> {
        let tls = self.tls.as_ref().map(tls::server).transpose().map_err(Fatal)?;
        let bound_socket = match &self.place {
            Place::Stream(address) => {
                let listening = sockets.listen(address).await;
                listening.map(|listener| BoundSocket::Stream(listener.behind_proxies(self.proxies.clone()), tls))
            }
            Place::Udp(address) => sockets.udp(address).await.map(|(socket, bound)| BoundSocket::Udp(socket, bound)),
            Place::UnixDatagram(path) => {
                sockets.unix_datagrams(path).await.map(|(socket, bound)| BoundSocket::Unix(socket, bound))
            }
        };
        bound_socket.map_err(Fatal)
    }

    async fn run(self: Arc<Socket>, bound_socket: BoundSocket, cx: SourceContext) -> Result<(), Fatal> {
        match bound_socket {
            BoundSocket::Stream(listener, tls) => {
                self.accept(listener, tls, cx).await;
                Ok(())
            }
            BoundSocket::Udp(socket, bound) => datagrams::Receiver::new(&self, cx).run(socket, bound).await,
            BoundSocket::Unix(socket, bound) => datagrams::Receiver::new(&self, cx).run(socket, bound).await,
        }
    }
}

/// The socket that events come in by.
pub enum BoundSocket {
    Stream(Listener, Option<Arc<ServerConfig>>),
    Udp(UdpSocket, Arc<Bound>),
    Unix(UnixDatagram, Arc<Bound>),
}

impl Socket {
    async fn accept(self: Arc<Socket>, listener: Listener, tls: Option<Arc<ServerConfig>>, cx: SourceContext) {
        if let Ok(address) = listener.address() {
            tracing::info!(source = %cx.name, %address, "listening");
        }
        let mut acceptor = Acceptor::new(listener, self.max_connections, cx.shutdown.clone());
        let (connections, socket) = (TaskTracker::new(), self);
        cx.ready();
        while let Some(accepted) = acceptor.next().await {
            let (socket, tls, cx) = (socket.clone(), tls.clone(), cx.clone());
            connections.spawn(async move {
                let Accepted { stream, peer, permit, .. } = match accepted.by_proxy().await {
                    Ok(accepted) => accepted,
                    Err((peer, reason)) => {
                        let peer = peer.map(tracing::field::display);
                        tracing::warn!(source = %cx.name, peer, reason, "a connection was refused");
                        cx.intake.connection_failed(PROXY_FAILURE);
                        return;
                    }
                };
                let stream = match tls {
                    None => Ok(stream),
                    Some(config) => tls::accept(&config, stream).await,
                };
                match stream {
                    Ok(stream) => connection::serve(&socket, stream, peer, cx).await,
                    Err(error) => {
                        let peer = peer.map(tracing::field::display);
                        tracing::warn!(source = %cx.name, peer, %error, "TLS handshake failed");
                        cx.intake.connection_failed(TLS_FAILURE);
                    }
                }
                drop(permit);
            });
        }
        // Nobody connects any more to a port that is to be given up.
        drop(acceptor);
        connections.close();
        connections.wait().await;
    }
}
