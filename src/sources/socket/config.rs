//! Configuration of the socket source.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Socket;
use crate::codec::Codec;
use crate::codec::framing::Framing;
use crate::component::Check;
use crate::net::address::{Address, check_socket_path};
use crate::net::listen::MAX_CONNECTIONS;
use crate::net::network::Network;
use crate::net::tls;
use crate::units::{ByteSize, Duration};

/// Receives events on a socket, as a stream of frames per connection or as datagrams. Delivery is best effort, since
/// senders get no acknowledgement: while the journal is full nothing is read, and a crash loses what is in the kernel's
/// buffers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Kind of socket.
    #[serde(default)]
    pub mode: Mode,
    /// Address to listen on, `host:port`, for `tcp` and `udp`.
    #[serde(default)]
    pub address: Option<Address>,
    /// Path of the socket, for `unix` and `unix_datagram`.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// How events are separated. Default on streams: `newline`; `auto` for the codec `syslog`, `value` for `msgpack`. A
    /// datagram is one event unless `newline` is set.
    #[serde(default)]
    pub framing: Option<Framing>,
    /// Format of an event.
    #[serde(default)]
    pub codec: Codec,
    /// Accepts TLS connections only.
    #[serde(default)]
    pub tls: Option<tls::Config>,
    /// Maximum number of concurrent connections; further ones are closed.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// Maximum size of a frame. A longer frame is cut there and ends with a note, so that JSON fails to parse and goes to the
    /// dead letters. Default: `limits.event`.
    #[serde(default)]
    pub max_frame: Option<ByteSize>,
    /// How long a connection may be idle before it is closed; unlimited if absent.
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    /// Whether connections start with a PROXY protocol header (version 1 or 2) from one of `trusted_proxies`; others
    /// are closed.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Addresses or networks of proxies whose header is trusted.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Tcp,
    Udp,
    Unix,
    UnixDatagram,
}

/// Where to listen, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Stream(Address),
    Udp(Address),
    UnixDatagram(PathBuf),
}

fn default_max_connections() -> usize {
    MAX_CONNECTIONS
}

impl Config {
    pub fn socket(self, check: &mut Check) -> Option<Socket> {
        let place = self.place(check);
        let is_stream = matches!(self.mode, Mode::Tcp | Mode::Unix);
        let usual = match &self.codec {
            Codec::Syslog(_) => Framing::Auto,
            Codec::Msgpack => Framing::Value,
            _ => Framing::Newline,
        };
        if self.framing == Some(Framing::Value) && self.codec != Codec::Msgpack {
            check.problem("framing", "`value` works only with `codec: msgpack`");
        }
        let framing = if is_stream { Some(self.framing.unwrap_or(usual)) } else { self.framing };
        if !is_stream && !matches!(framing, None | Some(Framing::Newline)) {
            check.problem("framing", "not for datagrams: omit it, or use `newline` for several lines in one datagram");
        }
        if !is_stream && self.tls.is_some() {
            check.problem("tls", "TLS is not supported for datagrams");
        }
        match (self.proxy_protocol, self.mode) {
            (true, Mode::Udp | Mode::UnixDatagram) => {
                check.problem("proxy_protocol", "not supported for datagrams");
            }
            (true, Mode::Tcp) if self.trusted_proxies.is_empty() => {
                let hint = "such as `trusted_proxies: [10.0.0.0/8]`; otherwise any sender could forge its address";
                check.problem_with_hint("proxy_protocol", "`trusted_proxies` is required", hint);
            }
            (false, _) if !self.trusted_proxies.is_empty() => {
                check.problem("trusted_proxies", "has no effect without `proxy_protocol: true`");
            }
            _ => {}
        }
        if self.max_connections == 0 {
            check.problem("max_connections", "expected at least 1");
        }
        if self.max_frame.is_some_and(|most| most.0 == 0) {
            check.problem("max_frame", "expected at least 1 byte");
        }
        crate::sources::check_codec(&self.codec, framing.unwrap_or(Framing::Length), check);
        if check.problems.has_errors() {
            return None;
        }
        Some(Socket {
            place: place?,
            decoder: Arc::from(self.codec.decoder()),
            framing,
            tls: self.tls,
            max_connections: self.max_connections,
            frame_bytes: self.max_frame.map(|most| most.0.min(u64::from(u32::MAX / 2)) as usize),
            idle_timeout: self.idle_timeout.map(|timeout| *timeout),
            proxies: self.proxy_protocol.then(|| self.trusted_proxies.into()),
        })
    }

    fn place(&self, check: &mut Check) -> Option<Place> {
        let wants_path = matches!(self.mode, Mode::Unix | Mode::UnixDatagram);
        let path = match (&self.address, &self.path) {
            (None, Some(path)) => Some(path.clone()),
            (Some(Address::Unix(path)), None) => Some(path.clone()),
            _ => None,
        };
        if let Some(Err(wrong)) = self.path.as_deref().map(check_socket_path) {
            check.problem("path", wrong);
        }
        match (self.mode, path, &self.address) {
            (Mode::Unix, Some(path), _) => Some(Place::Stream(Address::Unix(path))),
            (Mode::UnixDatagram, Some(path), _) => Some(Place::UnixDatagram(path)),
            (Mode::Tcp, None, Some(address @ Address::Tcp { .. })) if self.path.is_none() => {
                Some(Place::Stream(address.clone()))
            }
            (Mode::Udp, None, Some(address @ Address::Tcp { .. })) if self.path.is_none() => {
                Some(Place::Udp(address.clone()))
            }
            _ if wants_path => {
                check.problem_with_hint(
                    "path",
                    "this mode needs `path` instead of `address`",
                    "such as `/run/weir/events.sock`",
                );
                None
            }
            _ => {
                check.problem_with_hint(
                    "address",
                    "this mode needs `address` instead of `path`",
                    "such as `127.0.0.1:9000`",
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: serde_json::Value) -> Vec<String> {
        let mut check = Check::new("in", "/tmp", true);
        let config: Config = serde_json::from_value(config).unwrap();
        let socket = config.socket(&mut check);
        let places: Vec<String> = check.problems.iter().map(|problem| problem.path.clone()).collect();
        assert_eq!(socket.is_none(), !places.is_empty());
        places
    }

    #[test]
    fn a_socket_says_what_does_not_fit() {
        assert!(problems(serde_json::json!({"address": "127.0.0.1:0"})).is_empty());
        assert!(problems(serde_json::json!({"mode": "unix", "path": "/run/x.sock", "framing": "octet"})).is_empty());
        let long = format!("/run/{}.sock", "x".repeat(120));
        assert_eq!(problems(serde_json::json!({"mode": "unix_datagram", "path": long})), ["path"]);
        assert!(problems(serde_json::json!({"mode": "unix", "address": "unix:/run/x.sock"})).is_empty());
        assert_eq!(problems(serde_json::json!({"mode": "udp", "path": "/run/x"})), ["address"]);
        assert_eq!(problems(serde_json::json!({"mode": "unix", "address": "127.0.0.1:0"})), ["path"]);
        let datagrams = serde_json::json!({"mode": "udp", "address": "[::1]:0", "framing": "octet",
            "tls": {"cert": "a", "key": "b"}, "max_frame": "0 B"});
        assert_eq!(problems(datagrams), ["framing", "tls", "max_frame"]);
        assert!(problems(serde_json::json!({"address": "127.0.0.1:0", "codec": "msgpack"})).is_empty());
        let lines = serde_json::json!({"address": "127.0.0.1:0", "codec": "msgpack", "framing": "newline"});
        assert_eq!(problems(lines), ["codec"]);
        assert_eq!(problems(serde_json::json!({"address": "127.0.0.1:0", "framing": "value"})), ["framing"]);
    }
}
