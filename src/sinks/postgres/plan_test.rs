//! Tests of the column plan against table definitions, without a server.

use super::Config;
use super::plan::*;
use super::table::{Column, Name, Table};
use super::value::Form;
use crate::component::Promise;

fn config(json: &str) -> Config {
    let mut keys: serde_json::Value = serde_json::from_str(json).expect("JSON");
    keys["url"] = "postgres://db/x".into();
    keys["table"] = "t".into();
    serde_json::from_value(keys).expect("a configuration")
}

/// `name type`, with `!` for NOT NULL and `=` before a default.
fn table(columns: &[&str], unique: &[&[&str]]) -> Table {
    let column = |text: &&str| {
        let (text, default) = match text.split_once('=') {
            Some((text, default)) => (text, Some(default.to_owned())),
            None => (*text, None),
        };
        let (name, kind) = text.split_once(' ').expect("a type");
        Column {
            name: name.to_owned(),
            form: Form::of(kind.trim_end_matches('!'), -1),
            sql_type: kind.trim_end_matches('!').to_owned(),
            is_required: kind.ends_with('!'),
            is_counter: default.as_deref().is_some_and(|text| text.contains("nextval")),
            default,
            is_generated: false,
            may_insert: true,
            may_select: true,
            denied_sequence: None,
        }
    };
    Table {
        name: Name { schema: Some("public".into()), table: "t".into() },
        oid: 1,
        columns: columns.iter().map(column).collect(),
        unique: unique.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect(),
        unfinished: Vec::new(),
        is_partitioned: false,
        is_owned: true,
        may_insert: true,
        may_copy: true,
        has_triggers: false,
        zone: "UTC".into(),
        has_places: true,
    }
}

/// Each column with what fills it.
fn filled(plan: &Plan) -> Vec<String> {
    let take = |take: &Take| {
        let path: String = take.path.iter().map(|name| format!(".{name}")).collect();
        let convert = if take.convert == Convert::Same { String::new() } else { format!(" {:?}", take.convert) };
        format!("{}{path}{convert}", plan.sources[take.source])
    };
    let column = |column: &Filled| {
        let from = match &column.fill {
            Fill::Id | Fill::IdText => "id".to_owned(),
            Fill::Event(takes) => takes.iter().map(take).collect::<Vec<_>>().join(" | "),
            Fill::Template(_) => "template".to_owned(),
            Fill::Rest(bases) => {
                let bases: Vec<&str> = bases.iter().map(|base| &*plan.sources[*base]).collect();
                format!("rest in {}", bases.join(" | "))
            }
        };
        format!("{}: {from}", column.name)
    };
    plan.columns.iter().map(column).collect()
}

#[test]
fn columns_find_their_fields_by_name_by_alias_and_in_the_metadata() {
    let columns =
        ["id uuid!", "username text", "success bool!", "duration_seconds float8", "team text", "details jsonb"];
    let plan = Plan::new(&table(&columns, &[&["id"]]), &config("{}")).expect("a plan");
    let expected = [
        "id: id",
        "username: user_id | username | user | userId",
        "success: status Success | success | status_code Code",
        "duration_seconds: duration_ms Thousandth | execution_time_ms Thousandth | duration Thousandth | \
         duration_seconds | duration_s",
        "team: team | metadata.team",
        "details: rest in metadata | details",
    ];
    assert_eq!(filled(&plan), expected);
    assert_eq!(plan.conflict, " ON CONFLICT (\"id\") DO NOTHING");
    assert_eq!(plan.promise, Promise::EffectivelyOnce);
}

#[test]
fn a_name_and_its_alias_side_by_side_are_two_things() {
    let plan = Plan::new(&table(&["id uuid", "user_id text", "username text"], &[&["id"]]), &config("{}"));
    let filled = filled(&plan.expect("a plan"));
    assert_eq!(filled[2], "username: username | metadata.username | user_id | user | userId");
}

#[test]
fn defaults_are_written_out_where_they_can_be() {
    let columns = [
        "id int4!=nextval('t_id_seq'::regclass)",
        "event_id uuid",
        "is_admin bool!=false",
        "status text!='it''s'::text",
        "session_id text=gen_random_uuid()",
        "created_at timestamptz!=now()",
        "timestamp timestamptz!=now()",
        "user_id text!",
        "host text",
    ];
    let plan = Plan::new(&table(&columns, &[&["id"], &["event_id"]]), &config(r#"{"defaults":{"host":"-"}}"#));
    let plan = plan.expect("a plan");
    let absent: Vec<&Absent> = plan.columns.iter().map(|column| &column.absent).collect();
    let expected = [
        &Absent::Null,
        &Absent::Value(vec![0]),
        &Absent::Value(b"it's".to_vec()),
        &Absent::Expression("gen_random_uuid()".into()),
        &Absent::ReceivedAt,
        &Absent::Refuse,
        &Absent::Value(b"-".to_vec()),
    ];
    assert_eq!(absent, expected);
    assert!(plan.notes.contains(&"filled by the database: `id`, `created_at`".to_owned()), "{:?}", plan.notes);
}

#[test]
fn a_key_that_fits_no_id_weakens_the_promise_and_says_why() {
    for (columns, unique, owned, promise, said) in [
        (vec!["id int8!=nextval('s')"], vec!["id"], true, Promise::EffectivelyOnce, "`event_id` with a unique index"),
        (vec!["id int8!=nextval('s')"], vec!["id"], false, Promise::AtLeastOnce, "add column event_id uuid unique"),
        (vec!["id uuid!"], vec![], true, Promise::AtLeastOnce, "no unique index on `id` alone"),
        (
            vec!["id uuid!", "timestamp timestamptz!"],
            vec!["id", "timestamp"],
            true,
            Promise::AtLeastOnce,
            "the key includes `timestamp`",
        ),
        (vec!["id uuid!", "host text!"], vec!["id", "host"], true, Promise::AtLeastOnce, "the key includes `host`"),
        (vec!["id text!"], vec!["id"], true, Promise::EffectivelyOnce, "`id` carries the event's id"),
    ] {
        let unique: Vec<&[&str]> = if unique.is_empty() { vec![] } else { vec![&unique] };
        let table = Table { is_owned: owned, ..table(&columns, &unique) };
        let plan = Plan::new(&table, &config("{}")).expect("a plan");
        assert_eq!(plan.promise, promise, "{columns:?}");
        assert!(plan.notes.iter().any(|note| note.contains(said)), "{said}: {:?}", plan.notes);
    }
}

#[test]
fn what_the_configuration_gets_wrong_about_the_table_is_said() {
    let table = table(&["id uuid!", "n int4", "x int4!=nextval('x')"], &[&["id"]]);
    for (keys, said) in [
        (r#"{"columns":{"nn":"n"}}"#, "`public.t` has no column `nn`"),
        (r#"{"defaults":{"n":"many"}}"#, "`defaults.n` is not of type int4"),
        (r#"{"columns":{"id":""}}"#, "`id` is NOT NULL and nothing fills it"),
    ] {
        let wrong = Plan::new(&table, &config(keys)).expect_err(keys);
        assert!(wrong.contains(said), "{wrong}");
    }
}

#[test]
fn columns_that_take_no_event_are_said() {
    let notes = |columns: &[&str]| Plan::new(&table(columns, &[]), &config("{}")).expect("a plan").notes.join("; ");
    let said = notes(&["timestamp int8", "status int4", "code text"]);
    assert!(said.contains("`timestamp` is int8 and cannot hold a timestamp"), "{said}");
    assert!(said.contains("`status` is int4 and cannot hold a status such as \"success\""), "{said}");
    for fit in [
        ["timestamp timestamptz", "status text"],
        ["timestamp text", "success bool"],
        ["timestamp date", "success text"],
    ] {
        let said = notes(&fit);
        assert!(!said.contains("cannot hold"), "{said}");
    }
}
