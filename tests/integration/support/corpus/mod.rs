//! A corpus for redaction: secrets in all the places where they stand, and clean text from what is installed.

pub mod audit;
pub mod backends;
pub mod calm;
pub mod cells;
pub mod clean;
pub mod contexts;
pub mod daily;
pub mod dialects;
pub mod field;
pub mod formats;
#[allow(dead_code, reason = "the benchmark and the tests of the engine use it")]
pub mod hostile;
pub mod languages;
pub mod lines;
pub mod neutral;
pub mod notebooks;
pub mod operations;
pub mod random;
pub mod services;
pub mod shells;
pub mod stacks;
pub mod still;
pub mod tools;
pub mod vendors;
pub mod workplace;

pub use random::Random;

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const DIGITS: &str = "0123456789";
pub const ALNUM: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const HEX: &str = "0123456789abcdef";

/// Names that passwords and keys are given, in small letters.
pub const PASSWORD_NAMES: &[&str] = &["password", "db_password", "user_passwd", "smtp_pass", "passphrase", "root_pwd"];
#[rustfmt::skip]
pub const KEY_NAMES: &[&str] = &[
    "api_key", "access_token", "client_secret", "secret_key", "auth_token", "private_key", "fernet_key",
    "stripe_api_key", "refresh_token", "encryption_key", "webhook_secret", "signing_key", "session_token",
    "app_secret",
];

/// Passwords as people choose them.
#[rustfmt::skip]
pub const HUMAN: &[&str] = &[
    "hunter2", "letmein", "Summer2024!", "P@ssw0rd", "qwerty123", "iloveyou1", "dragon99", "correcthorse",
    "Tr0ub4dor", "S3cr3t!x", "admin123", "monkey7", "MyDog2019", "welcome1", "Liverpool#1", "trustno1", "sunshine",
    "football9", "Pa55word!", "zaq12wsx",
];

/// Names and passwords of the second corpus.
#[rustfmt::skip]
pub const OTHER_PASSWORD_NAMES: &[&str] = &[
    "password", "db_password", "admin_passwd", "user_pass", "login_pwd", "ssh_passphrase", "master_password",
    "smtp_password",
];
#[rustfmt::skip]
pub const OTHER_KEY_NAMES: &[&str] = &[
    "api_key", "secret_token", "client_secret", "access_key", "signing_secret", "bot_token", "encryption_key",
    "private_token", "oauth_token", "secret_access_key", "app_key", "service_account_key",
];
#[rustfmt::skip]
pub const OTHER_HUMAN: &[&str] = &[
    "sommer2019", "Kaffee!12", "p4ssw0rd!", "manutd99", "Geheim#7", "qazwsx123", "S0mething$", "letmein2",
    "Winter-2023", "c0rrect_h0rse", "dragonfly", "Passw0rd1", "mypass99", "tigger!", "1q2w3e4r", "Zürich2020",
    "рассвет7", "J@cob99", "abc12345", "blink182",
];

/// Passwords of letters alone, which nothing but their place tells from words.
#[rustfmt::skip]
pub const LETTERS: &[&str] = &[
    "sunshine", "correcthorse", "iloveyou", "princess", "monkey", "shadow", "dragon", "superman", "trustnoone",
    "letmein", "whatever", "starwars", "cheesecake", "bluebird", "Liverpool", "Charlie", "michelle", "sonnenschein",
    "qwertyuiop", "chocolat", "BlueSkies", "OpenSesame", "purplerain", "butterfly",
];

/// A random value of one of the shapes that keys have.
pub fn random_value(random: &mut Random) -> String {
    match random.below(7) {
        0 => random.text(HEX, 32),
        1 => random.text(ALNUM, 20),
        2 => random.text(ALNUM, 40),
        3 => random.text(&format!("{ALNUM}+/"), 40),
        4 => format!(
            "{}-{}-{}-{}-{}",
            random.text(HEX, 8),
            random.text(HEX, 4),
            random.text(HEX, 4),
            random.text(HEX, 4),
            random.text(HEX, 12)
        ),
        5 => random.text(&format!("{LOWER}{DIGITS}"), 24),
        _ => random.text(&format!("{ALNUM}-_"), 43),
    }
}

/// A random password with punctuation that no notation ends a value with.
pub fn password_value(random: &mut Random) -> String {
    let head = random.text(ALNUM, 1);
    let body = random.text(&format!("{ALNUM}!$*^.~"), 11);
    format!("{head}{body}{}", random.text(DIGITS, 1))
}

/// The name in the spelling that a mark asks for.
pub fn spelled(name: &str, style: char) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let words: Vec<&str> = name.split('_').collect();
    match style {
        'U' => name.to_uppercase(),
        'K' => name.replace('_', "-"),
        'P' => words.iter().map(|word| capital(word)).collect(),
        'C' => words
            .iter()
            .enumerate()
            .map(|(nth, word)| if nth == 0 { (*word).to_owned() } else { capital(word) })
            .collect(),
        _ => name.to_owned(),
    }
}

/// A context with its name and value put in, and where the value stands.
pub fn planted(context: &str, name: &str, value: &str) -> (String, std::ops::Range<usize>) {
    let (mut text, mut chars, mut range) = (String::new(), context.chars().peekable(), 0..0);
    while let Some(c) = chars.next() {
        match c {
            '№' => {
                let style = chars.next_if(|c| "UKPC".contains(*c)).unwrap_or(' ');
                text.push_str(&spelled(name, style));
            }
            '§' => {
                range = text.len()..text.len() + value.len();
                text.push_str(value);
            }
            '␤' => text.push('\n'),
            c => text.push(c),
        }
    }
    (text, range)
}

/// How a text is written into a line of JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Escape {
    /// As it is: no JSON.
    None,
    Json,
    /// JSON in ASCII, with other letters before the text.
    Ascii,
    /// Every letter an escape.
    All,
    /// Some letters of it an escape.
    Some,
    /// JSON in a string of JSON.
    Nested,
    /// The same, with some letters of the inner string, or all of them, an escape.
    NestedSome,
    NestedAll,
    /// JSON four times in JSON, of which the second has some of its letters escaped.
    Deep,
}

pub const ESCAPES: &[Escape] = &[
    Escape::None,
    Escape::Json,
    Escape::Ascii,
    Escape::All,
    Escape::Some,
    Escape::Nested,
    Escape::NestedSome,
    Escape::NestedAll,
    Escape::Deep,
];

/// The text as a line, and the value as it would stand in the line.
pub fn written(text: &str, escape: Escape) -> String {
    let ascii = |line: String| {
        line.chars()
            .map(|c| {
                if c.is_ascii() {
                    c.to_string()
                } else {
                    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }
            })
            .collect::<String>()
    };
    let all = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    let some = |text: &str| {
        let escaped = |(nth, unit): (usize, u16)| match u8::try_from(unit) {
            Ok(byte @ (b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) if nth % 5 != 3 => char::from(byte).to_string(),
            _ => format!("\\u{unit:04x}"),
        };
        text.encode_utf16().enumerate().map(escaped).collect::<String>()
    };
    let within = |inside: String| format!("{{\"m\":\"{inside}\"}}");
    let nested = |inside: String| serde_json::json!({ "m": format!("{{\"k\":\"{inside}\"}}") }).to_string();
    match escape {
        Escape::None => text.to_owned(),
        Escape::Json => serde_json::json!({ "m": text }).to_string(),
        Escape::Ascii => ascii(serde_json::json!({ "m": format!("é\u{a0}{text}") }).to_string()),
        Escape::All => within(all(text)),
        Escape::Some => within(some(text)),
        Escape::NestedSome => nested(some(text)),
        Escape::NestedAll => nested(all(text)),
        Escape::Deep => {
            let inner = serde_json::json!({ "k": text }).to_string();
            let hidden = format!("{{\"m\":\"{}\"}}", some(&inner));
            serde_json::json!({ "m": serde_json::json!({ "m": hidden }).to_string() }).to_string()
        }
        Escape::Nested => serde_json::json!({ "m": serde_json::json!({ "k": text }).to_string() }).to_string(),
    }
}

/// What the engine makes of a line: an event where it is one, a text if not.
pub fn redact(engine: &weir::codec::redaction::Engine, line: &str, is_event: bool) -> String {
    use weir::codec::redaction::Report;
    use weir::event::{Batch, Provenance, Scanner, Seed};
    if !is_event {
        return String::from_utf8(engine.redact_text(line.as_bytes()).0).expect("UTF-8");
    }
    let provenance = Provenance {
        source: "corpus".into(),
        seed: Seed([7; 16]),
        received_at: weir::units::Timestamp(0),
        peer: None,
        stamp: None,
    };
    let mut batch = Batch::new(bytes::Bytes::copy_from_slice(line.as_bytes()), std::sync::Arc::new(provenance));
    batch
        .push_split(0..line.len(), 0, &mut Scanner::new(), &mut Vec::new())
        .unwrap_or_else(|unfit| panic!("{line}: {unfit}"));
    engine.redact_batch(&mut batch, &mut Report::default());
    let mut out = Vec::new();
    batch.render_event(0, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

/// The text that an event in the notation of an escape held, without the counts of its redactions.
pub fn read_back(line: &str, escape: Escape) -> String {
    let text = |line: &str, name: &str| {
        serde_json::from_str::<serde_json::Value>(line).ok().and_then(|value| value[name].as_str().map(str::to_owned))
    };
    match escape {
        Escape::None => line.to_owned(),
        Escape::Json | Escape::Ascii | Escape::All | Escape::Some => text(line, "m").unwrap_or_default(),
        Escape::Nested | Escape::NestedSome | Escape::NestedAll => {
            text(line, "m").and_then(|inner| text(&inner, "k")).unwrap_or_default()
        }
        Escape::Deep => {
            let inner = text(line, "m").and_then(|inner| text(&inner, "m")).and_then(|inner| text(&inner, "m"));
            inner.and_then(|inner| text(&inner, "k")).unwrap_or_default()
        }
    }
}
