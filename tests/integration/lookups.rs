//! What `enrich` looks up in Postgres: a snapshot, read again, and never a reason to hold events.

use crate::support::database::Database;
use crate::support::{Agent, Folder, eventually, free_port, lines_of, post};

fn plan(folder: &Folder, port: u16, url: &str) -> String {
    format!(
        "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
         transforms:\n  who:\n    type: enrich\n    inputs: [web]\n    user_agent: true\n    lookup:\n      \
         postgres: {{ url: '{url}', table: 'users', refresh: 1s }}\n      key: user_id\n      column: id\n      \
         columns: {{ email: user_email, 'full name': user_display_name }}\n\
         sinks:\n  file: {{ type: file, inputs: [who], path: '{}/events.ndjson', batch: {{ age: 20ms }} }}\n",
        folder.path("out").display()
    )
}

fn last(folder: &Folder) -> serde_json::Value {
    let lines = lines_of(&folder.path("out"), "events.ndjson");
    lines.last().map(|line| serde_json::from_str(line).expect("JSON")).unwrap_or_default()
}

#[test]
fn names_and_addresses_of_users_come_from_a_table_that_is_read_again() {
    let (folder, database, port) = (Folder::new(), Database::new(), free_port());
    database.sql("CREATE TABLE users (id bigint PRIMARY KEY, email text, \"full name\" text)");
    database.sql("INSERT INTO users VALUES (7, 'ali@example.org', 'علی \"A\"'), (8, NULL, '')");
    let agent = Agent::start(&folder, &plan(&folder, port, &database.url()));
    post(port, r#"{"user_id":7,"user_agent":"curl/8.5.0"}"#);
    eventually("it is there", || last(&folder)["user_id"] == 7);
    assert_eq!(
        last(&folder),
        serde_json::json!({
            "user_id": 7, "user_agent": "curl/8.5.0", "user_email": "ali@example.org", "user_display_name": "علی \"A\"",
            "metadata": {"client": {"device": "program", "name": "curl", "version": "8.5.0"}},
        })
    );
    post(port, r#"{"user_id":"8"}"#);
    eventually("it is there", || last(&folder) == serde_json::json!({"user_id": "8"}));
    database.sql("UPDATE users SET email = 'sara@example.org' WHERE id = 8");
    eventually("the table was read again", || {
        post(port, r#"{"user_id":"8"}"#);
        last(&folder)["user_email"] == "sara@example.org"
    });
    // Whatever becomes of the table, the last snapshot counts.
    database.sql("DROP TABLE users");
    eventually("it is said", || agent.log().contains("using the previous data"));
    post(port, r#"{"user_id":7,"n":1}"#);
    eventually("it is there", || last(&folder)["n"] == 1);
    assert_eq!(last(&folder)["user_email"], "ali@example.org");
    agent.assert_books();
    assert!(agent.stop().success());
}

#[test]
fn a_table_that_is_away_at_a_start_holds_nothing_up_and_shows_no_password() {
    let (folder, port) = (Folder::new(), free_port());
    let url = format!("postgres://weir:s3cr3t-lookup@127.0.0.1:{}/x", free_port());
    let agent = Agent::start(&folder, &plan(&folder, port, &url));
    post(port, r#"{"user_id":7}"#);
    eventually("it is there", || last(&folder) == serde_json::json!({"user_id": 7}));
    assert!(agent.log().contains("cannot be read yet"), "{}", agent.log());
    assert!(!agent.log().contains("s3cr3t-lookup"));
    assert!(agent.stop().success());
}
