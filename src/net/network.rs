//! Networks: trusted address ranges, and the client address behind a trusted proxy.

use std::borrow::Cow;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::HeaderMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The headers in which proxies name the client.
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED: &str = "forwarded";
/// Proxies in a row that are looked at.
const MAX_HOPS: usize = 16;

/// An address, or all that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An IPv4 address in IPv6's clothes counts as IPv4.
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ ip.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ ip.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

/// Whether a request came through a proxy that nobody trusts, or one that does not say for whom it asks: the client is
/// then unknown, and not local.
pub fn is_by_unknown_proxy(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> bool {
    let is_forwarded = headers.contains_key(FORWARDED_FOR) || headers.contains_key(FORWARDED);
    is_forwarded && forwarded(peer, headers, trusted).is_none()
}

/// The client: the peer itself or, if that is a trusted proxy, the last address not added by one.
/// What cannot be read is not believed: then it is the proxy that asks.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    forwarded(peer, headers, trusted).unwrap_or(peer)
}

/// For whom a trusted proxy asks, if it says so in a way that can be read.
fn forwarded(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    if !is_trusted(peer) {
        return None;
    }
    let mut asks = None;
    let lines: Vec<Option<&str>> = headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().ok()).collect();
    for hop in lines.iter().rev().flat_map(|line| line.unwrap_or("?").rsplit(',')).take(MAX_HOPS) {
        let ip = hop.trim().parse::<IpAddr>().ok()?.to_canonical();
        asks = Some(ip);
        if !is_trusted(ip) {
            break;
        }
    }
    asks
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || format!("expected an address or a network such as `10.0.0.0/8`, got `{text}`");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = address.parse::<IpAddr>().map_err(|_| wrong())?.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > most { Err(wrong()) } else { Ok(Network { address, bits }) }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Network {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "examples": ["10.0.0.0/8", "::1"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_network_has_what_begins_with_its_bits() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "::ffff:10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            assert!(network(text).contains(ip(inside)), "{text} {inside}");
            assert!(!network(text).contains(ip(outside)), "{text} {outside}");
        }
        for text in ["", "proxy", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_a_trusted_proxy_says_is_believed() {
        let trusted = [network("127.0.0.1"), network("10.0.0.0/8")];
        let asks = |peer: &str, said: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in said {
                headers.append(FORWARDED_FOR, line.parse().expect("a header"));
            }
            client(ip(peer), &headers, &trusted).to_string()
        };
        assert_eq!(asks("203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(asks("127.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(asks("127.0.0.1", &["9.9.9.9, 1.2.3.4, 10.1.1.1"]), "1.2.3.4");
        assert_eq!(asks("127.0.0.1", &["9.9.9.9", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(asks("127.0.0.1", &["1.2.3.4, nonsense"]), "127.0.0.1");
        assert_eq!(asks("127.0.0.1", &[]), "127.0.0.1");
    }

    #[test]
    fn whoever_a_proxy_does_not_name_is_unknown() {
        let trusted = [network("127.0.0.1"), network("10.0.0.0/8")];
        let is_unknown = |peer: &str, said: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in said {
                headers.append(*name, value.parse().expect("a header"));
            }
            is_by_unknown_proxy(ip(peer), &headers, &trusted)
        };
        assert!(!is_unknown("127.0.0.1", &[]));
        assert!(!is_unknown("127.0.0.1", &[("x-forwarded-for", "8.8.8.8")]));
        assert!(!is_unknown("127.0.0.1", &[("x-forwarded-for", "8.8.8.8, 10.0.0.7"), ("forwarded", "for=8.8.8.8")]));
        for said in [
            ("x-forwarded-for", "garbage"),
            ("x-forwarded-for", "unknown, 10.0.0.7"),
            ("x-forwarded-for", ""),
            ("x-forwarded-for", "8.8.8.8:1234"),
            ("forwarded", "for=8.8.8.8"),
        ] {
            assert!(is_unknown("127.0.0.1", &[said]), "{said:?}");
        }
        assert!(is_unknown("203.0.113.9", &[("x-forwarded-for", "8.8.8.8")]));
    }
}
