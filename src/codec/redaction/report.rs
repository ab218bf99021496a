//! Redaction counts by rule.

use std::collections::BTreeMap;
use std::io::Write;

use crate::event::Kind;
use crate::event::raw::Raw;

/// The most rules that one event's `redactions` names; what an event brings along beyond them is dropped.
const MAX_RULES: usize = 100;
/// The longest name of a rule.
pub const MAX_RULE_NAME: usize = 64;

/// Counts by rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    counts: BTreeMap<String, u64>,
}

impl Report {
    pub fn add(&mut self, rule: &str, count: u64) {
        match self.counts.get_mut(rule) {
            Some(sum) => *sum = sum.saturating_add(count),
            None => {
                self.counts.insert(rule.to_owned(), count);
            }
        }
    }

    #[cfg(test)]
    pub fn count(&self, rule: &str) -> u64 {
        self.counts.get(rule).copied().unwrap_or(0)
    }

    #[cfg(test)]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Rules and counts in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(rule, count)| (rule.as_str(), *count))
    }

    /// Takes over the counts that an event brought along; anything but plain names and numbers is dropped.
    pub fn trust_numbers(&mut self, redactions: Raw<'_>) {
        for entry in redactions.elements() {
            let name = entry.get("rule").and_then(|rule| rule.as_str()).filter(|name| is_rule_name(name));
            let count =
                entry.get("count").filter(|count| count.kind() == Kind::Number).and_then(|count| count.as_i64());
            if let (Some(name), Some(count @ 1..)) = (name, count)
                && self.counts.len() < MAX_RULES
            {
                self.add(&name, count as u64);
            }
        }
    }

    /// `[{"rule":"email","count":2}]`
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_counts(self.iter(), &mut out);
        out
    }
}

/// Appends `[{"rule":"email","count":2}]`.
pub fn push_counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (nth, (rule, count)) in counts.enumerate() {
        // Names of rules have nothing that JSON escapes.
        out.extend_from_slice(if nth == 0 { b"{\"rule\":\"" } else { b",{\"rule\":\"" });
        out.extend_from_slice(rule.as_bytes());
        out.extend_from_slice(b"\",\"count\":");
        match count {
            // Nearly all are, and formatting costs more than all else here.
            0..=9 => out.push(b'0' + count as u8),
            _ => write!(out, "{count}").expect("memory takes all that is written"),
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// Whether a name can be a rule's: a word that can not carry much else.
pub fn is_rule_name(name: &str) -> bool {
    (1..=MAX_RULE_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.'))
}
