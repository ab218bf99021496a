//! Tokens for `oauthbearer`: static, or fetched by OpenID Connect client credentials.

use std::sync::Arc;
use std::time::Duration;

use base64::prelude::*;
use bytes::Bytes;
use hyper::{Request, header};
use rdkafka::client::OAuthToken;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::Handle;

use super::{Sasl, Trust};
use crate::net::client::Client;
use crate::secret::Secret;
use crate::units::Timestamp;

/// How long fetching a token may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The lifetime assumed for a token without one.
const USUAL_LIFETIME: Duration = Duration::from_secs(3600);

/// Where tokens are fetched, by the client credentials grant.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// The token endpoint, such as `https://login.example/realms/logs/protocol/openid-connect/token`.
    pub token_url: String,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Secret<String>,
    /// Requested scope.
    #[serde(default)]
    pub scope: Option<String>,
}

/// Gives tokens when librdkafka asks for one.
pub struct Tokens {
    origin: Origin,
}

enum Origin {
    Given(Secret<String>),
    Fetched(Box<Endpoint>),
}

struct Endpoint {
    oidc: Oidc,
    client: Client,
    runtime: Handle,
}

impl Tokens {
    pub(super) fn new(sasl: &Sasl, trust: Option<&Trust>) -> Result<Arc<Tokens>, String> {
        let origin = match (&sasl.token, &sasl.oidc) {
            (Some(token), _) => Origin::Given(token.clone()),
            (None, Some(oidc)) => {
                let client = Client::new(trust.unwrap_or(&Trust::default()), None)?;
                Origin::Fetched(Box::new(Endpoint { oidc: oidc.clone(), client, runtime: Handle::current() }))
            }
            (None, None) => return Err("`oauthbearer` needs a `token`, or `oidc` to fetch one".into()),
        };
        Ok(Arc::new(Tokens { origin }))
    }

    /// The next token. Called by a thread of its client, which may wait.
    pub(super) fn next(&self) -> Result<OAuthToken, String> {
        let now = Timestamp::now().0 / 1000;
        match &self.origin {
            Origin::Given(token) => Ok(token_of(token.expose().clone(), USUAL_LIFETIME, now)),
            Origin::Fetched(endpoint) => {
                let Endpoint { oidc, client, runtime } = &**endpoint;
                let fetching = async { tokio::time::timeout(PATIENCE, fetch(oidc, client)).await };
                let (token, lifetime) = runtime
                    .block_on(fetching)
                    .map_err(|_| format!("no token from `{}` within {PATIENCE:?}", oidc.token_url))??;
                Ok(token_of(token, lifetime, now))
            }
        }
    }
}

async fn fetch(oidc: &Oidc, client: &Client) -> Result<(String, Duration), String> {
    let credentials = format!("{}:{}", encoded(&oidc.client_id), encoded(oidc.client_secret.expose()));
    let mut form = "grant_type=client_credentials".to_owned();
    if let Some(scope) = &oidc.scope {
        form += &format!("&scope={}", encoded(scope));
    }
    let request = Request::post(&oidc.token_url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .header(header::AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(credentials)))
        .body(Bytes::from(form))
        .map_err(|error| format!("`token_url` is not a URL: {error}"))?;
    let answer = client.send(request).await.map_err(|error| error.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("no token from `{}`: {}", oidc.token_url, answer.status));
    }
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
        expires_in: Option<u64>,
    }
    let granted: Granted = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("`{}` did not answer with a token", oidc.token_url))?;
    Ok((granted.access_token, granted.expires_in.map_or(USUAL_LIFETIME, Duration::from_secs)))
}

/// The token with its claims, if it is a JWT; only the brokers check it.
fn token_of(token: String, lifetime: Duration, now: i64) -> OAuthToken {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Claims {
        sub: String,
        exp: Option<f64>,
    }
    let body = token.split('.').nth(1).and_then(|body| BASE64_URL_SAFE_NO_PAD.decode(body).ok()).unwrap_or_default();
    let claims: Claims = serde_json::from_slice(&body).unwrap_or_default();
    let lifetime_ms = claims.exp.map_or(now + lifetime.as_millis() as i64, |exp| (exp * 1000.0) as i64);
    let principal_name = if claims.sub.is_empty() { "weir".to_owned() } else { claims.sub };
    OAuthToken { token, principal_name, lifetime_ms }
}

/// Percent-encoded for a form.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_token_says_itself_whose_it_is_and_how_long_it_holds() {
        let token = format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"ali","exp":1000}"#));
        let read = token_of(token, USUAL_LIFETIME, 5);
        assert_eq!((read.principal_name.as_str(), read.lifetime_ms), ("ali", 1_000_000));
        let opaque = token_of("opaque".into(), Duration::from_secs(60), 5);
        assert_eq!((opaque.principal_name.as_str(), opaque.lifetime_ms), ("weir", 60_005));
    }

    #[tokio::test]
    async fn a_token_is_fetched_with_the_credentials_of_a_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it has one").port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("somebody connects");
            let mut request = Vec::new();
            while !request.ends_with(b"scope=a%20b") {
                assert!(stream.read_buf(&mut request).await.expect("it can be read") > 0);
            }
            let body = r#"{"access_token":"t","expires_in":60}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.expect("it can be written");
            String::from_utf8(request).expect("text")
        });
        let oidc = Oidc {
            token_url: format!("http://127.0.0.1:{port}/token"),
            client_id: "weir".into(),
            client_secret: Secret::new("ge:heim".into()),
            scope: Some("a b".into()),
        };
        let client = Client::new(&Trust::default(), None).expect("a client");
        let fetched = fetch(&oidc, &client).await.expect("a token");
        assert_eq!(fetched, ("t".to_owned(), Duration::from_secs(60)));
        let request = asked.await.expect("no panic");
        assert!(request.contains("authorization: Basic d2VpcjpnZSUzQWhlaW0="), "{request}");
        assert!(!format!("{oidc:?}").contains("heim"));
    }
}
