//! What an append costs: megabytes of lines per CPU-second, the kernel's share included.
//!
//! `cargo bench --bench journal`. The data is `$WEIR_BENCH_FILE` or /tmp/events200k.ndjson where that is there, else
//! a sample made here. `WEIR_BENCH_DIR` names the folder for the journal (default: the temporary folder);
//! `WEIR_BENCH_SYNC_MS` makes each sync take so much longer, as on a disk that is slower than this one's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir::event::{Lines, Origins, Seed};
use weir::journal::fs::{File, Fs, Lock, Real};
use weir::journal::{Codec, Commit, Journal, Mode, Options};
use weir::units::Timestamp;

/// Commits that are in flight at once.
const IN_FLIGHT: usize = 16;

fn main() {
    let data = data();
    println!("{:.0} MB of lines, {} in flight, {} processors", mb(data.len()), IN_FLIGHT, processors());
    println!("{:>8} {:>6} {:>6} {:>10} {:>10} {:>8}", "mode", "codec", "KiB", "MB/CPU-s", "MB/s", "ratio");
    for kib in [64, 256] {
        let pieces = pieces(&data, kib * 1024);
        for (mode, codec) in [
            (Mode::Disk, Codec::Lz4),
            (Mode::Disk, Codec::Zstd),
            (Mode::Disk, Codec::None),
            (Mode::Memory, Codec::None),
        ] {
            let mut runs: Vec<_> = (0..3).map(|_| run(&pieces, mode, codec)).collect();
            runs.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (per_cpu, per_second, stored) = runs[1];
            let (mode, codec) = (format!("{mode:?}").to_lowercase(), format!("{codec:?}").to_lowercase());
            println!("{mode:>8} {codec:>6} {kib:>6} {per_cpu:>10.0} {per_second:>10.0} {stored:>8.2}");
        }
        let started = cpu();
        let hashed = pieces.iter().fold([0; 32], |last, lines| {
            *blake3::Hasher::new().update(&last).update(&lines.bytes).finalize().as_bytes()
        });
        let took = (cpu() - started).as_secs_f64();
        std::hint::black_box(hashed);
        println!("{:>8} {:>6} {kib:>6} {:>10.0}", "(hash)", "alone", mb(data.len()) / took);
        let started = cpu();
        let packed: usize = pieces.iter().map(|lines| lz4_len(&lines.bytes)).sum();
        let took = (cpu() - started).as_secs_f64();
        let ratio = data.len() as f64 / packed as f64;
        println!("{:>8} {:>6} {kib:>6} {:>10.0} {:>10} {ratio:>8.2}", "(lz4)", "alone", mb(data.len()) / took, "");
    }
}

/// MB per CPU-second, MB per second, and how much smaller the lines are on disk.
fn run(pieces: &[Lines], mode: Mode, codec: Codec) -> (f64, f64, f64) {
    let dir = std::env::var_os("WEIR_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("weir-bench-{}", std::process::id()));
    let options = Options { mode, codec, tier_bytes: 8 << 20, ..Options::new(&dir) };
    let (journal, _) = Journal::open(options, Arc::new(Slowed(sync_delay()))).expect("the folder can be written");
    let stream = journal.stream("bench").expect("the first stream");
    let total: usize = pieces.iter().map(|lines| lines.bytes.len()).sum();
    let (cpu_before, started) = (cpu(), Instant::now());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut open = std::collections::VecDeque::new();
        for lines in pieces {
            if open.len() == IN_FLIGHT {
                let receipt: weir::journal::Receipt = open.pop_front().expect("it is full");
                receipt.await.expect("appended");
            }
            let entries = vec![(stream, lines.clone())];
            let commit = Commit { entries, received_at: Timestamp::now(), ..Commit::default() };
            open.push_back(journal.ticket().commit(commit));
        }
        for receipt in open {
            receipt.await.expect("appended");
        }
    });
    let (cpu_used, wall) = ((cpu() - cpu_before).as_secs_f64(), started.elapsed().as_secs_f64());
    let stats = journal.stats();
    journal.close();
    // In memory mode there is no folder.
    let _ = std::fs::remove_dir_all(&dir);
    (mb(total) / cpu_used, mb(total) / wall, total as f64 / stats.bytes.max(1) as f64)
}

/// The real file system, with syncs that take longer.
struct Slowed(Duration);

struct SlowedFile(Arc<dyn File>, Duration);

fn sync_delay() -> Duration {
    let millis = std::env::var("WEIR_BENCH_SYNC_MS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(millis.unwrap_or(0))
}

impl File for SlowedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn allocate(&self, bytes: u32) -> io::Result<()> {
        self.0.allocate(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn sync(&self) -> io::Result<()> {
        std::thread::sleep(self.1);
        self.0.sync()
    }
}

impl Fs for Slowed {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Real::default().create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowedFile(Real::default().create(path)?, self.0)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowedFile(Real::default().open(path)?, self.0)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Real::default().list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Real::default().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Real::default().remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Real::default().sync_dir(dir)
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        Real::default().available(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        Real::default().lock(path)
    }
}

/// How long the lines become with the journal's LZ4.
fn lz4_len(bytes: &[u8]) -> usize {
    let mode = lz4::block::CompressionMode::FAST(2);
    lz4::block::compress(bytes, Some(mode), false).expect("it fits into memory").len()
}

fn mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Processor time of this process, user and system.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn data() -> Vec<u8> {
    let file = std::env::var("WEIR_BENCH_FILE").unwrap_or_else(|_| "/tmp/events200k.ndjson".to_owned());
    std::fs::read(file).unwrap_or_else(|_| {
        let mut out = Vec::new();
        for n in 0..200_000u64 {
            let noise = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let line = format!(
                "{{\"event_type\":\"cell.finish\",\"timestamp\":\"2025-01-01T00:00:00.{:06}Z\",\"user_id\":\"user{}\",\
                 \"session_id\":\"{noise:016x}\",\"status\":\"success\",\"duration_ms\":{},\"code\":\"import pandas as \
                 pd\\nframe = pd.read_csv('data-{}.csv')\\nframe.describe()\",\"host\":\"nb-{}\"}}\n",
                n % 1_000_000,
                noise % 500,
                noise % 10_000,
                noise % 97,
                n % 16,
            );
            out.extend_from_slice(line.as_bytes());
        }
        out
    })
}

/// Whole lines in pieces of about this size.
fn pieces(data: &[u8], size: usize) -> Vec<Lines> {
    let data = Bytes::copy_from_slice(data);
    let (mut pieces, mut start) = (Vec::new(), 0);
    while start < data.len() {
        let limit = (start + size).min(data.len());
        let end = match memchr::memrchr(b'\n', &data[start..limit]) {
            Some(at) => start + at + 1,
            None => data.len(),
        };
        let bytes = data.slice(start..end);
        let ends: Vec<u32> = memchr::memchr_iter(b'\n', &bytes).map(|at| at as u32 + 1).collect();
        let ordinals = std::iter::once(0).chain(ends[..ends.len() - 1].iter().map(|e| u64::from(*e)));
        let origins = Origins::of(Seed([1; 16]), ordinals.map(|o| start as u64 + o));
        pieces.push(Lines { bytes, ends, origins });
        start = end;
    }
    pieces
}
