//! Lists read page by page while events arrive, late and at equal times, and while old ones go: each event is on one page.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::database::{Database, id};
use crate::support::places::{SECRET, ask, reading, token};
use crate::support::{Agent, Folder, eventually, free_port, post};

/// The orders of a list; every one has many equal values.
const ORDERS: [&str; 5] = [
    "sort_order=desc",
    "sort_order=asc",
    "sort_by=duration_ms&sort_order=desc",
    "sort_by=duration_ms&sort_order=asc",
    "sort_by=status&sort_order=asc",
];
const ROUNDS: usize = 6;

/// Reads a list to its end; `between` happens after each page, for as many pages as there are rounds.
fn walk(agent: &Agent, token: &str, list: &str, mut between: impl FnMut(usize)) -> Vec<Value> {
    let (mut rows, mut path, mut round) = (Vec::new(), format!("/api/logs?limit=9&{list}"), 0);
    loop {
        let (status, page) = ask(agent, token, &path);
        assert_eq!(status, 200, "{path}: {page}");
        rows.extend(page["logs"].as_array().expect("rows").iter().cloned());
        let Some(next) = page["next"].as_str() else { return rows };
        path = format!("/api/logs?limit=9&{list}&cursor={next}");
        if round < ROUNDS {
            between(round);
        }
        round += 1;
    }
}

/// Each row is there once and in order, and those that were there all the time are all there.
fn check(rows: &[Value], list: &str, there: &BTreeSet<String>) {
    let ids: BTreeSet<String> = rows.iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(ids.len(), rows.len(), "{list}: a row came twice");
    let missing: Vec<&String> = there.difference(&ids).collect();
    assert!(missing.is_empty(), "{list}: {missing:?} were missed");
    let sort = if list.contains("duration_ms") {
        "duration_ms"
    } else if list.contains("status") {
        "status"
    } else {
        "timestamp"
    };
    let is_descending = list.contains("desc");
    for pair in rows.windows(2) {
        let (first, second) = (&pair[0][sort], &pair[1][sort]);
        let is_after = match (first.as_f64().zip(second.as_f64()), first.as_str().zip(second.as_str())) {
            (Some((first, second)), _) => {
                if is_descending {
                    first >= second
                } else {
                    first <= second
                }
            }
            (_, Some((first, second))) => {
                if is_descending {
                    first >= second
                } else {
                    first <= second
                }
            }
            // Those without a value come last.
            _ => second.is_null(),
        };
        assert!(is_after, "{list}: {first} before {second}");
    }
}

/// An event at one of few times, with one of few values.
fn event(n: usize) -> Value {
    let (time, status) =
        (format!("2026-01-01T00:00:{:02}Z", n * 7 % 5), if n.is_multiple_of(2) { "success" } else { "error" });
    let mut event = json!({ "id": id(n as u64), "timestamp": time, "status": status, "user_id": "ali" });
    if !n.is_multiple_of(4) {
        event["duration_ms"] = json!(n % 3);
    }
    event
}

#[test]
fn each_event_of_the_store_is_on_one_page_while_others_arrive_late_and_at_equal_times() {
    let (folder, port) = (Folder::new(), free_port());
    let yaml = format!(
        "  auth: {{ jwt: {{ secret: '{SECRET}' }} }}\n\
         sources: {{ web: {{ type: http, address: '127.0.0.1:{port}' }} }}\n\
         transforms: {{ named: {{ type: normalize, inputs: [web] }} }}\n\
         sinks: {{ kept: {{ type: store, inputs: [named], batch: {{ age: 5ms }} }} }}\n"
    );
    let agent = Agent::start(&folder, &yaml);
    let admin = token("root", "admin");
    let mut sent = 0;
    let mut send = |count: usize| {
        if count == 0 {
            return sent;
        }
        let body: String = (sent..sent + count).map(|n| format!("{}\n", event(n))).collect();
        assert_eq!(post(port, &body), count as u64);
        sent += count;
        agent.delivered("kept", sent as u64);
        sent
    };
    send(80);
    for list in ORDERS {
        for filter in ["", "&q=status:error", "&user_id=ali"] {
            let list = format!("{list}{filter}");
            let there: BTreeSet<String> = (0..send(0))
                .map(event)
                .filter(|event| !filter.contains("error") || event["status"] == "error")
                .map(|event| event["id"].to_string())
                .collect();
            let rows = walk(&agent, &admin, &list, |_| {
                send(3);
            });
            check(&rows, &list, &there);
        }
    }
}

#[test]
fn each_row_of_a_table_is_on_one_page_while_others_arrive_and_old_ones_are_deleted() {
    for (example, table, time, row) in [
        (
            "notebook",
            "code_execution_logs",
            "timestamp",
            "n, 'ali', 'x = 1', n % 3, (ARRAY['success','error'])[1 + n % 2]",
        ),
        (
            "review",
            "operations",
            "timestamp",
            "lpad(to_hex(n), 32, '0')::uuid, 'ali', 'upload', n % 3, (ARRAY['success','error'])[1 + n % 2]",
        ),
    ] {
        let columns = match example {
            "notebook" => "id, username, code, execution_time_ms, status",
            _ => "id, user_id, action, duration_ms, status",
        };
        let (database, folder) = (Database::new(), Folder::new());
        database.define(example);
        let insert = |from: usize, to: usize| {
            database.sql(&format!(
                "INSERT INTO {table} ({columns}, {time}) SELECT {row}, '2026-01-01'::timestamp + (n * 7 % 5) * interval '1 second' FROM generate_series({from}, {to}) n"
            ));
        };
        // From the middle, so that later keys come before and behind.
        insert(1000, 1080);
        let agent = reading(&folder, &database, table, "");
        let admin = token("root", "admin");
        eventually("the table is read", || ask(&agent, &admin, "/api/logs?limit=1").0 == 200);
        let (mut below, mut above) = (1000, 1080);
        for list in ORDERS {
            let id = if example == "notebook" { "id" } else { "to_json(id::text)" };
            let there = || -> BTreeSet<String> {
                database.sql(&format!("SELECT {id} FROM {table}")).lines().map(str::to_owned).collect()
            };
            let before = there();
            let rows = walk(&agent, &admin, list, |round| {
                insert(below - 2, below - 1);
                insert(above + 1, above + 2);
                (below, above) = (below - 2, above + 2);
                database.sql(&format!(
                    "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY md5(id::text || {round}) LIMIT 2)"
                ));
            });
            let after = there();
            check(&rows, list, &before.intersection(&after).cloned().collect());
        }
    }
}
