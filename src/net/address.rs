//! Where to listen or connect: `host:port`, or `unix:/path`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path that a Unix socket can have.
const MAX_SOCKET_PATH: usize = 106;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name or an IP address (IPv6 without its brackets), and a port.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl Address {
    /// Whether only programs on this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical().is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).map(Address::Unix);
        }
        let expected = || format!("expected `host:port` or `unix:/path`, found `{text}`");
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| format!("invalid port `{port}`: expected 0 to 65535"))?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(inner) => return Err(format!("invalid IPv6 address `{inner}`")),
            None if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                return Err(format!("write IPv6 addresses in brackets: `[{host}]:{port}`"));
            }
            None => host,
        };
        if host.is_empty() {
            return Err(format!("the host is missing: `127.0.0.1:{port}` for this machine, `0.0.0.0:{port}` for all"));
        }
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            && host.parse::<IpAddr>().is_err()
        {
            return Err(expected());
        }
        Ok(Address::Tcp { host: host.to_owned(), port })
    }
}

/// Whether a Unix socket can have this path. The error is for the operator.
pub fn check_socket_path(path: &Path) -> Result<(), String> {
    match path.as_os_str().len() {
        0..=MAX_SOCKET_PATH => Ok(()),
        len => Err(format!("a socket's path has at most {MAX_SOCKET_PATH} bytes, this one {len}")),
    }
}

fn socket_path(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err("`unix:` is followed by the path of a socket, such as `unix:/run/weir.sock`".into());
    }
    check_socket_path(Path::new(path))?;
    Ok(PathBuf::from(path))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Address {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["127.0.0.1:8687", "unix:/run/weir.sock"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, String> {
        text.parse()
    }

    #[test]
    fn an_address_prints_as_it_was_written() {
        for text in ["127.0.0.1:8687", "localhost:0", "[::1]:80", "unix:/run/weir.sock", "nb-1.example:65535"] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for (text, said) in [
            ("8687", "expected `host:port`"),
            (":8687", "`0.0.0.0:8687` for all"),
            ("::1:80", "`[::1]:80`"),
            ("host:70000", "invalid port `70000`"),
            ("unix:", "the path of a socket"),
            ("http://host:1", "expected `host:port`"),
            (&format!("unix:/{}", "a".repeat(200)), "at most 106 bytes"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("localhost:1", true),
            ("unix:/a", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("nb-1:1", false),
        ] {
            assert_eq!(parse(text).expect(text).is_local(), local, "{text}");
        }
    }
}
