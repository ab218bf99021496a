//! What a reload would change.

use std::collections::BTreeMap;
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

impl Changes {
    pub fn between(running: &Plan, next: &Plan) -> Changes {
        let (before, after) = (fingerprints(running), fingerprints(next));
        let mut changes = Changes::default();
        for (name, fingerprint) in &after {
            match before.get(name) {
                None => changes.added.push(name.clone()),
                Some(known) if known != fingerprint => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        changes.removed.extend(before.keys().filter(|name| !after.contains_key(*name)).cloned());
        for (section, fingerprint) in &next.sections {
            if !running.sections.contains(&(section, *fingerprint)) {
                changes.settings.push(section);
            }
        }
        changes
    }

    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

fn fingerprints(plan: &Plan) -> BTreeMap<Arc<str>, Fingerprint> {
    let sources = plan.sources.iter().map(|source| (source.name.clone(), source.fingerprint));
    let transforms = plan.transforms.iter().map(|transform| (transform.name.clone(), transform.fingerprint));
    let sinks = plan.sinks.iter().map(|sink| (sink.name.clone(), sink.fingerprint));
    sources.chain(transforms).chain(sinks).collect()
}
