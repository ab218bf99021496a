//! Who may use the API, and what the agent itself says about that: events of its own, where a pipeline asks for them.

use std::fs;
use std::process::Command;

use crate::support::collector::Papers;
use crate::support::proxy::{Fault, Proxy};
use crate::support::services::service;
use crate::support::{Agent, Folder, eventually, free_port, lines_of, post, request};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use weir::api::routes::{PAGE_ANSWER, ROUTES, Route, Who};

const SECRET: &str = "a secret of this test that is long enough";

/// The agent's own events in a file, and more below `api:`.
fn watched(folder: &Folder, api: &str) -> String {
    let path = folder.path("out/own.ndjson");
    format!("{api}sinks:\n  own: {{ type: file, inputs: [api], path: '{}', batch: {{ age: 20ms }} }}\n", path.display())
}

const AGENT: (&str, &str) = ("User-Agent", "a test");

fn own_events(folder: &Folder, event_type: &str) -> Vec<Value> {
    let lines = lines_of(&folder.path("out"), "own");
    let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("an event is JSON"));
    events.filter(|event| event["event_type"] == event_type).collect()
}

/// An act by the API says which request it was, and whose.
fn assert_request(act: &Value, (method, path, status, is_admin): (&str, &str, u16, bool)) {
    assert_eq!((&act["http_method"], &act["endpoint"]), (&json!(method), &json!(path)), "{act}");
    assert_eq!((&act["status_code"], &act["is_admin"]), (&json!(status), &json!(is_admin)), "{act}");
    assert_eq!((&act["ip_address"], &act["user_agent"]), (&json!("127.0.0.1"), &json!("a test")), "{act}");
    assert!(act["duration_ms"].as_f64().is_some_and(|duration| duration > 0.0), "{act}");
}

fn token(user: &str, role: &str, id: &str) -> String {
    let claims = json!({ "sub": user, "role": role, "jti": id, "exp": 4_000_000_000_u64 });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

fn status(agent: &Agent, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    request(agent.api, method, path, headers, b"{\"n\":1}").expect("the agent answers").status
}

#[test]
fn a_failed_login_is_an_event_and_a_request_without_credentials_is_none() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &watched(&folder, ""));
    assert_eq!(status(&agent, "GET", "/api/pipeline", &[]), 401);
    assert_eq!(status(&agent, "GET", "/api/pipeline", &[("Authorization", "Bearer wrong-token"), AGENT]), 401);
    assert_eq!(status(&agent, "GET", "/api/stream?token=another-wrong-token", &[]), 401);
    eventually("the first is an event", || !own_events(&folder, "login_failed").is_empty());
    assert_eq!(agent.metric("weir_auth_failures_total", "api"), 2);
    let told = own_events(&folder, "login_failed");
    assert_eq!(told.len(), 1, "one for each address and minute");
    assert_eq!(
        (&told[0]["metadata"], &told[0]["ip_address"]),
        (&json!({ "path": "/api/pipeline", "count": 1 }), &json!("127.0.0.1"))
    );
    assert_request(&told[0], ("GET", "/api/pipeline", 401, false));
    let all = fs::read_to_string(folder.path("out/own.ndjson")).expect("the file");
    assert!(!all.contains("wrong-token"), "{all}");
    agent.assert_books();
}

#[test]
fn a_reload_is_an_event_whoever_asks_for_it() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &watched(&folder, ""));
    agent.signal("-HUP");
    eventually("the signal is told", || own_events(&folder, "config_reload").len() == 1);
    let admin = format!("Bearer {}", agent.token());
    assert_eq!(status(&agent, "POST", "/api/reload", &[("Authorization", &admin), AGENT]), 200);
    eventually("the request is told", || own_events(&folder, "config_reload").len() == 2);
    agent.configure(&folder, "sinks: 1\n");
    agent.signal("-HUP");
    eventually("the refusal is told", || own_events(&folder, "config_reload").len() == 3);
    let told = own_events(&folder, "config_reload");
    let of = |n: usize| (told[n]["user_id"].as_str(), told[n]["metadata"]["applied"].as_bool());
    assert_eq!([of(0), of(1), of(2)], [(None, Some(true)), (Some("root"), Some(true)), (None, Some(false))]);
    assert_request(&told[1], ("POST", "/api/reload", 200, true));
}

#[test]
fn a_revoked_token_is_shut_out_from_the_next_request_on() {
    let folder = Folder::new();
    let list = folder.write("revoked", "");
    let api = format!("  auth: {{ jwt: {{ secret: '{SECRET}' }}, revoked: '{}' }}\n", list.display());
    let agent = Agent::start(&folder, &watched(&folder, &api));
    let (first, second) = (token("sara", "admin", "t-1"), token("sara", "admin", "t-2"));
    let ask = |token: &str| status(&agent, "GET", "/api/pipeline", &[("Authorization", &format!("Bearer {token}"))]);
    assert_eq!((ask(&first), ask(&second)), (200, 200));
    folder.write("revoked", "t-1\n");
    assert_eq!((ask(&first), ask(&second)), (401, 200));
}

#[test]
fn a_list_of_revoked_tokens_that_is_not_there_stops_the_start() {
    let folder = Folder::new();
    let missing = folder.path("nowhere");
    let api = format!("  auth: {{ jwt: {{ secret: '{SECRET}' }}, revoked: '{}' }}\n", missing.display());
    let mut agent = Agent::spawn(&folder, &watched(&folder, &api), &[]);
    let ended = agent.child.wait().expect("it ends");
    assert_eq!(ended.code(), Some(78), "{}", agent.log());
    assert!(agent.log().contains("cannot read the revoked tokens"), "{}", agent.log());
}

#[test]
fn who_may_post_without_a_token_is_told_by_the_address_that_asks_and_not_by_the_proxy() {
    let folder = Folder::new();
    let api = format!(
        "  trusted_proxies: [127.0.0.1]\n  auth: {{ jwt: {{ secret: '{SECRET}' }}, \
         anonymous: {{ write: true, from: [10.0.0.0/8] }} }}\n"
    );
    let agent = Agent::start(&folder, &watched(&folder, &api));
    assert_eq!(status(&agent, "POST", "/api/logs", &[]), 401, "this machine is not in 10.0.0.0/8");
    assert_eq!(status(&agent, "POST", "/api/logs", &[("X-Forwarded-For", "10.1.2.3")]), 200);
    assert_eq!(status(&agent, "POST", "/api/logs", &[("X-Forwarded-For", "10.1.2.3, 203.0.113.9")]), 401);
}

#[test]
fn a_page_of_another_origin_may_ask_where_it_is_named() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &watched(&folder, "  cors: { origins: ['https://hub.example.org'] }\n"));
    let asks = |method: &str, origin: &str| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        request(agent.api, method, "/api/logs", &headers, b"").expect("the agent answers")
    };
    let fine = asks("OPTIONS", "https://hub.example.org");
    assert_eq!(fine.status, 204);
    assert!(fine.head.to_lowercase().contains("access-control-allow-origin: https://hub.example.org"), "{}", fine.head);
    assert!(fine.head.to_lowercase().contains("authorization"), "{}", fine.head);
    let other = asks("OPTIONS", "https://elsewhere.example");
    assert_ne!(other.status, 204);
    assert!(!other.head.to_lowercase().contains("access-control-allow-origin"), "{}", other.head);
    let answer =
        request(agent.api, "GET", "/health", &[("Origin", "https://hub.example.org")], b"").expect("an answer");
    assert!(answer.head.to_lowercase().contains("access-control-allow-origin: https://hub.example.org"));
    assert!(answer.head.to_lowercase().contains("vary: origin"), "{}", answer.head);
}

#[test]
fn a_table_says_who_is_an_administrator_and_without_it_nobody_becomes_one() {
    let database = Proxy::before(
        service("WEIR_TEST_POSTGRES").split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("a host"),
    );
    let query = "select 'admin' from (values ('sara'), ('ali')) as profiles (name) where name = $1";
    let folder = Folder::new();
    let api = format!(
        "  auth:\n    jwt: {{ secret: '{SECRET}' }}\n    roles:\n      postgres:\n        url: \
         postgres://postgres@127.0.0.1:{}/postgres\n        query: \"{query}\"\n",
        database.port
    );
    let agent = Agent::start(&folder, &watched(&folder, &api));
    let ask = |user: &str| {
        let bearer = format!("Bearer {}", token(user, "user", "t"));
        status(&agent, "GET", "/api/pipeline", &[("Authorization", &bearer)])
    };
    assert_eq!((ask("sara"), ask("mallory"), ask("sara' or '1'='1")), (200, 403, 403));
    database.set(Fault::Refuse);
    assert_eq!(ask("sara"), 200, "what was said a moment ago holds");
    assert_eq!(ask("ali"), 403, "nobody can say it now");
    assert!(agent.log().contains("role lookup failed"), "{}", agent.log());
    database.set(Fault::None);
    assert_eq!(ask("ali"), 200);
}

#[test]
fn commands_find_the_agent_by_its_configuration_and_mint_tokens_that_it_believes() {
    let folder = Folder::new();
    let auth = format!("  auth: {{ jwt: {{ secret: {SECRET:?}, audience: weir, issuer: me, user_claim: mail }} }}\n");
    let yaml = format!(
        "  base_path: /weir\n{auth}sources: {{ in: {{ type: demo, rate: 1/s }} }}\nsinks: {{ out: {{ type: blackhole, inputs: [in] }} }}\n"
    );
    let agent = Agent::spawn(&folder, &yaml, &[]);
    let weir = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        let out = command.args(arguments).current_dir(&folder.0).output().expect("weir runs");
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    eventually("weir health finds it", || weir(&["health"]).0 == Some(0));
    let token = weir(&["token", "--user", "root", "--role", "admin"]).1;
    let (code, _, said) = weir(&["dlq", "list", "--token", token.trim()]);
    assert_eq!(code, Some(0), "{said}");
    let bearer = format!("Bearer {}", token.trim());
    let told = request(agent.api, "GET", "/weir/api/pipeline", &[("Authorization", &bearer)], b"").expect("an answer");
    let told = told.json();
    let source = told["components"].as_array().expect("a list").iter().find(|one| one["name"] == "in");
    let source = source.expect("the source is listed");
    assert!(source["rates"]["received"].is_number() && source["last_error"].is_null(), "{source}");
}

#[test]
fn commands_know_an_agent_with_tls_by_the_certificate_that_it_shows() {
    let (folder, papers) = (Folder::new(), Papers::new());
    let tls = |who: &str| {
        let path = |end: &str| papers.path(&format!("{who}.{end}")).display().to_string();
        format!("  tls: {{ cert: '{}', key: '{}' }}\nsources: {{}}\n", path("pem"), path("key"))
    };
    let weir = |arguments: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("weir runs");
        (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let agent = Agent::spawn(&folder, &tls("server"), &[]);
    let data_dir = agent.data_dir.display().to_string();
    eventually("it is healthy", || weir(&["health", "--data-dir", &data_dir]) == (true, "healthy\n".into()));
    assert_eq!(weir(&["dlq", "list", "--data-dir", &data_dir]), (true, String::new()));
    let (trusted, said) = weir(&["health", "--url", &format!("https://127.0.0.1:{}", agent.api)]);
    assert!(!trusted && said.contains("invalid peer certificate"), "no authority of the system knows it: {said}");
    // Whoever else sits at its address is not shown the token.
    fs::copy(papers.path("client.pem"), agent.data_dir.join("api.pem")).expect("it can be written");
    let (trusted, said) = weir(&["health", "--data-dir", &data_dir]);
    assert!(!trusted && said.contains("invalid peer certificate"), "{said}");
}

#[test]
fn no_web_page_can_use_an_agent_on_its_visitors_machine() {
    let (folder, port) = (Folder::new(), crate::support::free_port());
    let (named, guarded) = (crate::support::free_port(), crate::support::free_port());
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n  \
         named: {{ type: http, address: '127.0.0.1:{named}', hosts: [weir.example.org] }}\n  \
         guarded: {{ type: http, address: '127.0.0.1:{guarded}', auth: {{ type: bearer, tokens: [some-long-token-1234] }} }}\n\
         sinks:\n  out: {{ type: blackhole, inputs: ['*'] }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    // A domain that was made to point here: to the browser its page and the agent are of one origin.
    let rebound = [("Host", "evil.example:8687"), ("Origin", "http://evil.example:8687")];
    let known = [("Host", "weir.example.org"), ("Authorization", "Bearer some-long-token-1234")];
    for (at, headers, expected) in
        [(port, rebound, 403), (named, rebound, 403), (named, known, 200), (port, known, 403), (guarded, known, 200)]
    {
        let answer = request(at, "POST", "/", &headers, b"{\"n\":1}").expect("an answer");
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.text());
    }
    let admin = format!("Bearer {}", agent.token());
    let foreign = ("Origin", "https://evil.example");
    let sent = request(port, "POST", "/", &[foreign], b"{\"n\":1}").expect("an answer");
    assert_eq!(sent.status, 403, "{}", sent.text());
    assert_eq!(status(&agent, "POST", "/api/reload", &[("Authorization", &admin), foreign]), 403);
    assert_eq!(status(&agent, "POST", "/api/logs", &[("Authorization", &admin), foreign]), 403);
    assert_eq!(agent.metric("weir_events_entered_total", "web"), 0);
    assert_eq!(request(port, "POST", "/", &[], b"{\"n\":1}").expect("an answer").status, 200, "a program says nothing");
}

#[test]
fn a_key_that_was_exchanged_counts_from_the_next_reload_on() {
    let folder = Folder::new();
    let other = "another secret of this test, long enough too";
    let key = folder.write("key", SECRET);
    let api = format!("  auth: {{ jwt: {{ secret: '${{file:{}}}' }} }}\n", key.display());
    let agent = Agent::start(&folder, &watched(&folder, &api));
    let claims = json!({ "sub": "sara", "role": "admin", "exp": 4_000_000_000_u64 });
    let signed = |secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        format!("Bearer {}", jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token"))
    };
    let (old, new) = (signed(SECRET), signed(other));
    let ask = |token: &str| status(&agent, "GET", "/api/pipeline", &[("Authorization", token)]);
    let reload = |token: &str| status(&agent, "POST", "/api/reload", &[("Authorization", token)]);
    assert_eq!((ask(&old), ask(&new)), (200, 401));
    folder.write("key", other);
    // Together with another change.
    let more = "  second: { type: blackhole, inputs: [api] }\n";
    agent.configure(&folder, &format!("{}{more}", watched(&folder, &api)));
    assert_eq!((ask(&old), reload(&old)), (200, 200));
    assert_eq!((ask(&old), ask(&new)), (401, 200));
    assert!(agent.metrics().keys().any(|name| name.contains("\"second\"")));
    // What cannot be used changes nothing.
    folder.write("key", "short");
    assert_eq!((reload(&new), ask(&new), ask(&old)), (422, 200, 401));
    // Other settings of the API still need a restart.
    folder.write("key", other);
    agent.configure(&folder, &watched(&folder, &format!("{api}  preview: 7\n")));
    assert_eq!((reload(&new), ask(&new)), (422, 200));
}

/// What these routes show is the caller's own, is nobody's, or is no event.
const SHOWS_NO_EVENTS_OF_OTHERS: [&str; 15] = [
    "/health",
    "/ready",
    "/metrics",
    "/version",
    "/openapi.json",
    "/api/me",
    "/api/activity/recent",
    "/api/activity/summary",
    "/api/activity/stats",
    "/api/activity/search",
    "/api/recent-activity",
    "/api/search-code",
    "/api/fields",
    "/api/pipeline",
    "/api/config",
];

#[test]
fn whatever_shows_events_of_others_is_recorded() {
    let (folder, port) = (Folder::new(), free_port());
    let yaml = format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:{port}', on_bad: dead_letter }} }}\n{}\
         \x20 events: {{ type: store, inputs: [web], batch: {{ age: 10ms }} }}\n",
        watched(&folder, "")
    );
    let agent = Agent::start(&folder, &yaml);
    let id = "0190f5f5-0000-7000-8000-000000000001";
    let event = json!({ "id": id, "user_id": "sara", "session_id": "s", "code": "1", "status": "success" });
    post(port, &format!("{event}\n{{\"broken\n"));
    eventually("it is stored", || agent.metric("weir_events_delivered_total", "events") == 1);
    eventually("one is put aside", || agent.letters().len() == 1);
    let admin = format!("Bearer {}", agent.token());
    let recorded = |route: &Route, path: &str| {
        let mine = |event: &Value| event["endpoint"] == path && event["http_method"] == route.method;
        let types = ["activity_read", "activity_export", "admin_view_activity_logs"];
        types.iter().any(|name| own_events(&folder, name).iter().any(mine))
    };
    // Live streams are recorded where they send again what was.
    let is_live = |route: &Route| matches!(route.who, Who::StreamReader | Who::StreamAdmin);
    for route in ROUTES.iter().filter(|route| route.method == "GET" && route.answers != PAGE_ANSWER && !is_live(route))
    {
        let id = if route.path.starts_with("/api/dlq") { &agent.letters()[0] } else { id };
        let path = route.path.replace("{id}", id).replace("{field}", "session_id");
        assert_eq!(status(&agent, "GET", &path, &[("Authorization", &admin)]), 200, "{path}");
        // The list of dead letters says where they failed; an event is what one of them shows.
        if SHOWS_NO_EVENTS_OF_OTHERS.contains(&route.path) || route.path == "/api/dlq" {
            continue;
        }
        eventually(&format!("{path} is recorded"), || recorded(route, &path));
    }
    let grouped = status(&agent, "GET", "/api/logs/stats?group_by=user_id", &[("Authorization", &admin)]);
    assert_eq!(grouped, 200);
    eventually("it is recorded with its groups", || {
        own_events(&folder, "activity_read").iter().any(|event| {
            event["metadata"]["filters_applied"]["group_by"] == "user_id" && event["metadata"]["results_count"] == 1
        })
    });
}
