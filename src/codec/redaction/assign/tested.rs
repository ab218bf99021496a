//! Values that tests compare and stub, that a prompt prints, and that stand in for what is absent.

use std::ops::Range;

use super::literal::literal;
use super::operator::{Operator, Sign};
use super::secret::Role;
use super::{Class, Finder, Found, NEARBY, blanks, is_random};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::is_name;

/// How long a literal in front of a name is at most, and how far what a template fills in is read.
const MAX_VALUE: usize = 160;
/// How the names of calls end that compare two values, in small letters, and of those that compare or copy what stands first.
const COMPARING: &[&[u8]] = &[b"equal", b"equals", b"same", b"assert_eq", b"asserteq"];
const COPYING: &[&[u8]] = &[b"cmp", b"cpy", b"compare_digest", b"streq"];
/// Calls that fill in what they find by a selector.
const FILLING: &[&[u8]] = &[b"fill(", b"type(", b"typeText(", b"setValue(", b"pressSequentially("];
/// What leads to a literal that a template takes where it has nothing else.
const DEFAULTS: &[&[u8]] = &[b"default(", b"default "];
/// Calls that give the first of their arguments that is there.
const FALLBACKS: &[&str] = &["coalesce", "nvl", "ifnull", "isnull", "firstnonnull", "getordefault"];

/// Whether a call of this name gives the first of its arguments that is there.
pub(super) fn falls_back(word: &str) -> bool {
    FALLBACKS.contains(&word)
}

/// `if got := c.Password(); got != "x"`: where the literal stands, if what is read behind the call is compared.
pub(super) fn past_result(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?.strip_prefix(b"(); ")?;
    let word = rest.iter().take(24).take_while(|b| is_name(**b)).count();
    let signs = rest[word..].begins_with(b" != \"") || rest[word..].begins_with(b" == \"");
    (word > 0 && signs).then_some(at + 4 + word + 4)
}

/// `page.fill('input[name="password"]', 'x')`: where the literal stands behind a selector that names the field.
pub(super) fn past_selector(text: &[u8], start: usize, at: usize) -> Option<usize> {
    let quote = *text.get(at).filter(|b| b"\"'`".contains(b))?;
    let from = start.saturating_sub(NEARBY);
    let open = from + memchr::memrchr(quote, &text[from..start])?;
    let fills = text[at + 1..].begins_with(b", ") && FILLING.iter().any(|call| text[..open].ends_with(call));
    fills.then_some(at + 2)
}

impl Finder<'_, '_> {
    /// Whether the name is the first argument of a call that compares or copies: `strcmp(password, "x")`.
    pub(super) fn is_compared(&self) -> bool {
        let before = &self.text[self.start().saturating_sub(60)..self.start()];
        let owner = before.iter().rev().take_while(|b| is_name(**b) || matches!(b, b'.' | b'>')).count();
        let before = before[..before.len() - owner].trim_ascii_end();
        // `curl_easy_setopt(curl, CURLOPT_PASSWORD, "x")`, `{password, "x"}`
        let set = self.text[self.name.range.clone()].starts_with(b"CURLOPT_") && before.closes_with(b",");
        if set || before.closes_with(b"{") {
            return set || self.text[self.name.end..].begins_with(b", \"");
        }
        let Some(before) = before.strip_suffix(b"(") else { return false };
        let before = before.strip_suffix(b"!").unwrap_or(before);
        let word = before.iter().rev().take_while(|b| is_name(**b)).count();
        let word = before[before.len() - word..].to_ascii_lowercase();
        COMPARING.iter().chain(COPYING).any(|known| word.ends_with(known))
    }

    /// `assertEquals("x", config.getPassword())`, `require.Equal(t, "x", cfg.Password)`
    #[inline(never)]
    pub(super) fn asserted(&self) -> Option<Found> {
        let (text, start) = (self.text, self.start());
        let of_owner = |b: &&u8| is_name(**b) || const { &ByteSet::of(b".>$:&") }.has(b);
        let owner = text[..start].iter().rev().take(NEARBY).take_while(of_owner).count();
        // `pin.pattern` is no pin.
        let ends = matches!(text.get(self.name.end..), Some([b')' | b',', ..] | [b'(', b')', ..]));
        let before = text[..start - owner].strip_suffix(b", ").filter(|_| ends && self.name.quotes.is_none())?;
        let quote = *before.last().filter(|b| b"\"'".contains(b))?;
        let from = before.len().saturating_sub(MAX_VALUE);
        self.reader.charge(MAX_VALUE / 8);
        let open = from + memchr::memrchr(quote, &before[from..before.len() - 1])?;
        let head = &text[..open];
        let head = head.strip_suffix(b"(t, ").or_else(|| head.strip_suffix(b"("))?;
        let head = head.strip_suffix(b"!").unwrap_or(head);
        let word = head.iter().rev().take(24).take_while(|b| is_name(**b)).count();
        let word = head[head.len() - word..].to_ascii_lowercase();
        let range = open + 1..before.len() - 1;
        // What a program calls a token or signature is a word of its own more often.
        let role = if self.name.class == Class::Token { Role::Beside } else { Role::Assigned };
        let taken = COMPARING.iter().any(|end| word.ends_with(end)) && self.may_be(&text[range.clone()], role);
        taken.then(|| self.found(range, "what a test expects of the name"))
    }

    /// `#[arg(default_value = "x")]` above a field, `/** @default 'x' */` in front of it.
    #[inline(never)]
    pub(super) fn documented(&self) -> Option<Found> {
        let (text, start) = (self.text, self.start());
        let line = &text[start.saturating_sub(NEARBY)..start];
        let head = line.trim_ascii_end().strip_suffix(b"pub").unwrap_or(line).trim_ascii_end();
        let head = head.strip_suffix(b")]").or_else(|| head.strip_suffix(b"*/"))?.trim_ascii_end();
        let end = start - line.len() + head.len();
        let from = end.saturating_sub(MAX_VALUE);
        self.reader.charge(MAX_VALUE / 8);
        let said = &text[from..end];
        let place = [&b"default_value = "[..], b"@default "]
            .iter()
            .find_map(|word| memchr::memmem::rfind(said, word).map(|at| at + word.len()))?;
        let one = literal(self.reader, from + place).filter(|one| one.after <= end)?;
        let closed = text[one.after..end].iter().all(|b| b.is_ascii_whitespace());
        let taken = closed && self.may_be(&text[one.start..one.end], Role::Assigned);
        taken.then(|| self.found(one.start..one.end, "the default of the name"))
    }

    /// `>>> cfg.password` and on the next line `'x'`, `In [4]: token` and `Out[4]: 'x'`, `$ echo $PASSWORD` and `x`.
    #[inline(never)]
    pub(super) fn echoed(&self) -> Option<Found> {
        let text = self.text;
        let end = self.name.end + text[self.name.end..].iter().take(3).take_while(|b| b"]\")".contains(b)).count();
        let below = text.get(end..)?.strip_prefix(b"\n")?;
        let line = self.reader.context(self.name.range.start).line_start;
        if self.start() - line > MAX_VALUE {
            return None;
        }
        let before = text[line..self.start()].trim_ascii_start();
        let said = [&b"echo $"[..], b"echo \"$", b"echo ${", b"printenv "].iter().any(|word| before.ends_with(word));
        let prompts = [&b">>> "[..], b"In [", b"irb"].iter().any(|prompt| before.starts_with(prompt));
        if !said && !prompts {
            return None;
        }
        let at = end
            + 1
            + [&b"Out["[..], b"=> "]
                .iter()
                .find_map(|sign| {
                    let rest = below.strip_prefix(*sign)?;
                    if sign.len() == 3 {
                        return Some(3);
                    }
                    let colon = rest.iter().take(8).position(|b| *b == b':')?;
                    (rest.get(colon + 1) == Some(&b' ')).then_some(sign.len() + colon + 2)
                })
                .unwrap_or(0);
        // Nothing may stand behind the sign.
        let at = at.min(text.len());
        let stop = self.reader.line_end(at);
        let range = match literal(self.reader, at) {
            Some(one) if !said && one.after == stop => one.start..one.end,
            None if said || before.ends_with(b"print(") => at..at + text[at..stop].trim_ascii_end().len(),
            _ => return None,
        };
        let role = if said || range.start == at { Role::Mention } else { Role::Assigned };
        let value = &text[range.clone()];
        let taken = !value.contains(&b' ') && self.may_be(value, role);
        taken.then(|| self.found(range, "what is printed below the name"))
    }

    /// `{ 'x' }`: what a block gives that is nothing else.
    pub(super) fn block(&self, at: usize, operator: &Operator) -> Option<Found> {
        let one = literal(self.reader, blanks(self.text, at + 1))?;
        let closed = self.text.get(blanks(self.text, one.after)) == Some(&b'}');
        closed.then(|| self.quoted(&one, operator, "a literal that a block gives")).flatten()
    }

    /// `set password {x}` of Tcl.
    pub(super) fn in_braces(&self, at: usize, operator: &Operator) -> Option<Found> {
        let set = operator.sign == Sign::Space && self.text[..self.name.range.start].closes_with(b"set ");
        let inside = self.text.get(at + 1..).filter(|_| set)?;
        let len = inside.iter().take(MAX_VALUE).position(|b| b.is_ascii_whitespace() || b"{}".contains(b))?;
        let taken = inside[len] == b'}' && self.may_be(&inside[..len], Role::Setting);
        taken.then(|| self.found(at + 1..at + 1 + len, "a word in braces"))
    }

    /// `token: <x>`: where other words stand so, something will be filled in.
    pub(super) fn between_signs(&self, at: usize) -> Option<Found> {
        let inside = &self.text[at + 1..self.text.len().min(at + 1 + MAX_VALUE)];
        let len = memchr::memchr2(b'>', b'\n', inside).filter(|len| inside[*len] == b'>')?;
        self.reader.charge(len / 2);
        let value = &inside[..len];
        let random = is_random(value) && value.iter().any(u8::is_ascii_digit) && !value.contains(&b' ');
        (random && self.may_be(value, Role::Mention))
            .then(|| self.found(at + 1..at + 1 + len, "what stands between signs"))
    }

    /// `${1:-x}`, `{{ vault_x | default('x') }}`: what is taken where nothing is given.
    #[inline(never)]
    pub(super) fn stood_in(&self, range: &Range<usize>) -> Option<Found> {
        let value = &self.text[range.start..range.end.min(range.start + MAX_VALUE)];
        self.reader.charge(value.len() / 4);
        if let Some(rest) = value.strip_prefix(b"${") {
            let number = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let word = rest[number..].strip_prefix(b":-").or_else(|| rest[number..].strip_prefix(b"-"))?;
            let start = range.start + value.len() - word.len();
            let len = memchr::memchr2(b'}', b'$', word).filter(|len| number > 0 && word[*len] == b'}')?;
            let taken = self.may_be(&word[..len], Role::Assigned);
            return taken.then(|| self.found(start..start + len, "a value that stands in for an absent one"));
        }
        let rest = value.strip_prefix(b"{{")?;
        let first = literal(self.reader, blanks(self.text, range.start + 2));
        let filled = first.filter(|one| self.text[blanks(self.text, one.after)..].begins_with(b"|"));
        let place = || DEFAULTS.iter().find_map(|word| memchr::memmem::find(rest, word).map(|at| at + word.len()));
        let one = filled.or_else(|| literal(self.reader, range.start + 2 + place()?))?;
        let inside = one.after < range.start + value.len() && !matches!(self.name.class, Class::Cookie);
        let value = &self.text[one.start..one.end];
        let taken = inside && value.len() > 4 && self.may_be(value, Role::Assigned);
        taken.then(|| self.found(one.start..one.end, "a value that stands in for an absent one"))
    }
}
