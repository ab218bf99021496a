//! Checks `Host` and `Origin`, so that other web sites cannot use an agent on their visitor's machine.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN};

/// Whether the page of another site asks. `allowed` are origins that may.
pub fn is_foreign(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        let site = headers.get("sec-fetch-site");
        return site.is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    };
    if allowed.iter().any(|known| known.as_bytes() == origin.as_bytes()) {
        return false;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    !origin.is_some_and(|(_, rest)| !host.is_empty() && rest.eq_ignore_ascii_case(host))
}

/// Whether the request names a host that is not this one: somebody's domain that was made to point here. An address
/// cannot be made to point elsewhere, and a name without a dot is no domain.
pub fn is_rebound(headers: &HeaderMap, hosts: &[String]) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let is_plain = name.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost");
    !is_plain && !hosts.iter().any(|known| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_a_page_of_this_host_is_not_foreign() {
        let asks = |origin, host| {
            is_foreign(&headers(&[(ORIGIN, origin), (HOST, host)]), &["https://hub.example.org".to_owned()])
        };
        assert!(!asks("http://127.0.0.1:8687", "127.0.0.1:8687"));
        assert!(!asks("https://hub.example.org", "127.0.0.1:8687"));
        assert!(asks("https://evil.example", "127.0.0.1:8687"));
        assert!(asks("null", "127.0.0.1:8687"));
        assert!(!is_foreign(&headers(&[(HOST, "x")]), &[]), "a program says nothing");
        for (site, foreign) in [("same-origin", false), ("none", false), ("same-site", true), ("cross-site", true)] {
            let headers = headers(&[(HOST, "x"), (HeaderName::from_static("sec-fetch-site"), site)]);
            assert_eq!(is_foreign(&headers, &[]), foreign, "{site}");
        }
    }

    #[test]
    fn a_domain_that_points_here_is_not_this_host() {
        let rebound = |host| is_rebound(&headers(&[(HOST, host)]), &["weir.example.org".to_owned()]);
        for host in ["localhost:8686", "127.0.0.1:8686", "[::1]:8686", "weir", "weir.example.org", "a.localhost"] {
            assert!(!rebound(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8686", "127.0.0.1.evil.example"] {
            assert!(rebound(host), "{host}");
        }
    }
}
