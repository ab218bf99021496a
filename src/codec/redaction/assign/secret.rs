//! Whether a value can be the secret that its name announces.

use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::kinds::{self, Kinds};
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::{Class, classify};
use crate::codec::redaction::random::{RANDOM, is_random, is_wordlike, randomness_of};
use crate::codec::redaction::values::{
    is_attribute, is_expression, is_keyword, is_label_of_password, is_name_of_secret, is_path, is_prose_of, mixes,
    stands_in,
};

/// How a value stands to the name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A literal that the name is given.
    Assigned,
    /// The value of a member of an event.
    Member,
    /// A literal beside the name that may have nothing to do with it.
    Beside,
    /// A word without quotes where settings stand.
    Setting,
    /// A word without quotes in a sentence or a line of a log.
    Mention,
    /// A word without quotes that may be an expression.
    Word,
}

/// Letters and digits of a value that must be random where the name says little.
const VERY_RANDOM: usize = 16;

/// Digits that no program takes for a number: more than 64 bits hold.
pub const LONG_NUMBER: usize = 20;

/// What a value is shows in so many of its first bytes. Names may stand in each other's values, so that without a bound
/// the effort would grow with the square of a text's length.
pub const MAX_EXAMINED: usize = 128;

/// The part of a value that is examined.
pub fn beginning(value: &[u8]) -> &[u8] {
    let mut end = value.len().min(MAX_EXAMINED);
    while end > 0 && value.get(end).is_some_and(|byte| byte & 0xC0 == 0x80) {
        end -= 1;
    }
    &value[..end]
}

/// Whether the value is the secret that a name of this class announces.
pub fn may_be_secret(class: Class, value: &[u8], role: Role) -> bool {
    if value.len() > MAX_PHRASE && is_long_text(value.trim_ascii()) {
        return false;
    }
    let text = beginning(value).trim_ascii();
    let value = &Value { text, kinds: Kinds::of(text) };
    if value.has(kinds::LINE) || value.has(kinds::EQUALS) && is_named(text) {
        return false;
    }
    let signs = text.len() < 4 && value.kinds.alphanumeric() == 0 && !value.has(kinds::FOREIGN);
    if signs
        || is_invisible(text)
        || text.first() == Some(&b'\\') && is_sign_of_unicode(text)
        || stands_in(text, &value.kinds)
        || is_keyword(text)
        || value.has(kinds::OF_RULE) && is_rule(text)
        || value.has(kinds::OPENING | kinds::BLANK) && is_code(text)
    {
        return false;
    }
    // `1:4.13+dfsg1-1`, `v0.11.0-RC3`: the version of a package.
    if value.has(kinds::MEMBER) && matches!(role, Role::Word | Role::Mention) && is_version(text) {
        return false;
    }
    // Measured once: nearly every question below asks for it.
    let loose = randomness_of(text, &value.kinds);
    if !(loose >= RANDOM && value.kinds.digits > 0) && is_name_of_secret(text) {
        return false;
    }
    match class {
        Class::Password | Class::Short | Class::Pwd => password(class, value, loose, role),
        Class::Secret => secret(value, loose, role),
        Class::Key => key(value, loose, role),
        Class::Token | Class::Authorization | Class::Cookie => token(value, loose, role),
        Class::Weak => {
            role != Role::Beside
                && !value.is_expression()
                && !text.contains(&b' ')
                && loose >= VERY_RANDOM
                && loose * 10 >= value.kinds.alphanumeric() * 7
                && !is_place(value)
                && !is_digest(text)
        }
    }
}

/// `sha256:…`, which stands for what everybody may have.
fn is_digest(value: &[u8]) -> bool {
    [&b"sha256"[..], b"sha512", b"sha1", b"md5"]
        .iter()
        .any(|kind| value.strip_prefix(*kind).is_some_and(|rest| matches!(rest.first(), Some(b':' | b'-'))))
}

/// A value that is examined, and the kinds of its bytes.
struct Value<'a> {
    text: &'a [u8],
    kinds: Kinds,
}

impl Value<'_> {
    fn has(&self, kinds: u16) -> bool {
        self.kinds.has(kinds)
    }

    fn is_mixed(&self) -> bool {
        mixes(self.text, &self.kinds)
    }

    fn is_prose(&self) -> bool {
        is_prose_of(self.text, &self.kinds)
    }

    fn is_attribute(&self) -> bool {
        self.has(kinds::MEMBER) && is_attribute(self.text)
    }

    fn is_expression(&self) -> bool {
        // Few values have a sign without which no expression is.
        self.has(kinds::OPENING | kinds::OF_RULE | kinds::MEMBER | kinds::SIGN) && is_expression(self.text)
    }

    fn is_long_number(&self) -> bool {
        self.kinds.digits == self.text.len() && self.text.len() >= LONG_NUMBER
    }

    fn is_one_word(&self) -> bool {
        !self.has(kinds::BLANK) || !self.text.contains(&b' ')
    }
}

/// How many names are looked for in a value.
const MOST_NAMED: usize = 4;

/// `password=x`, `id=1;password=x`: the name within is nearer.
fn is_named(value: &[u8]) -> bool {
    memchr::memchr_iter(b'=', value).take(MOST_NAMED).any(|equals| {
        let from = value[..equals].iter().rposition(|b| const { &ByteSet::of(b";&, ") }.has(b)).map_or(0, |at| at + 1);
        equals - from > 2 && classify(&value[from..equals]).is_some()
    })
}

/// `\u3299\ufe0f`, `\U0001f336`: escapes of other scripts and nothing else.
fn is_sign_of_unicode(value: &[u8]) -> bool {
    let mut rest = value;
    while let [b'\\', kind @ (b'u' | b'U'), digits @ ..] = rest {
        let len = if *kind == b'u' { 4 } else { 8 };
        if digits.len() < len
            || !digits[..len].iter().all(u8::is_ascii_hexdigit)
            || digits.begins_with(b"00") && len == 4
        {
            return false;
        }
        rest = &digits[len..];
    }
    rest.is_empty()
}

/// Whether the value is nothing but characters without a width.
fn is_invisible(value: &[u8]) -> bool {
    let mut chunks = value.chunks_exact(3);
    value.first() == Some(&0xE2)
        && chunks.all(|char| matches!(char, [0xE2, 0x80, 0x8B..=0x8F | 0xAA..=0xAE] | [0xE2, 0x81, 0xA0..=0xA4]))
        && value.len().is_multiple_of(3)
}

fn password(class: Class, value: &Value<'_>, loose: usize, role: Role) -> bool {
    let (text, is_random) = (value.text, loose >= RANDOM);
    let relative = [&b"./"[..], b"../", b"~/"].iter().any(|begin| text.starts_with(begin));
    if is_path(text) && (class == Class::Pwd || relative || text.iter().filter(|b| **b == b'/').count() > 1) {
        return false;
    }
    // `PuttyPassword=0` switches something off.
    if matches!(text, b"0" | b"1") && role != Role::Member {
        return false;
    }
    if value.is_prose() || value.has(kinds::OF_RULE) && is_host(text) || class != Class::Password && is_place(value) {
        return false;
    }
    // `api.github.com/foo`
    let of_url = |b: &u8| b.is_ascii_lowercase() || b"./-_".contains(b);
    if value.has(kinds::SLASH) && text.contains(&b'.') && text.iter().all(of_url) {
        return false;
    }
    // `-Dpamconfdir=no`, `--dry-run`: an option of a command.
    if text[0] == b'-' && role != Role::Member && is_option(text) {
        return false;
    }
    // A version, or a number of an object: `1.2.840.113549`.
    if value.has(kinds::MEMBER)
        && text.iter().all(|b| b.is_ascii_digit() || *b == b'.')
        && memchr::memchr_iter(b'.', text).nth(1).is_some()
    {
        return false;
    }
    if is_label_of_password(text, &value.kinds) {
        return false;
    }
    match role {
        Role::Assigned | Role::Member => {
            let named = value.is_attribute() && !value.is_mixed();
            let letters = value.kinds.upper + value.kinds.lower == text.len();
            let short = class == Class::Short
                && (text.len() < 3 || letters && text.len() < 5 || value.kinds.digits == text.len() && text.len() < 4);
            !named && !short
        }
        Role::Beside if class == Class::Short => is_random,
        Role::Beside => {
            value.is_mixed() && text.len() >= 5 && value.is_one_word() && !value.is_expression() || is_random
        }
        Role::Setting => {
            !value.is_expression() && (class != Class::Short || value.is_mixed() || text.len() > 3) && !is_label(text)
        }
        Role::Mention if class == Class::Short && !is_random => false,
        // `Passwort vergessen?` asks, whatever the language.
        Role::Mention | Role::Word if is_exclaimed(text) => false,
        Role::Mention => (value.is_mixed() || is_random) && text.len() > 4 && !value.is_expression(),
        Role::Word => {
            (value.is_mixed() && !is_code_word(text) || is_random) && !value.is_expression() && !is_constant(text)
        }
    }
}

fn secret(value: &Value<'_>, loose: usize, role: Role) -> bool {
    let (text, is_random) = (value.text, loose >= RANDOM);
    let place = || is_place(value) || value.is_attribute();
    match role {
        Role::Assigned | Role::Setting => {
            let plain = value.kinds.alphanumeric() == text.len();
            let constant = role == Role::Setting && !is_random && is_constant(text);
            (is_random || value.is_mixed() || plain && text.len() > 4) && !constant && !value.is_prose() && !place()
        }
        Role::Member => !value.is_prose() && !place(),
        Role::Beside => is_random || value.is_mixed() && text.len() > 7 && value.is_one_word(),
        Role::Word | Role::Mention => is_random && !value.is_expression(),
    }
}

fn key(value: &Value<'_>, loose: usize, role: Role) -> bool {
    let (text, is_random) = (value.text, loose >= RANDOM);
    match role {
        Role::Member => {
            !value.is_prose()
                && !value.is_attribute()
                && !is_place(value)
                && (is_random || value.is_mixed() || text.len() < 6 || value.is_one_word() && !is_words(text))
        }
        Role::Assigned | Role::Setting => {
            value.is_one_word()
                && !value.is_attribute()
                && !is_place(value)
                && (role == Role::Assigned || is_random || !is_constant(text))
                && (is_random
                    || value.is_long_number()
                    || value.is_mixed() && text.len() >= 6 && (!is_words(text) || is_word_and_number(text)))
        }
        Role::Beside | Role::Word | Role::Mention => {
            is_random
                && value.is_one_word()
                && !value.is_expression()
                && !is_place(value)
                && (role == Role::Beside || !is_constant(text))
        }
    }
}

fn token(value: &Value<'_>, loose: usize, role: Role) -> bool {
    let (text, digits) = (value.text, value.kinds.digits);
    let enough = match role {
        Role::Assigned | Role::Member | Role::Setting => {
            loose >= RANDOM
                || value.is_mixed() && (digits > 2 && text.len() > 9 && !is_constant(text) || is_chosen(text, digits))
        }
        Role::Beside | Role::Word | Role::Mention => loose >= 12 && !value.is_expression(),
    };
    (enough && !is_artifact(text) || value.is_long_number())
        && value.is_one_word()
        && !value.is_attribute()
        && !is_place(value)
}

/// A package with its version: `jjwt-jackson-0.11.2`.
fn is_artifact(value: &[u8]) -> bool {
    let version = value.iter().rev().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    let (name, version) = value.split_at(value.len() - version);
    name.closes_with(b"-")
        && name.iter().all(|b| b.is_ascii_lowercase() || *b == b'-')
        && memchr::memchr_iter(b'.', version).count() > 1
}

/// One word, a sign and a number, as people make a password of a word: `qwerty-007`.
fn is_word_and_number(value: &[u8]) -> bool {
    let word = value.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let (word, rest) = value.split_at(word);
    let number = match rest {
        [b'_' | b'-' | b'.', number @ ..] => number,
        number => number,
    };
    let shouts = word.iter().all(u8::is_ascii_uppercase);
    word.len() > 3 && !shouts && number.len() > 1 && number.iter().all(u8::is_ascii_digit)
}

/// Whether a person may have chosen the value, and no program named something so: `manutd99`.
fn is_chosen(value: &[u8], digits: usize) -> bool {
    let signs = value.iter().filter(|b| b"!#$%&*".contains(b)).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let plain = value.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&*".contains(b));
    let named = value[0] == b'$' || value[0] == b'&' || value[0] == b'*' || is_constant(value);
    plain && !named && letters > 3 && value.len() > 7 && (digits > 1 || digits > 0 && signs > 0)
}

/// Whether the value has several lines, or is longer than any passphrase and is or ends in code.
fn is_long_text(value: &[u8]) -> bool {
    let head = &value[..value.len().min(MAX_EXAMINED)];
    let tail = &value[value.len().saturating_sub(MAX_EXAMINED)..];
    let phrase = || head.iter().all(|b| b.is_ascii_alphabetic() || *b == b' ');
    memchr::memchr2(b'\n', b'\r', head).is_some()
        || value.len() > MAX_PHRASE && (head.contains(&b' ') && !phrase() || is_code(tail))
}

/// The longest passphrase that has more than letters.
const MAX_PHRASE: usize = 64;
/// How much of what is called is read.
const MAX_CALLED: usize = 64;

/// Whether the value is code, which nobody may hide by calling it a password: a call, or words with signs of code.
pub fn is_code(value: &[u8]) -> bool {
    let close = memchr::memrchr(b')', value);
    let called = memchr::memchr_iter(b'(', value).any(|at| {
        let of_name = |b: &&u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.');
        let len = value[..at].iter().rev().take(MAX_CALLED).take_while(of_name).count();
        let name = &value[at - len..at];
        let closed = close.is_some_and(|close| close > at) || value.len() > MAX_EXAMINED / 2;
        closed && len > 3 && (name.contains(&b'.') || name.begins_with(b"__") || is_wordlike(name))
    });
    called || value.contains(&b' ') && value.iter().any(|b| const { &ByteSet::of(b";|=<>{}") }.has(b))
}

/// A rule for a value: `required|min:8`, `varchar(255)`, `^[a-z]+$`.
fn is_rule(value: &[u8]) -> bool {
    let head = value.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let more = matches!(value.get(head), Some(b'|' | b'(' | b':' | b'[' | b'<' | b',' | b'?'));
    let mut brackets = memchr::memchr_iter(b'[', value).map(|at| &value[at..]);
    let pattern = value.begins_with(b"^") && value.closes_with(b"$")
        || brackets.any(|rest| [&b"[a-z"[..], b"[A-Z", b"[0-9"].iter().any(|class| rest.starts_with(class)))
        || value.begins_with(b"(?");
    let alternatives = memchr::memchr(b'|', value).is_some()
        && value.split(|b| *b == b'|').all(|word| word.len() > 1 && word.iter().all(u8::is_ascii_alphabetic));
    head > 0 && more && is_keyword(&value[..head]) || pattern || alternatives
}

/// Where something is kept: `prod/db/password`, `#field`, `user@host`.
fn is_place(value: &Value<'_>) -> bool {
    let text = value.text;
    value.has(kinds::SLASH)
        && text.split(|b| !b.is_ascii_alphanumeric()).all(|word| word.len() < 24 && !is_random(word))
        && !text.contains(&b'+')
        && !text.closes_with(b"=")
        && !is_dense(value)
}

/// A host with its port: `proxy.example.com:3128`, `localhost:22`.
fn is_host(value: &[u8]) -> bool {
    let Some(colon) = memchr::memrchr(b':', value) else { return false };
    let (host, port) = (&value[..colon], &value[colon + 1..]);
    let label = |label: &[u8]| !label.is_empty() && label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    let named = host == b"localhost" || memchr::memchr(b'.', host).is_some();
    (1..=5).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
        && named
        && host.split(|b| *b == b'.').all(label)
}

/// Whether most pieces between slashes hold capitals, small letters and digits at once, as base64 does.
fn is_dense(value: &Value<'_>) -> bool {
    let Kinds { upper, lower, digits, .. } = value.kinds;
    upper * 6 > value.text.len() && lower * 6 > value.text.len() && digits > 0
}

/// Words joined by signs, without anything random: `my-app-2`, `db_credentials`.
fn is_words(value: &[u8]) -> bool {
    let mut letters = 0;
    let plain = value.split(|b| const { &ByteSet::of(b"_-./: ") }.has(b)).all(|word| {
        letters += usize::from(word.len() > 2 && word.iter().all(u8::is_ascii_alphabetic));
        word.len() < 3 && word.iter().all(u8::is_ascii_alphanumeric)
            || !is_random(word) && word.iter().all(u8::is_ascii_alphabetic)
            || word.iter().all(u8::is_ascii_digit) && word.len() < 5
    });
    plain && letters > 0
}

/// A name of a constant or a type (`WIN32_ERROR`, `RD_KAFKAP_Metadata`), a number in hexadecimal, or a pointer.
fn is_constant(value: &[u8]) -> bool {
    let word = match value {
        [b'0', b'x' | b'X', digits @ ..] => return digits.len() < 16 && digits.iter().all(u8::is_ascii_hexdigit),
        [b'*' | b'&' | b'@', rest @ ..] => rest,
        _ => value,
    };
    let pointer = word.len() < value.len() && word.iter().all(|b| b.is_ascii_alphabetic() || *b == b'_');
    let words = || word.split(|b| *b == b'_').filter(|part| !part.is_empty());
    let capital = |part: &[u8]| {
        let rest = &part[1..];
        part[0].is_ascii_uppercase()
            && (rest.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                || rest.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
    };
    let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
    // `MATCH_2024`: words that shout, and a number behind them.
    let number = |part: &[u8]| {
        // `BASE64`, `SHA256`
        let word = part.iter().take_while(|b| b.is_ascii_uppercase()).count();
        let digits = &part[word..];
        digits.len() < 5 && matches!(word, 0 | 3..) && digits.iter().all(u8::is_ascii_digit)
    };
    let shouts = || {
        words().next().is_some_and(|first| first.len() > 2 && first.iter().all(u8::is_ascii_uppercase))
            && words().all(|part| part.iter().all(u8::is_ascii_uppercase) || number(part))
    };
    pointer
        || words().nth(1).is_some() && shouts()
        || words().nth(1).is_some() && words().all(capital) && digits * 4 < word.len()
}

/// `-W`, `--dry-run`, `-Dx=no`
fn is_option(value: &[u8]) -> bool {
    let name = value.strip_prefix(b"--").unwrap_or(&value[1..]);
    let len = name.iter().take_while(|b| b.is_ascii_lowercase() || **b == b'-').count();
    let short = name.len() == 1 && name[0].is_ascii_alphabetic();
    let set = |rest: &[u8]| rest.is_empty() || rest[0] == b'=';
    short || name.first().is_some_and(u8::is_ascii_alphabetic) && set(&name[len.max(1)..]) || {
        let len = name.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        len > 1 && name.get(len) == Some(&b'=') && name[len + 1..].iter().all(u8::is_ascii_alphabetic)
    }
}

/// A number, dots and numbers, and then what versions have.
fn is_version(value: &[u8]) -> bool {
    let value = value.strip_prefix(b"v").unwrap_or(value);
    let epoch = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let value = if value.get(epoch) == Some(&b':') && epoch > 0 { &value[epoch + 1..] } else { value };
    let numbers = value.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    let dots = memchr::memchr_iter(b'.', &value[..numbers]).count();
    dots > 0 && value[0].is_ascii_digit() && matches!(value.get(numbers), None | Some(b'+' | b'-' | b'~'))
}

/// One word of letters and the sign of a question or call behind it.
fn is_exclaimed(value: &[u8]) -> bool {
    let word = value.strip_suffix(b"?").or_else(|| value.strip_suffix(b"!")).unwrap_or_default();
    !word.is_empty() && word.iter().all(|b| b.is_ascii_alphabetic() || *b >= 0x80)
}

/// A word that people write behind a label: a capital and small letters only.
fn is_label(value: &[u8]) -> bool {
    value[0].is_ascii_uppercase()
        && value.len() > 1
        && value[1..].iter().all(|b| b.is_ascii_lowercase())
        && value.len() > 12
}

/// An identifier with a number at its end, as programs name variables: `pw1`, `x2`.
fn is_code_word(value: &[u8]) -> bool {
    let digits = value.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let word = &value[..value.len() - digits];
    // `Welcome1`: no variable of a program has a capital and six small letters in front of a number.
    let chosen = digits > 0
        && word.len() > 6
        && word[0].is_ascii_uppercase()
        && word[1..].iter().all(u8::is_ascii_lowercase)
        && is_wordlike(word);
    digits < 3 && !word.is_empty() && !chosen && word.iter().all(|b| b.is_ascii_alphabetic() || b"_.".contains(b))
}

/// Whether a person may have chosen the few letters and digits, where nothing but a value can stand: `token=hunter2`.
pub fn is_short_choice(value: &[u8]) -> bool {
    // What names repeat in a long word is no choice, and reading it for each of them would take too long.
    if !(6..=24).contains(&value.len()) {
        return false;
    }
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().take_while(|b| b.is_ascii_alphabetic() || **b >= 0x80).count();
    value.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$*@".contains(b) || *b >= 0x80)
        && letters > 3
        && digits > 0
        && !TECHNICAL.iter().any(|word| value.len() >= word.len() && value[..word.len()].eq_ignore_ascii_case(word))
}

/// How words begin that are names of techniques and of versions.
const TECHNICAL: &[&[u8]] =
    &[b"oauth", b"base", b"utf", b"version", b"latin", b"argon", b"blowfish", b"unicode", b"page"];

/// How the names of types end that hold secrets.
const TYPES: &[&[u8]] = &[
    b"Str",
    b"String",
    b"Bytes",
    b"Type",
    b"Types",
    b"Key",
    b"KeyTypes",
    b"Token",
    b"Field",
    b"Option",
    b"Config",
    b"Provider",
    b"Credentials",
    b"Options",
];

/// `PhantomPinned`: words of letters, each with a capital, and nothing else.
pub fn is_camel(value: &[u8]) -> bool {
    let capitals = value.iter().filter(|b| b.is_ascii_uppercase()).count();
    let first = value.first().is_some_and(u8::is_ascii_uppercase);
    first && (2..=value.len() / 3).contains(&capitals) && value.iter().all(u8::is_ascii_alphabetic)
}

/// `SecretStr`, `_TriStateType`, `PKCS7PrivateKeyTypes`
pub fn is_type(value: &[u8]) -> bool {
    let value = value.strip_prefix(b"_").unwrap_or(value);
    let begins = value.len() > 6 && value[0].is_ascii_uppercase();
    begins
        && value.iter().any(u8::is_ascii_lowercase)
        && TYPES.iter().any(|end| {
            let head = value.strip_suffix(*end);
            head.and_then(<[u8]>::last).is_some_and(|before| before.is_ascii_lowercase() || before.is_ascii_digit())
        })
}
