//! What benchmarks measure with: events in pieces, and this process's CPU time.

#[path = "../support/workload.rs"]
mod generator;

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
        None => generator::generate(100_000, 42).into_bytes(),
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
