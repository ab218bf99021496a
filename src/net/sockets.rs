//! The sockets that are bound: a successor listens on the very socket of its predecessor, before that one stops.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::net::sockopt;
use tokio::net::{UdpSocket, UnixDatagram};
use tracing::warn;

use super::address::Address;
use super::listen::{Listener, SOCKET_MODE, SocketFile, bind_datagram, reason};

/// What the kernel is asked to keep of datagrams; it may give less.
const DATAGRAM_BYTES: usize = 4 * 1024 * 1024;

/// A socket that lives as long as somebody listens on it.
#[derive(Debug)]
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
    Udp(std::net::UdpSocket),
    UnixDatagram(std::os::unix::net::UnixDatagram, SocketFile),
}

/// Where a component listens, for finding two on one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Tcp(String, u16),
    Udp(String, u16),
    Path(PathBuf),
}

impl Endpoint {
    pub fn stream(address: &Address) -> Endpoint {
        match address {
            Address::Tcp { host, port } => Endpoint::Tcp(host.clone(), *port),
            Address::Unix(path) => Endpoint::Path(path.clone()),
        }
    }

    pub fn udp(address: &Address) -> Endpoint {
        match address {
            Address::Tcp { host, port } => Endpoint::Udp(host.clone(), *port),
            Address::Unix(path) => Endpoint::Path(path.clone()),
        }
    }

    /// Whether only one of the two can listen. An address of all interfaces takes the port on each of them.
    pub fn conflicts_with(&self, other: &Endpoint) -> bool {
        let same_host = |a: &str, b: &str| {
            let every = |host: &str| matches!(host, "0.0.0.0" | "::" | "[::]");
            let local = |host: &str| matches!(host, "127.0.0.1" | "localhost" | "::1" | "[::1]");
            a == b || every(a) || every(b) || (local(a) && local(b))
        };
        match (self, other) {
            (Endpoint::Tcp(a, port), Endpoint::Tcp(b, other)) | (Endpoint::Udp(a, port), Endpoint::Udp(b, other)) => {
                *port != 0 && port == other && same_host(a, b)
            }
            (Endpoint::Path(a), Endpoint::Path(b)) => a == b,
            _ => false,
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Tcp(host, port) | Endpoint::Udp(host, port) => write!(f, "{host}:{port}"),
            Endpoint::Path(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Path(PathBuf),
}

/// Every socket of this process that a component listens on.
#[derive(Default)]
pub struct Sockets(Mutex<HashMap<Key, Weak<Bound>>>);

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<Bound>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &Key) -> Option<Arc<Bound>> {
        self.lock().get(key).and_then(Weak::upgrade)
    }

    fn keep(&self, key: Key, bound: &Arc<Bound>) {
        let mut known = self.lock();
        known.retain(|_, bound| bound.strong_count() > 0);
        known.insert(key, Arc::downgrade(bound));
    }

    /// Listens for connections; on the socket of whoever listens there already in this process. The error is for the
    /// operator.
    pub async fn listen(&self, address: &Address) -> Result<Listener, String> {
        let cannot = |error: io::Error| format!("cannot listen on `{address}`: {}", reason(&error));
        for key in keys(address, Key::Tcp).await.map_err(cannot)? {
            if let Some(bound) = self.find(&key) {
                return Listener::of(bound).map_err(cannot);
            }
        }
        let listener = Listener::bind(address, SOCKET_MODE).await?;
        let key = match address {
            Address::Unix(path) => Key::Path(path.clone()),
            Address::Tcp { .. } => Key::Tcp(listener.local_address().map_err(cannot)?),
        };
        self.keep(key, listener.bound());
        Ok(listener)
    }

    /// Receives datagrams over UDP, for as long as the second part is held. The error is for the operator.
    pub async fn udp(&self, address: &Address) -> Result<(UdpSocket, Arc<Bound>), String> {
        let cannot = |error: io::Error| format!("cannot listen on `{address}`: {}", reason(&error));
        if matches!(address, Address::Unix(_)) {
            return Err(format!("`{address}` is no address for UDP"));
        }
        let wanted = keys(address, Key::Udp).await.map_err(cannot)?;
        let known = wanted.iter().find_map(|key| self.find(key));
        let bound = match known {
            Some(bound) => bound,
            None => {
                let addresses: Vec<SocketAddr> = wanted
                    .iter()
                    .filter_map(|key| if let Key::Udp(address) = key { Some(*address) } else { None })
                    .collect();
                let socket = std::net::UdpSocket::bind(&*addresses).map_err(cannot)?;
                socket.set_nonblocking(true).map_err(cannot)?;
                if let Err(error) = sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_BYTES) {
                    warn!(%error, "the kernel gives no larger buffer");
                }
                let key = Key::Udp(socket.local_addr().map_err(cannot)?);
                let bound = Arc::new(Bound::Udp(socket));
                self.keep(key, &bound);
                bound
            }
        };
        let Bound::Udp(socket) = &*bound else { return Err(format!("`{address}` is in use otherwise")) };
        let socket = socket.try_clone().and_then(UdpSocket::from_std).map_err(cannot)?;
        Ok((socket, bound))
    }

    /// Receives datagrams over a Unix socket, for as long as the second part is held. The error is for the operator.
    pub fn unix_datagrams(&self, path: &Path) -> Result<(UnixDatagram, Arc<Bound>), String> {
        let cannot = |error: io::Error| format!("cannot listen on `unix:{}`: {}", path.display(), reason(&error));
        let bound = match self.find(&Key::Path(path.to_owned())) {
            Some(bound) => bound,
            None => {
                let (socket, file) = bind_datagram(path, SOCKET_MODE)?;
                let bound = Arc::new(Bound::UnixDatagram(socket.into_std().map_err(cannot)?, file));
                self.keep(Key::Path(path.to_owned()), &bound);
                bound
            }
        };
        let Bound::UnixDatagram(socket, _) = &*bound else {
            return Err(format!("`unix:{}` is in use for connections", path.display()));
        };
        let socket = socket.try_clone().and_then(UnixDatagram::from_std).map_err(cannot)?;
        Ok((socket, bound))
    }
}

async fn keys(address: &Address, key: fn(SocketAddr) -> Key) -> io::Result<Vec<Key>> {
    match address {
        // Whoever asks for any free port gets another one than those before.
        Address::Unix(path) => Ok(vec![Key::Path(path.clone())]),
        Address::Tcp { host, port } => Ok(tokio::net::lookup_host((host.as_str(), *port)).await?.map(key).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn a_successor_listens_on_the_socket_of_its_predecessor() {
        let sockets = Sockets::default();
        let first = sockets.listen(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.address().unwrap();
        let second = sockets.listen(&address).await.expect("the same process may");
        assert!(Listener::bind(&address, SOCKET_MODE).await.is_err(), "nobody else may");
        drop(first);
        assert!(TcpStream::connect(address.to_string()).await.is_ok(), "somebody listens still");
        drop(second);
        assert!(TcpStream::connect(address.to_string()).await.is_err(), "the last one has left");
        sockets.listen(&address).await.expect("it is free again");
    }

    #[tokio::test]
    async fn datagrams_are_received_on_one_socket_by_turns() {
        let sockets = Sockets::default();
        let first = sockets.udp(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = first.0.local_addr().unwrap();
        let second = sockets.udp(&at.to_string().parse().unwrap()).await.expect("the same process may");
        drop(first);
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", at).unwrap();
        second.0.readable().await.unwrap();
        assert_eq!(second.0.try_recv(&mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn an_address_of_all_interfaces_takes_the_port_of_each() {
        let tcp = |host: &str, port| Endpoint::Tcp(host.into(), port);
        assert!(tcp("0.0.0.0", 80).conflicts_with(&tcp("127.0.0.1", 80)));
        assert!(tcp("localhost", 80).conflicts_with(&tcp("127.0.0.1", 80)));
        assert!(!tcp("127.0.0.1", 80).conflicts_with(&tcp("127.0.0.1", 81)));
        assert!(!tcp("127.0.0.1", 0).conflicts_with(&tcp("127.0.0.1", 0)), "any free port is another one");
        assert!(!tcp("127.0.0.1", 80).conflicts_with(&Endpoint::Udp("127.0.0.1".into(), 80)));
    }
}
