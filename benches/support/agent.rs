//! The agent as a process: started with a configuration, asked over HTTP, measured from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where one run keeps its files; removed with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("weir-bench-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        Folder(folder)
    }

    pub fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program, on one core only if it is pinned.
pub fn program(path: &Path, pinned: bool) -> Command {
    if !pinned {
        return Command::new(path);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(path);
    command
}

pub struct Agent {
    child: Child,
    pub api: u16,
}

impl Agent {
    /// The agent of this build, or the one that `WEIR_BENCH_AGENT` names.
    pub fn start(folder: &Folder, pinned: bool, yaml: &str) -> Agent {
        let api = free_port();
        let text = format!("data_dir: {}\napi: {{ address: '127.0.0.1:{api}' }}\n{yaml}", folder.at("data"));
        fs::write(folder.at("weir.yaml"), text).expect("the configuration can be written");
        let log = fs::File::create(folder.at("log")).expect("the log can be made");
        let path = std::env::var_os("WEIR_BENCH_AGENT").map(PathBuf::from);
        let path = path.unwrap_or_else(|| env!("CARGO_BIN_EXE_weir").into());
        let child = program(&path, pinned)
            .args(["run", "-c"])
            .arg(folder.at("weir.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        let mut agent = Agent { child, api };
        while !agent.ask("/ready").starts_with("HTTP/1.1 200") {
            std::thread::sleep(std::time::Duration::from_millis(2));
            let ended = agent.child.try_wait().expect("the agent can be waited for");
            assert!(ended.is_none(), "the agent ended: {}", fs::read_to_string(folder.at("log")).unwrap_or_default());
        }
        agent
    }

    fn ask(&self, path: &str) -> String {
        ask(self.api, path)
    }

    pub fn page(&self) -> String {
        self.ask("/metrics")
    }

    /// The least that any of the sinks has delivered.
    pub fn delivered(&self, sinks: usize) -> u64 {
        let page = self.page();
        let of = |sink: usize| {
            let label = format!("component=\"out{sink}\"");
            let is_it = |line: &&str| line.starts_with("weir_events_delivered_total") && line.contains(&label);
            page.lines().find(is_it).and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0) as u64
        };
        (0..sinks).map(of).min().unwrap_or(0)
    }

    /// User and system time so far, in seconds.
    pub fn cpu(&self) -> f64 {
        cpu_of(self.child.id())
    }

    pub fn status_mib(&self, field: &str) -> f64 {
        status_mib(self.child.id(), field)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to a GET; empty if there is none.
pub fn ask(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let mut answer = String::new();
    let asked = write!(stream, "GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
    let _ = asked.and_then(|()| stream.read_to_string(&mut answer));
    answer
}

pub fn status_mib(process: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

pub fn cpu_of(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<f64> =
        text.rsplit(") ").next().unwrap_or("").split(' ').map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0)) / rustix::param::clock_ticks_per_second() as f64
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port is free").port()
}

pub fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_of(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
