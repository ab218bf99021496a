//! The chat product: requests through its middleware, administrators who look and listen, and SQL over its table.

use serde_json::json;

use super::{Stream, System, number, token};
use crate::support::database::Database;
use crate::support::{eventually, python};

const SUPPORT: &str = "00000000-0000-4000-8000-0000000000a1";
const CHIEF: &str = "00000000-0000-4000-8000-0000000000a2";
const ALI: &str = "00000000-0000-4000-8000-000000000001";
const FAILING: &str = "00000000-0000-4000-8000-00000000bad1";

/// Requests of one day, and the deletion that an endpoint adds.
const ROWS: u64 = 34;

fn start() -> System {
    let database = Database::new();
    database.define("chat");
    System::start("chat-activity", &["weir.yaml"], database, &[("CHAT_TOKEN", "the-backends-token".to_owned())])
}

fn act(system: &System, what: &str) {
    let mut client = system.client(&[what]);
    let address = system.environment.iter().find(|(name, _)| name == "WEIR_ADDRESS").expect("it is there");
    client.env("WEIR_URL", format!("http://{}/", address.1)).env("WEIR_TOKEN", "the-backends-token");
    python::run(client);
}

#[test]
fn administrators_figures_are_those_of_the_products_table() {
    let system = start();
    act(&system, "demo");
    eventually("the table has every request", || system.database.count("activity_logs") == ROWS);

    // The eight statistics, before anybody's reading adds to them.
    let sql = "SELECT count(*), count(*) FILTER (WHERE success), count(*) FILTER (WHERE NOT success), \
               round(100.0 * count(*) FILTER (WHERE success) / count(*), 1), count(DISTINCT user_id), \
               count(*) FILTER (WHERE is_admin), count(*) FILTER (WHERE timestamp > now() - interval '24 hours') \
               FROM activity_logs";
    let expected = system.database.sql(sql);
    let average = system.number("SELECT avg(duration_ms) FROM activity_logs");
    let answer = system.get(SUPPORT, "/api/admin/activity?limit=100");
    let stats = &answer["stats"];
    let of = |name: &str| number(&stats[name]);
    let found = format!(
        "{}|{}|{}|{:.1}|{}|{}|{}",
        of("total_logs"),
        of("success_count"),
        of("failed_count"),
        of("success_rate"),
        of("unique_users"),
        of("admin_actions"),
        of("recent_24h")
    );
    assert_eq!(found, expected, "{stats}");
    assert!((of("avg_duration_ms") - average).abs() < 0.1, "{stats} {average}");

    rows_have_everything_the_platform_shows(&system, &answer);
    filters_and_orders_are_those_of_sql(&system);
    failed_logins_stand_out(&system);
    the_alert_fires_for_the_one_address(&system);
    visitors_and_users_see_no_more_than_they_may(&system);
    reading_is_recorded(&system);
    system.agent.assert_books();
}

fn rows_have_everything_the_platform_shows(system: &System, answer: &serde_json::Value) {
    let rows = answer["logs"].as_array().expect("rows");
    assert_eq!((rows.len() as u64, number(&answer["total"]), number(&answer["total_pages"])), (ROWS, ROWS as f64, 1.0));
    let names = [
        "id",
        "timestamp",
        "user_id",
        "action_type",
        "endpoint",
        "http_method",
        "status_code",
        "success",
        "error_message",
        "error_type",
        "target_user_id",
        "target_resource_id",
        "resource_type",
        "details",
        "duration_ms",
        "ip_address",
        "user_agent",
        "is_admin",
        "user_email",
        "user_display_name",
    ];
    for row in rows {
        let members = row.as_object().expect("an object");
        assert!(names.iter().all(|name| members.contains_key(*name)), "{row}");
        let sql = format!(
            "SELECT floor(extract(epoch FROM timestamp)) FROM activity_logs WHERE id = '{}'",
            row["id"].as_str().expect("an id")
        );
        assert_eq!(number(&row["timestamp"]), system.number(&sql), "whole seconds");
    }
    let ali = rows.iter().find(|row| row["user_id"] == ALI).expect("a row of Ali");
    assert_eq!((&ali["user_email"], &ali["user_display_name"]), (&json!("ali@example.org"), &json!("Ali")));
    let visitor = rows.iter().find(|row| row["user_id"] == "anon-3").expect("a row of a visitor");
    assert!(visitor["user_email"].is_null(), "{visitor}");
    let removal = rows.iter().find(|row| row["action_type"] == "admin_delete_user").expect("the deletion");
    assert_eq!((&removal["target_user_id"], &removal["is_admin"]), (&json!(FAILING), &json!(true)));
    assert_eq!(removal["details"]["reason"], "spam");
    let broken = rows.iter().find(|row| row["endpoint"] == "/api/broken").expect("the failure");
    assert_eq!((&broken["status_code"], &broken["error_type"]), (&json!(500), &json!("RuntimeError")));
}

fn filters_and_orders_are_those_of_sql(system: &System) {
    for (filter, sql) in [
        ("action_filter=login", "action_type = 'login'"),
        ("success_filter=failed", "NOT success"),
        ("success_filter=true&action_filter=chat_send", "success AND action_type = 'chat_send'"),
        ("is_admin=true&action_filter=admin_delete_user", "is_admin AND action_type = 'admin_delete_user'"),
        (
            "user_search=ali@example&action_filter=chat_send",
            &*format!("user_id = '{ALI}' AND action_type = 'chat_send'"),
        ),
        ("user_search=anon-&action_filter=chat_read", "user_id LIKE 'anon-%' AND action_type = 'chat_read'"),
    ] {
        let found = system.get(SUPPORT, &format!("/api/admin/activity?limit=100&{filter}"));
        let expected = system.number(&format!("SELECT count(*) FROM activity_logs WHERE {sql}"));
        assert_eq!(number(&found["total"]), expected, "{filter}");
        assert_eq!(found["logs"].as_array().expect("rows").len() as f64, expected, "{filter}");
    }
    let slowest =
        system.get(SUPPORT, "/api/admin/activity?limit=5&sort_by=duration_ms&sort_order=desc&action_filter=chat_send");
    let times: Vec<String> =
        slowest["logs"].as_array().expect("rows").iter().map(|row| row["duration_ms"].to_string()).collect();
    let sql = "SELECT string_agg(duration_ms::text, ',') FROM (SELECT duration_ms FROM activity_logs \
               WHERE action_type = 'chat_send' ORDER BY duration_ms DESC LIMIT 5) t";
    assert_eq!(times.join(","), system.database.sql(sql));
}

fn failed_logins_stand_out(system: &System) {
    let q = "q=event_type:login%20status:error";
    let found = system.get(SUPPORT, &format!("/api/logs/stats?group_by=user_id,ip_address&min_count=3&{q}"));
    let groups = found["groups"].as_array().unwrap_or_else(|| panic!("{found}"));
    assert_eq!(groups.len(), 1, "{found}");
    assert_eq!(number(&groups[0]["count"]), 4.0, "{found}");
    assert!(
        groups[0]["key"].to_string().contains(FAILING) && groups[0]["key"].to_string().contains("192.0.2.66"),
        "{found}"
    );
}

fn the_alert_fires_for_the_one_address(system: &System) {
    eventually("there is an alert", || !system.alerts().is_empty());
    let alerts = system.alerts();
    assert!(alerts.iter().all(|alert| alert["user_id"] == FAILING), "{alerts:?}");
    assert_eq!(alerts[0]["metadata"]["rule"], "failed_logins");
    assert!(alerts[0].to_string().contains("192.0.2.66"), "{alerts:?}");
    eventually("whoever is on duty has a message", || {
        system.messages.lock().expect("no panic").iter().any(|message| message.to_string().contains("failed logins of"))
    });
}

fn visitors_and_users_see_no_more_than_they_may(system: &System) {
    assert_eq!(system.ask(ALI, "/api/admin/activity").status, 403);
    assert_eq!(system.ask("anon-1", "/api/logs").status, 403);
    let own = system.get(ALI, "/api/logs?limit=1000");
    assert!(own["logs"].as_array().expect("rows").iter().all(|row| row["user_id"] == ALI), "{own}");
    assert_eq!(
        number(&own["total"]),
        system.number(&format!("SELECT count(*) FROM activity_logs WHERE user_id = '{ALI}'"))
    );
}

fn reading_is_recorded(system: &System) {
    let sql = format!(
        "SELECT count(*) FROM activity_logs WHERE action_type = 'admin_view_activity_logs' AND user_id = '{SUPPORT}'"
    );
    eventually("the administrator's own reads are rows", || system.number(&sql) > 0.0);
    let row = "SELECT endpoint, http_method, status_code, is_admin, details->>'limit' FROM activity_logs \
               WHERE action_type = 'admin_view_activity_logs' ORDER BY timestamp LIMIT 1";
    assert_eq!(system.database.sql(row), "/api/admin/activity|GET|200|t|100");
}

#[test]
fn two_administrators_see_the_same_and_go_on_where_they_were_when_the_agent_comes_back() {
    let mut system = start();
    let path = |user: &str| format!("/api/admin/activity/stream?token={}", token(user, json!({})));
    let (support, chief) =
        (Stream::open(system.agent.api, &path(SUPPORT)), Stream::open(system.agent.api, &path(CHIEF)));
    act(&system, "one");
    let events = |stream: &Stream| -> Vec<String> {
        let text = stream.heard();
        text.lines()
            .filter(|line| line.contains("new_activity") && line.contains("chat_send"))
            .map(str::to_owned)
            .collect()
    };
    eventually("both have it", || events(&support).len() == 1 && events(&chief).len() == 1);
    assert_eq!(events(&support), events(&chief));
    let heard = support.heard();
    assert!(heard.contains(r#""type":"connected""#), "{heard}");
    let ids = |heard: &str| -> Vec<u64> {
        heard.lines().filter_map(|line| line.strip_prefix("id:")?.trim().parse().ok()).collect()
    };
    // Whoever comes back from anywhere in it, as a browser does whose connection breaks, has missed nothing.
    let from = ids(&heard)[0] - 1;
    let replayed = Stream::open(system.agent.api, &format!("{}&last_event_id={from}", path(SUPPORT)));
    eventually("what was is sent again", || !events(&replayed).is_empty());
    let ids = ids(&replayed.heard());
    assert_eq!(ids[0], from, "{}", replayed.heard());
    assert!(ids.is_sorted(), "{ids:?}");
    let last = heard.lines().filter_map(|line| line.strip_prefix("id:")).next_back().expect("an id").trim().to_owned();

    system = system.restart();
    act(&system, "one");
    let again = Stream::open(system.agent.api, &format!("{}&last_event_id={last}", path(SUPPORT)));
    eventually("what happened meanwhile is there", || events(&again).len() == 1);
    assert_ne!(events(&again), events(&support));
    let refused = super::Stream::status(system.agent.api, &path(ALI));
    assert_eq!(refused, 403);
}
