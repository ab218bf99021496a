//! Which column holds an event's id, and what its index lets the sink promise.

use super::Config;
use super::table::{Table, quote};
use super::value::Form;
use crate::component::Promise;

/// The column that is added to a table whose key counts up by itself.
pub const ADDED: &str = "event_id";
/// What `key` is by default.
pub const DEFAULT: &str = "id";
/// Characters of a UUID.
const UUID_LEN: usize = 36;

#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    Column {
        name: String,
        /// The columns of the unique index that knows it.
        index: Vec<String>,
    },
    /// Nothing fits yet; [`ADDED`] would.
    Add,
    /// Nothing fits.
    None {
        /// A column that carries the id all the same.
        name: Option<String>,
        why: String,
    },
}

impl Key {
    pub fn choose(table: &Table, config: &Config) -> Key {
        if config.mode == super::Mode::AppendOnly {
            let name = carrier(table, &config.key);
            return Key::None { name, why: "`mode: append_only` ignores the key".into() };
        }
        let wanted = [config.key.as_str(), ADDED];
        for name in wanted {
            if let Some(index) = carrier(table, name).and_then(|name| index(table, &name)) {
                return Key::Column { name: name.to_owned(), index };
            }
        }
        let unfinished = wanted.iter().find(|name| table.unfinished.iter().any(|column| column == *name));
        let carrier = wanted.iter().find_map(|name| carrier(table, name));
        let why = match (&carrier, unfinished) {
            (Some(name), Some(_)) => format!("the unique index on `{name}` is not valid yet"),
            (Some(_), None) if !table.has_places => "what keeps rows apart behind a view is not known here".into(),
            (Some(name), None) => format!("no unique index on `{name}` alone: create one"),
            // Only a table as it is can say whether its time is part of every key.
            (None, _) if table.is_partitioned => format!("the table is partitioned and has no `{ADDED}` in a key"),
            (None, _) if config.key != DEFAULT => format!("an event id does not fit into column `{}`", config.key),
            (None, _) if table.column(ADDED).is_some() => format!("an id does not fit into `{ADDED}`"),
            (None, _) if table.is_owned => return Key::Add,
            (None, _) => format!(
                "no column fits an event's id, and the role cannot add one: \
                 `alter table {} add column {ADDED} uuid unique` as its owner",
                table.name
            ),
        };
        Key::None { name: carrier, why }
    }

    /// The column that gets the id.
    pub fn column(&self) -> Option<&str> {
        match self {
            Key::Column { name, .. } => Some(name),
            Key::Add => None,
            Key::None { name, .. } => name.as_deref(),
        }
    }

    /// The query that counts rows by their ids, if a trigger makes it necessary.
    pub fn count(&self, table: &Table) -> Option<String> {
        let column = self.column().and_then(|name| table.column(name)).filter(|column| column.may_select)?;
        let cast = if column.form == Form::Uuid { "::uuid[]" } else { "" };
        table.has_triggers.then(|| {
            format!(
                "SELECT count(*) FROM {} WHERE {} = ANY($1::text[]{cast})",
                table.name.quoted(),
                quote(&column.name)
            )
        })
    }

    pub fn promise(&self) -> Promise {
        match self {
            Key::Column { index, .. } if index.len() > 1 => Promise::AtLeastOnce,
            Key::Column { .. } | Key::Add => Promise::EffectivelyOnce,
            Key::None { .. } => Promise::AtLeastOnce,
        }
    }

    pub fn notes(&self, table: &Table) -> Vec<String> {
        match self {
            Key::Column { name, index } => {
                let mut notes = vec![format!("`{name}` carries the event's id")];
                if index.len() > 1 {
                    let other = index.iter().find(|column| *column != name);
                    notes.push(holds_more(other.map_or("timestamp", String::as_str)));
                }
                let may_name = index.iter().all(|name| table.column(name).is_some_and(|column| column.may_select));
                if !may_name && table.unique.len() > 1 {
                    notes.push(format!(
                        "the role may not read `{name}`, so a row that any other unique index refuses counts as a \
                         repeat: grant select ({name}) on {}",
                        table.name
                    ));
                }
                notes
            }
            Key::Add => vec![format!("a column `{ADDED}` with a unique index is added, to carry the event's id")],
            Key::None { why, .. } => vec![format!("an event sent again after a failure is stored twice: {why}")],
        }
    }
}

/// What a key over the id and another column means.
pub fn holds_more(column: &str) -> String {
    format!(
        "the key includes `{column}`: an event sent again after a failure is stored once, but the same event with another `{column}` is stored again"
    )
}

/// The column of this name, if an id fits into it and we are the ones who fill it.
fn carrier(table: &Table, name: &str) -> Option<String> {
    let column = table.column(name).filter(|column| column.may_insert && !column.is_generated)?;
    let fits = match column.form {
        Form::Uuid => true,
        Form::Text(limit) => limit.is_none_or(|limit| limit >= UUID_LEN),
        _ => false,
    };
    fits.then(|| column.name.clone())
}

/// The unique index over this column alone, or over it and others, of which an event always says the same.
fn index(table: &Table, name: &str) -> Option<Vec<String>> {
    let holds = |index: &&Vec<String>| index.iter().any(|column| column == name);
    table.unique.iter().filter(holds).min_by_key(|index| index.len()).cloned()
}
