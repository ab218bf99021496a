//! The tables of the systems that are out there, filled by the examples as they are.

use std::process::Command;

use crate::support::database::{Database, folder_of, id};
use crate::support::{Agent, Folder, free_port, post, request};

/// Starts an example on this database; the ingest port comes with it.
fn start(folder: &Folder, example: &str, database: &Database) -> (Agent, u16) {
    let port = free_port();
    let path = format!("{}/examples/{}/table.yaml", env!("CARGO_MANIFEST_DIR"), folder_of(example));
    let yaml = std::fs::read_to_string(path).expect("the example is there");
    let address = format!("127.0.0.1:{port}");
    let spool = folder.path("spool").display().to_string();
    let url = database.url();
    let environment = [
        ("DATABASE_URL", &*url),
        ("WEIR_ADDRESS", &address),
        ("SHOP_TOKEN", "shop-token"),
        ("CHAT_TOKEN", "chat-token"),
        ("WEIR_SPOOL_DIR", &spool),
    ];
    (Agent::start_with(folder, &yaml, &environment), port)
}

fn settle(agent: &Agent) {
    crate::support::eventually("the table has everything", || {
        agent.metric("weir_events_waiting", "table") == 0 && agent.metric("weir_events_addressed_total", "table") > 0
    });
    agent.assert_books();
    assert_eq!(agent.metric("weir_events_dead_lettered_total", "table"), 0, "{}", agent.log());
}

fn post_as(port: u16, token: &str, body: &str) {
    let bearer = format!("Bearer {token}");
    let answer = request(port, "POST", "/", &[("Authorization", &bearer)], body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn code_executions_fill_the_notebook_table_and_a_repeat_changes_nothing() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("notebook");
    let (agent, port) = start(&folder, "notebook", &database);
    let event = format!(
        r#"{{"id":"{}","timestamp":"2025-03-01T12:00:00.25+01:00","username":"ali","session_id":"s1","cell_number":3,
            "code":"print('é\\n')","execution_time_ms":12.5,"success":false,"error":"NameError: x"}}"#,
        id(1)
    );
    post(port, &event);
    settle(&agent);
    let row = "SELECT id, timestamp, username, session_id, cell_number, code, execution_time_ms, status, \
               error_message, event_id FROM code_execution_logs";
    let expected = format!("1|2025-03-01 11:00:00.25|ali|s1|3|print('é\\n')|13|error|NameError: x|{}", id(1));
    assert_eq!(database.sql(row), expected);
    post(port, &event);
    post(port, &format!(r#"{{"id":"{}","user":"bea","code":"1","duration_s":0.5,"status":"ok"}}"#, id(2)));
    crate::support::eventually("the other event is there", || database.count("code_execution_logs") == 2);
    settle(&agent);
    assert_eq!(agent.metric("weir_duplicates_ignored_total", "table"), 1);
    let second = "SELECT username, execution_time_ms, status, timestamp > now() at time zone 'utc' - interval '1 min' \
                  FROM code_execution_logs WHERE event_id <> '00000000-0000-4000-8000-000000000001'";
    assert_eq!(database.sql(second), "bea|500|success|t");
}

#[test]
fn a_float_column_keeps_the_fraction_of_an_execution_time() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("notebook");
    database.sql("ALTER TABLE code_execution_logs ALTER execution_time_ms TYPE double precision");
    let (agent, port) = start(&folder, "notebook", &database);
    post(port, r#"{"username":"ali","code":"1","execution_time_ms":12.5}"#);
    settle(&agent);
    assert_eq!(database.sql("SELECT execution_time_ms FROM code_execution_logs"), "12.5");
}

#[test]
fn the_shop_finds_its_orders_and_what_has_no_column_in_metadata() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("shop");
    let (agent, port) = start(&folder, "shop", &database);
    let body = r#"
        {"id":"00000000-0000-4000-8000-000000000001","timestamp":"2025-03-01T12:00:00Z","event_type":"UPDATE",
         "entity_type":"order","entity_id":"A-17","user_id":"u1","description":"shipped","ip_address":"10.1.2.3",
         "user_agent":"curl","metadata":{"old_status":"PAID","new_status":"SHIPPED","n":12345678901234567890}}
        {"id":"00000000-0000-4000-8000-000000000002","timestamp":"2025-03-01T12:00:01Z","event_type":"LOGIN",
         "user_id":"u2","ip_address":"2001:db8::1","session_id":"s9","coupon":"SPRING","status":"warning"}"#;
    post_as(port, "shop-token", body);
    settle(&agent);
    let rows = "SELECT timestamp, event_type, entity_type, entity_id, user_id, description, ip_address, user_agent, \
                metadata->>'new_status', metadata->>'n', metadata->>'session_id', metadata->>'coupon', \
                metadata->>'status', created_at > now() at time zone 'utc' - interval '1 min', event_id \
                FROM activity_logs ORDER BY timestamp";
    let expected = [
        "2025-03-01 12:00:00|UPDATE|order|A-17|u1|shipped|10.1.2.3|curl|SHIPPED|12345678901234567890||||t|00000000-0000-4000-8000-000000000001",
        "2025-03-01 12:00:01|LOGIN|none||u2||2001:db8::1||||s9|SPRING|warning|t|00000000-0000-4000-8000-000000000002",
    ];
    assert_eq!(database.sql(rows), expected.join("\n"));
}

#[test]
fn the_chat_product_finds_its_columns_under_their_own_names() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("chat");
    let (agent, port) = start(&folder, "chat", &database);
    let long = "e".repeat(300);
    let body = format!(
        r#"{{"id":"00000000-0000-4000-8000-000000000001","timestamp":"2025-03-01T12:00:00Z","user_id":"anon-1",
            "action_type":"login","endpoint":"/api/{long}","http_method":"POST","status_code":401,"success":false,
            "error_message":"no","error_type":"AuthError","target_user_id":"u7","target_resource_id":"chat-9",
            "resource_type":"chat","details":{{"reason":"expired"}},"duration_ms":17,"db_query_count":2,
            "ip_address":"unknown","user_agent":"Firefox","is_admin":true}}
           {{"id":"00000000-0000-4000-8000-000000000002","timestamp":"2025-03-01T12:00:01Z","action":"upload",
            "endpoint":"/x","http_method":"PUT","status_code":200,"user":"ali","tenant":"acme"}}"#
    );
    post_as(port, "chat-token", &body);
    settle(&agent);
    let rows = "SELECT id, timestamp at time zone 'utc', user_id, action_type, length(endpoint), http_method, \
                status_code, success, error_message, error_type, target_user_id, target_resource_id, resource_type, \
                details->>'reason', duration_ms, db_query_count, ip_address, details->>'ip_address', user_agent, \
                is_admin, details->>'tenant' FROM activity_logs ORDER BY timestamp";
    let expected = [
        "00000000-0000-4000-8000-000000000001|2025-03-01 12:00:00|anon-1|login|255|POST|401|f|no|AuthError|u7|chat-9|chat|expired|17|2||unknown|Firefox|t|",
        "00000000-0000-4000-8000-000000000002|2025-03-01 12:00:01|ali|upload|2|PUT|200|t||||||||||||f|acme",
    ];
    assert_eq!(database.sql(rows), expected.join("\n"));
    assert_eq!(agent.metric("weir_values_altered_total", "table"), 2, "one cut, one moved");
}

#[test]
fn the_review_has_its_operations() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("review");
    let (agent, port) = start(&folder, "review", &database);
    let body = r#"{"id":"00000000-0000-4000-8000-000000000001","timestamp":1740830400,"action":"s3_upload",
        "status":"failed","details":{"bucket_name":"b","files_count":3},"error":"timeout","session_id":"s1",
        "analysis_duration_seconds":2.5,"duration_seconds":1.25}"#;
    post(port, body);
    settle(&agent);
    let row = "SELECT id, timestamp at time zone 'utc', session_id, action, status, error, duration_ms, \
               details->>'bucket_name', details->>'analysis_duration_seconds' FROM operations";
    let expected = "00000000-0000-4000-8000-000000000001|2025-03-01 12:00:00|s1|s3_upload|error|timeout|1250|b|2.5";
    assert_eq!(database.sql(row), expected);
}

#[test]
fn validate_says_what_goes_where_and_changes_nothing() {
    let (folder, database) = (Folder::new(), Database::new());
    database.define("notebook");
    let yaml = format!(
        "sources:\n  in: {{ type: demo }}\nsinks:\n  out: {{ type: postgres, inputs: [in], url: '{}', \
         table: code_execution_logs }}\n",
        database.url()
    );
    let validate = || {
        let config = folder.write("validate.yaml", &yaml);
        let out = Command::new(env!("CARGO_BIN_EXE_weir")).arg("validate").arg("-c").arg(config).output();
        let out = out.expect("validate runs");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (code, said) = validate();
    assert_eq!(code, Some(0), "{said}");
    for sentence in [
        "sinks.out (postgres): effectively once; works",
        "a column `event_id` with a unique index is added",
        "filled by the database: `id`",
        "no column for `received_at`, `event_type`",
    ] {
        assert!(said.contains(sentence), "{sentence} is not in:\n{said}");
    }
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'code_execution_logs'";
    assert_eq!(database.sql(columns), "9");
    database.sql("DROP TABLE code_execution_logs");
    let (code, said) = validate();
    assert_eq!(code, Some(1));
    assert!(said.contains("has no table `code_execution_logs`"), "{said}");
}

#[test]
fn a_repeat_is_one_where_the_key_has_another_column_too() {
    let (folder, database, port) = (Folder::new(), Database::new(), free_port());
    database.sql("CREATE TABLE rows (tenant text NOT NULL, id uuid NOT NULL, timestamp timestamptz, n int, PRIMARY KEY (tenant, id))");
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             sinks:\n  table: {{ type: postgres, inputs: [web], url: '{}', table: rows, batch: {{ age: 10ms }} }}\n",
            database.url()
        ),
    );
    let all: String =
        (0..40).map(|n| format!("{{\"id\":\"{}\",\"tenant\":\"t{}\",\"n\":{n}}}\n", id(n), n % 3)).collect();
    for _ in 0..2 {
        post(port, &all);
        settle(&agent);
    }
    assert_eq!(database.count("rows"), 40);
    assert_eq!(agent.metric("weir_duplicates_ignored_total", "table"), 40);
    assert_eq!(dropped(&agent), 0);
}

/// Events that the table has under the same id with other content.
fn dropped(agent: &Agent) -> u64 {
    let samples = agent.metrics();
    let mut counts =
        samples.iter().filter(|(key, _)| key.contains("cause=\"id_conflict\"") && key.contains("\"table\""));
    counts.next().map_or(0, |(_, count)| *count as u64)
}

#[test]
fn the_same_id_with_other_content_is_a_conflict_and_no_repeat() {
    let mut tables = vec![None];
    for columns in ["", ", note char(20) DEFAULT 'none', amount numeric(10,1), tags text[], at timestamptz"] {
        for more in ["metadata jsonb", "metadata json", "details jsonb NOT NULL DEFAULT '{}'"] {
            tables.push(Some(format!(
                "CREATE TABLE rows (id uuid PRIMARY KEY, timestamp timestamptz, received_at timestamptz, \
                 user_id varchar(8), code text, duration_ms int, success bool, {more}{columns})"
            )));
        }
    }
    for definition in tables {
        for (mode, normalized) in [("insert", true), ("copy", true), ("auto", false)] {
            let (folder, database, port) = (Folder::new(), Database::new(), free_port());
            let made = definition.as_ref().map(|definition| database.sql(definition)).is_none();
            let input = if normalized { "named" } else { "web" };
            let agent = Agent::start(
                &folder,
                &format!(
                    "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
                     transforms:\n  named: {{ type: normalize, inputs: [web] }}\n\
                     sinks:\n  table: {{ type: postgres, inputs: [{input}], url: '{}', table: rows, \
                     create_table: {made}, mode: {mode}, batch: {{ age: 10ms }} }}\n",
                    database.url()
                ),
            );
            let event = |n: u64, code: &str| {
                format!(
                    "{{\"id\":\"{}\",\"user_id\":\"سارا-{}\",\"code\":\"{code}\",\"duration_ms\":7,\"status\":\"success\",\
                     \"note\":\"n \",\"amount\":1.25,\"tags\":[\"a\"],\"at\":\"2026-01-01T00:00:00.1234567Z\",\
                     \"metadata\":{{\"a\":1.50,\"b\":[2,null]}},\"more\":{{\"x\":\"\\u0000\"}}}}\n",
                    id(n),
                    "x".repeat(20)
                )
            };
            let context = format!("{definition:?} {mode} {normalized}");
            let all: String = (0..30).map(|n| event(n, "1")).collect();
            for _ in 0..2 {
                post(port, &all);
                settle(&agent);
            }
            assert_eq!((agent.metric("weir_duplicates_ignored_total", "table"), dropped(&agent)), (30, 0), "{context}");
            // One that is new, three repeats, two that claim the id of others, one of them twice in one batch.
            let mixed: String = [event(30, "new"), event(30, "other")]
                .into_iter()
                .chain((26..30).map(|n| event(n, if n == 29 { "2" } else { "1" })))
                .collect();
            post(port, &mixed);
            settle(&agent);
            assert_eq!((agent.metric("weir_duplicates_ignored_total", "table"), dropped(&agent)), (33, 2), "{context}");
            assert_eq!(database.count("rows"), 31, "{context}");
            agent.assert_books();
        }
    }
}
