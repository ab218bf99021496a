//! Rough senders: files that come, go and change names all the time, and sockets that cut off, lie and overdo it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::{Agent, Folder, PATIENCE, eventually, free_port, lines_of, request};

/// Everything that arrived, sorted.
fn arrived(folder: &Folder) -> Vec<String> {
    let mut lines = lines_of(&folder.path("out"), "out.ndjson");
    lines.sort();
    lines
}

fn numbered(count: usize) -> Vec<String> {
    let mut lines: Vec<String> = (0..count).map(|n| format!("{{\"n\":{n}}}")).collect();
    lines.sort();
    lines
}

/// A file source `in` before a file sink, with more keys of the source.
fn tailing(folder: &Folder, include: &str, more: &str) -> String {
    fs::create_dir_all(folder.path("logs")).expect("a folder");
    format!(
        "sources:\n  in: {{ type: file, include: ['{}/{include}']{more} }}\n\
         sinks:\n  out: {{ type: file, inputs: [in], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("logs").display(),
        folder.path("out").display()
    )
}

#[test]
fn a_thousand_rotations_a_minute_lose_nothing_that_is_still_there() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &tailing(&folder, "app.log", ", poll: 100ms"));
    for n in 0..60 {
        folder.write("logs/app.log", &format!("{{\"n\":{n}}}\n"));
        fs::rename(folder.path("logs/app.log"), folder.path(&format!("logs/app.log.{n}"))).expect("a rename");
        std::thread::sleep(Duration::from_millis(10));
    }
    eventually("all lines arrive", || arrived(&folder).len() >= 60);
    assert_eq!(arrived(&folder), numbered(60));
    let samples = agent.assert_books();
    let lost = samples.keys().find(|key| key.starts_with("weir_bytes_lost_total{component=\"in\""));
    assert_eq!(lost.map(|key| samples[key]), Some(0.0));
}

#[test]
fn thousands_of_files_are_read_with_few_descriptors() {
    let folder = Folder::new();
    let yaml = tailing(&folder, "*.log", ", max_open_files: 20");
    for n in 0..3000 {
        folder.write(&format!("logs/{n}.log"), &format!("{{\"n\":{n}}}\n"));
    }
    let agent = Agent::start(&folder, &yaml);
    eventually("all lines arrive", || arrived(&folder).len() >= 3000);
    let open = fs::read_dir(format!("/proc/{}/fd", agent.child.id())).expect("a running process").count();
    assert!(open < 100, "{open} descriptors are open");
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.child.id())).expect("a running process");
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let limit: Vec<&str> = limit.split_whitespace().skip(3).take(2).collect();
    assert!(limit[0] == limit[1] || limit[0] == "1048576", "the agent may open what it is allowed to: {limit:?}");
    agent.kill();
    let agent = Agent::start(&folder, &yaml);
    folder.write("logs/last.log", "{\"n\":3000}\n");
    eventually("the last line arrives", || arrived(&folder).len() >= 3001);
    assert_eq!(arrived(&folder), numbered(3001), "each line once");
    agent.assert_books();
}

#[test]
fn a_link_that_is_switched_brings_the_new_file_and_not_the_old_one_again() {
    let folder = Folder::new();
    let yaml = tailing(&folder, "*.log", ", follow_symlinks: true, poll: 50ms");
    folder.write("logs/first.txt", "{\"n\":0}\n");
    folder.write("logs/second.txt", "{\"n\":1}\n");
    symlink(folder.path("logs/first.txt"), folder.path("logs/now.log")).expect("a link");
    symlink("/etc/passwd", folder.path("logs/outside.log")).expect("a link");
    let agent = Agent::start(&folder, &yaml);
    eventually("the first arrives", || arrived(&folder).len() == 1);
    fs::remove_file(folder.path("logs/now.log")).expect("the link goes");
    symlink(folder.path("logs/second.txt"), folder.path("logs/now.log")).expect("a link");
    eventually("the second arrives", || arrived(&folder).len() >= 2);
    assert_eq!(arrived(&folder), numbered(2));
    assert!(agent.log().contains("a symbolic link out of the included folders"), "{}", agent.log());
}

/// Writes, and waits for the other side to close; false if it stays open.
fn is_closed_after(port: u16, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.write_all(bytes).expect("it takes them");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // A connection that is reset was closed too.
    !matches!(stream.read(&mut [0; 16]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn send(port: u16, parts: &[&[u8]]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    parts.iter().for_each(|part| stream.write_all(part).expect("it takes them"));
}

#[test]
fn frames_that_are_cut_off_too_long_or_lying_cost_themselves_alone() {
    let folder = Folder::new();
    let [lines, length, octet, udp] = std::array::from_fn(|_| free_port());
    let datagrams = folder.path("d.sock");
    let yaml = format!(
        "sources:\n  lines: {{ type: socket, mode: tcp, address: '127.0.0.1:{lines}' }}\n\
         \x20 length: {{ type: socket, mode: tcp, address: '127.0.0.1:{length}', framing: length }}\n\
         \x20 octet: {{ type: socket, mode: tcp, address: '127.0.0.1:{octet}', framing: octet }}\n\
         \x20 udp: {{ type: socket, mode: udp, address: '127.0.0.1:{udp}' }}\n\
         \x20 unix: {{ type: socket, mode: unix_datagram, path: '{}' }}\n\
         sinks:\n  out: {{ type: file, inputs: ['*'], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        datagrams.display(),
        folder.path("out").display()
    );
    let agent = Agent::start(&folder, &yaml);
    let framed = |text: &[u8]| [&(text.len() as u32).to_be_bytes()[..], text].concat();
    send(lines, &[b"{\"n\":0}\n{\"n\":", b"1}\r\n\n", &vec![b'x'; 3 << 20], b"\n{\"n\":2}\n{\"cut\":"]);
    send(lines, &[b"{\"n\":3}"]);
    let too_long = framed(format!("{{\"pad\":\"{}\"}}", "x".repeat(1 << 20)).as_bytes());
    send(length, &[&framed(b"{\"n\":4}"), &framed(b"nonsense"), &too_long, &framed(b"{\"n\":5}"), &[0, 0, 1, 0, b'{']]);
    send(octet, &[b"7 {\"n\":6}8 {\"n\"", b":7} "]);
    for lie in [&b"99999999999999999999 x"[..], b"-5 hello", b"hello world\n", b" 5 hello"] {
        assert!(is_closed_after(octet, lie), "{}", String::from_utf8_lossy(lie));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for datagram in [&b"{\"n\":8}"[..], b"", b"\xff\x00", &[b'x'; 65_000], b"{\"n\":9}"] {
        socket.send_to(datagram, ("127.0.0.1", udp)).expect("it is sent");
    }
    let unix = UnixDatagram::unbound().expect("a socket");
    unix.send_to(b"{\"n\":10}", &datagrams).expect("it is sent");
    unix.send_to(b"[1]", &datagrams).expect("it is sent");
    eventually("all that is whole arrives", || arrived(&folder).len() >= 11);
    assert_eq!(arrived(&folder), numbered(11));
    eventually("the rest is accounted for", || {
        let bad = |source| {
            agent.metric("weir_events_dead_lettered_total", source) + agent.metric("weir_events_refused_total", source)
        };
        [bad("lines"), bad("length"), bad("octet"), bad("udp"), bad("unix")] == [2, 3, 4, 3, 1]
    });
    agent.assert_books();
}

#[test]
fn more_connections_than_allowed_are_closed_and_the_others_served() {
    let folder = Folder::new();
    let port = free_port();
    let yaml = format!(
        "sources:\n  in: {{ type: socket, mode: tcp, address: '127.0.0.1:{port}', max_connections: 5 }}\n\
         sinks:\n  out: {{ type: file, inputs: [in], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("out").display()
    );
    let agent = Agent::start(&folder, &yaml);
    let mut served: Vec<TcpStream> =
        (0..5).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("a connection")).collect();
    served[4].write_all(b"{\"n\":0}\n").expect("it takes them");
    eventually("the fifth is served", || arrived(&folder).len() == 1);
    assert!(is_closed_after(port, b"{\"n\":99}\n"), "the sixth is closed");
    drop(served.pop());
    eventually("there is a place again", || {
        send(port, &[b"{\"n\":1}\n"]);
        arrived(&folder).contains(&"{\"n\":1}".to_owned())
    });
    assert!(agent.log().contains("too many connections"), "{}", agent.log());
    agent.assert_books();
}

/// Sends bytes on a connection of their own and returns what comes back until its end.
fn exchange(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    // Who is refused may be cut off before everything is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn who_sends_is_what_a_trusted_proxy_says_and_nobody_else_is_believed() {
    let folder = Folder::new();
    let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
    let yaml = format!(
        "sources:\n  \
         web: {{ type: http, address: '127.0.0.1:{}', trusted_proxies: [127.0.0.1] }}\n  \
         open: {{ type: http, address: '127.0.0.1:{}' }}\n  \
         proxied: {{ type: http, address: '127.0.0.1:{}', trusted_proxies: [127.0.0.0/8], proxy_protocol: true }}\n  \
         lines: {{ type: socket, address: '127.0.0.1:{}', trusted_proxies: [127.0.0.1], proxy_protocol: true }}\n  \
         strict: {{ type: socket, address: '127.0.0.1:{}', trusted_proxies: [10.0.0.0/8], proxy_protocol: true }}\n\
         transforms: {{ all: {{ type: normalize, inputs: ['*'] }} }}\n\
         sinks:\n  file: {{ type: file, inputs: [all], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        ports[0],
        ports[1],
        ports[2],
        ports[3],
        ports[4],
        folder.path("out").display()
    );
    let agent = Agent::start(&folder, &yaml);
    for (n, port) in [(1, ports[0]), (2, ports[1])] {
        let headers = [("X-Forwarded-For", "203.0.113.9, 198.51.100.4")];
        let answer = request(port, "POST", "/", &headers, format!("{{\"n\":{n}}}").as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 7\r\n\r\n{\"n\":3}";
    let answer = exchange(ports[2], &[&b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n"[..], post].concat());
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert!(exchange(ports[2], post).is_empty(), "a connection without a header is closed");
    exchange(ports[3], b"PROXY TCP4 192.0.2.8 10.0.0.1 1 2\r\n{\"n\":4}\n");
    exchange(ports[3], b"{\"n\":5}\n{\"n\":6}\n");
    exchange(ports[4], b"PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n{\"n\":7}\n");
    eventually("all that may come is there", || lines_of(&folder.path("out"), "out.ndjson").len() == 4);
    let peer = |line: &String| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (event["metadata"]["n"].as_u64().expect("n"), event["peer_ip"].as_str().unwrap_or("").to_owned())
    };
    let mut seen: Vec<(u64, String)> = lines_of(&folder.path("out"), "out.ndjson").iter().map(peer).collect();
    seen.sort();
    let expected = [(1, "198.51.100.4"), (2, "127.0.0.1"), (3, "192.0.2.7"), (4, "192.0.2.8")];
    assert_eq!(seen, expected.map(|(n, ip)| (n, ip.to_owned())), "{}", agent.log());
    // Connections without a header that is believed, and those without TLS.
    for (source, class, count) in [("proxied", "proxy", 1), ("lines", "proxy", 1), ("strict", "proxy", 1)] {
        assert_eq!(agent.errors(source, class), count, "{source}");
    }
    agent.assert_books();
}

#[test]
fn a_handshake_that_fails_is_counted_by_every_listener() {
    let (folder, web, lines) = (Folder::new(), free_port(), free_port());
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.path("cert.pem"), pair.cert.pem()).expect("written");
    std::fs::write(folder.path("key.pem"), pair.signing_key.serialize_pem()).expect("written");
    let tls = format!("{{ cert: '{0}/cert.pem', key: '{0}/key.pem' }}", folder.path("").display());
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{web}', tls: {tls} }}\n  \
         lines: {{ type: socket, address: '127.0.0.1:{lines}', tls: {tls} }}\n\
         sinks: {{ end: {{ type: blackhole, inputs: ['*'] }} }}\n",
    );
    let agent = Agent::start(&folder, &yaml);
    for source in ["web", "lines"] {
        assert_eq!(agent.errors(source, "tls"), 0);
    }
    for port in [web, lines] {
        exchange(port, b"{\"n\":1}\n");
    }
    for source in ["web", "lines"] {
        eventually("it is counted", || agent.errors(source, "tls") == 1);
    }
    agent.assert_books();
}

#[test]
fn msgpack_over_tcp_needs_no_framing() {
    let (folder, port) = (Folder::new(), free_port());
    let yaml = format!(
        "sources: {{ packed: {{ type: socket, address: '127.0.0.1:{port}', codec: msgpack }} }}\n\
         sinks:\n  file: {{ type: file, inputs: [packed], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("out").display()
    );
    let agent = Agent::start(&folder, &yaml);
    // {"a":1}{"b":"\n"} and [{"c":3}], cut anywhere.
    let bytes = b"\x81\xA1a\x01\x81\xA1b\xA1\n\x91\x81\xA1c\x03";
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    for part in bytes.chunks(3) {
        stream.write_all(part).expect("it is taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stream);
    eventually("all are there", || arrived(&folder).len() == 3);
    assert_eq!(arrived(&folder), ["{\"a\":1}", "{\"b\":\"\\n\"}", "{\"c\":3}"]);
    agent.assert_books();
}
