//! Tables that the sink makes, and rows that grow old in them.

use crate::support::database::{Database, Filled, Roles, id};
use crate::support::{Folder, eventually, post};

fn event(number: u64, timestamp: &str) -> String {
    format!(
        "{{\"id\":\"{}\",\"timestamp\":\"{timestamp}\",\"user_id\":\"ali\",\"code\":\"import os\",\"ip_address\":\"::1\",\
         \"duration_ms\":1.5,\"team\":\"a\"}}\n",
        id(number)
    )
}

#[test]
fn a_table_is_made_with_its_indexes_and_filled() {
    let (folder, database) = (Folder::new(), Database::new());
    let filled = Filled::start(&folder, &database.url(), "events", "create_table: true");
    post(filled.port, &event(1, "2025-03-01T12:00:00Z"));
    post(filled.port, &event(1, "2025-03-01T12:00:00Z"));
    filled.settle();
    let row = "SELECT id, timestamp at time zone 'utc', user_id, code, ip_address, duration_ms, metadata->>'team', \
               received_at IS NOT NULL, source FROM events";
    assert_eq!(database.sql(row), format!("{}|2025-03-01 12:00:00|ali|import os|::1|1.5|a|t|in", id(1)));
    let indexes = "SELECT string_agg(replace(indexname, 'events_', ''), ' ' ORDER BY indexname) FROM pg_indexes \
                   WHERE tablename = 'events'";
    assert_eq!(database.sql(indexes), "code metadata pkey status time type user");
    assert!(!filled.agent.log().contains("repeats are possible"), "{}", filled.agent.log());
}

#[test]
fn months_are_made_ahead_and_old_ones_go_to_the_archive() {
    let (folder, database) = (Folder::new(), Database::new());
    let keys = "create_table: true\nretention: { age: 90d, archive: events_archive }";
    let filled = Filled::start(&folder, &database.url(), "events", keys);
    let ago = |days: u32| {
        database.sql(&format!("SELECT to_char(now() - interval '{days} days', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"))
    };
    let body: String = [0, 30, 60, 200].iter().enumerate().map(|(n, days)| event(n as u64, &ago(*days))).collect();
    post(filled.port, &body);
    let young: String = body.split_inclusive('\n').take(3).collect();
    post(filled.port, &young);
    filled.settle();
    let in_months = "SELECT count(*) FROM events WHERE tableoid::regclass::text LIKE 'events_p%'";
    assert_eq!(database.sql(in_months), "3", "only what is too old has no month");
    assert!(filled.agent.log().contains("the key includes `timestamp`"), "{}", filled.agent.log());
    drop(filled);
    // A month that was left over from earlier.
    database.sql(
        "CREATE TABLE events_p2020_01 PARTITION OF events FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z'); \
         INSERT INTO events (id, timestamp) SELECT gen_random_uuid(), '2020-01-15Z' FROM generate_series(1, 2500)",
    );
    let filled = Filled::start(&folder, &database.url(), "events", keys);
    eventually("the old rows are in the archive", || database.sql("SELECT to_regclass('events_p2020_01')").is_empty());
    eventually("the strays are, too", || database.count("events_other") == 0);
    assert_eq!(database.count("events"), 3);
    assert_eq!(database.count("events_archive"), 2501);
    drop(filled);
}

#[test]
fn the_shops_old_rows_move_to_its_archive_while_new_ones_come() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("shop");
    database.sql(
        "INSERT INTO activity_logs (timestamp, event_type, entity_type, entity_id) \
         SELECT now() - interval '91 days', 'UPDATE', 'order', n FROM generate_series(1, 3000) n; \
         INSERT INTO activity_logs (timestamp, event_type, entity_type) VALUES (now() - interval '89 days', 'A', 'b')",
    );
    let keys =
        "defaults: { entity_type: none, event_type: none }\nretention: { keep: 90d, archive: activity_logs_archive }";
    let filled = Filled::start(&folder, &database.url(), "activity_logs", keys);
    for n in 0..20 {
        post(filled.port, &event(n, "2099-01-01T00:00:00Z"));
    }
    filled.settle();
    eventually("the old rows are in the archive", || database.count("activity_logs_archive") == 3000);
    assert_eq!(database.count("activity_logs"), 21);
    let archived = "SELECT count(DISTINCT entity_id), min(event_type), max(entity_type) FROM activity_logs_archive";
    assert_eq!(database.sql(archived), "3000|UPDATE|order");
}

#[test]
fn a_role_that_may_only_insert_fills_the_table_and_another_one_takes_old_rows_away() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("shop");
    let (writer, keeper) = (format!("{}_writer", database.name), format!("{}_keeper", database.name));
    let _roles = Roles::new(&database, &[&writer, &keeper]);
    database.sql(&format!(
        "ALTER TABLE activity_logs ADD event_id uuid UNIQUE; ALTER TABLE activity_logs_archive ADD event_id uuid UNIQUE; \
         GRANT INSERT ON activity_logs TO {writer}; GRANT USAGE ON SEQUENCE activity_logs_id_seq TO {writer}; \
         GRANT SELECT, UPDATE, DELETE ON activity_logs TO {keeper}; GRANT INSERT ON activity_logs_archive TO {keeper}; \
         INSERT INTO activity_logs (timestamp, event_type, entity_type) VALUES (now() - interval '91 days', 'A', 'b')"
    ));
    let keys = format!(
        "defaults: {{ entity_type: none, event_type: none }}\n\
         retention: {{ age: 90d, archive: activity_logs_archive, url: '{}' }}",
        database.url_as(&keeper)
    );
    let filled = Filled::start(&folder, &database.url_as(&writer), "activity_logs", &keys);
    post(filled.port, &event(1, "2099-01-01T00:00:00Z"));
    filled.settle();
    eventually("the old row is in the archive", || database.count("activity_logs_archive") == 1);
    assert_eq!(database.count("activity_logs"), 1);
    for forbidden in ["UPDATE activity_logs SET user_id = 'x'", "DELETE FROM activity_logs", "TRUNCATE activity_logs"] {
        let refused = database.refused_as(&writer, forbidden);
        assert!(refused.contains("permission denied"), "{forbidden}: {refused}");
    }
}

#[test]
fn without_an_archive_old_rows_are_dropped() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("shop");
    database.sql(
        "INSERT INTO activity_logs (timestamp, event_type, entity_type) \
         SELECT now() - n * interval '1 day', 'UPDATE', 'order' FROM generate_series(1, 100) n",
    );
    let keys = "defaults: { entity_type: none, event_type: none }\nretention: { age: 30d }";
    let filled = Filled::start(&folder, &database.url(), "activity_logs", keys);
    post(filled.port, &event(1, "2099-01-01T00:00:00Z"));
    filled.settle();
    eventually("the old rows are gone", || database.count("activity_logs") <= 31);
}
