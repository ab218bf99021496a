//! Tests of what stands together: events of a batch, texts of an event, lines of a command.

use super::*;

/// Where nearly every event has a secret, what was seen is not asked for before fields are decoded.
#[test]
fn what_stands_around_an_event_changes_nothing_in_it() {
    let mut lines = Vec::new();
    for (nth, (_, _, token)) in examples().enumerate().take(200) {
        lines.push(serde_json::json!({ "code": format!("x = 1\napi_key = \"{token}\"\n"), "n": nth }).to_string());
        if nth % 9 == 0 {
            lines.push(serde_json::json!({ "code": "token = next(tokens)\npassword = pw", "n": 1 }).to_string());
        }
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (together, _) = redacted(engine(), &lines);
    for (line, together) in lines.iter().zip(together) {
        assert_eq!(together, one(engine(), line));
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
