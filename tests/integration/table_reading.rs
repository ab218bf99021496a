//! Reading a table of Postgres: what is scanned for an answer, who waits for whom, and what is said when it fails.

use serde_json::Value;

use crate::support::database::Database;
use crate::support::places::{ask, reading, token};
use crate::support::{Agent, Folder, eventually};

/// How often the table was scanned whole by sessions of the reader. A session reports that when it ends.
fn scans(database: &Database, table: &str) -> String {
    let readers =
        format!("FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE '%(reading)'", database.name);
    database.sql(&format!("SELECT count(pg_terminate_backend(pid)) {readers}"));
    eventually("the sessions end", || database.sql(&format!("SELECT count(*) {readers}")) == "0");
    database.sql(&format!("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = '{table}'"))
}

fn check_no_scan(database: &Database, agent: &Agent, table: &str, paths: &[(&str, &str)]) {
    let before = scans(database, table);
    for (user, path) in paths {
        let role = if *user == "root" { "admin" } else { "user" };
        let (status, body) = ask(agent, &token(user, role), path);
        let is_there = status == 200 || path.ends_with("/999999999") && status == 404;
        assert!(is_there, "{path}: {status} {body}");
        assert_eq!(scans(database, table), before, "{user} {path} scanned `{table}` whole");
    }
}

#[test]
fn lists_by_an_indexed_column_read_no_whole_table() {
    let (database, folder) = (Database::new(), Folder::new());
    database.define("notebook");
    database.sql(
        "INSERT INTO code_execution_logs (timestamp, username, session_id, code, execution_time_ms, status)
         SELECT '2026-01-01'::timestamp + n * interval '1 second', 'u' || n % 500, 's' || n % 500, 'print(1)', 5, 'success'
         FROM generate_series(1, 50000) n;
         CREATE INDEX ON code_execution_logs (session_id, timestamp);
         ANALYZE code_execution_logs",
    );
    let agent = reading(&folder, &database, "code_execution_logs", "");
    check_no_scan(
        &database,
        &agent,
        "code_execution_logs",
        &[
            ("u7", "/api/activity/recent?limit=10"),
            ("u7", "/api/activity/summary"),
            ("u7", "/api/activity/search?query=print"),
            ("root", "/api/logs/77"),
            ("root", "/api/logs/999999999"),
            ("root", "/api/logs/77/context?limit=5"),
            ("root", "/api/logs?user_id=u9&limit=5"),
        ],
    );
}

/// Whole numbers are compared as such, by the index that the column has.
#[test]
fn numbers_are_found_by_the_index_of_their_column() {
    for kind in ["smallint", "integer", "bigint"] {
        let (database, folder) = (Database::new(), Folder::new());
        database.sql(&format!(
            "CREATE TABLE rows (id {} PRIMARY KEY, timestamp timestamptz NOT NULL, user_id {kind}, status_code {kind}, duration_ms {kind});
             INSERT INTO rows SELECT n, '2026-01-01Z'::timestamptz + n * interval '1 second', n % 1000, CASE WHEN n % 9 > 0 THEN n % 5000 END, n
             FROM generate_series(1, 30000) n;
             CREATE INDEX ON rows (user_id, timestamp);
             CREATE INDEX ON rows (status_code);
             CREATE INDEX ON rows (duration_ms);
             CREATE INDEX ON rows (timestamp);
             ANALYZE rows",
            if kind == "smallint" { "integer" } else { kind },
        ));
        let agent = reading(&folder, &database, "rows", "");
        let paths = [
            ("7", "/api/logs"),
            ("root", "/api/logs?user_id=7"),
            ("root", "/api/logs?user_id=07"),
            ("root", "/api/logs?user_id=99999999999999999999"),
            ("root", "/api/logs/77"),
            ("root", "/api/logs/999999999"),
            ("root", "/api/logs?q=status_code:404"),
            ("root", "/api/logs?q=status_code:%3E=4998"),
            ("root", "/api/logs?q=duration_ms:%3E29990&sort_by=duration_ms&limit=5"),
            ("root", "/api/logs?q=duration_ms:%5B5%20TO%209%5D&sort_by=duration_ms&sort_order=asc&limit=5"),
        ];
        check_no_scan(&database, &agent, "rows", &paths);
        let admin = token("root", "admin");
        for (path, total) in [
            ("/api/logs?user_id=7", 30),
            ("/api/logs?user_id=07", 0),
            ("/api/logs?user_id=99999999999999999999", 0),
            ("/api/logs?q=user_id:7.0", 30),
            ("/api/logs?q=status_code:%3E=4998", 10),
            ("/api/logs?q=status_code:%3E=4997.5", 10),
        ] {
            assert_eq!(ask(&agent, &admin, path).1["total"], total, "{kind} {path}");
        }
    }
}

/// The default index of a column serves a list that is sorted by it, in both directions, whichever rows have no value.
#[test]
fn an_index_serves_lists_that_are_sorted_by_its_column() {
    let (database, folder) = (Database::new(), Folder::new());
    database.sql(
        "CREATE TABLE rows (id bigint PRIMARY KEY, timestamp timestamptz NOT NULL, duration_ms double precision, endpoint text, description text);
         INSERT INTO rows SELECT n, '2026-01-01Z'::timestamptz + n * interval '1 second', CASE WHEN n % 100 > 0 THEN n END, '/api/' || n, repeat('wide ', 200)
         FROM generate_series(1, 30000) n;
         CREATE INDEX ON rows (duration_ms);
         CREATE INDEX ON rows (left(endpoint, 256) COLLATE \"C\");
         CREATE INDEX ON rows (timestamp)",
    );
    // For totals to be counted in an index.
    database.sql("VACUUM ANALYZE rows");
    let agent = reading(&folder, &database, "rows", "");
    let (admin, mut paths) = (token("root", "admin"), Vec::new());
    for list in [
        "sort_by=duration_ms",
        "sort_by=duration_ms&sort_order=asc",
        "sort_by=endpoint",
        "sort_by=endpoint&sort_order=asc",
    ] {
        let first = format!("/api/logs?limit=5&start_date=2026-01-01&{list}");
        let next = ask(&agent, &admin, &first).1["next"].as_str().expect("more").to_owned();
        paths.push(first.clone());
        paths.push(format!("{first}&cursor={next}"));
    }
    let paths: Vec<(&str, &str)> = paths.iter().map(|path| ("root", path.as_str())).collect();
    check_no_scan(&database, &agent, "rows", &paths);
    // Rows without a value come last in both directions, however many rows are skipped.
    for order in ["asc", "desc"] {
        for (offset, without) in [(29_698, 3), (29_705, 5), (29_998, 2), (30_000, 0)] {
            let path = format!("/api/logs?limit=5&sort_by=duration_ms&sort_order={order}&offset={offset}");
            let (status, page) = ask(&agent, &admin, &path);
            let rows = page["logs"].as_array().unwrap_or_else(|| panic!("{path}: {status} {page}"));
            let found = rows.iter().filter(|row| row["duration_ms"] == Value::Null).count();
            assert_eq!((found, &page["total"]), (without, &30_000.into()), "{path}: {page}");
        }
    }
}

/// Questions that look at every row leave a place for those that an index answers.
#[test]
fn a_short_list_is_answered_while_long_questions_run() {
    let (database, folder) = (Database::new(), Folder::new());
    // Whoever looks at the description of most rows waits until the test lets go.
    database.sql(
        "CREATE TABLE kept (id bigint PRIMARY KEY, timestamp timestamptz NOT NULL, user_id text, description text);
         INSERT INTO kept SELECT n, now() - n * interval '1 second', CASE WHEN n = 5 THEN 'ali' ELSE 'eve' END, 'text'
         FROM generate_series(1, 100) n;
         CREATE FUNCTION slow(text) RETURNS text STABLE LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN $1; END';
         CREATE VIEW rows AS SELECT id, timestamp, user_id,
             CASE WHEN user_id = 'ali' THEN description ELSE slow(description) END AS description FROM kept",
    );
    let agent = reading(&folder, &database, "rows", "");
    let (admin, ali) = (token("root", "admin"), token("ali", "user"));
    assert_eq!(ask(&agent, &ali, "/api/logs").0, 200);
    let holder = std::process::Command::new("psql")
        .args(["-Xq", "-c", "SELECT pg_advisory_lock(4711), pg_sleep(60)", &database.url()])
        .spawn();
    let mut holder = holder.expect("psql runs");
    let locks = |granted: bool| {
        database.sql(&format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted = {granted}"
        ))
    };
    eventually("the lock is held", || locks(true) == "1");
    std::thread::scope(|scope| {
        for nth in 0..8 {
            let (agent, admin) = (&agent, &admin);
            scope.spawn(move || ask(agent, admin, &format!("/api/logs?search=nowhere{nth}")));
        }
        eventually("long questions run", || locks(false).parse::<u32>().expect("a number") >= 3);
        let (status, page) = ask(&agent, &ali, "/api/logs");
        let still = locks(false);
        database.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted");
        assert_eq!((status, &page["total"], still.as_str()), (200, &1.into(), "3"), "{page}");
    });
    holder.wait().expect("psql ends");
}

#[test]
fn what_keeps_a_table_from_being_read_is_said() {
    let (database, folder) = (Database::new(), Folder::new());
    database.sql(
        "CREATE TABLE rows (id bigint PRIMARY KEY, timestamp timestamptz NOT NULL, user_id text, description text);
         INSERT INTO rows SELECT n, now() - n * interval '1 second', 'ali', 'text' FROM generate_series(1, 100) n;
         CREATE FUNCTION slow(text) RETURNS text STABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN $1; END';
         CREATE VIEW slowly AS SELECT id, timestamp, user_id, slow(description) AS description FROM rows",
    );
    let admin = token("root", "admin");
    let readers =
        format!("FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE '%(reading)'", database.name);
    let running = format!("{readers} AND state = 'active' AND query LIKE '%ILIKE%'");
    let detail = |answer: (u16, Value)| {
        assert_eq!(answer.0, 503, "{}", answer.1);
        answer.1["detail"].as_str().expect("a detail").to_owned()
    };
    {
        let folder = Folder::new();
        let agent = reading(&folder, &database, "slowly", "");
        std::thread::scope(|scope| {
            let cancelled = scope.spawn(|| ask(&agent, &admin, "/api/logs?search=nowhere"));
            eventually("it runs", || database.sql(&format!("SELECT count(*) {running}")) == "1");
            database.sql(&format!("SELECT count(pg_cancel_backend(pid)) {running}"));
            let said = detail(cancelled.join().expect("an answer"));
            assert!(said.contains("canceling statement due to user request"), "{said}");
        });
    }
    let agent = reading(&folder, &database, "rows", "");
    let list = || ask(&agent, &admin, "/api/logs");
    assert_eq!(list().0, 200);
    // Sessions that ended while nobody asked are no reason to fail.
    database.sql(&format!("SELECT count(pg_terminate_backend(pid)) {readers}"));
    assert_eq!(list().0, 200);
    // A table that has changed is looked at again.
    database.sql("ALTER TABLE rows RENAME COLUMN description TO other");
    let (status, page) = list();
    assert_eq!((status, &page["logs"][0]["metadata"]["other"]), (200, &"text".into()), "{page}");
    database.sql("ALTER TABLE rows RENAME TO gone");
    assert!(detail(list()).contains("has no table `rows`"));
    database.sql("ALTER TABLE gone RENAME TO rows");
    assert_eq!(list().0, 200);
    let holder = std::process::Command::new("psql")
        .args(["-Xq", "-c", "BEGIN; LOCK TABLE rows; SELECT pg_sleep(60)", &database.url()])
        .spawn();
    let mut holder = holder.expect("psql runs");
    let held = "FROM pg_locks WHERE relation = 'rows'::regclass AND mode = 'AccessExclusiveLock' AND granted";
    eventually("the lock is held", || database.sql(&format!("SELECT count(*) {held}")) == "1");
    let said = detail(list());
    assert!(said.contains("another session holds a lock"), "{said}");
    database.sql(&format!("SELECT count(pg_terminate_backend(pid)) {held}"));
    holder.wait().expect("psql ends");
    assert_eq!(list().0, 200);
}

#[test]
fn a_role_that_may_read_nothing_is_told_to_be_granted_it() {
    let (database, folder) = (Database::new(), Folder::new());
    let role = format!("{}_reader", database.name);
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN; CREATE TABLE rows (id bigint PRIMARY KEY, timestamp timestamptz NOT NULL, user_id text)"
    ));
    let agent = reading(&folder, &database, "rows", &format!(", url: '{}'", database.url_as(&role)));
    let (status, said) = ask(&agent, &token("root", "admin"), "/api/logs");
    database.sql(&format!("GRANT SELECT ON rows TO {role}"));
    let (then, page) = ask(&agent, &token("root", "admin"), "/api/logs");
    drop(agent);
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    assert!(status == 503 && said["detail"].as_str().is_some_and(|text| text.contains("grant SELECT")), "{said}");
    assert_eq!(then, 200, "{page}");
}

/// Ids are compared as text, and looked up in the type that their column has.
#[test]
fn users_of_a_list_are_looked_up_by_the_index_of_their_table() {
    for (kind, id) in
        [("uuid", "md5(n::text)::uuid"), ("integer", "n"), ("varchar(40)", "'u' || n"), ("char(10)", "'u' || n")]
    {
        let (database, folder) = (Database::new(), Folder::new());
        database.sql(&format!(
            "CREATE TABLE people (id {kind} PRIMARY KEY, email text);
             INSERT INTO people SELECT {id}, n || '@example.org' FROM generate_series(1, 20000) n;
             CREATE TABLE rows (id bigint PRIMARY KEY, timestamp timestamptz NOT NULL, user_id text);
             INSERT INTO rows SELECT n, now() - n * interval '1 second', rtrim(({id})::text) FROM generate_series(1, 3) n;
             INSERT INTO rows VALUES (4, '2020-01-01', 'anon-1'), (5, '2020-01-01', NULL), (6, '2020-01-01', '007');
             ANALYZE people, rows"
        ));
        let agent = reading(&folder, &database, "rows", ", users: { table: people, email: email }");
        if kind != "char(10)" {
            check_no_scan(&database, &agent, "people", &[("root", "/api/logs")]);
        }
        let (status, page) = ask(&agent, &token("root", "admin"), "/api/admin/activity");
        let emails: Vec<&str> = page["logs"]
            .as_array()
            .unwrap_or_else(|| panic!("{status} {page}"))
            .iter()
            .filter_map(|row| row["user_email"].as_str())
            .collect();
        assert_eq!(emails, ["1@example.org", "2@example.org", "3@example.org"], "{kind}: {page}");
    }
}
