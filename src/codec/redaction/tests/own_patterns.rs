//! Patterns of the user's own: found however they are written, refused with their place, and bounded.

use proptest::prelude::*;

use super::*;

fn own(name: &str, pattern: &str) -> OwnRule {
    OwnRule { name: name.into(), pattern: pattern.into(), action: Action::Mask }
}

#[test]
fn own_patterns_see_decoded_text_with_and_without_a_word_to_look_for() {
    for pattern in ["EMP-[0-9]{4}", "[A-Z]{3}-\\d{4}", "(?i)emp-\\d{4}", "EMP-[0-9]+|موظف-[0-9]+"] {
        let engine = with(|settings| settings.own = vec![own("employee", pattern)]);
        let lines = [r#"{"a":"x EMP-1234","n":{"b":["EMP-9999"]}}"#, r#"{"a":"\u0045MP-1234"}"#, r#"{"a":"none"}"#];
        let (clean, report) = redacted(&engine, &lines);
        assert!(clean[0].starts_with(r#"{"a":"x [employee]","n":{"b":["[employee]"]}"#), "{pattern}: {}", clean[0]);
        assert!(clean[1].starts_with(r#"{"a":"[employee]""#), "{pattern}: {}", clean[1]);
        assert_eq!(clean[2], lines[2]);
        assert_eq!(report.count("employee"), 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The filter looks for a part of the pattern only: nothing that the pattern matches may pass by it, however the text is
    /// written.
    #[test]
    fn own_patterns_find_what_they_match_in_every_spelling(
        number in 0..OWN.len(),
        parts in proptest::collection::vec("[a-cA-C]{1,3}|[0-9]{1,4}|[@._ #é\"\\\\/\n-]|EMP-|key_", 1..12),
        escaped in proptest::collection::vec(any::<bool>(), 40),
        is_nested in any::<bool>(),
    ) {
        let (pattern, engine) = (OWN[number], &ENGINES[number]);
        let text = parts.concat();
        let spelled: String = text
            .chars()
            .zip(escaped.iter().cycle())
            .map(|(c, escaped)| match *escaped {
                true => format!("\\u{:04x}", u32::from(c)),
                false => json_escaped(c),
            })
            .collect();
        let line = format!("{{\"a\":\"{spelled}\"}}");
        let line = if is_nested { format!("{{\"n\":{}}}", serde_json::to_string(&line).expect("a text")) } else { line };
        let (_, report) = redacted(engine, &[&line]);
        let matches = regex::RegexBuilder::new(pattern).unicode(false).build().expect("a pattern");
        prop_assert!(report.count("own") > 0 || !matches.is_match(&text), "{} in {}", pattern, line);
    }
}

/// For each of these patterns.
static ENGINES: LazyLock<Vec<Engine>> = LazyLock::new(|| {
    let engine = |pattern: &&str| {
        let own = vec![own("own", pattern)];
        Engine::new(&Settings { groups: Vec::new(), own, ..Settings::default() }).expect("the pattern is right")
    };
    OWN.iter().map(engine).collect()
});

/// A character as it stands in a JSON text that escapes only what it must.
fn json_escaped(c: char) -> String {
    let quoted = serde_json::to_string(&c).expect("a text");
    quoted[1..quoted.len() - 1].to_owned()
}

/// Patterns that begin, end and repeat in all ways.
const OWN: [&str; 9] = [
    "EMP-[0-9]+",
    "[\\w.-]+@[\\w.-]+\\.[a-z]+",
    "[0-9]{3}-?[0-9]{2}",
    "(?i)[abc]{2}[0-9]{2,3}#",
    "a@b|key_[0-9]",
    "[A-C]+\\s*#[0-9]",
    "([a-c]_){1,2}[0-9]",
    "@[a-c]*-[0-9]{2}",
    "[ -~]#[ -~]",
];

#[test]
fn a_bad_pattern_is_refused_with_its_place() {
    let refused = |name: &str, pattern: &str| {
        let settings = Settings { own: vec![own(name, pattern)], ..Settings::default() };
        Engine::new(&settings).err().expect("refused").to_string()
    };
    assert_eq!(refused("x", "ab(c"), "pattern `x`: unclosed group at byte 2");
    assert_eq!(refused("x", "a*"), "pattern `x`: matches the empty text at byte 0");
    assert_eq!(refused("x", &"a".repeat(5000)), "pattern `x`: longer than 4096 bytes at byte 4096");
    assert_eq!(refused("x", "(a{1000}){1000}"), "pattern `x`: too large once compiled at byte 0");
    assert!(refused("My Rule", "a").contains("a name has 1 to 64 small letters"));
}

#[test]
fn a_value_on_which_a_rule_cannot_finish_is_replaced_whole() {
    let engine = with(|settings| settings.own = vec![own("slow", "[a-z]{2}x?[0-9]")]);
    let long = "ab1".repeat(30_000);
    let (clean, report) = engine.redact_text(long.as_bytes());
    assert_eq!(String::from_utf8_lossy(&clean), "[unfinished]");
    assert_eq!(report.count("unfinished"), 1);
}
