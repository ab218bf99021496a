//! The two places that can be read, over the same events: the embedded store and a table of Postgres.

use serde_json::{Value, json};

use super::database::Database;
use super::{Agent, Folder, eventually, free_port, post, request};

pub const SECRET: &str = "a secret of more than thirty-two bytes, for tests";

pub fn token(user: &str, role: &str) -> String {
    let folder = Folder::new();
    let yaml = format!(
        "api: {{ auth: {{ jwt: {{ secret: '{SECRET}' }} }} }}\nsources: {{ d: {{ type: demo }} }}\nsinks: {{ b: {{ type: blackhole, inputs: [d] }} }}\n"
    );
    let config = folder.write("weir.yaml", &yaml);
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["token", "--user", user, "--role", role, "-c"])
        .arg(config)
        .output()
        .expect("weir token runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text").trim().to_owned()
}

pub fn ask(agent: &Agent, token: &str, path: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let answer = request(agent.api, "GET", path, &[("Authorization", &bearer)], b"").expect("the agent answers");
    let body = if answer.text().starts_with(['{', '[']) { answer.json() } else { Value::from(answer.text()) };
    (answer.status, body)
}

/// A query as it stands in an address.
pub fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Numbers that look random and are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// Both agents, over the same events.
pub struct Places {
    pub store: Agent,
    pub table: Agent,
    _database: Database,
    _folders: [Folder; 2],
}

impl Places {
    pub fn with(events: &[Value]) -> Places {
        let (database, ingest) = (Database::new(), free_port());
        let auth = format!("  auth: {{ jwt: {{ secret: '{SECRET}' }} }}\n  preview: 5\n");
        let table = format!(
            "{{ type: postgres, url: '{}', table: events, create_table: true, batch: {{ age: 10ms }}",
            database.url()
        );
        let folders = [Folder::new(), Folder::new()];
        let store = format!(
            "{auth}sources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}' }} }}\n\
             transforms: {{ named: {{ type: normalize, inputs: [web] }} }}\n\
             sinks:\n  kept: {{ type: store, inputs: [named], batch: {{ age: 10ms }} }}\n  rows: {table}, inputs: [named] }}\n"
        );
        let store = Agent::start(&folders[0], &store);
        let body: String = events.iter().map(|event| format!("{event}\n")).collect();
        assert_eq!(post(ingest, &body), events.len() as u64);
        for sink in ["kept", "rows"] {
            store.delivered(sink, events.len() as u64);
        }
        let reading = format!(
            "{auth}  read: {{ sink: rows }}\nsources: {{ web: {{ type: http, address: '127.0.0.1:{}' }} }}\n\
             sinks:\n  rows: {table}, inputs: [web] }}\n",
            free_port()
        );
        let table = Agent::start(&folders[1], &reading);
        eventually("the table is there", || table.health("rows").state == "running");
        Places { store, table, _database: database, _folders: folders }
    }

    /// The answers of both, without what only one of them can have.
    pub fn agree(&self, token: &str, path: &str) -> Value {
        let (expected, found) = (ask(&self.store, token, path), ask(&self.table, token, path));
        assert_eq!(expected.0, found.0, "{path}: {} {}", expected.1, found.1);
        let (expected, found) = (comparable(expected.1), comparable(found.1));
        assert_eq!(expected, found, "{path}");
        found
    }
}

fn comparable(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(members) => {
                // Where pages go on, and when events were received: each place has its own.
                for name in ["seq", "next", "received_at"] {
                    members.remove(name);
                }
                // Null and absent are the same to a table.
                members.retain(|_, value| !value.is_null());
                members.values_mut().for_each(walk);
            }
            Value::Array(values) => values.iter_mut().for_each(walk),
            Value::Number(number) => {
                if let Some(float) = number.as_f64() {
                    *value = json!(float);
                }
            }
            _ => {}
        }
    }
    walk(&mut value);
    value
}

/// An agent that reads a table which is there already.
pub fn reading(folder: &Folder, database: &Database, table: &str, more: &str) -> Agent {
    let yaml = format!(
        "  auth: {{ jwt: {{ secret: '{SECRET}' }} }}\n  read: {{ sink: rows{more} }}\n\
         sources: {{ web: {{ type: http, address: '127.0.0.1:{}' }} }}\n\
         sinks:\n  rows: {{ type: postgres, inputs: [web], url: '{}', table: {table} }}\n",
        free_port(),
        database.url()
    );
    Agent::start(folder, &yaml)
}
