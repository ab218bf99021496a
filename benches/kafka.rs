//! The agent between files and Kafka against a real broker: events a second, and MB per CPU-second of its process,
//! beside librdkafka alone doing the same in the same run.
//!
//! `cargo bench --bench kafka`; needs `tests/services/run start kafka`. `WEIR_BENCH_EVENTS` says how many (400,000).

#[allow(dead_code, reason = "this bench uses its part")]
#[path = "../tests/integration/support/mod.rs"]
mod support;
#[path = "support/workload.rs"]
mod workload;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rustix::time::{ClockId, clock_gettime};
use support::services::service;
use support::{Agent, Folder, kafka};

const PARTITIONS: i32 = 4;
/// What a first tier adds to each event.
const ID_BYTES: usize = r#""id":"6f1f64a3-2b7e-4c92-8a5d-000000000000","#.len();
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // The yardsticks are processes of their own, so that their CPU is counted as the agent's is.
    match &arguments[..] {
        [what, topic, path] if what == "produce" => return produce(topic, Path::new(path)),
        [what, topic, events] if what == "consume" => return consume(topic, events.parse().expect("a number")),
        _ => {}
    }
    let folder = Folder::new();
    let events = std::env::var("WEIR_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(400_000);
    let text = workload::generate(events, 42);
    let input = folder.write("input.ndjson", &text);
    let bytes = text.len();
    println!("{events} events, {:.0} MB, {PARTITIONS} partitions", bytes as f64 / 1e6);
    println!("{:<44} {:>10} {:>9} {:>9}", "", "events/s", "MB/CPU-s", "peak MiB");
    let brokers = service("WEIR_TEST_KAFKA");
    for compression in ["none", "lz4"] {
        let topic = kafka::topic(&brokers, "bench", PARTITIONS);
        if compression == "none" {
            alone("librdkafka alone, produce, none", &["produce", &topic, path(&input)], bytes, events);
        }
        for (name, more) in
            [("file → kafka", ""), ("file → kafka, batches of 10,000", "    batch: { events: 10000, bytes: 8 MiB }\n")]
        {
            let topic = kafka::topic(&brokers, "bench", PARTITIONS);
            let yaml = format!(
                "journal: {{ mode: memory }}\nsources:\n  in: {{ type: file, include: ['{}'], read_from: beginning }}\n\
                 sinks:\n  out:\n    type: kafka\n    inputs: [in]\n    brokers: ['{brokers}']\n    topic: '{topic}'\n    \
                 compression: {compression}\n{more}",
                input.display()
            );
            agent(&format!("{name}, {compression}"), &yaml, bytes, events);
            assert_eq!(kafka::count(&brokers, &topic), events as u64, "{name}");
        }
    }
    let topic = kafka::topic(&brokers, "bench", PARTITIONS);
    produce(&topic, &input);
    let bytes = bytes + ID_BYTES * events;
    alone("librdkafka alone, consume", &["consume", &topic, &events.to_string()], bytes, events);
    for mode in ["memory", "disk"] {
        let yaml = format!(
            "journal: {{ mode: {mode} }}\nsources:\n  in: {{ type: kafka, brokers: ['{brokers}'], topics: ['{topic}'], \
             group: '{topic}-{mode}' }}\nsinks:\n  out: {{ type: blackhole, inputs: [in] }}\n"
        );
        agent(&format!("kafka → nothing, {mode}"), &yaml, bytes, events);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ours is UTF-8")
}

fn show(name: &str, bytes: usize, events: usize, wall: f64, cpu: f64, peak: f64) {
    println!("{name:<44} {:>10.0} {:>9.0} {peak:>9.0}", events as f64 / wall, bytes as f64 / 1e6 / cpu);
}

/// Runs an agent until its sink `out` has ended all events.
fn agent(name: &str, yaml: &str, bytes: usize, events: usize) {
    let folder = Folder::new();
    let began = Instant::now();
    let agent = Agent::start(&folder, yaml);
    let mut first = None;
    loop {
        let done = agent.metric("weir_events_delivered_total", "out");
        // Joining a group takes a while that no event has to do with.
        if done > 0 && first.is_none() {
            first = Some((Instant::now(), done));
        }
        if done >= events as u64 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (since, before) = first.expect("something was delivered");
    let wall = since.elapsed().as_secs_f64();
    let process = format!("/proc/{}", agent.child.id());
    show(name, bytes, events - before as usize, wall, cpu_of(&process), peak_of(&process));
}

/// Runs this program as a yardstick, which prints its seconds and its CPU-seconds.
fn alone(name: &str, arguments: &[&str], bytes: usize, events: usize) {
    let program = std::env::current_exe().expect("this program has a path");
    let out = Command::new(program).args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    let numbers: Vec<f64> = said.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    show(name, bytes, events, numbers[0], numbers[1], numbers[2]);
}

fn told(wall: Duration) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    println!("{} {cpu} {}", wall.as_secs_f64(), peak_of("/proc/self"));
}

/// Sends the lines of a file with what the sink asks of the brokers.
fn produce(topic: &str, path: &Path) {
    let text = std::fs::read(path).expect("the input can be read");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", service("WEIR_TEST_KAFKA"))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .create()
        .expect("a producer");
    let began = Instant::now();
    for (nth, line) in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        // As a first tier sends them: the id in the event and in the header.
        let id = format!("6f1f64a3-2b7e-4c92-8a5d-{nth:012x}");
        let line = [format!("{{\"id\":\"{id}\",").as_bytes(), &line[1..]].concat();
        let id = Header { key: "weir-id", value: Some(&id) };
        // A key for each, so that they spread as sessions do.
        let mut record = BaseRecord::<[u8], [u8]>::to(topic)
            .key(&line[line.len().saturating_sub(40)..])
            .payload(&line)
            .headers(OwnedHeaders::new_with_capacity(1).insert(id));
        while let Err((error, unsent)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(5));
            record = unsent;
        }
    }
    producer.flush(PATIENCE).expect("all is sent");
    told(began.elapsed());
}

fn consume(topic: &str, events: u64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", service("WEIR_TEST_KAFKA"))
        .set("group.id", format!("{topic}-alone"))
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    let (mut began, mut left, mut bytes) = (None, events, 0);
    while left > 0 {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("a message");
        bytes += message.payload().map_or(0, <[u8]>::len);
        began.get_or_insert_with(Instant::now);
        left -= 1;
    }
    std::hint::black_box(bytes);
    told(began.expect("there are events").elapsed());
}

fn peak_of(process: &str) -> f64 {
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// User and system time so far, in seconds.
fn cpu_of(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
    let fields: Vec<f64> =
        text.rsplit(") ").next().unwrap_or("").split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
    (fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)) / rustix::param::clock_ticks_per_second() as f64
}
