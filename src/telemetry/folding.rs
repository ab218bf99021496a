//! Folds repeated log messages: the first of each component and reason at once, the others as a count.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often the same is logged again, with the number of those since.
const FOLDED_FOR: Duration = Duration::from_secs(60);
/// Distinct reasons per component; further ones are folded into one.
const MAX_REASONS: usize = 256;

#[derive(Debug, Default)]
pub struct Folding(HashMap<(String, String), Seen>);

#[derive(Debug)]
struct Seen {
    logged: Instant,
    since: u64,
}

impl Folding {
    /// How many were passed over since the last line, if this one is to be logged.
    pub fn count(&mut self, component: &str, reason: &str, now: Instant) -> Option<u64> {
        let is_full = self.0.len() >= MAX_REASONS;
        let mut key = (component.to_owned(), shape(reason));
        if is_full && !self.0.contains_key(&key) {
            key.1.clear();
        }
        match self.0.get_mut(&key) {
            None => {
                self.0.insert(key, Seen { logged: now, since: 0 });
                Some(0)
            }
            Some(seen) if now.duration_since(seen.logged) >= FOLDED_FOR => {
                seen.logged = now;
                Some(std::mem::take(&mut seen.since))
            }
            Some(seen) => {
                seen.since += 1;
                None
            }
        }
    }
}

/// A reason without what differs from event to event: numbers, and what stands in quotes.
fn shape(reason: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    for c in reason.chars().take(200) {
        match quote {
            Some(end) => {
                if c == end {
                    quote = None;
                }
            }
            None if matches!(c, '"' | '`') => {
                quote = Some(c);
                out.push(c);
            }
            None if c.is_ascii_digit() => {
                if !out.ends_with('0') {
                    out.push('0');
                }
            }
            None => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_logged_and_then_one_in_a_minute_with_a_count() {
        let (mut said, now) = (Folding::default(), Instant::now());
        assert_eq!(said.count("web", "no JSON at 17", now), Some(0));
        assert_eq!(said.count("web", "no JSON at 4711", now), None);
        assert_eq!(said.count("web", "`a` is no number", now), Some(0));
        assert_eq!(said.count("web", "`b c` is no number", now), None);
        assert_eq!(said.count("db", "no JSON at 17", now), Some(0));
        assert_eq!(said.count("web", "no JSON at 18", now + FOLDED_FOR), Some(1));
        assert_eq!(said.count("web", "no JSON at 18", now + FOLDED_FOR), None);
    }

    #[test]
    fn reasons_that_never_repeat_are_bounded() {
        let (mut said, now) = (Folding::default(), Instant::now());
        let word = |n: usize| {
            format!("{:?}", n.to_string().bytes().map(|b| (b'a' + b - b'0') as char).collect::<Vec<_>>())
                .replace('\'', "")
        };
        let logged = (0..10_000).filter(|n| said.count("web", &word(*n), now).is_some()).count();
        assert!(logged <= MAX_REASONS + 1, "{logged}");
        assert!(said.0.len() <= MAX_REASONS + 1);
    }
}
