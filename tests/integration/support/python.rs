//! The Python packages as they are installed, and programs that run with them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Folder;

/// The Python of the environment in which the wheels are installed; made on first use.
pub fn interpreter() -> &'static Path {
    static INTERPRETER: OnceLock<PathBuf> = OnceLock::new();
    INTERPRETER.get_or_init(|| {
        let install = root().join("clients/python/install");
        let out = Command::new(&install).stderr(Stdio::inherit()).output().expect("the packages can be installed");
        assert!(out.status.success(), "{} failed", install.display());
        let text = String::from_utf8(out.stdout).expect("a path is text");
        PathBuf::from(text.lines().last().expect("it prints the path of the interpreter"))
    })
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A program below `tests/integration/support/python`, whose spool is in the folder.
pub fn program(folder: &Folder, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(interpreter());
    command
        .env("WEIR_SERVER_SPOOL_DIR", folder.path("seen"))
        .arg(root().join("tests/integration/support/python").join(name))
        .args(arguments)
        .envs([("WEIR_SPOOL_DIR", folder.path("spool")), ("IPYTHONDIR", folder.path("ipython"))])
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::null());
    command
}

/// Runs a program to its end; the JSON lines that it prints.
pub fn run(mut command: Command) -> Vec<serde_json::Value> {
    let out = command.output().expect("the program runs");
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?} ended with {}:\n{text}\n{errors}", out.status);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
