//! Rows a second into Postgres: the sink's ways beside plain COPY of the same rows in the same run.
//!
//! `tests/services/run start postgres`, then `cargo bench --bench postgres`. `WEIR_TEST_POSTGRES` names another server;
//! the benchmark makes a database of its own there. `WEIR_BENCH_EVENTS` says how many rows (100,000).

#[path = "support/workload.rs"]
#[allow(dead_code, reason = "the generator is shared")]
mod workload;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::{Client, NoTls};
use weir::component::{RecordSlice, Sink, SinkContext, WriteBatch, Written};
use weir::event::{Lines, Origins, Seed};
use weir::journal::{Record, StreamId};
use weir::sinks::postgres::{Config, Postgres};
use weir::units::Timestamp;

const ROUNDS: usize = 3;
const DATABASE: &str = "weir_bench";
const TABLE: &str = "CREATE TABLE t (id uuid PRIMARY KEY, timestamp timestamptz NOT NULL, username text, \
    session_id text, cell_number integer, code text, execution_time_ms double precision, status text, \
    error_message text, metadata jsonb)";
const INDEXES: &str = "CREATE INDEX ON t (username, timestamp DESC); CREATE INDEX ON t (timestamp); \
    CREATE INDEX ON t (status)";

#[derive(Clone, Copy, Debug)]
struct Figure {
    rows_per_second: f64,
    /// Of this process, user and system.
    cpu_share: f64,
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let server = std::env::var("WEIR_TEST_POSTGRES").unwrap_or_else(|_| announced());
    let base = server.rsplit_once('/').expect("a URL names a database").0.to_owned();
    let admin = connect(&server).await;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await.expect("dropped");
    admin.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.expect("created");
    let url = format!("{base}/{DATABASE}");
    let client = connect(&url).await;
    let count = std::env::var("WEIR_BENCH_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let text = workload::generate(count, 42);
    println!("{count} rows, {:.0} MB of lines, median of {ROUNDS}", text.len() as f64 / 1e6);
    println!("{:>8} {:>12} {:>12} {:>10} {:>8} {:>10}", "rows", "indexes", "way", "rows/s", "× COPY", "own CPU");
    for indexes in [false, true] {
        for size in [100, 300, 1000, 10_000] {
            let table = if indexes { format!("{TABLE}; {INDEXES}") } else { TABLE.to_owned() };
            client.batch_execute(&format!("DROP TABLE IF EXISTS t; {table}")).await.expect("a table");
            let cuts = cuts(&text, size);
            let plain = plain_rows(&client, &url, &cuts).await;
            let ways = ["insert", "copy", "auto"];
            let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); ways.len() + 1];
            for _ in 0..ROUNDS {
                empty(&client).await;
                figures[0].push(plain_copy(&client, &plain, count).await);
                for (nth, mode) in ways.iter().enumerate() {
                    empty(&client).await;
                    figures[nth + 1].push(sink(&url, mode, &cuts, count).await);
                    let stored: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.expect("a count").get(0);
                    assert_eq!(stored as usize, count);
                }
            }
            let medians: Vec<Figure> = figures.into_iter().map(median).collect();
            for (way, figure) in ["plain COPY"].iter().chain(&ways).zip(&medians) {
                println!(
                    "{size:>8} {:>12} {way:>12} {:>10.0} {:>8.2} {:>9.0}%",
                    if indexes { "key and 3" } else { "key" },
                    figure.rows_per_second,
                    figure.rows_per_second / medians[0].rows_per_second,
                    figure.cpu_share * 100.0
                );
            }
        }
    }
    drop(client);
    admin.batch_execute(&format!("DROP DATABASE {DATABASE} WITH (FORCE)")).await.expect("dropped");
}

fn announced() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/target/services/shared/env");
    let text = std::fs::read_to_string(file).expect("a server: tests/services/run start postgres");
    let line = text.lines().find_map(|line| line.strip_prefix("WEIR_TEST_POSTGRES="));
    line.expect("a server: tests/services/run start postgres").to_owned()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server answers");
    tokio::spawn(connection);
    client
}

async fn empty(client: &Client) {
    client.batch_execute("TRUNCATE t").await.expect("emptied");
    client.batch_execute("CHECKPOINT").await.expect("written out");
}

fn cuts(text: &str, size: usize) -> Vec<WriteBatch> {
    let lines: Vec<&str> = text.lines().collect();
    let mut first = 0;
    let cut = |lines: &[&str]| {
        let (mut bytes, mut ends) = (BytesMut::new(), Vec::new());
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(b"\n");
            ends.push(bytes.len() as u32);
        }
        let origins = Origins::of(Seed([7; 16]), first..first + lines.len() as u64);
        let record = Record {
            stream: StreamId(0),
            first_seq: first,
            stream_first: first,
            received_at: Timestamp(1_735_689_600_000_000),
            lines: Lines { bytes: bytes.freeze(), ends, origins },
        };
        first += lines.len() as u64;
        WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..lines.len() }] }
    };
    lines.chunks(size).map(cut).collect()
}

async fn open(url: &str, mode: &str) -> Postgres {
    let config: Config =
        serde_json::from_value(serde_json::json!({"url": url, "table": "t", "mode": mode})).expect("a configuration");
    let cx = SinkContext {
        name: "bench".into(),
        agent: "bench".into(),
        data_dir: std::env::temp_dir(),
        timeout: Duration::from_secs(60),
        tls: Default::default(),
        encrypted: false,
        proxy: None,
        memory: None,
        left: None,
        position: 0,
        dry: false,
        stores: Default::default(),
    };
    Postgres::open(&config, &cx).await.expect("the sink opens")
}

async fn sink(url: &str, mode: &str, cuts: &[WriteBatch], count: usize) -> Figure {
    let sink = open(url, mode).await;
    measured(count, async {
        for cut in cuts {
            let rows = sink.encode(cut).expect("rows");
            let written = sink.write(cut, &rows).await.expect("written");
            assert_eq!(written.duplicates, 0);
        }
    })
    .await
}

/// The same rows as the sink stores them, in the server's own binary form, cut as the events are.
async fn plain_rows(client: &Client, url: &str, cuts: &[WriteBatch]) -> Vec<Bytes> {
    let sink = open(url, "insert").await;
    let mut plain = Vec::new();
    for cut in cuts {
        client.batch_execute("TRUNCATE t").await.expect("emptied");
        let rows = sink.encode(cut).expect("rows");
        let _: Written = sink.write(cut, &rows).await.expect("written");
        let stream = client.copy_out("COPY t TO STDOUT (FORMAT binary)").await.expect("copied out");
        let pieces: Vec<Bytes> = stream.try_collect().await.expect("copied out");
        plain.push(pieces.concat().into());
    }
    plain
}

async fn plain_copy(client: &Client, plain: &[Bytes], count: usize) -> Figure {
    let statement = client.prepare("COPY t FROM STDIN (FORMAT binary)").await.expect("a statement");
    measured(count, async {
        for bytes in plain {
            let mut sink = pin!(client.copy_in::<_, Bytes>(&statement).await.expect("a copy"));
            sink.send(bytes.clone()).await.expect("sent");
            sink.finish().await.expect("copied");
        }
    })
    .await
}

async fn measured(count: usize, work: impl Future<Output = ()>) -> Figure {
    let (began, cpu_before) = (Instant::now(), cpu());
    work.await;
    let took = began.elapsed().as_secs_f64();
    Figure { rows_per_second: count as f64 / took, cpu_share: (cpu() - cpu_before).as_secs_f64() / took }
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(mut figures: Vec<Figure>) -> Figure {
    figures.sort_by(|a, b| a.rows_per_second.total_cmp(&b.rows_per_second));
    figures[figures.len() / 2]
}
