//! Names that announce a secret: `password`, `apiKey`, `X-Auth-Token`, `DB_PASSWD`.

/// What such a name leads one to expect behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// Nothing but a secret: `password`, `client_secret`.
    Secret,
    /// A secret, though programs use the word for other things too: `token`, `api_key`.
    Maybe,
    /// A password, or where a shell stands.
    Pwd,
    /// A scheme and then a secret.
    Authorization,
    /// Names and secrets, up to the end of the line.
    Cookie,
}

/// What precedes `token` where it means a piece of text or a place in a list.
const NO_SECRET_TOKENS: &[&str] = &[
    "pad",
    "eos",
    "bos",
    "unk",
    "mask",
    "sep",
    "cls",
    "special",
    "start",
    "end",
    "stop",
    "max",
    "min",
    "num",
    "per",
    "page",
    "next",
    "continuation",
    "first",
    "last",
    "each",
    "current",
    "prev",
    "previous",
    "n",
    "sub",
    "image",
];

/// What makes a `key` a secret one.
const SECRET_KEYS: &[&str] = &[
    "api",
    "access",
    "private",
    "secret",
    "encryption",
    "signing",
    "account",
    "auth",
    "master",
    "shared",
    "storage",
    "subscription",
    "app",
    "application",
    "service",
    "ssh",
    "deploy",
    "webhook",
    "client",
    "consumer",
    "hmac",
    "jwt",
    "aes",
    "rsa",
    "admin",
    "license",
    "functions",
    "ingest",
    "write",
    "integration",
    "session",
];

/// Words at the end of a name that do not change what it holds.
const NEUTRAL: &[&str] = &[
    "value",
    "text",
    "plain",
    "plaintext",
    "raw",
    "str",
    "string",
    "hash",
    "hashed",
    "b64",
    "base64",
    "encoded",
    "encrypted",
    "new",
    "old",
    "confirm",
    "confirmation",
    "repeat",
    "again",
    "header",
];

/// The most bytes of a name that are looked at, from its end.
const MAX_NAME: usize = 64;

/// What a member name, variable or header promises, however it is written.
pub fn promise(name: &[u8]) -> Option<Promise> {
    let name = &name[name.len().saturating_sub(MAX_NAME)..];
    let mut folded = [0; 2 * MAX_NAME];
    let folded = fold(name, &mut folded);
    let mut words = folded.rsplit(|b| *b == b' ').filter(|word| !word.is_empty()).map(without_number);
    let mut next = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let mut last = next()?;
    while last.is_empty() || NEUTRAL.contains(&last) {
        last = next()?;
    }
    let before = next().unwrap_or("");
    decide(last, before)
}

fn decide(last: &str, before: &str) -> Option<Promise> {
    let ends = |endings: &[&str]| endings.iter().any(|ending| last.ends_with(ending));
    if ends(&["password", "passwd", "passphrase", "passwords", "secret", "secrets", "passwort"]) {
        return Some(Promise::Secret);
    }
    if last.ends_with("pwd") {
        return Some(Promise::Pwd);
    }
    if last.ends_with("token") {
        return (last != "token" || !NO_SECRET_TOKENS.contains(&before)).then_some(Promise::Maybe);
    }
    if last == "tokens" && matches!(before, "access" | "api" | "auth" | "refresh") {
        return Some(Promise::Maybe);
    }
    if let Some(kind) = last.strip_suffix("key").or_else(|| last.strip_suffix("keys")) {
        let kind = if kind.is_empty() { before } else { kind };
        return SECRET_KEYS.contains(&kind).then_some(Promise::Maybe);
    }
    match last {
        "authorization" | "authorisation" => Some(Promise::Authorization),
        "cookie" | "cookies" | "setcookie" => Some(Promise::Cookie),
        "credential" | "credentials" | "bearer" => Some(Promise::Maybe),
        _ => None,
    }
}

/// Lower case with spaces between words, whichever way the name marks them.
fn fold<'a>(name: &[u8], out: &'a mut [u8; 2 * MAX_NAME]) -> &'a [u8] {
    let mut len = 0;
    for (at, byte) in name.iter().enumerate() {
        let before = at.checked_sub(1).map_or(b' ', |before| name[before]);
        let next_is_lower = name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let hump = byte.is_ascii_uppercase()
            && (before.is_ascii_lowercase() || (before.is_ascii_uppercase() && next_is_lower));
        if hump {
            out[len] = b' ';
            len += 1;
        }
        out[len] = if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b' ' };
        len += 1;
    }
    &out[..len]
}

fn without_number(word: &[u8]) -> &[u8] {
    let digits = word.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    &word[..word.len() - digits]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood_in_any_spelling() {
        for name in [
            "password",
            "PASSWORD",
            "db_password",
            "DB-Passwd",
            "userPassword",
            "PGPASSWORD",
            "password2",
            "new_password",
            "password_confirmation",
            "client_secret",
            "clientSecret",
            "SECRET",
            "passphrase",
            "password_hash",
        ] {
            assert_eq!(promise(name.as_bytes()), Some(Promise::Secret), "{name}");
        }
        for name in [
            "token",
            "access_token",
            "accessToken",
            "X-Auth-Token",
            "apiKey",
            "api_key",
            "APIKey",
            "api-key",
            "apikey",
            "aws_secret_access_key",
            "AccountKey",
            "privateKey",
            "private_key",
            "credentials",
            "OPENAI_API_KEY",
        ] {
            assert_eq!(promise(name.as_bytes()), Some(Promise::Maybe), "{name}");
        }
        assert_eq!(promise(b"Proxy-Authorization"), Some(Promise::Authorization));
        assert_eq!(promise(b"Set-Cookie"), Some(Promise::Cookie));
        assert_eq!(promise(b"MYSQL_PWD"), Some(Promise::Pwd));
    }

    #[test]
    fn other_names_promise_nothing() {
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
            "tokenizer",
            "password_length",
            "secret_name",
            "public_key",
            "author",
            "code",
            "cookie_count",
        ] {
            assert_eq!(promise(name.as_bytes()), None, "{name}");
        }
    }
}
