//! The document review: operations in all states, a remote archive that is down, and the session's report.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{System, number};
use crate::support::collector::{Collector, reply};
use crate::support::database::Database;
use crate::support::{eventually, python};

/// What the session comes to: 1 upload, 3 analyses, generation, export and its S3 part, 2 feedbacks, a test, a chat; and
/// an upload that never ends.
const ENDED: u64 = 11;

#[test]
fn the_sessions_report_has_the_right_numbers_and_the_archive_gets_everything_when_it_is_back() {
    let (is_up, received) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::<Value>::new())));
    let (up, taken) = (is_up.clone(), received.clone());
    let archive = Collector::start(move |heard| {
        if !up.load(Ordering::SeqCst) {
            return reply(503, "down");
        }
        let lines = heard.lines();
        let events = lines.iter().map(|line| serde_json::from_str(line).expect("JSON"));
        taken.lock().expect("no panic").extend(events);
        reply(200, "")
    });
    let database = Database::new();
    database.define("review");
    let more = [
        ("REMOTE_URL", format!("http://127.0.0.1:{}", archive.port)),
        ("LOST_AFTER", "6s".to_owned()),
        ("OPEN_AFTER", "100ms".to_owned()),
    ];
    let system = System::start("document-review", &["weir.yaml"], database, &more);
    python::run(system.client(&["s-1"]));
    eventually("the table has what has ended", || system.database.count("operations") == ENDED);

    let report =
        eventually_report(&system, |report| report["open_operations"].as_array().is_some_and(|open| open.len() == 1));
    assert_eq!(report["session_id"], "s-1");
    assert_eq!(report["open_operations"][0]["action"], "s3_upload", "{report}");
    summary_is_that_of_sql(&system, &report["summary"], ENDED + 1);
    failures_say_why_and_what_to_do(&report);
    the_page_shows_all_states(&system);

    // What never ended is lost, and counts as failed.
    eventually("the upload is lost", || system.database.count("operations") == ENDED + 1);
    let report = eventually_report(&system, |report| report["open_operations"].as_array().is_some_and(Vec::is_empty));
    summary_is_that_of_sql(&system, &report["summary"], ENDED + 1);

    assert!(received.lock().expect("no panic").is_empty(), "the archive was down all the time");
    assert_eq!(system.agent.metric("weir_events_waiting", "archive"), ENDED + 1);
    is_up.store(true, Ordering::SeqCst);
    eventually("the archive has everything", || received.lock().expect("no panic").len() as u64 == ENDED + 1);
    system.agent.assert_books();
}

fn eventually_report(system: &System, holds: impl Fn(&Value) -> bool) -> Value {
    let ask = || system.get("boss", "/get_logs?format=json&session_id=s-1");
    eventually("the report is complete", || holds(&ask()));
    ask()
}

fn summary_is_that_of_sql(system: &System, summary: &Value, total: u64) {
    let open = total - system.database.count("operations");
    let sql =
        |what: &str| system.number(&format!("SELECT count(*) FROM operations WHERE session_id = 's-1' AND {what}"));
    assert_eq!(number(&summary["total_activities"]), sql("true") + open as f64, "{summary}");
    assert_eq!(number(&summary["success_count"]), sql("status = 'success'"), "{summary}");
    assert_eq!(number(&summary["failed_count"]), sql("status IN ('error', 'aborted', 'lost')"), "{summary}");
    let rate = (1000.0 * sql("status = 'success'") / total as f64).round() / 10.0;
    assert_eq!(number(&summary["success_rate"]), rate, "{summary}");
    let groups = "SELECT json_object_agg(word, n) FROM (SELECT split_part(action, '_', 1) word, count(*) n \
                  FROM operations GROUP BY 1) t";
    let mut groups: Value = serde_json::from_str(&system.database.sql(groups)).expect("JSON");
    if open > 0 {
        groups["s3"] = Value::from(groups["s3"].as_u64().unwrap_or(0) + open);
    }
    assert_eq!(summary["action_breakdown"], groups, "{summary}");
}

fn failures_say_why_and_what_to_do(report: &Value) {
    let failed = report["failed_activities"].as_array().expect("rows");
    let of = |action: &str| {
        failed.iter().find(|row| row["action"] == action).unwrap_or_else(|| panic!("{action}: {report}"))
    };
    for action in ["export_operation", "s3_export"] {
        assert!(of(action).to_string().contains("cannot reach bucket reviews"), "{}", of(action));
    }
    assert!(
        of("export_operation").to_string().contains("export again when the bucket answers"),
        "{}",
        of("export_operation")
    );
    assert!(of("chat_interaction").to_string().contains("the model gave no answer"), "{report}");
    assert!(report.to_string().contains("قرارداد.pdf") && report.to_string().contains("2621440"), "{report}");
}

fn the_page_shows_all_states(system: &System) {
    let page = system.ask("boss", "/get_logs?session_id=s-1");
    assert_eq!(page.status, 200);
    let html = page.text();
    for sign in ["✅", "❌", "⏳", "⚠️", "document_upload", "export_operation", "قرارداد.pdf"] {
        assert!(html.contains(sign), "{sign} is not on the page:\n{html}");
    }
    let stack = system.ask("boss", "/api/logs/export?format=ndjson&q=event_type:chat_interaction").text();
    assert!(stack.contains("Traceback (most recent call last)"), "{stack}");
}
