//! Tests of the query language: matches, printing, error messages.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::event::{Batch, Provenance, Raw, Scanner, Seed};
use crate::units::Timestamp;

const EVENTS: &[&str] = &[
    r#"{"status":"error","user_id":"ali","code":"import os\nprint(1)","duration_ms":1500,"timestamp":"2026-01-31T23:59:59.5Z","host":"nb-1"}"#,
    r#"{"status":"Success","user_id":"Zoë","code":"x = 5","duration_ms":20.0,"timestamp":"2026-02-01T00:00:00Z","metadata":{"new_status":"SHIPPED","tags":["a","b c"],"n":null}}"#,
    r#"{"event_type":"kernel.start","user":"ali","status_code":"404","is_admin":true,"cell_number":5,"error_message":"","a\u002eb":{"\"q\"":1}}"#,
];

fn batch() -> Batch {
    let provenance = Provenance {
        source: "test".into(),
        seed: Seed::default(),
        received_at: Timestamp::default(),
        peer: None,
        stamp: None,
    };
    let (mut batch, mut at) = (Batch::new(Bytes::from(EVENTS.join("\n")), Arc::new(provenance)), 0);
    for event in EVENTS {
        batch.push_split(at..at + event.len(), at as u64, &mut Scanner::new(), &mut Vec::new()).expect("valid");
        at += event.len() + 1;
    }
    batch
}

/// The numbers of the events that match.
fn found(query: &str) -> Vec<usize> {
    let parsed = Query::parse(query).unwrap_or_else(|error| panic!("{}", error.render()));
    let mut out = vec![true; 9];
    parsed.matches(&batch(), &mut out);
    let lines: Vec<bool> = EVENTS.iter().map(|event| parsed.matches_line(Raw::valid(event.as_bytes()))).collect();
    assert_eq!(out, lines, "{query}: batch and line agree");
    (0..out.len()).filter(|event| out[*event]).collect()
}

#[test]
fn queries_find_what_they_say() {
    for (query, expected) in [
        ("", vec![0, 1, 2]),
        ("*", vec![0, 1, 2]),
        ("IMPORT", vec![0]),
        ("\"import os\"", vec![0]),
        ("shipped", vec![1]),
        ("imp*print", vec![0]),
        ("zoË", vec![1]),
        ("404", vec![2]),
        ("status:ERROR", vec![0]),
        ("status:err", vec![]),
        ("status:err*", vec![0]),
        ("status:*r*", vec![0]),
        ("status:*", vec![0, 1]),
        ("status:(error OR success)", vec![0, 1]),
        ("user_id:zoë", vec![1]),
        ("user:ali", vec![0, 2]),
        ("user_id:ali", vec![0]),
        ("code:\"import os\"", vec![0]),
        ("code:import code:print", vec![0]),
        ("metadata.new_status:SHIPPED", vec![1]),
        ("metadata.tags:\"b c\"", vec![1]),
        ("metadata.tags:b", vec![]),
        ("duration_ms:>1000", vec![0]),
        ("duration_ms:>=20", vec![0, 1]),
        ("duration_ms:20", vec![1]),
        ("duration_ms:<1500", vec![1]),
        ("duration_ms:[20 TO 1500]", vec![0, 1]),
        ("duration_ms:[* TO 100]", vec![1]),
        ("duration_ms:[* TO *]", vec![0, 1]),
        ("duration_ms:20..1500", vec![0, 1]),
        ("duration_ms:..100", vec![1]),
        ("duration_ms:1e2..", vec![0]),
        ("timestamp:2026-01-31..2026-01-31", vec![0]),
        ("timestamp:2026-01-31T00:00:00Z..", vec![0, 1]),
        ("host:nb-0..nb-2", vec![]),
        ("host:..", vec![]),
        ("status_code:>=400", vec![2]),
        ("cell_number:5.0", vec![2]),
        ("is_admin:true", vec![2]),
        ("timestamp:2026-01-31", vec![0]),
        ("timestamp:>2026-01-31", vec![1]),
        ("timestamp:<=2026-01-31", vec![0]),
        ("timestamp:[2026-01-31 TO 2026-02-01]", vec![0, 1]),
        ("timestamp:<2026-01-31T23:59:59.6Z", vec![0]),
        ("timestamp:>=2026-02-01T01:00:00+01:00", vec![1]),
        ("host:[nb-0 TO nb-2]", vec![0]),
        ("has:metadata", vec![1]),
        ("has:metadata.n", vec![]),
        ("has:error_message", vec![2]),
        ("error_message:\"\"", vec![2]),
        ("-has:duration_ms", vec![2]),
        ("NOT status:error", vec![1, 2]),
        ("-event_type:kernel.start (host:nb-1 OR host:nb-2)", vec![0]),
        ("status:success OR status:error user_id:nobody", vec![1]),
        ("(status:success OR status:error) user_id:ali", vec![0]),
        ("~\"pr.nt\\(\\d\"", vec![0]),
        ("status:~\"^(?i)SUCC\"", vec![1]),
        ("user_id:~\"^a\" AND host:nb-1", vec![0]),
        ("\"a.b\".\"\\\"q\\\"\":1", vec![2]),
        ("timestamp:2026-01-31T23:59*", vec![0]),
    ] {
        assert_eq!(found(query), expected, "{query}");
    }
}

#[test]
fn a_query_names_its_fields_once() {
    let query = Query::parse("status:a -status:b has:metadata.x free").expect("a query");
    assert_eq!(query.fields(), [&vec!["metadata".to_owned(), "x".to_owned()], &vec!["status".to_owned()]]);
}

#[test]
fn mistakes_are_pointed_at() {
    for (query, expected) in [
        ("status:(error", "unclosed `(`\n  status:(error\n         ^\nhint: add `)`"),
        ("(a b", "unclosed `(`\n  (a b\n  ^\nhint: add `)`"),
        ("a b)", "unmatched `)`\n  a b)\n     ^\nhint: remove it, or add `(` before"),
        ("größe:\"x", "a string is not closed\n  größe:\"x\n        ^\nhint: add `\"` at its end"),
        (
            "status: error",
            "missing value after `status:`\n  status: error\n         ^\nhint: write `status:\"\"` for an empty text, \
             `has:status` for any value",
        ),
        ("a OR", "missing term\n  a OR\n      ^"),
        ("OR a", "`OR` needs a term on both sides\n  OR a\n  ^^\nhint: write `\"OR\"` for the word itself"),
        ("n:[1 2]", "a range needs two ends\n  n:[1 2]\n    ^^^^\nhint: write `[a TO b]`, with `*` for an open end"),
        ("n:>", "a value is missing behind `>`\n  n:>\n    ^"),
        (":x", "missing field name before `:`\n  :x\n  ^\nhint: write `field:value`, or quotes around a text with `:`"),
        ("~\"a(b\"", "invalid pattern: unclosed group\n  ~\"a(b\"\n   ^^^^^"),
        ("has:", "`has:` needs a field name\n  has:\n      ^\nhint: write `has:error_message`"),
        (
            "status:(a b)",
            "values in parentheses are joined by `OR`\n  status:(a b)\n            ^\nhint: write `field:(a OR b)`",
        ),
        ("()", "missing term before `)`\n  ()\n   ^"),
    ] {
        let error = Query::parse(query).expect_err(query);
        assert_eq!(error.render(), expected, "{query}");
    }
    assert_eq!(Query::parse("a b)").expect_err("wrong").to_string(), "unmatched `)` at column 4");
}

#[test]
fn bounds_are_kept() {
    let refused = |query: String| Query::parse(&query).expect_err("too much").message;
    assert_eq!(refused("x".repeat(5000)), "the query is longer than 4096 bytes");
    assert_eq!(refused("(".repeat(50)), "nested deeper than 32 levels");
    assert_eq!(refused("-".repeat(50)), "nested deeper than 32 levels");
    assert_eq!(refused("a ".repeat(300)), "more than 256 terms");
    assert_eq!(refused("~\"a\" ".repeat(17)), "more than 16 patterns");
    assert_eq!(refused("~\"(a{1000}){1000}\"".to_owned()), "the pattern is too large");
}

#[test]
fn a_text_may_begin_with_dots() {
    for text in ["..", "..*", "...and more", ".bashrc"] {
        assert!(Query::parse(text).is_ok(), "{text}");
    }
    assert!(Query::parse("a..b:1").is_err());
}

// --- properties ---

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_.@-]{1,8}",
        "\\PC{1,8}",
        "[ :()\"\\\\*~<>=\\[\\]-]{1,6}",
        Just("OR".into()),
        Just("TO".into())
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let ends = || prop_oneof![Just(String::new()), text()];
    prop_oneof![
        text().prop_map(|text| Pattern(vec![text])),
        (text(), proptest::collection::vec(text(), 0..2), ends()).prop_map(|(first, mut middle, last)| {
            middle.insert(0, first);
            middle.push(last);
            Pattern(middle)
        }),
    ]
}

fn check() -> impl Strategy<Value = Check> {
    let bound = || text().prop_map(Bound);
    let op = prop::sample::select(Op::ALL).prop_map(|(_, op)| op);
    prop_oneof![
        3 => pattern().prop_map(Check::Is),
        1 => (op, bound()).prop_map(|(op, bound)| Check::Compare(op, bound)),
        1 => (proptest::option::of(bound()), proptest::option::of(bound())).prop_map(|(a, b)| Check::Between(a, b)),
        1 => Just(Check::Exists),
        1 => "[a-z.\\\\\"]{0,3}".prop_filter_map("a pattern", |text| {
            let text = regex::escape(&text);
            predicate::compile(&text).ok().map(|_| Check::Matches(text))
        }),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    let test = prop_oneof![
        3 => (proptest::collection::vec(text(), 1..3), check())
            .prop_map(|(path, check)| Expr::Test(Test { field: Some(path), check })),
        1 => pattern().prop_map(|pattern| Expr::Test(Test { field: None, check: Check::Is(pattern) })),
        1 => Just(Expr::All),
    ];
    test.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::and),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::or),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn a_printed_query_reads_the_same(expr in expr()) {
        let printed = expr.to_string();
        let read = parse::parse(&printed).map_err(|error| TestCaseError::fail(error.render()))?;
        prop_assert_eq!(read, expr, "{}", printed);
    }

    #[test]
    fn any_text_is_a_query_or_refused_at_a_place_within_it(text in "\\PC{0,40}", signs in "[a-z:()\"\\\\*~<>=\\[\\] .TO-]{0,30}") {
        for text in [text, signs] {
            match Query::parse(&text) {
                Ok(query) => query.matches(&batch(), &mut Vec::new()),
                Err(error) => {
                    prop_assert!(error.range.start <= error.range.end && error.range.end <= text.len());
                    let _ = (error.render(), error.column());
                }
            }
        }
    }
}
