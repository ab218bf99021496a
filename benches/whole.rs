//! The whole agent, from outside: MB of input per CPU-second of its process, peak memory, and yardsticks.
//!
//! `cargo bench --bench whole [-- NAME…]`; `WEIR_BENCH_FILE` names an NDJSON file to use instead of the generated one,
//! `WEIR_BENCH_EVENTS` how many events to generate (300,000), `WEIR_BENCH_FLUENT_BIT` a Fluent Bit to run beside it.

#[path = "support/fluent_bit.rs"]
mod fluent_bit;
#[path = "support/live.rs"]
mod live;
#[path = "support/workload.rs"]
mod workload;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

struct Input {
    path: PathBuf,
    text: Arc<Vec<u8>>,
    events: u64,
}

struct Figure {
    megabytes: f64,
    cpu: f64,
    wall: f64,
    peak_mib: f64,
    note: String,
}

const SAFE: &str = "transforms:\n  redact: { type: redact, inputs: [in] }\n  truncate: { type: truncate, inputs: \
                    [redact], fields: [code], max_chars: 10000 }\n  enrich: { type: enrich, inputs: [truncate], set: \
                    { agent: bench, host: nb-1 } }\n";

const NORMALIZE: &str = "transforms:\n  normalize: { type: normalize, inputs: [in] }\n";
/// The store makes its last part after its last event.
const SEALING: Duration = Duration::from_secs(2);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    let input = input();
    let tree = yardsticks(&input);
    println!("{:<34} {:>8} {:>7} {:>7} {:>9}  ×tree", "whole process", "MB/CPU-s", "CPU s", "wall s", "peak MiB");
    for mode in ["memory", "disk"] {
        for (name, source, transforms, sink) in [
            ("file-to-nothing", "file", "", "blackhole"),
            ("tcp-to-nothing", "tcp", "", "blackhole"),
            ("http-to-nothing", "http", "", "blackhole"),
            ("file-safe-file", "file", SAFE, "file"),
            ("file-normalize-store", "file", NORMALIZE, "store"),
        ] {
            let title = format!("{name} {mode}");
            if runs(&title) {
                show(&title, &median(|| measure(&input, mode, source, transforms, sink, 0)), tree);
            }
        }
    }
    for threads in [1, 2, 4] {
        let title = format!("file-to-nothing threads={threads}");
        if runs(&title) {
            show(&title, &measure(&input, "memory", "file", "", "blackhole", threads), tree);
        }
    }
    if let Some(program) = std::env::var_os("WEIR_BENCH_FLUENT_BIT").map(PathBuf::from) {
        for (title, filter, output) in fluent_bit::RUNS {
            if runs(title) {
                show(title, &median(|| fluent_bit::measure(&program, &input, filter, output)), tree);
            }
        }
    }
    if runs("one-event-posts") {
        one_event_posts(&input);
    }
    for mode in ["memory", "disk"] {
        let title = format!("live-latency {mode}");
        if runs(&title) {
            live_latency(&title, mode);
        }
    }
    if runs("idle") {
        idle();
    }
}

fn input() -> Input {
    let path = std::env::var_os("WEIR_BENCH_FILE").map(PathBuf::from).unwrap_or_else(|| {
        let events = std::env::var("WEIR_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300_000);
        let path = std::env::temp_dir().join(format!("weir-bench-{events}.ndjson"));
        if !path.exists() {
            fs::write(&path, workload::generate(events, 42)).expect("the workload can be written");
        }
        path
    });
    let text = fs::read(&path).expect("the workload can be read");
    let events = memchr::memchr_iter(b'\n', &text).count() as u64;
    println!("input: {events} events, {:.1} MB", text.len() as f64 / 1e6);
    Input { path, text: Arc::new(text), events }
}

/// What other ways of reading the same bytes cost here and now; returns serde_json's rate to a tree.
fn yardsticks(input: &Input) -> f64 {
    let megabytes = input.text.len() as f64 / 1e6;
    let rate = |work: &mut dyn FnMut()| {
        let start = own_cpu();
        work();
        megabytes / (own_cpu() - start)
    };
    let finding = rate(&mut || assert!(memchr::memchr_iter(b'\n', &input.text).count() > 0));
    let tree = rate(&mut || {
        for line in input.text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let tree: serde_json::Value = serde_json::from_slice(line).expect("the workload is valid");
            std::hint::black_box(&tree);
        }
    });
    println!("memchr for line ends: {finding:.0} MB per CPU-second; serde_json to a tree: {tree:.0}");
    tree
}

/// The run of three whose CPU time lies in the middle.
fn median(run: impl Fn() -> Figure) -> Figure {
    let mut figures = [run(), run(), run()];
    figures.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    let [_, middle, _] = figures;
    middle
}

fn show(title: &str, figure: &Figure, tree: f64) {
    let rate = figure.megabytes / figure.cpu;
    println!(
        "{title:<34} {rate:>8.0} {:>7.2} {:>7.2} {:>9.1}  {:.2} {}",
        figure.cpu,
        figure.wall,
        figure.peak_mib,
        rate / tree,
        figure.note
    );
}

fn measure(input: &Input, mode: &str, source: &str, transforms: &str, sink: &str, threads: usize) -> Figure {
    let folder = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let port = free_port();
    let source_yaml = match source {
        "file" => format!("{{ type: file, include: ['{}'], read_from: beginning }}", input.path.display()),
        "tcp" => format!("{{ type: socket, mode: tcp, address: '127.0.0.1:{port}' }}"),
        _ => format!("{{ type: http, address: '127.0.0.1:{port}' }}"),
    };
    let last = match transforms {
        "" => "in",
        SAFE => "enrich",
        _ => "normalize",
    };
    let memory = if sink == "store" { 256 } else { 64 };
    let sink_yaml = match sink {
        "file" => format!("{{ type: file, inputs: [{last}], path: '{}/out.ndjson' }}", folder.display()),
        "store" => format!("{{ type: store, inputs: [{last}] }}"),
        _ => format!("{{ type: blackhole, inputs: [{last}] }}"),
    };
    let threads = if threads > 0 { format!(", threads: {threads}") } else { String::new() };
    let yaml = format!(
        "journal: {{ mode: {mode} }}\nlimits: {{ memory: {memory} MiB{threads} }}\nsources:\n  in: {source_yaml}\n{transforms}\
         sinks:\n  out: {sink_yaml}\n"
    );
    let mut agent = Agent::start(&folder, &yaml);
    let started = Instant::now();
    match source {
        "tcp" => send_tcp(input, port),
        "http" => post_all(input, port, 16, 1000),
        _ => {}
    }
    while agent.metric("weir_events_delivered_total", "out") < input.events {
        std::thread::sleep(Duration::from_millis(25));
        assert!(started.elapsed() < Duration::from_secs(120), "not delivered: {}", agent.page());
    }
    let wall = started.elapsed().as_secs_f64();
    let mut note = String::new();
    if sink == "store" {
        std::thread::sleep(SEALING);
        let bytes = size_of(&folder.join("data/store")) / input.events;
        note = format!("{:.0} events per CPU-s, {bytes} bytes each", input.events as f64 / agent.cpu());
    }
    let figure =
        Figure { megabytes: input.text.len() as f64 / 1e6, cpu: agent.cpu(), wall, peak_mib: agent.peak_mib(), note };
    agent.stop();
    let _ = fs::remove_dir_all(&folder);
    figure
}

fn send_tcp(input: &Input, port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens");
    stream.write_all(&input.text).expect("the agent reads");
    stream.shutdown(std::net::Shutdown::Write).expect("the stream can be closed");
    let _ = stream.read(&mut [0; 1]);
}

/// Slices of `lines` lines over some connections, each after the answer to the one before.
fn post_all(input: &Input, port: u16, connections: usize, lines: usize) {
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &input.text).map(|at| at + 1).collect();
    let cuts: Vec<usize> = std::iter::once(0)
        .chain(ends.iter().copied().skip(lines - 1).step_by(lines))
        .chain([input.text.len()])
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens");
                stream.set_nodelay(true).expect("the stream can be set");
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

fn post(stream: &mut TcpStream, body: &[u8]) -> u16 {
    let head = format!("POST / HTTP/1.1\r\nHost: weir\r\nContent-Length: {}\r\n\r\n", body.len());
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

/// 10,000 requests a second of one event each over 64 connections for ten seconds, acknowledged after the sync.
fn one_event_posts(input: &Input) {
    const RATE: f64 = 10_000.0;
    const SECONDS: f64 = 10.0;
    let folder = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let port = free_port();
    let yaml = format!(
        "limits: {{ memory: 64 MiB }}\nsources:\n  in: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  out: {{ type: blackhole, inputs: [in] }}\n"
    );
    let mut agent = Agent::start(&folder, &yaml);
    let lines: Vec<&[u8]> = input.text.split_inclusive(|b| *b == b'\n').collect();
    let times = Mutex::new(Vec::new());
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens");
                stream.set_nodelay(true).expect("the stream can be set");
                let mut mine = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let due = n as f64 / RATE;
                    if due > SECONDS {
                        break;
                    }
                    let ahead = due - started.elapsed().as_secs_f64();
                    if ahead > 0.0 {
                        std::thread::sleep(Duration::from_secs_f64(ahead));
                    }
                    assert_eq!(post(&mut stream, lines[n % lines.len()]), 200);
                    // From when it was due, so that a slow answer also counts for those behind it.
                    mine.push(started.elapsed().as_secs_f64() - due);
                }
                times.lock().expect("no client panics").extend(mine);
            });
        }
    });
    let wall = started.elapsed().as_secs_f64();
    let mut times = times.into_inner().expect("no client panics");
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(times.len() as f64 * share) as usize] * 1000.0;
    println!(
        "one-event-posts: {} in {wall:.1} s, agent CPU {:.2} s, peak {:.1} MiB, journal {:.1} MiB, p50 {:.1} ms, p99 {:.1} ms",
        times.len(),
        agent.cpu(),
        agent.peak_mib(),
        size_of(&folder.join("data")) as f64 / 1048576.0,
        at(0.5),
        at(0.99)
    );
    agent.stop();
    let _ = fs::remove_dir_all(&folder);
}

fn live_latency(title: &str, mode: &str) {
    let folder = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let port = free_port();
    let mut agent = Agent::start(&folder, &live::yaml(mode, port));
    let shares = live::run(title, &folder, agent.api, port);
    println!("{shares}; agent CPU {:.2} s, peak {:.1} MiB", agent.cpu(), agent.peak_mib());
    agent.stop();
    let _ = fs::remove_dir_all(&folder);
}

fn idle() {
    let folder = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let yaml = format!(
        "sources:\n  in: {{ type: http, address: '127.0.0.1:{}' }}\nsinks:\n  out: {{ type: blackhole, inputs: [in] }}\n",
        free_port()
    );
    let started = Instant::now();
    let mut agent = Agent::start(&folder, &yaml);
    let ready = started.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    println!("idle: ready in {} ms, {:.1} MiB", ready.as_millis(), agent.status_mib("VmRSS:"));
    agent.stop();
    let _ = fs::remove_dir_all(&folder);
}

struct Agent {
    child: Child,
    api: u16,
}

impl Agent {
    fn start(folder: &Path, yaml: &str) -> Agent {
        let api = free_port();
        let text = format!("data_dir: {}/data\napi: {{ address: '127.0.0.1:{api}' }}\n{yaml}", folder.display());
        let config = folder.join("weir.yaml");
        fs::write(&config, text).expect("the configuration can be written");
        let log = fs::File::create(folder.join("log")).expect("the log can be made");
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "-c"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        let mut agent = Agent { child, api };
        while !agent.ask("/ready").starts_with("HTTP/1.1 200") {
            std::thread::sleep(Duration::from_millis(2));
            let ended = agent.child.try_wait().expect("the agent can be waited for");
            assert!(ended.is_none(), "the agent ended: {}", fs::read_to_string(folder.join("log")).unwrap_or_default());
        }
        agent
    }

    fn ask(&self, path: &str) -> String {
        ask(self.api, path)
    }

    fn page(&self) -> String {
        self.ask("/metrics")
    }

    fn metric(&self, name: &str, component: &str) -> u64 {
        let page = self.page();
        let label = format!("component=\"{component}\"");
        let line = page.lines().find(|line| line.starts_with(name) && line.contains(&label));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0) as u64
    }

    /// User and system time so far, in seconds.
    fn cpu(&self) -> f64 {
        cpu_of(&format!("/proc/{}/stat", self.child.id()))
    }

    fn status_mib(&self, field: &str) -> f64 {
        status_mib(self.child.id(), field)
    }

    fn peak_mib(&self) -> f64 {
        self.status_mib("VmHWM:")
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to a GET; empty if there is none.
fn ask(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let mut answer = String::new();
    let asked = write!(stream, "GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
    let _ = asked.and_then(|()| stream.read_to_string(&mut answer));
    answer
}

fn status_mib(process: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn own_cpu() -> f64 {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9
}

fn cpu_of(stat: &str) -> f64 {
    let text = fs::read_to_string(stat).unwrap_or_default();
    let fields: Vec<f64> =
        text.rsplit(") ").next().unwrap_or("").split(' ').map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)) / rustix::param::clock_ticks_per_second() as f64
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port is free").port()
}

fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_of(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
