//! Tests of sockets, over real ones on this machine.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::config::Place;
use super::{BoundSocket, Socket, connection, datagrams};
use crate::codec::framing::Framing;
use crate::component::{JobStatus, Source};
use crate::net::address::Address;
use crate::net::listen::bind_datagram;
use crate::toolkit::fake::{FakeIntake, Folder, NoDecoder};

fn socket(framing: Option<Framing>) -> Socket {
    Socket {
        place: Place::UnixDatagram("/nowhere".into()),
        decoder: Arc::new(NoDecoder),
        framing,
        tls: None,
        max_connections: 10,
        frame_bytes: Some(1000),
        idle_timeout: None,
        proxies: None,
    }
}

/// Everything a peer gets in that writes these chunks and closes.
async fn said(framing: Framing, chunks: Vec<Vec<u8>>, intake: Arc<FakeIntake>) -> Vec<String> {
    let (mut ours, theirs) = tokio::io::duplex(512);
    let writing = tokio::spawn(async move {
        for chunk in chunks {
            if ours.write_all(&chunk).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    connection::serve(&socket(Some(framing)), theirs, None, intake.context()).await;
    writing.await.unwrap();
    intake.texts()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn lines_come_out_whole_and_once_however_they_arrive(
        lines in prop::collection::vec("[a-z]{1,60}", 1..60),
        sizes in prop::collection::vec(1usize..400, 1..8),
        failures in 0usize..3,
    ) {
        let text = lines.join("\n").into_bytes();
        let (mut rest, mut chunks) = (&text[..], Vec::new());
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break }
            let (now, later) = rest.split_at(rest.len().min(*size));
            chunks.push(now.to_vec());
            rest = later;
        }
        let intake = FakeIntake::new();
        intake.script(std::iter::repeat_n(JobStatus::Full, failures));
        let mut found = runtime().block_on(said(Framing::Newline, chunks, intake.clone()));
        let mut expected = lines;
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
        let ids: std::collections::HashSet<_> = intake.entries().iter().map(|entry| entry.id).collect();
        prop_assert_eq!(ids.len(), intake.entries().len());
    }

    #[test]
    fn arbitrary_bytes_break_at_most_their_own_connection(
        octet in any::<bool>(),
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
    ) {
        let framing = if octet { Framing::Octet } else { Framing::Length };
        runtime().block_on(said(framing, chunks, FakeIntake::new()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_too_long_is_cut_and_the_next_one_is_whole() {
    let chunks = vec![vec![b'x'; 5000], b"\nnext\n".to_vec()];
    let found = said(Framing::Newline, chunks, FakeIntake::new()).await;
    assert_eq!(found.len(), 2);
    assert!(found[0].ends_with(" [cut: longer than 1000 bytes]"), "{}", found[0]);
    assert_eq!(found[1], "next");
}

#[tokio::test(start_paused = true)]
async fn bytes_out_of_frame_close_the_connection_and_are_counted() {
    let intake = FakeIntake::new();
    let found = said(Framing::Octet, vec![b"5 hellonot a length".to_vec()], intake.clone()).await;
    assert_eq!((found, intake.refused_items()), (vec!["hello".to_string()], 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_after_its_time() {
    let (_ours, theirs) = tokio::io::duplex(64);
    let silent = Socket { idle_timeout: Some(std::time::Duration::from_secs(30)), ..socket(Some(Framing::Newline)) };
    connection::serve(&silent, theirs, None, FakeIntake::new().context()).await;
}

#[tokio::test]
async fn lines_over_tcp_are_taken_until_the_agent_stops() {
    let intake = FakeIntake::new();
    let cx = intake.context();
    let address: Address = "127.0.0.1:0".parse().unwrap();
    let listener = crate::net::listen::Listener::bind(&address, 0o600).await.unwrap();
    let at = listener.address().unwrap().to_string();
    let running = tokio::spawn(Arc::new(socket(Some(Framing::Newline))).accept(listener, None, cx.clone()));
    let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    let mut client = tokio::net::TcpStream::connect(&at).await.unwrap();
    client.write_all(text.as_bytes()).await.unwrap();
    drop(client);
    while intake.texts().len() < 50_000 {
        tokio::task::yield_now().await;
    }
    cx.shutdown.cancel();
    running.await.unwrap();
    assert_eq!(intake.texts(), text.lines().collect::<Vec<_>>());
    assert_eq!(intake.entries()[0].provenance.peer, Some("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn every_datagram_is_an_event_and_an_empty_one_is_refused() {
    let intake = FakeIntake::new();
    let cx = intake.context();
    let (receiving, bound) = crate::net::Sockets::default().udp(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = receiving.local_addr().unwrap();
    let running = tokio::spawn(datagrams::Receiver::new(&socket(None), cx.clone()).run(receiving, bound));
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for datagram in [&b"one\ntwo\n"[..], b"", b"three", &[b'x'; 1001]] {
        client.send_to(datagram, at).await.unwrap();
    }
    while intake.texts().len() < 2 || intake.refused_items() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(intake.texts(), ["one\ntwo", "three"]);
    cx.shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_datagram_of_a_unix_socket_may_be_as_large_as_a_frame() {
    let folder = Folder::new();
    let path = folder.path("events.sock");
    let intake = FakeIntake::new();
    let large = Socket { place: Place::UnixDatagram(path.clone()), frame_bytes: Some(150_000), ..socket(None) };
    let cx = intake.context();
    let running = tokio::spawn(crate::toolkit::fake::run(large, cx.clone()));
    let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
    // The kernel has room for one of them at a time.
    client.set_nonblocking(true).unwrap();
    let sizes = [100_000, 160_000, 150_001, 150_000, 3, 70_000];
    for size in sizes {
        while client.send_to(&vec![b'x'; size], &path).is_err() {
            tokio::task::yield_now().await;
        }
    }
    while intake.texts().len() < 4 || intake.refused_items() < 2 {
        tokio::task::yield_now().await;
    }
    let found: Vec<usize> = intake.texts().iter().map(String::len).collect();
    assert_eq!(found, sizes.into_iter().filter(|size| *size <= 150_000).collect::<Vec<_>>());
    cx.shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn datagrams_of_lines_come_over_a_unix_socket_that_replaces_a_dead_one() {
    let folder = Folder::new();
    let path = folder.path("events.sock");
    drop(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
    let (intake, lines) =
        (FakeIntake::new(), Socket { place: Place::UnixDatagram(path.clone()), ..socket(Some(Framing::Newline)) });
    let cx = intake.context();
    let running = tokio::spawn(crate::toolkit::fake::run(lines, cx.clone()));
    let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
    while client.send_to(b"one\ntwo", &path).is_err() {
        tokio::task::yield_now().await;
    }
    while intake.texts().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(bind_datagram(&path, 0o600).unwrap_err().ends_with("address already in use"));
    cx.shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(intake.texts(), ["one", "two"]);
    assert!(!path.exists());
}

/// The sender cannot know that nobody will read on.
#[tokio::test]
async fn what_the_kernel_has_received_before_a_stop_is_taken() {
    let folder = Folder::new();
    let path = folder.path("events.sock");
    let (tcp, unix) = ("127.0.0.1:0".parse().unwrap(), Address::Unix(path.clone()));
    let lines: String = (0..200).map(|n| format!("line {n}\n")).collect();
    for (place, framing) in [
        (Place::Stream(tcp), Some(Framing::Newline)),
        (Place::Stream(unix), Some(Framing::Newline)),
        (Place::Udp("127.0.0.1:0".parse().unwrap()), None),
        (Place::UnixDatagram(path.clone()), Some(Framing::Newline)),
    ] {
        let words = format!("{place:?}");
        let sockets = crate::net::Sockets::default();
        let source = Arc::new(Socket { place, ..socket(framing) });
        let bound_socket = Source::prepare(&*source, &sockets).await.unwrap();
        let intake = FakeIntake::new();
        let cx = intake.context();
        let mut connection: Option<Box<dyn std::io::Write>> = None;
        match &bound_socket {
            BoundSocket::Stream(listener, _) => {
                let mut client: Box<dyn std::io::Write> = match listener.address().unwrap() {
                    Address::Unix(path) => Box::new(std::os::unix::net::UnixStream::connect(path).unwrap()),
                    address => Box::new(std::net::TcpStream::connect(address.to_string()).unwrap()),
                };
                client.write_all(lines.as_bytes()).unwrap();
                connection = Some(client);
            }
            BoundSocket::Udp(receiving, _) => {
                let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                for line in lines.lines() {
                    client.send_to(line.as_bytes(), receiving.local_addr().unwrap()).unwrap();
                }
            }
            BoundSocket::Unix(..) => {
                let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
                // A datagram is no larger than a frame.
                for lines in lines.lines().collect::<Vec<_>>().chunks(50) {
                    client.send_to(lines.join("\n").as_bytes(), &path).unwrap();
                }
            }
        }
        cx.shutdown.cancel();
        Source::run(source, bound_socket, cx).await.unwrap();
        let found = intake.texts();
        assert_eq!((found.len(), found.last().map(String::as_str)), (200, Some("line 199")), "{words}");
        drop(connection);
    }
}
