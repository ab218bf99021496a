//! The sink `elasticsearch` before real servers, counted from outside.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::proxy::{Fault, Proxy};
use crate::support::search::{Mishap, Search, Simulator};
use crate::support::services::{Services, service};
use crate::support::{Agent, Folder, eventually, free_port, post, request};
use serde_json::json;

/// A name that no other test has, and none had before.
fn unique(word: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros();
    format!("{word}-{now:x}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An agent with an HTTP source and the sink `search`, impatient.
struct Pipeline {
    folder: Folder,
    port: u16,
    agent: Agent,
}

fn yaml(port: u16, url: &str, index: &str, more: &str) -> String {
    format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         sinks:\n  search:\n    type: elasticsearch\n    inputs: [web]\n    endpoints: ['{url}']\n    index: '{index}'\n    \
         batch: {{ age: 50ms }}\n    retry: {{ initial: 100ms, max: 500ms }}\n{more}"
    )
}

impl Pipeline {
    fn start(url: &str, index: &str, more: &str) -> Pipeline {
        let (folder, port) = (Folder::new(), free_port());
        let agent = Agent::start(&folder, &yaml(port, url, index, more));
        Pipeline { folder, port, agent }
    }

    /// Posts events that only have a number.
    fn send(&self, numbers: std::ops::Range<u64>) {
        let body: String = numbers.clone().map(|n| format!("{{\"n\":{n}}}\n")).collect();
        assert_eq!(post(self.port, &body), numbers.end - numbers.start);
    }

    fn metric(&self, name: &str) -> u64 {
        self.agent.metric(name, "search")
    }

    fn delivers(&self, count: u64) {
        eventually(&format!("{count} are delivered"), || self.metric("weir_events_delivered_total") == count);
        self.agent.assert_books();
    }

    fn is_held(&self) -> bool {
        request(self.agent.api, "GET", "/health?sinks", &[], b"").expect("an answer").status == 503
    }

    /// What the agent tells of the sink.
    fn health(&self) -> String {
        request(self.agent.api, "GET", "/health", &[], b"").expect("an answer").text()
    }

    fn dlq(&self, arguments: &[&str]) -> String {
        let url = format!("http://127.0.0.1:{}", self.agent.api);
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        weir.arg("dlq").args(arguments).args(["--url", &url, "--token", &self.agent.token()]);
        let out = weir.output().expect("weir runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    }
}

/// `weir validate` of a pipeline: whether all is well, and what it says.
fn validate(url: &str, index: &str, more: &str) -> (bool, String) {
    let folder = Folder::new();
    let config = folder.write("weir.yaml", &yaml(free_port(), url, index, more));
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["validate", "--data-dir"])
        .arg(folder.path("data"))
        .arg("-c")
        .arg(config)
        .output()
        .expect("weir runs");
    (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

fn with_ca(more: &str) -> String {
    format!("    tls: {{ ca: '{}' }}\n{more}", service("WEIR_TEST_ELASTICSEARCH_CA"))
}

const SERVERS: [fn() -> Search; 2] = [Search::elasticsearch, Search::opensearch];

#[test]
fn an_event_is_there_once_under_its_id_however_often_it_is_sent() {
    for server in SERVERS {
        let (server, index) = (server(), unique("plain"));
        let pipeline = Pipeline::start(&server.url, &index, "");
        let event = |n: u64| {
            format!("{{\"id\":\"0195e0a0-0000-7000-8000-{n:012}\",\"timestamp\":\"2025-01-31T08:00:00Z\",\"n\":{n}}}\n")
        };
        let body: String = (0..1000).map(event).collect();
        post(pipeline.port, &body);
        pipeline.delivers(1000);
        post(pipeline.port, &body);
        eventually("the repeats are known", || pipeline.metric("weir_duplicates_ignored_total") == 1000);
        pipeline.delivers(2000);
        assert_eq!(server.numbers(&index), (0..1000).collect::<Vec<_>>());
        let document = server.get(&index, "0195e0a0-0000-7000-8000-000000000007");
        assert_eq!(
            document,
            json!({"@timestamp": "2025-01-31T08:00:00Z", "id": "0195e0a0-0000-7000-8000-000000000007",
                   "timestamp": "2025-01-31T08:00:00Z", "n": 7})
        );
        assert!(pipeline.agent.stop().success());
    }
}

/// Posts one event after another until each has ended: repeats and others of one id, and one that is new.
fn sends_repeats_and_conflicts(pipeline: &Pipeline) {
    let id = "0195e0a0-0000-7000-8000-00000000000a";
    let bodies = [("1", 1, 0), ("1.0", 1, 1), ("1", 2, 1), ("2", 2, 2), ("\"1\"", 2, 3)];
    let mut sent = 0;
    for (k, delivered, dropped) in bodies {
        sent += 1;
        assert_eq!(
            post(
                pipeline.port,
                &format!("{{\"id\":\"{id}\",\"received_at\":\"2025-01-31T08:00:0{sent}Z\",\"k\":{k}}}")
            ),
            1
        );
        pipeline.delivers(delivered);
        eventually("the others are dropped", || pipeline.metric("weir_events_dropped_total") == dropped);
    }
    // In one request, beside one that is new: the second of them is a repeat of the first.
    let event = |n: u64, k: u64| format!("{{\"id\":\"0195e0a0-0000-7000-8000-{n:012}\",\"k\":{k}}}\n");
    let body: String = [(1, 1), (1, 1), (1, 2), (10, 9), (2, 2)].map(|(n, k)| event(n, k)).concat();
    assert_eq!(post(pipeline.port, &body.replace("000000000010", "00000000000a")), 5);
    pipeline.delivers(5);
    assert_eq!(pipeline.metric("weir_duplicates_ignored_total"), 2);
    let dropped = pipeline.agent.assert_books();
    let cause = |name: &str| name.starts_with("weir_events_dropped_total{") && name.contains("cause=\"id_conflict\"");
    assert_eq!(dropped.iter().find(|(name, _)| cause(name)).map(|(_, count)| *count), Some(5.0));
    assert!(pipeline.agent.log().contains("are there with other content"));
}

#[test]
fn the_same_id_with_other_content_is_a_counted_conflict_and_no_repeat() {
    for server in SERVERS {
        let server = server();
        sends_repeats_and_conflicts(&Pipeline::start(&server.url, &unique("plain"), ""));
        sends_repeats_and_conflicts(&Pipeline::start(&server.url, &unique("ecs"), "    encoding: ecs\n"));
        sends_repeats_and_conflicts(&Pipeline::start(&server.url, &format!("{}-%Y", unique("year")), ""));
        let (alias, behind) = (unique("alias"), unique("behind"));
        server.must("PUT", &format!("/{behind}"), Some(json!({"aliases": {&alias: {"is_write_index": true}}})));
        sends_repeats_and_conflicts(&Pipeline::start(&server.url, &alias, ""));
        let stream = "    install_template: true\n    data_stream: true\n";
        sends_repeats_and_conflicts(&Pipeline::start(&server.url, &unique("stream"), stream));
        // Whatever changes documents on their way, nothing can be told.
        let index = unique("sparse");
        let mappings = json!({"mappings": {"_source": {"excludes": ["k"]}}});
        server.must("PUT", &format!("/{index}"), Some(mappings));
        let pipeline = Pipeline::start(&server.url, &index, "");
        for k in 1..3 {
            post(pipeline.port, &format!("{{\"id\":\"0195e0a0-0000-7000-8000-00000000000a\",\"k\":{k}}}"));
            pipeline.delivers(k);
        }
        assert_eq!(pipeline.metric("weir_duplicates_ignored_total"), 1);
    }
}

#[test]
fn without_an_answer_about_what_is_there_an_id_that_is_there_is_a_repeat() {
    let simulator = Simulator::start();
    let pipeline = simulated(&simulator, "");
    sends_repeats_and_conflicts(&pipeline);
    simulator.hide(true);
    assert_eq!(post(pipeline.port, "{\"id\":\"0195e0a0-0000-7000-8000-00000000000a\",\"k\":77}"), 1);
    pipeline.delivers(6);
    assert_eq!(pipeline.metric("weir_duplicates_ignored_total"), 3);
}

#[test]
fn an_index_of_the_day_has_the_mappings_of_the_template() {
    for (server, flat) in SERVERS.iter().zip(["flattened", "flat_object"]) {
        let (server, name) = (server(), unique("day"));
        let index = format!("{name}-%Y.%m.%d");
        let pipeline = Pipeline::start(&server.url, &index, "    install_template: true\n");
        let event = |time: &str, more: &str| format!("{{\"timestamp\":\"{time}\"{more}}}\n");
        let huge =
            format!(",\"metadata\":{{\"note\":\"{}\",\"n\":[1,null]}},\"user_agent\":\"{0}\"", "x".repeat(40_000));
        let body = [
            event(
                "2025-01-31T23:59:59Z",
                ",\"code\":\"df = pd.read_csv('sales.csv')\",\"user_id\":\"ali\",\"ip_address\":\"10.0.0.1\"",
            ),
            event(
                "2025-01-31T00:30:00+01:00",
                ",\"ip_address\":\"unknown\",\"duration_ms\":\"fast\",\"cell_number\":\"x\"",
            ),
            event("2025-02-01T00:00:00Z", if flat == "flattened" { &huge } else { ",\"metadata\":{\"note\":\"x\"}" }),
        ];
        post(pipeline.port, &body.concat());
        pipeline.delivers(3);
        assert_eq!(pipeline.metric("weir_events_dead_lettered_total"), 0);
        let days = ["2025.01.30", "2025.01.31", "2025.02.01"].map(|day| format!("{name}-{day}"));
        assert_eq!(days.each_ref().map(|index| server.count(index)), [1, 1, 1]);
        let mappings = server.must("GET", &format!("/{}/_mapping", days[1]), None);
        let properties = &mappings[&days[1]]["mappings"]["properties"];
        let kind = |field: &str| properties[field]["type"].as_str().unwrap_or("").to_owned();
        assert_eq!(
            ["metadata", "code", "user_id", "ip_address", "@timestamp"].map(kind),
            [flat, "text", "keyword", "ip", "date"]
        );
        for (field, text) in [("code", "read_csv"), ("code", "PD"), ("user_id", "ali"), ("ip_address", "10.0.0.0/8")] {
            let query = json!({"query": {"match": {field: text}}});
            let found = server.must("POST", &format!("/{}/_search", days[1]), Some(query));
            assert_eq!(found["hits"]["hits"].as_array().map(Vec::len), Some(1), "{field} {text}: {found}");
        }
        // A template that somebody changed stays as it is.
        let path = format!("/_index_template/weir-{name}");
        let mut template = server.must("GET", &path, None)["index_templates"][0]["index_template"].clone();
        assert_eq!(template["template"]["mappings"]["_meta"]["made_by"], "weir");
        template["priority"] = json!(251);
        server.must("PUT", &path, Some(template));
        assert!(pipeline.agent.stop().success());
        let agent =
            Agent::start(&pipeline.folder, &yaml(pipeline.port, &server.url, &index, "    install_template: true\n"));
        post(pipeline.port, &body[0]);
        eventually("it delivers again", || agent.metric("weir_events_delivered_total", "search") == 4);
        assert_eq!(server.must("GET", &path, None)["index_templates"][0]["index_template"]["priority"], 251);
    }
}

#[test]
fn a_data_stream_is_made_from_the_template_and_filled() {
    for server in SERVERS {
        let (server, name) = (server(), unique("stream"));
        let pipeline = Pipeline::start(&server.url, &name, "    install_template: true\n    data_stream: true\n");
        pipeline.send(0..500);
        pipeline.delivers(500);
        assert_eq!(server.numbers(&name), (0..500).collect::<Vec<_>>());
        let indices = server.must("GET", &format!("/{name}"), None);
        let backing = indices.as_object().and_then(|indices| indices.keys().next()).expect("one index").clone();
        assert!(backing.starts_with(&format!(".ds-{name}-")), "{backing}");
        let (works, said) = validate(&server.url, &name, "    data_stream: true\n");
        assert!(works && said.contains("at least once"), "{said}");
        let (works, said) = validate(&server.url, &unique("plain"), "");
        assert!(works && said.contains("effectively once"), "{said}");
    }
}

/// The minimal Elasticsearch of the tests has no requests about data streams; OpenSearch has.
#[test]
fn nothing_is_written_into_an_index_where_a_data_stream_is_wanted() {
    let (server, plain) = (Search::opensearch(), unique("plain"));
    server.must("PUT", &format!("/{plain}"), None);
    let (works, said) = validate(&server.url, &plain, "    data_stream: true\n");
    assert!(!works && said.contains("not a data stream"), "{said}");
    let name = unique("streamless");
    let pipeline = Pipeline::start(&server.url, &name, "    data_stream: true\n");
    pipeline.send(0..1);
    eventually("it is held", || pipeline.is_held());
    assert!(pipeline.health().contains("no matching index template"), "{}", pipeline.health());
    assert_eq!(server.ask("GET", &format!("/{name}"), None).0, 404);
}

#[test]
fn dashboards_find_the_names_of_the_common_schema() {
    for server in SERVERS {
        let (server, index) = (server(), unique("ecs"));
        let pipeline = Pipeline::start(&server.url, &index, "    encoding: ecs\n    install_template: true\n");
        post(
            pipeline.port,
            "{\"timestamp\":\"2025-01-31T08:00:00Z\",\"username\":\"ali\",\"action\":\"login\",\"duration_ms\":12.5,\
             \"ip_address\":\"10.0.0.1\",\"status\":\"error\",\"code\":\"a.b\",\"metadata\":{\"k\":1}}\n\
             {\"timestamp\":\"2025-01-31T09:00:00Z\",\"user_id\":\"eve\",\"ip_address\":\"?\",\"status_code\":\"x\"}\n",
        );
        pipeline.delivers(2);
        assert_eq!(server.count(&index), 2);
        for (field, value) in [
            ("user.id", json!("ali")),
            ("event.action", json!("login")),
            ("event.duration", json!(12_500_000)),
            ("event.outcome", json!("failure")),
            ("source.ip", json!("10.0.0.0/8")),
            ("@timestamp", json!("2025-01-31T08:00:00Z")),
            ("weir.metadata.k", json!("1")),
        ] {
            let query = json!({"query": {"term": {field: value}}});
            let found = server.must("POST", &format!("/{index}/_search"), Some(query));
            assert_eq!(found["hits"]["hits"].as_array().map(Vec::len), Some(1), "{field}: {found}");
        }
    }
}

#[test]
fn one_event_that_does_not_fit_is_a_dead_letter_and_can_be_sent_again() {
    for server in SERVERS {
        let (server, index) = (server(), unique("mapping"));
        let mapping = json!({"mappings": {"properties": {"n": {"type": "long"}}}});
        server.must("PUT", &format!("/{index}"), Some(mapping));
        let pipeline = Pipeline::start(&server.url, &index, "");
        let number = |n: u64| if n == 500 { "\"many\"".to_owned() } else { n.to_string() };
        post(pipeline.port, &(0..1000).map(|n| format!("{{\"n\":{}}}\n", number(n))).collect::<String>());
        pipeline.delivers(999);
        assert_eq!(pipeline.metric("weir_events_dead_lettered_total"), 1);
        assert_eq!(server.count(&index), 999);
        let list = pipeline.dlq(&["list"]);
        assert_eq!(list.lines().count(), 1, "{list}");
        let id = list.split_whitespace().next().expect("an id").to_owned();
        let letter = pipeline.dlq(&["show", &id]);
        assert!(letter.contains("failed to parse field [n] of type [long]") && letter.contains("many"), "{letter}");
        assert!(letter.contains("parsing_exception"), "{letter}");
        let lenient = json!({"properties": {"n": {"type": "long", "ignore_malformed": true}}});
        server.must("PUT", &format!("/{index}/_mapping"), Some(lenient));
        pipeline.dlq(&["replay", &id]);
        assert_eq!(pipeline.dlq(&["list"]), "");
        assert_eq!(server.count(&index), 1000);
        pipeline.agent.assert_books();
    }
}

#[test]
fn what_no_search_server_takes_is_set_aside_and_the_rest_goes_on() {
    for server in SERVERS {
        let (server, index) = (server(), unique("limits"));
        server.must(
            "PUT",
            &format!("/{index}"),
            Some(json!({"mappings": {"properties": {"word": {"type": "keyword"}}}})),
        );
        let pipeline = Pipeline::start(&server.url, &index, "");
        let fields: Vec<String> = (0..1100).map(|n| format!("\"f{n}\":1")).collect();
        let deep = format!("{}1{}", "{\"a\":".repeat(30), "}".repeat(30));
        let bad = [
            format!("{{\"metadata\":{{{}}}}}", fields.join(",")),
            format!("{{\"deep\":{deep}}}"),
            format!("{{\"word\":\"{}\"}}", "x".repeat(33_000)),
            "{\"big\":184467440737095516160}".to_owned(),
            "{\"_id\":\"x\"}".to_owned(),
            "{\"same\":1,\"same\":2}".to_owned(),
        ];
        let good: String = (0..200).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        post(pipeline.port, &format!("{}{}\n", good, bad.join("\n")));
        pipeline.delivers(200);
        assert_eq!(pipeline.metric("weir_events_dead_lettered_total"), bad.len() as u64, "{}", pipeline.dlq(&["list"]));
        assert_eq!(server.numbers(&index), (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn an_event_cannot_write_into_another_index() {
    let server = Search::elasticsearch();
    let (name, victim) = (unique("tenant"), unique("victim"));
    server.must("PUT", &format!("/{victim}/_doc/1"), Some(json!({"n": 1})));
    let pipeline = Pipeline::start(&server.url, &format!("{name}-{{{{ tenant }}}}"), "");
    let forged = json!({"tenant": format!("a\"}}}}\n{{\"delete\":{{\"_index\":\"{victim}\",\"_id\":\"1\"}}}}\n{{\"create\":{{\"_index\":\"a")});
    let traversal = json!({"tenant": format!("../{victim}")});
    let list = json!({"tenant": format!("a,{victim}")});
    let good: String = (0..10).map(|n| format!("{{\"tenant\":\"acme\",\"n\":{n}}}\n")).collect();
    post(pipeline.port, &format!("{good}{forged}\n{traversal}\n{list}\n{{\"n\":1}}\n"));
    pipeline.delivers(10);
    assert_eq!(pipeline.metric("weir_events_dead_lettered_total"), 4);
    assert_eq!(server.numbers(&format!("{name}-acme")), (0..10).collect::<Vec<_>>());
    assert_eq!(server.numbers(&victim), [1]);
}

#[test]
fn a_read_only_index_holds_the_sink_until_it_takes_writes_again() {
    for server in SERVERS {
        let (server, index) = (server(), unique("block"));
        let pipeline = Pipeline::start(&server.url, &index, "");
        pipeline.send(0..10);
        pipeline.delivers(10);
        let settings = format!("/{index}/_settings");
        server.must("PUT", &settings, Some(json!({"index.blocks.read_only_allow_delete": true})));
        pipeline.send(10..110);
        eventually("it is held", || pipeline.is_held());
        let health = pipeline.health();
        assert!(health.contains("cluster_block_exception"), "{health}");
        let (works, said) = validate(&server.url, &index, "");
        assert!(!works && said.contains("read_only_allow_delete"), "{said}");
        assert_eq!((pipeline.metric("weir_events_waiting"), server.count(&index)), (100, 10));
        pipeline.agent.assert_books();
        server.must("PUT", &settings, Some(json!({"index.blocks.read_only_allow_delete": null})));
        pipeline.delivers(110);
        assert_eq!(server.numbers(&index), (0..110).collect::<Vec<_>>());
        assert_eq!(pipeline.metric("weir_events_dead_lettered_total"), 0);
        assert!(!pipeline.is_held());
    }
}

#[test]
fn a_missing_or_closed_index_parks_what_belongs_there_and_nothing_else() {
    let server = Search::elasticsearch();
    let rule = json!({"persistent": {"action.auto_create_index": "-missing-*,+*"}});
    server.must("PUT", "/_cluster/settings", Some(rule));
    let name = unique("missing");
    server.must("PUT", &format!("/{name}-a"), None);
    let pipeline = Pipeline::start(&server.url, &format!("{name}-{{{{ t }}}}"), "");
    post(pipeline.port, "{\"t\":\"a\",\"n\":1}\n{\"t\":\"b\",\"n\":2}\n{\"t\":\"a\",\"n\":3}\n");
    eventually("it is parked", || pipeline.health().contains("1 event is parked for"));
    assert!(pipeline.health().contains("index_not_found_exception"), "{}", pipeline.health());
    assert_eq!(server.numbers(&format!("{name}-a")), [1, 3]);
    assert!(!pipeline.is_held());
    server.must("PUT", &format!("/{name}-b"), None);
    pipeline.delivers(3);
    assert_eq!(server.numbers(&format!("{name}-b")), [2]);
    server.must("POST", &format!("/{name}-a/_close"), None);
    post(pipeline.port, "{\"t\":\"a\",\"n\":4}\n");
    eventually("it is parked, too", || pipeline.health().contains("index_closed_exception"));
    assert!(!pipeline.is_held());
    server.must("POST", &format!("/{name}-a/_open"), None);
    pipeline.delivers(4);
    assert_eq!(server.numbers(&format!("{name}-a")), [1, 3, 4]);
    assert_eq!(pipeline.metric("weir_events_dead_lettered_total"), 0);
}

#[test]
fn a_blocked_index_beside_one_that_works_gets_each_of_its_events_once_after_a_kill() {
    for server in SERVERS {
        let (server, name) = (server(), unique("beside"));
        let (good, bad) = (format!("{name}-a"), format!("{name}-b"));
        server.must("PUT", &format!("/{good}"), None);
        server.must("PUT", &format!("/{bad}"), None);
        let settings = format!("/{bad}/_settings");
        server.must("PUT", &settings, Some(json!({"index.blocks.write": true})));
        let index = format!("{name}-{{{{ t }}}}");
        let Pipeline { folder, port, agent } = Pipeline::start(&server.url, &index, "");
        let mixed = |from: u64| -> String {
            (from..from + 100).map(|n| format!("{{\"t\":\"{}\",\"n\":{n}}}\n", ["a", "b"][n as usize % 2])).collect()
        };
        for round in 0..3 {
            post(port, &mixed(round * 100));
            eventually("the other index does not wait", || server.count(&good) == (round + 1) * 50);
        }
        eventually("they are parked", || agent.metric("weir_events_waiting", "search") == 150);
        agent.assert_books();
        agent.kill();
        let agent = Agent::start(&folder, &yaml(port, &server.url, &index, ""));
        let pipeline = Pipeline { folder, port, agent };
        post(port, &mixed(300));
        eventually("nobody waits", || server.count(&good) == 200);
        assert!(!pipeline.is_held());
        server.must("PUT", &settings, Some(json!({"index.blocks.write": null})));
        pipeline.delivers(400);
        assert_eq!(server.numbers(&bad), (0..400).filter(|n| n % 2 == 1).collect::<Vec<_>>());
        assert_eq!(server.numbers(&good), (0..400).filter(|n| n % 2 == 0).collect::<Vec<_>>());
        assert_eq!((pipeline.metric("weir_events_waiting"), pipeline.dlq(&["list"])), (0, String::new()));
    }
}

#[test]
fn passwords_and_service_tokens_work_over_tls_and_wrong_ones_hold() {
    let (server, index) = (Search::secured(), unique("secured"));
    let basic = |password: &str| with_ca(&format!("    auth: {{ type: basic, user: weir, password: '{password}' }}\n"));
    let pipeline = Pipeline::start(&server.url, &index, &basic("not-the-password"));
    pipeline.send(0..100);
    eventually("it is held", || pipeline.is_held());
    let health = pipeline.health();
    assert!(health.contains("401") && health.contains("unable to authenticate"), "{health}");
    for shown in [health, pipeline.agent.log(), format!("{:?}", pipeline.agent.metrics())] {
        assert!(!shown.contains("not-the-password"), "{shown}");
    }
    assert_eq!(server.count(&index), 0);
    let right = basic(&service("WEIR_TEST_ELASTICSEARCH_PASSWORD"));
    pipeline.agent.configure(&pipeline.folder, &yaml(pipeline.port, &server.url, &index, &right));
    pipeline.agent.signal("-HUP");
    pipeline.delivers(100);
    assert_eq!(server.numbers(&index), (0..100).collect::<Vec<_>>());

    // This token may write to `logs-*` and nowhere else.
    let token = service("WEIR_TEST_ELASTICSEARCH_SERVICE_TOKEN");
    let bearer = with_ca(&format!("    auth: {{ type: bearer, token: '{token}' }}\n"));
    let stream = unique("logs-weir");
    let pipeline = Pipeline::start(&server.url, &stream, &bearer);
    pipeline.send(0..50);
    pipeline.delivers(50);
    assert_eq!(server.numbers(&stream), (0..50).collect::<Vec<_>>());
    let other = Pipeline::start(&server.url, &unique("other"), &bearer);
    other.send(0..50);
    eventually("it is held", || other.is_held());
    assert!(other.health().contains("grant it `create_doc`"), "{}", other.health());
    assert_eq!((other.metric("weir_events_waiting"), other.metric("weir_events_dead_lettered_total")), (50, 0));
}

#[test]
fn validate_tells_what_is_wrong_and_changes_nothing() {
    let (open, secured) = (Search::elasticsearch(), Search::secured());
    let basic = "    auth: { type: basic, user: weir, password: 'weir-secret' }\n";
    let index = unique("validate");
    let (works, said) = validate(&open.url, &index, "    install_template: true\n");
    assert!(works && said.contains("Elasticsearch") && said.contains("will be installed"), "{said}");
    assert_eq!(open.ask("GET", &format!("/{index}"), None).0, 404);
    assert_eq!(open.ask("GET", &format!("/_index_template/weir-{index}"), None).0, 404);
    let (works, said) = validate(&Search::opensearch().url, &index, "");
    assert!(works && said.contains("OpenSearch 2."), "{said}");
    let (works, said) = validate(&secured.url, &index, &with_ca(basic));
    assert!(works && said.contains("Elasticsearch"), "{said}");
    let (works, said) = validate(&secured.url, &index, basic);
    assert!(!works && said.contains("TLS error with"), "{said}");
    let (works, said) = validate(&secured.url, &index, &with_ca(""));
    assert!(!works && said.contains("401"), "{said}");
    let (works, said) = validate("http://127.0.0.1:1", &index, "");
    assert!(!works && said.contains("cannot reach `127.0.0.1:1`: connection refused"), "{said}");
    let (works, said) = validate(&open.url, &index, "    pipeline: nobody-made-it\n");
    assert!(!works && said.contains("no ingest pipeline `nobody-made-it`"), "{said}");
}

#[test]
fn an_answer_that_is_lost_makes_no_second_document() {
    for server in SERVERS {
        let (server, index) = (server(), unique("lost"));
        let proxy = Proxy::before(server.address());
        let pipeline = Pipeline::start(&format!("http://127.0.0.1:{}", proxy.port), &index, "");
        pipeline.send(0..10);
        pipeline.delivers(10);
        for round in 0..5 {
            let (first, lost) = (10 + round * 100, proxy.lost());
            proxy.set(Fault::LoseAnswers);
            pipeline.send(first..first + 100);
            eventually("they are written", || server.count(&index) == first + 100);
            // Documents can be counted before their answer has left the server.
            eventually("the answer is lost", || proxy.lost() > lost);
            assert_eq!(pipeline.metric("weir_events_delivered_total"), first);
            proxy.set(Fault::None);
            pipeline.delivers(first + 100);
        }
        assert_eq!(pipeline.metric("weir_duplicates_ignored_total"), 500);
        assert_eq!(server.numbers(&index), (0..510).collect::<Vec<_>>());
    }
}

#[test]
fn a_slow_and_a_silent_server_are_waited_for_with_a_bound() {
    let (server, index) = (Search::elasticsearch(), unique("slow"));
    let proxy = Proxy::before(server.address());
    let pipeline = Pipeline::start(&format!("http://127.0.0.1:{}", proxy.port), &index, "    timeout: 1s\n");
    proxy.set(Fault::Slow(Duration::from_millis(200)));
    pipeline.send(0..100);
    pipeline.delivers(100);
    proxy.set(Fault::BlackHole);
    pipeline.send(100..200);
    eventually("the silence is told", || pipeline.health().contains("within"));
    assert_eq!(pipeline.metric("weir_events_waiting"), 100);
    proxy.set(Fault::Refuse);
    eventually("the refusal is told", || pipeline.health().contains("127.0.0.1"));
    proxy.set(Fault::None);
    pipeline.delivers(200);
    assert_eq!(server.numbers(&index), (0..200).collect::<Vec<_>>());
}

#[test]
pub fn a_server_that_is_killed_and_comes_back_has_every_event_once() {
    let servers = Services::start("elasticsearch-killed", &["elasticsearch"]);
    let server = Search::at(&servers.get("WEIR_TEST_ELASTICSEARCH"));
    let index = unique("killed");
    let pipeline = Pipeline::start(&server.url, &index, "");
    let mut next = 0;
    for _ in 0..2 {
        for _ in 0..10 {
            pipeline.send(next..next + 50);
            next += 50;
        }
        servers.kill("elasticsearch");
        for _ in 0..10 {
            pipeline.send(next..next + 50);
            next += 50;
        }
        servers.resume("elasticsearch");
    }
    pipeline.delivers(next);
    assert_eq!(server.numbers(&index), (0..next).collect::<Vec<_>>());
    assert_eq!(pipeline.metric("weir_events_dead_lettered_total"), 0);
}

fn simulated(simulator: &Simulator, more: &str) -> Pipeline {
    Pipeline::start(&format!("http://127.0.0.1:{}", simulator.port), "events", more)
}

#[test]
fn an_overloaded_or_broken_server_is_asked_again_when_it_says() {
    let simulator = Simulator::start();
    let pipeline = simulated(&simulator, "");
    let began = std::time::Instant::now();
    let page = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    simulator.next([
        Mishap::Answer(429, "Retry-After: 1\r\n", ""),
        Mishap::Answer(503, "Retry-After: 1\r\n", "{\"error\":{\"type\":\"x\",\"reason\":\"no master\"}}"),
        Mishap::Answer(502, "Content-Type: text/html\r\n", page),
    ]);
    pipeline.send(0..100);
    pipeline.delivers(100);
    assert!(began.elapsed() >= Duration::from_secs(2), "it came back before it was told to");
    assert_eq!((simulator.count(), simulator.bulks()), (100, vec![100; 4]));
    assert_eq!(pipeline.metric("weir_events_dead_lettered_total"), 0);
    assert_eq!(simulator.complaints(), [""; 0]);
}

#[test]
fn of_a_thousand_events_only_those_are_sent_again_that_have_to_be() {
    let simulator = Simulator::start();
    let pipeline = simulated(&simulator, "");
    simulator.next([
        Mishap::Some(vec![
            (100..400, 429, "es_rejected_execution_exception"),
            (700..701, 400, "mapper_parsing_exception"),
        ]),
        Mishap::Some(vec![(0..10, 503, "unavailable_shards_exception")]),
    ]);
    pipeline.send(0..1000);
    pipeline.delivers(999);
    assert_eq!(simulator.bulks(), [1000, 300, 10]);
    assert_eq!((simulator.count(), pipeline.metric("weir_events_dead_lettered_total")), (999, 1));
    let letter = pipeline.dlq(&["list"]);
    let letter = pipeline.dlq(&["show", letter.split_whitespace().next().expect("an id")]);
    assert!(letter.contains("400 mapper_parsing_exception: on demand"), "{letter}");
}

#[test]
fn a_request_that_is_too_large_is_halved_until_the_one_event_stands_alone() {
    let simulator = Simulator::start();
    let pipeline = simulated(&simulator, "    compression: none\n");
    simulator.refuse_above(20_000);
    let body: String = (0..200)
        .map(|n| format!("{{\"n\":{n},\"x\":\"{}\"}}\n", "x".repeat(if n == 77 { 30_000 } else { 300 })))
        .collect();
    post(pipeline.port, &body);
    pipeline.delivers(199);
    assert_eq!((simulator.count(), pipeline.metric("weir_events_dead_lettered_total")), (199, 1));
    assert!(simulator.bulks().len() < 40, "{:?}", simulator.bulks());
    assert!(pipeline.dlq(&["list"]).lines().count() == 1);
}

#[test]
fn an_api_key_is_sent_as_the_server_wants_it() {
    let simulator = Simulator::start();
    // It quotes what it does not know, as some do.
    simulator.demand("ApiKey aWQ6Z2VoZWlt");
    let auth = |key: &str| format!("    auth: {{ type: api_key, key: '{key}' }}\n");
    let pipeline = simulated(&simulator, &auth("id:falsch"));
    pipeline.send(0..10);
    eventually("it is held", || pipeline.is_held());
    for shown in [pipeline.health(), pipeline.agent.log()] {
        assert!(shown.contains("unable to authenticate with ApiKey ***"), "{shown}");
        assert!(!shown.contains("aWQ6ZmFsc2No") && !shown.contains("falsch"), "{shown}");
    }
    assert_eq!(simulator.count(), 0);
    for key in ["aWQ6Z2VoZWlt", "id:geheim"] {
        let url = format!("http://127.0.0.1:{}", simulator.port);
        let text = yaml(pipeline.port, &url, "events", &auth(key));
        pipeline.agent.configure(&pipeline.folder, &text);
        pipeline.agent.signal("-HUP");
        pipeline.delivers(if key.contains(':') { 20 } else { 10 });
        pipeline.send(10..20);
    }
    eventually("all are there", || simulator.count() == 30);
}

#[test]
fn nodes_take_turns_and_one_that_is_gone_is_passed_over() {
    let (one, two) = (Simulator::start(), Simulator::start());
    let gone = free_port();
    let endpoints =
        format!("http://127.0.0.1:{}', 'http://127.0.0.1:{gone}', 'http://127.0.0.1:{}", one.port, two.port);
    let pipeline = Pipeline::start(&endpoints, "events", "");
    for round in 0..6 {
        pipeline.send(round * 10..round * 10 + 10);
        pipeline.delivers(round * 10 + 10);
    }
    assert_eq!(one.count() + two.count(), 60);
    assert!(one.count() > 0 && two.count() > 0, "{} {}", one.count(), two.count());
    assert_eq!(pipeline.metric("weir_retries_total"), 0);
}
