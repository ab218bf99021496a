//! No input stops a source: text that trips Weir itself is one dead letter, and everything around it flows.

use std::fs;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};

use crate::support::{Agent, Folder, eventually, free_port, lines_of, post, request};

/// Texts that once made the redaction of broken input panic, in the order they are sent.
const PILLS: &[&str] = &["beare", "no json BEARE", "authorization: Beare", "x=Bearer"];

fn agent(folder: &Folder, source: &str) -> Agent {
    let out = folder.path("out");
    let yaml = format!(
        "sources:\n  in: {source}\n\
         sinks:\n  file: {{ type: file, inputs: [in], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        out.display()
    );
    Agent::start(folder, &yaml)
}

/// Waits until every pill is a dead letter with a reason and the good lines have arrived.
fn assert_pills_cost_themselves(agent: &Agent, folder: &Folder, pills: u64, good: usize) {
    eventually("the good lines arrive", || lines_of(&folder.path("out"), "out.ndjson").len() >= good);
    eventually("the pills are dead letters", || agent.metric("weir_events_dead_lettered_total", "in") >= pills);
    assert_eq!(lines_of(&folder.path("out"), "out.ndjson").len(), good);
    assert_eq!(agent.metric("weir_events_dead_lettered_total", "in"), pills);
    let bearer = format!("Bearer {}", agent.token());
    let list = request(agent.api, "GET", "/api/dlq", &[("Authorization", &bearer)], b"").expect("an answer").json();
    assert_eq!(list["total"], pills, "{list}");
    for letter in list["dead_letters"].as_array().expect("a list") {
        assert!(letter["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{letter}");
    }
    agent.assert_books();
}

#[test]
fn a_line_of_a_file_that_breaks_redaction_is_one_dead_letter() {
    let folder = Folder::new();
    let log = folder.path("app.log");
    let mut text = "{\"n\":1}\n".to_owned();
    PILLS.iter().for_each(|pill| text.push_str(&format!("{pill}\n{{\"n\":2}}\n")));
    fs::write(&log, text).expect("a file");
    let source = format!("{{ type: file, include: ['{}'], read_from: beginning }}", log.display());
    let running = agent(&folder, &source);
    assert_pills_cost_themselves(&running, &folder, PILLS.len() as u64, PILLS.len() + 1);
    assert!(running.stop().success());
    let again = agent(&folder, &source);
    let mut file = fs::OpenOptions::new().append(true).open(&log).expect("the file");
    file.write_all(b"{\"n\":3}\n").expect("a line");
    eventually("a later line arrives", || {
        lines_of(&folder.path("out"), "out.ndjson").contains(&"{\"n\":3}".to_owned())
    });
    again.assert_books();
}

#[test]
fn datagrams_that_break_redaction_do_not_stop_the_socket() {
    let folder = Folder::new();
    let port = free_port();
    let agent = agent(&folder, &format!("{{ type: socket, mode: udp, address: '127.0.0.1:{port}' }}"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for n in 0..100 {
        let pill = PILLS[n % PILLS.len()];
        socket.send_to(pill.as_bytes(), ("127.0.0.1", port)).expect("sent");
        let seen = || agent.metric("weir_events_dead_lettered_total", "in");
        eventually("the pill is taken", || seen() > n as u64);
    }
    socket.send_to(b"{\"n\":1}", ("127.0.0.1", port)).expect("sent");
    assert_pills_cost_themselves(&agent, &folder, 100, 1);
}

#[test]
fn lines_over_tcp_that_break_redaction_do_not_stop_the_connection() {
    let folder = Folder::new();
    let port = free_port();
    let agent = agent(&folder, &format!("{{ type: socket, mode: tcp, address: '127.0.0.1:{port}' }}"));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    for _ in 0..25 {
        PILLS.iter().for_each(|pill| stream.write_all(format!("{pill}\n").as_bytes()).expect("written"));
    }
    stream.write_all(b"{\"n\":1}\n").expect("written");
    assert_pills_cost_themselves(&agent, &folder, 25 * PILLS.len() as u64, 1);
}

#[test]
fn requests_that_break_redaction_or_decoding_are_answered() {
    let folder = Folder::new();
    let port = free_port();
    let agent = agent(&folder, &format!("{{ type: http, address: '127.0.0.1:{port}', on_bad: dead_letter }}"));
    let mut pills = 0;
    for body in PILLS.iter().copied().chain(["[\"\\", "[{\"a\":\"\\", "[[\"\\\"\\"]) {
        let answer = request(port, "POST", "/", &[], body.as_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.json()["dead_lettered"].as_u64()), (200, Some(1)), "{body}");
        pills += 1;
    }
    assert_eq!(post(port, "{\"n\":1}\nbeare\n{\"n\":2}\n"), 2);
    assert_pills_cost_themselves(&agent, &folder, pills + 1, 2);
}
