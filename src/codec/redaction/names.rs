//! Names that announce a secret: `password`, `apiKey`, `X-Auth-Token`, `DB_PASSWD`, `رمز عبور`.

use crate::codec::redaction::literals::{Beginnings, Literals as _};
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// What a name leads one to expect behind it, and so what a value must look like to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A password or passphrase: any word may be one.
    Password,
    /// `secret`, `client_secret`: a secret, though the word is used for references to secrets too.
    Secret,
    /// A key or token that is surely secret: `api_key`, `access_token`.
    Key,
    /// A word with other uses too: `token`, `credentials`, `phpsessid`.
    Token,
    /// A key of an unknown kind: only what is random is taken.
    Weak,
    /// A password's short name: `pass`, `pw`, `pin`, `otp`.
    Short,
    /// A password, or where a shell stands.
    Pwd,
    /// A scheme and then a secret.
    Authorization,
    /// Names and secrets in one line.
    Cookie,
}

impl Class {
    /// Whether any word may be the value.
    pub fn is_password(self) -> bool {
        matches!(self, Class::Password | Class::Short | Class::Pwd)
    }
}

/// Parts of names that the filter looks for, in the notation of shapes.
#[rustfmt::skip]
pub const PARTS: &[&str] = &[
    "passw", "passp", "passc", "pass[^a-z]", "pwd", "secret", "token", "thori", "cookie", "credent", "pw[^a-z]",
    "otp[^a-z]", "pin[^a-z]", "heslo", "passo", "sandi", "thtok", "essid", "sioni", "kennw", "motde", "mot[_ ]d", "mdp[^a-z]", "rasen", "clave", "senha",
    "haslo", "wachtw", "parol", "mnemo", "peppe", "auth[^a-z]", "gnatu", "ied [bw]", "psk[^a-z]", "[_.-]pat[^a-z]",
];

/// Words for a password in other scripts, with where the filter looks: the best letters of each.
#[rustfmt::skip]
pub const FOREIGN: &[&str] = &[
    "رمز عبور", "رمزعبور", "رمز ورود", "گذرواژه", "گذر واژه", "پسورد", "کلمه عبور", "کلمه‌ی عبور", "كلمة المرور",
    "كلمة السر", "رمز", "توکن", "密码", "密碼", "口令", "パスワード", "비밀번호", "пароль", "Пароль", "ПАРОЛЬ", "пароли", "contraseña",
    "Contraseña", "CONTRASEÑA", "hasło", "Hasło", "şifre", "Şifre", "şifreniz", "parolă", "lösenord", "mật khẩu", "κωδικός", "סיסמה",
];

/// What precedes `token` where it means a part of a text or a position in a list.
#[rustfmt::skip]
const TEXT_TOKENS: &[&str] = &[
    "pad", "eos", "bos", "unk", "mask", "sep", "cls", "special", "start", "end", "stop", "max", "min", "num",
    "per", "page", "next", "continuation", "first", "last", "each", "current", "prev", "previous", "n", "sub",
    "image", "input", "output", "prompt", "completion", "new", "total", "word", "text", "by", "lex", "lexer",
    "parse", "parser", "cancellation", "cancel", "design", "syntax", "oov", "decoder", "encoder", "generated",
    "target", "source", "cached", "boundary", "kind", "ident", "literal", "operator", "keyword", "comment", "byte",
    "char", "chunk", "skip", "blank", "begin", "expected", "client", "request", "starting", "pagination",
    "idempotency", "marker", "resume", "sync", "cursor", "iterator", "continue", "change", "delta", "badge",
];

/// Endings of words for a password.
#[rustfmt::skip]
const PASSWORDS: &[&str] = &[
    "password", "passwd", "passphrase", "passwords", "passwort", "kennwort", "motdepasse", "contrasena", "senha",
    "haslo", "wachtwoord", "passcode", "passwrd", "requirepass", "masterauth", "masterpass", "psswd", "parol",
    "mnemonic", "rootpw", "bindpw", "parola", "heslo", "passord", "authtok",
];

/// The last four letters of each of them.
const TAILS: [u32; PASSWORDS.len()] = {
    let (mut tails, mut nth) = ([0; PASSWORDS.len()], 0);
    while nth < PASSWORDS.len() {
        tails[nth] = u32::from_le_bytes(*PASSWORDS[nth].as_bytes().last_chunk().expect("no word is shorter"));
        nth += 1;
    }
    tails
};

/// What precedes `pass` in one word where it is a password.
#[rustfmt::skip]
const PASSED: &[&str] = &[
    "store", "key", "trust", "root", "admin", "smtp", "mail", "ftp", "ldap", "auth", "login", "ssl", "http", "proxy",
    "wifi", "ssh", "sudo", "vnc", "bind", "repl", "deststore", "srcstore", "destkey", "srckey",
];

/// What precedes `password` where a program names a text that it shows.
#[rustfmt::skip]
const MESSAGES: &[&str] = &[
    "forgot", "forgotten", "forget", "label", "title", "mandatory", "enter", "invalid", "wrong", "incorrect", "show",
    "hide", "missing", "lost", "remember", "weak", "placeholder", "hint", "error", "err", "msg", "message", "toggle",
    "help", "recover",
];

/// What precedes `token` where it surely is a secret.
#[rustfmt::skip]
const SECRET_TOKENS: &[&str] = &[
    "access", "api", "auth", "refresh", "bearer", "id", "bot", "csrf", "xsrf", "private", "personal", "deploy",
    "session", "oauth", "jwt", "service", "account", "security", "secret", "user", "app", "admin", "registration",
    "authtoken", "github", "gitlab", "slack", "npm", "vault", "hf", "runner", "registry", "circle", "sonar", "travis",
    "codecov", "digitalocean", "heroku", "netlify", "vercel", "cloudflare", "terraform", "pypi", "docker", "telegram",
    "discord", "openai", "huggingface", "mapbox", "figma", "notion", "airtable", "sentry", "pagerduty", "grafana",
    "influx", "influxdb", "consul", "nomad", "linode", "buildkite", "artifactory", "jfrog",
];

/// What makes a `key` surely secret.
#[rustfmt::skip]
const SECRET_KEYS: &[&str] = &[
    "api", "access", "private", "secret", "encryption", "encrypt", "decryption", "signing", "sign", "account",
    "auth", "master", "shared", "storage", "subscription", "app", "application", "service", "ssh", "deploy",
    "webhook", "client", "consumer", "hmac", "jwt", "aes", "rsa", "admin", "license", "functions", "function",
    "ingest", "ingestion", "write", "integration", "session", "fernet", "validation", "server", "sas", "vault", "wep", "wifi",
    "wpa", "gpg", "pgp", "tls", "ssl", "cookie", "flask", "django", "rails", "crypt", "crypto", "cipher", "stripe",
    "openai", "anthropic", "gemini", "sendgrid", "twilio", "mailgun", "datadog", "newrelic", "aws", "azure", "gcp",
    "google", "github", "gitlab", "slack", "algolia", "maps", "mapbox", "huggingface", "hf", "cohere", "mistral",
    "groq", "deepseek", "pinecone", "airtable", "rapidapi", "backup", "recovery", "bot", "user", "live", "passkey",
    "kaggle", "wandb", "openrouter", "replicate", "tavily", "perplexity", "elevenlabs", "serpapi", "serper",
    "langsmith", "langchain", "deepl", "assemblyai", "deepgram", "roboflow", "supabase", "cloudflare", "heroku",
    "netlify", "vercel", "sentry", "pagerduty", "grafana", "okta", "plaid", "paypal", "razorpay", "shopify",
    "hubspot", "zendesk", "telegram", "discord", "binance", "coinbase", "finnhub", "nvidia", "mailchimp",
    "postmark", "openweather",
];

/// Kinds of keys that hide nothing.
#[rustfmt::skip]
const OPEN_KEYS: &[&str] = &[
    "primary", "foreign", "sort", "partition", "public", "pub", "cache", "dict", "group", "row", "column", "col",
    "index", "lookup", "map", "hot", "object", "idempotency", "unique", "routing", "message", "natural",
    "surrogate", "composite", "known", "host", "hash", "range", "candidate", "join", "merge", "dedupe", "dedup",
    "trace", "metric", "config", "conf", "setting", "translation", "i18n", "locale", "label", "tag", "sha", "etag",
    "file", "image", "registry", "property", "json", "yaml", "data", "field", "attr", "attribute", "param",
    "query", "sub", "parent", "child", "root", "super", "search", "order", "shift", "arrow", "enter", "space",
    "tab", "escape", "return", "delete", "on", "any", "each", "some", "the", "a", "this", "that", "by", "no",
    "not", "tur", "mon", "don", "whis", "hoc", "joc", "bo", "s3", "blob", "redis", "memcache", "kafka", "event",
    "item", "node", "route", "react", "list", "stub", "fingerprint", "site", "sitekey", "publishable",
];

/// Words at the end of a name that do not change what it holds.
#[rustfmt::skip]
const NEUTRAL: &[&str] = &[
    "value", "val", "text", "plain", "plaintext", "raw", "string", "hash", "hashed", "b64", "base64", "encoded",
    "encrypted", "old", "confirm", "confirmation", "repeat", "again", "header", "prod", "production", "dev",
    "development", "staging", "stage", "stg", "qa", "uat", "live", "sandbox", "default", "base", "primary",
    "secondary", "backup", "local", "v", "env", "var", "literal", "digest", "data", "const", "in", "clear",
    "current", "test", "testing", "new", "temp", "tmp",
];

/// Words behind `password` or `secret` that say something of it, which may be as random.
#[rustfmt::skip]
const ABOUT: &[&[u8]] = &[
    b"id", b"ids", b"uuid", b"guid", b"name", b"names", b"arn", b"ref", b"version", b"versions", b"length", b"count",
    b"type", b"url", b"uri", b"path", b"file", b"field", b"checksum", b"etag", b"fingerprint", b"sha", b"md", b"rule",
    b"policy", b"label", b"hint", b"reset", b"manager", b"class", b"digest",
];

/// The words of other scripts, to be found in a name.
static FOREIGN_WORDS: Beginnings = Beginnings::of(FOREIGN);

/// The most bytes of a name that are looked at, from its end.
const MAX_NAME: usize = 64;

/// What a member name, variable or header announces, however it is written.
pub fn classify(name: &[u8]) -> Option<Class> {
    let name = &name[name.len().saturating_sub(MAX_NAME)..];
    if !name.is_ascii() {
        return (0..name.len()).any(|at| FOREIGN_WORDS.begin(&name[at..])).then_some(Class::Password);
    }
    let mut words = Words { name, end: name.len() };
    let (mut last, mut before) = ([0; MAX_NAME], [0; MAX_NAME]);
    loop {
        let last = words.before(&mut last)?;
        if !last.is_empty() && lists_of(last) & IS_NEUTRAL == 0 {
            let before = words.before(&mut before).unwrap_or_default();
            // `PublicKeyToken=b77a5c561934e089` says whose an assembly of .NET is.
            let public = last == b"publickeytoken"
                || last == b"token" && before == b"key" && words.before(&mut [0; MAX_NAME]) == Some(b"public");
            if public {
                return None;
            }
            // `password_for_ada`: whose it is stands behind it.
            let for_whom = before == b"for" && last != b"email";
            return decide(last, before).or_else(|| if for_whom { words.of_owner() } else { None });
        }
    }
}

/// What names announce that were asked for lately: texts repeat them.
pub struct Classes([Cell<([u64; 3], Option<Class>)>; CLASSES]);

/// Names that are remembered.
const CLASSES: usize = 256;

impl Default for Classes {
    fn default() -> Classes {
        Classes([const { Cell::new(([0; 3], None)) }; CLASSES])
    }
}

impl Classes {
    /// As [`classify`].
    pub fn of(&self, name: &[u8]) -> Option<Class> {
        let mut bytes = [0; 24];
        if name.is_empty() || name.len() > bytes.len() || name.contains(&0) {
            return classify(name);
        }
        bytes[..name.len()].copy_from_slice(name);
        let word = |nth: usize| u64::from_le_bytes(bytes.as_chunks::<8>().0[nth]);
        let key = [word(0), word(1), word(2)];
        let hash = (key[0] ^ key[1].rotate_left(21) ^ key[2].rotate_left(42)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let known = &self.0[(hash >> 32) as usize % CLASSES];
        let (last, class) = known.get();
        if last == key {
            return class;
        }
        let class = classify(name);
        known.set((key, class));
        class
    }
}

/// The words of a name from its end on, whichever way the name marks them: `api_key`, `apiKey`, `APIKey`.
struct Words<'a> {
    name: &'a [u8],
    end: usize,
}

impl Words<'_> {
    /// What the words in front announce that say whose it is.
    #[cold]
    fn of_owner(&mut self) -> Option<Class> {
        let (mut last, mut before) = ([0; MAX_NAME], [0; MAX_NAME]);
        let last = self.before(&mut last)?;
        decide(last, self.before(&mut before).unwrap_or_default())
    }

    /// The next word in small letters, without a number at its end.
    fn before<'b>(&mut self, out: &'b mut [u8; MAX_NAME]) -> Option<&'b [u8]> {
        let name = self.name;
        while self.end > 0 && !name[self.end - 1].is_ascii_alphanumeric() {
            self.end -= 1;
        }
        let end = self.end;
        let mut start = end.checked_sub(1)?;
        while start > 0 && name[start - 1].is_ascii_alphanumeric() && !is_hump(name, start) {
            start -= 1;
        }
        self.end = start;
        let word = without_number(&name[start..end]);
        out[..word.len()].copy_from_slice(word);
        out[..word.len()].make_ascii_lowercase();
        Some(&out[..word.len()])
    }
}

/// Whether a capital begins a word within letters.
#[inline]
fn is_hump(name: &[u8], at: usize) -> bool {
    let next_is_lower = || name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
    let before = name[at - 1];
    name[at].is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_uppercase() && next_is_lower())
}

/// What a word may be within a name, one bit each.
const IS_NEUTRAL: u8 = 1;
const IS_TEXT_TOKEN: u8 = 2;
const IS_SECRET_TOKEN: u8 = 4;
const IS_SECRET_KEY: u8 = 8;
const IS_OPEN_KEY: u8 = 16;

/// The words of the lists above, made once: names are looked at wherever the filter sees a part of one.
static WORDS: LazyLock<HashMap<&'static [u8], u8, BuildHasherDefault<Fnv>>> = LazyLock::new(|| {
    let mut words: HashMap<_, u8, _> = HashMap::default();
    for (list, bit) in [
        (NEUTRAL, IS_NEUTRAL),
        (TEXT_TOKENS, IS_TEXT_TOKEN),
        (SECRET_TOKENS, IS_SECRET_TOKEN),
        (SECRET_KEYS, IS_SECRET_KEY),
        (OPEN_KEYS, IS_OPEN_KEY),
    ] {
        list.iter().for_each(|word| *words.entry(word.as_bytes()).or_default() |= bit);
    }
    words
});

/// A hash for words of a fixed list, which nobody outside chooses.
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xCBF2_9CE4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        eights.iter().for_each(|eight| self.write_u64(u64::from_le_bytes(*eight)));
        self.write_u64(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }

    fn write_usize(&mut self, len: usize) {
        self.write_u64(len as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the lists say of a word.
fn lists_of(word: &[u8]) -> u8 {
    WORDS.get(word).copied().unwrap_or(0)
}

/// Whether a word ends with one of a list.
fn ends_with(word: &[u8], endings: &[&str]) -> bool {
    endings.iter().any(|ending| word.last() == ending.as_bytes().last() && word.ends_with(ending.as_bytes()))
}

fn decide(last: &[u8], before: &[u8]) -> Option<Class> {
    if last.last_chunk().is_some_and(|four| TAILS.contains(&u32::from_le_bytes(*four))) && ends_with(last, PASSWORDS) {
        let none = matches!(before, b"no" | b"without" | b"is" | b"has") || last.begins_with(b"nopass");
        let shown = MESSAGES.iter().any(|word| before == word.as_bytes());
        return (!none).then_some(if shown { Class::Token } else { Class::Password });
    }
    if ends_with(last, &["secret", "secrets"]) {
        return Some(Class::Secret);
    }
    if last.closes_with(b"pwd") {
        return Some(Class::Pwd);
    }
    if last.closes_with(b"token") {
        let kind = last.strip_suffix(b"token").filter(|kind| !kind.is_empty()).unwrap_or(before);
        return match lists_of(kind) {
            lists if lists & IS_TEXT_TOKEN != 0 => None,
            lists if lists & IS_SECRET_TOKEN != 0 => Some(Class::Key),
            _ => Some(Class::Token),
        };
    }
    if last == b"tokens" && matches!(before, b"access" | b"api" | b"auth" | b"refresh") {
        return Some(Class::Token);
    }
    if let Some(kind) = last.strip_suffix(b"key").or_else(|| last.strip_suffix(b"keys")) {
        return key(kind, before);
    }
    match (last, before) {
        (b"identified", _) => Some(Class::Password),
        (b"passe" | b"acceso", b"de") | (b"passe", b"palavra") => Some(Class::Password),
        (b"pass" | b"pw" | b"mdp" | b"pin" | b"otp" | b"psk" | b"userpass" | b"dbpass" | b"mypass" | b"clave", _) => {
            Some(Class::Short)
        }
        (word, _)
            if word.strip_suffix(b"pass").is_some_and(|kind| PASSED.iter().any(|known| kind == known.as_bytes())) =>
        {
            Some(Class::Short)
        }
        (word, _) if word.closes_with(b"psk") => Some(Class::Short),
        (b"authorization" | b"authorisation", _) => Some(Class::Authorization),
        (b"cookie" | b"cookies" | b"setcookie", _) => Some(Class::Cookie),
        (
            b"credential" | b"credentials" | b"creds" | b"bearer" | b"pat" | b"phpsessid" | b"jsessionid"
            | b"sessionid" | b"sessid" | b"signature" | b"auth",
            _,
        ) => Some(Class::Token),
        (b"salt", b"password" | b"secret" | b"hash") => Some(Class::Weak),
        (b"pepper", _) => Some(Class::Key),
        // `password_payments`: whose it is stands behind it. Other words say something of it.
        (word, b"password" | b"passwd" | b"passphrase" | b"secret" | b"apikey") if !ABOUT.contains(&word) => {
            Some(Class::Weak)
        }
        _ => None,
    }
}

fn key(kind: &[u8], before: &[u8]) -> Option<Class> {
    let kind = if kind.is_empty() { before } else { kind };
    let lists = lists_of(kind);
    if kind.len() < 2 || lists & IS_OPEN_KEY != 0 {
        return None;
    }
    let surely = lists & IS_SECRET_KEY != 0
        || SECRET_KEYS
            .iter()
            .any(|word| word.len() > 3 && kind.last() == word.as_bytes().last() && kind.ends_with(word.as_bytes()));
    Some(if surely { Class::Key } else { Class::Weak })
}

/// The name of what an element of a page is for: `passwordInput`.
pub fn field_of(name: &[u8]) -> Option<&[u8]> {
    [&b"Input"[..], b"Field", b"Box", b"Element", b"El", b"_input", b"_field", b"_box", b"_element", b"_elem", b"_el"]
        .iter()
        .find_map(|element| name.strip_suffix(*element))
}

#[inline]
fn without_number(word: &[u8]) -> &[u8] {
    let digits = word.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    &word[..word.len() - digits]
}

/// Whether a byte can belong to a name.
#[inline]
pub fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood_in_any_spelling() {
        for (class, names) in [
            (
                Class::Password,
                "password PASSWORD db_password DB-Passwd userPassword PGPASSWORD password2 old_password password_confirmation passphrase password_hash mot_de_passe Passwort DB_PASSWORD_PROD رمز_عبور",
            ),
            (Class::Secret, "client_secret clientSecret SECRET"),
            (
                Class::Key,
                "access_token accessToken X-Auth-Token apiKey api_key APIKey api-key apikey aws_secret_access_key AccountKey privateKey private_key OPENAI_API_KEY fernet_key SECRET_KEY_BASE",
            ),
            (Class::Token, "token credentials PHPSESSID"),
            (Class::Short, "pass smtp_pass pw root_pw otp"),
            (Class::Weak, "frobnication_key"),
        ] {
            for name in names.split(' ') {
                assert_eq!(classify(name.as_bytes()), Some(class), "{name}");
            }
        }
        assert_eq!(classify(b"Proxy-Authorization"), Some(Class::Authorization));
        assert_eq!(classify(b"Set-Cookie"), Some(Class::Cookie));
        assert_eq!(classify(b"MYSQL_PWD"), Some(Class::Pwd));
    }

    /// A `session_id` joins events that belong together, and so do the others: without them nothing is found again.
    #[test]
    fn no_name_of_an_event_s_own_members_announces_a_secret() {
        for name in crate::event::names::KNOWN {
            assert_eq!(classify(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_name_that_is_remembered_announces_what_it_announced() {
        let classes = Classes::default();
        for _ in 0..2 {
            for nth in 0..300 {
                for name in [format!("api_key{nth}"), format!("name_{nth}"), "a_name_of_more_than_24_bytes_key".into()]
                {
                    assert_eq!(classes.of(name.as_bytes()), classify(name.as_bytes()), "{name}");
                }
            }
        }
        assert_eq!(classes.of(b""), None);
    }

    #[test]
    fn other_names_announce_nothing() {
        for name in [
            "",
            "_",
            "key",
            "primary_key",
            "sort_key",
            "keyboard",
            "monkey",
            "tokens",
            "prompt_tokens",
            "pad_token",
            "next_token",
            "input_token",
            "tokenizer",
            "password_length",
            "secret_name",
            "public_key",
            "author",
            "code",
            "cookie_count",
            "compass",
            "bypass",
            "token_str",
            "token_type",
            "jsonwebtoken_version",
        ] {
            assert_eq!(classify(name.as_bytes()), None, "{name}");
        }
    }
}
