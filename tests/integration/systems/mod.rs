//! The four systems of `examples/`, each run whole: its configuration, its tables, its clients, and SQL to compare with.

mod chat;
mod jupyter;
mod review;
mod shop;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::collector::{Collector, reply};
use crate::support::database::Database;
use crate::support::{Agent, Answer, Folder, eventually, free_port, lines_of, python, request};

const SECRET: &str = "the secret of an example, which is long enough";

/// One of the systems, running on a database of its own.
pub struct System {
    pub agent: Agent,
    pub database: Database,
    pub folder: Folder,
    pub environment: Vec<(String, String)>,
    /// What the channel of alerts was sent.
    pub messages: Arc<Mutex<Vec<Value>>>,
    channel: Collector,
    name: &'static str,
    configurations: Vec<PathBuf>,
}

impl System {
    /// Makes the tables and starts the agent; `more` is what the example's files ask the environment for.
    pub fn start(name: &'static str, configurations: &[&str], database: Database, more: &[(&str, String)]) -> System {
        let folder = Folder::new();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let sent = messages.clone();
        let channel = Collector::start(move |heard| {
            let message = serde_json::from_str(&heard.body).expect("a message is JSON");
            sent.lock().expect("no panic").push(message);
            reply(200, "")
        });
        let example = python::root().join("examples").join(name);
        let configurations: Vec<PathBuf> = configurations.iter().map(|file| example.join(file)).collect();
        let mut environment = vec![
            ("WEIR_ADDRESS".to_owned(), format!("127.0.0.1:{}", free_port())),
            ("DATABASE_URL".to_owned(), database.url()),
            ("ALERT_URL".to_owned(), format!("http://127.0.0.1:{}/", channel.port)),
            ("JWT_SECRET".to_owned(), SECRET.to_owned()),
            ("WEIR_SPOOL_DIR".to_owned(), folder.path("spool").display().to_string()),
            ("WEIR_SERVER_SPOOL_DIR".to_owned(), folder.path("seen").display().to_string()),
        ];
        environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let agent = Agent::start_files(&folder, &configurations, &environment);
        System { agent, database, folder, environment, messages, channel, name, configurations }
    }

    /// kill -9, and a new agent with the same data.
    pub fn restart(self) -> System {
        let System { agent, database, folder, environment, messages, channel, name, configurations } = self;
        agent.kill();
        let agent = Agent::start_files(&folder, &configurations, &environment);
        System { agent, database, folder, environment, messages, channel, name, configurations }
    }

    /// A program of the example, whose events go where its environment says.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(python::interpreter());
        command
            .arg(python::root().join("examples").join(self.name).join("client.py"))
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .env("WEIR_API", format!("127.0.0.1:{}", self.agent.api))
            .env("PYTHONUNBUFFERED", "1");
        command
    }

    /// A GET as somebody.
    pub fn ask(&self, user: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {}", token(user, json!({})));
        request(self.agent.api, "GET", path, &[("Authorization", &bearer)], b"").expect("the agent answers")
    }

    /// The JSON of an answer that must be 200.
    pub fn get(&self, user: &str, path: &str) -> Value {
        let answer = self.ask(user, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Alerts so far.
    pub fn alerts(&self) -> Vec<Value> {
        let lines = lines_of(&self.folder.path("data/alerts"), "");
        lines.iter().map(|line| serde_json::from_str(line).expect("an alert is JSON")).collect()
    }

    /// The first column of the first row, as a number.
    pub fn number(&self, sql: &str) -> f64 {
        let text = self.database.sql(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
    }
}

/// A token of the system's own kind, good for an hour.
pub fn token(user: &str, more: Value) -> String {
    let mut claims = json!({"user_id": user, "exp": jsonwebtoken::get_current_timestamp() + 3600});
    let more = more.as_object().expect("claims are an object").clone();
    claims.as_object_mut().expect("an object").extend(more);
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

/// A number in an answer.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A stream of server-sent events that is read as it comes.
pub struct Stream {
    heard: Arc<Mutex<String>>,
    socket: TcpStream,
}

impl Stream {
    pub fn open(port: u16, path: &str) -> Stream {
        Stream::with(port, path, "", "HTTP/1.1 200")
    }

    /// A WebSocket; what the server sends is not masked.
    pub fn websocket(port: u16, path: &str) -> Stream {
        let headers = "Origin: http://weir\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        Stream::with(port, path, headers, "HTTP/1.1 101")
    }

    fn with(port: u16, path: &str, headers: &str, expected: &str) -> Stream {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: weir\r\n{headers}\r\n").expect("it is sent");
        let heard = Arc::new(Mutex::new(String::new()));
        let (mut reader, text) = (socket.try_clone().expect("a second handle"), heard.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                text.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let stream = Stream { heard, socket };
        eventually("the stream begins", || stream.heard().contains("\r\n\r\n"));
        assert!(stream.heard().starts_with(expected), "{}", stream.heard());
        stream
    }

    /// How a request for a stream is answered.
    pub fn status(port: u16, path: &str) -> u16 {
        request(port, "GET", path, &[], b"").expect("the agent answers").status
    }

    /// Everything so far.
    pub fn heard(&self) -> String {
        self.heard.lock().expect("no panic").clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
