//! One suite for all places that can be read: the same events, asked the same, give the same answers from the embedded
//! store and from a table of Postgres; and the tables of existing systems answer as they are.

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::places::{Dice, Places, ask, escaped, reading, token};
use crate::support::{Agent, Folder, free_port, post};

const USERS: [&str; 5] = ["ali", "Sara", "سارا", "anon-17", "7b1c"];
const CODES: [&str; 8] = [
    "import os\nprint('100% done')",
    "df = pd.read_csv('داده‌ها.csv')",
    "SELECT * FROM t WHERE a_b = 'x'",
    "print(\"😀 سلام\")",
    "raise KeyError(7)",
    "x = 'back\\slash'",
    "IMPORT OS",
    "a",
];

/// Events of all types, with members that are missing, equal times, late ones and ones to come.
fn events(count: usize) -> Vec<Value> {
    let mut dice = Dice(7);
    // Each compares in another way, or in none.
    let odd = [
        json!(null),
        json!(5),
        json!([5, 7]),
        json!("5"),
        json!("5.0"),
        json!(-1.5e1),
        json!(false),
        json!("true"),
        json!("2026-03-05"),
        json!("2026-03-05T10:00:00Z"),
        json!("2026-03-05T13:30:00+03:30"),
        json!("2026-03-05T10:00"),
        json!("2026-03-05 10:00:00,5"),
        json!("2026-02-30T10:00:00Z"),
        json!("2100-02-29"),
        json!("0000-01-01"),
        json!("2026-19-39T29:99:99Z"),
        json!({ "q": 1 }),
        json!([]),
        json!([[["b"], "c"], { "d": 5 }]),
        json!(["2026-03-06", null]),
        json!("b"),
        json!(""),
        json!("1e999"),
        json!("+5"),
        json!("۵"),
    ];
    (0..count)
        .map(|n| {
            let mut event = serde_json::Map::new();
            event.insert("id".into(), format!("01890a5d-ac96-774b-bcce-{n:012x}").into());
            let second = dice.roll(60);
            let day = 1 + dice.roll(27);
            event.insert("timestamp".into(), format!("2026-{:02}-{day:02}T{:02}:15:{second:02}.{:03}Z", 1 + dice.roll(3), dice.roll(24), dice.roll(3) * 250).into());
            if dice.roll(8) > 0 {
                event.insert("user_id".into(), (*dice.one(&USERS)).into());
            }
            if dice.roll(6) > 0 {
                event.insert("event_type".into(), (*dice.one(&["cell.finish", "UPDATE", "login_failed"])).into());
            }
            if dice.roll(4) > 0 {
                event.insert("status".into(), (*dice.one(&["success", "error", "warning", "in_progress", "lost"])).into());
            }
            if dice.roll(3) > 0 {
                event.insert("code".into(), (*dice.one(&CODES)).into());
            }
            if dice.roll(3) > 0 {
                let ms = *dice.one(&[0.0, 1.5, 12.0, 12.25, 250.0, 99_999.0]);
                event.insert("duration_ms".into(), ms.into());
            }
            if dice.roll(3) == 0 {
                event.insert("error_message".into(), (*dice.one(&["KeyError: 7", "خطا: نشد", "Boom"])).into());
            }
            if dice.roll(3) == 0 {
                event.insert("session_id".into(), format!("s{}", dice.roll(4)).into());
            }
            // Of one session and time: only their order tells them apart.
            if n % 40 < 4 {
                event.insert("timestamp".into(), "2026-02-05T10:15:00.000Z".into());
                event.insert("session_id".into(), "s1".into());
            }
            if dice.roll(3) == 0 {
                event.insert("status_code".into(), (*dice.one(&[200, 404, 500])).into());
            }
            if dice.roll(4) == 0 {
                event.insert("ip_address".into(), (*dice.one(&["10.0.0.1", "10.0.0.2", "::1"])).into());
            }
            if dice.roll(4) == 0 {
                event.insert("is_admin".into(), (dice.roll(2) == 0).into());
            }
            if dice.roll(2) == 0 {
                let nested = json!({ "tenant": *dice.one(&["A", "b", "پ"]), "n": dice.roll(5), "tags": ["x", format!("t{}", dice.roll(3))], "deep": { "text": "Zwölf import" }, "v": dice.one(&odd) });
                event.insert("metadata".into(), nested);
            }
            Value::Object(event)
        })
        .collect()
}

const QUERIES: &[&str] = &[
    "status:error",
    "-status:error",
    "status:error OR status:lost",
    "user_id:ALI",
    "user:سارا",
    "user_id:an*",
    "has:code",
    "-has:code",
    "has:metadata.deep",
    "code:\"import os\"",
    "code:\"100% done\"",
    "code:a_b",
    "code:\"back\\\\slash\"",
    "code:سلام",
    "code:😀",
    "import",
    "ZWÖLF",
    "keyerror -status:success",
    "duration_ms:>12",
    "duration_ms:12",
    "duration_ms:[12 TO 250]",
    "duration_ms:<=1.5",
    "-duration_ms:>0",
    "status_code:404",
    "status_code:>=400 user_id:Sara",
    "timestamp:2026-01-05",
    "timestamp:>2026-02-10",
    "timestamp:[2026-01-10 TO 2026-01-12]",
    "metadata.tenant:a",
    "metadata.tenant:پ",
    "metadata.n:3",
    "metadata.n:>2",
    "metadata.tags:t1",
    "metadata.deep.text:zwölf*",
    "metadata.nothing:1",
    "ip_address:10.0.0.1",
    "ip_address:10.*",
    "is_admin:true",
    "-is_admin:true",
    "event_type:~\"^cell\"",
    "code:~\"[A-Z]{6}\"",
    "~\"Key[A-Z]rror\"",
    "code:~\"\\\\bimport\\\\b\"",
    "code:~\"\\\\p{L}+\"",
    "code:~\"^.*$\"",
    "code:~\"(?m)^[[:^alpha:]]\"",
    "code:~\"[a-z&&[^i]]{3}(?:x|(?P<name>\\\\w{2,}?))\"",
    "description:~\"(?i-s:.)\\\\z\"",
    "~\"\\\\Bmpo\"",
    "session_id:s1 (status:error OR -has:status)",
    "id:01890a5d-ac96-774b-bcce-000000000005",
    "metadata.v:null",
    "-metadata.v:null",
    "has:metadata.v",
    "metadata.v:5",
    "metadata.v:5.0",
    "metadata.v:>4",
    "metadata.v:>=5",
    "metadata.v:<=-15",
    "metadata.v:[5 TO 6]",
    "metadata.v:[5 TO x]",
    "metadata.v:[* TO 6]",
    "-metadata.v:<100",
    "metadata.v:true",
    "metadata.v:false",
    "metadata.v:2026-03-05",
    "metadata.v:>=2026-03-05",
    "metadata.v:>2026-03-05",
    "metadata.v:<2026-03-06",
    "metadata.v:<=2026-03-06",
    "metadata.v:2026-03-05T10:00:00Z",
    "metadata.v:[2026-03-05 TO 2026-03-05]",
    "metadata.v:[2026-03-05 TO 7]",
    "metadata.v:>=b",
    "metadata.v:<b",
    "metadata.v:[a TO c]",
    "metadata.v:b*",
    "metadata.v:n*l",
    "metadata.v:*e",
    "metadata.v:~\"^[a-z]$\"",
    "metadata.v:~\"^(true|false|5)$\"",
    "metadata.v:\"\"",
    "metadata.tags:[x TO x]",
    "metadata.deep:5",
    "user_id:2026-03-05",
    "user_id:>2026-03-05",
    "user_id:>5",
    "session_id:[s1 TO s2]",
];

#[test]
fn the_store_and_a_table_give_the_same_answers() {
    let places = Places::with(&events(400));
    let tokens = [
        token("root", "admin"),
        token("guest", "viewer"),
        token("ali", "user"),
        token("سارا", "user"),
        token("nobody", "user"),
    ];
    let mut hits = 0;
    for token in &tokens {
        for query in QUERIES {
            let q = escaped(query);
            let page = places.agree(token, &format!("/api/logs?limit=1000&q={q}"));
            hits += usize::from(page["total"].as_f64() > Some(0.0));
            places.agree(token, &format!("/api/logs/stats?q={q}"));
        }
        for path in [
            "/api/logs?limit=7&offset=11",
            "/api/logs?user_id=Sara&status=error",
            "/api/logs?user_id=sara",
            "/api/logs?event_type=UPDATE&start_date=2026-01-10&end_date=2026-02-03",
            "/api/logs?start_date=0001-01-01T00:00:00%2B14:00&limit=1000",
            "/api/logs?end_date=0000-01-01",
            "/api/logs?end_date=9999-12-31T23:59:59-12:00&limit=1000",
            "/api/logs/stats?start_date=0000-01-01",
            "/api/logs/histogram?start_date=0001-01-01&tz=Asia/Kolkata&interval=1d",
            "/api/activity/search?query=import&date_from=0001-01-01T00:00:00%2B14:00",
            "/api/logs?session_id=s2&search=x",
            "/api/logs/histogram",
            "/api/logs/histogram?interval=1d&tz=Asia/Tehran",
            "/api/logs/histogram?interval=6h&status=error",
            "/api/logs/histogram?interval=1d&tz=America/New_York",
            "/api/logs/histogram?interval=1w&tz=America/New_York",
            "/api/logs/histogram?interval=12h&tz=America/New_York",
            "/api/logs/histogram?interval=1h&tz=Asia/Kolkata&start_date=2026-03-01&end_date=2026-03-10",
            "/api/logs/stats?group_by=user_id",
            "/api/logs/stats?group_by=user_id,status&min_count=3",
            "/api/logs/stats?group_by=hour&tz=Asia/Tehran",
            "/api/logs/stats?group_by=day",
            "/api/logs/stats?group_by=ip_address",
            "/api/logs/01890a5d-ac96-774b-bcce-000000000007",
            "/api/logs/01890A5D-AC96-774B-BCCE-000000000007",
            "/api/logs/01890a5d-ac96-774b-bcce-0000000000ff/context",
            "/api/logs/no-such-event",
            "/api/activity/recent?limit=100",
            "/api/activity/summary",
            "/api/activity/stats?days=366",
            "/api/activity/search?query=IMPORT%20os&limit=100",
            "/api/activity/search?query=100%25&status=success&limit=100",
            "/api/recent-activity",
            "/api/search-code?query=a_b",
            "/api/admin/all-users-activity",
            "/api/admin/all-users-activity?sort=avg_execution_time_ms&order=asc",
            "/api/admin/system-stats",
            "/api/admin/all-activity",
            "/api/admin/activity?limit=100",
            "/api/admin/activity?sort_by=duration_ms&sort_order=desc&limit=50&page=2",
            "/api/admin/activity?sort_by=status_code&sort_order=asc&limit=50",
            "/api/admin/activity?sort_by=action_type&limit=100&success_filter=failed",
            "/api/admin/activity?user_search=ar&is_admin=false",
            "/api/sessions",
            "/api/fields/status/values",
            "/get_logs?format=json&session_id=s1",
        ] {
            places.agree(token, path);
        }
    }
    assert!(hits > 60, "only {hits} of the queries found something");
}

#[test]
fn cursors_walk_through_a_table_once_while_rows_arrive() {
    let all = events(120);
    let places = Places::with(&all);
    let token = token("root", "admin");
    let (mut found, mut path) = (Vec::new(), "/api/logs?limit=7".to_owned());
    loop {
        let (status, page) = ask(&places.table, &token, &path);
        assert_eq!(status, 200, "{page}");
        found.extend(page["logs"].as_array().expect("rows").iter().map(|row| row["id"].clone()));
        match page["next"].as_str() {
            Some(next) => path = format!("/api/logs?limit=7&cursor={next}"),
            None => break,
        }
    }
    let (_, whole) = ask(&places.table, &token, "/api/logs?limit=1000");
    let whole: Vec<Value> = whole["logs"].as_array().expect("rows").iter().map(|row| row["id"].clone()).collect();
    assert_eq!(found, whole);
    assert_eq!(found.len(), all.len());
}

#[test]
fn the_notebook_table_answers_as_it_is_with_rows_that_others_wrote() {
    let (database, folder) = (Database::new(), Folder::new());
    database.sql(&format!("ALTER DATABASE {} SET timezone = 'Asia/Tehran'", database.name));
    database.define("notebook");
    database.sql(
        "INSERT INTO code_execution_logs (timestamp, username, session_id, cell_number, code, execution_time_ms, status, error_message)
         SELECT now() - n * interval '1 hour', (ARRAY['ali','سارا','reza'])[1 + n % 3], 's' || n % 5, n, 'print(' || n || ')', n,
                CASE WHEN n % 4 = 0 THEN 'error' ELSE 'success' END, CASE WHEN n % 4 = 0 THEN 'KeyError: ' || n END
         FROM generate_series(1, 300) n",
    );
    let agent = reading(&folder, &database, "code_execution_logs", "");
    let (admin, ali) = (token("root", "admin"), token("ali", "user"));
    let (status, recent) = ask(&agent, &ali, "/api/activity/recent?limit=3");
    assert_eq!(status, 200, "{recent}");
    assert_eq!(recent["activities"][0]["id"], 3, "a number stays a number");
    assert_eq!(recent["activities"][0]["code"], "print(3)");
    // The database's own notion of now is that of its time zone.
    let (_, one) = ask(&agent, &ali, "/api/logs/3");
    let written = database.sql("SELECT to_char(timestamp AT TIME ZONE 'Asia/Tehran' AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') FROM code_execution_logs WHERE id = 3");
    assert!(one["timestamp"].as_str().expect("a time").starts_with(&written), "{one} {written}");
    assert_eq!(ask(&agent, &ali, "/api/logs/4").0, 404, "another's row");
    let (status, sessions) = ask(&agent, &ali, "/api/sessions");
    assert_eq!(
        (status, &sessions["sessions"][0]["open_operations"]),
        (200, &json!(0)),
        "no column for operations: {sessions}"
    );
    let count = |sql: &str| database.sql(sql).parse::<f64>().expect("a number");
    let (_, summary) = ask(&agent, &ali, "/api/activity/summary");
    assert_eq!(
        summary["total_executions"].as_f64(),
        Some(count("SELECT count(*) FROM code_execution_logs WHERE username = 'ali'"))
    );
    assert_eq!(
        summary["error_count"].as_f64(),
        Some(count("SELECT count(*) FROM code_execution_logs WHERE username = 'ali' AND status = 'error'"))
    );
    let average = count("SELECT round(avg(execution_time_ms), 3) FROM code_execution_logs WHERE username = 'ali'");
    assert_eq!(summary["avg_execution_time_ms"].as_f64(), Some(average));
    let (_, stats) = ask(&agent, &admin, "/api/admin/system-stats");
    assert_eq!(stats["total_users"], 3);
    assert_eq!(stats["recent_errors"][0]["error_type"], "KeyError");
    let (_, users) = ask(&agent, &admin, "/api/admin/all-users-activity");
    assert_eq!(users["users"].as_array().map(Vec::len), Some(3));
    // What the table has no column for.
    let (status, lack) = ask(&agent, &admin, "/api/logs?entity_type=order");
    assert_eq!(
        (
            status,
            lack["detail"].as_str().unwrap_or("").contains("`code_execution_logs` has no column for `entity_type`")
        ),
        (400, true),
        "{lack}"
    );
    assert_eq!(ask(&agent, &admin, "/api/logs?q=endpoint:x").0, 400);
    let (status, totals) = ask(&agent, &admin, "/api/logs/stats");
    assert_eq!((status, &totals["by_entity_type"], &totals["total_logs"]), (200, &json!({}), &json!(300)));
    let (status, lack) = ask(&agent, &admin, "/api/logs/stats?group_by=endpoint");
    assert_eq!(status, 404, "{lack}");
}

#[test]
fn the_tables_of_shop_and_chat_answer_with_their_own_ids_and_the_names_of_users() {
    let (shop, chat, folders) = (Database::new(), Database::new(), [Folder::new(), Folder::new()]);
    shop.define("shop");
    shop.sql(
        "INSERT INTO activity_logs (timestamp, event_type, entity_type, entity_id, user_id, description, metadata, ip_address)
         SELECT '2026-01-01'::timestamp + n * interval '1 minute', (ARRAY['CREATE','UPDATE','PAYMENT'])[1 + n % 3], 'order', n::text,
                'u' || n % 4, 'Order ' || n || ' 100% paid', jsonb_build_object('new_status', 'SHIPPED', 'n', n), ('10.0.0.' || n % 9)::inet
         FROM generate_series(1, 200) n",
    );
    let agent = reading(&folders[0], &shop, "activity_logs", "");
    let admin = token("root", "admin");
    let (status, page) = ask(&agent, &admin, "/api/logs?event_type=PAYMENT&q=metadata.n%3A%3E100&limit=5");
    assert_eq!(status, 200, "{page}");
    assert_eq!(
        page["total"],
        json!(
            shop.sql("SELECT count(*) FROM activity_logs WHERE event_type = 'PAYMENT' AND (metadata->>'n')::int > 100")
                .parse::<u64>()
                .expect("a count")
        )
    );
    assert_eq!(page["logs"][0]["metadata"]["new_status"], "SHIPPED");
    assert_eq!(page["logs"][0]["ip_address"], "10.0.0.2");
    assert_eq!(ask(&agent, &admin, "/api/logs?search=100%25%20PAID").1["total"], 200);
    assert_eq!(ask(&agent, &admin, "/api/activity/summary").0, 404, "a shop runs no code");
    let unknown = |object: &Value, names: &[&str]| {
        names.iter().for_each(|name| assert_eq!(object.get(*name), Some(&Value::Null), "{name} of {object}"));
    };
    unknown(&ask(&agent, &admin, "/api/logs/stats").1, &["errors", "success_rate", "avg_ms"]);
    unknown(&ask(&agent, &admin, "/api/logs/stats?group_by=event_type").1["groups"][0], &["errors", "success_rate"]);
    let stats = &ask(&agent, &admin, "/api/admin/activity").1["stats"];
    unknown(stats, &["success_count", "failed_count", "success_rate"]);

    chat.define("chat");
    chat.sql(
        "TRUNCATE users CASCADE;
         INSERT INTO users SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'u' || n || '@example.org', 'Nutzer ' || n FROM generate_series(1, 3) n;
         INSERT INTO activity_logs (timestamp, user_id, action_type, endpoint, http_method, status_code, success, error_message, duration_ms, is_admin)
         SELECT now() - n * interval '1 minute', CASE WHEN n % 4 = 0 THEN 'anon-' || n ELSE '00000000-0000-4000-8000-' || lpad((n % 4)::text, 12, '0') END,
                'message.send', '/api/chat', 'POST', CASE WHEN n % 5 = 0 THEN 500 ELSE 200 END, n % 5 <> 0, CASE WHEN n % 5 = 0 THEN 'Boom: ' || n END, n, n % 10 = 0
         FROM generate_series(1, 100) n",
    );
    let more = ", users: { table: users, email: email, name: display_name }";
    let agent = reading(&folders[1], &chat, "activity_logs", more);
    let (_, list) = ask(&agent, &admin, "/api/logs?user_id=00000000-0000-4000-8000-000000000002&limit=1");
    assert_eq!(list["logs"][0]["user_display_name"], "Nutzer 2", "{list}");
    let (status, page) =
        ask(&agent, &admin, "/api/admin/activity?success_filter=failed&sort_by=duration_ms&sort_order=desc&limit=3");
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["total"], 20);
    assert_eq!(page["logs"][0]["duration_ms"], 100);
    assert_eq!((&page["logs"][0]["success"], &page["logs"][0]["error_type"]), (&json!(false), &json!("Boom")));
    assert_eq!(page["stats"]["total_logs"], 100);
    assert_eq!(page["stats"]["failed_count"], 20);
    let (_, page) = ask(&agent, &admin, "/api/admin/activity?user_search=u2%40example&limit=100");
    assert_eq!(page["total"], 25, "{page}");
    assert_eq!(page["logs"][0]["user_email"], "u2@example.org");
    assert_eq!(page["logs"][0]["user_display_name"], "Nutzer 2");
    let (_, page) = ask(&agent, &admin, "/api/admin/activity?user_search=anon&limit=100");
    assert_eq!((&page["total"], &page["logs"][0]["user_email"]), (&json!(25), &Value::Null));
    let id = page["logs"][0]["id"].as_str().expect("a uuid").to_owned();
    assert_eq!(ask(&agent, &admin, &format!("/api/logs/{id}")).1["id"], json!(id));
}

#[test]
fn a_text_or_a_number_that_says_whether_something_succeeded_is_a_status() {
    let (database, folders) = (Database::new(), [Folder::new(), Folder::new()]);
    database.sql(
        "CREATE TABLE told (id bigserial PRIMARY KEY, timestamp timestamptz NOT NULL DEFAULT now(), user_id text, success text);
         INSERT INTO told (user_id, success) SELECT 'ali', unnest(ARRAY['true', 'Yes', '1', 'T', 'y', 'false', 'no', '0', 'F', 'failed', 'aborted', NULL]);
         CREATE TABLE counted (id bigserial PRIMARY KEY, timestamp timestamptz NOT NULL DEFAULT now(), user_id text, success smallint);
         INSERT INTO counted (user_id, success) SELECT 'ali', unnest(ARRAY[1, 1, 1, 1, 1, 0, 0, 0, 0, 0, NULL])",
    );
    let admin = token("root", "admin");
    for (table, folder) in ["told", "counted"].iter().zip(&folders) {
        let agent = reading(folder, &database, table, "");
        for (path, expected) in [
            ("/api/logs?status=error", 5),
            ("/api/logs?status=success", 5),
            ("/api/logs?status=true", 0),
            ("/api/logs?q=status:error", 5),
            ("/api/logs?q=-status:(success%20OR%20error%20OR%20aborted)%20has:status", 0),
            ("/api/admin/activity?success_filter=true", 5),
        ] {
            assert_eq!(ask(&agent, &admin, path).1["total"], expected, "{table} {path}");
        }
        let (_, failed) = ask(&agent, &admin, "/api/logs?status=error");
        assert!(failed["logs"].as_array().expect("rows").iter().all(|row| row["status"] == "error"), "{failed}");
        let (_, page) = ask(&agent, &admin, "/api/admin/activity");
        assert_eq!(
            (&page["stats"]["success_count"], page["stats"]["failed_count"].as_u64() >= Some(5)),
            (&json!(5), true)
        );
        let (_, stats) = ask(&agent, &admin, "/api/logs/stats?group_by=status");
        assert!(
            stats["groups"]
                .as_array()
                .expect("groups")
                .iter()
                .any(|group| group["status"] == "success" && group["count"] == 5)
        );
    }
}

/// What a sink has put into the object for all the rest, because the table has no column for it, is hidden from those who
/// may not see it, in lists and in searches.
#[test]
fn members_without_a_column_are_hidden_as_if_they_had_one() {
    let definitions = [
        None,
        Some("id uuid PRIMARY KEY, timestamp timestamptz, user_id text, status text, metadata jsonb"),
        Some("id uuid PRIMARY KEY, timestamp timestamptz, user_id text, details json"),
        Some("id uuid PRIMARY KEY, timestamp timestamptz, user_id text, code text, extra jsonb NOT NULL DEFAULT '[]'"),
        Some(
            "id uuid PRIMARY KEY, timestamp timestamptz, user_id text, error_trace text, truncated jsonb, metadata jsonb",
        ),
    ];
    for definition in definitions {
        let (database, folder, port) = (Database::new(), Folder::new(), free_port());
        if let Some(columns) = definition {
            database.sql(&format!("CREATE TABLE rows ({columns})"));
            if columns.contains("'[]'") {
                database.sql("INSERT INTO rows (id, timestamp, user_id) VALUES ('0190163d-8694-739b-aea5-966c26f8ad91', '2020-01-01', 'eve')");
            }
        }
        let yaml = format!(
            "  read: {{ sink: rows }}\n  preview: 5\n  auth: {{ jwt: {{ secret: '{}' }} }}\n\
             sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             transforms:\n  named: {{ type: normalize, inputs: [web] }}\n  cut: {{ type: truncate, inputs: [named], max_chars: 60 }}\n\
             sinks:\n  rows: {{ type: postgres, inputs: [cut], url: '{}', table: rows, create_table: {}, batch: {{ age: 10ms }} }}\n",
            crate::support::places::SECRET,
            database.url(),
            definition.is_none()
        );
        let agent = Agent::start(&folder, &yaml);
        let (viewer, admin, ali) = (token("vic", "viewer"), token("root", "admin"), token("ali", "user"));
        let event = json!({ "user_id": "ali", "event_type": "cell", "code": format!("x = 1; zebra = 2; {}", "y".repeat(100)),
            "error_trace": "Traceback: giraffe", "metadata": { "kept": "elephant" } });
        let nested = json!({ "user_id": "ali", "event_type": "nested", "code": { "source": ["zebra"] } });
        for event in [event, nested] {
            post(port, &event.to_string());
        }
        agent.delivered("rows", 2);
        let context = |path: &str, seen: &Value| format!("{definition:?} {path}: {seen}");
        let (_, list) = ask(&agent, &ali, "/api/logs");
        assert!(list.to_string().contains("giraffe"), "{}", context("own", &list));
        let own =
            list["logs"].as_array().expect("a list").iter().find(|row| row["error_trace"] == "Traceback: giraffe");
        let own = own.unwrap_or_else(|| panic!("{}", context("own", &list)));
        assert!(own["code"].as_str().is_some_and(|code| code.contains("zebra")), "{own}");
        assert!(own["truncated"]["code"]["sha256"].is_string() && own["metadata"]["kept"] == "elephant", "{own}");
        let id = own["id"].as_str().expect("an id");
        let hash = own["truncated"]["code"]["sha256"].as_str().expect("a hash");
        for path in [
            "/api/logs".to_owned(),
            "/api/admin/activity".to_owned(),
            "/api/logs/export?format=ndjson".to_owned(),
            "/api/logs/export?format=csv".to_owned(),
            format!("/api/logs/{id}"),
            format!("/api/logs/{id}/context"),
            "/api/fields".to_owned(),
            "/api/fields/metadata.code/values".to_owned(),
            "/api/fields/metadata.error_trace/values".to_owned(),
            "/api/fields/metadata.truncated.code.sha256/values".to_owned(),
            "/api/fields/code/values".to_owned(),
        ] {
            let (_, seen) = ask(&agent, &viewer, &path);
            let text = seen.to_string();
            for hidden in ["zebra", "giraffe", hash] {
                assert!(!text.contains(hidden), "{hidden}: {}", context(&path, &seen));
            }
        }
        let (_, list) = ask(&agent, &admin, "/api/logs?q=elephant");
        let first = &list["logs"][0];
        assert_eq!((&first["code"], &first["metadata"]["code"]), (&json!("x = 1"), &Value::Null), "{first}");
        for query in [
            "code:*zebra*",
            "metadata.code:*zebra*",
            "error_trace:*giraffe*",
            "metadata.error_trace:*giraffe*",
            "giraffe",
            "has:truncated",
            hash,
            "metadata.kept:elephant",
            "elephant",
        ] {
            let path = format!("/api/logs?q={}", escaped(query));
            let ((_, of_viewer), (status, of_admin)) = (ask(&agent, &viewer, &path), ask(&agent, &admin, &path));
            let finds = |found: &Value| found["total"].as_u64().unwrap_or_default() > 0;
            assert_eq!(finds(&of_viewer), query.contains("elephant"), "{}", context(query, &of_viewer));
            // A filter on what has no column is refused, and what has one is not in the object for all the rest.
            let may_be_none = status == 400 || query.starts_with("metadata.") && !query.contains("elephant");
            assert!(finds(&of_admin) || may_be_none, "{}", context(query, &of_admin));
        }
    }
}

/// An own event is one whose user's id is spelt as the token has it, whatever the type of the column: in lists as well as
/// in statistics, sessions and values.
#[test]
fn users_whose_ids_only_look_alike_see_nothing_of_each_other() {
    let uuid = "00000000-0000-4000-8000-00000000abcd";
    let capitals = uuid.to_uppercase();
    for (kind, id, others) in [
        ("integer", "7", vec!["07", "+7", "7.0", " 7"]),
        ("numeric(8,2)", "7.50", vec!["7.5", "7.500"]),
        ("char(10)", "ali", vec!["ali  ", "Ali", "al"]),
        ("varchar(10)", "ali", vec!["ali ", "ALI"]),
        ("uuid", uuid, vec![&capitals, "{00000000-0000-4000-8000-00000000abcd}"]),
        ("inet", "10.0.0.1", vec!["10.0.0.1/32", "10.0.0.1/8"]),
    ] {
        let (database, folder) = (Database::new(), Folder::new());
        database.sql(&format!(
            "CREATE TABLE rows (id serial PRIMARY KEY, timestamp timestamptz DEFAULT now(), user_id {kind}, session_id text, code text, status text);
             INSERT INTO rows (user_id, session_id, code, status) VALUES ('{id}', 's1', 'giraffe', 'success')"
        ));
        let agent = reading(&folder, &database, "rows", "");
        let routes = [
            "/api/logs",
            "/api/logs/1",
            "/api/logs/export?format=ndjson",
            "/api/logs/stats?group_by=session_id",
            "/api/activity/recent",
            "/api/sessions",
            "/api/fields/code/values",
            "/api/fields/session_id/values",
        ];
        let counts =
            [("/api/logs", "total"), ("/api/logs/stats", "total_logs"), ("/api/activity/summary", "total_executions")];
        for (user, is_own) in std::iter::once((id, true)).chain(others.into_iter().map(|other| (other, false))) {
            let own = token(user, "user");
            for path in routes {
                let text = ask(&agent, &own, path).1.to_string();
                let shows = text.contains("giraffe") || text.contains("\"s1\"");
                assert_eq!(shows, is_own, "{kind} {user:?} {path}: {text}");
            }
            for (path, name) in counts {
                let (_, found) = ask(&agent, &own, path);
                assert_eq!(found[name], json!(u64::from(is_own)), "{kind} {user:?} {path}: {found}");
            }
            let (_, found) = ask(&agent, &token("root", "admin"), &format!("/api/logs?user_id={}", escaped(user)));
            assert_eq!(found["total"], json!(u64::from(is_own)), "{kind} {user:?}: {found}");
        }
    }
}
