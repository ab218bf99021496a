//! `weir import`: the tables of existing systems come into the store with their ids and times, as often as one likes.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::places::{ask, reading, token};
use crate::support::{Agent, Folder, free_port, request};

fn yaml(folder: &Folder, port: u16) -> String {
    format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [web, api] }}\n  kept: {{ type: filter, inputs: [named], where: '-user_id:nobody' }}\n\
         sinks:\n  events: {{ type: store, inputs: [kept], batch: {{ age: 10ms }} }}\n  out: {{ type: file, inputs: [kept], path: '{}/out.ndjson' }}\n",
        folder.0.display()
    )
}

fn import(folder: &Folder, port: u16, database: &Database, table: &str) -> Output {
    let config = folder.write("import.yaml", &yaml(folder, port));
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(["import", "--table", table, "--data-dir"])
        .arg(folder.path("data"))
        .arg("-c")
        .arg(config)
        .env("WEIR_IMPORT_URL", database.url());
    command.output().expect("weir import runs")
}

fn counts(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn get(agent: &Agent, path: &str) -> Value {
    let bearer = format!("Bearer {}", agent.token_of("root", "admin"));
    let answer = request(agent.api, "GET", path, &[("Authorization", &bearer)], b"").expect("the agent answers");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[test]
fn a_table_comes_into_the_store_with_its_times_and_a_second_time_adds_nothing() {
    let (database, folder, port) = (Database::new(), Folder::new(), free_port());
    database.define("notebook");
    database.sql(
        "INSERT INTO code_execution_logs (timestamp, username, session_id, cell_number, code, execution_time_ms, status, error_message)
         SELECT '2026-01-01'::timestamp + n * interval '1 hour', CASE WHEN n % 10 = 0 THEN 'nobody' ELSE 'u' || n % 4 END,
                's' || n % 7, n, 'print(' || n || ')' || repeat(' # long', n * 20), n * 1.5, CASE WHEN n % 5 = 0 THEN 'error' ELSE 'success' END,
                CASE WHEN n % 5 = 0 THEN 'KeyError: 7' END
         FROM generate_series(1, 2500) n",
    );
    let first = import(&folder, port, &database, "code_execution_logs");
    assert_eq!(counts(&first), "read 2500, stored 2250, there already 0, filtered 250, refused 0");
    let second = import(&folder, port, &database, "code_execution_logs");
    assert_eq!(counts(&second), "read 2500, stored 0, there already 2250, filtered 250, refused 0");
}

#[test]
fn rows_without_a_time_are_counted_and_named_and_are_in_no_total_of_a_list() {
    let (database, folder, port) = (Database::new(), Folder::new(), free_port());
    database.sql(
        "CREATE TABLE odd (id serial PRIMARY KEY, timestamp timestamp, username text, code text);
         INSERT INTO odd (timestamp, username, code) SELECT '2026-01-01'::timestamp + n * interval '1 hour', 'ali', 'x' FROM generate_series(1, 20) n;
         INSERT INTO odd (timestamp, username, code) VALUES (NULL, 'ali', 'null'), ('infinity', 'ali', 'inf'), ('-infinity', 'ali', 'neg')",
    );
    let imported = import(&folder, port, &database, "odd");
    let (said, counted) = (String::from_utf8_lossy(&imported.stderr), String::from_utf8_lossy(&imported.stdout));
    assert_eq!(imported.status.code(), Some(1), "{said}");
    assert_eq!(counted.trim(), "read 23, stored 20, there already 0, filtered 0, refused 3");
    assert!(said.contains("refused: 3 rows whose time is NULL or infinite") && !said.contains("more"), "{said}");
    let read = Folder::new();
    let agent = reading(&read, &database, "odd", "");
    let (status, page) = ask(&agent, &token("root", "admin"), "/api/logs?limit=100");
    assert_eq!((status, &page["total"], page["logs"].as_array().map(Vec::len)), (200, &json!(20), Some(20)), "{page}");
}

#[test]
fn an_import_of_which_everything_is_filtered_fails() {
    let (database, folder, port) = (Database::new(), Folder::new(), free_port());
    database.define("notebook");
    database.sql("INSERT INTO code_execution_logs (timestamp, username, code) VALUES (now(), 'nobody', 'x')");
    let imported = import(&folder, port, &database, "code_execution_logs");
    let said = String::from_utf8_lossy(&imported.stderr);
    assert!(imported.status.code() == Some(1) && said.contains("rows enter at the source `api`"), "{said}");
}

#[test]
fn what_was_imported_is_found_beside_new_events_and_goes_nowhere_else() {
    let (database, folder, port) = (Database::new(), Folder::new(), free_port());
    database.define("chat");
    database.sql(
        "INSERT INTO activity_logs (timestamp, user_id, action_type, endpoint, http_method, status_code, success, duration_ms, details)
         SELECT now() - n * interval '1 minute', 'u' || n % 3, 'open', '/x', 'GET', 200, true, n, '{\"n\": 1}' FROM generate_series(1, 40) n",
    );
    let output = import(&folder, port, &database, "activity_logs");
    assert_eq!(counts(&output), "read 40, stored 40, there already 0, filtered 0, refused 0");
    let agent = Agent::start(&folder, &yaml(&folder, port));
    let busy = import(&folder, port, &database, "activity_logs");
    let text = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(busy.status.code() == Some(1) && text.contains("stop the agent"), "{text}");
    crate::support::post(port, "{\"user_id\":\"u1\",\"event_type\":\"new\"}\n");
    crate::support::eventually("the new one is found", || get(&agent, "/api/logs?event_type=new")["total"] == 1);
    let page = get(&agent, "/api/logs?event_type=open&user_id=u1&limit=100");
    let expected = database.sql("SELECT count(*) FROM activity_logs WHERE user_id = 'u1'");
    assert_eq!(page["total"].to_string(), expected.trim());
    let id = page["logs"][0]["id"].as_str().expect("a UUID");
    assert_eq!(
        database.sql(&format!("SELECT count(*) FROM activity_logs WHERE id = '{id}'")).trim(),
        "1",
        "ids are kept"
    );
    assert_eq!(page["logs"][0]["metadata"]["n"], json!(1));
    // The reads above are events too, and name what they asked for.
    let written = std::fs::read_to_string(folder.path("out.ndjson")).unwrap_or_default();
    let events = written.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let types: Vec<Value> = events
        .map(|line| serde_json::from_str::<Value>(line).expect("an event"))
        .map(|mut event| event["event_type"].take())
        .collect();
    assert!(!types.contains(&json!("open")), "other sinks are given nothing: {types:?}");
}
