//! The key of an event: the values of configured fields, by which stages group events.

use crate::component::Check;
use crate::event::{Batch, Id, names};
use crate::units::OneOrMany;
use crate::varint::put_bytes;

/// The most fields of a key.
const MAX_FIELDS: usize = 8;

/// The fields, each as its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventKey(Vec<Vec<String>>);

impl EventKey {
    /// Reads the key at a path of the configuration, or adds a problem.
    pub fn read(fields: &OneOrMany, path: &str, check: &mut Check) -> Option<EventKey> {
        let fields = &fields.0;
        let is_name = |field: &String| !field.is_empty() && field.split('.').all(|name| !name.is_empty());
        if fields.is_empty() || fields.len() > MAX_FIELDS || !fields.iter().all(is_name) {
            check.problem(path, format!("the key has 1 to {MAX_FIELDS} fields"));
            return None;
        }
        if let Some(template) = fields.iter().find(|field| field.contains("{{")) {
            check.problem(
                path,
                format!("`{template}` is a template: name fields, such as `user_id` or `metadata.tenant`"),
            );
            return None;
        }
        Some(EventKey(fields.iter().map(|field| field.split('.').map(str::to_owned).collect()).collect()))
    }

    pub fn paths(&self) -> &[Vec<String>] {
        &self.0
    }

    /// The key of an event of a split batch; `None` where it lacks one of the fields. The field `id` is the event's id,
    /// its own or the one that follows from where it came from.
    pub fn of(&self, batch: &Batch, event: usize) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        for path in &self.0 {
            if path.len() == 1 && path[0] == "id" {
                put_bytes(&mut key, &id_of(batch, event).0.to_be_bytes());
                continue;
            }
            let value = batch.get_path(event, path).filter(|value| !value.is_null())?;
            put_bytes(&mut key, value.display().as_bytes());
        }
        Some(key)
    }

    /// Names and values, for people; what is missing is left out.
    pub fn shown(&self, batch: &Batch, event: usize) -> Vec<(String, String)> {
        let value = |path: &Vec<String>| {
            let value = batch.get_path(event, path).filter(|value| !value.is_null())?;
            Some((path.join("."), value.display().into_owned()))
        };
        self.0.iter().filter_map(value).collect()
    }
}

/// The id of an event of a split batch.
pub fn id_of(batch: &Batch, event: usize) -> Id {
    let own = batch.get_str(event, names::ID).and_then(|id| Id::parse(&id));
    own.unwrap_or_else(|| batch.derived_id(event))
}
