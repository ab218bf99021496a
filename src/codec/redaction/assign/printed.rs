//! Values as programs print and forms send them: lists of one word, dumps of variables, parts of a form, elements whose
//! signs are entities, accounts in lines, and words beside the user that they belong to.

use std::ops::Range;

use super::chosen::is_chosen;
use super::literal::literal;
use super::operator::{Operator, Sign};
use super::secret::Role;
use super::{Class, Finder, Found, blanks};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::context::Kind;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::is_name;
use crate::codec::redaction::values::{is_mixed, is_stand_in};

/// The longest value that is looked for.
const MAX_VALUE: usize = 128;
/// How far in front of a name the user is looked for.
const MAX_BEFORE: usize = 64;
/// Bytes of a line around a value in which the parentheses of a call are looked for.
const MAX_ARGUMENTS: usize = 128;
/// Lines below `chpasswd:` that are read.
const MAX_ACCOUNTS: usize = 6;
/// Names of users.
const USERS: &[&[u8]] = &[b"user", b"username", b"login", b"userid", b"user_name", b"account", b"uid"];
/// What programs call a user instead of naming one.
#[rustfmt::skip]
const VARIABLES: &[&[u8]] = &[
    b"user", b"username", b"login", b"name", b"email", b"usr", b"uname", b"str", b"string", b"none", b"null", b"nil", b"true",
    b"false", b"required", b"optional", b"text", b"self", b"me", b"id", b"account", b"userid", b"uid", b"value", b"row", b"data",
];

/// Names of keys of services, without what joins their words.
const KEYS: &[&[u8]] = &[
    b"apikey",
    b"secretkey",
    b"accesskey",
    b"accesstoken",
    b"authtoken",
    b"refreshtoken",
    b"sastoken",
    b"apitoken",
    b"authkey",
    b"masterkey",
    b"encryptionkey",
];

/// Whether a name ends with a word in small letters, whatever joins its parts.
fn ends_with(name: &[u8], word: &[u8]) -> bool {
    let mut letters = name.iter().rev().filter(|b| b.is_ascii_alphanumeric());
    word.iter().rev().all(|letter| letters.next().is_some_and(|b| b.to_ascii_lowercase() == *letter))
}

impl Finder<'_, '_> {
    /// What the signs right behind a name tell.
    pub(super) fn printed(&self) -> Option<Found> {
        match self.text.get(self.name.end)? {
            b'&' => self.element_of_entities(),
            b'\n' | b'\r' => self.part_of_form(),
            b']' if self.name.quotes.is_some() => self.dumped(),
            _ => None,
        }
    }

    /// `&lt;password&gt;x&lt;/password&gt;`
    #[inline(never)]
    fn element_of_entities(&self) -> Option<Found> {
        let text = self.text;
        let start = self.name.end + 4;
        let before = &text[self.start().saturating_sub(24)..self.start()];
        let prefix = before.iter().rev().take_while(|b| is_name(**b) || **b == b':').count();
        if !text[self.name.end..].begins_with(b"&gt;") || !before[..before.len() - prefix].closes_with(b"&lt;") {
            return None;
        }
        let rest = &text[start..text.len().min(start + MAX_VALUE)];
        let len = memchr::memchr2(b'&', b'\n', rest).filter(|len| rest[*len..].begins_with(b"&lt;/"))?;
        let taken = self.may_be(&rest[..len], Role::Setting);
        taken.then(|| self.found(start..start + len, "the text of an element"))
    }

    /// `Content-Disposition: form-data; name="password"`, an empty line and the value.
    #[inline(never)]
    fn part_of_form(&self) -> Option<Found> {
        let text = self.text;
        self.name.quotes?;
        let line = &text[self.start().saturating_sub(MAX_BEFORE)..self.start()];
        let line = &line[memchr::memrchr(b'\n', line).map_or(0, |at| at + 1)..];
        if !line.closes_with(b"name=") || memchr::memmem::find(line, b"form-data").is_none() {
            return None;
        }
        let rest = &text[self.name.end..];
        let gap = match rest {
            [b'\n', b'\n', ..] => 2,
            [b'\r', b'\n', b'\r', b'\n', ..] => 4,
            _ => return None,
        };
        let start = self.name.end + gap;
        let value = &text[start..self.reader.line_end(start).min(start + MAX_VALUE)];
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        self.may_be(value, Role::Setting).then(|| self.found(start..start + value.len(), "a part of a form"))
    }

    /// `["password"]=>` and on the next line `string(9) "x"`, as PHP dumps a variable.
    #[inline(never)]
    fn dumped(&self) -> Option<Found> {
        let rest = self.text[self.name.end..].strip_prefix(b"]=>")?;
        let gap = rest.iter().take(32).take_while(|b| b.is_ascii_whitespace()).count();
        let typed = rest[gap..].strip_prefix(b"string(")?;
        let digits = typed.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
        let at = self.name.end + 3 + gap + 7 + digits;
        let one = self.text[at..].begins_with(b") ").then(|| literal(self.reader, at + 2)).flatten()?;
        let value = &self.text[one.start..one.end];
        self.may_be(value, Role::Assigned).then(|| self.found(one.start..one.end, "a variable that is dumped"))
    }

    /// `password=[x]` of Java, `password:[x]` of Go, and `{{ 'x' | password_hash('sha512') }}` of Ansible.
    #[inline(never)]
    pub(super) fn listed(&self, at: usize, operator: &Operator) -> Option<Found> {
        let rest = &self.text[at..];
        if rest.begins_with(b"{{") && matches!(operator.sign, Sign::Assign | Sign::Colon) {
            let Some(one) = literal(self.reader, blanks(self.text, at + 2)) else {
                return self.stood_in(&(at..self.reader.line_end(at)));
            };
            let behind = &self.text[blanks(self.text, one.after)..];
            let filled = behind.begins_with(b"|") && !behind.begins_with(b"||") || behind.begins_with(b"}}");
            let value = &self.text[one.start..one.end];
            let taken = filled && self.may_be(value, Role::Assigned);
            return taken.then(|| self.found(one.start..one.end, "a literal that is filled in"));
        }
        if rest.first() != Some(&b'[')
            || !(self.name.class.is_password() || matches!(self.name.class, Class::Secret | Class::Key | Class::Token))
            || !matches!(operator.sign, Sign::Assign | Sign::Colon)
            || operator.spaced
            || at > operator.end
        {
            return None;
        }
        let inside = &rest[1..rest.len().min(MAX_VALUE)];
        let len = inside.iter().position(|b| b.is_ascii_whitespace() || const { &ByteSet::of(b"]\"'`,\\[") }.has(b))?;
        let ends = inside.get(len + 1).is_none_or(|b| const { &ByteSet::of(b"]}), \n") }.has(b));
        let word = self.name.class.is_password() && is_chosen(&inside[..len]);
        let role = if word { Role::Setting } else { Role::Mention };
        let taken = inside[len] == b']' && ends && self.may_be(&inside[..len], role);
        taken.then(|| self.found(at + 1..at + 1 + len, "the only word of a list"))
    }

    /// The accounts of cloud-init: `chpasswd:` and lines of `root:x` below.
    pub(super) fn accounts_below(&self, operator: &Operator, found: &mut Vec<Found>) {
        let text = self.text;
        if operator.sign != Sign::Colon || &text[self.name.range.clone()] != b"chpasswd" {
            return;
        }
        let mut at = operator.end;
        for _ in 0..MAX_ACCOUNTS {
            let end = self.reader.line_end(at);
            let line = &text[at..end.min(at + MAX_VALUE)];
            self.reader.charge(line.len() / 4);
            let line = line.trim_ascii_start();
            let line = line.strip_prefix(b"- ").unwrap_or(line).trim_ascii_end();
            let user = line.iter().take_while(|b| is_name(**b)).count();
            let value = line[user..].strip_prefix(b":").unwrap_or_default();
            // `expire: false`, `list: |`
            let joined = user > 0 && value.first().is_some_and(|b| b.is_ascii_graphic());
            if joined && self.may_be(value, Role::Setting) {
                let start = value.as_ptr() as usize - text.as_ptr() as usize;
                found.push(self.found(start..start + value.len(), "the password of an account"));
            }
            if end >= text.len() {
                return;
            }
            at = end + 1;
        }
    }

    /// Whether a word stands beside the user it belongs to: `username = bob, password = x`, `{User:bob Password:x}`,
    /// `LoginRequest(login=bob, password=x)`.
    pub(super) fn is_beside_user(&self, range: &Range<usize>, operator: &Operator) -> bool {
        if !matches!(operator.sign, Sign::Assign | Sign::Colon)
            || !self.name.class.is_password()
            || self.name.quotes.is_some()
        {
            return false;
        }
        let value = &self.text[range.clone()];
        let ends = self.text.get(range.end).is_none_or(|b| b.is_ascii_whitespace() || b",)]}.;\"'\\".contains(b));
        if !ends {
            return false;
        }
        let start = self.name.range.start;
        let before = &self.text[start.saturating_sub(MAX_BEFORE)..start];
        let joined = before.trim_ascii_end();
        if joined.len() == before.len() || before[joined.len()..].iter().any(|b| *b != b' ') {
            return false;
        }
        let joined = joined.strip_suffix(b",").or_else(|| joined.strip_suffix(b";")).unwrap_or(joined);
        let of_user = |b: &&u8| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"@-") }.has(b);
        let dotted = |b: &&u8| of_user(b) || **b == b'.';
        let len = joined.iter().rev().take_while(dotted).count();
        let (head, user) = joined.split_at(joined.len() - len);
        let variable = user.contains(&b'.') && !user.contains(&b'@')
            || VARIABLES.iter().any(|known| user.eq_ignore_ascii_case(known))
            || user == value;
        let sign = head.trim_ascii_end();
        let Some(name) = sign.strip_suffix(if operator.sign == Sign::Assign { b"=" } else { b":" }) else {
            return false;
        };
        let name = name.trim_ascii_end();
        let word = name.iter().rev().take_while(|b| is_name(**b)).count();
        let word = &name[name.len() - word..];
        !user.is_empty()
            && !variable
            && USERS.iter().any(|known| word.eq_ignore_ascii_case(known))
            && (is_chosen(value) || value.len() > 4 && is_mixed(value))
            && !is_stand_in(value)
            && self.reader.kind(self.reader.context(start).line_start) != Kind::Code
            && !self.is_argument(range)
    }

    /// Whether the value is an argument of a call, which ends behind it and begins in the line or above: a word there is a
    /// variable. What prints an object calls it by its type: `User(login=joe, password=x)`.
    pub(super) fn is_argument(&self, range: &Range<usize>) -> bool {
        if self.is_of_connection(range) {
            return false;
        }
        let is_inside = |b: &&u8| **b != b'\n';
        let (before, behind) = (&self.text[..self.name.range.start], &self.text[range.end..]);
        let mut open = 0;
        let closes = behind.iter().take(MAX_ARGUMENTS).take_while(is_inside).any(|b| {
            open += i32::from(*b == b'(') - i32::from(*b == b')');
            open < 0
        });
        let mut open = 0;
        let opens = before.iter().rev().take(MAX_ARGUMENTS).take_while(is_inside).position(|b| {
            open += i32::from(*b == b'(') - i32::from(*b == b')');
            open > 0
        });
        let called = opens.map(|back| &before[..before.len() - back - 1]);
        let is_called = called.is_none_or(|called| {
            let word = called.iter().rev().take_while(|b| is_name(**b)).last();
            word.is_some_and(|first| !first.is_ascii_uppercase())
        });
        closes && is_called
    }

    /// `"host=db user=bob password=x"`: whether other settings of a connection stand beside it in the same string.
    #[inline(never)]
    fn is_of_connection(&self, range: &Range<usize>) -> bool {
        let here = self.reader.context(self.name.range.start);
        let Some((quote, open)) = here.string else { return false };
        let from = open.max(range.start.saturating_sub(MAX_VALUE));
        let reach = &self.text[from..self.text.len().min(range.end + MAX_VALUE / 2)];
        let inside = &reach[..range.end - from + memchr::memchr(quote, &reach[range.end - from..]).unwrap_or(0)];
        self.reader.charge(inside.len() / 8);
        [&b"host="[..], b"dbname=", b"sslmode="].iter().any(|word| memchr::memmem::find(inside, word).is_some())
    }

    /// Whether a word of letters alone is what a key of a service is given: `api_key = "sunshine"`.
    pub(super) fn is_key_of_letters(&self, value: &[u8]) -> bool {
        self.name.class == Class::Key
            && value.len() > 5
            && is_chosen(value)
            && KEYS.iter().any(|key| ends_with(&self.text[self.name.range.clone()], key))
            && !is_stand_in(value)
            && super::may_be_secret(Class::Password, value, Role::Assigned)
    }

    /// Whether a word is what a header is given: `X-Api-Key: x`.
    pub(super) fn is_of_header(&self, range: &Range<usize>, operator: &Operator) -> bool {
        let name = &self.text[self.name.range.clone()];
        let value = &self.text[range.clone()];
        let ends = self.text.get(range.end).is_none_or(|b| const { &ByteSet::of(b"\r\n\"'\\") }.has(b));
        operator.sign == Sign::Colon
            && matches!(self.name.class, Class::Key | Class::Token | Class::Secret)
            && name.contains(&b'-')
            && (name[0].is_ascii_uppercase() || name.begins_with(b"x-"))
            && ends
            && (is_chosen(value) || value.len() > 4 && is_mixed(value) && value.iter().all(u8::is_ascii_graphic))
            && !is_stand_in(value)
            && super::may_be_secret(Class::Password, value, Role::Setting)
    }
}
