//! Explains what would be redacted in a line: position, rule and reason.

use super::Engine;
use super::json::{is_named_pair, pair_class};
use super::names::classify;
use super::reader::Work;
use super::rules::{self, SECRET_FIELD};
use super::views::{Disguises, View};
use crate::event::raw::Raw;
use crate::event::{Kind, Scanner, escape};

/// A place that would be redacted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Bytes of the line.
    pub start: usize,
    pub end: usize,
    pub rule: String,
    pub why: &'static str,
}

impl Engine {
    /// What would be redacted in a line: an event's fields as decoded, or a text.
    pub fn explain(&self, line: &[u8]) -> Vec<Finding> {
        let mut found = Vec::new();
        let is_event = line.first() == Some(&b'{') && Scanner::new().validate(line).is_ok();
        if is_event {
            self.explain_value(line, Raw::valid(line), &mut found);
            if self.remembers() {
                self.explain_repeated(line, &mut found);
            }
        } else {
            self.explain_text(line, &mut found, |place| place);
        }
        found.sort_by_key(|finding| finding.start);
        found
    }

    fn explain_value(&self, line: &[u8], value: Raw<'_>, found: &mut Vec<Finding>) {
        let offset = |part: &[u8]| part.as_ptr() as usize - line.as_ptr() as usize;
        match value.kind() {
            Kind::Object => {
                let paired = pair_class(value);
                for (name, value) in value.members() {
                    let decoded = escape::unescape(name);
                    let pair = paired.filter(|_| is_named_pair(&decoded));
                    let class = pair.or_else(|| classify(decoded.as_bytes()));
                    if class.is_some_and(|class| self.is_secret_member(&decoded, class, value)) {
                        let start = offset(value.as_bytes());
                        let why =
                            if pair.is_some() { "the value of a pair" } else { "the name of the member and its value" };
                        found.push(self.finding(start, start + value.as_bytes().len(), SECRET_FIELD, why));
                    } else {
                        self.explain_value(line, value, found);
                    }
                }
            }
            Kind::Array => value.elements().for_each(|element| self.explain_value(line, element, found)),
            Kind::String => {
                let inside = value.inside().unwrap_or_default();
                let view = View::of(inside, Disguises { json: true, ..Disguises::default() });
                let start = offset(inside);
                self.explain_text(&view.bytes, found, |place| start + view.origin(place, place).0);
            }
            Kind::Number | Kind::Bool | Kind::Null => {}
        }
    }

    fn explain_text(&self, text: &[u8], found: &mut Vec<Finding>, place: impl Fn(usize) -> usize) {
        let mut spans = Vec::new();
        match self.find(text, &mut Work::on(text.len()), &mut spans) {
            Ok(()) => {
                for span in spans {
                    found.push(self.finding(place(span.start), place(span.end), span.rule, span.why));
                }
            }
            Err(_) => {
                let why = "a rule could not finish, so that the value is replaced whole";
                found.push(self.finding(place(0), place(text.len()), rules::UNFINISHED, why));
            }
        }
    }

    fn finding(&self, start: usize, end: usize, rule: u16, why: &'static str) -> Finding {
        Finding { start, end, rule: self.names[usize::from(rule)].clone(), why }
    }
}
