//! What benchmarks measure with: events in pieces, and this process's CPU time.

use std::sync::Arc;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use weir::event::{Batch, Provenance, Scanner, Seed};
use weir::units::Timestamp;

/// The most bytes a source hands in at once.
const PIECE: usize = 256 << 10;

/// The events of the file that the command line names, or some of its own.
pub fn events() -> Vec<u8> {
    match std::env::args().skip(1).find(|argument| !argument.starts_with("--")) {
        Some(path) => std::fs::read(&path).expect("the file of events can be read"),
        None => made_up(100_000),
    }
}

/// The input in pieces as sources cut them: whole lines, at most 256 KiB.
pub fn pieces(events: &[u8]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(events);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let within = &rest[..rest.len().min(PIECE)];
        let end = memchr::memrchr(b'\n', within).expect("no line is longer than a piece") + 1;
        pieces.push(rest.split_to(end));
    }
    pieces
}

/// A batch of all lines of a piece, split.
pub fn split(piece: &Bytes) -> Batch {
    let provenance = Arc::new(Provenance {
        source: "bench".into(),
        seed: Seed([7; 16]),
        received_at: Timestamp(1_767_225_600_000_000),
        peer: Some([10, 0, 0, 1].into()),
        stamp: None,
    });
    let mut batch = Batch::new(piece.clone(), provenance);
    let (mut scanner, mut scratch, mut start) = (Scanner::new(), Vec::new(), 0);
    for end in memchr::memchr_iter(b'\n', piece) {
        batch.push_split(start..end, start as u64, &mut scanner, &mut scratch).expect("valid");
        start = end + 1;
    }
    batch
}

pub fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Code-execution events: 0.5 % with more than 10,000 characters of code, 2 % with an e-mail address.
fn made_up(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..count {
        let repeated = if n % 200 == 0 { 110 } else { 1 + n % 4 };
        let mail = if n % 50 == 0 { r#"notify(\"grace.hopper@example.org\")\n"# } else { "" };
        let lines =
            r#"    with open(path, \"r\", encoding=\"utf-8\") as fh:\n        return [json.loads(line) for line in fh]\n"#
                .repeat(repeated);
        let line = format!(
            r#"{{"timestamp":"2025-01-01T00:00:{:02}.{:03}Z","event_type":"code_execution","username":"user_{:03}","session_id":"5f0c2b1e-0000-4000-a000-{n:012}","cell_number":{},"code":"{mail}{lines}","execution_time_ms":{}.{:03},"status":"success","error_message":null,"metadata":{{"kernel":"python3","host":"nb-12","tags":["a","b"]}}}}"#,
            n % 60,
            n % 1000,
            n % 997,
            n % 400,
            n % 811,
            n % 991
        );
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out
}
