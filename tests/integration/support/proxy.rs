//! A TCP proxy with faults on demand: slow, silent, torn, or an answer that is lost behind what was done.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the proxy does with what it carries. A change holds for connections that are open, too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Carries everything.
    None,
    /// Waits so long before it passes on each piece of an answer.
    Slow(Duration),
    /// Takes everything and passes nothing on, either way.
    BlackHole,
    /// Closes every connection, and each new one at once.
    Refuse,
    /// Passes requests on and loses the answers: the connection ends when the first byte of one comes.
    LoseAnswers,
    /// The server is killed at this moment: everything ends, and nothing listens until the fault is another.
    Dies(Moment),
}

impl Fault {
    /// Everything that can go wrong on the wire; a slow one waits so long.
    pub fn all(slow: Duration) -> [Fault; 6] {
        [
            Fault::Refuse,
            Fault::BlackHole,
            Fault::Slow(slow),
            Fault::LoseAnswers,
            Fault::Dies(Moment::InRequest),
            Fault::Dies(Moment::BeforeAnswer),
        ]
    }
}

/// When a server is killed, as its clients see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// It has a part of a request.
    InRequest,
    /// It has done what was asked, and has not said so.
    BeforeAnswer,
}

/// A proxy in front of one address; ends with the test.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    fault: Mutex<Fault>,
    /// Answers that may still pass before `LoseAnswers` begins.
    spared: AtomicUsize,
    lost: AtomicU64,
}

impl Proxy {
    /// `upstream` is `host:port`.
    pub fn before(upstream: &str) -> Proxy {
        Proxy::on(0, upstream)
    }

    /// On a port that the server sends its clients to.
    pub fn on(port: u16, upstream: &str) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            fault: Mutex::new(Fault::None),
            spared: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = accepting.clone();
                thread::spawn(move || shared.serve(client));
            }
        });
        Proxy { port, shared }
    }

    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().expect("no panic") = fault;
    }

    /// Loses answers after so many pieces have passed, on any connection.
    pub fn lose_answers_after(&self, pieces: usize) {
        self.shared.spared.store(pieces, Ordering::SeqCst);
        self.set(Fault::LoseAnswers);
    }

    /// Answers that were lost so far, and servers that died.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().expect("no panic")
    }

    fn serve(self: Arc<Self>, client: TcpStream) {
        if self.fault() == Fault::Refuse {
            return;
        }
        let Ok(server) = TcpStream::connect(&self.upstream) else { return };
        let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else { return };
        let (Ok(from_server), Ok(to_server)) = (server.try_clone(), server.try_clone()) else { return };
        let there = self.clone();
        thread::spawn(move || there.carry(from_client, to_server, false));
        self.carry(from_server, to_client, true);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        // Short waits, so that a change of the fault reaches connections at rest.
        let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if self.fault() == Fault::Refuse {
                        break;
                    }
                    continue;
                }
                Err(_) => break,
            };
            match self.fault() {
                Fault::BlackHole => continue,
                Fault::Refuse => break,
                Fault::LoseAnswers if is_answer && !self.spare() => {
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Fault::Dies(Moment::InRequest) if !is_answer => {
                    self.die();
                    // Whether the server gets this much, or nothing, is all the same.
                    let _ = to.write_all(&piece[..read / 2]);
                    break;
                }
                Fault::Dies(Moment::BeforeAnswer) if is_answer => {
                    self.die();
                    break;
                }
                Fault::Slow(wait) if is_answer => thread::sleep(wait),
                _ => {}
            }
            if to.write_all(&piece[..read]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn die(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
        *self.fault.lock().expect("no panic") = Fault::Refuse;
    }

    fn spare(&self) -> bool {
        self.spared.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}
