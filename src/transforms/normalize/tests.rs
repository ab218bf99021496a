//! Tests of normalization, alias by alias and value by value.

use proptest::prelude::*;

use super::Normalize;
use crate::event::aliases::{ALIASES, STATUSES};
use crate::event::names::{KNOWN, METADATA};
use crate::event::{Capture, Id, Stamp};
use crate::transforms::testing::{apply, batch, build, provenance};

/// Where nothing else is to be seen, the event has everything that would be added.
const COMPLETE: &str = r#""id":"0190163d-8694-739b-aea5-966c26f8ad91","timestamp":"2025-06-01T11:00:00Z","received_at":"2025-06-01T12:00:00.250Z","source":"web""#;

fn normalize(line: &str) -> String {
    with("{}", line, None)
}

fn keep(line: &str) -> String {
    with("unknown: keep", line, None)
}

fn as_ali(line: &str) -> String {
    with("{}", line, Some(Stamp::user("ali")))
}

fn with(config: &str, line: &str, stamp: Option<Stamp>) -> String {
    apply(&build::<Normalize>(config), batch(&[line], provenance(None, stamp))).remove(0)
}

/// The members that normalising gives instead of `members`, in an event that is complete otherwise.
fn members(members: &str) -> String {
    trimmed(normalize(&format!("{{{COMPLETE},{members}}}")))
}

fn trimmed(line: String) -> String {
    let rest = line.strip_prefix(&format!("{{{COMPLETE},")).unwrap_or_else(|| panic!("{line}"));
    rest.strip_suffix('}').expect("an object").to_string()
}

#[test]
fn an_event_that_is_as_it_should_be_is_not_touched() {
    let line = format!(
        "{{ {COMPLETE} , \"status\" :\"success\", \"duration_ms\":1.50e1,\"metadata\" : {{\"b\":1,\"a\" :2}}}}"
    );
    assert_eq!(normalize(&line), line);
}

#[test]
fn every_alias_takes_its_canonical_name_and_keeps_its_place() {
    for (alias, canonical) in ALIASES {
        let (alias, canonical) = (KNOWN[alias.0 as usize], KNOWN[canonical.0 as usize]);
        let (written, expected) = match alias {
            "duration_seconds" | "duration_s" => ("1.5", "1500"),
            "execution_time_ms" | "duration" => ("12.5", "12.5"),
            "success" => ("true", "\"success\""),
            "time" | "ts" | "@timestamp" => continue,
            _ => ("\"x\"", "\"x\""),
        };
        let given = members(&format!("\"{alias}\":{written},\"code\":\"1\",\"status\":null"));
        let expected = match (alias, canonical) {
            ("success", _) => format!("\"{canonical}\":{expected},\"code\":\"1\""),
            ("error", _) => format!("\"{canonical}\":{expected},\"code\":\"1\",\"status\":\"error\""),
            _ => format!("\"{canonical}\":{expected},\"code\":\"1\",\"status\":null"),
        };
        assert_eq!(given, expected, "{alias}");
    }
    for alias in ["time", "ts", "@timestamp"] {
        let line = normalize(&format!("{{\"{alias}\":1735689600123,\"code\":\"1\"}}"));
        assert!(line.starts_with(r#"{"timestamp":"2025-01-01T00:00:00.123Z","code":"1","id":"#), "{line}");
    }
}

#[test]
fn a_canonical_name_beats_its_alias_and_the_first_alias_the_others() {
    assert_eq!(members(r#""username":"b","user_id":"a""#), r#""user_id":"a","metadata":{"username":"b"}"#);
    assert_eq!(members(r#""type":"t","action":"a""#), r#""event_type":"a","metadata":{"type":"t"}"#);
    assert_eq!(members(r#""user_id":null,"user":"a""#), r#""user_id":"a""#);
    assert_eq!(members(r#""user":null"#), r#""user_id":null"#);
    assert_eq!(
        members(r#""success":false,"status":"in_progress""#),
        r#""status":"in_progress","metadata":{"success":false}"#
    );
}

#[test]
fn an_alias_whose_value_cannot_be_meant_is_an_unknown_member() {
    assert_eq!(members(r#""user":{"id":7}"#), r#""metadata":{"user":{"id":7}}"#);
    assert_eq!(members(r#""duration":"00:01:02","message":5"#), r#""metadata":{"duration":"00:01:02","message":5}"#);
    assert_eq!(
        members(r#""success":"yes","duration_s":"soon""#),
        r#""metadata":{"success":"yes","duration_s":"soon"}"#
    );
    assert_eq!(trimmed(keep(&format!("{{{COMPLETE},\"user\":[1]}}"))), r#""user":[1]"#);
}

#[test]
fn status_words_are_understood() {
    for (written, meant) in [
        ("ok", "success"),
        ("OK", "success"),
        ("failed", "error"),
        ("Failure", "error"),
        ("failure", "error"),
        ("SUCCESS", "success"),
        ("shipped", "shipped"),
        ("", ""),
    ] {
        assert_eq!(members(&format!("\"status\":\"{written}\"")), format!("\"status\":\"{meant}\""));
    }
    for status in STATUSES {
        assert_eq!(members(&format!("\"status\":\"{status}\"")), format!("\"status\":\"{status}\""));
    }
    assert_eq!(members(r#""status":200"#), r#""status":200"#);
}

#[test]
fn a_missing_status_is_what_success_an_error_or_a_code_says() {
    assert_eq!(members(r#""success":true,"error":"x""#), r#""status":"success","error_message":"x""#);
    assert_eq!(members(r#""success":false"#), r#""status":"error""#);
    assert_eq!(members(r#""error":"boom""#), r#""error_message":"boom","status":"error""#);
    assert_eq!(members(r#""error":null"#), r#""error_message":null"#);
    assert_eq!(members(r#""error":"""#), r#""error_message":"""#);
    assert_eq!(members(r#""status_code":400"#), r#""status_code":400,"status":"error""#);
    assert_eq!(members(r#""status_code":"503","status":null"#), r#""status_code":"503","status":"error""#);
    assert_eq!(members(r#""status_code":399"#), r#""status_code":399"#);
    assert_eq!(
        members(r#""success":"?","status_code":500"#),
        r#""status_code":500,"metadata":{"success":"?"},"status":"error""#
    );
}

#[test]
fn durations_are_milliseconds_to_the_last_digit() {
    assert_eq!(members(r#""execution_time_ms":12.50"#), r#""duration_ms":12.50"#);
    assert_eq!(members(r#""duration":"12.50""#), r#""duration_ms":12.50"#);
    assert_eq!(members(r#""duration_seconds":0.1234567890123456789"#), r#""duration_ms":123.4567890123456789"#);
    assert_eq!(members(r#""duration_s":"2""#), r#""duration_ms":2000"#);
}

#[test]
fn unknown_members_and_objects_merge_into_metadata_where_what_is_there_wins() {
    assert_eq!(
        members(r#""a":1,"metadata":{ "a":0, "c":3 },"details":{"b":2,"c":0},"é\n":[1]"#),
        r#""metadata":{ "a":0, "c":3,"b":2,"é\n":[1]}"#
    );
    assert_eq!(members(r#""details":"text""#), r#""description":"text""#);
    assert_eq!(members(r#""message":"m","details":"d""#), r#""description":"m","metadata":{"details":"d"}"#);
    assert_eq!(members(r#""metadata":null,"a":1"#), r#""metadata":{"a":1}"#);
    assert_eq!(members(r#""metadata":"text","a":1"#), r#""metadata":{"metadata":"text","a":1}"#);
    assert_eq!(members(r#""metadata":[]"#), r#""metadata":{"metadata":[]}"#);
    assert_eq!(
        trimmed(keep(&format!("{{{COMPLETE},\"a\":1,\"seq\":5,\"details\":{{\"b\":2}}}}"))),
        r#""a":1,"metadata":{"seq":5,"b":2}"#
    );
}

#[test]
fn what_other_transforms_set_stays_at_the_top() {
    let set = r#""truncated":{},"redactions":[]"#;
    assert_eq!(members(set), set);
}

#[test]
fn where_an_execution_was_seen_is_believed_of_a_stamp_alone() {
    let claim = r#""capture":"server""#;
    let line = format!("{{{COMPLETE},{claim}}}");
    assert_eq!(members(claim), format!("\"metadata\":{{{claim}}}"));
    assert_eq!(trimmed(keep(&line)), format!("\"metadata\":{{{claim}}}"));
    let stamp = Stamp { sender: None, capture: Some(Capture::Server) };
    assert_eq!(trimmed(with("{}", &line, Some(stamp))), claim);
    assert_eq!(trimmed(with("{}", &line, Some(Stamp::service("gateway")))), claim);
}

#[test]
fn an_own_id_is_kept_as_spelled() {
    for id in ["0190163D-8694-739B-AEA5-966C26F8AD91", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "0190163d8694739baea5966c26f8ad91"]
    {
        let line = normalize(&format!("{{\"id\":\"{id}\"}}"));
        assert!(line.starts_with(&format!("{{\"id\":\"{id}\",")), "{line}");
    }
}

fn id_of(line: &str) -> Id {
    let value: serde_json::Value = serde_json::from_str(line).expect("valid");
    Id::parse(value["id"].as_str().expect("text")).expect("an id")
}

#[test]
fn any_other_id_is_kept_beside_and_gives_the_same_id_again() {
    let first = normalize(r#"{"id":"order-5","a":1}"#);
    assert!(first.contains(r#""metadata":{"source_id":"order-5","a":1}"#), "{first}");
    let again = apply(
        &build::<Normalize>("{}"),
        batch(&[r#"{"a":2}"#, r#"{"id":"order-5"}"#, r#"{"id":"order-6"}"#], provenance(None, None)),
    );
    assert_eq!(id_of(&first), id_of(&again[1]));
    assert_ne!(id_of(&first), id_of(&again[2]));
    assert_ne!(id_of(&first), id_of(&as_ali(r#"{"id":"order-5"}"#)), "who sent it is part of it");
    let peer = provenance(Some([10, 0, 0, 1].into()), None);
    assert_ne!(id_of(&first), id_of(&apply(&build::<Normalize>("{}"), batch(&[r#"{"id":"order-5"}"#], peer))[0]));
    assert!(normalize(r#"{"id":17}"#).contains(r#""metadata":{"source_id":17}"#));
    assert_eq!(id_of(&normalize(r#"{"id":17}"#)), id_of(&normalize(r#"{"id":"17"}"#)));
}

#[test]
fn an_event_without_an_id_has_the_one_of_its_place() {
    for line in [r#"{"a":1}"#, r#"{"id":null}"#, r#"{"id":""}"#] {
        let batch = batch(&["{}", line], provenance(None, None));
        let expected = batch.derived_id(1);
        assert_eq!(id_of(&apply(&build::<Normalize>("{}"), batch)[1]), expected, "{line}");
    }
}

#[test]
fn a_time_that_cannot_be_read_gives_way_and_is_kept() {
    for written in ["\"yesterday\"", "17", "true", "\"0001-01-01T00:00:00Z\"", "[1]"] {
        let line = normalize(&format!("{{\"timestamp\":{written}}}"));
        assert!(line.starts_with(r#"{"timestamp":"2025-06-01T12:00:00.250Z","#), "{line}");
        assert!(line.contains(&format!("\"metadata\":{{\"timestamp_original\":{written}}}")), "{line}");
    }
    let old = r#"{"timestamp":"1970-01-01T00:00:01Z","#;
    assert!(normalize(&format!("{}\"a\":1}}", old)).starts_with(old), "it is old, and a time");
    assert!(normalize(r#"{"timestamp":null}"#).starts_with(r#"{"timestamp":"2025-06-01T12:00:00.250Z","#));
    assert!(
        normalize(r#"{"timestamp":"2025-01-01T02:00:00+02:00"}"#)
            .starts_with(r#"{"timestamp":"2025-01-01T00:00:00Z","#)
    );
}

#[test]
fn what_is_added_ends_the_object() {
    let peer = provenance(Some([10, 0, 0, 1].into()), None);
    let batch = batch(&[r#"{"a":1,"code":"x"}"#], peer);
    let id = batch.derived_id(0);
    assert_eq!(
        apply(&build::<Normalize>("{}"), batch)[0],
        format!(
            r#"{{"code":"x","metadata":{{"a":1}},"id":"{id}","timestamp":"2025-06-01T12:00:00.250Z","received_at":"2025-06-01T12:00:00.250Z","source":"web","peer_ip":"10.0.0.1"}}"#
        )
    );
}

#[test]
fn another_agent_may_say_how_an_event_was_received_and_a_user_may_not() {
    let line = r#"{"received_at":"2025-05-01T02:00:00+02:00","source":"edge","peer_ip":"10.1.1.1"}"#;
    let kept = normalize(line);
    assert!(
        kept.starts_with(r#"{"received_at":"2025-05-01T00:00:00Z","source":"edge","peer_ip":"10.1.1.1","#),
        "{kept}"
    );
    assert!(kept.contains(r#""timestamp":"2025-05-01T00:00:00Z""#), "{kept}");
    let claimed = as_ali(line);
    assert!(
        claimed.starts_with(r#"{"received_at":"2025-06-01T12:00:00.250Z","source":"web","metadata":{"#),
        "{claimed}"
    );
    for claim in [r#""source":"edge""#, r#""peer_ip":"10.1.1.1""#, r#""received_at":"2025-05-01T02:00:00+02:00""#] {
        assert!(claimed.contains(claim), "{claimed}");
    }
}

#[test]
fn a_value_that_would_be_too_deep_in_metadata_becomes_text() {
    let deep = format!("{}{}", "[".repeat(63), "]".repeat(63));
    assert_eq!(members(&format!("\"a\":{deep}")), format!("\"metadata\":{{\"a\":\"{deep}\"}}"));
    assert_eq!(members(&format!("\"metadata\":{deep}")), format!("\"metadata\":{{\"metadata\":\"{deep}\"}}"));
}

#[test]
fn ten_thousand_members_are_no_trouble() {
    let names: Vec<String> = (0..9_990).map(|n| format!("\"k{n}\":{n}")).collect();
    let line = normalize(&format!("{{{},\"metadata\":{{\"k5\":0}}}}", names.join(",")));
    let value: serde_json::Value = serde_json::from_str(&line).expect("valid");
    assert_eq!(value["metadata"].as_object().map(|m| m.len()), Some(9_990));
    assert_eq!(value["metadata"]["k5"], 0);
}

#[test]
fn many_shapes_in_one_batch_do_not_disturb_each_other() {
    let lines: Vec<String> = (0..100).map(|n| format!("{{\"k{}\":1,\"username\":\"u{n}\"}}", n % 40)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let together = apply(&build::<Normalize>("{}"), batch(&lines, provenance(None, None)));
    for (nth, line) in together.iter().enumerate() {
        assert!(line.starts_with(&format!("{{\"user_id\":\"u{nth}\",\"metadata\":{{\"k{}\":1}}", nth % 40)), "{line}");
    }
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has no other numbers", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        "\\PC{0,8}".prop_map(|text| serde_json::to_string(&text).expect("text")),
        proptest::sample::select(vec![
            "\"ok\"",
            "\"FAILED\"",
            "\"\\u006fk\"",
            "1735689600",
            "1735689600.5",
            "\"1735689600123\"",
            "\"2025-01-01T00:00:00+01:00\"",
            "\"2025-01-01T00:00:00.000Z\"",
            "\"0190163d-8694-739b-aea5-966c26f8ad91\"",
            "\"1.5\"",
            "500",
            "1e3",
            "\"\"",
        ])
        .prop_map(str::to_string),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(" ,"))),
            proptest::collection::vec((name(), inner), 0..3).prop_map(object),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(KNOWN).prop_map(|name| format!("\"{name}\"")),
        1 => "\\PC{0,3}".prop_map(|name| serde_json::to_string(&name).expect("text")),
        1 => Just("\"met\\u0061data\"".to_string()),
        1 => Just("\"source_id\"".to_string()),
    ]
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<String> = members.into_iter().map(|(name, value)| format!("{name} :{value}")).collect();
    format!("{{{}}}", members.join(" , "))
}

proptest! {
    #[test]
    fn a_second_time_changes_nothing(
        members in proptest::collection::vec((name(), value()), 0..12),
        keeps in any::<bool>(),
        stamp in proptest::option::of(any::<bool>()),
    ) {
        let line = object(members);
        let config = if keeps { "unknown: keep" } else { "unknown: metadata" };
        let stamp = stamp.map(|user| if user { Stamp::user("ali") } else { Stamp::service("shop") });
        let once = with(config, &line, stamp.clone());
        prop_assert_eq!(with(config, &once, stamp), once);
    }

    #[test]
    fn what_has_its_name_already_keeps_its_bytes(members in proptest::collection::vec(value(), 4)) {
        let names = ["description", "code", "session_id", "error_type"];
        let plain: Vec<String> = names.iter().zip(&members).map(|(name, value)| format!("\"{name}\" : {value}")).collect();
        let line = format!("{{{COMPLETE},{}}}", plain.join(" , "));
        prop_assert_eq!(normalize(&line), line);
    }

    #[test]
    fn only_canonical_names_are_left(members in proptest::collection::vec((name(), value()), 0..12)) {
        let line = normalize(&object(members));
        let value: serde_json::Value = serde_json::from_str(&line).expect("valid");
        for name in value.as_object().expect("an object").keys() {
            let at = KNOWN.iter().position(|known| known == name);
            prop_assert!(at.is_some_and(|at| at <= METADATA.0 as usize + 3), "{}", name);
        }
        for name in ["id", "timestamp", "received_at", "source"] {
            prop_assert!(value.get(name).is_some(), "{}", name);
        }
    }
}

#[test]
fn success_may_be_in_quotes_and_as_python_writes_it() {
    for (said, status) in [(r#""True""#, "success"), (r#""false""#, "error"), ("true", "success")] {
        let line = normalize(&format!(r#"{{"success":{said}}}"#));
        assert!(line.starts_with(&format!(r#"{{"status":"{status}""#)), "{said}: {line}");
    }
}
