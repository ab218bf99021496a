//! Databases of a test's own, looked at with psql, and agents that fill them.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use super::services::service;
use super::{Agent, Folder, eventually, free_port};

/// A database of a test's own on the shared server; dropped at the end.
pub struct Database {
    pub name: String,
    /// The server's URL up to the name of the database.
    pub server: String,
}

impl Database {
    pub fn new() -> Database {
        Database::on(&service("WEIR_TEST_POSTGRES"))
    }

    /// On the server of this URL.
    pub fn on(url: &str) -> Database {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("weir_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let server = url.rsplit_once('/').expect("a URL names a database").0.to_owned();
        let database = Database { name, server };
        psql(&format!("{}/postgres", database.server), &format!("CREATE DATABASE {}", database.name));
        database
    }

    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// The same over another port, such as a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{}", self.name)
    }

    /// Runs a file below `examples` with psql's variables.
    pub fn run_file(&self, file: &str, variables: &[(&str, &str)]) {
        let mut command = Command::new("psql");
        command.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-f"]);
        command.arg(format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR")));
        command.args(variables.iter().flat_map(|(name, value)| ["-v".to_owned(), format!("{name}={value}")]));
        let out = command.arg(self.url()).output().expect("psql runs");
        assert!(out.status.success(), "{file}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// The same as another role, which needs no password there.
    pub fn url_as(&self, role: &str) -> String {
        format!("postgres://{role}@{}/{}", self.place(), self.name)
    }

    /// What the server says to SQL that this role may not run.
    pub fn refused_as(&self, role: &str, sql: &str) -> String {
        let out = Command::new("psql").args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url_as(role)]).output();
        let out = out.expect("psql runs");
        assert!(!out.status.success(), "{role} may run {sql}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    /// `host:port` of the server.
    pub fn place(&self) -> String {
        self.server.rsplit_once('@').expect("a URL has a user").1.to_owned()
    }

    /// Runs SQL; rows come as lines with `|` between the columns.
    pub fn sql(&self, sql: &str) -> String {
        psql(&self.url(), sql)
    }

    pub fn count(&self, table: &str) -> u64 {
        self.sql(&format!("SELECT count(*) FROM {table}")).parse().expect("a count")
    }

    /// The tables of an example.
    pub fn define(&self, example: &str) {
        let path = format!("{}/examples/{}/schema.sql", env!("CARGO_MANIFEST_DIR"), folder_of(example));
        self.sql(&std::fs::read_to_string(path).expect("the example has a table"));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = Command::new("psql").args(["-qXc", &drop, &format!("{}/postgres", self.server)]).output();
    }
}

/// The folder of an example below `examples`.
pub fn folder_of(example: &str) -> &'static str {
    match example {
        "notebook" => "jupyter-audit",
        "shop" => "shop-activity",
        "chat" => "chat-activity",
        "review" => "document-review",
        _ => panic!("there is no example `{example}`"),
    }
}

/// Roles of a test's own; dropped at the end, with what they may do.
pub struct Roles {
    url: String,
    names: Vec<String>,
}

impl Roles {
    pub fn new(database: &Database, names: &[&str]) -> Roles {
        names.iter().for_each(|name| drop(database.sql(&format!("CREATE ROLE {name} LOGIN"))));
        Roles { url: database.url(), names: names.iter().map(|name| (*name).to_owned()).collect() }
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for name in &self.names {
            let drop = format!("DROP OWNED BY {name}; DROP ROLE {name}");
            let _ = Command::new("psql").args(["-qXc", &drop, &self.url]).output();
        }
    }
}

/// Runs SQL and expects it to hold.
pub fn psql(url: &str, sql: &str) -> String {
    let out =
        Command::new("psql").args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, url]).output().expect("psql runs");
    assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text").trim_end().to_owned()
}

/// An agent that takes events over HTTP and writes them into one table.
pub struct Filled {
    pub agent: Agent,
    pub port: u16,
}

impl Filled {
    /// `sink` are further keys of the sink, each on a line of its own.
    pub fn start(folder: &Folder, url: &str, table: &str, sink: &str) -> Filled {
        let (port, yaml) = pipeline(url, table, sink);
        Filled { agent: Agent::start(folder, &yaml), port }
    }

    /// Waits until the sink has nothing left to do, and checks the books.
    pub fn settle(&self) {
        eventually("the sink has written everything", || {
            self.agent.metric("weir_events_waiting", "out") == 0
                && self.agent.metric("weir_events_addressed_total", "out") > 0
        });
        self.agent.assert_books();
    }

    pub fn state(&self) -> String {
        let samples = self.agent.metrics();
        let is_now = |key: &str| key.starts_with("weir_component_state") && key.contains("component=\"out\"");
        let now = samples.iter().find(|(key, value)| is_now(key) && **value == 1.0).map(|(key, _)| key.clone());
        now.and_then(|key| Some(key.split("state=\"").nth(1)?.split('"').next()?.to_owned())).unwrap_or_default()
    }
}

/// A configuration and the port it takes events at.
pub fn pipeline(url: &str, table: &str, sink: &str) -> (u16, String) {
    let port = free_port();
    let batch = if sink.contains("batch:") { "" } else { "    batch: { age: 50ms }\n" };
    let lines: String = sink.lines().map(|line| format!("    {}\n", line)).collect();
    let yaml = format!(
        "sources:\n  in: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [in] }}\n\
         sinks:\n  out:\n    type: postgres\n    inputs: [named]\n    url: {url}\n    table: '{}'\n    \
         retry: {{ initial: 100ms, max: 300ms }}\n{batch}{lines}",
        table.replace('\'', "''")
    );
    (port, yaml)
}

/// An id that says its number.
pub fn id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}
