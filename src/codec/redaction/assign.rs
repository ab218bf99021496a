//! Values given to secret-looking names in text: `password=x`, `"token": "x"`, `--api-key x`, HTTP headers.

use std::ops::Range;

use super::finders::{is_after_escape, is_stand_in};
use super::keys::{Promise, promise};
use super::reader::Reader;
use super::rules::{AUTHORIZATION, CREDENTIAL};

/// Bytes around a name that are looked at, at most.
const NEARBY: usize = 300;
/// The ends that the reader remembers for this file.
const LINE_END: usize = 0;
const BARE_END: usize = 1;
const BEARER_END: usize = 2;
const QUOTE_END: usize = 3;

/// The longest name that is looked at.
const MAX_NAME: usize = 64;
/// How far back the beginning of a string is searched on a line.
const MAX_LINE: usize = 200;
/// The shortest value of a name that only may hold a secret.
const MIN_MAYBE: usize = 8;
/// The longest nested value that is taken whole.
const MAX_NESTED: usize = 512;

/// What programs write where a secret is absent or only described.
const NO_SECRETS: &[&str] = &[
    "none",
    "null",
    "nil",
    "undefined",
    "true",
    "false",
    "str",
    "string",
    "int",
    "bytes",
    "bool",
    "optional",
    "any",
    "self",
    "required",
    "secretstr",
    "text",
    "object",
    "number",
    "boolean",
    "is",
    "in",
    "not",
    "and",
    "or",
    "if",
    "lambda",
    "await",
    "yield",
    "return",
    "input",
    "getpass",
];

const SCHEMES: &[&str] = &["bearer", "basic", "token", "digest", "apikey", "negotiate", "aws4-hmac-sha256", "splunk"];

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The name around a place within it.
fn name_around(text: &[u8], at: usize) -> Range<usize> {
    let before = text[..at].iter().rev().take(MAX_NAME).take_while(|b| is_name(**b)).count();
    let after = text[at..].iter().take(MAX_NAME).take_while(|b| is_name(**b)).count();
    at - before..at + after
}

/// Whether raw JSON may hold an assignment or a secret member here; escapes are not decoded yet.
pub fn is_plausible(raw: &[u8], at: usize) -> bool {
    let mut name = name_around(raw, at);
    if !leads_to_value(raw, name.end) && !raw[name.clone()].starts_with(b"--") {
        return false;
    }
    let before = &raw[name.start.saturating_sub(12)..name.start];
    if name.start > 0 && raw[name.start - 1] == b'\\' {
        name.start += 1;
    }
    promise(&raw[name]).is_some() || memchr::memmem::find(before, b"u001b[").is_some()
}

/// Whether raw JSON may go on with `=`, `:` or something that hides one.
fn leads_to_value(raw: &[u8], mut at: usize) -> bool {
    while let Some(byte) = raw.get(at) {
        match byte {
            b'=' | b':' => return true,
            b'\\' if raw.get(at + 1) == Some(&b'u') => return true,
            b'\\' if matches!(raw.get(at + 1), Some(b'n' | b'r' | b't')) => at += 2,
            b' ' | b'"' | b'\'' | b'`' | b'\\' | b']' | b'?' => at += 1,
            _ => break,
        }
    }
    false
}

/// The value given to the secret-looking name around `at`, and the rule that takes it.
pub fn value(reader: &Reader<'_>, at: usize) -> Option<(Range<usize>, u16)> {
    let text = reader.text;
    reader.charge(NEARBY);
    let mut name = name_around(text, at);
    name.start += usize::from(is_after_escape(text, name.start + 1) && name.start < at);
    let promise = promise(&text[name.clone()])?;
    let mut at = name.end;
    let closing = count(text, at, b"\\\"'`]?");
    let named_by_string = text[at..at + closing].iter().any(|b| b"\"'`".contains(b));
    at = blanks(text, at + closing);
    let flag = text[name.start..].starts_with(b"--") && closing == 0 && at > name.end;
    let operator = match text.get(at..at + 2) {
        Some(b"=>" | b":=" | b"==" | b"!=") => 2,
        _ if matches!(text.get(at), Some(b'=' | b':')) => 1,
        _ if flag => 0,
        _ => return None,
    };
    let colon = operator == 1 && text[at] == b':';
    let typed = if colon { past_type(text, at + 1) } else { None };
    let place = Place { reader, text, name, named_by_string, colon, promise };
    // What looks like a type may be the value, if nothing stands where the value would.
    let value = typed.and_then(|equals| place.value(equals + 1)).or_else(|| place.value(at + operator))?;
    let rule = if promise == Promise::Authorization { AUTHORIZATION } else { CREDENTIAL };
    Some((value, rule))
}

/// The credentials behind a scheme that stands without its header: `Bearer abc…`.
pub fn bearer(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    reader.charge(NEARBY);
    // The filter looks for five letters, and the text may end behind them.
    if !text.get(at..at + "bearer".len()).is_some_and(|word| word.eq_ignore_ascii_case(b"bearer")) {
        return None;
    }
    let start = blanks(text, at + "bearer".len());
    if start == at + "bearer".len() || (at > 0 && text[at - 1].is_ascii_alphanumeric()) {
        return None;
    }
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b);
    let end = reader.end(BEARER_END, start, || start + text[start..].iter().take_while(|b| is_token(b)).count());
    let len = end - start;
    let value = &text[start..start + len];
    (len >= 16 && value.iter().any(u8::is_ascii_digit)).then_some(start..start + len)
}

fn count(text: &[u8], at: usize, of: &[u8]) -> usize {
    text.get(at..).unwrap_or_default().iter().take(16).take_while(|b| of.contains(b)).count()
}

fn blanks(text: &[u8], at: usize) -> usize {
    at + count(text, at, b" \t")
}

/// Where the `=` stands behind a type, as in `password: str = "x"`.
fn past_type(text: &[u8], at: usize) -> Option<usize> {
    let start = blanks(text, at);
    let len = text[start..].iter().take(48).take_while(|b| is_name(**b) || b"[]|. ".contains(b)).count();
    let equals = start + len;
    let two_words = |three: &[u8]| three[1] == b' ' && is_name(three[0]) && is_name(three[2]);
    let typed = len > 0 && text.get(equals) == Some(&b'=') && !text[start..equals].windows(3).any(two_words);
    (typed && text.get(start).is_some_and(u8::is_ascii_alphabetic) && text[equals - 1] == b' ').then_some(equals)
}

/// An opening quote: how many backslashes, prefix letters and quotes.
struct Quote {
    byte: u8,
    backslashes: usize,
    len: usize,
    triple: bool,
}

impl Quote {
    /// A number for each kind of quote, by which the reader remembers where it closes.
    fn kind(&self) -> usize {
        let byte = b"\"'`".iter().position(|byte| *byte == self.byte).unwrap_or(0);
        3 * if self.triple { 7 } else { self.backslashes.min(6) } + byte
    }
}

fn opening(text: &[u8], at: usize) -> Option<Quote> {
    let backslashes = count(text, at, b"\\").min(7);
    let prefix = if backslashes == 0 { count(text, at, b"fFrRbBuU").min(2) } else { 0 };
    let byte = *text.get(at + backslashes + prefix)?;
    if !b"\"'`".contains(&byte) {
        return None;
    }
    let first = at + backslashes + prefix;
    let triple = backslashes == 0 && text[first..].starts_with(&[byte; 3]);
    Some(Quote { byte, backslashes, len: backslashes + prefix + if triple { 3 } else { 1 }, triple })
}

struct Place<'a> {
    reader: &'a Reader<'a>,
    text: &'a [u8],
    name: Range<usize>,
    /// The name stands in quotes of its own, as in JSON.
    named_by_string: bool,
    colon: bool,
    promise: Promise,
}

impl Place<'_> {
    /// The value that stands behind an operator.
    fn value(&self, behind: usize) -> Option<Range<usize>> {
        let mut at = blanks(self.text, behind);
        if self.named_by_string && matches!(self.text.get(at), Some(b'\n' | b'\r')) {
            at += self.text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
        }
        let value = match opening(self.text, at) {
            Some(quote) => self.quoted(at, quote)?,
            None => self.bare(at)?,
        };
        (!value.is_empty()).then_some(value)
    }

    fn quoted(&self, at: usize, quote: Quote) -> Option<Range<usize>> {
        // Behind a quote that closes a string no word can begin, so there it opens one, whatever stands before.
        let opens = self.text.get(at + quote.len).is_some_and(u8::is_ascii_alphanumeric);
        if !self.named_by_string && !opens && self.is_inside_string(quote.byte) {
            return None;
        }
        let start = at + quote.len;
        let kind = QUOTE_END + quote.kind();
        let end = self.reader.end(kind, start, || start + closing(&self.text[start..], &quote));
        let mut range = start..end;
        if self.promise == Promise::Authorization {
            range.start = past_scheme(self.text, range.clone());
        }
        let value = &self.text[range.clone()];
        let enough = match self.promise {
            Promise::Maybe if !self.named_by_string => value.len() >= MIN_MAYBE && !value.contains(&b' '),
            Promise::Pwd => !is_path(value),
            _ => true,
        };
        (enough && !is_stand_in(value) && !is_word(value)).then_some(range)
    }

    /// Whether a string with this quote is open where the name stands, so that the next quote closes it.
    fn is_inside_string(&self, quote: u8) -> bool {
        let from = self.name.start.saturating_sub(MAX_LINE);
        let before = &self.text[from..self.name.start];
        // In nested JSON a line ends with an escape.
        let written = memchr::memmem::rfind(before, b"\\n").map_or(0, |at| at + 2);
        let line = &before[memchr::memrchr(b'\n', before).map_or(0, |at| at + 1).max(written)..];
        let mut open = false;
        for (at, byte) in line.iter().enumerate() {
            open ^= *byte == quote && (at == 0 || line[at - 1] != b'\\');
        }
        open
    }

    fn bare(&self, at: usize) -> Option<Range<usize>> {
        let first = *self.text.get(at)?;
        if self.promise == Promise::Cookie {
            let line = |b: &&u8| !b"\r\n\"'`".contains(b);
            let end = self.reader.end(LINE_END, at, || at + self.text[at..].iter().take_while(line).count());
            return (end - at > 2 && self.colon).then_some(at..end);
        }
        if self.named_by_string && matches!(first, b'{' | b'[') {
            self.reader.charge(MAX_NESTED);
            return nested(self.text, at);
        }
        let mut start = at;
        if self.promise == Promise::Authorization {
            start = past_scheme(self.text, at..self.text.len());
        }
        if is_template(&self.text[start..]) {
            return None;
        }
        let end = self.reader.end(BARE_END, start, || start + bare_len(&self.text[start..]));
        let value = &self.text[start..end];
        let meant = start > at || self.is_secret(value, end);
        (meant && !is_stand_in(value)).then_some(start..end)
    }

    /// Whether a value without quotes is meant itself, and is no variable, call or word of a sentence.
    fn is_secret(&self, value: &[u8], end: usize) -> bool {
        if value.is_empty() || is_word(value) || value[0] == b'-' || value.starts_with(b"=") {
            return false;
        }
        let has_digit = value.iter().any(u8::is_ascii_digit);
        let identifier = value.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_.".contains(b)).count();
        let next = value.get(identifier).or_else(|| self.text.get(end));
        let is_code = |part: &[u8]| !part.iter().any(u8::is_ascii_digit) || part.iter().any(|b| b"_.".contains(b));
        if identifier > 0 && matches!(next, Some(b'(' | b'[')) && is_code(&value[..identifier]) {
            return false;
        }
        if identifier == value.len() {
            let is_attribute = value.contains(&b'.') && !has_digit;
            if is_attribute || promise(value).is_some() {
                return false;
            }
        }
        match self.promise {
            Promise::Maybe => value.len() >= MIN_MAYBE && (has_digit || value.len() >= 20),
            Promise::Pwd if is_path(value) => false,
            _ if self.colon && !has_digit && value.iter().all(u8::is_ascii_alphabetic) => {
                let rest = blanks(self.text, end);
                self.named_by_string || matches!(self.text.get(rest), None | Some(b'\n' | b'\r'))
            }
            _ => true,
        }
    }
}

/// Whether something begins here that stands for a value: `${X}`, `$(cmd)`, `{x}`, `<x>`, `[x]`.
fn is_template(text: &[u8]) -> bool {
    match text {
        [b'{' | b'[' | b'(', ..] | [b'$', b'{' | b'(', ..] => true,
        [b'<', rest @ ..] => rest.iter().take(MAX_NAME).any(|b| *b == b'>'),
        _ => false,
    }
}

fn is_path(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'/' | b'~' | b'.' | b'$')) || value.get(1..3) == Some(b":\\")
}

fn is_word(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| NO_SECRETS.iter().any(|word| text.eq_ignore_ascii_case(word)))
}

/// How long the inside of a string is; one that is not closed ends with its line.
fn closing(rest: &[u8], quote: &Quote) -> usize {
    if quote.triple {
        return memchr::memmem::find(rest, &[quote.byte; 3]).unwrap_or(rest.len());
    }
    let mut backslashes = 0;
    for (at, byte) in rest.iter().enumerate() {
        match *byte {
            b'\n' => return at,
            b'\\' => backslashes += 1,
            byte => {
                let closes =
                    if quote.backslashes == 0 { backslashes % 2 == 0 } else { backslashes <= quote.backslashes };
                if byte == quote.byte && closes {
                    return at - backslashes.min(quote.backslashes);
                }
                backslashes = 0;
            }
        }
    }
    rest.len()
}

/// How long a value without quotes is.
fn bare_len(rest: &[u8]) -> usize {
    let ends_value = |at: usize| match rest.get(at) {
        None => true,
        Some(b) => b.is_ascii_whitespace() || b"\"'`\\<>;&,.:)]}".contains(b),
    };
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b if b.is_ascii_whitespace() => return at,
            b'"' | b'\'' | b'`' | b'\\' | b'<' | b'>' | b';' | b'&' => return at,
            b')' | b']' | b'}' if ends_value(at + 1) => return at,
            b',' if ends_value(at + 1) || begins_pair(&rest[at + 1..]) => return at,
            _ => {}
        }
    }
    rest.len()
}

/// Whether another `name=` or `name:` begins here.
fn begins_pair(text: &[u8]) -> bool {
    let name = text.iter().take(MAX_NAME).take_while(|b| is_name(**b) || **b == b'.').count();
    name > 0 && matches!(text.get(name), Some(b'=' | b':'))
}

/// Where the credentials begin behind `Bearer ` and its like.
fn past_scheme(text: &[u8], range: Range<usize>) -> usize {
    let rest = &text[range.clone()];
    let word = rest.iter().take(24).take_while(|b| is_name(**b)).count();
    let scheme = std::str::from_utf8(&rest[..word]).unwrap_or("");
    let known = SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if known && rest.get(word) == Some(&b' ') { blanks(text, range.start + word) } else { range.start }
}

/// An object or array to its end, or to where it is cut off.
fn nested(text: &[u8], at: usize) -> Option<Range<usize>> {
    let mut depth = 0;
    for (len, byte) in text[at..].iter().take(MAX_NESTED).enumerate() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return (len > 1).then_some(at..at + len + 1);
                }
            }
            _ => {}
        }
    }
    let cut = text.len().min(at + MAX_NESTED);
    let rest = text[cut..].iter().take_while(|b| **b & 0xC0 == 0x80).count();
    Some(at..cut + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of a text, seen from each place of a name in turn.
    fn taken(text: &str) -> Option<&str> {
        let lower = text.to_ascii_lowercase();
        ["passw", "pwd", "secret", "token", "key", "authoriz", "cookie"]
            .iter()
            .flat_map(|word| lower.match_indices(word))
            .find_map(|(at, _)| value(&Reader::new(text.as_bytes()), at))
            .map(|(range, _)| &text[range])
    }

    #[test]
    fn values_are_taken_in_the_forms_programs_write() {
        for (text, expected) in [
            ("host=db user=app password=S3cr42!x dbname=prod", "S3cr42!x"),
            ("password = 'hunter2'", "hunter2"),
            ("PGPASSWORD=hunter2 psql", "hunter2"),
            ("export DB_PASSWORD=\"p w\"", "p w"),
            (r#"{"password": "x"}"#, "x"),
            (r#"{\"password\":\"x y\"}"#, "x y"),
            (r#"{\\\"password\\\":\\\"xy\\\"}"#, "xy"),
            ("os.environ['SECRET_KEY'] = 'abc123def'", "abc123def"),
            ("password: str = \"hunter2\"", "hunter2"),
            ("password: hunter2", "hunter2"),
            ("mysql --password hunter2 -h db", "hunter2"),
            ("https://x.example/?access_token=abcdef123456&y=1", "abcdef123456"),
            ("Authorization: Bearer abc", "abc"),
            ("-H 'Authorization: Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
            ("Cookie: sid=1; b=2\r\nHost: x", "sid=1; b=2"),
            ("Server=x;Password=ab,c;User=y", "ab,c"),
            ("{password=abc,user=x}", "abc"),
            ("api_key => \"abcdefgh\"", "abcdefgh"),
            ("password=\"unclosed", "unclosed"),
            (r#"{"password": ["a", "b"]"#, r#"["a", "b"]"#),
            ("Authorization: Basic VHIwdWI0ZG9y =", "VHIwdWI0ZG9y"),
            ("password: hunter2 = ", "hunter2"),
            ("it's odd, api_key: 'Tr0ub4dor&3x'", "Tr0ub4dor&3x"),
        ] {
            assert_eq!(taken(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn code_and_prose_about_secrets_stay() {
        for text in [
            "password = getpass.getpass()",
            "token = os.environ['TOKEN']",
            "password = None",
            "def f(password: str):",
            "connect(password=password)",
            "connect(password=config.password)",
            "input(\"password: \")",
            "print('api_key: ' + api_key)",
            "Password: must be long",
            "password = f\"{password}\"",
            "token = next(tokens)",
            "for token in tokens:",
            "tokenizer.pad_token = tokenizer.eos_token",
            "max_token=100",
            "pwd = /home/x",
            "PWD=/srv",
            "password=${PASSWORD}",
            "token: the token to use",
            "password=***",
            "sort_key = 'abcdefgh'",
            "if token == 'cat':",
            "secret=",
            "password: Optional[str] = None",
        ] {
            assert_eq!(taken(text), None, "{text}");
        }
    }

    #[test]
    fn a_bearer_token_is_found_without_its_header() {
        let text = b"curl -H \"Bearer abcdef0123456789ABCDEF\"";
        assert_eq!(bearer(&Reader::new(text), 9), Some(16..38));
        assert_eq!(bearer(&Reader::new(b"Bearer {token}"), 0), None);
        assert_eq!(bearer(&Reader::new(b"bearer of bad news which is long"), 0), None);
    }
}
