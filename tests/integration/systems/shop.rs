//! The shop: two services report, staff look, rows cannot be changed, and everything is shipped on.

use serde_json::{Value, json};

use super::{System, number, token};
use crate::support::database::{Database, Roles};
use crate::support::search::Search;
use crate::support::splunk::{Splunk, TOKEN};
use crate::support::{eventually, lines_of, python};

/// What the two clients report: orders 0 to 29 and their payments.
const ORDERS: &str = "30";

struct Shop {
    system: System,
    index: String,
    splunk: Splunk,
    writer: String,
    _roles: Roles,
    _collector: crate::support::collector::Collector,
}

fn open() -> Shop {
    let database = Database::new();
    database.define("shop");
    let [writer, archiver] = ["writer", "archiver"].map(|role| format!("{}_{role}", database.name));
    let roles = Roles::new(&database, &[&writer, &archiver]);
    database.run_file("shop-activity/roles.sql", &[("writer", &writer), ("archiver", &archiver)]);
    database.sql(
        "INSERT INTO activity_logs (timestamp, event_type, entity_type, entity_id) \
         SELECT now() - interval '91 days', 'UPDATE', 'order', n FROM generate_series(1, 50) n",
    );
    let (splunk, collector) = Splunk::start();
    let index = database.name.clone();
    let more = [
        ("DATABASE_URL", database.url_as(&writer)),
        ("ARCHIVE_DATABASE_URL", database.url_as(&archiver)),
        ("OPENSEARCH_URL", crate::support::services::service("WEIR_TEST_OPENSEARCH")),
        ("OPENSEARCH_INDEX", index.clone()),
        ("SPLUNK_URL", format!("http://127.0.0.1:{}", collector.port)),
        ("SPLUNK_TOKEN", TOKEN.to_owned()),
    ];
    let system = System::start("shop-activity", &["weir.yaml", "ship.yaml"], database, &more);
    Shop { system, index, splunk, writer, _roles: roles, _collector: collector }
}

/// A service runs to its end; everything that it reports is answered for before.
fn serve(system: &System, service: &str) {
    let mut client = system.client(&[service, "0", ORDERS]);
    client
        .env("WEIR_URL", format!("http://127.0.0.1:{}/api/logs", system.agent.api))
        .env("WEIR_TOKEN", token(service, json!({"role": "ingest"})));
    python::run(client);
}

#[test]
fn the_shops_numbers_are_those_of_its_table_and_nobody_can_change_a_row() {
    let shop = open();
    let system = &shop.system;
    serve(system, "orders");
    let path = format!("/ws/logs?token={}&q=event_type:PAYMENT", token("guest", json!({})));
    let live = super::Stream::websocket(system.agent.api, &path);
    serve(system, "payments");
    eventually("the last payment is live", || live.heard().contains("payment-29"));
    assert!(live.heard().contains(r#""type":"logs""#) && !live.heard().contains("\"CREATE\""), "{}", live.heard());
    let expected = 30 + 2 * 15 + 5 + 30;
    eventually("the table has everything", || system.database.count("activity_logs") == expected);
    system.agent.delivered("activity", expected);
    assert_eq!(std::fs::read_dir(system.folder.path("spool")).map_or(0, Iterator::count), 0, "nothing was spooled");

    statistics_are_those_of_sql(system);
    every_filter_finds_what_sql_finds(system);
    one_order_is_followed_across_services(system);
    guests_look_and_administrators_export(system);

    for forbidden in
        ["UPDATE activity_logs SET user_id = 'x'", "DELETE FROM activity_logs", "SELECT * FROM activity_logs"]
    {
        let refused = system.database.refused_as(&shop.writer, forbidden);
        assert!(refused.contains("permission denied"), "{forbidden}: {refused}");
    }
    eventually("old rows are in the archive", || system.database.count("activity_logs_archive") == 50);

    let search = Search::opensearch();
    eventually("OpenSearch has everything", || search.count(&format!("{}-*", shop.index)) == expected);
    eventually("Splunk has everything", || shop.splunk.counts().len() as u64 == expected);
    assert!(shop.splunk.counts().values().all(|count| *count == 1));
    search.must("DELETE", &format!("/{}-*", shop.index), None);
    system.agent.assert_books();
}

fn statistics_are_those_of_sql(system: &System) {
    let stats = system.get("guest", "/api/logs/stats");
    assert_eq!(number(&stats["total_logs"]), system.number("SELECT count(*) FROM activity_logs"));
    assert_eq!(number(&stats["recent_24h"]), system.number("SELECT count(*) FROM recent_activity"));
    for (member, column) in [("by_event_type", "event_type"), ("by_entity_type", "entity_type")] {
        let sql = format!(
            "SELECT json_object_agg(k, n) FROM (SELECT {column} k, count(*) n FROM activity_logs GROUP BY 1) t"
        );
        let expected: Value = serde_json::from_str(&system.database.sql(&sql)).expect("JSON");
        assert_eq!(stats[member], expected, "{member}");
    }
}

fn every_filter_finds_what_sql_finds(system: &System) {
    for (filter, sql) in [
        ("event_type=PAYMENT", "event_type = 'PAYMENT'"),
        ("entity_type=order", "entity_type = 'order'"),
        ("entity_id=order-4", "entity_id = 'order-4'"),
        ("user_id=customer-3", "user_id = 'customer-3'"),
        (
            "entity_type=order&event_type=UPDATE&user_id=customer-2",
            "entity_type = 'order' AND event_type = 'UPDATE' AND user_id = 'customer-2'",
        ),
        ("search=was%20SHIPPED", "description ILIKE '%was shipped%'"),
        ("search=100%25", "description LIKE '%100\\%%'"),
        (
            "status=error",
            "metadata->>'error_type' = 'CardDeclined' OR event_type = 'PAYMENT' AND metadata->>'status' = 'error'",
        ),
        ("session_id=payments-run", "metadata->>'session_id' = 'payments-run'"),
        ("start_date=2020-01-01&end_date=2020-12-31", "timestamp < '2021-01-01' AND timestamp > '2020-01-01'"),
        ("q=metadata.new_status:SHIPPED", "metadata->>'new_status' = 'SHIPPED'"),
    ] {
        let found = system.get("guest", &format!("/api/logs?limit=1000&{filter}"));
        let expected = system.number(&format!("SELECT count(*) FROM activity_logs WHERE {sql}"));
        assert_eq!(number(&found["total"]), expected, "{filter}");
        assert_eq!(found["logs"].as_array().expect("rows").len() as f64, expected, "{filter}");
    }
}

fn one_order_is_followed_across_services(system: &System) {
    let order = system.get("guest", "/api/logs?q=trace_id:%2200000000000000000000000000000004%22");
    let rows = order["logs"].as_array().expect("rows");
    let mut said: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {} {}",
                row["event_type"].as_str().unwrap(),
                row["entity_id"].as_str().unwrap(),
                row["reported_by"].as_str().unwrap()
            )
        })
        .collect();
    said.sort();
    let expected =
        ["CREATE order-4 orders", "CREATE shipment-4 orders", "PAYMENT payment-4 payments", "UPDATE order-4 orders"];
    assert_eq!(said, expected);
}

fn guests_look_and_administrators_export(system: &System) {
    assert_eq!(system.ask("guest", "/api/logs/export?format=csv").status, 403);
    let csv = system.ask("boss", "/api/logs/export?format=csv&entity_type=payment");
    assert_eq!(csv.status, 200, "{}", csv.text());
    let count = system.number("SELECT count(*) FROM activity_logs WHERE entity_type = 'payment'");
    assert_eq!(csv.text().lines().count() as f64, count + 1.0);
    let all = system.get("boss", "/api/logs/export?format=json");
    assert_eq!(all.as_array().expect("rows").len() as f64, system.number("SELECT count(*) FROM activity_logs"));
    eventually("the exports are events themselves", || {
        let said = lines_of(&system.folder.path("data/audit"), "");
        said.iter().filter(|line| line.contains("activity_export")).count() == 2
    });
}
