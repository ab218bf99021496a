//! The notebook platform: three users' notebooks, the platform's own requests, and SQL over its table.

use serde_json::Value;

use super::{System, number};
use crate::support::database::Database;
use crate::support::{eventually, lines_of, python, request};

const USERS: [(&str, &str, u64); 3] = [("ali", "ali", 8), ("سارا", "%D8%B3%D8%A7%D8%B1%D8%A7", 5), ("reza", "reza", 5)];

/// The platform after all notebooks have run.
fn run(configurations: &[&str]) -> System {
    let database = Database::new();
    database.define("notebook");
    let system = System::start("jupyter-audit", configurations, database, &[]);
    python::run(system.client(&["demo"]));
    let expected = USERS.iter().map(|(_, _, count)| count).sum();
    eventually("the table has every cell", || system.database.count("code_execution_logs") == expected);
    eventually("the store has every cell", || {
        system.agent.metric("weir_events_delivered_total", "executions") >= expected
    });
    system
}

#[test]
fn the_platforms_own_requests_give_the_numbers_of_its_table() {
    assert_the_platform_is_whole(&run(&["weir.yaml"]));
}

#[test]
fn they_do_so_as_well_where_the_table_itself_is_read() {
    assert_the_platform_is_whole(&run(&["weir.yaml", "read-table.yaml"]));
}

fn assert_the_platform_is_whole(system: &System) {
    for (user, _, count) in USERS {
        let mine = format!("FROM code_execution_logs WHERE username = '{user}'");
        let summary = system.get(user, "/api/activity/summary");
        assert_eq!(number(&summary["total_executions"]), count as f64);
        assert_eq!(number(&summary["today_executions"]), system.number(&format!("SELECT count(*) {mine}")));
        let errors = system.number(&format!("SELECT count(*) {mine} AND status = 'error'"));
        assert_eq!((number(&summary["error_count"]), number(&summary["total_errors"])), (errors, errors));
        let rate = system
            .number(&format!("SELECT round(100.0 * count(*) FILTER (WHERE status = 'success') / count(*), 1) {mine}"));
        assert_eq!(number(&summary["success_rate"]), rate);
        // The table has whole milliseconds.
        let average = system.number(&format!("SELECT avg(execution_time_ms) {mine}"));
        assert!((number(&summary["avg_execution_time_ms"]) - average).abs() <= 0.51, "{summary} {average}");

        let recent = system.get(user, "/api/activity/recent?limit=3");
        let rows = recent["activities"].as_array().expect("rows");
        assert_eq!((rows.len(), number(&recent["count"])), (3, 3.0));
        let newest = system.database.sql(&format!(
            "SELECT string_agg(cell_number::text, ',' ORDER BY timestamp DESC) FROM (SELECT * {mine} ORDER BY timestamp DESC LIMIT 3) t"
        ));
        let numbers: Vec<String> = rows.iter().map(|row| row["cell_number"].to_string()).collect();
        assert_eq!(numbers.join(","), newest);
        assert!(rows.iter().all(|row| row["username"] == user), "{recent}");

        let stats = system.get(user, "/api/activity/stats?days=7");
        let days = stats["days"].as_array().expect("days");
        assert_eq!(days.len(), 7);
        let total: f64 = days.iter().map(|day| number(&day["executions"])).sum();
        assert_eq!(total, count as f64);
    }
    administrators_figures_are_those_of_sql(system);
    searches_find_what_sql_finds(system);
    nobody_sees_what_is_anothers(system);
    no_secret_is_anywhere(system);
    exports_are_whole_and_recorded(system);
    who_fails_too_often_is_told_of(system);
    system.agent.assert_books();
}

fn administrators_figures_are_those_of_sql(system: &System) {
    let stats = system.get("boss", "/api/admin/system-stats");
    assert_eq!(
        number(&stats["total_users"]),
        system.number("SELECT count(DISTINCT username) FROM code_execution_logs")
    );
    assert_eq!(number(&stats["total_executions"]), system.number("SELECT count(*) FROM code_execution_logs"));
    let rate =
        "SELECT round(100.0 * count(*) FILTER (WHERE status <> 'success') / count(*), 1) FROM code_execution_logs";
    assert_eq!(number(&stats["error_rate"]), system.number(rate));
    assert_eq!(stats["recent_errors"].as_array().expect("errors").len(), 6);
    let users = system.get("boss", "/api/admin/all-users-activity");
    for row in users["users"].as_array().expect("rows") {
        let mine = format!("FROM code_execution_logs WHERE username = '{}'", row["username"].as_str().expect("a name"));
        assert_eq!(number(&row["executions"]), system.number(&format!("SELECT count(*) {mine}")));
        assert_eq!(number(&row["errors"]), system.number(&format!("SELECT count(*) {mine} AND status = 'error'")));
    }
    assert_eq!(users["users"].as_array().expect("rows").len(), USERS.len());
    assert_eq!(users["users"][0]["username"], "ali", "most executions first");
    let all = system.get("boss", "/api/admin/all-activity");
    assert_eq!(all.as_array().expect("a bare array").len(), USERS.len());
    for route in ["/api/admin/system-stats", "/api/admin/all-users-activity", "/api/admin/all-activity"] {
        assert_eq!(system.ask("ali", route).status, 403, "{route}");
    }
}

fn searches_find_what_sql_finds(system: &System) {
    for (user, text, like) in [
        ("ali", "MATH", "%math%"),
        ("ali", "100%25_off", "%100\\%\\_off%"),
        ("ali", "%D8%B3%D9%84%D8%A7%D9%85", "%سلام%"),
        ("سارا", "math", "%math%"),
        ("reza", "ValueError", "%valueerror%"),
    ] {
        let found = system.get(user, &format!("/api/activity/search?query={text}"));
        let sql = format!("SELECT count(*) FROM code_execution_logs WHERE username = '{user}' AND code ILIKE '{like}'");
        assert_eq!(number(&found["count"]), system.number(&sql), "{text}");
    }
    let found = system.get("ali", "/api/search-code?query=math");
    assert_eq!(found.as_array().expect("a bare array").len(), 1);
}

fn nobody_sees_what_is_anothers(system: &System) {
    let everything = system.get("boss", "/api/logs?limit=1000");
    for row in everything["logs"].as_array().expect("rows") {
        let owner = row["user_id"].as_str().expect("a user");
        let path = format!("/api/logs/{}", row["id"].to_string().trim_matches('"'));
        for (user, _, _) in USERS {
            assert_eq!(system.ask(user, &path).status, if user == owner { 200 } else { 404 }, "{user} asks for {row}");
        }
        let code = row["code"].as_str().expect("code");
        assert!(code.chars().count() <= 100, "administrators' lists have previews: {code}");
    }
    for (user, _, count) in USERS {
        let own = system.get(user, "/api/logs?limit=1000");
        assert_eq!(number(&own["total"]), count as f64, "{user}");
        for (other, escaped, _) in USERS {
            let found = system.get(user, &format!("/api/logs?user_id={escaped}"));
            assert_eq!(number(&found["total"]) > 0.0, user == other, "{user} asks for {other}");
        }
    }
}

fn no_secret_is_anywhere(system: &System) {
    for secret in ["hunter2hunter2", "wJalrXUtnFEMI/K7MDENG"] {
        assert_eq!(
            system.number(&format!("SELECT count(*) FROM code_execution_logs WHERE code LIKE '%{secret}%'")),
            0.0
        );
        let export = system.ask("boss", "/api/logs/export?format=ndjson").text();
        assert!(!export.contains(secret), "{secret}");
    }
    let long = "SELECT max(length(code)) FROM code_execution_logs";
    assert_eq!(system.number(long), 10_000.0);
}

fn exports_are_whole_and_recorded(system: &System) {
    let csv = system.ask("boss", "/api/logs/export?format=csv&columns=id,user_id,status").text();
    assert_eq!(csv.lines().count() as f64, system.number("SELECT count(*) FROM code_execution_logs") + 1.0);
    let json: Value = system.get("ali", "/api/logs/export?format=json");
    assert!(json.as_array().expect("rows").iter().all(|row| row["user_id"] == "ali"));
    eventually("exports of others' cells are events themselves", || {
        lines_of(&system.folder.path("data/audit"), "").iter().any(|line| line.contains("activity_export"))
    });
}

fn who_fails_too_often_is_told_of(system: &System) {
    eventually("there is an alert", || !system.alerts().is_empty());
    let alerts = system.alerts();
    let often: Vec<&Value> = alerts.iter().filter(|alert| alert["metadata"]["rule"] == "fails_often").collect();
    assert_eq!(often.len(), 1, "{alerts:?}");
    assert_eq!(often[0]["user_id"], "reza");
    assert_eq!(number(&often[0]["metadata"]["count"]), 4.0, "{often:?}");
    assert_eq!(often[0]["description"], "reza had 4 failing cells");
    eventually("whoever is on duty has a message", || {
        system
            .messages
            .lock()
            .expect("no panic")
            .iter()
            .any(|message| message.to_string().contains("reza had 4 failing"))
    });
}

#[test]
fn what_the_server_saw_joins_what_the_kernel_said_and_shows_what_it_did_not() {
    let database = Database::new();
    database.define("notebook");
    let system = System::start("jupyter-audit", &["weir.yaml"], database, &[("GAP_AFTER", "2s".to_owned())]);
    let expected = python::run(python::program(&system.folder, "server.py", &[]));
    eventually("the table has every cell", || system.database.count("code_execution_logs") == expected.len() as u64);
    eventually("two gaps are there", || {
        number(&system.get("boss", "/api/logs?event_type=capture_gap&limit=1000")["total"]) == 2.0
    });
    let rows = system.ask("boss", "/api/logs/export?format=ndjson").text();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for cell in &expected {
        let of_cell = |row: &&Value| row["operation_id"] == cell["operation_id"];
        let mine: Vec<&Value> = rows.iter().filter(of_cell).filter(|row| row["event_type"] != "capture_gap").collect();
        assert_eq!(mine.len(), 1, "{cell}: {mine:?}");
        assert_eq!((&mine[0]["status"], &mine[0]["code"]), (&cell["status"], &cell["code"]), "{mine:?}");
        let gaps = rows.iter().filter(of_cell).filter(|row| row["event_type"] == "capture_gap").count();
        assert_eq!(gaps, usize::from(cell["by"] == "server"), "{cell}");
        assert_eq!(mine[0]["capture"], if cell["by"] == "server" { "server" } else { "kernel" }, "{mine:?}");
    }
    system.agent.assert_books();
}

#[test]
fn a_cell_is_live_for_administrators_and_its_user_and_nobody_else() {
    let database = Database::new();
    database.define("notebook");
    let system = System::start("jupyter-audit", &["weir.yaml"], database, &[]);
    let listening = ["boss", "ali", "reza"].map(|user| {
        let (port, token) = (system.agent.api, super::token(user, serde_json::json!({})));
        super::Stream::open(port, &format!("/api/stream?token={token}"))
    });
    python::run(system.client(&["ali"]));
    for stream in &listening[..2] {
        eventually("the last cell is there", || stream.heard().contains("100%_off"));
    }
    assert!(!listening[2].heard().contains("\"ali\""), "{}", listening[2].heard());
    let health = request(system.agent.api, "GET", "/health", &[], b"").expect("the agent answers");
    assert_eq!(health.status, 200);
}
