//! How long an event is on its way from its POST to each of a hundred live clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

const CLIENTS: usize = 100;
const RATE: f64 = 1_000.0;
const SECONDS: f64 = 10.0;
/// Events that come before everything is warm are not counted.
const WARM: u64 = 1_000;

/// The sources and sinks of the run.
pub fn yaml(mode: &str, port: u16) -> String {
    format!(
        "journal: {{ mode: {mode} }}\nsources:\n  in: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  live: {{ type: sse, inputs: [in] }}\n"
    )
}

/// Sends events at their rate, one a POST, and times what each client receives. All clients are read by one thread, as a
/// proxy would: with a thread for each, most of what is measured is the kernel changing between them.
pub fn run(title: &str, folder: &Path, api: u16, port: u16) -> String {
    let tokens: Vec<String> = (0..10).map(|n| token(folder, &format!("admin{n}"))).collect();
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|n| connect(api, &tokens[n % tokens.len()])).collect();
    let (started, last) = (Instant::now(), (RATE * SECONDS) as u64);
    let mut times = std::thread::scope(|scope| {
        let receiving = scope.spawn(move || receive_all(clients, started, last));
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens");
        stream.set_nodelay(true).expect("the stream can be set");
        for n in 1..=last {
            let due = Duration::from_secs_f64(n as f64 / RATE);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            let body = format!("{{\"n\":{n},\"at\":{},\"code\":\"print({n})\"}}", started.elapsed().as_nanos());
            assert_eq!(super::senders::post(&mut stream, body.as_bytes()), 200);
        }
        receiving.join().expect("the clients do not panic")
    });
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)];
    let shares: Vec<String> = shares.iter().map(|(name, share)| format!("{name} {:.2} ms", at(*share))).collect();
    format!("{title}: {} frames, {}", times.len(), shares.join(", "))
}

fn token(folder: &Path, user: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["token", "--user", user, "--role", "admin", "--data-dir"])
        .arg(folder.join("data"))
        .output()
        .expect("weir token runs");
    String::from_utf8(out.stdout).expect("a token is text").trim().to_owned()
}

fn connect(api: u16, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", api)).expect("the agent listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("the stream can be set");
    write!(stream, "GET /api/stream?token={token} HTTP/1.1\r\nHost: weir\r\n\r\n").expect("the agent reads");
    let mut head = [0; 4096];
    let len = stream.read(&mut head).expect("the agent answers");
    assert!(head[..len].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head[..len]));
    stream
}

/// Milliseconds that each frame of each client was on its way, until all have the last event.
fn receive_all(clients: Vec<TcpStream>, started: Instant, last: u64) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let receiving: Vec<_> =
            clients.into_iter().map(|client| tokio::spawn(receive(client, started, last))).collect();
        let mut times = Vec::new();
        for client in receiving {
            times.extend(client.await.expect("no client panics"));
        }
        times
    })
}

async fn receive(stream: TcpStream, started: Instant, last: u64) -> Vec<f64> {
    stream.set_nonblocking(true).expect("the stream can be set");
    let mut stream = tokio::net::TcpStream::from_std(stream).expect("the stream is registered");
    let (mut times, mut text, mut buffer) = (Vec::new(), Vec::new(), vec![0; 16 * 1024]);
    loop {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await;
        let len = read.expect("frames come in time").expect("frames come");
        assert!(len > 0, "the agent closed a stream");
        let now = started.elapsed().as_nanos() as f64;
        text.extend_from_slice(&buffer[..len]);
        let whole = memchr::memrchr(b'\n', &text).map_or(0, |end| end + 1);
        for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"data:")) {
            let (Some(n), Some(at)) = (number(line, b"\"n\":"), number(line, b"\"at\":")) else { continue };
            if n > WARM {
                times.push((now - at as f64) / 1e6);
            }
            if n == last {
                return times;
            }
        }
        text.drain(..whole);
    }
}

/// The number behind a name.
fn number(line: &[u8], name: &[u8]) -> Option<u64> {
    let start = memchr::memmem::find(line, name)? + name.len();
    let digits = line[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
