//! The session of the page: a token or a password is traded for a cookie that scripts cannot read.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, ORIGIN, SET_COOKIE};
use serde::Deserialize;
use serde_json::json;

use super::Api;
use super::access::Reader;
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
    let secure = api.agent.settings.api.tls.is_some();
    let body = Limited::new(call.request.into_body(), MAX_LOGIN).collect().await;
    let body = body.map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a login is at most 16 KiB").closing())?;
    let login: Login = serde_json::from_slice(&body.to_bytes())
        .map_err(|_| Problem::bad_request("expected `{\"token\": …}` or `{\"user\": …, \"password\": …}` as JSON"))?;
    let (who, expires) = match (login.token, login.user, login.password) {
        (Some(token), None, None) => api.access().by_token(&token, peer).await?,
        (None, Some(user), Some(password)) => (api.access().by_password(&user, &password, peer).await?, None),
        _ => return Err(Problem::bad_request("expected either `token`, or `user` and `password`")),
    };
    let (cookie, ends) = api.access().open_session(&who, expires);
    let mut response = me_of(&who, Some(ends)).respond(&HeaderMap::new());
    let flags = if secure { "; Secure" } else { "" };
    let path = match api.agent.settings.api.base_path.as_str() {
        "" => "/",
        path => path,
    };
    let value = format!("{COOKIE}={cookie}; Path={path}; HttpOnly; SameSite=Strict{flags}");
    response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&value).expect("plain text"));
    Ok(Answer::Response(response))
}

pub async fn logout(api: &Api, call: Call) -> Result<Answer, Problem> {
    api.access().close_session(call.request.headers());
    let mut response = Answer::value(&json!({ "done": true })).respond(&HeaderMap::new());
    let value = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&value).expect("plain text"));
    Ok(Answer::Response(response))
}

pub async fn me(_: &Api, call: Call) -> Result<Answer, Problem> {
    Ok(me_of(call.reader(), call.expires))
}

fn me_of(who: &Principal, expires: Option<i64>) -> Answer {
    let expires = expires.map(|seconds| crate::units::Timestamp(seconds * 1_000_000).to_string());
    Answer::value(&json!({ "user": who.name, "role": who.role.as_str(), "expires": expires }))
}

pub async fn ticket(api: &Api, call: Call) -> Result<Answer, Problem> {
    let who = call.who.expect("the route lets nobody in without a name");
    Ok(Answer::value(&api.access().ticket(Reader(who))))
}

/// Whether the request comes from the page itself, and not from another site that a browser has open.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()) else { return false };
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("");
    origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host))
}
