//! Fluent Bit at the same work, where `WEIR_BENCH_FLUENT_BIT` names its program: files, TCP and HTTP to JSON to nothing, file
//! to Lua (three patterns, a length, two members) to file, and requests of one event to nothing.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::agent::{Folder, ask, cpu_of, free_port, program, status_mib};
use super::inputs::Input;
use super::{Case, Figure, Peer, senders};

/// Less than what the agent does: three patterns instead of its built-in rules, and bytes instead of characters.
const SAFE: &str = r#"
function safe(tag, time, record)
  local code = record["code"]
  if code then
    code = string.gsub(code, "AKIA%u%u%u%u%u%u%u%u%u%u%u%u%u%u%u%u", "[aws_key]")
    code = string.gsub(code, "%f[%w][%w._-]+@[%w.-]+%.%a+", "[email]")
    code = string.gsub(code, "([Pp]assword%s*=%s*)%S+", "%1[password]")
    if #code > 10000 then code = string.sub(code, 1, 10000) .. "..." end
    record["code"] = code
  end
  record["agent"] = "bench"
  record["host"] = "nb-1"
  return 2, time, record
end
"#;

/// Takes all of the input, through Lua and into a file if it is to be safe, else to nothing.
pub fn measure(path: &Path, input: &Input, case: &Case, pinned: bool) -> Figure {
    let (folder, port) = (Folder::new("peer"), free_port());
    fs::write(folder.at("parsers.conf"), "[PARSER]\n    Name json\n    Format json\n").expect("a file can be written");
    fs::write(folder.at("safe.lua"), SAFE).expect("a file can be written");
    let source = match case.source {
        "file" => format!(
            "    Name tail\n    Mem_Buf_Limit 64M\n    Path {}\n    Parser json\n    Read_from_Head On\n    \
             Buffer_Chunk_Size 1M\n    Buffer_Max_Size 4M\n    File_Cache_Advise Off\n",
            input.include
        ),
        // Without a bound on its memory: a full one closes the connection.
        "tcp" => format!(
            "    Name tcp\n    Listen 127.0.0.1\n    Port {port}\n    Format json\n    \
             Chunk_Size 1024\n    Buffer_Size 4096\n"
        ),
        _ => format!(
            "    Name http\n    Listen 127.0.0.1\n    Port {port}\n    Buffer_Max_Size 8M\n    Buffer_Chunk_Size 1M\n"
        ),
    };
    let (filter, output) = match case.peer == Peer::Safe {
        true => (
            format!("[FILTER]\n    Name lua\n    Match *\n    script {}\n    call safe\n", folder.at("safe.lua")),
            format!("    Name file\n    Path {}\n    File out.ndjson\n    Format plain\n", folder.0.display()),
        ),
        false => (String::new(), "    Name null\n".to_owned()),
    };
    let running = Running::start(path, &folder, pinned, &source, &filter, &output);
    let started = Instant::now();
    super::send(input, case, port);
    running.wait_for(input.events);
    running.figure(input.text.len(), started)
}

/// Requests of one event at a rate; CPU seconds, and how long each answer took.
pub fn measure_posts(path: &Path, input: &Input, pinned: bool, rate: f64, seconds: f64) -> (f64, Vec<f64>) {
    let (folder, port) = (Folder::new("peer"), free_port());
    fs::write(folder.at("parsers.conf"), "").expect("a file can be written");
    let source = format!("    Name http\n    Listen 127.0.0.1\n    Port {port}\n");
    let running = Running::start(path, &folder, pinned, &source, "", "    Name null\n");
    let times = senders::post_singly(input, port, rate, seconds);
    (cpu_of(running.child.id()), times)
}

struct Running {
    child: Child,
    metrics: u16,
}

impl Running {
    fn start(path: &Path, folder: &Folder, pinned: bool, source: &str, filter: &str, output: &str) -> Running {
        let metrics = free_port();
        let text = format!(
            "[SERVICE]\n    Flush 1\n    Log_Level warn\n    HTTP_Server On\n    HTTP_Listen 127.0.0.1\n    HTTP_Port \
             {metrics}\n    Parsers_File {}\n[INPUT]\n{source}{filter}[OUTPUT]\n{output}    Match *\n",
            folder.at("parsers.conf")
        );
        fs::write(folder.at("fluent-bit.conf"), text).expect("the configuration can be written");
        let child = program(path, pinned)
            .arg("-c")
            .arg(folder.at("fluent-bit.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut running = Running { child, metrics };
        while running.delivered().is_none() {
            std::thread::sleep(Duration::from_millis(20));
            assert!(running.child.try_wait().is_ok_and(|ended| ended.is_none()), "it ended before it was ready");
        }
        running
    }

    fn wait_for(&self, events: u64) {
        let started = Instant::now();
        while self.delivered().unwrap_or(0) < events {
            std::thread::sleep(Duration::from_millis(50));
            assert!(started.elapsed() < Duration::from_secs(180), "not delivered: {:?}", self.delivered());
        }
    }

    fn figure(&self, bytes: usize, started: Instant) -> Figure {
        Figure {
            megabytes: bytes as f64 / 1e6,
            cpu: cpu_of(self.child.id()),
            wall: started.elapsed().as_secs_f64(),
            peak_mib: status_mib(self.child.id(), "VmHWM:"),
            note: String::new(),
        }
    }

    /// Records that its output has taken, once it answers.
    fn delivered(&self) -> Option<u64> {
        let answer = ask(self.metrics, "/api/v1/metrics");
        let page: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()?;
        page["output"].as_object()?.values().map(|output| output["proc_records"].as_u64()).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has nothing to lose here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
