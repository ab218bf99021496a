//! Passwords and keys passed by position to calls that log in, connect, encrypt or sign.

use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;
use std::sync::LazyLock;

use super::literal::{Literal, literal};
use super::secret::{Role, may_be_secret};
use super::{CREDENTIAL, Class, Found, blanks, is_random};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::escapes::is_after_escape;
use crate::codec::redaction::names::is_name;
use crate::codec::redaction::reader::Reader;

/// Which argument is the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument {
    First,
    Second,
    Third,
    Fourth,
    Fifth,
    Last,
}

use Argument::{Fifth, First, Fourth, Last, Second, Third};

/// A call: how its name ends, in small letters, which argument is the secret, and what it must look like.
struct Call {
    name: &'static str,
    argument: Argument,
    class: Class,
    role: Role,
    /// Whether it must be an array of characters, as Java wants passwords.
    chars: bool,
}

const fn password(name: &'static str, argument: Argument) -> Call {
    Call { name, argument, class: Class::Password, role: Role::Assigned, chars: false }
}

/// A call with other uses too.
const fn perhaps(name: &'static str, argument: Argument) -> Call {
    Call { name, argument, class: Class::Password, role: Role::Beside, chars: false }
}

const fn key(name: &'static str, argument: Argument) -> Call {
    Call { name, argument, class: Class::Secret, role: Role::Assigned, chars: false }
}

/// A client of a service, which is given the token with which it logs in.
const fn token(name: &'static str, argument: Argument) -> Call {
    Call { name, argument, class: Class::Key, role: Role::Assigned, chars: false }
}

/// A call with many other uses.
const fn random(name: &'static str, argument: Argument) -> Call {
    Call { name, argument, class: Class::Key, role: Role::Beside, chars: false }
}

/// A call whose secret is `"x".toCharArray()`.
const fn chars(name: &'static str, argument: Argument) -> Call {
    Call { name, argument, class: Class::Password, role: Role::Assigned, chars: true }
}

/// Names that begin with a dot or a sign are whole words.
#[rustfmt::skip]
const CALLS: &[Call] = &[
    password("clientsecretcredential", Third), password("usernamepasswordcredential", Third), key("azurekeycredential", First),
    key("servicescredentials", First), perhaps("influxdbclient", Third), random("boto3.session", Second), password("pbkdf2", First),
    password("pbkdf2_hmac", Second), password("hashpw", First), password("pwd_context.verify", First), password("pwd_context.hash", First),
    password("reader.decrypt", First), password("yagmail.smtp", Second), password("modify_password", Last), password("wlan.connect", Second),
    password("sta_if.connect", Second), password("wifi.connect", Second), password("execute_kw", Third),
    password("common.authenticate", Third), key("userhandler", Second), key("telegramclient", Last), key("construct_event", Third), password("pdo->__construct", Third), password("mysqli->__construct", Third),
    password("getconnection", Third), password("mysqli", Third), password("^pdo", Third),
    password("withemailandpassword", Third), password("wifi.begin", Second), password("username_pw_set", Second),
    password("^minio", Third), password("db.auth", Second), password("mysql_connect", Third), password("mysqli_connect", Third), password("mysql.connect", Third),
    password("mysqldb.connect", Third), password("psycopg2.connect", Third), password("dbi->connect", Third), password("dbinterface.connect", Fourth),
    password("url.create", Third), password("smbconnection", Second), password("key_set_with_value", Third),
    password("cx_oracle.connect", Second), password("oracledb.connect", Second), password("ldap3.connection", Third),
    perhaps(".connect", Third), password("ldap_bind", Third), password("bind_s", Second), perhaps("^ftp", Third),
    password(".login", Second), perhaps("^login", Second), perhaps("authenticate", Second),
    password("req_auth_basic", Last), password("auth_basic", Second), password("basicauth", Second), password("basic_auth", Second), password("digestauth", Second),
    perhaps(".auth", Second), password("credentials.basic", Second), password("authtokens.basic", Second),
    password("plaincredentials", Second), password("passwordcredentials", Second), perhaps("credentials", Second),
    password("networkcredential", Second), password("pscredential", Second), perhaps("credential", Second),
    password("usernametoken", Second), password("passwordauthentication", Second), password("plainauth", Third), password("authprovider", Second),
    perhaps("create_user", Third), perhaps("create_superuser", Third), perhaps("createuser", Third),
    perhaps("add_password", Last), password("sym_encrypt", Last), password("sym_decrypt", Last),
    password("aes_encrypt", Last), password("aes_decrypt", Last), password("^crypt", First),
    password("sp_addlogin", Second), password("sp_addlinkedsrvlogin", Last), password("sp_password", Second), key("jwt.encode", Second),
    key("jwt.decode", Second), key("jwt.sign", Second), key("jwt.verify", Second), key("^fernet", First),
    chars(".load", Second), chars(".init", Second), chars(".store", Second), chars("getkey", Second),
    chars("pbekeyspec", First), chars("passwordprotection", First), chars("setkeyentry", Third),
    key("createhmac", Second), key("hmac.new", First), key("secretkeyspec", First), key("aes.new", First),
    token("^bot", First), token("telebot", First), token("telegrambot", First), token("^github", First),
    token("^gitlab", Second), token("bot.run", First), token("client.run", First), token("^openai", First),
    token("^groq", First), token("^anthropic", First), token("webclient", First), token("slackclient", First),
    token("tavilyclient", First), token("newsapiclient", First), token("sendgridapiclient", First),
    token("notionclient", First), token("inferenceclient", First), token("cohere.client", First),
    token("replicate.client", First), token("tweepy.client", First),
    password("hash::make", First), password("password_hash", First), 
    key("urlsafetimedserializer", First), key("urlsafeserializer", First),
    token("^s3", Third), perhaps("^mysql", Fifth), perhaps("^postgresql", Fifth),
    password("real_connect", Fourth), password("^sequelize", Third), key("cookieparser", First), key("oauthhandler", Second), key("oauth1handler", Second),
    random("^updater", First), random("^client", Second),
];

/// The calls by the last letter of their names.
static BY_LAST: LazyLock<[Vec<&'static Call>; 32]> = LazyLock::new(|| {
    let mut by_last = [const { Vec::new() }; 32];
    CALLS.iter().for_each(|call| by_last[usize::from(call.name.as_bytes()[call.name.len() - 1] & 0x1F)].push(call));
    by_last
});

/// Where the filter looks for these names, in the notation of shapes.
#[rustfmt::skip]
pub const CALL_WINDOWS: &[&str] = &[
    "nect(", "c_auth", "getco", "pdo(", "sqli(", "bind(", "ogin(", "cate(", "auth(", "asic(", "ials(", "tial(",
    "rdaut", "thpro", "user(", "dd_pa", "rypt(", "sp_ad", "sp_pa", "jwt.[edsv]", "ernet", "hmac(", "mac.n", "ftp(",
    "l.cre", "bconn", "th_va", "eyspe", "aes.n", "eparse", "ochar", "nd_s(", "3.con", "uthha", "th1ha",
    "word(", "egin(", "w_set", "inio(", "bot(", "thub(", "tlab(", "t.run", "h::ma", "d_has", "rlsaf", "s3([^)a-z]", "[ey]sql(", "enai(", "equel", "groq(", "opic(", "ient(",
    "o3.se", "kdf2", "hashp", "wd_co", "l.smt", "lan.c", "ta_if", "wifi.", "te_kw", "serha", "dater(", "metok", "uct_e", "o->__", "li->_",
];

/// How long the name of a call is at most, and how far its arguments are read.
const MAX_NAME: usize = 48;
const MAX_ARGUMENTS: usize = 400;
/// Arguments that are read.
const MOST: usize = 6;

/// The call whose name holds `at`, or that is given the array of characters there, and where its arguments begin.
fn call_at(text: &[u8], at: usize) -> Option<(&'static Call, usize)> {
    let at = if text.get(at..)?.begins_with(b"oCharArray") { call_around(text, at)? } else { at };
    let of_name = |b: &u8| is_name(*b) || const { &ByteSet::of(b".:>") }.has(b);
    let after = text.get(at..)?.iter().take(MAX_NAME).take_while(|b| of_name(b)).count();
    let before = text[..at].iter().rev().take(MAX_NAME).take_while(|b| of_name(b)).count();
    let (start, end) = (at - before, at + after);
    let name = &text[start..end];
    let last = name.last()?.to_ascii_lowercase();
    let open = match text.get(end)? {
        b'(' => end + 1,
        b' ' if name.len() > 3 && name[..3].eq_ignore_ascii_case(b"sp_") => end + 1,
        // `http.basic_auth 'bob', 'x'` of Ruby.
        b' ' if name.ends_with(b"basic_auth") && matches!(text.get(end + 1), Some(b'"' | b'\'' | b'\\')) => end + 1,
        _ => return None,
    };
    let ends_with = |word: &str| {
        let tail = name.len().checked_sub(word.len()).map(|head| &name[head..]);
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word.as_bytes()))
    };
    let whole = |word: &str| {
        let rest = &name[..name.len() - word.len()];
        rest.last().is_none_or(|b| !is_name(*b)) || is_after_escape(text, end - word.len())
    };
    let is = |call: &&&'static Call| match call.name.strip_prefix('^') {
        Some(word) => ends_with(word) && whole(word),
        None => ends_with(call.name) || call.name == ".connect" && ends_with(">connect"),
    };
    BY_LAST[usize::from(last & 0x1F)].iter().find(is).map(|call| (*call, open))
}

/// The last letter of the name of the call among whose arguments `at` stands.
fn call_around(text: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (back, byte) in text[..at].iter().rev().take(MAX_ARGUMENTS / 2).enumerate() {
        match byte {
            b')' => depth += 1,
            b'(' if depth == 0 => return (at - back).checked_sub(2),
            b'(' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Whether raw JSON may hold such a call: some argument of it is a text.
pub fn is_plausible_call(raw: &[u8], at: usize) -> bool {
    let Some((_, open)) = call_at(raw, at) else { return false };
    memchr::memchr2(b'"', b'\'', &raw[open..raw.len().min(open + MAX_ARGUMENTS)]).is_some()
}

/// Finds the secret among the arguments of the call whose name holds `at`.
pub fn call_values(reader: &Reader<'_>, at: usize, found: &mut Vec<Found>) {
    let text = reader.text;
    reader.charge(2 * MAX_NAME);
    let Some((call, open)) = call_at(text, at) else { return };
    if !reader.is_worth_a_line(at) {
        return;
    }
    if let Some(literal) = named_key(reader, call, open).or_else(|| plain_of_sasl(reader, call, open)) {
        let value = &text[literal.start..literal.end];
        if !(literal.formatted && value.contains(&b'{')) && may_be_secret(call.class, value, call.role) {
            let why = "the argument of a call that is a secret by its name";
            found.push(Found { range: literal.start..literal.end, rule: CREDENTIAL, why });
        }
        return;
    }
    let arguments = arguments(reader, open);
    let number =
        |nth: usize| arguments.get(nth).is_some_and(|one| text[one.range.clone()].iter().all(u8::is_ascii_digit));
    // `login("x")` is given a token.
    let alone = call.name.ends_with("login") && arguments.len() == 1;
    // `login("host", "bob", "x")`
    let of_host = call.name.ends_with("login") && arguments.len() == 3 && arguments.iter().all(Given::is_word_of(text));
    let nth = match call.argument {
        _ if alone => 0,
        _ if of_host => 2,
        First => 0,
        Second => 1,
        // A port may stand between the host and the user.
        Third if number(1) => 3,
        Third => 2,
        Fourth => 3,
        Fifth => 4,
        Last => arguments.len().wrapping_sub(1),
    };
    if call.name == "^crypt" && !arguments.get(1).is_some_and(|salt| text[salt.range.clone()].begins_with(b"gen_salt"))
    {
        return;
    }
    let Some(literal) = arguments.get(nth).and_then(|one| one.literal.as_ref()) else { return };
    if call.chars && !text[literal.after..].begins_with(b".toCharArray()") {
        return;
    }
    let value = &text[literal.start..literal.end];
    reader.charge(value.len().min(MAX_ARGUMENTS));
    // `login(request, "accounts/login.html")`
    let of_place = |b: &u8| b.is_ascii_lowercase() || b"./-".contains(b);
    if value.contains(&b'/') && (!is_random(value) || value.iter().all(of_place)) {
        return;
    }
    if !(literal.formatted && value.contains(&b'{'))
        && may_be_secret(if alone { Class::Token } else { call.class }, value, call.role)
    {
        let why = "the argument of a call that is a secret by its place";
        found.push(Found { range: literal.start..literal.end, rule: CREDENTIAL, why });
    }
}

/// `login(key="x")`, `jwt.decode(token, key="x")`
fn named_key(reader: &Reader<'_>, call: &Call, open: usize) -> Option<Literal> {
    let text = reader.text;
    let mut at = open;
    if call.name.starts_with("jwt.") {
        let reach = text.len().min(open + MAX_ARGUMENTS);
        let end = end_of_argument(text, open, reach);
        reader.charge((end - open) / 4);
        at = end + usize::from(text.get(end) == Some(&b','));
    } else if !call.name.ends_with("login") {
        return None;
    }
    let rest = text[at..].trim_ascii_start();
    literal(reader, text.len() - rest.strip_prefix(b"key=")?.len())
}

/// `authenticate('PLAIN', lambda x: b'\0bob\0x')`: what stands behind the last zero.
fn plain_of_sasl(reader: &Reader<'_>, call: &Call, open: usize) -> Option<Literal> {
    if call.name != "authenticate" {
        return None;
    }
    let text = reader.text;
    let reach = &text[open..text.len().min(open + MAX_ARGUMENTS)];
    reader.charge(MAX_ARGUMENTS / 16);
    let lambda = memchr::memmem::find(reach, b"lambda")?;
    let colon = lambda + memchr::memchr(b':', &reach[lambda..])?;
    let mut literal = literal(reader, blanks(text, open + colon + 1))?;
    let inside = &text[literal.start..literal.end];
    let behind = |zero: &[u8]| memchr::memmem::rfind(inside, zero).map(|at| at + zero.len());
    let behind = behind(b"\\0").max(behind(b"\\x00"))?;
    literal.start += behind;
    Some(literal)
}

/// An argument: where it stands, and the literal that it is or wraps.
struct Given {
    range: Range<usize>,
    literal: Option<Literal>,
}

impl Given {
    /// Whether an argument is a literal, and no path of a site.
    fn is_word_of(text: &[u8]) -> impl Fn(&Given) -> bool + '_ {
        |one| one.literal.as_ref().is_some_and(|literal| text.get(literal.start) != Some(&b'/'))
    }
}

/// The arguments up to the first that has a name.
fn arguments(reader: &Reader<'_>, mut at: usize) -> Vec<Given> {
    let (text, reach) = (reader.text, reader.text.len().min(at + MAX_ARGUMENTS));
    let space = |at: usize| at + text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
    let mut all = Vec::new();
    while all.len() < MOST && at < reach {
        let start = space(at);
        let wrapped = [&b"Some("[..], b"(ConvertTo-SecureString ", b"str("];
        let skip = wrapped.iter().find(|word| text[start..].starts_with(word)).map_or(0, |word| word.len());
        let literal = literal(reader, blanks(text, start + skip));
        let inside = literal.as_ref().map_or(start, |literal| literal.after.max(start));
        let end = end_of_argument(text, inside, reach);
        reader.charge(end.saturating_sub(start) / 4 + 4);
        let word = text[start..end].iter().take_while(|b| is_name(**b)).count();
        let named = literal.is_none() && word > 0 && matches!(text.get(blanks(text, start + word)), Some(b'=' | b':'));
        if named || end <= start {
            break;
        }
        all.push(Given { range: start..end, literal });
        if text.get(end) != Some(&b',') {
            break;
        }
        at = end + 1;
    }
    all
}

/// Where an argument ends: at the next comma or bracket of its call.
fn end_of_argument(text: &[u8], from: usize, reach: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in text[..reach].iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return at,
            b')' | b']' | b'}' => depth -= 1,
            b',' | b';' if depth == 0 => return at,
            _ => {}
        }
    }
    reach
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::redaction::tests::{engine, one};

    #[test]
    fn the_secret_of_every_call_is_found() {
        const SECRET: &str = "gT7rQ2mX9kLw4vB8";
        for call in CALLS {
            let name = call.name.strip_prefix('^').unwrap_or(call.name);
            let name = if name.starts_with('.') { format!("x{name}") } else { name.to_owned() };
            let secret = if call.chars { format!("\"{SECRET}\".toCharArray()") } else { format!("\"{SECRET}\"") };
            let before = match call.argument {
                First => 0,
                Second => 1,
                Third => 2,
                Fourth => 3,
                Fifth | Last => 4,
            };
            let mut arguments = vec!["\"bob\""; before];
            arguments.push(&secret);
            if call.name == "^crypt" {
                arguments.push("gen_salt('bf')");
            }
            let event = serde_json::json!({ "code": format!("{name}({})", arguments.join(", ")) }).to_string();
            assert!(!one(engine(), &event).contains(SECRET), "{event}");
        }
    }
}
