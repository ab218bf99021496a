//! Tests of the server against clients that are slow, silent, malformed or random.

use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::*;
use crate::net::wire::Stream;

/// Reads the body and answers with its length, or with what went wrong.
struct Echo;

impl Handler for Echo {
    fn connection_failed(&self, _: &'static str) {}

    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Body> {
        if request.uri().path() == "/refuse" {
            return Problem::not_found().closing().into_response();
        }
        if request.uri().path() == "/endless" {
            let endless = poll_fn(|_| Poll::Ready(()));
            let stream = futures_util::stream::unfold(endless, |endless| async {
                Some((Ok(hyper::body::Frame::data(bytes::Bytes::from(vec![b'x'; 1 << 16]))), endless))
            });
            return Response::new(Body::stream(http_body_util::StreamBody::new(stream).boxed_unsync()));
        }
        let (head, body) = request.into_parts();
        let encoding = match body::encoding(&head.headers) {
            Ok(encoding) => encoding,
            Err(problem) => return problem.into_response(),
        };
        let mut received = 0;
        match body::read(body, encoding, &BodyLimits::of(1 << 16), &mut received, |_| Ok::<_, ()>(())).await {
            Ok(bytes) => Response::new(Body::from(format!("{} bytes", bytes.len()))),
            Err(error) => Problem::bad_request(format!("{error:?}")).closing().into_response(),
        }
    }
}

/// Says which thread answers, panics, or waits forever and tells when it is given up.
#[derive(Default)]
struct Odd {
    begun: tokio::sync::Notify,
    given_up: Arc<tokio::sync::Notify>,
}

struct GivenUp(Arc<tokio::sync::Notify>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Handler for Odd {
    fn connection_failed(&self, _: &'static str) {}

    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Body> {
        match request.uri().path() {
            "/panic" => panic!("as asked"),
            "/wait" => {
                self.begun.notify_one();
                let _given_up = GivenUp(self.given_up.clone());
                std::future::pending().await
            }
            _ => Response::new(Body::from(format!("by {:?}", std::thread::current().name()))),
        }
    }
}

/// A connection to a server of its own, and the task that ends (or panics) with it.
fn connect(limits: Limits, shutdown: &CancellationToken) -> (UnixStream, tokio::task::JoinHandle<()>) {
    connect_to(Arc::new(Echo), limits, shutdown)
}

fn connect_to<H: Handler>(
    handler: Arc<H>,
    limits: Limits,
    shutdown: &CancellationToken,
) -> (UnixStream, tokio::task::JoinHandle<()>) {
    let (client, server) = UnixStream::pair().expect("a pair of sockets");
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one is free");
    let accepted = Accepted { stream: Stream::Unix(server), peer: None, permit, proxies: None };
    (client, tokio::spawn(connection(accepted, None, limits, handler, Shutdown::with(shutdown.clone()))))
}

/// Sends bytes and gives what comes back until the server closes.
async fn exchange(sent: &[u8]) -> String {
    let (mut client, server) = connect(Limits::default(), &CancellationToken::new());
    // A server that has refused may have closed by now.
    drop(client.write_all(sent).await);
    drop(client.shutdown().await);
    let mut answer = Vec::new();
    drop(client.read_to_end(&mut answer).await);
    server.await.expect("the server does not panic");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_turn() {
    let two = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nHost: x\r\n\
               Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    let answer = exchange(two.as_bytes()).await;
    assert!(answer.contains("\r\n\r\n3 bytesHTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n5 bytes"), "{answer}");
}

#[tokio::test]
async fn an_address_may_have_what_people_write_in_queries_in_each_request_of_a_connection() {
    let (mut client, _server) = connect(Limits::default(), &CancellationToken::new());
    for n in 0..3 {
        let request = format!("POST /?q=a:>{n}%20AND%20\"<b>\" HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\"<b>");
        client.write_all(request.as_bytes()).await.expect("it is taken");
        let mut answer = vec![0; 1000];
        let length = client.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n4 bytes"), "{answer}");
    }
}

#[tokio::test]
async fn another_runtime_answers_what_panics_there_ends_its_connection_and_what_nobody_waits_for_is_given_up() {
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("other").build();
    let other = other.expect("a runtime starts");
    let odd = Arc::new(Odd::default());
    let handler = Arc::new(AnsweredOn { runtime: other.handle().clone(), handler: odd.clone() });
    let ask = async |path: &str| {
        let (mut client, server) = connect_to(handler.clone(), Limits::default(), &CancellationToken::new());
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("open");
        (client, server)
    };
    let (mut client, server) = ask("/panic").await;
    assert_eq!(client.read(&mut [0; 1000]).await.expect("an orderly close"), 0);
    assert!(server.await.expect_err("it has panicked").is_panic());
    let (_client, server) = ask("/wait").await;
    odd.begun.notified().await;
    server.abort();
    odd.given_up.notified().await;
    let (mut client, _server) = ask("/").await;
    let mut answer = vec![0; 1000];
    let length = client.read(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("by Some(\"other\")"), "{answer}");
    other.shutdown_background();
}

#[tokio::test]
async fn a_request_names_one_host() {
    for (hosts, status) in
        [("Host: x\r\n", "200"), ("", "400"), ("Host: x\r\nHost: y\r\n", "400"), ("Host: x\r\nHost: x\r\n", "400")]
    {
        let answer = exchange(format!("POST / HTTP/1.1\r\n{hosts}Content-Length: 2\r\n\r\n{{}}").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{hosts}: {answer}");
    }
    assert!(exchange(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}").await.starts_with("HTTP/1.0 200"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_ends_the_connection_after_ten_seconds() {
    for sent in ["", "POST", "POST / HTTP/1.1\r\nHost: x\r\n"] {
        let start = Instant::now();
        let (mut client, server) = connect(Limits::default(), &CancellationToken::new());
        client.write_all(sent.as_bytes()).await.expect("the server listens");
        assert_eq!(client.read(&mut [0; 1]).await.expect("an orderly close"), 0);
        server.await.expect("no panic");
        assert_eq!(start.elapsed().as_secs(), 10, "{sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_later_request_may_not_take_longer_than_the_first() {
    let (mut client, server) = connect(Limits::default(), &CancellationToken::new());
    let mut answer = [0; 1024];
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("open");
    assert!(client.read(&mut answer).await.expect("an answer") > 0);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let start = Instant::now();
    client.write_all(b"GET / HT").await.expect("open");
    assert_eq!(client.read(&mut answer).await.expect("an orderly close"), 0);
    server.await.expect("no panic");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn drops_of_a_head_do_not_move_its_deadline() {
    let start = Instant::now();
    let (mut client, server) = connect(Limits::default(), &CancellationToken::new());
    let dripping = async {
        while client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    };
    let ((), ended) = tokio::join!(dripping, server);
    ended.expect("no panic");
    assert!(start.elapsed().as_secs() <= 12);
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_rest_between_requests_for_longer_than_a_head_may_take() {
    let (mut client, server) = connect(Limits::default(), &CancellationToken::new());
    let mut answer = [0; 1024];
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("still open");
        let len = client.read(&mut answer).await.expect("an answer");
        assert!(answer[..len].starts_with(b"HTTP/1.1 200 OK"));
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(client.read(&mut answer).await.expect("an orderly close"), 0);
    server.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_or_trickles_is_given_up() {
    for (pause, last) in [(1000, 31), (10, 41)] {
        let start = Instant::now();
        let (mut client, server) = connect(Limits::default(), &CancellationToken::new());
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n").await.expect("open");
        let (mut reading, mut writing) = client.split();
        let mut answer = String::new();
        let trickle = async {
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(pause)).await;
            }
        };
        tokio::select! {
            () = trickle => {}
            read = reading.read_to_string(&mut answer) => drop(read),
        }
        assert!(answer.contains("TooSlow"), "{answer}");
        assert!(start.elapsed().as_secs() <= last, "{:?}", start.elapsed());
        server.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_the_answer_is_let_go() {
    let (mut client, server) = connect(Limits::default(), &CancellationToken::new());
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("open");
    let start = Instant::now();
    server.await.expect("no panic");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let (mut client, server) = connect(Limits::default(), &CancellationToken::new());
    let head = "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("open");
    let mut sent = 0;
    let waste = vec![b'x'; 1 << 16];
    while sent < 80 << 20 {
        match client.write(&waste).await {
            Ok(len) => sent += len,
            Err(_) => break,
        }
    }
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.expect("the answer is there");
    assert_eq!(&answer, b"HTTP/1.1 404");
    assert!(sent > 1 << 20, "closing at once would have reset the connection: {sent}");
    assert!(sent < 72 << 20, "of a gigabyte most is never read: {sent}");
    server.await.expect("no panic");
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_refuses_what_comes_on_busy_ones() {
    let stop = CancellationToken::new();
    let (mut idle, ended) = connect(Limits::default(), &stop);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("open");
    let mut answer = [0; 1024];
    assert!(idle.read(&mut answer).await.expect("an answer") > 0);
    stop.cancel();
    assert_eq!(idle.read(&mut answer).await.expect("an orderly close"), 0);
    ended.await.expect("no panic");

    let (mut late, ended) = connect(Limits::default(), &CancellationToken::new());
    late.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("open");
    assert!(late.read(&mut answer).await.expect("an answer") > 0);
    drop(late);
    ended.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn who_had_connected_before_a_stop_is_answered_and_who_says_nothing_is_let_go() {
    for first_at in [Duration::from_millis(1), FIRST_REQUEST / 2] {
        let shutdown = CancellationToken::new();
        let (mut client, server) = connect(Limits::default(), &shutdown);
        tokio::task::yield_now().await;
        shutdown.cancel();
        tokio::time::sleep(first_at).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("the connection is open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 503 "), "after {first_at:?}: {answer}");
        server.await.expect("the server does not panic");
    }
    let shutdown = CancellationToken::new();
    let (_client, server) = connect(Limits::default(), &shutdown);
    tokio::task::yield_now().await;
    let began = Instant::now();
    shutdown.cancel();
    server.await.expect("the server does not panic");
    assert!(began.elapsed() <= FIRST_REQUEST + Duration::from_millis(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn too_many_and_too_large_headers_are_refused() {
    let many: String = (0..101).map(|n| format!("h{n}: x\r\n")).collect();
    let large = format!("h: {}\r\n", "x".repeat(70_000));
    for headers in [many, large] {
        let answer = exchange(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert_document(&answer, 431);
    }
}

#[track_caller]
fn assert_document(answer: &str, status: u16) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{answer}");
    assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{answer}");
    let document: serde_json::Value = serde_json::from_str(body).expect("a document");
    assert!(document["status"] == status && document["detail"].is_string(), "{answer}");
}

#[tokio::test]
async fn what_is_no_request_is_told_so_in_a_document() {
    for sent in ["GARBAGE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nno header\r\n\r\n"] {
        let answer = exchange(sent.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_document(&answer, 400);
    }
    let both = exchange(b"GET /refuse HTTP/1.1\r\nHost: x\r\n\r\nGARBAGE\r\n\r\n").await;
    assert!(both.starts_with("HTTP/1.1 404 "), "{both}");
}

#[tokio::test]
async fn a_length_that_64_bits_cannot_hold_is_too_large_and_one_that_is_no_number_is_no_request() {
    for (length, status) in [
        ("99999999999999999999", 413),
        ("18446744073709551616", 413),
        ("000000000000000000000000099999999999999999999", 413),
        (&"9".repeat(300), 413),
        ("-1", 400),
        ("5x", 400),
        ("99999999999999999999x", 400),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\ncontent-Length:{length}\r\n\r\n{{}}");
        let answer = exchange(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{length}: {answer}");
        assert_document(&answer, status);
    }
}

/// Random bytes, or a request of which something is wrong.
fn rude() -> impl Strategy<Value = Vec<u8>> {
    let part = |choices: &'static [&'static str]| proptest::sample::select(choices);
    let request = (
        part(&["POST", "GET", "PUT", "\u{1F980}", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST POST"]),
        part(&["/", "*", "http://x/", "/?a=%ff", "", "/endless\u{0}"]),
        part(&["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", ""]),
        proptest::collection::vec(
            part(&[
                "Host: x",
                "Content-Length: 5",
                "Content-Length: 99999999999999999999",
                "Content-Length: -1",
                "Transfer-Encoding: chunked",
                "Transfer-Encoding: chunked, gzip",
                "Content-Encoding: gzip",
                "Content-Encoding: deflate",
                "Content-Encoding: zstd",
                "Expect: 100-continue",
                "Connection: upgrade",
                "Upgrade: websocket",
                "x",
                ": y",
                " folded",
            ]),
            0..6,
        ),
        proptest::collection::vec(any::<u8>(), 0..40),
        part(&[
            "",
            "5\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffffff\r\n",
            "5\r\nhel",
            "0\r\nx: y\r\n\r\n",
            "\u{1f}\u{8b}",
        ]),
    );
    let request = request.prop_map(|(method, path, version, headers, tail, body)| {
        let mut text = format!("{method} {path} {version}\r\n{}\r\n\r\n{body}", headers.join("\r\n")).into_bytes();
        text.extend(tail);
        text
    });
    prop_oneof![request, proptest::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_the_server_panic(sent in rude()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(exchange(&sent));
    }
}
