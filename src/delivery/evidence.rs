//! What a target has accepted recently: the evidence that a refusal is caused by one event. No clock, no socket.

use std::collections::BTreeMap;

/// Distinct destinations; beyond them, the least recently successful one is forgotten.
const MAX_DESTINATIONS: usize = 256;

/// Counts writes from which something was taken; its count is the time by which refusals are dated.
#[derive(Debug, Default)]
pub struct Evidence {
    now: u64,
    /// A target with one destination has it under `None`.
    destinations: BTreeMap<Option<String>, Destination>,
}

#[derive(Debug, Default)]
struct Destination {
    /// When it last took an event.
    taken: u64,
    /// When an event for it was last refused for good on the strength of that.
    used: u64,
}

impl Evidence {
    pub fn now(&self) -> u64 {
        self.now
    }

    /// One write has brought events to these destinations.
    pub fn taken(&mut self, destinations: impl IntoIterator<Item = Option<String>>) {
        self.now += 1;
        for destination in destinations {
            self.destinations.entry(destination).or_default().taken = self.now;
        }
        while self.destinations.len() > MAX_DESTINATIONS {
            let oldest = self.destinations.iter().min_by_key(|(_, one)| one.taken).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.destinations.remove(&name));
        }
    }

    /// Whether a destination has taken something since then, and since it served as evidence: in a row of refusals only
    /// one follows from the same success.
    pub fn has_taken_since(&self, destination: &Option<String>, since: u64) -> bool {
        self.destinations.get(destination).is_some_and(|one| one.taken > since && one.taken > one.used)
    }

    pub fn use_up(&mut self, destination: &Option<String>) {
        if let Some(one) = self.destinations.get_mut(destination) {
            one.used = self.now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_evidence_for_its_own_destination_once_and_for_what_was_refused_before() {
        let mut evidence = Evidence::default();
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        let refused_at = evidence.now();
        assert!(!evidence.has_taken_since(&a, refused_at));
        evidence.taken([a.clone()]);
        assert!(evidence.has_taken_since(&a, refused_at) && !evidence.has_taken_since(&b, refused_at));
        assert!(!evidence.has_taken_since(&a, evidence.now()), "it was before");
        evidence.use_up(&a);
        assert!(!evidence.has_taken_since(&a, refused_at));
        evidence.taken([a.clone()]);
        assert!(evidence.has_taken_since(&a, refused_at));
        for n in 0..2 * MAX_DESTINATIONS {
            evidence.taken([Some(n.to_string())]);
        }
        assert_eq!(evidence.destinations.len(), MAX_DESTINATIONS);
    }
}
