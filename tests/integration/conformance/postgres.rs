//! The `postgres` sink before a real server, over a wire that fails, with a table that changes and triggers that raise.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ROUND, Target, Trouble, hold};
use crate::support::database::{Database, psql};
use crate::support::proxy::{Fault, Proxy};

struct Table {
    database: Database,
    proxy: Proxy,
    role: String,
    keys: String,
    repeats: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Wire(Fault),
    /// Breaks something, and mends it.
    Sql(&'static str, &'static str),
    /// A trigger raises this state for the rows of these places in a round.
    Raises(&'static str, fn(u64) -> bool),
}

const PASSWORD: &str = "hunter2-of-the-table";

impl Table {
    fn new(definition: &str, more: &str, repeats: bool) -> Table {
        let database = Database::new();
        let role = format!("{}_c", database.name);
        database.sql(&format!(
            "{definition}; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; GRANT INSERT, SELECT ON t TO {role}; \
             CREATE TABLE raising (place int, state text); GRANT SELECT ON raising TO {role}; \
             CREATE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE s text; BEGIN \
             SELECT state INTO s FROM raising WHERE place = NEW.n % {ROUND}; \
             IF s IS NOT NULL THEN RAISE EXCEPTION 'raised' USING ERRCODE = s; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER raising BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION raising()"
        ));
        let proxy = Proxy::before(&database.place());
        let url = database.url_at(proxy.port).replace("//postgres@", &format!("//{role}:{PASSWORD}@"));
        let keys = format!("type: postgres\nurl: '{url}'\ntable: t\n{more}");
        Table { database, proxy, role, keys, repeats }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let drop = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.role);
        let _ = std::process::Command::new("psql").args(["-qXc", &drop, &self.database.url()]).output();
    }
}

impl Target for Table {
    type Kind = Kind;

    fn keys(&self) -> String {
        self.keys.clone()
    }

    fn troubles(&self) -> Vec<Trouble<Kind>> {
        let mut troubles = Vec::new();
        let mut add = |name: String, kind, is_state| troubles.push(Trouble { name, kind, is_state });
        for fault in Fault::all(Duration::from_millis(60)) {
            add(format!("{fault:?}"), Kind::Wire(fault), true);
        }
        for (name, breaks, mends) in [
            ("the table is gone", "ALTER TABLE t RENAME TO gone", "ALTER TABLE gone RENAME TO t"),
            ("a column is gone", "ALTER TABLE t RENAME n TO m", "ALTER TABLE t RENAME m TO n"),
            ("the right is gone", "REVOKE INSERT ON t FROM {role}", "GRANT INSERT ON t TO {role}"),
            ("the role may not log in", "ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN"),
            (
                "the password is another",
                "ALTER ROLE {role} CONNECTION LIMIT 0",
                "ALTER ROLE {role} CONNECTION LIMIT -1",
            ),
        ] {
            // Without a key, the number is the one thing that every row must have.
            if name != "a column is gone" || !self.keys.contains("mode: auto") {
                add(name.to_owned(), Kind::Sql(breaks, mends), true);
            }
        }
        for state in ["42601", "3F000", "42501", "P0002", "XX000", "22P02", "23514", "40001", "57014", "ZZ999"] {
            add(format!("{state} for all"), Kind::Raises(state, |_| true), !["22P02", "23514"].contains(&state));
        }
        for state in ["42601", "3F000", "42501", "P0002", "XX000", "22P02", "23514", "ZZ999"] {
            add(format!("{state} for one"), Kind::Raises(state, |place| place == 7), false);
        }
        add("42501 for most".to_owned(), Kind::Raises("42501", |place| place < 13), false);
        add("22P02 for most".to_owned(), Kind::Raises("22P02", |place| place < 13), false);
        troubles
    }

    fn begin(&self, kind: &Kind) {
        match kind {
            Kind::Wire(fault) => self.proxy.set(*fault),
            Kind::Sql(breaks, mends) => {
                self.database.sql(&breaks.replace("{role}", &self.role));
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir out'";
                psql(&self.database.url(), &format!("{end} AND datname = current_database()"));
                // What is to be run to mend it.
                self.database.sql(&format!(
                    "CREATE TABLE mend AS SELECT $mend${}$mend$ AS sql",
                    mends.replace("{role}", &self.role)
                ));
            }
            Kind::Raises(state, which) => {
                for place in (0..ROUND).filter(|place| which(*place)) {
                    self.database.sql(&format!("INSERT INTO raising VALUES ({place}, '{state}')"));
                }
            }
        }
    }

    fn heal(&self) {
        self.proxy.set(Fault::None);
        self.database.sql("TRUNCATE raising");
        if !self.database.sql("SELECT to_regclass('mend')").is_empty() {
            let mend = self.database.sql("SELECT sql FROM mend");
            self.database.sql(&format!("{mend}; DROP TABLE mend"));
        }
    }

    fn stored(&self) -> BTreeMap<u64, usize> {
        let is_there = |table: &str| !self.database.sql(&format!("SELECT to_regclass('{table}')")).is_empty();
        let table = if is_there("t") { "t" } else { "gone" };
        let has = "SELECT count(*) FROM pg_attribute WHERE attname = 'n' AND attrelid = ";
        let column = if self.database.sql(&format!("{has} '{table}'::regclass")) == "1" { "n" } else { "m" };
        let rows = self.database.sql(&format!("SELECT {column}, count(*) FROM {table} GROUP BY 1"));
        let row = |line: &str| {
            let (n, count) = line.split_once('|').expect("two columns");
            (n.parse().expect("a number"), count.parse().expect("a number"))
        };
        rows.lines().map(row).collect()
    }

    fn repeats(&self) -> bool {
        self.repeats
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.into()]
    }
}

#[test]
pub fn rows_with_a_key_are_there_once_whatever_the_server_answers() {
    hold(&Table::new("CREATE TABLE t (id uuid PRIMARY KEY, n bigint)", "mode: insert", false));
}

#[test]
pub fn rows_without_a_key_are_there_whatever_the_server_answers() {
    hold(&Table::new("CREATE TABLE t (id bigint, n bigint NOT NULL)", "mode: auto", true));
}

#[test]
pub fn rows_that_are_only_appended_are_there_whatever_the_server_answers() {
    hold(&Table::new("CREATE TABLE t (id uuid PRIMARY KEY, n bigint)", "mode: append_only", true));
}
