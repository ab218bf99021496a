//! Regular expressions of a query, and which texts need not be looked at one by one.

use regex::Regex;
use regex_syntax::hir::{Capture, Class, Hir, HirKind, Repetition};

use super::predicate::compile;
use crate::event::escape::{SLACK, unescape, unescape_plain};

#[derive(Debug)]
pub struct Expression {
    regex: Regex,
    /// Matches in every longer text what this matches in a text; none where it would match everywhere, or gain nothing.
    loose: Option<Regex>,
    /// None where it has no form that can be looked into.
    form: Option<Hir>,
}

impl Expression {
    /// `regex` is what the pattern was compiled to.
    pub fn new(pattern: &str, regex: Regex) -> Expression {
        let form = regex_syntax::parse(pattern).ok();
        // Whether a text begins with something is soon known.
        let at_the_start = |form: &&Hir| form.properties().look_set_prefix().contains_anchor_haystack();
        let loose = form.as_ref().filter(|form| !at_the_start(form)).and_then(|form| {
            match form.properties().look_set().is_empty() {
                true => Some(regex.clone()),
                false => compile(&without_looks(form).to_string()).ok(),
            }
        });
        Expression { regex, loose: loose.filter(|loose| !loose.is_match("")), form }
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Whether it can match a string, number or boolean that stands within these bytes, which are JSON values, also with
    /// their lengths before them: false where it certainly does not. All of them are looked at as one text.
    pub fn may_match_within(&self, json: &[u8]) -> bool {
        let Some(loose) = &self.loose else { return true };
        let mut text = vec![0; json.len() + SLACK];
        match unescape_plain(json, 0..json.len(), &mut text, &mut Vec::new()) {
            Some(len) => match std::str::from_utf8(&text[..len]) {
                Ok(text) => loose.is_match(text),
                Err(_) => true,
            },
            None => loose.is_match(&unescape(json)),
        }
    }

    /// Whether it can match a text in which all bytes are of this kind, which is asked of lower case.
    pub fn may_match_text_of(&self, is_of_kind: &impl Fn(u8) -> bool) -> bool {
        self.form.as_ref().is_none_or(|form| can_match(form, &|byte| is_of_kind(byte.to_ascii_lowercase())))
    }
}

/// The same without `^`, `$`, `\b` and the like, which tell of the place where it matches.
fn without_looks(form: &Hir) -> Hir {
    match form.kind() {
        HirKind::Look(_) => Hir::empty(),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => form.clone(),
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { sub: Box::new(without_looks(&repetition.sub)), ..repetition.clone() })
        }
        HirKind::Capture(capture) => {
            Hir::capture(Capture { sub: Box::new(without_looks(&capture.sub)), ..capture.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(without_looks).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(without_looks).collect()),
    }
}

fn can_match(form: &Hir, is_of_kind: &impl Fn(u8) -> bool) -> bool {
    match form.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|byte| is_of_kind(*byte)),
        HirKind::Class(class) => has_one(class, is_of_kind),
        HirKind::Repetition(repetition) => repetition.min == 0 || can_match(&repetition.sub, is_of_kind),
        HirKind::Capture(capture) => can_match(&capture.sub, is_of_kind),
        HirKind::Concat(parts) => parts.iter().all(|part| can_match(part, is_of_kind)),
        HirKind::Alternation(parts) => parts.iter().any(|part| can_match(part, is_of_kind)),
    }
}

/// Whether a class has a character of this kind; one beyond ASCII may be.
fn has_one(class: &Class, is_of_kind: &impl Fn(u8) -> bool) -> bool {
    let has_ascii = |first: u32, last: u32| (first..=last.min(0x7F)).any(|c| is_of_kind(c as u8));
    match class {
        Class::Unicode(class) => {
            let is_within =
                |first: char, last: char| has_ascii(first.into(), last.into()) || !last.is_ascii() && is_of_kind(0xC3);
            class.ranges().iter().any(|range| is_within(range.start(), range.end()))
        }
        Class::Bytes(class) => class.ranges().iter().any(|range| (range.start()..=range.end()).any(is_of_kind)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expression(pattern: &str) -> Option<Expression> {
        Regex::new(pattern).ok().map(|regex| Expression::new(pattern, regex))
    }

    #[test]
    fn texts_of_identifiers_are_not_looked_at_for_what_they_cannot_have() {
        let is_of_identifier = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        for (pattern, can) in [
            ("[0-9][a-z]{3}[0-9]{5}x", false),
            ("[0-9][a-z]{3}[0-9]{5}", true),
            ("^DE8.*", true),
            ("(ab|xy)z?", true),
            ("(wx|xy)z*", false),
            ("[^a-fA-F0-9-]", false),
            ("\\bé", false),
            ("", true),
        ] {
            assert_eq!(expression(pattern).unwrap().may_match_text_of(&is_of_identifier), can, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_value_that_matches_is_passed_over(
            texts in proptest::collection::vec("[a-dA-D0-2 \"\\\\\n\u{1}é結-]{0,12}", 1..6),
            pattern in "(\\^|\\\\b)?([a-dA-D0-2 \"é.]|[.][*]|\\[\\^?[a-c]-d\\]|\\(a[|]b\\)[?]|\\\\n|\\\\W|結[+]){1,4}[$]?",
        ) {
            let Some(expression) = expression(&pattern) else { return Ok(()) };
            let all: String = texts.iter().map(|text| serde_json::to_string(text).expect("text")).collect();
            for text in &texts {
                let matches = expression.is_match(text);
                prop_assert!(!matches || expression.may_match_within(all.as_bytes()), "{} in {}", pattern, all);
                let bytes = text.to_ascii_lowercase().into_bytes();
                let can = expression.may_match_text_of(&|byte| bytes.contains(&byte) || byte >= 0x80);
                prop_assert!(!matches || can, "{} in {}", pattern, text);
            }
        }
    }
}
