//! When nothing can be taken, or something could not go on: the log says it once, and health and metrics show it.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::collector::{Collector, reply};
use crate::support::{Agent, Folder, eventually, free_port, post, request};

/// A source before a sink that takes nothing, over a journal of 4 MiB.
fn blocked(ingest: u16, more: &str) -> String {
    format!(
        "{more}journal: {{ max_bytes: 4 MiB, keep: {{ bytes: 64 KiB }} }}\nlimits: {{ event: 1 MiB }}\n\
         sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n  \
         bad: {{ type: http, address: '127.0.0.1:{}', on_bad: dead_letter }}\n\
         sinks:\n  out: {{ type: http, inputs: [web, bad], uri: 'http://127.0.0.1:{}/', retry: {{ initial: 100ms, max: 100ms }} }}\n",
        free_port(),
        free_port()
    )
}

fn ready(agent: &Agent) -> (u16, String) {
    let answer = request(agent.api, "GET", "/ready", &[], b"").expect("the agent answers");
    (answer.status, answer.text())
}

fn health(agent: &Agent) -> (bool, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["health", "--data-dir"])
        .arg(&agent.data_dir)
        .args(["--url", &format!("http://127.0.0.1:{}", agent.api)])
        .output()
        .expect("weir health runs");
    (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

fn lines(agent: &Agent, text: &str) -> usize {
    agent.log().lines().filter(|line| line.contains(text)).count()
}

/// 64 KB that no codec makes smaller than half.
fn noise(word: &mut u64) -> String {
    let next = |_| {
        *word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{:08x}", *word >> 32)
    };
    (0..8000).map(next).collect()
}

/// Posts bodies of random-looking text until one is refused.
fn fill(ingest: u16) -> u64 {
    let mut word = 7;
    for sent in 0..200 {
        let text = noise(&mut word);
        let answer = request(ingest, "POST", "/", &[], format!("{{\"t\":\"{text}\"}}").as_bytes()).expect("an answer");
        if answer.status != 200 {
            assert_eq!(answer.status, 429, "{}", answer.text());
            return sent;
        }
    }
    panic!("the journal never was full");
}

#[test]
fn a_full_journal_is_said_once_and_shown_until_it_is_over() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &blocked(ingest, ""));
    assert_eq!(ready(&agent).0, 200);
    assert!(health(&agent).0);
    fill(ingest);
    eventually("it is said", || lines(&agent, "the journal accepts no events") == 1);
    let (status, body) = ready(&agent);
    assert_eq!((status, body.contains("full")), (503, true), "{body}");
    let (ok, said) = health(&agent);
    assert!(!ok && said.contains("the journal is full since") && said.contains("journal.max_bytes"), "{said}");
    for _ in 0..20 {
        assert_eq!(request(ingest, "POST", "/", &[], b"{\"t\":1}").expect("an answer").status, 429);
    }
    assert!(agent.metrics().iter().any(|(name, value)| name.starts_with("weir_requests_refused_total")
        && name.contains("full")
        && *value >= 20.0));
    assert_eq!(lines(&agent, "the journal accepts no events"), 1, "once: {}", agent.log());
    // Somebody lets go of what waits.
    let answer = request(agent.api, "GET", "/health", &[], b"").expect("an answer").json();
    assert_eq!((&answer["status"], &answer["journal"]["state"]), (&"degraded".into(), &"full".into()), "{answer}");
    agent.configure(
        &folder,
        &blocked(ingest, "").replace("type: http, inputs: [web, bad], uri:", "type: blackhole, inputs: [web, bad] } #"),
    );
    agent.signal("-HUP");
    eventually("it is over", || lines(&agent, "the journal accepts events again") == 1);
    assert!(agent.log().lines().any(|line| line.contains("accepts events again") && line.contains("refused")));
    assert_eq!(ready(&agent).0, 200);
    assert!(health(&agent).0, "{}", health(&agent).1);
}

#[test]
fn a_body_that_no_journal_of_this_size_can_hold_is_413() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &blocked(ingest, "").replace("http, address", "http, max_body: 64 MiB, address"));
    let mut word = 7;
    let body: String = (0..300).map(|_| format!("{{\"t\":\"{}\"}}\n", noise(&mut word))).collect();
    let answer = request(ingest, "POST", "/", &[], body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(agent.metrics().iter().any(|(name, value)| name.starts_with("weir_requests_refused_total")
        && name.contains("too_large")
        && *value == 1.0));
}

#[test]
fn a_data_folder_that_is_gone_takes_nothing_until_it_is_back() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &blocked(ingest, ""));
    assert_eq!(post(ingest, "{\"n\":1}"), 1);
    let (data, aside) = (folder.path("data"), folder.path("aside"));
    fs::rename(&data, &aside).expect("it can be moved");
    eventually("it is said", || lines(&agent, "was removed or replaced") >= 1);
    assert_eq!(request(ingest, "POST", "/", &[], b"{}").expect("an answer").status, 429);
    assert_eq!(ready(&agent).0, 503);
    let (ok, said) = health(&agent);
    assert!(!ok && said.contains("the journal is failing since"), "{said}");
    fs::rename(&aside, &data).expect("it can be moved back");
    eventually("it is over", || lines(&agent, "the journal accepts events again") == 1);
    assert_eq!(post(ingest, "{\"n\":2}"), 1);
}

#[test]
fn dead_letters_are_said_by_reason_counted_by_component_and_shown_by_health() {
    let (folder, ingest, port) = (Folder::new(), free_port(), free_port());
    let yaml = format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}' }}, bad: {{ type: http, address: '127.0.0.1:{port}', on_bad: dead_letter }} }}\n\
         sinks: {{ out: {{ type: blackhole, inputs: [web, bad] }} }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    assert_eq!(agent.metric("weir_dead_letters", "bad"), 0, "there from the start");
    for n in 0..50 {
        let answer = request(port, "POST", "/", &[], format!("no JSON {n}").as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    eventually("all are counted", || agent.metric("weir_dead_letters", "bad") == 50);
    let said = lines(&agent, "became a dead letter");
    assert!((1..=3).contains(&said), "{said} lines: {}", agent.log());
    let answer = request(agent.api, "GET", "/health", &[], b"").expect("an answer").json();
    assert_eq!(answer["dead_letters"], 50, "{answer}");
    let (ok, said) = health(&agent);
    assert!(ok && said.contains("50 dead letters: `weir dlq list`"), "{said}");
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &yaml);
    assert_eq!(agent.metric("weir_dead_letters", "bad"), 50, "found again by a restart");
    let dropped = agent.weir(&["dlq", "drop", "--all"]);
    assert!(dropped.status.success());
    assert_eq!(agent.metric("weir_dead_letters", "bad"), 0);
}

#[test]
fn a_nearly_full_journal_that_refuses_large_bodies_only_is_said_once() {
    let (folder, ingest) = (Folder::new(), free_port());
    let agent = Agent::start(&folder, &blocked(ingest, ""));
    let mut word = 7;
    let mut send = |bytes: usize| {
        let mut text = String::new();
        while text.len() < bytes {
            text.push_str(&noise(&mut word));
        }
        text.truncate(bytes);
        request(ingest, "POST", "/", &[], format!("{{\"t\":\"{text}\"}}").as_bytes()).expect("an answer")
    };
    // A body that needs more than the least space is refused before a small one is.
    let refused = (0..200).map(|_| send(300_000)).find(|answer| answer.status == 429).expect("it fills up");
    assert!(refused.text().contains("the journal is full"), "{}", refused.text());
    let small = send(100);
    if small.status == 200 {
        eventually("it is said", || lines(&agent, "the journal is nearly full") == 1);
        for _ in 0..5 {
            send(300_000);
        }
        assert_eq!(lines(&agent, "the journal is nearly full"), 1, "{}", agent.log());
        assert_eq!(ready(&agent).0, 200, "it takes events");
    } else {
        eventually("it is said", || lines(&agent, "the journal accepts no events") == 1);
    }
}

#[test]
fn what_a_source_refuses_is_said_once_with_who_sent_it_and_why() {
    let (folder, ingest) = (Folder::new(), free_port());
    let yaml = format!(
        "log: {{ level: debug }}\nsources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}' }} }}\n\
         sinks: {{ out: {{ type: blackhole, inputs: [web] }} }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    for n in 0..20 {
        let answer = request(ingest, "POST", "/", &[], format!("no JSON {n}").as_bytes()).expect("an answer");
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    eventually("it is said", || lines(&agent, "items were refused") == 1);
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("items were refused")).expect("it is there");
    let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    assert_eq!((&line["peer"], &line["source"], &line["items"]), (&"127.0.0.1".into(), &"web".into(), &1.into()));
    assert!(line["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{line}");
    assert_eq!(lines(&agent, "a request was answered"), 20, "{log}");
    // What somebody who reads the log wants to know of a life.
    assert_eq!(post(ingest, "{\"n\":1}"), 1);
    eventually("the first delivery is said", || lines(&agent, "first events delivered") == 1);
    agent.signal("-HUP");
    eventually("the reload is said", || lines(&agent, "reloading the configuration") == 1);
    assert_eq!(lines(&agent, "\"starting\""), 1, "{}", agent.log());
    let stderr = folder.path("stderr.log");
    assert!(agent.stop().success());
    let log = fs::read_to_string(stderr).expect("the log");
    for word in ["\"stopping\"", "\"stopped\"", "\"reason\":\"SIGTERM\""] {
        assert!(log.contains(word), "{word} in {log}");
    }
}

#[test]
fn a_form_is_refused_with_what_to_send_and_json_under_its_type_is_taken() {
    let (folder, ingest) = (Folder::new(), free_port());
    let yaml = format!(
        "sources: {{ web: {{ type: http, address: '127.0.0.1:{ingest}' }} }}\n\
         sinks: {{ out: {{ type: blackhole, inputs: [web] }} }}\n"
    );
    let _agent = Agent::start(&folder, &yaml);
    let send = |kind: &str, body: &str| {
        request(ingest, "POST", "/", &[("Content-Type", kind)], body.as_bytes()).expect("an answer")
    };
    let form = "application/x-www-form-urlencoded";
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{\"a\":1}\r\n--x--\r\n";
    for (kind, body) in [(form, "a=1&b=2"), ("multipart/form-data; boundary=x", multipart)] {
        let answer = send(kind, body);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("send JSON as the body itself"), "{}", answer.text());
    }
    assert_eq!(send(form, "{\"a\":1}").status, 200, "what `curl -d` sends");
}

#[test]
fn the_sink_whose_full_buffer_makes_sources_wait_is_named() {
    for bound in ["max_bytes: 64 KiB", "max_age: 1s"] {
        let (folder, ingest) = (Folder::new(), free_port());
        let sink = format!("sinks:\n  out: {{ buffer: {{ {bound} }}, type: http,");
        let yaml = blocked(ingest, "").replace("sinks:\n  out: { type: http,", &sink).replace("4 MiB", "64 MiB");
        let agent = Agent::start(&folder, &yaml);
        assert!(health(&agent).1.contains("healthy"), "{}", health(&agent).1);
        if bound.starts_with("max_age") {
            post(ingest, "{\"n\":1}");
            let refused = || request(ingest, "POST", "/", &[], b"{\"n\":2}").expect("an answer").status == 429;
            eventually("it is too old", refused);
        } else {
            fill(ingest);
        }
        eventually("the log names it", || lines(&agent, "their `buffer` is full") == 1);
        assert!(agent.log().contains("\"sinks\":\"out\""), "{}", agent.log());
        let (_, said) = health(&agent);
        assert!(said.contains("the `buffer` of sinks.out is full"), "{said}");
        let answer = request(agent.api, "GET", "/health", &[], b"").expect("an answer").json();
        assert_eq!((&answer["status"], &answer["full_buffers"]), (&"degraded".into(), &vec!["out"].into()), "{answer}");
    }
}

#[test]
fn a_full_journal_that_may_drop_takes_everything_and_counts_what_it_drops() {
    for (size, count) in [(400, 60), (20, 1200)] {
        let (folder, ingest) = (Folder::new(), free_port());
        let (is_up, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (up, count_of) = (is_up.clone(), taken.clone());
        let later = Collector::start(move |heard| {
            if !up.load(Ordering::SeqCst) {
                return reply(503, "");
            }
            count_of.fetch_add(heard.lines().len() as u64, Ordering::SeqCst);
            reply(200, "")
        });
        let yaml = format!(
            "journal: {{ max_bytes: 4 MiB, when_full: drop_oldest, keep: {{ bytes: 64 KiB }} }}\nlimits: {{ event: 1 MiB }}\n\
             sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\nsinks:\n\
             \x20 later: {{ type: http, inputs: [web], uri: 'http://127.0.0.1:{}/', retry: {{ initial: 100ms, max: 100ms }} }}\n\
             \x20 out: {{ type: file, inputs: [web], path: '{}', batch: {{ age: 20ms }} }}\n",
            later.port,
            folder.path("out/all.ndjson").display()
        );
        let agent = Agent::start(&folder, &yaml);
        let (mut word, mut n) = (7, 0);
        for _ in 0..count {
            let mut body = String::new();
            for _ in 0..size {
                let text = &noise(&mut word)[..900];
                body.push_str(&format!("{{\"n\":{n},\"t\":\"{text}\"}}\n"));
                n += 1;
            }
            post(ingest, &body);
        }
        eventually("the other sink has everything", || agent.metric("weir_events_delivered_total", "out") == n);
        let dropped = agent.metric("weir_events_dropped_total", "later");
        assert!(dropped > 0 && dropped < n, "{dropped} of {n}");
        assert_eq!(ready(&agent).0, 200);
        is_up.store(true, Ordering::SeqCst);
        eventually("what was kept is delivered", || agent.metric("weir_events_waiting", "later") == 0);
        let dropped = agent.metric("weir_events_dropped_total", "later");
        assert_eq!(taken.load(Ordering::SeqCst) + dropped, n);
        agent.assert_books();
    }
}
