//! Fluent Bit at the same work, where `WEIR_BENCH_FLUENT_BIT` names its program: file to JSON to nothing, and file to Lua
//! (three patterns, a length, two members) to file.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Figure, Input, ask, cpu_of, free_port, status_mib};

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

/// The names of the runs, each with its filter and output.
pub const RUNS: [(&str, &str, &str); 2] =
    [("fluent-bit file-to-nothing", "", "null"), ("fluent-bit file-safe-file", "lua", "file")];

pub fn measure(program: &Path, input: &Input, filter: &str, output: &str) -> Figure {
    let folder = std::env::temp_dir().join(format!("weir-bench-peer-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let at = |name: &str| folder.join(name).display().to_string();
    let metrics = free_port();
    fs::write(at("parsers.conf"), "[PARSER]\n    Name json\n    Format json\n").expect("a file can be written");
    fs::write(at("safe.lua"), SAFE).expect("a file can be written");
    let source_text = format!(
        "    Path {}\n    Parser json\n    Read_from_Head On\n    Buffer_Chunk_Size 1M\n    Buffer_Max_Size 4M\n",
        input.path.display()
    );
    let filter_text = match filter {
        "" => String::new(),
        _ => format!("[FILTER]\n    Name lua\n    Match *\n    script {}\n    call safe\n", at("safe.lua")),
    };
    let output_text = match output {
        "file" => format!("    Path {}\n    File out.ndjson\n    Format plain\n", folder.display()),
        _ => String::new(),
    };
    let text = format!(
        "[SERVICE]\n    Flush 1\n    Log_Level warn\n    HTTP_Server On\n    HTTP_Listen 127.0.0.1\n    HTTP_Port {metrics}\n    \
         Parsers_File {}\n[INPUT]\n    Name tail\n    Mem_Buf_Limit 64M\n{source_text}{filter_text}[OUTPUT]\n    Name \
         {output}\n    Match *\n{output_text}",
        at("parsers.conf")
    );
    fs::write(at("fluent-bit.conf"), text).expect("the configuration can be written");
    let mut child = Command::new(program)
        .arg("-c")
        .arg(at("fluent-bit.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    while delivered(metrics).is_none() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(child.try_wait().is_ok_and(|ended| ended.is_none()), "it ended before it was ready");
    }
    let started = Instant::now();
    while delivered(metrics).unwrap_or(0) < input.events {
        std::thread::sleep(Duration::from_millis(50));
        assert!(started.elapsed() < Duration::from_secs(120), "not delivered: {:?}", delivered(metrics));
    }
    let figure = figure(input, &child, started);
    // It has nothing to lose here.
    let _ = child.kill();
    let _ = child.wait();
    let _ = fs::remove_dir_all(&folder);
    figure
}

fn figure(input: &Input, child: &Child, started: Instant) -> Figure {
    Figure {
        megabytes: input.text.len() as f64 / 1e6,
        cpu: cpu_of(&format!("/proc/{}/stat", child.id())),
        wall: started.elapsed().as_secs_f64(),
        peak_mib: status_mib(child.id(), "VmHWM:"),
        note: String::new(),
    }
}

/// Records that its output has taken, once it answers.
fn delivered(metrics: u16) -> Option<u64> {
    let answer = ask(metrics, "/api/v1/metrics");
    let page: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()?;
    page["output"].as_object()?.values().map(|output| output["proc_records"].as_u64()).sum()
}
