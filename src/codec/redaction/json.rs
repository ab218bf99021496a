//! Walks JSON values: decoded strings, numbers, member names, nested JSON text.

use super::byte_set::ByteSet;
use super::literals::Literals as _;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::assign::{Role, is_name_member, is_value_member, may_be_secret};
use super::batch::MAX_PAIR;
use super::filter::Hit;
use super::names::{Class, classify};
use super::reader::{Unfinished, Work};
use super::rules::{CARD, SECRET_FIELD};
use super::search::Span;
use super::values::is_stand_in;
use super::views::{Disguises, View};
use super::{Action, Engine, cards};
use crate::event::raw::Raw;
use crate::event::{Kind, Scanner, escape};

/// Paths below the value at hand that are looked at; none means all of it.
pub type Only<'a> = Option<Vec<&'a [String]>>;

/// The context of a value: the paths to look at, the name of its member, and what a name above it announces.
pub struct Above<'a> {
    pub only: Only<'a>,
    pub name: &'a str,
    pub class: Option<Class>,
}

impl Engine {
    /// The value without its secrets, or nothing if it has none.
    pub(super) fn clean_value(&self, raw: Raw<'_>, above: &Above<'_>, work: &mut Work) -> Option<Vec<u8>> {
        match raw.kind() {
            Kind::Object => self.clean_object(raw, above, work),
            Kind::Array => self.clean_array(raw, above, work),
            _ if above.only.is_some() => None,
            Kind::String => {
                let inside = raw.inside()?;
                if memchr::memchr(b'\\', inside).is_none() {
                    return self.clean_string(raw, inside, above.class, work);
                }
                let mut text = work.take_buffer();
                escape::unescape_into(inside, &mut text);
                let cleaned = self.clean_string(raw, &text, above.class, work);
                work.give_back_buffer(text);
                cleaned
            }
            Kind::Number => self.clean_number(raw, above.name, work),
            Kind::Bool | Kind::Null => None,
        }
    }

    /// The string without its secrets; `text` is what it says.
    fn clean_string(&self, raw: Raw<'_>, text: &[u8], class: Option<Class>, work: &mut Work) -> Option<Vec<u8>> {
        if class.is_some_and(|class| may_be_secret(class, text, Role::Beside)) && !self.is_mask(text) {
            work.found.push(SECRET_FIELD);
            return Some(self.hidden(raw));
        }
        let cleaned = self.clean(text, work)?;
        Some(self.as_string(cleaned, work))
    }

    /// A text as JSON.
    pub(super) fn as_string(&self, text: Vec<u8>, work: &mut Work) -> Vec<u8> {
        let mut out = work.take_buffer();
        push_string(&text, &mut out);
        work.give_back_buffer(text);
        out
    }

    fn clean_number(&self, raw: Raw<'_>, name: &str, work: &mut Work) -> Option<Vec<u8>> {
        let text = raw.text();
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = whole.bytes().all(|b| b.is_ascii_digit()) && decimals.bytes().all(|b| b == b'0');
        if self.enabled[usize::from(CARD)]
            && digits
            && (13..=19).contains(&whole.len())
            && cards::is_card_member(name, whole.as_bytes())
        {
            work.found.push(CARD);
            return Some(self.mask(CARD, whole));
        }
        if self.own.is_empty() {
            return None;
        }
        self.clean(text.as_bytes(), work).map(|cleaned| string(&cleaned))
    }

    fn clean_array(&self, raw: Raw<'_>, above: &Above<'_>, work: &mut Work) -> Option<Vec<u8>> {
        // A number among others is an element, whatever the array is called.
        let one = raw.elements().nth(1).is_none();
        let below = Above { only: above.only.clone(), name: if one { above.name } else { "" }, class: above.class };
        let cleaned: Vec<_> = raw.elements().map(|value| (value, self.clean_value(value, &below, work))).collect();
        if cleaned.iter().all(|(_, cleaned)| cleaned.is_none()) {
            return None;
        }
        let mut out = vec![b'['];
        for (value, cleaned) in cleaned {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(cleaned.as_deref().unwrap_or(value.as_bytes()));
        }
        out.push(b']');
        Some(out)
    }

    fn clean_object(&self, raw: Raw<'_>, above: &Above<'_>, work: &mut Work) -> Option<Vec<u8>> {
        let (mut members, mut changed) = (Vec::new(), false);
        let paired = pair_class(raw);
        for (name, value) in raw.members() {
            let decoded = escape::unescape(name);
            let Some(only) = narrowed(&above.only, &decoded) else {
                members.push((name, None, value, None));
                continue;
            };
            let whole = only.is_none();
            let renamed = whole.then(|| self.clean(decoded.as_bytes(), work)).flatten();
            let pair = paired.filter(|_| whole && is_value_member(&decoded));
            let own = classify(decoded.as_bytes());
            let secret = whole && pair.or(own).is_some_and(|class| self.is_secret_member(&decoded, class, value));
            let cleaned = match secret {
                true => {
                    work.found.push(SECRET_FIELD);
                    match self.action(SECRET_FIELD) {
                        Action::Remove => Some(None),
                        _ => Some(Some(self.hidden(value))),
                    }
                }
                false => {
                    let class = own.or(above.class).filter(|_| self.enabled[usize::from(SECRET_FIELD)]);
                    let below = Above { only, name: &decoded, class: class.filter(|_| value.kind() != Kind::String) };
                    self.clean_value(value, &below, work).map(Some)
                }
            };
            changed |= renamed.is_some() || cleaned.is_some();
            members.push((name, renamed, value, cleaned));
        }
        if !changed {
            return None;
        }
        let mut out = vec![b'{'];
        let mut names: Option<FreeNames> = None;
        for (name, renamed, value, cleaned) in members {
            if cleaned == Some(None) {
                continue;
            }
            if out.len() > 1 {
                out.push(b',');
            }
            match renamed {
                None => {
                    out.push(b'"');
                    out.extend_from_slice(name);
                    out.push(b'"');
                }
                Some(renamed) => {
                    let taken = || raw.members().map(|(name, _)| escape::unescape(name).into_owned()).collect();
                    let names = names.get_or_insert_with(|| FreeNames::new(taken()));
                    let free = names.take(&String::from_utf8_lossy(&renamed)).into_bytes();
                    out.extend_from_slice(&string(&free));
                }
            }
            out.push(b':');
            out.extend_from_slice(cleaned.flatten().as_deref().unwrap_or(value.as_bytes()));
        }
        out.push(b'}');
        Some(out)
    }

    /// Whether the value can be what its name, or the name that a pair gives to it, announces.
    pub(super) fn is_secret_member(&self, name: &str, class: Class, value: Raw<'_>) -> bool {
        if !self.enabled[usize::from(SECRET_FIELD)] {
            return false;
        }
        let mut brackets = memchr::memchr_iter(b'[', name.as_bytes());
        if brackets.any(|at| self.is_in_mask(name.as_bytes(), at + 1)) {
            return false;
        }
        match value.kind() {
            Kind::Null | Kind::Bool => false,
            Kind::Number => is_secret_number(class, value.text()),
            Kind::Array | Kind::Object => false,
            Kind::String => {
                let text = value.as_str().unwrap_or_default();
                let text = text.as_bytes();
                !self.is_mask(text) && !self.holds_mask(text) && is_secret_text(class, text)
            }
        }
    }

    /// Whether there is a mask in the text, so that the secret is gone already.
    fn holds_mask(&self, text: &[u8]) -> bool {
        text.len() < 512 && memchr::memchr_iter(b'[', text).any(|at| self.is_in_mask(text, at + 1))
    }

    /// What stands in the place of a secret member's value.
    pub(super) fn hidden(&self, value: Raw<'_>) -> Vec<u8> {
        self.mask(SECRET_FIELD, &value.display())
    }

    /// A mask as JSON: there is nothing in it that JSON would escape.
    fn mask(&self, rule: u16, secret: &str) -> Vec<u8> {
        let mut out = vec![b'"'];
        self.push_instead(rule, secret.as_bytes(), &mut out);
        out.push(b'"');
        out
    }

    /// Whether a text is itself JSON in which something may be hidden: what its strings say with escapes is read once they
    /// are decoded, and only then. `hits` are those in the text.
    pub(super) fn is_json(&self, text: &[u8], hits: &[Hit], work: &mut Work) -> Result<bool, Unfinished> {
        let trimmed = text.trim_ascii();
        let ends = (trimmed.first(), trimmed.last());
        let container = matches!(ends, (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) | (Some(b'"'), Some(b'"')));
        let names = || hits.iter().any(|hit| hit.window().is_some_and(|window| self.names_at(window)));
        if !container || memchr::memchr(b'\\', text).is_none() && !names() || !work.may_decode(text.len()) {
            return Ok(false);
        }
        work.spend(2 * text.len())?;
        Ok(Scanner::new().validate(text).is_ok())
    }

    /// Searches the strings of a text that is JSON, as they read once decoded. `hits` are those in the text.
    pub(super) fn search_json(
        &self,
        text: &[u8],
        hits: &[Hit],
        depth: usize,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<(), Unfinished> {
        let mut known: Vec<(usize, usize)> = spans.iter().map(|span| (span.start, span.end)).collect();
        known.sort_unstable();
        let (mut strings, mut hits, mut known) = (Strings::of(text), hits, &known[..]);
        while let Some(Range { start, end }) = strings.next() {
            let inside = &text[start..end];
            hits = &hits[hits.partition_point(|hit| (hit.at as usize) < start)..];
            let within = || hits.iter().take_while(|hit| (hit.at as usize) < end);
            if !work.known.as_ref().is_none_or(|known| known.is_near(&(start..end))) {
                continue;
            }
            if memchr::memchr(b'\\', inside).is_some() {
                work.spend(inside.len())?;
                let view = View::of(inside, Disguises { json: true, ..Disguises::default() });
                self.search_part(&view, start, depth, work, spans)?;
                continue;
            }
            // As it is written it was read with the text: alone it may say more, as a line or an assignment of its own.
            known = &known[known.partition_point(|(_, end)| *end <= start)..];
            let mut hidden = Disguises::default();
            within().for_each(|hit| self.notice_at(text, *hit, &mut hidden));
            let named = within().any(|hit| self.is_name(*hit));
            let is_new = || !strings.is_key(end) && known.first().is_none_or(|(known, _)| *known >= end);
            let alone = within().next().is_some() && strings.stands_alone(&(start..end));
            // The whole text is not decoded once more for what its strings hide.
            if alone || named && is_new() || hidden != hidden.of_json() {
                let (outer, found) = (work.known.take(), spans.len());
                work.known = outer.as_ref().map(|known| known.part(&(start..end)));
                self.search(inside, depth, work, spans)?;
                work.known = outer;
                for span in &mut spans[found..] {
                    (span.start, span.end) = (span.start + start, span.end + start);
                }
            }
        }
        Ok(())
    }
}

/// The longest string that may be a name whose value stands beside it.
const MAX_NAME: usize = 64;

/// The insides of the strings of a text that is JSON, in order.
pub struct Strings<'a> {
    text: &'a [u8],
    at: usize,
}

impl Strings<'_> {
    pub fn of(text: &[u8]) -> Strings<'_> {
        Strings { text, at: 0 }
    }

    /// Whether the string that ends here names a member.
    pub fn is_key(&self, end: usize) -> bool {
        self.text.get(end + 1..).is_some_and(|rest| rest.trim_ascii_start().begins_with(b":"))
    }

    /// Whether a string is read by itself, as nothing that stands beside it could tell more: it has escapes, and says
    /// something else once they are decoded, or it is more than a name, or than the value of one.
    pub fn stands_alone(&self, string: &Range<usize>) -> bool {
        let inside = &self.text[string.clone()];
        let says_more = || inside.len() > MAX_NAME || inside.contains(&b' ') || memchr::memchr(b'\\', inside).is_some();
        says_more() && !self.is_key(string.end)
    }

    /// The next string that is read by itself, behind what was asked for before.
    pub fn next_alone(&mut self) -> Option<Range<usize>> {
        while let Some(string) = self.next() {
            if self.stands_alone(&string) {
                return Some(string);
            }
        }
        None
    }
}

impl Iterator for Strings<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let open = memchr::memchr(b'"', self.text.get(self.at..)?)?;
        let start = self.at + open + 1;
        let end = string_end(self.text, start);
        self.at = end + 1;
        Some(start..end)
    }
}

/// Where the string ends whose inside begins at `at`.
fn string_end(text: &[u8], mut at: usize) -> usize {
    while let Some(next) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += next;
        if text[at] == b'"' {
            return at;
        }
        at = (at + 2).min(text.len());
    }
    text.len()
}

/// Whether a member of this name holds the value of a pair.
pub fn is_named_pair(name: &str) -> bool {
    is_value_member(name)
}

/// What the name announces that a pair holds: `{"name": "DB_PASSWORD", "value": "x"}`.
pub fn pair_class(object: Raw<'_>) -> Option<Class> {
    let named = |(name, value)| is_name_member(&escape::unescape(name)).then(|| named_class(value)).flatten();
    object.members().take(MAX_PAIR).find_map(named)
}

/// What the value of a pair is, by the member that holds its name.
pub fn named_class(value: Raw<'_>) -> Option<Class> {
    if value.kind() != Kind::String {
        return None;
    }
    let text = value.as_str()?;
    (text.len() <= 64 && !text.contains(' ')).then(|| classify(text.as_bytes())).flatten()
}

fn is_secret_number(class: Class, text: &str) -> bool {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match class {
        Class::Password | Class::Pwd | Class::Secret => digits && text.len() > 1,
        Class::Key => digits && text.len() > 5,
        Class::Short => digits && text.len() > 3,
        _ => false,
    }
}

/// Whether a member's text is what its name announces.
fn is_secret_text(class: Class, text: &[u8]) -> bool {
    match class {
        Class::Authorization => {
            let words: Vec<&[u8]> = text.split(|b| *b == b' ').collect();
            let last = words.last().copied().unwrap_or_default();
            let scheme = words.len() == 2 && words[0].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
            !last.is_empty()
                && !is_stand_in(last)
                && (scheme || words.len() > 2 && text.contains(&b'=') || may_be_secret(Class::Key, text, Role::Member))
        }
        Class::Cookie => {
            let pair = memchr::memchr(b'=', text).is_some_and(|at| {
                at > 0 && text[..at].iter().all(|b| b.is_ascii_graphic() && !const { &ByteSet::of(b"(){}<>") }.has(b))
            });
            pair && !is_stand_in(text) && !text.contains(&b'(') || may_be_secret(Class::Token, text, Role::Member)
        }
        class => may_be_secret(class, text, Role::Member),
    }
}

/// What is left of the paths below a member; nothing if it is not on any of them.
pub fn narrowed<'a>(only: &Only<'a>, name: &str) -> Option<Only<'a>> {
    let Some(paths) = only else { return Some(None) };
    let below: Vec<&[String]> =
        paths.iter().filter(|path| path.first().is_some_and(|first| first == name)).map(|path| &path[1..]).collect();
    match below.iter().any(|path| path.is_empty()) {
        true => Some(None),
        false => (!below.is_empty()).then_some(Some(below)),
    }
}

/// Gives out names that an object does not have yet: `[email]`, `[email]_2`, …
pub struct FreeNames {
    taken: HashSet<String>,
    /// The last number given out for each name.
    numbers: HashMap<String, usize>,
}

impl FreeNames {
    pub fn new(taken: HashSet<String>) -> FreeNames {
        FreeNames { taken, numbers: HashMap::new() }
    }

    pub fn take(&mut self, wanted: &str) -> String {
        let number = self.numbers.entry(wanted.to_owned()).or_insert(0);
        loop {
            *number += 1;
            let free = if *number == 1 { wanted.to_owned() } else { format!("{wanted}_{number}") };
            if self.taken.insert(free.clone()) {
                return free;
            }
        }
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_string(text, &mut out);
    out
}

fn push_string(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + ESCAPES);
    if text.is_ascii() {
        return escape::push_ascii(out, text);
    }
    match simdutf8::basic::from_utf8(text) {
        Ok(text) => escape::push_string(out, text),
        Err(_) => escape::push_string(out, &String::from_utf8_lossy(text)),
    }
}

/// What a text may grow by where it is escaped, before it has to move.
const ESCAPES: usize = 32;
