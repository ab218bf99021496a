//! Tests of what stands together: events of a batch, texts of an event, lines of a command.

use super::super::names::FOREIGN;
use super::*;

/// An event as a batch leaves it whose events before it nearly all had a secret, and as one whose events had none.
fn dense_and_sparse(engine: &Engine, line: &str) -> (String, String) {
    one(engine, r#"{"m":"password = 'hunter2xy9'"}"#);
    let dense = one(engine, line);
    one(engine, r#"{"m":"nothing"}"#);
    (dense, one(engine, line))
}

/// JSON as Python writes it, with no letter beyond ASCII.
fn ascii_json(value: &serde_json::Value) -> String {
    let escaped = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    value.to_string().chars().map(|c| if c.is_ascii() { c.to_string() } else { escaped(c) }).collect()
}

#[test]
fn a_command_is_seen_behind_a_colour() {
    let engine = with(|_| {});
    for colour in [r"\u001b[0m", r"\u001B[1;32m", r"\\x1b[0m", r"\\033[38;5;208m"] {
        for command in ["doctl -t §", "mysql -p§", "sshpass -p § ssh h", "curl -u bob:§ h", "kinit <<< §"] {
            let line = format!(r#"{{"output":"{colour}{}"}}"#, command.replace('§', "gT7rQ2mX9kLw4vB8"));
            let (dense, sparse) = dense_and_sparse(&engine, &line);
            assert!(!sparse.contains("gT7r"), "{line}");
            assert_eq!(dense, sparse);
        }
    }
}

#[test]
fn a_line_of_passwords_is_seen_behind_a_colour() {
    let engine = with(|_| {});
    for colour in [r"\u001b[0m", r"\u001B[1;32m"] {
        let line = format!(r#"{{"output":"{colour}db.example:5432:shop:bob:gT7rQ2mX9kLw4vB8\n"}}"#);
        let (dense, sparse) = dense_and_sparse(&engine, &line);
        assert!(!sparse.contains("gT7r"), "{line}");
        assert_eq!(dense, sparse);
    }
}

#[test]
fn an_address_is_seen_on_the_line_below_a_url() {
    let engine = with(|_| {});
    for gap in [r"\n", r"\u0020", r"\u000a"] {
        let line = format!(r#"{{"output":"https://x.example{gap}alice@example.com"}}"#);
        let (dense, sparse) = dense_and_sparse(&engine, &line);
        assert!(sparse.contains("[email]"), "{line}");
        assert_eq!(dense, sparse);
    }
}

#[test]
fn a_name_in_another_script_is_seen_however_deep_its_letters_are_escaped() {
    let engine = with(|_| {});
    for word in FOREIGN {
        let mut text = format!("{word} = \"gT7rQ2mX9kLw4vB8\"");
        for depth in 0..3 {
            for line in
                [ascii_json(&serde_json::json!({ "code": text })), serde_json::json!({ "code": text }).to_string()]
            {
                let (dense, sparse) = dense_and_sparse(&engine, &line);
                assert!(!sparse.contains("gT7r"), "{depth}: {line}");
                assert_eq!(dense, sparse);
            }
            text = ascii_json(&serde_json::json!({ "inner": text }));
        }
    }
}

/// Where nearly every event has a secret, all texts are decoded, whether something was seen in them or not.
#[test]
fn what_stands_around_an_event_changes_nothing_in_it() {
    let mut lines = Vec::new();
    for (nth, (_, _, token)) in examples().enumerate().take(200) {
        lines.push(serde_json::json!({ "code": format!("x = 1\napi_key = \"{token}\"\n"), "n": nth }).to_string());
        if nth % 9 == 0 {
            lines.push(serde_json::json!({ "code": "token = next(tokens)\npassword = pw", "n": 1 }).to_string());
            lines.push(
                serde_json::json!({ "a": { "b": format!("token = '{token}'") }, "n": [1], "o": nth }).to_string(),
            );
            lines.push(
                serde_json::json!({ "name": "DB_PASSWORD", "value": "hunter2x", "card": 4111111111111111i64 })
                    .to_string(),
            );
            lines.push(
                serde_json::json!({ "user_password": "hunter2x", "a\u{a0}b": "x", "api_key": token }).to_string(),
            );
            lines.push(format!("{{ \"m\" : \"\\\\password: str = '{token}'\\/\" , \"token\" : 1.5 }}"));
        }
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (together, _) = redacted(engine(), &lines);
    let engine = with(|_| {});
    for (line, together) in lines.iter().zip(together) {
        let (dense, sparse) = dense_and_sparse(&engine, line);
        assert_eq!(sparse, together);
        assert_eq!(sparse, dense);
    }
}

#[test]
fn a_value_under_another_name_is_looked_at_among_secrets_too() {
    let engine = with(|_| {});
    one(&engine, r#"{"m":"password = 'hunter2xy9'"}"#);
    let mut batch = batch(&[r#"{"a":1,"harmless":"token = 'kQ7wErTyUi0pAs9D'"}"#]);
    batch.split_all();
    let other = batch.name_id("other");
    batch.rename_nth(0, 1, other);
    engine.redact_batch(&mut batch, &mut Report::default());
    let mut out = Vec::new();
    batch.render_event(0, &mut out);
    assert!(String::from_utf8_lossy(&out).starts_with(r#"{"a":1,"other":"token = '[credential]'""#));
}

/// An escape in front of a token or within a login is none of its letters.
#[test]
fn what_is_escaped_in_front_of_a_token_hides_nothing() {
    let hex = "0123456789abcdef".repeat(4);
    let engine = with(|_| {});
    for said in [
        format!("patA1b2C3d4E5f6G7.{hex}"),
        format!("1/1234567890123456:{}", &hex[..32]),
        "123456789012345|aB3dE6gH9jK2mN5pQ8sT1vW4yZ7".to_owned(),
        "jdbc:oracle:thin:bob/Zürich2020@h:1521/x".to_owned(),
        "echo 'h:5432:x:bob:рассвет7' > ~/.pgpass".to_owned(),
    ] {
        let escaped: String = format!("é\u{a0}{said}")
            .chars()
            .map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) })
            .collect();
        let (dense, sparse) = dense_and_sparse(&engine, &format!("{{\"m\":\"{escaped}\"}}"));
        assert_eq!(dense, sparse);
        assert!(sparse.contains("redactions"), "{sparse}");
    }
}

#[test]
fn a_secret_that_its_text_repeats_is_gone_everywhere() {
    let repeated = "token = 'kQ7wErTyUi0pAs9D'\nprint(token)\nkQ7wErTyUi0pAs9D\n# before: kQ7wErTyUi0pAs9D";
    assert_eq!(text(engine(), repeated).matches("[credential]").count(), 3);
    let event = r#"{"code":"api_key = 'kQ7wErTyUi0pAs9D'\nprint(api_key)","output":"kQ7wErTyUi0pAs9D\n","session_id":"kQ7wErTyUi0pAs9D"}"#;
    let clean = one(engine(), event);
    assert!(clean.contains(r#""output":"[credential]\n""#), "{clean}");
    // Nobody hides who did it by calling that a password.
    assert!(clean.contains(r#""session_id":"kQ7wErTyUi0pAs9D""#), "{clean}");
    assert_eq!(engine().explain(event.as_bytes()).len(), 2);
    let nested = r#"{"code":"api_key = 'kQ7wErTyUi0pAs9D'","metadata":{"stdout":"kQ7wErTyUi0pAs9D","cell_id":"kQ7wErTyUi0pAs9D"}}"#;
    assert!(one(engine(), nested).contains(r#"{"stdout":"[credential]","cell_id":"kQ7wErTyUi0pAs9D"}"#));
    let member = r#"{"password":"kQ7wErTyUi0pAs9D","message":"sent kQ7wErTyUi0pAs9D"}"#;
    assert!(!one(engine(), member).contains("kQ7wErTyUi0pAs9D"));
    // A word is not looked for.
    assert_eq!(text(engine(), "password = 'sunshineboys'\nplay('sunshineboys')").matches("sunshineboys").count(), 1);
}

#[test]
fn logins_of_commands_are_found_over_lines_and_in_quotes() {
    for line in [
        "curl -X POST https://x.example \\\n  -H 'Accept: */*' \\\n  -u bob:hunter2x",
        "curl --user bob:'hunter2x' https://x.example",
        "you can use bob / hunter2x to get in",
        "try bob / hunter2x to log in",
    ] {
        assert!(!text(engine(), line).contains("hunter2x"), "{line}");
    }
    for (said, secret) in [
        ("f\"postgres://bob:{'hunter2x'}@db\"", "hunter2x"),
        ("f'postgres://bob:{\"hunter2x\"}@db'", "hunter2x"),
        ("пароль от почты: sunshine", "sunshine"),
        ("my pin is 4821", "4821"),
        ("the passcode is 4821", "4821"),
        ("رمز عبور سرور sunshine است", "sunshine"),
    ] {
        assert!(!text(engine(), said).contains(secret), "{said}");
    }
    assert!(!text(engine(), "curl -u \"kQ7wErTyUi0pAs9D:\" https://x.example").contains("kQ7wErTyUi0pAs9D"));
    for line in ["use float16 / bfloat16 for it", "this is a / b2345 to get in order", "go from v1 / v2beta to log in"]
    {
        assert_eq!(text(engine(), line), line);
    }
}

#[test]
fn a_form_that_is_crossed_out_stays() {
    for line in ["ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "xoxb-xxxxxxxxxxx-xxxxxxxxxxxx-xxxxxxxxxxxxxxxxxxxxxxxx"] {
        assert_eq!(text(engine(), line), line);
    }
    assert_eq!(text(engine(), "images/vipul-f0eb1acf0da84c06a50c5b2c59932001997786b1.png").matches('[').count(), 0);
}
