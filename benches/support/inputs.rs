//! What the figures are made of: one file, the same cut into many files, and large events.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::workload;

/// Bytes of the input of large events, if that of small ones has no more.
const LARGE_BYTES: usize = 300_000_000;

pub struct Input {
    /// A path, or a pattern that many files match.
    pub include: String,
    pub text: Arc<Vec<u8>>,
    pub events: u64,
}

impl Input {
    fn of(include: String, text: Arc<Vec<u8>>) -> Input {
        let events = memchr::memchr_iter(b'\n', &text).count() as u64;
        Input { include, text, events }
    }
}

/// Inputs by kind; each is made when it is first needed.
pub struct Inputs {
    folder: PathBuf,
    pub one: Input,
    made: [(Kind, OnceCell<Input>); 4],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    One,
    /// The same bytes in so many files.
    Files(usize),
    /// Events with at least so many bytes of code.
    Large(usize),
}

impl Inputs {
    /// The file of `WEIR_BENCH_FILE`, or `WEIR_BENCH_EVENTS` generated events.
    pub fn new() -> Inputs {
        let path = std::env::var_os("WEIR_BENCH_FILE").map(PathBuf::from).unwrap_or_else(|| {
            let events = std::env::var("WEIR_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300_000);
            let path = std::env::temp_dir().join(format!("weir-bench-{events}.ndjson"));
            if !path.exists() {
                fs::write(&path, workload::generate(events, 42)).expect("the workload can be written");
            }
            path
        });
        let text = Arc::new(fs::read(&path).expect("the workload can be read"));
        let one = Input::of(path.display().to_string(), text);
        println!("input: {} events, {:.1} MB", one.events, one.text.len() as f64 / 1e6);
        let folder = std::env::temp_dir().join(format!("weir-bench-inputs-{}", std::process::id()));
        let kinds = [Kind::Files(1_000), Kind::Files(10_000), Kind::Large(6_000), Kind::Large(60_000)];
        Inputs { folder, one, made: kinds.map(|kind| (kind, OnceCell::new())) }
    }

    pub fn get(&self, kind: Kind) -> &Input {
        match self.made.iter().find(|(known, _)| *known == kind) {
            None => &self.one,
            Some((_, cell)) => cell.get_or_init(|| self.make(kind)),
        }
    }

    fn make(&self, kind: Kind) -> Input {
        match kind {
            Kind::One => unreachable!("it is there from the beginning"),
            Kind::Files(count) => {
                let folder = self.folder.join(count.to_string());
                split(&self.one.text, count, &folder);
                Input::of(format!("{}/*.ndjson", folder.display()), self.one.text.clone())
            }
            Kind::Large(bytes) => {
                fs::create_dir_all(&self.folder).expect("a folder can be made");
                let path = self.folder.join(format!("large-{bytes}.ndjson"));
                let text = large(&self.one.text, bytes);
                fs::write(&path, &text).expect("the workload can be written");
                Input::of(path.display().to_string(), Arc::new(text))
            }
        }
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Events with so many bytes of code each: theirs, and that of the events behind them.
fn large(text: &[u8], code_bytes: usize) -> Vec<u8> {
    let (start, end) = (b"\"code\":\"", b"\",\"execution_time_ms\"");
    let lines = || text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let code = |line| {
        let from = memchr::memmem::find(line, start)? + start.len();
        Some(from..from + memchr::memmem::find(&line[from..], end)?)
    };
    assert!(lines().any(|line| code(line).is_some()), "the input has no event with `code` and `execution_time_ms`");
    let mut codes = lines().cycle().filter_map(|line: &[u8]| Some(&line[code(line)?]));
    let wanted = text.len().max(LARGE_BYTES);
    let mut out = Vec::with_capacity(wanted + code_bytes);
    for line in lines().cycle() {
        if out.len() >= wanted {
            break;
        }
        let Some(range) = code(line) else { continue };
        out.extend_from_slice(&line[..range.start]);
        let begun = out.len();
        while out.len() - begun < code_bytes {
            out.extend_from_slice(codes.next().expect("there is no end of them"));
            out.extend_from_slice(b"\\n");
        }
        out.extend_from_slice(&line[range.end..]);
        out.push(b'\n');
    }
    out
}

/// Cuts a text between lines into files of about the same size.
fn split(text: &[u8], count: usize, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder can be made");
    let mut rest = text;
    for nth in 0..count {
        let least = rest.len() / (count - nth);
        let end = memchr::memchr(b'\n', &rest[least.min(rest.len())..]).map_or(rest.len(), |at| least + at + 1);
        let (file, behind) = rest.split_at(if nth + 1 == count { rest.len() } else { end });
        fs::write(folder.join(format!("{nth:05}.ndjson")), file).expect("a file can be written");
        rest = behind;
    }
}
