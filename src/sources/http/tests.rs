//! Tests of HTTP ingest over real sockets, with an intake that only decodes and records.

use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Mutex;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::codec::{self, Decoded};
use crate::component::{Intake, Job, JobStatus, Outcome, Receipt};
use crate::diagnostic;
use crate::event::Stamp;
use crate::journal::{Full, MemoryPermit, ReserveError};
use crate::toolkit::fake;

/// Decodes what is submitted and says that it is done.
struct Wiring {
    jobs: Mutex<Vec<Job>>,
    /// Bytes that one permit may have.
    space: usize,
    permits: Mutex<Vec<usize>>,
    auth_failures: Mutex<u64>,
    /// Keeps receipts open instead of answering.
    silent: bool,
    unanswered: Mutex<Vec<tokio::sync::oneshot::Sender<Outcome>>>,
}

fn wiring() -> Wiring {
    Wiring {
        jobs: Mutex::default(),
        space: usize::MAX,
        permits: Mutex::default(),
        auth_failures: Mutex::default(),
        silent: false,
        unanswered: Mutex::default(),
    }
}

impl Intake for Wiring {
    fn ready(&self) {}

    fn reserve(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Result<MemoryPermit, ReserveError>> + Send + '_>> {
        Box::pin(async move { self.try_reserve(bytes) })
    }

    fn try_reserve(&self, bytes: usize) -> Result<MemoryPermit, ReserveError> {
        self.permits.lock().expect("no panic").push(bytes);
        if bytes > self.space { Err(ReserveError::Full(Full::Memory)) } else { Ok(MemoryPermit::free()) }
    }

    fn submit(&self, job: Job) -> Receipt {
        let (answer, receipt) = tokio::sync::oneshot::channel();
        let (mut accepted, mut refused) = (0, Vec::new());
        for decoded in decode(&job) {
            accepted += decoded.batch.len() as u64;
            refused.extend(decoded.refused);
        }
        let rejected = job.on_bad == OnBad::RejectAll && !refused.is_empty();
        let status = if rejected { JobStatus::Rejected } else { JobStatus::Done };
        if !rejected {
            self.jobs.lock().expect("no panic").push(job);
        }
        let accepted = if rejected { 0 } else { accepted };
        match self.silent {
            true => self.unanswered.lock().expect("no panic").push(answer),
            false => drop(answer.send(Outcome { status, accepted, refused })),
        }
        Receipt(receipt)
    }

    fn positions(&self) -> Vec<(Bytes, Bytes)> {
        Vec::new()
    }

    fn received_bytes(&self, _: u64) {}
    fn refused(&self, _: u64) {}

    fn auth_failure(&self) {
        *self.auth_failures.lock().expect("no panic") += 1;
    }

    fn trouble(&self, _: Option<String>) {}
}

fn decode(job: &Job) -> Vec<Decoded> {
    let limits = codec::Limits { event_bytes: 1 << 20, values: 100_000 };
    let decode = |piece: &crate::component::Chunk| {
        let (bytes, ordinals) = (piece.bytes.clone(), piece.ordinals.clone());
        job.decoder.decode(bytes, &piece.frames, ordinals, job.provenance.clone(), &limits, true)
    };
    job.chunks.iter().map(decode).collect()
}

/// A source that listens, and what it has submitted.
struct Running {
    address: String,
    wiring: Arc<Wiring>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

fn context(wiring: &Arc<Wiring>, stop: &CancellationToken) -> SourceContext {
    SourceContext {
        name: "web".into(),
        agent: "agent".into(),
        intake: wiring.clone(),
        shutdown: stop.clone(),
        stopping: stop.clone(),
        event_bytes: 1 << 20,
        durable: true,
    }
}

fn build(yaml: &str, durable: bool) -> Result<Http, Vec<String>> {
    let mut check = Check::new("web", "/nowhere", durable);
    let source = Http::build(diagnostic::from_yaml(yaml).expect("the test's configuration is right"), &mut check);
    source.ok_or_else(|| check.problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect())
}

async fn start(yaml: &str, wiring: Wiring) -> Running {
    let Http { config, wait } = build(yaml, true).expect("the test's configuration is right");
    let (wiring, stop) = (Arc::new(wiring), CancellationToken::new());
    let authenticator =
        config.auth.as_ref().map_or_else(|| Ok(Authenticator::open()), Authenticator::new).expect("right");
    let tls = config.tls.as_ref().map(tls::server).transpose().expect("right");
    let any_port = "127.0.0.1:0".parse().expect("an address");
    let listener = Listener::bind(&any_port, listen::SOCKET_MODE).await.expect("a free port");
    let address = listener.address().expect("bound").to_string();
    let front = Arc::new(front(&config, wait, authenticator, &context(&wiring, &stop)));
    let server = tokio::spawn(http::serve(
        listener,
        ServerTls::new(tls),
        Limits::default(),
        front,
        http::Shutdown::with(stop.clone()),
    ));
    Running { address, wiring, stop, server }
}

/// Sends a request as it stands and reads until the server closes.
async fn send(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) -> String {
    // A server that refuses does not read to the end.
    drop(stream.write_all(request).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).expect("answers are text")
}

fn request(head: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    if head.contains("chunked") {
        request = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
    }
    [request.as_bytes(), body].concat()
}

impl Running {
    async fn raw(&self, sent: &[u8]) -> String {
        send(&mut TcpStream::connect(&self.address).await.expect("it listens"), sent).await
    }

    async fn request(&self, head: &str, body: &[u8]) -> String {
        self.raw(&request(head, body)).await
    }

    async fn post(&self, headers: &str, body: &[u8]) -> (u16, String) {
        let separator = if headers.is_empty() { "" } else { "\r\n" };
        let answer = self.request(&format!("POST / HTTP/1.1{separator}{headers}"), body).await;
        (status(&answer), body_of(&answer).to_owned())
    }

    fn jobs(&self) -> usize {
        self.wiring.jobs.lock().expect("no panic").len()
    }

    fn last<T>(&self, look: impl FnOnce(&Job) -> T) -> T {
        look(self.wiring.jobs.lock().expect("no panic").last().expect("something was handed in"))
    }
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("an answer has a head").1
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory does not fail")
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory does not fail")
}

const BEARER: &str = "auth: { type: bearer, tokens: { shop: tok-1 } }";

#[tokio::test]
async fn objects_arrays_and_lines_are_taken_whatever_the_content_type_says() {
    let web = start("{}", wiring()).await;
    for (body, accepted) in
        [("{\"a\":\n1}", 1), ("[{\"a\":1},{\"a\":2}]", 2), ("{\"a\":1}\n{\"a\":2}\r\n\n{\"a\":3}", 3)]
    {
        let (status, answer) = web.post("Content-Type: text/plain", body.as_bytes()).await;
        assert_eq!(
            (status, answer),
            (200, format!(r#"{{"accepted":{accepted},"refused":[],"refused_count":0}}"#)),
            "{body}"
        );
    }
    let (status, answer) = web.post("", b"{\"a\":1}\nnonsense\n{\"a\":2}").await;
    assert!(status == 200 && answer.starts_with(r#"{"accepted":2,"refused":[{"index":1,"reason":""#), "{answer}");
}

#[tokio::test]
async fn packed_bodies_are_expanded() {
    let web = start("{}", wiring()).await;
    let text = b"{\"a\":1}\n{\"a\":2}\n";
    let zstd = zstd::stream::encode_all(&text[..], 1).expect("memory does not fail");
    for (name, body) in [("gzip", gzip(text)), ("X-GZIP", gzip(text)), ("zstd", zstd), ("deflate", zlib(text))] {
        assert_eq!(web.post(&format!("Content-Encoding: {name}"), &body).await.0, 200, "{name}");
        assert_eq!(web.last(|job| job.chunks[0].bytes.clone()), &text[..]);
    }
    for name in ["br", "gzip, gzip", "gzip\r\nContent-Encoding: gzip", "compress"] {
        let answer = web.request(&format!("POST / HTTP/1.1\r\nContent-Encoding: {name}"), &gzip(&gzip(text))).await;
        assert_eq!(status(&answer), 415, "{name}");
        assert!(answer.contains("accept-encoding: gzip, zstd, deflate"), "{answer}");
    }
    assert_eq!(web.post("Content-Encoding: gzip", text).await.0, 400);
    assert_eq!(web.post("Content-Encoding: gzip", &gzip(text)[..20]).await.0, 400);
    assert_eq!(web.jobs(), 4);
}

#[tokio::test]
async fn a_chunked_body_is_taken() {
    let web = start("{}", wiring()).await;
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked";
    let answer = web.request(head, b"4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n").await;
    assert_eq!(body_of(&answer), r#"{"accepted":1,"refused":[],"refused_count":0}"#);
}

#[tokio::test]
async fn what_is_not_usable_is_a_bad_request_with_a_problem_document() {
    let web = start("{}", wiring()).await;
    for body in ["", " \r\n\t", "nonsense", "[1,2]", "{\"a\":1", "[]", "\u{0}"] {
        let answer = web.request("POST / HTTP/1.1", body.as_bytes()).await;
        assert_eq!(status(&answer), 400, "{body}");
        assert!(answer.contains("content-type: application/problem+json"), "{answer}");
        let problem: serde_json::Value = serde_json::from_str(body_of(&answer)).expect("JSON");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        assert_eq!(problem["status"], 400);
    }
    let web = start("on_bad: reject_all", wiring()).await;
    let (status, answer) = web.post("", b"{\"a\":1}\nnonsense").await;
    assert!(status == 400 && answer.contains(r#""accepted":0,"refused":[{"index":1"#), "{answer}");
    assert_eq!(web.jobs(), 0);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let web = start("path: /in", wiring()).await;
    for (line, expected) in [
        ("POST / HTTP/1.1", 404),
        ("GET /elsewhere HTTP/1.1", 404),
        ("POST /in/ HTTP/1.1", 404),
        ("GET /in HTTP/1.1", 405),
        ("DELETE /in?x=1 HTTP/1.1", 405),
        ("POST /in?x=1 HTTP/1.1", 200),
    ] {
        let answer = web.request(line, b"{}").await;
        assert_eq!(status(&answer), expected, "{line}");
        assert_eq!(answer.contains("allow: POST"), expected == 405, "{answer}");
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_before_anything_of_the_body_is_read() {
    let web = start(BEARER, wiring()).await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\n";
    for token in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic dG9rLTE=\r\n"] {
        let answer = web.raw(format!("{head}{token}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("www-authenticate: Bearer"), "{answer}");
        let gigabyte = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n{token}\r\nstart");
        assert_eq!(status(&web.raw(gigabyte.as_bytes()).await), 401);
    }
    assert_eq!(*web.wiring.auth_failures.lock().expect("no panic"), 6);
    assert!(web.wiring.permits.lock().expect("no panic").is_empty());

    let mut stream = TcpStream::connect(&web.address).await.expect("it listens");
    let good = format!("{head}Connection: close\r\nAuthorization: Bearer tok-1\r\n\r\n");
    stream.write_all(good.as_bytes()).await.expect("open");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(status(&send(&mut stream, b"{\"a\":1}").await), 200);
}

#[tokio::test]
async fn events_bear_the_stamp_of_who_sent_them_and_viewers_send_nothing() {
    let web = start(BEARER, wiring()).await;
    assert_eq!(web.post("Authorization: Bearer tok-1", b"{}").await.0, 200);
    let service = Stamp::service("shop");
    assert_eq!(web.last(|job| job.provenance.stamp.as_deref().cloned()), Some(service));
    let users = "{ ada: { password: a }, eve: { password: e, role: viewer }, bot: { password: b, role: ingest } }";
    let web = start(&format!("auth: {{ type: basic, users: {users} }}"), wiring()).await;
    // ada:a, bot:b and eve:e
    assert_eq!(web.post("Authorization: Basic YWRhOmE=", b"{}").await.0, 200);
    assert_eq!(web.last(|job| job.provenance.stamp.as_deref().cloned()), Some(Stamp::user("ada")));
    assert_eq!(web.post("Authorization: Basic Ym90OmI=", b"{}").await.0, 200);
    assert_eq!(web.last(|job| job.provenance.stamp.as_deref().cloned()), Some(Stamp::service("bot")));
    assert_eq!(web.post("Authorization: Basic ZXZlOmU=", b"{}").await.0, 403);
    let web = start("{}", wiring()).await;
    assert_eq!(web.post("", b"{}").await.0, 200);
    assert_eq!(web.last(|job| job.provenance.stamp.clone()), None);
    assert!(web.last(|job| job.provenance.peer).is_some_and(|ip| ip.is_loopback()));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_packed_or_not() {
    let web = start("max_body: 1 MiB", wiring()).await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let announced = format!("{head}Content-Length: 1048577\r\n\r\n");
    assert_eq!(status(&web.raw(announced.as_bytes()).await), 413);
    assert!(web.wiring.permits.lock().expect("no panic").is_empty());
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..20 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.resize(chunked.len() + 0x10000, b' ');
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(status(&web.raw(&chunked).await), 413);
    let bomb = gzip(&vec![b' '; 16 << 20]);
    assert_eq!(web.post("Content-Encoding: gzip", &bomb).await.0, 413);
    assert_eq!(web.post("", &vec![b' '; 1 << 20]).await.0, 400);
    let largest = *web.wiring.permits.lock().expect("no panic").iter().max().expect("some permit was taken");
    assert!(largest <= (1 << 20) + (1 << 16), "{largest}");
    assert_eq!(web.jobs(), 0);
}

#[tokio::test]
async fn a_full_journal_answers_429_before_the_body_is_read() {
    let web = start("{}", Wiring { space: 100_000, ..wiring() }).await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n";
    let answer = web.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    let packed = gzip(&vec![b' '; 200_000]);
    assert_eq!(web.post("Content-Encoding: gzip", &packed).await.0, 429);
    assert_eq!(web.post("", b"{}").await.0, 200);
    assert_eq!(web.jobs(), 1);
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_leaves_nothing() {
    let web = start("{}", wiring()).await;
    for head in
        ["Content-Length: 100\r\n\r\n{\"a\":1}\n", "Transfer-Encoding: chunked\r\n\r\n8\r\n{\"a\":1}\n\r\n5\r\n{\"a"]
    {
        let mut stream = TcpStream::connect(&web.address).await.expect("it listens");
        let start = format!("POST / HTTP/1.1\r\nHost: x\r\n{head}");
        stream.write_all(start.as_bytes()).await.expect("open");
        stream.shutdown().await.expect("open");
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(web.jobs(), 0);
}

#[tokio::test]
async fn the_same_key_and_body_are_known_again_however_they_are_packed() {
    let web = start("{}", wiring()).await;
    let mut seen = Vec::new();
    let packed = gzip(b"{\"a\":1}");
    for (headers, body) in [
        ("Idempotency-Key: k1", &b"{\"a\":1}"[..]),
        ("Idempotency-Key: k1\r\nContent-Encoding: gzip", &packed),
        ("Idempotency-Key: k1", b"{\"a\":2}"),
        ("Idempotency-Key: k2", b"{\"a\":1}"),
    ] {
        assert_eq!(web.post(headers, body).await.0, 200);
        seen.push(web.last(|job| (job.key.expect("it has a key"), decode(job)[0].batch.derived_id(0))));
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].0.key == seen[2].0.key && seen[0].0.body != seen[2].0.body);
    assert!(seen[0].0.key != seen[3].0.key && seen[0].0.body == seen[3].0.body && seen[0].1 != seen[3].1);
    assert_eq!(web.post("", b"{}").await.0, 200);
    assert_eq!(web.last(|job| job.key), None);
    assert_eq!(web.post("Idempotency-Key: ", b"{}").await.0, 400);
    assert_eq!(web.post(&format!("Idempotency-Key: {}", "k".repeat(257)), b"{}").await.0, 400);
}

#[tokio::test]
async fn a_stop_ends_bodies_under_way_with_503_and_waits_for_what_was_handed_in() {
    let web = start("{}", Wiring { silent: true, ..wiring() }).await;
    let mut reading = TcpStream::connect(&web.address).await.expect("it listens");
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    reading.write_all(head.as_bytes()).await.expect("open");
    reading.read_exact(&mut [0; 25]).await.expect("its body is being read");
    let mut waiting = TcpStream::connect(&web.address).await.expect("it listens");
    waiting.write_all(&request("POST / HTTP/1.1", b"{}")).await.expect("open");
    while web.jobs() == 0 {
        tokio::task::yield_now().await;
    }
    web.stop.cancel();
    let answer = send(&mut reading, b"").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    assert!(!web.server.is_finished());
    let open = web.wiring.unanswered.lock().expect("no panic").pop().expect("one is handed in");
    drop(open.send(Outcome { status: JobStatus::Done, accepted: 1, refused: Vec::new() }));
    assert_eq!(status(&send(&mut waiting, b"").await), 200);
    web.server.await.expect("no panic");
    assert!(TcpStream::connect(&web.address).await.is_err());
}

#[tokio::test]
async fn a_unix_socket_takes_events_and_goes_with_the_source() {
    let folder = std::env::temp_dir().join(format!("weir-http-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let path: PathBuf = folder.join("in.sock");
    let (wiring, stop) = (Arc::new(wiring()), CancellationToken::new());
    let source = build(&format!("address: unix:{}", path.display()), true).expect("right");
    let running = tokio::spawn(fake::run(source, context(&wiring, &stop)));
    let mut stream = loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(status(&send(&mut stream, &request("POST / HTTP/1.1", b"{}")).await), 200);
    assert_eq!(wiring.jobs.lock().expect("no panic")[0].provenance.peer, None);
    stop.cancel();
    running.await.expect("no panic").expect("an orderly end");
    assert!(!path.exists());
}

#[tokio::test]
async fn tls_is_spoken_and_plain_text_on_its_port_is_not() {
    let folder = std::env::temp_dir().join(format!("weir-https-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, pair.cert.pem()).expect("written");
    std::fs::write(&key, pair.signing_key.serialize_pem()).expect("written");
    let yaml = format!("tls: {{ cert: {}, key: {} }}", cert.display(), key.display());
    let web = start(&yaml, wiring()).await;
    let trust = tls::Trust { ca: Some(cert.clone()), ..Default::default() };
    let client = tls::client(&trust).expect("its own authority");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(&web.address).await.expect("it listens");
    let mut stream = connector.connect(name, stream).await.expect("a handshake");
    assert_eq!(status(&send(&mut stream, &request("POST / HTTP/1.1", b"{}")).await), 200);
    let answer = web.raw(&request("POST / HTTP/1.1", b"{}")).await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    assert_eq!(web.jobs(), 1);
}

#[tokio::test]
async fn what_stops_the_source_is_said_in_the_operators_words() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = taken.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let fatal = |yaml: String| {
        let (wiring, stop) = (Arc::new(wiring()), stop.clone());
        let source = build(&yaml, true).expect("right");
        async move { fake::run(source, context(&wiring, &stop)).await.expect_err("it cannot start").0 }
    };
    assert_eq!(fatal(format!("address: {at}")).await, format!("cannot listen on `{at}`: address already in use"));
    let missing = fatal("tls: { cert: /nowhere/cert.pem, key: /nowhere/key.pem }".into()).await;
    assert!(missing.starts_with("cannot use `/nowhere/"), "{missing}");
}

#[test]
fn a_wrong_configuration_is_said_before_anything_is_bound() {
    for (yaml, durable, said) in [
        ("address: 0.0.0.0:8687", true, "address: `0.0.0.0:8687` can be reached"),
        ("path: in", true, "path: `in` is not a path"),
        ("max_body: 0", true, "max_body: "),
        ("wait: journal", false, "wait: with a journal in memory"),
        ("max_connections: 0", true, "max_connections: "),
        ("auth: { type: jwt, jwt: { secret: changeme } }", true, "auth.jwt.secret: the secret has 8 bytes"),
    ] {
        let problems = build(yaml, durable).err().unwrap_or_default();
        assert!(problems.len() == 1 && problems[0].starts_with(said), "{yaml}: {problems:?}");
    }
    for yaml in ["address: 0.0.0.0:8687\nauth: { type: none }", "address: '[::1]:1'", "address: unix:/a"] {
        assert!(build(yaml, true).is_ok(), "{yaml}");
    }
    let wait = |yaml, durable| build(yaml, durable).map(|source| source.wait).ok();
    assert_eq!(wait("{}", true), Some(Wait::Journal));
    assert_eq!(wait("wait_timeout: 2s", false), Some(Wait::Delivered(std::time::Duration::from_secs(2))));
    assert_eq!(wait("wait: none", true), Some(Wait::None));
}
