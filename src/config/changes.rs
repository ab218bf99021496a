//! What a reload would change: components added, removed, changed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::plan::{Fingerprint, Plan};

/// The components and sections that differ between the running plan and the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub added: Vec<Arc<str>>,
    pub removed: Vec<Arc<str>>,
    pub changed: Vec<Arc<str>>,
    /// Sections of the settings that differ.
    pub settings: Vec<&'static str>,
}

/// What a plan comes to, for comparing it with another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    components: BTreeMap<Arc<str>, Fingerprint>,
    sections: Vec<(&'static str, Fingerprint)>,
}

impl Plan {
    pub fn outline(&self) -> Outline {
        let sources = self.sources.iter().map(|source| (source.name.clone(), source.fingerprint));
        let transforms = self.transforms.iter().map(|transform| (transform.name.clone(), transform.fingerprint));
        let sinks = self.sinks.iter().map(|sink| (sink.name.clone(), sink.fingerprint));
        Outline { components: sources.chain(transforms).chain(sinks).collect(), sections: self.sections.clone() }
    }
}

/// For the log: `added: a, b; changed: c`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |word: &str, names: &[Arc<str>]| (!names.is_empty()).then(|| format!("{word}: {}", names.join(", ")));
        let settings = (!self.settings.is_empty()).then(|| format!("settings: {}", self.settings.join(", ")));
        let words = [of("added", &self.added), of("removed", &self.removed), of("changed", &self.changed), settings];
        let words: Vec<String> = words.into_iter().flatten().collect();
        f.write_str(if words.is_empty() { "nothing" } else { "" })?;
        f.write_str(&words.join("; "))
    }
}

impl Changes {
    pub fn between(running: &Outline, next: &Outline) -> Changes {
        let mut changes = Changes::default();
        for (name, fingerprint) in &next.components {
            match running.components.get(name) {
                None => changes.added.push(name.clone()),
                Some(known) if known != fingerprint => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let removed = running.components.keys().filter(|name| !next.components.contains_key(*name));
        changes.removed.extend(removed.cloned());
        for (section, fingerprint) in &next.sections {
            if !running.sections.contains(&(section, *fingerprint)) {
                changes.settings.push(section);
            }
        }
        changes
    }

    /// Whether a component is another than before.
    pub fn touches(&self, name: &Arc<str>) -> bool {
        self.added.contains(name) || self.changed.contains(name)
    }

    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}
