//! Senders: one TCP stream, POSTs of many events as fast as they are answered, and POSTs of one event at a rate.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::inputs::Input;

pub fn send_tcp(input: &Input, port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens");
    stream.write_all(&input.text).expect("the agent reads");
    stream.shutdown(std::net::Shutdown::Write).expect("the stream can be closed");
    let _ = stream.read(&mut [0; 1]);
}

/// Slices of `lines` lines over some connections, each after the answer to the one before.
pub fn post_all(input: &Input, port: u16, connections: usize, lines: usize) {
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &input.text).map(|at| at + 1).collect();
    let cuts: Vec<usize> = std::iter::once(0)
        .chain(ends.iter().copied().skip(lines - 1).step_by(lines))
        .chain([input.text.len()])
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut stream = connect(port);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n + 1 >= cuts.len() {
                        break;
                    }
                    if cuts[n] < cuts[n + 1] {
                        while post(&mut stream, &input.text[cuts[n]..cuts[n + 1]]) == 429 {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                }
            });
        }
    });
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens");
    stream.set_nodelay(true).expect("the stream can be set");
    stream
}

/// `rate` requests a second of one event each over 64 connections; how long each answer took, in seconds, ascending.
pub fn post_singly(input: &Input, port: u16, rate: f64, seconds: f64) -> Vec<f64> {
    let lines: Vec<&[u8]> = input.text.split_inclusive(|b| *b == b'\n').collect();
    let times = Mutex::new(Vec::new());
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let (mut stream, mut mine) = (connect(port), Vec::new());
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let due = n as f64 / rate;
                    if due > seconds {
                        break;
                    }
                    let ahead = due - started.elapsed().as_secs_f64();
                    if ahead > 0.0 {
                        std::thread::sleep(Duration::from_secs_f64(ahead));
                    }
                    assert!((200..300).contains(&post(&mut stream, lines[n % lines.len()])), "it is accepted");
                    // From when it was due, so that a slow answer also counts for those behind it.
                    mine.push(started.elapsed().as_secs_f64() - due);
                }
                times.lock().expect("no client panics").extend(mine);
            });
        }
    });
    let mut times = times.into_inner().expect("no client panics");
    times.sort_by(f64::total_cmp);
    times
}

/// Sends one body and returns the status of the answer.
pub fn post(stream: &mut TcpStream, body: &[u8]) -> u16 {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).expect("the agent reads");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).expect("the agent answers");
        assert!(n > 0, "the agent closed the connection");
        answer.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length: usize = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next())
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            if answer.len() >= end + 4 + length {
                return text[9..12].parse().expect("a status");
            }
        }
    }
}
