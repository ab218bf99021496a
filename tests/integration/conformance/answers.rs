//! What can go wrong with a server that speaks HTTP: the wire, each status with good, bad and unreadable bodies, each
//! form of `Retry-After`, and events that it refuses.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::{ROUND, Trouble};
use crate::support::proxy::{self, Proxy};

#[derive(Clone, Debug)]
pub enum Kind {
    Wire(proxy::Fault),
    /// Every request is answered so, and nothing is taken.
    Answer(Canned),
    /// These events of each round are refused, and what came with them.
    Refuses(Which),
    /// Something that only this target can do.
    Own(&'static str),
}

#[derive(Clone, Debug)]
pub struct Canned {
    pub status: u16,
    pub body: &'static str,
    pub retry_after: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub enum Which {
    First,
    Middle,
    Last,
    MostOf,
    All,
}

impl Which {
    pub fn refuses(self, n: u64) -> bool {
        match self {
            Which::First => n.is_multiple_of(ROUND),
            Which::Middle => n % ROUND == 7,
            Which::Last => n % ROUND == ROUND - 1,
            Which::MostOf => n % ROUND < 13,
            Which::All => true,
        }
    }
}

/// Statuses that say that something is wrong with the request, so that its events may become dead letters.
const OF_REQUESTS: [u16; 5] = [400, 413, 414, 422, 431];
const STATUSES: &[u16] = &[
    301, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 414, 415, 422, 425, 429, 431, 451, 500, 501, 502, 503, 504,
    507,
];
const BODIES: &[&str] = &["", "<html>no</html>", "{\"error\":{\"type\":\"x\",\"rea", "\u{0}\u{1b}[2J\r\nsecret-of-"];
const RETRY_AFTER: &[&str] = &["0", "1", "-1", "0.5", "soon", "", "Sun, 06 Nov 1994 08:49:37 GMT"];

pub fn troubles(own: &[(&'static str, bool)]) -> Vec<Trouble<Kind>> {
    let mut troubles = Vec::new();
    let mut add = |kind: Kind, is_state: bool| troubles.push(Trouble { name: format!("{kind:?}"), kind, is_state });
    for fault in proxy::Fault::all(Duration::from_millis(150)) {
        add(Kind::Wire(fault), true);
    }
    for (nth, status) in STATUSES.iter().enumerate() {
        let canned = Canned { status: *status, body: BODIES[nth % BODIES.len()], retry_after: None };
        add(Kind::Answer(canned), !OF_REQUESTS.contains(status));
    }
    for (nth, text) in RETRY_AFTER.iter().enumerate() {
        let status = if nth % 2 == 0 { 429 } else { 503 };
        add(Kind::Answer(Canned { status, body: "busy", retry_after: Some(text) }), true);
    }
    for which in [Which::First, Which::Middle, Which::Last, Which::MostOf, Which::All] {
        add(Kind::Refuses(which), false);
    }
    for (name, is_state) in own {
        add(Kind::Own(name), *is_state);
    }
    troubles
}

/// What is wrong at the moment, with the proxy in front of the server.
pub struct Now {
    kind: Mutex<Option<Kind>>,
    proxy: Mutex<Option<Proxy>>,
}

impl Now {
    pub fn new() -> Now {
        Now { kind: Mutex::default(), proxy: Mutex::default() }
    }

    /// Puts a proxy in front of a server and gives its port.
    pub fn before(&self, port: u16) -> u16 {
        let proxy = Proxy::before(&format!("127.0.0.1:{port}"));
        let port = proxy.port;
        *self.proxy.lock().expect("no panic") = Some(proxy);
        port
    }

    pub fn kind(&self) -> MutexGuard<'_, Option<Kind>> {
        self.kind.lock().expect("no panic")
    }

    pub fn begin(&self, kind: &Kind) {
        *self.kind() = Some(kind.clone());
        if let Kind::Wire(fault) = kind {
            self.wire(*fault);
        }
    }

    pub fn heal(&self) {
        *self.kind() = None;
        self.wire(proxy::Fault::None);
    }

    fn wire(&self, fault: proxy::Fault) {
        if let Some(proxy) = &*self.proxy.lock().expect("no panic") {
            proxy.set(fault);
        }
    }
}
