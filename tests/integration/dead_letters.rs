//! Dead letters of every kind of component go back to where they failed, with the id that they had.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::collector::{Collector, reply};
use crate::support::splunk::{Splunk, TOKEN};
use crate::support::{Agent, Folder, eventually, free_port, post, request};
use serde_json::Value;
use weir::component::{Check, Failure, Outputs, Transform, TransformEntry};
use weir::config::{self, Catalogue, Environment, Overrides, Text};
use weir::event::{Batch, names};

fn shown(agent: &Agent, letter: &str) -> Value {
    let out = agent.weir(&["dlq", "show", letter]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("a letter is JSON")
}

#[test]
fn letters_of_two_sinks_are_replayed_each_to_its_own_or_dropped() {
    let (folder, ingest, (splunk, server)) = (Folder::new(), free_port(), Splunk::start());
    let strict = Arc::new(AtomicBool::new(true));
    let (is_strict, taken) = (strict.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let kept = taken.clone();
    let hook = Collector::start(move |heard| {
        if is_strict.load(Ordering::SeqCst) && heard.body.contains("\"n\":1") {
            return reply(422, "not this one");
        }
        kept.lock().expect("no panic").extend(heard.lines());
        reply(200, "")
    });
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\nsinks:\n\
         \x20 hook: {{ type: http, inputs: [web], uri: 'http://127.0.0.1:{}/', batch: {{ age: 20ms }} }}\n\
         \x20 hec: {{ type: splunk_hec, inputs: [web], endpoint: 'http://127.0.0.1:{}', token: {TOKEN}, batch: {{ age: 20ms }} }}\n",
        hook.port, server.port
    );
    let agent = Agent::start(&folder, &yaml);
    post(ingest, "{\"n\":0}\n{\"n\":1,\"refused\":true}\n{\"n\":2,\"refused\":true}");
    eventually("all are put aside", || agent.letters().len() == 3);
    let letters: Vec<Value> = agent.letters().iter().map(|letter| shown(&agent, letter)).collect();
    let of = |component: &str, n: u64| {
        let mine = |letter: &&Value| letter["component"] == component && letter["event"]["n"] == n;
        letters.iter().find(mine).map(|letter| letter["id"].as_str().expect("an id").to_owned())
    };
    let (hooks, first, second) = (of("hook", 1), of("hec", 1).expect("a letter"), of("hec", 2).expect("a letter"));
    let dropped = agent.weir(&["dlq", "drop", "nosuch", &second, "01m8mn8a96"]);
    let said = String::from_utf8_lossy(&dropped.stderr).into_owned();
    assert!(said.contains("1 dropped, 2 failed:\nnosuch: ") && said.contains("\n01m8mn8a96: "), "{said}");
    assert_eq!(dropped.status.code(), Some(1));
    strict.store(false, Ordering::SeqCst);
    assert!(agent.weir(&["dlq", "replay", &hooks.expect("a letter")]).status.success());
    assert!(!agent.weir(&["dlq", "replay", &first]).status.success(), "Splunk refuses it still");
    assert_eq!(agent.letters(), std::slice::from_ref(&first));
    let id = shown(&agent, &first)["event_id"].clone();
    // The server learns to take it.
    splunk.state().lenient = true;
    assert!(agent.weir(&["dlq", "replay", "--all"]).status.success());
    assert_eq!(agent.letters(), Vec::<String>::new());
    let state = splunk.state();
    let told = state.indexed.iter().find(|told| told["event"]["n"] == 1).expect("it is there");
    assert_eq!(told["fields"]["weir_id"], id, "with its own id");
    assert_eq!(taken.lock().expect("no panic").len(), 3);
    drop(state);
    assert_eq!(agent.metric("weir_events_delivered_total", "hec"), 2);
}

#[test]
fn a_sources_letter_enters_again_once_the_cause_is_gone() {
    let (folder, ingest) = (Folder::new(), free_port());
    let yaml = |limit: &str| {
        format!(
            "limits: {{ event: {limit} }}\nsources:\n\
             \x20 web: {{ type: http, address: '127.0.0.1:{ingest}', on_bad: dead_letter }}\nsinks:\n\
             \x20 out: {{ type: file, inputs: [web], path: '{0}/out.ndjson', batch: {{ age: 20ms }} }}\n\
             \x20 said: {{ type: file, inputs: [api], path: '{0}/said.ndjson', batch: {{ age: 20ms }} }}\n",
            folder.0.display()
        )
    };
    let agent = Agent::start(&folder, &yaml("1 KiB"));
    let large = format!("{{\"n\":\"{}\"}}", "x".repeat(2000));
    post(ingest, &format!("{{\"n\":1}}\n{large}"));
    agent.delivered("out", 1);
    let letters = agent.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(shown(&agent, &letters[0])["kind"], "source");
    assert!(!agent.weir(&["dlq", "replay", &letters[0]]).status.success(), "it is too large still");
    assert_eq!(agent.letters(), letters);
    // That it was looked at, and that it was replayed.
    agent.delivered("said", 2);
    let said = crate::support::lines_of(&folder.0, "said.ndjson").concat();
    assert!(said.contains(&format!("failed to replay dead letter {}", letters[0])), "{said}");
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &yaml("1 MiB"));
    let replayed = agent.weir(&["dlq", "replay", "--all"]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    agent.delivered("out", 2);
    assert_eq!(crate::support::lines_of(&folder.0, "out.ndjson"), ["{\"n\":1}".to_owned(), large]);
    assert_eq!(agent.letters(), Vec::<String>::new());
}

static MOODY: AtomicBool = AtomicBool::new(true);

/// Fails on events with a description, as long as it is moody: no transform of the house has such a fault.
struct Moody;

impl Transform for Moody {
    const TYPE: &'static str = "moody";
    type Config = std::collections::BTreeMap<String, String>;

    fn build(_: Self::Config, _: &mut Check) -> Option<Moody> {
        Some(Moody)
    }

    fn apply(&self, batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        if MOODY.load(Ordering::SeqCst)
            && (0..batch.len()).any(|event| batch.get_str(event, names::DESCRIPTION).is_some())
        {
            return Err(Failure::poison("not today"));
        }
        out.emitted.push((0, batch));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transforms_letter_enters_again_at_that_transform_with_its_id() {
    const WITH_MOODY: &[TransformEntry] = &[TransformEntry::of::<Moody>()];
    let (folder, (splunk, server)) = (Folder::new(), Splunk::start());
    folder.write("in.ndjson", "{\"n\":1}\n{\"n\":2,\"description\":\"bad mood\"}\n{\"n\":3}\n");
    let yaml = format!(
        "data_dir: {0}/data\nsources:\n  app: {{ type: file, include: ['{0}/in.ndjson'], read_from: beginning }}\n\
         transforms:\n  moody: {{ type: moody, inputs: [app] }}\nsinks:\n\
         \x20 hec: {{ type: splunk_hec, inputs: [moody], endpoint: 'http://127.0.0.1:{1}', token: {TOKEN}, batch: {{ age: 20ms }} }}\n",
        folder.0.display(),
        server.port
    );
    let environment = Environment { variable: &|_| None, file: &|_: &Path| Err("there is no file to read".to_owned()) };
    let texts = vec![Text { name: "weir.yaml".into(), bytes: yaml.into() }];
    let catalogue = Catalogue { transforms: WITH_MOODY, ..Catalogue::built_in() };
    let loaded = config::load_texts(texts, catalogue, environment, &Overrides::default())
        .unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let agent = weir::topology::Agent::start(loaded.plan).await.unwrap_or_else(|_| panic!("it starts"));
    let queue = agent.context.dead_letters.clone();
    let numbers = || {
        let mut numbers: Vec<u64> =
            splunk.state().indexed.iter().filter_map(|told| told["event"]["n"].as_u64()).collect();
        numbers.sort_unstable();
        numbers
    };
    tokio::task::block_in_place(|| eventually("the others are there", || numbers() == [1, 3]));
    let letters = queue.list(None, 10).await.expect("the queue");
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&*letter.content.component, letter.content.kind.as_str()), ("moody", "transform"));
    let id = letter.content.seed.id(letter.content.ordinal).to_string();
    MOODY.store(false, Ordering::SeqCst);
    agent.replay(letter.number).await.expect("it is calm now");
    tokio::task::block_in_place(|| eventually("it is there", || numbers() == [1, 2, 3]));
    assert_eq!(splunk.counts().get(&id), Some(&1), "with the id that it would have had");
    assert!(queue.list(None, 10).await.expect("the queue").is_empty());
    agent.stop().await;
}

#[test]
fn many_letters_are_dropped_with_few_requests_all_or_those_of_a_component() {
    let folder = Folder::new();
    let (web, more) = (free_port(), free_port());
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{web}', on_bad: dead_letter }}\n\
         \x20 more: {{ type: http, address: '127.0.0.1:{more}', on_bad: dead_letter }}\n\
         sinks:\n  out: {{ type: blackhole, inputs: [web, more, api] }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    for (port, count) in [(web, 2000), (more, 3)] {
        let bad = "bad\n".repeat(count);
        assert_eq!(request(port, "POST", "/", &[], bad.as_bytes()).expect("an answer").status, 200);
    }
    let text = |out: std::process::Output| (out.status.success(), String::from_utf8(out.stdout).expect("text"));
    assert_eq!(text(agent.weir(&["dlq", "drop", "--component", "more"])), (true, "3 dropped\n".into()));
    assert_eq!(text(agent.weir(&["dlq", "drop", "--all"])), (true, "2000 dropped\n".into()));
    assert_eq!(agent.letters(), Vec::<String>::new());
    // Each act is an event: one request for each five hundred letters.
    assert_eq!(agent.metric("weir_events_entered_total", "api"), 5);
    assert!(agent.stop().success());
}

#[test]
fn events_that_share_an_id_are_letters_each_and_repeats_are_none() {
    let (folder, ingest) = (Folder::new(), free_port());
    let yaml = format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{ingest}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [web] }}\n\
         sinks:\n  kept: {{ type: store, inputs: [named], batch: {{ age: 20ms }} }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    let one = |code: &str| format!("{{\"id\":\"{id}\",\"user\":\"ali\",\"code\":\"{code}\",\"success\":true}}");
    let ended = |name: &str| agent.metric(name, "kept");
    // Sent again by a client that has not heard the answer: in other spellings and another order, too.
    post(ingest, &one("first"));
    eventually("it is stored", || ended("weir_events_delivered_total") == 1);
    post(ingest, &one("first"));
    post(ingest, &one("first").replace(id, &id.to_uppercase()));
    post(
        ingest,
        &format!("{{\"success\":true,\"code\":\"first\",\"user_id\":\"ali\",\"id\":\"{}\"}}", id.replace('-', "")),
    );
    eventually("repeats are ignored", || ended("weir_duplicates_ignored_total") == 3);
    assert_eq!(agent.letters(), Vec::<String>::new());
    // Other contents under one id: each is kept, in one batch or in several.
    post(ingest, &one("second"));
    post(ingest, &format!("{}\n{}", one("third"), one("fourth")));
    eventually("they are put aside", || ended("weir_events_dead_lettered_total") == 3);
    let letters: Vec<Value> = agent.letters().iter().map(|letter| shown(&agent, letter)).collect();
    let mut codes: Vec<&str> = letters.iter().filter_map(|letter| letter["event"]["code"].as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["fourth", "second", "third"], "{letters:?}");
    agent.assert_books();
}
