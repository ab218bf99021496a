//! An HTTP server that a test writes in a few lines: it hears each request and says what to answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::Folder;

/// A request, its body expanded.
pub struct Heard {
    pub method: String,
    /// Path and query as they came.
    pub path: String,
    /// By name in small letters.
    pub headers: BTreeMap<String, String>,
    /// As it was sent.
    pub raw: Vec<u8>,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn lines(&self) -> Vec<String> {
        self.body.lines().map(str::to_owned).collect()
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

pub fn reply(status: u16, body: impl Into<String>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into() }
}

impl Reply {
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }
}

/// A server; ends with the test.
pub struct Collector {
    pub port: u16,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

impl Collector {
    pub fn start(answer: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Collector {
        Collector::serve(None, answer)
    }

    /// With TLS, which asks for certificates of clients if the papers name their authority.
    pub fn start_tls(papers: &Papers, answer: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Collector {
        Collector::serve(Some(papers.server()), answer)
    }

    fn serve(tls: Option<Arc<ServerConfig>>, answer: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let collector = Collector { port, at_once: Arc::default(), most_at_once: Arc::default() };
        let (at_once, most, answer) = (collector.at_once.clone(), collector.most_at_once.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, at_once, most, answer) = (tls.clone(), at_once.clone(), most.clone(), answer.clone());
                thread::spawn(move || {
                    let counted = |heard: &Heard| {
                        most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let reply = answer(heard);
                        at_once.fetch_sub(1, Ordering::SeqCst);
                        reply
                    };
                    connection(stream, tls, &counted);
                });
            }
        });
        collector
    }

    /// The most requests that were answered at the same time since the last look.
    pub fn most_at_once(&self) -> usize {
        self.most_at_once.swap(0, Ordering::SeqCst)
    }
}

fn connection(stream: TcpStream, tls: Option<Arc<ServerConfig>>, answer: &dyn Fn(&Heard) -> Reply) {
    let _ = stream.set_nodelay(true);
    let wire: Box<dyn Wire> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let connection = ServerConnection::new(config).expect("a configuration that holds");
            Box::new(StreamOwned::new(connection, stream))
        }
    };
    let mut wire = BufReader::new(wire);
    while let Some(heard) = hear(&mut wire) {
        let reply = answer(&heard);
        let mut head = format!("HTTP/1.1 {} Said\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let whole = [head.as_bytes(), b"\r\n", reply.body.as_bytes()].concat();
        if wire.get_mut().write_all(&whole).and_then(|()| wire.get_mut().flush()).is_err() {
            return;
        }
    }
}

fn hear(wire: &mut BufReader<Box<dyn Wire>>) -> Option<Heard> {
    let mut line = String::new();
    wire.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        wire.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut raw = vec![0; length];
    wire.read_exact(&mut raw).ok()?;
    let mut body = Vec::new();
    match headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => drop(flate2::read::GzDecoder::new(&raw[..]).read_to_end(&mut body).expect("gzip")),
        Some("zstd") => body = zstd::decode_all(&raw[..]).expect("zstd"),
        _ => body.clone_from(&raw),
    }
    Some(Heard { method, path, headers, raw, body: String::from_utf8(body).expect("a body is text") })
}

/// Certificates of a server and of a client, each its own authority.
pub struct Papers {
    folder: Folder,
}

impl Papers {
    pub fn new() -> Papers {
        let folder = Folder::new();
        for who in ["server", "client"] {
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let pair = rcgen::generate_simple_self_signed(names).expect("a certificate");
            folder.write(&format!("{who}.pem"), &pair.cert.pem());
            folder.write(&format!("{who}.key"), &pair.signing_key.serialize_pem());
        }
        Papers { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    fn server(&self) -> Arc<ServerConfig> {
        let certificate = |name| CertificateDer::from_pem_file(self.path(name)).expect("a certificate");
        let mut clients = RootCertStore::empty();
        clients.add(certificate("client.pem")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone());
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![certificate("server.pem")], key);
        Arc::new(config.expect("they fit"))
    }
}
