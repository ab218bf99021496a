//! `socket`: events over TCP, UDP and Unix sockets.

mod config;
mod connection;
mod datagrams;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_util::task::TaskTracker;

pub use config::Config;
use config::Place;

use crate::codec::Decoder;
use crate::codec::framing::Framing;
use crate::component::{Check, Fatal, Source, SourceContext};
use crate::net::listen::{Accepted, Acceptor, Listener, SOCKET_MODE, bind_datagram};
use crate::net::tls;

pub struct Socket {
    place: Place,
    decoder: Arc<dyn Decoder>,
    /// How frames follow each other; on datagrams, nothing means that each is one.
    framing: Option<Framing>,
    tls: Option<tls::Config>,
    max_connections: usize,
    frame_bytes: Option<usize>,
    idle_timeout: Option<std::time::Duration>,
}

impl Source for Socket {
    const TYPE: &'static str = "socket";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Socket> {
        config.socket(check)
    }

    async fn run(self, cx: SourceContext) -> Result<(), Fatal> {
        match &self.place {
            Place::Stream(address) => {
                let tls = self.tls.as_ref().map(tls::server).transpose().map_err(Fatal)?;
                let listener = Listener::bind(address, SOCKET_MODE).await.map_err(Fatal)?;
                self.accept(listener, tls, cx).await;
                Ok(())
            }
            Place::Udp(address) => {
                let socket = datagrams::bind_udp(address).await.map_err(Fatal)?;
                datagrams::Receiver::new(self, cx).run(socket).await
            }
            Place::UnixDatagram(path) => {
                let (socket, _file) = bind_datagram(path, SOCKET_MODE).map_err(Fatal)?;
                datagrams::Receiver::new(self, cx).run(socket).await
            }
        }
    }
}

impl Socket {
    async fn accept(self, listener: Listener, tls: Option<Arc<ServerConfig>>, cx: SourceContext) {
        if let Ok(address) = listener.address() {
            tracing::info!(source = %cx.name, %address, "listening");
        }
        let mut acceptor = Acceptor::new(listener, self.max_connections, cx.shutdown.clone());
        let (connections, socket) = (TaskTracker::new(), Arc::new(self));
        cx.ready();
        while let Some(Accepted { stream, peer, permit }) = acceptor.next().await {
            let (socket, tls, cx) = (socket.clone(), tls.clone(), cx.clone());
            connections.spawn(async move {
                let stream = match tls {
                    None => Ok(stream),
                    Some(config) => tls::accept(&config, stream).await,
                };
                match stream {
                    Ok(stream) => connection::serve(&socket, stream, peer, cx).await,
                    Err(error) => tracing::warn!(?peer, %error, "no TLS with a client"),
                }
                drop(permit);
            });
        }
        connections.close();
        connections.wait().await;
    }
}
