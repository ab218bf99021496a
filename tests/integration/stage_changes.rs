//! A transform that remembers changes its type, goes and comes back while kill -9 ends each life: what it held is given
//! once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Agent, Folder, eventually, free_port, lines_of, post};

/// Operations that begin in each life: more than one step gives back.
const STARTS: u64 = 700;

/// What the transform is in one life; without one, events go past it.
const KINDS: [&str; 4] = [
    "type: operations, timeout: 1h, open_after: 1h",
    "",
    "type: dedupe, key: [operation_id], window: 1h",
    "type: reduce, key: [operation_id], window: 1h",
];

fn plan(folder: &Folder, port: u16, kind: usize) -> String {
    let stage = KINDS[kind];
    let (transforms, input) = match stage {
        "" => (String::new(), "web"),
        _ => (
            format!(
                "transforms:\n  ops: {{ inputs: [web], on_remove: drain, {stage} }}\n  \
                 after: {{ type: enrich, inputs: [ops], set: {{ kind: {kind} }} }}\n"
            ),
            "after",
        ),
    };
    format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n{transforms}\
         sinks:\n  file: {{ type: file, inputs: [{input}], path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("out").display()
    )
}

#[test]
fn a_stage_that_changes_goes_and_comes_under_kill_9_gives_each_event_once() {
    let folder = Folder::new();
    let port = free_port();
    let mut sent = 0;
    for (life, kind) in [0, 2, 0, 1, 0, 3, 3, 0, 1, 1, 2, 1, 3, 1, 0, 0, 2, 3, 0].into_iter().enumerate() {
        let agent = Agent::start(&folder, &plan(&folder, port, kind));
        if life % 3 < 2 {
            let body: String = (sent..sent + STARTS)
                .map(|n| format!("{{\"op\":{n},\"operation_id\":\"o{n}\",\"status\":\"in_progress\"}}\n"))
                .collect();
            assert_eq!(post(port, &body), STARTS);
            sent += STARTS;
        }
        std::thread::sleep(Duration::from_millis([0, 5, 40, 150][life % 4]));
        agent.kill();
    }
    let agent = Agent::start(&folder, &plan(&folder, port, 1));
    let given = || -> BTreeMap<u64, Vec<Value>> {
        let mut given: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
        for line in lines_of(&folder.path("out"), "events.ndjson") {
            let event: Value = serde_json::from_str(&line).expect("every line is whole");
            given.entry(event["op"].as_u64().expect("the number sent")).or_default().push(event);
        }
        given
    };
    eventually("all of it is given", || given().len() as u64 == sent);
    eventually("the transform is forgotten", || {
        agent.metric("weir_events_waiting", "file") == 0 && !agent.metrics().keys().any(|key| key.contains("\"ops\""))
    });
    assert!(!agent.log().contains("panic"), "{}", agent.log());
    assert!(agent.stop().success());
    let twice: Vec<_> = given().into_iter().filter(|(_, events)| events.len() > 1).collect();
    assert!(twice.is_empty(), "{} came twice, as {:?}", twice.len(), twice[0]);
}
