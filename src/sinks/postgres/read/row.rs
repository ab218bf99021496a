//! Builds an event from a table row: one JSON object with event field names.

use std::collections::HashMap;

use tokio_postgres::Row as Found;

use super::columns::{Columns, Kind, Value};
use crate::event::escape::push_string;
use crate::query::request::{Keyset, Row, SortKey};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// E-mail and name of users by their ids.
pub type Names = HashMap<String, (Option<String>, Option<String>)>;

/// What a SELECT has to list for [`event`], with what orders rows of the same time.
pub fn selected(columns: &Columns, tie: &str) -> String {
    let nothing = || "NULL::text".to_owned();
    let id = columns.key.as_ref().map_or_else(nothing, Value::text);
    let event_id = columns.event_id.as_ref().map_or_else(nothing, Value::text);
    let fixed = [id, event_id, columns.time.micros(), format!("({tie})::text")];
    let members = columns.members.iter().map(|(_, value)| value.written());
    let metadata = columns.metadata.iter().map(Value::written);
    let extras = columns.extras.iter().map(|(_, value)| value.written());
    fixed.into_iter().chain(members).chain(metadata).chain(extras).collect::<Vec<_>>().join(", ")
}

/// How many columns [`selected`] lists.
pub fn width(columns: &Columns) -> usize {
    4 + columns.members.len() + usize::from(columns.metadata.is_some()) + columns.extras.len()
}

/// The user that a row is about.
pub fn user(columns: &Columns, found: &Found) -> Option<String> {
    let at = columns.members.iter().position(|(name, _)| name == "user_id")?;
    found.get(4 + at)
}

/// The event in a row; `None` where it may not be seen, or has no time.
pub fn event(
    columns: &Columns,
    found: &Found,
    sort: SortKey,
    names: &Names,
    show: impl Fn(&Visibility, &[u8]) -> Option<Vec<u8>>,
    visibility: &Visibility,
) -> Option<Row> {
    let text = |at: usize| found.get::<_, Option<&str>>(at);
    let time = Timestamp(text(2)?.parse().ok()?);
    let id = text(0).or(text(1)).or(text(3)).unwrap_or_default().to_owned();
    let mut line = Line(vec![b'{']);
    let mut received_at = None;
    if let Some(key) = &columns.key {
        line.member("id", key.kind, text(0));
    }
    if columns.event_id.is_some() {
        line.member(super::super::key::ADDED, Kind::Text, text(1));
    }
    for (nth, (name, value)) in columns.members.iter().enumerate() {
        let written = text(4 + nth);
        if name == "received_at"
            && let Some(micros) = written.and_then(|micros| micros.parse().ok())
        {
            received_at = Some(Timestamp(micros));
        }
        line.member(name, value.kind, written);
    }
    if let Some((email, name)) = user(columns, found).and_then(|user| names.get(&user)) {
        for (member, value) in [("user_email", email), ("user_display_name", name)] {
            if columns.member(member).is_none() {
                line.member(member, Kind::Text, value.as_deref());
            }
        }
    }
    line.metadata(columns, found);
    line.0.push(b'}');
    let line = show(visibility, &line.0)?;
    let tie = text(3).unwrap_or_default().to_owned();
    let keyset = Keyset { key: sort, time: time.0, seq: 0, row: Some(tie) };
    Some(Row { seq: 0, time, received_at, id, line, keyset })
}

/// An event while it is put together.
struct Line(Vec<u8>);

impl Line {
    fn name(&mut self, name: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        push_string(&mut self.0, name);
        self.0.push(b':');
    }

    /// A member, unless it is NULL or cannot stand in JSON.
    fn member(&mut self, name: &str, kind: Kind, value: Option<&str>) {
        let Some(value) = value else { return };
        match kind {
            Kind::Number if !is_json_number(value) => {}
            Kind::Number | Kind::Bool | Kind::Json => {
                self.name(name);
                self.0.extend_from_slice(value.as_bytes());
            }
            Kind::Time => {
                let Ok(micros) = value.parse() else { return };
                self.name(name);
                push_string(&mut self.0, &Timestamp(micros).to_string());
            }
            Kind::Text | Kind::Uuid | Kind::Inet => {
                self.name(name);
                push_string(&mut self.0, value);
            }
        }
    }

    /// The object for all the rest, with the columns that have no other name in it.
    fn metadata(&mut self, columns: &Columns, found: &Found) {
        let first = 4 + columns.members.len();
        let own = columns.metadata.as_ref().and_then(|_| found.get::<_, Option<&str>>(first)).map(str::trim);
        let extras = first + usize::from(columns.metadata.is_some());
        if let Some(own) = own.filter(|own| !own.starts_with('{')) {
            // Somebody else's notion of metadata: shown as it is.
            return self.member("metadata", Kind::Json, Some(own));
        }
        let has_extras = (0..columns.extras.len()).any(|nth| found.get::<_, Option<&str>>(extras + nth).is_some());
        if own.is_none() && !has_extras {
            return;
        }
        self.name("metadata");
        let mut inner =
            Line(own.map_or_else(|| b"{".to_vec(), |own| own.as_bytes()[..own.len() - 1].trim_ascii_end().to_vec()));
        let known = crate::event::Raw::valid(own.unwrap_or("{}").as_bytes());
        for (nth, (name, value)) in columns.extras.iter().enumerate() {
            if known.get(name).is_none() {
                inner.member(name, value.kind, found.get(extras + nth));
            }
        }
        self.0.append(&mut inner.0);
        self.0.push(b'}');
    }
}

fn is_json_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok()
}
