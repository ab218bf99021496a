//! Tests of the whole engine: every rule, every disguise, whole batches, and text that must not change.

mod events;
mod hostile;
mod own_patterns;
pub mod reads;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use proptest::prelude::*;

use super::rules::TOKENS;
use super::shape::example;
use super::*;
use crate::event::{Batch, Provenance, Scanner, Seed};
use crate::units::Timestamp;

pub(super) fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> =
        LazyLock::new(|| Engine::new(&Settings::default()).expect("the built-in rules are right"));
    &ENGINE
}

fn with(settings: impl FnOnce(&mut Settings)) -> Engine {
    let mut all = Settings::default();
    settings(&mut all);
    Engine::new(&all).expect("the rules are right")
}

fn batch(lines: &[&str]) -> Batch {
    let provenance = Provenance {
        source: "test".into(),
        seed: Seed::default(),
        received_at: Timestamp::default(),
        peer: None,
        stamp: None,
    };
    let input = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let (mut batch, mut at) = (Batch::new(Bytes::from(input), Arc::new(provenance)), 0);
    for line in lines {
        Scanner::new().validate(line.as_bytes()).unwrap_or_else(|unfit| panic!("{line}: {unfit}"));
        batch.push_validated(at..at + line.len(), at as u64);
        at += line.len() + 1;
    }
    batch
}

fn redacted(engine: &Engine, lines: &[&str]) -> (Vec<String>, Report) {
    let (mut batch, mut report) = (batch(lines), Report::default());
    engine.redact_batch(&mut batch, &mut report);
    let lines = batch.render();
    let lines = (0..lines.len()).map(|n| String::from_utf8(lines.line(n).to_vec()).expect("UTF-8")).collect();
    (lines, report)
}

pub(super) fn one(engine: &Engine, line: &str) -> String {
    redacted(engine, &[line]).0.remove(0)
}

fn text(engine: &Engine, text: &str) -> String {
    String::from_utf8(engine.redact_text(text.as_bytes()).0).expect("UTF-8")
}

// --- rules ---

/// Three secrets of each kind that has a form, the same in every run.
fn examples() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    TOKENS.iter().flat_map(|rule| {
        rule.shapes.iter().flat_map(|shape| {
            let made = (1..100).map(|seed| example(shape, seed)).filter(|text| (rule.check)(text.as_bytes()));
            made.take(3).map(|text| (rule.name, *shape, text))
        })
    })
}

#[test]
fn every_token_is_found_wherever_it_stands() {
    let engine = engine();
    for (rule, shape, secret) in examples() {
        for place in ["", "see # now", "x='#'", "(#)", "https://x.example/?a=1&t=#", "a\\n#\\nb", "#, #"] {
            let line = place.replace('#', &secret) + if place.is_empty() { &secret } else { "" };
            let (clean, report) = engine.redact_text(line.as_bytes());
            let clean = String::from_utf8_lossy(&clean).into_owned();
            assert!(!clean.contains(&secret), "{rule} {shape}: {line} became {clean}");
            assert!(report.total() > 0, "{rule} {shape}: {line}");
        }
        let (clean, report) = engine.redact_text(format!("see {secret} now").as_bytes());
        assert_eq!(String::from_utf8_lossy(&clean), format!("see [{rule}] now"), "{secret}");
        assert_eq!(report.count(rule), 1, "{secret}");
    }
    // Whoever tries redaction takes the key from the vendor's own documentation.
    assert_eq!(text(engine, "AKIAIOSFODNN7EXAMPLE"), "[aws_access_key]");
}

#[test]
fn the_examples_of_the_reference_hold() {
    let all = with(|settings| settings.groups = Group::named().map(|(_, group)| group).collect());
    for rule in rule_texts().into_iter().filter(|rule| rule.fires != rules::UNFINISHED_TEXT) {
        let made = |example: &str| match example.starts_with('{') {
            true => redacted(&all, &[example]).1.count(rule.name),
            false => all.redact_text(example.as_bytes()).1.count(rule.name),
        };
        assert!(!rule.fires.is_empty() && !rule.stays.is_empty(), "{} has no example", rule.name);
        assert!(made(&rule.fires) > 0, "{}: {}", rule.name, rule.fires);
        assert_eq!(made(&rule.stays), 0, "{}: {}", rule.name, rule.stays);
    }
}

/// Logs are full of numbers that resemble these, so they stay unless someone asks for them.
#[test]
fn optional_groups_apply_only_where_they_are_named() {
    let line = r#"{"m":"0084575948 from 203.0.113.7, ۰۰۸۴۵۷۵۹۴۸, call +98 912 345 6789","n":1}"#;
    assert_eq!(one(engine(), line), line);
    let only = |group| one(&with(|settings| settings.groups = vec![group]), line);
    assert!(only(Group::Phone).contains("m\":\"0084575948 from 203.0.113.7, ۰۰۸۴۵۷۵۹۴۸, call [phone]"));
    assert!(only(Group::NationalId).contains("[national_id] from 203.0.113.7, [national_id], call +98"));
    assert!(only(Group::IpAddress).contains("0084575948 from [ip_address], "));
    let all = with(|settings| settings.groups.extend(Group::OPTIONAL.iter().map(|(_, group)| *group)));
    let once = one(&all, line);
    assert_eq!(one(&all, &once), once);
}

#[test]
fn an_explanation_has_what_a_text_repeats_and_what_json_within_json_says() {
    let line = br#"{"code":"password = 'kQ7wErTyUi0pAs9D'; print(kQ7wErTyUi0pAs9D)","m":"{\"k\":\"password=\\\"hunter2\\\"\"}"}"#;
    let found = engine().explain(line);
    let said: Vec<&str> =
        found.iter().map(|one| std::str::from_utf8(&line[one.start..one.end]).expect("text")).collect();
    assert_eq!(said, ["kQ7wErTyUi0pAs9D", "kQ7wErTyUi0pAs9D", "hunter2"]);
}

#[test]
fn an_explanation_names_place_rule_and_reason() {
    let line = br#"{"code":"\u0070assword = 'hunter2'","token":"x","password":"hunter2"}"#;
    let found = engine().explain(line);
    let said: Vec<(&str, &str)> = found
        .iter()
        .map(|one| (std::str::from_utf8(&line[one.start..one.end]).expect("text"), one.rule.as_str()))
        .collect();
    assert_eq!(said, [("hunter2", "credential"), ("\"hunter2\"", "secret_field")]);
    assert_eq!(found[0].why, "a literal given to the name");
}

#[test]
fn what_only_resembles_a_token_stays() {
    let engine = engine();
    for (rule, shape, secret) in examples() {
        let cut = &secret[..secret.len() / 2];
        let words = secret.split(|c: char| !c.is_ascii_alphanumeric()).map(|word| &word[..word.len().min(3)]);
        let shortened = words.collect::<Vec<_>>().join("_");
        for line in [format!("see {} now", &cut[..cut.len().min(12)]), format!("see {shortened} now")] {
            let (_, report) = engine.redact_text(line.as_bytes());
            assert_eq!(report.count(rule), 0, "{shape}: {line}");
        }
    }
    for line in [
        "2018-250-xoxo-indieweb-1.jpg",
        "video_box.ico-7a388b69018576d24b59331fd60aab0c.png",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO",
        "trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
        "took 1735689600000000 ns, 1735689600000 ms, accuracy 0.4111111111111111",
        "task-oriented risk-based sk-learn eyJ hf_hub",
        "507f1f77bcf86cd799439011",
        "from transformers import AutoTokenizer; tokenizer.pad_token = tokenizer.eos_token",
        "2025-01-01 00:00:00 2025-01-02",
    ] {
        assert_eq!(text(engine, line), line);
    }
}

#[test]
fn each_group_can_be_left_out() {
    let line = r#"{"a":"x@example.com 4111111111111111 password=hunter2","password":"p"}"#;
    let only = |group| one(&with(|settings| settings.groups = vec![group]), line);
    assert!(only(Group::Personal).contains(r#""[email] 4111111111111111 password=hunter2","password":"p""#));
    assert!(only(Group::Financial).contains(r#""x@example.com [card] password=hunter2""#));
    assert!(only(Group::Credentials).contains(r#"4111111111111111 password=[credential]","password":"p""#));
    assert!(only(Group::Keys).contains(r#"password=hunter2","password":"[secret_field]""#));
    assert_eq!(only(Group::Secrets), line);
}

// --- events ---

#[test]
fn an_event_says_what_was_redacted() {
    let engine = engine();
    assert_eq!(
        one(engine, r#"{"code":"notify(\"a.b@example.com\", \"c@example.com\")","n":1.0}"#),
        r#"{"code":"notify(\"[email]\", \"[email]\")","n":1.0,"redactions":[{"rule":"email","count":2}]}"#
    );
    assert_eq!(
        one(engine, r#"{"a":{"b":[1,{"Api-Key":"x","ok":true}]},"db_password":123,"token":null,"secret":""}"#),
        concat!(
            r#"{"a":{"b":[1,{"Api-Key":"[secret_field]","ok":true}]},"db_password":"[secret_field]","#,
            r#""token":null,"secret":"","redactions":[{"rule":"secret_field","count":2}]}"#
        )
    );
}

#[test]
fn only_names_and_numbers_of_redactions_that_came_along_are_kept() {
    let line = concat!(
        r#"{"m":"a@example.com","redactions":[{"rule":"email","count":3},{"rule":"Not a rule","count":1},"#,
        r#"{"rule":"own","count":"x"},{"rule":"card","count":2,"more":"b@example.com"},7]}"#
    );
    let clean = one(engine(), line);
    let expected = r#"{"m":"[email]","redactions":[{"rule":"card","count":2},{"rule":"email","count":5}]}"#;
    assert_eq!(clean, expected);
}

#[test]
fn events_without_a_secret_stay_as_they_are() {
    let lines = [
        r#"{ "code" : "import os\n@app.route('/x')\ndef f(): return 'caf\u00e9'" , "n" : 1e400, "id":"123e4567-e89b-12d3-a456-426614174000" }"#,
        r#"{"tokens":12,"prompt_tokens":4,"max_token":5,"key":"abc","redactions":[{"rule":"x","count":1}]}"#,
        r#"{"t":"\u0645\u0631\u062d\u0628\u0627 don\u2019t \ud83d\ude00 \u001b[0;32mimport\u001b[0m \u001b[0mos\u001b[0;34m.\u001b[0mpath"}"#,
    ];
    let (clean, report) = redacted(engine(), &lines);
    assert_eq!(clean, lines);
    assert!(report.total() == 0);
}

#[test]
fn names_and_numbers_are_looked_at_too() {
    let engine = engine();
    let clean = one(
        engine,
        r#"{"a@example.com":1,"b@example.com":2,"n":4111111111111111,"o":{"c@example.com":1,"[email]":0}}"#,
    );
    let value: serde_json::Value = serde_json::from_str(&clean).expect("valid JSON");
    assert_eq!(value["[email]"], 1);
    assert_eq!(value["[email]_2"], 2);
    assert_eq!(value["n"], "[card]");
    assert_eq!(value["o"]["[email]_2"], 1);
}

#[test]
fn what_transforms_made_is_looked_at_too() {
    let mut batch = batch(&[r#"{"a":1,"harmless":"x"}"#, r#"{"b":2}"#]);
    batch.split_all();
    let (note, password) = (batch.name_id("note"), batch.name_id("password"));
    batch.set_str(1, note, "mail a@example.com");
    batch.rename_nth(0, 1, password);
    engine().redact_batch(&mut batch, &mut Report::default());
    let mut out = Vec::new();
    batch.render_event(0, &mut out);
    batch.render_event(1, &mut out);
    let expected = concat!(
        r#"{"a":1,"password":"[secret_field]","redactions":[{"rule":"secret_field","count":1}]}"#,
        r#"{"b":2,"note":"mail [email]","redactions":[{"rule":"email","count":1}]}"#
    );
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
}

#[test]
fn only_the_fields_asked_for_are_looked_at() {
    let engine = with(|settings| {
        settings.fields = Some(vec![vec!["code".into()], vec!["metadata".into(), "note".into()]]);
    });
    let clean =
        one(&engine, r#"{"code":"a@b.example","x":"a@b.example","metadata":{"note":"a@b.example","y":"a@b.example"}}"#);
    assert!(
        clean.starts_with(r#"{"code":"[email]","x":"a@b.example","metadata":{"note":"[email]","y":"a@b.example"}"#)
    );
}

#[test]
fn actions_leave_what_they_promise() {
    let line = r#"{"m":"card 4111111111111111 of a@example.com","password":"hunter2"}"#;
    let removed = one(&with(|settings| settings.action = Action::Remove), line);
    assert!(removed.starts_with(r#"{"m":"card  of ","redactions""#), "{removed}");
    let kept = one(&with(|settings| settings.action = Action::KeepLast(9)), line);
    assert!(kept.starts_with(r#"{"m":"card [card *1111] of [email *.com]","password":"[secret_field]""#), "{kept}");
    let hash = |key: u8| one(&with(|settings| settings.action = Action::Hash([key; 32])), line);
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
    assert!(!hash(1).contains("hunter2") && hash(1).contains(r#""password":"[secret_field:"#));
    for action in [Action::Remove, Action::KeepLast(4), Action::Hash([7; 32]), Action::Mask] {
        let engine = with(|settings| settings.action = action);
        let once = one(&engine, line);
        assert_eq!(one(&engine, &once), once);
    }
}

// --- disguises ---

#[test]
fn secrets_are_found_through_disguises() {
    let engine = engine();
    let key = "AKIAQWERTYUIOPASDF12";
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let base64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let url64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let each = |form: &dyn Fn(char) -> String| key.chars().map(form).collect::<String>();
    let disguised = [
        ("JSON escape", format!("\\u0041{}", &key[1..])),
        ("JSON escapes", each(&|c| format!("\\u{:04x}", c as u32))),
        ("JSON in a string", format!(r#"{{\"k\":\"\\u0041{}\"}}"#, &key[1..])),
        ("JSON in a string in a string", format!(r#"{{\"k\":\"{{\\\"k\\\":\\\"\\\\u0041{}\\\"}}\"}}"#, &key[1..])),
        ("base64", base64(&format!("key: {key} and more text"))),
        ("base64 of base64", base64(&base64(&format!("key: {key} and more text")))),
        ("base64url", url64(&format!("key: {key}"))),
        ("hexadecimal", hex(key)),
        ("capital hexadecimal", hex(key).to_uppercase()),
        ("URL", each(&|c| format!("%{:02X}", c as u32))),
        ("URL, one letter", format!("%41{}", &key[1..])),
        ("HTML entities", each(&|c| format!("&#{};", c as u32))),
        ("HTML entities, hexadecimal", each(&|c| format!("&#x{:x};", c as u32))),
        ("characters of no width", each(&|c| format!("{c}\u{200b}"))),
        ("one soft hyphen", format!("AKIA\u{ad}{}", &key[4..])),
        ("escaped characters of no width", format!("AK\\u200b\\u200dIA{}", &key[4..])),
        ("full width", each(&|c| char::from_u32(c as u32 + 0xFEE0).expect("a letter").to_string())),
        ("escaped full width", each(&|c| format!("\\u{:04x}", c as u32 + 0xFEE0))),
        ("mathematical letters", "𝐀𝐊𝐈𝐀QWERTYUIOPASDF12".to_owned()),
        ("terminal colours", format!("AK\\u001b[0;31mIA{}", &key[4..])),
    ];
    for (name, form) in disguised {
        for line in [format!(r#"{{"m":"see {form} here"}}"#), format!(r#"{{"a":[{{"b":"{form}"}}]}}"#)] {
            let clean = one(engine, &line);
            assert!(clean.contains(r#"{"rule":"aws_access_key","count":1}"#), "{name}: {line} became {clean}");
            assert_eq!(one(engine, &clean), clean, "{name}");
        }
        let clean = text(engine, &format!("see {form} here"));
        assert!(clean.contains("[aws_access_key]"), "{name}: {clean}");
    }
}

/// Escapes of what has no width are seen behind as many backslashes as JSON within JSON writes.
#[test]
fn json_within_json_hides_no_colour_within_a_token() {
    let engine = Engine::builtin();
    let token = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    for hidden in ["\u{1b}[0m", "\u{1b}[38;5;12m\u{1b}[1m", "\u{200b}", "\u{ad}"] {
        let mut event = format!("{}{hidden}{}", &token[..12], &token[12..]);
        for depth in 0..3 {
            event = serde_json::json!({ "code": event })
                .to_string()
                .replace('\u{200b}', "\\u200b")
                .replace('\u{ad}', "\\u00ad");
            // Behind an event without a secret the raw bytes are asked first.
            one(&engine, r#"{"code":"x"}"#);
            let clean = one(&engine, &event);
            assert!(clean.contains("[github_token]") && !clean.contains("292c"), "{depth}: {event} became {clean}");
        }
    }
}

#[test]
fn colours_do_not_hide_an_assignment() {
    let line = r#"{"t":"\u001b[0;32mpassword\u001b[0m \u001b[0;34m=\u001b[0m \u001b[0;34m'hunter2'\u001b[0m"}"#;
    let clean = one(engine(), line);
    assert!(!clean.contains("hunter2"), "{clean}");
}

/// What the engine does not promise to see through, so that nobody believes it does.
#[test]
fn reversed_rotated_and_encrypted_secrets_are_not_found() {
    let engine = engine();
    let key = "AKIAQWERTYUIOPASDF12";
    let rotated = key.chars().map(|c| match c {
        'A'..='Z' => ((c as u8 - b'A' + 13) % 26 + b'A') as char,
        other => other,
    });
    for line in [key.chars().rev().collect::<String>(), rotated.collect()] {
        assert_eq!(text(engine, &line), line);
    }
}

// --- text ---

#[test]
fn broken_lines_are_redacted_as_text() {
    let engine = engine();
    for (line, expected) in [
        (r#"{"password":"hunter2","a":"#, r#"{"password":"[credential]","a":"#),
        (r#"{"password":"hunt"#, r#"{"password":"[credential]"#),
        (r#"{"m":"\u0061@example.com"#, r#"{"m":"[email]"#),
        ("mail a@example.com\n", "mail [email]\n"),
        ("postgres://app:s3cret@db/x", "postgres://app:[connection_string]@db/x"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [authorization]"),
    ] {
        assert_eq!(text(engine, line), expected);
    }
    let (clean, _) = engine.redact_text(b"\xff\xfe a@example.com \x80");
    assert_eq!(clean, b"\xff\xfe [email] \x80");
}

// --- properties ---

/// One secret of each class, and how to tell whether it is still there.
static SECRETS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let mut all: Vec<(String, String)> = examples().map(|(_, _, secret)| (secret.clone(), secret)).collect();
    for (secret, core) in [
        ("alice.smith@corp.example.org", "alice.smith@"),
        ("card 4111111111111111", "4111111111111111"),
        ("card 5555 5555 5555 4444", "5555 4444"),
        ("DE89 3704 0044 0532 0130 00", "0532 0130"),
        ("postgres://app:Tr0ub4dor@db/x", "Tr0ub4dor"),
        ("password=Tr0ub4dor", "Tr0ub4dor"),
        ("api_key: 'Tr0ub4dor&3x'", "Tr0ub4dor"),
        ("Authorization: Basic VHIwdWI0ZG9y", "VHIwdWI0ZG9y"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----", "MIIEvQ"),
    ] {
        all.push((secret.to_owned(), core.to_owned()));
    }
    all
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_planted_secret_survives_anywhere(
        pick in any::<prop::sample::Index>(),
        place in 0..6usize,
        before in "[ -~é\n]{0,40}[ (\n]",
        after in "[ )\n][ -~é]{0,40}",
        ascii in any::<bool>(),
    ) {
        let (secret, core) = &SECRETS[pick.index(SECRETS.len())];
        let planted = serde_json::Value::String(format!("{before}{secret}{after}"));
        let value = match place {
            0 => serde_json::json!({"code": planted}),
            1 => serde_json::json!({"a": {"b": [1, {"c": planted}]}}),
            2 => serde_json::json!({planted.as_str().unwrap(): 1}),
            3 => serde_json::json!({"a": [{planted.as_str().unwrap(): null}]}),
            4 => serde_json::json!({"m": serde_json::json!({"k": planted}).to_string()}),
            _ => serde_json::json!({"x": 1, "y": planted, "z": "a@example.com"}),
        };
        let mut line = value.to_string();
        if ascii {
            let escaped = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) };
            line = line.chars().map(escaped).collect();
        }
        let engine = engine();
        let clean = one(engine, &line);
        prop_assert!(!clean.contains(core.as_str()), "{} became {}", line, clean);
        let parsed: serde_json::Value = serde_json::from_str(&clean).expect("valid JSON");
        prop_assert!(parsed["redactions"].is_array());
        prop_assert_eq!(one(engine, &clean), clean);
    }

    #[test]
    fn any_bytes_are_redacted_without_a_panic_and_once_is_enough(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        words in proptest::collection::vec(
            prop_oneof![
                "[ -~]{0,12}", Just("password=".to_owned()), Just("a@example.com".to_owned()), Just("://".to_owned()),
                Just("\"token\": \"".to_owned()), Just("\\u0041".to_owned()), Just("\u{200b}".to_owned()),
                Just("4111 1111 1111 1111".to_owned()), Just("%40".to_owned()), Just("Bearer ".to_owned()),
                Just("[email]".to_owned()), Just("\\\"".to_owned()), Just("\n".to_owned()), Just("Cookie: ".to_owned()),
            ],
            0..30,
        ),
    ) {
        let engine = engine();
        let _ = engine.redact_text(&bytes);
        let once = engine.redact_text(words.concat().as_bytes()).0;
        let (twice, report) = engine.redact_text(&once);
        prop_assert_eq!(
            String::from_utf8_lossy(&twice), String::from_utf8_lossy(&once), "{} {:?}", words.concat(), report
        );
    }

    #[test]
    fn clean_text_stays_byte_for_byte(text in "[a-z \n.,(){}]{0,200}", number in any::<i32>()) {
        let line = serde_json::json!({"code": text, "n": number}).to_string();
        prop_assert_eq!(one(engine(), &line), line);
    }
}
