//! Credentials that lose their right: the cookie, the tickets and the open streams made from them lose it, too.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::services::service;
use crate::support::{Agent, Folder, eventually, request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

const SECRET: &str = "a secret of this test that is long enough";
const NEXT_SECRET: &str = "the next secret of it, which is long as well";
/// PBKDF2 of `correct horse`.
const HASH: &str = "pbkdf2_sha256$1000$saltsaltsaltsalt$BBs+1+PaslLtBPULUr8/lQicvVuHiEPMz0i8MjLCbzM=";

/// Everything can be watched: what a user sees, a sink's streams, and a transform's outputs.
fn configured(auth: &str) -> String {
    format!(
        "  auth: {{ {auth} }}\ntransforms:\n  some: {{ type: filter, inputs: [api], where: 'n:1' }}\n\
         sinks:\n  live: {{ type: sse, inputs: [api, some] }}\n"
    )
}

/// How somebody comes in.
enum Way {
    Token(String),
    Password(&'static str, &'static str),
}

impl Way {
    fn authorization(&self) -> String {
        match self {
            Way::Token(token) => format!("Bearer {token}"),
            Way::Password(user, password) => format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
        }
    }

    fn login(&self) -> String {
        match self {
            Way::Token(token) => json!({ "token": token }).to_string(),
            Way::Password(user, password) => json!({ "user": user, "password": password }).to_string(),
        }
    }
}

fn signed(claims: &Value, secret: &str) -> Way {
    let mut claims = claims.clone();
    claims["exp"] = 4_000_000_000_u64.into();
    let key = EncodingKey::from_secret(secret.as_bytes());
    Way::Token(jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token"))
}

/// Somebody who is in: by the credentials themselves, and by the cookie made from them.
struct Visitor {
    port: u16,
    authorization: String,
    cookie: String,
    streams: Vec<(String, TcpStream)>,
    tickets: Vec<String>,
}

impl Visitor {
    /// With `taps`, components are watched, too: only few can be at a time.
    fn enter(agent: &Agent, way: &Way, taps: bool) -> Visitor {
        let port = agent.api;
        let answer = request(port, "POST", "/api/login", &[], way.login().as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let cookie = answer.head.lines().find_map(|line| line.split_once("weir_session=")).expect("a cookie").1;
        let cookie = format!("weir_session={}", cookie.split(';').next().expect("a value"));
        let mut visitor =
            Visitor { port, authorization: way.authorization(), cookie, streams: Vec::new(), tickets: Vec::new() };
        assert_eq!(visitor.roles(), (Ok("admin".to_owned()), Ok("admin".to_owned())));
        for by_cookie in [false, true] {
            for path in ["/api/stream", "/ws/logs", "/api/admin/activity/stream"] {
                visitor.watch(path, by_cookie);
            }
            if taps {
                let component = if by_cookie { "live" } else { "some" };
                visitor.watch(&format!("/api/stream?component={component}"), by_cookie);
            }
            let ticket = visitor.ticket(by_cookie);
            visitor.watch(&format!("/api/stream?ticket={ticket}"), by_cookie);
            let ticket = visitor.ticket(by_cookie);
            visitor.tickets.push(ticket);
        }
        visitor
    }

    fn header(&self, by_cookie: bool) -> (&'static str, &str) {
        if by_cookie { ("Cookie", &self.cookie) } else { ("Authorization", &self.authorization) }
    }

    fn ask(&self, method: &str, path: &str, by_cookie: bool) -> crate::support::Answer {
        let headers = [self.header(by_cookie), ("X-Requested-With", "weir-page")];
        request(self.port, method, path, &headers, b"").expect("an answer")
    }

    fn ticket(&self, by_cookie: bool) -> String {
        let answer = self.ask("POST", "/api/stream-ticket", by_cookie);
        answer.json()["ticket"].as_str().expect("a ticket").to_owned()
    }

    /// The role that the credentials have now, and the cookie; or the status of the refusal.
    fn roles(&self) -> (Result<String, u16>, Result<String, u16>) {
        let role = |by_cookie| {
            let answer = self.ask("GET", "/api/me", by_cookie);
            if answer.status == 200 {
                Ok(answer.json()["role"].as_str().expect("a role").into())
            } else {
                Err(answer.status)
            }
        };
        (role(false), role(true))
    }

    fn watch(&mut self, path: &str, by_cookie: bool) {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the agent listens");
        let (name, value) = self.header(by_cookie);
        let host = format!("127.0.0.1:{}", self.port);
        let credentials = if path.contains("ticket=") { String::new() } else { format!("{name}: {value}\r\n") };
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let more = if path.starts_with("/ws") { upgrade } else { "Connection: close\r\n" };
        write!(socket, "GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{credentials}{more}\r\n")
            .expect("a request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(socket.read(&mut byte).expect("an answer"), 1, "{path}");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text");
        let good = if path.starts_with("/ws") { "HTTP/1.1 101" } else { "HTTP/1.1 200" };
        assert!(head.starts_with(good), "{path} {name}: {head}");
        self.streams.push((format!("{path} {name}"), socket));
    }

    /// Those that are still open.
    fn open(&mut self) -> Vec<&str> {
        self.streams.iter_mut().filter_map(|(name, socket)| (!has_ended(socket)).then_some(name.as_str())).collect()
    }

    fn wait_for_the_end(&mut self, change: &str) {
        eventually(&format!("{change}: the streams end"), || self.open().is_empty());
    }
}

/// Reads what is there; whether that is all there will be.
fn has_ended(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(1))).expect("it can be set");
    let mut buffer = [0; 64 * 1024];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

const BASIC: &str = "bas: { password: first-password, role: admin }";

/// Lets somebody in, and somebody else who keeps the right; after the change, what was made of the credentials has the
/// same `left` as they: nothing, or another role.
fn falls(change: &str, before: &str, way: &Way, act: impl FnOnce(&Agent, &Folder), left: Result<&str, u16>) {
    let folder = Folder::new();
    folder.write("revoked", "");
    let keeper = "keeper: { password: kept-password, role: admin }";
    let whole = |auth: &str| {
        configured(
            &auth
                .replace("basic: {", &format!("basic: {{ {keeper}, "))
                .replace("FOLDER", &folder.path("").display().to_string()),
        )
    };
    let agent = Agent::start(&folder, &whole(before));
    let mut visitor = Visitor::enter(&agent, way, true);
    let mut other = Visitor::enter(&agent, &Way::Password("keeper", "kept-password"), false);
    act(&agent, &folder);
    let left = left.map(str::to_owned);
    eventually(&format!("{change}: the credentials have lost it"), || visitor.roles().0 == left);
    assert_eq!(visitor.roles().1, left, "{change}: the cookie");
    for ticket in &visitor.tickets {
        let path = format!("/api/admin/activity/stream?ticket={ticket}");
        let answer = request(agent.api, "GET", &path, &[], b"").expect("an answer");
        assert!(matches!(answer.status, 401 | 403), "{change}: the ticket opens a stream: {}", answer.status);
    }
    visitor.wait_for_the_end(change);
    assert_eq!(other.roles(), (Ok("admin".to_owned()), Ok("admin".to_owned())), "{change}: somebody else");
    assert_eq!(other.open().len(), other.streams.len(), "{change}: somebody else's streams");
}

/// Goes over to other credentials.
fn reloaded(auth: &str) -> impl FnOnce(&Agent, &Folder) {
    move |agent, folder| {
        let keeper = "basic: { keeper: { password: kept-password, role: admin }, ";
        let auth = auth.replace("basic: {", keeper).replace("FOLDER", &folder.path("").display().to_string());
        agent.configure(folder, &configured(&auth));
        agent.signal("-HUP");
    }
}

#[test]
fn a_revoked_token_has_no_cookie_ticket_or_stream_left() {
    let auth = format!("jwt: {{ secret: '{SECRET}' }}, basic: {{}}, revoked: 'FOLDER/revoked'");
    let way = signed(&json!({ "sub": "sara", "role": "admin", "jti": "t-1" }), SECRET);
    falls("revoked", &auth, &way, |_, folder| drop(folder.write("revoked", "t-1\n")), Err(401));
}

#[test]
fn who_is_no_longer_named_an_administrator_is_none_with_the_cookie_either() {
    let auth = format!("jwt: {{ secret: '{SECRET}' }}, basic: {{}}, roles: {{ admin: [rita] }}");
    let way = signed(&json!({ "sub": "rita" }), SECRET);
    let after = "jwt: { secret: 'a secret of this test that is long enough' }, basic: {}, roles: { admin: [other] }";
    falls("demoted", &auth, &way, reloaded(after), Ok("user"));
}

#[test]
fn who_is_no_administrator_in_the_table_is_none_with_the_cookie_either() {
    let auth = |name: &str| {
        let query = format!("select 'admin' from (values ('{name}')) as profiles (name) where name = $1");
        let table = format!("postgres: {{ url: '{}', query: \"{query}\" }}", service("WEIR_TEST_POSTGRES"));
        format!("jwt: {{ secret: '{SECRET}' }}, basic: {{}}, roles: {{ {table} }}")
    };
    let way = signed(&json!({ "sub": "rita" }), SECRET);
    falls("demoted in the table", &auth("rita"), &way, reloaded(&auth("other")), Ok("user"));
}

#[test]
fn a_user_who_is_removed_changed_or_demoted_is_so_for_the_cookie() {
    let before = format!("basic: {{ {BASIC} }}");
    let way = Way::Password("bas", "first-password");
    falls("removed", &before, &way, reloaded("basic: { }"), Err(401));
    let after = "basic: { bas: { password: second-password, role: admin } }";
    falls("another password", &before, &way, reloaded(after), Err(401));
    let after = "basic: { bas: { password: first-password, role: viewer } }";
    falls("another role", &before, &way, reloaded(after), Ok("viewer"));
    let hashed = format!("basic: {{ bas: {{ password_hash: '{HASH}', role: admin }} }}");
    falls("another hash", &hashed, &Way::Password("bas", "correct horse"), reloaded(after), Err(401));
}

#[test]
fn an_exchanged_key_or_other_terms_are_so_for_the_cookie() {
    let before = format!("jwt: {{ secret: '{SECRET}' }}, basic: {{}}");
    let way = signed(&json!({ "sub": "sara", "role": "admin" }), SECRET);
    assert!(NEXT_SECRET.len() > 32);
    let after = "jwt: { secret: 'the next secret of it, which is long as well' }, basic: {}";
    falls("another secret", &before, &way, reloaded(after), Err(401));
    let after = "jwt: { secret: 'a secret of this test that is long enough', issuer: hub }, basic: {}";
    falls("an issuer", &before, &way, reloaded(after), Err(401));
    let after = "jwt: { secret: 'a secret of this test that is long enough', user_claim: mail }, basic: {}";
    falls("another claim", &before, &way, reloaded(after), Err(401));
    falls("no tokens at all", &before, &way, reloaded("basic: { }"), Err(401));
}

#[test]
fn a_session_that_was_ended_stays_so_and_its_streams_end() {
    let folder = Folder::new();
    let yaml = configured(&format!("jwt: {{ secret: '{SECRET}' }}"));
    let agent = Agent::start(&folder, &yaml);
    let mut visitor = Visitor::enter(&agent, &signed(&json!({ "sub": "sara", "role": "admin" }), SECRET), true);
    assert_eq!(visitor.ask("POST", "/api/logout", true).status, 200);
    let ticket = visitor.tickets.pop().expect("one by the cookie");
    let answer = request(agent.api, "GET", &format!("/api/stream?ticket={ticket}"), &[], b"").expect("an answer");
    assert_eq!(answer.status, 401, "the ticket of a session that was ended");
    let roles = (Ok("admin".to_owned()), Err(401));
    assert_eq!(visitor.roles(), roles);
    assert_eq!(visitor.ask("POST", "/api/reload", false).status, 200);
    assert_eq!(visitor.roles(), roles, "after a reload");
    let by_token = visitor.streams.len() / 2;
    eventually("the session's streams end", || visitor.open().len() == by_token);
    assert!(visitor.open().iter().all(|name| name.ends_with("Authorization")));
}

#[test]
fn a_session_outlives_a_restart_and_reloads_that_change_nothing_for_it() {
    for auth in
        ["", "  auth: { jwt: { secret: 'a secret of this test that is long enough', audience: [weir, hub] } }\n"]
    {
        let folder = Folder::new();
        let yaml = |more: &str| format!("{auth}sinks:\n  live: {{ type: sse, inputs: [api] }}\n{more}");
        let agent = Agent::start(&folder, &yaml(""));
        let way = match auth {
            "" => Way::Token(agent.token()),
            _ => signed(&json!({ "sub": "sara", "role": "admin", "aud": ["x", "hub"] }), SECRET),
        };
        let answer = request(agent.api, "POST", "/api/login", &[], way.login().as_bytes()).expect("an answer");
        let cookie = answer.head.lines().find_map(|line| line.split_once("weir_session=")).expect("a cookie").1;
        assert!(!cookie.contains(SECRET));
        let cookie = format!("weir_session={}", cookie.split(';').next().expect("a value"));
        let me = |agent: &Agent| {
            let headers = [("Cookie", cookie.as_str()), ("X-Requested-With", "weir-page")];
            request(agent.api, "GET", "/api/me", &headers, b"").expect("an answer").status
        };
        assert_eq!(me(&agent), 200);
        agent.configure(&folder, &yaml("  second: { type: blackhole, inputs: [api] }\n"));
        let reload = request(agent.api, "POST", "/api/reload", &[("Authorization", &way.authorization())], b"");
        assert_eq!(reload.expect("an answer").status, 200);
        assert_eq!(me(&agent), 200, "after a reload");
        assert!(agent.stop().success());
        let agent = Agent::start(&folder, &yaml(""));
        assert_eq!(me(&agent), 200, "after a restart");
        if auth.is_empty() {
            let secret = agent.data_dir.join("api.secret");
            assert!(agent.stop().success());
            fs::write(secret, NEXT_SECRET).expect("another secret");
            assert_eq!(me(&Agent::start(&folder, &yaml(""))), 401, "with another secret");
        }
    }
}
