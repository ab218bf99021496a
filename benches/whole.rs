//! The whole agent, from outside: MB of input per CPU-second of its process, peak memory, yardsticks, and Fluent Bit beside
//! it.
//!
//! `cargo bench --bench whole [-- NAME…]`; `WEIR_BENCH_FILE` names an NDJSON file to use instead of the generated one,
//! `WEIR_BENCH_EVENTS` how many events to generate (300,000), `WEIR_BENCH_FLUENT_BIT` a Fluent Bit to run beside it,
//! `WEIR_BENCH_AGENT` another build of the agent. Each case runs on all cores, and as `NAME pinned` on one.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/fluent_bit.rs"]
mod fluent_bit;
#[path = "support/inputs.rs"]
mod inputs;
#[path = "support/live.rs"]
mod live;
#[path = "support/senders.rs"]
mod senders;
#[path = "support/workload.rs"]
mod workload;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::{Agent, Folder, free_port, size_of};
use inputs::{Input, Inputs, Kind};

struct Figure {
    megabytes: f64,
    cpu: f64,
    wall: f64,
    peak_mib: f64,
    note: String,
}

/// What Fluent Bit can do of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    None,
    /// The same source, to nothing.
    Plain,
    /// Files through Lua into a file.
    Safe,
}

struct Case {
    name: &'static str,
    input: Kind,
    source: &'static str,
    /// Of a source that is sent to by HTTP.
    connections: usize,
    transforms: &'static str,
    sinks: usize,
    sink: &'static str,
    modes: &'static [&'static str],
    peer: Peer,
}

const BOTH: &[&str] = &["memory", "disk"];

/// One file to nothing.
const PLAIN: Case = Case {
    name: "file-to-nothing",
    input: Kind::One,
    source: "file",
    connections: 0,
    transforms: "",
    sinks: 1,
    sink: "blackhole",
    modes: BOTH,
    peer: Peer::Plain,
};

const SAFE: &str = "transforms:\n  redact: { type: redact, inputs: [in] }\n  truncate: { type: truncate, inputs: \
                    [redact], fields: [code], max_chars: 10000 }\n  enrich: { type: enrich, inputs: [truncate], set: \
                    { agent: bench, host: nb-1 } }\n";

/// The same with what the script of Fluent Bit looks for, beside the built-in rules.
const PATTERNS: &str = "transforms:\n  redact: { type: redact, inputs: [in], rules: [builtin, { name: own_key, pattern: \
                        'AKIA[A-Z]{16}' }, { name: own_mail, pattern: '[\\w.-]+@[\\w.-]+\\.[a-z]+' }, { name: own_word, \
                        pattern: '[Pp]assword\\s*=\\s*\\S+' }] }\n  truncate: { type: truncate, inputs: [redact], fields: \
                        [code], max_chars: 10000 }\n  enrich: { type: enrich, inputs: [truncate], set: { agent: bench, host: \
                        nb-1 } }\n";

const NORMALIZE: &str = "transforms:\n  normalize: { type: normalize, inputs: [in] }\n";
/// The store makes its last part after its last event.
const SEALING: Duration = Duration::from_secs(2);

const CASES: [Case; 14] = [
    PLAIN,
    Case { name: "tcp-to-nothing", source: "tcp", ..PLAIN },
    Case { name: "http=1-to-nothing", source: "http", connections: 1, ..PLAIN },
    Case { name: "http=4-to-nothing", source: "http", connections: 4, ..PLAIN },
    Case { name: "file-safe-file", transforms: SAFE, sink: "file", peer: Peer::Safe, ..PLAIN },
    Case { name: "file-patterns-file", transforms: PATTERNS, sink: "file", peer: Peer::Safe, ..PLAIN },
    Case { name: "file-normalize-store", transforms: NORMALIZE, sink: "store", peer: Peer::None, ..PLAIN },
    Case { name: "files=1000", input: Kind::Files(1_000), ..PLAIN },
    Case { name: "files=10000", input: Kind::Files(10_000), ..PLAIN },
    Case { name: "large=6KB", input: Kind::Large(6_000), ..PLAIN },
    Case { name: "large=60KB", input: Kind::Large(60_000), ..PLAIN },
    Case { name: "sinks=1", sink: "file", modes: &["memory"], peer: Peer::None, ..PLAIN },
    Case { name: "sinks=4", sinks: 4, sink: "file", modes: &["memory"], peer: Peer::None, ..PLAIN },
    Case { name: "sinks=16", sinks: 16, sink: "file", peer: Peer::None, ..PLAIN },
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    let peer = std::env::var_os("WEIR_BENCH_FLUENT_BIT").map(PathBuf::from);
    let inputs = Inputs::new();
    let tree = yardsticks(&inputs.one);
    println!(
        "{:<34} {:>8} {:>7} {:>7} {:>9} {:>6}  ×Fluent Bit",
        "whole process", "MB/CPU-s", "CPU s", "wall s", "peak MiB", "×tree"
    );
    for pinned in [false, true] {
        let pin = if pinned { " pinned" } else { "" };
        for case in &CASES {
            let titles: Vec<(&str, String)> =
                case.modes.iter().map(|mode| (*mode, format!("{} {mode}{pin}", case.name))).collect();
            if !titles.iter().any(|(_, title)| runs(title)) {
                continue;
            }
            let input = inputs.get(case.input);
            let beside = peer.as_ref().filter(|_| case.peer != Peer::None).map(|path| {
                let figure = median(|| fluent_bit::measure(path, input, case, pinned));
                show(&format!("{} fluent-bit{pin}", case.name), &figure, tree, None);
                figure.megabytes / figure.cpu
            });
            for (mode, title) in titles.iter().filter(|(_, title)| runs(title)) {
                show(title, &median(|| measure(input, case, mode, 0, pinned)), tree, beside);
            }
        }
        let title = format!("one-event-posts{pin}");
        if runs(&title) {
            one_event_posts(&title, &inputs.one, peer.as_ref(), pinned);
        }
    }
    for threads in [1, 2, 4] {
        let title = format!("file-to-nothing threads={threads}");
        if runs(&title) {
            show(&title, &measure(&inputs.one, &PLAIN, "memory", threads, false), tree, None);
        }
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

fn own_cpu() -> f64 {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9
}

/// The run of three whose CPU time lies in the middle.
fn median(run: impl Fn() -> Figure) -> Figure {
    let mut figures = [run(), run(), run()];
    figures.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    let [_, middle, _] = figures;
    middle
}

fn show(title: &str, figure: &Figure, tree: f64, beside: Option<f64>) {
    let rate = figure.megabytes / figure.cpu;
    let Figure { cpu, wall, peak_mib, note, .. } = figure;
    let ratio = beside.map_or(String::new(), |beside| format!("{:.2}", rate / beside));
    println!("{title:<34} {rate:>8.0} {cpu:>7.2} {wall:>7.2} {peak_mib:>9.1} {:>6.2}  {ratio}{note}", rate / tree);
}

fn measure(input: &Input, case: &Case, mode: &str, threads: usize, pinned: bool) -> Figure {
    let (folder, port) = (Folder::new("agent"), free_port());
    let source = match case.source {
        "file" => format!("{{ type: file, include: ['{}'], read_from: beginning }}", input.include),
        "tcp" => format!("{{ type: socket, mode: tcp, address: '127.0.0.1:{port}' }}"),
        _ => format!("{{ type: http, address: '127.0.0.1:{port}' }}"),
    };
    let last = match case.transforms {
        "" => "in",
        SAFE | PATTERNS => "enrich",
        _ => "normalize",
    };
    let memory = if case.sink == "store" { 256 } else { 64 };
    let sinks: String = (0..case.sinks)
        .map(|n| match case.sink {
            "file" => {
                format!("  out{n}: {{ type: file, inputs: [{last}], path: '{}' }}\n", folder.at(&format!("{n}.ndjson")))
            }
            "store" => format!("  out{n}: {{ type: store, inputs: [{last}] }}\n"),
            _ => format!("  out{n}: {{ type: blackhole, inputs: [{last}] }}\n"),
        })
        .collect();
    let threads = if threads > 0 { format!(", threads: {threads}") } else { String::new() };
    let transforms = case.transforms;
    let yaml = format!(
        "journal: {{ mode: {mode} }}\nlimits: {{ memory: {memory} MiB{threads} }}\nsources:\n  in: \
         {source}\n{transforms}sinks:\n{sinks}"
    );
    let agent = Agent::start(&folder, pinned, &yaml);
    let started = Instant::now();
    send(input, case, port);
    while agent.delivered(case.sinks) < input.events {
        std::thread::sleep(Duration::from_millis(25));
        assert!(started.elapsed() < Duration::from_secs(180), "not delivered: {}", agent.page());
    }
    let wall = started.elapsed().as_secs_f64();
    let mut note = String::new();
    if case.sink == "store" {
        std::thread::sleep(SEALING);
        let bytes = size_of(&folder.0.join("data/store")) / input.events;
        note = format!("{:.0} events per CPU-s, {bytes} bytes each", input.events as f64 / agent.cpu());
    }
    let (megabytes, peak_mib) = (input.text.len() as f64 / 1e6, agent.status_mib("VmHWM:"));
    Figure { megabytes, cpu: agent.cpu(), wall, peak_mib, note }
}

/// Sends the input to a source that does not read it by itself.
fn send(input: &Input, case: &Case, port: u16) {
    match case.source {
        "tcp" => senders::send_tcp(input, port),
        "http" => senders::post_all(input, port, case.connections, 1000),
        _ => {}
    }
}

/// 10,000 requests a second of one event each over 64 connections for ten seconds, acknowledged after the sync; Fluent Bit
/// syncs nothing.
fn one_event_posts(title: &str, input: &Input, peer: Option<&PathBuf>, pinned: bool) {
    const RATE: f64 = 10_000.0;
    const SECONDS: f64 = 10.0;
    let say = |title: &str, cpu: f64, times: &[f64], more: &str| {
        let at = |share: f64| times[(times.len() as f64 * share) as usize] * 1000.0;
        let each = cpu / times.len() as f64 * 1e6;
        println!("{title:<34} {each:.1} us of CPU an event, p50 {:.1} ms, p99 {:.1} ms{more}", at(0.5), at(0.99));
    };
    if let Some(path) = peer {
        let (cpu, times) = fluent_bit::measure_posts(path, input, pinned, RATE, SECONDS);
        say(&format!("{title} fluent-bit"), cpu, &times, ", unsynced");
    }
    let (folder, port) = (Folder::new("agent"), free_port());
    let yaml = format!(
        "limits: {{ memory: 64 MiB }}\nsources:\n  in: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  out0: {{ type: blackhole, inputs: [in] }}\n"
    );
    let agent = Agent::start(&folder, pinned, &yaml);
    let times = senders::post_singly(input, port, RATE, SECONDS);
    let journal = size_of(&folder.0.join("data")) as f64 / 1048576.0;
    let more = format!(", peak {:.1} MiB, journal {journal:.1} MiB", agent.status_mib("VmHWM:"));
    say(title, agent.cpu(), &times, &more);
}

fn live_latency(title: &str, mode: &str) {
    let (folder, port) = (Folder::new("agent"), free_port());
    let agent = Agent::start(&folder, false, &live::yaml(mode, port));
    let shares = live::run(title, &folder.0, agent.api, port);
    println!("{shares}; agent CPU {:.2} s, peak {:.1} MiB", agent.cpu(), agent.status_mib("VmHWM:"));
}

fn idle() {
    let folder = Folder::new("agent");
    let yaml = format!(
        "sources:\n  in: {{ type: http, address: '127.0.0.1:{}' }}\nsinks:\n  out: {{ type: blackhole, inputs: [in] }}\n",
        free_port()
    );
    let started = Instant::now();
    let agent = Agent::start(&folder, false, &yaml);
    let ready = started.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    println!("idle: ready in {} ms, {:.1} MiB", ready.as_millis(), agent.status_mib("VmRSS:"));
}
