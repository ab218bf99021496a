//! The `splunk_hec` sink against a strict simulator: counted where Splunk would index.

use std::time::Duration;

use crate::support::ask::validate;
use crate::support::proxy::{Fault, Proxy};
use crate::support::splunk::{Instead, Splunk, TOKEN};
use crate::support::{Agent, Folder, eventually, free_port, post};

fn yaml(ingest: u16, splunk: u16, more: &str) -> String {
    format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n\
         sinks:\n  hec:\n    type: splunk_hec\n    inputs: [web]\n    endpoint: http://127.0.0.1:{splunk}\n    \
         timeout: 10s\n    batch: {{ age: 20ms }}\n    retry: {{ initial: 50ms, max: 200ms }}\n{}",
        more.lines().map(|line| format!("    {}\n", line.trim())).collect::<String>()
    )
}

fn token() -> String {
    format!("token: {TOKEN}")
}

fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("{{\"n\":{n},\"host\":\"nb-1\"}}\n")).collect()
}

/// The numbers of the events that are indexed, each once, sorted.
fn indexed(splunk: &Splunk) -> Vec<u64> {
    let mut numbers: Vec<u64> = splunk.state().indexed.iter().filter_map(|told| told["event"]["n"].as_u64()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[test]
fn events_are_indexed_with_time_place_and_id() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    let more =
        format!("{}\nindex: main\nsourcetype: weir:activity\nfields: {{ team: data }}\ncompression: gzip", token());
    let agent = Agent::start(&folder, &yaml(ingest, server.port, &more));
    post(ingest, &numbered(0..300));
    agent.delivered("hec", 300);
    assert_eq!(indexed(&splunk), (0..300).collect::<Vec<u64>>());
    assert_eq!(splunk.counts().len(), 300, "each has an id of its own");
    let first = splunk.state().indexed[0].clone();
    assert_eq!((&first["index"], &first["host"]), (&"main".into(), &"nb-1".into()));
    assert_eq!((&first["sourcetype"], &first["fields"]["team"]), (&"weir:activity".into(), &"data".into()));
    assert!(first["time"].as_f64().is_some_and(|time| time > 1.7e9 && time.fract() > 0.0), "{first}");
    let (works, said) = validate(&folder);
    assert!(works && said.contains("hec (splunk_hec): at least once; works"), "{said}");
    assert!(said.contains("not when they are indexed"), "{said}");
    assert_eq!(splunk.state().indexed.len(), 300, "validate sends nothing");
}

#[test]
fn lines_go_to_the_raw_endpoint_with_a_channel() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    let more = format!(
        "{}\nmode: raw\nindex: main\nsource: 'a b'\nencoding: {{ format: text, template: 'n={{{{ n }}}}' }}",
        token()
    );
    let agent = Agent::start(&folder, &yaml(ingest, server.port, &more));
    post(ingest, &numbered(0..3));
    agent.delivered("hec", 3);
    let state = splunk.state();
    let lines: Vec<_> = state.indexed.iter().map(|told| told["raw"].as_str().expect("a line")).collect();
    assert_eq!(lines, ["n=0", "n=1", "n=2"]);
    assert_eq!(state.indexed[0]["path"], "/services/collector/raw?index=main&source=a%20b");
}

#[test]
fn an_invalid_event_is_put_aside_alone_and_all_others_are_indexed() {
    for (keeps_before, counts_from_one) in [(false, false), (true, false), (false, true)] {
        let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
        splunk.state().keeps_before = keeps_before;
        splunk.state().counts_from_one = counts_from_one;
        let agent = Agent::start(&folder, &yaml(ingest, server.port, &token()));
        let body = numbered(0..100).replace("\"n\":40,", "\"n\":40,\"refused\":true,");
        post(ingest, &body.replace("\"n\":70,", "\"n\":70,\"refused\":true,"));
        eventually("both are put aside", || agent.metric("weir_events_dead_lettered_total", "hec") == 2);
        agent.delivered("hec", 98);
        let expected: Vec<u64> = (0..100).filter(|n| ![40, 70].contains(n)).collect();
        assert_eq!(indexed(&splunk), expected, "{keeps_before} {counts_from_one}");
        let most = splunk.counts().into_values().max();
        if !keeps_before && !counts_from_one {
            assert_eq!(most, Some(1));
        }
        let letters = agent.letters();
        let shown = String::from_utf8(agent.weir(&["dlq", "show", &letters[0]]).stdout).expect("text");
        assert!(shown.contains("Invalid data format"), "{shown}");
    }
}

#[test]
fn an_unknown_index_parks_its_own_events_and_no_others() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    splunk.state().indexes = vec!["app-a".into()];
    let agent = Agent::start(&folder, &yaml(ingest, server.port, &format!("{}\nindex: 'app-{{{{ t }}}}'", token())));
    let event = |n: usize| format!("{{\"n\":{n},\"t\":\"{}\"}}\n", if n.is_multiple_of(2) { "a" } else { "b" });
    post(ingest, &(0..20).map(event).collect::<String>());
    eventually("it is parked", || agent.health("hec").state == "degraded");
    assert!(agent.health("hec").last_error.contains("Incorrect index"), "{:?}", agent.health("hec"));
    assert_eq!(agent.health("hec").status, 200);
    eventually("the others are there", || indexed(&splunk) == (0..20).step_by(2).collect::<Vec<u64>>());
    splunk.state().indexes.push("app-b".into());
    agent.delivered("hec", 20);
    assert_eq!(indexed(&splunk), (0..20).collect::<Vec<u64>>());
    assert_eq!(splunk.counts().into_values().max(), Some(1));
}

#[test]
fn a_token_that_is_wrong_or_disabled_holds_the_sink_and_is_never_shown() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    let agent = Agent::start(&folder, &yaml(ingest, server.port, "token: 0123-wrong-token"));
    post(ingest, &numbered(0..10));
    eventually("it is held", || agent.health("hec").state == "held");
    assert!(
        agent.health("hec").last_error.contains("403 Forbidden: Invalid token (code 4)"),
        "{:?}",
        agent.health("hec")
    );
    assert_eq!(agent.health("hec").status, 503);
    let (works, said) = validate(&folder);
    assert!(!works && said.contains("failed: 403"), "{said}");
    splunk.state().disabled = true;
    agent.configure(&folder, &yaml(ingest, server.port, &token()));
    agent.signal("-HUP");
    eventually("it is held still", || agent.health("hec").last_error.contains("Token disabled"));
    splunk.state().disabled = false;
    agent.delivered("hec", 10);
    assert_eq!(splunk.counts().into_values().sum::<usize>(), 10);
    assert!(!agent.log().contains("0123-wrong") && !agent.log().contains(TOKEN), "{}", agent.log());
}

#[test]
fn busy_away_silent_slow_or_answering_into_the_void_no_event_is_lost() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    let proxy = Proxy::before(&format!("127.0.0.1:{}", server.port));
    let agent = Agent::start(&folder, &yaml(ingest, proxy.port, &token()));
    splunk.state().busy = 1;
    post(ingest, &numbered(0..100));
    eventually("it says so", || {
        agent.health("hec").last_error.contains("queues are full")
            | agent.health("hec").last_error.contains("Server is busy")
    });
    splunk.state().busy = 0;
    agent.delivered("hec", 100);
    assert_eq!(splunk.counts().into_values().max(), Some(1));
    let faults = [Fault::Refuse, Fault::BlackHole, Fault::Slow(Duration::from_millis(200)), Fault::LoseAnswers];
    for (round, fault) in (1..).zip(faults) {
        proxy.set(fault);
        post(ingest, &numbered(round * 100..(round + 1) * 100));
        match fault {
            Fault::Slow(_) => {}
            Fault::LoseAnswers => eventually("answers are lost", || proxy.lost() >= 2),
            _ => eventually("it says so", || agent.health("hec").state == "retrying"),
        }
        if !matches!(fault, Fault::Slow(_)) {
            proxy.set(Fault::None);
        }
        agent.delivered("hec", (round as u64 + 1) * 100);
        proxy.set(Fault::None);
    }
    assert_eq!(indexed(&splunk), (0..500).collect::<Vec<u64>>());
    assert_eq!(splunk.counts().len(), 500, "what came twice has the same id");
    assert_eq!(agent.health("hec").state, "running");
}

#[test]
fn events_count_once_indexers_acknowledge_them() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    splunk.state().acknowledges = true;
    splunk.state().indexers_work = false;
    let more = format!("{}\nindexer_ack: true\nack_interval: 100ms\nconcurrency: 4", token());
    let agent = Agent::start(&folder, &yaml(ingest, server.port, &more));
    post(ingest, &numbered(0..50));
    eventually("Splunk is asked", || splunk.state().polls >= 3);
    assert_eq!(agent.metric("weir_events_delivered_total", "hec"), 0);
    assert_eq!(agent.metric("weir_events_waiting", "hec"), 50);
    // These are never acknowledged, so they are sent again on the same channel.
    eventually("they are sent again", || splunk.state().channels.len() >= 2);
    splunk.state().indexers_work = true;
    agent.delivered("hec", 50);
    let channels = splunk.state().channels.clone();
    assert!(channels.iter().all(|channel| *channel == channels[0]), "{channels:?}");
    assert_eq!((indexed(&splunk), splunk.counts().len()), ((0..50).collect::<Vec<u64>>(), 50));
    let before = splunk.state().indexed.len();
    for n in 0..8 {
        post(ingest, &numbered(100 + n * 10..110 + n * 10));
    }
    agent.delivered("hec", 130);
    assert_eq!(splunk.state().indexed.len() - before, 80, "each once");
    assert!(splunk.state().acks.len() <= 2, "only what was given up is left");
}

#[test]
fn an_acknowledgement_that_comes_late_counts_for_events_that_were_sent_again() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    splunk.state().acknowledges = true;
    splunk.state().indexers_work = false;
    let more = format!("{}\nindexer_ack: true\nack_interval: 100ms", token());
    let agent = Agent::start(&folder, &yaml(ingest, server.port, &more).replace("timeout: 10s", "timeout: 1s"));
    post(ingest, &numbered(0..10));
    eventually("they are sent again", || splunk.state().channels.len() == 3);
    // Of the three requests the indexers have the first; it may be heard of before a fourth is sent.
    splunk.state().acks.insert(1, true);
    agent.delivered("hec", 10);
    assert!(splunk.state().channels.len() <= 4, "{:?}", splunk.state().channels);
    post(ingest, &numbered(10..20));
    eventually("others are sent", || splunk.state().indexed.iter().any(|event| event["event"]["n"] == 12));
    splunk.state().acks.values_mut().for_each(|acked| *acked = true);
    agent.delivered("hec", 20);
}

#[test]
fn what_comes_late_counts_although_splunk_was_away_or_busy_meanwhile() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    splunk.state().acknowledges = true;
    splunk.state().indexers_work = false;
    let proxy = Proxy::before(&format!("127.0.0.1:{}", server.port));
    let more = format!("{}\nindexer_ack: true\nack_interval: 100ms", token());
    let agent = Agent::start(&folder, &yaml(ingest, proxy.port, &more).replace("timeout: 10s", "timeout: 1s"));
    for (round, is_away) in [(0, true), (1, false)] {
        let sent = splunk.state().channels.len();
        post(ingest, &numbered(round * 10..round * 10 + 10));
        eventually("Splunk has them", || splunk.state().channels.len() == sent + 1);
        let retries = agent.metric("weir_retries_total", "hec");
        if is_away {
            proxy.set(Fault::Refuse);
        } else {
            splunk.state().busy = usize::MAX;
        }
        eventually("it is opened afresh, in vain", || agent.metric("weir_retries_total", "hec") > retries + 4);
        splunk.state().acks.values_mut().for_each(|acked| *acked = true);
        splunk.state().busy = 0;
        proxy.set(Fault::None);
        agent.delivered("hec", round as u64 * 10 + 10);
        assert_eq!(splunk.state().channels.len(), sent + 1, "they were not sent again");
    }
    assert_eq!(splunk.counts().into_values().max(), Some(1));
}

#[test]
fn a_splunk_that_starts_again_acknowledges_nothing_of_before() {
    for (first, then) in [(1, 1), (3, 2), (2, 5)] {
        let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
        splunk.state().acknowledges = true;
        splunk.state().indexers_work = false;
        let more = format!("{}\nindexer_ack: true\nack_interval: 100ms\nconcurrency: 8", token());
        let agent = Agent::start(&folder, &yaml(ingest, server.port, &more).replace("timeout: 10s", "timeout: 20s"));
        let send = |requests: usize, from: usize| {
            for request in 0..requests {
                let sent = splunk.state().channels.len();
                post(ingest, &numbered(from + request * 10..from + request * 10 + 10));
                eventually("Splunk has them", || splunk.state().channels.len() > sent);
            }
        };
        send(first, 0);
        let polls = splunk.state().polls;
        eventually("Splunk is asked", || splunk.state().polls > polls);
        {
            let mut state = splunk.state();
            state.start_again();
            state.indexers_work = true;
        }
        send(then, first * 10);
        let all = (first + then) * 10;
        agent.delivered("hec", all as u64);
        assert_eq!(indexed(&splunk), (0..all as u64).collect::<Vec<u64>>(), "{first} requests, then {then}");
    }
}

#[test]
fn a_token_without_acknowledgements_is_found_before_anything_is_sent() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    let agent = Agent::start(&folder, &yaml(ingest, server.port, &format!("{}\nindexer_ack: true", token())));
    post(ingest, &numbered(0..5));
    eventually("it is held", || agent.health("hec").state == "held");
    assert!(agent.health("hec").last_error.contains("ACK is disabled"), "{:?}", agent.health("hec"));
    assert!(splunk.state().indexed.is_empty());
    let (works, said) = validate(&folder);
    assert!(!works && said.contains("ACK is disabled"), "{said}");
}

#[test]
fn answers_without_a_number_do_not_index_events_again_and_again() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    splunk.state().instead_of_acks = Some((200, r#"{"acks":{}}"#));
    let agent = Agent::start(&folder, &yaml(ingest, server.port, &format!("{}\nindexer_ack: true", token())));
    post(ingest, &numbered(0..10));
    eventually("it says why", || agent.health("hec").last_error.contains("no `ackId`"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(splunk.state().indexed.len(), 10, "{:?}", agent.health("hec"));
    assert_eq!(agent.metric("weir_events_delivered_total", "hec"), 0);
}

#[test]
fn a_server_that_says_yes_to_everything_is_no_collector() {
    let html = "<html>It works!</html>";
    for (status, body) in
        [(200, html), (200, ""), (204, ""), (200, "{}"), (201, "[1]"), (200, r#"{"text":"Success","c"#)]
    {
        let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
        splunk.state().instead = Some(Instead { status, body, retry_after: None });
        let agent = Agent::start(&folder, &yaml(ingest, server.port, &token()));
        post(ingest, &numbered(0..20));
        eventually("it says so", || ["held", "retrying"].contains(&&*agent.health("hec").state));
        assert_eq!(agent.metric("weir_events_delivered_total", "hec"), 0, "{status} {body}");
        let (works, said) = validate(&folder);
        assert!(!works, "{said}");
        splunk.state().instead = None;
        agent.delivered("hec", 20);
        assert_eq!(splunk.counts().len(), 20, "{status} {body}");
        assert_eq!(agent.metric("weir_events_dead_lettered_total", "hec"), 0);
    }
}

#[test]
fn many_invalid_events_and_slow_answers_end_some_time() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    splunk.state().delay = Duration::from_millis(150);
    let agent = Agent::start(
        &folder,
        &yaml(ingest, server.port, &format!("{}\ntimeout: 2s", token())).replace("timeout: 10s\n    ", ""),
    );
    let mut body = numbered(0..100);
    for n in (0..100).step_by(4) {
        body = body.replace(&format!("\"n\":{n},"), &format!("\"n\":{n},\"refused\":true,"));
    }
    post(ingest, &body);
    // Each takes two requests to be found: far more than fit into a write.
    eventually("they are put aside", || agent.metric("weir_events_dead_lettered_total", "hec") == 25);
    agent.delivered("hec", 75);
    assert_eq!(indexed(&splunk), (0..100).filter(|n| n % 4 != 0).collect::<Vec<u64>>());
}

#[test]
fn indexers_are_asked_before_a_write_ends_however_rarely_that_was_to_be() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    splunk.state().acknowledges = true;
    let more = format!("{}\nindexer_ack: true\nack_interval: 1m", token());
    let agent = Agent::start(&folder, &yaml(ingest, server.port, &more));
    post(ingest, &numbered(0..50));
    agent.delivered("hec", 50);
    assert_eq!(splunk.counts().into_values().max(), Some(1), "each once");
}

#[test]
fn a_question_about_acknowledgements_that_is_refused_makes_no_dead_letter() {
    for (status, body) in
        [(400, r#"{"text":"Invalid data format","code":6}"#), (413, "too large"), (404, ""), (500, "")]
    {
        let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
        splunk.state().acknowledges = true;
        let more = format!("{}\nindexer_ack: true\nack_interval: 100ms", token());
        let agent = Agent::start(&folder, &yaml(ingest, server.port, &more));
        post(ingest, &numbered(0..10));
        agent.delivered("hec", 10);
        splunk.state().instead_of_acks = Some((status, body));
        post(ingest, &numbered(10..30));
        eventually("it says so", || ["held", "retrying"].contains(&&*agent.health("hec").state));
        assert_eq!(agent.metric("weir_events_dead_lettered_total", "hec"), 0, "{status}");
        assert_eq!(agent.metric("weir_events_delivered_total", "hec"), 10, "{status}");
        splunk.state().instead_of_acks = None;
        agent.delivered("hec", 30);
        assert_eq!(splunk.counts().len(), 30, "{status}");
    }
}
