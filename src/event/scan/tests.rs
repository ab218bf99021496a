//! Tests of the scanner against its safe twin and against serde_json.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::event::raw::Raw;

/// JSON text in many spellings; about one in twenty is wrong by itself.
pub fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        string(),
        "[tfn0-9.eE+-]{1,6}",
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            (prop::collection::vec((inner.clone(), space()), 0..8), space())
                .prop_map(|(items, space)| format!("[{space}{}]", join(items.iter().map(|(i, s)| format!("{s}{i}"))))),
            object(inner),
        ]
    })
}

proptest! {
    #[test]
    fn where_an_object_has_its_id_is_known_once_it_is_validated(
        members in prop::collection::vec((prop::sample::select(&["id", "ids", "i", "di"]), space(), json(), space()), 0..12),
        behind in space(),
    ) {
        let members = members.iter().map(|(key, a, value, b)| format!("{a}\"{key}\"{b}:{a}{value}{b}"));
        let text = format!("{{{}}}{behind}", join(members)).into_bytes();
        for mut scanner in [Scanner::new(), Scanner::plain()] {
            for is_prefix in [false, true] {
                let is_valid = if is_prefix { scanner.prefix(&text).is_ok() } else { scanner.validate(&text).is_ok() };
                if is_valid {
                    let id = Raw(&text).members().filter(|(key, _)| *key == b"id").last();
                    let place = id.map(|(_, value)| value.0.as_ptr().addr() - text.as_ptr().addr());
                    prop_assert_eq!(scanner.id().map(|id| id as usize), place);
                }
            }
        }
    }
}

/// The text of an object.
pub fn object_text() -> impl Strategy<Value = String> {
    object(json())
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (prop::collection::vec((string(), space(), value, space()), 0..10), space()).prop_map(|(members, end)| {
        let members = members.iter().map(|(key, a, value, b)| format!("{a}{key}{b}:{a}{value}{b}"));
        format!("{{{end}{}}}", join(members))
    })
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 3 => Just(" "), 1 => Just("\t \r\n"), 1 => Just("                                    ")]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof!["-?(0|[1-9][0-9]{0,19})", "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,17})?([eE][+-]?[0-9]{1,4})?"]
}

fn string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[ab]",
        6 => "[ -!#-\\[\\]-~]{0,40}",
        2 => r#"(\\["\\/bfnrt]){1,9}"#,
        2 => r"\\u0[0-9a-fA-F]{3}",
        1 => r"\\ud[89abAB][0-9a-f]{2}\\uD[c-fC-F][0-9A-F]{2}",
        1 => "\\PC{0,6}",
        1 => Just("é結果😀\u{7f}\u{2028}".to_owned()),
        1 => Just("{\\\"a\\\":[1,2]},:".to_owned()),
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// What a hostile or broken producer makes of good text.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let snippets: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b" ",
        b"\n",
        b"\r",
        b"0",
        b"-",
        b"1e",
        b".",
        b"u",
        b"\\u",
        b"\\ud800",
        b"\\udc00",
        b"\\uD83D\\uDE00",
        b"\\u12",
        b"\x00",
        b"\x0c",
        b"\x1a",
        b"\x1f",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xe2\x82",
        b"\xef\xbb\xbf",
        b"tru",
        b"true",
        b"nul",
        b"{}",
        b"[]",
        b"\"\"",
        b"\"a\":1",
        b"//",
        b"\\x",
        b"NaN",
        b"'",
    ];
    let edit = (any::<prop::sample::Index>(), 0..4u8, prop::sample::select(snippets), 0..4usize);
    (json(), prop::collection::vec(edit, 0..4)).prop_map(|(text, edits)| {
        let mut text = text.into_bytes();
        for (place, what, snippet, count) in edits {
            let at = place.index(text.len() + 1);
            match what {
                0 => drop(text.splice(at..at, snippet.iter().copied())),
                1 => drop(text.splice(at..(at + count).min(text.len()), [])),
                2 => text.truncate(at),
                _ => drop(text.splice(at..(at + snippet.len()).min(text.len()), snippet.iter().copied())),
            }
        }
        text
    })
}

/// Any bytes, most of them such as JSON is made of.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        12 => prop::sample::select(b"{}[]:,\"\\ \nu0123456789abcdDeE+-.tfn".to_vec()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..200)
}

/// Both scanners say the same, to the byte; and what one accepts serde_json accepts.
fn check(text: &[u8]) -> Result<(), TestCaseError> {
    let (mut fast, mut safe) = (Scanner::new(), Scanner::plain());
    let verdict = safe.validate(text);
    prop_assert_eq!(fast.validate(text), verdict.clone());
    prop_assert!(oracle(text).is_none_or(|fits| fits == verdict.is_ok()), "serde_json disagrees: {:?}", verdict);

    let (mut from_fast, mut from_safe) = (Vec::new(), Vec::new());
    prop_assert_eq!(fast.split(text, &mut from_fast), safe.split(text, &mut from_safe));
    prop_assert_eq!(&from_fast, &from_safe);

    let (mut from_fast, mut from_safe) = (Vec::new(), Vec::new());
    let prefix = fast.prefix_split(text, Some(&mut from_fast));
    prop_assert_eq!(prefix, safe.prefix_split(text, Some(&mut from_safe)));
    prop_assert_eq!(&from_fast, &from_safe);
    if verdict.is_ok() {
        check_members(text, &from_fast)?;
    }
    Ok(())
}

/// The members are those that one finds by looking.
fn check_members(text: &[u8], members: &[Member]) -> Result<(), TestCaseError> {
    let found = members.iter().map(|m| {
        let key = m.key as usize + 1;
        (&text[key..key + m.key_len as usize], Raw(&text[m.value as usize..(m.value + m.value_len) as usize]))
    });
    let expected: Vec<_> = Raw(text.trim_ascii()).members().collect();
    prop_assert_eq!(found.collect::<Vec<_>>(), expected);
    Ok(())
}

/// serde_json's result, with our three deviations: depth, number of members, lone surrogates. None where a number
/// beyond a double hides the rest from it.
fn oracle(text: &[u8]) -> Option<bool> {
    if serde_json::from_slice::<&RawValue>(text).is_err() {
        return Some(false);
    }
    match serde_json::from_slice::<serde_json::Value>(text) {
        Ok(_) => Some(!too_deep(text)),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(_) => Some(false),
    }
}

fn too_deep(text: &[u8]) -> bool {
    fn depth(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    depth(&serde_json::from_slice(text).expect("just parsed")) > MAX_DEPTH
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn well_formed_text_is_judged_as_by_the_twin_and_serde_json(text in json()) {
        check(text.as_bytes())?;
    }

    #[test]
    fn broken_text_is_judged_as_by_the_twin_and_serde_json(text in mutated()) {
        check(&text)?;
    }

    #[test]
    fn noise_is_judged_as_by_the_twin_and_serde_json(text in noise()) {
        check(&text)?;
    }

    #[test]
    fn a_prefix_ends_where_it_ends_whatever_follows(text in object(json()), rest in noise(), gap in space()) {
        let (mut fast, mut safe) = (Scanner::new(), Scanner::plain());
        if safe.validate(text.as_bytes()).is_ok() {
            let mut long = text.clone().into_bytes();
            long.extend_from_slice(gap.as_bytes());
            long.extend_from_slice(&rest);
            prop_assert_eq!(safe.prefix(&long), Ok(text.len()));
            for _ in 0..2 {
                prop_assert_eq!(fast.prefix(&long), Ok(text.len()));
            }
        }
    }
}

/// More with `WEIR_CASES` set, for long runs.
fn cases() -> u32 {
    std::env::var("WEIR_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(1000)
}

#[test]
fn every_length_and_alignment_is_judged_alike() {
    let patterns: [&str; 6] = [
        r#"{"key":"va\"lue","n":-12.5e3,"list":[true,false,null,{"x":"é"}],"long":"\\\\\\\\\\\\\\\\","u":"\ud83d\ude00\u06ff"}  "#,
        r#"["\\","\\\\","\\\"","\"","\u00e9\u00E9\ud83d\ude00"]"#,
        r#"{"":"","a":{"b":{"c":[[[[1]]]]}}}"#,
        "[1,2,3,4,5,6,7,8,9,0,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37]",
        "{\"a\":\"\u{e9}\u{e9}\u{e9}\u{7d50}\u{679c}\u{1f600}\"}",
        "                                                                {\"a\"                     :                  1}",
    ];
    for pattern in patterns {
        for shift in 0..200 {
            let padded = format!("{}{pattern}", " ".repeat(shift));
            let inside = format!("{{\"p\":\"{}\",\"v\":{}}}", "x".repeat(shift), pattern.trim());
            for text in [&padded, &inside] {
                check(text.as_bytes()).expect("whole");
                for len in (0..text.len()).rev().take(200) {
                    check(&text.as_bytes()[..len]).expect("cut");
                }
                // At another alignment.
                let shifted = format!("{}{text}", "\n".repeat(shift % 7));
                check(&shifted.as_bytes()[shift % 7..]).expect("aligned otherwise");
            }
        }
    }
}

#[test]
fn every_byte_is_judged_alike_at_every_place() {
    let text = br#"{"a":"b\n\u00e9","c":[1,true,null]}, "d""#;
    for at in 0..text.len() {
        for byte in 0..=255 {
            let mut text = text[..35].to_vec();
            if at < text.len() {
                text[at] = byte;
                check(&text).expect("one byte changed");
            }
        }
    }
}

#[test]
fn what_the_field_trips_over_is_refused_with_its_place() {
    let cases: &[(&[u8], usize, Reason)] = &[
        (b"", 0, Reason::Empty),
        (b" \r\n", 3, Reason::Empty),
        (b"\xef\xbb\xbf{}", 0, Reason::ExpectedValue),
        (b"{}\0", 2, Reason::Trailing),
        (b"{\"a\":\"\0\"}", 6, Reason::ControlCharacter),
        (b"{\"a\":\"x\ny\"}", 7, Reason::ControlCharacter),
        (b"{\"a\":1}{\"b\":2}", 7, Reason::Trailing),
        (b"{\"a\":1}\n{\"b\":2}", 8, Reason::Trailing),
        (b"{\"a\":01}", 6, Reason::ExpectedCommaOrEnd),
        (b"{\"a\":1.}", 5, Reason::Number),
        (b"{\"a\":+1}", 5, Reason::ExpectedValue),
        (b"{\"a\":NaN}", 5, Reason::ExpectedValue),
        (b"{'a':1}", 1, Reason::ExpectedName),
        (b"{\"a\":1,}", 7, Reason::ExpectedName),
        (b"[1,]", 3, Reason::ExpectedValue),
        (b"{\"a\" 1}", 5, Reason::ExpectedColon),
        (b"{\"a\":\"\\ud800\"}", 6, Reason::LoneSurrogate),
        (b"{\"a\":\"\\udc00\\ud800\"}", 6, Reason::LoneSurrogate),
        (b"{\"a\":\"\\ud800\\ud800\\udc00\"}", 6, Reason::LoneSurrogate),
        (b"{\"a\":\"\\x41\"}", 6, Reason::Escape),
        (b"{\"a\":\"\\u12g4\"}", 6, Reason::Escape),
        (b"{\"a\":\"\xff\"}", 6, Reason::Utf8),
        (b"{\"a\":\"", 5, Reason::UnclosedString),
        (b"{\"a\":\"\\\"}", 5, Reason::UnclosedString),
        (b"{\"a\":[1", 7, Reason::Unclosed),
        (b"{\"a\":1]", 6, Reason::ExpectedCommaOrEnd),
    ];
    for (text, offset, reason) in cases {
        let expected = Err(Unfit { offset: *offset, reason: *reason });
        for mut scanner in [Scanner::new(), Scanner::plain()] {
            assert_eq!(scanner.validate(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }
}

#[test]
fn depth_and_number_of_members_have_their_bounds() {
    for mut scanner in [Scanner::new(), Scanner::plain()] {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(scanner.validate(nested(MAX_DEPTH).as_bytes()), Ok(()));
        let refused = scanner.validate(nested(MAX_DEPTH + 1).as_bytes());
        assert_eq!(refused, Err(Unfit { offset: MAX_DEPTH, reason: Reason::TooDeep }));
        let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(scanner.split(objects(MAX_DEPTH).as_bytes(), &mut Vec::new()), Ok(()));
        assert!(scanner.split(objects(MAX_DEPTH + 1).as_bytes(), &mut Vec::new()).is_err());

        let wide = |keys: usize| format!("{{{}}}", join((0..keys).map(|n| format!("\"k{n}\":{n}"))));
        assert_eq!(scanner.split(wide(MAX_KEYS).as_bytes(), &mut Vec::new()), Ok(()));
        let refused = scanner.validate(wide(MAX_KEYS + 1).as_bytes());
        assert_eq!(refused.map_err(|unfit| unfit.reason), Err(Reason::TooManyKeys));
    }
}

#[test]
fn texts_beyond_the_index_are_left_to_the_twin() {
    let text = format!("{{\"a\":\"{}\",\"b\":[1]}}", "x".repeat(3 << 20));
    let mut members = Vec::new();
    let mut scanner = Scanner::new();
    assert_eq!(scanner.split(text.as_bytes(), &mut members), Ok(()));
    assert_eq!(members.len(), 2);
    assert_eq!(scanner.prefix(text.as_bytes()), Ok(text.len()));
}
