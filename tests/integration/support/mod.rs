//! The agent as an outsider sees it: a process with a configuration, addresses, signals and metrics.

pub mod ask;
pub mod collector;
pub mod corpus;
pub mod damage;
pub mod database;
pub mod kafka;
pub mod places;
pub mod ports;
pub mod proxy;
pub mod python;
pub mod search;
pub mod services;
pub mod smtp;
pub mod splunk;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use ports::free_port;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A folder of its own, on a real disk, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("weir-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a test folder can be made");
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a test folder can be made");
        fs::write(&path, text).expect("a test file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a failing test shows of the agent's log, in bytes.
const SHOWN_LOG: usize = 4096;

/// A running agent; killed when dropped.
pub struct Agent {
    pub child: Child,
    pub api: u16,
    pub data_dir: PathBuf,
    pub stderr: PathBuf,
}

impl Agent {
    /// Starts `weir run` with this configuration (which must leave `api` and `data_dir` out) and waits until ready.
    pub fn start(folder: &Folder, yaml: &str) -> Agent {
        Agent::start_with(folder, yaml, &[])
    }

    pub fn start_with(folder: &Folder, yaml: &str, environment: &[(&str, &str)]) -> Agent {
        Agent::spawn(folder, yaml, environment).until_ready()
    }

    /// Waits until it takes events.
    pub fn until_ready(mut self) -> Agent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(answer) = request(self.api, "GET", "/ready", &[], b"")
                && answer.status == 200
            {
                return self;
            }
            if let Some(status) = self.child.try_wait().expect("the agent can be waited for") {
                panic!("the agent ended with {status} instead of starting:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the agent is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes another configuration for it, which it does not know yet.
    pub fn configure(&self, folder: &Folder, yaml: &str) {
        configure(folder, self.api, yaml);
    }

    /// Starts it with configuration files as they are, which take the API's address from `$WEIR_API`, and waits until
    /// ready.
    pub fn start_files(folder: &Folder, configurations: &[PathBuf], environment: &[(String, String)]) -> Agent {
        let (api, data_dir, stderr) = (free_port(), folder.path("data"), folder.path("stderr.log"));
        let log = fs::OpenOptions::new().create(true).append(true).open(&stderr).expect("the log can be opened");
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("run")
            .args(configurations.iter().flat_map(|file| [Path::new("-c"), file]))
            .arg("--data-dir")
            .arg(&data_dir)
            .current_dir(&folder.0)
            .envs(environment.iter().cloned())
            .env("WEIR_API", format!("127.0.0.1:{api}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        Agent { child, api, data_dir, stderr }.until_ready()
    }

    /// Starts it without waiting.
    pub fn spawn(folder: &Folder, yaml: &str, environment: &[(&str, &str)]) -> Agent {
        Agent::spawn_with_flags(folder, yaml, environment, &[])
    }

    /// Starts it with further flags, without waiting.
    pub fn spawn_with_flags(folder: &Folder, yaml: &str, environment: &[(&str, &str)], flags: &[&str]) -> Agent {
        Agent::spawn_all(folder, yaml, environment, flags, Stdio::null())
    }

    /// Starts it with its output somewhere, without waiting.
    pub fn spawn_to(folder: &Folder, yaml: &str, stdout: Stdio) -> Agent {
        Agent::spawn_all(folder, yaml, &[], &[], stdout)
    }

    fn spawn_all(folder: &Folder, yaml: &str, environment: &[(&str, &str)], flags: &[&str], stdout: Stdio) -> Agent {
        let api = free_port();
        let data_dir = folder.path("data");
        let config = configure(folder, api, yaml);
        let stderr = folder.path("stderr.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&stderr).expect("the log can be opened");
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("run")
            .arg("-c")
            .arg(config)
            .args(flags)
            .current_dir(&folder.0)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        Agent { child, api, data_dir, stderr }
    }

    /// All the agent has said, over restarts in this folder.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(done.success(), "the agent cannot be signalled");
    }

    /// kill -9, and gone.
    pub fn kill(mut self) {
        self.child.kill().expect("the agent can be killed");
        self.child.wait().expect("the agent can be waited for");
    }

    /// SIGTERM, and its exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the agent can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A token of an administrator, minted with the secret of the data folder.
    pub fn token(&self) -> String {
        self.token_of("root", "admin")
    }

    /// A token of anybody.
    pub fn token_of(&self, user: &str, role: &str) -> String {
        let out = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["token", "--user", user, "--role", role, "--data-dir"])
            .arg(&self.data_dir)
            .output()
            .expect("weir token runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("a token is text").trim().to_owned()
    }

    /// Every sample of `/metrics` by its name and labels as written.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = request(self.api, "GET", "/metrics", &[], b"").expect("the agent answers");
        let text = String::from_utf8(answer.body).expect("metrics are text");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
                (name.to_owned(), value.parse().expect("a sample is a number"))
            })
            .collect()
    }

    /// The failures of one class that a component has counted. The series is there from the start.
    pub fn errors(&self, component: &str, class: &str) -> u64 {
        let (component, class) = (format!("component=\"{component}\""), format!("class=\"{class}\""));
        let samples = self.metrics();
        let mut series = samples.iter().filter(|(key, _)| {
            key.starts_with("weir_errors_total{") && key.contains(&component) && key.contains(&class)
        });
        *series.next().expect("a series").1 as u64
    }

    /// The sum of all samples of a metric for one component.
    pub fn metric(&self, name: &str, component: &str) -> u64 {
        let label = format!("component=\"{component}\"");
        let samples = self.metrics();
        let mine = samples.iter().filter(|(key, _)| key.split('{').next() == Some(name) && key.contains(&label));
        mine.map(|(_, value)| *value as u64).sum()
    }

    /// Checks the books of every component and returns the metrics they were read from.
    pub fn assert_books(&self) -> BTreeMap<String, f64> {
        let samples = self.metrics();
        let mut sums: BTreeMap<(String, String), BTreeMap<String, u64>> = BTreeMap::new();
        for (key, value) in &samples {
            let (Some(name), Some(component), Some(kind)) =
                (key.strip_prefix("weir_events_"), label(key, "component"), label(key, "kind"))
            else {
                continue;
            };
            let column = name.split(['{', '_']).next().unwrap_or("").to_owned();
            let column = if name.starts_with("dead_lettered") { "dead".into() } else { column };
            *sums.entry((kind, component)).or_default().entry(column).or_default() += *value as u64;
        }
        for ((kind, component), columns) in sums {
            let get = |name: &str| columns.get(name).copied().unwrap_or(0);
            let (left, right) = match kind.as_str() {
                "source" => (get("received"), get("refused") + get("dead") + get("entered")),
                "transform" => (get("entered") + get("made"), get("left") + get("filtered") + get("dead")),
                _ => (
                    get("addressed"),
                    get("delivered") + get("filtered") + get("dead") + get("dropped") + get("waiting"),
                ),
            };
            assert_eq!(left, right, "the books of {kind} `{component}` do not balance: {columns:?}");
        }
        samples
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // What a test that fails once in many runs leaves behind.
            let log = self.log();
            let from = log.len().saturating_sub(SHOWN_LOG);
            eprintln!("the agent said last:\n{}", String::from_utf8_lossy(&log.as_bytes()[from..]));
        }
    }
}

fn configure(folder: &Folder, api: u16, yaml: &str) -> PathBuf {
    let data_dir = folder.path("data");
    let text = format!("data_dir: {}\napi:\n  address: 127.0.0.1:{api}\n{yaml}", data_dir.display());
    folder.write("weir.yaml", &text)
}

fn label(key: &str, name: &str) -> Option<String> {
    let rest = key.split(&format!("{name}=\"")).nth(1)?;
    Some(rest.split('"').next()?.to_owned())
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }
}

/// One HTTP request over a connection of its own.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    exchange(stream, method, path, headers, body)
}

/// One HTTP request over a stream, which ends with it.
pub fn exchange<S: Read + Write>(
    mut stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head.push_str("Host: weir\r\n");
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // The agent may answer and close before it has read everything.
    let written = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        written?;
        read?;
        return Err(std::io::Error::other("the connection closed without an answer"));
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut body = answer[end + 4..].to_vec();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    Ok(Answer { status, head, body })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    out
}

/// Posts a body to the ingest port and expects it to be taken; returns how many events were.
pub fn post(port: u16, body: &str) -> u64 {
    let answer = request(port, "POST", "/", &[], body.as_bytes()).expect("the agent answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["accepted"].as_u64().expect("a count")
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All lines of a file and of its rotated generations, decompressed, in no particular order.
pub fn lines_of(folder: &Path, prefix: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return lines };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            lines.extend(text.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(|l| l.trim_end().to_owned()));
        }
    }
    lines
}
