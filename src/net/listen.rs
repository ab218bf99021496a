//! Listeners: bind an address and accept connections while the agent runs, even without free descriptors.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, UnixDatagram, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::address::Address;
use super::network::Network;
use super::proxy_protocol;
use super::sockets::Bound;
use super::wire::Stream;

/// Default number of connections of one listener.
pub const MAX_CONNECTIONS: usize = 10_000;
/// Default permissions of a Unix socket: this user alone.
pub const SOCKET_MODE: u32 = 0o600;
/// Connections the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is said that connections are closed for being too many.
const SAY_CLOSED_EVERY: Duration = Duration::from_secs(10);
/// A peer that has vanished is noticed after 60 s and three probes: within 90 s.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// A bound address. The socket closes, and the file of a Unix socket goes, with the last listener on it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    bound: Arc<Bound>,
    /// Whose header of the PROXY protocol is believed, where every connection begins with one.
    proxies: Option<Arc<[Network]>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds. The error is for the operator.
    pub async fn bind(address: &Address, socket_mode: u32) -> Result<Listener, String> {
        let bound = match address {
            Address::Tcp { host, port } => bind_tcp(host, *port, false).await,
            Address::Unix(path) => bind_unix(path, socket_mode),
        };
        let listener = bound.and_then(|bound| Listener::of(Arc::new(bound)));
        listener.map_err(|error| format!("cannot listen on `{address}`: {}", reason(&error)))
    }

    /// Binds a port that sockets of this process have on other interfaces and [share](super::sockets).
    pub async fn bind_shared(host: &str, port: u16) -> io::Result<Listener> {
        Listener::of(Arc::new(bind_tcp(host, port, true).await?))
    }

    /// Listens on a socket that is bound already.
    pub fn of(bound: Arc<Bound>) -> io::Result<Listener> {
        let socket = match &*bound {
            Bound::Tcp(tcp) => Socket::Tcp(TcpListener::from_std(tcp.try_clone()?)?),
            Bound::Unix(unix, _) => Socket::Unix(UnixListener::from_std(unix.try_clone()?)?),
            Bound::Udp(..) | Bound::UnixDatagram(..) => return Err(io::Error::from(io::ErrorKind::AddrInUse)),
        };
        Ok(Listener { socket, bound, proxies: None })
    }

    /// Every connection begins with a header of the PROXY protocol, which is believed if it comes from these.
    pub fn behind_proxies(self, trusted: Option<Arc<[Network]>>) -> Listener {
        Listener { proxies: trusted, ..self }
    }

    pub fn bound(&self) -> &Arc<Bound> {
        &self.bound
    }

    /// The address of a TCP socket.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Socket::Tcp(tcp) => tcp.local_addr(),
            Socket::Unix(_) => Err(io::Error::from(io::ErrorKind::AddrNotAvailable)),
        }
    }

    /// The address it listens on, with the actual port if port 0 was asked for.
    pub fn address(&self) -> io::Result<Address> {
        match &*self.bound {
            Bound::Unix(_, file) | Bound::UnixDatagram(_, file, _) => Ok(Address::Unix(file.path.clone())),
            Bound::Tcp(_) | Bound::Udp(..) => {
                let bound = self.local_address()?;
                Ok(Address::Tcp { host: bound.ip().to_string(), port: bound.port() })
            }
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match &self.socket {
            Socket::Tcp(tcp) => {
                let (stream, peer) = tcp.accept().await?;
                over_tcp(stream, peer)
            }
            Socket::Unix(unix) => unix.accept().await.map(|(stream, _)| (Stream::Unix(stream), None)),
        }
    }

    /// A connection that the kernel has accepted and that would be reset when the socket closes. `None` if there is
    /// none, or if a successor accepts on from the same socket.
    fn accept_left(&self) -> Option<io::Result<(Stream, Option<IpAddr>)>> {
        if Arc::strong_count(&self.bound) > 1 {
            return None;
        }
        let accepted = match &*self.bound {
            Bound::Tcp(tcp) => tcp.accept().and_then(|(stream, peer)| {
                stream.set_nonblocking(true)?;
                over_tcp(tokio::net::TcpStream::from_std(stream)?, peer)
            }),
            Bound::Unix(unix, _) => unix.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(tokio::net::UnixStream::from_std(stream)?), None))
            }),
            Bound::Udp(..) | Bound::UnixDatagram(..) => return None,
        };
        (!matches!(&accepted, Err(error) if error.kind() == io::ErrorKind::WouldBlock)).then_some(accepted)
    }
}

fn over_tcp(stream: tokio::net::TcpStream, peer: SocketAddr) -> io::Result<(Stream, Option<IpAddr>)> {
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    Ok((Stream::Tcp(stream), Some(peer.ip().to_canonical())))
}

fn keep_alive(stream: &tokio::net::TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

async fn bind_tcp(host: &str, port: u16, is_shared: bool) -> io::Result<Bound> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(is_shared)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(Bound::Tcp(listener.into_std()?)),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Binds a Unix socket for datagrams. The error is for the operator.
pub fn bind_datagram(path: &Path, mode: u32) -> Result<(UnixDatagram, SocketFile), String> {
    let bound = bind_file(
        path,
        mode,
        |path| UnixDatagram::bind(path),
        |path| std::os::unix::net::UnixDatagram::unbound()?.connect(path),
    );
    bound.map_err(|error| format!("cannot listen on `unix:{}`: {}", path.display(), reason(&error)))
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<Bound> {
    let connect = |path: &Path| std::os::unix::net::UnixStream::connect(path).map(drop);
    let (listener, file) = bind_file(path, mode, |path| UnixListener::bind(path), connect)?;
    Ok(Bound::Unix(listener.into_std()?, file))
}

type Connect = fn(&Path) -> io::Result<()>;

/// Binds beside the path and renames, so that the file never exists there with too wide a mode.
fn bind_file<S>(
    path: &Path,
    mode: u32,
    bind: fn(&Path) -> io::Result<S>,
    connect: Connect,
) -> io::Result<(S, SocketFile)> {
    refuse_foreign(path, connect)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    let beside = PathBuf::from(beside);
    refuse_foreign(&beside, connect)?;
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = bind(&beside)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
    fs::rename(&beside, path)?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok((socket, SocketFile { path: path.to_owned(), inode }))
}

/// An error unless the path is free or holds a stale socket.
fn refuse_foreign(path: &Path, connect: Connect) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?.file_type(),
    };
    if !kind.is_socket() {
        return Err(io::Error::other("a file that is not a socket is in its place"));
    }
    match connect(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
    }
}

/// The words of an operating system's error, as our messages are written.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "not an address of this machine".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::NotFound if error.raw_os_error().is_some() => "no such file or folder".into(),
        _ => error.to_string().to_lowercase(),
    }
}

/// The file of a Unix socket; removed when dropped, unless another agent has taken the path over.
#[derive(Debug)]
pub struct SocketFile {
    pub(super) path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// A connection; its slot is free again when the permit is dropped.
pub struct Accepted {
    pub stream: Stream,
    /// Where it comes from; absent on Unix sockets.
    pub peer: Option<IpAddr>,
    pub permit: OwnedSemaphorePermit,
    pub(super) proxies: Option<Arc<[Network]>>,
}

impl Accepted {
    /// The connection with the peer that a proxy names, where proxies stand in front. Anybody else who connects there is
    /// refused: what such a one says of a peer could be anything.
    pub async fn by_proxy(mut self) -> Result<Accepted, (Option<IpAddr>, String)> {
        let Some(trusted) = self.proxies.take() else { return Ok(self) };
        if let Some(peer) = self.peer.filter(|peer| !trusted.iter().any(|network| network.contains(*peer))) {
            return Err((Some(peer), "the peer is not one of `trusted_proxies`".into()));
        }
        match proxy_protocol::read(&mut self.stream).await {
            Ok(named) => Ok(Accepted { peer: named.or(self.peer), ..self }),
            Err(reason) => Err((self.peer, reason)),
        }
    }
}

/// Accepts connections up to a limit, until it is stopped; then those that the kernel has accepted by that time.
pub struct Acceptor {
    listener: Listener,
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
    /// How many may still be taken after the stop: no more than the kernel's queue holds.
    left: u32,
    /// Connections that were closed and not said to be, and when some last were.
    closed: (u64, Option<Instant>),
}

impl Acceptor {
    pub fn new(listener: Listener, max_connections: usize, shutdown: CancellationToken) -> Acceptor {
        Acceptor {
            listener,
            slots: Arc::new(Semaphore::new(max_connections)),
            shutdown,
            left: BACKLOG,
            closed: (0, None),
        }
    }

    /// Says that there are too many connections, and not for each of a flood.
    fn closed_one(&mut self) {
        let (closed, said) = &mut self.closed;
        *closed += 1;
        if said.is_some_and(|said| said.elapsed() < SAY_CLOSED_EVERY) {
            return;
        }
        let address = self.listener.address().map_or_else(|error| error.to_string(), |address| address.to_string());
        warn!(address, closed, "too many connections: some were closed; raise `max_connections` if they are wanted");
        self.closed = (0, Some(Instant::now()));
    }

    /// The next connection, or `None` once it is stopped and nobody waits. Errors of accepting are said and survived;
    /// a connection beyond the cap is closed at once.
    pub async fn next(&mut self) -> Option<Accepted> {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    self.left = self.left.checked_sub(1)?;
                    self.listener.accept_left()?
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => match self.slots.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let proxies = self.listener.proxies.clone();
                        return Some(Accepted { stream, peer, permit, proxies });
                    }
                    Err(_) => self.closed_one(),
                },
                Err(error) if wants_a_pause(&error) => {
                    warn!(%error, "cannot accept connections");
                    tokio::select! {
                        () = self.shutdown.cancelled() => return None,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
                // The connection went away between the kernel's hands and ours.
                Err(_) => {}
            }
        }
    }
}

/// Whether an error of accept comes again at once: no descriptors, no memory.
fn wants_a_pause(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let again = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PERM];
    error.raw_os_error().is_some_and(|code| again.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpStream, UnixStream};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("weir-listen-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        folder
    }

    #[tokio::test]
    async fn a_port_in_use_is_said_in_the_operators_words() {
        let first = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let taken = first.local_addr().expect("bound").to_string();
        let error = Listener::bind(&taken.parse().expect("an address"), SOCKET_MODE).await.expect_err("it is taken");
        assert_eq!(error, format!("cannot listen on `{taken}`: address already in use"));
    }

    #[tokio::test]
    async fn a_socket_is_private_replaces_a_dead_one_and_goes_with_its_listener() {
        let path = folder("stale").join("weir.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that nobody listens on stays behind"));
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address, SOCKET_MODE).await.expect("the stale socket is replaced");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        let error = Listener::bind(&address, SOCKET_MODE).await.expect_err("somebody listens");
        assert!(error.ends_with("address already in use"), "{error}");
        UnixStream::connect(&path).await.expect("the renamed socket can be reached");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let path = folder("file").join("notes.txt");
        fs::write(&path, "precious").expect("the folder can be written");
        let error = Listener::bind(&Address::Unix(path.clone()), SOCKET_MODE).await.expect_err("it is a file");
        assert!(error.ends_with("a file that is not a socket is in its place"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    }

    #[tokio::test]
    async fn connections_beyond_the_cap_are_closed_at_once() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(&address, SOCKET_MODE).await.expect("a free port");
        let at = listener.address().expect("bound").to_string();
        let stop = CancellationToken::new();
        let mut acceptor = Acceptor::new(listener, 1, stop.clone());
        let _first = TcpStream::connect(&at).await.expect("connected");
        let held = acceptor.next().await.expect("within the cap");
        let mut second = TcpStream::connect(&at).await.expect("connected");
        let waiting = tokio::spawn(async move { acceptor.next().await.is_none() });
        assert_eq!(second.read(&mut [0]).await.expect("an orderly close"), 0);
        stop.cancel();
        assert!(waiting.await.expect("no panic"));
        drop(held);
    }

    #[test]
    fn running_out_of_descriptors_asks_for_a_pause_and_a_reset_does_not() {
        let of = |errno: rustix::io::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        assert!(wants_a_pause(&of(rustix::io::Errno::MFILE)));
        assert!(!wants_a_pause(&of(rustix::io::Errno::CONNABORTED)));
    }
}
