//! Search servers from outside: what is in them, asked with curl, and a strict one that fails on demand.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

use super::services::service;

/// A real server, and how it is asked.
#[derive(Clone)]
pub struct Search {
    pub url: String,
    options: Vec<String>,
}

impl Search {
    pub fn at(url: &str) -> Search {
        Search { url: url.to_owned(), options: Vec::new() }
    }

    pub fn elasticsearch() -> Search {
        Search::at(&service("WEIR_TEST_ELASTICSEARCH"))
    }

    pub fn opensearch() -> Search {
        Search::at(&service("WEIR_TEST_OPENSEARCH"))
    }

    /// The one with TLS and passwords, as its superuser.
    pub fn secured() -> Search {
        let (user, password) = (service("WEIR_TEST_ELASTICSEARCH_USER"), service("WEIR_TEST_ELASTICSEARCH_PASSWORD"));
        let ca = service("WEIR_TEST_ELASTICSEARCH_CA");
        let options = vec!["--cacert".into(), ca, "-u".into(), format!("{user}:{password}")];
        Search { url: service("WEIR_TEST_ELASTICSEARCH_TLS"), options }
    }

    /// `host:port`, for a proxy before it.
    pub fn address(&self) -> &str {
        self.url.split("://").nth(1).expect("an address")
    }

    /// Status and document of an answer; 0 and null where there is none.
    pub fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "20", "-X", method, "-w", "\n%{http_code}"]).args(&self.options);
        if let Some(body) = body {
            curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
        }
        let out = curl.arg(format!("{}{path}", self.url)).output().expect("curl runs");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The same, where only success will do.
    pub fn must(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// How many documents there are, all that was written before included.
    pub fn count(&self, index: &str) -> u64 {
        self.ask("POST", &format!("/{index}/_refresh"), None);
        let (_, answer) = self.ask("GET", &format!("/{index}/_count"), None);
        answer["count"].as_u64().unwrap_or(0)
    }

    /// One document, by its id.
    pub fn get(&self, index: &str, id: &str) -> Value {
        self.must("GET", &format!("/{index}/_doc/{id}"), None)["_source"].clone()
    }

    /// The numbers `n` of all documents, ascending.
    pub fn numbers(&self, index: &str) -> Vec<u64> {
        self.ask("POST", &format!("/{index}/_refresh"), None);
        let all = json!({"size": 10_000, "_source": ["n"]});
        let (_, answer) = self.ask("POST", &format!("/{index}/_search"), Some(all));
        let hits = answer["hits"]["hits"].as_array().cloned().unwrap_or_default();
        let mut numbers: Vec<u64> = hits.iter().filter_map(|hit| hit["_source"]["n"].as_u64()).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// What the simulator does with a bulk request instead of taking it.
#[derive(Clone)]
pub enum Mishap {
    /// An answer of its own: status, headers, body.
    Answer(u16, &'static str, &'static str),
    /// Events at these places get this status and type; the others are taken.
    Some(Vec<(std::ops::Range<usize>, u16, &'static str)>),
    /// Events with these numbers `n` get this status and type; the others are taken.
    Where(Arc<dyn Fn(u64) -> Option<(u16, &'static str)> + Send + Sync>),
}

/// A server that refuses what the real ones refuse, remembers, and fails on demand. It ends with the test.
pub struct Simulator {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    mishaps: VecDeque<Mishap>,
    /// What happens to every bulk request.
    always: Option<Mishap>,
    /// The header without which nothing is answered.
    authorization: Option<String>,
    /// Requests of more bytes are refused, as nodes and the proxies before them do.
    most_bytes: Option<usize>,
    documents: BTreeMap<(String, String), Value>,
    /// Whether documents may be written and not read.
    hides: bool,
    /// How many events each bulk request brought that was read.
    bulks: Vec<usize>,
    /// What was wrong with requests.
    complaints: Vec<String>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Simulator {
    pub fn start() -> Simulator {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let state = Arc::<Mutex<State>>::default();
        let serving = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = serving.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Simulator { port, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub fn next(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.state().mishaps.extend(mishaps);
    }

    /// What happens to every bulk request until something else is said.
    pub fn always(&self, mishap: Option<Mishap>) {
        self.state().always = mishap;
    }

    /// The numbers `n` of all documents.
    pub fn numbers(&self) -> Vec<u64> {
        self.state().documents.values().filter_map(|document| document["n"].as_u64()).collect()
    }

    pub fn demand(&self, authorization: &str) {
        self.state().authorization = Some(authorization.to_owned());
    }

    pub fn hide(&self, hides: bool) {
        self.state().hides = hides;
    }

    pub fn refuse_above(&self, bytes: usize) {
        self.state().most_bytes = Some(bytes);
    }

    pub fn count(&self) -> usize {
        self.state().documents.len()
    }

    /// The bulk requests so far, by their number of events.
    pub fn bulks(&self) -> Vec<usize> {
        self.state().bulks.clone()
    }

    /// What was wrong with requests; nothing should be.
    pub fn complaints(&self) -> Vec<String> {
        self.state().complaints.clone()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let (status, headers, body) = answer(&request, &mut state.lock().expect("no panic"));
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

type Reply = (u16, String, String);

fn reply(status: u16, document: &Value) -> Reply {
    (status, "Content-Type: application/json\r\n".into(), document.to_string())
}

fn refusal(status: u16, kind: &str, reason: &str) -> Reply {
    reply(status, &json!({"error": {"type": kind, "reason": reason, "root_cause": []}, "status": status}))
}

fn answer(request: &Request, state: &mut State) -> Reply {
    let shown = request.headers.get("authorization").map_or("nothing", String::as_str);
    if state.authorization.as_ref().is_some_and(|wanted| wanted != shown) {
        return refusal(401, "security_exception", &format!("unable to authenticate with {shown}"));
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    match (&*request.method, path) {
        ("GET", "/") => reply(200, &json!({"version": {"number": "8.19.21"}})),
        ("POST", path) if path.ends_with("/_bulk") => bulk(request, path, query, state),
        ("POST", "/_mget") if state.hides => refusal(403, "security_exception", "no privilege to read"),
        ("POST", "/_mget") => mget(request, state),
        ("GET", path) if query.contains("_source") => reply(200, &json!({ path.trim_matches('/'): {} })),
        _ => refusal(405, "", "no handler found"),
    }
}

fn bulk(request: &Request, path: &str, query: &str, state: &mut State) -> Reply {
    if state.most_bytes.is_some_and(|most| request.body.len() > most) {
        return (413, String::new(), String::new());
    }
    let events = match events_of(request, path, query) {
        Ok(events) => events,
        Err(wrong) => {
            state.complaints.push(wrong.clone());
            return refusal(400, "illegal_argument_exception", &wrong);
        }
    };
    state.bulks.push(events.len());
    let mishap = state.mishaps.pop_front().or_else(|| state.always.clone());
    if let Some(Mishap::Answer(status, headers, body)) = mishap {
        return (status, headers.into(), body.into());
    }
    let mut items = Vec::new();
    for (nth, (index, id, document)) in events.into_iter().enumerate() {
        let fate = match &mishap {
            Some(Mishap::Some(fates)) => {
                fates.iter().find(|(places, ..)| places.contains(&nth)).map(|(_, status, kind)| (*status, *kind))
            }
            Some(Mishap::Where(fate)) => document["n"].as_u64().and_then(|n| fate(n)),
            _ => None,
        };
        let item = match fate {
            Some((status, kind)) => json!({"status": status, "error": {"type": kind, "reason": "on demand"}}),
            None if state.documents.contains_key(&(index.clone(), id.clone())) => {
                let kind = "version_conflict_engine_exception";
                json!({"status": 409, "error": {"type": kind, "reason": "document already exists"}})
            }
            None => {
                state.documents.insert((index, id), document);
                json!({"status": 201})
            }
        };
        items.push(json!({ "create": item }));
    }
    reply(200, &json!({"errors": items.iter().any(|item| item["create"]["status"] != 201), "items": items}))
}

fn mget(request: &Request, state: &State) -> Reply {
    let wanted: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let found = |one: &Value| {
        let document = state.documents.get(&(text(one, "_index"), text(one, "_id")));
        document.map_or(json!({"_id": one["_id"]}), |document| json!({"_id": one["_id"], "_source": document}))
    };
    let documents: Vec<Value> = wanted["docs"].as_array().into_iter().flatten().map(found).collect();
    reply(200, &json!({ "docs": documents }))
}

/// Index, id and document of every event of a well-formed request.
fn events_of(request: &Request, path: &str, query: &str) -> Result<Vec<(String, String, Value)>, String> {
    if request.headers.get("content-type").map(String::as_str) != Some("application/x-ndjson") {
        return Err("Content-Type must be application/x-ndjson".into());
    }
    for parameter in query.split('&') {
        let name = parameter.split('=').next().unwrap_or("");
        if !["filter_path", "timeout", "pipeline"].contains(&name) {
            return Err(format!("request contains unrecognized parameter: [{name}]"));
        }
    }
    let mut text = String::new();
    let read = match request.headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => flate2::read::GzDecoder::new(&request.body[..]).read_to_string(&mut text),
        None => (&request.body[..]).read_to_string(&mut text),
        Some(other) => return Err(format!("unknown encoding {other}")),
    };
    read.map_err(|error| error.to_string())?;
    let default_index = path.trim_end_matches("/_bulk").trim_start_matches('/');
    let body = text.strip_suffix('\n').ok_or("The bulk request must be terminated by a newline [\\n]")?;
    let lines: Vec<&str> = body.split('\n').collect();
    let mut events = Vec::new();
    for pair in lines.chunks(2) {
        let [action, document] = pair else { return Err("an action without a document".into()) };
        let action: Value = serde_json::from_str(action).map_err(|error| format!("{error} in {action}"))?;
        let document: Value = serde_json::from_str(document).map_err(|error| format!("{error} in {document}"))?;
        let create = action["create"].as_object().filter(|_| action.as_object().is_some_and(|all| all.len() == 1));
        let create = create.ok_or_else(|| format!("only `create` is expected: {action}"))?;
        if create.keys().any(|key| key != "_id" && key != "_index") || !document.is_object() {
            return Err(format!("malformed: {action} {document}"));
        }
        let id = create.get("_id").and_then(Value::as_str).filter(|id| !id.is_empty() && id.len() <= 512);
        let index = create.get("_index").and_then(Value::as_str).unwrap_or(default_index);
        let is_named = index.starts_with(|c: char| c.is_ascii_alphanumeric()) && index.len() <= 255;
        if !is_named || index.chars().any(|c| c.is_uppercase() || "\\/*?\"<>| ,#:".contains(c)) {
            return Err(format!("invalid index name [{index}]"));
        }
        events.push((index.to_owned(), id.ok_or("no id")?.to_owned(), document));
    }
    Ok(events)
}
