//! Sinks side by side: what one suffers the others do not notice, and each is fed as fast as it was told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::collector::{Collector, reply};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Agent, Folder, eventually, free_port, lines_of, post, request};

/// Lines that a server has taken.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<String>>>);

impl Taken {
    /// A server that takes its time.
    fn after(&self, wait: Duration) -> Collector {
        let taken = self.clone();
        Collector::start(move |heard| {
            std::thread::sleep(wait);
            taken.0.lock().expect("no panic").extend(heard.lines());
            reply(200, "")
        })
    }

    fn count(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    /// How many different lines there are.
    fn different(&self) -> usize {
        let mut lines = self.0.lock().expect("no panic").clone();
        lines.sort();
        lines.dedup();
        lines.len()
    }
}

fn source(name: &str, port: u16) -> String {
    format!("  {name}: {{ type: http, address: '127.0.0.1:{port}' }}\n")
}

/// A write that is given up is tried again, and arrives twice: the time for one is more than a busy machine takes.
fn hook(name: &str, input: &str, port: u16, more: &str) -> String {
    let timeout = if more.contains("timeout") { "" } else { "timeout: 60s, " };
    format!(
        "  {name}: {{ type: http, inputs: [{input}], uri: 'http://127.0.0.1:{port}/', {timeout}\
         retry: {{ initial: 50ms, max: 200ms }}, {more} }}\n"
    )
}

const SOON: &str = "batch: { age: 20ms }";

/// Events that do not compress well, as the journal counts what it keeps.
fn numbered(range: std::ops::Range<usize>) -> String {
    let padding = |n: usize| blake3::hash(&n.to_le_bytes()).to_hex();
    range.map(|n| format!("{{\"n\":{n},\"padding\":\"{}\"}}\n", padding(n))).collect()
}

fn delivered(agent: &Agent, sink: &str) -> u64 {
    agent.metric("weir_events_delivered_total", sink)
}

#[test]
fn dead_slow_and_refusing_sinks_change_nothing_for_the_others() {
    let (folder, ingest) = (Folder::new(), free_port());
    let (fast, slow, dead) = (Taken::default(), Taken::default(), Taken::default());
    let (fast_server, slow_server) = (fast.after(Duration::ZERO), slow.after(Duration::from_secs(2)));
    let dead_server = dead.after(Duration::ZERO);
    let dead_proxy = Proxy::before(&format!("127.0.0.1:{}", dead_server.port));
    let refusing = Collector::start(|_| reply(401, "no"));
    dead_proxy.set(Fault::BlackHole);
    let yaml = format!(
        "sources:\n{}sinks:\n{}{}{}{}  out: {{ type: file, inputs: [web], path: '{}/out.ndjson', {SOON} }}\n",
        source("web", ingest),
        hook("fast", "web", fast_server.port, SOON),
        hook("slow", "web", slow_server.port, "batch: { events: 50, age: 20ms }"),
        hook("dead", "web", dead_proxy.port, &format!("timeout: 2s, {SOON}")),
        hook("held", "web", refusing.port, SOON),
        folder.0.display(),
    );
    let agent = Agent::start(&folder, &yaml);
    for round in 0..40 {
        assert_eq!(post(ingest, &numbered(round * 100..(round + 1) * 100)), 100);
    }
    agent.delivered("fast", 4000);
    agent.delivered("out", 4000);
    // All this while the others had nothing, or little of it.
    assert_eq!((delivered(&agent, "dead"), delivered(&agent, "held")), (0, 0));
    assert!(slow.count() < 4000, "{}", slow.count());
    assert_eq!((fast.count(), fast.different(), lines_of(&folder.0, "out.ndjson").len()), (4000, 4000, 4000));
    eventually("each says what it suffers", || {
        agent.health("dead").state == "retrying" && agent.health("held").state == "held"
    });
    assert_eq!(agent.health("fast").last_error, "");
    assert_eq!(agent.metric("weir_events_waiting", "held"), 4000);
    dead_proxy.set(Fault::None);
    agent.delivered("dead", 4000);
    assert_eq!(dead.different(), 4000, "what waited for it is all there");
}

#[test]
fn a_full_buffer_that_blocks_slows_its_own_sources_and_no_others() {
    let (folder, mine, other) = (Folder::new(), free_port(), free_port());
    let (dead, well) = (Taken::default(), Taken::default());
    let (dead_server, well_server) = (dead.after(Duration::ZERO), well.after(Duration::ZERO));
    let proxy = Proxy::before(&format!("127.0.0.1:{}", dead_server.port));
    proxy.set(Fault::Refuse);
    let yaml = format!(
        "sources:\n{}{}sinks:\n{}{}",
        source("mine", mine),
        source("other", other),
        hook("dead", "mine", proxy.port, &format!("{SOON}, buffer: {{ max_bytes: 64 KiB, when_full: block }}")),
        hook("well", "other", well_server.port, SOON),
    );
    let agent = Agent::start(&folder, &yaml);
    let (mut sent, mut status) = (0, 200);
    while status == 200 {
        let answer = request(mine, "POST", "/", &[], numbered(sent..sent + 50).as_bytes()).expect("an answer");
        status = answer.status;
        sent += if status == 200 { 50 } else { 0 };
        assert!(sent < 20_000, "64 KiB never fill");
    }
    assert_eq!(status, 429, "its own source is told to wait");
    for round in 0..20 {
        assert_eq!(post(other, &numbered(round * 100..(round + 1) * 100)), 100);
    }
    agent.delivered("well", 2000);
    assert_eq!(delivered(&agent, "dead"), 0);
    proxy.set(Fault::None);
    agent.delivered("dead", sent as u64);
    assert_eq!((dead.different(), well.different()), (sent, 2000));
    eventually("its source takes events again", || {
        request(mine, "POST", "/", &[], numbered(sent..sent + 1).as_bytes()).expect("an answer").status == 200
    });
    agent.delivered("dead", sent as u64 + 1);
}

#[test]
fn a_full_buffer_that_drops_moves_that_sink_alone_and_counts_what_is_gone() {
    let (folder, ingest) = (Folder::new(), free_port());
    let (dead, well) = (Taken::default(), Taken::default());
    let (dead_server, well_server) = (dead.after(Duration::ZERO), well.after(Duration::ZERO));
    let proxy = Proxy::before(&format!("127.0.0.1:{}", dead_server.port));
    proxy.set(Fault::Refuse);
    let yaml = format!(
        "sources:\n{}sinks:\n{}{}",
        source("web", ingest),
        hook(
            "dead",
            "web",
            proxy.port,
            "batch: { events: 50, bytes: 16 KiB, age: 20ms }, buffer: { max_bytes: 64 KiB, when_full: drop_oldest }"
        ),
        hook("well", "web", well_server.port, SOON),
    );
    let agent = Agent::start(&folder, &yaml);
    for round in 0..100 {
        assert_eq!(post(ingest, &numbered(round * 100..(round + 1) * 100)), 100, "nobody has to wait");
        // The journal looks at the bounds a few times a second, not at every append.
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.delivered("well", 10_000);
    assert_eq!(well.different(), 10_000);
    eventually("what is gone is counted although the server is dead", || {
        agent.metric("weir_events_dropped_total", "dead") > 5000
            && agent.metric("weir_events_addressed_total", "dead") == 10_000
    });
    agent.assert_books();
    proxy.set(Fault::None);
    eventually("nothing waits any more", || agent.metric("weir_events_waiting", "dead") == 0);
    agent.assert_books();
    let (got, dropped) = (delivered(&agent, "dead"), agent.metric("weir_events_dropped_total", "dead"));
    assert_eq!(got + dropped, 10_000);
    assert!(got > 0 && dropped > 5000, "{dropped} of 10000 were dropped");
    assert_eq!(agent.metric("weir_events_dropped_total", "well"), 0);
    assert_eq!(dead.different() as u64, got);
    assert!(dead.0.lock().expect("no panic").iter().any(|line| line.contains("\"n\":9999,")), "the newest are there");
}

#[test]
fn as_many_writes_are_on_their_way_as_the_sink_was_told() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let server = taken.after(Duration::from_millis(50));
    let more = |count| format!("concurrency: {count}, batch: {{ events: 5, age: 10ms }}");
    let yaml =
        |count| format!("sources:\n{}sinks:\n{}", source("web", ingest), hook("out", "web", server.port, &more(count)));
    let agent = Agent::start(&folder, &yaml(1));
    post(ingest, &numbered(0..200));
    agent.delivered("out", 200);
    assert_eq!(server.most_at_once(), 1);
    agent.configure(&folder, &yaml(4));
    agent.signal("-HUP");
    eventually("the reload is done", || agent.metrics().iter().any(|(name, n)| name.contains("reloads") && *n > 0.0));
    post(ingest, &numbered(200..500));
    agent.delivered("out", 500);
    assert_eq!((server.most_at_once(), taken.different()), (4, 500));
}

#[test]
fn a_rate_spreads_events_over_time() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let server = taken.after(Duration::ZERO);
    let more = "rate: 100/s, batch: { events: 10, age: 10ms }";
    let agent = Agent::start(
        &folder,
        &format!("sources:\n{}sinks:\n{}", source("web", ingest), hook("out", "web", server.port, more)),
    );
    let began = Instant::now();
    post(ingest, &numbered(0..200));
    agent.delivered("out", 200);
    // The first cut is free: 190 events at 100 in a second.
    assert!(began.elapsed() >= Duration::from_millis(1850), "{:?}", began.elapsed());
}

#[test]
fn adaptive_widens_while_answers_are_quick_and_narrows_when_the_server_pushes_back() {
    let (folder, ingest) = (Folder::new(), free_port());
    let (taken, strict, at_once) = (Taken::default(), Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
    let (kept, is_strict) = (taken.clone(), strict.clone());
    let server = Collector::start(move |heard| {
        *at_once.lock().expect("no panic") += 1;
        // So long that what a busy machine adds makes no answer a slow one.
        std::thread::sleep(Duration::from_millis(60));
        let mut now = at_once.lock().expect("no panic");
        let crowd = *now;
        *now -= 1;
        if is_strict.load(Ordering::SeqCst) && crowd > 3 {
            return reply(429, "too many at once");
        }
        kept.0.lock().expect("no panic").extend(heard.lines());
        reply(200, "")
    });
    let more = "concurrency: adaptive, batch: { events: 2, age: 10ms }";
    let agent = Agent::start(
        &folder,
        &format!("sources:\n{}sinks:\n{}", source("web", ingest), hook("out", "web", server.port, more)),
    );
    let mut sent = 0;
    let mut most_of_more = || {
        post(ingest, &numbered(sent..sent + 200));
        sent += 200;
        agent.delivered("out", sent as u64);
        server.most_at_once()
    };
    let mut widest = 0;
    eventually("it widens", || {
        widest = widest.max(most_of_more());
        widest > 8
    });
    strict.store(true, Ordering::SeqCst);
    eventually("it narrows", || most_of_more() <= widest / 2);
    assert_eq!(taken.different(), sent);
}
