//! Cross-origin requests: which origins are allowed, and the answers to preflight requests.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::net::http::Body;

/// How long a browser need not ask again, in seconds.
const MAX_AGE: &str = "600";
const METHODS: &str = "GET, POST, DELETE";
const HEADERS: &str = "authorization, content-type, content-encoding, idempotency-key, last-event-id, x-api-key";
const EXPOSED: &str = "retry-after";

/// The origin that asks, if it may.
pub fn allowed(headers: &HeaderMap, origins: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// The answer to a browser that asks before it sends what a page wants; `None` for all other requests. Credentials
/// travel in headers, never in cookies, so that nothing more has to be allowed.
pub fn preflight<B>(request: &Request<B>, origin: Option<&HeaderValue>) -> Option<Response<Body>> {
    let asks = request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let origin = origin.filter(|_| asks)?;
    let mut response = Response::new(Body::from(Vec::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    admit(headers, Some(origin.clone()), true);
    Some(response)
}

/// Lets the page read the answer. Where origins are configured at all, caches learn that the answer depends on them.
pub fn admit(headers: &mut HeaderMap, origin: Option<HeaderValue>, any_configured: bool) {
    if any_configured {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, origin: &str) -> Request<()> {
        let request = Request::builder().method(method).header(ORIGIN, origin);
        request.header(ACCESS_CONTROL_REQUEST_METHOD, "POST").body(()).expect("a request")
    }

    #[test]
    fn only_the_origins_that_are_named_may_ask() {
        let origins = ["https://hub.example.org".to_owned()];
        let fine = request("OPTIONS", "https://hub.example.org");
        let origin = allowed(fine.headers(), &origins);
        let answer = preflight(&fine, origin.as_ref()).expect("a preflight");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://hub.example.org");
        for other in ["https://hub.example.org.evil", "http://hub.example.org", "null"] {
            let request = request("OPTIONS", other);
            assert_eq!(allowed(request.headers(), &origins), None);
            assert!(preflight(&request, None).is_none(), "{other}");
        }
        assert!(preflight(&request("GET", "https://hub.example.org"), origin.as_ref()).is_none());
    }
}
