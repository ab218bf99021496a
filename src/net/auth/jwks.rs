//! A JWKS from an identity provider: fetched when needed, and again when it expires or a key is unknown.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Request, Uri};
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use tracing::{info, warn};

use super::jwt::{Key, keys_of};
use crate::net::client::Client;
use crate::net::tls::Trust;

/// The age at which a set is fetched again, so that a key that was withdrawn goes.
const MAX_AGE: Duration = Duration::from_secs(600);
/// The least time between two attempts, however many tokens with unknown keys arrive.
const MIN_WAIT: Duration = Duration::from_secs(10);
/// How long the provider may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Keys of one set that are looked at.
const MAX_KEYS: usize = 100;

pub struct Jwks {
    url: Uri,
    client: Client,
    allowed: Vec<Algorithm>,
    known: RwLock<Known>,
    /// One at a time; those who come meanwhile wait for its result.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Arc<Vec<Key>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    failing: bool,
}

impl Jwks {
    pub fn new(url: &str, allowed: Vec<Algorithm>) -> Result<Jwks, String> {
        let url = validate_url(url)?;
        let client = Client::new(&Trust::default(), None)?;
        Ok(Jwks { url, client, allowed, known: RwLock::default(), fetching: tokio::sync::Mutex::default() })
    }

    /// The keys, fetched if they are missing or old. While the provider does not answer, the last ones hold.
    pub async fn keys(&self) -> Arc<Vec<Key>> {
        let is_old = self.read(|known| known.fetched.is_none_or(|at| at.elapsed() > MAX_AGE));
        if is_old {
            self.fetch().await;
        }
        self.read(|known| known.keys.clone())
    }

    /// For a token whose key is not among `seen`: other keys, if the provider has some by now.
    pub async fn newer_than(&self, seen: &Arc<Vec<Key>>) -> Option<Arc<Vec<Key>>> {
        if self.read(|known| Arc::ptr_eq(&known.keys, seen)) {
            self.fetch().await;
        }
        let keys = self.read(|known| known.keys.clone());
        (!Arc::ptr_eq(&keys, seen)).then_some(keys)
    }

    async fn fetch(&self) {
        let _turn = self.fetching.lock().await;
        if self.read(|known| known.tried.is_some_and(|at| at.elapsed() < MIN_WAIT)) {
            return;
        }
        let answer = self.ask().await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.tried = Some(Instant::now());
        match answer {
            Ok(keys) => {
                if known.failing || known.fetched.is_none() {
                    info!(url = %self.url, keys = keys.len(), "key set loaded");
                }
                (known.keys, known.fetched, known.failing) = (Arc::new(keys), Some(Instant::now()), false);
            }
            Err(reason) => {
                if !std::mem::replace(&mut known.failing, true) {
                    warn!(url = %self.url, reason, known = known.keys.len(), "cannot fetch the key set");
                }
            }
        }
    }

    async fn ask(&self) -> Result<Vec<Key>, String> {
        let request = Request::get(self.url.clone()).header("accept", "application/json").body(Bytes::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.send(request)).await;
        let answer = answer.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("the answer is {}", answer.status));
        }
        let mut set: JwkSet =
            serde_json::from_slice(&answer.body).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
        // A shared secret that anybody can fetch is none.
        set.keys.retain(|key| !matches!(key.algorithm, AlgorithmParameters::OctetKey(_)));
        set.keys.truncate(MAX_KEYS);
        keys_of(&set, &self.allowed).map_err(|(_, message)| message)
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keys that came over an open line could be anybody's.
pub fn validate_url(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is not a URL"))?;
    let host = uri.host().unwrap_or("");
    let is_near = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(uri),
        Some("http") if is_near => Ok(uri),
        _ => Err("a key set must be fetched over https; http is allowed for loopback only".into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const SET: &str = r#"{"keys":[
        {"kty":"EC","crv":"P-256","kid":"one","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
        {"kty":"oct","kid":"two","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;

    /// Serves these answers one after the other, then nothing more.
    async fn provider(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/keys", listener.local_addr().expect("it has one"));
        tokio::spawn(async move {
            for body in answers {
                let (mut stream, _) = listener.accept().await.expect("somebody connects");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.expect("it can be read") > 0 {}
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it can be written");
            }
        });
        url
    }

    #[tokio::test]
    async fn keys_are_fetched_once_and_a_secret_that_is_served_is_none() {
        let jwks = Jwks::new(&provider(vec![SET.into()]).await, Vec::new()).expect("an address");
        let keys = jwks.keys().await;
        assert_eq!(keys.len(), 1);
        assert!(Arc::ptr_eq(&keys, &jwks.keys().await));
        assert!(jwks.newer_than(&keys).await.is_none(), "asked again so soon");
    }

    #[tokio::test]
    async fn without_a_provider_there_are_no_keys_and_a_broken_answer_takes_none_away() {
        let jwks = Jwks::new(&provider(vec![SET.into(), "<html>".into()]).await, Vec::new()).expect("an address");
        let keys = jwks.keys().await;
        jwks.known.write().expect("no panic").tried = None;
        assert!(jwks.newer_than(&keys).await.is_none());
        assert!(Arc::ptr_eq(&keys, &jwks.keys().await));
        let nobody = Jwks::new("http://127.0.0.1:1/keys", Vec::new()).expect("an address");
        assert!(nobody.keys().await.is_empty());
    }

    #[test]
    fn an_open_line_is_for_this_machine_alone() {
        for fine in ["https://id.example/keys", "http://127.0.0.1:8080/keys", "http://localhost/keys"] {
            assert!(validate_url(fine).is_ok(), "{fine}");
        }
        for wrong in ["http://id.example/keys", "file:///etc/keys", "id.example/keys", "http://localhost.evil/keys"] {
            assert!(validate_url(wrong).is_err(), "{wrong}");
        }
    }
}
