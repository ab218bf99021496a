//! Classifies a value: random, a word, a sentence, or a placeholder.

use crate::codec::redaction::literals::{Beginnings, Literals as _};
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::byte_set::ByteSet;
use super::kinds::{self, Kinds};
use super::names::classify;
use super::random::{is_random, is_wordlike, word_end};

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
    "keyring", "generated", "encrypted", "plaintext", "plain", "options", "flag", "flags", "argument", "arguments", "arg", "args",
    "parameter", "parameters", "instead", "dir", "utf-8", "utf8", "utf-16", "ascii", "latin1", "latin-1",
    "iso-8859-1", "cp1252", "localhost", "inherit", "scram-sha-256", "scram-sha-1", "md5", "sha1", "sha256", "sha512",
    "via", "was", "were", "are", "has", "have", "does", "should", "must", "can", "cannot", "will", "would", "may",
    "requires", "needs", "takes", "expects", "prompts", "reads", "sets", "specifies", "provides", "allows", "but",
    "then", "that", "which", "you", "your", "it", "its", "by", "at", "provided", "specified", "given", "using",
    "supplied", "on_create", "always", "values", "get", "put", "post",
    "patch", "head", "(null)", "(none)", "users", "bcrypt", "scrypt", "argon2", "argon2id", "pbkdf2",
];

/// The length of the longest of them.
const MAX_KEYWORD: usize = 13;

/// Words that show that a value is only an example of one, or stands where one will be.
#[rustfmt::skip]
const STAND_INS: &[&str] = &[
    "changeme", "change_me", "change-me", "changeit", "replaceme", "replace_me", "replace-me", "placeholder",
    "redacted", "censored", "masked", "your_", "your-", "yourpass", "your password", "<your", "yoursecret",
    "yourtoken", "yourapi", "yourkey", "yourown", "xxxx", "****", "____", "_here", "-here", "todo", "fixme",
    "dummy", "insert_", "insert-", "enter_", "enter-", "put_your", "example_", "example-", "-example", "_example",
    "sample_", "sample-", "to_be_", "tobe", "none_", "my_password", "my-password", "mypassword", "my_secret",
    "my-secret", "my_token", "my-token", "my_api", "my-api", "foobar", "notasecret", "not-a-secret",
    "not_a_secret", "fake_", "fake-", "test_key", "test-key", "test_token", "test-token", "mytoken", "mysecret", "_removed", "-removed", "abcdefghijklmnopqrstuvwxyz", "...", "…",
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

/// Words for a password that no name holds: what a program shows beside a field, in the languages of the world.
#[rustfmt::skip]
const LABELS: &[&str] = &[
    "heslo", "contrasenya", "passord", "lösenord", "losenord", "adgangskode", "kodeord", "salasana", "jelszó", "jelszo",
    "lozinka", "şifrə", "parool", "slaptažodis", "parole", "geslo", "fjalëkalimi", "kata sandi", "sandi", "mật khẩu",
    "parola", "pasahitza", "contrasinal", "lykilorð", "aðgangsorð", "nenosiri", "cyfrinair", "pasfhocal", "passwort",
    "kennwort", "wachtwoord", "contraseña", "senha", "palavra-passe", "hasło", "clave", "mot de passe",
];

/// What forms and messages say of a password behind a colon, in the languages of the world: `Passwort: erforderlich`.
#[rustfmt::skip]
const REMARKS: &[&str] = &[
    "erforderlich", "falsch", "ungültig", "leer", "fehlt", "fehlerhaft", "geändert", "abgelaufen", "notwendig", "pflichtfeld", "keine",
    "keines", "unbekannt", "korrekt", "gesetzt", "obligatoire", "requis", "facultatif", "optionnel", "invalide", "incorrect", "vide",
    "aucun", "inconnu", "expiré", "modifié", "correct", "obligatorio", "obligatoria", "requerido", "requerida", "opcional", "inválida",
    "inválido", "incorrecta", "incorrecto", "vacía", "vacío", "ninguna", "caducada", "cambiada", "obrigatório", "obrigatória", "incorreta",
    "incorreto", "vazia", "nenhuma", "alterada", "obbligatorio", "obbligatoria", "richiesta", "richiesto", "opzionale", "errata", "vuota",
    "nessuna", "scaduta", "verplicht", "optioneel", "ongeldig", "onjuist", "leeg", "zorunlu", "geçersiz", "yanlış", "boş", "isteğe bağlı",
    "wymagane", "wymagany", "opcjonalne", "nieprawidłowe", "brak", "krävs", "valgfri", "påkrævet", "обязательно", "обязателен",
    "необязательно", "неверный", "неверно", "пустой", "требуется", "изменён", "изменен", "истёк", "нет", "неправильный", "اجباری",
    "اختیاری", "الزامی", "نامعتبر", "اشتباه", "نادرست", "خالی", "ندارد", "منقضی", "مطلوب", "مطلوبة", "إلزامي", "اختياري", "خاطئة", "必填", "选填",
    "可选", "必须", "必需", "错误", "无效", "为空", "不能为空", "空", "无", "不正确", "已过期", "已修改", "必須", "任意", "無効", "なし", "필수", "선택", "없음",
];

/// The longest of these words, in bytes.
const MAX_LABEL: usize = 32;

/// The same in scripts of their own, where words are joined or bent.
#[rustfmt::skip]
const LABELS_OF_SCRIPTS: &[&str] = &[
    "पासवर्ड", "পাসওয়ার্ড", "கடவுச்சொல்", "రహస్యపదం", "รหัสผ่าน", "ລະຫັດຜ່ານ", "စကားဝှက်", "စကားဝွက္", "პაროლი", "գաղտնաբառ",
    "парол", "Парол", "лозинк", "Лозинк", "құпиясөз", "Құпиясөз", "нууц үг", "암호", "비밀번호", "סיסמ", "密码", "密碼", "口令",
    "パスワード", "رمز", "گذرواژه", "پسورد", "كلمة", "κωδικ", "Κωδικ",
];

/// Whether a value without digits is what a program calls a password, or a sentence about one: `"LABEL_PASSWORD": "Heslo"`.
pub fn is_label_of_password(value: &[u8], kinds: &Kinds) -> bool {
    if kinds.digits > 0 || value.len() > 16 && !kinds.has(kinds::FOREIGN) {
        return false;
    }
    static WORDS: LazyLock<Words> = LazyLock::new(|| Words::of(LABELS.iter().chain(REMARKS)));
    static LABELS_WITHIN: Beginnings = Beginnings::of(LABELS_OF_SCRIPTS);
    let known = |text: &str| WORDS.has(text.to_lowercase().as_bytes());
    WORDS.has(value)
        || kinds.has(kinds::FOREIGN)
            && ((0..value.len()).any(|at| value[at] >= 0xC0 && LABELS_WITHIN.begin(&value[at..]))
                || value.len() <= MAX_LABEL && std::str::from_utf8(value).is_ok_and(known))
}

/// Whether a value only stands where a secret will be, is or was: `{password}`, `${PASSWORD}`, `%s`, `<secret>`,
/// `***`, `YOUR_API_KEY`, `changeme`, a reference into a vault.
pub fn is_stand_in(value: &[u8]) -> bool {
    stands_in(value, &Kinds::of(value))
}

/// The same for a value whose kinds of bytes are known.
pub fn stands_in(value: &[u8], kinds: &Kinds) -> bool {
    is_template_of(value, kinds)
        || is_reference(value)
        || is_stand_in_word(value, kinds)
        || kinds.has(kinds::FOREIGN) && is_dotted_out(value)
}

/// `········`, `••••••••`: what a field shows instead of a password.
fn is_dotted_out(value: &[u8]) -> bool {
    matches!(value[0], 0xC2 | 0xE2 | b'*')
        && std::str::from_utf8(value).is_ok_and(|text| text.chars().all(|sign| "·•●∙*".contains(sign)))
}

/// Whether the value is filled in by a program: `{x}`, `${X}`, `$(cmd)`, `%s`, `<x>`, `:x`, `?`, `$1`.
pub fn is_template(value: &[u8]) -> bool {
    is_template_of(value, &Kinds::of(value))
}

fn is_template_of(value: &[u8], kinds: &Kinds) -> bool {
    let Some((first, last)) = value.first().zip(value.last()) else { return true };
    let inside = &value[1..value.len().max(2) - 1];
    let word = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
    match (first, last) {
        (b'<', b'>') if inside.begins_with(b"http") => return true,
        (b'{' | b'<', b'}' | b'>') => return inside.iter().all(|b| !b"\"'=".contains(b)),
        (b'[', b']') => return inside.iter().all(|b| word(b) || b" :*".contains(b)),
        (b'$', b'}' | b')') if matches!(value.get(1), Some(b'{' | b'(')) => return true,
        // `"$( awk -F'[ ";]'`: a command, whose own quote ends the string too early.
        (b'$', _) if value.begins_with(b"$( ") => return true,
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
        (b'%', _) if is_only_filled_in(value) => return true,
        // An alias of YAML.
        (b'*', _) if value.len() > 1 && value[1..].iter().all(|b| b.is_ascii_alphabetic() || b"_-".contains(b)) => {
            return true;
        }
        (b'?', _) if value.len() == 1 => return true,
        _ => {}
    }
    // `${X}suffix`, `prefix{{ x }}`: what is not filled in is no secret.
    value.len() > 2 && const { &ByteSet::of(b"*.x-_X#?") }.has(first) && value.iter().all(|b| b == first)
        || kinds.has(kinds::OPENING) && is_filled_in(value)
}

/// Whether the value is nothing but what is filled in: `%s:%s`.
fn is_only_filled_in(value: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b'%');
    parts.next() == Some(b"")
        && parts.all(
            |part| matches!(part, [b's' | b'd' | b'r' | b'w' | b'v' | b'q' | b'1'..=b'9', signs @ ..] if !signs.iter().any(u8::is_ascii_alphanumeric)),
        )
}

/// Whether a part of the value is filled in by a program: `${x}`, `{{ x }}`, `$(x)`, `<% x %>`, `#{x}`.
fn is_filled_in(value: &[u8]) -> bool {
    let closed = |at: usize, close: &[u8]| {
        let reach = &value[at..value.len().min(at + MAX_FILLED)];
        memchr::memmem::find(reach, close)
            .is_some_and(|end| close == b")" || close == b"%>" || is_filling(&reach[..end]))
    };
    memchr::memchr3_iter(b'{', b'(', b'%', value).filter(|at| *at + 1 < value.len()).any(|at| {
        let before = at.checked_sub(1).map(|before| value[before]);
        match (value[at], before) {
            (b'{', Some(b'$' | b'#')) => closed(at + 1, b"}"),
            (b'{', _) if value[at + 1] == b'{' => closed(at + 2, b"}}"),
            (b'(', Some(b'$')) => closed(at + 1, b")"),
            (b'%', Some(b'<')) => closed(at + 1, b"%>"),
            _ => false,
        }
    })
}

/// How far what is filled in is read.
const MAX_FILLED: usize = 128;

/// Whether an expression stands between braces, and not the signs of a password: `user.name | default("x")`.
fn is_filling(inside: &[u8]) -> bool {
    let first = inside.trim_ascii_start().first();
    first.is_none_or(|b| b.is_ascii_alphanumeric() || *b >= 0x80 || b"_\"'.$@#!/-<>&*^:{".contains(b))
        && !inside.iter().any(|b| b"}^~;".contains(b))
        && BRACKETS.iter().all(|[open, close]| {
            let count = |sign: u8| memchr::memchr_iter(sign, inside).count();
            count(*open) == count(*close)
        })
}

/// What expressions open and close.
const BRACKETS: [[u8; 2]; 2] = [*b"()", *b"[]"];

/// Prefix of the values that say where the secret is kept.
#[rustfmt::skip]
const REFERENCES: &[&str] = &[
    "arn:", "op://", "vault:", "vault://", "ssm:", "secretsmanager:", "secretref:", "keyring:", "env:", "env.",
    "file:", "file://", "projects/", "secret/", "secrets/", "kv/", "/run/secrets", "/etc/", "/var/", "/vault/",
    "!vault", "!secret", "!Ref", "!Sub", "@Microsoft.KeyVault", "AWS::", "process.env", "os.environ", "System.",
    "ref+", "gcp-secret", "azurekeyvault", "lookup(", "var.", "local.", "module.", "data.", "steps.", "secrets.",
    "http://", "https://", "see ", "ask ",
];

/// The first bytes of these prefixes, and the third: most values have others.
const REFERENCE_BYTES: [&ByteSet; 2] = [&bytes_at(0), &bytes_at(2)];

const fn bytes_at(place: usize) -> ByteSet {
    let (mut bytes, mut nth) = ([0; REFERENCES.len()], 0);
    while nth < REFERENCES.len() {
        bytes[nth] = REFERENCES[nth].as_bytes()[place];
        nth += 1;
    }
    ByteSet::of(&bytes)
}

/// Whether a literal is only what stands between two others: `'" + password + "'`.
pub fn is_joint(inside: &[u8]) -> bool {
    let [quote @ (b'"' | b'\'' | b'`'), middle @ .., last] = inside else { return false };
    let joins = |b: Option<&u8>| matches!(b, Some(b'+' | b'.' | b'&' | b'|' | b'~'));
    let middle = middle.trim_ascii();
    quote == last && middle.len() > 2 && joins(middle.first()) && joins(middle.last())
}

/// Whether the value says where the secret is kept.
fn is_reference(value: &[u8]) -> bool {
    let [first, _, third, ..] = value else { return false };
    REFERENCE_BYTES[0].has(first)
        && REFERENCE_BYTES[1].has(third)
        && REFERENCES.iter().any(|prefix| prefix.as_bytes()[0] == *first && value.starts_with(prefix.as_bytes()))
}

/// Whether the value says that something else will be put in its place: `YOUR_API_KEY`, `changeme`.
pub fn is_placeholder(value: &[u8]) -> bool {
    says_placeholder(value, true)
}

/// The same, if one knows whether a full stop or a letter of another script is in it.
fn says_placeholder(value: &[u8], may_have_dots: bool) -> bool {
    let begins = |word: &[u8]| value.len() >= word.len() && value[..word.len()].eq_ignore_ascii_case(word);
    let ends = |word: &[u8]| value.len() >= word.len() && value[value.len() - word.len()..].eq_ignore_ascii_case(word);
    is_crossed_out(value)
        || value.len() <= MAX_PLACEHOLDER
            && (value.len() > 7 && (begins(b"your") || ends(b"goes_here"))
                || !ends_as_chosen(value) && holds_stand_in(value, may_have_dots))
}

/// Whether the value ends as people let a password end that has to have everything: `MySecretPass123!`.
fn ends_as_chosen(value: &[u8]) -> bool {
    let head = &value[..value.len() - value.iter().rev().take_while(|b| b"!@#$%&*?".contains(b)).count()];
    let digits = head.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let letters = &head[..head.len() - digits];
    head.len() < value.len()
        && digits > 1
        && letters.iter().all(u8::is_ascii_alphabetic)
        && letters.iter().any(u8::is_ascii_uppercase)
        && letters.iter().any(u8::is_ascii_lowercase)
}

/// Whether most of the letters and digits are `x`: `ghp_xxxxxxxxxxxx`, `XXXX-XXXX`.
pub fn is_crossed_out(value: &[u8]) -> bool {
    // The middle tells at once what random text is not.
    let is_cross = |byte: &u8| byte | 0x20 == b'x';
    let value = &value[..value.len().min(MAX_CROSSED_OUT)];
    let middle = value.len() / 2;
    value.len() >= 12
        && (is_cross(&value[middle]) || is_cross(&value[middle - 1]))
        && value.iter().filter(|byte| is_cross(byte)).count() * 10
            >= value.iter().filter(|byte| byte.is_ascii_alphanumeric()).count() * 6
}

/// How much of a value shows whether it is crossed out: what begins at each place of a long run must not read all of it.
const MAX_CROSSED_OUT: usize = 128;

/// Whether one of the [`STAND_INS`] is a part of the value.
fn holds_stand_in(value: &[u8], may_have_dots: bool) -> bool {
    // Made once: a searcher for each word and value would cost more than all else.
    static WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA));
        builder.build(STAND_INS).expect("the words are few")
    });
    // Most values have not even three letters of a word. Every second place is enough for a word of four.
    let (mut at, mut any) = (2, 0);
    while at < value.len() {
        let number = number_of(value[at - 2], value[at - 1], value[at]);
        any |= THREES[number / 64] >> (number % 64) & 1;
        at += 2;
    }
    let dots = || may_have_dots && memchr::memchr2(b'.', "…".as_bytes()[0], value).is_some();
    (any != 0 || dots()) && WORDS.find_iter(value).any(|word| !is_chance(value, word.range()))
}

/// The longest word that random letters hold by chance: `dK54FAgZtODOVm9`.
const MAX_CHANCE: usize = 6;

/// Whether letters of a random value only happen to be such a word: no sign and no change of case sets it apart.
fn is_chance(value: &[u8], word: Range<usize>) -> bool {
    let letters = &value[word.clone()];
    let apart = |at: usize| {
        let (before, behind) = (at.checked_sub(1).map(|at| value[at]), value.get(at).copied());
        let (Some(before), Some(behind)) = (before, behind) else { return true };
        !before.is_ascii_alphanumeric()
            || !behind.is_ascii_alphanumeric()
            || before.is_ascii_lowercase() && behind.is_ascii_uppercase()
    };
    let one_case = letters.iter().all(u8::is_ascii_uppercase) || letters[1..].iter().all(u8::is_ascii_lowercase);
    letters.len() <= MAX_CHANCE
        && letters.iter().all(u8::is_ascii_alphabetic)
        && !(one_case && (apart(word.start) || apart(word.end)))
        && is_random(value)
}

/// One bit for the first three bytes of each of the [`STAND_INS`], and for the three behind the first.
static THREES: [u64; 512] = {
    let (mut bits, mut nth) = ([0; 512], 0);
    while nth < STAND_INS.len() {
        let (word, mut from) = (STAND_INS[nth].as_bytes(), 0);
        while from < 2 && from + 3 <= word.len() {
            let number = number_of(word[from], word[from + 1], word[from + 2]);
            bits[number / 64] |= 1 << (number % 64);
            from += 1;
        }
        nth += 1;
    }
    bits
};

/// A number below 32,768 for three bytes, the same for both cases of a letter.
const fn number_of(first: u8, second: u8, third: u8) -> usize {
    (first & 0x1F) as usize | ((second & 0x1F) as usize) << 5 | ((third & 0x1F) as usize) << 10
}

/// The longest value that is searched for words of a placeholder.
const MAX_PLACEHOLDER: usize = 80;

fn is_stand_in_word(value: &[u8], kinds: &Kinds) -> bool {
    says_placeholder(value, kinds.has(kinds::MEMBER | kinds::FOREIGN))
        || kinds.digits == 0 && kinds.has(kinds::HYPHEN | kinds::BLANK) && names_a_secret(value)
        || value.len() <= 7
            && kinds.digits == 0
            && EXAMPLES.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

/// What people write where any value would do.
#[rustfmt::skip]
const EXAMPLES: &[&str] = &[
    "example", "sample", "test", "testing", "foo", "bar", "baz", "qux", "tbd", "blah", "abc", "xyz", "pass", "pw",
    "secret", "key", "user",
];

/// Words joined by underscores or hyphens of which one is `password` or the like: `use_strong_password_here`.
fn names_a_secret(value: &[u8]) -> bool {
    if !value.iter().all(|b| b.is_ascii_alphabetic() || b"_- ".contains(b)) {
        return false;
    }
    let named = |word: &[u8]| {
        ["password", "passwd", "secret", "token", "passphrase", "apikey", "key"]
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
    };
    let words = || value.split(|b| b"_- ".contains(b)).filter(|word| !word.is_empty());
    words().nth(1).is_some() && words().any(named)
}

/// Whether the value is a keyword, a type or a word for nothing.
pub fn is_keyword(value: &[u8]) -> bool {
    static WORDS: LazyLock<Words> = LazyLock::new(|| Words::of(NO_SECRETS.iter()));
    value.len() <= MAX_KEYWORD && WORDS.has(value)
}

/// Words in any case, by their first letter and their length.
struct Words([Vec<&'static [u8]>; 256]);

impl Words {
    fn of(all: impl Iterator<Item = &'static &'static str>) -> Words {
        let mut words = [const { Vec::new() }; 256];
        all.for_each(|word| words[place_of(word.as_bytes())].push(word.as_bytes()));
        Words(words)
    }

    fn has(&self, value: &[u8]) -> bool {
        !value.is_empty() && self.0[place_of(value)].iter().any(|word| value.eq_ignore_ascii_case(word))
    }
}

/// A number for the first letter of a word, in either case, and its length.
fn place_of(word: &[u8]) -> usize {
    usize::from(word[0] & 0x1F) | word.len().min(7) << 5
}

/// Passwords that people make of the word for one.
#[rustfmt::skip]
const CHOSEN: &[&[u8]] = &[
    b"supersecret", b"topsecret", b"verysecret", b"secretpassword", b"supersecretpassword", b"secretpass", b"rootpass",
    b"adminpass", b"masterpass", b"supersecure",
];

/// Whether the value is itself the name of a secret: `user_password`, `next_token`, `Ed25519PrivateKey`.
pub fn is_name_of_secret(value: &[u8]) -> bool {
    if CHOSEN.contains(&value) {
        return false;
    }
    // `Password1!` is a password: no name ends in a digit and signs.
    let signs = value.iter().rev().take_while(|b| b"!$#@%^&*?".contains(b)).count();
    if signs > 0 && value[..value.len() - signs].last().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let word =
        |b: &u8| b.is_ascii_alphabetic() || const { &ByteSet::of(b"_-.$@:?![]>&* ") }.has(b) || b.is_ascii_digit();
    let ends_in_digit = value.last().is_some_and(u8::is_ascii_digit);
    value.len() <= 64 && !ends_in_digit && value.iter().all(word) && classify(value).is_some()
        || value.closes_with(b"tokens")
        || value.closes_with(b"_id")
}

/// The most words of a passphrase.
const MOST_WORDS: usize = 8;

/// Whether the value is a sentence or a label, written for people.
pub fn is_prose(value: &[u8]) -> bool {
    is_prose_of(value, &Kinds::of(value))
}

/// The same for a value whose kinds of bytes are known.
pub fn is_prose_of(value: &[u8], kinds: &Kinds) -> bool {
    // `Password:` is a label, `x7Rq!mK2:` is a password.
    let one_word = || value.closes_with(b":") && (kinds.digits == 0 || kinds.upper == 0) || value.closes_with(b"...");
    if !kinds.has(kinds::BLANK) || value.iter().all(|b| b.is_ascii() && !b.is_ascii_whitespace()) {
        return one_word();
    }
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let words: Vec<&str> = text.split_whitespace().take(MOST_WORDS + 1).collect();
    if words.len() < 2 {
        return one_word();
    }
    let plain = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
    let known = words.iter().filter(|word| SENTENCE.contains(&plain(word).as_str())).count();
    let ends = value.last().is_some_and(|b| const { &ByteSet::of(b":.?!,") }.has(b));
    let capital = text.chars().next().is_some_and(char::is_uppercase);
    let has_digit = value.iter().any(u8::is_ascii_digit);
    known > 0
        || words.len() > MOST_WORDS
        || (ends && !has_digit)
        || (capital && !has_digit)
        || words.iter().any(|word| classify(plain(word).as_bytes()).is_some())
}

/// Whether a place in a file system, or what a shell fills in.
pub fn is_path(value: &[u8]) -> bool {
    let path =
        |rest: &[u8]| rest.iter().all(|b| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"/._-~ *") }.has(b));
    let is_path = match value {
        [b'/' | b'~' | b'.', rest @ ..] => {
            value.len() > 1 && path(rest) && (rest.contains(&b'/') || rest.iter().all(|b| !b.is_ascii_digit()))
        }
        [_, b':', b'\\', ..] => true,
        _ => false,
    };
    let shouts = || value.iter().filter(|b| b.is_ascii_uppercase() || b.is_ascii_digit()).count() * 3 > value.len();
    is_path && !(shouts() && is_random(value))
}

/// Whether the value is an expression of a program: a call, an attribute, an index, an operator.
pub fn is_expression(value: &[u8]) -> bool {
    let head =
        value.iter().take_while(|b| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"_.$:?!&*->") }.has(b)).count();
    let call = head > 0 && matches!(value.get(head), Some(b'(' | b'[' | b'{')) && !value[0].is_ascii_digit();
    call || is_attribute(value)
        || value.begins_with(b"(")
        || value.begins_with(b"!")
            && value.len() > 1
            && value[1..].iter().all(|b| b.is_ascii_alphabetic() || *b == b'_')
}

/// `a.b`, `a->b`, `a::b`, `a?.b`: words joined as programs join them.
pub fn is_attribute(value: &[u8]) -> bool {
    let joins = |b: &u8| const { &ByteSet::of(b".:>?-") }.has(b);
    let joined = memchr::memchr3_iter(b'.', b'>', b':', value)
        .any(|at| value[at] == b'.' || at > 0 && value[at - 1] == if value[at] == b'>' { b'-' } else { b':' });
    if !joined {
        return false;
    }
    let value = value.strip_prefix(b"$").unwrap_or(value);
    // `SignatureAlgorithm::Ecdsa`
    let of_path = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b':');
    if memchr::memmem::find(value, b"::").is_some_and(|at| at > 0) && value.iter().all(of_path) {
        return true;
    }
    let mut parts = value.split(joins).filter(|part| !part.is_empty()).peekable();
    parts.peek().is_some_and(|first| first.len() < value.len()) && parts.all(is_word_of_code)
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
    mixes(value, &Kinds::of(value))
}

/// The same for a value whose kinds of bytes are known.
pub fn mixes(value: &[u8], kinds: &Kinds) -> bool {
    // Letters of other scripts are letters.
    let foreign = if kinds.has(kinds::FOREIGN) { value.iter().filter(|b| !b.is_ascii()).count() } else { 0 };
    let letters = kinds.upper + kinds.lower + foreign;
    value.len() >= 4 && (letters > 0 && kinds.digits > 0 || kinds.has(kinds::SIGN) && letters + kinds.digits > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

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
