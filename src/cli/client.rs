//! HTTP client of the commands: finds the running agent, presents a token, sends one request.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use crate::config::{self, Overrides};
use crate::net::Address;
use crate::net::client::Client;
use crate::net::tls::Trust;

/// The default data folder.
const DATA_DIR: &str = "weir-data";
/// Where a running agent leaves the address of its API, below its data folder.
pub const ADDRESS_FILE: &str = "api.address";
/// Where it leaves the certificate that it shows there.
pub const CERTIFICATE_FILE: &str = "api.pem";
/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How to reach the agent.
#[derive(Args, Clone, Default)]
pub struct Connection {
    /// URL of the agent's API, such as http://127.0.0.1:8686. Default: from the data folder
    #[arg(long, global = true, value_name = "URL", env = "WEIR_URL")]
    url: Option<String>,
    /// Token to authenticate with. Default: signed with the secret of the configuration, else of the data folder
    #[arg(long, global = true, value_name = "TOKEN", env = "WEIR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Data folder of the agent. Default: from the configuration, or weir-data
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration to take address and data folder from; may be repeated
    #[arg(short, long = "config", global = true, value_name = "PATH")]
    config: Vec<PathBuf>,
    /// CA certificate that signed the agent's certificate
    #[arg(long, global = true, value_name = "FILE", env = "WEIR_CA")]
    ca: Option<PathBuf>,
}

/// Where an agent is.
struct Place {
    data_dir: PathBuf,
    /// The address of its API by the configuration that was named.
    configured: Option<String>,
    /// A token signed with the secret of the configuration, if it has one.
    token: Option<String>,
}

/// Why an answer that was read as it came has ended before its end.
pub enum Broken {
    /// The agent is not there, or not any more: it may come back.
    Unreachable(String),
    /// It will answer the same again.
    Refused(String),
}

/// The head of an answer, whose body comes as long as this is held.
struct Opened {
    answer: Response<Incoming>,
    _driver: Option<Driver>,
}

/// Moves the bytes of a connection.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the agent answered.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Answer {
    /// The `detail` of a problem document, else the body.
    pub fn problem(&self) -> String {
        let document: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let detail = document.as_ref().and_then(|d| d.get("detail")).and_then(|d| d.as_str());
        let detail = detail.map_or_else(|| String::from_utf8_lossy(&self.body).into_owned(), str::to_owned);
        match self.status {
            StatusCode::UNAUTHORIZED => {
                format!(
                    "{detail}: name a token with `--token` or in WEIR_TOKEN, or with `-c` the configuration whose secret \
                     signs one"
                )
            }
            _ => detail,
        }
    }
}

impl Connection {
    /// One request on a connection of its own; `path` begins with a slash.
    pub fn ask(&self, method: Method, path: &str) -> Result<Answer, String> {
        runtime()?.block_on(async {
            let mut opened = self.open(method, path, None).await?;
            let status = opened.answer.status();
            let body = Limited::new(opened.answer.body_mut(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| format!("cannot read the agent's answer: {error}"))?.to_bytes();
            Ok(Answer { status, body })
        })
    }

    /// Reads an answer as it comes, with the number of an event after which a stream shall go on. Returns the trailers.
    pub fn read(
        &self,
        path: &str,
        last_event_id: Option<u64>,
        mut each: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<HeaderMap, Broken> {
        runtime().map_err(Broken::Refused)?.block_on(async {
            let mut opened = self.open(Method::GET, path, last_event_id).await.map_err(Broken::Unreachable)?;
            let status = opened.answer.status();
            if !status.is_success() {
                let body = Limited::new(opened.answer.body_mut(), MAX_ANSWER).collect().await;
                let body = body.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
                return Err(Broken::Refused(Answer { status, body }.problem()));
            }
            let mut trailers = HeaderMap::new();
            while let Some(frame) = opened.answer.frame().await {
                let frame =
                    frame.map_err(|error| Broken::Unreachable(format!("the agent closed the connection: {error}")))?;
                match frame.into_data() {
                    Ok(data) => each(&data).map_err(Broken::Refused)?,
                    Err(frame) => drop(frame.into_trailers().map(|found| trailers = found)),
                }
            }
            Ok(trailers)
        })
    }

    async fn open(&self, method: Method, path: &str, last_event_id: Option<u64>) -> Result<Opened, String> {
        let place = self.place()?;
        let (data_dir, url) = (place.data_dir.clone(), self.address(&place)?);
        let is_tls = url.starts_with("https://");
        let (address, base) = if is_tls { ("", url.trim_end_matches('/')) } else { split(&url) };
        let mut request = self.request(method, format!("{base}{path}"), &place)?;
        // Without this an agent keeps the trailers of an export to itself.
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(id) = last_event_id {
            request.headers_mut().insert("last-event-id", HeaderValue::from(id));
        }
        if is_tls {
            return self.open_over_tls(&url, request, &data_dir).await;
        }
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("weir"));
        let request = request.map(Full::new);
        let cannot = |error: &dyn std::fmt::Display| format!("cannot reach the agent at `{url}`: {error}");
        let exchanged = match address.strip_prefix("unix:") {
            Some(path) => {
                exchange(TokioIo::new(UnixStream::connect(path).await.map_err(|e| cannot(&e))?), request).await
            }
            None => exchange(TokioIo::new(TcpStream::connect(address).await.map_err(|e| cannot(&e))?), request).await,
        };
        exchanged.map_err(|error| cannot(&error))
    }

    /// An agent that left its address in the data folder left its certificate there too; others are trusted as the
    /// system says.
    async fn open_over_tls(&self, url: &str, request: Request<Bytes>, data_dir: &Path) -> Result<Opened, String> {
        let client = match (&self.ca, self.given_url()) {
            (Some(ca), _) => Client::trusting(ca),
            (None, Some(_)) => Client::new(&Trust::default(), None),
            (None, None) => Client::of_certificate(&data_dir.join(CERTIFICATE_FILE)),
        };
        let answer = client?.open(request).await.map_err(|error| format!("the agent at `{url}`: {error}"))?;
        Ok(Opened { answer, _driver: None })
    }

    /// A request without a body, with the token to show.
    fn request(&self, method: Method, uri: String, place: &Place) -> Result<Request<Bytes>, String> {
        let mut request = Request::builder().method(method).uri(&uri);
        if let Some(token) = self.token(place) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Bytes::new()).map_err(|error| format!("cannot ask for `{uri}`: {error}"))
    }

    fn given_url(&self) -> Option<&String> {
        self.url.as_ref().filter(|url| !url.is_empty())
    }

    /// What the configuration says. One that was not named and does not hold says nothing: what is asked for may be had
    /// without it.
    fn place(&self) -> Result<Place, String> {
        if self.config.is_empty()
            && let Some(data_dir) = &self.data_dir
        {
            return Ok(Place { data_dir: data_dir.clone(), configured: None, token: None });
        }
        match config::load(&config::locate(&self.config), &Overrides::default()) {
            Ok(loaded) => {
                let api = &loaded.plan.settings.api;
                let scheme = if api.tls.is_some() { "https" } else { "http" };
                let configured = match &api.address {
                    Address::Unix(_) => api.address.to_string(),
                    Address::Tcp { .. } => format!("{scheme}://{}{}", api.address, api.base_path),
                };
                let is_asked = !self.config.is_empty() && api.enabled;
                let token = super::token::of_plan(&loaded.plan);
                let data_dir = self.data_dir.clone().unwrap_or(loaded.plan.data_dir);
                Ok(Place { data_dir, configured: is_asked.then_some(configured), token })
            }
            Err(rejected) if !self.config.is_empty() => Err(format!(
                "the configuration is invalid, see `weir validate`:\n{}",
                rejected.render(false).trim_end()
            )),
            Err(_) => {
                let data_dir = self.data_dir.clone().unwrap_or_else(|| DATA_DIR.into());
                Ok(Place { data_dir, configured: None, token: None })
            }
        }
    }

    /// The address that the running agent has left is the one it really has.
    fn address(&self, place: &Place) -> Result<String, String> {
        if let Some(url) = self.given_url() {
            return Ok(url.clone());
        }
        let file = place.data_dir.join(ADDRESS_FILE);
        match (std::fs::read_to_string(&file), &place.configured) {
            (Ok(text), _) => Ok(text.trim().to_owned()),
            (Err(_), Some(configured)) => Ok(configured.clone()),
            (Err(error), None) => Err(format!("no agent address in `{}`: {error}; give it with --url", file.display())),
        }
    }

    fn token(&self, place: &Place) -> Option<String> {
        let given = self.token.clone().filter(|token| !token.is_empty());
        given.or_else(|| place.token.clone()).or_else(|| super::token::of_data_dir(&place.data_dir))
    }
}

/// Where to connect to, and the path below which the API is.
fn split(url: &str) -> (&str, &str) {
    if url.starts_with("unix:") {
        return (url, "");
    }
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    rest.find('/').map_or((rest, ""), |at| rest.split_at(at))
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

async fn exchange<T>(io: TokioIo<T>, request: Request<Full<Bytes>>) -> Result<Opened, Fault>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
    let answer = sender.send_request(request).await?;
    Ok(Opened { answer, _driver: Some(driver) })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_path_below_which_the_api_is() {
        assert_eq!(split("http://127.0.0.1:8686"), ("127.0.0.1:8686", ""));
        assert_eq!(split("http://127.0.0.1:8686/weir/"), ("127.0.0.1:8686", "/weir"));
        assert_eq!(split("localhost:1/a/b"), ("localhost:1", "/a/b"));
        assert_eq!(split("unix:/run/weir.sock"), ("unix:/run/weir.sock", ""));
    }
}
