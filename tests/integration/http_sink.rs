//! The `http` sink against servers that refuse, stall, lose answers and come back, counted at the server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::ask::validate;
use crate::support::collector::{Collector, Heard, Papers, Reply, reply};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Agent, Folder, eventually, free_port, post};

/// Path, idempotency key and lines of a request.
type Request = (String, String, Vec<String>);

/// What a server has taken: request by request.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<Request>>>);

impl Taken {
    /// Takes everything that `judge` lets pass.
    fn behind(&self, judge: impl Fn(&Heard) -> Option<Reply> + Send + Sync + 'static) -> Collector {
        let taken = self.clone();
        Collector::start(move |heard| judge(heard).unwrap_or_else(|| taken.take(heard)))
    }

    fn take(&self, heard: &Heard) -> Reply {
        let key = heard.header("idempotency-key").to_owned();
        self.0.lock().expect("no panic").push((heard.path.clone(), key, heard.lines()));
        reply(204, "")
    }

    fn requests(&self) -> Vec<Request> {
        self.0.lock().expect("no panic").clone()
    }

    /// All lines, sorted.
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.requests().into_iter().flat_map(|(_, _, lines)| lines).collect();
        lines.sort();
        lines
    }
}

fn yaml(ingest: u16, sink: &str) -> String {
    format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n\
         sinks:\n  hook:\n    type: http\n    inputs: [web]\n    timeout: 10s\n    batch: {{ age: 20ms }}\n    \
         retry: {{ initial: 50ms, max: 200ms }}\n{}",
        sink.lines().map(|line| format!("    {}\n", line.trim())).collect::<String>()
    )
}

/// Numbered events in one body, and the lines that are to arrive.
fn numbered(range: std::ops::Range<usize>) -> (String, Vec<String>) {
    let lines: Vec<String> = range.map(|n| format!("{{\"n\":{}.50}}", 10_000 + n)).collect();
    (lines.join("\n"), lines)
}

fn delivered(agent: &Agent, count: u64) {
    agent.delivered("hook", count);
}

/// State and last error of the sink, and the status of the answer.
fn health(agent: &Agent) -> (String, String, u16) {
    let health = agent.health("hook");
    (health.state, health.last_error, health.status)
}

#[test]
fn events_arrive_as_they_are_with_a_token_a_key_and_gzip() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let server = taken.behind(|heard| {
        assert_eq!(heard.header("content-encoding"), "gzip");
        assert_eq!(heard.header("content-type"), "application/x-ndjson");
        assert_eq!(heard.header("x-team"), "data");
        assert_eq!((&*heard.method, &*heard.path), ("PUT", "/in?a=b"));
        (heard.header("authorization") != "Bearer s3cr3t-token").then(|| reply(401, "who are you"))
    });
    let sink = format!(
        "uri: http://127.0.0.1:{}/in?a=b\nmethod: PUT\ncompression: gzip\nheaders: {{ x-team: data }}\n\
         auth: {{ type: bearer, token: s3cr3t-token }}",
        server.port
    );
    let agent = Agent::start(&folder, &yaml(ingest, &sink));
    let (body, lines) = numbered(0..300);
    post(ingest, &body);
    delivered(&agent, 300);
    assert_eq!(taken.lines(), lines);
    assert!(taken.requests().iter().all(|(_, key, _)| key.len() == 36));
}

#[test]
fn an_answer_that_is_lost_brings_the_same_bytes_with_the_same_key() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let server = taken.behind(|_| None);
    let proxy = Proxy::before(&format!("127.0.0.1:{}", server.port));
    let agent = Agent::start(&folder, &yaml(ingest, &format!("uri: http://127.0.0.1:{}/", proxy.port)));
    proxy.set(Fault::LoseAnswers);
    let (body, lines) = numbered(0..100);
    post(ingest, &body);
    eventually("two answers were lost", || proxy.lost() >= 2);
    proxy.set(Fault::None);
    delivered(&agent, 100);
    let requests = taken.requests();
    assert!(requests.len() >= 3, "{}", requests.len());
    assert!(requests.iter().all(|request| *request == requests[0]), "each was the same");
    assert_eq!(requests[0].2, lines);
    assert!(agent.metric("weir_retries_total", "hook") >= 2);
}

#[test]
fn events_wait_while_the_server_is_away_silent_or_slow_and_none_is_lost() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let server = taken.behind(|_| None);
    let proxy = Proxy::before(&format!("127.0.0.1:{}", server.port));
    let agent = Agent::start(&folder, &yaml(ingest, &format!("uri: http://127.0.0.1:{}/", proxy.port)));
    let faults = [Fault::Refuse, Fault::BlackHole, Fault::Slow(Duration::from_millis(300))];
    for (round, fault) in faults.into_iter().enumerate() {
        proxy.set(fault);
        post(ingest, &numbered(round * 100..(round + 1) * 100).0);
        match fault {
            Fault::Slow(_) => {}
            _ => eventually("the sink says so", || {
                let (state, error, status) = health(&agent);
                state == "retrying" && error.contains("no answer") | error.contains("cannot reach") && status == 200
            }),
        }
        proxy.set(if matches!(fault, Fault::Slow(_)) { fault } else { Fault::None });
        delivered(&agent, (round as u64 + 1) * 100);
    }
    let mut lines = taken.lines();
    lines.dedup();
    assert_eq!(lines, numbered(0..300).1);
    assert_eq!(health(&agent).0, "running");
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let times = Arc::new(Mutex::new(Vec::new()));
    let heard_at = times.clone();
    let server = taken.behind(move |_| {
        let mut times = heard_at.lock().expect("no panic");
        times.push(Instant::now());
        match times.len() {
            1 => Some(reply(429, "slow down").with("retry-after", "1")),
            2 => Some(reply(503, "<html>busy</html>").with("retry-after", "1")),
            _ => None,
        }
    });
    let agent = Agent::start(&folder, &yaml(ingest, &format!("uri: http://127.0.0.1:{}/", server.port)));
    post(ingest, &numbered(0..10).0);
    delivered(&agent, 10);
    let times = times.lock().expect("no panic");
    let second = Duration::from_secs(1);
    assert!(times[1] - times[0] >= second && times[2] - times[1] >= second, "{times:?}");
    assert_eq!((times.len(), taken.lines()), (3, numbered(0..10).1));
}

#[test]
fn wrong_credentials_hold_the_sink_and_lose_nothing() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let fixed = Arc::new(Mutex::new(false));
    let is_fixed = fixed.clone();
    let server = taken.behind(move |heard| {
        // A server that quotes what it was sent.
        let wrong = format!("no such token: {}", heard.header("authorization"));
        (!*is_fixed.lock().expect("no panic")).then(|| reply(401, wrong))
    });
    let sink =
        format!("uri: http://127.0.0.1:{}/\nauth: {{ type: basic, user: ali, password: geheim123 }}", server.port);
    let agent = Agent::start(&folder, &yaml(ingest, &sink));
    post(ingest, &numbered(0..10).0);
    eventually("it is held", || health(&agent).0 == "held");
    let (_, error, status) = health(&agent);
    assert_eq!((&*error, status), ("401 Unauthorized: no such token: Basic ***", 503));
    assert_eq!(agent.metric("weir_events_waiting", "hook"), 10);
    let (works, said) = validate(&folder);
    assert!(!works && said.contains("hook (http): at least once; failed: 401"), "{said}");
    *fixed.lock().expect("no panic") = true;
    delivered(&agent, 10);
    assert_eq!((health(&agent).0, taken.lines()), ("running".into(), numbered(0..10).1));
    assert!(!agent.log().contains("geheim") && !agent.log().contains("YWxpOm"), "{}", agent.log());
}

#[test]
fn poison_is_found_among_many_kept_and_replayed_with_its_id() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let strict = Arc::new(Mutex::new(true));
    let is_strict = strict.clone();
    let server = taken.behind(move |heard| {
        let refuses = *is_strict.lock().expect("no panic") && heard.body.contains("poison");
        refuses.then(|| reply(400, "I do not take poison"))
    });
    let agent = Agent::start(&folder, &yaml(ingest, &format!("uri: http://127.0.0.1:{}/", server.port)));
    let (mut body, mut lines) = numbered(0..200);
    for n in [17, 130] {
        body = body.replace(&lines[n], &lines[n].replace("}", ",\"poison\":true}"));
    }
    post(ingest, &body);
    eventually("both are put aside", || agent.metric("weir_events_dead_lettered_total", "hook") == 2);
    delivered(&agent, 198);
    let poison: Vec<String> = [130, 17].map(|n| lines.remove(n).replace("}", ",\"poison\":true}")).into();
    assert_eq!(taken.lines(), lines, "each of the others once");

    let list = String::from_utf8(agent.weir(&["dlq", "list"]).stdout).expect("text");
    assert_eq!(list.matches("hook").count(), 2, "{list}");
    let id = list.split_whitespace().next().expect("an id").to_owned();
    let shown = String::from_utf8(agent.weir(&["dlq", "show", &id]).stdout).expect("text");
    assert!(shown.contains("400 Bad Request: I do not take poison"), "{shown}");
    let refused = agent.weir(&["dlq", "replay", &id]);
    assert!(!refused.status.success(), "it is still refused");
    *strict.lock().expect("no panic") = false;
    let replayed = agent.weir(&["dlq", "replay", "--all"]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    assert_eq!(agent.metric("weir_events_delivered_total", "hook"), 200);
    lines.extend(poison);
    lines.sort();
    assert_eq!(taken.lines(), lines);
    assert_eq!(agent.weir(&["dlq", "list"]).stdout, b"");
}

#[test]
fn events_choose_their_path_within_bounds_and_one_bad_place_stops_no_other() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let server = taken.behind(|heard| match &*heard.path {
        "/t/c/in" if heard.body.contains("\"n\":2,") => Some(reply(422, "not this one")),
        _ => None,
    });
    let uri = format!(
        "uri: 'http://127.0.0.1:{}/t/{{{{ tenant }}}}/in'\nheaders: {{ x-who: '{{{{ who | - }}}}' }}",
        server.port
    );
    let agent = Agent::start(&folder, &yaml(ingest, &uri));
    let event = |n: usize, tenant: &str| format!("{{\"n\":{n},\"tenant\":\"{tenant}\"}}");
    let tenants = ["a", "b", "c", "..", "a", "c", "../admin", "c"];
    let body: Vec<String> = tenants.iter().enumerate().map(|(n, tenant)| event(n, tenant)).collect();
    post(ingest, &body.join("\n"));
    eventually("two are put aside", || agent.metric("weir_events_dead_lettered_total", "hook") == 2);
    delivered(&agent, 6);
    let mut paths: Vec<String> = taken.requests().into_iter().map(|(path, _, _)| path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths, ["/t/..%2Fadmin/in", "/t/a/in", "/t/b/in", "/t/c/in"]);
    let expected: Vec<String> = [0, 1, 4, 5, 6, 7].map(|n| event(n, tenants[n])).into();
    assert_eq!(taken.lines(), expected, "each once");
}

#[test]
fn oauth2_tokens_are_fetched_kept_and_replaced_when_they_are_refused() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let granted = Arc::new(Mutex::new(0));
    let grants = granted.clone();
    let issuer = Collector::start(move |heard| {
        assert_eq!(heard.header("authorization"), "Basic d2VpcjpnZWhlaW0lMkYxMjM=", "weir:geheim%2F123");
        assert_eq!(heard.body, "grant_type=client_credentials&scope=logs.write&audience=https%3A%2F%2Flogs");
        let mut count = grants.lock().expect("no panic");
        *count += 1;
        reply(
            200,
            format!("{{\"access_token\":\"token-number-{count}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}"),
        )
    });
    let (valid, current) = (Arc::new(Mutex::new(1)), granted.clone());
    let accepted = valid.clone();
    let server = taken.behind(move |heard| {
        let valid = *accepted.lock().expect("no panic");
        (heard.header("authorization") != format!("Bearer token-number-{valid}")).then(|| reply(401, "expired"))
    });
    let sink = format!(
        "uri: http://127.0.0.1:{}/\nauth: {{ type: oauth2, token_url: 'http://127.0.0.1:{}/token', client_id: weir, \
         client_secret: geheim/123, scope: logs.write, audience: 'https://logs' }}",
        server.port, issuer.port
    );
    let agent = Agent::start(&folder, &yaml(ingest, &sink));
    for n in 0..3 {
        post(ingest, &numbered(n..n + 1).0);
        delivered(&agent, n as u64 + 1);
    }
    assert_eq!(*current.lock().expect("no panic"), 1, "one token did for all");
    *valid.lock().expect("no panic") = 2;
    post(ingest, &numbered(3..4).0);
    delivered(&agent, 4);
    assert_eq!(*current.lock().expect("no panic"), 2);
    assert_eq!(agent.metric("weir_retries_total", "hook"), 0, "nobody noticed");
    assert_eq!(taken.lines(), numbered(0..4).1);
}

#[test]
fn a_signed_request_can_be_checked_by_who_has_the_key() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let server = taken.behind(|heard| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"geheim");
        let signed = [heard.header("x-time").as_bytes(), b".", &heard.raw].concat();
        let digits = heard.header("x-signature-256").strip_prefix("sha256=").expect("it says how");
        let bytes: Vec<u8> =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex")).collect();
        aws_lc_rs::hmac::verify(&key, &signed, &bytes).is_err().then(|| reply(401, "forged"))
    });
    let sink = format!(
        "uri: http://127.0.0.1:{}/\ncompression: zstd\nauth: {{ type: hmac, key: geheim, timestamp_header: x-time }}",
        server.port
    );
    let agent = Agent::start(&folder, &yaml(ingest, &sink));
    post(ingest, &numbered(0..50).0);
    delivered(&agent, 50);
    assert_eq!(taken.lines(), numbered(0..50).1);
}

#[test]
fn both_sides_show_certificates_and_a_stranger_is_not_trusted() {
    let (folder, ingest, taken, papers) = (Folder::new(), free_port(), Taken::default(), Papers::new());
    let kept = taken.clone();
    let server = Collector::start_tls(&papers, move |heard| kept.take(heard));
    let path = |name: &str| papers.path(name).display().to_string();
    let uri = format!("uri: https://localhost:{}/", server.port);
    let tls = format!(
        "tls: {{ ca: '{}', cert: '{}', key: '{}' }}",
        path("server.pem"),
        path("client.pem"),
        path("client.key")
    );
    let stranger = tls.replace("server.pem", "client.pem");
    let agent = Agent::start(&folder, &yaml(ingest, &format!("{uri}\n{stranger}")));
    post(ingest, &numbered(0..5).0);
    eventually("it is not trusted", || health(&agent).0 == "held" && health(&agent).1.contains("TLS error with"));
    assert!(taken.requests().is_empty());
    agent.configure(&folder, &yaml(ingest, &format!("{uri}\n{tls}")));
    agent.signal("-HUP");
    delivered(&agent, 5);
    assert_eq!(taken.lines(), numbered(0..5).1);
    let (works, said) = validate(&folder);
    assert!(works && said.contains("hook (http): at least once; works"), "{said}");
    let options = taken.requests().pop().expect("validate has knocked");
    assert_eq!(options.2, Vec::<String>::new(), "and sent nothing");
}

#[test]
fn a_proxy_forwards_what_the_frame_sends_through_it() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let proxy = taken.behind(|heard| {
        assert_eq!(heard.path, "http://logs.example/in");
        assert_eq!(heard.header("host"), "logs.example");
        (heard.header("proxy-authorization") != "Basic YWxpOmdlaGVpbQ==").then(|| reply(407, "who are you"))
    });
    let sink = format!("uri: http://logs.example/in\nproxy: http://ali:geheim@127.0.0.1:{}", proxy.port);
    let agent = Agent::start(&folder, &yaml(ingest, &sink));
    post(ingest, &numbered(0..5).0);
    delivered(&agent, 5);
    assert_eq!(taken.lines(), numbered(0..5).1);
}

#[test]
fn one_weir_feeds_another_which_says_what_it_will_not_take() {
    let (first_folder, second_folder) = (Folder::new(), Folder::new());
    let (ingest, between) = (free_port(), free_port());
    let second = Agent::start(
        &second_folder,
        &format!(
            "limits: {{ event: 1 KiB }}\n\
             sources:\n  web: {{ type: http, address: '127.0.0.1:{between}', \
             auth: {{ type: bearer, tokens: {{ first: between-the-two }} }} }}\n\
             sinks:\n  out: {{ type: file, inputs: [web], path: '{}/out.ndjson', batch: {{ age: 20ms }} }}\n",
            second_folder.0.display()
        ),
    );
    let proxy = Proxy::before(&format!("127.0.0.1:{between}"));
    let sink = format!(
        "uri: http://127.0.0.1:{}/\ncompression: zstd\nauth: {{ type: bearer, token: between-the-two }}",
        proxy.port
    );
    let first = Agent::start(&first_folder, &yaml(ingest, &sink));
    let large = format!("{{\"n\":\"{}\"}}", "x".repeat(2000));
    let (body, lines) = numbered(0..500);
    proxy.set(Fault::LoseAnswers);
    post(ingest, &body);
    eventually("answers were lost", || proxy.lost() >= 2);
    proxy.set(Fault::None);
    delivered(&first, 500);
    post(ingest, &large);
    eventually("the large one is put aside", || first.metric("weir_events_dead_lettered_total", "hook") == 1);
    delivered(&first, 500);
    eventually("the second has written them", || second.metric("weir_events_delivered_total", "out") >= 500);
    second.assert_books();
    let mut written = crate::support::lines_of(&second_folder.0, "out.ndjson");
    written.sort();
    let stamped: Vec<String> = lines.iter().map(|line| line.replace('}', ",\"reported_by\":\"first\"}")).collect();
    assert!(written == stamped, "each once, thanks to the key: {} of {}", written.len(), stamped.len());
}

#[test]
fn a_path_that_came_out_of_a_variable_is_shown_nowhere() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    // A server that quotes what it was asked for.
    let server = taken.behind(|heard| {
        heard.path.ends_with("/b").then(|| reply(404, format!("no such path {} (T0K3N-of-the-hook)", heard.path)))
    });
    let uri = "uri: '${WEBHOOK}/{{ tenant }}'";
    let hook = format!("http://127.0.0.1:{}/services/T0K3N-of-the-hook", server.port);
    let agent = Agent::start_with(&folder, &yaml(ingest, uri), &[("WEBHOOK", &hook)]);
    let body: String = (0..20).map(|n| format!("{{\"n\":{n},\"tenant\":\"{}\"}}\n", ["a", "b"][n % 2])).collect();
    post(ingest, &body);
    eventually("it is parked", || health(&agent).0 == "degraded");
    eventually("the others are there", || taken.lines().len() == 10);
    let listed = agent.weir(&["dlq", "list"]).stdout;
    let shown = agent.weir(&["dlq", "show", &agent.letters()[0]]).stdout;
    let said =
        [health(&agent).1, agent.log(), String::from_utf8_lossy(&[listed, shown].concat()).into_owned()].concat();
    assert!(said.contains("404") && !said.contains("T0K3N"), "{said}");
}

#[test]
fn an_answer_of_any_length_is_an_answer() {
    let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
    let kept = taken.clone();
    let long = "<p>welcome</p>".repeat(2 << 20);
    let server = Collector::start(move |heard| {
        kept.take(heard);
        reply(200, long.clone())
    });
    let agent = Agent::start(&folder, &yaml(ingest, &format!("uri: http://127.0.0.1:{}/", server.port)));
    post(ingest, &numbered(0..10).0);
    delivered(&agent, 10);
    assert_eq!(taken.lines(), numbered(0..10).1, "each once");
}

#[test]
fn one_event_that_a_firewall_refuses_stops_no_other() {
    for batch in [1, 1000] {
        let (folder, ingest, taken) = (Folder::new(), free_port(), Taken::default());
        let server = taken.behind(|heard| heard.body.contains("DROP TABLE").then(|| reply(403, "blocked by a rule")));
        let uri = format!("uri: http://127.0.0.1:{}/", server.port);
        let text =
            yaml(ingest, &uri).replace("batch: { age: 20ms }", &format!("batch: {{ age: 20ms, events: {batch} }}"));
        let agent = Agent::start(&folder, &text);
        let (body, mut lines) = numbered(0..20);
        post(ingest, &body.replace("10000.50", "\"DROP TABLE\""));
        eventually("it is put aside", || agent.metric("weir_events_dead_lettered_total", "hook") == 1);
        delivered(&agent, 19);
        lines.remove(0);
        assert_eq!(taken.lines(), lines, "each of the others once");
    }
}
