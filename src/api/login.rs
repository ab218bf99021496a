//! Login for the page: exchanges a token or a password for a cookie that scripts cannot read.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, ORIGIN, SET_COOKIE};
use serde::Deserialize;
use serde_json::json;

use super::Api;
use super::answer::Answer;
use super::routes::Call;
use crate::net::Principal;
use crate::net::http::Problem;

/// The name of the cookie.
pub const COOKIE: &str = "weir_session";
/// How long a session lasts at most; the token that opened it may end earlier.
pub const SESSION: Duration = Duration::from_secs(8 * 3600);
/// No login is longer.
const MAX_LOGIN: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

pub async fn login(api: &Api, call: Call) -> Result<Answer, Problem> {
    let peer = call.peer;
    // A proxy in front may be the one that speaks TLS. Who says so without one harms only their own cookie.
    let by_proxy = call.request.headers().get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let secure = by_proxy || api.agent.settings.api.tls.is_some();
    let body = Limited::new(call.request.into_body(), MAX_LOGIN).collect().await;
    let body =
        body.map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a login request has at most 16 KiB").closing())?;
    let login: Login = serde_json::from_slice(&body.to_bytes())
        .map_err(|_| Problem::bad_request("expected `{\"token\": …}` or `{\"user\": …, \"password\": …}` as JSON"))?;
    let (who, shown) = match (login.token, login.user, login.password) {
        (Some(token), None, None) => api.access().by_token(&token, peer).await?,
        (None, Some(user), Some(password)) => api.access().by_password(&user, &password, peer).await?,
        _ => return Err(Problem::bad_request("expected either `token`, or `user` and `password`")),
    };
    let (cookie, ends) = api.access().open_session(&shown)?;
    let mut response = me_of(&who, Some(ends)).respond(&HeaderMap::new());
    let flags = if secure { "; Secure" } else { "" };
    let value = format!("{COOKIE}={cookie}; Path={}; HttpOnly; SameSite=Strict{flags}", cookie_path(api));
    response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&value).expect("plain text"));
    Ok(Answer::Response(response))
}

pub async fn logout(api: &Api, call: Call) -> Result<Answer, Problem> {
    api.access().close_session(call.request.headers());
    let mut response = Answer::value(&json!({ "done": true })).respond(&HeaderMap::new());
    let value = format!("{COOKIE}=; Path={}; HttpOnly; SameSite=Strict; Max-Age=0", cookie_path(api));
    response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&value).expect("plain text"));
    Ok(Answer::Response(response))
}

/// A cookie is deleted only under the path under which it was set.
fn cookie_path(api: &Api) -> &str {
    match api.agent.settings.api.base_path.as_str() {
        "" => "/",
        path => path,
    }
}

pub async fn me(_: &Api, call: Call) -> Result<Answer, Problem> {
    Ok(me_of(call.reader(), call.credentials.as_ref().and_then(|shown| shown.expires)))
}

fn me_of(who: &Principal, expires: Option<i64>) -> Answer {
    let expires = expires.map(|seconds| crate::units::Timestamp(seconds * 1_000_000).to_string());
    Answer::value(&json!({ "user": who.name, "role": who.role.as_str(), "expires": expires }))
}

pub async fn ticket(api: &Api, call: Call) -> Result<Answer, Problem> {
    let shown = call.credentials.expect("the route lets nobody in without credentials");
    Ok(Answer::value(&api.access().ticket(shown)))
}

/// Whether a script of the page made the request. No script of another site can send this header: the answer to a
/// browser that asks whether it may does not name it.
pub fn is_by_page(headers: &HeaderMap) -> bool {
    headers.get("x-requested-with").is_some_and(|name| name == "weir-page")
}

/// Whether the request comes from the page itself, and not from another site that a browser has open.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    // Without TLS, browsers send neither header when a page reads from its own origin.
    let Some(origin) = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()) else { return is_by_page(headers) };
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("");
    origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_good_for_the_page_alone() {
        let is_same = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("weir.lan:8686"));
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            is_same_origin(&headers)
        };
        let page = ("x-requested-with", "weir-page");
        assert!(is_same(&[("origin", "http://weir.lan:8686")]));
        assert!(is_same(&[("sec-fetch-site", "same-origin")]));
        assert!(is_same(&[page]));
        assert!(!is_same(&[]));
        assert!(!is_same(&[("x-requested-with", "XMLHttpRequest")]));
        assert!(!is_same(&[page, ("origin", "http://evil.example")]));
        assert!(!is_same(&[page, ("sec-fetch-site", "cross-site")]));
    }
}
