//! Nothing private comes out of an agent, whatever its targets answer and however it is asked.

use std::process::Command;

use crate::support::ask::validate;
use crate::support::collector::{Collector, Heard, reply};
use crate::support::{Agent, Folder, eventually, free_port, post, request};

/// Every secret of the configuration has this in it.
const MARK: &str = "MARKED";

/// A server that refuses everybody and quotes all that it was sent.
fn parrot() -> Collector {
    Collector::start(|heard: &Heard| {
        let quoted: Vec<String> = heard.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        reply(401, format!("{} {} {}", quoted.join(" "), heard.path, heard.body))
    })
}

fn yaml(ingest: u16, parrot: u16) -> String {
    let hook = |name: &str, more: &str| {
        format!(
            "  {name}: {{ type: http, inputs: [web], uri: 'http://127.0.0.1:{parrot}/', timeout: 2s, \
             batch: {{ age: 20ms }}, retry: {{ initial: 50ms, max: 100ms }}, {more} }}\n"
        )
    };
    let at = format!("127.0.0.1:{parrot}");
    [
        "log: { level: trace }\nsources:\n".to_owned(),
        format!(
            "  web: {{ type: http, address: '127.0.0.1:{ingest}', \
             auth: {{ type: basic, users: {{ ali: {{ password: {MARK}-of-ali }} }} }} }}\nsinks:\n"
        ),
        hook("bearer", &format!("auth: {{ type: bearer, token: {MARK}-token }}")),
        hook("basic", &format!("auth: {{ type: basic, user: ali, password: {MARK}-password }}")),
        hook("oauth", &format!("auth: {{ type: oauth2, token_url: 'http://{at}/token', client_id: a, client_secret: {MARK}/secret }}")),
        hook("oauth_body", &format!(
            "auth: {{ type: oauth2, token_url: 'http://{at}/', client_id: a, client_secret: '{MARK} secret', client_auth: body }}"
        )),
        hook("hmac", &format!("auth: {{ type: hmac, key: {MARK}-key }}")),
        hook("header", &format!("headers: {{ x-api-key: {MARK}-header, x-templated: '{MARK}-in-{{{{ n }}}}' }}")),
        hook("proxied", &format!("proxy: 'http://ali:{MARK}-proxy@{at}'")),
        format!(
            "  splunk: {{ type: splunk_hec, inputs: [web], endpoint: 'http://{at}', token: {MARK}-splunk, \
             retry: {{ initial: 50ms, max: 100ms }} }}\n"
        ),
        format!(
            "  search: {{ type: elasticsearch, inputs: [web], endpoints: ['http://{at}'], index: logs, \
             auth: {{ type: basic, user: ali, password: {MARK}-elastic }}, retry: {{ initial: 50ms, max: 100ms }} }}\n"
        ),
        format!(
            "  search_key: {{ type: elasticsearch, inputs: [web], endpoints: ['http://{at}'], index: logs, \
             auth: {{ type: api_key, key: {MARK}-api-key }}, retry: {{ initial: 50ms, max: 100ms }} }}\n"
        ),
        format!(
            "  table: {{ type: postgres, inputs: [web], url: 'postgres://ali:{MARK}-table@{at}/db', table: t, \
             retry: {{ initial: 50ms, max: 100ms }}, timeout: 1s }}\n"
        ),
        format!(
            "  topic: {{ type: kafka, inputs: [web], brokers: ['{at}'], topic: t, timeout: 1s, \
             sasl: {{ mechanism: plain, username: ali, password: {MARK}-kafka }}, retry: {{ initial: 50ms, max: 100ms }} }}\n"
        ),
    ]
    .concat()
}

#[test]
fn no_secret_is_in_anything_that_the_agent_says() {
    let (folder, ingest, parrot) = (Folder::new(), free_port(), parrot());
    let agent = Agent::start(&folder, &yaml(ingest, parrot.port));
    let basic = "Basic YWxpOk1BUktFRC1vZi1hbGk=";
    let answer = request(ingest, "POST", "/", &[("Authorization", basic)], b"{\"n\":1}\n{\"n\":2}").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let wrong =
        request(ingest, "POST", "/", &[("Authorization", &format!("Bearer {MARK}-wrong"))], b"{}").expect("an answer");
    assert_eq!(wrong.status, 401);
    let held =
        ["bearer", "basic", "oauth", "oauth_body", "hmac", "header", "proxied", "splunk", "search", "search_key"];
    for sink in held {
        eventually(&format!("`{sink}` is held"), || agent.health(sink).state == "held");
        assert!(agent.health(sink).last_error.contains("***") || ["hmac"].contains(&sink), "{:?}", agent.health(sink));
    }
    for sink in ["table", "topic"] {
        eventually(&format!("`{sink}` fails"), || !agent.health(sink).last_error.is_empty());
    }
    let bearer = format!("Bearer {}", agent.token());
    let ask =
        |path: &str| request(agent.api, "GET", path, &[("Authorization", &bearer)], b"").expect("an answer").text();
    let mut said: Vec<(String, String)> =
        ["/health", "/health?sinks", "/api/pipeline", "/metrics", "/api/dlq", "/version"]
            .into_iter()
            .map(|path| (path.to_owned(), ask(path)))
            .collect();
    said.push(("weir validate".into(), validate(&folder).1));
    let health = text(agent.weir(&["health"]));
    assert!(health.contains("\nsinks.bearer is held since ") && health.contains(": 401 Unauthorized: "), "{health}");
    said.push(("weir health".into(), health));
    said.push(("weir dlq list".into(), text(agent.weir(&["dlq", "list"]))));
    said.push((
        "weir schema".into(),
        text(Command::new(env!("CARGO_BIN_EXE_weir")).arg("schema").output().expect("it runs")),
    ));
    // The same configuration with a mistake in every line that holds a secret.
    let broken = yaml(ingest, parrot.port).replace("type: ", "tpye: ").replace("token: ", "tokne: ");
    folder.write("weir.yaml", &broken);
    let (works, complaint) = validate(&folder);
    assert!(!works && complaint.contains("error"), "{complaint}");
    said.push(("weir validate of a broken one".into(), complaint));
    agent.signal("-HUP");
    eventually("the reload is refused", || agent.log().contains("reload"));
    said.push(("the log".into(), agent.log()));
    for (what, text) in said {
        assert!(!text.is_empty() || what.contains("dlq"), "{what} says nothing");
        let lower = text.to_lowercase();
        for mark in [MARK.to_lowercase(), "ywxpok1bu".to_owned(), "ytpnqvjl".to_owned()] {
            let at =
                lower.find(&mark).map(|at| text.get(at.saturating_sub(200)..(at + 60).min(text.len())).unwrap_or(""));
            assert_eq!(at, None, "{what}");
        }
    }
}

fn text(out: std::process::Output) -> String {
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[test]
fn a_dead_letter_holds_what_the_server_said_and_none_of_our_secrets() {
    let (folder, ingest) = (Folder::new(), free_port());
    let server =
        Collector::start(|heard: &Heard| reply(400, format!("bad request by {}", heard.header("authorization"))));
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n\
             sinks:\n  hook: {{ type: http, inputs: [web], uri: 'http://127.0.0.1:{}/', batch: {{ age: 20ms }}, \
             auth: {{ type: bearer, token: {MARK}-token }} }}\n",
            server.port
        ),
    );
    post(ingest, "{\"n\":1}");
    eventually("it is put aside", || agent.metric("weir_events_dead_lettered_total", "hook") == 1);
    let shown = text(agent.weir(&["dlq", "show", &agent.letters()[0]]));
    assert!(shown.contains("400 Bad Request: bad request by Bearer ***") && !shown.contains(MARK), "{shown}");
}
