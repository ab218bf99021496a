//! Real servers: those that `tests/run` has started for all tests, and some of its own for a test that kills them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/run");

/// What a started server left to know, such as `WEIR_TEST_POSTGRES`. A test without its server fails.
pub fn service(variable: &str) -> String {
    if let Ok(value) = std::env::var(variable) {
        return value;
    }
    variables("shared").remove(variable).unwrap_or_else(|| {
        panic!("{variable} is not set: start the servers with `tests/services/run start`, or run `tests/run`")
    })
}

fn variables(name: &str) -> BTreeMap<String, String> {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/services").join(name).join("env");
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Servers of one test, stopped when dropped.
pub struct Services {
    name: String,
}

impl Services {
    /// `name` must be of this test alone.
    pub fn start(name: &str, services: &[&str]) -> Services {
        let started = Services { name: name.to_owned() };
        started.script(&[&["start"], services].concat());
        started
    }

    pub fn get(&self, variable: &str) -> String {
        variables(&self.name).remove(variable).unwrap_or_else(|| panic!("{variable} was not announced"))
    }

    /// kill -9.
    pub fn kill(&self, service: &str) {
        self.script(&["kill", service]);
    }

    /// Again, with the same data and port; returns when it answers.
    pub fn resume(&self, service: &str) {
        self.script(&["resume", service]);
    }

    fn script(&self, arguments: &[&str]) {
        // The servers outlive the script, so that its output must not be a pipe that somebody waits for.
        let log = std::env::temp_dir().join(format!("weir-services-{}-{}.log", self.name, std::process::id()));
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("the log can be opened");
        let status = Command::new(SCRIPT)
            .args(arguments)
            .env("WEIR_SERVICES", &self.name)
            .stdin(std::process::Stdio::null())
            .stdout(file.try_clone().expect("the log can be shared"))
            .stderr(file)
            .status()
            .expect("the script can be run");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        assert!(status.success(), "tests/services/run {arguments:?} failed:\n{}", said());
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).arg("stop").env("WEIR_SERVICES", &self.name).status();
    }
}
