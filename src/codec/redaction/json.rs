//! Walks through JSON values: strings as decoded, numbers, member names, nested text.

use std::collections::{HashMap, HashSet};

use super::keys::{Promise, promise};
use super::reader::Work;
use super::rules::{CARD, SECRET_FIELD};
use super::{Action, Engine, finders, verify};
use crate::event::raw::Raw;
use crate::event::{Kind, escape};

/// Paths below the value at hand that are looked at; none means all of it.
pub type Only<'a> = Option<Vec<&'a [String]>>;

impl Engine {
    /// The value without its secrets, or nothing if it has none.
    pub(super) fn clean_value(&self, raw: Raw<'_>, only: &Only<'_>, work: &mut Work) -> Option<Vec<u8>> {
        match raw.kind() {
            Kind::Object => self.clean_object(raw, only, work),
            Kind::Array => self.clean_array(raw, only, work),
            _ if only.is_some() => None,
            Kind::String => {
                let text = raw.as_str()?;
                let cleaned = self.clean(text.as_bytes(), work)?;
                Some(string(&cleaned))
            }
            Kind::Number => self.clean_number(raw, work),
            Kind::Bool | Kind::Null => None,
        }
    }

    fn clean_number(&self, raw: Raw<'_>, work: &mut Work) -> Option<Vec<u8>> {
        let text = raw.text();
        let whole = text.trim_start_matches('-');
        let (whole, decimals) = whole.split_once('.').unwrap_or((whole, ""));
        let digits = whole.bytes().all(|b| b.is_ascii_digit()) && decimals.bytes().all(|b| b == b'0');
        if self.enabled[usize::from(CARD)]
            && digits
            && (13..=19).contains(&whole.len())
            && verify::is_card(whole.as_bytes())
        {
            work.found.push(CARD);
            return Some(string(&self.instead(CARD, whole.as_bytes())));
        }
        if self.own.is_empty() {
            return None;
        }
        self.clean(text.as_bytes(), work).map(|cleaned| string(&cleaned))
    }

    fn clean_array(&self, raw: Raw<'_>, only: &Only<'_>, work: &mut Work) -> Option<Vec<u8>> {
        let cleaned: Vec<_> = raw.elements().map(|value| (value, self.clean_value(value, only, work))).collect();
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

    fn clean_object(&self, raw: Raw<'_>, only: &Only<'_>, work: &mut Work) -> Option<Vec<u8>> {
        let (mut members, mut changed) = (Vec::new(), false);
        for (name, value) in raw.members() {
            let decoded = escape::unescape(name);
            let Some(below) = narrowed(only, &decoded) else {
                members.push((name, None, value, None));
                continue;
            };
            let renamed = below.is_none().then(|| self.clean(decoded.as_bytes(), work)).flatten();
            let cleaned = match self.secret_member(&decoded, value, below.is_none()) {
                true => {
                    work.found.push(SECRET_FIELD);
                    match self.action(SECRET_FIELD) {
                        Action::Remove => Some(None),
                        _ => Some(Some(self.hidden(value))),
                    }
                }
                false => self.clean_value(value, &below, work).map(Some),
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

    /// Whether the name says that the value is a secret, and it is one that can be.
    pub(super) fn secret_member(&self, name: &str, value: Raw<'_>, whole: bool) -> bool {
        if !whole || !self.enabled[usize::from(SECRET_FIELD)] {
            return false;
        }
        let Some(promise) = promise(name.as_bytes()) else { return false };
        let mut brackets = memchr::memchr_iter(b'[', name.as_bytes());
        if brackets.any(|at| self.is_in_mask(name.as_bytes(), at + 1)) {
            return false;
        }
        match value.kind() {
            Kind::Null | Kind::Bool => false,
            Kind::Number => true,
            Kind::Array => value.elements().next().is_some(),
            Kind::Object => value.members().next().is_some(),
            Kind::String => {
                let text = value.as_str().unwrap_or_default();
                let path =
                    promise == Promise::Pwd && (text.starts_with(['/', '~', '.']) || text.get(1..3) == Some(":\\"));
                !path && !self.is_mask(text.as_bytes()) && !finders::is_stand_in(text.as_bytes())
            }
        }
    }

    /// What stands in the place of a secret member's value.
    pub(super) fn hidden(&self, value: Raw<'_>) -> Vec<u8> {
        string(&self.instead(SECRET_FIELD, value.display().as_bytes()))
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
    let mut out = Vec::with_capacity(text.len() + 2);
    escape::push_string(&mut out, &String::from_utf8_lossy(text));
    out
}
