//! Cursors of lists: every row is on exactly one page whatever it is sorted by, and nobody can make or change a cursor.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::places::{escaped, reading};
use crate::support::{Agent, Folder, eventually, free_port, post, request};

const SECRET: &str = "a secret of more than thirty-two bytes, for tests";

fn token(user: &str, role: &str) -> String {
    let claims = json!({ "sub": user, "role": role, "exp": 4_000_000_000_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

fn ask(agent: &Agent, token: &str, path: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let answer = request(agent.api, "GET", path, &[("Authorization", &bearer)], b"").expect("the agent answers");
    let body = if answer.text().starts_with('{') { answer.json() } else { answer.text().into() };
    (answer.status, body)
}

fn ids(page: &Value) -> Vec<String> {
    page["logs"].as_array().expect("rows").iter().map(|row| row["id"].to_string()).collect()
}

/// The ids on all pages of one row, which are those of the whole list.
fn walk(agent: &Agent, list: &str) {
    let token = token("root", "admin");
    let (status, whole) = ask(agent, &token, &format!("{list}&limit=1000"));
    assert_eq!(status, 200, "{list}: {whole}");
    let whole = ids(&whole);
    let (mut seen, mut path) = (Vec::new(), format!("{list}&limit=1"));
    loop {
        let (status, page) = ask(agent, &token, &path);
        assert_eq!(status, 200, "{list}: {page}");
        seen.extend(ids(&page));
        assert!(seen.len() <= whole.len(), "{list}: rows come again: {seen:?}");
        match page["next"].as_str() {
            Some(next) => path = format!("{list}&limit=1&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, whole, "{list}");
    assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), whole.len(), "{list}");
}

const SORTED_BY: [&str; 7] = ["timestamp", "duration_ms", "event_type", "status", "status_code", "user_id", "endpoint"];

fn walk_all(agent: &Agent) {
    for name in SORTED_BY {
        for order in ["asc", "desc"] {
            walk(agent, &format!("/api/logs?sort_by={name}&sort_order={order}"));
        }
    }
}

/// The type of each column, and its value in row `n` as SQL; rows without a rest by three have none.
type Columns = [(&'static str, &'static str, &'static str); 6];

/// Equal values, values that differ in their last digit only, and texts that are longer than an address.
const TABLES: [(&str, &str, Columns); 3] = [
    (
        "bigint GENERATED ALWAYS AS IDENTITY",
        "timestamptz",
        [
            ("duration_ms", "real", "0.1::real * (n / 2)"),
            ("event_type", "text", "repeat('چ', 3000) || n"),
            ("status", "boolean", "n % 2 = 0"),
            ("status_code", "bigint", "9007199254740992 + n / 2"),
            ("user_id", "uuid", "md5((n / 2)::text)::uuid"),
            ("endpoint", "inet", "('10.0.0.' || n / 2)::inet"),
        ],
    ),
    (
        "uuid DEFAULT gen_random_uuid()",
        "timestamp",
        [
            ("duration_ms", "numeric", "0.12345678901234567890 + (n / 2) * 0.00000000000000000001"),
            ("event_type", "jsonb", "jsonb_build_object('a', n / 2)"),
            ("status", "varchar(20)", "(ARRAY['ok', 'failed', 'Success', 'odd'])[n % 4 + 1]"),
            ("status_code", "double precision", "0.1 + (n / 2) * 0.1"),
            ("user_id", "integer", "n / 2"),
            ("endpoint", "timestamptz", "'2026-01-01Z'::timestamptz + (n / 2) * interval '1 microsecond'"),
        ],
    ),
    (
        "text DEFAULT md5(random()::text)",
        "timestamptz",
        [
            (
                "duration_ms",
                "double precision",
                "(ARRAY['NaN', '-Infinity', 'Infinity', '-0', '1e300'])[n % 5 + 1]::float8",
            ),
            ("event_type", "text[]", "ARRAY['a', (n / 2)::text]"),
            ("status", "text", "E'\\n\\t\\U0001F600' || n / 2"),
            ("status_code", "real", "(ARRAY['NaN', '-Infinity', 'Infinity', '1e-40', '3.4e38'])[n % 5 + 1]::real"),
            ("user_id", "numeric", "(ARRAY['NaN', '12', '12.0', '1e100'])[n % 4 + 1]::numeric"),
            ("endpoint", "date", "'2026-01-01'::date + n / 2"),
        ],
    ),
];

#[test]
fn each_row_of_a_table_is_on_one_page_whatever_the_type_of_the_column() {
    for (key, time, columns) in TABLES {
        let (folder, database) = (Folder::new(), Database::new());
        let declared: String = columns.iter().map(|(name, kind, _)| format!(", {name} {kind}")).collect();
        let names: String = columns.iter().map(|(name, ..)| format!(", {name}")).collect();
        let values: String =
            columns.iter().map(|(_, _, value)| format!(", CASE WHEN n % 3 > 0 THEN {value} END")).collect();
        database.sql(&format!(
            "CREATE TABLE t (id {key} PRIMARY KEY, timestamp {time} NOT NULL{declared}); \
             INSERT INTO t (timestamp{names}) \
             SELECT '2026-01-01Z'::timestamptz + (n / 3) * interval '1 second'{values} FROM generate_series(0, 23) n"
        ));
        let yaml = format!(
            "  auth: {{ jwt: {{ secret: '{SECRET}' }} }}\n  read: {{ sink: rows }}\n\
             sources: {{ web: {{ type: http, address: '127.0.0.1:{}' }} }}\n\
             sinks:\n  rows: {{ type: postgres, inputs: [web], url: '{}', table: t }}\n",
            free_port(),
            database.url()
        );
        let agent = Agent::start(&folder, &yaml);
        walk_all(&agent);
    }
}

fn store_yaml(port: u16) -> String {
    format!(
        "  auth: {{ jwt: {{ secret: '{SECRET}' }} }}\n\
         sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  named: {{ type: normalize, inputs: [web] }}\n\
         sinks:\n  events: {{ type: store, inputs: [named], batch: {{ age: 10ms }} }}\n"
    )
}

fn store_with(folder: &Folder, events: &[Value]) -> Agent {
    let port = free_port();
    let agent = Agent::start(folder, &store_yaml(port));
    let body: String = events.iter().map(|event| format!("{event}\n")).collect();
    assert_eq!(post(port, &body), events.len() as u64);
    eventually("they are stored", || agent.metric("weir_events_delivered_total", "events") >= events.len() as u64);
    agent
}

#[test]
fn each_event_of_the_store_is_on_one_page_whatever_its_values() {
    let folder = Folder::new();
    let long = "\u{1}é😀".repeat(3000);
    let odd = [
        json!(0.1),
        json!(0.2),
        json!(9_007_199_254_740_993_u64),
        json!(9_007_199_254_740_992_u64),
        json!(-1e300),
        json!("12"),
        json!(true),
        json!({ "a": [1] }),
        json!(format!("{long}1")),
        json!(format!("{long}2")),
        json!(""),
        json!(null),
    ];
    let event = |n: usize| {
        let value = |step: usize| odd[(n * step + step) % odd.len()].clone();
        json!({ "timestamp": format!("2026-01-01T00:00:{:02}Z", n / 3), "duration_ms": value(1), "event_type": value(5),
                "status": value(7), "status_code": value(11), "user_id": value(1), "endpoint": value(5) })
    };
    let agent = store_with(&folder, &(0..24).map(event).collect::<Vec<_>>());
    walk_all(&agent);
}

fn two_users(n: usize) -> Value {
    let user = ["ali", "sara"][n % 2];
    json!({ "user_id": user, "code": format!("code {n}"), "duration_ms": n / 4,
            "timestamp": format!("2026-01-01T00:00:{:02}Z", n / 3) })
}

#[test]
fn a_cursor_that_was_changed_cut_or_made_elsewhere_is_refused_and_shows_nothing() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let events: Vec<Value> = (0..20).map(two_users).collect();
    let agent = store_with(&folder, &events);
    let other = store_with(&elsewhere, &events);
    let (ali, root) = (token("ali", "user"), token("root", "admin"));
    let list = "/api/logs?limit=2&sort_by=duration_ms";
    let next_of = |agent: &Agent, token: &str, list: &str| {
        ask(agent, token, list).1["next"].as_str().expect("there is more").to_owned()
    };
    let next = next_of(&agent, &ali, list);
    let refused = |list: &str, cursor: &str| {
        let (status, problem) = ask(&agent, &ali, &format!("{list}&cursor={cursor}"));
        assert_eq!(status, 400, "`{cursor}`: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("cursor")), "{problem}");
        assert!(!problem.to_string().contains("sara"), "{problem}");
    };
    for at in 0..next.len() {
        for byte in [b'A', b'z', b'_', b'.', b'0'] {
            let mut changed = next.clone().into_bytes();
            if std::mem::replace(&mut changed[at], byte) != byte {
                refused(list, std::str::from_utf8(&changed).expect("ASCII"));
            }
        }
        if at > 0 {
            refused(list, &next[..at]);
            refused(list, &next[at..]);
        }
    }
    for odd in
        ["%00", "%FF%FE", ".", "..", "null", "e30.e30", "W10.", "%D9%BE.x", &format!("{next}{next}"), &"A".repeat(6000)]
    {
        refused(list, odd);
    }
    refused(list, &next_of(&other, &ali, list));
    refused("/api/logs?limit=2", &next);
    refused("/api/logs?limit=2&sort_by=duration_ms&sort_order=asc", &next);
    refused("/api/logs?limit=2&sort_by=user_id", &next);

    // Whoever has somebody else's cursor sees the own events only, from that place on.
    let foreign = next_of(&agent, &root, list);
    let (status, page) = ask(&agent, &ali, &format!("{list}&cursor={foreign}"));
    assert_eq!(status, 200, "{page}");
    assert!(page["logs"].as_array().expect("rows").iter().all(|row| row["user_id"] == "ali"), "{page}");
    // An old one is good for as long as the data folder has its key.
    assert!(agent.stop().success());
    let agent = Agent::start(&folder, &store_yaml(free_port()));
    assert_eq!(ask(&agent, &ali, &format!("{list}&cursor={next}")).0, 200);
}

#[test]
fn a_cursor_of_the_store_is_refused_where_a_table_is_read() {
    let (folder, database) = (Folder::new(), Database::new());
    let events: Vec<Value> = (0..20).map(two_users).collect();
    let agent = store_with(&folder, &events);
    let root = token("root", "admin");
    let lists = ["/api/logs?limit=2", "/api/logs?limit=2&sort_by=duration_ms", "/api/logs?limit=2&sort_by=user_id"];
    let cursors = lists.map(|list| ask(&agent, &root, list).1["next"].as_str().expect("there is more").to_owned());
    assert!(agent.stop().success());
    for key in ["bigint GENERATED ALWAYS AS IDENTITY", "uuid DEFAULT gen_random_uuid()"] {
        database.sql(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id {key} PRIMARY KEY, timestamp timestamptz, user_id integer, duration_ms text); \
             INSERT INTO t (timestamp, user_id, duration_ms) SELECT now(), n, n::text FROM generate_series(0, 9) n"
        ));
        let yaml = format!(
            "  auth: {{ jwt: {{ secret: '{SECRET}' }} }}\n  read: {{ sink: rows }}\n\
             sources: {{ web: {{ type: http, address: '127.0.0.1:{}' }} }}\n\
             sinks:\n  rows: {{ type: postgres, inputs: [web], url: '{}', table: t, on_remove: drop }}\n  \
             events: {{ type: store, inputs: [web] }}\n",
            free_port(),
            database.url()
        );
        let agent = Agent::start(&folder, &yaml);
        for (list, cursor) in lists.iter().zip(&cursors) {
            let (status, problem) = ask(&agent, &root, &format!("{list}&cursor={cursor}"));
            assert_eq!(status, 400, "{list}: {problem}");
        }
        assert!(agent.stop().success());
    }
}

/// Rows of one time whose ids are there twice, are missing, or are in no column.
#[test]
fn rows_that_no_id_tells_apart_are_each_on_one_page() {
    let tables = [
        (
            "tenant text, id int, PRIMARY KEY (tenant, id)",
            "INSERT INTO base (tenant, id) SELECT t, i FROM unnest(array['a','b']) t, generate_series(1, 60) i",
            "",
        ),
        ("id text", "INSERT INTO base (id) SELECT 'same' FROM generate_series(1, 120)", ""),
        ("n int", "INSERT INTO base (n) SELECT 1 FROM generate_series(1, 120)", ""),
        ("id uuid UNIQUE", "INSERT INTO base (id) SELECT NULL FROM generate_series(1, 120)", ""),
        (
            "id serial, PRIMARY KEY (id, timestamp)",
            "INSERT INTO base (user_id) SELECT 'u' FROM generate_series(1, 120)",
            "PARTITION BY RANGE (timestamp)",
        ),
        (
            "tenant text, id int, PRIMARY KEY (tenant, id)",
            "INSERT INTO base (tenant, id) SELECT t, i FROM unnest(array['a','b']) t, generate_series(1, 60) i",
            "VIEW",
        ),
    ];
    for (columns, rows, more) in tables {
        let (database, folder) = (Database::new(), Folder::new());
        let partitioned = if more == "VIEW" { "" } else { more };
        database.sql(&format!("CREATE TABLE base (timestamp timestamptz DEFAULT '2026-01-02T03:04:05Z', user_id text, code text, {columns}) {partitioned}"));
        if !partitioned.is_empty() {
            database.sql("CREATE TABLE part PARTITION OF base DEFAULT");
        }
        database.sql(rows);
        let name =
            if more == "VIEW" { "CREATE VIEW seen AS SELECT * FROM base" } else { "ALTER TABLE base RENAME TO seen" };
        database.sql(name);
        let agent = reading(&folder, &database, "seen", "");
        let admin = token("root", "admin");
        for order in ["", "&sort_order=asc"] {
            let (mut seen, mut path) = (0, format!("/api/logs?limit=7{order}"));
            loop {
                let (status, page) = ask(&agent, &admin, &path);
                assert_eq!(status, 200, "{columns} {more}: {page}");
                seen += page["logs"].as_array().map_or(0, Vec::len);
                match page["next"].as_str() {
                    Some(next) => path = format!("/api/logs?limit=7{order}&cursor={}", escaped(next)),
                    None => break,
                }
            }
            assert_eq!(seen, 120, "{columns} {more} {order}");
        }
    }
}

/// Postgres has times that 64 bits of microseconds since 1970 do not hold: one such row is no reason to answer nobody.
#[test]
fn a_time_beyond_all_numbers_is_as_infinite() {
    for (kind, times) in [
        ("timestamptz", &["'294276-12-31 23:59:59+00'", "'infinity'", "'-infinity'", "NULL"][..]),
        ("timestamp", &["'294276-12-31 23:59:59'", "'infinity'"]),
        ("date", &["'5874897-01-01'", "'-infinity'", "'294260-01-01'"]),
    ] {
        let (database, folder) = (Database::new(), Folder::new());
        database.sql(&format!(
            "CREATE TABLE seen (id serial PRIMARY KEY, timestamp {kind}, created_at {kind}, user_id text, code text)"
        ));
        for time in times.iter().chain(&["'2026-01-02'"]) {
            database.sql(&format!(
                "INSERT INTO seen (timestamp, created_at, user_id, code) VALUES ({time}, {time}, 'ali', 'x')"
            ));
        }
        let agent = reading(&folder, &database, "seen", "");
        let admin = token("root", "admin");
        for path in [
            "/api/logs",
            "/api/logs/stats",
            "/api/logs/stats?group_by=day",
            "/api/logs/histogram",
            "/api/admin/activity",
            "/api/admin/system-stats",
            "/api/logs/export?format=ndjson",
            "/api/fields",
        ] {
            let (status, answer) = ask(&agent, &admin, path);
            assert_eq!(status, 200, "{kind} {path}: {answer}");
        }
        assert_eq!(ask(&agent, &admin, "/api/logs").1["total"], 1, "{kind}");
    }
}

/// What a database cannot add up or multiply in a column's own type is no reason to answer nobody.
#[test]
fn durations_beyond_all_measure_leave_statistics_to_the_others() {
    for (column, values) in [
        ("duration_ms double precision", &["1.7e308", "1.7e308", "-1.7e308", "'NaN'", "'Infinity'"][..]),
        ("duration_s double precision", &["1.7e308", "1e306"]),
        ("duration_seconds integer", &["3000000", "2147483647"]),
        ("duration_seconds bigint", &["9223372036854775807"]),
    ] {
        let (database, folder) = (Database::new(), Folder::new());
        database.sql(&format!(
            "CREATE TABLE seen (id serial PRIMARY KEY, timestamp timestamptz, user_id text, code text, status text, {column})"
        ));
        let name = column.split(' ').next().expect("a name");
        for (user, value) in values.iter().map(|value| ("eve", *value)).chain([("ali", "4"), ("ali", "2")]) {
            database.sql(&format!(
                "INSERT INTO seen (timestamp, user_id, code, status, {name}) VALUES (now(), '{user}', 'x', 'success', {value})"
            ));
        }
        let agent = reading(&folder, &database, "seen", "");
        let admin = token("root", "admin");
        for path in [
            "/api/logs",
            "/api/logs?q=duration_ms:%3E1000",
            "/api/logs/stats",
            "/api/logs/stats?group_by=user_id",
            "/api/admin/activity?sort_by=duration_ms",
            "/api/admin/system-stats",
            "/api/admin/all-users-activity",
            "/api/fields/user_id/values",
            "/api/logs/export?format=json",
        ] {
            let (status, answer) = ask(&agent, &admin, path);
            assert_eq!(status, 200, "{column} {path}: {answer}");
        }
        let groups = ask(&agent, &admin, "/api/logs/stats?group_by=user_id").1;
        let ali = groups["groups"].as_array().expect("groups").iter().find(|group| group["key"] == "ali");
        let factor = if name == "duration_ms" { 1.0 } else { 1000.0 };
        assert_eq!(ali.expect("a group")["avg_ms"], 3.0 * factor, "{column}");
        let recent = ask(&agent, &token("ali", "user"), "/api/activity/recent").1;
        assert_eq!(recent["activities"][0]["execution_time_ms"].as_f64(), Some(2.0 * factor), "{column}");
    }
}
