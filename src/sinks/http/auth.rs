//! Authentication of requests: token, password, OAuth 2 client credentials, or a signature of the body.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::component::{Check, Failure};
use crate::net::client::Client;
use crate::secret::{Secret, SecretMask};
use crate::toolkit::reply;
use crate::units::Timestamp;

/// Authentication of requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `bearer` sends `token`; `basic` sends `user` and `password`; `oauth2` fetches tokens with client credentials;
    /// `hmac` signs each body.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// For `bearer`: the token.
    pub token: Option<Secret<String>>,
    /// For `basic`: the user name.
    pub user: Option<String>,
    /// For `basic`: the password.
    pub password: Option<Secret<String>>,
    /// For `oauth2`: the token endpoint. A token is cached until shortly before it expires, or until it is refused.
    pub token_url: Option<String>,
    /// For `oauth2`: the client id.
    pub client_id: Option<String>,
    /// For `oauth2`: the client secret.
    pub client_secret: Option<Secret<String>>,
    /// For `oauth2`: whether client id and secret are sent in the `Authorization` header or in the form body.
    pub client_auth: ClientAuth,
    /// For `oauth2`: the scope.
    pub scope: Option<String>,
    /// For `oauth2`: the audience, if the server requires one.
    pub audience: Option<String>,
    /// For `hmac`: the key of HMAC-SHA-256.
    pub key: Option<Secret<String>>,
    /// For `hmac`: header of the signature, `x-signature-256` by default. Its value is `sha256=` and the hex HMAC of
    /// the body as sent (after compression).
    pub header: Option<String>,
    /// For `hmac`: header with the sending time in Unix seconds. If set, the HMAC covers that number, a `.` and the
    /// body, which prevents replays.
    pub timestamp_header: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    None,
    Bearer,
    Basic,
    Oauth2,
    Hmac,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    #[default]
    Header,
    Body,
}

const SIGNATURE: &str = "x-signature-256";
/// How long before its end a token is no longer used.
const EARLY: Duration = Duration::from_secs(30);
/// The life of a token whose server does not say.
const UNSAID: Duration = Duration::from_secs(300);

impl Config {
    /// The keys that a type needs and those that it may have.
    fn keys(&self) -> (&'static [&'static str], &'static [&'static str]) {
        match self.kind {
            Kind::None => (&[], &[]),
            Kind::Bearer => (&["token"], &[]),
            Kind::Basic => (&["user", "password"], &[]),
            Kind::Oauth2 => (&["token_url", "client_id", "client_secret"], &["scope", "audience"]),
            Kind::Hmac => (&["key"], &["header", "timestamp_header"]),
        }
    }

    pub fn check(&self, check: &mut Check) {
        let (needed, allowed) = self.keys();
        let given = [
            ("token", self.token.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("token_url", self.token_url.is_some()),
            ("client_id", self.client_id.is_some()),
            ("client_secret", self.client_secret.is_some()),
            ("scope", self.scope.is_some()),
            ("audience", self.audience.is_some()),
            ("key", self.key.is_some()),
            ("header", self.header.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
        ];
        let kind = format!("{:?}", self.kind).to_lowercase();
        for (key, is_given) in given {
            if needed.contains(&key) && !is_given {
                check.problem("auth", format!("`type: {kind}` needs `{key}`"));
            } else if is_given && !needed.contains(&key) && !allowed.contains(&key) {
                check.problem(format!("auth.{key}"), format!("`{key}` does not apply to `type: {kind}`"));
            }
        }
        if let Some(url) = &self.token_url
            && token_uri(url).is_none()
        {
            check.problem("auth.token_url", "expected a URL that starts with `http://` or `https://`");
        }
        for (key, name) in [("header", &self.header), ("timestamp_header", &self.timestamp_header)] {
            if let Some(name) = name
                && HeaderName::try_from(name).is_err()
            {
                check.problem(format!("auth.{key}"), format!("`{name}` is not a header name"));
            }
        }
        for (key, secret) in [("token", &self.token), ("password", &self.password)] {
            if secret.as_ref().is_some_and(|secret| secret.expose().contains(char::is_control)) {
                check.problem(format!("auth.{key}"), "it contains a control character");
            }
        }
    }
}

fn token_uri(url: &str) -> Option<Uri> {
    url.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// What is added to each request.
pub enum Auth {
    None,
    Fixed(HeaderValue),
    Oauth2(Box<Oauth2>),
    Hmac(Box<Hmac>),
}

pub struct Hmac {
    key: hmac::Key,
    header: HeaderName,
    timestamp: Option<HeaderName>,
}

impl Auth {
    /// Covers its secrets with the mask.
    pub fn new(config: &Config, client: &Client, mask: &mut SecretMask) -> Result<Auth, Failure> {
        let mut secret = |secret: &Option<Secret<String>>| {
            let text = secret.as_ref().map_or("", |secret| secret.expose().as_str());
            mask.cover(text);
            text.to_owned()
        };
        let name = |name: &Option<String>| name.as_ref().map(HeaderName::try_from).transpose();
        let unusable = |_| Failure::configuration("invalid header name in `auth`");
        Ok(match config.kind {
            Kind::None => Auth::None,
            Kind::Bearer => Auth::Fixed(authorization("Bearer", &secret(&config.token))?),
            Kind::Basic => {
                let password = secret(&config.password);
                let pair = BASE64_STANDARD.encode(format!("{}:{password}", config.user.as_deref().unwrap_or("")));
                mask.cover(&pair);
                Auth::Fixed(authorization("Basic", &pair)?)
            }
            Kind::Oauth2 => Auth::Oauth2(Box::new(Oauth2::new(config, &secret(&config.client_secret), client, mask)?)),
            Kind::Hmac => Auth::Hmac(Box::new(Hmac {
                key: hmac::Key::new(hmac::HMAC_SHA256, secret(&config.key).as_bytes()),
                header: name(&config.header).map_err(unusable)?.unwrap_or(HeaderName::from_static(SIGNATURE)),
                timestamp: name(&config.timestamp_header).map_err(unusable)?,
            })),
        })
    }

    pub async fn apply(&self, headers: &mut HeaderMap, body: &[u8]) -> Result<(), Failure> {
        match self {
            Auth::None => {}
            Auth::Fixed(value) => drop(headers.insert(header::AUTHORIZATION, value.clone())),
            Auth::Oauth2(oauth2) => drop(headers.insert(header::AUTHORIZATION, oauth2.token().await?)),
            Auth::Hmac(hmac) => {
                let Hmac { key, header, timestamp } = &**hmac;
                let now = Timestamp::now().0.div_euclid(1_000_000).to_string();
                let signature = sign(key, timestamp.as_ref().map(|_| &*now), body);
                headers.insert(header, HeaderValue::try_from(signature).expect("hex digits fit into a header"));
                if let Some(name) = timestamp {
                    headers.insert(name, HeaderValue::try_from(now).expect("digits fit into a header"));
                }
            }
        }
        Ok(())
    }

    /// After a 401: whether another attempt could do better, with a fresh token.
    pub async fn refresh(&self) -> bool {
        let Auth::Oauth2(oauth2) = self else { return false };
        oauth2.kept.lock().await.take().is_some()
    }

    /// Covers tokens that were fetched.
    pub async fn mask(&self) -> SecretMask {
        let Auth::Oauth2(oauth2) = self else { return SecretMask::default() };
        oauth2.kept.lock().await.as_ref().map_or_else(SecretMask::default, |kept| kept.mask.clone())
    }
}

fn authorization(scheme: &str, value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("{scheme} {value}"))
        .map_err(|_| Failure::configuration("the credentials contain characters that a header cannot have"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn sign(key: &hmac::Key, timestamp: Option<&str>, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    if let Some(timestamp) = timestamp {
        context.update(timestamp.as_bytes());
        context.update(b".");
    }
    context.update(body);
    let digits: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// Client credentials, and the token that was fetched with them.
pub struct Oauth2 {
    client: Client,
    url: Uri,
    headers: HeaderMap,
    form: Bytes,
    mask: SecretMask,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: HeaderValue,
    until: Instant,
    mask: SecretMask,
}

/// What a token endpoint answers.
#[derive(Deserialize)]
struct Granted {
    access_token: Secret<String>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
}

impl Oauth2 {
    fn new(config: &Config, secret: &str, client: &Client, mask: &mut SecretMask) -> Result<Oauth2, Failure> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let url = token_uri(&text(&config.token_url));
        let url = url.ok_or_else(|| Failure::configuration("`auth.token_url` is not a URL"))?;
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let id = text(&config.client_id);
        match config.client_auth {
            ClientAuth::Header => {
                // Both are form-encoded before they are joined (RFC 6749, 2.3.1).
                let pair = BASE64_STANDARD.encode(format!("{}:{}", encoded(&id), encoded(secret)));
                mask.cover(&pair);
                headers.insert(header::AUTHORIZATION, authorization("Basic", &pair)?);
            }
            ClientAuth::Body => form.extend([("client_id", id), ("client_secret", secret.to_owned())]),
        }
        mask.cover(&encoded(secret));
        form.extend(config.scope.clone().map(|scope| ("scope", scope)));
        form.extend(config.audience.clone().map(|audience| ("audience", audience)));
        let form: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        Ok(Oauth2 {
            client: client.clone(),
            url,
            headers,
            form: form.join("&").into(),
            mask: mask.clone(),
            kept: Mutex::default(),
        })
    }

    /// The header with a token that still holds; writes that need a new one wait for the first of them.
    pub async fn token(&self) -> Result<HeaderValue, Failure> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until > Instant::now()) {
            return Ok(kept.token.clone());
        }
        let fetched = self.fetch().await.map_err(|failure| {
            let reworded = failure.reworded(|answer| format!("no token from `auth.token_url`: {answer}"));
            reworded.reworded(|answer| self.mask.hide(answer))
        })?;
        let token = fetched.token.clone();
        *kept = Some(fetched);
        Ok(token)
    }

    async fn fetch(&self) -> Result<Kept, Failure> {
        let mut request = Request::post(self.url.clone()).body(self.form.clone()).expect("a checked address");
        *request.headers_mut() = self.headers.clone();
        let answer = self.client.send(request).await?;
        // A server that does not like how we ask says 400: no event has a part in that.
        reply::classify(&answer).map_err(|failure| match failure {
            Failure::Poison { answer } | Failure::Ambiguous { answer } => Failure::Configuration { answer },
            failure => failure,
        })?;
        // What it does say may hold the token, so nothing of it is shown.
        let granted: Granted = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::configuration("the answer has no `access_token`"))?;
        if let Some(kind) = granted.token_type.filter(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(Failure::configuration(format!("unsupported token type `{}`", reply::shown(&kind))));
        }
        let seconds = granted.expires_in.and_then(|seconds| match seconds {
            serde_json::Value::String(text) => text.parse().ok(),
            number => number.as_f64(),
        });
        let life = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(UNSAID);
        let mut mask = SecretMask::default();
        mask.cover(granted.access_token.expose());
        let token = authorization("Bearer", granted.access_token.expose())?;
        Ok(Kept { token, until: Instant::now() + life.saturating_sub(EARLY.min(life / 2)), mask })
    }
}

/// As forms write a value: percent-encoded.
fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_the_body_and_the_time_if_one_is_sent() {
        // The example of GitHub's documentation on validating webhook deliveries.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
        let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(sign(&key, None, b"Hello, World!"), expected);
        assert_eq!(sign(&key, Some("17"), b"x"), sign(&key, None, b"17.x"));
    }

    #[test]
    fn each_type_has_its_keys_and_no_others() {
        for (yaml, said) in [
            ("{type: bearer}", "`type: bearer` needs `token`"),
            ("{type: basic, user: a, password: b, token: c}", "`token` does not apply to `type: basic`"),
            ("{type: oauth2, client_id: a, client_secret: b}", "`type: oauth2` needs `token_url`"),
            ("{type: oauth2, client_id: a, client_secret: b, token_url: idp/token}", "expected a URL"),
            ("{type: hmac, key: a, header: 'no name'}", "`no name` is not a header name"),
            ("{token: a}", "`token` does not apply to `type: none`"),
        ] {
            let config: Config = crate::diagnostic::from_yaml(yaml).expect(yaml);
            let mut check = Check::new("out", "/nowhere", true);
            config.check(&mut check);
            assert!(format!("{:?}", check.problems).contains(said), "{yaml}: {:?}", check.problems);
            assert_eq!(check.problems.count_errors(), 1, "{yaml}");
        }
    }
}
