//! Going over to another plan, by a reload and by a restart: nothing that was taken is lost, doubled or forgotten.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::support::{Agent, Answer, Folder, eventually, free_port, lines_of, post, request};
use serde_json::Value;

fn reload(agent: &Agent) -> Answer {
    let authorization = format!("Bearer {}", agent.token());
    request(agent.api, "POST", "/api/reload", &[("Authorization", &authorization)], b"").expect("an answer")
}

fn applied(agent: &Agent) {
    let answer = reload(agent);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["applied"], true, "{answer}");
    assert_eq!(answer["errors"], serde_json::json!([]), "{answer}");
}

fn web(port: u16) -> String {
    format!("sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n")
}

fn sink(folder: &Folder, name: &str, input: &str, more: &str) -> String {
    let out = folder.path("out");
    format!(
        "  {name}: {{ type: file, inputs: [{input}], path: '{}/{name}/o.ndjson', batch: {{ age: 20ms }}{more} }}\n",
        out.display()
    )
}

/// Puts a file where the folder of a sink should be, so that it cannot write.
fn block(folder: &Folder, sink: &str) {
    folder.write(&format!("out/{sink}"), "in the way");
}

fn unblock(folder: &Folder, sink: &str) {
    fs::remove_file(folder.path(&format!("out/{sink}"))).expect("it was blocked");
}

fn lines(folder: &Folder, sink: &str) -> Vec<String> {
    lines_of(&folder.path(&format!("out/{sink}")), "o.ndjson")
}

fn numbers(folder: &Folder, sink: &str) -> Vec<u64> {
    let number = |line: String| serde_json::from_str::<Value>(&line).expect("a whole line")["n"].as_u64();
    lines(folder, sink).into_iter().filter_map(number).collect()
}

fn body(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{{\"n\":{n},\"code\":\"password=hunter2hunter2\"}}\n")).collect()
}

fn health(agent: &Agent, query: &str) -> Answer {
    request(agent.api, "GET", &format!("/health{query}"), &[], b"").expect("an answer")
}

fn component(agent: &Agent, name: &str) -> Value {
    let health = health(agent, "").json();
    let all = health["components"].as_array().expect("a list").clone();
    all.into_iter().find(|component| component["name"] == name).unwrap_or(Value::Null)
}

const REDACT: &str = "transforms:\n  safe: { type: redact, inputs: [web] }\n";

/// A sink that is given other inputs while a thousand events wait, by a reload or a restart.
fn rewire(by_restart: bool, more: &str) -> (Folder, Agent, u16) {
    let folder = Folder::new();
    let port = free_port();
    block(&folder, "s");
    let before = format!("{}sinks:\n{}{}", web(port), sink(&folder, "s", "web", more), sink(&folder, "t", "web", ""));
    let mut agent = Agent::start(&folder, &before);
    post(port, &body(0..1000));
    eventually("they wait", || agent.metric("weir_events_waiting", "s") == 1000);
    let after =
        format!("{}{REDACT}sinks:\n{}{}", web(port), sink(&folder, "s", "safe", more), sink(&folder, "t", "web", ""));
    if by_restart {
        assert!(agent.stop().success());
        agent = Agent::start(&folder, &after);
    } else {
        agent.configure(&folder, &after);
        applied(&agent);
    }
    post(port, &body(1000..1010));
    (folder, agent, port)
}

#[test]
fn a_sink_with_other_inputs_first_delivers_what_the_old_ones_hold() {
    for by_restart in [false, true] {
        let (folder, agent, _) = rewire(by_restart, "");
        eventually("all wait", || agent.metric("weir_events_waiting", "s") == 1010);
        assert!(agent.log().contains("earlier inputs"), "{}", agent.log());
        unblock(&folder, "s");
        eventually("all arrive", || numbers(&folder, "s").len() >= 1010);
        assert_eq!(numbers(&folder, "s"), (0..1010).collect::<Vec<_>>(), "each once, in order");
        let lines = lines(&folder, "s");
        assert!(lines[..1000].iter().all(|line| line.contains("hunter2")), "as they were acknowledged");
        assert!(lines[1000..].iter().all(|line| !line.contains("hunter2")), "redacted from then on");
        eventually("the other has all", || numbers(&folder, "t").len() >= 1010);
        assert_eq!(numbers(&folder, "t"), (0..1010).collect::<Vec<_>>());
        let samples = agent.assert_books();
        let is_loss = |name: &str| name.contains("dropped") && name.contains("\"s\"");
        assert!(samples.iter().all(|(name, value)| !is_loss(name) || *value == 0.0), "{samples:?}");
        assert!(agent.stop().success());
    }
}

#[test]
fn a_sink_with_other_inputs_and_on_remove_drop_counts_what_it_lets_go() {
    for by_restart in [false, true] {
        let (folder, agent, _) = rewire(by_restart, ", on_remove: drop");
        unblock(&folder, "s");
        eventually("the new ones arrive", || numbers(&folder, "s").len() >= 10);
        assert_eq!(numbers(&folder, "s"), (1000..1010).collect::<Vec<_>>());
        eventually("the old ones are dropped", || agent.metric("weir_events_dropped_total", "s") == 1000);
        assert!(agent.log().contains("1000"), "{}", agent.log());
        agent.assert_books();
        assert!(agent.stop().success());
    }
}

#[test]
fn inputs_that_go_back_and_forth_and_are_renamed_lose_and_double_nothing() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = |transform: &str, input: &str| {
        format!(
            "{}transforms:\n  {transform}: {{ type: enrich, inputs: [web], set: {{ by: {transform} }} }}\nsinks:\n{}{}",
            web(port),
            sink(&folder, "s", input, ""),
            sink(&folder, "t", "web", "")
        )
    };
    block(&folder, "s");
    let agent = Agent::start(&folder, &yaml("one", "web"));
    let mut n = 0;
    for (transform, input) in [("one", "one"), ("one", "web"), ("two", "two"), ("two", "web"), ("one", "one")] {
        post(port, &body(n..n + 10));
        n += 10;
        agent.configure(&folder, &yaml(transform, input));
        applied(&agent);
        post(port, &body(n..n + 10));
        n += 10;
    }
    unblock(&folder, "s");
    eventually("all arrive", || numbers(&folder, "s").len() as u64 >= n);
    assert_eq!(numbers(&folder, "s"), (0..n).collect::<Vec<_>>());
    eventually("all arrive", || numbers(&folder, "t").len() as u64 >= n);
    assert_eq!(numbers(&folder, "t"), (0..n).collect::<Vec<_>>());
    agent.assert_books();
    assert!(agent.stop().success());
}

#[test]
fn a_sink_that_is_gone_at_a_restart_is_forgotten_once_it_owes_nothing() {
    let folder = Folder::new();
    let port = free_port();
    let rest = sink(&folder, "t", "web", "");
    let agent = Agent::start(&folder, &format!("{}sinks:\n{rest}{}", web(port), sink(&folder, "s", "web", "")));
    post(port, &body(0..5));
    eventually("they arrive", || numbers(&folder, "s").len() == 5);
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &format!("{}sinks:\n{rest}", web(port)));
    assert_eq!(component(&agent, "s"), Value::Null);
    assert!(agent.log().contains("the cursor of a removed sink was deleted"), "{}", agent.log());
    let data = agent.data_dir.display().to_string();
    assert!(agent.stop().success());
    let out = Command::new(env!("CARGO_BIN_EXE_weir")).args(["journal", "cursors", "--data-dir", &data]).output();
    let cursors = String::from_utf8(out.expect("weir runs").stdout).expect("text");
    assert!(cursors.contains('t') && !cursors.lines().any(|line| line.starts_with("s ")), "{cursors}");
}

#[test]
fn a_sink_that_is_gone_at_a_restart_and_owes_events_is_shown_until_somebody_decides() {
    let folder = Folder::new();
    let port = free_port();
    let rest = sink(&folder, "t", "web", "");
    block(&folder, "s");
    let with = format!("{}sinks:\n{rest}{}", web(port), sink(&folder, "s", "web", ""));
    let agent = Agent::start(&folder, &with);
    post(port, &body(0..5));
    eventually("they wait", || agent.metric("weir_events_waiting", "s") == 5);
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &format!("{}sinks:\n{rest}", web(port)));
    post(port, &body(5..8));
    assert_eq!(component(&agent, "s")["state"], "held");
    assert_eq!(health(&agent, "?sinks").status, 503);
    assert_eq!(agent.metric("weir_events_waiting", "s"), 5, "nothing new is kept for it");
    assert!(agent.log().contains("5 events wait"), "{}", agent.log());
    agent.configure(&folder, &with);
    applied(&agent);
    unblock(&folder, "s");
    post(port, &body(8..10));
    eventually("it goes on", || numbers(&folder, "s").len() >= 7);
    assert_eq!(numbers(&folder, "s"), [0, 1, 2, 3, 4, 8, 9]);
    agent.assert_books();
    assert!(agent.stop().success());
}

#[test]
fn a_drain_goes_on_after_a_restart_without_the_sink_in_the_configuration() {
    let folder = Folder::new();
    let port = free_port();
    let rest = sink(&folder, "t", "web", "");
    block(&folder, "s");
    let agent = Agent::start(
        &folder,
        &format!("{}sinks:\n{rest}{}", web(port), sink(&folder, "s", "web", ", on_remove: drain, retry: { max: 1s }")),
    );
    post(port, &body(0..5));
    eventually("they wait", || agent.metric("weir_events_waiting", "s") == 5);
    let without = format!("{}sinks:\n{rest}", web(port));
    agent.configure(&folder, &without);
    applied(&agent);
    post(port, &body(5..8));
    assert_eq!(agent.metric("weir_events_waiting", "s"), 5, "it drains what it owed");
    agent.kill();
    let agent = Agent::start(&folder, &without);
    assert!(agent.log().contains("on_remove: drain"), "{}", agent.log());
    assert_eq!(agent.metric("weir_events_waiting", "s"), 5);
    unblock(&folder, "s");
    eventually("it is drained", || numbers(&folder, "s").len() >= 5);
    eventually("and gone", || component(&agent, "s") == Value::Null);
    assert_eq!(numbers(&folder, "s"), [0, 1, 2, 3, 4]);
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &without);
    assert_eq!(component(&agent, "s"), Value::Null);
    assert!(agent.stop().success());
}

#[test]
fn a_sink_that_is_removed_and_added_again_has_one_owner() {
    let folder = Folder::new();
    let port = free_port();
    let rest = sink(&folder, "t", "web", "");
    let with = format!("{}sinks:\n{rest}{}", web(port), sink(&folder, "s", "web", ", on_remove: drain"));
    let without = format!("{}sinks:\n{rest}", web(port));
    block(&folder, "s");
    let agent = Agent::start(&folder, &with);
    let mut n = 0;
    let mut expected = Vec::new();
    for _ in 0..5 {
        post(port, &body(n..n + 20));
        expected.extend(n..n + 20);
        agent.configure(&folder, &without);
        applied(&agent);
        // What comes while it is removed is not for it.
        post(port, &body(n + 20..n + 25));
        agent.configure(&folder, &with);
        applied(&agent);
        n += 25;
    }
    unblock(&folder, "s");
    post(port, &body(n..n + 5));
    expected.extend(n..n + 5);
    eventually("all arrive", || numbers(&folder, "s").len() >= expected.len());
    assert_eq!(numbers(&folder, "s"), expected, "each once, in order");
    eventually("the other has all", || numbers(&folder, "t").len() as u64 == n + 5);
    agent.assert_books();
    assert!(!agent.log().contains("panic"), "{}", agent.log());
    assert!(agent.stop().success());
}

#[test]
fn a_reload_that_cannot_bind_or_load_leaves_everything_as_it_was() {
    let folder = Folder::new();
    let port = free_port();
    let sinks = format!("sinks:\n{}", sink(&folder, "s", "web", ""));
    let agent = Agent::start(&folder, &format!("{}{sinks}", web(port)));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = taken.local_addr().expect("bound").port();
    let other = free_port();
    let bad = [
        (format!("{}{sinks}", web(busy)), "address already in use"),
        (
            format!(
                "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}', tls: {{ cert: /nowhere/c.pem, key: /nowhere/k.pem }} }}\n{sinks}"
            ),
            "/nowhere/",
        ),
        (
            // Of several sources one cannot begin: none is changed.
            format!(
                "sources:\n  web: {{ type: http, address: '127.0.0.1:{other}' }}\n  more: {{ type: http, address: '127.0.0.1:{busy}' }}\n{sinks}"
            ),
            "sources.more",
        ),
        (
            format!("{}sinks:\n{}", web(port), sink(&folder, "s", "web", ", tls: { ca: /nowhere/ca.pem }")),
            "/nowhere/ca.pem",
        ),
    ];
    for (n, (yaml, why)) in bad.iter().enumerate() {
        agent.configure(&folder, yaml);
        let answer = reload(&agent);
        assert_eq!(answer.status, 422, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["applied"], false);
        assert!(answer["errors"].to_string().contains(why), "{answer}");
        post(port, &body(n as u64..n as u64 + 1));
        assert!(TcpStream::connect(("127.0.0.1", other)).is_err(), "nothing of the new plan is left");
        assert_eq!(component(&agent, "web")["state"], "running");
        assert_eq!(component(&agent, "more"), Value::Null);
    }
    eventually("all are delivered", || numbers(&folder, "s").len() == bad.len());
    agent.configure(&folder, &format!("{}{sinks}", web(other)));
    applied(&agent);
    post(other, &body(4..5));
    eventually("the old port is closed", || TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(agent.stop().success());
}

#[test]
fn a_port_is_never_closed_while_its_source_is_changed() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = |path: &str| {
        format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}', max_body: {path} }}\nsinks:\n{}",
            sink(&folder, "s", "web", "")
        )
    };
    let agent = Agent::start(&folder, &yaml("1MiB"));
    std::thread::scope(|scope| {
        let poster = scope.spawn(|| {
            for n in 0..300_u64 {
                post(port, &body(n..n + 1));
            }
        });
        for n in 2..8 {
            agent.configure(&folder, &yaml(&format!("{n}MiB")));
            applied(&agent);
        }
        poster.join().expect("every post is taken");
    });
    eventually("all arrive", || numbers(&folder, "s").len() >= 300);
    assert_eq!(numbers(&folder, "s"), (0..300).collect::<Vec<_>>());
    agent.assert_books();
    assert!(agent.stop().success());
}

#[test]
fn a_source_moves_to_all_interfaces_and_back_on_its_port() {
    let folder = Folder::new();
    let (web, lines) = (free_port(), free_port());
    let yaml = |host: &str| {
        format!(
            "sources:\n  web: {{ type: http, address: '{host}:{web}', auth: {{ type: none }} }}\n  lines: {{ type: socket, \
             mode: udp, address: '{host}:{lines}' }}\nsinks:\n{}",
            sink(&folder, "s", "web, lines", "")
        )
    };
    let agent = Agent::start(&folder, &yaml("127.0.0.1"));
    for (n, host) in ["127.0.0.1", "0.0.0.0", "127.0.0.1", "0.0.0.0"].into_iter().enumerate() {
        agent.configure(&folder, &yaml(host));
        applied(&agent);
        post(web, &body(2 * n as u64..2 * n as u64 + 1));
        let datagram = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let line = format!("{{\"n\":{}}}", 2 * n + 1);
        datagram.send_to(line.as_bytes(), ("127.0.0.1", lines)).expect("somebody receives");
        eventually("both arrive", || numbers(&folder, "s").len() == 2 * n + 2);
    }
    agent.assert_books();
    assert!(agent.stop().success());
}

#[test]
fn a_file_source_that_is_changed_while_it_reads_doubles_nothing() {
    let folder = Folder::new();
    let log = folder.path("app.log");
    let text: String = (0..60_000).map(|n| format!("{{\"n\":{n},\"x\":\"{}\"}}\n", "y".repeat(200))).collect();
    fs::write(&log, text).expect("a file");
    let yaml = |poll: u64| {
        format!(
            "sources:\n  app: {{ type: file, include: ['{}'], read_from: beginning, poll: {poll}ms }}\nsinks:\n{}",
            log.display(),
            sink(&folder, "s", "app", "")
        )
    };
    let agent = Agent::start(&folder, &yaml(100));
    for n in 1..7 {
        agent.configure(&folder, &yaml(100 + n));
        applied(&agent);
    }
    eventually("all arrive", || numbers(&folder, "s").len() >= 60_000);
    let mut file = fs::OpenOptions::new().append(true).open(&log).expect("the file");
    file.write_all(b"{\"n\":60000}\n").expect("a line");
    eventually("the last arrives", || numbers(&folder, "s").contains(&60_000));
    let mut seen = numbers(&folder, "s");
    seen.sort_unstable();
    assert_eq!(seen.len(), 60_001, "each line once");
    assert_eq!(seen, (0..=60_000).collect::<Vec<_>>());
    agent.assert_books();
    assert!(agent.stop().success());
}

/// A target that takes connections and never answers.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// An agent with sinks that hang in a write, after a reload that changes them all and the healthy one beside them.
fn with_hung_sinks(folder: &Folder, targets: &[u16], shutdown_timeout: &str) -> Agent {
    let port = free_port();
    let yaml = |age: &str, also: &str| {
        let hung: String = (0..)
            .zip(targets)
            .map(|(n, target)| {
                format!("  hung{n}: {{ type: http, inputs: [web], uri: 'http://127.0.0.1:{target}/', batch: {{ age: {age} }} }}\n")
            })
            .collect();
        format!("limits: {{ shutdown_timeout: {shutdown_timeout} }}\n{}sinks:\n{hung}{also}", web(port))
    };
    let agent = Agent::start(folder, &yaml("20ms", &sink(folder, "s", "web", "")));
    post(port, &body(0..5));
    eventually("all are written to", || {
        (0..targets.len()).all(|n| agent.metric("weir_events_waiting", &format!("hung{n}")) == 5)
            && numbers(folder, "s").len() == 5
    });
    agent.configure(folder, &yaml("30ms", &sink(folder, "s", "web", ", timeout: 50s")));
    applied(&agent);
    post(port, &body(5..10));
    eventually("the healthy one goes on", || numbers(folder, "s").len() == 10);
    agent
}

#[test]
fn sinks_that_hang_hold_up_neither_the_others_nor_a_stop() {
    // So many that one shutdown_timeout for each were more than the patience of a test.
    let (_targets, ports): (Vec<_>, Vec<_>) = (0..40).map(|_| silent()).unzip();
    // Nobody waits until it ends for the healthy one to go on.
    drop(with_hung_sinks(&Folder::new(), &ports[..5], "10m"));
    // One for what is left of the old ones, one for the new ones.
    assert!(with_hung_sinks(&Folder::new(), &ports, "4s").stop().success());
}

#[test]
fn a_source_that_fails_after_it_has_started_is_held_and_does_not_end_the_agent() {
    let folder = Folder::new();
    let api = free_port();
    let yaml = format!(
        "data_dir: {}\napi:\n  address: 127.0.0.1:{api}\nsources:\n  in: {{ type: stdin, framing: octet }}\nsinks:\n{}",
        folder.path("data").display(),
        sink(&folder, "s", "in", "")
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "-c"])
        .arg(folder.write("weir.yaml", &yaml))
        .stdin(std::process::Stdio::piped())
        .stderr(fs::File::create(folder.path("log")).expect("a log"))
        .spawn()
        .expect("weir runs");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"9 {\"n\":123}this is no octet count\n").expect("written");
    drop(input);
    let state = || {
        let health = request(api, "GET", "/health?sinks", &[], b"").ok()?;
        let all = health.json()["components"].as_array()?.clone();
        let source = all.into_iter().find(|component| component["name"] == "in")?;
        Some((health.status, source["state"].as_str()?.to_owned()))
    };
    eventually("it is held", || state() == Some((503, "held".to_owned())));
    eventually("what came before has arrived", || numbers(&folder, "s") == [123]);
    let log = fs::read_to_string(folder.path("log")).expect("a log");
    assert!(log.contains("cannot read standard input any further"), "{log}");
    eventually("it is tried again", || {
        fs::read_to_string(folder.path("log")).expect("a log").matches("the source failed and is restarted").count() > 1
    });
    assert!(child.try_wait().expect("it can be waited for").is_none());
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    child.wait().expect("it ends");
}

#[test]
fn names_of_streams_are_free_again_once_nobody_waits_for_them() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = |n: usize| {
        format!(
            "{}transforms:\n  t{n}: {{ type: enrich, inputs: [web], set: {{ by: t{n} }} }}\nsinks:\n{}",
            web(port),
            sink(&folder, "s", &format!("t{n}"), "")
        )
    };
    let agent = Agent::start(&folder, &yaml(0));
    for n in 1..300 {
        post(port, &body(n..n + 1));
        agent.configure(&folder, &yaml(n as usize));
        applied(&agent);
    }
    eventually("all arrive", || numbers(&folder, "s").len() >= 299);
    assert_eq!(numbers(&folder, "s"), (1..300).collect::<Vec<_>>());
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &yaml(1000));
    post(port, &body(300..301));
    eventually("the last arrives", || numbers(&folder, "s").contains(&300));
    agent.assert_books();
    assert!(agent.stop().success());
}

/// A certificate of its own authority for this machine, written as two files.
fn certificate(folder: &Folder, name: &str) -> Vec<u8> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    folder.write(&format!("{name}.crt"), &pair.cert.pem());
    folder.write(&format!("{name}.key"), &pair.signing_key.serialize_pem());
    pair.cert.der().to_vec()
}

/// The certificate that a port shows.
fn shown(folder: &Folder, port: u16) -> Vec<u8> {
    let out = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost", "-showcerts"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("no certificate: {text}"));
    let end = text.find("-----END CERTIFICATE-----").expect("it ends") + "-----END CERTIFICATE-----".len();
    let pem = folder.write("shown.pem", &text[begin..end]);
    let der = Command::new("openssl").args(["x509", "-outform", "der", "-in"]).arg(pem).output().expect("openssl runs");
    der.stdout
}

#[test]
fn files_that_are_named_by_path_are_read_again_at_each_reload() {
    let folder = Folder::new();
    let (port, plain) = (free_port(), free_port());
    let first = certificate(&folder, "web");
    folder.write("users.csv", "user,team\nali,red\n");
    let yaml = format!(
        "sources:\n  tls: {{ type: http, address: '127.0.0.1:{port}', tls: {{ cert: '{0}/web.crt', key: '{0}/web.key' }} }}\n\
         \x20 web: {{ type: http, address: '127.0.0.1:{plain}' }}\n\
         transforms:\n  team: {{ type: enrich, inputs: [web], lookup: {{ csv: '{0}/users.csv', key: user, columns: {{ team: team }} }} }}\n\
         sinks:\n{1}",
        folder.0.display(),
        sink(&folder, "s", "team, tls", "")
    );
    let agent = Agent::start(&folder, &yaml);
    assert_eq!(shown(&folder, port), first);
    // The authority that made it gives until the year 4096.
    assert!(agent.metric("weir_certificate_expiry_timestamp_seconds", "tls") > 4_000_000_000);
    post(plain, "{\"n\":1,\"user\":\"ali\"}");
    let second = certificate(&folder, "web");
    folder.write("users.csv", "user,team\nali,blue\n");
    let answer = reload(&agent).json();
    assert_eq!(answer["applied"], true, "{answer}");
    let changed = answer["changed"]["changed"].to_string();
    assert!(changed.contains("tls") && changed.contains("team") && !changed.contains("web"), "{changed}");
    eventually("the new certificate is shown", || shown(&folder, port) == second);
    post(plain, "{\"n\":2,\"user\":\"ali\"}");
    eventually("both arrive", || lines(&folder, "s").len() == 2);
    let lines = lines(&folder, "s");
    assert!(lines[0].contains("red") && lines[1].contains("blue"), "{lines:?}");
    fs::remove_file(folder.path("web.key")).expect("the key");
    let answer = reload(&agent);
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(shown(&folder, port), second, "the running one has its key in memory");
    assert!(agent.stop().success());
}

#[test]
fn the_certificate_of_the_api_is_read_again_at_each_reload() {
    let folder = Folder::new();
    let first = certificate(&folder, "api");
    let yaml = format!(
        "  tls: {{ cert: '{0}/api.crt', key: '{0}/api.key' }}\n{1}sinks:\n{2}",
        folder.0.display(),
        web(free_port()),
        sink(&folder, "s", "web", "")
    );
    let agent = Agent::spawn(&folder, &yaml, &[]);
    eventually("it listens", || TcpStream::connect(("127.0.0.1", agent.api)).is_ok());
    eventually("it is ready", || agent.log().contains("the agent is ready"));
    assert_eq!(shown(&folder, agent.api), first);
    let second = certificate(&folder, "api");
    agent.signal("-HUP");
    eventually("the new certificate is shown", || shown(&folder, agent.api) == second);
    let health = Command::new(env!("CARGO_BIN_EXE_weir")).args(["health", "--data-dir"]).arg(&agent.data_dir).output();
    let health = health.expect("weir runs");
    assert!(health.status.success(), "{}", String::from_utf8_lossy(&health.stderr));
    assert!(agent.stop().success());
}

#[test]
fn validate_finds_what_run_would_refuse() {
    let folder = Folder::new();
    let (port, other) = (free_port(), free_port());
    certificate(&folder, "a");
    certificate(&folder, "b");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFLTBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQI\n-----END ENCRYPTED PRIVATE KEY-----\n";
    folder.write("encrypted.key", encrypted);
    let source = |tls: &str| {
        format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}'{tls} }}\nsinks:\n  out: {{ type: blackhole, inputs: [web] }}\n"
        )
    };
    let with = |cert: &str, key: &str| {
        source(&format!(", tls: {{ cert: '{0}/{cert}', key: '{0}/{key}' }}", folder.0.display()))
    };
    let twice = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n  more: {{ type: socket, mode: tcp, address: '0.0.0.0:{port}' }}\n\
         sinks:\n  out: {{ type: blackhole, inputs: [web, more] }}\n"
    );
    let api = format!("api: {{ address: '127.0.0.1:{port}' }}\n{}", source(""));
    for (yaml, code, said) in [
        (source(""), 0, "configuration OK"),
        (twice, 78, "is already used by the source `web`"),
        (api, 78, "is already used by the API"),
        (with("a.crt", "missing.key"), 1, "missing.key"),
        (with("a.crt", "b.key"), 1, "do not match"),
        (with("a.crt", "encrypted.key"), 1, "is encrypted"),
        (with("a.crt", "a.key"), 0, "configuration OK"),
    ] {
        let yaml =
            if yaml.starts_with("api") { yaml } else { format!("api: {{ address: '127.0.0.1:{other}' }}\n{yaml}") };
        let config = folder.write("check.yaml", &yaml);
        let out = Command::new(env!("CARGO_BIN_EXE_weir")).args(["validate", "-c"]).arg(config).output().expect("weir");
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.code(), Some(code), "{yaml}\n{text}");
        assert!(text.contains(said), "{yaml}\n{text}");
        assert_eq!(text.contains("configuration OK"), code == 0, "{yaml}\n{text}");
    }
}

#[test]
fn an_agent_whose_certificates_are_missing_or_do_not_fit_touches_nothing() {
    let folder = Folder::new();
    let (port, other) = (free_port(), free_port());
    certificate(&folder, "a");
    certificate(&folder, "b");
    let tls = |cert: &str, key: &str| format!("tls: {{ cert: '{0}/{cert}', key: '{0}/{key}' }}", folder.0.display());
    let yaml = |api: &str, web: &str| {
        format!(
            "data_dir: '{0}/data'\napi: {{ address: '127.0.0.1:{other}'{api} }}\n\
             sources:\n  web:\n    type: http\n    address: '127.0.0.1:{port}'\n{web}\
             sinks:\n  out: {{ type: file, inputs: [web], path: '{0}/out.ndjson' }}\n",
            folder.0.display()
        )
    };
    let of_web = |cert: &str, key: &str| yaml("", &format!("    {}\n", tls(cert, key)));
    let of_api = |cert: &str, key: &str| yaml(&format!(", {}", tls(cert, key)), "");
    for (yaml, said, place) in [
        (of_web("no.crt", "no.key"), ["no.crt", "no.key"], "check.yaml:7:5"),
        (of_web("a.crt", "b.key"), ["a.crt", "do not match"], "check.yaml:7:5"),
        (of_api("no.crt", "no.key"), ["no.crt", "no.key"], "check.yaml:2:"),
        (of_api("a.crt", "b.key"), ["a.crt", "do not match"], "check.yaml:2:"),
    ] {
        let config = folder.write("check.yaml", &yaml);
        let out = Command::new(env!("CARGO_BIN_EXE_weir")).args(["run", "-c"]).arg(config).output().expect("weir");
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.code(), Some(78), "{yaml}\n{text}");
        assert!(said.iter().all(|said| text.contains(said)) && text.contains(place), "{yaml}\n{text}");
        assert!(!text.contains("listening") && !folder.path("data").exists(), "{yaml}\n{text}");
    }
}

#[test]
fn the_commands_believe_the_authority_they_are_told_of_for_the_hosts_name_only() {
    let folder = Folder::new();
    let authority = {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        folder.write("ca.pem", &params.self_signed(&key).expect("a certificate").pem());
        rcgen::Issuer::new(params, key)
    };
    let leaf = |name: &str, host: &str| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![host.to_owned()]).expect("a name");
        folder.write(&format!("{name}.crt"), &params.signed_by(&key, &authority).expect("a certificate").pem());
        folder.write(&format!("{name}.key"), &key.serialize_pem());
    };
    leaf("right", "127.0.0.1");
    leaf("other", "other.example");
    certificate(&folder, "stranger");
    for (name, ca, is_believed) in [
        ("right", "ca.pem", true),
        ("right", "right.crt", true),
        ("right", "stranger.crt", false),
        ("other", "ca.pem", false),
    ] {
        let data = Folder::new();
        let api = format!("  tls: {{ cert: '{0}/{name}.crt', key: '{0}/{name}.key' }}\n", folder.0.display());
        let yaml = format!(
            "{api}sources: {{ web: {{ type: http, address: '127.0.0.1:{}' }} }}\nsinks: {{ out: {{ type: blackhole, inputs: [web] }} }}\n",
            free_port()
        );
        let agent = Agent::spawn(&data, &yaml, &[]);
        eventually("it is ready", || agent.log().contains("the agent is ready"));
        let url = format!("https://127.0.0.1:{}", agent.api);
        let token = agent.token();
        for command in [&["health"][..], &["top", "--once"], &["dlq", "list"]] {
            let mut asked = Command::new(env!("CARGO_BIN_EXE_weir"));
            let asked = asked.args(command).args(["--url", &url, "--token", &token, "--ca"]).arg(folder.path(ca));
            let out = asked.output().expect("weir");
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            assert_eq!(out.status.success(), is_believed, "{command:?} {name} {ca}: {text}");
        }
    }
}
