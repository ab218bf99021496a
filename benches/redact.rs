//! What redaction costs, in MB of input per CPU-second, and what hostile input costs beside ordinary code.
//!
//! `cargo bench --bench redact` takes generated code executions, or the events of `$WEIR_BENCH_FILE`; each row redacts
//! batches whose events are validated, or split, beforehand (that is not counted). `$WEIR_BENCH_ROW` picks rows.

#[path = "../tests/integration/support/corpus/mod.rs"]
#[allow(dead_code)]
mod corpus;
#[path = "support/workload.rs"]
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use weir::codec::redaction::{Action, Engine, OwnRule, Report, Settings};
use weir::event::{Batch, Provenance, Scanner, Seed};
use weir::units::Timestamp;

const PIECE: usize = 256 << 10;
const ROUNDS: usize = 5;

fn main() {
    let events = match std::env::var("WEIR_BENCH_FILE") {
        Ok(file) => std::fs::read(file).expect("the file can be read"),
        Err(_) => workload::generate(60_000, 42).into_bytes(),
    };
    let started = Instant::now();
    let engine = Engine::new(&Settings::default()).expect("the built-in rules are right");
    println!("{:>34}  {:8.1} ms", "building the engine", started.elapsed().as_secs_f64() * 1e3);

    measure("validated events", &engine, &events, false);
    measure("split events", &engine, &events, true);
    measure("clean code as installed", &engine, &clean_code(), false);
    measure("secret-dense events", &engine, &dense(), false);
    measure("escaped text, \\u06xx", &engine, &escaped_text(40_000), false);
    measure("coloured tracebacks", &engine, &tracebacks(40_000), false);
    let own = |pattern: &str| {
        let rule = OwnRule { name: "own".into(), pattern: pattern.into(), action: Action::Mask };
        Engine::new(&Settings { own: vec![rule], ..Settings::default() }).expect("the pattern is right")
    };
    measure("own pattern with a word", &own("EMP-[0-9]{4}"), &events, false);
    measure("own pattern without a word", &own("[0-9]{3}-[0-9]{2}-[0-9]{4}"), &events, false);
    if std::env::var_os("WEIR_BENCH_ROW").is_none() {
        hostile(&engine);
    }
}

/// Code, documents and settings of this machine as events.
fn clean_code() -> Vec<u8> {
    let events = corpus::clean::events(700).into_iter();
    events.flat_map(|(_, _, text)| (serde_json::json!({ "code": text }).to_string() + "\n").into_bytes()).collect()
}

/// Events of which each holds a secret or two.
fn dense() -> Vec<u8> {
    let mut random = corpus::Random::new(5);
    let mut lines = String::new();
    for _ in 0..12 {
        for place in corpus::contexts::CONTEXTS.iter().flat_map(|(_, places)| places.iter()) {
            let value = corpus::random_value(&mut random);
            let name: &str = random.pick::<&str>(corpus::KEY_NAMES);
            let (text, _) = corpus::planted(place, name, &value);
            let form: &str = random.pick::<&str>(corpus::vendors::VENDORS);
            let token = corpus::vendors::made(form, &mut random);
            let event = serde_json::json!({ "user_id": "user_1", "cell_number": 7, "code": format!("x = 1\n{text}\nprint(x)\n"), "note": token });
            lines += &(event.to_string() + "\n");
        }
    }
    lines.into_bytes()
}

/// One MiB of what an attacker may repeat, as one text, beside one MiB of ordinary code.
fn hostile(engine: &Engine) {
    let mebibyte = |piece: &str| piece.repeat((1 << 20) / piece.len());
    let time = |text: &str| {
        let once = || {
            let before = cpu_seconds();
            std::hint::black_box(engine.redact_text(text.as_bytes()));
            cpu_seconds() - before
        };
        (0..2).map(|_| once()).fold(f64::MAX, f64::min)
    };
    let code: String = corpus::clean::events(60).into_iter().map(|(_, _, text)| text).collect();
    let ordinary = time(&code[..code.len().min(1 << 20)]) * (1 << 20) as f64 / code.len().min(1 << 20) as f64;
    println!("{:>34}  {:8.2} ms for one MiB", "ordinary code", ordinary * 1e3);
    let pieces = corpus::hostile::pieces(150, 150);
    let mut rows: Vec<(f64, &str)> = pieces.iter().map(|piece| (time(&mebibyte(piece)), piece.as_str())).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (seconds, piece) in rows.iter().take(24) {
        println!("{:>34?}  {:8.2} ms, {:5.1} times ordinary code", piece, seconds * 1e3, seconds / ordinary);
    }
}

fn measure(name: &str, engine: &Engine, events: &[u8], split: bool) {
    if std::env::var("WEIR_BENCH_ROW").is_ok_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let (mut best, mut found) = (0.0f64, BTreeMap::new());
    for _ in 0..ROUNDS {
        let mut batches: Vec<Batch> = pieces(events).iter().map(|piece| batch(piece, split)).collect();
        let mut report = Report::default();
        let before = cpu_seconds();
        for batch in &mut batches {
            engine.redact_batch(batch, &mut report);
        }
        best = best.max(events.len() as f64 / 1e6 / (cpu_seconds() - before));
        found = report.iter().map(|(rule, count)| (rule.to_owned(), count)).collect();
    }
    println!("{name:>34}  {best:8.0} MB per CPU-second  {found:?}");
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

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Text as Python's `json` writes it where it is not English.
fn escaped_text(count: usize) -> Vec<u8> {
    let text = "هذا سطر من النص العربي في خلية، يكتب كما يكتبه بايثون ".repeat(4);
    let escaped = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) };
    let text: String = text.chars().map(escaped).collect();
    let lines = (0..count).map(|n| {
        format!("{{\"user_id\":\"user_{n:05}\",\"cell_number\":{n},\"code\":\"print('{text}')\\nx = {n}\"}}\n")
    });
    lines.collect::<String>().into_bytes()
}

/// Errors as IPython colours them.
fn tracebacks(count: usize) -> Vec<u8> {
    let line = r"\u001b[0;32m      1\u001b[0m \u001b[0mdf\u001b[0m \u001b[0;34m=\u001b[0m \u001b[0mpd\u001b[0m\u001b[0;34m.\u001b[0m\u001b[0mread_csv\u001b[0m\u001b[0;34m(\u001b[0m\u001b[0mpath\u001b[0m\u001b[0;34m)\u001b[0m\u001b[0;34m\u001b[0m\n";
    let lines = (0..count).map(|n| format!("{{\"user_id\":\"user_{n:05}\",\"error_trace\":\"{}\"}}\n", line.repeat(4)));
    lines.collect::<String>().into_bytes()
}
