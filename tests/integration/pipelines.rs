//! Behaviour as data: each folder of `tests/pipelines/` has a configuration, an input and what must come out.
//! `BLESS=1 cargo test --test pipelines` writes what comes out; read the difference before you keep it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn what_goes_in_comes_out_as_written_down() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pipelines");
    let (mut ran, mut wrong) = (0, Vec::new());
    for case in fs::read_dir(&cases).expect("there are cases") {
        let case = case.expect("cases can be listed").path();
        let name = case.file_name().expect("a case has a name").to_string_lossy().into_owned();
        let found = run(&case);
        let expected = case.join("expected.ndjson");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &found).expect("the case can be written");
        }
        let expected = fs::read_to_string(&expected).expect("a case says what is expected");
        if found != expected {
            wrong.push(format!("{name}: expected\n{expected}found\n{found}"));
        }
        ran += 1;
    }
    assert!(ran >= 6, "only {ran} cases were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the agent writes to its console until its input has ended.
fn run(case: &Path) -> String {
    let data = std::env::temp_dir().join(format!(
        "weir-pipeline-{}-{}",
        std::process::id(),
        case.file_name().expect("a case has a name").to_string_lossy()
    ));
    let api = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let more = data.join("api.yaml");
    fs::create_dir_all(&data).expect("a folder can be made");
    fs::write(&more, format!("api: {{ address: '127.0.0.1:{api}' }}\n")).expect("a file can be written");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "-c"])
        .arg(case.join("weir.yaml"))
        .arg("-c")
        .arg(&more)
        .arg("--data-dir")
        .arg(data.join("data"))
        .current_dir(case)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the agent starts");
    let input = fs::read(case.join("input.ndjson")).expect("a case has an input");
    agent.stdin.take().expect("stdin is a pipe").write_all(&input).expect("the agent reads");
    let out = agent.wait_with_output().expect("the agent ends with its input");
    let _ = fs::remove_dir_all(&data);
    assert!(out.status.success(), "{}: {}", case.display(), String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("events are text")
}
