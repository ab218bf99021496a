//! Values on other lines than their name or among several: lists below it, here-documents, assignments to many targets.

use std::ops::Range;

use super::literal::literal;
use super::operator::{Operator, Sign};
use super::secret::Role;
use super::{Finder, Found, NEARBY, blanks};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::is_name;

/// The most items of a list below a name, and the longest line that is read for one.
const MAX_ITEMS: usize = 16;
const MAX_ITEM: usize = 160;
/// The most members of a dictionary of secrets.
const MAX_ROWS: usize = 64;
/// The most targets of an assignment.
const MAX_TARGETS: usize = 6;

impl Finder<'_, '_> {
    /// `'password': {0: 'x', 1: 'y'}`, a column of a frame by its rows, and `passwords = {"bob": "x"}`, those of users.
    pub(super) fn by_keys(&self, at: usize, found: &mut Vec<Found>) {
        if self.text.get(at) != Some(&b'{') {
            return;
        }
        let many =
            self.name.class.is_password() && self.text[self.name.range.clone()].to_ascii_lowercase().closes_with(b"s");
        let mut at = at + 1;
        for _ in 0..MAX_ROWS {
            at = blanks(self.text, at);
            let digits = self.text[at..].iter().take(9).take_while(|b| b.is_ascii_digit()).count();
            let (key, role) = match literal(self.reader, at).filter(|_| many) {
                Some(key) => (key.after, Role::Beside),
                None if digits > 0 && self.name.quotes.is_some() => (at + digits, Role::Assigned),
                None => return,
            };
            if self.text.get(key) != Some(&b':') {
                return;
            }
            self.reader.charge(NEARBY);
            let Some(one) = literal(self.reader, blanks(self.text, key + 1)) else { return };
            if self.may_be(&self.text[one.start..one.end], role) {
                found.push(self.found(one.start..one.end, "the value of one of the keys"));
            }
            at = one.after + usize::from(self.text.get(one.after) == Some(&b','));
        }
    }

    /// `"adminPassword": {"value": "x"}`, `{"type": "securestring", "defaultValue": "x"}`: the member that holds the value.
    #[inline(never)]
    pub(super) fn value_of_object(&self, at: usize) -> Option<Found> {
        let text = self.text;
        let reach = &text[at..text.len().min(at + MAX_ITEM)];
        let reach = &reach[..memchr::memchr(b'}', reach).unwrap_or(reach.len())];
        self.reader.charge(reach.len() / 4);
        [&b"value"[..], b"defaultValue"].iter().find_map(|member| {
            let place = memchr::memmem::find(reach, member).filter(|place| *place > 0)?;
            let quote = reach[place - 1];
            let end = at + place + member.len();
            let end = end + text[end..].iter().take(7).take_while(|b| **b == b'\\').count();
            let quoted = matches!(quote, b'"' | b'\'') && text.get(end) == Some(&quote);
            let colon = blanks(text, end + 1);
            let one =
                literal(self.reader, blanks(text, colon + 1)).filter(|_| quoted && text.get(colon) == Some(&b':'))?;
            let taken = self.may_be(&text[one.start..one.end], Role::Assigned);
            taken.then(|| self.found(one.start..one.end, "the member that holds the value"))
        })
    }

    /// `secrets:` and below it `- x`: only what is random, for such lists hold names more often.
    pub(super) fn items_below(&self, operator: &Operator, found: &mut Vec<Found>) {
        let text = self.text;
        if operator.sign != Sign::Colon || !text[self.name.range.clone()].closes_with(b"s") {
            return;
        }
        let mut at = blanks(text, operator.end);
        // A list within one that was read is a part of it.
        if at < self.reader.items_to.get() {
            return;
        }
        for _ in 0..MAX_ITEMS {
            let gap = text[at..].iter().take(32).take_while(|b| b.is_ascii_whitespace()).count();
            let broken = memchr::memchr(b'\n', &text[at..at + gap]).is_some();
            if !broken || !text[at + gap..].begins_with(b"- ") {
                return;
            }
            let start = blanks(text, at + gap + 1);
            let line = &text[start..text.len().min(start + MAX_ITEM)];
            self.reader.charge(gap + MAX_ITEM / 4);
            let (inside, end) = match literal(self.reader, start) {
                Some(one) => (one.start..one.end, one.after),
                None => {
                    let ends = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`#\\") }.has(b);
                    let len = line.iter().position(ends).unwrap_or(line.len());
                    (start..start + len, start + len)
                }
            };
            if self.may_be(&text[inside.clone()], Role::Mention) {
                found.push(self.found(inside, "an item of the list below the name"));
            }
            at = end;
            self.reader.items_to.set(at);
        }
    }

    /// `def get_api_key(): return "x"`, `func token() string { return "x" }`: what a function without arguments gives.
    #[inline(never)]
    pub(super) fn returned(&self, operator: &Operator) -> Option<Found> {
        let rest = &self.text[operator.end + 1..self.text.len().min(operator.end + 1 + MAX_ITEM / 2)];
        let of_head = |b: &u8| is_name(*b) || b.is_ascii_whitespace() || const { &ByteSet::of(b":{>-=\\<[]*&") }.has(b);
        // `-> &'static str {`
        let lifetime = rest.place_of(b"&'static").filter(|at| rest[..*at].iter().all(of_head)).map_or(0, |at| at + 2);
        let head = &rest[..lifetime + rest[lifetime..].iter().take_while(|b| of_head(b)).count()];
        let end = head.trim_ascii_end().len();
        // What a call gives, and not what comes behind it.
        let gives =
            head[..end].closes_with(b"return") || head[..end].closes_with(b"=>") || head[..end].closes_with(b"{");
        // `fun apiKey(): String = "x"`
        let gives = gives || head.begins_with(b": ") && head[..end].closes_with(b" =");
        let opens =
            matches!(head.trim_ascii_start().first(), Some(b':' | b'{' | b'-' | b'=' | b'a'..=b'z' | b'A'..=b'Z'));
        self.reader.charge(head.len() / 2);
        if !gives || !opens {
            return None;
        }
        let one = literal(self.reader, operator.end + 1 + head.len())?;
        self.quoted(&one, operator, "what a function returns")
    }

    /// An option and its value as elements of YAML, or a key of YAML with its value on the next line.
    #[inline(never)]
    pub(super) fn next_line(&self) -> Option<Found> {
        let text = self.text;
        let end = self.name.end + text[self.name.end..].iter().take(2).take_while(|b| b"\"'".contains(b)).count();
        let next = end + text[end..].iter().take(2).take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let before = &text[self.start().saturating_sub(4)..self.start()];
        if next == end || !(self.is_option() && before.closes_with(b"- ") || before.closes_with(b"? ")) {
            return None;
        }
        let dash = blanks(text, next);
        let value = blanks(text, dash + 1);
        if !matches!(text.get(dash), Some(b'-' | b':')) || value == dash + 1 {
            return None;
        }
        let range = match literal(self.reader, value) {
            Some(one) => one.start..one.end,
            None => value..value + text[value..].iter().take(512).take_while(|b| !b.is_ascii_whitespace()).count(),
        };
        let taken = !text[range.clone()].begins_with(b"-") && self.may_be(&text[range.clone()], Role::Setting);
        taken.then(|| self.found(range, "the next line"))
    }

    /// `write("x")  # password`: the only literal of a line, of which a comment says what it is.
    #[inline(never)]
    pub(super) fn commented(&self) -> Option<Found> {
        let text = self.text;
        let end = code_before(text, &self.name.range).filter(|_| self.name.quotes.is_none())?;
        let line = self.reader.context(self.name.range.start).line_start;
        let start = line.max(end.saturating_sub(MAX_ITEM)).min(end);
        let code = text[start..end].trim_ascii_end();
        self.reader.charge(code.len() / 2);
        let open = memchr::memchr2(b'"', b'\'', code)?;
        let one = literal(self.reader, start + open)?;
        let rest = text.get(one.after..start + code.len())?;
        if memchr::memchr2(b'"', b'\'', rest).is_some() || !rest.iter().all(|b| b" \t);,]}".contains(b)) {
            return None;
        }
        let mut value = &text[one.start..one.end];
        while let Some(shorter) = value.strip_suffix(b"\\n").or_else(|| value.strip_suffix(b"\\r")) {
            value = shorter;
        }
        let range = one.start..one.start + value.len();
        self.may_be(value, Role::Beside).then(|| self.found(range, "what a comment calls so"))
    }

    /// `password = <<EOT` and the line below it.
    pub(super) fn here_document(&self, at: usize) -> Option<Found> {
        let rest = self.text[at..].strip_prefix(b"<<")?;
        let rest = rest.strip_prefix(b"-").or_else(|| rest.strip_prefix(b"~")).unwrap_or(rest);
        let word = &rest[..rest.iter().take(16).take_while(|b| b.is_ascii_uppercase()).count()];
        let below = &rest[word.len()..];
        let line = below.strip_prefix(b"\n").filter(|_| word.len() > 1)?;
        let line = &line[..line.len().min(MAX_ITEM)];
        let end = memchr::memchr(b'\n', line)?;
        let (value, after) = (line[..end].trim_ascii(), line[end + 1..].trim_ascii_start());
        let start = value.as_ptr() as usize - self.text.as_ptr() as usize;
        let taken = after.starts_with(word) && !value.contains(&b' ') && self.may_be(value, Role::Setting);
        taken.then(|| self.found(start..start + value.len(), "the only line of a here-document"))
    }

    /// `password, user = "x", "bob"`: the literal at the place of the name among the targets.
    #[inline(never)]
    pub(super) fn among_targets(&self) -> Option<Found> {
        let text = self.text;
        if self.name.quotes.is_some() || !matches!(text.get(self.name.end), Some(b',' | b')')) {
            return None;
        }
        let mut at = self.name.end;
        for _ in 0..if text[at] == b',' { MAX_TARGETS } else { 0 } {
            let target = blanks(text, at + 1);
            at = target + text[target..].iter().take(32).take_while(|b| is_name(**b) || **b == b'.').count();
            if text.get(at) != Some(&b',') {
                break;
            }
        }
        // `(user, password) = ("bob", "x")`
        let in_brackets = text.get(at) == Some(&b')');
        let sign = blanks(text, at + usize::from(in_brackets));
        if text.get(sign) != Some(&b'=') || text.get(sign + 1) == Some(&b'=') {
            return None;
        }
        let here = self.reader.context(self.name.range.start);
        // The assignment begins with the line, or with the text that the line quotes.
        let line = here.string.map_or(here.line_start, |(_, open)| open + 1);
        let from = match here.bracket {
            Some((b'(', open)) if in_brackets && open >= line && text[line..open].trim_ascii().is_empty() => open + 1,
            _ if in_brackets => return None,
            _ => line,
        };
        let before = &text[from.max(self.name.range.start.saturating_sub(MAX_ITEM))..self.name.range.start];
        let of_targets = |b: &u8| is_name(*b) || const { &ByteSet::of(b"., $") }.has(b) || *b >= 0x80;
        if here.bracket.is_some_and(|(_, open)| open >= from) || !before.iter().all(of_targets) {
            return None;
        }
        let nth = memchr::memchr_iter(b',', before).count();
        if nth > MAX_TARGETS {
            return None;
        }
        let value = blanks(text, sign + 1);
        let value = value + usize::from(in_brackets && text.get(value) == Some(&b'('));
        let mut one = literal(self.reader, value)?;
        for _ in 0..nth {
            let comma = blanks(text, one.after);
            one = literal(self.reader, blanks(text, comma + 1)).filter(|_| text.get(comma) == Some(&b','))?;
        }
        let taken = self.may_be(&text[one.start..one.end], Role::Assigned);
        taken.then(|| self.found(one.start..one.end, "the literal at the place of the name among the targets"))
    }
}

/// Whether a comment begins right in front of a name, or one word before, and ends with it.
pub(super) fn is_comment(text: &[u8], name: &Range<usize>) -> bool {
    code_before(text, name).is_some()
}

/// Where the code ends that stands in front of such a comment.
fn code_before(text: &[u8], name: &Range<usize>) -> Option<usize> {
    let ends = matches!(text.get(name.end), None | Some(b'\n' | b'\r' | b'"')) || text[name.end..].begins_with(b"\\n");
    let from = name.start.saturating_sub(24);
    let before = text[from..name.start].strip_suffix(b" ").filter(|_| ends)?;
    let word = before.iter().rev().take_while(|b| b.is_ascii_lowercase()).count();
    let before = &before[..before.len() - word];
    let before = if word > 0 { before.strip_suffix(b" ")? } else { before };
    let signs = [&b" #"[..], b" //", b" --", b";//"];
    signs.iter().find_map(|sign| before.strip_suffix(*sign)).map(|code| from + code.len())
}
