//! Values of every type, those that do not fit, and rows that the server alone refuses.

use crate::support::database::{Database, Filled, id};
use crate::support::{Folder, post};

const EVERY_TYPE: &str = "CREATE TYPE mood AS ENUM ('happy', 'sad'); CREATE TABLE t (id uuid PRIMARY KEY, \
    timestamp timestamptz, a text, b varchar(3), c char(2), d smallint, e integer, f bigint, g real, \
    h double precision, i numeric(10,2), j numeric, k boolean, l timestamptz, m timestamp, n date, o uuid, p inet, \
    q json, r jsonb, s text[], u integer[], v bytea, w mood, x interval, y cidr, z text NOT NULL DEFAULT 'z', \
    aa boolean[], bb timestamptz[], cc numeric[], total numeric GENERATED ALWAYS AS (j * 2) STORED)";

const EVERY_VALUE: &str = r#""a":"é\u0000x","b":"abcd","c":"x","d":-3,"e":"17","f":9223372036854775807,"g":1.5,
    "h":0.1,"i":12.345,"j":-123456789012345678901234567890.000001,"k":"true","l":1740830400123,
    "m":"2025-03-01T12:00:00+01:00","n":"2025-03-01","o":"F47AC10B58CC4372A5670E02B2C3D479","p":"10.0.0.0/8",
    "q":{"b":1,"a":[1,  2]},"r":{"b":1,"n":"x\u0000y"},"s":["a","b,\"c\"",null],"u":[1,2],"v":"bytes","w":"sad",
    "x":"3 hours","y":"10.0.0.0/8","aa":[true,false],"bb":["2025-03-01T12:00:00Z"],"cc":[1.50,2]"#;

const EVERY_CELL: &str = "SELECT a, b, c, d, e, f, g, h, i, j, k, l at time zone 'utc', m, n, o, p, q, r, s, u, \
    convert_from(v, 'utf8'), w, x, y, z, aa, bb[1] = '2025-03-01T12:00:00Z', cc, total FROM t";

const EXPECTED: &str = "é␀x|abc|x |-3|17|9223372036854775807|1.5|0.1|12.35|-123456789012345678901234567890.000001|t|\
    2025-03-01 12:00:00.123|2025-03-01 11:00:00|2025-03-01|f47ac10b-58cc-4372-a567-0e02b2c3d479|10.0.0.0/8|\
    {\"b\":1,\"a\":[1,  2]}|{\"b\": 1, \"n\": \"x␀y\"}|{a,\"b,\\\"c\\\"\",NULL}|{1,2}|bytes|sad|03:00:00|10.0.0.0/8|z|\
    {t,f}|t|{1.50,2}|-246913578024691357802469135780.000002";

fn every_type_is_written(mode: &str) {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql(EVERY_TYPE);
    let filled = Filled::start(&folder, &database.url(), "t", &format!("mode: {mode}"));
    post(filled.port, &format!(r#"{{"id":"{}",{EVERY_VALUE}}}"#, id(1)));
    filled.settle();
    assert_eq!(database.sql(EVERY_CELL), EXPECTED, "{}", filled.agent.log());
    assert_eq!(filled.agent.metric("weir_values_altered_total", "out"), 3);
}

#[test]
fn every_type_is_written_by_inserts() {
    every_type_is_written("insert");
}

#[test]
fn every_type_is_written_by_copies() {
    every_type_is_written("copy");
}

#[test]
fn what_does_not_fit_goes_to_metadata_or_becomes_a_dead_letter_that_names_the_column() {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql(
        "CREATE TABLE t (id uuid PRIMARY KEY, status_code smallint, ip_address inet NOT NULL, user_id uuid, metadata jsonb)",
    );
    let filled = Filled::start(&folder, &database.url(), "t", "");
    let event = |n, rest: &str| format!(r#"{{"id":"{}",{rest}}}"#, id(n));
    let body = [
        event(1, r#""status_code":70000,"ip_address":"::1","user_id":"anon-7","metadata":{"a":1}"#),
        event(2, r#""status_code":200,"ip_address":"nowhere""#),
        event(3, r#""status_code":200"#),
        event(4, r#""status_code":404,"ip_address":"10.0.0.1","user_id":"00000000-0000-4000-8000-00000000000a""#),
    ];
    post(filled.port, &body.join("\n"));
    filled.settle();
    let rows = "SELECT right(id::text, 1), status_code, ip_address, user_id, metadata - 'timestamp' FROM t ORDER BY id";
    let rows = database.sql(rows);
    let rows: Vec<&str> = rows.lines().collect();
    assert!(rows[0].starts_with("1||::1||{"), "{rows:?}");
    for kept in [r#""a": 1"#, r#""status_code": 70000"#, r#""user_id": "anon-7""#] {
        assert!(rows[0].contains(kept), "{rows:?}");
    }
    assert!(rows[1].starts_with("4|404|10.0.0.1|00000000-0000-4000-8000-00000000000a|"), "{rows:?}");
    assert_eq!(rows.len(), 2);
    assert_eq!(filled.agent.metric("weir_events_dead_lettered_total", "out"), 2);
    let letters = dead_letters(&filled);
    assert!(letters.contains("column `ip_address` is inet") && letters.contains("nowhere"), "{letters}");
    assert!(letters.contains("column `ip_address` is NOT NULL"), "{letters}");
}

/// What the dead-letter queue says, as JSON.
pub fn dead_letters(filled: &Filled) -> String {
    let bearer = format!("Bearer {}", filled.agent.token());
    let answer = crate::support::request(filled.agent.api, "GET", "/api/dlq", &[("Authorization", &bearer)], b"");
    answer.expect("the agent answers").text()
}

fn poison_stands_alone(mode: &str) {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql(
        "CREATE TABLE t (id uuid PRIMARY KEY, n integer CHECK (n <> 100), code text, session_id text UNIQUE); \
         CREATE INDEX ON t (code); INSERT INTO t VALUES (gen_random_uuid(), 0, '', 'taken')",
    );
    let filled = Filled::start(&folder, &database.url(), "t", &format!("mode: {mode}\nbatch: {{ age: 300ms }}"));
    // Bytes that do not compress, too long for an index.
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (state >> 33) as u8 % 43)
    };
    let noise: String = (0..9000).map(|_| random()).filter(|c| *c != '\\').collect();
    let mut body = String::new();
    for n in 0..1000 {
        let rest = match n {
            100 => String::new(),
            500 => format!(r#","code":"{noise}""#),
            700 => r#","session_id":"taken""#.to_owned(),
            _ => r#","code":"1""#.to_owned(),
        };
        body.push_str(&format!("{{\"id\":\"{}\",\"n\":{n}{rest}}}\n", id(n)));
    }
    assert_eq!(post(filled.port, &body), 1000);
    filled.settle();
    assert_eq!(database.count("t"), 998, "{}", filled.agent.log());
    assert_eq!(filled.agent.metric("weir_events_dead_lettered_total", "out"), 3);
    let letters = dead_letters(&filled);
    for state in ["23514", "54000", "23505"] {
        assert!(letters.contains(state), "{state} is not in {letters}");
    }
    let writes = filled.agent.metric("weir_errors_total", "out");
    assert!(writes <= 60, "{writes} writes failed");
}

#[test]
fn rows_that_the_server_refuses_are_found_among_inserts() {
    poison_stands_alone("insert");
}

#[test]
fn rows_that_the_server_refuses_are_found_among_copies() {
    poison_stands_alone("auto");
}
