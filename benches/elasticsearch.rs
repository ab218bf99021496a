//! What documents for Elasticsearch cost: bulk bodies in MB of events per CPU-second, and a delivery to a real server.
//!
//! `cargo bench --bench elasticsearch [FILE]`; the delivery needs `tests/services/run start elasticsearch`, and its
//! variable in `WEIR_TEST_ELASTICSEARCH`.

#[allow(dead_code, reason = "this bench uses its part")]
#[path = "../tests/integration/support/mod.rs"]
mod support;
#[path = "support/workload.rs"]
mod workload;

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use support::search::Search;
use support::{Agent, Folder};
use weir::component::{RecordSlice, WriteBatch};
use weir::event::{Lines, Origins, Seed};
use weir::journal::{Record, StreamId};
use weir::sinks::elasticsearch::Config;
use weir::sinks::elasticsearch::encode::Encoder;
use weir::units::Timestamp;

const ROUNDS: usize = 5;
/// Events of one request.
const BATCH: usize = 1000;

fn main() {
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let events = match file {
        Some(path) => std::fs::read(&path).expect("the file of events can be read"),
        None => workload::generate(100_000, 42).into_bytes(),
    };
    let cuts = cuts(&events);
    let size = events.len();
    let copy = measure("copying the lines (memcpy)", size, || {
        for cut in &cuts {
            let mut out = Vec::with_capacity(cut.bytes());
            cut.chunks().for_each(|chunk| out.extend_from_slice(chunk));
            black_box(out);
        }
    });
    let compare = |rate: f64| println!("{:>44}  {:.2} of copying", "", rate / copy);
    let index = json!({"index": "activity"});
    compare(measure_body("bodies, one index", size, &cuts, &encoder(index)));
    let daily = encoder(json!({}));
    compare(measure_body("bodies, index by day", size, &cuts, &daily));
    compare(measure_body("bodies, ecs", size, &cuts, &encoder(json!({"encoding": "ecs"}))));
    let bodies: Vec<Vec<u8>> = cuts.iter().map(|cut| daily.body(cut).expect("a body")).collect();
    for level in [1, 2, 4, 6] {
        let mut sent = 0;
        measure(&format!("gzip level {level} alone"), size, || {
            sent = bodies.iter().map(|body| gzip(body, level)).sum();
        });
        println!("{:>44}  {:.1} times smaller", "", bodies.iter().map(Vec::len).sum::<usize>() as f64 / sent as f64);
    }
    measure("bodies, index by day, gzip", size, || {
        cuts.iter().for_each(|cut| drop(black_box(daily.encode(cut).expect("a body"))));
    });
    for compression in ["none", "gzip"] {
        deliver(&events, compression);
    }
}

fn encoder(more: serde_json::Value) -> Encoder {
    let mut config = json!({"endpoints": ["http://localhost:9200"]});
    config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let config: Config = serde_json::from_value(config).expect("a configuration");
    config.encoder().expect("it can be used")
}

/// Cuts as the delivery loop makes them.
fn cuts(events: &[u8]) -> Vec<WriteBatch> {
    let lines: Vec<&[u8]> = events.split_inclusive(|byte| *byte == b'\n').collect();
    let cut = |lines: &[&[u8]]| {
        let ends = lines.iter().scan(0, |end, line| {
            *end += line.len() as u32;
            Some(*end)
        });
        let ends = ends.collect();
        let origins = Origins::of(Seed([3; 16]), 0..lines.len() as u64);
        let lines = Lines { bytes: Bytes::from(lines.concat()), ends, origins };
        let count = lines.len();
        let received_at = Timestamp(1_767_225_600_000_000);
        let record = Record { stream: StreamId(1), first_seq: 1, stream_first: 0, received_at, lines };
        WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..count }] }
    };
    lines.chunks(BATCH).map(cut).collect()
}

fn measure_body(name: &str, size: usize, cuts: &[WriteBatch], encoder: &Encoder) -> f64 {
    measure(name, size, || cuts.iter().for_each(|cut| drop(black_box(encoder.body(cut).expect("a body")))))
}

/// The best of some rounds, in MB of events per second of this process's CPU.
fn measure(name: &str, size: usize, mut act: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = cpu_seconds();
        act();
        best = best.min(cpu_seconds() - start);
    }
    let rate = size as f64 / best / 1e6;
    println!("{name:>44}  {rate:>6.0} MB/CPU-s");
    rate
}

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn gzip(body: &[u8], level: u32) -> usize {
    let level = flate2::Compression::new(level);
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), level);
    encoder.write_all(body).expect("memory takes it");
    encoder.finish().expect("memory takes it").len()
}

/// File to server, with the index template, four requests at a time.
fn deliver(events: &[u8], compression: &str) {
    let (server, folder) = (Search::elasticsearch(), Folder::new());
    let index = format!("bench-{}-{compression}", std::process::id());
    let path = folder.path("events.ndjson");
    std::fs::write(&path, events).expect("the events can be written");
    let count = memchr::memchr_iter(b'\n', events).count() as u64;
    let yaml = format!(
        "sources:\n  in: {{ type: file, include: ['{}'], read_from: beginning }}\n\
         sinks:\n  out:\n    {{ type: elasticsearch, inputs: [in], endpoints: ['{}'], index: {index}, compression: \
         {compression}, install_template: true, concurrency: 4 }}\n",
        path.display(),
        server.url
    );
    let began = Instant::now();
    let agent = Agent::start(&folder, &yaml);
    while agent.metric("weir_events_delivered_total", "out") < count {
        assert!(began.elapsed() < Duration::from_secs(300), "not delivered: {}", agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_of(agent.child.id()));
    assert_eq!(server.count(&index), count);
    server.must("DELETE", &format!("/{index}"), None);
    println!(
        "delivery, compression {compression}: {count} events in {wall:.1} s ({:.0}/s), the agent's CPU {cpu:.2} s ({:.0} MB/CPU-s)",
        count as f64 / wall,
        events.len() as f64 / cpu / 1e6
    );
}

fn cpu_of(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks = |nth: usize| fields[nth].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}
