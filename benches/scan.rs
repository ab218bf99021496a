//! What looking at events costs: our scanner and batch beside the usual ways, in MB of input per CPU-second.
//!
//! `cargo bench --bench scan [FILE]`; without a file it makes events of its own. `ONLY=validate` measures that alone.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde::de::IgnoredAny;
use weir::event::{Batch, Provenance, Scanner, Seed};
use weir::units::Timestamp;

const PIECE: usize = 256 << 10;

fn main() {
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let events = match file {
        Some(path) => std::fs::read(&path).expect("the file of events can be read"),
        None => made_up(100_000),
    };
    let pieces = pieces(&events);
    let tree = measure(
        "serde_json to a tree",
        &pieces,
        each_line(|line| {
            black_box(serde_json::from_slice::<serde_json::Value>(line).expect("valid"));
        }),
    );
    let report = |name: &str, rate: f64| println!("{:>38}  {:5.1} times the tree", format!("({name})"), rate / tree);
    report(
        "nothing",
        measure(
            "serde_json to nothing",
            &pieces,
            each_line(|line| {
                black_box(serde_json::from_slice::<IgnoredAny>(line).expect("valid"));
            }),
        ),
    );
    report(
        "lines",
        measure("finding lines", &pieces, |piece| {
            black_box(memchr::memchr_iter(b'\n', piece).count());
        }),
    );
    let mut plain = Scanner::plain();
    report(
        "safe twin",
        measure("validate, safe twin", &pieces, each_line(|line| plain.validate(line).expect("valid"))),
    );
    let mut scanner = Scanner::new();
    report("validate", measure("validate", &pieces, each_line(|line| scanner.validate(line).expect("valid"))));
    let mut members = Vec::new();
    report(
        "split",
        measure(
            "split",
            &pieces,
            each_line(|line| {
                members.clear();
                scanner.split(line, &mut members).expect("valid");
                black_box(&members);
            }),
        ),
    );
    report(
        "prefix",
        measure("prefix by prefix", &pieces, |piece| {
            let mut at = 0;
            while at + 1 < piece.len() {
                at += scanner.prefix(&piece[at..]).expect("valid");
            }
        }),
    );
    report(
        "batch",
        measure("batch: split", &pieces, |piece| {
            black_box(batch(piece, true));
        }),
    );
    report(
        "untouched",
        measure("batch: validate, render", &pieces, |piece| {
            black_box(batch(piece, false).render());
        }),
    );
    report(
        "set three",
        measure("batch: split, set three, render", &pieces, |piece| {
            let mut batch = batch(piece, true);
            set_three(&mut batch);
            black_box(batch.render());
        }),
    );
    let escaped = escaped_text(20_000);
    let pieces = self::pieces(&escaped);
    measure(
        "escaped: serde_json to a tree",
        &pieces,
        each_line(|line| {
            black_box(serde_json::from_slice::<serde_json::Value>(line).expect("valid"));
        }),
    );
    measure("escaped: validate", &pieces, each_line(|line| scanner.validate(line).expect("valid")));
}

fn batch(piece: &Bytes, split: bool) -> Batch {
    let provenance = Arc::new(Provenance {
        source: "bench".into(),
        seed: Seed([7; 16]),
        received_at: Timestamp(0),
        peer: None,
        stamp: None,
    });
    let mut batch = Batch::new(piece.clone(), provenance);
    let (mut scanner, mut scratch, mut start) = (Scanner::new(), Vec::new(), 0);
    for end in memchr::memchr_iter(b'\n', piece) {
        if split {
            batch.push_split(start..end, start as u64, &mut scanner, &mut scratch).expect("valid");
        } else {
            scanner.validate(&piece[start..end]).expect("valid");
            batch.push_validated(start..end, start as u64);
        }
        start = end + 1;
    }
    batch
}

fn set_three(batch: &mut Batch) {
    let [agent, host, received] = ["agent", "host", "received_at"].map(|name| batch.name_id(name));
    for event in 0..batch.len() {
        batch.set_str(event, agent, "bench-1");
        batch.set_str(event, host, "nb-12");
        batch.set_json(event, received, b"\"2026-01-01T00:00:00Z\"");
    }
}

/// The input in pieces as sources cut them: whole lines, at most 256 KiB.
fn pieces(events: &[u8]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(events);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let within = &rest[..rest.len().min(PIECE)];
        let end = memchr::memrchr(b'\n', within).expect("no line is longer than a piece") + 1;
        pieces.push(rest.split_to(end));
    }
    pieces
}

fn each_line(mut act: impl FnMut(&[u8])) -> impl FnMut(&Bytes) {
    move |piece| {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            act(&piece[start..end]);
            start = end + 1;
        }
    }
}

/// The best of some rounds, in MB per second of this process's CPU.
fn measure(name: &str, pieces: &[Bytes], mut act: impl FnMut(&Bytes)) -> f64 {
    let size: usize = pieces.iter().map(Bytes::len).sum();
    if std::env::var("ONLY").is_ok_and(|only| only != name) {
        return f64::NAN;
    }
    let best = (0..7).map(|_| {
        let before = cpu_seconds();
        pieces.iter().for_each(&mut act);
        size as f64 / 1e6 / (cpu_seconds() - before)
    });
    let best = best.fold(0.0, f64::max);
    println!("{name:>38}  {best:8.0} MB per CPU-second");
    best
}

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn made_up(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..count {
        let lines = r#"    with open(path, \"r\", encoding=\"utf-8\") as fh:\n        return [json.loads(line) for line in fh]\n"#
            .repeat(1 + n % 4);
        let line = format!(
            r#"{{"timestamp":"2025-01-01T00:00:{:02}.{:03}Z","event_type":"code_execution","username":"user_{:03}","session_id":"5f0c2b1e-0000-4000-a000-{n:012}","cell_number":{},"code":"{lines}","execution_time_ms":{}.{:03},"status":"success","error_message":null,"metadata":{{"kernel":"python3","host":"nb-12","tags":["a","b"]}}}}"#,
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

/// Text as Python's `json` writes it where it is not English.
fn escaped_text(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..count {
        let text: String = (0..80).map(|at| format!("\\u06{:02x}", 0x20 + (at * 7 + n) % 0x40)).collect();
        out.extend_from_slice(format!("{{\"id\":{n},\"message\":\"{text}\",\"status\":\"success\"}}\n").as_bytes());
    }
    out
}
