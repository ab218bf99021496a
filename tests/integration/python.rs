//! Real notebooks beside a real agent: every cell that was run is recorded once, whatever became of cell and agent.

use std::collections::HashMap;

use serde_json::Value;

use crate::support::{Agent, Folder, eventually, python, request};

/// What an agent beside Jupyter does, with a store.
fn beside_jupyter(folder: &Folder) -> String {
    format!(
        "sources:\n  spool: {{ type: file, include: ['{}/*.ndjson'], remove: when_done, poll: 50ms, capture: kernel }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [spool] }}\n  safe: {{ type: redact, inputs: [named] }}\n  \
         short: {{ type: truncate, inputs: [safe], fields: [code], max_chars: 10000 }}\n\
         sinks:\n  cells: {{ type: store, inputs: [short], start: oldest, batch: {{ age: 50ms }} }}\n",
        folder.path("spool").display()
    )
}

/// Everything in the store by operation and type.
fn stored(agent: &Agent) -> HashMap<String, HashMap<String, Value>> {
    // An export has the whole code; lists show administrators the beginning of what others ran.
    let token = format!("Bearer {}", agent.token());
    let path = "/api/logs/export?format=ndjson";
    let answer = request(agent.api, "GET", path, &[("Authorization", &token)], b"").expect("the agent answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut found: HashMap<String, HashMap<String, Value>> = HashMap::new();
    for line in answer.text().lines() {
        let event: Value = serde_json::from_str(line).expect("an event is JSON");
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let earlier = found.entry(text("operation_id")).or_default().insert(text("event_type"), event.clone());
        assert!(earlier.is_none(), "twice: {event}");
    }
    found
}

/// Waits until the spool is empty, and compares what is stored with what was run.
fn assert_recorded(agent: &Agent, folder: &Folder, expected: &[Value]) {
    eventually("the spool is empty", || {
        std::fs::read_dir(folder.path("spool")).is_ok_and(|entries| entries.count() == 0)
    });
    agent.assert_books();
    let found = stored(agent);
    assert_eq!(found.len(), expected.len(), "{:?}", found.keys());
    for cell in expected {
        let events = &found[cell["operation_id"].as_str().expect("an id")];
        let start = &events["cell.start"];
        assert_eq!(start["status"], "in_progress");
        if cell["status"] == "lost" {
            assert!(!events.contains_key("cell.finish"), "{cell}");
            assert_eq!(start["code"], cell["code"]);
            continue;
        }
        let finish = &events["cell.finish"];
        assert_eq!((&finish["status"], &finish["user_id"]), (&cell["status"], &cell["user_id"]), "{cell}");
        assert_eq!((&finish["cell_number"], &finish["capture"]), (&cell["number"], &Value::from("kernel")), "{cell}");
        let (code, expected) = (finish["code"].as_str().expect("code"), cell["code"].as_str().expect("code"));
        assert!(code.starts_with(expected), "{code} for {cell}");
        assert!(finish["duration_ms"].as_f64().is_some_and(|duration| duration >= 0.0), "{finish}");
        let length = cell["length"].as_u64().expect("a length");
        assert_eq!(code.chars().count() as u64, length.min(10_000), "{cell}");
    }
}

#[test]
fn every_cell_is_recorded_once_however_it_ends() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, &beside_jupyter(&folder));
    let expected = python::run(python::program(&folder, "notebooks.py", &["everything"]));
    assert_eq!(expected.len(), 15);
    assert_recorded(&agent, &folder, &expected);
}

#[test]
fn cells_that_ran_while_the_agent_was_away_or_killed_are_recorded_once() {
    let folder = Folder::new();
    let yaml = beside_jupyter(&folder);
    std::fs::create_dir_all(folder.path("spool")).expect("a folder");
    // Nobody is there.
    let mut expected = python::run(python::program(&folder, "notebooks.py", &["many", "50"]));
    // The agent is killed again and again.
    let kernel = std::thread::scope(|scope| {
        let running = scope.spawn(|| python::run(python::program(&folder, "notebooks.py", &["many", "300"])));
        while !running.is_finished() {
            let agent = Agent::start(&folder, &yaml);
            std::thread::sleep(std::time::Duration::from_millis(700));
            agent.kill();
        }
        running.join().expect("the notebook runs")
    });
    expected.extend(kernel);
    let agent = Agent::start(&folder, &yaml);
    assert_recorded(&agent, &folder, &expected);
}
