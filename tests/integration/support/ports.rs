//! Ports for agents: each is given once, and stays free for its agent while that is away.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Below the range from which a system gives ports to whoever asks for any, outgoing connections among them, and beside
/// those of the servers that `tests/services/run` starts.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Ports that are taken at once.
const BLOCK: u16 = 50;

/// Ports that are this process's while the socket is held: another process that runs tests takes others.
struct Block {
    _held: UnixListener,
    left: std::ops::Range<u16>,
}

/// A port that no other test gets. One that was only found free could be somebody else's before its agent listens there, or
/// while the agent is away between two lives.
pub fn free_port() -> u16 {
    // All blocks are held to the end, so that no port is given twice.
    static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let mut blocks = BLOCKS.lock().expect("no panic");
    loop {
        match blocks.last_mut().and_then(|block| block.left.next()) {
            Some(port) if is_free(port) => return port,
            Some(_) => {}
            None => blocks.push(free_block()),
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
}

/// Blocks have names in the system's abstract namespace, which forgets them with the process.
fn free_block() -> Block {
    let held = PORTS.step_by(BLOCK.into()).find_map(|first| {
        let name = SocketAddr::from_abstract_name(format!("weir-test-ports-{first}")).expect("a short name");
        let held = UnixListener::bind_addr(&name).ok()?;
        Some(Block { _held: held, left: first..first + BLOCK })
    });
    held.expect("a block of ports is free")
}
