//! HTTP headers: `Authorization` with its schemes, `Cookie` with its values, and bare schemes.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::literal::literal;
use super::operator::{Sign, operator};
use super::secret::{Role, is_code, may_be_secret};
use super::{Class, Finder, Found, blanks};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::escapes::is_after_escape;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::is_name;
use crate::codec::redaction::random::is_random;
use crate::codec::redaction::reader::Reader;
use crate::codec::redaction::values::{is_mixed, is_placeholder, is_stand_in, is_template};

/// Schemes of authorization that are known; others need credentials that look random.
#[rustfmt::skip]
const SCHEMES: &[&str] = &[
    "bearer", "basic", "token", "digest", "apikey", "negotiate", "aws4-hmac-sha256", "splunk", "ssws", "geniekey",
    "key", "oauth", "hmac", "sharedkey", "sharedkeylite", "jwt", "hawk", "ntlm", "aws", "goog4-rsa-sha256", "mac",
    "dpop", "bot", "discogs", "api-key", "apitoken", "sso-key", "signature",
];
/// The number of the end that a reader remembers for credentials.
const CREDENTIALS_END: usize = 5;
const COOKIE_END: usize = 6;

impl Finder<'_, '_> {
    /// The credentials of an `Authorization` header, behind its scheme.
    pub(super) fn authorization(&self) -> Vec<Found> {
        let mut pair = Vec::new();
        self.named_pair(&mut pair);
        if !pair.is_empty() {
            return pair;
        }
        let Some(operator) = operator(self.reader, &self.name) else { return Vec::new() };
        if matches!(operator.sign, Sign::Call | Sign::Tag | Sign::Cell) {
            return Vec::new();
        }
        let at = self.past_blanks(&operator);
        // `Authorization=[Bearer x]`, `"authorization": ["Bearer x"]`
        let listed = self.text.get(at) == Some(&b'[');
        let at = at + usize::from(listed);
        let quoted = literal(self.reader, at).filter(|literal| self.opens(literal));
        let range = match &quoted {
            Some(literal) if literal.formatted && self.text[literal.start..literal.end].contains(&b'{') => {
                return Vec::new();
            }
            Some(literal) => literal.start..literal.end,
            None => at..self.reader.line_end(at),
        };
        if operator.sign == Sign::Space && quoted.is_none() || operator.sign == Sign::Comma && quoted.is_none() {
            return Vec::new();
        }
        let (credentials, known) = self.past_scheme(range.clone());
        if credentials.is_empty() {
            return Vec::new();
        }
        // `Digest a="b", response="x"`, `AWS4-HMAC-SHA256 Credential=…, Signature=x`: the fields have names of their own.
        let value = &self.text[credentials.clone()];
        let fields = |name: &[u8]| {
            let place = memchr::memmem::find(&value[..value.len().min(1024)], name)?;
            let start = credentials.start + place + name.len();
            let start = start + self.text[start..].iter().take(3).take_while(|b| b"\\\"'".contains(b)).count();
            let end = self.credentials_end(start);
            (end > start + 3).then(|| self.found(start..end, "the signature of a header"))
        };
        if known {
            let found: Vec<Found> = [&b"response="[..], b"Signature=", b"signature=", b"mac=", b"Token=", b"token="]
                .iter()
                .filter_map(|name| fields(name))
                .collect();
            if !found.is_empty() {
                return found;
            }
        }
        let end = if quoted.is_some() {
            credentials.end
        } else {
            self.credentials_end(credentials.start).min(credentials.end)
        };
        let end = match &self.text[credentials.start..end] {
            [value @ .., b']'] if listed && quoted.is_none() => credentials.start + value.len(),
            _ => end,
        };
        let value = &self.text[credentials.start..end];
        let taken = match (known, quoted.is_some()) {
            (true, true) => !is_code(value) && !is_template(value) && !is_placeholder(value) && !value.contains(&b' '),
            (true, false) => {
                // `token="x"`: not the padding of base64.
                let name = value.strip_suffix(b"=").unwrap_or_default();
                let field = !name.is_empty()
                    && name.iter().all(|b| b.is_ascii_alphabetic() || b"_-".contains(b))
                    && !is_random(name)
                    && matches!(self.text.get(end), Some(b'"' | b'\\'));
                // `f"Bearer {token}"`: what a program or a reader fills in has blanks and brackets of its own.
                let filled = matches!(value, [b'{' | b'<' | b'[', ..] | [b'$', b'{' | b'(', ..]);
                let expression = filled || is_template(value) || is_placeholder(value) || value.contains(&b'(');
                !expression && !value.is_empty() && !field
            }
            (false, true) => may_be_secret(Class::Key, value, Role::Assigned),
            (false, false) => {
                let header =
                    operator.sign == Sign::Colon && credentials.start == range.start && self.name.quotes.is_none();
                may_be_secret(Class::Key, value, if header { Role::Setting } else { Role::Word })
            }
        };
        if taken { vec![self.found(credentials.start..end, "credentials behind a scheme")] } else { Vec::new() }
    }

    /// Where credentials begin, and whether a known scheme precedes them.
    pub(super) fn past_scheme(&self, range: Range<usize>) -> (Range<usize>, bool) {
        let rest = &self.text[range.clone()];
        let word = rest.iter().take(24).take_while(|b| is_name(**b)).count();
        let scheme = String::from_utf8_lossy(&rest[..word]).to_ascii_lowercase();
        let known = SCHEMES.contains(&scheme.as_str());
        let space = matches!(rest.get(word), Some(b' ' | b'+')) || rest[word..].begins_with(b"%20");
        let next = range.start + word + if rest[word..].begins_with(b"%20") { 3 } else { 1 };
        let more =
            rest.get(word + 1).is_some_and(|b| b.is_ascii_graphic() && !const { &ByteSet::of(b"=|&<>\"'") }.has(b));
        if word > 1 && space && (known || more) {
            return (blanks(self.text, next).min(range.end)..range.end, known);
        }
        (range, false)
    }

    fn credentials_end(&self, at: usize) -> usize {
        let stop = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`\\<>,;)}&") }.has(b);
        self.reader
            .end(CREDENTIALS_END, at, || at + self.text[at..].iter().position(stop).unwrap_or(self.text.len() - at))
    }

    /// The values of the cookies in a header.
    pub(super) fn cookie(&self) -> Vec<Found> {
        // A name within a list of cookies is one of them.
        if self.name.range.start < self.reader.cookies_end.get() {
            return Vec::new();
        }
        let Some(operator) = operator(self.reader, &self.name) else { return Vec::new() };
        let at = self.past_blanks(&operator);
        if !matches!(operator.sign, Sign::Colon | Sign::Assign | Sign::Comma) {
            return Vec::new();
        }
        let quoted = literal(self.reader, at).filter(|literal| self.opens(literal));
        let range = match &quoted {
            Some(literal) if literal.formatted && self.text[literal.start..literal.end].contains(&b'{') => {
                return Vec::new();
            }
            Some(literal) => literal.start..literal.end,
            None if operator.sign == Sign::Colon || self.name.range.len() < 12 && !operator.spaced => {
                at..self.cookie_end(at)
            }
            None => return Vec::new(),
        };
        let found = self.cookies(range);
        found.into_iter().map(|range| self.found(range, "the value of a cookie")).collect()
    }

    fn cookie_end(&self, at: usize) -> usize {
        let stop = |b: &u8| const { &ByteSet::of(b"\r\n\"'`\\") }.has(b);
        self.reader.end(COOKIE_END, at, || at + self.text[at..].iter().position(stop).unwrap_or(self.text.len() - at))
    }

    /// The values in `a=1; sid=x; Path=/` that say who somebody is; nothing if it is no list of cookies.
    fn cookies(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let (text, mut at, mut found, mut pairs) = (self.text, range.start, Vec::new(), 0);
        while at < range.end {
            let head = &text[at..range.end.min(at + MAX_COOKIE_NAME)];
            self.reader.charge(head.len());
            let stop = memchr::memchr2(b'=', b';', head);
            let name = head[..stop.unwrap_or(head.len())].trim_ascii();
            let equals = stop.filter(|stop| head[*stop] == b'=');
            let is_token = |b: &u8| is_name(*b) || const { &ByteSet::of(b".!#$%^*+|~[]") }.has(b);
            let is_whole = stop.is_some() || at + head.len() == range.end;
            if !is_whole || !name.iter().all(is_token) {
                // What follows is no cookie.
                break;
            }
            let end = memchr::memchr(b';', &text[at..range.end]).map_or(range.end, |len| at + len);
            pairs += usize::from(!name.is_empty() || equals.is_some());
            self.reader.charge(end - at);
            self.reader.cookies_end.set(end);
            if let Some(equals) = equals {
                found.extend(cookie(text, name, at + equals + 1..end, end == range.end));
            }
            at = end + 1;
        }
        if pairs == 0 { Vec::new() } else { found }
    }
}

/// The longest name of a cookie.
const MAX_COOKIE_NAME: usize = 128;

/// Attributes of cookies, and cookies that hide nothing.
#[rustfmt::skip]
const ATTRIBUTES: &[&str] = &[
    "path", "domain", "expires", "max-age", "samesite", "httponly", "secure", "priority", "lang", "locale",
    "theme", "version", "partitioned", "tz", "timezone",
];

/// The value of a cookie within a range, if it says who somebody is.
fn cookie(text: &[u8], name: &[u8], range: Range<usize>, is_last: bool) -> Option<Range<usize>> {
    let Range { start, end } = range;
    let stop = |b: &u8| b.is_ascii() && !b.is_ascii_graphic() || const { &ByteSet::of(b"\"'`<>(){}\\,") }.has(b);
    let len = text[start..end].iter().position(stop).unwrap_or(end - start);
    let value = &text[start..start + len];
    let attribute = ATTRIBUTES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    let whole = is_last || text[start + len..end].trim_ascii().is_empty();
    let telling = len > 3 && (!is_plain_word(value) || is_session(name));
    (!attribute && whole && telling && !is_stand_in(value)).then_some(start..start + len)
}

/// Whether a cookie of this name says who somebody is.
fn is_session(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    [&b"sess"[..], b"sid", b"token", b"auth", b"login", b"jwt"]
        .iter()
        .any(|word| memchr::memmem::find(&name, word).is_some())
}

fn is_plain_word(value: &[u8]) -> bool {
    value.iter().all(|b| b.is_ascii_alphabetic() || *b == b'.' || *b == b'_') && !is_random(value)
}

/// How long credentials are that are only letters.
const MIN_LETTERS: usize = 20;

/// The credentials behind a scheme that stands without its header: `Bearer abc…`.
pub fn bearer(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    reader.charge(16);
    // The filter looks for five letters, and the text may end behind them.
    if !text.get(at..at + "bearer".len()).is_some_and(|word| word.eq_ignore_ascii_case(b"bearer")) {
        return None;
    }
    let behind = at + "bearer".len();
    let mut start = blanks(text, behind);
    if start == behind && text[behind..].begins_with(b"%20") {
        start = behind + 3;
    }
    if text[behind..].begins_with(b", ") {
        start = behind + 2;
    }
    // `paste("Bearer", "x")`
    if let Some([quote @ (b'"' | b'\''), b',', b' ', opens]) = text.get(behind..behind + 4)
        && quote == opens
    {
        start = behind + 4;
    }
    if start == behind || (at > 0 && text[at - 1].is_ascii_alphanumeric()) {
        return None;
    }
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"-._~+/=") }.has(b);
    let end = reader.end(7, start, || start + text[start..].iter().take_while(|b| is_token(b)).count());
    let value = &text[start..end];
    (value.len() >= 12 && is_random(value) && (is_mixed(value) || value.len() >= MIN_LETTERS)).then_some(start..end)
}

/// The longest credentials that are decoded.
const MAX_BASIC: usize = 512;

/// The credentials behind `Basic` without its header: base64 of a user, a colon and a password.
pub fn basic(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    let start = at + "basic ".len();
    let begins = at == 0 || !text[at - 1].is_ascii_alphanumeric() || is_after_escape(text, at);
    if !begins || text.get(start - 1) != Some(&b' ') {
        return None;
    }
    let rest = &text[start..text.len().min(start + MAX_BASIC)];
    let len = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"+/".contains(b)).count();
    let padding = rest[len..].iter().take(2).take_while(|b| **b == b'=').count();
    reader.charge(len / 4);
    let said = BASE64.decode(&rest[..len]).ok().filter(|_| len >= MIN_BASIC)?;
    let colon = memchr::memchr(b':', &said)?;
    let printed = said.iter().all(|b| b.is_ascii_graphic() || *b == b' ' || *b >= 0x80);
    let whole = !rest.get(len + padding).is_some_and(u8::is_ascii_alphanumeric);
    (colon > 0 && printed && whole && std::str::from_utf8(&said).is_ok()).then_some(start..start + len + padding)
}

/// The fewest letters that hold a user and a password.
const MIN_BASIC: usize = 8;

/// Base64 with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);
