//! What breaks between the agent and the server, and what then stands in the table: each event once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::ask::validate;
use crate::support::database::{Database, Filled, id, pipeline, psql};
use crate::support::proxy::{Fault, Proxy};
use crate::support::services::Services;
use crate::support::{Agent, Folder, eventually, free_port, post};

const TABLE: &str = "CREATE TABLE t (id uuid PRIMARY KEY, timestamp timestamptz NOT NULL, n bigint, metadata jsonb)";

fn events(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{{\"id\":\"{}\",\"n\":{n}}}\n", id(n))).collect()
}

/// Counted from outside: each number once.
fn assert_each_once(database: &Database, count: u64) {
    let counted = database.sql("SELECT count(*), count(DISTINCT n), coalesce(min(n), 0), coalesce(max(n), 0) FROM t");
    assert_eq!(counted, format!("{count}|{count}|0|{}", count - 1));
}

/// Posts without a pause until told to stop; gives back how many events were taken.
fn keep_posting(port: u16) -> (Arc<AtomicBool>, std::thread::JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let poster = std::thread::spawn(move || {
        let mut next = 0;
        while !stopped.load(Ordering::Relaxed) {
            assert_eq!(post(port, &events(next..next + 50)), 50);
            next += 50;
            std::thread::sleep(Duration::from_millis(10));
        }
        next
    });
    (stop, poster)
}

fn delivered(filled: &Filled) -> u64 {
    filled.agent.metric("weir_events_delivered_total", "out")
}

/// Waits until more was delivered than before.
fn goes_on(filled: &Filled) {
    let before = delivered(filled);
    eventually("the sink delivers again", || delivered(filled) > before + 100);
}

#[test]
pub fn restarts_killed_backends_and_power_cuts_lose_and_double_nothing() {
    let services = Services::start("postgres-faults", &["postgres"]);
    let database = Database::on(&services.get("WEIR_TEST_POSTGRES"));
    database.sql(TABLE);
    let folder = Folder::new();
    let filled = Filled::start(&folder, &database.url(), "t", "");
    let (stop, poster) = keep_posting(filled.port);
    goes_on(&filled);
    let backends = "FROM pg_stat_activity WHERE application_name = 'weir out'";
    for _ in 0..3 {
        database.sql(&format!("SELECT pg_terminate_backend(pid) {backends}"));
        goes_on(&filled);
    }
    let pid = database.sql(&format!("SELECT pid {backends} LIMIT 1"));
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
    assert!(killed.success(), "a backend can be killed");
    goes_on(&filled);
    for _ in 0..2 {
        services.kill("postgres");
        std::thread::sleep(Duration::from_millis(500));
        services.resume("postgres");
        goes_on(&filled);
    }
    stop.store(true, Ordering::Relaxed);
    let count = poster.join().expect("posting works");
    filled.settle();
    assert_each_once(&database, count);
    assert_eq!(filled.agent.metric("weir_events_dead_lettered_total", "out"), 0);
}

#[test]
fn an_answer_that_is_lost_behind_the_commit_doubles_nothing() {
    for mode in ["insert", "copy", "auto"] {
        let (folder, database) = (Folder::new(), Database::new());
        database.sql(TABLE);
        let proxy = Proxy::before(&database.place());
        let keys = format!("mode: {mode}\nbatch: {{ events: 700, age: 20ms }}");
        let filled = Filled::start(&folder, &database.url_at(proxy.port), "t", &keys);
        post(filled.port, &events(0..600));
        filled.settle();
        let mut next = 600;
        for round in 0..24 {
            let lost = proxy.lost();
            proxy.lose_answers_after(round % 8);
            eventually("an answer is lost", || {
                post(filled.port, &events(next..next + 600));
                next += 600;
                proxy.lost() > lost
            });
            proxy.set(Fault::None);
            filled.settle();
        }
        assert_each_once(&database, next);
        let repeats = filled.agent.metric("weir_duplicates_ignored_total", "out");
        assert!(repeats >= 500, "{mode}: no answer was lost behind a commit: {repeats}");
    }
}

#[test]
fn a_locked_table_a_slow_server_and_a_black_hole_are_waited_out() {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql(TABLE);
    let proxy = Proxy::before(&database.place());
    let filled = Filled::start(&folder, &database.url_at(proxy.port), "t", "timeout: 2s");
    post(filled.port, &events(0..10));
    filled.settle();
    let url = database.url();
    let lock = std::thread::spawn(move || psql(&url, "BEGIN; LOCK TABLE t; SELECT pg_sleep(3); COMMIT"));
    eventually("the table is locked", || {
        database.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") != "0"
    });
    post(filled.port, &events(10..20));
    eventually("the lock shows", || filled.agent.log().contains("55P03"));
    assert_eq!(filled.state(), "retrying");
    lock.join().expect("the lock ends");
    filled.settle();
    proxy.set(Fault::Slow(Duration::from_millis(200)));
    post(filled.port, &events(20..30));
    filled.settle();
    proxy.set(Fault::BlackHole);
    post(filled.port, &events(30..40));
    eventually("the silence shows", || filled.agent.log().contains("no answer within 2s"));
    proxy.set(Fault::None);
    filled.settle();
    assert_each_once(&database, 40);
}

/// Breaks something, sees the sink hold or try again with these words, mends it, and counts.
fn waits_for_somebody(database: &Database, url: &str, said: &[&str], state: &str, mend: impl FnOnce()) {
    let folder = Folder::new();
    let filled = Filled::start(&folder, url, "t", "");
    post(filled.port, &events(0..10));
    for words in said {
        eventually(words, || filled.agent.log().contains(words));
    }
    assert_eq!(filled.state(), state, "{}", filled.agent.log());
    filled.agent.assert_books();
    assert_eq!(filled.agent.metric("weir_events_waiting", "out"), 10);
    mend();
    filled.settle();
    assert_each_once(database, 10);
    assert!(!filled.agent.log().contains("hunter2"), "a password is in the log");
}

#[test]
fn what_somebody_has_to_mend_is_waited_for_and_named() {
    let database = Database::new();
    let (role, url) = (format!("{}_r", database.name), database.url());
    let missing = url.clone();
    waits_for_somebody(&database, &url, &["has no table `t`", "create it"], "held", || drop(psql(&missing, TABLE)));

    database.sql("TRUNCATE t");
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'hunter2'"));
    let theirs = url.replace("//postgres@", &format!("//{role}:hunter2@"));
    let said = format!("role `{role}` may not insert into `t`: grant insert on t to {role}");
    waits_for_somebody(&database, &theirs, &[&said], "held", || {
        drop(psql(&url, &format!("GRANT INSERT ON t TO {role}")));
    });

    database.sql("TRUNCATE t");
    database.sql(&format!("ALTER ROLE {role} CONNECTION LIMIT 0"));
    waits_for_somebody(&database, &theirs, &["53300", "too many connections", "pooler"], "retrying", || {
        drop(psql(&url, &format!("ALTER ROLE {role} CONNECTION LIMIT -1")));
    });

    database.sql("TRUNCATE t");
    database.sql(&format!("ALTER ROLE {role} SET default_transaction_read_only = on"));
    waits_for_somebody(&database, &theirs, &["takes no writes at the moment"], "retrying", || {
        drop(psql(&url, &format!("ALTER ROLE {role} RESET default_transaction_read_only")));
    });

    let later = Database { name: format!("{}_later", database.name), server: database.server.clone() };
    waits_for_somebody(&later, &later.url(), &["3D000", "does not exist", "create the database"], "held", || {
        database.sql(&format!("CREATE DATABASE {}", later.name));
        later.sql(TABLE);
    });
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_wrong_password_holds_and_is_never_shown() {
    let services = Services::start("postgres-password", &["postgres"]);
    let database = Database::on(&services.get("WEIR_TEST_POSTGRES"));
    database.sql(TABLE);
    database.sql("CREATE ROLE kernels LOGIN PASSWORD 'swordfish'; GRANT INSERT ON t TO kernels");
    let rules = database.sql("SHOW hba_file");
    let trusting = std::fs::read_to_string(&rules).expect("the rules can be read");
    std::fs::write(&rules, format!("host all kernels 127.0.0.1/32 scram-sha-256\n{trusting}")).expect("written");
    database.sql("SELECT pg_reload_conf()");
    let url = database.url().replace("//postgres@", "//kernels:hunter2@");
    waits_for_somebody(&database, &url, &["28P01", "password authentication failed", "check user"], "held", || {
        database.sql("ALTER ROLE kernels PASSWORD 'hunter2'");
    });
}

#[test]
fn a_column_that_goes_or_changes_its_type_while_events_come_costs_no_event() {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql(&TABLE.replace("n bigint", "n bigint, code text, user_id text"));
    let filled = Filled::start(&folder, &database.url(), "t", "");
    let event = |n| format!(r#"{{"id":"{}","n":{n},"code":"c{n}","user_id":"{n}"}}"#, id(n));
    post(filled.port, &event(0));
    filled.settle();
    database.sql("ALTER TABLE t DROP COLUMN code");
    post(filled.port, &event(1));
    filled.settle();
    database.sql("ALTER TABLE t ALTER user_id TYPE integer USING user_id::integer");
    post(filled.port, &event(2));
    filled.settle();
    database.sql("ALTER TABLE t ADD host text NOT NULL DEFAULT 'x'; ALTER TABLE t ALTER host DROP DEFAULT");
    post(filled.port, &event(3));
    filled.settle();
    assert_eq!(database.sql("SELECT n, user_id, metadata->>'code' FROM t ORDER BY n"), "0|0|\n1|1|c1\n2|2|c2");
    assert!(super::values::dead_letters(&filled).contains("column `host` is NOT NULL"));
}

#[test]
fn a_role_without_synchronous_commit_and_with_little_rights_gets_it_right_all_the_same() {
    let (folder, database) = (Folder::new(), Database::new());
    let role = format!("{}_w", database.name);
    database.sql(&format!("{TABLE}; ALTER TABLE t ADD mode text DEFAULT current_setting('synchronous_commit')"));
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT INSERT ON t TO {role}; ALTER ROLE {role} SET synchronous_commit = off"
    ));
    let url = database.url().replace("//postgres@", &format!("//{role}@"));
    let filled = Filled::start(&folder, &url, "t", "batch: { events: 1000, age: 50ms }");
    post(filled.port, &events(0..10));
    filled.settle();
    post(filled.port, &events(0..1000));
    filled.settle();
    assert_each_once(&database, 1000);
    assert_eq!(database.sql("SELECT DISTINCT mode FROM t"), "on");
    assert_eq!(filled.agent.metric("weir_duplicates_ignored_total", "out"), 10);
    drop(filled);
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_pooler_may_give_every_transaction_another_connection() {
    let database = Database::new();
    database.sql(TABLE);
    let pooler = crate::support::services::service("WEIR_TEST_PGBOUNCER");
    let url = format!("{}/{}", pooler.rsplit_once('/').expect("a URL").0, database.name);
    // Two agents whose statements have the same names.
    let folders = [Folder::new(), Folder::new()];
    let agents = folders
        .each_ref()
        .map(|folder| Filled::start(folder, &url, "t", "concurrency: 2\nbatch: { events: 600, age: 20ms }"));
    for round in 0..10 {
        for (nth, filled) in agents.iter().enumerate() {
            let first = (round * 2 + nth as u64) * 700;
            post(filled.port, &events(first..first + 700));
        }
    }
    agents.iter().for_each(Filled::settle);
    assert_each_once(&database, 14_000);
    drop(agents);
}

#[test]
fn a_name_with_a_quote_in_it_is_a_name() {
    let (folder, database) = (Folder::new(), Database::new());
    let evil = r#"evil"; drop table t;--"#;
    database.sql(&format!("{TABLE}; {}", TABLE.replace("TABLE t", r#"TABLE "evil""; drop table t;--""#)));
    let filled = Filled::start(&folder, &database.url(), evil, "");
    post(filled.port, &events(0..10));
    filled.settle();
    assert_eq!(database.count(r#""evil""; drop table t;--""#), 10);
    assert_eq!(database.count("t"), 0);
}

#[test]
fn an_agent_that_is_killed_again_and_again_delivers_each_event_once() {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql(TABLE);
    let (port, yaml) = pipeline(&database.url(), "t", "batch: { events: 300, age: 20ms }");
    let mut taken = 0;
    for round in 0..8 {
        let agent = Agent::start(&folder, &yaml);
        for _ in 0..10 {
            taken += post(port, &events(taken..taken + 100));
        }
        std::thread::sleep(Duration::from_millis(round * 20));
        agent.kill();
    }
    let filled = Filled { agent: Agent::start(&folder, &yaml), port };
    taken += post(port, &events(taken..taken + 1));
    filled.settle();
    assert_each_once(&database, taken);
}

#[test]
fn a_full_disk_at_the_server_is_waited_out() {
    let (folder, database) = (Folder::new(), Database::new());
    let small = Small::mount(&folder);
    let space = format!("{}_s", database.name);
    psql(&database.url(), &format!("CREATE TABLESPACE {space} LOCATION '{}'", small.0.display()));
    database.sql(&format!("{TABLE} TABLESPACE {space}; CREATE TABLE filler (a text) TABLESPACE {space}"));
    // Fills what is left, and all that it took stays taken.
    let fill = "DO $$ BEGIN LOOP INSERT INTO filler SELECT repeat('x', 900) FROM generate_series(1, 100); COMMIT; \
                END LOOP; EXCEPTION WHEN disk_full THEN NULL; END $$";
    let _ = std::process::Command::new("psql").args(["-Xqc", fill, &database.url()]).output();
    let fill = "INSERT INTO filler SELECT repeat('x', 900) FROM generate_series(1, 100)";
    while std::process::Command::new("psql")
        .args(["-Xqc", fill, &database.url()])
        .output()
        .is_ok_and(|out| out.status.success())
    {}
    let filled = Filled::start(&folder, &database.url(), "t", "");
    let long: String =
        (0..200).map(|n| format!(r#"{{"id":"{}","n":{n},"text":"{}"}}{}"#, id(n), "y".repeat(900), '\n')).collect();
    post(filled.port, &long);
    eventually("the full disk shows", || filled.agent.log().contains("53100"));
    assert_eq!(filled.state(), "retrying");
    filled.agent.assert_books();
    database.sql("DROP TABLE filler");
    filled.settle();
    assert_each_once(&database, 200);
    drop(filled);
    database.sql("DROP TABLE t");
    database.sql(&format!("DROP TABLESPACE {space}"));
}

/// A small disk of the server's own. Needs root, as installing the servers does.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(folder: &Folder) -> Small {
        let path = folder.path("small");
        std::fs::create_dir(&path).expect("a folder can be made");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0777", "weir-test"])
            .arg(&path)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "a small disk needs root to be mounted");
        let inner = path.join("space");
        std::fs::create_dir(&inner).expect("a folder can be made");
        let owned = std::process::Command::new("chown").arg("nobody").arg(&inner).status();
        assert!(owned.is_ok_and(|status| status.success()), "the server's user can own its disk");
        Small(inner)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.parent().expect("it has one")).status();
    }
}

#[test]
fn a_check_finds_the_rights_that_storing_and_retention_lack() {
    let (folder, database) = (Folder::new(), Database::new());
    let role = format!("{}_r", database.name);
    database.sql(&format!(
        "CREATE TABLE s (id serial PRIMARY KEY, event_id uuid UNIQUE, event_type text); \
         CREATE TABLE t (id uuid PRIMARY KEY, timestamp timestamptz); CREATE TABLE gone (LIKE t); \
         CREATE ROLE {role} LOGIN; GRANT INSERT ON s, t TO {role}"
    ));
    let url = database.url().replace("//postgres@", &format!("//{role}@"));
    let check = |sink: &str| {
        folder.write(
            "weir.yaml",
            &format!(
                "sources: {{ web: {{ type: http, address: '127.0.0.1:{}' }} }}\n\
                 sinks: {{ out: {{ type: postgres, inputs: [web, api], url: '{url}', {sink} }} }}\n",
                free_port()
            ),
        );
        validate(&folder)
    };
    for (sink, said, grant) in [
        ("table: s", "may not use the sequence that fills `id`", format!("GRANT USAGE ON SEQUENCE s_id_seq TO {role}")),
        (
            "table: t, retention: { age: 90d }",
            "may not remove rows from `public.t`",
            format!("GRANT SELECT, UPDATE, DELETE ON t TO {role}"),
        ),
        (
            "table: t, retention: { age: 90d, archive: gone }",
            "may not fill `gone`",
            format!("GRANT SELECT, INSERT ON gone TO {role}"),
        ),
        (
            "table: t, retention: { age: 90d, archive: later }",
            "may not create `later`",
            format!("GRANT CREATE ON SCHEMA public TO {role}"),
        ),
    ] {
        let (holds, found) = check(sink);
        assert!(!holds && found.contains(said), "{sink}: {found}");
        database.sql(&grant);
        let (holds, found) = check(sink);
        assert!(holds, "{sink}: {found}");
    }
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
