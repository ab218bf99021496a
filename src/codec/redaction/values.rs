//! What a value looks like: random, a word, a sentence, or something that only stands where a value will be.

use super::names::classify;

/// What programs write where a secret is absent or only described: types, keywords and empty values.
#[rustfmt::skip]
const NO_SECRETS: &[&str] = &[
    "none", "null", "nil", "undefined", "true", "false", "yes", "no", "on", "off", "str", "string", "int",
    "integer", "bytes", "bool", "boolean", "float", "double", "char", "varchar", "optional", "any", "self", "this",
    "required", "text", "object", "number", "dict", "list", "array", "map", "set", "tuple", "type", "void", "is",
    "in", "not", "and", "or", "if", "else", "for", "with", "from", "lambda", "await", "yield", "return", "input",
    "getpass", "default", "auto", "empty", "option", "value", "func", "function", "async", "new", "const", "let",
    "var", "the", "a", "an", "to", "of", "as", "n/a", "na", "unknown", "invalid", "missing", "expired", "disabled",
    "enabled", "ok", "error", "failed", "url", "path", "name", "field", "hidden", "blank", "uuid", "hex", "base64",
    "nullable", "sensitive", "ignored", "unset", "change", "reset", "set", "show", "where", "when", "while",
    "select", "update", "delete", "int32", "int64", "uint8", "u8", "u32", "u64", "usize", "i32", "i64", "vec",
    "buffer", "date", "datetime", "json", "yaml", "file", "environment", "env", "vault", "prompt", "stdin",
    "keyring", "generated", "encrypted", "plaintext", "plain",
];

/// Words that show that a value is only an example of one, or stands where one will be.
#[rustfmt::skip]
const STAND_INS: &[&str] = &[
    "changeme", "change_me", "change-me", "changeit", "replaceme", "replace_me", "replace-me", "placeholder",
    "redacted", "censored", "masked", "your_", "your-", "yourpass", "your password", "<your", "yoursecret",
    "yourtoken", "yourapi", "yourkey", "yourown", "xxxx", "****", "____", "_here", "-here", "todo", "fixme",
    "dummy", "insert_", "insert-", "enter_", "enter-", "put_your", "example_", "example-", "-example", "_example",
    "sample_", "sample-", "to_be_", "tobe", "none_", "my_password", "my-password", "mypassword", "my_secret",
    "my-secret", "my_token", "my-token", "my_api", "my-api", "foobar", "notasecret", "not-a-secret",
    "not_a_secret", "fake_", "fake-", "test_key", "test-key", "test_token", "test-token", "...", "…",
];

/// Words that only sentences have.
#[rustfmt::skip]
const SENTENCE: &[&str] = &[
    "the", "a", "an", "is", "are", "was", "be", "to", "of", "for", "in", "on", "at", "by", "with", "your", "you",
    "must", "should", "can", "cannot", "not", "and", "or", "if", "no", "this", "that", "please", "enter",
    "invalid", "incorrect", "wrong", "required", "missing", "new", "forgot", "reset", "change", "set", "use",
    "using", "from", "as", "it", "has", "have", "will", "may", "field", "user", "value", "name", "type",
    "contains", "least", "characters", "password", "token", "secret", "key", "passwords", "tokens", "keys",
];

/// Whether a value only stands where a secret will be, is or was: `{password}`, `${PASSWORD}`, `%s`, `<secret>`,
/// `***`, `YOUR_API_KEY`, `changeme`, a reference into a vault.
pub fn is_stand_in(value: &[u8]) -> bool {
    is_template(value) || is_reference(value) || is_stand_in_word(value)
}

/// Whether the value is filled in by a program: `{x}`, `${X}`, `$(cmd)`, `%s`, `<x>`, `:x`, `?`, `$1`.
pub fn is_template(value: &[u8]) -> bool {
    let Some((first, last)) = value.first().zip(value.last()) else { return true };
    let inside = &value[1..value.len().max(2) - 1];
    let word = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
    match (first, last) {
        (b'{' | b'<', b'}' | b'>') => return inside.iter().all(|b| !b"\"'=".contains(b)),
        (b'[', b']') => return inside.iter().all(|b| word(b) || b" :*".contains(b)),
        (b'$', b'}' | b')') if matches!(value.get(1), Some(b'{' | b'(')) => return true,
        (b'#', b'}') if value.get(1) == Some(&b'{') => return true,
        (b'$', _)
            if value.len() > 1 && value[1..].iter().all(|b| b.is_ascii_uppercase() || *b == b'_' || *b == b':') =>
        {
            return true;
        }
        (b'$', _) if value.len() < 4 && value[1..].iter().all(u8::is_ascii_digit) => return true,
        (b'%', b's' | b'd' | b'r') if value.len() == 2 || value.get(1) == Some(&b'(') => return true,
        (b'%', b'%') if value.len() > 2 => return value.iter().all(|b| b.is_ascii_alphabetic() || b"_%".contains(b)),
        (b':', _) if value.len() > 1 && value[1..].iter().all(|b| b.is_ascii_alphabetic() || *b == b'_') => {
            return true;
        }
        (b'@', b'@') if value.len() > 2 => return true,
        (b'?', _) if value.len() == 1 => return true,
        _ => {}
    }
    // `${X}suffix`, `prefix{{ x }}`: what is not filled in is no secret.
    let filled = |open: &[u8], close: &[u8]| {
        memchr::memmem::find(value, open).is_some_and(|at| memchr::memmem::find(&value[at..], close).is_some())
    };
    value.len() > 2 && b"*.x-_X#?".contains(first) && value.iter().all(|b| b == first)
        || filled(b"${", b"}")
        || filled(b"{{", b"}}")
        || filled(b"$(", b")")
        || filled(b"<%", b"%>")
        || filled(b"#{", b"}")
}

/// Whether the value says where the secret is kept.
fn is_reference(value: &[u8]) -> bool {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| value.starts_with(prefix.as_bytes()));
    starts(&[
        "arn:",
        "op://",
        "vault:",
        "vault://",
        "ssm:",
        "secretsmanager:",
        "secretref:",
        "keyring:",
        "env:",
        "env.",
        "file:",
        "file://",
        "projects/",
        "secret/",
        "secrets/",
        "kv/",
        "/run/secrets",
        "/etc/",
        "/var/",
        "/vault/",
        "!vault",
        "!secret",
        "!Ref",
        "!Sub",
        "@Microsoft.KeyVault",
        "AWS::",
        "process.env",
        "os.environ",
        "System.",
        "ref+",
        "gcp-secret",
        "azurekeyvault",
        "lookup(",
        "var.",
        "local.",
        "module.",
        "data.",
        "steps.",
        "secrets.",
        "http://",
        "https://",
    ])
}

/// Whether the value says that something else will be put in its place: `YOUR_API_KEY`, `changeme`.
pub fn is_placeholder(value: &[u8]) -> bool {
    if value.len() > 64 {
        return false;
    }
    let lower = value.to_ascii_lowercase();
    let has = |word: &&str| memchr::memmem::find(&lower, word.as_bytes()).is_some();
    STAND_INS.iter().any(has) || (lower.len() > 7 && (lower.starts_with(b"your") || lower.ends_with(b"goes_here")))
}

fn is_stand_in_word(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    is_placeholder(value)
        || names_a_secret(&lower)
        || matches!(
            lower.as_slice(),
            b"example"
                | b"sample"
                | b"test"
                | b"testing"
                | b"foo"
                | b"bar"
                | b"baz"
                | b"qux"
                | b"tbd"
                | b"blah"
                | b"abc"
                | b"xyz"
                | b"pass"
                | b"pw"
                | b"secret"
                | b"key"
                | b"user"
        )
}

/// Words joined by underscores or hyphens of which one is `password` or the like: `use_strong_password_here`.
fn names_a_secret(lower: &[u8]) -> bool {
    let words = lower.iter().all(|b| b.is_ascii_lowercase() || b"_- ".contains(b));
    let named = |word: &[u8]| {
        [&b"password"[..], b"passwd", b"secret", b"token", b"passphrase", b"apikey", b"key"].contains(&word)
    };
    words
        && lower.split(|b| b"_- ".contains(b)).filter(|word| !word.is_empty()).count() > 1
        && lower.split(|b| b"_- ".contains(b)).any(named)
}

/// Whether the value is a keyword, a type or a word for nothing.
pub fn is_keyword(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| NO_SECRETS.iter().any(|word| text.eq_ignore_ascii_case(word)))
}

/// Whether the value is itself the name of a secret: `user_password`, `next_token`, `Ed25519PrivateKey`.
pub fn is_name_of_secret(value: &[u8]) -> bool {
    let word = |b: &u8| b.is_ascii_alphabetic() || b"_-.$@:?![]>&* ".contains(b) || b.is_ascii_digit();
    let ends_in_digit = value.last().is_some_and(u8::is_ascii_digit);
    value.len() <= 64 && !ends_in_digit && value.iter().all(word) && classify(value).is_some()
        || value.ends_with(b"tokens")
        || value.ends_with(b"_id")
}

/// Whether the value is a sentence or a label, written for people.
pub fn is_prose(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() < 2 {
        return value.ends_with(b":") || value.ends_with(b"...");
    }
    let plain = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
    let known = words.iter().filter(|word| SENTENCE.contains(&plain(word).as_str())).count();
    let ends = value.last().is_some_and(|b| b":.?!,".contains(b));
    let capital = text.chars().next().is_some_and(char::is_uppercase);
    let has_digit = value.iter().any(u8::is_ascii_digit);
    known > 0
        || words.len() > 8
        || (ends && !has_digit)
        || (capital && !has_digit)
        || words.iter().any(|word| classify(plain(word).as_bytes()).is_some())
}

/// Whether a place in a file system, or what a shell fills in.
pub fn is_path(value: &[u8]) -> bool {
    let path = |rest: &[u8]| rest.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-~ *".contains(b));
    match value {
        _ if is_random(value)
            && value.iter().filter(|b| b.is_ascii_uppercase() || b.is_ascii_digit()).count() * 3 > value.len() =>
        {
            false
        }
        [b'/' | b'~' | b'.', rest @ ..] => {
            value.len() > 1 && path(rest) && (rest.contains(&b'/') || rest.iter().all(|b| !b.is_ascii_digit()))
        }
        [_, b':', b'\\', ..] => true,
        _ => false,
    }
}

/// Whether the value is an expression of a program: a call, an attribute, an index, an operator.
pub fn is_expression(value: &[u8]) -> bool {
    let head = value.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_.$:?!&*->".contains(b)).count();
    let call = head > 0 && matches!(value.get(head), Some(b'(' | b'[' | b'{')) && !value[0].is_ascii_digit();
    call || is_attribute(value)
        || value.starts_with(b"(")
        || value.starts_with(b"!")
            && value.len() > 1
            && value[1..].iter().all(|b| b.is_ascii_alphabetic() || *b == b'_')
}

/// `a.b`, `a->b`, `a::b`, `a?.b`: words joined as programs join them.
pub fn is_attribute(value: &[u8]) -> bool {
    let joins = |b: &u8| b".:>?-".contains(b);
    let joined = [&b"."[..], b"->", b"::", b"?."].iter().any(|sign| memchr::memmem::find(value, sign).is_some());
    let value = value.strip_prefix(b"$").unwrap_or(value);
    let mut parts = value.split(joins).filter(|part| !part.is_empty()).peekable();
    joined && parts.peek().is_some_and(|first| first.len() < value.len()) && parts.all(is_word_of_code)
}

/// A name as programs use them: words, with digits at their ends only.
fn is_word_of_code(part: &[u8]) -> bool {
    let (mut at, mut short) = (0, 0);
    let mut known = part.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
    while at < part.len() {
        if part[at] == b'_' {
            at += 1;
            continue;
        }
        let end = if part[at].is_ascii_alphabetic() { word_end(part, at) } else { at };
        let digits = part[end..].iter().take_while(|b| b.is_ascii_digit()).count();
        let word = &part[at..end];
        short += usize::from(word.len() < 3);
        known &= short < 3 && word.len() < 3
            || is_wordlike(word)
            || word.len() < 5 && word.iter().all(u8::is_ascii_lowercase);
        known &= end + digits > at && digits < 4;
        known &= digits == 0 || part.get(end + digits).is_none_or(|b| *b == b'_');
        if !known {
            return false;
        }
        at = end + digits;
    }
    known
}

/// Whether the value has what passwords have and words have not: digits among letters, or signs.
pub fn is_mixed(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let signs = value.iter().filter(|b| b"!@#$%^&*?+=~|".contains(b)).count();
    value.len() >= 4 && ((digits > 0 && letters > 0) || (signs > 0 && letters + digits > 2))
}

/// Whether the value is random: no words, and enough of it.
pub fn is_random(value: &[u8]) -> bool {
    randomness(value) >= 8
}

/// How many letters and digits of the value belong to no word; nothing if most of it are words.
pub fn randomness(value: &[u8]) -> usize {
    if value.len() > 4096 {
        return 64;
    }
    let plain = |b: &u8| b.is_ascii_graphic();
    if value.len() < 8 || !value.iter().all(plain) || is_ordered(value) {
        return 0;
    }
    let (mut all, mut in_words, mut digits, mut upper, mut lower) = (0usize, 0usize, 0usize, 0usize, 0usize);
    let mut at = 0;
    while at < value.len() {
        let byte = value[at];
        if byte.is_ascii_alphabetic() {
            let end = word_end(value, at);
            let word = &value[at..end];
            all += word.len();
            upper += word.iter().filter(|b| b.is_ascii_uppercase()).count();
            lower += word.iter().filter(|b| b.is_ascii_lowercase()).count();
            if word.len() > 2 && is_wordlike(word) {
                in_words += word.len();
            }
            at = end;
        } else {
            all += usize::from(byte.is_ascii_digit());
            digits += usize::from(byte.is_ascii_digit());
            at += 1;
        }
    }
    let kinds = usize::from(digits > 0) + usize::from(upper > 0) + usize::from(lower > 0);
    let loose = all - in_words;
    // Letters of one case alone, or digits alone, are random only where there are many.
    let enough = match kinds {
        0 => false,
        1 if digits > 0 => false,
        1 => loose >= 12,
        _ => loose * 10 >= all * 4,
    };
    if enough { loose } else { 0 }
}

/// A version, date, number, address or measure.
fn is_ordered(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let others = value.iter().filter(|b| !b.is_ascii_digit() && !b"._-:/+,TZ^~v<>= ".contains(b)).count();
    others == 0 && digits < 20 && value.iter().any(|b| b"._-:/,".contains(b))
}

/// Where the word ends that begins at `at`: at the next hump or sign.
fn word_end(value: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < value.len() && value[end].is_ascii_alphabetic() {
        let hump = value[end].is_ascii_uppercase() && value[end - 1].is_ascii_lowercase();
        let last_capital = end > at + 1
            && value[end].is_ascii_lowercase()
            && value[end - 1].is_ascii_uppercase()
            && value[end - 2].is_ascii_uppercase();
        if hump {
            break;
        }
        if last_capital {
            return end - 1;
        }
        end += 1;
    }
    end
}

/// What may follow each letter in words, `a` first: the pairs that English and its neighbours use often.
#[rustfmt::skip]
const FOLLOWERS: [&str; 26] = [
    "bcdgiklmnprstuvwyz", "aeilorsuybjt", "aehiklortucysq", "aeiorsudyglmv", "abcdefgilmnopqrstuvwxyk",
    "aefilortuy", "aeghilnorsuym", "aeiortuyn", "abcdefgklmnopqrstvz", "aeou", "aeilnsyo", "acdefiklmopstuvyb",
    "abeimnopsuyl", "acdefgijklnostuvyaq", "abcdefgiklmnoprstuvwxy", "aehiloprstuy", "u", "abcdefgiklmnoprstuvyw",
    "acefhiklmnopqstuwyt", "aceghilmnorstuwyz", "abcdefgilmnprstxz", "aeio", "aehinorsl", "acepitx", "eosmtlpc",
    "aeioz",
];

/// Whether letters follow one another as they do in words.
fn is_wordlike(word: &[u8]) -> bool {
    if !word.iter().all(u8::is_ascii_alphabetic) || word.is_empty() {
        return false;
    }
    let pairs = word.windows(2).filter(|pair| {
        let (first, second) = (pair[0].to_ascii_lowercase(), pair[1].to_ascii_lowercase());
        FOLLOWERS[usize::from(first - b'a')].as_bytes().contains(&second)
    });
    let vowels = word.iter().filter(|b| b"aeiouyAEIOUY".contains(b)).count();
    let pairs = pairs.count();
    let (all, known) = (word.len() - 1, pairs);
    if word.len() <= 4 { known == all && vowels > 0 } else { known * 100 >= all * 80 && vowels * 6 >= word.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_text_is_told_from_words_versions_and_paths() {
        for text in [
            "9f86d081884c7d659a2feaa0c55ad015",
            "kQ7wErTyUi0pAs",
            "wJalrXUtnFEMIK7MDENGbPxRfiCY",
            "550e8400-e29b-41d4-a716-446655440000",
            "xkqjzvwmbgtdhplr",
            "Zx81mmQ9",
            "a1b2c3d4e5f6",
            "dGhpcyBpcyBhIHRlc3Q5",
            "lM&5S&$Vl33m",
        ] {
            assert!(is_random(text.as_bytes()), "{text}");
        }
        for text in [
            "next_token",
            "user_password",
            "production",
            "2024-01-01T00:00:00Z",
            "10.0.0.1:8080",
            "^9.0.2",
            "my-database-secret-name",
            "com.example.app.SecretKeyFactory",
            "AuthenticationTokenProvider",
            "X509CertificateStore",
            "/usr/lib/python3",
            "AWS::IAM::AccessKey",
            "12345678",
            "Ed25519PrivateKey",
            "application/json",
            "configuration",
        ] {
            assert!(!is_random(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn stand_ins_are_known() {
        for text in [
            "",
            "***",
            "xxxxxx",
            "YOUR_API_KEY",
            "changeme",
            "<password>",
            "${X}",
            "{{ x }}",
            "%s",
            "$1",
            "?",
            ":pw",
            "{password}",
            "$PASSWORD",
            "#{secret}",
            "arn:aws:secretsmanager:x",
            "[credential]",
            "your-token-here",
        ] {
            assert!(is_stand_in(text.as_bytes()), "{text}");
        }
        for text in ["hunter2", "letmein", "S3cr42!x", "$ecret9", "p@ss", "Summer2024!"] {
            assert!(!is_stand_in(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn sentences_are_told_from_passphrases() {
        for text in ["Enter your password", "must be long", "Forgot password?", "The token"] {
            assert!(is_prose(text.as_bytes()), "{text}");
        }
        for text in ["correct horse battery staple", "p w", "hunter2"] {
            assert!(!is_prose(text.as_bytes()), "{text}");
        }
    }
}
