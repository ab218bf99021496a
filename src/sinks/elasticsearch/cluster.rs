//! The nodes of a cluster and the choice among them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Uri};
use tokio::time::Instant;

use super::answer;
use crate::component::Failure;
use crate::event::Seed;
use crate::net::client::{Answer, Client, Error};

/// How long a node that cannot be reached is passed over, as long as another can.
const REST: Duration = Duration::from_secs(30);
/// How long a node may take to show that it is there.
const GREETING: Duration = Duration::from_secs(10);

/// The checked address of a node: `https://host:port/base` without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub base: String,
    pub is_plain: bool,
}

impl Endpoint {
    /// The error is for the operator, and shows nothing of a password that stands in the address.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        if text.contains('@') {
            return Err("user and password belong in `auth`".into());
        }
        let wrong = || format!("`{text}` is not a URL: expected `https://host:9200`");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or_else(wrong)?;
        uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        if uri.query().is_some() {
            return Err(wrong());
        }
        let is_loopback = matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
        Ok(Endpoint { base: text.trim_end_matches('/').to_owned(), is_plain: scheme == "http" && !is_loopback })
    }
}

struct Node {
    base: String,
    /// Until when it is passed over.
    rests: Mutex<Option<Instant>>,
}

impl Node {
    fn is_resting(&self) -> bool {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
    }
}

pub struct Cluster {
    client: Client,
    nodes: Vec<Node>,
    next: AtomicUsize,
    authorization: Option<HeaderValue>,
}

impl Cluster {
    pub fn new(client: Client, endpoints: Vec<Endpoint>, authorization: Option<HeaderValue>) -> Cluster {
        // By chance, so that a node which answers but does not work is not the first one again after each failure.
        let start = usize::from(Seed::random().0[0]);
        let nodes = endpoints.into_iter().map(|Endpoint { base, .. }| Node { base, rests: Mutex::default() }).collect();
        Cluster { client, nodes, next: AtomicUsize::new(start), authorization }
    }

    /// Finds a node that answers and knows us; the first node's fault if none does. Its answer tells what it is.
    pub async fn greet(&self, timeout: Duration) -> Result<Answer, Failure> {
        let limit = GREETING.min(timeout / (self.nodes.len() as u32 + 1));
        let mut first_fault = None;
        for node in self.in_turn() {
            let greeting = tokio::time::timeout(limit, self.send_to(node, self.request(Method::GET, "/")));
            let fault = match greeting.await {
                Ok(Ok(answer)) => match answer::whole(&answer) {
                    Err(transient @ Failure::Transient { .. }) => transient,
                    _ if answer.status == 401 => answer::whole(&answer).expect_err("unexpected status 401"),
                    // Who may only write need not be allowed to look.
                    _ => return Ok(answer),
                },
                Ok(Err(error)) => error.into(),
                Err(_) => Failure::transient(format!("no answer from `{}` within {limit:?}", node.base)),
            };
            node.rest();
            first_fault.get_or_insert(fault);
        }
        Err(first_fault.unwrap_or_else(|| Failure::configuration("there are no `endpoints`")))
    }

    /// Asks one node; the next one, where a connection could not even be made.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, Error> {
        let mut unreachable = None;
        for node in self.in_turn() {
            match self.send_to(node, request.clone()).await {
                Err(Error::Unreachable(reason)) => {
                    node.rest();
                    unreachable.get_or_insert(Error::Unreachable(reason));
                }
                answered => return answered,
            }
        }
        Err(unreachable.unwrap_or_else(|| Error::Unreachable("there are no `endpoints`".into())))
    }

    /// A request for a path with its query; `send` adds the node.
    pub fn request(&self, method: Method, path: &str) -> Request<Bytes> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("names of indices and pipelines are checked");
        request
    }

    /// A request that brings JSON.
    pub fn request_with(&self, method: Method, path: &str, body: &serde_json::Value) -> Request<Bytes> {
        let mut request = self.request(method, path).map(|_| body.to_string().into());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    /// All nodes, each time from another one on, those at rest last.
    fn in_turn(&self) -> Vec<&Node> {
        let start = self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len().max(1);
        let mut nodes: Vec<&Node> = self.nodes[start..].iter().chain(&self.nodes[..start]).collect();
        nodes.sort_by_key(|node| node.is_resting());
        nodes
    }

    async fn send_to(&self, node: &Node, mut request: Request<Bytes>) -> Result<Answer, Error> {
        let address = format!("{}{}", node.base, request.uri());
        *request.uri_mut() = address.parse().expect("an endpoint and a path make an address");
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        self.client.send(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::Trust;

    #[test]
    fn an_address_is_checked_and_keeps_its_base_path() {
        let base = |text| Endpoint::parse(text).map(|endpoint| endpoint.base);
        assert_eq!(base("https://es.example/search/"), Ok("https://es.example/search".into()));
        assert_eq!(base("http://[::1]:9200"), Ok("http://[::1]:9200".into()));
        for bad in ["es:9200", "ftp://es", "http://", "", "http://es?x=1", "http://a b"] {
            assert!(base(bad).is_err_and(|error| error.contains("expected `https://")), "{bad}");
        }
        let error = base("https://weir:geheim@es").expect_err("a password in the address");
        assert!(error.contains("`auth`") && !error.contains("geheim"), "{error}");
        assert!(Endpoint::parse("http://es:9200").expect("an address").is_plain);
        assert!(!Endpoint::parse("http://localhost:9200").expect("an address").is_plain);
    }

    #[tokio::test(start_paused = true)]
    async fn every_node_has_its_turn_and_one_at_rest_comes_last() {
        let client = Client::new(&Trust { verify: false, ..Trust::default() }, None).expect("a client");
        let endpoint = |n| Endpoint { base: format!("http://{n}"), is_plain: true };
        let cluster = Cluster::new(client, (0..3).map(endpoint).collect(), None);
        let first = || cluster.in_turn()[0].base.clone();
        let mut firsts = [first(), first(), first()];
        firsts.sort();
        assert_eq!(firsts, ["http://0", "http://1", "http://2"]);
        cluster.nodes[1].rest();
        assert!((0..6).all(|_| cluster.in_turn()[2].base == "http://1"));
        tokio::time::advance(REST).await;
        assert!((0..3).any(|_| cluster.in_turn()[0].base == "http://1"));
    }
}
