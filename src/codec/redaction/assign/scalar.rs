//! Values of XML and YAML without quotes: the text of an element, tagged scalars, blocks, and what stands on the next line.

use super::bare::Place;
use super::operator::{Operator, Sign};
use super::secret::{Role, beginning};
use super::{Finder, Found, blanks};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::context::Kind;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::{Class, is_name};
use crate::codec::redaction::random::is_random;

impl Finder<'_, '_> {
    /// `<password>x</password>`
    pub(super) fn in_tag(&self, at: usize) -> Option<Found> {
        let start = self.name.range.start;
        let open = self.text[..start].iter().rev().take(32).position(|b| !(is_name(*b) || b":.".contains(b)))?;
        if self.text[start - open - 1] != b'<' {
            return None;
        }
        let at = at + self.text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
        // `<Password><Value>x</Value>`
        let rest = &self.text[at..];
        let at = at + if rest.begins_with(b"<Value>") || rest.begins_with(b"<value>") { 7 } else { 0 };
        let inside = if self.text[at..].begins_with(b"<![CDATA[") { at + 9 } else { at };
        let end = self.end_of(inside, Place::Tag);
        let value = self.text[inside..end].trim_ascii_end();
        // `<secret>{AQAAABAAAAAQ…}</secret>` of Jenkins.
        if let [b'{', encrypted @ .., b'}'] = value {
            let last = encrypted.rsplit(|b| *b == b' ').next().unwrap_or_default();
            let taken = self.text[end..].begins_with(b"</") && last.len() > 15 && is_random(beginning(last));
            return taken.then(|| self.found(inside..inside + value.len(), "the text of an element"));
        }
        let after = end + self.text[end..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
        let closed = self.text[after..].begins_with(b"</") || self.text[end..].begins_with(b"]]>") || inside > at;
        // Elements hold no expressions, but for what a template fills in.
        let role = if value.iter().any(u8::is_ascii_digit) { Role::Assigned } else { Role::Setting };
        let taken = closed && self.may_be(value, role);
        taken.then(|| self.found(inside..inside + value.len(), "the text of an element"))
    }

    /// What YAML says behind the mark of a block, a tag, an anchor or a comment; nothing if there is no mark.
    pub(super) fn marked(&self, at: usize, operator: &Operator) -> Option<Option<Found>> {
        let line_end = self.reader.line_end(at);
        let line = &self.text[at..self.last_word_end(at)];
        match line[0] {
            b'|' | b'>' if line.len() < 4 && line[1..].iter().all(|b| b.is_ascii_digit() || b"+-".contains(b)) => {
                Some(self.below(line_end, operator, "a block of YAML"))
            }
            b'#' if line.len() == 1 || line[1] == b' ' => {
                Some(self.below(line_end, operator, "a value behind a comment"))
            }
            b'!' | b'&' => {
                let word = line.iter().take(40).take_while(|b| !b.is_ascii_whitespace()).count();
                let of_mark = |b: &u8| is_name(*b) || const { &ByteSet::of(b"!&:/.,") }.has(b);
                if word == line.len()
                    || !line[..word].iter().all(of_mark)
                    || &line[..word] == b"!vault"
                    || [&b"!Ref"[..], b"!Sub", b"!secret", b"!env"].iter().any(|tag| line.starts_with(tag))
                {
                    return if word == line.len() { None } else { Some(None) };
                }
                let at = blanks(self.text, at + word);
                if let Some(literal) = super::literal(self.reader, at) {
                    return Some(self.quoted(&literal, operator, "a tagged scalar"));
                }
                Some(self.scalar(at, "a tagged scalar"))
            }
            _ => None,
        }
    }

    /// The scalar on the next line, if it stands further in.
    pub(super) fn below(&self, at: usize, operator: &Operator, why: &'static str) -> Option<Found> {
        if operator.sign != Sign::Colon {
            return None;
        }
        let indent = |from: usize| self.text[from..].iter().take(64).take_while(|b| **b == b' ').count();
        let here = self.reader.context(self.name.range.start).line_start;
        let start = at + self.text[at..].iter().take(2).take_while(|b| matches!(b, b'\r' | b'\n')).count();
        if start == at || start >= self.text.len() || indent(start) <= indent(here) {
            return None;
        }
        if why.is_empty() && (self.reader.kind(here) == Kind::Code || self.name.class == Class::Secret) {
            return None;
        }
        let at = start + indent(start);
        // `DB_PASSWORD:` and below it `value: x`.
        if why.is_empty() && self.text[at..].begins_with(b"value: ") {
            let at = at + 7;
            return match super::literal(self.reader, at) {
                Some(one) => self.quoted(&one, operator, "the value of a member"),
                None => self.scalar(at, "the value of a member"),
            };
        }
        self.scalar(at, if why.is_empty() { "a value on the next line" } else { why })
    }

    /// A scalar without quotes that is alone on its line.
    fn scalar(&self, at: usize, why: &'static str) -> Option<Found> {
        let end = self.end_of(at, Place::Setting);
        let value = &self.text[at..end];
        let alone =
            matches!(self.text.get(blanks(self.text, end)), None | Some(b'\n' | b'\r' | b'#' | b'"' | b'\'' | b'\\'));
        let item = value.closes_with(b":") || value.begins_with(b"- ") || value == b"-";
        (alone && !item && self.may_be(value, Role::Setting)).then(|| self.found(at..end, why))
    }
}
