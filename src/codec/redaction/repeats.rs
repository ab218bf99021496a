//! Finds a secret again wherever else it stands: printed, in a traceback, in the output beside the code.

use std::cell::OnceCell;

use super::explain::Finding;
use super::random::is_random;
use super::reader::{Unfinished, Work};
use super::rules::{AUTHORIZATION, CONNECTION, CREDENTIAL, SECRET_FIELD};
use super::search::Span;
use super::{Action, Engine};
use crate::event::Kind;
use crate::event::raw::Raw;

/// The shortest secret that is searched for, the longest, and how many of one text or event.
const MIN_LEN: usize = 12;
const MAX_LEN: usize = 4096;
const MAX_VALUES: usize = 8;
/// The most places that are added.
const MAX_PLACES: usize = 1000;

/// Fields that hold what people and programs write. Others are not searched for what another field gave away: whoever
/// calls the id of a session a password must not hide it.
#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "code", "description", "error_message", "error_trace", "message", "msg", "details", "error", "output", "outputs",
    "result", "stdout", "stderr", "traceback", "text", "log",
];

/// The field whose members may hold text.
const METADATA: &str = "metadata";

/// Whether a field of this name holds text, itself or in its members.
pub fn is_text_field(name: &str) -> bool {
    TEXTS.contains(&name) || name == METADATA
}

/// The texts of an object that is an event, or the metadata of one.
fn texts<'a>(object: Raw<'a>) -> impl Iterator<Item = Raw<'a>> {
    object.members().filter(|(name, _)| TEXTS.iter().any(|text| text.as_bytes() == *name)).map(|(_, value)| value)
}

/// A secret of an event that its other fields may repeat, and the rule that found it.
pub type Repeated = (u16, Vec<u8>);

/// Whether one of the spans, which are in order and apart, holds a place.
fn is_covered(spans: &[Span], at: usize) -> bool {
    let next = spans.partition_point(|span| span.start <= at);
    next > 0 && at < spans[next - 1].end
}

/// Whether only its surroundings gave the secret away.
fn is_by_surroundings(rule: u16) -> bool {
    matches!(rule, CREDENTIAL | AUTHORIZATION | CONNECTION | SECRET_FIELD)
}

/// Whether a text in JSON has the value as it is.
fn is_plain(value: &[u8]) -> bool {
    value.iter().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(b))
}

/// Whether other fields are searched for a secret: as long as that, written in one way only, and no word.
fn may_be_repeated(value: &[u8]) -> bool {
    (MIN_LEN..=MAX_LEN).contains(&value.len()) && is_plain(value) && is_random(value)
}

impl Engine {
    /// Adds the other places of those secrets that only their surroundings gave away. `spans` are in order.
    /// In JSON those with an escape are left to what its strings say.
    pub(super) fn find_again(
        &self,
        text: &[u8],
        is_json: bool,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<bool, Unfinished> {
        let (known, mut values) = (spans.len(), 0);
        for nth in 0..known {
            let Span { start, end, rule, .. } = spans[nth];
            let len = end - start;
            if !is_by_surroundings(rule) || !(MIN_LEN..=MAX_LEN).contains(&len) {
                continue;
            }
            let value = &text[start..end];
            if is_json && memchr::memchr(b'\\', value).is_some() {
                continue;
            }
            self.remember(rule, value, work);
            let fits = start >= len || text.len() - end >= len;
            if !fits || values == MAX_VALUES || work.may_repeat < text.len() {
                continue;
            }
            work.may_repeat -= text.len();
            values += 1;
            work.spend(text.len())?;
            let secret = OnceCell::new();
            // Texts are short and a value stands there once: a searcher for it would cost more than to look.
            for at in memchr::memchr_iter(value[0], text) {
                if !text[at..].starts_with(value) || is_covered(&spans[..known], at) {
                    continue;
                }
                if spans.len() - known == MAX_PLACES || !secret.get_or_init(|| is_random(value)) {
                    break;
                }
                spans.push(Span { start: at, end: at + value.len(), rule, why: "a secret that the text repeats" });
            }
        }
        Ok(spans.len() > known)
    }

    /// Remembers a secret that other fields of the event may repeat.
    pub(super) fn remember(&self, rule: u16, value: &[u8], work: &mut Work) {
        let is_known = |repeated: &[Repeated]| repeated.iter().any(|(_, known)| known == value);
        if work.remembers && work.repeated.len() < MAX_VALUES && may_be_repeated(value) && !is_known(&work.repeated) {
            work.repeated.push((rule, value.to_vec()));
        }
    }

    /// A field's value without the secrets that are remembered, or nothing if it has none of them.
    pub(super) fn without_repeated(&self, name: &str, value: Raw<'_>, work: &mut Work) -> Option<Vec<u8>> {
        let raw = value.as_bytes();
        if name != METADATA {
            return self.without_repeated_in(raw, work);
        }
        let (mut out, mut from) = (Vec::new(), 0);
        for text in texts(value) {
            let start = text.as_bytes().as_ptr() as usize - raw.as_ptr() as usize;
            if let Some(cleaned) = self.without_repeated_in(text.as_bytes(), work) {
                out.extend_from_slice(&raw[from..start]);
                out.extend_from_slice(&cleaned);
                from = start + text.as_bytes().len();
            }
        }
        (from > 0).then(|| [out.as_slice(), &raw[from..]].concat())
    }

    fn without_repeated_in(&self, raw: &[u8], work: &mut Work) -> Option<Vec<u8>> {
        let mut cleaned: Option<Vec<u8>> = None;
        let repeated = std::mem::take(&mut work.repeated);
        for (rule, value) in &repeated {
            let text = cleaned.as_deref().unwrap_or(raw);
            if work.spend(text.len()).is_err() {
                break;
            }
            let (mut out, mut from) = (Vec::new(), 0);
            for at in memchr::memmem::find_iter(text, value).take(MAX_PLACES) {
                out.extend_from_slice(&text[from..at]);
                self.push_instead(*rule, value, &mut out);
                work.found.push(*rule);
                from = at + value.len();
            }
            if from > 0 {
                out.extend_from_slice(&text[from..]);
                cleaned = Some(out);
            }
        }
        work.repeated = repeated;
        cleaned
    }

    /// Adds to the findings in an event where its other fields repeat a secret.
    pub(super) fn explain_repeated(&self, line: &[u8], found: &mut Vec<Finding>) {
        let rule_of = |finding: &Finding| self.names.iter().position(|name| *name == finding.rule).unwrap_or_default();
        let mut values: Vec<(String, &[u8])> = Vec::new();
        for finding in found.iter() {
            let value = &line[finding.start..finding.end];
            let value = value.strip_prefix(b"\"").and_then(|inside| inside.strip_suffix(b"\"")).unwrap_or(value);
            let is_wanted = values.len() < MAX_VALUES && is_by_surroundings(rule_of(finding) as u16);
            if is_wanted && may_be_repeated(value) {
                values.push((finding.rule.clone(), value));
            }
        }
        let event = Raw::valid(line);
        let metadata = event.get(METADATA).into_iter().flat_map(texts);
        for text in texts(event).chain(metadata) {
            let start = text.as_bytes().as_ptr() as usize - line.as_ptr() as usize;
            for (rule, value) in &values {
                for at in memchr::memmem::find_iter(text.as_bytes(), value).map(|at| start + at).take(MAX_PLACES) {
                    if !found.iter().any(|finding| finding.start <= at && at < finding.end) {
                        let why = "a secret that another field gave away";
                        found.push(Finding { start: at, end: at + value.len(), rule: rule.clone(), why });
                    }
                }
            }
        }
    }

    /// Remembers the text of a member that is hidden for its name.
    pub(super) fn remember_member(&self, value: Raw<'_>, work: &mut Work) {
        if work.remembers && value.kind() == Kind::String {
            self.remember(SECRET_FIELD, value.inside().unwrap_or_default(), work);
        }
    }

    /// Whether secrets are remembered at all: where they go without a trace, or only some fields are looked at, none is.
    pub(super) fn remembers(&self) -> bool {
        self.fields.is_none() && *self.action(SECRET_FIELD) != Action::Remove
    }
}
