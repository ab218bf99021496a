//! The page at the root of the API: one HTML document with its modules and styles.

mod bundle;
mod comments;
mod files;

use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, LOCATION};
use hyper::{Response, StatusCode, Uri};

use super::Api;
use super::answer::Answer;
use super::routes::Call;
use crate::net::http::{Body, Problem};
pub use bundle::Page;

/// What the document may do: run its own modules, and speak to its own origin. `trusted-types 'none'` leaves no way at
/// all from a text to markup or to a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(&str, &str); 4] = [
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// The base path without a slash at its end leads to the one with it, below which the page finds its files.
pub fn folder_of(asked: &Uri, base: &str) -> Option<Response<Body>> {
    let base = base.trim_end_matches('/');
    if base.is_empty() || asked.path() != base {
        return None;
    }
    let query = asked.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(Body::from(Vec::new()));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(&format!("{base}/{query}")).ok()?);
    Some(response)
}

pub async fn document(api: &Api, call: Call) -> Result<Answer, Problem> {
    let body = api.page.current().document();
    let answer = Answer::with_type("text/html; charset=utf-8", body);
    let mut response = answer.respond(call.request.headers());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // The document names the version of all else, so a browser asks for it each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Ok(Answer::Response(response))
}

/// `/ui/{version}/{file}` and `/ui/{version}/{folder}/{file}`. A version never changes, so a browser keeps its files.
pub async fn asset(api: &Api, call: Call) -> Result<Answer, Problem> {
    let bundle = api.page.current();
    let (version, name) = (&call.path[0], call.path[1..].join("/"));
    let found = (*version == bundle.version).then(|| bundle.asset(&name)).flatten();
    let asset = found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such file in this version"))?;
    Ok(Answer::Response(asset.respond(call.request.headers())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_without_its_slash_leads_to_the_page() {
        let moved = |asked: &str, base: &str| {
            let response = folder_of(&asked.parse().expect("an address"), base)?;
            Some(response.headers()[LOCATION].to_str().expect("text").to_owned())
        };
        assert_eq!(moved("/weir?token=x", "/weir").as_deref(), Some("/weir/?token=x"));
        assert_eq!(moved("/weir", "/weir/").as_deref(), Some("/weir/"));
        for (asked, base) in [("/weir/", "/weir"), ("/", ""), ("/weirs", "/weir"), ("//evil.example", "")] {
            assert_eq!(moved(asked, base), None, "{asked}");
        }
    }
}
