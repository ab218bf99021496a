//! Tests of `operations` for every order of starts, completions and server reports.

use serde_json::json;

use super::Operations;
use crate::component::Why;
use crate::event::Id;
use crate::transforms::testing::{Driven, stage_problems};

const CONFIG: &str = "{ open_after: 5s, timeout: 60s, gap_after: 30s, repeats: 10s }";
const START: &str = r#"{"id":"00000000-0000-8000-8000-00000000000a","event_type":"cell.start","status":"in_progress","operation_id":"o","timestamp":"2026-01-01T00:00:00Z","code":"import os","notebook":"n.ipynb","metadata":{"a":1,"b":1}}"#;
const END: &str = r#"{"id":"00000000-0000-8000-8000-00000000000b","event_type":"cell.finish","status":"error","operation_id":"o","timestamp":"2026-01-01T00:00:01.25Z","code":"import os","metadata":{"b":2}}"#;
const SEEN: &str = r#"{"id":"00000000-0000-8000-8000-00000000000c","event_type":"cell.seen","status":"in_progress","operation_id":"o","code":"import os","kernel_id":"k"}"#;

fn driven() -> Driven<Operations> {
    Driven::new(CONFIG)
}

#[test]
fn a_start_and_its_completion_become_one_event_with_the_id_of_the_completion() {
    let mut operations = driven();
    let given = operations.step(&[START]);
    assert!(given.lines.is_empty());
    assert_eq!(given.filtered, [("joined", 1)].into());
    let given = operations.step(&[END]);
    assert_eq!(given.lines.len(), 1);
    assert_eq!(
        given.json(0),
        json!({
            "id": "00000000-0000-8000-8000-00000000000b", "event_type": "cell.finish", "status": "error",
            "operation_id": "o", "timestamp": "2026-01-01T00:00:01.25Z", "code": "import os", "notebook": "n.ipynb",
            "duration_ms": 1250, "metadata": {"b": 2, "a": 1, "started_at": "2026-01-01T00:00:00Z"},
        })
    );
    assert!(operations.wait(11.0).lines.is_empty());
    assert_eq!(operations.entries(), 0, "what has ended is forgotten once its repeats are over");
}

#[test]
fn what_the_server_saw_joins_in_whatever_order_it_comes() {
    let orders: [&[&str]; 6] = [
        &[START, END, SEEN],
        &[START, SEEN, END],
        &[SEEN, START, END],
        &[SEEN, END, START],
        &[END, SEEN, START],
        &[END, START, SEEN],
    ];
    for order in orders {
        for together in [true, false] {
            let mut operations = driven();
            let steps: Vec<&[&str]> = if together { vec![order] } else { order.chunks(1).collect() };
            let mut lines = Vec::new();
            for step in steps {
                lines.extend(operations.step(step).lines);
            }
            lines.extend(operations.wait(100.0).lines);
            assert_eq!(lines.len(), 1, "{order:?} {lines:?}");
            assert!(lines[0].contains("cell.finish"));
        }
    }
}

#[test]
fn a_repeat_of_an_end_or_a_start_is_given_once() {
    let mut operations = driven();
    assert_eq!(operations.step(&[START, START]).filtered, [("joined", 1), ("repeat", 1)].into());
    assert_eq!(operations.step(&[END]).lines.len(), 1);
    assert_eq!(operations.step(&[END]).filtered, [("repeat", 1)].into());
    assert!(operations.wait(100.0).lines.is_empty());
}

#[test]
fn a_start_without_an_end_is_shown_as_open_and_then_lost_under_a_derived_id() {
    let mut operations = driven();
    operations.step(&[START]);
    let given = operations.wait(5.0);
    assert_eq!((given.lines.len(), &given.others[..]), (0, &[START.to_owned()][..]));
    assert!(operations.wait(5.0).others.is_empty(), "it is shown once");
    let given = operations.wait(60.0);
    assert_eq!(given.json(0)["status"], "lost");
    assert_ne!(given.json(0)["id"], "00000000-0000-8000-8000-00000000000a");
    let again = {
        let mut operations = driven();
        operations.step(&[START]);
        operations.wait(100.0)
    };
    assert_eq!(given.ids, again.ids, "the same start is lost under the same id");
    assert!(Id::parse(&given.ids[0]).is_some());
}

#[test]
fn what_only_the_server_saw_is_given_with_a_gap() {
    let mut operations = driven();
    operations.step(&[SEEN]);
    assert!(operations.wait(29.0).lines.is_empty());
    let given = operations.wait(1.0);
    assert_eq!(given.lines[0], SEEN);
    assert_eq!(given.json(1)["event_type"], "capture_gap");
    assert_eq!(given.json(1)["metadata"]["reason"], "not_reported");
    assert_eq!(given.json(1)["kernel_id"], "k");
    assert!(operations.wait(100.0).lines.is_empty());
}

#[test]
fn a_cell_behind_one_that_failed_is_given_without_a_gap() {
    let passed_over = SEEN.replace("in_progress", "aborted").replacen('{', r#"{"metadata":{"passed_over":true},"#, 1);
    let mut operations = driven();
    operations.step(&[&passed_over]);
    let given = operations.wait(30.0);
    assert_eq!((given.lines.len(), &given.json(0)["status"]), (1, &"aborted".into()));
}

#[test]
fn a_kernel_that_died_in_a_cell_is_completed_by_what_the_server_saw() {
    let ended = SEEN.replace("in_progress", "aborted");
    let mut operations = driven();
    operations.step(&[START, SEEN]);
    operations.step(&[&ended]);
    let given = operations.wait(30.0);
    assert_eq!(given.json(0)["status"], "aborted");
    assert_eq!(given.json(0)["notebook"], "n.ipynb");
    assert_eq!(given.json(1)["metadata"]["reason"], "not_completed");
    assert_eq!(given.lines.len(), 2);
    assert!(operations.wait(100.0).lines.is_empty(), "and it is not lost besides");
}

#[test]
fn other_code_than_the_server_saw_is_a_gap() {
    let other = SEEN.replace("import os", "import subprocess");
    for order in [[&other, END], [END, &other]] {
        let mut operations = driven();
        operations.step(&[START]);
        let given = operations.step(&order);
        let gaps: Vec<_> = given.lines.iter().filter(|line| line.contains("code_differs")).collect();
        assert_eq!((given.lines.len(), gaps.len()), (2, 1), "{order:?} {:?}", given.lines);
    }
}

#[test]
fn nested_starts_of_one_key_are_completed_from_the_inside() {
    let mut operations: Driven<Operations> = Driven::new("key: [session_id, event_type]");
    let start = |n: u8| format!(r#"{{"event_type":"t","status":"in_progress","session_id":"s","n":{n}}}"#);
    let end = r#"{"event_type":"t","status":"success","session_id":"s"}"#;
    operations.step(&[&start(1), &start(2)]);
    assert_eq!(operations.step(&[end]).json(0)["n"], 2);
    assert_eq!(operations.step(&[end]).json(0)["n"], 1);
    let mut deep: Driven<Operations> = Driven::new("key: session_id");
    let starts: Vec<String> = (0..20).map(start).collect();
    let given = deep.step(&starts.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(given.lines.len(), 4, "beyond the bound the oldest are lost");
    assert_eq!(given.json(0)["status"], "lost");
}

#[test]
fn what_is_held_is_given_when_the_stage_ends_or_is_at_its_bound() {
    for (why, status) in [(Why::Released, "in_progress"), (Why::Evicted, "lost")] {
        let mut operations = driven();
        operations.step(&[START]);
        let given = operations.release(why);
        assert_eq!(given.json(0)["status"], status);
        assert_eq!(operations.entries(), 0);
    }
}

#[test]
fn a_time_that_runs_backwards_lasts_no_time() {
    let mut operations = driven();
    let end = END.replace("00:00:01.25", "00:00:00").replace("2026-01-01", "2025-12-31");
    assert_eq!(operations.step(&[START, &end]).json(0)["duration_ms"], 0);
    let mut operations = driven();
    let end = END.replace("\"metadata\"", "\"duration_ms\":7,\"metadata\"");
    assert_eq!(operations.step(&[START, &end]).json(0)["duration_ms"], 7, "what the completion says counts");
}

#[test]
fn a_key_of_no_field_is_refused() {
    assert_eq!(stage_problems::<Operations>("key: []"), ["key: the key has 1 to 8 fields"]);
}
