//! What Postgres refuses: whatever the table and the mode, what counts as delivered is in the table, and one row that a
//! trigger refuses in the words of a broken table stops no other.

use crate::support::database::{Database, Filled, id};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Folder, eventually, post};

fn events(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|n| format!("{{\"id\":\"{}\",\"n\":{n}}}\n", id(n))).collect()
}

/// A table with a key, one whose key no id fits (and that nobody may change), and a view.
const KEYED: &str = "CREATE TABLE t (id uuid PRIMARY KEY, n bigint CHECK (n <> 666))";
const SERIAL: &str = "CREATE TABLE t (id serial PRIMARY KEY, n bigint CHECK (n <> 666))";
const VIEW: &str = "CREATE TABLE u (id uuid, n bigint CHECK (n <> 666)); CREATE VIEW t AS SELECT * FROM u";

#[test]
fn what_counts_as_delivered_is_in_the_table_whatever_its_key_and_the_mode() {
    for (definition, mode) in [
        (KEYED, "auto"),
        (KEYED, "insert"),
        (KEYED, "copy"),
        (KEYED, "append_only"),
        (SERIAL, "auto"),
        (SERIAL, "append_only"),
        (VIEW, "auto"),
        (VIEW, "append_only"),
    ] {
        let (folder, database) = (Folder::new(), Database::new());
        let role = format!("{}_r", database.name);
        database.sql(&format!("{definition}; CREATE ROLE {role} LOGIN; GRANT INSERT, SELECT ON t TO {role}"));
        let proxy = Proxy::before(&database.place());
        let url = database.url_at(proxy.port).replace("//postgres@", &format!("//{role}@"));
        let filled = Filled::start(&folder, &url, "t", &format!("mode: {mode}"));
        let context = format!("{definition} {mode}");
        let delivered = || filled.agent.metric("weir_events_delivered_total", "out");
        // A role without USAGE on the sequence cannot store a row.
        post(filled.port, &events(0..4));
        if definition == SERIAL {
            eventually("it is held", || filled.state() == "held");
            let said = format!("may not use the sequence that fills `id`: grant usage on sequence t_id_seq to {role}");
            assert!(filled.agent.log().contains(&said), "{context}: {}", filled.agent.log());
            assert_eq!((delivered(), database.count("t")), (0, 0), "{context}");
            database.sql(&format!("GRANT USAGE ON SEQUENCE t_id_seq TO {role}"));
        }
        filled.settle();
        assert_eq!((delivered(), database.count("t")), (4, 4), "{context}");
        // One row of four violates a constraint.
        post(filled.port, &events(664..668));
        filled.settle();
        assert_eq!((delivered(), database.count("t")), (7, 7), "{context}");
        assert_eq!(filled.agent.metric("weir_events_dead_lettered_total", "out"), 1, "{context}");
        // The connection breaks in the middle of a write.
        for round in 0..3 {
            proxy.set(Fault::BlackHole);
            post(filled.port, &events(10 + round * 10..20 + round * 10));
            std::thread::sleep(std::time::Duration::from_millis(200));
            proxy.set(Fault::Refuse);
            eventually("it shows", || filled.state() == "retrying");
            proxy.set(Fault::None);
            filled.settle();
        }
        assert_eq!((delivered(), database.count("t")), (37, 37), "{context}");
        assert_eq!(filled.agent.metric("weir_duplicates_ignored_total", "out"), 0, "{context}");
        drop(filled);
        database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    }
}

#[test]
fn what_a_view_has_already_is_a_repeat_and_no_dead_letter() {
    let instead = "CREATE FUNCTION put() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO u VALUES (NEW.id, NEW.n, NEW.mail); \
                   RETURN NEW; END $$; CREATE TRIGGER put INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION put()";
    for (more, mode) in [("", "auto"), ("", "copy"), (instead, "auto")] {
        let (folder, database) = (Folder::new(), Database::new());
        database.sql(&format!(
            "CREATE TABLE u (id uuid PRIMARY KEY, n bigint, mail text UNIQUE); CREATE VIEW t AS SELECT * FROM u; {more}"
        ));
        let filled = Filled::start(&folder, &database.url(), "t", &format!("mode: {mode}"));
        let metric = |name: &str| filled.agent.metric(name, "out");
        post(filled.port, &events(0..40));
        filled.settle();
        post(filled.port, &events(20..60));
        filled.settle();
        assert_eq!(database.count("t"), 60, "{mode} {more}");
        assert_eq!(metric("weir_events_dead_lettered_total"), 0, "{mode} {more}");
        assert_eq!(metric("weir_duplicates_ignored_total"), 20, "{mode} {more}");
        // Another content under a known id, and a row that is refused for another column.
        post(filled.port, &format!("{{\"id\":\"{}\",\"n\":-1}}\n", id(3)));
        post(filled.port, &format!("{{\"id\":\"{}\",\"mail\":\"a@b\"}}\n", id(70)));
        post(filled.port, &format!("{{\"id\":\"{}\",\"mail\":\"a@b\"}}\n", id(71)));
        filled.settle();
        assert_eq!(metric("weir_events_dead_lettered_total"), 1, "{mode} {more}");
        assert_eq!(database.count("t"), 61, "{mode} {more}");
        if more.is_empty() {
            assert_eq!(metric("weir_events_dropped_total"), 1, "it is a counted conflict");
        }
    }
}

/// A trigger that raises this for one row.
fn raising(state: &str) -> String {
    let raise = match state {
        // A statement put together from a value.
        "42601" => "EXECUTE 'SELECT x swordfish y ' || NEW.n".to_owned(),
        state => format!("RAISE EXCEPTION 'not this one' USING ERRCODE = '{state}'"),
    };
    format!(
        "CREATE OR REPLACE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.n = 13 THEN {raise}; END IF; RETURN NEW; END $$"
    )
}

#[test]
fn a_row_that_a_trigger_refuses_in_the_words_of_a_broken_table_stops_no_other() {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql(&format!("{KEYED}; {}", raising("P0001")));
    database.sql("CREATE TRIGGER raising BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION raising()");
    let filled = Filled::start(&folder, &database.url(), "t", "");
    let states = ["42601", "3F000", "42501", "42P01", "42703", "P0002", "P0001", "XX000", "0A000", "MY001"];
    for (nth, state) in states.into_iter().enumerate() {
        database.sql(&format!("TRUNCATE t; {}", raising(state)));
        post(filled.port, &events(0..40));
        eventually(state, || filled.agent.metric("weir_events_dead_lettered_total", "out") == nth as u64 + 1);
        filled.settle();
        assert_eq!(database.count("t"), 39, "{state}");
    }
    assert_eq!(filled.agent.metric("weir_events_delivered_total", "out"), 39 * states.len() as u64);
    let shown = format!("{}{:?}", filled.agent.log(), filled.agent.health("out"));
    assert!(!shown.contains("swordfish"), "a value of a row is shown: {shown}");
}

#[test]
fn what_every_row_meets_holds_the_sink_and_makes_no_dead_letter() {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql("CREATE TABLE t (id uuid, day int, n bigint, PRIMARY KEY (id, day)) PARTITION BY LIST (day)");
    let filled = Filled::start(&folder, &database.url(), "t", "");
    let event = |n: u64| format!("{{\"id\":\"{}\",\"n\":{n},\"day\":1}}\n", id(n));
    post(filled.port, &(0..300).map(event).collect::<String>());
    eventually("it is held", || filled.state() == "held");
    assert!(filled.agent.log().contains("no partition"), "{}", filled.agent.log());
    assert_eq!(filled.agent.metric("weir_events_waiting", "out"), 300);
    database.sql("CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1)");
    filled.settle();
    assert_eq!(database.count("t"), 300);
    // One row without a partition is its own.
    post(filled.port, &(300..340).map(event).collect::<String>().replace("\"n\":320,\"day\":1", "\"n\":320,\"day\":2"));
    filled.settle();
    assert_eq!(database.count("t"), 339);
    assert_eq!(filled.agent.metric("weir_events_dead_lettered_total", "out"), 1);
}

#[test]
fn rows_that_a_trigger_keeps_out_are_neither_delivered_nor_repeats() {
    for mode in ["insert", "copy"] {
        let (folder, database) = (Folder::new(), Database::new());
        database.sql(&format!(
            "{KEYED}; CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN IF NEW.n % 10 = 3 THEN RETURN NULL; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER picky BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION picky()"
        ));
        let filled = Filled::start(&folder, &database.url(), "t", &format!("mode: {mode}"));
        post(filled.port, &events(0..100));
        filled.settle();
        let metric = |name| filled.agent.metric(name, "out");
        assert_eq!(database.count("t"), 90);
        assert_eq!((metric("weir_events_delivered_total"), metric("weir_events_dropped_total")), (90, 10), "{mode}");
        assert_eq!(metric("weir_duplicates_ignored_total"), 0);
        post(filled.port, &events(50..110));
        filled.settle();
        assert_eq!(metric("weir_duplicates_ignored_total"), 45, "{mode}");
        assert_eq!((metric("weir_events_delivered_total"), metric("weir_events_dropped_total")), (144, 16), "{mode}");
        assert_eq!(database.count("t"), 99);
    }
}

#[test]
fn an_event_that_has_nothing_for_any_column_is_a_row_all_the_same() {
    for mode in ["insert", "copy", "auto"] {
        let (folder, database) = (Folder::new(), Database::new());
        database.sql("CREATE TABLE t (n bigint, m text)");
        let filled = Filled::start(&folder, &database.url(), "t", &format!("mode: {mode}"));
        post(filled.port, &"{\"x\":1}\n".repeat(3));
        filled.settle();
        assert_eq!((filled.agent.metric("weir_events_delivered_total", "out"), database.count("t")), (3, 3), "{mode}");
    }
}

#[test]
fn a_column_that_must_have_a_value_no_longer_costs_no_event() {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql("CREATE TABLE t (id uuid PRIMARY KEY, n bigint, must text NOT NULL)");
    let filled = Filled::start(&folder, &database.url(), "t", "");
    post(filled.port, &events(0..3).replace("}", ",\"must\":\"x\"}"));
    filled.settle();
    std::thread::sleep(std::time::Duration::from_secs(6));
    database.sql("ALTER TABLE t DROP must");
    post(filled.port, &events(3..10));
    filled.settle();
    assert_eq!((database.count("t"), filled.agent.metric("weir_events_dead_lettered_total", "out")), (10, 0));
}
