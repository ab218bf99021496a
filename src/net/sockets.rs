//! Bound sockets: a successor takes over its predecessor's socket before that one stops.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{UdpSocket, UnixDatagram};
use tracing::warn;

use super::address::Address;
use super::listen::{Listener, SOCKET_MODE, SocketFile, bind_datagram, reason};

/// The receive buffer asked of the kernel; it may grant less.
const DATAGRAM_BYTES: usize = 4 * 1024 * 1024;

/// How often it is looked whether a socket that somebody leaves is closed.
const LEAVING_PAUSE: Duration = Duration::from_millis(5);

/// A socket that lives as long as a listener uses it.
#[derive(Debug)]
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
    Udp(std::net::UdpSocket, Leaving),
    UnixDatagram(std::os::unix::net::UnixDatagram, SocketFile, Leaving),
}

/// Whether the last one who receives on a socket is about to close it.
#[derive(Debug, Default)]
pub struct Leaving(Mutex<bool>);

impl Bound {
    /// Makes a socket for datagrams receive nothing more, so that what it has received can be read to its end; `false`
    /// if somebody else receives on it.
    pub fn leave(self: &Arc<Bound>) -> bool {
        let (Bound::Udp(_, Leaving(leaving)) | Bound::UnixDatagram(_, _, Leaving(leaving))) = &**self else {
            return Arc::strong_count(self) == 1;
        };
        let mut leaving = leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(self) > 1 {
            return false;
        }
        *leaving = true;
        drop(leaving);
        let deaf = match &**self {
            Bound::Udp(socket, _) => connect_with_itself(socket),
            Bound::UnixDatagram(socket, ..) => socket.shutdown(std::net::Shutdown::Read),
            Bound::Tcp(_) | Bound::Unix(..) => Ok(()),
        };
        if let Err(error) = deaf {
            warn!(%error, "datagrams that come while a socket is closed may be lost");
        }
        true
    }

    fn is_leaving(&self) -> bool {
        match self {
            Bound::Udp(_, Leaving(leaving)) | Bound::UnixDatagram(_, _, Leaving(leaving)) => {
                *leaving.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Bound::Tcp(_) | Bound::Unix(..) => false,
        }
    }
}

/// Then it hears nobody else, and what is sent to its port goes to a successor on other interfaces.
fn connect_with_itself(socket: &std::net::UdpSocket) -> io::Result<()> {
    let mut address = socket.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    socket.connect(address)
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

impl Key {
    /// Whether the kernel holds the two for one place because one of them is on all interfaces.
    fn overlaps(&self, other: &Key) -> bool {
        match (self, other) {
            (Key::Tcp(a), Key::Tcp(b)) | (Key::Udp(a), Key::Udp(b)) => {
                a != b && a.port() == b.port() && (a.ip().is_unspecified() || b.ip().is_unspecified())
            }
            _ => false,
        }
    }
}

/// While it lives, sockets of this process let a successor have their port: a plan in which both were to stay is no
/// plan. Programs of other users never get it.
struct SharedPort(Vec<Arc<Bound>>);

impl SharedPort {
    fn of(predecessors: Vec<Arc<Bound>>) -> io::Result<SharedPort> {
        let shared = SharedPort(predecessors);
        shared.set(true)?;
        Ok(shared)
    }

    fn set(&self, is_shared: bool) -> io::Result<()> {
        for bound in &self.0 {
            match &**bound {
                Bound::Tcp(socket) => sockopt::set_socket_reuseport(socket, is_shared)?,
                Bound::Udp(socket, _) => sockopt::set_socket_reuseport(socket, is_shared)?,
                Bound::Unix(..) | Bound::UnixDatagram(..) => {}
            }
        }
        Ok(())
    }
}

impl Drop for SharedPort {
    fn drop(&mut self) {
        if let Err(error) = self.set(false) {
            warn!(%error, "a port stays shared until its socket is closed");
        }
    }
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

    /// A socket for one of these that somebody receives on, and goes on receiving: one that is left is closed soon.
    async fn find_open(&self, wanted: &[Key]) -> Option<Arc<Bound>> {
        let find = || wanted.iter().find_map(|key| self.find(key));
        let mut known = find();
        while known.take_if(|bound| bound.is_leaving()).is_some() {
            tokio::time::sleep(LEAVING_PAUSE).await;
            known = find();
        }
        known
    }

    /// Those that keep one of the wanted from being bound, and are no obstacle once they are replaced.
    fn predecessors(&self, wanted: &[Key]) -> Vec<Arc<Bound>> {
        let known = self.lock();
        let overlapping = known.iter().filter(|(key, _)| wanted.iter().any(|wanted| wanted.overlaps(key)));
        overlapping.filter_map(|(_, bound)| bound.upgrade()).collect()
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
        let wanted = keys(address, Key::Tcp).await.map_err(cannot)?;
        if let Some(bound) = wanted.iter().find_map(|key| self.find(key)) {
            return Listener::of(bound).map_err(cannot);
        }
        let predecessors = self.predecessors(&wanted);
        let listener = match address {
            Address::Tcp { host, port } if !predecessors.is_empty() => {
                let _shared = SharedPort::of(predecessors).map_err(cannot)?;
                Listener::bind_shared(host, *port).await.map_err(cannot)?
            }
            _ => Listener::bind(address, SOCKET_MODE).await?,
        };
        if let Bound::Tcp(socket) = &**listener.bound() {
            sockopt::set_socket_reuseport(socket, false).map_err(|error| cannot(error.into()))?;
        }
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
            return Err(format!("`{address}` is not a UDP address"));
        }
        let wanted = keys(address, Key::Udp).await.map_err(cannot)?;
        let bound = match self.find_open(&wanted).await {
            Some(bound) => bound,
            None => {
                let addresses: Vec<SocketAddr> = wanted
                    .iter()
                    .filter_map(|key| if let Key::Udp(address) = key { Some(*address) } else { None })
                    .collect();
                let predecessors = self.predecessors(&wanted);
                let socket = if predecessors.is_empty() {
                    std::net::UdpSocket::bind(&*addresses).map_err(cannot)?
                } else {
                    let _shared = SharedPort::of(predecessors).map_err(cannot)?;
                    bind_shared(&addresses).map_err(cannot)?
                };
                socket.set_nonblocking(true).map_err(cannot)?;
                if let Err(error) = sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_BYTES) {
                    warn!(%error, "the kernel allows no larger buffer");
                }
                let key = Key::Udp(socket.local_addr().map_err(cannot)?);
                let bound = Arc::new(Bound::Udp(socket, Leaving::default()));
                self.keep(key, &bound);
                bound
            }
        };
        let Bound::Udp(socket, _) = &*bound else { return Err(format!("`{address}` is in use for another protocol")) };
        let socket = socket.try_clone().and_then(UdpSocket::from_std).map_err(cannot)?;
        Ok((socket, bound))
    }

    /// Receives datagrams over a Unix socket, for as long as the second part is held. The error is for the operator.
    pub async fn unix_datagrams(&self, path: &Path) -> Result<(UnixDatagram, Arc<Bound>), String> {
        let cannot = |error: io::Error| format!("cannot listen on `unix:{}`: {}", path.display(), reason(&error));
        let bound = match self.find_open(&[Key::Path(path.to_owned())]).await {
            Some(bound) => bound,
            None => {
                let (socket, file) = bind_datagram(path, SOCKET_MODE)?;
                let bound = Arc::new(Bound::UnixDatagram(socket.into_std().map_err(cannot)?, file, Leaving::default()));
                self.keep(Key::Path(path.to_owned()), &bound);
                bound
            }
        };
        let Bound::UnixDatagram(socket, ..) = &*bound else {
            return Err(format!("`unix:{}` is in use for connections", path.display()));
        };
        let socket = socket.try_clone().and_then(UnixDatagram::from_std).map_err(cannot)?;
        Ok((socket, bound))
    }
}

/// The first of the addresses that can be had, on a port that other sockets share.
fn bind_shared(addresses: &[SocketAddr]) -> io::Result<std::net::UdpSocket> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        let bound = net::bind(&socket, address);
        sockopt::set_socket_reuseport(&socket, false)?;
        match bound {
            Ok(()) => return Ok(socket.into()),
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
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

    /// From one interface to all, and back: the kernel holds the two for one place, though only one of them is to stay.
    #[tokio::test]
    async fn a_successor_on_more_or_fewer_interfaces_begins_before_its_predecessor_stops() {
        for (old, new) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "[::]"), ("[::]", "[::1]")]
        {
            let client = if new == "[::1]" { new } else { "127.0.0.1" };
            let sockets = Sockets::default();
            let first = sockets.listen(&format!("{old}:0").parse().unwrap()).await.unwrap();
            let port = first.local_address().unwrap().port();
            let address: Address = format!("{new}:{port}").parse().unwrap();
            let second = sockets.listen(&address).await.unwrap_or_else(|error| panic!("{old} to {new}: {error}"));
            drop(first);
            assert!(TcpStream::connect(format!("{client}:{port}")).await.is_ok(), "{old} to {new}");
            assert!(Listener::bind(&address, SOCKET_MODE).await.is_err(), "nobody else may");
            drop(second);

            let (first, kept) = sockets.udp(&format!("{old}:0").parse().unwrap()).await.unwrap();
            let port = first.local_addr().unwrap().port();
            let address = format!("{new}:{port}").parse().unwrap();
            sockets.udp(&address).await.unwrap_or_else(|error| panic!("UDP, {old} to {new}: {error}"));
            drop((first, kept));
        }
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

    #[tokio::test]
    async fn a_socket_that_is_left_receives_nothing_more_and_can_be_had_again_once_it_is_closed() {
        for (old, new) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")] {
            let client = if new == "[::1]" { "[::1]" } else { "127.0.0.1" };
            let sockets = Arc::new(Sockets::default());
            let (first, kept) = sockets.udp(&format!("{old}:0").parse().unwrap()).await.unwrap();
            let port = first.local_addr().unwrap().port();
            let sender = std::net::UdpSocket::bind(format!("{client}:0")).unwrap();
            sender.send_to(b"1", format!("{client}:{port}")).unwrap();
            let (second, also) = sockets.udp(&format!("{new}:{port}").parse().unwrap()).await.unwrap();
            assert!(kept.leave());
            sender.send_to(b"22", format!("{client}:{port}")).unwrap();
            let mut room = [0; 4];
            first.readable().await.unwrap();
            assert_eq!(first.try_recv(&mut room).unwrap(), 1, "{old}: what came before");
            assert!(first.try_recv(&mut room).is_err(), "{old}: nothing behind it");
            second.readable().await.unwrap();
            assert_eq!(second.try_recv(&mut room).unwrap(), 2, "{old} to {new}: the successor has it");
            let (again, address) = (sockets.clone(), format!("{old}:{port}").parse().unwrap());
            let back = tokio::spawn(async move { again.udp(&address).await.map(drop) });
            tokio::task::yield_now().await;
            drop((first, kept));
            back.await.unwrap().unwrap_or_else(|error| panic!("{old} again: {error}"));
            assert!(also.leave());
        }
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
