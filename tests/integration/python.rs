//! Real notebooks beside a real agent: every cell that was run is recorded once, whatever became of cell and agent.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::support::database::Database;
use crate::support::{Agent, Folder, eventually, free_port, python, request};

/// What an agent beside Jupyter does, with a store and the platform's own table.
fn beside_jupyter(folder: &Folder, database: &Database) -> String {
    format!(
        "sources:\n  spool: {{ type: file, include: ['{}/*.ndjson'], remove: when_done, poll: 50ms, capture: kernel }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [spool] }}\n  safe: {{ type: redact, inputs: [named] }}\n  \
         short: {{ type: truncate, inputs: [safe], fields: [code], max_chars: 10000 }}\n  \
         whole: {{ type: operations, inputs: [short], timeout: 8s }}\n\
         sinks:\n  cells: {{ type: store, inputs: [whole], start: oldest, batch: {{ age: 50ms }} }}\n  \
         table: {{ type: postgres, inputs: [whole], url: '{}', table: code_execution_logs, start: oldest }}\n",
        folder.path("spool").display(),
        database.url(),
    )
}

/// Everything in the store by operation.
fn stored(agent: &Agent) -> HashMap<String, Value> {
    // An export has the whole code; lists show administrators the beginning of what others ran.
    let token = format!("Bearer {}", agent.token());
    let path = "/api/logs/export?format=ndjson";
    let answer = request(agent.api, "GET", path, &[("Authorization", &token)], b"").expect("the agent answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut found = HashMap::new();
    for line in answer.text().lines() {
        let event: Value = serde_json::from_str(line).expect("an event is JSON");
        let operation = event["operation_id"].as_str().unwrap_or_default().to_owned();
        assert!(found.insert(operation, event.clone()).is_none(), "twice: {event}");
    }
    found
}

/// Waits until every cell has come to its end, and compares store and table with what was run.
fn assert_recorded(agent: &Agent, folder: &Folder, database: &Database, expected: &[Value]) {
    let spooled = || std::fs::read_dir(folder.path("spool")).map_or(0, Iterator::count);
    eventually("the spool is empty", || spooled() == 0);
    let count = expected.len() as u64;
    eventually("the table has every cell", || database.count("code_execution_logs") >= count);
    agent.delivered("cells", count);
    let found = stored(agent);
    for cell in expected {
        let operation = cell["operation_id"].as_str().expect("an id");
        let event = found.get(operation).unwrap_or_else(|| panic!("{cell} is not there"));
        assert_eq!((&event["status"], &event["user_id"]), (&cell["status"], &cell["user_id"]), "{cell}");
        assert_eq!(event["capture"], "kernel", "{cell}");
        let (code, expected) = (event["code"].as_str().expect("code"), cell["code"].as_str().expect("code"));
        assert!(code.starts_with(expected), "{code} for {cell}");
        let length = cell["length"].as_u64().expect("a length");
        assert_eq!(code.chars().count() as u64, length.min(10_000), "{cell}");
        if cell["status"] != "lost" {
            assert_eq!(event["cell_number"], cell["number"], "{cell}");
            assert!(event["duration_ms"].as_f64().is_some_and(|duration| duration >= 0.0), "{event}");
        }
    }
    let rows = "SELECT status || ' ' || count(*) FROM code_execution_logs GROUP BY status ORDER BY status";
    let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
    expected.iter().for_each(|cell| *statuses.entry(cell["status"].as_str().expect("a status")).or_default() += 1);
    let statuses: Vec<String> = statuses.iter().map(|(status, count)| format!("{status} {count}")).collect();
    assert_eq!(database.sql(rows), statuses.join("\n"));
}

#[test]
fn every_cell_is_recorded_once_however_it_ends() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("notebook");
    let agent = Agent::start(&folder, &beside_jupyter(&folder, &database));
    let expected = python::run(python::program(&folder, "notebooks.py", &["everything"]));
    assert_eq!(expected.len(), 15);
    assert_recorded(&agent, &folder, &database, &expected);
}

#[test]
fn the_quick_start_records_a_notebook_without_any_setting() {
    let folder = Folder::new();
    let state = folder.path("state").display().to_string();
    // The ports of the quick start may be somebody's; nothing else of it is changed.
    let quick_start = include_str!("../../config/quickstart.yaml");
    let yaml = quick_start.replace("127.0.0.1:8687", &format!("127.0.0.1:{}", free_port()));
    let agent = Agent::start_with(&folder, &yaml, &[("XDG_STATE_HOME", &state)]);
    let mut notebook = python::program(&folder, "notebooks.py", &["many", "3"]);
    notebook.env_remove("WEIR_SPOOL_DIR").env_remove("WEIR_SERVER_SPOOL_DIR").env("XDG_STATE_HOME", &state);
    let expected = python::run(notebook);
    eventually("the store has every cell", || {
        agent.metric("weir_events_delivered_total", "events") >= expected.len() as u64
    });
    let found = stored(&agent);
    for cell in &expected {
        let event = &found[cell["operation_id"].as_str().expect("an id")];
        assert_eq!((&event["code"], &event["status"]), (&cell["code"], &cell["status"]));
    }
}

#[test]
fn cells_that_ran_while_the_agent_was_away_or_killed_are_recorded_once() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("notebook");
    let yaml = beside_jupyter(&folder, &database);
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
    assert_recorded(&agent, &folder, &database, &expected);
}
